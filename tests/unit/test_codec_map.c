/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: leaves and inner pages of the map decode to what was encoded, and nothing else decodes (method: codec.h).
 */
#include "unit/codec.h"

/* ---- map pages ---- */

static struct leaf leaf_random(void)
{
    struct leaf leaf;
    for (uint32_t i = 0; i < LEAF_BLOCKS; i++) {
        leaf.places[i] = below(3) ? prng_next(&prng) >> 1 : below(2);
        leaf.tags[i] = (uint32_t)number();
    }
    return leaf;
}

static const struct page_id leaf_id = {.volume = 7, .level = PAGE_LEAF, .index = 123456789};

static enum err decode_leaf(const void *at, size_t size, void *ret)
{
    return leaf_decode(at, size, leaf_id, ret);
}

TEST(a_leaf_goes_there_and_back)
{
    struct disk_leaf disk;
    for (int i = 0; i < 50; i++) {
        struct leaf leaf = leaf_random(), back;
        leaf_encode(leaf_id, &leaf, &disk);
        CHECK_OK(decode_leaf(&disk, sizeof disk, &back));
        CHECK_BYTES(leaf.places, back.places, sizeof leaf.places);
        CHECK_BYTES(leaf.tags, back.tags, sizeof leaf.tags);
    }
}

TEST(another_or_impossible_leaf_is_refused)
{
    static uint8_t longer[sizeof(struct disk_leaf) + 1];
    struct leaf leaf = leaf_random(), back;
    struct disk_leaf disk;
    leaf_encode(leaf_id, &leaf, &disk);
    memcpy(longer, &disk, sizeof disk);
    CHECK(refuses_shorter(decode_leaf, longer, sizeof disk, &back));
    CHECK_ERR(ERR_DECODE, decode_leaf(longer, sizeof longer, &back));
    CHECK_ERR(ERR_DECODE, leaf_decode(&disk, sizeof disk, (struct page_id){8, PAGE_LEAF, 123456789}, &back));
    CHECK_ERR(ERR_DECODE, leaf_decode(&disk, sizeof disk, (struct page_id){7, PAGE_LEAF, 123456788}, &back));
    CHECK_ERR(ERR_DECODE, leaf_decode(&disk, sizeof disk, (struct page_id){7, 1, 123456789}, &back));
    disk.page.level = 1;
    CHECK_ERR(ERR_DECODE, leaf_decode(&disk, sizeof disk, (struct page_id){7, 1, 123456789}, &back));
    disk.page.level = PAGE_LEAF;
    disk.planes[7][511] |= 0x80;
    CHECK_ERR(ERR_DECODE, decode_leaf(&disk, sizeof disk, &back));
}

static const struct page_id inner_id = {.volume = 7, .level = 3, .index = 5};

static enum err decode_inner(const void *at, size_t size, void *ret)
{
    return inner_decode(at, size, inner_id, ret);
}

TEST(an_inner_page_goes_there_and_back)
{
    struct disk_inner disk, again;
    for (int i = 0; i < 50; i++) {
        struct inner inner, back;
        for (uint32_t child = 0; child < INNER_FANOUT; child++) inner.children[child] = pointer_random();
        inner_encode(inner_id, &inner, &disk);
        CHECK_OK(decode_inner(&disk, sizeof disk, &back));
        inner_encode(inner_id, &back, &again);
        CHECK_BYTES(&disk, &again, sizeof disk);
        CHECK(refuses_shorter(decode_inner, (uint8_t *)&disk, sizeof disk, &back));
        CHECK_ERR(ERR_DECODE, inner_decode(&disk, sizeof disk, (struct page_id){7, 2, 5}, &back));
        disk.children[127].locator = put64(1);
        CHECK_ERR(ERR_DECODE, decode_inner(&disk, sizeof disk, &back));
    }
}

TEST(digests_tell_content_and_only_content)
{
    static struct leaf leaf, other;
    uint64_t a[2], b[2];
    leaf_digest(&leaf, a);
    CHECK(a[0] == 0 && a[1] == 0);
    leaf.tags[3] = 99; /* of a block that is not mapped */
    leaf_digest(&leaf, a);
    CHECK(a[0] == 0 && a[1] == 0);
    leaf.places[3] = PLACE_ZERO;
    leaf_digest(&leaf, a);
    CHECK(a[0] != 0 || a[1] != 0);
    other.places[3] = PLACE_ZERO;
    leaf_digest(&other, b);
    CHECK_BYTES(a, b, 16);
    other.places[3] = place_of(65536, 9);
    leaf.places[3] = place_of(131072, PLACE_UNITS_RAW);
    other.tags[3] = 99;
    leaf_digest(&leaf, a);
    leaf_digest(&other, b);
    CHECK_BYTES(a, b, 16); /* places do not matter */
    other.tags[3] = 98;
    leaf_digest(&other, b);
    CHECK(memcmp(a, b, 16) != 0);
}

TEST(inner_digests_follow_their_children)
{
    static struct inner inner, other;
    uint64_t a[2], b[2];
    inner.children[5] = (struct pointer){.locator = locator_of(4096, 3), .newest = 77};
    inner_digest(&inner, a);
    CHECK(a[0] == 0 && a[1] == 0);
    inner.children[5].digest[1] = 1;
    inner_digest(&inner, a);
    CHECK(a[0] != 0 || a[1] != 0);
    other.children[5] = (struct pointer){.locator = locator_of(8192, 3), .newest = 78, .digest = {0, 1}};
    inner_digest(&other, b);
    CHECK_BYTES(a, b, 16);
    other.children[4].digest[0] = 1;
    inner_digest(&other, b);
    CHECK(memcmp(a, b, 16) != 0);
}

TESTS(a_leaf_goes_there_and_back, another_or_impossible_leaf_is_refused, an_inner_page_goes_there_and_back,
      digests_tell_content_and_only_content, inner_digests_follow_their_children)
