/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recovery reads the ends of the head's segments, where the summaries are, one segment after the other. Which segments come
 * next is known, so their ends are read ahead, some at once, a little more of each than the last summary took: those of
 * neighbours are alike. One that is longer than the guess is read as before.
 * A read ahead that failed says nothing: the caller reads again, patiently.
 */
#include "store/internal.h"

enum { ENDS = 16 };

struct end_read {
    struct io_op op;
    struct io_task *task;
    uint32_t slot, bytes; /* NO_SLOT: nothing */
    bool under_way;
    uint8_t *buf;
};

struct ahead {
    struct end_read ends[ENDS]; /* a ring: the read of list entry i is at i % ENDS */
    uint32_t room, guess, next;
    uint8_t *bufs; /* one piece */
};

struct ahead *ahead_open(struct store *s)
{
    struct ahead *a = mem_alloc(s->mem, sizeof *a);
    if (!a) return NULL;
    a->room = (uint32_t)round_up64(s->segment_bytes / 16, SECTOR); /* enough when each record has one block */
    a->guess = (uint32_t)round_up64(s->segment_bytes / 128, SECTOR);
    a->bufs = mem_alloc_raw(s->mem, (uint64_t)ENDS * a->room);
    if (!a->bufs) {
        mem_free(s->mem, a);
        return NULL;
    }
    for (uint32_t i = 0; i < ENDS; i++) a->ends[i] = (struct end_read){.slot = NO_SLOT, .buf = a->bufs + (size_t)i * a->room};
    return a;
}

static void end_wait(const struct end_read *e)
{
    while (e->under_way) io_task_park();
}

void ahead_close(struct store *s, struct ahead *a)
{
    if (!a) return;
    for (uint32_t i = 0; i < ENDS; i++) end_wait(&a->ends[i]);
    mem_free(s->mem, a->bufs);
    mem_free(s->mem, a);
}

static void end_done(struct io_op *op)
{
    struct end_read *e = CONTAINER(op, struct end_read, op);
    e->under_way = false;
    io_task_wake(e->task);
}

/* Entry `i` of `list` is at hand: reads the ends of those behind it, whose slots `slot_of` tells. */
void ahead_on(struct store *s, struct ahead *a, uint32_t i, uint32_t count, uint32_t (*slot_of)(const void *list, uint32_t i),
              const void *list)
{
    for (; a && a->next < count && a->next < i + ENDS; a->next++) {
        struct end_read *e = &a->ends[a->next % ENDS];
        struct device *d;
        uint64_t at;
        end_wait(e);
        e->slot = NO_SLOT;
        if (!slot_exists(s, slot_of(list, a->next))) continue;
        e->slot = slot_of(list, a->next);
        e->task = io_task_self();
        e->under_way = true;
        e->bytes = a->guess;
        e->op.done = end_done;
        slot_where(s, e->slot, &d, &at);
        io_read(s->io, d->file, at + s->segment_bytes - e->bytes, e->buf, e->bytes, &e->op);
    }
}

bool ahead_take(struct ahead *a, uint32_t slot, uint32_t bytes, uint8_t *ret_buf)
{
    if (a && bytes > SECTOR) a->guess = (uint32_t)min64(round_up64(bytes + bytes / 8, SECTOR), a->room);
    for (uint32_t i = 0; a && i < ENDS; i++) {
        struct end_read *e = &a->ends[i];
        if (e->slot != slot || bytes > e->bytes) continue;
        end_wait(e);
        if (e->op.err != OK) return false;
        memcpy(ret_buf, e->buf + (e->bytes - bytes), bytes);
        return true;
    }
    return false;
}
