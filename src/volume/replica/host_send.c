/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages of the core to other nodes, with the content that they name.
 *
 *     FORWARD   the content of a client's change is here until the client is answered
 *     RECORD    the content of a record is here until it is published. One that the store found, or that was published
 *               already, is read again, some at once: what is prepared as it is prepared, else as the blocks are now.
 *               That is right, too: whoever gets an old record with newer blocks gets the records that made them newer, and
 *               is not in sync before it has them
 *     STEP      host_teach.c
 *
 * A record does not overtake one to the same node that waits for its content: it waits behind it. When too many wait, they
 * are dropped: the core sends again what is not acknowledged.
 */
#include "volume/replica/host_internal.h"

static void resends_go(struct replica_host *h);

void host_put(struct replica_host *h, uint8_t node, const struct replica_message *m, struct replica_content *content)
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

/* It has its content, or none can be had. */
static void read_over(struct host_resend *r, bool whole)
{
    struct replica_host *h = r->host;
    r->state = whole ? RESEND_READY : RESEND_LOST;
    h->resends_read--;
    if (r->pins) host_slot(h, record_of(r)->mark.sequence)->readers--;
    resends_go(h);
    host_publish_go(h);
}

/* Any thread. */
static void digest_work(struct io_job *job)
{
    struct host_resend *r = CONTAINER(job, struct host_resend, job);
    content_digest(r->content, store_key(r->host->config.store));
}

static void digest_done(struct io_job *job)
{
    read_over(CONTAINER(job, struct host_resend, job), true);
}

static void read_done(struct store_read *read)
{
    struct host_resend *r = CONTAINER(read, struct host_resend, read);
    if (read->err == ERR_MEDIUM && !r->pins) host_mend(r->host, read->bad);
    if (read->err != OK) {
        read_over(r, false);
        return;
    }
    r->job = (struct io_job){.work = digest_work, .done = digest_done, .cost_us = read->count * DIGEST_US};
    io_submit_job(r->host->config.io, &r->job);
}

/* Zeros and holes need no reading, also when they are published. */
static bool is_known(struct replica_host *h, struct host_resend *r)
{
    const struct replica_record *record = record_of(r);
    if (record->change.kind == REPLICA_NOOP) return true;
    const struct host_slot *slot = host_slot_kept(h, record->mark.sequence);
    if (r->content == NULL && slot != NULL && slot->content != NULL) {
        r->content = slot->content;
        content_hold(r->content);
    } else if (r->content == NULL && slot != NULL && record->change.kind == REPLICA_FREE) {
        r->content = content_take(h->config.contents, CONTENT_AGAIN, h->config.volume, slot->what, record->change.count);
    }
    return r->content != NULL;
}

/* False: it has to wait for a content. */
static bool read_begin(struct replica_host *h, struct host_resend *r)
{
    const struct replica_change *change = &record_of(r)->change;
    struct host_slot *slot = record_of(r)->mark.sequence > h->published ? host_slot(h, record_of(r)->mark.sequence) : NULL;
    r->content = content_take(h->config.contents, CONTENT_AGAIN, h->config.volume, ENTRY_NEW, change->count);
    if (r->content == NULL) return false;
    r->pins = slot != NULL;
    r->state = RESEND_READS;
    h->resends_read++;
    r->read = (struct store_read){
        .done = read_done,
        .volume = h->config.volume,
        .lba = change->lba,
        .count = change->count,
        .data = r->content->bytes,
        .of = slot != NULL && !MUTATED(MUTATE_RESEND_CURRENT) ? slot->op : NULL,
    };
    if (slot != NULL) slot->readers++;
    store_read(h->config.store, &r->read);
    return true;
}

/* False: no other comes before it can go on. */
static bool resend_prepare(struct replica_host *h, struct host_resend *r)
{
    if (r->state != RESEND_WAITS) return true;
    if (record_of(r)->mark.sequence > h->end) {
        r->state = RESEND_LOST; /* discarded */
    } else if (is_known(h, r)) {
        r->state = RESEND_READY;
    } else if (record_of(r)->change.kind == REPLICA_FREE) {
        return false;
    } else {
        return h->resends_read < HOST_READERS && read_begin(h, r);
    }
    return true;
}

/* Several are read at once; they go out in their order. */
static void resends_go(struct replica_host *h)
{
    for (struct list *l = h->resends_waiting.next; l != &h->resends_waiting; l = l->next)
        if (!resend_prepare(h, CONTAINER(l, struct host_resend, link))) break;
    while (!list_empty(&h->resends_waiting)) {
        struct host_resend *r = CONTAINER(h->resends_waiting.next, struct host_resend, link);
        if (r->state != RESEND_READY && r->state != RESEND_LOST) return;
        list_remove(&r->link);
        if (r->state == RESEND_READY && !h->discarding) host_put(h, r->node, &r->message, r->content);
        resend_end(h, r);
    }
}

void host_send_tick(struct replica_host *h)
{
    if (!list_empty(&h->resends_waiting)) resends_go(h);
}

bool host_send_forget(struct replica_host *h)
{
    for (struct list *l = h->resends_waiting.next, *next; l != &h->resends_waiting; l = next) {
        struct host_resend *r = CONTAINER(l, struct host_resend, link);
        next = l->next;
        if (r->state == RESEND_READS) continue;
        list_remove(l);
        resend_end(h, r);
    }
    return h->resends_read == 0;
}

/* ---- sending ---- */

/* It was asked for again before it could go out. */
static bool is_waiting(const struct replica_host *h, uint8_t node, const struct replica_mark *mark)
{
    for (const struct list *l = h->resends_waiting.next; l != &h->resends_waiting; l = l->next) {
        const struct host_resend *r = CONTAINER(l, struct host_resend, link);
        const struct replica_mark *its = &record_of(r)->mark;
        if (r->node == node && its->sequence == mark->sequence && its->epoch == mark->epoch) return true;
    }
    return false;
}

static bool waits_for(const struct replica_host *h, uint8_t node)
{
    for (const struct list *l = h->resends_waiting.next; l != &h->resends_waiting; l = l->next)
        if (CONTAINER(l, struct host_resend, link)->node == node) return true;
    return false;
}

static void send_record(struct replica_host *h, uint8_t node, const struct replica_message *m)
{
    uint64_t sequence = m->u.record.mark.sequence;
    bool plain = m->u.record.change.kind == REPLICA_NOOP;
    const struct host_slot *slot = host_slot_kept(h, sequence);
    struct replica_content *content = slot != NULL ? slot->content : NULL;
    if ((plain || content != NULL) && !waits_for(h, node)) {
        host_put(h, node, m, content);
        return;
    }
    if (is_waiting(h, node, &m->u.record.mark)) return;
    struct list *free = list_pop(&h->resends_free);
    if (free == NULL || h->discarding) {
        if (free != NULL) list_push(&h->resends_free, free);
        return;
    }
    struct host_resend *r = CONTAINER(free, struct host_resend, link);
    *r = (struct host_resend){.host = h, .node = node, .message = *m, .content = content};
    if (content != NULL) content_hold(content);
    list_push(&h->resends_waiting, &r->link);
    resends_go(h);
}

void host_send(struct replica_host *h, uint8_t node, const struct replica_message *m)
{
    if (m->kind == REPLICA_RECORD) {
        send_record(h, node, m);
    } else if (m->kind == REPLICA_FORWARD) {
        struct replica_content *content = host_content(h, m->u.forward.change.body);
        if (content != NULL) host_put(h, node, m, content);
    } else if (m->kind == REPLICA_STEP) {
        host_step_send(h, node, m);
    } else {
        host_put(h, node, m, NULL);
    }
}
