/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers and rules by name.
 */
#include "sim/args.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/text.h"

#define MUTATION_NAME(name, text) [name] = #name,
const char *const mutation_names[MUTATE_COUNT] = {MUTATIONS(MUTATION_NAME)};
#undef MUTATION_NAME
#define MUTATION_TEXT(name, text) [name] = text,
const char *const mutation_texts[MUTATE_COUNT] = {MUTATIONS(MUTATION_TEXT)};
#undef MUTATION_TEXT

enum { PREFIX = sizeof "MUTATE_" - 1 };

bool args_number(const char *text, uint64_t *ret_number)
{
    if (text == NULL) return false;
    if (strcmp(text, "fresh") != 0) return text_to_u64(text, ret_number) == OK;
    *ret_number = (uint64_t)time(NULL) * 10000 % 1000000000000;
    return true;
}

bool args_have_switches(void)
{
#ifdef IZAR_LIBRARIES
    return false;
#else
    return true;
#endif
}

bool args_mutation(const char *name, enum mutation first, enum mutation end, enum mutation *ret_mutation)
{
    for (enum mutation m = first; name != NULL && args_have_switches() && m < end; m++) {
        if (strcmp(mutation_names[m], name) != 0 && strcmp(mutation_names[m] + PREFIX, name) != 0) continue;
        *ret_mutation = m;
        return true;
    }
    return false;
}

void args_tell_mutations(enum mutation first, enum mutation end)
{
    for (enum mutation m = first; args_have_switches() && m < end; m++) fprintf(stderr, " %s", mutation_names[m] + PREFIX);
}
