/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what a volume with replicas tells its host of a command: whose it is, and how old (rule 12), however long it waited on
 * the way, and nothing of sessions that are gone. Method: a volume on a real pool, and in place of its host one that keeps
 * what it is asked until the test answers.
 */
#include "tests/check.h"

#include "tests/unit/real_stories.h"

#include "volume/volume.h"

enum {
    POOL_BYTES = 64 << 20,
    VOLUME_BYTES = 1 << 20,
    WORKS = 8,
    SHARE = 7 /* of them, for one volume */,
    PAUSE_MS = 5,
    ASKED_MAX = 16
};

/* ---- in place of host.c ---- */

static struct {
    struct io *io;
    struct host_change *changes[ASKED_MAX]; /* not answered, by arrival */
    uint32_t count;
    uint64_t lost;
} asked;

void host_change(struct replica_host *host, struct host_change *change)
{
    (void)host;
    assert(asked.count < ASKED_MAX);
    asked.changes[asked.count++] = change;
}

static void read_told(struct io_msg *msg)
{
    struct host_read *read = CONTAINER(msg, struct host_read, msg);
    read->done(read);
}

void host_read(struct replica_host *host, struct host_read *read)
{
    (void)host;
    read->err = OK;
    read->since = 1;
    read->msg.handle = read_told;
    io_send(asked.io, &read->msg);
}

static void load_told(struct io_msg *msg)
{
    struct host_load *load = CONTAINER(msg, struct host_load, msg);
    load->done(load);
}

void host_load(struct replica_host *host, struct host_load *load)
{
    (void)host;
    memset(load->data, 0, (size_t)load->count * BLOCK_SIZE);
    load->err = OK;
    load->msg.handle = load_told;
    io_send(asked.io, &load->msg);
}

void host_lost(struct replica_host *host, uint64_t session)
{
    (void)host;
    asked.lost = session;
}

static void change_told(struct io_msg *msg)
{
    struct host_change *change = CONTAINER(msg, struct host_change, msg);
    change->done(change);
}

static void answer(enum err err)
{
    struct host_change *change = asked.changes[0];
    asked.count--;
    memmove(asked.changes, asked.changes + 1, asked.count * sizeof *asked.changes);
    change->err = err;
    change->msg.handle = change_told;
    io_send(asked.io, &change->msg);
}

/* The volume has asked for `count` changes that are not answered. */
static bool asks_for(uint32_t count)
{
    for (uint32_t turns = 0; turns < 1000 && asked.count != count; turns++) io_task_sleep(asked.io, IO_MS_NS);
    io_task_sleep(asked.io, PAUSE_MS * IO_MS_NS);
    return asked.count == count;
}

/* ---- a volume ---- */

static struct {
    struct store *store;
    struct volumes *volumes;
    struct volume *volume, *other; /* with replicas, and without */
    char path[256];
} pool;

static struct {
    struct volume_request r;
    uint8_t *data;
    bool over;
} writes[ASKED_MAX];

static bool pool_open(struct io *io)
{
    const char *dir = getenv("TMPDIR");
    static const struct volume_replica replica = {.number = 3, .original = true};
    struct store_problem why;
    snprintf(pool.path, sizeof pool.path, "%s/izar-test-order-%ld", dir == NULL ? "/tmp" : dir, (long)getpid());
    struct store_format_config f = {
        .devices = {{pool.path, DEVICE_FLASH}}, .device_count = 1, .size = POOL_BYTES, .segment_shift = 20};
    struct store_config c = {.devices = {{pool.path, DEVICE_FLASH}}, .device_count = 1, .memory = 96u << 20};
    if (store_format(io, &f) != OK || store_open(io, &c, &pool.store, &why) != OK) return false;
    struct volumes_config v = {.io = io, .store = pool.store, .requests = WORKS};
    if (volumes_open(&v, &pool.volumes) != OK) return false;
    if (volume_create_replica(pool.volumes, VOLUME_BYTES, &replica, &pool.volume) != OK) return false;
    if (volume_create(pool.volumes, VOLUME_BYTES, &pool.other) != OK) return false;
    memset(&asked, 0, sizeof asked);
    asked.io = io;
    volume_serve(pool.volume, (struct replica_host *)&asked);
    for (int i = 0; i < ASKED_MAX; i++) writes[i].data = aligned_alloc(BLOCK_SIZE, BLOCK_SIZE);
    return true;
}

static bool pool_close(void)
{
    for (int i = 0; i < ASKED_MAX; i++) free(writes[i].data);
    volumes_close(pool.volumes);
    bool closed = store_close(pool.store) == OK;
    unlink(pool.path);
    return closed;
}

static void write_over(struct volume_request *r)
{
    writes[r->offset / BLOCK_SIZE].over = true;
}

/* In block `i`, from its sector `sector` on to its end. */
static void write_to(struct volume *volume, uint32_t i, uint32_t sector, uint64_t session, uint64_t arrived_ns)
{
    uint32_t skip = sector * VOLUME_SECTOR;
    writes[i].over = false;
    memset(writes[i].data, 0x5a, BLOCK_SIZE);
    writes[i].r = (struct volume_request){.done = write_over,
                                          .verb = VOLUME_WRITE,
                                          .offset = (uint64_t)i * BLOCK_SIZE + skip,
                                          .bytes = BLOCK_SIZE - skip,
                                          .data = writes[i].data,
                                          .session = session,
                                          .arrived_ns = arrived_ns};
    volume_start(volume, &writes[i].r);
}

static void write_begin(uint32_t i, uint32_t sector, uint64_t session, uint64_t arrived_ns)
{
    write_to(pool.volume, i, sector, session, arrived_ns);
}

static bool ended(uint32_t i, enum err err)
{
    for (uint32_t turns = 0; turns < 1000 && !writes[i].over; turns++) io_task_sleep(asked.io, IO_MS_NS);
    return writes[i].over && writes[i].r.err == err;
}

/* ---- stories ---- */

static void story_of_age(struct story *story)
{
    EXPECT(pool_open(story->io));
    uint64_t before_us = io_now_ns(story->io) / IO_US_NS;
    for (uint32_t i = 0; i <= SHARE; i++) write_begin(i, 0, 7, i == SHARE ? 1234567 : 0);
    EXPECT(asks_for(SHARE)); /* the last one waits for a work */
    EXPECT(asked.changes[0]->session == 7 && asked.changes[0]->arrived_us >= before_us);
    answer(OK);
    EXPECT(ended(0, OK) && asks_for(SHARE));
    EXPECT(asked.changes[SHARE - 1]->lba == SHARE && asked.changes[SHARE - 1]->arrived_us == 1234); /* as old as its command */
    while (asked.count > 0) answer(OK);
    EXPECT(ended(SHARE - 1, OK) && ended(SHARE, OK) && pool_close());
}

/* Who was told nothing of its command's arrival is as old as its request, not as what became of that later. */
static void story_of_waiting(struct story *story)
{
    EXPECT(pool_open(story->io));
    for (uint32_t i = 0; i < SHARE; i++) write_begin(i, 0, 7, 0);
    EXPECT(asks_for(SHARE));
    uint64_t began_us = io_now_ns(story->io) / IO_US_NS;
    write_begin(SHARE, 0, 7, 0);
    io_task_sleep(story->io, PAUSE_MS * IO_MS_NS);
    answer(OK);
    EXPECT(asks_for(SHARE) && asked.changes[SHARE - 1]->lba == SHARE);
    EXPECT(asked.changes[SHARE - 1]->arrived_us - began_us < PAUSE_MS * 1000);
    while (asked.count > 0) answer(OK);
    EXPECT(ended(SHARE, OK) && pool_close());
}

/* What is made again because others were quicker is no younger for that. */
static void story_of_conflicts(struct story *story)
{
    EXPECT(pool_open(story->io));
    write_begin(0, 3, 7, 5000);
    EXPECT(asks_for(1) && asked.changes[0]->since == 1 && asked.changes[0]->arrived_us == 5);
    answer(ERR_CONFLICT);
    EXPECT(asks_for(1) && asked.changes[0]->since == 1 && asked.changes[0]->arrived_us == 5);
    answer(OK);
    EXPECT(ended(0, OK) && pool_close());
}

static void story_of_lost_sessions(struct story *story)
{
    EXPECT(pool_open(story->io));
    for (uint32_t i = 0; i < SHARE; i++) write_begin(i, 0, 7, 0);
    EXPECT(asks_for(SHARE));
    write_begin(SHARE, 0, 7, 0);
    write_begin(SHARE + 1, 0, 8, 0);
    EXPECT(asks_for(SHARE));
    volume_lost(pool.volume, 7);
    EXPECT(asked.lost == 7);
    while (asked.count > 0) answer(ERR_AGAIN);
    EXPECT(asks_for(1) && asked.changes[0]->lba == SHARE + 1 && ended(SHARE, ERR_AGAIN)); /* it was never asked for */
    answer(OK);
    EXPECT(ended(SHARE + 1, OK) && pool_close());
}

/* Changes that nobody orders keep no other volume waiting, and those that waited behind them go on in their order. */
static void story_of_shares(struct story *story)
{
    enum { MORE = 3, LATE = 14, ELSEWHERE = 15 };
    EXPECT(pool_open(story->io));
    for (uint32_t i = 0; i < SHARE + MORE; i++) write_begin(i, 0, 7, 0);
    EXPECT(asks_for(SHARE));
    for (int i = 0; i < 3; i++) {
        write_to(pool.other, ELSEWHERE, 0, 9, 0);
        EXPECT(ended(ELSEWHERE, OK) && asks_for(SHARE));
    }
    for (uint32_t i = 0; i < MORE; i++) {
        answer(OK);
        if (i == 0) write_begin(LATE, 0, 7, 0); /* comes when there is room, and overtakes nobody */
        EXPECT(ended(i, OK) && asks_for(SHARE) && asked.changes[SHARE - 1]->lba == SHARE + i);
    }
    while (asked.count > 0) answer(OK);
    EXPECT(ended(SHARE + MORE - 1, OK) && asks_for(1));
    answer(OK);
    EXPECT(ended(LATE, OK) && pool_close());
}

TEST(one_volume_does_not_take_all)
{
    CHECK(tell_on_both(story_of_shares, NULL));
}

TEST(a_change_is_as_old_as_its_command)
{
    CHECK(tell_on_both(story_of_age, NULL));
}

TEST(waiting_does_not_make_young)
{
    CHECK(tell_on_both(story_of_waiting, NULL));
}

TEST(what_is_made_again_keeps_its_age)
{
    CHECK(tell_on_both(story_of_conflicts, NULL));
}

TEST(what_came_over_a_lost_session_is_not_ordered)
{
    CHECK(tell_on_both(story_of_lost_sessions, NULL));
}

TESTS(a_change_is_as_old_as_its_command, waiting_does_not_make_young, what_is_made_again_keeps_its_age,
      what_came_over_a_lost_session_is_not_ordered, one_volume_does_not_take_all)
