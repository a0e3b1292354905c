/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients of a cluster as initiators with several paths are, and the judge of what they see.
 *
 * A client has one command under way, over one session with one node. When no answer comes in time, or its session is
 * dropped, or its node dies, it gives the session up, and an answer on it counts for nothing. A write is sent again, over this
 * or another node, until one is answered: at once where both sides know that the session is gone, after silence only when that
 * lasted longer than twice the age at which commands are refused.
 */
#include <string.h>

#include "base/bytes.h"
#include "sim/cluster.h"
#include "sim/must.h"

enum { NUMBER_SHIFT = 12, BLOCK_SHIFT = 3 };
static_assert(CLUSTER_BLOCKS << BLOCK_SHIFT == 1 << NUMBER_SHIFT, "numbers and blocks do not meet");

static void think(struct cluster_client *k, uint64_t us)
{
    io_cancel(k->cluster->io, &k->timer);
    io_after(k->cluster->io, us * IO_US_NS, &k->timer);
}

/* ---- contents ---- */

uint32_t client_content(uint32_t block, uint32_t number)
{
    return number == 0 ? 0 : number << NUMBER_SHIFT | block << BLOCK_SHIFT | (number * 5 + block) % 8;
}

bool client_number(const struct cluster *c, uint32_t block, const uint8_t *data, uint32_t *ret_number)
{
    uint32_t claimed = content_is(0, data) ? 0 : content_claimed(data);
    *ret_number = claimed >> NUMBER_SHIFT;
    if (*ret_number > c->blocks[block].invoked) return false;
    return claimed == client_content(block, *ret_number) && content_is(claimed, data);
}

/* ---- what clients do ---- */

static void choose_write(struct cluster_client *k)
{
    struct cluster *c = k->cluster;
    k->writing = true;
    k->write_verb = cluster_chance(c, 200) && !c->only_blocks ? CLIENT_HOLE : CLIENT_WRITE;
    if (k->write_verb == CLIENT_HOLE) {
        k->write_first = CLUSTER_HOLES_AT + k->number * CLUSTER_HOLES + (uint32_t)cluster_below(c, CLUSTER_HOLES);
        uint32_t left = CLUSTER_HOLES_AT + (k->number + 1) * CLUSTER_HOLES - k->write_first;
        k->write_count = 1 + (uint32_t)cluster_below(c, left);
        return;
    }
    k->write_first = k->number * CLUSTER_OWN + (uint32_t)cluster_below(c, CLUSTER_OWN);
    uint32_t left = (k->number + 1) * CLUSTER_OWN - k->write_first;
    k->write_count = 1 + (uint32_t)cluster_below(c, min32(left, CLUSTER_WRITE_MAX));
    for (uint32_t i = 0; i < k->write_count; i++) c->blocks[k->write_first + i].invoked++;
}

static void choose(struct cluster_client *k)
{
    struct cluster *c = k->cluster;
    k->verb = CLIENT_READ;
    if (!k->writing && cluster_chance(c, c->eager ? 900 : 500)) choose_write(k);
    if (k->writing && cluster_chance(c, 900)) k->verb = k->write_verb;
    k->first = k->verb != CLIENT_READ ? k->write_first : (uint32_t)cluster_below(c, CLUSTER_BLOCKS);
    k->count = k->verb != CLIENT_READ ? k->write_count
                                      : 1 + (uint32_t)cluster_below(c, min32(CLUSTER_READ_MAX, CLUSTER_BLOCKS - k->first));
}

static void fail_read(struct cluster_client *k, uint32_t i, uint32_t number)
{
    const struct cluster_block *b = &k->cluster->blocks[k->first + i];
    lab_fail(k->cluster->lab, "client %u read block %u over node %u: number %u, after %u (acknowledged %u, written %u)",
             k->number, k->first + i, k->node, number, k->floor[i], b->acked, b->invoked);
}

static void judge_read(struct cluster_client *k)
{
    struct cluster *c = k->cluster;
    for (uint32_t i = 0; i < k->count; i++) {
        struct cluster_block *b = &c->blocks[k->first + i];
        uint32_t number;
        if (!client_number(c, k->first + i, k->data + (size_t)i * BLOCK_SIZE, &number) || number < k->floor[i])
            fail_read(k, i, number);
        b->seen = max32(b->seen, number);
    }
}

static void judge_write(struct cluster_client *k)
{
    struct cluster *c = k->cluster;
    k->writing = false;
    for (uint32_t i = 0; k->verb == CLIENT_WRITE && i < k->count; i++) {
        struct cluster_block *b = &c->blocks[k->first + i];
        b->acked = b->invoked;
    }
}

/* The command is answered: `err`. */
static void answered(struct cluster_client *k, enum err err)
{
    struct cluster *c = k->cluster;
    k->busy = false;
    if (k->abandoned) {
        k->abandoned = false;
        think(k, 10); /* its memory is free for the next */
        return;
    }
    sim_say(c->sim, "client %u: %s", k->number, err_name(err));
    if (err == OK && k->verb == CLIENT_READ) judge_read(k);
    if (err == OK && k->verb != CLIENT_READ) judge_write(k);
    k->done += err == OK;
    think(k, 100 + cluster_below(c, err == OK ? 5000 : 50000));
}

static void change_done(struct host_change *change)
{
    answered(CONTAINER(change, struct cluster_client, change), change->err);
}

static void map_done(struct store_read *read)
{
    struct cluster_client *k = CONTAINER(read, struct cluster_client, map);
    if (read->err != OK && !k->abandoned) lab_fail(k->cluster->lab, "client %u: the map: %s", k->number, err_name(read->err));
    answered(k, read->err);
}

static void read_done(struct host_read *read)
{
    struct cluster_client *k = CONTAINER(read, struct cluster_client, read);
    if (read->err != OK) {
        answered(k, read->err);
        return;
    }
    k->map = (struct store_read){.done = map_done, .volume = 1, .lba = k->first, .count = k->count, .data = k->data};
    store_read(k->cluster->node[k->node].store, &k->map);
}

static void issue_write(struct cluster_client *k)
{
    struct cluster *c = k->cluster;
    struct cluster_node *n = &c->node[k->node];
    k->change = (struct host_change){.done = change_done, .session = k->session, .lba = k->first, .count = k->count};
    k->change.what = k->verb == CLIENT_WRITE ? ENTRY_NEW : k->first % 2 == 0 ? ENTRY_ZERO : ENTRY_UNMAP;
    for (uint32_t i = 0; k->verb == CLIENT_WRITE && i < k->count; i++) {
        uint8_t *at = k->data + (size_t)i * BLOCK_SIZE;
        content_fill(client_content(k->first + i, c->blocks[k->first + i].invoked), at);
        digest_block(store_key(n->store), at, k->room + (size_t)i * BLOCK_SIZE, &k->digests[i]);
    }
    k->change.digests = k->digests;
    host_change(n->host, &k->change);
}

static void issue(struct cluster_client *k)
{
    struct cluster *c = k->cluster;
    static const char *const verbs[] = {"reads", "writes", "unmaps"};
    for (uint32_t i = 0; k->verb == CLIENT_READ && i < k->count; i++)
        k->floor[i] = max32(c->blocks[k->first + i].acked, c->blocks[k->first + i].seen);
    sim_say(c->sim, "client %u %s %u blocks from %u over node %u", k->number, verbs[k->verb], k->count, k->first, k->node);
    k->busy = true;
    think(k, c->timing.stale_us * 9 / 4 + cluster_below(c, c->timing.stale_us));
    if (k->verb != CLIENT_READ) {
        issue_write(k);
        return;
    }
    k->read = (struct host_read){.done = read_done, .lba = k->first, .count = k->count};
    host_read(c->node[k->node].host, &k->read);
}

static bool has_session(const struct cluster_client *k)
{
    const struct cluster_node *n = &k->cluster->node[k->node];
    return k->session != 0 && n->ready && n->life == k->life;
}

/* No answer came: the session is given up, its node is told. */
static void give_up(struct cluster_client *k)
{
    struct cluster *c = k->cluster;
    sim_say(c->sim, "client %u gives up on node %u", k->number, k->node);
    k->lost = k->session;
    k->session = 0;
    k->abandoned = true;
}

/* The node hears that the session is gone. */
static void tell_lost(struct cluster_client *k)
{
    const struct cluster_node *n = &k->cluster->node[k->node];
    uint64_t session = k->lost;
    k->lost = 0;
    if (session != 0 && n->ready && n->life == k->life) host_lost(n->host, session);
}

static void wakes(struct io_timer *timer)
{
    struct cluster_client *k = CONTAINER(timer, struct cluster_client, timer);
    struct cluster *c = k->cluster;
    if (k->busy && !k->abandoned) give_up(k);
    tell_lost(k);
    if (k->busy) {
        think(k, 50000); /* until its memory is free */
        return;
    }
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
    choose(k);
    issue(k);
}

void client_drop(struct cluster *c, uint32_t number)
{
    struct cluster_client *k = &c->clients[number];
    if (k->session == 0) return;
    k->lost = k->session;
    k->session = 0;
    k->abandoned = k->busy;
    think(k, 0);
}

void client_lost(struct cluster *c, uint32_t node, bool died)
{
    for (uint32_t i = 0; i < c->clients_count; i++) {
        struct cluster_client *k = &c->clients[i];
        if (k->node != node) continue;
        if (!died) client_drop(c, i);
        if (!died || (k->session == 0 && !k->busy)) continue;
        k->busy = k->abandoned = false; /* nothing of that node will ever answer */
        k->session = k->lost = 0;
        think(k, 500 + cluster_below(c, 5000));
    }
}

void client_begin(struct cluster *c, uint32_t number)
{
    struct cluster_client *k = &c->clients[number];
    k->cluster = c;
    k->number = number;
    k->timer.fire = wakes;
    k->data = must(aligned_alloc(BLOCK_SIZE, CLUSTER_READ_MAX * BLOCK_SIZE));
    k->room = must(aligned_alloc(BLOCK_SIZE, CLUSTER_READ_MAX * BLOCK_SIZE));
    think(k, cluster_below(c, 10000));
}

void client_go_on(struct cluster *c)
{
    c->quiet = false;
    for (uint32_t i = 0; i < c->clients_count; i++) think(&c->clients[i], cluster_below(c, 10000));
}

bool client_is_idle(const struct cluster *c)
{
    for (uint32_t i = 0; i < c->clients_count; i++)
        if (c->clients[i].busy || c->clients[i].writing) return false;
    return true;
}
