/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keeper of a node's replicas: whenever the roster changed, and once a second, it does what the roster says.
 *
 *     MAKING    the volume is made here, then the roster says so, or why it cannot be; the last of its nodes says LIVE
 *     LIVE      the volume has a host. One that is not in the store any more is made again, empty, and learns
 *     LEAVING   the host ends, the volume is taken away, then the roster says so; the last drops it
 *
 * Each step can be found in the roster and in the store, so whoever starts goes on with it. What fails is tried again.
 */
#include <stdarg.h>
#include <stdio.h>

#include "volume/replica/replicas_internal.h"

#define TURN_NS IO_S_NS
#define AGAIN_NS (200 * IO_MS_NS)
#define COMPLAIN_NS (60 * IO_S_NS)
enum { HOST_MIB = 8, CREDIT_BLOCKS = 8192 };

void replicas_say(struct replicas *all, bool is_problem, const char *format, ...)
{
    char text[400];
    va_list values;
    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    all->config.user.tell(all->config.user.arg, is_problem, text);
}

/* What stays wrong is said once a minute. */
static void complain(struct replicas *all, const char *what, const char *name, enum err err)
{
    uint64_t now = io_now_ns(all->io);
    if (all->complained_ns != 0 && now - all->complained_ns < COMPLAIN_NS) return;
    all->complained_ns = now;
    replicas_say(all, true, "volume %s cannot be %s here: %s", name, what, err_text(err));
}

/* ---- hosts ---- */

struct hosted *hosted_find(const struct replicas *all, uint32_t number)
{
    for (uint32_t i = 0; i < all->hosted_count; i++)
        if (all->hosted[i]->number == number) return all->hosted[i];
    return NULL;
}

static void reset(void *arg)
{
    struct hosted *hosted = arg;
    hosted->all->config.user.reset(hosted->all->config.user.arg);
}

static void fence(void *arg, uint8_t node)
{
    (void)arg; /* nobody here can turn a node off: it is not answered, and so nobody is left out by it */
    (void)node;
}

/* A line at most now and then: a disk that goes bad loses many blocks. The pool counts them all. */
static void damaged(void *arg, uint64_t lba, enum host_damage what)
{
    static const char *const became[] = {
        [DAMAGE_MENDED] = "another node had it; it was mended",
        [DAMAGE_SERVED] = "another node had it; it could not be mended on this disk",
        [DAMAGE_LOST] = "no other node has it",
    };
    struct hosted *h = arg;
    uint64_t now = io_now_ns(h->all->io);
    if (h->damage_told_ns[what] != 0 && now - h->damage_told_ns[what] < COMPLAIN_NS) return;
    h->damage_told_ns[what] = now;
    replicas_say(h->all, what != DAMAGE_MENDED, "volume %s: block %llu is damaged in this node's pool: %s", h->place.name,
                 (unsigned long long)lba, became[what]);
}

/* [task] */
static enum err host_begin(struct hosted *h)
{
    const struct replicas_config *c = &h->all->config;
    h->mem = mem_open((uint64_t)HOST_MIB << 20);
    if (h->mem == NULL) return ERR_NO_MEMORY;
    struct replica_host_config config = {
        .io = c->io,
        .store = c->store,
        .mem = h->mem,
        .contents = &h->all->contents,
        .volume = volume_id(h->volume),
        .setup = {.node = (uint8_t)h->index,
                  .timing = h->place.fast ? replica_timing_fast : replica_timing_default,
                  .walk_blocks = REPLICA_WALK,
                  .strict = c->strict},
        .wires = {h, wire_send, call_fetch, call_propose, fence, reset, damaged},
        .boot = member_boot(c->member),
        .first_join = volume_replica(h->volume)->original ? PLACE_FIRST_JOIN : 0,
        .credit = CREDIT_BLOCKS,
        .holders = placement_count(member_roster(c->member), member_number(c->member), UINT32_MAX),
    };
    return host_open(&config, &h->host);
}

/* [task] */
static enum err hosted_open(struct replicas *all, uint32_t number, const struct placement *place, uint32_t index,
                            struct volume *volume)
{
    if (all->hosted_count == REPLICAS_MAX) return ERR_LIMIT;
    struct hosted *h = mem_alloc(all->mem, sizeof *h);
    if (h == NULL) return ERR_NO_MEMORY;
    *h = (struct hosted){.all = all, .number = number, .index = index, .place = *place, .volume = volume};
    enum err err = host_begin(h);
    if (err != OK) {
        mem_close(h->mem);
        mem_free(all->mem, h);
        return err;
    }
    all->hosted[all->hosted_count++] = h;
    wires_tell_links(h, 0);
    volume_serve(volume, h->host);
    return OK;
}

/* What it has prepared lies in its memory, which the store uses until that is published or the store is closed. */
void hosted_close(struct hosted *h)
{
    struct replicas *all = h->all;
    volume_serve(h->volume, NULL);
    for (uint32_t i = 0; i < all->hosted_count; i++)
        if (all->hosted[i] == h) all->hosted[i] = all->hosted[--all->hosted_count];
    host_close(h->host);
    list_push(&all->ended, &h->link);
}

void hosted_free(struct replicas *all, uint32_t number)
{
    for (struct list *l = all->ended.next, *next; l != &all->ended; l = next) {
        struct hosted *h = CONTAINER(l, struct hosted, link);
        next = l->next;
        if (number != 0 && h->number != number) continue;
        list_remove(l);
        mem_close(h->mem);
        mem_free(all->mem, h);
    }
}

/* ---- places ---- */

/* A volume that this node lacks may be made only of what holds now: what it knows may be as old as its store is new, and a
 * store that was emptied would then begin as one that has everything. */
static enum err make_new(struct replicas *all, uint32_t number, struct placement *place, struct volume **ret_volume)
{
    const struct replicas_user *user = &all->config.user;
    struct member_why why;
    struct place_edit edit = {.number = number, .node = member_number(all->config.member)};
    TRY(member_read(all->config.member, &why));
    const struct roster *roster = member_roster(all->config.member);
    uint32_t index = REPLICA_NODES_MAX;
    if (roster != NULL && placement_find(roster, number, place)) index = placement_of(place, edit.node);
    if (index == REPLICA_NODES_MAX || place->stage == PLACE_LEAVING || !set_has(placement_kept(place), index))
        return ERR_CONFLICT; /* it is looked at again */
    bool making = place->stage == PLACE_MAKING, full = placement_count(roster, edit.node, number) >= REPLICAS_MAX;
    enum err err = full ? ERR_LIMIT : user->make(user->arg, number, place, making && !set_has(place->made, index), ret_volume);
    if (err == ERR_NAME_EXISTS) edit.refusal = PLACE_REFUSED_NAME;
    if (err == ERR_LIMIT) edit.refusal = PLACE_REFUSED_LIMIT;
    bool told = place->refusal == edit.refusal && place->refused_by == index;
    if (making && edit.refusal != PLACE_REFUSED_NOT && !told) member_change(all->config.member, edit_refuse, &edit, &why);
    return err;
}

/* [task] */
static enum err make(struct replicas *all, uint32_t number, const struct placement *known)
{
    const struct replicas_user *user = &all->config.user;
    struct member_why why;
    struct placement place = *known;
    struct place_edit edit = {.number = number, .node = member_number(all->config.member)};
    struct volume *volume = user->find(user->arg, number);
    if (volume == NULL) TRY(make_new(all, number, &place, &volume));
    uint32_t index = placement_of(&place, edit.node);
    if (place.stage == PLACE_LIVE) return hosted_open(all, number, &place, index, volume);
    return set_has(place.made, index) ? OK : member_change(all->config.member, edit_made, &edit, &why);
}

/* [task] Also of one that this node does not keep, when nobody is left who does. */
static enum err unmake(struct replicas *all, uint32_t number, const struct placement *place, uint32_t index)
{
    const struct replicas_user *user = &all->config.user;
    struct hosted *h = hosted_find(all, number);
    struct member_why why;
    struct place_edit edit = {.number = number, .node = member_number(all->config.member)};
    if (h != NULL) hosted_close(h);
    if (index < REPLICA_NODES_MAX) TRY(user->unmake(user->arg, number));
    hosted_free(all, number);
    const struct roster *roster = member_roster(all->config.member);
    bool says = index < REPLICA_NODES_MAX && set_has(place->made, index);
    if (roster == NULL || (!says && places_waited_for(roster, place) != 0)) return OK;
    enum err err = member_change(all->config.member, edit_gone, &edit, &why);
    return err == ERR_NO_NAME ? OK : err; /* others were faster */
}

/* [task] A copy that was given up. It stays as long as it may be the last resort. */
static enum err give_up(struct replicas *all, uint32_t number, const struct placement *place)
{
    const struct replicas_user *user = &all->config.user;
    struct hosted *h = hosted_find(all, number);
    if (h != NULL) hosted_close(h);
    if (user->find(user->arg, number) == NULL || place_reachable(all, place) == NULL) return OK;
    TRY(user->unmake(user->arg, number));
    hosted_free(all, number);
    return OK;
}

/* [task] Somebody who does not hear this node believes that it is lost. */
static enum err say_alive(struct replicas *all, uint32_t number, const struct placement *place, uint32_t index)
{
    struct replica_status status;
    struct member_why why;
    struct place_edit edit = {.number = number, .node = place->nodes[index]};
    host_status(hosted_find(all, number)->host, &status);
    bool has_all = status.role == REPLICA_OWNER || status.role == REPLICA_IN_SYNC;
    if (!has_all || !set_has(place->config.in_sync, index)) return OK;
    enum err err = member_change(all->config.member, edit_alive, &edit, &why);
    return err == ERR_CONFLICT ? OK : err; /* others were faster */
}

/* [task] One place of the roster. */
static enum err follow(struct replicas *all, uint32_t number, const struct placement *place)
{
    uint32_t index = placement_of(place, member_number(all->config.member));
    if (place->stage == PLACE_LEAVING) return unmake(all, number, place, index);
    if (index == REPLICA_NODES_MAX) return OK;
    if (!set_has(placement_kept(place), index)) return give_up(all, number, place);
    if (hosted_find(all, number) == NULL) return make(all, number, place);
    return place->forcing != 0 ? say_alive(all, number, place, index) : OK;
}

/* [task] The roster may change while a step waits, so each place is taken from it anew. False: something is to be tried again.
 */
static bool follow_places(struct replicas *all)
{
    bool good = true;
    for (uint32_t i = 0; !all->stopping; i++) {
        const struct roster *roster = member_roster(all->config.member);
        struct placement place;
        if (roster == NULL || i >= roster->volume_count) return good;
        uint32_t number = roster->volumes[i].number;
        enum err err = placement_decode(roster->volumes[i].value, roster->volumes[i].bytes, &place);
        bool readable = err == OK;
        if (readable) err = follow(all, number, &place);
        if (err == OK || err == ERR_STOPPED) continue;
        if (err != ERR_NO_QUORUM && err != ERR_UNDECIDED && err != ERR_CONFLICT)
            complain(all, place.stage == PLACE_LEAVING ? "taken away" : "kept", readable ? place.name : "of a newer version",
                     err);
        good = false;
    }
    return good;
}

void replicas_keep(void *arg)
{
    struct replicas *all = arg;
    while (task_rest(all, &all->keeper, follow_places(all) ? TURN_NS : AGAIN_NS)) continue;
    task_over(all, &all->keeper);
}
