/* SPDX-License-Identifier: Apache-2.0 */
/*
 * This node's records of the volume: the prepared tail above the committed point, and for a while what was committed, for
 * learners.
 *
 * The map holds committed operations only, so nothing is ever rolled back: what never happened is discarded from the tail
 * (rule 9). A discard waits until everything that was prepared is durable, and nothing is prepared until it is: `settling`.
 * When the whole tail is given up, the join goes with it in the same durable step (rule 17).
 *
 * Publishing is what raises the committed point; the request windows are changed by it and by nothing else, so they are the
 * same on every replica at the same sequence.
 */
#include "volume/replica/internal.h"

/* Records that a replica takes before it publishes some: more than any owner sends (owner.c). */
enum { FOLLOW_MOST = REPLICA_KEPT - 1 };

struct replica_record *tail_at(struct replica *r, uint64_t sequence)
{
    assert(sequence >= r->first && sequence <= r->end);
    return &r->kept[sequence % REPLICA_KEPT];
}

uint32_t tail_epoch(struct replica *r, uint64_t sequence)
{
    return sequence == r->committed ? r->committed_epoch : tail_at(r, sequence)->mark.epoch;
}

static void take(struct replica *r, const struct replica_record *record)
{
    uint64_t before = r->end >= r->first ? r->spent[r->end % REPLICA_KEPT] : r->spent_before;
    if (r->end + 1 - r->first == REPLICA_KEPT) r->spent_before = r->spent[r->first++ % REPLICA_KEPT];
    r->end = record->mark.sequence;
    assert(r->first <= r->committed + 1);
    r->kept[r->end % REPLICA_KEPT] = *record;
    r->spent[r->end % REPLICA_KEPT] = before + change_cost(&record->change);
}

uint64_t tail_spent_after(const struct replica *r, uint64_t sequence)
{
    assert(sequence + 1 >= r->first && sequence <= r->end);
    uint64_t all = r->end >= r->first ? r->spent[r->end % REPLICA_KEPT] : r->spent_before;
    return all - (sequence >= r->first ? r->spent[sequence % REPLICA_KEPT] : r->spent_before);
}

void tail_open(struct replica *r, const struct replica_facts *facts)
{
    r->join = facts->join;
    r->committed = r->end = facts->committed.sequence;
    r->committed_epoch = facts->committed.epoch;
    r->first = r->end + 1;
    r->space = facts->credit;
    r->full = facts->full;
    memcpy(r->windows, facts->windows, sizeof r->windows);
    for (uint32_t i = 0; i < facts->tail; i++) {
        assert(facts->records[i].mark.sequence == r->end + 1);
        take(r, &facts->records[i]);
    }
    r->durable = r->end;
}

bool tail_fits(const struct replica *r, const struct replica_record *record)
{
    if (r->end + 1 - r->committed > FOLLOW_MOST) return false;
    return change_cost(&record->change) <= r->space || MUTATED(MUTATE_NO_CREDIT);
}

void tail_append(struct replica *r, const struct replica_record *record)
{
    assert(!tail_is_settling(r) && record->mark.sequence == r->end + 1);
    uint64_t cost = change_cost(&record->change);
    assert(cost <= r->space || MUTATED(MUTATE_NO_CREDIT));
    r->space -= min64(cost, r->space);
    take(r, record);
    effect_put(r, &(struct replica_effect){.kind = REPLICA_DO_PREPARE, .record = tail_at(r, r->end)});
}

/* ---- windows ---- */

void window_note(struct replica_window *windows, const struct replica_request *request)
{
    struct replica_window *w = &windows[request->node];
    if (request->boot == 0 || request->boot < w->boot) return;
    if (request->boot > w->boot) *w = (struct replica_window){.boot = request->boot};
    if (request->number > w->high) {
        uint64_t by = request->number - w->high;
        w->done = by < REPLICA_REQUESTS ? w->done << by : 0;
        w->high = request->number;
    }
    if (w->high - request->number < REPLICA_REQUESTS) w->done |= 1ull << (w->high - request->number);
}

enum request_past window_look(const struct replica *r, const struct replica_request *request)
{
    const struct replica_window *w = &r->windows[request->node];
    if (request->boot > w->boot || (request->boot == w->boot && request->number > w->high)) return REQUEST_NEW;
    if (request->boot < w->boot || w->high - request->number >= REPLICA_REQUESTS) return REQUEST_OLD;
    return (w->done >> (w->high - request->number) & 1) != 0 ? REQUEST_DONE : REQUEST_NEW;
}

void tail_publish(struct replica *r, uint64_t upto)
{
    assert(upto <= r->end && (upto <= r->durable || MUTATED(MUTATE_ACK_VOLATILE)));
    if (upto <= r->committed) return;
    for (uint64_t s = r->committed + 1; s <= upto; s++) window_note(r->windows, &tail_at(r, s)->change.request);
    r->committed_epoch = tail_at(r, upto)->mark.epoch;
    r->committed = upto;
    effect_put(r, &(struct replica_effect){.kind = REPLICA_DO_PUBLISH, .sequence = upto});
}

uint64_t tail_newest_on(struct replica *r, uint64_t lba, uint64_t count)
{
    for (uint64_t s = r->end; s > r->committed; s--) {
        const struct replica_change *c = &tail_at(r, s)->change;
        if (ranges_meet(c->lba, c->count, lba, count)) return s;
    }
    return 0;
}

/* ---- discarding ---- */

bool tail_is_settling(const struct replica *r)
{
    return r->discard_from != 0 || r->give_up;
}

/* The owner of this epoch has something else from `from` on. */
void tail_discard(struct replica *r, uint64_t from)
{
    assert(from > r->committed && !tail_is_settling(r));
    r->discard_from = from;
    r->counts.conflicts++;
    tail_settle(r);
}

/* Out of sync: the tail and the join are given up. From now on nothing that counts on the join is true any more. */
void tail_leave(struct replica *r)
{
    r->give_up = true;
    r->give_up_join = r->give_up_join || r->join != 0;
    r->join = 0;
    tail_settle(r);
}

void tail_settle(struct replica *r)
{
    if (r->discarding || r->durable < r->end || r->failed) return;
    if (r->give_up) {
        r->give_up = false;
        if (MUTATED(MUTATE_TAIL_KEPT)) tail_publish(r, r->end);
        bool nothing = r->end == r->committed && !r->give_up_join;
        r->give_up_join = false;
        if (nothing) {
            r->discard_from = 0;
            learn_settled(r);
            return;
        }
        r->discard_from = r->committed + 1;
    } else if (r->discard_from == 0) {
        return;
    }
    r->discarding = true;
    effect_put(r, &(struct replica_effect){.kind = REPLICA_DO_DISCARD, .sequence = r->discard_from, .id = r->join});
}

void tail_on_discarded(struct replica *r)
{
    assert(r->discarding);
    r->end = r->discard_from - 1;
    r->durable = min64(r->durable, r->end);
    r->matched = min64(r->matched, r->end);
    r->discarding = false;
    r->discard_from = 0;
    read_forget(r);
    if (r->give_up) {
        tail_settle(r);
    } else if (r->role == REPLICA_OWNER) {
        owner_open(r);
    } else if (follow_is_member(r)) {
        follow_report(r, r->end + 1);
    } else {
        learn_settled(r);
    }
}

void tail_on_durable(struct replica *r, uint64_t sequence)
{
    assert(sequence <= r->end && sequence >= r->durable);
    r->durable = sequence;
    tail_settle(r);
}
