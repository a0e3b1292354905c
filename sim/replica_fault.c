/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes wrong, and how a history ends.
 *
 * A seed draws a world and which kinds of faults it knows, so that some worlds have only freezes and others all at once. In the
 * end everything is mended: within bounded time every replica must be in sync and every client get on; then clients stop, and
 * all replicas must hold the same, with nothing prepared left over.
 */
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/hash.h"
#include "sim/replica.h"
#include "store/mutation.h"

enum fault {
    FAULT_CRASH,
    FAULT_ALL_CRASH,
    FAULT_FREEZE,
    FAULT_CUT,
    FAULT_CUT_ONE_WAY,
    FAULT_RESET,
    FAULT_REGISTER_CUT,
    FAULT_REGISTER_SLOW,
    FAULT_PATH_CUT,
    FAULT_PATH_RESET,
    FAULT_SLOW_DISK,
    FAULT_ROT,
    FAULT_ISOLATE,
    FAULT_EXCHANGE,
    FAULT_IMAGE,
    FAULT_PUT_BACK,
    FAULT_DAMAGE,
    FAULT_FULL,
    FAULTS
};

/* ---- the plan ---- */

/* A tenth of the fast profile: as many failovers as in ten times the time, with fewer heartbeats between them. */
static const struct replica_timing timing_tiny = {
    .heartbeat_us = 5000,
    .lease_us = 40000,
    .promise_us = 60000,
    .suspect_us = 40000,
    .stale_us = 90000,
    .commit_us = 1000,
};

void plan_draw(struct prng *prng, struct world_plan *ret_plan)
{
    static const uint8_t sizes[] = {2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 4, 5, 8};
    struct world_plan p = {.nodes = sizes[prng_below(prng, 16)], .clients = 2 + (uint32_t)prng_below(prng, WORLD_CLIENTS - 1)};
    uint64_t profile = prng_below(prng, 32);
    p.timing = profile == 0 ? replica_timing_default : profile == 1 ? replica_timing_fast : timing_tiny;
    p.timing.stale_us = p.timing.promise_us * 3 / 2;
    /* However rash suspicion is, it must be safe. */
    if (prng_below(prng, 2) == 0) p.timing.suspect_us = p.timing.heartbeat_us * 5 / 2 + prng_below(prng, p.timing.lease_us / 2);
    p.replicas = p.nodes > 3 ? 2 + (uint32_t)prng_below(prng, p.nodes - 1) : p.nodes;
    if (p.nodes == 3 && prng_below(prng, 4) == 0) p.replicas = 2;
    p.walk_blocks = 1 + (uint32_t)prng_below(prng, 4);
    p.reorder = prng_below(prng, 4) == 0;
    p.tight = prng_below(prng, 4) == 0;
    p.strict = prng_below(prng, 6) == 0;
    p.client_timeout_us = p.timing.stale_us * 9 / 4;
    p.faults_until = p.timing.promise_us * 50;
    p.patience_us = p.timing.promise_us * 20;
    p.kinds = (uint32_t)prng_next(prng) & (uint32_t)prng_next(prng);
    p.kinds |= 1u << prng_below(prng, FAULTS) | 1u << prng_below(prng, FAULTS) | 1u << prng_below(prng, FAULTS);
    p.fault_every_us = p.timing.promise_us / 2 + prng_below(prng, p.timing.promise_us * 3);
    p.think_us = 1000 + prng_below(prng, p.timing.promise_us / 2);
    p.capacity = p.tight ? 6 + prng_below(prng, 10) : 1000;
    if (!p.tight && p.timing.heartbeat_us == timing_tiny.heartbeat_us && prng_below(prng, 12) == 0)
        p.pump_us = 20 + prng_below(prng, 300);
    if (prng_below(prng, 8) == 0) p.digest_us = prng_below(prng, p.timing.promise_us * 2);
    p.drift_ppm = (int64_t)prng_below(prng, 4) * 2500;
    *ret_plan = p;
}

/* ---- going wrong ---- */

static uint64_t a_while(struct world *w)
{
    uint64_t promise = w->plan.timing.promise_us;
    switch (world_below(w, 4)) {
    case 0: return 1 + world_below(w, promise / 10);
    case 1: return world_below(w, promise);
    case 2: return world_below(w, promise * 2);
    default: return world_below(w, promise * 6);
    }
}

static void mend_in(struct world *w, uint64_t in, enum fault fault, uint64_t b, uint64_t c)
{
    world_plan_it(w, in, &(struct happening){.kind = HAPPEN_MEND, .a = fault, .b = b, .c = c});
}

static void boot_in(struct world *w, uint32_t node, uint64_t in)
{
    world_plan_it(w, in, &(struct happening){.kind = HAPPEN_BOOT, .node = (uint8_t)node});
}

static void crash_all(struct world *w)
{
    for (uint32_t i = 0; i < w->plan.nodes; i++) {
        world_crash(w, i);
        boot_in(w, i, a_while(w) / (1 + world_below(w, 4)));
    }
}

static void cut(struct world *w, uint32_t a, uint32_t b, bool both)
{
    world_say(w, "link cut from %u to %u%s", a, b, both ? " and back" : "");
    w->cut[a][b] = true;
    if (both) w->cut[b][a] = true;
    mend_in(w, a_while(w), FAULT_CUT, a, b);
}

/* A node that is out of sync may lose content without noticing, as long as what it has is still to be compared. */
static void rot(struct world *w, uint32_t node)
{
    struct replica_status status;
    struct model_store *s = w->nodes[node].store;
    if (!w->nodes[node].up) return;
    replica_status(w->nodes[node].core, &status);
    if (status.role != REPLICA_LEARNER || set_has(w->config.in_sync, node) || s->live.join != 0 || s->durable.join != 0) return;
    if (status.learn.on && status.learn.cursor == REPLICA_WALK_END) return; /* it may have told its digest */
    uint32_t block = (uint32_t)world_below(w, WORLD_BLOCKS);
    world_say(w, "node %u loses block %u", node, block);
    s->live.value[block] = s->durable.value[block] = 0;
    w->rotten = true;
}

/* Another one has everything, too. */
static bool is_spare(const struct world *w, uint32_t node)
{
    for (uint32_t i = 0; i < w->plan.nodes; i++)
        if (i != node && world_holds(w, &w->config, i)) return true;
    return false;
}

/* Its disk is exchanged for an empty one; or, `back`, put back to what it was when an image was made. */
static void exchange(struct world *w, uint32_t node, bool back)
{
    struct world_node *n = &w->nodes[node];
    if (!is_spare(w, node) || (back && !n->has_image)) return;
    world_crash(w, node);
    world_say(w, "node %u has %s", node, back ? "the disk of an image" : "another disk");
    if (back)
        store_restore(w, node, n->image);
    else
        store_begin(n->store, 0, w->plan.capacity);
    boot_in(w, node, a_while(w) / 4);
}

static void make_image(struct world *w, uint32_t node)
{
    store_save(w, node, w->nodes[node].image);
    w->nodes[node].has_image = true;
}

static void isolate(struct world *w, uint32_t node)
{
    for (uint32_t i = 0; i < w->plan.nodes; i++)
        if (i != node) cut(w, node, i, true);
    w->nodes[node].register_cut = world_chance(w, 700);
    if (w->nodes[node].register_cut) mend_in(w, a_while(w), FAULT_REGISTER_CUT, node, 0);
}

static void go_wrong(struct world *w, enum fault fault)
{
    uint32_t a = (uint32_t)world_below(w, w->plan.nodes), b = (uint32_t)world_below(w, w->plan.nodes - 1);
    uint32_t client = (uint32_t)world_below(w, w->plan.clients);
    if (world_chance(w, 400)) a = w->config.owner; /* where it matters most */
    if (b >= a) b++;
    switch (fault) {
    case FAULT_CRASH:
        world_crash(w, a);
        boot_in(w, a, a_while(w));
        break;
    case FAULT_ALL_CRASH: crash_all(w); break;
    case FAULT_FREEZE: world_freeze(w, a, a_while(w)); break;
    case FAULT_CUT: cut(w, a, b, true); break;
    case FAULT_CUT_ONE_WAY: cut(w, a, b, false); break;
    case FAULT_RESET: world_link_reset(w, a, b); break;
    case FAULT_REGISTER_CUT:
        w->nodes[a].register_cut = true;
        mend_in(w, a_while(w), FAULT_REGISTER_CUT, a, 0);
        break;
    case FAULT_REGISTER_SLOW: w->register_slow_until = w->now + a_while(w) * 3; break;
    case FAULT_PATH_CUT:
        w->clients[client].cut[a] = true;
        mend_in(w, a_while(w), FAULT_PATH_CUT, client, a);
        break;
    case FAULT_PATH_RESET: client_reset(w, client); break;
    case FAULT_SLOW_DISK:
        w->nodes[a].slow_disk = true;
        mend_in(w, a_while(w), FAULT_SLOW_DISK, a, 0);
        break;
    case FAULT_ROT: rot(w, a); break;
    case FAULT_ISOLATE: isolate(w, a); break;
    case FAULT_EXCHANGE: exchange(w, a, false); break;
    case FAULT_IMAGE: make_image(w, a); break;
    case FAULT_PUT_BACK:
        if (w->nodes[a].has_image)
            exchange(w, a, true);
        else
            make_image(w, a);
        break;
    case FAULT_DAMAGE:
        w->nodes[a].damaged = true;
        mend_in(w, a_while(w), FAULT_DAMAGE, a, 0);
        break;
    case FAULT_FULL:
        w->nodes[a].full = true;
        mend_in(w, a_while(w), FAULT_FULL, a, 0);
        break;
    case FAULTS: break;
    }
}

void fault_happens(struct world *w)
{
    enum fault fault = (enum fault)world_below(w, FAULTS);
    if (w->calm) return;
    for (uint32_t i = 0; i < FAULTS && (w->plan.kinds >> fault & 1) == 0; i++) fault = (enum fault)((fault + 1) % FAULTS);
    go_wrong(w, fault);
    world_plan_it(w, world_below(w, w->plan.fault_every_us * 2), &(struct happening){.kind = HAPPEN_FAULT});
}

void fault_mends(struct world *w, const struct happening *h)
{
    switch ((enum fault)h->a) {
    case FAULT_CUT:
        w->cut[h->b][h->c] = w->cut[h->c][h->b] = false;
        if (world_chance(w, 700)) world_link_reset(w, (uint32_t)h->b, (uint32_t)h->c);
        break;
    case FAULT_REGISTER_CUT: w->nodes[h->b].register_cut = false; break;
    case FAULT_PATH_CUT: w->clients[h->b].cut[h->c] = false; break;
    case FAULT_SLOW_DISK: w->nodes[h->b].slow_disk = false; break;
    case FAULT_DAMAGE: w->nodes[h->b].damaged = false; break;
    case FAULT_FULL: w->nodes[h->b].full = false; break;
    case FAULT_EXCHANGE:
    case FAULT_IMAGE:
    case FAULT_PUT_BACK:
    case FAULT_CRASH:
    case FAULT_ALL_CRASH:
    case FAULT_FREEZE:
    case FAULT_CUT_ONE_WAY:
    case FAULT_RESET:
    case FAULT_REGISTER_SLOW:
    case FAULT_PATH_RESET:
    case FAULT_ROT:
    case FAULT_ISOLATE:
    case FAULTS: break;
    }
}

/* ---- the end ---- */

static void mend_all(struct world *w)
{
    uint64_t thawed = w->now;
    for (uint32_t i = 0; i < w->plan.nodes; i++) thawed = max64(thawed, w->nodes[i].frozen_until);
    w->calm = true;
    world_run(w, thawed);
    world_say(w, "everything is mended");
    memset(w->cut, 0, sizeof w->cut);
    w->register_slow_until = 0;
    for (uint32_t i = 0; i < w->plan.nodes; i++) {
        struct world_node *n = &w->nodes[i];
        n->register_cut = n->slow_disk = n->damaged = n->full = false;
        if (!n->up) boot_in(w, i, world_below(w, 100000));
    }
    for (uint32_t i = 0; i < w->plan.clients; i++) {
        memset(w->clients[i].cut, 0, sizeof w->clients[i].cut);
        w->clients[i].done = 0;
    }
    for (uint32_t i = 0; i < w->plan.nodes; i++)
        for (uint32_t j = i + 1; j < w->plan.nodes; j++) world_link_reset(w, i, j);
}

static bool is_well(const struct world *w)
{
    if (w->config.in_sync != (1u << w->plan.replicas) - 1) return false;
    for (uint32_t i = 0; i < w->plan.clients; i++)
        if (w->clients[i].done < 3) return false;
    return true;
}

static void say_why(struct world *w)
{
    struct replica_status status;
    char text[200] = "";
    size_t used = 0;
    for (uint32_t i = 0; i < w->plan.replicas; i++) {
        if (!w->nodes[i].up) continue;
        replica_status(w->nodes[i].core, &status);
        used += (size_t)snprintf(text + used, sizeof text - used, "; %u: v%llu %s", i,
                                 (unsigned long long)status.config.version, status.why);
        if (used >= sizeof text) break;
    }
    world_fail(w, "not well in time: in sync %x%s", w->config.in_sync, text);
}

static void compare(struct world *w)
{
    const struct volume_state *first = &w->nodes[0].store->live;
    for (uint32_t i = 0; i < w->plan.replicas && !world_failed(w); i++) {
        const struct volume_state *v = &w->nodes[i].store->live;
        struct replica_status status;
        replica_status(w->nodes[i].core, &status);
        if (v->committed.sequence != first->committed.sequence || v->committed.epoch != first->committed.epoch)
            world_fail(w, "node %u stands at %llu, node 0 at %llu", i, (unsigned long long)v->committed.sequence,
                       (unsigned long long)first->committed.sequence);
        if (v->end != v->committed.sequence || status.end != v->end) world_fail(w, "node %u has prepared records left over", i);
        if (memcmp(v->value, first->value, sizeof v->value) != 0) world_fail(w, "node %u differs from node 0", i);
        if (memcmp(v->windows, first->windows, sizeof v->windows) != 0 ||
            memcmp(v->windows, replica_windows(w->nodes[i].core), sizeof v->windows) != 0)
            world_fail(w, "node %u: its request windows differ", i);
        for (uint32_t b = 0; b < WORLD_JUDGED; b++)
            if ((v->value[b] & 0xffffff) != w->blocks[b].acked)
                world_fail(w, "node %u: block %u is %u, and should be %u", i, b, v->value[b] & 0xffffff, w->blocks[b].acked);
    }
}

static void end(struct world *w)
{
    mend_all(w);
    uint64_t until = w->now + w->plan.patience_us;
    while (!world_failed(w) && w->now < until && !is_well(w)) world_run(w, w->now + w->plan.timing.heartbeat_us);
    if (!world_failed(w) && !is_well(w)) say_why(w);
    w->quiet = true;
    until = w->now + w->plan.patience_us;
    for (bool busy = true; busy && !world_failed(w) && w->now < until;) {
        world_run(w, w->now + w->plan.timing.heartbeat_us);
        busy = false;
        for (uint32_t i = 0; i < w->plan.clients; i++) busy = busy || w->clients[i].busy || w->clients[i].writing;
    }
    /* What an abandoned copy of a command still does, it does now; then the last commit number gets around. */
    if (!world_failed(w)) world_run(w, w->now + w->plan.timing.stale_us * 2 + 10 * w->plan.timing.heartbeat_us);
    if (!world_failed(w)) compare(w);
}

uint64_t replica_run(struct world *w, uint64_t seed, bool trace)
{
    struct world_plan plan;
    struct prng prng;
    prng_init(&prng, seed * 2 + 1);
    plan_draw(&prng, &plan);
    world_begin(w, seed, &plan, trace);
    world_say(w, "%u nodes, %u replicas, %u clients, kinds %x, %s%s%s", plan.nodes, plan.replicas, plan.clients, plan.kinds,
              plan.reorder ? "reordering " : "", plan.tight ? "tight " : "", plan.strict ? "strict" : "");
    world_plan_it(w, world_below(w, plan.timing.promise_us * 2), &(struct happening){.kind = HAPPEN_FAULT});
    world_run(w, plan.faults_until);
    if (!world_failed(w)) end(w);
    for (uint32_t i = 0; i < plan.nodes; i++)
        if (w->nodes[i].up) world_counts_add(&w->counts, replica_counts(w->nodes[i].core));
    if (!w->rotten && w->counts.mismatches > 0) world_fail(w, "a learner's content differed after catching up");
    uint64_t hash = hash64(w->blocks, sizeof w->blocks, w->happened);
    return hash64(&w->prng, sizeof w->prng, hash ^ w->config.version);
}
