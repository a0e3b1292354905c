/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The back end for kernels where io_uring is refused (containers, hardened hosts): each loop has a few threads that do
 * plain positioned reads and writes; the loop itself sleeps in poll.
 *
 * An operation on a socket is attempted when it is submitted and then whenever poll says that it is worth while; until then it
 * stands in `parked`.
 */
#define _GNU_SOURCE
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "io/socket.h"

#define POSIX_THREADS 8u /* a loop; about what one disk needs to keep its queue from running dry */
#define POLL_ROOM 64u    /* descriptors at first */

struct posix {
    struct pool *pool;
    struct list parked; /* operations on sockets that wait for poll */
    uint32_t parked_count;
    struct pollfd *fds; /* 0: the eventfd; then one for each parked operation, in order */
    uint32_t fd_room;
};

static void posix_close(struct io *io)
{
    struct posix *p = io->back;
    if (p == NULL) return;
    pool_close(p->pool);
    free(p->fds);
    free(p);
    io->back = NULL;
}

static enum err posix_open(struct io *io)
{
    struct posix *p = calloc(1, sizeof *p);
    if (p == NULL) return ERR_NO_MEMORY;
    io->back = p;
    list_init(&p->parked);
    p->fd_room = POLL_ROOM;
    p->fds = calloc(p->fd_room, sizeof *p->fds);
    enum err e = p->fds == NULL ? ERR_NO_MEMORY : pool_open(io, POSIX_THREADS, &p->pool);
    if (e != OK) posix_close(io);
    return e;
}

static void posix_start(struct io *io)
{
    (void)io;
}

/* ---- sockets ---- */

/* Room to poll for one more; without it the operation fails rather than being forgotten. */
static bool poll_room(struct posix *p)
{
    if (p->parked_count + 2 <= p->fd_room) return true;
    struct pollfd *fds = realloc(p->fds, 2 * p->fd_room * sizeof *fds);
    if (fds == NULL) return false;
    p->fds = fds;
    p->fd_room *= 2;
    return true;
}

static void net_try(struct posix *p, struct io_net *op)
{
    bool through = op->err != OK; /* a connect without a socket */
    if (!through) through = net_advance(op, net_attempt(op));
    if (!through && !poll_room(p)) {
        op->err = ERR_NO_MEMORY;
        through = true;
    }
    if (through) {
        net_finish(op);
        return;
    }
    list_push(&p->parked, &op->link);
    p->parked_count++;
}

static void poll_fill(struct posix *p)
{
    uint32_t n = 1;
    for (struct list *l = p->parked.next; l != &p->parked; l = l->next) {
        const struct io_net *op = CONTAINER(l, struct io_net, link);
        bool out = op->kind == NET_TRANSMIT || op->kind == NET_CONNECT;
        p->fds[n++] = (struct pollfd){.fd = net_fd(op), .events = out ? POLLOUT : POLLIN};
    }
}

/* Attempts again what poll found ready. */
static bool poll_reap(struct posix *p)
{
    struct list ready;
    uint32_t n = 1;
    list_init(&ready);
    for (struct list *l = p->parked.next, *next; l != &p->parked; l = next, n++) {
        next = l->next;
        if (p->fds[n].revents == 0) continue;
        list_remove(l);
        p->parked_count--;
        list_push(&ready, l);
    }
    bool any = !list_empty(&ready);
    for (struct list *l; (l = list_pop(&ready));) net_try(p, CONTAINER(l, struct io_net, link));
    return any;
}

static bool net_turn(struct io *io)
{
    struct posix *p = io->back;
    struct list fresh;
    bool any = false;
    list_init(&fresh);
    if (p->parked_count > 0) {
        poll_fill(p);
        any = poll(p->fds + 1, p->parked_count, 0) > 0 && poll_reap(p);
    }
    for (struct list *l; (l = list_pop(&io->net_waiting));) list_push(&fresh, l);
    for (struct list *l; (l = list_pop(&fresh));) {
        net_try(p, CONTAINER(l, struct io_net, link));
        any = true;
    }
    return any;
}

/* ---- turning ---- */

static bool posix_turn(struct io *io)
{
    struct posix *p = io->back;
    struct list ops;
    list_init(&ops);
    while (io->started < io->depth && !list_empty(&io->waiting)) {
        list_push(&ops, list_pop(&io->waiting));
        io->started++;
    }
    if (!list_empty(&ops)) pool_submit(p->pool, &ops);
    return net_turn(io); /* what is complete of files comes as a message */
}

static bool posix_ready(struct io *io)
{
    (void)io;
    return false;
}

static void posix_wait(struct io *io, uint64_t timeout_ns)
{
    struct posix *p = io->back;
    struct timespec timeout = {(time_t)(timeout_ns / IO_S_NS), (long)(timeout_ns % IO_S_NS)};
    poll_fill(p);
    p->fds[0] = (struct pollfd){.fd = io->wake_fd, .events = POLLIN};
    if (ppoll(p->fds, 1 + p->parked_count, timeout_ns == NO_TIMEOUT ? NULL : &timeout, NULL) <= 0) return;
    if (p->fds[0].revents == 0) return; /* a socket: the next turn asks again which */
    uint64_t count;
    ssize_t n = read(io->wake_fd, &count, sizeof count);
    assert(n == sizeof count || (n < 0 && errno == EINTR));
    (void)n;
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
