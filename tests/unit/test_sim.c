/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the simulated seam keeps the promises of io.h, its disks lose exactly what they may lose, and a seed repeats itself.
 * Method: small scenes over many seeds; what a power cut may leave is checked sector by sector.
 */
#include <stdlib.h>

#include "check.h"
#include "io/io.h"
#include "sim/sim.h"

enum { SEEDS = 200, BYTES = 8192 };

static struct sim *sim;
static struct io *io;
static struct io_file *file;
static uint8_t bufs[8][BYTES];
static int dones;

static void count_done(struct io_op *op)
{
    (void)op;
    dones++;
}

static void world(uint64_t seed)
{
    if (sim)
        sim_reset(sim, seed, false);
    else
        sim = sim_open(seed, false);
    io = sim_loop(sim);
    dones = 0;
    sim_disk_create(sim, "disk", 1 << 20);
    for (int i = 0; i < 8; i++) memset(bufs[i], 'a' + i, BYTES);
}

static bool open_file(void)
{
    return io_file_open(io, "disk", IO_OPEN_LOCK, &file) == OK;
}

static bool dones_reach(void *arg)
{
    return dones >= *(int *)arg;
}

static bool run_to(int count)
{
    return sim_run_until(sim, dones_reach, &count) == SIM_DONE;
}

static struct io_op new_op(void)
{
    return (struct io_op){.done = count_done};
}

static uint8_t byte_at(uint64_t offset)
{
    uint8_t byte;
    disk_get(sim_disk(sim, "disk"), offset, &byte, 1);
    return byte;
}

/* ---- operations ---- */

TEST(what_is_written_is_read)
{
    world(1);
    CHECK(open_file());
    struct io_op op = new_op();
    io_write(io, file, 4096, bufs[1], BYTES, 0, &op);
    CHECK_EQ(dones, 0); /* never inline */
    CHECK(run_to(1));
    CHECK_ERR(OK, op.err);
    CHECK_EQ(op.bytes, BYTES);
    uint8_t got[BYTES + 4096];
    struct io_op read = new_op();
    io_read(io, file, 0, got, sizeof got, &read);
    CHECK(run_to(2));
    CHECK_EQ(got[0], 0);
    CHECK_EQ(got[4096], 'b');
    CHECK_EQ(got[sizeof got - 1], 'b');
    io_file_close(file);
}

TEST(reading_beyond_the_end_is_short)
{
    world(2);
    CHECK(open_file());
    struct io_op op = new_op();
    io_read(io, file, (1 << 20) - 4096, bufs[0], BYTES, &op);
    CHECK(run_to(1));
    CHECK_ERR(ERR_SHORT, op.err);
    CHECK_EQ(op.bytes, 4096);
    io_file_close(file);
}

TEST(names_flags_and_locks)
{
    struct io_file *other = NULL;
    struct io_file_info info;
    world(3);
    CHECK_ERR(ERR_NO_FILE, io_file_open(io, "none", 0, &other));
    CHECK_ERR(ERR_FILE_EXISTS, io_file_open(io, "disk", IO_OPEN_CREATE | IO_OPEN_EXCLUSIVE, &other));
    CHECK_ERR(OK, io_file_open(io, "new", IO_OPEN_CREATE | IO_OPEN_LOCK, &file));
    CHECK_ERR(OK, io_file_resize(file, 12345));
    CHECK_ERR(OK, io_file_info(file, &info));
    CHECK_EQ(info.size, 12345);
    CHECK_ERR(ERR_LOCKED, io_file_open(io, "new", IO_OPEN_READ_ONLY | IO_OPEN_LOCK, &other));
    CHECK_EQ(sim_files_open(sim), 1);
    io_file_close(file);
    CHECK_ERR(OK, io_file_open(io, "new", IO_OPEN_READ_ONLY | IO_OPEN_LOCK, &file));
    CHECK_ERR(OK, io_file_open(io, "new", IO_OPEN_READ_ONLY | IO_OPEN_LOCK, &other));
    io_file_close(file);
    io_file_close(other);
    io_file_close(NULL);
    CHECK_EQ(sim_files_open(sim), 0);
}

/* ---- power cuts ---- */

TEST(durable_writes_and_flushed_writes_survive)
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct io_op op[3] = {new_op(), new_op(), new_op()};
        world(seed);
        CHECK(open_file());
        io_write(io, file, 0, bufs[0], 4096, IO_WRITE_DURABLE, &op[0]);
        io_write(io, file, 8192, bufs[1], BYTES, 0, &op[1]);
        CHECK(run_to(2));
        io_sync(io, file, &op[2]);
        CHECK(run_to(3));
        sim_power_cut(sim);
        sim_power_on(sim);
        for (uint64_t at = 0; at < 4096; at += 512) CHECK_EQ(byte_at(at), 'a');
        for (uint64_t at = 8192; at < 8192 + BYTES; at += 512) CHECK_EQ(byte_at(at), 'b');
    }
}

/* Over all seeds: a sector is old or new as a whole, and all of new, old and torn writes occur. */
TEST(volatile_writes_are_applied_dropped_or_torn)
{
    int whole = 0, none = 0, torn = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct io_op op = new_op();
        world(seed);
        CHECK(open_file());
        io_write(io, file, 0, bufs[0], BYTES, 0, &op);
        if (seed % 2) CHECK(run_to(1)); /* completed, or in flight */
        sim_power_cut(sim);
        sim_power_on(sim);
        int new = 0;
        for (uint64_t at = 0; at < BYTES; at += 512) {
            uint8_t first = byte_at(at);
            CHECK(first == 0 || first == 'a');
            CHECK_EQ(byte_at(at + 511), first);
            new += first == 'a';
        }
        whole += new == BYTES / 512;
        none += new == 0;
        torn += new > 0 && new < BYTES / 512;
    }
    CHECK(whole > SEEDS / 10 && none > SEEDS / 10 && torn > SEEDS / 20);
}

/* An older volatile write must not come back over a newer durable one, nor over a newer flushed one. */
TEST(older_writes_never_cover_newer_durable_ones)
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct io_op op[4] = {new_op(), new_op(), new_op(), new_op()};
        world(seed);
        CHECK(open_file());
        io_write(io, file, 0, bufs[0], BYTES, 0, &op[0]);
        CHECK(run_to(1));
        io_write(io, file, 0, bufs[1], 4096, IO_WRITE_DURABLE, &op[1]);
        CHECK(run_to(2));
        io_write(io, file, 4096, bufs[2], 4096, 0, &op[2]);
        CHECK(run_to(3));
        sim_power_cut(sim);
        sim_power_on(sim);
        for (uint64_t at = 0; at < 4096; at += 512) CHECK_EQ(byte_at(at), 'b');
        for (uint64_t at = 4096; at < BYTES; at += 512) {
            uint8_t got = byte_at(at);
            CHECK(got == 0 || got == 'a' || got == 'c');
        }
    }
}

/* A flush covers what was completed before it was submitted, not what came later. */
TEST(a_flush_covers_what_was_done_before)
{
    int lost = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct io_op op[3] = {new_op(), new_op(), new_op()};
        world(seed);
        CHECK(open_file());
        io_write(io, file, 0, bufs[0], 4096, 0, &op[0]);
        CHECK(run_to(1));
        io_sync(io, file, &op[1]);
        io_write(io, file, 0, bufs[1], 4096, 0, &op[2]);
        CHECK(run_to(3));
        sim_power_cut(sim);
        sim_power_on(sim);
        for (uint64_t at = 0; at < 4096; at += 512) {
            CHECK(byte_at(at) == 'a' || byte_at(at) == 'b');
            lost += byte_at(at) == 'a';
        }
    }
    CHECK(lost > 0);
}

TEST(nothing_ends_after_the_power_cut)
{
    struct io_op op = new_op();
    world(4);
    CHECK(open_file());
    io_write(io, file, 0, bufs[0], 4096, 0, &op);
    sim_power_cut(sim);
    sim_power_on(sim);
    CHECK_EQ(sim_files_open(sim), 0);
    CHECK(!sim_step(sim));
    CHECK_EQ(dones, 0);
}

TEST(a_task_can_be_run_to_its_end_without_power)
{
    struct io_op op = new_op();
    world(5);
    CHECK(open_file());
    io_write(io, file, 0, bufs[0], 4096, 0, &op);
    sim_power_cut(sim);
    CHECK(run_to(1));
    CHECK_ERR(ERR_POWER, op.err);
    sim_power_on(sim);
}

struct kinds {
    struct io_timer timer;
    struct io_msg msg;
    struct io_job job;
    uint32_t timers, messages, jobs;
};

static void kinds_timer(struct io_timer *timer)
{
    CONTAINER(timer, struct kinds, timer)->timers++;
}

static void kinds_message(struct io_msg *msg)
{
    CONTAINER(msg, struct kinds, msg)->messages++;
}

static void kinds_work(struct io_job *job)
{
    (void)job;
}

static void kinds_job(struct io_job *job)
{
    CONTAINER(job, struct kinds, job)->jobs++;
}

static void kinds_begin(struct io *machine, struct kinds *k)
{
    *k = (struct kinds){.timer.fire = kinds_timer, .msg.handle = kinds_message, .job = {.work = kinds_work, .done = kinds_job}};
    io_after(machine, 1000, &k->timer);
    io_send(machine, &k->msg);
    io_submit_job(machine, &k->job);
}

/* What one machine had under way is gone, what it had made durable is there; the others do not notice. */
TEST(one_machine_alone_loses_its_power)
{
    int dropped = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct io_op op[4] = {new_op(), new_op(), new_op(), new_op()};
        struct kinds mine, others;
        struct io_file *other;
        uint8_t byte;
        world(seed);
        CHECK(open_file());
        CHECK_OK(io_file_open(sim_machine(sim, 1), "other", IO_OPEN_CREATE | IO_OPEN_LOCK, &other));
        CHECK_OK(io_file_resize(other, 1 << 20));
        io_write(sim_machine(sim, 1), other, 0, bufs[0], 4096, IO_WRITE_DURABLE, &op[0]);
        CHECK(run_to(1));
        io_write(sim_machine(sim, 1), other, 4096, bufs[1], 4096, 0, &op[1]);
        io_write(io, file, 0, bufs[2], 4096, 0, &op[2]);
        kinds_begin(sim_machine(sim, 1), &others);
        kinds_begin(io, &mine);
        sim_machine_cut(sim, 1);
        CHECK_ERR(ERR_POWER, io_file_open(sim_machine(sim, 1), "third", IO_OPEN_CREATE, &other));
        sim_machine_on(sim, 1);
        while (sim_step(sim)) continue;
        CHECK_EQ(dones, 2);
        CHECK_OK(op[2].err);
        CHECK_EQ(byte_at(0), 'c');
        CHECK_EQ(mine.timers + mine.messages + mine.jobs, 3);
        CHECK_EQ(others.timers + others.messages + others.jobs, 0);
        CHECK_EQ(sim_files_open(sim), 1);
        disk_get(sim_disk(sim, "other"), 0, &byte, 1);
        CHECK_EQ(byte, 'a');
        disk_get(sim_disk(sim, "other"), 4096, &byte, 1);
        dropped += byte == 0;
        CHECK_OK(io_file_open(sim_machine(sim, 1), "other", IO_OPEN_LOCK, &other));
        io_file_close(other);
    }
    CHECK(dropped > SEEDS / 10 && dropped < SEEDS);
}

TEST(the_power_goes_at_the_change_asked_for)
{
    int applied = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct io_op op[3] = {new_op(), new_op(), new_op()};
        int all = 3;
        world(seed);
        CHECK(open_file());
        sim_cut_at(sim, 2);
        io_write(io, file, 0, bufs[0], 4096, IO_WRITE_DURABLE, &op[0]);
        CHECK(run_to(1));
        io_write(io, file, 4096, bufs[1], 4096, IO_WRITE_DURABLE, &op[1]);
        CHECK(sim_is_off(sim));
        io_write(io, file, 8192, bufs[2], 4096, IO_WRITE_DURABLE,
                 &op[2]);                                        /* code of the same callback goes on, without effect */
        CHECK(sim_run_until(sim, dones_reach, &all) != SIM_OFF); /* it was off before */
        sim_power_on(sim);
        CHECK_EQ(byte_at(0), 'a');
        CHECK_EQ(byte_at(8192), 0);
        applied += byte_at(4096) == 'b';
    }
    CHECK(applied > SEEDS / 4 && applied < SEEDS * 3 / 4);
}

/* ---- faults ---- */

TEST(faults_do_what_they_are_called)
{
    struct io_op op[6];
    uint8_t got[4096];
    for (int i = 0; i < 6; i++) op[i] = new_op();
    world(6);
    CHECK(open_file());
    sim_fault(sim, SIM_LOST, 1000000, 1);
    io_write(io, file, 0, bufs[0], 4096, IO_WRITE_DURABLE, &op[0]);
    CHECK(run_to(1));
    CHECK_ERR(OK, op[0].err);
    CHECK_EQ(byte_at(0), 0);
    sim_fault(sim, SIM_MISDIRECTED, 1000000, 1);
    io_write(io, file, 0, bufs[0], 4096, IO_WRITE_DURABLE, &op[1]);
    CHECK(run_to(2));
    struct sim_damage damage[3];
    for (uint32_t i = 0; i < 3; i++) CHECK(sim_damage(sim, i, &damage[i]));
    CHECK(damage[2].offset != 0);
    CHECK_EQ(byte_at(0), 0);
    CHECK_EQ(byte_at(damage[2].offset), 'a');
    sim_fault(sim, SIM_READ_LATENT, 1000000, 1);
    io_read(io, file, 4096, got, 4096, &op[2]);
    CHECK(run_to(3));
    CHECK_ERR(ERR_IO, op[2].err);
    io_read(io, file, 4096, got, 4096, &op[3]);
    CHECK(run_to(4));
    CHECK_ERR(ERR_IO, op[3].err);
    io_write(io, file, 4096, bufs[1], 4096, 0, &op[4]);
    CHECK(run_to(5));
    io_read(io, file, 4096, got, 4096, &op[5]);
    CHECK(run_to(6));
    CHECK_ERR(OK, op[5].err);
    CHECK_EQ(got[0], 'b');
    CHECK_EQ(sim_struck(sim, SIM_LOST), 1);
    io_file_close(file);
}

TEST(a_lie_is_found_out_by_a_power_cut_only)
{
    int lost = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct io_op op[2] = {new_op(), new_op()};
        world(seed);
        CHECK(open_file());
        sim_fault(sim, SIM_LIE, 1000000, 100);
        io_write(io, file, 0, bufs[0], 4096, IO_WRITE_DURABLE, &op[0]);
        CHECK(run_to(1));
        io_sync(io, file, &op[1]);
        CHECK(run_to(2));
        CHECK_EQ(byte_at(0), 'a');
        sim_power_cut(sim);
        sim_power_on(sim);
        lost += byte_at(0) == 0;
    }
    CHECK(lost > SEEDS / 4);
}

TEST(a_vanished_disk_fails_and_comes_back)
{
    struct io_op op[3] = {new_op(), new_op(), new_op()};
    struct io_file *other;
    world(7);
    CHECK(open_file());
    io_write(io, file, 0, bufs[0], 4096, IO_WRITE_DURABLE, &op[0]);
    CHECK(run_to(1));
    io_write(io, file, 0, bufs[1], 4096, IO_WRITE_DURABLE, &op[1]);
    sim_disk_vanish(sim, "disk");
    io_write(io, file, 0, bufs[2], 4096, IO_WRITE_DURABLE, &op[2]);
    CHECK(run_to(3));
    CHECK_ERR(ERR_VANISHED, op[1].err);
    CHECK_ERR(ERR_VANISHED, op[2].err);
    CHECK_ERR(ERR_NO_FILE, io_file_open(io, "disk", 0, &other));
    io_file_close(file);
    sim_disk_return(sim, "disk");
    CHECK_ERR(OK, io_file_open(io, "disk", 0, &file));
    CHECK(byte_at(0) == 'a' || byte_at(0) == 'b');
    io_file_close(file);
}

TEST(disks_are_kept_and_brought_back)
{
    struct io_op op = new_op();
    world(8);
    CHECK(open_file());
    io_write(io, file, 0, bufs[0], BYTES, IO_WRITE_DURABLE, &op);
    CHECK(run_to(1));
    io_file_close(file);
    sim_save(sim);
    uint64_t hash = disk_hash(sim_disk(sim, "disk"));
    disk_flip(sim_disk(sim, "disk"), 4100, 3);
    CHECK_EQ(byte_at(4100), 'a' ^ 8);
    CHECK(disk_hash(sim_disk(sim, "disk")) != hash);
    sim_restore(sim);
    CHECK_EQ(disk_hash(sim_disk(sim, "disk")), hash);
}

/* ---- time, messages, tasks ---- */

static int fired[3], fired_count;

struct mark {
    struct io_timer timer;
    struct io_msg msg;
    int number;
};

static void mark_fired(struct io_timer *timer)
{
    fired[fired_count++] = CONTAINER(timer, struct mark, timer)->number;
}

static void mark_arrived(struct io_msg *msg)
{
    fired[fired_count++] = CONTAINER(msg, struct mark, msg)->number;
}

TEST(timers_fire_in_time_and_can_be_cancelled)
{
    struct mark marks[3];
    world(9);
    fired_count = 0;
    uint64_t now = io_now_ns(io);
    for (int i = 0; i < 3; i++) {
        marks[i] = (struct mark){.timer.fire = mark_fired, .number = i};
        io_after(io, 3000000 - (uint64_t)i * 1000000, &marks[i].timer);
    }
    io_cancel(io, &marks[1].timer);
    io_cancel(io, &marks[1].timer);
    while (sim_step(sim)) {}
    CHECK_EQ(fired_count, 2);
    CHECK_EQ(fired[0], 2);
    CHECK_EQ(fired[1], 0);
    CHECK_EQ(io_now_ns(io), now + 3000000);
}

TEST(messages_stay_in_order)
{
    struct mark marks[3];
    world(10);
    fired_count = 0;
    for (int i = 0; i < 3; i++) {
        marks[i] = (struct mark){.msg.handle = mark_arrived, .number = i};
        io_send(io, &marks[i].msg);
    }
    CHECK_EQ(fired_count, 0);
    while (sim_step(sim)) {}
    for (int i = 0; i < 3; i++) CHECK_EQ(fired[i], i);
}

static struct io_task tasks[4];
static char story[64];
static size_t story_length;

static void tell(void *arg)
{
    int me = (int)(intptr_t)arg;
    uint8_t *buf = bufs[me];
    for (int i = 0; i < 3; i++) {
        if (io_task_write(io, file, (uint64_t)me * BYTES, buf, 4096, 0) != OK) return;
        story[story_length++] = (char)('0' + me);
        if (i == 1) io_task_sleep(io, 1000000);
    }
    io_task_sync(io, file);
}

static bool all_told(void *arg)
{
    (void)arg;
    for (int i = 0; i < 4; i++)
        if (!tasks[i].finished) return false;
    return true;
}

static uint64_t tell_all(uint64_t seed)
{
    world(seed);
    if (!open_file()) return 0;
    story_length = 0;
    for (intptr_t i = 0; i < 4; i++)
        if (io_task_start(io, &tasks[i], tell, (void *)i) != OK) return 0;
    if (sim_run_until(sim, all_told, NULL) != SIM_DONE) return 0;
    story[story_length] = '\0';
    io_file_close(file);
    return sim_hash(sim);
}

TEST(tasks_run_and_a_seed_repeats_itself)
{
    char before[64];
    int different = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        uint64_t hash = tell_all(seed);
        CHECK(hash != 0);
        CHECK_EQ(story_length, 12);
        memcpy(before, story, sizeof before);
        CHECK_EQ(tell_all(seed), hash);
        CHECK_STR(story, before);
        CHECK(tell_all(seed + 1) != hash);
        different += strcmp(story, before) != 0;
    }
    CHECK(different > 0);
}

TEST(a_task_is_dropped_in_the_middle)
{
    world(11);
    CHECK(open_file());
    story_length = 0;
    CHECK_ERR(OK, io_task_start(io, &tasks[0], tell, NULL));
    for (int i = 0; i < 2; i++) sim_step(sim);
    sim_power_cut(sim);
    io_task_done(&tasks[0]);
    sim_power_on(sim);
    CHECK(!sim_step(sim));
    CHECK(!tasks[0].finished);
    sim_close(sim);
    sim = NULL;
}

TESTS(what_is_written_is_read, reading_beyond_the_end_is_short, names_flags_and_locks,
      durable_writes_and_flushed_writes_survive, volatile_writes_are_applied_dropped_or_torn,
      older_writes_never_cover_newer_durable_ones, a_flush_covers_what_was_done_before, nothing_ends_after_the_power_cut,
      a_task_can_be_run_to_its_end_without_power, one_machine_alone_loses_its_power, the_power_goes_at_the_change_asked_for,
      faults_do_what_they_are_called, a_lie_is_found_out_by_a_power_cut_only, a_vanished_disk_fails_and_comes_back,
      disks_are_kept_and_brought_back, timers_fire_in_time_and_can_be_cancelled, messages_stay_in_order,
      tasks_run_and_a_seed_repeats_itself, a_task_is_dropped_in_the_middle)
