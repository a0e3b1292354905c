/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Catching up, at the learner.
 *
 *     LEAVE   the tail is discarded and the join given up, durably (rules 9, 17)
 *     WANT    the next step: a stretch of the walk over what changed since `base`, the newest record that this node *published*
 *             (rule 10), and committed records since the last step
 *     APPLY   all of it at once, durable with how far it got; then WANT again, after a restart and from another owner, too
 *     CHECK   one of the last steps says up to which record the content is to be digested; steps go on meanwhile. If the
 *             owner's digest of the same record is another one, everything is walked again
 *     END     the volume stands at the newest record that was applied, under a new join
 *     FOLLOW  records as to a member; counted when the owner has brought this node in
 *
 * While it lasts the map is a mixture that no history ever had: it is not served, not promoted, and the committed point stays
 * what it was. Steps fit exactly one state of the learner, so late and doubled ones do nothing (rule 17).
 */
#include "volume/replica/internal.h"

static void want(struct replica *r)
{
    struct replica_message m = {.kind = REPLICA_WANT, .join = r->learn_join};
    m.u.step.learn = r->learn;
    m.u.step.check = r->check.on;
    m.u.step.digested = r->check.theirs_known;
    m.u.step.mark = r->check.mark;
    r->learning = LEARN_WANTING;
    r->learn_asked = r->now;
    effect_send_owner(r, &m);
}

static void leave(struct replica *r)
{
    if (MUTATED(MUTATE_BASE_LOGGED) && !r->learn.on) r->mutant_base = r->end;
    r->learn_again = false;
    r->learning = LEARN_LEAVING;
    tail_leave(r);
}

/* Out of sync, or out of sync with another owner. What the host is doing for the last attempt is waited for, but for a digest:
 * nobody listens to that any more. */
void learn_start(struct replica *r)
{
    r->force_until = 0;
    r->learn_again = r->learn_busy;
    if (!r->learn_busy) leave(r);
}

/* An attempt has a name of its own: what was said in another one does not fit. */
static void attempt_begin(struct replica *r)
{
    r->learn_join = (uint64_t)r->boot << 32 | ++r->join_count;
    r->check = (struct check){0};
}

static void learn_from(struct replica *r, uint64_t base)
{
    r->learn.epoch = 0;
    r->learn.base = base;
    r->learn.low = REPLICA_NO_GAP;
    r->learn.cursor = r->learn.applied = 0;
}

/* What this node published, or learned, may be what a force-promote undid. What it learned after that is not. */
static bool is_undone(const struct replica *r)
{
    const struct replica_config *c = &r->config;
    if (r->learn.on) return c->forced_epoch > (MUTATED(MUTATE_FORCED_AGAIN) ? r->committed_epoch : r->learn.epoch);
    return c->forced_epoch > r->committed_epoch && r->committed > c->forced_sequence;
}

void learn_settled(struct replica *r)
{
    if (r->learning != LEARN_LEAVING) return;
    r->learning = LEARN_IDLE;
    if (r->role != REPLICA_LEARNER) return;
    if (!r->learn.on) learn_from(r, MUTATED(MUTATE_BASE_LOGGED) ? max64(r->mutant_base, r->committed) : r->committed);
    if (is_undone(r)) learn_from(r, 0);
    attempt_begin(r);
    want(r);
}

/* ---- steps ---- */

static bool fits(const struct replica *r, const struct replica_message *m)
{
    if (r->role != REPLICA_LEARNER || r->learning != LEARN_WANTING) return false;
    if (m->epoch != r->config.epoch || m->from != r->config.owner || m->join != r->learn_join) return false;
    return m->u.step.cursor == r->learn.cursor && m->u.step.applied == r->learn.applied;
}

static void learn_end(struct replica *r)
{
    r->learning = LEARN_ENDING;
    r->learn_busy = true;
    effect_put(r, &(struct replica_effect){
                      .kind = REPLICA_DO_LEARNED, .mark = r->learned_mark, .id = r->learn_join, .windows = r->learned_windows});
}

/* Between two steps: all that was to be compared was, or the next step is wanted. */
static void go_on(struct replica *r)
{
    const struct check *c = &r->check;
    if (!c->mine_lost && (!c->mine_known || !c->theirs_known)) {
        want(r);
    } else if (!c->mine_lost && (memcmp(c->mine, c->theirs, sizeof c->mine) == 0 || MUTATED(MUTATE_NO_CONTENT_CHECK))) {
        learn_end(r);
    } else {
        r->counts.mismatches += !c->mine_lost;
        learn_from(r, 0);
        attempt_begin(r);
        want(r);
    }
}

static void check_begin(struct replica *r)
{
    r->check = (struct check){.on = true, .id = ++r->host_number, .mark = r->step.mark};
    r->learned_mark = r->step.mark;
    memcpy(r->learned_windows, r->step.windows, sizeof r->learned_windows);
    effect_put(r, &(struct replica_effect){
                      .kind = REPLICA_DO_DIGEST, .node = r->setup.node, .id = r->check.id, .sequence = r->check.mark.sequence});
}

/* The step is here, durably. */
static void step_done(struct replica *r)
{
    const struct replica_step *s = &r->step;
    r->learn = s->learn;
    if (s->gap && !MUTATED(MUTATE_CHECK_OVER_GAP)) r->check = (struct check){0}; /* what was compared is not what it is now */
    for (uint32_t i = 0; r->check.on && i < s->count; i++) {
        window_note(r->learned_windows, &s->records[i].change.request);
        r->learned_mark = s->records[i].mark;
    }
    if (s->digested && r->check.on && s->mark.sequence == r->check.mark.sequence) {
        r->check.theirs_known = true;
        memcpy(r->check.theirs, s->digest, sizeof r->check.theirs);
    }
    if (s->check) check_begin(r);
    go_on(r);
}

void learn_on_step(struct replica *r, const struct replica_message *m)
{
    if (!fits(r, m)) return;
    r->step = m->u.step;
    r->counts.gaps += r->step.gap;
    if (learn_same(&r->step.learn, &r->learn)) {
        step_done(r);
        return;
    }
    r->learning = LEARN_APPLYING;
    r->learn_busy = true;
    effect_put(r, &(struct replica_effect){.kind = REPLICA_DO_APPLY, .step = &r->step});
}

/* The host is done with something. False: it was for an attempt that is over. */
static bool goes_on(struct replica *r)
{
    assert(r->learn_busy);
    r->learn_busy = false;
    if (r->learn_again) leave(r);
    return r->learning == LEARN_APPLYING || r->learning == LEARN_ENDING;
}

void learn_on_applied(struct replica *r, bool failed)
{
    if (!failed) r->learn = r->step.learn;
    if (!goes_on(r)) return;
    if (!failed) {
        step_done(r);
        return;
    }
    r->counts.failed++; /* the same step is asked for again, after a while */
    r->learning = LEARN_WANTING;
    r->learn_asked = r->now;
}

void learn_on_digest(struct replica *r, const struct replica_event *event)
{
    if (r->role != REPLICA_LEARNER || !r->check.on || r->check.id != event->id) return;
    if (event->failed) { /* something of its own cannot be read: it all comes from the owner */
        r->counts.failed++;
        memset(r->check.mine, 0, sizeof r->check.mine);
        r->check.mine_known = r->check.mine_lost = true;
        if (r->learning == LEARN_WANTING) go_on(r);
        return;
    }
    r->check.mine_known = true;
    memcpy(r->check.mine, event->digest, sizeof r->check.mine);
    if (r->learning == LEARN_WANTING && r->check.theirs_known) go_on(r);
}

static void follow(struct replica *r)
{
    struct replica_message m = {.kind = REPLICA_FOLLOW, .join = r->join};
    m.u.step.mark = (struct replica_mark){.sequence = r->committed, .epoch = r->committed_epoch};
    r->learn_asked = r->now;
    effect_send_owner(r, &m);
    follow_report(r, 0);
}

void learn_on_learned(struct replica *r)
{
    r->committed = r->end = r->durable = r->matched = r->commit_seen = r->learned_mark.sequence;
    r->committed_epoch = r->learned_mark.epoch;
    r->first = r->end + 1;
    memcpy(r->windows, r->learned_windows, sizeof r->windows);
    r->learn.on = false;
    r->join = r->learn_join;
    r->joined = r->vouched = true;
    if (!goes_on(r)) return;
    r->learning = LEARN_FOLLOWING;
    follow(r);
}

bool learn_is_whole(const struct replica *r)
{
    return r->role == REPLICA_LEARNER && !r->learn.on && !is_undone(r);
}

/* The last resort: what this node has published is the volume from now on, under a new join; member.c proposes it. Not from a
 * mixture that no history ever had. */
void learn_on_force(struct replica *r)
{
    if (!learn_is_whole(r) || !member_hears_nobody(r)) return;
    r->force_until = r->now + r->setup.timing.promise_us;
    if (r->learning != LEARN_WANTING) return;
    r->learned_mark = (struct replica_mark){.sequence = r->committed, .epoch = r->committed_epoch};
    memcpy(r->learned_windows, r->windows, sizeof r->learned_windows);
    learn_end(r);
}

void learn_on_again(struct replica *r, const struct replica_message *m)
{
    bool mine = m->epoch == r->config.epoch && m->from == r->config.owner && m->join == r->join;
    if (r->role == REPLICA_LEARNER && r->learning == LEARN_FOLLOWING && mine) learn_start(r);
}

void learn_tick(struct replica *r)
{
    if (r->role != REPLICA_LEARNER || r->now - r->learn_asked < 4 * r->setup.timing.heartbeat_us) return;
    if (r->learning == LEARN_WANTING) want(r);
    if (r->learning == LEARN_FOLLOWING) follow(r);
}
