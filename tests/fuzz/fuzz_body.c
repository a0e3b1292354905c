/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: no bytes of another node harm the reader of contents. Method: any bytes as contents one behind the other, in a piece of
 * their own length; what is accepted keeps to the limits and encodes to the same bytes again.
 */
#include "fuzz/fuzz.h"
#include "volume/replica/body.h"

static struct replica_contents pool;

/* False: that was the last. */
static bool one(struct body_reader *reader)
{
    uint8_t table[BODY_TABLE_MAX];
    struct body_head head;
    uint32_t begin = reader->at;
    if (body_head_decode(reader, &head) != OK) return false;
    REQUIRE(head.count > 0 && head.count <= (head.what == ENTRY_NEW ? RECORD_BLOCKS_MAX : RECORD_UNMAP_MAX));
    struct replica_content *content = content_take(&pool, CONTENT_RECORD, 1, head.what, head.count);
    bool fine = body_decode(reader, content) == OK;
    REQUIRE(content->used <= content->room);
    if (fine) {
        const uint8_t *at = reader->pieces[0] + begin;
        uint32_t bytes = body_encode(content, table);
        REQUIRE(reader->at - begin == bytes + content->used);
        REQUIRE(memcmp(at, table, bytes) == 0 && memcmp(at + bytes, content->bytes, content->used) == 0);
        for (uint32_t i = 0; head.what == ENTRY_NEW && i < head.count; i++)
            REQUIRE(content->digests[i].units * UNIT <= BLOCK_SIZE + UNIT);
    }
    content_drop(&pool, content);
    return fine;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mem *mem;
    if (mem == NULL && contents_init(&pool, mem = mem_open(32 << 20), 1) != OK) abort();
    if (size > LINK_PIECE) return 0;
    uint8_t *copy = fuzz_copy(data, size);
    struct body_reader reader = {.pieces = &copy, .bytes = (uint32_t)size};
    while (one(&reader)) {}
    free(copy);
    return 0;
}
