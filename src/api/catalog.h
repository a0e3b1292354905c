/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The catalog: what people named on this node. Volumes (a name for a number of the store), hosts (a named set of initiators
 * with their CHAP secrets) and maps (which host sees which volume as which LUN). Sizes and contents are the store's: what
 * is kept in one place cannot disagree.
 *
 * A catalog is a plain value: it is copied, changed in the copy, and the copy replaces it once it is durable
 * (catalog_file.h). At most 4,096 volumes, and 2 MiB as JSON.
 */
#ifndef IZAR_API_CATALOG_H
#define IZAR_API_CATALOG_H

#include "api/problem.h"

enum {
    CATALOG_VOLUMES_MAX = 4096,
    CATALOG_HOSTS_MAX = 256,
    CATALOG_MAPS_MAX = 8192,
    CATALOG_BYTES_MAX = 2 << 20, /* as JSON: all of these at their longest fit */
    CATALOG_CLUSTER_SIZE = 33,   /* with the terminator */
    NAME_SIZE = 64,              /* likewise */
    IQN_SIZE = 224,              /* RFC 7143 4.2.7.1: 223 bytes at most */
    CHAP_USER_SIZE = 65,         /* what the iSCSI target takes */
    CHAP_SECRET_MIN = 12,        /* RFC 7143 9.2.1: 96 bits at least without IPsec */
    CHAP_SECRET_SIZE = 65,
    HOST_INITIATORS_MAX = 8,
    LUN_MAX = 255,
};

/* A volume's life. The two in between survive a crash: whoever starts next finishes what they say. */
enum volume_state { VOLUME_CREATING, VOLUME_LIVE, VOLUME_DELETING, VOLUME_STATES };

struct catalog_volume {
    uint32_t id;         /* in the store */
    uint32_t number;     /* in the cluster; 0: it has no replicas on other nodes */
    uint32_t block_size; /* as initiators see it: 512 (512e) or 4096 (4Kn) */
    uint64_t created;    /* wall clock, seconds */
    enum volume_state state;
    char name[NAME_SIZE];
};

struct catalog_chap {
    char user[CHAP_USER_SIZE]; /* empty: not asked for */
    char secret[CHAP_SECRET_SIZE];
};

struct catalog_host {
    uint32_t id;
    uint32_t number; /* in the cluster (shared.h); 0: none */
    uint32_t initiator_count;
    uint64_t created;
    char name[NAME_SIZE];
    char initiators[HOST_INITIATORS_MAX][IQN_SIZE];
    struct catalog_chap chap;   /* the initiator proves itself with this */
    struct catalog_chap mutual; /* we prove ourselves with this */
};

struct catalog_map {
    uint32_t volume, host; /* ids */
    uint32_t lun;
};

struct catalog {
    uint32_t volume_count, host_count, map_count;
    uint32_t next_host;                 /* id; never used again */
    char cluster[CATALOG_CLUSTER_SIZE]; /* whose numbers its hosts have, in hex digits; empty: nobody's */
    uint64_t version;                   /* of that cluster's roster when its hosts or maps changed last */
    struct catalog_volume volumes[CATALOG_VOLUMES_MAX];
    struct catalog_host hosts[CATALOG_HOSTS_MAX];
    struct catalog_map maps[CATALOG_MAPS_MAX];
};

void catalog_init(struct catalog *c);

/* ---- names ---- */

/* A name: 1 to 63 letters, digits, '.', '_', '-', the first a letter or digit. ERR_ARGUMENT with the reason. */
enum err catalog_check_name(const char *what, const char *name, struct problem *ret_problem);
/* An initiator: iqn.YYYY-MM.NAME[:...], eui.16HEX or naa.16or32HEX; lower case (RFC 3722 folds it). Folds it in place. */
enum err catalog_check_iqn(char *iqn, struct problem *ret_problem);

/* ---- looking up: NULL when there is none ---- */

struct catalog_volume *catalog_volume(struct catalog *c, const char *name);
struct catalog_volume *catalog_volume_by_id(struct catalog *c, uint32_t id);
struct catalog_host *catalog_host(struct catalog *c, const char *name);
struct catalog_host *catalog_host_by_id(struct catalog *c, uint32_t id);
struct catalog_host *catalog_host_of_iqn(struct catalog *c, const char *iqn);
struct catalog_map *catalog_map(struct catalog *c, uint32_t volume, uint32_t host);
/* The volume at a host's LUN. */
struct catalog_map *catalog_map_at(struct catalog *c, uint32_t host, uint32_t lun);
/* How many hosts see the volume, or how many volumes a host sees. */
uint32_t catalog_maps_of_volume(const struct catalog *c, uint32_t volume);
uint32_t catalog_maps_of_host(const struct catalog *c, uint32_t host);

/* ---- changing a copy: each says in ret_problem why not ---- */

enum err catalog_add_volume(struct catalog *c, const struct catalog_volume *volume, struct problem *ret_problem);
void catalog_remove_volume(struct catalog *c, uint32_t id); /* and its maps */
enum err catalog_add_host(struct catalog *c, const struct catalog_host *host, struct problem *ret_problem);
void catalog_remove_host(struct catalog *c, uint32_t id); /* and its maps */
enum err catalog_add_initiator(struct catalog *c, struct catalog_host *host, const char *iqn, struct problem *ret_problem);
enum err catalog_remove_initiator(struct catalog_host *host, const char *iqn, struct problem *ret_problem);
/* Both directions at once; empty users: none. */
enum err catalog_set_chap(struct catalog_host *host, const struct catalog_chap *chap, const struct catalog_chap *mutual,
                          struct problem *ret_problem);
enum { LUN_ANY = LUN_MAX + 1 };
/* With LUN_ANY the lowest free number. */
enum err catalog_add_map(struct catalog *c, uint32_t volume, uint32_t host, uint32_t lun, struct problem *ret_problem);
void catalog_remove_map(struct catalog *c, uint32_t volume, uint32_t host);

/* ---- as JSON ---- */

/* Writes it as JSON; ERR_LIMIT when it does not fit. */
enum err catalog_encode(const struct catalog *c, char *buf, size_t size, size_t *ret_bytes);
/* Reads it with everything checked: names, limits, references. `ret_catalog` is spoilt on failure. */
enum err catalog_decode(const char *json, size_t bytes, struct catalog *ret_catalog, struct problem *ret_problem);

#endif
