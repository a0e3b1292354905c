/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The seam of io.h on simulated time: one heap of events, one ring of messages, and whoever runs them. Files are in files.c,
 * connections in net.c.
 */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "sim/must.h"
#include "sim/world.h"

/* A wait hangs when it took so many events and so long; devices that are stuck may have somebody poll for a while. */
#define EVENTS_LIMIT 400000u
#define WAIT_LIMIT_NS 3600000000000u

/* ---- the story ---- */

void sim_note(struct sim *sim, uint64_t what)
{
    sim->hash = (sim->hash ^ what) * 0x9e3779b97f4a7c15u;
    sim->hash ^= sim->hash >> 29;
}

void sim_say(struct sim *sim, const char *format, ...)
{
    if (!sim->trace) return;
    va_list args;
    printf("%12.3f ms  ", (double)sim->now / 1e6);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
    fflush(stdout);
}

/* ---- the heap of events ---- */

static bool event_before(const struct event *a, const struct event *b)
{
    return a->at != b->at ? a->at < b->at : a->tie < b->tie;
}

static void event_place(struct sim *sim, uint32_t place, struct event event)
{
    sim->heap[place] = event;
    if (event.kind == EVENT_TIMER) ((struct io_timer *)event.what)->place = place;
}

static void event_rise(struct sim *sim, uint32_t place, struct event event)
{
    for (; place > 1 && event_before(&event, &sim->heap[place / 2]); place /= 2) event_place(sim, place, sim->heap[place / 2]);
    event_place(sim, place, event);
}

static void event_sink(struct sim *sim, uint32_t place, struct event event)
{
    for (uint32_t child; (child = 2 * place) <= sim->events; place = child) {
        if (child < sim->events && event_before(&sim->heap[child + 1], &sim->heap[child])) child++;
        if (!event_before(&sim->heap[child], &event)) break;
        event_place(sim, place, sim->heap[child]);
    }
    event_place(sim, place, event);
}

static void event_add(struct sim *sim, struct event event)
{
    if (sim->events + 1 >= sim->event_room) {
        sim->event_room = sim->event_room ? 2 * sim->event_room : 256;
        sim->heap = must(realloc(sim->heap, sim->event_room * sizeof *sim->heap));
    }
    event_rise(sim, ++sim->events, event);
}

void event_push(struct io *io, enum event_kind kind, void *what, uint64_t delay_ns)
{
    struct sim *sim = io->sim;
    event_add(sim, (struct event){sim->now + delay_ns, prng_next(&sim->schedule), kind, io->number, what});
}

static struct event event_take(struct sim *sim, uint32_t place)
{
    struct event taken = sim->heap[place];
    struct event last = sim->heap[sim->events--];
    if (place <= sim->events) {
        if (event_before(&last, &taken))
            event_rise(sim, place, last);
        else
            event_sink(sim, place, last);
    }
    if (taken.kind == EVENT_TIMER) ((struct io_timer *)taken.what)->place = 0;
    return taken;
}

void events_forget(struct sim *sim, const struct io *of)
{
    struct event *old = sim->heap;
    uint32_t events = sim->events, sent = sim->sent_count;
    sim->events = sim->sent_count = 0;
    for (uint32_t i = 1; of && i <= events; i++)
        if (old[i].machine != of->number) event_rise(sim, ++sim->events, (struct event)old[i]);
    for (uint32_t i = 0; of && i < sent; i++) {
        struct sent message = sim->sent[(sim->sent_first + i) % sim->sent_room];
        if (message.machine != of->number) sim->sent[(sim->sent_first + sim->sent_count++) % sim->sent_room] = message;
    }
    if (of == NULL) sim->sent_first = 0;
}

/* ---- time, chance, timers, messages, jobs ---- */

bool io_is_current(const struct io *io)
{
    (void)io;
    return true;
}

uint64_t io_now_ns(struct io *io)
{
    return io->sim->now;
}

void io_random(struct io *io, void *buf, size_t size)
{
    prng_fill(&io->sim->bytes, buf, size);
}

void io_after(struct io *io, uint64_t delay_ns, struct io_timer *timer)
{
    assert(timer->place == 0);
    timer->due_ns = io->sim->now + delay_ns;
    event_push(io, EVENT_TIMER, timer, delay_ns);
}

void io_cancel(struct io *io, struct io_timer *timer)
{
    if (timer->place == 0) return;
    assert(io->sim->heap[timer->place].what == timer);
    event_take(io->sim, timer->place);
}

void io_send(struct io *to, struct io_msg *msg)
{
    struct sim *sim = to->sim;
    if (sim->sent_count == sim->sent_room) {
        uint32_t room = sim->sent_room ? 2 * sim->sent_room : 64;
        struct sent *sent = must(malloc(room * sizeof *sent));
        for (uint32_t i = 0; i < sim->sent_count; i++) sent[i] = sim->sent[(sim->sent_first + i) % sim->sent_room];
        free(sim->sent);
        sim->sent = sent;
        sim->sent_room = room;
        sim->sent_first = 0;
    }
    uint32_t last = (sim->sent_first + sim->sent_count - 1) % sim->sent_room;
    uint64_t at = sim->now + prng_below(&sim->schedule, 2000);
    if (sim->sent_count > 0) at = max64(at, sim->sent[last].at);
    sim->sent[(sim->sent_first + sim->sent_count++) % sim->sent_room] = (struct sent){at, to->number, msg};
}

void io_submit_job(struct io *io, struct io_job *job)
{
    job->owner = io;
    event_push(io, EVENT_JOB, job, prng_below(&io->sim->schedule, 20000));
}

void io_memory_large(void *at, size_t size)
{
    (void)at;
    (void)size;
}

/* ---- running ---- */

/* What a machine that is frozen would do now, it does when it is not any more, in any order. */
static bool is_put_off(struct sim *sim, struct event event)
{
    uint64_t until = sim->machines[event.machine].frozen_until;
    if (sim->now >= until) return false;
    event.at = until;
    if (event.kind != EVENT_MESSAGE) event.tie = prng_next(&sim->schedule);
    event_rise(sim, ++sim->events, event);
    return true;
}

static void run_message(struct sim *sim)
{
    struct sent sent = sim->sent[sim->sent_first];
    sim->sent_first = (sim->sent_first + 1) % sim->sent_room;
    sim->sent_count--;
    struct io *to = &sim->machines[sent.machine];
    if (sim->now < to->frozen_until) { /* messages keep theirs among each other */
        event_add(sim, (struct event){to->frozen_until, to->frozen_tie++, EVENT_MESSAGE, to->number, sent.msg});
        return;
    }
    sim_note(sim, sim->now + 1);
    sent.msg->handle(sent.msg);
}

static void run_event(struct sim *sim)
{
    struct event event = event_take(sim, 1);
    if (is_put_off(sim, event)) return;
    sim_note(sim, sim->now + ((uint64_t)event.kind << 62));
    switch (event.kind) {
    case EVENT_OP: op_complete(sim, event.what); break;
    case EVENT_TIMER: {
        struct io_timer *timer = event.what;
        timer->fire(timer);
        break;
    }
    case EVENT_JOB: {
        struct io_job *job = event.what;
        job->work(job);
        job->done(job);
        break;
    }
    case EVENT_MESSAGE: {
        struct io_msg *msg = event.what;
        msg->handle(msg);
        break;
    }
    }
}

bool sim_step(struct sim *sim)
{
    if (sim->sent_count == 0 && sim->events == 0) return false;
    bool message = sim->sent_count > 0 && (sim->events == 0 || sim->sent[sim->sent_first].at <= sim->heap[1].at);
    sim->now = max64(sim->now, message ? sim->sent[sim->sent_first].at : sim->heap[1].at);
    if (message)
        run_message(sim);
    else
        run_event(sim);
    return true;
}

enum sim_end sim_run_until(struct sim *sim, bool (*done)(void *arg), void *arg)
{
    bool was_off = sim->off;
    uint64_t since = sim->now;
    for (uint64_t round = 0; round < EVENTS_LIMIT || sim->now - since < WAIT_LIMIT_NS; round++) {
        if (round >= 100 * (uint64_t)EVENTS_LIMIT) break; /* no time passes at all */
        if (done(arg)) return SIM_DONE;
        if (sim->off && !was_off) return SIM_OFF;
        if (!sim_step(sim)) return SIM_IDLE;
    }
    return SIM_LIMIT;
}

enum sim_end sim_run_for(struct sim *sim, uint64_t events, uint64_t span_ns)
{
    uint64_t until = sim->now + span_ns;
    for (; events > 0; events--) {
        bool next = sim->sent_count > 0 || (sim->events > 0 && sim->heap[1].at <= until);
        if (sim->off) return SIM_OFF;
        if (!next) {
            if (sim->now < until) sim->now = until; /* a step may have run on by itself (sim_run_until) */
            break;
        }
        sim_step(sim);
    }
    if (sim->off) return SIM_OFF;
    return sim->sent_count + sim->events > 0 ? SIM_DONE : SIM_IDLE;
}

/* ---- life ---- */

/* A seed draws what kind of devices it has: latencies from 10 us to 5 ms, from steady to wild. */
static void seed_all(struct sim *sim, uint64_t seed, bool trace)
{
    prng_init(&sim->schedule, seed);
    prng_init(&sim->fate, seed ^ 0xfa7e);
    prng_init(&sim->bytes, seed ^ 0xb17e5);
    net_seed(sim->net, seed);
    sim->now = 1000000000;
    sim->latency_ns = 10000u << prng_below(&sim->schedule, 10);
    sim->spread = 1 + (uint32_t)prng_below(&sim->schedule, 8);
    sim->trace = trace;
    sim->changes = sim->reads = sim->cut_at = 0;
    sim->off = false;
    for (int i = 0; i < SIM_MACHINES_MAX; i++) sim->machines[i].off = false;
    for (int i = 0; i < SIM_MACHINES_MAX; i++) sim->machines[i].frozen_until = 0;
    sim->hash = seed;
    sim->damages = 0;
    sim->fault_only = UINT32_MAX;
    memset(sim->odds, 0, sizeof sim->odds);
    memset(sim->left, 0, sizeof sim->left);
    memset(sim->struck, 0, sizeof sim->struck);
}

struct sim *sim_open(uint64_t seed, bool trace)
{
    struct sim *sim = must(calloc(1, sizeof *sim));
    for (uint32_t i = 0; i < SIM_MACHINES_MAX; i++) {
        sim->machines[i] = (struct io){.sim = sim, .number = i};
        list_init(&sim->machines[i].pending);
    }
    list_init(&sim->files);
    page_pool_init(&sim->pool);
    sim->net = net_open(sim);
    seed_all(sim, seed, trace);
    return sim;
}

void sim_reset(struct sim *sim, uint64_t seed, bool trace)
{
    forget_all(sim);
    places_clear(sim);
    seed_all(sim, seed, trace);
}

void sim_close(struct sim *sim)
{
    if (!sim) return;
    sim_reset(sim, 0, false);
    page_pool_done(&sim->pool);
    net_close(sim->net);
    free(sim->heap);
    free(sim->sent);
    free(sim);
}

struct net *net_of(const struct sim *sim)
{
    return sim->net;
}

struct net *net_of_loop(const struct io *io)
{
    return io->sim->net;
}

struct io *sim_loop(struct sim *sim)
{
    return sim_machine(sim, 0);
}

struct io *sim_machine(struct sim *sim, uint32_t number)
{
    assert(number < SIM_MACHINES_MAX);
    return &sim->machines[number];
}

uint64_t sim_now_ns(const struct sim *sim)
{
    return sim->now;
}

uint64_t sim_changes(const struct sim *sim)
{
    return sim->changes;
}

uint64_t sim_reads(const struct sim *sim)
{
    return sim->reads;
}

uint64_t sim_latency_ns(const struct sim *sim)
{
    return (sim->latency_ns << sim->spread) / sim->spread + sim->latency_ns / 2;
}

uint64_t sim_hash(const struct sim *sim)
{
    return sim->hash;
}

uint32_t sim_files_open(const struct sim *sim)
{
    return sim->files_open;
}
