/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the cache returns what was put in or nothing, keeps its size, and chooses better than a plain queue. Method: random
 * use against a model that remembers the content of every key; then traces with known properties (skewed, one long scan
 * through a hot set, bursts on single blocks), whose hits are counted against a plain FIFO of as many frames.
 */
#include <stdlib.h>

#include "base/prng.h"
#include "check.h"
#include "store/cache.h"

enum { FRAME = 64 };

static void fill(uint8_t data[FRAME], uint64_t key, uint64_t version)
{
    struct prng prng;
    prng_init(&prng, key * 31 + version);
    prng_fill(&prng, data, FRAME);
}

static struct cache *cache_of(struct mem *mem, uint32_t frames)
{
    uint64_t bytes = 6 * 4200 + 200;
    for (;; bytes += FRAME) {
        struct mem *probe = mem_open(bytes * 2 + 65536);
        struct cache *cache = cache_open(probe, bytes, FRAME);
        uint32_t got = cache_frames(cache);
        mem_close(probe);
        if (got >= frames) return cache_open(mem, bytes, FRAME);
        if (got + 100 < frames) bytes += (frames - got - 50) * FRAME;
    }
}

TEST(it_stays_within_its_bytes)
{
    static const uint64_t sizes[] = {100000, 1 << 20, 5000000};
    for (int i = 0; i < 3; i++) {
        struct mem *mem = mem_open(sizes[i]);
        struct cache *cache = cache_open(mem, sizes[i], 4096);
        CHECK(cache != NULL);
        CHECK(mem_used(mem) <= sizes[i]);
        CHECK(cache_frames(cache) * 4096ull > sizes[i] / 100 * 94 - 32768);
        mem_close(mem);
    }
    struct mem *mem = mem_open(1 << 20);
    CHECK_EQ(cache_frames(cache_open(mem, 0, 4096)), 8);
    CHECK(cache_open(mem, 2 << 20, 4096) == NULL);
    mem_close(mem);
}

TEST(it_returns_what_was_put_in)
{
    enum { KEYS = 600 };
    static bool added[KEYS];
    static uint64_t version[KEYS];
    struct prng prng;
    prng_init(&prng, 1);
    struct mem *mem = mem_open(1 << 20);
    struct cache *cache = cache_of(mem, 100);
    uint32_t frames = cache_frames(cache), most = 0;
    uint8_t data[FRAME];
    for (int i = 0; i < 200000; i++) {
        uint64_t k = prng_below(&prng, prng_below(&prng, KEYS) + 1), key = k * 16;
        const uint8_t *found = cache_find(cache, key);
        fill(data, key, version[k]);
        CHECK(found == NULL || added[k]);
        if (found != NULL) CHECK_BYTES(found, data, FRAME);
        uint64_t what = prng_below(&prng, 10);
        if (what == 0) { /* the key comes back with another content, which only a drop allows */
            cache_drop(cache, key);
            CHECK(cache_find(cache, key) == NULL);
            added[k] = false;
            version[k]++;
        } else if (what < 8) {
            cache_add(cache, key, data);
            added[k] = true;
            found = cache_find(cache, key);
            CHECK(found != NULL);
            CHECK_BYTES(found, data, FRAME);
        }
        CHECK(cache_used(cache) <= frames);
        most = cache_used(cache) > most ? cache_used(cache) : most;
    }
    CHECK_EQ(most, frames);
    mem_close(mem);
}

TEST(a_full_cache_stays_full)
{
    struct mem *mem = mem_open(1 << 20);
    struct cache *cache = cache_of(mem, 8);
    uint8_t data[FRAME] = {0};
    for (uint64_t key = 0; key < 1000; key++) {
        cache_add(cache, key, data);
        cache_add(cache, key, data);
        CHECK_EQ(cache_used(cache), key < cache_frames(cache) ? key + 1 : cache_frames(cache));
        CHECK(cache_find(cache, key) != NULL);
    }
    for (uint64_t key = 0; key < 1000; key++) cache_drop(cache, key);
    CHECK_EQ(cache_used(cache), 0);
    mem_close(mem);
}

/* ---- traces ---- */

static bool use(struct cache *cache, uint64_t key)
{
    static const uint8_t data[FRAME];
    if (cache_find(cache, key) != NULL) return true;
    cache_add(cache, key, data);
    return false;
}

/* A plain FIFO: a ring of keys, and what is in it. */
struct fifo {
    uint64_t ring[4096];
    uint32_t frames, hand;
    bool in[1 << 17];
};

static bool fifo_use(struct fifo *fifo, uint64_t key)
{
    if (fifo->in[key]) return true;
    fifo->in[fifo->ring[fifo->hand]] = false;
    fifo->ring[fifo->hand] = key;
    fifo->in[key] = true;
    fifo->hand = (fifo->hand + 1) % fifo->frames;
    return false;
}

/* Ranks with a probability of 1 / rank, by halving the table of sums. */
static uint64_t skewed(struct prng *prng, const double *sums, uint32_t keys)
{
    double at = (double)(prng_next(prng) >> 11) / 9007199254740992.0 * sums[keys - 1];
    uint32_t low = 0, high = keys - 1;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (sums[middle] < at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* One in `scan` accesses goes on with a scan through keys used once. Reports hits. */
static void skewed_trace(uint32_t scan, uint32_t *ret_hits, uint32_t *ret_fifo_hits, uint32_t *ret_accesses)
{
    enum { KEYS = 20000, ACCESSES = 300000 };
    static double sums[KEYS];
    static struct fifo fifo;
    struct mem *mem = mem_open(1 << 22);
    struct cache *cache = cache_of(mem, 2000);
    struct prng prng;
    prng_init(&prng, 3);
    memset(&fifo, 0, sizeof fifo);
    fifo.frames = cache_frames(cache);
    double sum = 0;
    for (uint32_t i = 0; i < KEYS; i++) sums[i] = sum += 1.0 / (i + 1);
    *ret_hits = *ret_fifo_hits = *ret_accesses = 0;
    uint64_t scanned = KEYS;
    for (uint32_t i = 0; i < ACCESSES; i++) {
        bool scanning = scan > 0 && i % scan == 0;
        if (scanning) scanned = scanned + 1 < 1 << 17 ? scanned + 1 : KEYS;
        uint64_t key = scanning ? scanned : skewed(&prng, sums, KEYS);
        bool hit = use(cache, key), fifo_hit = fifo_use(&fifo, key);
        if (i < ACCESSES / 4 || scanning) continue;
        *ret_hits += hit;
        *ret_fifo_hits += fifo_hit;
        ++*ret_accesses;
    }
    mem_close(mem);
}

TEST(it_hits_more_than_a_plain_queue)
{
    uint32_t hits, fifo_hits, accesses;
    skewed_trace(0, &hits, &fifo_hits, &accesses);
    printf("# skewed: %.3f, FIFO %.3f\n", hits / (double)accesses, fifo_hits / (double)accesses);
    CHECK(hits > fifo_hits + accesses / 25);
    skewed_trace(2, &hits, &fifo_hits, &accesses);
    printf("# skewed, half of it a scan: %.3f, FIFO %.3f\n", hits / (double)accesses, fifo_hits / (double)accesses);
    CHECK(hits > fifo_hits + accesses / 12);
}

TEST(a_scan_leaves_the_hot_set_alone)
{
    struct mem *mem = mem_open(1 << 22);
    struct cache *cache = cache_of(mem, 1000);
    struct prng prng;
    prng_init(&prng, 3);
    for (int i = 0; i < 20000; i++) use(cache, prng_below(&prng, 500));
    for (uint64_t key = 10000; key < 50000; key++) use(cache, key);
    uint32_t left = 0;
    for (uint64_t key = 0; key < 500; key++) left += cache_find(cache, key) != NULL;
    CHECK(left >= 450);
    mem_close(mem);
}

TEST(a_burst_on_one_block_does_not_promote_it)
{
    struct mem *mem = mem_open(1 << 22);
    struct cache *cache = cache_of(mem, 1000);
    struct prng prng;
    prng_init(&prng, 3);
    for (int i = 0; i < 40000; i++) use(cache, prng_below(&prng, 600));
    for (uint64_t key = 10000; key < 20000; key++)
        for (int i = 0; i < 5; i++) use(cache, key);
    uint32_t left = 0;
    for (uint64_t key = 0; key < 600; key++) left += cache_find(cache, key) != NULL;
    CHECK(left >= 540);
    mem_close(mem);
}

TESTS(it_stays_within_its_bytes, it_returns_what_was_put_in, a_full_cache_stays_full, it_hits_more_than_a_plain_queue,
      a_scan_leaves_the_hot_set_alone, a_burst_on_one_block_does_not_promote_it)
