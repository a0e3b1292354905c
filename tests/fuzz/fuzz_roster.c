/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: no bytes harm the reader of rosters, nor of what a joiner says of itself. Method: any bytes as either; what is accepted
 * keeps to the limits, encodes to the same bytes again, and can be asked everything.
 */
#include "cluster/roster.h"
#include "fuzz/fuzz.h"

static uint8_t again[FUZZ_INPUT_MAX + 1];

static void node_is_sane(const struct roster_node *n)
{
    REQUIRE(n->number > 0 && n->number <= NODE_NUMBER_MAX && n->acceptor != 0 && roster_name_is_good(n->name));
    REQUIRE(n->address_count <= ROSTER_ADDRESSES_MAX && n->extra.bytes <= ROSTER_EXTRA_MAX);
    for (uint32_t i = 0; i < n->address_count; i++) {
        size_t length = strlen(n->addresses[i]);
        REQUIRE(length > 0 && length < ROSTER_ADDRESS_SIZE);
    }
}

static void volumes_are_sane(const struct roster *r, const uint8_t *at, size_t size)
{
    REQUIRE(r->volume_count <= ROSTER_VOLUMES_MAX && r->next_volume > 0);
    for (uint32_t i = 0; i < r->volume_count; i++) {
        const struct roster_record *v = &r->volumes[i];
        const uint8_t *value = v->value;
        REQUIRE(v->number > 0 && v->number < r->next_volume && roster_volume(r, v->number) == v);
        REQUIRE(v->bytes <= ROSTER_VALUE_MAX && value >= at && value + v->bytes <= at + size);
    }
}

static void hosts_are_sane(const struct roster *r, const uint8_t *at, size_t size)
{
    size_t target = strlen(r->target);
    REQUIRE(r->host_count <= ROSTER_HOSTS_MAX && r->next_host > 0 && target < ROSTER_TARGET_SIZE);
    REQUIRE(strcspn(r->target, " \t\n\x7f") == target);
    for (uint32_t i = 0; i < r->host_count; i++) {
        const struct roster_record *h = &r->hosts[i];
        const uint8_t *value = h->value;
        REQUIRE(h->number > 0 && h->number < r->next_host && roster_host(r, h->number) == h);
        REQUIRE(h->bytes <= ROSTER_HOST_MAX && value >= at && value + h->bytes <= at + size);
    }
}

static void whole(const uint8_t *at, size_t size)
{
    static struct roster r;
    size_t bytes;
    if (roster_decode(at, size, &r) != OK) return;
    REQUIRE(r.node_count <= ROSTER_NODES_MAX && roster_name_is_good(r.name));
    for (uint32_t i = 0; i < r.node_count; i++) {
        node_is_sane(&r.nodes[i]);
        REQUIRE(roster_find(&r, r.nodes[i].number) == &r.nodes[i] && roster_named(&r, r.nodes[i].name) == &r.nodes[i]);
        REQUIRE(roster_of_acceptor(&r, r.nodes[i].acceptor) == &r.nodes[i]);
    }
    volumes_are_sane(&r, at, size);
    hosts_are_sane(&r, at, size);
    REQUIRE(roster_encode(&r, again, sizeof again, &bytes) == OK && bytes == size && memcmp(again, at, size) == 0);
    struct acceptor_set set = roster_acceptors(&r, &(struct acceptor_set){0});
    REQUIRE(set.count <= 5 && (set.count == 0 || set.count % 2 == 1));
    if (r.node_count > 0) roster_drop(&r, r.nodes[0].number);
    if (r.volume_count > 0) roster_volume_drop(&r, r.volumes[r.volume_count / 2].number);
    if (r.host_count > 0) roster_host_drop(&r, r.hosts[r.host_count / 2].number);
    REQUIRE(roster_encode(&r, again, sizeof again, &bytes) == OK && bytes <= size && roster_decode(again, bytes, &r) == OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct roster_node node;
    size_t bytes;
    if (size > FUZZ_INPUT_MAX) return 0;
    uint8_t *copy = fuzz_copy(data, size);
    whole(copy, size);
    if (roster_node_decode(copy, size, &node) == OK) {
        node_is_sane(&node);
        REQUIRE(roster_node_encode(&node, again, sizeof again, &bytes) == OK && bytes == size);
        REQUIRE(memcmp(again, copy, size) == 0);
    }
    free(copy);
    return 0;
}
