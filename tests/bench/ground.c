/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clocks, data, the raw file and the pool, for all stages.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/hash.h"
#include "bench/bench.h"

/* ---- time and CPU ---- */

static double seconds_of(struct timeval t)
{
    return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

struct usage usage_now(void)
{
    struct timespec wall;
    struct rusage r;
    clock_gettime(CLOCK_MONOTONIC, &wall);
    getrusage(RUSAGE_SELF, &r);
    double user = seconds_of(r.ru_utime);
    return (struct usage){(double)wall.tv_sec + (double)wall.tv_nsec / 1e9, user + seconds_of(r.ru_stime), user};
}

struct usage usage_since(const struct usage *then)
{
    struct usage now = usage_now();
    return (struct usage){now.wall_s - then->wall_s, now.cpu_s - then->cpu_s, now.user_s - then->user_s};
}

double usage_busy(const struct usage *used)
{
    return used->cpu_s / used->wall_s / (double)sysconf(_SC_NPROCESSORS_ONLN);
}

/* ---- data ---- */

void data_fill(struct prng *prng, uint8_t *at, uint64_t blocks, uint32_t random)
{
    static const char words[] = "what repeats in a block is packed away, ";
    uint8_t pattern[BLOCK_SIZE];
    for (uint32_t i = 0; i < BLOCK_SIZE; i++) pattern[i] = (uint8_t)words[i % (sizeof words - 1)];
    for (uint64_t b = 0; b < blocks; b++, at += BLOCK_SIZE) {
        prng_fill(prng, at, random);
        memcpy(at + random, pattern + random, BLOCK_SIZE - random);
    }
}

struct corpus {
    uint8_t *at;
    uint64_t blocks, room;
    uint64_t *seen; /* hashes of the blocks taken */
    uint64_t mask;
    uint64_t total, wanted; /* blocks that there are, that are to be taken */
    uint64_t passed, taken; /* so far */
};

enum { EXTENT_BLOCKS = MIB / BLOCK_SIZE };

static bool corpus_is_new(struct corpus *c, const uint8_t *block)
{
    uint64_t hash = hash64(block, BLOCK_SIZE, 7) | 1;
    uint64_t i = hash & c->mask;
    for (; c->seen[i] != 0; i = (i + 1) & c->mask) {
        if (c->seen[i] == hash) return false;
    }
    c->seen[i] = hash;
    return true;
}

/* The corpus is a sample of what all files together are: `wanted` of every `total` blocks, spread evenly. */
static bool corpus_takes(struct corpus *c, uint64_t blocks)
{
    c->passed += blocks;
    if (c->taken * c->total >= c->passed * c->wanted) return false;
    c->taken += blocks;
    return true;
}

static void corpus_add_extent(struct corpus *c, int fd, off_t from)
{
    static const uint8_t zeros[BLOCK_SIZE];
    for (uint32_t i = 0; i < EXTENT_BLOCKS && c->blocks < c->room; i++) {
        uint8_t *block = c->at + c->blocks * BLOCK_SIZE;
        if (pread(fd, block, BLOCK_SIZE, from + (off_t)i * BLOCK_SIZE) != BLOCK_SIZE) return;
        if (memcmp(block, zeros, BLOCK_SIZE) != 0 && corpus_is_new(c, block)) c->blocks++;
    }
}

/* Programs and libraries only: what is in the ELF format. Without room, counts. */
static void corpus_add_file(struct corpus *c, const char *path, off_t size)
{
    char magic[4];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return;
    bool elf = read(fd, magic, sizeof magic) == sizeof magic && memcmp(magic, "\177ELF", sizeof magic) == 0;
    for (off_t at = 0; elf && at < size; at += EXTENT_BLOCKS * BLOCK_SIZE) {
        uint64_t blocks = min64(EXTENT_BLOCKS, (uint64_t)(size - at) / BLOCK_SIZE);
        if (c->room == 0)
            c->total += blocks;
        else if (corpus_takes(c, blocks))
            corpus_add_extent(c, fd, at);
    }
    close(fd);
}

static void corpus_add_folder(struct corpus *c, const char *folder)
{
    struct dirent **names;
    int count = scandir(folder, &names, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        char path[1024];
        struct stat st;
        snprintf(path, sizeof path, "%s/%s", folder, names[i]->d_name);
        free(names[i]);
        if (lstat(path, &st) == 0 && S_ISREG(st.st_mode)) corpus_add_file(c, path, st.st_size);
    }
    if (count >= 0) free(names);
}

static void corpus_add_all(struct corpus *c)
{
    static const char *const folders[] = {"/usr/bin", "/usr/sbin", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"};
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) corpus_add_folder(c, folders[i]);
}

uint64_t data_corpus(uint8_t *at, uint64_t blocks)
{
    struct corpus c = {.at = at, .mask = 1, .wanted = blocks};
    while (c.mask < blocks * 2) c.mask = c.mask * 2 + 1;
    c.seen = calloc(c.mask + 1, sizeof *c.seen);
    must(c.seen != NULL ? OK : ERR_NO_MEMORY, "reading the corpus");
    corpus_add_all(&c);
    must(c.total > 0 ? OK : ERR_NO_FILE, "reading the corpus");
    if (c.wanted > c.total) c.wanted = c.total;
    c.room = blocks;
    corpus_add_all(&c);
    free(c.seen);
    return c.blocks;
}

/* ---- the raw file ---- */

struct raw_lane {
    struct raw_run *run;
    struct io_op op;
    uint8_t *buf;
};

struct raw_run {
    const struct raw_job *job;
    struct prng prng;
    struct io_task *task;
    uint64_t started, finished; /* bytes */
    uint32_t under_way;
    double end_s;
};

static bool raw_next(struct raw_lane *lane)
{
    struct raw_run *r = lane->run;
    const struct raw_job *j = r->job;
    if (j->total_bytes > 0 && r->started >= j->total_bytes) return false;
    if (usage_now().wall_s >= r->end_s) return false;
    uint64_t places = j->file_bytes / j->bytes;
    uint64_t place = j->random ? prng_below(&r->prng, places) : r->started / j->bytes % places;
    uint8_t *data = j->data + r->started % (j->data_bytes / j->bytes * j->bytes);
    r->started += j->bytes;
    r->under_way++;
    if (j->write)
        io_write(j->io, j->file, place * j->bytes, data, j->bytes, j->durable ? IO_WRITE_DURABLE : 0, &lane->op);
    else
        io_read(j->io, j->file, place * j->bytes, lane->buf, j->bytes, &lane->op);
    return true;
}

static void raw_done(struct io_op *op)
{
    struct raw_lane *lane = CONTAINER(op, struct raw_lane, op);
    must(op->err, "the raw file");
    lane->run->under_way--;
    lane->run->finished += op->bytes;
    raw_next(lane);
    if (lane->run->under_way == 0) io_task_wake(lane->run->task);
}

double raw_run(const struct raw_job *job)
{
    struct usage began = usage_now();
    struct raw_run r = {.job = job, .task = io_task_self(), .end_s = began.wall_s + (job->seconds > 0 ? job->seconds : 1e9)};
    struct mem *mem = mem_open((uint64_t)1 << 30);
    struct raw_lane *lanes = mem_alloc(mem, job->depth * sizeof *lanes);
    prng_init(&r.prng, job->seed);
    for (uint32_t i = 0; i < job->depth; i++) {
        lanes[i] = (struct raw_lane){.run = &r, .op.done = raw_done, .buf = mem_alloc(mem, job->bytes)};
        raw_next(&lanes[i]);
    }
    while (r.under_way > 0) io_task_park();
    double wall = usage_since(&began).wall_s;
    mem_close(mem);
    return (double)r.finished / wall;
}

static void write_all(struct stage *s, struct io_file *file, uint64_t bytes)
{
    struct prng prng;
    uint8_t *data = mem_alloc(s->mem, 8 * MIB);
    prng_init(&prng, 11);
    data_fill(&prng, data, 8 * MIB / BLOCK_SIZE, BLOCK_SIZE);
    struct raw_job job = {.io = s->io,
                          .file = file,
                          .data = data,
                          .data_bytes = 8 * MIB,
                          .file_bytes = bytes,
                          .bytes = MIB,
                          .depth = 8,
                          .write = true,
                          .total_bytes = bytes};
    raw_run(&job);
    must(io_task_sync(s->io, file), "writing a file");
    mem_free(s->mem, data);
}

struct io_file *raw_file(struct stage *s, const char *name, uint64_t bytes)
{
    char path[512];
    struct io_file *file;
    snprintf(path, sizeof path, "%s/%s", s->bench->dir, name);
    unlink(path);
    must(io_file_open(s->io, path, IO_OPEN_CREATE | IO_OPEN_DIRECT, &file), path);
    must(io_file_resize(file, bytes), path);
    write_all(s, file, bytes);
    return file;
}

/* ---- the store ---- */

struct store *bench_pool_open(struct stage *s, const struct pool_config *c)
{
    struct store *store;
    struct store_problem problem;
    struct store_config config = {
        .devices = {{c->path, DEVICE_FLASH}}, .device_count = 1, .memory = c->memory, .discard = true};
    enum err err = store_open(s->io, &config, &store, &problem);
    must(err, err == OK ? "" : problem.text);
    for (struct store_op *op; (op = store_prepared(store, 1)) != NULL;) store_publish(store, op);
    return store;
}

struct store *bench_pool_make(struct stage *s, const struct pool_config *c, uint64_t blocks)
{
    struct store_format_config format = {.devices = {{c->path, DEVICE_FLASH}},
                                         .device_count = 1,
                                         .size = c->bytes,
                                         .force = true,
                                         .segment_shift = (uint8_t)c->segment_shift};
    unlink(c->path);
    if (c->written) {
        struct io_file *file;
        must(io_file_open(s->io, c->path, IO_OPEN_CREATE | IO_OPEN_DIRECT, &file), c->path);
        must(io_file_resize(file, c->bytes), c->path);
        write_all(s, file, c->bytes);
        io_file_close(file);
    }
    must(store_format(s->io, &format), c->path);
    struct store *store = bench_pool_open(s, c);
    must(work_change(s->io, store, RECORD_CREATE, 1, blocks), "creating a volume");
    return store;
}

struct work *flow_open(struct stage *s, struct store *store, uint32_t depth, uint32_t blocks)
{
    struct work *work;
    struct work_config config = {.io = s->io, .store = store, .mem = s->mem, .depth = depth, .blocks = blocks};
    must(work_open(&config, &work), "starting");
    return work;
}

void flow_run(struct flow *f)
{
    struct usage began = usage_now();
    uint64_t lba;
    f->blocks = f->ops = 0;
    while (f->seconds <= 0 || f->ops % 16 != 0 || usage_now().wall_s - began.wall_s < f->seconds) {
        struct work_op *op = work_take(f->work);
        if (op == NULL) break;
        op->volume = f->volume > 0 ? f->volume : 1;
        op->what = ENTRY_NEW;
        if (!f->next(f, op)) {
            work_release(f->work, op, OK);
            break;
        }
        f->blocks += op->count;
        f->ops++;
        work_submit(f->work, op);
    }
    enum err err = work_drain(f->work, &lba);
    char text[400];
    if (err != OK) fprintf(stderr, "bench: block %llu: %s\n", (unsigned long long)lba, store_text(f->store, text, sizeof text));
    must(err, "writing to the pool");
    f->used = usage_since(&began);
}
