/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cleaner: moves the surviving chunks of mostly dead slots together, so that slots become free.
 *
 * One pass: choose candidates by estimate; load their address tables; walk (mark.c); then in rounds, the emptiest first: write
 * the survivors of some victims, sorted by log address, into new slots with an address table; then, in one step, let the
 * directory name the new slots. No map changes and no count is kept. The victims become free with the next checkpoint.
 *
 * Candidates are taken in windows: slots that follow each other in the order of log addresses. A slot takes at most eight
 * runs of addresses, and neighbours with nothing between them become one run; victims from here and there would fill their
 * outputs with runs long before they fill them with chunks, and soon cleaning would gain nothing. A window comes out as
 * fewer slots with one run each. Windows cost little choice: address order is the order of writing, so neighbours are alike
 * in age, and a window ends where neighbours were written by different passes, because one is packed full and the other has
 * had time to empty. That also keeps old survivors together and apart from the head, which is what keeps write amplification
 * low under skewed load.
 */
#include <stdlib.h>

#include "store/internal.h"

struct survivor {
    uint64_t locator;
    uint32_t candidate;
    uint32_t position; /* in the candidate's summary */
};

struct victim_run {
    struct directory_run run;
    bool follows; /* nothing lies between this run and the one before */
};

struct output {
    uint32_t slot, used, runs, chunks;
    uint32_t first, last; /* survivors [first, last) */
    struct run run[RUNS_MAX];
    bool meta;
    bool damaged; /* a chunk of it is */
};

/* What a round gains is free after the checkpoint that follows it. More outputs than planned come from runs. */
enum { ROUND_OUTPUTS = 64, OUTPUTS_MAX = 96 };

struct pass {
    struct survivor *survivors;
    uint32_t survivor_count;
    struct victim_run *runs;
    uint32_t run_count;
    struct output outputs[OUTPUTS_MAX];
    uint32_t output_count;
};

static uint32_t segment_units(const struct store *s)
{
    return (uint32_t)(s->segment_bytes / UNIT);
}

bool clean_stops(const struct store *s)
{
    return s->clean.idle && s->closing;
}

uint64_t clean_pinned_max(const struct store *s)
{
    return s->config.memory / 12;
}

enum err clean_init(struct store *s)
{
    struct clean *c = &s->clean;
    uint64_t budget = s->config.memory / 16;
    c->room = (uint32_t)min64(max64(budget / 65536, 8), max64(s->slots_total / 4, 4));
    c->candidates = mem_alloc(s->mem, c->room * sizeof *c->candidates);
    c->out = mem_alloc_raw(s->mem, s->segment_bytes);
    c->in_bytes = (uint32_t)min64(IN_BYTES_MAX, s->segment_bytes);
    c->in = mem_alloc_raw(s->mem, (uint64_t)c->in_bytes * IN_PARTS);
    c->sketch_slots = (uint32_t)min64(s->page_count * (uint64_t)DIRECTORY_SLOTS, s->config.memory / 24 / (SKETCH_SIZE * 8));
    c->sketch = mem_alloc(s->mem, (uint64_t)c->sketch_slots * SKETCH_SIZE * 8);
    /* Linear counting: X of m bits are set after about m/m + m/(m-1) + ... + m/(m-X+1) different marks; in sixteenths. */
    enum { BITS = SKETCH_WORDS * 64 };
    c->counting = mem_alloc(s->mem, (BITS + 1) * sizeof *c->counting);
    if (!c->candidates || !c->out || !c->in || !c->sketch || !c->counting) return ERR_NO_MEMORY;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < BITS; i++) {
        c->counting[i] = (uint32_t)(sum >> 12);
        sum += ((uint64_t)BITS << 16) / (BITS - i);
    }
    c->counting[BITS] = (uint32_t)(sum >> 12);
    return OK;
}

/* ---- candidates ---- */

static bool eligible(const struct store *s, uint32_t slot, const struct slot *sl)
{
    if (sl->state != SLOT_IS_USED || sl->bad || sl->runs == 0) return false;
    for (uint32_t i = 0; i < 2; i++)
        if (s->meta.buf[i].slot == slot) return false;
    if (sl->kind != SLOT_HEAD) return true;
    if (!sl->sealed) return false;
    uint64_t segment = sl->start[0] * UNIT / s->segment_bytes;
    if (MUTATED(MUTATE_CLEAN_AFTER_REPLAY)) return segment != s->log.segment;
    return segment < s->replay_segment && (s->log.seg_count == 0 || segment < log_segment(s, 0)->segment);
}

/* ---- windows ---- */

enum { WINDOW_SLOTS = 64, WINDOW_LEAST = 8 }; /* fewer in small pools */

struct window {
    uint32_t slots[WINDOW_SLOTS];
    uint32_t count;
    uint64_t live; /* of all of them, estimate */
};

struct windows {
    struct window *best; /* sorted, emptiest first */
    uint32_t count, room, size, least;
    struct window filling[2]; /* blocks, pages */
};

/* A is emptier than B, slot for slot. */
static bool emptier(const struct window *a, const struct window *b)
{
    return a->live * b->count < b->live * a->count;
}

static void window_close(struct windows *all, struct window *w)
{
    struct window done = *w;
    *w = (struct window){.count = 0};
    if (done.count == 0 || (all->count == all->room && !emptier(&done, &all->best[all->count - 1]))) return;
    uint32_t at = all->count < all->room ? all->count++ : all->count - 1;
    for (; at > 0 && emptier(&done, &all->best[at - 1]); at--) all->best[at] = all->best[at - 1];
    all->best[at] = done;
}

/* Cuts all that is eligible, in address order, into windows, and keeps the emptiest. It gives the loop back now and then: what
 * changes meanwhile is looked at again when it is loaded. */
static void choose(struct store *s, struct windows *all)
{
    struct directory_run run;
    uint32_t looked = 0;
    for (uint64_t unit = 0; directory_next(s->directory, unit, &run); unit = run.start + run.units) {
        const struct slot *sl = slot_at(s, run.slot);
        if (++looked % 4096 == 0) io_task_yield();
        if (sl->runs == 0 || sl->start[0] != run.start || !eligible(s, run.slot, sl)) continue;
        struct window *w = &all->filling[sl->kind == SLOT_META || sl->kind == SLOT_CLEANED_META];
        bool other = w->count > 0 && slot_at(s, w->slots[w->count - 1])->age != sl->age;
        if (w->count == all->size || (other && w->count >= all->least)) window_close(all, w);
        w->slots[w->count++] = run.slot;
        w->live += sl->live;
    }
    for (uint32_t i = 0; i < 2; i++) window_close(all, &all->filling[i]);
}

/* Forgets `count` candidates. */
static void candidates_drop(struct store *s, uint32_t first, uint32_t count)
{
    struct clean *c = &s->clean;
    for (uint32_t i = first; i < first + count; i++) {
        struct candidate *cand = &c->candidates[i];
        slot_at(s, cand->slot)->candidate = 0;
        slot_at(s, cand->slot)->victim = false;
        cand->summary->pins--;
        mem_free(s->mem, cand->bits);
    }
    c->count -= count;
    memmove(c->candidates + first, c->candidates + first + count, (c->count - first) * sizeof *c->candidates);
    for (uint32_t i = first; i < c->count; i++) slot_at(s, c->candidates[i].slot)->candidate = i + 1;
}

static bool candidate_add(struct store *s, uint32_t slot, uint32_t window)
{
    struct clean *c = &s->clean;
    struct task_waiter w;
    task_waiter_init(&w);
    bool failed = false;
    struct summary *sum;
    while (!(sum = summary_get(s, slot, true, &w.waiter, &failed)) && !failed)
        while (w.waiter.waiting) io_task_park();
    if (!eligible(s, slot, slot_at(s, slot))) return true;
    if (sum && slot_at(s, slot)->kind == SLOT_CLEANED && !sum->has_prints) sum = NULL;
    if (!sum && mem_used(s->mem) + s->segment_bytes / 16 > mem_budget(s->mem)) return false; /* no memory, no damage */
    if (!sum) {
        slot_at(s, slot)->bad = true;
        return true;
    }
    if (s->clean.pinned + sum->bytes > clean_pinned_max(s)) return false;
    s->clean.pinned += sum->bytes;
    struct candidate *cand = &c->candidates[c->count];
    *cand = (struct candidate){.slot = slot, .window = window, .order = c->count, .summary = sum};
    cand->bits = mem_alloc(s->mem, (sum->count / 64 + 1) * 8ull);
    if (!cand->bits) return false;
    sum->pins++;
    slot_at(s, slot)->candidate = ++c->count;
    slot_at(s, slot)->chunks = sum->count;
    return true;
}

/* Pins the address tables (with fingerprints) of the candidates in memory; fewer when memory is short. */
static void candidates_load(struct store *s, const struct windows *all, uint32_t want)
{
    assert(s->clean.count == 0);
    s->clean.pinned = 0;
    for (uint32_t i = 0; i < all->count; i++)
        for (uint32_t k = 0; k < all->best[i].count; k++)
            if (s->clean.count == want || !candidate_add(s, all->best[i].slots[k], i)) return;
}

/* ---- what the walk found ---- */

static void set_live(struct store *s, uint32_t slot, uint32_t live)
{
    struct slot *sl = slot_at(s, slot);
    s->live_units += live;
    s->live_units -= min64(s->live_units, sl->live);
    sl->live = live;
    sl->proven = s->clean.walk;
    slot_dirty(s, slot);
}

/*
 * What the walk says of slots that are no candidates. Where nothing is shared, the sum over all references is what is alive;
 * where chunks are shared, the sketch tells how many different ones there were, times their average size. A sketch is some
 * 3 % off but has no bias, so the sum is believed when it agrees.
 */
static uint32_t estimate(const struct clean *c, const uint64_t *sketch, uint32_t room)
{
    uint32_t set = 0;
    uint64_t marks = sketch[SKETCH_WORDS] & UINT32_MAX, units = sketch[SKETCH_WORDS] >> 32;
    if (marks == 0) return 0;
    for (uint32_t w = 0; w < SKETCH_WORDS; w++)
        for (uint64_t bits = sketch[w]; bits; bits &= bits - 1) set++;
    uint64_t distinct = (uint64_t)c->counting[set] * units / (marks * 16);
    uint64_t live = units > distinct + distinct / 20 || marks >= MARKS_MAX ? distinct : units;
    return (uint32_t)min64(live, room);
}

static void sketch_read(struct store *s)
{
    struct clean *c = &s->clean;
    for (uint32_t i = 0; i < c->sketch_slots; i++) {
        uint32_t slot = c->sketch_first + i;
        struct slot *sl = slot_peek(s, slot);
        if (!sl || sl->candidate || !eligible(s, slot, sl)) continue;
        set_live(s, slot, estimate(c, &c->sketch[(uint64_t)i * SKETCH_SIZE], segment_units(s)));
    }
}

/* ---- victims ---- */

static bool is_meta(const struct store *s, uint32_t slot)
{
    uint8_t kind = slot_at(s, slot)->kind;
    return kind == SLOT_META || kind == SLOT_CLEANED_META;
}

static int by_rank(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->meta != y->meta) return x->meta ? 1 : -1;
    if (x->rank != y->rank) return x->rank < y->rank ? -1 : 1;
    if (x->window != y->window) return x->window < y->window ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

/* Slots of blocks, then slots of pages; of each the emptiest windows first, by what the walk has proven. */
static void rank(struct store *s)
{
    struct clean *c = &s->clean;
    for (uint32_t first = 0, end; first < c->count; first = end) {
        uint64_t live = 0;
        for (end = first; end < c->count && c->candidates[end].window == c->candidates[first].window; end++)
            live += c->candidates[end].live_units;
        for (uint32_t i = first; i < end; i++) {
            c->candidates[i].rank = live / (end - first);
            c->candidates[i].meta = is_meta(s, c->candidates[i].slot);
        }
    }
    qsort(c->candidates, c->count, sizeof *c->candidates, by_rank);
    for (uint32_t i = 0; i < c->count; i++) slot_at(s, c->candidates[i].slot)->candidate = i + 1;
}

struct round {
    uint32_t first, victims; /* among the candidates */
    uint32_t needs;          /* slots for the survivors, as planned */
};

/* Slots for the outputs of a round: not the next checkpoint's, and not all, because leaves are flushed meanwhile. */
static uint64_t round_room(const struct store *s)
{
    uint64_t keep = checkpoint_slots(s) + min64(s->slots_free / 16, 4);
    return s->slots_free > keep ? s->slots_free - keep : 0;
}

/* Of the candidates of one kind from `first` on, as many as gain the most slots, and whose outputs find room. */
static struct round round_of(const struct store *s, uint32_t first, bool forced)
{
    const struct clean *c = &s->clean;
    uint64_t limit = (uint64_t)segment_units(s) * (forced ? 97 : 92) / 100, usable = slot_capacity(s);
    uint64_t room = round_room(s), live = 0;
    struct round r = {.first = first};
    for (uint32_t i = first; i < c->count && c->candidates[i].meta == c->candidates[first].meta; i++) {
        live += c->candidates[i].live_units;
        uint32_t count = i - first + 1, needs = (uint32_t)((live + usable - 1) / usable);
        if (c->candidates[i].rank > limit || needs > min64(ROUND_OUTPUTS, room)) break;
        if (count > needs && count - needs > r.victims - r.needs) r = (struct round){first, count, needs};
    }
    return r;
}

/* The better of both kinds: which gains more for a slot written. */
static struct round round_best(const struct store *s, bool forced)
{
    const struct clean *c = &s->clean;
    uint32_t pages = 0;
    while (pages < c->count && !c->candidates[pages].meta) pages++;
    struct round a = round_of(s, 0, forced), b = round_of(s, pages, forced);
    if (pages == c->count || b.victims == 0) return a;
    if (pages == 0 || a.victims == 0) return b;
    return (uint64_t)b.victims * (a.needs + 1) > (uint64_t)a.victims * (b.needs + 1) ? b : a;
}

/* ---- the plan: survivors in order, packed into outputs ---- */

static int by_address(const void *a, const void *b)
{
    const struct survivor *x = a, *y = b;
    uint64_t ax = locator_address(x->locator), ay = locator_address(y->locator);
    return ax < ay ? -1 : ax > ay;
}

static int by_start(const void *a, const void *b)
{
    const struct victim_run *x = a, *y = b;
    return x->run.start < y->run.start ? -1 : x->run.start > y->run.start;
}

static bool gather(struct store *s, struct pass *p, const struct round *r)
{
    uint32_t end = r->first + r->victims;
    struct clean *c = &s->clean;
    uint64_t total = 0;
    for (uint32_t i = r->first; i < end; i++) total += c->candidates[i].summary->count;
    p->survivors = mem_alloc(s->mem, (total + 1) * sizeof *p->survivors);
    p->runs = mem_alloc(s->mem, (r->victims * RUNS_MAX + 1ull) * sizeof *p->runs);
    if (!p->survivors || !p->runs) return false;
    for (uint32_t i = r->first; i < end; i++) {
        const struct candidate *cand = &c->candidates[i];
        const struct slot *sl = slot_at(s, cand->slot);
        for (uint32_t k = 0; k < cand->summary->count; k++)
            if (cand->bits[k / 64] >> (k % 64) & 1)
                p->survivors[p->survivor_count++] = (struct survivor){cand->summary->locators[k], i, k};
        for (uint32_t k = 0; k < sl->runs; k++) {
            bool found = directory_find(s->directory, sl->start[k], &p->runs[p->run_count].run);
            assert(found && p->runs[p->run_count].run.slot == cand->slot);
            p->run_count++;
        }
    }
    qsort(p->survivors, p->survivor_count, sizeof *p->survivors, by_address);
    qsort(p->runs, p->run_count, sizeof *p->runs, by_start);
    for (uint32_t i = 1; i < p->run_count; i++) {
        const struct directory_run *before = &p->runs[i - 1].run;
        struct directory_run next;
        bool any = directory_next(s->directory, before->start + before->units, &next);
        p->runs[i].follows = any && next.start == p->runs[i].run.start;
    }
    return true;
}

static uint32_t tail_bytes(uint32_t chunks, bool meta)
{
    return (uint32_t)round_up64(chunks * (meta ? 8ull : 28ull) + sizeof(struct disk_trailer), SECTOR);
}

static bool output_fits(const struct store *s, const struct output *o, uint32_t units)
{
    uint64_t data = round_up64((uint64_t)o->used + units * UNIT, SECTOR);
    return data + tail_bytes(o->chunks + 1, o->meta) <= s->segment_bytes;
}

static struct output *output_new(struct pass *p, uint32_t first, bool meta)
{
    if (p->output_count == OUTPUTS_MAX) return NULL;
    struct output *o = &p->outputs[p->output_count++];
    *o = (struct output){.slot = NO_SLOT, .first = first, .last = first, .meta = meta};
    return o;
}

/* Lets the output's last run reach to `end`; false when it would be too long for one run. */
static bool run_extend(struct output *o, uint64_t end)
{
    struct run *last = &o->run[o->runs - 1];
    if (end - last->start > UINT32_MAX) return false;
    if (end > last->start + last->units) last->units = (uint32_t)(end - last->start);
    return true;
}

/* Packs the survivors: each output covers whole victim runs, or the parts up to where it is full. */
static bool pack(struct store *s, struct pass *p, bool meta)
{
    struct output *o = NULL;
    uint32_t run = 0, last_run = UINT32_MAX;
    for (uint32_t i = 0; i < p->survivor_count; i++) {
        const struct survivor *sv = &p->survivors[i];
        uint64_t unit = locator_address(sv->locator) / UNIT, units = locator_units(sv->locator);
        while (p->runs[run].run.start + p->runs[run].run.units <= unit) run++;
        const struct directory_run *vr = &p->runs[run].run;
        assert(unit >= vr->start);
        bool joined = o != NULL && output_fits(s, o, (uint32_t)units);
        if (joined && run != last_run) {
            bool near = true; /* all runs since the last one follow each other */
            for (uint32_t k = last_run + 1; k <= run; k++) near = near && p->runs[k].follows;
            if (!near || !run_extend(o, vr->start + vr->units)) {
                joined = o->runs < RUNS_MAX;
                if (joined) o->run[o->runs++] = (struct run){vr->start, vr->units};
            }
        }
        if (!joined) {
            if (o && run == last_run) /* full in the middle of a run: it ends before this chunk */
                o->run[o->runs - 1].units = (uint32_t)(unit - o->run[o->runs - 1].start);
            uint64_t start = o && run == last_run ? unit : vr->start;
            o = output_new(p, i, meta);
            if (!o) return false;
            o->run[o->runs++] = (struct run){start, (uint32_t)(vr->start + vr->units - start)};
        }
        last_run = run;
        o->used += (uint32_t)units * UNIT;
        o->chunks++;
        o->last = i + 1;
    }
    return true;
}

/* ---- copying ---- */

struct part {
    struct io_op op;
    struct io_task *task;
    uint32_t *left;
    uint32_t slot, from, first, last, out; /* survivors [first, last), to be copied to `out` */
};

static void part_done(struct io_op *op)
{
    struct part *part = CONTAINER(op, struct part, op);
    if (--*part->left == 0) io_task_wake(part->task);
}

static uint32_t survivor_offset(const struct store *s, const struct survivor *sv)
{
    const struct summary *sum = s->clean.candidates[sv->candidate].summary;
    if (sum->cleaned) return sum->offsets[sv->position] * UNIT;
    return (uint32_t)(locator_address(sv->locator) % s->segment_bytes);
}

static void part_finish(struct store *s, struct pass *p, const struct part *part, const uint8_t *in, struct output *o)
{
    uint32_t out = part->out;
    for (uint32_t i = part->first; i < part->last; i++) {
        const struct survivor *sv = &p->survivors[i];
        const uint8_t *chunk = in + (survivor_offset(s, sv) - part->from);
        uint32_t units = locator_units(sv->locator);
        /* A damaged chunk moves as it is: its checksum goes on telling so, and a peer can still mend it. */
        bool damaged = chunk_check(chunk, units, locator_address(sv->locator)) != OK;
        s->stats.medium_errors += damaged;
        s->stats.unmended += damaged;
        o->damaged = o->damaged || damaged;
        memcpy(s->clean.out + out, chunk, units * UNIT);
        out += units * UNIT;
    }
}

/* Survivors that lie near each other in one slot are read in one piece. Returns the first survivor not taken. */
static uint32_t part_plan(struct store *s, struct pass *p, const struct output *o, uint32_t i, struct part *part,
                          uint32_t *at_out)
{
    bool first = true;
    uint32_t end = 0;
    part->first = i;
    part->out = *at_out;
    for (; i < o->last; i++) {
        const struct survivor *sv = &p->survivors[i];
        const struct candidate *cand = &s->clean.candidates[sv->candidate];
        uint32_t offset = survivor_offset(s, sv), bytes = locator_units(sv->locator) * UNIT;
        if (first) {
            part->slot = cand->slot;
            part->from = offset / SECTOR * SECTOR;
        } else if (cand->slot != part->slot || offset < end || offset - end > 32768 ||
                   offset + bytes - part->from > s->clean.in_bytes - SECTOR) {
            break;
        }
        first = false;
        end = offset + bytes;
        *at_out += bytes;
    }
    part->last = i;
    part->op.bytes = (uint32_t)round_up64(end, SECTOR) - part->from; /* length, until it is submitted */
    return i;
}

static enum err copy_in(struct store *s, struct pass *p, struct output *o)
{
    struct part parts[IN_PARTS];
    uint32_t i = o->first, out = 0;
    while (i < o->last) {
        uint32_t n = 0, left = 0;
        while (n < IN_PARTS && i < o->last) {
            struct part *part = &parts[n];
            *part = (struct part){.task = io_task_self(), .left = &left, .op.done = part_done};
            i = part_plan(s, p, o, i, part, &out);
            n++;
        }
        left = n;
        for (uint32_t k = 0; k < n; k++) {
            struct device *d;
            uint64_t at;
            uint32_t bytes = parts[k].op.bytes;
            slot_where(s, parts[k].slot, &d, &at);
            io_read(s->io, d->file, at + parts[k].from, s->clean.in + (size_t)k * s->clean.in_bytes, bytes, &parts[k].op);
        }
        while (left > 0) io_task_park();
        for (uint32_t k = 0; k < n; k++) {
            if (parts[k].op.err != OK) {
                slot_at(s, parts[k].slot)->bad = true;
                return parts[k].op.err;
            }
            part_finish(s, p, &parts[k], s->clean.in + (size_t)k * s->clean.in_bytes, o);
        }
        TRY(upkeep_duties(s));
    }
    return OK;
}

static void table_put(struct store *s, struct pass *p, struct output *o)
{
    uint32_t prints_bytes = o->meta ? 0 : o->chunks * 20, table_bytes = o->chunks * 8;
    uint8_t *end = s->clean.out + s->segment_bytes - sizeof(struct disk_trailer);
    uint8_t *prints = end - prints_bytes, *table = prints - table_bytes;
    uint32_t k = 0;
    for (uint32_t i = o->first; i < o->last; i++) {
        const struct survivor *sv = &p->survivors[i];
        const struct candidate *cand = &s->clean.candidates[sv->candidate];
        le64 raw = put64(sv->locator);
        memcpy(table + k * 8, &raw, 8);
        if (!o->meta) memcpy(prints + k * 20, cand->summary->prints[sv->position].b, 20);
        k++;
    }
    assert(k == o->chunks);
    struct trailer t = {.kind = o->meta ? SLOT_CLEANED_META : SLOT_CLEANED,
                        .age = (uint8_t)s->clean.walk,
                        .body_bytes = table_bytes,
                        .print_bytes = prints_bytes,
                        .chunks = o->chunks,
                        .segment = s->next_serial++,
                        .data_bytes = o->used,
                        .slot = o->slot};
    t.body_checksum = body_checksum(table, table_bytes, s->salt);
    t.print_checksum = body_checksum(prints, prints_bytes, s->salt);
    trailer_encode(&t, s->salt, (struct disk_trailer *)(void *)end);
}

static enum err output_write(struct store *s, struct pass *p, struct output *o)
{
    memset(s->clean.out, 0, s->segment_bytes);
    TRY(copy_in(s, p, o));
    table_put(s, p, o);
    uint32_t data = (uint32_t)round_up64(o->used, SECTOR), tail = tail_bytes(o->chunks, o->meta);
    TRY(slot_write(s, o->slot, 0, s->clean.out, data));
    TRY(slot_write(s, o->slot, (uint32_t)s->segment_bytes - tail, s->clean.out + s->segment_bytes - tail, tail));
    s->stats.cleaned_bytes += data + tail;
    return OK;
}

/* ---- the switch ---- */

/* Chunks that died since the walk moved all the same: each output takes its share of them off its estimate. */
static void switch_over(struct store *s, struct pass *p, const struct round *r)
{
    uint64_t moved = 0, alive = 0;
    for (uint32_t i = 0; i < p->run_count; i++) directory_remove(s->directory, p->runs[i].run.start);
    for (uint32_t i = r->first; i < r->first + r->victims; i++) {
        const struct candidate *cand = &s->clean.candidates[i];
        moved += cand->live_units;
        alive += min64(slot_at(s, cand->slot)->live, cand->live_units);
        slot_at(s, cand->slot)->runs = 0;
        slot_retire(s, cand->slot);
    }
    for (uint32_t i = 0; i < p->output_count; i++) {
        struct output *o = &p->outputs[i];
        slot_use(s, o->slot, o->meta ? SLOT_CLEANED_META : SLOT_CLEANED, o->runs, o->run);
        struct slot *sl = slot_at(s, o->slot);
        sl->chunks = o->chunks;
        sl->proven = s->clean.walk;
        sl->age = (uint8_t)s->clean.walk;
        sl->suspect = o->damaged;
        sl->live = (uint32_t)(moved ? (uint64_t)(o->used / UNIT) * alive / moved : 0);
        s->live_units += sl->live;
    }
    s->stats.slots_cleaned += r->victims;
}

/* A slot whose summary misses something alive (a page behind a damaged one) must stay where it is. */
static void drop_spoilt(struct store *s)
{
    struct clean *c = &s->clean;
    for (uint32_t i = c->count; i-- > 0;) {
        if (!c->candidates[i].spoilt) continue;
        slot_at(s, c->candidates[i].slot)->bad = true;
        s->stats.medium_errors++;
        s->stats.unmended++;
        candidates_drop(s, i, 1);
    }
}

/* All outputs have their slots before the first is written: what is flushed meanwhile must not take the last one's. Where
 * nothing survives nothing is needed. */
static bool outputs_reserve(struct store *s, struct pass *p)
{
    bool all = p->output_count == 0 || p->output_count + checkpoint_slots(s) <= s->slots_free;
    for (uint32_t i = 0; i < p->output_count && all; i++) all = slot_alloc(s, SLOT_IS_USED, &p->outputs[i].slot);
    return all;
}

static enum err clean_victims(struct store *s, const struct round *r, uint32_t *ret_gained)
{
    struct pass *p = mem_alloc(s->mem, sizeof *p);
    if (!p) return ERR_NO_MEMORY;
    for (uint32_t i = r->first; i < r->first + r->victims; i++) slot_at(s, s->clean.candidates[i].slot)->victim = true;
    enum err err = gather(s, p, r) ? OK : ERR_NO_MEMORY;
    bool packed = err == OK && pack(s, p, s->clean.candidates[r->first].meta);
    uint32_t outputs = p->output_count;
    *ret_gained = 0;
    bool pays = packed && outputs < r->victims && outputs_reserve(s, p);
    for (uint32_t i = 0; pays && err == OK && i < outputs; i++) err = output_write(s, p, &p->outputs[i]);
    if (pays && err == OK) {
        switch_over(s, p, r);
        *ret_gained = r->victims - outputs;
    } else {
        for (uint32_t i = 0; i < outputs; i++)
            if (p->outputs[i].slot != NO_SLOT) slot_release(s, p->outputs[i].slot);
    }
    mem_free(s->mem, p->survivors);
    mem_free(s->mem, p->runs);
    mem_free(s->mem, p);
    return err;
}

/* ---- a pass ---- */

/* The slots that the walk tells apart are those in the window of the sketches; it moves on with each pass. */
static void sketch_next(struct store *s)
{
    struct clean *c = &s->clean;
    c->sketch_first += c->sketch_slots;
    if (c->sketch_first >= s->page_count * DIRECTORY_SLOTS) c->sketch_first = 0;
}

static enum err look(struct store *s, uint32_t want)
{
    struct windows *all = mem_alloc(s->mem, sizeof *all);
    if (!all) return ERR_NO_MEMORY;
    *all = (struct windows){.size = min32(want / 4 + 1, WINDOW_SLOTS), .least = min32(want / 8 + 1, WINDOW_LEAST)};
    all->room = want / all->least + 2;
    all->best = mem_alloc(s->mem, all->room * sizeof *all->best);
    if (all->best) {
        choose(s, all);
        candidates_load(s, all, want);
    }
    bool chosen = all->best != NULL;
    mem_free(s->mem, all->best);
    mem_free(s->mem, all);
    if (!chosen) return ERR_NO_MEMORY;
    return s->failed == OK ? OK : ERR_POOL_FAILED;
}

/* Rounds, until `goal` slots are gained or no candidate promises more. */
static enum err clean_rounds(struct store *s, bool forced, uint32_t goal, uint32_t *ret_gained)
{
    while (*ret_gained < goal && !clean_stops(s)) {
        drop_spoilt(s);
        struct round r = round_best(s, forced);
        uint32_t gained = 0;
        if (r.victims == 0) break;
        TRY(clean_victims(s, &r, &gained));
        candidates_drop(s, r.first, r.victims);
        *ret_gained += gained;
        if (s->slots_pending > 0 && s->slots_free < slots_private(s) + min64(ROUND_OUTPUTS, s->slots_total / 64))
            TRY(checkpoint_write(s));
    }
    return OK;
}

enum err clean_pass(struct store *s, bool forced, uint32_t goal, uint32_t *ret_gained)
{
    struct clean *c = &s->clean;
    *ret_gained = 0;
    memset(c->sketch, 0, (uint64_t)c->sketch_slots * SKETCH_SIZE * 8);
    c->wanted = false;
    enum err err = look(s, min32(forced ? c->room : (uint32_t)max64(2 * WINDOW_SLOTS, s->slots_total / 16), c->room));
    if (err == OK) err = mark_walk(s);
    if (err == OK) {
        for (uint32_t i = 0; i < c->count; i++) set_live(s, c->candidates[i].slot, (uint32_t)c->candidates[i].live_units);
        sketch_read(s);
        rank(s);
        err = clean_rounds(s, forced, goal, ret_gained);
    }
    c->walking = false;
    candidates_drop(s, 0, c->count);
    sketch_next(s);
    return err;
}
