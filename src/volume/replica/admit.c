/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tickets: changes at the owner, between arrival and order.
 *
 * Tickets stand in a line. One is ordered when no earlier ticket that touches its blocks still stands, when it is confirmed,
 * when no learner is waited for, and within everybody's credit and the window of the tail. So of two changes of the same blocks
 * the one that came first is ordered first, and a forwarded one keeps its place while its node is asked whether the client's
 * session still lives: a retry that overtook it on another path waits behind it.
 *
 * Rule 12: a command older than stale_us is refused, by the owner's own clock, at the moment when it would be ordered: its
 * client may have given it up and done other things since.
 *
 * A write is refused when there is no space for it: when somebody's credit is too little and will not become more by
 * itself. As long as the store of everybody who lacks credit may still find some, the write waits. What takes no space is never
 * held up.
 *
 * A change whose outcome depends on what its blocks were says of which record on it knows them (since). It is judged at the
 * same moment, when its place in the order is known: nothing newer may have touched them.
 *
 * A change that this epoch or the windows of requests know already is not executed again.
 */
#include "volume/replica/internal.h"

static bool same_request(const struct replica_request *a, const struct replica_request *b)
{
    return a->node == b->node && a->boot == b->boot && a->number == b->number;
}

static bool is_ours(const struct replica *r, const struct replica_request *request)
{
    return request->node == r->setup.node && request->boot == r->boot;
}

void admit_answer(struct replica *r, const struct replica_request *request, enum replica_outcome outcome)
{
    if (request->boot == 0) return;
    if (is_ours(r, request)) {
        forward_end(r, request->number, outcome);
    } else if (!is_me(r, request->node)) {
        struct replica_message m = {.kind = REPLICA_DONE};
        m.u.forward.change.request = *request;
        m.u.forward.outcome = outcome;
        effect_send(r, request->node, &m);
    }
}

static void take_out(struct replica *r, uint32_t i)
{
    r->ticket_count--;
    memmove(&r->tickets[i], &r->tickets[i + 1], (r->ticket_count - i) * sizeof r->tickets[0]);
}

static void refuse(struct replica *r, uint32_t i, enum replica_outcome outcome)
{
    struct replica_request request = r->tickets[i].change.request;
    take_out(r, i);
    admit_answer(r, &request, outcome);
}

static void ask(struct replica *r, struct ticket *t)
{
    struct replica_message m = {.kind = REPLICA_CONFIRM};
    m.u.forward.change.request = t->change.request;
    m.u.forward.ticket = t->number;
    t->asked_at = r->now;
    effect_send(r, t->change.request.node, &m);
}

/* ---- the past ---- */

static bool is_in_tail(struct replica *r, const struct replica_request *request)
{
    for (uint64_t s = r->end; s > r->committed; s--)
        if (same_request(&tail_at(r, s)->change.request, request)) return true;
    return false;
}

static bool has_ticket(const struct replica *r, const struct replica_request *request)
{
    for (uint32_t i = 0; i < r->ticket_count; i++)
        if (same_request(&r->tickets[i].change.request, request)) return true;
    return false;
}

/* True: nothing more to do with it. */
static bool is_known(struct replica *r, const struct replica_request *request)
{
    if (MUTATED(MUTATE_NO_DUPLICATES)) return has_ticket(r, request);
    enum request_past past = window_look(r, request);
    if (past == REQUEST_DONE) admit_answer(r, request, REPLICA_GOOD);
    bool known = past != REQUEST_NEW || is_in_tail(r, request) || has_ticket(r, request);
    r->counts.duplicates += known;
    return known;
}

void admit(struct replica *r, const struct replica_change *change, uint64_t arrived)
{
    assert(r->role == REPLICA_OWNER);
    if (is_known(r, &change->request)) return;
    if (r->ticket_count == REPLICA_TICKETS) {
        admit_answer(r, &change->request, REPLICA_BUSY);
        return;
    }
    bool asking = !is_me(r, change->request.node) && !MUTATED(MUTATE_NO_CONFIRM);
    r->tickets[r->ticket_count] =
        (struct ticket){.asking = asking, .number = ++r->ticket_number, .arrived = arrived, .change = *change};
    if (asking) ask(r, &r->tickets[r->ticket_count]);
    r->ticket_count++;
}

/* ---- the line ---- */

static bool stands_behind(const struct replica *r, uint32_t i)
{
    const struct replica_change *mine = &r->tickets[i].change;
    for (uint32_t j = 0; j < i; j++) {
        const struct replica_change *other = &r->tickets[j].change;
        if (ranges_meet(mine->lba, mine->count, other->lba, other->count)) return true;
    }
    return false;
}

static bool is_given_up(struct replica *r, const struct ticket *t)
{
    const struct replica_request *request = &t->change.request;
    return is_me(r, request->node) && forward_find(r, request->number) == NULL;
}

/* Nothing behind the record that it knows has touched its blocks, as far as can be told. */
static bool still_holds(struct replica *r, const struct replica_change *change)
{
    if (change->since == 0 || MUTATED(MUTATE_OVERTAKEN)) return true;
    if (change->since + 1 < r->first || change->since > r->end) return false;
    for (uint64_t s = change->since + 1; s <= r->end; s++) {
        const struct replica_change *newer = &tail_at(r, s)->change;
        if (newer->kind != REPLICA_NOOP && ranges_meet(change->lba, change->count, newer->lba, newer->count)) return false;
    }
    return true;
}

enum verdict { WAIT, ORDER, GONE };

static enum verdict judge(struct replica *r, uint32_t i)
{
    struct ticket *t = &r->tickets[i];
    if (is_given_up(r, t)) {
        take_out(r, i);
        return GONE;
    }
    if (t->arrived + r->setup.timing.stale_us < r->now && !MUTATED(MUTATE_NO_STALE_GUARD)) {
        r->counts.stale++;
        refuse(r, i, REPLICA_BUSY);
        return GONE;
    }
    if (t->asking || r->end - r->committed >= REPLICA_TAIL || stands_behind(r, i)) return WAIT;
    if (teach_holds(r)) return WAIT;
    if (!still_holds(r, &t->change)) {
        r->counts.overtaken++;
        refuse(r, i, REPLICA_OVERTAKEN);
        return GONE;
    }
    enum owner_room room = owner_room(r, change_cost(&t->change));
    if (room == OWNER_ROOM) return ORDER;
    if (room == OWNER_ROOM_LATER) return WAIT;
    if (tail_spent_after(r, r->committed) > 0) return WAIT; /* what is under way may bring new credit */
    r->counts.refused_full++;
    refuse(r, i, REPLICA_FULL);
    return GONE;
}

void admit_go(struct replica *r)
{
    for (uint32_t i = 0; r->role == REPLICA_OWNER && r->open && i < r->ticket_count;) {
        enum verdict verdict = judge(r, i);
        if (verdict == WAIT) i++;
        if (verdict != ORDER) continue;
        struct replica_change change = r->tickets[i].change;
        take_out(r, i);
        owner_order(r, &change);
    }
}

/* Its link is gone, and with it the word that it gave: what it still wants comes again. */
void admit_drop(struct replica *r, uint32_t node)
{
    for (uint32_t i = 0; i < r->ticket_count;) {
        if (r->tickets[i].change.request.node == node)
            take_out(r, i);
        else
            i++;
    }
}

void admit_on_confirmed(struct replica *r, const struct replica_message *m)
{
    for (uint32_t i = 0; i < r->ticket_count; i++) {
        struct ticket *t = &r->tickets[i];
        if (t->number != m->u.forward.ticket || !t->asking || t->change.request.node != m->from) continue;
        if (t->change.request.boot != m->boot) continue;
        t->asking = false;
        if (m->u.forward.alive) return;
        r->counts.unconfirmed++;
        take_out(r, i);
        return;
    }
}

bool replica_has_ticket(const struct replica *r, uint64_t body)
{
    for (uint32_t i = 0; i < r->ticket_count; i++)
        if (r->tickets[i].change.body == body) return true;
    return false;
}

void admit_tick(struct replica *r)
{
    for (uint32_t i = 0; i < r->ticket_count; i++) {
        struct ticket *t = &r->tickets[i];
        if (t->asking && r->now - t->asked_at >= 2 * r->setup.timing.heartbeat_us) ask(r, t);
    }
}
