/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors at the edge of HTTP. `title` is the error's own sentence and always the same for one code; `detail` is about this
 * request.
 */
#include "api/problem.h"

#include <stdarg.h>
#include <stdio.h>

enum err problem_tell(struct problem *p, enum err err, const char *detail, ...)
{
    va_list values;
    p->err = err;
    va_start(values, detail);
    vsnprintf(p->detail, sizeof p->detail, detail, values);
    va_end(values);
    return err;
}

void problem_help(struct problem *p, const char *remedy, ...)
{
    va_list values;
    va_start(values, remedy);
    vsnprintf(p->remedy, sizeof p->remedy, remedy, values);
    va_end(values);
}

int problem_status(const struct problem *p)
{
    if (p->status != 0) return p->status;
    if (p->err == ERR_PERMISSION || p->err == ERR_DENIED) return 403; /* nothing is wrong with the request itself */
    switch (err_class(p->err)) {
    case ERR_CLASS_FINE: return 200;
    case ERR_CLASS_INVALID: return 400;
    case ERR_CLASS_NOT_FOUND: return 404;
    case ERR_CLASS_EXISTS:
    case ERR_CLASS_BUSY:
    case ERR_CLASS_FOREIGN:
    case ERR_CLASS_DIFFERENT: return 409;
    case ERR_CLASS_FULL: return 507;
    case ERR_CLASS_CORRUPT:
    case ERR_CLASS_DEVICE: return 500;
    case ERR_CLASS_STOPPED: return 503;
    }
    return 500;
}

/* What a request named may be cut in the middle of a character, or none; JSON is UTF-8. */
static void only_ascii(const char *from, char *to)
{
    do {
        *to++ = (unsigned char)*from < 0x80 ? *from : '?';
    } while (*from++ != '\0');
}

json_t *problem_json(const struct problem *p)
{
    char detail[sizeof p->detail], remedy[sizeof p->remedy];
    only_ascii(p->detail, detail);
    only_ascii(p->remedy, remedy);
    enum err_class class = err_class(p->err);
    bool retryable = class == ERR_CLASS_BUSY || class == ERR_CLASS_STOPPED;
    json_t *o = json_pack("{s:s, s:s, s:i, s:s, s:s, s:b}", "type", "about:blank", "title", err_text(p->err), "status",
                          problem_status(p), "code", err_name(p->err), "detail", detail, "retryable", retryable);
    if (o != NULL && remedy[0] != '\0') json_object_set_new(o, "remedy", json_string(remedy));
    return o;
}
