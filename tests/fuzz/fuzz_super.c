/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: no superblock, however hostile, harms its decoder, and one that is accepted has a possible layout. Method: any
 * bytes, and the same with a right magic and checksum; what is accepted is encoded and decoded again.
 */
#include "fuzz/fuzz.h"
#include "store/codec.h"

static void decode(const uint8_t *data, size_t size)
{
    struct super super, again;
    struct disk_super disk, second;
    if (super_decode(data, size, &super) != OK) return;
    REQUIRE(super.device_count >= 1 && super.device_count <= POOL_DEVICES_MAX && super.device_index < super.device_count);
    REQUIRE(super.segment_shift >= SEGMENT_SHIFT_MIN && super.segment_shift <= SEGMENT_SHIFT_MAX);
    REQUIRE(super.directory_at >= CHECKPOINT_AT && super.directory_at <= super.data_at);
    REQUIRE(super.data_at % ((uint64_t)1 << super.segment_shift) == 0);
    super_encode(&super, &disk);
    REQUIRE(super_decode(&disk, sizeof disk, &again) == OK);
    super_encode(&again, &second);
    REQUIRE(memcmp(&disk, &second, sizeof disk) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    decode(data, size);
    uint8_t *copy = fuzz_copy(data, size);
    if (size >= sizeof(struct disk_super)) memcpy(copy, SUPER_MAGIC, 8);
    fuzz_fix(copy, size, offsetof(struct disk_super, checksum), sizeof(struct disk_super), 0);
    decode(copy, size);
    free(copy);
    return 0;
}
