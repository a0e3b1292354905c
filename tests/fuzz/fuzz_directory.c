/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: no directory page harms its decoder. Method: any bytes, and the same with a right checksum, as the page they claim
 * to be; an accepted page is encoded and decoded again and must be the same.
 */
#include "fuzz/fuzz.h"
#include "store/codec.h"

static struct slot_entry slots[DIRECTORY_SLOTS], slots_back[DIRECTORY_SLOTS];

static void decode(const uint8_t *data, size_t size)
{
    static uint8_t first[DIRECTORY_BYTES], second[DIRECTORY_BYTES];
    uint64_t checkpoint;
    uint32_t count, page = fuzz_get32(data, size, offsetof(struct disk_directory, page));
    if (directory_decode(data, size, page, FUZZ_SALT, &checkpoint, &count, slots) != OK) return;
    REQUIRE(count <= DIRECTORY_SLOTS);
    for (uint32_t i = 0; i < count; i++) REQUIRE(slots[i].runs <= RUNS_MAX && slots[i].kind <= SLOT_CLEANED_META);
    uint32_t bytes = directory_encode(page, checkpoint, count, slots, FUZZ_SALT, first);
    REQUIRE(bytes % SECTOR == 0 && bytes <= DIRECTORY_BYTES);
    REQUIRE(directory_decode(first, bytes, page, FUZZ_SALT, &checkpoint, &count, slots_back) == OK);
    REQUIRE(directory_encode(page, checkpoint, count, slots_back, FUZZ_SALT, second) == bytes);
    REQUIRE(memcmp(first, second, bytes) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    decode(data, size);
    uint8_t *copy = fuzz_copy(data, size);
    size_t bytes = fuzz_get32(copy, size, offsetof(struct disk_directory, bytes));
    fuzz_fix(copy, size, offsetof(struct disk_directory, checksum), bytes, FUZZ_SALT);
    decode(copy, size);
    free(copy);
    return 0;
}
