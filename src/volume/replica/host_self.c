/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a replica keeps of itself in the store, beside the volume: its join, and how far it has learned. One local key, so all
 * of it changes at once, and together with a MOVE when learning is over.
 *
 * What a restart finds is true whatever did not come to be:
 *
 *     LEAVE   the key says join 0, before the tail is discarded: a tail without a join is never counted on
 *     begin   the key says that it learns, and from where, before the first block is changed: a mixture is never taken for
 *             something that history had
 *     step    its blocks, its records, the key: the store keeps a prefix, so what the key says is there. Blocks may be newer
 *             than it says: the records after `applied` do not mind
 *     end     the windows, then MOVE with the key: where the volume stands, the join, and that nothing is learned any more come
 *             true together. Windows that were set before that belong to records that are there already; they are looked at by
 *             nobody until then, and are set again
 */
#include "volume/replica/disk_self.h"
#include "volume/replica/host_internal.h"

static const uint8_t self_key[] = {STATE_LOCAL, 'r'};

void host_self_op(const struct host_self *self, struct disk_self *ret_value, struct store_op *op)
{
    self_encode(self, ret_value);
    op->key = self_key;
    op->key_bytes = sizeof self_key;
    op->value = ret_value;
    op->value_bytes = sizeof *ret_value;
}

/* A volume that does not have it stands as it was made. */
enum err host_self_get(const struct replica_host *h, struct host_self *ret_self)
{
    const void *value;
    uint32_t bytes;
    if (store_state_get(h->config.store, h->config.volume, self_key, sizeof self_key, &value, &bytes) == OK)
        return self_decode(value, bytes, ret_self);
    *ret_self = (struct host_self){.join = h->config.first_join};
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

enum err host_self_set(struct replica_host *h, const struct host_self *self)
{
    struct disk_self value;
    struct self_put put = {
        .op = {.done = self_is_put, .kind = RECORD_STATE, .learn = true, .volume = h->config.volume, .sequence = h->published},
        .task = io_task_self()};
    host_self_op(self, &value, &put.op);
    store_prepare(h->config.store, &put.op);
    while (!put.over) io_task_park();
    if (put.op.err == OK) h->self = *self;
    return put.op.err;
}
