/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gives the space of free slots back to what is below: a hole in a file, a discard to a drive.
 *
 * A slot that was used and is FREE again is stale: the device keeps bytes that nobody will ever ask for. Stale slots are
 * discarded behind everything else, a few neighbours with one call, one call at a time, and after each a pause four times
 * as long as it took, so that the device belongs to the foreground four fifths of the time. Slots that will be written
 * again soon are left alone: to discard them would only make the file below allocate again.
 *
 * The one rule: a slot is never in use and under a discard at once. Its state is looked at when the discard is submitted,
 * and is TRIMMING until it completed, which hides the slot from slot_alloc. FREE already means that no durable
 * checkpoint names the slot and no read of it is under way.
 */
#include "store/internal.h"

enum { RUN_SLOTS = 16, PAUSE_TIMES = 4 };
#define PAUSE_MIN_NS IO_MS_NS

static void trim_step(struct store *s);

/* Free slots that the head, the cleaner and the pages may want soon. */
static uint64_t slots_kept(const struct store *s)
{
    return slots_private(s) + 4 + s->slots_total * 6 / 100;
}

static bool trimmable(const struct store *s, uint32_t slot)
{
    const struct slot *sl = slot_peek(s, slot);
    if (!sl || !sl->stale) return false;
    return sl->state == SLOT_IS_FREE || (MUTATED(MUTATE_TRIM_EARLY) && sl->state == SLOT_IS_PENDING);
}

/* The next stale slot from the hand on, once around. False: there is none. */
static bool find_stale(struct store *s, uint32_t *ret_slot)
{
    uint32_t end = s->page_count * DIRECTORY_SLOTS, slot = s->trim.hand;
    for (uint32_t looked = 0; looked < end; looked++, slot++) {
        if (slot >= end) slot = 0;
        if (!s->slot_pages[slot / DIRECTORY_SLOTS]) { /* nothing of this page was ever used */
            uint32_t rest = DIRECTORY_SLOTS - 1 - slot % DIRECTORY_SLOTS;
            looked += rest;
            slot += rest;
        } else if (trimmable(s, slot)) {
            *ret_slot = slot;
            return true;
        }
    }
    return false;
}

static void pause_over(struct io_timer *timer)
{
    struct store *s = CONTAINER(timer, struct store, trim.pause);
    s->trim.pausing = false;
    trim_step(s);
}

static void trim_done(struct io_op *op)
{
    struct store *s = CONTAINER(op, struct store, trim.op);
    struct trim *t = &s->trim;
    t->under_way = false;
    for (uint32_t i = 0; i < t->count; i++) {
        struct slot *sl = slot_at(s, t->first + i);
        if (sl->state != SLOT_IS_TRIMMING) continue; /* a mutation */
        sl->state = SLOT_IS_FREE;
        s->slots_free++;
    }
    if (op->err == OK)
        s->stats.trimmed_bytes += t->count * s->segment_bytes;
    else
        t->device->discards = false; /* it can do without: nothing depends on it */
    waiters_wake(s, &s->space_waiters);
    log_kick(s);
    upkeep_kick(s);
    if (s->stopping) return;
    t->pausing = true;
    t->pause.fire = pause_over;
    io_after(s->io, max64((io_now_ns(s->io) - t->began_ns) * PAUSE_TIMES, PAUSE_MIN_NS), &t->pause);
}

static void trim_run(struct store *s, struct device *d, uint32_t first, uint32_t count)
{
    struct trim *t = &s->trim;
    uint64_t at = d->data_at + (uint64_t)(first - d->first_slot) * s->segment_bytes;
    for (uint32_t i = 0; i < count; i++) {
        struct slot *sl = slot_at(s, first + i);
        assert(sl->stale && sl->runs == 0 && sl->readers == 0);
        sl->stale = false;
        if (sl->state != SLOT_IS_FREE || MUTATED(MUTATE_TRIM_IN_USE)) continue;
        sl->state = SLOT_IS_TRIMMING;
        s->slots_free--;
    }
    t->device = d;
    t->first = first;
    t->count = count;
    t->under_way = true;
    t->began_ns = io_now_ns(s->io);
    t->op.done = trim_done;
    io_discard(s->io, d->file, at, count * s->segment_bytes, &t->op);
}

static void trim_step(struct store *s)
{
    struct trim *t = &s->trim;
    if (!t->wanted || t->under_way || t->pausing || s->stopping || s->failed != OK) return;
    uint64_t kept = slots_kept(s), most = s->slots_free > kept ? min64(s->slots_free - kept, RUN_SLOTS) : 0;
    if (MUTATED(MUTATE_TRIM_EARLY) || MUTATED(MUTATE_TRIM_IN_USE)) most = RUN_SLOTS;
    uint32_t first, count = 1;
    if (most == 0) return;
    if (!find_stale(s, &first)) {
        t->wanted = false;
        return;
    }
    struct device *d;
    uint64_t ignored;
    slot_where(s, first, &d, &ignored);
    uint32_t end = d->first_slot + d->slots;
    while (count < most && first + count < end && trimmable(s, first + count)) count++;
    t->hand = first + count;
    if (d->discards) {
        trim_run(s, d, first, count);
        return;
    }
    t->hand = end; /* not this device */
    for (uint32_t slot = first; slot < end; slot++)
        if (slot_peek(s, slot)) slot_at(s, slot)->stale = false;
}

void trim_kick(struct store *s)
{
    if (s->config.discard && !s->read_only && s->upkeep_started) trim_step(s);
}
