/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All replicated volumes of a node: what puts hosts (host.h) to work between real nodes.
 *
 *     roster     which volumes there are, on which nodes, who is in sync (placement.h). A task here makes what is to be made,
 *                opens hosts, answers their questions to the register by member_read and member_change, several at once
 *     links      messages of a volume go over one of a few streams to each node, so that they stay in order; heartbeats over an
 *                urgent one. Heads by codec.h, content by body.h
 *     volumes    volume/volume.h sends changes and reads of a replicated volume to its host
 *     notes      each node tells the others as of which version of the roster it serves: what was changed for all holds on all
 *
 * What arrives and finds no room (content.h) waits in its stream, which holds up whoever sends. What cannot be sent for lack of
 * memory is lost, as links may lose: the core sends again what is not acknowledged.
 *
 * Lives on the loop of the store.
 */
#ifndef IZAR_VOLUME_REPLICA_REPLICAS_H
#define IZAR_VOLUME_REPLICA_REPLICAS_H

#include "cluster/member.h"
#include "volume/replica/host.h"
#include "volume/replica/placement.h"
#include "volume/volume.h"

struct replicas;

enum { REPLICAS_MAX = 32 /* volumes that a node keeps; each takes some 2 MiB */ };

/* Who names volumes on this node. */
struct replicas_user {
    void *arg;
    /* The volume of this number in the node's store; NULL: it is not there. */
    struct volume *(*find)(void *arg, uint32_t number);
    /* [task] Makes it (volume_create_replica), which is not there. `original`: it stands as all others do that are made now;
     * else it is empty and has to learn. ERR_NAME_EXISTS and ERR_LIMIT are told to all nodes. */
    enum err (*make)(void *arg, uint32_t number, const struct placement *place, bool original, struct volume **ret_volume);
    /* [task] It is to be gone. OK when it is not there; ERR_BUSY: somebody uses it: asked again. */
    enum err (*unmake)(void *arg, uint32_t number);
    void (*reset)(void *arg); /* this node stood still: all sessions of clients end now */
    void (*tell)(void *arg, bool is_problem, const char *text);
    void (*changed)(void *arg); /* another roster is known, or none; does not wait */
};

struct replicas_config {
    struct io *io;
    struct store *store;
    struct volumes *volumes;
    struct member *member;
    struct replicas_user user;
    bool strict; /* as in struct replica_setup */
};

/* [task] Attaches to the member; volumes are served as soon as their register values were read. ERR_NO_MEMORY. */
enum err replicas_open(const struct replicas_config *config, struct replicas **ret_replicas);
/* [task] Requests of replicated volumes end with ERR_AGAIN from the call on. The member stays open. NULL is fine. */
void replicas_close(struct replicas *replicas);
/* Then, once the store is closed. NULL is fine. */
void replicas_free(struct replicas *replicas);

/* [task] Agrees on a new volume (name, blocks, block_bytes, created_s, nodes of `wanted`) and waits until all its nodes have
 * made it. ERR_NAME_EXISTS, ERR_LIMIT: also when one of them refused it; then it is taken away again. ERR_UNDECIDED: not all
 * of them did so in time; it goes on. */
enum err replicas_create(struct replicas *replicas, const struct placement *wanted, uint32_t *ret_number,
                         struct member_why *ret_why);
/* [task] Agrees on taking it away, and waits a while for all nodes that are up. */
enum err replicas_delete(struct replicas *replicas, uint32_t number, struct member_why *ret_why);

/* [task] One more node is to keep it, and catches up; or one that is not in sync keeps it no longer (0: nobody). Places of
 * nodes that left the cluster are given up, too. ERR_NO_NAME, ERR_NAME_EXISTS, ERR_LIMIT, ERR_BUSY (it is in sync). */
enum err replicas_copies(struct replicas *replicas, uint32_t number, uint32_t add, uint32_t drop, struct member_why *ret_why);

/* [task] The last resort: this node's copy, which is not in sync, becomes the volume, and what only others had acknowledged is
 * lost. That is recorded (config.h). ERR_CONFLICT, with the reason: there is no need, or this copy is of no use: it is in sync,
 * or one that is can be reached, or catching up has left it a mixture. ERR_NO_NAME, ERR_NO_QUORUM; ERR_UNDECIDED: it may have
 * happened, or may yet. */
enum err replicas_force(struct replicas *replicas, uint32_t number, struct member_why *ret_why);

/* What is agreed on about a volume. False: there is none of this number. */
bool replicas_place(const struct replicas *replicas, uint32_t number, struct placement *ret_place);
/* How it stands here. False: this node does not keep it, or not yet. */
bool replicas_status(const struct replicas *replicas, uint32_t number, struct replica_status *ret_status);

/* Tells all nodes, now and whenever one comes up, that what this version of the roster says holds here; 0: not any more. */
void replicas_announce(struct replicas *replicas, uint64_t version);
/* What a node announced since its link is up; 0: nothing. */
uint64_t replicas_announced(const struct replicas *replicas, uint32_t node);

struct replicas_stats {
    uint64_t sent, sent_bytes, received, received_bytes;
    uint64_t dropped; /* not sent for lack of memory, or not understood */
    uint64_t parked;  /* times that a message had to wait for room */
};
void replicas_stats(const struct replicas *replicas, struct replicas_stats *ret_stats);

#endif
