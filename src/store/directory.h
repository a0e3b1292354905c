/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory: which slot holds which stretch of log addresses. In RAM a sorted list of runs (start in units, length in
 * units, slot: 16 bytes), kept in blocks of a fixed size so that inserts and removals move little. Runs never overlap. The
 * cleaner replaces runs; nothing else that points into the log ever changes.
 */
#ifndef IZAR_STORE_DIRECTORY_H
#define IZAR_STORE_DIRECTORY_H

#include "base/mem.h"

#include <stdbool.h>
#include <stdint.h>

struct directory;

struct directory_run {
    uint64_t start; /* log address in units */
    uint32_t units;
    uint32_t slot;
};

/* Room for `runs_max` runs in `mem`. Blocks are taken from `mem` when they are needed. NULL: no memory. */
struct directory *directory_open(struct mem *mem, uint32_t runs_max);
/* The run that covers `unit`; false when none does. */
bool directory_find(const struct directory *directory, uint64_t unit, struct directory_run *ret_run);
/* The first run that ends after `unit` (covers it or starts later); false when there is none. To walk in address order. */
bool directory_next(const struct directory *directory, uint64_t unit, struct directory_run *ret_run);
/* Adds a run that overlaps none (asserted). False when there is no room: nothing changed. */
bool directory_add(struct directory *directory, const struct directory_run *run);
/* Removes the run that starts at `start` (asserted to exist). */
void directory_remove(struct directory *directory, uint64_t start);
uint32_t directory_runs(const struct directory *directory);
uint64_t directory_ram(const struct directory *directory); /* bytes taken */

#endif
