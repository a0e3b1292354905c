/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Event loops: messages, timers, CPU jobs, and the sleep between them.
 *
 * A loop turns: messages, timers, operations, then a CPU job if nothing else is ready. When a turn found nothing it looks
 * around for a few microseconds (if that paid off lately) and goes to sleep in the back end.
 *
 * Nobody is woken in vain, and nobody sleeps through work. Both rest on one order, kept for messages and jobs alike:
 *     the giver   publishes the work, then looks whether somebody sleeps;
 *     the sleeper says that it sleeps, then looks once more for work.
 * All four are sequentially consistent, so at least one of the two sees the other. While a loop still looks around
 * (`searching`) a job wakes nobody: that loop finds it, and if more wait it wakes the next. Jobs that are little work wake
 * nobody either: whoever submitted them does not sleep while they wait.
 *
 * Stopping. A loop with nothing under way while the group stops is settled. When all are settled at once and no message is
 * in an inbox, nothing can happen any more, and all return. A settled loop that wakes is unsettled, under the group's lock,
 * before it takes anything from its inbox; therefore the last to settle sees either the message or the loop at work.
 */
#define _GNU_SOURCE
#include "io/loop.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define MESSAGES_A_TURN 128u /* then operations get their turn */
#define WAKE_PAYS_US 80u     /* waking a loop costs both sides some 10 us: less work than this is done sooner without it */
#define PATIENCE_TURNS 4u    /* busy turns after which a waiting job is run all the same */
#define SPIN_MAX 400u        /* rounds of looking around, some 10 ns each */
#define SPIN_PAYS_NS 20000u  /* a sleep shorter than this had better been spun through */

static _Thread_local struct io *loop_current;

bool io_is_current(const struct io *io)
{
    return loop_current == io;
}

static uint64_t loop_bit(const struct io *io)
{
    return (uint64_t)1 << io->index;
}

static inline void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* ---- time and chance ---- */

static uint64_t clock_now_ns(void)
{
    struct timespec t;
    int failed = clock_gettime(CLOCK_BOOTTIME, &t);
    assert(!failed);
    (void)failed;
    return (uint64_t)t.tv_sec * IO_S_NS + (uint64_t)t.tv_nsec;
}

uint64_t io_now_ns(struct io *io)
{
    (void)io;
    return clock_now_ns();
}

void io_random(struct io *io, void *buf, size_t size)
{
    (void)io;
    for (uint8_t *at = buf; size > 0;) {
        ssize_t n = getrandom(at, size, 0);
        assert(n > 0 || errno == EINTR);
        if (n <= 0) continue;
        at += n;
        size -= (size_t)n;
    }
}

/* ---- memory ---- */

/* A table that is used all over takes a page fault for every 4 KiB, and later a walk of the page tables for every access.
 * Measured: random 4 KiB writes on a nested virtual machine spent more on faults in the dedupe index than on hashing. */
void io_memory_large(void *at, size_t size)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = ((uintptr_t)at + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)at + size) / page * page;
    if (from < end) (void)madvise((uint8_t *)at + (from - (uintptr_t)at), end - from, MADV_HUGEPAGE); /* only a wish */
}

/* ---- timers: a binary heap in which each timer knows its place ---- */

static void timer_place(struct io *io, struct io_timer *timer, uint32_t place)
{
    io->timers[place] = timer;
    timer->place = place;
}

static void timer_sift_up(struct io *io, struct io_timer *timer, uint32_t place)
{
    for (; place > 1 && io->timers[place / 2]->due_ns > timer->due_ns; place /= 2) {
        timer_place(io, io->timers[place / 2], place);
    }
    timer_place(io, timer, place);
}

static void timer_sift_down(struct io *io, struct io_timer *timer, uint32_t place)
{
    for (uint32_t child; (child = 2 * place) <= io->timer_count; place = child) {
        if (child < io->timer_count && io->timers[child + 1]->due_ns < io->timers[child]->due_ns) child++;
        if (io->timers[child]->due_ns >= timer->due_ns) break;
        timer_place(io, io->timers[child], place);
    }
    timer_place(io, timer, place);
}

void io_after(struct io *io, uint64_t delay_ns, struct io_timer *timer)
{
    assert(io_is_current(io));
    assert(timer->place == 0);
    assert(io->timer_count < TIMERS_MAX - 1);
    uint64_t now = clock_now_ns();
    timer->due_ns = delay_ns < NO_TIMEOUT - now ? now + delay_ns : NO_TIMEOUT;
    timer->seam = io;
    timer_sift_up(io, timer, ++io->timer_count);
}

void io_cancel(struct io *io, struct io_timer *timer)
{
    assert(io_is_current(io));
    if (timer->place == 0) return;
    assert(timer->seam == io && io->timers[timer->place] == timer);
    uint32_t hole = timer->place;
    struct io_timer *last = io->timers[io->timer_count--];
    timer->place = 0;
    if (last == timer) return;
    timer_sift_up(io, last, hole);
    timer_sift_down(io, last, last->place);
}

/* Fires what was due when it began; what a timer arms with no delay has to wait for the next turn. */
static bool loop_fire(struct io *io)
{
    if (io->timer_count == 0) return false;
    uint64_t now = clock_now_ns();
    uint32_t fired = 0;
    for (uint32_t most = io->timer_count; fired < most && io->timer_count > 0; fired++) {
        struct io_timer *timer = io->timers[1];
        if (timer->due_ns > now) break;
        io_cancel(io, timer);
        timer->fire(timer);
    }
    return fired > 0;
}

static uint64_t loop_timeout_ns(const struct io *io)
{
    if (io->timer_count == 0 || io->timers[1]->due_ns == NO_TIMEOUT) return NO_TIMEOUT;
    uint64_t now = clock_now_ns(), due = io->timers[1]->due_ns;
    return due > now ? due - now : 0;
}

/* ---- waking ---- */

/* Writes to the eventfd, which never blocks here: the count cannot come near 2^64. Safe in signal handlers. */
static void loop_kick(struct io *io)
{
    uint64_t one = 1;
    ssize_t n = write(io->wake_fd, &one, sizeof one);
    (void)n;
}

static void loop_wake(struct io *io)
{
    if (atomic_load(&io->asleep) && atomic_exchange(&io->asleep, false)) loop_kick(io);
}

/* Wakes one loop for the jobs that wait, unless they are little work or one that is awake will find them. */
static void group_wake_one(struct io_group *group)
{
    if (atomic_load(&group->jobs_us) < WAKE_PAYS_US) return;
    uint64_t sleepers = atomic_load(&group->sleepers);
    if (sleepers == 0 || atomic_load(&group->searching) > 0) return;
    struct io *io = group->loop[__builtin_ctzll(sleepers)];
    atomic_fetch_and(&group->sleepers, ~loop_bit(io));
    loop_wake(io);
}

/* ---- messages ---- */

static void ready_push(struct io *io, struct io_msg *first, struct io_msg *last, uint32_t count)
{
    if (io->ready_first == NULL) {
        io->ready_first = first;
    } else {
        io->ready_last->next = first;
    }
    io->ready_last = last;
    io->ready_count += count;
}

void io_send(struct io *to, struct io_msg *msg)
{
    if (io_is_current(to)) {
        msg->next = NULL;
        ready_push(to, msg, msg, 1);
        return;
    }
    struct io_msg *newest = atomic_load_explicit(&to->inbox, memory_order_relaxed);
    do {
        msg->next = newest;
    } while (!atomic_compare_exchange_weak(&to->inbox, &newest, msg));
    if (newest == NULL) loop_wake(to); /* else whoever sent the first has woken it, or does it now */
}

/* Takes the whole inbox and turns it around: oldest first. */
static void loop_take_inbox(struct io *io)
{
    if (atomic_load_explicit(&io->inbox, memory_order_relaxed) == NULL) return;
    struct io_msg *newest = atomic_exchange(&io->inbox, NULL), *first = NULL;
    uint32_t count = 0;
    for (struct io_msg *msg = newest, *older; msg != NULL; msg = older, count++) {
        older = msg->next;
        msg->next = first;
        first = msg;
    }
    ready_push(io, first, newest, count);
}

static bool loop_handle(struct io *io)
{
    loop_take_inbox(io);
    uint32_t count = io->ready_count < MESSAGES_A_TURN ? io->ready_count : MESSAGES_A_TURN;
    for (uint32_t i = 0; i < count; i++) {
        struct io_msg *msg = io->ready_first;
        io->ready_first = msg->next;
        io->ready_count--;
        msg->handle(msg);
    }
    return count > 0;
}

/* ---- CPU jobs ---- */

static uint32_t job_us(const struct io_job *job)
{
    return job->cost_us > 0 ? job->cost_us : WAKE_PAYS_US;
}

/* Shows the group the jobs submitted lately. `own`: how many of them this loop is about to run itself. */
static void jobs_publish(struct io *io, uint32_t own)
{
    struct io_group *group = io->group;
    uint32_t count = io->fresh_count;
    if (count == 0) return;
    pthread_mutex_lock(&group->job_lock);
    if (group->job_first == NULL) {
        group->job_first = io->fresh_first;
    } else {
        group->job_last->next = io->fresh_first;
    }
    group->job_last = io->fresh_last;
    atomic_fetch_add(&group->jobs_waiting, count);
    atomic_fetch_add(&group->jobs_us, io->fresh_us);
    pthread_mutex_unlock(&group->job_lock);
    io->fresh_first = io->fresh_last = NULL;
    io->fresh_count = io->fresh_us = 0;
    if (count > own) group_wake_one(group);
}

static struct io_job *job_take(struct io_group *group)
{
    if (atomic_load(&group->jobs_waiting) == 0) return NULL;
    pthread_mutex_lock(&group->job_lock);
    struct io_job *job = group->job_first;
    uint32_t left = 0;
    if (job != NULL) {
        group->job_first = job->next;
        left = atomic_fetch_sub(&group->jobs_waiting, 1) - 1;
        atomic_fetch_sub(&group->jobs_us, job_us(job));
    }
    pthread_mutex_unlock(&group->job_lock);
    if (left > 0) group_wake_one(group);
    return job;
}

static void job_is_done(struct io_job *job)
{
    assert(io_is_current(job->owner));
    job->owner->jobs_out--;
    job->done(job);
}

static void job_came_back(struct io_msg *msg)
{
    job_is_done(CONTAINER(msg, struct io_job, msg));
}

void io_submit_job(struct io *io, struct io_job *job)
{
    assert(io_is_current(io));
    job->owner = io;
    job->next = NULL;
    job->msg.handle = job_came_back;
    if (io->fresh_first == NULL) {
        io->fresh_first = job;
    } else {
        io->fresh_last->next = job;
    }
    io->fresh_last = job;
    io->jobs_out++;
    io->fresh_count++;
    io->fresh_us += job_us(job);
    if (io->fresh_us >= WAKE_PAYS_US) jobs_publish(io, 0);
}

static bool loop_run_job(struct io *io)
{
    struct io_job *job = job_take(io->group);
    io->patience = 0;
    if (job == NULL) return false;
    struct io *owner = job->owner;
    job->work(job);
    if (owner == io) {
        job_is_done(job);
    } else {
        io_send(owner, &job->msg);
    }
    return true;
}

/* ---- a loop's life ---- */

/* Messages or operations wait for us: work that only this loop can do. */
static bool loop_has_own(struct io *io)
{
    return io->ready_count > 0 || atomic_load(&io->inbox) != NULL || io_back(io)->ready(io);
}

static bool loop_has_work(struct io *io)
{
    return loop_has_own(io) || atomic_load(&io->group->jobs_waiting) > 0;
}

static bool loop_turn(struct io *io)
{
    bool busy = loop_handle(io);
    busy |= loop_fire(io);
    busy |= io_back(io)->turn(io);
    bool idle = !loop_has_own(io);
    jobs_publish(io, idle ? 1 : 0);
    if (idle || ++io->patience >= PATIENCE_TURNS) busy |= loop_run_job(io);
    return busy || io->ready_count > 0 || !list_empty(&io->waiting) || !list_empty(&io->net_waiting);
}

/* Looks around for a moment instead of sleeping. True: something came. */
static bool loop_search(struct io *io)
{
    struct io_group *group = io->group;
    if (io->spin == 0) return false;
    bool found = false;
    atomic_fetch_add(&group->searching, 1);
    for (uint32_t i = 0; i < io->spin && !found; i++) {
        cpu_relax();
        found = loop_has_work(io);
    }
    atomic_fetch_sub(&group->searching, 1);
    /* A job came for which nobody was woken because of us, but we have something else to do first. */
    if (found && atomic_load(&group->jobs_waiting) > 0 && loop_has_own(io)) group_wake_one(group);
    return found;
}

/* Operations beyond the back end's depth do not keep a loop awake: a completion starts them. */
static void loop_sleep(struct io *io)
{
    uint64_t timeout_ns = loop_timeout_ns(io);
    if (timeout_ns == 0) return;
    atomic_store(&io->asleep, true);
    atomic_fetch_or(&io->group->sleepers, loop_bit(io));
    if (!loop_has_work(io)) {
        uint64_t from = clock_now_ns();
        io_back(io)->wait(io, timeout_ns);
        /* The last sleep tells what the next would cost: a short one is cheaper to spin through. */
        io->spin = clock_now_ns() - from < SPIN_PAYS_NS ? SPIN_MAX : io->spin / 2;
    }
    atomic_fetch_and(&io->group->sleepers, ~loop_bit(io));
    atomic_store(&io->asleep, false);
}

static bool group_is_over(struct io_group *group)
{
    uint64_t all = group->loops == 64 ? UINT64_MAX : ((uint64_t)1 << group->loops) - 1;
    if (group->settled != all) return false;
    for (uint32_t i = 0; i < group->loops; i++) {
        if (atomic_load(&group->loop[i]->inbox) != NULL) return false;
    }
    return true;
}

/* This loop has nothing to do. True: nor has any other, and all return. */
static bool loop_settle(struct io *io)
{
    struct io_group *group = io->group;
    if (!atomic_load(&group->stopping) || io->under_way > 0 || io->jobs_out > 0) return false;
    pthread_mutex_lock(&group->lock);
    io->settled = true;
    group->settled |= loop_bit(io);
    if (!group->over && group_is_over(group)) {
        group->over = true;
        for (uint32_t i = 0; i < group->loops; i++) loop_kick(group->loop[i]);
    }
    bool over = group->over;
    pthread_mutex_unlock(&group->lock);
    return over;
}

/* Before anything is taken up again. True: it is over. */
static bool loop_unsettle(struct io *io)
{
    struct io_group *group = io->group;
    if (!io->settled) return false;
    pthread_mutex_lock(&group->lock);
    bool over = group->over;
    if (!over) {
        group->settled &= ~loop_bit(io);
        io->settled = false;
    }
    pthread_mutex_unlock(&group->lock);
    return over;
}

static void loop_run(struct io *io, void (*main)(struct io *loop0, void *arg), void *arg)
{
    loop_current = io;
    io_back(io)->start(io);
    if (main != NULL) main(io, arg);
    for (bool over = false; !over; over = loop_unsettle(io)) {
        if (loop_turn(io)) continue;
        if (loop_settle(io)) break;
        if (!loop_search(io)) loop_sleep(io);
    }
    io_back(io)->stop(io);
    loop_current = NULL;
}

/* Loops other than 0: made at open, so that a lack of threads is known then; they wait at the gate. */
static void *loop_thread(void *arg)
{
    struct io *io = arg;
    struct io_group *group = io->group;
    pthread_mutex_lock(&group->lock);
    while (group->state == GROUP_OPEN) pthread_cond_wait(&group->gate, &group->lock);
    bool run = group->state == GROUP_RUNNING;
    pthread_mutex_unlock(&group->lock);
    if (run) loop_run(io, NULL, NULL);
    return NULL;
}

static void loop_free(struct io *io)
{
    if (io == NULL) return;
    if (io->wake_fd >= 0) close(io->wake_fd);
    if (io->timers != NULL) munmap(io->timers, TIMERS_MAX * sizeof *io->timers);
    free(io);
}

static struct io *loop_new(struct io_group *group, uint32_t index, uint32_t depth)
{
    struct io *io = aligned_alloc(alignof(struct io), sizeof *io);
    if (io == NULL) return NULL;
    memset(io, 0, sizeof *io);
    io->group = group;
    io->index = index;
    io->depth = depth;
    list_init(&io->waiting);
    list_init(&io->net_waiting);
    io->wake_fd = eventfd(0, EFD_CLOEXEC);
    void *timers =
        mmap(NULL, TIMERS_MAX * sizeof *io->timers, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (timers != MAP_FAILED) io->timers = timers;
    if (io->wake_fd < 0 || io->timers == NULL) {
        loop_free(io);
        return NULL;
    }
    return io;
}

/* ---- a group's life ---- */

static uint32_t count_cpus(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    int n = CPU_COUNT(&set);
    return n < 1 ? 1 : n > IO_LOOPS_MAX ? IO_LOOPS_MAX : (uint32_t)n;
}

static void group_close_backend(struct io_group *group)
{
    for (uint32_t i = 0; i < group->loops; i++) {
        if (group->loop[i] != NULL && group->backend != NULL) group->backend->close(group->loop[i]);
    }
    group->backend = NULL;
}

static enum err group_try_backend(struct io_group *group, const struct backend *backend)
{
    enum err e = OK;
    group->backend = backend;
    for (uint32_t i = 0; i < group->loops && e == OK; i++) e = backend->open(group->loop[i]);
    if (e != OK) group_close_backend(group);
    return e;
}

/* AUTO, unless the environment knows better. ERR_ARGUMENT: it says what we do not understand. */
static enum err wanted_backend(enum io_backend configured, enum io_backend *ret_backend)
{
    const char *wish = getenv("IZAR_IO");
    if (configured != IO_BACKEND_AUTO || wish == NULL || *wish == '\0') {
        *ret_backend = configured;
    } else if (strcmp(wish, backend_uring.name) == 0) {
        *ret_backend = IO_BACKEND_URING;
    } else if (strcmp(wish, backend_posix.name) == 0) {
        *ret_backend = IO_BACKEND_POSIX;
    } else {
        return ERR_ARGUMENT;
    }
    return OK;
}

static enum err group_open_backend(struct io_group *group, enum io_backend configured)
{
    enum io_backend wanted;
    TRY(wanted_backend(configured, &wanted));
    switch (wanted) {
    case IO_BACKEND_URING: return group_try_backend(group, &backend_uring);
    case IO_BACKEND_POSIX: return group_try_backend(group, &backend_posix);
    case IO_BACKEND_AUTO: return group_try_backend(group, &backend_uring) == OK ? OK : group_try_backend(group, &backend_posix);
    }
    return ERR_ARGUMENT;
}

static enum err group_start_threads(struct io_group *group)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the thread that owns the process */
    int failed = 0;
    for (uint32_t i = 1; i < group->loops && !failed; i++) {
        failed = pthread_create(&group->loop[i]->thread, NULL, loop_thread, group->loop[i]);
        if (!failed) group->threads++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed ? ERR_NO_MEMORY : OK;
}

static enum err group_build(struct io_group *group, const struct io_config *config)
{
    uint32_t depth = config->depth == 0 ? DEPTH_DEFAULT : config->depth;
    for (uint32_t i = 0; i < group->loops; i++) {
        group->loop[i] = loop_new(group, i, depth);
        if (group->loop[i] == NULL) return ERR_NO_MEMORY;
    }
    TRY(group_open_backend(group, config->backend));
    return group_start_threads(group);
}

enum err io_group_open(const struct io_config *config, struct io_group **ret_group)
{
    if (config->loops > IO_LOOPS_MAX || config->depth > DEPTH_MAX) return ERR_LIMIT;
    struct io_group *group = aligned_alloc(alignof(struct io_group), sizeof *group);
    if (group == NULL) return ERR_NO_MEMORY;
    memset(group, 0, sizeof *group);
    group->loops = config->loops == 0 ? count_cpus() : config->loops;
    pthread_mutex_init(&group->job_lock, NULL);
    pthread_mutex_init(&group->lock, NULL);
    pthread_cond_init(&group->gate, NULL);
    enum err e = group_build(group, config);
    if (e != OK) {
        io_group_close(group);
        return e;
    }
    *ret_group = group;
    return OK;
}

struct io *io_group_loop(struct io_group *group, uint32_t i)
{
    assert(i < group->loops);
    return group->loop[i];
}

uint32_t io_group_loops(const struct io_group *group)
{
    return group->loops;
}

const char *io_group_backend(const struct io_group *group)
{
    return group->backend->name;
}

/* Lets the threads through the gate. A group runs once. */
static void group_enter(struct io_group *group, enum group_state state)
{
    pthread_mutex_lock(&group->lock);
    assert(group->state == GROUP_OPEN);
    group->state = state;
    pthread_cond_broadcast(&group->gate);
    pthread_mutex_unlock(&group->lock);
}

static void group_join(struct io_group *group)
{
    for (; group->threads > 0; group->threads--) pthread_join(group->loop[group->threads]->thread, NULL);
}

void io_group_run(struct io_group *group, void (*main)(struct io *loop0, void *arg), void *arg)
{
    group_enter(group, GROUP_RUNNING);
    loop_run(group->loop[0], main, arg);
    group_join(group);
}

void io_group_stop(struct io_group *group)
{
    int before = errno; /* we may be a signal handler */
    atomic_store(&group->stopping, true);
    for (uint32_t i = 0; i < group->loops; i++) loop_kick(group->loop[i]);
    errno = before;
}

void io_group_close(struct io_group *group)
{
    if (group == NULL) return;
    if (group->state == GROUP_OPEN) {
        group_enter(group, GROUP_CLOSING);
        group_join(group);
    }
    group_close_backend(group);
    for (uint32_t i = 0; i < group->loops; i++) loop_free(group->loop[i]);
    pthread_cond_destroy(&group->gate);
    pthread_mutex_destroy(&group->lock);
    pthread_mutex_destroy(&group->job_lock);
    free(group);
}
