/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Digests: is a learner's content what its teacher's is, as of one record?
 *
 * Here, as the learner: the digest is made of what was applied; the next step is not applied before that is done.
 *
 * Here, as the teacher: nothing after the record is published until the digest is made, and until the learner has come to the
 * record: content of records that it still needs is read from the map, and must not be newer than what is compared. So a
 * difference is a difference, and nobody walks all of a volume because a block was written twice. Foreground goes on meanwhile,
 * as far as there is room for what is not published; only reads here wait. When the learner does not get on, or takes too
 * long for all of it, it is told that the digest could not be made: it is asked for again, later.
 */
#include "base/hash.h"
#include "volume/replica/host_internal.h"

enum { MOVE_BEATS = 4, ALL_BEATS = 16, AGAIN_MAX = 4 };

void host_check(struct replica_host *h, const struct replica_effect *e)
{
    h->checks[e->node] = (struct host_check){.on = true, .due = true, .id = e->id, .sequence = e->sequence};
    host_check_wake(h);
}

static bool is_mine(const struct replica_host *h, uint32_t node)
{
    return node == h->config.setup.node;
}

bool host_check_holds(const struct replica_host *h)
{
    const struct host_check *c = &h->checks[h->config.setup.node];
    return c->on && c->due;
}

uint64_t host_check_limit(const struct replica_host *h)
{
    uint64_t limit = UINT64_MAX;
    for (uint32_t node = 0; node < REPLICA_NODES_MAX && !MUTATED(MUTATE_DIGEST_UNHELD); node++)
        if (h->checks[node].on && !is_mine(h, node)) limit = min64(limit, h->checks[node].sequence);
    return limit;
}

void host_check_forget(struct replica_host *h)
{
    for (uint32_t node = 0; node < REPLICA_NODES_MAX; node++) h->checks[node].on = h->checks[node].due = false;
}

/* A learner that goes on from there has got it, and keeps it. */
void host_check_heard(struct replica_host *h, const struct replica_message *m)
{
    struct host_check *c = &h->checks[m->from];
    if (m->kind != REPLICA_WANT || !c->on || is_mine(h, m->from)) return;
    uint64_t applied = m->u.step.learn.applied;
    if (applied >= c->sequence) c->passed = true;
    if (applied > c->applied) c->moved_us = host_now_us(h);
    c->applied = applied;
}

/* ---- what came of it ---- */

static bool has_lapsed(const struct replica_host *h, const struct host_check *c, uint64_t now)
{
    uint64_t beat = h->config.setup.timing.heartbeat_us;
    return now - max64(c->moved_us, c->known_us) > MOVE_BEATS * beat || now - c->known_us > ALL_BEATS * beat;
}

bool host_check_event(struct replica_host *h, struct replica_event *ret_event)
{
    for (uint32_t node = 0; node < REPLICA_NODES_MAX; node++) {
        struct host_check *c = &h->checks[node];
        if (!c->on || !c->known) continue;
        bool lapsed = !c->failed && !c->passed && !is_mine(h, node) && has_lapsed(h, c, ret_event->now);
        if (!c->failed && !c->passed && !is_mine(h, node) && !lapsed) continue;
        h->counts.digests += !c->failed && !lapsed;
        h->counts.lapses += lapsed;
        ret_event->kind = REPLICA_ON_DIGEST;
        ret_event->node = (uint8_t)node;
        ret_event->id = c->id;
        ret_event->failed = c->failed || lapsed;
        memcpy(ret_event->digest, c->digest, sizeof c->digest);
        c->on = false;
        host_publish_go(h);
        return true;
    }
    return false;
}

/* ---- the task ---- */

/* What must be in it is published. */
static bool is_ready(const struct replica_host *h, uint32_t node)
{
    const struct host_check *c = &h->checks[node];
    return c->on && c->due && (is_mine(h, node) || h->published >= c->sequence || MUTATED(MUTATE_DIGEST_EARLY));
}

void host_check_wake(struct replica_host *h)
{
    for (uint32_t node = 0; node < REPLICA_NODES_MAX; node++) {
        if (!is_ready(h, node)) continue;
        io_task_wake(&h->digester);
        return;
    }
}

/* [task] Four words of the store are two here. */
static enum err digest(struct replica_host *h, uint64_t ret_digest[2])
{
    uint64_t words[4], sequence;
    enum err err = ERR_AGAIN;
    for (uint32_t i = 0; i < AGAIN_MAX && err == ERR_AGAIN; i++)
        err = store_volume_digest(h->config.store, h->config.volume, &sequence, words);
    if (err != OK) return err;
    struct hash128 hash = hash128(words, sizeof words, 0);
    ret_digest[0] = hash.low;
    ret_digest[1] = hash.high;
    return OK;
}

static void check_make(struct replica_host *h, uint32_t node)
{
    struct host_check *c = &h->checks[node];
    uint64_t id = c->id, of[2] = {0, 0};
    enum err err = digest(h, of);
    if (!c->on || c->id != id) return; /* it was for something that is over */
    c->due = false;
    c->known = true;
    c->failed = err != OK;
    memcpy(c->digest, of, sizeof of);
    c->known_us = host_now_us(h);
    host_step(h, &(struct replica_event){.kind = REPLICA_ON_TICK});
    host_writer_wake(h);
}

void host_check_run(void *arg)
{
    struct replica_host *h = arg;
    for (;;) {
        uint32_t node = 0;
        while (node < REPLICA_NODES_MAX && !is_ready(h, node)) node++;
        if (node == REPLICA_NODES_MAX)
            io_task_park();
        else {
            h->working++;
            check_make(h, node);
            h->working--;
        }
    }
}
