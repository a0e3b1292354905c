/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scenes: a test of the store on the simulated seam as tasks that are played one after the other. What happens between two of
 * them, to the power or to a disk, happens to a store at rest.
 */
#ifndef IZAR_TESTS_UNIT_SCENES_H
#define IZAR_TESTS_UNIT_SCENES_H

#include "sim/sim.h"
#include "store/store.h"

static struct {
    struct sim *sim;
    struct io *io;
    struct io_task task, *self; /* self: the scene that is played */
    bool (*scene)(void);
    bool good, over;
} scenes;

/* A world without disks. */
static inline void scenes_begin(uint64_t seed)
{
    if (scenes.sim != NULL)
        sim_reset(scenes.sim, seed, false);
    else
        scenes.sim = sim_open(seed, false);
    scenes.io = sim_loop(scenes.sim);
}

static inline void scene_main(void *arg)
{
    (void)arg;
    scenes.self = io_task_self();
    scenes.good = scenes.scene();
    scenes.over = true;
}

static inline bool scene_is_over(void *arg)
{
    (void)arg;
    return scenes.over;
}

/* What it returns; false, too, when it does not come to its end: then its task is left as it stands. When the power goes all
 * that it does fails, to its end. */
static inline bool scene_play(bool (*scene)(void))
{
    scenes.scene = scene;
    scenes.good = scenes.over = false;
    if (io_task_start(scenes.io, &scenes.task, scene_main, NULL) != OK) return false;
    for (enum sim_end end = SIM_OFF; end == SIM_OFF && !scenes.over;) end = sim_run_until(scenes.sim, scene_is_over, NULL);
    if (!scenes.over) return false;
    io_task_done(&scenes.task);
    return scenes.good;
}

static inline void scene_op_done(struct store_op *op)
{
    (void)op;
    io_task_wake(scenes.self);
}

/* [scene] Until it is prepared, or has failed. */
static inline enum err scene_prepare(struct store *store, struct store_op *op)
{
    op->done = scene_op_done;
    op->state = STORE_OP_IDLE;
    store_prepare(store, op);
    do io_task_park();
    while (op->state != STORE_OP_PREPARED && op->state != STORE_OP_FAILED);
    return op->err;
}

#endif
