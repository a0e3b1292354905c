/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stretches as bytes, made and taken apart. Whoever takes one from another node has it checked once, whole, together with the
 * step that it belongs to.
 */
#include "volume/replica/stretch.h"

#include "volume/replica/content.h"

/* ---- making one ---- */

static void counts_set(const struct stretch_writer *w)
{
    struct wire_stretch head = {
        .version = STRETCH_VERSION, .walked = put16((uint16_t)w->walked), .recorded = put16((uint16_t)w->recorded)};
    memcpy(w->bytes, &head, sizeof head);
}

void stretch_begin(struct stretch_writer *w, uint8_t *bytes)
{
    *w = (struct stretch_writer){.bytes = bytes, .used = sizeof(struct wire_stretch)};
    counts_set(w);
}

static uint8_t wire_kind(enum entry_kind kind)
{
    return kind == ENTRY_NEW ? WIRE_RUN_DATA : kind == ENTRY_ZERO ? WIRE_RUN_ZERO : WIRE_RUN_UNMAP;
}

static bool has_room(const struct stretch_writer *w, uint32_t bytes)
{
    return bytes <= STRETCH_BYTES_MAX - w->used;
}

static void run_set(struct stretch_writer *w, enum entry_kind kind, uint64_t lba, uint32_t count)
{
    struct wire_stretch_run run = {.lba = put64(lba), .count = put32(count), .kind = wire_kind(kind)};
    memcpy(w->bytes + w->run, &run, sizeof run);
    w->kind = kind;
    w->count = count;
    w->end = lba + count;
}

static void run_begin(struct stretch_writer *w, enum entry_kind kind, uint64_t lba, uint32_t count)
{
    w->run = w->used;
    w->used += (uint32_t)sizeof(struct wire_stretch_run);
    run_set(w, kind, lba, count);
}

static uint32_t block_bytes(const struct block_digest *digest)
{
    return (uint32_t)sizeof(struct wire_stretch_block) + chunk_stored(digest->size);
}

void wire_block_encode(const struct block_digest *digest, struct wire_stretch_block *ret_block)
{
    *ret_block = (struct wire_stretch_block){.reserved = {0}};
    if (chunk_stored(digest->size) == 0) return;
    memcpy(ret_block->print, digest->print.b, sizeof ret_block->print);
    ret_block->crc = put32(digest->crc);
    ret_block->size = put16(digest->size);
}

static void block_put(struct stretch_writer *w, const struct block_digest *digest)
{
    struct wire_stretch_block block;
    uint32_t stored = chunk_stored(digest->size);
    wire_block_encode(digest, &block);
    memcpy(w->bytes + w->used, &block, sizeof block);
    w->used += (uint32_t)sizeof block;
    if (stored > 0) memmove(w->bytes + w->used, digest->stored, stored); /* it may be the end of these bytes */
    w->used += stored;
}

/* Joins the run at hand, or begins another. */
static bool walk_more(struct stretch_writer *w, enum entry_kind kind, uint64_t lba, uint32_t count, uint32_t most,
                      uint32_t bytes)
{
    assert(w->recorded == 0);
    bool joins = w->walked > 0 && w->kind == kind && w->end == lba && w->count + count <= most;
    if (joins) {
        if (!has_room(w, bytes)) return false;
        run_set(w, kind, lba - w->count, w->count + count);
        return true;
    }
    if (w->walked == STRETCH_RUNS || !has_room(w, (uint32_t)sizeof(struct wire_stretch_run) + bytes)) return false;
    run_begin(w, kind, lba, count);
    w->walked++;
    counts_set(w);
    return true;
}

bool stretch_walk_range(struct stretch_writer *w, enum entry_kind kind, uint64_t lba, uint32_t count)
{
    assert(count > 0 && count <= RECORD_UNMAP_MAX);
    return walk_more(w, kind, lba, count, RECORD_UNMAP_MAX, 0);
}

bool stretch_walk_block(struct stretch_writer *w, uint64_t lba, const struct block_digest *digest)
{
    if (chunk_stored(digest->size) == 0) return stretch_walk_range(w, ENTRY_ZERO, lba, 1);
    if (w->data == STRETCH_DATA || !walk_more(w, ENTRY_NEW, lba, 1, RECORD_BLOCKS_MAX, block_bytes(digest))) return false;
    block_put(w, digest);
    w->data++;
    return true;
}

bool stretch_record(struct stretch_writer *w, enum entry_kind kind, uint64_t lba, uint32_t count)
{
    if (w->recorded == REPLICA_STEP_RECORDS || !has_room(w, (uint32_t)sizeof(struct wire_stretch_run))) return false;
    run_begin(w, kind, lba, count);
    w->recorded++;
    counts_set(w);
    return true;
}

bool stretch_record_block(struct stretch_writer *w, const struct block_digest *digest)
{
    assert(w->recorded > 0 && w->kind == ENTRY_NEW);
    if (!has_room(w, block_bytes(digest))) return false;
    block_put(w, digest);
    return true;
}

/* ---- reading one ---- */

enum err stretch_open(const uint8_t *bytes, size_t size, struct stretch_reader *ret_reader)
{
    struct stretch_reader r = {.at = cursor_of(bytes, size)};
    struct wire_stretch head;
    const void *at = size <= STRETCH_BYTES_MAX ? cursor_take(&r.at, sizeof head) : NULL;
    if (at == NULL) return ERR_DECODE;
    memcpy(&head, at, sizeof head);
    r.walked = get16(head.walked);
    r.recorded = get16(head.recorded);
    if (head.version != STRETCH_VERSION || !bytes_are_zero(head.reserved, sizeof head.reserved)) return ERR_DECODE;
    if (r.walked > STRETCH_RUNS || r.recorded > REPLICA_STEP_RECORDS) return ERR_DECODE;
    *ret_reader = r;
    return OK;
}

enum err wire_block_decode(const struct wire_stretch_block *block, struct block_digest *ret_digest)
{
    uint16_t size = get16(block->size);
    if (!bytes_are_zero(block->reserved, sizeof block->reserved)) return ERR_DECODE;
    *ret_digest = (struct block_digest){.crc = get32(block->crc), .size = size};
    memcpy(ret_digest->print.b, block->print, sizeof block->print);
    if (size == 0) return bytes_are_zero(block, sizeof *block) ? OK : ERR_DECODE;
    return digest_measure(ret_digest);
}

static enum err block_take(struct cursor *c, struct block_digest *ret_digest)
{
    struct wire_stretch_block block;
    const void *at = cursor_take(c, sizeof block);
    if (at == NULL) return ERR_DECODE;
    memcpy(&block, at, sizeof block);
    TRY(wire_block_decode(&block, ret_digest));
    ret_digest->stored = cursor_take(c, chunk_stored(ret_digest->size));
    return ret_digest->stored != NULL ? OK : ERR_DECODE;
}

enum err stretch_next(struct stretch_reader *r, struct stretch_run *ret_run)
{
    static const enum entry_kind kinds[] = {
        [WIRE_RUN_DATA] = ENTRY_NEW, [WIRE_RUN_ZERO] = ENTRY_ZERO, [WIRE_RUN_UNMAP] = ENTRY_UNMAP};
    struct wire_stretch_run run;
    assert(r->walked + r->recorded > 0);
    const void *at = cursor_take(&r->at, sizeof run);
    if (at == NULL) return ERR_DECODE;
    memcpy(&run, at, sizeof run);
    uint32_t count = get32(run.count);
    uint64_t lba = get64(run.lba);
    if (run.kind < WIRE_RUN_DATA || run.kind > WIRE_RUN_UNMAP || !bytes_are_zero(run.reserved, sizeof run.reserved))
        return ERR_DECODE;
    enum entry_kind kind = kinds[run.kind];
    if (count == 0 || count > (kind == ENTRY_NEW ? RECORD_BLOCKS_MAX : RECORD_UNMAP_MAX)) return ERR_DECODE;
    if (lba >= VOLUME_BLOCKS_MAX || count > VOLUME_BLOCKS_MAX - lba) return ERR_DECODE;
    ret_run->kind = kind;
    ret_run->lba = lba;
    ret_run->count = count;
    for (uint32_t i = 0; kind == ENTRY_NEW && i < count; i++) TRY(block_take(&r->at, &ret_run->digests[i]));
    if (r->walked > 0)
        r->walked--;
    else
        r->recorded--;
    return OK;
}

bool stretch_is_needed(const struct replica_step *step)
{
    for (uint32_t i = 0; i < step->count; i++)
        if (step->records[i].change.kind != REPLICA_NOOP) return true;
    return step->stretch != 0;
}

/* Within what was walked, and after the run before it. */
static bool is_of_walk(const struct stretch_run *run, const struct replica_step *step, uint64_t after)
{
    uint64_t end = run->lba + run->count;
    return step->stretch != 0 && run->lba >= after &&
           (step->stretch >= REPLICA_WALK_END - step->cursor || end <= step->cursor + step->stretch);
}

static bool is_of_record(const struct stretch_run *run, const struct replica_change *change)
{
    bool kind = (change->kind == REPLICA_WRITE) == (run->kind == ENTRY_NEW);
    return kind && run->lba == change->lba && run->count == change->count;
}

static enum err run_check(const struct stretch_run *run)
{
    for (uint32_t i = 0; run->kind == ENTRY_NEW && i < run->count; i++)
        if (run->digests[i].size != 0) TRY(digest_check(&run->digests[i]));
    return OK;
}

enum err stretch_check(const uint8_t *bytes, size_t size, const struct replica_step *step, uint64_t blocks)
{
    struct stretch_reader r;
    struct stretch_run run;
    uint64_t after = step->cursor;
    TRY(stretch_open(bytes, size, &r));
    while (r.walked > 0) {
        TRY(stretch_next(&r, &run));
        TRY(run_check(&run));
        if (!is_of_walk(&run, step, after) || run.lba + run.count > blocks) return ERR_DECODE;
        after = run.lba + run.count;
    }
    for (uint32_t i = 0; i < step->count; i++) {
        if (step->records[i].change.kind == REPLICA_NOOP) continue;
        if (r.recorded == 0) return ERR_DECODE;
        TRY(stretch_next(&r, &run));
        TRY(run_check(&run));
        if (!is_of_record(&run, &step->records[i].change) || run.lba + run.count > blocks) return ERR_DECODE;
    }
    return r.recorded == 0 && r.at.left == 0 ? OK : ERR_DECODE;
}
