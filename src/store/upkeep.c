/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Upkeep: the one task that works behind the foreground. It flushes the delta, writes checkpoints, cleans, and rebuilds the
 * dedupe index after a start, whatever is due first; and it does what callers ask of it (struct want).
 *
 * Admission lives here too: how full is full. Foreground writes may fill all but the reserve; a private share beyond that
 * belongs to the cleaner's output, map pages and unmaps, so that a full pool can always give space back.
 */
#include "store/internal.h"

enum { PREFETCH = 16, FLUSH_STEP = 64 };

/* Slots that foreground data never takes. */
uint32_t slots_private(const struct store *s)
{
    return 5 + (uint32_t)(s->slots_total / 100);
}

static uint64_t units_limit(const struct store *s)
{
    uint64_t reserve = max64(s->slots_total * s->config.reserve_percent / 100, slots_private(s) + 3ull);
    return reserve < s->slots_total ? (s->slots_total - reserve) * (s->segment_bytes / UNIT) : 0;
}

/* The delta's pages, at worst: each leaf a page and, among many, a share of its inner pages. */
static uint64_t delta_slots(const struct store *s)
{
    uint64_t bytes = (uint64_t)(s->delta.leaves_used + s->map.dirty) * (sizeof(struct disk_leaf) + 256);
    return bytes / (s->segment_bytes - 16384) + 1;
}

bool space_for(struct store *s, const struct store_op *op, bool *ret_full)
{
    *ret_full = false;
    if (op->kind != RECORD_DATA || op->what != ENTRY_NEW) {
        return true;
    }
    if (s->full) {
        *ret_full = true;
        return false;
    }
    uint64_t open = s->slots_free + s->slots_promised;
    if (s->live_units <= units_limit(s) && open > slots_private(s) + min64(delta_slots(s), s->slots_total / 16)) return true;
    s->clean.wanted = true;
    upkeep_kick(s);
    return false;
}

/* ---- flushing ---- */

static bool flush_due(const struct store *s, uint32_t percent)
{
    const struct delta *d = &s->delta;
    if (d->leaves_used == 0) return false;
    uint64_t span = min64(4096, max64(s->slots_total / 8, 4)) * percent / 60;
    return (uint64_t)d->entries_used * 100 > (uint64_t)d->entry_room * percent ||
           (uint64_t)d->leaves_used * 100 > (uint64_t)d->leaf_room * percent || s->log.seg_count > span + 2;
}

static void ignore_wake(struct waiter *w)
{
    (void)w;
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
        pf->waiter[i].wake = ignore_wake;
        struct frame *f;
        enum err err;
        map_get(s, dl->volume, 0, dl->index, &pf->waiter[i], &f, &err);
    }
}

/* They are on the stack, and may still stand in a list. */
static void waiters_end(struct waiter *waiters, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (!waiters[i].waiting) continue;
        list_remove(&waiters[i].link);
        waiters[i].waiting = false;
    }
}

static enum err flush_some(struct store *s, uint32_t leaves, uint32_t percent)
{
    struct prefetch pf = {0};
    enum err err = OK;
    for (uint32_t i = 0; err == OK && i < leaves && flush_due(s, percent); i++) {
        if (i % (PREFETCH / 2) == 0) prefetch(s, &pf);
        err = map_flush_leaf(s, CONTAINER(s->delta.by_age.next, struct delta_leaf, by_age));
        log_kick(s);
    }
    waiters_end(pf.waiter, PREFETCH);
    return err;
}

/* Everything that is in the delta now; what comes while this runs may stay. */
static enum err flush_all(struct store *s)
{
    uint64_t newest = s->next_segment;
    enum err err = OK;
    struct prefetch pf = {0};
    uint32_t left = s->delta.leaves_used;
    while (err == OK && left-- > 0 && !list_empty(&s->delta.by_age)) {
        struct delta_leaf *dl = CONTAINER(s->delta.by_age.next, struct delta_leaf, by_age);
        if (dl->segment > newest) break;
        if (left % (PREFETCH / 2) == 0) prefetch(s, &pf);
        err = map_flush_leaf(s, dl);
    }
    waiters_end(pf.waiter, PREFETCH);
    return err;
}

/* ---- what is due ---- */

static bool checkpoint_due(const struct store *s)
{
    if (s->checkpoint_wanted) return true;
    if (s->map.dirty > s->map.count / 3) return true;
    uint64_t private = slots_private(s);
    if (s->log.promised_count < 4 && s->slots_free > private && s->log.promised_count < (s->slots_free - private) / 2)
        return true;
    if (s->log.promised_count == 0 && s->slots_free > 0) return true;
    if (s->slots_pending > 0 && s->slots_free + s->slots_promised <= private * 2 + s->slots_pending) return true;
    if (!s->changed) return false;
    return io_now_ns((struct io *)s->io) - s->last_checkpoint_ns > s->config.checkpoint_ms * 1000000ull;
}

static enum err fail_if(struct store *s, enum err err, const char *what)
{
    if (err != OK && s->failed == OK) log_fail(s, err, what);
    return err;
}

/* Flush and checkpoint, when due. The cleaner calls this between its steps. */
enum err upkeep_duties(struct store *s)
{
    if (s->failed != OK) return ERR_POOL_FAILED;
    if (s->read_only) return OK;
    if (flush_due(s, 60)) TRY(fail_if(s, flush_some(s, FLUSH_STEP, 45), "flushing the map"));
    if (checkpoint_due(s)) TRY(checkpoint_write(s, false));
    return OK;
}

bool clean_pays(struct store *s)
{
    if (s->config.no_clean && !s->clean.wanted) return false;
    uint64_t open = s->slots_free + s->slots_pending + s->slots_promised;
    uint64_t low = slots_private(s) + 4 + s->slots_total * 3 / 100;
    if (open > low && !(s->clean.wanted && s->full)) {
        s->clean.wanted = s->clean.wanted && s->live_units > units_limit(s);
        if (!s->clean.wanted) return false;
    }
    return s->clean.wanted || s->clean.died >= s->segment_bytes / UNIT || s->clean.idle_free != open;
}

/* One pass; when it gains nothing although space is short, the pool is full until something dies. */
static void clean_once(struct store *s)
{
    uint32_t gained = 0;
    bool forced = s->clean.wanted || s->slots_free + s->slots_promised <= slots_private(s) + 2;
    enum err err = clean_pass(s, forced, &gained);
    if (s->failed != OK) return;
    if (s->slots_pending > 0 && err == OK) err = checkpoint_write(s, false);
    uint64_t open = s->slots_free + s->slots_pending + s->slots_promised;
    s->clean.idle_free = gained ? 0 : open;
    bool tight = open <= slots_private(s) + min64(delta_slots(s), s->slots_total / 16);
    s->full = s->live_units > units_limit(s) || (gained == 0 && tight);
    s->stats.full = s->full;
    log_kick(s);
}

/* ---- the index after a start ---- */

struct rebuild {
    struct waiter waiter[PREFETCH];
    uint32_t slot[PREFETCH];
    uint32_t count;
};

/* Sealed segments and cleaned slots have fingerprints to tell. */
static bool has_prints(const struct store *s, uint32_t slot)
{
    const struct slot *sl = slot_peek(s, slot);
    if (!sl || sl->state != SLOT_IS_USED || sl->bad) return false;
    return sl->kind == SLOT_CLEANED || (sl->kind == SLOT_HEAD && sl->sealed);
}

static void index_insert_all(struct store *s, const struct summary *sum)
{
    for (uint32_t i = 0; sum->has_prints && i < sum->count; i++)
        index_insert(s->index, &sum->prints[i], locator_address(sum->locators[i]) / s->segment_bytes);
}

/* A few slots, all their summaries read at once. */
static void index_step(struct store *s)
{
    struct rebuild r = {.count = 0};
    uint32_t end = s->page_count * DIRECTORY_SLOTS;
    uint32_t most = (uint32_t)min64(PREFETCH, max64(s->summaries.budget / 4 / (s->segment_bytes / 32), 2));
    for (; r.count < most && s->rebuild_next < end; s->rebuild_next++) {
        bool failed;
        if (!has_prints(s, s->rebuild_next)) continue;
        r.waiter[r.count].wake = ignore_wake;
        summary_get(s, s->rebuild_next, true, &r.waiter[r.count], &failed);
        r.slot[r.count++] = s->rebuild_next;
    }
    struct task_waiter w;
    task_waiter_init(&w);
    for (uint32_t i = 0; i < r.count; i++) {
        bool failed = false;
        struct summary *sum = NULL;
        while (has_prints(s, r.slot[i]) && !(sum = summary_get(s, r.slot[i], true, &w.waiter, &failed)) && !failed)
            while (w.waiter.waiting) io_task_park();
        if (sum) index_insert_all(s, sum);
        io_task_yield(); /* some thousand insertions: the foreground gets its turn */
    }
    waiters_end(r.waiter, r.count);
}

static bool index_incomplete(const struct store *s)
{
    return s->failed == OK && s->rebuild_next < s->page_count * DIRECTORY_SLOTS;
}

/* ---- the task ---- */

static enum err serve(struct store *s, struct want *w)
{
    switch (w->what) {
    case WANT_FLUSH: TRY(flush_all(s)); return checkpoint_write(s, false);
    case WANT_CHECKPOINT: return checkpoint_write(s, false);
    case WANT_DIGEST: TRY(flush_all(s)); return map_write_dirty(s);
    case WANT_CLEAN: break;
    }
    TRY(flush_some(s, UINT32_MAX, 1));
    TRY(checkpoint_write(s, false));
    TRY(clean_pass(s, true, &w->gained));
    enum err err = checkpoint_write(s, false);
    s->full = s->full && s->live_units > units_limit(s);
    log_kick(s);
    return err;
}

static void park(struct store *s)
{
    s->upkeep_parked = true;
    io_task_park();
    s->upkeep_parked = false;
}

void upkeep_kick(struct store *s)
{
    if (s->upkeep_started && s->upkeep_parked) io_task_wake(&s->upkeep);
}

void upkeep_main(void *arg)
{
    struct store *s = arg;
    while (!s->stopping) {
        struct list *l = list_pop(&s->wants);
        if (l) {
            struct want *w = CONTAINER(l, struct want, link);
            w->err = s->failed != OK ? ERR_POOL_FAILED : serve(s, w);
            w->finished = true;
            io_task_wake(w->task);
            continue;
        }
        if (s->failed == OK && !s->read_only) {
            upkeep_duties(s);
            if (!list_empty(&s->wants) || s->stopping) continue;
            if (index_incomplete(s)) index_step(s); /* also when there is much to do: until then duplicates are missed */
            if (s->failed == OK && clean_pays(s)) {
                clean_once(s);
                continue;
            }
            if (flush_due(s, 60) || checkpoint_due(s) || index_incomplete(s)) continue;
        }
        park(s);
    }
    s->upkeep_ended = true;
}

/* ---- asked for ---- */

static enum err ask(struct store *s, struct want *w)
{
    if (s->read_only) return ERR_PERMISSION;
    w->task = io_task_self();
    list_push(&s->wants, &w->link);
    upkeep_kick(s);
    while (!w->finished) io_task_park();
    return w->err;
}

enum err store_checkpoint(struct store *s, bool flush)
{
    struct want w = {.what = flush ? WANT_FLUSH : WANT_CHECKPOINT};
    return ask(s, &w);
}

enum err store_clean(struct store *s, uint32_t *ret_gained)
{
    struct want w = {.what = WANT_CLEAN};
    TRY(ask(s, &w));
    *ret_gained = w.gained;
    return OK;
}

enum err store_volume_digest(struct store *s, uint32_t volume, uint64_t ret_digest[4])
{
    struct want w = {.what = WANT_DIGEST};
    TRY(ask(s, &w));
    const struct volume *v = volume_find(s, volume);
    if (!v) return ERR_NO_VOLUME;
    uint64_t state[2] = {0, 0};
    for (uint32_t i = 0; i < v->state_count; i++) {
        struct hash128 h = hash128(v->state[i].bytes, (size_t)v->state[i].key_bytes + v->state[i].value_bytes,
                                   state[0] ^ v->state[i].key_bytes);
        state[0] = h.low + state[1];
        state[1] = h.high + 1;
    }
    memcpy(ret_digest, v->root.digest, 16);
    memcpy(ret_digest + 2, state, 16);
    return OK;
}

static enum err changed_below(struct store *s, struct volume *v, uint8_t level, uint64_t index, uint64_t since,
                              void (*each)(void *arg, uint64_t lba, uint32_t count), void *arg)
{
    struct frame *f;
    TRY(map_page(s, v, level, index, false, &f));
    enum err err = OK;
    for (uint32_t i = 0; f && err == OK && i < INNER_FANOUT; i++) {
        struct pointer p = f->u.inner.children[i];
        uint64_t child = index * INNER_FANOUT + i, blocks = LEAF_BLOCKS;
        if (p.newest <= since && !p.graft) continue;
        for (uint8_t k = 1; k < level; k++) blocks *= INNER_FANOUT;
        if (level > 1 && p.locator)
            err = changed_below(s, v, (uint8_t)(level - 1), child, p.graft ? 0 : since, each, arg);
        else if (child * blocks < v->blocks)
            each(arg, child * blocks, (uint32_t)min64(min64(blocks, v->blocks - child * blocks), UINT32_MAX));
    }
    map_unpin(s, f);
    return err;
}

enum err store_changed_since(struct store *s, uint32_t volume, uint64_t since,
                             void (*each)(void *arg, uint64_t lba, uint32_t count), void *arg)
{
    struct want w = {.what = WANT_DIGEST};
    TRY(ask(s, &w));
    struct volume *v = volume_find(s, volume);
    if (!v) return ERR_NO_VOLUME;
    if (v->root.newest <= since) return OK;
    for (uint64_t lba = 0; !v->root.locator && lba < v->blocks; lba += UINT32_MAX) /* all of it was unmapped */
        each(arg, lba, (uint32_t)min64(v->blocks - lba, UINT32_MAX));
    s->tree_users++;
    enum err err = changed_below(s, v, INNER_LEVELS, 0, since, each, arg);
    s->tree_users--;
    return err;
}
