/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rot under serving histories (--faults flip): while the pool is closed, one chunk is damaged wherever it lies on the disks, so
 * that it is known exactly which blocks are lost: those that hold it. An initiator must hear MEDIUM ERROR for them, of the
 * first one in its range, as long as nobody writes them anew, and the truth about all others.
 *
 * The chunk is found by its bytes: it is one that does not compress, of a unit whose block is the volume's. Its value is not
 * written again: until the damage is met, a duplicate would be lost as well (one node has nothing to mend it from).
 */
#include <string.h>

#include "sim/serve.h"

enum { INCOMPRESSIBLE = 0, TRIES = 50, WINDOW = 64 << 10, HEAD = sizeof(struct disk_chunk) };

static bool is_raw(uint32_t value)
{
    return value != 0 && (value & 7) == INCOMPRESSIBLE;
}

/* Flips a bit in each copy on a disk. Returns how many. */
static uint32_t flip_all(struct serve *serve, struct disk *disk, const uint8_t *block)
{
    static uint8_t window[WINDOW + BLOCK_SIZE + UNIT];
    uint64_t size = disk_size(disk);
    uint32_t count = 0;
    for (uint64_t at = 0; at < size; at += WINDOW) {
        uint32_t have = (uint32_t)min64(sizeof window, size - at);
        disk_get(disk, at, window, have);
        for (uint32_t i = HEAD; i < WINDOW + HEAD && i + BLOCK_SIZE <= have; i += UNIT) {
            if (memcmp(window + i, block, BLOCK_SIZE) != 0) continue;
            disk_flip(disk, at + i + serve_below(serve, BLOCK_SIZE), (unsigned)serve_below(serve, 8));
            count++;
        }
    }
    return count;
}

/* The registers that hold the value, and those that may. */
static void mark(struct serve *serve, uint32_t value)
{
    for (uint32_t u = 0; u < serve->mix.units; u++) {
        struct serve_unit *unit = &serve->units[u];
        for (uint32_t i = 0; unit->block_bytes == BLOCK_SIZE && i < unit->blocks; i++) {
            if (!register_may_be(unit->registers, i, value)) continue;
            unit->lost[i] = register_is_sure(unit->registers, i) ? LOST : MAYBE_LOST;
            sim_say(serve->sim, "unit %u block %u is lost%s", u, i, unit->lost[i] == LOST ? "" : ", maybe");
        }
    }
}

static void rot_one(struct serve *serve)
{
    uint8_t block[BLOCK_SIZE];
    const struct serve_unit *unit = &serve->units[serve_below(serve, serve->mix.units)];
    uint32_t i = (uint32_t)serve_below(serve, unit->blocks), value = register_value(unit->registers, i), copies = 0;
    if (unit->block_bytes != BLOCK_SIZE || unit->lost[i] != NOT_LOST) return;
    if (!register_is_sure(unit->registers, i) || !is_raw(value)) return;
    content_fill(value, block);
    for (uint32_t d = 0; d < serve->lab->config.device_count; d++)
        copies += flip_all(serve, sim_disk(serve->sim, serve->lab->names[d]), block);
    sim_say(serve->sim, "rot: value %x of unit %u block %u, %u copies", value, (uint32_t)(unit - serve->units), i, copies);
    if (copies == 0) {
        lab_fail(serve->lab, "value %x is on no disk", value);
        return;
    }
    mark(serve, value);
    serve->rotten += copies;
    memset(serve->recent, 0, sizeof serve->recent);
}

void rot_some(struct serve *serve)
{
    uint32_t before = serve->rotten;
    for (int i = 0; i < TRIES && serve->rotten == before && !lab_failed(serve->lab); i++) rot_one(serve);
}

bool rot_is_left(const struct serve *serve)
{
    for (uint32_t u = 0; u < serve->mix.units; u++)
        for (uint32_t i = 0; i < serve->units[u].blocks; i++)
            if (serve->units[u].lost[i] == LOST) return true;
    return false;
}

/* ---- what commands meet ---- */

void rot_begin(struct command *c)
{
    struct serve_unit *unit = &c->by->serve->units[c->unit];
    for (uint32_t i = 0; i < c->blocks; i++) {
        uint8_t *lost = &unit->lost[c->lba + i];
        c->lost[i] = *lost;
        if (c->verb != SERVE_READ && *lost == LOST) *lost = MAYBE_LOST;
    }
}

void rot_written(struct command *c)
{
    struct serve_unit *unit = &c->by->serve->units[c->unit];
    for (uint32_t i = 0; i < c->blocks; i++)
        if (!c->loose[i]) unit->lost[c->lba + i] = NOT_LOST;
}

bool rot_explains_good(const struct command *c)
{
    const struct serve_unit *unit = &c->by->serve->units[c->unit];
    for (uint32_t i = 0; i < c->blocks; i++)
        if (c->lost[i] == LOST && unit->lost[c->lba + i] == LOST) return false;
    return true;
}

bool rot_explains_error(const struct command *c, uint32_t lba)
{
    const struct serve_unit *unit = &c->by->serve->units[c->unit];
    if (lba < c->lba || lba - c->lba >= c->blocks) return false;
    for (uint32_t i = 0; i < lba - c->lba; i++)
        if (c->lost[i] == LOST && unit->lost[c->lba + i] == LOST) return false; /* not the first */
    return c->lost[lba - c->lba] != NOT_LOST || unit->lost[lba] != NOT_LOST;
}
