/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A change, from call to done. write_step is the list of steps; it parks in each that has to wait and is called again.
 *
 *     LOCK     the blocks are its own (range.c)
 *     WORK     buffers for one record from the pool; waits when all are in use
 *     RECORD   the next stretch of blocks that one record of the log can carry
 *     COMPARE  compare-and-write: what is there now, and is it what was expected
 *     EDGES    a change of a part of a block: the rest of it, as of the predecessor
 *     DIGEST   hash and compress: a CPU job on any loop
 *     ORDER    sequence, PREPARE (durable), COMMIT, PUBLISH (order.c)
 *     END      or RECORD again
 *
 * The range lock is of this node. With replicas others write through other nodes, so a change that read its blocks (COMPARE,
 * EDGES) is ordered only if they still are what was read, else it begins again at RECORD.
 *
 * A request of up to VOLUME_WRITE_MAX is one record wherever the pool's segments are not tiny, and so all or nothing after a
 * crash; a compare-and-write always is.
 */
#include <string.h>

#include "volume/internal.h"

enum step {
    STEP_LOCK,
    STEP_WORK,
    STEP_RECORD,
    STEP_COMPARE,
    STEP_FIRST_EDGE,
    STEP_LAST_EDGE,
    STEP_DIGEST,
    STEP_ORDER,
    STEP_END
};

static uint64_t end_of(const struct volume_request *r)
{
    return r->offset + r->bytes;
}

/* Bytes of block `b` that the request does not cover, at its front and at its back. */
static uint32_t bare_front(const struct volume_request *r, uint64_t b)
{
    return b * BLOCK_SIZE < r->offset ? (uint32_t)(r->offset - b * BLOCK_SIZE) : 0;
}

static uint32_t bare_back(const struct volume_request *r, uint64_t b)
{
    return (b + 1) * BLOCK_SIZE > end_of(r) ? (uint32_t)((b + 1) * BLOCK_SIZE - end_of(r)) : 0;
}

static bool is_part(const struct volume_request *r, uint64_t b)
{
    return bare_front(r, b) + bare_back(r, b) > 0;
}

static bool has_data(const struct volume_request *r)
{
    return r->verb == VOLUME_WRITE || r->verb == VOLUME_COMPARE_WRITE;
}

/* The memory of the record at hand. */
static uint8_t *record_data(const struct volume_request *r)
{
    return has_data(r) ? r->data + (r->next - r->first) * BLOCK_SIZE : r->work->edge;
}

static void write_end(struct volume_request *r, enum err err)
{
    if (r->work != NULL && r->work != r->volume->late) work_give(r->volume, r->work);
    r->work = NULL;
    range_give(r->volume, r);
    request_end(r, err);
}

/* ---- RECORD ---- */

/* Blocks with data, blocks that become zero, or one block of which a part becomes zero. */
static void record_choose(struct volume_request *r)
{
    const struct volumes *all = r->volume->volumes;
    uint64_t left = r->first + r->count - r->next;
    r->what_unmap = false;
    if (has_data(r)) {
        r->now = (uint32_t)min64(left, all->write_max);
        return;
    }
    r->now = 1;
    if (is_part(r, r->next)) return;
    if (is_part(r, r->first + r->count - 1)) left--;
    /* Up to a multiple of unmap_max, so that all but the first are whole leaves. */
    r->now = (uint32_t)min64(left, all->unmap_max - r->next % all->unmap_max);
    r->what_unmap = true;
}

/* ---- COMPARE, EDGES ---- */

static void blocks_are_read(struct volume_request *r, enum err err, uint64_t bad)
{
    if (err != OK) {
        r->bad = bad * BLOCK_SIZE;
        write_end(r, err);
        return;
    }
    write_step(r);
}

static void blocks_read(struct store_read *read)
{
    blocks_are_read(CONTAINER(read, struct volume_request, read), read->err, read->bad);
}

static void blocks_loaded(struct host_load *load)
{
    blocks_are_read(CONTAINER(load, struct volume_request, load), load->err, load->bad);
}

static void blocks_allowed(struct host_read *allow)
{
    struct volume_request *r = CONTAINER(allow, struct volume_request, allow);
    if (allow->err != OK || r->volume->host == NULL) {
        write_end(r, allow->err != OK ? allow->err : ERR_AGAIN);
        return;
    }
    if (r->work->since == 0) r->work->since = allow->since; /* the oldest, when both edges are read */
    r->load = (struct host_load){.done = blocks_loaded, .lba = allow->lba, .count = allow->count, .data = r->work->room};
    host_load(r->volume->host, &r->load);
}

/* Of a volume with replicas others may change these blocks, on other nodes; so what was read is part of the change: it is
 * refused (ERR_CONFLICT) when it does not hold any more, and made again. */
static void blocks_fetch(struct volume_request *r, uint64_t block, uint32_t count)
{
    struct volume *v = r->volume;
    if (v->replica.number == 0) {
        r->read =
            (struct store_read){.done = blocks_read, .volume = v->id, .lba = block, .count = count, .data = r->work->room};
        store_read(v->volumes->store, &r->read);
    } else if (v->host == NULL) {
        write_end(r, ERR_AGAIN);
    } else {
        r->allow = (struct host_read){.done = blocks_allowed, .lba = block, .count = count};
        host_read(v->host, &r->allow);
    }
}

/* False: ended. */
static bool compare(struct volume_request *r)
{
    uint64_t skip = r->offset % BLOCK_SIZE;
    for (uint64_t i = 0; i < r->bytes; i++) {
        if (r->work->room[skip + i] == r->compare[skip + i]) continue;
        r->differs = i;
        write_end(r, ERR_MISCOMPARE);
        return false;
    }
    return true;
}

/* Completes a block that is covered in part with what was read of it. */
static void edge_merge(struct volume_request *r, uint64_t block)
{
    uint32_t front = bare_front(r, block), back = bare_back(r, block);
    const uint8_t *was = r->work->room;
    uint8_t *to = record_data(r) + (block - r->next) * BLOCK_SIZE;
    if (!has_data(r)) memset(to, 0, BLOCK_SIZE);
    memcpy(to, was, front);
    memcpy(to + BLOCK_SIZE - back, was + BLOCK_SIZE - back, back);
}

/* ---- DIGEST ---- */

/* Any thread: touches nothing but the request's own. */
static void digest_work(struct io_job *job)
{
    struct volume_work *w = CONTAINER(job, struct volume_work, job);
    const struct volume_request *r = w->request;
    const struct fingerprinter *key = store_key(r->volume->volumes->store);
    const uint8_t *data = record_data(r);
    w->zero = true;
    for (uint32_t i = 0; i < r->now; i++) {
        size_t at = (size_t)i * BLOCK_SIZE;
        digest_block(key, data + at, w->room + at, &w->digests[i]);
        w->zero = w->zero && w->digests[i].size == 0;
    }
}

static void digest_done(struct io_job *job)
{
    write_step(CONTAINER(job, struct volume_work, job)->request);
}

/* ---- ORDER ---- */

static void ordered(struct volume_work *w, enum err err)
{
    struct volume_request *r = w->request;
    /* A part of a block needs room for the rest of it; unmap has to work on a full pool, so this part stays as it is. */
    if (err == ERR_CONFLICT && !r->lost) { /* what was read of its blocks has changed: once more */
        r->state = STEP_RECORD;
        write_step(r);
        return;
    }
    bool leave_it = r->verb == VOLUME_UNMAP && !r->what_unmap && err_class(err) == ERR_CLASS_FULL;
    if (err != OK && !leave_it) {
        write_end(r, err);
        return;
    }
    r->next += r->now;
    r->state = r->next < r->first + r->count ? STEP_RECORD : STEP_END;
    write_step(r);
}

static void order(struct volume_request *r)
{
    struct volume_work *w = r->work;
    w->ordered = ordered;
    w->op = (struct store_op){.kind = RECORD_DATA, .lba = r->next, .count = r->now};
    if (!r->what_unmap && !w->zero) {
        w->op.what = ENTRY_NEW;
        w->op.digests = w->digests;
    } else {
        w->op.what = r->verb == VOLUME_UNMAP || r->verb == VOLUME_ZERO_UNMAP ? ENTRY_UNMAP : ENTRY_ZERO;
    }
    if (r->volume->replica.number != 0)
        order_replicated(r->volume, w);
    else
        order_start(r->volume, w);
}

/* ---- the story ---- */

void write_step(struct volume_request *r)
{
    struct volumes *all = r->volume->volumes;
    for (;;) {
        switch ((enum step)r->state) {
        case STEP_LOCK:
            r->state = STEP_WORK;
            if (!range_take(r->volume, r)) return;
            continue;
        case STEP_WORK:
            if (!work_take(r)) return;
            r->state = STEP_RECORD;
            continue;
        case STEP_RECORD:
            r->work->since = 0;
            record_choose(r);
            r->state = r->what_unmap ? STEP_ORDER : STEP_FIRST_EDGE;
            if (r->verb != VOLUME_COMPARE_WRITE) continue;
            r->state = STEP_COMPARE;
            blocks_fetch(r, r->first, (uint32_t)r->count);
            return;
        case STEP_COMPARE:
            if (!compare(r)) return;
            r->state = STEP_FIRST_EDGE;
            continue;
        case STEP_FIRST_EDGE:
            r->state = STEP_LAST_EDGE;
            if (!is_part(r, r->next)) continue;
            blocks_fetch(r, r->next, 1);
            return;
        case STEP_LAST_EDGE:
            if (is_part(r, r->next)) edge_merge(r, r->next);
            r->state = STEP_DIGEST;
            if (r->now == 1 || !is_part(r, r->next + r->now - 1)) continue;
            blocks_fetch(r, r->next + r->now - 1, 1);
            return;
        case STEP_DIGEST:
            if (r->now > 1 && is_part(r, r->next + r->now - 1)) edge_merge(r, r->next + r->now - 1);
            r->state = STEP_ORDER;
            r->work->job = (struct io_job){.work = digest_work, .done = digest_done, .cost_us = r->now * DIGEST_US};
            io_submit_job(all->io, &r->work->job);
            return;
        case STEP_ORDER: order(r); return;
        case STEP_END: write_end(r, OK); return;
        }
    }
}

void write_start(struct volume_request *r)
{
    r->work = NULL;
    r->next = r->first;
    r->state = STEP_LOCK;
    write_step(r);
}
