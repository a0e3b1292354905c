/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The superblock. It is the only structure whose checksum has no salt, because it is where the salt is found; so this
 * decoder trusts nothing in it, and everything after it may rely on the numbers that passed here.
 */
#include "store/codec.h"

#include "base/hash.h"

#define SUPER_COVERED (offsetof(struct disk_super, checksum) + sizeof(le64)) /* the checksum covers what follows */
#define DEVICE_BYTES_MAX ((uint64_t)1 << 60)

void super_encode(const struct super *super, struct disk_super *ret_disk)
{
    assert(super->device_count >= 1 && super->device_count <= POOL_DEVICES_MAX && super->device_index < super->device_count);
    memset(ret_disk, 0, sizeof *ret_disk);
    memcpy(ret_disk->magic, SUPER_MAGIC, sizeof ret_disk->magic);
    ret_disk->version = put32(FORMAT_VERSION);
    ret_disk->device_index = put32(super->device_index);
    memcpy(ret_disk->pool_id, super->pool_id, sizeof ret_disk->pool_id);
    ret_disk->generation = put64(super->generation);
    ret_disk->created_s = put64(super->created_s);
    ret_disk->segment_shift = super->segment_shift;
    ret_disk->fingerprint_kind = FINGERPRINT_SHA256_KEYED_160;
    ret_disk->device_count = super->device_count;
    ret_disk->salt = put64(super->salt);
    memcpy(ret_disk->secret, super->secret, sizeof ret_disk->secret);
    ret_disk->secret_from = put64(super->secret_from);
    ret_disk->checkpoint_bytes = put64(super->checkpoint_bytes);
    ret_disk->directory_at = put64(super->directory_at);
    ret_disk->data_at = put64(super->data_at);
    for (size_t i = 0; i < sizeof ret_disk->name && super->name[i] != '\0'; i++) ret_disk->name[i] = super->name[i];
    for (uint32_t i = 0; i < super->device_count; i++) {
        const struct super_device *device = &super->devices[i];
        memcpy(ret_disk->devices[i].id, device->id, sizeof device->id);
        ret_disk->devices[i].slots = put32(device->slots);
        ret_disk->devices[i].class = device->class;
    }
    ret_disk->checksum = put64(hash64((const uint8_t *)ret_disk + SUPER_COVERED, sizeof *ret_disk - SUPER_COVERED, 0));
}

/* The areas of a device follow each other, aligned, and end below any offset that arithmetic could overflow. */
static bool layout_possible(const struct super *super)
{
    uint64_t segment = (uint64_t)1 << super->segment_shift;
    uint64_t slots = super->devices[super->device_index].slots;
    if (super->checkpoint_bytes == 0 || super->checkpoint_bytes % SECTOR != 0) return false;
    if (super->directory_at % SECTOR != 0 || super->data_at % segment != 0) return false;
    if (super->checkpoint_bytes > DEVICE_BYTES_MAX / 8 || super->data_at > DEVICE_BYTES_MAX) return false;
    uint64_t areas = 4; /* every device reserves all, whichever copies it holds */
    if (super->directory_at < CHECKPOINT_AT + areas * super->checkpoint_bytes) return false;
    uint64_t pages = (slots + DIRECTORY_SLOTS - 1) / DIRECTORY_SLOTS;
    return super->directory_at <= super->data_at && super->data_at - super->directory_at >= pages * 4 * DIRECTORY_BYTES;
}

static bool devices_possible(const struct super *super)
{
    uint64_t slots = 0;
    for (uint32_t i = 0; i < super->device_count; i++) {
        const struct super_device *device = &super->devices[i];
        if (device->slots == 0 || (device->class != DEVICE_FLASH && device->class != DEVICE_HDD)) return false;
        slots += device->slots;
    }
    return slots < UINT32_MAX; /* a slot has a number in the pool, and one number means none */
}

enum err super_decode(const void *at, size_t size, struct super *ret_super)
{
    struct disk_super disk;
    if (size < sizeof disk) return ERR_TRUNCATED;
    memcpy(&disk, at, sizeof disk);
    if (memcmp(disk.magic, SUPER_MAGIC, sizeof disk.magic) != 0) return ERR_NOT_OURS;
    if (hash64((const uint8_t *)&disk + SUPER_COVERED, sizeof disk - SUPER_COVERED, 0) != get64(disk.checksum))
        return ERR_CHECKSUM;
    if (get32(disk.version) > FORMAT_VERSION) return ERR_NEW_FORMAT;

    struct super super = {
        .device_index = get32(disk.device_index),
        .generation = get64(disk.generation),
        .created_s = get64(disk.created_s),
        .segment_shift = disk.segment_shift,
        .device_count = disk.device_count,
        .salt = get64(disk.salt),
        .secret_from = get64(disk.secret_from),
        .checkpoint_bytes = get64(disk.checkpoint_bytes),
        .directory_at = get64(disk.directory_at),
        .data_at = get64(disk.data_at),
    };
    if (get32(disk.version) == 0 || disk.fingerprint_kind != FINGERPRINT_SHA256_KEYED_160) return ERR_DECODE;
    if (super.segment_shift < SEGMENT_SHIFT_MIN || super.segment_shift > SEGMENT_SHIFT_MAX) return ERR_DECODE;
    if (super.device_count == 0 || super.device_count > POOL_DEVICES_MAX) return ERR_DECODE;
    if (super.device_index >= super.device_count) return ERR_DECODE;
    memcpy(super.pool_id, disk.pool_id, sizeof super.pool_id);
    memcpy(super.secret, disk.secret, sizeof super.secret);
    memcpy(super.name, disk.name, sizeof disk.name);
    for (uint32_t i = 0; i < super.device_count; i++) {
        memcpy(super.devices[i].id, disk.devices[i].id, sizeof super.devices[i].id);
        super.devices[i].slots = get32(disk.devices[i].slots);
        super.devices[i].class = disk.devices[i].class;
    }
    if (!devices_possible(&super) || !layout_possible(&super)) return ERR_DECODE;
    *ret_super = super;
    return OK;
}
