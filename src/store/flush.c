/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the delta into the tree: which leaves, and when.
 *
 * A leaf is flushed when the delta needs room or when its oldest record is a replay window old, so that its page carries many
 * writes and recovery has little to replay.
 */
#include "store/internal.h"

enum { PREFETCH = 16 };

/* A leaf is merged only if the checkpoint that makes it count will find room, and the cleaner after it. Slots promised to the
 * head do not count: it may take them at any time. */
bool flush_has_room(const struct store *s)
{
    return s->slots_free > checkpoint_slots(s) + 2;
}

/* Segments in the replay window are no one's to clean: when space is tight, it is kept short. So is the list of incarnations,
 * which has a limit. */
bool window_is_long(const struct store *s)
{
    return (space_is_tight(s) && s->log.seg_count > 2) || s->log.chain_count > CHAIN_MAX / 4;
}

/* How many head segments recovery may have to replay: an eighth of the pool. Leaves are flushed when they are that old, and
 * a checkpoint lets the window follow them when it is a quarter longer. */
static uint64_t window_span(const struct store *s)
{
    return min64(4096, max64(s->slots_total / 8, 4));
}

bool window_lags(const struct store *s)
{
    uint64_t span = window_span(s);
    return s->log.seg_count > span + max64(span / 4, 2);
}

bool flush_due(const struct store *s, uint32_t percent)
{
    const struct delta *d = &s->delta;
    if (d->leaves_used == 0 || !flush_has_room(s)) return false;
    if (d->wanted || window_is_long(s)) return true;
    if ((uint64_t)d->entries_used * 100 > (uint64_t)d->entry_room * percent) return true;
    if ((uint64_t)d->leaves_used * 100 > (uint64_t)d->leaf_room * percent) return true;
    const struct delta_leaf *oldest = CONTAINER(d->by_age.next, struct delta_leaf, by_age);
    return log_segments_since(s, oldest->segment) > window_span(s) * percent / 60 + 1;
}

struct prefetch {
    struct waiter waiter[PREFETCH];
};

/* Starts loading the pages of the leaves that come next, so that they are there when their turn comes. */
static void prefetch(struct store *s, struct prefetch *pf)
{
    struct list *l = s->delta.by_age.next;
    for (uint32_t i = 0; i < PREFETCH && l != &s->delta.by_age; i++, l = l->next) {
        const struct delta_leaf *dl = CONTAINER(l, struct delta_leaf, by_age);
        if (pf->waiter[i].waiting || dl->volume->deleted) continue;
        pf->waiter[i].wake = waiter_ignore;
        struct frame *f;
        enum err err;
        map_get(s, dl->volume, 0, dl->index, &pf->waiter[i], &f, &err);
    }
}

/* Flushing makes inner pages dirty, and only upkeep cleans them: it must not run out of frames. */
static enum err inner_pages_settle(struct store *s)
{
    return s->map.dirty > s->map.count / 3 ? map_write_dirty(s) : OK;
}

enum err flush_some(struct store *s, uint32_t leaves, uint32_t percent)
{
    struct prefetch pf = {0};
    enum err err = OK;
    for (uint32_t i = 0; err == OK && i < leaves && flush_due(s, percent); i++) {
        if (i % (PREFETCH / 2) == 0) prefetch(s, &pf);
        err = inner_pages_settle(s);
        if (err == OK) err = map_flush_leaf(s, CONTAINER(s->delta.by_age.next, struct delta_leaf, by_age));
        s->delta.wanted = false; /* who waits tries again, and says so if it was not enough */
        log_kick(s);
    }
    waiters_end(pf.waiter, PREFETCH);
    return err;
}

/* While everything is flushed nobody else sees to the head: it must not run out of slots. */
static enum err head_supply(struct store *s)
{
    if (!s->upkeep_started || s->log.promised_count >= min32(4, (uint32_t)checkpoint_promises(s))) return OK;
    enum err err = checkpoint_write(s);
    return err == ERR_NO_SPACE ? OK : err;
}

/* Everything that is in the delta now; leaves that are made while this runs may stay. They can turn up anywhere in the list,
 * also before the old ones: what is published late brings an old segment. */
enum err flush_all(struct store *s)
{
    struct delta *d = &s->delta;
    uint64_t round = ++d->round;
    enum err err = OK;
    struct prefetch pf = {0};
    for (uint32_t n = 0; err == OK; n++) {
        struct list *l = d->by_age.next;
        while (l != &d->by_age && CONTAINER(l, struct delta_leaf, by_age)->round >= round) l = l->next;
        if (l == &d->by_age) break;
        if (n % (PREFETCH / 2) == 0) prefetch(s, &pf);
        err = flush_has_room(s) ? map_flush_leaf(s, CONTAINER(l, struct delta_leaf, by_age)) : ERR_NO_SPACE;
        if (err == OK) err = inner_pages_settle(s);
        if (err == OK) err = head_supply(s);
        d->wanted = false;
        log_kick(s);
    }
    waiters_end(pf.waiter, PREFETCH);
    return err;
}
