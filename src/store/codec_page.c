/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Map pages: pointers, leaves and inner pages, and their digests.
 *
 * A digest says what a volume holds, not where: two nodes with the same blocks compute the same digests, whatever their
 * logs look like. Hence no salt, no places, only tags; and unmapped and zero blocks, which have no chunk, stand for
 * themselves with two tags of their own.
 */
#include "store/codec.h"

#include "base/hash.h"

enum { TAG_UNMAPPED = 0, TAG_ZERO = 1 };

/* ---- pointers ---- */

struct disk_pointer pointer_encode(const struct pointer *pointer)
{
    assert((pointer->newest & POINTER_GRAFT) == 0);
    return (struct disk_pointer){
        .locator = put64(pointer->locator),
        .newest = put64(pointer->newest | (pointer->graft ? POINTER_GRAFT : 0)),
        .digest = {put64(pointer->digest[0]), put64(pointer->digest[1])},
    };
}

struct pointer pointer_decode(const struct disk_pointer *disk)
{
    uint64_t newest = get64(disk->newest);
    return (struct pointer){
        .locator = get64(disk->locator),
        .newest = newest & ~POINTER_GRAFT,
        .digest = {get64(disk->digest[0]), get64(disk->digest[1])},
        .graft = (newest & POINTER_GRAFT) != 0,
    };
}

/* ---- pages ---- */

static struct disk_page page_encode(struct page_id id)
{
    return (struct disk_page){.volume = put32(id.volume), .level = id.level, .index = put64(id.index)};
}

/* The page is as long as it must be and is the one that was asked for. */
static enum err page_check(const void *at, size_t size, size_t expected, struct page_id id)
{
    struct disk_page page;
    if (size < expected) return ERR_TRUNCATED;
    memcpy(&page, at, sizeof page);
    bool same = get32(page.volume) == id.volume && page.level == id.level && get64(page.index) == id.index;
    return same && size == expected ? OK : ERR_DECODE;
}

void leaf_encode(struct page_id id, const struct leaf *leaf, struct disk_leaf *ret_disk)
{
    assert(id.level == PAGE_LEAF);
    ret_disk->page = page_encode(id);
    for (uint32_t i = 0; i < LEAF_BLOCKS; i++) ret_disk->tags[i] = put32(leaf->tags[i]);
    for (uint32_t plane = 0; plane < 8; plane++)
        for (uint32_t i = 0; i < LEAF_BLOCKS; i++) ret_disk->planes[plane][i] = (uint8_t)(leaf->places[i] >> 8 * plane);
}

enum err leaf_decode(const void *at, size_t size, struct page_id id, struct leaf *ret_leaf)
{
    TRY(page_check(at, size, sizeof(struct disk_leaf), id));
    if (id.level != PAGE_LEAF) return ERR_DECODE;
    const uint8_t *tags = (const uint8_t *)at + offsetof(struct disk_leaf, tags);
    const uint8_t *planes = (const uint8_t *)at + offsetof(struct disk_leaf, planes);
    for (uint32_t i = 0; i < LEAF_BLOCKS; i++)
        if (planes[7 * LEAF_BLOCKS + i] >> 7 != 0) return ERR_DECODE; /* bit 63 of a place */
    for (uint32_t i = 0; i < LEAF_BLOCKS; i++) {
        le32 tag;
        memcpy(tag.b, tags + i * sizeof tag, sizeof tag);
        ret_leaf->tags[i] = get32(tag);
        uint64_t place = 0;
        for (uint32_t plane = 0; plane < 8; plane++) place |= (uint64_t)planes[plane * LEAF_BLOCKS + i] << 8 * plane;
        ret_leaf->places[i] = place;
    }
    return OK;
}

void inner_encode(struct page_id id, const struct inner *inner, struct disk_inner *ret_disk)
{
    ret_disk->page = page_encode(id);
    for (uint32_t i = 0; i < INNER_FANOUT; i++) ret_disk->children[i] = pointer_encode(&inner->children[i]);
}

static struct pointer child_at(const void *at, uint32_t i)
{
    struct disk_pointer disk;
    memcpy(&disk, (const uint8_t *)at + offsetof(struct disk_inner, children) + i * sizeof disk, sizeof disk);
    return pointer_decode(&disk);
}

enum err inner_decode(const void *at, size_t size, struct page_id id, struct inner *ret_inner)
{
    TRY(page_check(at, size, sizeof(struct disk_inner), id));
    for (uint32_t i = 0; i < INNER_FANOUT; i++) {
        uint64_t locator = child_at(at, i).locator;
        if (locator != 0 && locator_units(locator) == 0) return ERR_DECODE;
    }
    for (uint32_t i = 0; i < INNER_FANOUT; i++) ret_inner->children[i] = child_at(at, i);
    return OK;
}

/* ---- digests ---- */

void leaf_digest(const struct leaf *leaf, uint64_t ret_digest[2])
{
    le32 tags[LEAF_BLOCKS];
    bool mapped = false;
    for (uint32_t i = 0; i < LEAF_BLOCKS; i++) {
        uint64_t place = leaf->places[i];
        mapped = mapped || place != PLACE_NONE;
        tags[i] = put32(place_is_chunk(place) ? leaf->tags[i] : place == PLACE_ZERO ? TAG_ZERO : TAG_UNMAPPED);
    }
    struct hash128 hash = mapped ? hash128(tags, sizeof tags, 0) : (struct hash128){0, 0};
    ret_digest[0] = hash.low;
    ret_digest[1] = hash.high;
}

void inner_digest(const struct inner *inner, uint64_t ret_digest[2])
{
    le64 digests[INNER_FANOUT][2];
    bool mapped = false;
    for (uint32_t i = 0; i < INNER_FANOUT; i++) {
        const uint64_t *digest = inner->children[i].digest;
        mapped = mapped || digest[0] != 0 || digest[1] != 0;
        digests[i][0] = put64(digest[0]);
        digests[i][1] = put64(digest[1]);
    }
    struct hash128 hash = mapped ? hash128(digests, sizeof digests, 0) : (struct hash128){0, 0};
    ret_digest[0] = hash.low;
    ret_digest[1] = hash.high;
}
