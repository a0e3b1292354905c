/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines of text, so that a person can follow what happened. Half of the content compresses well, a quarter not at all.
 */
#include "tool/journal.h"

#include <inttypes.h>
#include <string.h>

#include "base/hash.h"
#include "base/prng.h"

#define CONTENT_MAGIC 0x44414f4c52415a49u /* "IZARLOAD" */

enum { TWINS = 64, LINE_ROOM = 160 };

/* ---- lines ---- */

bool journal_intent(FILE *file, uint64_t generation, const struct intent *t)
{
    int n = fprintf(file, "I %" PRIu64 " %" PRIu64 " %u %" PRIu64 " %c %" PRIu64 " %u\n", generation, t->seed, t->volume,
                    t->sequence, (char)t->kind, t->lba, t->count);
    return n > 0 && fflush(file) == 0; /* one write of the system a line */
}

bool journal_acknowledge(FILE *file, uint64_t generation)
{
    return fprintf(file, "A %" PRIu64 "\n", generation) > 0 && fflush(file) == 0;
}

static bool line_take(const char *line, struct journal *j)
{
    uint64_t generation;
    struct intent t = {0};
    char kind;
    if (sscanf(line, "A %" SCNu64, &generation) == 1) {
        if (generation == 0 || generation > j->count) return false;
        j->acknowledged += !j->intents[generation - 1].acknowledged;
        j->intents[generation - 1].acknowledged = true;
        return true;
    }
    if (sscanf(line, "I %" SCNu64 " %" SCNu64 " %u %" SCNu64 " %c %" SCNu64 " %u", &generation, &t.seed, &t.volume, &t.sequence,
               &kind, &t.lba, &t.count) != 7)
        return false;
    t.kind = (enum intent_kind)kind;
    if (generation != j->count + 1 || t.sequence == 0 || t.volume == 0 || strchr("WTZU", kind) == NULL) return false;
    j->intents[j->count++] = t;
    return true;
}

static uint64_t count_lines(FILE *file)
{
    char line[LINE_ROOM];
    uint64_t lines = 0;
    while (fgets(line, sizeof line, file) != NULL) lines++;
    rewind(file);
    return lines;
}

enum err journal_read(const char *path, struct mem *mem, struct journal *ret_journal, uint64_t *ret_line)
{
    struct journal j = {0};
    char line[LINE_ROOM];
    bool good = true;
    *ret_line = 0;
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        *ret_journal = j;
        return OK;
    }
    j.intents = mem_alloc(mem, (size_t)(count_lines(file) + 1) * sizeof *j.intents);
    while (good && j.intents != NULL && fgets(line, sizeof line, file) != NULL) {
        ++*ret_line;
        if (strchr(line, '\n') == NULL) break; /* the end that a kill cut off */
        good = line_take(line, &j);
    }
    fclose(file);
    if (j.intents == NULL) return ERR_NO_MEMORY;
    if (!good) return ERR_DECODE;
    *ret_journal = j;
    return OK;
}

/* ---- content ---- */

static void put(uint8_t *block, uint32_t at, uint64_t value)
{
    le64 v = put64(value);
    memcpy(block + at, v.b, sizeof v.b);
}

static uint64_t get(const uint8_t *block, uint32_t at)
{
    le64 v;
    memcpy(v.b, block + at, sizeof v.b);
    return get64(v);
}

/* Header, then random bytes, up to all of the block. */
static void fill(uint8_t *block, uint64_t volume, uint64_t lba, uint64_t generation, uint64_t seed)
{
    struct prng prng;
    put(block, 0, CONTENT_MAGIC);
    put(block, 8, volume);
    put(block, 16, lba);
    put(block, 24, generation);
    put(block, 32, seed);
    put(block, 40, hash64(block, 40, 0));
    memset(block + 48, 0, BLOCK_SIZE - 48);
    prng_init(&prng, get(block, 40));
    uint32_t random = generation % 4 == 0 ? BLOCK_SIZE - CONTENT_HEADER : (uint32_t)(generation % 4) * 640;
    prng_fill(&prng, block + CONTENT_HEADER, random);
}

void journal_content(const struct intent *t, uint64_t generation, uint32_t i, uint8_t *ret_block)
{
    switch (t->kind) {
    case INTENT_WRITE: fill(ret_block, t->volume, t->lba + i, generation, t->seed); break;
    case INTENT_TWIN: fill(ret_block, 0, (generation + i) % TWINS, (generation + i) % TWINS, 0); break;
    case INTENT_ZERO:
    case INTENT_UNMAP: memset(ret_block, 0, BLOCK_SIZE); break;
    }
}

const char *content_text(const uint8_t *block, char *buf, size_t size)
{
    uint32_t zeros = 0;
    while (zeros < BLOCK_SIZE && block[zeros] == 0) zeros++;
    bool ours = get(block, 0) == CONTENT_MAGIC && get(block, 40) == hash64(block, 40, 0);
    if (zeros == BLOCK_SIZE)
        snprintf(buf, size, "zeros");
    else if (ours)
        snprintf(buf, size, "volume %" PRIu64 " block %" PRIu64 " generation %" PRIu64 " seed %" PRIu64, get(block, 8),
                 get(block, 16), get(block, 24), get(block, 32));
    else
        snprintf(buf, size, "foreign bytes %016" PRIx64 "...", get(block, 0));
    return buf;
}
