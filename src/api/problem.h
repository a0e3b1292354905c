/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why a request was refused, for the person behind it: what, why, and what helps. On the wire it is application/problem+json
 * (RFC 9457) with the extra members `code`, `remedy` and `retryable`.
 */
#ifndef IZAR_API_PROBLEM_H
#define IZAR_API_PROBLEM_H

#include <jansson.h>

#include "base/text.h"

struct problem {
    enum err err;
    int status;       /* of HTTP where it says more than the class of `err` (405, 413, 415); else 0 */
    char detail[384]; /* what and why, one sentence without a full stop */
    char remedy[256]; /* what helps, maybe a command; may be empty */
};

/* Fills in what happened and returns `err`, so that `return problem_tell(...)` reads well. */
enum err problem_tell(struct problem *p, enum err err, const char *detail, ...) TEXT_FORMAT(3, 4);
/* Adds what helps. */
void problem_help(struct problem *p, const char *remedy, ...) TEXT_FORMAT(2, 3);

/* The status of HTTP: the one place where errors become that, by their class. */
int problem_status(const struct problem *p);
/* A new object; the caller's. NULL without memory. */
json_t *problem_json(const struct problem *p);

#endif
