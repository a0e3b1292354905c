/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The crash laboratory: one simulated pool under a workload, torn down again and again, and compared with the oracle.
 *
 *     mix.c       what a history is like, drawn from its seed
 *     lab.c       the pool's life: format, open, close, crash, tasks
 *     judge.c     after every start: what the store says against what the oracle allows
 *     workload.c  operations, reads, and waiting for them
 *     learn.c     volumes that catch up with a history that goes on elsewhere
 *     direct.c    histories for one purpose, step by step
 *     history.c   whole histories: random ones, damage at rest, a cut at every I/O
 *     main.c      seeds, modes, reports
 *
 * Whatever finds something wrong calls lab_fail, which keeps the first finding; everything then winds down.
 */
#ifndef IZAR_SIM_LAB_H
#define IZAR_SIM_LAB_H

#include "sim/oracle.h"
#include "sim/sim.h"
#include "store/store.h"

enum {
    LAB_VOLUMES = 24,
    LAB_DEVICES = 3,
    LAB_OPS = 32,
    LAB_READS = 6,
    LAB_TASKS = 3,
    LAB_PLEDGES = 16,
    LAB_READ_BLOCKS = STORE_READ_MAX
};

/* What can be asked for with --faults. */
enum lab_faults {
    FAULT_POWER = 1,
    FAULT_FLIP = 2,
    FAULT_LOST = 4,
    FAULT_MISDIRECTED = 8,
    FAULT_LIE = 16,
    FAULT_EIO = 32,
    FAULT_FULL = 64,
    FAULT_VANISH = 128,
    FAULT_READERR = 256,
    FAULT_LATENT = 512,
    FAULTS_OF_DATA = FAULT_FLIP | FAULT_LOST | FAULT_MISDIRECTED | FAULT_LIE | FAULT_LATENT,
    FAULTS_OF_DEVICE = FAULT_EIO | FAULT_FULL | FAULT_VANISH | FAULT_READERR | FAULT_LATENT,
};

enum action {
    DO_WRITE,
    DO_ZERO,
    DO_UNMAP,
    DO_UNMAP_ALL,
    DO_STATE,
    DO_NOOP,
    DO_CREATE,
    DO_DELETE,
    DO_RESIZE,
    DO_READ,
    DO_PUBLISH,
    DO_DISCARD,
    DO_LEARN,
    DO_CHECKPOINT,
    DO_FLUSH,
    DO_CLEAN,
    DO_DIGEST,
    DO_CHANGED,
    DO_WAIT,
    DO_REOPEN,
    DO_CUT,
    DO_SLEEP,
    ACTIONS,
};

/* What a history is like. */
struct mix {
    uint32_t steps, weights[ACTIONS], total;
    uint32_t depth;           /* operations under way */
    uint32_t blocks_max;      /* of a write */
    uint32_t dup, zero;       /* per million: a block repeats an earlier one, or is zeros */
    uint32_t hot;             /* blocks that most writes go to; 0: anywhere */
    uint32_t kinds;           /* mask of contents' compressibilities */
    uint32_t inline_publish;  /* per million: published when it is acknowledged */
    uint32_t hold;            /* per million: a publish step leaves it for later */
    uint32_t pause;           /* events between two steps, at most */
    uint32_t cut_within;      /* a cut is armed within so many changes; 0: none */
    uint32_t cut_in_recovery; /* per million */
    uint32_t devices, slots, shift;
    uint64_t memory, volume_blocks;
    uint32_t windows, reserve, checkpoint_ms;
    uint32_t alive;        /* volumes at a time */
    uint32_t delta_leaves; /* room of the delta; 0: as memory allows */
    bool no_clean, discard, fill, slow_reads;
    uint32_t pledges; /* holders of pledges; half of the writes draw on them */
    uint32_t faults;
};

void mix_draw(struct mix *mix, struct prng *prng, uint32_t faults);
/* A mix aimed at what the name of a mutation says; the rest stays as drawn. */
void mix_aim(struct mix *mix, struct prng *prng, int mutation);

struct lab;

/* Bytes of one operation in flight. */
struct op_buf {
    struct list link;
    uint8_t data[RECORD_BLOCKS_MAX][BLOCK_SIZE], room[RECORD_BLOCKS_MAX][BLOCK_SIZE];
    struct block_digest digests[RECORD_BLOCKS_MAX];
    uint8_t key[STATE_KEY_MAX], value[STATE_VALUE_MAX];
};

struct lab_op {
    struct store_op op;
    struct list link; /* in its volume's queue, or free */
    struct lab *lab;
    struct op_buf *buf; /* until done */
    uint32_t volume;    /* index */
    uint32_t step;      /* of catch-up: its number */
    bool done;
};

struct lab_read {
    struct store_read read;
    struct lab *lab;
    bool used, exact; /* exact: part of a verification, an error is reported to it */
    uint32_t volume;
    uint64_t from; /* published sequence when it was submitted, and steps of catch-up that were applied */
    uint32_t learned;
    bool existed;
    uint64_t blocks;
    uint32_t before[LAB_READ_BLOCKS];
    uint8_t *data;
};

enum task_kind {
    TASK_FORMAT,
    TASK_OPEN,
    TASK_CLOSE,
    TASK_DISCARD,
    TASK_CHECKPOINT,
    TASK_FLUSH,
    TASK_CLEAN,
    TASK_DIGEST,
    TASK_CHANGED,
    TASK_WALK,
    TASK_AUDIT
};

struct lab_task {
    struct io_task task;
    struct lab *lab;
    enum task_kind kind;
    bool used, finished;
    enum err err;
    uint32_t volume;               /* index */
    uint64_t sequence;             /* DISCARD; CHANGED, WALK: since */
    uint64_t published;            /* DIGEST, CHANGED: when it began */
    uint32_t turns;                /* DIGEST, CHANGED: the volume's when it began */
    uint64_t digest[4], digest_of; /* DIGEST: and of which sequence */
    uint32_t gained;
    uint64_t problems;
    uint8_t changed[CELLS_MAX]; /* CHANGED, WALK: cells that were reported */
};

/* A volume that catches up: the model's operations after `from.sequence` happened elsewhere, and these steps lead there. */
struct lab_learn {
    bool on;
    uint32_t turns;          /* counts beginnings and ends */
    struct model_state from; /* what the steps begin with */
    struct model_op *steps;  /* the last is MOVE or DELETE */
    uint32_t count, room;
    uint32_t given, applied; /* given to the store; and applied, as it said */
    uint32_t failed;         /* first step that failed, + 1: none behind it may be applied; 0: none failed */
    bool whole;              /* everything has to be walked: some of what was published never happened */
    uint32_t local;          /* value of the local key, unless it is on */
    bool mixed;              /* `from` is a mixture already */
    bool unsure;             /* after a start: how many were applied has to be found out */
    bool again;              /* after a start: from somewhere before, or by another plan */
    bool learning;           /* after a start: what the store said */
    uint64_t published, blocks;
};

/* What belongs to one volume beside the oracle. */
struct lab_volume {
    struct model_volume model;
    uint64_t must;      /* newest sequence ever published: never to be taken back */
    bool retired;       /* its id is used up */
    bool stuck;         /* an operation failed with the device: nothing more until the next start */
    struct list queue;  /* struct lab_op: submitted, not yet published */
    uint32_t under_way; /* of them without `done` */
    uint64_t digest_at; /* published sequence of `digest`; 0: none */
    uint64_t digest[4];
    struct lab_learn learn;
};

struct lab {
    struct sim *sim;
    struct io *io;
    struct prng prng;
    struct mix mix;
    struct store_config config;
    struct store *store;
    struct store_problem problem;
    char names[LAB_DEVICES][32];
    uint64_t data_at[LAB_DEVICES];
    struct lab_volume volumes[LAB_VOLUMES];
    uint32_t volume_count;
    struct list free_ops, free_bufs;
    struct lab_op ops[LAB_OPS];
    struct lab_read reads[LAB_READS];
    struct lab_task tasks[LAB_TASKS], main_task; /* main_task: what the story itself waits for */
    uint32_t next_content, recent[64], recent_count;
    struct store_pledge pledges[LAB_PLEDGES];
    uint64_t clock, request;     /* clock: counts submissions and acknowledgements */
    uint32_t write_max;          /* blocks in one write that the store takes */
    struct store_read inherited; /* of an operation that was prepared before the start */
    bool full;                   /* an operation failed for space */
    bool failed;                 /* the pool failed: a device error */
    bool damaged;                /* something at rest was destroyed: errors are allowed, wrong data is not */
    bool lied;                   /* a flush lied and then the power went: the end of the log may be gone */
    bool reopen;                 /* the workload wants the pool closed and opened */
    bool vanished;               /* a disk was gone once */
    bool every;                  /* cut each recovery at each of its changes */
    uint64_t cut;                /* with it: where the power goes first */
    uint64_t armed_at, changes;  /* changes when the workload began, and how many it made */
    uint64_t crashes, unreadable, rollbacks;
    struct model_state scratch, since;
    char finding[256]; /* the auditor's first problem */
    char failure[256];
};

/* ---- lab.c ---- */

struct lab *lab_open(void);
void lab_close(struct lab *lab);
/* A fresh world for a seed; makes the disks and the pool. */
/* `control`: the mix is aimed at the mutation, but the rule stays in force. */
void lab_begin(struct lab *lab, uint64_t seed, uint32_t faults, int mutation, bool control, bool trace);
/* The same with a mix of one's own. */
void lab_begin_as(struct lab *lab, uint64_t seed, const struct mix *mix, enum mutation mutation, bool trace);
void lab_format(struct lab *lab);
/* Drops everything. */
void lab_end(struct lab *lab);
void lab_fail(struct lab *lab, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool lab_failed(const struct lab *lab);
/* The end of a wait: true when it is over as wished; a hang is a failure, a power cut is left to the caller. */
bool lab_until(struct lab *lab, bool (*done)(void *arg), void *arg, const char *what);
/* Runs a task of the story to its end. ERR_POWER when the power went first (the task is over then, too). */
enum err lab_run(struct lab *lab, enum task_kind kind, uint32_t volume, uint64_t sequence);
void lab_task_start(struct lab *lab, struct lab_task *task, enum task_kind kind, uint32_t volume, uint64_t sequence);
/* Opens the store; survives power cuts that are armed for the recovery by trying again. OK, or what it refused with. */
enum err lab_store_open(struct lab *lab);
/* The power is off (or will be): forgets all that lived in the store, and switches the power on again. */
void lab_crash(struct lab *lab);
/* Runs the auditor over the closed pool. Returns how many problems it found. */
uint64_t lab_audit(struct lab *lab, enum err *ret_err);
/* Something that has no second copy was destroyed, by a fault or by history.c (`damaged`). */
bool lab_is_damaged(const struct lab *lab);

/* ---- judge.c ---- */

/* Whether the keyed state is that of a state. */
bool judge_keys(struct lab *lab, const struct model_volume *v, const struct model_state *state);
/* After an open: takes over what the store recovered; fails when the oracle does not allow it. */
void judge_recovered(struct lab *lab);
/* Publishes and discards what recovery left undecided. False when the power went meanwhile. */
bool judge_decide(struct lab *lab);
/* Reads everything and compares. False when the power went meanwhile. */
bool judge_verify(struct lab *lab);
/* Whether the store may refuse to open with this error. */
bool judge_refusal(const struct lab *lab, enum err err);
/* Whether an operation on an open store may fail with it. */
bool judge_error(const struct lab *lab, enum err err);
void judge_changed(struct lab *lab, const struct lab_task *task);
void judge_digest(struct lab *lab, const struct lab_task *task);

/* ---- workload.c ---- */

void workload_step(struct lab *lab);
/* Takes in what ended: failed operations, finished tasks. */
void workload_collect(struct lab *lab);
/* Waits until nothing is under way. False when the power went meanwhile. */
bool workload_drain(struct lab *lab);
void workload_publish(struct lab *lab, uint32_t volume, uint64_t up_to);
/* Some stretch of blocks inside a window and below `blocks`; 0: none. */
uint32_t workload_stretch(struct lab *lab, const struct model_volume *v, uint64_t blocks, uint32_t most, uint64_t *ret_lba);
uint32_t workload_content(struct lab *lab);
/* An operation of the volume, filled in by what the model says and ready for store_prepare. */
struct lab_op *workload_op(struct lab *lab, uint32_t volume, const struct model_op *m);
void workload_op_free(struct lab *lab, struct lab_op *lo);
/* Gives the store the newest operation of the volume's model; the second, with a pledge that has its blocks. */
void workload_submit(struct lab *lab, uint32_t volume, struct model_op *m);
void workload_submit_pledged(struct lab *lab, uint32_t volume, struct model_op *m, struct store_pledge *pledge);
/* Starts a read; NULL: too many are under way. */
struct lab_read *workload_read(struct lab *lab, uint32_t volume, uint64_t lba, uint32_t count, bool exact);
/* Frees space and checks that writes work again. */
void workload_relieve(struct lab *lab);
void workload_forget(struct lab *lab); /* after a crash: ops, reads, tasks */
void workload_first_volume(struct lab *lab);

/* ---- learn.c ---- */

/* Begins to catch up, or goes on with it. */
void learn_some(struct lab *lab);
/* The volume, which is quiet, begins to catch up: what it has published after `common` never happened elsewhere. */
void learn_back(struct lab *lab, uint32_t volume, uint64_t common);
/* A step is over. */
void learn_step_done(struct lab *lab, struct lab_op *lo);
void learn_collect(struct lab *lab, struct lab_volume *lv);
/* After an open: `info` NULL, the volume is gone. */
void learn_recovered(struct lab *lab, struct lab_volume *lv, const struct store_volume_info *info);
/* Finds out how many steps of each volume were applied. False when the power went meanwhile. */
bool learn_settle(struct lab *lab);

/* ---- pledge.c ---- */

void pledge_forget(struct lab *lab); /* the store is gone */
/* A holder asks for up to so many blocks more; true: the pool is full. */
bool pledge_ask(struct lab *lab, uint32_t holder, uint32_t most);
/* One that some holder has, who may ask for more before; NULL: none. */
struct store_pledge *pledge_of(struct lab *lab);
/* A holder, who has not got its share, asks until it is given a block, or, *ret_full, told that the pool is full. False: the
 * power went. */
bool pledge_settle(struct lab *lab, uint32_t holder, bool *ret_full);

/* ---- history.c ---- */

struct history_options {
    uint64_t seed;
    uint32_t faults;
    int mutation;
    bool control; /* aimed at the mutation, without it */
    bool trace;
    uint64_t cut;      /* --every: power cut at this change; 0: as drawn */
    bool net;          /* a serving history (serve.h) */
    bool quorum;       /* a register history (quorum.h) */
    bool cluster;      /* a history of replicated volumes on real stores (cluster.h) */
    uint32_t directed; /* number + 1 of a directed history; 0: a random one */
};
/* Runs a history; the result is in lab->failure. Returns the hash of its events. */
uint64_t history_run(struct lab *lab, const struct history_options *options);
/* A short history with a cut at every change, and at every change of the recovery after it. Returns the number of cuts; on
 * failure *ret_cut is the one that failed. */
uint64_t history_every(struct lab *lab, const struct history_options *options, uint64_t *ret_cut);

/* ---- direct.c ---- */

uint32_t direct_count(void);
const char *direct_name(uint32_t i);
/* Whether it is there to catch this mutation. */
bool direct_catches(uint32_t i, int mutation);
uint64_t direct_run(struct lab *lab, uint32_t i, const struct history_options *options);

#endif
