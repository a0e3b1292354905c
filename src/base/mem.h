/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory within a budget. A `struct mem` hands out memory until its budget is used up and gives all of it back at
 * once; single pieces may be freed earlier. Meant for start (pools, tables, buffers), not for the I/O path.
 * Not thread safe: one owner.
 */
#ifndef IZAR_BASE_MEM_H
#define IZAR_BASE_MEM_H

#include <stddef.h>
#include <stdint.h>

struct mem;

enum { MEM_LARGE = 4 << 20 };

/* A budget of `bytes`. NULL when the system has no memory. */
struct mem *mem_open(uint64_t bytes);
/* Frees every piece and the budget itself; NULL is fine. */
void mem_close(struct mem *mem);
/* Zeroed, aligned to 4096 for sizes from 4096 on, else to 64. NULL when the budget (or the system) has none left. */
void *mem_alloc(struct mem *mem, size_t size);
/* The same, holding anything: for what is written before it is read, buffers above all. */
void *mem_alloc_raw(struct mem *mem, size_t size);
/* Gives one piece back; NULL is fine. */
void mem_free(struct mem *mem, void *at);
uint64_t mem_used(const struct mem *mem);
/* From now on `large` (NULL: nobody) hears of every new piece of at least MEM_LARGE bytes before anything touches it. */
void mem_on_large(struct mem *mem, void (*large)(void *at, size_t size));
uint64_t mem_budget(const struct mem *mem);

#endif
