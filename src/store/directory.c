/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory: a sorted array of runs, cut into blocks, under a sorted array of the blocks' first addresses.
 *
 * Two binary searches find a run. An insert moves at most one block; a full block splits in two, except at the end, where
 * segments arrive in address order and a new block is begun instead, so that blocks are left full. After a removal a block
 * that fits into half a block together with a neighbour joins it. So any two neighbours hold more than half a block's runs,
 * which bounds the number of blocks. Blocks given up are kept for the next split: what was taken once will not be missing.
 */
#include "store/directory.h"

#include <assert.h>
#include <string.h>

enum { BLOCK_RUNS = 254, JOIN_RUNS = BLOCK_RUNS / 2 };

struct block {
    uint32_t count;
    struct block *spare; /* next of those kept */
    struct directory_run runs[BLOCK_RUNS];
};

struct directory {
    struct mem *mem;
    uint32_t runs_max, runs;
    uint32_t blocks_max, blocks;
    uint64_t *first; /* start of the first run of each block */
    struct block **block;
    struct block *spares;
    uint64_t ram;
};

struct directory *directory_open(struct mem *mem, uint32_t runs_max)
{
    uint32_t blocks_max = (uint32_t)((uint64_t)runs_max * 2 / (JOIN_RUNS + 1)) + 2;
    struct directory *directory = mem_alloc(mem, sizeof *directory);
    uint64_t *first = mem_alloc(mem, blocks_max * sizeof *first);
    struct block **block = mem_alloc(mem, blocks_max * sizeof *block);
    if (directory == NULL || first == NULL || block == NULL) {
        mem_free(mem, directory);
        mem_free(mem, first);
        mem_free(mem, block);
        return NULL;
    }
    *directory = (struct directory){.mem = mem, .runs_max = runs_max, .blocks_max = blocks_max, .first = first, .block = block};
    directory->ram = sizeof *directory + blocks_max * (sizeof *first + sizeof *block);
    return directory;
}

/* ---- search ---- */

/* The block that holds `unit` if any does: the last that starts at or before it, else the first. */
static uint32_t block_of(const struct directory *directory, uint64_t unit)
{
    uint32_t at = 0;
    for (uint32_t left = directory->blocks; left > 1;) {
        uint32_t half = left / 2;
        if (directory->first[at + half] <= unit) at += half;
        left -= half;
    }
    return at;
}

/* How many runs of the block start at or before `unit`. */
static uint32_t runs_before(const struct block *block, uint64_t unit)
{
    uint32_t low = 0, high = block->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (block->runs[middle].start <= unit)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static uint64_t run_end(const struct directory_run *run)
{
    return run->start + run->units;
}

bool directory_find(const struct directory *directory, uint64_t unit, struct directory_run *ret_run)
{
    if (directory->blocks == 0) return false;
    const struct block *block = directory->block[block_of(directory, unit)];
    uint32_t before = runs_before(block, unit);
    if (before == 0 || run_end(&block->runs[before - 1]) <= unit) return false;
    *ret_run = block->runs[before - 1];
    return true;
}

bool directory_next(const struct directory *directory, uint64_t unit, struct directory_run *ret_run)
{
    if (directory->blocks == 0) return false;
    uint32_t b = block_of(directory, unit);
    const struct block *block = directory->block[b];
    uint32_t at = runs_before(block, unit);
    if (at > 0 && run_end(&block->runs[at - 1]) > unit) at--;
    if (at == block->count) { /* the next block starts behind `unit` */
        if (b + 1 == directory->blocks) return false;
        block = directory->block[b + 1];
        at = 0;
    }
    *ret_run = block->runs[at];
    return true;
}

/* ---- blocks ---- */

static struct block *block_take(struct directory *directory)
{
    struct block *block = directory->spares;
    if (block != NULL) {
        directory->spares = block->spare;
        block->spare = NULL;
        return block;
    }
    block = mem_alloc(directory->mem, sizeof *block);
    if (block != NULL) directory->ram += sizeof *block;
    return block;
}

static void block_link(struct directory *directory, uint32_t at, struct block *block, uint64_t first)
{
    assert(directory->blocks < directory->blocks_max && at <= directory->blocks);
    uint32_t behind = directory->blocks - at;
    memmove(&directory->first[at + 1], &directory->first[at], behind * sizeof directory->first[0]);
    memmove(&directory->block[at + 1], &directory->block[at], behind * sizeof directory->block[0]);
    directory->first[at] = first;
    directory->block[at] = block;
    directory->blocks++;
}

static void block_unlink(struct directory *directory, uint32_t at)
{
    struct block *block = directory->block[at];
    uint32_t behind = directory->blocks - at - 1;
    memmove(&directory->first[at], &directory->first[at + 1], behind * sizeof directory->first[0]);
    memmove(&directory->block[at], &directory->block[at + 1], behind * sizeof directory->block[0]);
    directory->blocks--;
    block->count = 0;
    block->spare = directory->spares;
    directory->spares = block;
}

/* Moves the runs from `from` on into a new block right behind. */
static bool block_split(struct directory *directory, uint32_t at, uint32_t from, uint64_t first)
{
    struct block *fresh = block_take(directory);
    if (fresh == NULL) return false;
    struct block *block = directory->block[at];
    fresh->count = block->count - from;
    memcpy(fresh->runs, &block->runs[from], fresh->count * sizeof fresh->runs[0]);
    block->count = from;
    block_link(directory, at + 1, fresh, first);
    return true;
}

/* Joins block `at` and the next when half a block holds both. */
static bool block_join(struct directory *directory, uint32_t at)
{
    if (at + 1 >= directory->blocks) return false;
    struct block *block = directory->block[at], *next = directory->block[at + 1];
    if (block->count + next->count > JOIN_RUNS) return false;
    memcpy(&block->runs[block->count], next->runs, next->count * sizeof next->runs[0]);
    block->count += next->count;
    block_unlink(directory, at + 1);
    return true;
}

/* ---- change ---- */

/* The block that a run from `start` on goes into, with room for it; made or split when there is none. */
static bool block_for(struct directory *directory, uint64_t start, uint32_t *ret_block)
{
    if (directory->blocks == 0) {
        struct block *fresh = block_take(directory);
        if (fresh == NULL) return false;
        block_link(directory, 0, fresh, start);
        *ret_block = 0;
        return true;
    }
    uint32_t b = block_of(directory, start);
    const struct block *block = directory->block[b];
    if (block->count == BLOCK_RUNS) {
        bool append = b + 1 == directory->blocks && start > block->runs[BLOCK_RUNS - 1].start;
        uint32_t from = append ? BLOCK_RUNS : BLOCK_RUNS / 2;
        uint64_t first = append ? start : block->runs[from].start;
        if (!block_split(directory, b, from, first)) return false;
        if (first <= start) b++;
    }
    *ret_block = b;
    return true;
}

static void assert_free(const struct directory *directory, const struct directory_run *run)
{
    struct directory_run next;
    assert(run->units > 0 && run_end(run) > run->start);
    bool overlaps = directory_next(directory, run->start, &next) && next.start < run_end(run);
    assert(!overlaps);
    (void)overlaps;
}

bool directory_add(struct directory *directory, const struct directory_run *run)
{
    assert_free(directory, run);
    uint32_t b;
    if (directory->runs == directory->runs_max || !block_for(directory, run->start, &b)) return false;
    struct block *block = directory->block[b];
    uint32_t at = runs_before(block, run->start);
    assert(block->count < BLOCK_RUNS);
    memmove(&block->runs[at + 1], &block->runs[at], (block->count - at) * sizeof block->runs[0]);
    block->runs[at] = *run;
    block->count++;
    directory->first[b] = block->runs[0].start;
    directory->runs++;
    return true;
}

void directory_remove(struct directory *directory, uint64_t start)
{
    assert(directory->blocks > 0);
    uint32_t b = block_of(directory, start);
    struct block *block = directory->block[b];
    uint32_t before = runs_before(block, start);
    assert(before > 0 && block->runs[before - 1].start == start);
    memmove(&block->runs[before - 1], &block->runs[before], (block->count - before) * sizeof block->runs[0]);
    block->count--;
    directory->runs--;
    if (block->count == 0) {
        block_unlink(directory, b);
        return;
    }
    directory->first[b] = block->runs[0].start;
    if (!block_join(directory, b) && b > 0) block_join(directory, b - 1);
}

uint32_t directory_runs(const struct directory *directory)
{
    return directory->runs;
}

uint64_t directory_ram(const struct directory *directory)
{
    return directory->ram;
}
