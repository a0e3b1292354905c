/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two files that hold the same small thing, so that it is never lost.
 *
 * A change writes one file, then the other, each durable before the next step, and is answered after both. So
 *   - a crash at any moment leaves one file that is whole: the new content, or the one before;
 *   - what was answered is in both, and damage to either of them later loses nothing.
 * Each content carries a generation and guards itself by a checksum, which only its owner understands. On opening, the newest
 * whole file counts; its owner writes both again before it answers anything.
 *
 * Shared by the real seam and the simulator. Lives on one loop.
 */
#ifndef IZAR_IO_PAIR_H
#define IZAR_IO_PAIR_H

#include "io/io.h"

struct pair {
    struct io *io;
    struct io_file *files[2];
};

/* One file as it was read. */
struct pair_copy {
    enum err err; /* OK: whole; else what the check said, or the device */
    bool empty;   /* nothing was ever written */
    size_t size;  /* read */
    uint64_t generation;
};

/* Whether these bytes are a whole content, and of which generation. */
typedef enum err pair_check(const void *at, size_t size, uint64_t *ret_generation);

/* Opens or makes both, locked. ERR_LIMIT (the path is too long), else what io_file_open says; then none is open, and
 * `ret_which` is the one that was refused. */
enum err pair_open(struct io *io, const char *folder, const char *const names[2], struct pair *ret_pair, uint32_t *ret_which);
void pair_close(struct pair *pair);
/* [task] Reads at most `room` bytes of file `i` and has them checked. */
struct pair_copy pair_read(const struct pair *pair, uint32_t i, pair_check *check, void *buffer, size_t room);
/* The newest whole one; -1: none. */
int pair_newest(const struct pair_copy copies[2]);
/* [task] Both, one after the other. On failure each holds the new content, the one before, or neither. */
enum err pair_write(const struct pair *pair, const void *at, size_t size);

#endif
