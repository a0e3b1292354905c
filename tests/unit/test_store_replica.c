/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what a replicated volume needs of the store: tails that are inherited, shipped or discarded, and catching up.
 * Method: small pools on the simulated seam, driven by scenes that run as one task each; between two scenes the power may
 * fail. The caller of the store is played by hand: operations are prepared, and published when the scene says so.
 */
#include "check.h"

#include "base/bytes.h"
#include "store/digest.h"
#include "tests/unit/scenes.h"

enum { BLOCKS = 16384, SLOTS = 100, SHIFT = 16, MEMORY = 24 << 20, SIZE = (SLOTS << SHIFT) + (512 << 10), OPS = 64, EACH = 8 };

static const char *const disks[2] = {"a", "b"};

/* An operation with its bytes, as long as it is prepared. */
struct change {
    struct store_op op;
    struct block_digest digests[EACH];
    uint8_t data[EACH][BLOCK_SIZE], room[EACH][BLOCK_SIZE];
};

static struct {
    struct store *stores[2], *store; /* store: the one that the scene is about */
    struct change changes[OPS];
    uint32_t changed, waiting;
    enum err err; /* the first that an operation failed with */
} t;

/* ---- the world ---- */

static bool play(bool (*scene)(void))
{
    t.changed = t.waiting = 0;
    return scene_play(scene);
}

static void begin(uint64_t seed)
{
    scenes_begin(seed);
    for (uint32_t i = 0; i < 2; i++) {
        t.stores[i] = NULL;
        sim_disk_create(scenes.sim, disks[i], SIZE);
    }
    t.store = NULL;
}

static void crash(void)
{
    sim_power_cut(scenes.sim);
    for (uint32_t i = 0; i < 2; i++) store_abandon(t.stores[i]);
    t.stores[0] = t.stores[1] = t.store = NULL;
    sim_power_on(scenes.sim);
}

static enum err make_pool(uint32_t i)
{
    struct store_format_config c = {.devices = {{disks[i], DEVICE_FLASH}}, .device_count = 1, .segment_shift = SHIFT};
    return store_format(scenes.io, &c);
}

static enum err open_pool(uint32_t i)
{
    struct store_config c = {.device_count = 1, .devices = {{disks[i], DEVICE_FLASH}}, .memory = MEMORY};
    enum err err = store_open(scenes.io, &c, &t.stores[i], NULL);
    t.store = t.stores[i];
    return err;
}

static bool close_pools(void)
{
    bool good = true;
    for (uint32_t i = 0; i < 2; i++) {
        if (t.stores[i] != NULL) good = store_close(t.stores[i]) == OK && good;
        t.stores[i] = NULL;
    }
    return good;
}

/* ---- operations ---- */

/* Bytes of a block: 0 is zeros, others differ and do not compress. */
static void content(uint32_t seed, uint8_t *block)
{
    struct prng p;
    memset(block, 0, BLOCK_SIZE);
    if (seed == 0) return;
    prng_init(&p, seed);
    prng_fill(&p, block, BLOCK_SIZE);
}

static void op_done(struct store_op *op)
{
    if (t.err == OK) t.err = op->err;
    t.waiting--;
    io_task_wake(scenes.self);
}

static struct change *change_new(uint32_t epoch, uint64_t sequence)
{
    struct change *c = &t.changes[t.changed++ % OPS];
    c->op = (struct store_op){.done = op_done, .kind = RECORD_NOOP, .volume = 1, .epoch = epoch, .sequence = sequence};
    return c;
}

static enum err submit(struct change *c)
{
    t.err = OK;
    t.waiting++;
    store_prepare(t.store, &c->op);
    while (t.waiting > 0) io_task_park();
    return t.err;
}

static struct change *data_new(uint32_t epoch, uint64_t sequence, uint64_t lba, const uint32_t *seeds, uint32_t count)
{
    struct change *c = change_new(epoch, sequence);
    c->op.kind = RECORD_DATA;
    c->op.what = ENTRY_NEW;
    c->op.lba = lba;
    c->op.count = count;
    c->op.digests = c->digests;
    for (uint32_t i = 0; i < count; i++) {
        content(seeds[i], c->data[i]);
        digest_block(store_key(t.store), c->data[i], c->room[i], &c->digests[i]);
    }
    return c;
}

/* Prepared, for the scene to publish or discard. */
static enum err prepare_data(uint32_t epoch, uint64_t sequence, uint64_t lba, uint32_t seed)
{
    return submit(data_new(epoch, sequence, lba, &seed, 1));
}

static enum err prepare_noop(uint32_t epoch, uint64_t sequence)
{
    return submit(change_new(epoch, sequence));
}

static enum err prepare_create(uint64_t blocks)
{
    struct change *c = change_new(1, 1);
    c->op.kind = RECORD_CREATE;
    c->op.lba = blocks;
    return submit(c);
}

static void publish(uint64_t up_to)
{
    for (struct store_op *op; (op = store_prepared(t.store, 1)) != NULL && op->sequence <= up_to;) store_publish(t.store, op);
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

static enum err read_blocks(const struct store_op *of, uint64_t lba, uint32_t count, uint8_t *ret_data, uint8_t *ret_mapped)
{
    struct reading r = {.read = {.done = read_done, .volume = 1, .lba = lba, .count = count, .data = ret_data}};
    r.read.mapped = ret_mapped;
    r.read.of = of;
    store_read(t.store, &r.read);
    while (!r.over) io_task_park();
    return r.read.err;
}

static bool holds(const struct store_op *of, uint64_t lba, uint32_t seed)
{
    static uint8_t data[BLOCK_SIZE], expected[BLOCK_SIZE];
    content(seed, expected);
    return read_blocks(of, lba, 1, data, NULL) == OK && memcmp(data, expected, BLOCK_SIZE) == 0;
}

/* ---- epochs after a discard ---- */

static bool epochs_fall_back(void)
{
    if (make_pool(0) != OK || open_pool(0) != OK || prepare_create(BLOCKS) != OK) return false;
    if (prepare_data(2, 2, 5, 52) != OK || prepare_data(5, 3, 6, 63) != OK || prepare_data(7, 4, 7, 74) != OK) return false;
    publish(2);
    if (prepare_noop(6, 5) != ERR_ORDER) return false; /* lower than that of a living one */
    if (store_discard(t.store, 1, 4) != OK || prepare_noop(4, 4) != ERR_ORDER) return false;
    if (prepare_noop(5, 4) != OK || t.changes[(t.changed - 1) % OPS].op.previous_epoch != 5) return false;
    if (store_discard(t.store, 1, 3) != OK || prepare_noop(1, 3) != ERR_ORDER) return false;
    if (prepare_noop(3, 3) != OK || t.changes[(t.changed - 1) % OPS].op.previous_epoch != 2) return false;
    return store_discard(t.store, 1, 3) == OK; /* nothing of it is left but the records */
}

static bool epochs_fell_back(void)
{
    if (open_pool(0) != OK) return false;
    publish(2);
    if (store_prepared(t.store, 1) != NULL || prepare_noop(1, 3) != ERR_ORDER || prepare_noop(2, 3) != OK) return false;
    return t.changes[(t.changed - 1) % OPS].op.previous_epoch == 2;
}

static bool names_its_predecessor(void)
{
    const struct store_op *op = open_pool(0) == OK ? store_prepared_next(t.store, 1, 2) : NULL;
    bool good = op != NULL && op->sequence == 3 && op->epoch == 2 && op->previous_epoch == 2;
    publish(3);
    return good && close_pools();
}

/* What was discarded leaves no epoch behind, neither in this life nor after a crash. */
TEST(a_discard_takes_back_epochs)
{
    begin(1);
    CHECK(play(epochs_fall_back));
    crash();
    CHECK(play(epochs_fell_back));
    crash();
    CHECK(play(names_its_predecessor));
}

/* ---- what is inherited ---- */

static const uint32_t mixed[EACH] = {11, 0, 12, 11, 0, 13, 90, 14}; /* repeats one of its own, and 90 is there before */

static bool leaves_a_tail(void)
{
    static const uint32_t known = 90;
    struct change *c;
    if (make_pool(0) != OK || open_pool(0) != OK || prepare_create(BLOCKS) != OK) return false;
    if (submit(data_new(1, 2, 100, &known, 1)) != OK) return false;
    publish(2);
    if (submit(data_new(1, 3, 40, mixed, EACH)) != OK) return false;
    c = change_new(1, 4);
    c->op.kind = RECORD_DATA;
    c->op.what = ENTRY_ZERO;
    c->op.lba = 42;
    c->op.count = 3000;
    if (submit(c) != OK) return false;
    c = change_new(2, 5);
    c->op.kind = RECORD_STATE;
    c->op.key = "key";
    c->op.value = "value";
    c->op.key_bytes = 3;
    c->op.value_bytes = 5;
    return submit(c) == OK && prepare_data(2, 6, 41, 15) == OK;
}

static bool mixed_is_there(const struct store_op *op)
{
    uint8_t mapped[EACH];
    for (uint32_t i = 0; i < EACH; i++)
        if (!holds(op, 40 + i, mixed[i])) return false;
    if (read_blocks(op, 40, EACH, NULL, mapped) != OK) return false;
    for (uint32_t i = 0; i < EACH; i++)
        if (mapped[i] != 1) return false;
    return read_blocks(op, 39, 2, NULL, mapped) == ERR_RANGE && read_blocks(op, 47, 2, NULL, mapped) == ERR_RANGE;
}

/* All of it can be looked at before anything is decided; what is published is not what is prepared. */
static bool tail_is_there(void)
{
    const struct store_op *op[4];
    uint8_t mapped;
    uint32_t gained;
    uint64_t after = 2;
    if (open_pool(0) != OK) return false;
    publish(2);
    if (store_clean(t.store, &gained) != OK) return false;
    for (uint32_t i = 0; i < 4; i++, after++) {
        op[i] = store_prepared_next(t.store, 1, after);
        if (op[i] == NULL || op[i]->sequence != after + 1) return false;
    }
    if (store_prepared_next(t.store, 1, 6) != NULL || store_prepared_next(t.store, 2, 0) != NULL) return false;
    if (!mixed_is_there(op[0]) || !holds(op[1], 3000, 0) || !holds(op[3], 41, 15) || !holds(NULL, 41, 0)) return false;
    bool state = memcmp(op[2]->key, "key", 3) == 0 && memcmp(op[2]->value, "value", 5) == 0 && op[2]->value_bytes == 5;
    if (!state || read_blocks(op[2], 0, 1, NULL, &mapped) != ERR_ARGUMENT) return false;
    publish(6);
    return holds(NULL, 40, 11) && holds(NULL, 41, 15) && holds(NULL, 42, 0) && close_pools();
}

TEST(a_tail_is_inherited_with_its_blocks)
{
    begin(2);
    CHECK(play(leaves_a_tail));
    crash();
    CHECK(play(tail_is_there));
}

/* ---- catching up ---- */

static bool stands(uint64_t sequence, uint32_t epoch, uint64_t blocks, bool learning)
{
    struct store_volume_info info;
    if (store_volume_next(t.store, 1, &info) != OK) return false;
    return info.published == sequence && info.prepared == sequence && info.epoch == epoch && info.blocks == blocks &&
           info.learning == learning;
}

static enum err learn(struct change *c)
{
    c->op.learn = true;
    return submit(c);
}

static enum err learn_data(uint64_t stamp, uint64_t lba, uint32_t seed)
{
    return learn(data_new(9, stamp, lba, &seed, 1));
}

static struct change *stretch_new(enum entry_kind what, uint64_t stamp, uint64_t lba, uint32_t count)
{
    struct change *c = change_new(9, stamp);
    c->op.kind = RECORD_DATA;
    c->op.what = what;
    c->op.lba = lba;
    c->op.count = count;
    return c;
}

static struct change *key_new(enum record_kind kind, uint32_t epoch, uint64_t stamp, const char *key, uint32_t key_bytes,
                              const char *value)
{
    struct change *c = change_new(epoch, stamp);
    c->op.kind = kind;
    c->op.key = key;
    c->op.key_bytes = key_bytes;
    c->op.value = value;
    c->op.value_bytes = (uint32_t)strlen(value);
    return c;
}

static struct change *resize_new(uint64_t stamp, uint64_t blocks)
{
    struct change *c = change_new(9, stamp);
    c->op.kind = RECORD_RESIZE;
    c->op.lba = blocks;
    return c;
}

static bool key_is(const char *key, uint32_t key_bytes, const char *value)
{
    const void *got;
    uint32_t bytes;
    enum err err = store_state_get(t.store, 1, key, key_bytes, &got, &bytes);
    if (value[0] == '\0') return err == ERR_NO_KEY;
    return err == OK && bytes == strlen(value) && memcmp(got, value, bytes) == 0;
}

#define LOCAL "\0l"

static bool learns(void)
{
    if (make_pool(0) != OK || open_pool(0) != OK || prepare_create(1000) != OK) return false;
    if (prepare_data(2, 2, 5, 52) != OK || prepare_data(2, 3, 600, 63) != OK) return false;
    publish(2);
    if (learn_data(40, 5, 405) != ERR_ORDER) return false;                                /* 3 is undecided */
    if (learn(key_new(RECORD_STATE, 2, 1, LOCAL, 2, "before")) != OK) return false;       /* that does not matter to this one */
    if (submit(key_new(RECORD_STATE, 2, 4, LOCAL, 2, "x")) != ERR_ARGUMENT) return false; /* which has no place in the order */
    publish(3);
    if (!stands(3, 2, 1000, false) || !key_is(LOCAL, 2, "before")) return false;
    if (learn(resize_new(40, 2000)) != OK || learn_data(40, 1500, 415) != OK || learn_data(40, 5, 405) != OK) return false;
    if (!stands(3, 2, 2000, true) || !holds(NULL, 1500, 415) || !holds(NULL, 5, 405)) return false;
    if (prepare_noop(2, 4) != ERR_ORDER || prepare_noop(9, 41) != ERR_ORDER) return false; /* not while it learns */
    if (learn(stretch_new(ENTRY_UNMAP, 44, 500, 200)) != OK || learn_data(42, 7, 407) != OK) return false;
    if (learn(key_new(RECORD_STATE, 9, 44, "key", 3, "new")) != OK) return false;
    if (learn(key_new(RECORD_STATE, 2, 44, LOCAL, 2, "far")) != OK) return false;
    if (store_discard(t.store, 1, 4) != OK) return false; /* of nothing */
    return stands(3, 2, 2000, true) && key_is("key", 3, "new");
}

static bool still_learns(void)
{
    if (open_pool(0) != OK || store_prepared(t.store, 1) != NULL || !stands(3, 2, 2000, true)) return false;
    if (!holds(NULL, 5, 405) || !holds(NULL, 600, 0) || !holds(NULL, 7, 407) || !holds(NULL, 1500, 415)) return false;
    if (!key_is("key", 3, "new") || !key_is(LOCAL, 2, "far")) return false;
    struct change *beyond = stretch_new(ENTRY_ZERO, 45, 1990, 20), *nowhere = stretch_new(ENTRY_ZERO, 45, 2000, 20);
    if (learn(beyond) != OK || beyond->op.count != 10 || learn(nowhere) != OK || nowhere->op.count != 0) return false;
    return store_checkpoint(t.store, true) == OK && learn_data(46, 8, 408) == OK && stands(3, 2, 2000, true);
}

static uint64_t first_changed, changes_seen;

static void changed_each(void *arg, uint64_t lba, uint32_t count)
{
    (void)arg;
    if (changes_seen == 0) first_changed = lba;
    changes_seen += (count + LEAF_BLOCKS - 1) / LEAF_BLOCKS;
}

static uint64_t leaves_since(uint64_t since)
{
    changes_seen = 0;
    return store_changed_since(t.store, 1, since, changed_each, NULL) == OK ? changes_seen : UINT64_MAX;
}

static bool moves(void)
{
    if (open_pool(0) != OK || !stands(3, 2, 2000, true) || !holds(NULL, 8, 408)) return false;
    if (learn(key_new(RECORD_MOVE, 2, 2, LOCAL, 2, "")) != ERR_ORDER) return false; /* back, and not in a later epoch */
    struct change *move = key_new(RECORD_MOVE, 9, 46, LOCAL, 2, "");
    if (submit(move) != OK || !stands(46, 9, 2000, false) || !key_is(LOCAL, 2, "")) return false;
    if (leaves_since(46) != 0 || leaves_since(45) != 1 || first_changed != 0 || leaves_since(43) != 3) return false;
    if (leaves_since(39) != 4) return false; /* all of the 2000 blocks; the last leaf not whole */
    return prepare_noop(8, 47) == ERR_ORDER && prepare_noop(9, 48) == ERR_ORDER && prepare_data(9, 47, 9, 509) == OK;
}

static bool has_moved(void)
{
    if (open_pool(0) != OK) return false;
    const struct store_op *op = store_prepared(t.store, 1);
    if (op == NULL || op->sequence != 47 || op->previous_epoch != 9 || learn_data(60, 1, 1) != ERR_ORDER) return false;
    publish(47);
    if (!stands(47, 9, 2000, false) || !key_is(LOCAL, 2, "") || !holds(NULL, 9, 509) || !holds(NULL, 5, 405)) return false;
    /* Somebody else went on with less: some of it never happened. */
    if (learn_data(41, 9, 0) != OK || submit(key_new(RECORD_MOVE, 11, 41, LOCAL, 2, "again")) != OK) return false;
    return stands(41, 11, 2000, false) && prepare_data(11, 42, 10, 510) == OK;
}

/* What is undecided stays undecided, whatever the checkpoint of before says was committed. */
static bool has_moved_back(void)
{
    if (open_pool(0) != OK || store_prepared(t.store, 1) == NULL || !holds(NULL, 10, 0) || !holds(NULL, 9, 0)) return false;
    publish(42);
    return stands(42, 11, 2000, false) && key_is(LOCAL, 2, "again") && holds(NULL, 10, 510) && close_pools();
}

TEST(a_volume_catches_up)
{
    begin(3);
    CHECK(play(learns));
    crash();
    CHECK(play(still_learns));
    crash();
    CHECK(play(moves));
    crash();
    CHECK(play(has_moved));
    crash();
    CHECK(play(has_moved_back));
}

static enum err ends[3];

static void end_seen(struct store_op *op)
{
    ends[CONTAINER(op, struct change, op) - t.changes] = op->err;
    t.waiting--;
    io_task_wake(scenes.self);
}

/* The note of how far it is must not survive what it tells of. */
static bool fails_together(void)
{
    if (make_pool(0) != OK || open_pool(0) != OK || prepare_create(1000) != OK) return false;
    publish(1);
    t.changed = 0;
    struct change *good = stretch_new(ENTRY_ZERO, 7, 0, 9), *bad = stretch_new(ENTRY_ZERO, 7, 0, 0);
    struct change *after = key_new(RECORD_STATE, 9, 7, LOCAL, 2, "done");
    t.waiting = 3;
    for (uint32_t i = 0; i < 3; i++) {
        t.changes[i].op.learn = true;
        t.changes[i].op.done = end_seen;
        store_prepare(t.store, &t.changes[i].op);
    }
    while (t.waiting > 0) io_task_park();
    if (good->op.err != OK || bad->op.err != ERR_RANGE || after->op.err != ERR_ORDER || !key_is(LOCAL, 2, "")) return false;
    return learn(key_new(RECORD_STATE, 9, 7, LOCAL, 2, "done")) == OK && key_is(LOCAL, 2, "done") && close_pools();
}

/* Tries again from within, and fails again. */
static void try_again(struct store_op *op)
{
    end_seen(op);
    op->done = end_seen;
    t.waiting++;
    store_prepare(t.store, op);
}

/* What was queued behind the first failure does not slip in between it and the next. */
static bool fails_again(void)
{
    if (make_pool(0) != OK || open_pool(0) != OK || prepare_create(1000) != OK) return false;
    publish(1);
    t.changed = 0;
    struct change *bad = stretch_new(ENTRY_ZERO, 7, 0, 0), *after = key_new(RECORD_STATE, 9, 7, LOCAL, 2, "done");
    bad->op.learn = after->op.learn = true;
    bad->op.done = try_again;
    after->op.done = end_seen;
    t.waiting = 2;
    store_prepare(t.store, &bad->op);
    store_prepare(t.store, &after->op);
    while (t.waiting > 0) io_task_park();
    return bad->op.err == ERR_RANGE && after->op.err == ERR_ORDER && key_is(LOCAL, 2, "") && close_pools();
}

TEST(catching_up_fails_together)
{
    begin(4);
    CHECK(play(fails_together));
    begin(5);
    CHECK(play(fails_again));
}

/* ---- walking by cursor ---- */

static struct store_changes changes;

static bool is_changed(uint32_t i)
{
    return changes.map[i / 8] >> (i % 8) & 1;
}

/* A stretch has so many changed blocks, and the walk goes on there. */
static bool finds(uint64_t since, uint64_t lba, uint32_t count, uint32_t changed, uint64_t next)
{
    enum err err = store_changes_in(t.store, 1, since, lba, count, &changes);
    if (err == OK && changes.changed == changed && changes.next == next) return true;
    printf("# since %u, block %u: %s, %u changed, next %llu\n", (unsigned)since, (unsigned)lba, err_name(err), changes.changed,
           (unsigned long long)changes.next);
    return false;
}

/* Walks until something has changed: it is in `changes`, and lies behind *next. */
static bool walk_on(uint64_t since, uint64_t *next, uint32_t *calls)
{
    enum { CALLS_MAX = 1000 };
    for (*calls = 1; *calls < CALLS_MAX && *next != UINT64_MAX; ++*calls) {
        if (store_changes_in(t.store, 1, since, *next, 2 * LEAF_BLOCKS, &changes) != OK) return false;
        if (changes.changed > 0) return true;
        *next = changes.next;
    }
    return false;
}

static bool walks(void)
{
    enum { LAST = (1 << 30) - 1 };
    struct store_stats before, after;
    if (make_pool(0) != OK || open_pool(0) != OK || prepare_create((uint64_t)1 << 30) != OK) return false;
    if (prepare_data(1, 2, 1000, 1) != OK || prepare_data(1, 3, 700000, 2) != OK) return false;
    publish(3);
    if (store_checkpoint(t.store, true) != OK) return false;
    if (prepare_data(1, 4, 1002, 3) != OK || prepare_data(1, 5, LAST, 4) != OK) return false;
    publish(5);
    store_stats(t.store, &before);
    /* In memory: block by block. */
    if (!finds(3, 900, 90, 0, 990) || !finds(3, 900, 110, 1, 1010) || !is_changed(102)) return false;
    /* In pages: whole leaves. */
    if (!finds(1, 600, 10, 10, 610)) return false;
    if (store_changes_in(t.store, 1, 2, 699904, 512, &changes) != OK || changes.changed != 512) return false;
    if (!finds(2, 0, 1024, 1, 699904) || !is_changed(1002)) return false;
    uint32_t calls = 0;
    uint64_t next = 1024;
    if (!walk_on(3, &next, &calls) || next != LAST / LEAF_BLOCKS * LEAF_BLOCKS || calls > 20) return false; /* far away */
    store_stats(t.store, &after);
    if (after.leaf_flushes != before.leaf_flushes) return false;
    /* With 0 also what was never written; not beyond the end. */
    if (!finds(0, 5000, 100, 100, 5100) || !finds(0, LAST - 6, 100, 7, UINT64_MAX)) return false;
    if (store_changes_in(t.store, 1, 0, 0, STORE_CHANGES_MAX + 1, &changes) != ERR_ARGUMENT) return false;
    return store_changes_in(t.store, 2, 0, 0, 1, &changes) == ERR_NO_VOLUME && close_pools();
}

/* Many leaves of the delta, all but the last three of which `since` knows: those are found, wherever they lie. */
static bool walks_over_a_large_delta(void)
{
    enum { LEAVES = 200, FAR = (1 << 29) + LEAF_BLOCKS };
    static const uint64_t new[] = {77 * 4096, FAR, FAR + 3 * 65536};
    uint64_t sequence = 1, next = 0;
    uint32_t calls = 0;
    if (make_pool(0) != OK || open_pool(0) != OK || prepare_create((uint64_t)1 << 30) != OK) return false;
    for (uint32_t i = 0; i < LEAVES; i++) {
        struct change *c = change_new(1, ++sequence); /* small in the log, so that nothing has to be flushed */
        c->op.kind = RECORD_DATA;
        c->op.what = ENTRY_UNMAP;
        c->op.lba = (uint64_t)i * 4096;
        c->op.count = 1;
        if (submit(c) != OK) return false;
        publish(sequence);
    }
    uint64_t since = sequence;
    for (uint32_t i = 0; i < 3; i++)
        if (prepare_data(1, ++sequence, new[i], 400 + i) != OK) return false;
    publish(sequence);
    for (uint32_t i = 0; i < 3; i++) {
        if (!walk_on(since, &next, &calls) || next / LEAF_BLOCKS != new[i] / LEAF_BLOCKS || changes.changed != 1) return false;
        next = new[i] + 1;
        if (i == 1 && (calls < 10 || calls > 100)) return false; /* bounded work each */
    }
    while (next != UINT64_MAX) {
        if (store_changes_in(t.store, 1, since, next, LEAF_BLOCKS, &changes) != OK || changes.changed != 0) return false;
        next = changes.next;
    }
    return close_pools();
}

/* A volume that was cut and grew again: all beyond the cut has changed, before it nothing has. */
static bool walks_over_a_cut(void)
{
    enum { CUT = 100 * 65536 };
    uint64_t next = 512;
    uint32_t calls = 0;
    if (make_pool(0) != OK || open_pool(0) != OK || prepare_create((uint64_t)1 << 30) != OK) return false;
    if (prepare_data(1, 2, CUT + 70000, 1) != OK) return false;
    publish(2);
    if (store_checkpoint(t.store, true) != OK) return false;
    if (submit(resize_new(3, CUT)) != OK || submit(resize_new(4, (uint64_t)1 << 30)) != OK) return false;
    publish(4);
    if (!walk_on(2, &next, &calls) || next != CUT || changes.changed != 2 * LEAF_BLOCKS) return false;
    return close_pools();
}

TEST(a_walk_by_cursor_looks_into_a_large_delta)
{
    begin(6);
    CHECK(play(walks_over_a_large_delta));
    begin(7);
    CHECK(play(walks_over_a_cut));
}

TEST(a_walk_by_cursor_tells_what_changed)
{
    begin(5);
    CHECK(play(walks));
}

/* ---- digests ---- */

static const uint8_t shared_key[STORE_KEY_BYTES] = "the key of a cluster, which is as long as a block of its hash...";

static bool digest_is(uint64_t of, uint64_t ret_digest[4])
{
    uint64_t sequence = 0;
    return store_volume_digest(t.store, 1, &sequence, ret_digest) == OK && sequence == of;
}

/* The same content by other ways: ordered here, caught up with there, in other pieces and without what was overwritten. */
static bool fills_two(void)
{
    uint64_t digests[3][4];
    for (uint32_t i = 0; i < 2; i++) {
        struct store_format_config c = {.devices = {{disks[i], DEVICE_FLASH}}, .device_count = 1, .segment_shift = SHIFT};
        c.key = shared_key;
        if (store_format(scenes.io, &c) != OK || open_pool(i) != OK || prepare_create(5000) != OK) return false;
        publish(1);
    }
    uint8_t key[STORE_KEY_BYTES];
    store_key_get(t.store, key);
    if (memcmp(key, shared_key, sizeof key) != 0) return false;
    t.store = t.stores[0];
    const uint32_t same[2] = {11, 11};
    if (prepare_data(2, 2, 7, 999) != OK || submit(data_new(2, 3, 7, same, 2)) != OK) return false;
    if (submit(stretch_new(ENTRY_ZERO, 4, 600, 3)) != OK || submit(key_new(RECORD_STATE, 9, 5, "key", 3, "v")) != OK)
        return false;
    publish(5);
    if (learn(key_new(RECORD_STATE, 9, 1, LOCAL, 2, "mine")) != OK || !digest_is(5, digests[0])) return false;
    t.store = t.stores[1];
    if (learn(stretch_new(ENTRY_ZERO, 5, 602, 1)) != OK || learn(stretch_new(ENTRY_ZERO, 5, 600, 2)) != OK) return false;
    if (learn_data(5, 8, 11) != OK || learn_data(5, 7, 11) != OK) return false;
    if (learn(key_new(RECORD_STATE, 9, 5, "key", 3, "v")) != OK || !digest_is(1, digests[1])) return false;
    if (memcmp(digests[0], digests[1], sizeof digests[0]) != 0) return false;
    if (submit(key_new(RECORD_MOVE, 9, 5, LOCAL, 2, "other")) != OK || !digest_is(5, digests[1])) return false;
    if (memcmp(digests[0], digests[1], sizeof digests[0]) != 0) return false;
    if (submit(stretch_new(ENTRY_UNMAP, 6, 602, 1)) != OK) return false; /* zeros are not the same as nothing */
    publish(6);
    if (!digest_is(6, digests[2]) || memcmp(digests[1], digests[2], 16) == 0 || memcmp(digests[1] + 2, digests[2] + 2, 16) != 0)
        return false;
    if (submit(resize_new(7, 6000)) != OK) return false;
    publish(7);
    return digest_is(7, digests[1]) && memcmp(digests[1] + 2, digests[2] + 2, 16) != 0 && close_pools();
}

TEST(equal_content_has_equal_digests)
{
    begin(6);
    CHECK(play(fills_two));
}

TESTS(a_discard_takes_back_epochs, a_tail_is_inherited_with_its_blocks, a_volume_catches_up, catching_up_fails_together,
      a_walk_by_cursor_tells_what_changed, a_walk_by_cursor_looks_into_a_large_delta, equal_content_has_equal_digests)
