/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory within a budget: the only caller of the system's allocator outside of the seam.
 *
 * Every piece is one calloc or malloc, so a large table that is never touched costs no real memory: the system hands out zero
 * pages on first use. The piece's header lies right before the aligned address that the caller gets; all headers of a budget
 * are linked, so that closing the budget frees what is left. What counts against the budget is the size asked for plus the
 * header and the padding, so a budget bounds what is really taken.
 */
#include "base/mem.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/list.h"

struct mem {
    uint64_t budget, used;
    struct list pieces;
    void (*large)(void *at, size_t size);
};

struct piece {
    struct list link;
    void *raw;      /* what calloc returned */
    uint64_t cost;  /* counted against the budget */
    struct mem *of; /* whose it is */
};

struct mem *mem_open(uint64_t bytes)
{
    struct mem *mem = calloc(1, sizeof *mem);
    if (mem == NULL) return NULL;
    mem->budget = bytes;
    list_init(&mem->pieces);
    return mem;
}

void mem_close(struct mem *mem)
{
    if (mem == NULL) return;
    for (struct list *l; (l = list_pop(&mem->pieces)) != NULL;) free(CONTAINER(l, struct piece, link)->raw);
    free(mem);
}

static void *piece_new(struct mem *mem, size_t size, bool zeroed)
{
    size_t align = size >= 4096 ? 4096 : 64;
    size_t extra = sizeof(struct piece) + align - 1;
    if (size > SIZE_MAX - extra) return NULL;
    uint64_t cost = (uint64_t)size + extra;
    if (cost > mem->budget - mem->used) return NULL;

    unsigned char *raw = zeroed ? calloc(1, (size_t)cost) : malloc((size_t)cost);
    if (raw == NULL) return NULL;
    size_t past = (uintptr_t)(raw + extra) % align;
    unsigned char *at = raw + extra - past;
    struct piece *piece = (struct piece *)(void *)(at - sizeof *piece);
    piece->raw = raw;
    piece->cost = cost;
    piece->of = mem;
    list_push(&mem->pieces, &piece->link);
    mem->used += cost;
    assert(mem->used <= mem->budget);
    if (size >= MEM_LARGE && mem->large != NULL) mem->large(at, size);
    return at;
}

void *mem_alloc(struct mem *mem, size_t size)
{
    return piece_new(mem, size, true);
}

void *mem_alloc_raw(struct mem *mem, size_t size)
{
    return piece_new(mem, size, false);
}

void mem_free(struct mem *mem, void *at)
{
    if (at == NULL) return;
    struct piece *piece = (struct piece *)(void *)((unsigned char *)at - sizeof *piece);
    assert(piece->of == mem && mem->used >= piece->cost);
    list_remove(&piece->link);
    mem->used -= piece->cost;
    free(piece->raw);
}

void mem_on_large(struct mem *mem, void (*large)(void *at, size_t size))
{
    mem->large = large;
}

uint64_t mem_used(const struct mem *mem)
{
    return mem->used;
}

uint64_t mem_budget(const struct mem *mem)
{
    return mem->budget;
}
