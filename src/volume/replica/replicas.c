/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The replicas of a node: beginning, end, and what managers ask.
 */
#include "volume/replica/replicas_internal.h"

enum { MEMORY_MIB = 64, WAIT_MS = 8000, LOOK_MS = 20 };

/* ---- tasks ---- */

void task_kick(struct replicas_task *t)
{
    t->kicked = true;
    if (t->running) io_task_wake(&t->task);
}

static void wake_fires(struct io_timer *timer)
{
    task_kick(CONTAINER(timer, struct replicas_task, wake));
}

bool task_rest(struct replicas *all, struct replicas_task *t, uint64_t ns)
{
    t->wake.fire = wake_fires;
    io_after(all->io, ns, &t->wake);
    while (!t->kicked && !all->stopping) io_task_park();
    io_cancel(all->io, &t->wake);
    t->kicked = false;
    return !all->stopping;
}

void task_over(struct replicas *all, struct replicas_task *t)
{
    t->running = false;
    if (all->closing != NULL) io_task_wake(all->closing);
}

static enum err task_start(struct replicas *all, struct replicas_task *t, void (*run)(void *arg))
{
    enum err err = io_task_start(all->io, &t->task, run, all);
    t->running = err == OK;
    return err;
}

/* [task] */
static void tasks_end(struct replicas *all)
{
    struct replicas_task *both[] = {&all->caller, &all->keeper};
    all->stopping = true;
    all->closing = io_task_self();
    for (int i = 0; i < 2; i++) {
        task_kick(both[i]);
        while (both[i]->running) io_task_park();
        io_task_done(&both[i]->task);
    }
}

/* [task] */
static enum err tasks_start(struct replicas *all)
{
    enum err err = task_start(all, &all->caller, replicas_call);
    if (err == OK) err = task_start(all, &all->keeper, replicas_keep);
    if (err != OK) tasks_end(all);
    return err;
}

/* ---- life ---- */

static void roster_changed(void *arg)
{
    struct replicas *all = arg;
    task_kick(&all->caller); /* hosts hear of it first */
    task_kick(&all->keeper);
}

enum err replicas_open(const struct replicas_config *config, struct replicas **ret_replicas)
{
    struct mem *mem = mem_open((uint64_t)MEMORY_MIB << 20);
    struct replicas *all = mem != NULL ? mem_alloc(mem, sizeof *all) : NULL;
    if (all == NULL) {
        mem_close(mem);
        return ERR_NO_MEMORY;
    }
    all->config = *config;
    all->io = config->io;
    all->mem = mem;
    list_init(&all->ended);
    enum err err = wires_init(all);
    if (err == OK) err = tasks_start(all);
    if (err != OK) {
        mem_close(mem);
        return err;
    }
    member_attach(config->member, &(struct member_user){.arg = all,
                                                        .opened = wire_opened,
                                                        .up = wire_up,
                                                        .down = wire_down,
                                                        .message = wire_arrived,
                                                        .closing = wire_closing,
                                                        .changed = roster_changed});
    *ret_replicas = all;
    return OK;
}

void replicas_close(struct replicas *all)
{
    if (all == NULL) return;
    tasks_end(all);
    while (all->hosted_count > 0) hosted_close(all->hosted[0]);
    member_attach(all->config.member, NULL);
    wires_drop(all);
}

void replicas_free(struct replicas *all)
{
    if (all == NULL) return;
    hosted_free(all, 0);
    mem_close(all->mem);
}

/* ---- looking ---- */

bool replicas_place(const struct replicas *all, uint32_t number, struct placement *ret_place)
{
    const struct roster *roster = member_roster(all->config.member);
    return roster != NULL && placement_find(roster, number, ret_place);
}

bool replicas_status(const struct replicas *all, uint32_t number, struct replica_status *ret_status)
{
    const struct hosted *h = hosted_find(all, number);
    if (h == NULL) return false;
    host_status(h->host, ret_status);
    return true;
}

void replicas_stats(const struct replicas *all, struct replicas_stats *ret_stats)
{
    *ret_stats = all->stats;
}

/* ---- making, taking away ---- */

struct wanted {
    const struct placement *place;
    uint32_t number;
    uint8_t value[ROSTER_VALUE_MAX];
};

static enum err add(struct roster *roster, void *arg, struct member_why *why)
{
    struct wanted *w = arg;
    struct placement place = *w->place, same;
    if (placement_named(roster, place.name, &same) != 0)
        return member_tell_why(why, ERR_NAME_EXISTS, "there is a volume %s in this cluster", place.name);
    for (uint32_t i = 0; i < place.node_count; i++) {
        const struct roster_node *node = roster_find(roster, place.nodes[i]);
        if (node == NULL || node->stage != ROSTER_LIVE || node->role != ROSTER_DATA)
            return member_tell_why(why, ERR_NO_NAME, "node %u is no node with data of this cluster", place.nodes[i]);
    }
    place.stage = PLACE_MAKING;
    place.made = 0;
    w->number = roster->next_volume;
    if (placement_put(roster, w->number, &place, w->value) != OK)
        return member_tell_why(why, ERR_LIMIT, "a cluster has at most %d volumes with replicas", ROSTER_VOLUMES_MAX);
    roster->next_volume++;
    return OK;
}

enum err replicas_create(struct replicas *all, const struct placement *wanted, uint32_t *ret_number, struct member_why *ret_why)
{
    struct wanted w = {.place = wanted};
    struct placement place;
    TRY(member_change(all->config.member, add, &w, ret_why));
    *ret_number = w.number;
    task_kick(&all->keeper);
    for (uint32_t waited = 0; waited < WAIT_MS && !all->stopping; waited += LOOK_MS) {
        if (replicas_place(all, w.number, &place) && place.stage == PLACE_LIVE && hosted_find(all, w.number) != NULL) return OK;
        io_task_sleep(all->io, LOOK_MS * IO_MS_NS);
    }
    return member_tell_why(ret_why, ERR_UNDECIDED, "not all of its nodes have made volume %s yet", wanted->name);
}

struct unwanted {
    uint32_t number;
    uint8_t value[ROSTER_VALUE_MAX];
};

static enum err leave(struct roster *roster, void *arg, struct member_why *why)
{
    struct unwanted *u = arg;
    struct placement place;
    if (!placement_find(roster, u->number, &place)) return member_tell_why(why, ERR_NO_NAME, "it is gone already");
    place.stage = PLACE_LEAVING;
    return placement_put(roster, u->number, &place, u->value);
}

enum err replicas_delete(struct replicas *all, uint32_t number, struct member_why *ret_why)
{
    struct unwanted u = {.number = number};
    struct placement place;
    TRY(member_change(all->config.member, leave, &u, ret_why));
    task_kick(&all->keeper);
    for (uint32_t waited = 0; waited < WAIT_MS && !all->stopping; waited += LOOK_MS) {
        bool there = replicas_place(all, number, &place);
        bool waits = false;
        for (uint32_t i = 0; there && i < place.node_count; i++)
            waits |= set_has(place.made, i) && member_is_up(all->config.member, place.nodes[i]);
        if (!waits) return OK;
        io_task_sleep(all->io, LOOK_MS * IO_MS_NS);
    }
    return member_tell_why(ret_why, ERR_UNDECIDED, "not all of its nodes have taken it away yet; they will");
}
