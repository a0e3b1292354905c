/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An operation from submission to `done`.
 *
 * Submitting puts it at the end of io->waiting; the back end starts it in the loop's next turn, all of a turn in one go and
 * in order. What a transfer's result means (short, interrupted, failed) is decided here once for both back ends.
 */
#define _GNU_SOURCE
#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <sys/uio.h>
#include <unistd.h>

#include "io/loop.h"
#include "io/valgrind.h"

#define TRANSFER_MAX (64u << 20)
#define TRIES_MAX 250u /* EAGAIN: the kernel was short of something for a moment */

/* ---- submission ---- */

static bool is_aligned(const struct io_file *file, const struct io_op *op)
{
    if (!file->direct) return true;
    uint64_t all = op->offset | op->length | (uintptr_t)op->buf;
    return (all & (file->align - 1)) == 0;
}

static void op_submit(struct io *io, struct io_file *file, enum op_kind kind, struct io_op *op)
{
    assert(io_is_current(io));
    op->err = OK;
    op->bytes = 0;
    op->io = io;
    op->file = file;
    op->moved = 0;
    op->kind = (uint8_t)kind;
    op->tries = 0;
    io->under_way++;
    list_push(&io->waiting, &op->link);
}

static void op_transfer(struct io *io, struct io_file *file, enum op_kind kind, struct io_op *op)
{
    assert(op->length <= TRANSFER_MAX);
    assert(is_aligned(file, op));
    op_submit(io, file, kind, op);
}

void io_read(struct io *io, struct io_file *file, uint64_t offset, void *buf, uint32_t length, struct io_op *op)
{
    op->offset = offset;
    op->buf = buf;
    op->length = length;
    op->flags = 0;
    op_transfer(io, file, OP_READ, op);
}

void io_write(struct io *io, struct io_file *file, uint64_t offset, const void *buf, uint32_t length, unsigned flags,
              struct io_op *op)
{
    assert(!file->read_only);
    op->offset = offset;
    op->buf = (void *)(uintptr_t)buf; /* only read from: the kind says so */
    op->length = length;
    op->flags = (uint8_t)flags;
    op_transfer(io, file, OP_WRITE, op);
}

void io_sync(struct io *io, struct io_file *file, struct io_op *op)
{
    op->offset = op->length = 0;
    op->buf = NULL;
    op->flags = 0;
    op_submit(io, file, OP_SYNC, op);
}

void io_discard(struct io *io, struct io_file *file, uint64_t offset, uint64_t length, struct io_op *op)
{
    assert(!file->read_only);
    op->offset = offset;
    op->length = length;
    op->buf = NULL;
    op->flags = 0;
    op_submit(io, file, OP_DISCARD, op);
}

/* ---- completion ---- */

/* What the interface promises an operation can fail with; everything odd is a device that failed. */
static enum err op_error(int number)
{
    enum err e = file_error(number);
    return e == ERR_VANISHED || e == ERR_DEVICE_FULL ? e : ERR_IO;
}

static bool op_fail(struct io_op *op, enum err e)
{
    op->err = e;
    return true;
}

static bool op_moved(struct io_op *op, uint32_t bytes)
{
    assert(bytes <= op->length - op->moved);
    op->moved += bytes;
    if (op->moved == op->length) return true;
    if (bytes == 0) return op_fail(op, ERR_SHORT);
    /* Past the page cache a transfer stops off the grid only at the end of the file, and cannot go on from there. */
    if (op->file->direct && op->moved % op->file->align != 0) return op_fail(op, ERR_SHORT);
    return false;
}

bool op_advance(struct io_op *op, long result)
{
    if (result == -EINTR) return false;
    if (result == -EAGAIN && op->tries < TRIES_MAX) {
        op->tries++;
        return false;
    }
    switch ((enum op_kind)op->kind) {
    case OP_READ:
    case OP_WRITE: return result < 0 ? op_fail(op, op_error((int)-result)) : op_moved(op, (uint32_t)result);
    case OP_SYNC: return result < 0 ? op_fail(op, op_error((int)-result)) : true;
    case OP_DISCARD:
        if (result == -EOPNOTSUPP || result == -ENOSYS || result == -ENOTTY) return true;
        return result < 0 ? op_fail(op, op_error((int)-result)) : true;
    }
    assert(false && "an operation of no kind");
    return true;
}

void op_finish(struct io_op *op)
{
    struct io *io = op->io;
    assert(io_is_current(io));
    assert(io->under_way > 0);
    io->under_way--;
    op->bytes = op->moved;
    if (op->kind == OP_READ) VALGRIND_MAKE_MEM_DEFINED(op->buf, op->moved);
    op->done(op);
}

/* ---- on this thread ---- */

/* A durable write where the kernel knows no RWF_DSYNC: the whole write and then its data. */
static long write_then_sync(int fd, const struct iovec *iov, uint64_t offset)
{
    long n = pwritev(fd, iov, 1, (off_t)offset);
    return n >= 0 && fdatasync(fd) != 0 ? -1 : n;
}

static long op_attempt_write(const struct io_op *op)
{
    struct iovec iov = {(char *)op->buf + op->moved, op->length - op->moved};
    uint64_t offset = op->offset + op->moved;
    if (!(op->flags & IO_WRITE_DURABLE)) return pwritev(op->file->fd, &iov, 1, (off_t)offset);
    long n = pwritev2(op->file->fd, &iov, 1, (off_t)offset, RWF_DSYNC);
    bool unknown = n < 0 && (errno == EOPNOTSUPP || errno == ENOSYS);
    return unknown ? write_then_sync(op->file->fd, &iov, offset) : n;
}

static long op_attempt(const struct io_op *op)
{
    long n = 0;
    switch ((enum op_kind)op->kind) {
    case OP_READ:
        n = pread(op->file->fd, (char *)op->buf + op->moved, op->length - op->moved, (off_t)(op->offset + op->moved));
        break;
    case OP_WRITE: n = op_attempt_write(op); break;
    case OP_SYNC: n = fdatasync(op->file->fd); break;
    case OP_DISCARD: return file_discard(op->file, op->offset, op->length);
    }
    return n < 0 ? -errno : n;
}

void op_perform(struct io_op *op)
{
    while (!op_advance(op, op_attempt(op))) {
        if (op->tries > 0) sched_yield();
    }
}
