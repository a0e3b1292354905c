/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading members by a table. jansson has already refused what is not JSON, bad UTF-8, NUL in strings and (as we ask it to)
 * members given twice.
 */
#include "api/fields.h"

#include <string.h>

static const struct field *field_named(const struct field *fields, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(fields[i].name, name) == 0) return &fields[i];
    }
    return NULL;
}

static enum err read_text(const struct field *f, const json_t *value, struct problem *p)
{
    if (!json_is_string(value)) return problem_tell(p, ERR_ARGUMENT, "\"%s\" must be a string", f->name);
    const char *s = json_string_value(value);
    size_t length = strlen(s);
    if (length < f->min)
        return problem_tell(p, ERR_ARGUMENT, "\"%s\" must not be shorter than %u characters", f->name, (unsigned)f->min);
    if (length >= f->max) {
        return problem_tell(p, ERR_ARGUMENT, "\"%s\" has %u characters, %u at most", f->name, (unsigned)length,
                            (unsigned)f->max - 1);
    }
    for (const char *at = s; *at != '\0'; at++) {
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            return problem_tell(p, ERR_ARGUMENT, "\"%s\" holds a control character", f->name);
    }
    memcpy(f->to, s, length + 1);
    return OK;
}

static enum err read_number(const struct field *f, const json_t *value, struct problem *p)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0) {
        return problem_tell(p, ERR_ARGUMENT, "\"%s\" must be a whole number, not negative", f->name);
    }
    uint64_t n = (uint64_t)json_integer_value(value);
    if (n < f->min || n > f->max) {
        return problem_tell(p, ERR_ARGUMENT, "\"%s\" is %llu; it must be from %llu to %llu", f->name, (unsigned long long)n,
                            (unsigned long long)f->min, (unsigned long long)f->max);
    }
    memcpy(f->to, &n, sizeof n);
    return OK;
}

static enum err read_one(const struct field *f, const json_t *value, struct problem *p)
{
    switch (f->kind) {
    case FIELD_TEXT: return read_text(f, value, p);
    case FIELD_NUMBER: return read_number(f, value, p);
    case FIELD_FLAG:
        if (!json_is_boolean(value)) return problem_tell(p, ERR_ARGUMENT, "\"%s\" must be true or false", f->name);
        *(bool *)f->to = json_is_true(value);
        return OK;
    case FIELD_VALUE: break;
    }
    *(const json_t **)f->to = value;
    return OK;
}

static enum err refuse_unknown(const char *name, const struct field *fields, size_t count, struct problem *p)
{
    char known[256];
    struct text t;
    text_init(&t, known, sizeof known);
    for (size_t i = 0; i < count; i++) text_add(&t, "%s%s", i > 0 ? ", " : "", fields[i].name);
    problem_help(p, "known here: %s", count > 0 ? known : "no members at all");
    return problem_tell(p, ERR_ARGUMENT, "unknown member \"%.64s\"", name);
}

enum err fields_read(const json_t *object, const struct field *fields, size_t count, struct problem *ret_problem)
{
    const char *name;
    json_t *value;
    if (!json_is_object(object)) return problem_tell(ret_problem, ERR_ARGUMENT, "a JSON object is expected");
    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        const struct field *f = field_named(fields, count, name);
        if (f == NULL) return refuse_unknown(name, fields, count, ret_problem);
        TRY(read_one(f, value, ret_problem));
    }
    for (size_t i = 0; i < count; i++) {
        if (fields[i].required && json_object_get(object, fields[i].name) == NULL) {
            return problem_tell(ret_problem, ERR_ARGUMENT, "member \"%s\" is missing", fields[i].name);
        }
    }
    return OK;
}
