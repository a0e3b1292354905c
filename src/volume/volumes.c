/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All volumes of a node, and changes of a volume as a whole: create, resize, delete, keyed state.
 */
#include <string.h>

#include "volume/disk_replica.h"
#include "volume/internal.h"

enum { REQUESTS_DEFAULT = 128, REQUESTS_MAX = 4096, UNMAP_LEAVES = 24, VOLUME_ROOM = 512 };

/* ---- the table ---- */

/* The first volume with an id of at least `id`. */
static uint32_t index_of(const struct volumes *all, uint32_t id)
{
    uint32_t low = 0, high = all->count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (all->volume[middle]->id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct volume *volumes_next(struct volumes *volumes, uint32_t from)
{
    uint32_t place = index_of(volumes, from);
    return place < volumes->count ? volumes->volume[place] : NULL;
}

struct volume *volumes_find(struct volumes *volumes, uint32_t id)
{
    struct volume *v = volumes_next(volumes, id);
    return v != NULL && v->id == id ? v : NULL;
}

static void table_add(struct volumes *all, struct volume *v)
{
    uint32_t place = index_of(all, v->id);
    memmove(&all->volume[place + 1], &all->volume[place], (all->count - place) * sizeof all->volume[0]);
    all->volume[place] = v;
    all->count++;
}

static void table_remove(struct volumes *all, const struct volume *v)
{
    uint32_t place = index_of(all, v->id);
    all->count--;
    memmove(&all->volume[place], &all->volume[place + 1], (all->count - place) * sizeof all->volume[0]);
}

static struct volume *volume_new(struct volumes *all, uint32_t id)
{
    if (all->count >= VOLUMES_MAX) return NULL;
    struct volume *v = mem_alloc(all->mem, sizeof *v);
    if (v == NULL) return NULL;
    v->volumes = all;
    v->id = id;
    list_init(&v->starting);
    list_init(&v->ranges);
    list_init(&v->again);
    list_init(&v->held);
    list_init(&v->want_work);
    return v;
}

/* ---- a volume as a whole ---- */

static const uint8_t replica_key[] = {STATE_LOCAL, 'v'};

struct change {
    struct volume_work work;
    struct io_task *task;
    enum err err;
    bool over;
};

static void change_over(struct volume_work *work, enum err err)
{
    struct change *c = CONTAINER(work, struct change, work);
    c->err = err;
    c->over = true;
    io_task_wake(c->task);
}

/* An operation beside the order of changes (store.h, catching up). */
struct aside {
    struct store_op op;
    struct io_task *task;
    bool over;
};

static void aside_over(struct store_op *op)
{
    struct aside *a = CONTAINER(op, struct aside, op);
    a->over = true;
    io_task_wake(a->task);
}

/* [task] */
static enum err change_aside(struct volume *v, struct aside *a)
{
    a->task = io_task_self();
    a->op.done = aside_over;
    a->op.learn = true;
    a->op.volume = v->id;
    a->op.sequence = 1;
    store_prepare(v->volumes->store, &a->op);
    while (!a->over) io_task_park();
    return a->op.err;
}

/* [task] */
static enum err change(struct volume *v, struct change *c)
{
    c->task = io_task_self();
    assert(io_is_current(v->volumes->io) && c->task != NULL);
    if (v->volumes->stopping) return ERR_STOPPED;
    c->work.volume = v;
    c->work.ordered = change_over;
    order_start(v, &c->work);
    while (!c->over) io_task_park();
    return c->err;
}

/* [task] What the volume is a replica of, durable before anything depends on it. */
static enum err set_replica(struct volume *v, const struct volume_replica *replica)
{
    struct disk_replica disk;
    volume_replica_encode(replica, &disk);
    struct aside key = {.op = {.kind = RECORD_STATE,
                               .key = replica_key,
                               .key_bytes = sizeof replica_key,
                               .value = &disk,
                               .value_bytes = sizeof disk}};
    TRY(change_aside(v, &key));
    v->replica = *replica;
    return OK;
}

/* A volume without the key stands for itself. */
static enum err get_replica(const struct store *store, uint32_t id, struct volume_replica *ret_replica)
{
    const void *value;
    uint32_t bytes;
    *ret_replica = (struct volume_replica){.number = 0};
    if (store_state_get(store, id, replica_key, sizeof replica_key, &value, &bytes) != OK) return OK;
    return volume_replica_decode(value, bytes, ret_replica);
}

static enum err blocks_of(uint64_t bytes, uint64_t *ret_blocks)
{
    *ret_blocks = bytes / BLOCK_SIZE;
    return bytes == 0 || bytes % BLOCK_SIZE != 0 || *ret_blocks > VOLUME_BLOCKS_MAX ? ERR_RANGE : OK;
}

/* [task] `replica` may be NULL. It is in the table when it is what it should be. */
static enum err create(struct volumes *volumes, uint64_t bytes, const struct volume_replica *replica,
                       struct volume **ret_volume)
{
    uint64_t blocks;
    TRY(blocks_of(bytes, &blocks));
    if (volumes->last_id < store_last_volume(volumes->store)) volumes->last_id = store_last_volume(volumes->store);
    if (volumes->last_id == UINT32_MAX) return ERR_LIMIT;
    struct volume *v = volume_new(volumes, volumes->last_id + 1);
    if (v == NULL) return ERR_LIMIT;
    volumes->last_id = v->id; /* another task may create one meanwhile */
    v->next_sequence = 1;
    struct change c = {.work.op = {.kind = RECORD_CREATE, .lba = blocks}};
    enum err err = change(v, &c);
    bool made = err == OK;
    if (made && replica != NULL) err = set_replica(v, replica);
    if (err != OK && made) change(v, &(struct change){.work.op = {.kind = RECORD_DELETE}});
    if (err != OK) {
        mem_free(volumes->mem, v);
        return err;
    }
    v->blocks = blocks;
    table_add(volumes, v);
    *ret_volume = v;
    return OK;
}

enum err volume_create(struct volumes *volumes, uint64_t bytes, struct volume **ret_volume)
{
    return create(volumes, bytes, NULL, ret_volume);
}

enum err volume_create_replica(struct volumes *volumes, uint64_t bytes, const struct volume_replica *replica,
                               struct volume **ret_volume)
{
    assert(replica->number != 0);
    return create(volumes, bytes, replica, ret_volume);
}

const struct volume_replica *volume_replica(const struct volume *volume)
{
    return volume->replica.number != 0 ? &volume->replica : NULL;
}

void volume_serve(struct volume *volume, struct replica_host *host)
{
    assert(volume->replica.number != 0);
    volume->host = host;
}

/* Wherever its requests are: those that have not come to their order must not come to it. */
void volume_lost(struct volume *volume, uint64_t session)
{
    assert(session != 0);
    for (struct list *l = volume->starting.next; l != &volume->starting; l = l->next) {
        struct volume_request *r = CONTAINER(l, struct volume_request, link);
        r->lost = r->lost || r->session == session;
    }
    for (struct list *l = volume->ranges.next; l != &volume->ranges; l = l->next) {
        struct volume_request *r = CONTAINER(l, struct volume_request, range);
        r->lost = r->lost || r->session == session;
    }
    if (volume->host != NULL) host_lost(volume->host, session);
}

/* [task] Nothing is under way behind block `from` any more; nothing new may begin there. */
static void wait_for_end(struct volume *v, uint64_t from)
{
    for (;;) {
        bool busy = false;
        for (const struct list *l = v->ranges.next; l != &v->ranges && !busy; l = l->next) {
            const struct volume_request *r = CONTAINER(l, struct volume_request, range);
            busy = r->first + r->count > from;
        }
        if (!busy) return;
        io_task_sleep(v->volumes->io, IO_MS_NS);
    }
}

enum err volume_resize(struct volume *volume, uint64_t bytes)
{
    uint64_t blocks, before = volume->blocks;
    TRY(blocks_of(bytes, &blocks));
    if (volume->deleting) return ERR_NO_VOLUME;
    if (volume->replica.number != 0) return ERR_UNSUPPORTED;
    if (volume->waiting != NULL) return ERR_AGAIN;
    if (blocks == before) return OK;
    volume->waiting = io_task_self();
    if (blocks < before) {
        volume->blocks = blocks;
        wait_for_end(volume, blocks);
    }
    struct change c = {.work.op = {.kind = RECORD_RESIZE, .lba = blocks}};
    enum err err = change(volume, &c);
    volume->blocks = err == OK ? blocks : before;
    volume->waiting = NULL;
    return err;
}

/* [task] What its replicas had not decided need not be decided any more: all goes. The last change is this node's own again. */
static enum err delete_replica(struct volume *v)
{
    struct store_volume_info info;
    assert(v->host == NULL);
    for (struct store_op *op; (op = store_prepared(v->volumes->store, v->id)) != NULL;) store_publish(v->volumes->store, op);
    if (store_volume_next(v->volumes->store, v->id, &info) != OK || info.id != v->id) return ERR_NO_VOLUME;
    if (info.learning) return change_aside(v, &(struct aside){.op = {.kind = RECORD_DELETE}});
    v->next_sequence = info.prepared + 1;
    v->epoch = info.epoch;
    return change(v, &(struct change){.work.op = {.kind = RECORD_DELETE}});
}

enum err volume_delete(struct volume *volume)
{
    struct volumes *all = volume->volumes;
    if (volume->holds > 0) return ERR_LOCKED;
    if (volume->waiting != NULL || volume->deleting) return ERR_AGAIN;
    volume->deleting = true;
    volume->waiting = io_task_self();
    while (volume->stats.under_way > 0) io_task_park();
    enum err err = volume->replica.number != 0 ? delete_replica(volume)
                                               : change(volume, &(struct change){.work.op = {.kind = RECORD_DELETE}});
    volume->waiting = NULL;
    if (err != OK) {
        volume->deleting = false;
        return err;
    }
    table_remove(all, volume);
    mem_free(all->mem, volume);
    return OK;
}

enum err volume_state_set(struct volume *volume, const char *key, const void *value, uint32_t bytes)
{
    struct change c = {
        .work.op = {
            .kind = RECORD_STATE, .key = key, .key_bytes = (uint32_t)strlen(key), .value = value, .value_bytes = bytes}};
    if (volume->replica.number != 0) return ERR_UNSUPPORTED;
    return volume->deleting ? ERR_NO_VOLUME : change(volume, &c);
}

enum err volume_state_get(const struct volume *volume, const char *key, const void **ret_value, uint32_t *ret_bytes)
{
    return store_state_get(volume->volumes->store, volume->id, key, (uint32_t)strlen(key), ret_value, ret_bytes);
}

void volume_hold(struct volume *volume)
{
    volume->holds++;
}

void volume_release(struct volume *volume)
{
    assert(volume->holds > 0);
    volume->holds--;
}

uint32_t volume_id(const struct volume *volume)
{
    return volume->id;
}

uint64_t volume_bytes(const struct volume *volume)
{
    return volume->blocks * BLOCK_SIZE;
}

void volume_stats(const struct volume *volume, struct volume_stats *ret_stats)
{
    *ret_stats = volume->stats;
}

/* ---- life ---- */

static enum err works_init(struct volumes *all, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct volume_work *w = mem_alloc(all->mem, sizeof *w);
        if (w == NULL) return ERR_NO_MEMORY;
        w->room = mem_alloc(all->mem, VOLUME_WRITE_MAX);
        w->edge = mem_alloc(all->mem, BLOCK_SIZE);
        if (w->room == NULL || w->edge == NULL) return ERR_NO_MEMORY;
        list_push(&all->free, &w->link);
        all->free_count++;
    }
    return OK;
}

/* Of a replica: this node took its volume away (delete_replica), and had told so when it is durable. */
static bool was_deleted(struct store *store, uint32_t id)
{
    const struct store_op *op = NULL;
    while ((op = store_prepared_next(store, id, op != NULL ? op->sequence : 0)) != NULL)
        if (op->kind == RECORD_DELETE) return true;
    return false;
}

/* With one replica everything that was prepared is what every in-sync replica has prepared: it happened. What a volume with
 * others has prepared is for its host to decide on, but for its CREATE and its end. */
static enum err take_up_prepared(struct volumes *all, const struct store_volume_info *info, struct volume_replica *ret_replica)
{
    struct store_op *op = info->published == 0 ? store_prepared(all->store, info->id) : NULL;
    if (op != NULL) store_publish(all->store, op);
    TRY(get_replica(all->store, info->id, ret_replica));
    if (ret_replica->number != 0 && !was_deleted(all->store, info->id)) return OK;
    while ((op = store_prepared(all->store, info->id)) != NULL) store_publish(all->store, op);
    return OK;
}

static enum err take_up(struct volumes *all)
{
    struct store_volume_info info;
    for (uint32_t from = 1; store_volume_next(all->store, from, &info) == OK; from = info.id + 1) {
        struct volume_replica replica;
        TRY(take_up_prepared(all, &info, &replica));
        struct store_volume_info now;
        if (store_volume_next(all->store, info.id, &now) != OK) break;
        if (now.id != info.id) continue; /* its deletion was prepared */
        info = now;
        struct volume *v = volume_new(all, info.id);
        if (v == NULL) return ERR_NO_MEMORY;
        v->epoch = info.epoch;
        v->replica = replica;
        v->blocks = info.blocks;
        v->next_sequence = info.prepared + 1;
        table_add(all, v);
        if (info.id == UINT32_MAX) break;
    }
    return OK;
}

static void volumes_free(struct volumes *all)
{
    mem_close(all->mem);
}

enum err volumes_open(const struct volumes_config *config, struct volumes **ret_volumes)
{
    uint32_t requests = config->requests == 0 ? REQUESTS_DEFAULT : config->requests;
    if (requests > REQUESTS_MAX) return ERR_LIMIT;
    uint64_t one = VOLUME_WRITE_MAX + BLOCK_SIZE + sizeof(struct volume_work) + 4096;
    struct mem *mem = mem_open(requests * one + sizeof(struct volumes) + VOLUMES_MAX * (sizeof(struct volume) + VOLUME_ROOM));
    struct volumes *all = mem != NULL ? mem_alloc(mem, sizeof *all) : NULL;
    if (all == NULL) {
        mem_close(mem);
        return ERR_NO_MEMORY;
    }
    all->io = config->io;
    all->store = config->store;
    all->mem = mem;
    all->write_max = min32(RECORD_BLOCKS_MAX, store_write_max(config->store));
    all->unmap_max = UNMAP_LEAVES * LEAF_BLOCKS;
    list_init(&all->free);
    list_init(&all->want_work);
    enum err err = works_init(all, requests);
    if (err == OK) err = take_up(all);
    if (err != OK) {
        volumes_free(all);
        return err;
    }
    *ret_volumes = all;
    return OK;
}

void volumes_abandon(struct volumes *volumes)
{
    if (volumes != NULL) volumes_free(volumes);
}

void volumes_close(struct volumes *volumes)
{
    if (volumes == NULL) return;
    volumes->stopping = true;
    volumes->waiting = io_task_self();
    while (volumes->under_way > 0) io_task_park();
    volumes_free(volumes);
}
