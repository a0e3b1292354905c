/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: no checkpoint harms its decoder, and the arrays of one that is accepted lie within the room that was asked for.
 * Method: any bytes, padded to the length they claim when that is small, and the same with a right checksum; what is
 * accepted is encoded again and must be as long, and the same again after that.
 */
#include "fuzz/fuzz.h"
#include "store/codec.h"

static void again(const struct checkpoint *c, uint32_t bytes)
{
    uint8_t *first = malloc(bytes), *second = malloc(bytes), *room = malloc(checkpoint_decode_room(bytes));
    struct checkpoint back;
    REQUIRE(checkpoint_room(c->chain_count, c->head_slot_count, c->prepared_count, c->volume_count, c->directory_pages) ==
            bytes);
    REQUIRE(checkpoint_encode(c, FUZZ_SALT, first) == bytes);
    REQUIRE(checkpoint_decode(first, bytes, FUZZ_SALT, room, &back) == OK);
    REQUIRE(checkpoint_encode(&back, FUZZ_SALT, second) == bytes);
    REQUIRE(memcmp(first, second, bytes) == 0);
    free(first);
    free(second);
    free(room);
}

static void decode(const uint8_t *data, size_t size)
{
    uint32_t bytes;
    struct checkpoint checkpoint;
    if (checkpoint_length(data, size, FUZZ_INPUT_MAX, &bytes) != OK) return;
    REQUIRE(bytes % SECTOR == 0 && bytes > 0 && bytes <= FUZZ_INPUT_MAX);
    void *room = malloc(checkpoint_decode_room(size));
    if (checkpoint_decode(data, size, FUZZ_SALT, room, &checkpoint) == OK) again(&checkpoint, bytes);
    free(room);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t padded[FUZZ_INPUT_MAX];
    if (size > sizeof padded) return 0;
    decode(data, size);
    size_t claimed = fuzz_get32(data, size, offsetof(struct disk_checkpoint, bytes));
    memcpy(padded, data, size);
    memset(padded + size, 0, sizeof padded - size);
    if (claimed > size && claimed <= sizeof padded) size = claimed;
    uint8_t *copy = fuzz_copy(padded, size);
    fuzz_fix(copy, size, offsetof(struct disk_checkpoint, checksum), claimed, FUZZ_SALT);
    decode(copy, size);
    free(copy);
    return 0;
}
