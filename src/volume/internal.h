/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the volume layer share.
 *
 *     volumes.c  all volumes, and a volume as a whole
 *     request.c  where requests come in and go out; the pool of works
 *     range.c    range locks
 *     order.c    sequences: ORDER, PREPARE, COMMIT, PUBLISH
 *     write.c    a change, from call to done
 *     read.c     a read
 */
#ifndef IZAR_VOLUME_INTERNAL_H
#define IZAR_VOLUME_INTERNAL_H

#include "base/mem.h"
#include "base/share.h"
#include "volume/volume.h"

/* What a change needs while it is under way; from a pool. */
struct volume_work {
    struct list link;
    struct volume *volume;
    struct volume_request *request; /* NULL: a change of the whole volume */
    struct store_op op;
    struct host_change change; /* of a volume with replicas, instead of `op` */
    struct io_job job;
    struct block_digest digests[RECORD_BLOCKS_MAX];
    uint64_t since; /* likewise: what was read of its blocks is as of this record; 0: nothing was */
    bool zero;      /* all blocks of the record are zero */
    uint8_t *room;  /* VOLUME_WRITE_MAX: blocks as they were; then what digest_block asks for */
    uint8_t *edge;  /* one block, aligned: the record of a ZERO request that covers a part of it */
    /* told the outcome of `op` after publish or failure; ERR_ORDER never comes here */
    void (*ordered)(struct volume_work *work, enum err err);
};

struct volumes {
    struct io *io;
    struct store *store;
    struct mem *mem;
    bool stopping;
    uint32_t write_max; /* blocks a record with data may carry */
    uint32_t unmap_max; /* blocks of one unmap record; a multiple of the leaf, so that it costs the delta little */
    struct list free;   /* works */
    uint32_t free_count;
    struct list want_work; /* volumes with requests that wait for one */
    uint32_t last_id;
    struct io_task *waiting; /* volumes_close */
    uint32_t under_way;      /* requests in all volumes */
    struct volume *volume[VOLUMES_MAX];
    uint32_t count; /* sorted by id */
};

struct volume {
    struct volumes *volumes;
    uint32_t id, epoch;
    struct volume_replica replica; /* number 0: it has no others */
    struct replica_host *host;     /* of those; NULL: not served now */
    uint64_t blocks;
    uint32_t holds;
    bool deleting;
    struct list starting;  /* requests that volume_start has taken and that have not begun */
    struct list ranges;    /* of requests: taken first, then those that wait, by arrival */
    struct list want_work; /* requests; while there are some, `wants_work` is in the list of volumes */
    struct list wants_work;
    uint32_t works; /* that its requests hold */
    /* order */
    uint64_t next_sequence;
    uint32_t ordered;         /* operations given to the store that have not come back */
    bool renumbering;         /* one failed: those behind it come back, then all are numbered again */
    struct list again;        /* works that came back with ERR_ORDER, by their old sequence */
    struct list held;         /* works that came meanwhile */
    struct volume_work *late; /* only under a mutation: answered, but not published */
    struct io_task *waiting;  /* volume_delete, volume_resize */
    struct volume_stats stats;
};

/* ---- range.c ---- */

/* True: the blocks of the request are its own now. False: `state` goes on (write_step) once they are. */
bool range_take(struct volume *volume, struct volume_request *request);
void range_give(struct volume *volume, struct volume_request *request);

/* ---- order.c ---- */

/* Has the change in work->op ordered by the volume's host. */
void order_replicated(struct volume *volume, struct volume_work *work);
/* Numbers work->op (kind, what, lba, count, digests... filled in), prepares and publishes it, then calls work->ordered. */
void order_start(struct volume *volume, struct volume_work *work);

/* ---- request.c ---- */

/* The end of every request: counts and calls done. */
void request_end(struct volume_request *request, enum err err);
/* What a change waited for is there: write_step from the loop, soon. */
void request_go_on(struct volume_request *request);

/* Gives the request a work of the pool. False: there is none for its volume now, and it goes on (write_step) once there may
  * be one. A volume whose changes cannot be ordered, because others are out of reach, keeps its share and no more
  * (base/share.h). */
bool work_take(struct volume_request *request);
/* Gives it back; it was a request's of this volume. */
void work_give(struct volume *volume, struct volume_work *work);

/* ---- write.c, read.c ---- */

/* A request that was admitted; it ends with request_end. */
void write_start(struct volume_request *request);
void read_start(struct volume_request *request);
/* Goes on with a change from the step that it parked in. */
void write_step(struct volume_request *request);

#endif
