/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Members of a JSON object that came from outside, read by a table: what is asked for, of which kind, between which limits,
 * into which variable. A member that the table does not name is refused with its name, so a typo never passes silently.
 */
#ifndef IZAR_API_FIELDS_H
#define IZAR_API_FIELDS_H

#include "api/problem.h"

enum field_kind {
    FIELD_TEXT,   /* `to` is a char array of `max` bytes with the terminator; no control characters */
    FIELD_NUMBER, /* `to` is a uint64_t between `min` and `max` */
    FIELD_FLAG,   /* `to` is a bool */
    FIELD_VALUE,  /* `to` is a const json_t *, borrowed from the object: an array or object for the caller to read */
};

struct field {
    const char *name;
    enum field_kind kind;
    void *to;
    uint64_t min, max;
    bool required;
};

/* Reads `object` by the table; variables of members that are not there keep their values. ERR_ARGUMENT: ret_problem says
 * which member and why. */
enum err fields_read(const json_t *object, const struct field *fields, size_t count, struct problem *ret_problem);

#endif
