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
    uint64_t side = (number & 1) ^ 1;
    return CHECKPOINT_AT + (copy * 2 + side) * s->super.checkpoint_bytes;
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
    uint64_t at = d->directory_at + (uint64_t)(page - d->first_slot / DIRECTORY_SLOTS) * 4 * DIRECTORY_BYTES;
    bool side = bit_get(s->directory_bits, page * 2) && !bit_get(s->directory_bits, page * 2 + 1);
    d->dirty = true;
    for (uint32_t copy = 0; copy < 2; copy++)
        TRY(io_task_write(s->io, d->file, at + (copy * 2 + side) * DIRECTORY_BYTES, s->fetch_buf, bytes, 0));
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

/* Promises for the head: half of what may be given, so that the cleaner and the pages keep room. Never none. */
static void promise(struct store *s)
{
    struct log *l = &s->log;
    uint64_t private = slots_private(s);
    uint64_t spare = s->slots_free > private ? s->slots_free - private : 0;
    uint64_t want = min64(HEAD_SLOTS_MAX - 1, max64(spare / 2, s->slots_free > private / 2 ? 3 : s->slots_free > 2 ? 1 : 0));
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
        if (v->deleted) continue; /* one that is not published yet is listed too: its CREATE may be replayed */
        c->volumes[c->volume_count++] = (struct volume_root){.id = v->id,
                                                             .epoch = v->epoch,
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

static void capture(struct store *s, struct checkpoint *c, struct arrays *a, bool clean)
{
    struct log *l = &s->log;
    log_forget_before(s, min64(c->replay_address / s->segment_bytes, log_replay_segment(s)));
    prune_chains(s, c->replay_number);
    memcpy(a->chains, l->chains, sizeof a->chains);
    for (uint32_t i = 0; i < l->promised_count; i++) a->head[i] = l->promised[(l->promised_first + i) % HEAD_SLOTS_MAX];
    memcpy(c->pool_id, s->super.pool_id, 16);
    c->incarnation = l->incarnation;
    c->flags = clean ? CHECKPOINT_CLEAN : 0;
    c->next_segment = s->next_segment;
    c->next_serial = s->next_serial;
    c->written_number = l->durable;
    c->last_volume = s->last_volume;
    c->user_bytes = s->stats.user_written;
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

static enum err write_all(struct store *s, struct checkpoint *c, struct arrays *a, bool clean)
{
    replay_point(s, c);
    TRY(settle(s));
    TRY(meta_write(s));
    promise(s);
    a->volumes = mem_alloc(s->mem, (s->volume_count + 1ull) * sizeof *a->volumes);
    if (!a->volumes) return ERR_NO_MEMORY;
    capture(s, c, a, clean);
    if (!MUTATED(MUTATE_CHECKPOINT_UNSYNCED)) TRY(devices_sync(s));
    TRY(directory_write_dirty(s, c->number));
    if (!MUTATED(MUTATE_CHECKPOINT_UNSYNCED)) TRY(devices_sync(s));
    c->directory_digest = s->directory_digest;
    return s->failed == OK ? record_write(s, c) : ERR_POOL_FAILED;
}

enum err checkpoint_write(struct store *s, bool clean)
{
    assert(!s->writing_checkpoint);
    struct checkpoint c = {.number = s->checkpoint_number + 1};
    struct arrays *a = mem_alloc(s->mem, sizeof *a);
    enum err err = a ? OK : ERR_NO_MEMORY;
    s->writing_checkpoint = true;
    s->checkpoint_wanted = false;
    s->changed = false;
    if (err == OK) err = write_all(s, &c, a, clean);
    if (a) mem_free(s->mem, a->volumes);
    mem_free(s->mem, a);
    s->writing_checkpoint = false;
    if (err != OK) {
        log_fail(s, err, "writing a checkpoint");
        return err;
    }
    s->checkpoint_number = c.number;
    s->log.promised_good = s->log.promised_count;
    s->replay_segment = c.replay_address / s->segment_bytes;
    s->checkpoint_head_bytes = s->stats.head_bytes;
    s->last_checkpoint_ns = io_now_ns(s->io);
    s->stats.checkpoints++;
    slot_freed_by(s, c.number);
    log_kick(s);
    return OK;
}
