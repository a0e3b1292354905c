/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /v1/volumes/NAME/maps: who sees what. In a cluster (sharing.c) a map of a volume with replicas is all nodes', also of those
 * that do not keep it; that of a volume of this node alone is in its catalog, and its LUN is kept free on the others.
 */
#include <string.h>

#include "api/internal.h"

/* A volume that a call names, and its map as the cluster knows it. */
struct seen {
    const struct catalog_volume *volume; /* NULL: this node does not keep it */
    struct shared_map map;
};

static enum err find_volume(struct call *call, struct seen *ret_seen)
{
    struct node *node = call->node;
    struct placement place;
    bool shared = node_is_shared(node);
    *ret_seen = (struct seen){.volume = catalog_volume(catalog_now(node->catalogs), call->parts[0])};
    const struct catalog_volume *v = ret_seen->volume;
    if (v != NULL && shared && node_replica_place(node, v, &place))
        ret_seen->map.volume = v->number;
    else if (v != NULL)
        ret_seen->map.node = member_number(node->member);
    else if (shared)
        ret_seen->map.volume = placement_named(member_roster(node->member), call->parts[0], &place);
    if (v != NULL || ret_seen->map.volume != 0) return OK;
    return call_volume(call, catalog_now(node->catalogs)) == NULL ? ERR_NO_VOLUME : OK;
}

static bool is_ready(struct node *node, const struct seen *seen)
{
    struct placement place;
    if (seen->volume != NULL)
        return seen->volume->state == VOLUME_LIVE && volumes_find(node->volumes, seen->volume->id) != NULL;
    return placement_find(member_roster(node->member), seen->map.volume, &place) && place.stage == PLACE_LIVE;
}

enum err maps_list(struct call *call)
{
    const struct catalog_volume *v = call_volume(call, catalog_now(call->node->catalogs));
    if (v == NULL) return ERR_NO_VOLUME;
    json_t *volume = volume_json(call->node, v);
    call->answer = json_pack("{s:O, s:n}", "items", json_object_get(volume, "maps"), "next");
    json_decref(volume);
    return OK;
}

/* [task] Agreed on by all nodes: the map itself, or only the LUN. */
static enum err share(struct call *call, shared_change_of *how, uint32_t host, struct shared_map *map)
{
    struct node *node = call->node;
    struct shared_edit *edit = mem_alloc(node->mem, sizeof *edit);
    if (edit == NULL) return ERR_NO_MEMORY;
    edit->number = host;
    edit->map = *map;
    enum err err = node_shared_change(call, how, edit);
    *map = edit->map;
    mem_free(node->mem, edit);
    return err;
}

/* ---- making ---- */

/* [task] In the catalog of this node. */
static enum err add_here(struct call *call, uint32_t volume, const char *name, uint32_t *lun)
{
    struct node *node = call->node;
    struct catalog *draft = catalog_draft(node->catalogs);
    const struct catalog_host *h = catalog_host(draft, name);
    if (h == NULL) return problem_tell(&call->problem, ERR_NO_NAME, "there is no host %.100s any more", name);
    TRY(catalog_add_map(draft, volume, h->id, *lun, &call->problem));
    *lun = catalog_map(draft, volume, h->id)->lun;
    TRY(catalog_commit(node->catalogs));
    return node_access_changed(node);
}

enum err maps_create(struct call *call)
{
    struct node *node = call->node;
    char name[2 * NAME_SIZE] = "";
    uint64_t lun = LUN_ANY;
    struct seen seen;
    const struct field fields[] = {
        {"host", FIELD_TEXT, name, 1, sizeof name, true},
        {"lun", FIELD_NUMBER, &lun, 0, LUN_MAX, false},
    };
    TRY(find_volume(call, &seen));
    TRY(fields_read(call->body, fields, sizeof fields / sizeof fields[0], &call->problem));
    const struct catalog_host *h = call_host(call, catalog_now(node->catalogs), name);
    if (h == NULL) return ERR_NO_NAME;
    if (!is_ready(node, &seen)) return problem_tell(&call->problem, ERR_BUSY, "volume %s cannot be mapped now", call->parts[0]);
    uint32_t id = seen.volume != NULL ? seen.volume->id : 0;
    const struct catalog_map *there = id != 0 ? catalog_map(catalog_now(node->catalogs), id, h->id) : NULL;
    if (there != NULL)
        return problem_tell(&call->problem, ERR_NAME_EXISTS, "the host sees that volume already, as LUN %u", there->lun);
    bool own = seen.map.volume == 0;
    seen.map.lun = (uint32_t)lun;
    if (node_is_shared(node)) TRY(share(call, shared_add_map, h->number, &seen.map));
    if (own) TRY(add_here(call, id, name, &seen.map.lun));
    TRY(node_shared_end(call));
    call->status = 201;
    call->answer = json_pack("{s:s, s:s, s:I}", "volume", call->parts[0], "host", name, "lun", (json_int_t)seen.map.lun);
    return OK;
}

/* ---- taking away ---- */

/* [task] */
static enum err remove_here(struct node *node, uint32_t volume, uint32_t host)
{
    struct catalog *draft = catalog_draft(node->catalogs);
    catalog_remove_map(draft, volume, host);
    TRY(catalog_commit(node->catalogs));
    return node_access_changed(node);
}

/* False: the host does not see it. `map` gets its LUN, which tells apart what one node has. */
static bool find_map(struct node *node, const struct catalog_host *h, struct seen *seen)
{
    struct shared_host shared;
    const struct catalog_map *m =
        seen->volume != NULL ? catalog_map(catalog_now(node->catalogs), seen->volume->id, h->id) : NULL;
    if (m != NULL) seen->map.lun = m->lun;
    if (m != NULL || seen->map.volume == 0) return m != NULL;
    if (!shared_find(member_roster(node->member), h->number, &shared)) return false;
    for (uint32_t i = 0; i < shared.map_count; i++)
        if (shared.maps[i].volume == seen->map.volume) return true;
    return false;
}

static enum err check_unmap(struct call *call, const struct catalog_host *h, const char *volume)
{
    bool force = false;
    TRY(call_flag(call, "force", &force));
    uint32_t sessions = node_sessions_of_host(call->node, h);
    if (sessions == 0 || force) return OK;
    problem_help(&call->problem, "log out on %s first, or use --force when it does not use the volume any more", h->name);
    return problem_tell(&call->problem, ERR_BUSY, "host %s is logged in (%u session%s) and may be using volume %s", h->name,
                        sessions, sessions == 1 ? "" : "s", volume);
}

enum err maps_delete(struct call *call)
{
    struct node *node = call->node;
    const char *volume = call->parts[0];
    struct seen seen;
    TRY(find_volume(call, &seen));
    const struct catalog_host *h = call_host(call, catalog_now(node->catalogs), call->parts[1]);
    if (h == NULL) return ERR_NO_NAME;
    if (!find_map(node, h, &seen)) {
        problem_help(&call->problem, "izar volume show %s", volume);
        return problem_tell(&call->problem, ERR_NO_NAME, "volume %s is not mapped to host %s", volume, h->name);
    }
    TRY(check_unmap(call, h, volume));
    uint32_t number = h->number;
    bool own = seen.map.volume == 0;
    if (own) TRY(remove_here(node, seen.volume->id, h->id));
    if (!node_is_shared(node)) return OK;
    enum err err = share(call, shared_remove_map, number, &seen.map);
    if (own && err == ERR_NO_NAME) return OK;      /* others had no LUN to keep free */
    if (own && err != OK) node_sharing_kick(node); /* the LUN is given back later */
    return err == OK ? node_shared_end(call) : err;
}

enum err maps_delete_all(struct call *call, const struct catalog_volume *v)
{
    struct node *node = call->node;
    uint32_t number = v->number;
    if (!node_is_shared(node)) return OK;
    for (uint32_t i = 0; i < member_roster(node->member)->host_count; i++) {
        struct shared_host host;
        struct shared_map map = {.volume = number};
        if (!shared_find(member_roster(node->member), member_roster(node->member)->hosts[i].number, &host)) continue;
        bool sees = false;
        for (uint32_t k = 0; k < host.map_count; k++) sees |= host.maps[k].volume == number;
        if (sees) TRY(share(call, shared_remove_map, host.number, &map));
    }
    return OK;
}
