/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: no batch harms its decoder or the walk over its records. Method: any bytes, padded to a sector, and the same with
 * a right checksum; an accepted batch is walked record by record as recovery walks it.
 */
#include "fuzz/fuzz.h"
#include "store/codec.h"

#define ADDRESS ((uint64_t)0x1401000)

static void walk(const uint8_t *data, const struct batch *batch)
{
    size_t at = sizeof(struct disk_batch);
    for (uint32_t i = 0; i < batch->records && at < batch->used; i++) {
        struct record record;
        struct entry entries[RECORD_BLOCKS_MAX];
        if (record_decode(data + at, batch->used - at, ADDRESS + at, &record, entries) != OK) return;
        at += record_head_bytes(&record) + (size_t)record.payload;
    }
}

static void decode(const uint8_t *data, size_t size)
{
    struct batch batch;
    struct disk_batch disk;
    if (batch_decode(data, size, ADDRESS, FUZZ_SALT, &batch) != OK) return;
    REQUIRE(batch.length <= size && batch.used <= batch.length && batch.length % SECTOR == 0 && batch.address == ADDRESS);
    REQUIRE(batch_checksum(data, batch.used, FUZZ_SALT) == batch.checksum);
    batch_encode(&batch, &disk);
    REQUIRE(memcmp(disk.number.b, data + 16, 44) == 0); /* up to `reserved`, which is not kept */
    walk(data, &batch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t padded[FUZZ_INPUT_MAX];
    if (size > sizeof padded) return 0;
    decode(data, size);
    memcpy(padded, data, size);
    memset(padded + size, 0, sizeof padded - size);
    size = (size_t)round_up64(size, SECTOR);
    uint8_t *copy = fuzz_copy(padded, size);
    size_t used = fuzz_get32(copy, size, offsetof(struct disk_batch, used));
    fuzz_fix(copy, size, offsetof(struct disk_batch, checksum), used, FUZZ_SALT);
    decode(copy, size);
    free(copy);
    return 0;
}
