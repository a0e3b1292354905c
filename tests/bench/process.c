/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Figures that need a process of their own: recovery after a kill under load, and resident memory.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/bench.h"

enum { DEPTH = 64 };

/* ---- recovery ---- */

struct recovery {
    char path[512];
    struct pool_config pool;
    uint64_t fill_blocks, volume_blocks;
    double fill_seconds; /* no longer than this, then what there is counts */
    int ready_fd;        /* the child says when it has written all and goes on writing */
    double seconds;
    struct store_stats stats;
};

struct filling {
    struct prng prng;
    const struct recovery *recovery;
    uint64_t next, filled, singles;
    double end_s;
};

enum { SINGLES = 50000 };

/* One after the other until the pool is as full as wanted; then single blocks anywhere, and no end. */
static bool next_block(struct flow *f, struct work_op *op)
{
    struct filling *g = f->arg;
    const struct recovery *r = g->recovery;
    if (g->filled == 0 && (g->next >= r->fill_blocks || usage_now().wall_s > g->end_s)) g->filled = g->next;
    op->count = g->filled ? 1 : store_write_max(f->store);
    op->lba = g->filled ? prng_below(&g->prng, g->filled) : g->next;
    data_fill(&g->prng, op->data, op->count, BLOCK_SIZE / 4);
    if (g->filled == 0) g->next += op->count;
    return g->filled == 0 || ++g->singles != SINGLES || write(r->ready_fd, &g->filled, sizeof g->filled) == sizeof g->filled;
}

static void fill_until_killed(struct stage *s)
{
    struct recovery *r = s->arg;
    struct filling g = {.recovery = r, .end_s = usage_now().wall_s + r->fill_seconds};
    prng_init(&g.prng, 9);
    struct store *store = bench_pool_make(s, &r->pool, r->volume_blocks);
    struct flow f = {.store = store, .work = flow_open(s, store, DEPTH, 0), .next = next_block, .arg = &g, .io = s->io};
    flow_run(&f);
}

struct first_read {
    struct store_read read;
    struct io_task *task;
    bool finished;
};

static void first_done(struct store_read *read)
{
    struct first_read *f = CONTAINER(read, struct first_read, read);
    f->finished = true;
    io_task_wake(f->task);
}

static void recover_and_read(struct stage *s)
{
    struct recovery *r = s->arg;
    struct usage began = usage_now();
    struct store *store = bench_pool_open(s, &r->pool);
    struct first_read first = {.task = io_task_self()};
    first.read = (struct store_read){
        .done = first_done, .volume = 1, .lba = r->fill_blocks / 2, .count = 1, .data = mem_alloc(s->mem, BLOCK_SIZE)};
    store_read(store, &first.read);
    while (!first.finished) io_task_park();
    must(first.read.err, "the first read");
    r->seconds = usage_since(&began).wall_s;
    store_stats(store, &r->stats);
    must(store_close(store), "closing");
}

/* ---- memory for a TiB ---- */

struct empty {
    struct pool_config pool;
    struct store_stats stats;
};

static void measure_empty(struct stage *s)
{
    struct empty *e = s->arg;
    struct store *store = bench_pool_make(s, &e->pool, 1024);
    store_stats(store, &e->stats);
    must(store_close(store), "closing");
}

/* Index, marks and cached address tables have a size that the configuration fixes, and so has the directory's table in a
 * pool of one TiB. Directory and slots grow with use, as they did in the pool that was recovered; but there a slot held one
 * run of addresses, and here each is taken to be cleaned and to hold as many as it can. */
static void report_memory(struct bench *b, const struct recovery *r)
{
    char path[512];
    snprintf(path, sizeof path, "%s/empty", b->dir);
    struct empty same = {.pool = {.path = path, .bytes = r->pool.bytes}},
                 one = {.pool = {.path = path, .bytes = (uint64_t)1 << 40}};
    stage_run(b, measure_empty, &same);
    stage_run(b, measure_empty, &one);
    unlink(path);
    double used = (double)(r->stats.slots - r->stats.slots_free);
    double slot_bytes = fmax(0, (double)r->stats.directory_ram - (double)same.stats.directory_ram) / fmax(1, used);
    double directory = (double)one.stats.directory_ram + slot_bytes * RUNS_MAX * (double)one.stats.slots;
    double slots = (double)one.stats.slot_ram * (double)one.stats.slots;
    double total = (double)(one.stats.index_bytes + one.stats.sketch_ram + one.stats.tables_ram) + directory + slots;
    report(&(struct result){.name = "memory of index, directory, address tables and marks for 1 TiB in use, 1 GiB configured",
                            .value = total / (1 << 30),
                            .unit = "GiB",
                            .kind = AT_MOST,
                            .target = 0.6});
}

/* ---- the kill ---- */

/* The kernel takes a moment to let go of what a killed process had under way, and of its locks with it. */
static void wait_for_lock(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    for (uint32_t tries = 0; tries < 500 && flock(fd, LOCK_EX | LOCK_NB) != 0; tries++) usleep(10000);
    close(fd);
}

static void kill_when_ready(struct recovery *r, struct bench *b)
{
    int ends[2];
    uint64_t filled;
    if (pipe(ends) != 0) must(ERR_IO, "a pipe");
    pid_t child = fork();
    if (child < 0) must(ERR_NO_MEMORY, "a process");
    if (child == 0) {
        close(ends[0]);
        r->ready_fd = ends[1];
        stage_run(b, fill_until_killed, r);
        _exit(1);
    }
    close(ends[1]);
    if (read(ends[0], &filled, sizeof filled) != sizeof filled) must(ERR_IO, "filling a pool");
    r->fill_blocks = filled;
    usleep(500000);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    close(ends[0]);
    wait_for_lock(r->path);
}

void bench_recovery(struct bench *b)
{
    double gib = 20 * b->scale;
    struct recovery r = {.pool = {.bytes = (uint64_t)10 << 40}, .fill_blocks = (uint64_t)(gib * 262144), .fill_seconds = 170};
    snprintf(r.path, sizeof r.path, "%s/recovery", b->dir);
    r.pool.path = r.path;
    r.volume_blocks = (uint64_t)10 << 28;
    kill_when_ready(&r, b);
    stage_run(b, recover_and_read, &r);
    struct result result = {.value = r.seconds, .unit = "s", .kind = AT_MOST, .target = 5};
    snprintf(result.name, sizeof result.name, "recovery to first read, pool of 10 TiB, %.1f GiB written, killed under load",
             (double)r.fill_blocks / 262144);
    snprintf(result.note, sizeof result.note, " (%llu records)", (unsigned long long)r.stats.replayed_records);
    report(&result);
    unlink(r.path);
    report_memory(b, &r);
}

/* ---- resident memory ---- */

/* Runs izar-pool; returns the largest resident size in bytes. */
static double run_tool(const struct bench *b, char *const *arguments)
{
    struct rusage usage;
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        if (freopen("/dev/null", "w", stdout) == NULL) _exit(127);
        execv(b->tool, arguments);
        _exit(127);
    }
    if (child < 0 || wait4(child, &status, 0, &usage) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
        must(ERR_IO, "running izar-pool");
    return (double)usage.ru_maxrss * 1024;
}

struct full_load {
    struct pool_config pool;
    uint64_t volume_blocks;
    struct prng prng;
};

static bool next_anywhere(struct flow *f, struct work_op *op)
{
    struct full_load *l = f->arg;
    op->count = 1 + (uint32_t)prng_below(&l->prng, 16);
    op->lba = prng_below(&l->prng, l->volume_blocks - op->count);
    data_fill(&l->prng, op->data, op->count, BLOCK_SIZE / 4);
    return true;
}

static void load_fully(struct stage *s)
{
    struct full_load *l = s->arg;
    prng_init(&l->prng, 10);
    struct store *store = bench_pool_make(s, &l->pool, l->volume_blocks);
    struct flow f = {.store = store, .next = next_anywhere, .arg = l, .io = s->io, .seconds = 8 * s->bench->scale + 2};
    f.work = flow_open(s, store, DEPTH, 0);
    flow_run(&f);
    must(store_close(store), "closing");
}

/* A process in which every page counts from the moment it is asked for. Returns its largest resident size, 0 when the system
 * does not let it. */
static double run_locked(struct bench *b, struct full_load *l)
{
    struct rusage usage;
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        if (mlockall(MCL_FUTURE) != 0) _exit(77);
        stage_run(b, load_fully, l);
        _exit(0);
    }
    if (child < 0 || wait4(child, &status, 0, &usage) != child || !WIFEXITED(status)) must(ERR_IO, "a process");
    if (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != 77) must(ERR_IO, "a process");
    return WEXITSTATUS(status) == 0 ? (double)usage.ru_maxrss * 1024 : 0;
}

static void report_locked(struct bench *b, const char *path)
{
    struct full_load l = {.pool = {.path = path, .bytes = (uint64_t)8 << 30, .memory = 256 * (uint64_t)MIB},
                          .volume_blocks = (uint64_t)6 << 18};
    double resident = run_locked(b, &l);
    unlink(path);
    if (resident == 0) return;
    report(&(struct result){.name = "the same in a process of its own, untouched memory counted as if it were in use",
                            .value = resident / MIB,
                            .unit = "MiB",
                            .kind = AT_MOST,
                            .target = 320});
}

void bench_resident(struct bench *b)
{
    char path[512], seconds[16];
    if (b->tool == NULL) return;
    snprintf(path, sizeof path, "%s/resident", b->dir);
    snprintf(seconds, sizeof seconds, "%d", (int)(20 * b->scale) + 3);
    char *format[] = {(char *)"izar-pool", (char *)"format", path, (char *)"--size", (char *)"8G", (char *)"--force", NULL};
    char *load[] = {(char *)"izar-pool",
                    (char *)"load",
                    (char *)"--pool",
                    path,
                    (char *)"--memory",
                    (char *)"256M",
                    (char *)"--volume",
                    (char *)"1",
                    (char *)"--size",
                    (char *)"6G",
                    (char *)"--depth",
                    (char *)"256",
                    (char *)"--seconds",
                    seconds,
                    NULL};
    run_tool(b, format);
    double resident = run_tool(b, load);
    report(&(struct result){.name = "resident memory of izar-pool with 256 MiB configured, under load",
                            .value = resident / MIB,
                            .unit = "MiB",
                            .kind = AT_MOST,
                            .target = 320});
    unlink(path);
    report_locked(b, path);
}
