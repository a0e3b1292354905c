/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks and pages into chunks and back.
 *
 * A chunk's checksum is made in two steps: over tag, size and stored bytes where the bytes arrived, and then XORed with a
 * mix of the log address when the log knows it. The mix is a bijection of the low 32 bits of the address in units, so two
 * places less than 64 GiB apart in the same such window never mix alike, and a chunk that lies where another belongs is
 * noticed for certain; elsewhere it slips through once in 2^32.
 *
 * LZ4 is called in its plain form, with its state on the stack, so that any thread may digest at any time. Measured over
 * 4 KiB blocks of programs, time and stored size in units of the first line:
 *
 *     LZ4_compress_default                             1.00   1.00   (this file)
 *     LZ4_compress_fast_extState, state on the stack   1.01   1.00
 *     LZ4_compress_fast_continue, state on the stack   0.82   1.04   a smaller table: finds less
 *     the same, state kept and reset_fast between      1.75   1.04   what it remembers is too far away, and in the way
 *     LZ4_compress_fast, acceleration 2                0.80   1.08
 *     LZ4_compress_fast, acceleration 4                0.56   1.19
 */
#include "store/digest.h"

#include <lz4.h>

#include "base/hash.h"
#include "store/mutation.h"

enum {
    CHUNK_HEADER = sizeof(struct disk_chunk),
    BLOCK_STORED_MAX = 3584, /* a block that stays longer is stored raw: an eighth saved must pay for unpacking */
    CHUNK_UNITS_MAX = 511,   /* what a locator can say */
};

static_assert(CHUNK_HEADER + BLOCK_STORED_MAX <= PLACE_UNITS_MAX * UNIT, "a compressed block has its length in its place");
static_assert((CHUNK_HEADER + BLOCK_SIZE + UNIT - 1) / UNIT == PLACE_UNITS_RAW, "a raw block has the length that 0 stands for");
static_assert(CHUNK_UNITS_MAX * UNIT - CHUNK_HEADER < 1 << CHUNK_SIZE_BITS, "the longest chunk has its size in its header");

static uint16_t size_of(enum codec codec, uint32_t stored)
{
    return (uint16_t)((uint32_t)codec << CHUNK_SIZE_BITS | stored);
}

/* Without the log address. */
static uint32_t stored_crc(le32 tag, le16 size, const uint8_t *stored, uint32_t stored_bytes)
{
    uint8_t covered[sizeof tag + sizeof size];
    memcpy(covered, tag.b, sizeof tag);
    memcpy(covered + sizeof tag, size.b, sizeof size);
    return crc32c(crc32c(0, covered, sizeof covered), stored, stored_bytes);
}

static le32 tag_of(const struct fingerprint *print)
{
    le32 tag;
    memcpy(tag.b, print->b, sizeof tag);
    return tag;
}

/* Compares the block with itself, eight bytes on: equal neighbours from a zero first on are zeros all the way. */
static bool all_zero(const uint8_t *block)
{
    uint64_t first;
    memcpy(&first, block, sizeof first);
    return first == 0 && memcmp(block, block + sizeof first, BLOCK_SIZE - sizeof first) == 0;
}

/* Compresses into less than `size` bytes, `room` at most. 0: it does not fit. */
static uint32_t compress(const uint8_t *data, uint32_t size, uint8_t *ret_packed, uint32_t room)
{
    int packed = LZ4_compress_default((const char *)data, (char *)ret_packed, (int)size, (int)room);
    return packed > 0 ? (uint32_t)packed : 0;
}

void digest_block(const struct fingerprinter *key, const uint8_t *block, uint8_t *room, struct block_digest *ret_digest)
{
    struct block_digest digest = {.stored = block};
    if (all_zero(block)) {
        *ret_digest = digest;
        return;
    }
    fingerprint_of(key, block, BLOCK_SIZE, &digest.print);
    uint32_t stored = compress(block, BLOCK_SIZE, room, BLOCK_STORED_MAX);
    enum codec codec = stored > 0 ? CODEC_LZ4 : CODEC_RAW;
    if (stored > 0)
        digest.stored = room;
    else
        stored = BLOCK_SIZE;
    digest.size = size_of(codec, stored);
    digest.units = (uint16_t)(chunk_room(stored) / UNIT);
    digest.crc = stored_crc(tag_of(&digest.print), put16(digest.size), digest.stored, stored);
    *ret_digest = digest;
}

enum err digest_measure(struct block_digest *digest)
{
    uint32_t codec = digest->size >> CHUNK_SIZE_BITS, stored = chunk_stored(digest->size);
    bool packed = codec == CODEC_LZ4 && stored > 0 && stored <= BLOCK_STORED_MAX;
    if (!packed && (codec != CODEC_RAW || stored != BLOCK_SIZE)) return ERR_DECODE;
    digest->units = (uint16_t)(chunk_room(stored) / UNIT);
    return OK;
}

enum err digest_check(const struct block_digest *digest)
{
    uint32_t crc = stored_crc(tag_of(&digest->print), put16(digest->size), digest->stored, chunk_stored(digest->size));
    return crc == digest->crc ? OK : ERR_CHECKSUM;
}

uint32_t address_mix(uint64_t address)
{
    if (MUTATED(MUTATE_NO_ADDRESS_IN_CRC)) return 0;
    uint64_t unit = address / UNIT;
    uint32_t mix = (uint32_t)unit ^ (uint32_t)(unit >> 32) * 0x9e3779b1u ^ 0x5bd1e995u;
    mix = (mix ^ mix >> 16) * 0x85ebca6bu; /* the finalizer of MurmurHash3: a bijection */
    mix = (mix ^ mix >> 13) * 0xc2b2ae35u;
    return mix ^ mix >> 16;
}

/* The stored bytes lie within the chunk and the chunk is as long as they need; the checksum holds at `address`. */
static enum err chunk_open(const uint8_t *chunk, uint32_t units, uint64_t address, struct disk_chunk *ret_header,
                           uint32_t *ret_stored)
{
    if (units == 0) return ERR_DECODE;
    struct disk_chunk header;
    memcpy(&header, chunk, sizeof header);
    uint32_t stored = chunk_stored(get16(header.size));
    if (stored == 0 || chunk_room(stored) != units * UNIT) return ERR_DECODE;
    uint32_t crc = stored_crc(header.tag, header.size, chunk + CHUNK_HEADER, stored) ^ address_mix(address);
    if (crc != get32(header.crc) && !MUTATED(MUTATE_SKIP_CHECK)) return ERR_CHECKSUM;
    *ret_header = header;
    *ret_stored = stored;
    return OK;
}

enum err chunk_check(const uint8_t *chunk, uint32_t units, uint64_t address)
{
    struct disk_chunk header;
    uint32_t stored;
    return chunk_open(chunk, units, address, &header, &stored);
}

enum err chunk_unpack(const uint8_t *chunk, uint32_t units, uint64_t address, const uint32_t *tag, uint8_t *ret_data,
                      uint32_t room, uint32_t *ret_size)
{
    struct disk_chunk header;
    uint32_t stored;
    TRY(chunk_open(chunk, units, address, &header, &stored));
    if (tag != NULL && *tag != get32(header.tag) && !MUTATED(MUTATE_SKIP_CHECK)) return ERR_CHECKSUM;
    const uint8_t *from = chunk + CHUNK_HEADER;
    switch (get16(header.size) >> CHUNK_SIZE_BITS) {
    case CODEC_RAW:
        if (stored > room) return ERR_DECODE;
        memcpy(ret_data, from, stored);
        *ret_size = stored;
        return OK;
    case CODEC_LZ4: {
        int size = LZ4_decompress_safe((const char *)from, (char *)ret_data, (int)stored, (int)room);
        if (size <= 0) return ERR_DECODE;
        *ret_size = (uint32_t)size;
        return OK;
    }
    default: return ERR_DECODE;
    }
}

void chunk_put(const struct block_digest *digest, uint64_t address, uint8_t *ret_chunk)
{
    struct disk_chunk header = {put32(digest->crc), tag_of(&digest->print), put16(digest->size)};
    uint32_t stored = chunk_stored(digest->size), bytes = digest->units * UNIT;
    memcpy(ret_chunk, &header, sizeof header);
    memcpy(ret_chunk + CHUNK_HEADER, digest->stored, stored);
    memset(ret_chunk + CHUNK_HEADER + stored, 0, bytes - CHUNK_HEADER - stored);
    chunk_place(ret_chunk, address);
}

uint32_t chunk_pack(const uint8_t *data, uint32_t size, uint32_t tag, uint8_t *ret_chunk)
{
    uint32_t room = chunk_room(size);
    assert(size > 0 && room <= CHUNK_UNITS_MAX * UNIT);
    uint32_t saving = room > CHUNK_HEADER + UNIT ? room - CHUNK_HEADER - UNIT : 0; /* room with one unit saved */
    uint32_t stored = saving > 0 ? compress(data, size, ret_chunk + CHUNK_HEADER, saving) : 0;
    enum codec codec = stored > 0 ? CODEC_LZ4 : CODEC_RAW;
    if (stored == 0) {
        stored = size;
        memcpy(ret_chunk + CHUNK_HEADER, data, size);
    }
    uint32_t bytes = chunk_room(stored);
    memset(ret_chunk + CHUNK_HEADER + stored, 0, bytes - CHUNK_HEADER - stored);
    struct disk_chunk header = {.tag = put32(tag), .size = put16(size_of(codec, stored))};
    header.crc = put32(stored_crc(header.tag, header.size, ret_chunk + CHUNK_HEADER, stored));
    memcpy(ret_chunk, &header, sizeof header);
    assert(bytes <= room);
    return bytes / UNIT;
}

void chunk_place(uint8_t *chunk, uint64_t address)
{
    struct disk_chunk header;
    memcpy(&header, chunk, sizeof header);
    header.crc = put32(get32(header.crc) ^ address_mix(address));
    memcpy(chunk, &header, sizeof header);
}
