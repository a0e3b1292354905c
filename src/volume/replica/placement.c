/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of a replicated volume's value in the roster.
 */
#include "volume/replica/placement.h"

#include "base/bytes.h"
#include "store/format.h"
#include "volume/replica/codec.h"

enum { VERSION = 1 };

struct disk_placement {
    uint8_t version, stage, made, nodes;
    uint8_t name_bytes, refusal, refused_by, fast;
    le64 blocks, created_s;
    le32 block_bytes, epoch;
    le64 config_version;
    le32 boot;
    uint8_t owner, in_sync, learners, forcing;
    le32 forced_epoch, zero_three;
    le64 forced_sequence;
    le64 join[REPLICA_NODES_MAX];
};
SIZE(disk_placement, 128);
AT(disk_placement, blocks, 8);
AT(disk_placement, config_version, 32);
AT(disk_placement, forced_sequence, 56);
AT(disk_placement, join, 64);

static_assert(sizeof(struct disk_placement) + REPLICA_NODES_MAX * sizeof(le32) + ROSTER_NAME_SIZE <= ROSTER_VALUE_MAX,
              "the longest fits");

uint32_t placement_encode(const struct placement *p, uint8_t ret_value[ROSTER_VALUE_MAX])
{
    const struct replica_config *c = &p->config;
    struct disk_placement disk = {.version = VERSION,
                                  .stage = (uint8_t)p->stage,
                                  .made = p->made,
                                  .nodes = (uint8_t)p->node_count,
                                  .name_bytes = (uint8_t)strlen(p->name),
                                  .refusal = (uint8_t)p->refusal,
                                  .refused_by = p->refused_by,
                                  .fast = p->fast,
                                  .blocks = put64(p->blocks),
                                  .created_s = put64(p->created_s),
                                  .block_bytes = put32(p->block_bytes),
                                  .epoch = put32(c->epoch),
                                  .config_version = put64(c->version),
                                  .boot = put32(c->boot),
                                  .owner = c->owner,
                                  .in_sync = c->in_sync,
                                  .learners = c->learners,
                                  .forcing = p->forcing,
                                  .forced_epoch = put32(c->forced_epoch),
                                  .forced_sequence = put64(c->forced_sequence)};
    uint32_t bytes = sizeof disk;
    for (uint32_t i = 0; i < REPLICA_NODES_MAX; i++) disk.join[i] = put64(c->join[i]);
    memcpy(ret_value, &disk, sizeof disk);
    for (uint32_t i = 0; i < p->node_count; i++, bytes += sizeof(le32)) {
        le32 node = put32(p->nodes[i]);
        memcpy(ret_value + bytes, &node, sizeof node);
    }
    memcpy(ret_value + bytes, p->name, disk.name_bytes);
    return bytes + disk.name_bytes;
}

uint8_t placement_all(const struct placement *place)
{
    return (uint8_t)((1u << place->node_count) - 1);
}

uint8_t placement_kept(const struct placement *place)
{
    bool agreed = place->stage == PLACE_LIVE && place->config.version > 0;
    return agreed ? (uint8_t)(place->config.in_sync | place->config.learners) : placement_all(place);
}

bool placement_keeps(const struct placement *place, uint32_t node)
{
    uint32_t index = placement_of(place, node);
    return index < REPLICA_NODES_MAX && set_has(placement_kept(place), index);
}

/* Sets are of places that there are, and the protocol's value is one that it could have written. */
static bool config_is_good(const struct placement *p)
{
    const struct replica_config *c = &p->config;
    uint8_t all = placement_all(p), members = c->in_sync | c->learners;
    if (p->stage == PLACE_MAKING) return c->version == 0 && members == 0;
    if (c->version == 0) return p->stage == PLACE_LEAVING && members == 0; /* it was never finished */
    return (members & ~all) == 0 && replica_config_is_possible(c);         /* so the owner is one of them */
}

static bool refusal_is_good(const struct placement *p)
{
    if (p->refusal == PLACE_REFUSED_NOT) return p->refused_by == 0;
    return p->stage != PLACE_LIVE && p->refusal <= PLACE_REFUSED_LIMIT && p->refused_by < p->node_count;
}

static bool forcing_is_good(const struct placement *p)
{
    if (p->forcing == 0) return true;
    return p->stage == PLACE_LIVE && p->forcing <= p->node_count && !set_has(p->config.in_sync, p->forcing - 1u);
}

static bool is_good(const struct placement *p)
{
    if (p->stage < PLACE_MAKING || p->stage > PLACE_LEAVING || p->node_count == 0) return false;
    if ((p->made & ~placement_all(p)) != 0 || !roster_name_is_good(p->name)) return false;
    if (p->blocks == 0 || p->blocks > VOLUME_BLOCKS_MAX || (p->block_bytes != 512 && p->block_bytes != 4096)) return false;
    for (uint32_t i = 0; i < p->node_count; i++)
        if (p->nodes[i] == 0 || placement_of(p, p->nodes[i]) != i) return false;
    return refusal_is_good(p) && config_is_good(p) && forcing_is_good(p);
}

static void config_take(const struct disk_placement *disk, struct replica_config *c)
{
    *c = (struct replica_config){.version = get64(disk->config_version),
                                 .epoch = get32(disk->epoch),
                                 .boot = get32(disk->boot),
                                 .owner = disk->owner,
                                 .in_sync = disk->in_sync,
                                 .learners = disk->learners,
                                 .forced_epoch = get32(disk->forced_epoch),
                                 .forced_sequence = get64(disk->forced_sequence)};
    for (uint32_t i = 0; i < REPLICA_NODES_MAX; i++) c->join[i] = get64(disk->join[i]);
}

enum err placement_decode(const void *value, size_t size, struct placement *ret_place)
{
    struct disk_placement disk;
    struct cursor c = cursor_of(value, size);
    const void *at = cursor_take(&c, sizeof disk);
    if (at == NULL) return ERR_TRUNCATED;
    memcpy(&disk, at, sizeof disk);
    if (disk.version > VERSION) return ERR_NEW_FORMAT;
    bool good = disk.fast <= 1 && get32(disk.zero_three) == 0;
    if (disk.version == 0 || !good || disk.nodes > REPLICA_NODES_MAX || disk.name_bytes >= ROSTER_NAME_SIZE) return ERR_DECODE;
    struct placement p = {.stage = (enum placement_stage)disk.stage,
                          .made = disk.made,
                          .refusal = (enum placement_refusal)disk.refusal,
                          .refused_by = disk.refused_by,
                          .node_count = disk.nodes,
                          .blocks = get64(disk.blocks),
                          .created_s = get64(disk.created_s),
                          .block_bytes = get32(disk.block_bytes),
                          .fast = disk.fast != 0,
                          .forcing = disk.forcing};
    config_take(&disk, &p.config);
    for (uint32_t i = 0; i < disk.nodes; i++) {
        le32 node;
        at = cursor_take(&c, sizeof node);
        if (at == NULL) return ERR_TRUNCATED;
        memcpy(&node, at, sizeof node);
        p.nodes[i] = get32(node);
    }
    at = cursor_take(&c, disk.name_bytes);
    if (at == NULL) return ERR_TRUNCATED;
    memcpy(p.name, at, disk.name_bytes);
    if (c.left > 0 || strlen(p.name) != disk.name_bytes || !is_good(&p)) return ERR_DECODE;
    *ret_place = p;
    return OK;
}

uint32_t placement_of(const struct placement *place, uint32_t node)
{
    for (uint32_t i = 0; i < place->node_count; i++)
        if (place->nodes[i] == node) return i;
    return REPLICA_NODES_MAX;
}

uint32_t placement_count(const struct roster *roster, uint32_t node, uint32_t below)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < roster->volume_count && roster->volumes[i].number < below; i++) {
        struct placement place;
        if (!placement_find(roster, roster->volumes[i].number, &place)) continue;
        count += placement_keeps(&place, node);
    }
    return count;
}

bool placement_find(const struct roster *roster, uint32_t number, struct placement *ret_place)
{
    const struct roster_record *v = roster_volume(roster, number);
    return v != NULL && placement_decode(v->value, v->bytes, ret_place) == OK;
}

enum err placement_put(struct roster *roster, uint32_t number, const struct placement *place, uint8_t value[ROSTER_VALUE_MAX])
{
    struct roster_record v = {.number = number, .bytes = placement_encode(place, value), .value = value};
    return roster_volume_put(roster, &v);
}

uint32_t placement_named(const struct roster *roster, const char *name, struct placement *ret_place)
{
    for (uint32_t i = 0; i < roster->volume_count; i++) {
        struct placement place;
        if (!placement_find(roster, roster->volumes[i].number, &place) || strcmp(place.name, name) != 0) continue;
        *ret_place = place;
        return roster->volumes[i].number;
    }
    return 0;
}
