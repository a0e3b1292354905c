/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How full is full: what foreground writes may take, and when it is time to clean.
 *
 * Foreground writes may fill all but the reserve; a private share beyond that belongs to the cleaner's output, map pages and
 * unmaps, so that a full pool can always give space back.
 */
#include "store/internal.h"

/* Slots that foreground data never takes: to gain one slot where a fifth is dead, the cleaner needs room for four. */
uint32_t slots_private(const struct store *s)
{
    return 5 + (uint32_t)(min64(s->slots_total / 8, 7) + s->slots_total / 256);
}

uint64_t space_limit(const struct store *s)
{
    uint64_t reserve = max64(s->slots_total * s->config.reserve_percent / 100, slots_private(s) + 3ull);
    return reserve < s->slots_total ? (s->slots_total - reserve) * slot_capacity(s) : 0;
}

/* The delta's pages, at worst: each leaf a page and, among many, a share of its inner pages. */
static uint64_t delta_slots(const struct store *s)
{
    uint64_t bytes = (uint64_t)(s->delta.leaves_used + s->map.dirty) * (sizeof(struct disk_leaf) + 256);
    return bytes / (s->segment_bytes - 16384) + 1;
}

bool space_for(struct store *s, const struct store_op *op, bool *ret_full)
{
    *ret_full = false;
    if (op->kind != RECORD_DATA || op->what != ENTRY_NEW) {
        return true;
    }
    if (s->full) {
        *ret_full = true;
        return false;
    }
    uint64_t open = s->slots_free + s->slots_promised;
    if (s->live_units <= space_limit(s) && open > slots_private(s) + min64(delta_slots(s), s->slots_total / 16)) return true;
    s->clean.wanted = true;
    upkeep_kick(s);
    return false;
}

uint64_t space_left(const struct store *s)
{
    return s->slots_free + s->log.promised_count;
}

bool space_is_tight(const struct store *s)
{
    return space_left(s) <= slots_private(s);
}

uint64_t space_open(const struct store *s)
{
    return s->slots_free + s->slots_pending + s->slots_promised;
}

/* Cleaning begins when fewer slots are open. Low, because every slot that lies idle costs write amplification. */
static uint64_t space_low(const struct store *s)
{
    return slots_private(s) + 4 + s->slots_total / 256;
}

/* Slots that a pass gains before it ends. What lies idle until it is used costs write amplification; but each pass walks over
 * all maps, and the checkpoints after each write pages: with a 256th of the pool these cost more than the idle slots did. */
uint32_t clean_goal(const struct store *s)
{
    return (uint32_t)max64(4, s->slots_total / 64);
}

bool clean_pays(struct store *s)
{
    if (s->config.no_clean && !s->clean.wanted && !s->log.starving && !s->full) return false;
    uint64_t open = space_open(s);
    if (open > space_low(s) && !(s->clean.wanted && s->full)) {
        s->clean.wanted = s->clean.wanted && s->live_units > space_limit(s);
        if (!s->clean.wanted) return false;
    }
    return s->clean.wanted || s->clean.died >= s->segment_bytes / UNIT || s->clean.idle_free != open ||
           s->clean.idle_replay != s->replay_segment;
}

bool space_is_short(const struct store *s)
{
    return space_open(s) <= slots_private(s) + min64(delta_slots(s), s->slots_total / 16);
}
