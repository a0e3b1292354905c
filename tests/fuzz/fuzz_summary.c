/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: no slot tail harms the decoders of summaries. Method: the input ends with a trailer, as a slot does; the trailer is
 * decoded as it is and with a right checksum, and what lies before it is walked as the body of a HEAD summary.
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

/* What is accepted says the same when it is encoded again, in no more bytes. */
static void body(const uint8_t *data, size_t size)
{
    struct summary_walk walk = summary_walk(data, size);
    struct entry entries[RECORD_BLOCKS_MAX], back_entries[RECORD_BLOCKS_MAX];
    struct record record, back;
    uint32_t offset, back_offset;
    enum err e;
    struct summary_walk last = walk;
    while ((e = summary_next(&walk, &offset, &record, entries)) == OK) {
        REQUIRE(walk.at.left < last.at.left);
        uint8_t *again = malloc(summary_record_max(&record));
        struct summary_before before = last.before;
        uint32_t bytes = summary_add(&before, offset, &record, entries, again);
        REQUIRE(bytes <= last.at.left - walk.at.left);
        last.at = cursor_of(again, bytes);
        REQUIRE(summary_next(&last, &back_offset, &back, back_entries) == OK);
        REQUIRE(back_offset == offset && record_equal(&back, back_entries, &record, entries));
        free(again);
        last = walk;
    }
    REQUIRE(e == ERR_TRUNCATED || e == ERR_DECODE);
    REQUIRE(walk.at.left == last.at.left);
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
