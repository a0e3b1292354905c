/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The replicas of a node: beginning, end, and what managers ask.
 */
#include "volume/replica/replicas_internal.h"

enum { CREATED = 1 /* the first record of a volume */, MEMORY_MIB = 64, WAIT_MS = 8000, ASK_MS = 3000, LOOK_MS = 20 };

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
    all->config.user.changed(all->config.user.arg);
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

/* [task] Until no node that is up has it any more; false: that takes longer. */
static bool wait_until_gone(struct replicas *all, uint32_t number)
{
    struct placement place;
    for (uint32_t waited = 0; waited < WAIT_MS && !all->stopping; waited += LOOK_MS) {
        bool there = replicas_place(all, number, &place);
        bool waits = false;
        for (uint32_t i = 0; there && i < place.node_count; i++)
            waits |= set_has(place.made, i) && member_is_up(all->config.member, place.nodes[i]);
        if (!waits) return true;
        io_task_sleep(all->io, LOOK_MS * IO_MS_NS);
    }
    return false;
}

static enum err tell_refusal(struct replicas *all, const struct placement *place, struct member_why *why)
{
    const struct roster *roster = member_roster(all->config.member);
    const struct roster_node *node = roster != NULL ? roster_find(roster, place->nodes[place->refused_by]) : NULL;
    const char *name = node != NULL ? node->name : "another node";
    if (place->refusal == PLACE_REFUSED_NAME)
        return member_tell_why(why, ERR_NAME_EXISTS, "%s has a volume %s of its own: choose another name", name, place->name);
    return member_tell_why(why, ERR_LIMIT, "%s has as many volumes as it can: it cannot keep %s, too", name, place->name);
}

/* [task] A node that was asked to keep it cannot. ERR_CONFLICT: it has thought better of it. */
static enum err back_out(struct replicas *all, struct place_edit *edit, const struct placement *place, struct member_why *why)
{
    if (member_change(all->config.member, edit_back_out, edit, why) != OK) return ERR_CONFLICT;
    task_kick(&all->keeper);
    wait_until_gone(all, edit->number);
    return tell_refusal(all, place, why);
}

enum err replicas_create(struct replicas *all, const struct placement *wanted, uint32_t *ret_number, struct member_why *ret_why)
{
    struct place_edit edit = {.wanted = wanted};
    struct placement place;
    TRY(member_change(all->config.member, edit_add, &edit, ret_why));
    *ret_number = edit.number;
    task_kick(&all->keeper);
    for (uint32_t waited = 0; waited < WAIT_MS && !all->stopping; waited += LOOK_MS) {
        bool known = replicas_place(all, edit.number, &place);
        if (known && place.stage == PLACE_LIVE && hosted_find(all, edit.number) != NULL) return OK;
        bool refused = known && place.stage == PLACE_MAKING && place.refusal != PLACE_REFUSED_NOT;
        enum err err = refused ? back_out(all, &edit, &place, ret_why) : ERR_CONFLICT;
        if (err != ERR_CONFLICT) return err;
        io_task_sleep(all->io, LOOK_MS * IO_MS_NS);
    }
    return member_tell_why(ret_why, ERR_UNDECIDED, "not all of its nodes have made volume %s yet", wanted->name);
}

enum err replicas_delete(struct replicas *all, uint32_t number, struct member_why *ret_why)
{
    struct place_edit edit = {.number = number};
    TRY(member_change(all->config.member, edit_leave, &edit, ret_why));
    task_kick(&all->keeper);
    if (wait_until_gone(all, number)) return OK;
    return member_tell_why(ret_why, ERR_UNDECIDED, "not all of its nodes have taken it away yet; they will");
}

enum err replicas_copies(struct replicas *all, uint32_t number, uint32_t add, uint32_t drop, struct member_why *ret_why)
{
    struct place_edit edit = {.number = number, .node = add, .drop = drop};
    TRY(member_change(all->config.member, edit_copies, &edit, ret_why));
    task_kick(&all->caller);
    task_kick(&all->keeper);
    return OK;
}

/* ---- the last resort ---- */

const char *place_reachable(const struct replicas *all, const struct placement *place)
{
    const struct roster *roster = member_roster(all->config.member);
    for (uint32_t i = 0; i < place->node_count; i++) {
        const struct roster_node *node = roster_find(roster, place->nodes[i]);
        if (set_has(place->config.in_sync, i) && node != NULL && member_is_up(all->config.member, node->number))
            return node->name;
    }
    return NULL;
}

static enum err check_force(const struct replicas *all, uint32_t number, struct hosted **ret_hosted, struct member_why *why)
{
    struct placement place;
    struct replica_status status;
    struct hosted *h = *ret_hosted = hosted_find(all, number);
    if (h == NULL || !replicas_place(all, number, &place) || place.stage != PLACE_LIVE)
        return member_tell_why(why, ERR_NO_NAME, "this node keeps no copy of it");
    host_status(h->host, &status);
    const char *other = place_reachable(all, &place);
    if (set_has(place.config.in_sync, h->index))
        return member_tell_why(why, ERR_CONFLICT, "the copy of this node is in sync: nothing is to be forced");
    if (other != NULL)
        return member_tell_why(why, ERR_CONFLICT, "%s has a copy in sync and can be reached: this node catches up from it",
                               other);
    if (!status.whole || status.committed.sequence <= CREATED)
        return member_tell_why(why, ERR_CONFLICT, "the copy of this node is of no use: %s",
                               status.learn.on ? "catching up had begun, and was not finished"
                               : status.whole  ? "it has never had what the others have"
                                               : "what it has was undone by the last force-promote");
    return OK;
}

/* [task] Whoever has it in sync, and is alive, answers no, also when this node does not hear him but others do. */
static enum err ask_all(struct replicas *all, uint32_t number, struct member_why *why)
{
    struct place_edit edit = {.number = number, .node = member_number(all->config.member)};
    struct placement place;
    TRY(member_change(all->config.member, edit_force, &edit, why));
    for (uint32_t waited = 0; waited < ASK_MS && !all->stopping; waited += LOOK_MS) {
        io_task_sleep(all->io, LOOK_MS * IO_MS_NS);
        if (replicas_place(all, number, &place) && place.forcing == 0) break;
    }
    TRY(member_read(all->config.member, why));
    if (replicas_place(all, number, &place) && place.forcing == placement_of(&place, edit.node) + 1) return OK;
    return member_tell_why(why, ERR_CONFLICT,
                           "a node with a copy in sync is alive, but not reached from here: see to that link");
}

enum err replicas_force(struct replicas *all, uint32_t number, struct member_why *ret_why)
{
    struct hosted *h;
    struct replica_status status;
    TRY(member_read(all->config.member, ret_why));
    TRY(check_force(all, number, &h, ret_why));
    TRY(ask_all(all, number, ret_why));
    TRY(check_force(all, number, &h, ret_why));
    host_status(h->host, &status);
    replicas_say(all, true,
                 "volume %s: forced to go on with what this node has, up to record %llu; what others had after it is lost",
                 h->place.name, (unsigned long long)status.committed.sequence);
    for (uint32_t waited = 0; waited < WAIT_MS && !all->stopping; waited += LOOK_MS) {
        host_force(h->host); /* it does not keep that for long */
        io_task_sleep(all->io, LOOK_MS * IO_MS_NS);
        h = hosted_find(all, number); /* it may have gone meanwhile */
        if (h == NULL) break;
        host_status(h->host, &status);
        if (status.role == REPLICA_OWNER && status.serving) return OK;
    }
    return member_tell_why(ret_why, ERR_UNDECIDED, "this node has not taken the volume up yet");
}
