/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Directed histories of stores that lack space.
 */
#include "sim/replica_direct.h"
#include "store/mutation.h"

/* More is written than the stores have promised to take. */
void space_beyond_credit(struct world *w, uint64_t seed, bool trace)
{
    struct world_plan plan = direct_plan(2, 2, 40);
    plan.capacity = 20;
    plan.tight = true;
    start_as(w, seed, trace, &plan);
    pump(w, 20);
    run(w, 50);
    if (w->pumped < 1000) world_fail(w, "there is no load");
}

/* The owner restarts, and hears of space and of a new session before its claim is decided. */
void space_before_claim(struct world *w, uint64_t seed, bool trace)
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
void space_less(struct world *w, uint64_t seed, bool trace)
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
void space_less_late(struct world *w, uint64_t seed, bool trace)
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

/* Node 1 restarts without space, but its store is at it: the write waits, and happens when there is some. Then it is full, and
 * the next write is refused. */
void space_comes_late(struct world *w, uint64_t seed, bool trace)
{
    start(w, seed, trace, 2, 2, 40);
    world_crash(w, 1);
    w->nodes[1].store->space = 0;
    w->nodes[1].store->cleans = true;
    world_boot(w, 1);
    run(w, 10);
    client_direct(w, 0, false);
    finish(w, 40);
    if (!w->clients[0].busy) world_fail(w, "a write is answered although a store that lacks space is about to find some");
    w->nodes[1].store->space = 1;
    world_step(w, 1, &(struct replica_event){.kind = REPLICA_ON_CREDIT, .credit = 1});
    finish(w, 20);
    if (w->clients[0].busy || w->clients[0].writing) world_fail(w, "a write does not happen when there is space");
    world_step(w, 1, &(struct replica_event){.kind = REPLICA_ON_CREDIT, .full = true});
    run(w, 5);
    for (uint32_t i = 0; i < 2 && !w->clients[0].writing; i++)
        write_over(w, 0); /* the block that the first gave back is left */
    if (w->clients[0].busy || !w->clients[0].writing) world_fail(w, "a write that there is no space for is not refused");
    if (w->config.in_sync != 3) world_fail(w, "a replica without space has left");
}

/* The same, but what node 1 says of its new space is lost, and the link stays. */
void space_told_again(struct world *w, uint64_t seed, bool trace)
{
    start(w, seed, trace, 2, 2, 40);
    world_crash(w, 1);
    w->nodes[1].store->space = 0;
    w->nodes[1].store->cleans = true;
    world_boot(w, 1);
    run(w, 10);
    client_direct(w, 0, false);
    finish(w, 40);
    w->cut[1][0] = true;
    w->nodes[1].store->space = 1;
    world_step(w, 1, &(struct replica_event){.kind = REPLICA_ON_CREDIT, .credit = 1});
    run(w, 1);
    w->cut[1][0] = false;
    finish(w, 30);
    if (w->clients[0].busy || w->clients[0].writing) world_fail(w, "space that was told of once, and not heard, is forgotten");
}
