/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slots: the physical places of a pool, and their life.
 *
 *     FREE -> PROMISED (listed in a checkpoint for the head) -> USED -> PENDING -> FREE (-> TRIMMING -> FREE, trim.c)
 *
 * A slot becomes PENDING when the cleaner has taken the last run out of it. It becomes FREE only when the checkpoint that no
 * longer points into it is durable and the last read in flight is over: until then a crash would come back to a directory
 * that still names it, or a reader would see its next life.
 *
 * Slots are described in pages of 64, as on the device; a page is made when one of its slots is first used, so a large
 * empty pool costs nothing.
 */
#include "store/internal.h"

/* Units of chunks that a slot holds when the cleaner has packed it: data and table fill whole sectors, and a table takes some
 * 28 bytes a chunk. */
uint32_t slot_capacity(const struct store *s)
{
    return (uint32_t)((s->segment_bytes - 2 * SECTOR) * 98 / 100 / UNIT);
}

bool slot_exists(const struct store *s, uint32_t slot)
{
    for (uint32_t i = 0; i < s->device_count; i++) {
        const struct device *d = &s->devices[i];
        if (slot >= d->first_slot && slot - d->first_slot < d->slots) return true;
    }
    return false;
}

struct slot *slot_peek(const struct store *s, uint32_t slot)
{
    if (slot / DIRECTORY_SLOTS >= s->page_count) return NULL;
    struct slot_page *page = s->slot_pages[slot / DIRECTORY_SLOTS];
    return page ? &page->slots[slot % DIRECTORY_SLOTS] : NULL;
}

struct slot *slot_at(const struct store *s, uint32_t slot)
{
    struct slot *sl = slot_peek(s, slot);
    assert(sl);
    return sl;
}

struct slot *slot_touch(struct store *s, uint32_t slot)
{
    assert(slot / DIRECTORY_SLOTS < s->page_count);
    struct slot_page **page = &s->slot_pages[slot / DIRECTORY_SLOTS];
    if (!*page) *page = mem_alloc(s->mem, sizeof **page);
    return *page ? &(*page)->slots[slot % DIRECTORY_SLOTS] : NULL;
}

void slot_where(struct store *s, uint32_t slot, struct device **ret_device, uint64_t *ret_offset)
{
    for (uint32_t i = 0; i < s->device_count; i++) {
        struct device *d = &s->devices[i];
        if (slot < d->first_slot || slot - d->first_slot >= d->slots) continue;
        *ret_device = d;
        *ret_offset = d->data_at + (uint64_t)(slot - d->first_slot) * s->segment_bytes;
        return;
    }
    assert(false); /* a slot of no device */
}

void slot_dirty(struct store *s, uint32_t slot)
{
    uint32_t page = slot / DIRECTORY_SLOTS;
    if (s->directory_dirty[page / 8] >> (page % 8) & 1) return;
    s->directory_dirty[page / 8] |= (uint8_t)(1 << (page % 8));
    s->directory_dirty_count++;
}

/* A page needs memory for itself and, later, for the runs of its slots; the rest is for what comes and goes. */
static bool page_has_memory(const struct store *s)
{
    return mem_used(s->mem) + s->config.memory / 16 <= mem_budget(s->mem);
}

/* Memory can describe no more slots: the pool ends with those that it does, and is full when they are. */
static void pool_ends(struct store *s)
{
    if (s->slots_beyond > 0) return;
    for (uint32_t p = 0; p < s->page_count; p++)
        for (uint32_t i = 0; i < DIRECTORY_SLOTS && !s->slot_pages[p]; i++)
            s->slots_beyond += slot_exists(s, p * DIRECTORY_SLOTS + i);
    s->slots_free -= s->slots_beyond;
    s->slots_total -= s->slots_beyond;
}

/* Next fit, one slot after the other, so that a new pool fills a device from its start. */
bool slot_alloc(struct store *s, enum slot_state state, uint32_t *ret_slot)
{
    uint32_t end = s->page_count * DIRECTORY_SLOTS;
    uint32_t kept = s->writing_checkpoint ? 0 : 1; /* the head gets new promises from the checkpoint that is being written */
    if (s->slots_free == 0 && state == SLOT_IS_USED && s->log.promised_count > kept) log_unpromise(s);
    if (s->slots_free == 0) return false;
    for (uint32_t tried = 0; tried < end; tried++) {
        uint32_t slot = s->alloc_hand;
        s->alloc_hand = slot + 1 == end ? 0 : slot + 1;
        struct slot *sl = slot_peek(s, slot);
        if (sl && sl->state != SLOT_IS_FREE) continue;
        if (!slot_exists(s, slot)) continue;
        if (!sl && (s->slots_beyond > 0 || !page_has_memory(s))) {
            uint32_t rest = DIRECTORY_SLOTS - 1 - slot % DIRECTORY_SLOTS; /* of the page */
            pool_ends(s);
            if (s->slots_free == 0) return false;
            s->alloc_hand = (slot + rest + 1) % end;
            tried += rest;
            continue;
        }
        sl = slot_touch(s, slot);
        if (!sl) return false;
        assert(sl->readers == 0 || MUTATED(MUTATE_REUSE_UNDER_READ));
        assert(sl->runs == 0);
        sl->state = (uint8_t)state;
        sl->kind = SLOT_FREE;
        sl->stale = false;
        sl->life++;
        s->slots_free--;
        if (state == SLOT_IS_PROMISED) s->slots_promised++;
        *ret_slot = slot;
        return true;
    }
    return false;
}

void slot_release(struct store *s, uint32_t slot)
{
    struct slot *sl = slot_at(s, slot);
    assert(sl->state != SLOT_IS_FREE && sl->runs == 0);
    if (sl->state == SLOT_IS_PROMISED) s->slots_promised--;
    if (sl->state == SLOT_IS_PENDING) s->slots_pending--;
    sl->state = SLOT_IS_FREE;
    sl->kind = SLOT_FREE;
    sl->life++;
    sl->live = sl->chunks = sl->proven = 0;
    sl->age = 0;
    sl->sealed = sl->bad = sl->suspect = sl->victim = false;
    sl->stale = s->trim.wanted = true;
    s->slots_free++;
    slot_dirty(s, slot);
    waiters_wake(s, &s->space_waiters);
}

/* Puts a slot's runs into the directory. */
void slot_use(struct store *s, uint32_t slot, enum slot_kind kind, uint32_t runs, const struct run *run)
{
    struct slot *sl = slot_at(s, slot);
    assert(sl->runs == 0 && runs <= RUNS_MAX);
    if (sl->state == SLOT_IS_PROMISED) s->slots_promised--;
    sl->state = SLOT_IS_USED;
    sl->stale = false;
    sl->kind = (uint8_t)kind;
    sl->runs = (uint8_t)runs;
    for (uint32_t i = 0; i < runs; i++) {
        sl->start[i] = run[i].start;
        bool added = directory_add(s->directory, &(struct directory_run){run[i].start, run[i].units, slot});
        assert(added); /* the caller left room: see directory_open in store.c */
    }
    slot_dirty(s, slot);
    s->changed = true;
}

void slot_retire(struct store *s, uint32_t slot)
{
    struct slot *sl = slot_at(s, slot);
    assert(sl->state == SLOT_IS_USED && sl->runs == 0);
    s->live_units -= min64(s->live_units, sl->live);
    sl->live = 0;
    sl->state = SLOT_IS_PENDING;
    sl->free_after = s->checkpoint_number + 1;
    s->slots_pending++;
    s->changed = true;
    summary_drop(s, slot);
    slot_dirty(s, slot);
    if (MUTATED(MUTATE_REUSE_EARLY)) {
        slot_release(s, slot);
        s->alloc_hand = slot;
    }
    if (MUTATED(MUTATE_TRIM_EARLY)) {
        sl->stale = s->trim.wanted = true;
        trim_kick(s);
    }
}

static void free_if_due(struct store *s, uint32_t slot, struct slot *sl)
{
    if (sl->state != SLOT_IS_PENDING || sl->free_after > s->checkpoint_number || s->writing_checkpoint) return;
    if (sl->readers > 0 && !MUTATED(MUTATE_REUSE_UNDER_READ)) return;
    slot_release(s, slot);
}

/* Checkpoint `checkpoint` is durable: what waited for it is free, unless it is still read. */
void slot_freed_by(struct store *s, uint64_t checkpoint)
{
    assert(checkpoint == s->checkpoint_number);
    if (s->slots_pending == 0) return;
    for (uint32_t p = 0; p < s->page_count; p++) {
        if (!s->slot_pages[p]) continue;
        for (uint32_t i = 0; i < DIRECTORY_SLOTS; i++) free_if_due(s, p * DIRECTORY_SLOTS + i, &s->slot_pages[p]->slots[i]);
    }
    trim_kick(s);
}

void slot_reader_add(struct store *s, uint32_t slot)
{
    slot_at(s, slot)->readers++;
    s->reading++;
}

void slot_reader_done(struct store *s, uint32_t slot)
{
    struct slot *sl = slot_at(s, slot);
    assert(sl->readers > 0 && s->reading > 0);
    sl->readers--;
    s->reading--;
    if (sl->readers > 0 || sl->state != SLOT_IS_PENDING) return;
    free_if_due(s, slot, sl);
    log_kick(s);
}

/* A mapping to this chunk went away. Others may still point to it: only an estimate, mended by the next walk. */
void slot_lost_units(struct store *s, uint64_t address, uint32_t units)
{
    slot_lost_after(s, address, units, UINT32_MAX);
}

/* The same for one that went away while walk number `walk` was the newest: a slot proven later has counted that. */
void slot_lost_after(struct store *s, uint64_t address, uint32_t units, uint32_t walk)
{
    struct directory_run run;
    if (!directory_find(s->directory, address / UNIT, &run)) return;
    struct slot *sl = slot_at(s, run.slot);
    if (sl->proven > walk) return;
    uint32_t lost = min32(units, sl->live);
    sl->live -= lost;
    s->live_units -= min64(s->live_units, lost);
    s->clean.died += lost;
}
