/* SPDX-License-Identifier: Apache-2.0 */
/*
 * write: a file becomes a volume's content. Fetching (through the seam), digesting (CPU jobs) and preparing overlap: every
 * operation fetches its own stretch of the file and goes on as soon as it has it. Standard input is read in place, in order;
 * while it lets us wait, the store waits too.
 */
#include <stdio.h>
#include <string.h>

#include "tool/tool.h"
#include "tool/work.h"

struct writing {
    struct session *session;
    struct work *work;
    struct io_file *file;   /* NULL: stdin */
    uint64_t size, fetched; /* bytes of the file; stdin: so far */
    uint64_t written;       /* bytes acknowledged */
    uint64_t began_ns, told_ns;
    struct store_stats before;
};

static double seconds_since(const struct writing *w)
{
    return (double)(io_now_ns(w->session->io) - w->began_ns) / 1e9;
}

/* ---- telling ---- */

static void tell_progress(struct writing *w)
{
    char done[32];
    struct text t;
    uint64_t now = io_now_ns(w->session->io);
    if (w->session->options->quiet || now - w->told_ns < IO_S_NS) return;
    w->told_ns = now;
    text_init(&t, done, sizeof done);
    text_from_bytes(&t, w->written);
    fprintf(stderr, "\r%s, %.0f MiB/s ", done, (double)w->written / 1048576 / seconds_since(w));
    if (w->file != NULL && w->size > 0) fprintf(stderr, "%3u %% ", (unsigned)(w->written * 100 / w->size));
}

static void tell_text(const struct writing *w, const struct store_stats *d, double seconds, double saved)
{
    char size[32], stored[32];
    struct text t;
    text_init(&t, size, sizeof size);
    text_from_bytes(&t, w->written);
    text_init(&t, stored, sizeof stored);
    text_from_bytes(&t, d->stored_bytes);
    printf("volume %u: %s in %.2f s (%.0f MiB/s): %llu blocks new, %llu duplicate, %llu zero; %s stored, %.1f %% saved\n",
           (uint32_t)w->session->options->volume, size, seconds, (double)w->written / 1048576 / seconds,
           (unsigned long long)d->new_blocks, (unsigned long long)d->dup_blocks,
           (unsigned long long)(d->zero_blocks + d->unmapped_blocks), stored, saved);
}

static void tell_savings(const struct writing *w)
{
    struct store_stats d;
    store_stats(w->session->store, &d);
    d.new_blocks -= w->before.new_blocks;
    d.dup_blocks -= w->before.dup_blocks;
    d.zero_blocks -= w->before.zero_blocks;
    d.unmapped_blocks -= w->before.unmapped_blocks;
    d.stored_bytes -= w->before.stored_bytes;
    double seconds = seconds_since(w), bytes = w->written > 0 ? (double)w->written : 1;
    double saved = 100.0 - (double)d.stored_bytes * 100.0 / bytes;
    if (w->told_ns > w->began_ns) fputc('\n', stderr);
    if (!wants_json(w->session)) {
        tell_text(w, &d, seconds, saved);
        return;
    }
    printf("{\"volume\": %u, \"bytes\": %llu, \"seconds\": %.3f, \"new_blocks\": %llu, \"dup_blocks\": %llu, "
           "\"zero_blocks\": %llu, \"stored_bytes\": %llu, \"saved_percent\": %.2f}\n",
           (uint32_t)w->session->options->volume, (unsigned long long)w->written, seconds, (unsigned long long)d.new_blocks,
           (unsigned long long)d.dup_blocks, (unsigned long long)(d.zero_blocks + d.unmapped_blocks),
           (unsigned long long)d.stored_bytes, saved);
}

/* ---- the way of an operation ---- */

static void written(struct work_op *op)
{
    struct writing *w = work_arg(op->work);
    if (op->err == OK) w->written += op->mark;
}

/* The rest of the last block reads as zeros. */
static void op_pad(struct work_op *op, uint64_t bytes)
{
    op->mark = bytes;
    op->count = (uint32_t)((bytes + BLOCK_SIZE - 1) / BLOCK_SIZE);
    memset(op->data + bytes, 0, (size_t)op->count * BLOCK_SIZE - bytes);
}

static void fetched(struct io_op *fetch)
{
    struct work_op *op = CONTAINER(fetch, struct work_op, fetch);
    if (fetch->err != OK)
        work_release(op->work, op, fetch->err);
    else
        work_submit(op->work, op);
}

static void fetch_from_file(struct writing *w, struct work_op *op, uint64_t room)
{
    uint64_t bytes = min64(room, w->size - w->fetched);
    op_pad(op, bytes);
    op->fetch.done = fetched;
    io_read(w->session->io, w->file, w->fetched, op->data, (uint32_t)bytes, &op->fetch);
    w->fetched += bytes;
}

/* False at the end of the input. */
static bool fetch_from_stdin(struct writing *w, struct work_op *op, uint64_t room)
{
    size_t bytes = fread(op->data, 1, room, stdin);
    if (bytes == 0) {
        work_release(w->work, op, ferror(stdin) ? ERR_IO : OK);
        return false;
    }
    op_pad(op, bytes);
    w->fetched += bytes;
    work_submit(w->work, op);
    return true;
}

static void write_all(struct writing *w)
{
    uint64_t room = (uint64_t)store_write_max(w->session->store) * BLOCK_SIZE;
    while ((w->file == NULL || w->fetched < w->size) && !stop_asked()) {
        struct work_op *op = work_take(w->work);
        if (op == NULL) return;
        op->volume = (uint32_t)w->session->options->volume;
        op->what = ENTRY_NEW;
        op->lba = w->fetched / BLOCK_SIZE;
        if (w->file != NULL)
            fetch_from_file(w, op, room);
        else if (!fetch_from_stdin(w, op, room))
            return;
        tell_progress(w);
    }
}

/* ---- the command ---- */

static int open_source(struct session *s, struct writing *w)
{
    const char *path = s->options->operand_count > 0 ? s->options->operands[0] : "-";
    struct io_file_info info;
    if (strcmp(path, "-") == 0) return EXIT_FINE;
    enum err err = io_file_open(s->io, path, IO_OPEN_READ_ONLY, &w->file);
    if (err == OK) err = io_file_info(w->file, &info);
    if (err != OK) return fail(err, "cannot read %s", path);
    w->size = info.size;
    return EXIT_FINE;
}

/* The volume to write to, made when it is not there. */
static int open_target(struct session *s, const struct writing *w)
{
    const struct options *o = s->options;
    struct store_volume_info info;
    uint32_t id = (uint32_t)o->volume;
    if (id == 0) return fail_usage("name a volume with --volume");
    uint64_t blocks = ((o->size > 0 ? o->size : w->size) + BLOCK_SIZE - 1) / BLOCK_SIZE;
    if (!volume_info(s->store, id, &info)) {
        if (blocks == 0) return fail_usage("volume %u does not exist and its size is not known: give --size", id);
        enum err err = work_change(s->io, s->store, RECORD_CREATE, id, blocks);
        if (err != OK) return fail(err, "cannot create volume %u", id);
        if (!volume_info(s->store, id, &info)) return fail(ERR_NO_VOLUME, "volume %u, just created", id);
    }
    if ((w->size + BLOCK_SIZE - 1) / BLOCK_SIZE > info.blocks)
        return fail(ERR_RANGE, "volume %u has %llu blocks, the file needs %llu", id, (unsigned long long)info.blocks,
                    (unsigned long long)((w->size + BLOCK_SIZE - 1) / BLOCK_SIZE));
    return EXIT_FINE;
}

static int write_volume(struct session *s, struct writing *w)
{
    const struct options *o = s->options;
    uint64_t lba = 0;
    struct work_config config = {.io = s->io,
                                 .store = s->store,
                                 .mem = s->mem,
                                 .done = written,
                                 .arg = w,
                                 .depth = o->depth > 0 ? (uint32_t)o->depth : DEPTH_DEFAULT,
                                 .zeros = o->sparse ? ENTRY_UNMAP : ENTRY_ZERO};
    enum err err = work_open(&config, &w->work);
    if (err != OK) return fail(err, "starting");
    store_stats(s->store, &w->before);
    w->began_ns = w->told_ns = io_now_ns(s->io);
    write_all(w);
    err = work_drain(w->work, &lba);
    tell_savings(w);
    if (err != OK) return fail(err, "cannot write volume %u at block %llu", (uint32_t)o->volume, (unsigned long long)lba);
    return stop_asked() ? fail(ERR_STOPPED, "volume %u is written in part", (uint32_t)o->volume) : EXIT_FINE;
}

int cmd_write(struct session *s)
{
    struct writing w = {.session = s};
    int exit = open_source(s, &w);
    if (exit == EXIT_FINE) exit = open_target(s, &w);
    if (exit == EXIT_FINE) exit = write_volume(s, &w);
    io_file_close(w.file);
    return exit;
}
