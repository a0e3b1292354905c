/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A replicated volume in the roster: what all nodes agree on about it. Its value (roster.h) is this, as bytes; its number there
 * is its number for ever, in all nodes, whatever a store calls it.
 *
 *     MAKING   each node of `nodes` makes it in its store and says so in `made`; who is the last says LIVE, with the first
 *              register value of the protocol (config.h): all in sync. Who cannot, whatever it tries, says why (`refusal`)
 *     LIVE     `config` is changed by the protocol; but a learner is added, or taken out, by a person: a copy more, or one that
 *              is given up. The node of a place that is neither in sync nor a learner takes the volume out of its store
 *     LEAVING  each node takes it out of its store and out of `made`, in which all are to begin with, because one that never
 *              said that it made it may be about to; who is the last of those that the cluster still has drops it
 *
 * The place of a node in `nodes` is its number within the protocol, for ever.
 *
 *     value 128   version 1, stage 1, made 1, nodes 1, bytes of the name 1, refusal 1, place of who refused 1, fast 1,
 *                 blocks 8, created 8, block bytes 4,
 *                 then of the protocol: epoch 4, version 8, boot 4, owner 1, in sync 1, learners 1, forcing 1, forced epoch 4,
 *                 zero 4, forced sequence 8, join 8 times 8; then for each node its number 4; then the name
 */
#ifndef IZAR_VOLUME_REPLICA_PLACEMENT_H
#define IZAR_VOLUME_REPLICA_PLACEMENT_H

#include "cluster/roster.h"
#include "volume/replica/config.h"

enum placement_stage { PLACE_MAKING = 1, PLACE_LIVE, PLACE_LEAVING };
/* Why a node cannot make it: it has a volume of that name, or as many as it can have. */
enum placement_refusal { PLACE_REFUSED_NOT, PLACE_REFUSED_NAME, PLACE_REFUSED_LIMIT };

struct placement {
    enum placement_stage stage;
    uint8_t made;                   /* set of places: whose store has it; LEAVING: may have it */
    enum placement_refusal refusal; /* also after it: LEAVING */
    uint8_t refused_by;             /* place */
    uint32_t node_count;
    uint32_t nodes[REPLICA_NODES_MAX]; /* numbers in the roster, each once */
    uint64_t blocks;                   /* as it was made; later sizes are the volume's own state */
    uint64_t created_s;
    uint32_t block_bytes; /* as initiators see it */
    bool fast;            /* short timers (replica_timing_fast), the same on all nodes, for ever */
    uint8_t forcing;      /* LIVE: 0, or the place + 1 whose copy somebody wants to go on with: whoever is in sync says no */
    char name[ROSTER_NAME_SIZE];
    struct replica_config config; /* version 0 while it is being made */
};

/* Returns bytes. */
uint32_t placement_encode(const struct placement *place, uint8_t ret_value[ROSTER_VALUE_MAX]);
/* ERR_TRUNCATED, ERR_DECODE, ERR_NEW_FORMAT; the output is untouched then. */
enum err placement_decode(const void *value, size_t size, struct placement *ret_place);

/* The place of a node, REPLICA_NODES_MAX when it has none. */
uint32_t placement_of(const struct placement *place, uint32_t node);
/* How many volumes with a number below this one the roster has for a node, whatever their stage, that it keeps. */
uint32_t placement_count(const struct roster *roster, uint32_t node, uint32_t below);
/* All places as a set; those whose nodes keep it, or are to. */
uint8_t placement_all(const struct placement *place);
uint8_t placement_kept(const struct placement *place);
/* It has a place there, and keeps it or is to. */
bool placement_keeps(const struct placement *place, uint32_t node);
/* What the roster says of a volume. False: there is none of this number, or it cannot be read here. */
bool placement_find(const struct roster *roster, uint32_t number, struct placement *ret_place);
/* Puts it into a roster that is being edited; `value` lives as long as that. ERR_LIMIT. */
enum err placement_put(struct roster *roster, uint32_t number, const struct placement *place, uint8_t value[ROSTER_VALUE_MAX]);
/* The replicated volume of this name in the roster; its number, 0: there is none. */
uint32_t placement_named(const struct roster *roster, const char *name, struct placement *ret_place);

#endif
