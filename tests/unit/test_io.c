/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real seam, on both back ends.
 *
 * Goal: what io.h promises, on real loops, threads and files. Method: each test opens a group of loops on one back end, runs
 * a small story on it and lets it stop; the story collects what it saw in a struct that the test checks afterwards, from
 * the only thread that is left. Stories with files are tasks, since those read from top to bottom. A back end that this
 * kernel refuses is skipped. Files are made below TMPDIR.
 */
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/check.h"

#include "io/io.h"

#if defined(__has_include)
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#endif
#endif
#ifndef RUNNING_ON_VALGRIND
#define RUNNING_ON_VALGRIND 0
#endif

#define MILLISECOND 1000000u

/* ---- scaffolding ---- */

static const enum io_backend backends[] = {IO_BACKEND_URING, IO_BACKEND_POSIX};
#define BACKENDS 2

static bool run_with(struct io_config config, void (*main)(struct io *loop0, void *arg), void *arg)
{
    struct io_group *group;
    enum err e = io_group_open(&config, &group);
    if (e == ERR_UNSUPPORTED && config.backend == IO_BACKEND_URING) return false;
    if (!check_err(__FILE__, __LINE__, "io_group_open", OK, e)) return false;
    *(struct io_group **)arg = group; /* each story starts with its group */
    io_group_run(group, main, arg);
    io_group_close(group);
    return true;
}

/* Runs `main` on fresh loops; false when the kernel refuses the back end. */
static bool run_on(enum io_backend backend, uint32_t loops, void (*main)(struct io *loop0, void *arg), void *arg)
{
    return run_with((struct io_config){.backend = backend, .loops = loops}, main, arg);
}

/* A new path below TMPDIR; the caller frees nothing and removes the file. */
static const char *fresh_path(void)
{
    static char path[256];
    static unsigned number;
    const char *dir = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/izar-test-io-%ld-%u", dir == NULL ? "/tmp" : dir, (long)getpid(), ++number);
    return path;
}

static void *aligned(size_t size)
{
    void *at = aligned_alloc(IO_ALIGN, size);
    memset(at, 0, size);
    return at;
}

/* Heavy loops are shortened where everything is slow. */
static uint64_t scaled(uint64_t count)
{
    return RUNNING_ON_VALGRIND ? count / 50 : count;
}

/* A story that is a task: the group stops when it ends. */
struct story {
    struct io_group *group;
    struct io *io;
    struct io_task task;
    void (*tell)(struct story *story);
    const char *path;
    unsigned failed_line; /* of the first EXPECT that did not hold */
};

#define EXPECT(cond)                                                                                                           \
    do {                                                                                                                       \
        if (!(cond)) {                                                                                                         \
            if (story->failed_line == 0) story->failed_line = __LINE__;                                                        \
            return;                                                                                                            \
        }                                                                                                                      \
    } while (0)

static void story_run(void *arg)
{
    struct story *story = arg;
    story->tell(story);
    io_group_stop(story->group);
}

static void story_main(struct io *loop0, void *arg)
{
    struct story *story = arg;
    story->io = loop0;
    if (io_task_start(loop0, &story->task, story_run, story) != OK) io_group_stop(story->group);
}

/* The line of the first expectation that failed, 0 when all held, on both back ends. */
static unsigned tell_on(enum io_backend backend, uint32_t depth, void (*tell)(struct story *story))
{
    struct story story = {.tell = tell, .path = fresh_path()};
    struct io_config config = {.backend = backend, .loops = 2, .depth = depth};
    bool ran = run_with(config, story_main, &story);
    unlink(story.path);
    if (!ran) return 0;
    if (!story.task.finished) return __LINE__;
    return story.failed_line;
}

static unsigned tell_deep(uint32_t depth, void (*tell)(struct story *story))
{
    for (size_t i = 0; i < BACKENDS; i++) {
        unsigned line = tell_on(backends[i], depth, tell);
        if (line != 0) return line;
    }
    return 0;
}

static unsigned tell(void (*story)(struct story *story))
{
    return tell_deep(0, story);
}

/* ---- groups ---- */

TEST(limits_are_refused)
{
    struct io_group *group;
    CHECK(io_group_open(&(struct io_config){.loops = 65}, &group) == ERR_LIMIT);
    CHECK(io_group_open(&(struct io_config){.loops = 1, .depth = 1u << 20}, &group) == ERR_LIMIT);
}

TEST(environment_chooses_backend)
{
    struct io_group *group;
    const struct io_config config = {.loops = 1};
    setenv("IZAR_IO", "posix", 1);
    enum err e = io_group_open(&config, &group);
    setenv("IZAR_IO", "floppy", 1);
    struct io_group *other;
    enum err odd = io_group_open(&config, &other);
    unsetenv("IZAR_IO");
    CHECK_OK(e);
    CHECK(strcmp(io_group_backend(group), "posix") == 0);
    CHECK(odd == ERR_ARGUMENT);
    io_group_close(group);
}

TEST(group_closes_without_running)
{
    for (size_t i = 0; i < BACKENDS; i++) {
        struct io_group *group;
        if (io_group_open(&(struct io_config){.backend = backends[i], .loops = 3}, &group) != OK) continue;
        CHECK_EQ(io_group_loops(group), 3);
        io_group_close(group);
    }
    io_group_close(NULL);
}

static struct io_group *to_be_stopped;

static void on_alarm(int number)
{
    (void)number;
    io_group_stop(to_be_stopped);
}

static void main_is_interrupted(struct io *loop0, void *arg)
{
    (void)loop0;
    to_be_stopped = *(struct io_group **)arg;
    raise(SIGALRM); /* before anything sleeps */
}

static void main_sleeps_until_signal(struct io *loop0, void *arg)
{
    (void)loop0;
    to_be_stopped = *(struct io_group **)arg;
    alarm(1);
}

TEST(stops_from_a_signal_handler)
{
    struct io_group *group;
    signal(SIGALRM, on_alarm);
    for (size_t i = 0; i < BACKENDS; i++) {
        run_on(backends[i], 3, main_sleeps_until_signal, &group);
        run_on(backends[i], 3, main_is_interrupted, &group);
        alarm(0);
    }
    signal(SIGALRM, SIG_DFL);
}

/* ---- messages ---- */

#define LETTERS 64u
#define TALKERS 3u

/* Each of three loops keeps letters to every other under way and counts what it gets; letters are numbered by sender. */
struct letter {
    struct io_msg msg;
    struct talk *talk;
    uint64_t number;
    uint32_t from, to;
    bool back; /* on its way home */
};

struct talk {
    struct io_group *group;
    uint64_t rounds;
    struct letter letters[TALKERS][TALKERS][LETTERS];
    struct talker {
        uint64_t next[TALKERS]; /* number to be sent to each */
        uint64_t seen[TALKERS]; /* number to be received from each */
        uint64_t disorder;
        struct io_msg start;
        struct talk *talk;
        uint32_t me;
    } talkers[TALKERS];
};

static void letter_arrives(struct io_msg *msg)
{
    struct letter *letter = CONTAINER(msg, struct letter, msg);
    struct talk *talk = letter->talk;
    if (letter->back) { /* home again: off with the next, if there is one */
        struct talker *sender = &talk->talkers[letter->from];
        if (sender->next[letter->to] == talk->rounds) return;
        letter->back = false;
        letter->number = sender->next[letter->to]++;
        io_send(io_group_loop(talk->group, letter->to), &letter->msg);
        return;
    }
    struct talker *receiver = &talk->talkers[letter->to];
    if (!io_is_current(io_group_loop(talk->group, letter->to))) receiver->disorder++;
    if (receiver->seen[letter->from]++ != letter->number) receiver->disorder++;
    letter->back = true;
    io_send(io_group_loop(talk->group, letter->from), &letter->msg);
}

static void talker_starts(struct io_msg *msg)
{
    struct talker *talker = CONTAINER(msg, struct talker, start);
    for (uint32_t to = 0; to < TALKERS; to++) {
        for (uint32_t i = 0; i < LETTERS; i++) {
            struct letter *letter = &talker->talk->letters[talker->me][to][i];
            *letter =
                (struct letter){.msg.handle = letter_arrives, .talk = talker->talk, .from = talker->me, .to = to, .back = true};
            io_send(io_group_loop(talker->talk->group, talker->me), &letter->msg);
        }
    }
}

static void talk_main(struct io *loop0, void *arg)
{
    struct talk *talk = arg;
    (void)loop0;
    for (uint32_t i = 0; i < TALKERS; i++) {
        talk->talkers[i].start.handle = talker_starts;
        talk->talkers[i].talk = talk;
        talk->talkers[i].me = i;
        io_send(io_group_loop(talk->group, i), &talk->talkers[i].start);
    }
    io_group_stop(talk->group); /* stopping waits for all letters to be home */
}

TEST(messages_arrive_in_order)
{
    for (size_t b = 0; b < BACKENDS; b++) {
        struct talk *talk = calloc(1, sizeof *talk);
        talk->rounds = scaled(200000);
        bool ran = run_on(backends[b], TALKERS, talk_main, talk);
        for (uint32_t i = 0; ran && i < TALKERS; i++) {
            CHECK_EQ(talk->talkers[i].disorder, 0);
            for (uint32_t from = 0; from < TALKERS; from++) CHECK_EQ(talk->talkers[i].seen[from], talk->rounds);
        }
        free(talk);
    }
}

/* ---- jobs ---- */

#define JOBS 32u

struct sum {
    struct io_job job;
    struct foreman *foreman;
    uint64_t from, result;
};

/* Two loops submit, the third is idle. */
struct labour {
    struct io_group *group;
    struct foreman {
        struct io_msg start;
        struct io *io;
        struct sum sums[JOBS];
        uint64_t left, done, wrong;
        bool little; /* its jobs wake no loop, and must not be forgotten for that */
    } foremen[2];
    uint64_t each;
};

static void sum_work(struct io_job *job)
{
    struct sum *sum = CONTAINER(job, struct sum, job);
    sum->result = 0;
    for (uint64_t i = 0; i < 1000; i++) sum->result += sum->from + i;
}

static void sum_submit(struct foreman *foreman, struct sum *sum);

static void sum_done(struct io_job *job)
{
    struct sum *sum = CONTAINER(job, struct sum, job);
    struct foreman *foreman = sum->foreman;
    if (!io_is_current(foreman->io)) foreman->wrong++;
    if (sum->result != sum->from * 1000 + 499500) foreman->wrong++;
    foreman->done++;
    if (foreman->left > 0) sum_submit(foreman, sum);
}

static void sum_submit(struct foreman *foreman, struct sum *sum)
{
    sum->from = foreman->left--;
    io_submit_job(foreman->io, &sum->job);
}

static void foreman_starts(struct io_msg *msg)
{
    struct foreman *foreman = CONTAINER(msg, struct foreman, start);
    for (uint32_t i = 0; i < JOBS; i++) {
        uint32_t cost_us = foreman->little ? 1 : i % 4 * 30; /* 0: unknown */
        foreman->sums[i] = (struct sum){.job.work = sum_work, .job.done = sum_done, .job.cost_us = cost_us, .foreman = foreman};
        sum_submit(foreman, &foreman->sums[i]);
    }
}

static void labour_main(struct io *loop0, void *arg)
{
    struct labour *labour = arg;
    (void)loop0;
    for (uint32_t i = 0; i < 2; i++) {
        struct foreman *foreman = &labour->foremen[i];
        uint32_t loop = i % io_group_loops(labour->group);
        *foreman = (struct foreman){.start.handle = foreman_starts, .left = labour->each, .little = i == 1};
        foreman->io = io_group_loop(labour->group, loop);
        io_send(foreman->io, &foreman->start);
    }
    io_group_stop(labour->group);
}

TEST(jobs_run_and_come_back)
{
    for (size_t b = 0; b < BACKENDS; b++) {
        for (uint32_t loops = 1; loops <= 3; loops++) {
            struct labour *labour = calloc(1, sizeof *labour);
            labour->each = scaled(20000);
            bool ran = run_on(backends[b], loops, labour_main, labour);
            uint64_t done = labour->foremen[0].done + labour->foremen[1].done;
            uint64_t wrong = labour->foremen[0].wrong + labour->foremen[1].wrong;
            uint64_t each = labour->each;
            free(labour);
            if (!ran) continue;
            CHECK_EQ(done, 2 * each);
            CHECK_EQ(wrong, 0);
        }
    }
}

/* A loop that always has a message to handle still runs its jobs, when there is no other loop to do it. */
struct busy {
    struct io_group *group;
    struct io *io;
    struct io_msg again;
    struct io_job job;
    bool worked, done;
    uint64_t rounds;
};

static void busy_again(struct io_msg *msg)
{
    struct busy *busy = CONTAINER(msg, struct busy, again);
    if (!busy->done && busy->rounds++ < 1000000) io_send(busy->io, &busy->again);
}

static void busy_work(struct io_job *job)
{
    CONTAINER(job, struct busy, job)->worked = true;
}

static void busy_done(struct io_job *job)
{
    CONTAINER(job, struct busy, job)->done = true;
}

static void busy_main(struct io *loop0, void *arg)
{
    struct busy *busy = arg;
    busy->io = loop0;
    io_send(loop0, &busy->again);
    io_submit_job(loop0, &busy->job);
    io_group_stop(busy->group);
}

TEST(busy_loop_runs_its_jobs)
{
    struct busy busy = {.again.handle = busy_again, .job.work = busy_work, .job.done = busy_done};
    CHECK(run_on(IO_BACKEND_POSIX, 1, busy_main, &busy));
    CHECK(busy.worked && busy.done);
    CHECK(busy.rounds < 100);
}

/* ---- timers ---- */

#define TIMERS 1000u

struct clockwork {
    struct io_group *group;
    struct io *io;
    struct tick {
        struct io_timer timer;
        struct clockwork *clockwork;
        bool cancelled;
    } ticks[TIMERS];
    uint64_t last_due, fired, early, disorder, ghosts;
    struct io_timer last;
};

static void tick_fires(struct io_timer *timer)
{
    struct tick *tick = CONTAINER(timer, struct tick, timer);
    struct clockwork *clockwork = tick->clockwork;
    if (timer->due_ns < clockwork->last_due) clockwork->disorder++;
    if (timer->due_ns > io_now_ns(clockwork->io)) clockwork->early++;
    if (tick->cancelled) clockwork->ghosts++;
    clockwork->last_due = timer->due_ns;
    clockwork->fired++;
}

static void clockwork_ends(struct io_timer *timer)
{
    io_group_stop(CONTAINER(timer, struct clockwork, last)->group);
}

static void clockwork_main(struct io *loop0, void *arg)
{
    struct clockwork *clockwork = arg;
    clockwork->io = loop0;
    for (uint32_t i = 0; i < TIMERS; i++) {
        uint16_t chance;
        io_random(loop0, &chance, sizeof chance);
        clockwork->ticks[i] = (struct tick){.timer.fire = tick_fires, .clockwork = clockwork};
        io_after(loop0, (uint64_t)chance * 1000, &clockwork->ticks[i].timer); /* within 65 ms */
    }
    for (uint32_t i = 0; i < TIMERS; i += 3) {
        clockwork->ticks[i].cancelled = true;
        io_cancel(loop0, &clockwork->ticks[i].timer);
        io_cancel(loop0, &clockwork->ticks[i].timer); /* harmless */
    }
    clockwork->last.fire = clockwork_ends;
    io_after(loop0, 80 * MILLISECOND, &clockwork->last);
}

TEST(timers_fire_in_order)
{
    for (size_t b = 0; b < BACKENDS; b++) {
        struct clockwork *clockwork = calloc(1, sizeof *clockwork);
        if (run_on(backends[b], 1, clockwork_main, clockwork)) {
            CHECK_EQ(clockwork->fired, TIMERS - (TIMERS + 2) / 3);
            CHECK_EQ(clockwork->disorder, 0);
            CHECK_EQ(clockwork->early, 0);
            CHECK_EQ(clockwork->ghosts, 0);
        }
        free(clockwork);
    }
}

/* ---- files ---- */

static void story_of_transfers(struct story *story)
{
    struct io *io = story->io;
    struct io_file *file;
    struct io_file_info info;
    const uint32_t size = 1u << 20;
    uint8_t *out = aligned(size), *in = aligned(size);
    EXPECT(io_file_open(io, story->path, IO_OPEN_CREATE | IO_OPEN_EXCLUSIVE | IO_OPEN_DIRECT | IO_OPEN_LOCK, &file) == OK);
    EXPECT(io_file_info(file, &info) == OK);
    EXPECT(info.size == 0 && !info.is_device && info.align >= 512 && info.align <= IO_ALIGN);
    io_random(io, out, size);

    EXPECT(io_task_write(io, file, 4096, out, size, 0) == OK);
    EXPECT(io_task_sync(io, file) == OK);
    EXPECT(io_task_read(io, file, 4096, in, size) == OK && memcmp(in, out, size) == 0);
    EXPECT(io_task_read(io, file, 0, in, 4096) == OK && in[0] == 0 && in[4095] == 0);

    EXPECT(io_task_write(io, file, 4096, out + 4096, 4096, IO_WRITE_DURABLE) == OK);
    EXPECT(io_task_read(io, file, 4096, in, 4096) == OK && memcmp(in, out + 4096, 4096) == 0);
    EXPECT(io_task_write(io, file, 0, out, 0, IO_WRITE_DURABLE) == OK);

    EXPECT(io_task_discard(io, file, 8192, 65536) == OK);
    EXPECT(io_task_read(io, file, 8192, in, 65536) == OK);
    if (info.discards) EXPECT(in[0] == 0 && memcmp(in, in + 1, 65535) == 0);
    EXPECT(io_task_read(io, file, 8192 + 65536, in, 4096) == OK && memcmp(in, out + 65536 + 4096, 4096) == 0);
    EXPECT(io_file_info(file, &info) == OK && info.size == size + 4096);

    EXPECT(io_file_resize(file, 8192) == OK);
    EXPECT(io_task_read(io, file, 4096, in, 8192) == ERR_SHORT);
    EXPECT(io_task_read(io, file, 65536, in, 4096) == ERR_SHORT);
    EXPECT(io_file_resize(file, 5000) == OK); /* ends off the grid */
    EXPECT(io_task_read(io, file, 0, in, 8192) == ERR_SHORT);
    EXPECT(io_file_resize(file, 1u << 30) == OK);
    EXPECT(io_task_read(io, file, (1u << 30) - 4096, in, 4096) == OK && in[0] == 0);
    io_file_close(file);
    free(out);
    free(in);
}

TEST(files_keep_what_is_written)
{
    CHECK_EQ(tell(story_of_transfers), 0);
}

static void story_of_short_file(struct story *story)
{
    struct io_file *file;
    char text[16] = "fifteen letters";
    EXPECT(io_file_open(story->io, story->path, IO_OPEN_CREATE, &file) == OK);
    EXPECT(io_task_write(story->io, file, 0, text, 10, 0) == OK);
    EXPECT(io_task_read(story->io, file, 0, text, 16) == ERR_SHORT);
    EXPECT(memcmp(text, "fifteen le", 10) == 0);
    EXPECT(io_task_read(story->io, file, 3, text, 4) == OK && memcmp(text, "teen", 4) == 0);
    io_file_close(file);
}

TEST(reading_beyond_the_end_is_short)
{
    CHECK_EQ(tell(story_of_short_file), 0);
}

static void story_of_open_errors(struct story *story)
{
    struct io *io = story->io;
    struct io_file *file = NULL, *other = NULL;
    const unsigned create = IO_OPEN_CREATE | IO_OPEN_EXCLUSIVE;
    EXPECT(io_file_open(io, story->path, 0, &file) == ERR_NO_FILE);
    EXPECT(io_file_open(io, "/nowhere/at/all", IO_OPEN_CREATE, &file) == ERR_NO_FILE);
    EXPECT(io_file_open(io, "/tmp", IO_OPEN_READ_ONLY, &file) == ERR_UNSUPPORTED);
    EXPECT(io_file_open(io, "/tmp", 0, &file) == ERR_UNSUPPORTED);
    EXPECT(io_file_open(io, "/dev/null", 0, &file) == ERR_UNSUPPORTED);
    EXPECT(file == NULL);
    EXPECT(io_file_open(io, story->path, create, &file) == OK);
    EXPECT(io_file_open(io, story->path, create, &other) == ERR_FILE_EXISTS);
    EXPECT(io_file_open(io, story->path, IO_OPEN_CREATE, &other) == OK);
    io_file_close(other);
    io_file_close(file);
    io_file_close(NULL);
}

TEST(opening_reports_errors)
{
    CHECK_EQ(tell(story_of_open_errors), 0);
}

static void story_of_locks(struct story *story)
{
    struct io *io = story->io;
    struct io_file *writer, *reader, *second;
    const unsigned read_lock = IO_OPEN_READ_ONLY | IO_OPEN_LOCK;
    EXPECT(io_file_open(io, story->path, IO_OPEN_CREATE | IO_OPEN_LOCK, &writer) == OK);
    EXPECT(io_file_open(io, story->path, IO_OPEN_LOCK, &second) == ERR_LOCKED);
    EXPECT(io_file_open(io, story->path, read_lock, &second) == ERR_LOCKED);
    EXPECT(io_file_open(io, story->path, IO_OPEN_READ_ONLY, &second) == OK); /* who does not lock sees no lock */
    io_file_close(second);
    io_file_close(writer);
    EXPECT(io_file_open(io, story->path, read_lock, &reader) == OK);
    EXPECT(io_file_open(io, story->path, read_lock, &second) == OK);
    EXPECT(io_file_open(io, story->path, IO_OPEN_LOCK, &writer) == ERR_LOCKED);
    io_file_close(second);
    io_file_close(reader);
    EXPECT(io_file_open(io, story->path, IO_OPEN_LOCK, &writer) == OK);
    io_file_close(writer);
}

TEST(locks_conflict)
{
    CHECK_EQ(tell(story_of_locks), 0);
}

/* ---- more operations than fit ---- */

#define CROWD 500u

struct crowd {
    struct io_op ops[CROWD];
    uint32_t left, failed;
    struct io_task *task;
    uint8_t *blocks;
};

static struct crowd *the_crowd;

static void crowd_done(struct io_op *op)
{
    struct crowd *crowd = the_crowd;
    if (op->err != OK || op->bytes != 4096) crowd->failed++;
    if (--crowd->left == 0) io_task_wake(crowd->task);
}

static void crowd_wait(struct crowd *crowd)
{
    while (crowd->left > 0) io_task_park();
}

static void story_of_crowd(struct story *story)
{
    struct io *io = story->io;
    struct io_file *file;
    struct crowd *crowd = the_crowd = calloc(1, sizeof *crowd);
    crowd->task = &story->task;
    crowd->blocks = aligned(CROWD * 4096);
    EXPECT(io_file_open(io, story->path, IO_OPEN_CREATE | IO_OPEN_DIRECT, &file) == OK);
    for (uint32_t i = 0; i < CROWD; i++) {
        memset(crowd->blocks + i * 4096, (int)(i % 251), 4096);
        crowd->ops[i].done = crowd_done;
    }
    crowd->left = CROWD;
    for (uint32_t i = 0; i < CROWD; i++) {
        unsigned flags = i % 100 == 0 ? IO_WRITE_DURABLE : 0;
        io_write(io, file, i * 4096, crowd->blocks + i * 4096, 4096, flags, &crowd->ops[i]);
    }
    crowd_wait(crowd);
    memset(crowd->blocks, 255, CROWD * 4096);
    crowd->left = CROWD;
    for (uint32_t i = 0; i < CROWD; i++) io_read(io, file, i * 4096, crowd->blocks + i * 4096, 4096, &crowd->ops[i]);
    crowd_wait(crowd);
    EXPECT(crowd->failed == 0);
    for (uint32_t i = 0; i < CROWD; i++) EXPECT(crowd->blocks[i * 4096 + 17] == i % 251);
    io_file_close(file);
    free(crowd->blocks);
    free(crowd);
}

TEST(operations_beyond_the_depth_wait)
{
    CHECK_EQ(tell_deep(1, story_of_crowd), 0);
    CHECK_EQ(tell_deep(7, story_of_crowd), 0);
    CHECK_EQ(tell(story_of_crowd), 0);
}

/* ---- tasks ---- */

struct pair {
    struct io_group *group;
    struct io_task a, b, never;
    struct io *io;
    uint64_t rounds, turn_errors;
    int turn;
};

/* Two tasks hand each other the turn. */
static void pair_run(struct pair *pair, int me, struct io_task *other)
{
    for (uint64_t i = 0; i < pair->rounds; i++) {
        while (pair->turn != me) io_task_park();
        pair->turn = !me;
        io_task_wake(other);
        if (i % 100 == 0) io_task_yield();
        if (i % 1000 == 0) io_task_sleep(pair->io, 1000);
    }
}

static void pair_run_a(void *arg)
{
    struct pair *pair = arg;
    if (io_task_self() != &pair->a) pair->turn_errors++;
    pair_run(pair, 0, &pair->b);
}

static void pair_run_b(void *arg)
{
    struct pair *pair = arg;
    if (io_task_self() != &pair->b) pair->turn_errors++;
    pair_run(pair, 1, &pair->a);
    io_group_stop(pair->group);
}

static void pair_main(struct io *loop0, void *arg)
{
    struct pair *pair = arg;
    pair->io = loop0;
    if (io_task_self() != NULL) pair->turn_errors++;
    if (io_task_start(loop0, &pair->a, pair_run_a, pair) != OK) pair->turn_errors++;
    if (io_task_start(loop0, &pair->b, pair_run_b, pair) != OK) pair->turn_errors++;
}

TEST(tasks_take_turns)
{
    for (size_t b = 0; b < BACKENDS; b++) {
        struct pair pair = {.rounds = scaled(20000)};
        if (!run_on(backends[b], 2, pair_main, &pair)) continue;
        CHECK(pair.a.finished && pair.b.finished);
        CHECK_EQ(pair.turn_errors, 0);
        io_task_done(&pair.a);
        io_task_done(&pair.b);
    }
}

static uint32_t passed_by;

static void parks_for_ever(void *arg)
{
    (void)arg;
    uint8_t frame[4096];
    memset(frame, 7, sizeof frame); /* leaves traces on its stack */
    io_task_park();
    passed_by += frame[17];
}

static void comes_and_goes(void *arg)
{
    uint32_t *count = arg;
    uint8_t frame[8192];
    memset(frame, 1, sizeof frame);
    io_task_yield();
    *count += frame[4711];
}

/* Tasks given up in each state: before they ran, parked, woken; then their stacks serve others. */
static void story_of_unfinished(struct story *story)
{
    struct io_task tasks[50], last[50];
    uint32_t count = 0;
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 50; i++) EXPECT(io_task_start(story->io, &tasks[i], parks_for_ever, NULL) == OK);
        if (round % 3 != 0) io_task_yield();
        if (round % 3 == 2) io_task_wake(&tasks[7]);
        for (int i = 0; i < 50; i++) io_task_done(&tasks[i]);
        for (int i = 0; i < 50; i++) EXPECT(io_task_start(story->io, &last[i], comes_and_goes, &count) == OK);
        for (int i = 0; i < 50; i++) {
            while (!last[i].finished) io_task_yield();
            io_task_done(&last[i]);
        }
    }
    EXPECT(passed_by == 0);
    EXPECT(count == 1000);
}

TEST(unfinished_tasks_are_freed)
{
    CHECK_EQ(tell(story_of_unfinished), 0);
}

/* A wake that comes while the task waits for something else ends the next park. */
static void wake_later(struct io_msg *msg);
static struct waker {
    struct io_msg msg;
    struct io_task *task;
} the_waker = {.msg.handle = wake_later};

static void wake_later(struct io_msg *msg)
{
    io_task_wake(CONTAINER(msg, struct waker, msg)->task);
}

static void story_of_early_wake(struct story *story)
{
    struct io_file *file;
    char byte = 1;
    EXPECT(io_file_open(story->io, story->path, IO_OPEN_CREATE, &file) == OK);
    the_waker.task = &story->task;
    io_send(story->io, &the_waker.msg);
    EXPECT(io_task_write(story->io, file, 0, &byte, 1, IO_WRITE_DURABLE) == OK);
    io_task_sleep(story->io, MILLISECOND);
    io_task_park(); /* returns: or the test hangs */
    io_task_wake(&story->task);
    io_task_park();
    io_file_close(file);
}

TEST(early_wakes_are_not_lost)
{
    CHECK_EQ(tell(story_of_early_wake), 0);
}

TESTS(limits_are_refused, environment_chooses_backend, group_closes_without_running, stops_from_a_signal_handler,
      messages_arrive_in_order, jobs_run_and_come_back, busy_loop_runs_its_jobs, timers_fire_in_order,
      files_keep_what_is_written, reading_beyond_the_end_is_short, opening_reports_errors, locks_conflict,
      operations_beyond_the_depth_wait, tasks_take_turns, unfinished_tasks_are_freed, early_wakes_are_not_lost)
