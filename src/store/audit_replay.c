/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the records of the log do to the volumes of the checkpoint.
 *
 * A record waits until one after it says that it was committed, or a discard says that it never happened; what waits at the
 * end is undecided and counts both ways: what it would replace must be there, and what it refers to as well. Decided
 * records become effects, each within one leaf; the walk lays them over the pages in the order of the log. What was only
 * caught up with is decided where it stands.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "store/audit_internal.h"

struct audit_volume *audit_volume_find(const struct audit *a, uint32_t id)
{
    uint32_t low = 0, high = a->volume_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (a->volumes[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < a->volume_count && a->volumes[low].id == id ? &a->volumes[low] : NULL;
}

static enum err volume_add(struct audit *a, const struct audit_volume *v)
{
    void *volumes = a->volumes;
    TRY(audit_grow(a, &volumes, sizeof *a->volumes, a->volume_count, &a->volume_room));
    a->volumes = volumes;
    uint32_t at = a->volume_count++;
    for (; at > 0 && a->volumes[at - 1].id > v->id; at--) a->volumes[at] = a->volumes[at - 1];
    a->volumes[at] = *v;
    return OK;
}

enum err audit_replay_roots(struct audit *a)
{
    const struct checkpoint *c = &a->checkpoint;
    for (uint32_t i = 0; i < c->volume_count; i++) {
        const struct volume_root *r = &c->volumes[i];
        if (r->id == 0 || r->id > c->last_volume || audit_volume_find(a, r->id)) {
            audit_problem(a, "checkpoint: volume %u cannot be (%u is the last)", r->id, c->last_volume);
            continue;
        }
        uint64_t newest = max64(r->committed, r->stamped);
        if (r->root.newest > newest || r->state.newest > newest)
            audit_problem(a, "volume %u: pages up to %" PRIu64 ", but only %" PRIu64 " is committed", r->id,
                          max64(r->root.newest, r->state.newest), newest);
        struct audit_volume v = {
            .id = r->id, .epoch = r->epoch, .blocks = r->blocks, .committed = r->committed, .root = r->root, .state = r->state};
        TRY(volume_add(a, &v));
    }
    return OK;
}

/* ---- effects ---- */

static enum err effect_add(struct audit *a, uint64_t lba, uint32_t count, uint64_t place, uint32_t tag)
{
    uint32_t order = a->op_count;
    void *effects = a->effects;
    TRY(audit_grow(a, &effects, sizeof *a->effects, a->effect_count, &a->effect_room));
    a->effects = effects;
    a->effects[a->effect_count++] =
        (struct audit_effect){.lba = lba, .place = place, .tag = tag, .count = count, .order = order};
    return OK;
}

/* Zeros or unmapped blocks, cut at the borders of leaves. */
static enum err effect_stretch(struct audit *a, uint64_t lba, uint64_t count, uint64_t place)
{
    while (count > 0) {
        uint64_t part = min64(count, LEAF_BLOCKS - lba % LEAF_BLOCKS);
        TRY(effect_add(a, lba, (uint32_t)part, place, 0));
        lba += part;
        count -= part;
    }
    return OK;
}

static enum err take_blocks(struct audit *a, const struct record *r, const struct entry *entries, uint64_t address)
{
    uint64_t chunk = address + record_head_bytes(r), lba = r->lba;
    for (uint32_t i = 0; i < r->entries; i++) {
        const struct entry e = entries[i];
        if (e.kind == ENTRY_NEW) TRY(effect_add(a, lba, 1, place_of(chunk, e.units), e.tag));
        if (e.kind == ENTRY_DUP) TRY(effect_add(a, lba, 1, e.place, e.tag));
        if (e.kind == ENTRY_ZERO) TRY(effect_stretch(a, lba, e.count, PLACE_ZERO));
        if (e.kind == ENTRY_UNMAP) TRY(effect_stretch(a, lba, e.count, PLACE_NONE));
        lba += e.count;
        if (e.kind == ENTRY_NEW) chunk += e.units * UNIT;
    }
    return OK;
}

/* ---- deciding ---- */

static enum err op_publish(struct audit *a, struct audit_volume *v, uint32_t i)
{
    struct audit_op *op = &a->ops[i];
    if (v->deleted) return OK;
    op->decided = true;
    if (op->kind == RECORD_CREATE) v->blocks = op->lba;
    if (op->kind == RECORD_DELETE) v->deleted = true;
    if (op->kind == RECORD_RESIZE) {
        void *cuts = a->cuts;
        TRY(audit_grow(a, &cuts, sizeof *a->cuts, a->cut_count, &a->cut_room));
        a->cuts = cuts;
        a->cuts[a->cut_count++] = (struct audit_cut){min64(op->lba, v->blocks), op->volume, i};
        v->blocks = op->lba;
    }
    if (!op->learn) v->committed = max64(v->committed, op->sequence);
    if (op->kind == RECORD_MOVE) v->committed = v->appended = op->sequence;
    return OK;
}

/* Up to `commit`, unless they are of a later epoch. */
static enum err decide(struct audit *a, struct audit_volume *v, uint64_t commit, uint32_t epoch)
{
    while (v->pending_first && a->ops[v->pending_first - 1].sequence <= commit) {
        if (a->ops[v->pending_first - 1].epoch > epoch) break;
        uint32_t i = v->pending_first - 1;
        v->pending_first = a->ops[i].next;
        TRY(op_publish(a, v, i));
    }
    if (!v->pending_first) v->pending_last = 0;
    return OK;
}

/* Everything from `sequence` on never happened. Pending operations stand in sequence order. */
static void discard(struct audit *a, struct audit_volume *v, uint64_t sequence)
{
    uint32_t keep = 0, i = v->pending_first;
    while (i && a->ops[i - 1].sequence < sequence) {
        keep = i;
        i = a->ops[i - 1].next;
    }
    for (; i; i = a->ops[i - 1].next) {
        a->ops[i - 1].undone = true;
        a->report->records_discarded++;
    }
    if (keep)
        a->ops[keep - 1].next = 0;
    else
        v->pending_first = 0;
    v->pending_last = keep;
    v->appended = sequence - 1;
    v->deleting = false;
    if (v->committed == 0 && sequence <= 1) v->deleted = true; /* it was never made */
}

/* ---- records ---- */

static enum err op_add(struct audit *a, struct audit_volume *v, const struct record *r, const struct entry *entries,
                       uint64_t address)
{
    void *ops = a->ops;
    uint32_t first = a->effect_count;
    TRY(audit_grow(a, &ops, sizeof *a->ops, a->op_count, &a->op_room));
    a->ops = ops;
    if (r->kind == RECORD_DATA) TRY(take_blocks(a, r, entries, address));
    for (uint32_t i = first; i < a->effect_count; i++) a->effects[i].volume = r->volume;
    a->ops[a->op_count++] = (struct audit_op){
        .sequence = r->sequence, .lba = r->lba, .volume = r->volume, .epoch = r->epoch, .kind = r->kind, .learn = r->learn};
    if (r->learn) return op_publish(a, v, a->op_count - 1);
    if (v->pending_last)
        a->ops[v->pending_last - 1].next = a->op_count;
    else
        v->pending_first = a->op_count;
    v->pending_last = a->op_count;
    return OK;
}

static enum err volume_begins(struct audit *a, const struct record *r)
{
    struct audit_volume v = {.id = r->volume, .unknown = r->volume <= a->checkpoint.last_volume};
    return volume_add(a, &v);
}

enum err audit_replay_record(struct audit *a, const struct record *r, const struct entry *entries, uint64_t address)
{
    a->report->records_replayed++;
    struct audit_volume *v = audit_volume_find(a, r->volume);
    if (!v && r->kind == RECORD_CREATE) {
        TRY(volume_begins(a, r));
        v = audit_volume_find(a, r->volume);
    }
    if (!v || v->deleted) return OK; /* deleted before the checkpoint, or further up */
    if (r->kind == RECORD_DISCARD) {
        discard(a, v, r->sequence);
        return OK;
    }
    if (r->learn) {
        TRY(decide(a, v, record_is_local(r) ? r->commit : UINT64_MAX, UINT32_MAX));
        return v->deleted ? OK : op_add(a, v, r, entries, address);
    }
    if (v->appended && r->sequence != v->appended + 1)
        audit_problem(a, "volume %u: operation %" PRIu64 " follows %" PRIu64 " in the log", r->volume, r->sequence,
                      v->appended);
    if (r->commit) TRY(decide(a, v, r->commit, UINT32_MAX));
    if (v->deleted) return OK;
    v->appended = r->sequence;
    if (r->kind == RECORD_DELETE) v->deleting = true;
    return op_add(a, v, r, entries, address);
}

/* ---- the end ---- */

static int by_leaf(const void *a, const void *b)
{
    const struct audit_effect *x = a, *y = b;
    uint64_t leaf_x = x->lba / LEAF_BLOCKS, leaf_y = y->lba / LEAF_BLOCKS;
    if (x->volume != y->volume) return x->volume < y->volume ? -1 : 1;
    if (leaf_x != leaf_y) return leaf_x < leaf_y ? -1 : 1;
    if (x->order != y->order) return x->order < y->order ? -1 : 1;
    return x->lba < y->lba ? -1 : x->lba > y->lba;
}

static void volume_end(struct audit *a, struct audit_volume *v)
{
    v->deleted = v->deleted || (v->unknown && v->deleting);              /* gone before the checkpoint was written */
    v->deleted = v->deleted || (v->committed == 0 && !v->pending_first); /* its creation fell off the end of the log */
    if (v->deleted) return;
    for (uint32_t i = v->pending_first; i; i = a->ops[i - 1].next) a->report->prepared++;
    if (v->unknown)
        audit_problem(a,
                      "volume %u: created behind the replay point, but the checkpoint says that its id was used before: "
                      "recovery loses it",
                      v->id);
    a->report->volumes++;
}

enum err audit_replay_end(struct audit *a)
{
    for (uint32_t i = 0; i < a->checkpoint.volume_count; i++) {
        struct audit_volume *v = audit_volume_find(a, a->checkpoint.volumes[i].id);
        if (v) TRY(decide(a, v, a->checkpoint.volumes[i].committed, v->epoch));
    }
    for (uint32_t i = 0; i < a->volume_count; i++) volume_end(a, &a->volumes[i]);
    if (a->effect_count) qsort(a->effects, a->effect_count, sizeof *a->effects, by_leaf);
    return OK;
}
