/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A store as the protocol sees one: prepared records, a map with the newest sequence of each block, and a journal of what was
 * done that is durable up to somewhere. At a crash what is durable is kept, and any number of what follows, in order.
 *
 * It keeps its word on space: what it granted it has. To prepare beyond that is a failure of the protocol.
 */
#include <string.h>

#include "base/bytes.h"
#include "base/hash.h"
#include "sim/replica.h"
#include "store/mutation.h"

void store_begin(struct model_store *s, uint64_t join, uint64_t capacity)
{
    memset(&s->live, 0, sizeof s->live);
    s->live.join = join;
    s->durable = s->live;
    s->synced = s->written = s->syncing = 0;
    s->space = capacity;
    s->cleans = false;
}

/* ---- what each item does ---- */

static void apply_record(struct volume_state *v, const struct replica_record *record, uint64_t newest)
{
    const struct replica_change *c = &record->change;
    for (uint64_t b = c->lba; b < min64(c->lba + c->count, WORLD_BLOCKS); b++) {
        v->value[b] = (uint32_t)c->body;
        v->newest[b] = newest;
    }
}

static void window_note(struct replica_window *windows, const struct replica_request *q)
{
    struct replica_window *w = &windows[q->node];
    if (q->boot == 0 || q->boot < w->boot) return;
    if (q->boot > w->boot) *w = (struct replica_window){.boot = q->boot};
    while (w->high < q->number) {
        w->high++;
        w->done <<= 1;
    }
    if (w->high - q->number < REPLICA_REQUESTS) w->done |= 1ull << (w->high - q->number);
}

static void do_publish(struct volume_state *v, uint64_t upto)
{
    while (v->committed.sequence < upto) {
        const struct replica_record *record = &v->tail[(v->committed.sequence + 1) % WORLD_TAIL];
        apply_record(v, record, record->mark.sequence);
        window_note(v->windows, &record->change.request);
        v->committed = record->mark;
    }
}

static void do_apply(struct volume_state *v, const struct item *item)
{
    const struct replica_step *s = &item->step;
    for (uint32_t b = 0; b < WORLD_BLOCKS; b++) {
        if (s->stretch == 0 || (item->content.set >> b & 1) == 0) continue;
        v->value[b] = item->content.value[b];
        v->newest[b] = s->learn.applied;
    }
    for (uint32_t i = 0; i < s->count; i++) apply_record(v, &s->records[i], s->records[i].mark.sequence);
    v->learn = s->learn;
}

static void do_item(struct volume_state *v, const struct item *item)
{
    switch (item->kind) {
    case ITEM_PREPARE:
        v->tail[item->record.mark.sequence % WORLD_TAIL] = item->record;
        v->end = item->record.mark.sequence;
        break;
    case ITEM_PUBLISH: do_publish(v, item->sequence); break;
    case ITEM_DISCARD:
        v->end = item->sequence - 1;
        v->join = item->join;
        break;
    case ITEM_APPLY: do_apply(v, item); break;
    case ITEM_LEARNED:
        v->committed = item->mark;
        v->end = item->mark.sequence;
        v->join = item->join;
        memcpy(v->windows, item->windows, sizeof v->windows);
        v->learn = (struct replica_learn){0};
        break;
    }
}

/* ---- journal ---- */

static void sync_start(struct world *w, uint32_t node)
{
    struct model_store *s = w->nodes[node].store;
    if (s->syncing != 0 || s->written == s->synced) return;
    bool lazy = true; /* a commit number alone waits for company */
    for (uint64_t i = s->synced; i < s->written && lazy; i++) lazy = s->journal[i % WORLD_JOURNAL].kind == ITEM_PUBLISH;
    if (lazy) return;
    uint64_t us = 100 + world_below(w, 600);
    if (w->nodes[node].slow_disk && !w->calm && world_chance(w, 200)) us += world_below(w, w->plan.timing.promise_us / 4);
    s->syncing = s->written;
    world_plan_it(w, us, &(struct happening){.kind = HAPPEN_SYNC, .node = (uint8_t)node, .a = w->nodes[node].life});
}

static struct item *item_new(struct world *w, uint32_t node, enum item_kind kind)
{
    struct model_store *s = w->nodes[node].store;
    if (s->written - s->synced == WORLD_JOURNAL) world_fail(w, "node %u: the journal of the model is full", node);
    struct item *item = &s->journal[s->written++ % WORLD_JOURNAL];
    item->kind = kind;
    return item;
}

void store_note(struct world *w, uint32_t node, uint64_t in, const struct replica_event *e)
{
    struct happening h = {.kind = HAPPEN_NOTE, .node = (uint8_t)node, .life = w->nodes[node].life};
    h.letter = world_letter(w);
    w->letters[h.letter].event = *e;
    world_plan_it(w, in, &h);
}

static void tell(struct world *w, uint32_t node, const struct item *item)
{
    switch (item->kind) {
    case ITEM_PREPARE:
    case ITEM_PUBLISH: break;
    case ITEM_DISCARD: store_note(w, node, 0, &(struct replica_event){.kind = REPLICA_ON_DISCARDED}); break;
    case ITEM_APPLY: store_note(w, node, 0, &(struct replica_event){.kind = REPLICA_ON_APPLIED}); break;
    case ITEM_LEARNED: store_note(w, node, 0, &(struct replica_event){.kind = REPLICA_ON_LEARNED}); break;
    }
}

/* A sync is over. */
void store_happens(struct world *w, const struct happening *h)
{
    uint32_t node = h->node;
    struct model_store *s = w->nodes[node].store;
    uint64_t upto = 0;
    if (!w->nodes[node].up || h->a != w->nodes[node].life) return;
    for (; s->synced < s->syncing; s->synced++) {
        const struct item *item = &s->journal[s->synced % WORLD_JOURNAL];
        do_item(&s->durable, item);
        if (item->kind == ITEM_PREPARE) upto = item->record.mark.sequence;
        tell(w, node, item);
    }
    s->syncing = 0;
    if (upto != 0) store_note(w, node, 0, &(struct replica_event){.kind = REPLICA_ON_DURABLE, .sequence = upto});
    sync_start(w, node);
}

static uint64_t tail_cost(const struct volume_state *v)
{
    uint64_t cost = 0;
    for (uint64_t i = v->committed.sequence + 1; i <= v->end; i++) {
        const struct replica_change *c = &v->tail[i % WORLD_TAIL].change;
        if (c->kind == REPLICA_WRITE) cost += c->count;
    }
    return cost;
}

void store_crash(struct world *w, uint32_t node)
{
    struct model_store *s = w->nodes[node].store;
    uint64_t survives = s->synced + world_below(w, s->written - s->synced + 1);
    for (; s->synced < survives; s->synced++) do_item(&s->durable, &s->journal[s->synced % WORLD_JOURNAL]);
    s->written = s->synced;
    s->syncing = 0;
    s->live = s->durable;
    uint64_t used = tail_cost(&s->live);
    s->space = w->plan.capacity > used ? w->plan.capacity - used : 0;
}

void store_save(const struct world *w, uint32_t node, struct model_store *ret_image)
{
    *ret_image = *w->nodes[node].store;
}

void store_restore(struct world *w, uint32_t node, const struct model_store *image)
{
    struct model_store *s = w->nodes[node].store;
    s->live = s->durable = image->durable;
    s->written = s->synced;
    s->syncing = 0;
    uint64_t used = tail_cost(&s->live);
    s->space = w->plan.capacity > used ? w->plan.capacity - used : 0;
    w->nodes[node].put_back = s->live.join;
}

void store_facts(struct world *w, uint32_t node, struct replica_record *room, struct replica_facts *ret_facts)
{
    const struct model_store *s = w->nodes[node].store;
    const struct volume_state *v = &s->live;
    *ret_facts = (struct replica_facts){
        .committed = v->committed, .join = v->join, .learn = v->learn, .records = room, .credit = s->space, .full = !s->cleans};
    memcpy(ret_facts->windows, v->windows, sizeof v->windows);
    for (uint64_t i = v->committed.sequence + 1; i <= v->end; i++) room[ret_facts->tail++] = v->tail[i % WORLD_TAIL];
}

uint32_t store_value(const struct model_store *s, uint32_t block, bool dirty)
{
    uint32_t value = s->live.value[block];
    for (uint64_t i = s->live.committed.sequence + 1; dirty && i <= s->live.end; i++) {
        const struct replica_change *c = &s->live.tail[i % WORLD_TAIL].change;
        if (block >= c->lba && block < c->lba + c->count) value = (uint32_t)c->body;
    }
    return value;
}

/* ---- effects ---- */

static void prepare(struct world *w, uint32_t node, const struct replica_record *record)
{
    struct model_store *s = w->nodes[node].store;
    uint64_t cost = record->change.kind == REPLICA_WRITE ? record->change.count : 0;
    if (record->mark.sequence != s->live.end + 1)
        world_fail(w, "node %u prepares %llu after %llu", node, (unsigned long long)record->mark.sequence,
                   (unsigned long long)s->live.end);
    if (cost > s->space) world_fail(w, "node %u: a prepare found no space", node);
    s->space -= min64(cost, s->space);
    struct item *item = item_new(w, node, ITEM_PREPARE);
    item->record = *record;
    do_item(&s->live, item);
}

/* What is published anywhere is committed, so every replica that is in sync by the register must hold it durably now. */
static void judge_commit(struct world *w, uint32_t node, const struct replica_mark *mark)
{
    for (uint32_t i = 0; i < w->plan.nodes; i++) {
        const struct volume_state *v = &w->nodes[i].store->durable;
        if (!world_holds(w, &w->config, i)) continue;
        const struct replica_mark *its = &v->tail[mark->sequence % WORLD_TAIL].mark;
        bool has = mark->sequence <= v->end && its->sequence == mark->sequence && its->epoch == mark->epoch;
        if (!has && mark->sequence > v->committed.sequence)
            world_fail(w, "node %u publishes %llu of epoch %u, which node %u does not have", node,
                       (unsigned long long)mark->sequence, mark->epoch, i);
    }
}

/* What is overwritten, unmapped or discarded comes back after a while. */
static void give_back(struct world *w, uint32_t node, uint64_t blocks)
{
    if (blocks == 0 || w->nodes[node].store->cleans) return;
    store_note(w, node, w->plan.tight ? world_below(w, w->plan.timing.heartbeat_us) : 0,
               &(struct replica_event){.kind = REPLICA_ON_CREDIT, .credit = blocks, .full = true});
}

static void publish(struct world *w, uint32_t node, uint64_t sequence)
{
    struct model_store *s = w->nodes[node].store;
    uint64_t back = 0;
    for (uint64_t i = s->live.committed.sequence + 1; i <= sequence; i++) {
        const struct replica_change *c = &s->live.tail[i % WORLD_TAIL].change;
        if (c->kind == REPLICA_WRITE) back += c->count;
        judge_commit(w, node, &s->live.tail[i % WORLD_TAIL].mark);
    }
    struct item *item = item_new(w, node, ITEM_PUBLISH);
    item->sequence = sequence;
    do_item(&s->live, item);
    give_back(w, node, back);
}

static void discard(struct world *w, uint32_t node, const struct replica_effect *e)
{
    struct model_store *s = w->nodes[node].store;
    uint64_t before = tail_cost(&s->live);
    if (e->sequence <= s->live.committed.sequence || s->live.end > s->durable.end)
        world_fail(w, "node %u discards from %llu on", node, (unsigned long long)e->sequence);
    struct item *item = item_new(w, node, ITEM_DISCARD);
    item->sequence = e->sequence;
    item->join = e->id;
    do_item(&s->live, item);
    give_back(w, node, before - tail_cost(&s->live));
    world_say(w, "node %u discards from %llu on, join %llx", node, (unsigned long long)e->sequence, (unsigned long long)e->id);
}

static void read_changed(const struct volume_state *v, struct content *c, uint32_t which)
{
    for (uint64_t b = c->first; b < min64(c->first + c->count, WORLD_BLOCKS); b++) {
        if ((v->newest[b] <= c->since && c->since != 0) || (which >> b & 1) == 0) continue;
        c->set |= 1u << b;
        c->value[b] = v->value[b];
    }
}

void store_walked(struct world *w, uint32_t node, const struct replica_event *e)
{
    uint32_t which = (uint32_t)prng_next(&w->prng);
    read_changed(&w->nodes[node].store->live, &w->contents[e->body % WORLD_CONTENTS], which);
}

static void walk(struct world *w, uint32_t node, const struct replica_effect *e)
{
    const struct volume_state *v = &w->nodes[node].store->live;
    struct content *c = &w->contents[++w->content_count % WORLD_CONTENTS];
    uint64_t end = e->sequence + e->count;
    *c = (struct content){.first = e->sequence, .count = e->count, .since = e->since};
    read_changed(v, c, UINT32_MAX);
    store_note(w, node, 100 + world_below(w, 5000),
               &(struct replica_event){.kind = REPLICA_ON_WALKED,
                                       .failed = w->nodes[node].damaged,
                                       .node = e->node,
                                       .id = e->id,
                                       .body = w->content_count,
                                       .sequence = end >= WORLD_BLOCKS ? 0 : e->count});
}

static void digest(struct world *w, uint32_t node, const struct replica_effect *e)
{
    const struct volume_state *v = &w->nodes[node].store->live;
    struct replica_event event = {.kind = REPLICA_ON_DIGEST, .node = e->node, .id = e->id};
    event.failed = w->nodes[node].damaged;
    event.digest[0] = hash64(v->value, sizeof v->value, 0);
    event.digest[1] = hash64(v->value, sizeof v->value, 1);
    store_note(w, node, w->plan.digest_us + 100 + world_below(w, 5000), &event);
}

void store_effect(struct world *w, uint32_t node, const struct replica_effect *e)
{
    struct model_store *s = w->nodes[node].store;
    struct item *item;
    if (e->kind == REPLICA_DO_PREPARE) {
        prepare(w, node, e->record);
    } else if (e->kind == REPLICA_DO_PUBLISH) {
        publish(w, node, e->sequence);
    } else if (e->kind == REPLICA_DO_DISCARD) {
        discard(w, node, e);
    } else if (e->kind == REPLICA_DO_WALK) {
        walk(w, node, e);
    } else if (e->kind == REPLICA_DO_DIGEST) {
        digest(w, node, e);
    } else if (e->kind == REPLICA_DO_APPLY && w->nodes[node].full) {
        store_note(w, node, 500, &(struct replica_event){.kind = REPLICA_ON_APPLIED, .failed = true});
    } else if (e->kind == REPLICA_DO_APPLY) {
        item = item_new(w, node, ITEM_APPLY);
        item->step = *e->step;
        item->content = w->contents[e->step->body % WORLD_CONTENTS];
        do_item(&s->live, item);
    } else if (e->kind == REPLICA_DO_LEARNED) {
        item = item_new(w, node, ITEM_LEARNED);
        item->mark = e->mark;
        item->join = e->id;
        memcpy(item->windows, e->windows, sizeof item->windows);
        do_item(&s->live, item);
        world_say(w, "node %u has caught up with %llu", node, (unsigned long long)e->mark.sequence);
    }
    sync_start(w, node);
}
