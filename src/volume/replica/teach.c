/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Catching up, at the owner: answers what learners ask for, one step each at a time.
 *
 *     LEARNING   nothing under way
 *     LOCKED     the next stretch is locked: nothing is ordered in it; records in it are still under way
 *     WALKING    the host reads what changed in it since the learner's base
 *     CHECKING   the walk is over: the host digests what is published now
 *     FOLLOWING  the learner stands at a committed point, and gets records like a member
 *
 * A step carries all committed records since the learner's last and then the stretch, which is as of the newest of them because
 * nothing was ordered in it: applied in this order it is right whatever came before. Records that are no longer kept are a gap:
 * what was walked before is as of the record before it, and is walked again, from there, in a second pass. No pass is ever
 * begun from nothing unless the learner is new.
 *
 * The host sets the pace: it reads when foreground work leaves room. Foreground never waits for a learner, except for the
 * blocks of one stretch while they are read.
 */
#include "volume/replica/internal.h"

bool teach_locks(const struct replica *r, uint64_t lba, uint64_t count)
{
    for (uint32_t node = 0; node < REPLICA_NODES_MAX; node++) {
        const struct peer *p = &r->peers[node];
        if (p->phase != PHASE_LOCKED && p->phase != PHASE_WALKING) continue;
        if (MUTATED(MUTATE_WALK_UNLOCKED)) continue;
        if (ranges_meet(lba, count, p->want.learn.cursor, r->setup.walk_blocks)) return true;
    }
    return false;
}

static bool is_listening(const struct replica *r, const struct replica_message *m)
{
    return r->role == REPLICA_OWNER && r->open && m->epoch == r->config.epoch;
}

/* Where the learner's records go on; true: with a gap before it. */
static bool resume(const struct replica *r, const struct replica_learn *learn, uint64_t *ret_from)
{
    bool kept = learn->applied != 0 && learn->applied + 1 >= r->first && learn->applied <= r->committed;
    *ret_from = kept ? learn->applied : r->committed;
    return !kept;
}

/* A step as of now: records, and where the learner stands when it has them. */
static void step_fill(struct replica *r, const struct peer *p, uint64_t upto, struct replica_step *s)
{
    const struct replica_learn *was = &p->want.learn;
    uint64_t from;
    bool gap = resume(r, was, &from);
    s->cursor = was->cursor;
    s->applied = was->applied;
    s->learn = *was;
    s->learn.on = true;
    s->gap = gap && was->applied != 0;
    if (s->gap) s->learn.low = min64(was->low, was->applied);
    s->learn.applied = from;
    while (s->count < REPLICA_STEP_RECORDS && s->learn.applied < upto) s->records[s->count++] = *tail_at(r, ++s->learn.applied);
}

static void step_send(struct replica *r, uint32_t to, struct replica_message *m)
{
    m->kind = REPLICA_STEP;
    m->join = r->peers[to].join;
    r->peers[to].phase = PHASE_LEARNING;
    effect_send(r, to, m);
}

/* True: so many records are waiting that a step of them alone goes first. */
static bool is_behind(const struct replica *r, const struct peer *p)
{
    uint64_t from;
    bool gap = resume(r, &p->want.learn, &from);
    return !gap && r->committed - from > REPLICA_STEP_RECORDS;
}

static void check_begin(struct replica *r, uint32_t node)
{
    struct peer *p = &r->peers[node];
    p->phase = PHASE_CHECKING;
    p->check_mark = (struct replica_mark){.sequence = r->committed, .epoch = r->committed_epoch};
    memcpy(p->check_windows, r->windows, sizeof p->check_windows);
    p->host_id = ++r->host_number;
    effect_put(r, &(struct replica_effect){.kind = REPLICA_DO_DIGEST, .node = (uint8_t)node, .id = p->host_id});
}

static void serve(struct replica *r, uint32_t node)
{
    struct peer *p = &r->peers[node];
    struct replica_message m = {.kind = REPLICA_STEP};
    uint64_t from;
    bool gap = resume(r, &p->want.learn, &from) && p->want.learn.applied != 0;
    bool over = p->want.learn.cursor == REPLICA_WALK_END;
    if (!over && !is_behind(r, p)) {
        p->phase = PHASE_LOCKED;
        teach_go(r);
    } else if (over && !gap && p->want.learn.low == REPLICA_NO_GAP && !is_behind(r, p)) {
        check_begin(r, node);
    } else {
        step_fill(r, p, r->committed, &m.u.step);
        if (over && m.u.step.learn.low != REPLICA_NO_GAP) { /* the second pass */
            m.u.step.learn.base = m.u.step.learn.low;
            m.u.step.learn.low = REPLICA_NO_GAP;
            m.u.step.learn.cursor = 0;
        }
        step_send(r, node, &m);
    }
}

void teach_on_want(struct replica *r, const struct replica_message *m)
{
    struct peer *p = &r->peers[m->from];
    if (r->role != REPLICA_OWNER || m->epoch != r->config.epoch) return;
    p->disowned = set_has(r->config.in_sync, m->from); /* rule 17: brought in under a join that it had given up */
    if (!r->open) return;
    if (!set_has(r->config.learners, m->from) || set_has(r->pending, m->from)) return;
    bool same = p->join == m->join && memcmp(&p->want.learn, &m->u.step.learn, sizeof p->want.learn) == 0;
    p->join = m->join;
    p->want = m->u.step;
    if (p->phase == PHASE_WALKING || p->phase == PHASE_CHECKING) {
        p->superseded = p->superseded || !same; /* what the host is at is for another state of the learner */
        return;
    }
    serve(r, m->from);
}

void teach_go(struct replica *r)
{
    for (uint32_t node = 0; node < REPLICA_NODES_MAX; node++) {
        struct peer *p = &r->peers[node];
        if (p->phase != PHASE_LOCKED) continue;
        bool busy = tail_newest_on(r, p->want.learn.cursor, r->setup.walk_blocks) != 0;
        if (busy && !MUTATED(MUTATE_WALK_UNLOCKED)) continue;
        p->phase = PHASE_WALKING;
        p->host_id = ++r->host_number;
        effect_put(r, &(struct replica_effect){.kind = REPLICA_DO_WALK,
                                               .node = (uint8_t)node,
                                               .id = p->host_id,
                                               .sequence = p->want.learn.cursor,
                                               .count = r->setup.walk_blocks,
                                               .since = p->want.learn.base});
    }
}

/* What the host did is still wanted. If not, but something else is, that is begun. */
static bool is_wanted(struct replica *r, const struct replica_event *event, enum phase phase)
{
    struct peer *p = &r->peers[event->node];
    if (r->role != REPLICA_OWNER || p->phase != phase || p->host_id != event->id) return false;
    if (!p->superseded) return true;
    p->superseded = false;
    serve(r, event->node);
    return false;
}

void teach_on_walked(struct replica *r, const struct replica_event *event)
{
    struct peer *p = &r->peers[event->node];
    struct replica_message m = {.kind = REPLICA_STEP};
    if (!is_wanted(r, event, PHASE_WALKING)) return;
    step_fill(r, p, r->committed, &m.u.step);
    if (m.u.step.learn.applied == r->committed) { /* else there are too many records: they go first */
        m.u.step.stretch = r->setup.walk_blocks;
        m.u.step.body = event->body;
        m.u.step.learn.cursor = event->sequence != 0 ? p->want.learn.cursor + event->sequence : REPLICA_WALK_END;
    }
    step_send(r, event->node, &m);
}

void teach_on_digest(struct replica *r, const struct replica_event *event)
{
    struct peer *p = &r->peers[event->node];
    struct replica_message m = {.kind = REPLICA_STEP};
    if (!is_wanted(r, event, PHASE_CHECKING)) return;
    step_fill(r, p, p->check_mark.sequence, &m.u.step);
    if (!m.u.step.gap && m.u.step.learn.applied == p->check_mark.sequence) {
        m.u.step.check = true;
        m.u.step.mark = p->check_mark;
        memcpy(m.u.step.digest, event->digest, sizeof m.u.step.digest);
        memcpy(m.u.step.windows, p->check_windows, sizeof m.u.step.windows);
    }
    step_send(r, event->node, &m);
}

/* The records that it needs are no longer kept. */
void teach_again(struct replica *r, uint32_t to)
{
    struct replica_message m = {.kind = REPLICA_AGAIN, .join = r->peers[to].join};
    r->peers[to].phase = PHASE_NONE;
    effect_send(r, to, &m);
}

void teach_on_follow(struct replica *r, const struct replica_message *m)
{
    struct peer *p = &r->peers[m->from];
    uint64_t sequence = m->u.step.mark.sequence;
    if (!is_listening(r, m) || !set_has(r->config.learners, m->from) || set_has(r->pending, m->from)) return;
    if (p->phase == PHASE_FOLLOWING && p->join == m->join) return;
    p->join = m->join;
    p->phase = PHASE_FOLLOWING;
    p->acked = p->sent = sequence;
    p->credit = p->credit_at = 0;
    bool kept = sequence + 1 >= r->first && sequence <= r->end && sequence != 0;
    bool ours = kept && (sequence == r->committed || sequence >= r->first) && tail_epoch(r, sequence) == m->u.step.mark.epoch;
    if (!ours)
        teach_again(r, m->from);
    else
        owner_ship(r, m->from);
}
