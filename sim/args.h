/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the command lines of izar-sim have in common: numbers, and the rules that can be switched off.
 */
#ifndef IZAR_SIM_ARGS_H
#define IZAR_SIM_ARGS_H

#include <stdbool.h>
#include <stdint.h>

#include "store/mutation.h"

extern const char *const mutation_names[MUTATE_COUNT]; /* MUTATE_... */
extern const char *const mutation_texts[MUTATE_COUNT]; /* what is done then */

/* A number, or `fresh`: another one at each time. NULL is no number. */
bool args_number(const char *text, uint64_t *ret_number);
/* Of the rules from `first` up to `end`, with or without MUTATE_ in front. False also where this build has no switches. */
bool args_mutation(const char *name, enum mutation first, enum mutation end, enum mutation *ret_mutation);
/* " NAME NAME..." to stderr. */
void args_tell_mutations(enum mutation first, enum mutation end);
/* Under the sanitizers the product's own libraries are simulated: no rule of theirs can be switched off there. */
bool args_have_switches(void);

#endif
