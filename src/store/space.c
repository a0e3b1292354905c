/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How full is full: the one rule of room, who waits for it, and when it is time to clean.
 *
 * There is room for blocks of data when both can be had:
 *
 *     alive    what is alive, with what is pledged, stays below the limit: a share of the pool is reserved
 *     open     of the slots that are free or promised to the head more are left than the floor: a private share (the cleaner's
 *              output, unmaps), the pages of the delta at worst, and what the log takes of pledged blocks at worst
 *
 * Everybody asks this question (space_room): who admits operations, who pledges space (pledge.c), who decides whether the pool
 * is cleaned and when it is full. There is no second rule that could give another answer, because then an operation would be
 * told to wait for a cleaner that has nothing to do.
 *
 * Who finds no room has it `asked` for, and waits. Upkeep answers: as long as room is asked for and not there, a pass is due,
 * whatever it may gain (clean_pays). When one or some of them have not brought it, and no slot is about to come by itself, the
 * pool is full: who waits is refused. It is full until there is room, or something was unmapped and the cleaner has to look
 * again. So nobody waits for ever, and nobody is refused while
 * the cleaner would bring what is missing.
 *
 * What needs no room of its own (unmaps, keyed state) and what was pledged is never held up here: it lives on the floor.
 */
#include "store/internal.h"

enum { PASSES_MAX = 8 }; /* that gain something, and not enough, before the pool counts as full */

/* ---- the rule ---- */

/* Slots that foreground data never takes: to gain one slot where a fifth is dead, the cleaner needs room for four. */
uint32_t slots_private(const struct store *s)
{
    return 5 + (uint32_t)(min64(s->slots_total / 8, 7) + s->slots_total / 256);
}

static uint64_t space_limit(const struct store *s)
{
    uint64_t reserve = max64(s->slots_total * s->config.reserve_percent / 100, slots_private(s) + 3ull);
    return reserve < s->slots_total ? (s->slots_total - reserve) * slot_capacity(s) : 0;
}

/* The delta's pages, at worst: each leaf a page and, among many, a share of its inner pages. */
static uint64_t delta_slots(const struct store *s)
{
    uint64_t bytes = (uint64_t)(s->delta.leaves_used + s->map.dirty) * (sizeof(struct disk_leaf) + 256);
    return min64(bytes / (s->segment_bytes - 16384) + 1, s->slots_total / 16);
}

static uint64_t pledged(const struct store *s)
{
    return MUTATED(MUTATE_PLEDGE_UNCOUNTED) ? 0 : s->pledged;
}

uint64_t space_floor(const struct store *s)
{
    return slots_private(s) + delta_slots(s) + pledge_slots(s, pledged(s));
}

uint64_t space_room(const struct store *s, uint64_t coming, uint64_t dip)
{
    uint64_t open = s->slots_free + s->slots_promised + coming, floor = space_floor(s);
    uint64_t limit = space_limit(s) + dip * PLACE_UNITS_RAW, alive = s->live_units + pledged(s) * PLACE_UNITS_RAW;
    floor -= min64(pledge_slots(s, dip), slots_private(s) / 2);
    if (open <= floor || alive >= limit) return 0;
    return min64((limit - alive + PLACE_UNITS_RAW - 1) / PLACE_UNITS_RAW, pledge_blocks(s, open - floor));
}

bool space_is_limited(const struct store *s)
{
    return space_room(s, s->slots_total, 0) == 0;
}

/* Slots that will be free without anybody's doing: after a reader, after a discard. */
static uint64_t slots_coming(const struct store *s)
{
    return s->slots_pending + (s->trim.under_way ? s->trim.count : 0);
}

/* ---- who waits ---- */

bool space_asked(struct store *s, bool *ret_full)
{
    *ret_full = false;
    if (space_room(s, 0, 0) > 0) {
        s->full = false;
        return true;
    }
    *ret_full = s->full;
    if (s->full) return false;
    s->clean.asked = true;
    upkeep_kick(s);
    return false;
}

bool space_for(struct store *s, const struct store_op *op, bool *ret_full)
{
    *ret_full = false;
    if (op->kind != RECORD_DATA || op->what != ENTRY_NEW || op->pledge) return true;
    /* Catching up on a full pool: most blocks replace others, which give their space back, but only afterwards. */
    uint64_t dip = pledge_blocks(s, slots_private(s));
    if (op->learn && space_room(s, 0, dip) > 0) return true;
    return space_asked(s, ret_full);
}

void space_judge(struct store *s, uint32_t gained)
{
    bool hopeless = space_is_limited(s) || gained == 0 || ++s->clean.passes >= PASSES_MAX;
    bool room = space_room(s, 0, 0) > 0;
    s->full = !room && hopeless && space_room(s, slots_coming(s), 0) == 0;
    if (room || s->full) s->clean.passes = 0;
    /* What comes by itself wakes who waits, and so does this. */
    if (room || s->full || slots_coming(s) > 0) s->clean.asked = false;
    log_kick(s);
}

/* The pool is not known to be full any more: who asks waits until the cleaner has looked. */
void space_comes_back(struct store *s)
{
    s->full = false;
    s->clean.wanted = true;
}

/* ---- when it is time to clean ---- */

uint64_t space_left(const struct store *s)
{
    return s->slots_free + s->log.promised_count;
}

bool space_is_tight(const struct store *s)
{
    return space_left(s) <= space_floor(s);
}

uint64_t space_open(const struct store *s)
{
    return s->slots_free + s->slots_pending + s->slots_promised;
}

bool space_is_short(const struct store *s)
{
    return space_open(s) <= space_floor(s);
}

/* Cleaning begins when fewer slots are open. Low, because every slot that lies idle costs write amplification. */
static uint64_t space_low(const struct store *s)
{
    return space_floor(s) + 4 + s->slots_total / 256;
}

/* Slots that a pass gains before it ends. What lies idle until it is used costs write amplification; but each pass walks over
 * all maps, and the checkpoints after each write pages: with a 256th of the pool these cost more than the idle slots did. */
uint32_t clean_goal(const struct store *s)
{
    return (uint32_t)max64(4, s->slots_total / 64);
}

bool clean_pays(struct store *s)
{
    uint64_t open = space_open(s);
    if (s->clean.asked && space_room(s, 0, 0) > 0) {
        s->clean.asked = false;
        log_kick(s);
    }
    if (s->clean.asked) return true;
    if (s->config.no_clean && !s->clean.wanted && !s->log.starving && !s->full) return false;
    if (open > space_low(s)) {
        s->clean.wanted = s->clean.wanted && (s->full || space_is_limited(s));
        return s->clean.wanted;
    }
    return s->clean.wanted || s->clean.died >= s->segment_bytes / UNIT || s->clean.idle_free != open ||
           s->clean.idle_replay != s->replay_segment;
}
