/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Directory pages: what 64 slots hold. A slot with its runs has no fixed length, so a page is written and read front to
 * back; with all runs of all slots it still fits its place on the device.
 */
#include "store/codec.h"

#include "base/hash.h"

#define COVERED (offsetof(struct disk_directory, checksum) + sizeof(le64)) /* the checksum covers what follows */
#define UNITS_END (ADDRESS_MAX / UNIT)

static_assert(sizeof(struct disk_directory) +
                      DIRECTORY_SLOTS * (sizeof(struct disk_slot) + RUNS_MAX * sizeof(struct disk_run)) <=
                  DIRECTORY_BYTES,
              "a full page fits its place");

static uint8_t *slot_encode(const struct slot_entry *slot, uint8_t *to)
{
    assert(slot->runs <= RUNS_MAX);
    struct disk_slot disk = {.kind = slot->kind,
                             .age = slot->age,
                             .runs = slot->runs,
                             .flags = slot->flags,
                             .live = put32(slot->live),
                             .chunks = put32(slot->chunks)};
    memcpy(to, &disk, sizeof disk);
    to += sizeof disk;
    for (uint32_t i = 0; i < slot->runs; i++) {
        struct disk_run run = {.start = put64(slot->run[i].start), .units = put32(slot->run[i].units)};
        memcpy(to, &run, sizeof run);
        to += sizeof run;
    }
    return to;
}

uint32_t directory_encode(uint32_t page, uint64_t checkpoint, uint32_t slots, const struct slot_entry *entries, uint64_t salt,
                          uint8_t *ret_at)
{
    assert(slots <= DIRECTORY_SLOTS);
    struct disk_directory header = {
        .magic = put32(DIRECTORY_MAGIC), .checkpoint = put64(checkpoint), .page = put32(page), .slots = put32(slots)};
    uint8_t *to = ret_at + sizeof header;
    for (uint32_t i = 0; i < slots; i++) to = slot_encode(&entries[i], to);
    uint32_t bytes = (uint32_t)round_up64((uint64_t)(to - ret_at), SECTOR);
    memset(to, 0, (size_t)(ret_at + bytes - to));
    header.bytes = put32(bytes);
    memcpy(ret_at, &header, sizeof header);
    header.checksum = put64(hash64(ret_at + COVERED, bytes - COVERED, salt));
    memcpy(ret_at, &header, sizeof header);
    return bytes;
}

static bool slot_decode(struct cursor *c, struct slot_entry *ret_slot)
{
    struct disk_slot disk;
    const void *at = cursor_take(c, sizeof disk);
    if (at == NULL) return false;
    memcpy(&disk, at, sizeof disk);
    if (disk.kind > SLOT_CLEANED_META || disk.runs > RUNS_MAX) return false;
    *ret_slot = (struct slot_entry){.kind = disk.kind,
                                    .age = disk.age,
                                    .runs = disk.runs,
                                    .flags = disk.flags,
                                    .live = get32(disk.live),
                                    .chunks = get32(disk.chunks)};
    for (uint32_t i = 0; i < disk.runs; i++) {
        struct disk_run run;
        if ((at = cursor_take(c, sizeof run)) == NULL) return false;
        memcpy(&run, at, sizeof run);
        ret_slot->run[i] = (struct run){.start = get64(run.start), .units = get32(run.units)};
        if (get32(run.units) == 0 || get64(run.start) >= UNITS_END || get32(run.units) > UNITS_END - get64(run.start))
            return false;
    }
    return true;
}

enum err directory_decode(const void *at, size_t size, uint32_t page, uint64_t salt, uint64_t *ret_checkpoint,
                          uint32_t *ret_slots, struct slot_entry *ret_entries)
{
    struct disk_directory header;
    if (size < sizeof header) return ERR_TRUNCATED;
    memcpy(&header, at, sizeof header);
    if (get32(header.magic) != DIRECTORY_MAGIC) return ERR_NOT_OURS;
    uint32_t bytes = get32(header.bytes), slots = get32(header.slots);
    if (bytes < sizeof header || bytes > DIRECTORY_BYTES) return ERR_DECODE;
    if (bytes > size) return ERR_TRUNCATED;
    if (hash64((const uint8_t *)at + COVERED, bytes - COVERED, salt) != get64(header.checksum)) return ERR_CHECKSUM;
    if (get32(header.page) != page || slots > DIRECTORY_SLOTS) return ERR_DECODE;

    struct slot_entry entries[DIRECTORY_SLOTS];
    struct cursor c = cursor_of((const uint8_t *)at + sizeof header, bytes - sizeof header);
    for (uint32_t i = 0; i < slots; i++)
        if (!slot_decode(&c, &entries[i])) return ERR_DECODE;
    if (slots > 0) memcpy(ret_entries, entries, slots * sizeof entries[0]);
    *ret_checkpoint = get64(header.checkpoint);
    *ret_slots = slots;
    return OK;
}
