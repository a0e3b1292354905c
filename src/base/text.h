/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text for people: a builder over a buffer of fixed size that cannot overflow, and the numbers people write.
 *
 *     char buf[80];
 *     struct text t;
 *     text_init(&t, buf, sizeof buf);
 *     text_add(&t, "volume %u: ", id);
 *     text_from_bytes(&t, size);
 *
 * The buffer always holds a terminated string; what does not fit is cut off and `full` says so.
 */
#ifndef IZAR_BASE_TEXT_H
#define IZAR_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Lets the compiler compare a format with its arguments: the format is argument `f`, the first of its values `v`. */
#if defined(__GNUC__)
#define TEXT_FORMAT(f, v) __attribute__((format(printf, f, v)))
#else
#define TEXT_FORMAT(f, v)
#endif

struct text {
    char *at;    /* the buffer */
    size_t size; /* of the buffer, at least 1 */
    size_t used; /* characters in it, without the terminator */
    bool full;   /* something was cut off */
};

/* An empty text in `buf`, which must outlive it. */
void text_init(struct text *t, char *buf, size_t size);
/* Adds like printf. */
void text_add(struct text *t, const char *format, ...) TEXT_FORMAT(2, 3);
/* Adds `size` bytes in hexadecimal. */
void text_add_hex(struct text *t, const void *at, size_t size);
/* Adds a number of bytes as people read it, cut (never rounded up) to one decimal: "512 B", "1.5 GiB", "4 TiB". */
void text_from_bytes(struct text *t, uint64_t bytes);

/* Reads a whole string as a decimal number with an optional suffix: K, M, G, T or KiB, MiB, GiB, TiB, all powers of 1024.
 * Strict: no sign, no blanks, no fraction, nothing after it. ERR_ARGUMENT, also when it does not fit. */
enum err text_to_u64(const char *string, uint64_t *ret_value);

#endif
