/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what lies on a device never changes its meaning. Method: format.txt beside this file holds the bytes of every
 * structure of src/store/format.h and src/cluster/format.h, a field a line, made by a program that shares no code with them.
 * Each is encoded from values written here and must be these bytes, and these bytes decoded must be these values.
 */
#include "cluster/codec.h"
#include "golden/kept.h"
#include "store/codec.h"
#include "store/digest.h"

#define SALT 0x1122334455667788u
#define SEGMENT_BYTES ((uint64_t)1 << 22)
#define BATCH_AT 0x1401000u
#define RECORD_AT 0x1401040u
#define CHUNK_AT 0x1401200u

static void count_up(uint8_t *at, uint8_t from, size_t size)
{
    for (size_t i = 0; i < size; i++) at[i] = (uint8_t)(from + i);
}

static bool counts_up(const uint8_t *at, uint8_t from, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (at[i] != (uint8_t)(from + i)) return false;
    return true;
}

/* ---- superblock ---- */

TEST(superblock)
{
    const struct golden *g = kept("superblock");
    struct super super = {.device_index = 1,
                          .generation = 3,
                          .created_s = 1700000000,
                          .segment_shift = 22,
                          .device_count = 2,
                          .salt = SALT,
                          .checkpoint_bytes = 1 << 20,
                          .directory_at = 0x420000,
                          .data_at = 0x800000,
                          .name = "golden",
                          .devices = {{.slots = 500, .class = DEVICE_FLASH}, {.slots = 1000, .class = DEVICE_HDD}}};
    count_up(super.pool_id, 0x10, 16);
    count_up(super.secret, 0x40, 64);
    count_up(super.devices[0].id, 0xa0, 16);
    count_up(super.devices[1].id, 0xb0, 16);
    struct disk_super disk;
    super_encode(&super, &disk);
    CHECK(is_kept(g, &disk, sizeof disk));

    struct super back;
    CHECK_OK(super_decode(g->bytes, g->size, &back));
    CHECK_EQ(back.device_index, 1);
    CHECK(counts_up(back.pool_id, 0x10, 16));
    CHECK_EQ(back.generation, 3);
    CHECK_EQ(back.created_s, 1700000000);
    CHECK_EQ(back.segment_shift, 22);
    CHECK_EQ(back.device_count, 2);
    CHECK_EQ(back.salt, SALT);
    CHECK(counts_up(back.secret, 0x40, 64));
    CHECK_EQ(back.checkpoint_bytes, 1 << 20);
    CHECK_EQ(back.directory_at, 0x420000);
    CHECK_EQ(back.data_at, 0x800000);
    CHECK_STR(back.name, "golden");
    CHECK(counts_up(back.devices[0].id, 0xa0, 16) && counts_up(back.devices[1].id, 0xb0, 16));
    CHECK_EQ(back.devices[0].slots, 500);
    CHECK_EQ(back.devices[1].slots, 1000);
    CHECK_EQ(back.devices[0].class, DEVICE_FLASH);
    CHECK_EQ(back.devices[1].class, DEVICE_HDD);
}

/* ---- pointers ---- */

static const struct pointer full = {
    .newest = 77, .digest = {0x0102030405060708, 0x1112131415161718}, .locator = 0x1402340 / 16 | (uint64_t)33 << 55};
static const struct pointer empty = {.newest = 78};

static bool same_pointer(struct pointer a, struct pointer b)
{
    return a.locator == b.locator && a.newest == b.newest && a.digest[0] == b.digest[0] && a.digest[1] == b.digest[1] &&
           a.graft == b.graft;
}

TEST(pointer)
{
    struct pointer graft = full;
    graft.graft = true;
    struct disk_pointer disk = pointer_encode(&graft);
    const struct golden *g = kept("pointer");
    CHECK(is_kept(g, &disk, sizeof disk));
    memcpy(&disk, g->bytes, sizeof disk);
    CHECK(same_pointer(pointer_decode(&disk), graft));
    CHECK_EQ(locator_address(graft.locator), 0x1402340);
    CHECK_EQ(locator_units(graft.locator), 33);
    CHECK_EQ(locator_of(0x1402340, 33), graft.locator);

    disk = pointer_encode(&empty);
    g = kept("pointer_empty");
    CHECK(is_kept(g, &disk, sizeof disk));
    memcpy(&disk, g->bytes, sizeof disk);
    CHECK(same_pointer(pointer_decode(&disk), empty));
}

/* ---- checkpoint ---- */

TEST(checkpoint_encodes)
{
    struct chain chain = {.incarnation = 3, .end_number = 990, .end_checksum = 0xb1b2b3b4b5b6b7b8, .next_segment = 5};
    uint32_t head_slots[2] = {40, 41};
    uint64_t prepared = 0x1400050;
    struct volume_root volume = {
        .id = 7, .epoch = 2, .blocks = 262144, .committed = 77, .created = 5, .root = full, .state = empty};
    volume.flags = VOLUME_LEARNING;
    volume.stamped = 80;
    uint8_t bits[2] = {0xed, 0x03};
    struct checkpoint checkpoint = {.number = 9,
                                    .incarnation = 4,
                                    .flags = CHECKPOINT_CLEAN,
                                    .next_segment = 6,
                                    .next_serial = 12,
                                    .replay_address = BATCH_AT,
                                    .replay_number = 1001,
                                    .replay_previous = 0xa1a2a3a4a5a6a7a8,
                                    .written_number = 1002,
                                    .last_volume = 8,
                                    .user_bytes = 123456789,
                                    .chain_count = 1,
                                    .head_slot_count = 2,
                                    .prepared_count = 1,
                                    .volume_count = 1,
                                    .directory_pages = 5,
                                    .chains = &chain,
                                    .head_slots = head_slots,
                                    .prepared = &prepared,
                                    .volumes = &volume,
                                    .directory_bits = bits};
    static uint8_t at[8192];
    count_up(checkpoint.pool_id, 0x10, 16);
    CHECK_EQ(checkpoint_room(1, 2, 1, 1, 5), 4096);
    CHECK_EQ(checkpoint_encode(&checkpoint, SALT, at), 4096);
    CHECK(is_kept(kept("checkpoint"), at, 4096));
}

TEST(checkpoint_decodes)
{
    const struct golden *g = kept("checkpoint");
    static uint64_t room[4096 / 8];
    struct checkpoint back;
    uint32_t bytes;
    CHECK(checkpoint_decode_room(4096) <= sizeof room);
    CHECK_OK(checkpoint_length(g->bytes, 160, 4096, &bytes));
    CHECK_EQ(bytes, 4096);
    CHECK_OK(checkpoint_decode(g->bytes, g->size, SALT, room, &back));
    CHECK_EQ(back.number, 9);
    CHECK(counts_up(back.pool_id, 0x10, 16));
    CHECK_EQ(back.incarnation, 4);
    CHECK_EQ(back.flags, CHECKPOINT_CLEAN);
    CHECK_EQ(back.next_segment, 6);
    CHECK_EQ(back.next_serial, 12);
    CHECK_EQ(back.replay_address, BATCH_AT);
    CHECK_EQ(back.replay_number, 1001);
    CHECK_EQ(back.replay_previous, 0xa1a2a3a4a5a6a7a8);
    CHECK_EQ(back.written_number, 1002);
    CHECK_EQ(back.last_volume, 8);
    CHECK_EQ(back.user_bytes, 123456789);
    CHECK_EQ(back.chain_count, 1);
    CHECK_EQ(back.chains[0].incarnation, 3);
    CHECK_EQ(back.chains[0].end_number, 990);
    CHECK_EQ(back.chains[0].end_checksum, 0xb1b2b3b4b5b6b7b8);
    CHECK_EQ(back.chains[0].next_segment, 5);
    CHECK_EQ(back.head_slot_count, 2);
    CHECK(back.head_slots[0] == 40 && back.head_slots[1] == 41);
    CHECK_EQ(back.prepared_count, 1);
    CHECK_EQ(back.prepared[0], 0x1400050);
    CHECK_EQ(back.volume_count, 1);
    CHECK_EQ(back.volumes[0].id, 7);
    CHECK_EQ(back.volumes[0].snapshot, 0);
    CHECK_EQ(back.volumes[0].epoch, 2);
    CHECK_EQ(back.volumes[0].blocks, 262144);
    CHECK_EQ(back.volumes[0].committed, 77);
    CHECK_EQ(back.volumes[0].created, 5);
    CHECK_EQ(back.volumes[0].flags, VOLUME_LEARNING);
    CHECK_EQ(back.volumes[0].stamped, 80);
    CHECK(same_pointer(back.volumes[0].root, full) && same_pointer(back.volumes[0].state, empty));
    CHECK_EQ(back.directory_pages, 5);
    CHECK(back.directory_bits[0] == 0xed && back.directory_bits[1] == 0x03);
}

/* ---- records ---- */

static const struct record noop = {
    .kind = RECORD_NOOP, .volume = 7, .epoch = 3, .previous_epoch = 3, .sequence = 81, .commit = 81, .node = 1};

/* The record's head encodes to the kept bytes and comes back, with chunks behind it of which only the tags are right. */
static bool record_is_kept(const char *section, const struct record *record, const struct entry *entries)
{
    static uint8_t at[8192];
    struct entry back_entries[RECORD_BLOCKS_MAX];
    struct record back;
    const struct golden *g = kept(section);
    uint32_t head = record_head_bytes(record), size = head;
    record_encode(record, entries, RECORD_AT, at);
    if (!is_kept(g, at, head)) return false;
    memcpy(at, g->bytes, g->size);
    for (uint32_t i = 0; i < record->entries; i++) {
        struct disk_chunk chunk = {.tag = put32(entries[i].tag)};
        if (entries[i].kind != ENTRY_NEW) continue;
        memcpy(at + size, &chunk, sizeof chunk);
        size += entries[i].units * UNIT;
    }
    return record_decode(at, size, RECORD_AT, &back, back_entries) == OK && record_equal(record, entries, &back, back_entries);
}

TEST(records_without_entries)
{
    const struct record create = {.kind = RECORD_CREATE, .volume = 7, .epoch = 1, .sequence = 1, .lba = 262144, .node = 1};
    const struct record deletion = {
        .kind = RECORD_DELETE, .volume = 7, .epoch = 2, .previous_epoch = 2, .sequence = (uint64_t)1 << 33, .node = 1};
    const struct record resize = {.kind = RECORD_RESIZE,
                                  .volume = 7,
                                  .epoch = 2,
                                  .previous_epoch = 2,
                                  .sequence = 80,
                                  .commit = 79,
                                  .lba = 524288,
                                  .node = 1};
    const struct record discard = {
        .kind = RECORD_DISCARD, .volume = 7, .epoch = 3, .previous_epoch = 2, .sequence = 81, .commit = 80, .node = 1};
    CHECK(record_is_kept("record_create", &create, NULL));
    CHECK(record_is_kept("record_resize", &resize, NULL));
    CHECK(record_is_kept("record_discard", &discard, NULL));
    CHECK(record_is_kept("record_noop", &noop, NULL));
    CHECK(record_is_kept("record_delete", &deletion, NULL));
}

TEST(state_record)
{
    const struct record state = {.kind = RECORD_STATE,
                                 .volume = 7,
                                 .epoch = 2,
                                 .previous_epoch = 2,
                                 .sequence = 79,
                                 .commit = 77,
                                 .key_bytes = 3,
                                 .value_bytes = 5,
                                 .state = (const uint8_t *)"keyvalue",
                                 .node = 1};
    CHECK(record_is_kept("record_state", &state, NULL));
    CHECK_EQ(record_head_bytes(&state), 80);
}

static const struct record zeros = {.kind = RECORD_DATA,
                                    .learn = true,
                                    .volume = 7,
                                    .epoch = 3,
                                    .previous_epoch = 3,
                                    .sequence = 90,
                                    .lba = 512,
                                    .count = 3,
                                    .entries = 1,
                                    .node = 1};
static const struct entry three = {.kind = ENTRY_ZERO, .count = 3};
static const struct record move = {.kind = RECORD_MOVE,
                                   .learn = true,
                                   .volume = 7,
                                   .epoch = 4,
                                   .previous_epoch = 4,
                                   .sequence = 99,
                                   .key_bytes = 2,
                                   .state = (const uint8_t *)"\0l",
                                   .node = 1};

TEST(records_of_catching_up)
{
    CHECK(record_is_kept("record_learn", &zeros, &three));
    CHECK(record_is_kept("record_move", &move, NULL));
    CHECK(!record_is_local(&zeros) && !record_is_local(&move));
}

TEST(summary_of_catching_up)
{
    static const uint32_t offsets[2] = {0x1040, 0x1090};
    static uint8_t body[256];
    struct entry back_entries[RECORD_BLOCKS_MAX];
    struct record back;
    struct summary_before before = {0};
    uint32_t offset, size = summary_add(&before, offsets[0], &zeros, &three, body);
    size += summary_add(&before, offsets[1], &move, NULL, body + size);
    const struct golden *g = kept("summary_learn");
    CHECK(is_kept(g, body, size));
    struct summary_walk walk = summary_walk(g->bytes, g->size);
    CHECK(summary_next(&walk, &offset, &back, back_entries) == OK && record_equal(&back, back_entries, &zeros, &three));
    CHECK(summary_next(&walk, &offset, &back, back_entries) == OK && record_equal(&back, back_entries, &move, NULL));
    CHECK_EQ(offset, offsets[1]);
    CHECK_ERR(ERR_TRUNCATED, summary_next(&walk, &offset, &back, back_entries));
}

static void data_entries(struct entry ret_entries[5])
{
    memset(ret_entries, 0, 5 * sizeof ret_entries[0]);
    ret_entries[0] = (struct entry){.kind = ENTRY_NEW, .count = 1, .units = 5, .tag = 0xc3c2c1c0};
    ret_entries[1] = (struct entry){.kind = ENTRY_NEW, .count = 1, .units = 257, .tag = 0xe3e2e1e0};
    ret_entries[2] = (struct entry){.kind = ENTRY_DUP, .count = 1, .place = place_of(0x1300020, 225), .tag = 0xdeadbeef};
    ret_entries[3] = (struct entry){.kind = ENTRY_ZERO, .count = 10};
    ret_entries[4] = (struct entry){.kind = ENTRY_UNMAP, .count = 65535};
    count_up(ret_entries[0].print.b, 0xc0, 20);
    count_up(ret_entries[1].print.b, 0xe0, 20);
}

TEST(data_record)
{
    const struct record data = {.kind = RECORD_DATA,
                                .volume = 7,
                                .epoch = 2,
                                .previous_epoch = 1,
                                .sequence = 78,
                                .commit = 77,
                                .lba = 0x123456,
                                .count = 3 + 10 + 65535,
                                .entries = 5,
                                .references = 1,
                                .payload = (5 + 257) * UNIT,
                                .boot = 0xb007,
                                .request = 0x99,
                                .node = 2};
    struct entry entries[5];
    data_entries(entries);
    CHECK(record_is_kept("record_data", &data, entries));
    CHECK_EQ(record_head_bytes(&data), 96); /* 64 + 5 * 4 + 12 */
    CHECK_EQ(place_address(entries[2].place), 0x1300020);
    CHECK_EQ(place_units(entries[2].place), 225);
}

/* ---- batch ---- */

TEST(batch)
{
    const struct golden *g = kept("batch");
    static uint8_t at[4096];
    struct batch batch = {.length = 4096,
                          .incarnation = 4,
                          .records = 1,
                          .used = 128,
                          .number = 1001,
                          .address = BATCH_AT,
                          .previous = 0xa1a2a3a4a5a6a7a8,
                          .durable = 1000};
    struct disk_batch disk;
    batch_encode(&batch, &disk);
    memcpy(at, &disk, sizeof disk);
    record_encode(&noop, NULL, RECORD_AT, at + 64);
    disk.checksum = put64(batch_checksum(at, 128, SALT));
    memcpy(at, &disk, sizeof disk);
    CHECK(is_kept(g, at, sizeof at));

    struct batch back;
    struct record record;
    struct entry entries[RECORD_BLOCKS_MAX];
    CHECK_OK(batch_decode(g->bytes, g->size, BATCH_AT, SALT, &back));
    CHECK_EQ(back.length, 4096);
    CHECK_EQ(back.incarnation, 4);
    CHECK_EQ(back.records, 1);
    CHECK_EQ(back.used, 128);
    CHECK_EQ(back.checksum, get64(disk.checksum));
    CHECK_EQ(back.number, 1001);
    CHECK_EQ(back.address, BATCH_AT);
    CHECK_EQ(back.previous, 0xa1a2a3a4a5a6a7a8);
    CHECK_EQ(back.durable, 1000);
    CHECK_OK(record_decode(g->bytes + 64, back.used - 64, RECORD_AT, &record, entries));
    CHECK(record_equal(&record, NULL, &noop, NULL));
}

/* ---- summaries ---- */

static bool same_trailer(const struct trailer *a, const struct trailer *b)
{
    return a->kind == b->kind && a->age == b->age && a->body_checksum == b->body_checksum &&
           a->print_checksum == b->print_checksum && a->body_bytes == b->body_bytes && a->print_bytes == b->print_bytes &&
           a->chunks == b->chunks && a->records == b->records && a->segment == b->segment &&
           a->first_number == b->first_number && a->last_number == b->last_number && a->first_previous == b->first_previous &&
           a->last_checksum == b->last_checksum && a->incarnation == b->incarnation && a->data_bytes == b->data_bytes &&
           a->slot == b->slot;
}

static bool trailer_is_kept(const char *section, const struct trailer *trailer)
{
    const struct golden *g = kept(section);
    struct disk_trailer disk;
    struct trailer back;
    trailer_encode(trailer, SALT, &disk);
    return is_kept(g, &disk, sizeof disk) && trailer_decode(g->bytes, g->size, SEGMENT_BYTES, SALT, &back) == OK &&
           same_trailer(trailer, &back);
}

TEST(head_summary)
{
    static uint8_t body[512];
    static const uint32_t offsets[4] = {0x1040, 0x1080, 0x10e0, 0x2040};
    struct entry entries[5], none[1], back_entries[RECORD_BLOCKS_MAX];
    const struct record records[4] = {
        noop,
        {.kind = RECORD_DATA,
         .volume = 7,
         .epoch = 3,
         .previous_epoch = 3,
         .sequence = 82,
         .commit = 81,
         .lba = 0x123456,
         .count = 3 + 10 + 65535,
         .entries = 5,
         .references = 1,
         .payload = (5 + 257) * UNIT,
         .request = 0x99,
         .node = 1},
        {.kind = RECORD_STATE,
         .volume = 7,
         .epoch = 3,
         .previous_epoch = 3,
         .sequence = 83,
         .commit = 81,
         .key_bytes = 3,
         .value_bytes = 5,
         .state = (const uint8_t *)"keyvalue",
         .request = 0x9a,
         .node = 1},
        {.kind = RECORD_CREATE, .volume = 300, .epoch = 1, .sequence = 1, .lba = 262144, .boot = 0xb007, .node = 1}};
    struct summary_before before = {0};
    uint32_t size = 0;
    data_entries(entries);
    for (int i = 0; i < 4; i++) size += summary_add(&before, offsets[i], &records[i], i == 1 ? entries : none, body + size);
    const struct golden *g = kept("summary_body");
    CHECK(is_kept(g, body, size));

    struct summary_walk walk = summary_walk(g->bytes, g->size);
    uint32_t offset;
    struct record back;
    for (int i = 0; i < 4; i++) {
        CHECK_OK(summary_next(&walk, &offset, &back, back_entries));
        CHECK_EQ(offset, offsets[i]);
        CHECK(record_equal(&back, back_entries, &records[i], i == 1 ? entries : none));
        if (i == 1) CHECK(fingerprint_equal(&back_entries[1].print, &entries[1].print));
    }
    CHECK_ERR(ERR_TRUNCATED, summary_next(&walk, &offset, &back, back_entries));

    const struct trailer head = {.kind = SLOT_HEAD,
                                 .body_checksum = body_checksum(body, size, SALT),
                                 .body_bytes = size,
                                 .records = 4,
                                 .chunks = 2,
                                 .segment = 5,
                                 .first_number = 1000,
                                 .last_number = 1001,
                                 .first_previous = 0x0102030405060708,
                                 .last_checksum = 0x1112131415161718,
                                 .incarnation = 4,
                                 .data_bytes = 8192,
                                 .slot = 40};
    CHECK(trailer_is_kept("trailer_head", &head));
}

TEST(cleaned_summaries)
{
    uint8_t body[56];
    le64 table[2] = {put64(locator_of(0x1300020, 3)), put64(locator_of(0x1300050, 257))};
    memcpy(body, table, 16);
    count_up(body + 16, 0xc0, 20);
    count_up(body + 36, 0xe0, 20);
    CHECK(is_kept(kept("cleaned_body"), body, sizeof body));

    struct trailer cleaned = {.kind = SLOT_CLEANED,
                              .age = 2,
                              .body_checksum = body_checksum(body, 16, SALT),
                              .print_checksum = body_checksum(body + 16, 40, SALT),
                              .body_bytes = 16,
                              .print_bytes = 40,
                              .chunks = 2,
                              .segment = 11,
                              .incarnation = 4,
                              .data_bytes = 4160,
                              .slot = 41};
    CHECK(trailer_is_kept("trailer_cleaned", &cleaned));
    cleaned.kind = SLOT_CLEANED_META;
    cleaned.age = 1;
    cleaned.print_checksum = cleaned.print_bytes = 0;
    cleaned.segment = 12;
    cleaned.slot = 42;
    CHECK(trailer_is_kept("trailer_cleaned_meta", &cleaned));
}

/* ---- chunks ---- */

/* Digests a block and lays its chunk out as the log does. Returns its bytes without raw data. */
static size_t block_chunk(const uint8_t block[BLOCK_SIZE], uint8_t ret_chunk[4112], struct block_digest *ret_digest)
{
    static uint8_t room[BLOCK_SIZE];
    uint8_t secret[FINGERPRINT_SECRET];
    struct fingerprinter key;
    count_up(secret, 0x40, sizeof secret);
    fingerprinter_init(&key, secret);
    digest_block(&key, block, room, ret_digest);
    struct disk_chunk header = {.crc = put32(ret_digest->crc), .size = put16(ret_digest->size)};
    memcpy(header.tag.b, ret_digest->print.b, 4);
    memset(ret_chunk, 0, ret_digest->units * UNIT);
    memcpy(ret_chunk, &header, sizeof header);
    memcpy(ret_chunk + sizeof header, ret_digest->stored, chunk_stored(ret_digest->size));
    chunk_place(ret_chunk, CHUNK_AT);
    return ret_digest->units * UNIT;
}

TEST(compressed_chunk)
{
    static uint8_t block[BLOCK_SIZE], chunk[4112], back[BLOCK_SIZE];
    struct block_digest digest;
    for (int i = 0; i < BLOCK_SIZE; i++) block[i] = (uint8_t)("0123456789abcdef"[i % 16]);
    size_t size = block_chunk(block, chunk, &digest);
    const struct golden *g = kept("chunk_lz4");
    CHECK(is_kept(g, chunk, size));

    uint32_t unpacked = 0;
    CHECK_OK(chunk_unpack(g->bytes, (uint32_t)g->size / UNIT, CHUNK_AT, NULL, back, BLOCK_SIZE, &unpacked));
    CHECK_EQ(unpacked, BLOCK_SIZE);
    CHECK_BYTES(back, block, BLOCK_SIZE);
}

TEST(raw_chunks)
{
    static uint8_t block[BLOCK_SIZE], chunk[4112], back[BLOCK_SIZE];
    struct block_digest digest;
    uint32_t x = 1, unpacked = 0, tag = 0x04030201;
    for (int i = 0; i < BLOCK_SIZE; i++) {
        x = x * 1103515245 + 12345;
        block[i] = (uint8_t)(x >> 16);
    }
    CHECK_EQ(block_chunk(block, chunk, &digest), 4112);
    CHECK(is_kept(kept("chunk_raw_header"), chunk, sizeof(struct disk_chunk)));
    CHECK_BYTES(chunk + sizeof(struct disk_chunk), block, BLOCK_SIZE);

    uint32_t units = chunk_pack((const uint8_t *)"incompressible bytes", 20, tag, chunk);
    chunk_place(chunk, CHUNK_AT);
    const struct golden *g = kept("chunk_raw");
    CHECK(is_kept(g, chunk, units * UNIT));
    CHECK_OK(chunk_unpack(g->bytes, (uint32_t)g->size / UNIT, CHUNK_AT, &tag, back, BLOCK_SIZE, &unpacked));
    CHECK_EQ(unpacked, 20);
    CHECK_BYTES(back, "incompressible bytes", 20);
}

/* ---- pages ---- */

static bool digest_is_kept(const char *section, const uint64_t digest[2])
{
    le64 bytes[2] = {put64(digest[0]), put64(digest[1])};
    return is_kept(kept(section), bytes, sizeof bytes);
}

TEST(leaf_page)
{
    static struct leaf leaf, back;
    const struct page_id id = {.volume = 7, .level = PAGE_LEAF, .index = 0x2468};
    leaf.places[0] = place_of(0x1402340, 5);
    leaf.places[1] = PLACE_ZERO;
    leaf.places[3] = place_of(0x1402390, PLACE_UNITS_RAW);
    leaf.tags[0] = 0xc3c2c1c0;
    leaf.tags[3] = 0xe3e2e1e0;
    struct disk_leaf disk;
    leaf_encode(id, &leaf, &disk);
    const struct golden *g = kept("leaf");
    CHECK(is_kept(g, &disk, sizeof disk));
    CHECK_OK(leaf_decode(g->bytes, g->size, id, &back));
    CHECK_BYTES(back.places, leaf.places, sizeof leaf.places);
    CHECK_BYTES(back.tags, leaf.tags, sizeof leaf.tags);
    uint64_t digest[2];
    leaf_digest(&leaf, digest);
    CHECK(digest_is_kept("leaf_digest", digest));
}

TEST(inner_page)
{
    static struct inner inner, back;
    const struct page_id id = {.volume = 7, .level = 2, .index = 0};
    inner.children[0] = full;
    inner.children[0].graft = true;
    inner.children[127] = empty;
    struct disk_inner disk;
    inner_encode(id, &inner, &disk);
    const struct golden *g = kept("inner");
    CHECK(is_kept(g, &disk, sizeof disk));
    CHECK_OK(inner_decode(g->bytes, g->size, id, &back));
    for (int i = 0; i < INNER_FANOUT; i++) CHECK(same_pointer(back.children[i], inner.children[i]));
    uint64_t digest[2];
    inner_digest(&inner, digest);
    CHECK(digest_is_kept("inner_digest", digest));
}

/* Volumes write and read these in place, so here only the layout is held. */
TEST(state_page)
{
    static const uint8_t data[] = "\3\0\5\0keyvalue\4\0\1\0lock1";
    struct disk_state disk;
    memset(&disk, 0, sizeof disk);
    disk.page = (struct disk_page){.volume = put32(7), .level = PAGE_STATE};
    disk.bytes = put32(sizeof data - 1);
    memcpy(disk.data, data, sizeof data - 1);
    const struct golden *g = kept("state");
    CHECK(is_kept(g, &disk, offsetof(struct disk_state, data) + sizeof data - 1));
    memset(&disk, 0, sizeof disk);
    memcpy(&disk, g->bytes, g->size);
    CHECK_EQ(get32(disk.page.volume), 7);
    CHECK_EQ(disk.page.level, PAGE_STATE);
    CHECK_EQ(get64(disk.page.index), 0);
    CHECK_EQ(get32(disk.bytes), sizeof data - 1);
    CHECK_BYTES(disk.data, data, sizeof data - 1);
}

/* ---- directory ---- */

TEST(directory_page)
{
    static struct slot_entry slots[3] = {
        {.kind = SLOT_HEAD, .runs = 1, .live = 200000, .chunks = 900, .run = {{5 << 18, 1 << 18}}},
        {.kind = SLOT_FREE},
        {.kind = SLOT_CLEANED,
         .age = 2,
         .runs = 2,
         .flags = 1,
         .live = 260,
         .chunks = 2,
         .run = {{1 << 18, 1 << 18}, {4 << 18, 2 << 18}}},
    };
    static uint8_t at[DIRECTORY_BYTES];
    const struct golden *g = kept("directory");
    CHECK_EQ(directory_encode(3, 9, 3, slots, SALT, at), 4096);
    CHECK(is_kept(g, at, 4096));

    static struct slot_entry back[DIRECTORY_SLOTS];
    uint64_t checkpoint;
    uint32_t count;
    CHECK_OK(directory_decode(g->bytes, g->size, 3, SALT, &checkpoint, &count, back));
    CHECK_EQ(checkpoint, 9);
    CHECK_EQ(count, 3);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(back[i].kind, slots[i].kind);
        CHECK_EQ(back[i].age, slots[i].age);
        CHECK_EQ(back[i].runs, slots[i].runs);
        CHECK_EQ(back[i].flags, slots[i].flags);
        CHECK_EQ(back[i].live, slots[i].live);
        CHECK_EQ(back[i].chunks, slots[i].chunks);
        for (int r = 0; r < slots[i].runs; r++) {
            CHECK_EQ(back[i].run[r].start, slots[i].run[r].start);
            CHECK_EQ(back[i].run[r].units, slots[i].run[r].units);
        }
    }
}

/* ---- register ---- */

#define ACCEPTOR_ID 0x2222222222222222u

static struct register_state register_value(uint32_t size)
{
    const uint64_t now[] = {0x1111111111111111u, ACCEPTOR_ID, 0x3333333333333333u}, next[] = {ACCEPTOR_ID, 0x4444444444444444u};
    struct register_state s = {.version = 17, .members.epoch = 3, .bytes = "a catalog", .size = size};
    s.members.now = acceptor_set_of(now, 3);
    s.members.next = acceptor_set_of(next, 2);
    s.tags[0] = (struct register_tag){1, 2, 3};
    s.tags[1] = (struct register_tag){0x0a0b0c0d, 5, 0x1122334455667788u};
    return s;
}

static bool is_register_value(const struct register_state *s, uint32_t size)
{
    struct register_state right = register_value(size);
    for (uint32_t i = 0; i < REGISTER_TAGS; i++)
        if (!tag_equal(s->tags[i], right.tags[i])) return false;
    return s->version == 17 && members_equal(&s->members, &right.members) && s->size == size &&
           (size == 0 || memcmp(s->bytes, "a catalog", size) == 0);
}

static bool request_is_kept(const char *section, enum register_ask ask, struct ballot ballot)
{
    const struct golden *g = kept(section);
    struct register_request r = {.ask = ask,
                                 .acceptor = ACCEPTOR_ID,
                                 .node = 7,
                                 .boot = 258,
                                 .attempt = 0x010203,
                                 .epoch = 3,
                                 .ballot = ballot,
                                 .state = register_value(9)};
    struct register_request back;
    uint8_t bytes[1000];
    size_t size = 0;
    count_up(r.cluster, 0x10, sizeof r.cluster);
    if (register_request_encode(&r, bytes, sizeof bytes, &size) != OK || !is_kept(g, bytes, size)) return false;
    if (register_request_decode(g->bytes, g->size, &back) != OK) return false;
    return back.ask == ask && back.acceptor == ACCEPTOR_ID && back.node == 7 && back.boot == 258 && back.attempt == 0x010203 &&
           back.epoch == 3 && ballot_compare(back.ballot, ballot) == 0 && counts_up(back.cluster, 0x10, sizeof back.cluster) &&
           (ask != REGISTER_ACCEPT || is_register_value(&back.state, 9));
}

TEST(register_requests)
{
    CHECK(request_is_kept("register_look", REGISTER_LOOK, (struct ballot){0}));
    CHECK(request_is_kept("register_accept", REGISTER_ACCEPT, (struct ballot){9, 7, 258}));
}

static bool answer_is_kept(const char *section, enum register_ask ask, enum register_verdict verdict, struct ballot promised,
                           struct ballot accepted, uint32_t size_of_value)
{
    const struct golden *g = kept(section);
    struct register_answer a = {.ask = ask,
                                .verdict = verdict,
                                .acceptor = ACCEPTOR_ID,
                                .node = 7,
                                .boot = 258,
                                .attempt = 0x010203,
                                .promised = promised,
                                .accepted = accepted,
                                .state = register_value(size_of_value)};
    struct register_answer back;
    uint8_t bytes[1000];
    size_t size = 0;
    count_up(a.cluster, 0x10, sizeof a.cluster);
    if (register_answer_encode(&a, bytes, sizeof bytes, &size) != OK || !is_kept(g, bytes, size)) return false;
    if (register_answer_decode(g->bytes, g->size, &back) != OK) return false;
    return back.ask == ask && back.verdict == verdict && back.acceptor == ACCEPTOR_ID && back.node == 7 && back.boot == 258 &&
           back.attempt == 0x010203 && ballot_compare(back.promised, promised) == 0 &&
           ballot_compare(back.accepted, accepted) == 0 && counts_up(back.cluster, 0x10, sizeof back.cluster) &&
           (accepted.round == 0 || is_register_value(&back.state, size_of_value));
}

TEST(register_answers)
{
    const struct ballot none = {0}, low = {8, 6, 1}, high = {9, 7, 258}, higher = {10, 6, 1};
    CHECK(answer_is_kept("register_promise", REGISTER_PREPARE, REGISTER_YES, high, low, 9));
    CHECK(answer_is_kept("register_moved", REGISTER_PREPARE, REGISTER_MOVED, low, low, 0));
    CHECK(answer_is_kept("register_outbid", REGISTER_ACCEPT, REGISTER_OUTBID, higher, none, 0));
}

TEST(acceptor_files)
{
    const struct golden *g = kept("acceptor");
    struct acceptor a = {
        .id = ACCEPTOR_ID, .boot = 258, .promised = {9, 7, 258}, .accepted = {8, 6, 1}, .state = register_value(9)};
    struct acceptor back;
    uint8_t bytes[1000];
    uint64_t generation = 0;
    size_t size = 0;
    count_up(a.cluster, 0x10, sizeof a.cluster);
    CHECK_OK(acceptor_image_encode(&a, 42, bytes, sizeof bytes, &size));
    CHECK(is_kept(g, bytes, size));
    CHECK_OK(acceptor_image_decode(g->bytes, g->size, &back, &generation));
    CHECK(generation == 42 && back.id == a.id && back.boot == 258 && counts_up(back.cluster, 0x10, sizeof back.cluster));
    CHECK(ballot_compare(back.promised, a.promised) == 0 && ballot_compare(back.accepted, a.accepted) == 0);
    CHECK(is_register_value(&back.state, 9));
}

TESTS(superblock, pointer, checkpoint_encodes, checkpoint_decodes, records_without_entries, state_record, data_record,
      records_of_catching_up, summary_of_catching_up, batch, head_summary, cleaned_summaries, compressed_chunk, raw_chunks,
      leaf_page, inner_page, state_page, directory_page, register_requests, register_answers, acceptor_files)
