/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Histories of a cluster with a plan: what chance would bring about seldom, or not for certain.
 *
 *     RETURN     a replica is away for a while, and comes back; while it learns, it or its teacher loses its power now and then
 *     GAP        a learner is cut off in its first pass, and falls behind: that costs it a second one
 *     BYTES      what goes to a replica that was away is what has changed, and little more
 *     REPLACED   a disk is lost with all that was on it
 *     FULL       the pools are small, and run full, again and again (cluster_fill.c)
 *
 * Each judges in the end that what it is about has happened.
 */
#include <stdlib.h>
#include <string.h>

#include "sim/cluster.h"
#include "sim/must.h"
#include "store/mutation.h"

enum { WAIT_MS = 60000, LONG_MS = 400000, AWAY = 2 }; /* AWAY: the node that is away */

enum cluster_plan plan_of(uint64_t seed, int mutation)
{
    static const enum cluster_plan of_seeds[10] = {
        [1] = PLAN_RETURN, [3] = PLAN_GAP, [5] = PLAN_BYTES, [7] = PLAN_REPLACED, [8] = PLAN_FULL, [9] = PLAN_ROT};
    if (mutation < MUTATE_HOST) return of_seeds[seed % 10];
    switch (mutation) {
    case MUTATE_READS_UNPARKED:
    case MUTATE_LEARNED_WINDOWLESS:
    case MUTATE_KEY_EARLY:
    case MUTATE_DIGEST_UNHELD:
    case MUTATE_WALK_NO_HOLES:
    case MUTATE_LEARNED_EARLY:
    case MUTATE_LEARNING_UNSAID:
    case MUTATE_WALK_UNPUBLISHED:
    case MUTATE_STEP_UNPUBLISHED:
    case MUTATE_DIGEST_EARLY:
    case MUTATE_APPLY_UNDER_DIGEST: return PLAN_RETURN;
    case MUTATE_MEND_UNPROVEN: return PLAN_ROT;
    case MUTATE_CREDIT_BLIND: return PLAN_FULL;
    default: return PLAN_NONE;
    }
}

void plan_begin(struct cluster *c, enum cluster_plan plan)
{
    if (plan == PLAN_NONE) return;
    c->nodes = 3;
    c->clients_count = CLUSTER_FEW;
    c->shared = 0;
    c->delay_us = 300;
    c->slow_reads = c->bad_disks = false;
    if (plan == PLAN_ROT) c->lose_disk = 0; /* what is damaged is to be had from somebody */
    c->only_blocks = plan == PLAN_BYTES;
    c->eager = plan != PLAN_REPLACED && plan != PLAN_ROT && plan != PLAN_FULL;
    c->small = plan == PLAN_FULL;
    c->small_node = (uint32_t)cluster_below(c, c->nodes);
}

static bool is_without(struct cluster *c)
{
    return !set_has(c->config.in_sync, AWAY);
}

/* The replica is gone, and the others go on without it. */
static bool goes_away(struct cluster *c)
{
    cluster_run_ms(c, 1000);
    cluster_crash(c, AWAY);
    return cluster_until(c, is_without, WAIT_MS, "a replica that is gone does not leave");
}

static void strikes(struct io_timer *timer)
{
    struct cluster *c = CONTAINER(timer, struct cluster, strike);
    if (!c->node[c->strike_node].up) return;
    cluster_crash(c, c->strike_node);
    cluster_start(c, c->strike_node, IO_MS_NS);
}

static void returns(struct cluster *c)
{
    if (!goes_away(c)) return;
    cluster_run_ms(c, 1000);
    c->strike.fire = strikes;
    c->strike_node = AWAY;
    c->strikes = 8;
    cluster_start(c, AWAY, IO_MS_NS);
    for (uint32_t i = 0; i < 12; i++) {
        cluster_run_ms(c, 20 + cluster_below(c, 300));
        if (cluster_is_whole(c)) return;
        uint32_t node = cluster_chance(c, 500) ? AWAY : c->config.owner;
        if (!c->node[node].up) continue;
        cluster_crash(c, node);
        cluster_start(c, node, IO_MS_NS * (1 + cluster_below(c, 100)));
    }
}

static struct replica_learn learn_of(struct cluster *c, uint32_t node)
{
    struct replica_status status = {.learn = {.on = false}};
    if (c->node[node].ready) host_status(c->node[node].host, &status);
    return status.learn;
}

static bool is_in_pass(struct cluster *c)
{
    struct replica_learn learn = learn_of(c, AWAY);
    return learn.on && learn.applied != 0 && learn.cursor != 0 && learn.cursor != REPLICA_WALK_END;
}

static bool is_left_behind(struct cluster *c)
{
    struct replica_status status;
    if (!c->node[c->config.owner].ready) return false;
    host_status(c->node[c->config.owner].host, &status);
    return status.committed.sequence > learn_of(c, AWAY).applied + REPLICA_KEPT + REPLICA_STEP_RECORDS;
}

static void cut_off(struct cluster *c, bool cut)
{
    for (uint32_t i = 0; i < c->nodes; i++) {
        if (i == AWAY) continue;
        cluster_cut(c, i, AWAY, cut);
        cluster_cut(c, AWAY, i, cut);
        if (!cut) cluster_link_reset(c, i, AWAY);
    }
}

static void falls_behind(struct cluster *c)
{
    if (!goes_away(c)) return;
    cluster_run_ms(c, 500);
    cluster_start(c, AWAY, IO_MS_NS);
    for (uint32_t ms = 0; ms < WAIT_MS && !lab_failed(c->lab) && !is_in_pass(c); ms++) cluster_run_ms(c, 1);
    cut_off(c, true);
    cluster_until(c, is_left_behind, LONG_MS, "too little is written");
    cut_off(c, false);
}

static bool clients_rest(struct cluster *c)
{
    return client_is_idle(c);
}

static bool all_but_one(struct cluster *c)
{
    return set_size(c->config.in_sync) == c->nodes - 1 && !set_has(c->config.in_sync, AWAY);
}

/* Stored bytes of all blocks, as they are now. */
static uint64_t stored_bytes(struct cluster *c)
{
    uint8_t *block = must(aligned_alloc(BLOCK_SIZE, 2 * BLOCK_SIZE));
    struct block_digest digest;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < CLUSTER_OWNED; i++) {
        content_fill(judge_content(i, c->blocks[i].acked), block);
        digest_block(store_key(c->node[c->config.owner].store), block, block + BLOCK_SIZE, &digest);
        bytes += chunk_stored(digest.size);
    }
    free(block);
    return bytes;
}

/* Every block has been written since `before`. */
static bool all_written(struct cluster *c)
{
    for (uint32_t i = 0; i < CLUSTER_OWNED; i++)
        if (c->blocks[i].acked == c->blocks[i].before) return false;
    return true;
}

/* Every block is written while it is away, most of them more than once; then nobody writes until it is back. */
static void moves_bytes(struct cluster *c)
{
    if (!goes_away(c)) return;
    for (uint32_t i = 0; i < CLUSTER_OWNED; i++) c->blocks[i].before = c->blocks[i].acked;
    if (!cluster_until(c, all_written, LONG_MS, "not every block is written")) return;
    c->quiet = true;
    if (!cluster_until(c, clients_rest, WAIT_MS, "clients do not stop")) return;
    if (!cluster_until(c, all_but_one, WAIT_MS, "a replica does not come back")) return;
    uint64_t changed = stored_bytes(c);
    struct cluster_counts old = cluster_counts(c);
    cluster_start(c, AWAY, IO_MS_NS);
    if (!cluster_until(c, cluster_is_whole, WAIT_MS, "a replica does not come back")) return;
    struct cluster_counts n = cluster_counts(c);
    uint64_t blocks = n.blocks - old.blocks, bytes = n.step_bytes - old.step_bytes;
    bool it_alone = n.learned == old.learned + 1; /* where all is slow others may have left for a while */
    if (it_alone && (blocks > CLUSTER_OWNED + CLUSTER_OWNED / 5 || bytes > changed + changed / 5 + 65536))
        lab_fail(c->lab, "%llu blocks in %llu bytes were sent for %u blocks that changed, %llu bytes",
                 (unsigned long long)blocks, (unsigned long long)bytes, CLUSTER_OWNED, (unsigned long long)changed);
    client_go_on(c);
}

/* There is something to be lost. */
static bool has_written(struct cluster *c)
{
    uint32_t written = 0;
    for (uint32_t i = 0; i < CLUSTER_OWNED; i++) written += c->blocks[i].acked != 0;
    return written >= CLUSTER_FEW;
}

static void loses_disk(struct cluster *c)
{
    uint32_t node = (uint32_t)cluster_below(c, c->nodes);
    cluster_run_ms(c, 1000);
    if (!cluster_until(c, has_written, WAIT_MS, "nothing is written")) return;
    if (!cluster_replace(c, node)) lab_fail(c->lab, "no disk may be lost");
    cluster_start(c, node, IO_MS_NS * (1 + cluster_below(c, 1500)));
    cluster_run_ms(c, 1000);
}

/* Nobody was gone meanwhile, so nobody has a reason to leave. */
static void judge_whole(struct cluster *c, const struct replica_config *before)
{
    bool stayed = cluster_is_whole(c) && memcmp(c->config.join, before->join, sizeof before->join) == 0;
    if (!c->hasty && !stayed) lab_fail(c->lab, "a replica leaves because a pool is full");
}

/* The one that is full loses its power, and is back at once: it still finds room for what others may have ordered because of
 * its word. If it left all the same, it catches up, although it is full: most blocks replace others. */
static void restarts_full(struct cluster *c)
{
    cluster_crash(c, c->small_node);
    cluster_start(c, c->small_node, IO_MS_NS);
    cluster_run_ms(c, 1 + cluster_below(c, 100));
    c->quiet = true;
    cluster_run_ms(c, c->timing.promise_us * 2 / 1000); /* so long it may take to be left out */
    cluster_until(c, cluster_is_whole, WAIT_MS, "a replica on a full pool does not come back");
    client_go_on(c);
}

/* Another one is away, and catches up while the first is full. */
static void returns_to_full(struct cluster *c)
{
    uint32_t node = (c->small_node + 1 + (uint32_t)cluster_below(c, c->nodes - 1)) % c->nodes;
    cluster_crash(c, node);
    cluster_start(c, node, IO_MS_NS * (1 + cluster_below(c, 1000)));
    cluster_run_ms(c, 1 + cluster_below(c, 3000));
}

static void runs_full(struct cluster *c)
{
    cluster_run_ms(c, 1000);
    for (uint32_t round = 0; round < 6 && !lab_failed(c->lab); round++) {
        cluster_run_ms(c, c->timing.promise_us * 2 / 1000); /* who was away before may still be left out for that */
        if (!cluster_until(c, cluster_is_whole, WAIT_MS, "a replica does not come back")) return;
        struct replica_config before = c->config;
        if (!fill_up(c)) return;
        c->full = true;
        cluster_run_ms(c, 1 + cluster_below(c, 1000));
        judge_whole(c, &before);
        if (round % 3 == 1) restarts_full(c);
        if (round % 3 == 2) returns_to_full(c);
        c->full = false;
        if (!fill_clear(c) || !fill_goes_on(c)) return;
    }
}

void plan_run(struct cluster *c, enum cluster_plan plan)
{
    switch (plan) {
    case PLAN_NONE: break;
    case PLAN_RETURN: returns(c); break;
    case PLAN_GAP: falls_behind(c); break;
    case PLAN_BYTES: moves_bytes(c); break;
    case PLAN_REPLACED: loses_disk(c); break;
    case PLAN_ROT: rot_run(c); break;
    case PLAN_FULL: runs_full(c); break;
    }
}

void plan_judge(struct cluster *c, enum cluster_plan plan)
{
    struct cluster_counts n = cluster_counts(c);
    if (plan == PLAN_NONE) return;
    if (plan == PLAN_ROT && (!rot_is_mended(c, n.mended) || n.lent < n.mended)) lab_fail(c->lab, "too little was mended");
    if (plan == PLAN_ROT) return;
    if (plan == PLAN_FULL) {
        if (n.refused == 0 || n.while_full == 0) lab_fail(c->lab, "nobody is refused, or answered, on a full pool");
        return;
    }
    bool caught_up = n.joins > 0 && n.learned > 0 && n.steps > 0 && n.digests >= n.learned && n.blocks > 0;
    if (!caught_up) lab_fail(c->lab, "nobody has caught up");
    if (plan == PLAN_GAP && (n.gaps == 0 || n.passes == 0)) lab_fail(c->lab, "nobody has fallen behind");
    if (plan == PLAN_REPLACED && n.replaced == 0) lab_fail(c->lab, "no disk was lost");
}
