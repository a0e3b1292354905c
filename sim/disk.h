/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A simulated disk: bytes, and what of them would survive.
 *
 * A disk shows its content as a running system sees it. Behind that it keeps, for every page written since the last
 * flush, what is on stable storage, and the list of writes that are not. A power cut settles them: each is applied,
 * dropped or torn (every 512-byte sector by itself old or new), in the order in which they were completed, and never over
 * something newer that was durable.
 *
 * Pages are sparse, counted and copied only when written, so a copy of a whole disk costs next to nothing. All come from a
 * pool that keeps them for the next history.
 */
#ifndef IZAR_SIM_DISK_H
#define IZAR_SIM_DISK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/prng.h"

#define DISK_SECTOR 512u
#define DISK_PAGE 4096u

struct page;
struct slab;

struct page_pool {
    struct page *free;
    struct slab *slabs;
    struct list splits; /* kept for reuse */
};

void page_pool_init(struct page_pool *pool);
void page_pool_done(struct page_pool *pool);

struct disk;

struct disk *disk_open(struct page_pool *pool, const char *name, uint64_t size);
void disk_close(struct disk *disk);
const char *disk_name(const struct disk *disk);
uint64_t disk_size(const struct disk *disk);
/* What lies beyond is gone, what is new is zero; durable at once. */
void disk_resize(struct disk *disk, uint64_t size);
/* Makes `to` show what `from` shows, all of it stable. */
void disk_copy(struct disk *to, const struct disk *from);

/* The content as seen now. */
void disk_get(const struct disk *disk, uint64_t offset, void *ret_buf, uint64_t length);
/* A write that is completed: whole sectors. */
void disk_put(struct disk *disk, uint64_t offset, const void *buf, uint64_t length, bool durable);
/* Number of the newest completed write; a flush makes all up to a number stable. */
uint64_t disk_newest(const struct disk *disk);
void disk_flush(struct disk *disk, uint64_t newest);
/* Whole pages of the range become zeros, garbage or stay. */
void disk_discard(struct disk *disk, uint64_t offset, uint64_t length, struct prng *prng);

/* How a power cut treats what is not durable. */
enum mood { MOOD_DROP, MOOD_APPLY, MOOD_BY_WRITE, MOOD_BY_SECTOR, MOOD_COUNT };

/* The power cut: what was completed, and then, one by one, what was under way. */
void disk_settle(struct disk *disk, enum mood mood, struct prng *prng);
void disk_settle_write(struct disk *disk, uint64_t offset, const void *buf, uint64_t length, enum mood mood, struct prng *prng);

/* Damage at rest: flips one bit of a byte, for good. */
void disk_flip(struct disk *disk, uint64_t offset, unsigned bit);

/* Sectors that cannot be read until they are written again. */
void disk_spoil(struct disk *disk, uint64_t offset, uint64_t length);
bool disk_is_spoiled(const struct disk *disk, uint64_t offset, uint64_t length);

/* Hash of everything that is seen. */
uint64_t disk_hash(const struct disk *disk);

#endif
