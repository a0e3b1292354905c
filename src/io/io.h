/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The seam: the only door to the world.
 *
 * Everything above this header is a deterministic function of the completions, messages, job results, timers and random
 * bytes that come through it. It is chosen at link time: the real one (io_uring, or poll and threads where io_uring is
 * refused) or the simulator's. errno, file descriptors, threads and clocks die below this line.
 *
 * Loops. A `struct io` is one event loop. Every object above is owned by exactly one loop; another loop reaches it with
 * io_send. Unless a comment says otherwise a call may be made only on the loop given as its first argument.
 *
 * Operations are structs embedded in their owner. Submitting never allocates, never fails and never calls back inline:
 * `done` runs later, from the loop, exactly once, with `err` and `bytes` set. The struct and its buffer must live until then.
 */
#ifndef IZAR_IO_IO_H
#define IZAR_IO_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"

struct io;          /* one event loop */
struct io_group;    /* the loops of one process, sharing CPU jobs */
struct io_file;     /* an open file or block device */
struct io_task;     /* a story with a stack of its own, see below */
struct io_listener; /* a place where connections arrive */
struct io_socket;   /* one connection: bytes in order, both ways */

/* ---- loops (real seam only; the simulator makes its own) ---- */

enum { IO_LOOPS_MAX = 64 }; /* in one process */

enum io_backend { IO_BACKEND_AUTO, IO_BACKEND_URING, IO_BACKEND_POSIX };

struct io_config {
    enum io_backend backend; /* AUTO: what IZAR_IO=io_uring|posix in the environment says, else io_uring, or posix where
                              * the kernel refuses that */
    uint32_t loops;          /* event loops, 1 to IO_LOOPS_MAX; 0: one a CPU */
    uint32_t depth;          /* operations under way per loop before more wait inside the seam, up to 4096; 0: 256 */
};

/* Makes the loops; none runs yet. ERR_LIMIT, ERR_NO_MEMORY, ERR_UNSUPPORTED (io_uring demanded and refused),
 * ERR_ARGUMENT (IZAR_IO says something else). */
enum err io_group_open(const struct io_config *config, struct io_group **ret_group);
struct io *io_group_loop(struct io_group *group, uint32_t i);
uint32_t io_group_loops(const struct io_group *group);
/* Which back end runs: "io_uring" or "posix". */
const char *io_group_backend(const struct io_group *group);
/* Runs all loops, loop 0 on the calling thread, where `main` is called first; returns after io_group_stop. Only once. */
void io_group_run(struct io_group *group, void (*main)(struct io *loop0, void *arg), void *arg);
/* Asks all loops to return, together, once none has an operation, message or job under way; armed timers and parked tasks
 * hold nobody up. Any thread, also a signal handler. */
void io_group_stop(struct io_group *group);
/* Frees everything; the loops must have returned. NULL is fine. */
void io_group_close(struct io_group *group);
/* True when called on that loop's thread (in the simulator: always). For assertions. */
bool io_is_current(const struct io *io);

/* ---- time and chance ---- */

#define IO_US_NS 1000ull
#define IO_MS_NS 1000000ull
#define IO_S_NS 1000000000ull

uint64_t io_now_ns(struct io *io); /* monotonic, includes suspend where the system can (CLOCK_BOOTTIME) */
void io_random(struct io *io, void *buf, size_t size);

struct io_timer {
    void (*fire)(struct io_timer *timer);
    /* private to the seam */
    uint64_t due_ns;
    uint32_t place; /* in the heap, from 1; 0: not armed */
    void *seam;
};

/* Arms `timer` (not armed before) to fire once. */
void io_after(struct io *io, uint64_t delay_ns, struct io_timer *timer);
/* Disarms it; harmless when not armed. */
void io_cancel(struct io *io, struct io_timer *timer);

/* ---- messages and CPU jobs ---- */

struct io_msg {
    void (*handle)(struct io_msg *msg); /* runs on the receiving loop */
    struct io_msg *next;                /* private to the seam */
};

/* Sends `msg` to the loop `to`; any thread. Two messages from one loop to another arrive in order. */
void io_send(struct io *to, struct io_msg *msg);

/* Pure CPU work: `work` runs on any loop of the group that is idle, may be another thread, and touches only what the job
 * owns; then `done` runs on the submitting loop. */
struct io_job {
    void (*work)(struct io_job *job);
    void (*done)(struct io_job *job);
    uint32_t cost_us; /* about how long `work` takes; 0: unknown. Little work is not worth waking another loop for */
    /* private to the seam */
    struct io *owner;
    struct io_job *next;
    struct io_msg msg;
};

void io_submit_job(struct io *io, struct io_job *job);

/* ---- memory ---- */

/* A large table is about to be used all over: the system may back it with larger pages. Only a hint; any thread. */
void io_memory_large(void *at, size_t size);

/* ---- files and block devices ---- */

enum io_open_flags {
    IO_OPEN_READ_ONLY = 1,
    IO_OPEN_CREATE = 2,    /* make the file when it does not exist; ERR_FILE_EXISTS when it does and EXCLUSIVE is given */
    IO_OPEN_EXCLUSIVE = 4, /* with CREATE: it must not exist before */
    IO_OPEN_DIRECT = 8,    /* past the page cache: buffers, offsets and lengths must be multiples of info.align */
    IO_OPEN_LOCK = 16,     /* against other processes: exclusive, or shared with READ_ONLY; ERR_LOCKED */
};

struct io_file_info {
    uint64_t size;  /* bytes */
    uint32_t align; /* what DIRECT asks of buffers, offsets and lengths: 512 or 4096 */
    bool is_device; /* a block device, not a file */
    bool discards;  /* io_discard gives space back below */
};

#define IO_ALIGN 4096u /* a buffer, offset and length aligned to this is always right */

/* These may block for a moment and are meant for opening, not for the I/O path. ERR_NO_FILE, ERR_PERMISSION,
 * ERR_FILE_EXISTS, ERR_LOCKED, ERR_DEVICE_FULL, ERR_UNSUPPORTED (neither a file nor a block device), ERR_IO. */
enum err io_file_open(struct io *io, const char *path, unsigned flags, struct io_file **ret_file);
enum err io_file_info(struct io_file *file, struct io_file_info *ret_info);
enum err io_file_resize(struct io_file *file, uint64_t size); /* a plain file; new bytes read as zero and take no space */
void io_file_close(struct io_file *file);                     /* nothing under way; NULL is fine */

struct io_op {
    void (*done)(struct io_op *op);
    enum err err;   /* OK, ERR_IO, ERR_SHORT (reading beyond the end), ERR_VANISHED, ERR_DEVICE_FULL, ERR_POWER */
    uint32_t bytes; /* transferred */
    /* private to the seam */
    struct list link;
    struct io *io;
    struct io_file *file;
    uint64_t offset;
    void *buf;
    uint64_t length;
    uint32_t moved;
    uint8_t kind, flags, tries;
};

enum io_write_flags {
    IO_WRITE_DURABLE = 1, /* `done` only when this write is on stable storage (FUA or O_DSYNC semantics) */
};

/* Reads or writes all of `length` bytes; short transfers are continued inside the seam. `length` at most 64 MiB. */
void io_read(struct io *io, struct io_file *file, uint64_t offset, void *buf, uint32_t length, struct io_op *op);
void io_write(struct io *io, struct io_file *file, uint64_t offset, const void *buf, uint32_t length, unsigned flags,
              struct io_op *op);
/* Everything whose `done` ran before is on stable storage when `done` runs (fdatasync, FLUSH). */
void io_sync(struct io *io, struct io_file *file, struct io_op *op);
/* Gives space back below (hole punch, BLKDISCARD); the bytes read as anything after. Failure to support it is OK. */
void io_discard(struct io *io, struct io_file *file, uint64_t offset, uint64_t length, struct io_op *op);

/* ---- connections ---- */

/*
 * Streams of bytes: TCP over IPv4 or IPv6, or local sockets. Addresses are text and numeric, nothing is looked up:
 * "192.0.2.1:3260", "[2001:db8::1]:3260", "unix:/run/izar/izar.sock"; port 0 asks for any free one.
 *
 * A socket belongs to the loop that accepted or connected it. At most one receive and one transmit may be under way on it, one
 * accept on a listener. TCP sends at once (no Nagle) and notices a dead peer after about a minute (keepalive).
 *
 * An operation under way holds io_group_stop up: abort what is to end.
 */
struct io_net {
    void (*done)(struct io_net *op);
    enum err err;   /* OK; ERR_CLOSED (end of stream, connection lost, aborted), and what io_accept and io_connect add */
    uint32_t bytes; /* received or transmitted */
    struct io_socket *socket; /* accept and connect: the new connection, when OK */
    /* private to the seam */
    struct io_listener *listener;
    struct list link;
    struct io *io;
    void *buf;
    uint32_t length;
    uint32_t piece, moved; /* transmit: what of the pieces went out */
    const struct io_piece *pieces;
    uint32_t piece_count;
    uint8_t kind, tries;
    uint64_t seam[8]; /* what the back end needs as long as it is under way */
};

/* One stretch of memory of several that are transmitted together. */
struct io_piece {
    const void *at;
    size_t size;
};

enum { IO_PIECES_MAX = 64, IO_ADDRESS_TEXT = 128 };

/* May block for a moment. A local socket's file that nobody listens on is replaced; `mode` are the permissions of the new one.
 * ERR_ARGUMENT (no address), ERR_ADDRESS (taken, or not of this machine), ERR_UNSUPPORTED (no addresses of that family here),
 * ERR_PERMISSION, ERR_NO_FILE (the folder of a local socket is missing), ERR_NO_MEMORY (too many open, too), ERR_IO. */
enum err io_listen(struct io *io, const char *address, uint32_t mode, struct io_listener **ret_listener);
/* ERR_CLOSED (aborted), ERR_NO_MEMORY (too many open, too). */
void io_accept(struct io_listener *listener, struct io_net *op);
/* An accept under way ends with ERR_CLOSED, soon. */
void io_listener_abort(struct io_listener *listener);
void io_listener_close(struct io_listener *listener); /* nothing under way; NULL is fine */
/* Where it listens, with the real port. Returns `buf`. */
const char *io_listener_text(const struct io_listener *listener, char *buf, size_t size);

/* ERR_ARGUMENT (no address), ERR_REFUSED (nobody there, or no way there), ERR_ADDRESS (no address of our own left for it),
 * ERR_PERMISSION, ERR_NO_MEMORY (too many open, too), ERR_CLOSED (anything else: no answer, for one). */
void io_connect(struct io *io, const char *address, struct io_net *op);
/* A connect under way ends, soon: with ERR_CLOSED, or as it was about to end anyway. */
void io_connect_abort(struct io_net *op);
/* Receives at least one and at most `size` bytes; at the end of the stream ERR_CLOSED. */
void io_receive(struct io_socket *socket, void *buf, uint32_t size, struct io_net *op);
/* Transmits all bytes of all pieces (at most IO_PIECES_MAX), in order; the array too must live until `done`. */
void io_transmit(struct io_socket *socket, const struct io_piece *pieces, uint32_t count, struct io_net *op);
/* Cuts the connection: what is under way ends with ERR_CLOSED, soon, and so does everything later. */
void io_socket_abort(struct io_socket *socket);
void io_socket_close(struct io_socket *socket); /* nothing under way; NULL is fine */
/* The address of the other side, or our own, as in the notation above. Returns `buf`. */
const char *io_socket_peer(const struct io_socket *socket, char *buf, size_t size);
const char *io_socket_local(const struct io_socket *socket, char *buf, size_t size);

/* ---- tasks ---- */

/*
 * A task is a story that has to wait in many places (recovery, checkpoint, cleaning): it runs on its loop with its own
 * stack, and gives the loop back whenever it waits. There is no preemption: between two waits a task is as atomic as any
 * callback. The foreground path (prepare, read) does not use tasks.
 */
struct io_task {
    struct io *io;
    void (*run)(void *arg);
    void *arg;
    void *seam;    /* private: stack and context */
    bool finished; /* true once `run` returned */
    bool woken;    /* private */
    struct list link;
};

#define IO_TASK_STACK (256u << 10)

/* Starts `run(arg)` from the loop, soon. `task` must live until it finished. ERR_NO_MEMORY. */
enum err io_task_start(struct io *io, struct io_task *task, void (*run)(void *arg), void *arg);
/* The task that runs now, NULL outside of tasks. */
struct io_task *io_task_self(void);
/* Inside a task: gives the loop back until io_task_wake was called (a wake before the park is not lost). */
void io_task_park(void);
/* Lets a parked task go on, soon, from the loop (its own loop only). */
void io_task_wake(struct io_task *task);
/* Inside a task: gives the loop back for one round. */
void io_task_yield(void);
/* Frees the stack; the task finished, or will never run again (a simulated crash). NULL seam is fine. */
void io_task_done(struct io_task *task);

/* Inside a task: the operation, and wait for it. */
enum err io_task_read(struct io *io, struct io_file *file, uint64_t offset, void *buf, uint32_t length);
enum err io_task_write(struct io *io, struct io_file *file, uint64_t offset, const void *buf, uint32_t length, unsigned flags);
enum err io_task_sync(struct io *io, struct io_file *file);
enum err io_task_discard(struct io *io, struct io_file *file, uint64_t offset, uint64_t length);
void io_task_sleep(struct io *io, uint64_t delay_ns);

#endif
