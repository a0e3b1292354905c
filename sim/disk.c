/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages, splits and the writes between them.
 *
 * A cell is a page's place on the disk. `now` is its content as seen; NULL is zeros. A write that is not durable splits the
 * cell: `stable` stays behind, with the number of the newest write in each of its sectors, and the write joins the list of
 * loose ones, which holds on to its pages as they were right after it. Flushing copies loose sectors over older stable ones;
 * when nothing is loose any more all splits end.
 *
 * Invariant: a cell covered by a loose write is split.
 */
#include "sim/disk.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/hash.h"
#include "sim/must.h"

enum { SECTORS = DISK_PAGE / DISK_SECTOR, TABLE = 512, SLAB = 128, SPOILED_MAX = 32 };

struct page {
    struct page *next; /* free ones */
    uint32_t refs;
    uint8_t data[DISK_PAGE];
};

struct slab {
    struct slab *next;
    struct page pages[SLAB];
};

struct split {
    struct list link;
    struct cell *cell;
    struct page *stable;
    uint64_t newest[SECTORS];
};

struct cell {
    struct page *now;
    struct split *split;
};

/* A completed write that a power cut may undo. */
struct loose {
    struct list link;
    uint64_t number, offset, length;
    uint32_t count;
    struct page *pages[];
};

struct spoiled {
    uint64_t from, to;
};

struct disk {
    struct page_pool *pool;
    char name[64];
    uint64_t size;
    struct cell **tables;
    uint64_t table_count;
    struct list splits, loose;
    uint64_t newest;
    struct spoiled spoiled[SPOILED_MAX];
    uint32_t spoiled_count;
};

/* ---- pages ---- */

void page_pool_init(struct page_pool *pool)
{
    pool->free = NULL;
    pool->slabs = NULL;
    list_init(&pool->splits);
}

void page_pool_done(struct page_pool *pool)
{
    for (struct slab *slab; (slab = pool->slabs) != NULL;) {
        pool->slabs = slab->next;
        free(slab);
    }
    for (struct list *l; (l = list_pop(&pool->splits)) != NULL;) free(CONTAINER(l, struct split, link));
}

static struct page *page_new(struct page_pool *pool)
{
    if (!pool->free) {
        struct slab *slab = must(malloc(sizeof *slab));
        slab->next = pool->slabs;
        pool->slabs = slab;
        for (int i = SLAB - 1; i >= 0; i--) {
            slab->pages[i].next = pool->free;
            pool->free = &slab->pages[i];
        }
    }
    struct page *page = pool->free;
    pool->free = page->next;
    page->refs = 1;
    return page;
}

static struct page *page_ref(struct page *page)
{
    if (page) page->refs++;
    return page;
}

static void page_unref(struct page_pool *pool, struct page *page)
{
    if (!page || --page->refs > 0) return;
    page->next = pool->free;
    pool->free = page;
}

/* Writes into *page, which becomes the caller's alone. */
static void page_write(struct page_pool *pool, struct page **page, uint32_t at, const void *buf, uint32_t length)
{
    if (!*page || (*page)->refs > 1) {
        struct page *copy = page_new(pool);
        if (length < DISK_PAGE) {
            if (*page)
                memcpy(copy->data, (*page)->data, DISK_PAGE);
            else
                memset(copy->data, 0, DISK_PAGE);
        }
        page_unref(pool, *page);
        *page = copy;
    }
    memcpy((*page)->data + at, buf, length);
}

/* ---- cells ---- */

static struct cell *cell_peek(const struct disk *disk, uint64_t index)
{
    struct cell *table = index / TABLE < disk->table_count ? disk->tables[index / TABLE] : NULL;
    return table ? &table[index % TABLE] : NULL;
}

static struct cell *cell_at(struct disk *disk, uint64_t index)
{
    uint64_t t = index / TABLE;
    if (t >= disk->table_count) {
        uint64_t count = max64(t + 1, 8);
        disk->tables = must(realloc(disk->tables, count * sizeof(struct cell *)));
        for (uint64_t i = disk->table_count; i < count; i++) disk->tables[i] = NULL;
        disk->table_count = count;
    }
    if (!disk->tables[t]) disk->tables[t] = must(calloc(TABLE, sizeof(struct cell)));
    return &disk->tables[t][index % TABLE];
}

static struct split *split_begin(struct disk *disk, struct cell *cell)
{
    if (cell->split) return cell->split;
    struct list *kept = list_pop(&disk->pool->splits);
    struct split *split = kept ? CONTAINER(kept, struct split, link) : must(malloc(sizeof *split));
    *split = (struct split){.cell = cell, .stable = page_ref(cell->now)};
    list_push(&disk->splits, &split->link);
    cell->split = split;
    return split;
}

static void split_end(struct disk *disk, struct split *split)
{
    list_remove(&split->link);
    split->cell->split = NULL;
    page_unref(disk->pool, split->stable);
    list_push(&disk->pool->splits, &split->link);
}

static void splits_end(struct disk *disk)
{
    while (!list_empty(&disk->splits)) split_end(disk, CONTAINER(disk->splits.next, struct split, link));
}

static void loose_end(struct disk *disk, struct loose *loose)
{
    list_remove(&loose->link);
    for (uint32_t i = 0; i < loose->count; i++) page_unref(disk->pool, loose->pages[i]);
    free(loose);
}

static void loose_end_all(struct disk *disk)
{
    while (!list_empty(&disk->loose)) loose_end(disk, CONTAINER(disk->loose.next, struct loose, link));
}

static void cells_forget(struct disk *disk, uint64_t from)
{
    for (uint64_t t = from / TABLE; t < disk->table_count; t++) {
        if (!disk->tables[t]) continue;
        for (uint64_t i = t * TABLE < from ? from % TABLE : 0; i < TABLE; i++) {
            page_unref(disk->pool, disk->tables[t][i].now);
            disk->tables[t][i].now = NULL;
        }
    }
}

/* ---- the disk as a whole ---- */

struct disk *disk_open(struct page_pool *pool, const char *name, uint64_t size)
{
    struct disk *disk = must(calloc(1, sizeof *disk));
    disk->pool = pool;
    strncpy(disk->name, name, sizeof disk->name - 1);
    disk->size = size;
    list_init(&disk->splits);
    list_init(&disk->loose);
    return disk;
}

void disk_close(struct disk *disk)
{
    loose_end_all(disk);
    splits_end(disk);
    cells_forget(disk, 0);
    for (uint64_t t = 0; t < disk->table_count; t++) free(disk->tables[t]);
    free(disk->tables);
    free(disk);
}

const char *disk_name(const struct disk *disk)
{
    return disk->name;
}

uint64_t disk_size(const struct disk *disk)
{
    return disk->size;
}

void disk_resize(struct disk *disk, uint64_t size)
{
    static const uint8_t zeros[DISK_PAGE];
    if (size < disk->size) {
        disk_flush(disk, disk->newest);
        uint64_t whole = round_up64(size, DISK_PAGE);
        struct cell *last = whole > size ? cell_peek(disk, size / DISK_PAGE) : NULL;
        if (last && last->now) page_write(disk->pool, &last->now, size % DISK_PAGE, zeros, (uint32_t)(whole - size));
        cells_forget(disk, whole / DISK_PAGE);
    }
    disk->size = size;
}

void disk_copy(struct disk *to, const struct disk *from)
{
    loose_end_all(to);
    splits_end(to);
    cells_forget(to, 0);
    to->size = from->size;
    memcpy(to->spoiled, from->spoiled, sizeof to->spoiled);
    to->spoiled_count = from->spoiled_count;
    for (uint64_t t = 0; t < from->table_count; t++) {
        for (uint64_t i = 0; from->tables[t] && i < TABLE; i++)
            if (from->tables[t][i].now) cell_at(to, t * TABLE + i)->now = page_ref(from->tables[t][i].now);
    }
}

uint64_t disk_hash(const struct disk *disk)
{
    uint64_t hash = disk->size;
    for (uint64_t t = 0; t < disk->table_count; t++) {
        for (uint64_t i = 0; disk->tables[t] && i < TABLE; i++) {
            const struct page *page = disk->tables[t][i].now;
            if (page) hash = hash64(page->data, DISK_PAGE, hash + t * TABLE + i);
        }
    }
    return hash;
}

/* ---- reading and writing ---- */

void disk_get(const struct disk *disk, uint64_t offset, void *ret_buf, uint64_t length)
{
    uint8_t *to = ret_buf;
    while (length > 0) {
        uint32_t at = offset % DISK_PAGE;
        uint32_t part = (uint32_t)min64(length, DISK_PAGE - at);
        const struct cell *cell = cell_peek(disk, offset / DISK_PAGE);
        if (cell && cell->now)
            memcpy(to, cell->now->data + at, part);
        else
            memset(to, 0, part);
        to += part;
        offset += part;
        length -= part;
    }
}

/* The part of a write that falls into one page. */
static struct cell *put_part(struct disk *disk, uint64_t offset, const uint8_t *buf, uint32_t length, bool durable)
{
    struct cell *cell = cell_at(disk, offset / DISK_PAGE);
    uint32_t at = offset % DISK_PAGE;
    if (!durable) split_begin(disk, cell);
    page_write(disk->pool, &cell->now, at, buf, length);
    if (durable && cell->split) {
        page_write(disk->pool, &cell->split->stable, at, buf, length);
        for (uint32_t s = at / DISK_SECTOR; s < (at + length) / DISK_SECTOR; s++) cell->split->newest[s] = disk->newest;
    }
    return cell;
}

static void unspoil(struct disk *disk, uint64_t offset, uint64_t length)
{
    for (uint32_t i = 0; i < disk->spoiled_count; i++) {
        struct spoiled *s = &disk->spoiled[i];
        if (s->from >= offset + length || offset >= s->to) continue;
        if (offset <= s->from)
            s->from = min64(s->to, offset + length);
        else
            s->to = offset; /* what is left behind the write is mended, too: drives remap generously */
    }
}

void disk_put(struct disk *disk, uint64_t offset, const void *buf, uint64_t length, bool durable)
{
    assert(offset % DISK_SECTOR == 0 && length % DISK_SECTOR == 0);
    if (length == 0) return;
    uint64_t first = offset / DISK_PAGE;
    uint32_t count = (uint32_t)((offset + length - 1) / DISK_PAGE - first + 1);
    struct loose *loose = NULL;
    disk->newest++;
    if (disk->size < offset + length) disk->size = offset + length;
    if (!durable) {
        loose = must(malloc(sizeof *loose + count * sizeof(struct page *)));
        loose->number = disk->newest;
        loose->offset = offset;
        loose->length = length;
        loose->count = count;
        list_push(&disk->loose, &loose->link);
    }
    const uint8_t *from = buf;
    for (uint64_t at = offset, i = 0; i < count; i++) {
        uint32_t part = (uint32_t)min64(offset + length - at, DISK_PAGE - at % DISK_PAGE);
        struct cell *cell = put_part(disk, at, from, part, durable);
        if (loose) loose->pages[i] = page_ref(cell->now);
        from += part;
        at += part;
    }
    if (disk->spoiled_count) unspoil(disk, offset, length);
}

uint64_t disk_newest(const struct disk *disk)
{
    return disk->newest;
}

/* One sector of a loose write reaches stable storage, unless something newer is there. */
static void loose_sector(struct disk *disk, const struct loose *loose, uint64_t at)
{
    uint64_t index = at / DISK_PAGE;
    struct split *split = cell_at(disk, index)->split;
    assert(split);
    uint32_t s = at % DISK_PAGE / DISK_SECTOR;
    if (split->newest[s] > loose->number) return;
    const struct page *page = loose->pages[index - loose->offset / DISK_PAGE];
    page_write(disk->pool, &split->stable, s * DISK_SECTOR, page->data + s * DISK_SECTOR, DISK_SECTOR);
    split->newest[s] = loose->number;
}

static void loose_apply(struct disk *disk, const struct loose *loose)
{
    for (uint64_t at = loose->offset; at < loose->offset + loose->length; at += DISK_SECTOR) loose_sector(disk, loose, at);
}

void disk_flush(struct disk *disk, uint64_t newest)
{
    bool all = list_empty(&disk->loose) || CONTAINER(disk->loose.prev, struct loose, link)->number <= newest;
    while (!list_empty(&disk->loose)) {
        struct loose *loose = CONTAINER(disk->loose.next, struct loose, link);
        if (loose->number > newest) break;
        if (!all) loose_apply(disk, loose);
        loose_end(disk, loose);
    }
    if (all) splits_end(disk);
}

void disk_discard(struct disk *disk, uint64_t offset, uint64_t length, struct prng *prng)
{
    uint8_t bytes[DISK_PAGE];
    uint64_t what = prng_below(prng, 3);
    uint64_t from = round_up64(offset, DISK_PAGE), to = (offset + length) / DISK_PAGE * DISK_PAGE;
    if (what == 0 || from >= to) return;
    memset(bytes, 0, sizeof bytes);
    if (what == 1) prng_fill(prng, bytes, sizeof bytes);
    for (; from < min64(to, disk->size); from += DISK_PAGE) disk_put(disk, from, bytes, DISK_PAGE, true);
}

/* ---- power cut ---- */

enum fate { FATE_DROPPED, FATE_APPLIED, FATE_TORN };

static enum fate fate_of(enum mood mood, struct prng *prng)
{
    uint64_t draw = prng_next(prng);
    switch (mood) {
    case MOOD_DROP: return FATE_DROPPED;
    case MOOD_APPLY: return FATE_APPLIED;
    case MOOD_BY_WRITE: return draw & 1 ? FATE_APPLIED : FATE_DROPPED;
    case MOOD_BY_SECTOR:
    case MOOD_COUNT: break;
    }
    return draw % 6 == 0 ? FATE_DROPPED : draw % 6 == 1 ? FATE_APPLIED : FATE_TORN;
}

/* Whether a sector of a write with this fate is new. */
static bool sector_is_new(enum fate fate, struct prng *prng)
{
    return fate == FATE_APPLIED || (fate == FATE_TORN && prng_next(prng) >> 63);
}

void disk_settle(struct disk *disk, enum mood mood, struct prng *prng)
{
    while (!list_empty(&disk->loose)) {
        struct loose *loose = CONTAINER(disk->loose.next, struct loose, link);
        enum fate fate = fate_of(mood, prng);
        for (uint64_t at = loose->offset; at < loose->offset + loose->length; at += DISK_SECTOR)
            if (sector_is_new(fate, prng)) loose_sector(disk, loose, at);
        loose_end(disk, loose);
    }
    while (!list_empty(&disk->splits)) {
        struct split *split = CONTAINER(disk->splits.next, struct split, link);
        page_unref(disk->pool, split->cell->now);
        split->cell->now = page_ref(split->stable);
        split_end(disk, split);
    }
}

void disk_settle_write(struct disk *disk, uint64_t offset, const void *buf, uint64_t length, enum mood mood, struct prng *prng)
{
    enum fate fate = fate_of(mood, prng);
    const uint8_t *from = buf;
    for (uint64_t at = 0; at < length; at += DISK_SECTOR)
        if (sector_is_new(fate, prng)) disk_put(disk, offset + at, from + at, DISK_SECTOR, true);
}

/* ---- damage at rest ---- */

void disk_flip(struct disk *disk, uint64_t offset, unsigned bit)
{
    uint8_t byte;
    disk_flush(disk, disk->newest);
    disk_get(disk, offset, &byte, 1);
    byte ^= (uint8_t)(1u << (bit % 8));
    page_write(disk->pool, &cell_at(disk, offset / DISK_PAGE)->now, offset % DISK_PAGE, &byte, 1);
}

void disk_spoil(struct disk *disk, uint64_t offset, uint64_t length)
{
    if (disk->spoiled_count == SPOILED_MAX) return;
    disk->spoiled[disk->spoiled_count++] = (struct spoiled){offset, offset + length};
}

bool disk_is_spoiled(const struct disk *disk, uint64_t offset, uint64_t length)
{
    for (uint32_t i = 0; i < disk->spoiled_count; i++)
        if (disk->spoiled[i].from < offset + length && offset < disk->spoiled[i].to) return true;
    return false;
}
