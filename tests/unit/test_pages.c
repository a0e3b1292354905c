/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: pages.h gives out pieces that are aligned, as large as asked and never overlap, gives what it has and no more, and gets
 * all of it back. Method: cases by hand, then random takes and gives against a list of what is out, each piece filled with a
 * byte of its own that must still be there when it comes back.
 */
#include "tests/check.h"

#include "base/pages.h"
#include "base/prng.h"

enum { ARENA = 8 * PAGES_LARGEST, OUT = 256 };

static struct mem *mem;

static struct pages *pages(uint64_t bytes)
{
    mem = mem_open(bytes + 65536);
    return mem != NULL ? pages_open(mem, bytes) : NULL;
}

TEST(pieces_are_powers_of_two)
{
    static const struct {
        size_t asked, given;
    } rows[] = {{1, 4096}, {4096, 4096}, {4097, 8192}, {12288, 16384}, {65537, 131072}, {131072, 131072}};
    struct pages *p = pages(ARENA);
    CHECK(p != NULL && pages_bytes(p) == ARENA && pages_used(p) == 0);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        void *at = pages_take(p, rows[i].asked);
        CHECK(at != NULL && (uintptr_t)at % PAGES_SMALLEST == 0);
        CHECK_EQ(pages_used(p), rows[i].given);
        pages_give(p, at, rows[i].asked);
        CHECK_EQ(pages_used(p), 0);
    }
    pages_give(p, NULL, 4096);
    CHECK_EQ(pages_used(p), 0);
    mem_close(mem);
}

TEST(all_of_it_is_given_out_and_no_more)
{
    static const size_t sizes[] = {4096, 8192, 32768, 131072};
    struct pages *p = pages(ARENA + PAGES_LARGEST - 1); /* rounded down */
    CHECK(p != NULL && pages_bytes(p) == ARENA);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        void *out[ARENA / PAGES_SMALLEST];
        size_t count = ARENA / sizes[i];
        for (size_t k = 0; k < count; k++) CHECK((out[k] = pages_take(p, sizes[i])) != NULL);
        CHECK(pages_used(p) == ARENA && pages_take(p, 1) == NULL);
        pages_give(p, out[count / 2], sizes[i]);
        CHECK(pages_take(p, sizes[i]) == out[count / 2]);
        for (size_t k = 0; k < count; k++) pages_give(p, out[k], sizes[i]);
        CHECK_EQ(pages_used(p), 0);
    }
    mem_close(mem);
}

TEST(a_large_piece_needs_a_whole_stretch)
{
    struct pages *p = pages(2 * PAGES_LARGEST);
    CHECK(p != NULL);
    void *one = pages_take(p, 4096), *large = pages_take(p, PAGES_LARGEST);
    CHECK(one != NULL && large != NULL && pages_take(p, PAGES_LARGEST) == NULL);
    void *half = pages_take(p, PAGES_LARGEST / 2); /* there is room beside the small one */
    CHECK(half != NULL && pages_take(p, PAGES_LARGEST / 2) == NULL);
    pages_give(p, large, PAGES_LARGEST);
    CHECK(pages_take(p, PAGES_LARGEST) == large);
    mem_close(mem);
}

TEST(no_budget_no_arena)
{
    struct mem *small = mem_open(65536);
    CHECK(small != NULL && pages_open(small, ARENA) == NULL);
    CHECK_EQ(mem_used(small), 0);
    mem_close(small);
}

struct piece {
    uint8_t *at, fill;
    size_t size;
};

static bool holds(const struct piece *piece)
{
    for (size_t i = 0; i < piece->size; i++)
        if (piece->at[i] != piece->fill) return false;
    return true;
}

TEST(pieces_never_overlap)
{
    static struct piece out[OUT];
    struct pages *p = pages(ARENA);
    struct prng prng;
    size_t count = 0;
    prng_init(&prng, 17);
    CHECK(p != NULL);
    for (int i = 0; i < 20000; i++) {
        if (count < OUT && prng_below(&prng, 2) == 0) {
            struct piece piece = {.fill = (uint8_t)i,
                                  .size = 1 + prng_below(&prng, prng_below(&prng, 8) ? 12288 : PAGES_LARGEST)};
            piece.at = pages_take(p, piece.size);
            if (piece.at == NULL) continue;
            memset(piece.at, piece.fill, piece.size);
            out[count++] = piece;
        } else if (count > 0) {
            size_t which = (size_t)prng_below(&prng, count);
            CHECK(holds(&out[which]));
            pages_give(p, out[which].at, out[which].size);
            out[which] = out[--count];
        }
    }
    while (count > 0) {
        CHECK(holds(&out[--count]));
        pages_give(p, out[count].at, out[count].size);
    }
    CHECK_EQ(pages_used(p), 0);
    mem_close(mem);
}

TESTS(pieces_are_powers_of_two, all_of_it_is_given_out_and_no_more, a_large_piece_needs_a_whole_stretch, no_budget_no_arena,
      pieces_never_overlap)
