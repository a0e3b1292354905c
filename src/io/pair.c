/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening, reading and writing the two files: the order of steps is what it is about.
 */
#include "io/pair.h"

#include <stdio.h>

#include "base/bytes.h"

enum { PATH_BYTES = 4096 };

enum err pair_open(struct io *io, const char *folder, const char *const names[2], struct pair *ret_pair, uint32_t *ret_which)
{
    struct pair pair = {.io = io};
    for (uint32_t i = 0; i < 2; i++) {
        char path[PATH_BYTES];
        int length = snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        enum err err = length < (int)sizeof path ? OK : ERR_LIMIT;
        if (err == OK) err = io_file_open(io, path, IO_OPEN_CREATE | IO_OPEN_LOCK, &pair.files[i]);
        if (err == OK) continue;
        pair_close(&pair);
        *ret_which = i;
        return err;
    }
    *ret_pair = pair;
    return OK;
}

void pair_close(struct pair *pair)
{
    for (uint32_t i = 0; i < 2; i++) {
        io_file_close(pair->files[i]);
        pair->files[i] = NULL;
    }
}

struct pair_copy pair_read(const struct pair *pair, uint32_t i, pair_check *check, void *buffer, size_t room)
{
    struct pair_copy copy = {0};
    struct io_file_info info;
    copy.err = io_file_info(pair->files[i], &info);
    if (copy.err != OK) return copy;
    copy.empty = info.size == 0;
    copy.size = (size_t)min64(info.size, room);
    if (copy.size > 0) copy.err = io_task_read(pair->io, pair->files[i], 0, buffer, (uint32_t)copy.size);
    if (copy.err == OK) copy.err = copy.empty ? ERR_TRUNCATED : check(buffer, copy.size, &copy.generation);
    return copy;
}

int pair_newest(const struct pair_copy copies[2])
{
    bool first = copies[0].err == OK, second = copies[1].err == OK;
    if (first && second) return copies[1].generation > copies[0].generation;
    return first ? 0 : second ? 1 : -1;
}

enum err pair_write(const struct pair *pair, const void *at, size_t size)
{
    for (uint32_t i = 0; i < 2; i++) {
        TRY(io_task_write(pair->io, pair->files[i], 0, at, (uint32_t)size, IO_WRITE_DURABLE));
        TRY(io_file_resize(pair->files[i], size)); /* what lies behind has no meaning: this is for people who look */
    }
    return OK;
}
