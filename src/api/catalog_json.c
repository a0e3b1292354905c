/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The catalog as JSON, for its file. Reading goes through the same catalog_add_* calls as requests do, so a file cannot
 * hold what a request could not have made; a member that this version does not know is an error, because dropping it on the
 * next write would lose what somebody configured.
 */
#include <string.h>

#include "api/catalog.h"
#include "api/fields.h"

static const char *const state_names[VOLUME_STATES] = {"creating", "live", "deleting"};

/* ---- writing ---- */

static json_t *volumes_json(const struct catalog *c)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < c->volume_count; i++) {
        const struct catalog_volume *v = &c->volumes[i];
        json_t *o = json_pack("{s:s, s:I, s:I, s:I, s:s}", "name", v->name, "id", (json_int_t)v->id, "block_size",
                              (json_int_t)v->block_size, "created", (json_int_t)v->created, "state", state_names[v->state]);
        if (v->number > 0) json_object_set_new(o, "number", json_integer((json_int_t)v->number));
        json_array_append_new(list, o);
    }
    return list;
}

static json_t *chap_json(const struct catalog_chap *chap)
{
    return json_pack("{s:s, s:s}", "user", chap->user, "secret", chap->secret);
}

static json_t *hosts_json(const struct catalog *c)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < c->host_count; i++) {
        const struct catalog_host *h = &c->hosts[i];
        json_t *names = json_array();
        for (uint32_t k = 0; k < h->initiator_count; k++) json_array_append_new(names, json_string(h->initiators[k]));
        json_t *host = json_pack("{s:s, s:I, s:I, s:o}", "name", h->name, "id", (json_int_t)h->id, "created",
                                 (json_int_t)h->created, "initiators", names);
        if (h->number > 0) json_object_set_new(host, "number", json_integer((json_int_t)h->number));
        if (h->chap.user[0] != '\0') json_object_set_new(host, "chap", chap_json(&h->chap));
        if (h->mutual.user[0] != '\0') json_object_set_new(host, "mutual", chap_json(&h->mutual));
        json_array_append_new(list, host);
    }
    return list;
}

static json_t *maps_json(const struct catalog *c)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < c->map_count; i++) {
        const struct catalog_map *m = &c->maps[i];
        json_array_append_new(list, json_pack("{s:I, s:I, s:I}", "volume", (json_int_t)m->volume, "host", (json_int_t)m->host,
                                              "lun", (json_int_t)m->lun));
    }
    return list;
}

enum err catalog_encode(const struct catalog *c, char *buf, size_t size, size_t *ret_bytes)
{
    json_t *all = json_pack("{s:I, s:o, s:o, s:o}", "next_host", (json_int_t)c->next_host, "volumes", volumes_json(c), "hosts",
                            hosts_json(c), "maps", maps_json(c));
    if (all == NULL) return ERR_NO_MEMORY;
    if (c->cluster[0] != '\0') json_object_set_new(all, "cluster", json_string(c->cluster));
    if (c->version > 0) json_object_set_new(all, "version", json_integer((json_int_t)c->version));
    size_t bytes = json_dumpb(all, buf, size, JSON_COMPACT);
    json_decref(all);
    if (bytes == 0) return ERR_NO_MEMORY;
    if (bytes > size) return ERR_LIMIT;
    *ret_bytes = bytes;
    return OK;
}

/* ---- reading ---- */

static enum err read_volume(struct catalog *c, const json_t *value, struct problem *p)
{
    struct catalog_volume v = {0};
    uint64_t id = 0, number = 0, block_size = 0;
    char state[16] = "";
    const struct field fields[] = {
        {"name", FIELD_TEXT, v.name, 1, sizeof v.name, true},       {"id", FIELD_NUMBER, &id, 1, UINT32_MAX, true},
        {"block_size", FIELD_NUMBER, &block_size, 512, 4096, true}, {"created", FIELD_NUMBER, &v.created, 0, INT64_MAX, true},
        {"state", FIELD_TEXT, state, 1, sizeof state, true},        {"number", FIELD_NUMBER, &number, 1, UINT32_MAX, false},
    };
    TRY(fields_read(value, fields, sizeof fields / sizeof fields[0], p));
    v.id = (uint32_t)id;
    v.number = (uint32_t)number;
    v.block_size = (uint32_t)block_size;
    while (v.state < VOLUME_STATES && strcmp(state_names[v.state], state) != 0) v.state++;
    if (v.state == VOLUME_STATES) return problem_tell(p, ERR_ARGUMENT, "volume %s has the unknown state %s", v.name, state);
    return catalog_add_volume(c, &v, p);
}

static enum err read_chap(const json_t *value, struct catalog_chap *ret_chap, struct problem *p)
{
    const struct field fields[] = {
        {"user", FIELD_TEXT, ret_chap->user, 1, sizeof ret_chap->user, true},
        {"secret", FIELD_TEXT, ret_chap->secret, CHAP_SECRET_MIN, sizeof ret_chap->secret, true},
    };
    return value != NULL ? fields_read(value, fields, sizeof fields / sizeof fields[0], p) : OK;
}

static enum err read_host(struct catalog *c, const json_t *value, struct problem *p)
{
    struct catalog_host h = {0};
    uint64_t id = 0, number = 0;
    const json_t *initiators = NULL, *chap = NULL, *mutual = NULL, *item;
    size_t i;
    const struct field fields[] = {
        {"name", FIELD_TEXT, h.name, 1, sizeof h.name, true},    {"id", FIELD_NUMBER, &id, 1, UINT32_MAX, true},
        {"number", FIELD_NUMBER, &number, 1, UINT32_MAX, false}, {"created", FIELD_NUMBER, &h.created, 0, INT64_MAX, true},
        {"initiators", FIELD_VALUE, &initiators, 0, 0, true},    {"chap", FIELD_VALUE, &chap, 0, 0, false},
        {"mutual", FIELD_VALUE, &mutual, 0, 0, false},
    };
    TRY(fields_read(value, fields, sizeof fields / sizeof fields[0], p));
    TRY(read_chap(chap, &h.chap, p));
    TRY(read_chap(mutual, &h.mutual, p));
    h.id = (uint32_t)id;
    h.number = (uint32_t)number;
    if (!json_is_array(initiators) || json_array_size(initiators) > HOST_INITIATORS_MAX) {
        return problem_tell(p, ERR_ARGUMENT, "\"initiators\" must be a list of at most %d", HOST_INITIATORS_MAX);
    }
    json_array_foreach(initiators, i, item)
    {
        const char *name = json_string_value(item);
        if (name == NULL || strlen(name) >= IQN_SIZE) return problem_tell(p, ERR_ARGUMENT, "an initiator is no name");
        memcpy(h.initiators[h.initiator_count++], name, strlen(name) + 1);
    }
    if (catalog_host_by_id(c, h.id) != NULL || h.id >= c->next_host) {
        return problem_tell(p, ERR_ARGUMENT, "host id %u is used twice or not given out yet", h.id);
    }
    return catalog_add_host(c, &h, p);
}

static enum err read_map(struct catalog *c, const json_t *value, struct problem *p)
{
    uint64_t volume = 0, host = 0, lun = 0;
    const struct field fields[] = {
        {"volume", FIELD_NUMBER, &volume, 1, UINT32_MAX, true},
        {"host", FIELD_NUMBER, &host, 1, UINT32_MAX, true},
        {"lun", FIELD_NUMBER, &lun, 0, LUN_MAX, true},
    };
    TRY(fields_read(value, fields, sizeof fields / sizeof fields[0], p));
    if (catalog_volume_by_id(c, (uint32_t)volume) == NULL || catalog_host_by_id(c, (uint32_t)host) == NULL) {
        return problem_tell(p, ERR_ARGUMENT, "a map names volume %u and host %u; one is missing", (unsigned)volume,
                            (unsigned)host);
    }
    return catalog_add_map(c, (uint32_t)volume, (uint32_t)host, (uint32_t)lun, p);
}

static enum err read_list(struct catalog *c, const json_t *list, const char *name,
                          enum err (*read)(struct catalog *, const json_t *, struct problem *), struct problem *p)
{
    size_t i;
    json_t *item;
    if (!json_is_array(list)) return problem_tell(p, ERR_ARGUMENT, "\"%s\" must be a list", name);
    json_array_foreach(list, i, item) TRY(read(c, item, p));
    return OK;
}

static enum err read_all(struct catalog *c, const json_t *all, struct problem *p)
{
    uint64_t next_host = 0;
    const json_t *volumes = NULL, *hosts = NULL, *maps = NULL;
    const struct field fields[] = {
        {"next_host", FIELD_NUMBER, &next_host, 1, UINT32_MAX, true},
        {"cluster", FIELD_TEXT, c->cluster, CATALOG_CLUSTER_SIZE - 1, sizeof c->cluster, false},
        {"version", FIELD_NUMBER, &c->version, 1, INT64_MAX, false},
        {"volumes", FIELD_VALUE, &volumes, 0, 0, true},
        {"hosts", FIELD_VALUE, &hosts, 0, 0, true},
        {"maps", FIELD_VALUE, &maps, 0, 0, true},
    };
    TRY(fields_read(all, fields, sizeof fields / sizeof fields[0], p));
    c->next_host = (uint32_t)next_host;
    if (strspn(c->cluster, "0123456789abcdef") != strlen(c->cluster))
        return problem_tell(p, ERR_ARGUMENT, "\"cluster\" has other than hex digits");
    TRY(read_list(c, volumes, "volumes", read_volume, p));
    TRY(read_list(c, hosts, "hosts", read_host, p));
    return read_list(c, maps, "maps", read_map, p);
}

enum err catalog_decode(const char *json, size_t bytes, struct catalog *ret_catalog, struct problem *ret_problem)
{
    json_error_t error;
    json_t *all = json_loadb(json, bytes, JSON_REJECT_DUPLICATES, &error);
    catalog_init(ret_catalog);
    if (all == NULL) return problem_tell(ret_problem, ERR_DECODE, "not JSON: %s", error.text);
    enum err err = read_all(ret_catalog, all, ret_problem);
    json_decref(all);
    return err;
}
