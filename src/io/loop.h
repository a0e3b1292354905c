/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the real seam share; private to src/io.
 *
 *     loop.c      loops, messages, timers, CPU jobs, starting and stopping
 *     task.c      tasks (knows only io.h; the simulator links the same file)
 *     file.c      opening, locking, measuring; the one place where errno becomes an error
 *     op.c        an operation from submission to `done`, whatever runs it
 *     socket.c    connections, the same for operations on them
 *     pool.c      threads that may block
 *     io_uring.c, io_posix.c   the two back ends
 */
#ifndef IZAR_IO_LOOP_H
#define IZAR_IO_LOOP_H

#include <assert.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>

#include "io/io.h"

#define TIMERS_MAX (1u << 20) /* address space for the heap is reserved at open, touched as it grows */
#define DEPTH_DEFAULT 256u
#define DEPTH_MAX 4096u
#define NO_TIMEOUT UINT64_MAX

static_assert(IO_LOOPS_MAX <= 64, "the sleepers of a group are the bits of one word");

/* ---- back ends ---- */

/* How operations run. All but open and close are called on the loop's own thread. */
struct backend {
    const char *name;
    enum err (*open)(struct io *io); /* ERR_UNSUPPORTED: the kernel refuses */
    void (*start)(struct io *io);
    bool (*turn)(struct io *io);  /* starts what is in io->waiting, finishes what is complete; true: finished some */
    bool (*ready)(struct io *io); /* something is complete; cheap, for spinning */
    void (*wait)(struct io *io, uint64_t timeout_ns); /* sleeps until something is complete or io->wake_fd was written */
    void (*stop)(struct io *io);
    void (*close)(struct io *io); /* also half open */
};

extern const struct backend backend_uring;
extern const struct backend backend_posix;

/* ---- loops ---- */

struct io {
    /* Written by every sender; on a cache line of its own. */
    alignas(64) _Atomic(struct io_msg *) inbox; /* newest first; the loop takes all of it at once */
    atomic_bool asleep;                         /* a sender that finds this set clears it and writes wake_fd */

    alignas(64) struct io_group *group;
    uint32_t index;
    int wake_fd; /* eventfd */
    pthread_t thread;

    struct io_msg *ready_first, *ready_last; /* messages taken from the inbox or sent by ourselves, oldest first */
    uint32_t ready_count;

    struct io_timer **timers; /* binary heap, from 1 */
    uint32_t timer_count;

    struct io_job *fresh_first, *fresh_last; /* submitted, not yet shown to the group */
    uint32_t fresh_count, fresh_us;
    uint32_t jobs_out; /* submitted, `done` did not run yet */
    uint32_t patience; /* busy turns since we last ran a job */

    struct list waiting;     /* operations the back end has not started */
    struct list net_waiting; /* operations on sockets, the same; they do not count against depth */
    uint32_t started;        /* operations the back end has started, at most depth */
    uint32_t under_way;      /* operations submitted, `done` did not run yet */
    uint32_t depth;

    uint32_t spin; /* how long to look around before sleeping; see loop_rest */
    bool settled;  /* our bit in group->settled is set */
    void *back;    /* the back end's own */
};

enum group_state { GROUP_OPEN, GROUP_RUNNING, GROUP_CLOSING };

struct io_group {
    const struct backend *backend;
    uint32_t loops;
    struct io *loop[IO_LOOPS_MAX];

    alignas(64) atomic_uint jobs_waiting;
    atomic_uint jobs_us;       /* what they take, about */
    atomic_uint searching;     /* loops that look around right now: they will see a new job without being woken */
    _Atomic uint64_t sleepers; /* loops worth waking for a job, a bit each */
    pthread_mutex_t job_lock;
    struct io_job *job_first, *job_last;

    alignas(64) pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t gate;
    enum group_state state;
    uint32_t threads; /* started, to be joined */
    uint64_t settled; /* loops with nothing under way, while stopping */
    bool over;        /* all of them were settled at once: return */
    atomic_bool stopping;
};

static inline const struct backend *io_back(const struct io *io)
{
    return io->group->backend;
}

/* ---- files ---- */

struct io_file {
    int fd;
    uint32_t align;
    bool direct, is_device, discards, read_only, locked;
};

/* The only place where an errno becomes an error. */
enum err file_error(int number);
/* Gives space back, blocking. 0 or a negative errno. */
int file_discard(const struct io_file *file, uint64_t offset, uint64_t length);

/* ---- operations ---- */

enum op_kind { OP_READ = 1, OP_WRITE, OP_SYNC, OP_DISCARD };

/* Takes the result of one attempt (bytes or a negative errno); any thread. True when the operation is through, false when
 * (the rest of) it is to be attempted again. */
bool op_advance(struct io_op *op, long result);
/* Does all of it on this thread, blocking. */
void op_perform(struct io_op *op);
/* The back end is through with it: runs `done`. */
void op_finish(struct io_op *op);

/* ---- threads that may block ---- */

struct pool;

/* A pool that works for `io`. ERR_NO_MEMORY. */
enum err pool_open(struct io *io, uint32_t threads, struct pool **ret_pool);
/* Performs all of `ops` (emptied), oldest first, and finishes them on the loop. */
void pool_submit(struct pool *pool, struct list *ops);
void pool_close(struct pool *pool); /* nothing under way; NULL is fine */

#endif
