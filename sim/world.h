/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of the simulated world, for those who make it:
 *
 *     io_sim.c   time: events, timers, messages, jobs, running; the world's life
 *     files.c    files, faults, and what becomes of an operation
 *     power.c    power of all or of one machine, and the disks as the owner of the world sees them
 *     net.c      connections (net.h)
 *
 * Three streams of chance come from the seed: the schedule, the faults, and io_random. So a fault budget can change without
 * changing the bytes of the pool's secret.
 */
#ifndef IZAR_SIM_WORLD_H
#define IZAR_SIM_WORLD_H

#include "io/io.h"
#include "sim/net.h"
#include "sim/sim.h"

enum { DISKS_MAX = 32, DAMAGE_MAX = 64 };

enum op_kind { OP_READ, OP_WRITE, OP_SYNC, OP_DISCARD };

/* What becomes of an operation: 0, or a fault and 1. */
enum { FATE_FINE = 0, FATE_DEAD = 255 }; /* DEAD: its disk vanished or its power went, the effect is settled */

enum event_kind { EVENT_OP, EVENT_TIMER, EVENT_JOB, EVENT_MESSAGE };

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
    uint64_t frozen_until, frozen_tie;
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
    uint32_t fault_only; /* machine; UINT32_MAX: all */
    uint64_t struck[SIM_FAULTS];
    struct sim_damage damage[DAMAGE_MAX];
    uint32_t damages;
};

/* ---- io_sim.c ---- */

void event_push(struct io *io, enum event_kind kind, void *what, uint64_t delay_ns);
/* Events and messages of one machine; NULL: all. Timers are not told: their owners may be gone. */
void events_forget(struct sim *sim, const struct io *of);

/* ---- files.c ---- */

bool is_off(const struct io *io);
/* NULL: no such disk. */
struct sim_place *place_find(struct sim *sim, const char *name);
struct sim_place *place_make(struct sim *sim, const char *name, uint64_t size);
/* What an operation does when it is completed; and that, with all that follows. */
void op_effect(struct sim *sim, struct io_op *op);
void op_complete(struct sim *sim, struct io_op *op);
/* Closes the files of one machine; NULL: of all. */
void files_forget(struct sim *sim, const struct io *of);

/* ---- power.c ---- */

/* The power goes: settles all disks and all that is under way. */
void settle_all(struct sim *sim);
void places_clear(struct sim *sim);
/* Nothing is under way any more, no file is open. */
void forget_all(struct sim *sim);

#endif
