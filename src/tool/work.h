/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The data path of a client in process: many changes under way on one store, as the volume layer has them. izar-pool stays
 * below that layer, as the benchmarks do: it looks at and measures a pool by itself, numbers operations as it likes, and must
 * be able to say what it asked for after a crash (journal.h), without range locks and a node around it.
 *
 *     take      a free operation with its buffers; waits while all are under way
 *     submit    ORDER: the next sequence of its volume. DIGEST: hash and compress, as a CPU job on any loop
 *     (pump)    PREPARE in sequence order
 *     (done)    PUBLISH in sequence order, then the caller's `done`, then free again
 *
 * Lives on the store's loop.
 */
#ifndef IZAR_TOOL_WORK_H
#define IZAR_TOOL_WORK_H

#include "base/mem.h"
#include "store/store.h"

struct work;

struct work_op {
    /* in */
    uint32_t volume;
    enum entry_kind what; /* NEW, ZERO or UNMAP; NEW blocks that are all zero become what work_config.zeros says */
    uint64_t lba;
    uint32_t count; /* blocks; NEW: at most store_write_max */
    uint8_t *data;  /* NEW: the blocks; room for store_write_max, aligned */
    bool digested;  /* the caller filled `digests` for `count` blocks: DIGEST is left out */
    uint64_t mark;  /* the caller's */
    /* out */
    uint64_t sequence; /* set by work_submit */
    enum err err;
    /* of the blocks; what they point to must live until `done` */
    struct block_digest digests[RECORD_BLOCKS_MAX];
    /* for whoever fetches the data: an operation to fetch it with */
    struct io_op fetch;
    /* private */
    struct work *work;
    struct list link;
    struct io_job job;
    struct store_op op;
    bool ready, zero;
    uint8_t *room;
};

struct work_config {
    struct io *io;
    struct store *store;
    struct mem *mem;
    uint32_t depth;                   /* operations under way at most */
    uint32_t blocks;                  /* blocks of a NEW operation at most; 0: store_write_max */
    enum entry_kind zeros;            /* 0: ZERO */
    void (*done)(struct work_op *op); /* published (err is OK) or failed; may be NULL */
    void *arg;
};

enum { WORK_VOLUMES_MAX = 64 };

/* ERR_NO_MEMORY. Everything comes from config.mem. */
enum err work_open(const struct work_config *config, struct work **ret_work);
void *work_arg(const struct work *work);
/* [task] A free operation; NULL once an operation failed. */
struct work_op *work_take(struct work *work);
/* The sequence that the next operation of the volume will get; 0: there is no such volume. */
uint64_t work_next_sequence(struct work *work, uint32_t volume);
/* Numbers the operation and sends it on its way; ERR_NO_VOLUME comes with `done` like any other failure. */
void work_submit(struct work *work, struct work_op *op);
/* Gives an operation back that was taken and will not be submitted; an `err` other than OK counts as a failure. */
void work_release(struct work *work, struct work_op *op, enum err err);
/* [task] Waits until nothing is under way. Returns the first failure, and the block where it happened. */
enum err work_drain(struct work *work, uint64_t *ret_lba);
/* After a drain: forgets the failure and numbers on from what the store has. */
void work_resume(struct work *work);

/* [task] One change of a whole volume: CREATE and RESIZE to `blocks`, DELETE, NOOP. */
enum err work_change(struct io *io, struct store *store, enum record_kind kind, uint32_t volume, uint64_t blocks);

#endif
