/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Liveness by marking: one walk over all volumes finds what is still referenced. Nothing about it is ever written.
 *
 * The walk proves chunk by chunk only for the candidates, slots that the cleaner may want: their address tables are in
 * memory with one bit a chunk. For all other slots it estimates: a small sketch per slot (linear counting of hashed
 * addresses) tells how many different chunks are referenced, whatever dedupe does; the next candidates come from that.
 *
 * What keeps the proof honest while the foreground goes on:
 *   - the delta and all prepared operations are marked first, in one go; from then on every dedupe hit marks what it hits;
 *   - new chunks lie in the head, which is never a candidate; so a mapping can only move from marked to marked;
 *   - a chunk that dies meanwhile counts as live;
 *   - a candidate stays proven as long as the pass lasts, because hits go on marking; when it becomes a victim it is closed: a
 *     dedupe hit on one is written as unique.
 */
#include "store/internal.h"

static void sketch_add(struct clean *c, uint32_t slot, uint64_t address, uint32_t units)
{
    if (slot < c->sketch_first || slot - c->sketch_first >= c->sketch_slots) return;
    uint64_t *sketch = &c->sketch[(uint64_t)(slot - c->sketch_first) * SKETCH_SIZE];
    uint64_t h = (address / UNIT) * 0x9e3779b97f4a7c15u >> (64 - 10);
    sketch[h / 64] |= (uint64_t)1 << (h % 64);
    if ((uint32_t)sketch[SKETCH_WORDS] < MARKS_MAX) sketch[SKETCH_WORDS] += 1 + ((uint64_t)units << 32);
}

static struct candidate *candidate_of(struct store *s, uint64_t address, uint32_t units)
{
    struct directory_run run;
    if (!directory_find(s->directory, address / UNIT, &run)) return NULL;
    struct clean *c = &s->clean;
    const struct slot *sl = slot_at(s, run.slot);
    if (!sl->candidate) sketch_add(c, run.slot, address, units);
    return sl->candidate ? &c->candidates[sl->candidate - 1] : NULL;
}

static void mark(struct store *s, uint64_t address, uint32_t units)
{
    struct candidate *c = candidate_of(s, address, units);
    if (!c) return;
    uint32_t i = summary_position(c->summary, address);
    if (i == UINT32_MAX) { /* its table does not know what is alive in it: hands off */
        c->spoilt = true;
        return;
    }
    if (c->bits[i / 64] >> (i % 64) & 1) return;
    c->bits[i / 64] |= (uint64_t)1 << (i % 64);
    c->live_units += locator_units(c->summary->locators[i]);
}

static void mark_page(struct store *s, uint64_t locator)
{
    mark(s, locator_address(locator), locator_units(locator));
}

void mark_reference(struct store *s, uint64_t place)
{
    if (s->clean.walking && !MUTATED(MUTATE_HIT_NOT_MARKED)) mark(s, place_address(place), place_units(place));
}

bool mark_refuses(struct store *s, uint64_t place)
{
    struct directory_run run;
    if (!directory_find(s->directory, place_address(place) / UNIT, &run)) return true;
    const struct slot *sl = slot_at(s, run.slot);
    if (sl->state != SLOT_IS_USED || sl->bad || sl->suspect) return true;
    return sl->victim && !MUTATED(MUTATE_HIT_ON_VICTIM);
}

static void mark_places(struct store *s, const uint64_t *places, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (place_is_chunk(places[i])) mark(s, place_address(places[i]), place_units(places[i]));
}

static void mark_memory(struct store *s)
{
    for (struct list *l = s->delta.by_age.next; l != &s->delta.by_age; l = l->next) {
        const struct delta_leaf *dl = CONTAINER(l, struct delta_leaf, by_age);
        if (dl->volume->deleted) continue;
        for (uint32_t i = dl->first; i; i = s->delta.entries[i - 1].leaf_next)
            mark_places(s, &s->delta.entries[i - 1].place, 1);
    }
    if (MUTATED(MUTATE_FORGET_PREPARED)) return;
    for (struct list *l = s->prepared.next; l != &s->prepared; l = l->next) {
        const struct store_op *op = CONTAINER(l, struct store_op, prepared);
        if (op->kind == RECORD_DATA && op->what == ENTRY_NEW) mark_places(s, op->places, op->count);
    }
}

static enum err visit_leaf(struct store *s, struct volume *v, uint64_t index)
{
    struct frame *f;
    TRY(map_page(s, v, 0, index, false, &f));
    if (!f) return OK;
    const struct delta_leaf *dl = delta_leaf_find(s, v, index);
    if (dl) {
        struct leaf leaf = f->u.leaf;
        delta_overlay(s, dl, &leaf);
        mark_places(s, leaf.places, LEAF_BLOCKS);
    } else {
        mark_places(s, f->u.leaf.places, LEAF_BLOCKS);
    }
    map_unpin(s, f);
    return OK;
}

/* Marks the pages below an inner page, and the page's children. Children may change between two steps: what moved in
 * meanwhile lies in new segments. Stops early when the volume is deleted. */
static enum err visit_inner(struct store *s, struct volume *v, uint8_t level, uint64_t index)
{
    struct frame *f;
    TRY(map_page(s, v, level, index, false, &f));
    enum err err = OK;
    for (uint32_t i = 0; f && err == OK && i < INNER_FANOUT && !v->deleted; i++) {
        uint64_t locator = f->u.inner.children[i].locator;
        uint64_t child = index * INNER_FANOUT + i;
        bool made = frame_is_dirty(s, v, (uint8_t)(level - 1), child);
        if (!locator && !made) continue;
        if (locator) mark_page(s, locator);
        err = level == 1 ? visit_leaf(s, v, child) : visit_inner(s, v, (uint8_t)(level - 1), child);
        if (err == OK) err = clean_stops(s) ? ERR_STOPPED : upkeep_duties(s);
        io_task_yield(); /* a walk over cached pages waits for nothing */
    }
    map_unpin(s, f);
    return err;
}

static enum err visit_volume(struct store *s, struct volume *v)
{
    if (v->root.locator) mark_page(s, v->root.locator);
    if (v->state_root.locator) {
        mark_page(s, v->state_root.locator);
        for (uint32_t i = 0;; i++) {
            uint64_t locator = state_page_locator(s, v, i);
            if (!locator) break;
            mark_page(s, locator);
        }
    }
    return visit_inner(s, v, INNER_LEVELS, 0);
}

/* Marking goes on when it returns, until the caller ends it with `walking`. */
enum err mark_walk(struct store *s)
{
    struct clean *c = &s->clean;
    enum err err = OK;
    c->walking = true;
    s->tree_users++;
    c->died = 0;
    c->walk++;
    s->stats.walks++;
    mark_memory(s);
    uint32_t next = 1;
    while (err == OK) { /* by id: volumes may come and go while this waits; new ones have only new chunks */
        struct volume *v = NULL;
        for (struct list *l = s->volumes.next; l != &s->volumes && !v; l = l->next) {
            struct volume *candidate = CONTAINER(l, struct volume, link);
            if (candidate->id >= next && !candidate->deleted) v = candidate;
        }
        if (!v) break;
        next = v->id + 1;
        err = visit_volume(s, v);
    }
    s->tree_users--;
    return err;
}
