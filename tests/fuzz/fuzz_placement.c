/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: no bytes of the roster harm whoever reads what is agreed on about a replicated volume. Method: any bytes as its value;
 * what is accepted keeps to the limits that the protocol and the rest of the node count on, and encodes to the same bytes.
 */
#include "fuzz/fuzz.h"
#include "store/format.h"
#include "volume/replica/placement.h"

static void require_config(const struct placement *p)
{
    const struct replica_config *c = &p->config;
    REQUIRE(((c->in_sync | c->learners) & ~placement_all(p)) == 0);
    if (c->version == 0) return;
    REQUIRE(c->version + 1 > 0 && c->epoch > 0 && c->forced_epoch <= c->epoch && c->forced_sequence < POINTER_GRAFT);
    REQUIRE(c->owner < p->node_count && set_has(c->in_sync, c->owner) && (c->in_sync & c->learners) == 0);
    for (uint32_t node = 0; node < p->node_count; node++) REQUIRE(!set_has(c->in_sync, node) || c->join[node] != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t again[ROSTER_VALUE_MAX];
    struct placement p;
    if (placement_decode(data, size, &p) != OK) return 0;
    REQUIRE(p.stage >= PLACE_MAKING && p.stage <= PLACE_LEAVING && p.node_count > 0 && p.node_count <= REPLICA_NODES_MAX);
    REQUIRE((p.made & ~placement_all(&p)) == 0 && p.blocks > 0 && p.blocks <= VOLUME_BLOCKS_MAX);
    REQUIRE((p.config.version == 0) == (p.stage == PLACE_MAKING) || p.stage == PLACE_LEAVING);
    REQUIRE(p.refused_by < p.node_count && (p.refusal == PLACE_REFUSED_NOT || p.stage != PLACE_LIVE));
    for (uint32_t i = 0; i < p.node_count; i++) REQUIRE(p.nodes[i] != 0 && placement_of(&p, p.nodes[i]) == i);
    require_config(&p);
    REQUIRE(size <= sizeof again && placement_encode(&p, again) == size && memcmp(again, data, size) == 0);
    return 0;
}
