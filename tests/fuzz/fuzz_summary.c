/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: no slot tail harms the decoders of summaries. Method: the input ends with a trailer, as a slot does; the trailer is
 * decoded as it is and with a right checksum, and what lies before it is walked as the body of a HEAD summary, every record
 * decoded as a loader does it.
 */
#include "fuzz/fuzz.h"
#include "store/codec.h"

#define SEGMENT_BYTES ((uint64_t)1 << 16)
#define BASE ((uint64_t)0x1400000)

static void trailer(const uint8_t *at)
{
    struct trailer trailer, back;
    struct disk_trailer disk;
    if (trailer_decode(at, sizeof disk, SEGMENT_BYTES, FUZZ_SALT, &trailer) != OK) return;
    REQUIRE(sizeof disk + (uint64_t)trailer.body_bytes + trailer.print_bytes + trailer.data_bytes <= SEGMENT_BYTES);
    if (trailer.kind != SLOT_HEAD) REQUIRE(trailer.body_bytes == (uint64_t)trailer.chunks * 8);
    trailer_encode(&trailer, FUZZ_SALT, &disk);
    REQUIRE(trailer_decode(&disk, sizeof disk, SEGMENT_BYTES, FUZZ_SALT, &back) == OK);
    REQUIRE(back.body_bytes == trailer.body_bytes && back.chunks == trailer.chunks && back.segment == trailer.segment);
}

static void body(const uint8_t *data, size_t size)
{
    size_t at = 0, before = 0;
    uint32_t offset, bytes;
    const uint8_t *found;
    enum err e;
    while ((e = summary_next(data, size, &at, &offset, &found, &bytes)) == OK) {
        struct record record;
        REQUIRE(at > before && at <= size && found >= data && found + bytes <= data + size);
        before = at;
        if (record_decode(found, bytes, BASE + offset, &record) != OK) continue;
        for (uint32_t i = 0; i < record.entries; i++) record_entry(found, i);
    }
    REQUIRE(e == ERR_TRUNCATED || e == ERR_DECODE);
    REQUIRE(at == before);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    body(data, size);
    if (size < sizeof(struct disk_trailer)) return 0;
    uint8_t *copy = fuzz_copy(data, size);
    size_t at = size - sizeof(struct disk_trailer);
    trailer(copy + at);
    fuzz_fix(copy + at, sizeof(struct disk_trailer), offsetof(struct disk_trailer, checksum), sizeof(struct disk_trailer),
             FUZZ_SALT);
    trailer(copy + at);
    body(copy, at);
    free(copy);
    return 0;
}
