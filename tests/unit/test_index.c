/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the dedupe index finds what it was told while it has room, degrades by sampling when it has none, and never says a
 * segment that it was not told. Method: random fingerprints into small tables, counted against what was inserted.
 */
#include "base/prng.h"
#include "check.h"
#include "store/index.h"

/* Fingerprint number n, the same every time. */
static struct fingerprint print_of(uint64_t n)
{
    struct prng prng;
    struct fingerprint print;
    prng_init(&prng, n);
    prng_fill(&prng, print.b, sizeof print.b);
    return print;
}

static bool knows(const struct index *index, uint64_t n, uint64_t segment)
{
    uint64_t segments[INDEX_HINTS_MAX];
    struct fingerprint print = print_of(n);
    uint32_t found = index_find(index, &print, segments);
    for (uint32_t i = 0; i < found; i++)
        if (segments[i] == segment) return true;
    return false;
}

static void insert(struct index *index, uint64_t n, uint64_t segment)
{
    struct fingerprint print = print_of(n);
    index_insert(index, &print, segment);
}

TEST(it_takes_a_power_of_two)
{
    struct mem *mem = mem_open(1 << 20);
    struct index *index = index_open(mem, 100000);
    CHECK(index != NULL);
    CHECK_EQ(index_bytes(index), 65536);
    index_close(index);
    CHECK_EQ(mem_used(mem), 0);
    index = index_open(mem, 1);
    CHECK_EQ(index_bytes(index), 64);
    CHECK(index_open(mem, 1 << 20) == NULL);
    index_close(NULL);
    mem_close(mem);
}

TEST(everything_is_found_while_there_is_room)
{
    struct mem *mem = mem_open(1 << 22);
    struct index *index = index_open(mem, 1 << 20); /* 131,072 entries */
    uint64_t found = 0, wrong = 0;
    for (uint64_t n = 0; n < 40000; n++) insert(index, n, n / 100);
    for (uint64_t n = 0; n < 40000; n++) found += knows(index, n, n / 100);
    for (uint64_t n = 40000; n < 80000; n++) {
        uint64_t segments[INDEX_HINTS_MAX];
        struct fingerprint print = print_of(n);
        wrong += index_find(index, &print, segments);
    }
    CHECK_EQ(index_density_shift(index), 0);
    CHECK_EQ(index_entries(index), found);
    CHECK(found >= 39900); /* a bucket of eight may overflow at an average of 2.4: one in a thousand */
    CHECK(wrong <= 3);
    mem_close(mem);
}

TEST(a_repetition_is_not_kept_twice)
{
    struct mem *mem = mem_open(1 << 20);
    struct index *index = index_open(mem, 4096);
    for (int i = 0; i < 100; i++) insert(index, 1, 7);
    CHECK_EQ(index_entries(index), 1);
    insert(index, 1, 8);
    insert(index, 1, 9);
    insert(index, 1, 7);
    CHECK_EQ(index_entries(index), 3);
    uint64_t segments[INDEX_HINTS_MAX];
    struct fingerprint print = print_of(1);
    CHECK_EQ(index_find(index, &print, segments), 3);
    CHECK_EQ(segments[0], 7);
    CHECK_EQ(segments[1], 9);
    CHECK_EQ(segments[2], 8);
    mem_close(mem);
}

TEST(a_full_bucket_loses_its_oldest)
{
    struct mem *mem = mem_open(1 << 20);
    struct index *index = index_open(mem, 64);
    for (uint64_t segment = 0; segment < 7; segment++) insert(index, 1, segment);
    CHECK_EQ(index_density_shift(index), 0);
    struct index *other = index_open(mem, 4096);
    for (uint64_t segment = 0; segment < 20; segment++) insert(other, 1, segment);
    uint64_t segments[INDEX_HINTS_MAX];
    struct fingerprint print = print_of(1);
    CHECK_EQ(index_find(other, &print, segments), 8);
    for (uint32_t i = 0; i < 8; i++) CHECK_EQ(segments[i], 19 - i);
    CHECK_EQ(index_entries(other), 8);
    mem_close(mem);
}

TEST(a_removed_hint_is_gone)
{
    struct mem *mem = mem_open(1 << 20);
    struct index *index = index_open(mem, 65536);
    for (uint64_t n = 0; n < 1000; n++) insert(index, n, n);
    for (uint64_t n = 0; n < 1000; n += 2) {
        struct fingerprint print = print_of(n);
        index_remove(index, &print, n);
        index_remove(index, &print, n);
        index_remove(index, &print, n + 1);
        index_remove(index, &print, UINT64_MAX);
    }
    CHECK_EQ(index_entries(index), 500);
    for (uint64_t n = 0; n < 1000; n++) CHECK_EQ(knows(index, n, n), n % 2);
    mem_close(mem);
}

TEST(segments_beyond_its_numbers_are_not_kept)
{
    struct mem *mem = mem_open(1 << 20);
    struct index *index = index_open(mem, 4096);
    insert(index, 1, (uint64_t)1 << 36);
    insert(index, 2, UINT64_MAX);
    CHECK_EQ(index_entries(index), 0);
    insert(index, 3, ((uint64_t)1 << 36) - 1);
    insert(index, 4, 0);
    CHECK(knows(index, 3, ((uint64_t)1 << 36) - 1));
    CHECK(knows(index, 4, 0));
    mem_close(mem);
}

TEST(a_full_table_keeps_a_sample)
{
    struct mem *mem = mem_open(1 << 22);
    struct index *index = index_open(mem, 1 << 16); /* 8,192 entries */
    uint32_t shift = 0;
    for (uint64_t n = 0; n < 200000; n++) {
        insert(index, n, n);
        CHECK(index_entries(index) <= 8192);
        CHECK(index_density_shift(index) - shift <= 1);
        shift = index_density_shift(index);
    }
    CHECK(shift >= 3 && shift <= 7);
    uint64_t sampled = 0, found = 0, recent = 0, recent_found = 0;
    for (uint64_t n = 0; n < 200000; n++) {
        struct fingerprint print = print_of(n);
        if (!index_samples(index, &print)) continue;
        sampled++;
        found += knows(index, n, n);
        if (n < 190000) continue;
        recent++;
        recent_found += knows(index, n, n);
    }
    uint64_t expected = 200000 >> shift;
    CHECK(sampled > expected - expected / 8 && sampled < expected + expected / 8);
    CHECK(found >= sampled * 3 / 5);
    CHECK(recent_found >= recent * 9 / 10);
    mem_close(mem);
}

TEST(what_left_the_sample_makes_room)
{
    struct mem *mem = mem_open(1 << 22);
    struct index *index = index_open(mem, 1 << 16);
    uint64_t n = 0, before;
    for (; index_density_shift(index) == 0; n++) insert(index, n, n);
    before = index_entries(index);
    CHECK(before > 8192 / 8 * 7);
    uint64_t first = n;
    for (; n < first + 1024; n++) insert(index, n, n); /* long enough for the sweep */
    CHECK_EQ(index_density_shift(index), 1);
    CHECK(index_entries(index) < before * 5 / 8 + 512);
    for (uint64_t i = 0; i < first; i++) {
        struct fingerprint print = print_of(i);
        CHECK(index_samples(index, &print) || !knows(index, i, i));
    }
    mem_close(mem);
}

TESTS(it_takes_a_power_of_two, everything_is_found_while_there_is_room, a_repetition_is_not_kept_twice,
      a_full_bucket_loses_its_oldest, a_removed_hint_is_gone, segments_beyond_its_numbers_are_not_kept,
      a_full_table_keeps_a_sample, what_left_the_sample_makes_room)
