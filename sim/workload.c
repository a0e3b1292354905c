/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The workload: draws one action after the other, keeps the store's rules for callers, and tells the oracle.
 *
 * An operation's bytes are overwritten as soon as its `done` ran, its struct lives until it is published or discarded: a
 * store that looks at either too late is caught. An operation that fails for space or a limit takes with it those of its
 * volume behind it; the volume is numbered again from there once all of them are back (model `rejected`).
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "sim/lab.h"

static uint64_t below(struct lab *lab, uint64_t n)
{
    return prng_below(&lab->prng, n);
}

static bool chance(struct lab *lab, uint32_t per_million)
{
    return prng_chance(&lab->prng, per_million);
}

/* ---- operations ---- */

void workload_op_free(struct lab *lab, struct lab_op *lo)
{
    list_remove(&lo->link);
    list_push(&lab->free_ops, &lo->link);
}

static void buf_free(struct lab *lab, struct lab_op *lo)
{
    uint32_t blocks = lo->op.kind == RECORD_DATA && lo->op.what == ENTRY_NEW ? lo->op.count : 0;
    memset(lo->buf->data, 0xee, (size_t)blocks * BLOCK_SIZE);
    memset(lo->buf->room, 0xee, (size_t)blocks * BLOCK_SIZE);
    memset(lo->buf->digests, 0xee, blocks * sizeof lo->buf->digests[0]);
    memset(lo->buf->key, 0xee, sizeof lo->buf->key);
    list_push(&lab->free_bufs, &lo->buf->link);
    lo->buf = NULL;
}

static void publish_one(struct lab *lab, struct lab_volume *lv)
{
    struct lab_op *lo = CONTAINER(lv->queue.next, struct lab_op, link);
    assert(lo->done && lo->op.sequence == lv->model.now.sequence + 1);
    store_publish(lab->store, &lo->op);
    state_advance(&lv->model, &lv->model.now);
    lv->must = lv->model.now.sequence;
    memset(&lo->op, 0xee, sizeof lo->op);
    workload_op_free(lab, lo);
}

void workload_publish(struct lab *lab, uint32_t volume, uint64_t up_to)
{
    struct lab_volume *lv = &lab->volumes[volume];
    while (lv->model.now.sequence < up_to && !list_empty(&lv->queue)) {
        const struct lab_op *lo = CONTAINER(lv->queue.next, struct lab_op, link);
        if (!lo->done || (lv->model.rejected && lo->op.sequence >= lv->model.rejected)) break;
        publish_one(lab, lv);
    }
}

static void op_rejected(struct lab *lab, struct lab_op *lo)
{
    struct lab_volume *lv = &lab->volumes[lo->volume];
    struct model_volume *v = &lv->model;
    enum err err = lo->op.err;
    bool follows = v->rejected && lo->op.sequence > v->rejected;
    bool space = err == ERR_NO_SPACE || (err == ERR_LIMIT && lo->op.kind == RECORD_DATA && lo->op.count > 4);
    if (judge_error(lab, err) || err == ERR_POOL_FAILED) {
        if (!judge_error(lab, err))
            lab_fail(lab, "volume %u: %llu: %s", v->id, (unsigned long long)lo->op.sequence, err_name(err));
        lab->failed = lv->stuck = true;
        return;
    }
    if (!space && !(follows && (err == ERR_ORDER || err == ERR_NO_VOLUME || err == ERR_RANGE))) {
        lab_fail(lab, "volume %u: operation %llu failed: %s", v->id, (unsigned long long)lo->op.sequence, err_name(err));
        return;
    }
    if (err == ERR_NO_SPACE && lo->op.pledge) lab_fail(lab, "volume %u: no space for what was pledged", v->id);
    if (err == ERR_NO_SPACE) lab->full = true;
    if (err == ERR_LIMIT && lo->op.what == ENTRY_NEW) lab->write_max = min32(lab->write_max, lo->op.count - 1);
    if (!v->rejected || lo->op.sequence < v->rejected) v->rejected = lo->op.sequence;
}

static void op_done(struct store_op *op)
{
    struct lab_op *lo = CONTAINER(op, struct lab_op, op);
    struct lab *lab = lo->lab;
    struct lab_volume *lv = &lab->volumes[lo->volume];
    struct model_volume *v = &lv->model;
    assert(!lo->done && lv->under_way > 0);
    lo->done = true;
    lv->under_way--;
    buf_free(lab, lo);
    sim_note(lab->sim, op->sequence << 8 | op->err);
    if (op->learn) {
        learn_step_done(lab, lo);
        return;
    }
    if (op->err != OK) {
        sim_say(lab->sim, "volume %u: %llu failed: %s", v->id, (unsigned long long)op->sequence, err_name(op->err));
        op_rejected(lab, lo);
        return;
    }
    if (v->rejected && op->sequence > v->rejected) lab_fail(lab, "volume %u: acknowledged behind a failed operation", v->id);
    sim_say(lab->sim, "volume %u: %llu acknowledged", v->id, (unsigned long long)op->sequence);
    v->ops[op->sequence - 1].acked = ++lab->clock;
    if (v->acked < op->sequence) v->acked = op->sequence;
    if (lab->mix.inline_publish && chance(lab, lab->mix.inline_publish) && op->sequence == v->now.sequence + 1 &&
        !v->discarding)
        publish_one(lab, lv);
}

/* Whether a volume can take another operation now. */
static bool volume_takes(struct lab *lab, const struct lab_volume *lv, bool *ret_exists, uint64_t *ret_blocks)
{
    volume_tail(&lv->model, ret_exists, ret_blocks);
    bool busy = lv->model.discarding || lv->model.rejected || lv->stuck || lv->retired || lv->learn.on;
    return !busy && !lab->failed && !list_empty(&lab->free_ops) && !list_empty(&lab->free_bufs);
}

static uint32_t under_way(const struct lab *lab)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < lab->volume_count; i++) n += lab->volumes[i].under_way;
    return n;
}

static const char *op_text(const struct store_op *op)
{
    static const char *const kinds[] = {"?", "data", "state", "create", "delete", "resize", "discard", "noop", "graft", "move"};
    static const char *const whats[] = {"?", "write", "dup", "zero", "unmap"};
    return op->kind == RECORD_DATA ? whats[op->what] : kinds[op->kind];
}

/* Never lower than that of the operation before; but often than that of one which was discarded. */
static uint32_t draw_epoch(struct lab *lab, const struct model_volume *v)
{
    uint32_t before = v->count > 1 ? v->ops[v->count - 2].epoch : 1;
    return before + (below(lab, 8) == 0 ? 1 + (uint32_t)below(lab, 3) : 0);
}

struct lab_op *workload_op(struct lab *lab, uint32_t volume, const struct model_op *m)
{
    struct lab_volume *lv = &lab->volumes[volume];
    struct lab_op *lo = CONTAINER(list_pop(&lab->free_ops), struct lab_op, link);
    struct op_buf *buf = CONTAINER(list_pop(&lab->free_bufs), struct op_buf, link);
    memset(&lo->op, 0, sizeof lo->op);
    lo->lab = lab;
    lo->buf = buf;
    lo->volume = volume;
    lo->done = false;
    lo->op.done = op_done;
    lo->op.kind = m->kind;
    lo->op.what = m->what;
    lo->op.volume = lv->model.id;
    lo->op.epoch = m->epoch;
    lo->op.sequence = lv->model.count;
    lo->op.lba = m->lba;
    lo->op.count = m->count;
    lo->op.request = m->request;
    lo->op.boot = 7;
    lo->op.node = 1;
    if (m->kind == RECORD_DATA && m->what == ENTRY_NEW) {
        lo->op.digests = buf->digests;
        for (uint32_t i = 0; i < m->count; i++) {
            content_fill(m->contents[i], buf->data[i]);
            digest_block(store_key(lab->store), buf->data[i], buf->room[i], &buf->digests[i]);
        }
    }
    if (m->kind == RECORD_STATE || m->kind == RECORD_MOVE) {
        lo->op.key = buf->key;
        lo->op.key_bytes = key_fill(m->key, buf->key);
        lo->op.value = buf->value;
        lo->op.value_bytes = m->value ? value_fill(m->value, buf->value) : 0;
    }
    lo->op.learn = m->stamp > 0;
    if (m->stamp > 0) lo->op.sequence = m->stamp;
    lv->under_way++;
    list_push(&lv->queue, &lo->link);
    sim_note(lab->sim, lo->op.sequence << 32 | m->lba);
    sim_say(lab->sim, "volume %u: %s%llu %s %llu + %u", lv->model.id, m->stamp ? "learns " : "",
            (unsigned long long)lo->op.sequence, op_text(&lo->op), (unsigned long long)m->lba, m->count);
    return lo;
}

void workload_submit(struct lab *lab, uint32_t volume, struct model_op *m)
{
    workload_submit_pledged(lab, volume, m, NULL);
}

void workload_submit_pledged(struct lab *lab, uint32_t volume, struct model_op *m, struct store_pledge *pledge)
{
    m->epoch = draw_epoch(lab, &lab->volumes[volume].model);
    m->request = ++lab->request;
    m->submitted = ++lab->clock;
    struct lab_op *lo = workload_op(lab, volume, m);
    lo->op.pledge = pledge;
    store_prepare(lab->store, &lo->op);
}

/* ---- drawing operations ---- */

uint32_t workload_content(struct lab *lab)
{
    if (chance(lab, lab->mix.zero)) return 0;
    if (lab->recent_count > 0 && chance(lab, lab->mix.dup)) return lab->recent[below(lab, min32(lab->recent_count, 64))];
    uint32_t kind = (uint32_t)below(lab, 8);
    while (!(lab->mix.kinds >> kind & 1)) kind = (kind + 1) & 7;
    uint32_t content = ++lab->next_content << 3 | kind;
    lab->recent[lab->recent_count++ % 64] = content;
    return content;
}

uint32_t workload_stretch(struct lab *lab, const struct model_volume *v, uint64_t blocks, uint32_t most, uint64_t *ret_lba)
{
    const struct window *window = &v->windows[below(lab, v->window_count)];
    if (window->lba >= blocks) return 0;
    uint32_t there = (uint32_t)min64(window->count, blocks - window->lba);
    uint32_t hot = lab->mix.hot && below(lab, 8) ? min32(there, lab->mix.hot) : there;
    uint32_t at = (uint32_t)below(lab, hot);
    *ret_lba = window->lba + at;
    return 1 + (uint32_t)below(lab, min32(most, there - at));
}

static bool draw_volume(struct lab *lab, uint32_t *ret_volume, uint64_t *ret_blocks)
{
    if (lab->volume_count == 0) return false;
    uint32_t i = (uint32_t)below(lab, lab->volume_count);
    for (uint32_t n = 0; n < lab->volume_count; n++, i = (i + 1) % lab->volume_count) {
        bool exists;
        if (!volume_takes(lab, &lab->volumes[i], &exists, ret_blocks) || !exists) continue;
        *ret_volume = i;
        return true;
    }
    return false;
}

static void do_write(struct lab *lab)
{
    uint32_t i;
    uint64_t blocks, lba;
    struct store_pledge *pledge = lab->mix.pledges > 0 && below(lab, 2) ? pledge_of(lab) : NULL;
    if ((lab->full && !pledge) || under_way(lab) >= lab->mix.depth || !draw_volume(lab, &i, &blocks)) return;
    struct model_volume *v = &lab->volumes[i].model;
    uint32_t most = min32(lab->write_max, min32(lab->mix.blocks_max, RECORD_BLOCKS_MAX));
    if (pledge) most = min32(most, pledge->blocks);
    uint32_t count = workload_stretch(lab, v, blocks, most, &lba);
    if (count == 0) return;
    struct model_op *m = volume_submit(v);
    m->kind = RECORD_DATA;
    m->what = ENTRY_NEW;
    m->lba = lba;
    m->count = count;
    for (uint32_t k = 0; k < count; k++) m->contents[k] = workload_content(lab);
    workload_submit_pledged(lab, i, m, pledge);
}

static void do_clear(struct lab *lab, enum entry_kind what, bool all)
{
    uint32_t i;
    uint64_t blocks, lba = 0;
    if (under_way(lab) >= lab->mix.depth || !draw_volume(lab, &i, &blocks)) return;
    struct model_volume *v = &lab->volumes[i].model;
    uint32_t count = workload_stretch(lab, v, blocks, 64, &lba);
    if (count == 0) return;
    if (all && !lab->mix.delta_leaves) {
        const struct window *window = &v->windows[below(lab, v->window_count)];
        lba = window->lba < blocks ? window->lba : 0;
        lba -= min64(lba, below(lab, 600));
        count = (uint32_t)min64(blocks - lba, below(lab, 4) ? 1 + below(lab, 4000) : RECORD_UNMAP_MAX);
    }
    struct model_op *m = volume_submit(v);
    m->kind = RECORD_DATA;
    m->what = what;
    m->lba = lba;
    m->count = count;
    workload_submit(lab, i, m);
}

static void do_simple(struct lab *lab, enum record_kind kind)
{
    uint32_t i;
    uint64_t blocks;
    if (under_way(lab) >= lab->mix.depth || !draw_volume(lab, &i, &blocks)) return;
    struct model_volume *v = &lab->volumes[i].model;
    struct model_op *m = volume_submit(v);
    m->kind = kind;
    if (kind == RECORD_STATE) {
        m->key = (uint32_t)below(lab, KEYS);
        m->value = below(lab, 4) ? 1 + (uint32_t)below(lab, 1u << 30) : 0;
    }
    if (kind == RECORD_RESIZE) {
        const struct window *window = &v->windows[below(lab, v->window_count)];
        const struct window *last = &v->windows[v->window_count - 1];
        m->lba = max64(1, below(lab, 2) ? window->lba + below(lab, window->count + 1) : blocks + below(lab, 2000));
        if (below(lab, 4) == 0) m->lba = max64(m->lba, last->lba + last->count); /* whatever was cut off is there again */
    }
    workload_submit(lab, i, m);
}

/* Windows of a new volume: the first at 0, the others at the edges of leaves and of inner pages, far away, or anywhere. */
static void draw_windows(struct lab *lab, struct model_volume *v)
{
    static const uint64_t edges[] = {512, 1024, 512 * 128, 512 * 128 * 3, 512ull * 128 * 128, 5ull << 25};
    uint32_t left = (uint32_t)min64(lab->mix.volume_blocks, CELLS_MAX);
    uint64_t next = 0;
    for (uint32_t w = 0; w < lab->mix.windows && left > 0; w++) {
        uint32_t last = w + 1 == lab->mix.windows;
        uint32_t count = last ? left : 1 + (uint32_t)below(lab, left);
        uint64_t lba = w == 0 ? 0 : edges[below(lab, 6)] * (1 + below(lab, 3)) - below(lab, 40);
        lba = max64(lba, next);
        v->windows[v->window_count++] = (struct window){lba, count, v->cell_count};
        v->cell_count += count;
        left -= count;
        next = lba + count + below(lab, 1000);
    }
}

static void do_create(struct lab *lab)
{
    uint32_t alive = 0;
    uint64_t blocks;
    for (uint32_t i = 0; i < lab->volume_count; i++) {
        bool exists;
        volume_tail(&lab->volumes[i].model, &exists, &blocks);
        alive += exists;
    }
    if (alive >= lab->mix.alive || lab->volume_count == LAB_VOLUMES || lab->failed || under_way(lab) >= lab->mix.depth) return;
    if (list_empty(&lab->free_ops) || list_empty(&lab->free_bufs)) return;
    uint32_t i = lab->volume_count++;
    struct lab_volume *lv = &lab->volumes[i];
    struct model_volume *v = &lv->model;
    volume_init(v, i == 0 ? 1 + (uint32_t)below(lab, 3) : lab->volumes[i - 1].model.id + 1 + (uint32_t)below(lab, 2));
    lv->must = lv->digest_at = 0;
    lv->retired = lv->stuck = false;
    lv->under_way = 0;
    lv->learn.on = false;
    lv->learn.applied = lv->learn.given = lv->learn.count = lv->learn.turns = lv->learn.local = 0;
    list_init(&lv->queue);
    draw_windows(lab, v);
    const struct window *last = &v->windows[v->window_count - 1];
    struct model_op *m = volume_submit(v);
    m->kind = RECORD_CREATE;
    m->lba = last->lba + last->count + below(lab, 3) * below(lab, 700);
    workload_submit(lab, i, m);
}

/* ---- publishing and discarding ---- */

static void do_publish(struct lab *lab)
{
    for (uint32_t i = 0; i < lab->volume_count; i++) {
        struct lab_volume *lv = &lab->volumes[i];
        if (lv->retired || lv->stuck || lv->model.discarding || chance(lab, lab->mix.hold)) continue;
        uint64_t waiting = lv->model.acked - lv->model.now.sequence;
        if (waiting > 0) workload_publish(lab, i, lv->model.now.sequence + 1 + below(lab, waiting));
    }
}

static struct lab_task *free_task(struct lab *lab)
{
    for (int i = 0; i < LAB_TASKS; i++)
        if (!lab->tasks[i].used) return &lab->tasks[i];
    return NULL;
}

static void do_discard(struct lab *lab)
{
    struct lab_task *task = free_task(lab);
    if (!task || lab->volume_count == 0 || lab->failed) return;
    uint32_t i = (uint32_t)below(lab, lab->volume_count);
    struct lab_volume *lv = &lab->volumes[i];
    struct model_volume *v = &lv->model;
    if (lv->under_way > 0 || lv->retired || lv->stuck || lv->learn.on || v->discarding || v->rejected ||
        v->count == v->now.sequence)
        return;
    v->discarding = v->now.sequence + 1 + below(lab, v->count - v->now.sequence);
    lab_task_start(lab, task, TASK_DISCARD, i, v->discarding);
}

static void discard_ended(struct lab *lab, const struct lab_task *task)
{
    struct lab_volume *lv = &lab->volumes[task->volume];
    if (task->err != OK) {
        lv->stuck = true;
        return;
    }
    while (!list_empty(&lv->queue)) {
        struct lab_op *lo = CONTAINER(lv->queue.prev, struct lab_op, link);
        if (lo->op.sequence < task->sequence) break;
        memset(&lo->op, 0xee, sizeof lo->op);
        workload_op_free(lab, lo);
    }
    volume_forget_after(&lv->model, task->sequence - 1);
    lv->model.discarding = 0;
    if (task->sequence == 1) lv->retired = true;
}

/* ---- upkeep ---- */

static void do_task(struct lab *lab, enum task_kind kind)
{
    struct lab_task *task = free_task(lab);
    uint32_t i = 0;
    if (!task || lab->failed) return;
    if (kind == TASK_DIGEST || kind == TASK_CHANGED || kind == TASK_WALK) {
        if (lab->volume_count == 0) return;
        i = (uint32_t)below(lab, lab->volume_count);
        if (!lab->volumes[i].model.now.exists) return;
    }
    uint64_t sequence = below(lab, lab->volumes[i].model.now.sequence + 1);
    if (kind == TASK_WALK) sequence = max64(sequence, 1); /* since 0 is all, and that takes long */
    lab_task_start(lab, task, kind, i, sequence);
}

static void task_ended(struct lab *lab, struct lab_task *task)
{
    static const char *const names[] = {"format", "open",   "close",         "discard", "checkpoint", "flush and checkpoint",
                                        "clean",  "digest", "changed since", "walk",    "audit"};
    bool gone = task->err == ERR_NO_VOLUME && !lab->volumes[task->volume].model.now.exists;
    gone = gone || (task->kind == TASK_DIGEST && task->err == ERR_AGAIN);
    task->used = false;
    sim_note(lab->sim, task->err);
    sim_say(lab->sim, "%s ended: %s", names[task->kind], err_name(task->err));
    if (task->err == ERR_POOL_FAILED || (task->err != OK && judge_error(lab, task->err))) {
        if (!judge_error(lab, task->err)) lab_fail(lab, "%s: %s", names[task->kind], err_name(task->err));
        if (task->err == ERR_POOL_FAILED) lab->failed = true;
    } else if (task->err != OK && !gone) {
        lab_fail(lab, "%s: %s", names[task->kind], err_name(task->err));
    }
    if (task->kind == TASK_DISCARD) discard_ended(lab, task);
    if (task->kind == TASK_DIGEST && task->err == OK) judge_digest(lab, task);
    if (task->kind == TASK_CHANGED || task->kind == TASK_WALK) judge_changed(lab, task);
}

static void numbered_again(struct lab *lab, struct lab_volume *lv)
{
    struct model_volume *v = &lv->model;
    while (!list_empty(&lv->queue)) {
        struct lab_op *lo = CONTAINER(lv->queue.prev, struct lab_op, link);
        if (lo->op.sequence < v->rejected) break;
        workload_op_free(lab, lo);
    }
    if (v->acked >= v->rejected) lab_fail(lab, "volume %u: acknowledged behind a failed operation", v->id);
    if (v->rejected == 1) lv->retired = true;
    v->count = v->rejected - 1;
    v->rejected = 0;
}

void workload_collect(struct lab *lab)
{
    if (sim_is_off(lab->sim)) return;
    for (int i = 0; i < LAB_TASKS; i++)
        if (lab->tasks[i].used && lab->tasks[i].finished) task_ended(lab, &lab->tasks[i]);
    for (uint32_t i = 0; i < lab->volume_count; i++) {
        struct lab_volume *lv = &lab->volumes[i];
        if (lv->model.rejected && lv->under_way == 0 && !lv->stuck) numbered_again(lab, lv);
        if (lv->learn.on && lv->under_way == 0) learn_collect(lab, lv);
    }
}

/* ---- reads ---- */

static void read_wrong(struct lab *lab, const struct lab_read *read, uint64_t lba, uint32_t expected)
{
    const struct model_volume *v = &lab->volumes[read->volume].model;
    const uint8_t *block = read->data + (lba - read->read.lba) * BLOCK_SIZE;
    uint32_t claimed = content_claimed(block);
    lab_fail(lab, "volume %u block %llu: reads as %x%s instead of %x (states %llu to %llu)", v->id, (unsigned long long)lba,
             claimed, content_is(claimed, block) ? "" : ", damaged,", expected, (unsigned long long)read->from,
             (unsigned long long)v->now.sequence);
}

/* What took effect since the read was submitted, one after the other; NULL: that was all. */
static const struct model_op *meanwhile(const struct lab *lab, const struct lab_read *read, uint64_t i)
{
    const struct lab_volume *lv = &lab->volumes[read->volume];
    uint64_t steps = lv->learn.applied - read->learned;
    if (i < steps) return &lv->learn.steps[read->learned + i];
    uint64_t at = read->from + (i - steps);
    return at < lv->model.now.sequence ? &lv->model.ops[at] : NULL;
}

static bool block_is_legal(struct lab *lab, const struct lab_read *read, uint32_t i)
{
    const uint8_t *block = read->data + (size_t)i * BLOCK_SIZE;
    const struct model_op *op;
    uint32_t content = read->before[i];
    if (content_is(content, block)) return true;
    for (uint64_t k = 0; (op = meanwhile(lab, read, k)) != NULL; k++)
        if (op_touches(op, read->read.lba + i, &content) && content_is(content, block)) return true;
    read_wrong(lab, read, read->read.lba + i, content);
    return false;
}

/* Whether at some moment of the read the volume was not there, or smaller than this. */
static bool error_was_true(const struct lab *lab, const struct lab_read *read)
{
    uint64_t end = read->read.lba + read->read.count;
    bool gone = !read->existed, small = read->blocks < end;
    const struct model_op *op;
    for (uint64_t k = 0; (op = meanwhile(lab, read, k)) != NULL; k++) {
        if (op->kind == RECORD_DELETE) gone = true;
        if (op->kind == RECORD_RESIZE && op->lba < end) small = true;
    }
    return (read->read.err == ERR_NO_VOLUME && gone) || (read->read.err == ERR_RANGE && small);
}

static void read_done(struct store_read *r)
{
    struct lab_read *read = CONTAINER(r, struct lab_read, read);
    struct lab *lab = read->lab;
    uint64_t good = r->count;
    read->used = false;
    sim_note(lab->sim, r->err);
    if (r->err != OK) {
        sim_say(lab->sim, "read %llu + %u: %s, block %llu", (unsigned long long)r->lba, r->count, err_name(r->err),
                (unsigned long long)r->bad);
        if (error_was_true(lab, read)) return;
        if (!judge_error(lab, r->err)) {
            lab_fail(lab, "volume %u: read %llu + %u: %s at %llu", r->volume, (unsigned long long)r->lba, r->count,
                     err_name(r->err), (unsigned long long)r->bad);
            return;
        }
        bool names_block = r->err == ERR_MEDIUM || r->err == ERR_PAGE_DAMAGED;
        if (names_block && (r->bad < r->lba || r->bad >= r->lba + r->count))
            lab_fail(lab, "volume %u: read %llu + %u fails at %llu", r->volume, (unsigned long long)r->lba, r->count,
                     (unsigned long long)r->bad);
        return;
    }
    bool must_fail = !read->existed || read->blocks < r->lba + r->count;
    const struct model_op *op;
    for (uint64_t k = 0; (op = meanwhile(lab, read, k)) != NULL; k++)
        if (op->kind == RECORD_CREATE || op->kind == RECORD_RESIZE) must_fail = false;
    if (must_fail)
        lab_fail(lab, "volume %u: read %llu + %u succeeds beyond the end", r->volume, (unsigned long long)r->lba, r->count);
    for (uint32_t i = 0; i < good && !lab_failed(lab); i++) block_is_legal(lab, read, i);
}

struct lab_read *workload_read(struct lab *lab, uint32_t volume, uint64_t lba, uint32_t count, bool exact)
{
    struct model_volume *v = &lab->volumes[volume].model;
    struct lab_read *read = NULL;
    for (int i = 0; i < LAB_READS && !read; i++)
        if (!lab->reads[i].used) read = &lab->reads[i];
    if (!read) return NULL;
    memset(&read->read, 0, sizeof read->read);
    for (uint32_t i = 0; i < count; i++) memset(read->data + (size_t)i * BLOCK_SIZE, 0xa5, 64);
    read->lab = lab;
    read->used = true;
    read->exact = exact;
    read->volume = volume;
    read->from = v->now.sequence;
    read->learned = lab->volumes[volume].learn.applied;
    read->existed = v->now.exists;
    read->blocks = v->now.blocks;
    for (uint32_t i = 0; i < count; i++) read->before[i] = state_block(v, &v->now, lba + i);
    read->read.done = read_done;
    read->read.volume = v->id;
    read->read.lba = lba;
    read->read.count = count;
    read->read.data = read->data;
    if (!exact) sim_say(lab->sim, "volume %u: read %llu + %u", v->id, (unsigned long long)lba, count);
    store_read(lab->store, &read->read);
    return read;
}

static void do_read(struct lab *lab)
{
    if (lab->volume_count == 0) return;
    uint32_t i = (uint32_t)below(lab, lab->volume_count);
    struct model_volume *v = &lab->volumes[i].model;
    uint64_t lba;
    if (lab->volumes[i].retired || v->window_count == 0) return;
    uint64_t blocks = below(lab, 20) ? v->now.blocks : UINT64_MAX;
    uint32_t count = workload_stretch(lab, v, blocks, below(lab, 4) ? 16 : LAB_READ_BLOCKS, &lba);
    if (count > 0) workload_read(lab, i, lba, count, false);
}

/* ---- waiting ---- */

static bool is_quiet(void *arg)
{
    struct lab *lab = arg;
    if (lab_failed(lab)) return true;
    workload_collect(lab);
    for (uint32_t i = 0; i < lab->volume_count; i++)
        if (lab->volumes[i].under_way > 0 || (lab->volumes[i].model.discarding && !lab->volumes[i].stuck)) return false;
    for (int i = 0; i < LAB_READS; i++)
        if (lab->reads[i].used) return false;
    for (int i = 0; i < LAB_TASKS; i++)
        if (lab->tasks[i].used) return false;
    return true;
}

bool workload_drain(struct lab *lab)
{
    return lab_until(lab, is_quiet, lab, "operations, reads or tasks under way") && !sim_is_off(lab->sim) && !lab_failed(lab);
}

void workload_forget(struct lab *lab)
{
    for (uint32_t i = 0; i < lab->volume_count; i++) {
        struct lab_volume *lv = &lab->volumes[i];
        while (!list_empty(&lv->queue)) {
            struct lab_op *lo = CONTAINER(lv->queue.next, struct lab_op, link);
            if (lo->buf) list_push(&lab->free_bufs, &lo->buf->link);
            lo->buf = NULL;
            workload_op_free(lab, lo);
        }
        lv->under_way = 0;
    }
    for (int i = 0; i < LAB_READS; i++) lab->reads[i].used = false;
    for (int i = 0; i < LAB_TASKS; i++) {
        if (lab->tasks[i].used) io_task_done(&lab->tasks[i].task);
        lab->tasks[i].used = false;
    }
}

/* ---- full, and not any more ---- */

static uint64_t live_bytes(const struct lab *lab)
{
    uint64_t live = 0;
    for (uint32_t i = 0; i < lab->volume_count; i++) {
        const struct model_volume *v = &lab->volumes[i].model;
        for (uint32_t c = 0; c < v->cell_count; c++) live += v->now.cells[c] != 0 ? 4112 : 0;
    }
    return live;
}

static bool unmap_everything(struct lab *lab)
{
    for (uint32_t i = 0; i < lab->volume_count; i++) {
        struct model_volume *v = &lab->volumes[i].model;
        for (uint32_t w = 0; w < v->window_count; w++) {
            bool exists;
            uint64_t blocks;
            if (!workload_drain(lab)) return false;
            for (uint32_t k = 0; k < lab->volume_count; k++) workload_publish(lab, k, lab->volumes[k].model.acked);
            if (!volume_takes(lab, &lab->volumes[i], &exists, &blocks) || !exists || v->windows[w].lba >= blocks) continue;
            struct model_op *m = volume_submit(v);
            m->kind = RECORD_DATA;
            m->what = below(lab, 2) ? ENTRY_UNMAP : ENTRY_ZERO;
            m->lba = v->windows[w].lba;
            m->count = (uint32_t)min64(v->windows[w].count, blocks - m->lba);
            workload_submit(lab, i, m);
        }
    }
    if (!workload_drain(lab)) return false;
    for (uint32_t i = 0; i < lab->volume_count; i++) workload_publish(lab, i, lab->volumes[i].model.acked);
    return true;
}

/* The pool said that it is full: reads work, unmaps work, and then space comes back, by asking the cleaner or by itself. */
void workload_relieve(struct lab *lab)
{
    struct store_stats stats;
    if (!workload_drain(lab)) return;
    store_stats(lab->store, &stats);
    uint64_t pool = stats.slots * stats.segment_bytes;
    sim_say(lab->sim, "full: %llu of %llu bytes are live", (unsigned long long)live_bytes(lab), (unsigned long long)pool);
    do_read(lab);
    for (uint32_t i = 0; i < 4 * lab->mix.pledges && !lab->failed; i++) {
        do_write(lab); /* what was pledged; nothing of it is decided before all of it is there */
        sim_run_for(lab->sim, 1 + below(lab, lab->mix.pause), 1000000000);
    }
    if (!workload_drain(lab)) return;
    if (!unmap_everything(lab) || lab->failed) return;
    bool ask = below(lab, 2);
    for (int round = 0; round < 8 && !lab_failed(lab); round++) {
        lab->full = false;
        if (ask)
            do_task(lab, TASK_CLEAN);
        else
            sim_run_for(lab->sim, 20000, 20000000000u);
        if (!workload_drain(lab)) return;
        uint64_t before = lab->request;
        for (int tries = 0; tries < 40 && lab->request == before; tries++) do_write(lab);
        if (!workload_drain(lab)) return;
        if (!lab->full) return;
    }
    store_stats(lab->store, &stats);
    /* A map page that cannot be read stops the cleaner (docs/architecture.md, what falls short), and the store counts it. */
    if (live_bytes(lab) < pool / 8 && stats.medium_errors == 0)
        lab_fail(lab, "space does not come back: %llu of %llu bytes are live", (unsigned long long)live_bytes(lab),
                 (unsigned long long)pool);
    lab->full = false;
}

/* ---- one step ---- */

static enum action draw_action(struct lab *lab)
{
    uint64_t draw = below(lab, lab->mix.total);
    for (int i = 0; i < ACTIONS; i++) {
        if (draw < lab->mix.weights[i]) return (enum action)i;
        draw -= lab->mix.weights[i];
    }
    return DO_WRITE;
}

void workload_first_volume(struct lab *lab)
{
    do_create(lab);
}

/* What is not for history.c: reopening and cutting. */
void workload_step(struct lab *lab)
{
    workload_collect(lab);
    if (lab_failed(lab) || sim_is_off(lab->sim)) return;
    if (lab->full) {
        workload_relieve(lab);
        return;
    }
    switch (draw_action(lab)) {
    case DO_WRITE: do_write(lab); break;
    case DO_ZERO: do_clear(lab, ENTRY_ZERO, below(lab, 8) == 0); break;
    case DO_UNMAP: do_clear(lab, ENTRY_UNMAP, false); break;
    case DO_UNMAP_ALL: do_clear(lab, ENTRY_UNMAP, true); break;
    case DO_STATE: do_simple(lab, RECORD_STATE); break;
    case DO_NOOP: do_simple(lab, RECORD_NOOP); break;
    case DO_CREATE: do_create(lab); break;
    case DO_DELETE:
        if (lab->volume_count > 1) do_simple(lab, RECORD_DELETE);
        break;
    case DO_RESIZE: do_simple(lab, RECORD_RESIZE); break;
    case DO_READ: do_read(lab); break;
    case DO_PUBLISH: do_publish(lab); break;
    case DO_DISCARD: do_discard(lab); break;
    case DO_LEARN: learn_some(lab); break;
    case DO_CHECKPOINT: do_task(lab, TASK_CHECKPOINT); break;
    case DO_FLUSH: do_task(lab, TASK_FLUSH); break;
    case DO_CLEAN: do_task(lab, TASK_CLEAN); break;
    case DO_DIGEST: do_task(lab, TASK_DIGEST); break;
    case DO_CHANGED: do_task(lab, below(lab, 2) ? TASK_WALK : TASK_CHANGED); break;
    case DO_WAIT: workload_drain(lab); break;
    case DO_SLEEP: sim_run_for(lab->sim, 2000, (uint64_t)1000000 << below(lab, 16)); break;
    case DO_CUT: sim_power_cut(lab->sim); break;
    case DO_REOPEN: lab->reopen = true; return;
    case ACTIONS: break;
    }
    if (!sim_is_off(lab->sim)) sim_run_for(lab->sim, 1 + below(lab, lab->mix.pause), 1000000000);
}
