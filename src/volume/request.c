/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where requests come in and go out: bounds, counting, and the pool of works.
 */
#include "volume/internal.h"

static void go_on(struct io_msg *msg)
{
    write_step(CONTAINER(msg, struct volume_request, msg));
}

void request_go_on(struct volume_request *r)
{
    r->msg.handle = go_on;
    io_send(r->volume->volumes->io, &r->msg);
}

static bool may_take(const struct volume *v)
{
    return v->volumes->free_count > 0 && share_allows(v->works, v->volumes->free_count);
}

/* Nobody overtakes those of his volume that wait; who was offered one that is gone by now stays the first of them. */
static bool must_wait(struct volume_request *r)
{
    struct volume *v = r->volume;
    bool offered = r->offered;
    r->offered = false;
    if (may_take(v) && (offered || list_empty(&v->want_work))) return false;
    if (list_empty(&v->want_work)) list_push(&v->volumes->want_work, &v->wants_work);
    if (offered)
        list_push_front(&v->want_work, &r->link);
    else
        list_push(&v->want_work, &r->link);
    return true;
}

/* To the first of the volumes that may have one, there to who has waited longest. */
static void work_offer(struct volumes *all)
{
    for (struct list *l = all->want_work.next; l != &all->want_work; l = l->next) {
        struct volume *v = CONTAINER(l, struct volume, wants_work);
        if (!may_take(v)) continue;
        list_remove(l);
        struct list *waits = list_pop(&v->want_work);
        if (!list_empty(&v->want_work)) list_push(&all->want_work, l); /* the others come first */
        struct volume_request *r = CONTAINER(waits, struct volume_request, link);
        r->offered = true;
        request_go_on(r);
        return;
    }
}

bool work_take(struct volume_request *r)
{
    struct volume *v = r->volume;
    struct volumes *all = v->volumes;
    if (must_wait(r)) return false;
    struct volume_work *work = CONTAINER(list_pop(&all->free), struct volume_work, link);
    all->free_count--;
    v->works++;
    work->request = r;
    work->volume = v;
    r->work = work;
    work_offer(all); /* there may be enough for one more */
    return true;
}

void work_give(struct volume *v, struct volume_work *work)
{
    struct volumes *all = v->volumes;
    list_push_front(&all->free, &work->link); /* its memory is warm */
    all->free_count++;
    assert(v->works > 0);
    v->works--;
    work_offer(all);
}

static void count(struct volume_stats *stats, const struct volume_request *r, uint64_t ns)
{
    switch (r->verb) {
    case VOLUME_READ:
        stats->reads++;
        stats->read_bytes += r->bytes;
        stats->read_ns += ns;
        break;
    case VOLUME_STATUS: break;
    case VOLUME_WRITE:
    case VOLUME_COMPARE_WRITE:
        stats->writes++;
        stats->write_bytes += r->bytes;
        stats->write_ns += ns;
        break;
    case VOLUME_ZERO:
    case VOLUME_ZERO_UNMAP:
    case VOLUME_UNMAP:
        stats->unmaps++;
        stats->unmap_bytes += r->bytes;
        break;
    }
}

void request_end(struct volume_request *r, enum err err)
{
    struct volume *v = r->volume;
    struct volumes *all = v->volumes;
    r->err = err;
    if (err == OK) {
        count(&v->stats, r, io_now_ns(all->io) - r->began_ns);
    } else {
        v->stats.errors += err != ERR_MISCOMPARE;
    }
    assert(v->stats.under_way > 0 && all->under_way > 0);
    v->stats.under_way--;
    all->under_way--;
    if (v->stats.under_way == 0 && v->waiting != NULL) io_task_wake(v->waiting);
    if (all->under_way == 0 && all->waiting != NULL) io_task_wake(all->waiting);
    r->done(r);
}

static enum err admit(const struct volume *v, const struct volume_request *r)
{
    uint64_t size = v->blocks * BLOCK_SIZE;
    if (v->volumes->stopping) return ERR_STOPPED;
    if (v->deleting) return ERR_NO_VOLUME;
    if (r->offset % VOLUME_SECTOR != 0 || r->bytes % VOLUME_SECTOR != 0) return ERR_ARGUMENT;
    if (r->offset > size || r->bytes > size - r->offset) return ERR_RANGE;
    uint64_t touched = r->count * BLOCK_SIZE;
    switch (r->verb) {
    case VOLUME_READ:
    case VOLUME_STATUS: return touched <= VOLUME_READ_MAX ? OK : ERR_LIMIT;
    case VOLUME_WRITE: return touched <= VOLUME_WRITE_MAX ? OK : ERR_LIMIT;
    case VOLUME_COMPARE_WRITE: return r->count <= v->volumes->write_max ? OK : ERR_LIMIT;
    case VOLUME_ZERO:
    case VOLUME_ZERO_UNMAP:
    case VOLUME_UNMAP: break;
    }
    return OK;
}

/* From the loop, so that nothing is called back inline. */
static void begin(struct io_msg *msg)
{
    struct volume_request *r = CONTAINER(msg, struct volume_request, msg);
    list_remove(&r->link);
    enum err err = admit(r->volume, r);
    if (err != OK || r->bytes == 0) {
        request_end(r, err);
    } else if (r->verb == VOLUME_READ || r->verb == VOLUME_STATUS) {
        read_start(r);
    } else {
        write_start(r);
    }
}

void volume_start(struct volume *volume, struct volume_request *r)
{
    struct volumes *all = volume->volumes;
    assert(io_is_current(all->io));
    r->volume = volume;
    r->began_ns = io_now_ns(all->io);
    r->age_ns = r->arrived_ns != 0 ? r->arrived_ns : r->began_ns;
    r->first = r->offset / BLOCK_SIZE;
    r->count = (r->offset % BLOCK_SIZE + r->bytes + BLOCK_SIZE - 1) / BLOCK_SIZE;
    r->holds = false;
    r->work = NULL;
    r->offered = false;
    r->bad = UINT64_MAX;
    volume->stats.under_way++;
    all->under_way++;
    r->lost = false;
    list_push(&volume->starting, &r->link);
    r->msg.handle = begin;
    io_send(all->io, &r->msg);
}
