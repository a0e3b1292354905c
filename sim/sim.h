/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated world behind the seam: one thread, simulated time, one seed.
 *
 * Everything that can happen (an operation is completed, a timer fires, a message or a job arrives) is an event in one heap;
 * sim_step runs the next one. Latencies and the order of what is simultaneous come from the seed, so a seed replays a
 * history exactly; sim_hash proves it. Messages of one loop to itself stay in order, everything else may be overtaken.
 *
 * Power cut. sim_power_cut (or sim_cut_at, at the n-th change submitted) settles all disks as disk.h says and turns the
 * world off: sim_run_until returns SIM_OFF. The owner then abandons what it had (store_abandon, io_task_done) and calls
 * sim_power_on, which forgets all events of the time before. Code that holds memory of its own on a task's stack, such as
 * an open under way, cannot be dropped like that: as long as the world is off, events still run and every operation fails
 * with ERR_POWER without any effect, so such a task can be run to its end.
 *
 * A world may have several machines, each with a loop of its own and with the disks that it has open. They share time, chance
 * and network, and one alone may lose its power (sim_machine_cut), in the same way; it must have no connections then.
 *
 * Faults strike by odds and at most as often as their budget says. Each that struck is counted and, where it damaged
 * something, its place is kept (sim_damage).
 */
#ifndef IZAR_SIM_SIM_H
#define IZAR_SIM_SIM_H

#include "io/io.h"
#include "sim/disk.h"

struct sim;

/* `trace`: prints the story. */
struct sim *sim_open(uint64_t seed, bool trace);
/* As if freshly opened, but memory is kept: histories in a row are cheap. */
void sim_reset(struct sim *sim, uint64_t seed, bool trace);
void sim_close(struct sim *sim);
/* The first machine. */
struct io *sim_loop(struct sim *sim);
enum { SIM_MACHINES_MAX = 9 };
struct io *sim_machine(struct sim *sim, uint32_t number);

/* Runs the next event; false when there is none. */
bool sim_step(struct sim *sim);

enum sim_end {
    SIM_DONE,  /* what was waited for is true */
    SIM_OFF,   /* the power was cut */
    SIM_IDLE,  /* no event is left */
    SIM_LIMIT, /* too many events: something goes round in circles */
};
/* Runs until `done(arg)`, which is asked before every event. */
enum sim_end sim_run_until(struct sim *sim, bool (*done)(void *arg), void *arg);
/* Runs up to `events` events or until `span_ns` passed. SIM_DONE, SIM_OFF or SIM_IDLE. */
enum sim_end sim_run_for(struct sim *sim, uint64_t events, uint64_t span_ns);

/* ---- power ---- */

void sim_power_cut(struct sim *sim);
bool sim_is_off(const struct sim *sim);
/* Everything under way is forgotten, all files are closed, the disks show what survived. */
void sim_power_on(struct sim *sim);
/* Cuts the power when the n-th change (write, flush, discard) from now on is submitted, right before or right after its effect,
 * as the seed says. 0: never. */
void sim_cut_at(struct sim *sim, uint64_t n);

/* The power of one machine goes: what it had under way is settled, and every operation of it fails until it is back. */
void sim_machine_cut(struct sim *sim, uint32_t number);
/* Its owner has abandoned what it had: all of it is forgotten. */
void sim_machine_on(struct sim *sim, uint32_t number);
/* It does nothing for so long: nothing is completed, no timer fires, no message is handled; then all of it, at once. */
void sim_machine_freeze(struct sim *sim, uint32_t number, uint64_t span_ns);

/* ---- disks ---- */

/* A plain file of the simulated world, all zero, under a name that is not there yet. */
void sim_disk_create(struct sim *sim, const char *name, uint64_t size);
/* The disk itself, for looking and for damage at rest; NULL: no such name. */
struct disk *sim_disk(struct sim *sim, const char *name);
/* Every operation on it fails with ERR_VANISHED, and it cannot be opened; what was not durable settles as in a power cut. */
void sim_disk_vanish(struct sim *sim, const char *name);
void sim_disk_return(struct sim *sim, const char *name);
/* Keeps what all disks hold, and brings it back (any number of times). Nothing may be under way. */
void sim_save(struct sim *sim);
void sim_restore(struct sim *sim);

/* ---- faults ---- */

enum sim_fault {
    SIM_LIE,         /* a durable write or a flush is reported done but volatile */
    SIM_LOST,        /* a write is reported done, nothing is written */
    SIM_MISDIRECTED, /* a write goes to another place of the same disk */
    SIM_WRITE_ERROR, /* ERR_IO; the write may be there, partly or not at all */
    SIM_FULL,        /* ERR_DEVICE_FULL, the same */
    SIM_READ_ERROR,  /* ERR_IO, this once */
    SIM_READ_LATENT, /* ERR_IO, until the sectors are written again */
    SIM_SLOW_READ,   /* takes a thousand times as long */
    SIM_SLOW,        /* the same, any operation */
    SIM_STUCK,       /* takes 5 to 25 seconds */
    SIM_FAULTS,
};
/* Strikes `per_million` of the operations that it can strike, at most `times` more times. */
void sim_fault(struct sim *sim, enum sim_fault fault, uint32_t per_million, uint32_t times);
/* From now on only disks of one machine are struck; UINT32_MAX: of all. */
void sim_fault_only(struct sim *sim, uint32_t machine);
/* How often it has struck. */
uint64_t sim_struck(const struct sim *sim, enum sim_fault fault);

struct sim_damage {
    const char *disk;
    uint64_t offset, length;
    enum sim_fault fault;
};
/* The i-th place that a lost, misdirected (two places) or latent fault has damaged; false: there are not so many. */
bool sim_damage(const struct sim *sim, uint32_t i, struct sim_damage *ret_damage);

/* ---- looking ---- */

uint64_t sim_now_ns(const struct sim *sim);
uint64_t sim_changes(const struct sim *sim); /* writes, flushes and discards submitted */
uint64_t sim_reads(const struct sim *sim);
uint64_t sim_hash(const struct sim *sim);       /* of all events so far */
uint64_t sim_latency_ns(const struct sim *sim); /* of an operation on a disk, on the average */
uint32_t sim_files_open(const struct sim *sim);
/* A line of the story, when it is told. */
void sim_say(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Mixes something into the hash of events. */
void sim_note(struct sim *sim, uint64_t what);

#endif
