/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The maps: every page that a root reaches, with what the log did since laid over the leaves, and every place they name.
 *
 * The walk goes upwards through a volume's blocks; beside it goes a cursor through the effects of the log, sorted in the
 * same order, so that leaves which exist only in the log have their turn between those on the device.
 */
#include <inttypes.h>

#include "base/hash.h"
#include "store/audit_internal.h"

struct map_walk {
    struct audit *a;
    const struct audit_volume *v;
    uint32_t at, end; /* effects of this volume that did not have their turn */
};

/* ---- pages ---- */

static bool table_find(const struct audit_table *t, uint64_t address, uint32_t *ret_offset)
{
    uint32_t low = 0, high = t->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (locator_address(t->locators[middle]) < address)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == t->count || locator_address(t->locators[low]) != address) return false;
    *ret_offset = t->offsets[low] * UNIT;
    return true;
}

/* Finds and unpacks a page into a->data. *ret_trouble: what is wrong with it, NULL: nothing so far. */
static enum err page_fetch(struct audit *a, const struct pointer *p, uint32_t *ret_size, const char **ret_trouble)
{
    uint64_t address = locator_address(p->locator);
    uint32_t units = locator_units(p->locator), offset = (uint32_t)(address % a->segment_bytes);
    uint32_t tag = (uint32_t)p->digest[0];
    const struct audit_run *run = audit_run_of(a, address);
    struct audit_slot *sl = run ? &a->slots[run->slot] : NULL;
    *ret_trouble = !run                                                     ? "is in no slot"
                   : sl->kind != SLOT_META && sl->kind != SLOT_CLEANED_META ? "is in no slot of pages"
                                                                            : NULL;
    if (!*ret_trouble && sl->kind == SLOT_CLEANED_META && !table_find(&sl->pages, address, &offset))
        *ret_trouble = "is not in the address table of its slot";
    if (!*ret_trouble && offset + (uint64_t)units * UNIT > a->segment_bytes) *ret_trouble = "reaches beyond its slot";
    if (*ret_trouble) return OK;
    if (a->first_walk) sl->marked += units;
    uint32_t from = offset / SECTOR * SECTOR, to = (uint32_t)round_up64(offset + units * UNIT, SECTOR);
    enum err err = audit_slot_read(a, run->slot, from, a->small, to - from);
    if (err == OK)
        err = chunk_unpack(a->small + (offset - from), units, address, &tag, a->data, sizeof(struct disk_state), ret_size);
    if (err != OK && !audit_ends(err)) *ret_trouble = err_text(err);
    return audit_ends(err) ? err : OK;
}

static void page_trouble(struct audit *a, struct page_id id, const struct pointer *p, const char *trouble)
{
    if (!a->first_walk) return;
    const struct audit_run *run = audit_run_of(a, locator_address(p->locator));
    audit_problem(a, "volume %u: page %" PRIu64 " of level %u at %" PRIu64 " (slot %u): %s", id.volume, id.index, id.level,
                  locator_address(p->locator), run ? run->slot : AUDIT_NONE, trouble);
}

/* An inner page or the root of the keyed state. *ret_good: it is in `ret_inner`. */
static enum err inner_read(struct audit *a, struct page_id id, const struct pointer *p, struct inner *ret_inner, bool *ret_good)
{
    uint32_t size;
    uint64_t digest[2];
    const char *trouble;
    TRY(page_fetch(a, p, &size, &trouble));
    enum err err = trouble ? OK : inner_decode(a->data, size, id, ret_inner);
    if (!trouble && err != OK) trouble = err_text(err);
    if (!trouble) {
        uint64_t newest = 0;
        inner_digest(ret_inner, digest);
        for (uint32_t i = 0; i < INNER_FANOUT; i++) newest = max64(newest, ret_inner->children[i].newest);
        if (digest[0] != p->digest[0] || digest[1] != p->digest[1])
            trouble = "digest differs from its pointer's";
        else if (newest > p->newest)
            trouble = "has a child newer than its pointer says";
    }
    *ret_good = !trouble;
    if (trouble) page_trouble(a, id, p, trouble);
    if (a->first_walk) a->report->pages++;
    return OK;
}

static enum err leaf_read(struct audit *a, struct page_id id, const struct pointer *p, struct leaf *ret_leaf)
{
    uint32_t size;
    uint64_t digest[2];
    const char *trouble;
    TRY(page_fetch(a, p, &size, &trouble));
    enum err err = trouble ? OK : leaf_decode(a->data, size, id, ret_leaf);
    if (!trouble && err != OK) trouble = err_text(err);
    if (trouble) memset(ret_leaf, 0, sizeof *ret_leaf);
    if (!trouble) {
        leaf_digest(ret_leaf, digest);
        if (digest[0] != p->digest[0] || digest[1] != p->digest[1]) trouble = "digest differs from its pointer's";
    }
    if (trouble) page_trouble(a, id, p, trouble);
    if (a->first_walk) a->report->pages++;
    return OK;
}

/* ---- leaves ---- */

static void lay(struct leaf *leaf, uint64_t first, uint64_t count, uint64_t place, uint32_t tag)
{
    for (uint64_t i = first; i < first + count; i++) {
        leaf->places[i] = place;
        leaf->tags[i] = tag;
    }
}

/* Cuts of the volume between two operations. */
static void lay_cuts(const struct map_walk *w, struct leaf *leaf, uint64_t index, uint32_t from, uint32_t to)
{
    const struct audit *a = w->a;
    uint64_t first = index * LEAF_BLOCKS;
    for (uint32_t i = 0; i < a->cut_count; i++) {
        const struct audit_cut *cut = &a->cuts[i];
        if (cut->volume != w->v->id || cut->order < from || cut->order >= to || cut->keep >= first + LEAF_BLOCKS) continue;
        uint64_t keep = cut->keep > first ? cut->keep - first : 0;
        lay(leaf, keep, LEAF_BLOCKS - keep, PLACE_NONE, 0);
    }
}

/* Lays what the log did to this leaf over it; the cursor stands on its first effect. */
static void leaf_overlay(struct map_walk *w, struct leaf *leaf, uint64_t index)
{
    const struct audit *a = w->a;
    uint32_t done = 0;
    for (; w->at < w->end && a->effects[w->at].lba / LEAF_BLOCKS == index; w->at++) {
        const struct audit_effect *e = &a->effects[w->at];
        if (!a->ops[e->order].decided) continue;
        lay_cuts(w, leaf, index, done, e->order);
        done = e->order;
        lay(leaf, e->lba % LEAF_BLOCKS, e->count, e->place, e->tag);
    }
    lay_cuts(w, leaf, index, done, UINT32_MAX);
}

static void leaf_visit(struct map_walk *w, struct leaf *leaf, uint64_t index)
{
    struct audit *a = w->a;
    uint32_t beyond = 0;
    leaf_overlay(w, leaf, index);
    for (uint32_t i = 0; i < LEAF_BLOCKS; i++) {
        uint64_t place = leaf->places[i], lba = index * LEAF_BLOCKS + i;
        if (place == PLACE_NONE) continue;
        if (lba >= w->v->blocks) beyond++;
        if (a->first_walk && place == PLACE_ZERO) a->report->blocks_zero++;
        if (!place_is_chunk(place)) continue;
        if (place == PLACE_LOST) {
            if (a->first_walk) audit_problem(a, "volume %u block %" PRIu64 ": lost with its map page", w->v->id, lba);
            continue;
        }
        if (a->first_walk) a->report->blocks_mapped++;
        audit_reference(a, place, leaf->tags[i], w->v->id, lba, "mapped");
    }
    if (beyond && a->first_walk)
        audit_problem(a, "volume %u: leaf %" PRIu64 " maps %u blocks beyond the end at %" PRIu64, w->v->id, index, beyond,
                      w->v->blocks);
}

/* Leaves below `index` that are only in the log. */
static void leaves_between(struct map_walk *w, uint64_t index)
{
    struct audit *a = w->a;
    while (w->at < w->end && a->effects[w->at].lba / LEAF_BLOCKS < index) {
        memset(a->leaf, 0, sizeof *a->leaf);
        leaf_visit(w, a->leaf, a->effects[w->at].lba / LEAF_BLOCKS);
    }
}

/* ---- trees ---- */

static enum err visit_inner(struct map_walk *w, uint8_t level, uint64_t index, const struct pointer *p)
{
    struct audit *a = w->a;
    struct inner *inner = &a->inner[level];
    bool good;
    TRY(inner_read(a, (struct page_id){w->v->id, level, index}, p, inner, &good));
    for (uint32_t i = 0; good && i < INNER_FANOUT; i++) {
        const struct pointer *child = &inner->children[i];
        uint64_t below = index * INNER_FANOUT + i;
        if (!child->locator) {
            if (a->first_walk && (child->digest[0] || child->digest[1]))
                audit_problem(a, "volume %u: empty pointer %" PRIu64 " at level %u has a digest", w->v->id, below, level);
            continue;
        }
        if (level > 1) {
            TRY(visit_inner(w, (uint8_t)(level - 1), below, child));
            continue;
        }
        leaves_between(w, below);
        TRY(leaf_read(a, (struct page_id){w->v->id, PAGE_LEAF, below}, child, a->leaf));
        leaf_visit(w, a->leaf, below);
    }
    return OK;
}

/* ---- keyed state ---- */

struct last_key {
    uint8_t bytes[STATE_KEY_MAX];
    uint32_t size;
};

/* Entries in order of their keys, over all pages. */
static const char *state_entries(struct audit *a, const uint8_t *at, uint32_t bytes, struct last_key *last)
{
    struct cursor c = cursor_of(at, bytes);
    while (c.left) {
        const uint8_t *head = cursor_take(&c, 4);
        uint32_t key_bytes = head ? head[0] : 0, value_bytes = head ? (uint32_t)(head[2] | head[3] << 8) : 0;
        const uint8_t *key = cursor_take(&c, key_bytes);
        cursor_take(&c, value_bytes);
        if (c.bad || key_bytes == 0 || key_bytes > STATE_KEY_MAX || value_bytes == 0 || value_bytes > STATE_VALUE_MAX)
            return "has a malformed entry";
        int order = last->size ? memcmp(last->bytes, key, min32(last->size, key_bytes)) : -1;
        if (order > 0 || (order == 0 && last->size >= key_bytes)) return "has keys out of order";
        memcpy(last->bytes, key, key_bytes);
        last->size = key_bytes;
        a->report->state_keys++;
    }
    return NULL;
}

static enum err state_page(struct audit *a, struct page_id id, const struct pointer *p, struct last_key *last)
{
    struct disk_state *page = (struct disk_state *)(void *)a->data;
    uint32_t size;
    const char *trouble;
    TRY(page_fetch(a, p, &size, &trouble));
    a->report->pages++;
    uint32_t head = offsetof(struct disk_state, data), bytes = trouble || size < head ? 0 : get32(page->bytes);
    if (!trouble && (size < head || bytes != size - head || get32(page->page.volume) != id.volume ||
                     page->page.level != PAGE_STATE || get64(page->page.index) != id.index))
        trouble = "is not the page it should be";
    if (!trouble) {
        struct hash128 hash = hash128(page->data, bytes, 0);
        if (hash.low != p->digest[0] || hash.high != p->digest[1]) trouble = "digest differs from its pointer's";
    }
    if (!trouble) trouble = state_entries(a, page->data, bytes, last);
    if (trouble) page_trouble(a, id, p, trouble);
    return OK;
}

static enum err visit_state(struct audit *a, const struct audit_volume *v)
{
    struct inner *root = &a->inner[0];
    struct last_key last = {.size = 0};
    bool good, ended = false;
    if (!v->state.locator) return OK;
    TRY(inner_read(a, (struct page_id){v->id, PAGE_STATE_ROOT, 0}, &v->state, root, &good));
    for (uint32_t i = 0; good && i < INNER_FANOUT; i++) {
        if (!root->children[i].locator) {
            ended = true;
            continue;
        }
        if (ended) audit_problem(a, "volume %u: a gap before page %u of its keyed state", v->id, i);
        TRY(state_page(a, (struct page_id){v->id, PAGE_STATE, i}, &root->children[i], &last));
    }
    return OK;
}

/* ---- all of it ---- */

/* Undecided operations pin what they refer to. */
static void visit_pending(struct audit *a, const struct map_walk *w)
{
    for (uint32_t i = w->at; i < w->end; i++) {
        const struct audit_effect *e = &a->effects[i];
        const struct audit_op *op = &a->ops[e->order];
        if (op->decided || op->undone || !place_is_chunk(e->place)) continue;
        audit_reference(a, e->place, e->tag, e->volume, e->lba, "prepared");
    }
}

static enum err visit_volume(struct audit *a, const struct audit_volume *v, uint32_t first, uint32_t end)
{
    struct map_walk w = {.a = a, .v = v, .at = first, .end = end};
    visit_pending(a, &w);
    if (a->first_walk && !v->root.locator && (v->root.digest[0] || v->root.digest[1]))
        audit_problem(a, "volume %u: its empty root has a digest", v->id);
    if (v->root.locator) TRY(visit_inner(&w, INNER_LEVELS, 0, &v->root));
    leaves_between(&w, UINT64_MAX);
    return a->first_walk ? visit_state(a, v) : OK;
}

enum err audit_maps(struct audit *a)
{
    uint32_t effect = 0;
    for (uint32_t i = 0; i < a->volume_count; i++) {
        const struct audit_volume *v = &a->volumes[i];
        while (effect < a->effect_count && a->effects[effect].volume < v->id) effect++;
        uint32_t end = effect;
        while (end < a->effect_count && a->effects[end].volume == v->id) end++;
        if (!v->deleted) TRY(visit_volume(a, v, effect, end));
        effect = end;
    }
    return OK;
}
