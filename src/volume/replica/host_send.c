/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages of the core to other nodes, with the content that they name.
 *
 *     FORWARD   the content of a client's change is here until the client is answered
 *     RECORD    the content of a record is here until it is published. One that the store found, or that was published
 *               already, is read again, one after the other: what is prepared as it is prepared, else as the blocks are now.
 *               That is right, too: whoever gets an old record with newer blocks gets the records that made them newer, and
 *               is not in sync before it has them
 *
 * A record does not overtake one to the same node that waits for its content: it waits behind it. When too many wait, they
 * are dropped: the core sends again what is not acknowledged.
 */
#include "volume/replica/host_internal.h"

static void resend_next(struct replica_host *h);

static void put(struct replica_host *h, uint8_t node, const struct replica_message *m, struct replica_content *content)
{
    const struct replica_wires *w = &h->config.wires;
    w->send(w->arg, node, m, content);
}

static void resend_end(struct replica_host *h, struct host_resend *r)
{
    content_drop(h->config.contents, r->content);
    list_push(&h->resends_free, &r->link);
}

/* ---- reading it again ---- */

static const struct replica_record *record_of(const struct host_resend *r)
{
    return &r->message.u.record;
}

/* The one at hand has its content, or none can be had. */
static void read_over(struct replica_host *h)
{
    struct host_resend *r = h->resend;
    uint64_t sequence = record_of(r)->mark.sequence;
    h->resend = NULL;
    if (sequence > h->published) host_slot(h, sequence)->reading = false;
    if (r->content != NULL && !h->discarding) put(h, r->node, &r->message, r->content);
    resend_end(h, r);
    host_publish_go(h);
    if (h->discarding) io_task_wake(&h->task);
    resend_next(h);
}

/* Any thread. */
static void digest_work(struct io_job *job)
{
    struct replica_host *h = CONTAINER(job, struct replica_host, job);
    for (uint32_t i = 0; i < h->read.count; i++) {
        size_t at = (size_t)i * BLOCK_SIZE;
        digest_block(store_key(h->config.store), h->data + at, h->room + at, &h->digests[i]);
    }
}

static void digest_done(struct io_job *job)
{
    struct replica_host *h = CONTAINER(job, struct replica_host, job);
    struct replica_content *content = content_take(h->config.contents, CONTENT_RECORD, ENTRY_NEW, h->read.count);
    for (uint32_t i = 0; content != NULL && i < h->read.count; i++) content_add(content, i, &h->digests[i]);
    h->resend->content = content;
    read_over(h);
}

static void read_done(struct store_read *read)
{
    struct replica_host *h = CONTAINER(read, struct replica_host, read);
    if (read->err != OK) {
        read_over(h);
        return;
    }
    h->job = (struct io_job){.work = digest_work, .done = digest_done, .cost_us = read->count * DIGEST_US};
    io_submit_job(h->config.io, &h->job);
}

/* Zeros and holes need no reading while the record says so. */
static bool is_known(struct replica_host *h, struct host_resend *r)
{
    const struct replica_record *record = record_of(r);
    if (record->change.kind == REPLICA_NOOP) return true;
    if (r->content == NULL && record->mark.sequence > h->published) {
        struct host_slot *slot = host_slot(h, record->mark.sequence);
        if (slot->content != NULL) {
            r->content = slot->content;
            content_hold(r->content);
        } else if (slot->op->what != ENTRY_NEW) {
            r->content = content_take(h->config.contents, CONTENT_RECORD, slot->op->what, slot->op->count);
        }
    }
    return r->content != NULL;
}

static void read_begin(struct replica_host *h, struct host_resend *r)
{
    const struct replica_record *record = record_of(r);
    struct host_slot *slot = record->mark.sequence > h->published ? host_slot(h, record->mark.sequence) : NULL;
    h->resend = r;
    h->read = (struct store_read){
        .done = read_done,
        .volume = h->config.volume,
        .lba = record->change.lba,
        .count = record->change.count,
        .data = h->data,
        .of = slot != NULL && !MUTATED(MUTATE_RESEND_CURRENT) ? slot->op : NULL,
    };
    if (slot != NULL) slot->reading = true;
    store_read(h->config.store, &h->read);
}

static void resend_next(struct replica_host *h)
{
    while (h->resend == NULL && !list_empty(&h->resends_waiting)) {
        struct host_resend *r = CONTAINER(list_pop(&h->resends_waiting), struct host_resend, link);
        bool gone = record_of(r)->mark.sequence > h->end;
        if (gone || is_known(h, r)) {
            if (!gone) put(h, r->node, &r->message, r->content);
            resend_end(h, r);
        } else if (record_of(r)->change.count > RECORD_BLOCKS_MAX) {
            resend_end(h, r); /* a published stretch of zeros or holes: catching up tells what is there now */
        } else {
            read_begin(h, r);
        }
    }
}

bool host_send_forget(struct replica_host *h)
{
    for (struct list *l; (l = list_pop(&h->resends_waiting)) != NULL;) resend_end(h, CONTAINER(l, struct host_resend, link));
    return h->resend == NULL;
}

/* ---- sending ---- */

static bool waits_for(const struct replica_host *h, uint8_t node)
{
    if (h->resend != NULL && h->resend->node == node) return true;
    for (const struct list *l = h->resends_waiting.next; l != &h->resends_waiting; l = l->next)
        if (CONTAINER(l, struct host_resend, link)->node == node) return true;
    return false;
}

static void send_record(struct replica_host *h, uint8_t node, const struct replica_message *m)
{
    uint64_t sequence = m->u.record.mark.sequence;
    bool plain = m->u.record.change.kind == REPLICA_NOOP;
    struct replica_content *content = sequence > h->published ? host_slot(h, sequence)->content : NULL;
    if ((plain || content != NULL) && !waits_for(h, node)) {
        put(h, node, m, content);
        return;
    }
    struct list *free = list_pop(&h->resends_free);
    if (free == NULL || h->discarding) {
        if (free != NULL) list_push(&h->resends_free, free);
        return;
    }
    struct host_resend *r = CONTAINER(free, struct host_resend, link);
    *r = (struct host_resend){.node = node, .message = *m, .content = content};
    if (content != NULL) content_hold(content);
    list_push(&h->resends_waiting, &r->link);
    resend_next(h);
}

void host_send(struct replica_host *h, uint8_t node, const struct replica_message *m)
{
    if (m->kind == REPLICA_RECORD) {
        send_record(h, node, m);
    } else if (m->kind == REPLICA_FORWARD) {
        struct replica_content *content = host_content(h, m->u.forward.change.body);
        if (content != NULL) put(h, node, m, content);
    } else {
        put(h, node, m, NULL);
    }
}
