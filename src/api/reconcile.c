/* SPDX-License-Identifier: Apache-2.0 */
/*
 * After a start: the catalog says what was meant, the store what is there; node.h tells in which order they change. What a
 * crash left half done is finished here, and whatever does not agree for another reason is said and kept.
 */
#include <stdio.h>

#include "api/internal.h"
#include "io/host.h"

/* [task] `creating`: the number was the store's next, so a volume of that number is ours; without one nothing was made. Of a
 * replica that does not know yet of what, nothing is kept: it is made again. */
static enum err finish_create(struct node *node, struct catalog *draft, struct catalog_volume *v)
{
    struct volume *there = volumes_find(node->volumes, v->id);
    if (there != NULL && v->number > 0 && volume_replica(there) == NULL) TRY(volume_delete(there));
    if (volumes_find(node->volumes, v->id) != NULL) {
        trace(TRACE_NOTICE, "volume %s: its creation was interrupted and is finished now", v->name);
        v->state = VOLUME_LIVE;
        return OK;
    }
    trace(TRACE_NOTICE, "volume %s: its creation was interrupted before anything was made; forgotten", v->name);
    catalog_remove_volume(draft, v->id);
    return OK;
}

/* [task] */
static enum err finish_delete(struct node *node, struct catalog *draft, const struct catalog_volume *v)
{
    struct volume *there = volumes_find(node->volumes, v->id);
    if (there != NULL) TRY(volume_delete(there));
    trace(TRACE_NOTICE, "volume %s: its deletion was interrupted and is finished now", v->name);
    catalog_remove_volume(draft, v->id);
    return OK;
}

static enum err adopt(struct catalog *draft, const struct volume *there, struct problem *p)
{
    uint32_t id = volume_id(there);
    const struct volume_replica *replica = volume_replica(there);
    struct catalog_volume v = {.id = id,
                               .number = replica != NULL ? replica->number : 0,
                               .block_size = 512,
                               .created = host_wall_seconds(),
                               .state = VOLUME_LIVE};
    snprintf(v.name, sizeof v.name, "recovered-%u", id);
    for (uint32_t i = 1; catalog_volume(draft, v.name) != NULL; i++) snprintf(v.name, sizeof v.name, "recovered-%u.%u", id, i);
    trace(TRACE_WARNING, "the pool has a volume %u that the catalog does not name; it is called %s now", id, v.name);
    return catalog_add_volume(draft, &v, p);
}

enum err node_reconcile(struct node *node, struct problem *p)
{
    struct catalog *draft = catalog_draft(node->catalogs);
    bool changed = false;
    for (uint32_t i = 0; i < draft->volume_count;) {
        struct catalog_volume *v = &draft->volumes[i];
        uint32_t before = draft->volume_count;
        changed = changed || v->state != VOLUME_LIVE;
        if (v->state == VOLUME_CREATING) {
            TRY(finish_create(node, draft, v));
        } else if (v->state == VOLUME_DELETING) {
            TRY(finish_delete(node, draft, v));
        } else if (volumes_find(node->volumes, v->id) == NULL) {
            trace(TRACE_ERROR, "volume %s (%u) is in the catalog and not in the pool: is this the right pool?", v->name, v->id);
        }
        if (draft->volume_count == before) i++;
    }
    for (struct volume *v = volumes_next(node->volumes, 1); v != NULL; v = volumes_next(node->volumes, volume_id(v) + 1)) {
        if (catalog_volume_by_id(draft, volume_id(v)) != NULL) continue;
        TRY(adopt(draft, v, p));
        changed = true;
    }
    return changed ? catalog_commit(node->catalogs) : OK;
}
