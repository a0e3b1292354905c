/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: no bytes harm the reader of a cluster's hosts, and what it accepts a catalog can hold. Method: any bytes; what is
 * accepted keeps to the limits, encodes to the same bytes again, and becomes a host of a catalog that can be written and read.
 */
#include "api/shared.h"
#include "fuzz/fuzz.h"

static bool keeps(void *arg, const struct catalog_volume *v)
{
    (void)arg;
    (void)v;
    return true;
}

static void tell(void *arg, const char *text)
{
    (void)arg;
    (void)text;
}

static void becomes_a_host(const uint8_t *value, size_t size)
{
    static const struct shared_view view = {1, keeps, tell, NULL};
    static struct roster roster;
    static struct catalog c, again;
    static char json[CATALOG_BYTES_MAX];
    struct problem p = {.err = OK};
    size_t bytes = 0;
    roster = (struct roster){.name = "c", .next = 2, .next_volume = 1, .next_host = 2};
    REQUIRE(roster_host_put(&roster, &(struct roster_record){1, (uint32_t)size, value}) == OK);
    catalog_init(&c);
    shared_mirror(&roster, &view, &c);
    REQUIRE(c.host_count == 1 && catalog_encode(&c, json, sizeof json, &bytes) == OK);
    REQUIRE(catalog_decode(json, bytes, &again, &p) == OK && shared_is_same(&c.hosts[0], &again.hosts[0]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct shared_host h;
    static uint8_t value[ROSTER_HOST_MAX];
    if (size > ROSTER_HOST_MAX) return 0;
    uint8_t *copy = fuzz_copy(data, size);
    if (shared_decode(copy, size, &h) == OK) {
        REQUIRE(h.is.initiator_count <= HOST_INITIATORS_MAX && h.map_count <= SHARED_MAPS_MAX);
        for (uint32_t i = 0; i < h.map_count; i++) {
            REQUIRE(h.maps[i].lun <= LUN_MAX && (h.maps[i].volume == 0) != (h.maps[i].node == 0));
            REQUIRE(i == 0 || h.maps[i].lun > h.maps[i - 1].lun);
        }
        REQUIRE(shared_encode(&h, value) == size && memcmp(value, copy, size) == 0);
        becomes_a_host(copy, size);
    }
    free(copy);
    return 0;
}
