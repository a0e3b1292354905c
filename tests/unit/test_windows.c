/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the store's request windows tell which requests took place, through publishing, replay, checkpoints and catching up
 * (store/windows.c). Method: one small pool on the simulated seam and a volume whose operations change nothing but the windows,
 * driven by scenes that run as one task each; between two scenes the power may fail. At last many random requests with crashes
 * among them, against a model that remembers every request.
 */
#include "check.h"

#include "base/bytes.h"
#include "base/prng.h"
#include "tests/unit/scenes.h"

enum { SLOTS = 100, SHIFT = 16, MEMORY = 24 << 20, SIZE = (SLOTS << SHIFT) + (512 << 10), OPS = 64, EPOCH = 2 };

static const char *const disk = "disk";

static struct {
    struct store *store;
    struct store_op ops[OPS];
    uint64_t sequence; /* of the newest operation of the volume */
    uint32_t waiting;
} t;

/* ---- the world ---- */

static void crash(void)
{
    sim_power_cut(scenes.sim);
    store_abandon(t.store);
    t.store = NULL;
    sim_power_on(scenes.sim);
}

static enum err open_pool(void)
{
    struct store_config c = {.device_count = 1, .devices = {{disk, DEVICE_FLASH}}, .memory = MEMORY};
    return store_open(scenes.io, &c, &t.store, NULL);
}

static bool close_pool(void)
{
    enum err err = store_close(t.store);
    t.store = NULL;
    return err == OK;
}

/* ---- operations ---- */

static void op_done(struct store_op *op)
{
    (void)op;
    t.waiting--;
    io_task_wake(scenes.self);
}

static enum err submit(struct store_op *op)
{
    op->done = op_done;
    op->volume = 1;
    op->epoch = EPOCH;
    t.waiting++;
    store_prepare(t.store, op);
    while (t.waiting > 0) io_task_park();
    return op->err;
}

/* The volume's next operation, asked for by somebody. */
static enum err prepare(uint16_t node, uint32_t boot, uint64_t request)
{
    struct store_op *op = &t.ops[++t.sequence % OPS];
    *op = (struct store_op){.kind = RECORD_NOOP, .sequence = t.sequence, .node = node, .boot = boot, .request = request};
    if (t.sequence == 1) op->kind = RECORD_CREATE;
    if (t.sequence == 1) op->lba = 1000;
    return submit(op);
}

static void publish(uint64_t up_to)
{
    for (struct store_op *op; (op = store_prepared(t.store, 1)) != NULL && op->sequence <= up_to;) store_publish(t.store, op);
}

static bool requested(uint16_t node, uint32_t boot, uint64_t request)
{
    if (prepare(node, boot, request) != OK) return false;
    publish(t.sequence);
    return true;
}

static enum err learn_windows(const struct store_window windows[REQUEST_NODES])
{
    static struct disk_window value[REQUEST_NODES];
    static struct store_op op;
    op = (struct store_op){.sequence = t.sequence};
    store_windows_op(windows, value, &op);
    return submit(&op);
}

/* The same key with any value: what a newer version, or nobody, would write. */
static enum err learn_odd(const void *value, uint32_t bytes)
{
    static const uint8_t key[] = {STATE_LOCAL, STATE_WINDOWS};
    static struct store_op op;
    op = (struct store_op){.kind = RECORD_STATE, .learn = true, .sequence = t.sequence};
    op.key = key;
    op.key_bytes = sizeof key;
    op.value = value;
    op.value_bytes = bytes;
    return submit(&op);
}

/* ---- what they say ---- */

static bool is_window(uint32_t node, uint32_t boot, uint64_t high, uint64_t done)
{
    struct store_window all[REQUEST_NODES];
    store_windows(t.store, 1, all);
    const struct store_window *w = &all[node];
    if (w->boot == boot && w->high == high && w->done == done) return true;
    printf("# node %u: boot %u, high %llu, done %llx\n", node, w->boot, (unsigned long long)w->high,
           (unsigned long long)w->done);
    return false;
}

static bool are_empty(uint32_t volume)
{
    static const struct store_window none[REQUEST_NODES];
    struct store_window all[REQUEST_NODES];
    memset(all, 0xa5, sizeof all);
    store_windows(t.store, volume, all);
    for (uint32_t i = 0; i < REQUEST_NODES; i++)
        if (all[i].boot != none[i].boot || all[i].high != none[i].high || all[i].done != none[i].done) return false;
    return true;
}

static bool make(void)
{
    struct store_format_config c = {.devices = {{disk, DEVICE_FLASH}}, .device_count = 1, .segment_shift = SHIFT};
    return store_format(scenes.io, &c) == OK && open_pool() == OK && requested(0, 0, 0) && are_empty(1);
}

static void begin(uint64_t seed)
{
    scenes_begin(seed);
    sim_disk_create(scenes.sim, disk, SIZE);
    t.store = NULL;
    t.sequence = 0;
    t.waiting = 0;
}

/* ---- publishing ---- */

static bool notes(void)
{
    if (!make() || prepare(3, 5, 1) != OK || !are_empty(1)) return false; /* not before it took place */
    publish(t.sequence);
    if (!is_window(3, 5, 1, 1) || !is_window(2, 0, 0, 0) || !is_window(4, 0, 0, 0)) return false;
    if (!requested(3, 5, 2) || !requested(3, 5, 4) || !is_window(3, 5, 4, 0xd)) return false; /* 3 did not */
    if (!requested(3, 5, 3) || !is_window(3, 5, 4, 0xf)) return false;                        /* late */
    if (!requested(3, 5, 3) || !is_window(3, 5, 4, 0xf)) return false;                        /* twice */
    if (!requested(3, 5, 67) || !is_window(3, 5, 67, 0x8000000000000001)) return false;       /* the last bit is that of 4 */
    if (!requested(3, 5, 68) || !is_window(3, 5, 68, 3)) return false;                        /* now it fell off */
    if (!requested(3, 5, 200) || !is_window(3, 5, 200, 1)) return false;                      /* and here all did */
    if (!requested(3, 5, 136) || !is_window(3, 5, 200, 1)) return false;                      /* too old to be told */
    return requested(3, 5, 137) && is_window(3, 5, 200, 0x8000000000000001);
}

static bool notes_by_boot(void)
{
    if (!make() || !requested(0, 7, 40) || !requested(7, 1, UINT64_MAX - 1) || !is_window(0, 7, 40, 1)) return false;
    if (!is_window(7, 1, UINT64_MAX - 1, 1)) return false;
    if (!requested(0, 6, 41) || !is_window(0, 7, 40, 1)) return false; /* of a life that is over */
    if (!requested(0, 8, 2) || !is_window(0, 8, 2, 1)) return false;   /* numbers begin again */
    if (!requested(0, 0, 9) || !is_window(0, 8, 2, 1)) return false;   /* nobody's */
    return prepare(REQUEST_NODES, 8, 3) == ERR_ARGUMENT && prepare(UINT16_MAX, 8, 3) == ERR_ARGUMENT && is_window(0, 8, 2, 1) &&
           is_window(7, 1, UINT64_MAX - 1, 1);
}

TEST(publishing_notes_a_request)
{
    begin(1);
    CHECK(scene_play(notes));
    CHECK(scene_play(close_pool));
    begin(2);
    CHECK(scene_play(notes_by_boot));
    CHECK(scene_play(close_pool));
}

/* ---- crashes ---- */

static bool before_crash(void)
{
    return make() && requested(1, 5, 1) && requested(2, 6, 10) && requested(1, 5, 3) && prepare(1, 5, 4) == OK &&
           prepare(2, 6, 11) == OK;
}

/* From the log alone. The last that was published may be undecided again: nothing behind it said that it was. */
static bool replayed(void)
{
    if (open_pool() != OK) return false;
    publish(4);
    if (!is_window(1, 5, 3, 5) || !is_window(2, 6, 10, 1)) return false;
    publish(5);
    if (!is_window(1, 5, 4, 0xb) || store_discard(t.store, 1, 6) != OK) return false;
    t.sequence = 5;
    if (!is_window(2, 6, 10, 1) || !requested(2, 6, 12) || !is_window(2, 6, 12, 5)) return false; /* 11 never happened */
    return store_checkpoint(t.store, true) == OK && requested(1, 6, 1);
}

/* From a checkpoint, and a little log. */
static bool after_checkpoint(void)
{
    if (open_pool() != OK) return false;
    publish(t.sequence);
    if (!is_window(1, 6, 1, 1) || !is_window(2, 6, 12, 5) || !requested(2, 6, 13)) return false;
    return close_pool() && open_pool() == OK && is_window(1, 6, 1, 1) && is_window(2, 6, 13, 0xb) && close_pool();
}

TEST(windows_outlive_crashes)
{
    begin(3);
    CHECK(scene_play(before_crash));
    crash();
    CHECK(scene_play(replayed));
    crash();
    CHECK(scene_play(after_checkpoint));
}

/* ---- catching up ---- */

static const struct store_window elsewhere[REQUEST_NODES] = {[1] = {9, 100, 0xff}, [6] = {2, UINT64_MAX - 1, UINT64_MAX}};

static bool learned(void)
{
    uint64_t of, before[4], after[4];
    if (!make() || !requested(1, 5, 3) || !requested(2, 6, 10)) return false;
    if (store_volume_digest(t.store, 1, &of, before) != OK || learn_windows(elsewhere) != OK) return false;
    if (!is_window(1, 9, 100, 0xff) || !is_window(2, 0, 0, 0) || !is_window(6, 2, UINT64_MAX - 1, UINT64_MAX)) return false;
    if (store_volume_digest(t.store, 1, &of, after) != OK || memcmp(before, after, sizeof before) != 0) return false;
    struct store_volume_info info = {0};
    if (store_volume_next(t.store, 1, &info) != OK || info.learning) return false; /* they are this replica's own */
    return requested(1, 9, 102) && is_window(1, 9, 102, 0x3fd);
}

/* The key was set in the log between the requests: replay must set it in its place. */
static bool learned_again(void)
{
    if (open_pool() != OK) return false;
    publish(t.sequence);
    if (!is_window(1, 9, 102, 0x3fd) || !is_window(2, 0, 0, 0) || !is_window(6, 2, UINT64_MAX - 1, UINT64_MAX)) return false;
    return store_checkpoint(t.store, false) == OK && learn_windows(elsewhere) == OK && is_window(1, 9, 100, 0xff);
}

static bool learned_back(void)
{
    return open_pool() == OK && is_window(1, 9, 100, 0xff) && close_pool();
}

TEST(windows_are_learned)
{
    begin(4);
    CHECK(scene_play(learned));
    crash();
    CHECK(scene_play(learned_again));
    crash();
    CHECK(scene_play(learned_back));
}

/* A value of another size says nothing, and does no harm: the next request begins anew. */
static bool odd(void)
{
    static uint8_t odd[STATE_VALUE_MAX];
    const uint32_t whole = REQUEST_NODES * sizeof(struct disk_window), sizes[] = {1, whole - 1, whole + 1, sizeof odd, 0};
    memset(odd, 0xff, sizeof odd);
    if (!make()) return false;
    for (uint32_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        if (!requested(5, 1, 7 + i) || learn_odd(odd, sizes[i]) != OK || !are_empty(1)) return false;
        if (!requested(5, 1, 20 + i) || !is_window(5, 1, 20 + i, 1)) return false;
    }
    /* Of the right size anything is taken for what it says: the newest boot there is, and no request of it is ever new. */
    if (learn_odd(odd, whole) != OK || !is_window(4, UINT32_MAX, UINT64_MAX, UINT64_MAX)) return false;
    if (!requested(4, UINT32_MAX, UINT64_MAX) || !requested(4, 3, 1)) return false;
    return is_window(4, UINT32_MAX, UINT64_MAX, UINT64_MAX);
}

static bool nowhere(void)
{
    if (open_pool() != OK) return false;
    publish(t.sequence);
    if (!is_window(4, UINT32_MAX, UINT64_MAX, UINT64_MAX) || !are_empty(2)) return false;
    struct store_op *op = &t.ops[++t.sequence % OPS];
    *op = (struct store_op){.kind = RECORD_DELETE, .sequence = t.sequence, .node = 4, .boot = 1, .request = 1};
    if (submit(op) != OK) return false;
    publish(t.sequence);
    return are_empty(1) && close_pool();
}

TEST(odd_windows_do_no_harm)
{
    begin(5);
    CHECK(scene_play(odd));
    crash();
    CHECK(scene_play(nowhere));
}

/* ---- random requests, against a model ---- */

enum { ROUNDS = 40, A_ROUND = 25, NUMBERS = 400, BOOTS = 4 };

static struct {
    struct prng prng;
    uint32_t boot[REQUEST_NODES];
    bool took_place[REQUEST_NODES][NUMBERS]; /* of the newest boot */
    struct {
        uint16_t node;
        uint32_t boot, request;
    } asked[OPS]; /* by sequence */
    uint64_t published;
} model;

static uint32_t below(uint32_t n)
{
    return (uint32_t)prng_below(&model.prng, n);
}

static void model_publish(uint64_t up_to)
{
    for (; model.published < up_to; model.published++) {
        uint32_t i = (uint32_t)((model.published + 1) % OPS), node = model.asked[i].node;
        if (model.asked[i].boot < model.boot[node]) continue;
        if (model.asked[i].boot > model.boot[node]) memset(model.took_place[node], 0, sizeof model.took_place[node]);
        model.boot[node] = model.asked[i].boot;
        model.took_place[node][model.asked[i].request] = true;
    }
    publish(up_to);
}

static bool is_as_modelled(void)
{
    for (uint32_t node = 0; node < REQUEST_NODES; node++) {
        uint64_t high = 0, done = 0;
        for (uint32_t n = 1; n < NUMBERS; n++)
            if (model.took_place[node][n]) high = n;
        for (uint32_t i = 0; i < REQUEST_WINDOW && i < high; i++) done |= (uint64_t)model.took_place[node][high - i] << i;
        if (!is_window(node, model.boot[node], high, done)) return false;
    }
    return true;
}

/* Some are asked for, fewer published; the rest is published or discarded after the crash. */
static bool random_round(void)
{
    if (open_pool() != OK) return false;
    publish(model.published);
    if (store_prepared(t.store, 1) != NULL && below(2)) {
        if (store_discard(t.store, 1, model.published + 1) != OK) return false;
        t.sequence = model.published;
    }
    for (uint32_t i = 0; i < A_ROUND; i++) {
        uint16_t node = (uint16_t)below(REQUEST_NODES);
        uint32_t boot = 1 + (uint32_t)(t.sequence * BOOTS / (ROUNDS * A_ROUND)) + below(2), request = 1 + below(NUMBERS - 1);
        if (t.sequence - model.published >= OPS - 1) model_publish(model.published + 1);
        uint32_t at = (uint32_t)((t.sequence + 1) % OPS);
        model.asked[at].node = node;
        model.asked[at].boot = boot;
        model.asked[at].request = request;
        if (prepare(node, boot, request) != OK) return false;
        if (below(3) == 0) model_publish(model.published + 1 + below((uint32_t)(t.sequence - model.published)));
        if (below(16) == 0 && store_checkpoint(t.store, below(2)) != OK) return false;
        if (!is_as_modelled()) return false;
    }
    return true;
}

TEST(random_requests_are_as_modelled)
{
    begin(6);
    memset(&model, 0, sizeof model);
    prng_init(&model.prng, 6);
    CHECK(scene_play(make));
    model.published = 1;
    for (uint32_t i = 0; i < ROUNDS; i++) {
        crash();
        CHECK(scene_play(random_round));
    }
    CHECK(scene_play(close_pool));
}

TESTS(publishing_notes_a_request, windows_outlive_crashes, windows_are_learned, odd_windows_do_no_harm,
      random_requests_are_as_modelled)
