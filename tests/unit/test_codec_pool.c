/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: superblock, checkpoint and directory pages decode to what was encoded, and nothing else decodes (method: codec.h).
 */
#include "unit/codec.h"

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
    super.secret_from = number();
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
        CHECK_EQ(super.secret_from, back.secret_from);
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
    first[17] ^= 1; /* in the version: no new format, but damage like any other, for which there is a second copy */
    CHECK_ERR(ERR_CHECKSUM, decode_checkpoint(first, bytes, NULL));
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
      an_impossible_checkpoint_is_refused, a_directory_page_goes_there_and_back, a_damaged_directory_page_is_refused,
      an_impossible_directory_page_is_refused)
