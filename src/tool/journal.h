/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `load` remembers outside of the pool: every operation before it is submitted (an intent) and after it was
 * acknowledged, as lines appended to a file. A kill leaves at worst half a line at the end.
 *
 *     I generation seed volume sequence kind lba count
 *     A generation
 *
 * Generations count intents from 1 over the life of the journal. When a crash or a refusal lost an operation that was not
 * acknowledged, its sequence is used again by a later intent: the last intent of a sequence is the one that counts, and no
 * acknowledged one may ever be overtaken so.
 *
 * The content of a block follows from its operation, so nothing else need be remembered.
 */
#ifndef IZAR_TOOL_JOURNAL_H
#define IZAR_TOOL_JOURNAL_H

#include <stdio.h>

#include "base/err.h"
#include "base/mem.h"
#include "store/format.h"

enum intent_kind {
    INTENT_WRITE = 'W', /* every block its own, and says whose it is */
    INTENT_TWIN = 'T',  /* blocks of a small stock that many operations write: duplicates */
    INTENT_ZERO = 'Z',
    INTENT_UNMAP = 'U',
};

struct intent {
    uint64_t seed, sequence, lba;
    uint32_t volume, count;
    enum intent_kind kind;
    bool acknowledged;
};

/* In generation order: intents[generation - 1]. */
struct journal {
    struct intent *intents;
    uint64_t count;
    uint64_t acknowledged;
};

enum { CONTENT_HEADER = 64 };

/* Reads a journal; a file that is not there is an empty journal. ERR_DECODE: line *ret_line is wrong. */
enum err journal_read(const char *path, struct mem *mem, struct journal *ret_journal, uint64_t *ret_line);
/* False when the line could not be written. */
bool journal_intent(FILE *file, uint64_t generation, const struct intent *intent);
bool journal_acknowledge(FILE *file, uint64_t generation);

/* The bytes that block `i` of an operation has. */
void journal_content(const struct intent *intent, uint64_t generation, uint32_t i, uint8_t *ret_block);
/* Says in words what a block holds. */
const char *content_text(const uint8_t *block, char *buf, size_t size);

#endif
