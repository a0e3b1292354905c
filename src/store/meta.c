/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where map pages are written: segments of their own, filled in memory and written out when full or before a checkpoint.
 * They are never replayed: a page counts only once a checkpoint's roots reach it. Until its segment is written a page is
 * read from memory. Only upkeep appends.
 */
#include "store/internal.h"

enum err meta_init(struct store *s)
{
    for (uint32_t i = 0; i < 2; i++) {
        s->meta.buf[i].at = mem_alloc_raw(s->mem, s->segment_bytes);
        s->meta.buf[i].slot = NO_SLOT;
        if (!s->meta.buf[i].at) return ERR_NO_MEMORY;
    }
    return OK;
}

const uint8_t *meta_memory(const struct store *s, uint64_t address)
{
    uint64_t segment = address / s->segment_bytes;
    for (uint32_t i = 0; i < 2; i++) {
        const struct meta_buf *b = &s->meta.buf[i];
        if (b->slot != NO_SLOT && b->segment == segment) return b->at + address % s->segment_bytes;
    }
    return NULL;
}

static enum err write_out(struct store *s, struct meta_buf *b)
{
    if (b->slot == NO_SLOT || b->written == b->used) return OK;
    uint32_t to = (uint32_t)round_up64(b->used, SECTOR);
    TRY(slot_write(s, b->slot, b->written, b->at + b->written, to - b->written));
    s->stats.meta_bytes += to - b->written;
    b->written = b->used = to; /* the next page starts on a sector of its own: what was synced is never touched again */
    return OK;
}

enum err meta_write(struct store *s)
{
    return write_out(s, &s->meta.buf[s->meta.current]);
}

static enum err open_segment(struct store *s)
{
    struct meta_buf *b = &s->meta.buf[s->meta.current];
    if (b->slot != NO_SLOT) TRY(write_out(s, b));
    s->meta.current ^= 1;
    b = &s->meta.buf[s->meta.current];
    uint32_t slot;
    if (!slot_alloc(s, SLOT_IS_USED, &slot)) return ERR_NO_SPACE;
    b->slot = slot;
    b->segment = s->next_segment++;
    b->used = b->written = 0;
    memset(b->at, 0, s->segment_bytes);
    struct run run = {b->segment * s->segment_bytes / UNIT, (uint32_t)(s->segment_bytes / UNIT)};
    slot_use(s, slot, SLOT_META, 1, &run);
    return OK;
}

enum err meta_room(struct store *s, uint32_t size)
{
    const struct meta_buf *b = &s->meta.buf[s->meta.current];
    if (b->slot == NO_SLOT || b->used + chunk_room(size) > s->segment_bytes) TRY(open_segment(s));
    return OK;
}

void meta_append(struct store *s, const void *page, uint32_t size, uint32_t tag, uint64_t *ret_locator)
{
    struct meta_buf *b = &s->meta.buf[s->meta.current];
    assert(b->slot != NO_SLOT && b->used + chunk_room(size) <= s->segment_bytes);
    uint64_t address = b->segment * s->segment_bytes + b->used;
    uint32_t units = chunk_pack(page, size, tag, b->at + b->used);
    chunk_place(b->at + b->used, address);
    b->used += units * UNIT;
    slot_at(s, b->slot)->live += units;
    s->live_units += units;
    slot_dirty(s, b->slot);
    *ret_locator = locator_of(address, units);
}
