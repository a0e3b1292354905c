/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One rule holds the builder together: `used` < `size`, and at[used] is the terminator, before and after every call.
 */
#include "base/text.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void text_init(struct text *t, char *buf, size_t size)
{
    assert(size > 0);
    *t = (struct text){.at = buf, .size = size};
    buf[0] = '\0';
}

void text_add(struct text *t, const char *format, ...)
{
    assert(t->used < t->size && t->at[t->used] == '\0');
    size_t room = t->size - t->used;
    va_list values;
    va_start(values, format);
    int length = vsnprintf(t->at + t->used, room, format, values);
    va_end(values);
    if (length >= 0 && (size_t)length < room) {
        t->used += (size_t)length;
    } else {
        t->full = true;
        t->used += strlen(t->at + t->used);
    }
}

void text_add_hex(struct text *t, const void *at, size_t size)
{
    const uint8_t *byte = at;
    for (size_t i = 0; i < size; i++) text_add(t, "%02x", byte[i]);
}

void text_from_bytes(struct text *t, uint64_t bytes)
{
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    unsigned u = 0;
    while (u < 6 && bytes >> (10 * (u + 1)) != 0) u++;
    uint64_t whole = bytes >> (10 * u);
    uint64_t rest = bytes - (whole << (10 * u));
    unsigned tenth = u == 0 ? 0 : (unsigned)((rest >> (10 * (u - 1))) * 10 / 1024);
    if (tenth == 0)
        text_add(t, "%u %s", (unsigned)whole, unit[u]);
    else
        text_add(t, "%u.%u %s", (unsigned)whole, tenth, unit[u]);
}

/* How far a suffix shifts to the left; false when there is no such suffix. */
static bool suffix_shift(const char *suffix, unsigned *ret_shift)
{
    static const char letters[] = "KMGT";
    if (suffix[0] == '\0') {
        *ret_shift = 0;
        return true;
    }
    const char *letter = strchr(letters, suffix[0]);
    if (letter == NULL) return false;
    if (suffix[1] != '\0' && strcmp(suffix + 1, "iB") != 0) return false;
    *ret_shift = 10 * (unsigned)(letter - letters + 1);
    return true;
}

enum err text_to_u64(const char *string, uint64_t *ret_value)
{
    uint64_t value = 0;
    const char *at = string;
    for (; *at >= '0' && *at <= '9'; at++) {
        uint64_t digit = (uint64_t)(*at - '0');
        if (value > (UINT64_MAX - digit) / 10) return ERR_ARGUMENT;
        value = value * 10 + digit;
    }
    unsigned shift;
    if (at == string || !suffix_shift(at, &shift)) return ERR_ARGUMENT;
    if (value > UINT64_MAX >> shift) return ERR_ARGUMENT;
    *ret_value = value << shift;
    return OK;
}
