/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a history is like. Every seed draws its own mix (swarm testing): which actions occur at all and how often, how
 * much repeats, how small the pool and its memory are, how many operations are under way, how late they are published. A mix of
 * everything at once reaches fewer corners than many lopsided ones.
 */
#include <string.h>

#include "base/bytes.h"
#include "sim/lab.h"
#include "store/mutation.h"

/* Common ones first; a mix keeps, drops or multiplies each. */
static const uint32_t weights[ACTIONS] = {
    [DO_WRITE] = 400,     [DO_ZERO] = 30,  [DO_UNMAP] = 60, [DO_UNMAP_ALL] = 8, [DO_STATE] = 40,    [DO_NOOP] = 10,
    [DO_CREATE] = 12,     [DO_DELETE] = 5, [DO_RESIZE] = 8, [DO_READ] = 80,     [DO_PUBLISH] = 200, [DO_DISCARD] = 8,
    [DO_CHECKPOINT] = 10, [DO_FLUSH] = 12, [DO_CLEAN] = 20, [DO_DIGEST] = 4,    [DO_CHANGED] = 8,   [DO_WAIT] = 20,
    [DO_REOPEN] = 4,      [DO_CUT] = 6,    [DO_SLEEP] = 10, [DO_LEARN] = 40,
};

static uint32_t between(struct prng *prng, uint32_t from, uint32_t to)
{
    return from + (uint32_t)prng_below(prng, to - from + 1);
}

static uint32_t one_of(struct prng *prng, uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
    const uint32_t all[4] = {a, b, c, d};
    return all[prng_below(prng, 4)];
}

static void total(struct mix *mix)
{
    mix->total = 0;
    for (int i = 0; i < ACTIONS; i++) mix->total += mix->weights[i];
}

static void draw_weights(struct mix *mix, struct prng *prng)
{
    for (int i = 0; i < ACTIONS; i++) {
        uint64_t draw = prng_below(prng, 8);
        mix->weights[i] = draw == 0 ? 0 : draw == 1 ? 4 * weights[i] : weights[i];
    }
    if (mix->faults & FAULTS_OF_DATA) mix->weights[DO_DISCARD] = 0; /* see judge.c */
    if (mix->faults != FAULT_POWER) mix->weights[DO_LEARN] = 0;
    if (mix->weights[DO_WRITE] == 0) mix->weights[DO_WRITE] = 100;
    if (mix->weights[DO_PUBLISH] == 0) mix->weights[DO_PUBLISH] = 20;
    total(mix);
}

/* A small pool, and much that does not compress: it runs full, and slots are used again soon. */
static void fill_up(struct mix *mix, struct prng *prng)
{
    mix->slots = between(prng, 24, 32);
    mix->devices = 1;
    mix->shift = 16;
    mix->kinds = 1u << 4;
    mix->dup = mix->zero = 0;
    mix->blocks_max = 32;
    mix->steps += 150;
}

/* Volumes that shrink and grow all the time, while what changed is asked for and the cleaner walks. */
static void shape_resizing(struct mix *mix, struct prng *prng)
{
    mix->delta_leaves = 0;
    static const enum action more[] = {DO_RESIZE, DO_UNMAP_ALL, DO_CHANGED, DO_CLEAN, DO_FLUSH, DO_DIGEST, DO_CHECKPOINT};
    for (size_t i = 0; i < sizeof more / sizeof more[0]; i++) mix->weights[more[i]] += 6 * weights[more[i]];
    mix->volume_blocks = one_of(prng, 64, 300, 1000, 2048);
    mix->windows = between(prng, 2, WINDOWS_MAX);
    mix->steps += 100;
    if (prng_below(prng, 2)) mix->slots = between(prng, 20, 32);
}

/* Hardly any room beyond what is private to the store, and the power fails again and again. */
static void shape_tight(struct mix *mix, struct prng *prng)
{
    fill_up(mix, prng);
    mix->slots = between(prng, 16, 24);
    mix->reserve = one_of(prng, 0, 5, 5, 50);
    mix->cut_within = one_of(prng, 6, 20, 60, 200);
    mix->cut_in_recovery = one_of(prng, 0, 300000, 800000, 950000);
    mix->weights[DO_CUT] += 4 * weights[DO_CUT];
    mix->weights[DO_UNMAP] += weights[DO_UNMAP];
    mix->weights[DO_STATE] += weights[DO_STATE];
}

/* Volumes come and go. */
static void shape_crowded(struct mix *mix, struct prng *prng)
{
    static const enum action more[] = {DO_CREATE, DO_DELETE, DO_STATE, DO_DISCARD, DO_CHECKPOINT};
    for (size_t i = 0; i < sizeof more / sizeof more[0]; i++) mix->weights[more[i]] += 8 * weights[more[i]];
    if (mix->faults & FAULTS_OF_DATA) mix->weights[DO_DISCARD] = 0;
    mix->alive = LAB_VOLUMES;
    mix->volume_blocks = one_of(prng, 1, 20, 64, 300);
}

void mix_draw(struct mix *mix, struct prng *prng, uint32_t faults)
{
    memset(mix, 0, sizeof *mix);
    mix->faults = faults;
    mix->steps = between(prng, 10, 60) << prng_below(prng, 3);
    draw_weights(mix, prng);
    mix->depth = one_of(prng, 1, 3, 8, 24);
    mix->blocks_max = one_of(prng, 1, 3, 8, 32);
    mix->dup = one_of(prng, 0, 50000, 300000, 800000);
    mix->zero = one_of(prng, 0, 0, 50000, 300000);
    mix->hot = one_of(prng, 0, 0, 8, 64);
    mix->kinds = 1 + (uint32_t)prng_below(prng, 255);
    mix->inline_publish = one_of(prng, 0, 0, 500000, 1000000);
    mix->hold = one_of(prng, 0, 0, 200000, 700000);
    mix->pause = one_of(prng, 1, 4, 16, 64);
    mix->cut_within = one_of(prng, 0, 20, 100, 400);
    mix->cut_in_recovery = one_of(prng, 0, 100000, 300000, 600000);
    mix->devices = one_of(prng, 1, 1, 2, 3);
    mix->slots = between(prng, 24, 96);
    mix->shift = one_of(prng, 16, 16, 16, 17);
    mix->memory = max64(STORE_MEMORY_MIN, 12u << 20) + (prng_below(prng, 3) == 0 ? prng_below(prng, 10u << 20) : 0);
    mix->volume_blocks = one_of(prng, 64, 64, 300, prng_below(prng, 4) ? 200 : 2048);
    mix->windows = between(prng, 1, WINDOWS_MAX);
    mix->reserve = one_of(prng, 0, 0, 5, 30);
    mix->checkpoint_ms = one_of(prng, 0, 0, 100, 5);
    mix->no_clean = prng_below(prng, 3) == 0;
    mix->discard = prng_below(prng, 3) != 0;
    mix->fill = prng_below(prng, 24) == 0;
    mix->slow_reads = prng_below(prng, 10) == 0;
    if (faults & FAULT_LIE) mix->cut_within = between(prng, 5, 60);
    if (mix->fill) fill_up(mix, prng);
    mix->alive = 4;
    mix->delta_leaves = one_of(prng, 0, 0, 0, between(prng, 128, 400));
    if (mix->delta_leaves) mix->weights[DO_RESIZE] = mix->weights[DO_UNMAP_ALL] = 0; /* held back, a few fill it */
    switch (prng_below(prng, 12)) {
    case 0: shape_resizing(mix, prng); break;
    case 1: shape_tight(mix, prng); break;
    case 2: shape_crowded(mix, prng); break;
    default: break;
    }
    mix->pledges = prng_below(prng, 3) ? 0 : 1 + (uint32_t)prng_below(prng, mix->slots / 12);
    total(mix);
}

/* ---- aimed at a mutation ---- */

struct aim {
    enum mutation mutation;
    enum action more[4]; /* DO_WRITE ends the list: there is always enough of it */
    uint32_t dup, pause, slots, cut_within, cut_in_recovery, depth;
    bool fill;
};

static const struct aim aims[] = {
    {MUTATE_ACK_BEFORE_DURABLE, {DO_CUT}, 0, 4, 0, 30, 0, 8, false},
    {MUTATE_ACK_OUT_OF_ORDER, {DO_CUT}, 0, 4, 0, 30, 0, 24, false},
    {MUTATE_KEEP_INCARNATION, {DO_CUT}, 0, 4, 0, 20, 300000, 8, false},
    {MUTATE_NO_ACCEPTED_END, {DO_CUT}, 0, 4, 0, 12, 600000, 8, false},
    {MUTATE_DISCARD_NOT_LOGGED, {DO_CUT, DO_DISCARD}, 0, 4, 0, 30, 100000, 8, false},
    {MUTATE_DISCARD_KEEPS_EPOCH, {DO_CUT, DO_DISCARD}, 0, 4, 0, 30, 100000, 8, false},
    {MUTATE_LEARN_EARLY, {DO_CUT, DO_LEARN, DO_READ}, 0, 4, 0, 30, 0, 8, false},
    {MUTATE_LEARN_COUNTS, {DO_CUT, DO_LEARN}, 0, 4, 0, 30, 0, 8, false},
    {MUTATE_LEARN_UNSTAMPED, {DO_LEARN, DO_CHANGED, DO_FLUSH}, 0, 16, 0, 0, 0, 8, false},
    {MUTATE_LEARN_UNDECIDED, {DO_CUT, DO_LEARN}, 0, 4, 0, 60, 0, 8, false},
    {MUTATE_LEARN_GAP, {DO_LEARN, DO_LEARN, DO_LEARN}, 0, 4, 24, 0, 0, 24, true},
    {MUTATE_LEARNING_FORGOTTEN, {DO_CUT, DO_LEARN, DO_FLUSH, DO_CHECKPOINT}, 0, 8, 0, 60, 0, 8, false},
    {MUTATE_MOVE_FORGOTTEN, {DO_CUT, DO_LEARN}, 0, 16, 0, 100, 0, 8, false},
    {MUTATE_SEAL_EARLY, {DO_CUT}, 0, 4, 0, 60, 0, 24, false},
    {MUTATE_CLEAN_AFTER_REPLAY, {DO_CLEAN, DO_CUT}, 300000, 16, 24, 100, 0, 8, false},
    {MUTATE_FORGET_PREPARED, {DO_CLEAN, DO_FLUSH}, 500000, 16, 24, 100, 0, 8, false},
    {MUTATE_HIT_NOT_MARKED, {DO_CLEAN, DO_UNMAP}, 800000, 8, 24, 0, 0, 24, false},
    {MUTATE_HIT_ON_VICTIM, {DO_CLEAN, DO_UNMAP}, 800000, 8, 24, 0, 0, 24, false},
    {MUTATE_REUSE_EARLY, {DO_CLEAN, DO_CUT, DO_UNMAP}, 0, 16, 24, 60, 0, 8, true},
    {MUTATE_REUSE_UNDER_READ, {DO_CLEAN, DO_READ, DO_UNMAP}, 0, 8, 24, 0, 0, 24, true},
    {MUTATE_TRIM_EARLY, {DO_CLEAN, DO_CUT, DO_UNMAP}, 0, 16, 24, 60, 0, 8, true},
    {MUTATE_TRIM_IN_USE, {DO_CLEAN, DO_CHECKPOINT, DO_UNMAP}, 0, 8, 24, 0, 0, 24, true},
    {MUTATE_CHECKPOINT_UNSYNCED, {DO_CHECKPOINT, DO_FLUSH, DO_CUT}, 0, 8, 24, 20, 0, 8, false},
    {MUTATE_REPLAY_POINT_LATE, {DO_CHECKPOINT, DO_CUT}, 0, 8, 24, 40, 0, 8, false},
    {MUTATE_STALE_NEWEST, {DO_CHANGED, DO_FLUSH}, 0, 16, 0, 0, 0, 8, false},
    {MUTATE_NEWEST_NOT_INHERITED, {DO_CHANGED, DO_FLUSH}, 0, 16, 0, 0, 0, 8, false},
    {MUTATE_EMPTY_FORGETS, {DO_CHANGED, DO_FLUSH, DO_UNMAP_ALL}, 0, 16, 0, 0, 0, 8, false},
    {MUTATE_DIGEST_BLURRED, {DO_DIGEST, DO_DIGEST, DO_PUBLISH}, 0, 4, 0, 0, 0, 24, false},
    {MUTATE_SKIP_CHECK, {DO_READ}, 0, 8, 24, 0, 0, 8, false},
};

void mix_aim(struct mix *mix, struct prng *prng, int mutation)
{
    for (size_t i = 0; i < sizeof aims / sizeof aims[0]; i++) {
        const struct aim *aim = &aims[i];
        if ((int)aim->mutation != mutation || prng_below(prng, 4) == 0) continue; /* one in four stays as it was drawn */
        for (int k = 0; k < 4 && aim->more[k] != DO_WRITE; k++) mix->weights[aim->more[k]] += 8 * weights[aim->more[k]];
        if (aim->dup) mix->dup = aim->dup;
        if (aim->pause) mix->pause = aim->pause;
        if (aim->slots) mix->slots = aim->slots;
        if (aim->cut_within) mix->cut_within = aim->cut_within;
        if (aim->cut_in_recovery) mix->cut_in_recovery = aim->cut_in_recovery;
        if (aim->depth) mix->depth = aim->depth;
        if (aim->fill) fill_up(mix, prng);
        if (aim->mutation == MUTATE_REUSE_UNDER_READ) mix->slow_reads = true;
        if (aim->mutation == MUTATE_TRIM_EARLY || aim->mutation == MUTATE_TRIM_IN_USE) mix->discard = true;
        mix->steps = max64(mix->steps, 120) > 240 ? 240 : (uint32_t)max64(mix->steps, 120);
    }
    total(mix);
}
