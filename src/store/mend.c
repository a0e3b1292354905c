/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A damaged chunk is written again where it is, by who proves to have what it held (store.h says why that is right).
 *
 * The sectors are read, the chunk is put into them and they are written back: so one at a time, or two neighbours in a sector
 * could each put back the other's damage. The slot is pinned meanwhile. The cleaner may move the damage elsewhere at the same
 * time: then it is met there once more.
 */
#include "store/internal.h"

enum { FRAME_BYTES = 2 * SECTOR, FIND_TRIES = 4 };
static_assert(SECTOR - UNIT + PLACE_UNITS_RAW * UNIT <= FRAME_BYTES, "the sectors of a chunk");

/* A chunk, and the sectors that it lies in. */
struct lying {
    uint64_t address;
    uint32_t units;
    uint32_t slot, from, bytes, skip; /* from: of the first sector in the slot; skip: of the chunk in the sectors */
    uint8_t *sectors;
};

/* ---- what the block has ---- */

static enum err block_place(struct store *s, struct volume *v, uint64_t lba, uint64_t *ret_place, uint32_t *ret_tag)
{
    struct frame *f = NULL;
    *ret_place = PLACE_NONE;
    *ret_tag = 0;
    if (delta_get(s, v, lba, ret_place, ret_tag)) return OK;
    TRY(map_page(s, v, 0, lba / LEAF_BLOCKS, false, &f));
    if (!delta_get(s, v, lba, ret_place, ret_tag) && f != NULL) { /* it was written while the page was read */
        *ret_place = f->u.leaf.places[lba % LEAF_BLOCKS];
        *ret_tag = f->u.leaf.tags[lba % LEAF_BLOCKS];
    }
    map_unpin(s, f);
    return OK;
}

/* ---- where it lies, and what it held ---- */

/* False: it is in no slot, or not written yet. */
static bool chunk_find(struct store *s, struct lying *l)
{
    struct task_waiter w;
    const uint8_t *memory;
    uint32_t offset;
    enum located got;
    task_waiter_init(&w);
    while ((got = locate(s, l->address, &w.waiter, &l->slot, &offset, &memory)) == LOCATE_WAIT)
        while (w.waiter.waiting) io_task_park();
    if (got != LOCATED || memory != NULL) return false;
    l->skip = offset % SECTOR;
    l->from = offset - l->skip;
    l->bytes = (uint32_t)round_up64(l->skip + l->units * UNIT, SECTOR);
    return l->from + l->bytes <= s->segment_bytes;
}

/* Is this what the chunk held? */
static bool print_is(struct store *s, const struct lying *l, const struct fingerprint *print)
{
    struct task_waiter w;
    bool failed = false;
    struct summary *sum;
    if (MUTATED(MUTATE_MEND_UNPROVEN)) return true;
    task_waiter_init(&w);
    while ((sum = summary_get(s, l->slot, true, &w.waiter, &failed)) == NULL && !failed)
        while (w.waiter.waiting) io_task_park();
    uint32_t i = sum != NULL && sum->has_prints ? summary_position(sum, l->address) : UINT32_MAX;
    return i != UINT32_MAX && fingerprint_equal(&sum->prints[i], print);
}

/* ---- the chunk ---- */

static bool is_whole(const struct lying *l)
{
    return chunk_check(l->sectors + l->skip, l->units, l->address) == OK;
}

/* What lies around the chunk is written back, so it must be what is there: a second look says the same. */
static bool reads_the_same(struct store *s, const struct lying *l)
{
    uint32_t after = l->skip + l->units * UNIT;
    uint8_t *again = l->sectors + l->bytes;
    if (slot_read(s, l->slot, l->from, again, l->bytes) != OK) return false;
    return memcmp(again, l->sectors, l->skip) == 0 && memcmp(again + after, l->sectors + after, l->bytes - after) == 0;
}

static enum err rewrite(struct store *s, const struct lying *l, const struct block_digest *digest)
{
    struct device *d;
    uint64_t at;
    if (digest->units != l->units || s->read_only || s->failed != OK) return ERR_MEDIUM;
    if (!reads_the_same(s, l)) return ERR_MEDIUM;
    chunk_put(digest, l->address, l->sectors + l->skip);
    slot_where(s, l->slot, &d, &at);
    if (io_task_write(s->io, d->file, at + l->from, l->sectors, l->bytes, IO_WRITE_DURABLE) != OK) return ERR_MEDIUM;
    if (slot_read(s, l->slot, l->from, l->sectors, l->bytes) != OK || !is_whole(l)) return ERR_MEDIUM;
    return OK;
}

static enum err chunk_mend(struct store *s, struct lying *l, const struct block_digest *digest, bool *ret_mended)
{
    if (!print_is(s, l, &digest->print)) return ERR_CONFLICT;
    enum err err = slot_read(s, l->slot, l->from, l->sectors, l->bytes) == OK ? OK : ERR_MEDIUM;
    if (err == OK && is_whole(l)) return OK;
    if (err == OK) err = rewrite(s, l, digest);
    *ret_mended = err == OK;
    s->stats.mended += err == OK;
    s->stats.unmended += err != OK;
    return err;
}

static enum err block_mend(struct store *s, struct volume *v, uint64_t lba, const struct block_digest *digest, uint8_t *sectors,
                           bool *ret_mended)
{
    uint64_t place;
    uint32_t tag;
    struct lying l = {.sectors = sectors};
    for (uint32_t tries = 0; tries < FIND_TRIES; tries++) {
        TRY(block_place(s, v, lba, &place, &tag));
        if (!place_is_chunk(place)) return digest->size == 0 ? OK : ERR_CONFLICT;
        if (digest->size == 0) return ERR_CONFLICT;
        if (tag != fingerprint_tag(&digest->print) && !MUTATED(MUTATE_MEND_UNPROVEN)) return ERR_CONFLICT;
        l.address = place_address(place);
        l.units = place_units(place);
        if (!chunk_find(s, &l)) continue; /* overwritten and cleaned since? */
        slot_reader_add(s, l.slot);
        enum err err = chunk_mend(s, &l, digest, ret_mended);
        slot_reader_done(s, l.slot);
        return err;
    }
    return ERR_CONFLICT;
}

/* ---- one at a time ---- */

static void turn_take(struct store *s)
{
    struct task_waiter w;
    task_waiter_init(&w);
    while (s->mending.busy) {
        waiter_wait(&s->mending.waiters, &w.waiter);
        while (w.waiter.waiting) io_task_park();
    }
    s->mending.busy = true;
}

static void turn_give(struct store *s)
{
    s->mending.busy = false;
    waiters_wake(s, &s->mending.waiters);
}

enum err store_mend(struct store *s, uint32_t volume, uint64_t lba, const struct block_digest *digest, bool *ret_mended)
{
    *ret_mended = false;
    turn_take(s);
    struct volume *v = volume_find(s, volume);
    uint8_t *sectors = mem_alloc_raw(s->mem, 2 * FRAME_BYTES);
    enum err err = v == NULL || v->published == 0 ? ERR_NO_VOLUME : lba >= v->blocks ? ERR_RANGE : OK;
    if (sectors == NULL) err = ERR_NO_MEMORY;
    if (err == OK) {
        s->tree_users++; /* the volume stays, even when it is deleted meanwhile */
        err = block_mend(s, v, lba, digest, sectors, ret_mended);
        s->tree_users--;
    }
    mem_free(s->mem, sectors);
    turn_give(s);
    return err;
}

void store_mend_nothing(struct store *s)
{
    s->stats.unmended++;
}
