/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where requests come in and go out: bounds, counting, and the pool of works.
 */
#include "volume/internal.h"

struct volume_work *work_take(struct volumes *volumes)
{
    struct list *l = list_pop(&volumes->free);
    return l != NULL ? CONTAINER(l, struct volume_work, link) : NULL;
}

static void go_on(struct io_msg *msg)
{
    write_step(CONTAINER(msg, struct volume_request, msg));
}

void request_go_on(struct volume_request *r)
{
    r->msg.handle = go_on;
    io_send(r->volume->volumes->io, &r->msg);
}

void work_give(struct volumes *volumes, struct volume_work *work)
{
    list_push_front(&volumes->free, &work->link); /* its memory is warm */
    struct list *l = list_pop(&volumes->want_work);
    if (l != NULL) request_go_on(CONTAINER(l, struct volume_request, link));
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
    r->bad = UINT64_MAX;
    volume->stats.under_way++;
    all->under_way++;
    r->lost = false;
    list_push(&volume->starting, &r->link);
    r->msg.handle = begin;
    io_send(all->io, &r->msg);
}
