/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The RAM cache: S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023), with a correlation
 * window.
 *
 *     new keys -> SMALL (a tenth of the frames) -- used meanwhile --> MAIN <- keys that GHOST remembers
 *                   |                                                 |  ^
 *                   +-- not used: out, the key goes to GHOST          +--+ used: once more around, else out
 *
 * One pass over much data goes through SMALL and leaves MAIN alone. A hit on a key while it is among the newest half of
 * SMALL does not count, since a file system that touches a block touches it several times in a row. Queues are linked
 * through frame numbers, tables are chained the same way: all of the book-keeping is a few arrays made at start. Numbers
 * begin at 1, so that fresh memory is an empty cache and a large cache costs nothing until it fills.
 */
#include "store/cache.h"

#include <string.h>

#include "base/bytes.h"

enum {
    FRAMES_MIN = 8,
    FREQUENCY_MAX = 3,
    SMALL_PART = 10, /* SMALL is one part in so many */
    WINDOW_PART = 2, /* hits do not count in the newest one part in so many of SMALL */
    NONE = 0,        /* no frame, no ghost */
    FRAMES_MAX = 1 << 30,
    PIECE_EXTRA = 4200, /* what mem_alloc takes besides the size, at most */
    PIECES = 6,
};

enum queue_name { SMALL, MAIN, QUEUES };

struct queue {
    uint32_t oldest, newest, count;
};

struct frame {
    uint64_t key;
    uint32_t newer, older; /* in its queue; `newer` also links the frames given back */
    uint32_t next;         /* in its chain of the table */
    uint32_t arrival;      /* SMALL: how many had arrived before, modulo 2^32 */
    uint8_t queue;
    uint8_t frequency;
};

struct ghost {
    uint64_t key;
    uint32_t next;
    uint32_t known; /* 0: forgotten */
};

struct cache {
    uint32_t frame_bytes, frames, used;
    uint32_t fresh; /* frames up to this one have been in use */
    uint32_t free;  /* first of the frames given back */
    uint32_t small_max;
    uint32_t arrivals; /* in SMALL, ever */
    struct queue queues[QUEUES];
    struct frame *frame;
    uint8_t *data;
    uint32_t *table;       /* first frame of each chain */
    uint32_t *ghost_table; /* first ghost of each chain */
    uint32_t table_shift;  /* 64 - log2 of the chains, of both tables */
    struct ghost *ghost;   /* a ring of as many keys as there are frames */
    uint32_t ghost_hand;   /* the newest; the oldest comes after it and is overwritten next */
};

/* ---- sizes ---- */

static uint32_t table_log(uint32_t frames)
{
    uint32_t log = 3;
    while (((uint32_t)1 << log) < frames) log++;
    return log;
}

/* What cache_open takes for so many frames. Element 0 of the arrays is not used. */
static uint64_t cost(uint64_t frames, uint32_t frame_bytes)
{
    uint64_t tables = 2 * sizeof(uint32_t) * ((uint64_t)1 << table_log((uint32_t)frames));
    uint64_t each = frame_bytes + sizeof(struct frame) + sizeof(struct ghost);
    return sizeof(struct cache) + (frames + 1) * each + tables + PIECES * PIECE_EXTRA;
}

/* The most that fits, found by halving. */
static uint32_t frames_within(uint64_t bytes, uint32_t frame_bytes)
{
    uint64_t low = FRAMES_MIN, high = min64(bytes / frame_bytes, FRAMES_MAX);
    while (low < high) {
        uint64_t middle = low + (high - low + 1) / 2;
        if (cost(middle, frame_bytes) <= bytes)
            low = middle;
        else
            high = middle - 1;
    }
    return (uint32_t)low;
}

static bool arrays_alloc(struct cache *cache, struct mem *mem)
{
    size_t frames = cache->frames, chains = (size_t)1 << (64 - cache->table_shift);
    cache->frame = mem_alloc(mem, (frames + 1) * sizeof *cache->frame);
    cache->data = mem_alloc_raw(mem, frames * cache->frame_bytes);
    cache->ghost = mem_alloc(mem, (frames + 1) * sizeof *cache->ghost);
    cache->table = mem_alloc(mem, chains * sizeof *cache->table);
    cache->ghost_table = mem_alloc(mem, chains * sizeof *cache->ghost_table);
    if (cache->frame && cache->data && cache->ghost && cache->table && cache->ghost_table) return true;
    mem_free(mem, cache->frame);
    mem_free(mem, cache->data);
    mem_free(mem, cache->ghost);
    mem_free(mem, cache->table);
    mem_free(mem, cache->ghost_table);
    return false;
}

struct cache *cache_open(struct mem *mem, uint64_t bytes, uint32_t frame_bytes)
{
    assert(frame_bytes > 0);
    struct cache *cache = mem_alloc(mem, sizeof *cache);
    if (cache == NULL) return NULL;
    cache->frame_bytes = frame_bytes;
    cache->frames = frames_within(bytes, frame_bytes);
    cache->table_shift = 64 - table_log(cache->frames);
    cache->small_max = cache->frames / SMALL_PART > 0 ? cache->frames / SMALL_PART : 1;
    if (!arrays_alloc(cache, mem)) {
        mem_free(mem, cache);
        return NULL;
    }
    return cache;
}

/* ---- tables ---- */

static uint32_t chain_of(const struct cache *cache, uint64_t key)
{
    return (uint32_t)(key * 0x9e3779b97f4a7c15u >> cache->table_shift);
}

static uint32_t frame_of(const struct cache *cache, uint64_t key)
{
    uint32_t f = cache->table[chain_of(cache, key)];
    while (f != NONE && cache->frame[f].key != key) f = cache->frame[f].next;
    return f;
}

static void table_add(struct cache *cache, uint32_t f)
{
    uint32_t *chain = &cache->table[chain_of(cache, cache->frame[f].key)];
    cache->frame[f].next = *chain;
    *chain = f;
}

static void table_remove(struct cache *cache, uint32_t f)
{
    uint32_t *link = &cache->table[chain_of(cache, cache->frame[f].key)];
    while (*link != f) link = &cache->frame[*link].next;
    *link = cache->frame[f].next;
}

static uint8_t *data_of(const struct cache *cache, uint32_t f)
{
    return cache->data + (size_t)(f - 1) * cache->frame_bytes;
}

/* ---- ghosts ---- */

/* Forgets `key`; false when it was not remembered. */
static bool ghost_take(struct cache *cache, uint64_t key)
{
    uint32_t *link = &cache->ghost_table[chain_of(cache, key)];
    while (*link != NONE && cache->ghost[*link].key != key) link = &cache->ghost[*link].next;
    if (*link == NONE) return false;
    struct ghost *ghost = &cache->ghost[*link];
    *link = ghost->next;
    ghost->known = false;
    return true;
}

static void ghost_add(struct cache *cache, uint64_t key)
{
    uint32_t g = cache->ghost_hand == cache->frames ? 1 : cache->ghost_hand + 1;
    struct ghost *ghost = &cache->ghost[g];
    if (ghost->known) ghost_take(cache, ghost->key);
    uint32_t *chain = &cache->ghost_table[chain_of(cache, key)];
    *ghost = (struct ghost){.key = key, .next = *chain, .known = true};
    *chain = g;
    cache->ghost_hand = g;
}

/* ---- queues ---- */

static void queue_push(struct cache *cache, enum queue_name name, uint32_t f)
{
    struct queue *queue = &cache->queues[name];
    struct frame *frame = &cache->frame[f];
    frame->queue = (uint8_t)name;
    frame->newer = NONE;
    frame->older = queue->newest;
    if (queue->newest != NONE)
        cache->frame[queue->newest].newer = f;
    else
        queue->oldest = f;
    queue->newest = f;
    queue->count++;
}

static void queue_remove(struct cache *cache, uint32_t f)
{
    const struct frame *frame = &cache->frame[f];
    struct queue *queue = &cache->queues[frame->queue];
    assert(queue->count > 0);
    if (frame->newer != NONE)
        cache->frame[frame->newer].older = frame->older;
    else
        queue->newest = frame->older;
    if (frame->older != NONE)
        cache->frame[frame->older].newer = frame->newer;
    else
        queue->oldest = frame->newer;
    queue->count--;
}

/* Looks at the oldest frame of a queue: lets it go on when it was used (false), else takes it out of the cache. */
static bool evict_oldest(struct cache *cache, enum queue_name name, uint32_t *ret_frame)
{
    uint32_t f = cache->queues[name].oldest;
    struct frame *frame = &cache->frame[f];
    queue_remove(cache, f);
    if (frame->frequency > 0) {
        frame->frequency = name == SMALL ? 0 : (uint8_t)(frame->frequency - 1);
        queue_push(cache, MAIN, f);
        return false;
    }
    table_remove(cache, f);
    if (name == SMALL) ghost_add(cache, frame->key);
    *ret_frame = f;
    return true;
}

/* A frame in no queue and no table. Each look lowers a frequency or shortens SMALL, so this ends. */
static uint32_t frame_take(struct cache *cache)
{
    if (cache->used < cache->frames) {
        uint32_t f = cache->free;
        if (f != NONE)
            cache->free = cache->frame[f].newer;
        else
            f = ++cache->fresh;
        cache->used++;
        assert(f <= cache->frames);
        return f;
    }
    for (uint32_t f;;) {
        bool small = cache->queues[SMALL].count >= cache->small_max || cache->queues[MAIN].count == 0;
        if (evict_oldest(cache, small ? SMALL : MAIN, &f)) return f;
    }
}

/* ---- use ---- */

const uint8_t *cache_find(struct cache *cache, uint64_t key)
{
    uint32_t f = frame_of(cache, key);
    if (f == NONE) return NULL;
    struct frame *frame = &cache->frame[f];
    bool correlated = frame->queue == SMALL && cache->arrivals - frame->arrival <= cache->small_max / WINDOW_PART;
    if (!correlated && frame->frequency < FREQUENCY_MAX) frame->frequency++;
    return data_of(cache, f);
}

void cache_add(struct cache *cache, uint64_t key, const uint8_t *data)
{
    if (frame_of(cache, key) != NONE) return;
    bool known = ghost_take(cache, key);
    uint32_t f = frame_take(cache);
    cache->frame[f] = (struct frame){.key = key, .arrival = cache->arrivals};
    if (!known) cache->arrivals++;
    memcpy(data_of(cache, f), data, cache->frame_bytes);
    queue_push(cache, known ? MAIN : SMALL, f);
    table_add(cache, f);
}

void cache_drop(struct cache *cache, uint64_t key)
{
    uint32_t f = frame_of(cache, key);
    if (f == NONE) return;
    table_remove(cache, f);
    queue_remove(cache, f);
    cache->frame[f].newer = cache->free;
    cache->free = f;
    cache->used--;
}

uint32_t cache_frames(const struct cache *cache)
{
    return cache->frames;
}

uint32_t cache_used(const struct cache *cache)
{
    return cache->used;
}
