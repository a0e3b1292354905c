/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recovery: the newest checkpoint, then the longest unbroken chain of batches after its replay point.
 *
 * Head segments are read in the order in which they were opened: those that the directory knows, then the promised slots.
 * A sealed segment is replayed from its summary; an open one from its batches. The chain ends at the first batch that is
 * missing, torn, or does not follow. Where an earlier recovery accepted an end, the chain goes on only in a later segment
 * under a higher incarnation, so a discarded tail never comes back.
 *
 * A torn end is normal. A hole before something that was acknowledged is not: every batch says which ones were durable
 * when it was written, and a seal says that its whole segment was. If one of these is found behind the end, the log is
 * damaged, and nothing is opened rather than something lost in silence.
 *
 * A record is published when a later record says that it was committed; what remains undecided at the end is handed to
 * the caller as prepared. Replay sets the same mappings again that may already be in the pages: harmless, because everything
 * from the replay point on is replayed in order.
 */
#include <stdio.h>
#include <stdlib.h>

#include "store/internal.h"

struct replay {
    struct store *s;
    uint64_t number, previous; /* of the batch that comes next, and the checksum it must name */
    uint32_t incarnation;
    uint32_t chain; /* entry that ends the present incarnation */
    const struct checkpoint *c;
    uint8_t *buf; /* one segment */
    uint64_t newest_segment;
    uint64_t end_address; /* where the chain ended */
    uint8_t *body;        /* of the summary that an open segment gets now, one segment */
    struct trailer seal;
    struct summary_before before; /* in that summary */
    uint8_t *block;               /* BLOCK_SIZE */
    struct store_problem *problem;
    struct ahead *ahead;
};

/* ---- undecided operations ---- */

static struct store_op *op_take(struct store *s)
{
    struct list *l = list_pop(&s->recovered_ops);
    struct store_op *op = l ? CONTAINER(l, struct store_op, link) : mem_alloc(s->mem, sizeof *op);
    if (!op) return NULL;
    mem_free(s->mem, op->state_copy);
    *op = (struct store_op){.store = s, .state = STORE_OP_PREPARED};
    return op;
}

static void op_free(struct store *s, struct store_op *op)
{
    list_remove(&op->prepared);
    list_push(&s->recovered_ops, &op->link);
}

/* Room in the delta for one more operation; flushes when the delta is smaller than what has to be replayed. */
static enum err delta_room(struct store *s, const struct store_op *op)
{
    uint32_t entries, leaves;
    delta_cost(op, &entries, &leaves);
    while (!delta_reserve(s, entries, leaves)) {
        if (list_empty(&s->delta.by_age)) return ERR_NO_MEMORY;
        if (s->map.dirty > s->map.count / 3) TRY(map_write_dirty(s)); /* nobody else does it yet */
        TRY(map_flush_leaf(s, CONTAINER(s->delta.by_age.next, struct delta_leaf, by_age)));
    }
    return OK;
}

static enum err make_visible(struct store *s, struct store_op *op)
{
    uint32_t entries, leaves;
    delta_cost(op, &entries, &leaves);
    TRY(delta_room(s, op));
    delta_unreserve(s, entries, leaves);
    if (volume_find(s, op->volume)) op_publish(s, op, op->position / s->segment_bytes);
    op_free(s, op);
    return OK;
}

/* Publishes undecided operations of the volume up to `sequence` and `epoch`. Only now they take room: many records may pass
 * before one says that they were committed. */
static enum err decide(struct store *s, uint32_t volume, uint64_t sequence, uint32_t epoch)
{
    for (struct list *l = s->prepared.next, *next; l != &s->prepared; l = next) {
        next = l->next;
        struct store_op *op = CONTAINER(l, struct store_op, prepared);
        if (op->volume != volume || op->sequence > sequence || op->epoch > epoch) continue;
        TRY(make_visible(s, op));
    }
    return OK;
}

static void undo(struct store *s, uint32_t volume, uint64_t sequence)
{
    struct volume *v = volume_find(s, volume);
    for (struct list *l = s->prepared.next, *next; l != &s->prepared; l = next) {
        next = l->next;
        struct store_op *op = CONTAINER(l, struct store_op, prepared);
        if (op->volume != volume || op->sequence < sequence) continue;
        op_free(s, op);
    }
    if (!v) return;
    if (v->published == 0 && sequence <= 1)
        volume_remove(s, v);
    else
        volume_shorten(s, v, sequence);
}

/* ---- records ---- */

/* The fingerprints are left to the rebuild of the index, which comes by here later: to insert them now would take as long
 * as all the rest of replay. */
static void take_blocks(struct store *s, struct store_op *op, const struct record *r, const struct entry *entries,
                        uint64_t address)
{
    uint64_t chunk = address + record_head_bytes(r);
    uint32_t block = 0, units = 0;
    op->what = ENTRY_NEW;
    for (uint32_t i = 0; i < r->entries; i++) {
        const struct entry e = entries[i];
        if (r->entries == 1 && (e.kind == ENTRY_UNMAP || e.kind == ENTRY_ZERO)) {
            op->what = (enum entry_kind)e.kind;
            return;
        }
        uint64_t place = e.kind == ENTRY_NEW    ? place_of(chunk, e.units)
                         : e.kind == ENTRY_DUP  ? e.place
                         : e.kind == ENTRY_ZERO ? PLACE_ZERO
                                                : PLACE_NONE;
        for (uint32_t k = 0; k < e.count && block < RECORD_BLOCKS_MAX; k++, block++) {
            op->places[block] = place;
            op->tags[block] = e.kind == ENTRY_NEW || e.kind == ENTRY_DUP ? e.tag : 0;
        }
        if (e.kind != ENTRY_NEW) continue;
        chunk += e.units * UNIT;
        units += e.units;
    }
    struct directory_run run; /* of the segment that the record is in */
    if (units == 0 || !directory_find(s->directory, address / UNIT, &run)) return;
    slot_at(s, run.slot)->live += units;
    s->live_units += units;
}

static enum err take_state(struct store *s, struct store_op *op, const struct record *r)
{
    op->state_copy = mem_alloc(s->mem, r->key_bytes + r->value_bytes + 1ull);
    if (!op->state_copy) return ERR_NO_MEMORY;
    memcpy(op->state_copy, r->state, (size_t)r->key_bytes + r->value_bytes);
    op->key = op->state_copy;
    op->key_bytes = r->key_bytes;
    op->value = op->state_copy + r->key_bytes;
    op->value_bytes = r->value_bytes;
    return OK;
}

/* What a record says of those before it: up to where they were committed. Catch-up begins where nothing is undecided, but for
 * local keys. */
static enum err settle_before(struct store *s, const struct record *r)
{
    if (r->learn && !record_is_local(r) && !MUTATED(MUTATE_LEARN_UNDECIDED))
        return decide(s, r->volume, UINT64_MAX, UINT32_MAX);
    return r->commit ? decide(s, r->volume, r->commit, UINT32_MAX) : OK;
}

static enum err replay_record(struct replay *rp, const struct record *r, const struct entry *entries, uint64_t address)
{
    struct store *s = rp->s;
    s->stats.replayed_records++;
    if (r->kind == RECORD_DISCARD) {
        undo(s, r->volume, r->sequence);
        return OK;
    }
    TRY(settle_before(s, r));
    struct volume *v = volume_find(s, r->volume);
    if (!v && r->kind == RECORD_CREATE && r->volume > s->last_volume) v = volume_add(s, r->volume);
    if (!v) return OK; /* deleted later in the log, or before the checkpoint */
    struct store_op *op = op_take(s);
    if (!op) return ERR_NO_MEMORY;
    op->kind = (enum record_kind)r->kind;
    op->learn = r->learn;
    op->volume = r->volume;
    op->epoch = r->epoch;
    op->previous_epoch = r->previous_epoch;
    op->sequence = r->sequence;
    op->lba = r->lba;
    op->count = r->count;
    op->request = r->request;
    op->boot = r->boot;
    op->node = r->node;
    op->position = address;
    if (r->kind == RECORD_DATA) take_blocks(s, op, r, entries, address);
    if (r->key_bytes > 0) TRY(take_state(s, op, r));
    list_push(&s->prepared, &op->prepared);
    if (r->learn) return make_visible(s, op);
    if (r->kind == RECORD_DELETE) v->deleting = true;
    if (r->kind == RECORD_CREATE || r->kind == RECORD_RESIZE) v->resized = r->sequence;
    v->appended = v->prepared = r->sequence;
    v->appended_epoch = r->epoch;
    return OK;
}

/* ---- segments ---- */

struct head_slot {
    uint64_t segment; /* 0: promised, not known */
    uint32_t slot;
    bool known;   /* the directory had it */
    bool reached; /* and the chain went through it */
};

static enum err slot_read_patient(struct store *s, uint32_t slot, uint32_t offset, uint8_t *buf, uint32_t bytes)
{
    enum err err = OK;
    for (uint32_t tries = 0; tries < 3; tries++) {
        struct device *d;
        uint64_t at;
        slot_where(s, slot, &d, &at);
        err = io_task_read(s->io, d->file, at + offset, buf, bytes);
        if (err == OK || err == ERR_POWER || err == ERR_VANISHED) return err;
    }
    return err;
}

/* The end of a slot, which is where its summary is. */
static enum err slot_end_read(struct replay *rp, uint32_t slot, uint32_t bytes)
{
    uint32_t segment_bytes = (uint32_t)rp->s->segment_bytes;
    if (ahead_take(rp->ahead, slot, bytes, rp->buf)) return OK;
    return slot_read_patient(rp->s, slot, segment_bytes - bytes, rp->buf, bytes);
}

static uint32_t slot_of_head(const void *list, uint32_t i)
{
    return ((const struct head_slot *)list)[i].slot;
}

/* A slot that recovery found to be a head segment: into the directory, unless it was there. */
static enum err segment_found(struct replay *rp, struct head_slot *hs, uint64_t segment, bool sealed, uint32_t chunks)
{
    struct store *s = rp->s;
    if (!hs->known) {
        if (!slot_touch(s, hs->slot)) return ERR_NO_MEMORY;
        struct directory_run there;
        uint64_t unit = segment * s->segment_bytes / UNIT;
        if (directory_next(s->directory, unit, &there) && there.start < unit + s->segment_bytes / UNIT) return ERR_LOG_DAMAGED;
        struct slot *sl = slot_at(s, hs->slot);
        if (sl->state == SLOT_IS_FREE) s->slots_free--;
        struct run run = {segment * s->segment_bytes / UNIT, (uint32_t)(s->segment_bytes / UNIT)};
        slot_use(s, hs->slot, SLOT_HEAD, 1, &run);
        hs->known = true;
    } else {
        s->live_units -= min64(s->live_units, slot_at(s, hs->slot)->live);
    }
    slot_at(s, hs->slot)->live = 0; /* counted again by replay */
    slot_at(s, hs->slot)->sealed = sealed;
    slot_at(s, hs->slot)->chunks = chunks;
    hs->segment = segment;
    hs->reached = true;
    if (segment > rp->newest_segment) rp->newest_segment = segment;
    struct head_segment seg = {segment, rp->number, rp->previous, hs->slot};
    return log_segment_push(s, &seg) ? OK : ERR_LIMIT;
}

static bool chain_ended(const struct replay *rp)
{
    return rp->chain < rp->c->chain_count && rp->number == rp->c->chains[rp->chain].end_number + 1;
}

/* Replays a sealed segment from its summary; ERR_CHECKSUM or ERR_DECODE when the summary is not good (then the batches are). */
static enum err replay_sealed(struct replay *rp, struct head_slot *hs, const struct trailer *t)
{
    struct store *s = rp->s;
    uint64_t base = t->segment * s->segment_bytes;
    uint32_t tail = (uint32_t)round_up64(t->body_bytes + sizeof(struct disk_trailer), SECTOR);
    TRY(slot_end_read(rp, hs->slot, tail));
    const uint8_t *body = rp->buf + tail - sizeof(struct disk_trailer) - t->body_bytes;
    if (body_checksum(body, t->body_bytes, s->salt) != t->body_checksum) return ERR_CHECKSUM;
    TRY(segment_found(rp, hs, t->segment, true, t->chunks));
    struct summary_walk walk = summary_walk(body, t->body_bytes);
    struct entry entries[RECORD_BLOCKS_MAX];
    struct record r;
    uint32_t offset;
    enum err err;
    while ((err = summary_next(&walk, &offset, &r, entries)) == OK) {
        if (offset + record_head_bytes(&r) + (uint64_t)r.payload > t->data_bytes) return ERR_LOG_DAMAGED;
        enum err taken = replay_record(rp, &r, entries, base + offset);
        if (taken == ERR_CHECKSUM || taken == ERR_DECODE || taken == ERR_TRUNCATED) return ERR_LOG_DAMAGED;
        TRY(taken);
    }
    if (err != ERR_TRUNCATED) return ERR_LOG_DAMAGED;
    rp->number = t->last_number + 1;
    rp->previous = t->last_checksum;
    rp->end_address = base + t->data_bytes;
    return OK;
}

/* The batch does not have it. A chunk that is not what its batch's checksum covered when it was made is nobody's duplicate. */
static void print_again(struct replay *rp, const uint8_t *chunk, uint64_t address, struct entry *e)
{
    uint32_t size;
    enum err err = chunk_unpack(chunk, e->units, address, &e->tag, rp->block, BLOCK_SIZE, &size);
    if (err == OK && size == BLOCK_SIZE) fingerprint_of(&rp->s->key, rp->block, BLOCK_SIZE, &e->print);
    le32 tag = put32(e->tag);
    memcpy(e->print.b, tag.b, sizeof tag);
}

static void seal_add(struct replay *rp, const uint8_t *at, uint64_t address, const struct record *r, struct entry *entries)
{
    uint32_t chunk = record_head_bytes(r);
    if (rp->s->read_only) return;
    for (uint32_t i = 0; i < r->entries; i++) {
        if (entries[i].kind != ENTRY_NEW) continue;
        print_again(rp, at + chunk, address + chunk, &entries[i]);
        chunk += entries[i].units * UNIT;
        rp->seal.chunks++;
    }
    rp->seal.records++;
    rp->seal.body_bytes +=
        summary_add(&rp->before, (uint32_t)(address % rp->s->segment_bytes), r, entries, rp->body + rp->seal.body_bytes);
}

/* An open segment from before the crash gets its seal now, from the batches that were accepted: dedupe and the cleaner need
 * its summary, and nothing will ever be appended to it. */
static enum err seal_leftover(struct replay *rp, const struct head_slot *hs, uint32_t data_bytes)
{
    struct store *s = rp->s;
    struct trailer *t = &rp->seal;
    if (s->read_only) return OK;
    uint32_t tail = t->body_bytes + (uint32_t)sizeof(struct disk_trailer), bytes = (uint32_t)round_up64(tail, SECTOR);
    if (data_bytes + bytes > s->segment_bytes) return ERR_LOG_DAMAGED;
    t->last_number = rp->number - 1;
    t->last_checksum = rp->previous;
    t->data_bytes = data_bytes;
    t->body_checksum = body_checksum(rp->body, t->body_bytes, s->salt);
    uint8_t *out = rp->buf; /* its batches are replayed */
    memset(out, 0, bytes);
    memcpy(out + bytes - tail, rp->body, t->body_bytes);
    trailer_encode(t, s->salt, (struct disk_trailer *)(void *)(out + bytes - sizeof(struct disk_trailer)));
    TRY(slot_write(s, hs->slot, (uint32_t)s->segment_bytes - bytes, out, bytes));
    slot_at(s, hs->slot)->sealed = true;
    slot_at(s, hs->slot)->chunks = t->chunks;
    slot_dirty(s, hs->slot);
    return OK;
}

static enum err replay_batch(struct replay *rp, const uint8_t *at, const struct batch *b)
{
    uint32_t offset = sizeof(struct disk_batch);
    struct entry entries[RECORD_BLOCKS_MAX];
    for (uint32_t i = 0; i < b->records; i++) {
        struct record r;
        if (record_decode(at + offset, b->used - offset, b->address + offset, &r, entries) != OK) return ERR_LOG_DAMAGED;
        TRY(replay_record(rp, &r, entries, b->address + offset));
        seal_add(rp, at + offset, b->address + offset, &r, entries);
        offset += record_head_bytes(&r) + r.payload;
        if (offset > b->used) return ERR_LOG_DAMAGED;
    }
    return OK;
}

/* Is there proof, in what follows the end of the chain, that more than this was durable? `from` is an offset in rp->buf. */
static bool proof_behind(const struct replay *rp, uint64_t base, uint32_t from)
{
    const struct store *s = rp->s;
    for (uint32_t at = from; at + SECTOR <= s->segment_bytes; at += SECTOR) {
        struct batch b; /* at its own address: a misdirected one proves as much */
        uint64_t address;
        if (!batch_claims(rp->buf + at, &address)) continue;
        if (batch_decode(rp->buf + at, s->segment_bytes - at, address, s->salt, &b) != OK) continue;
        if (b.incarnation == rp->incarnation && b.number >= rp->number && b.durable >= rp->number) return true;
    }
    struct trailer t;
    if (trailer_decode(rp->buf + s->segment_bytes - sizeof(struct disk_trailer), sizeof(struct disk_trailer), s->segment_bytes,
                       s->salt, &t) != OK)
        return false;
    return t.kind == SLOT_HEAD && t.segment * s->segment_bytes == base && t.incarnation == rp->incarnation &&
           t.last_number >= rp->number;
}

/* Replays an open segment batch by batch. *ret_used: bytes of it that are good; 0: the chain does not go on here. */
static enum err replay_open(struct replay *rp, struct head_slot *hs, uint32_t *ret_used)
{
    struct store *s = rp->s;
    uint32_t at = 0;
    uint64_t base = 0;
    TRY(slot_read_patient(s, hs->slot, 0, rp->buf, (uint32_t)s->segment_bytes));
    while (at + SECTOR <= s->segment_bytes && !chain_ended(rp)) {
        struct batch b;
        if (at == 0 && !batch_claims(rp->buf, &base)) break;
        if (base % s->segment_bytes || (hs->segment && base != hs->segment * s->segment_bytes)) break;
        if (batch_decode(rp->buf + at, s->segment_bytes - at, base + at, s->salt, &b) != OK) break;
        if (b.number != rp->number || b.previous != rp->previous || b.incarnation != rp->incarnation) break;
        if (at == 0) {
            rp->seal = (struct trailer){.kind = SLOT_HEAD,
                                        .segment = base / s->segment_bytes,
                                        .slot = hs->slot,
                                        .incarnation = rp->incarnation,
                                        .first_number = rp->number,
                                        .first_previous = rp->previous};
            rp->before = (struct summary_before){0};
            TRY(segment_found(rp, hs, base / s->segment_bytes, false, 0));
        }
        TRY(replay_batch(rp, rp->buf + at, &b));
        rp->number++;
        rp->previous = b.checksum;
        at += b.length;
        rp->end_address = base + at;
    }
    *ret_used = at;
    if (!chain_ended(rp) && (at > 0 || hs->segment)) {
        if (at == 0) base = hs->segment * s->segment_bytes;
        if (proof_behind(rp, base, at)) return ERR_LOG_DAMAGED;
    }
    return at > 0 ? seal_leftover(rp, hs, at) : OK;
}

/* The next head segment. *ret_on: the chain went on here. */
static enum err replay_segment(struct replay *rp, struct head_slot *hs, bool *ret_on)
{
    struct store *s = rp->s;
    *ret_on = false;
    if (!slot_exists(s, hs->slot) || !slot_touch(s, hs->slot)) return ERR_LOG_DAMAGED;
    struct trailer t;
    TRY(slot_end_read(rp, hs->slot, SECTOR));
    enum err err = trailer_decode(rp->buf + SECTOR - sizeof(struct disk_trailer), sizeof(struct disk_trailer), s->segment_bytes,
                                  s->salt, &t);
    bool sealed = err == OK && t.kind == SLOT_HEAD && t.slot == hs->slot && t.first_number == rp->number &&
                  t.first_previous == rp->previous && t.incarnation == rp->incarnation &&
                  (!hs->segment || t.segment == hs->segment);
    if (sealed && rp->chain < rp->c->chain_count && t.last_number > rp->c->chains[rp->chain].end_number) sealed = false;
    if (sealed) {
        uint32_t before = s->log.seg_count;
        err = replay_sealed(rp, hs, &t);
        if (err != ERR_CHECKSUM && err != ERR_DECODE) {
            *ret_on = err == OK;
            return err;
        }
        assert(s->log.seg_count == before);
    }
    uint32_t used;
    TRY(replay_open(rp, hs, &used));
    *ret_on = used > 0;
    if (sealed && rp->number <= t.last_number) return ERR_LOG_DAMAGED;
    return OK;
}

/* ---- the list of head segments, in order ---- */

static int by_segment(const void *a, const void *b)
{
    const struct head_slot *x = a, *y = b;
    return x->segment < y->segment ? -1 : x->segment > y->segment;
}

/* A head segment from `first` on and before `end`. */
static bool is_head(const struct store *s, const struct slot *sl, uint64_t first, uint64_t end)
{
    uint64_t segment = sl->start[0] * UNIT / s->segment_bytes;
    return sl->state == SLOT_IS_USED && sl->kind == SLOT_HEAD && sl->runs > 0 && segment >= first && segment < end;
}

/* First what was open when the checkpoint was taken, by number, then the promises in their order. The directory was written
 * after that, page by page, and may know any of the promises as opened meanwhile: a later one without an earlier one. */
static enum err list_heads(struct store *s, const struct checkpoint *c, struct head_slot **ret_list, uint32_t *ret_count)
{
    uint64_t first = c->replay_address / s->segment_bytes;
    uint32_t count = 0, known = 0;
    for (uint32_t round = 0; round < 2; round++) {
        if (round == 1 && !(*ret_list = mem_alloc(s->mem, (known + c->head_slot_count + 1ull) * sizeof **ret_list)))
            return ERR_NO_MEMORY;
        for (uint32_t slot = 0; slot < s->page_count * DIRECTORY_SLOTS; slot++) {
            if (!s->slot_pages[slot / DIRECTORY_SLOTS]) {
                slot += DIRECTORY_SLOTS - 1;
                continue;
            }
            const struct slot *sl = slot_peek(s, slot);
            if (!is_head(s, sl, first, c->next_segment)) continue;
            if (round == 0)
                known++;
            else
                (*ret_list)[count++] = (struct head_slot){sl->start[0] * UNIT / s->segment_bytes, slot, true, false};
        }
    }
    if (count > 0) qsort(*ret_list, count, sizeof **ret_list, by_segment);
    for (uint32_t i = 0; i < c->head_slot_count; i++) {
        const struct slot *sl = slot_peek(s, c->head_slots[i]);
        bool opened = sl && is_head(s, sl, c->next_segment, UINT64_MAX);
        if (sl && sl->state == SLOT_IS_USED && !opened) continue; /* the promise was taken back */
        uint64_t segment = opened ? sl->start[0] * UNIT / s->segment_bytes : 0;
        (*ret_list)[count++] = (struct head_slot){segment, c->head_slots[i], opened, false};
    }
    *ret_count = count;
    return OK;
}

/* Which segment the slot in rp->buf claims to hold, from any batch or seal in it; 0: none newer than what was replayed. */
static uint64_t segment_claimed(const struct replay *rp)
{
    const struct store *s = rp->s;
    for (uint32_t at = 0; at + SECTOR <= s->segment_bytes; at += SECTOR) {
        uint64_t address;
        if (!batch_claims(rp->buf + at, &address) || address % s->segment_bytes != at) continue;
        if ((address - at) / s->segment_bytes > rp->newest_segment) return (address - at) / s->segment_bytes;
    }
    struct trailer t;
    enum err err = trailer_decode(rp->buf + s->segment_bytes - sizeof(struct disk_trailer), sizeof(struct disk_trailer),
                                  s->segment_bytes, s->salt, &t);
    return err == OK && t.kind == SLOT_HEAD && t.segment > rp->newest_segment ? t.segment : 0;
}

/* A later segment of this incarnation with something durable beyond the end means that the log is damaged here. */
static enum err look_behind(struct replay *rp, const struct head_slot *list, uint32_t from, uint32_t count)
{
    struct store *s = rp->s;
    for (uint32_t i = from; i < count; i++) {
        if (i > from + 8 && !list[i].known) break;
        if (list[i].known && list[i].segment) {
            TRY(slot_read_patient(s, list[i].slot, 0, rp->buf, (uint32_t)s->segment_bytes));
            if (proof_behind(rp, list[i].segment * s->segment_bytes, 0)) return ERR_LOG_DAMAGED;
            continue;
        }
        TRY(slot_read_patient(s, list[i].slot, 0, rp->buf, (uint32_t)s->segment_bytes));
        uint64_t segment = segment_claimed(rp);
        if (segment && proof_behind(rp, segment * s->segment_bytes, 0)) return ERR_LOG_DAMAGED;
    }
    return OK;
}

/* Where an earlier recovery stopped, the next incarnation starts, in a later segment. */
static void next_incarnation(struct replay *rp)
{
    while (chain_ended(rp)) {
        rp->chain++;
        rp->incarnation = rp->chain < rp->c->chain_count ? rp->c->chains[rp->chain].incarnation : rp->c->incarnation;
    }
}

static enum err replay_all(struct replay *rp, struct head_slot *list, uint32_t count)
{
    uint32_t i = 0;
    for (; i < count; i++) {
        bool on;
        ahead_on(rp->s, rp->ahead, i, count, slot_of_head, list);
        next_incarnation(rp);
        if (rp->chain > 0 && list[i].known && list[i].segment < rp->c->chains[rp->chain - 1].next_segment) continue;
        TRY(replay_segment(rp, &list[i], &on));
        if (!on && !chain_ended(rp)) break;
    }
    next_incarnation(rp);
    if (rp->chain < rp->c->chain_count) return ERR_LOG_DAMAGED; /* an accepted end was not reached */
    if (rp->number <= rp->c->written_number) return ERR_LOG_DAMAGED;
    return look_behind(rp, list, i, count);
}

/* ---- checkpoint ---- */

static enum err read_checkpoint(struct store *s, uint64_t side, uint32_t copy, uint8_t *buf, void *room,
                                struct checkpoint *ret_c)
{
    struct device *d = &s->devices[copy % s->device_count];
    uint64_t at = checkpoint_side_at(s->super.checkpoint_bytes, side, copy);
    uint32_t bytes;
    TRY(io_task_read(s->io, d->file, at, buf, SECTOR));
    TRY(checkpoint_length(buf, SECTOR, s->super.checkpoint_bytes, &bytes));
    if (bytes > SECTOR) TRY(io_task_read(s->io, d->file, at + SECTOR, buf + SECTOR, bytes - SECTOR));
    TRY(checkpoint_decode(buf, bytes, s->salt, room, ret_c));
    if (memcmp(ret_c->pool_id, s->super.pool_id, 16) != 0) return ERR_OTHER_POOL;
    return ret_c->directory_pages == s->page_count ? OK : ERR_DECODE;
}

/* The newest good one of four; all are read, since an intact copy may be an old one whose newer version was lost. */
static enum err find_checkpoint(struct store *s, void **rooms, struct checkpoint *ret_c, struct store_problem *problem)
{
    bool found = false, spare = false;
    enum err first = OK;
    for (uint32_t side = 0; side < 2; side++) {
        for (uint32_t copy = 0; copy < 2; copy++) {
            struct checkpoint c;
            enum err err = read_checkpoint(s, side, copy, s->checkpoint_buf, rooms[spare], &c);
            if (err == ERR_POWER || err == ERR_NEW_FORMAT) return err;
            if (err != OK) {
                if (first == OK) first = err;
                continue;
            }
            if (!found || c.number > ret_c->number) {
                *ret_c = c;
                spare = !spare; /* its arrays are in there now */
            }
            found = true;
        }
    }
    if (found) return OK;
    problem_say(problem, "no checkpoint can be read (%s): the pool cannot be opened from this copy; use a replica or a backup",
                err_text(first));
    return ERR_CHECKPOINT_LOST;
}

static enum err load_volumes(struct store *s, const struct checkpoint *c)
{
    s->last_volume = c->last_volume;
    for (uint32_t i = 0; i < c->volume_count; i++) {
        const struct volume_root *r = &c->volumes[i];
        if (r->id == 0 || r->id > c->last_volume || volume_find(s, r->id)) return ERR_DECODE;
        struct volume *v = volume_add(s, r->id);
        if (!v) return ERR_NO_MEMORY;
        v->epoch = v->appended_epoch = r->epoch;
        v->blocks = r->blocks;
        v->published = v->prepared = v->appended = r->committed;
        v->learning = (r->flags & VOLUME_LEARNING) != 0;
        v->stamped = r->stamped;
        v->root = r->root;
        v->state_root = r->state;
    }
    return OK;
}

/* ---- the end ---- */

/* Continues under the next incarnation, in a segment of its own, and says so on the device before anything is appended. */
static enum err continue_log(struct store *s, const struct replay *rp)
{
    struct log *l = &s->log;
    l->next_number = rp->number;
    l->previous = rp->previous;
    l->durable = l->completed = rp->number - 1;
    l->durable_checksum = rp->previous;
    /* Not simply the next number: if a device loses the checkpoint that is written now although it called it durable, the next
     * recovery must not take this incarnation's batches for its own. */
    uint16_t chance;
    io_random(s->io, &chance, sizeof chance);
    l->incarnation = rp->incarnation + 1 + chance % 1024;
    s->next_segment = max64(s->next_segment, rp->newest_segment + 1) + s->slots_total;
    if (MUTATED(MUTATE_KEEP_INCARNATION)) l->incarnation = rp->incarnation;
    if (MUTATED(MUTATE_NO_ACCEPTED_END)) return OK;
    struct chain *last = l->chain_count ? &l->chains[l->chain_count - 1] : NULL;
    if (last && last->end_number == rp->number - 1) { /* nothing of this incarnation was accepted: as if it had not been */
        last->next_segment = s->next_segment;
        return OK;
    }
    if (l->chain_count == CHAIN_MAX) return ERR_LIMIT;
    l->chains[l->chain_count++] = (struct chain){rp->incarnation, rp->number - 1, rp->previous, s->next_segment};
    return OK;
}

static enum err settle_volumes(struct store *s, const struct checkpoint *c)
{
    for (uint32_t i = 0; i < c->volume_count; i++) {
        /* Not those of a later epoch: since then the volume may have moved back. */
        uint32_t epoch = MUTATED(MUTATE_STALE_COMMIT) ? UINT32_MAX : c->volumes[i].epoch;
        TRY(decide(s, c->volumes[i].id, c->volumes[i].committed, epoch));
        struct volume *v = volume_find(s, c->volumes[i].id);
        if (v && v->published == 0 && v->appended == 0) volume_remove(s, v); /* its CREATE never became durable */
    }
    return OK;
}

/* Replay may have to flush the delta, and pages must neither go into a slot that the head may have written since the
 * checkpoint, nor under the number of a segment that replay is still to find: no more segments than there are slots can
 * have been opened meanwhile. */
static enum err keep_off_head(struct store *s, const struct checkpoint *c)
{
    s->next_segment = c->next_segment + s->slots_total;
    for (uint32_t i = 0; i < c->head_slot_count; i++) {
        uint32_t slot = c->head_slots[i];
        if (!slot_exists(s, slot)) return ERR_LOG_DAMAGED;
        if (!slot_touch(s, slot)) return ERR_NO_MEMORY;
        if (slot_at(s, slot)->state != SLOT_IS_FREE) continue;
        slot_at(s, slot)->state = SLOT_IS_PROMISED;
        s->slots_promised++;
        s->slots_free--;
    }
    return OK;
}

/* The promises that the head had not come to are over. */
static void promises_end(struct store *s, const struct checkpoint *c)
{
    for (uint32_t i = 0; i < c->head_slot_count; i++) {
        struct slot *sl = slot_at(s, c->head_slots[i]);
        if (sl->state != SLOT_IS_PROMISED) continue;
        sl->state = SLOT_IS_FREE;
        sl->stale = s->trim.wanted = true;
        s->slots_promised--;
        s->slots_free++;
    }
}

/* Head segments that the directory knew but the chain did not reach hold nothing that was accepted: their slots become free. */
static void drop_unreached(struct store *s, const struct head_slot *list, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (!list[i].known || list[i].reached) continue;
        struct slot *sl = slot_at(s, list[i].slot);
        directory_remove(s->directory, sl->start[0]);
        sl->runs = 0;
        slot_retire(s, list[i].slot);
    }
}

static enum err run(struct store *s, struct replay *rp, struct checkpoint *c, struct store_problem *problem)
{
    void *rooms[2];
    for (uint32_t i = 0; i < 2; i++)
        if (!(rooms[i] = mem_alloc_raw(s->mem, checkpoint_decode_room(s->super.checkpoint_bytes)))) return ERR_NO_MEMORY;
    TRY(find_checkpoint(s, rooms, c, problem));
    s->checkpoint_number = c->number;
    s->next_serial = c->next_serial;
    s->stats.user_written = c->user_bytes;
    TRY(load_directory(s, c, problem));
    TRY(keep_off_head(s, c));
    TRY(load_volumes(s, c));
    s->directory_dirty_count = 0;
    memset(s->directory_dirty, 0, (s->page_count + 7) / 8);
    *rp = (struct replay){.s = s,
                          .c = c,
                          .number = c->replay_number,
                          .previous = c->replay_previous,
                          .problem = problem,
                          .buf = rp->buf,
                          .body = rp->body,
                          .block = rp->block,
                          .ahead = rp->ahead};
    rp->incarnation = c->chain_count ? c->chains[0].incarnation : c->incarnation;
    rp->newest_segment = c->replay_address / s->segment_bytes - 1;
    struct head_slot *list = NULL;
    uint32_t count = 0;
    for (struct list *l = s->volumes.next; l != &s->volumes; l = l->next) TRY(state_load(s, CONTAINER(l, struct volume, link)));
    TRY(list_heads(s, c, &list, &count));
    if (c->chain_count) memcpy(s->log.chains, c->chains, c->chain_count * sizeof *c->chains);
    s->log.chain_count = c->chain_count;
    TRY(replay_all(rp, list, count));
    drop_unreached(s, list, count);
    promises_end(s, c);
    TRY(settle_volumes(s, c));
    for (struct list *l = s->prepared.next; l != &s->prepared; l = l->next) /* what is left waits for the caller's decision */
        TRY(delta_room(s, CONTAINER(l, struct store_op, prepared)));
    mem_free(s->mem, list);
    s->replay_segment = c->replay_address / s->segment_bytes;
    TRY(continue_log(s, rp));
    mem_free(s->mem, rooms[0]);
    mem_free(s->mem, rooms[1]);
    return OK;
}

/* The accepted end becomes durable. As a rule without a page written: what is in the delta is in the log, and stays there. So
 * starting takes no space, however often the power fails, and a full pool opens like any other. Only when the delta was too
 * small for the replay, or when the list of incarnations is nearly full, the tree is written. */
static enum err make_durable(struct store *s, const struct checkpoint *c)
{
    bool crowded = s->log.chain_count > CHAIN_MAX - 8;
    if (!crowded && s->stats.leaf_flushes == 0 && s->map.dirty == 0) return checkpoint_write_light(s, c);
    if (crowded) TRY(flush_all(s));
    return checkpoint_write(s);
}

enum err recover(struct store *s, struct store_problem *problem)
{
    uint64_t began = io_now_ns(s->io);
    struct checkpoint c = {0};
    struct replay rp = {.buf = mem_alloc_raw(s->mem, s->segment_bytes),
                        .body = mem_alloc_raw(s->mem, s->segment_bytes),
                        .block = mem_alloc_raw(s->mem, BLOCK_SIZE)};
    rp.ahead = ahead_open(s);
    enum err err = rp.buf && rp.body && rp.block ? run(s, &rp, &c, problem) : ERR_NO_MEMORY;
    ahead_close(s, rp.ahead);
    mem_free(s->mem, rp.buf);
    mem_free(s->mem, rp.body);
    mem_free(s->mem, rp.block);
    if (err == ERR_LOG_DAMAGED)
        problem_say(problem,
                    "the log is damaged at batch %llu, before data that was acknowledged: nothing was changed; use a replica, "
                    "or restore "
                    "the damaged device",
                    (unsigned long long)rp.number);
    else if (err != OK && problem && problem->text[0] == 0)
        problem_say(problem, "recovery: %s", err_text(err));
    if (err == OK && !s->read_only) err = make_durable(s, &c);
    s->stats.recovery_ns = io_now_ns(s->io) - began;
    return err;
}
