/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: no record harms its decoder, and one that is accepted says nothing impossible. Method: any bytes, and the same with
 * a right checksum; an accepted record is sealed again and must be the same to the decoder.
 */
#include "fuzz/fuzz.h"
#include "store/codec.h"
#include "store/digest.h"

#define ADDRESS ((uint64_t)0x1401040)

static void entries(const struct record *record, uint8_t *at)
{
    uint64_t blocks = 0, units = 0;
    for (uint32_t i = 0; i < record->entries; i++) {
        struct entry entry = record_entry(at, i);
        struct disk_entry disk = entry_encode(&entry);
        memcpy(at + sizeof(struct disk_record) + i * sizeof disk, &disk, sizeof disk);
        blocks += entry.count;
        units += entry.units;
    }
    if (record->kind != RECORD_DATA) return;
    REQUIRE(blocks == record->count && units * UNIT == record->payload);
    REQUIRE(record->lba + blocks <= VOLUME_BLOCKS_MAX);
}

static void decode(const uint8_t *data, size_t size)
{
    struct record record, back;
    if (record_decode(data, size, ADDRESS, &record) != OK) return;
    uint32_t bytes = (uint32_t)sizeof(struct disk_record) + record.entries * (uint32_t)sizeof(struct disk_entry) +
                     record.key_bytes + record.value_bytes;
    REQUIRE(bytes <= size && record_head_bytes(&record) >= bytes && record_head_bytes(&record) < bytes + UNIT);
    uint8_t *copy = fuzz_copy(data, bytes);
    entries(&record, copy);
    record_seal(&record, ADDRESS, copy);
    REQUIRE(record_decode(copy, bytes, ADDRESS, &back) == OK);
    REQUIRE(back.sequence == record.sequence && back.commit == record.commit && back.payload == record.payload);
    REQUIRE(back.count == record.count && back.key_bytes == record.key_bytes && back.value_bytes == record.value_bytes);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    decode(data, size);
    if (size < sizeof(struct disk_record)) return 0;
    uint8_t *copy = fuzz_copy(data, size);
    uint32_t bytes =
        (uint32_t)sizeof(struct disk_record) + (uint32_t)(copy[6] | copy[7] << 8) * (uint32_t)sizeof(struct disk_entry);
    uint32_t count = fuzz_get32(copy, size, offsetof(struct disk_record, count));
    if (copy[4] == RECORD_STATE) bytes += (count & 0xffff) + (count >> 16);
    if (bytes <= size) {
        le32 crc = put32(crc32c(0, copy + 4, bytes - 4) ^ address_mix(ADDRESS));
        memcpy(copy, crc.b, sizeof crc.b);
    }
    decode(copy, size);
    free(copy);
    return 0;
}
