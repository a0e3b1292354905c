/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a log address to a place on a device. The directory names the slot. In a slot as written the chunk lies at its
 * address minus the segment's; in a cleaned slot its address table says where: cached, or one more read. Pages that were
 * appended but not written yet are still in memory.
 */
#include "store/internal.h"

enum located locate(struct store *s, uint64_t address, struct waiter *w, uint32_t *ret_slot, uint32_t *ret_offset,
                    const uint8_t **ret_memory)
{
    *ret_memory = meta_memory(s, address);
    if (*ret_memory) return LOCATED;
    struct directory_run run;
    if (!directory_find(s->directory, address / UNIT, &run)) return LOCATE_LOST;
    const struct slot *sl = slot_at(s, run.slot);
    *ret_slot = run.slot;
    if (sl->kind == SLOT_HEAD || sl->kind == SLOT_META) {
        *ret_offset = (uint32_t)(address % s->segment_bytes);
        return LOCATED;
    }
    bool failed = false;
    struct summary *sum = summary_get(s, run.slot, false, w, &failed);
    if (failed) return LOCATE_LOST;
    if (!sum) return LOCATE_WAIT;
    uint32_t i = summary_position(sum, address);
    if (i == UINT32_MAX) return LOCATE_LOST;
    *ret_offset = sum->offsets[i] * UNIT;
    return LOCATED;
}

enum err slot_read(struct store *s, uint32_t slot, uint32_t offset, void *buf, uint32_t bytes)
{
    struct device *d;
    uint64_t at;
    slot_where(s, slot, &d, &at);
    slot_reader_add(s, slot);
    enum err err = io_task_read(s->io, d->file, at + offset, buf, bytes);
    slot_reader_done(s, slot);
    return err;
}

enum err slot_write(struct store *s, uint32_t slot, uint32_t offset, const void *buf, uint32_t bytes)
{
    struct device *d;
    uint64_t at;
    slot_where(s, slot, &d, &at);
    d->dirty = true;
    return io_task_write(s->io, d->file, at + offset, buf, bytes, 0);
}

enum err fetch_chunk(struct store *s, uint64_t locator, uint8_t *buf, const uint8_t **ret_chunk)
{
    uint64_t address = locator_address(locator);
    uint32_t bytes = locator_units(locator) * UNIT;
    struct task_waiter w;
    task_waiter_init(&w);
    for (;;) {
        uint32_t slot, offset;
        const uint8_t *memory;
        enum located got = locate(s, address, &w.waiter, &slot, &offset, &memory);
        if (got == LOCATE_LOST) return ERR_NO_PLACE;
        if (got == LOCATE_WAIT) {
            while (w.waiter.waiting) io_task_park();
            continue;
        }
        if (memory) {
            memcpy(buf, memory, bytes);
            *ret_chunk = buf;
            return OK;
        }
        uint32_t from = offset / SECTOR * SECTOR;
        uint32_t to = (uint32_t)round_up64(offset + bytes, SECTOR);
        if (to > s->segment_bytes) return ERR_NO_PLACE;
        TRY(slot_read(s, slot, from, buf, to - from));
        *ret_chunk = buf + (offset - from);
        return OK;
    }
}
