/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What initiators see: a SCSI unit for each volume that has maps, and the answers to the target's questions, read from the
 * catalog as it holds now. A unit is opened before the target may give it out, and closed after the target was told that it
 * is gone.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/internal.h"

/* ---- units ---- */

static struct node_unit *unit_of(struct node *node, uint32_t volume)
{
    for (uint32_t i = 0; i < node->unit_count; i++) {
        if (node->units[i].volume == volume) return &node->units[i];
    }
    return NULL;
}

struct scsi_unit *node_unit(struct node *node, uint32_t volume)
{
    const struct node_unit *u = unit_of(node, volume);
    return u != NULL ? u->unit : NULL;
}

static void identify(struct node *node, uint32_t volume, struct scsi_unit_config *config)
{
    uint8_t pool_id[16];
    config->volume = volumes_find(node->volumes, volume);
    if (config->volume == NULL) return;
    const struct volume_replica *replica = volume_replica(config->volume);
    store_pool_id(node->store, pool_id);
    scsi_unit_identify(config, replica != NULL ? replica->cluster : pool_id, replica != NULL ? replica->number : volume);
}

void node_unit_names(struct node *node, uint32_t volume, char naa[40], char serial[33])
{
    struct scsi_unit_config config = {0};
    struct text t;
    identify(node, volume, &config);
    text_init(&t, naa, 40);
    text_add(&t, "naa.");
    text_add_hex(&t, config.naa, sizeof config.naa);
    memcpy(serial, config.serial, sizeof config.serial);
}

static enum err unit_open(struct node *node, const struct catalog_volume *v)
{
    struct scsi_unit_config config = {.block_bytes = v->block_size};
    if (unit_of(node, v->id) != NULL) return OK;
    identify(node, v->id, &config);
    if (config.volume == NULL) return OK; /* missing: nobody sees it */
    snprintf(config.name, sizeof config.name, "%s", v->name);
    struct node_unit *u = &node->units[node->unit_count];
    TRY(scsi_unit_open(&config, &u->unit));
    u->volume = v->id;
    node->unit_count++;
    node_access_begin(node, u);
    return OK;
}

enum err node_units_open(struct node *node)
{
    struct catalog *c = catalog_now(node->catalogs);
    for (uint32_t i = 0; i < c->map_count; i++) {
        const struct catalog_volume *v = catalog_volume_by_id(c, c->maps[i].volume);
        assert(v != NULL);
        if (v->state == VOLUME_LIVE) TRY(unit_open(node, v));
    }
    return OK;
}

/* [task] Closes those for which `all` holds or that nobody is mapped to. */
static void units_close(struct node *node, bool all)
{
    for (uint32_t i = 0; i < node->unit_count;) {
        struct node_unit u = node->units[i];
        if (!all && catalog_maps_of_volume(catalog_now(node->catalogs), u.volume) > 0) {
            i++;
            continue;
        }
        node->units[i] = node->units[--node->unit_count]; /* out of the table first: closing waits */
        scsi_unit_close(u.unit);
    }
}

void node_units_close_unmapped(struct node *node)
{
    units_close(node, false);
}

void node_units_close(struct node *node)
{
    units_close(node, true);
}

enum err node_access_settled(struct node *node)
{
    enum { PAUSE_MS = 10, TRIES = 3000 };
    for (uint32_t tries = 0; node->target != NULL && iscsi_target_is_ending(node->target); tries++) {
        if (tries == TRIES) return ERR_AGAIN;
        io_task_sleep(node->io, PAUSE_MS * IO_MS_NS);
    }
    return OK;
}

enum err node_access_changed(struct node *node)
{
    enum err err = node_units_open(node);
    if (node->target != NULL) iscsi_target_changed(node->target);
    enum err cut = node_access_settled(node);
    if (cut == OK) node_units_close_unmapped(node);
    node->access_owed = err != OK || cut != OK;
    return err != OK ? err : cut;
}

/* ---- what the target asks ---- */

static_assert(LUN_MAX == ISCSI_LUNS_MAX - 1, "a host sees what a session can have");
static_assert(IQN_SIZE == ISCSI_NAME_MAX + 1, "an initiator's name");
static_assert(CHAP_USER_SIZE == ISCSI_SECRET_MAX + 1 && CHAP_SECRET_SIZE == ISCSI_SECRET_MAX + 1, "of CHAP");

static void copy_chap(const struct catalog_chap *from, struct iscsi_chap *to)
{
    memcpy(to->user, from->user, sizeof from->user);
    memcpy(to->secret, from->secret, sizeof from->secret);
}

static bool admit(void *arg, const char *initiator, struct iscsi_access *ret_access)
{
    struct node *node = arg;
    const struct catalog_host *host = catalog_host_of_iqn(catalog_now(node->catalogs), initiator);
    if (host == NULL) return false;
    copy_chap(&host->chap, &ret_access->initiator);
    copy_chap(&host->mutual, &ret_access->target);
    return true;
}

static int by_lun(const void *a, const void *b)
{
    return (int)((const struct iscsi_lun *)a)->lun - (int)((const struct iscsi_lun *)b)->lun;
}

static uint32_t luns(void *arg, const char *initiator, struct iscsi_lun *ret_luns)
{
    struct node *node = arg;
    struct catalog *c = catalog_now(node->catalogs);
    const struct catalog_host *host = catalog_host_of_iqn(c, initiator);
    uint32_t n = 0;
    for (uint32_t i = 0; host != NULL && i < c->map_count && n < ISCSI_LUNS_MAX; i++) {
        struct scsi_unit *unit = c->maps[i].host == host->id ? node_unit(node, c->maps[i].volume) : NULL;
        if (unit != NULL) ret_luns[n++] = (struct iscsi_lun){.lun = (uint16_t)c->maps[i].lun, .unit = unit};
    }
    qsort(ret_luns, n, sizeof *ret_luns, by_lun);
    return n;
}

struct iscsi_rules node_rules(struct node *node)
{
    return (struct iscsi_rules){.admit = admit, .luns = luns, .arg = node};
}

/* ---- sessions ---- */

uint32_t node_sessions_of_host(struct node *node, const struct catalog_host *host)
{
    struct iscsi_session_info info;
    uint32_t n = 0;
    for (uint64_t from = 0; node->target != NULL && iscsi_session_next(node->target, from, &info) == OK; from = info.id + 1) {
        if (!info.full_feature || info.discovery) continue;
        for (uint32_t i = 0; i < host->initiator_count; i++) n += strcmp(host->initiators[i], info.initiator) == 0;
    }
    return n;
}

uint32_t node_sessions_of_volume(struct node *node, uint32_t volume)
{
    struct catalog *c = catalog_now(node->catalogs);
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->map_count; i++) {
        if (c->maps[i].volume == volume) n += node_sessions_of_host(node, catalog_host_by_id(c, c->maps[i].host));
    }
    return n;
}
