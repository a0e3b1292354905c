/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients of a cluster as initiators with several paths are.
 *
 * A client has one command under way, over one session with one node. When no answer comes in time, or its session is
 * dropped, or its node dies, it gives the command up, and an answer to it counts for nothing. It goes on, over this or another
 * node, at once where both sides know that the session is gone; after silence only when that lasted longer than twice the age
 * at which commands are refused, and then maybe nobody ever tells the node.
 *
 * Whoever gave a write up writes something else to the same blocks next, until that is acknowledged.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "sim/cluster.h"
#include "sim/must.h"

static void think(struct cluster_client *k, uint64_t us)
{
    io_cancel(k->cluster->io, &k->timer);
    io_after(k->cluster->io, us * IO_US_NS, &k->timer);
}

static bool has_session(const struct cluster_client *k)
{
    const struct cluster_node *n = &k->cluster->node[k->node];
    return k->session != 0 && n->ready && n->life == k->life;
}

/* ---- commands ---- */

static void command_free(struct cluster_command *m)
{
    free(m->data);
    free(m->room);
    free(m);
}

/* Nothing of it is under way any more; whoever called back may still look at it. */
static void command_end(struct cluster_command *m)
{
    struct cluster *c = m->cluster;
    io_cancel(c->io, &m->timer);
    list_remove(&m->link);
    list_push(&c->commands_over, &m->link);
}

void client_forget(struct cluster *c)
{
    for (struct list *l; (l = list_pop(&c->commands_over)) != NULL;) command_free(CONTAINER(l, struct cluster_command, link));
}

/* The node hears that a session is gone. */
static void tell_lost(struct cluster_node *n, uint32_t life, uint64_t session)
{
    if (n->ready && n->life == life) host_lost(n->host, session);
}

static void answered(struct cluster_command *m, enum err err)
{
    struct cluster_client *k = m->client;
    struct cluster *c = m->cluster;
    if (k == NULL) {
        command_end(m);
        return;
    }
    sim_say(c->sim, "client %u: %s", k->number, err_name(err));
    k->command = NULL;
    judge_answer(m, err);
    c->counts.refused += err == ERR_NO_SPACE;
    c->counts.while_full += c->full && err == OK && m->verb != CLIENT_WRITE;
    if (c->full && err == ERR_NO_SPACE && m->verb != CLIENT_WRITE && m->verb != CLIENT_UPDATE)
        lab_fail(c->lab, "a command that takes no space is refused for lack of it");
    command_end(m);
    k->done += err == OK || err == ERR_CONFLICT;
    if (m->verb != CLIENT_READ && (err == OK || m->changes)) k->writing = false;
    think(k, 100 + cluster_below(c, err == OK ? 5000 : 50000));
}

static void change_done(struct host_change *change)
{
    answered(CONTAINER(change, struct cluster_command, change), change->err);
}

static void change_issue(struct cluster_command *m)
{
    struct cluster_node *n = m->node;
    m->changes = m->verb == CLIENT_UPDATE;
    m->change = (struct host_change){.done = change_done,
                                     .session = m->session,
                                     .lba = m->first,
                                     .count = m->count,
                                     .since = m->verb == CLIENT_UPDATE ? m->read.since : 0};
    m->change.what = m->verb != CLIENT_HOLE ? ENTRY_NEW : m->first % 2 == 0 ? ENTRY_ZERO : ENTRY_UNMAP;
    for (uint32_t i = 0; m->verb != CLIENT_HOLE && i < m->count; i++) {
        uint8_t *at = m->data + (size_t)i * BLOCK_SIZE;
        content_fill(judge_content(m->first + i, m->numbers[i]), at);
        digest_block(store_key(n->store), at, m->room + (size_t)i * BLOCK_SIZE, &m->digests[i]);
    }
    m->change.digests = m->digests;
    host_change(n->host, &m->change);
}

/* What it depends on was read: that becomes the next number, unless somebody was quicker. */
static void update_goes_on(struct cluster_command *m)
{
    if (m->client == NULL || !judge_update(m) || m->read.since == 0)
        answered(m, ERR_AGAIN);
    else
        change_issue(m);
}

static void load_done(struct host_load *load)
{
    struct cluster_command *m = CONTAINER(load, struct cluster_command, load);
    bool explained = m->cluster->bad_disks || (load->err == ERR_MEDIUM && rot_explains(m->cluster, m));
    if (load->err != OK && m->client != NULL && !explained)
        lab_fail(m->cluster->lab, "client %u: the blocks: %s", m->client->number, err_name(load->err));
    if (m->verb == CLIENT_UPDATE && load->err == OK)
        update_goes_on(m);
    else
        answered(m, load->err);
}

static void read_done(struct host_read *read)
{
    struct cluster_command *m = CONTAINER(read, struct cluster_command, read);
    if (read->err != OK) {
        answered(m, read->err);
        return;
    }
    m->load = (struct host_load){.done = load_done, .lba = m->first, .count = m->count, .data = m->data};
    host_load(m->node->host, &m->load);
}

/* It reaches its node, when that looks at its connections. */
static void arrives(struct io_timer *timer)
{
    struct cluster_command *m = CONTAINER(timer, struct cluster_command, timer);
    struct cluster *c = m->cluster;
    if (m->dropped) {
        tell_lost(m->node, m->life, m->session);
        return;
    }
    if (cluster_is_frozen(m->node)) {
        io_after(c->io, m->node->thaw.due_ns - io_now_ns(c->io), &m->timer);
        return;
    }
    m->arrived = true;
    if (m->verb == CLIENT_WRITE || m->verb == CLIENT_HOLE) {
        change_issue(m);
        return;
    }
    m->read = (struct host_read){.done = read_done, .lba = m->first, .count = m->count};
    host_read(m->node->host, &m->read);
}

/* Nobody waits for its answer any more. */
static void abandon(struct cluster_client *k)
{
    struct cluster_command *m = k->command;
    k->command = NULL;
    k->session = 0;
    m->client = NULL;
    if (m->verb == CLIENT_UPDATE) k->writing = false;
}

/* ---- what clients do ---- */

static void choose_write(struct cluster_client *k)
{
    struct cluster *c = k->cluster;
    uint32_t whole = max32(c->clients_count, CLUSTER_FEW), own = CLUSTER_OWNED / whole, holes = CLUSTER_HOLES / whole;
    uint64_t of = cluster_below(c, 1000);
    k->writing = true;
    k->verb = CLIENT_WRITE;
    if (of < 200 && !c->only_blocks) {
        k->verb = CLIENT_HOLE;
        k->first = CLUSTER_HOLES_AT + k->number * holes + (uint32_t)cluster_below(c, holes);
        uint32_t left = CLUSTER_HOLES_AT + (k->number + 1) * holes - k->first;
        k->count = 1 + (uint32_t)cluster_below(c, left);
        return;
    }
    if (of < 300 && !c->only_blocks) {
        k->verb = CLIENT_UPDATE;
        k->first = CLUSTER_OWNED + (uint32_t)cluster_below(c, c->updated);
        k->count = 1;
        return;
    }
    uint32_t begin = c->shared == 0 ? k->number * own : 0, length = c->shared == 0 ? own : c->shared;
    k->first = begin + (uint32_t)cluster_below(c, length);
    k->count = 1 + (uint32_t)cluster_below(c, min32(begin + length - k->first, CLUSTER_WRITE_MAX));
}

static struct cluster_command *choose(struct cluster_client *k)
{
    struct cluster *c = k->cluster;
    struct cluster_command *m = must(calloc(1, sizeof *m));
    if (!k->writing && cluster_chance(c, c->eager ? 900 : 500)) choose_write(k);
    bool reads = !k->writing || cluster_chance(c, 100);
    m->verb = reads ? CLIENT_READ : k->verb;
    m->first =
        reads ? (uint32_t)cluster_below(c, c->shared != 0 && cluster_chance(c, 700) ? c->shared : CLUSTER_BLOCKS) : k->first;
    m->count = reads ? 1 + (uint32_t)cluster_below(c, min32(CLUSTER_READ_MAX, CLUSTER_BLOCKS - m->first)) : k->count;
    m->data = must(aligned_alloc(BLOCK_SIZE, m->verb == CLIENT_HOLE ? BLOCK_SIZE : m->count * BLOCK_SIZE));
    m->room = must(aligned_alloc(BLOCK_SIZE, m->verb == CLIENT_HOLE ? BLOCK_SIZE : m->count * BLOCK_SIZE));
    return m;
}

static void issue(struct cluster_client *k)
{
    struct cluster *c = k->cluster;
    static const char *const verbs[] = {"reads", "writes", "unmaps", "updates"};
    struct cluster_command *m = choose(k);
    m->cluster = c;
    m->client = k;
    m->node = &c->node[k->node];
    m->life = k->life;
    m->session = k->session;
    m->timer.fire = arrives;
    k->command = m;
    list_push(&c->commands, &m->link);
    judge_issue(m);
    sim_say(c->sim, "client %u %s %u blocks from %u over node %u", k->number, verbs[m->verb], m->count, m->first, k->node);
    think(k, c->timing.stale_us * 9 / 4 + cluster_below(c, c->timing.stale_us));
    arrives(&m->timer);
}

/* No answer came: the session is given up; its node is told, unless its path is silent. */
static void give_up(struct cluster_client *k)
{
    struct cluster *c = k->cluster;
    struct cluster_command *m = k->command;
    bool told = !cluster_chance(c, c->silent) && !cluster_is_frozen(m->node);
    sim_say(c->sim, "client %u gives up on node %u%s", k->number, k->node, told ? "" : ", which does not hear of it");
    abandon(k);
    if (!m->arrived)
        command_end(m);
    else if (told)
        tell_lost(m->node, m->life, m->session);
}

static void wakes(struct io_timer *timer)
{
    struct cluster_client *k = CONTAINER(timer, struct cluster_client, timer);
    struct cluster *c = k->cluster;
    client_forget(c);
    if (k->command != NULL) give_up(k);
    if (c->quiet && !k->writing) return;
    if (!has_session(k) || cluster_chance(c, 200)) {
        k->node = (uint32_t)cluster_below(c, c->nodes);
        k->life = c->node[k->node].life;
        k->session = ++c->sessions;
    }
    if (!has_session(k)) {
        think(k, 1000 + cluster_below(c, 100000));
        return;
    }
    issue(k);
}

/* ---- sessions that end ---- */

/* Both sides hear of it, each after so long. */
static void command_drop(struct cluster_command *m, uint64_t client_us, uint64_t node_us)
{
    struct cluster *c = m->cluster;
    if (m->client != NULL) {
        think(m->client, client_us);
        abandon(m->client);
    }
    if (!m->arrived) {
        command_end(m);
        return;
    }
    m->dropped = true;
    io_cancel(c->io, &m->timer);
    io_after(c->io, node_us * IO_US_NS, &m->timer);
}

void client_drop(struct cluster *c, uint32_t number)
{
    struct cluster_client *k = &c->clients[number];
    if (k->command != NULL && !cluster_is_frozen(k->command->node)) command_drop(k->command, 1, 0);
}

/* Nothing of that node will ever answer. */
static void command_die(struct cluster_command *m)
{
    struct cluster_client *k = m->client;
    if (k != NULL) {
        abandon(k);
        think(k, 500 + cluster_below(m->cluster, 5000));
    }
    command_end(m);
}

void client_lost(struct cluster *c, uint32_t node, bool died)
{
    for (struct list *l = c->commands.next, *next; l != &c->commands; l = next) {
        struct cluster_command *m = CONTAINER(l, struct cluster_command, link);
        next = l->next;
        if (m->node->number != node) continue;
        if (died)
            command_die(m);
        else
            command_drop(m, 1 + cluster_below(c, 5000),
                         cluster_below(c, 200000)); /* a replica has dropped them all by itself */
    }
    for (uint32_t i = 0; i < c->clients_count; i++)
        if (c->clients[i].node == node) c->clients[i].session = 0;
}

/* ---- life ---- */

void client_begin(struct cluster *c, uint32_t number)
{
    struct cluster_client *k = &c->clients[number];
    k->cluster = c;
    k->number = number;
    k->timer.fire = wakes;
    think(k, cluster_below(c, 10000));
}

void client_go_on(struct cluster *c)
{
    c->quiet = false;
    for (uint32_t i = 0; i < c->clients_count; i++)
        if (c->clients[i].command == NULL) think(&c->clients[i], cluster_below(c, 10000));
}

/* Also of what was given up nothing is left. */
bool client_is_idle(const struct cluster *c)
{
    for (uint32_t i = 0; i < c->clients_count; i++)
        if (c->clients[i].command != NULL || c->clients[i].writing) return false;
    return list_empty(&c->commands);
}
