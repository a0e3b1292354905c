/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pledges: space that operations to come will find, however full the pool is by then.
 *
 * Who admits operations for several stores must know, before any of them has prepared one, that all of them can. So each asks
 * its store for a number of blocks, and lets no more be admitted. What is pledged and not used yet counts as taken in the rule
 * of room (space.c): as alive, and as slots of the log, at worst. A pledge is never taken back; it is used up, and to get more
 * is to ask anew. So a full pool refuses before anything is admitted, and never after it.
 *
 * In the log a block takes, at worst, two sectors: a batch of its own with the block as it is, and its part of the summary.
 * Larger records leave more unfilled at the end of a segment and need less for each block.
 *
 * All who hold a pledge have equal shares in a 32nd of the pool, but each at least one operation's worth.
 */
#include "store/internal.h"

enum { POOL_SHARE = 32, BLOCK_LOG_BYTES = 2 * SECTOR + 64 };

static uint64_t slot_room(const struct store *s)
{
    return s->segment_bytes - 4 * SECTOR;
}

uint64_t pledge_slots(const struct store *s, uint64_t blocks)
{
    return (blocks * BLOCK_LOG_BYTES + slot_room(s) - 1) / slot_room(s);
}

uint64_t pledge_blocks(const struct store *s, uint64_t slots)
{
    return slots * slot_room(s) / BLOCK_LOG_BYTES;
}

static uint64_t share(const struct store *s)
{
    return max64(s->blocks_max, pledge_blocks(s, s->slots_total / POOL_SHARE) / max32(max32(s->pledges, s->pledges_meant), 1));
}

void store_pledge_begin(struct store *s, struct store_pledge *pledge, uint32_t holders)
{
    s->pledges_meant = max32(holders, s->pledges_meant);
    *pledge = (struct store_pledge){.store = s};
    s->pledges++;
}

void store_pledge_end(struct store_pledge *pledge)
{
    struct store *s = pledge->store;
    if (!s) return;
    assert(s->pledges > 0 && s->pledged >= pledge->blocks);
    s->pledges--;
    s->pledged -= pledge->blocks;
    pledge->blocks = 0;
    pledge->store = NULL;
    log_kick(s);
}

uint32_t store_pledge_more(struct store_pledge *pledge, uint32_t most, bool again, enum store_room *ret_room)
{
    struct store *s = pledge->store;
    bool full = false;
    uint64_t mine = share(s);
    *ret_room = s->failed != OK ? STORE_ROOM_FAILED : STORE_ROOM;
    if (s->failed != OK || s->read_only || pledge->blocks >= mine) return 0;
    uint64_t room = space_room(s, 0, again ? mine : 0);
    if (room == 0 && !space_asked(s, &full)) {
        *ret_room = full ? STORE_FULL : STORE_ROOM_LATER;
        return 0;
    }
    uint32_t got = (uint32_t)min64(most, min64(room, mine - pledge->blocks));
    pledge->blocks += got;
    s->pledged += got;
    return got;
}

static uint32_t cost(const struct store_op *op)
{
    return op->pledge && op->kind == RECORD_DATA && op->what == ENTRY_NEW ? op->count : 0;
}

void pledge_use(struct store_op *op)
{
    assert(!op->pledge || (!op->learn && op->pledge->blocks >= cost(op)));
    if (op->pledge) op->pledge->blocks -= cost(op);
}

void pledge_used(struct store *s, const struct store_op *op)
{
    assert(s->pledged >= cost(op));
    s->pledged -= cost(op);
}
