/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The benchmarks' common ground. A stage is one task on a fresh group of loops; a figure is a median of rounds in which the
 * store and the raw file below take turns, so that what the machine does besides hits both alike.
 */
#ifndef IZAR_TESTS_BENCH_BENCH_H
#define IZAR_TESTS_BENCH_BENCH_H

#include "base/mem.h"
#include "base/prng.h"
#include "store/store.h"
#include "tool/work.h"

enum { ROUNDS_MAX = 15, RESULTS_MAX = 64, LOOPS = 2, MIB = 1 << 20 };

struct bench {
    const char *dir;      /* on the disk that is measured */
    const char *fast_dir; /* in memory, for what does not depend on the disk */
    const char *tool;     /* izar-pool */
    const char *programs; /* the build's folder, for the whole daemon */
    const char *only;     /* one of the stages, NULL: all */
    double scale;         /* of sizes and times; 1: as in docs/performance.md */
    double patience;      /* stages may take so many times longer: on a machine with other work to do */
    uint32_t rounds;
    enum io_backend backend;
};

struct stage {
    struct bench *bench;
    struct io_group *group;
    struct io *io;
    struct mem *mem;
    struct io_task task;
    void (*run)(struct stage *s);
    void *arg;
};

/* Exits with a sentence when `err` is not OK: a benchmark has nobody to recover for. */
void must(enum err err, const char *what);
/* Runs `run` as a task on a fresh group of loops, and returns when it returned. */
void stage_run(struct bench *b, void (*run)(struct stage *s), void *arg);

/* ---- results ---- */

enum target { NO_TARGET, AT_LEAST, AT_MOST };

struct result {
    char name[112];
    char note[64]; /* for the table only */
    double value;
    const char *unit;
    double against; /* of the baseline in the same run; 0: none */
    double ratio;   /* of what the target speaks of; 0: none, then the value is meant */
    enum target kind;
    double target;
    bool cpu_bound; /* both cores were >= 90 % busy: excuses where the figure says "or CPU-bound" */
};

void report(const struct result *result);
/* Sorts them. */
double median(double *values, uint32_t count);

/* ---- time and CPU ---- */

struct usage {
    double wall_s, cpu_s, user_s; /* of the process, all threads */
};
struct usage usage_now(void);
struct usage usage_since(const struct usage *then);
/* Share of all CPUs that this process took meanwhile, 0 to 1, kernel's work for it included. */
double usage_busy(const struct usage *used);

/* ---- data ---- */

/* `blocks` blocks of which the first `random` bytes each are random and the rest a repeated pattern; all different. */
void data_fill(struct prng *prng, uint8_t *at, uint64_t blocks, uint32_t random);
/* Up to `blocks` different non-zero blocks of the machine's own programs and libraries (ELF files of the system's folders),
 * a MiB here and there so that all of them have their share. Returns how many there were. */
uint64_t data_corpus(uint8_t *at, uint64_t blocks);

/* ---- the raw file ---- */

struct raw_job {
    struct io *io;
    struct io_file *file;
    uint8_t *data; /* data_bytes of it, used in turn */
    uint64_t data_bytes;
    uint64_t file_bytes;
    uint32_t bytes; /* of one operation */
    uint32_t depth;
    bool write, random, durable;
    double seconds;       /* ends then, */
    uint64_t total_bytes; /* or after so many bytes; 0: time only */
    uint64_t seed;
};
/* [task] Bytes a second. */
double raw_run(const struct raw_job *job);
/* [task] A file of that many written bytes, opened past the page cache. */
struct io_file *raw_file(struct stage *s, const char *name, uint64_t bytes);

/* ---- the store ---- */

struct pool_config {
    const char *path;
    uint64_t bytes;
    bool written; /* the file's space was allocated and written before */
    uint32_t segment_shift;
    uint64_t memory;
};
/* [task] A fresh pool with volume 1 of `blocks`. */
struct store *bench_pool_make(struct stage *s, const struct pool_config *config, uint64_t blocks);
struct store *bench_pool_open(struct stage *s, const struct pool_config *config);

struct flow {
    struct store *store;
    struct work *work;
    /* Fills lba, count and what else the operation needs; false: no more. */
    bool (*next)(struct flow *f, struct work_op *op);
    void *arg;
    struct io *io;
    uint32_t volume;      /* 0: 1 */
    double seconds;       /* 0: until `next` says no */
    uint64_t blocks, ops; /* out */
    struct usage used;    /* out */
};
/* [task] Sends operations until time is over; waits for all of them. */
void flow_run(struct flow *f);
struct work *flow_open(struct stage *s, struct store *store, uint32_t depth, uint32_t blocks);

/* ---- the stages ---- */

void stage_random(struct stage *s);
void stage_cpu(struct stage *s);
void stage_sequential(struct stage *s);
void stage_reduction(struct stage *s);
void stage_dedupe(struct stage *s);
void stage_metadata(struct stage *s);
void stage_cleaning(struct stage *s);
void bench_recovery(struct bench *b); /* forks first */
void bench_resident(struct bench *b);
void bench_iscsi(struct bench *b);

#endif
