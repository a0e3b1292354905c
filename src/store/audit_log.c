/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log from the replay point on: which batches count, and is there proof that more should?
 *
 * The chain is followed from segment to segment: those that the directory has, then the promised slots in their order. A
 * segment counts by its seal or, without a good one, by its batches, up to the first that does not follow. What lies
 * behind the end is the torn tail of a crash, unless something in it says that it was durable: then the log is damaged.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "store/audit_internal.h"

enum { LOOK_BEHIND = 16 }; /* promised slots that can have been opened out of sight: more than the head has open at once */

struct head {
    uint64_t segment; /* 0: promised, not known */
    uint32_t slot;
    bool known; /* in the directory */
};

struct chain_walk {
    struct audit *a;
    uint64_t number, previous; /* of the batch that comes next, and the checksum that it names */
    uint32_t incarnation;
    uint32_t chain; /* accepted end that comes next */
    uint64_t newest_segment;
};

/* The next accepted end is reached: an older recovery stopped here. */
static bool at_accepted_end(const struct chain_walk *w)
{
    const struct checkpoint *c = &w->a->checkpoint;
    return w->chain < c->chain_count && w->number == c->chains[w->chain].end_number + 1;
}

static void next_incarnation(struct chain_walk *w)
{
    const struct checkpoint *c = &w->a->checkpoint;
    while (at_accepted_end(w)) {
        const struct chain *end = &c->chains[w->chain++];
        if (w->previous != end->end_checksum)
            audit_problem(w->a, "log: batch %" PRIu64 " is not the one that was accepted as the end of incarnation %u",
                          end->end_number, end->incarnation);
        w->incarnation = w->chain < c->chain_count ? c->chains[w->chain].incarnation : c->incarnation;
    }
}

/* ---- one segment ---- */

static bool trailer_read(const struct audit *a, struct trailer *ret_trailer)
{
    const uint8_t *at = a->buf + a->segment_bytes - sizeof(struct disk_trailer);
    return trailer_decode(at, sizeof(struct disk_trailer), a->segment_bytes, a->salt, ret_trailer) == OK &&
           ret_trailer->kind == SLOT_HEAD;
}

/* The segment in a->buf counts from here on. */
static enum err segment_reached(struct chain_walk *w, struct head *h, uint64_t segment, bool sealed)
{
    struct audit *a = w->a;
    struct audit_slot *sl = &a->slots[h->slot];
    if (sl->reached) audit_problem(a, "log: slot %u comes twice", h->slot);
    if (!h->known) {
        uint64_t units = a->segment_bytes / UNIT;
        if (segment <= w->newest_segment && w->newest_segment != 0)
            audit_problem(a, "log: segment %" PRIu64 " in slot %u comes after segment %" PRIu64, segment, h->slot,
                          w->newest_segment);
        sl->kind = SLOT_HEAD;
        TRY(audit_run_add(a, h->slot, segment * units, (uint32_t)units));
    }
    sl->segment = h->segment = segment;
    sl->reached = true;
    sl->sealed = sealed;
    w->newest_segment = max64(w->newest_segment, segment);
    a->report->segments_replayed++;
    return OK;
}

static enum err replay_seal(struct chain_walk *w, const struct trailer *t)
{
    struct audit *a = w->a;
    const uint8_t *body = a->buf + a->segment_bytes - sizeof(struct disk_trailer) - t->body_bytes;
    struct summary_walk walk = summary_walk(body, t->body_bytes);
    struct entry entries[RECORD_BLOCKS_MAX];
    struct record r;
    uint32_t offset;
    enum err err;
    while ((err = summary_next(&walk, &offset, &r, entries)) == OK) {
        if (offset + record_head_bytes(&r) + (uint64_t)r.payload > t->data_bytes) {
            err = ERR_DECODE;
            break;
        }
        TRY(audit_replay_record(a, &r, entries, t->segment * a->segment_bytes + offset));
    }
    if (err != ERR_TRUNCATED) audit_problem(a, "slot %u: its summary is malformed", t->slot);
    a->report->batches_replayed += t->last_number - w->number + 1;
    w->number = t->last_number + 1;
    w->previous = t->last_checksum;
    return OK;
}

static enum err replay_batch(struct chain_walk *w, const uint8_t *at, const struct batch *b)
{
    struct audit *a = w->a;
    uint32_t offset = sizeof(struct disk_batch);
    struct entry entries[RECORD_BLOCKS_MAX];
    for (uint32_t i = 0; i < b->records; i++) {
        struct record r;
        enum err err = record_decode(at + offset, b->used - offset, b->address + offset, &r, entries);
        if (err == OK && record_head_bytes(&r) + r.payload > b->used - offset) err = ERR_DECODE;
        if (err != OK) {
            audit_problem(a, "batch %" PRIu64 ": record %u: %s", b->number, i, err_text(err));
            return OK;
        }
        TRY(audit_replay_record(a, &r, entries, b->address + offset));
        offset += record_head_bytes(&r) + r.payload;
    }
    if (offset != b->used) audit_problem(a, "batch %" PRIu64 ": its records end at %u, not at %u", b->number, offset, b->used);
    a->report->batches_replayed++;
    return OK;
}

/* Does something in a->buf, from offset `from` on, say that batch w->number was durable? */
static bool proof_behind(const struct chain_walk *w, uint64_t base, uint32_t from)
{
    const struct audit *a = w->a;
    for (uint32_t at = from; at + SECTOR <= a->segment_bytes; at += SECTOR) {
        uint64_t address; /* its own: the slot's first header may be what is damaged */
        struct batch b;
        if (!batch_claims(a->buf + at, &address)) continue;
        if (batch_decode(a->buf + at, a->segment_bytes - at, address, a->salt, &b) != OK) continue;
        if (b.incarnation == w->incarnation && b.durable >= w->number) return true;
    }
    struct trailer t;
    return trailer_read(a, &t) && t.segment * a->segment_bytes == base && t.incarnation == w->incarnation &&
           t.last_number >= w->number;
}

static void say_damaged(const struct chain_walk *w, uint32_t slot)
{
    audit_problem(w->a, "log: ends before batch %" PRIu64 ", but slot %u proves that it was durable", w->number, slot);
}

/* Batch by batch, from the start of a->buf. *ret_used: bytes that count. */
static enum err replay_open(struct chain_walk *w, struct head *h, uint32_t *ret_used)
{
    struct audit *a = w->a;
    uint64_t base = h->segment * a->segment_bytes;
    uint32_t at = 0;
    *ret_used = 0;
    if (!h->segment) {
        if (!batch_claims(a->buf, &base) || base % a->segment_bytes) return OK;
    }
    while (at + SECTOR <= a->segment_bytes && !at_accepted_end(w)) {
        struct batch b;
        if (batch_decode(a->buf + at, a->segment_bytes - at, base + at, a->salt, &b) != OK) break;
        if (b.number != w->number || b.previous != w->previous || b.incarnation != w->incarnation) break;
        if (at == 0) TRY(segment_reached(w, h, base / a->segment_bytes, false));
        TRY(replay_batch(w, a->buf + at, &b));
        w->number++;
        w->previous = b.checksum;
        at += b.length;
        a->slots[h->slot].accepted = at;
    }
    *ret_used = at;
    if (!at_accepted_end(w) && (at > 0 || h->segment) && proof_behind(w, base, at)) say_damaged(w, h->slot);
    return OK;
}

/* *ret_on: the chain went on in this slot. */
static enum err replay_segment(struct chain_walk *w, struct head *h, bool *ret_on)
{
    struct audit *a = w->a;
    struct trailer t;
    *ret_on = false;
    enum err err = audit_slot_read(a, h->slot, 0, a->buf, (uint32_t)a->segment_bytes);
    if (audit_ends(err)) return err;
    if (err != OK) {
        audit_problem(a, "slot %u: the log cannot be read here: %s", h->slot, err_text(err));
        return OK;
    }
    bool sealed = trailer_read(a, &t) && t.slot == h->slot && t.first_number == w->number && t.first_previous == w->previous &&
                  t.incarnation == w->incarnation && (!h->segment || t.segment == h->segment);
    if (sealed && w->chain < a->checkpoint.chain_count && t.last_number > a->checkpoint.chains[w->chain].end_number) {
        audit_warning(a, "slot %u: sealed up to batch %" PRIu64 ", but only %" PRIu64 " was accepted", h->slot, t.last_number,
                      a->checkpoint.chains[w->chain].end_number);
        sealed = false;
    }
    const uint8_t *body = a->buf + a->segment_bytes - sizeof(struct disk_trailer) - (sealed ? t.body_bytes : 0);
    if (sealed && body_checksum(body, t.body_bytes, a->salt) != t.body_checksum) {
        audit_warning(a, "slot %u: the body of its summary is damaged: replayed from its batches", h->slot);
        sealed = false;
    }
    if (sealed) {
        *ret_on = true;
        TRY(segment_reached(w, h, t.segment, true));
        return replay_seal(w, &t);
    }
    uint32_t used;
    TRY(replay_open(w, h, &used));
    *ret_on = used > 0;
    return OK;
}

/* ---- which segments, in which order ---- */

static int by_segment(const void *a, const void *b)
{
    const struct head *x = a, *y = b;
    return x->segment < y->segment ? -1 : x->segment > y->segment;
}

static enum err list_heads(struct audit *a, struct head **ret_heads, uint32_t *ret_count)
{
    const struct checkpoint *c = &a->checkpoint;
    uint32_t count = 0, room = 0;
    void *heads = NULL;
    for (uint32_t slot = 0; slot < a->slot_count; slot++) {
        const struct audit_slot *sl = &a->slots[slot];
        if (sl->kind != SLOT_HEAD || sl->segment < a->replay_segment) continue;
        TRY(audit_grow(a, &heads, sizeof(struct head), count, &room));
        ((struct head *)heads)[count++] = (struct head){sl->segment, slot, true};
    }
    if (count) qsort(heads, count, sizeof(struct head), by_segment);
    for (uint32_t i = 0; i < c->head_slot_count; i++) {
        uint32_t slot = c->head_slots[i];
        if (slot >= a->slot_count || !a->slots[slot].exists || a->slots[slot].kind != SLOT_FREE) continue;
        TRY(audit_grow(a, &heads, sizeof(struct head), count, &room));
        ((struct head *)heads)[count++] = (struct head){0, slot, false};
    }
    *ret_heads = heads;
    *ret_count = count;
    return OK;
}

/* Behind the end of the chain nothing may say that more was durable. */
static enum err look_behind(struct chain_walk *w, const struct head *heads, uint32_t from, uint32_t count)
{
    struct audit *a = w->a;
    uint32_t promised = 0;
    for (uint32_t i = from; i < count; i++) {
        const struct head *h = &heads[i];
        if (a->slots[h->slot].reached) continue;
        if (h->known) audit_warning(a, "slot %u: holds segment %" PRIu64 ", which the log did not reach", h->slot, h->segment);
        if (!h->known && ++promised > LOOK_BEHIND) break;
        enum err err = audit_slot_read(a, h->slot, 0, a->buf, (uint32_t)a->segment_bytes);
        if (audit_ends(err)) return err;
        if (err != OK) continue;
        struct trailer t;
        uint64_t bases[2] = {0, trailer_read(a, &t) ? t.segment * a->segment_bytes : 0};
        if (h->known)
            bases[0] = h->segment * a->segment_bytes;
        else
            batch_claims(a->buf, &bases[0]);
        for (uint32_t k = 0; k < 2; k++) {
            if (bases[k] % a->segment_bytes || bases[k] / a->segment_bytes <= w->newest_segment) continue;
            if (!proof_behind(w, bases[k], 0)) continue;
            say_damaged(w, h->slot);
            break;
        }
    }
    return OK;
}

static enum err follow(struct chain_walk *w, struct head *heads, uint32_t count)
{
    struct audit *a = w->a;
    const struct checkpoint *c = &a->checkpoint;
    uint32_t i = 0;
    for (; i < count; i++) {
        bool on;
        next_incarnation(w);
        if (w->chain > 0 && heads[i].known && heads[i].segment < c->chains[w->chain - 1].next_segment) {
            audit_warning(a, "slot %u: segment %" PRIu64 " belongs to no incarnation: a leak", heads[i].slot, heads[i].segment);
            continue;
        }
        TRY(replay_segment(w, &heads[i], &on));
        if (!on && !at_accepted_end(w)) break;
    }
    next_incarnation(w);
    if (w->chain < c->chain_count)
        audit_problem(a, "log: ends at batch %" PRIu64 ", but incarnation %u was accepted up to %" PRIu64, w->number - 1,
                      c->chains[w->chain].incarnation, c->chains[w->chain].end_number);
    if (w->number <= c->written_number)
        audit_problem(a, "log: ends at batch %" PRIu64 ", but the checkpoint knows that %" PRIu64 " was durable", w->number - 1,
                      c->written_number);
    if ((c->flags & CHECKPOINT_CLEAN) && w->number != c->written_number + 1)
        audit_problem(a, "log: goes on to batch %" PRIu64 " behind a clean end at %" PRIu64, w->number - 1, c->written_number);
    return look_behind(w, heads, i, count);
}

enum err audit_log(struct audit *a)
{
    const struct checkpoint *c = &a->checkpoint;
    struct chain_walk w = {.a = a, .number = c->replay_number, .previous = c->replay_previous};
    w.incarnation = c->chain_count ? c->chains[0].incarnation : c->incarnation;
    struct head *heads = NULL;
    uint32_t count = 0;
    TRY(list_heads(a, &heads, &count));
    enum err err = follow(&w, heads, count);
    mem_free(a->mem, heads);
    return err;
}
