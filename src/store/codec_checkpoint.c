/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checkpoints: a header, then five arrays whose lengths the header says, padded to a sector. Decoding writes the arrays
 * into room that the caller sized from the encoded length alone: each array in memory takes no more than on the device.
 */
#include "store/codec.h"

#include "base/hash.h"

#define COVERED (offsetof(struct disk_checkpoint, checksum) + sizeof(le64)) /* the checksum covers what follows */

static_assert(sizeof(struct volume_root) <= sizeof(struct disk_volume), "decode room: volumes");
static_assert(sizeof(struct chain) <= sizeof(struct disk_chain), "decode room: chains");
static_assert(sizeof(uint64_t) == sizeof(le64) && sizeof(uint32_t) == sizeof(le32), "decode room: numbers");

static uint64_t bits_bytes(uint32_t directory_pages)
{
    return ((uint64_t)directory_pages * 2 + 7) / 8;
}

uint64_t checkpoint_room(uint32_t chains, uint32_t head_slots, uint32_t prepared, uint32_t volumes, uint32_t directory_pages)
{
    uint64_t bytes = sizeof(struct disk_checkpoint) + (uint64_t)chains * sizeof(struct disk_chain) +
                     (uint64_t)head_slots * sizeof(le32) + (uint64_t)prepared * sizeof(le64) +
                     (uint64_t)volumes * sizeof(struct disk_volume) + bits_bytes(directory_pages);
    return round_up64(bytes, SECTOR);
}

/* ---- encode ---- */

static struct disk_volume volume_encode(const struct volume_root *volume)
{
    return (struct disk_volume){
        .id = put32(volume->id),
        .snapshot = put32(volume->snapshot),
        .epoch = put32(volume->epoch),
        .flags = put32(volume->flags),
        .blocks = put64(volume->blocks),
        .committed = put64(volume->committed),
        .root = pointer_encode(&volume->root),
        .state = pointer_encode(&volume->state),
        .created = put64(volume->created),
        .stamped = put64(volume->stamped),
    };
}

static struct disk_checkpoint header_encode(const struct checkpoint *checkpoint, uint32_t bytes)
{
    struct disk_checkpoint disk = {
        .version = put32(FORMAT_VERSION),
        .bytes = put32(bytes),
        .number = put64(checkpoint->number),
        .incarnation = put32(checkpoint->incarnation),
        .flags = put32(checkpoint->flags),
        .next_segment = put64(checkpoint->next_segment),
        .next_serial = put64(checkpoint->next_serial),
        .replay_address = put64(checkpoint->replay_address),
        .replay_number = put64(checkpoint->replay_number),
        .replay_previous = put64(checkpoint->replay_previous),
        .written_number = put64(checkpoint->written_number),
        .last_volume = put32(checkpoint->last_volume),
        .chains = put32(checkpoint->chain_count),
        .head_slots = put32(checkpoint->head_slot_count),
        .prepared = put32(checkpoint->prepared_count),
        .volumes = put32(checkpoint->volume_count),
        .directory_pages = put32(checkpoint->directory_pages),
        .user_bytes = put64(checkpoint->user_bytes),
        .directory_digest = put64(checkpoint->directory_digest),
    };
    memcpy(disk.magic, CHECKPOINT_MAGIC, sizeof disk.magic);
    memcpy(disk.pool_id, checkpoint->pool_id, sizeof disk.pool_id);
    return disk;
}

static uint8_t *append(uint8_t *to, const void *from, size_t size)
{
    if (size > 0) memcpy(to, from, size);
    return to + size;
}

uint32_t checkpoint_encode(const struct checkpoint *checkpoint, uint64_t salt, uint8_t *ret_at)
{
    uint64_t room = checkpoint_room(checkpoint->chain_count, checkpoint->head_slot_count, checkpoint->prepared_count,
                                    checkpoint->volume_count, checkpoint->directory_pages);
    assert(room <= UINT32_MAX && checkpoint->chain_count <= CHAIN_MAX && checkpoint->head_slot_count <= HEAD_SLOTS_MAX);
    struct disk_checkpoint header = header_encode(checkpoint, (uint32_t)room);
    uint8_t *to = append(ret_at, &header, sizeof header);
    for (uint32_t i = 0; i < checkpoint->chain_count; i++) {
        const struct chain *chain = &checkpoint->chains[i];
        struct disk_chain disk = {.incarnation = put32(chain->incarnation),
                                  .end_number = put64(chain->end_number),
                                  .end_checksum = put64(chain->end_checksum),
                                  .next_segment = put64(chain->next_segment)};
        to = append(to, &disk, sizeof disk);
    }
    for (uint32_t i = 0; i < checkpoint->head_slot_count; i++) {
        le32 slot = put32(checkpoint->head_slots[i]);
        to = append(to, &slot, sizeof slot);
    }
    for (uint32_t i = 0; i < checkpoint->prepared_count; i++) {
        le64 address = put64(checkpoint->prepared[i]);
        to = append(to, &address, sizeof address);
    }
    for (uint32_t i = 0; i < checkpoint->volume_count; i++) {
        struct disk_volume volume = volume_encode(&checkpoint->volumes[i]);
        to = append(to, &volume, sizeof volume);
    }
    to = append(to, checkpoint->directory_bits, (size_t)bits_bytes(checkpoint->directory_pages));
    memset(to, 0, (size_t)(ret_at + room - to));

    header.checksum = put64(hash64(ret_at + COVERED, (size_t)room - COVERED, salt));
    memcpy(ret_at, &header, sizeof header);
    return (uint32_t)room;
}

/* ---- decode ---- */

enum err checkpoint_length(const void *at, size_t size, uint64_t limit, uint32_t *ret_bytes)
{
    struct disk_checkpoint disk;
    if (size < sizeof disk) return ERR_TRUNCATED;
    memcpy(&disk, at, sizeof disk);
    if (memcmp(disk.magic, CHECKPOINT_MAGIC, sizeof disk.magic) != 0) return ERR_NOT_OURS;
    uint32_t bytes = get32(disk.bytes);
    if (get32(disk.version) == 0 || bytes == 0 || bytes % SECTOR != 0 || bytes > limit) return ERR_DECODE;
    *ret_bytes = bytes;
    return OK;
}

size_t checkpoint_decode_room(size_t size)
{
    return size;
}

static bool pointer_possible(const struct pointer *pointer)
{
    return pointer->locator == 0 || locator_units(pointer->locator) > 0;
}

static bool volume_decode(const struct disk_volume *disk, uint32_t last_volume, struct volume_root *ret_volume)
{
    struct volume_root volume = {
        .id = get32(disk->id),
        .snapshot = get32(disk->snapshot),
        .epoch = get32(disk->epoch),
        .flags = get32(disk->flags),
        .blocks = get64(disk->blocks),
        .committed = get64(disk->committed),
        .created = get64(disk->created),
        .stamped = get64(disk->stamped),
        .root = pointer_decode(&disk->root),
        .state = pointer_decode(&disk->state),
    };
    if (volume.id > last_volume || volume.blocks > VOLUME_BLOCKS_MAX) return false;
    if (!pointer_possible(&volume.root) || !pointer_possible(&volume.state)) return false;
    *ret_volume = volume;
    return true;
}

static struct checkpoint header_decode(const struct disk_checkpoint *disk)
{
    struct checkpoint checkpoint = {
        .number = get64(disk->number),
        .incarnation = get32(disk->incarnation),
        .flags = get32(disk->flags),
        .next_segment = get64(disk->next_segment),
        .next_serial = get64(disk->next_serial),
        .replay_address = get64(disk->replay_address),
        .replay_number = get64(disk->replay_number),
        .replay_previous = get64(disk->replay_previous),
        .written_number = get64(disk->written_number),
        .last_volume = get32(disk->last_volume),
        .user_bytes = get64(disk->user_bytes),
        .directory_digest = get64(disk->directory_digest),
        .chain_count = get32(disk->chains),
        .head_slot_count = get32(disk->head_slots),
        .prepared_count = get32(disk->prepared),
        .volume_count = get32(disk->volumes),
        .directory_pages = get32(disk->directory_pages),
    };
    memcpy(checkpoint.pool_id, disk->pool_id, sizeof checkpoint.pool_id);
    return checkpoint;
}

/* What the header alone must satisfy; afterwards the arrays fit `bytes` exactly. */
static bool header_possible(const struct checkpoint *checkpoint, uint32_t bytes)
{
    if (checkpoint->chain_count > CHAIN_MAX || checkpoint->head_slot_count > HEAD_SLOTS_MAX) return false;
    if (checkpoint->volume_count > VOLUMES_MAX) return false;
    if (checkpoint->replay_address % SECTOR != 0 || checkpoint->replay_address >= ADDRESS_MAX) return false;
    return checkpoint_room(checkpoint->chain_count, checkpoint->head_slot_count, checkpoint->prepared_count,
                           checkpoint->volume_count, checkpoint->directory_pages) == bytes;
}

/* Lays the arrays out in `room`, those of wider alignment first, so that no padding is needed. */
static void lay_out(struct checkpoint *checkpoint, void *room)
{
    uint8_t *at = room;
    assert((uintptr_t)at % 8 == 0);
    checkpoint->volumes = (struct volume_root *)(void *)at;
    at += checkpoint->volume_count * sizeof *checkpoint->volumes;
    checkpoint->chains = (struct chain *)(void *)at;
    at += checkpoint->chain_count * sizeof *checkpoint->chains;
    checkpoint->prepared = (uint64_t *)(void *)at;
    at += checkpoint->prepared_count * sizeof *checkpoint->prepared;
    checkpoint->head_slots = (uint32_t *)(void *)at;
    at += checkpoint->head_slot_count * sizeof *checkpoint->head_slots;
    checkpoint->directory_bits = at;
}

static bool arrays_decode(struct cursor *c, const struct checkpoint *checkpoint)
{
    for (uint32_t i = 0; i < checkpoint->chain_count; i++) {
        struct disk_chain disk;
        memcpy(&disk, cursor_take(c, sizeof disk), sizeof disk);
        checkpoint->chains[i] = (struct chain){.incarnation = get32(disk.incarnation),
                                               .end_number = get64(disk.end_number),
                                               .end_checksum = get64(disk.end_checksum),
                                               .next_segment = get64(disk.next_segment)};
    }
    for (uint32_t i = 0; i < checkpoint->head_slot_count; i++) {
        le32 slot;
        memcpy(&slot, cursor_take(c, sizeof slot), sizeof slot);
        checkpoint->head_slots[i] = get32(slot);
    }
    for (uint32_t i = 0; i < checkpoint->prepared_count; i++) {
        le64 address;
        memcpy(&address, cursor_take(c, sizeof address), sizeof address);
        checkpoint->prepared[i] = get64(address);
        if (checkpoint->prepared[i] % UNIT != 0 || checkpoint->prepared[i] >= ADDRESS_MAX) return false;
    }
    for (uint32_t i = 0; i < checkpoint->volume_count; i++) {
        struct disk_volume disk;
        memcpy(&disk, cursor_take(c, sizeof disk), sizeof disk);
        if (!volume_decode(&disk, checkpoint->last_volume, &checkpoint->volumes[i])) return false;
    }
    size_t bits = (size_t)bits_bytes(checkpoint->directory_pages);
    if (bits > 0) memcpy(checkpoint->directory_bits, cursor_take(c, bits), bits);
    return true;
}

enum err checkpoint_decode(const void *at, size_t size, uint64_t salt, void *room, struct checkpoint *ret_checkpoint)
{
    uint32_t bytes;
    TRY(checkpoint_length(at, size, UINT32_MAX, &bytes));
    if (bytes > size) return ERR_TRUNCATED;
    struct disk_checkpoint disk;
    memcpy(&disk, at, sizeof disk);
    if (hash64((const uint8_t *)at + COVERED, bytes - COVERED, salt) != get64(disk.checksum)) return ERR_CHECKSUM;
    if (get32(disk.version) > FORMAT_VERSION) return ERR_NEW_FORMAT; /* not before: a flipped bit is no new format */

    struct checkpoint checkpoint = header_decode(&disk);
    if (!header_possible(&checkpoint, bytes)) return ERR_DECODE;
    lay_out(&checkpoint, room);
    struct cursor c = cursor_of((const uint8_t *)at + sizeof disk, bytes - sizeof disk);
    if (!arrays_decode(&c, &checkpoint)) return ERR_DECODE;
    assert(!c.bad);
    *ret_checkpoint = checkpoint;
    return OK;
}
