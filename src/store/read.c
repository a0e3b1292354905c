/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A read, from call to bytes:
 *
 *     RESOLVE   each block's place, from the delta or its leaf; parks for a page, retries
 *     FETCH     blocks in the cache are copied; the others' chunks are located, neighbours on the device join into one
 *               read; parks for address tables
 *     (reads)   slots are pinned while they are read, so they cannot be reused underneath
 *     VERIFY    CPU jobs: checksum, tag, unpack, straight into the caller's buffer
 *     END
 *
 * Reads see what is published; each block is one value of that moment.
 */
#include "store/internal.h"

enum { READ_RESOLVE, READ_FETCH };
enum { WORKS = 32, EXTENTS = 48, EXTENT_BYTES = 256 << 10, EXTENT_GAP = 16384 };

struct piece {
    uint64_t place;
    uint32_t tag;
    uint32_t block;
    uint32_t slot, offset; /* where its chunk is */
};

struct extent {
    struct io_op op;
    struct io_job job;
    struct work *work;
    uint32_t first, count; /* pieces */
    uint32_t slot, from, bytes;
    uint8_t *buf;
    enum err err;
    bool unread;  /* the device refused it */
    uint32_t bad; /* block */
};

struct work {
    struct store *store;
    struct store_read *read; /* NULL: free */
    struct waiter waiter;
    struct piece pieces[STORE_READ_MAX];
    uint32_t piece_count, located;
    struct extent extents[EXTENTS];
    uint32_t extent_count, pending, tries;
    bool alone; /* what several chunks were read for failed: each is read by itself, to learn which of them is lost */
    uint8_t *buf;
    uint32_t buf_bytes, buf_used;
};

struct read_pool {
    struct work *works;
    uint32_t count;
    struct list queue;
    struct io_msg msg;
    bool sent;
    struct store *store;
};

static void read_step(struct work *w);

static void woken(struct waiter *waiter)
{
    read_step(CONTAINER(waiter, struct work, waiter));
}

enum err reads_init(struct store *s, uint64_t budget)
{
    struct read_pool *p = mem_alloc(s->mem, sizeof *p);
    if (!p) return ERR_NO_MEMORY;
    s->reads = p;
    p->store = s;
    list_init(&p->queue);
    /* Many reads at once come before large ones: what does not fit into a buffer is read in several steps. At least what one
     * operation wrote, at most the longest read in pieces from all over. */
    uint64_t least = round_up64(RECORD_BLOCKS_MAX * PLACE_UNITS_RAW * UNIT, SECTOR) + 4 * SECTOR;
    uint64_t most = round_up64(STORE_READ_MAX * (PLACE_UNITS_RAW * UNIT + 64) + EXTENTS * 2 * SECTOR, SECTOR);
    p->count = (uint32_t)min64(WORKS, max64(2, budget / (least + sizeof(struct work))));
    uint64_t each = budget / p->count > sizeof(struct work) ? budget / p->count - sizeof(struct work) : 0;
    uint32_t one = (uint32_t)min64(most, max64(least, each / SECTOR * SECTOR));
    p->works = mem_alloc(s->mem, p->count * sizeof *p->works);
    if (!p->works) return ERR_NO_MEMORY;
    for (uint32_t i = 0; i < p->count; i++) {
        struct work *w = &p->works[i];
        w->store = s;
        w->waiter.wake = woken;
        w->buf_bytes = one;
        w->buf = mem_alloc_raw(s->mem, one);
        if (!w->buf) return ERR_NO_MEMORY;
    }
    return OK;
}

static void pool_kick(struct store *s);

static void read_end(struct work *w, enum err err, uint64_t bad)
{
    struct store_read *read = w->read;
    struct store *s = w->store;
    w->read = NULL;
    read->work = NULL;
    read->err = err;
    read->bad = bad;
    s->stats.medium_errors += err == ERR_MEDIUM;
    s->stats.unmended += err == ERR_MEDIUM && !read->elsewhere;
    pool_kick(s);
    read->done(read);
}

/* ---- VERIFY ---- */

/* Runs on any loop: touches the extent, its buffer and the caller's bytes only. */
static void verify(struct io_job *job)
{
    struct extent *x = CONTAINER(job, struct extent, job);
    struct work *w = x->work;
    for (uint32_t i = x->first; i < x->first + x->count; i++) {
        const struct piece *p = &w->pieces[i];
        uint32_t size = 0;
        enum err err = chunk_unpack(x->buf + (p->offset - x->from), place_units(p->place), place_address(p->place), &p->tag,
                                    w->read->data + (size_t)p->block * BLOCK_SIZE, BLOCK_SIZE, &size);
        if (err == OK && size != BLOCK_SIZE) err = ERR_DECODE;
        if (err == OK) continue;
        x->err = ERR_MEDIUM;
        x->bad = p->block;
        return;
    }
}

/* Of a read that the device refused nothing is known but that something in it is bad. */
static bool some_failed_together(const struct work *w)
{
    for (uint32_t i = 0; i < w->extent_count; i++)
        if (w->extents[i].unread && w->extents[i].count > 1) return true;
    return false;
}

static void read_fetch(struct work *w);

static void extent_over(struct extent *x)
{
    struct work *w = x->work;
    struct store *s = w->store;
    if (--w->pending > 0) return;
    enum err err = OK;
    uint64_t bad = UINT64_MAX;
    if (!w->alone && some_failed_together(w)) {
        w->alone = true;
        read_fetch(w);
        return;
    }
    for (uint32_t i = 0; i < w->extent_count; i++) {
        const struct extent *e = &w->extents[i];
        if (e->err == OK) continue;
        if (e->err == ERR_MEDIUM) slot_at(s, e->slot)->suspect = true; /* who writes this again must not refer to it */
        if (w->read->lba + e->bad >= bad) continue;
        err = e->err;
        bad = w->read->lba + e->bad;
    }
    w->extent_count = 0;
    if (err != OK) {
        read_end(w, err, bad);
        return;
    }
    for (uint32_t i = 0; i < w->located && !w->read->media; i++)
        cache_add(s->blocks, place_address(w->pieces[i].place), w->read->data + (size_t)w->pieces[i].block * BLOCK_SIZE);
    memmove(w->pieces, w->pieces + w->located, (w->piece_count - w->located) * sizeof *w->pieces);
    w->piece_count -= w->located;
    read_step(w);
}

static void verified(struct io_job *job)
{
    extent_over(CONTAINER(job, struct extent, job));
}

static void extent_read(struct io_op *op)
{
    struct extent *x = CONTAINER(op, struct extent, op);
    struct store *s = x->work->store;
    slot_reader_done(s, x->slot);
    if (op->err != OK) {
        x->err = op->err == ERR_IO ? ERR_MEDIUM : op->err;
        x->unread = op->err == ERR_IO;
        x->bad = x->work->pieces[x->first].block;
        extent_over(x);
        return;
    }
    x->job = (struct io_job){.work = verify, .done = verified, .cost_us = x->count * UNPACK_US};
    io_submit_job(s->io, &x->job);
}

/* ---- FETCH ---- */

static bool extent_join(struct work *w, struct extent *x, const struct piece *p, uint32_t bytes)
{
    uint32_t end = x->from + x->bytes;
    uint32_t to = (uint32_t)round_up64(p->offset + bytes, SECTOR);
    if (p->slot != x->slot || p->offset < x->from || p->offset > end + EXTENT_GAP || to - x->from > EXTENT_BYTES) return false;
    if (to > end) {
        if (w->buf_used + (to - end) > w->buf_bytes) return false;
        w->buf_used += to - end;
        x->bytes = to - x->from;
    }
    x->count++;
    return true;
}

static bool extent_new(struct work *w, const struct piece *p, uint32_t bytes, uint32_t i)
{
    uint32_t from = p->offset / SECTOR * SECTOR, to = (uint32_t)round_up64(p->offset + bytes, SECTOR);
    if (w->extent_count == EXTENTS || w->buf_used + (to - from) > w->buf_bytes) return false;
    struct extent *x = &w->extents[w->extent_count++];
    *x = (struct extent){
        .work = w, .first = i, .count = 1, .slot = p->slot, .from = from, .bytes = to - from, .buf = w->buf + w->buf_used};
    w->buf_used += to - from;
    return true;
}

static void fetch_start(struct work *w)
{
    struct store *s = w->store;
    w->pending = w->extent_count;
    for (uint32_t i = 0; i < w->extent_count; i++) {
        struct extent *x = &w->extents[i];
        struct device *d;
        uint64_t at;
        slot_where(s, x->slot, &d, &at);
        slot_reader_add(s, x->slot);
        x->op.done = extent_read;
        s->stats.device_reads++;
        io_read(s->io, d->file, at + x->from, x->buf, x->bytes, &x->op);
    }
}

static void restart(struct work *w)
{
    w->read->state = READ_RESOLVE;
    w->read->next = 0;
    w->piece_count = w->extent_count = 0;
    read_step(w);
}

/* Locates pieces and starts reading as many as there are buffers for; the rest follows when these are done. */
static void read_fetch(struct work *w)
{
    struct store *s = w->store;
    w->extent_count = w->buf_used = 0;
    w->located = 0;
    for (; w->located < w->piece_count; w->located++) {
        struct piece *p = &w->pieces[w->located];
        uint32_t bytes = place_units(p->place) * UNIT;
        const uint8_t *memory;
        enum located got = locate(s, place_address(p->place), &w->waiter, &p->slot, &p->offset, &memory);
        if (got == LOCATE_WAIT && w->extent_count == 0) return;
        if (got == LOCATE_WAIT) { /* read what is known; this one is looked up again then */
            list_remove(&w->waiter.link);
            w->waiter.waiting = false;
            break;
        }
        if (got == LOCATE_LOST && w->tries++ < 4) { /* overwritten and cleaned since it was resolved? look again */
            restart(w);
            return;
        }
        bool lost = got != LOCATED || memory || p->offset + bytes > s->segment_bytes;
        if (lost && w->located > 0) break; /* what comes before it is read first */
        if (lost) {
            read_end(w, ERR_MEDIUM, w->read->lba + p->block);
            return;
        }
        struct extent *last = w->extent_count ? &w->extents[w->extent_count - 1] : NULL;
        if (last && !w->alone && extent_join(w, last, p, bytes)) continue;
        if (!extent_new(w, p, bytes, w->located)) break;
    }
    fetch_start(w);
}

/* ---- RESOLVE ---- */

static void block_take(struct work *w, uint32_t block, uint64_t place, uint32_t tag)
{
    struct store *s = w->store;
    if (w->read->mapped) {
        w->read->mapped[block] = place != PLACE_NONE;
        return;
    }
    uint8_t *to = w->read->data + (size_t)block * BLOCK_SIZE;
    if (!place_is_chunk(place)) {
        memset(to, 0, BLOCK_SIZE);
        return;
    }
    const uint8_t *cached = w->read->media ? NULL : cache_find(s->blocks, place_address(place));
    if (cached) {
        s->stats.cache_hits++;
        memcpy(to, cached, BLOCK_SIZE);
        return;
    }
    s->stats.cache_misses += !w->read->media;
    w->pieces[w->piece_count++] = (struct piece){.place = place, .tag = tag, .block = block};
}

/* The same for an operation that the map does not know yet. False: ended. */
static bool resolve_prepared(struct work *w)
{
    struct store_read *read = w->read;
    const struct store_op *op = read->of;
    bool data = op->state == STORE_OP_PREPARED && op->kind == RECORD_DATA;
    if (!data || read->lba < op->lba || read->lba + read->count > op->lba + op->count) {
        read_end(w, data ? ERR_RANGE : ERR_ARGUMENT, read->lba);
        return false;
    }
    while (read->next < read->count) {
        uint32_t i = (uint32_t)(read->lba - op->lba) + read->next;
        if (op->what == ENTRY_NEW)
            block_take(w, read->next++, op->places[i], op->tags[i]);
        else
            block_take(w, read->next++, op->what == ENTRY_ZERO ? PLACE_ZERO : PLACE_NONE, 0);
    }
    return true;
}

/* False: parked, or ended. */
static bool read_resolve(struct work *w)
{
    struct store *s = w->store;
    struct store_read *read = w->read;
    if (read->of) return resolve_prepared(w);
    struct volume *v = volume_find(s, read->volume);
    if (!v || v->published == 0 || read->lba + read->count > v->blocks) {
        read_end(w, v && v->published ? ERR_RANGE : ERR_NO_VOLUME, read->lba);
        return false;
    }
    while (read->next < read->count) {
        uint64_t lba = read->lba + read->next, place = PLACE_NONE;
        uint32_t tag = 0;
        if (!delta_get(s, v, lba, &place, &tag)) {
            struct frame *f = NULL;
            enum err err = OK;
            enum map_got got = map_get(s, v, 0, lba / LEAF_BLOCKS, &w->waiter, &f, &err);
            if (got == MAP_WAIT) return false;
            if (got == MAP_FAILED) {
                read_end(w, err, lba);
                return false;
            }
            if (got == MAP_FOUND) {
                place = f->u.leaf.places[lba % LEAF_BLOCKS];
                tag = f->u.leaf.tags[lba % LEAF_BLOCKS];
            }
        }
        block_take(w, read->next++, place, tag);
    }
    return true;
}

static void read_step(struct work *w)
{
    struct store_read *read = w->read;
    switch (read->state) {
    case READ_RESOLVE:
        if (!read_resolve(w)) return;
        read->state = READ_FETCH;
        /* fall through */
    case READ_FETCH:
        if (w->piece_count == 0) {
            read_end(w, OK, 0);
            return;
        }
        read_fetch(w);
        return;
    default: assert(false);
    }
}

/* ---- the pool ---- */

static void pool_run(struct io_msg *msg)
{
    struct read_pool *p = CONTAINER(msg, struct read_pool, msg);
    p->sent = false;
    for (uint32_t i = 0; i < p->count && !list_empty(&p->queue); i++) {
        struct work *w = &p->works[i];
        if (w->read) continue;
        struct store_read *read = CONTAINER(list_pop(&p->queue), struct store_read, link);
        w->read = read;
        w->piece_count = w->extent_count = w->tries = 0;
        w->alone = false;
        read->work = w;
        read->state = READ_RESOLVE;
        read->next = 0;
        read_step(w);
    }
}

static void pool_kick(struct store *s)
{
    struct read_pool *p = s->reads;
    if (p->sent || list_empty(&p->queue)) return;
    p->sent = true;
    p->msg.handle = pool_run;
    io_send(s->io, &p->msg);
}

void store_read(struct store *s, struct store_read *read)
{
    assert(read->count > 0 && read->count <= STORE_READ_MAX);
    read->store = s;
    read->err = OK;
    list_push(&s->reads->queue, &read->link);
    pool_kick(s);
}
