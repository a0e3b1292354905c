/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Histories for one rule each: those that random worlds stumble on once in thousands, told step by step. Client 0 writes and
 * reads block 0; the judge is the same. With the rule in force a history ends well, or nobody answers; without it a read is
 * wrong.
 *
 *     replica_direct_reign.c   who may order, commit, read and take over
 *     replica_direct_client.c  what becomes of a command
 *     replica_direct_learn.c   joining, and stores that are lost, put back, full or failing
 *     replica_direct_odd.c     anything at all is said
 */
#include <stdio.h>
#include <string.h>

#include "sim/replica_direct.h"
#include "store/mutation.h"

void run(struct world *w, uint64_t ms)
{
    world_run(w, w->now + ms * MS);
}

void finish(struct world *w, uint64_t ms)
{
    for (uint64_t until = w->now + ms * MS; w->clients[0].busy && w->now < until && !world_failed(w);)
        world_run(w, w->now + 100);
}

void write_over(struct world *w, uint32_t node)
{
    client_direct(w, node, false);
    finish(w, 60);
}

void write_others(struct world *w, uint32_t node)
{
    struct replica_change change = {.kind = REPLICA_WRITE, .lba = WORLD_JUDGED, .count = 4, .body = WORLD_PUMP << 24};
    world_step(
        w, node,
        &(struct replica_event){.kind = REPLICA_ON_CHANGE, .id = (uint64_t)WORLD_PUMP << 56, .session = 1, .change = &change});
}

void read_over(struct world *w, uint32_t node)
{
    client_direct(w, node, true);
    finish(w, 60);
}

void cut(struct world *w, uint32_t a, uint32_t b)
{
    w->cut[a][b] = w->cut[b][a] = true;
}

void mend(struct world *w, uint32_t a, uint32_t b)
{
    w->cut[a][b] = w->cut[b][a] = false;
}

void until_in_sync(struct world *w, uint8_t set)
{
    for (uint64_t until = w->now + 1000 * MS; w->config.in_sync != set && w->now < until && !world_failed(w);)
        world_run(w, w->now + 20);
    if (w->config.in_sync != set) world_fail(w, "the directed history does not get where it wants to");
}

static struct replica_timing timing(void)
{
    return (struct replica_timing){.heartbeat_us = 5 * MS,
                                   .lease_us = 40 * MS,
                                   .promise_us = 60 * MS,
                                   .suspect_us = 40 * MS,
                                   .stale_us = 90 * MS,
                                   .commit_us = 1 * MS};
}

struct world_plan direct_plan(uint32_t nodes, uint32_t replicas, uint64_t suspect_ms)
{
    struct world_plan plan = {.nodes = nodes, .replicas = replicas, .clients = 1, .walk_blocks = 4, .timing = timing()};
    plan.timing.suspect_us = suspect_ms * MS;
    plan.client_timeout_us = 200 * MS;
    plan.capacity = 1000;
    plan.think_us = 1;
    return plan;
}

void start_as(struct world *w, uint64_t seed, bool trace, const struct world_plan *plan)
{
    world_begin(w, seed, plan, trace);
    w->calm = w->quiet = w->manual = true;
    run(w, 120);
    write_over(w, 0);
    if (w->clients[0].writing || w->config.owner != 0) world_fail(w, "the directed history does not begin");
}

void start(struct world *w, uint64_t seed, bool trace, uint32_t nodes, uint32_t replicas, uint64_t suspect_ms)
{
    struct world_plan plan = direct_plan(nodes, replicas, suspect_ms);
    start_as(w, seed, trace, &plan);
}

void pump(struct world *w, uint64_t us)
{
    w->plan.pump_us = us;
    world_plan_it(w, 0, &(struct happening){.kind = HAPPEN_PUMP});
}

static const struct {
    enum mutation mutation;
    void (*run)(struct world *w, uint64_t seed, bool trace);
} histories[] = {
    {MUTATE_PROMISE_FORGOTTEN, forgotten_promise},
    {MUTATE_UNDECIDED_ACKS, undecided_acks},
    {MUTATE_UNDECIDED_LEASES, undecided_leases},
    {MUTATE_NO_STALE_GUARD, old_command},
    {MUTATE_OVERTAKEN, overtaken},
    {MUTATE_NO_CONFIRM, reset_path},
    {MUTATE_PROMISE_RACE, promise_race},
    {MUTATE_NO_JOIN_FENCE, late_acks},
    {MUTATE_NONE, empty_store},
    {MUTATE_NONE, more_and_fewer},
    {MUTATE_TRUST_OLD_CONFIG, old_config},
    {MUTATE_LEASE_TOO_LONG, long_lease},
    {MUTATE_READ_WITHOUT_LEASE, long_lease},
    {MUTATE_NONE, force_promote},
    {MUTATE_NONE, force_called_off},
    {MUTATE_NO_DUPLICATES, duplicate},
    {MUTATE_EPOCH_IGNORED, late_record},
    {MUTATE_NO_HOLD, join_under_load},
    {MUTATE_NO_CONTENT_CHECK, lost_block},
    {MUTATE_NO_CREDIT, space_beyond_credit},
    {MUTATE_CREDIT_KEPT, space_less},
    {MUTATE_NONE, space_less_late},
    {MUTATE_REFUSED_EARLY, space_comes_late},
    {MUTATE_REPORT_ONCE, space_told_again},
    {MUTATE_UNVOUCHED, put_back},
    {MUTATE_LOSS_UNNOTICED, put_back_owner},
    {MUTATE_NONE, failed_store},
    {MUTATE_CHECK_OVER_GAP, gap_in_check},
    {MUTATE_NO_EDGE, odd_messages},
    {MUTATE_CUT_UNJUDGED, cut_members},
    {MUTATE_NONE, failing_walk},
    {MUTATE_NOOP_PILE, crash_loop},
    {MUTATE_STRICT_BLIND, suspended_owner},
    {MUTATE_FORCED_AGAIN, forced_restart},
    {MUTATE_LATE_WORDS, late_words},
    {MUTATE_FENCED_EVER, fence_again},
    {MUTATE_NO_REMINDER, idle_tail},
    {MUTATE_JOIN_UNTOLD, empty_owner},
    {MUTATE_NONE, space_before_claim},
};

enum { HISTORIES = sizeof histories / sizeof histories[0] };

/* All of them, with the rules in force. */
void direct_replica_all(struct world *w, uint64_t seed)
{
    for (uint32_t i = 0; i < HISTORIES && (i == 0 || !world_failed(w)); i++) {
        histories[i].run(w, seed, false);
        size_t used = strlen(w->failure);
        if (used != 0) snprintf(w->failure + used, sizeof w->failure - used, " (history %u)", i);
    }
}

void direct_replica_one(struct world *w, uint32_t history, uint64_t seed, bool trace)
{
    if (history < HISTORIES) histories[history].run(w, seed, trace);
}

bool direct_replica_has(uint32_t mutation)
{
    for (uint32_t i = 0; i < HISTORIES; i++)
        if (histories[i].mutation == mutation) return true;
    return false;
}

void direct_replica_run(struct world *w, uint32_t mutation, uint64_t seed, bool trace)
{
    for (uint32_t i = 0; i < HISTORIES; i++)
        if (histories[i].mutation == mutation) histories[i].run(w, seed, trace);
}
