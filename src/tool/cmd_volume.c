/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands about volumes as a whole: create, delete, list.
 */
#include <stdio.h>

#include "tool/tool.h"
#include "tool/work.h"

int cmd_create(struct session *s)
{
    const struct options *o = s->options;
    if (o->volume == 0) return fail_usage("create needs --id");
    if (o->size == 0 || o->size % BLOCK_SIZE != 0 || o->size / BLOCK_SIZE > VOLUME_BLOCKS_MAX)
        return fail_usage("create needs --size, a multiple of %d, 512 TiB at most", BLOCK_SIZE);
    enum err err = work_change(s->io, s->store, RECORD_CREATE, (uint32_t)o->volume, o->size / BLOCK_SIZE);
    return err == OK ? EXIT_FINE : fail(err, "cannot create volume %u", (uint32_t)o->volume);
}

int cmd_delete(struct session *s)
{
    struct store_volume_info info;
    int exit = EXIT_FINE;
    if (!find_volume(s, &info, &exit)) return exit;
    enum err err = work_change(s->io, s->store, RECORD_DELETE, info.id, 0);
    return err == OK ? EXIT_FINE : fail(err, "cannot delete volume %u", info.id);
}

static void print_volume(const struct store_volume_info *info, bool json, bool first)
{
    char buf[32];
    struct text t;
    text_init(&t, buf, sizeof buf);
    text_from_bytes(&t, info->blocks * BLOCK_SIZE);
    if (json)
        printf("%s{\"id\": %u, \"blocks\": %llu, \"epoch\": %u, \"published\": %llu, \"prepared\": %llu}", first ? "" : ", ",
               info->id, (unsigned long long)info->blocks, info->epoch, (unsigned long long)info->published,
               (unsigned long long)info->prepared);
    else
        printf("%8u %12s %12llu\n", info->id, buf, (unsigned long long)info->published);
}

int cmd_volumes(struct session *s)
{
    struct store_volume_info info;
    bool json = wants_json(s), first = true;
    printf(json ? "[" : "  volume         size   operations\n");
    for (uint32_t from = 1; store_volume_next(s->store, from, &info) == OK; from = info.id + 1) {
        print_volume(&info, json, first);
        first = false;
    }
    if (json) printf("]\n");
    return EXIT_FINE;
}
