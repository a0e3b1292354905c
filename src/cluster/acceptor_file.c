/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The acceptor's two files. There are two images in memory: the one that holds, into which `now` points, and the one that is
 * being written. They change places when the new one is durable.
 */
#include "cluster/acceptor_file.h"

#include <assert.h>
#include <string.h>

#include "base/bytes.h"
#include "cluster/codec.h"
#include "io/pair.h"

enum { SECTOR_BYTES = 4096, IMAGE_ROOM = (ACCEPTOR_IMAGE_MAX / SECTOR_BYTES + 1) * SECTOR_BYTES };

static const char *const names[2] = {"acceptor.0", "acceptor.1"};

struct acceptor_file {
    struct mem *mem;
    struct pair pair;
    uint64_t generation; /* newest that was written, or tried */
    struct acceptor now;
    uint8_t *images[2];
    uint32_t current; /* of the images */
    bool busy, failed;
};

static enum err check(const void *at, size_t size, uint64_t *ret_generation)
{
    struct acceptor acceptor;
    return acceptor_image_decode(at, size, &acceptor, ret_generation);
}

/* [task] Makes it durable, then it holds. */
static enum err persist(struct acceptor_file *f, const struct acceptor *next)
{
    uint8_t *image = f->images[1 - f->current];
    size_t size = 0;
    uint64_t generation = ++f->generation; /* also when it fails: what may lie there already is never the newest again */
    TRY(acceptor_image_encode(next, generation, image, IMAGE_ROOM, &size));
    size_t padded = (size_t)round_up64(size, SECTOR_BYTES);
    memset(image + size, 0, padded - size);
    TRY(pair_write(&f->pair, image, padded));
    f->current = 1 - f->current;
    return acceptor_image_decode(image, padded, &f->now, &generation); /* its bytes lie in the image now */
}

/* Memory and open files; nothing is read. */
static enum err prepare(struct io *io, struct mem *mem, const char *folder, struct acceptor_file **ret_file)
{
    uint32_t which = 0;
    struct acceptor_file *f = mem_alloc(mem, sizeof *f);
    if (f == NULL) return ERR_NO_MEMORY;
    *f = (struct acceptor_file){.mem = mem, .images = {mem_alloc(mem, IMAGE_ROOM), mem_alloc(mem, IMAGE_ROOM)}};
    enum err err = f->images[0] != NULL && f->images[1] != NULL ? OK : ERR_NO_MEMORY;
    if (err == OK) err = pair_open(io, folder, names, &f->pair, &which);
    if (err != OK) {
        acceptor_file_close(f);
        return err;
    }
    *ret_file = f;
    return OK;
}

/* [task] Copy i is read into image i. ERR_NO_ACCEPTOR, ERR_ACCEPTOR_LOST, ERR_NEW_FORMAT, or of the device. */
static enum err load(struct acceptor_file *f, bool *ret_repaired)
{
    struct pair_copy copies[2];
    for (uint32_t i = 0; i < 2; i++) copies[i] = pair_read(&f->pair, i, check, f->images[i], IMAGE_ROOM);
    for (uint32_t i = 0; i < 2; i++)
        if (copies[i].err == ERR_NEW_FORMAT || err_class(copies[i].err) == ERR_CLASS_STOPPED) return copies[i].err;
    int newest = pair_newest(copies);
    for (uint32_t i = 0; i < 2 && newest < 0; i++) /* what could not be read now may be read another time: it is not lost */
        if (err_class(copies[i].err) == ERR_CLASS_DEVICE) return copies[i].err;
    if (newest < 0) return copies[0].empty && copies[1].empty ? ERR_NO_ACCEPTOR : ERR_ACCEPTOR_LOST;
    f->current = (uint32_t)newest;
    *ret_repaired = copies[1 - newest].err != OK || copies[0].generation != copies[1].generation;
    return acceptor_image_decode(f->images[newest], copies[newest].size, &f->now, &f->generation);
}

enum err acceptor_file_make(struct io *io, struct mem *mem, const char *folder, const struct acceptor *acceptor)
{
    struct acceptor_file *f = NULL;
    bool repaired = false;
    TRY(prepare(io, mem, folder, &f));
    enum err err = load(f, &repaired);
    if (err == OK)
        err = ERR_ACCEPTOR_EXISTS;
    else if (err == ERR_NO_ACCEPTOR || err == ERR_ACCEPTOR_LOST)
        err = persist(f, acceptor);
    acceptor_file_close(f);
    return err;
}

enum err acceptor_file_erase(struct io *io, struct mem *mem, const char *folder)
{
    struct acceptor_file *f = NULL;
    TRY(prepare(io, mem, folder, &f));
    enum err err = OK;
    for (uint32_t i = 0; err == OK && i < 2; i++) err = io_file_resize(f->pair.files[i], 0);
    if (err == OK) err = io_task_sync(io, f->pair.files[0]);
    if (err == OK) err = io_task_sync(io, f->pair.files[1]);
    acceptor_file_close(f);
    return err;
}

enum err acceptor_file_open(struct io *io, struct mem *mem, const char *folder, struct acceptor_file **ret_file,
                            bool *ret_repaired)
{
    struct acceptor_file *f = NULL;
    bool repaired = false;
    TRY(prepare(io, mem, folder, &f));
    enum err err = load(f, &repaired);
    if (err == OK) {
        struct acceptor next = f->now;
        acceptor_restart(&next);
        err = persist(f, &next);
    }
    if (err != OK) {
        acceptor_file_close(f);
        return err;
    }
    *ret_file = f;
    *ret_repaired = repaired;
    return OK;
}

void acceptor_file_close(struct acceptor_file *file)
{
    if (file == NULL) return;
    assert(!file->busy);
    pair_close(&file->pair);
    mem_free(file->mem, file->images[0]);
    mem_free(file->mem, file->images[1]);
    mem_free(file->mem, file);
}

const struct acceptor *acceptor_file_now(const struct acceptor_file *file)
{
    return &file->now;
}

enum err acceptor_file_handle(struct acceptor_file *file, const struct register_request *request,
                              struct register_answer *ret_answer)
{
    struct acceptor next;
    struct register_answer answer;
    assert(!file->busy);
    if (file->failed) return ERR_STOPPED;
    switch (acceptor_handle(&file->now, request, &next, &answer)) {
    case ACCEPTOR_SILENT: return ERR_NO_ACCEPTOR;
    case ACCEPTOR_ANSWER: break;
    case ACCEPTOR_PERSIST:
        file->busy = true;
        enum err err = persist(file, &next);
        file->busy = false;
        file->failed = err != OK;
        TRY(err);
    }
    *ret_answer = answer;
    return OK;
}
