/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hosts of a cluster: what a HOST of the roster holds (cluster/roster.h), how it is changed, and how a node's catalog becomes
 * what the roster says.
 *
 * A host is the same on every node: name, initiators, CHAP, and which volume with replicas it sees as which LUN. A LUN that it
 * sees a volume of one node as is in it, too, so that no two nodes give the same number to different volumes; which volume that
 * is knows that node's catalog.
 *
 * The catalog is what a node reads while it serves. Its hosts that have a number mirror the roster; those without are this
 * node's own still: they are taken into the roster when nobody has their name or their initiators there.
 *
 *     value 24   version 1, bytes of the name 1, initiators 1, zero 1, bytes of CHAP user 1, secret 1, mutual user 1, secret 1,
 *                created 8, maps 2, zero 6; then the name; for each initiator its bytes 1 and name; CHAP user, secret, mutual
 *                user, secret; and for each map, ascending by LUN: volume 4 (its number in the roster), node 4, LUN 2, of
 *                volume and node one is 0
 *
 * Plain memory and pure functions. Secrets are in it in the clear, as in the catalog: the roster's files are readable by their
 * owner only.
 */
#ifndef IZAR_API_SHARED_H
#define IZAR_API_SHARED_H

#include "api/catalog.h"
#include "cluster/roster.h"

enum { SHARED_MAPS_MAX = LUN_MAX + 1 };

struct shared_map {
    uint32_t volume; /* number in the roster; 0: one that only `node` has */
    uint32_t node;   /* number; 0: a volume with replicas */
    uint32_t lun;
};

struct shared_host {
    uint32_t number;
    struct catalog_host is; /* without id and number */
    uint32_t map_count;
    struct shared_map maps[SHARED_MAPS_MAX]; /* ascending by LUN, each once; each volume once */
};

/* ---- bytes ---- */

/* Returns bytes. */
uint32_t shared_encode(const struct shared_host *host, uint8_t ret_value[ROSTER_HOST_MAX]);
/* ERR_TRUNCATED, ERR_DECODE, ERR_NEW_FORMAT; the output is untouched then. */
enum err shared_decode(const void *value, size_t size, struct shared_host *ret_host);
/* False: there is none, or it cannot be read here. */
bool shared_find(const struct roster *roster, uint32_t number, struct shared_host *ret_host);
bool shared_named(const struct roster *roster, const char *name, struct shared_host *ret_host);

/* Name, initiators and CHAP. */
bool shared_is_same(const struct catalog_host *a, const struct catalog_host *b);

/* ---- changing the roster: each says in `p` why not ---- */

struct shared_edit {
    uint32_t number;                   /* of the host; shared_add gives it out */
    struct catalog_host before, after; /* shared_change: what it was taken for, what it is to be */
    struct shared_map map;             /* LUN_ANY: the lowest free one, which is written here */
    struct shared_host host;           /* for the edit itself */
    uint8_t value[ROSTER_HOST_MAX];    /* likewise; lives as long as the roster that is edited */
};

/* A new host, `after`, without maps. ERR_NAME_EXISTS: its name, or one of its initiators; ERR_LIMIT. */
enum err shared_add(struct roster *roster, struct shared_edit *edit, struct problem *p);
/* Other initiators, other CHAP. ERR_CONFLICT: it is not as `before`; ERR_NO_NAME; ERR_NAME_EXISTS: an initiator of another. */
enum err shared_change(struct roster *roster, struct shared_edit *edit, struct problem *p);
/* ERR_NO_NAME. */
enum err shared_remove(struct roster *roster, struct shared_edit *edit, struct problem *p);
/* ERR_NO_NAME; ERR_NAME_EXISTS: the LUN is taken, or the host sees that volume; ERR_LIMIT: all LUNs are. */
enum err shared_add_map(struct roster *roster, struct shared_edit *edit, struct problem *p);
/* Of `map`: the volume, or the LUN on the node. ERR_NO_NAME: there is none. */
enum err shared_remove_map(struct roster *roster, struct shared_edit *edit, struct problem *p);

/* ---- the catalog of a node ---- */

struct shared_view {
    uint32_t node;                                                 /* this one */
    bool (*keeps)(void *arg, const struct catalog_volume *volume); /* a replica of this cluster, ready to be seen */
    void (*tell)(void *arg, const char *text);                     /* what had to give way */
    void *arg;
};

/* A host that sees volumes of this node and is none of that cluster's, so that another one may be meant there; NULL: none. */
const struct catalog_host *shared_stranger(const struct catalog *catalog, const struct cluster_id *cluster);

/* The catalog has followed a newer version of this cluster's roster. */
bool shared_is_older(const struct roster *roster, uint64_t version, const struct catalog *catalog);

/* Makes hosts and maps of the catalog what the roster says. What contradicts it here and is not in it yet gives way: a host
 * without a number that has somebody else's name or initiator, a map of a volume of this node at another one's LUN.
 * ERR_LIMIT: for some hosts or maps there is no room; all else is done. */
enum err shared_mirror(const struct roster *roster, const struct shared_view *view, struct catalog *catalog);

/* Of all that it depends on in the roster: as long as this stays, there is nothing to mirror. */
uint64_t shared_digest(const struct roster *roster);

enum shared_claim { CLAIM_NOTHING, CLAIM_HOST, CLAIM_MAP, CLAIM_UNMAP };
/* After shared_mirror: the next thing of this node that the roster lacks, or has too much, as the edit that mends it. */
enum shared_claim shared_next_claim(const struct roster *roster, const struct shared_view *view, struct catalog *catalog,
                                    struct shared_edit *ret_edit);

#endif
