/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the API share: the node itself, one call under way, and the handlers that `routes.c` lists.
 */
#ifndef IZAR_API_INTERNAL_H
#define IZAR_API_INTERNAL_H

#include "api/catalog_file.h"
#include "api/fields.h"
#include "api/node.h"
#include "api/shared.h"
#include "api/trace.h"
#include "api/web.h"
#include "cluster/member.h"
#include "volume/replica/replicas.h"
#include "volume/scrub.h"

enum { PARTS_MAX = 2, CALL_BEHIND_MAX = 200 };

struct node {
    struct node_config config;
    struct io *io;
    struct mem *mem;
    struct io_file *lock;
    struct store *store;
    struct volumes *volumes;
    struct catalog_file *catalogs;
    struct iscsi_target *target;
    struct member *member;
    struct replicas *replicas; /* NULL: a witness */
    struct scrub *scrub;       /* likewise */
    struct web *web;
    uint64_t began_ns;
    bool changing; /* a call that changes something is under way; others wait in `waiting` */
    struct list waiting;
    uint32_t unit_count;
    struct node_unit {
        uint32_t volume;
        struct scsi_unit *unit;
        uint64_t served_ns;       /* of a replicated volume: when this node last served it */
        bool serves;              /* likewise: it did when it was looked at */
    } units[CATALOG_VOLUMES_MAX]; /* of volumes with maps */
    struct io_timer access;
    bool access_owed; /* units did not open, or sessions did not end: node_access_changed is to be called again */
    char target_name[ROSTER_TARGET_SIZE]; /* the cluster's; empty: its own, of the configuration */
    struct node_sharing {
        struct io_task task;
        struct io_timer wake;
        struct io_task *closing;
        bool opened, running, stopping, kicked;
        bool member;               /* it was one when it looked last */
        uint64_t digest;           /* of what was shared then; 0: it must look again */
        uint64_t held;             /* of what the catalog holds */
        struct cluster_id cluster; /* that it follows */
        enum err err;              /* why the catalog, or the roster, lacks something */
        uint64_t told_ns;
    } sharing;
};

/* One request on its way through a handler. */
struct call {
    struct node *node;
    struct web_request *request;
    const char *parts[PARTS_MAX]; /* what stood for the ':' parts of the pattern */
    json_t *body;                 /* object; empty when there was none */
    struct problem problem;
    uint64_t shared; /* version of the roster that it changed hosts in; 0: it did not */
    /* the answer */
    char behind[CALL_BEHIND_MAX]; /* nodes that are down and hear of it later */
    int status;                   /* 0: 200, or 204 without an answer */
    json_t *answer;
    char location[WEB_PATH_MAX];
};

/* ---- routes.c ---- */

/* What web.h asks for. */
void routes_handle(void *arg, struct web_request *request);
/* [task] Waits until no other change is under way. */
void node_change_begin(struct node *node);
void node_change_end(struct node *node);
/* Flags and numbers of the query. ERR_ARGUMENT: not what it should be. */
enum err call_flag(struct call *call, const char *name, bool *ret_flag);
enum err call_number(struct call *call, const char *name, uint64_t max, uint64_t *ret_number);
/* The problem is what the cluster says about `err`, which is returned. */
enum err call_tell_why(struct call *call, enum err err, const struct member_why *why);

/* [task] One change after the other. A handler of a change is within one. */
void node_change_begin(struct node *node);
void node_change_end(struct node *node);

/* ---- replicas.c ---- */

/* [task] */
enum err node_replicas_open(struct node *node);
/* [task] Within a change, which others may interrupt meanwhile. */
enum err node_replicas_create(struct call *call, const char *name, uint64_t size, uint32_t block_size, uint32_t copies,
                              bool fast);
enum err node_replicas_delete(struct call *call, const struct catalog_volume *v);
/* ERR_NAME_EXISTS: the cluster has a volume of this name. Others may change things meanwhile. */
enum err node_replicas_check_name(struct call *call, const char *name);
/* It belongs to the cluster that this node is a member of, and not to one that it left. */
bool node_replica_is_ours(const struct node *node, const struct volume_replica *replica);
/* What the cluster says of a volume. False: it does not know it, or it has no replicas. */
bool node_replica_place(const struct node *node, const struct catalog_volume *v, struct placement *ret_place);
/* [task] Within a change, as above: on so many nodes from now on; or not on this one any more. */
enum err node_replicas_copies(struct call *call, const struct catalog_volume *v, uint32_t copies);
enum err node_replicas_drop(struct call *call, const struct catalog_volume *v, const char *name);
/* [task] Within a change, as above: this node's copy becomes the volume. */
enum err node_replicas_force(struct call *call, const struct catalog_volume *v);
/* Who keeps it, and how it stands. */
json_t *node_replicas_json(const struct node *node, const struct catalog_volume *v);
/* How safe the replicated volumes of the whole cluster are. False: some lack a copy. */
bool node_replicas_safe(const struct roster *roster, struct text *t);

/* ---- sharing.c: hosts and maps of a cluster ---- */

typedef enum err shared_change_of(struct roster *roster, struct shared_edit *edit, struct problem *p);

/* Hosts and maps are its cluster's: it is a member. */
bool node_is_shared(const struct node *node);
/* The iSCSI target's name, as all nodes of the cluster have it. */
const char *node_target_name(const struct node *node);
/* [task] Within a change. Begin: the catalog is what holds now, or why that is not known. Change: agreed on, and so here. End:
 * so on all nodes that are up, or which of them is late; others may change things meanwhile. In no cluster, begin and end do
 * nothing. */
enum err node_shared_begin(struct call *call);
enum err node_shared_change(struct call *call, shared_change_of *how, struct shared_edit *edit);
enum err node_shared_end(struct call *call);
/* [task] Within a change: what this node has and the roster lacks is taken into it. */
enum err node_share(struct node *node);
/* [task] The catalog as the roster has it, from now on until it is closed. */
enum err node_sharing_open(struct node *node);
void node_sharing_close(struct node *node);
/* False when this node cannot make its hosts and maps what its cluster agreed on: why. */
bool node_sharing_is_well(const struct node *node, enum err *ret_err);
/* The catalog holds all that this node knows of the cluster's hosts. */
bool node_sharing_holds(const struct node *node);
/* Volumes or maps of this node changed; look: there is something to do when it became a member, or is none any more,
 * or owes something. */
void node_sharing_kick(struct node *node);
void node_sharing_changed(struct node *node); /* maybe: another roster is known */
void node_sharing_look(struct node *node);

/* ---- access.c ---- */

/* This node's target port group. */
uint16_t node_group(const struct node *node);
/* Tells a new unit, and one that is there, through which nodes it can be reached. */
void node_access_begin(struct node *node, struct node_unit *unit);
void node_access_look(struct node *node, struct node_unit *unit);
/* Looks from now on, until the timer is cancelled. */
void node_access_watch(struct node *node);

/* ---- reconcile.c ---- */

/* [task] After start: catalog and store are made to agree, see node.h. */
enum err node_reconcile(struct node *node, struct problem *p);

/* ---- units.c: what initiators see ---- */

/* The unit of a volume; NULL when nobody sees it. */
struct scsi_unit *node_unit(struct node *node, uint32_t volume);
/* Opens units of volumes that have maps. */
enum err node_units_open(struct node *node);
/* [task] Closes units of volumes without maps; the target was told before. */
void node_units_close_unmapped(struct node *node);
/* [task] Closes all; the target is closed. */
void node_units_close(struct node *node);
/* [task] After a change of hosts or maps in the catalog: opens, tells the target, closes. What fails is owed (sharing.c). */
enum err node_access_changed(struct node *node);
/* [task] Who lost access writes nothing any more when this returns; ERR_AGAIN: its last commands do not end. */
enum err node_access_settled(struct node *node);
/* What the target asks. */
struct iscsi_rules node_rules(struct node *node);
/* Identity that initiators see, for people: "naa.6...". */
void node_unit_names(struct node *node, uint32_t volume, char naa[40], char serial[33]);
/* Sessions (logged in, not discovery) of any of the host's initiators. */
uint32_t node_sessions_of_host(struct node *node, const struct catalog_host *host);
uint32_t node_sessions_of_volume(struct node *node, uint32_t volume);

/* ---- volumes.c ---- */

/* [task] Within a change: takes a volume and its maps out of the catalog and the store. */
enum err node_volume_delete(struct node *node, uint32_t id, struct problem *p);

/* ---- pool_key.c: the pools of a cluster have one key ---- */

enum { KEY_ID_SIZE = 9 };
#define KEY_FOREIGN "the pool of this node has another fingerprint key than the other pools of its cluster"

/* The first hex digits of the key's SHA-256: tells keys apart and no more. Returns its argument. */
const char *node_key_id(const struct node *node, char ret_text[KEY_ID_SIZE]);
/* Its cluster has another one. */
bool node_key_is_foreign(const struct node *node);
/* Whether it may take over another one by joining. ERR_BUSY, with the reason: its pool holds volumes. */
enum err node_key_may_join(const struct node *node, const char *token, struct problem *p);
/* [task] At the start: a pool without volumes gets the cluster's key, if it has another one. */
void node_key_settle(struct node *node);
/* What member.h asks for. */
void node_own_key(void *arg, uint8_t ret_key[POOL_KEY_BYTES]);
enum err node_take_key(void *arg, const uint8_t key[POOL_KEY_BYTES], struct member_why *why);

/* ---- cluster.c ---- */

enum { CLUSTER_SENTENCE_MAX = 400 };
/* True when something is wrong with the cluster: what, and what helps. */
bool cluster_trouble(const struct node *node, char text[CLUSTER_SENTENCE_MAX], const char **ret_remedy);

/* ---- maps.c ---- */

/* [task] Within a change: no host of the cluster sees this volume with replicas any more. */
enum err maps_delete_all(struct call *call, const struct catalog_volume *v);

/* ---- volumes.c, hosts.c, maps.c, status.c, cluster.c: handlers ---- */

typedef enum err handler(struct call *call);

handler volumes_list, volumes_create, volumes_show, volumes_delete, volumes_resize, volumes_copies, volumes_force,
    volumes_stats;
handler maps_list, maps_create, maps_delete;
handler hosts_list, hosts_create, hosts_show, hosts_delete, hosts_add_initiator, hosts_remove_initiator, hosts_set_chap,
    hosts_clear_chap;
handler cluster_show, cluster_create, cluster_join, tokens_create, nodes_list, nodes_delete;
handler status_show, pool_show, pool_clean, pool_scrub, disks_list, stats_list, target_show, sessions_list, sessions_cut;

/* The volume or host that the first part names; NULL: the problem is said. */
struct catalog_volume *call_volume(struct call *call, struct catalog *catalog);
struct catalog_host *call_host(struct call *call, struct catalog *catalog, const char *name);
json_t *volume_json(struct node *node, const struct catalog_volume *volume);

#endif
