/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contents: what changes of replicated volumes make of their blocks, between arrival and publishing.
 *
 * A content is made once, where the bytes arrived: fingerprints and compressed blocks, as the store wants them. It is shared by
 * all who need it for a while (the store that prepares it, the wires that carry it to other nodes) by counting.
 *
 * All contents of a node come from one pool, so memory is bounded; who finds it empty waits. Those of records that came, which
 * wait for nothing but a disk, have a share of their own, and so have those that other nodes forward (none is waited for: who
 * forwards sends again), and what goes out a second time: else two nodes could wait for each other, each full of what the other
 * has to take first. Steps of catch-up are large and few: what is read for learners and
 * what comes to a learner have two small shares of their own, and hold a stretch (stretch.h) instead of digests. So do blocks
 * that one replica cannot read and another lends; these have room for one.
 *
 * What waits until others have answered, changes of clients and what is forwarded, is shared by volumes (base/share.h): one
 * whose others are out of reach keeps its share, and no more.
 *
 * Lives on the loop of the volumes.
 */
#ifndef IZAR_VOLUME_REPLICA_CONTENT_H
#define IZAR_VOLUME_REPLICA_CONTENT_H

#include "base/list.h"
#include "base/mem.h"
#include "store/digest.h"

enum content_use {
    CONTENT_LOCAL,   /* a change of this node's clients */
    CONTENT_FORWARD, /* one that another node forwarded */
    CONTENT_RECORD,  /* one that came from the owner; until it is durable here */
    CONTENT_AGAIN,   /* of a record, read again to be sent */
    CONTENT_WALK,    /* read here for a learner: a stretch */
    CONTENT_STEP,    /* one that came to this learner: a stretch */
    CONTENT_LEND,    /* one block for a replica that cannot read it */
    CONTENT_LENT,    /* one that came from elsewhere */
    CONTENT_USES,
};

enum { CONTENT_STEPS = 4 }; /* of each of the last two, for all volumes of a node; who finds them in use waits */

struct replica_content {
    struct list link; /* in the pool */
    enum content_use use;
    uint32_t volume;     /* that it was taken for */
    uint32_t references; /* 0: in the pool */
    uint64_t name;       /* as `body` of the protocol: never 0, never used again in a life of the node */
    enum entry_kind what;
    uint32_t count;                                 /* blocks; with ENTRY_NEW at most content_blocks_max */
    struct block_digest digests[RECORD_BLOCKS_MAX]; /* ENTRY_NEW: `stored` lies in `bytes` */
    uint32_t used, room;
    uint8_t *bytes; /* `used` of `room`; of a stretch all that goes over the wire */
};

struct replica_contents {
    struct list free[CONTENT_USES];
    struct replica_content **each[CONTENT_USES];     /* free or not */
    uint32_t there[CONTENT_USES], all[CONTENT_USES]; /* how many are free, of how many */
    uint64_t names;
};

/* `count` for each use, but CONTENT_STEPS of those with stretches. ERR_NO_MEMORY. */
enum err contents_init(struct replica_contents *all, struct mem *mem, uint32_t count);
static inline bool content_is_stretch(const struct replica_content *content)
{
    return content->use == CONTENT_WALK || content->use == CONTENT_STEP;
}
/* Blocks of data that a content of this use has room for. */
static inline uint32_t content_blocks_max(enum content_use use)
{
    return use == CONTENT_LEND || use == CONTENT_LENT ? 1 : RECORD_BLOCKS_MAX;
}
/* With one reference, for a volume of this node (its id); NULL: all are in use, or all that it may have. Of stretches `what`
 * and `count` say nothing; `bytes` and `used` are filled in. */
struct replica_content *content_take(struct replica_contents *all, enum content_use use, uint32_t volume, enum entry_kind what,
                                     uint32_t count);
/* Half of them, or more, are in use: who could do without should. */
bool content_is_scarce(const struct replica_contents *all, enum content_use use);
/* One of this use is free. */
bool content_is_there(const struct replica_contents *all, enum content_use use);
void content_hold(struct replica_content *content);
void content_drop(struct replica_contents *all, struct replica_content *content); /* NULL is fine */
/* The next block: its stored bytes are copied. Exactly `count` of them, with ENTRY_NEW. */
void content_add(struct replica_content *content, uint32_t index, const struct block_digest *digest);
/* Makes the content of `count` whole blocks that were read into `bytes`. Any thread. */
void content_digest(struct replica_content *content, const struct fingerprinter *key);

#endif
