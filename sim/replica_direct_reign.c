/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Histories of who may order, commit, read and take over: a reign and its lease, promises between restarts, what the register
 * decided and somebody did not hear of, and what a person forces.
 */
#include "sim/replica_direct.h"

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

void undecided_acks(struct world *w, uint64_t seed, bool trace)
{
    lost_answer(w, seed, trace);
    write_over(w, 0); /* must not be acknowledged */
    run(w, 300);
    read_over(w, 1);
}

void undecided_leases(struct world *w, uint64_t seed, bool trace)
{
    lost_answer(w, seed, trace);
    run(w, 300);
    write_over(w, 1);
    read_over(w, 0);
}

/* Node 0 dies believing that it is alone, and comes back without the register. */
void old_config(struct world *w, uint64_t seed, bool trace)
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
void forgotten_promise(struct world *w, uint64_t seed, bool trace)
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
void promise_race(struct world *w, uint64_t seed, bool trace)
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

/* Node 1 waits until its promise to node 0 has run out, and no longer. */
void long_lease(struct world *w, uint64_t seed, bool trace)
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

/* Node 1 takes over; a record that node 0 ordered before reaches node 2 in the new epoch, ahead of everything from node 1. */
void late_record(struct world *w, uint64_t seed, bool trace)
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

/* Node 0 goes on alone and dies with what only it has. Node 1 must not take over by itself; a person says that it shall. Then
 * node 0 comes back, with operations that did not happen. */
void force_promote(struct world *w, uint64_t seed, bool trace)
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

/* A force-promote that cannot be decided, because the register is out of reach, is over when node 0, which is in sync and has
 * gone on, is heard again. */
void force_called_off(struct world *w, uint64_t seed, bool trace)
{
    start(w, seed, trace, 2, 2, 40);
    world_crash(w, 1);
    until_in_sync(w, 1);
    run(w, 120);
    cut(w, 0, 1);
    world_boot(w, 1);
    run(w, 100);
    w->nodes[1].register_cut = true;
    world_step(w, 1, &(struct replica_event){.kind = REPLICA_ON_FORCE});
    run(w, 20);
    write_over(w, 0);
    w->cut[0][1] = false;
    run(w, 7);
    w->nodes[1].register_cut = false;
    run(w, 50);
    mend(w, 0, 1);
    until_in_sync(w, 3);
    read_over(w, 1);
    if (w->config.forced_epoch != 0) world_fail(w, "a replica that is alive is forced out");
}

/* Node 0 comes back after a force-promote, to learn everything anew, and restarts on the way. */
void forced_restart(struct world *w, uint64_t seed, bool trace)
{
    struct replica_status status;
    struct world_plan plan = direct_plan(2, 2, 40);
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

/* Node 0 restarts over and over, and nothing of what it does is ever committed. */
void crash_loop(struct world *w, uint64_t seed, bool trace)
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
void suspended_owner(struct world *w, uint64_t seed, bool trace)
{
    struct world_plan plan = direct_plan(3, 3, 40);
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

/* Two nodes without a witness. Node 1 was off once; when it is cut off later it must be off again before it is left out. */
void fence_again(struct world *w, uint64_t seed, bool trace)
{
    struct world_plan plan = direct_plan(2, 2, 40);
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

/* Nodes 1 and 2 do not hear each other; node 0, the owner, hears both. */
void cut_members(struct world *w, uint64_t seed, bool trace)
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

/* Node 1 restarts within the epoch with a record that it has not published, and nothing is written after that. */
void idle_tail(struct world *w, uint64_t seed, bool trace)
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
