/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Histories of joining, and of stores that are lost, put back or failing: what a replica may claim to have, and how it
 * gets what it lacks.
 */
#include <string.h>

#include "sim/replica_direct.h"

enum { JOIN_MS = 250 };

/* A learner joins within a named time, although the owner has as many writes under way all the time as it may have: one that
 * was away, one that is new, and one that is new while digests take longer than what is kept of the records. */
void join_under_load(struct world *w, uint64_t seed, bool trace)
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
void gap_in_check(struct world *w, uint64_t seed, bool trace)
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
void lost_block(struct world *w, uint64_t seed, bool trace)
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

/* Node 1 was in sync, left, and follows again; what it acknowledged under its old join comes late, and again and again. */
void late_acks(struct world *w, uint64_t seed, bool trace)
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

/* What node 1 said before it joined comes once more. */
void late_words(struct world *w, uint64_t seed, bool trace)
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

/* A person gives the volume a third copy, under load, and later gives up one that is lost; the register's value is changed by
 * somebody who takes no part. Then that node is back, and is asked nothing. */
void more_and_fewer(struct world *w, uint64_t seed, bool trace)
{
    start(w, seed, trace, 3, 2, 40);
    pump(w, 200);
    run(w, 20);
    w->config.learners |= 4;
    w->config.version++;
    until_in_sync(w, 7);
    w->plan.pump_us = 1000 * MS;
    write_over(w, 2);
    read_over(w, 0);
    read_over(w, 1);
    world_crash(w, 1);
    until_in_sync(w, 5);
    w->config.learners &= (uint8_t)~2;
    w->config.version++;
    run(w, 150);
    write_over(w, 0);
    read_over(w, 2);
    world_boot(w, 1);
    run(w, 150);
    write_over(w, 1); /* from outside, it forwards */
    read_over(w, 2);
    if (w->clients[0].busy || w->clients[0].writing) world_fail(w, "no writes after copies came and went");
    if (w->config.in_sync != 5) world_fail(w, "a copy that was given up is back");
}

/* A disk is exchanged: the node is in sync by the register, and empty. */
void empty_store(struct world *w, uint64_t seed, bool trace)
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

/* The owner's disk is exchanged, and it is back before anybody misses it. */
void empty_owner(struct world *w, uint64_t seed, bool trace)
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

static struct model_store image;

/* An image of node 1 is put back that lacks two writes; it starts within the epoch. */
void put_back(struct world *w, uint64_t seed, bool trace)
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
void put_back_owner(struct world *w, uint64_t seed, bool trace)
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
void failed_store(struct world *w, uint64_t seed, bool trace)
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
void failing_walk(struct world *w, uint64_t seed, bool trace)
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
