/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what codec.h encodes decodes to the same, and nothing else decodes. Method: random structures go to bytes and back
 * to the same bytes; every single bit of a checksummed structure is flipped; every length below the right one is tried in
 * memory of exactly that length; and values that no encoder would write, with a right checksum, are refused. The bytes
 * themselves are held by the golden test.
 */
#include <stdlib.h>

#include "base/hash.h"
#include "base/prng.h"
#include "check.h"
#include "store/codec.h"
#include "store/digest.h"

#define SALT 0x123456789abcdef0u

static struct prng prng = {{1, 2, 3, 4}};

static uint64_t below(uint64_t n)
{
    return prng_below(&prng, n);
}

static uint64_t number(void)
{
    return prng_next(&prng) >> below(64);
}

/* A decoder under test: `ret` is where its output goes, when it has any. */
typedef enum err decoder(const void *at, size_t size, void *ret);

/* The decoder refuses every shorter input without reading beyond it. */
static bool refuses_shorter(decoder *decode, const uint8_t *at, size_t size, void *ret)
{
    for (size_t cut = 0; cut < size; cut += cut < 256 || cut + 256 > size ? 1 : 37) {
        uint8_t *copy = malloc(cut > 0 ? cut : 1);
        memcpy(copy, at, cut);
        enum err e = decode(copy, cut, ret);
        free(copy);
        if (e != ERR_TRUNCATED) return false;
    }
    return true;
}

/* The decoder takes the input, and refuses it with any one bit of `from` to `to` changed. */
static bool refuses_flips(decoder *decode, const uint8_t *at, size_t from, size_t to, size_t size, void *ret)
{
    uint8_t *copy = malloc(size);
    memcpy(copy, at, size);
    bool refused = decode(copy, size, ret) == OK;
    for (size_t bit = from * 8; bit < to * 8 && refused; bit++) {
        copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
        refused = decode(copy, size, ret) != OK;
        copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    free(copy);
    return refused;
}

/* ---- superblock ---- */

static struct super super_random(void)
{
    struct super super = {
        .device_count = (uint8_t)(1 + below(POOL_DEVICES_MAX)),
        .generation = number(),
        .created_s = number(),
        .segment_shift = (uint8_t)(SEGMENT_SHIFT_MIN + below(SEGMENT_SHIFT_MAX - SEGMENT_SHIFT_MIN + 1)),
        .salt = number(),
        .checkpoint_bytes = SECTOR * (1 + below(1000)),
    };
    super.device_index = (uint32_t)below(super.device_count);
    prng_fill(&prng, super.pool_id, sizeof super.pool_id);
    prng_fill(&prng, super.secret, sizeof super.secret);
    for (uint64_t i = below(33); i > 0; i--) super.name[i - 1] = (char)('a' + below(26));
    for (uint32_t i = 0; i < super.device_count; i++) {
        prng_fill(&prng, super.devices[i].id, 16);
        super.devices[i].slots = 1 + (uint32_t)below(1u << 20);
        super.devices[i].class = below(2) ? DEVICE_FLASH : DEVICE_HDD;
    }
    uint64_t pages = (super.devices[super.device_index].slots + 63) / 64;
    super.directory_at = CHECKPOINT_AT + 4 * super.checkpoint_bytes;
    super.data_at = round_up64(super.directory_at + pages * 4 * DIRECTORY_BYTES, (uint64_t)1 << super.segment_shift);
    return super;
}

static enum err decode_super(const void *at, size_t size, void *ret)
{
    return super_decode(at, size, ret);
}

TEST(a_superblock_goes_there_and_back)
{
    for (int i = 0; i < 500; i++) {
        struct super super = super_random(), back;
        struct disk_super disk, again;
        super_encode(&super, &disk);
        CHECK_OK(super_decode(&disk, sizeof disk, &back));
        super_encode(&back, &again);
        CHECK_BYTES(&disk, &again, sizeof disk);
        CHECK_STR(super.name, back.name);
        CHECK_EQ(super.devices[super.device_count - 1].slots, back.devices[super.device_count - 1].slots);
    }
}

TEST(a_damaged_superblock_is_refused)
{
    struct super super = super_random(), back;
    struct disk_super disk;
    super_encode(&super, &disk);
    CHECK(refuses_shorter(decode_super, (uint8_t *)&disk, sizeof disk, &back));
    CHECK(refuses_flips(decode_super, (uint8_t *)&disk, 0, sizeof disk, sizeof disk, &back));
    disk.magic[0] = 'i';
    CHECK_ERR(ERR_NOT_OURS, super_decode(&disk, sizeof disk, &back));
}

static void super_fix(struct disk_super *disk)
{
    disk->checksum = put64(hash64((uint8_t *)disk + 16, sizeof *disk - 16, 0));
}

static enum err super_with(const struct disk_super *disk)
{
    struct disk_super fixed = *disk;
    struct super back, untouched;
    memset(&back, 0xa5, sizeof back);
    memset(&untouched, 0xa5, sizeof untouched);
    super_fix(&fixed);
    enum err e = super_decode(&fixed, sizeof fixed, &back);
    return e == OK || memcmp(&back, &untouched, sizeof back) == 0 ? e : ERR_COUNT;
}

TEST(an_impossible_superblock_is_refused)
{
    struct super super = super_random();
    struct disk_super good, bad;
    super_encode(&super, &good);
    CHECK_OK(super_with(&good));
#define REFUSED(expected, field, value)                                                                                        \
    bad = good;                                                                                                                \
    bad.field = value;                                                                                                         \
    CHECK_ERR(expected, super_with(&bad))
    REFUSED(ERR_NEW_FORMAT, version, put32(FORMAT_VERSION + 1));
    REFUSED(ERR_DECODE, version, put32(0));
    REFUSED(ERR_DECODE, device_index, put32(super.device_count));
    REFUSED(ERR_DECODE, segment_shift, SEGMENT_SHIFT_MIN - 1);
    REFUSED(ERR_DECODE, segment_shift, SEGMENT_SHIFT_MAX + 1);
    REFUSED(ERR_DECODE, segment_shift, 255);
    REFUSED(ERR_DECODE, fingerprint_kind, 2);
    REFUSED(ERR_DECODE, device_count, 0);
    REFUSED(ERR_DECODE, device_count, POOL_DEVICES_MAX + 1);
    REFUSED(ERR_DECODE, checkpoint_bytes, put64(0));
    REFUSED(ERR_DECODE, checkpoint_bytes, put64(super.checkpoint_bytes + 1));
    REFUSED(ERR_DECODE, checkpoint_bytes, put64(UINT64_MAX / SECTOR * SECTOR));
    REFUSED(ERR_DECODE, directory_at, put64(super.data_at + SECTOR));
    REFUSED(ERR_DECODE, directory_at, put64(UINT64_MAX / SECTOR * SECTOR));
    REFUSED(ERR_DECODE, data_at, put64(super.data_at + SECTOR));
    REFUSED(ERR_DECODE, data_at, put64((uint64_t)1 << 63));
    REFUSED(ERR_DECODE, devices[super.device_index].slots, put32(0));
    REFUSED(ERR_DECODE, devices[super.device_index].slots, put32(UINT32_MAX));
    REFUSED(ERR_DECODE, devices[0].class, 3);
#undef REFUSED
}

/* ---- checkpoint ---- */

static struct pointer pointer_random(void)
{
    struct pointer pointer = {.newest = number() >> 1, .digest = {number(), number()}, .graft = below(2)};
    if (below(4)) pointer.locator = locator_of(below(ADDRESS_MAX), 1 + (uint32_t)below(511));
    return pointer;
}

TEST(a_pointer_is_any_bytes)
{
    for (int i = 0; i < 1000; i++) {
        struct disk_pointer disk;
        prng_fill(&prng, &disk, sizeof disk);
        struct pointer pointer = pointer_decode(&disk);
        struct disk_pointer again = pointer_encode(&pointer);
        CHECK_BYTES(&disk, &again, sizeof disk);
    }
}

static struct chain chains[CHAIN_MAX];
static uint32_t head_slots[HEAD_SLOTS_MAX];
static uint64_t prepared[2000];
static struct volume_root volumes[200];
static uint8_t directory_bits[1000];

static struct checkpoint checkpoint_random(uint64_t scale)
{
    struct checkpoint checkpoint = {
        .number = number(),
        .incarnation = (uint32_t)number(),
        .flags = (uint32_t)below(2),
        .next_segment = number(),
        .next_serial = number(),
        .replay_address = below(ADDRESS_MAX) / SECTOR * SECTOR,
        .replay_number = number(),
        .replay_previous = number(),
        .written_number = number(),
        .last_volume = 5000,
        .user_bytes = number(),
        .chain_count = (uint32_t)below(min64(CHAIN_MAX, scale) + 1),
        .head_slot_count = (uint32_t)below(min64(HEAD_SLOTS_MAX, scale) + 1),
        .prepared_count = (uint32_t)below(min64(2000, scale) + 1),
        .volume_count = (uint32_t)below(min64(200, scale) + 1),
        .directory_pages = (uint32_t)below(min64(4000, scale) + 1),
        .chains = chains,
        .head_slots = head_slots,
        .prepared = prepared,
        .volumes = volumes,
        .directory_bits = directory_bits,
    };
    prng_fill(&prng, checkpoint.pool_id, sizeof checkpoint.pool_id);
    prng_fill(&prng, directory_bits, sizeof directory_bits);
    for (uint32_t i = 0; i < CHAIN_MAX; i++) chains[i] = (struct chain){(uint32_t)number(), number(), number(), number()};
    for (uint32_t i = 0; i < HEAD_SLOTS_MAX; i++) head_slots[i] = (uint32_t)number();
    for (uint32_t i = 0; i < 2000; i++) prepared[i] = below(ADDRESS_MAX) / UNIT * UNIT;
    for (uint32_t i = 0; i < 200; i++) {
        volumes[i] = (struct volume_root){.id = (uint32_t)below(5001),
                                          .snapshot = (uint32_t)number(),
                                          .epoch = (uint32_t)number(),
                                          .flags = (uint32_t)number(),
                                          .blocks = below(VOLUME_BLOCKS_MAX + 1),
                                          .committed = number(),
                                          .created = number(),
                                          .root = pointer_random(),
                                          .state = pointer_random()};
    }
    return checkpoint;
}

static uint8_t *checkpoint_bytes(const struct checkpoint *c, uint32_t *ret_bytes)
{
    uint64_t room = checkpoint_room(c->chain_count, c->head_slot_count, c->prepared_count, c->volume_count, c->directory_pages);
    uint8_t *bytes = malloc(room);
    memset(bytes, 0xee, room);
    *ret_bytes = checkpoint_encode(c, SALT, bytes);
    return bytes;
}

/* `ret` is not used: the room for the arrays has exactly the size that is asked for. */
static enum err decode_checkpoint(const void *at, size_t size, void *ret)
{
    struct checkpoint back;
    (void)ret;
    void *room = malloc(checkpoint_decode_room(size) + 1);
    enum err e = checkpoint_decode(at, size, SALT, room, &back);
    free(room);
    return e;
}

static bool checkpoint_returns(uint64_t scale)
{
    struct checkpoint checkpoint = checkpoint_random(scale), back;
    uint32_t bytes, again, length = 0;
    uint8_t *first = checkpoint_bytes(&checkpoint, &bytes);
    void *room = malloc(checkpoint_decode_room(bytes));
    bool same = checkpoint_length(first, 160, bytes, &length) == OK && length == bytes && bytes % SECTOR == 0 &&
                checkpoint_length(first, 160, bytes - 1, &length) == ERR_DECODE &&
                checkpoint_decode(first, bytes, SALT, room, &back) == OK;
    if (same) {
        uint8_t *second = checkpoint_bytes(&back, &again);
        same = bytes == again && memcmp(first, second, bytes) == 0 &&
               checkpoint_decode(first, bytes, SALT + 1, room, &back) == ERR_CHECKSUM;
        free(second);
    }
    free(first);
    free(room);
    return same;
}

TEST(a_checkpoint_goes_there_and_back)
{
    CHECK(checkpoint_returns(0));
    for (int i = 0; i < 100; i++) CHECK(checkpoint_returns(10));
    for (int i = 0; i < 30; i++) CHECK(checkpoint_returns(4000));
}

TEST(a_damaged_checkpoint_is_refused)
{
    struct checkpoint checkpoint = checkpoint_random(5);
    uint32_t bytes;
    uint8_t *first = checkpoint_bytes(&checkpoint, &bytes);
    CHECK(refuses_shorter(decode_checkpoint, first, bytes, NULL));
    CHECK(refuses_flips(decode_checkpoint, first, 0, bytes, bytes, NULL));
    free(first);
}

static enum err checkpoint_with(const uint8_t *good, uint32_t bytes, size_t at, uint64_t value, size_t size)
{
    uint8_t *copy = malloc(bytes);
    memcpy(copy, good, bytes);
    le64 v = put64(value);
    memcpy(copy + at, v.b, size);
    le64 checksum = put64(hash64(copy + 16, bytes - 16, SALT));
    memcpy(copy + 8, checksum.b, 8);
    enum err e = decode_checkpoint(copy, bytes, NULL);
    free(copy);
    return e;
}

TEST(an_impossible_checkpoint_is_refused)
{
    struct checkpoint c = checkpoint_random(5);
    c.chain_count = c.head_slot_count = c.prepared_count = c.volume_count = c.directory_pages = 3;
    uint32_t bytes;
    uint8_t *good = checkpoint_bytes(&c, &bytes);
    size_t prepared_at = 160 + 3 * 32 + 3 * 4, volumes_at = prepared_at + 3 * 8;
    CHECK_OK(checkpoint_with(good, bytes, 24, c.number, 8));
    CHECK_ERR(ERR_NEW_FORMAT, checkpoint_with(good, bytes, 16, FORMAT_VERSION + 1, 4));
    CHECK_ERR(ERR_DECODE, checkpoint_with(good, bytes, 16, 0, 4));
    CHECK_ERR(ERR_DECODE, checkpoint_with(good, bytes, 20, 0, 4));
    CHECK_ERR(ERR_DECODE, checkpoint_with(good, bytes, 20, 4095, 4));
    CHECK_ERR(ERR_TRUNCATED, checkpoint_with(good, bytes, 20, 8192, 4));
    CHECK_ERR(ERR_DECODE, checkpoint_with(good, bytes, 72, 16, 8));
    CHECK_ERR(ERR_DECODE, checkpoint_with(good, bytes, 72, ADDRESS_MAX, 8));
    for (size_t count_at = 108; count_at < 128; count_at += 4) {
        CHECK_ERR(ERR_DECODE, checkpoint_with(good, bytes, count_at, UINT32_MAX, 4));
        CHECK_ERR(ERR_DECODE, checkpoint_with(good, bytes, count_at, 20000, 4));
    }
    CHECK_ERR(ERR_DECODE, checkpoint_with(good, bytes, prepared_at, 8, 8));
    CHECK_ERR(ERR_DECODE, checkpoint_with(good, bytes, prepared_at, ADDRESS_MAX, 8));
    CHECK_ERR(ERR_DECODE, checkpoint_with(good, bytes, volumes_at, 5001, 4));
    CHECK_ERR(ERR_DECODE, checkpoint_with(good, bytes, volumes_at + 16, VOLUME_BLOCKS_MAX + 1, 8));
    CHECK_ERR(ERR_DECODE, checkpoint_with(good, bytes, volumes_at + 32, 1, 8)); /* a locator without units */
    CHECK_ERR(ERR_DECODE, checkpoint_with(good, bytes, volumes_at + 64, 1, 8));
    free(good);
}

/* ---- batches ---- */

#define BATCH_AT ((uint64_t)77 * SECTOR)

static enum err decode_batch(const void *at, size_t size, void *ret)
{
    return batch_decode(at, size, BATCH_AT, SALT, ret);
}

static void batch_seal(const struct batch *batch, uint8_t *at)
{
    struct disk_batch disk;
    batch_encode(batch, &disk);
    memcpy(at, &disk, sizeof disk);
    disk.checksum = put64(batch_checksum(at, batch->used, SALT));
    memcpy(at, &disk, sizeof disk);
}

static struct batch batch_random(void)
{
    struct batch batch = {.used = 64 + (uint32_t)below(8000),
                          .incarnation = (uint32_t)number(),
                          .number = 1 + below(1000000),
                          .address = BATCH_AT,
                          .previous = number()};
    batch.length = (uint32_t)round_up64(batch.used, SECTOR);
    batch.durable = below(batch.number);
    batch.records = (batch.used - 64) / 64;
    return batch;
}

TEST(a_batch_goes_there_and_back)
{
    static uint8_t bytes[3 * SECTOR], again[64];
    for (int i = 0; i < 500; i++) {
        struct batch batch = batch_random(), back;
        prng_fill(&prng, bytes, sizeof bytes);
        batch_seal(&batch, bytes);
        CHECK_OK(decode_batch(bytes, batch.length, &back));
        CHECK_EQ(back.checksum, batch_checksum(bytes, batch.used, SALT));
        struct disk_batch disk;
        batch_encode(&back, &disk);
        disk.checksum = put64(back.checksum);
        memcpy(again, &disk, sizeof disk);
        CHECK_BYTES(bytes, again, 64);
        CHECK_ERR(ERR_DECODE, batch_decode(bytes, batch.length, BATCH_AT + SECTOR, SALT, &back));
        CHECK_ERR(ERR_CHECKSUM, batch_decode(bytes, batch.length, BATCH_AT, SALT ^ 1, &back));
    }
}

TEST(a_damaged_batch_is_refused)
{
    static uint8_t bytes[SECTOR];
    struct batch batch = batch_random(), back;
    batch.used = 1000;
    batch.length = SECTOR;
    batch.records = 3;
    prng_fill(&prng, bytes, sizeof bytes);
    batch_seal(&batch, bytes);
    CHECK(refuses_shorter(decode_batch, bytes, SECTOR, &back));
    CHECK(refuses_flips(decode_batch, bytes, 0, 1000, SECTOR, &back));
    bytes[1000] ^= 1; /* padding is not covered */
    CHECK_OK(decode_batch(bytes, SECTOR, &back));
    memset(bytes, 0, sizeof bytes);
    CHECK_ERR(ERR_NOT_OURS, decode_batch(bytes, SECTOR, &back));
}

TEST(an_impossible_batch_is_refused)
{
    static uint8_t bytes[2 * SECTOR];
    struct batch good = {.length = SECTOR, .used = 200, .records = 2, .number = 5, .durable = 4, .address = BATCH_AT}, bad,
                 back;
    batch_seal(&good, bytes);
    CHECK_OK(decode_batch(bytes, SECTOR, &back));
#define REFUSED(field, value)                                                                                                  \
    bad = good;                                                                                                                \
    bad.field = value;                                                                                                         \
    batch_seal(&bad, bytes);                                                                                                   \
    CHECK_ERR(ERR_DECODE, decode_batch(bytes, 2 * SECTOR, &back))
    REFUSED(length, 2 * SECTOR);
    REFUSED(records, 3);
    REFUSED(records, UINT32_MAX);
    REFUSED(number, 0);
    REFUSED(durable, 5);
    REFUSED(address, BATCH_AT - SECTOR);
#undef REFUSED
}

/* ---- records ---- */

#define RECORD_AT (BATCH_AT + 64)

static enum err decode_record(const void *at, size_t size, void *ret)
{
    return record_decode(at, size, RECORD_AT, ret);
}

static struct entry entry_random(void)
{
    struct entry entry = {.kind = (uint8_t)(ENTRY_NEW + below(4)), .count = 1};
    if (entry.kind == ENTRY_ZERO || entry.kind == ENTRY_UNMAP) entry.count = 1 + (uint32_t)below(RECORD_UNMAP_MAX);
    if (entry.kind == ENTRY_NEW) {
        entry.units = below(3) ? 2 + (uint32_t)below(254) : PLACE_UNITS_RAW;
        prng_fill(&prng, entry.print.b, sizeof entry.print.b);
        memcpy(&entry.tag, entry.print.b, 4); /* the machines that run tests are little-endian */
    }
    if (entry.kind == ENTRY_DUP) {
        entry.place = place_of(UNIT * (2 + below((uint64_t)1 << 54)), 2 + (uint32_t)below(254));
        entry.tag = (uint32_t)number();
    }
    return entry;
}

static struct record record_random(enum record_kind kind, uint8_t *at)
{
    struct record record = {.kind = (uint8_t)kind,
                            .volume = (uint32_t)number(),
                            .epoch = (uint32_t)number(),
                            .previous_epoch = (uint32_t)number(),
                            .sequence = 1 + number() / 2,
                            .lba = below(VOLUME_BLOCKS_MAX - RECORD_BLOCKS_MAX * RECORD_UNMAP_MAX),
                            .boot = (uint32_t)number(),
                            .request = number(),
                            .node = (uint16_t)number()};
    record.commit = record.sequence - below(min64(record.sequence, UINT32_MAX - 1) + 1);
    if (kind == RECORD_STATE) {
        record.key_bytes = 1 + (uint32_t)below(STATE_KEY_MAX);
        record.value_bytes = (uint32_t)below(STATE_VALUE_MAX + 1);
        prng_fill(&prng, at + 64, record.key_bytes + record.value_bytes);
    }
    if (kind == RECORD_DATA) {
        record.entries = 1 + (uint32_t)below(RECORD_BLOCKS_MAX);
        for (uint32_t i = 0; i < record.entries; i++) {
            struct entry entry = entry_random();
            struct disk_entry disk = entry_encode(&entry);
            memcpy(at + 64 + i * 24, &disk, 24);
            record.count += entry.count;
            record.payload += entry.units * UNIT;
        }
    }
    record_seal(&record, RECORD_AT, at);
    return record;
}

static const enum record_kind kinds[] = {RECORD_DATA,   RECORD_STATE,   RECORD_CREATE, RECORD_DELETE,
                                         RECORD_RESIZE, RECORD_DISCARD, RECORD_NOOP};

TEST(a_record_goes_there_and_back)
{
    static uint8_t at[4096], again[4096];
    for (int i = 0; i < 3000; i++) {
        struct record record = record_random(kinds[below(7)], at), back;
        uint32_t bytes = record_head_bytes(&record);
        CHECK_EQ(bytes % UNIT, 0);
        CHECK_OK(decode_record(at, bytes, &back));
        memcpy(again, at, sizeof again);
        memset(again, 0, 64);
        record_seal(&back, RECORD_AT, again);
        CHECK_BYTES(at, again, bytes);
        CHECK_EQ(record_head_bytes(&back), bytes);
        CHECK_EQ(back.commit, record.commit);
        CHECK_EQ(back.payload, record.payload);
        for (uint32_t e = 0; e < back.entries; e++) {
            struct entry entry = record_entry(at, e);
            struct disk_entry disk = entry_encode(&entry);
            CHECK_BYTES(at + 64 + e * 24, &disk, 24);
        }
        CHECK_ERR(ERR_CHECKSUM, record_decode(at, bytes, RECORD_AT + UNIT, &back));
    }
}

TEST(a_damaged_record_is_refused)
{
    static uint8_t at[4096];
    struct record back;
    for (int i = 0; i < 20; i++) {
        struct record record = record_random(i % 2 ? RECORD_DATA : RECORD_STATE, at);
        uint32_t bytes = 64 + record.entries * 24 + record.key_bytes + record.value_bytes;
        CHECK(refuses_flips(decode_record, at, 0, bytes, bytes, &back));
        CHECK(refuses_shorter(decode_record, at, bytes, &back));
    }
}

TEST(a_commit_point_too_far_back_is_not_known)
{
    uint8_t at[64];
    struct record record = {.kind = RECORD_NOOP, .sequence = (uint64_t)1 << 40, .commit = 5}, back;
    record_seal(&record, RECORD_AT, at);
    CHECK_OK(decode_record(at, sizeof at, &back));
    CHECK_EQ(back.commit, 0);
    record.commit = record.sequence - UINT32_MAX + 1;
    record_seal(&record, RECORD_AT, at);
    CHECK_OK(decode_record(at, sizeof at, &back));
    CHECK_EQ(back.commit, record.commit);
}

/* The record with some bytes changed and a right checksum. */
static enum err record_with(const uint8_t *good, uint32_t bytes, size_t at, uint64_t value, size_t size)
{
    static uint8_t copy[4096];
    struct record back;
    le64 v = put64(value);
    memcpy(copy, good, bytes);
    memcpy(copy + at, v.b, size);
    le32 crc = put32(crc32c(0, copy + 4, bytes - 4) ^ address_mix(RECORD_AT));
    memcpy(copy, crc.b, 4);
    return decode_record(copy, bytes, &back);
}

TEST(an_impossible_record_is_refused)
{
    static uint8_t at[4096];
    struct record record = {.kind = RECORD_DATA, .sequence = 9, .commit = 4, .lba = 7, .entries = 2, .count = 2};
    struct entry fresh = {.kind = ENTRY_NEW, .count = 1, .units = 3};
    struct entry known = {.kind = ENTRY_DUP, .count = 1, .place = place_of(4096, 9), .tag = 5};
    struct disk_entry entries[2] = {entry_encode(&fresh), entry_encode(&known)};
    record.payload = 3 * UNIT;
    memcpy(at + 64, entries, sizeof entries);
    record_seal(&record, RECORD_AT, at);
    uint32_t bytes = 64 + 2 * 24;
    CHECK_OK(record_with(at, bytes, 24, 7, 8));
    CHECK_ERR(ERR_DECODE, record_with(at, bytes, 4, RECORD_GRAFT, 1));
    CHECK_ERR(ERR_DECODE, record_with(at, bytes, 4, 0, 1));
    CHECK_ERR(ERR_DECODE, record_with(at, bytes, 4, RECORD_NOOP, 1)); /* has entries */
    CHECK_ERR(ERR_DECODE, record_with(at, bytes, 16, 0, 8));
    CHECK_ERR(ERR_DECODE, record_with(at, bytes, 24, VOLUME_BLOCKS_MAX - 1, 8));
    CHECK_ERR(ERR_DECODE, record_with(at, bytes, 24, UINT64_MAX, 8));
    CHECK_ERR(ERR_DECODE, record_with(at, bytes, 32, 3, 4));
    CHECK_ERR(ERR_DECODE, record_with(at, bytes, 36, 2, 4));
    CHECK_ERR(ERR_DECODE, record_with(at, bytes, 36, UINT32_MAX, 4));
    CHECK_ERR(ERR_DECODE, record_with(at, bytes, 40, 10, 4)); /* committed before the first */
    CHECK_ERR(ERR_DECODE, record_with(at, bytes, 64, 0, 1));
    CHECK_ERR(ERR_DECODE, record_with(at, bytes, 64, 5, 1));
    CHECK_ERR(ERR_DECODE, record_with(at, bytes, 65, 1, 1));
    CHECK_ERR(ERR_DECODE, record_with(at, bytes, 66, 2, 2));
    CHECK_ERR(ERR_DECODE, record_with(at, bytes, 88 + 4, PLACE_ZERO, 8));
    CHECK_ERR(ERR_DECODE, record_with(at, bytes, 88 + 4, (uint64_t)1 << 63 | 999, 8));
    CHECK_ERR(ERR_DECODE, record_with(at, bytes, 88 + 2, 0, 2));
    CHECK_ERR(ERR_TRUNCATED, record_with(at, bytes, 6, 3, 2));
}

TEST(an_impossible_state_record_is_refused)
{
    static uint8_t at[4096];
    struct record record = {.kind = RECORD_STATE, .sequence = 9, .key_bytes = STATE_KEY_MAX, .value_bytes = 100};
    record_seal(&record, RECORD_AT, at);
    CHECK_OK(record_with(at, 64 + 164, 16, 9, 8));
    CHECK_EQ(record_head_bytes(&record), 64 + 176);
    CHECK(record_key(at) == at + 64);
    CHECK_ERR(ERR_DECODE, record_with(at, 64 + 164, 32, 164 << 16, 4));
    CHECK_ERR(ERR_DECODE, record_with(at, 64 + 164, 32, (STATE_KEY_MAX + 1) | 99 << 16, 4));
    CHECK_ERR(ERR_DECODE, record_with(at, 64 + 164, 36, 10, 4));
    CHECK_ERR(ERR_DECODE, record_with(at, 64 + 164, 36, 12, 4));
}

/* ---- summaries ---- */

#define SEGMENT_BYTES ((uint64_t)1 << 20)

static enum err decode_trailer(const void *at, size_t size, void *ret)
{
    return trailer_decode(at, size, SEGMENT_BYTES, SALT, ret);
}

static struct trailer trailer_random(void)
{
    struct trailer t = {.kind = (uint8_t)(below(2) ? SLOT_HEAD : SLOT_CLEANED + below(2)),
                        .age = (uint8_t)below(8),
                        .body_checksum = number(),
                        .print_checksum = number(),
                        .chunks = (uint32_t)below(1000),
                        .segment = number() & 0xffffffff,
                        .first_number = 1 + (number() >> 1),
                        .first_previous = number(),
                        .last_checksum = number(),
                        .incarnation = (uint32_t)number(),
                        .data_bytes = SECTOR * (uint32_t)below(200),
                        .slot = (uint32_t)number()};
    t.last_number = t.first_number + below(1000);
    t.body_bytes = t.chunks * 8;
    if (t.kind == SLOT_CLEANED) t.print_bytes = t.chunks * 20;
    if (t.kind == SLOT_HEAD) {
        t.records = 1 + (uint32_t)below(500);
        t.body_bytes = t.records * 72 + t.chunks * 24;
    }
    return t;
}

TEST(a_trailer_goes_there_and_back)
{
    for (int i = 0; i < 1000; i++) {
        struct trailer trailer = trailer_random(), back;
        struct disk_trailer disk, again;
        trailer_encode(&trailer, SALT, &disk);
        CHECK_OK(decode_trailer(&disk, sizeof disk, &back));
        trailer_encode(&back, SALT, &again);
        CHECK_BYTES(&disk, &again, sizeof disk);
    }
}

TEST(a_damaged_trailer_is_refused)
{
    struct trailer trailer = trailer_random(), back;
    struct disk_trailer disk;
    trailer_encode(&trailer, SALT, &disk);
    CHECK(refuses_shorter(decode_trailer, (uint8_t *)&disk, sizeof disk, &back));
    /* kind and age come before the checksum and are not covered */
    CHECK(refuses_flips(decode_trailer, (uint8_t *)&disk, 8, sizeof disk, sizeof disk, &back));
    disk.magic = put32(0);
    CHECK_ERR(ERR_NOT_OURS, decode_trailer(&disk, sizeof disk, &back));
}

static enum err trailer_with(struct trailer trailer)
{
    struct disk_trailer disk;
    struct trailer back;
    trailer_encode(&trailer, SALT, &disk);
    return decode_trailer(&disk, sizeof disk, &back);
}

TEST(an_impossible_trailer_is_refused)
{
    const struct trailer head = {.kind = SLOT_HEAD,
                                 .body_bytes = 1000,
                                 .chunks = 2,
                                 .records = 3,
                                 .first_number = 4,
                                 .last_number = 6,
                                 .data_bytes = 4096};
    const struct trailer cleaned = {
        .kind = SLOT_CLEANED, .body_bytes = 80, .print_bytes = 200, .chunks = 10, .data_bytes = 4096};
    struct trailer bad;
    CHECK_OK(trailer_with(head));
    CHECK_OK(trailer_with(cleaned));
#define REFUSED(good, field, value)                                                                                            \
    bad = good;                                                                                                                \
    bad.field = value;                                                                                                         \
    CHECK_ERR(ERR_DECODE, trailer_with(bad))
    REFUSED(head, kind, SLOT_FREE);
    REFUSED(head, kind, SLOT_META);
    REFUSED(head, kind, 5);
    REFUSED(head, body_bytes, UINT32_MAX);
    REFUSED(head, body_bytes, SEGMENT_BYTES - 4096);
    REFUSED(head, print_bytes, 20);
    REFUSED(head, chunks, UINT32_MAX);
    REFUSED(head, records, UINT32_MAX);
    REFUSED(head, last_number, 3);
    REFUSED(head, first_number, 0);
    REFUSED(head, segment, UINT64_MAX);
    REFUSED(head, data_bytes, SEGMENT_BYTES);
    REFUSED(head, data_bytes, 4097);
    REFUSED(cleaned, chunks, 11);
    REFUSED(cleaned, chunks, 10 + (1u << 29)); /* its table would be as long, modulo 2^32 */
    REFUSED(cleaned, body_bytes, 88);
    REFUSED(cleaned, print_bytes, 0);
    REFUSED(cleaned, kind, SLOT_CLEANED_META);
#undef REFUSED
}

TEST(a_summary_returns_its_records)
{
    static uint8_t body[1 << 20], at[4096];
    static struct {
        uint32_t offset, bytes;
        uint64_t checksum;
    } expected[200];
    size_t size = 0, offset = 0;
    for (uint32_t i = 0; i < 200; i++) {
        struct record record = record_random(kinds[below(7)], at);
        uint32_t bytes = 64 + record.entries * 24 + record.key_bytes + record.value_bytes;
        expected[i].offset = i * 4096 + 64;
        expected[i].bytes = bytes;
        expected[i].checksum = hash64(at, bytes, 0);
        uint32_t added = summary_add(body + size, expected[i].offset, at, bytes);
        CHECK_EQ(added, 8 + round_up64(bytes, 8));
        size += added;
    }
    const uint8_t *record;
    uint32_t record_offset, bytes;
    for (uint32_t i = 0; i < 200; i++) {
        CHECK_OK(summary_next(body, size, &offset, &record_offset, &record, &bytes));
        CHECK_EQ(record_offset, expected[i].offset);
        CHECK_EQ(bytes, expected[i].bytes);
        CHECK_EQ(hash64(record, bytes, 0), expected[i].checksum);
    }
    CHECK_EQ(offset, size);
    CHECK_ERR(ERR_TRUNCATED, summary_next(body, size, &offset, &record_offset, &record, &bytes));
    CHECK_EQ(offset, size);
}

static enum err summary_with(uint32_t offset, uint32_t bytes, size_t size)
{
    uint8_t *body = malloc(size + 8);
    struct disk_summary_record disk = {put32(offset), put32(bytes)};
    memcpy(body, &disk, 8);
    const uint8_t *record;
    uint32_t record_offset, record_bytes;
    size_t at = 0;
    enum err e = summary_next(body, size, &at, &record_offset, &record, &record_bytes);
    free(body);
    return at == 0 || e == OK ? e : ERR_COUNT;
}

TEST(a_malformed_summary_is_refused)
{
    CHECK_OK(summary_with(64, 64, 72));
    CHECK_ERR(ERR_TRUNCATED, summary_with(64, 64, 0));
    CHECK_ERR(ERR_DECODE, summary_with(64, 64, 7));
    CHECK_ERR(ERR_DECODE, summary_with(64, 64, 71));
    CHECK_ERR(ERR_DECODE, summary_with(64, 65, 73));
    CHECK_ERR(ERR_DECODE, summary_with(64, 63, 72));
    CHECK_ERR(ERR_DECODE, summary_with(64, UINT32_MAX, 72));
    CHECK_ERR(ERR_DECODE, summary_with(65, 64, 72));
    CHECK_ERR(ERR_DECODE, summary_with(1u << 22, 64, 72));
}

/* ---- map pages ---- */

static struct leaf leaf_random(void)
{
    struct leaf leaf;
    for (uint32_t i = 0; i < LEAF_BLOCKS; i++) {
        leaf.places[i] = below(3) ? prng_next(&prng) >> 1 : below(2);
        leaf.tags[i] = (uint32_t)number();
    }
    return leaf;
}

static const struct page_id leaf_id = {.volume = 7, .level = PAGE_LEAF, .index = 123456789};

static enum err decode_leaf(const void *at, size_t size, void *ret)
{
    return leaf_decode(at, size, leaf_id, ret);
}

TEST(a_leaf_goes_there_and_back)
{
    struct disk_leaf disk;
    for (int i = 0; i < 50; i++) {
        struct leaf leaf = leaf_random(), back;
        leaf_encode(leaf_id, &leaf, &disk);
        CHECK_OK(decode_leaf(&disk, sizeof disk, &back));
        CHECK_BYTES(leaf.places, back.places, sizeof leaf.places);
        CHECK_BYTES(leaf.tags, back.tags, sizeof leaf.tags);
    }
}

TEST(another_or_impossible_leaf_is_refused)
{
    static uint8_t longer[sizeof(struct disk_leaf) + 1];
    struct leaf leaf = leaf_random(), back;
    struct disk_leaf disk;
    leaf_encode(leaf_id, &leaf, &disk);
    memcpy(longer, &disk, sizeof disk);
    CHECK(refuses_shorter(decode_leaf, longer, sizeof disk, &back));
    CHECK_ERR(ERR_DECODE, decode_leaf(longer, sizeof longer, &back));
    CHECK_ERR(ERR_DECODE, leaf_decode(&disk, sizeof disk, (struct page_id){8, PAGE_LEAF, 123456789}, &back));
    CHECK_ERR(ERR_DECODE, leaf_decode(&disk, sizeof disk, (struct page_id){7, PAGE_LEAF, 123456788}, &back));
    CHECK_ERR(ERR_DECODE, leaf_decode(&disk, sizeof disk, (struct page_id){7, 1, 123456789}, &back));
    disk.page.level = 1;
    CHECK_ERR(ERR_DECODE, leaf_decode(&disk, sizeof disk, (struct page_id){7, 1, 123456789}, &back));
    disk.page.level = PAGE_LEAF;
    disk.planes[7][511] |= 0x80;
    CHECK_ERR(ERR_DECODE, decode_leaf(&disk, sizeof disk, &back));
}

static const struct page_id inner_id = {.volume = 7, .level = 3, .index = 5};

static enum err decode_inner(const void *at, size_t size, void *ret)
{
    return inner_decode(at, size, inner_id, ret);
}

TEST(an_inner_page_goes_there_and_back)
{
    struct disk_inner disk, again;
    for (int i = 0; i < 50; i++) {
        struct inner inner, back;
        for (uint32_t child = 0; child < INNER_FANOUT; child++) inner.children[child] = pointer_random();
        inner_encode(inner_id, &inner, &disk);
        CHECK_OK(decode_inner(&disk, sizeof disk, &back));
        inner_encode(inner_id, &back, &again);
        CHECK_BYTES(&disk, &again, sizeof disk);
        CHECK(refuses_shorter(decode_inner, (uint8_t *)&disk, sizeof disk, &back));
        CHECK_ERR(ERR_DECODE, inner_decode(&disk, sizeof disk, (struct page_id){7, 2, 5}, &back));
        disk.children[127].locator = put64(1);
        CHECK_ERR(ERR_DECODE, decode_inner(&disk, sizeof disk, &back));
    }
}

TEST(digests_tell_content_and_only_content)
{
    static struct leaf leaf, other;
    uint64_t a[2], b[2];
    leaf_digest(&leaf, a);
    CHECK(a[0] == 0 && a[1] == 0);
    leaf.tags[3] = 99; /* of a block that is not mapped */
    leaf_digest(&leaf, a);
    CHECK(a[0] == 0 && a[1] == 0);
    leaf.places[3] = PLACE_ZERO;
    leaf_digest(&leaf, a);
    CHECK(a[0] != 0 || a[1] != 0);
    other.places[3] = PLACE_ZERO;
    leaf_digest(&other, b);
    CHECK_BYTES(a, b, 16);
    other.places[3] = place_of(65536, 9);
    leaf.places[3] = place_of(131072, PLACE_UNITS_RAW);
    other.tags[3] = 99;
    leaf_digest(&leaf, a);
    leaf_digest(&other, b);
    CHECK_BYTES(a, b, 16); /* places do not matter */
    other.tags[3] = 98;
    leaf_digest(&other, b);
    CHECK(memcmp(a, b, 16) != 0);
}

TEST(inner_digests_follow_their_children)
{
    static struct inner inner, other;
    uint64_t a[2], b[2];
    inner.children[5] = (struct pointer){.locator = locator_of(4096, 3), .newest = 77};
    inner_digest(&inner, a);
    CHECK(a[0] == 0 && a[1] == 0);
    inner.children[5].digest[1] = 1;
    inner_digest(&inner, a);
    CHECK(a[0] != 0 || a[1] != 0);
    other.children[5] = (struct pointer){.locator = locator_of(8192, 3), .newest = 78, .digest = {0, 1}};
    inner_digest(&other, b);
    CHECK_BYTES(a, b, 16);
    other.children[4].digest[0] = 1;
    inner_digest(&other, b);
    CHECK(memcmp(a, b, 16) != 0);
}

/* ---- directory ---- */

#define DIRECTORY_PAGE 17u

static struct slot_entry slots_back[DIRECTORY_SLOTS];

static enum err decode_directory(const void *at, size_t size, void *ret)
{
    uint64_t checkpoint;
    uint32_t slots;
    return directory_decode(at, size, DIRECTORY_PAGE, SALT, &checkpoint, &slots, ret);
}

static uint32_t directory_random(uint32_t slots, uint8_t *ret_at)
{
    static struct slot_entry entries[DIRECTORY_SLOTS];
    for (uint32_t i = 0; i < slots; i++) {
        entries[i] = (struct slot_entry){.kind = (uint8_t)below(5),
                                         .age = (uint8_t)below(8),
                                         .runs = (uint8_t)below(RUNS_MAX + 1),
                                         .flags = (uint8_t)below(256),
                                         .live = (uint32_t)number(),
                                         .chunks = (uint32_t)number()};
        for (uint32_t r = 0; r < entries[i].runs; r++)
            entries[i].run[r] = (struct run){below((uint64_t)1 << 54), 1 + (uint32_t)below(UINT32_MAX)};
    }
    memset(ret_at, 0xee, DIRECTORY_BYTES);
    return directory_encode(DIRECTORY_PAGE, 1000 + slots, slots, entries, SALT, ret_at);
}

TEST(a_directory_page_goes_there_and_back)
{
    static uint8_t at[DIRECTORY_BYTES], again[DIRECTORY_BYTES];
    for (int i = 0; i < 200; i++) {
        uint32_t slots = (uint32_t)below(DIRECTORY_SLOTS + 1), slots_read;
        uint64_t checkpoint;
        uint32_t bytes = directory_random(slots, at);
        CHECK(bytes % SECTOR == 0 && bytes <= DIRECTORY_BYTES);
        CHECK_OK(directory_decode(at, sizeof at, DIRECTORY_PAGE, SALT, &checkpoint, &slots_read, slots_back));
        CHECK_EQ(checkpoint, 1000 + slots);
        CHECK_EQ(slots_read, slots);
        CHECK_EQ(directory_encode(DIRECTORY_PAGE, checkpoint, slots, slots_back, SALT, again), bytes);
        CHECK_BYTES(at, again, bytes);
        CHECK_ERR(ERR_DECODE, directory_decode(at, sizeof at, DIRECTORY_PAGE + 1, SALT, &checkpoint, &slots_read, slots_back));
        CHECK_ERR(ERR_CHECKSUM,
                  directory_decode(at, sizeof at, DIRECTORY_PAGE, SALT + 1, &checkpoint, &slots_read, slots_back));
    }
}

TEST(a_damaged_directory_page_is_refused)
{
    static uint8_t at[DIRECTORY_BYTES];
    uint32_t bytes = directory_random(5, at);
    CHECK(refuses_shorter(decode_directory, at, bytes, slots_back));
    CHECK(refuses_flips(decode_directory, at, 0, bytes, bytes, slots_back));
    at[0]++;
    CHECK_ERR(ERR_NOT_OURS, decode_directory(at, bytes, slots_back));
}

static enum err directory_with(size_t at, uint64_t value, size_t size)
{
    static uint8_t page[DIRECTORY_BYTES];
    struct slot_entry entry = {.kind = SLOT_CLEANED, .runs = 2, .run = {{100, 5}, {200, 6}}};
    uint32_t bytes = directory_encode(DIRECTORY_PAGE, 1, 1, &entry, SALT, page);
    le64 v = put64(value);
    memcpy(page + at, v.b, size);
    le64 checksum = put64(hash64(page + 16, bytes - 16, SALT));
    memcpy(page + 8, checksum.b, 8);
    return decode_directory(page, bytes, slots_back);
}

TEST(an_impossible_directory_page_is_refused)
{
    CHECK_OK(directory_with(32, SLOT_HEAD, 1));
    CHECK_ERR(ERR_DECODE, directory_with(32, SLOT_CLEANED_META + 1, 1));
    CHECK_ERR(ERR_DECODE, directory_with(34, RUNS_MAX + 1, 1));
    CHECK_ERR(ERR_DECODE, directory_with(28, DIRECTORY_SLOTS + 1, 4));
    CHECK_ERR(ERR_DECODE, directory_with(4, DIRECTORY_BYTES + 1, 4));
    CHECK_ERR(ERR_DECODE, directory_with(4, 31, 4));
    CHECK_ERR(ERR_DECODE, directory_with(44, (uint64_t)1 << 55, 8));
    CHECK_ERR(ERR_DECODE, directory_with(44, ((uint64_t)1 << 55) - 4, 8));
    CHECK_ERR(ERR_DECODE, directory_with(52, 0, 4));
}

TESTS(a_superblock_goes_there_and_back, a_damaged_superblock_is_refused, an_impossible_superblock_is_refused,
      a_pointer_is_any_bytes, a_checkpoint_goes_there_and_back, a_damaged_checkpoint_is_refused,
      an_impossible_checkpoint_is_refused, a_batch_goes_there_and_back, a_damaged_batch_is_refused,
      an_impossible_batch_is_refused, a_record_goes_there_and_back, a_damaged_record_is_refused,
      a_commit_point_too_far_back_is_not_known, an_impossible_record_is_refused, an_impossible_state_record_is_refused,
      a_trailer_goes_there_and_back, a_damaged_trailer_is_refused, an_impossible_trailer_is_refused,
      a_summary_returns_its_records, a_malformed_summary_is_refused, a_leaf_goes_there_and_back,
      another_or_impossible_leaf_is_refused, an_inner_page_goes_there_and_back, digests_tell_content_and_only_content,
      inner_digests_follow_their_children, a_directory_page_goes_there_and_back, a_damaged_directory_page_is_refused,
      an_impossible_directory_page_is_refused)
