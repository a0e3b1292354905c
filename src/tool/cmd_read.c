/* SPDX-License-Identifier: Apache-2.0 */
/*
 * read and verify: a volume's content from block 0, some stretches ahead, handled in order. `read` hands each stretch to a
 * file or stdout, `verify` compares it with the same stretch of a file that was fetched meanwhile.
 */
#include <stdio.h>
#include <string.h>

#include "tool/tool.h"

enum { LANES = 8, STRETCH = STORE_READ_MAX };

struct reading;

/* One stretch under way. */
struct lane {
    struct reading *reading;
    struct store_read read;
    struct io_op op;   /* on the file: fetches before, or stores after */
    uint8_t *data;     /* of the volume */
    uint8_t *expected; /* of the file */
    uint64_t bytes;    /* to handle */
    uint32_t pending;  /* completions awaited */
};

struct reading {
    struct session *session;
    struct io_file *file; /* NULL: stdout */
    bool compare;
    uint64_t size; /* bytes to read */
    uint64_t next; /* byte at which the next stretch begins */
    struct lane lanes[LANES];
    struct io_task *task;
    uint64_t began_ns;
};

/* ---- a stretch ---- */

static void lane_came(struct lane *lane)
{
    assert(lane->pending > 0);
    if (--lane->pending == 0) io_task_wake(lane->reading->task);
}

static void read_done(struct store_read *read)
{
    lane_came(CONTAINER(read, struct lane, read));
}

static void file_done(struct io_op *op)
{
    lane_came(CONTAINER(op, struct lane, op));
}

static void lane_wait(const struct lane *lane)
{
    while (lane->pending > 0) io_task_park();
}

static void lane_start(struct reading *r, struct lane *lane)
{
    lane->bytes = min64((uint64_t)STRETCH * BLOCK_SIZE, r->size - r->next);
    lane->read = (struct store_read){.done = read_done,
                                     .volume = (uint32_t)r->session->options->volume,
                                     .lba = r->next / BLOCK_SIZE,
                                     .data = lane->data,
                                     .count = (uint32_t)((lane->bytes + BLOCK_SIZE - 1) / BLOCK_SIZE)};
    lane->op = (struct io_op){.done = file_done};
    lane->pending = r->compare ? 2 : 1;
    if (r->compare) io_read(r->session->io, r->file, r->next, lane->expected, (uint32_t)lane->bytes, &lane->op);
    store_read(r->session->store, &lane->read);
    r->next += lane->bytes;
}

static int lane_compare(const struct lane *lane)
{
    uint64_t from = lane->read.lba * BLOCK_SIZE, length = (uint64_t)lane->read.count * BLOCK_SIZE;
    if (lane->op.err != OK) return fail(lane->op.err, "cannot read the file at byte %llu", (unsigned long long)from);
    memset(lane->expected + lane->bytes, 0, length - lane->bytes);
    if (memcmp(lane->data, lane->expected, length) == 0) return EXIT_FINE;
    uint64_t at = 0;
    while (lane->data[at] == lane->expected[at]) at++;
    printf("volume %u differs from the file at byte %llu (block %llu)\n", lane->read.volume, (unsigned long long)(from + at),
           (unsigned long long)((from + at) / BLOCK_SIZE));
    return EXIT_DIFFERS;
}

static int lane_put(struct reading *r, struct lane *lane)
{
    if (r->file == NULL) {
        size_t put = fwrite(lane->data, 1, lane->bytes, stdout);
        return put == lane->bytes ? EXIT_FINE : fail(ERR_IO, "cannot write to stdout");
    }
    lane->pending = 1;
    io_write(r->session->io, r->file, lane->read.lba * BLOCK_SIZE, lane->data, (uint32_t)lane->bytes, 0, &lane->op);
    return EXIT_FINE;
}

/* Waits for a stretch and handles it. */
static int lane_finish(struct reading *r, struct lane *lane)
{
    lane_wait(lane);
    if (lane->read.err != OK) {
        uint64_t bad = lane->read.err == ERR_MEDIUM || lane->read.err == ERR_PAGE_DAMAGED ? lane->read.bad : lane->read.lba;
        return fail(lane->read.err, "cannot read volume %u at block %llu", lane->read.volume, (unsigned long long)bad);
    }
    return r->compare ? lane_compare(lane) : lane_put(r, lane);
}

static int lane_put_done(const struct lane *lane)
{
    lane_wait(lane);
    return lane->op.err == OK ? EXIT_FINE : fail(lane->op.err, "cannot write the file");
}

static int read_all(struct reading *r)
{
    int exit = EXIT_FINE;
    uint64_t started = 0, finished = 0;
    while (exit == EXIT_FINE && (r->next < r->size || finished < started)) {
        if (r->next < r->size && started - finished < LANES) {
            struct lane *lane = &r->lanes[started % LANES];
            exit = lane_put_done(lane);
            if (exit == EXIT_FINE) lane_start(r, lane);
            started++;
            continue;
        }
        exit = lane_finish(r, &r->lanes[finished++ % LANES]);
    }
    for (uint32_t i = 0; i < LANES; i++) {
        lane_wait(&r->lanes[i]);
        if (exit == EXIT_FINE && r->lanes[i].op.err != OK) exit = lane_put_done(&r->lanes[i]);
    }
    return exit;
}

/* ---- the commands ---- */

static int reading_run(struct reading *r)
{
    struct session *s = r->session;
    r->task = io_task_self();
    r->began_ns = io_now_ns(s->io);
    for (uint32_t i = 0; i < LANES; i++) {
        struct lane *lane = &r->lanes[i];
        lane->reading = r;
        lane->data = mem_alloc(s->mem, STRETCH * BLOCK_SIZE);
        if (r->compare) lane->expected = mem_alloc(s->mem, STRETCH * BLOCK_SIZE);
        if (lane->data == NULL || (r->compare && lane->expected == NULL)) return fail(ERR_NO_MEMORY, "starting");
    }
    int exit = read_all(r);
    double seconds = (double)(io_now_ns(s->io) - r->began_ns) / 1e9;
    if (exit == EXIT_FINE && !s->options->quiet) {
        fprintf(stderr, "volume %u: %llu bytes %s in %.2f s (%.0f MiB/s)\n", (uint32_t)s->options->volume,
                (unsigned long long)r->size, r->compare ? "are equal" : "read", seconds, (double)r->size / 1048576 / seconds);
    }
    return exit;
}

static int open_output(struct reading *r)
{
    const struct options *o = r->session->options;
    if (o->operand_count == 0 || strcmp(o->operands[0], "-") == 0) return EXIT_FINE;
    enum err err = io_file_open(r->session->io, o->operands[0], IO_OPEN_CREATE, &r->file);
    struct io_file_info info = {0};
    if (err == OK) err = io_file_info(r->file, &info);
    if (err == OK && !info.is_device) err = io_file_resize(r->file, r->size);
    return err == OK ? EXIT_FINE : fail(err, "cannot write %s", o->operands[0]);
}

int cmd_read(struct session *s)
{
    struct reading *r = mem_alloc(s->mem, sizeof *r);
    struct store_volume_info info;
    int exit = EXIT_FINE;
    if (r == NULL) return fail(ERR_NO_MEMORY, "starting");
    if (!find_volume(s, &info, &exit)) return exit;
    uint64_t size = info.blocks * BLOCK_SIZE;
    if (s->options->size > size) return fail(ERR_RANGE, "volume %u has %llu bytes", info.id, (unsigned long long)size);
    r->session = s;
    r->size = s->options->size > 0 ? s->options->size : size;
    exit = open_output(r);
    if (exit == EXIT_FINE) exit = reading_run(r);
    if (exit == EXIT_FINE && r->file == NULL && fflush(stdout) != 0) exit = fail(ERR_IO, "cannot write to stdout");
    io_file_close(r->file);
    return exit;
}

int cmd_verify(struct session *s)
{
    struct reading *r = mem_alloc(s->mem, sizeof *r);
    struct store_volume_info info;
    struct io_file_info file = {0};
    const char *path = s->options->operands[0];
    int exit = EXIT_FINE;
    if (r == NULL) return fail(ERR_NO_MEMORY, "starting");
    if (!find_volume(s, &info, &exit)) return exit;
    enum err err = io_file_open(s->io, path, IO_OPEN_READ_ONLY, &r->file);
    if (err == OK) err = io_file_info(r->file, &file);
    if (err != OK) exit = fail(err, "cannot read %s", path);
    if (exit == EXIT_FINE && file.size > info.blocks * BLOCK_SIZE) {
        printf("volume %u has %llu bytes, the file %llu\n", info.id, (unsigned long long)(info.blocks * BLOCK_SIZE),
               (unsigned long long)file.size);
        exit = EXIT_DIFFERS;
    }
    r->session = s;
    r->size = file.size;
    r->compare = true;
    if (exit == EXIT_FINE) exit = reading_run(r);
    io_file_close(r->file);
    return exit;
}
