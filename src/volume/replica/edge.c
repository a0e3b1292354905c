/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the core takes from others. A replica that is faulty may say anything; whatever breaks a bound that this node counts on
 * is dropped here, so that nothing behind has to ask again. That does not make a lie true or harmless: who is believed to order
 * may order nonsense. But no message ends this node.
 */
#include "volume/replica/internal.h"

/* Far beyond what a volume comes to; sums of a few of them do not overflow. */
#define SEQUENCE_MAX (1ull << 60)
#define BLOCKS_MAX (1ull << 52)
#define CLOCK_MAX (1ull << 62)

static bool is_request(const struct replica_request *q)
{
    return q->node < REPLICA_NODES_MAX && q->number < SEQUENCE_MAX;
}

static bool is_change(const struct replica_change *c)
{
    bool kind = c->kind == REPLICA_NOOP || c->kind == REPLICA_WRITE || c->kind == REPLICA_FREE;
    return kind && c->lba < BLOCKS_MAX && is_request(&c->request);
}

static bool is_mark(const struct replica_mark *mark)
{
    return mark->sequence < SEQUENCE_MAX;
}

static bool is_record(const struct replica_record *record, uint32_t epoch)
{
    const struct replica_mark *mark = &record->mark;
    if (mark->sequence == 0 || !is_mark(mark) || !is_change(&record->change)) return false;
    return mark->epoch <= epoch && record->previous_epoch <= mark->epoch;
}

/* 0: none, from somebody who knows none. */
static bool is_config(const struct replica_config *c)
{
    if (c->version == 0) return true;
    if (c->version >= SEQUENCE_MAX || c->epoch == 0 || c->epoch == UINT32_MAX || c->owner >= REPLICA_NODES_MAX) return false;
    if (!set_has(c->in_sync, c->owner) || (c->in_sync & c->learners) != 0) return false;
    for (uint32_t node = 0; node < REPLICA_NODES_MAX; node++)
        if (set_has(c->in_sync, node) && c->join[node] == 0) return false;
    return c->forced_epoch <= c->epoch;
}

static bool is_learn(const struct replica_learn *l)
{
    bool cursor = l->cursor < BLOCKS_MAX || l->cursor == REPLICA_WALK_END;
    bool low = l->low < SEQUENCE_MAX || l->low == REPLICA_NO_GAP;
    return cursor && low && l->base < SEQUENCE_MAX && l->applied < SEQUENCE_MAX;
}

/* Its records are those up to where it leads, without a hole. */
static bool is_step(const struct replica_step *s, uint32_t epoch)
{
    if (!s->learn.on || s->count > REPLICA_STEP_RECORDS || s->learn.applied < s->count) return false;
    for (uint32_t i = 0; i < s->count; i++)
        if (!is_record(&s->records[i], epoch) || s->records[i].mark.sequence != s->learn.applied - s->count + 1 + i)
            return false;
    bool jumps = s->gap || s->applied == 0;
    return jumps || s->learn.applied == s->applied + s->count;
}

bool edge_takes(const struct replica_message *m)
{
    if (m->from >= REPLICA_NODES_MAX || m->boot == 0) return false;
    if (MUTATED(MUTATE_NO_EDGE)) return true;
    switch (m->kind) {
    case REPLICA_HEARTBEAT:
    case REPLICA_HEARTBEAT_ACK:
        return is_config(&m->u.beat.config) && m->u.beat.clock < CLOCK_MAX && m->u.beat.echo < CLOCK_MAX;
    case REPLICA_RECORD: return is_record(&m->u.record, m->epoch);
    case REPLICA_PREPARED:
        return m->u.prepared.sequence < SEQUENCE_MAX && m->u.prepared.credit_at < SEQUENCE_MAX &&
               m->u.prepared.credit < BLOCKS_MAX;
    case REPLICA_FORWARD: return is_change(&m->u.forward.change);
    case REPLICA_CONFIRM:
    case REPLICA_DONE: return is_request(&m->u.forward.change.request);
    case REPLICA_WANT: return m->join != 0 && is_learn(&m->u.step.learn) && is_mark(&m->u.step.mark);
    case REPLICA_STEP:
        return m->join != 0 && is_learn(&m->u.step.learn) && is_mark(&m->u.step.mark) && is_step(&m->u.step, m->epoch);
    case REPLICA_FOLLOW: return m->join != 0 && is_mark(&m->u.step.mark);
    case REPLICA_AGAIN: return m->join != 0;
    case REPLICA_COMMIT:
    case REPLICA_CONFIRMED:
    case REPLICA_ASK:
    case REPLICA_AGREED: return true;
    case REPLICA_BORROW:
    case REPLICA_LENT: return false; /* the host's own */
    }
    return false;
}
