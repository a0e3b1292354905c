/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the fuzzers of the on-disk structures share: the salt of their pool, memory of exactly one size, and requirements.
 * An input is fed twice: as it is, and in a copy whose checksum was set right, so that fuzzing gets behind the checksum.
 * What a decoder accepts must encode to the same content again.
 */
#ifndef IZAR_TESTS_FUZZ_FUZZ_H
#define IZAR_TESTS_FUZZ_FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/hash.h"

#define FUZZ_SALT 0x1122334455667788u
#define FUZZ_INPUT_MAX (1u << 16)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(cond)                                                                                                          \
    do {                                                                                                                       \
        if (!(cond)) fuzz_failed(__FILE__, __LINE__, #cond);                                                                   \
    } while (0)

static inline void fuzz_failed(const char *file, int line, const char *text)
{
    fprintf(stderr, "%s:%d: required: %s\n", file, line, text);
    abort();
}

/* A copy of exactly `size` bytes; free it. */
static inline uint8_t *fuzz_copy(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size > 0 ? size : 1);
    if (copy == NULL) exit(2);
    if (size > 0) memcpy(copy, data, size);
    return copy;
}

/* Sets an XXH3-64 at `at` over what follows it up to `end`, when there is room. */
static inline void fuzz_fix(uint8_t *data, size_t size, size_t at, size_t end, uint64_t seed)
{
    if (end > size || end < at + 8) return;
    le64 checksum = put64(hash64(data + at + 8, end - at - 8, seed));
    memcpy(data + at, checksum.b, sizeof checksum.b);
}

static inline uint32_t fuzz_get32(const uint8_t *data, size_t size, size_t at)
{
    le32 v = {{0}};
    if (at + sizeof v <= size) memcpy(v.b, data + at, sizeof v);
    return get32(v);
}

#endif
