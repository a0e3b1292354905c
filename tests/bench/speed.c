/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Speed: random 4 KiB writes, CPU for each, and sequential transfers, always against the raw file below the pool with direct
 * I/O, in turns. Data is made before the clock runs; blocks are all different.
 */
#include <stdio.h>

#include "bench/bench.h"

enum { DEPTH = 32, HALF = BLOCK_SIZE / 2 };

static uint64_t scaled(const struct stage *s, double bytes)
{
    return (uint64_t)(bytes * s->bench->scale) / (16 * MIB) * (16 * MIB) + 64 * MIB;
}

static const char *path_of(const struct stage *s, const char *name, char *buf, size_t size)
{
    snprintf(buf, size, "%s/%s", s->bench->dir, name);
    return buf;
}

/* ---- random 4 KiB writes ---- */

struct random_writes {
    struct prng prng;
    uint8_t *data;
    uint64_t blocks, used; /* of data */
    uint64_t volume_blocks;
};

static bool next_random(struct flow *f, struct work_op *op)
{
    struct random_writes *r = f->arg;
    if (r->used == r->blocks) return false;
    op->lba = prng_below(&r->prng, r->volume_blocks);
    op->count = 1;
    op->data = r->data + r->used++ * BLOCK_SIZE;
    return true;
}

static double random_round(struct flow *f, struct random_writes *r, uint32_t random_bytes, double *ret_busy)
{
    data_fill(&r->prng, r->data, r->blocks, random_bytes);
    r->used = 0;
    flow_run(f);
    *ret_busy = usage_busy(&f->used);
    return (double)f->blocks * BLOCK_SIZE / f->used.wall_s;
}

enum { RANDOM_KINDS = 3 };

/* long: the story of one round is easier to follow in one place */
void stage_random(struct stage *s)
{
    char path[RANDOM_KINDS][512];
    uint32_t rounds = s->bench->rounds;
    uint64_t bytes = scaled(s, 3e9), volume = bytes / 2 / BLOCK_SIZE;
    double seconds = 2 * s->bench->scale;
    double raw[ROUNDS_MAX], line[ROUNDS_MAX], got[RANDOM_KINDS][ROUNDS_MAX], busy[RANDOM_KINDS][ROUNDS_MAX];
    static const char *const names[RANDOM_KINDS] = {
        "random 4 KiB writes, depth 32, durable, unique, half compressible, in a written file",
        "the same, incompressible",
        "the same, half compressible, in a fresh sparse file",
    };
    struct random_writes r = {.blocks = (uint64_t)(40000 * s->bench->scale) + 20000, .volume_blocks = volume};
    r.data = mem_alloc(s->mem, r.blocks * BLOCK_SIZE);
    prng_init(&r.prng, 1);
    data_fill(&r.prng, r.data, r.blocks, BLOCK_SIZE);
    struct io_file *file = raw_file(s, "raw", bytes / 2);
    struct raw_job job = {.io = s->io,
                          .file = file,
                          .data = r.data,
                          .data_bytes = 64 * MIB,
                          .file_bytes = bytes / 2,
                          .bytes = BLOCK_SIZE,
                          .depth = DEPTH,
                          .write = true,
                          .random = true,
                          .durable = true,
                          .seconds = seconds};
    struct raw_job sequential = job;
    sequential.random = sequential.durable = false;
    sequential.bytes = MIB;
    sequential.depth = 8;
    struct flow flows[2];
    for (uint32_t i = 0; i < 2; i++) {
        struct pool_config pool = {
            .path = path_of(s, i == 0 ? "random" : "sparse", path[i], sizeof path[i]), .bytes = bytes, .written = i == 0};
        struct store *store = bench_pool_make(s, &pool, volume);
        flows[i] = (struct flow){.store = store,
                                 .work = flow_open(s, store, DEPTH, 1),
                                 .next = next_random,
                                 .arg = &r,
                                 .io = s->io,
                                 .seconds = seconds};
    }
    for (uint32_t i = 0; i < rounds; i++) {
        job.seed = i;
        raw[i] = raw_run(&job);
        got[0][i] = random_round(&flows[0], &r, HALF, &busy[0][i]);
        line[i] = raw_run(&sequential);
        got[1][i] = random_round(&flows[0], &r, BLOCK_SIZE, &busy[1][i]);
        got[2][i] = random_round(&flows[1], &r, HALF, &busy[2][i]);
    }
    for (uint32_t k = 0; k < RANDOM_KINDS; k++) {
        struct result result = {.value = median(got[k], rounds) / BLOCK_SIZE,
                                .unit = "writes/s",
                                .against = median(raw, rounds) / BLOCK_SIZE,
                                .kind = k < 2 ? AT_LEAST : NO_TARGET,
                                .target = 3,
                                .cpu_bound = median(busy[k], rounds) >= 0.9};
        result.ratio = result.value / result.against;
        snprintf(result.name, sizeof result.name, "%s", names[k]);
        snprintf(result.note, sizeof result.note, " (CPUs %.0f %% busy)", median(busy[k], rounds) * 100);
        report(&result);
    }
    struct result share = {.name = "their share of the raw file's sequential bandwidth",
                           .value = median(got[0], rounds) / MIB,
                           .unit = "MiB/s",
                           .against = median(line, rounds) / MIB};
    share.ratio = share.value / share.against;
    report(&share);
    for (uint32_t i = 0; i < 2; i++) must(store_close(flows[i].store), "closing");
    io_file_close(file);
}

/* ---- CPU ---- */

/* Hash and compression of the same data, on one thread. CPU seconds. */
static double digest_all(const struct fingerprinter *key, const struct random_writes *r, uint64_t blocks)
{
    static uint8_t room[BLOCK_SIZE];
    struct block_digest digest;
    struct usage began = usage_now();
    for (uint64_t i = 0; i < blocks; i++) digest_block(key, r->data + i * BLOCK_SIZE, room, &digest);
    return usage_since(&began).cpu_s;
}

/* Of a write at some depth: the deeper, the more writes share a batch and the kernel's work for it. */
static void cpu_at(struct stage *s, uint32_t depth)
{
    char path[512];
    uint32_t rounds = s->bench->rounds;
    uint64_t bytes = scaled(s, 2e9);
    double ratio[ROUNDS_MAX], user[ROUNDS_MAX], spent[ROUNDS_MAX], alone[ROUNDS_MAX];
    struct random_writes r = {.blocks = (uint64_t)(40000 * s->bench->scale) + 4000, .volume_blocks = bytes / 2 / BLOCK_SIZE};
    r.data = mem_alloc(s->mem, r.blocks * BLOCK_SIZE);
    prng_init(&r.prng, 2);
    struct pool_config pool = {.path = path_of(s, "random", path, sizeof path), .bytes = bytes, .written = true};
    struct store *store = bench_pool_make(s, &pool, r.volume_blocks);
    struct flow f = {.store = store, .work = flow_open(s, store, depth, 1), .next = next_random, .arg = &r, .io = s->io};
    for (uint32_t i = 0; i < rounds; i++) {
        double busy;
        random_round(&f, &r, HALF, &busy);
        spent[i] = f.used.cpu_s / (double)f.blocks * 1e6;
        alone[i] = digest_all(store_key(store), &r, f.blocks) / (double)f.blocks * 1e6;
        ratio[i] = spent[i] / alone[i];
        user[i] = f.used.user_s / (double)f.blocks * 1e6 / alone[i];
    }
    struct result all = {.value = median(spent, rounds),
                         .unit = "us",
                         .against = median(alone, rounds),
                         .ratio = median(ratio, rounds),
                         .kind = depth == DEPTH ? AT_MOST : NO_TARGET,
                         .target = 1.35};
    snprintf(all.name, sizeof all.name,
             "CPU of a unique 4 KiB write, kernel included, depth %u, against hash + compression alone", depth);
    report(&all);
    report(&(struct result){.name = "the same without the kernel's share",
                            .value = median(user, rounds) * median(alone, rounds),
                            .unit = "us",
                            .against = median(alone, rounds),
                            .ratio = median(user, rounds)});
    must(store_close(store), "closing");
}

void stage_cpu(struct stage *s)
{
    cpu_at(s, DEPTH);
    cpu_at(s, 8 * DEPTH);
}

/* ---- sequential ---- */

struct line {
    const uint8_t *data;
    uint64_t blocks, next, base;
};

/* A client's 1 MiB write is eight operations. */
static bool next_line(struct flow *f, struct work_op *op)
{
    struct line *l = f->arg;
    if (l->next >= l->blocks) return false;
    op->count = (uint32_t)min64(store_write_max(f->store), l->blocks - l->next);
    op->lba = l->base + l->next;
    op->data = (uint8_t *)(uintptr_t)(l->data + l->next * BLOCK_SIZE);
    l->next += op->count;
    return true;
}

struct reader {
    struct store_read read;
    struct reading *reading;
};

struct reading {
    struct store *store;
    struct io_task *task;
    uint64_t next, end;
    uint32_t under_way;
};

static void reader_done(struct store_read *read);

static void reader_next(struct reader *r)
{
    struct reading *g = r->reading;
    if (g->next == g->end) return;
    r->read = (struct store_read){.done = reader_done,
                                  .volume = 1,
                                  .lba = g->next,
                                  .data = r->read.data,
                                  .count = (uint32_t)min64(STORE_READ_MAX, g->end - g->next)};
    g->next += r->read.count;
    g->under_way++;
    store_read(g->store, &r->read);
}

static void reader_done(struct store_read *read)
{
    struct reader *r = CONTAINER(read, struct reader, read);
    must(read->err, "reading from the pool");
    r->reading->under_way--;
    reader_next(r);
    if (r->reading->under_way == 0) io_task_wake(r->reading->task);
}

enum { READERS = 4 };

static double read_line(struct stage *s, struct store *store, uint64_t base, uint64_t blocks, double *ret_busy)
{
    struct reading g = {.store = store, .task = io_task_self(), .next = base, .end = base + blocks};
    struct reader readers[READERS];
    uint8_t *room = mem_alloc(s->mem, READERS * MIB);
    struct usage began = usage_now();
    for (uint32_t i = 0; i < READERS; i++) {
        readers[i] = (struct reader){.reading = &g, .read.data = room + (size_t)i * MIB};
        reader_next(&readers[i]);
    }
    while (g.under_way > 0) io_task_park();
    struct usage used = usage_since(&began);
    *ret_busy = usage_busy(&used);
    mem_free(s->mem, room);
    return (double)blocks * BLOCK_SIZE / used.wall_s;
}

static void report_line(const char *what, const char *kind, double *got, double *raw, double *busy, uint32_t rounds)
{
    struct result result = {.value = median(got, rounds) / MIB,
                            .unit = "MiB/s",
                            .against = median(raw, rounds) / MIB,
                            .kind = AT_LEAST,
                            .target = 0.8,
                            .cpu_bound = median(busy, rounds) >= 0.9};
    result.ratio = result.value / result.against;
    snprintf(result.name, sizeof result.name, "1 MiB sequential %s, %s", what, kind);
    snprintf(result.note, sizeof result.note, " (CPUs %.0f %% busy)", median(busy, rounds) * 100);
    report(&result);
}

/* Each round writes a place of its own, with data that was not there before, and reads it back; caches are far smaller. */
static void line_rounds(struct stage *s, struct io_file *file, bool real)
{
    char path[512];
    uint32_t rounds = s->bench->rounds;
    uint64_t blocks = scaled(s, 250e6) / BLOCK_SIZE, bytes = blocks * BLOCK_SIZE;
    double raw_w[ROUNDS_MAX], raw_d[ROUNDS_MAX], raw_r[ROUNDS_MAX], w[ROUNDS_MAX], r[ROUNDS_MAX], busy_w[ROUNDS_MAX],
        busy_r[ROUNDS_MAX];
    uint8_t *data = mem_alloc(s->mem, bytes);
    struct prng prng;
    prng_init(&prng, 3);
    if (real) blocks = data_corpus(data, blocks);
    struct pool_config pool = {.path = path_of(s, "line", path, sizeof path),
                               .bytes = bytes * (rounds + 2),
                               .written = true,
                               .memory = 256 * (uint64_t)MIB};
    struct store *store = bench_pool_make(s, &pool, blocks * rounds);
    struct line line = {.data = data, .blocks = blocks};
    struct flow f = {.store = store, .work = flow_open(s, store, DEPTH, 0), .next = next_line, .arg = &line, .io = s->io};
    for (uint32_t i = 0; i < rounds; i++) {
        struct raw_job job = {.io = s->io,
                              .file = file,
                              .data = data,
                              .data_bytes = bytes,
                              .file_bytes = bytes,
                              .bytes = MIB,
                              .depth = READERS,
                              .write = true,
                              .total_bytes = bytes};
        if (!real) data_fill(&prng, data, blocks, BLOCK_SIZE);
        for (uint64_t b = 0; real && b < blocks; b++) prng_fill(&prng, data + b * BLOCK_SIZE + 64, 8); /* new, and alike */
        raw_w[i] = raw_run(&job);
        job.durable = true;
        raw_d[i] = raw_run(&job);
        line.next = 0;
        line.base = blocks * i;
        flow_run(&f);
        busy_w[i] = usage_busy(&f.used);
        w[i] = (double)f.blocks * BLOCK_SIZE / f.used.wall_s;
        job.write = false;
        raw_r[i] = raw_run(&job);
        r[i] = read_line(s, store, line.base, blocks, &busy_r[i]);
    }
    report_line("writes", real ? "system binaries" : "incompressible", w, raw_w, busy_w, rounds);
    report(&(struct result){.name = "the raw file's 1 MiB sequential writes, each durable as ours are",
                            .value = median(raw_d, rounds) / MIB,
                            .unit = "MiB/s",
                            .against = median(raw_w, rounds) / MIB});
    report_line("reads", real ? "system binaries" : "incompressible", r, raw_r, busy_r, rounds);
    must(store_close(store), "closing");
    mem_free(s->mem, data);
}

void stage_sequential(struct stage *s)
{
    struct io_file *file = raw_file(s, "raw", scaled(s, 250e6));
    line_rounds(s, file, false);
    line_rounds(s, file, true);
    io_file_close(file);
}
