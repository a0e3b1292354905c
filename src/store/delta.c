/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The delta: the newest mappings of all volumes, in RAM, laid over the tree of pages on the device.
 *
 * Entries of a fixed size in two hash tables: one finds the delta of a leaf (512 blocks), one the entry of a block in it.
 * What is in the delta is also in the log after the replay point, so a crash only costs replaying it. Each leaf remembers the
 * oldest head segment that has a record of it: the oldest of all is how far back the replay point must stay. Room is
 * reserved before a record is appended, so publishing never fails.
 *
 * A leaf may have a base other than the page on the device: "all unmapped" or "all zero", with entries on top. So a large
 * unmap costs one leaf, not 512 entries.
 */
#include "store/internal.h"

static uint32_t power_below(uint64_t n)
{
    uint32_t p = 1;
    while ((uint64_t)p * 2 <= n && p < 1u << 30) p *= 2;
    return p;
}

enum err delta_init(struct store *s, uint64_t budget)
{
    struct delta *d = &s->delta;
    /* An entry and its hash bucket take 32 + 4..8 bytes; one leaf for every four entries is plenty for scattered writes. */
    uint64_t unit = sizeof(struct delta_entry) + 8 + (sizeof(struct delta_leaf) + 8) / 4;
    d->entry_room = (uint32_t)min64(budget / unit, 1u << 28);
    d->leaf_room = d->entry_room / 4;
    if (s->config.delta_leaves) {
        d->leaf_room = min32(d->leaf_room, s->config.delta_leaves);
        d->entry_room = min32(d->entry_room, (uint32_t)max64(d->leaf_room * 4, 5 * LEAF_BLOCKS)); /* a RESIZE fits */
    }
    if (d->leaf_room < 64) return ERR_NO_MEMORY;
    d->entry_mask = power_below(d->entry_room) * 2 - 1;
    d->leaf_mask = power_below(d->leaf_room) * 2 - 1;
    d->entries = mem_alloc_raw(s->mem, d->entry_room * sizeof *d->entries);
    d->leaves = mem_alloc_raw(s->mem, d->leaf_room * sizeof *d->leaves);
    d->entry_hash = mem_alloc(s->mem, (d->entry_mask + 1ull) * sizeof *d->entry_hash);
    d->leaf_hash = mem_alloc(s->mem, (d->leaf_mask + 1ull) * sizeof *d->leaf_hash);
    list_init(&d->by_age);
    /* The free lists are made as they are needed: index beyond `used` high-water mark. */
    d->entry_free = d->leaf_free = 0;
    return d->entries && d->leaves && d->entry_hash && d->leaf_hash ? OK : ERR_NO_MEMORY;
}

/* What an operation may add at most: its blocks at the edges, and a leaf for every 512 blocks. */
void delta_cost(const struct store_op *op, uint32_t *ret_entries, uint32_t *ret_leaves)
{
    *ret_entries = *ret_leaves = 0;
    if (op->kind == RECORD_RESIZE) {
        *ret_entries = LEAF_BLOCKS;
        *ret_leaves = 1;
    }
    if (op->kind != RECORD_DATA) return;
    *ret_entries = min32(op->count, op->what == ENTRY_NEW ? RECORD_BLOCKS_MAX : 2 * LEAF_BLOCKS);
    *ret_leaves = op->count / LEAF_BLOCKS + 2;
}

bool delta_reserve(struct store *s, uint32_t entries, uint32_t leaves)
{
    struct delta *d = &s->delta;
    d->wanted = d->entries_used + d->entries_reserved + entries > d->entry_room ||
                d->leaves_used + d->leaves_reserved + leaves > d->leaf_room;
    if (d->wanted) return false;
    d->entries_reserved += entries;
    d->leaves_reserved += leaves;
    return true;
}

void delta_unreserve(struct store *s, uint32_t entries, uint32_t leaves)
{
    struct delta *d = &s->delta;
    assert(d->entries_reserved >= entries && d->leaves_reserved >= leaves);
    d->entries_reserved -= entries;
    d->leaves_reserved -= leaves;
}

static uint32_t mix(uint64_t a, uint64_t b)
{
    uint64_t h = a * 0x9e3779b97f4a7c15u ^ (b + 1) * 0xd6e8feb86659fd93u;
    return (uint32_t)(h >> 32);
}

static uint32_t *leaf_bucket(struct delta *d, uint32_t volume, uint64_t index)
{
    return &d->leaf_hash[mix(index, volume) & d->leaf_mask];
}

static uint32_t *entry_bucket(struct delta *d, uint32_t leaf, uint16_t at)
{
    return &d->entry_hash[mix(leaf, at) & d->entry_mask];
}

struct delta_leaf *delta_leaf_find(struct store *s, const struct volume *v, uint64_t index)
{
    struct delta *d = &s->delta;
    for (uint32_t i = *leaf_bucket(d, v->id, index); i; i = d->leaves[i - 1].hash_next)
        if (d->leaves[i - 1].index == index && d->leaves[i - 1].volume == v) return &d->leaves[i - 1];
    return NULL;
}

static struct delta_entry *entry_find(struct delta *d, uint32_t leaf, uint16_t at)
{
    for (uint32_t i = *entry_bucket(d, leaf, at); i; i = d->entries[i - 1].hash_next)
        if (d->entries[i - 1].leaf == leaf && d->entries[i - 1].at == at) return &d->entries[i - 1];
    return NULL;
}

/* The list by age is in order of the oldest segment: the first leaf says where replay begins. An operation that was published
 * late brings an older segment; nearly all come at the end. */
static void age_insert(struct delta *d, struct delta_leaf *dl)
{
    struct list *after = d->by_age.prev;
    while (after != &d->by_age && CONTAINER(after, struct delta_leaf, by_age)->segment > dl->segment) after = after->prev;
    list_push_front(after, &dl->by_age);
}

static struct delta_leaf *leaf_make(struct store *s, struct volume *v, uint64_t index, uint64_t segment)
{
    struct delta *d = &s->delta;
    assert(d->leaves_used < d->leaf_room); /* reserved before the record was appended */
    uint32_t i = d->leaf_free;
    if (i)
        d->leaf_free = d->leaves[i - 1].hash_next;
    else
        i = d->leaves_used + 1; /* nothing was ever given back above the used ones */
    struct delta_leaf *dl = &d->leaves[i - 1];
    *dl = (struct delta_leaf){.volume = v, .index = index, .segment = segment, .round = d->round, .used = true};
    uint32_t *bucket = leaf_bucket(d, v->id, index);
    dl->hash_next = *bucket;
    *bucket = i;
    d->leaves_used++;
    list_push(&v->leaves, &dl->by_volume);
    v->leaf_count++;
    age_insert(d, dl);
    return dl;
}

static void entry_unlink(struct delta *d, uint32_t i)
{
    struct delta_entry *e = &d->entries[i - 1];
    uint32_t *at = entry_bucket(d, e->leaf, e->at);
    while (*at != i) at = &d->entries[*at - 1].hash_next;
    *at = e->hash_next;
    e->hash_next = d->entry_free;
    d->entry_free = i;
    d->entries_used--;
}

static void drop_entries(struct delta *d, struct delta_leaf *dl)
{
    for (uint32_t i = dl->first, next; i; i = next) {
        next = d->entries[i - 1].leaf_next;
        entry_unlink(d, i);
    }
    dl->first = 0;
    dl->count = 0;
}

void delta_forget(struct store *s, struct delta_leaf *dl)
{
    struct delta *d = &s->delta;
    uint32_t i = (uint32_t)(dl - d->leaves) + 1;
    drop_entries(d, dl);
    uint32_t *at = leaf_bucket(d, dl->volume->id, dl->index);
    while (*at != i) at = &d->leaves[*at - 1].hash_next;
    *at = dl->hash_next;
    list_remove(&dl->by_volume);
    dl->volume->leaf_count--;
    list_remove(&dl->by_age);
    dl->used = false;
    dl->hash_next = d->leaf_free;
    d->leaf_free = i;
    d->leaves_used--;
}

static struct delta_leaf *leaf_for(struct store *s, struct volume *v, uint64_t index, uint64_t sequence, uint64_t segment)
{
    struct delta_leaf *dl = delta_leaf_find(s, v, index);
    if (!dl) dl = leaf_make(s, v, index, segment);
    if (segment < dl->segment) {
        dl->segment = segment;
        list_remove(&dl->by_age);
        age_insert(&s->delta, dl);
    }
    dl->newest = max64(dl->newest, sequence);
    return dl;
}

static void lost(struct store *s, uint64_t place)
{
    if (place_is_chunk(place)) slot_lost_units(s, place_address(place), place_units(place));
}

void delta_set(struct store *s, struct volume *v, uint64_t lba, uint64_t place, uint32_t tag, uint64_t sequence,
               uint64_t segment)
{
    struct delta *d = &s->delta;
    struct delta_leaf *dl = leaf_for(s, v, lba / LEAF_BLOCKS, sequence, segment);
    uint32_t leaf = (uint32_t)(dl - d->leaves);
    uint16_t at = (uint16_t)(lba % LEAF_BLOCKS);
    struct delta_entry *e = entry_find(d, leaf, at);
    if (e) {
        lost(s, e->place);
        e->place = place;
        e->tag = tag;
        return;
    }
    assert(d->entries_used < d->entry_room);
    uint32_t i = d->entry_free;
    if (i)
        d->entry_free = d->entries[i - 1].hash_next;
    else
        i = d->entries_used + 1;
    uint32_t *bucket = entry_bucket(d, leaf, at);
    d->entries[i - 1] = (struct delta_entry){.place = place,
                                             .tag = tag,
                                             .hash_next = *bucket,
                                             .leaf_next = dl->first,
                                             .leaf = leaf,
                                             .at = at,
                                             .walk = (uint16_t)s->clean.walk};
    *bucket = i;
    dl->first = i;
    dl->count++;
    d->entries_used++;
}

void delta_fill(struct store *s, struct volume *v, uint64_t lba, uint64_t count, enum delta_base what, uint64_t sequence,
                uint64_t segment)
{
    uint64_t place = what == DELTA_BASE_ZERO ? PLACE_ZERO : PLACE_NONE;
    uint64_t end = lba + count;
    while (lba < end) {
        uint64_t index = lba / LEAF_BLOCKS, leaf_end = (index + 1) * LEAF_BLOCKS;
        if (lba % LEAF_BLOCKS == 0 && leaf_end <= end) {
            struct delta_leaf *dl = leaf_for(s, v, index, sequence, segment);
            for (uint32_t i = dl->first; i; i = s->delta.entries[i - 1].leaf_next) lost(s, s->delta.entries[i - 1].place);
            drop_entries(&s->delta, dl);
            dl->base = (uint8_t)what;
            lba = leaf_end;
            continue;
        }
        for (; lba < end && lba < leaf_end; lba++) delta_set(s, v, lba, place, 0, sequence, segment);
    }
}

bool delta_get(struct store *s, const struct volume *v, uint64_t lba, uint64_t *ret_place, uint32_t *ret_tag)
{
    struct delta *d = &s->delta;
    const struct delta_leaf *dl = delta_leaf_find(s, v, lba / LEAF_BLOCKS);
    if (!dl) return false;
    const struct delta_entry *e = dl->count ? entry_find(d, (uint32_t)(dl - d->leaves), (uint16_t)(lba % LEAF_BLOCKS)) : NULL;
    if (!e && dl->base == DELTA_BASE_DISK) return false;
    *ret_place = e ? e->place : dl->base == DELTA_BASE_ZERO ? PLACE_ZERO : PLACE_NONE;
    *ret_tag = e ? e->tag : 0;
    return true;
}

void delta_overlay(struct store *s, const struct delta_leaf *dl, struct leaf *leaf)
{
    if (dl->base != DELTA_BASE_DISK) {
        for (uint32_t i = 0; i < LEAF_BLOCKS; i++) {
            leaf->places[i] = dl->base == DELTA_BASE_ZERO ? PLACE_ZERO : PLACE_NONE;
            leaf->tags[i] = 0;
        }
    }
    for (uint32_t i = dl->first; i; i = s->delta.entries[i - 1].leaf_next) {
        const struct delta_entry *e = &s->delta.entries[i - 1];
        leaf->places[e->at] = e->place;
        leaf->tags[e->at] = e->tag;
    }
}
