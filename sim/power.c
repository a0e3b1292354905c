/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Power of the simulated world, of all its machines or of one, and its disks as their owner sees them.
 *
 * When the power goes, the disks settle first (what was completed and is not durable), then what is under way, in the order of
 * its submission, all in one mood. From then on every operation is dead: its effect is settled.
 */
#include <assert.h>

#include "sim/world.h"

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

void settle_all(struct sim *sim)
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

void forget_all(struct sim *sim)
{
    events_forget(sim, NULL);
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
    io->frozen_until = 0;
    sim_note(sim, mood);
    sim_say(sim, "machine %u LOSES POWER, %s what was not durable", number, mood_names[mood]);
}

void sim_machine_on(struct sim *sim, uint32_t number)
{
    struct io *io = &sim->machines[number];
    assert(number < SIM_MACHINES_MAX && io->off && !sim->off);
    events_forget(sim, io);
    list_init(&io->pending);
    files_forget(sim, io);
    io->off = false;
    sim_say(sim, "machine %u has power", number);
}

void sim_machine_freeze(struct sim *sim, uint32_t number, uint64_t span_ns)
{
    assert(number < SIM_MACHINES_MAX && !sim->machines[number].off);
    sim->machines[number].frozen_until = sim->now + span_ns;
    sim->machines[number].frozen_tie = prng_next(&sim->schedule) / 2;
    sim_say(sim, "machine %u is frozen for %llu ms", number, (unsigned long long)(span_ns / 1000000));
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

void places_clear(struct sim *sim)
{
    for (int i = 0; i < DISKS_MAX; i++) place_clear(&sim->places[i]);
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
