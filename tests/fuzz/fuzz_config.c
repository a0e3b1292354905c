/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: no configuration file, however odd, harms izard; what is accepted keeps to its limits, and what is refused has a
 * sentence that names the file. Method: any bytes as a file.
 */
#include "fuzz/fuzz.h"
#include "izard/config.h"

static void require_limits(const struct config *c)
{
    REQUIRE(c->memory >= (uint64_t)NODE_MEMORY_MIN_MIB << 20 && c->loops <= 64 && c->reserve >= 5 && c->reserve <= 50);
    REQUIRE(c->pools.count <= CONFIG_LIST_MAX && c->listens.count <= CONFIG_LIST_MAX);
    REQUIRE(memchr(c->state, 0, sizeof c->state) != NULL && c->state[0] != '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct config c;
    struct problem p;
    config_init(&c);
    enum err err = config_parse(&c, (const char *)data, size, "file", &p);
    require_limits(&c);
    REQUIRE(err == OK ? p.err == OK : strncmp(p.detail, "file:", 5) == 0);
    return 0;
}
