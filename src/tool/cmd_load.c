/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load: random writes, zeros and unmaps of 1 to 16 blocks over one or more volumes, many under way, until --seconds or --ops
 * are over or somebody kills it. With a journal every operation is remembered before it is submitted and after it was
 * acknowledged. A full pool is no reason to stop: then only unmaps are sent until there is room again.
 */
#include <stdio.h>

#include "base/prng.h"
#include "tool/journal.h"
#include "tool/tool.h"
#include "tool/work.h"

enum { BLOCKS_MOST = 16, SIZE_DEFAULT_MIB = 256, SECONDS_DEFAULT = 10, HOT_SHARE = 16, RELIEF_OPS = 256 };

struct loading {
    struct session *session;
    struct work *work;
    struct prng prng;
    FILE *journal;       /* may be NULL */
    bool journal_failed; /* could not be written */
    uint64_t generation; /* newest */
    uint64_t submitted, acknowledged, blocks, refused;
    uint64_t relief; /* unmaps still to be sent because the pool was full */
    uint64_t began_ns;
};

/* ---- one operation ---- */

static void acknowledged(struct work_op *op)
{
    struct loading *l = work_arg(op->work);
    if (op->err != OK) return;
    l->acknowledged++;
    l->blocks += op->count;
    if (l->journal != NULL && !journal_acknowledge(l->journal, op->mark)) l->journal_failed = true;
}

static enum intent_kind choose_kind(struct loading *l)
{
    uint64_t dice = prng_below(&l->prng, 100);
    if (l->relief > 0) return INTENT_UNMAP;
    return dice < 70 ? INTENT_WRITE : dice < 82 ? INTENT_TWIN : dice < 88 ? INTENT_ZERO : INTENT_UNMAP;
}

/* Half of the operations go to a sixteenth of the volume. */
static void choose(struct loading *l, struct intent *t)
{
    const struct options *o = l->session->options;
    struct store_volume_info info = {0};
    uint32_t volumes = o->volumes > 0 ? (uint32_t)o->volumes : 1;
    *t = (struct intent){.seed = o->seed, .kind = choose_kind(l)};
    t->volume = (uint32_t)o->volume + (uint32_t)prng_below(&l->prng, volumes);
    t->count = 1 + (uint32_t)prng_below(&l->prng, min32(BLOCKS_MOST, store_write_max(l->session->store)));
    if (t->kind == INTENT_UNMAP && prng_chance(&l->prng, 50000)) t->count *= 64;
    bool there = volume_info(l->session->store, t->volume, &info);
    assert(there);
    t->count = (uint32_t)min64(t->count, info.blocks);
    uint64_t places = info.blocks - t->count + 1;
    bool hot = prng_chance(&l->prng, 500000) && places > HOT_SHARE;
    t->lba = prng_below(&l->prng, hot ? places / HOT_SHARE : places);
}

static enum entry_kind entry_of(enum intent_kind kind)
{
    switch (kind) {
    case INTENT_WRITE:
    case INTENT_TWIN: return ENTRY_NEW;
    case INTENT_ZERO: return ENTRY_ZERO;
    case INTENT_UNMAP: break;
    }
    return ENTRY_UNMAP;
}

static void send(struct loading *l, struct work_op *op)
{
    struct intent t;
    choose(l, &t);
    op->mark = ++l->generation;
    op->volume = t.volume;
    op->what = entry_of(t.kind);
    op->lba = t.lba;
    op->count = t.count;
    for (uint32_t i = 0; op->what == ENTRY_NEW && i < t.count; i++)
        journal_content(&t, op->mark, i, op->data + (size_t)i * BLOCK_SIZE);
    t.sequence = work_next_sequence(l->work, t.volume);
    if (l->journal != NULL && !journal_intent(l->journal, op->mark, &t)) l->journal_failed = true;
    l->submitted++;
    if (l->relief > 0) l->relief--;
    work_submit(l->work, op);
}

/* ---- all of them ---- */

static bool time_left(const struct loading *l)
{
    const struct options *o = l->session->options;
    uint64_t seconds = o->seconds > 0 ? o->seconds : o->ops > 0 ? UINT32_MAX : SECONDS_DEFAULT;
    if (stop_asked() || l->journal_failed || (o->ops > 0 && l->submitted >= o->ops)) return false;
    return io_now_ns(l->session->io) - l->began_ns < seconds * IO_S_NS;
}

/* After the first failure: a full pool gets relief, anything else is the end. */
static enum err settle(struct loading *l, uint64_t *ret_lba)
{
    enum err err = work_drain(l->work, ret_lba);
    if (err != ERR_NO_SPACE) return err;
    l->refused++;
    l->relief = RELIEF_OPS;
    work_resume(l->work);
    return OK;
}

static enum err load_all(struct loading *l, uint64_t *ret_lba)
{
    enum err err = OK;
    while (err == OK && time_left(l)) {
        struct work_op *op = work_take(l->work);
        if (op != NULL)
            send(l, op);
        else
            err = settle(l, ret_lba);
    }
    return err == OK ? settle(l, ret_lba) : err;
}

/* ---- the command ---- */

static int make_volumes(struct session *s)
{
    const struct options *o = s->options;
    struct store_volume_info info;
    uint64_t blocks = (o->size > 0 ? o->size : (uint64_t)SIZE_DEFAULT_MIB << 20) / BLOCK_SIZE;
    uint64_t volumes = o->volumes > 0 ? o->volumes : 1;
    if (o->volume == 0) return fail_usage("name a volume with --volume");
    if (volumes > WORK_VOLUMES_MAX || blocks == 0)
        return fail_usage("load takes 1 to %d volumes of 4K or more", WORK_VOLUMES_MAX);
    for (uint32_t id = (uint32_t)o->volume; id < o->volume + volumes; id++) {
        if (volume_info(s->store, id, &info)) continue;
        enum err err = work_change(s->io, s->store, RECORD_CREATE, id, blocks);
        if (err != OK) return fail(err, "cannot create volume %u", id);
    }
    return EXIT_FINE;
}

/* Goes on where the journal ends. */
static int open_journal(struct loading *l)
{
    const char *path = l->session->options->journal;
    struct journal before;
    uint64_t line;
    if (path == NULL) return EXIT_FINE;
    enum err err = journal_read(path, l->session->mem, &before, &line);
    if (err != OK) return fail(err, "journal %s, line %llu", path, (unsigned long long)line);
    l->generation = before.count;
    mem_free(l->session->mem, before.intents);
    l->journal = fopen(path, "a");
    if (l->journal == NULL) return fail(ERR_IO, "cannot write the journal %s", path);
    return EXIT_FINE;
}

static void tell(const struct loading *l)
{
    double seconds = (double)(io_now_ns(l->session->io) - l->began_ns) / 1e9;
    double mib = (double)l->blocks * BLOCK_SIZE / 1048576;
    if (wants_json(l->session))
        printf("{\"submitted\": %llu, \"acknowledged\": %llu, \"blocks\": %llu, \"seconds\": %.3f, \"refused\": %llu}\n",
               (unsigned long long)l->submitted, (unsigned long long)l->acknowledged, (unsigned long long)l->blocks, seconds,
               (unsigned long long)l->refused);
    else
        printf("%llu operations acknowledged in %.2f s (%.0f a second, %.0f MiB/s), the pool was full %llu times\n",
               (unsigned long long)l->acknowledged, seconds, (double)l->acknowledged / seconds, mib / seconds,
               (unsigned long long)l->refused);
}

static int load_run(struct loading *l)
{
    struct session *s = l->session;
    struct work_config config = {.io = s->io,
                                 .store = s->store,
                                 .mem = s->mem,
                                 .done = acknowledged,
                                 .arg = l,
                                 .depth = s->options->depth > 0 ? (uint32_t)s->options->depth : DEPTH_DEFAULT,
                                 .blocks = min32(BLOCKS_MOST, store_write_max(s->store))};
    uint64_t lba = 0;
    enum err err = work_open(&config, &l->work);
    if (err != OK) return fail(err, "starting");
    prng_init(&l->prng, s->options->seed ^ l->generation << 20);
    l->began_ns = io_now_ns(s->io);
    err = load_all(l, &lba);
    tell(l);
    if (l->journal_failed) return fail(ERR_IO, "cannot write the journal %s", s->options->journal);
    return err == OK ? EXIT_FINE : fail(err, "load stopped at block %llu", (unsigned long long)lba);
}

int cmd_load(struct session *s)
{
    if (s->options->verify) return load_verify(s);
    struct loading l = {.session = s};
    int exit = make_volumes(s);
    if (exit == EXIT_FINE) exit = open_journal(&l);
    if (exit == EXIT_FINE) exit = load_run(&l);
    if (l.journal != NULL) fclose(l.journal);
    return exit;
}
