/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loading the directory at open: every page that was ever written, both copies of the side that counts, many reads at once.
 *
 * A full pool of 10 TiB has 41,000 pages; read one after the other they would take longer than all the rest of recovery.
 * The pages are taken in order, whatever order their reads end in, so that a pool is always found the same way.
 */
#include "store/internal.h"

enum { AHEAD = 24, COPIES = 2 };

struct copy_load {
    struct io_op op;
    struct page_load *page;
    uint8_t *buf; /* DIRECTORY_BYTES */
};

struct page_load {
    struct copy_load copies[COPIES];
    struct io_task *task;
    uint32_t page, left;
};

struct load {
    struct page_load pages[AHEAD]; /* a ring */
    uint32_t first, count;         /* under way */
    uint32_t next;                 /* the page looked at next */
};

/* ---- reading ---- */

static void copy_done(struct io_op *op)
{
    struct page_load *pl = CONTAINER(op, struct copy_load, op)->page;
    assert(pl->left > 0);
    if (--pl->left == 0) io_task_wake(pl->task);
}

/* Both copies: one may be an old page whose newer version was lost. */
static void page_submit(struct store *s, struct page_load *pl, uint32_t page, bool side)
{
    struct device *d;
    uint64_t ignored;
    slot_where(s, page * DIRECTORY_SLOTS, &d, &ignored);
    uint32_t place = page - d->first_slot / DIRECTORY_SLOTS;
    pl->page = page;
    pl->task = io_task_self();
    pl->left = COPIES;
    for (uint32_t copy = 0; copy < COPIES; copy++) {
        struct copy_load *cl = &pl->copies[copy];
        cl->op.done = copy_done;
        cl->page = pl;
        io_read(s->io, d->file, directory_page_at(d->directory_at, place, side, copy), cl->buf, DIRECTORY_BYTES, &cl->op);
    }
}

/* Keeps the ring full of reads. */
static void read_ahead(struct store *s, struct load *load)
{
    for (; load->count < AHEAD && load->next < s->page_count; load->next++) {
        uint32_t bits = s->directory_bits[load->next / 4] >> (load->next % 4 * 2);
        if (!(bits & 1)) continue; /* never written */
        page_submit(s, &load->pages[(load->first + load->count++) % AHEAD], load->next, bits >> 1 & 1);
    }
}

static void page_wait(const struct page_load *pl)
{
    while (pl->left > 0) io_task_park();
}

/* ---- taking ---- */

/* The newer of the copies that are good. */
static enum err page_decode(struct store *s, const struct page_load *pl, struct slot_entry *entries, uint32_t *ret_count)
{
    uint64_t checkpoint, newest = 0;
    bool found = false;
    for (uint32_t copy = 0; copy < COPIES; copy++) {
        struct slot_entry these[DIRECTORY_SLOTS];
        const struct copy_load *cl = &pl->copies[copy];
        uint32_t count;
        enum err err = cl->op.err;
        if (err == ERR_POWER) return err;
        if (err == OK) err = directory_decode(cl->buf, DIRECTORY_BYTES, pl->page, s->salt, &checkpoint, &count, these);
        if (err != OK || (found && checkpoint <= newest)) continue;
        memcpy(entries, these, sizeof these);
        *ret_count = count;
        newest = checkpoint;
        found = true;
    }
    s->directory_numbers[pl->page] = newest;
    if (found) s->directory_digest ^= directory_mix(pl->page, newest);
    return found ? OK : ERR_DIRECTORY_LOST;
}

static enum err take_slots(struct store *s, uint32_t page, const struct slot_entry *entries, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct slot_entry *e = &entries[i];
        uint32_t number = page * DIRECTORY_SLOTS + i;
        bool free = e->kind == SLOT_FREE || e->runs == 0;
        if (free && !s->config.discard) continue;
        if (!slot_exists(s, number)) return ERR_DECODE;
        struct slot *sl = slot_touch(s, number);
        if (!sl) return ERR_NO_MEMORY;
        if (free) { /* a neighbour was used once, so this may have been, and may not have been discarded since */
            sl->stale = s->trim.wanted = true;
            continue;
        }
        for (uint32_t k = 0; k < e->runs; k++) {
            struct directory_run there;
            for (uint32_t j = 0; j < k; j++)
                if (e->run[j].start < e->run[k].start + e->run[k].units && e->run[k].start < e->run[j].start + e->run[j].units)
                    return ERR_DECODE;
            if (e->run[k].units == 0 ||
                (directory_next(s->directory, e->run[k].start, &there) && there.start < e->run[k].start + e->run[k].units))
                return ERR_DECODE;
        }
        sl->state = SLOT_IS_USED;
        slot_use(s, number, (enum slot_kind)e->kind, e->runs, e->run);
        sl->live = e->live;
        sl->chunks = e->chunks;
        sl->age = e->age;
        sl->sealed = true; /* the replay point never passes an open segment; those after it are looked at */
        s->live_units += e->live;
        s->slots_free--;
    }
    return OK;
}

static enum err take_page(struct store *s, const struct page_load *pl)
{
    struct slot_entry entries[DIRECTORY_SLOTS];
    uint32_t count;
    TRY(page_decode(s, pl, entries, &count));
    return take_slots(s, pl->page, entries, count);
}

/* ---- all of it ---- */

static enum err load_pages(struct store *s, struct load *load, struct store_problem *problem)
{
    enum err err = OK;
    for (read_ahead(s, load); load->count > 0 && err == OK; read_ahead(s, load)) {
        const struct page_load *pl = &load->pages[load->first];
        page_wait(pl);
        load->first = (load->first + 1) % AHEAD;
        load->count--;
        err = take_page(s, pl);
        if (err != OK) problem_say(problem, "directory page %u: %s", pl->page, err_text(err));
    }
    for (; load->count > 0; load->count--) { /* after an error: their buffers go */
        page_wait(&load->pages[load->first]);
        load->first = (load->first + 1) % AHEAD;
    }
    return err == ERR_DECODE ? ERR_DIRECTORY_LOST : err;
}

enum err load_directory(struct store *s, const struct checkpoint *c, struct store_problem *problem)
{
    struct load *load = mem_alloc(s->mem, sizeof *load);
    uint8_t *bufs = mem_alloc_raw(s->mem, (size_t)AHEAD * COPIES * DIRECTORY_BYTES);
    enum err err = load && bufs ? OK : ERR_NO_MEMORY;
    memcpy(s->directory_bits, c->directory_bits, (s->page_count * 2 + 7) / 8);
    s->slots_free = s->slots_total;
    for (uint32_t i = 0; err == OK && i < AHEAD * COPIES; i++)
        load->pages[i / COPIES].copies[i % COPIES].buf = bufs + (size_t)i * DIRECTORY_BYTES;
    if (err == OK) err = load_pages(s, load, problem);
    mem_free(s->mem, load);
    mem_free(s->mem, bufs);
    if (err == OK && s->directory_digest != c->directory_digest) {
        problem_say(problem,
                    "a directory page is older than the checkpoint: a device lost a write that it had reported as durable");
        err = ERR_DIRECTORY_LOST;
    }
    return err;
}
