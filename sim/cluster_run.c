/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A history of a cluster.
 *
 * A seed draws which kinds of faults the world knows. In the end everything is mended: within bounded time every client must
 * get on; then clients stop, and all replicas in sync must have published the same, hold the same, and pass the auditor.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/hash.h"
#include "sim/cluster.h"
#include "sim/must.h"
#include "store/audit.h"
#include "store/mutation.h"

enum { TROUBLE_MS = 8000, PATIENCE_MS = 60000, CHECK_BLOCKS = 64 };

/* ---- going wrong ---- */

static uint64_t a_while(struct cluster *c)
{
    uint64_t promise = c->timing.promise_us * IO_US_NS;
    switch (cluster_below(c, 4)) {
    case 0: return 1 + cluster_below(c, promise / 10);
    case 1: return cluster_below(c, promise);
    case 2: return cluster_below(c, promise * 2);
    default: return cluster_below(c, promise * 6);
    }
}

/* Short, or so long that its sessions end, while clients may still wait for it. */
static uint64_t frozen_for(struct cluster *c)
{
    uint64_t stale = c->timing.stale_us * IO_US_NS;
    return cluster_chance(c, 500) ? a_while(c) : stale + cluster_below(c, stale + stale / 2);
}

struct mending {
    struct io_timer timer;
    struct cluster *cluster;
    uint32_t a, b;
    bool link;
};

static void mends(struct io_timer *timer)
{
    struct mending *m = CONTAINER(timer, struct mending, timer);
    struct cluster *c = m->cluster;
    if (m->link) {
        cluster_cut(c, m->a, m->b, false);
        cluster_cut(c, m->b, m->a, false);
        cluster_link_reset(c, m->a, m->b);
    } else {
        c->node[m->a].register_cut = false;
    }
    free(m);
}

static void mend_in(struct cluster *c, uint64_t in_ns, uint32_t a, uint32_t b, bool link)
{
    struct mending *m = must(calloc(1, sizeof *m));
    *m = (struct mending){.timer.fire = mends, .cluster = c, .a = a, .b = b, .link = link};
    io_after(c->io, in_ns, &m->timer);
}

static void cut_link(struct cluster *c, uint32_t a, uint32_t b)
{
    bool both = cluster_chance(c, 600);
    sim_say(c->sim, "link cut from %u to %u%s", a, b, both ? " and back" : "");
    cluster_cut(c, a, b, true);
    if (both) cluster_cut(c, b, a, true);
    mend_in(c, a_while(c), a, b, true);
}

static void die(struct cluster *c, uint32_t node)
{
    if (!c->node[node].up) return;
    if (!cluster_chance(c, c->lose_disk) || !cluster_replace(c, node)) cluster_crash(c, node);
    cluster_start(c, node, c->quick || cluster_chance(c, 400) ? IO_MS_NS : a_while(c) / (1 + cluster_below(c, 4)));
}

/* What comes here is decided once: a power cut from within a callback of the machine that loses it would pull the ground away
 * from under it; the world's own timer is no such callback. */
static void goes_wrong(struct io_timer *timer)
{
    struct cluster *c = CONTAINER(timer, struct cluster, fault);
    if (c->calm) return;
    uint32_t a = (uint32_t)cluster_below(c, c->nodes), b = (a + 1 + (uint32_t)cluster_below(c, c->nodes - 1)) % c->nodes;
    if (cluster_chance(c, 400)) a = c->config.owner; /* where it matters most */
    if (a == b) b = (a + 1) % c->nodes;
    if (cluster_chance(c, c->cut_power)) die(c, a);
    if (cluster_chance(c, c->cut_links)) cut_link(c, a, b);
    if (cluster_chance(c, c->lose)) cluster_link_reset(c, a, b);
    if (cluster_chance(c, c->freeze)) cluster_freeze(c, a, frozen_for(c));
    for (uint32_t i = 0; i < c->clients_count; i++)
        if (cluster_chance(c, c->cut_paths)) client_drop(c, i);
    if (cluster_chance(c, c->cut_register)) {
        c->node[a].register_cut = true;
        mend_in(c, a_while(c), a, 0, false);
    }
    if (cluster_chance(c, c->cut_all))
        for (uint32_t i = 0; i < c->nodes; i++) die(c, i);
    io_after(c->io, (50 + cluster_below(c, 600)) * IO_MS_NS, &c->fault);
}

static void trouble(struct cluster *c)
{
    c->fault.fire = goes_wrong;
    io_after(c->io, IO_S_NS, &c->fault);
    cluster_run_ms(c, TROUBLE_MS);
}

/* ---- the end ---- */

/* A replica has no reason to fail unless its disk does, and none holds what others do not. */
static void judge_replica(struct cluster *c, const struct cluster_node *n)
{
    if (!n->ready) return;
    if (host_failed(n->host) != OK && !(c->bad_disks && n->number == c->bad_node))
        lab_fail(c->lab, "the replica of node %u fails: %s", n->number, err_name(host_failed(n->host)));
    if (host_core_counts(n->host)->mismatches > 0) lab_fail(c->lab, "node %u learned something else", n->number);
}

void cluster_run_ms(struct cluster *c, uint64_t ms)
{
    uint64_t until = sim_now_ns(c->sim) + ms * IO_MS_NS;
    while (!lab_failed(c->lab) && sim_now_ns(c->sim) < until) {
        sim_run_for(c->sim, 1000, until - sim_now_ns(c->sim));
        for (uint32_t i = 0; i < c->nodes; i++) judge_replica(c, &c->node[i]);
        if (c->bad_disks) cluster_revive(c, c->bad_node);
    }
}

static void mend_all(struct cluster *c)
{
    c->calm = true;
    c->strikes = 0;
    sim_fault(c->sim, SIM_SLOW_READ, 0, 0);
    sim_fault(c->sim, SIM_READ_ERROR, 0, 0);
    sim_fault(c->sim, SIM_WRITE_ERROR, 0, 0);
    io_cancel(c->io, &c->strike);
    for (uint32_t a = 0; a < c->nodes; a++) {
        c->node[a].register_cut = false;
        for (uint32_t b = a + 1; b < c->nodes; b++) {
            bool cut = c->pipe[a][b].cut || c->pipe[b][a].cut;
            cluster_cut(c, a, b, false);
            cluster_cut(c, b, a, false);
            if (cut) cluster_link_reset(c, a, b);
        }
    }
}

static bool in_sync(const struct cluster *c, uint32_t node)
{
    return set_has(c->config.in_sync, node);
}

bool cluster_is_whole(struct cluster *c)
{
    return set_size(c->config.in_sync) == c->nodes;
}

/* Everybody in sync has published all that there is. */
static bool is_settled(struct cluster *c)
{
    struct replica_status first = {0}, status;
    for (uint32_t i = 0; i < c->nodes; i++) {
        if (!in_sync(c, i)) continue;
        if (!c->node[i].ready) return false;
        host_status(c->node[i].host, &status);
        if (status.committed.sequence != status.end || !host_is_published(c->node[i].host) ||
            (status.role != REPLICA_OWNER && status.role != REPLICA_IN_SYNC))
            return false;
        if (status.role == REPLICA_OWNER && !status.open) return false;
        if (first.end == 0) first = status;
        if (first.end != status.end || first.config.version != status.config.version) return false;
    }
    return true;
}

static void say_status(struct cluster *c)
{
    static const char *const roles[] = {"unknown", "owner", "in sync", "learner", "outside"};
    for (uint32_t i = 0; i < c->nodes; i++) {
        struct replica_status s = {0};
        if (!c->node[i].ready) {
            sim_say(c->sim, "node %u is not ready", i);
            continue;
        }
        host_status(c->node[i].host, &s);
        sim_say(c->sim, "node %u: %s%s, version %llu, epoch %u, committed %llu, end %llu, durable %llu, failed %s: %s", i,
                roles[s.role], s.open ? ", open" : "", (unsigned long long)s.config.version, s.config.epoch,
                (unsigned long long)s.committed.sequence, (unsigned long long)s.end, (unsigned long long)s.durable,
                err_name(host_failed(c->node[i].host)), s.why);
        char text[300];
        sim_say(c->sim, "node %u: %s", i, store_text(c->node[i].store, text, sizeof text));
        if (s.learn.on)
            sim_say(c->sim, "node %u: learned %llu from %llu, at block %llu", i, (unsigned long long)s.learn.applied,
                    (unsigned long long)s.learn.base, (unsigned long long)s.learn.cursor);
    }
}

bool cluster_until(struct cluster *c, bool (*is)(struct cluster *c), uint64_t ms, const char *what)
{
    for (; ms > 0 && !lab_failed(c->lab) && !is(c); ms -= min64(ms, 50)) cluster_run_ms(c, min64(ms, 50));
    if (lab_failed(c->lab)) return false;
    if (is(c)) return true;
    say_status(c);
    lab_fail(c->lab, "in bounded time, %s", what);
    return false;
}

static bool everybody_gets_on(struct cluster *c)
{
    for (uint32_t i = 0; i < c->clients_count; i++)
        if (c->clients[i].done == c->clients[i].before) return false;
    return true;
}

static bool is_quiet(struct cluster *c)
{
    return client_is_idle(c) && cluster_is_whole(c) && is_settled(c);
}

/* Under load, then without. */
static void quiesce(struct cluster *c)
{
    for (uint32_t i = 0; i < c->clients_count; i++) c->clients[i].before = c->clients[i].done;
    if (!cluster_until(c, everybody_gets_on, PATIENCE_MS / 4, "not all clients get on though all is mended")) return;
    c->quiet = c->hasty;
    if (!cluster_until(c, cluster_is_whole, PATIENCE_MS, "not all replicas are in sync though all is mended")) return;
    c->quiet = true;
    cluster_until(c, is_quiet, PATIENCE_MS, "replicas do not settle though all is mended");
}

/* ---- comparing ---- */

struct loading {
    struct host_load load;
    bool over;
};

static void load_is_done(struct host_load *load)
{
    CONTAINER(load, struct loading, load)->over = true;
}

static bool is_loaded(void *arg)
{
    return ((const struct loading *)arg)->over;
}

enum err cluster_load(struct cluster *c, uint32_t node, uint64_t lba, uint32_t count, uint8_t *data)
{
    struct loading l = {.load = {.done = load_is_done, .lba = lba, .count = count, .data = data}};
    host_load(c->node[node].host, &l.load);
    return lab_until(c->lab, is_loaded, &l, "a read of blocks") ? l.load.err : ERR_STOPPED;
}

struct comparing {
    struct cluster *cluster;
    struct store_read read;
    uint32_t node;
    uint8_t *data;
    uint8_t mapped[CHECK_BLOCKS];
    uint64_t hash, first_hash;
    bool first, over;
};

static void compare_read_done(struct store_read *read)
{
    struct comparing *w = CONTAINER(read, struct comparing, read);
    w->over = true;
}

static bool is_over(void *arg)
{
    return ((const struct comparing *)arg)->over;
}

static enum err map_read(struct comparing *w, uint64_t lba, uint32_t count)
{
    w->over = false;
    w->read = (struct store_read){.done = compare_read_done, .volume = 1, .lba = lba, .count = count, .mapped = w->mapped};
    store_read(w->cluster->node[w->node].store, &w->read);
    return lab_until(w->cluster->lab, is_over, w, "a read of a map") ? w->read.err : ERR_STOPPED;
}

/* Damage that nobody has met is met, and mended, now. */
static bool look(struct comparing *w, uint64_t lba, uint32_t count, bool mapped)
{
    struct cluster *c = w->cluster;
    enum err err = mapped ? map_read(w, lba, count) : cluster_load(c, w->node, lba, count, w->data);
    if (err != OK) lab_fail(c->lab, "node %u, block %llu: %s", w->node, (unsigned long long)lba, err_name(err));
    return err == OK;
}

/* What clients know of the blocks that have numbers. */
static void judge_blocks(struct comparing *w)
{
    for (uint32_t b = 0; b < CLUSTER_BLOCKS; b++) {
        uint32_t at = b % CHECK_BLOCKS;
        if (at == 0 && !look(w, b, CHECK_BLOCKS, false)) return;
        judge_look(w->cluster, w->node, b, w->data + (size_t)at * BLOCK_SIZE);
    }
}

/* Requests that took place are known on every replica, for whoever may be owner next. */
static void compare_windows(struct cluster *c)
{
    struct store_window first[REQUEST_NODES], windows[REQUEST_NODES];
    store_windows(c->node[0].store, 1, first);
    for (uint32_t node = 1; node < c->nodes; node++) {
        store_windows(c->node[node].store, 1, windows);
        for (uint32_t i = 0; i < REQUEST_NODES; i++)
            if (windows[i].boot != first[i].boot || windows[i].high != first[i].high || windows[i].done != first[i].done)
                lab_fail(c->lab, "node %u knows other requests of %u", node, i);
    }
}

static void compare(struct cluster *c)
{
    struct comparing w = {.cluster = c, .data = must(aligned_alloc(BLOCK_SIZE, CHECK_BLOCKS * BLOCK_SIZE)), .first = true};
    for (w.node = 0; w.node < c->nodes; w.node++) {
        if (!in_sync(c, w.node)) continue;
        w.hash = 0;
        judge_blocks(&w);
        for (uint64_t lba = 0; lba < CLUSTER_SIZE && !lab_failed(c->lab); lba += CHECK_BLOCKS) {
            uint32_t count = (uint32_t)min64(CHECK_BLOCKS, CLUSTER_SIZE - lba);
            if (!look(&w, lba, count, false)) break;
            w.hash = hash64(w.data, (size_t)count * BLOCK_SIZE, w.hash);
            if (!look(&w, lba, count, true)) break;
            w.hash = hash64(w.mapped, count, w.hash);
        }
        if (w.first) w.first_hash = w.hash;
        w.first = false;
        if (!lab_failed(c->lab) && w.hash != w.first_hash) lab_fail(c->lab, "node %u holds something else", w.node);
    }
    free(w.data);
}

/* ---- auditing ---- */

struct auditing {
    struct cluster *cluster;
    uint32_t node;
    struct audit_report *report;
    enum err err;
    bool over;
};

static void audit_says(void *arg, bool problem, const char *text)
{
    struct auditing *a = arg;
    if (problem) lab_fail(a->cluster->lab, "auditor, node %u: %s", a->node, text);
}

static void audit_run(void *arg)
{
    struct auditing *a = arg;
    struct cluster_node *n = &a->cluster->node[a->node];
    struct store_config config = {.device_count = 1, .memory = 64 << 20};
    config.devices[0] = (struct store_device_config){.path = n->image, .class = DEVICE_FLASH};
    a->err = audit_pool(n->io, &config, a->report);
    a->over = true;
}

static bool is_audited(void *arg)
{
    return ((const struct auditing *)arg)->over;
}

/* After a power cut of all: what the media hold. */
static void audit(struct cluster *c)
{
    for (uint32_t i = 0; i < c->nodes; i++) cluster_crash(c, i);
    rot_forget(c);
    for (uint32_t i = 0; i < c->nodes && !lab_failed(c->lab); i++) {
        struct auditing a = {.cluster = c, .node = i, .report = must(calloc(1, sizeof *a.report))};
        struct io_task task;
        a.report->say = audit_says;
        a.report->arg = &a;
        if (io_task_start(c->node[i].io, &task, audit_run, &a) != OK) abort();
        if (!lab_until(c->lab, is_audited, &a, "an audit")) return;
        io_task_done(&task);
        if (a.err != OK) lab_fail(c->lab, "auditor, node %u: %s", i, err_name(a.err));
        free(a.report);
    }
}

static void say_counts(struct cluster *c)
{
    struct cluster_counts n = cluster_counts(c);
    sim_say(c->sim, "%llu joins, %llu times learned, %llu steps of %llu blocks in %llu bytes, %llu digests (%llu given up)",
            (unsigned long long)n.joins, (unsigned long long)n.learned, (unsigned long long)n.steps,
            (unsigned long long)n.blocks, (unsigned long long)n.step_bytes, (unsigned long long)n.digests,
            (unsigned long long)n.lapses);
    sim_say(c->sim, "%llu updates, %llu freezes, %llu failures, %llu times all sessions dropped, %llu forwards without room",
            (unsigned long long)n.updates, (unsigned long long)n.freezes, (unsigned long long)n.failures,
            (unsigned long long)n.resets, (unsigned long long)n.dropped);
    sim_say(c->sim, "%llu blocks lent, %llu mended, %llu served, %llu times nobody had one", (unsigned long long)n.lent,
            (unsigned long long)n.mended, (unsigned long long)n.served, (unsigned long long)n.lost);
    sim_say(c->sim, "%llu gaps, %llu more passes, %llu new disks, publishing waited %llu times for a read",
            (unsigned long long)n.gaps, (unsigned long long)n.passes, (unsigned long long)n.replaced,
            (unsigned long long)n.waited);
}

uint64_t cluster_run(struct lab *lab, const struct history_options *options)
{
    static struct cluster cluster;
    struct cluster *c = &cluster;
    lab->failure[0] = '\0';
    store_mutation = options->control ? MUTATE_NONE : (enum mutation)options->mutation;
    enum cluster_plan plan = plan_of(options->seed, options->mutation);
    cluster_begin(c, lab, options);
    plan_run(c, plan);
    if (plan == PLAN_NONE || plan == PLAN_ROT) trouble(c);
    sim_say(c->sim, "all is mended");
    mend_all(c);
    if (!lab_failed(lab)) quiesce(c);
    c->rot.over = true;
    if (!lab_failed(lab)) compare(c);
    if (!lab_failed(lab)) say_counts(c);
    if (!lab_failed(lab)) plan_judge(c, plan);
    if (!lab_failed(lab)) compare_windows(c);
    if (!lab_failed(lab)) audit(c);
    uint64_t hash = sim_hash(c->sim);
    cluster_end(c);
    store_mutation = MUTATE_NONE;
    return hash;
}
