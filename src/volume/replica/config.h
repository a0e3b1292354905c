/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the cluster has agreed on about one volume: a small value in the register, changed by compare-and-swap only.
 *
 * A node is a number from 0 to 7 within the volume: the place of one *store* in the volume's list, never of a host's name, and
 * never used for another store (`join` sees to that: a new store has no join that the register knows).
 *
 * `version` counts every change of the value; a change names the version that it replaces. `epoch` counts reigns: it rises when
 * another node becomes owner, and when the same node does so again after a restart (`boot` tells these apart). Replicas come
 * and go within a reign by changes of `version` alone.
 *
 * `join` of a replica is the number under which it came in sync. A replica that gives up what it has prepared gives up its join
 * first, durably; so a change that brings in a replica takes effect only when the replica still is what it was when the owner
 * counted on it (rule 17). It also tells an exchanged store from the one that was in sync.
 */
#ifndef IZAR_VOLUME_REPLICA_CONFIG_H
#define IZAR_VOLUME_REPLICA_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

enum { REPLICA_NODES_MAX = 8 };

struct replica_config {
    uint64_t version; /* 0: nothing known */
    uint32_t epoch;
    uint32_t boot;    /* of the owner, when it became owner */
    uint8_t owner;    /* node */
    uint8_t in_sync;  /* set of nodes: bit n is node n */
    uint8_t learners; /* the other replicas: they catch up */
    /* The last force-promote: history after `forced_sequence` of epochs before `forced_epoch` did not happen. 0: never. */
    uint32_t forced_epoch;
    uint64_t forced_sequence;
    uint64_t join[REPLICA_NODES_MAX];
};

static inline uint8_t node_bit(uint32_t node)
{
    return (uint8_t)(1u << node);
}

static inline bool set_has(uint8_t set, uint32_t node)
{
    return (set >> node & 1) != 0;
}

static inline uint32_t set_size(uint8_t set)
{
    uint32_t size = 0;
    for (; set != 0; set = (uint8_t)(set & (set - 1))) size++;
    return size;
}

#endif
