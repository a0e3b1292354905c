/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The io_uring back end: one ring a loop. All that a turn submits goes to the kernel in one call, which also collects what
 * is complete.
 *
 * The ring's user_data is the operation, with the lowest bit set for one on a socket; 0 is the standing read of the loop's
 * eventfd, by which other threads end a sleep. At most io->depth operations on files are in the ring, more wait in io->waiting.
 * Those on sockets may wait for ever and are not counted: the kernel keeps completions that the queue has no room for.
 *
 * io_uring has no BLKDISCARD in the kernels we support: those go to a helper thread that the first of them starts.
 */
#define _GNU_SOURCE
#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <sys/uio.h>

#include "io/socket.h"
#include "io/valgrind.h"

#define SPARE_ENTRIES 8u /* for the eventfd's read, which is no operation */
#define REAP_MAX 64u

struct uring {
    struct io_uring ring;
    uint64_t wakes;    /* what the read of the eventfd yields; of no interest */
    bool wake_armed;   /* that read is in the ring */
    struct pool *pool; /* blocking helper, NULL until needed */
};

/* ---- opening ---- */

static const unsigned needed_ops[] = {IORING_OP_READ, IORING_OP_WRITE,  IORING_OP_FSYNC,   IORING_OP_FALLOCATE,
                                      IORING_OP_NOP,  IORING_OP_ACCEPT, IORING_OP_CONNECT, IORING_OP_RECV,
                                      IORING_OP_SEND, IORING_OP_SENDMSG};

static bool uring_suffices(struct io_uring *ring)
{
    unsigned needed = IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG;
    if ((ring->features & needed) != needed) return false;
    struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
    if (probe == NULL) return false;
    bool all = true;
    for (size_t i = 0; i < sizeof needed_ops / sizeof needed_ops[0]; i++) {
        all &= io_uring_opcode_supported(probe, (int)needed_ops[i]) != 0;
    }
    io_uring_free_probe(probe);
    return all;
}

/* Best first. R_DISABLED: made here, but it belongs to the thread that enables it, the loop's. */
static const unsigned setups[] = {
    IORING_SETUP_R_DISABLED | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
        IORING_SETUP_TASKRUN_FLAG,
    IORING_SETUP_R_DISABLED | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
    IORING_SETUP_R_DISABLED,
};

static int uring_setup(struct io_uring *ring, uint32_t depth)
{
    int r = -ENOSYS;
    for (size_t i = 0; i < sizeof setups / sizeof setups[0]; i++) {
        struct io_uring_params params = {.flags = setups[i]};
        r = io_uring_queue_init_params(depth + SPARE_ENTRIES, ring, &params);
        if (r != -EINVAL) break; /* EINVAL: an older kernel, or a newer one that lost something */
    }
    return r;
}

static enum err uring_open(struct io *io)
{
    /* Valgrind (3.19) runs one thread at a time and does not know that io_uring_enter may sleep: all loops would. */
    if (RUNNING_ON_VALGRIND) return ERR_UNSUPPORTED;
    struct uring *u = calloc(1, sizeof *u);
    if (u == NULL) return ERR_NO_MEMORY;
    if (uring_setup(&u->ring, io->depth) != 0) {
        free(u);
        return ERR_UNSUPPORTED;
    }
    if (!uring_suffices(&u->ring)) {
        io_uring_queue_exit(&u->ring);
        free(u);
        return ERR_UNSUPPORTED;
    }
    io->back = u;
    return OK;
}

static void uring_start(struct io *io)
{
    struct uring *u = io->back;
    int r = io_uring_register((unsigned)u->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
    assert(r == 0);
    (void)r;
    io_uring_register_ring_fd(&u->ring); /* spares a look-up each call; older kernels do without */
}

static void uring_stop(struct io *io)
{
    struct uring *u = io->back;
    if (u->ring.int_flags & 1) io_uring_unregister_ring_fd(&u->ring); /* 1: INT_FLAG_REG_RING; belongs to this thread */
}

static void uring_close(struct io *io)
{
    struct uring *u = io->back;
    if (u == NULL) return;
    pool_close(u->pool);
    io_uring_queue_exit(&u->ring);
    free(u);
    io->back = NULL;
}

/* ---- starting operations ---- */

/* Waiting and submitting may be refused for a moment (no memory, a signal); what was not taken stays in the ring. */
static void uring_check(int r)
{
    assert(r >= 0 || r == -EINTR || r == -EAGAIN || r == -EBUSY || r == -ENOMEM || r == -ETIME);
    (void)r;
}

/* NULL: the ring is full, and the kernel takes nothing more right now. */
static struct io_uring_sqe *uring_try_entry(struct uring *u)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    if (sqe != NULL) return sqe;
    uring_check(io_uring_submit(&u->ring));
    return io_uring_get_sqe(&u->ring);
}

static struct io_uring_sqe *uring_entry(struct uring *u)
{
    struct io_uring_sqe *sqe = NULL;
    while (sqe == NULL) sqe = uring_try_entry(u);
    return sqe;
}

static void uring_arm_wake(struct io *io)
{
    struct uring *u = io->back;
    if (u->wake_armed) return;
    struct io_uring_sqe *sqe = uring_entry(u);
    io_uring_prep_read(sqe, io->wake_fd, &u->wakes, sizeof u->wakes, 0);
    io_uring_sqe_set_data(sqe, NULL);
    u->wake_armed = true;
}

/* A discard that is not io_uring's goes to a thread; when there is none to be had, this thread blocks for it. */
static bool uring_delegate(struct io *io, struct io_op *op)
{
    struct uring *u = io->back;
    struct list one;
    list_init(&one);
    if (u->pool == NULL && pool_open(io, 1, &u->pool) != OK) {
        op_perform(op);
        return false;
    }
    list_push(&one, &op->link);
    pool_submit(u->pool, &one);
    return true;
}

static void uring_start_op(struct io *io, struct io_op *op)
{
    const struct io_file *file = op->file;
    char *at = op->buf ? (char *)op->buf + op->moved : NULL; /* a sync or discard has no buffer */
    uint32_t left = (uint32_t)(op->length - op->moved);
    uint64_t offset = op->offset + op->moved;
    bool discards = op->kind == OP_DISCARD && file->discards;
    if (discards && file->is_device && uring_delegate(io, op)) return;

    struct io_uring_sqe *sqe = uring_entry(io->back);
    switch ((enum op_kind)op->kind) {
    case OP_READ: io_uring_prep_read(sqe, file->fd, at, left, offset); break;
    case OP_WRITE:
        io_uring_prep_write(sqe, file->fd, at, left, offset);
        if (op->flags & IO_WRITE_DURABLE) sqe->rw_flags = RWF_DSYNC;
        break;
    case OP_SYNC: io_uring_prep_fsync(sqe, file->fd, IORING_FSYNC_DATASYNC); break;
    case OP_DISCARD:
        if (discards && !file->is_device && op->length > 0) {
            io_uring_prep_fallocate(sqe, file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                                    (off_t)op->length);
        } else {
            io_uring_prep_nop(sqe); /* nothing to do, or done already */
        }
        break;
    }
    io_uring_sqe_set_data(sqe, op);
}

static void uring_start_net(struct io *io, struct io_net *op)
{
    const void *at;
    size_t size;
    if (op->err != OK) { /* a connect without a socket: through the ring all the same, so that nothing is called back inline */
        struct io_uring_sqe *nop = uring_entry(io->back);
        io_uring_prep_nop(nop);
        io_uring_sqe_set_data(nop, (char *)op + 1);
        return;
    }
    struct io_uring_sqe *sqe = uring_entry(io->back);
    switch ((enum net_kind)op->kind) {
    case NET_ACCEPT: io_uring_prep_accept(sqe, op->listener->fd, NULL, NULL, SOCK_CLOEXEC); break;
    case NET_CONNECT: io_uring_prep_connect(sqe, op->socket->fd, &op->socket->peer.of.any, op->socket->peer.size); break;
    case NET_RECEIVE: io_uring_prep_recv(sqe, op->socket->fd, op->buf, op->length, 0); break;
    case NET_TRANSMIT: {
        struct msghdr *m = net_message(op);
        if (m != NULL) {
            io_uring_prep_sendmsg(sqe, op->socket->fd, m, MSG_NOSIGNAL | MSG_WAITALL);
            break;
        }
        net_rest(op, &at, &size);
        io_uring_prep_send(sqe, op->socket->fd, at, size, MSG_NOSIGNAL | MSG_WAITALL);
        break;
    }
    }
    io_uring_sqe_set_data(sqe, (char *)op + 1);
}

/* ---- finishing them ---- */

static void uring_complete_net(struct io *io, struct io_net *op, int result)
{
    if (op->err != OK || net_advance(op, result)) {
        net_finish(op);
    } else {
        list_push(&io->net_waiting, &op->link);
    }
}

static void uring_complete(struct io *io, const struct io_uring_cqe *cqe)
{
    struct uring *u = io->back;
    struct io_op *op = io_uring_cqe_get_data(cqe);
    if (op == NULL) {
        u->wake_armed = false;
        return;
    }
    if ((uintptr_t)op & 1) {
        uring_complete_net(io, (struct io_net *)(void *)((char *)op - 1), cqe->res);
        return;
    }
    io->started--;
    if (op_advance(op, cqe->res)) {
        op_finish(op);
    } else {
        list_push_front(&io->waiting, &op->link);
    }
}

/* Operations may be submitted by what is called here, but not started: the ring is not touched meanwhile. */
static bool uring_reap(struct io *io)
{
    struct uring *u = io->back;
    struct io_uring_cqe *cqes[REAP_MAX];
    unsigned count = io_uring_peek_batch_cqe(&u->ring, cqes, REAP_MAX);
    for (unsigned i = 0; i < count; i++) uring_complete(io, cqes[i]);
    io_uring_cq_advance(&u->ring, count);
    return count > 0;
}

static bool uring_turn(struct io *io)
{
    struct uring *u = io->back;
    while (io->started < io->depth && !list_empty(&io->waiting)) {
        struct io_op *op = CONTAINER(list_pop(&io->waiting), struct io_op, link);
        io->started++;
        uring_start_op(io, op);
    }
    for (struct list *l; (l = list_pop(&io->net_waiting));) uring_start_net(io, CONTAINER(l, struct io_net, link));
    if (io_uring_sq_ready(&u->ring) > 0) uring_check(io_uring_submit_and_get_events(&u->ring));
    return uring_reap(io);
}

static bool uring_ready(struct io *io)
{
    struct uring *u = io->back;
    unsigned flags = IO_URING_READ_ONCE(*u->ring.sq.kflags);
    return io_uring_cq_ready(&u->ring) > 0 || (flags & (IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN)) != 0;
}

static void uring_wait(struct io *io, uint64_t timeout_ns)
{
    struct uring *u = io->back;
    struct io_uring_cqe *cqe;
    uring_arm_wake(io);
    if (timeout_ns == NO_TIMEOUT) {
        uring_check(io_uring_submit_and_wait(&u->ring, 1));
        return;
    }
    struct __kernel_timespec timeout = {(int64_t)(timeout_ns / IO_S_NS), (int64_t)(timeout_ns % IO_S_NS)};
    uring_check(io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, &timeout, NULL));
}

const struct backend backend_uring = {
    .name = "io_uring",
    .open = uring_open,
    .start = uring_start,
    .turn = uring_turn,
    .ready = uring_ready,
    .wait = uring_wait,
    .stop = uring_stop,
    .close = uring_close,
};
