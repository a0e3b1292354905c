/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every byte that the register puts on wires and disks. Version 1 of both.
 *
 *     request      = struct wire_request, and for ACCEPT a state
 *     answer       = struct wire_answer, and a state unless `accepted` is none or the request was ACCEPT. MOVED: the state is
 *                    without its bytes
 *     acceptor file = struct disk_acceptor, and a state unless `accepted` is none. Two of them (acceptor_file.h)
 *     state        = struct disk_register, then its bytes
 *
 * A message is a whole: whoever carries it knows where it ends, and keeps it from damage and forgery. Its `size` repeats
 * the length, as a check. The file's checksum, XXH3-64, covers all that follows it. All numbers are little-endian. Reserved
 * bytes are written as zero and ignored.
 *
 * Rules of change: a field is never renumbered or reused; whoever reads a newer version refuses it. The version of a message is
 * that of the oldest format that has all it says.
 */
#ifndef IZAR_CLUSTER_FORMAT_H
#define IZAR_CLUSTER_FORMAT_H

#include "base/bytes.h"

enum {
    REGISTER_WIRE_VERSION = 1,
    ACCEPTOR_FILE_VERSION = 1,
    WIRE_ANSWER_BIT = 0x80, /* in `kind` of an answer */
};

#define ACCEPTOR_MAGIC "IZARACPT"

struct disk_ballot {
    le64 round; /* 0: none, and all of it is 0 */
    le32 node, boot;
};
SIZE(disk_ballot, 16);
AT(disk_ballot, node, 8);

struct disk_tag {
    le32 node, boot;
    le64 number;
};
SIZE(disk_tag, 16);

struct disk_register {
    le64 version;                  /* from 1 */
    le64 epoch;                    /* from 1 */
    le32 size;                     /* of the bytes that follow */
    uint8_t now_count, next_count; /* 1 to 7, 0 to 7 */
    uint8_t reserved[2];
    le64 now[7], next[7]; /* ascending; what is beyond the count is 0 */
    struct disk_tag tags[16];
};
SIZE(disk_register, 392);
AT(disk_register, size, 16);
AT(disk_register, now, 24);
AT(disk_register, tags, 136);

struct wire_request {
    le16 version;
    uint8_t kind; /* 1 LOOK, 2 PREPARE, 3 ACCEPT */
    uint8_t reserved;
    le32 size; /* of the whole message */
    uint8_t cluster[16];
    le64 acceptor;
    le32 node, boot;
    le64 attempt;
    le64 epoch;
    struct disk_ballot ballot; /* LOOK: none */
};
SIZE(wire_request, 72);
AT(wire_request, cluster, 8);
AT(wire_request, node, 32);
AT(wire_request, ballot, 56);

struct wire_answer {
    le16 version;
    uint8_t kind;    /* as asked, with WIRE_ANSWER_BIT */
    uint8_t verdict; /* 1 YES, 2 OUTBID, 3 MOVED */
    le32 size;
    uint8_t cluster[16];
    le64 acceptor;
    le32 node, boot; /* of the proposer */
    le64 attempt;
    struct disk_ballot promised, accepted;
};
SIZE(wire_answer, 80);
AT(wire_answer, promised, 48);

struct disk_acceptor {
    uint8_t magic[8];
    le64 checksum;
    le32 version;
    le32 size;       /* of header and state */
    le64 generation; /* counts what was written: the higher file is the newer */
    uint8_t cluster[16];
    le64 id;
    le32 boot;
    uint8_t reserved[4];
    struct disk_ballot promised, accepted;
};
SIZE(disk_acceptor, 96);
AT(disk_acceptor, version, 16);
AT(disk_acceptor, cluster, 32);
AT(disk_acceptor, boot, 56);
AT(disk_acceptor, promised, 64);

#endif
