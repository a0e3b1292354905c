/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dedupe index: buckets of eight entries, each one cache line, newest entry first.
 *
 * A fingerprint picks its bucket with some of its bits and brings a tag of 28 others. Nothing points anywhere: an entry
 * that was pushed out of a full bucket is only a duplicate that will not be noticed. The sample at density 1 in 2^s is the
 * tags that end in s ones, so an entry says by itself whether it still belongs. When the density falls, a sweep drops what
 * left the sample, a few buckets with every insert; it is over long before the table could fill again, and until then the
 * density stays.
 */
#include "store/index.h"

#include <assert.h>
#include <string.h>

enum {
    WAYS = INDEX_HINTS_MAX,
    TAG_BITS = 28,
    SEGMENT_BITS = 36,
    SWEEP_BUCKETS = 4, /* with each insert, while a sweep is under way */
    DENSITY_MAX = 16,  /* one in 65,536: the tags keep 12 bits to tell entries apart */
    BUCKETS_LOG_MAX = 40,
};

#define SEGMENT_MASK (((uint64_t)1 << SEGMENT_BITS) - 1)
#define TAG_MASK (((uint32_t)1 << TAG_BITS) - 1)

/* An entry: tag << 36 | segment. No tag is 0, so 0 is no entry; the entries of a bucket come before its free places. */
struct bucket {
    uint64_t entries[WAYS];
};

struct index {
    struct mem *mem;
    struct bucket *buckets;
    uint64_t mask; /* buckets - 1 */
    uint64_t count;
    uint64_t sweep; /* next bucket to sweep; mask + 1: no sweep is under way */
    uint32_t shift; /* the density is 1 in 2^shift */
};

struct index *index_open(struct mem *mem, uint64_t bytes)
{
    uint32_t log = 0;
    while (log < BUCKETS_LOG_MAX && ((uint64_t)2 << log) * sizeof(struct bucket) <= bytes) log++;
    struct index *index = mem_alloc(mem, sizeof *index);
    struct bucket *buckets = mem_alloc(mem, ((size_t)1 << log) * sizeof *buckets);
    if (index == NULL || buckets == NULL) {
        mem_free(mem, index);
        mem_free(mem, buckets);
        return NULL;
    }
    uint64_t count = (uint64_t)1 << log;
    *index = (struct index){.mem = mem, .buckets = buckets, .mask = count - 1, .sweep = count};
    return index;
}

void index_close(struct index *index)
{
    if (index == NULL) return;
    mem_free(index->mem, index->buckets);
    mem_free(index->mem, index);
}

/* Bytes 0 to 3 of a fingerprint are the tag in maps and chunks; these are others. */
static struct bucket *bucket_of(const struct index *index, const struct fingerprint *print)
{
    uint64_t bits;
    memcpy(&bits, print->b + 4, sizeof bits);
    return &index->buckets[bits & index->mask];
}

static uint32_t tag_of(const struct fingerprint *print)
{
    uint32_t tag;
    memcpy(&tag, print->b + 12, sizeof tag);
    tag &= TAG_MASK;
    return tag != 0 ? tag : 1;
}

static bool tag_sampled(const struct index *index, uint32_t tag)
{
    uint32_t ones = ((uint32_t)1 << index->shift) - 1;
    return (tag & ones) == ones;
}

static uint32_t entry_tag(uint64_t entry)
{
    return (uint32_t)(entry >> SEGMENT_BITS);
}

uint32_t index_find(const struct index *index, const struct fingerprint *print, uint64_t ret_segments[INDEX_HINTS_MAX])
{
    const struct bucket *bucket = bucket_of(index, print);
    uint32_t tag = tag_of(print), found = 0;
    for (uint32_t i = 0; i < WAYS && bucket->entries[i] != 0; i++)
        if (entry_tag(bucket->entries[i]) == tag) ret_segments[found++] = bucket->entries[i] & SEGMENT_MASK;
    return found;
}

bool index_samples(const struct index *index, const struct fingerprint *print)
{
    return tag_sampled(index, tag_of(print));
}

/* Takes entry `at` out; what is older moves up. */
static void bucket_take(struct bucket *bucket, uint32_t at)
{
    memmove(&bucket->entries[at], &bucket->entries[at + 1], (WAYS - 1 - at) * sizeof bucket->entries[0]);
    bucket->entries[WAYS - 1] = 0;
}

static uint32_t bucket_position(const struct bucket *bucket, uint64_t entry)
{
    uint32_t at = 0;
    while (at < WAYS && bucket->entries[at] != entry) at++;
    return at;
}

static void sweep_bucket(struct index *index, struct bucket *bucket)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < WAYS && bucket->entries[i] != 0; i++) {
        uint64_t entry = bucket->entries[i];
        bucket->entries[i] = 0;
        if (tag_sampled(index, entry_tag(entry)))
            bucket->entries[kept++] = entry;
        else
            index->count--;
    }
}

static void sweep_some(struct index *index)
{
    for (uint32_t i = 0; i < SWEEP_BUCKETS && index->sweep <= index->mask; i++)
        sweep_bucket(index, &index->buckets[index->sweep++]);
}

static void fall_when_full(struct index *index)
{
    uint64_t room = (index->mask + 1) * WAYS;
    if (index->count <= room / 8 * 7 || index->sweep <= index->mask || index->shift == DENSITY_MAX) return;
    index->shift++;
    index->sweep = 0;
}

/* A free place, or that of the oldest entry outside the sample, or of the oldest. */
static void make_room(struct index *index, struct bucket *bucket)
{
    if (bucket->entries[WAYS - 1] == 0) return;
    uint32_t victim = WAYS - 1;
    for (uint32_t i = WAYS; i-- > 0;) {
        if (tag_sampled(index, entry_tag(bucket->entries[i]))) continue;
        victim = i;
        break;
    }
    bucket_take(bucket, victim);
    index->count--;
}

void index_insert(struct index *index, const struct fingerprint *print, uint64_t segment)
{
    uint32_t tag = tag_of(print);
    sweep_some(index);
    if (!tag_sampled(index, tag) || segment > SEGMENT_MASK) return;
    struct bucket *bucket = bucket_of(index, print);
    uint64_t entry = (uint64_t)tag << SEGMENT_BITS | segment;
    uint32_t at = bucket_position(bucket, entry);
    if (at < WAYS) {
        bucket_take(bucket, at);
    } else {
        make_room(index, bucket);
        index->count++;
    }
    memmove(&bucket->entries[1], &bucket->entries[0], (WAYS - 1) * sizeof bucket->entries[0]);
    bucket->entries[0] = entry;
    fall_when_full(index);
}

void index_remove(struct index *index, const struct fingerprint *print, uint64_t segment)
{
    struct bucket *bucket = bucket_of(index, print);
    uint32_t at = bucket_position(bucket, (uint64_t)tag_of(print) << SEGMENT_BITS | segment);
    if (at == WAYS || segment > SEGMENT_MASK) return;
    bucket_take(bucket, at);
    index->count--;
}

uint64_t index_entries(const struct index *index)
{
    return index->count;
}

uint64_t index_bytes(const struct index *index)
{
    return (index->mask + 1) * sizeof(struct bucket);
}

uint32_t index_density_shift(const struct index *index)
{
    return index->shift;
}
