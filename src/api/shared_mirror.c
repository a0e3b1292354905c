/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A node's catalog follows the roster. Hosts with a number are what the roster says, or gone; then maps, of the volumes of this
 * cluster that the node keeps. Volumes of this node alone stay where they are, as long as nobody else has the LUN.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "api/shared.h"
#include "base/hash.h"

static void tell(const struct shared_view *view, const char *format, ...) TEXT_FORMAT(2, 3);
static void tell(const struct shared_view *view, const char *format, ...)
{
    char text[400];
    va_list values;
    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    view->tell(view->arg, text);
}

/* ---- hosts ---- */

static const char *cluster_text(const struct cluster_id *cluster, char ret_id[CATALOG_CLUSTER_SIZE])
{
    struct text t;
    text_init(&t, ret_id, CATALOG_CLUSTER_SIZE);
    text_add_hex(&t, cluster->b, sizeof cluster->b);
    return ret_id;
}

/* Numbers of another cluster say nothing in this one: its hosts are this node's own now. */
static void settle_cluster(const struct roster *roster, struct catalog *c)
{
    char id[CATALOG_CLUSTER_SIZE];
    if (strcmp(cluster_text(&roster->cluster, id), c->cluster) == 0) return;
    for (uint32_t i = 0; i < c->host_count; i++) c->hosts[i].number = 0;
    memcpy(c->cluster, id, sizeof id);
    c->version = 0;
}

bool shared_is_older(const struct roster *roster, uint64_t version, const struct catalog *c)
{
    char id[CATALOG_CLUSTER_SIZE];
    return version < c->version && strcmp(cluster_text(&roster->cluster, id), c->cluster) == 0;
}

const struct catalog_host *shared_stranger(const struct catalog *c, const struct cluster_id *cluster)
{
    char id[CATALOG_CLUSTER_SIZE];
    bool ours = strcmp(cluster_text(cluster, id), c->cluster) == 0;
    for (uint32_t i = 0; i < c->host_count; i++) {
        const struct catalog_host *h = &c->hosts[i];
        if ((!ours || h->number == 0) && catalog_maps_of_host(c, h->id) > 0) return h;
    }
    return NULL;
}

static struct catalog_host *host_numbered(struct catalog *c, uint32_t number)
{
    for (uint32_t i = 0; i < c->host_count; i++)
        if (c->hosts[i].number == number) return &c->hosts[i];
    return NULL;
}

static void drop_gone(const struct roster *roster, struct catalog *c)
{
    for (uint32_t i = 0; i < c->host_count;) {
        const struct catalog_host *h = &c->hosts[i];
        if (h->number > 0 && roster_host(roster, h->number) == NULL)
            catalog_remove_host(c, h->id);
        else
            i++;
    }
}

/* Own hosts that contradict it: another one of that name, or one with one of its initiators. */
static void make_way(const struct shared_view *view, struct catalog *c, const struct shared_host *h)
{
    struct catalog_host *same = catalog_host(c, h->is.name);
    if (same != NULL && same->number == 0 && shared_is_same(same, &h->is)) same->number = h->number;
    for (uint32_t i = 0; i < c->host_count;) {
        const struct catalog_host *own = &c->hosts[i];
        bool clash = strcmp(own->name, h->is.name) == 0;
        for (uint32_t k = 0; k < own->initiator_count && !clash; k++)
            for (uint32_t n = 0; n < h->is.initiator_count; n++) clash |= strcmp(own->initiators[k], h->is.initiators[n]) == 0;
        if (own->number != 0 || !clash) {
            i++;
            continue;
        }
        tell(view, "host %s of this node, with %u maps, gave way to host %s of the cluster, which is another one", own->name,
             catalog_maps_of_host(c, own->id), h->is.name);
        catalog_remove_host(c, own->id);
    }
}

static enum err take_host(const struct shared_view *view, struct catalog *c, const struct shared_host *h)
{
    make_way(view, c, h);
    struct catalog_host *mine = host_numbered(c, h->number);
    if (mine == NULL) {
        if (c->host_count == CATALOG_HOSTS_MAX) {
            tell(view, "host %s of the cluster has no room in the catalog of this node", h->is.name);
            return ERR_LIMIT;
        }
        mine = &c->hosts[c->host_count++];
        mine->id = c->next_host++;
    }
    uint32_t id = mine->id;
    *mine = h->is;
    mine->id = id;
    mine->number = h->number;
    return OK;
}

/* ---- maps ---- */

static bool is_shared(const struct shared_view *view, const struct catalog_volume *v)
{
    return v != NULL && v->number > 0 && view->keeps(view->arg, v);
}

static struct catalog_volume *volume_numbered(const struct shared_view *view, struct catalog *c, uint32_t number)
{
    for (uint32_t i = 0; i < c->volume_count; i++)
        if (c->volumes[i].number == number && is_shared(view, &c->volumes[i])) return &c->volumes[i];
    return NULL;
}

static bool has_map(const struct shared_host *h, uint32_t volume, uint32_t node, uint32_t lun)
{
    for (uint32_t i = 0; i < h->map_count; i++)
        if (h->maps[i].volume == volume && h->maps[i].node == node && h->maps[i].lun == lun) return true;
    return false;
}

static void drop_maps(const struct shared_view *view, struct catalog *c, uint32_t host, const struct shared_host *h)
{
    for (uint32_t i = 0; i < c->map_count;) {
        const struct catalog_map m = c->maps[i];
        const struct catalog_volume *v = m.host == host ? catalog_volume_by_id(c, m.volume) : NULL;
        if (is_shared(view, v) && !has_map(h, v->number, 0, m.lun))
            catalog_remove_map(c, m.volume, m.host);
        else
            i++;
    }
}

static enum err take_map(const struct shared_view *view, struct catalog *c, const struct catalog_host *host, uint32_t volume,
                         uint32_t lun)
{
    struct problem p = {.err = OK};
    const struct catalog_map *at = catalog_map_at(c, host->id, lun);
    if (at != NULL && at->volume == volume) return OK;
    if (at != NULL) {
        const struct catalog_volume *own = catalog_volume_by_id(c, at->volume);
        tell(view, "volume %s is not mapped to host %s any more: LUN %u is another volume's in the cluster",
             own != NULL ? own->name : "?", host->name, lun);
        catalog_remove_map(c, at->volume, host->id);
    }
    enum err err = catalog_add_map(c, volume, host->id, lun, &p);
    if (err != OK) tell(view, "LUN %u of host %s: %s", lun, host->name, p.detail);
    return err;
}

static enum err take_maps(const struct shared_view *view, struct catalog *c, uint32_t id, const struct shared_host *h)
{
    enum err worst = OK;
    for (uint32_t i = 0; i < h->map_count; i++) {
        const struct catalog_volume *v = h->maps[i].volume != 0 ? volume_numbered(view, c, h->maps[i].volume) : NULL;
        enum err err = v != NULL ? take_map(view, c, catalog_host_by_id(c, id), v->id, h->maps[i].lun) : OK;
        if (err != OK) worst = err;
    }
    return worst;
}

/* What is to go comes first: it makes room. */
enum err shared_mirror(const struct roster *roster, const struct shared_view *view, struct catalog *c)
{
    struct shared_host h;
    enum err worst = OK;
    settle_cluster(roster, c);
    drop_gone(roster, c);
    for (uint32_t i = 0; i < roster->host_count; i++) {
        if (!shared_find(roster, roster->hosts[i].number, &h)) continue;
        enum err err = take_host(view, c, &h);
        if (err != OK) worst = err;
    }
    for (uint32_t take = 0; take < 2; take++) {
        for (uint32_t i = 0; i < roster->host_count; i++) {
            const struct catalog_host *host = host_numbered(c, roster->hosts[i].number);
            if (host == NULL || !shared_find(roster, roster->hosts[i].number, &h)) continue;
            if (!take) drop_maps(view, c, host->id, &h);
            enum err err = take ? take_maps(view, c, host->id, &h) : OK;
            if (err != OK) worst = err;
        }
    }
    return worst;
}

uint64_t shared_digest(const struct roster *roster)
{
    uint64_t digest = hash64(roster->target, strlen(roster->target), roster->next_host);
    digest = hash64(roster->cluster.b, sizeof roster->cluster.b, digest);
    for (uint32_t i = 0; i < roster->node_count; i++) digest = hash64(&roster->nodes[i].number, sizeof(uint32_t), digest);
    for (uint32_t i = 0; i < roster->volume_count; i++) digest = hash64(&roster->volumes[i].number, sizeof(uint32_t), digest);
    for (uint32_t i = 0; i < roster->host_count; i++) {
        digest = hash64(&roster->hosts[i].number, sizeof(uint32_t), digest + 1);
        digest = hash64(roster->hosts[i].value, roster->hosts[i].bytes, digest);
    }
    return digest;
}

/* ---- what the roster lacks ---- */

static bool lacks_map(const struct roster *roster, const struct shared_view *view, struct catalog *c, struct shared_edit *e)
{
    for (uint32_t i = 0; i < c->map_count; i++) {
        const struct catalog_map *m = &c->maps[i];
        const struct catalog_host *host = catalog_host_by_id(c, m->host);
        if (is_shared(view, catalog_volume_by_id(c, m->volume)) || !shared_find(roster, host->number, &e->host)) continue;
        if (has_map(&e->host, 0, view->node, m->lun)) continue;
        e->number = host->number;
        e->map = (struct shared_map){.node = view->node, .lun = m->lun};
        return true;
    }
    return false;
}

static bool has_own_map(const struct shared_view *view, struct catalog *c, uint32_t number, uint32_t lun)
{
    const struct catalog_host *host = host_numbered(c, number);
    const struct catalog_map *m = host != NULL ? catalog_map_at(c, host->id, lun) : NULL;
    return m != NULL && !is_shared(view, catalog_volume_by_id(c, m->volume));
}

static bool has_too_many(const struct roster *roster, const struct shared_view *view, struct catalog *c, struct shared_edit *e)
{
    for (uint32_t i = 0; i < roster->host_count; i++) {
        if (!shared_find(roster, roster->hosts[i].number, &e->host)) continue;
        for (uint32_t k = 0; k < e->host.map_count; k++) {
            const struct shared_map *m = &e->host.maps[k];
            if (m->node != view->node || has_own_map(view, c, e->host.number, m->lun)) continue;
            e->number = e->host.number;
            e->map = *m;
            return true;
        }
    }
    return false;
}

enum shared_claim shared_next_claim(const struct roster *roster, const struct shared_view *view, struct catalog *c,
                                    struct shared_edit *e)
{
    for (uint32_t i = 0; i < c->host_count; i++) {
        if (c->hosts[i].number != 0) continue;
        e->after = c->hosts[i];
        return CLAIM_HOST;
    }
    if (lacks_map(roster, view, c, e)) return CLAIM_MAP;
    return has_too_many(roster, view, c, e) ? CLAIM_UNMAP : CLAIM_NOTHING;
}
