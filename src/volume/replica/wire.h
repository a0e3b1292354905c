/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What replicas of a volume say to each other, on the wire. Version 1.
 *
 *     message    = struct wire_replica_message, then by kind (`x` is struct wire_replica_x):
 *       HEARTBEAT      heartbeat, joins               HEARTBEAT_ACK  heartbeat_ack, joins
 *       RECORD         join, record                   PREPARED       prepared
 *       COMMIT, AGAIN  join                           FORWARD        forward
 *       CONFIRM        confirm                        CONFIRMED      confirmed
 *       DONE           done                           WANT           want
 *       FOLLOW         follow                         STEP           step, [compare, windows, digest], records
 *       ASK, AGREED    ask                            BORROW         borrow
 *       LENT           lent
 *     heartbeats = struct wire_replica_heartbeats, then that many messages of the kinds HEARTBEAT and HEARTBEAT_ACK
 *
 *     joins      = an le64 for each node in `joins`, by number; those of all other nodes are 0
 *     windows    = a window for each node in `windows`, by number; the others have none
 *     records    = `count` times record, each the successor of the one before
 *
 * A message is the head of a message of the links (cluster/link_format.h), whole; content of blocks is that message's body. A
 * change's content has no name here: a name is a number that means something at one node only. Heartbeats of many volumes
 * share a head: they go over an urgent stream, before all bulk, and urgent messages have no body. Some forty volumes of three
 * replicas fit.
 *
 * There is one form of everything: reserved bytes are 0, flags are 0 or 1, what is listed is not 0, the end is where the last
 * part ends. So bytes that decode encode to the same bytes. There is no checksum, TLS has one.
 *
 * Rules of change: a number, once given, is never given to something else; whoever reads a newer version refuses it. The
 * version of a message is that of the oldest format that has all it says. All numbers are little-endian. The offsets are pinned
 * here, the bytes by tests/golden/test_replica_format.c.
 */
#ifndef IZAR_VOLUME_REPLICA_WIRE_H
#define IZAR_VOLUME_REPLICA_WIRE_H

#include "base/bytes.h"

enum { REPLICA_WIRE_VERSION = 1 };

enum wire_replica_kind {
    WIRE_HEARTBEAT = 1,
    WIRE_HEARTBEAT_ACK = 2,
    WIRE_RECORD = 3,
    WIRE_PREPARED = 4,
    WIRE_COMMIT = 5,
    WIRE_FORWARD = 6,
    WIRE_CONFIRM = 7,
    WIRE_CONFIRMED = 8,
    WIRE_DONE = 9,
    WIRE_WANT = 10,
    WIRE_STEP = 11,
    WIRE_FOLLOW = 12,
    WIRE_AGAIN = 13,
    WIRE_ASK = 14,
    WIRE_AGREED = 15,
    WIRE_BORROW = 16,
    WIRE_LENT = 17,
    WIRE_HEARTBEATS = 64, /* many */
};

enum wire_replica_change_kind { WIRE_NOOP = 1, WIRE_WRITE = 2, WIRE_FREE = 3 };
enum wire_replica_outcome { WIRE_GOOD = 1, WIRE_BUSY = 2, WIRE_FULL = 3, WIRE_OVERTAKEN = 4 };

/* ---- what every message begins with ---- */

struct wire_replica_message {
    uint8_t version;
    uint8_t kind; /* enum wire_replica_kind */
    uint8_t from; /* the sender's number within the volume, 0 to 7 */
    uint8_t reserved;
    le32 volume; /* from 1 */
    le32 boot;   /* of the sender, from 1 */
    le32 epoch;  /* 0 in a CONFIRMED only: nothing known yet */
    le64 commit; /* 0: none */
};
SIZE(wire_replica_message, 24);
AT(wire_replica_message, volume, 4);
AT(wire_replica_message, boot, 8);
AT(wire_replica_message, commit, 16);

struct wire_replica_heartbeats {
    uint8_t version;
    uint8_t kind;
    le16 count; /* at least 1 */
};
SIZE(wire_replica_heartbeats, 4);
AT(wire_replica_heartbeats, count, 2);

/* ---- parts ---- */

struct wire_replica_join {
    le64 join; /* not 0, but for heartbeats */
};
SIZE(wire_replica_join, 8);

struct wire_replica_config {
    le64 version; /* from 1 */
    le32 epoch;   /* from 1 */
    le32 boot;
    uint8_t owner;             /* 0 to 7, and in sync */
    uint8_t in_sync, learners; /* sets: bit n is node n; no node is in both */
    uint8_t joins;             /* set: whose joins follow; at least all in sync */
    le32 forced_epoch;         /* 0: never, and the next is 0 */
    le64 forced_sequence;
};
SIZE(wire_replica_config, 32);
AT(wire_replica_config, owner, 16);
AT(wire_replica_config, joins, 19);
AT(wire_replica_config, forced_sequence, 24);

struct wire_replica_mark {
    le64 sequence; /* 0: none, and the next is 0 */
    le32 epoch;    /* 0: from before the volume was replicated */
};
SIZE(wire_replica_mark, 12);

struct wire_replica_request {
    uint8_t node; /* 0 to 7 */
    uint8_t reserved[3];
    le32 boot;   /* from 1; in a record also nobody's: then all is 0, as it always is in a NOOP */
    le64 number; /* from 1 */
};
SIZE(wire_replica_request, 16);
AT(wire_replica_request, number, 8);

struct wire_replica_change {
    uint8_t kind; /* enum wire_replica_change_kind */
    uint8_t reserved[3];
    le32 count; /* blocks: WRITE 1 to RECORD_BLOCKS_MAX, FREE 0 to RECORD_UNMAP_MAX, NOOP 0 */
    le64 lba;   /* without blocks 0 */
    struct wire_replica_request request;
};
SIZE(wire_replica_change, 32);
AT(wire_replica_change, lba, 8);
AT(wire_replica_change, request, 16);

struct wire_replica_record {
    le64 sequence;
    le32 epoch, previous_epoch; /* neither is above the one before it, the message's being the first */
    struct wire_replica_change change;
};
SIZE(wire_replica_record, 48);
AT(wire_replica_record, epoch, 8);
AT(wire_replica_record, change, 16);

struct wire_replica_window {
    le32 boot;
    le64 high, done; /* bit 0 of `done` is set: `high` took place */
};
SIZE(wire_replica_window, 20);
AT(wire_replica_window, high, 4);

struct wire_replica_learn {
    le64 base, low; /* low: all ones: no gap */
    le64 cursor;    /* all ones: the walk is over */
    le64 applied;
    le32 epoch; /* 0: no step yet */
    uint8_t on; /* flag; 1 in a STEP */
    uint8_t reserved[3];
};
SIZE(wire_replica_learn, 40);
AT(wire_replica_learn, cursor, 16);
AT(wire_replica_learn, epoch, 32);
AT(wire_replica_learn, on, 36);

/* ---- by kind ---- */

struct wire_replica_heartbeat {
    le64 join; /* here 0: none */
    le64 clock;
    uint8_t silent; /* set of nodes */
    uint8_t reserved[7];
    struct wire_replica_config config;
};
SIZE(wire_replica_heartbeat, 56);

struct wire_replica_heartbeat_ack {
    le64 join; /* here 0: none */
    le64 clock, echo;
    le64 version; /* not less than the config's */
    le32 boot_of;
    uint8_t granted; /* flag */
    uint8_t silent;  /* set of nodes */
    uint8_t reserved[2];
    struct wire_replica_config config;
};
SIZE(wire_replica_heartbeat_ack, 72);
AT(wire_replica_heartbeat_ack, version, 24);
AT(wire_replica_heartbeat_ack, granted, 36);
AT(wire_replica_heartbeat_ack, config, 40);

struct wire_replica_prepared {
    le64 join;
    le64 sequence, end;                 /* end: not below the first, nor below what is published */
    struct wire_replica_mark published; /* may be none */
    uint8_t full;                       /* flag */
    uint8_t reserved[3];
    le64 want;
    le64 credit, credit_at;
};
SIZE(wire_replica_prepared, 64);
AT(wire_replica_prepared, published, 24);
AT(wire_replica_prepared, full, 36);
AT(wire_replica_prepared, want, 40);

struct wire_replica_forward {
    le64 clock;
    le64 since;                        /* 0: it does not depend on what is there */
    struct wire_replica_change change; /* no NOOP */
};
SIZE(wire_replica_forward, 48);

struct wire_replica_confirm {
    le64 ticket; /* not 0 */
    struct wire_replica_request request;
};
SIZE(wire_replica_confirm, 24);

struct wire_replica_confirmed {
    le64 ticket;
    uint8_t alive; /* flag */
    uint8_t reserved[7];
};
SIZE(wire_replica_confirmed, 16);

struct wire_replica_done {
    uint8_t outcome; /* enum wire_replica_outcome */
    uint8_t reserved[7];
    struct wire_replica_request request;
};
SIZE(wire_replica_done, 24);

struct wire_replica_want {
    le64 join;
    struct wire_replica_learn learn;
    struct wire_replica_mark mark; /* none without `check` */
    uint8_t check, digested;       /* flags; the second only with the first */
    uint8_t reserved[2];
};
SIZE(wire_replica_want, 64);
AT(wire_replica_want, learn, 8);
AT(wire_replica_want, mark, 48);
AT(wire_replica_want, check, 60);

struct wire_replica_step {
    le64 join;
    struct wire_replica_learn learn; /* afterwards */
    le64 cursor, applied; /* before; applied + count = learn.applied, but for a gap or a new learner: then count is 0 */
    le64 stretch;         /* cursor + stretch is no more than all ones */
    uint8_t gap;          /* flag */
    uint8_t check;        /* flag: learn.applied is where contents are compared; compare and windows follow */
    uint8_t digested;     /* flag: compare and a digest follow; with both flags compare, windows, digest */
    uint8_t count;        /* of records */
};
SIZE(wire_replica_step, 76);
AT(wire_replica_step, cursor, 48);
AT(wire_replica_step, stretch, 64);
AT(wire_replica_step, gap, 72);

struct wire_replica_compare {
    struct wire_replica_mark mark; /* its sequence is not 0, nor above learn.applied */
    uint8_t windows;               /* set: which follow; without `check` none */
    uint8_t reserved[3];
};
SIZE(wire_replica_compare, 16);
AT(wire_replica_compare, windows, 12);

struct wire_replica_digest {
    le64 digest[2];
};
SIZE(wire_replica_digest, 16);

struct wire_replica_follow {
    le64 join;
    struct wire_replica_mark mark;
};
SIZE(wire_replica_follow, 20);

struct wire_replica_ask {
    le64 read;    /* not 0 */
    le64 version; /* from 1 */
};
SIZE(wire_replica_ask, 16);

struct wire_replica_borrow {
    le64 read; /* not 0 */
    le64 lba;  /* within a volume of any size */
};
SIZE(wire_replica_borrow, 16);

struct wire_replica_lent {
    le64 read;   /* not 0 */
    uint8_t has; /* flag: content of one block is the body */
    uint8_t reserved[7];
};
SIZE(wire_replica_lent, 16);
AT(wire_replica_lent, has, 8);

#endif
