/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /v1/hosts and /v1/volumes/NAME/maps: who may log in, and who sees what. Secrets go in and never come out.
 */
#include <string.h>

#include "api/internal.h"
#include "io/host.h"

/* ---- showing ---- */

static json_t *host_json(struct node *node, const struct catalog_host *h)
{
    struct catalog *c = catalog_now(node->catalogs);
    json_t *names = json_array(), *maps = json_array();
    char created[24];
    for (uint32_t i = 0; i < h->initiator_count; i++) json_array_append_new(names, json_string(h->initiators[i]));
    for (uint32_t i = 0; i < c->map_count; i++) {
        const struct catalog_map *m = &c->maps[i];
        if (m->host != h->id) continue;
        json_array_append_new(
            maps, json_pack("{s:s, s:I}", "volume", catalog_volume_by_id(c, m->volume)->name, "lun", (json_int_t)m->lun));
    }
    json_t *o = json_pack("{s:s, s:s, s:o, s:o, s:I}", "name", h->name, "created", host_time_text(h->created, created),
                          "initiators", names, "maps", maps, "sessions", (json_int_t)node_sessions_of_host(node, h));
    const char *how = h->chap.user[0] == '\0' ? "none" : h->mutual.user[0] == '\0' ? "one-way" : "mutual";
    json_object_set_new(o, "chap", json_string(how));
    if (h->chap.user[0] != '\0') json_object_set_new(o, "chap_user", json_string(h->chap.user));
    if (h->mutual.user[0] != '\0') json_object_set_new(o, "chap_mutual_user", json_string(h->mutual.user));
    return o;
}

struct catalog_host *call_host(struct call *call, struct catalog *catalog, const char *name)
{
    struct catalog_host *h = catalog_host(catalog, name);
    if (h != NULL) return h;
    problem_tell(&call->problem, ERR_NO_NAME, "there is no host %.100s", name);
    problem_help(&call->problem, "izar host list; izar host create NAME --initiator IQN makes one");
    return NULL;
}

enum err hosts_list(struct call *call)
{
    const struct catalog *c = catalog_now(call->node->catalogs);
    json_t *items = json_array();
    for (uint32_t i = 0; i < c->host_count; i++) json_array_append_new(items, host_json(call->node, &c->hosts[i]));
    call->answer = json_pack("{s:o, s:n}", "items", items, "next");
    return OK;
}

enum err hosts_show(struct call *call)
{
    const struct catalog_host *h = call_host(call, catalog_now(call->node->catalogs), call->parts[0]);
    if (h == NULL) return ERR_NO_NAME;
    call->answer = host_json(call->node, h);
    return OK;
}

/* ---- changing ---- */

/* [task] The draft becomes what holds, the target hears of it, and the host is the answer. */
static enum err commit_and_show(struct call *call, const char *name)
{
    struct node *node = call->node;
    TRY(catalog_commit(node->catalogs));
    TRY(node_access_changed(node));
    const struct catalog_host *h = catalog_host(catalog_now(node->catalogs), name);
    if (h != NULL) call->answer = host_json(node, h);
    return OK;
}

static enum err take_initiators(struct call *call, const json_t *list, struct catalog_host *h)
{
    size_t i;
    json_t *item;
    if (list == NULL) return OK;
    if (!json_is_array(list)) return problem_tell(&call->problem, ERR_ARGUMENT, "\"initiators\" must be a list of names");
    if (json_array_size(list) > HOST_INITIATORS_MAX) {
        return problem_tell(&call->problem, ERR_LIMIT, "a host has at most %d initiators", HOST_INITIATORS_MAX);
    }
    json_array_foreach(list, i, item)
    {
        const char *name = json_string_value(item);
        if (name == NULL) return problem_tell(&call->problem, ERR_ARGUMENT, "\"initiators\" must be a list of names");
        if (strlen(name) >= IQN_SIZE)
            return problem_tell(&call->problem, ERR_ARGUMENT, "an initiator's name has at most 223 bytes");
        memcpy(h->initiators[h->initiator_count++], name, strlen(name) + 1);
    }
    return OK;
}

enum err hosts_create(struct call *call)
{
    struct node *node = call->node;
    struct catalog_host h = {.created = host_wall_seconds()};
    char name[2 * NAME_SIZE] = "";
    const json_t *initiators = NULL;
    const struct field fields[] = {
        {"name", FIELD_TEXT, name, 0, sizeof name, true},
        {"initiators", FIELD_VALUE, &initiators, 0, 0, false},
    };
    TRY(fields_read(call->body, fields, sizeof fields / sizeof fields[0], &call->problem));
    TRY(catalog_check_name("host", name, &call->problem));
    memcpy(h.name, name, sizeof h.name);
    TRY(take_initiators(call, initiators, &h));
    struct catalog *draft = catalog_draft(node->catalogs);
    h.id = draft->next_host++;
    TRY(catalog_add_host(draft, &h, &call->problem));
    TRY(commit_and_show(call, h.name));
    call->status = 201;
    struct text t;
    text_init(&t, call->location, sizeof call->location);
    text_add(&t, "/v1/hosts/%s", h.name);
    return OK;
}

enum err hosts_delete(struct call *call)
{
    struct node *node = call->node;
    struct catalog *draft = catalog_draft(node->catalogs);
    const struct catalog_host *h = call_host(call, draft, call->parts[0]);
    bool force = false;
    if (h == NULL) return ERR_NO_NAME;
    TRY(call_flag(call, "force", &force));
    uint32_t maps = catalog_maps_of_host(draft, h->id);
    if (maps > 0 && !force) {
        problem_help(&call->problem, "izar host show %s lists them; izar volume unmap takes one away, --force all of them",
                     h->name);
        return problem_tell(&call->problem, ERR_BUSY, "host %s sees %u volume%s", h->name, maps, maps == 1 ? "" : "s");
    }
    catalog_remove_host(draft, h->id);
    TRY(catalog_commit(node->catalogs));
    return node_access_changed(node);
}

enum err hosts_add_initiator(struct call *call)
{
    char iqn[IQN_SIZE * 2] = "";
    const struct field fields[] = {{"initiator", FIELD_TEXT, iqn, 1, sizeof iqn, true}};
    struct catalog *draft = catalog_draft(call->node->catalogs);
    struct catalog_host *h = call_host(call, draft, call->parts[0]);
    if (h == NULL) return ERR_NO_NAME;
    TRY(fields_read(call->body, fields, 1, &call->problem));
    TRY(catalog_add_initiator(draft, h, iqn, &call->problem));
    return commit_and_show(call, call->parts[0]);
}

enum err hosts_remove_initiator(struct call *call)
{
    struct catalog *draft = catalog_draft(call->node->catalogs);
    struct catalog_host *h = call_host(call, draft, call->parts[0]);
    if (h == NULL) return ERR_NO_NAME;
    TRY(catalog_remove_initiator(h, call->parts[1], &call->problem));
    return commit_and_show(call, call->parts[0]);
}

/* Both directions are set together, so none of them is left over from before. */
enum err hosts_set_chap(struct call *call)
{
    struct catalog_chap chap = {0}, mutual = {0};
    const struct field fields[] = {
        {"user", FIELD_TEXT, chap.user, 1, sizeof chap.user, true},
        {"secret", FIELD_TEXT, chap.secret, 0, sizeof chap.secret, true},
        {"mutual_user", FIELD_TEXT, mutual.user, 1, sizeof mutual.user, false},
        {"mutual_secret", FIELD_TEXT, mutual.secret, 0, sizeof mutual.secret, false},
    };
    struct catalog *draft = catalog_draft(call->node->catalogs);
    struct catalog_host *h = call_host(call, draft, call->parts[0]);
    if (h == NULL) return ERR_NO_NAME;
    TRY(fields_read(call->body, fields, sizeof fields / sizeof fields[0], &call->problem));
    TRY(catalog_set_chap(h, &chap, &mutual, &call->problem));
    return commit_and_show(call, call->parts[0]);
}

enum err hosts_clear_chap(struct call *call)
{
    const struct catalog_chap none = {0};
    struct catalog *draft = catalog_draft(call->node->catalogs);
    struct catalog_host *h = call_host(call, draft, call->parts[0]);
    if (h == NULL) return ERR_NO_NAME;
    TRY(catalog_set_chap(h, &none, &none, &call->problem));
    return commit_and_show(call, call->parts[0]);
}

/* ---- maps ---- */

enum err maps_list(struct call *call)
{
    const struct catalog_volume *v = call_volume(call, catalog_now(call->node->catalogs));
    if (v == NULL) return ERR_NO_VOLUME;
    json_t *volume = volume_json(call->node, v);
    call->answer = json_pack("{s:O, s:n}", "items", json_object_get(volume, "maps"), "next");
    json_decref(volume);
    return OK;
}

enum err maps_create(struct call *call)
{
    struct node *node = call->node;
    char name[2 * NAME_SIZE] = "";
    uint64_t lun = LUN_ANY;
    const struct field fields[] = {
        {"host", FIELD_TEXT, name, 1, sizeof name, true},
        {"lun", FIELD_NUMBER, &lun, 0, LUN_MAX, false},
    };
    struct catalog *draft = catalog_draft(node->catalogs);
    const struct catalog_volume *v = call_volume(call, draft);
    if (v == NULL) return ERR_NO_VOLUME;
    TRY(fields_read(call->body, fields, sizeof fields / sizeof fields[0], &call->problem));
    const struct catalog_host *h = call_host(call, draft, name);
    if (h == NULL) return ERR_NO_NAME;
    if (v->state != VOLUME_LIVE || volumes_find(node->volumes, v->id) == NULL) {
        return problem_tell(&call->problem, ERR_BUSY, "volume %s cannot be mapped now", v->name);
    }
    TRY(catalog_add_map(draft, v->id, h->id, (uint32_t)lun, &call->problem));
    uint32_t given = catalog_map(draft, v->id, h->id)->lun;
    TRY(catalog_commit(node->catalogs));
    TRY(node_access_changed(node));
    call->status = 201;
    call->answer = json_pack("{s:s, s:s, s:I}", "volume", call->parts[0], "host", name, "lun", (json_int_t)given);
    return OK;
}

enum err maps_delete(struct call *call)
{
    struct node *node = call->node;
    struct catalog *draft = catalog_draft(node->catalogs);
    bool force = false;
    const struct catalog_volume *v = call_volume(call, draft);
    if (v == NULL) return ERR_NO_VOLUME;
    const struct catalog_host *h = call_host(call, draft, call->parts[1]);
    if (h == NULL) return ERR_NO_NAME;
    TRY(call_flag(call, "force", &force));
    if (catalog_map(draft, v->id, h->id) == NULL) {
        problem_help(&call->problem, "izar volume show %s", v->name);
        return problem_tell(&call->problem, ERR_NO_NAME, "volume %s is not mapped to host %s", v->name, h->name);
    }
    uint32_t sessions = node_sessions_of_host(node, h);
    if (sessions > 0 && !force) {
        problem_help(&call->problem, "log out on %s first, or use --force when it does not use the volume any more", h->name);
        return problem_tell(&call->problem, ERR_BUSY, "host %s is logged in (%u session%s) and may be using volume %s", h->name,
                            sessions, sessions == 1 ? "" : "s", v->name);
    }
    catalog_remove_map(draft, v->id, h->id);
    TRY(catalog_commit(node->catalogs));
    return node_access_changed(node);
}
