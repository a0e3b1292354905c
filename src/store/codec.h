/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the bytes of format.h to host structs and back. Everything that comes from a device goes through a decode here,
 * once, with bounds and checksums verified; nobody else looks at foreign offsets. Decoders leave their outputs untouched on
 * failure and never read beyond `size`. Errors: ERR_TRUNCATED (too short), ERR_DECODE (impossible content), ERR_CHECKSUM,
 * ERR_NOT_OURS (no magic), ERR_NEW_FORMAT.
 */
#ifndef IZAR_STORE_CODEC_H
#define IZAR_STORE_CODEC_H

#include "base/err.h"
#include "base/sha.h"
#include "store/format.h"

/* ---- superblock ---- */

struct super_device {
    uint8_t id[16];
    uint32_t slots;
    uint8_t class;
};

struct super {
    uint32_t device_index;
    uint8_t pool_id[16];
    uint64_t generation, created_s;
    uint8_t segment_shift, device_count;
    uint64_t salt;
    uint8_t secret[64];
    uint64_t secret_from; /* log address */
    uint64_t checkpoint_bytes, directory_at, data_at;
    char name[33];
    struct super_device devices[POOL_DEVICES_MAX];
};

void super_encode(const struct super *super, struct disk_super *ret_disk);
/* `size` at least 4096. Checks magic, checksum, version, and that every number is possible. */
enum err super_decode(const void *at, size_t size, struct super *ret_super);

/* ---- map pointers ---- */

struct pointer {
    uint64_t locator; /* 0: nothing mapped below */
    uint64_t newest;
    uint64_t digest[2];
    bool graft;
};

struct disk_pointer pointer_encode(const struct pointer *pointer);
/* Any bytes are a pointer; the units of the locator may be 0: the caller checks. */
struct pointer pointer_decode(const struct disk_pointer *disk);

/* ---- checkpoint ---- */

struct chain {
    uint32_t incarnation;
    uint64_t end_number, end_checksum, next_segment;
};

struct volume_root {
    uint32_t id, snapshot, epoch, flags;
    uint64_t blocks, committed, created, stamped;
    struct pointer root, state;
};

/* The arrays belong to the caller of encode; decode points them into `room` given by the caller. */
struct checkpoint {
    uint64_t number;
    uint8_t pool_id[16];
    uint32_t incarnation, flags;
    uint64_t next_segment, next_serial;
    uint64_t replay_address, replay_number, replay_previous, written_number;
    uint32_t last_volume;
    uint64_t user_bytes, directory_digest;
    uint32_t chain_count, head_slot_count, prepared_count, volume_count, directory_pages;
    struct chain *chains;
    uint32_t *head_slots;
    uint64_t *prepared;
    struct volume_root *volumes;
    uint8_t *directory_bits; /* 2 bits a page, (directory_pages * 2 + 7) / 8 bytes */
};

/* Bytes that an encoded checkpoint takes, padded to SECTOR. */
uint64_t checkpoint_room(uint32_t chains, uint32_t head_slots, uint32_t prepared, uint32_t volumes, uint32_t directory_pages);
/* Encodes into `ret_at` (checkpoint_room bytes, all written). Returns that length. */
uint32_t checkpoint_encode(const struct checkpoint *checkpoint, uint64_t salt, uint8_t *ret_at);
/* Length of the checkpoint that begins here, from its first 160 bytes: a multiple of SECTOR not above `limit`. */
enum err checkpoint_length(const void *at, size_t size, uint64_t limit, uint32_t *ret_bytes);
/* Decodes; `room` (8-aligned) of checkpoint_decode_room(size) bytes receives the arrays. */
size_t checkpoint_decode_room(size_t size);
enum err checkpoint_decode(const void *at, size_t size, uint64_t salt, void *room, struct checkpoint *ret_checkpoint);

/* ---- batches and records ---- */

struct batch {
    uint32_t length, incarnation, records, used;
    uint64_t checksum, number, address, previous, durable;
};

/* Header only: fills `ret_disk` but for the checksum. */
void batch_encode(const struct batch *batch, struct disk_batch *ret_disk);
/* The checksum of a whole batch in memory, `used` bytes from its header. */
uint64_t batch_checksum(const void *at, uint32_t used, uint64_t salt);
/* The log address that the batch at `at` (its header is there) says it has; false: no batch begins there. Verifies nothing. */
bool batch_claims(const void *at, uint64_t *ret_address);
/* Decodes and verifies the batch at `at`, of which `size` bytes are there; `address` is where it should be. */
enum err batch_decode(const void *at, size_t size, uint64_t address, uint64_t salt, struct batch *ret_batch);

struct record {
    uint8_t kind;
    bool learn;
    uint32_t volume, epoch, previous_epoch;
    uint64_t sequence, lba, commit; /* commit: newest committed sequence when appended (0 when unknown) */
    uint32_t count;
    uint32_t entries, references;    /* references: DUP entries */
    uint32_t payload;                /* bytes of chunks behind the head, a multiple of UNIT; 0 but for DATA */
    uint32_t key_bytes, value_bytes; /* STATE, MOVE */
    const uint8_t *state;            /* STATE, MOVE: key, then value; decoded: within the bytes that were decoded */
    uint32_t boot;
    uint64_t request;
    uint16_t node;
};

struct entry {
    uint8_t kind;
    uint32_t count;           /* blocks */
    uint32_t units;           /* NEW: of the chunk, 2 to 257 */
    struct fingerprint print; /* NEW; from a batch: zeros */
    uint64_t place;           /* DUP */
    uint32_t tag;             /* NEW, DUP: the beginning of the fingerprint */
};

static inline uint32_t fingerprint_tag(const struct fingerprint *print)
{
    return get32((le32){{print->b[0], print->b[1], print->b[2], print->b[3]}});
}

/* It sets a key that is this replica's own: it stands outside of the volume's order. */
static inline bool record_is_local(const struct record *record)
{
    return record->kind == RECORD_STATE && record->learn && record->key_bytes > 0 && record->state[0] == STATE_LOCAL;
}

/* Bytes of header, entries and references (and payload of STATE and MOVE) before the payload, padded to UNIT. In a batch the
 * next record begins `payload` bytes after them. */
uint32_t record_head_bytes(const struct record *record);
/* Writes these bytes; the chunks behind them are the caller's. */
void record_encode(const struct record *record, const struct entry *entries, uint64_t address, uint8_t *ret_at);
/* Decodes the record at `at` (`size` bytes are there) and checks it: checksum at `address`, kinds, entry counts adding up to
 * `count`, payload equal to the sum of the NEW entries' units, all of it there. Of the chunks only the tags are taken.
 * `ret_entries` has room for RECORD_BLOCKS_MAX; on failure they may hold anything. */
enum err record_decode(const uint8_t *at, size_t size, uint64_t address, struct record *ret_record, struct entry *ret_entries);
/* What a record says is possible: kinds, counts, sums. */
bool record_possible(const struct record *record, const struct entry *entries);
/* How far the commit point lies behind its sequence; COMMIT_LAG_MAX: as far or farther, it is not known from here. */
#define COMMIT_LAG_MAX UINT32_MAX
uint32_t record_commit_lag(const struct record *record);
/* What batch and summary must agree in: all but fingerprints, of which the tags must be equal. */
bool record_equal(const struct record *a, const struct entry *a_entries, const struct record *b, const struct entry *b_entries);

/* ---- summaries ---- */

struct trailer {
    uint8_t kind, age;
    uint64_t body_checksum, print_checksum;
    uint32_t body_bytes, print_bytes, chunks, records;
    uint64_t segment, first_number, last_number, first_previous, last_checksum;
    uint32_t incarnation, data_bytes, slot;
};

void trailer_encode(const struct trailer *trailer, uint64_t salt, struct disk_trailer *ret_disk);
/* `at`: the last 128 bytes of a slot of `segment_bytes`. */
enum err trailer_decode(const void *at, size_t size, uint64_t segment_bytes, uint64_t salt, struct trailer *ret_trailer);
/* Checksum of a body, an address table, or fingerprints. */
uint64_t body_checksum(const void *at, size_t size, uint64_t salt);

/* What a record in a HEAD summary is told by: the one before. All zero in front of the first. */
struct summary_before {
    uint32_t units; /* where it was in the segment */
    uint32_t volume, epoch, previous_epoch, boot;
    uint16_t node;
    uint64_t sequence, lba, request; /* lba: behind its last block */
};

/* Bytes that the record takes in a summary, at most. */
uint32_t summary_record_max(const struct record *record);
/* Appends a record, which was at `offset` of the segment, to a HEAD summary body under construction; returns the bytes added.
 * Its NEW entries have their fingerprints. */
uint32_t summary_add(struct summary_before *before, uint32_t offset, const struct record *record, const struct entry *entries,
                     uint8_t *ret_at);

/* A walk over a HEAD summary body, whose checksum holds. */
struct summary_walk {
    struct cursor at;
    struct summary_before before;
};

struct summary_walk summary_walk(const uint8_t *body, size_t size);
/* The next record, as it was at `*ret_offset` of the segment. ERR_TRUNCATED at the end of the body, ERR_DECODE when malformed
 * or not possible. `ret_entries` has room for RECORD_BLOCKS_MAX; on failure they may hold anything. */
enum err summary_next(struct summary_walk *walk, uint32_t *ret_offset, struct record *ret_record, struct entry *ret_entries);

/* ---- map pages ---- */

struct leaf {
    uint64_t places[LEAF_BLOCKS];
    uint32_t tags[LEAF_BLOCKS];
};

struct inner {
    struct pointer children[INNER_FANOUT];
};

struct page_id {
    uint32_t volume;
    uint8_t level;
    uint64_t index;
};

void leaf_encode(struct page_id id, const struct leaf *leaf, struct disk_leaf *ret_disk);
/* Checks size, identity and that every place is possible (below ADDRESS_MAX, bit 63 zero). */
enum err leaf_decode(const void *at, size_t size, struct page_id id, struct leaf *ret_leaf);
void inner_encode(struct page_id id, const struct inner *inner, struct disk_inner *ret_disk);
enum err inner_decode(const void *at, size_t size, struct page_id id, struct inner *ret_inner);
/* Digests of the content below; an all-unmapped leaf and an inner page without children digest to zeros. Zero blocks and
 * unmapped blocks differ. */
void leaf_digest(const struct leaf *leaf, uint64_t ret_digest[2]);
void inner_digest(const struct inner *inner, uint64_t ret_digest[2]);

/* ---- directory pages ---- */

struct run {
    uint64_t start; /* log address in units */
    uint32_t units;
};

struct slot_entry {
    uint8_t kind, age, runs, flags;
    uint32_t live, chunks;
    struct run run[RUNS_MAX];
};

/* Encodes into DIRECTORY_BYTES; returns bytes used padded to SECTOR (the padding is zeroed). */
uint32_t directory_encode(uint32_t page, uint64_t checkpoint, uint32_t slots, const struct slot_entry *entries, uint64_t salt,
                          uint8_t *ret_at);
/* Decodes page number `page`; ret_entries has room for DIRECTORY_SLOTS. */
enum err directory_decode(const void *at, size_t size, uint32_t page, uint64_t salt, uint64_t *ret_checkpoint,
                          uint32_t *ret_slots, struct slot_entry *ret_entries);

#endif
