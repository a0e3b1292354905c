/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every byte that a pool puts on its devices. Format version 1.
 *
 * A device:
 *
 *     0        superblock, copy 0 (4 KiB)
 *     64 KiB   superblock, copy 1
 *     128 KiB  checkpoint areas: side A copy 0, side B copy 0, side A copy 1, side B copy 1, each of `checkpoint_bytes`.
 *              Copy 0 lives on device 0, copy 1 on device 1 where the pool has two devices, else on device 0 too.
 *     then     directory area: for every 64 slots of this device four places of 12 KiB: A copy 0, B copy 0, A copy 1, B copy 1
 *     data     slots of one segment size each, aligned to the segment size
 *
 * The log is an infinite sequence of bytes, cut into segments of 2^segment_shift bytes (4 MiB; less only in tests). A log
 * address is a byte position in it; a chunk starts on a 16-byte unit and keeps its address for life, wherever it lies.
 * A slot holds one of:
 *
 *     HEAD     a segment of foreground records. Batches from offset 0, each 4 KiB aligned, then, right-aligned to the end
 *              of the slot, the summary: body and, as the last 128 bytes, the trailer. The summary is the seal: it is
 *              written when all batches before its end are durable.
 *     META     a segment of map pages, chunk after chunk, each append padded to 4 KiB. No trailer: chunks delimit themselves.
 *     CLEANED  chunks of several segments that survived cleaning, in order of their log addresses, then, right-aligned, the
 *              address table, the fingerprints (none for map pages), and the trailer.
 *
 *     batch    = struct disk_batch, then records, padded to 4 KiB.
 *     record   = struct disk_record, entries, references, padded to a unit, then the payload: one chunk for each NEW entry.
 *     chunk    = struct disk_chunk, stored bytes, padded to a unit.
 *
 * Checksums. CRC32C on chunks and records, always mixed with the log address, so that a misdirected or lost write does not
 * pass; XXH3-64 seeded with the pool's random salt on everything else, so that no guest can forge a structure by writing
 * its bytes into a volume. All numbers are little-endian. Reserved bytes are written as zero and ignored.
 *
 * Rules of change: a field is never renumbered or reused; a reader refuses a superblock with a newer version.
 */
#ifndef IZAR_STORE_FORMAT_H
#define IZAR_STORE_FORMAT_H

#include "base/bytes.h"

enum {
    FORMAT_VERSION = 1,
    BLOCK_SIZE = 4096,  /* a block of a volume */
    UNIT = 16,          /* chunks start on and are padded to units */
    SECTOR = 4096,      /* what every write to a device is aligned to */
    LEAF_BLOCKS = 512,  /* blocks that a map leaf covers */
    INNER_FANOUT = 128, /* children of an inner page */
    INNER_LEVELS = 4,   /* inner levels above the leaves; the root is level 4 */
    SEGMENT_SHIFT_MIN = 16,
    SEGMENT_SHIFT_MAX = 22,
    POOL_DEVICES_MAX = 16,
    RUNS_MAX = 8,             /* address runs in a cleaned slot */
    RECORD_BLOCKS_MAX = 32,   /* blocks with data in one record */
    RECORD_UNMAP_MAX = 65535, /* blocks that one unmap or zero entry covers */
    DIRECTORY_SLOTS = 64,     /* slots that one directory page describes */
    DIRECTORY_BYTES = 12288,  /* room for a directory page */
    CHAIN_MAX = 64,           /* incarnations a checkpoint can list */
    HEAD_SLOTS_MAX = 1024,    /* slots a checkpoint promises to the head */
    VOLUMES_MAX = 4096,
    STATE_KEY_MAX = 64,
    STATE_VALUE_MAX = 3072,
    STATE_PAGE_BYTES = 8000,
    STATE_BYTES_MAX = INNER_FANOUT * STATE_PAGE_BYTES, /* 1,024,000: the keyed state of one volume */
};

#define SUPER_AT_0 0u
#define SUPER_AT_1 65536u
#define CHECKPOINT_AT 131072u
#define VOLUME_BLOCKS_MAX ((uint64_t)1 << 37)
#define ADDRESS_MAX ((uint64_t)1 << 59) /* log addresses stay below */

/* Checkpoints and directory pages have two sides that take turns, so that a torn one leaves the one before, each in two copies:
 * copy 0 of both sides, then copy 1 of both. Checkpoint n is on side (n + 1) % 2; its copies are on the first
 * two devices, where there are two. */
static inline uint64_t checkpoint_side_at(uint64_t checkpoint_bytes, uint64_t side, uint32_t copy)
{
    return CHECKPOINT_AT + (copy * 2 + side) * checkpoint_bytes;
}

/* `page` counts from the device's first, `directory_at` is the device's. */
static inline uint64_t directory_page_at(uint64_t directory_at, uint32_t page, uint32_t side, uint32_t copy)
{
    return directory_at + ((uint64_t)page * 4 + copy * 2 + side) * DIRECTORY_BYTES;
}

/* ---- places: 8 bytes that say where a block is ---- */

/*
 * place:   bits 0-54 log address in units, bits 55-62 length in units as first written (0: stored raw, 257 units), bit 63 zero.
 * locator: bits 0-54 log address in units, bits 55-63 length in units, 1 to 511. Used for pages and in address tables.
 */
#define PLACE_NONE ((uint64_t)0) /* unmapped */
#define PLACE_ZERO ((uint64_t)1) /* written as zeros, never stored */
/* The map page that knew where the block is was damaged. An address in segment 0, where nothing ever is: reads fail. */
#define PLACE_LOST ((uint64_t)2)
#define PLACE_UNITS_RAW 257u
#define PLACE_UNITS_MAX 255u

static inline bool place_is_chunk(uint64_t place)
{
    return place > PLACE_ZERO;
}

static inline uint64_t place_address(uint64_t place)
{
    return (place & (((uint64_t)1 << 55) - 1)) * UNIT;
}

static inline uint32_t place_units(uint64_t place)
{
    uint32_t units = (uint32_t)(place >> 55) & 255;
    return units ? units : PLACE_UNITS_RAW;
}

static inline uint64_t place_of(uint64_t address, uint32_t units)
{
    return address / UNIT | (uint64_t)(units == PLACE_UNITS_RAW ? 0 : units) << 55;
}

static inline uint64_t locator_address(uint64_t locator)
{
    return (locator & (((uint64_t)1 << 55) - 1)) * UNIT;
}

static inline uint32_t locator_units(uint64_t locator)
{
    return (uint32_t)(locator >> 55);
}

static inline uint64_t locator_of(uint64_t address, uint32_t units)
{
    return address / UNIT | (uint64_t)units << 55;
}

/* ---- superblock ---- */

#define SUPER_MAGIC "IZARPOOL"

enum device_class { DEVICE_FLASH = 1, DEVICE_HDD = 2 };
enum fingerprint_kind { FINGERPRINT_SHA256_KEYED_160 = 1 };

struct disk_device {
    uint8_t id[16]; /* random */
    le32 slots;
    uint8_t class; /* enum device_class */
    uint8_t reserved[11];
};
SIZE(disk_device, 32);

struct disk_super {
    uint8_t magic[8];
    le64 checksum; /* XXH3-64, seed 0, of the 4080 bytes after this field */
    le32 version;  /* FORMAT_VERSION; a reader refuses a higher one */
    le32 device_index;
    uint8_t pool_id[16];
    le64 generation; /* counts rewrites of the superblock */
    le64 created_s;  /* seconds since 1970, 0 when unknown */
    uint8_t segment_shift;
    uint8_t fingerprint_kind;
    uint8_t device_count;
    uint8_t reserved0[5];
    le64 salt;          /* seeds every other checksum of the pool */
    uint8_t secret[64]; /* prefix key of the fingerprints */
    le64 checkpoint_bytes;
    le64 directory_at; /* of this device */
    le64 data_at;      /* of this device */
    char name[32];     /* padded with zeros */
    struct disk_device devices[POOL_DEVICES_MAX];
    le64 secret_from; /* log address: chunks before it are of another secret, and of no volume any more */
    uint8_t reserved1[3384];
};
AT(disk_super, checksum, 8);
AT(disk_super, version, 16);
AT(disk_super, pool_id, 24);
AT(disk_super, segment_shift, 56);
AT(disk_super, salt, 64);
AT(disk_super, secret, 72);
AT(disk_super, checkpoint_bytes, 136);
AT(disk_super, name, 160);
AT(disk_super, devices, 192);
AT(disk_super, secret_from, 704);
SIZE(disk_super, 4096);

/* ---- chunks ---- */

enum codec { CODEC_RAW = 0, CODEC_LZ4 = 1, CODEC_ZSTD = 2 /* reserved */ };

struct disk_chunk {
    le32 crc;  /* CRC32C of tag, size and stored bytes, XOR address_mix(log address) */
    le32 tag;  /* first 4 bytes of the fingerprint; of a page: of its digest */
    le16 size; /* bits 0-12 stored bytes, bits 13-15 codec */
};
SIZE(disk_chunk, 10);

enum { CHUNK_SIZE_BITS = 13 };

static inline uint32_t chunk_stored(uint16_t size)
{
    return size & ((1u << CHUNK_SIZE_BITS) - 1);
}

/* ---- batches and records ---- */

#define BATCH_MAGIC 0x315a4142u /* "BAZ1" */

struct disk_batch {
    le32 magic;
    le32 length;      /* bytes with padding: a multiple of SECTOR */
    le64 checksum;    /* XXH3-64 of bytes 16 to `used`, seed salt */
    le64 number;      /* from 1, one more than the batch before, also across incarnations */
    le64 address;     /* log address of this header */
    le64 previous;    /* checksum of the batch before; 0 for the first ever */
    le32 incarnation; /* never decreases along the chain */
    le32 records;
    le64 durable; /* when this was written, batches up to here were known to be durable */
    le32 used;    /* bytes before the padding */
    le32 reserved;
};
AT(disk_batch, checksum, 8);
AT(disk_batch, number, 16);
AT(disk_batch, previous, 32);
AT(disk_batch, durable, 48);
SIZE(disk_batch, 64);

enum record_kind {
    RECORD_DATA = 1,    /* write, zero, unmap: entries say what happens to `count` blocks from `lba` */
    RECORD_STATE = 2,   /* sets or (empty value) removes a key of the keyed state; payload: key, value */
    RECORD_CREATE = 3,  /* the volume begins; `lba` holds its size in blocks */
    RECORD_DELETE = 4,  /* the volume ends; its id is never used again */
    RECORD_RESIZE = 5,  /* `lba` holds the new size in blocks; what lies beyond is unmapped */
    RECORD_DISCARD = 6, /* prepared records of the volume from `sequence` on never happened */
    RECORD_NOOP = 7,    /* takes its sequence and carries a commit point */
    RECORD_GRAFT = 8,   /* reserved: attaches a subtree of a snapshot */
    RECORD_MOVE =
        9, /* catch-up is over: the volume stands at {epoch, sequence}; payload: a key that changes with it, or none */
};

/*
 * LEARN: a change that was ordered elsewhere and is only caught up with. It takes effect where it stands in the log, no other
 * record has to say that it was committed; its sequence is a stamp, the newest operation that its blocks are as of, and the
 * volume stands where it stood. DATA, STATE, DELETE, RESIZE and NOOP may have it, MOVE has it. Whatever stands before it in
 * the log was decided; but for a local key (see STATE_LOCAL), which changes by such records only, at any time: its record
 * carries a commit point like those without LEARN (so request windows are replayed in the order in which they changed), and
 * its sequence says no more than that.
 */
enum record_flags { RECORD_LEARN = 1 };

enum { STATE_LOCAL = 0 }; /* first byte of a key that is this replica's own */

/* The key {STATE_LOCAL, STATE_WINDOWS}: which requests of which nodes took place, an array of REQUEST_NODES of these. */
enum { STATE_WINDOWS = 'w', REQUEST_NODES = 8, REQUEST_WINDOW = 64 };

struct disk_window {
    le32 boot; /* of the node; 0: none yet */
    le32 reserved;
    le64 high; /* newest request that took place */
    le64 done; /* bit i: high - i did */
};
SIZE(disk_window, 24);

struct disk_record {
    le32 crc; /* CRC32C of bytes 4 to 64, entries, references (and payload of STATE and MOVE), XOR address_mix(log address) */
    uint8_t kind;
    uint8_t flags; /* enum record_flags */
    le16 entries;
    le32 volume;
    le32 epoch;
    le64 sequence; /* of this operation in its volume; of DISCARD: the first that never happened */
    le64 lba;
    le32 count;      /* blocks; of STATE and MOVE: key length | value length << 16 */
    le32 payload;    /* units of payload behind the entries */
    le32 commit_lag; /* sequence - newest committed sequence when this was appended; capped at 2^32 - 1 */
    le32 boot;       /* whose request this was: node, boot of the node, number */
    le64 request;
    le16 node;
    le16 reserved;
    le32 previous_epoch; /* the predecessor is {previous_epoch, sequence - 1} */
};
AT(disk_record, volume, 8);
AT(disk_record, sequence, 16);
AT(disk_record, count, 32);
AT(disk_record, request, 48);
AT(disk_record, previous_epoch, 60);
SIZE(disk_record, 64);

enum entry_kind { ENTRY_NEW = 1, ENTRY_DUP = 2, ENTRY_ZERO = 3, ENTRY_UNMAP = 4 };

/* One entry: a new block, a reference to an existing chunk, or a stretch of zeros or unmapped blocks. The fingerprint of a new
 * block is not in the batch: the summary has it, and where there is none yet it is computed again from the chunk. */
struct disk_entry {
    uint8_t kind;
    uint8_t units; /* NEW: length of the chunk in units, 0: 257 */
    le16 count;    /* NEW, DUP: 1; ZERO, UNMAP: blocks */
};
SIZE(disk_entry, 4);

/* Behind the entries: where the chunk is, one for each DUP entry, in their order. */
struct disk_reference {
    le64 place;
    le32 tag;
};
SIZE(disk_reference, 12);

/* ---- summary of a slot ---- */

#define TRAILER_MAGIC 0x31545a49u /* "IZT1" */

enum slot_kind { SLOT_FREE = 0, SLOT_HEAD = 1, SLOT_META = 2, SLOT_CLEANED = 3, SLOT_CLEANED_META = 4 };

/*
 * Body of a HEAD summary: the records of its batches once more, each told by how it differs from the one before (the first:
 * from zeros). A number is LEB128: seven bits a byte, the lowest first, no more bytes than it needs; a difference is the
 * signed one of two 64-bit numbers, modulo 2^64, as a number in zigzag.
 *
 *     byte          bits 0-3 kind of record; bit 4: volume, epochs, boot and node are those of the record before; bit 5: LEARN
 *     number        offset of the record in the segment, in units, less that of the record before
 *     5 numbers     unless bit 4: volume, epoch, previous epoch, boot, node
 *     3 differences sequence to the sequence before + 1, LBA to the LBA + count before, request to the request before
 *     number        commit lag
 *     DATA          number of entries; each: a byte, enum entry_kind, then for NEW a byte, its units as in struct disk_entry,
 *                   and the fingerprint (20 bytes), for DUP struct disk_reference, for ZERO and UNMAP a number, the blocks
 *     STATE, MOVE   numbers: length of key, length of value; key, value
 */
enum { SUMMARY_LEARN = 0x20, SUMMARY_SAME = 0x10, SUMMARY_KIND = 0x0f, SUMMARY_RECORD_LEAST = 6, SUMMARY_CHUNK_BYTES = 22 };

/* The last 128 bytes of a slot. The body ends where it begins. Body of HEAD: see above. Body of CLEANED: address table (one
 * locator a chunk, ascending; chunks lie in this order from offset 0 without gaps), then 20-byte fingerprints. */
struct disk_trailer {
    le32 magic;
    le32 reserved0;
    le64 checksum;       /* XXH3-64 of the bytes after this field, seed salt */
    le64 body_checksum;  /* HEAD: of the body; CLEANED: of the address table */
    le64 print_checksum; /* CLEANED: of the fingerprints */
    le32 body_bytes;     /* HEAD: of the body; CLEANED: of the address table */
    le32 print_bytes;    /* CLEANED: of the fingerprints */
    le32 chunks;         /* NEW entries, or chunks in the table */
    le32 records;
    le64 segment;      /* HEAD: segment number; CLEANED: serial number of the cleaned slot */
    le64 first_number; /* HEAD: number of the first batch, and of the last */
    le64 last_number;
    le64 first_previous; /* HEAD: `previous` of the first batch */
    le64 last_checksum;  /* HEAD: checksum of the last batch */
    le32 incarnation;
    le32 data_bytes; /* from the start of the slot */
    le32 slot;       /* where this was written: slot number in the pool */
    uint8_t kind;    /* enum slot_kind */
    uint8_t age;     /* CLEANED: low byte of the number of the pass that wrote it: neighbours of one pass are alike */
    uint8_t reserved1[26];
};
AT(disk_trailer, checksum, 8);
AT(disk_trailer, body_checksum, 16);
AT(disk_trailer, body_bytes, 32);
AT(disk_trailer, segment, 48);
AT(disk_trailer, last_checksum, 80);
AT(disk_trailer, slot, 96);
AT(disk_trailer, kind, 100);
SIZE(disk_trailer, 128);

/* ---- map pages: stored as chunks; codec LZ4 or raw ---- */

/* Points to a page. All zero place: nothing is mapped below (but `newest` stays: holes need no tombstones). */
struct disk_pointer {
    le64 locator;
    le64 newest;    /* bits 0-62: newest sequence of this volume below; bit 63: graft */
    le64 digest[2]; /* leaf: XXH3-128 of its tags; inner: of its children's digests. Nothing mapped: zero */
};
SIZE(disk_pointer, 32);

#define POINTER_GRAFT ((uint64_t)1 << 63)

struct disk_page {
    le32 volume;
    uint8_t level; /* 0 leaf, 1-4 inner; 16: keyed state; 17: root of the keyed state */
    uint8_t reserved[3];
    le64 index; /* LBA / 512 of a leaf; / 128 for each level above */
};
SIZE(disk_page, 16);

enum { PAGE_LEAF = 0, PAGE_STATE = 16, PAGE_STATE_ROOT = 17 };

/* Places are stored as eight planes (all lowest bytes first), because their high bytes are alike and vanish under LZ4. */
struct disk_leaf {
    struct disk_page page;
    le32 tags[LEAF_BLOCKS];
    uint8_t planes[8][LEAF_BLOCKS];
};
SIZE(disk_leaf, 6160);

struct disk_inner {
    struct disk_page page;
    struct disk_pointer children[INNER_FANOUT];
};
SIZE(disk_inner, 4112);

/* Keyed state: entries {key length (1), zero (1), value length (2), key, value}, sorted by key, packed over pages. */
struct disk_state {
    struct disk_page page;
    le32 bytes;
    uint8_t data[STATE_PAGE_BYTES];
};
SIZE(disk_state, 8020);

/* ---- directory ---- */

#define DIRECTORY_MAGIC 0x31445a49u /* "IZD1" */

struct disk_run {
    le64 start; /* log address in units */
    le32 units; /* length of the run of log addresses */
    le32 reserved;
};
SIZE(disk_run, 16);

/* One slot: this, then `runs` disk_run. */
struct disk_slot {
    uint8_t kind; /* enum slot_kind */
    uint8_t age;  /* as in its trailer */
    uint8_t runs;
    uint8_t flags;
    le32 live;   /* estimate, in units */
    le32 chunks; /* 0: not known */
};
SIZE(disk_slot, 12);

struct disk_directory {
    le32 magic;
    le32 bytes;      /* of the whole page */
    le64 checksum;   /* XXH3-64 of the bytes after this field, seed salt */
    le64 checkpoint; /* number of the checkpoint it was written for */
    le32 page;       /* first slot / 64, counted over the pool's devices one after the other: each starts a page of its own */
    le32 slots;      /* described here, at most 64 */
};
SIZE(disk_directory, 32);

/* ---- checkpoint ---- */

#define CHECKPOINT_MAGIC "IZARCKPT"

struct disk_chain {
    le32 incarnation;
    le32 reserved;
    le64 end_number;   /* last accepted batch of this incarnation */
    le64 end_checksum; /* its checksum */
    le64 next_segment; /* the chain goes on at the first head segment numbered from here on */
};
SIZE(disk_chain, 32);

struct disk_volume {
    le32 id;
    le32 snapshot; /* 0: the volume itself */
    le32 epoch;    /* of the newest committed operation */
    le32 flags;    /* bit 0: catch-up is not over, the content is of no one sequence */
    le64 blocks;
    le64 committed; /* newest committed sequence whose effect is in this root, or is found by replay */
    struct disk_pointer root;
    struct disk_pointer state; /* root of the keyed state */
    le64 created;              /* sequence of creation in its source, for clones */
    le64 stamped; /* newest stamp of catch-up ever: pages may be newer than `committed`, but than both they are not */
    le64 reserved[2];
};
AT(disk_volume, blocks, 16);
AT(disk_volume, root, 32);
AT(disk_volume, state, 64);
AT(disk_volume, stamped, 104);
SIZE(disk_volume, 128);

#define VOLUME_LEARNING 1u

/* Header, then: chain entries, head slots (le32), prepared records (le64 log addresses), volumes, deleted volume ids are
 * covered by last_volume; then two bits a directory page (bit 0: ever written, bit 1: side B is current), padded. */
struct disk_checkpoint {
    uint8_t magic[8];
    le64 checksum; /* XXH3-64 of the bytes after this field up to `bytes`, seed salt */
    le32 version;
    le32 bytes;
    le64 number; /* odd: side A; even: side B */
    uint8_t pool_id[16];
    le32 incarnation; /* of the batches written from now on */
    le32 flags;       /* bit 0: closed cleanly, nothing to replay */
    le64 next_segment;
    le64 next_serial;     /* of cleaned slots */
    le64 replay_address;  /* first batch to replay */
    le64 replay_number;   /* its number */
    le64 replay_previous; /* checksum of the batch before it */
    le64 written_number;  /* newest batch known to be durable */
    le32 last_volume;     /* highest volume id ever used */
    le32 chains;
    le32 head_slots;
    le32 prepared;
    le32 volumes;
    le32 directory_pages;
    le64 user_bytes;       /* written by clients since the pool was made: statistics */
    le64 directory_digest; /* XOR over all written directory pages of directory_mix(page, its checkpoint): a lost page shows */
    le64 reserved[2];
};
AT(disk_checkpoint, number, 24);
AT(disk_checkpoint, incarnation, 48);
AT(disk_checkpoint, replay_address, 72);
AT(disk_checkpoint, last_volume, 104);
AT(disk_checkpoint, user_bytes, 128);
SIZE(disk_checkpoint, 160);

#define CHECKPOINT_CLEAN 1u /* flags: the log ended here, and nothing was written behind it */

/* What one directory page, written for a checkpoint, adds to the digest. */
static inline uint64_t directory_mix(uint32_t page, uint64_t checkpoint)
{
    uint64_t h = (checkpoint + 1) * 0x9e3779b97f4a7c15u ^ (page + 1ull) * 0xd6e8feb86659fd93u;
    h ^= h >> 32;
    return h * 0x9e3779b97f4a7c15u;
}

#endif
