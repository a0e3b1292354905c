/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of format.txt, a section at a time, for the tests that hold codecs to them. GOLDEN_DIR says where it is.
 */
#ifndef IZAR_TESTS_GOLDEN_KEPT_H
#define IZAR_TESTS_GOLDEN_KEPT_H

#include <stdlib.h>

#include "base/bytes.h"
#include "check.h"

struct field {
    char name[40];
    size_t at, size;
};

struct golden {
    char section[40];
    uint8_t bytes[8192];
    size_t size;
    struct field fields[200];
    uint32_t count;
};

static inline void add_byte(struct golden *g, uint8_t byte)
{
    if (g->size < sizeof g->bytes) g->bytes[g->size++] = byte;
    g->fields[g->count - 1].size++;
}

/* "0a 0b 00 *30": bytes, and the last one repeated. */
static inline void add_values(struct golden *g, const char *at)
{
    for (char *end;; at = end) {
        while (*at == ' ') at++;
        bool repeat = *at == '*';
        unsigned long value = strtoul(at + repeat, &end, repeat ? 10 : 16);
        if (end == at + repeat) return;
        uint8_t last = g->size > 0 ? g->bytes[g->size - 1] : 0;
        if (!repeat) add_byte(g, (uint8_t)value);
        for (unsigned long i = 1; repeat && i < value; i++) add_byte(g, last);
    }
}

static inline void add_line(struct golden *g, const char *line)
{
    const char *equals = strstr(line, " = ");
    if (equals == NULL) {
        if (line[0] == ' ' && g->count > 0) add_values(g, line);
        return;
    }
    struct field *field = &g->fields[g->count++];
    size_t length = strcspn(line, " ");
    *field = (struct field){.at = g->size};
    memcpy(field->name, line, length < sizeof field->name ? length : sizeof field->name - 1);
    add_values(g, equals + 3);
}

/* The bytes of a section; none when it is not there, which no check forgives. */
static inline const struct golden *kept(const char *section)
{
    static struct golden g;
    char path[4096], line[512];
    const char *directory = getenv("GOLDEN_DIR");
    snprintf(path, sizeof path, "%s/format.txt", directory != NULL ? directory : ".");
    memset(&g, 0, sizeof g);
    snprintf(g.section, sizeof g.section, "%s", section);
    FILE *file = fopen(path, "r");
    if (file == NULL) return &g;
    bool inside = false;
    while (fgets(line, sizeof line, file) != NULL) {
        if (line[0] == '[') inside = strncmp(line + 1, section, strlen(section)) == 0 && line[1 + strlen(section)] == ']';
        if (inside && line[0] != '[' && line[0] != '#') add_line(&g, line);
    }
    fclose(file);
    return &g;
}

/* True when `at` is exactly these bytes; else names the fields that differ. */
static inline bool is_kept(const struct golden *g, const void *at, size_t size)
{
    bool same = g->size > 0 && g->size == size;
    if (!same) printf("# %s: %zu bytes, expected %zu\n", g->section, size, g->size);
    for (uint32_t i = 0; i < g->count && same; i++) {
        const struct field *field = &g->fields[i];
        if (memcmp(g->bytes + field->at, (const uint8_t *)at + field->at, field->size) == 0) continue;
        printf("# %s.%s\n", g->section, field->name);
        check_hex("expected", g->bytes, field->at, field->at + min32(16, (uint32_t)field->size), g->size);
        check_hex("got     ", at, field->at, field->at + min32(16, (uint32_t)field->size), size);
        same = false;
    }
    return same;
}

#endif
