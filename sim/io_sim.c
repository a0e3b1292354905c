/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The seam of io.h on simulated time; connections are in net.c.
 *
 * An operation meets its fate when it is submitted (struct io_op keeps it in `tries`) and has its effect when it is
 * completed: a read returns what is there then, a write reads its buffer then. So a caller that changes a buffer, or reuses
 * a place, under an operation in flight is caught. Operations under way are in the `pending` of their machine, in the order of
 * submission, because a power cut settles them in this order after all that was completed.
 *
 * Three streams of chance come from the seed: the schedule, the faults, and io_random. So a fault budget can change without
 * changing the bytes of the pool's secret.
 */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/hash.h"
#include "io/io.h"
#include "sim/must.h"
#include "sim/net.h"

/* A wait hangs when it took so many events and so long; devices that are stuck may have somebody poll for a while. */
#define EVENTS_LIMIT 400000u
#define WAIT_LIMIT_NS 3600000000000u
enum { DISKS_MAX = 32, DAMAGE_MAX = 64, ALIGN = 4096 };

enum op_kind { OP_READ, OP_WRITE, OP_SYNC, OP_DISCARD };

/* What becomes of an operation: 0, or a fault and 1. */
enum { FATE_FINE = 0, FATE_DEAD = 255 }; /* DEAD: its disk vanished or its power went, the effect is settled */

enum event_kind { EVENT_OP, EVENT_TIMER, EVENT_JOB };

struct event {
    uint64_t at, tie;
    enum event_kind kind;
    uint32_t machine;
    void *what;
};

struct sent {
    uint64_t at;
    uint32_t machine;
    struct io_msg *msg;
};

struct io_file {
    struct list link;
    struct io *io;
    struct sim_place *place;
    unsigned flags;
    uint32_t under_way;
};

/* A name in the world. */
struct sim_place {
    struct disk *disk, *saved;
    bool vanished;
    uint32_t readers, writers; /* locks */
};

/* A machine: its one loop. */
struct io {
    struct sim *sim;
    uint32_t number;
    bool off;
    struct list pending;
};

struct sim {
    struct io machines[SIM_MACHINES_MAX];
    struct prng schedule, fate, bytes;
    uint64_t now;
    struct event *heap; /* from 1 */
    uint32_t events, event_room;
    struct sent *sent; /* ring */
    uint32_t sent_first, sent_count, sent_room;
    struct list files;
    uint32_t files_open;
    struct page_pool pool;
    struct net *net;
    struct sim_place places[DISKS_MAX];
    uint64_t latency_ns; /* of this seed */
    uint32_t spread;     /* of latencies, powers of two */
    uint64_t changes, reads, cut_at;
    bool off, trace;
    uint64_t hash;
    uint32_t odds[SIM_FAULTS], left[SIM_FAULTS];
    uint64_t struck[SIM_FAULTS];
    struct sim_damage damage[DAMAGE_MAX];
    uint32_t damages;
};

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

static void event_push(struct io *io, enum event_kind kind, void *what, uint64_t delay_ns)
{
    struct sim *sim = io->sim;
    if (sim->events + 1 >= sim->event_room) {
        sim->event_room = sim->event_room ? 2 * sim->event_room : 256;
        sim->heap = must(realloc(sim->heap, sim->event_room * sizeof *sim->heap));
    }
    struct event event = {sim->now + delay_ns, prng_next(&sim->schedule), kind, io->number, what};
    event_rise(sim, ++sim->events, event);
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

/* ---- files ---- */

static bool is_off(const struct io *io)
{
    return io->off || io->sim->off;
}

static struct sim_place *place_find(struct sim *sim, const char *name)
{
    for (int i = 0; i < DISKS_MAX; i++)
        if (sim->places[i].disk && strcmp(disk_name(sim->places[i].disk), name) == 0) return &sim->places[i];
    return NULL;
}

static struct sim_place *place_make(struct sim *sim, const char *name, uint64_t size)
{
    int i = 0;
    while (sim->places[i].disk) {
        i++;
        assert(i < DISKS_MAX);
    }
    sim->places[i] = (struct sim_place){.disk = disk_open(&sim->pool, name, size)};
    return &sim->places[i];
}

static enum err place_lock(struct sim_place *place, unsigned flags)
{
    bool alone = !(flags & IO_OPEN_READ_ONLY);
    if (!(flags & IO_OPEN_LOCK)) return OK;
    if (place->writers > 0 || (alone && place->readers > 0)) return ERR_LOCKED;
    if (alone)
        place->writers++;
    else
        place->readers++;
    return OK;
}

enum err io_file_open(struct io *io, const char *path, unsigned flags, struct io_file **ret_file)
{
    struct sim *sim = io->sim;
    struct sim_place *place = place_find(sim, path);
    if (is_off(io)) return ERR_POWER;
    if (place && place->vanished) return ERR_NO_FILE;
    if (place && (flags & IO_OPEN_CREATE) && (flags & IO_OPEN_EXCLUSIVE)) return ERR_FILE_EXISTS;
    if (!place && !(flags & IO_OPEN_CREATE)) return ERR_NO_FILE;
    if (!place) place = place_make(sim, path, 0);
    TRY(place_lock(place, flags));
    struct io_file *file = must(calloc(1, sizeof *file));
    file->io = io;
    file->place = place;
    file->flags = flags;
    list_push(&sim->files, &file->link);
    sim->files_open++;
    *ret_file = file;
    return OK;
}

enum err io_file_info(struct io_file *file, struct io_file_info *ret_info)
{
    if (is_off(file->io)) return ERR_POWER;
    if (file->place->vanished) return ERR_VANISHED;
    *ret_info = (struct io_file_info){.size = disk_size(file->place->disk), .align = ALIGN, .discards = true};
    return OK;
}

enum err io_file_resize(struct io_file *file, uint64_t size)
{
    assert(!(file->flags & IO_OPEN_READ_ONLY));
    if (is_off(file->io)) return ERR_POWER;
    if (file->place->vanished) return ERR_VANISHED;
    disk_resize(file->place->disk, size);
    return OK;
}

static void file_forget(struct io_file *file)
{
    if (file->flags & IO_OPEN_LOCK) {
        if (file->flags & IO_OPEN_READ_ONLY)
            file->place->readers--;
        else
            file->place->writers--;
    }
    list_remove(&file->link);
    file->io->sim->files_open--;
    free(file);
}

void io_file_close(struct io_file *file)
{
    if (!file) return;
    assert(file->under_way == 0 || is_off(file->io));
    if (file->under_way == 0) {
        file_forget(file);
        return;
    }
    /* The operations still point to it: sim_power_on frees it with them. */
    file->flags |= 1u << 31;
    file->io->sim->files_open--;
}

/* ---- faults ---- */

static const char *const fault_names[SIM_FAULTS] = {"lie",        "lost",        "misdirected", "write error", "full",
                                                    "read error", "read latent", "slow read",   "slow",        "stuck"};

void sim_fault(struct sim *sim, enum sim_fault fault, uint32_t per_million, uint32_t times)
{
    sim->odds[fault] = per_million;
    sim->left[fault] = times;
}

uint64_t sim_struck(const struct sim *sim, enum sim_fault fault)
{
    return sim->struck[fault];
}

bool sim_damage(const struct sim *sim, uint32_t i, struct sim_damage *ret_damage)
{
    if (i >= sim->damages) return false;
    *ret_damage = sim->damage[i];
    return true;
}

static void damage_note(struct sim *sim, const struct io_op *op, uint64_t offset, enum sim_fault fault)
{
    if (sim->damages == DAMAGE_MAX) return;
    sim->damage[sim->damages++] = (struct sim_damage){disk_name(op->file->place->disk), offset, op->length, fault};
}

static bool fault_fits(enum sim_fault fault, const struct io_op *op)
{
    switch (fault) {
    case SIM_LIE: return op->kind == OP_SYNC || (op->kind == OP_WRITE && (op->flags & IO_WRITE_DURABLE));
    case SIM_LOST:
    case SIM_MISDIRECTED:
    case SIM_FULL: return op->kind == OP_WRITE;
    case SIM_WRITE_ERROR: return op->kind == OP_WRITE || op->kind == OP_SYNC;
    case SIM_READ_ERROR:
    case SIM_READ_LATENT:
    case SIM_SLOW_READ: return op->kind == OP_READ;
    case SIM_SLOW:
    case SIM_STUCK:
    case SIM_FAULTS: break;
    }
    return true;
}

static void op_draw_fate(struct sim *sim, struct io_op *op)
{
    op->tries = FATE_FINE;
    for (enum sim_fault f = 0; f < SIM_FAULTS; f++) {
        if (sim->left[f] == 0 || !fault_fits(f, op) || !prng_chance(&sim->fate, sim->odds[f])) continue;
        sim->left[f]--;
        sim->struck[f]++;
        op->tries = (uint8_t)(f + 1);
        sim_say(sim, "fault: %s strikes the next operation", fault_names[f]);
        return;
    }
}

/* ---- operations ---- */

static const char *const kind_names[] = {"read", "write", "sync", "discard"};

static uint64_t op_latency(struct sim *sim, const struct io_op *op)
{
    uint64_t ns = (sim->latency_ns << prng_below(&sim->schedule, sim->spread)) + prng_below(&sim->schedule, sim->latency_ns);
    if (op->tries == SIM_SLOW + 1 || op->tries == SIM_SLOW_READ + 1) ns *= 1000;
    if (op->tries == SIM_STUCK + 1) ns += 5000000000u + prng_below(&sim->fate, 20000000000u);
    return ns;
}

static void op_hash(struct sim *sim, const struct io_op *op, bool submitted)
{
    sim_note(sim, sim->now);
    sim_note(sim, op->kind | (uint64_t)submitted << 8 | (uint64_t)op->err << 16 | (uint64_t)op->length << 32);
    sim_note(sim, op->offset);
    if (submitted && op->kind == OP_WRITE) sim_note(sim, hash64(op->buf, op->length, 0));
}

static void settle_all(struct sim *sim);
static void op_effect(struct sim *sim, struct io_op *op);

/* The power goes while this operation is being submitted: it never started, or just ended. */
static void cut_now(struct sim *sim, struct io_op *op)
{
    if (prng_next(&sim->fate) >> 63) op_effect(sim, op);
    op->tries = FATE_DEAD;
    settle_all(sim);
}

static void op_submit(struct io *io, struct io_file *file, enum op_kind kind, struct io_op *op)
{
    struct sim *sim = io->sim;
    assert(kind == OP_SYNC || kind == OP_READ || !(file->flags & IO_OPEN_READ_ONLY));
    assert(!(file->flags & IO_OPEN_DIRECT) || (op->offset | op->length | (uintptr_t)op->buf) % ALIGN == 0);
    op->err = OK;
    op->bytes = op->moved = 0;
    op->io = io;
    op->file = file;
    op->kind = (uint8_t)kind;
    op->tries = FATE_DEAD;
    file->under_way++;
    list_push(&io->pending, &op->link);
    if (!is_off(io) && !file->place->vanished) {
        if (kind == OP_SYNC) op->offset = disk_newest(file->place->disk);
        if (kind == OP_READ)
            sim->reads++;
        else
            sim->changes++;
        op_draw_fate(sim, op);
        op_hash(sim, op, true);
        sim_say(sim, "  %s %s at %llu, %llu%s", kind_names[kind], disk_name(file->place->disk), (unsigned long long)op->offset,
                (unsigned long long)op->length, op->flags & IO_WRITE_DURABLE ? ", durable" : "");
        if (kind != OP_READ && sim->cut_at > 0 && --sim->cut_at == 0) cut_now(sim, op);
    }
    event_push(io, EVENT_OP, op, op_latency(sim, op));
}

void io_read(struct io *io, struct io_file *file, uint64_t offset, void *buf, uint32_t length, struct io_op *op)
{
    op->offset = offset;
    op->buf = buf;
    op->length = length;
    op->flags = 0;
    op_submit(io, file, OP_READ, op);
}

void io_write(struct io *io, struct io_file *file, uint64_t offset, const void *buf, uint32_t length, unsigned flags,
              struct io_op *op)
{
    op->offset = offset;
    op->buf = (void *)(uintptr_t)buf; /* only read from: the kind says so */
    op->length = length;
    op->flags = (uint8_t)flags;
    op_submit(io, file, OP_WRITE, op);
}

void io_sync(struct io *io, struct io_file *file, struct io_op *op)
{
    op->offset = op->length = 0;
    op->buf = NULL;
    op->flags = 0;
    op_submit(io, file, OP_SYNC, op);
}

void io_discard(struct io *io, struct io_file *file, uint64_t offset, uint64_t length, struct io_op *op)
{
    op->offset = offset;
    op->length = length;
    op->buf = NULL;
    op->flags = 0;
    op_submit(io, file, OP_DISCARD, op);
}

static enum err read_effect(struct sim *sim, struct io_op *op)
{
    struct disk *disk = op->file->place->disk;
    uint64_t size = disk_size(disk);
    uint64_t there = op->offset < size ? min64(op->length, size - op->offset) : 0;
    if (op->tries == SIM_READ_LATENT + 1) {
        uint64_t sector = op->offset + prng_below(&sim->fate, max64(op->length / DISK_PAGE, 1)) * DISK_PAGE;
        disk_spoil(disk, sector, DISK_PAGE);
        damage_note(sim, op, sector, SIM_READ_LATENT);
    }
    if (op->tries == SIM_READ_ERROR + 1 || disk_is_spoiled(disk, op->offset, op->length)) {
        prng_fill(&sim->fate, op->buf, (size_t)min64(op->length, 64));
        return ERR_IO;
    }
    disk_get(disk, op->offset, op->buf, there);
    op->moved = (uint32_t)there;
    return there < op->length ? ERR_SHORT : OK;
}

/* Somewhere near or far, another place of the same size, as a drive that mistakes an address would choose it. */
static uint64_t wrong_offset(struct sim *sim, const struct io_op *op)
{
    uint64_t size = disk_size(op->file->place->disk), offset = op->offset;
    if (size < 2 * op->length) return op->offset;
    while (offset == op->offset) {
        if (prng_next(&sim->fate) >> 63)
            offset = prng_below(&sim->fate, (size - op->length) / DISK_PAGE + 1) * DISK_PAGE;
        else
            offset = min64(op->offset ^ DISK_PAGE << prng_below(&sim->fate, 10), size - op->length) / DISK_PAGE * DISK_PAGE;
    }
    return offset;
}

static enum err write_effect(struct sim *sim, struct io_op *op)
{
    struct disk *disk = op->file->place->disk;
    uint64_t offset = op->offset;
    bool durable = op->flags & IO_WRITE_DURABLE;
    op->moved = (uint32_t)op->length;
    switch (op->tries) {
    case SIM_LOST + 1: damage_note(sim, op, op->offset, SIM_LOST); return OK;
    case SIM_MISDIRECTED + 1:
        offset = wrong_offset(sim, op);
        damage_note(sim, op, op->offset, SIM_MISDIRECTED);
        damage_note(sim, op, offset, SIM_MISDIRECTED);
        sim_say(sim, "  ... goes to %llu instead of %llu", (unsigned long long)offset, (unsigned long long)op->offset);
        break;
    case SIM_WRITE_ERROR + 1:
    case SIM_FULL + 1:
        op->moved = 0;
        disk_settle_write(disk, op->offset, op->buf, op->length, MOOD_BY_SECTOR, &sim->fate);
        return op->tries == SIM_FULL + 1 ? ERR_DEVICE_FULL : ERR_IO;
    case SIM_LIE + 1: durable = false; break;
    default: break;
    }
    disk_put(disk, offset, op->buf, op->length, durable);
    return OK;
}

static void op_effect(struct sim *sim, struct io_op *op)
{
    struct sim_place *place = op->file->place;
    if (op->tries == FATE_DEAD) {
        op->err = is_off(op->io) ? ERR_POWER : ERR_VANISHED;
        return;
    }
    switch ((enum op_kind)op->kind) {
    case OP_READ: op->err = read_effect(sim, op); break;
    case OP_WRITE: op->err = write_effect(sim, op); break;
    case OP_SYNC:
        if (op->tries == SIM_WRITE_ERROR + 1)
            op->err = ERR_IO;
        else if (op->tries != SIM_LIE + 1)
            disk_flush(place->disk, op->offset);
        break;
    case OP_DISCARD: disk_discard(place->disk, op->offset, op->length, &sim->fate); break;
    }
}

static void op_complete(struct sim *sim, struct io_op *op)
{
    op_effect(sim, op);
    list_remove(&op->link);
    assert(op->file->under_way > 0);
    op->file->under_way--;
    op->bytes = op->moved;
    op_hash(sim, op, false);
    if (op->err != OK)
        sim_say(sim, "  %s at %llu: %s", kind_names[op->kind], (unsigned long long)op->offset, err_name(op->err));
    op->done(op);
}

/* ---- running ---- */

static void run_message(struct sim *sim)
{
    struct io_msg *msg = sim->sent[sim->sent_first].msg;
    sim->sent_first = (sim->sent_first + 1) % sim->sent_room;
    sim->sent_count--;
    sim_note(sim, sim->now + 1);
    msg->handle(msg);
}

static void run_event(struct sim *sim)
{
    struct event event = event_take(sim, 1);
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

/* ---- power ---- */

/* Of one machine, or of all who use a disk. */
static void settle_pending(struct io *io, const struct sim_place *of, enum mood mood)
{
    for (struct list *l = io->pending.next; l != &io->pending; l = l->next) {
        struct io_op *op = CONTAINER(l, struct io_op, link);
        if ((of && op->file->place != of) || op->tries == FATE_DEAD) continue;
        bool lost = op->tries == SIM_LOST + 1 || op->tries == SIM_MISDIRECTED + 1;
        if (op->kind == OP_WRITE && !lost)
            disk_settle_write(op->file->place->disk, op->offset, op->buf, op->length, mood, &io->sim->fate);
        op->tries = FATE_DEAD;
    }
}

static const char *const mood_names[] = {"drops", "applies", "drops or applies", "tears"};

static void settle_all(struct sim *sim)
{
    enum mood mood = (enum mood)prng_below(&sim->fate, MOOD_COUNT);
    for (int i = 0; i < DISKS_MAX; i++)
        if (sim->places[i].disk) disk_settle(sim->places[i].disk, mood, &sim->fate);
    for (int i = 0; i < SIM_MACHINES_MAX; i++) settle_pending(&sim->machines[i], NULL, mood);
    net_power_cut(sim->net);
    sim->off = true;
    sim->cut_at = 0;
    sim_note(sim, mood);
    sim_say(sim, "POWER CUT, %s what was not durable", mood_names[mood]);
}

void sim_power_cut(struct sim *sim)
{
    if (!sim->off) settle_all(sim);
}

bool sim_is_off(const struct sim *sim)
{
    return sim->off;
}

/* Of one machine; NULL: of all. */
static void files_forget(struct sim *sim, const struct io *of)
{
    for (struct list *l = sim->files.next, *next; l != &sim->files; l = next) {
        struct io_file *file = CONTAINER(l, struct io_file, link);
        next = l->next;
        if (of && file->io != of) continue;
        if (file->flags & 1u << 31) sim->files_open++;
        file_forget(file);
    }
}

static void forget_all(struct sim *sim)
{
    sim->events = 0; /* timers are not told: their owners may be gone */
    sim->sent_first = sim->sent_count = 0;
    for (int i = 0; i < SIM_MACHINES_MAX; i++) list_init(&sim->machines[i].pending);
    net_forget(sim->net);
    files_forget(sim, NULL);
}

void sim_power_on(struct sim *sim)
{
    assert(sim->off);
    forget_all(sim);
    sim->off = false;
    for (int i = 0; i < SIM_MACHINES_MAX; i++) sim->machines[i].off = false;
    sim_say(sim, "power on");
}

/* ---- power of one machine ---- */

void sim_machine_cut(struct sim *sim, uint32_t number)
{
    struct io *io = &sim->machines[number];
    assert(number < SIM_MACHINES_MAX && !is_off(io));
    enum mood mood = (enum mood)prng_below(&sim->fate, MOOD_COUNT);
    for (struct list *l = sim->files.next; l != &sim->files; l = l->next) {
        const struct io_file *file = CONTAINER(l, struct io_file, link);
        if (file->io == io && !file->place->vanished) disk_settle(file->place->disk, mood, &sim->fate);
    }
    settle_pending(io, NULL, mood);
    io->off = true;
    sim_note(sim, mood);
    sim_say(sim, "machine %u LOSES POWER, %s what was not durable", number, mood_names[mood]);
}

void sim_machine_on(struct sim *sim, uint32_t number)
{
    struct io *io = &sim->machines[number];
    struct event *old = sim->heap;
    uint32_t events = sim->events, sent = sim->sent_count;
    assert(number < SIM_MACHINES_MAX && io->off && !sim->off);
    sim->events = sim->sent_count = 0;
    for (uint32_t i = 1; i <= events; i++)
        if (old[i].machine != number) event_rise(sim, ++sim->events, (struct event)old[i]);
    for (uint32_t i = 0; i < sent; i++) {
        struct sent message = sim->sent[(sim->sent_first + i) % sim->sent_room];
        if (message.machine != number) sim->sent[(sim->sent_first + sim->sent_count++) % sim->sent_room] = message;
    }
    list_init(&io->pending);
    files_forget(sim, io);
    io->off = false;
    sim_say(sim, "machine %u has power", number);
}

void sim_cut_at(struct sim *sim, uint64_t n)
{
    sim->cut_at = n;
}

/* ---- disks ---- */

static void place_clear(struct sim_place *place)
{
    if (place->disk) disk_close(place->disk);
    if (place->saved) disk_close(place->saved);
    *place = (struct sim_place){0};
}

void sim_disk_create(struct sim *sim, const char *name, uint64_t size)
{
    assert(!place_find(sim, name));
    place_make(sim, name, size);
}

struct disk *sim_disk(struct sim *sim, const char *name)
{
    struct sim_place *place = place_find(sim, name);
    return place ? place->disk : NULL;
}

void sim_disk_vanish(struct sim *sim, const char *name)
{
    struct sim_place *place = place_find(sim, name);
    assert(place && !place->vanished);
    enum mood mood = (enum mood)prng_below(&sim->fate, MOOD_COUNT);
    disk_settle(place->disk, mood, &sim->fate);
    for (int i = 0; i < SIM_MACHINES_MAX; i++) settle_pending(&sim->machines[i], place, mood);
    place->vanished = true;
    sim_say(sim, "%s vanishes", name);
}

void sim_disk_return(struct sim *sim, const char *name)
{
    place_find(sim, name)->vanished = false;
    sim_say(sim, "%s is back", name);
}

void sim_save(struct sim *sim)
{
    for (int i = 0; i < DISKS_MAX; i++) {
        struct sim_place *place = &sim->places[i];
        if (!place->disk) continue;
        if (!place->saved) place->saved = disk_open(&sim->pool, disk_name(place->disk), 0);
        disk_copy(place->saved, place->disk);
    }
}

void sim_restore(struct sim *sim)
{
    for (int i = 0; i < DISKS_MAX; i++)
        if (sim->places[i].saved) disk_copy(sim->places[i].disk, sim->places[i].saved);
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
    sim->hash = seed;
    sim->damages = 0;
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
    for (int i = 0; i < DISKS_MAX; i++) place_clear(&sim->places[i]);
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
