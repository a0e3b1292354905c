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

/* Slots that foreground data never takes: to gain one slot where a fifth is dead, the cleaner needs room for four. */
uint32_t slots_private(const struct store *s)
{
    return 5 + (uint32_t)(min64(s->slots_total / 8, 7) + s->slots_total / 256);
}

static uint64_t units_limit(const struct store *s)
{
    uint64_t reserve = max64(s->slots_total * s->config.reserve_percent / 100, slots_private(s) + 3ull);
    return reserve < s->slots_total ? (s->slots_total - reserve) * slot_capacity(s) : 0;
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

static uint64_t slots_left(const struct store *s)
{
    return s->slots_free + s->log.promised_count;
}

static bool space_is_tight(const struct store *s)
{
    return slots_left(s) <= slots_private(s);
}

/* A leaf is merged only if the checkpoint that makes it count will find room, and the cleaner after it. Slots promised to the
 * head do not count: it may take them at any time. */
static bool flush_has_room(const struct store *s)
{
    return s->slots_free > checkpoint_slots(s) + 2;
}

/* Segments in the replay window are no one's to clean: when space is tight, it is kept short. So is the list of incarnations,
 * which has a limit. */
static bool window_is_long(const struct store *s)
{
    return (space_is_tight(s) && s->log.seg_count > 2) || s->log.chain_count > CHAIN_MAX / 4;
}

/* How many head segments recovery may have to replay: an eighth of the pool. Leaves are flushed when they are that old, and
 * a checkpoint lets the window follow them when it is a quarter longer. */
static uint64_t window_span(const struct store *s)
{
    return min64(4096, max64(s->slots_total / 8, 4));
}

static bool window_lags(const struct store *s)
{
    uint64_t span = window_span(s);
    return s->log.seg_count > span + max64(span / 4, 2);
}

static bool flush_due(const struct store *s, uint32_t percent)
{
    const struct delta *d = &s->delta;
    if (d->leaves_used == 0 || !flush_has_room(s)) return false;
    if (d->wanted || window_is_long(s)) return true;
    if ((uint64_t)d->entries_used * 100 > (uint64_t)d->entry_room * percent) return true;
    if ((uint64_t)d->leaves_used * 100 > (uint64_t)d->leaf_room * percent) return true;
    const struct delta_leaf *oldest = CONTAINER(d->by_age.next, struct delta_leaf, by_age);
    return log_segments_since(s, oldest->segment) > window_span(s) * percent / 60 + 1;
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

/* Flushing makes inner pages dirty, and only upkeep cleans them: it must not run out of frames. */
static enum err inner_pages_settle(struct store *s)
{
    return s->map.dirty > s->map.count / 3 ? map_write_dirty(s) : OK;
}

static enum err flush_some(struct store *s, uint32_t leaves, uint32_t percent)
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
enum err upkeep_flush_all(struct store *s)
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

/* ---- what is due ---- */

static bool checkpoint_due(const struct store *s)
{
    if (s->checkpoint_wanted) return true;
    if (s->map.dirty > s->map.count / 3) return true;
    uint64_t private = slots_private(s);
    if (s->log.promised_count < 4 && s->log.promised_count < checkpoint_promises(s)) return true;
    if ((window_is_long(s) || window_lags(s)) && log_replay_segment(s) > s->replay_segment) return true;
    if (!s->changed) return false;
    if (s->slots_pending > 0 && s->slots_free + s->slots_promised <= private * 2 + s->slots_pending) return true;
    if (!flush_has_room(s) && (s->slots_pending > 0 || s->log.promised_count > checkpoint_promises(s))) return true;
    return io_now_ns(s->io) - s->last_checkpoint_ns > s->config.checkpoint_ms * IO_MS_NS;
}

static enum err fail_if(struct store *s, enum err err, const char *what)
{
    if (err != OK && err != ERR_NO_SPACE && s->failed == OK) log_fail(s, err, what);
    return err;
}

/* Flush and checkpoint, when due. */
static enum err duties(struct store *s)
{
    if (s->failed != OK) return ERR_POOL_FAILED;
    if (s->read_only) return OK;
    if (flush_due(s, 60)) TRY(fail_if(s, flush_some(s, FLUSH_STEP, 45), "flushing the map"));
    if (checkpoint_due(s)) TRY(checkpoint_write(s));
    return OK;
}

/* The cleaner calls this between its steps. What lacks space now will get it from the cleaner. */
enum err upkeep_duties(struct store *s)
{
    enum err err = duties(s);
    return err == ERR_NO_SPACE ? OK : err;
}

static uint64_t slots_open(const struct store *s)
{
    return s->slots_free + s->slots_pending + s->slots_promised;
}

/* Cleaning begins when fewer slots are open. Low, because every slot that lies idle costs write amplification. */
static uint64_t low_water(const struct store *s)
{
    return slots_private(s) + 4 + s->slots_total / 256;
}

/* Slots that a pass gains before it ends. What lies idle until it is used costs write amplification; but each pass walks over
 * all maps, and the checkpoints after each write pages: with a 256th of the pool these cost more than the idle slots did. */
static uint32_t pass_goal(const struct store *s)
{
    return (uint32_t)max64(4, s->slots_total / 64);
}

bool clean_pays(struct store *s)
{
    if (s->config.no_clean && !s->clean.wanted && !s->log.starving && !s->full) return false;
    uint64_t open = slots_open(s);
    if (open > low_water(s) && !(s->clean.wanted && s->full)) {
        s->clean.wanted = s->clean.wanted && s->live_units > units_limit(s);
        if (!s->clean.wanted) return false;
    }
    return s->clean.wanted || s->clean.died >= s->segment_bytes / UNIT || s->clean.idle_free != open ||
           s->clean.idle_replay != s->replay_segment;
}

static bool writes_wait(const struct store *s)
{
    return slots_open(s) <= slots_private(s) + min64(delta_slots(s), s->slots_total / 16);
}

/* Deaths that the delta hides come to light, and the log behind the head becomes anyone's to clean. */
static enum err settle_all(struct store *s)
{
    TRY(fail_if(s, upkeep_flush_all(s), "flushing the map"));
    return checkpoint_write(s);
}

static enum err clean_and_free(struct store *s, bool forced, uint32_t *ret_gained)
{
    enum err err = clean_pass(s, forced, pass_goal(s), ret_gained);
    return err == OK && s->failed == OK && s->slots_pending > 0 ? checkpoint_write(s) : err;
}

/* One pass; when it gains nothing although space is short, another with everything in the open. If that gains nothing either,
 * the pool is full until something dies. */
static void clean_once(struct store *s)
{
    uint32_t gained = 0;
    s->clean.idle = true;
    bool forced = s->clean.wanted || s->slots_free + s->slots_promised <= slots_private(s) + 2;
    if (s->live_units > units_limit(s)) settle_all(s);
    uint64_t replay = s->replay_segment;
    if (s->failed == OK) clean_and_free(s, forced, &gained);
    if (s->failed == OK && !s->closing && gained == 0 && writes_wait(s) && settle_all(s) == OK)
        clean_and_free(s, true, &gained);
    s->clean.idle = false;
    if (s->failed == OK && s->live_units > units_limit(s) && !s->closing) settle_all(s); /* what was overwritten meanwhile */
    if (s->failed != OK || s->closing) return;
    s->clean.idle_free = gained ? 0 : slots_open(s);
    s->clean.idle_replay = replay;
    bool tight = writes_wait(s);
    s->full = s->live_units > units_limit(s) || (gained == 0 && tight);
    s->stats.full = s->full;
    s->clean.wanted |= s->full && s->delta.leaves_used > 0; /* what was overwritten since the last flush may be enough */
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

/* Does what takes space; while there is not enough, the cleaner works between, as long as that gains something. */
static enum err with_space(struct store *s, enum err (*action)(struct store *s))
{
    for (;;) {
        uint32_t gained = 0;
        enum err err = action(s);
        if (err != ERR_NO_SPACE) return err;
        uint64_t replay = s->replay_segment, left = slots_left(s);
        TRY(clean_pass(s, true, pass_goal(s), &gained));
        TRY(checkpoint_write(s));
        /* What was flushed already may have moved the replay point, and then more can be cleaned. */
        if (gained == 0 && s->replay_segment == replay && slots_left(s) <= left) return ERR_NO_SPACE;
    }
}

static enum err clean_asked(struct store *s, uint32_t *ret_gained)
{
    enum err err = flush_some(s, UINT32_MAX, 1);
    if (err == OK) err = checkpoint_write(s);
    if (err != OK && err != ERR_NO_SPACE) return err;
    TRY(clean_pass(s, true, UINT32_MAX, ret_gained));
    return checkpoint_write(s);
}

/* Brings the tree to what is published now, in memory and up to the root, and takes the digest before anything goes on. */
static enum err digest(struct store *s, struct want *w)
{
    TRY(with_space(s, upkeep_flush_all));
    struct volume *v;
    while ((v = volume_find(s, w->volume)) && v->cut != UINT64_MAX) TRY(map_cut(s, v));
    TRY(map_write_dirty(s));
    if ((v = volume_find(s, w->volume))) memcpy(w->digest, v->root.digest, sizeof w->digest);
    return OK;
}

static enum err serve(struct store *s, struct want *w)
{
    switch (w->what) {
    case WANT_FLUSH: TRY(with_space(s, upkeep_flush_all)); return with_space(s, checkpoint_write);
    case WANT_CHECKPOINT: return with_space(s, checkpoint_write);
    case WANT_DIGEST: return digest(s, w);
    case WANT_CLEAN: break;
    }
    enum err err = clean_asked(s, &w->gained);
    s->full = s->full && s->live_units > units_limit(s);
    log_kick(s);
    return err == ERR_NO_SPACE ? OK : err; /* nothing gained */
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
            enum err err = duties(s);
            if (!list_empty(&s->wants) || s->stopping) continue;
            if (index_incomplete(s)) index_step(s); /* also when there is much to do: until then duplicates are missed */
            if (s->failed == OK && !s->closing && clean_pays(s)) {
                clean_once(s);
                continue;
            }
            if (err == OK && (flush_due(s, 60) || checkpoint_due(s))) continue;
            if (index_incomplete(s)) continue;
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
    struct want w = {.what = WANT_DIGEST, .volume = volume};
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
    memcpy(ret_digest, w.digest, 16);
    memcpy(ret_digest + 2, state, 16);
    return OK;
}

struct changes {
    struct volume *v;
    void (*each)(void *arg, uint64_t lba, uint32_t count);
    void *arg;
};

static void changed_whole(const struct changes *c, uint64_t lba, uint64_t count)
{
    for (uint64_t end = min64(lba + count, c->v->blocks); lba < end; lba += UINT32_MAX)
        c->each(c->arg, lba, (uint32_t)min64(end - lba, UINT32_MAX));
}

/* What changed in what the page covers, a page whose pointer is newer than `since`. One that is gone by now was unmapped. */
static enum err changed_below(struct store *s, const struct changes *c, uint8_t level, uint64_t index, uint64_t since)
{
    struct frame *f;
    uint64_t blocks = LEAF_BLOCKS; /* of a child */
    for (uint8_t k = 1; k < level; k++) blocks *= INNER_FANOUT;
    TRY(map_page(s, c->v, level, index, false, &f));
    if (!f) changed_whole(c, index * INNER_FANOUT * blocks, INNER_FANOUT * blocks);
    enum err err = OK;
    for (uint32_t i = 0; f && err == OK && i < INNER_FANOUT; i++) {
        struct pointer p = f->u.inner.children[i];
        uint64_t child = index * INNER_FANOUT + i;
        if (p.newest <= since && !p.graft) continue;
        if (level > 1 && p.locator)
            err = changed_below(s, c, (uint8_t)(level - 1), child, p.graft ? 0 : since);
        else
            changed_whole(c, child * blocks, blocks);
    }
    map_unpin(s, f);
    return err;
}

enum err store_changed_since(struct store *s, uint32_t volume, uint64_t since,
                             void (*each)(void *arg, uint64_t lba, uint32_t count), void *arg)
{
    struct want w = {.what = WANT_DIGEST, .volume = volume};
    TRY(ask(s, &w));
    struct volume *v = volume_find(s, volume);
    if (!v) return ERR_NO_VOLUME;
    if (v->root.newest <= since) return OK;
    struct changes changes = {v, each, arg};
    s->tree_users++;
    enum err err = changed_below(s, &changes, INNER_LEVELS, 0, since);
    s->tree_users--;
    return err;
}
