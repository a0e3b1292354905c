/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stretches: what the blocks of one step of catch-up hold, as bytes: the body of a STEP on the wire, and nothing else in
 * memory. Version 1.
 *
 *     stretch = struct wire_stretch, then `walked` runs of the walk, by ascending blocks, none within another, then `recorded`
 *               runs: one for each record of the step that is no NOOP, in their order, with its blocks
 *     run     = struct wire_stretch_run; of WIRE_RUN_DATA (at most RECORD_BLOCKS_MAX blocks) each block as
 *               struct wire_stretch_block and its stored bytes; of the others, nothing
 *
 * What a block holds travels as the store made it: fingerprint, checksum and compressed bytes; a block of zeros among others
 * has neither. There is one form of everything: reserved bytes are 0, the end is where the last run ends. A stretch has at
 * most STRETCH_BYTES_MAX bytes, which is less than the links take (LINK_BODY_MAX).
 *
 * Rules of change: as in wire.h. All numbers are little-endian.
 */
#ifndef IZAR_VOLUME_REPLICA_STRETCH_H
#define IZAR_VOLUME_REPLICA_STRETCH_H

#include "store/digest.h"
#include "volume/replica/message.h"

enum {
    STRETCH_VERSION = 1,
    STRETCH_RUNS = 256, /* of a walk */
    STRETCH_DATA = 120, /* blocks of a walk with something in them: with the records' it all fits */
    STRETCH_BLOCKS = STRETCH_DATA + REPLICA_STEP_BLOCKS, /* with something in them */
};

enum wire_stretch_kind { WIRE_RUN_DATA = 1, WIRE_RUN_ZERO = 2, WIRE_RUN_UNMAP = 3 };

struct wire_stretch {
    uint8_t version;
    uint8_t reserved[3];
    le16 walked, recorded; /* runs */
};
SIZE(wire_stretch, 8);
AT(wire_stretch, walked, 4);

struct wire_stretch_run {
    le64 lba;
    le32 count; /* at least 1 */
    uint8_t kind;
    uint8_t reserved[3];
};
SIZE(wire_stretch_run, 16);
AT(wire_stretch_run, count, 8);
AT(wire_stretch_run, kind, 12);

struct wire_stretch_block {
    uint8_t print[20];
    le32 crc;
    le16 size; /* as in struct disk_chunk; 0: zeros, then all of this is 0 */
    uint8_t reserved[2];
};
SIZE(wire_stretch_block, 28);
AT(wire_stretch_block, crc, 20);
AT(wire_stretch_block, size, 24);

#define STRETCH_BYTES_MAX                                                                                                      \
    (uint32_t)(sizeof(struct wire_stretch) + (STRETCH_RUNS + REPLICA_STEP_RECORDS) * sizeof(struct wire_stretch_run) +         \
               STRETCH_BLOCKS * (sizeof(struct wire_stretch_block) + BLOCK_SIZE))
static_assert(STRETCH_BYTES_MAX <= 1 << 20, "the links take it");
/* In memory: blocks are read to the end of it, and made into the stretch from there on. */
#define STRETCH_ROOM ((STRETCH_BYTES_MAX / BLOCK_SIZE + 16) * BLOCK_SIZE)

/* A block as bytes, here and in bodies of other messages (body.h); its stored bytes follow it. */
void wire_block_encode(const struct block_digest *digest, struct wire_stretch_block *ret_block);
/* `stored` is for the caller to set: chunk_stored(size) bytes, whose checksum is to be looked at (digest_check). ERR_DECODE. */
enum err wire_block_decode(const struct wire_stretch_block *block, struct block_digest *ret_digest);

/* ---- making one ---- */

struct stretch_writer {
    uint8_t *bytes; /* STRETCH_ROOM; `used` of them are the stretch, at any time */
    uint32_t used;
    uint32_t walked, recorded, data; /* runs; blocks of the walk with something in them */
    /* the run at hand */
    uint32_t run, count;
    enum entry_kind kind;
    uint64_t end;
};

void stretch_begin(struct stretch_writer *w, uint8_t *bytes);
/* More of the walk: blocks of zeros or holes. False: it is full. */
bool stretch_walk_range(struct stretch_writer *w, enum entry_kind kind, uint64_t lba, uint32_t count);
/* A block with data, which may be zeros. False: it is full. */
bool stretch_walk_block(struct stretch_writer *w, uint64_t lba, const struct block_digest *digest);
/* The next record: ENTRY_NEW is followed by its blocks; after the first of these no more of the walk comes. */
bool stretch_record(struct stretch_writer *w, enum entry_kind kind, uint64_t lba, uint32_t count);
bool stretch_record_block(struct stretch_writer *w, const struct block_digest *digest);

/* ---- reading one ---- */

struct stretch_reader {
    struct cursor at;
    uint32_t walked, recorded; /* runs that are left */
};

struct stretch_run {
    enum entry_kind kind;
    uint64_t lba;
    uint32_t count;
    struct block_digest digests[RECORD_BLOCKS_MAX]; /* ENTRY_NEW; `stored` lies in the stretch */
};

/* Is this what the step needs, of a volume of so many blocks? Then stretch_open and stretch_next do not fail. ERR_DECODE,
 * ERR_CHECKSUM. */
enum err stretch_check(const uint8_t *bytes, size_t size, const struct replica_step *step, uint64_t blocks);
enum err stretch_open(const uint8_t *bytes, size_t size, struct stretch_reader *ret_reader);
/* The next run, while some are left. ERR_DECODE. */
enum err stretch_next(struct stretch_reader *r, struct stretch_run *ret_run);
/* A step that says something of blocks has a stretch; others have none. */
bool stretch_is_needed(const struct replica_step *step);

#endif
