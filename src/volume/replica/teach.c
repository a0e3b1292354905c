/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Catching up, at the owner: answers what learners ask for, one step each at a time, as soon as there is something to say.
 *
 *     WALK    what changed since the learner's base, a stretch at a time; read ahead while the last step is under way
 *     CHECK   the walk is over: this node's content as of one record is digested, and the learner is told to do the same when
 *             it comes to that record; records go on meanwhile
 *     FOLLOW  the learner stands at a committed point, and gets records like a member
 *
 * A step is a stretch, and then the committed records since the learner's last. A record sets everything that it touches, so
 * the stretch need not be of one moment, and nothing is locked while it is read: it is enough that no record later than the
 * one that was newest when the reading began is applied before the stretch is (`walk_from`). What was read is never thrown
 * away because of what happened meanwhile, so a pass ends however much is written.
 *
 * Records that are no longer kept are a gap: what was walked before is as of the record before it, and is walked again, from
 * there, in a second pass. No pass is ever begun from nothing unless the learner is new.
 *
 * In the first pass foreground waits for nobody. A learner that is nearly there (in a second pass, being checked, or following)
 * is waited for: nothing is ordered while one more record would overrun it, or for so long as it takes to bring it in; at most
 * for a heartbeat in which it does not get on. So it joins in bounded time, however much is written.
 */
#include "volume/replica/internal.h"

enum {
    HOLD_BEHIND = REPLICA_KEPT - REPLICA_STEP_RECORDS, /* records that a learner may be behind before it is waited for */
    BETWEEN_MAX = 8,                                   /* steps of records alone while a stretch is ready */
    JOIN_BEATS = 4,                                    /* so long foreground waits at most for one that follows to join */
    REST_BEATS = 4,                                    /* after the host could not read something */
    JOIN_AGAIN_BEATS = 32,                             /* and not again before then */
};

/* ---- waiting for learners ---- */

static bool is_over(const struct peer *p)
{
    return p->learn.cursor == REPLICA_WALK_END && p->learn.low == REPLICA_NO_GAP;
}

static bool is_waited_for(const struct replica *r, const struct peer *p)
{
    bool follows = p->phase == PHASE_FOLLOWING;
    if (r->now - p->got_on >= r->setup.timing.heartbeat_us) return false;
    if (follows && r->now < p->join_until) return true;
    if (!follows && !p->pressing && !is_over(p)) return false;
    uint64_t behind = r->end - min64(follows ? p->acked : p->wanted.applied, r->end);
    return behind >= HOLD_BEHIND && behind <= REPLICA_KEPT;
}

bool teach_holds(const struct replica *r)
{
    for (uint32_t node = 0; node < REPLICA_NODES_MAX && !MUTATED(MUTATE_NO_HOLD); node++)
        if (r->peers[node].phase != PHASE_NONE && is_waited_for(r, &r->peers[node])) return true;
    return false;
}

/* Everything that was committed is there, and what is under way fits. */
bool teach_may_join(const struct replica *r, uint32_t node)
{
    const struct peer *p = &r->peers[node];
    if (!r->open || p->phase != PHASE_FOLLOWING || lease_suspects(r, node)) return false;
    return p->acked >= r->committed && owner_may_send(r, p, r->end);
}

/* A replica that follows is near: it joins at once, or what is under way is finished first, without anything new. */
void teach_bring_in(struct replica *r, uint32_t node)
{
    struct peer *p = &r->peers[node];
    if (p->phase != PHASE_FOLLOWING || !r->open) return;
    if (teach_may_join(r, node)) {
        p->join_until = r->now;
        member_consider(r);
    } else if (r->now >= p->join_next && !lease_suspects(r, node)) {
        p->join_until = r->now + JOIN_BEATS * r->setup.timing.heartbeat_us;
        p->join_next = r->now + JOIN_AGAIN_BEATS * r->setup.timing.heartbeat_us;
    }
}

/* ---- what the host does ---- */

/* Records after those that were committed when the reading began come after what was read. */
static bool walk_fits(const struct peer *p)
{
    if (p->learn.applied == 0 || p->walk_cursor != p->learn.cursor || p->walk_base != p->learn.base) return false;
    return p->learn.applied <= p->walk_from || MUTATED(MUTATE_WALK_LATE);
}

static void walk_begin(struct replica *r, uint32_t node)
{
    struct peer *p = &r->peers[node];
    if (p->learn.cursor == REPLICA_WALK_END || p->learn.applied == 0 || p->walk == WORK_BUSY || r->now < p->walk_rest) return;
    if (p->walk == WORK_DONE && walk_fits(p)) return;
    p->walk = WORK_BUSY;
    p->walk_id = ++r->host_number;
    p->walk_cursor = p->learn.cursor;
    p->walk_base = p->learn.base;
    p->walk_from = r->committed;
    effect_put(r, &(struct replica_effect){.kind = REPLICA_DO_WALK,
                                           .node = (uint8_t)node,
                                           .id = p->walk_id,
                                           .sequence = p->walk_cursor,
                                           .count = r->setup.walk_blocks,
                                           .since = p->walk_base});
}

static bool is_kept(const struct replica *r, const struct peer *p)
{
    return p->learn.applied != 0 && p->learn.applied + 1 >= r->first && p->learn.applied <= r->committed;
}

static void check_begin(struct replica *r, uint32_t node)
{
    struct peer *p = &r->peers[node];
    if (!is_over(p) || !is_kept(r, p) || p->check != WORK_NONE || r->now < p->walk_rest) return;
    p->check = WORK_BUSY;
    p->check_mark = (struct replica_mark){.sequence = r->committed, .epoch = r->committed_epoch};
    memcpy(p->check_windows, r->windows, sizeof p->check_windows);
    p->check_id = ++r->host_number;
    effect_put(r, &(struct replica_effect){
                      .kind = REPLICA_DO_DIGEST, .node = (uint8_t)node, .id = p->check_id, .sequence = r->committed});
}

/* Something is damaged here: the host mends it from another replica, or it is written anew. */
static void work_failed(struct replica *r, struct peer *p)
{
    r->counts.failed++;
    p->walk_rest = r->now + REST_BEATS * r->setup.timing.heartbeat_us;
}

void teach_on_walked(struct replica *r, const struct replica_event *event)
{
    struct peer *p = &r->peers[event->node];
    if (r->role != REPLICA_OWNER || p->walk != WORK_BUSY || p->walk_id != event->id) return;
    if (event->failed) {
        work_failed(r, p);
        p->walk = WORK_NONE;
        return;
    }
    p->walk = WORK_DONE;
    p->walk_body = event->body;
    p->walk_blocks = event->sequence;
}

void teach_on_digest(struct replica *r, const struct replica_event *event)
{
    struct peer *p = &r->peers[event->node];
    if (r->role != REPLICA_OWNER || p->check != WORK_BUSY || p->check_id != event->id) return;
    if (event->failed) {
        work_failed(r, p);
        p->check = WORK_NONE;
        return;
    }
    p->check = WORK_DONE;
    memcpy(p->check_digest, event->digest, sizeof p->check_digest);
}

/* ---- steps ---- */

static void step_stretch(struct peer *p, struct replica_step *s)
{
    s->stretch = p->walk_blocks != 0 ? p->walk_blocks : REPLICA_WALK_END - p->walk_cursor;
    s->body = p->walk_body;
    s->learn.cursor = p->walk_cursor + s->stretch;
    p->walk = WORK_NONE;
    p->between = 0;
}

/* Records that are kept, up to that one, as many as go into a step. */
static void step_records(struct replica *r, uint64_t upto, struct replica_step *s)
{
    uint64_t blocks = 0;
    while (s->count < REPLICA_STEP_RECORDS && s->learn.applied < upto) {
        const struct replica_record *record = tail_at(r, s->learn.applied + 1);
        blocks += change_cost(&record->change);
        if (s->count != 0 && blocks > REPLICA_STEP_BLOCKS) return;
        s->records[s->count++] = *record;
        s->learn.applied++;
    }
}

/* What it asks for is no longer kept, or it is new: its records go on from the newest. */
static void step_jump(struct replica *r, struct peer *p, struct replica_step *s)
{
    s->gap = p->learn.applied != 0;
    if (s->gap && !MUTATED(MUTATE_GAP_FORGOTTEN)) s->learn.low = min64(p->learn.low, p->learn.applied);
    s->learn.applied = r->committed;
    if (!MUTATED(MUTATE_CHECK_OVER_GAP)) {
        p->check = WORK_NONE;
        p->checked = 0;
    }
    if (s->gap && p->walk == WORK_DONE && walk_fits(p)) step_stretch(p, s);
}

/* True: so many records wait that some steps of them alone come before the stretch that was read. */
static bool goes_first(const struct replica *r, const struct peer *p)
{
    uint64_t owed = min64(r->committed, p->walk_from) - p->learn.applied;
    return r->committed - p->learn.applied > REPLICA_KEPT / 2 && owed >= REPLICA_STEP_RECORDS && p->between < BETWEEN_MAX;
}

static void step_walk(struct replica *r, struct peer *p, struct replica_step *s)
{
    bool fits = p->walk != WORK_NONE && walk_fits(p);
    if (!fits) return;
    if (p->walk == WORK_DONE && !goes_first(r, p)) {
        step_stretch(p, s);
        step_records(r, r->committed, s);
    } else if (p->walk_from - min64(p->learn.applied, p->walk_from) >= REPLICA_STEP_RECORDS || MUTATED(MUTATE_WALK_LATE)) {
        p->between++;
        step_records(r, MUTATED(MUTATE_WALK_LATE) ? r->committed : p->walk_from, s);
    }
}

static void step_check(struct replica *r, struct peer *p, struct replica_step *s)
{
    uint64_t at = p->check_mark.sequence;
    step_records(r, p->learn.applied < at ? at : r->committed, s);
    s->check = p->check != WORK_NONE && s->learn.applied == at && p->checked != at;
    s->digested = p->check == WORK_DONE && p->checked == at && s->learn.applied >= at && !p->told;
    if (!s->check && !s->digested) return;
    s->mark = p->check_mark;
    if (s->check) memcpy(s->windows, p->check_windows, sizeof s->windows);
    if (s->digested) memcpy(s->digest, p->check_digest, sizeof s->digest);
}

/* False: there is nothing to say yet. */
static bool step_make(struct replica *r, struct peer *p, struct replica_step *s)
{
    s->cursor = p->learn.cursor;
    s->applied = p->learn.applied;
    s->learn = p->learn;
    s->learn.on = true;
    s->learn.epoch = r->config.epoch;
    if (!is_kept(r, p))
        step_jump(r, p, s);
    else if (is_over(p))
        step_check(r, p, s);
    else if (p->learn.cursor != REPLICA_WALK_END)
        step_walk(r, p, s);
    if (s->learn.cursor == REPLICA_WALK_END && s->learn.low != REPLICA_NO_GAP) { /* another pass */
        s->learn.base = s->learn.low;
        s->learn.low = REPLICA_NO_GAP;
        s->learn.cursor = 0;
        p->pressing = true;
        r->counts.passes++;
    }
    return !learn_same(&s->learn, &p->learn) || s->check || s->digested;
}

/* It is now where this step brings it, unless it says something else. */
static void step_send(struct replica *r, uint32_t to)
{
    struct peer *p = &r->peers[to];
    struct replica_message m = {.kind = REPLICA_STEP, .join = p->join};
    if (!step_make(r, p, &m.u.step)) return;
    p->asked = false;
    p->learn = m.u.step.learn;
    if (m.u.step.check) p->checked = p->check_mark.sequence;
    p->told = p->told || m.u.step.digested;
    effect_send(r, to, &m);
}

void teach_go(struct replica *r)
{
    if (r->role != REPLICA_OWNER || !r->open) return;
    for (uint32_t node = 0; node < REPLICA_NODES_MAX; node++) {
        struct peer *p = &r->peers[node];
        if (p->phase != PHASE_LEARNING) continue;
        check_begin(r, node);
        if (p->asked) step_send(r, node);
        walk_begin(r, node);
    }
}

/* ---- what learners say ---- */

static bool is_listening(const struct replica *r, const struct replica_message *m)
{
    if (r->role != REPLICA_OWNER || !r->open || m->epoch != r->config.epoch) return false;
    return set_has(r->config.learners, m->from) && !set_has(r->pending, m->from);
}

/* Another attempt of it, with nothing known. */
static void attempt_begin(struct replica *r, struct peer *p, uint64_t join)
{
    p->join = join;
    p->acked = p->acked_before = 0; /* that was under another join */
    p->pressing = p->told = false;
    p->check = WORK_NONE;
    p->checked = 0;
    p->learn = p->wanted = (struct replica_learn){0};
    p->got_on = r->now;
    p->walk_rest = 0;
}

/* Said in an attempt that was over when a later one began, or when this one brought it in; or before it was as far as now. */
static bool is_late(const struct replica *r, const struct replica_message *m)
{
    const struct peer *p = &r->peers[m->from];
    if (MUTATED(MUTATE_LATE_WORDS)) return false;
    if (m->join < p->join || (set_has(r->config.in_sync, m->from) && m->join <= r->config.join[m->from])) return true;
    if (m->kind != REPLICA_WANT || m->join != p->join) return false;
    return p->phase == PHASE_FOLLOWING || m->u.step.learn.applied < p->wanted.applied;
}

void teach_on_want(struct replica *r, const struct replica_message *m)
{
    struct peer *p = &r->peers[m->from];
    const struct replica_step *w = &m->u.step;
    if (r->role != REPLICA_OWNER || m->epoch != r->config.epoch) return;
    if (is_late(r, m)) return;
    if (set_has(r->config.in_sync, m->from)) p->disowned = true; /* rule 17: brought in under a join that it had given up */
    if (!is_listening(r, m)) return;
    if (p->join != m->join || p->phase != PHASE_LEARNING) attempt_begin(r, p, m->join);
    if (w->learn.applied > p->wanted.applied || w->learn.cursor != p->wanted.cursor) p->got_on = r->now;
    p->phase = PHASE_LEARNING;
    p->learn = p->wanted = w->learn;
    p->checked = w->check ? w->mark.sequence : 0;
    p->told = w->digested;
    /* It is past where it should have begun to digest, and did not. */
    if (p->check_mark.sequence < p->learn.applied && p->checked != p->check_mark.sequence) p->check = WORK_NONE;
    p->asked = true;
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
    if (!is_listening(r, m) || is_late(r, m)) return;
    if (p->phase == PHASE_FOLLOWING && p->join == m->join) return;
    if (p->join != m->join) attempt_begin(r, p, m->join);
    p->phase = PHASE_FOLLOWING;
    p->credit = p->credit_at = 0;
    p->full = false;
    p->got_on = r->now;
    p->join_until = p->join_next = r->now;
    bool kept = sequence + 1 >= r->first && sequence <= r->end && sequence != 0;
    bool ours = kept && (sequence == r->committed || sequence >= r->first) && tail_epoch(r, sequence) == m->u.step.mark.epoch;
    p->acked = p->sent = ours ? sequence : 0;
    if (!ours)
        teach_again(r, m->from);
    else
        owner_ship(r, m->from);
}
