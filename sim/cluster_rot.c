/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rot in clusters: while a node is off, blocks of its volume are damaged at rest, each of which another replica surely has.
 * Whoever reads them must get what was written, and in the end all of them are whole again on all disks.
 *
 * What is damaged is known by its bytes, as in sim/rot.c, and nobody writes the same again. The node has started once since it
 * was written, so it lies in a sealed segment: damage in the open one is damage of the log, which is another story. A block is
 * damaged on one node only, as long as it is not written again; so it can be had from somebody, but maybe not now: a client
 * may hear MEDIUM ERROR for it until all is mended.
 */
#include <string.h>

#include "base/bytes.h"
#include "sim/cluster.h"

enum { ROUNDS = 3, TRIES = 64, START_MS = 20000, WHOLE_MS = 20000, WINDOW = 64 << 10, HEAD = sizeof(struct disk_chunk) };

/* ---- bytes on disks ---- */

/* Flips the bit in every copy of `bytes`. Returns how many. */
static uint32_t flip_copies(struct disk *disk, const uint8_t *bytes, uint32_t at_byte, unsigned bit)
{
    static uint8_t window[WINDOW + BLOCK_SIZE + UNIT];
    uint64_t size = disk_size(disk);
    uint32_t copies = 0;
    for (uint64_t at = 0; at < size; at += WINDOW) {
        uint32_t have = (uint32_t)min64(sizeof window, size - at);
        disk_get(disk, at, window, have);
        for (uint32_t i = HEAD; i < WINDOW + HEAD && i + BLOCK_SIZE <= have; i += UNIT) {
            if (memcmp(window + i, bytes, BLOCK_SIZE) != 0) continue;
            disk_flip(disk, at + i + at_byte, bit);
            copies++;
        }
    }
    return copies;
}

static struct disk *disk_of(struct cluster *c, uint32_t node)
{
    return sim_disk(c->sim, c->node[node].image);
}

/* Damages what was found to be on two nodes, unless it was written again since. */
static void damage(struct cluster *c, uint32_t first)
{
    uint8_t block[BLOCK_SIZE];
    for (uint32_t i = first; i < c->rot.count; i++) {
        struct cluster_flip *f = &c->rot.flips[i];
        content_fill(judge_content(f->block, f->number), block);
        if (c->blocks[f->block].acked != f->number) continue;
        uint32_t copies = flip_copies(disk_of(c, f->node), block, f->at, f->bit);
        sim_say(c->sim, "rot: block %u, number %u, on node %u: %u copies", f->block, f->number, f->node, copies);
        f->there = copies > 0;
        if (!f->there) lab_fail(c->lab, "block %u, number %u is not on the disk of node %u", f->block, f->number, f->node);
    }
}

void rot_forget(struct cluster *c)
{
    uint8_t block[BLOCK_SIZE];
    for (uint32_t i = 0; i < c->rot.count; i++) {
        const struct cluster_flip *f = &c->rot.flips[i];
        if (!f->there || c->blocks[f->block].held == f->number) continue;
        content_fill(judge_content(f->block, f->number), block);
        block[f->at] ^= (uint8_t)(1u << f->bit);
        flip_copies(disk_of(c, f->node), block, f->at, f->bit);
    }
}

bool rot_is_mended(const struct cluster *c, uint64_t mended)
{
    uint64_t there = 0;
    for (uint32_t i = 0; i < c->rot.count; i++)
        there += c->rot.flips[i].there && c->blocks[c->rot.flips[i].block].held == c->rot.flips[i].number;
    return mended >= there;
}

/* ---- what may rot ---- */

static bool is_rotten(const struct cluster *c, uint32_t block, uint32_t number)
{
    for (uint32_t i = 0; i < c->rot.count; i++)
        if (c->rot.flips[i].block == block && c->rot.flips[i].number == number) return true;
    return false;
}

/* The node has published it. */
static bool holds(struct cluster *c, uint32_t node, uint32_t block, uint32_t number)
{
    static _Alignas(BLOCK_SIZE) uint8_t data[BLOCK_SIZE];
    return c->node[node].ready && cluster_load(c, node, block, 1, data) == OK && content_is(judge_content(block, number), data);
}

/* Some blocks that lie on both nodes as they are, to be damaged on one of them. */
static void choose(struct cluster *c, uint32_t node, uint32_t other)
{
    for (uint32_t i = 0; i < TRIES && c->rot.count < CLUSTER_FLIPS && !lab_failed(c->lab); i++) {
        uint32_t block = (uint32_t)cluster_below(c, CLUSTER_OWNED), number = c->blocks[block].acked;
        bool raw = number != 0 && judge_content(block, number) % 8 == 0;
        if (!raw || is_rotten(c, block, number)) continue;
        if (!holds(c, node, block, number) || !holds(c, other, block, number)) continue;
        c->rot.flips[c->rot.count++] = (struct cluster_flip){.node = node,
                                                             .block = block,
                                                             .number = number,
                                                             .at = (uint32_t)cluster_below(c, BLOCK_SIZE),
                                                             .bit = (unsigned)cluster_below(c, 8)};
    }
}

/* ---- histories ---- */

static bool is_ready(struct cluster *c)
{
    return c->node[c->rot.node].ready;
}

static void restart(struct cluster *c, uint32_t node)
{
    c->rot.node = node;
    cluster_start(c, node, IO_MS_NS);
    cluster_until(c, is_ready, START_MS, "a node does not start");
}

/* Blocks of `node` are damaged that `other` has, too. */
static void rots(struct cluster *c, uint32_t node, uint32_t other)
{
    uint32_t first = c->rot.count;
    choose(c, node, other);
    cluster_crash(c, node);
    restart(c, node);
    cluster_crash(c, node);
    damage(c, first);
    restart(c, node);
}

/* Only who is behind can be asked for a while: what it has of those blocks is not what was lost. */
static void rots_ahead(struct cluster *c, uint32_t node, uint32_t other, uint32_t third)
{
    cluster_crash(c, third);
    cluster_run_ms(c, 2 * c->timing.suspect_us / 1000 + 1000 + cluster_below(c, 3000));
    rots(c, node, other);
    cluster_crash(c, other);
    restart(c, third);
    cluster_run_ms(c, 4 * c->timing.suspect_us / 1000 + cluster_below(c, 2000));
    restart(c, other);
}

void rot_run(struct cluster *c)
{
    for (uint32_t round = 0; round < ROUNDS && !lab_failed(c->lab); round++) {
        uint32_t node = (uint32_t)cluster_below(c, c->nodes), other = (node + 1) % c->nodes, third = (node + 2) % c->nodes;
        for (uint32_t ms = 0; ms < WHOLE_MS && !cluster_is_whole(c); ms += 100) cluster_run_ms(c, 100);
        if (!cluster_is_whole(c)) return; /* where all is slow nobody comes back under load */
        cluster_run_ms(c, 1000);
        if (cluster_chance(c, 500))
            rots(c, node, other);
        else
            rots_ahead(c, node, other, third);
        cluster_run_ms(c, 500 + cluster_below(c, 2000));
    }
}

/* ---- what clients hear ---- */

bool rot_explains(const struct cluster *c, const struct cluster_command *m)
{
    for (uint32_t i = 0; i < c->rot.count && !c->rot.over; i++) {
        const struct cluster_flip *f = &c->rot.flips[i];
        if (f->there && f->node == m->node->number && f->block >= m->first && f->block - m->first < m->count) return true;
    }
    return false;
}
