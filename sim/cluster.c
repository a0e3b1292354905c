/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The world of clusters: machines with stores, pipes between them, and the register.
 */
#include "sim/cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/must.h"

enum {
    IMAGE_BYTES = 24 << 20,
    SEGMENT_SHIFT = 18,
    SMALL_SHIFT = 17, /* small pools: of so many slots, and the smaller one */
    SMALL_SLOTS = 40,
    SMALLER_SLOTS = 26,
    HEAD_BYTES = 1 << 20,
    STORE_MEMORY = 24 << 20,
    HOST_MEMORY = 32 << 20,
    CREDIT = 400,
    THAW_NS = 1000, /* what waits in its sockets reaches it before it goes on */
    CONTENTS = 24,  /* for each use */
};

/* Formatted, and never used: each disk begins as a copy of it, because all stores of one cluster have one key. */
static const char blank_image[] = "blank", smaller_image[] = "smaller";

static const char *blank_of(const struct cluster *c, uint32_t node)
{
    return c->small && node == c->small_node ? smaller_image : blank_image;
}

uint64_t cluster_below(struct cluster *c, uint64_t n)
{
    return prng_below(&c->prng, n);
}

bool cluster_chance(struct cluster *c, uint32_t per_thousand)
{
    return prng_below(&c->prng, 1000) < per_thousand;
}

/* ---- the register ---- */

static void ask_fires(struct io_timer *timer)
{
    struct cluster_ask *ask = CONTAINER(timer, struct cluster_ask, timer);
    struct cluster_node *n = ask->node;
    struct cluster *c = n->cluster;
    if (ask->answered && n->life == ask->life && cluster_is_frozen(n)) {
        io_after(c->io, IO_MS_NS, &ask->timer);
        return;
    }
    if (!ask->answered) {
        const struct replica_config *proposed = &ask->config;
        if (proposed->version == c->config.version + 1) {
            c->config = *proposed;
            sim_say(c->sim, "register: version %llu, epoch %u, owner %u, in sync %x", (unsigned long long)c->config.version,
                    c->config.epoch, c->config.owner, c->config.in_sync);
        }
        ask->config = c->config;
        ask->answered = true;
        io_after(c->io, (200 + cluster_below(c, 2000)) * IO_US_NS, &ask->timer);
        return;
    }
    bool heard = n->ready && n->life == ask->life && !n->register_cut && (c->calm || !cluster_chance(c, 50));
    struct replica_config config = ask->config;
    list_remove(&ask->link);
    free(ask);
    if (heard) host_config(n->host, &config);
}

static void ask(struct cluster_node *n, const struct replica_config *propose)
{
    struct cluster *c = n->cluster;
    if (n->register_cut) return;
    struct cluster_ask *a = must(calloc(1, sizeof *a));
    a->node = n;
    a->life = n->life;
    a->timer.fire = ask_fires;
    if (propose != NULL) a->config = *propose;
    list_push(&c->asks, &a->link);
    io_after(c->io, (200 + cluster_below(c, 2000)) * IO_US_NS, &a->timer);
}

static void wire_fetch(void *arg)
{
    ask(arg, NULL);
}

static void wire_propose(void *arg, const struct replica_config *config)
{
    ask(arg, config);
}

static void wire_fence(void *arg, uint8_t node)
{
    (void)arg;
    (void)node;
}

static void wire_reset(void *arg)
{
    struct cluster_node *n = arg;
    sim_say(n->cluster->sim, "node %u drops its sessions", n->number);
    n->cluster->counts.resets++;
    client_lost(n->cluster, n->number, false);
}

static void wire_damaged(void *arg, uint64_t lba, enum host_damage what)
{
    static const char *const became[] = {"was mended", "was served", "is lost"};
    const struct cluster_node *n = arg;
    sim_say(n->cluster->sim, "node %u: damaged block %llu %s", n->number, (unsigned long long)lba, became[what]);
}

/* ---- machines ---- */

static enum err create(struct cluster_node *n);

static struct store_config store_config_of(const struct cluster_node *n)
{
    struct store_config config = {.device_count = 1, .memory = STORE_MEMORY, .checkpoint_ms = 300};
    config.devices[0] = (struct store_device_config){.path = n->image, .class = DEVICE_FLASH};
    return config;
}

/* [task] */
static enum err start(struct cluster_node *n)
{
    struct cluster *c = n->cluster;
    struct store_config config = store_config_of(n);
    TRY(store_open(n->io, &config, &n->store, NULL));
    if (!n->created) TRY(create(n));
    n->mem = mem_open(HOST_MEMORY);
    TRY(contents_init(&n->contents, n->mem, c->contents));
    struct replica_host_config host = {
        .io = n->io,
        .store = n->store,
        .mem = n->mem,
        .contents = &n->contents,
        .volume = 1,
        .setup = {.node = (uint8_t)n->number, .timing = c->timing, .walk_blocks = 64, .strict = c->strict},
        .wires = {n, cluster_send, wire_fetch, wire_propose, wire_fence, wire_reset, wire_damaged},
        .boot = ++n->boot,
        .first_join = n->replaced ? 0 : 1,
        .credit = CREDIT};
    return host_open(&host, &n->host);
}

struct created {
    struct store_op op;
    struct io_task *task;
    bool over;
};

static void created(struct store_op *op)
{
    struct created *w = CONTAINER(op, struct created, op);
    w->over = true;
    io_task_wake(w->task);
}

/* [task] The volume, in every store for itself. Its CREATE may be there from a life that did not hear of it. */
static enum err create(struct cluster_node *n)
{
    struct store_volume_info info;
    n->created = store_volume_next(n->store, 1, &info) == OK;
    if (n->created) return OK;
    struct created w = {.op = {.done = created, .kind = RECORD_CREATE, .volume = 1, .sequence = 1, .lba = CLUSTER_SIZE},
                        .task = io_task_self()};
    store_prepare(n->store, &w.op);
    while (!w.over) io_task_park();
    if (w.op.err == OK) store_publish(n->store, &w.op);
    n->created = w.op.err == OK;
    return w.op.err;
}

static void start_run(void *arg)
{
    struct cluster_node *n = arg;
    n->err = start(n);
    n->starting = false;
    if (sim_is_off(n->cluster->sim) || !n->up) return;
    if (n->err != OK && n->cluster->bad_disks && n->number == n->cluster->bad_node) return;
    if (n->err != OK) {
        lab_fail(n->cluster->lab, "node %u does not start: %s", n->number, err_name(n->err));
        return;
    }
    n->ready = true;
    for (uint32_t other = 0; other < n->cluster->nodes; other++)
        if (other != n->number && n->cluster->node[other].ready)
            cluster_link(n->cluster, n->number, other, ++n->cluster->sessions);
}

static void power_fires(struct io_timer *timer)
{
    struct cluster_node *n = CONTAINER(timer, struct cluster_node, power);
    sim_say(n->cluster->sim, "node %u starts", n->number);
    n->up = n->starting = true;
    n->life++;
    n->err = OK;
    n->store = NULL;
    n->host = NULL;
    n->mem = NULL;
    if (io_task_start(n->io, &n->task, start_run, n) != OK) abort();
}

void cluster_start(struct cluster *c, uint32_t node, uint64_t in_ns)
{
    c->node[node].power.fire = power_fires;
    io_after(c->io, in_ns, &c->node[node].power);
}

static bool has_started(void *arg)
{
    const struct cluster_node *n = arg;
    return !n->starting;
}

static void counts_add(struct cluster_counts *all, const struct cluster_node *n)
{
    if (!n->ready) return;
    const struct host_counts *h = host_counts(n->host);
    const struct replica_counts *r = host_core_counts(n->host);
    all->steps += h->steps;
    all->step_bytes += h->step_bytes;
    all->blocks += h->walked + h->recorded;
    all->digests += h->digests;
    all->lapses += h->lapses;
    all->learned += h->learned;
    all->waited += h->waited;
    all->lent += h->lent;
    all->mended += h->mended;
    all->served += h->served;
    all->lost += h->lost;
    all->joins += r->joins;
    all->gaps += r->gaps;
    all->passes += r->passes;
    all->mismatches += r->mismatches;
}

struct cluster_counts cluster_counts(const struct cluster *c)
{
    struct cluster_counts all = c->counts;
    for (uint32_t i = 0; i < c->nodes; i++) counts_add(&all, &c->node[i]);
    return all;
}

void cluster_crash(struct cluster *c, uint32_t node)
{
    struct cluster_node *n = &c->node[node];
    if (!n->up) return;
    sim_say(c->sim, "node %u dies", node);
    counts_add(&c->counts, n);
    n->up = n->ready = false;
    n->life++;
    n->relinked = 0;
    io_cancel(c->io, &n->thaw);
    for (uint32_t other = 0; other < c->nodes; other++)
        if (other != node && c->pipe[node][other].session != 0) cluster_link(c, node, other, 0);
    client_lost(c, node, true);
    sim_machine_cut(c->sim, node + 1);
    /* Opening a store holds memory of its own: it runs to its end without power. */
    if (n->starting && sim_run_until(c->sim, has_started, n) != SIM_DONE) lab_fail(c->lab, "a start without power hangs");
    host_abandon(n->host);
    if (n->store != NULL) store_abandon(n->store);
    mem_close(n->mem);
    io_task_done(&n->task);
    n->host = NULL;
    n->store = NULL;
    n->mem = NULL;
    sim_machine_on(c->sim, node + 1);
}

void cluster_revive(struct cluster *c, uint32_t node)
{
    const struct cluster_node *n = &c->node[node];
    if (!n->up || n->starting || (n->ready && host_failed(n->host) == OK)) return;
    c->counts.failures++;
    cluster_crash(c, node);
    cluster_start(c, node, IO_MS_NS * (1 + cluster_below(c, 500)));
}

static void thaws(struct io_timer *timer)
{
    cluster_thaw(CONTAINER(timer, struct cluster_node, thaw));
}

bool cluster_is_frozen(const struct cluster_node *n)
{
    return n->thaw.place != 0 && n->thaw.due_ns > io_now_ns(n->cluster->io);
}

void cluster_freeze(struct cluster *c, uint32_t node, uint64_t span_ns)
{
    struct cluster_node *n = &c->node[node];
    if (!n->ready || n->thaw.place != 0) return;
    c->counts.freezes++;
    sim_machine_freeze(c->sim, node + 1, span_ns + THAW_NS);
    n->thaw.fire = thaws;
    io_after(c->io, span_ns, &n->thaw);
}

/* Somebody else in sync has everything, and no change of the register that is under way says otherwise. */
static bool is_safe_without(const struct cluster *c, uint32_t node)
{
    for (const struct list *l = c->asks.next; l != &c->asks; l = l->next) {
        const struct cluster_ask *ask = CONTAINER(l, struct cluster_ask, link);
        if (!ask->answered && ask->config.version > c->config.version) return false;
    }
    for (uint32_t i = 0; i < c->nodes; i++)
        if (i != node && set_has(c->config.in_sync, i) && c->node[i].lacked != c->config.join[i]) return true;
    return false;
}

bool cluster_replace(struct cluster *c, uint32_t node)
{
    struct cluster_node *n = &c->node[node];
    if (!is_safe_without(c, node)) return false;
    sim_say(c->sim, "node %u loses its disk", node);
    cluster_crash(c, node);
    disk_copy(sim_disk(c->sim, n->image), sim_disk(c->sim, blank_of(c, node)));
    n->created = false;
    n->replaced = true;
    n->lacked = c->config.join[node];
    c->counts.replaced++;
    return true;
}

/* ---- a world ---- */

struct formatting {
    struct cluster *cluster;
    const char *name;
    bool over;
    enum err err;
};

static void format_run(void *arg)
{
    struct formatting *f = arg;
    static const uint8_t key[STORE_KEY_BYTES] = "of all pools of this cluster";
    struct store_format_config config = {.device_count = 1, .segment_shift = SEGMENT_SHIFT};
    config.devices[0] = (struct store_device_config){.path = f->name, .class = DEVICE_FLASH};
    if (f->cluster->small) config.segment_shift = SMALL_SHIFT;
    if (f->cluster->small) config.key = key;
    snprintf(config.name, sizeof config.name, "cluster");
    f->err = store_format(f->cluster->io, &config);
    f->over = true;
}

static bool is_formatted(void *arg)
{
    const struct formatting *f = arg;
    return f->over;
}

static void blank_begin(struct cluster *c, const char *name, uint64_t bytes)
{
    struct io_task task;
    struct formatting f = {.cluster = c, .name = name};
    sim_disk_create(c->sim, name, bytes);
    if (io_task_start(c->io, &task, format_run, &f) != OK) abort();
    if (!lab_until(c->lab, is_formatted, &f, "format")) return;
    io_task_done(&task);
    if (f.err != OK) lab_fail(c->lab, "format: %s", err_name(f.err));
}

static void node_begin(struct cluster *c, uint32_t i)
{
    struct cluster_node *n = &c->node[i];
    *n = (struct cluster_node){.cluster = c, .number = i, .io = sim_machine(c->sim, i + 1)};
    snprintf(n->image, sizeof n->image, "node%u", i);
    struct disk *blank = sim_disk(c->sim, blank_of(c, i));
    sim_disk_create(c->sim, n->image, disk_size(blank));
    disk_copy(sim_disk(c->sim, n->image), blank);
}

/* For what one rule is about. */
static void aim(struct cluster *c, int mutation)
{
    c->cut_power = c->cut_all = c->cut_links = c->cut_register = c->cut_paths = c->lose = c->lose_disk = 0;
    c->clients_count = CLUSTER_FEW;
    c->freeze = c->silent = c->shared = 0;
    c->contents = CONTENTS;
    c->bad_disks = false;
    c->delay_us = 30000;
    switch (mutation) {
    case MUTATE_RESEND_CURRENT:
        c->nodes = 2;
        c->cut_power = 500;
        c->quick = true;
        break;
    case MUTATE_PUBLISH_UNDER_READ: /* with a new session, what was not acknowledged is read once more */
        c->cut_power = 500;
        c->lose = 1000;
        c->quick = c->slow_reads = true;
        c->contents = 3; /* what is prepared is read again */
        break;
    case MUTATE_SESSION_UNTOLD: c->cut_paths = 900; break;
    case MUTATE_DURABLE_EARLY:
        c->cut_all = 500;
        c->quick = true;
        break;
    case MUTATE_DISCARD_UNSAID:
        c->cut_power = 700;
        c->quick = true;
        break;
    case MUTATE_WAIT_AGELESS:
        c->clients_count = CLUSTER_CLIENTS;
        c->contents = 3;
        c->silent = 1000;
        c->cut_links = c->cut_register = 300;
        c->eager = true;
        break;
    case MUTATE_PAUSE_UNNOTICED:
        c->silent = 1000;
        c->delay_us = 3000;
        c->freeze = 400;
        c->eager = true;
        c->shared = 8;
        break;
    case MUTATE_SINCE_DROPPED:
    case MUTATE_SINCE_AHEAD: c->updated = 1; break;
    case MUTATE_FAILURE_UNTOLD:
        c->nodes = 2;
        c->bad_disks = true;
        c->bad_node = 0;
        c->cut_power = 400;
        break;
    default: break;
    }
}

static void draw(struct cluster *c)
{
    c->nodes = 2 + (uint32_t)cluster_below(c, 2);
    c->clients_count = 1 + (uint32_t)cluster_below(c, cluster_chance(c, 200) ? CLUSTER_CLIENTS : CLUSTER_FEW);
    c->strict = cluster_chance(c, 150);
    c->timing = cluster_chance(c, 300) ? replica_timing_default : replica_timing_fast;
    c->delay_us = cluster_chance(c, 500) ? 300 : 30000;
    c->cut_power = cluster_chance(c, 500) ? 100 : 0;
    c->cut_all = cluster_chance(c, 600) ? 200 : 0;
    c->cut_links = cluster_chance(c, 400) ? 100 : 0;
    c->cut_register = cluster_chance(c, 300) ? 200 : 0;
    c->lose = cluster_chance(c, 700) ? 400 : 0;
    c->cut_paths = cluster_chance(c, 400) ? 400 : 0;
    c->lose_disk = cluster_chance(c, 300) ? 200 : 0;
    c->slow_reads = cluster_chance(c, 150);
    c->freeze = cluster_chance(c, 300) ? 150 : 0;
    c->silent = cluster_chance(c, 400) ? 600 : 0;
    c->shared = cluster_chance(c, 400) ? 4 + (uint32_t)cluster_below(c, 60) : 0;
    c->bad_disks = cluster_chance(c, 200);
    c->bad_node = (uint32_t)cluster_below(c, c->nodes);
    c->updated = 1 + (uint32_t)cluster_below(c, CLUSTER_BLOCKS - CLUSTER_OWNED);
    c->contents = cluster_chance(c, 400) ? 3 + (uint32_t)cluster_below(c, CONTENTS) : CONTENTS;
}

void cluster_begin(struct cluster *c, struct lab *lab, const struct history_options *options)
{
    *c = (struct cluster){.lab = lab, .sim = lab->sim, .config = {.version = 1, .epoch = 1}};
    sim_reset(c->sim, options->seed, options->trace);
    c->io = sim_machine(c->sim, 0);
    prng_init(&c->prng, options->seed ^ 0xc1057e5);
    list_init(&c->asks);
    list_init(&c->commands);
    list_init(&c->commands_over);
    draw(c);
    if (options->mutation >= MUTATE_HOST) aim(c, options->mutation);
    plan_begin(c, plan_of(options->seed, options->mutation));
    uint64_t answer_us = max64(c->delay_us * 2, sim_latency_ns(c->sim) / IO_US_NS * 4);
    c->hasty = c->slow_reads || answer_us > c->timing.heartbeat_us / 2;
    if (c->slow_reads && sim_latency_ns(c->sim) < IO_MS_NS) sim_fault(c->sim, SIM_SLOW_READ, 100000, UINT32_MAX);
    blank_begin(c, blank_image, c->small ? HEAD_BYTES + ((uint64_t)SMALL_SLOTS << SMALL_SHIFT) : IMAGE_BYTES);
    if (c->small) blank_begin(c, smaller_image, HEAD_BYTES + ((uint64_t)SMALLER_SLOTS << SMALL_SHIFT));
    if (c->bad_disks) {
        sim_fault_only(c->sim, c->bad_node + 1);
        sim_fault(c->sim, SIM_READ_ERROR, 2000, UINT32_MAX);
        sim_fault(c->sim, SIM_WRITE_ERROR, 1000, 1 + (uint32_t)cluster_below(c, 4));
    }
    wires_begin(c);
    judge_begin(c);
    for (uint32_t i = 0; i < c->nodes; i++) {
        c->config.in_sync |= node_bit(i);
        c->config.join[i] = 1;
    }
    for (uint32_t i = 0; i < c->nodes && !lab_failed(lab); i++) node_begin(c, i);
    for (uint32_t i = 0; i < c->nodes; i++) cluster_start(c, i, 0);
    for (uint32_t i = 0; i < c->clients_count; i++) client_begin(c, i);
}

void cluster_end(struct cluster *c)
{
    for (uint32_t i = 0; i < c->nodes; i++) cluster_crash(c, i);
    wires_end(c);
    judge_end(c);
    client_forget(c);
    for (struct list *l; (l = list_pop(&c->asks)) != NULL;) free(CONTAINER(l, struct cluster_ask, link));
}
