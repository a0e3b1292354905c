/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Volumes, on a real pool in a file, on both back ends.
 *
 * Goal: what volume.h promises: bytes are where they were written whatever the alignment, changes of one block never mix,
 * compare-and-write is atomic, a refused change does not take its neighbours along, all of it is there after a restart. Method:
 * a task keeps many random requests under way and a model, an array of bytes, that is changed when a request is done; requests
 * that overlap are only sent where the outcome does not depend on their order.
 */
#include <stdlib.h>
#include <unistd.h>

#include "tests/check.h"

#include "base/bytes.h"
#include "base/prng.h"
#include "volume/disk_replica.h"
#include "volume/replica/disk_self.h"
#include "volume/replica/host_internal.h"
#include "volume/scrub.h"
#include "volume/volume.h"

#define EXPECT(cond)                                                                                                           \
    do {                                                                                                                       \
        if (!(cond)) {                                                                                                         \
            if (story->failed_line == 0) story->failed_line = __LINE__;                                                        \
            return;                                                                                                            \
        }                                                                                                                      \
    } while (0)

enum { POOL_BYTES = 64 << 20, SECTORS_A_BLOCK = BLOCK_SIZE / VOLUME_SECTOR };

struct story {
    struct io_group *group;
    struct io *io;
    struct io_task task;
    void (*tell)(struct story *story);
    const char *path;
    struct store *store;
    struct volumes *volumes;
    unsigned failed_line;
};

static bool pool_open(struct story *story, bool format)
{
    if (format) {
        struct store_format_config f = {
            .devices = {{story->path, DEVICE_FLASH}}, .device_count = 1, .size = POOL_BYTES, .segment_shift = 20};
        enum err err = store_format(story->io, &f);
        if (err != OK) printf("# format: %s\n", err_name(err));
        if (err != OK) return false;
    }
    struct store_config c = {.devices = {{story->path, DEVICE_FLASH}}, .device_count = 1, .memory = 96u << 20};
    struct store_problem why;
    enum err err = store_open(story->io, &c, &story->store, &why);
    if (err != OK) {
        printf("# %s: %s\n", err_name(err), why.text);
        return false;
    }
    struct volumes_config v = {.io = story->io, .store = story->store, .requests = 16};
    return volumes_open(&v, &story->volumes) == OK;
}

static void pool_close(struct story *story)
{
    volumes_close(story->volumes);
    if (store_close(story->store) != OK && story->failed_line == 0) story->failed_line = __LINE__;
}

static void story_run(void *arg)
{
    struct story *story = arg;
    if (pool_open(story, true)) {
        story->tell(story);
        pool_close(story);
    } else {
        story->failed_line = __LINE__;
    }
    io_group_stop(story->group);
}

static void story_main(struct io *loop0, void *arg)
{
    struct story *story = arg;
    story->io = loop0;
    if (io_task_start(loop0, &story->task, story_run, story) != OK) io_group_stop(story->group);
}

/* The line of the first expectation that did not hold on one of the back ends. */
static unsigned tell(void (*what)(struct story *story))
{
    static const enum io_backend backends[] = {IO_BACKEND_URING, IO_BACKEND_POSIX};
    char path[256];
    const char *dir = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/izar-test-volume-%ld", dir == NULL ? "/tmp" : dir, (long)getpid());
    for (int i = 0; i < 2; i++) {
        struct story story = {.tell = what, .path = path};
        enum err e = io_group_open(&(struct io_config){.backend = backends[i], .loops = 2}, &story.group);
        if (e == ERR_UNSUPPORTED && i == 0) continue;
        if (e != OK) return 1;
        io_group_run(story.group, story_main, &story);
        io_task_done(&story.task);
        io_group_close(story.group);
        unlink(path);
        if (story.failed_line != 0) return story.failed_line;
    }
    return 0;
}

/* ---- requests that a task waits for ---- */

struct ask {
    struct volume_request r;
    struct io_task *task;
    bool over, used;
    uint8_t *data, *compare;
    uint32_t *left;
};

static void ask_over(struct volume_request *r)
{
    struct ask *a = CONTAINER(r, struct ask, r);
    a->over = true;
    io_task_wake(a->task);
}

static void ask_init(struct ask *a, size_t bytes)
{
    memset(a, 0, sizeof *a);
    a->task = io_task_self();
    a->data = aligned_alloc(BLOCK_SIZE, bytes + 2 * BLOCK_SIZE);
    a->compare = aligned_alloc(BLOCK_SIZE, bytes + 2 * BLOCK_SIZE);
}

static void ask_done(struct ask *a)
{
    free(a->data);
    free(a->compare);
}

static void ask_begin(struct ask *a, struct volume *v, enum volume_verb verb, uint64_t offset, uint64_t bytes)
{
    a->over = false;
    a->used = true;
    a->r = (struct volume_request){
        .done = ask_over, .verb = verb, .offset = offset, .bytes = bytes, .data = a->data, .compare = a->compare};
    volume_start(v, &a->r);
}

static enum err ask_end(struct ask *a)
{
    while (!a->over) io_task_park();
    a->used = false;
    return a->r.err;
}

static enum err ask(struct ask *a, struct volume *v, enum volume_verb verb, uint64_t offset, uint64_t bytes)
{
    ask_begin(a, v, verb, offset, bytes);
    return ask_end(a);
}

/* True when the volume holds what the model says. */
static bool same(struct ask *a, struct volume *v, const uint8_t *model)
{
    for (uint64_t at = 0; at < volume_bytes(v); at += VOLUME_WRITE_MAX) {
        uint64_t bytes = min64(VOLUME_WRITE_MAX, volume_bytes(v) - at);
        if (ask(a, v, VOLUME_READ, at, bytes) != OK || memcmp(a->data, model + at, bytes) != 0) return false;
    }
    return true;
}

/* ---- random changes against a model ---- */

enum { MODEL_BYTES = 2 << 20, DEEP = 24 };

/* What the request will leave behind. */
static void model_apply(uint8_t *model, const struct ask *a, const uint8_t *fresh)
{
    const struct volume_request *r = &a->r;
    uint64_t from = r->offset, to = r->offset + r->bytes;
    if (r->verb == VOLUME_WRITE || r->verb == VOLUME_COMPARE_WRITE)
        memcpy(model + from, fresh, to - from);
    else
        memset(model + from, 0, to - from);
}

static bool overlaps_another(const struct ask *asks, uint64_t offset, uint64_t bytes)
{
    for (int i = 0; i < DEEP; i++) {
        const struct volume_request *r = &asks[i].r;
        if (asks[i].used && offset < r->offset + r->bytes && r->offset < offset + bytes) return true;
    }
    return false;
}

static void story_of_changes(struct story *story)
{
    static const enum volume_verb verbs[] = {VOLUME_WRITE, VOLUME_WRITE, VOLUME_WRITE,      VOLUME_COMPARE_WRITE,
                                             VOLUME_ZERO,  VOLUME_UNMAP, VOLUME_ZERO_UNMAP, VOLUME_COMPARE_WRITE};
    static uint8_t model[MODEL_BYTES], fresh[VOLUME_WRITE_MAX];
    static struct ask asks[DEEP];
    struct volume *v;
    struct prng prng;
    prng_init(&prng, 7);
    memset(model, 0, sizeof model);
    EXPECT(volume_create(story->volumes, MODEL_BYTES, &v) == OK);
    for (int i = 0; i < DEEP; i++) ask_init(&asks[i], VOLUME_WRITE_MAX);
    for (int n = 0; n < 3000; n++) {
        struct ask *a = &asks[n % DEEP];
        if (a->used) EXPECT(ask_end(a) == OK);
        /* Neighbours that share a block, but no sector: their order must not matter. */
        uint64_t sectors = 1 + prng_below(&prng, prng_chance(&prng, 200000) ? 240 : 12), bytes = sectors * VOLUME_SECTOR;
        uint64_t offset =
            prng_below(&prng, (prng_chance(&prng, 500000) ? 65536 : MODEL_BYTES - bytes) / VOLUME_SECTOR) * VOLUME_SECTOR;
        if (overlaps_another(asks, offset, bytes)) continue;
        enum volume_verb verb = verbs[prng_below(&prng, 8)];
        memcpy(a->compare + offset % BLOCK_SIZE, model + offset, bytes);
        if (prng_chance(&prng, 100000))
            memset(fresh, 0, bytes);
        else
            prng_fill(&prng, fresh, bytes);
        memcpy(a->data + offset % BLOCK_SIZE, fresh, bytes);
        ask_begin(a, v, verb, offset, bytes);
        model_apply(model, a, fresh);
    }
    for (int i = 0; i < DEEP; i++)
        if (asks[i].used) EXPECT(ask_end(&asks[i]) == OK);
    EXPECT(same(&asks[0], v, model));
    uint32_t id = volume_id(v);
    pool_close(story);
    EXPECT(pool_open(story, false));
    v = volumes_find(story->volumes, id);
    EXPECT(v != NULL && volume_bytes(v) == MODEL_BYTES);
    EXPECT(same(&asks[0], v, model));
    for (int i = 0; i < DEEP; i++) ask_done(&asks[i]);
}

TEST(changes_are_where_they_belong)
{
    CHECK_EQ(tell(story_of_changes), 0);
}

/* ---- compare-and-write ---- */

/* Many increment one counter, each by compare-and-write with what it last saw: no increment is lost. */
static void story_of_compare(struct story *story)
{
    enum { WORKERS = 8, ROUNDS = 40 };
    static struct ask asks[WORKERS];
    uint32_t wins = 0, losses = 0;
    struct volume *v;
    EXPECT(volume_create(story->volumes, 1 << 20, &v) == OK);
    uint32_t seen = 0, at = 3 * VOLUME_SECTOR;
    for (int i = 0; i < WORKERS; i++) ask_init(&asks[i], BLOCK_SIZE);
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < WORKERS; i++) {
            uint32_t next = seen + 1;
            memset(asks[i].compare, 0, BLOCK_SIZE);
            memset(asks[i].data, 0, BLOCK_SIZE);
            memcpy(asks[i].compare + at + 100, &seen, sizeof seen);
            memcpy(asks[i].data + at + 100, &next, sizeof next);
            ask_begin(&asks[i], v, VOLUME_COMPARE_WRITE, at, VOLUME_SECTOR);
        }
        for (int i = 0; i < WORKERS; i++) {
            enum err e = ask_end(&asks[i]);
            EXPECT(e == OK || (e == ERR_MISCOMPARE && asks[i].r.differs == 100));
            if (e == OK)
                wins++;
            else
                losses++;
        }
        seen++;
    }
    EXPECT(wins == ROUNDS && losses == ROUNDS * (WORKERS - 1));
    EXPECT(ask(&asks[0], v, VOLUME_READ, at, VOLUME_SECTOR) == OK);
    EXPECT(memcmp(asks[0].data + at + 100, &seen, sizeof seen) == 0);
    for (int i = 0; i < WORKERS; i++) ask_done(&asks[i]);
}

TEST(compare_and_write_is_atomic)
{
    CHECK_EQ(tell(story_of_compare), 0);
}

/* ---- a full pool ---- */

/* Writes until the pool is full, many at a time; what was acknowledged is there, and unmap makes room again. */
static void story_of_full(struct story *story)
{
    enum { WIDE = 16, PIECES = 4096 };
    static struct ask asks[WIDE];
    static bool there[PIECES];
    struct volume *v;
    struct prng prng;
    bool full = false;
    prng_init(&prng, 11);
    memset(there, 0, sizeof there);
    EXPECT(volume_create(story->volumes, (uint64_t)PIECES * VOLUME_WRITE_MAX, &v) == OK);
    for (int i = 0; i < WIDE; i++) ask_init(&asks[i], VOLUME_WRITE_MAX);
    for (uint32_t n = 0; n < PIECES && !full; n += WIDE) {
        for (uint32_t i = 0; i < WIDE; i++) {
            prng_fill(&prng, asks[i].data, VOLUME_WRITE_MAX);
            for (uint32_t b = 0; b < VOLUME_WRITE_MAX; b += BLOCK_SIZE) memcpy(asks[i].data + b, &n, sizeof n);
            asks[i].data[8] = (uint8_t)i;
            ask_begin(&asks[i], v, VOLUME_WRITE, (uint64_t)(n + i) * VOLUME_WRITE_MAX, VOLUME_WRITE_MAX);
        }
        for (uint32_t i = 0; i < WIDE; i++) {
            enum err e = ask_end(&asks[i]);
            EXPECT(e == OK || e == ERR_NO_SPACE);
            there[n + i] = e == OK;
            full |= e != OK;
        }
    }
    EXPECT(full);
    for (uint32_t n = 0; n < PIECES; n++) {
        uint32_t first = n / WIDE * WIDE;
        EXPECT(ask(&asks[0], v, VOLUME_READ, (uint64_t)n * VOLUME_WRITE_MAX, BLOCK_SIZE) == OK);
        bool right = memcmp(asks[0].data, &first, sizeof first) == 0 && asks[0].data[8] == n % WIDE;
        EXPECT(there[n] ? right : asks[0].data[100] == 0 && asks[0].data[101] == 0 && asks[0].data[102] == 0);
    }
    EXPECT(ask(&asks[0], v, VOLUME_UNMAP, 0, volume_bytes(v)) == OK);
    enum err e = ERR_NO_SPACE;
    for (int tries = 0; tries < 2000 && e == ERR_NO_SPACE; tries++) {
        prng_fill(&prng, asks[0].data, VOLUME_WRITE_MAX);
        e = ask(&asks[0], v, VOLUME_WRITE, 0, VOLUME_WRITE_MAX);
        if (e == ERR_NO_SPACE) io_task_sleep(story->io, 5000000);
    }
    EXPECT(e == OK);
    for (int i = 0; i < WIDE; i++) ask_done(&asks[i]);
}

TEST(full_pool_refuses_and_recovers)
{
    CHECK_EQ(tell(story_of_full), 0);
}

/* ---- volumes as a whole ---- */

static void story_of_volumes(struct story *story)
{
    struct volume *a, *b, *c;
    struct ask one;
    const void *value;
    uint32_t bytes;
    ask_init(&one, BLOCK_SIZE);
    EXPECT(volume_create(story->volumes, 0, &a) == ERR_RANGE && volume_create(story->volumes, 4097, &a) == ERR_RANGE);
    EXPECT(volume_create(story->volumes, 1 << 20, &a) == OK && volume_create(story->volumes, 8192, &b) == OK);
    uint32_t gone = volume_id(b);
    EXPECT(volumes_next(story->volumes, 0) == a && volumes_next(story->volumes, volume_id(a) + 1) == b);
    EXPECT(ask(&one, a, VOLUME_READ, 1 << 20, 512) == ERR_RANGE &&
           ask(&one, a, VOLUME_READ, UINT64_MAX - 511, 1024) == ERR_RANGE);
    EXPECT(ask(&one, a, VOLUME_WRITE, (1 << 20) - 512, 1024) == ERR_RANGE &&
           ask(&one, a, VOLUME_WRITE, 1, 512) == ERR_ARGUMENT);
    EXPECT(ask(&one, a, VOLUME_WRITE, 0, VOLUME_WRITE_MAX + 512) == ERR_LIMIT && ask(&one, a, VOLUME_WRITE, 1 << 20, 0) == OK);
    memset(one.data, 0x5a, BLOCK_SIZE);
    EXPECT(ask(&one, a, VOLUME_WRITE, (1 << 20) - 4096, 4096) == OK);
    EXPECT(volume_resize(a, 4096) == OK && volume_resize(a, 2 << 20) == OK && volume_bytes(a) == 2 << 20);
    EXPECT(ask(&one, a, VOLUME_READ, (1 << 20) - 4096, 4096) == OK && one.data[77] == 0); /* what was cut off is gone */
    EXPECT(volume_state_set(a, "name", "north", 5) == OK && volume_state_get(a, "name", &value, &bytes) == OK);
    EXPECT(bytes == 5 && memcmp(value, "north", 5) == 0 && volume_state_get(a, "other", &value, &bytes) == ERR_NO_KEY);
    volume_hold(b);
    EXPECT(volume_delete(b) == ERR_LOCKED);
    volume_release(b);
    EXPECT(volume_delete(b) == OK && volumes_find(story->volumes, gone) == NULL);
    EXPECT(volume_create(story->volumes, 8192, &c) == OK && volume_id(c) > gone);
    uint32_t kept = volume_id(a);
    pool_close(story);
    EXPECT(pool_open(story, false));
    a = volumes_find(story->volumes, kept);
    EXPECT(a != NULL && volume_bytes(a) == 2 << 20 && volume_state_get(a, "name", &value, &bytes) == OK && bytes == 5);
    EXPECT(volumes_find(story->volumes, gone) == NULL);
    ask_done(&one);
}

TEST(volumes_come_and_go)
{
    CHECK_EQ(tell(story_of_volumes), 0);
}

/* A pool whose power goes is what lies in its file at that moment. */
static bool crash(struct story *story)
{
    char copy[300], command[700];
    snprintf(copy, sizeof copy, "%s.crash", story->path);
    snprintf(command, sizeof command, "cp '%s' '%s'", story->path, copy);
    bool copied = system(command) == 0;
    pool_close(story);
    return copied && rename(copy, story->path) == 0 && pool_open(story, false);
}

/* A replica that was taken away is gone, though the record of it may be the last one of the log. */
static void story_of_a_deleted_replica(struct story *story)
{
    static const struct volume_replica replica = {.number = 3, .original = true};
    struct volume *v;
    EXPECT(volume_create_replica(story->volumes, 1 << 20, &replica, &v) == OK);
    EXPECT(crash(story));
    v = volumes_next(story->volumes, 0);
    EXPECT(v != NULL && volume_replica(v) != NULL && volume_replica(v)->number == 3);
    EXPECT(volume_delete(v) == OK && volumes_next(story->volumes, 0) == NULL);
    EXPECT(crash(story) && volumes_next(story->volumes, 0) == NULL);
    EXPECT(volume_create_replica(story->volumes, 1 << 20, &replica, &v) == OK && volumes_next(story->volumes, 0) == v);
}

TEST(a_deleted_replica_is_gone)
{
    CHECK_EQ(tell(story_of_a_deleted_replica), 0);
}

/* ---- what a store keeps of a replica ---- */

struct put {
    struct store_op op;
    struct io_task *task;
    bool over;
};

static void put_over(struct store_op *op)
{
    struct put *put = CONTAINER(op, struct put, op);
    put->over = true;
    io_task_wake(put->task);
}

/* [task] Whatever the bytes, as a replica of another version, or none of ours, would leave them. */
static bool put_local(struct story *story, uint32_t volume, char letter, const void *value, uint32_t bytes)
{
    const uint8_t key[] = {STATE_LOCAL, (uint8_t)letter};
    struct put put = {.op = {.done = put_over,
                             .kind = RECORD_STATE,
                             .learn = true,
                             .volume = volume,
                             .sequence = 1,
                             .key = key,
                             .key_bytes = sizeof key,
                             .value = value,
                             .value_bytes = bytes},
                      .task = io_task_self()};
    store_prepare(story->store, &put.op);
    while (!put.over) io_task_park();
    return put.op.err == OK;
}

static enum err volumes_again(struct story *story)
{
    volumes_close(story->volumes);
    story->volumes = NULL;
    return volumes_open(&(struct volumes_config){.io = story->io, .store = story->store}, &story->volumes);
}

/* It is not taken for another volume, or for one without others, but refused: until it is what somebody wrote. */
static void story_of_a_spoilt_place(struct story *story)
{
    struct disk_replica disk;
    struct volume *v;
    EXPECT(volume_create_replica(story->volumes, 1 << 20, &(struct volume_replica){.number = 3}, &v) == OK);
    uint32_t id = volume_id(v);
    volume_replica_encode(&(struct volume_replica){.number = 3}, &disk);
    disk.reserved[2] = 1;
    EXPECT(put_local(story, id, 'v', &disk, sizeof disk) && volumes_again(story) == ERR_REPLICA_STATE);
    EXPECT(story->volumes == NULL && strstr(err_text(ERR_REPLICA_STATE), "of a replica") != NULL);
    disk.reserved[2] = 0;
    EXPECT(put_local(story, id, 'v', &disk, sizeof disk - 1) && volumes_again(story) == ERR_REPLICA_STATE);
    EXPECT(put_local(story, id, 'v', &disk, sizeof disk) && volumes_again(story) == OK);
    v = volumes_find(story->volumes, id);
    EXPECT(v != NULL && volume_replica(v) != NULL && volume_replica(v)->number == 3);
}

TEST(a_spoilt_place_is_refused)
{
    CHECK_EQ(tell(story_of_a_spoilt_place), 0);
}

/* No host begins with it, and says why. */
static void story_of_a_spoilt_self(struct story *story)
{
    static struct replica_host host;
    struct replica_facts facts;
    struct replica_record room;
    struct disk_self disk;
    struct volume *v;
    EXPECT(volume_create_replica(story->volumes, 1 << 20, &(struct volume_replica){.number = 3}, &v) == OK);
    host.config = (struct replica_host_config){.store = story->store, .volume = volume_id(v), .first_join = 1};
    self_encode(&(struct host_self){.join = 7}, &disk);
    EXPECT(put_local(story, volume_id(v), 'r', &disk, sizeof disk) && host_take_up(&host, &room, &facts) == OK);
    EXPECT(facts.join == 7 && !facts.learn.on);
    disk.applied = put64(1);
    EXPECT(put_local(story, volume_id(v), 'r', &disk, sizeof disk));
    EXPECT(host_take_up(&host, &room, &facts) == ERR_REPLICA_STATE);
    disk.version = SELF_VERSION + 1;
    EXPECT(put_local(story, volume_id(v), 'r', &disk, sizeof disk));
    EXPECT(host_take_up(&host, &room, &facts) == ERR_NEW_FORMAT);
}

TEST(a_spoilt_self_is_refused)
{
    CHECK_EQ(tell(story_of_a_spoilt_self), 0);
}

/* ---- scrub ---- */

/* Turns a bit of the block in the file. */
static bool damage(const struct story *story, const uint8_t *block)
{
    uint8_t *all = malloc(POOL_BYTES), *at = NULL;
    FILE *file = fopen(story->path, "r+b");
    if (file != NULL && all != NULL && fread(all, 1, POOL_BYTES, file) > 0)
        for (size_t i = sizeof(struct disk_chunk); i + BLOCK_SIZE <= POOL_BYTES && at == NULL; i += UNIT)
            if (memcmp(all + i, block, BLOCK_SIZE) == 0) at = all + i;
    bool done = at != NULL && fseek(file, at - all, SEEK_SET) == 0 && fputc(*at ^ 1, file) != EOF;
    if (file != NULL) done = fclose(file) == 0 && done;
    free(all);
    return done;
}

static bool passes(struct story *story, struct scrub *scrub, struct scrub_status *ret_status)
{
    scrub_begin(scrub);
    scrub_status(scrub, ret_status);
    uint64_t before = ret_status->passes;
    for (int i = 0; i < 2000 && ret_status->passes == before; i++) {
        io_task_sleep(story->io, 5 * IO_MS_NS);
        scrub_status(scrub, ret_status);
    }
    return ret_status->passes == before + 1 && !ret_status->running;
}

/* What was asked for before is over. */
static bool rests(struct story *story, struct scrub *scrub)
{
    enum { STILL = 10 };
    struct scrub_status s;
    uint32_t still = 0;
    for (int i = 0; i < 2000 && still < STILL; i++) {
        io_task_sleep(story->io, 5 * IO_MS_NS);
        scrub_status(scrub, &s);
        still = s.running ? 0 : still + 1;
    }
    return still == STILL;
}

/* Two blocks that do not compress, 40 MiB from each other, and one in another volume; all of them cached. */
static void story_of_scrub(struct story *story)
{
    struct volume *a, *b;
    struct ask one;
    struct scrub *scrub;
    struct scrub_status s;
    struct prng prng;
    struct mem *mem = mem_open(1 << 20);
    ask_init(&one, BLOCK_SIZE);
    prng_init(&prng, 5);
    EXPECT(volume_create(story->volumes, 1 << 20, &a) == OK && volume_create(story->volumes, 64 << 20, &b) == OK);
    struct scrub_config config = {.io = story->io, .mem = mem, .store = story->store, .volumes = story->volumes};
    EXPECT(scrub_open(&config, &scrub) == OK);
    for (uint32_t i = 0; i < 3; i++) {
        prng_fill(&prng, one.data, BLOCK_SIZE);
        EXPECT(ask(&one, i == 0 ? a : b, VOLUME_WRITE, i == 1 ? 40 << 20 : 8192, BLOCK_SIZE) == OK);
    }
    EXPECT(ask(&one, b, VOLUME_READ, 8192, BLOCK_SIZE) == OK);
    EXPECT(passes(story, scrub, &s) && s.lost == 0 && s.read_bytes > 3 * BLOCK_SIZE && s.read_bytes < 8 << 20);
    EXPECT(damage(story, one.data));
    EXPECT(ask(&one, b, VOLUME_READ, 8192, BLOCK_SIZE) == OK); /* nobody has looked at the disk */
    EXPECT(passes(story, scrub, &s) && s.lost == 1 && s.at_bytes <= s.of_bytes && s.of_bytes == 65 << 20);
    scrub_begin(scrub);
    EXPECT(volume_delete(b) == OK && rests(story, scrub));
    EXPECT(passes(story, scrub, &s) && s.lost == 0);
    scrub_begin(scrub);
    scrub_close(scrub);
    EXPECT(mem_used(mem) == 0);
    mem_close(mem);
    ask_done(&one);
}

TEST(a_scrub_meets_damage_that_nobody_reads)
{
    CHECK_EQ(tell(story_of_scrub), 0);
}

TESTS(changes_are_where_they_belong, compare_and_write_is_atomic, full_pool_refuses_and_recovers, volumes_come_and_go,
      a_deleted_replica_is_gone, a_spoilt_place_is_refused, a_spoilt_self_is_refused, a_scrub_meets_damage_that_nobody_reads)
