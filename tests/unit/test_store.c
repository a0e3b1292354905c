/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the store on the real seam, from format to reopening, on a small file pool.
 * Method: one task drives a pool of small segments; a model array says what every block must hold. Content is made from
 * (seed, kind), so that some blocks repeat, some are zero, some do not compress.
 */
#define _GNU_SOURCE
#include "check.h"
#include "store/internal.h" /* before mman.h, which has a MAP_FAILED of its own */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/prng.h"
#include "store/store.h"

enum { BLOCKS = 3000, FLIGHT = 16, WRITE_MAX = 8, KNOWN = 30000 /* content of 4 KiB */ };

struct flight {
    struct store_op op;
    struct block_digest digests[WRITE_MAX];
    uint8_t data[WRITE_MAX][BLOCK_SIZE], room[WRITE_MAX][BLOCK_SIZE];
    struct test *test;
    bool busy, prepared;
};

struct test {
    struct io *io;
    struct store *store;
    struct io_task task, *self;
    struct prng prng;
    uint64_t sequence;
    uint32_t model[BLOCKS];
    struct flight flights[FLIGHT];
    uint32_t busy;
    bool (*body)(struct test *t);
    bool good;
    uint32_t delta_leaves;
    char path[64];
    struct io_group *group;
};

static pid_t owner;    /* names the pool; 0: this process */
static uint32_t *kept; /* the model of a process that ended, in shared memory */

static void content(uint32_t seed, uint8_t *block)
{
    struct prng p;
    memset(block, 0, BLOCK_SIZE);
    if (seed == 0) return;
    prng_init(&p, seed);
    prng_fill(&p, block, seed % 3 == 0 ? BLOCK_SIZE : 512 + seed % 2048);
}

/* Publishes in order of sequence, whatever order they became durable in. */
static void publish_ready(struct test *t)
{
    for (bool more = true; more;) {
        more = false;
        for (uint32_t i = 0; i < FLIGHT; i++) {
            struct flight *f = &t->flights[i];
            struct store_volume_info info;
            if (!f->busy || !f->prepared) continue;
            if (f->op.kind != RECORD_CREATE &&
                (store_volume_next(t->store, 1, &info) != OK || info.published + 1 != f->op.sequence))
                continue;
            store_publish(t->store, &f->op);
            f->busy = f->prepared = false;
            t->busy--;
            more = true;
        }
    }
}

static void prepared(struct store_op *op)
{
    struct flight *f = CONTAINER(op, struct flight, op);
    struct test *t = f->test;
    if (op->err != OK) {
        printf("# op %u seq %llu: %s\n", op->kind, (unsigned long long)op->sequence, err_name(op->err));
        t->good = false;
        f->busy = false;
        t->busy--;
    } else {
        f->prepared = true;
        publish_ready(t);
    }
    io_task_wake(t->self);
}

static struct flight *take(struct test *t)
{
    for (;;) {
        for (uint32_t i = 0; i < FLIGHT; i++) {
            struct flight *f = &t->flights[i];
            if (f->busy) continue;
            f->busy = true;
            f->prepared = false;
            f->test = t;
            f->op = (struct store_op){.done = prepared, .volume = 1, .epoch = 1, .sequence = ++t->sequence};
            t->busy++;
            return f;
        }
        io_task_park();
    }
}

static void quiet(struct test *t)
{
    while (t->busy) io_task_park();
}

static void create(struct test *t)
{
    struct flight *f = take(t);
    f->op.kind = RECORD_CREATE;
    f->op.lba = BLOCKS;
    store_prepare(t->store, &f->op);
    quiet(t);
}

static void write_some(struct test *t, uint32_t ops)
{
    for (uint32_t n = 0; n < ops && t->good; n++) {
        uint32_t count = 1 + (uint32_t)prng_below(&t->prng, WRITE_MAX), lba = (uint32_t)prng_below(&t->prng, BLOCKS - 600);
        struct flight *f = take(t);
        f->op.kind = RECORD_DATA;
        f->op.lba = lba;
        if (prng_below(&t->prng, 20) == 0) {
            f->op.what = ENTRY_UNMAP;
            f->op.count = 1 + (uint32_t)prng_below(&t->prng, 600);
            for (uint32_t i = 0; i < f->op.count; i++) t->model[lba + i] = 0;
        } else {
            f->op.what = ENTRY_NEW;
            f->op.count = count;
            f->op.digests = f->digests;
            for (uint32_t i = 0; i < count; i++) {
                uint32_t seed = prng_below(&t->prng, 10) == 0 ? 0 : (uint32_t)prng_below(&t->prng, 20000);
                t->model[lba + i] = seed;
                content(seed, f->data[i]);
                digest_block(store_key(t->store), f->data[i], f->room[i], &f->digests[i]);
            }
        }
        store_prepare(t->store, &f->op);
    }
    quiet(t);
}

struct reading {
    struct store_read read;
    struct test *test;
    bool done;
};

static void reading_done(struct store_read *read)
{
    struct reading *r = CONTAINER(read, struct reading, read);
    r->done = true;
    io_task_wake(r->test->self);
}

static bool verify(struct test *t)
{
    static uint8_t data[64 * BLOCK_SIZE], want[BLOCK_SIZE];
    for (uint32_t lba = 0; lba < BLOCKS; lba += 50) {
        struct reading r = {.read = {.done = reading_done, .volume = 1, .lba = lba, .count = 50, .data = data}, .test = t};
        store_read(t->store, &r.read);
        while (!r.done) io_task_park();
        if (r.read.err != OK) {
            printf("# read at %u: %s bad %llu\n", lba, err_name(r.read.err), (unsigned long long)r.read.bad);
            return false;
        }
        for (uint32_t i = 0; i < 50; i++) {
            content(t->model[lba + i], want);
            if (memcmp(want, data + (size_t)i * BLOCK_SIZE, BLOCK_SIZE) == 0) continue;
            printf("# block %u differs\n", lba + i);
            return false;
        }
    }
    return true;
}

static enum err open_pool(struct test *t)
{
    struct store_config config = {.device_count = 1, .memory = 48u << 20, .discard = true, .delta_leaves = t->delta_leaves};
    struct store_problem problem;
    config.devices[0].path = t->path;
    enum err err = store_open(t->io, &config, &t->store, &problem);
    if (err != OK) printf("# open: %s: %s\n", err_name(err), problem.text);
    return err;
}

static bool text(struct test *t, const char *when)
{
    char buf[400];
    printf("# %s: %s\n", when, store_text(t->store, buf, sizeof buf));
    return true;
}

static bool life(struct test *t)
{
    struct store_format_config fc = {.device_count = 1, .size = 24u << 20, .segment_shift = 16};
    fc.devices[0] = (struct store_device_config){t->path, DEVICE_FLASH};
    if (store_format(t->io, &fc) != OK) return false;
    if (open_pool(t) != OK) return false;
    create(t);
    for (uint32_t round = 0; round < 12 && t->good; round++) {
        write_some(t, 600);
        text(t, "written");
        if (!t->good || !verify(t)) return false;
        if (round % 3 == 2) {
            enum err err = store_close(t->store);
            if (err != OK) printf("# close: %s\n", err_name(err));
            if (err != OK || open_pool(t) != OK) return false;
            text(t, "reopened");
            if (!verify(t)) return false;
        }
        if (round == 7) {
            uint32_t gained = 0;
            if (store_clean(t->store, &gained) != OK) return false;
            printf("# cleaned %u\n", gained);
        }
    }
    return t->good && store_close(t->store) == OK;
}

/* Equal blocks in one operation are stored once, zeros among them not at all, and all of them read back. */
static bool repeats(struct test *t)
{
    static const uint32_t seeds[WRITE_MAX] = {5, 9, 5, 0, 0, 9, 7, 5};
    struct store_format_config fc = {.device_count = 1, .size = 24u << 20, .segment_shift = 16};
    fc.devices[0] = (struct store_device_config){t->path, DEVICE_FLASH};
    if (store_format(t->io, &fc) != OK || open_pool(t) != OK) return false;
    create(t);
    struct store_stats before, after;
    store_stats(t->store, &before);
    struct flight *f = take(t);
    f->op.kind = RECORD_DATA;
    f->op.what = ENTRY_NEW;
    f->op.lba = 100;
    f->op.count = WRITE_MAX;
    f->op.digests = f->digests;
    for (uint32_t i = 0; i < WRITE_MAX; i++) {
        t->model[100 + i] = seeds[i];
        content(seeds[i], f->data[i]);
        digest_block(store_key(t->store), f->data[i], f->room[i], &f->digests[i]);
    }
    store_prepare(t->store, &f->op);
    quiet(t);
    store_stats(t->store, &after);
    bool counted = after.new_blocks - before.new_blocks == 3 && after.dup_blocks - before.dup_blocks == 3 &&
                   after.zero_blocks - before.zero_blocks == 2;
    if (!counted || !verify(t)) return false;
    return store_close(t->store) == OK && open_pool(t) == OK && verify(t) && store_close(t->store) == OK;
}

/* In a process of its own, which ends like a killed one. */
static bool write_and_die(struct test *t)
{
    struct store_format_config fc = {.device_count = 1, .size = 256u << 20, .segment_shift = 20};
    fc.devices[0] = (struct store_device_config){t->path, DEVICE_FLASH};
    if (store_format(t->io, &fc) != OK || open_pool(t) != OK) _exit(1);
    create(t);
    write_some(t, 1200);
    memcpy(kept, t->model, sizeof t->model);
    _exit(t->good ? 0 : 1);
}

/* What was in the delta is more than the next life has room for: replay flushes, beside what it has not read yet. */
static bool replay_flushes(struct test *t)
{
    struct store_stats stats;
    memcpy(t->model, kept, sizeof t->model);
    t->delta_leaves = 128;
    if (open_pool(t) != OK) return false;
    for (struct store_op *op; (op = store_prepared(t->store, 1)) != NULL;) store_publish(t->store, op);
    store_stats(t->store, &stats);
    printf("# %llu records replayed, %llu leaves flushed\n", (unsigned long long)stats.replayed_records,
           (unsigned long long)stats.leaf_flushes);
    return stats.leaf_flushes > 0 && verify(t) && store_close(t->store) == OK && open_pool(t) == OK && verify(t) &&
           store_close(t->store) == OK;
}

/* Six leaves written all over, through three replay windows: each is flushed when it is a window old, not all the time. */
static bool flushes_seldom(struct test *t)
{
    struct store_format_config fc = {.device_count = 1, .size = 64u << 20, .segment_shift = 16};
    fc.devices[0] = (struct store_device_config){t->path, DEVICE_FLASH};
    if (store_format(t->io, &fc) != OK || open_pool(t) != OK) return false;
    create(t);
    write_some(t, 5000);
    struct store_stats stats;
    store_stats(t->store, &stats);
    uint64_t windows = stats.head_bytes / (stats.slots / 8 * stats.segment_bytes), leaves = BLOCKS / 512 + 1;
    printf("# %llu windows, %llu leaves flushed, %llu checkpoints\n", (unsigned long long)windows,
           (unsigned long long)stats.leaf_flushes, (unsigned long long)stats.checkpoints);
    if (windows < 2 || stats.leaf_flushes < leaves || stats.leaf_flushes > (windows + 1) * leaves * 2) return false;
    return stats.checkpoints > 1 && verify(t) && store_close(t->store) == OK;
}

static void write_new(struct test *t, uint64_t lba, uint32_t count)
{
    struct flight *f = take(t);
    f->op.kind = RECORD_DATA;
    f->op.what = ENTRY_NEW;
    f->op.lba = lba;
    f->op.count = count;
    f->op.digests = f->digests;
    for (uint32_t i = 0; i < count; i++) {
        prng_fill(&t->prng, f->data[i], BLOCK_SIZE);
        digest_block(store_key(t->store), f->data[i], f->room[i], &f->digests[i]);
    }
    store_prepare(t->store, &f->op);
}

/* Four fifths of what slots hold (14 blocks each), of data that does not compress; then single blocks all over, until the log
 * has come around: each slot has a few dead blocks, and the cleaner has to make space from those. */
static bool overwrites(struct test *t)
{
    enum { SLOTS = 1024, SLOT = 65536, LIVE = SLOTS / 5 * 4 * 14 / WRITE_MAX * WRITE_MAX, OVERWRITES = 2000 };
    struct store_format_config fc = {.device_count = 1, .size = (uint64_t)(SLOTS + 8) * SLOT, .segment_shift = 16};
    fc.devices[0] = (struct store_device_config){t->path, DEVICE_FLASH};
    if (store_format(t->io, &fc) != OK || open_pool(t) != OK) return false;
    struct flight *f = take(t);
    f->op.kind = RECORD_CREATE;
    f->op.lba = LIVE;
    store_prepare(t->store, &f->op);
    quiet(t);
    for (uint32_t lba = 0; lba < LIVE && t->good; lba += WRITE_MAX) write_new(t, lba, WRITE_MAX);
    for (uint32_t n = 0; n < OVERWRITES && t->good; n++) write_new(t, prng_below(&t->prng, LIVE), 1);
    quiet(t);
    struct store_stats stats;
    store_stats(t->store, &stats);
    printf("# %llu of %llu slots free, %llu cleaned\n", (unsigned long long)stats.slots_free, (unsigned long long)stats.slots,
           (unsigned long long)stats.slots_cleaned);
    return t->good && stats.slots_cleaned > 0 && store_close(t->store) == OK;
}

/* One block that does not compress, the same each time. */
static void write_known(struct test *t, uint64_t lba)
{
    struct flight *f = take(t);
    f->op.kind = RECORD_DATA;
    f->op.what = ENTRY_NEW;
    f->op.lba = lba;
    f->op.count = 1;
    f->op.digests = f->digests;
    content(KNOWN, f->data[0]);
    digest_block(store_key(t->store), f->data[0], f->room[0], &f->digests[0]);
    store_prepare(t->store, &f->op);
    quiet(t);
}

static enum err read_known(struct test *t, uint64_t lba)
{
    static uint8_t data[BLOCK_SIZE], want[BLOCK_SIZE];
    struct reading r = {.read = {.done = reading_done, .volume = 1, .lba = lba, .count = 1, .data = data}, .test = t};
    store_read(t->store, &r.read);
    while (!r.done) io_task_park();
    content(KNOWN, want);
    return r.read.err == OK && memcmp(data, want, BLOCK_SIZE) != 0 ? ERR_MISCOMPARE : r.read.err;
}

/* Flips a bit of the block in the file below. */
static bool damage_known(const struct test *t)
{
    uint8_t want[BLOCK_SIZE];
    content(KNOWN, want);
    int fd = open(t->path, O_RDWR);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) return false;
    uint8_t *all = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (all == MAP_FAILED) return false;
    uint8_t *at = memmem(all, (size_t)st.st_size, want, BLOCK_SIZE);
    if (at != NULL) at[BLOCK_SIZE / 2] ^= 1;
    munmap(all, (size_t)st.st_size);
    return at != NULL;
}

/* A block cannot be read any more: whoever writes it again gets a good one, not a reference to the bad one. */
static bool rewrites(struct test *t)
{
    struct store_format_config fc = {.device_count = 1, .size = 24u << 20, .segment_shift = 16};
    struct store_stats before, after;
    fc.devices[0] = (struct store_device_config){t->path, DEVICE_FLASH};
    if (store_format(t->io, &fc) != OK || open_pool(t) != OK) return false;
    create(t);
    write_known(t, 100);
    write_known(t, 200); /* refers to it */
    if (store_close(t->store) != OK || !damage_known(t) || open_pool(t) != OK) return false;
    if (read_known(t, 100) != ERR_MEDIUM) return false;
    store_stats(t->store, &before);
    write_known(t, 300);
    write_known(t, 400);
    store_stats(t->store, &after);
    printf("# %llu new blocks, %llu duplicates\n", (unsigned long long)(after.new_blocks - before.new_blocks),
           (unsigned long long)(after.dup_blocks - before.dup_blocks));
    bool good = read_known(t, 300) == OK && read_known(t, 400) == OK && read_known(t, 200) == ERR_MEDIUM;
    return good && after.new_blocks > before.new_blocks && store_close(t->store) == OK;
}

/* Where the page of the volume's first leaf lies in the file. */
static uint64_t leaf_at(struct test *t)
{
    struct store *s = t->store;
    struct volume *v = volume_find(s, 1);
    struct frame *parent;
    if (v == NULL || map_page(s, v, 1, 0, false, &parent) != OK || parent == NULL) return 0;
    uint64_t locator = map_pointer(v, parent, 0)->locator, at;
    map_unpin(s, parent);
    struct waiter w = {0};
    struct device *d;
    uint32_t slot, offset;
    const uint8_t *memory;
    if (locate(s, locator_address(locator), &w, &slot, &offset, &memory) != LOCATED || memory != NULL) return 0;
    slot_where(s, slot, &d, &at);
    return at + offset;
}

static bool damage_at(const struct test *t, uint64_t at)
{
    uint8_t byte = 0;
    int fd = open(t->path, O_RDWR);
    bool good = fd >= 0 && pread(fd, &byte, 1, (off_t)at) == 1;
    byte ^= 1;
    good = good && pwrite(fd, &byte, 1, (off_t)at) == 1;
    close(fd);
    return good;
}

static bool lost_and_found(struct test *t)
{
    bool good = read_known(t, 5) == OK && read_known(t, 100) == ERR_MEDIUM && read_known(t, 600) == OK;
    if (!good) printf("# %s, %s, %s\n", err_name(read_known(t, 5)), err_name(read_known(t, 100)), err_name(read_known(t, 600)));
    return good;
}

/* A damaged map page loses the blocks below it, and nothing else: others are written, flushed, cleaned as before. */
static bool outlives_a_leaf(struct test *t)
{
    struct store_format_config fc = {.device_count = 1, .size = 24u << 20, .segment_shift = 16};
    uint32_t gained;
    fc.devices[0] = (struct store_device_config){t->path, DEVICE_FLASH};
    if (store_format(t->io, &fc) != OK || open_pool(t) != OK) return false;
    create(t);
    write_known(t, 100);
    write_known(t, 600); /* in the next leaf */
    if (store_close(t->store) != OK || open_pool(t) != OK) return false;
    uint64_t at = leaf_at(t);
    if (at == 0 || store_close(t->store) != OK || !damage_at(t, at + 40) || open_pool(t) != OK) return false;
    if (read_known(t, 100) != ERR_PAGE_DAMAGED || read_known(t, 600) != OK) return false;
    write_known(t, 5);
    if (store_checkpoint(t->store, true) != OK || !lost_and_found(t)) return false;
    if (store_clean(t->store, &gained) != OK || store_close(t->store) != OK) return false;
    if (open_pool(t) != OK || !lost_and_found(t)) return false;
    write_known(t, 100);
    return read_known(t, 100) == OK && store_close(t->store) == OK;
}

/* A pool of more slots than the least memory can describe ends with those that it can, and works. */
static bool ends_with_memory(struct test *t)
{
    enum { SLOTS = 1 << 18 };
    static uint32_t slots[SLOTS];
    struct store_format_config fc = {.device_count = 1, .size = (uint64_t)SLOTS << 16, .segment_shift = 16};
    struct store_stats stats;
    uint32_t taken = 0;
    fc.devices[0] = (struct store_device_config){t->path, DEVICE_FLASH};
    if (store_format(t->io, &fc) != OK || open_pool(t) != OK) return false;
    create(t);
    while (slot_alloc(t->store, SLOT_IS_USED, &slots[taken])) taken++;
    store_stats(t->store, &stats);
    printf("# %u slots taken, %llu free, %llu beyond memory, %llu of %llu MiB used\n", taken,
           (unsigned long long)stats.slots_free, (unsigned long long)stats.slots_beyond,
           (unsigned long long)stats.memory_used >> 20, (unsigned long long)stats.memory >> 20);
    if (stats.slots_beyond == 0 || stats.slots_free > taken) return false; /* free: what the head was promised */
    while (taken > 0) slot_release(t->store, slots[--taken]);
    write_some(t, 100);
    return t->good && verify(t) && store_close(t->store) == OK && open_pool(t) == OK && verify(t) &&
           store_close(t->store) == OK;
}

static uint64_t space_below(const struct test *t)
{
    struct stat st;
    return stat(t->path, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

static bool file_discards(struct test *t)
{
    struct io_file *file;
    struct io_file_info info = {0};
    if (io_file_open(t->io, t->path, IO_OPEN_DIRECT, &file) != OK) return false;
    enum err err = io_file_info(file, &info);
    io_file_close(file);
    return err == OK && info.discards;
}

/* What a deleted volume took is given back to the file system. */
static bool shrinks(struct test *t)
{
    struct store_format_config fc = {.device_count = 1, .size = 24u << 20, .segment_shift = 16};
    fc.devices[0] = (struct store_device_config){t->path, DEVICE_FLASH};
    if (store_format(t->io, &fc) != OK || !file_discards(t) || open_pool(t) != OK) return false;
    create(t);
    write_some(t, 900);
    if (store_checkpoint(t->store, true) != OK) return false;
    uint64_t full = space_below(t), left = full;
    struct flight *f = take(t);
    f->op.kind = RECORD_DELETE;
    store_prepare(t->store, &f->op);
    quiet(t);
    for (uint32_t tries = 0; tries < 200 && left > full / 3; tries++) {
        uint32_t gained;
        if (store_clean(t->store, &gained) != OK) return false;
        io_task_sleep(t->io, 20000000);
        left = space_below(t);
    }
    struct store_stats stats;
    store_stats(t->store, &stats);
    printf("# %llu KiB, after the delete %llu KiB, trimmed %llu KiB\n", (unsigned long long)full >> 10,
           (unsigned long long)left >> 10, (unsigned long long)stats.trimmed_bytes >> 10);
    if (left > full / 3 || stats.trimmed_bytes < full / 3) return false;
    if (store_close(t->store) != OK || open_pool(t) != OK) return false;
    return store_close(t->store) == OK;
}

static void run_task(void *arg)
{
    struct test *t = arg;
    t->self = io_task_self();
    t->good = true;
    t->good = t->body(t) && t->good;
    io_group_stop(t->group);
}

static void run_main(struct io *io, void *arg)
{
    struct test *t = arg;
    t->io = io;
    if (io_task_start(io, &t->task, run_task, t) != OK) abort();
}

static bool run(bool (*body)(struct test *), enum io_backend backend)
{
    struct test *t = calloc(1, sizeof *t);
    struct io_config config = {.backend = backend, .loops = 2};
    snprintf(t->path, sizeof t->path, "/tmp/izar-test-%ld.pool", (long)(owner ? owner : getpid()));
    t->body = body;
    prng_init(&t->prng, 7);
    bool good = io_group_open(&config, &t->group) == OK;
    if (good) {
        io_group_run(t->group, run_main, t);
        good = t->good;
        io_group_close(t->group);
    }
    unlink(t->path);
    free(t);
    return good;
}

TEST(life_on_io_uring)
{
    CHECK(run(life, IO_BACKEND_AUTO));
}

TEST(life_on_posix)
{
    CHECK(run(life, IO_BACKEND_POSIX));
}

TEST(equal_blocks_of_one_operation_are_stored_once)
{
    CHECK(run(repeats, IO_BACKEND_AUTO));
}

TEST(replay_flushes_beside_the_log)
{
    int status = 1;
    owner = getpid();
    kept = mmap(NULL, sizeof(uint32_t) * BLOCKS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(kept != MAP_FAILED);
    pid_t child = fork();
    if (child == 0) run(write_and_die, IO_BACKEND_AUTO);
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(run(replay_flushes, IO_BACKEND_AUTO));
    munmap(kept, sizeof(uint32_t) * BLOCKS);
}

TEST(leaves_are_flushed_by_their_age)
{
    CHECK(run(flushes_seldom, IO_BACKEND_AUTO));
}

TEST(four_fifths_can_be_overwritten)
{
    CHECK(run(overwrites, IO_BACKEND_AUTO));
}

TEST(what_cannot_be_read_gains_no_references)
{
    CHECK(run(rewrites, IO_BACKEND_AUTO));
}

TEST(a_damaged_leaf_loses_its_blocks_and_no_others)
{
    CHECK(run(outlives_a_leaf, IO_BACKEND_AUTO));
}

TEST(a_pool_ends_with_the_memory_for_it)
{
    CHECK(run(ends_with_memory, IO_BACKEND_AUTO));
}

TEST(file_shrinks_on_io_uring)
{
    CHECK(run(shrinks, IO_BACKEND_AUTO));
}

TEST(file_shrinks_on_posix)
{
    CHECK(run(shrinks, IO_BACKEND_POSIX));
}

TESTS(life_on_io_uring, life_on_posix, equal_blocks_of_one_operation_are_stored_once, replay_flushes_beside_the_log,
      leaves_are_flushed_by_their_age, four_fifths_can_be_overwritten, what_cannot_be_read_gains_no_references,
      a_damaged_leaf_loses_its_blocks_and_no_others, a_pool_ends_with_the_memory_for_it, file_shrinks_on_io_uring,
      file_shrinks_on_posix)
