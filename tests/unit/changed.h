/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hostile numbers: what a decoder says of something plain in which one number is another one.
 */
#ifndef IZAR_TESTS_UNIT_CHANGED_H
#define IZAR_TESTS_UNIT_CHANGED_H

#include "base/bytes.h"

/* changed(at, to, size) is what is said with those bytes at that place; this makes changed8(at, to) to changed64(at, to). */
#define CHANGED_NUMBERS(changed)                                                                                               \
    static inline enum err changed##8(size_t at, uint8_t to)                                                                   \
    {                                                                                                                          \
        return changed(at, &to, 1);                                                                                            \
    }                                                                                                                          \
    static inline enum err changed##16(size_t at, uint16_t to)                                                                 \
    {                                                                                                                          \
        return changed(at, put16(to).b, sizeof(le16));                                                                         \
    }                                                                                                                          \
    static inline enum err changed##32(size_t at, uint32_t to)                                                                 \
    {                                                                                                                          \
        return changed(at, put32(to).b, sizeof(le32));                                                                         \
    }                                                                                                                          \
    static inline enum err changed##64(size_t at, uint64_t to)                                                                 \
    {                                                                                                                          \
        return changed(at, put64(to).b, sizeof(le64));                                                                         \
    }

#endif
