/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A change, from prepare to publish:
 *
 *     QUEUED    bounds checked; hints of the dedupe index may be loading summaries
 *     (pump)    in order: space and delta room admitted, duplicates resolved, record appended to the open batch
 *     LOGGED    in a batch
 *     PREPARED  the batch and all before it are durable: done
 *     publish   the map sees it;   or discard: a record says that it never happened
 *
 * Operations enter the log in the order in which they were prepared. One that cannot be admitted fails, and those of the
 * same volume behind it fail with ERR_ORDER: the caller numbers again from there.
 */
#include "store/internal.h"

void write_fail(struct store *s, struct store_op *op, enum err err)
{
    op->err = err;
    op->state = STORE_OP_FAILED;
    pledge_used(s, op);
    list_push(&s->log.failed, &op->link);
    if (op->learn) learn_failed(s, op);
    log_kick(s);
}

static void deliver_failed(struct store *s)
{
    struct list mine;
    list_init(&mine);
    for (struct list *l; (l = list_pop(&s->log.failed));) list_push(&mine, l);
    for (struct list *l; (l = list_pop(&mine));) {
        struct store_op *op = CONTAINER(l, struct store_op, link);
        mem_free(s->mem, op->state_copy);
        op->state_copy = NULL;
        if (op->learn) learn_told(s, op);
        op->done(op);
    }
}

/* ---- dedupe hints ---- */

struct hint_wait {
    struct waiter waiter;
    struct store_op *op;
};

static void hint_loaded(struct waiter *w)
{
    struct hint_wait *h = CONTAINER(w, struct hint_wait, waiter);
    struct store_op *op = h->op;
    struct store *s = op->store;
    mem_free(s->mem, h);
    assert(op->loads > 0);
    if (--op->loads == 0) log_pump(s);
}

enum { HINT_LOADS_MAX = 4 };

/* Starts loading the summary of a segment that may hold a duplicate: a cleaned segment may lie in several slots. */
static void follow_hint(struct store *s, struct store_op *op, uint64_t segment)
{
    uint64_t unit = segment * (s->segment_bytes / UNIT), end = unit + s->segment_bytes / UNIT;
    struct directory_run run;
    for (uint32_t looked = 0; looked < 2 && directory_next(s->directory, unit, &run) && run.start < end; looked++) {
        unit = run.start + run.units;
        const struct slot *sl = slot_at(s, run.slot);
        if (sl->kind != SLOT_HEAD && sl->kind != SLOT_CLEANED) continue;
        bool failed;
        struct summary *sum = summary_get(s, run.slot, true, NULL, &failed);
        if (sum || failed) continue;
        struct hint_wait *h = mem_alloc(s->mem, sizeof *h);
        if (!h) return;
        *h = (struct hint_wait){.waiter.wake = hint_loaded, .op = op};
        sum = summary_get(s, run.slot, true, &h->waiter, &failed);
        if (sum || failed || !h->waiter.waiting)
            mem_free(s->mem, h);
        else
            op->loads++;
    }
}

static void look_for_hints(struct store *s, struct store_op *op)
{
    for (uint32_t i = 0; i < op->count && op->loads < HINT_LOADS_MAX; i++) {
        const struct block_digest *d = &op->digests[i];
        if (d->size == 0 || summary_find(s, &d->print) != PLACE_NONE) continue;
        uint64_t segments[INDEX_HINTS_MAX];
        uint32_t n = index_find(s->index, &d->print, segments);
        for (uint32_t k = 0; k < n && op->loads < HINT_LOADS_MAX; k++) follow_hint(s, op, segments[k]);
    }
}

/* ---- prepare ---- */

static enum err store_takes(const struct store *s)
{
    if (s->read_only) return ERR_PERMISSION;
    if (s->failed != OK) return ERR_POOL_FAILED;
    return s->stopping ? ERR_STOPPED : OK;
}

static enum err op_possible(const struct store_op *op, uint32_t blocks_max)
{
    if (op->volume == 0 || op->sequence == 0 || op->sequence >= POINTER_GRAFT) return ERR_ARGUMENT;
    if (op->learn && op->kind == RECORD_CREATE) return ERR_ARGUMENT;
    if (op->boot != 0 && op->node >= REQUEST_NODES) return ERR_ARGUMENT;
    switch (op->kind) {
    case RECORD_DATA:
        if (op->count == 0 || op->lba >= VOLUME_BLOCKS_MAX) return ERR_RANGE;
        if (op->what == ENTRY_NEW) return op->count <= blocks_max && op->digests ? OK : ERR_LIMIT;
        if (op->what != ENTRY_ZERO && op->what != ENTRY_UNMAP) return ERR_ARGUMENT;
        return op->count <= RECORD_UNMAP_MAX ? OK : ERR_LIMIT;
    case RECORD_STATE:
        if (op->key_bytes == 0 || op->key_bytes > STATE_KEY_MAX || op->value_bytes > STATE_VALUE_MAX) return ERR_LIMIT;
        return *(const uint8_t *)op->key == STATE_LOCAL && !op->learn ? ERR_ARGUMENT : OK;
    case RECORD_MOVE:
        if (op->key_bytes > STATE_KEY_MAX || op->value_bytes > STATE_VALUE_MAX) return ERR_LIMIT;
        return op->key_bytes == 0 && op->value_bytes > 0 ? ERR_ARGUMENT : OK;
    case RECORD_CREATE:
    case RECORD_RESIZE: return op->lba > 0 && op->lba <= VOLUME_BLOCKS_MAX ? OK : ERR_RANGE;
    case RECORD_DELETE:
    case RECORD_NOOP: return OK;
    case RECORD_DISCARD:
    case RECORD_GRAFT: break;
    }
    return ERR_ARGUMENT;
}

static bool op_has_key(const struct store_op *op)
{
    return op->kind == RECORD_STATE || (op->kind == RECORD_MOVE && op->key_bytes > 0);
}

/* Key and value are needed until publish; the caller's only live until done. */
static bool state_keep(struct store *s, struct store_op *op)
{
    op->state_copy = mem_alloc(s->mem, op->key_bytes + op->value_bytes + 1ull);
    if (!op->state_copy) return false;
    memcpy(op->state_copy, op->key, op->key_bytes);
    if (op->value_bytes) memcpy(op->state_copy + op->key_bytes, op->value, op->value_bytes);
    op->key = op->state_copy;
    op->value = op->state_copy + op->key_bytes;
    return true;
}

/* The operation leaves the store: published, discarded or failed. */
static void op_leave(struct store *s, struct store_op *op)
{
    mem_free(s->mem, op->state_copy);
    op->state_copy = NULL;
}

void store_prepare(struct store *s, struct store_op *op)
{
    op->store = s;
    op->err = OK;
    op->loads = 0;
    op->state_copy = NULL;
    op->state = STORE_OP_QUEUED;
    op->ticket = ++s->log.tickets;
    pledge_use(op);
    if (op->kind == RECORD_MOVE) op->learn = true;
    enum err err = store_takes(s);
    bool takes = err == OK;
    if (err == OK) err = op_possible(op, s->blocks_max);
    if (err == OK && op_has_key(op) && !state_keep(s, op)) err = ERR_NO_MEMORY;
    if (err != OK && !(takes && op->learn)) {
        write_fail(s, op, err);
        return;
    }
    op->err = err; /* catching up fails in its turn: what is before it does not, what is behind it does */
    list_push(&s->log.queue, &op->link);
    if (err == OK && op->kind == RECORD_DATA && op->what == ENTRY_NEW) look_for_hints(s, op);
    log_kick(s);
}

/* What the keyed state may take with this operation and all that are not published yet. An entry does not cross pages: in the
 * worst case three fifths of each are used. */
static uint64_t state_worst(const struct store *s, const struct store_op *op, const struct volume *v)
{
    uint64_t bytes = v->state_bytes + 4ull + op->key_bytes + op->value_bytes;
    for (const struct list *l = s->prepared.next; l != &s->prepared; l = l->next) {
        const struct store_op *p = CONTAINER(l, struct store_op, prepared);
        if (op_has_key(p) && p->volume == op->volume) bytes += 4ull + p->key_bytes + p->value_bytes;
    }
    return bytes * 5 / 3;
}

/* What only the volume's state at this point of the log can tell. */
static enum err op_fits(struct store *s, struct store_op *op, struct volume **ret_volume)
{
    struct volume *v = volume_find(s, op->volume);
    if (op->kind == RECORD_CREATE) {
        if (v) return ERR_VOLUME_EXISTS;
        if (op->volume <= s->last_volume) return ERR_VOLUME_EXISTS; /* ids are never used again */
        if (s->volume_count >= VOLUMES_MAX) return ERR_LIMIT;
        if (checkpoint_room(CHAIN_MAX, HEAD_SLOTS_MAX, 0, s->volume_count + 1, s->page_count) > s->super.checkpoint_bytes)
            return ERR_LIMIT;
        if (op->sequence != 1) return ERR_ORDER;
        *ret_volume = volume_add(s, op->volume);
        return *ret_volume ? OK : ERR_NO_MEMORY;
    }
    if (!v || v->deleting) return ERR_NO_VOLUME;
    if (op->learn) TRY(learn_fits(op, v));
    bool next = op->sequence == v->appended + 1 && op->epoch >= v->appended_epoch;
    if (!op->learn && (!next || v->learning || v->catches > 0)) return ERR_ORDER;
    *ret_volume = v;
    if (op_has_key(op) && state_worst(s, op, v) > STATE_BYTES_MAX - STATE_PAGE_BYTES * 2) return ERR_LIMIT;
    return OK;
}

/* Bounds against the size that will hold when this operation is published: the newest RESIZE or CREATE before it. What is
 * caught up with a second time may meet a size that only came after it: a RESIZE behind it cuts off the same again. */
static enum err op_in_bounds(const struct store *s, struct store_op *op, const struct volume *v)
{
    if (op->kind != RECORD_DATA) return OK;
    uint64_t blocks = v->blocks;
    bool resized = v->resized > v->published; /* an operation that was discarded since may look so, too */
    for (struct list *l = s->prepared.next; resized && l != &s->prepared; l = l->next) {
        const struct store_op *p = CONTAINER(l, struct store_op, prepared);
        if (p->volume == op->volume && (p->kind == RECORD_CREATE || p->kind == RECORD_RESIZE)) blocks = p->lba;
    }
    if (op->learn) op->count = (uint32_t)min64(op->count, blocks - min64(blocks, op->lba));
    return op->learn || op->lba + op->count <= blocks ? OK : ERR_RANGE;
}

/* CREATE makes the volume before its record is in the log; takes it back when the record has to wait. */
static void admit_undo(struct store *s, struct store_op *op, struct volume *v)
{
    uint32_t entries, leaves;
    delta_cost(op, &entries, &leaves);
    delta_unreserve(s, entries, leaves);
    if (op->kind != RECORD_CREATE) return;
    uint32_t before = op->volume - 1;
    volume_remove(s, v);
    if (s->last_volume == op->volume) s->last_volume = before;
}

enum admit { ADMITTED, ADMIT_WAIT, ADMIT_FAILED };

static enum admit admit(struct store *s, struct store_op *op, struct volume **ret_volume, enum err *ret_err)
{
    *ret_err = s->failed != OK ? ERR_POOL_FAILED : op->err;
    struct volume *v = NULL;
    bool fresh = op->kind == RECORD_CREATE;
    bool full = false;
    if (*ret_err == OK && !fresh) *ret_err = op_fits(s, op, &v);
    if (*ret_err == OK && !fresh) *ret_err = op_in_bounds(s, op, v);
    if (*ret_err != OK) return ADMIT_FAILED;
    if (!space_for(s, op, &full)) {
        if (!full) return ADMIT_WAIT;
        *ret_err = ERR_NO_SPACE;
        return ADMIT_FAILED;
    }
    if (op_has_key(op) && mem_used(s->mem) + 16384 + v->state_count * 32ull > mem_budget(s->mem)) *ret_err = ERR_NO_MEMORY;
    bool noted = op->boot != 0 && !op->learn;
    if (*ret_err == OK && v != NULL && noted) *ret_err = windows_room(s, v);
    uint32_t entries, leaves;
    delta_cost(op, &entries, &leaves);
    if (*ret_err == OK && (entries > s->delta.entry_room / 2 || leaves > s->delta.leaf_room / 2)) *ret_err = ERR_LIMIT;
    if (*ret_err != OK) return ADMIT_FAILED;
    if (!delta_reserve(s, entries, leaves)) {
        upkeep_kick(s);
        return ADMIT_WAIT;
    }
    if (fresh) *ret_err = op_fits(s, op, &v);
    if (*ret_err != OK) {
        delta_unreserve(s, entries, leaves);
        return ADMIT_FAILED;
    }
    if (fresh && noted && (*ret_err = windows_room(s, v)) != OK) {
        admit_undo(s, op, v);
        return ADMIT_FAILED;
    }
    *ret_volume = v;
    return ADMITTED;
}

static void appended(struct store *s, struct store_op *op, struct volume *v)
{
    op->state = STORE_OP_LOGGED;
    pledge_used(s, op);
    if (op->kind == RECORD_DELETE) v->deleting = true;
    list_push(&s->prepared, &op->prepared);
    if (op->learn) {
        learn_appended(s, op, v);
        return;
    }
    v->appended = op->sequence;
    v->appended_epoch = op->epoch;
    if (op->kind == RECORD_CREATE || op->kind == RECORD_RESIZE) v->resized = op->sequence;
    s->stats.memory_used = mem_used(s->mem);
}

void write_pump(struct store *s)
{
    struct log *l = &s->log;
    deliver_failed(s);
    while (!list_empty(&l->queue)) {
        struct store_op *op = CONTAINER(l->queue.next, struct store_op, link);
        struct volume *v = NULL;
        enum err err;
        if (op->loads > 0) return;
        enum admit admitted = admit(s, op, &v, &err);
        if (admitted == ADMIT_WAIT) return;
        list_remove(&op->link);
        if (admitted == ADMIT_FAILED) {
            write_fail(s, op, err);
            continue;
        }
        op->previous_epoch = op->learn ? op->epoch : v->appended_epoch;
        if (!log_append(s, op)) {
            list_push_front(&l->queue, &op->link);
            admit_undo(s, op, v);
            return;
        }
        appended(s, op, v);
    }
}

void write_batch_done(struct store *s, struct batch_buf *b)
{
    struct list ops;
    list_init(&ops);
    for (struct list *l; (l = list_pop(&b->ops));) list_push(&ops, l);
    for (struct list *l; (l = list_pop(&ops));) {
        struct store_op *op = CONTAINER(l, struct store_op, link);
        struct volume *v = volume_find(s, op->volume);
        if (s->failed != OK) {
            op->err = ERR_POOL_FAILED;
            op->state = STORE_OP_FAILED;
            list_remove(&op->prepared);
            op_leave(s, op);
        } else if (op->learn) {
            learn_durable(s, op);
            op_leave(s, op);
        } else {
            op->state = STORE_OP_PREPARED;
            if (v) v->prepared = op->sequence;
        }
        op->done(op);
    }
}

/* ---- publish ---- */

/* What lies beyond the smaller of both sizes is unmapped, also when the volume grows: in replay its tree may be newer. */
static void resize(struct store *s, struct volume *v, uint64_t blocks, uint64_t sequence, uint64_t segment)
{
    uint64_t keep = min64(blocks, v->blocks), leaf_end = round_up64(keep, LEAF_BLOCKS);
    for (struct list *l = v->leaves.next; l != &v->leaves; l = l->next) {
        const struct delta_leaf *dl = CONTAINER(l, struct delta_leaf, by_volume);
        if (dl->index * LEAF_BLOCKS >= leaf_end)
            delta_fill(s, v, dl->index * LEAF_BLOCKS, LEAF_BLOCKS, DELTA_BASE_UNMAPPED, sequence, segment);
    }
    if (leaf_end > keep) delta_fill(s, v, keep, leaf_end - keep, DELTA_BASE_UNMAPPED, sequence, segment);
    if (leaf_end < v->cut) {
        v->cut_sequence = v->cut == UINT64_MAX ? sequence : max64(v->cut_sequence, sequence);
        v->cut = leaf_end;
    }
    if (blocks < v->blocks) space_comes_back(s);
    v->blocks = blocks;
    s->changed = true;
}

static void delete_volume(struct store *s, struct volume *v)
{
    v->deleting = v->deleted = true;
    space_comes_back(s);
    s->changed = true;
    upkeep_kick(s);
}

static void published(struct store *s, struct volume *v, const struct store_op *op)
{
    if (!op->learn || !op_is_local(op)) v->effects++; /* what a digest sees */
    if (op->learn) {
        learn_effect(s, op, v);
    } else {
        v->published = max64(v->published, op->sequence);
        v->epoch = op->epoch > v->epoch ? op->epoch : v->epoch;
        windows_note(s, v, op);
    }
    struct delta *d = &s->delta;
    if (d->entries_used > d->entry_room / 2 || d->leaves_used > d->leaf_room / 2) upkeep_kick(s);
}

/* Makes an operation visible; `segment` is where its record lies. */
void op_publish(struct store *s, struct store_op *op, uint64_t segment)
{
    struct volume *v = volume_find(s, op->volume);
    uint64_t stamp = op->sequence;
    assert(v);
    if (op->learn && MUTATED(MUTATE_LEARN_UNSTAMPED)) stamp = v->published;
    switch (op->kind) {
    case RECORD_DATA:
        if (op->what == ENTRY_NEW) {
            for (uint32_t i = 0; i < op->count; i++) delta_set(s, v, op->lba + i, op->places[i], op->tags[i], stamp, segment);
        } else {
            enum delta_base what = op->what == ENTRY_ZERO ? DELTA_BASE_ZERO : DELTA_BASE_UNMAPPED;
            delta_fill(s, v, op->lba, op->count, what, stamp, segment);
            if (s->full) space_comes_back(s);
        }
        if (s->full) s->clean.wanted = true; /* something may have died */
        break;
    case RECORD_STATE:
    case RECORD_MOVE:
        if (op_has_key(op) && !state_set(s, v, op->key, op->key_bytes, op->value, op->value_bytes)) {
            log_fail(s, ERR_NO_MEMORY, "keyed state");
            if (op->learn) return; /* a volume does not stand where its key does not say so */
        }
        break;
    case RECORD_CREATE: v->blocks = op->lba; break;
    case RECORD_RESIZE: resize(s, v, op->lba, stamp, segment); break;
    case RECORD_DELETE: delete_volume(s, v); break;
    case RECORD_NOOP:
    case RECORD_DISCARD:
    case RECORD_GRAFT: break;
    }
    published(s, v, op);
}

void store_publish(struct store *s, struct store_op *op)
{
    assert(op->state == STORE_OP_PREPARED);
    struct volume *v = volume_find(s, op->volume);
    assert(v && (op->sequence == v->published + 1 || v->deleting));
    uint32_t entries, leaves;
    delta_cost(op, &entries, &leaves);
    delta_unreserve(s, entries, leaves);
    op_publish(s, op, op->position / s->segment_bytes);
    list_remove(&op->prepared);
    op_leave(s, op);
    op->state = STORE_OP_IDLE;
    if (op->done == NULL) list_push(&s->recovered_ops, &op->link); /* made by recovery: its memory is the store's */
}

struct store_op *store_prepared_next(struct store *s, uint32_t volume, uint64_t after)
{
    for (struct list *l = s->prepared.next; l != &s->prepared; l = l->next) {
        struct store_op *op = CONTAINER(l, struct store_op, prepared);
        if (op->volume == volume && !op->learn && op->sequence > after) return op->state == STORE_OP_PREPARED ? op : NULL;
    }
    return NULL;
}

struct store_op *store_prepared(struct store *s, uint32_t volume)
{
    return store_prepared_next(s, volume, 0);
}

/* ---- discard ---- */

/* The epoch falls back, too: what comes next may be of any that is not older than what is left. */
void volume_shorten(struct store *s, struct volume *v, uint64_t sequence)
{
    uint32_t epoch = v->epoch;
    for (const struct list *l = s->prepared.next; l != &s->prepared; l = l->next) {
        const struct store_op *op = CONTAINER(l, struct store_op, prepared);
        if (op->volume == v->id && !op->learn) epoch = op->epoch;
    }
    v->appended = v->prepared = max64(v->published, sequence - 1);
    if (!MUTATED(MUTATE_DISCARD_KEEPS_EPOCH)) v->appended_epoch = epoch;
    v->deleting = false; /* a DELETE among them never happened */
}

struct discard_wait {
    struct store_op op;
    struct io_task *task;
    bool finished;
};

static void discard_durable(struct store_op *op)
{
    struct discard_wait *w = CONTAINER(op, struct discard_wait, op);
    w->finished = true;
    io_task_wake(w->task);
}

enum err store_discard(struct store *s, uint32_t volume, uint64_t sequence)
{
    struct volume *v = volume_find(s, volume);
    if (!v) return ERR_NO_VOLUME;
    if (s->read_only || s->failed != OK) return s->read_only ? ERR_PERMISSION : ERR_POOL_FAILED;
    if (sequence <= v->published || sequence > v->appended + 1) return ERR_ORDER;
    if (v->prepared != v->appended || v->learns > 0) return ERR_AGAIN; /* something of it is still under way, or failed */
    struct discard_wait w = {.task = io_task_self()};
    w.op = (struct store_op){.done = discard_durable,
                             .kind = RECORD_DISCARD,
                             .volume = volume,
                             .epoch = v->appended_epoch,
                             .sequence = sequence,
                             .store = s};
    if (MUTATED(MUTATE_DISCARD_NOT_LOGGED)) {
        w.finished = true;
    } else {
        for (uint64_t pause = 100000; !log_append(s, &w.op); pause = min64(2 * pause, 100000000)) {
            if (s->failed != OK) return ERR_POOL_FAILED;
            log_submit(s);
            io_task_sleep(s->io, pause);
        }
        list_push(&s->prepared, &w.op.prepared);
        log_pump(s);
    }
    while (!w.finished) io_task_park();
    if (w.op.err != OK) return w.op.err;
    if (!MUTATED(MUTATE_DISCARD_NOT_LOGGED)) list_remove(&w.op.prepared);
    for (struct list *l = s->prepared.next, *next; l != &s->prepared; l = next) {
        next = l->next;
        struct store_op *op = CONTAINER(l, struct store_op, prepared);
        if (op->volume != volume || op->learn || op->sequence < sequence) continue;
        assert(op->state == STORE_OP_PREPARED);
        uint32_t entries, leaves;
        delta_cost(op, &entries, &leaves);
        delta_unreserve(s, entries, leaves);
        list_remove(&op->prepared);
        op_leave(s, op);
        op->state = STORE_OP_IDLE;
        if (op->done == NULL) list_push(&s->recovered_ops, &op->link);
    }
    if (v->published == 0 && sequence == 1)
        volume_remove(s, v);
    else
        volume_shorten(s, v, sequence);
    return OK;
}
