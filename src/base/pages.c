/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arena is cut into stretches of 128 KiB with one bit a page of 4 KiB. A piece lies within one stretch, aligned to its
 * size, in the first stretch that has room: so the last ones stay whole for large pieces, and untouched when there is little
 * to do.
 */
#include "base/pages.h"

#include <assert.h>
#include <stdbool.h>

enum { PAGES_A_STRETCH = PAGES_LARGEST / PAGES_SMALLEST };

struct pages {
    uint8_t *arena;
    uint32_t stretches;
    uint64_t used;
    uint32_t taken[]; /* a bit a page */
};

struct pages *pages_open(struct mem *mem, uint64_t bytes)
{
    uint32_t stretches = (uint32_t)(bytes / PAGES_LARGEST);
    struct pages *p = mem_alloc(mem, sizeof *p + stretches * sizeof p->taken[0]);
    uint8_t *arena = p != NULL ? mem_alloc(mem, (size_t)stretches * PAGES_LARGEST) : NULL;
    if (arena == NULL) {
        mem_free(mem, p);
        return NULL;
    }
    p->arena = arena;
    p->stretches = stretches;
    return p;
}

/* Pages of a piece: a power of two. */
static uint32_t count_for(size_t size)
{
    uint32_t count = 1;
    assert(size > 0 && size <= PAGES_LARGEST);
    while ((size_t)count * PAGES_SMALLEST < size) count *= 2;
    return count;
}

static uint32_t mask_of(uint32_t count)
{
    return count == PAGES_A_STRETCH ? UINT32_MAX : ((uint32_t)1 << count) - 1;
}

void *pages_take(struct pages *pages, size_t size)
{
    uint32_t count = count_for(size), mask = mask_of(count);
    for (uint32_t s = 0; s < pages->stretches; s++) {
        uint32_t taken = pages->taken[s];
        if (taken == UINT32_MAX) continue;
        for (uint32_t at = 0; at < PAGES_A_STRETCH; at += count) {
            if (taken & mask << at) continue;
            pages->taken[s] |= mask << at;
            pages->used += (uint64_t)count * PAGES_SMALLEST;
            return pages->arena + (size_t)s * PAGES_LARGEST + (size_t)at * PAGES_SMALLEST;
        }
    }
    return NULL;
}

void pages_give(struct pages *pages, void *at, size_t size)
{
    if (at == NULL) return;
    size_t offset = (size_t)((uint8_t *)at - pages->arena);
    uint32_t count = count_for(size), s = (uint32_t)(offset / PAGES_LARGEST);
    uint32_t bits = mask_of(count) << (offset % PAGES_LARGEST / PAGES_SMALLEST);
    assert(s < pages->stretches && (pages->taken[s] & bits) == bits);
    pages->taken[s] &= ~bits;
    pages->used -= (uint64_t)count * PAGES_SMALLEST;
}

uint64_t pages_used(const struct pages *pages)
{
    return pages->used;
}

uint64_t pages_bytes(const struct pages *pages)
{
    return (uint64_t)pages->stretches * PAGES_LARGEST;
}
