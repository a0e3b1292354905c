/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: no map page and no chunk harms its decoder. Method: the input is a leaf or an inner page as its length and bytes
 * say; and the first byte aside it is a chunk whose checksum is set right. What a page decoder accepts must encode back.
 */
#include "fuzz/fuzz.h"
#include "store/codec.h"
#include "store/digest.h"

#define ADDRESS ((uint64_t)0x1401200)
#define ROOM sizeof(struct disk_state)

static struct page_id id_in(const uint8_t *data)
{
    struct disk_page page;
    memcpy(&page, data, sizeof page);
    return (struct page_id){get32(page.volume), page.level, get64(page.index)};
}

static void leaf(const uint8_t *data, size_t size)
{
    static struct leaf leaf;
    static struct disk_leaf disk;
    uint64_t digest[2];
    if (size < sizeof(struct disk_page) || leaf_decode(data, size, id_in(data), &leaf) != OK) return;
    for (uint32_t i = 0; i < LEAF_BLOCKS; i++) REQUIRE(leaf.places[i] >> 63 == 0);
    leaf_encode(id_in(data), &leaf, &disk);
    REQUIRE(memcmp(disk.tags, data + offsetof(struct disk_leaf, tags), sizeof disk - offsetof(struct disk_leaf, tags)) == 0);
    leaf_digest(&leaf, digest);
}

static void inner(const uint8_t *data, size_t size)
{
    static struct inner inner;
    static struct disk_inner disk;
    uint64_t digest[2];
    if (size < sizeof(struct disk_page) || inner_decode(data, size, id_in(data), &inner) != OK) return;
    inner_encode(id_in(data), &inner, &disk);
    REQUIRE(memcmp(disk.children, data + offsetof(struct disk_inner, children), sizeof disk.children) == 0);
    inner_digest(&inner, digest);
}

static void chunk(const uint8_t *data, size_t size)
{
    uint32_t units = (uint32_t)(size / UNIT), unpacked = 0;
    uint8_t *copy = fuzz_copy(data, units * UNIT), *room = malloc(ROOM);
    chunk_check(copy, units, ADDRESS);
    uint32_t stored = size >= 10 ? chunk_stored((uint16_t)(data[8] | data[9] << 8)) : 0;
    if (units > 0 && stored + 10 <= units * UNIT) {
        le32 crc = put32(crc32c(0, copy + 4, stored + 6) ^ address_mix(ADDRESS));
        memcpy(copy, crc.b, sizeof crc.b);
    }
    if (chunk_unpack(copy, units, ADDRESS, NULL, room, ROOM, &unpacked) == OK) {
        REQUIRE(unpacked > 0 && unpacked <= ROOM);
        leaf(room, unpacked);
        inner(room, unpacked);
    }
    free(copy);
    free(room);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    leaf(data, size);
    inner(data, size);
    chunk(data, size);
    return 0;
}
