/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records of a replica in the store: prepared, published, discarded.
 *
 * The core decides on publishing and discarding; it happens here as soon as no read needs the records as they are, and no
 * digest must be without them. What depends on it waits for it: reads for publishing (host_reads_go), the core for discarding
 * (ON_DISCARDED).
 */
#include "volume/replica/host_internal.h"

struct host_slot *host_slot(struct replica_host *h, uint64_t sequence)
{
    struct host_slot *slot = &h->slots[sequence % REPLICA_KEPT];
    assert(sequence > h->published && slot->sequence == sequence && slot->op != NULL);
    return slot;
}

const struct host_slot *host_slot_kept(const struct replica_host *h, uint64_t sequence)
{
    const struct host_slot *slot = &h->slots[sequence % REPLICA_KEPT];
    return slot->sequence == sequence ? slot : NULL;
}

static void slot_begin(struct replica_host *h, const struct host_slot *begin)
{
    struct host_slot *slot = &h->slots[begin->sequence % REPLICA_KEPT];
    assert(slot->op == NULL);
    *slot = *begin;
}

static uint32_t cost_of(const struct store_op *op)
{
    return op->kind == RECORD_DATA && op->what == ENTRY_NEW ? op->count : 0;
}

/* ---- taking up ---- */

static void tell_record(const struct store_op *op, struct replica_record *ret_record)
{
    *ret_record =
        (struct replica_record){.mark = {.sequence = op->sequence, .epoch = op->epoch},
                                .previous_epoch = op->previous_epoch,
                                .change = {.kind = op->kind == RECORD_NOOP ? REPLICA_NOOP
                                                   : cost_of(op) > 0       ? REPLICA_WRITE
                                                                           : REPLICA_FREE,
                                           .count = op->kind == RECORD_DATA ? op->count : 0,
                                           .lba = op->kind == RECORD_DATA ? op->lba : 0,
                                           .request = {.node = (uint8_t)op->node, .boot = op->boot, .number = op->request}}};
}

enum err host_take_up(struct replica_host *h, struct replica_record *room, struct replica_facts *ret_facts)
{
    const struct replica_host_config *c = &h->config;
    struct store_volume_info info;
    TRY(store_volume_next(c->store, c->volume, &info));
    if (info.id != c->volume) return ERR_NO_VOLUME;
    /* Its CREATE is no record of the protocol: it was made before there was any. */
    struct store_op *first = info.published == 0 ? store_prepared(c->store, c->volume) : NULL;
    if (first != NULL) store_publish(c->store, first);
    TRY(store_volume_next(c->store, c->volume, &info));
    h->published = h->publish_to = h->end = info.published;
    struct replica_facts facts = {.boot = c->boot, .committed = {info.published, info.epoch}, .records = room};
    struct store_window windows[REQUEST_NODES];
    TRY(host_self_get(h, &h->self));
    /* The key says so before the store does. */
    if (info.learning && !h->self.learn.on) return ERR_REPLICA_STATE;
    facts.join = h->self.join;
    facts.learn = h->self.learn;
    h->blocks = info.blocks;
    store_windows(c->store, c->volume, windows);
    for (uint32_t i = 0; i < REPLICA_NODES_MAX; i++)
        facts.windows[i] = (struct replica_window){windows[i].boot, windows[i].high, windows[i].done};
    for (struct store_op *op; (op = store_prepared_next(c->store, c->volume, h->end)) != NULL; h->end = op->sequence) {
        if (facts.tail == REPLICA_KEPT - 1 || op->node >= REPLICA_NODES_MAX) return ERR_LIMIT;
        if (facts.tail == 0) facts.committed.epoch = op->previous_epoch;
        tell_record(op, &room[facts.tail++]);
        slot_begin(h, &(struct host_slot){.sequence = op->sequence, .what = op->what, .op = op, .cost = cost_of(op)});
    }
    h->durable_told = h->durable = h->end;
    *ret_facts = facts;
    return OK;
}

/* ---- preparing ---- */

/* Records become durable by batches, and are told so. */
static void durables_told(struct io_msg *msg)
{
    struct replica_host *h = CONTAINER(msg, struct replica_host, durables);
    bool any = h->durable > h->durable_told && h->durable <= h->end;
    h->durable_sent = false;
    h->durable_told = h->durable;
    host_step(h, &(struct replica_event){.kind = any ? REPLICA_ON_DURABLE : REPLICA_ON_TICK, .sequence = h->durable});
}

static void durable_tell(struct replica_host *h)
{
    if (h->durable_sent) return;
    h->durable_sent = true;
    h->durables.handle = durables_told;
    io_send(h->config.io, &h->durables);
}

static void prepared(struct store_op *op)
{
    struct host_op *own = CONTAINER(op, struct host_op, op);
    struct replica_host *h = own->host;
    struct host_slot *slot = host_slot(h, op->sequence);
    h->preparing--;
    if (slot->content != NULL && content_is_scarce(h->config.contents, slot->content->use)) {
        content_drop(h->config.contents, slot->content); /* the store has it: it is read if it has to be sent again */
        slot->content = NULL;
    }
    bool fine = op->err == OK || MUTATED(MUTATE_FAILURE_UNTOLD);
    if (!fine) host_fail(h, op->err);
    if (fine) h->durable = max64(h->durable, op->sequence);
    durable_tell(h);
}

void host_prepare(struct replica_host *h, const struct replica_record *record)
{
    const struct replica_change *change = &record->change;
    if (h->failed != OK) return;
    struct list *free = list_pop(&h->ops_free);
    struct replica_content *content = change->kind == REPLICA_NOOP ? NULL : host_content(h, change->body);
    if (free == NULL || (content == NULL && change->kind != REPLICA_NOOP)) {
        host_fail(h, ERR_LIMIT);
        return;
    }
    struct host_op *own = CONTAINER(free, struct host_op, link);
    own->host = h;
    own->op = (struct store_op){.done = prepared,
                                .kind = content != NULL ? RECORD_DATA : RECORD_NOOP,
                                .volume = h->config.volume,
                                .epoch = record->mark.epoch,
                                .sequence = record->mark.sequence,
                                .request = change->request.number,
                                .boot = change->request.boot,
                                .node = change->request.node};
    if (content != NULL) {
        content_hold(content);
        own->op.what = content->what;
        own->op.lba = change->lba;
        own->op.count = change->count;
        if (content->what == ENTRY_NEW) own->op.digests = content->digests;
        if (!MUTATED(MUTATE_CREDIT_BLIND)) own->op.pledge = &h->pledge;
    }
    h->end = record->mark.sequence;
    h->preparing++;
    slot_begin(h, &(struct host_slot){.sequence = h->end,
                                      .what = own->op.what,
                                      .op = &own->op,
                                      .own = own,
                                      .content = content,
                                      .cost = change->kind == REPLICA_WRITE ? change->count : 0});
    host_credit_use(h, host_slot(h, h->end)->cost);
    store_prepare(h->config.store, &own->op);
    if (!MUTATED(MUTATE_DURABLE_EARLY)) return;
    h->durable = h->end;
    durable_tell(h);
}

/* ---- publishing ---- */

/* What kind it is of stays known. */
static void slot_end(struct replica_host *h, struct host_slot *slot)
{
    content_drop(h->config.contents, slot->content);
    if (slot->own != NULL) list_push(&h->ops_free, &slot->own->link);
    *slot = (struct host_slot){.sequence = slot->sequence, .what = slot->what};
}

/* A record that is being read is published when that is over, and what a digest must not hold when that is made. */
static bool may_publish(struct replica_host *h, uint64_t sequence)
{
    if (sequence > host_check_limit(h)) return false;
    if (host_slot(h, sequence)->readers == 0 || MUTATED(MUTATE_PUBLISH_UNDER_READ)) return true;
    h->counts.waited++;
    return false;
}

void host_publish_go(struct replica_host *h)
{
    while (h->published < h->publish_to && may_publish(h, h->published + 1)) {
        struct host_slot *slot = host_slot(h, h->published + 1);
        host_credit_back(h, slot->cost);
        store_publish(h->config.store, slot->op);
        slot_end(h, slot);
        h->published++;
    }
    if (h->published == h->publish_to) host_reads_go(h);
    host_writer_wake(h);
    host_teach_wake(h);
    host_check_wake(h);
}

void host_publish(struct replica_host *h, uint64_t upto)
{
    assert(upto <= h->end && upto >= h->publish_to);
    h->publish_to = upto;
    host_publish_go(h);
}

void host_stand(struct replica_host *h, uint64_t sequence)
{
    assert(h->published == h->end);
    h->published = h->publish_to = h->end = h->durable = h->durable_told = sequence;
    for (uint32_t i = 0; i < REPLICA_KEPT; i++) h->slots[i] = (struct host_slot){0};
}

/* ---- discarding ---- */

/* [task] */
static enum err discard(struct replica_host *h)
{
    const struct replica_host_config *c = &h->config;
    struct host_self self = {.join = h->discard_join, .learn = h->self.learn};
    if (h->self.join != self.join && !MUTATED(MUTATE_DISCARD_UNSAID)) TRY(host_self_set(h, &self));
    assert(h->self.join == self.join); /* durable first: a tail without a join is never counted on */
    if (h->discard_from > h->end) return OK;
    TRY(store_discard(c->store, c->volume, h->discard_from));
    for (; h->end >= h->discard_from; h->end--) {
        struct host_slot *slot = host_slot(h, h->end);
        host_credit_back(h, slot->cost);
        slot_end(h, slot);
        slot->sequence = 0;
    }
    h->durable = min64(h->durable, h->end);
    h->durable_told = min64(h->durable_told, h->end);
    return OK;
}

bool host_discard_go(struct replica_host *h)
{
    if (!host_send_forget(h) || h->published < h->publish_to) return false;
    enum err err = discard(h);
    h->discarding = false;
    if (err != OK) host_fail(h, err);
    host_step(h, &(struct replica_event){.kind = err == OK ? REPLICA_ON_DISCARDED : REPLICA_ON_TICK});
    return true;
}

void host_discard(struct replica_host *h, uint64_t from, uint64_t join)
{
    assert(!h->discarding && from > h->publish_to);
    h->discarding = true;
    h->discard_from = from;
    h->discard_join = join;
    host_check_forget(h);
    host_publish_go(h);
}
