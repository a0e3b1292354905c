/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tasks: stories with a stack of their own.
 *
 * This file knows the seam only by io.h (it runs a task "soon" by a message to its own loop), so the simulator links it
 * unchanged. A task's stack, context and bookkeeping are one mapping, with a guard page below:
 *
 *     guard | stack, growing down ... | struct fiber
 *
 * Mappings are kept for the next task, since the simulator starts tens of thousands. The loop enters a task in fiber_enter
 * and the task gives the loop back in fiber_leave; these two also tell the sanitizers and valgrind whose stack it is.
 * A task begins by a context. From then on registers are exchanged by _setjmp and _longjmp, which, other than swapcontext, do
 * not ask the kernel for the mask of signals: that took longer than all the rest. The sanitizers know only the latter.
 *
 * A wake is a token: it ends the park that is under way or the next one. Waiting for an operation or a timer is another state
 * than being parked, so that a wake meant for the task's story is not swallowed by a read in the middle of it.
 *
 * A task may be done with while its wake-up message is under way (a simulated crash). The message therefore is a small
 * struct of its own, `struct call`, which outlives the stack and is freed when it arrives.
 */
#define _GNU_SOURCE
#undef _FORTIFY_SOURCE /* its longjmp takes another stack for a mistake */
#include <assert.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "io/io.h"
#include "io/valgrind.h"

#if defined(__SANITIZE_ADDRESS__)
#define TASK_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TASK_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define TASK_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TASK_TSAN 1
#endif
#endif
#if defined(TASK_ASAN) || defined(TASK_TSAN)
#define TASK_SWAPS 1
#endif
#if defined(TASK_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(TASK_TSAN)
#include <sanitizer/tsan_interface.h>
#endif

#define CACHE_MAX 256u /* mappings kept for reuse */

/* sanitizers want larger frames */
#if defined(TASK_ASAN) || defined(TASK_TSAN)
#define STACK_SIZE (2 * IO_TASK_STACK)
#else
#define STACK_SIZE IO_TASK_STACK
#endif

enum fiber_state {
    FIBER_CALLED,  /* a message that runs it is under way */
    FIBER_RUNNING, /* it is on the CPU */
    FIBER_PARKED,  /* until io_task_wake */
    FIBER_WAITING, /* for its operation or timer */
    FIBER_FINISHED,
};

/* The message that runs a task. */
struct call {
    struct io_msg msg;
    struct fiber *fiber;          /* NULL: the task was done with meanwhile */
    struct call *previous, *next; /* among all */
};

struct fiber {
    struct io_task *task;
    enum fiber_state state;
#if defined(TASK_SWAPS)
    ucontext_t here, loop; /* where the task and where the loop that entered it go on */
#else
    jmp_buf here, loop; /* the same */
    ucontext_t start;   /* where the task begins */
    bool begun;
#endif
    struct call *call;
    void *map;
    uint8_t *stack;
    struct fiber *next; /* in the cache */
    unsigned valgrind;
#if defined(TASK_ASAN)
    void *fake, *loop_fake;
    const void *loop_stack;
    size_t loop_size;
#endif
#if defined(TASK_TSAN)
    void *tsan, *loop_tsan;
#endif
};

static _Thread_local struct fiber *fiber_current;

/* ---- telling the tools (all empty in a plain build) ---- */

static void tools_born(struct fiber *fiber)
{
    (void)fiber;
#if defined(TASK_TSAN)
    fiber->tsan = __tsan_create_fiber(0);
#endif
}

static void tools_dead(struct fiber *fiber)
{
    (void)fiber;
#if defined(TASK_ASAN)
    __asan_unpoison_memory_region(fiber->stack, STACK_SIZE); /* it may have been left in the middle of its frames */
    fiber->fake = NULL;
#endif
#if defined(TASK_TSAN)
    __tsan_destroy_fiber(fiber->tsan);
#endif
}

static void tools_entering(struct fiber *fiber)
{
    (void)fiber;
#if defined(TASK_ASAN)
    __sanitizer_start_switch_fiber(&fiber->loop_fake, fiber->stack, STACK_SIZE);
#endif
#if defined(TASK_TSAN)
    fiber->loop_tsan = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(fiber->tsan, 0);
#endif
}

static void tools_entered(struct fiber *fiber)
{
    (void)fiber;
#if defined(TASK_ASAN)
    __sanitizer_finish_switch_fiber(fiber->fake, &fiber->loop_stack, &fiber->loop_size);
#endif
}

static void tools_leaving(struct fiber *fiber)
{
    (void)fiber;
#if defined(TASK_ASAN)
    void **keep = fiber->state == FIBER_FINISHED ? NULL : &fiber->fake;
    __sanitizer_start_switch_fiber(keep, fiber->loop_stack, fiber->loop_size);
#endif
#if defined(TASK_TSAN)
    __tsan_switch_to_fiber(fiber->loop_tsan, 0);
#endif
}

static void tools_left(struct fiber *fiber)
{
    (void)fiber;
#if defined(TASK_ASAN)
    __sanitizer_finish_switch_fiber(fiber->loop_fake, NULL, NULL);
#endif
}

/* ---- stacks and calls, kept for the next task; any thread ---- */

static pthread_mutex_t cache_lock = PTHREAD_MUTEX_INITIALIZER;
static struct fiber *cache;
static uint32_t cache_count;
/* All calls, so that none looks like a leak: those of kept stacks, and those that a simulator dropped with its node. */
static struct call calls = {.previous = &calls, .next = &calls};

static struct call *call_new(struct fiber *fiber)
{
    struct call *call = calloc(1, sizeof *call);
    if (call == NULL) return NULL;
    call->fiber = fiber;
    pthread_mutex_lock(&cache_lock);
    call->next = &calls;
    call->previous = calls.previous;
    call->previous->next = call->next->previous = call;
    pthread_mutex_unlock(&cache_lock);
    return call;
}

static void call_free(struct call *call)
{
    pthread_mutex_lock(&cache_lock);
    call->previous->next = call->next;
    call->next->previous = call->previous;
    pthread_mutex_unlock(&cache_lock);
    free(call);
}

static size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static size_t map_size(void)
{
    size_t page = page_size();
    return page + STACK_SIZE + (sizeof(struct fiber) + page - 1) / page * page;
}

static void fiber_unmap(struct fiber *fiber)
{
    VALGRIND_STACK_DEREGISTER(fiber->valgrind);
    if (fiber->call != NULL) call_free(fiber->call);
    munmap(fiber->map, map_size());
}

static struct fiber *fiber_map(void)
{
    size_t page = page_size();
    uint8_t *map =
        mmap(NULL, map_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) return NULL;
    if (mprotect(map, page, PROT_NONE) != 0) { /* each stack costs two of vm.max_map_count */
        munmap(map, map_size());
        return NULL;
    }
    struct fiber *fiber = (struct fiber *)(void *)(map + page + STACK_SIZE);
    fiber->map = map;
    fiber->stack = map + page;
    fiber->valgrind = VALGRIND_STACK_REGISTER(fiber->stack, fiber->stack + STACK_SIZE);
    fiber->call = call_new(fiber);
    if (fiber->call != NULL) return fiber;
    fiber_unmap(fiber);
    return NULL;
}

static struct fiber *fiber_get(void)
{
    pthread_mutex_lock(&cache_lock);
    struct fiber *fiber = cache;
    if (fiber != NULL) {
        cache = fiber->next;
        cache_count--;
    }
    pthread_mutex_unlock(&cache_lock);
    return fiber != NULL ? fiber : fiber_map();
}

static void fiber_put(struct fiber *fiber)
{
    pthread_mutex_lock(&cache_lock);
    bool keep = cache_count < CACHE_MAX;
    if (keep) {
        fiber->next = cache;
        cache = fiber;
        cache_count++;
    }
    pthread_mutex_unlock(&cache_lock);
    if (!keep) fiber_unmap(fiber);
}

/* Its message is under way, its stack goes: the call stays behind until it arrives. False: no memory for a new one. */
static bool fiber_leave_call_behind(struct fiber *fiber)
{
    fiber->call->fiber = NULL;
    fiber->call = call_new(fiber);
    return fiber->call != NULL;
}

/* ---- from the loop to the task and back ---- */

static void fiber_main(void);

/* The first entry will run fiber_main. (Apart, since getcontext might return twice for all the compiler knows.) */
__attribute__((noinline)) static void context_make(struct fiber *fiber, ucontext_t *ret_context)
{
    getcontext(ret_context);
    ret_context->uc_stack.ss_sp = fiber->stack;
    ret_context->uc_stack.ss_size = STACK_SIZE;
    ret_context->uc_link = NULL;
    makecontext(ret_context, fiber_main, 0);
}

#if defined(TASK_SWAPS)

static void fiber_aim(struct fiber *fiber)
{
    context_make(fiber, &fiber->here);
}

static void switch_in(struct fiber *fiber)
{
    swapcontext(&fiber->loop, &fiber->here);
}

static void switch_out(struct fiber *fiber)
{
    swapcontext(&fiber->here, &fiber->loop);
}

#else

static void fiber_aim(struct fiber *fiber)
{
    context_make(fiber, &fiber->start);
    fiber->begun = false;
}

/* (These two apart, since they return twice.) */
__attribute__((noinline)) static void switch_in(struct fiber *fiber)
{
    if (_setjmp(fiber->loop) != 0) return;
    if (fiber->begun) _longjmp(fiber->here, 1);
    fiber->begun = true;
    setcontext(&fiber->start);
}

__attribute__((noinline)) static void switch_out(struct fiber *fiber)
{
    if (_setjmp(fiber->here) == 0) _longjmp(fiber->loop, 1);
}

#endif

static void fiber_enter(struct fiber *fiber)
{
    assert(fiber_current == NULL); /* only the loop enters tasks */
    fiber->state = FIBER_RUNNING;
    fiber_current = fiber;
    tools_entering(fiber);
    switch_in(fiber);
    tools_left(fiber);
    fiber_current = NULL;
    if (fiber->state != FIBER_FINISHED) return;
    tools_dead(fiber);
    fiber_put(fiber);
}

static void fiber_leave(struct fiber *fiber, enum fiber_state state)
{
    fiber->state = state;
    tools_leaving(fiber);
    switch_out(fiber);
    tools_entered(fiber);
}

static void fiber_main(void)
{
    struct fiber *fiber = fiber_current;
    tools_entered(fiber);
    fiber->task->run(fiber->task->arg);
    fiber->task->seam = NULL; /* the loop frees the stack as soon as it is off it */
    fiber->task->finished = true;
    fiber_leave(fiber, FIBER_FINISHED);
    assert(false && "a finished task was entered");
}

static void fiber_called(struct io_msg *msg)
{
    struct call *call = CONTAINER(msg, struct call, msg);
    if (call->fiber == NULL) {
        call_free(call);
        return;
    }
    assert(call->fiber->state == FIBER_CALLED);
    fiber_enter(call->fiber);
}

static void fiber_call(struct fiber *fiber)
{
    fiber->state = FIBER_CALLED;
    io_send(fiber->task->io, &fiber->call->msg);
}

/* ---- the interface ---- */

enum err io_task_start(struct io *io, struct io_task *task, void (*run)(void *arg), void *arg)
{
    struct fiber *fiber = fiber_get();
    if (fiber == NULL) return ERR_NO_MEMORY;
    memset(task, 0, sizeof *task);
    task->io = io;
    task->run = run;
    task->arg = arg;
    task->seam = fiber;
    fiber->task = task;
    fiber->call->msg.handle = fiber_called;
    fiber_aim(fiber);
    tools_born(fiber);
    fiber_call(fiber);
    return OK;
}

struct io_task *io_task_self(void)
{
    return fiber_current == NULL ? NULL : fiber_current->task;
}

void io_task_park(void)
{
    struct fiber *fiber = fiber_current;
    assert(fiber != NULL);
    if (!fiber->task->woken) fiber_leave(fiber, FIBER_PARKED);
    fiber->task->woken = false;
}

void io_task_wake(struct io_task *task)
{
    struct fiber *fiber = task->seam;
    if (fiber == NULL || task->woken) return;
    task->woken = true;
    if (fiber->state == FIBER_PARKED) fiber_call(fiber);
}

void io_task_yield(void)
{
    struct fiber *fiber = fiber_current;
    assert(fiber != NULL);
    fiber_call(fiber);
    fiber_leave(fiber, FIBER_CALLED);
}

void io_task_done(struct io_task *task)
{
    struct fiber *fiber = task->seam;
    if (fiber == NULL) return;
    assert(fiber != fiber_current);
    task->seam = NULL;
    bool whole = fiber->state != FIBER_CALLED || fiber_leave_call_behind(fiber);
    tools_dead(fiber);
    if (whole) {
        fiber_put(fiber);
    } else {
        fiber_unmap(fiber);
    }
}

/* ---- operations ---- */

/* An operation or a timer and the task that waits for it. */
struct wait {
    struct io_op op;
    struct io_timer timer;
    struct fiber *fiber;
};

static void wait_over(struct wait *wait)
{
    assert(wait->fiber->state == FIBER_WAITING);
    fiber_enter(wait->fiber);
}

static void wait_op_done(struct io_op *op)
{
    wait_over(CONTAINER(op, struct wait, op));
}

static void wait_timer_fired(struct io_timer *timer)
{
    wait_over(CONTAINER(timer, struct wait, timer));
}

static struct wait wait_begin(void)
{
    assert(fiber_current != NULL);
    return (struct wait){.op.done = wait_op_done, .timer.fire = wait_timer_fired, .fiber = fiber_current};
}

static enum err wait_end(const struct wait *wait)
{
    fiber_leave(wait->fiber, FIBER_WAITING);
    return wait->op.err;
}

enum err io_task_read(struct io *io, struct io_file *file, uint64_t offset, void *buf, uint32_t length)
{
    struct wait wait = wait_begin();
    io_read(io, file, offset, buf, length, &wait.op);
    return wait_end(&wait);
}

enum err io_task_write(struct io *io, struct io_file *file, uint64_t offset, const void *buf, uint32_t length, unsigned flags)
{
    struct wait wait = wait_begin();
    io_write(io, file, offset, buf, length, flags, &wait.op);
    return wait_end(&wait);
}

enum err io_task_sync(struct io *io, struct io_file *file)
{
    struct wait wait = wait_begin();
    io_sync(io, file, &wait.op);
    return wait_end(&wait);
}

enum err io_task_discard(struct io *io, struct io_file *file, uint64_t offset, uint64_t length)
{
    struct wait wait = wait_begin();
    io_discard(io, file, offset, length, &wait.op);
    return wait_end(&wait);
}

void io_task_sleep(struct io *io, uint64_t delay_ns)
{
    struct wait wait = wait_begin();
    io_after(io, delay_ns, &wait.timer);
    wait_end(&wait);
}
