/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What replicas of a volume say to each other, as the core sees it: host structs, decoded and bounded at the edge.
 *
 * The core asks nothing of the links but that what comes was sent: messages may be lost, doubled, late and out of order, and
 * the core stays right; when they are first-in first-out and not lost without a new session, it is quick.
 *
 * What is added here is added to wire.h and codec.c, too: a member that they do not know does not travel.
 *
 * Content of blocks never passes through the core: `body` names it, and who sends the message sends what it names along.
 */
#ifndef IZAR_VOLUME_REPLICA_MESSAGE_H
#define IZAR_VOLUME_REPLICA_MESSAGE_H

#include "volume/replica/config.h"

enum {
    REPLICA_STEP_RECORDS = 32, /* that one step of catch-up carries */
    REPLICA_STEP_BLOCKS = 128, /* that they write, unless there is only one */
    REPLICA_REQUESTS = 64,     /* changes that a node may have under way in one volume; width of the request windows */
};

/* A record's name: sequences never restart, the epoch says whose. */
struct replica_mark {
    uint64_t sequence;
    uint32_t epoch; /* in which it was ordered; kept when a later owner inherits it */
};

enum replica_kind {
    REPLICA_NOOP,  /* opens an epoch */
    REPLICA_WRITE, /* takes space: admitted within everybody's credit */
    REPLICA_FREE,  /* unmap, delete, reservation: always admitted */
};

/* Who asked for a change: tells a retry from a new one, for as long as the window of `node` reaches. */
struct replica_request {
    uint8_t node;
    uint32_t boot; /* of that node */
    uint64_t number;
};

struct replica_change {
    enum replica_kind kind;
    uint32_t count; /* blocks */
    uint64_t lba;
    uint64_t body; /* names the content, for the host */
    /* Not 0: what it makes of its blocks depends on what they were, as of this record or later: when any newer one touches them
     * it is OVERTAKEN, and did not happen. Judged when it is ordered; records do not have it */
    uint64_t since;
    struct replica_request request;
};

struct replica_record {
    struct replica_mark mark;
    uint32_t previous_epoch; /* of the record one sequence before: the two name the predecessor (rule 15) */
    struct replica_change change;
};

/* Which of a node's requests took place: numbers up to `high`, bit i for high - i. Replicated state, changed by publishing. */
struct replica_window {
    uint32_t boot;
    uint64_t high, done;
};

/* How far a learner has come; durable with what it describes. Blocks below `cursor` are as of `applied` (or as of `low` when
 * that is not REPLICA_NO_GAP: the stream had a gap since), blocks from it on as of `base` or later. Some may be newer than
 * that: the records after `applied` do not mind. */
struct replica_learn {
    bool on;        /* the map is a mixture: neither served nor promoted */
    uint32_t epoch; /* of the owner that the newest step came from */
    uint64_t base, low, cursor, applied;
};

#define REPLICA_NO_GAP UINT64_MAX
#define REPLICA_WALK_END UINT64_MAX /* cursor: all blocks are done */

enum replica_message_kind {
    REPLICA_HEARTBEAT,
    REPLICA_HEARTBEAT_ACK,
    REPLICA_RECORD,    /* owner to all that count: prepare this */
    REPLICA_PREPARED,  /* back: everything up to `sequence` matches and is durable */
    REPLICA_COMMIT,    /* owner: the commit number, when no record carries it within a millisecond */
    REPLICA_FORWARD,   /* to the owner: a change of my client */
    REPLICA_CONFIRM,   /* owner: its range is yours; does the client's session still live? */
    REPLICA_CONFIRMED, /* back */
    REPLICA_DONE,      /* owner: what came of a forwarded change */
    REPLICA_WANT,      /* learner: the next step, please */
    REPLICA_STEP,      /* owner: the next stretch of the walk, and committed records since the last step */
    REPLICA_FOLLOW,    /* learner: contents agree; send me the records from here on */
    REPLICA_AGAIN,     /* owner: they are no longer kept; learn the rest */
    REPLICA_ASK,       /* strict read: do you still agree? */
    REPLICA_AGREED,    /* back */
    /* Of the hosts; the core does not hear of them (host_mend.c) */
    REPLICA_BORROW, /* to any: what do you have of this block? */
    REPLICA_LENT,   /* back */
};

enum replica_outcome { REPLICA_GOOD, REPLICA_BUSY, REPLICA_FULL, REPLICA_OVERTAKEN };

struct replica_heartbeat {
    uint64_t clock;   /* the sender's, boot time in us; an ack repeats the asker's in `echo` */
    uint64_t echo;    /* ack */
    uint32_t boot_of; /* ack: boot of the asker */
    bool granted;     /* ack: the sender promised */
    uint8_t silent;   /* replicas that the sender has heard nothing of for too long */
    uint64_t version; /* ack: newest version that the sender knows of, or has proposed */
    struct replica_config config;
};

struct replica_prepared {
    uint64_t sequence;
    uint64_t end;                  /* newest record that the sender has prepared, the owner's or not */
    struct replica_mark published; /* newest that it has published */
    uint64_t want;                 /* not 0: send again from here */
    uint64_t credit;               /* blocks that may still be written after the sender's newest record, `credit_at` */
    uint64_t credit_at;
    bool full; /* and there will be no more credit unless something is unmapped; else more may come soon */
};

struct replica_forward {
    struct replica_change change;
    uint64_t clock;  /* FORWARD: of the owner, not after the command came; see forward.c */
    uint64_t ticket; /* CONFIRM, CONFIRMED */
    bool alive;      /* CONFIRMED */
    enum replica_outcome outcome;
};

struct replica_step {
    struct replica_learn learn; /* WANT: how far the learner is. STEP: how far it is afterwards */
    uint64_t cursor, applied;   /* STEP: how far it must be for the step to fit */
    uint64_t stretch;           /* STEP: blocks of the walk from `cursor` on, their changed content is `body`; 0: none */
    uint64_t body;
    bool gap;                 /* STEP: records before `applied` are no longer kept */
    bool check;               /* STEP: with this step, digest your content; WANT: that was done, at `mark` */
    bool digested;            /* STEP: this is mine as of `mark`; WANT: I know yours as of `mark` */
    struct replica_mark mark; /* STEP, WANT: where contents are compared; FOLLOW: the newest published */
    uint64_t digest[2];       /* STEP: digested */
    struct replica_window windows[REPLICA_NODES_MAX]; /* STEP: check */
    uint32_t count;
    struct replica_record records[REPLICA_STEP_RECORDS]; /* they come after the stretch */
};

struct replica_borrow {
    uint64_t lba; /* BORROW */
    bool has;     /* LENT: the block comes along; else it could not be read */
};

struct replica_message {
    enum replica_message_kind kind;
    uint8_t from;
    uint32_t boot; /* of the sender */
    uint32_t
        epoch; /* that the sender lives in; RECORD, PREPARED and all that follow from them count in their own only (rule 2) */
    uint64_t join;   /* the learner's or the in-sync replica's, in both directions; of heartbeats and their acks the sender's */
    uint64_t commit; /* owner: everything up to here is committed */
    uint64_t read;   /* ASK, AGREED, BORROW, LENT */
    union {
        struct replica_heartbeat beat;
        struct replica_record record;
        struct replica_prepared prepared;
        struct replica_forward forward;
        struct replica_step step;
        struct replica_borrow borrow;
    } u;
};

#endif
