/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading and writing the two files of the identity.
 */
#include "cluster/identity_file.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/hash.h"

#define MAGIC "IZARIDEN"
enum { MAGIC_BYTES = 8, VERSION = 2, VERSION_WITHOUT_POOL_KEY = 1, COPIES = 2 };

struct disk_identity {
    uint8_t magic[MAGIC_BYTES];
    le32 version, bytes;
    le64 generation;
    le32 crc, node;
    uint8_t cluster[CLUSTER_ID_BYTES];
    le32 entries, boot;
};
SIZE(disk_identity, 56);
AT(disk_identity, crc, 24);
AT(disk_identity, cluster, 32);

struct disk_entry_of_book {
    uint8_t secret_digest[32];
    le64 expires_s;
    le32 node;
    uint8_t role, used, zero[2];
    uint8_t request_digest[32];
};
SIZE(disk_entry_of_book, 80);

static_assert(IDENTITY_FILE_MAX >= sizeof(struct disk_identity) + 4 * (4 + DER_MAX) +
                                       TOKEN_BOOK_MAX * sizeof(struct disk_entry_of_book) + POOL_KEY_BYTES,
              "the largest identity fits");

struct identity_file {
    struct io *io;
    struct mem *mem;
    struct io_file *files[COPIES];
    uint64_t generation; /* newest that was written, or tried */
    bool known;
    struct identity identity;
    struct token_book book;
    uint8_t *buffer; /* one file's bytes */
};

/* ---- bytes ---- */

static uint8_t *add_der(uint8_t *at, const struct der *der)
{
    memcpy(at, put32(der->bytes).b, 4);
    memcpy(at + 4, der->at, der->bytes);
    return at + 4 + der->bytes;
}

static uint8_t *add_entry(uint8_t *at, const struct token_entry *e)
{
    struct disk_entry_of_book disk = {
        .expires_s = put64(e->expires_s), .node = put32(e->node), .role = e->role, .used = e->used};
    memcpy(disk.secret_digest, e->secret_digest, sizeof disk.secret_digest);
    memcpy(disk.request_digest, e->request_digest, sizeof disk.request_digest);
    memcpy(at, &disk, sizeof disk);
    return at + sizeof disk;
}

uint32_t identity_encode(const struct identity *identity, const struct token_book *book, uint64_t generation,
                         uint8_t ret_at[IDENTITY_FILE_MAX])
{
    bool with_key = identity->pool_key.known;
    struct disk_identity head = {.version = put32(with_key ? VERSION : VERSION_WITHOUT_POOL_KEY),
                                 .generation = put64(generation),
                                 .node = put32(identity->node),
                                 .entries = put32(TOKEN_BOOK_MAX),
                                 .boot = put32(identity->boot)};
    uint8_t *at = ret_at + sizeof head;
    at = add_der(at, &identity->ca);
    at = add_der(at, &identity->ca_key);
    at = add_der(at, &identity->key);
    at = add_der(at, &identity->certificate);
    for (uint32_t i = 0; i < TOKEN_BOOK_MAX; i++) at = add_entry(at, &book->entries[i]);
    if (with_key) memcpy(at, identity->pool_key.at, POOL_KEY_BYTES);
    at += with_key ? POOL_KEY_BYTES : 0;
    uint32_t bytes = (uint32_t)(at - ret_at);
    memcpy(head.magic, MAGIC, MAGIC_BYTES);
    memcpy(head.cluster, identity->cluster.b, sizeof head.cluster);
    head.bytes = put32(bytes);
    memcpy(ret_at, &head, sizeof head);
    head.crc = put32(crc32c(0, ret_at, bytes));
    memcpy(ret_at, &head, sizeof head);
    return bytes;
}

static void take_der(struct cursor *c, struct der *der)
{
    le32 bytes = {{0}};
    const void *at = cursor_take(c, 4);
    if (at != NULL) memcpy(bytes.b, at, 4);
    der->bytes = get32(bytes);
    if (der->bytes > DER_MAX) c->bad = true;
    at = cursor_take(c, der->bytes);
    if (at != NULL) memcpy(der->at, at, der->bytes);
}

static void take_entry(struct cursor *c, struct token_entry *e)
{
    struct disk_entry_of_book disk;
    const void *at = cursor_take(c, sizeof disk);
    if (at == NULL) return;
    memcpy(&disk, at, sizeof disk);
    *e = (struct token_entry){
        .expires_s = get64(disk.expires_s), .node = get32(disk.node), .role = disk.role, .used = disk.used};
    memcpy(e->secret_digest, disk.secret_digest, sizeof e->secret_digest);
    memcpy(e->request_digest, disk.request_digest, sizeof e->request_digest);
}

static void take_pool_key(struct cursor *c, struct pool_key *key)
{
    const void *at = cursor_take(c, sizeof key->at);
    if (at == NULL) return;
    key->known = true;
    memcpy(key->at, at, sizeof key->at);
}

/* Whole, or nobody. */
static bool is_plausible(const struct identity *identity)
{
    if (identity->node != 0) return identity->node <= NODE_NUMBER_MAX;
    return identity->ca.bytes + identity->ca_key.bytes + identity->key.bytes + identity->certificate.bytes == 0;
}

static enum err head_check(const void *at, size_t size, struct disk_identity *ret_head)
{
    struct disk_identity head;
    if (size < sizeof head) return ERR_TRUNCATED;
    memcpy(&head, at, sizeof head);
    if (memcmp(head.magic, MAGIC, MAGIC_BYTES) != 0) return ERR_NOT_OURS;
    if (get32(head.version) > VERSION) return ERR_NEW_FORMAT;
    uint32_t bytes = get32(head.bytes), crc = get32(head.crc);
    if (bytes < sizeof head || bytes > IDENTITY_FILE_MAX) return ERR_DECODE;
    if (bytes > size) return ERR_TRUNCATED;
    head.crc = put32(0);
    if (crc32c(crc32c(0, &head, sizeof head), (const uint8_t *)at + sizeof head, bytes - sizeof head) != crc)
        return ERR_CHECKSUM;
    *ret_head = head;
    return OK;
}

enum err identity_decode(const void *at, size_t size, struct identity *ret_identity, struct token_book *ret_book,
                         uint64_t *ret_generation)
{
    struct disk_identity head;
    struct identity identity = {.node = 0};
    struct token_book book = {.entries[0].node = 0};
    TRY(head_check(at, size, &head));
    struct cursor c = cursor_of((const uint8_t *)at + sizeof head, get32(head.bytes) - sizeof head);
    take_der(&c, &identity.ca);
    take_der(&c, &identity.ca_key);
    take_der(&c, &identity.key);
    take_der(&c, &identity.certificate);
    identity.node = get32(head.node);
    identity.boot = get32(head.boot);
    memcpy(identity.cluster.b, head.cluster, sizeof identity.cluster.b);
    uint32_t entries = get32(head.entries);
    if (c.bad || entries > TOKEN_BOOK_MAX || !is_plausible(&identity)) return ERR_DECODE;
    for (uint32_t i = 0; i < entries; i++) take_entry(&c, &book.entries[i]);
    if (get32(head.version) > VERSION_WITHOUT_POOL_KEY) take_pool_key(&c, &identity.pool_key);
    if (c.bad || c.left != 0) return ERR_DECODE;
    *ret_identity = identity;
    *ret_book = book;
    *ret_generation = get64(head.generation);
    return OK;
}

/* ---- files ---- */

/* [task] Writes the bytes that lie in the buffer. */
static enum err copy_write(struct identity_file *f, uint32_t i, uint32_t bytes)
{
    TRY(io_task_write(f->io, f->files[i], 0, f->buffer, bytes, IO_WRITE_DURABLE));
    return io_file_resize(f->files[i], bytes);
}

/* A failed try uses its generation up: what may lie there already is never the newest again. */
static enum err write_both(struct identity_file *f, const struct identity *identity, const struct token_book *book)
{
    uint32_t bytes = identity_encode(identity, book, ++f->generation, f->buffer);
    TRY(copy_write(f, 0, bytes));
    return copy_write(f, 1, bytes);
}

struct copy {
    enum err err;
    bool empty;
    uint64_t generation;
    struct identity identity;
    struct token_book book;
};

static void copy_read(struct identity_file *f, uint32_t i, struct copy *ret)
{
    struct io_file_info info;
    ret->err = io_file_info(f->files[i], &info);
    if (ret->err != OK) return;
    uint32_t bytes = (uint32_t)min64(info.size, IDENTITY_FILE_MAX);
    ret->empty = bytes == 0;
    if (bytes > 0) ret->err = io_task_read(f->io, f->files[i], 0, f->buffer, bytes);
    if (ret->err == OK && bytes > 0) ret->err = identity_decode(f->buffer, bytes, &ret->identity, &ret->book, &ret->generation);
}

/* Takes the newer of the whole copies. The first save of all may have left one half: then nobody was answered. */
static enum err load(struct identity_file *f)
{
    struct copy *copies = mem_alloc(f->mem, COPIES * sizeof *copies);
    if (copies == NULL) return ERR_NO_MEMORY;
    for (uint32_t i = 0; i < COPIES; i++) copy_read(f, i, &copies[i]);
    bool good[COPIES] = {copies[0].err == OK && !copies[0].empty, copies[1].err == OK && !copies[1].empty};
    uint32_t best = !good[0] || (good[1] && copies[1].generation > copies[0].generation) ? 1 : 0;
    enum err err = OK;
    if (copies[0].err == ERR_NEW_FORMAT || copies[1].err == ERR_NEW_FORMAT) {
        err = ERR_NEW_FORMAT;
    } else if (good[best]) {
        f->known = copies[best].identity.node != 0;
        f->identity = copies[best].identity;
        f->book = copies[best].book;
        f->generation = copies[best].generation;
        if (!good[1 - best] || copies[1 - best].generation != f->generation) err = write_both(f, &f->identity, &f->book);
    } else if (!copies[1].empty) {
        err = copies[1].err; /* the second is written when the first is whole: so something was lost */
    }
    mem_free(f->mem, copies);
    return err;
}

enum err identity_file_open(struct io *io, struct mem *mem, const char *folder, struct identity_file **ret_file)
{
    char path[4096];
    struct identity_file *f = mem_alloc(mem, sizeof *f);
    if (f == NULL) return ERR_NO_MEMORY;
    f->io = io;
    f->mem = mem;
    f->buffer = mem_alloc(mem, IDENTITY_FILE_MAX);
    enum err err = f->buffer != NULL ? OK : ERR_NO_MEMORY;
    for (uint32_t i = 0; err == OK && i < COPIES; i++) {
        bool fits = snprintf(path, sizeof path, "%s/identity.%u", folder, i) < (int)sizeof path;
        err = fits ? io_file_open(io, path, IO_OPEN_CREATE | IO_OPEN_LOCK, &f->files[i]) : ERR_LIMIT;
    }
    if (err == OK) err = load(f);
    if (err == OK)
        *ret_file = f;
    else
        identity_file_close(f);
    return err;
}

void identity_file_close(struct identity_file *file)
{
    if (file == NULL) return;
    for (uint32_t i = 0; i < COPIES; i++) io_file_close(file->files[i]);
    mem_free(file->mem, file->buffer);
    mem_free(file->mem, file);
}

const struct identity *identity_file_now(const struct identity_file *file)
{
    return file->known ? &file->identity : NULL;
}

const struct identity *identity_file_last(const struct identity_file *file)
{
    return file->known || file->identity.pool_key.known ? &file->identity : NULL;
}

const struct token_book *identity_file_book(const struct identity_file *file)
{
    return &file->book;
}

enum err identity_file_save(struct identity_file *file, const struct identity *identity, const struct token_book *book)
{
    TRY(write_both(file, identity, book));
    file->known = true;
    file->identity = *identity;
    file->book = *book;
    return OK;
}

enum err identity_file_forget(struct identity_file *file)
{
    struct identity nobody = {.cluster = file->identity.cluster, .pool_key = file->identity.pool_key};
    struct token_book book = {.entries[0].node = 0};
    TRY(write_both(file, &nobody, &book));
    file->known = false;
    file->identity = nobody;
    file->book = book;
    return OK;
}
