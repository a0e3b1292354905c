/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One node, whole: pool, volumes, iSCSI target, catalog, its place in a cluster, and the API that manages them. A witness is a
 * node without the first four.
 *
 * The order of changes, so that a crash between two steps leaves nothing inconsistent. The catalog says what is meant, the
 * store what is there:
 *
 *     create   catalog: the name, `creating`, with the number that the store gives out next; store: CREATE; catalog: `live`
 *     delete   catalog: `deleting`, and no maps; store: DELETE; catalog: gone
 *     resize   store only: sizes are kept there
 *     hosts, maps   catalog only
 *
 * Each step is durable before the next, the answer comes after the last. Whoever starts finishes what `creating` and
 * `deleting` say. A volume of the store that the catalog does not name (its files were lost) comes back as recovered-ID;
 * one that the catalog names and the store does not have is kept, shown as missing, and never forgotten silently.
 *
 * Everything lives on one loop. Changes follow one after the other.
 */
#ifndef IZAR_API_NODE_H
#define IZAR_API_NODE_H

#include "api/problem.h"
#include "base/mem.h"
#include "iscsi/target.h"

enum { NODE_PATH_MAX = 1024, NODE_MEMORY_MIN_MIB = 160, NODE_CLUSTER_MAX = 8 /* addresses for other nodes */ };

struct node;

struct node_config {
    struct io_group *group;
    struct io *io;
    struct mem *mem;    /* for what the management keeps */
    const char *state;  /* folder; made when it is not there */
    const char *socket; /* of the API */
    const char *name;   /* of the node */
    /* the pool */
    struct store_device_config devices[POOL_DEVICES_MAX];
    uint32_t device_count;
    uint64_t pool_size; /* of a device that is a file and does not exist yet */
    bool format;        /* make a new pool of the devices when they hold none */
    uint64_t memory;    /* of the whole node, at least NODE_MEMORY_MIN_MIB */
    uint32_t reserve_percent, checkpoint_ms;
    uint64_t scrub_rate; /* bytes a second; 0: only when somebody asks */
    /* the target */
    const char *target; /* its iqn */
    const char *listen[ISCSI_PORTALS_MAX];
    uint32_t listen_count;
    const char *advertise[ISCSI_PORTALS_MAX]; /* of those, NULL: as it listens */
    uint32_t logout_ms;                       /* initiators' time to log out when the node stops */
    /* the cluster */
    bool witness; /* no pool, no volumes, no target */
    const char *cluster_listen[NODE_CLUSTER_MAX];
    uint32_t cluster_listen_count;
    const char *cluster_advertise[NODE_CLUSTER_MAX]; /* what other nodes are told, instead of where it listens */
    uint32_t cluster_advertise_count;
};

/* [task] Starts all of it; ret_problem says what prevented it. */
enum err node_start(const struct node_config *config, struct node **ret_node, struct problem *ret_problem);
/* [task] Initiators are asked to log out, everything is written out and closed. NULL is fine. What store_close says. */
enum err node_stop(struct node *node);
/* "iscsi 127.0.0.1:3260, socket /run/izar/izard.sock": where it serves. Returns `buf`. */
const char *node_text(const struct node *node, char *buf, size_t size);

#endif
