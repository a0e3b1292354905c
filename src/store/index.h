/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dedupe index: a fixed-size table of hints in RAM, 8 bytes an entry: segment number (36 bits) and a tag of the
 * fingerprint (28 bits). A hint says "a chunk with such a fingerprint was in that segment"; the fingerprint in the
 * segment's summary decides. While the table has room every chunk is in it; as it fills, the sampling density falls by
 * halves, and entries that the new density does not cover make room. The index may be lost at any time.
 */
#ifndef IZAR_STORE_INDEX_H
#define IZAR_STORE_INDEX_H

#include "base/mem.h"
#include "base/sha.h"

#include <stdbool.h>
#include <stdint.h>

struct index;

/* Takes about `bytes` of `mem` (rounded down to a power of two of buckets of 64 bytes). NULL: no memory. */
struct index *index_open(struct mem *mem, uint64_t bytes);
/* Gives the memory back; not needed before mem_close. NULL is fine. */
void index_close(struct index *index);

#define INDEX_HINTS_MAX 8

/* Segments that may hold this fingerprint, last inserted first; returns how many. Cheap: one cache line. */
uint32_t index_find(const struct index *index, const struct fingerprint *print, uint64_t ret_segments[INDEX_HINTS_MAX]);
/* True when the fingerprint belongs to the sample that the index keeps at its present density. */
bool index_samples(const struct index *index, const struct fingerprint *print);
/* Remembers; an entry with the same tag and segment is not repeated. Never fails: the oldest or unsampled entry of the
 * bucket goes when it is full, and the density falls when the table is fuller than 7/8. What is not in the sample, or in a
 * segment from 2^36 on, is not kept. */
void index_insert(struct index *index, const struct fingerprint *print, uint64_t segment);
/* Forgets one hint (found wrong); harmless when it is not there. */
void index_remove(struct index *index, const struct fingerprint *print, uint64_t segment);
uint64_t index_entries(const struct index *index);
uint64_t index_bytes(const struct index *index);
uint32_t index_density_shift(const struct index *index); /* one in 2^shift fingerprints is kept */

#endif
