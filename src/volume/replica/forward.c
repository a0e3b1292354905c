/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes of this node's clients, from arrival to answer: to the owner's line of tickets when this node is the owner, else to
 * the owner over the link.
 *
 * Each has a number of its own, so it may be sent as often as needed: after a new session, after silence, and to the owner of
 * a new epoch, which knows what it inherited: then it is GOOD when committed; what was not inherited is ordered now (4 in
 * DESIGN 5). What was once sent has an open end until an owner answers; what was never sent is given back to the client when it
 * gets old, and so is what the owner refuses as too old.
 *
 * The age of a command is told in the owner's clock, which this node knows from the owner's messages: if the newest came before
 * the command did, the command is not older than that clock. If later, the time since on this node's own clock is taken off,
 * generously. So the owner takes a command for older than it is, never for younger.
 */
#include "volume/replica/internal.h"

struct op *forward_find(struct replica *r, uint64_t number)
{
    struct op *op = &r->ops[number % REPLICA_REQUESTS];
    return op->state != OP_FREE && op->change.request.number == number ? op : NULL;
}

static void answer(struct replica *r, uint64_t id, enum replica_outcome outcome)
{
    effect_put(r, &(struct replica_effect){.kind = REPLICA_DO_ANSWER, .id = id, .outcome = outcome});
}

void forward_end(struct replica *r, uint64_t number, enum replica_outcome outcome)
{
    struct op *op = forward_find(r, number);
    if (op == NULL) return;
    op->state = OP_FREE;
    answer(r, op->id, outcome);
}

void forward_on_change(struct replica *r, const struct replica_event *event)
{
    struct op *op = &r->ops[(r->request + 1) % REPLICA_REQUESTS];
    if (op->state != OP_FREE) {
        answer(r, event->id, REPLICA_BUSY);
        return;
    }
    uint64_t arrived = event->arrived != 0 ? min64(event->arrived, r->now) : r->now;
    *op =
        (struct op){.state = OP_NEW, .id = event->id, .session = event->session, .arrived = arrived, .change = *event->change};
    op->change.request = (struct replica_request){.node = r->setup.node, .boot = r->boot, .number = ++r->request};
    forward_route(r);
}

/* Its number is free again: the owner that asks for it is told that nobody is there (rule 12). */
void forward_on_lost(struct replica *r, uint64_t session)
{
    for (uint32_t i = 0; i < REPLICA_REQUESTS; i++)
        if (r->ops[i].session == session) r->ops[i].state = OP_FREE;
}

/* Not after the moment at which the command came, by the owner's clock. */
static uint64_t clock_at(const struct peer *owner, uint64_t arrived)
{
    if (arrived >= owner->heard) return owner->clock;
    uint64_t since = owner->heard - arrived;
    since += since / 50 + 1;
    return owner->clock > since ? owner->clock - since : 0;
}

static void send(struct replica *r, struct op *op)
{
    const struct peer *owner = &r->peers[r->config.owner];
    /* It does not know yet that it is the owner, or its clock is not known here: soon. */
    if (owner->session == 0 || owner->heard == 0 || owner->epoch != r->config.epoch) return;
    struct replica_message m = {.kind = REPLICA_FORWARD};
    m.u.forward.change = op->change;
    m.u.forward.clock = clock_at(owner, op->arrived);
    op->state = OP_SENT;
    op->epoch = r->config.epoch;
    op->sent_at = r->now;
    effect_send(r, r->config.owner, &m);
}

static void route(struct replica *r, struct op *op)
{
    if (op->state == OP_NEW && op->arrived + r->setup.timing.stale_us < r->now) {
        op->state = OP_FREE;
        answer(r, op->id, REPLICA_BUSY);
        return;
    }
    if (r->role == REPLICA_UNKNOWN || (op->state == OP_SENT && op->epoch == r->config.epoch)) return;
    if (r->config.owner != r->setup.node) {
        send(r, op);
    } else if (r->role == REPLICA_OWNER) {
        op->state = OP_SENT;
        op->epoch = r->config.epoch;
        admit(r, &op->change, op->arrived);
    }
}

void forward_route(struct replica *r)
{
    for (uint32_t i = 0; i < REPLICA_REQUESTS; i++)
        if (r->ops[i].state != OP_FREE) route(r, &r->ops[i]);
}

void forward_tick(struct replica *r)
{
    forward_route(r);
    for (uint32_t i = 0; i < REPLICA_REQUESTS; i++) {
        struct op *op = &r->ops[i];
        if (op->state != OP_SENT || op->epoch != r->config.epoch || is_me(r, r->config.owner)) continue;
        if (r->now - op->sent_at >= 2 * r->setup.timing.heartbeat_us) send(r, op);
    }
}

/* At the owner. */
void forward_on_forward(struct replica *r, const struct replica_message *m)
{
    const struct replica_forward *f = &m->u.forward;
    if (r->role != REPLICA_OWNER || m->epoch != r->config.epoch) return;
    if (f->change.request.node != m->from || f->change.request.boot != m->boot) return;
    admit(r, &f->change, min64(f->clock, r->now));
}

void forward_on_confirm(struct replica *r, const struct replica_message *m)
{
    const struct replica_request *request = &m->u.forward.change.request;
    struct replica_message answer = {.kind = REPLICA_CONFIRMED};
    answer.u.forward.ticket = m->u.forward.ticket;
    answer.u.forward.alive = request->boot == r->boot && forward_find(r, request->number) != NULL;
    effect_send(r, m->from, &answer);
}

void forward_on_done(struct replica *r, const struct replica_message *m)
{
    const struct replica_request *request = &m->u.forward.change.request;
    if (request->node != r->setup.node || request->boot != r->boot) return;
    /* No from an owner that is none any more says nothing about what the next one inherited. */
    bool current = m->epoch == r->config.epoch && m->from == r->config.owner;
    if (m->u.forward.outcome == REPLICA_GOOD || current) forward_end(r, request->number, m->u.forward.outcome);
}
