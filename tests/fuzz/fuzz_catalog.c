/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: no JSON, however hostile, harms the catalog or gets past its rules. Method: any bytes as a catalog; what is accepted
 * has only good names and references, and encodes to what decodes to the same.
 */
#include "api/catalog.h"
#include "fuzz/fuzz.h"

static struct catalog one, two;
static char first[CATALOG_BYTES_MAX], second[CATALOG_BYTES_MAX];

static void require_rules(struct catalog *c)
{
    struct problem p = {0};
    for (uint32_t i = 0; i < c->volume_count; i++) {
        REQUIRE(catalog_check_name("volume", c->volumes[i].name, &p) == OK);
        REQUIRE(catalog_volume(c, c->volumes[i].name) == &c->volumes[i]);
    }
    for (uint32_t i = 0; i < c->host_count; i++) {
        REQUIRE(c->hosts[i].initiator_count <= HOST_INITIATORS_MAX && c->hosts[i].id < c->next_host);
        for (uint32_t k = 0; k < c->hosts[i].initiator_count; k++)
            REQUIRE(catalog_host_of_iqn(c, c->hosts[i].initiators[k]) == &c->hosts[i]);
    }
    for (uint32_t i = 0; i < c->map_count; i++) {
        REQUIRE(catalog_volume_by_id(c, c->maps[i].volume) != NULL && catalog_host_by_id(c, c->maps[i].host) != NULL);
        REQUIRE(catalog_map_at(c, c->maps[i].host, c->maps[i].lun) == &c->maps[i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct problem p = {0};
    size_t bytes = 0, again = 0;
    if (catalog_decode((const char *)data, size, &one, &p) != OK) {
        REQUIRE(p.detail[0] != '\0');
        return 0;
    }
    require_rules(&one);
    if (catalog_encode(&one, first, sizeof first, &bytes) != OK) return 0;
    REQUIRE(catalog_decode(first, bytes, &two, &p) == OK);
    REQUIRE(catalog_encode(&two, second, sizeof second, &again) == OK);
    REQUIRE(bytes == again && memcmp(first, second, bytes) == 0);
    return 0;
}
