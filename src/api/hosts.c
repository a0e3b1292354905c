/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /v1/hosts: who may log in. Secrets go in and never come out. In a cluster, hosts are all nodes' (sharing.c).
 */
#include <stdio.h>
#include <string.h>

#include "api/internal.h"
#include "io/host.h"

/* ---- showing ---- */

/* What it sees on other nodes only. */
static void add_maps_elsewhere(struct node *node, const struct catalog_host *h, json_t *maps)
{
    struct shared_host shared;
    struct placement place;
    char text[ROSTER_NAME_SIZE + 16];
    const struct roster *roster = node_is_shared(node) ? member_roster(node->member) : NULL;
    if (roster == NULL || !shared_find(roster, h->number, &shared)) return;
    for (uint32_t i = 0; i < shared.map_count; i++) {
        const struct shared_map *m = &shared.maps[i];
        const struct roster_node *n = m->node != 0 ? roster_find(roster, m->node) : NULL;
        if (catalog_map_at(catalog_now(node->catalogs), h->id, m->lun) != NULL) continue;
        if (m->volume != 0 && !placement_find(roster, m->volume, &place)) continue;
        if (m->node != 0 && (n == NULL || m->node == member_number(node->member))) continue;
        snprintf(text, sizeof text, n != NULL ? "(of %s)" : "%s", n != NULL ? n->name : place.name);
        json_array_append_new(maps, json_pack("{s:s, s:I}", "volume", text, "lun", (json_int_t)m->lun));
    }
}

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
    add_maps_elsewhere(node, h, maps);
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

/* [task] A host of the draft, in the cluster: one that is new, that is another one now, or that is gone. */
static enum err share(struct call *call, const char *name)
{
    struct node *node = call->node;
    struct shared_edit *edit = mem_alloc(node->mem, sizeof *edit);
    if (edit == NULL) return ERR_NO_MEMORY;
    struct catalog *now = catalog_now(node->catalogs), *draft = catalog_sketch(node->catalogs);
    const struct catalog_host *before = catalog_host(now, name), *after = catalog_host(draft, name);
    if (before != NULL) edit->before = *before;
    if (before != NULL) edit->number = before->number;
    if (after != NULL) edit->after = *after;
    enum err err = node_shared_change(call, before == NULL ? shared_add : after == NULL ? shared_remove : shared_change, edit);
    mem_free(node->mem, edit);
    return err;
}

/* [task] The draft becomes what holds, for the one host that differs, and the target hears of it. */
static enum err commit(struct call *call, const char *name)
{
    struct node *node = call->node;
    if (node_is_shared(node)) {
        TRY(share(call, name));
        return node_shared_end(call);
    }
    TRY(catalog_commit(node->catalogs));
    return node_access_changed(node);
}

/* [task] And the host is the answer. */
static enum err commit_and_show(struct call *call, const char *name)
{
    struct node *node = call->node;
    TRY(commit(call, name));
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

/* On all nodes. */
static uint32_t maps_of(struct node *node, const struct catalog_host *h)
{
    struct shared_host shared;
    bool known = node_is_shared(node) && shared_find(member_roster(node->member), h->number, &shared);
    return known ? shared.map_count : catalog_maps_of_host(catalog_now(node->catalogs), h->id);
}

enum err hosts_delete(struct call *call)
{
    struct node *node = call->node;
    struct catalog *draft = catalog_draft(node->catalogs);
    const struct catalog_host *h = call_host(call, draft, call->parts[0]);
    bool force = false;
    if (h == NULL) return ERR_NO_NAME;
    TRY(call_flag(call, "force", &force));
    uint32_t maps = maps_of(node, h);
    if (maps > 0 && !force) {
        problem_help(&call->problem, "izar host show %s lists them; izar volume unmap takes one away, --force all of them",
                     h->name);
        return problem_tell(&call->problem, ERR_BUSY, "host %s sees %u volume%s", h->name, maps, maps == 1 ? "" : "s");
    }
    catalog_remove_host(draft, h->id);
    return commit(call, call->parts[0]);
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
