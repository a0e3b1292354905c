/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what the store does on a disk that fails in one known place. Method: a small pool on the simulated seam; scenes that
 * run as one task each, between which the disk is spoiled where the bytes in question are found.
 */
#include "check.h"

#include "base/bytes.h"
#include "store/digest.h"
#include "tests/unit/scenes.h"

enum { BLOCKS = 16384, SLOTS = 300, SHIFT = 16, MEMORY = 48 << 20, SIZE = (SLOTS << SHIFT) + (512 << 10) };
#define DISK "disk"

static struct {
    struct store *store;
    uint64_t sequence;
    enum err err;
} t;

static void begin(uint64_t seed)
{
    scenes_begin(seed);
    t.store = NULL;
    t.sequence = 0;
    sim_disk_create(scenes.sim, DISK, SIZE);
}

/* ---- what scenes are made of ---- */

/* What was durable when the power went has happened. */
static enum err open_pool(void)
{
    struct store_config c = {.device_count = 1, .devices = {{DISK, DEVICE_FLASH}}, .memory = MEMORY, .no_clean = true};
    TRY(store_open(scenes.io, &c, &t.store, NULL));
    for (struct store_op *op; (op = store_prepared(t.store, 1)) != NULL;) store_publish(t.store, op);
    return OK;
}

static enum err close_pool(void)
{
    struct store *store = t.store;
    t.store = NULL;
    return store_close(store);
}

static void content(uint32_t seed, uint8_t *block)
{
    struct prng p;
    prng_init(&p, seed);
    prng_fill(&p, block, BLOCK_SIZE);
}

/* Prepares and publishes. */
static enum err change(struct store_op *op)
{
    op->volume = 1;
    op->epoch = 1;
    op->sequence = t.sequence + 1;
    TRY(scene_prepare(t.store, op));
    t.sequence++;
    store_publish(t.store, op);
    return OK;
}

/* Blocks of content `seed`, `seed` + 1 and so on, which do not compress. */
static enum err write_blocks(uint64_t lba, uint32_t count, uint32_t seed)
{
    static uint8_t data[BLOCK_SIZE], room[BLOCK_SIZE];
    for (uint32_t i = 0; i < count; i++) {
        struct block_digest digest;
        struct store_op op = {.kind = RECORD_DATA, .what = ENTRY_NEW, .lba = lba + i, .count = 1, .digests = &digest};
        content(seed + i, data);
        digest_block(store_key(t.store), data, room, &digest);
        TRY(change(&op));
    }
    return OK;
}

static enum err make_pool(void)
{
    struct store_format_config c = {.devices = {{DISK, DEVICE_FLASH}}, .device_count = 1, .segment_shift = SHIFT};
    struct store_op op = {.kind = RECORD_CREATE, .lba = BLOCKS};
    TRY(store_format(scenes.io, &c));
    TRY(open_pool());
    return change(&op);
}

struct reading {
    struct store_read read;
    bool over;
};

static void read_done(struct store_read *read)
{
    CONTAINER(read, struct reading, read)->over = true;
    io_task_wake(scenes.self);
}

/* UINT64_MAX: all of them could be read. Else the first that could not. */
static uint64_t bad_block(uint64_t lba, uint32_t count, uint32_t seed)
{
    static uint8_t data[STORE_READ_MAX * BLOCK_SIZE], expected[BLOCK_SIZE];
    struct reading r = {.read = {.done = read_done, .volume = 1, .lba = lba, .count = count, .data = data}};
    store_read(t.store, &r.read);
    while (!r.over) io_task_park();
    t.err = r.read.err;
    if (r.read.err != OK) return r.read.bad;
    for (uint32_t i = 0; i < count; i++) {
        content(seed + i, expected);
        if (memcmp(data + (size_t)i * BLOCK_SIZE, expected, BLOCK_SIZE) != 0) return lba + i;
    }
    return UINT64_MAX;
}

/* Where the content lies on the disk, behind `after`; 0: nowhere. */
static uint64_t find_next(uint32_t seed, uint64_t after)
{
    static uint8_t all[SIZE];
    uint8_t block[BLOCK_SIZE];
    content(seed, block);
    disk_get(sim_disk(scenes.sim, DISK), 0, all, SIZE);
    for (uint64_t at = after > 0 ? after + UNIT : sizeof(struct disk_chunk); at + BLOCK_SIZE <= SIZE; at += UNIT)
        if (memcmp(all + at, block, BLOCK_SIZE) == 0) return at;
    return 0;
}

static uint64_t find(uint32_t seed)
{
    return find_next(seed, 0);
}

/* ---- a read of many that the device refuses ---- */

static bool write_sixteen(void)
{
    return make_pool() == OK && write_blocks(0, 16, 100) == OK && close_pool() == OK;
}

/* The page belongs to block 9 and maybe to one of its neighbours, and a read of all goes to the device as one. */
static bool read_around_nine(void)
{
    if (open_pool() != OK) return false;
    uint64_t bad = bad_block(0, 16, 100);
    bool named = t.err == ERR_MEDIUM && (bad == 8 || bad == 9);
    bool others = bad_block(0, 8, 100) == UINT64_MAX && bad_block(11, 5, 111) == UINT64_MAX;
    return named && others && close_pool() == OK;
}

TEST(of_blocks_read_together_the_lost_one_is_named)
{
    begin(1);
    CHECK(scene_play(write_sixteen));
    uint64_t at = find(109);
    CHECK(at > 0);
    disk_spoil(sim_disk(scenes.sim, DISK), (at + BLOCK_SIZE / 2) / DISK_PAGE * DISK_PAGE, DISK_PAGE);
    CHECK(scene_play(read_around_nine));
}

/* ---- classes of devices ---- */

static enum device_class class_now;

static bool format_refuses(void)
{
    struct store_format_config c = {.devices = {{DISK, class_now}}, .device_count = 1, .segment_shift = SHIFT};
    uint64_t before = disk_hash(sim_disk(scenes.sim, DISK));
    return store_format(scenes.io, &c) == ERR_DEVICE_CLASS && disk_hash(sim_disk(scenes.sim, DISK)) == before;
}

TEST(a_device_has_a_class)
{
    begin(2);
    class_now = (enum device_class)0;
    CHECK(scene_play(format_refuses));
    class_now = (enum device_class)3;
    CHECK(scene_play(format_refuses));
}

/* ---- an open that fails ---- */

enum { HISTORY = 60 };

static bool write_history(void)
{
    return make_pool() == OK && write_blocks(0, HISTORY, 1000) == OK;
}

static bool open_fails_or_not(void)
{
    enum err err = open_pool();
    if (err == OK) return close_pool() == OK || sim_struck(scenes.sim, SIM_WRITE_ERROR) > 0;
    return err == ERR_IO && sim_files_open(scenes.sim) == 0;
}

static bool all_is_there(void)
{
    if (open_pool() != OK) return false;
    for (uint32_t i = 0; i < HISTORY; i += 20)
        if (bad_block(i, 20, 1000 + i) != UINT64_MAX) return false;
    return close_pool() == OK;
}

/* Whichever write of the recovery the device refuses: nothing is left open, nothing of the store runs on, nothing is lost. */
TEST(an_open_that_fails_leaves_nothing_behind)
{
    for (uint32_t odds = 1000000; odds > 100000; odds -= 90000) {
        begin(odds);
        CHECK(scene_play(write_history));
        sim_power_cut(scenes.sim);
        store_abandon(t.store);
        sim_power_on(scenes.sim);
        sim_fault(scenes.sim, SIM_WRITE_ERROR, odds, 3);
        CHECK(scene_play(open_fails_or_not));
        sim_run_for(scenes.sim, 100000, 100 * IO_S_NS); /* what was under way would come back now */
        sim_fault(scenes.sim, SIM_WRITE_ERROR, 0, 0);
        CHECK(scene_play(all_is_there));
    }
}

/* ---- much keyed state ---- */

enum { KEYS = 400, VALUE = 2700 }; /* two fit into a page, so that 128 pages are full long before 1,024,000 bytes are there */
static uint32_t keys;

static uint32_t change_of(uint32_t key, uint32_t round)
{
    return key * 4 + (key % 3 == round % 3 ? round : 0);
}

static void value_of(uint32_t seed, uint8_t *value)
{
    struct prng p;
    prng_init(&p, seed);
    prng_fill(&p, value, VALUE);
}

/* No first byte of zero: that would be a local key. */
static uint32_t name_of(uint32_t key)
{
    return key << 8 | 1;
}

static enum err set_keys(uint32_t round)
{
    static uint8_t value[VALUE];
    for (uint32_t k = 0; k < (round > 0 ? keys : KEYS); k++) {
        uint32_t name = name_of(k);
        struct store_op op = {
            .kind = RECORD_STATE, .key = &name, .key_bytes = sizeof name, .value = value, .value_bytes = VALUE};
        if (round > 0 && k % 3 != round % 3) continue;
        value_of(change_of(k, round), value);
        TRY(change(&op));
        if (round == 0) keys++;
    }
    return OK;
}

/* The last ones: what is full takes no change of a key, either. */
static enum err take_away(uint32_t count)
{
    for (; count > 0; count--) {
        uint32_t name = name_of(--keys);
        struct store_op op = {.kind = RECORD_STATE, .key = &name, .key_bytes = sizeof name};
        TRY(change(&op));
    }
    return OK;
}

static bool keys_are(uint32_t round)
{
    static uint8_t value[VALUE];
    for (uint32_t k = 0; k < keys; k++) {
        const void *got;
        uint32_t bytes, name = name_of(k);
        value_of(change_of(k, round), value);
        if (store_state_get(t.store, 1, &name, sizeof name, &got, &bytes) != OK || bytes != VALUE) return false;
        if (memcmp(got, value, VALUE) != 0) return false;
    }
    return true;
}

static bool set_first_keys(void)
{
    keys = 0;
    if (make_pool() != OK || set_keys(0) != ERR_LIMIT) return false;
    bool many = keys > INNER_FANOUT && keys <= 2 * INNER_FANOUT;
    return many && store_checkpoint(t.store, true) == OK && keys_are(0) && close_pool() == OK;
}

/* Some are changed while pages of others are on the disk, and the power goes. */
static bool change_keys(void)
{
    return open_pool() == OK && keys_are(0) && take_away(2) == OK && set_keys(1) == OK &&
           store_checkpoint(t.store, true) == OK && keys_are(1);
}

static bool keys_survived(void)
{
    return open_pool() == OK && keys_are(1) && close_pool() == OK;
}

TEST(keyed_state_fills_the_pages_that_a_root_can_name)
{
    begin(3);
    CHECK(scene_play(set_first_keys));
    CHECK(scene_play(change_keys));
    sim_power_cut(scenes.sim);
    store_abandon(t.store);
    sim_power_on(scenes.sim);
    CHECK(scene_play(keys_survived));
}

/* ---- mending ---- */

enum { LOST = 505 }; /* content `LOST` is in block 5, and in 40 and 41 by reference */

static enum err mend(uint64_t lba, uint32_t seed, bool *ret_mended)
{
    uint8_t data[BLOCK_SIZE], room[BLOCK_SIZE];
    struct block_digest digest;
    content(seed, data);
    digest_block(store_key(t.store), data, room, &digest);
    return store_mend(t.store, 1, lba, &digest, ret_mended);
}

/* A bit in every copy, also those that were left where it was before it was moved. */
static void flip(uint32_t seed)
{
    for (uint64_t at = 0; (at = find_next(seed, at)) != 0;) disk_flip(sim_disk(scenes.sim, DISK), at + BLOCK_SIZE / 3, 2);
}

static bool is_lost(uint64_t lba, uint32_t seed)
{
    return bad_block(lba, 1, seed) == lba && t.err == ERR_MEDIUM;
}

/* In a sealed segment, or cleaned away from it. */
static bool write_shared(bool cleaned)
{
    uint32_t gained = 0;
    if (make_pool() != OK || write_blocks(0, 16, 500) != OK || store_checkpoint(t.store, true) != OK) return false;
    if (write_blocks(40, 1, LOST) != OK || write_blocks(41, 1, LOST) != OK) return false;
    if (cleaned && write_blocks(8, 8, 600) != OK) return false;
    if (close_pool() != OK || open_pool() != OK) return false;
    return !cleaned || (store_clean(t.store, &gained) == OK && store_checkpoint(t.store, true) == OK);
}

/* The cleaner moves what is damaged, and what it moved it to gains no references. */
static bool moves_the_damage(void)
{
    struct store_stats before, after;
    uint32_t gained;
    if (make_pool() != OK || write_blocks(0, 16, 500) != OK || close_pool() != OK) return false;
    flip(LOST);
    if (open_pool() != OK || write_blocks(8, 8, 600) != OK) return false;
    if (store_clean(t.store, &gained) != OK || gained == 0) return false;
    store_stats(t.store, &before);
    if (write_blocks(60, 1, LOST) != OK) return false;
    store_stats(t.store, &after);
    return after.dup_blocks == before.dup_blocks && is_lost(5, LOST) && bad_block(60, 1, LOST) == UINT64_MAX &&
           close_pool() == OK;
}

TEST(a_damaged_chunk_that_was_moved_gains_no_references)
{
    begin(300);
    CHECK(scene_play(moves_the_damage));
}

static bool lose_shared(bool cleaned)
{
    if (!write_shared(cleaned) || close_pool() != OK) return false;
    flip(LOST);
    return open_pool() == OK && is_lost(5, LOST) && is_lost(40, LOST) && is_lost(41, LOST);
}

static bool mends_shared(bool cleaned)
{
    struct store_stats stats;
    bool mended = true;
    if (!lose_shared(cleaned)) return false;
    if (mend(5, LOST + 1, &mended) != ERR_CONFLICT || mended || !is_lost(5, LOST)) return false; /* nobody's proof */
    if (mend(4, LOST - 1, &mended) != OK || mended) return false;                                /* nothing is wrong there */
    if (mend(BLOCKS, LOST, &mended) != ERR_RANGE || mend(100, LOST, &mended) != ERR_CONFLICT) return false;
    if (mend(40, LOST, &mended) != OK || !mended) return false;
    if (bad_block(0, 8, 500) != UINT64_MAX || bad_block(40, 1, LOST) != UINT64_MAX) return false;
    store_stats(t.store, &stats);
    if (stats.mended != 1 || stats.unmended != 4 || mend(41, LOST, &mended) != OK || mended) return false;
    if (close_pool() != OK || open_pool() != OK) return false;
    return bad_block(0, 8, 500) == UINT64_MAX && bad_block(41, 1, LOST) == UINT64_MAX && close_pool() == OK;
}

static bool mends_as_written(void)
{
    return mends_shared(false);
}

static bool mends_cleaned(void)
{
    return mends_shared(true);
}

TEST(a_mended_chunk_is_whole_for_all_who_refer_to_it)
{
    begin(4);
    CHECK(scene_play(mends_as_written));
    begin(5);
    CHECK(scene_play(mends_cleaned));
}

/* A newer write has overtaken it. */
static bool keeps_the_newer(void)
{
    bool mended = true;
    if (!lose_shared(false) || write_blocks(5, 1, 700) != OK) return false;
    if (mend(5, LOST, &mended) != ERR_CONFLICT || mended) return false;
    return bad_block(5, 1, 700) == UINT64_MAX && is_lost(40, LOST) && close_pool() == OK;
}

TEST(what_was_overwritten_is_not_mended_over)
{
    begin(6);
    CHECK(scene_play(keeps_the_newer));
}

static bool lose_to_the_device(void)
{
    if (!write_shared(false) || close_pool() != OK) return false;
    disk_spoil(sim_disk(scenes.sim, DISK), find(LOST) / DISK_PAGE * DISK_PAGE, 2 * DISK_PAGE);
    return true;
}

static bool cannot_mend_unread(void)
{
    struct store_stats stats;
    bool mended = true;
    if (open_pool() != OK || mend(5, LOST, &mended) != ERR_MEDIUM || mended) return false;
    store_stats(t.store, &stats);
    return stats.unmended == 1 && is_lost(5, LOST) && close_pool() == OK;
}

/* What else lies there is not known, so it stays as it is; but it is proven what it held. */
TEST(what_the_device_refuses_to_read_is_not_mended)
{
    begin(7);
    CHECK(scene_play(lose_to_the_device));
    CHECK(scene_play(cannot_mend_unread));
}

static bool lose_and_mend(void)
{
    bool mended;
    return open_pool() == OK && mend(5, LOST, &mended) == OK && store_checkpoint(t.store, false) == OK && close_pool() == OK;
}

static bool neighbours_are_whole(void)
{
    bool mended;
    if (open_pool() != OK || bad_block(0, 5, 500) != UINT64_MAX || bad_block(6, 10, 506) != UINT64_MAX) return false;
    return mend(5, LOST, &mended) == OK && bad_block(0, 16, 500) == UINT64_MAX && close_pool() == OK;
}

static bool lose_it(void)
{
    if (!write_shared(false) || close_pool() != OK) return false;
    flip(LOST);
    return true;
}

/* Wherever the power goes: the chunk is damaged or mended, and what lies beside it is there. */
TEST(a_crash_while_mending_harms_nothing)
{
    bool cut = true;
    for (uint32_t n = 1; cut && n < 100; n++) {
        begin(8 + n);
        CHECK(scene_play(lose_it));
        sim_cut_at(scenes.sim, n);
        cut = !scene_play(lose_and_mend);
        sim_cut_at(scenes.sim, 0);
        if (!cut) break;
        store_abandon(t.store);
        t.store = NULL;
        sim_power_on(scenes.sim);
        CHECK(scene_play(neighbours_are_whole));
    }
    CHECK(!cut);
}

TESTS(of_blocks_read_together_the_lost_one_is_named, a_device_has_a_class, an_open_that_fails_leaves_nothing_behind,
      keyed_state_fills_the_pages_that_a_root_can_name, a_mended_chunk_is_whole_for_all_who_refer_to_it,
      what_was_overwritten_is_not_mended_over, what_the_device_refuses_to_read_is_not_mended,
      a_damaged_chunk_that_was_moved_gains_no_references, a_crash_while_mending_harms_nothing)
