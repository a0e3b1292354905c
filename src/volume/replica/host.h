/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host of a replica: one replicated volume on one node. It connects the protocol core (replica.h), which decides, with what
 * is there: the volume in this node's store, and wires to the other nodes and to the register.
 *
 *     effect of the core          what the host makes of it
 *     PREPARE, PUBLISH            store_prepare, store_publish, in their order
 *     DISCARD                     store_discard, as a task; the join is given up before, when it is
 *     SEND                        wires.send, with the content that the message names
 *     WALK, DIGEST, APPLY,        catching up: host_teach.c, host_check.c, host_learn.c, each with a task of its own
 *     LEARNED
 *     READ, REFUSE, ANSWER        who waits is told, from the loop
 *     FETCH, PROPOSE, FENCE, RESET  the wires
 *
 * A block that the store cannot read is asked of the others, who say what they have of it, whatever that is: the store can
 * prove whether it is what was lost (store_mend). Then it is served, and the chunk is mended. Nothing is ordered for that and
 * nobody's lease is needed; who knows the block newer or older proves nothing, and is asked again or not believed.
 *
 * Content of a record that goes out again, after a lost link or by a new owner, is read from the store: as the prepared
 * operation has it, as long as that is not published; publishing waits for such reads, and so does what comes after it.
 *
 * What fails in the store ends the replica's part in it: the core is told (ON_FAILED) and the others go on without it.
 *
 * After a pause of the node all sessions of its clients count as ended, in the same step that noticed it, whatever was told of
 * them yet: what came over them must not happen any more (rule 12).
 *
 * A message that does not fit (a record without its blocks, a step whose stretch is not what it says) is dropped before the
 * core sees it: nothing that another node sends ends this one.
 *
 * What is not here yet: only changes of blocks are carried; sizes and keyed state are not. So a replica that learns must have a
 * volume of the same size, and none of them may have keyed state but local keys, or contents are never found equal.
 *
 * Lives on the loop of the store. Callbacks of the wires and of requests come from the loop, never from within a call of
 * this header, but for the wires: these are called at any time, and must not call back.
 */
#ifndef IZAR_VOLUME_REPLICA_HOST_H
#define IZAR_VOLUME_REPLICA_HOST_H

#include "store/store.h"
#include "volume/replica/content.h"
#include "volume/replica/replica.h"

struct replica_host;

enum { HOST_CHANGES = 32, HOST_READS = 32 }; /* under way in the core; more wait */

enum host_damage {
    DAMAGE_MENDED, /* it was served, and can be read again */
    DAMAGE_SERVED, /* it was served, but it is damaged still */
    DAMAGE_LOST,   /* nobody has what it was */
};

struct replica_wires {
    void *arg;
    /* Sends a message; the content, when there is one, is held (content_hold) until it is on its way. That of a STEP is a
     * stretch: its bytes are what goes over the wire. */
    void (*send)(void *arg, uint8_t node, const struct replica_message *message, struct replica_content *content);
    /* The register: its value comes with host_config, also when a proposal was refused. */
    void (*fetch)(void *arg);
    void (*propose)(void *arg, const struct replica_config *config);
    void (*fence)(void *arg, uint8_t node); /* host_fenced, or nothing */
    void (*reset)(void *arg);               /* drop all sessions of clients; host_lost may come from within */
    void (*damaged)(void *arg, uint64_t lba, enum host_damage what); /* a block could not be read here */
};

struct replica_host_config {
    struct io *io;
    struct store *store;
    struct mem *mem;
    struct replica_contents *contents;
    uint32_t volume;            /* it is there, its CREATE published or prepared */
    struct replica_setup setup; /* but `arg` and `effect` */
    struct replica_wires wires;
    uint32_t boot;       /* of this node, higher than ever before, also when its store is new */
    uint64_t first_join; /* under which the register lists a volume that was made with it; 0: the replica has to learn, as one
                          * in the place of a lost store must: all it needs is an empty volume */
    uint64_t credit;  /* blocks that may be prepared here and not published, at most: the store says how many it has room for */
    uint32_t holders; /* volumes of this store that have credit, or will have soon, as far as is known */
};

/* [task] Takes up what the store has. ERR_NO_VOLUME, ERR_NO_MEMORY, ERR_LIMIT (more is prepared than a replica can hold),
 * ERR_NEW_FORMAT and ERR_REPLICA_STATE (disk_self.h). */
enum err host_open(const struct replica_host_config *config, struct replica_host **ret_host);
/* [task] Ends it: requests end with ERR_AGAIN, and nothing of it is called any more. Its memory must stay until the store is
 * closed, or what it had prepared was published. */
void host_close(struct replica_host *host);
/* Forgets it: after a power cut of its machine. Nothing of it is ever called again. The memory is `mem`'s. */
void host_abandon(struct replica_host *host);

/* ---- what others say ---- */

/* A message. `content`: what it carries, of the use that goes with it (FORWARD, RECORD, STEP); the reference is the host's from
 * now on. Its `body` does not count. */
void host_message(struct replica_host *host, const struct replica_message *message, struct replica_content *content);
void host_config(struct replica_host *host, const struct replica_config *config);
/* A new session of the link to a node; 0: none. */
void host_link(struct replica_host *host, uint8_t node, uint64_t session);
void host_fenced(struct replica_host *host, uint8_t node);
/* Somebody has decided to go on with what this replica has, a learner's (REPLICA_ON_FORCE). What came of it is in
 * host_status. */
void host_force(struct replica_host *host);
/* A client's session is gone: what came over it is answered to nobody. */
void host_lost(struct replica_host *host, uint64_t session);

/* ---- what clients ask ---- */

struct host_change {
    void (*done)(struct host_change *change);
    enum err err; /* OK; ERR_AGAIN (not now: nothing happened, or it is not known what did: the client must ask again);
                   * ERR_NO_SPACE; ERR_CONFLICT */
    uint64_t session;
    enum entry_kind what; /* ENTRY_NEW, ENTRY_ZERO, ENTRY_UNMAP */
    uint64_t lba;
    uint32_t count;                     /* as in store_op */
    const struct block_digest *digests; /* ENTRY_NEW; until done */
    uint64_t since;      /* not 0: it depends on what was read, when host_read said this; ERR_CONFLICT when that has changed */
    uint64_t arrived_us; /* when its command came: its age (rule 12) counts from here; 0: now */
    /* private */
    struct list link;
    struct io_msg msg;
    struct replica_content *content;
};

/* Orders a change: durable on every replica in sync, and published here or at the owner, when it is done with OK. */
void host_change(struct replica_host *host, struct host_change *change);

struct host_read {
    void (*done)(struct host_read *read);
    enum err err; /* OK: the map may be read now; ERR_AGAIN: not here, not now */
    uint64_t lba;
    uint32_t count;
    uint64_t since; /* OK: the blocks are as of this record, or newer */
    /* private */
    struct list link;
    struct io_msg msg;
};

/* May these blocks be read from the store? When it says OK, they hold all that was acknowledged before it was asked. */
void host_read(struct replica_host *host, struct host_read *read);

struct host_load {
    void (*done)(struct host_load *load);
    enum err err; /* as of store_read; ERR_AGAIN: the host ends, or learns */
    uint64_t lba;
    uint32_t count; /* 1 to STORE_READ_MAX */
    uint8_t *data;
    uint64_t bad; /* ERR_MEDIUM, ERR_PAGE_DAMAGED: the first block that nobody has, or could be read */
    bool media;   /* as of store_read */
    /* private */
    struct list link;
    struct io_msg msg;
    struct replica_host *host;
    struct store_read read;
    uint32_t next;               /* blocks before it are in `data` */
    uint8_t asked;               /* set of nodes, about block `next` */
    uint32_t rounds;             /* times that all were asked about it */
    bool unsure;                 /* somebody may still have it */
    uint64_t question, until_us; /* to whom `node` is; or, question 0: what it waits for is over then */
    uint8_t node;
    struct replica_content *lent; /* what came; to be proven */
};

/* Reads blocks that host_read allowed from the store. Each that the store cannot read is asked of the other replicas, for a
 * bounded time, and mended. */
void host_load(struct replica_host *host, struct host_load *load);

/* All that is committed, as far as this node knows, is visible here. */
bool host_is_published(const struct replica_host *host);
void host_status(const struct replica_host *host, struct replica_status *ret_status);
/* What its store said when it failed; OK: it is well. */
enum err host_failed(const struct replica_host *host);

/* Of this life. */
struct host_counts {
    uint64_t walks, walked;    /* for learners: walks; blocks with something in them, or zeros, that were read by them */
    uint64_t recorded;         /* blocks of records that were read for steps */
    uint64_t steps, stretches; /* steps with content that went out, and those of them with a stretch of a walk */
    uint64_t step_bytes;       /* of their contents */
    uint64_t digests, lapses;  /* made in time; given up because the learner did not get on */
    uint64_t applied, full;    /* steps that were applied; those that found no space */
    uint64_t learned;          /* times that it had caught up */
    uint64_t waited;           /* times that a record that was being read was not published at once */
    uint64_t dropped;          /* messages that did not fit, or came when there was no room */
    uint64_t lent;             /* blocks to others, who could not read them */
    uint64_t mended;           /* blocks that could not be read here, and can again */
    uint64_t served;           /* that could be served, but not mended */
    uint64_t lost;             /* that nobody else had */
};
const struct host_counts *host_counts(const struct replica_host *host);
/* What the protocol counts. */
const struct replica_counts *host_core_counts(const struct replica_host *host);

#endif
