/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flags of izar: one table; they may stand anywhere on the line.
 */
#ifndef IZAR_IZAR_FLAGS_H
#define IZAR_IZAR_FLAGS_H

#include "izar/izar.h"

enum { WORDS_MAX = 8 };

/* What is not a flag. */
struct words {
    uint32_t count;
    const char *at[WORDS_MAX];
};

/* Both return EXIT_DONE, or say what is wrong and return EXIT_USAGE. */
int flags_parse(int argc, char **argv, struct options *ret_options, struct words *ret_words);
/* `name` is one of the table. */
bool flag_is_given(const struct options *o, const char *name);
/* Only flags that mean something to the command were given. */
int flags_check(const struct options *o, const struct command *command);
/* Prints those of a command, or the common ones (NULL). */
void flags_print(const struct command *command);
/* A size as people write it: K, M, G, T and KiB ... are powers of 1024, KB, MB, GB, TB powers of 1000. */
bool size_parse(const char *text, uint64_t *ret_bytes);

#endif
