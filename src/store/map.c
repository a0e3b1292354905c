/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The map: a volume's LBA -> place, as a copy-on-write radix tree of pages, in a cache of fixed frames.
 *
 * Leaves (level 0) cover 512 blocks; four inner levels of 128 children lie above. A leaf is written at once when its delta is
 * flushed; inner pages stay dirty in the cache until the checkpoint writes them bottom up. So a page on the device never
 * changes, and only upkeep changes the tree. A pointer carries the newest sequence below and a Merkle digest; both are
 * taken upwards when the page is written.
 */
#include "store/internal.h"

enum { PAGE_BUF = 16384 };

static uint32_t page_hash(const struct map *m, uint32_t volume, uint8_t level, uint64_t index)
{
    uint64_t h = (index * 8 + level) * 0x9e3779b97f4a7c15u ^ volume * 0xd6e8feb86659fd93u;
    return (uint32_t)(h >> 29) & m->mask;
}

enum err map_init(struct store *s, uint64_t budget)
{
    struct map *m = &s->map;
    m->buf_count = budget > 8u << 20 ? 64 : 8;
    m->bufs = mem_alloc_raw(s->mem, (uint64_t)m->buf_count * PAGE_BUF);
    m->count = (uint32_t)(budget / (sizeof(struct frame) + 16));
    if (m->count < 32) return ERR_NO_MEMORY;
    m->mask = 1;
    while (m->mask < m->count) m->mask = m->mask * 2 + 1;
    m->frames = mem_alloc_raw(s->mem, m->count * sizeof *m->frames);
    m->hash = mem_alloc(s->mem, (m->mask + 1ull) * sizeof *m->hash);
    list_init(&m->wanted);
    return m->bufs && m->frames && m->hash ? OK : ERR_NO_MEMORY;
}

static struct frame *frame_find(struct map *m, uint32_t volume, uint8_t level, uint64_t index)
{
    struct frame *f = m->hash[page_hash(m, volume, level, index)];
    while (f && !(f->id.volume == volume && f->id.level == level && f->id.index == index)) f = f->hash_next;
    return f;
}

static void frame_forget(struct store *s, struct frame *f)
{
    struct map *m = &s->map;
    assert(f->used && !f->gone);
    if (f->dirty) m->dirty--;
    struct frame **at = &m->hash[page_hash(m, f->id.volume, f->id.level, f->id.index)];
    while (*at != f) at = &(*at)->hash_next;
    *at = f->hash_next;
    f->dirty = false;
}

static void frame_free(struct store *s, struct frame *f)
{
    assert(!f->loading && f->pins == 0);
    frame_forget(s, f);
    f->used = false;
}

/* The page is not part of the tree any more. Who stands in it keeps it, but nobody finds it. */
static void frame_drop(struct store *s, struct frame *f)
{
    frame_forget(s, f);
    f->gone = f->loading || f->pins > 0;
    f->used = f->gone;
}

/* A free frame, or one that is clean and not in use, in clock order. NULL: all are needed right now. */
static struct frame *frame_take(struct store *s, uint32_t volume, uint8_t level, uint64_t index)
{
    struct map *m = &s->map;
    for (uint32_t tried = 0; tried < 2 * m->count; tried++) {
        struct frame *f = &m->frames[m->hand];
        m->hand = m->hand + 1 == m->count ? 0 : m->hand + 1;
        if (f == &m->frames[m->known]) {
            m->known++;
        } else if (f->used) {
            if (f->loading || f->dirty || f->pins || f->gone || !list_empty(&f->waiters)) continue;
            if (f->touched) {
                f->touched = false;
                continue;
            }
            frame_free(s, f);
        }
        f->id = (struct page_id){volume, level, index};
        f->used = true;
        f->loading = f->dirty = f->touched = f->failed = f->gone = false;
        f->pins = 0;
        f->locator = 0;
        f->store = s;
        f->buf = NULL;
        list_init(&f->waiters);
        struct frame **bucket = &m->hash[page_hash(m, volume, level, index)];
        f->hash_next = *bucket;
        *bucket = f;
        return f;
    }
    return NULL;
}

void map_drop_volume(struct store *s, uint32_t volume)
{
    for (uint32_t i = 0; i < s->map.known; i++) {
        struct frame *f = &s->map.frames[i];
        if (f->used && !f->gone && f->id.volume == volume) frame_drop(s, f);
    }
}

void map_dirty(struct store *s, struct frame *f)
{
    assert(f->used && f->id.level > 0);
    if (!f->dirty) s->map.dirty++;
    f->dirty = true;
}

bool frame_is_dirty(struct store *s, const struct volume *v, uint8_t level, uint64_t index)
{
    const struct frame *f = frame_find(&s->map, v->id, level, index);
    return f && f->dirty;
}

void map_unpin(struct store *s, struct frame *f)
{
    if (!f) return;
    assert(f->pins > 0);
    if (--f->pins > 0) return;
    if (f->gone) f->used = false;
    waiters_wake(s, &s->map.wanted);
}

struct pointer *map_pointer(struct volume *v, struct frame *parent, uint64_t index)
{
    return parent ? &parent->u.inner.children[index % INNER_FANOUT] : &v->root;
}

/* ---- loading ---- */

static uint8_t *buf_take(struct map *m)
{
    for (uint32_t i = 0; i < m->buf_count; i++) {
        if (m->buf_free[i]) continue;
        m->buf_free[i] = 1;
        return m->bufs + (size_t)i * PAGE_BUF;
    }
    return NULL;
}

/* Unpacks and decodes, and holds the content's digest against the tag of the chunk and the digest of the pointer. */
static enum err page_check(struct frame *f, const uint8_t *chunk)
{
    struct {
        uint64_t align;
        uint8_t raw[8192];
    } page;
    uint32_t size;
    uint64_t digest[2];
    TRY(chunk_unpack(chunk, locator_units(f->locator), locator_address(f->locator), NULL, page.raw, sizeof page.raw, &size));
    if (f->id.level == PAGE_LEAF) {
        TRY(leaf_decode(page.raw, size, f->id, &f->u.leaf));
        leaf_digest(&f->u.leaf, digest);
    } else {
        TRY(inner_decode(page.raw, size, f->id, &f->u.inner));
        inner_digest(&f->u.inner, digest);
    }
    return digest[0] == f->digest[0] && digest[1] == f->digest[1] ? OK : ERR_CHECKSUM;
}

static void load_done(struct frame *f, enum err err)
{
    struct store *s = f->store;
    if (f->buf) s->map.buf_free[(f->buf - s->map.bufs) / PAGE_BUF] = 0;
    f->buf = NULL;
    f->loading = false;
    f->failed = err != OK;
    f->err = err == ERR_IO || err == ERR_VANISHED || err == ERR_SHORT || err == ERR_POWER ? err : ERR_PAGE_DAMAGED;
    s->stats.medium_errors += err != OK;
    s->stats.unmended += err != OK;
    waiters_wake(s, &f->waiters);
    if (f->gone && f->pins == 0) f->used = false;
    waiters_wake(s, &s->map.wanted);
}

static void load_read_done(struct io_op *op)
{
    struct frame *f = CONTAINER(op, struct frame, op);
    slot_reader_done(f->store, f->slot);
    enum err err = op->err;
    if (err == OK) err = page_check(f, f->buf + f->offset);
    load_done(f, err);
}

static void load_step(struct frame *f)
{
    struct store *s = f->store;
    uint32_t offset;
    const uint8_t *memory;
    switch (locate(s, locator_address(f->locator), &f->locating, &f->slot, &offset, &memory)) {
    case LOCATE_WAIT: return;
    case LOCATE_LOST: load_done(f, ERR_NO_PLACE); return;
    case LOCATED: break;
    }
    if (memory) {
        load_done(f, page_check(f, memory));
        return;
    }
    uint32_t from = offset / SECTOR * SECTOR;
    uint32_t to = (uint32_t)round_up64(offset + locator_units(f->locator) * UNIT, SECTOR);
    if (to > s->segment_bytes) {
        load_done(f, ERR_NO_PLACE);
        return;
    }
    struct device *d;
    uint64_t at;
    slot_where(s, f->slot, &d, &at);
    slot_reader_add(s, f->slot);
    f->offset = offset - from;
    f->op.done = load_read_done;
    s->stats.leaf_loads++;
    io_read(s->io, d->file, at + from, f->buf, to - from, &f->op);
}

static void load_again(struct waiter *w)
{
    load_step(CONTAINER(w, struct frame, locating));
}

enum map_got map_get(struct store *s, struct volume *v, uint8_t level, uint64_t index, struct waiter *w,
                     struct frame **ret_frame, enum err *ret_err)
{
    struct map *m = &s->map;
    if (level == 0 && index * LEAF_BLOCKS >= v->cut) return MAP_EMPTY;
    struct frame *f = frame_find(m, v->id, level, index);
    if (f && f->loading) {
        waiter_wait(&f->waiters, w);
        return MAP_WAIT;
    }
    if (f && f->failed) {
        *ret_err = f->err;
        if (f->pins == 0 && list_empty(&f->waiters)) frame_free(s, f);
        return MAP_FAILED;
    }
    if (f) {
        f->touched = true;
        *ret_frame = f;
        return MAP_FOUND;
    }
    const struct pointer *p = &v->root;
    if (level < INNER_LEVELS) {
        struct frame *parent;
        enum map_got got = map_get(s, v, (uint8_t)(level + 1), index / INNER_FANOUT, w, &parent, ret_err);
        if (got != MAP_FOUND) return got;
        p = &parent->u.inner.children[index % INNER_FANOUT];
    }
    if (p->locator == 0) return MAP_EMPTY;
    struct pointer pointer = *p;
    uint8_t *buf = buf_take(m);
    f = buf ? frame_take(s, v->id, level, index) : NULL;
    if (!f) {
        if (buf) m->buf_free[(buf - m->bufs) / PAGE_BUF] = 0;
        waiter_wait(&m->wanted, w);
        return MAP_WAIT;
    }
    f->locator = pointer.locator;
    memcpy(f->digest, pointer.digest, sizeof f->digest);
    f->loading = true;
    f->buf = buf;
    f->locating = (struct waiter){.wake = load_again};
    waiter_wait(&f->waiters, w);
    load_step(f);
    return MAP_WAIT;
}

/* A page that does not exist yet. Below an empty pointer everything takes the pointer's newest sequence: what was unmapped
 * there must still count as changed. */
static struct frame *frame_make(struct store *s, uint32_t volume, uint8_t level, uint64_t index, uint64_t newest)
{
    struct frame *f = frame_take(s, volume, level, index);
    if (!f) return NULL;
    memset(&f->u, 0, sizeof f->u);
    if (level > 0) {
        for (uint32_t i = 0; i < INNER_FANOUT; i++) f->u.inner.children[i].newest = newest;
        map_dirty(s, f);
    }
    return f;
}

enum err map_page(struct store *s, struct volume *v, uint8_t level, uint64_t index, bool make, struct frame **ret_frame)
{
    struct task_waiter w;
    task_waiter_init(&w);
    for (;;) {
        struct frame *f = NULL;
        enum err err = OK;
        switch (map_get(s, v, level, index, &w.waiter, &f, &err)) {
        case MAP_FOUND:
            f->pins++;
            *ret_frame = f;
            return OK;
        case MAP_FAILED: return err;
        case MAP_WAIT:
            while (w.waiter.waiting) io_task_park();
            continue;
        case MAP_EMPTY: break;
        }
        if (!make) {
            *ret_frame = NULL;
            return OK;
        }
        struct frame *parent = NULL;
        if (level < INNER_LEVELS) TRY(map_page(s, v, (uint8_t)(level + 1), index / INNER_FANOUT, true, &parent));
        f = frame_find(&s->map, v->id, level, index);
        if (!f) f = frame_make(s, v->id, level, index, map_pointer(v, parent, index)->newest);
        map_unpin(s, parent);
        if (!f) {
            waiter_wait(&s->map.wanted, &w.waiter);
            while (w.waiter.waiting) io_task_park();
        }
    }
}

enum err page_read(struct store *s, struct page_id id, const struct pointer *p, void *ret_raw, uint32_t room,
                   uint32_t *ret_size)
{
    const uint8_t *chunk;
    TRY(fetch_chunk(s, p->locator, s->fetch_buf, &chunk));
    TRY(chunk_unpack(chunk, locator_units(p->locator), locator_address(p->locator), NULL, ret_raw, room, ret_size));
    const struct disk_page *page = ret_raw;
    if (*ret_size < sizeof *page || get32(page->volume) != id.volume || page->level != id.level ||
        get64(page->index) != id.index)
        return ERR_DECODE;
    const struct disk_state *state = ret_raw;
    struct hash128 h = {p->digest[0], p->digest[1]};
    if (id.level == PAGE_STATE) {
        if (*ret_size < offsetof(struct disk_state, data)) return ERR_DECODE;
        h = hash128(state->data, *ret_size - offsetof(struct disk_state, data), 0);
    }
    return h.low == p->digest[0] && h.high == p->digest[1] ? OK : ERR_CHECKSUM;
}

/* ---- writing ---- */

static void lost_page(struct store *s, uint64_t locator)
{
    if (locator) slot_lost_units(s, locator_address(locator), locator_units(locator));
}

static bool leaf_is_empty(const struct leaf *leaf)
{
    for (uint32_t i = 0; i < LEAF_BLOCKS; i++)
        if (leaf->places[i] != PLACE_NONE) return false;
    return true;
}

/* What the delta covers may have died; what is the same in both did not. A walk that came after the delta's entry counted the
 * old block as dead already. */
static void leaf_losses(struct store *s, const struct delta_leaf *dl, const struct leaf *before, const struct leaf *after)
{
    uint32_t now = s->clean.walk, walk[LEAF_BLOCKS];
    for (uint32_t i = 0; i < LEAF_BLOCKS; i++) walk[i] = now;
    for (uint32_t i = dl->first; i; i = s->delta.entries[i - 1].leaf_next) {
        const struct delta_entry *e = &s->delta.entries[i - 1];
        walk[e->at] = now - (uint16_t)(now - e->walk);
    }
    for (uint32_t i = 0; i < LEAF_BLOCKS; i++) {
        uint64_t place = before->places[i];
        if (place == after->places[i] || !place_is_chunk(place)) continue;
        slot_lost_after(s, place_address(place), place_units(place), walk[i]);
    }
}

/* A leaf whose bytes came from the device and are wrong, twice: nobody will ever read it. Not one that cannot be read now. */
static bool leaf_is_rotten(struct store *s, struct volume *v, uint64_t index)
{
    uint8_t raw[8192];
    uint32_t size;
    struct frame *parent;
    if (map_page(s, v, 1, index / INNER_FANOUT, false, &parent) != OK || !parent) return false;
    struct pointer p = *map_pointer(v, parent, index);
    map_unpin(s, parent);
    enum err err = page_read(s, (struct page_id){v->id, PAGE_LEAF, index}, &p, raw, sizeof raw, &size);
    return err == ERR_CHECKSUM || err == ERR_DECODE;
}

/* What is left of a rotten one: every block that may have been mapped is lost. */
static void leaf_lose(const struct volume *v, uint64_t index, struct leaf *ret_leaf)
{
    uint64_t first = index * LEAF_BLOCKS;
    for (uint32_t i = 0; i < LEAF_BLOCKS && first + i < v->blocks; i++) ret_leaf->places[i] = PLACE_LOST;
}

/*
 * Writes the leaf of `dl` with its delta laid over it, and forgets the delta. First everything that may wait, then, without
 * a wait, the merge: operations published meanwhile are in it or come after it. A leaf below that is rotten does not stop the
 * others: what the delta does not cover is lost, and says so when it is read, until it is written again.
 */
enum err map_flush_leaf(struct store *s, struct delta_leaf *dl)
{
    struct volume *v = dl->volume;
    uint64_t index = dl->index;
    struct frame *f = NULL, *parent = NULL;
    if (v->deleted) {
        delta_forget(s, dl);
        return OK;
    }
    enum err err = map_cut(s, v); /* first: what is written now must not fall to an older cut */
    if (err == OK) err = map_page(s, v, 0, index, false, &f);
    bool whole = dl->base != DELTA_BASE_DISK; /* overwritten */
    bool rotten = err == ERR_PAGE_DAMAGED && !whole && leaf_is_rotten(s, v, index);
    if (err == ERR_PAGE_DAMAGED && (whole || rotten)) err = OK;
    if (err == OK) err = map_page(s, v, 1, index / INNER_FANOUT, true, &parent);
    if (err == OK) err = meta_room(s, sizeof(struct disk_leaf));
    if (err != OK) {
        map_unpin(s, f);
        map_unpin(s, parent);
        return err;
    }
    bool read_again = !f && frame_find(&s->map, v->id, 0, index); /* somebody else tried, and must not fail after the merge */
    if (v->cut != UINT64_MAX || read_again) {                     /* shrunk while this waited: once more */
        map_unpin(s, f);
        map_unpin(s, parent);
        return map_flush_leaf(s, dl);
    }
    struct leaf merged = {0};
    if (f) merged = f->u.leaf;
    if (rotten) leaf_lose(v, index, &merged);
    delta_overlay(s, dl, &merged);
    if (f) leaf_losses(s, dl, &f->u.leaf, &merged);
    struct pointer *p = map_pointer(v, parent, index);
    lost_page(s, p->locator);
    struct pointer next = {.newest = max64(p->newest, dl->newest)};
    if (MUTATED(MUTATE_STALE_NEWEST)) next.newest = p->newest;
    if (!leaf_is_empty(&merged)) {
        struct disk_leaf *disk = (struct disk_leaf *)(void *)s->page_buf;
        leaf_encode((struct page_id){v->id, 0, index}, &merged, disk);
        leaf_digest(&merged, next.digest);
        meta_append(s, disk, sizeof *disk, (uint32_t)next.digest[0], &next.locator);
    } else if (MUTATED(MUTATE_EMPTY_FORGETS)) {
        next.newest = 0;
    }
    *p = next;
    map_dirty(s, parent);
    s->stats.leaf_flushes++;
    s->changed = true;
    delta_forget(s, dl);
    if (f) {
        f->u.leaf = merged;
        f->locator = next.locator;
    }
    map_unpin(s, f);
    map_unpin(s, parent);
    if (f && !next.locator && f->pins == 0 && f->used && list_empty(&f->waiters)) frame_free(s, f);
    return OK;
}

static bool inner_is_empty(const struct inner *inner)
{
    for (uint32_t i = 0; i < INNER_FANOUT; i++)
        if (inner->children[i].locator) return false;
    return true;
}

static uint64_t newest_below(const struct inner *inner)
{
    uint64_t newest = 0;
    for (uint32_t i = 0; i < INNER_FANOUT; i++) newest = max64(newest, inner->children[i].newest);
    return newest;
}

static enum err write_inner(struct store *s, struct frame *f)
{
    struct volume *v = volume_find(s, f->id.volume);
    if (!v) { /* deleted: nothing points here any more */
        f->dirty = false;
        s->map.dirty--;
        return OK;
    }
    struct frame *parent = NULL;
    f->pins++;
    enum err err = OK;
    if (f->id.level < INNER_LEVELS) err = map_page(s, v, (uint8_t)(f->id.level + 1), f->id.index / INNER_FANOUT, true, &parent);
    if (err == OK) err = meta_room(s, sizeof(struct disk_inner));
    if (err == OK) {
        struct pointer *p = map_pointer(v, parent, f->id.index);
        struct pointer next = {.newest = max64(p->newest, newest_below(&f->u.inner))};
        if (MUTATED(MUTATE_NEWEST_NOT_INHERITED)) next.newest = p->newest;
        lost_page(s, p->locator);
        if (!inner_is_empty(&f->u.inner)) {
            struct disk_inner *disk = (struct disk_inner *)(void *)s->page_buf;
            inner_encode(f->id, &f->u.inner, disk);
            inner_digest(&f->u.inner, next.digest);
            meta_append(s, disk, sizeof *disk, (uint32_t)next.digest[0], &next.locator);
        }
        *p = next;
        if (parent) map_dirty(s, parent);
        f->locator = next.locator;
        f->dirty = false;
        s->map.dirty--;
    }
    map_unpin(s, parent);
    map_unpin(s, f);
    if (err == OK && !f->locator && f->pins == 0 && f->used && !f->dirty && list_empty(&f->waiters)) frame_free(s, f);
    return err;
}

enum err map_write_dirty(struct store *s)
{
    for (uint8_t level = 1; level <= INNER_LEVELS; level++) {
        for (uint32_t i = 0; i < s->map.known && s->map.dirty > 0; i++) {
            struct frame *f = &s->map.frames[i];
            if (f->used && f->dirty && f->id.level == level) TRY(write_inner(s, f));
        }
    }
    assert(s->map.dirty == 0);
    waiters_wake(s, &s->map.wanted);
    return OK;
}

/* ---- shrinking ---- */

/* Blocks that a page of this level covers; level 0 is a leaf. */
static uint64_t covers(uint8_t level)
{
    uint64_t blocks = LEAF_BLOCKS;
    for (uint8_t i = 0; i < level; i++) blocks *= INNER_FANOUT;
    return blocks;
}

/* Takes everything from the cut on out of the tree: at each level the children beyond it, then down into the one it splits.
 * The blocks of the split leaf are in the delta as unmapped. */
enum err map_cut(struct store *s, struct volume *v)
{
    uint64_t cut = v->cut;
    if (cut == UINT64_MAX) return OK;
    for (uint8_t level = INNER_LEVELS; level > 0; level--) {
        uint64_t index = cut / covers(level);
        uint64_t below = covers((uint8_t)(level - 1));
        if (index * INNER_FANOUT * below >= VOLUME_BLOCKS_MAX) break;
        struct frame *f;
        TRY(map_page(s, v, level, index, false, &f));
        if (!f) break;
        for (uint32_t i = 0; i < INNER_FANOUT; i++) {
            struct pointer *p = &f->u.inner.children[i];
            uint64_t child = index * INNER_FANOUT + i;
            if (child * below < cut || (!p->locator && !frame_is_dirty(s, v, (uint8_t)(level - 1), child))) continue;
            lost_page(s, p->locator);
            *p = (struct pointer){.newest = max64(p->newest, v->cut_sequence)};
            map_dirty(s, f);
        }
        map_unpin(s, f);
    }
    for (uint32_t i = 0; i < s->map.known; i++) {
        struct frame *f = &s->map.frames[i];
        if (!f->used || f->gone || f->id.volume != v->id || f->id.level > INNER_LEVELS) continue;
        if (f->id.index * covers(f->id.level) >= cut && f->id.index > 0) frame_drop(s, f);
    }
    if (v->cut == cut) v->cut = UINT64_MAX;
    s->clean.wanted = true;
    return OK;
}
