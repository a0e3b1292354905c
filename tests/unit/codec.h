/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of codec.h share. Their method: random structures go to bytes and back to the same bytes; every single bit of
 * a checksummed structure is flipped; every length below the right one is tried in memory of exactly that length; and values
 * that no encoder would write, with a right checksum, are refused. The bytes themselves are held by the golden test.
 */
#ifndef IZAR_TESTS_UNIT_CODEC_H
#define IZAR_TESTS_UNIT_CODEC_H

#include <stdlib.h>

#include "base/hash.h"
#include "base/prng.h"
#include "check.h"
#include "store/codec.h"

#define SALT 0x123456789abcdef0u

static struct prng prng = {{1, 2, 3, 4}};

static inline uint64_t below(uint64_t n)
{
    return prng_below(&prng, n);
}

static inline uint64_t number(void)
{
    return prng_next(&prng) >> below(64);
}

/* A decoder under test: `ret` is where its output goes, when it has any. */
typedef enum err decoder(const void *at, size_t size, void *ret);

/* The decoder refuses every shorter input without reading beyond it. */
static inline bool refuses_shorter(decoder *decode, const uint8_t *at, size_t size, void *ret)
{
    for (size_t cut = 0; cut < size; cut += cut < 256 || cut + 256 > size ? 1 : 37) {
        uint8_t *copy = malloc(cut > 0 ? cut : 1);
        memcpy(copy, at, cut);
        enum err e = decode(copy, cut, ret);
        free(copy);
        if (e != ERR_TRUNCATED) return false;
    }
    return true;
}

/* The decoder takes the input, and refuses it with any one bit of `from` to `to` changed. */
static inline bool refuses_flips(decoder *decode, const uint8_t *at, size_t from, size_t to, size_t size, void *ret)
{
    uint8_t *copy = malloc(size);
    memcpy(copy, at, size);
    bool refused = decode(copy, size, ret) == OK;
    for (size_t bit = from * 8; bit < to * 8 && refused; bit++) {
        copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
        refused = decode(copy, size, ret) != OK;
        copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    free(copy);
    return refused;
}

static inline struct pointer pointer_random(void)
{
    struct pointer pointer = {.newest = number() >> 1, .digest = {number(), number()}, .graft = below(2)};
    if (below(4)) pointer.locator = locator_of(below(ADDRESS_MAX), 1 + (uint32_t)below(511));
    return pointer;
}

#endif
