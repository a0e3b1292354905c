/* SPDX-License-Identifier: Apache-2.0 */
/*
 * xoshiro256** by Blackman and Vigna, its state filled by splitmix64 as its authors advise.
 */
#include "base/prng.h"

#include <assert.h>

#include "base/bytes.h"

static uint64_t splitmix64(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint64_t rotate_left(uint64_t v, unsigned by)
{
    return v << by | v >> (64 - by);
}

void prng_init(struct prng *prng, uint64_t seed)
{
    for (int i = 0; i < 4; i++) prng->s[i] = splitmix64(&seed);
}

uint64_t prng_next(struct prng *prng)
{
    uint64_t *s = prng->s;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

uint64_t prng_below(struct prng *prng, uint64_t n)
{
    assert(n > 0);
    uint64_t uneven = (0 - n) % n; /* 2^64 mod n: this many of the lowest draws would favour small results */
    uint64_t draw;
    do draw = prng_next(prng);
    while (draw < uneven);
    return draw % n;
}

bool prng_chance(struct prng *prng, uint32_t per_million)
{
    return prng_below(prng, 1000000) < per_million;
}

void prng_fill(struct prng *prng, void *buf, size_t size)
{
    uint8_t *at = buf;
    for (; size >= 8; at += 8, size -= 8) {
        le64 word = put64(prng_next(prng));
        memcpy(at, word.b, 8);
    }
    if (size > 0) {
        le64 word = put64(prng_next(prng));
        memcpy(at, word.b, size);
    }
}
