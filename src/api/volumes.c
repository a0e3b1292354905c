/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /v1/volumes: create, show, resize, delete, count. node.h tells the order of steps.
 */
#include <assert.h>
#include <string.h>

#include "api/internal.h"
#include "io/host.h"

enum { LIST_DEFAULT = 1000, PROBE_BYTES = VOLUME_READ_MAX, STRETCHES_MAX = 64 };

/* ---- showing ---- */

static json_t *maps_json(struct node *node, uint32_t volume)
{
    struct catalog *c = catalog_now(node->catalogs);
    json_t *list = json_array();
    for (uint32_t i = 0; i < c->map_count; i++) {
        const struct catalog_map *m = &c->maps[i];
        if (m->volume != volume) continue;
        json_array_append_new(list,
                              json_pack("{s:s, s:I}", "host", catalog_host_by_id(c, m->host)->name, "lun", (json_int_t)m->lun));
    }
    return list;
}

static const char *state_name(struct node *node, const struct catalog_volume *v)
{
    if (v->state == VOLUME_CREATING) return "creating";
    if (v->state == VOLUME_DELETING) return "deleting";
    return volumes_find(node->volumes, v->id) != NULL ? "live" : "missing";
}

static uint32_t copies_of(const struct node *node, const struct catalog_volume *v)
{
    struct placement place;
    return node_replica_place(node, v, &place) ? set_size(placement_kept(&place)) : 1;
}

json_t *volume_json(struct node *node, const struct catalog_volume *v)
{
    const struct volume *there = volumes_find(node->volumes, v->id);
    char naa[40], serial[33], created[24];
    node_unit_names(node, v->id, naa, serial);
    uint32_t copies = copies_of(node, v);
    return json_pack("{s:s, s:I, s:I, s:I, s:s, s:s, s:s, s:s, s:I, s:o}", "name", v->name, "id", (json_int_t)v->id, "size",
                     (json_int_t)(there != NULL ? volume_bytes(there) : 0), "block_size", (json_int_t)v->block_size, "state",
                     state_name(node, v), "created", host_time_text(v->created, created), "naa", naa, "serial", serial,
                     "copies", (json_int_t)copies, "maps", maps_json(node, v->id));
}

struct catalog_volume *call_volume(struct call *call, struct catalog *catalog)
{
    struct catalog_volume *v = catalog_volume(catalog, call->parts[0]);
    if (v != NULL) return v;
    problem_tell(&call->problem, ERR_NO_VOLUME, "there is no volume %.100s", call->parts[0]);
    problem_help(&call->problem, "izar volume list");
    return NULL;
}

/* Of a volume that is asked for by its name. */
static json_t *shown_json(struct node *node, const struct catalog_volume *v)
{
    json_t *o = volume_json(node, v);
    json_object_set_new(o, "sessions", json_integer(node_sessions_of_volume(node, v->id)));
    json_t *replication = v->number > 0 ? node_replicas_json(node, v) : NULL;
    const char *data = json_string_value(json_object_get(replication, "summary"));
    json_object_set_new(o, "data", json_string(data != NULL ? data : "one copy, on this node: lost when its disks are"));
    if (replication != NULL) json_object_set_new(o, "replication", replication);
    return o;
}

enum err volumes_show(struct call *call)
{
    const struct catalog_volume *v = call_volume(call, catalog_now(call->node->catalogs));
    if (v == NULL) return ERR_NO_VOLUME;
    call->answer = shown_json(call->node, v);
    return OK;
}

/* `after` is the last name that was seen; the order is that of creation, which no change disturbs. */
static enum err list_start(struct call *call, const struct catalog *c, uint32_t *ret_first)
{
    const char *after = web_query(call->request, "after");
    *ret_first = 0;
    if (after == NULL) return OK;
    const struct catalog_volume *v = catalog_volume(catalog_now(call->node->catalogs), after);
    if (v == NULL) return problem_tell(&call->problem, ERR_NO_VOLUME, "?after names no volume: %.100s", after);
    *ret_first = (uint32_t)(v - c->volumes) + 1;
    return OK;
}

enum err volumes_list(struct call *call)
{
    const struct catalog *c = catalog_now(call->node->catalogs);
    uint64_t limit = LIST_DEFAULT;
    uint32_t first;
    TRY(call_number(call, "limit", LIST_DEFAULT, &limit));
    TRY(list_start(call, c, &first));
    json_t *items = json_array();
    uint32_t end = (uint32_t)(c->volume_count - first < limit ? c->volume_count : first + limit);
    for (uint32_t i = first; i < end; i++) json_array_append_new(items, volume_json(call->node, &c->volumes[i]));
    json_t *next = end < c->volume_count && end > first ? json_string(c->volumes[end - 1].name) : json_null();
    call->answer = json_pack("{s:o, s:o}", "items", items, "next", next);
    return OK;
}

/* ---- creating ---- */

static enum err check_size(struct call *call, uint64_t size)
{
    problem_help(&call->problem, "a size is a number with K, M, G or T behind it, like 500G");
    if (size == 0) return problem_tell(&call->problem, ERR_ARGUMENT, "a volume has more than 0 bytes");
    if (size % BLOCK_SIZE != 0)
        return problem_tell(&call->problem, ERR_ARGUMENT, "size must be a multiple of %d bytes", BLOCK_SIZE);
    if (size / BLOCK_SIZE > VOLUME_BLOCKS_MAX)
        return problem_tell(&call->problem, ERR_ARGUMENT, "a volume has at most 512 TiB");
    call->problem.remedy[0] = '\0';
    return OK;
}

/* [task] The catalog's `creating` holds; makes the volume and says `live`. */
static enum err create_meant(struct call *call, const char *name, uint32_t id, uint64_t size)
{
    struct node *node = call->node;
    struct volume *made;
    enum err err = volume_create(node->volumes, size, &made);
    struct catalog *draft = catalog_draft(node->catalogs);
    struct catalog_volume *v = catalog_volume(draft, name);
    assert(v != NULL && v->id == id);
    if (err != OK) {
        catalog_remove_volume(draft, id);
        enum err undone = catalog_commit(node->catalogs);
        if (undone != OK) trace(TRACE_WARNING, "volume %s: creation failed, and forgetting it too; the next start does", name);
        return problem_tell(&call->problem, err, "the pool could not make volume %s: %s", name, err_text(err));
    }
    v->id = volume_id(made); /* what the store gave out is the truth */
    v->state = VOLUME_LIVE;
    return catalog_commit(node->catalogs);
}

static enum err create_here(struct call *call, const char *name, uint64_t size, uint32_t block_size)
{
    struct node *node = call->node;
    TRY(node_replicas_check_name(call, name));
    struct catalog *draft = catalog_draft(node->catalogs);
    struct catalog_volume v = {.id = store_last_volume(node->store) + 1,
                               .block_size = block_size,
                               .created = host_wall_seconds(),
                               .state = VOLUME_CREATING};
    memcpy(v.name, name, sizeof v.name);
    TRY(catalog_add_volume(draft, &v, &call->problem));
    TRY(catalog_commit(node->catalogs));
    return create_meant(call, name, v.id, size);
}

enum err volumes_create(struct call *call)
{
    struct node *node = call->node;
    uint64_t size = 0, block_size = 512, copies = 1;
    bool fast = false;
    char name[2 * NAME_SIZE] = "";
    const struct field fields[] = {
        {"name", FIELD_TEXT, name, 0, sizeof name, true},
        {"size", FIELD_NUMBER, &size, 0, INT64_MAX, true},
        {"block_size", FIELD_NUMBER, &block_size, 512, 4096, false},
        {"copies", FIELD_NUMBER, &copies, 1, REPLICA_NODES_MAX, false},
        {"fast_failover", FIELD_FLAG, &fast, 0, 0, false},
    };
    TRY(fields_read(call->body, fields, sizeof fields / sizeof fields[0], &call->problem));
    TRY(catalog_check_name("volume", name, &call->problem));
    TRY(check_size(call, size));
    if (fast && copies == 1)
        return problem_tell(&call->problem, ERR_ARGUMENT, "fast_failover: a volume with one copy has no failover");
    TRY(copies > 1 ? node_replicas_create(call, name, size, (uint32_t)block_size, (uint32_t)copies, fast)
                   : create_here(call, name, size, (uint32_t)block_size));
    call->status = 201;
    call->answer = volume_json(node, catalog_volume(catalog_now(node->catalogs), name));
    struct text t;
    text_init(&t, call->location, sizeof call->location);
    text_add(&t, "/v1/volumes/%s", name);
    return OK;
}

/* ---- deleting ---- */

static enum err check_delete(struct call *call, const struct catalog_volume *v, bool force)
{
    struct node *node = call->node;
    struct catalog *c = catalog_now(node->catalogs);
    for (uint32_t i = 0; i < c->map_count; i++) {
        if (c->maps[i].volume != v->id) continue;
        const struct catalog_host *host = catalog_host_by_id(c, c->maps[i].host);
        uint32_t sessions = node_sessions_of_host(node, host);
        if (sessions > 0) {
            problem_help(&call->problem, "log out on %s, then izar volume unmap %s --host %s", host->name, v->name, host->name);
            return problem_tell(&call->problem, ERR_BUSY, "volume %s is in use: host %s sees it and has %u session%s", v->name,
                                host->name, sessions, sessions == 1 ? "" : "s");
        }
        if (!force) {
            problem_help(&call->problem, "izar volume unmap %s --host %s", v->name, host->name);
            return problem_tell(&call->problem, ERR_BUSY, "volume %s is mapped to host %s", v->name, host->name);
        }
    }
    return OK;
}

enum err node_volume_delete(struct node *node, uint32_t id, struct problem *p)
{
    struct catalog *draft = catalog_draft(node->catalogs);
    const struct catalog_volume *v = catalog_volume_by_id(draft, id);
    if (v == NULL) return OK;
    struct catalog_volume meant = *v;
    meant.state = VOLUME_DELETING;
    catalog_remove_volume(draft, id); /* with its maps */
    TRY(catalog_add_volume(draft, &meant, p));
    TRY(catalog_commit(node->catalogs));
    TRY(node_access_changed(node));
    struct volume *there = volumes_find(node->volumes, id);
    enum err err = there != NULL ? volume_delete(there) : OK;
    if (err != OK)
        return problem_tell(p, err, "the pool could not delete it now (%s); the next start finishes it", err_text(err));
    catalog_remove_volume(catalog_draft(node->catalogs), id);
    return catalog_commit(node->catalogs);
}

enum err volumes_delete(struct call *call)
{
    struct node *node = call->node;
    bool force = false;
    const struct catalog_volume *v = call_volume(call, catalog_now(node->catalogs));
    if (v == NULL) return ERR_NO_VOLUME;
    TRY(call_flag(call, "force", &force));
    TRY(check_delete(call, v, force));
    if (v->number == 0) {
        enum err err = node_volume_delete(node, v->id, &call->problem);
        node_sharing_kick(node); /* the LUNs that it had */
        return err;
    }
    uint32_t id = v->id;
    struct placement place;
    if (node_replica_place(node, v, &place)) TRY(maps_delete_all(call, v));
    return node_replicas_delete(call, catalog_volume_by_id(catalog_now(node->catalogs), id));
}

/* ---- copies ---- */

enum err volumes_copies(struct call *call)
{
    struct node *node = call->node;
    uint64_t copies = 0;
    char drop[2 * NAME_SIZE] = "", name[NAME_SIZE];
    const struct field fields[] = {
        {"copies", FIELD_NUMBER, &copies, 1, REPLICA_NODES_MAX, false},
        {"drop", FIELD_TEXT, drop, 0, sizeof drop, false},
    };
    const struct catalog_volume *v = call_volume(call, catalog_now(node->catalogs));
    if (v == NULL) return ERR_NO_VOLUME;
    TRY(fields_read(call->body, fields, sizeof fields / sizeof fields[0], &call->problem));
    if ((copies == 0) == (drop[0] == '\0'))
        return problem_tell(&call->problem, ERR_ARGUMENT, "either copies or drop: how many, or whose copy is to go");
    if (v->number == 0)
        return problem_tell(&call->problem, ERR_UNSUPPORTED, "volume %s was made for one node, and stays there", v->name);
    snprintf(name, sizeof name, "%s", v->name);
    TRY(copies > 0 ? node_replicas_copies(call, v, (uint32_t)copies) : node_replicas_drop(call, v, drop));
    v = catalog_volume(catalog_now(node->catalogs), name); /* others may have changed things meanwhile */
    if (v == NULL) return ERR_NO_VOLUME;
    call->answer = volume_json(node, v);
    return OK;
}

/* ---- the last resort ---- */

enum err volumes_force(struct call *call)
{
    struct node *node = call->node;
    bool accepted = false;
    char name[NAME_SIZE];
    const struct field fields[] = {{"accept_loss", FIELD_FLAG, &accepted, 0, 0, true}};
    const struct catalog_volume *v = call_volume(call, catalog_now(node->catalogs));
    if (v == NULL) return ERR_NO_VOLUME;
    TRY(fields_read(call->body, fields, sizeof fields / sizeof fields[0], &call->problem));
    if (v->number == 0)
        return problem_tell(&call->problem, ERR_ARGUMENT, "volume %s has one copy: there is nothing to be forced", v->name);
    if (!accepted)
        return problem_tell(
            &call->problem, ERR_ARGUMENT,
            "accept_loss must be true: what other nodes acknowledged after the last record of this one is lost");
    snprintf(name, sizeof name, "%s", v->name);
    TRY(node_replicas_force(call, v));
    v = catalog_volume(catalog_now(node->catalogs), name); /* others may have changed things meanwhile */
    if (v == NULL) return ERR_NO_VOLUME;
    call->answer = volume_json(node, v);
    return OK;
}

/* ---- resizing ---- */

struct stretches {
    uint64_t from; /* block; what lies before is known to be empty */
    uint32_t count;
    struct {
        uint64_t lba;
        uint32_t count;
    } at[STRETCHES_MAX];
};

static void note_stretch(void *arg, uint64_t lba, uint32_t count)
{
    struct stretches *s = arg;
    uint64_t end = lba + count;
    if (end <= s->from || count > LEAF_BLOCKS || s->count == STRETCHES_MAX)
        return; /* longer than a leaf: unmapped as a whole */
    uint64_t first = max64(lba, s->from);
    s->at[s->count].lba = first;
    s->at[s->count++].count = (uint32_t)(end - first);
}

struct probe {
    struct volume_request request;
    struct io_task *task;
    bool finished;
};

static void probe_done(struct volume_request *request)
{
    struct probe *p = CONTAINER(request, struct probe, request);
    p->finished = true;
    io_task_wake(p->task);
}

/* [task] Reads a stretch; true when a byte of it is not zero, or it could not be read. */
static bool stretch_holds_data(struct volume *v, uint64_t lba, uint32_t count, uint8_t *buf)
{
    for (uint32_t done = 0; done < count;) {
        uint32_t now = min32(count - done, PROBE_BYTES / BLOCK_SIZE);
        struct probe p = {.task = io_task_self()};
        p.request = (struct volume_request){.done = probe_done,
                                            .verb = VOLUME_READ,
                                            .offset = (lba + done) * BLOCK_SIZE,
                                            .bytes = (uint64_t)now * BLOCK_SIZE,
                                            .data = buf};
        volume_start(v, &p.request);
        while (!p.finished) io_task_park();
        if (p.request.err != OK || buf[0] != 0 || memcmp(buf, buf + 1, (size_t)now * BLOCK_SIZE - 1) != 0) return true;
        done += now;
    }
    return false;
}

/* [task] Does anything but zeros lie from byte `bytes` on? Walks what was ever written there and reads it. */
static enum err data_beyond(struct node *node, struct volume *v, uint64_t bytes, bool *ret_data)
{
    struct stretches *s = mem_alloc(node->mem, sizeof *s);
    uint8_t *buf = mem_alloc(node->mem, PROBE_BYTES);
    enum err err = s != NULL && buf != NULL ? OK : ERR_NO_MEMORY;
    *ret_data = false;
    if (err == OK) s->from = bytes / BLOCK_SIZE;
    while (err == OK && !*ret_data) {
        s->count = 0;
        err = store_changed_since(node->store, volume_id(v), 0, note_stretch, s);
        if (err != OK || s->count == 0) break;
        for (uint32_t i = 0; i < s->count && !*ret_data; i++) {
            *ret_data = stretch_holds_data(v, s->at[i].lba, s->at[i].count, buf);
            s->from = s->at[i].lba + s->at[i].count;
        }
    }
    mem_free(node->mem, buf);
    mem_free(node->mem, s);
    return err;
}

static enum err check_shrink(struct call *call, const struct catalog_volume *v, struct volume *there, uint64_t size)
{
    char text[32];
    struct text t;
    bool data = false;
    uint32_t sessions = node_sessions_of_volume(call->node, v->id);
    problem_help(&call->problem,
                 "--discard-data (\"discard_data\": true) cuts it off all the same, and what lies there is lost");
    if (sessions > 0) {
        return problem_tell(&call->problem, ERR_BUSY, "volume %s would get smaller, and %u session%s may write to it", v->name,
                            sessions, sessions == 1 ? "" : "s");
    }
    struct volume_stats before, after;
    volume_stats(there, &before);
    TRY(data_beyond(call->node, there, size, &data));
    volume_stats(there, &after); /* that took its time */
    if (node_sessions_of_volume(call->node, v->id) > 0 || after.under_way > 0 || after.writes != before.writes)
        return problem_tell(&call->problem, ERR_BUSY, "volume %s was written to meanwhile", v->name);
    text_init(&t, text, sizeof text);
    text_from_bytes(&t, size);
    if (data) return problem_tell(&call->problem, ERR_BUSY, "volume %s holds data beyond %s", v->name, text);
    call->problem.remedy[0] = '\0';
    return OK;
}

enum err volumes_resize(struct call *call)
{
    struct node *node = call->node;
    uint64_t size = 0;
    bool discard = false;
    const struct field fields[] = {
        {"size", FIELD_NUMBER, &size, 0, INT64_MAX, true},
        {"discard_data", FIELD_FLAG, &discard, 0, 0, false},
    };
    const struct catalog_volume *v = call_volume(call, catalog_now(node->catalogs));
    if (v == NULL) return ERR_NO_VOLUME;
    TRY(fields_read(call->body, fields, sizeof fields / sizeof fields[0], &call->problem));
    TRY(check_size(call, size));
    struct volume *there = volumes_find(node->volumes, v->id);
    if (there == NULL) return problem_tell(&call->problem, ERR_NO_VOLUME, "volume %s is missing in the pool", v->name);
    if (size < volume_bytes(there) && !discard) TRY(check_shrink(call, v, there, size));
    if (size != volume_bytes(there)) TRY(volume_resize(there, size));
    if (node_unit(node, v->id) != NULL) scsi_unit_resized(node_unit(node, v->id));
    call->answer = shown_json(node, v);
    return OK;
}

/* ---- counting ---- */

static json_t *stats_json(struct node *node, const struct catalog_volume *v)
{
    struct volume_stats s = {0};
    const struct volume *there = volumes_find(node->volumes, v->id);
    if (there != NULL) volume_stats(there, &s);
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "name", v->name, "reads", (json_int_t)s.reads,
                     "read_bytes", (json_int_t)s.read_bytes, "read_ns", (json_int_t)s.read_ns, "writes", (json_int_t)s.writes,
                     "write_bytes", (json_int_t)s.write_bytes, "write_ns", (json_int_t)s.write_ns, "unmaps",
                     (json_int_t)s.unmaps, "unmap_bytes", (json_int_t)s.unmap_bytes, "errors", (json_int_t)s.errors,
                     "under_way", (json_int_t)s.under_way);
}

enum err volumes_stats(struct call *call)
{
    const struct catalog_volume *v = call_volume(call, catalog_now(call->node->catalogs));
    if (v == NULL) return ERR_NO_VOLUME;
    call->answer = stats_json(call->node, v);
    return OK;
}

enum err stats_list(struct call *call)
{
    const struct catalog *c = catalog_now(call->node->catalogs);
    json_t *items = json_array();
    for (uint32_t i = 0; i < c->volume_count; i++) json_array_append_new(items, stats_json(call->node, &c->volumes[i]));
    uint64_t now = io_now_ns(call->node->io);
    call->answer = json_pack("{s:I, s:o}", "now_ns", (json_int_t)now, "items", items);
    return OK;
}
