/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fast hashes, none of them against an adversary: CRC-32C guards bytes on disk and wire, XXH3 spreads keys in tables in
 * memory and digests map pages. What must not collide on purpose is fingerprinted by sha.h.
 */
#ifndef IZAR_BASE_HASH_H
#define IZAR_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* CRC-32C (Castagnoli) as iSCSI, ext4 and btrfs define it: of "123456789" it is 0xe3069283. `seed` is 0, or the CRC of
 * the bytes before these, so crc32c(crc32c(0, a), b) is the CRC of a and b in a row. Any size. */
uint32_t crc32c(uint32_t seed, const void *at, size_t size);

/* XXH3 with a seed, 64 and 128 bits wide. The same on every machine. */
uint64_t hash64(const void *at, size_t size, uint64_t seed);

struct hash128 {
    uint64_t low, high;
};

struct hash128 hash128(const void *at, size_t size, uint64_t seed);

#endif
