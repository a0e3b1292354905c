/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Roots: superblocks, checkpoints and the directory, each of which lies on the devices more than once.
 *
 * One damaged copy is a warning, because the other one serves; so is an older superblock, which a crash leaves that came while
 * they were written again: opening the pool mends that. Copies that are both good and say different things are a problem. A
 * checkpoint is written copy by copy, so a crash may leave one copy of a side torn or old, never both.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "store/audit_internal.h"

/* ---- superblocks ---- */

static enum err super_read(struct audit *a, struct io_file *file, const char *path, struct super *ret_super)
{
    struct super copies[2];
    enum err errs[2];
    for (uint32_t i = 0; i < 2; i++) {
        uint8_t *at = a->small + i * SECTOR;
        errs[i] = io_task_read(a->io, file, i ? SUPER_AT_1 : SUPER_AT_0, at, SECTOR);
        if (errs[i] == OK) errs[i] = super_decode(at, SECTOR, &copies[i]);
        if (audit_ends(errs[i]) || errs[i] == ERR_NEW_FORMAT) return errs[i];
    }
    if (errs[0] != OK && errs[1] != OK) {
        enum err err = errs[0] == ERR_NOT_OURS && errs[1] == ERR_NOT_OURS ? ERR_NOT_OURS : ERR_SUPER_LOST;
        return audit_refuse(a, err, "%s: no superblock can be read (%s; %s)", path, err_text(errs[0]), err_text(errs[1]));
    }
    for (uint32_t i = 0; i < 2; i++)
        if (errs[i] != OK) audit_warning(a, "%s: superblock, copy %u: %s", path, i, err_text(errs[i]));
    bool both = errs[0] == OK && errs[1] == OK, same_age = both && copies[0].generation == copies[1].generation;
    if (both && !same_age)
        audit_warning(a, "%s: one superblock is older than the other", path);
    else if (both && memcmp(a->small, a->small + SECTOR, SECTOR) != 0)
        audit_problem(a, "%s: the two superblocks differ", path);
    bool first = errs[0] == OK && (errs[1] != OK || copies[0].generation >= copies[1].generation);
    *ret_super = copies[first ? 0 : 1];
    return OK;
}

/* What all superblocks of a pool say alike. */
static bool super_agrees(const struct super *a, const struct super *b)
{
    if (a->device_count != b->device_count || a->segment_shift != b->segment_shift || a->salt != b->salt) return false;
    if (a->checkpoint_bytes != b->checkpoint_bytes) return false;
    bool same_secret = memcmp(a->secret, b->secret, sizeof a->secret) == 0 && a->secret_from == b->secret_from;
    if (a->generation == b->generation && !same_secret) return false;
    for (uint32_t i = 0; i < a->device_count; i++) {
        const struct super_device *x = &a->devices[i], *y = &b->devices[i];
        if (memcmp(x->id, y->id, sizeof x->id) != 0 || x->slots != y->slots || x->class != y->class) return false;
    }
    return true;
}

static enum err device_open(struct audit *a, const char *path, bool first)
{
    struct io_file *file = NULL;
    struct super super;
    struct io_file_info info;
    enum err err = io_file_open(a->io, path, IO_OPEN_READ_ONLY | IO_OPEN_DIRECT | IO_OPEN_LOCK, &file);
    if (err != OK) return audit_refuse(a, err, "%s: %s", path, err_text(err));
    err = io_file_info(file, &info);
    if (err == OK && info.size < CHECKPOINT_AT) err = audit_refuse(a, ERR_TOO_SMALL, "%s: too small for a pool", path);
    if (err == OK) err = super_read(a, file, path, &super);
    if (err == OK && !first && memcmp(super.pool_id, a->super.pool_id, sizeof super.pool_id) != 0)
        err = audit_refuse(a, ERR_OTHER_POOL, "%s: belongs to another pool", path);
    if (err == OK && a->devices[super.device_index].file) err = audit_refuse(a, ERR_ARGUMENT, "%s: given twice", path);
    uint64_t end = err == OK ? super.data_at + ((uint64_t)super.devices[super.device_index].slots << super.segment_shift) : 0;
    if (err == OK && info.size < end)
        err = audit_refuse(a, ERR_TOO_SMALL, "%s: %" PRIu64 " bytes, but the pool uses %" PRIu64, path, info.size, end);
    if (err != OK) {
        io_file_close(file);
        return err;
    }
    if (first) a->super = super;
    if (super.generation != a->super.generation)
        audit_warning(a, "%s: its superblock is not as old as that of another device", path);
    if (!super_agrees(&a->super, &super)) audit_problem(a, "%s: its superblock disagrees with that of another device", path);
    a->devices[super.device_index] = (struct audit_device){.file = file, .path = path, .super = super};
    if (super.generation > a->super.generation) a->super = super;
    return OK;
}

enum err audit_supers(struct audit *a, const struct store_config *config)
{
    for (uint32_t i = 0; i < config->device_count; i++) TRY(device_open(a, config->devices[i].path, i == 0));
    a->device_count = a->super.device_count;
    for (uint32_t i = 0; i < a->device_count; i++) {
        struct audit_device *d = &a->devices[i];
        if (!d->file) return audit_refuse(a, ERR_DEVICE_MISSING, "device %u of %u is missing", i + 1, a->device_count);
        uint32_t slots = d->super.devices[i].slots;
        d->first_slot = a->page_count * DIRECTORY_SLOTS;
        a->page_count += (slots + DIRECTORY_SLOTS - 1) / DIRECTORY_SLOTS;
        if (d->super.segment_shift != a->super.segment_shift || d->super.checkpoint_bytes != a->super.checkpoint_bytes)
            return audit_refuse(a, ERR_SUPER_LOST, "%s: another layout than that of the first device", d->path);
    }
    a->slot_count = a->page_count * DIRECTORY_SLOTS;
    a->segment_bytes = (uint64_t)1 << a->super.segment_shift;
    a->salt = a->super.salt;
    fingerprinter_init(&a->key, a->super.secret);
    return OK;
}

/* ---- checkpoints ---- */

struct copies {
    enum err errs[2][2]; /* side, copy */
    uint64_t numbers[2][2];
    uint8_t *bytes[2][2];
    uint32_t lengths[2][2];
    void *rooms[2];
    struct checkpoint best[2]; /* of each side */
};

static enum err copy_read(struct audit *a, uint32_t side, uint32_t copy, uint8_t *buf, void *room, uint32_t *ret_bytes,
                          struct checkpoint *ret_checkpoint)
{
    const struct audit_device *d = &a->devices[copy % a->device_count];
    uint64_t at = checkpoint_side_at(a->super.checkpoint_bytes, side, copy);
    TRY(io_task_read(a->io, d->file, at, buf, SECTOR));
    TRY(checkpoint_length(buf, SECTOR, a->super.checkpoint_bytes, ret_bytes));
    if (*ret_bytes > SECTOR) TRY(io_task_read(a->io, d->file, at + SECTOR, buf + SECTOR, *ret_bytes - SECTOR));
    TRY(checkpoint_decode(buf, *ret_bytes, a->salt, room, ret_checkpoint));
    if (memcmp(ret_checkpoint->pool_id, a->super.pool_id, sizeof a->super.pool_id) != 0) return ERR_OTHER_POOL;
    if (ret_checkpoint->directory_pages != a->page_count) return ERR_DECODE;
    return (ret_checkpoint->number & 1) == 1 - side ? OK : ERR_DECODE;
}

/* Reads both copies of a side; the newer good one, if any, stays decoded. */
static enum err side_read(struct audit *a, struct copies *c, uint32_t side)
{
    uint32_t newest = AUDIT_NONE;
    for (uint32_t copy = 0; copy < 2; copy++) {
        struct checkpoint got;
        enum err err = copy_read(a, side, copy, c->bytes[side][copy], c->rooms[side], &c->lengths[side][copy], &got);
        c->errs[side][copy] = err;
        if (audit_ends(err) || err == ERR_NEW_FORMAT) return err;
        if (err != OK) continue;
        c->numbers[side][copy] = got.number;
        a->report->checkpoints_good++;
        if (newest == AUDIT_NONE || got.number > c->numbers[side][newest]) newest = copy;
    }
    if (newest == AUDIT_NONE) return OK;
    uint32_t length = c->lengths[side][newest];
    return checkpoint_decode(c->bytes[side][newest], length, a->salt, c->rooms[side], &c->best[side]);
}

static void compare_copies(struct audit *a, const struct copies *c, uint32_t side)
{
    const enum err *errs = c->errs[side];
    char name = side ? 'B' : 'A';
    for (uint32_t copy = 0; copy < 2; copy++)
        if (errs[copy] != OK) audit_warning(a, "checkpoint, side %c copy %u: %s", name, copy, err_text(errs[copy]));
    if (errs[0] != OK || errs[1] != OK) return;
    if (c->numbers[side][0] != c->numbers[side][1]) {
        audit_warning(a, "checkpoint, side %c: copy 1 is number %" PRIu64 ", copy 0 number %" PRIu64 ": interrupted", name,
                      c->numbers[side][1], c->numbers[side][0]);
        return;
    }
    if (c->lengths[side][0] != c->lengths[side][1] || memcmp(c->bytes[side][0], c->bytes[side][1], c->lengths[side][0]) != 0)
        audit_problem(a, "checkpoint %" PRIu64 ": its two copies differ", c->numbers[side][0]);
}

static bool good(const struct copies *c, uint32_t side)
{
    return c->errs[side][0] == OK || c->errs[side][1] == OK;
}

static enum err choose_checkpoint(struct audit *a, struct copies *c)
{
    if (!good(c, 0) && !good(c, 1)) return audit_refuse(a, ERR_CHECKPOINT_LOST, "none of the four checkpoints can be read");
    uint32_t newest = good(c, 0) && (!good(c, 1) || c->best[0].number > c->best[1].number) ? 0 : 1, other = 1 - newest;
    compare_copies(a, c, newest);
    bool blank = c->errs[other][0] == ERR_NOT_OURS && c->errs[other][1] == ERR_NOT_OURS;
    if (!good(c, other) && !(blank && c->best[newest].number == 1)) {
        audit_problem(a, "checkpoint, side %c: both copies are damaged (%s; %s); it may have been the newest",
                      other ? 'B' : 'A', err_text(c->errs[other][0]), err_text(c->errs[other][1]));
    } else if (good(c, other) && c->best[other].number + 1 != c->best[newest].number) {
        /* Two power cuts in a row do that: one between the two copies, one in the next write of the first copy, which tears
         * the only one that had the number in between. With both copies good, a write that was durable is gone. */
        bool torn = c->errs[other][0] != OK || c->errs[other][1] != OK;
        (torn ? audit_warning : audit_problem)(a, "checkpoint %" PRIu64 " is on the other side of checkpoint %" PRIu64,
                                               c->best[other].number, c->best[newest].number);
    }
    a->checkpoint = c->best[newest];
    a->report->checkpoint = a->checkpoint.number;
    return OK;
}

static void check_chains(struct audit *a)
{
    const struct checkpoint *c = &a->checkpoint;
    for (uint32_t i = 0; i < c->chain_count; i++) {
        uint32_t next = i + 1 < c->chain_count ? c->chains[i + 1].incarnation : c->incarnation;
        if (c->chains[i].incarnation >= next) audit_problem(a, "checkpoint: incarnation %u does not rise after %u", next, i);
        if (i > 0 && c->chains[i].end_number < c->chains[i - 1].end_number)
            audit_problem(a, "checkpoint: accepted end of incarnation %u goes back", c->chains[i].incarnation);
        if (c->chains[i].next_segment > c->next_segment)
            audit_problem(a, "checkpoint: incarnation %u ends behind the next segment", c->chains[i].incarnation);
    }
    if (c->replay_number == 0 || c->replay_number > c->written_number + 1)
        audit_problem(a, "checkpoint: replay begins at batch %" PRIu64 ", but only %" PRIu64 " were written", c->replay_number,
                      c->written_number);
}

enum err audit_checkpoints(struct audit *a)
{
    struct copies *c = mem_alloc(a->mem, sizeof *c);
    uint64_t bytes = a->super.checkpoint_bytes;
    if (!c) return ERR_NO_MEMORY;
    for (uint32_t side = 0; side < 2; side++) {
        c->rooms[side] = mem_alloc_raw(a->mem, checkpoint_decode_room(bytes));
        for (uint32_t copy = 0; copy < 2; copy++) c->bytes[side][copy] = mem_alloc_raw(a->mem, bytes);
        if (!c->rooms[side] || !c->bytes[side][0] || !c->bytes[side][1]) return ERR_NO_MEMORY;
        TRY(side_read(a, c, side));
    }
    TRY(choose_checkpoint(a, c));
    for (uint32_t side = 0; side < 2; side++) {
        for (uint32_t copy = 0; copy < 2; copy++) mem_free(a->mem, c->bytes[side][copy]);
        if (side == (a->checkpoint.number & 1)) mem_free(a->mem, c->rooms[side]); /* the chosen one is on the other side */
    }
    mem_free(a->mem, c);
    check_chains(a);
    a->replay_segment = a->checkpoint.replay_address / a->segment_bytes;
    return OK;
}

/* ---- directory ---- */

static const struct audit_device *device_of(const struct audit *a, uint32_t slot)
{
    uint32_t i = a->device_count - 1;
    while (a->devices[i].first_slot > slot) i--;
    return &a->devices[i];
}

static void mark_existing(struct audit *a)
{
    for (uint32_t slot = 0; slot < a->slot_count; slot++) {
        const struct audit_device *d = device_of(a, slot);
        a->slots[slot].exists = slot - d->first_slot < d->super.devices[d->super.device_index].slots;
    }
}

/* Both copies of the current side. *ret_count: slots described, AUDIT_NONE when neither can be read. */
static enum err page_read(struct audit *a, uint32_t page, uint32_t side, struct slot_entry *ret_entries, uint32_t *ret_count)
{
    const struct audit_device *d = device_of(a, page * DIRECTORY_SLOTS);
    uint32_t place = page - d->first_slot / DIRECTORY_SLOTS;
    enum err errs[2];
    uint8_t *bytes[2] = {a->buf, a->buf + DIRECTORY_BYTES};
    uint64_t numbers[2] = {0, 0};
    *ret_count = AUDIT_NONE;
    for (uint32_t copy = 2; copy-- > 0;) {
        uint64_t at = directory_page_at(d->super.directory_at, place, side, copy);
        errs[copy] = io_task_read(a->io, d->file, at, bytes[copy], DIRECTORY_BYTES);
        if (errs[copy] == OK)
            errs[copy] = directory_decode(bytes[copy], DIRECTORY_BYTES, page, a->salt, &numbers[copy], ret_count, ret_entries);
        if (audit_ends(errs[copy])) return errs[copy];
    }
    if (errs[0] != OK && errs[1] != OK) {
        audit_problem(a, "directory page %u: both copies are damaged (%s; %s)", page, err_text(errs[0]), err_text(errs[1]));
        return OK;
    }
    for (uint32_t copy = 0; copy < 2; copy++)
        if (errs[copy] != OK) audit_warning(a, "directory page %u, copy %u: %s", page, copy, err_text(errs[copy]));
    uint32_t length = (uint32_t)(bytes[0][4] | bytes[0][5] << 8);
    if (errs[0] == OK && errs[1] == OK && memcmp(bytes[0], bytes[1], length) != 0)
        audit_problem(a, "directory page %u: its two copies differ", page);
    uint64_t number = errs[0] == OK ? numbers[0] : numbers[1];
    if (number > a->checkpoint.number)
        audit_problem(a, "directory page %u: written for checkpoint %" PRIu64 ", which is not there", page, number);
    return OK;
}

enum err audit_run_add(struct audit *a, uint32_t slot, uint64_t start, uint32_t units)
{
    void *runs = a->runs;
    TRY(audit_grow(a, &runs, sizeof *a->runs, a->run_count, &a->run_room));
    a->runs = runs;
    a->runs[a->run_count++] = (struct audit_run){start, units, slot};
    return OK;
}

/* The head may open promised slots while the checkpoint is being written: segments a little beyond its next one are normal. */
static uint64_t segments_given(const struct audit *a)
{
    return a->checkpoint.next_segment + HEAD_SLOTS_MAX;
}

static enum err slot_take(struct audit *a, uint32_t slot, const struct slot_entry *e)
{
    struct audit_slot *sl = &a->slots[slot];
    uint64_t units = a->segment_bytes / UNIT;
    if (!sl->exists) {
        if (e->kind != SLOT_FREE || e->runs) audit_problem(a, "slot %u: in the directory, but on no device", slot);
        return OK;
    }
    if ((e->kind == SLOT_FREE) != (e->runs == 0)) {
        audit_problem(a, "slot %u: %s, with %u runs", slot, audit_kind_text(e->kind), e->runs);
        return OK;
    }
    sl->kind = e->kind;
    sl->live = e->live;
    sl->chunks = e->chunks;
    if (e->kind == SLOT_HEAD || e->kind == SLOT_META) {
        sl->segment = e->run[0].start / units;
        if (e->runs != 1 || e->run[0].start % units || e->run[0].units != units || sl->segment >= segments_given(a))
            audit_problem(a, "slot %u: %s, but not one whole segment that was given out", slot, audit_kind_text(e->kind));
    }
    for (uint32_t i = 0; i < e->runs; i++) TRY(audit_run_add(a, slot, e->run[i].start, e->run[i].units));
    return OK;
}

static void check_promises(struct audit *a)
{
    const struct checkpoint *c = &a->checkpoint;
    for (uint32_t i = 0; i < c->head_slot_count; i++) {
        uint32_t slot = c->head_slots[i];
        if (slot >= a->slot_count || !a->slots[slot].exists) {
            audit_problem(a, "checkpoint: promises slot %u, which does not exist", slot);
            continue;
        }
        if (a->slots[slot].kind != SLOT_FREE && a->slots[slot].kind != SLOT_HEAD)
            audit_problem(a, "checkpoint: promises slot %u, which holds %s", slot, audit_kind_text(a->slots[slot].kind));
        for (uint32_t k = 0; k < i; k++)
            if (c->head_slots[k] == slot) audit_problem(a, "checkpoint: promises slot %u twice", slot);
    }
}

enum err audit_directory(struct audit *a)
{
    struct slot_entry *entries = mem_alloc(a->mem, DIRECTORY_SLOTS * sizeof *entries);
    if (!entries) return ERR_NO_MEMORY;
    mark_existing(a);
    for (uint32_t page = 0; page < a->page_count; page++) {
        uint32_t bits = a->checkpoint.directory_bits[page / 4] >> (page % 4 * 2), count;
        if (!(bits & 1)) continue;
        TRY(page_read(a, page, bits >> 1 & 1, entries, &count));
        if (count == AUDIT_NONE) continue;
        for (uint32_t i = 0; i < count; i++) TRY(slot_take(a, page * DIRECTORY_SLOTS + i, &entries[i]));
        if (count < DIRECTORY_SLOTS && a->slots[page * DIRECTORY_SLOTS + count].exists)
            audit_problem(a, "directory page %u: describes only %u slots", page, count);
    }
    mem_free(a->mem, entries);
    check_promises(a);
    return OK;
}

/* ---- runs ---- */

static int by_start(const void *a, const void *b)
{
    const struct audit_run *x = a, *y = b;
    return x->start < y->start ? -1 : x->start > y->start;
}

void audit_runs_sort(struct audit *a)
{
    if (a->run_count) qsort(a->runs, a->run_count, sizeof *a->runs, by_start);
    for (uint32_t i = 1; i < a->run_count; i++) {
        const struct audit_run *x = &a->runs[i - 1], *y = &a->runs[i];
        if (x->start + x->units > y->start)
            audit_problem(a, "slots %u and %u both hold log address %" PRIu64, x->slot, y->slot, y->start * UNIT);
    }
}

const struct audit_run *audit_run_of(const struct audit *a, uint64_t address)
{
    uint64_t unit = address / UNIT;
    uint32_t low = 0, high = a->run_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (a->runs[middle].start <= unit)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0) return NULL;
    const struct audit_run *run = &a->runs[low - 1];
    return unit - run->start < run->units ? run : NULL;
}
