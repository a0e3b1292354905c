/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading and writing the two files. The frame around the content is exact text: it is read by scanning the numbers, printing
 * the frame again and comparing, so there is one form of it and no lenient parser.
 */
#include "api/catalog_file.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/hash.h"
#include "io/pair.h"

/* The first catalog of all is empty and its file short: when the second file is empty still, no change was ever answered. */
enum { FRAME_MAX = 160, TAIL = 3, FIRST_BYTES_MAX = 512, FILE_BYTES_MAX = FRAME_MAX + CATALOG_BYTES_MAX + TAIL };

static const char tail[TAIL + 1] = "\n}\n";

struct catalog_file {
    struct mem *mem;
    struct pair pair;
    uint64_t generation; /* newest that was written, or tried */
    struct catalog *now, *draft;
    char *buffer;    /* one file's bytes */
    bool committing; /* the draft and the buffer are not to be touched */
};

/* ---- the frame ---- */

static uint32_t content_crc(uint64_t generation, const char *content, size_t bytes)
{
    le64 g = put64(generation);
    return crc32c(crc32c(0, g.b, sizeof g.b), content, bytes);
}

static size_t frame_print(char frame[FRAME_MAX], uint64_t generation, size_t bytes, uint32_t crc)
{
    int length =
        snprintf(frame, FRAME_MAX, "{\"izar-catalog\":1,\"generation\":%llu,\"bytes\":%u,\"crc32c\":\"%08x\",\"catalog\":\n",
                 (unsigned long long)generation, (unsigned)bytes, crc);
    assert(length > 0 && length < FRAME_MAX);
    return (size_t)length;
}

/* The number after `name`, 0 when it is not there. */
static uint64_t frame_number(const char *frame, const char *name)
{
    const char *at = strstr(frame, name);
    return at != NULL ? strtoull(at + strlen(name), NULL, 10) : 0;
}

/* Where the content is in a file. */
struct content {
    uint64_t generation;
    size_t at, bytes;
};

/* ERR_CHECKSUM: not whole; ERR_NEW_FORMAT. */
static enum err content_find(const char *buffer, size_t size, struct content *ret_content)
{
    char frame[FRAME_MAX], again[FRAME_MAX];
    size_t length = size < FRAME_MAX - 1 ? size : FRAME_MAX - 1;
    memcpy(frame, buffer, length);
    frame[length] = '\0';
    if (strncmp(frame, "{\"izar-catalog\":", 16) == 0 && frame[16] != '1') return ERR_NEW_FORMAT;
    struct content c = {.generation = frame_number(frame, "\"generation\":"),
                        .bytes = (size_t)frame_number(frame, "\"bytes\":")};
    const char *end = strchr(frame, '\n');
    if (end == NULL || c.bytes > CATALOG_BYTES_MAX) return ERR_CHECKSUM;
    c.at = (size_t)(end + 1 - frame);
    if (c.at + c.bytes + TAIL > size) return ERR_CHECKSUM;
    const char *content = buffer + c.at;
    size_t printed = frame_print(again, c.generation, c.bytes, content_crc(c.generation, content, c.bytes));
    if (printed != c.at || memcmp(again, frame, printed) != 0) return ERR_CHECKSUM;
    if (memcmp(content + c.bytes, tail, TAIL) != 0) return ERR_CHECKSUM;
    *ret_content = c;
    return OK;
}

static enum err check(const void *at, size_t size, uint64_t *ret_generation)
{
    struct content content;
    TRY(content_find(at, size, &content));
    *ret_generation = content.generation;
    return OK;
}

/* ---- reading ---- */

static struct pair_copy copy_read(struct catalog_file *f, uint32_t i)
{
    return pair_read(&f->pair, i, check, f->buffer, FILE_BYTES_MAX);
}

static enum err write_both(struct catalog_file *f, const struct catalog *catalog)
{
    char frame[FRAME_MAX];
    size_t bytes = 0;
    TRY(catalog_encode(catalog, f->buffer + FRAME_MAX, CATALOG_BYTES_MAX, &bytes));
    uint64_t generation = ++f->generation; /* also when it fails: what may lie there already is never the newest again */
    size_t length = frame_print(frame, generation, bytes, content_crc(generation, f->buffer + FRAME_MAX, bytes));
    memmove(f->buffer + length, f->buffer + FRAME_MAX, bytes);
    memcpy(f->buffer, frame, length);
    memcpy(f->buffer + length + bytes, tail, TAIL);
    return pair_write(&f->pair, f->buffer, length + bytes + TAIL);
}

/* Takes the newer of the whole copies. */
static enum err load(struct catalog_file *f, struct problem *p)
{
    struct pair_copy copies[2] = {copy_read(f, 0), copy_read(f, 1)};
    bool fresh = copies[0].empty && copies[1].empty;
    if (fresh) return write_both(f, f->now);
    for (uint32_t i = 0; i < 2; i++) {
        if (copies[i].err == ERR_NEW_FORMAT) {
            return problem_tell(p, ERR_NEW_FORMAT, "catalog.%u.json was written by a newer version of Izar", i);
        }
    }
    bool good[2] = {copies[0].err == OK, copies[1].err == OK};
    if (!good[0] && copies[1].empty && copies[0].size < FIRST_BYTES_MAX) {
        problem_tell(p, OK, "the very first catalog was not finished (a crash on the first start); starting with an empty one");
        return write_both(f, f->now);
    }
    if (!good[0] && !good[1]) {
        problem_help(p, "restore one of the two from a backup, or move both away: volumes keep their data and come back under "
                        "the names recovered-ID");
        return problem_tell(p, ERR_CHECKSUM, "both copies of the catalog are damaged (catalog.0.json: %s, catalog.1.json: %s)",
                            copies[0].empty ? "empty" : err_text(copies[0].err),
                            copies[1].empty ? "empty" : err_text(copies[1].err));
    }
    uint32_t best = (uint32_t)pair_newest(copies);
    struct pair_copy copy = copy_read(f, best);
    struct content c;
    enum err err = copy.err == OK ? content_find(f->buffer, copy.size, &c) : copy.err;
    if (err != OK) return problem_tell(p, err, "catalog.%u.json changed while it was read", best);
    f->generation = c.generation;
    err = catalog_decode(f->buffer + c.at, c.bytes, f->now, p);
    if (err != OK) return err;
    if (good[0] && good[1] && copies[0].generation == copies[1].generation) return OK;
    problem_tell(p, OK, "catalog.%u.json %s; written again from generation %llu of the other", 1 - best,
                 good[1 - best] ? "is older (a crash between two writes)" : "is damaged", (unsigned long long)c.generation);
    return write_both(f, f->now);
}

/* ---- from outside ---- */

static enum err open_files(struct io *io, struct catalog_file *f, const char *folder, struct problem *p)
{
    static const char *const names[2] = {"catalog.0.json", "catalog.1.json"};
    uint32_t which = 0;
    enum err err = pair_open(io, folder, names, &f->pair, &which);
    if (err == OK || err == ERR_LIMIT) return err;
    return problem_tell(p, err, "cannot open %.300s/%s: %s", folder, names[which], err_text(err));
}

enum err catalog_file_open(struct io *io, struct mem *mem, const char *folder, struct catalog_file **ret_file,
                           struct problem *ret_problem)
{
    struct catalog_file *f = mem_alloc(mem, sizeof *f);
    *ret_problem = (struct problem){.err = OK};
    if (f == NULL) return ERR_NO_MEMORY;
    *f = (struct catalog_file){.mem = mem,
                               .now = mem_alloc(mem, sizeof *f->now),
                               .draft = mem_alloc(mem, sizeof *f->draft),
                               .buffer = mem_alloc(mem, FILE_BYTES_MAX)};
    enum err err = f->now != NULL && f->draft != NULL && f->buffer != NULL ? OK : ERR_NO_MEMORY;
    if (err == OK) catalog_init(f->now);
    if (err == OK) err = open_files(io, f, folder, ret_problem);
    if (err == OK) err = load(f, ret_problem);
    if (err != OK) {
        catalog_file_close(f);
        return err;
    }
    *ret_file = f;
    return OK;
}

void catalog_file_close(struct catalog_file *file)
{
    if (file == NULL) return;
    pair_close(&file->pair);
    mem_free(file->mem, file->buffer);
    mem_free(file->mem, file->draft);
    mem_free(file->mem, file->now);
    mem_free(file->mem, file);
}

struct catalog *catalog_now(struct catalog_file *file)
{
    return file->now;
}

struct catalog *catalog_draft(struct catalog_file *file)
{
    assert(!file->committing);
    memcpy(file->draft, file->now, sizeof *file->draft);
    return file->draft;
}

struct catalog *catalog_sketch(struct catalog_file *file)
{
    return file->draft;
}

enum err catalog_commit(struct catalog_file *file)
{
    assert(!file->committing);
    file->committing = true;
    enum err err = write_both(file, file->draft);
    file->committing = false;
    if (err != OK) return err;
    struct catalog *old = file->now;
    file->now = file->draft;
    file->draft = old;
    return OK;
}
