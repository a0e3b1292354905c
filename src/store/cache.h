/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The RAM cache: fixed frames of one size under a 64-bit key (blocks by log address: deduplicated clones share one copy, and
 * a fill can never be stale because an address never changes its content). Replacement is S3-FIFO with a correlation
 * window: a small FIFO (10 %), a main FIFO, a ghost list of keys; a hit in the newest part of the small FIFO does not
 * count, so a burst on one block does not promote it. No I/O here.
 */
#ifndef IZAR_STORE_CACHE_H
#define IZAR_STORE_CACHE_H

#include "base/mem.h"

#include <stdbool.h>
#include <stdint.h>

struct cache;

/* About `bytes` of `mem` for frames of `frame_bytes` with their book-keeping (at least 8 frames). NULL: no memory. */
struct cache *cache_open(struct mem *mem, uint64_t bytes, uint32_t frame_bytes);
/* The frame's data, NULL when not cached. Counts as a use. The pointer is good until the next cache_add or cache_drop. */
const uint8_t *cache_find(struct cache *cache, uint64_t key);
/* Adds `key` with a copy of `data` (frame_bytes); harmless when present. */
void cache_add(struct cache *cache, uint64_t key, const uint8_t *data);
/* Forgets `key`. */
void cache_drop(struct cache *cache, uint64_t key);
uint32_t cache_frames(const struct cache *cache);
uint32_t cache_used(const struct cache *cache);

#endif
