/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The roster: what the nodes of a cluster agree on, the value in the register.
 *
 * Who the members are, where they listen, which acceptor each has; the volumes with replicas, each a number and a value that
 * only the layer of volumes understands; the hosts that may log in on every node, likewise for the API, with secrets among
 * them; and the name of the iSCSI target that all nodes are. It is changed as a whole, by compare-and-swap (member.h), so
 * whatever it says holds together.
 *
 * Node numbers are given out once: `next` only grows, and a number below it that no node has is that of a node which was
 * removed, or which never finished joining. Its certificate opens no link any more. So it is with the numbers of volumes and
 * hosts.
 *
 * On the wire and on disk: a header, then items, each with its kind and length; all little-endian.
 *
 *     header 16   magic "IZARROST", version 2, zero 2, number of items 4
 *     item   8    kind 2, zero 2, bytes 4; then those bytes
 *       CLUSTER   first, once: id 16, next 4, bytes of the name 1, zero 3, name
 *       NODE      for each, ascending by number: number 4, stage 1, role 1, bytes of the name 1, addresses 1, acceptor 8,
 *                 until 8, store 16, name, and for each address its bytes 1 and text
 *       VOLUMES   once there was a volume: next_volume 4, at least 2
 *       VOLUME    for each, ascending by number: number 4, value
 *       HOSTS     once there was a host, or the target has a name: next_host 4, bytes of that name 1, zero 3, name
 *       HOST      for each, ascending by number: number 4, value
 *
 * Unknown kinds come last and are kept as they are, in their order; so is what lies in an item behind the fields one knows. So
 * an older node may change what a newer one wrote, and takes nothing away. What is decoded and encoded again is the same bytes.
 *
 * Plain memory and pure functions. A roster points into the bytes that it was decoded from, for the values of volumes and for
 * what it does not know: it is good as long as they are. Whoever changes one sees to what he puts into it in the same way.
 */
#ifndef IZAR_CLUSTER_ROSTER_H
#define IZAR_CLUSTER_ROSTER_H

#include "cluster/identity.h"
#include "cluster/register.h"

enum {
    ROSTER_NODES_MAX = 16,
    ROSTER_NAME_SIZE = 64, /* with its terminator */
    ROSTER_ADDRESSES_MAX = 8,
    ROSTER_ADDRESS_SIZE = 64, /* likewise */
    ROSTER_STORE_BYTES = 16,
    ROSTER_EXTRA_MAX = 4096, /* bytes of an item that a newer version added to it */
    ROSTER_NODE_BYTES_MAX = 1024,
    ROSTER_VOLUMES_MAX = 256,
    ROSTER_VALUE_MAX = 512, /* of a volume */
    ROSTER_HOSTS_MAX = 256,
    ROSTER_HOST_MAX = 5120, /* bytes of a host's value */
    ROSTER_TARGET_SIZE = 224,
};

enum roster_stage {
    ROSTER_JOINING = 1, /* was let in and has not been heard of since; forgotten after `until` */
    ROSTER_LIVE = 2,
    ROSTER_LEAVING = 3, /* is being removed: first its acceptor, then itself */
};
enum roster_role { ROSTER_DATA = 1, ROSTER_WITNESS = 2 };

/* Bytes of a newer version, kept as they are. */
struct roster_extra {
    const void *at;
    uint32_t bytes;
};

struct roster_node {
    uint32_t number;
    enum roster_stage stage;
    enum roster_role role;
    char name[ROSTER_NAME_SIZE];
    uint64_t acceptor;                 /* id */
    uint64_t until_s;                  /* JOINING: seconds since 1970; else 0 */
    uint8_t store[ROSTER_STORE_BYTES]; /* of a node with data: its pool */
    uint32_t address_count;
    char addresses[ROSTER_ADDRESSES_MAX][ROSTER_ADDRESS_SIZE]; /* of links, in the notation of io.h */
    struct roster_extra extra;
};

/* A volume with replicas, or a host: what the nodes agreed on about it is the value, which a layer above understands. */
struct roster_record {
    uint32_t number;   /* from 1, given out once (roster.next_volume, next_host) */
    uint32_t bytes;    /* at most ROSTER_VALUE_MAX, ROSTER_HOST_MAX */
    const void *value; /* points into the bytes it was decoded from, or is its editor's */
};

struct roster {
    struct cluster_id cluster;
    char name[ROSTER_NAME_SIZE];
    uint32_t next; /* number of the next node. 0: this is no roster yet, but what a joiner was told to begin with */
    uint32_t node_count;
    struct roster_node nodes[ROSTER_NODES_MAX]; /* ascending by number */
    uint32_t next_volume;                       /* number of the next volume, from 1 */
    uint32_t volume_count;
    struct roster_record volumes[ROSTER_VOLUMES_MAX]; /* ascending by number */
    uint32_t next_host;                               /* likewise */
    uint32_t host_count;
    struct roster_record hosts[ROSTER_HOSTS_MAX]; /* likewise */
    char target[ROSTER_TARGET_SIZE];              /* printable, without blanks; empty: each node has a name of its own */
    struct roster_extra extra, volumes_extra, hosts_extra, others;
};

/* ---- bytes (codec_roster.c) ---- */

/* ERR_LIMIT: it does not fit. */
enum err roster_encode(const struct roster *roster, void *at, size_t room, size_t *ret_size);
/* ERR_TRUNCATED, ERR_NOT_OURS, ERR_NEW_FORMAT, ERR_DECODE. */
enum err roster_decode(const void *at, size_t size, struct roster *ret_roster);
/* One node alone, as a joiner introduces itself; a NODE item's bytes. */
enum err roster_node_encode(const struct roster_node *node, void *at, size_t room, size_t *ret_size);
enum err roster_node_decode(const void *at, size_t size, struct roster_node *ret_node);

/* ---- what it says (roster.c) ---- */

const struct roster_node *roster_find(const struct roster *roster, uint32_t number);
const struct roster_node *roster_named(const struct roster *roster, const char *name);
const struct roster_node *roster_of_acceptor(const struct roster *roster, uint64_t acceptor);
/* Adds it, or replaces that of its number. ERR_LIMIT: there are too many. */
enum err roster_put(struct roster *roster, const struct roster_node *node);
/* Harmless when there is none. */
void roster_drop(struct roster *roster, uint32_t number);
/* NULL: there is none of that number. */
const struct roster_record *roster_volume(const struct roster *roster, uint32_t number);
/* Adds it, or replaces that of its number, which was given out by then. ERR_LIMIT: there are too many, or its value is too
 * long. */
enum err roster_volume_put(struct roster *roster, const struct roster_record *volume);
/* Harmless when there is none. */
void roster_volume_drop(struct roster *roster, uint32_t number);
/* The same of hosts. */
const struct roster_record *roster_host(const struct roster *roster, uint32_t number);
enum err roster_host_put(struct roster *roster, const struct roster_record *host);
void roster_host_drop(struct roster *roster, uint32_t number);
/* Letters, digits, '-', '_' and '.', and no longer than there is room. */
bool roster_name_is_good(const char *name);

/*
 * Who should hold the register: of the LIVE nodes, witnesses too, five when there are five, three when there are three, else
 * one, a node with data; so that no half can go on while another does. Those that hold it now stay, then the lowest numbers.
 * With two nodes of data and no witness that one acceptor says which of them may go on alone ("prefer").
 */
struct acceptor_set roster_acceptors(const struct roster *roster, const struct acceptor_set *now);

#endif
