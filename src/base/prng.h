/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pseudo random numbers that a seed repeats exactly, on every machine: for the simulator, tests, jitter and sampling.
 * Never for secrets: those come from io_random.
 */
#ifndef IZAR_BASE_PRNG_H
#define IZAR_BASE_PRNG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct prng {
    uint64_t s[4];
};

/* Every seed is good, also 0. */
void prng_init(struct prng *prng, uint64_t seed);
uint64_t prng_next(struct prng *prng);
/* Unbiased, from 0 to n - 1; n > 0. */
uint64_t prng_below(struct prng *prng, uint64_t n);
/* True in `per_million` of a million draws; draws one number whatever the odds, so odds can change without a shift. */
bool prng_chance(struct prng *prng, uint32_t per_million);
void prng_fill(struct prng *prng, void *buf, size_t size);

#endif
