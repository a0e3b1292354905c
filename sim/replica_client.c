/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients as initiators with several paths are, and the judge of what they see.
 *
 * A client has one command under way. It writes its own blocks and reads all. When no answer comes in time, or its session is
 * reset, it gives the session up, and with it the command: an answer on it counts for nothing. A write is sent again, over this
 * or another node, until one is answered. A reset that both sides hear of makes it do so at once; silence only after a time
 * that is longer than twice the age at which commands are refused.
 *
 * A read must not return less than what was acknowledged, or returned by another read, before it began; nor what nobody wrote.
 */
#include "base/bytes.h"
#include "sim/replica.h"

static uint64_t path_latency(struct world *w)
{
    return 50 + world_below(w, 300);
}

static uint64_t id_of(uint32_t client, uint32_t block, uint64_t number)
{
    return (uint64_t)client << 56 | (uint64_t)block << 48 | number;
}

static void wake_in(struct world *w, uint32_t client, uint64_t us)
{
    world_plan_it(w, us, &(struct happening){.kind = HAPPEN_CLIENT, .a = client, .b = w->clients[client].number});
}

/* A client writes blocks that stand together, mostly one of them at a time. */
static void write_new(struct world *w, uint32_t client)
{
    struct world_client *c = &w->clients[client];
    uint32_t own = WORLD_JUDGED / w->plan.clients;
    c->writing = true;
    c->write_block = (uint32_t)world_below(w, own);
    c->write_count = world_chance(w, 300) ? 1 + (uint32_t)world_below(w, own - c->write_block) : 1;
    c->write_count = c->write_count < 4 ? c->write_count : 4;
    c->write_block += client * own;
}

static void number_it(struct world *w, uint32_t client)
{
    struct world_client *c = &w->clients[client];
    c->written++;
    c->ranges[c->written % WORLD_RANGES].block = (uint8_t)c->write_block;
    c->ranges[c->written % WORLD_RANGES].count = (uint8_t)c->write_count;
    for (uint32_t i = 0; i < c->write_count; i++) w->blocks[c->write_block + i].invoked = c->written;
}

static void choose(struct world *w, uint32_t client)
{
    struct world_client *c = &w->clients[client];
    c->reading = !c->writing && world_chance(w, 500);
    if (world_chance(w, 100)) c->reading = true;
    if (!c->reading && !c->writing) {
        write_new(w, client);
        number_it(w, client);
    }
    c->block = c->reading ? (uint32_t)world_below(w, WORLD_JUDGED) : c->write_block;
    c->count = c->reading ? 1 + (uint32_t)world_below(w, 2) : c->write_count;
}

static void issue(struct world *w, uint32_t client)
{
    struct world_client *c = &w->clients[client];
    c->floor = w->blocks[c->block].acked > w->blocks[c->block].seen ? w->blocks[c->block].acked : w->blocks[c->block].seen;
    c->busy = true;
    c->number++;
    c->deadline = w->now + w->plan.client_timeout_us + world_below(w, w->plan.client_timeout_us / 2);
    world_say(w, "client %u: %s %u blocks from %u, %u, over node %u", client, c->reading ? "reads" : "writes", c->count,
              c->block, c->reading ? c->floor : c->written, c->node);
    wake_in(w, client, c->deadline - w->now);
    if (c->cut[c->node] || !w->nodes[c->node].up) return;
    struct happening h = {.kind = HAPPEN_COMMAND, .node = (uint8_t)c->node, .life = w->nodes[c->node].life, .a = client};
    h.letter = world_letter(w);
    w->letters[h.letter].event = (struct replica_event){.kind = c->reading ? REPLICA_ON_READ : REPLICA_ON_CHANGE,
                                                        .session = c->session,
                                                        .id = id_of(client, c->block, c->number),
                                                        .lba = c->block,
                                                        .count = c->count,
                                                        .sequence = c->since,
                                                        .body = client << 24 | c->written};
    world_plan_it(w, path_latency(w), &h);
}

static void begin(struct world *w, uint32_t client)
{
    struct world_client *c = &w->clients[client];
    if (c->session == 0 || world_chance(w, 200)) {
        c->node = (uint32_t)world_below(w, w->plan.nodes);
        c->session = ++w->sessions;
    }
    choose(w, client);
    issue(w, client);
}

void client_direct(struct world *w, uint32_t node, bool read)
{
    struct world_client *c = &w->clients[0];
    c->node = node;
    c->session = ++w->sessions;
    c->reading = read;
    c->block = c->write_block = 0;
    c->count = c->write_count = 1;
    if (!read && !c->writing) number_it(w, 0);
    c->writing = c->writing || !read;
    issue(w, 0);
}

void client_depends(struct world *w, uint32_t node, uint64_t since)
{
    w->clients[0].since = since;
    client_direct(w, node, false);
    w->clients[0].since = 0;
}

static void give_up(struct world *w, uint32_t client, uint64_t tell_in)
{
    struct world_client *c = &w->clients[client];
    struct world_node *n = &w->nodes[c->node];
    if (n->up && !c->cut[c->node])
        world_plan_it(
            w, tell_in,
            &(struct happening){.kind = HAPPEN_LOST, .node = (uint8_t)c->node, .life = n->life, .a = client, .c = c->session});
    c->busy = false;
    c->session = 0;
    c->number++;
}

/* Both sides hear of it at once. */
void client_reset(struct world *w, uint32_t client)
{
    struct world_client *c = &w->clients[client];
    if (c->session == 0) return;
    world_say(w, "client %u: its session with node %u is reset", client, c->node);
    give_up(w, client, 0);
    wake_in(w, client, 200 + world_below(w, 2000));
}

void client_node_gone(struct world *w, uint32_t node)
{
    for (uint32_t i = 0; i < w->plan.clients; i++) {
        struct world_client *c = &w->clients[i];
        if (c->session == 0 || c->node != node || c->cut[node] || world_chance(w, 300)) continue;
        c->busy = false;
        c->session = 0;
        c->number++;
        wake_in(w, i, 500 + world_below(w, 5000));
    }
}

void client_wakes(struct world *w, uint32_t client, uint64_t number)
{
    struct world_client *c = &w->clients[client];
    if (c->number != number) return;
    if (c->busy) {
        world_say(w, "client %u gives up on node %u", client, c->node);
        give_up(w, client, path_latency(w));
    }
    if (!w->manual && (!w->quiet || c->writing)) begin(w, client);
}

/* One more write at the owner, which nobody judges but for all replicas being the same in the end. */
void client_pumps(struct world *w)
{
    uint32_t node = w->config.owner;
    struct replica_change change = {.kind = REPLICA_WRITE, .count = 1, .body = WORLD_PUMP << 24 | (++w->pumped & 0xffffff)};
    change.lba = WORLD_JUDGED + world_below(w, WORLD_BLOCKS - WORLD_JUDGED);
    if (w->quiet && !w->manual) return;
    world_plan_it(w, w->plan.pump_us, &(struct happening){.kind = HAPPEN_PUMP});
    if (!w->nodes[node].up || w->nodes[node].frozen_until > w->now) return;
    world_step(
        w, node,
        &(struct replica_event){.kind = REPLICA_ON_CHANGE, .id = (uint64_t)WORLD_PUMP << 56 | w->pumped, .change = &change});
}

/* ---- at the node ---- */

static void command(struct world *w, const struct happening *h)
{
    struct world_node *n = &w->nodes[h->node];
    struct replica_event e = w->letters[h->letter].event;
    struct replica_change change = {.kind = REPLICA_WRITE, .lba = e.lba, .count = e.count, .body = e.body, .since = e.sequence};
    /* After a pause the time comes first, and may end all sessions. */
    if (world_was_still(w, h->node)) world_step(w, h->node, &(struct replica_event){.kind = REPLICA_ON_TICK});
    if (e.session < n->sessions_from || e.session <= n->lost[h->a]) return;
    e.change = &change;
    world_step(w, h->node, &e);
}

static void lost(struct world *w, const struct happening *h)
{
    struct world_node *n = &w->nodes[h->node];
    n->lost[h->a] = max64(n->lost[h->a], h->c);
    world_step(w, h->node, &(struct replica_event){.kind = REPLICA_ON_LOST, .session = h->c});
}

enum answer { ANSWER_GOOD, ANSWER_NO, ANSWER_FULL };

static void answer(struct world *w, uint32_t node, uint64_t id, enum answer answer, uint32_t value)
{
    if (id >> 56 == WORLD_PUMP || w->clients[id >> 56].cut[node]) return;
    world_plan_it(w, path_latency(w), &(struct happening){.kind = HAPPEN_ANSWER, .a = id, .b = answer, .c = value});
}

static void map_read(struct world *w, const struct happening *h)
{
    answer(w, h->node, h->a, ANSWER_GOOD, store_value(w->nodes[h->node].store, h->a >> 48 & 255, h->b != 0));
}

/* The node ends all sessions; what it hears of that comes soon, and before anything else from these clients. */
static void reset_all(struct world *w, uint32_t node)
{
    struct world_node *n = &w->nodes[node];
    world_say(w, "node %u ends all sessions", node);
    w->resets++;
    n->sessions_from = ++w->sessions;
    for (uint32_t i = 0; i < w->plan.clients; i++)
        if (w->clients[i].session != 0 && w->clients[i].node == node && !w->clients[i].cut[node]) client_reset(w, i);
}

void client_effect(struct world *w, uint32_t node, const struct replica_effect *e)
{
    struct happening read = {
        .kind = HAPPEN_MAP_READ, .node = (uint8_t)node, .life = w->nodes[node].life, .a = e->id, .b = e->dirty};
    static const enum answer answers[] = {[REPLICA_GOOD] = ANSWER_GOOD,
                                          [REPLICA_BUSY] = ANSWER_NO,
                                          [REPLICA_FULL] = ANSWER_FULL,
                                          [REPLICA_OVERTAKEN] = ANSWER_NO};
    w->overtaken += e->kind == REPLICA_DO_ANSWER && e->outcome == REPLICA_OVERTAKEN;
    if (e->kind == REPLICA_DO_READ) world_plan_it(w, world_below(w, 400), &read);
    if (e->kind == REPLICA_DO_REFUSE) answer(w, node, e->id, ANSWER_NO, 0);
    if (e->kind == REPLICA_DO_ANSWER) answer(w, node, e->id, answers[e->outcome], 0);
    if (e->kind == REPLICA_DO_RESET) reset_all(w, node);
}

/* ---- the judge ---- */

static bool was_written(const struct world *w, uint32_t block, uint32_t got)
{
    uint32_t client = block / (WORLD_JUDGED / w->plan.clients), number = got & 0xffffff;
    if (client >= w->plan.clients || got >> 24 != client) return false;
    const struct world_client *c = &w->clients[client];
    if (c->written - number >= WORLD_RANGES) return c->written >= number;
    uint32_t first = c->ranges[number % WORLD_RANGES].block;
    return block >= first && block < first + c->ranges[number % WORLD_RANGES].count;
}

static void judge_read(struct world *w, uint32_t client, uint32_t got)
{
    struct world_client *c = &w->clients[client];
    struct world_block *b = &w->blocks[c->block];
    uint32_t value = got & 0xffffff;
    world_say(w, "client %u: block %u is %u", client, c->block, value);
    if (got != 0 && !was_written(w, c->block, got))
        world_fail(w, "block %u read over node %u is %x, which was never written there", c->block, c->node, got);
    else if (value < c->floor)
        world_fail(w, "block %u read over node %u is %u, and was %u already", c->block, c->node, value, c->floor);
    else if (value > b->invoked)
        world_fail(w, "block %u read over node %u is %u, which nobody wrote yet", c->block, c->node, value);
    if (value > b->seen) b->seen = value;
}

static void answered(struct world *w, const struct happening *h)
{
    uint32_t client = (uint32_t)(h->a >> 56);
    struct world_client *c = &w->clients[client];
    if (!c->busy || id_of(client, c->block, c->number) != h->a) return;
    if (h->b == ANSWER_GOOD) {
        c->done++;
        if (c->reading) judge_read(w, client, (uint32_t)h->c);
        if (!c->reading) {
            world_say(w, "client %u: block %u has %u", client, c->block, c->written);
            for (uint32_t i = 0; i < c->write_count; i++) w->blocks[c->write_block + i].acked = c->written;
            c->writing = false;
        }
    }
    c->busy = false;
    c->number++;
    if (h->b == ANSWER_NO && world_chance(w, 500)) c->session = 0;
    wake_in(w, client,
            h->b == ANSWER_GOOD ? world_below(w, w->plan.think_us * 2) : 1000 + world_below(w, w->plan.timing.heartbeat_us));
}

void client_happens(struct world *w, const struct happening *h)
{
    if (h->kind == HAPPEN_COMMAND) command(w, h);
    if (h->kind == HAPPEN_LOST) lost(w, h);
    if (h->kind == HAPPEN_MAP_READ) map_read(w, h);
    if (h->kind == HAPPEN_ANSWER) answered(w, h);
}
