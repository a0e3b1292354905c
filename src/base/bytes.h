/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes as they lie on disk and wire.
 *
 * le16/le32/le64 are structs of bytes: alignment 1, no padding, no unaligned access, and forgetting to convert does not
 * compile. SIZE() and AT() are the offset tables beside each format; they cannot go stale. `struct cursor` reads foreign
 * bytes with bounds checked once and an error that sticks.
 */
#ifndef IZAR_BASE_BYTES_H
#define IZAR_BASE_BYTES_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    uint8_t b[2];
} le16;
typedef struct {
    uint8_t b[4];
} le32;
typedef struct {
    uint8_t b[8];
} le64;

#define SIZE(type, bytes) static_assert(sizeof(struct type) == (bytes), "size of struct " #type)
#define AT(type, field, at) static_assert(offsetof(struct type, field) == (at), "offset of " #type "." #field)

static inline uint16_t get16(le16 v)
{
    return (uint16_t)(v.b[0] | v.b[1] << 8);
}

static inline uint32_t get32(le32 v)
{
    return (uint32_t)v.b[0] | (uint32_t)v.b[1] << 8 | (uint32_t)v.b[2] << 16 | (uint32_t)v.b[3] << 24;
}

static inline uint64_t get64(le64 v)
{
    return (uint64_t)v.b[0] | (uint64_t)v.b[1] << 8 | (uint64_t)v.b[2] << 16 | (uint64_t)v.b[3] << 24 | (uint64_t)v.b[4] << 32 |
           (uint64_t)v.b[5] << 40 | (uint64_t)v.b[6] << 48 | (uint64_t)v.b[7] << 56;
}

static inline le16 put16(uint16_t v)
{
    return (le16){{(uint8_t)v, (uint8_t)(v >> 8)}};
}

static inline le32 put32(uint32_t v)
{
    return (le32){{(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)}};
}

static inline le64 put64(uint64_t v)
{
    return (le64){{(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24), (uint8_t)(v >> 32),
                   (uint8_t)(v >> 40), (uint8_t)(v >> 48), (uint8_t)(v >> 56)}};
}

/* None of them is anything else; also of no bytes. */
static inline bool bytes_are_zero(const void *at, size_t size)
{
    const uint8_t *b = at;
    return size == 0 || (b[0] == 0 && memcmp(b, b + 1, size - 1) == 0);
}

/* Big-endian, as networks and SCSI write numbers; the caller has checked that the bytes are there. */
static inline uint16_t be16_at(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static inline uint32_t be24_at(const uint8_t *at)
{
    return (uint32_t)at[0] << 16 | (uint32_t)at[1] << 8 | at[2];
}

static inline uint32_t be32_at(const uint8_t *at)
{
    return (uint32_t)be16_at(at) << 16 | be16_at(at + 2);
}

static inline uint64_t be64_at(const uint8_t *at)
{
    return (uint64_t)be32_at(at) << 32 | be32_at(at + 4);
}

static inline void be16_to(uint8_t *at, uint16_t v)
{
    at[0] = (uint8_t)(v >> 8);
    at[1] = (uint8_t)v;
}

static inline void be24_to(uint8_t *at, uint32_t v)
{
    at[0] = (uint8_t)(v >> 16);
    be16_to(at + 1, (uint16_t)v);
}

static inline void be32_to(uint8_t *at, uint32_t v)
{
    be16_to(at, (uint16_t)(v >> 16));
    be16_to(at + 2, (uint16_t)v);
}

static inline void be64_to(uint8_t *at, uint64_t v)
{
    be32_to(at, (uint32_t)(v >> 32));
    be32_to(at + 4, (uint32_t)v);
}

/* Reads forward over foreign bytes. After the first read beyond the end `bad` stays set and every take returns NULL. */
struct cursor {
    const uint8_t *at;
    size_t left;
    bool bad;
};

static inline struct cursor cursor_of(const void *at, size_t size)
{
    return (struct cursor){at, size, false};
}

static inline const void *cursor_take(struct cursor *c, size_t size)
{
    if (c->bad || size > c->left) {
        c->bad = true;
        return NULL;
    }
    const void *taken = c->at;
    c->at += size;
    c->left -= size;
    return taken;
}

static inline uint64_t round_up64(uint64_t v, uint64_t to)
{
    return (v + to - 1) / to * to;
}

static inline uint32_t min32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static inline uint64_t min64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint32_t max32(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static inline uint64_t max64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

#endif
