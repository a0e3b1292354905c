/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fixed arena of memory for data under way, handed out in pieces of 4 KiB to 128 KiB, powers of two, each aligned to 4 KiB.
 * Not thread safe: one owner.
 */
#ifndef IZAR_BASE_PAGES_H
#define IZAR_BASE_PAGES_H

#include "base/mem.h"

enum { PAGES_SMALLEST = 4096, PAGES_LARGEST = 128 << 10 };

struct pages;

/* `bytes` are rounded down to a multiple of PAGES_LARGEST. NULL: `mem` has no room. */
struct pages *pages_open(struct mem *mem, uint64_t bytes);
/* At least `size` bytes, size at most PAGES_LARGEST. NULL: there is no piece that large. */
void *pages_take(struct pages *pages, size_t size);
/* `size` as it was taken. NULL is fine. */
void pages_give(struct pages *pages, void *at, size_t size);
uint64_t pages_used(const struct pages *pages);
uint64_t pages_bytes(const struct pages *pages);

#endif
