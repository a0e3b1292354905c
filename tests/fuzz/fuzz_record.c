/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: no record harms its decoder, and one that is accepted says nothing impossible. Method: any bytes, and the same with
 * a right checksum; an accepted record is encoded again and must be the same to the decoder.
 */
#include "fuzz/fuzz.h"
#include "store/codec.h"
#include "store/digest.h"

#define ADDRESS ((uint64_t)0x1401040)

static void sums(const struct record *record, const struct entry *entries)
{
    uint64_t blocks = 0, units = 0;
    if (record->kind != RECORD_DATA) return;
    for (uint32_t i = 0; i < record->entries; i++) {
        blocks += entries[i].count;
        units += entries[i].units;
    }
    REQUIRE(blocks == record->count && units * UNIT == record->payload);
    REQUIRE(record->lba + blocks <= VOLUME_BLOCKS_MAX);
}

static void decode(const uint8_t *data, size_t size)
{
    struct record record, back;
    struct entry entries[RECORD_BLOCKS_MAX], back_entries[RECORD_BLOCKS_MAX];
    if (record_decode(data, size, ADDRESS, &record, entries) != OK) return;
    uint32_t head = record_head_bytes(&record), bytes = head + record.payload;
    REQUIRE(record.payload == 0 || bytes <= size);
    sums(&record, entries);
    uint8_t *copy = malloc(bytes);
    memset(copy, 0, bytes);
    memcpy(copy, data, bytes < size ? bytes : size);
    record_encode(&record, entries, ADDRESS, copy);
    REQUIRE(record_decode(copy, bytes, ADDRESS, &back, back_entries) == OK);
    REQUIRE(record_equal(&record, entries, &back, back_entries));
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    decode(data, size);
    if (size < sizeof(struct disk_record)) return 0;
    uint8_t *copy = fuzz_copy(data, size);
    uint32_t bytes = (uint32_t)sizeof(struct disk_record), entries = (uint32_t)(copy[6] | copy[7] << 8);
    uint32_t count = fuzz_get32(copy, size, offsetof(struct disk_record, count));
    for (uint32_t i = 0; i < entries && bytes + (i + 1) * sizeof(struct disk_entry) <= size; i++)
        if (copy[sizeof(struct disk_record) + i * sizeof(struct disk_entry)] == ENTRY_DUP) bytes += 12;
    bytes += entries * (uint32_t)sizeof(struct disk_entry);
    if (copy[4] == RECORD_STATE || copy[4] == RECORD_MOVE) bytes += (count & 0xffff) + (count >> 16);
    if (bytes <= size) {
        le32 crc = put32(crc32c(0, copy + 4, bytes - 4) ^ address_mix(ADDRESS));
        memcpy(copy, crc.b, sizeof crc.b);
    }
    decode(copy, size);
    free(copy);
    return 0;
}
