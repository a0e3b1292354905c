/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Upkeep: the one task that works behind the foreground. It flushes the delta (flush.c), writes checkpoints (checkpoint.c),
 * cleans (clean.c), and rebuilds the dedupe index after a start (rebuild.c), whatever is due first; and it does what callers
 * ask of it (struct want).
 */
#include "store/internal.h"

enum { FLUSH_STEP = 64 };

/* ---- what is due ---- */

static bool checkpoint_due(const struct store *s)
{
    if (s->checkpoint_wanted) return true;
    if (s->map.dirty > s->map.count / 3) return true;
    if (s->log.promised_count < 4 && s->log.promised_count < checkpoint_promises(s)) return true;
    if ((window_is_long(s) || window_lags(s)) && log_replay_segment(s) > s->replay_segment) return true;
    if (!s->changed) return false;
    if (s->slots_pending > 0 && s->slots_free + s->slots_promised <= space_floor(s) + slots_private(s) + s->slots_pending)
        return true;
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

/* Deaths that the delta hides come to light, and the log behind the head becomes anyone's to clean. */
static enum err settle_all(struct store *s)
{
    TRY(fail_if(s, flush_all(s), "flushing the map"));
    return checkpoint_write(s);
}

static enum err clean_and_free(struct store *s, bool forced, uint32_t *ret_gained)
{
    enum err err = clean_pass(s, forced, clean_goal(s), ret_gained);
    return err == OK && s->failed == OK && s->slots_pending > 0 ? checkpoint_write(s) : err;
}

/* One pass; when it gains nothing although space is short, another with everything in the open. Then it is known whether
 * there is room, or the pool is full. */
static void clean_once(struct store *s)
{
    uint32_t gained = 0;
    s->clean.idle = true;
    bool forced = s->clean.asked || s->clean.wanted || s->slots_free + s->slots_promised <= space_floor(s) + 2;
    if (space_is_limited(s)) settle_all(s);
    uint64_t replay = s->replay_segment;
    if (s->failed == OK) clean_and_free(s, forced, &gained);
    if (s->failed == OK && !s->closing && gained == 0 && space_is_short(s) && settle_all(s) == OK)
        clean_and_free(s, true, &gained);
    s->clean.idle = false;
    if (s->failed == OK && space_is_limited(s) && !s->closing) settle_all(s); /* what was overwritten meanwhile */
    if (s->failed != OK || s->closing) return;
    s->clean.idle_free = gained ? 0 : space_open(s);
    s->clean.idle_replay = replay;
    space_judge(s, gained);
    /* What was overwritten since the last flush may be enough; where nothing can be flushed it would be the same pass again. */
    s->clean.wanted |= s->full && s->delta.leaves_used > 0 && flush_has_room(s);
}

/* ---- the task ---- */

/* Does what takes space; while there is not enough, the cleaner works between, as long as that gains something. */
static enum err with_space(struct store *s, enum err (*action)(struct store *s))
{
    for (;;) {
        uint32_t gained = 0;
        enum err err = action(s);
        if (err != ERR_NO_SPACE) return err;
        uint64_t replay = s->replay_segment, left = space_left(s);
        TRY(clean_pass(s, true, clean_goal(s), &gained));
        TRY(checkpoint_write(s));
        /* What was flushed already may have moved the replay point, and then more can be cleaned. */
        if (gained == 0 && s->replay_segment == replay && space_left(s) <= left) return ERR_NO_SPACE;
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
    TRY(with_space(s, flush_all));
    struct volume *v;
    while ((v = volume_find(s, w->volume)) && v->cut != UINT64_MAX) TRY(map_cut(s, v));
    TRY(map_write_dirty(s));
    if (!(v = volume_find(s, w->volume))) return OK;
    memcpy(w->digest, v->root.digest, sizeof v->root.digest);
    state_digest(v, w->digest + 2);
    w->sequence = v->published;
    w->effects = v->effects;
    return OK;
}

static enum err serve(struct store *s, struct want *w)
{
    switch (w->what) {
    case WANT_FLUSH: TRY(with_space(s, flush_all)); return with_space(s, checkpoint_write);
    case WANT_CHECKPOINT: return with_space(s, checkpoint_write);
    case WANT_DIGEST: return digest(s, w);
    case WANT_CLEAN: break;
    }
    enum err err = clean_asked(s, &w->gained);
    s->full = s->full && space_room(s, 0, 0) == 0;
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
            if (rebuild_is_due(s)) rebuild_step(s); /* also when there is much to do: until then duplicates are missed */
            if (s->failed == OK && !s->closing && clean_pays(s)) {
                clean_once(s);
                continue;
            }
            if (err == OK && (flush_due(s, 60) || checkpoint_due(s))) continue;
            if (rebuild_is_due(s)) continue;
        }
        park(s);
    }
    s->upkeep_ended = true;
}

/* ---- asked for ---- */

enum err upkeep_ask(struct store *s, struct want *w)
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
    return upkeep_ask(s, &w);
}

enum err store_clean(struct store *s, uint32_t *ret_gained)
{
    struct want w = {.what = WANT_CLEAN};
    TRY(upkeep_ask(s, &w));
    *ret_gained = w.gained;
    return OK;
}
