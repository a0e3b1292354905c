/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: batches, records and summaries decode to what was encoded, and nothing else decodes (method: codec.h).
 */
#include "store/digest.h"
#include "unit/codec.h"

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

TESTS(a_batch_goes_there_and_back, a_damaged_batch_is_refused, an_impossible_batch_is_refused, a_record_goes_there_and_back,
      a_damaged_record_is_refused, a_commit_point_too_far_back_is_not_known, an_impossible_record_is_refused,
      an_impossible_state_record_is_refused, a_trailer_goes_there_and_back, a_damaged_trailer_is_refused,
      an_impossible_trailer_is_refused, a_summary_returns_its_records, a_malformed_summary_is_refused)
