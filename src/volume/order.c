/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order of a volume's changes.
 *
 *     ORDER    the next sequence, given when everything else is known: what has its number goes to the store at once
 *     PREPARE  durable in the store
 *     COMMIT   every in-sync replica has prepared it: here the only one, so at once
 *     PUBLISH  in the order of sequences: the store's `done` comes in this order
 *
 * When the store refuses one (the pool is full), it refuses all that were numbered after it with ERR_ORDER: the chain of
 * sequences has no gaps. Then nothing more is numbered until all of them came back; the refused one fails, the others get new
 * numbers, in their old order.
 *
 * Changes of a volume with replicas are ordered by its owner, wherever that is: by its host (replica/host.h).
 */
#include "store/mutation.h"
#include "volume/internal.h"

static void prepared(struct store_op *op);

static void number(struct volume *v, struct volume_work *work)
{
    struct store_op *op = &work->op;
    op->done = prepared;
    op->volume = v->id;
    op->epoch = v->epoch;
    op->sequence = v->next_sequence++;
    v->ordered++;
    store_prepare(v->volumes->store, op);
}

static void host_has_ordered(struct host_change *change)
{
    struct volume_work *work = CONTAINER(change, struct volume_work, change);
    work->ordered(work, change->err);
}

static void not_served(struct io_msg *msg)
{
    struct volume_work *work = CONTAINER(msg, struct volume_work, change.msg);
    work->ordered(work, ERR_AGAIN);
}

void order_replicated(struct volume *volume, struct volume_work *work)
{
    const struct store_op *op = &work->op;
    assert(op->kind == RECORD_DATA && work->request != NULL);
    work->change = (struct host_change){.done = host_has_ordered,
                                        .session = work->request->session,
                                        .arrived_us = work->request->age_ns / IO_US_NS,
                                        .what = op->what,
                                        .lba = op->lba,
                                        .count = op->count,
                                        .digests = op->digests,
                                        .since = work->since};
    if (volume->host != NULL && !work->request->lost) {
        host_change(volume->host, &work->change);
        return;
    }
    work->change.msg.handle = not_served;
    io_send(volume->volumes->io, &work->change.msg);
}

void order_start(struct volume *volume, struct volume_work *work)
{
    if (volume->renumbering) {
        list_push(&volume->held, &work->link);
        return;
    }
    number(volume, work);
}

/* All that was numbered is back. */
static void number_again(struct volume *v)
{
    struct store_volume_info info;
    struct list again;
    assert(v->ordered == 0);
    v->renumbering = false;
    if (store_volume_next(v->volumes->store, v->id, &info) == OK && info.id == v->id) v->next_sequence = info.prepared + 1;
    list_init(&again);
    for (struct list *l; (l = list_pop(&v->again));) list_push(&again, l);
    for (struct list *l; (l = list_pop(&v->held));) list_push(&again, l);
    for (struct list *l; (l = list_pop(&again));) number(v, CONTAINER(l, struct volume_work, link));
}

/* What must not be: its answer goes out now, but it is visible only when the volume's next change is. The request is over with
 * its last record; the work stays behind until then. */
static bool publish_late(struct volume *v, struct volume_work *work)
{
    const struct volume_request *r = work->request;
    bool last = r != NULL && r->next + r->now == r->first + r->count;
    struct volume_work *before = v->late;
    v->late = NULL;
    if (before != NULL) {
        store_publish(v->volumes->store, &before->op);
        work_give(v, before);
    }
    if (last) v->late = work;
    return last;
}

static void publish(struct volume *v, struct volume_work *work)
{
    if (MUTATED(MUTATE_PUBLISH_LATE) && publish_late(v, work)) return;
    store_publish(v->volumes->store, &work->op);
}

static void prepared(struct store_op *op)
{
    struct volume_work *work = CONTAINER(op, struct volume_work, op);
    struct volume *v = work->volume;
    enum err err = op->err;
    assert(v->ordered > 0);
    v->ordered--;
    if (err == OK) publish(v, work);
    if (err != OK) v->renumbering = true;
    bool again = err == ERR_ORDER;
    if (again) list_push(&v->again, &work->link);
    if (v->renumbering && v->ordered == 0) number_again(v);
    if (!again) work->ordered(work, err);
}
