/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hostile numbers: what a decoder says of something plain in which one number is another one.
 */
#ifndef IZAR_TESTS_UNIT_CHANGED_H
#define IZAR_TESTS_UNIT_CHANGED_H

#include "base/bytes.h"
#include "base/err.h"

/* What is said with those bytes at that place. */
typedef enum err changed_fn(size_t at, const void *to, size_t size);

static inline enum err changed8(changed_fn *changed, size_t at, uint8_t to)
{
    return changed(at, &to, 1);
}

static inline enum err changed16(changed_fn *changed, size_t at, uint16_t to)
{
    return changed(at, put16(to).b, sizeof(le16));
}

static inline enum err changed32(changed_fn *changed, size_t at, uint32_t to)
{
    return changed(at, put32(to).b, sizeof(le32));
}

static inline enum err changed64(changed_fn *changed, size_t at, uint64_t to)
{
    return changed(at, put64(to).b, sizeof(le64));
}

#endif
