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
    STORE_MEMORY = 24 << 20,
    HOST_MEMORY = 32 << 20,
    CONTENTS = 24, /* for each use */
    CREDIT = 400,
};

/* Formatted, and never used: each disk begins as a copy of it, because all stores of one cluster have one key. */
static const char blank_image[] = "blank";

uint64_t cluster_below(struct cluster *c, uint64_t n)
{
    return prng_below(&c->prng, n);
}

bool cluster_chance(struct cluster *c, uint32_t per_thousand)
{
    return prng_below(&c->prng, 1000) < per_thousand;
}

/* ---- pipes ---- */

static void letter_free(struct cluster_letter *letter)
{
    free(letter->digests);
    free(letter->bytes);
    free(letter);
}

static void pipe_empty(struct cluster_pipe *p)
{
    for (struct list *l; (l = list_pop(&p->letters)) != NULL;) letter_free(CONTAINER(l, struct cluster_letter, link));
    io_cancel(p->cluster->io, &p->timer);
}

static void pipe_arm(struct cluster_pipe *p)
{
    struct io *io = p->cluster->io;
    if (list_empty(&p->letters) || p->timer.place != 0) return;
    uint64_t at = CONTAINER(p->letters.next, struct cluster_letter, link)->at, now = io_now_ns(io);
    io_after(io, at > now ? at - now : 0, &p->timer);
}

/* False: the receiver has no room for it now. */
static bool letter_deliver(struct cluster_pipe *p, struct cluster_letter *letter)
{
    static const enum content_use uses[] = {
        [REPLICA_FORWARD] = CONTENT_FORWARD, [REPLICA_RECORD] = CONTENT_RECORD, [REPLICA_STEP] = CONTENT_STEP};
    struct cluster *c = p->cluster;
    struct cluster_node *to = &c->node[p->to];
    struct replica_content *content = NULL;
    bool strikes = letter->message.kind == REPLICA_STEP && letter->has_content && p->to == c->strike_node;
    if (!to->ready || p->cut) return true;
    if (letter->has_content) {
        content = content_take(&to->contents, uses[letter->message.kind], letter->what, letter->count);
        if (content == NULL) return false;
        bool stretch = content_is_stretch(content);
        if (stretch) memcpy(content->bytes, letter->bytes, content->used = letter->used);
        for (uint32_t i = 0; !stretch && letter->what == ENTRY_NEW && i < letter->count; i++)
            content_add(content, i, &letter->digests[i]);
    }
    host_message(to->host, &letter->message, content);
    if (strikes && c->strikes > 0 && cluster_chance(c, 300)) {
        c->strikes--;
        io_cancel(c->io, &c->strike);
        io_after(c->io, cluster_below(c, 4 * sim_latency_ns(c->sim) + IO_MS_NS), &c->strike);
    }
    return true;
}

static void pipe_fires(struct io_timer *timer)
{
    struct cluster_pipe *p = CONTAINER(timer, struct cluster_pipe, timer);
    struct cluster_letter *letter = CONTAINER(p->letters.next, struct cluster_letter, link);
    if (letter_deliver(p, letter)) {
        /* What came of it may have emptied the pipe. */
        if (list_empty(&p->letters) || p->letters.next != &letter->link) return;
        list_remove(&letter->link);
        letter_free(letter);
    } else {
        letter->at = io_now_ns(p->cluster->io) + IO_MS_NS;
    }
    pipe_arm(p);
}

static void letter_fill(struct cluster_letter *letter, const struct replica_content *content)
{
    letter->has_content = true;
    letter->what = content->what;
    letter->count = content->count;
    letter->used = content->used;
    if (content->what != ENTRY_NEW) return;
    letter->bytes = must(malloc(max32(content->used, 1)));
    memcpy(letter->bytes, content->bytes, content->used);
    if (content_is_stretch(content)) return;
    letter->digests = must(malloc(content->count * sizeof *letter->digests));
    for (uint32_t i = 0; i < content->count; i++) {
        letter->digests[i] = content->digests[i];
        letter->digests[i].stored = letter->bytes + (content->digests[i].stored - content->bytes);
    }
}

/* What is told of catching up. */
static void say_step(struct cluster *c, uint32_t from, uint32_t to, const struct replica_message *m, uint32_t bytes)
{
    const struct replica_step *s = &m->u.step;
    if (m->kind == REPLICA_WANT)
        sim_say(c->sim, "node %u wants a step: base %llu, block %llu, applied %llu%s%s", from,
                (unsigned long long)s->learn.base, (unsigned long long)s->learn.cursor, (unsigned long long)s->learn.applied,
                s->check ? ", checking" : "", s->digested ? ", told" : "");
    if (m->kind == REPLICA_STEP)
        sim_say(c->sim, "node %u has a step for %u: %u records, %llu blocks, %u bytes%s%s%s, to %llu", from, to, s->count,
                (unsigned long long)s->stretch, bytes, s->gap ? ", a gap" : "", s->check ? ", check" : "",
                s->digested ? ", digest" : "", (unsigned long long)s->learn.applied);
    if (m->kind == REPLICA_FOLLOW) sim_say(c->sim, "node %u follows from %llu", from, (unsigned long long)s->mark.sequence);
    if (m->kind == REPLICA_AGAIN) sim_say(c->sim, "node %u tells %u to learn the rest", from, to);
}

static void wire_send(void *arg, uint8_t node, const struct replica_message *message, struct replica_content *content)
{
    struct cluster_node *from = arg;
    struct cluster *c = from->cluster;
    struct cluster_pipe *p = &c->pipe[from->number][node];
    if (p->session == 0 || p->cut) return;
    say_step(c, p->from, p->to, message, content != NULL ? content->used : 0);
    struct cluster_letter *letter = must(calloc(1, sizeof *letter));
    uint64_t after = list_empty(&p->letters) ? 0 : CONTAINER(p->letters.prev, struct cluster_letter, link)->at;
    letter->at = max64(after, io_now_ns(c->io) + (50 + cluster_below(c, c->delay_us)) * IO_US_NS);
    letter->message = *message;
    if (content != NULL) letter_fill(letter, content);
    list_push(&p->letters, &letter->link);
    pipe_arm(p);
}

static void link_set(struct cluster *c, uint32_t a, uint32_t b, uint64_t session)
{
    pipe_empty(&c->pipe[a][b]);
    pipe_empty(&c->pipe[b][a]);
    c->pipe[a][b].session = c->pipe[b][a].session = session;
    if (c->node[a].ready) host_link(c->node[a].host, (uint8_t)b, session);
    if (c->node[b].ready) host_link(c->node[b].host, (uint8_t)a, session);
}

void cluster_link_reset(struct cluster *c, uint32_t a, uint32_t b)
{
    if (a == b || !c->node[a].ready || !c->node[b].ready) return;
    sim_say(c->sim, "link between %u and %u is reset", a, b);
    link_set(c, a, b, 0);
    link_set(c, a, b, ++c->sessions);
}

/* ---- the register ---- */

static void ask_fires(struct io_timer *timer)
{
    struct cluster_ask *ask = CONTAINER(timer, struct cluster_ask, timer);
    struct cluster_node *n = ask->node;
    struct cluster *c = n->cluster;
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
    n->cluster->resets++;
    client_lost(n->cluster, n->number, false);
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
    TRY(contents_init(&n->contents, n->mem, CONTENTS));
    struct replica_host_config host = {
        .io = n->io,
        .store = n->store,
        .mem = n->mem,
        .contents = &n->contents,
        .volume = 1,
        .setup = {.node = (uint8_t)n->number, .timing = c->timing, .walk_blocks = 64, .strict = c->strict},
        .wires = {n, wire_send, wire_fetch, wire_propose, wire_fence, wire_reset},
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
    if (n->err != OK) {
        lab_fail(n->cluster->lab, "node %u does not start: %s", n->number, err_name(n->err));
        return;
    }
    n->ready = true;
    for (uint32_t other = 0; other < n->cluster->nodes; other++)
        if (other != n->number && n->cluster->node[other].ready) link_set(n->cluster, n->number, other, ++n->cluster->sessions);
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
    for (uint32_t other = 0; other < c->nodes; other++)
        if (other != node && c->pipe[node][other].session != 0) link_set(c, node, other, 0);
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
    disk_copy(sim_disk(c->sim, n->image), sim_disk(c->sim, blank_image));
    n->created = false;
    n->replaced = true;
    n->lacked = c->config.join[node];
    c->counts.replaced++;
    return true;
}

/* ---- a world ---- */

struct formatting {
    struct cluster *cluster;
    bool over;
    enum err err;
};

static void format_run(void *arg)
{
    struct formatting *f = arg;
    struct store_format_config config = {.device_count = 1, .segment_shift = SEGMENT_SHIFT};
    config.devices[0] = (struct store_device_config){.path = blank_image, .class = DEVICE_FLASH};
    snprintf(config.name, sizeof config.name, "cluster");
    f->err = store_format(f->cluster->io, &config);
    f->over = true;
}

static bool is_formatted(void *arg)
{
    const struct formatting *f = arg;
    return f->over;
}

static void blank_begin(struct cluster *c)
{
    struct io_task task;
    struct formatting f = {.cluster = c};
    sim_disk_create(c->sim, blank_image, IMAGE_BYTES);
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
    sim_disk_create(c->sim, n->image, IMAGE_BYTES);
    disk_copy(sim_disk(c->sim, n->image), sim_disk(c->sim, blank_image));
}

/* For what one rule is about. */
static void aim(struct cluster *c, int mutation)
{
    c->cut_power = c->cut_all = c->cut_links = c->cut_register = c->cut_paths = c->lose = c->lose_disk = 0;
    c->clients_count = CLUSTER_CLIENTS;
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
        break;
    case MUTATE_SESSION_UNTOLD: c->cut_paths = 900; break;
    default: break;
    }
}

static void draw(struct cluster *c)
{
    c->nodes = 2 + (uint32_t)cluster_below(c, 2);
    c->clients_count = 1 + (uint32_t)cluster_below(c, CLUSTER_CLIENTS);
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
}

void cluster_begin(struct cluster *c, struct lab *lab, const struct history_options *options)
{
    *c = (struct cluster){.lab = lab, .sim = lab->sim, .config = {.version = 1, .epoch = 1}};
    sim_reset(c->sim, options->seed, options->trace);
    c->io = sim_machine(c->sim, 0);
    prng_init(&c->prng, options->seed ^ 0xc1057e5);
    list_init(&c->asks);
    draw(c);
    if (options->mutation >= MUTATE_HOST) aim(c, options->mutation);
    plan_begin(c, plan_of(options->seed, options->mutation));
    uint64_t answer_us = max64(c->delay_us * 2, sim_latency_ns(c->sim) / IO_US_NS * 4);
    c->hasty = c->slow_reads || answer_us > c->timing.heartbeat_us / 2;
    if (c->slow_reads && sim_latency_ns(c->sim) < IO_MS_NS) sim_fault(c->sim, SIM_SLOW_READ, 100000, UINT32_MAX);
    blank_begin(c);
    for (uint32_t a = 0; a < CLUSTER_NODES; a++) {
        for (uint32_t b = 0; b < CLUSTER_NODES; b++) {
            c->pipe[a][b] = (struct cluster_pipe){.cluster = c, .from = a, .to = b, .timer.fire = pipe_fires};
            list_init(&c->pipe[a][b].letters);
        }
    }
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
    for (uint32_t a = 0; a < CLUSTER_NODES; a++)
        for (uint32_t b = 0; b < CLUSTER_NODES; b++) pipe_empty(&c->pipe[a][b]);
    for (struct list *l; (l = list_pop(&c->asks)) != NULL;) free(CONTAINER(l, struct cluster_ask, link));
    for (uint32_t i = 0; i < CLUSTER_CLIENTS; i++) {
        free(c->clients[i].data);
        free(c->clients[i].room);
    }
}
