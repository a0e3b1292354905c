/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Digesting a block: zero test, fingerprint, compression and checksum, done once, where the bytes arrived.
 * Pure functions: any loop, any thread, no state but the pool's fingerprint key. The result goes into a struct store_op.
 */
#ifndef IZAR_STORE_DIGEST_H
#define IZAR_STORE_DIGEST_H

#include "base/err.h"
#include "base/sha.h"
#include "store/format.h"

/* What one block takes, in microseconds, about: for the cost of a job (io/io.h). */
enum { DIGEST_US = 10, UNPACK_US = 3 };

/* What the log needs to know of one block. */
struct block_digest {
    struct fingerprint print;
    uint32_t crc;          /* of the chunk, before the log address is mixed in */
    uint16_t size;         /* stored bytes and codec, as in struct disk_chunk; 0: all zero, nothing is stored */
    uint16_t units;        /* length of the chunk, header and padding included */
    const uint8_t *stored; /* `size` bytes: into `room`, or the block itself when it is stored raw */
};

/* Digests one block of BLOCK_SIZE bytes. `room` holds compressed bytes (BLOCK_SIZE) and must live as long as the result,
 * as must `block`. */
void digest_block(const struct fingerprinter *key, const uint8_t *block, uint8_t *room, struct block_digest *ret_digest);

/* A digest that came from elsewhere, with `size` (not 0) and `crc`: is the size one that digest_block says, and how long is the
 * chunk? Sets `units`. ERR_DECODE. */
enum err digest_measure(struct block_digest *digest);
/* Do the stored bytes fit the checksum? ERR_CHECKSUM. */
enum err digest_check(const struct block_digest *digest);

/* Mixed into every checksum of a chunk or record so that it is right at one log address only. */
uint32_t address_mix(uint64_t address);

/* Checks a chunk found at `address` (header at `chunk`, exactly `units` long) against its checksum and, if `tag` is not NULL,
 * its tag, and unpacks it into `ret_data` (`room` bytes; the caller knows which size it must have, a block BLOCK_SIZE).
 * ERR_CHECKSUM, ERR_DECODE; then `ret_data` may hold anything. */
enum err chunk_unpack(const uint8_t *chunk, uint32_t units, uint64_t address, const uint32_t *tag, uint8_t *ret_data,
                      uint32_t room, uint32_t *ret_size);

/* Only the check, as before a chunk is moved. */
enum err chunk_check(const uint8_t *chunk, uint32_t units, uint64_t address);

/* The chunk of a block (not zero) at a log address: `units` of the digest, header and padding included. */
void chunk_put(const struct block_digest *digest, uint64_t address, uint8_t *ret_chunk);

/* Packs `size` bytes (a map page) into a chunk at `ret_chunk`, without the log address in its checksum. The room must be
 * chunk_room(size) bytes. Returns the units taken. */
uint32_t chunk_pack(const uint8_t *data, uint32_t size, uint32_t tag, uint8_t *ret_chunk);
/* Completes the checksum of a packed chunk with its log address. */
void chunk_place(uint8_t *chunk, uint64_t address);

static inline uint32_t chunk_room(uint32_t size)
{
    return (uint32_t)round_up64(size + sizeof(struct disk_chunk), UNIT);
}

#endif
