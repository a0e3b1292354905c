/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables for people and JSON for programs, from the same objects. Text from the node is printed without control characters:
 * an initiator's alias does not get to move the cursor.
 */
#include <stdio.h>
#include <string.h>

#include "izar/izar.h"

enum { CELL_SIZE = 256, COLUMNS_MAX = 16 };

bool wants_json(const struct session *s)
{
    return s->options->output == OUTPUT_JSON;
}

void print_json(const json_t *json)
{
    json_dumpf(json, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII);
    printf("\n");
}

const char *member_text(const json_t *object, const char *name)
{
    const char *value = json_string_value(json_object_get(object, name));
    return value != NULL ? value : "";
}

uint64_t member_number(const json_t *object, const char *name)
{
    json_int_t n = json_integer_value(json_object_get(object, name));
    return n > 0 ? (uint64_t)n : 0;
}

const char *bytes_text(uint64_t bytes, char buf[24])
{
    struct text t;
    text_init(&t, buf, 24);
    text_from_bytes(&t, bytes);
    return buf;
}

/* ---- cells ---- */

static void add_item(struct text *t, enum cell cell, const json_t *item)
{
    if (t->used > 0) text_add(t, ", ");
    if (cell == CELL_NAMES) {
        text_add(t, "%s", json_is_string(item) ? json_string_value(item) : "");
        return;
    }
    const char *host = member_text(item, "host");
    text_add(t, "%s:%u", host[0] != '\0' ? host : member_text(item, "volume"), (unsigned)member_number(item, "lun"));
}

static void add_value(struct text *t, const json_t *value)
{
    if (json_is_string(value)) text_add(t, "%s", json_string_value(value));
    if (json_is_integer(value)) text_add(t, "%lld", (long long)json_integer_value(value));
    if (json_is_real(value)) text_add(t, "%.2f", json_real_value(value));
    if (json_is_boolean(value)) text_add(t, json_is_true(value) ? "yes" : "no");
    if (json_is_null(value)) text_add(t, "-");
}

static void cell_text(const json_t *object, const struct column *column, char buf[CELL_SIZE])
{
    const json_t *value = json_object_get(object, column->member);
    size_t i;
    json_t *item;
    struct text t;
    text_init(&t, buf, CELL_SIZE);
    switch (column->cell) {
    case CELL_TEXT:
    case CELL_NUMBER: add_value(&t, value); break;
    case CELL_BYTES: text_from_bytes(&t, member_number(object, column->member)); break;
    case CELL_COUNT: text_add(&t, "%u", (unsigned)json_array_size(value)); break;
    case CELL_MAPS:
    case CELL_NAMES: json_array_foreach(value, i, item) add_item(&t, column->cell, item); break;
    }
    for (char *at = buf; *at != '\0'; at++) {
        if ((unsigned char)*at < 0x20 || *at == 0x7f) *at = '?';
    }
    if (buf[0] == '\0') text_add(&t, "-");
}

static bool is_right(const struct column *column)
{
    return column->cell == CELL_NUMBER || column->cell == CELL_BYTES || column->cell == CELL_COUNT;
}

/* ---- lists and objects ---- */

static void print_row(const struct column *columns, size_t count, const json_t *row, const size_t *widths, bool wide)
{
    char buf[CELL_SIZE];
    const char *gap = "";
    for (size_t i = 0; i < count; i++) {
        if (columns[i].wide && !wide) continue;
        if (row != NULL)
            cell_text(row, &columns[i], buf);
        else
            snprintf(buf, sizeof buf, "%s", columns[i].title);
        bool last = i + 1 == count || (!wide && columns[i + 1].wide);
        if (is_right(&columns[i]))
            printf("%s%*s", gap, (int)widths[i], buf);
        else
            printf("%s%-*s", gap, last ? 0 : (int)widths[i], buf);
        gap = "  ";
    }
    printf("\n");
}

int print_list(struct session *s, json_t *items, const struct column *columns, size_t count)
{
    size_t widths[COLUMNS_MAX], i;
    char buf[CELL_SIZE];
    json_t *row;
    bool wide = s->options->output == OUTPUT_WIDE;
    for (size_t k = 0; k < count; k++) widths[k] = strlen(columns[k].title);
    json_array_foreach(items, i, row)
    {
        for (size_t k = 0; k < count; k++) {
            cell_text(row, &columns[k], buf);
            if (strlen(buf) > widths[k]) widths[k] = strlen(buf);
        }
    }
    if (wants_json(s)) {
        print_json(items);
    } else if (s->options->output == OUTPUT_NAME) {
        json_array_foreach(items, i, row)
        {
            cell_text(row, &columns[0], buf);
            printf("%s\n", buf);
        }
    } else {
        if (!s->options->no_headers) print_row(columns, count, NULL, widths, wide);
        json_array_foreach(items, i, row) print_row(columns, count, row, widths, wide);
    }
    json_decref(items);
    return EXIT_DONE;
}

int print_object(struct session *s, json_t *object, const struct column *lines, size_t count)
{
    char buf[CELL_SIZE];
    if (wants_json(s)) {
        print_json(object);
    } else if (s->options->output == OUTPUT_NAME) {
        cell_text(object, &lines[0], buf);
        printf("%s\n", buf);
    } else {
        for (size_t i = 0; i < count; i++) {
            cell_text(object, &lines[i], buf);
            printf("%-16s %s\n", lines[i].title, buf);
        }
    }
    json_decref(object);
    return EXIT_DONE;
}
