/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: blocks and pages come back out of their chunks, and nothing else comes out. Method: blocks of every kind (zero,
 * constant, text, noise, mixtures around the limit of raw storage) are digested, laid out as the log lays them out, and
 * unpacked; then every bit is flipped, and chunks lie at another address, have another length or another tag.
 */
#include <stdlib.h>

#include "base/hash.h"
#include "base/prng.h"
#include "check.h"
#include "store/digest.h"

static struct prng prng = {{5, 6, 7, 8}};
static struct fingerprinter key = {{1, 2, 3}};

#define ADDRESS ((uint64_t)0x123456780)

/* A block whose first `noise` bytes do not compress. */
static void block_fill(uint8_t block[BLOCK_SIZE], uint32_t noise)
{
    for (uint32_t i = 0; i < BLOCK_SIZE; i++) block[i] = (uint8_t)("Izar keeps blocks. "[i % 19]);
    prng_fill(&prng, block, noise);
}

/* The chunk as the log writes it. */
static void lay_out(const struct block_digest *digest, uint64_t address, uint8_t *ret_chunk)
{
    uint32_t stored = chunk_stored(digest->size);
    struct disk_chunk header = {.crc = put32(digest->crc ^ address_mix(address)), .size = put16(digest->size)};
    memcpy(header.tag.b, digest->print.b, 4);
    memset(ret_chunk, 0, digest->units * UNIT);
    memcpy(ret_chunk, &header, sizeof header);
    memcpy(ret_chunk + sizeof header, digest->stored, stored);
}

static uint32_t tag_of(const struct fingerprint *print)
{
    le32 tag;
    memcpy(tag.b, print->b, 4);
    return get32(tag);
}

TEST(a_zero_block_is_not_stored)
{
    static uint8_t block[BLOCK_SIZE], room[BLOCK_SIZE];
    struct block_digest digest;
    digest_block(&key, block, room, &digest);
    CHECK_EQ(digest.size, 0);
    CHECK_EQ(digest.units, 0);
    for (uint32_t at = 0; at < BLOCK_SIZE; at += at < 16 || at > 4070 ? 1 : 97) {
        block[at] = 1;
        digest_block(&key, block, room, &digest);
        CHECK(digest.size != 0);
        block[at] = 0;
    }
}

TEST(a_block_comes_back)
{
    static uint8_t block[BLOCK_SIZE], room[BLOCK_SIZE], chunk[4112], back[BLOCK_SIZE];
    bool raw = false, packed = false;
    for (uint32_t noise = 0; noise <= BLOCK_SIZE; noise += 32) {
        struct block_digest digest;
        struct fingerprint print;
        uint32_t size = 0;
        block_fill(block, noise);
        digest_block(&key, block, room, &digest);
        fingerprint_of(&key, block, BLOCK_SIZE, &print);
        CHECK(fingerprint_equal(&print, &digest.print));
        uint32_t stored = chunk_stored(digest.size);
        CHECK_EQ(digest.units, chunk_room(stored) / UNIT);
        CHECK(stored <= 3584 || (stored == BLOCK_SIZE && digest.stored == block && digest.units == PLACE_UNITS_RAW));
        CHECK_EQ(digest.size >> 13, stored == BLOCK_SIZE ? CODEC_RAW : CODEC_LZ4);
        CHECK_EQ(place_units(place_of(ADDRESS, digest.units)), digest.units);
        raw = raw || stored == BLOCK_SIZE;
        packed = packed || stored < BLOCK_SIZE;
        lay_out(&digest, ADDRESS, chunk);
        uint32_t tag = tag_of(&print);
        CHECK_OK(chunk_check(chunk, digest.units, ADDRESS));
        CHECK_OK(chunk_unpack(chunk, digest.units, ADDRESS, &tag, back, BLOCK_SIZE, &size));
        CHECK_EQ(size, BLOCK_SIZE);
        CHECK_BYTES(back, block, BLOCK_SIZE);
    }
    CHECK(raw && packed);
}

TEST(another_address_length_or_tag_is_refused)
{
    static uint8_t block[BLOCK_SIZE], room[BLOCK_SIZE], chunk[4112], back[BLOCK_SIZE];
    struct block_digest digest;
    uint32_t size;
    block_fill(block, 1000);
    digest_block(&key, block, room, &digest);
    lay_out(&digest, ADDRESS, chunk);
    uint32_t tag = tag_of(&digest.print), other = tag ^ 0x80000000;
    CHECK_OK(chunk_unpack(chunk, digest.units, ADDRESS, NULL, back, BLOCK_SIZE, &size));
    CHECK_ERR(ERR_CHECKSUM, chunk_unpack(chunk, digest.units, ADDRESS, &other, back, BLOCK_SIZE, &size));
    CHECK_ERR(ERR_CHECKSUM, chunk_check(chunk, digest.units, ADDRESS + UNIT));
    CHECK_ERR(ERR_CHECKSUM, chunk_check(chunk, digest.units, ADDRESS ^ (uint64_t)1 << 40));
    CHECK_ERR(ERR_DECODE, chunk_check(chunk, digest.units - 1u, ADDRESS));
    CHECK_ERR(ERR_DECODE, chunk_check(chunk, digest.units + 1u, ADDRESS));
    CHECK_ERR(ERR_DECODE, chunk_check(chunk, 0, ADDRESS));
    CHECK_ERR(ERR_DECODE, chunk_unpack(chunk, digest.units, ADDRESS, &tag, back, BLOCK_SIZE - 1, &size));
}

/* The length is what the map says; the memory is exactly as long, so that a sanitizer sees a step beyond. */
static bool every_flip_is_refused(const uint8_t *chunk, uint32_t units, uint32_t covered)
{
    uint8_t *copy = malloc(units * UNIT);
    memcpy(copy, chunk, units * UNIT);
    bool refused = chunk_check(copy, units, ADDRESS) == OK;
    for (uint32_t bit = 0; bit < covered * 8 && refused; bit++) {
        copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
        refused = chunk_check(copy, units, ADDRESS) != OK;
        copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    free(copy);
    return refused;
}

TEST(a_damaged_chunk_is_refused)
{
    static uint8_t block[BLOCK_SIZE], room[BLOCK_SIZE], chunk[4112];
    for (uint32_t noise = 0; noise <= BLOCK_SIZE; noise += 1024) {
        struct block_digest digest;
        block_fill(block, noise);
        digest_block(&key, block, room, &digest);
        lay_out(&digest, ADDRESS, chunk);
        CHECK(every_flip_is_refused(chunk, digest.units, chunk_stored(digest.size) + 10));
    }
}

/* Garbage with a right checksum: an attacker's, or a bug's. It must be refused or unpacked within bounds. */
TEST(garbage_with_a_checksum_stays_within_bounds)
{
    for (uint32_t i = 0; i < 20000; i++) {
        uint32_t stored = 1 + (uint32_t)prng_below(&prng, 300), units = chunk_room(stored) / UNIT, size = 0;
        uint32_t room = (uint32_t)prng_below(&prng, 200) + 1;
        uint8_t *chunk = malloc(units * UNIT), *back = malloc(room);
        prng_fill(&prng, chunk, units * UNIT);
        le16 field = put16((uint16_t)(stored | prng_below(&prng, 8) << 13));
        memcpy(chunk + 8, field.b, 2);
        if (prng_below(&prng, 2)) chunk[10] &= 0x1f;
        le32 crc = put32(crc32c(0, chunk + 4, stored + 6) ^ address_mix(ADDRESS));
        memcpy(chunk, crc.b, 4);
        enum err e = chunk_unpack(chunk, units, ADDRESS, NULL, back, room, &size);
        bool fine = e == ERR_DECODE || (e == OK && size <= room && size > 0);
        free(chunk);
        free(back);
        CHECK(fine);
    }
}

TEST(a_page_comes_back)
{
    static const uint32_t sizes[] = {
        1, 5, 6, 7, 20, 100, sizeof(struct disk_inner), sizeof(struct disk_leaf), sizeof(struct disk_state)};
    for (uint32_t i = 0; i < sizeof sizes / sizeof sizes[0] * 40; i++) {
        uint32_t bytes = sizes[i / 40], size = 0, tag = i;
        uint8_t *page = calloc(1, bytes), *back = malloc(bytes), *chunk = malloc(chunk_room(bytes));
        prng_fill(&prng, page, i % 40 * bytes / 39);
        memset(chunk, 0xee, chunk_room(bytes));
        uint32_t units = chunk_pack(page, bytes, tag, chunk);
        bool fine = units * UNIT <= chunk_room(bytes) && units <= 511;
        chunk_place(chunk, ADDRESS);
        fine = fine && chunk_unpack(chunk, units, ADDRESS, &tag, back, bytes, &size) == OK;
        fine = fine && size == bytes && memcmp(page, back, bytes) == 0;
        uint32_t stored = chunk_stored((uint16_t)(chunk[8] | chunk[9] << 8));
        for (uint32_t at = 10 + stored; at < units * UNIT; at++) fine = fine && chunk[at] == 0;
        fine = fine && (chunk[9] >> 5 == CODEC_RAW || units < chunk_room(bytes) / UNIT);
        free(page);
        free(back);
        free(chunk);
        CHECK(fine);
    }
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

TEST(addresses_near_each_other_never_mix_alike)
{
    static uint32_t mixes[1 << 16];
    for (uint64_t base = 0; base < ADDRESS_MAX; base = base * 3 + ((uint64_t)1 << 36)) {
        for (uint32_t i = 0; i < 1 << 16; i++) mixes[i] = address_mix(base + i * 16u);
        qsort(mixes, 1 << 16, sizeof mixes[0], by_value);
        for (uint32_t i = 1; i < 1 << 16; i++) CHECK(mixes[i] != mixes[i - 1]);
    }
    CHECK(address_mix(0) != 0);
}

TESTS(a_zero_block_is_not_stored, a_block_comes_back, another_address_length_or_tag_is_refused, a_damaged_chunk_is_refused,
      garbage_with_a_checksum_stays_within_bounds, a_page_comes_back, addresses_near_each_other_never_mix_alike)
