/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records of a replica in the store: prepared, published, discarded.
 *
 * The core decides on publishing and discarding; it happens here as soon as no read needs the records as they are. What depends
 * on it waits for it: reads for publishing (host_reads_go), the core for discarding (ON_DISCARDED).
 */
#include "volume/replica/host_internal.h"

struct host_slot *host_slot(struct replica_host *h, uint64_t sequence)
{
    return &h->slots[sequence % REPLICA_KEPT];
}

static uint32_t cost_of(const struct store_op *op)
{
    return op->kind == RECORD_DATA && op->what == ENTRY_NEW ? op->count : 0;
}

/* ---- what the replica keeps of itself ---- */

static const uint8_t self_key[] = {STATE_LOCAL, 'r'};

/* Value of the local key `self_key`. A volume that does not have it stands as it was made. */
struct disk_self {
    le64 join;
};
static_assert(sizeof(struct disk_self) == 8, "value of a local key");

static enum err self_get(const struct replica_host *h, uint64_t *ret_join)
{
    const void *value;
    uint32_t bytes;
    struct disk_self self;
    *ret_join = h->config.first_join;
    if (store_state_get(h->config.store, h->config.volume, self_key, sizeof self_key, &value, &bytes) != OK) return OK;
    if (bytes != sizeof self) return ERR_DECODE;
    memcpy(&self, value, sizeof self);
    *ret_join = get64(self.join);
    return OK;
}

struct self_put {
    struct store_op op;
    struct io_task *task;
    bool over;
};

static void self_is_put(struct store_op *op)
{
    struct self_put *put = CONTAINER(op, struct self_put, op);
    put->over = true;
    io_task_wake(put->task);
}

/* [task] */
static enum err self_set(struct replica_host *h, uint64_t join)
{
    struct disk_self self = {.join = put64(join)};
    struct self_put put = {.op = {.done = self_is_put,
                                  .kind = RECORD_STATE,
                                  .learn = true,
                                  .volume = h->config.volume,
                                  .sequence = h->published,
                                  .key = self_key,
                                  .key_bytes = sizeof self_key,
                                  .value = &self,
                                  .value_bytes = sizeof self},
                           .task = io_task_self()};
    store_prepare(h->config.store, &put.op);
    while (!put.over) io_task_park();
    return put.op.err;
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
    uint64_t used = 0;
    struct replica_facts facts = {.boot = c->boot, .committed = {info.published, info.epoch}, .records = room};
    struct store_window windows[REQUEST_NODES];
    TRY(self_get(h, &h->join));
    facts.join = h->join;
    store_windows(c->store, c->volume, windows);
    for (uint32_t i = 0; i < REPLICA_NODES_MAX; i++)
        facts.windows[i] = (struct replica_window){windows[i].boot, windows[i].high, windows[i].done};
    for (struct store_op *op; (op = store_prepared_next(c->store, c->volume, h->end)) != NULL; h->end = op->sequence) {
        if (facts.tail == REPLICA_TAIL || op->node >= REPLICA_NODES_MAX) return ERR_LIMIT;
        if (facts.tail == 0) facts.committed.epoch = op->previous_epoch;
        tell_record(op, &room[facts.tail++]);
        used += cost_of(op);
        *host_slot(h, op->sequence) = (struct host_slot){.op = op, .cost = cost_of(op)};
    }
    facts.credit = c->credit > used ? c->credit - used : 0;
    *ret_facts = facts;
    return OK;
}

/* ---- preparing ---- */

static void prepared(struct store_op *op)
{
    struct host_op *own = CONTAINER(op, struct host_op, op);
    struct replica_host *h = own->host;
    h->preparing--;
    if (op->err != OK) host_fail(h, op->err);
    host_step(h,
              &(struct replica_event){.kind = op->err == OK ? REPLICA_ON_DURABLE : REPLICA_ON_TICK, .sequence = op->sequence});
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
    }
    h->end = record->mark.sequence;
    *host_slot(h, h->end) = (struct host_slot){
        .op = &own->op, .own = own, .content = content, .cost = change->kind == REPLICA_WRITE ? change->count : 0};
    h->preparing++;
    store_prepare(h->config.store, &own->op);
}

/* ---- publishing ---- */

static void slot_end(struct replica_host *h, struct host_slot *slot)
{
    content_drop(h->config.contents, slot->content);
    if (slot->own != NULL) list_push(&h->ops_free, &slot->own->link);
    *slot = (struct host_slot){0};
}

void host_publish_go(struct replica_host *h)
{
    while (h->published < h->publish_to && !host_slot(h, h->published + 1)->reading) {
        struct host_slot *slot = host_slot(h, ++h->published);
        h->credit_back += slot->cost;
        store_publish(h->config.store, slot->op);
        slot_end(h, slot);
    }
    if (h->published == h->publish_to) host_reads_go(h);
}

void host_publish(struct replica_host *h, uint64_t upto)
{
    assert(upto <= h->end && upto >= h->publish_to);
    h->publish_to = upto;
    host_publish_go(h);
}

/* ---- discarding ---- */

/* [task] */
static enum err discard(struct replica_host *h)
{
    const struct replica_host_config *c = &h->config;
    if (h->join != h->discard_join) TRY(self_set(h, h->discard_join));
    h->join = h->discard_join;
    if (h->discard_from > h->end) return OK;
    TRY(store_discard(c->store, c->volume, h->discard_from));
    while (h->end >= h->discard_from) slot_end(h, host_slot(h, h->end--));
    return OK;
}

/* The host's one task, for all of its life. */
void host_run(void *arg)
{
    struct replica_host *h = arg;
    for (;;) {
        while (!h->discarding) io_task_park();
        if (!host_send_forget(h) || h->published < h->publish_to) {
            io_task_park(); /* what reads the records wakes it */
            continue;
        }
        enum err err = discard(h);
        h->discarding = false;
        if (err != OK) host_fail(h, err);
        host_step(h, &(struct replica_event){.kind = err == OK ? REPLICA_ON_DISCARDED : REPLICA_ON_TICK});
    }
}

void host_discard(struct replica_host *h, uint64_t from, uint64_t join)
{
    assert(!h->discarding && from > h->publish_to);
    h->discarding = true;
    h->discard_from = from;
    h->discard_join = join;
    io_task_wake(&h->task);
}
