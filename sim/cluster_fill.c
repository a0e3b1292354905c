/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filling a cluster: somebody beside the clients writes blocks that nobody reads, until the volume refuses them, and unmaps
 * them again. One node has a smaller pool than the others: that is the one which runs full.
 *
 * While it is full nobody leaves the in-sync set for it, reads and unmaps are answered with nothing but success, and writes are
 * refused with "no space". What was refused is nowhere (cluster_judge.c). Once there is something unmapped, writes go on in
 * bounded time.
 */
#include <stdlib.h>
#include <string.h>

#include "sim/cluster.h"
#include "sim/must.h"

enum {
    FILL_AT = CLUSTER_BLOCKS,
    FILL_END = CLUSTER_HOLES_AT,
    ONE_MS = 5000,    /* for one write to be answered, or its node is given up */
    SPACE_MS = 60000, /* for space to come back */
};

struct fill {
    struct cluster *cluster;
    struct cluster_node *node;
    uint32_t life;
    struct host_change change;
    struct block_digest digests[CLUSTER_WRITE_MAX];
    uint8_t data[CLUSTER_WRITE_MAX][BLOCK_SIZE], room[CLUSTER_WRITE_MAX][BLOCK_SIZE];
    bool over;
};

static void fill_done(struct host_change *change)
{
    CONTAINER(change, struct fill, change)->over = true;
}

static bool is_over(const struct fill *f)
{
    return f->over || f->node->life != f->life;
}

/* A change over a node that is up; an error when it was not answered. What is not answered in time stays with its node. */
static enum err fill_one(struct cluster *c, enum entry_kind what, uint64_t lba, uint32_t count)
{
    struct fill *f = must(calloc(1, sizeof *f));
    f->cluster = c;
    f->node = &c->node[cluster_below(c, c->nodes)];
    if (!f->node->ready) cluster_run_ms(c, 10);
    f->life = f->node->life;
    f->change = (struct host_change){.done = fill_done, .session = ++c->sessions, .what = what, .lba = lba, .count = count};
    for (uint32_t i = 0; f->node->ready && what == ENTRY_NEW && i < count; i++) {
        content_fill((uint32_t)(++c->filled << 3 | 4), f->data[i]);
        digest_block(store_key(f->node->store), f->data[i], f->room[i], &f->digests[i]);
    }
    f->change.digests = f->digests;
    enum err err = ERR_AGAIN;
    if (f->node->ready) host_change(f->node->host, &f->change);
    for (uint32_t ms = 0; f->node->ready && ms < ONE_MS && !is_over(f) && !lab_failed(c->lab); ms++) cluster_run_ms(c, 1);
    if (f->over) err = f->change.err;
    if (f->node->ready && !is_over(f)) {
        host_lost(f->node->host, f->change.session);
        for (uint32_t ms = 0; ms < 100 && !is_over(f); ms++) cluster_run_ms(c, 1);
    }
    free(f);
    return err;
}

bool fill_up(struct cluster *c)
{
    uint32_t refused = 0;
    for (uint32_t tries = 0; tries < 4000 && refused < 3 && !lab_failed(c->lab); tries++) {
        uint64_t lba = FILL_AT + cluster_below(c, FILL_END - FILL_AT - CLUSTER_WRITE_MAX);
        enum err err = fill_one(c, ENTRY_NEW, lba, 1 + (uint32_t)cluster_below(c, CLUSTER_WRITE_MAX));
        refused += err == ERR_NO_SPACE;
        if (err != OK && err != ERR_NO_SPACE && err != ERR_AGAIN)
            lab_fail(c->lab, "a write of a full volume: %s", err_name(err));
    }
    if (refused == 0 && !lab_failed(c->lab)) lab_fail(c->lab, "a volume on small pools does not run full");
    return !lab_failed(c->lab);
}

bool fill_clear(struct cluster *c)
{
    for (uint32_t tries = 0; tries < 100 && !lab_failed(c->lab); tries++) {
        enum err err = fill_one(c, ENTRY_UNMAP, FILL_AT, FILL_END - FILL_AT);
        if (err == OK) return true;
        if (err != ERR_AGAIN) lab_fail(c->lab, "an unmap of a full volume: %s", err_name(err));
        cluster_run_ms(c, 50);
    }
    lab_fail(c->lab, "a full volume takes no unmap");
    return false;
}

bool fill_goes_on(struct cluster *c)
{
    uint64_t until = io_now_ns(c->io) + SPACE_MS * IO_MS_NS;
    while (!lab_failed(c->lab) && io_now_ns(c->io) < until) {
        if (fill_one(c, ENTRY_NEW, FILL_AT, CLUSTER_WRITE_MAX) == OK) return true;
        cluster_run_ms(c, 20);
    }
    lab_fail(c->lab, "a volume stays full though much of it was unmapped");
    return false;
}
