/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load --verify: is what survived a prefix of what was asked, with everything acknowledged in it?
 *
 * Operations of a volume have consecutive sequences, and the store says up to which one, S, it has them. So the volume must
 * be what all operations up to S make of an empty one, in order, block by block and byte by byte; S must not be older than
 * the newest acknowledged operation; and no acknowledged operation may have lost its sequence to a later intent.
 */
#include <inttypes.h>
#include <string.h>

#include "tool/journal.h"
#include "tool/tool.h"

enum { SHOWN_MAX = 5 };

struct checking {
    struct session *session;
    struct journal journal;
    struct store_volume_info info;
    uint64_t *by_sequence; /* generation of the last intent of each sequence up to S; 0: none */
    uint32_t *owner;       /* of each block: generation of the operation that wrote it last; 0: none */
    uint8_t *data, *expected;
    uint64_t wrong; /* disagreements */
};

static bool show(struct checking *c)
{
    return c->wrong++ < SHOWN_MAX;
}

/* ---- from the journal ---- */

static void find_last_intents(struct checking *c)
{
    for (uint64_t g = 1; g <= c->journal.count; g++) {
        const struct intent *t = &c->journal.intents[g - 1];
        if (t->volume == c->info.id && t->sequence <= c->info.published) c->by_sequence[t->sequence] = g;
    }
}

static void check_acknowledged(struct checking *c)
{
    for (uint64_t g = 1; g <= c->journal.count; g++) {
        const struct intent *t = &c->journal.intents[g - 1];
        if (t->volume != c->info.id || !t->acknowledged) continue;
        if (t->sequence <= c->info.published && c->by_sequence[t->sequence] == g) continue;
        if (show(c))
            printf("volume %u: operation %" PRIu64 " (sequence %" PRIu64
                   ") was acknowledged and is lost: the pool has sequences "
                   "up to %" PRIu64 "\n",
                   t->volume, g, t->sequence, c->info.published);
    }
}

/* Applies all operations up to S. */
static void apply(struct checking *c)
{
    for (uint64_t s = 2; s <= c->info.published; s++) { /* 1 is the CREATE */
        uint64_t g = c->by_sequence[s];
        const struct intent *t = g > 0 ? &c->journal.intents[g - 1] : NULL;
        if (t == NULL || t->lba + t->count > c->info.blocks) {
            if (show(c)) printf("volume %u: sequence %" PRIu64 " is in the pool but not in the journal\n", c->info.id, s);
            continue;
        }
        for (uint32_t i = 0; i < t->count; i++) c->owner[t->lba + i] = (uint32_t)g;
    }
}

/* ---- from the pool ---- */

struct waited_read {
    struct store_read read;
    struct io_task *task;
    bool finished;
};

static void read_done(struct store_read *read)
{
    struct waited_read *w = CONTAINER(read, struct waited_read, read);
    w->finished = true;
    io_task_wake(w->task);
}

static enum err read_blocks(struct checking *c, uint64_t lba, uint32_t count, uint64_t *ret_bad)
{
    struct waited_read w = {.task = io_task_self()};
    w.read = (struct store_read){.done = read_done, .volume = c->info.id, .lba = lba, .count = count, .data = c->data};
    store_read(c->session->store, &w.read);
    while (!w.finished) io_task_park();
    bool named = w.read.err == ERR_MEDIUM || w.read.err == ERR_PAGE_DAMAGED;
    *ret_bad = named ? w.read.bad : lba;
    return w.read.err;
}

static void show_block(struct checking *c, uint64_t lba, const uint8_t *block)
{
    char holds[128], should[128];
    if (!show(c)) return;
    content_text(block, holds, sizeof holds);
    content_text(c->expected, should, sizeof should);
    bool same = strcmp(holds, should) == 0;
    printf("volume %u block %" PRIu64 " (operation %u of %" PRIu64 "): holds %s%s, should hold %s\n", c->info.id, lba,
           c->owner[lba], c->journal.count, same ? "a torn block of " : "", holds, should);
}

static enum err check_blocks(struct checking *c, uint64_t *ret_bad)
{
    for (uint64_t lba = 0; lba < c->info.blocks;) {
        uint32_t count = (uint32_t)min64(STORE_READ_MAX, c->info.blocks - lba);
        TRY(read_blocks(c, lba, count, ret_bad));
        for (uint32_t i = 0; i < count; i++, lba++) {
            const uint8_t *block = c->data + (size_t)i * BLOCK_SIZE;
            const struct intent none = {.kind = INTENT_UNMAP};
            uint64_t g = c->owner[lba];
            const struct intent *t = g > 0 ? &c->journal.intents[g - 1] : &none;
            journal_content(t, g, (uint32_t)(lba - (g > 0 ? t->lba : lba)), c->expected);
            if (memcmp(block, c->expected, BLOCK_SIZE) != 0) show_block(c, lba, block);
        }
    }
    return OK;
}

/* ---- a volume, and all of them ---- */

static int check_volume(struct checking *c)
{
    struct mem *mem = c->session->mem;
    uint64_t bad = 0, before = c->wrong;
    c->by_sequence = mem_alloc(mem, (c->info.published + 1) * sizeof *c->by_sequence);
    c->owner = mem_alloc(mem, c->info.blocks * sizeof *c->owner);
    if (c->by_sequence == NULL || c->owner == NULL) return fail(ERR_NO_MEMORY, "volume %u", c->info.id);
    find_last_intents(c);
    check_acknowledged(c);
    apply(c);
    enum err err = check_blocks(c, &bad);
    mem_free(mem, c->by_sequence);
    mem_free(mem, c->owner);
    if (err != OK) return fail(err, "volume %u cannot be read at block %" PRIu64, c->info.id, bad);
    printf("volume %u: %" PRIu64 " blocks %s after sequence %" PRIu64 "\n", c->info.id, c->info.blocks,
           c->wrong == before ? "are as they should be" : "were looked at", c->info.published);
    return EXIT_FINE;
}

/* A volume that was acknowledged anything and is not there any more. */
static void check_missing(struct checking *c)
{
    struct store_volume_info info;
    for (uint64_t g = 1; g <= c->journal.count; g++) {
        const struct intent *t = &c->journal.intents[g - 1];
        if (t->acknowledged && !volume_info(c->session->store, t->volume, &info) && show(c))
            printf("volume %u: operation %" PRIu64 " was acknowledged, and there is no such volume\n", t->volume, g);
    }
}

static int check_all(struct checking *c)
{
    int exit = EXIT_FINE;
    check_missing(c);
    for (uint32_t from = 1; exit == EXIT_FINE && store_volume_next(c->session->store, from, &c->info) == OK;
         from = c->info.id + 1) {
        bool named = false;
        for (uint64_t i = 0; i < c->journal.count && !named; i++) named = c->journal.intents[i].volume == c->info.id;
        if (named) exit = check_volume(c);
    }
    if (exit != EXIT_FINE) return exit;
    printf("%" PRIu64 " operations, %" PRIu64 " acknowledged, %" PRIu64 " disagreements\n", c->journal.count,
           c->journal.acknowledged, c->wrong);
    return c->wrong == 0 ? EXIT_FINE : EXIT_DIFFERS;
}

int load_verify(struct session *s)
{
    struct checking c = {.session = s};
    uint64_t line;
    if (s->options->journal == NULL) return fail_usage("load --verify needs --journal");
    enum err err = journal_read(s->options->journal, s->mem, &c.journal, &line);
    if (err != OK) return fail(err, "journal %s, line %llu", s->options->journal, (unsigned long long)line);
    if (c.journal.count > UINT32_MAX) return fail(ERR_LIMIT, "journal %s", s->options->journal);
    c.data = mem_alloc(s->mem, STORE_READ_MAX * BLOCK_SIZE);
    c.expected = mem_alloc(s->mem, BLOCK_SIZE);
    if (c.data == NULL || c.expected == NULL) return fail(ERR_NO_MEMORY, "starting");
    return check_all(&c);
}
