/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what the roster keeps of a replicated volume comes back as it was, and what could not have been written is refused,
 * whatever the bytes. Method: random placements there and back, cut at each byte and one too long; a plain one in which one
 * number is changed, to the last that can be and to the first that cannot; rosters with values of all sorts.
 */
#include "base/prng.h"
#include "check.h"
#include "store/format.h"
#include "tests/unit/changed.h"
#include "volume/replica/placement.h"

enum {
    ROUNDS = 500,
    HEAD = 128,
    AT_STAGE = 1,
    AT_MADE,
    AT_NODES,
    AT_NAME_BYTES,
    AT_REFUSAL,
    AT_REFUSED_BY,
    AT_FAST,
    AT_FORCING = 47
};

static uint8_t value[ROSTER_VALUE_MAX];

static void plain(struct placement *ret_place)
{
    *ret_place = (struct placement){
        .stage = PLACE_LIVE,
        .made = 7,
        .node_count = 3,
        .nodes = {5, 1, 9},
        .blocks = 1000,
        .block_bytes = 512,
        .name = "vm",
        .config = {.version = 1, .epoch = 1, .owner = 1, .in_sync = 3, .learners = 4, .join = {1, 1, 1}},
    };
}

/* ---- there and back ---- */

static void draw_config(struct prng *p, struct placement *place)
{
    struct replica_config *c = &place->config;
    uint8_t all = placement_all(place);
    c->version = 1 + prng_below(p, UINT64_MAX - 2);
    c->epoch = 1 + (uint32_t)prng_below(p, UINT32_MAX);
    c->boot = (uint32_t)prng_next(p);
    c->owner = (uint8_t)prng_below(p, place->node_count);
    c->in_sync = (uint8_t)((prng_next(p) & all) | node_bit(c->owner));
    c->learners = (uint8_t)(prng_next(p) & all & (uint8_t)~c->in_sync);
    c->forced_epoch = prng_below(p, 2) == 0 ? 0 : 1 + (uint32_t)prng_below(p, c->epoch);
    c->forced_sequence = c->forced_epoch != 0 ? prng_below(p, POINTER_GRAFT) : 0;
    for (uint32_t i = 0; i < REPLICA_NODES_MAX; i++) c->join[i] = prng_next(p) | 1;
}

static void draw(uint64_t seed, struct placement *ret_place)
{
    struct prng p;
    struct placement *place = ret_place;
    static const char letters[] = "abz-_.09XYZ";
    prng_init(&p, seed);
    memset(place, 0, sizeof *place);
    place->stage = (enum placement_stage)(PLACE_MAKING + prng_below(&p, 3));
    place->node_count = 1 + (uint32_t)prng_below(&p, REPLICA_NODES_MAX);
    place->made = (uint8_t)(prng_next(&p) & placement_all(place));
    for (uint32_t i = 0; i < place->node_count; i++) place->nodes[i] = (uint32_t)prng_below(&p, UINT32_MAX / 8) * 8 + i + 1;
    place->blocks = 1 + prng_below(&p, VOLUME_BLOCKS_MAX);
    place->created_s = prng_next(&p);
    place->block_bytes = prng_below(&p, 2) == 0 ? 512 : 4096;
    place->fast = prng_below(&p, 2) == 0;
    uint64_t length = seed % 2 == 0 ? ROSTER_NAME_SIZE - 1 : 1 + prng_below(&p, ROSTER_NAME_SIZE - 1);
    for (uint64_t i = 0; i < length; i++) place->name[i] = letters[prng_below(&p, sizeof letters - 1)];
    if (place->stage == PLACE_LIVE || (place->stage == PLACE_LEAVING && prng_below(&p, 2) == 0)) draw_config(&p, place);
}

TEST(random_placements_come_back)
{
    for (uint64_t seed = 0; seed < ROUNDS; seed++) {
        struct placement place, back;
        draw(seed, &place);
        uint32_t bytes = placement_encode(&place, value);
        CHECK(bytes == HEAD + 4 * place.node_count + strlen(place.name) && bytes < ROSTER_VALUE_MAX);
        memset(&back, 0, sizeof back);
        CHECK_OK(placement_decode(value, bytes, &back));
        CHECK(back.stage == place.stage && back.made == place.made && back.node_count == place.node_count);
        CHECK_BYTES(back.nodes, place.nodes, sizeof place.nodes);
        CHECK_STR(back.name, place.name);
        uint8_t again[ROSTER_VALUE_MAX];
        CHECK_EQ(placement_encode(&back, again), bytes);
        CHECK_BYTES(again, value, bytes);
    }
}

TEST(no_other_length_is_taken)
{
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct placement place, back, untouched;
        draw(seed, &place);
        uint32_t bytes = placement_encode(&place, value);
        memset(&back, 0x5a, sizeof back);
        untouched = back;
        for (uint32_t size = 0; size < bytes; size++) CHECK_ERR(ERR_TRUNCATED, placement_decode(value, size, &back));
        value[bytes] = 'x';
        CHECK_ERR(ERR_DECODE, placement_decode(value, bytes + 1, &back));
        CHECK_BYTES(&back, &untouched, sizeof back);
    }
}

/* ---- limits ---- */

/* What is said of the plain one with other bytes at a place. */
static enum err place_changed(size_t at, const void *to, size_t size)
{
    struct placement place;
    plain(&place);
    uint32_t bytes = placement_encode(&place, value);
    memcpy(value + at, to, size);
    return placement_decode(value, bytes, &place);
}

TEST(limits_are_kept)
{
    CHECK_ERR(ERR_DECODE, changed8(place_changed, 0, 0));
    CHECK_ERR(ERR_NEW_FORMAT, changed8(place_changed, 0, 2));
    CHECK_ERR(ERR_NEW_FORMAT, changed8(place_changed, 0, 255));
    CHECK_OK(changed8(place_changed, AT_STAGE, PLACE_LEAVING));
    CHECK_ERR(ERR_DECODE, changed8(place_changed, AT_STAGE, 0));
    CHECK_ERR(ERR_DECODE, changed8(place_changed, AT_STAGE, PLACE_LEAVING + 1));
    CHECK_ERR(ERR_DECODE, changed8(place_changed, AT_STAGE, PLACE_MAKING)); /* with a value of the protocol */
    CHECK_OK(changed8(place_changed, AT_MADE, 0));
    CHECK_OK(changed8(place_changed, AT_FAST, 1));
    CHECK_OK(changed8(place_changed, AT_FORCING, 3));
    CHECK_ERR(ERR_DECODE, changed8(place_changed, AT_FORCING, 2)); /* it is in sync */
    CHECK_ERR(ERR_DECODE, changed8(place_changed, AT_FORCING, 4));
    CHECK_ERR(ERR_DECODE, changed8(place_changed, AT_FAST, 2));
    CHECK_ERR(ERR_DECODE, changed8(place_changed, AT_MADE, 8));
    CHECK_ERR(ERR_DECODE, changed8(place_changed, AT_NODES, 0));
    CHECK_ERR(ERR_DECODE, changed8(place_changed, AT_NODES, 2));
    CHECK_ERR(ERR_TRUNCATED, changed8(place_changed, AT_NODES, 4));
    CHECK_ERR(ERR_DECODE, changed8(place_changed, AT_NODES, 9));
    CHECK_ERR(ERR_DECODE, changed8(place_changed, AT_NODES, 255));
    CHECK_ERR(ERR_DECODE, changed8(place_changed, AT_NAME_BYTES, 0));
    CHECK_ERR(ERR_DECODE, changed8(place_changed, AT_NAME_BYTES, 1));
    CHECK_ERR(ERR_TRUNCATED, changed8(place_changed, AT_NAME_BYTES, 3));
    CHECK_ERR(ERR_DECODE, changed8(place_changed, AT_NAME_BYTES, ROSTER_NAME_SIZE));
    CHECK_ERR(ERR_DECODE, changed8(place_changed, AT_NAME_BYTES, 255));
    for (size_t at = AT_REFUSAL; at < AT_FAST; at++) CHECK_ERR(ERR_DECODE, changed8(place_changed, at, 1));
    CHECK_OK(changed64(place_changed, 8, VOLUME_BLOCKS_MAX));
    CHECK_ERR(ERR_DECODE, changed64(place_changed, 8, VOLUME_BLOCKS_MAX + 1));
    CHECK_ERR(ERR_DECODE, changed64(place_changed, 8, 0));
    CHECK_OK(changed32(place_changed, 24, 4096));
    CHECK_ERR(ERR_DECODE, changed32(place_changed, 24, 0));
    CHECK_ERR(ERR_DECODE, changed32(place_changed, 24, 1024));
    CHECK_OK(changed32(place_changed, HEAD + 8, UINT32_MAX));
    CHECK_ERR(ERR_DECODE, changed32(place_changed, HEAD + 8, 0));
    CHECK_ERR(ERR_DECODE, changed32(place_changed, HEAD + 8, 5)); /* twice */
    CHECK_ERR(ERR_DECODE, changed8(place_changed, HEAD + 12, '/'));
    CHECK_ERR(ERR_DECODE, changed8(place_changed, HEAD + 12, 0));
    CHECK_ERR(ERR_DECODE, changed8(place_changed, HEAD + 13, 0));
}

TEST(limits_of_the_protocol_are_kept)
{
    CHECK_ERR(ERR_DECODE, changed32(place_changed, 28, 0)); /* epoch */
    CHECK_OK(changed64(place_changed, 32, UINT64_MAX - 1)); /* version */
    CHECK_ERR(ERR_DECODE, changed64(place_changed, 32, UINT64_MAX));
    CHECK_ERR(ERR_DECODE, changed64(place_changed, 32, 0));
    CHECK_OK(changed8(place_changed, 44, 0)); /* owner */
    CHECK_ERR(ERR_DECODE, changed8(place_changed, 44, 2));
    CHECK_ERR(ERR_DECODE, changed8(place_changed, 44, 3));
    CHECK_ERR(ERR_DECODE, changed8(place_changed, 44, 9));
    CHECK_ERR(ERR_DECODE, changed8(place_changed, 44, 33)); /* as far as a shift would come round */
    CHECK_ERR(ERR_DECODE, changed8(place_changed, 44, 255));
    CHECK_OK(changed8(place_changed, 45, 2)); /* in sync */
    CHECK_ERR(ERR_DECODE, changed8(place_changed, 45, 1));
    CHECK_ERR(ERR_DECODE, changed8(place_changed, 45, 7));
    CHECK_ERR(ERR_DECODE, changed8(place_changed, 45, 0x0b));
    CHECK_OK(changed8(place_changed, 46, 0)); /* learners */
    CHECK_ERR(ERR_DECODE, changed8(place_changed, 46, 0x0c));
    CHECK_ERR(ERR_DECODE, changed8(place_changed, 46, 2));
    CHECK_ERR(ERR_DECODE, changed8(place_changed, 47, 1));
    CHECK_OK(changed32(place_changed, 48, 1)); /* forced */
    CHECK_ERR(ERR_DECODE, changed32(place_changed, 48, 2));
    CHECK_ERR(ERR_DECODE, changed32(place_changed, 52, 1));
    CHECK_ERR(ERR_DECODE, changed64(place_changed, 56, 1)); /* without an epoch */
    CHECK_ERR(ERR_DECODE, changed64(place_changed, 64, 0)); /* the join of one in sync, and of one that is not */
    CHECK_OK(changed64(place_changed, 64 + 16, 0));
}

TEST(what_is_made_has_no_value_of_the_protocol)
{
    struct placement place, back;
    plain(&place);
    place.stage = PLACE_MAKING;
    place.made = 1;
    place.config = (struct replica_config){.version = 0};
    CHECK_OK(placement_decode(value, placement_encode(&place, value), &back));
    place.stage = PLACE_LEAVING; /* it was never finished */
    CHECK_OK(placement_decode(value, placement_encode(&place, value), &back));
    place.stage = PLACE_LIVE;
    CHECK_ERR(ERR_DECODE, placement_decode(value, placement_encode(&place, value), &back));
    place.stage = PLACE_LEAVING;
    place.config.in_sync = 1;
    CHECK_ERR(ERR_DECODE, placement_decode(value, placement_encode(&place, value), &back));
    place.stage = PLACE_MAKING;
    CHECK_ERR(ERR_DECODE, placement_decode(value, placement_encode(&place, value), &back));
}

TEST(who_refuses_says_why)
{
    struct placement place, back;
    plain(&place);
    place.config = (struct replica_config){.version = 0};
    place.stage = PLACE_MAKING;
    place.refusal = PLACE_REFUSED_LIMIT;
    place.refused_by = 2;
    CHECK_OK(placement_decode(value, placement_encode(&place, value), &back));
    CHECK(back.refusal == PLACE_REFUSED_LIMIT && back.refused_by == 2);
    place.stage = PLACE_LEAVING;
    CHECK_OK(placement_decode(value, placement_encode(&place, value), &back));
    uint32_t bytes = placement_encode(&place, value);
    value[AT_REFUSED_BY] = 3; /* nobody */
    CHECK_ERR(ERR_DECODE, placement_decode(value, bytes, &back));
    value[AT_REFUSED_BY] = 0;
    value[AT_REFUSAL] = PLACE_REFUSED_LIMIT + 1;
    CHECK_ERR(ERR_DECODE, placement_decode(value, bytes, &back));
    value[AT_REFUSED_BY] = 1;
    value[AT_REFUSAL] = PLACE_REFUSED_NOT;
    CHECK_ERR(ERR_DECODE, placement_decode(value, bytes, &back));
}

/* ---- in a roster ---- */

TEST(a_roster_says_where_a_volume_is)
{
    static struct roster roster;
    static uint8_t values[3][ROSTER_VALUE_MAX];
    struct placement place, found;
    memset(&roster, 0, sizeof roster);
    roster.next_volume = 10;
    plain(&place);
    CHECK_EQ(placement_of(&place, 5), 0);
    CHECK_EQ(placement_of(&place, 9), 2);
    CHECK_EQ(placement_of(&place, 2), REPLICA_NODES_MAX);
    CHECK_EQ(placement_all(&place), 7);
    CHECK_OK(placement_put(&roster, 3, &place, values[0]));
    snprintf(place.name, sizeof place.name, "other");
    CHECK_OK(placement_put(&roster, 4, &place, values[1]));
    CHECK_OK(roster_volume_put(&roster, &(struct roster_record){.number = 5, .bytes = 4, .value = "what"}));
    CHECK(placement_find(&roster, 4, &found));
    CHECK_STR(found.name, "other");
    CHECK(!placement_find(&roster, 5, &found)); /* of a newer version, or nothing of ours */
    CHECK(!placement_find(&roster, 6, &found));
    CHECK_EQ(placement_named(&roster, "other", &found), 4);
    CHECK_EQ(placement_named(&roster, "vm", &found), 3);
    CHECK_EQ(placement_named(&roster, "v", &found), 0);
    place.made = 1;
    CHECK_OK(placement_put(&roster, 4, &place, values[2]));
    CHECK(placement_count(&roster, 9, UINT32_MAX) == 2 && placement_count(&roster, 9, 4) == 1);
    CHECK(placement_count(&roster, 9, 3) == 0 && placement_count(&roster, 2, UINT32_MAX) == 0);
    CHECK(roster.volume_count == 3 && placement_find(&roster, 4, &found) && found.made == 1);
}

TESTS(random_placements_come_back, no_other_length_is_taken, limits_are_kept, limits_of_the_protocol_are_kept,
      what_is_made_has_no_value_of_the_protocol, who_refuses_says_why, a_roster_says_where_a_volume_is)
