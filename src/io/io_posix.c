/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The back end for kernels where io_uring is refused (containers, hardened hosts): each loop has a few threads that do
 * plain positioned reads and writes; the loop itself sleeps in poll.
 */
#define _GNU_SOURCE
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#include "io/loop.h"

#define POSIX_THREADS 8u /* a loop; about what one disk needs to keep its queue from running dry */

static enum err posix_open(struct io *io)
{
    struct pool *pool;
    TRY(pool_open(io, POSIX_THREADS, &pool));
    io->back = pool;
    return OK;
}

static void posix_start(struct io *io)
{
    (void)io;
}

static bool posix_turn(struct io *io)
{
    struct list ops;
    list_init(&ops);
    while (io->started < io->depth && !list_empty(&io->waiting)) {
        list_push(&ops, list_pop(&io->waiting));
        io->started++;
    }
    if (!list_empty(&ops)) pool_submit(io->back, &ops);
    return false; /* what is complete comes as a message */
}

static bool posix_ready(struct io *io)
{
    (void)io;
    return false;
}

static void posix_wait(struct io *io, uint64_t timeout_ns)
{
    struct timespec timeout = {(time_t)(timeout_ns / 1000000000u), (long)(timeout_ns % 1000000000u)};
    struct pollfd wake = {.fd = io->wake_fd, .events = POLLIN};
    if (ppoll(&wake, 1, timeout_ns == NO_TIMEOUT ? NULL : &timeout, NULL) <= 0) return;
    uint64_t count;
    ssize_t n = read(io->wake_fd, &count, sizeof count);
    assert(n == sizeof count || (n < 0 && errno == EINTR));
    (void)n;
}

static void posix_close(struct io *io)
{
    pool_close(io->back);
    io->back = NULL;
}

const struct backend backend_posix = {
    .name = "posix",
    .open = posix_open,
    .start = posix_start,
    .turn = posix_turn,
    .ready = posix_ready,
    .wait = posix_wait,
    .stop = posix_start,
    .close = posix_close,
};
