/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of the simulated world, the faults that strike them, and what becomes of an operation.
 *
 * An operation meets its fate when it is submitted (struct io_op keeps it in `tries`) and has its effect when it is
 * completed: a read returns what is there then, a write reads its buffer then. So a caller that changes a buffer, or reuses
 * a place, under an operation in flight is caught. Operations under way are in the `pending` of their machine, in the order of
 * submission, because a power cut settles them in this order after all that was completed.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/hash.h"
#include "sim/must.h"
#include "sim/world.h"

enum { ALIGN = 4096 };

/* ---- files ---- */

bool is_off(const struct io *io)
{
    return io->off || io->sim->off;
}

struct sim_place *place_find(struct sim *sim, const char *name)
{
    for (int i = 0; i < DISKS_MAX; i++)
        if (sim->places[i].disk && strcmp(disk_name(sim->places[i].disk), name) == 0) return &sim->places[i];
    return NULL;
}

struct sim_place *place_make(struct sim *sim, const char *name, uint64_t size)
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

void files_forget(struct sim *sim, const struct io *of)
{
    for (struct list *l = sim->files.next, *next; l != &sim->files; l = next) {
        struct io_file *file = CONTAINER(l, struct io_file, link);
        next = l->next;
        if (of && file->io != of) continue;
        if (file->flags & 1u << 31) sim->files_open++;
        file_forget(file);
    }
}

/* ---- faults ---- */

static const char *const fault_names[SIM_FAULTS] = {"lie",        "lost",        "misdirected", "write error", "full",
                                                    "read error", "read latent", "slow read",   "slow",        "stuck"};

void sim_fault(struct sim *sim, enum sim_fault fault, uint32_t per_million, uint32_t times)
{
    sim->odds[fault] = per_million;
    sim->left[fault] = times;
}

void sim_fault_only(struct sim *sim, uint32_t machine)
{
    sim->fault_only = machine;
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
    if (sim->fault_only != UINT32_MAX && op->file->io->number != sim->fault_only) return;
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

void op_effect(struct sim *sim, struct io_op *op)
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

void op_complete(struct sim *sim, struct io_op *op)
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
