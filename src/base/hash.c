/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wrappers around isa-l and xxhash: the only file that knows them. The body of XXH3 is compiled in (XXH_INLINE_ALL), so
 * that short keys cost no call into a library.
 */
#include "base/hash.h"

#include <isa-l/crc.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/*
 * isa-l's AVX-512 code for CRC (library 2.30) returns without vzeroupper. The SSE code that runs next, ours and everybody's,
 * then pays for the upper halves of the registers: XXH3 of 4 KiB after one such CRC was measured 4.8 times slower, until
 * something clears them. So it is cleared here.
 */
#if defined(__GNUC__) && defined(__x86_64__)
__attribute__((target("avx"))) static void clear_upper_halves(void)
{
    __builtin_ia32_vzeroupper();
}

static void after_isal(void)
{
    if (__builtin_cpu_supports("avx")) clear_upper_halves();
}
#else
static void after_isal(void)
{
}
#endif

/* isa-l takes the size as an int. */
#define CRC_STEP ((size_t)1 << 30)

uint32_t crc32c(uint32_t seed, const void *at, size_t size)
{
    /* isa-l's crc32_iscsi is the bare register: neither inverted on the way in nor on the way out. It does not write to
     * the bytes, its prototype only forgot to say so. */
    unsigned char *from = (unsigned char *)(uintptr_t)at;
    uint32_t crc = ~seed;
    while (size > 0) {
        size_t step = size < CRC_STEP ? size : CRC_STEP;
        crc = crc32_iscsi(from, (int)step, crc);
        from += step;
        size -= step;
    }
    after_isal();
    return ~crc;
}

uint64_t hash64(const void *at, size_t size, uint64_t seed)
{
    return XXH3_64bits_withSeed(at, size, seed);
}

struct hash128 hash128(const void *at, size_t size, uint64_t seed)
{
    XXH128_hash_t hash = XXH3_128bits_withSeed(at, size, seed);
    return (struct hash128){hash.low64, hash.high64};
}
