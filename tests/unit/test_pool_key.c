/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a pool without volumes gets another key, whenever the power goes; one with volumes does not. Method: a small pool of
 * two simulated disks, new or with the remains of a deleted volume; the power is cut at each change in turn, the pool is opened
 * again, and has one key or the other; then it is used, and audited with what it now says of itself.
 */
#include "check.h"

#include "store/audit.h"
#include "store/digest.h"
#include "tests/unit/scenes.h"

enum {
    BLOCKS = 4096,
    SLOTS = 60,
    SHIFT = 16,
    MEMORY = 48 << 20,
    SIZE = (SLOTS << SHIFT) + (512 << 10),
    SOME = 40,
    CUTS = 5,
    SEEDS = 4
};

static struct {
    struct store *store;
    bool used; /* there was a volume */
    uint64_t sequence;
    uint32_t volume;
    enum err err; /* of the change */
} t;

static uint8_t first_key[STORE_KEY_BYTES], second_key[STORE_KEY_BYTES], found[STORE_KEY_BYTES];
static struct audit_report report;

/* ---- scenes, each a task ---- */

static void begin(uint64_t seed)
{
    scenes_begin(seed);
    t.store = NULL;
    sim_disk_create(scenes.sim, "one", SIZE);
    sim_disk_create(scenes.sim, "two", SIZE);
}

static struct store_config config(void)
{
    return (struct store_config){
        .device_count = 2, .devices = {{"two", DEVICE_FLASH}, {"one", DEVICE_FLASH}}, .memory = MEMORY};
}

/* What was durable when the power went has happened. */
static bool open_pool(void)
{
    struct store_config c = config();
    if (store_open(scenes.io, &c, &t.store, NULL) != OK) return false;
    for (struct store_op *op; (op = store_prepared(t.store, t.volume)) != NULL;) store_publish(t.store, op);
    store_key_get(t.store, found);
    return true;
}

static bool close_pool(void)
{
    struct store *store = t.store;
    t.store = NULL;
    return store_close(store) == OK;
}

static bool change(struct store_op *op)
{
    op->volume = t.volume;
    op->epoch = 1;
    op->sequence = ++t.sequence;
    if (scene_prepare(t.store, op) != OK) return false;
    store_publish(t.store, op);
    return true;
}

/* A volume with blocks of which each is there twice. */
static bool make_volume(void)
{
    static uint8_t data[BLOCK_SIZE], room[BLOCK_SIZE];
    struct prng p;
    t.sequence = 0;
    t.volume++;
    if (!change(&(struct store_op){.kind = RECORD_CREATE, .lba = BLOCKS})) return false;
    for (uint32_t i = 0; i < SOME; i++) {
        struct block_digest digest;
        prng_init(&p, i / 2);
        prng_fill(&p, data, BLOCK_SIZE);
        digest_block(store_key(t.store), data, room, &digest);
        struct store_op op = {.kind = RECORD_DATA, .what = ENTRY_NEW, .lba = i * 3, .count = 1, .digests = &digest};
        if (!change(&op)) return false;
    }
    return true;
}

static bool drop_volume(void)
{
    return change(&(struct store_op){.kind = RECORD_DELETE});
}

static bool make_pool(void)
{
    struct store_format_config c = {
        .devices = {{"one", DEVICE_FLASH}, {"two", DEVICE_FLASH}}, .device_count = 2, .segment_shift = SHIFT, .key = first_key};
    t.volume = 0;
    if (store_format(scenes.io, &c) != OK || !open_pool() || memcmp(found, first_key, sizeof found) != 0) return false;
    return !t.used || (make_volume() && drop_volume());
}

static bool change_key(void)
{
    t.err = store_key_set(t.store, second_key);
    if (t.err == OK) store_key_get(t.store, found);
    return t.err != OK || memcmp(found, second_key, sizeof found) == 0;
}

/* Content that the deleted volume had, too: it is stored anew, and once. */
static bool use_pool(void)
{
    struct store_stats before, after;
    store_stats(t.store, &before);
    if (!make_volume()) return false;
    store_stats(t.store, &after);
    return after.new_blocks - before.new_blocks == SOME / 2 && after.dup_blocks - before.dup_blocks == SOME / 2;
}

static bool audit(void)
{
    struct store_config c = config();
    report = (struct audit_report){.quick = false};
    enum err err = audit_pool(scenes.io, &c, &report);
    for (uint32_t i = 0; i < report.line_count; i++)
        if (report.lines[i].problem) printf("# %s\n", report.lines[i].text);
    return err == OK && report.problems == 0;
}

/* ---- with power ---- */

TEST(a_pool_without_volumes_gets_another_key)
{
    memset(first_key, 0xa1, sizeof first_key);
    memset(second_key, 0xb2, sizeof second_key);
    for (int used = 0; used < 2; used++) {
        t.used = used == 1;
        begin(1);
        CHECK(scene_play(make_pool) && scene_play(change_key) && t.err == OK && scene_play(use_pool) && scene_play(close_pool));
        CHECK(scene_play(audit) && report.warnings == 0);
        CHECK(scene_play(open_pool));
        CHECK_BYTES(found, second_key, sizeof found);
        CHECK(scene_play(close_pool));
    }
}

TEST(a_pool_with_a_volume_keeps_its_key)
{
    t.used = false;
    begin(2);
    CHECK(scene_play(make_pool) && scene_play(make_volume) && scene_play(change_key));
    CHECK_ERR(ERR_BUSY, t.err);
    CHECK(scene_play(close_pool) && scene_play(open_pool));
    CHECK_BYTES(found, first_key, sizeof found);
    CHECK(scene_play(change_key));
    CHECK_ERR(ERR_BUSY, t.err);
    CHECK(scene_play(drop_volume) && scene_play(change_key) && t.err == OK && scene_play(close_pool) && scene_play(audit));
}

/* ---- without ---- */

#define NEED(cond)                                                                                                             \
    do {                                                                                                                       \
        if (cond) break;                                                                                                       \
        printf("# line %d, cut %u: %s\n", __LINE__, n, #cond);                                                                 \
        return false;                                                                                                          \
    } while (0)

static bool has(const uint8_t key[STORE_KEY_BYTES])
{
    return memcmp(found, key, sizeof found) == 0;
}

/* The power goes at the n-th change. */
static bool story_of_a_cut(uint64_t seed, uint32_t n, bool used, uint32_t *seconds)
{
    t.used = used;
    begin(seed);
    NEED(scene_play(make_pool));
    sim_cut_at(scenes.sim, n);
    NEED(scene_play(change_key));
    bool done = t.err == OK;
    sim_cut_at(scenes.sim, 0);
    sim_power_cut(scenes.sim);
    store_abandon(t.store);
    sim_power_on(scenes.sim);
    NEED(scene_play(audit)); /* one of the superblocks may be torn, or older */
    NEED(scene_play(open_pool) && (has(second_key) || (has(first_key) && !done)));
    if (has(second_key))
        (*seconds)++;
    else
        NEED(scene_play(change_key) && t.err == OK);
    NEED(scene_play(use_pool) && scene_play(close_pool) && scene_play(audit) && scene_play(open_pool));
    NEED(has(second_key) && scene_play(close_pool) && scene_play(audit));
    for (uint32_t i = 0; i < report.line_count; i++) NEED(strstr(report.lines[i].text, "old") == NULL);
    return true;
}

TEST(a_power_cut_leaves_one_key_or_the_other)
{
    uint32_t seconds = 0, firsts = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        for (uint32_t n = 1; n <= CUTS; n++) {
            uint32_t before = seconds;
            CHECK(story_of_a_cut(seed, n, (seed + n) % 2 == 0, &seconds));
            firsts += seconds == before;
        }
    CHECK(seconds > SEEDS && firsts > 0); /* one superblock in four is enough */
}

TESTS(a_pool_without_volumes_gets_another_key, a_pool_with_a_volume_keeps_its_key, a_power_cut_leaves_one_key_or_the_other)
