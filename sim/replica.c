/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The world of replicas: what happens when.
 *
 * One heap of happenings, ordered by time and then by when they were planned. Each node has a clock that runs a little wrong
 * and starts anywhere. A frozen node's happenings wait until it thaws, in their order, while its disk goes on; the first that
 * its core then hears of is the time.
 */
#include "sim/replica.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "sim/must.h"
#include "store/mutation.h"
#include "volume/replica/codec.h"

bool world_failed(const struct world *w)
{
    return w->failure[0] != 0;
}

void world_fail(struct world *w, const char *format, ...)
{
    va_list values;
    if (world_failed(w) || w->lawless) return;
    int used = snprintf(w->failure, sizeof w->failure, "at %.6f s: ", (double)w->now / 1e6);
    va_start(values, format);
    vsnprintf(w->failure + used, sizeof w->failure - (size_t)used, format, values);
    va_end(values);
    if (w->trace) printf("%12.6f FAILURE %s\n", (double)w->now / 1e6, w->failure);
}

void world_say(struct world *w, const char *format, ...)
{
    va_list values;
    if (!w->trace) return;
    printf("%12.6f ", (double)w->now / 1e6);
    va_start(values, format);
    vprintf(format, values);
    va_end(values);
    printf("\n");
}

uint64_t world_below(struct world *w, uint64_t n)
{
    return prng_below(&w->prng, n);
}

bool world_chance(struct world *w, uint32_t per_thousand)
{
    return prng_below(&w->prng, 1000) < per_thousand;
}

/* ---- heap ---- */

/* The heap itself holds times and places only: it is walked a lot. */
static bool is_before(const struct world_time *a, const struct world_time *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static uint32_t place_new(struct world *w)
{
    if (w->place_free == 0) {
        uint32_t room = w->place_room * 2 + 256;
        w->places = must(realloc(w->places, room * sizeof *w->places));
        for (uint32_t i = room - 1; i >= w->place_room && i > 0; i--) {
            w->places[i].a = w->place_free;
            w->place_free = i;
        }
        w->place_room = room;
        w->heap = must(realloc(w->heap, room * sizeof *w->heap));
    }
    uint32_t place = w->place_free;
    w->place_free = (uint32_t)w->places[place].a;
    return place;
}

static void heap_push(struct world *w, const struct happening *h)
{
    struct world_time entry = {.at = h->at, .order = h->order, .place = place_new(w)};
    w->places[entry.place] = *h;
    uint32_t i = w->heap_count++;
    for (; i > 0 && is_before(&entry, &w->heap[(i - 1) / 4]); i = (i - 1) / 4) w->heap[i] = w->heap[(i - 1) / 4];
    w->heap[i] = entry;
}

static uint32_t least_child(const struct world *w, uint32_t i)
{
    uint32_t least = 4 * i + 1;
    for (uint32_t child = least + 1; child < w->heap_count && child <= 4 * i + 4; child++)
        if (is_before(&w->heap[child], &w->heap[least])) least = child;
    return least;
}

static struct happening heap_pop(struct world *w)
{
    uint32_t place = w->heap[0].place, i = 0;
    struct happening first = w->places[place];
    struct world_time last = w->heap[--w->heap_count];
    w->places[place].a = w->place_free;
    w->place_free = place;
    for (uint32_t child; 4 * i + 1 < w->heap_count; i = child) {
        child = least_child(w, i);
        if (!is_before(&w->heap[child], &last)) break;
        w->heap[i] = w->heap[child];
    }
    w->heap[i] = last;
    return first;
}

void world_plan_it(struct world *w, uint64_t in, const struct happening *h)
{
    struct happening copy = *h;
    copy.at = w->now + in;
    copy.order = ++w->order;
    heap_push(w, &copy);
}

uint32_t world_letter(struct world *w)
{
    if (w->letter_free == 0) {
        uint32_t room = w->letter_room * 2 + 64;
        w->letters = must(realloc(w->letters, room * sizeof *w->letters));
        for (uint32_t i = room - 1; i >= w->letter_room && i > 0; i--) {
            w->letters[i].next = w->letter_free;
            w->letter_free = i;
        }
        w->letter_room = room;
    }
    uint32_t i = w->letter_free;
    w->letter_free = w->letters[i].next;
    return i;
}

static void letter_free(struct world *w, uint32_t letter)
{
    if (letter == 0) return;
    w->letters[letter].next = w->letter_free;
    w->letter_free = letter;
}

/* ---- clocks ---- */

static uint64_t clock_of(const struct world *w, uint32_t node)
{
    const struct world_node *n = &w->nodes[node];
    uint64_t since = w->now > n->clock_from ? w->now - n->clock_from : 0;
    return n->clock_base + since + (uint64_t)((int64_t)since * n->rate_ppm / 1000000);
}

static void timer_set(struct world *w, uint32_t node)
{
    struct world_node *n = &w->nodes[node];
    uint64_t due = replica_deadline(n->core), clock = clock_of(w, node);
    uint64_t in = due > clock ? due - clock : 0;
    in += in / 20 + 1; /* the clock may be slow; a timer that comes a little late is no harm */
    if (n->timer_at > w->now && n->timer_at <= w->now + in) return;
    n->timer_at = w->now + in;
    world_plan_it(w, in, &(struct happening){.kind = HAPPEN_TIMER, .node = (uint8_t)node, .life = n->life});
}

/* ---- effects ---- */

static uint64_t latency(struct world *w, uint32_t from, uint32_t to)
{
    if (!w->plan.reorder || w->calm) {
        uint64_t at = max64(w->now + w->delay[from][to] + 50 + world_below(w, 300), w->delivered[from][to] + 1);
        w->delivered[from][to] = at;
        return at - w->now;
    }
    uint64_t promise = w->plan.timing.promise_us;
    if (world_chance(w, 3)) return world_below(w, promise * 5);
    return world_chance(w, 100) ? world_below(w, promise / 20) : 50 + world_below(w, 1000);
}

static void say_message(struct world *w, uint32_t from, uint32_t to, const struct replica_message *m)
{
    static const char *const kinds[] = {"heartbeat", "ack",  "record", "prepared", "commit", "forward", "confirm", "confirmed",
                                        "done",      "want", "step",   "follow",   "again",  "ask",     "agreed"};
    if (!w->trace || m->kind <= REPLICA_HEARTBEAT_ACK) return;
    uint64_t number = 0;
    if (m->kind == REPLICA_RECORD) number = m->u.record.mark.sequence;
    if (m->kind == REPLICA_PREPARED) number = m->u.prepared.sequence;
    if (m->kind == REPLICA_WANT || m->kind == REPLICA_STEP) number = m->u.step.learn.cursor;
    world_say(w, "%u to %u: %s %llu, epoch %u, commit %llu%s", from, to, kinds[m->kind], (unsigned long long)number, m->epoch,
              (unsigned long long)m->commit, w->cut[from][to] || w->session[from][to] == 0 ? " (lost)" : "");
}

/* Content has the names of the model, which no wire carries. */
static void name_content(const struct replica_message *m, struct replica_message *to)
{
    if (m->kind == REPLICA_RECORD) to->u.record.change.body = m->u.record.change.body;
    if (m->kind == REPLICA_FORWARD) to->u.forward.change.body = m->u.forward.change.body;
    if (m->kind != REPLICA_STEP) return;
    if (m->u.step.stretch != 0) to->u.step.body = m->u.step.body;
    for (uint32_t i = 0; i < m->u.step.count; i++) to->u.step.records[i].change.body = m->u.step.records[i].change.body;
}

/* What comes out of the wire at the other end; false: no wire takes it. That may be after messages that somebody made up, or
 * with a rule switched off; then there is no wire, so that what follows is seen. */
static bool through_the_wire(struct world *w, const struct replica_message *m, struct replica_message *ret_message)
{
    uint8_t head[LINK_HEAD_MAX];
    uint32_t volume = 0;
    *ret_message = *m;
    if (store_mutation != MUTATE_NONE) return true;
    uint32_t bytes = replica_encode(1, m, head);
    if (bytes == 0) {
        world_fail(w, "no wire takes a message of kind %d", (int)m->kind);
        w->unsaid++;
        return false;
    }
    enum err err = replica_decode(head, bytes, &volume, ret_message);
    assert(err == OK && volume == 1);
    name_content(m, ret_message);
    return true;
}

static void send(struct world *w, uint32_t from, uint32_t to, const struct replica_message *m)
{
    say_message(w, from, to, m);
    if (w->cut[from][to] || w->session[from][to] == 0) return;
    uint32_t times = w->plan.reorder && !w->calm && world_chance(w, 20) ? 2 : 1;
    for (uint32_t i = 0; i < times; i++) {
        struct replica_message there;
        if (!through_the_wire(w, m, &there)) return;
        uint32_t letter = world_letter(w);
        w->letters[letter].message = there;
        world_plan_it(w, latency(w, from, to),
                      &(struct happening){
                          .kind = HAPPEN_MESSAGE, .node = (uint8_t)to, .a = from, .b = w->session[from][to], .letter = letter});
    }
}

static uint64_t register_latency(struct world *w)
{
    uint64_t us = w->register_delay + 200 + world_below(w, 2000);
    if (w->register_slow_until > w->now && world_chance(w, 400)) us += world_below(w, w->plan.timing.promise_us * 5);
    return us;
}

static void ask_register(struct world *w, uint32_t node, const struct replica_config *propose)
{
    struct world_node *n = &w->nodes[node];
    if (n->register_cut) return;
    uint32_t letter = world_letter(w);
    w->letters[letter].config = propose != NULL ? *propose : (struct replica_config){0};
    world_plan_it(w, register_latency(w),
                  &(struct happening){.kind = HAPPEN_REGISTER, .a = node, .b = n->life, .letter = letter});
}

static void fence(struct world *w, uint32_t node, uint32_t victim)
{
    world_say(w, "node %u fences node %u%s", node, victim, w->fence_fails ? ", in vain" : "");
    if (w->fence_fails) return;
    w->fences++;
    if (w->nodes[victim].up)
        world_plan_it(w, 1000 + world_below(w, w->plan.timing.promise_us),
                      &(struct happening){.kind = HAPPEN_BOOT, .node = (uint8_t)victim});
    world_crash(w, victim);
    store_note(w, node, 500, &(struct replica_event){.kind = REPLICA_ON_FENCED, .node = (uint8_t)victim});
}

static const char *const role_names[] = {"unknown", "owner", "in sync", "learner", "outside"};

static void act(void *arg, const struct replica_effect *e)
{
    struct world *w = arg;
    uint32_t node = w->acting;
    switch (e->kind) {
    case REPLICA_DO_FETCH: ask_register(w, node, NULL); break;
    case REPLICA_DO_PROPOSE:
        world_say(w, "node %u proposes version %llu: epoch %u, owner %u, in sync %x", node,
                  (unsigned long long)e->config->version, e->config->epoch, e->config->owner, e->config->in_sync);
        ask_register(w, node, e->config);
        break;
    case REPLICA_DO_SEND: send(w, node, e->node, e->message); break;
    case REPLICA_DO_FENCE: fence(w, node, e->node); break;
    case REPLICA_DO_ANSWER:
    case REPLICA_DO_READ:
    case REPLICA_DO_REFUSE:
    case REPLICA_DO_RESET: client_effect(w, node, e); break;
    case REPLICA_DO_PREPARE:
    case REPLICA_DO_PUBLISH:
    case REPLICA_DO_DISCARD:
    case REPLICA_DO_WALK:
    case REPLICA_DO_APPLY:
    case REPLICA_DO_DIGEST:
    case REPLICA_DO_LEARNED: store_effect(w, node, e); break;
    }
}

static void step_raw(struct world *w, uint32_t node, struct replica_event *event)
{
    struct world_node *n = &w->nodes[node];
    struct replica_status before, after;
    if (w->trace) replica_status(n->core, &before);
    event->now = n->last = clock_of(w, node);
    w->acting = (uint8_t)node;
    w->happened++;
    replica_step(n->core, event);
    if (!w->trace) return;
    replica_status(n->core, &after);
    if (before.role == after.role && before.config.version == after.config.version && before.open == after.open) return;
    world_say(w, "node %u: version %llu, epoch %u, %s%s, committed %llu, end %llu", node,
              (unsigned long long)after.config.version, after.config.epoch, role_names[after.role], after.open ? ", open" : "",
              (unsigned long long)after.committed.sequence, (unsigned long long)after.end);
}

bool world_was_still(const struct world *w, uint32_t node)
{
    return clock_of(w, node) - w->nodes[node].last > w->plan.timing.heartbeat_us;
}

/* After a pause the time comes first. */
void world_step(struct world *w, uint32_t node, struct replica_event *event)
{
    if (event->kind != REPLICA_ON_TICK && world_was_still(w, node))
        step_raw(w, node, &(struct replica_event){.kind = REPLICA_ON_TICK});
    step_raw(w, node, event);
    timer_set(w, node);
}

/* ---- nodes and links ---- */

static void link_up(struct world *w, uint32_t a, uint32_t b)
{
    w->session[a][b] = w->session[b][a] = ++w->sessions;
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t node = i == 0 ? a : b, peer = i == 0 ? b : a;
        world_plan_it(
            w, 100 + world_below(w, 2000),
            &(struct happening){
                .kind = HAPPEN_LINK, .node = (uint8_t)node, .life = w->nodes[node].life, .a = peer, .b = w->session[a][b]});
    }
}

static void link_down(struct world *w, uint32_t a, uint32_t b)
{
    w->session[a][b] = w->session[b][a] = 0;
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t node = i == 0 ? a : b, peer = i == 0 ? b : a;
        world_plan_it(w, 10,
                      &(struct happening){.kind = HAPPEN_LINK, .node = (uint8_t)node, .life = w->nodes[node].life, .a = peer});
    }
}

void world_link_reset(struct world *w, uint32_t a, uint32_t b)
{
    if (!w->nodes[a].up || !w->nodes[b].up) return;
    world_say(w, "link between %u and %u is reset", a, b);
    link_down(w, a, b);
    link_up(w, a, b);
}

void world_boot(struct world *w, uint32_t node)
{
    struct world_node *n = &w->nodes[node];
    struct replica_facts facts;
    static struct replica_record room[WORLD_TAIL];
    if (n->up) return;
    struct replica_status old;
    replica_status(n->core, &old);
    store_facts(w, node, room, &facts);
    facts.config = old.config;
    n->up = true;
    n->life++;
    n->frozen_until = 0;
    n->timer_at = 0;
    n->sessions_from = ++w->sessions;
    n->clock_from = w->now;
    n->clock_base = 1000000 + world_below(w, 100000000);
    n->rate_ppm = (int64_t)world_below(w, (uint64_t)w->plan.drift_ppm * 2 + 1) - w->plan.drift_ppm;
    n->last = n->clock_base;
    facts.boot = n->life;
    struct replica_setup setup = {.node = (uint8_t)node,
                                  .timing = w->plan.timing,
                                  .walk_blocks = w->plan.walk_blocks,
                                  .strict = w->plan.strict,
                                  .fence = w->plan.fence,
                                  .arg = w,
                                  .effect = act};
    world_say(w, "node %u starts, committed %llu, tail %u", node, (unsigned long long)facts.committed.sequence, facts.tail);
    w->acting = (uint8_t)node;
    replica_open(n->core, &setup, &facts, n->clock_base);
    timer_set(w, node);
    for (uint32_t other = 0; other < w->plan.nodes; other++)
        if (other != node && w->nodes[other].up) link_up(w, node, other);
}

void world_counts_add(struct replica_counts *sum, const struct replica_counts *more)
{
    uint64_t *to = (uint64_t *)(void *)sum;
    const uint64_t *from = (const uint64_t *)(const void *)more;
    for (size_t i = 0; i < sizeof *sum / sizeof *to; i++) to[i] += from[i];
}

void world_crash(struct world *w, uint32_t node)
{
    struct world_node *n = &w->nodes[node];
    if (!n->up) return;
    world_say(w, "node %u dies", node);
    world_counts_add(&w->counts, replica_counts(n->core));
    n->up = false;
    n->life++;
    store_crash(w, node);
    for (uint32_t other = 0; other < w->plan.nodes; other++)
        if (other != node && w->session[node][other] != 0) link_down(w, node, other);
    client_node_gone(w, node);
}

void world_freeze(struct world *w, uint32_t node, uint64_t us)
{
    if (!w->nodes[node].up) return;
    world_say(w, "node %u stands still for %.3f s", node, (double)us / 1e6);
    w->nodes[node].frozen_until = max64(w->nodes[node].frozen_until, w->now + us);
}

void world_suspend(struct world *w, uint32_t node, uint64_t us)
{
    struct world_node *n = &w->nodes[node];
    n->clock_base = clock_of(w, node);
    n->clock_from = w->now + us;
    world_freeze(w, node, us);
}

/* ---- happenings ---- */

bool world_holds(const struct world *w, const struct replica_config *config, uint32_t node)
{
    uint64_t join = w->nodes[node].store->durable.join;
    return set_has(config->in_sync, node) && join == config->join[node] && join != w->nodes[node].put_back;
}

/* The budget of faults: a value under which nobody has everything any more got lost on its way. */
static bool is_lost(const struct world *w, const struct replica_config *config)
{
    for (uint32_t i = 0; i < w->plan.nodes; i++)
        if (world_holds(w, config, i)) return false;
    return config->forced_epoch == 0;
}

static void at_register(struct world *w, const struct happening *h)
{
    const struct replica_config *c = &w->letters[h->letter].config;
    if (c->version == w->config.version + 1 && !is_lost(w, c)) {
        w->config = *c;
        world_say(w, "register: version %llu, epoch %u, owner %u, in sync %x", (unsigned long long)c->version, c->epoch,
                  c->owner, c->in_sync);
    }
    if (w->nodes[h->a].register_cut || (!w->calm && world_chance(w, 50))) return;
    uint32_t letter = world_letter(w);
    w->letters[letter].config = w->config;
    world_plan_it(w, register_latency(w),
                  &(struct happening){.kind = HAPPEN_CONFIG, .node = (uint8_t)h->a, .life = (uint32_t)h->b, .letter = letter});
}

static void at_node(struct world *w, const struct happening *h)
{
    struct replica_event e = {0};
    struct replica_message message;
    struct replica_config config;
    switch (h->kind) {
    case HAPPEN_TIMER: e.kind = REPLICA_ON_TICK; break;
    case HAPPEN_LINK:
        e.kind = REPLICA_ON_LINK;
        e.node = (uint8_t)h->a;
        e.session = h->b;
        if (h->b != 0 && h->b != w->session[h->node][h->a]) return;
        break;
    case HAPPEN_MESSAGE:
        if (h->b != w->session[h->a][h->node] && (!w->plan.reorder || w->calm)) return;
        message = w->letters[h->letter].message;
        if (message.kind == REPLICA_STEP && message.u.step.stretch != 0 &&
            w->content_count - message.u.step.body >= WORLD_CONTENTS)
            return; /* its content is lost */
        e.kind = REPLICA_ON_MESSAGE;
        e.message = &message;
        break;
    case HAPPEN_CONFIG:
        if (w->nodes[h->node].register_cut) return;
        config = w->letters[h->letter].config;
        e.kind = REPLICA_ON_CONFIG;
        e.config = &config;
        break;
    case HAPPEN_NOTE:
        e = w->letters[h->letter].event;
        w->nodes[h->node].store->space += e.credit;
        if (e.kind == REPLICA_ON_WALKED) store_walked(w, h->node, &e);
        break;
    case HAPPEN_SYNC:
    case HAPPEN_REGISTER:
    case HAPPEN_COMMAND:
    case HAPPEN_LOST:
    case HAPPEN_MAP_READ:
    case HAPPEN_ANSWER:
    case HAPPEN_CLIENT:
    case HAPPEN_PUMP:
    case HAPPEN_FAULT:
    case HAPPEN_MEND:
    case HAPPEN_BOOT: abort();
    }
    world_step(w, h->node, &e);
}

/* False: put off, its letter stays. */
static bool happen(struct world *w, const struct happening *h)
{
    struct world_node *n = &w->nodes[h->node];
    bool at_a_core = h->kind == HAPPEN_TIMER || h->kind == HAPPEN_LINK || h->kind == HAPPEN_MESSAGE ||
                     h->kind == HAPPEN_CONFIG || h->kind == HAPPEN_NOTE || h->kind == HAPPEN_COMMAND ||
                     h->kind == HAPPEN_LOST || h->kind == HAPPEN_MAP_READ;
    if (at_a_core && (!n->up || (h->life != 0 && h->life != n->life))) return true;
    if (at_a_core && n->frozen_until > w->now) {
        struct happening later = *h;
        later.at = n->frozen_until;
        heap_push(w, &later);
        return false;
    }
    switch (h->kind) {
    case HAPPEN_TIMER:
    case HAPPEN_MESSAGE:
    case HAPPEN_LINK:
    case HAPPEN_CONFIG:
    case HAPPEN_NOTE: at_node(w, h); break;
    case HAPPEN_SYNC: store_happens(w, h); break;
    case HAPPEN_REGISTER: at_register(w, h); break;
    case HAPPEN_COMMAND:
    case HAPPEN_LOST:
    case HAPPEN_MAP_READ:
    case HAPPEN_ANSWER: client_happens(w, h); break;
    case HAPPEN_CLIENT: client_wakes(w, (uint32_t)h->a, h->b); break;
    case HAPPEN_PUMP: client_pumps(w); break;
    case HAPPEN_FAULT: fault_happens(w); break;
    case HAPPEN_MEND: fault_mends(w, h); break;
    case HAPPEN_BOOT: world_boot(w, h->node); break;
    }
    return true;
}

void world_run(struct world *w, uint64_t until)
{
    while (!world_failed(w) && w->heap_count > 0 && w->heap[0].at <= until) {
        struct happening h = heap_pop(w);
        w->now = h.at;
        if (happen(w, &h)) letter_free(w, h.letter);
    }
    if (!world_failed(w)) w->now = until;
}

/* ---- a world ---- */

struct world *world_open(void)
{
    struct world *w = must(calloc(1, sizeof *w));
    for (uint32_t i = 0; i < WORLD_NODES; i++) {
        w->nodes[i].core = must(calloc(1, replica_size()));
        w->nodes[i].store = must(calloc(1, sizeof *w->nodes[i].store));
        w->nodes[i].image = must(calloc(1, sizeof *w->nodes[i].image));
    }
    return w;
}

void world_close(struct world *w)
{
    for (uint32_t i = 0; i < WORLD_NODES; i++) {
        free(w->nodes[i].core);
        free(w->nodes[i].store);
        free(w->nodes[i].image);
    }
    free(w->heap);
    free(w->places);
    free(w->letters);
    free(w);
}

void world_begin(struct world *w, uint64_t seed, const struct world_plan *plan, bool trace)
{
    struct world fresh = {.heap = w->heap,
                          .places = w->places,
                          .place_room = w->place_room,
                          .letters = w->letters,
                          .letter_room = w->letter_room,
                          .unsaid = w->unsaid};
    for (uint32_t i = 0; i < WORLD_NODES; i++) {
        fresh.nodes[i].core = w->nodes[i].core;
        fresh.nodes[i].store = w->nodes[i].store;
        fresh.nodes[i].image = w->nodes[i].image;
        memset(w->nodes[i].core, 0, replica_size());
    }
    *w = fresh;
    for (uint32_t i = w->letter_room; i-- > 1;) {
        w->letters[i].next = w->letter_free;
        w->letter_free = i;
    }
    for (uint32_t i = w->place_room; i-- > 1;) {
        w->places[i].a = w->place_free;
        w->place_free = i;
    }
    prng_init(&w->prng, seed);
    w->plan = *plan;
    w->trace = trace;
    w->config = (struct replica_config){.version = 1, .epoch = 1};
    for (uint32_t i = 0; i < plan->replicas; i++) {
        w->config.in_sync |= node_bit(i);
        w->config.join[i] = 1;
    }
    for (uint32_t i = 0; i < plan->nodes; i++) {
        store_begin(w->nodes[i].store, i < plan->replicas ? 1 : 0, plan->capacity);
        w->nodes[i].refill = 0;
        world_boot(w, i);
    }
    for (uint32_t i = 0; i < plan->clients; i++)
        world_plan_it(w, world_below(w, 10000), &(struct happening){.kind = HAPPEN_CLIENT, .a = i});
    if (plan->pump_us != 0) world_plan_it(w, plan->pump_us, &(struct happening){.kind = HAPPEN_PUMP});
}
