/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A member's beginning and end, and looking at it.
 *
 * It is open even when the node belongs to no cluster; `active` says that it does: then there are links, a proposer, an
 * acceptor, and the two tasks.
 */
#include <stdarg.h>
#include <stdio.h>

#include "cluster/member_internal.h"
#include "io/host.h"

enum {
    MEMORY_MIB = 24,
    CONNS_MAX = 2 * ROSTER_NODES_MAX,
    WAIT_MS = 700,
    QUIET_MS = 3000,
    PAUSE_MS = 10,
    ATTEMPTS = 4,
    FOUNDER = 1,                /* number of the first node of a cluster */
    WINDOW = 4 * LINK_COST_MAX, /* the longest messages of users, and beside them what members tell each other */
};

/* ---- telling ---- */

enum err member_tell_why(struct member_why *why, enum err err, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    vsnprintf(why->text, sizeof why->text, format, values);
    va_end(values);
    return err;
}

void member_help(struct member_why *why, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    vsnprintf(why->help, sizeof why->help, format, values);
    va_end(values);
}

void member_say(struct member *m, bool is_problem, const char *format, ...)
{
    char text[512];
    va_list values;
    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    m->config.tell(is_problem, text);
}

/* ---- gates ---- */

struct waiter {
    struct list link;
    struct io_task *task;
    bool in;
};

void gate_enter(struct gate *gate)
{
    struct waiter w = {.task = io_task_self()};
    if (gate->closed) {
        list_push(&gate->waiting, &w.link);
        while (!w.in) io_task_park();
    }
    gate->closed = true;
}

void gate_leave(struct gate *gate)
{
    struct list *next = list_pop(&gate->waiting);
    assert(gate->closed);
    if (next == NULL) {
        gate->closed = false; /* else it is handed on */
        return;
    }
    struct waiter *w = CONTAINER(next, struct waiter, link);
    w->in = true;
    io_task_wake(w->task);
}

/* ---- links ---- */

static void on_up(struct link *link)
{
    struct peer *peer = link_owner(link);
    wire_news(peer->member, peer);
    keeper_kick(peer->member);
    user_up(peer);
}

static void on_down(struct link *link)
{
    struct peer *peer = link_owner(link);
    keeper_kick(peer->member);
    user_down(peer);
}

static void on_tell(void *arg, bool is_problem, const char *text)
{
    struct member *m = arg;
    member_say(m, is_problem, "%s", text);
}

static void on_renewed(void *arg, const struct identity *identity)
{
    struct member *m = arg;
    m->renewal = *identity;
    m->renewed = true;
    keeper_kick(m);
}

static void on_join(void *arg, struct link_join *join)
{
    struct member *m = arg;
    struct waiting_join *w = m->stopping ? NULL : mem_alloc(m->mem, sizeof *w);
    if (w == NULL) {
        link_join_refuse(join, "this node cannot let anybody in now: try again");
        return;
    }
    w->join = join;
    list_push(&m->joins, &w->link);
    keeper_kick(m);
}

static const struct links_user user = {wire_message, on_up, on_down, on_tell, on_renewed, on_join};

enum err links_begin(struct member *m, const struct identity *identity, struct member_why *why)
{
    const struct member_config *c = &m->config;
    struct links_config config = {.io = m->io,
                                  .identity = identity,
                                  .user = &user,
                                  .arg = m,
                                  .wall_s = c->wall_s,
                                  .listen_count = c->listen_count,
                                  .heartbeat_ms = c->heartbeat_ms,
                                  .timeout_ms = c->timeout_ms,
                                  .quiet_ms = QUIET_MS,
                                  .window_bytes = WINDOW,
                                  .conns_max = CONNS_MAX};
    uint32_t failed = 0;
    if (c->listen_count == 0) {
        member_help(why, "take cluster-listen = none out of izard's configuration, and start it again");
        return member_tell_why(why, ERR_ARGUMENT, "this izard was told not to listen for other nodes");
    }
    memcpy(config.listen, c->listen, sizeof config.listen);
    enum err err = links_open(&config, &m->links, &failed);
    if (err == OK) {
        links_let_join(m->links, true);
        return OK;
    }
    member_tell_why(why, err, "cannot listen for the other nodes at %.100s: %s", c->listen[failed], err_text(err));
    member_help(why, "cluster-listen in izard.conf, or --cluster-listen ADDR:PORT, chooses another place");
    return err;
}

/* ---- this node, for others ---- */

static bool is_wildcard(const char *address)
{
    return strncmp(address, "0.0.0.0:", 8) == 0 || strncmp(address, "[::]:", 5) == 0;
}

/* All addresses of the machine, with the port of one that stands for all of them. */
static uint32_t add_machine(const char *listen, uint32_t count, char addresses[ROSTER_ADDRESSES_MAX][ROSTER_ADDRESS_SIZE])
{
    char machine[HOST_ADDRESSES_MAX][HOST_ADDRESS_SIZE];
    const char *port = strrchr(listen, ':');
    uint32_t found = host_addresses(listen[0] != '[', machine);
    for (uint32_t i = 0; i < found && count < ROSTER_ADDRESSES_MAX; i++) {
        int length = snprintf(addresses[count], ROSTER_ADDRESS_SIZE, "%s%s", machine[i], port);
        count += length < ROSTER_ADDRESS_SIZE;
    }
    return count;
}

uint32_t member_addresses(const struct member *m, char ret_addresses[ROSTER_ADDRESSES_MAX][ROSTER_ADDRESS_SIZE])
{
    const struct member_config *c = &m->config;
    char text[IO_ADDRESS_TEXT];
    uint32_t count = 0;
    for (uint32_t i = 0; i < c->listen_count && count < ROSTER_ADDRESSES_MAX; i++) {
        bool said = i < c->advertise_count;
        const char *from = said               ? c->advertise[i]
                           : m->links != NULL ? member_listen_text(m, i, text, sizeof text)
                                              : c->listen[i];
        if (!said && is_wildcard(from))
            count = add_machine(from, count, ret_addresses);
        else if (snprintf(ret_addresses[count], ROSTER_ADDRESS_SIZE, "%s", from) < ROSTER_ADDRESS_SIZE)
            count++;
    }
    return count;
}

void member_self(const struct member *m, uint64_t acceptor, struct roster_node *ret_node)
{
    *ret_node = (struct roster_node){.number = m->number, .stage = ROSTER_LIVE, .role = m->config.role, .acceptor = acceptor};
    snprintf(ret_node->name, sizeof ret_node->name, "%s", m->config.name);
    memcpy(ret_node->store, m->config.store, sizeof ret_node->store);
    ret_node->address_count = member_addresses(m, ret_node->addresses);
}

uint64_t member_acceptor_id(struct member *m)
{
    uint64_t id;
    io_random(m->io, &id, sizeof id);
    return id | 1; /* never 0 */
}

struct pool_key member_own_key(const struct member *m)
{
    struct pool_key key = {.known = m->config.role == ROSTER_DATA};
    if (key.known) m->config.own_key(m->config.arg, key.at);
    return key;
}

/* ---- start ---- */

/* An acceptor that is of another cluster, or lost, is replaced by a new one with a new id: the roster hears of it later. */
static enum err open_acceptor(struct member *m, struct member_why *why)
{
    bool repaired = false;
    struct acceptor fresh;
    enum err err = acceptor_file_open(m->io, m->mem, m->config.folder, &m->acceptor, &repaired);
    if (err == OK && memcmp(acceptor_file_now(m->acceptor)->cluster, m->cluster.b, sizeof m->cluster.b) != 0) {
        acceptor_file_close(m->acceptor);
        m->acceptor = NULL;
        TRY(acceptor_file_erase(m->io, m->mem, m->config.folder));
        err = ERR_NO_ACCEPTOR;
    }
    if (err == ERR_NO_ACCEPTOR || err == ERR_ACCEPTOR_LOST) {
        member_say(m, true, "%s: this node begins with a new one, which holds nothing until the others say so", err_text(err));
        acceptor_make(&fresh, m->cluster.b, member_acceptor_id(m), NULL);
        err = acceptor_file_make(m->io, m->mem, m->config.folder, &fresh);
        if (err == OK) err = acceptor_file_open(m->io, m->mem, m->config.folder, &m->acceptor, &repaired);
    }
    if (err != OK) return member_tell_why(why, err, "cannot open the acceptor: %s", err_text(err));
    if (repaired) member_say(m, false, "one copy of the acceptor was damaged or older, and was written again");
    m->acceptor_id = acceptor_file_now(m->acceptor)->id;
    return OK;
}

static void begin_proposer(struct member *m, uint32_t boot)
{
    const struct acceptor *a = acceptor_file_now(m->acceptor);
    struct register_config config = {.node = m->number,
                                     .boot = boot,
                                     .wait_ms = m->config.wait_ms > 0 ? m->config.wait_ms : WAIT_MS,
                                     .pause_ms = PAUSE_MS,
                                     .attempts = ATTEMPTS};
    bool alone = a->accepted.round > 0 && a->state.members.next.count == 0 && a->state.members.now.count == 1 &&
                 acceptor_set_has(&a->state.members.now, a->id);
    if (m->roster->next > 0) config.members = m->known.members; /* else only what a joiner was told */
    if (alone) {
        state_learn(m, &a->state); /* what the only one accepted is decided */
        config.members = m->known.members;
    } else if (m->known.version == 0 && a->accepted.round > 0) {
        state_hint(m, &a->state);
        config.members = a->state.members;
    }
    memcpy(config.cluster, m->cluster.b, sizeof config.cluster);
    proposer_init(&m->proposer, &config, m->found);
}

static enum err begin_tasks(struct member *m)
{
    TRY(io_task_start(m->io, &m->server, server_run, m));
    m->serving = true;
    TRY(io_task_start(m->io, &m->keeper, keeper_run, m));
    m->keeping = true;
    return OK;
}

/* The start is counted, durable, before the proposer makes a ballot of it. */
enum err member_start(struct member *m, struct member_why *why)
{
    struct identity identity = *identity_file_now(m->identities);
    m->number = identity.node;
    m->cluster = identity.cluster;
    m->removed = m->stopping = m->renewed = m->kicked = m->done = false;
    m->settle_ns = m->told_ns = m->told_disk_ns = m->seen_count = 0;
    if (m->links == NULL) TRY(links_begin(m, &identity, why));
    identity.boot++;
    if (!identity.pool_key.known && identity.node == FOUNDER) identity.pool_key = member_own_key(m); /* of an older version */
    enum err err = identity_file_save(m->identities, &identity, identity_file_book(m->identities));
    if (err == OK) err = state_open(m);
    if (err != OK) return member_tell_why(why, err, "cannot open what this node keeps of its cluster: %s", err_text(err));
    TRY(open_acceptor(m, why));
    begin_proposer(m, identity.boot);
    m->boot = identity.boot;
    m->active = true;
    err = begin_tasks(m);
    return err == OK ? OK : member_tell_why(why, err, "no memory for the tasks of the cluster");
}

static void wait_for(struct member *m, const bool *runs)
{
    while (*runs) io_task_sleep(m->io, IO_MS_NS);
}

void member_stop(struct member *m)
{
    m->stopping = true;
    call_stop(m);
    if (m->keeping) keeper_kick(m);
    if (m->serving) io_task_wake(&m->server);
    wait_for(m, &m->keeping);
    wait_for(m, &m->serving);
    io_task_done(&m->keeper);
    io_task_done(&m->server);
    while (m->calls.closed || m->book.closed) {
        call_stop(m);
        io_task_sleep(m->io, IO_MS_NS);
    }
    for (struct list *l; (l = list_pop(&m->joins)) != NULL;) {
        struct waiting_join *w = CONTAINER(l, struct waiting_join, link);
        link_join_refuse(w->join, "this node is stopping: try again");
        mem_free(m->mem, w);
    }
    peers_close(m);
    links_close(m->links);
    m->links = NULL;
    for (struct list *l; (l = list_pop(&m->parcels)) != NULL;) mem_free(m->mem, CONTAINER(l, struct parcel, link));
    acceptor_file_close(m->acceptor);
    m->acceptor = NULL;
    m->acceptor_id = 0;
    m->number = m->boot = 0;
    state_close(m);
    state_forget(m);
    m->active = m->stopping = false;
}

/* ---- life ---- */

static enum err open_all(struct member *m, struct member_why *why)
{
    m->roster = mem_alloc(m->mem, sizeof *m->roster);
    m->draft = mem_alloc(m->mem, sizeof *m->draft);
    m->found = mem_alloc(m->mem, REGISTER_BYTES_MAX);
    m->image = mem_alloc(m->mem, ACCEPTOR_IMAGE_MAX);
    m->message = mem_alloc(m->mem, REGISTER_MESSAGE_MAX);
    if (m->roster == NULL || m->draft == NULL || m->found == NULL || m->image == NULL || m->message == NULL)
        return member_tell_why(why, ERR_NO_MEMORY, "no memory for what belongs to a cluster");
    enum err err = identity_file_open(m->io, m->mem, m->config.folder, &m->identities);
    if (err != OK) return member_tell_why(why, err, "cannot open the identity in %.200s: %s", m->config.folder, err_text(err));
    return identity_file_now(m->identities) != NULL ? member_start(m, why) : OK;
}

enum err member_open(const struct member_config *config, struct member **ret_member, struct member_why *ret_why)
{
    struct mem *mem = mem_open((uint64_t)MEMORY_MIB << 20);
    struct member *m = mem != NULL ? mem_alloc(mem, sizeof *m) : NULL;
    if (m == NULL) {
        mem_close(mem);
        return member_tell_why(ret_why, ERR_NO_MEMORY, "no memory for what belongs to a cluster");
    }
    m->config = *config;
    m->io = config->io;
    m->mem = mem;
    list_init(&m->book.waiting);
    list_init(&m->calls.waiting);
    list_init(&m->peers);
    list_init(&m->joins);
    list_init(&m->parcels);
    *ret_why = (struct member_why){.text = ""};
    enum err err = open_all(m, ret_why);
    if (err != OK) {
        if (ret_why->text[0] == '\0') member_tell_why(ret_why, err, "cannot be a member of the cluster: %s", err_text(err));
        member_close(m);
        return err;
    }
    *ret_member = m;
    return OK;
}

void member_close(struct member *member)
{
    if (member == NULL) return;
    assert(!member->attached && member->parting == 0);
    member_stop(member);
    identity_file_close(member->identities);
    mem_close(member->mem);
}

/* ---- looking ---- */

const struct roster *member_roster(const struct member *member)
{
    return member->active && member->known.version > 0 ? member->roster : NULL;
}

uint64_t member_version(const struct member *member)
{
    return member->known.version;
}

const struct register_members *member_acceptors(const struct member *member)
{
    return &member->known.members;
}

uint32_t member_number(const struct member *member)
{
    return member->number;
}

uint32_t member_boot(const struct member *member)
{
    return member->boot;
}

bool member_is_up(const struct member *member, uint32_t number)
{
    const struct peer *peer = peer_find(member, number);
    return number == member->number || (peer != NULL && link_is_up(peer->link));
}

bool member_was_removed(const struct member *member)
{
    return member->removed;
}

const char *member_listen_text(const struct member *member, uint32_t i, char *buf, size_t size)
{
    return links_listen_text(member->links, i, buf, size);
}

uint32_t member_listens(const struct member *member)
{
    return member->links != NULL ? member->config.listen_count : 0;
}

static uint32_t ups(const struct member *m, const struct acceptor_set *set)
{
    uint32_t up = 0;
    for (uint32_t i = 0; i < set->count; i++) {
        const struct roster_node *node = roster_of_acceptor(m->roster, set->ids[i]);
        up += set->ids[i] == m->acceptor_id || (node != NULL && node->number != m->number && member_is_up(m, node->number));
    }
    return up;
}

bool member_has_majority(const struct member *member, uint32_t *ret_up, uint32_t *ret_of)
{
    const struct register_members *members = &member->known.members;
    *ret_up = ups(member, &members->now);
    *ret_of = members->now.count;
    if (members->next.count > 0 && ups(member, &members->next) <= members->next.count / 2) return false;
    return *ret_up > *ret_of / 2;
}
