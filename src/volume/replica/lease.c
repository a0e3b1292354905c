/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leases and promises.
 *
 * A node may read its own map as long as nobody can have committed anything without it. Every heartbeat carries the sender's
 * clock. Who answers one *promises* to commit nothing without the sender for promise_us from now; who gets the answer holds a
 * *lease* for lease_us from when it sent the heartbeat. The lease began earlier and is shorter, so it ends first however long
 * messages take, as long as clocks run at nearly the same rate (rule 14). Clocks are never compared with each other.
 *
 * A promise is given to those who count for the one who gives it. A lease counts only if the giver knows of no newer version,
 * proposed or decided, than the one who holds it: so before somebody joins, leases of those who do not know that run out, and
 * a newcomer, who assumes that it promised everybody everything, needs to wait for its own promises only.
 */
#include "volume/replica/internal.h"

/* A clock may be wrong by 1 %: a promise must outlive the lease also when the one runs fast and the other slow. */
static uint64_t lease_length(const struct replica *r)
{
    const struct replica_timing *t = &r->setup.timing;
    return MUTATED(MUTATE_LEASE_TOO_LONG) ? t->promise_us + t->promise_us / 4 : t->lease_us;
}

static void promise(struct replica *r, uint32_t node)
{
    struct peer *p = &r->peers[node];
    p->promise_until = max64(p->promise_until, r->now + r->setup.timing.promise_us);
}

/* Rule 8: what was promised before a restart is not known, so everything was. */
void lease_assume_promises(struct replica *r)
{
    if (MUTATED(MUTATE_PROMISE_FORGOTTEN)) return;
    for (uint32_t node = 0; node < REPLICA_NODES_MAX; node++)
        if (!is_me(r, node)) promise(r, node);
}

static void fill(const struct replica *r, struct replica_message *m)
{
    m->join = r->join;
    m->u.beat.clock = r->now;
    m->u.beat.config = r->config;
    m->u.beat.version = r->config.version + (r->proposed ? 1 : 0);
}

void lease_beat(struct replica *r, uint32_t to)
{
    struct replica_message m = {.kind = REPLICA_HEARTBEAT};
    fill(r, &m);
    effect_send(r, to, &m);
}

/* To every replica of the volume. Who has just started knows of none, and is found by the others. */
void lease_beat_all(struct replica *r)
{
    uint8_t all = r->config.in_sync | r->config.learners | r->pending | node_bit(r->config.owner);
    for (uint32_t node = 0; node < REPLICA_NODES_MAX; node++)
        if (set_has(all, node) && !is_me(r, node)) lease_beat(r, node);
    r->beat_at = r->now + r->setup.timing.heartbeat_us;
}

static void note_clock(struct replica *r, const struct replica_message *m)
{
    struct peer *p = &r->peers[m->from];
    if (m->boot < p->boot || (m->boot == p->boot && m->u.beat.clock <= p->clock)) return;
    r->route_due = r->route_due || p->heard == 0;
    p->boot = m->boot;
    p->clock = m->u.beat.clock;
    p->heard = r->now;
}

/* Somebody who is in sync by the register and knows it, and is not what it was when it came in sync: its disk was exchanged, or
 * it gave up what it had. It does not fall silent by that. */
static void note_join(struct replica *r, const struct replica_message *m)
{
    bool knows = m->u.beat.config.version == r->config.version && set_has(r->config.in_sync, m->from);
    if (!knows || m->join == r->config.join[m->from] || MUTATED(MUTATE_JOIN_UNTOLD)) return;
    r->peers[m->from].disowned = true;
}

void lease_on_heartbeat(struct replica *r, const struct replica_message *m)
{
    note_clock(r, m);
    member_adopt(r, &m->u.beat.config, false);
    note_join(r, m);
    if (r->role == REPLICA_UNKNOWN) return;
    struct replica_message ack = {.kind = REPLICA_HEARTBEAT_ACK};
    fill(r, &ack);
    ack.u.beat.echo = m->u.beat.clock;
    ack.u.beat.boot_of = m->boot;
    ack.u.beat.granted = set_has(r->config.in_sync | r->pending, m->from);
    if (ack.u.beat.granted) promise(r, m->from);
    effect_send(r, m->from, &ack);
}

void lease_on_heartbeat_ack(struct replica *r, const struct replica_message *m)
{
    struct peer *p = &r->peers[m->from];
    note_clock(r, m);
    member_adopt(r, &m->u.beat.config, false);
    note_join(r, m);
    if (m->u.beat.boot_of != r->boot || m->u.beat.echo > r->now) return; /* asked in another life */
    p->round = max64(p->round, m->u.beat.echo);
    if (m->from == r->config.owner && m->epoch == r->config.epoch && m->commit != 0) {
        r->vouch_at = min64(r->vouch_at, m->commit);
        follow_vouch(r);
    }
    if (!m->u.beat.granted || r->role == REPLICA_UNKNOWN) return;
    /* Either this or rule 16 alone would do against a promise that is given while its giver proposes to leave us out. */
    if (m->u.beat.version > r->config.version && !MUTATED(MUTATE_PROMISE_RACE)) return;
    p->lease_until = max64(p->lease_until, m->u.beat.echo + lease_length(r));
}

/* Rule 1. */
bool lease_is_held(const struct replica *r)
{
    if (MUTATED(MUTATE_READ_WITHOUT_LEASE)) return true;
    uint8_t needed = member_leased(r);
    for (uint32_t node = 0; node < REPLICA_NODES_MAX; node++)
        if (set_has(needed, node) && !is_me(r, node) && r->peers[node].lease_until <= r->now) return false;
    return true;
}

/* Rules 7 and 16: looked up when something is about to be committed, so no promise is missed that was given meanwhile. */
uint64_t lease_quiet_at(const struct replica *r)
{
    uint64_t at = 0;
    uint8_t counted = member_counted(r);
    if (MUTATED(MUTATE_PROMISE_RACE)) return r->mutant_quiet;
    for (uint32_t node = 0; node < REPLICA_NODES_MAX; node++)
        if (!set_has(counted, node) && !is_me(r, node)) at = max64(at, r->peers[node].promise_until);
    return at;
}

/* Nothing that was sent to it came back for too long: one deaf direction of a link is as bad as two. */
bool lease_suspects(const struct replica *r, uint32_t node)
{
    return r->now - max64(r->peers[node].round, r->trust_from) > r->setup.timing.suspect_us;
}
