/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables behind err.h, all made from the one list, so that a new error cannot lack a text or a class.
 */
#include "base/err.h"

#include <stddef.h>

struct err_entry {
    const char *name;
    enum err_class class;
    const char *text;
};

#define ERR_ENTRY(name, class, text) [name] = {#name, ERR_CLASS_##class, text},
static const struct err_entry errs[ERR_COUNT] = {ERRS(ERR_ENTRY)};
#undef ERR_ENTRY

/* A number that is no error comes from a bug or from foreign bytes; it gets a name of its own rather than a crash. */
static const struct err_entry no_err = {"ERR_?", ERR_CLASS_INVALID, "not an error of this version"};

static const struct err_entry *entry_of(enum err e)
{
    return (size_t)e < ERR_COUNT ? &errs[e] : &no_err;
}

const char *err_name(enum err e)
{
    return entry_of(e)->name;
}

const char *err_text(enum err e)
{
    return entry_of(e)->text;
}

enum err_class err_class(enum err e)
{
    return entry_of(e)->class;
}
