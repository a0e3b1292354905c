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

enum { ROOM = 64 + RECORD_BLOCKS_MAX * 16 + STATE_VALUE_MAX + RECORD_BLOCKS_MAX * PLACE_UNITS_RAW * UNIT };

/* A record as a batch holds it: head and chunks. */
static uint8_t record_bytes[ROOM];

struct decoded {
    struct record record;
    struct entry entries[RECORD_BLOCKS_MAX];
};

static enum err decode_record(const void *at, size_t size, void *ret)
{
    struct decoded *d = ret;
    return record_decode(at, size, RECORD_AT, &d->record, d->entries);
}

static struct entry entry_random(void)
{
    struct entry entry = {.kind = (uint8_t)(ENTRY_NEW + below(4)), .count = 1};
    if (entry.kind == ENTRY_ZERO || entry.kind == ENTRY_UNMAP) entry.count = 1 + (uint32_t)below(RECORD_UNMAP_MAX);
    if (entry.kind == ENTRY_NEW) {
        entry.units = below(3) ? 2 + (uint32_t)below(254) : PLACE_UNITS_RAW;
        prng_fill(&prng, entry.print.b, sizeof entry.print.b);
        entry.tag = fingerprint_tag(&entry.print);
    }
    if (entry.kind == ENTRY_DUP) {
        entry.place = place_of(UNIT * (2 + below((uint64_t)1 << 54)), 2 + (uint32_t)below(254));
        entry.tag = (uint32_t)number();
    }
    return entry;
}

/* Random; of a few volumes, as in a real log, when they are not `wild`. */
static void record_random(enum record_kind kind, bool wild, struct decoded *ret)
{
    static uint8_t state[STATE_KEY_MAX + STATE_VALUE_MAX];
    struct record *record = &ret->record;
    *record = (struct record){.kind = (uint8_t)kind,
                              .volume = wild ? (uint32_t)number() : (uint32_t)below(2),
                              .epoch = wild ? (uint32_t)number() : 1,
                              .previous_epoch = wild ? (uint32_t)number() : 1,
                              .sequence = 1 + number() / 2,
                              .lba = below(VOLUME_BLOCKS_MAX - RECORD_BLOCKS_MAX * RECORD_UNMAP_MAX),
                              .boot = wild ? (uint32_t)number() : 3,
                              .request = number(),
                              .node = wild ? (uint16_t)number() : 1};
    record->commit = record->sequence - below(min64(record->sequence, UINT32_MAX - 1) + 1);
    record->learn = kind == RECORD_MOVE || (kind != RECORD_CREATE && kind != RECORD_DISCARD && below(2));
    if (kind == RECORD_STATE || (kind == RECORD_MOVE && below(2))) {
        record->key_bytes = 1 + (uint32_t)below(STATE_KEY_MAX);
        record->value_bytes = (uint32_t)below(STATE_VALUE_MAX + 1);
        record->state = state;
        prng_fill(&prng, state, record->key_bytes + record->value_bytes);
    }
    if (kind != RECORD_DATA) return;
    record->entries = 1 + (uint32_t)below(RECORD_BLOCKS_MAX);
    for (uint32_t i = 0; i < record->entries; i++) {
        struct entry e = ret->entries[i] = entry_random();
        record->count += e.count;
        record->payload += e.units * UNIT;
        record->references += e.kind == ENTRY_DUP;
    }
}

/* Into record_bytes, with chunks of which only the tags are right. Returns the bytes of all of it. */
static uint32_t record_put(const struct decoded *d)
{
    uint32_t at = record_head_bytes(&d->record);
    record_encode(&d->record, d->entries, RECORD_AT, record_bytes);
    for (uint32_t i = 0; i < d->record.entries; i++) {
        if (d->entries[i].kind != ENTRY_NEW) continue;
        struct disk_chunk chunk = {.tag = put32(d->entries[i].tag)};
        memcpy(record_bytes + at, &chunk, sizeof chunk);
        at += d->entries[i].units * UNIT;
    }
    return at;
}

static const enum record_kind kinds[] = {RECORD_DATA,   RECORD_STATE,   RECORD_CREATE, RECORD_DELETE,
                                         RECORD_RESIZE, RECORD_DISCARD, RECORD_NOOP,   RECORD_MOVE};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

TEST(a_record_goes_there_and_back)
{
    static uint8_t again[8192];
    for (int i = 0; i < 3000; i++) {
        struct decoded d, back;
        record_random(kinds[below(KINDS)], true, &d);
        uint32_t bytes = record_put(&d), head = record_head_bytes(&d.record);
        CHECK_EQ(head % UNIT, 0);
        CHECK_OK(decode_record(record_bytes, bytes, &back));
        CHECK(record_equal(&d.record, d.entries, &back.record, back.entries));
        CHECK_EQ(back.record.references, d.record.references);
        record_encode(&back.record, back.entries, RECORD_AT, again);
        CHECK_BYTES(record_bytes, again, head);
        CHECK_ERR(ERR_CHECKSUM, record_decode(record_bytes, bytes, RECORD_AT + UNIT, &back.record, back.entries));
    }
}

TEST(records_that_differ_are_not_equal)
{
    struct decoded d, other;
    record_random(RECORD_DATA, true, &d);
#define DIFFERS(change)                                                                                                        \
    other = d;                                                                                                                 \
    change;                                                                                                                    \
    CHECK(!record_equal(&d.record, d.entries, &other.record, other.entries))
    DIFFERS(other.record.kind++);
    DIFFERS(other.record.learn = !other.record.learn);
    DIFFERS(other.record.volume++);
    DIFFERS(other.record.epoch++);
    DIFFERS(other.record.previous_epoch++);
    DIFFERS(other.record.sequence++);
    DIFFERS(other.record.lba++);
    DIFFERS(other.record.commit++);
    DIFFERS(other.record.count++);
    DIFFERS(other.record.entries--);
    DIFFERS(other.record.payload++);
    DIFFERS(other.record.boot++);
    DIFFERS(other.record.request++);
    DIFFERS(other.record.node++);
    DIFFERS(other.entries[0].kind++);
    DIFFERS(other.entries[0].count++);
    DIFFERS(other.entries[0].units++);
    DIFFERS(other.entries[0].place++);
    DIFFERS(other.entries[0].tag++);
#undef DIFFERS
    d.record = (struct record){.kind = RECORD_STATE, .key_bytes = 1, .value_bytes = 2, .state = (const uint8_t *)"abc"};
    other.record = d.record;
    CHECK(record_equal(&d.record, d.entries, &other.record, other.entries));
    other.record.state = (const uint8_t *)"abd";
    CHECK(!record_equal(&d.record, d.entries, &other.record, other.entries));
}

TEST(a_damaged_record_is_refused)
{
    for (int i = 0; i < 20; i++) {
        struct decoded d, back;
        record_random(i % 2 ? RECORD_DATA : RECORD_STATE, true, &d);
        uint32_t whole = record_put(&d), bytes = 64 + d.record.key_bytes + d.record.value_bytes;
        bytes += d.record.entries * 4 + d.record.references * 12;
        CHECK(refuses_flips(decode_record, record_bytes, 0, bytes, whole, &back));
        CHECK(refuses_shorter(decode_record, record_bytes, whole, &back));
    }
}

TEST(a_commit_point_too_far_back_is_not_known)
{
    struct decoded d = {.record = {.kind = RECORD_NOOP, .sequence = (uint64_t)1 << 40, .commit = 5}}, back;
    CHECK_OK(decode_record(record_bytes, record_put(&d), &back));
    CHECK_EQ(back.record.commit, 0);
    d.record.commit = d.record.sequence - UINT32_MAX + 1;
    CHECK_OK(decode_record(record_bytes, record_put(&d), &back));
    CHECK_EQ(back.record.commit, d.record.commit);
}

/* The record in record_bytes, whose head has `bytes`, with some of them changed and a right checksum. */
static enum err record_with(uint32_t bytes, size_t at, uint64_t value, size_t size)
{
    static uint8_t copy[ROOM];
    struct decoded back;
    le64 v = put64(value);
    memcpy(copy, record_bytes, sizeof copy);
    memcpy(copy + at, v.b, size);
    le32 crc = put32(crc32c(0, copy + 4, bytes - 4) ^ address_mix(RECORD_AT));
    memcpy(copy, crc.b, 4);
    return decode_record(copy, sizeof copy, &back);
}

TEST(an_impossible_record_is_refused)
{
    struct decoded d = {
        .record = {.kind = RECORD_DATA, .sequence = 9, .commit = 4, .lba = 7, .entries = 2, .references = 1, .count = 2},
        .entries = {{.kind = ENTRY_NEW, .count = 1, .units = 3},
                    {.kind = ENTRY_DUP, .count = 1, .place = place_of(4096, 9), .tag = 5}}};
    d.record.payload = 3 * UNIT;
    memset(record_bytes, 0, sizeof record_bytes);
    record_put(&d);
    uint32_t bytes = 64 + 2 * 4 + 12;
    CHECK_OK(record_with(bytes, 24, 7, 8));
    CHECK_ERR(ERR_DECODE, record_with(bytes, 4, RECORD_GRAFT, 1));
    CHECK_ERR(ERR_DECODE, record_with(bytes, 4, 0, 1));
    CHECK_ERR(ERR_DECODE, record_with(bytes, 4, RECORD_NOOP, 1)); /* has entries */
    CHECK_ERR(ERR_DECODE, record_with(64, 4, RECORD_RESIZE, 4));  /* no entries, but a count */
    CHECK_ERR(ERR_DECODE, record_with(bytes, 16, 0, 8));
    CHECK_OK(record_with(bytes, 5, RECORD_LEARN, 1));
    CHECK_ERR(ERR_DECODE, record_with(bytes + 2, 4, RECORD_MOVE, 1)); /* has entries, and is no catch-up */
    CHECK_ERR(ERR_DECODE, record_with(bytes, 24, VOLUME_BLOCKS_MAX - 1, 8));
    CHECK_ERR(ERR_DECODE, record_with(bytes, 24, UINT64_MAX, 8));
    CHECK_ERR(ERR_DECODE, record_with(bytes, 32, 3, 4));
    CHECK_ERR(ERR_DECODE, record_with(bytes, 36, 2, 4));
    CHECK_ERR(ERR_DECODE, record_with(bytes, 36, UINT32_MAX, 4));
    CHECK_ERR(ERR_DECODE, record_with(bytes, 40, 10, 4));           /* committed before the first */
    CHECK_ERR(ERR_DECODE, record_with(64 + 4, 6, 1, 2));            /* one entry: the count is another */
    CHECK_ERR(ERR_DECODE, record_with(64 + 12 + 33 * 4, 6, 33, 2)); /* more entries than a record has */
    CHECK_ERR(ERR_DECODE, record_with(64 + 12 + 1000 * 4, 6, 1000, 2));
    CHECK_ERR(ERR_DECODE, record_with(bytes, 64, 0, 1));
    CHECK_ERR(ERR_DECODE, record_with(bytes, 64, 5, 1));
    CHECK_ERR(ERR_DECODE, record_with(bytes, 65, 1, 1));
    CHECK_ERR(ERR_DECODE, record_with(bytes, 66, 2, 2));
    CHECK_ERR(ERR_DECODE, record_with(bytes, 68 + 2, 0, 2));
    CHECK_ERR(ERR_DECODE, record_with(bytes, 72, PLACE_ZERO, 8));
    CHECK_ERR(ERR_DECODE, record_with(bytes, 72, (uint64_t)1 << 63 | 999, 8));
    CHECK_ERR(ERR_CHECKSUM, record_with(bytes, 68, ENTRY_ZERO, 1)); /* no reference any more: the head is shorter */
}

TEST(an_impossible_state_record_is_refused)
{
    uint8_t state[STATE_KEY_MAX + 100] = {0};
    struct decoded d = {
        .record = {.kind = RECORD_STATE, .sequence = 9, .key_bytes = STATE_KEY_MAX, .value_bytes = 100, .state = state}};
    record_put(&d);
    CHECK_OK(record_with(64 + 164, 16, 9, 8));
    CHECK_EQ(record_head_bytes(&d.record), 64 + 176);
    CHECK_ERR(ERR_DECODE, record_with(64 + 164, 32, 164 << 16, 4));
    CHECK_ERR(ERR_DECODE, record_with(64 + 164, 32, (STATE_KEY_MAX + 1) | 99 << 16, 4));
    CHECK_ERR(ERR_DECODE, record_with(64 + 164, 36, 10, 4));
    CHECK_ERR(ERR_DECODE, record_with(64 + 164, 36, 12, 4));
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
        t.body_bytes = t.records * 72 + t.chunks * 22;
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
    enum { RECORDS = 200 };
    static uint8_t body[1 << 20];
    struct summary_before before = {0};
    uint32_t size = 0, offsets[RECORDS], state_at = 0;
    static struct decoded d[RECORDS];
    static uint8_t states[RECORDS * (STATE_KEY_MAX + STATE_VALUE_MAX)];
    for (uint32_t i = 0; i < RECORDS; i++) {
        struct record *r = &d[i].record;
        record_random(kinds[below(KINDS)], i % 3 == 0, &d[i]);
        if (r->key_bytes > 0) {
            memcpy(states + state_at, r->state, r->key_bytes + r->value_bytes);
            r->state = states + state_at;
            state_at += r->key_bytes + r->value_bytes;
        }
        offsets[i] = (uint32_t)(i * 4096 + below(200) * UNIT + 64);
        uint32_t added = summary_add(&before, offsets[i], r, d[i].entries, body + size);
        CHECK(added <= summary_record_max(r));
        size += added;
    }
    struct summary_walk walk = summary_walk(body, size);
    struct decoded back;
    uint32_t offset;
    for (uint32_t i = 0; i < RECORDS; i++) {
        CHECK_OK(summary_next(&walk, &offset, &back.record, back.entries));
        CHECK_EQ(offset, offsets[i]);
        CHECK(record_equal(&back.record, back.entries, &d[i].record, d[i].entries));
        for (uint32_t k = 0; k < back.record.entries; k++)
            if (back.entries[k].kind == ENTRY_NEW) CHECK(fingerprint_equal(&back.entries[k].print, &d[i].entries[k].print));
    }
    CHECK_ERR(ERR_TRUNCATED, summary_next(&walk, &offset, &back.record, back.entries));
    CHECK_EQ(walk.at.left, 0);
}

/* What a crowd of single blocks costs, whose volume has been writing for long. */
TEST(a_record_of_one_block_takes_few_bytes)
{
    uint8_t body[512];
    struct summary_before before = {0};
    struct decoded d = {.record = {.kind = RECORD_DATA,
                                   .volume = 9,
                                   .epoch = 4,
                                   .previous_epoch = 4,
                                   .boot = 77,
                                   .node = 2,
                                   .sequence = 1000000000,
                                   .commit = 999999970,
                                   .lba = 30000000,
                                   .count = 1,
                                   .entries = 1,
                                   .payload = 2048,
                                   .request = 888888888},
                        .entries = {{.kind = ENTRY_NEW, .count = 1, .units = 128}}};
    uint32_t first = summary_add(&before, 4096, &d.record, d.entries, body);
    d.record.sequence++;
    d.record.commit++;
    d.record.request++;
    d.record.lba = 12345;
    uint32_t next = summary_add(&before, 8192, &d.record, d.entries, body + first);
    CHECK(first <= 22 + 29);
    CHECK(next <= 22 + 12);
}

/* The decoder of a body that begins with `size` given bytes. */
static enum err summary_of(const uint8_t *bytes, size_t size)
{
    uint8_t *body = malloc(size ? size : 1);
    memcpy(body, bytes, size);
    struct summary_walk walk = summary_walk(body, size);
    struct decoded back;
    uint32_t offset;
    enum err e = summary_next(&walk, &offset, &back.record, back.entries);
    bool moved = walk.at.left != size;
    free(body);
    return moved == (e == OK) ? e : ERR_COUNT;
}

TEST(a_malformed_summary_is_refused)
{
    /* A NOOP at 64: origin 1 2 2 3 4, sequence 5 (+4 to the one expected), the rest as before, no lag. */
    const uint8_t noop[] = {RECORD_NOOP, 4, 1, 2, 2, 3, 4, 8, 0, 0, 0};
    uint8_t bad[64];
    CHECK_OK(summary_of(noop, sizeof noop));
    CHECK_ERR(ERR_TRUNCATED, summary_of(noop, 0));
    for (size_t cut = 1; cut < sizeof noop; cut++) CHECK_ERR(ERR_DECODE, summary_of(noop, cut));
#define REFUSED(at, value)                                                                                                     \
    memcpy(bad, noop, sizeof noop);                                                                                            \
    bad[at] = value;                                                                                                           \
    CHECK_ERR(ERR_DECODE, summary_of(bad, sizeof noop))
    REFUSED(0, RECORD_NOOP | 0x40);
    REFUSED(0, RECORD_CREATE | SUMMARY_LEARN);
    REFUSED(0, RECORD_DISCARD | SUMMARY_LEARN);
    REFUSED(0, RECORD_GRAFT);
    REFUSED(0, 0);
    REFUSED(0, RECORD_DATA); /* no entries */
    REFUSED(1, 0);           /* where the one before was */
    REFUSED(7, 1);           /* sequence 0 */
    REFUSED(10, 6);          /* committed before the first */
#undef REFUSED
    const uint8_t far[] = {RECORD_NOOP, 0x80, 0x80, 0x10, 1, 2, 2, 3, 4, 8, 0, 0, 0}; /* 4 MiB into the segment */
    const uint8_t longer[] = {RECORD_NOOP, 0x84, 0, 1, 2, 2, 3, 4, 8, 0, 0, 0};       /* 4 in two bytes */
    const uint8_t node[] = {RECORD_NOOP, 4, 1, 2, 2, 3, 0x80, 0x80, 4, 8, 0, 0, 0};
    const uint8_t volume[] = {RECORD_NOOP, 4, 0x80, 0x80, 0x80, 0x80, 0x10, 2, 2, 3, 4, 8, 0, 0, 0};
    const uint8_t wide[] = {RECORD_NOOP, 4, 1, 2, 2, 3, 4, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0, 0, 0};
    const uint8_t key[] = {RECORD_STATE, 4, 1, 2, 2, 3, 4, 8, 0, 0, 0, STATE_KEY_MAX + 1, 0};
    const uint8_t value[] = {RECORD_STATE, 4, 1, 2, 2, 3, 4, 8, 0, 0, 0, 1, 3, 'k', 'v'};
    const uint8_t crowd[] = {RECORD_DATA, 4, 1, 2, 2, 3, 4, 8, 0, 0, 0, RECORD_BLOCKS_MAX + 1, ENTRY_ZERO, 1};
    const uint8_t zeros[] = {RECORD_DATA, 4, 1, 2, 2, 3, 4, 8, 0, 0, 0, 1, ENTRY_ZERO, 0};
    const uint8_t stretch[] = {RECORD_DATA, 4, 1, 2, 2, 3, 4, 8, 0, 0, 0, 1, ENTRY_UNMAP, 0x80, 0x80, 4};
    const uint8_t fresh[] = {RECORD_DATA, 4, 1, 2, 2, 3, 4, 8, 0, 0, 0, 1, ENTRY_NEW, 5, 1, 2, 3};
    CHECK_ERR(ERR_DECODE, summary_of(far, sizeof far));
    CHECK_ERR(ERR_DECODE, summary_of(longer, sizeof longer));
    CHECK_ERR(ERR_DECODE, summary_of(node, sizeof node));
    CHECK_ERR(ERR_DECODE, summary_of(volume, sizeof volume));
    CHECK_ERR(ERR_DECODE, summary_of(wide, sizeof wide));
    CHECK_ERR(ERR_DECODE, summary_of(key, sizeof key));
    CHECK_ERR(ERR_DECODE, summary_of(value, sizeof value));
    CHECK_ERR(ERR_DECODE, summary_of(crowd, sizeof crowd));
    CHECK_ERR(ERR_DECODE, summary_of(zeros, sizeof zeros));
    CHECK_ERR(ERR_DECODE, summary_of(stretch, sizeof stretch));
    CHECK_ERR(ERR_DECODE, summary_of(fresh, sizeof fresh));
}

TESTS(a_batch_goes_there_and_back, a_damaged_batch_is_refused, an_impossible_batch_is_refused, a_record_goes_there_and_back,
      records_that_differ_are_not_equal, a_damaged_record_is_refused, a_commit_point_too_far_back_is_not_known,
      an_impossible_record_is_refused, an_impossible_state_record_is_refused, a_trailer_goes_there_and_back,
      a_damaged_trailer_is_refused, an_impossible_trailer_is_refused, a_summary_returns_its_records,
      a_record_of_one_block_takes_few_bytes, a_malformed_summary_is_refused)
