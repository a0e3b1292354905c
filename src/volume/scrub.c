/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scrub is one task. While it reads, volumes come and go: each stretch looks its volume up again.
 */
#include "volume/scrub.h"

#include "volume/internal.h"

enum { STRETCH = 64 /* blocks */, FIRST_S = 3600, EVERY_S = 7 * 24 * 3600 };
#define QUICK_BYTES_PER_S ((uint64_t)256 << 20)
#define NEVER_NS UINT64_MAX

struct scrub {
    struct scrub_config config;
    struct io_task task, *closing;
    struct io_timer timer;
    uint64_t due_ns; /* when the next pass begins */
    bool asked, stopping, ended;
    struct scrub_status status;
    uint64_t passed_bytes; /* volumes that this pass is through with */
    /* the stretch at hand */
    struct store_read read;
    struct host_load load;
    bool over;
    enum err err;
    uint64_t bad;
    uint8_t *data;
};

/* ---- waiting ---- */

static void fires(struct io_timer *timer)
{
    io_task_wake(&CONTAINER(timer, struct scrub, timer)->task);
}

/* [task] */
static void pause_until(struct scrub *s, uint64_t due_ns, const bool *cut_short)
{
    uint64_t now;
    while (!s->stopping && !*cut_short && (now = io_now_ns(s->config.io)) < due_ns) {
        s->timer.fire = fires;
        if (due_ns != NEVER_NS) io_after(s->config.io, due_ns - now, &s->timer);
        io_task_park();
        io_cancel(s->config.io, &s->timer);
    }
}

/* ---- a stretch ---- */

static void stretch_over(struct scrub *s, enum err err, uint64_t bad)
{
    s->err = err;
    s->bad = bad;
    s->over = true;
    io_task_wake(&s->task);
}

static void read_done(struct store_read *read)
{
    stretch_over(CONTAINER(read, struct scrub, read), read->err, read->bad);
}

static void load_done(struct host_load *load)
{
    stretch_over(CONTAINER(load, struct scrub, load), load->err, load->bad);
}

/* [task] */
static void stretch_read(struct scrub *s, const struct volume *v, uint64_t lba, uint32_t count)
{
    s->over = false;
    if (v->host != NULL) {
        s->load = (struct host_load){.done = load_done, .lba = lba, .count = count, .data = s->data, .media = true};
        host_load(v->host, &s->load);
    } else {
        s->read =
            (struct store_read){.done = read_done, .volume = v->id, .lba = lba, .count = count, .data = s->data, .media = true};
        store_read(s->config.store, &s->read);
    }
    while (!s->over) io_task_park();
}

/* [task] Reads the blocks; what is damaged is passed over. */
static void stretch_check(struct scrub *s, uint32_t id, uint64_t lba, uint32_t count)
{
    const struct volume *v;
    uint64_t end = lba + count;
    while (lba < end && !s->stopping && (v = volumes_find(s->config.volumes, id)) != NULL) {
        uint64_t rate = s->config.bytes_per_s > 0 ? s->config.bytes_per_s : QUICK_BYTES_PER_S;
        uint64_t bytes = (end - lba) * BLOCK_SIZE, due_ns = io_now_ns(s->config.io) + bytes * IO_S_NS / rate;
        stretch_read(s, v, lba, (uint32_t)(end - lba));
        s->status.read_bytes += bytes;
        s->status.lost += s->err == ERR_MEDIUM;
        lba = s->err == ERR_MEDIUM ? s->bad + 1 : end;
        pause_until(s, due_ns, &s->stopping);
    }
}

/* ---- a pass ---- */

/* [task] From `lba` on, where there is anything. Where to go on; UINT64_MAX: that was all. */
static uint64_t stretch_next(struct scrub *s, uint32_t id, uint64_t lba)
{
    enum { EVER = 1 /* the sequence of the CREATE */ };
    struct store_changes there;
    if (store_changes_in(s->config.store, id, EVER, lba, STRETCH, &there) != OK) there = (struct store_changes){.changed = 1};
    const struct volume *v = volumes_find(s->config.volumes, id);
    if (v == NULL || lba >= v->blocks) return UINT64_MAX;
    uint32_t count = (uint32_t)min64(STRETCH, v->blocks - lba);
    if (there.changed > 0) stretch_check(s, id, lba, count);
    return max64(there.next, lba + count);
}

static uint64_t volumes_bytes(const struct volumes *all)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < all->count; i++) bytes += all->volume[i]->blocks * BLOCK_SIZE;
    return bytes;
}

/* [task] */
static void pass(struct scrub *s)
{
    const struct volume *v;
    s->status.lost = s->passed_bytes = s->status.at_bytes = 0;
    s->status.running = true;
    for (uint32_t id = 0; !s->stopping && (v = volumes_next(s->config.volumes, id)) != NULL; id++) {
        uint64_t bytes = v->blocks * BLOCK_SIZE;
        id = v->id;
        for (uint64_t lba = 0; lba != UINT64_MAX && !s->stopping; lba = stretch_next(s, id, lba)) {
            s->status.of_bytes = volumes_bytes(s->config.volumes);
            s->status.at_bytes = s->passed_bytes + lba * BLOCK_SIZE;
        }
        s->passed_bytes += bytes;
    }
    s->status.running = false;
    s->status.passes += !s->stopping;
}

/* ---- life ---- */

static void run(void *arg)
{
    struct scrub *s = arg;
    while (!s->stopping) {
        pause_until(s, s->due_ns, &s->asked);
        s->asked = false;
        if (s->config.bytes_per_s > 0) s->due_ns = io_now_ns(s->config.io) + EVERY_S * IO_S_NS;
        if (!s->stopping) pass(s);
    }
    s->ended = true;
    io_task_wake(s->closing);
}

enum err scrub_open(const struct scrub_config *config, struct scrub **ret_scrub)
{
    struct scrub *s = mem_alloc(config->mem, sizeof *s);
    uint8_t *data = mem_alloc(config->mem, (size_t)STRETCH * BLOCK_SIZE);
    if (s == NULL || data == NULL) {
        mem_free(config->mem, data);
        mem_free(config->mem, s);
        return ERR_NO_MEMORY;
    }
    s->config = *config;
    s->data = data;
    s->due_ns = config->bytes_per_s > 0 ? io_now_ns(config->io) + FIRST_S * IO_S_NS : NEVER_NS;
    enum err err = io_task_start(config->io, &s->task, run, s);
    if (err == OK) {
        *ret_scrub = s;
        return OK;
    }
    mem_free(config->mem, data);
    mem_free(config->mem, s);
    return err;
}

void scrub_close(struct scrub *s)
{
    if (s == NULL) return;
    s->stopping = true;
    s->closing = io_task_self();
    io_task_wake(&s->task);
    while (!s->ended) io_task_park();
    io_task_done(&s->task);
    mem_free(s->config.mem, s->data);
    mem_free(s->config.mem, s);
}

void scrub_begin(struct scrub *s)
{
    if (s->status.running) return;
    s->asked = true;
    io_task_wake(&s->task);
}

void scrub_status(const struct scrub *s, struct scrub_status *ret_status)
{
    *ret_status = s->status;
}
