/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A checkpoint makes upkeep's work count: roots, directory, replay point, and the slots that the head may open next.
 *
 * Order: pages written; devices synced; directory pages written to their other side; synced; then the record, twice. Only
 * then are the cleaned slots free and the new promises valid. Records alternate between two sides, so a torn record leaves
 * the one before. While this runs the foreground goes on: it may open promised slots, which is why the record lists every
 * promise that was open when the directory was captured, and it may publish, which is why the replay point is taken first.
 */
#include "store/internal.h"

static uint64_t side_at(const struct store *s, uint64_t number, uint32_t copy)
{
    return checkpoint_side_at(s->super.checkpoint_bytes, (number & 1) ^ 1, copy);
}

static struct device *copy_device(struct store *s, uint32_t copy)
{
    return &s->devices[copy % s->device_count];
}

enum err devices_sync(struct store *s)
{
    for (uint32_t i = 0; i < s->device_count; i++) {
        if (!s->devices[i].dirty) continue;
        s->devices[i].dirty = false;
        TRY(io_task_sync(s->io, s->devices[i].file));
    }
    return OK;
}

/* ---- directory ---- */

static void bit_set(uint8_t *bits, uint32_t i, bool on)
{
    bits[i / 8] = (uint8_t)((bits[i / 8] & ~(1u << (i % 8))) | (on ? 1u << (i % 8) : 0));
}

static bool bit_get(const uint8_t *bits, uint32_t i)
{
    return bits[i / 8] >> (i % 8) & 1;
}

static uint32_t slots_of_page(const struct store *s, uint32_t page)
{
    uint32_t count = 0;
    while (count < DIRECTORY_SLOTS && slot_exists(s, page * DIRECTORY_SLOTS + count)) count++;
    return count;
}

static enum err directory_write(struct store *s, uint32_t page, uint64_t number)
{
    struct slot_entry entries[DIRECTORY_SLOTS];
    uint32_t count = slots_of_page(s, page);
    memset(entries, 0, sizeof entries);
    for (uint32_t i = 0; i < count; i++) {
        const struct slot *sl = slot_peek(s, page * DIRECTORY_SLOTS + i);
        if (!sl || sl->state != SLOT_IS_USED || sl->runs == 0) continue;
        struct slot_entry *e = &entries[i];
        *e = (struct slot_entry){.kind = sl->kind, .age = sl->age, .runs = sl->runs, .live = sl->live, .chunks = sl->chunks};
        for (uint32_t k = 0; k < sl->runs; k++) {
            struct directory_run run;
            bool found = directory_find(s->directory, sl->start[k], &run);
            assert(found && run.start == sl->start[k]);
            e->run[k] = (struct run){run.start, run.units};
        }
    }
    uint32_t bytes = directory_encode(page, number, count, entries, s->salt, s->fetch_buf);
    struct device *d;
    uint64_t ignored;
    slot_where(s, page * DIRECTORY_SLOTS, &d, &ignored);
    uint32_t place = page - d->first_slot / DIRECTORY_SLOTS;
    bool side = bit_get(s->directory_bits, page * 2) && !bit_get(s->directory_bits, page * 2 + 1);
    d->dirty = true;
    for (uint32_t copy = 0; copy < 2; copy++) {
        uint64_t at = directory_page_at(d->directory_at, place, side, copy);
        TRY(io_task_write(s->io, d->file, at, s->fetch_buf, bytes, 0));
    }
    if (s->directory_numbers[page]) s->directory_digest ^= directory_mix(page, s->directory_numbers[page]);
    s->directory_numbers[page] = number;
    s->directory_digest ^= directory_mix(page, number);
    bit_set(s->directory_bits, page * 2, true);
    bit_set(s->directory_bits, page * 2 + 1, side);
    s->stats.directory_bytes += 2ull * bytes;
    return OK;
}

static enum err directory_write_dirty(struct store *s, uint64_t number)
{
    for (uint32_t page = 0; page < s->page_count && s->directory_dirty_count > 0; page++) {
        if (!bit_get(s->directory_dirty, page)) continue;
        bit_set(s->directory_dirty, page, false); /* first: what changes while this waits is dirty again */
        s->directory_dirty_count--;
        TRY(directory_write(s, page, number));
    }
    return OK;
}

/* ---- what goes into the record ---- */

uint64_t checkpoint_slots(const struct store *s)
{
    enum { PAGE_ROOM = sizeof(struct disk_inner) + 64 };
    uint64_t bytes = s->map.dirty ? (s->map.dirty + INNER_LEVELS) * (uint64_t)PAGE_ROOM : 0;
    for (const struct list *l = s->volumes.next; l != &s->volumes; l = l->next) {
        const struct volume *v = CONTAINER(l, struct volume, link);
        if (v->state_dirty) bytes += 2ull * v->state_bytes + PAGE_ROOM;
        if (v->cut != UINT64_MAX) bytes += (uint64_t)INNER_LEVELS * PAGE_ROOM;
    }
    return bytes ? bytes / (s->segment_bytes - 16384) + 1 : 0;
}

/* A third of what is to be had, so that the cleaner and the pages keep room. When space is tight a few, for unmaps; but never
 * what the next checkpoint and the cleaner after it need: they bring space back. */
uint64_t checkpoint_promises(const struct store *s)
{
    enum { FOR_CLEANER = 4, FEW = 3 };
    uint64_t all = s->slots_free + s->log.promised_count, private = slots_private(s);
    uint64_t spare = all > private ? all - private : 0, keep = checkpoint_slots(s) + FOR_CLEANER;
    uint64_t few = all > keep ? min64(all - keep, FEW) : 0;
    return min64(HEAD_SLOTS_MAX - 1, max64(spare / 3, few));
}

/* Promises for the head. The last ones may be taken back before the next checkpoint says so: recovery may look at such a slot,
 * but finds no batch in it that goes on with the chain. */
static void promise(struct store *s)
{
    struct log *l = &s->log;
    uint64_t want = checkpoint_promises(s);
    while (l->promised_count > want) log_unpromise(s);
    while (l->promised_count < want) {
        uint32_t slot;
        if (!slot_alloc(s, SLOT_IS_PROMISED, &slot)) break;
        l->promised[(l->promised_first + l->promised_count++) % HEAD_SLOTS_MAX] = slot;
    }
}

static void prune_chains(struct store *s, uint64_t replay_number)
{
    struct log *l = &s->log;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < l->chain_count; i++)
        if (l->chains[i].end_number + 1 > replay_number) l->chains[kept++] = l->chains[i];
    l->chain_count = kept;
}

static void fill_roots(struct store *s, struct checkpoint *c)
{
    for (struct list *l = s->volumes.next; l != &s->volumes; l = l->next) {
        const struct volume *v = CONTAINER(l, struct volume, link);
        bool learning = v->learning && !MUTATED(MUTATE_LEARNING_FORGOTTEN);
        if (v->deleted) continue; /* one that is not published yet is listed too: its CREATE may be replayed */
        c->volumes[c->volume_count++] = (struct volume_root){.id = v->id,
                                                             .epoch = v->epoch,
                                                             .flags = learning ? VOLUME_LEARNING : 0,
                                                             .stamped = v->stamped,
                                                             .blocks = v->blocks,
                                                             .committed = v->published,
                                                             .root = v->root,
                                                             .state = v->state_root};
    }
}

/* Volumes that are gone go, cuts and keyed states are written. What is published while this waits is found by replay: the
 * replay point was taken before. A volume stays as long as a walk may stand in its tree. */
static enum err settle(struct store *s)
{
    uint32_t next = 1;
    for (struct list *l = s->volumes.next; l != &s->volumes;) {
        struct volume *v = CONTAINER(l, struct volume, link);
        l = l->next;
        if (v->id < next) continue;
        next = v->id + 1;
        if (v->deleted) {
            if (s->tree_users == 0) volume_remove(s, v);
            continue;
        }
        TRY(map_cut(s, v));
        TRY(state_write(s, v));
        l = s->volumes.next; /* those waited */
    }
    return map_write_dirty(s);
}

static enum err record_write(struct store *s, const struct checkpoint *c)
{
    uint64_t room = checkpoint_room(c->chain_count, c->head_slot_count, c->prepared_count, c->volume_count, c->directory_pages);
    if (room > s->super.checkpoint_bytes) return ERR_LIMIT;
    uint32_t bytes = checkpoint_encode(c, s->salt, s->checkpoint_buf);
    for (uint32_t copy = 0; copy < 2; copy++) {
        if (copy == 1 && MUTATED(MUTATE_ONE_CHECKPOINT)) break;
        struct device *d = copy_device(s, copy);
        TRY(io_task_write(s->io, d->file, side_at(s, c->number, copy), s->checkpoint_buf, bytes, IO_WRITE_DURABLE));
        s->stats.checkpoint_bytes += bytes;
    }
    return OK;
}

struct arrays {
    struct volume_root *volumes;
    uint32_t head[HEAD_SLOTS_MAX];
    struct chain chains[CHAIN_MAX];
};

static void capture(struct store *s, struct checkpoint *c, struct arrays *a)
{
    struct log *l = &s->log;
    log_forget_before(s, min64(c->replay_address / s->segment_bytes, log_replay_segment(s)));
    prune_chains(s, c->replay_number);
    memcpy(a->chains, l->chains, sizeof a->chains);
    for (uint32_t i = 0; i < l->promised_count; i++) a->head[i] = l->promised[(l->promised_first + i) % HEAD_SLOTS_MAX];
    memcpy(c->pool_id, s->super.pool_id, 16);
    c->incarnation = l->incarnation;
    c->next_segment = s->next_segment;
    c->next_serial = s->next_serial;
    c->written_number = l->durable;
    c->last_volume = s->last_volume;
    c->user_bytes = s->stats.user_written;
    c->flags = s->closing ? CHECKPOINT_CLEAN : 0;
    c->chain_count = l->chain_count;
    c->head_slot_count = l->promised_count;
    c->directory_pages = s->page_count;
    c->chains = a->chains;
    c->head_slots = a->head;
    c->volumes = a->volumes;
    c->directory_bits = s->directory_bits;
    fill_roots(s, c);
}

/* Where replay would begin if the roots were as they are now. */
static void replay_point(struct store *s, struct checkpoint *c)
{
    uint64_t segment = log_replay_segment(s);
    if (segment == UINT64_MAX) { /* nothing to replay: from the next segment on */
        c->replay_address = s->next_segment * s->segment_bytes;
        c->replay_number = s->log.durable + 1;
        c->replay_previous = s->log.durable_checksum;
        return;
    }
    for (uint32_t i = 0; i < s->log.seg_count; i++) {
        const struct head_segment *hs = log_segment(s, i);
        if (hs->segment < segment) continue;
        c->replay_address = hs->segment * s->segment_bytes;
        c->replay_number = hs->first_number;
        c->replay_previous = hs->first_previous;
        return;
    }
    assert(false); /* the replay segment is always among those that are kept */
}

/* The last slots are for a checkpoint that gives some back: a power cut after each start, time and again, must not use them
 * up. */
static bool has_room(const struct store *s)
{
    uint64_t left = s->slots_free + s->log.promised_count, needs = checkpoint_slots(s);
    return needs == 0 || left >= needs + (s->slots_pending > 0 ? 0 : 2);
}

static enum err write_pages(struct store *s, struct checkpoint *c)
{
    replay_point(s, c);
    TRY(settle(s));
    return meta_write(s);
}

static enum err write_rest(struct store *s, struct checkpoint *c, struct arrays *a)
{
    promise(s);
    a->volumes = mem_alloc(s->mem, (s->volume_count + 1ull) * sizeof *a->volumes);
    if (!a->volumes) return ERR_NO_MEMORY;
    capture(s, c, a);
    if (!MUTATED(MUTATE_CHECKPOINT_UNSYNCED)) TRY(devices_sync(s));
    TRY(directory_write_dirty(s, c->number));
    if (!MUTATED(MUTATE_CHECKPOINT_UNSYNCED)) TRY(devices_sync(s));
    c->directory_digest = s->directory_digest;
    return s->failed == OK ? record_write(s, c) : ERR_POOL_FAILED;
}

static enum err write(struct store *s, const struct checkpoint *from)
{
    assert(!s->writing_checkpoint);
    if (!from && !has_room(s)) return ERR_NO_SPACE;
    struct checkpoint c = {.number = s->checkpoint_number + 1};
    if (from) {
        c.replay_address = from->replay_address;
        c.replay_number = from->replay_number;
        c.replay_previous = from->replay_previous;
    }
    struct arrays *a = mem_alloc(s->mem, sizeof *a);
    enum err err = a ? OK : ERR_NO_MEMORY;
    s->writing_checkpoint = true;
    s->checkpoint_wanted = false;
    s->changed = false;
    if (err == OK && !from) err = write_pages(s, &c);
    bool full = err == ERR_NO_SPACE; /* nothing of it is on the device: it can be tried again when there is space */
    if (err == OK) err = write_rest(s, &c, a);
    if (a) mem_free(s->mem, a->volumes);
    mem_free(s->mem, a);
    s->writing_checkpoint = false;
    if (err != OK) {
        s->changed = true;
        if (!full) log_fail(s, err, "writing a checkpoint");
        return err;
    }
    if (from) s->changed = true; /* what was replayed waits for a whole one */
    s->checkpoint_number = c.number;
    s->log.promised_good = s->log.promised_count;
    s->replay_segment = c.replay_address / s->segment_bytes;
    s->last_checkpoint_ns = io_now_ns(s->io);
    s->stats.checkpoints++;
    slot_freed_by(s, c.number);
    log_kick(s);
    return OK;
}

enum err checkpoint_write(struct store *s)
{
    return write(s, NULL);
}

enum err checkpoint_write_light(struct store *s, const struct checkpoint *from)
{
    return write(s, from);
}
