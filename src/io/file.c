/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening, locking and measuring files and block devices. errno dies here, in file_error.
 *
 * Locks are flock's: they belong to the open file, not to the process, so a second open in the same process conflicts too.
 * A block device that is to be written is opened O_EXCL on top of it, which the kernel refuses for what is mounted or
 * belongs to a volume group, whether its user knows flock or not.
 */
#define _GNU_SOURCE
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "io/loop.h"

/* 10 ms apart. Udev locks a device for a moment when it appears; and the kernel closes the files of a killed process that used
 * io_uring only some time after its end. */
#define LOCK_TRIES 200u

enum err file_error(int number)
{
    switch (number) {
    case 0: return OK;
    case ENODEV:
    case ENXIO:
    case ENOMEDIUM:
    case ESHUTDOWN:
    case ESTALE: return ERR_VANISHED;
    case ENOSPC:
    case EDQUOT:
    case EFBIG: return ERR_DEVICE_FULL;
    case EACCES:
    case EPERM:
    case EROFS: return ERR_PERMISSION;
    case ENOENT:
    case ENOTDIR: return ERR_NO_FILE;
    case EEXIST: return ERR_FILE_EXISTS;
    case EWOULDBLOCK: /* EAGAIN, from flock */
    case EBUSY:
    case ETXTBSY: return ERR_LOCKED;
    case ENOMEM:
    case EMFILE:
    case ENFILE: return ERR_NO_MEMORY;
    case EINVAL:
    case ENAMETOOLONG:
    case ELOOP: return ERR_ARGUMENT;
    case EISDIR:
    case EOPNOTSUPP:
    case ENOSYS: return ERR_UNSUPPORTED;
    default: return ERR_IO;
    }
}

/* ---- what kind of file it is ---- */

static uint32_t direct_align(int fd)
{
    uint32_t align = 0;
#ifdef STATX_DIOALIGN
    struct statx sx;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) == 0 && (sx.stx_mask & STATX_DIOALIGN)) {
        align = sx.stx_dio_offset_align > sx.stx_dio_mem_align ? sx.stx_dio_offset_align : sx.stx_dio_mem_align;
    }
#endif
    int sector;
    if (align == 0 && ioctl(fd, BLKSSZGET, &sector) == 0) align = (uint32_t)sector;
    if (align == 0) return IO_ALIGN;
    return align < 512 ? 512 : align;
}

/* The kernel tells by a file in /sys; a partition's queue is its disk's. */
static bool device_discards(const struct stat *st)
{
    static const char *const places[] = {"/sys/dev/block/%u:%u/queue/discard_max_bytes",
                                         "/sys/dev/block/%u:%u/../queue/discard_max_bytes"};
    unsigned long long most = 0;
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        char path[96];
        snprintf(path, sizeof path, places[i], major(st->st_rdev), minor(st->st_rdev));
        FILE *f = fopen(path, "re");
        if (f == NULL) continue;
        if (fscanf(f, "%llu", &most) != 1) most = 0;
        fclose(f);
    }
    return most > 0;
}

/* Asked by punching a hole where the file has ended already. */
static bool plain_file_discards(int fd, const struct stat *st)
{
    off_t beyond = (st->st_size + IO_ALIGN - 1) / IO_ALIGN * IO_ALIGN;
    return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, beyond, IO_ALIGN) == 0;
}

static enum err file_learn(struct io_file *file)
{
    struct stat st;
    if (fstat(file->fd, &st) != 0) return file_error(errno);
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) return ERR_UNSUPPORTED;
    file->is_device = S_ISBLK(st.st_mode);
    file->align = direct_align(file->fd);
    if (file->read_only) return OK;
    file->discards = file->is_device ? device_discards(&st) : plain_file_discards(file->fd, &st);
    return OK;
}

/* ---- opening ---- */

static int open_flags(unsigned flags, bool is_device)
{
    int how = O_CLOEXEC | O_NOCTTY | O_NONBLOCK; /* NONBLOCK: a FIFO must not hold us up; it means nothing to files */
    how |= flags & IO_OPEN_READ_ONLY ? O_RDONLY : O_RDWR;
    if (flags & IO_OPEN_CREATE) how |= O_CREAT;
    if (flags & IO_OPEN_CREATE && flags & IO_OPEN_EXCLUSIVE) how |= O_EXCL;
    if (flags & IO_OPEN_DIRECT) how |= O_DIRECT;
    if (is_device && flags & IO_OPEN_LOCK && !(flags & IO_OPEN_READ_ONLY)) how = (how & ~O_CREAT) | O_EXCL;
    return how;
}

static enum err file_open_fd(struct io_file *file, const char *path, unsigned flags)
{
    struct stat st;
    bool is_device = stat(path, &st) == 0 && S_ISBLK(st.st_mode);
    if (is_device && flags & IO_OPEN_CREATE && flags & IO_OPEN_EXCLUSIVE) return ERR_FILE_EXISTS;
    int how = open_flags(flags, is_device);
    file->fd = open(path, how, 0600);
    if (file->fd < 0 && errno == EINVAL && how & O_DIRECT) { /* the file system has no direct I/O */
        how &= ~O_DIRECT;
        file->fd = open(path, how, 0600);
    }
    if (file->fd < 0) return file_error(errno);
    file->direct = how & O_DIRECT;
    file->read_only = flags & IO_OPEN_READ_ONLY;
    return OK;
}

static enum err file_lock(struct io_file *file)
{
    const struct timespec pause = {0, 10000000};
    int how = (file->read_only ? LOCK_SH : LOCK_EX) | LOCK_NB;
    for (uint32_t tries = LOCK_TRIES; flock(file->fd, how) != 0;) {
        if (errno == EINTR) continue;
        if (errno != EWOULDBLOCK || --tries == 0) return file_error(errno);
        nanosleep(&pause, NULL);
    }
    file->locked = true;
    return OK;
}

/* A file that is empty may be new, and a new file is not there after a power loss before its directory says so. */
static enum err sync_directory_of(const struct io_file *file, const char *path)
{
    struct stat st;
    if (fstat(file->fd, &st) != 0) return file_error(errno);
    if (!S_ISREG(st.st_mode) || st.st_size > 0) return OK;
    char *copy = strdup(path);
    if (copy == NULL) return ERR_NO_MEMORY;
    int dir = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(copy);
    if (dir < 0) return errno == EACCES ? OK : file_error(errno); /* may be writable and yet not readable */
    int failed = fsync(dir) == 0 || errno == EINVAL ? 0 : errno;
    close(dir);
    return file_error(failed);
}

static enum err file_open_all(struct io_file *file, const char *path, unsigned flags)
{
    TRY(file_open_fd(file, path, flags));
    TRY(file_learn(file));
    if (flags & IO_OPEN_LOCK) TRY(file_lock(file));
    return flags & IO_OPEN_CREATE ? sync_directory_of(file, path) : OK;
}

enum err io_file_open(struct io *io, const char *path, unsigned flags, struct io_file **ret_file)
{
    (void)io;
    struct io_file *file = calloc(1, sizeof *file);
    if (file == NULL) return ERR_NO_MEMORY;
    file->fd = -1;
    enum err e = file_open_all(file, path, flags);
    if (e != OK) {
        io_file_close(file);
        return e;
    }
    *ret_file = file;
    return OK;
}

void io_file_close(struct io_file *file)
{
    if (file == NULL) return;
    /* The kernel may hold the open file a little longer than we do (io_uring); the lock ends now. */
    if (file->locked) flock(file->fd, LOCK_UN);
    if (file->fd >= 0) close(file->fd);
    free(file);
}

/* ---- the rest ---- */

enum err io_file_info(struct io_file *file, struct io_file_info *ret_info)
{
    struct stat st;
    uint64_t size = 0;
    if (fstat(file->fd, &st) != 0) return file_error(errno);
    if (file->is_device && ioctl(file->fd, BLKGETSIZE64, &size) != 0) return file_error(errno);
    *ret_info = (struct io_file_info){
        .size = file->is_device ? size : (uint64_t)st.st_size,
        .align = file->align,
        .is_device = file->is_device,
        .discards = file->discards,
    };
    return OK;
}

enum err io_file_resize(struct io_file *file, uint64_t size)
{
    if (file->is_device) return ERR_UNSUPPORTED;
    if (size > INT64_MAX) return ERR_DEVICE_FULL;
    while (ftruncate(file->fd, (off_t)size) != 0) {
        if (errno != EINTR) return file_error(errno);
    }
    return OK;
}

int file_discard(const struct io_file *file, uint64_t offset, uint64_t length)
{
    const int hole = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    uint64_t range[2] = {offset, length};
    int failed;
    if (!file->discards || length == 0) return 0;
    if (file->is_device) {
        failed = ioctl(file->fd, BLKDISCARD, range);
    } else {
        failed = fallocate(file->fd, hole, (off_t)offset, (off_t)length);
    }
    return failed ? -errno : 0;
}
