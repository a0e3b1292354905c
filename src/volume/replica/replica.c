/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events in, effects out: opening, dispatch, and what is said about a replica.
 */
#include "volume/replica/internal.h"

const struct replica_timing replica_timing_default = {
    .heartbeat_us = 250000,
    .lease_us = 1500000,
    .promise_us = 2250000,
    .suspect_us = 1500000,
    .stale_us = 5000000,
    .commit_us = 1000,
};

const struct replica_timing replica_timing_fast = {
    .heartbeat_us = 50000,
    .lease_us = 400000,
    .promise_us = 600000,
    .suspect_us = 400000,
    .stale_us = 1500000,
    .commit_us = 1000,
};

void effect_put(struct replica *r, const struct replica_effect *effect)
{
    r->setup.effect(r->setup.arg, effect);
}

void effect_send(struct replica *r, uint32_t to, struct replica_message *message)
{
    assert(!is_me(r, to) && to < REPLICA_NODES_MAX);
    if (r->peers[to].session == 0) return;
    message->from = r->setup.node;
    message->boot = r->boot;
    message->epoch = r->config.epoch;
    message->commit = r->role == REPLICA_OWNER && r->open ? r->committed : 0;
    effect_put(r, &(struct replica_effect){.kind = REPLICA_DO_SEND, .node = (uint8_t)to, .message = message});
}

void effect_send_owner(struct replica *r, struct replica_message *message)
{
    if (!is_me(r, r->config.owner)) effect_send(r, r->config.owner, message);
}

size_t replica_size(void)
{
    return sizeof(struct replica);
}

void replica_open(struct replica *r, const struct replica_setup *setup, const struct replica_facts *facts, uint64_t now)
{
    const struct replica_timing *t = &setup->timing;
    assert(setup->node < REPLICA_NODES_MAX && setup->walk_blocks > 0 && facts->boot > 0);
    assert(t->lease_us + t->lease_us / 50 < t->promise_us); /* rule 14 */
    *r = (struct replica){.setup = *setup, .boot = facts->boot, .now = now, .trust_from = now, .learn = facts->learn};
    r->wished_at = r->commit_due = r->commit_wakes = r->vouch_at = NEVER;
    r->beat_at = now + t->heartbeat_us;
    r->ticket_number = r->ask_number = r->host_number = (uint64_t)r->boot << 32; /* no answer to another life fits */
    tail_open(r, facts);
    lease_assume_promises(r);
    if (MUTATED(MUTATE_TRUST_OLD_CONFIG) && facts->config.version != 0) member_adopt(r, &facts->config, true);
    r->fetched_at = now;
    effect_put(r, &(struct replica_effect){.kind = REPLICA_DO_FETCH});
}

/* ---- events ---- */

/* Rule 12: what came while this node stood still looks new to it and is not. The silence of others is its own, too. */
static void note_time(struct replica *r, uint64_t now)
{
    assert(now >= r->now);
    uint64_t still = now - r->now;
    r->now = now;
    if (still > 2 * r->setup.timing.heartbeat_us) {
        r->counts.stalls++;
        r->trust_from = now;
    }
    if (still <= r->setup.timing.stale_us || MUTATED(MUTATE_NO_STALE_GUARD)) return;
    r->counts.resets++;
    effect_put(r, &(struct replica_effect){.kind = REPLICA_DO_RESET});
}

static void on_tick(struct replica *r)
{
    if (r->now >= r->beat_at) {
        r->beat_at = r->now + r->setup.timing.heartbeat_us;
        if (r->role != REPLICA_UNKNOWN) lease_beat_all(r);
        member_tick(r);
        learn_tick(r);
        follow_tick(r);
        admit_tick(r);
        forward_tick(r);
    }
    owner_tick(r);
}

static void on_link(struct replica *r, uint32_t node, uint64_t session)
{
    struct peer *p = &r->peers[node];
    p->session = session;
    if (!MUTATED(MUTATE_FENCED_EVER)) p->fenced = false;
    p->boot = 0;
    p->clock = p->heard = 0;
    admit_drop(r, node);
    if (session == 0 || r->role == REPLICA_UNKNOWN) return;
    lease_beat(r, node);
    for (uint32_t i = 0; i < REPLICA_REQUESTS && node == r->config.owner; i++) r->ops[i].sent_at = 0;
    if (r->role != REPLICA_OWNER) return;
    p->sent = p->acked != 0 || p->phase == PHASE_FOLLOWING ? p->acked : r->committed;
    if (set_has(member_counted(r), node) || p->phase == PHASE_FOLLOWING) owner_ship(r, node);
}

/* What a former life of it said, or was granted in it, counts no more. */
static bool note_life(struct replica *r, const struct replica_message *m)
{
    struct peer *p = &r->peers[m->from];
    if (m->boot < p->life) return false;
    if (m->boot > p->life && p->life != 0) owner_on_restart(r, m->from);
    p->life = m->boot;
    return true;
}

static void on_message(struct replica *r, const struct replica_message *m)
{
    if (!edge_takes(m) || is_me(r, m->from) || !note_life(r, m)) return;
    r->route_due = r->route_due || r->peers[m->from].epoch != m->epoch;
    r->peers[m->from].epoch = m->epoch;
    if (!MUTATED(MUTATE_FENCED_EVER)) r->peers[m->from].fenced = false; /* it is on again */
    follow_on_commit(r, m); /* before the record that it comes with: so it is durable when that is */
    switch (m->kind) {
    case REPLICA_HEARTBEAT: lease_on_heartbeat(r, m); break;
    case REPLICA_HEARTBEAT_ACK: lease_on_heartbeat_ack(r, m); break;
    case REPLICA_RECORD: follow_on_record(r, m); break;
    case REPLICA_PREPARED: owner_on_prepared(r, m); break;
    case REPLICA_COMMIT: break;
    case REPLICA_FORWARD: forward_on_forward(r, m); break;
    case REPLICA_CONFIRM: forward_on_confirm(r, m); break;
    case REPLICA_CONFIRMED: admit_on_confirmed(r, m); break;
    case REPLICA_DONE: forward_on_done(r, m); break;
    case REPLICA_WANT: teach_on_want(r, m); break;
    case REPLICA_STEP: learn_on_step(r, m); break;
    case REPLICA_FOLLOW: teach_on_follow(r, m); break;
    case REPLICA_AGAIN: learn_on_again(r, m); break;
    case REPLICA_ASK: read_on_ask(r, m); break;
    case REPLICA_AGREED: read_on_agreed(r, m); break;
    case REPLICA_BORROW:
    case REPLICA_LENT: break;
    }
}

static void on_durable(struct replica *r, uint64_t sequence)
{
    tail_on_durable(r, sequence);
    if (r->role == REPLICA_OWNER) owner_commit(r);
    if (!follow_is_member(r) || tail_is_settling(r)) return;
    follow_report(r, 0);
    follow_publish(r);
}

static void on_credit(struct replica *r, uint64_t credit, bool full)
{
    r->space += credit;
    r->full = full;
    if (follow_is_member(r)) follow_report(r, 0);
}

/* A failed write is never acknowledged, and nothing is written after it. */
static void on_failed(struct replica *r)
{
    r->counts.failed++;
    r->failed = true;
    r->join = 0;
    if (r->role != REPLICA_UNKNOWN && r->role != REPLICA_OUTSIDE) member_resign(r);
}

static void dispatch(struct replica *r, const struct replica_event *e)
{
    switch (e->kind) {
    case REPLICA_ON_TICK: on_tick(r); break;
    case REPLICA_ON_CONFIG: member_on_config(r, e->config); break;
    case REPLICA_ON_LINK: on_link(r, e->node, e->session); break;
    case REPLICA_ON_MESSAGE: on_message(r, e->message); break;
    case REPLICA_ON_DURABLE: on_durable(r, e->sequence); break;
    case REPLICA_ON_DISCARDED: tail_on_discarded(r); break;
    case REPLICA_ON_CREDIT: on_credit(r, e->credit, e->full); break;
    case REPLICA_ON_CHANGE: forward_on_change(r, e); break;
    case REPLICA_ON_LOST: forward_on_lost(r, e->session); break;
    case REPLICA_ON_READ: read_on_read(r, e); break;
    case REPLICA_ON_WALKED: teach_on_walked(r, e); break;
    case REPLICA_ON_APPLIED: learn_on_applied(r, e->failed); break;
    case REPLICA_ON_DIGEST:
        if (is_me(r, e->node))
            learn_on_digest(r, e);
        else
            teach_on_digest(r, e);
        break;
    case REPLICA_ON_LEARNED: learn_on_learned(r); break;
    case REPLICA_ON_FORCE: learn_on_force(r); break;
    case REPLICA_ON_FAILED: on_failed(r); break;
    case REPLICA_ON_FENCED: r->peers[e->node].fenced = true; break;
    }
}

void replica_step(struct replica *r, const struct replica_event *event)
{
    note_time(r, event->now);
    dispatch(r, event);
    if (r->route_due) {
        r->route_due = false;
        forward_route(r);
    }
    admit_go(r);
    teach_go(r);
    read_go(r);
}

uint64_t replica_deadline(const struct replica *r)
{
    return min64(r->beat_at, min64(r->commit_due, r->commit_wakes));
}

/* ---- status ---- */

static const char *why_not_owner(const struct replica *r)
{
    if (tail_is_settling(r)) return "discarding what was prepared and never committed";
    if (lease_quiet_at(r) > r->now) return "waiting until the lease of a replica that left has surely run out";
    return "waiting for the replicas in sync to prepare what was inherited";
}

static const char *why(const struct replica *r)
{
    switch (r->role) {
    case REPLICA_UNKNOWN: return "the register has not been read since the start";
    case REPLICA_OUTSIDE: return "no replica of this volume is here";
    case REPLICA_LEARNER:
        if (r->failed) return "its store takes nothing more until the node is started again";
        if (is_me(r, r->config.owner)) return "the owner by the register, but its store is another one, or gave up what it had";
        return r->learning == LEARN_FOLLOWING ? "caught up, waiting to join" : "catching up";
    case REPLICA_OWNER:
        if (!r->open) return why_not_owner(r);
        return lease_is_held(r) ? "serving" : "a replica in sync does not answer";
    case REPLICA_IN_SYNC:
        if (r->config.owner == r->setup.node) return "restarted, taking the volume up in a new epoch";
        if (!r->vouched) return "waiting until another replica has confirmed that this store has all that it acknowledged";
        return lease_is_held(r) ? "serving" : "a replica in sync does not answer";
    }
    return "";
}

void replica_status(const struct replica *r, struct replica_status *ret_status)
{
    *ret_status = (struct replica_status){
        .role = r->role,
        .open = r->role == REPLICA_OWNER && r->open,
        .serving = read_is_allowed(r),
        .config = r->config,
        .committed = {.sequence = r->committed, .epoch = r->committed_epoch},
        .end = r->end,
        .durable = r->durable,
        .kept = r->first,
        .learn = r->learn,
        .whole = learn_is_whole(r),
        .why = why(r),
    };
}

const struct replica_window *replica_windows(const struct replica *r)
{
    return r->windows;
}

const struct replica_counts *replica_counts(const struct replica *r)
{
    return &r->counts;
}
