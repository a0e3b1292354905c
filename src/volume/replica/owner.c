/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The owner: orders, ships, commits.
 *
 *     BEGIN    a reign: what the tail holds is inherited. It keeps its epochs
 *     OPEN     a no-op in the new epoch behind it (rule 6); until that is committed nothing is ordered and nothing served. What
 *              was inherited is committed first when it ends with a no-op: so reigns that come to nothing leave one, however
 *              many they are
 *     ORDER    the next sequence; prepared here, and shipped to all who count and all who follow, at once
 *     COMMIT   durable on all who count, and no promise left to anybody else (rules 3, 7, 11, 16): publish, answer
 *     TELL     the commit number rides on every message, and on one of its own when none comes within a millisecond
 *
 * What was not acknowledged for two heartbeats is sent again from there; so is what a replica asks for. A replica in sync has
 * everything that was ever committed, so the tail is all that it can need. One that needs more has lost something: it is
 * disowned, and leaves the in-sync set.
 */
#include "volume/replica/internal.h"

#define NO_CREDIT UINT64_MAX /* less than none */

static bool is_shipped_to(const struct replica *r, uint32_t node)
{
    return !is_me(r, node) && (set_has(member_counted(r), node) || r->peers[node].phase == PHASE_FOLLOWING);
}

static void ship_all(struct replica *r)
{
    for (uint32_t node = 0; node < REPLICA_NODES_MAX; node++)
        if (is_shipped_to(r, node)) owner_ship(r, node);
}

void owner_open(struct replica *r)
{
    if (r->role != REPLICA_OWNER || r->opening != 0 || tail_is_settling(r)) return;
    bool idle = r->end > r->committed && tail_at(r, r->end)->change.kind == REPLICA_NOOP;
    r->flushing = idle && !MUTATED(MUTATE_NOOP_PILE);
    r->opening = r->flushing ? r->end : r->end + 1;
    if (r->flushing)
        ship_all(r);
    else
        owner_order(r, &(struct replica_change){.kind = REPLICA_NOOP});
}

void owner_begin(struct replica *r)
{
    r->counts.reigns++;
    r->open = r->flushing = false;
    r->opening = 0;
    owner_open(r);
}

static uint64_t join_of(const struct replica *r, uint32_t node)
{
    return set_has(r->config.in_sync, node) ? r->config.join[node] : r->peers[node].join;
}

/* A replica's credit counts from a record; what came after has used of it, up to `sequence`. */
static uint64_t credit_left(const struct replica *r, const struct peer *p, uint64_t sequence)
{
    if (p->credit_at == 0 || p->credit_at + 1 < r->first || p->credit_at > sequence) return 0;
    uint64_t used = tail_spent_after(r, p->credit_at) - tail_spent_after(r, sequence);
    return p->credit >= used ? p->credit - used : NO_CREDIT;
}

/* The newest record once more: a replica that has it knows then that all of its log is the owner's, and publishes it; one that
 * does not says from where on it needs more. Either way its credit is known again. */
static void owner_remind(struct replica *r, uint32_t node)
{
    if (r->end < r->first || r->opening == 0 || MUTATED(MUTATE_NO_REMINDER)) return;
    r->peers[node].sent = r->end - 1;
    owner_ship(r, node);
}

/* What it granted it granted in another life. */
void owner_on_restart(struct replica *r, uint32_t node)
{
    struct peer *p = &r->peers[node];
    if (MUTATED(MUTATE_CREDIT_KEPT)) return;
    p->credit = p->credit_at = 0;
    p->full = false;
    p->full_since = NEVER;
    p->phase = PHASE_NONE;
    p->acked_before = max64(p->acked_before, p->acked);
    if (!MUTATED(MUTATE_LOSS_UNNOTICED)) p->acked = 0;
    if (r->role == REPLICA_OWNER && set_has(member_counted(r), node)) owner_remind(r, node);
}

/* A replica that has less room than it had may be unable to take what was ordered before that was known. What it cannot take
 * for so long that it would have left if it were silent, it leaves for. */
static void note_full(struct replica *r, struct peer *p)
{
    if (p->credit_at == 0 || owner_may_send(r, p, r->end))
        p->full_since = NEVER;
    else if (p->full_since == NEVER)
        p->full_since = r->now;
    if (p->full_since != NEVER && r->now - p->full_since > r->setup.timing.suspect_us) p->disowned = true;
}

/* It can hold all that was ordered up to `sequence`. */
bool owner_may_send(const struct replica *r, const struct peer *p, uint64_t sequence)
{
    if (p->credit_at == 0 || p->credit_at + 1 < r->first) return false;
    return p->credit_at >= sequence || credit_left(r, p, sequence) != NO_CREDIT || MUTATED(MUTATE_NO_CREDIT);
}

/* Everything that it was not sent yet. */
void owner_ship(struct replica *r, uint32_t to)
{
    struct peer *p = &r->peers[to];
    if (r->role != REPLICA_OWNER || r->opening == 0 || p->session == 0) return;
    if (p->sent + 1 < r->first) {
        if (p->phase == PHASE_FOLLOWING)
            teach_again(r, to);
        else
            p->disowned = true;
        return;
    }
    if (p->acked == p->sent) p->moved = r->now;
    /* Nobody waited for a follower's credit, so it is not sent more than it can hold. */
    bool follows = p->phase == PHASE_FOLLOWING && !set_has(member_counted(r), to);
    uint64_t upto = follows ? min64(r->end, p->acked + REPLICA_KEPT / 2) : r->end;
    while (p->sent < upto && (!follows || owner_may_send(r, p, p->sent + 1))) {
        struct replica_message m = {.kind = REPLICA_RECORD, .join = join_of(r, to), .u.record = *tail_at(r, ++p->sent)};
        effect_send(r, to, &m);
    }
}

void owner_order(struct replica *r, const struct replica_change *change)
{
    assert(r->role == REPLICA_OWNER && !tail_is_settling(r));
    struct replica_record record = {
        .mark = {.sequence = r->end + 1, .epoch = r->config.epoch}, .previous_epoch = tail_epoch(r, r->end), .change = *change};
    record.change.since = 0; /* it was judged */
    tail_append(r, &record);
    ship_all(r);
    r->commit_due = NEVER;
}

/* ---- commit ---- */

static uint64_t prepared_by_all(const struct replica *r)
{
    uint64_t upto = MUTATED(MUTATE_ACK_VOLATILE) ? r->end : r->durable;
    uint8_t counted = member_counted(r);
    for (uint32_t node = 0; node < REPLICA_NODES_MAX; node++)
        if (set_has(counted, node) && !is_me(r, node)) upto = min64(upto, r->peers[node].acked);
    return upto;
}

static void answer_upto(struct replica *r, uint64_t from, uint64_t upto)
{
    for (uint64_t s = from; s <= upto; s++) {
        struct replica_request request = tail_at(r, s)->change.request;
        admit_answer(r, &request, REPLICA_GOOD);
    }
}

void owner_commit(struct replica *r)
{
    r->commit_wakes = NEVER; /* also when somebody came who has less: else the time that passed would be due for ever */
    if (r->role != REPLICA_OWNER || r->opening == 0) return;
    uint64_t upto = prepared_by_all(r), from = r->committed + 1;
    if (upto < r->opening || upto < from) return;
    uint64_t quiet_at = lease_quiet_at(r);
    if (quiet_at > r->now) {
        r->commit_wakes = quiet_at;
        return;
    }
    tail_publish(r, upto);
    answer_upto(r, from, upto);
    if (r->flushing) {
        r->flushing = false;
        r->opening = 0;
        owner_open(r);
        return;
    }
    r->route_due = r->route_due || !r->open;
    r->open = true;
    r->commit_due = min64(r->commit_due, r->now + r->setup.timing.commit_us);
}

void owner_send_commit(struct replica *r)
{
    r->commit_due = NEVER;
    for (uint32_t node = 0; node < REPLICA_NODES_MAX; node++) {
        struct replica_message m = {.kind = REPLICA_COMMIT, .join = join_of(r, node)};
        if (is_shipped_to(r, node)) effect_send(r, node, &m);
    }
}

/* ---- acknowledgements ---- */

static bool counts(const struct replica *r, const struct replica_message *m)
{
    if (r->role != REPLICA_OWNER) return false;
    if (m->epoch != r->config.epoch && !MUTATED(MUTATE_EPOCH_IGNORED)) return false; /* rule 2 */
    return m->join == join_of(r, m->from) || MUTATED(MUTATE_NO_JOIN_FENCE);
}

/* It has published what this node does not have, so this node lost it: everything that is published was prepared here. */
static bool has_more(struct replica *r, const struct replica_mark *published)
{
    if (r->opening == 0 || published->sequence <= r->committed || MUTATED(MUTATE_LOSS_UNNOTICED)) return false;
    return published->sequence > r->end || tail_epoch(r, published->sequence) != published->epoch;
}

void owner_on_prepared(struct replica *r, const struct replica_message *m)
{
    struct peer *p = &r->peers[m->from];
    if (!counts(r, m) || !is_shipped_to(r, m->from)) return;
    if (has_more(r, &m->u.prepared.published)) {
        r->counts.lost++;
        member_resign(r);
        return;
    }
    if (m->u.prepared.end < p->acked_before && !MUTATED(MUTATE_LOSS_UNNOTICED)) { /* what it acknowledged before it restarted */
        r->counts.lost += !p->disowned;
        p->disowned = true;
        return;
    }
    uint64_t sequence = min64(m->u.prepared.sequence, r->end);
    if (sequence > p->acked) p->moved = p->got_on = r->now;
    p->acked = max64(p->acked, sequence);
    p->sent = max64(p->sent, p->acked);
    bool newer = m->u.prepared.credit_at > p->credit_at;
    if (m->u.prepared.credit_at > r->end) return;
    if (newer || (m->u.prepared.credit_at == p->credit_at && m->u.prepared.credit >= p->credit)) {
        p->credit_at = m->u.prepared.credit_at;
        p->credit = m->u.prepared.credit;
        p->full = m->u.prepared.full;
    }
    if (m->u.prepared.want != 0 && m->u.prepared.want <= p->sent && m->u.prepared.want > p->acked) {
        p->sent = m->u.prepared.want - 1;
        r->counts.resent++;
    }
    if (p->sent < r->end && is_shipped_to(r, m->from)) owner_ship(r, m->from);
    owner_commit(r);
    teach_bring_in(r, m->from);
}

enum owner_room owner_room(const struct replica *r, uint64_t blocks)
{
    bool later = blocks > r->space && !r->full, full = blocks > r->space && r->full;
    if (blocks == 0) return OWNER_ROOM;
    uint8_t counted = member_counted(r);
    for (uint32_t node = 0; node < REPLICA_NODES_MAX; node++) {
        const struct peer *p = &r->peers[node];
        if (!set_has(counted, node) || is_me(r, node)) continue;
        if (p->credit_at == 0) return OWNER_ROOM_LATER;
        uint64_t its = credit_left(r, p, r->end);
        bool lacks = blocks > (its != NO_CREDIT ? its : 0);
        full = full || (lacks && p->full);
        later = later || (lacks && !p->full);
    }
    if (MUTATED(MUTATE_NO_CREDIT)) return OWNER_ROOM;
    if (MUTATED(MUTATE_REFUSED_EARLY) && later) return OWNER_FULL;
    return full ? OWNER_FULL : later ? OWNER_ROOM_LATER : OWNER_ROOM;
}

void owner_tick(struct replica *r)
{
    if (r->role != REPLICA_OWNER) return;
    owner_open(r);
    for (uint32_t node = 0; node < REPLICA_NODES_MAX; node++) {
        struct peer *p = &r->peers[node];
        if (set_has(member_counted(r), node) && !is_me(r, node)) note_full(r, p);
        bool silent = p->credit_at == 0 && p->phase != PHASE_FOLLOWING;
        if (!is_shipped_to(r, node) || (p->acked >= r->end && !silent)) continue;
        if (r->now - p->moved < 2 * r->setup.timing.heartbeat_us) continue;
        p->moved = r->now;
        if (p->acked >= r->end || r->committed == r->end) {
            owner_remind(r, node);
            continue;
        }
        p->sent = p->acked != 0 || p->phase == PHASE_FOLLOWING ? p->acked : r->committed;
        r->counts.resent++;
        owner_ship(r, node);
    }
    if (r->commit_due <= r->now) owner_send_commit(r);
    owner_commit(r);
}
