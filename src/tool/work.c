/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations of one volume enter the store in the order of their sequences, whatever order their digests come back in: they
 * stand in one queue, and its head waits for its digest. When one fails, the store refuses those behind it with ERR_ORDER;
 * the first failure is the one that is told.
 */
#include "tool/work.h"

struct work_volume {
    uint32_t id, epoch;
    uint64_t next; /* sequence */
};

struct work {
    struct work_config config;
    struct work_op *ops;
    uint32_t under_way; /* taken and not free again */
    struct list free;
    struct list order; /* submitted, not prepared yet, by sequence */
    struct io_task *waiting;
    bool pumping;
    enum err err; /* first failure */
    uint64_t err_lba;
    struct work_volume volumes[WORK_VOLUMES_MAX];
    uint32_t volume_count;
};

/* ---- life ---- */

enum err work_open(const struct work_config *config, struct work **ret_work)
{
    struct work *w = mem_alloc(config->mem, sizeof *w);
    if (w == NULL) return ERR_NO_MEMORY;
    w->config = *config;
    if (w->config.blocks == 0) w->config.blocks = store_write_max(config->store);
    if (w->config.zeros == 0) w->config.zeros = ENTRY_ZERO;
    list_init(&w->free);
    list_init(&w->order);
    w->ops = mem_alloc(config->mem, config->depth * sizeof *w->ops);
    if (w->ops == NULL) return ERR_NO_MEMORY;
    for (uint32_t i = 0; i < config->depth; i++) {
        struct work_op *op = &w->ops[i];
        op->work = w;
        op->data = mem_alloc(config->mem, (size_t)w->config.blocks * BLOCK_SIZE);
        op->room = mem_alloc(config->mem, (size_t)w->config.blocks * BLOCK_SIZE);
        if (op->data == NULL || op->room == NULL) return ERR_NO_MEMORY;
        list_push(&w->free, &op->link);
    }
    *ret_work = w;
    return OK;
}

void *work_arg(const struct work *w)
{
    return w->config.arg;
}

/* ---- taking and giving back ---- */

static void work_wait(struct work *w)
{
    assert(w->waiting == NULL);
    w->waiting = io_task_self();
    io_task_park();
    w->waiting = NULL;
}

struct work_op *work_take(struct work *w)
{
    while (list_empty(&w->free) && w->err == OK) work_wait(w);
    if (w->err != OK) return NULL;
    struct work_op *op = CONTAINER(list_pop(&w->free), struct work_op, link);
    w->under_way++;
    op->err = OK;
    op->mark = 0;
    op->digested = false;
    return op;
}

void work_release(struct work *w, struct work_op *op, enum err err)
{
    if (err != OK && (w->err == OK || w->err == ERR_ORDER)) {
        w->err = err;
        w->err_lba = op->lba;
    }
    assert(w->under_way > 0);
    w->under_way--;
    list_push_front(&w->free, &op->link);
    if (w->waiting != NULL) io_task_wake(w->waiting);
}

enum err work_drain(struct work *w, uint64_t *ret_lba)
{
    while (w->under_way > 0) work_wait(w);
    if (ret_lba != NULL) *ret_lba = w->err_lba;
    return w->err;
}

void work_resume(struct work *w)
{
    assert(w->under_way == 0);
    w->err = OK;
    w->volume_count = 0;
}

/* ---- an operation's way ---- */

static struct work_volume *volume_of(struct work *w, uint32_t id)
{
    struct store_volume_info info;
    for (uint32_t i = 0; i < w->volume_count; i++) {
        if (w->volumes[i].id == id) return &w->volumes[i];
    }
    if (store_volume_next(w->config.store, id, &info) != OK || info.id != id) return NULL;
    assert(w->volume_count < WORK_VOLUMES_MAX);
    struct work_volume *v = &w->volumes[w->volume_count++];
    *v = (struct work_volume){.id = id, .epoch = info.epoch, .next = info.prepared + 1};
    return v;
}

uint64_t work_next_sequence(struct work *w, uint32_t volume)
{
    const struct work_volume *v = volume_of(w, volume);
    return v != NULL ? v->next : 0;
}

static void op_finish(struct work_op *op, enum err err)
{
    struct work *w = op->work;
    op->err = err;
    if (w->config.done != NULL) w->config.done(op);
    work_release(w, op, err);
}

static void prepared(struct store_op *sop)
{
    struct work_op *op = CONTAINER(sop, struct work_op, op);
    if (sop->err == OK) store_publish(op->work->config.store, sop);
    op_finish(op, sop->err);
}

static void pump(struct work *w)
{
    if (w->pumping) return;
    w->pumping = true;
    while (!list_empty(&w->order)) {
        struct work_op *op = CONTAINER(w->order.next, struct work_op, link);
        if (!op->ready) break;
        list_remove(&op->link);
        if (op->zero) op->op.what = w->config.zeros;
        store_prepare(w->config.store, &op->op);
    }
    w->pumping = false;
}

/* Any thread: touches nothing but the operation's own. */
static void digest_work(struct io_job *job)
{
    struct work_op *op = CONTAINER(job, struct work_op, job);
    const struct fingerprinter *key = store_key(op->work->config.store);
    op->zero = true;
    for (uint32_t i = 0; i < op->count; i++) {
        size_t at = (size_t)i * BLOCK_SIZE;
        digest_block(key, op->data + at, op->room + at, &op->digests[i]);
        op->zero = op->zero && op->digests[i].size == 0;
    }
}

static void digest_done(struct io_job *job)
{
    struct work_op *op = CONTAINER(job, struct work_op, job);
    op->ready = true;
    pump(op->work);
}

void work_submit(struct work *w, struct work_op *op)
{
    struct work_volume *v = volume_of(w, op->volume);
    if (v == NULL) {
        op_finish(op, ERR_NO_VOLUME);
        return;
    }
    assert(op->what != ENTRY_NEW || op->count <= w->config.blocks);
    op->sequence = v->next++;
    op->zero = false;
    op->ready = op->what != ENTRY_NEW || op->digested;
    op->op = (struct store_op){.done = prepared,
                               .kind = RECORD_DATA,
                               .what = op->what,
                               .volume = op->volume,
                               .epoch = v->epoch,
                               .sequence = op->sequence,
                               .lba = op->lba,
                               .count = op->count,
                               .digests = op->digests};
    list_push(&w->order, &op->link);
    if (op->ready) {
        pump(w);
        return;
    }
    op->job = (struct io_job){.work = digest_work, .done = digest_done, .cost_us = op->count * DIGEST_US};
    io_submit_job(w->config.io, &op->job);
}

/* ---- volumes as a whole ---- */

struct change {
    struct store_op op;
    struct io_task *task;
    bool finished;
};

static void change_done(struct store_op *op)
{
    struct change *c = CONTAINER(op, struct change, op);
    c->finished = true;
    io_task_wake(c->task);
}

enum err work_change(struct io *io, struct store *store, enum record_kind kind, uint32_t volume, uint64_t blocks)
{
    struct store_volume_info info = {0};
    struct change c = {.task = io_task_self()};
    assert(io_is_current(io) && c.task != NULL);
    if (kind != RECORD_CREATE && (store_volume_next(store, volume, &info) != OK || info.id != volume)) return ERR_NO_VOLUME;
    c.op = (struct store_op){
        .done = change_done, .kind = kind, .volume = volume, .epoch = info.epoch, .sequence = info.prepared + 1, .lba = blocks};
    store_prepare(store, &c.op);
    while (!c.finished) io_task_park();
    if (c.op.err == OK) store_publish(store, &c.op);
    return c.op.err;
}
