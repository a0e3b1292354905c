/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Histories for one rule each: those that random worlds stumble on once in thousands, told step by step. Client 0 writes and
 * reads block 0; the judge is the same. With the rule in force a history ends well, or nobody answers; without it a read is
 * wrong.
 */
#include <stdio.h>
#include <string.h>

#include "sim/replica.h"
#include "store/mutation.h"

enum { MS = 1000 };

static void run(struct world *w, uint64_t ms)
{
    world_run(w, w->now + ms * MS);
}

/* Lets things happen until the client has its answer, for at most so long. */
static void finish(struct world *w, uint64_t ms)
{
    for (uint64_t until = w->now + ms * MS; w->clients[0].busy && w->now < until && !world_failed(w);)
        world_run(w, w->now + 100);
}

static void write_over(struct world *w, uint32_t node)
{
    client_direct(w, node, false);
    finish(w, 60);
}

/* Four blocks that the client knows nothing of. */
static void write_others(struct world *w, uint32_t node)
{
    struct replica_change change = {.kind = REPLICA_WRITE, .lba = WORLD_JUDGED, .count = 4, .body = WORLD_PUMP << 24};
    world_step(
        w, node,
        &(struct replica_event){.kind = REPLICA_ON_CHANGE, .id = (uint64_t)WORLD_PUMP << 56, .session = 1, .change = &change});
}

static void read_over(struct world *w, uint32_t node)
{
    client_direct(w, node, true);
    finish(w, 60);
}

static void cut(struct world *w, uint32_t a, uint32_t b)
{
    w->cut[a][b] = w->cut[b][a] = true;
}

static void mend(struct world *w, uint32_t a, uint32_t b)
{
    w->cut[a][b] = w->cut[b][a] = false;
}

/* Until the register says that these are in sync. */
static void until_in_sync(struct world *w, uint8_t set)
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

static struct world_plan plan_of(uint32_t nodes, uint32_t replicas, uint64_t suspect_ms)
{
    struct world_plan plan = {.nodes = nodes, .replicas = replicas, .clients = 1, .walk_blocks = 4, .timing = timing()};
    plan.timing.suspect_us = suspect_ms * MS;
    plan.client_timeout_us = 200 * MS;
    plan.capacity = 1000;
    plan.think_us = 1;
    return plan;
}

/* Node 0 owns the volume; block 0 has been written once. */
static void start_as(struct world *w, uint64_t seed, bool trace, const struct world_plan *plan)
{
    world_begin(w, seed, plan, trace);
    w->calm = w->quiet = w->manual = true;
    run(w, 120);
    write_over(w, 0);
    if (w->clients[0].writing || w->config.owner != 0) world_fail(w, "the directed history does not begin");
}

static void start(struct world *w, uint64_t seed, bool trace, uint32_t nodes, uint32_t replicas, uint64_t suspect_ms)
{
    struct world_plan plan = plan_of(nodes, replicas, suspect_ms);
    start_as(w, seed, trace, &plan);
}

static void pump(struct world *w, uint64_t us)
{
    w->plan.pump_us = us;
    world_plan_it(w, 0, &(struct happening){.kind = HAPPEN_PUMP});
}

/* Node 0 is alone, and brings in node 1; the register decides, but node 0 never hears of it, nor from node 1 again. */
static void lost_answer(struct world *w, uint64_t seed, bool trace)
{
    start(w, seed, trace, 2, 2, 40);
    world_crash(w, 1);
    until_in_sync(w, 1);
    run(w, 120);
    write_over(w, 0);
    world_boot(w, 1);
    until_in_sync(w, 3);
    w->nodes[0].register_cut = true;
    cut(w, 0, 1);
}

static void undecided_acks(struct world *w, uint64_t seed, bool trace)
{
    lost_answer(w, seed, trace);
    write_over(w, 0); /* must not be acknowledged */
    run(w, 300);
    read_over(w, 1);
}

static void undecided_leases(struct world *w, uint64_t seed, bool trace)
{
    lost_answer(w, seed, trace);
    run(w, 300);
    write_over(w, 1);
    read_over(w, 0);
}

/* Node 0 dies believing that it is alone, and comes back without the register. */
static void old_config(struct world *w, uint64_t seed, bool trace)
{
    lost_answer(w, seed, trace);
    world_crash(w, 0);
    run(w, 300);
    write_over(w, 1);
    world_boot(w, 0);
    run(w, 100);
    read_over(w, 0);
}

/* Node 1 promises, restarts, and takes over as soon as it may. */
static void forgotten_promise(struct world *w, uint64_t seed, bool trace)
{
    start(w, seed, trace, 2, 2, 8);
    w->nodes[0].register_cut = true;
    cut(w, 0, 1);
    world_crash(w, 1);
    world_boot(w, 1);
    for (uint32_t i = 0; i < 30 && w->config.owner != 1; i++) run(w, 1);
    run(w, 3);
    client_direct(w, 1, false);
    finish(w, 4);
    read_over(w, 0);
}

/* Node 1 does not hear that its proposal to leave out node 0 was decided, while node 0 gets through to it again. */
static void promise_race(struct world *w, uint64_t seed, bool trace)
{
    start(w, seed, trace, 2, 2, 8);
    w->nodes[0].register_cut = true;
    cut(w, 0, 1);
    w->register_delay = 40 * MS;
    for (uint32_t i = 0; i < 100 && w->config.owner != 1; i++) run(w, 1);
    mend(w, 0, 1); /* its answer is under way for 40 ms more */
    run(w, 37);
    cut(w, 0, 1);
    run(w, 10);
    client_direct(w, 1, false);
    finish(w, 10);
    read_over(w, 0);
}

/* Node 2 has no replica; what it forwards does not get through until the client has long done other things elsewhere. */
static void old_command(struct world *w, uint64_t seed, bool trace)
{
    start(w, seed, trace, 3, 2, 40);
    cut(w, 0, 2);
    client_direct(w, 2, false);
    run(w, 1);
    w->clients[0].cut[2] = true;
    run(w, 210); /* it gives up */
    write_over(w, 0);
    write_over(w, 0);
    mend(w, 0, 2);
    run(w, 100);
    read_over(w, 0);
}

/* What depends on a block that was changed meanwhile does not happen; when it knows the newest, it does. */
static void overtaken(struct world *w, uint64_t seed, bool trace)
{
    start(w, seed, trace, 3, 2, 40);
    uint64_t known = w->nodes[0].store->live.end;
    write_over(w, 0);
    for (uint32_t node = 0; node < 3; node++) {
        client_depends(w, node, known);
        run(w, 40);
        if (w->overtaken != node + 1)
            world_fail(w, "what depends on an old content of its block is ordered over node %u", node);
        client_reset(w, 0);
        run(w, 5);
    }
    client_depends(w, 2, w->nodes[0].store->live.end);
    run(w, 40);
    if (w->clients[0].busy || w->clients[0].writing) world_fail(w, "what depends on the newest content is refused");
    read_over(w, 1);
}

/* The session is reset while the forwarded command is slow. */
static void reset_path(struct world *w, uint64_t seed, bool trace)
{
    start(w, seed, trace, 3, 2, 40);
    w->delay[2][0] = 30 * MS;
    client_direct(w, 2, false);
    run(w, 2);
    client_reset(w, 0);
    run(w, 1);
    w->delay[2][0] = 0;
    write_over(w, 0);
    write_over(w, 0);
    run(w, 60);
    read_over(w, 0);
}

/* The answer to a forwarded command is lost, and the client gone without a word; the command comes again. */
static void duplicate(struct world *w, uint64_t seed, bool trace)
{
    start(w, seed, trace, 3, 2, 40);
    uint64_t end = w->nodes[0].store->live.end;
    client_direct(w, 2, false);
    for (uint32_t i = 0; i < 500 && w->nodes[0].store->live.end == end; i++) world_run(w, w->now + 10);
    w->cut[0][2] = true;
    w->clients[0].cut[2] = true;
    client_reset(w, 0);
    run(w, 3);
    write_over(w, 0);
    write_over(w, 0);
    run(w, 15);
    w->cut[0][2] = false;
    run(w, 40);
    read_over(w, 0);
}

/* Node 1 takes over; a record that node 0 ordered before reaches node 2 in the new epoch, ahead of everything from node 1. */
static void late_record(struct world *w, uint64_t seed, bool trace)
{
    start(w, seed, trace, 3, 3, 40);
    w->nodes[0].register_cut = true;
    cut(w, 0, 1);
    w->delay[0][2] = 85 * MS;
    client_direct(w, 0, false);
    for (uint32_t i = 0; i < 2000 && w->config.owner != 1; i++) world_run(w, w->now + 50);
    w->delay[1][2] = 100 * MS;
    run(w, 150);
    w->delay[0][2] = w->delay[1][2] = 0;
    run(w, 200);
    read_over(w, 2);
}

/* Node 1 waits until its promise to node 0 has run out, and no longer. */
static void long_lease(struct world *w, uint64_t seed, bool trace)
{
    struct replica_status status = {0};
    start(w, seed, trace, 2, 2, 8);
    w->nodes[0].register_cut = true;
    cut(w, 0, 1);
    for (uint32_t i = 0; i < 2000 && !(status.role == REPLICA_OWNER && status.open); i++) {
        world_run(w, w->now + 50);
        replica_status(w->nodes[1].core, &status);
    }
    client_direct(w, 1, false);
    finish(w, 4);
    client_direct(w, 0, true);
    finish(w, 4);
}

/* A disk is exchanged: the node is in sync by the register, and empty. */
static void empty_store(struct world *w, uint64_t seed, bool trace)
{
    start(w, seed, trace, 2, 2, 40);
    world_crash(w, 1);
    store_begin(w->nodes[1].store, 0, w->plan.capacity);
    world_boot(w, 1);
    run(w, 30);
    read_over(w, 1);
    until_in_sync(w, 1);
    until_in_sync(w, 3);
    read_over(w, 1);
}

/* Node 0 goes on alone and dies with what only it has. Node 1 must not take over by itself; a person says that it shall. Then
 * node 0 comes back, with operations that did not happen. */
static void force_promote(struct world *w, uint64_t seed, bool trace)
{
    start(w, seed, trace, 2, 2, 40);
    write_over(w, 0); /* with this the commit of the first becomes durable at node 1 */
    world_crash(w, 1);
    until_in_sync(w, 1);
    run(w, 120);
    write_over(w, 0);
    write_over(w, 0);
    world_crash(w, 0);
    world_boot(w, 1);
    run(w, 500);
    if (w->config.owner != 0) world_fail(w, "a replica that was not in sync promoted itself");
    world_step(w, 1, &(struct replica_event){.kind = REPLICA_ON_FORCE});
    until_in_sync(w, 2);
    run(w, 120);
    w->blocks[0].acked = w->blocks[0].seen = 1; /* the loss is accepted */
    read_over(w, 1);
    if (w->clients[0].busy || w->blocks[0].seen > 2) world_fail(w, "the forced replica does not serve what it had");
    world_boot(w, 0);
    until_in_sync(w, 3);
    if (w->config.forced_epoch != w->config.epoch || w->config.forced_sequence == 0) world_fail(w, "it is not recorded");
    read_over(w, 0);
    write_over(w, 0);
    read_over(w, 1);
    if (w->clients[0].writing) world_fail(w, "no writes after a force-promote");
}

enum { JOIN_MS = 250 };

/* A learner joins within a named time, although the owner has as many writes under way all the time as it may have: one that
 * was away, one that is new, and one that is new while digests take longer than what is kept of the records. */
static void join_under_load(struct world *w, uint64_t seed, bool trace)
{
    start(w, seed, trace, 2, 2, 40);
    w->delay[0][1] = w->delay[1][0] = 1 * MS;
    pump(w, 20);
    for (uint32_t round = 0; round < 3 && !world_failed(w); round++) {
        uint64_t pumped = w->pumped;
        world_crash(w, 1);
        until_in_sync(w, 1);
        run(w, 60 + 100);
        if (w->nodes[0].store->live.committed.sequence < REPLICA_KEPT * 2 || w->pumped - pumped < 1000)
            world_fail(w, "there is no load");
        if (round > 0) store_begin(w->nodes[1].store, 0, w->plan.capacity);
        w->plan.digest_us = round > 1 ? 40 * MS : 0;
        world_boot(w, 1);
        run(w, JOIN_MS);
        if (w->config.in_sync != 3) world_fail(w, "round %u: under load a learner does not join within %u ms", round, JOIN_MS);
    }
    w->plan.pump_us = 1000 * MS;
    run(w, 30);
    read_over(w, 1);
}

/* A learner stands still while its content is compared, until the records that it needs are no longer kept. */
static void gap_in_check(struct world *w, uint64_t seed, bool trace)
{
    struct replica_status status = {0};
    start(w, seed, trace, 3, 2, 40);
    world_crash(w, 1);
    until_in_sync(w, 1);
    pump(w, 20);
    w->plan.digest_us = 10 * MS;
    world_boot(w, 1);
    for (uint32_t i = 0; i < 1000 && status.learn.cursor != REPLICA_WALK_END && !world_failed(w); i++) {
        world_run(w, w->now + 100);
        replica_status(w->nodes[1].core, &status);
    }
    run(w, 5);
    world_freeze(w, 1, 35 * MS);
    run(w, 5);
    write_over(w, 2); /* the learner never hears of this one */
    until_in_sync(w, 3);
    w->plan.pump_us = 1000 * MS;
    run(w, 60);
    const struct volume_state *a = &w->nodes[0].store->live, *b = &w->nodes[1].store->live;
    if (a->committed.sequence != b->committed.sequence || memcmp(a->windows, b->windows, sizeof a->windows) != 0)
        world_fail(w, "a replica joins with other request windows");
}

/* While node 1 is away it loses a block that was not changed since. */
static void lost_block(struct world *w, uint64_t seed, bool trace)
{
    start(w, seed, trace, 2, 2, 40);
    pump(w, 1 * MS);
    run(w, 20);
    world_crash(w, 1);
    until_in_sync(w, 1);
    w->nodes[1].store->live.value[0] = w->nodes[1].store->durable.value[0] = 0;
    world_boot(w, 1);
    until_in_sync(w, 3);
    run(w, 20);
    read_over(w, 1);
}

/* More is written than the stores have promised to take. */
static void beyond_credit(struct world *w, uint64_t seed, bool trace)
{
    struct world_plan plan = plan_of(2, 2, 40);
    plan.capacity = 20;
    plan.tight = true;
    start_as(w, seed, trace, &plan);
    pump(w, 20);
    run(w, 50);
    if (w->pumped < 1000) world_fail(w, "there is no load");
}

/* Node 1 was in sync, left, and follows again; what it acknowledged under its old join comes late, and again and again. */
static void late_acks(struct world *w, uint64_t seed, bool trace)
{
    start(w, seed, trace, 2, 2, 40);
    world_crash(w, 1);
    until_in_sync(w, 1);
    w->delay[0][1] = w->delay[1][0] = 1 * MS;
    pump(w, 100);
    world_boot(w, 1);
    for (uint32_t i = 0; i < 2000 && w->config.in_sync != 3 && !world_failed(w); i++) {
        struct replica_message m = {.kind = REPLICA_PREPARED, .from = 1, .boot = w->nodes[1].life, .epoch = w->config.epoch};
        m.join = 1;
        m.u.prepared.sequence = m.u.prepared.end = m.u.prepared.credit_at = w->nodes[0].store->live.end;
        m.u.prepared.credit = w->plan.capacity;
        world_step(w, 0, &(struct replica_event){.kind = REPLICA_ON_MESSAGE, .message = &m});
        world_run(w, w->now + 100);
    }
    run(w, 20);
}

/* The owner's disk is exchanged, and it is back before anybody misses it. */
static void empty_owner(struct world *w, uint64_t seed, bool trace)
{
    start(w, seed, trace, 2, 2, 40);
    world_crash(w, 0);
    store_begin(w->nodes[0].store, 0, w->plan.capacity);
    world_boot(w, 0);
    until_in_sync(w, 2);
    until_in_sync(w, 3);
    read_over(w, 1);
    read_over(w, 0);
    if (w->config.owner != 1 || w->clients[0].busy) world_fail(w, "nobody took over from a node with an empty disk");
}

/* The owner restarts, and hears of space and of a new session before its claim is decided. */
static void space_before_claim(struct world *w, uint64_t seed, bool trace)
{
    start(w, seed, trace, 2, 2, 40);
    world_crash(w, 0);
    w->register_delay = 15 * MS;
    world_boot(w, 0);
    run(w, 25);
    world_step(w, 0, &(struct replica_event){.kind = REPLICA_ON_CREDIT, .credit = 1});
    w->register_delay = 0;
    run(w, 200);
    read_over(w, 0);
    if (w->clients[0].busy) world_fail(w, "the restarted owner does not serve");
}

/* Node 1 restarts within the epoch, with no space at all. */
static void less_space(struct world *w, uint64_t seed, bool trace)
{
    start(w, seed, trace, 2, 2, 40);
    world_crash(w, 1);
    w->nodes[1].store->space = 0;
    world_boot(w, 1);
    run(w, 10);
    write_others(w, 0);
    write_over(w, 0);
    if (w->clients[0].busy) world_fail(w, "a write that a replica has no space for is neither ordered nor refused");
    if (w->config.in_sync != 3) world_fail(w, "a replica without space left, and nothing was ordered that it cannot take");
}

/* The same, with a write under way that it cannot take any more: it leaves, and the write goes on. */
static void less_space_late(struct world *w, uint64_t seed, bool trace)
{
    start(w, seed, trace, 2, 2, 40);
    run(w, 5);
    world_crash(w, 1);
    write_others(w, 0);
    w->nodes[1].store->space = 0;
    world_boot(w, 1);
    until_in_sync(w, 1);
    run(w, 100);
    const struct volume_state *v = &w->nodes[0].store->live;
    if (v->end != 3 || v->committed.sequence != 3)
        world_fail(w, "a write that a replica has no space for does not go on without it");
}

/* Node 1 restarts within the epoch with a record that it has not published, and nothing is written after that. */
static void idle_tail(struct world *w, uint64_t seed, bool trace)
{
    start(w, seed, trace, 2, 2, 40);
    write_over(w, 0);
    world_crash(w, 1);
    world_boot(w, 1);
    uint64_t committed = w->nodes[1].store->live.committed.sequence, end = w->nodes[1].store->live.end;
    if (committed == end) return;
    run(w, 20);
    read_over(w, 1);
    if (w->config.epoch != 2 || w->clients[0].busy) world_fail(w, "a restarted replica does not publish what it has");
}

/* Node 0 restarts over and over, and nothing of what it does is ever committed. */
static void crash_loop(struct world *w, uint64_t seed, bool trace)
{
    start(w, seed, trace, 2, 2, 40);
    cut(w, 0, 1);
    w->nodes[1].register_cut = true;
    for (uint32_t i = 0; i < 200 && !world_failed(w); i++) {
        world_crash(w, 0);
        world_boot(w, 0);
        run(w, 12);
        if (w->nodes[0].store->live.end - w->nodes[0].store->live.committed.sequence > REPLICA_TAIL)
            world_fail(w, "reigns that come to nothing fill the tail");
    }
    if (w->config.epoch < 100) world_fail(w, "there were no reigns");
    w->nodes[1].register_cut = false;
    mend(w, 0, 1);
    run(w, 300);
    write_over(w, 0);
    if (w->clients[0].writing) world_fail(w, "the volume does not come back");
}

/* Node 0 is suspended, and so is its clock; node 1 goes on without it and node 2. Node 2 hears of that from nobody, but of
 * node 0, which believes that no time has passed. */
static void suspended_owner(struct world *w, uint64_t seed, bool trace)
{
    struct world_plan plan = plan_of(3, 3, 40);
    plan.strict = true;
    start_as(w, seed, trace, &plan);
    cut(w, 1, 2);
    cut(w, 0, 1);
    w->nodes[0].register_cut = w->nodes[2].register_cut = true;
    world_suspend(w, 0, 400 * MS);
    run(w, 300);
    write_over(w, 1);
    if (w->clients[0].writing) world_fail(w, "node 1 does not go on alone");
    world_run(w, w->nodes[0].frozen_until);
    read_over(w, 2);
}

/* Node 0 comes back after a force-promote, to learn everything anew, and restarts on the way. */
static void forced_restart(struct world *w, uint64_t seed, bool trace)
{
    struct replica_status status;
    struct world_plan plan = plan_of(2, 2, 40);
    plan.walk_blocks = 1;
    start_as(w, seed, trace, &plan);
    world_crash(w, 1);
    until_in_sync(w, 1);
    run(w, 120);
    for (uint32_t i = 0; i < 3; i++) write_over(w, 0);
    run(w, 20);
    world_crash(w, 0);
    world_boot(w, 1);
    run(w, 100);
    world_step(w, 1, &(struct replica_event){.kind = REPLICA_ON_FORCE});
    until_in_sync(w, 2);
    run(w, 120);
    w->blocks[0].acked = w->blocks[0].seen = 0; /* the loss is accepted */
    world_boot(w, 0);
    do {
        run(w, 1);
        replica_status(w->nodes[0].core, &status);
    } while (status.learn.cursor < 8 && !world_failed(w) && w->config.in_sync == 2);
    world_crash(w, 0);
    world_boot(w, 0);
    for (uint32_t i = 0; i < 20 && status.role != REPLICA_LEARNER; i++) run(w, 1);
    run(w, 8);
    replica_status(w->nodes[0].core, &status);
    if (status.learn.cursor < 7) world_fail(w, "what was learned is lost in a restart");
    until_in_sync(w, 3);
}

/* What node 1 said before it joined comes once more. */
static void late_words(struct world *w, uint64_t seed, bool trace)
{
    start(w, seed, trace, 2, 2, 40);
    world_crash(w, 1);
    until_in_sync(w, 1);
    world_boot(w, 1);
    until_in_sync(w, 3);
    run(w, 20);
    struct replica_message m = {.from = 1, .boot = w->nodes[1].life, .epoch = w->config.epoch, .join = w->config.join[1]};
    uint64_t version = w->config.version;
    m.kind = REPLICA_WANT;
    m.u.step.learn = (struct replica_learn){.on = true, .base = 1, .low = REPLICA_NO_GAP};
    world_step(w, 0, &(struct replica_event){.kind = REPLICA_ON_MESSAGE, .message = &m});
    m.kind = REPLICA_FOLLOW;
    m.u.step.mark.sequence = 1;
    world_step(w, 0, &(struct replica_event){.kind = REPLICA_ON_MESSAGE, .message = &m});
    run(w, 100);
    if (w->config.version != version) world_fail(w, "a replica leaves because of what it said before it joined");
}

/* Two nodes without a witness. Node 1 was off once; when it is cut off later it must be off again before it is left out. */
static void fence_again(struct world *w, uint64_t seed, bool trace)
{
    struct world_plan plan = plan_of(2, 2, 40);
    plan.fence = true;
    start_as(w, seed, trace, &plan);
    w->nodes[0].register_cut = w->nodes[1].register_cut = true;
    cut(w, 0, 1);
    run(w, 60);
    if (w->fences == 0) world_fail(w, "nobody makes sure that a silent replica is off");
    mend(w, 0, 1);
    w->nodes[1].register_cut = false;
    run(w, 100);
    w->nodes[0].register_cut = false;
    run(w, 100);
    run(w, 100);
    cut(w, 0, 1);
    w->fence_fails = true;
    run(w, 200);
    if (w->config.in_sync != 3) world_fail(w, "a replica that was off once is left out, and is on");
}

static uint64_t odd_number(struct world *w)
{
    static const uint64_t odd[] = {0, 1, 2, 3, 63, 64, 127, 128, 512, 513, UINT32_MAX, UINT64_MAX, UINT64_MAX - 1, 1ull << 52};
    return world_chance(w, 600) ? world_below(w, 12) : odd[world_below(w, sizeof odd / sizeof odd[0])];
}

static void odd_record(struct world *w, struct replica_record *record)
{
    record->mark = (struct replica_mark){.sequence = odd_number(w), .epoch = (uint32_t)odd_number(w)};
    record->previous_epoch = (uint32_t)odd_number(w);
    record->change.kind = (enum replica_kind)world_below(w, 4);
    record->change.count = (uint32_t)odd_number(w);
    record->change.lba = odd_number(w);
    record->change.request = (struct replica_request){.node = (uint8_t)odd_number(w), .boot = (uint32_t)odd_number(w)};
    record->change.request.number = odd_number(w);
}

static void odd_step(struct world *w, struct replica_step *s)
{
    s->learn = (struct replica_learn){.on = world_chance(w, 900), .base = odd_number(w), .low = odd_number(w)};
    s->learn.cursor = odd_number(w);
    s->cursor = odd_number(w);
    s->applied = odd_number(w);
    s->learn.applied = world_chance(w, 500) ? s->applied : odd_number(w);
    s->gap = world_chance(w, 500);
    s->check = world_chance(w, 300);
    s->digested = world_chance(w, 300);
    s->mark = (struct replica_mark){.sequence = odd_number(w), .epoch = (uint32_t)odd_number(w)};
    s->count = world_chance(w, 800) ? (uint32_t)world_below(w, REPLICA_STEP_RECORDS) : (uint32_t)odd_number(w);
    for (uint32_t i = 0; i < REPLICA_STEP_RECORDS; i++) odd_record(w, &s->records[i]);
}

static void odd_beat(struct world *w, struct replica_heartbeat *beat)
{
    beat->clock = odd_number(w);
    beat->echo = odd_number(w);
    beat->boot_of = (uint32_t)odd_number(w);
    beat->granted = world_chance(w, 500);
    beat->silent = (uint8_t)odd_number(w);
    beat->version = odd_number(w);
    beat->config = w->config;
    if (world_chance(w, 950)) return;
    beat->config.version = odd_number(w);
    beat->config.epoch = (uint32_t)odd_number(w);
    beat->config.owner = (uint8_t)odd_number(w);
    beat->config.boot = (uint32_t)odd_number(w);
    beat->config.in_sync = (uint8_t)world_below(w, 8);
    beat->config.join[world_below(w, 3)] = odd_number(w);
}

/* Anything at all, in the name of a node that is there. */
static void odd_message(struct world *w, uint32_t node)
{
    struct replica_message m = {.kind = (enum replica_message_kind)world_below(w, REPLICA_AGREED + 2)};
    m.from = (uint8_t)world_below(w, 4);
    m.boot = m.from < 3 && world_chance(w, 998) ? w->nodes[m.from].life : (uint32_t)odd_number(w);
    m.epoch = world_chance(w, 900) ? w->config.epoch : (uint32_t)odd_number(w);
    m.join = m.from < 3 && world_chance(w, 500) ? w->config.join[m.from] : odd_number(w);
    if (world_chance(w, 300)) m.join = w->config.join[node];
    m.commit = odd_number(w);
    m.read = odd_number(w);
    switch (m.kind) {
    case REPLICA_HEARTBEAT:
    case REPLICA_HEARTBEAT_ACK: odd_beat(w, &m.u.beat); break;
    case REPLICA_RECORD: odd_record(w, &m.u.record); break;
    case REPLICA_PREPARED:
        m.u.prepared = (struct replica_prepared){.sequence = odd_number(w), .end = odd_number(w), .want = odd_number(w)};
        m.u.prepared.published = (struct replica_mark){.sequence = odd_number(w), .epoch = (uint32_t)odd_number(w)};
        m.u.prepared.credit = odd_number(w);
        m.u.prepared.credit_at = odd_number(w);
        break;
    case REPLICA_WANT:
    case REPLICA_STEP:
    case REPLICA_FOLLOW:
    case REPLICA_AGAIN: odd_step(w, &m.u.step); break;
    case REPLICA_FORWARD:
    case REPLICA_CONFIRM:
    case REPLICA_CONFIRMED:
    case REPLICA_DONE: {
        struct replica_record record;
        odd_record(w, &record);
        m.u.forward = (struct replica_forward){.change = record.change, .clock = odd_number(w), .ticket = odd_number(w)};
        m.u.forward.alive = world_chance(w, 500);
        break;
    }
    case REPLICA_COMMIT:
    case REPLICA_ASK:
    case REPLICA_AGREED: break;
    }
    world_step(w, node, &(struct replica_event){.kind = REPLICA_ON_MESSAGE, .message = &m});
}

/* An owner that orders and never commits. */
static void endless_records(struct world *w)
{
    struct replica_message m = {.kind = REPLICA_RECORD, .boot = w->nodes[0].life, .epoch = w->config.epoch};
    m.join = w->config.join[1];
    for (uint64_t sequence = 1; sequence < 2 * REPLICA_KEPT; sequence++) {
        m.u.record = (struct replica_record){.mark = {sequence, m.epoch}, .previous_epoch = m.epoch};
        m.u.record.change.kind = REPLICA_FREE;
        world_step(w, 1, &(struct replica_event){.kind = REPLICA_ON_MESSAGE, .message = &m});
    }
}

/* Somebody says anything at all to a node. Only that the node lives on is judged: what such a world then holds is nothing that
 * anybody promised. */
static void odd_messages(struct world *w, uint64_t seed, bool trace)
{
    for (uint32_t round = 0; round < 12; round++) {
        start(w, seed * 100 + round, trace, 3, 3, 40);
        w->rotten = w->lawless = true;
        if (round % 3 == 1) {
            world_crash(w, 2);
            run(w, 100);
            world_boot(w, 2);
        }
        if (round == 0) endless_records(w);
        for (uint32_t i = 0; i < 600; i++) {
            odd_message(w, round % 3 == 1 ? 2 : round % 3 == 2 ? 1 : 0);
            if (i % 20 == 0) run(w, 1);
        }
    }
}

/* Nodes 1 and 2 do not hear each other; node 0, the owner, hears both. */
static void cut_members(struct world *w, uint64_t seed, bool trace)
{
    start(w, seed, trace, 3, 3, 40);
    cut(w, 1, 2);
    until_in_sync(w, 3);
    run(w, 200);
    read_over(w, 1);
    if (w->clients[0].busy) world_fail(w, "of two replicas that are cut off from each other neither serves");
    if (w->config.in_sync != 3) world_fail(w, "a replica comes back that another does not hear");
    write_over(w, 0);
    mend(w, 1, 2);
    until_in_sync(w, 7);
    run(w, 20);
    read_over(w, 2);
    if (w->clients[0].busy) world_fail(w, "after a cut a replica does not serve any more");
}

static struct model_store image;

/* An image of node 1 is put back that lacks two writes; it starts within the epoch. */
static void put_back(struct world *w, uint64_t seed, bool trace)
{
    start(w, seed, trace, 2, 2, 40);
    write_others(w, 0);
    run(w, 10);
    store_save(w, 1, &image);
    write_over(w, 0);
    write_over(w, 0);
    world_crash(w, 1);
    store_restore(w, 1, &image);
    world_boot(w, 1);
    client_direct(w, 1, true);
    finish(w, 60);
    until_in_sync(w, 1);
    until_in_sync(w, 3);
    run(w, 20);
    read_over(w, 1);
    if (w->clients[0].busy) world_fail(w, "it does not serve any more");
}

/* The same with the owner: it must not open a reign on what is left. */
static void put_back_owner(struct world *w, uint64_t seed, bool trace)
{
    start(w, seed, trace, 2, 2, 40);
    store_save(w, 0, &image);
    write_over(w, 0);
    write_over(w, 0);
    run(w, 10);
    world_crash(w, 0);
    store_restore(w, 0, &image);
    world_boot(w, 0);
    client_direct(w, 0, true);
    finish(w, 60);
    until_in_sync(w, 2);
    until_in_sync(w, 3);
    run(w, 20);
    read_over(w, 0);
    if (w->clients[0].busy || w->config.owner != 1) world_fail(w, "nobody took over from an owner that lost what it had");
}

/* Its store takes nothing more: the owner's, then a replica's. */
static void failed_store(struct world *w, uint64_t seed, bool trace)
{
    start(w, seed, trace, 3, 3, 40);
    world_step(w, 0, &(struct replica_event){.kind = REPLICA_ON_FAILED});
    until_in_sync(w, 6);
    run(w, 100);
    write_over(w, 0);
    write_over(w, 2);
    world_step(w, 2, &(struct replica_event){.kind = REPLICA_ON_FAILED});
    until_in_sync(w, 2);
    run(w, 100);
    write_over(w, 1);
    read_over(w, 1);
    if (w->clients[0].busy || w->clients[0].writing) world_fail(w, "the volume does not go on without a store that failed");
    world_crash(w, 0);
    world_boot(w, 0);
    until_in_sync(w, 3);
}

/* The owner cannot read what a learner needs, the learner finds no space for it, and cannot read what it has: each for a
 * while, in which nobody else is kept from anything. */
static void failing_walk(struct world *w, uint64_t seed, bool trace)
{
    start(w, seed, trace, 2, 2, 40);
    for (uint32_t i = 0; i < 3 && !world_failed(w); i++) {
        world_crash(w, 1);
        until_in_sync(w, 1);
        store_begin(w->nodes[1].store, 0, w->plan.capacity);
        world_boot(w, 1);
        w->nodes[0].damaged = i == 0;
        w->nodes[1].full = i == 1;
        w->nodes[1].damaged = i == 2;
        run(w, 150);
        write_over(w, 0);
        if (w->clients[0].writing || w->config.in_sync != 1)
            world_fail(w, "round %u: a learner joins, or writes wait for it", i);
        w->nodes[0].damaged = w->nodes[1].full = w->nodes[1].damaged = false;
        until_in_sync(w, 3);
        run(w, 20);
        read_over(w, 1);
        if (w->clients[0].busy) world_fail(w, "round %u: the new replica does not serve", i);
    }
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
    {MUTATE_TRUST_OLD_CONFIG, old_config},
    {MUTATE_LEASE_TOO_LONG, long_lease},
    {MUTATE_READ_WITHOUT_LEASE, long_lease},
    {MUTATE_NONE, force_promote},
    {MUTATE_NO_DUPLICATES, duplicate},
    {MUTATE_EPOCH_IGNORED, late_record},
    {MUTATE_NO_HOLD, join_under_load},
    {MUTATE_NO_CONTENT_CHECK, lost_block},
    {MUTATE_NO_CREDIT, beyond_credit},
    {MUTATE_CREDIT_KEPT, less_space},
    {MUTATE_NONE, less_space_late},
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
