/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Volumes that catch up. While one does, its model goes on without the store: what it would have to hold is the history that
 * was ordered elsewhere. The plan is what an owner would send: what changed up to some sequence, walked and stamped with that,
 * then the operations after it one by one, at last the MOVE. Now and then the history elsewhere is not a continuation: some of
 * what was published here never happened there.
 *
 * After a crash the store must hold the state that the plan began with and a prefix of its steps, no shorter than what was
 * acknowledged. Everything is read to find out which prefix. Then it goes on: from there, from a little before, or by a new
 * plan.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "sim/lab.h"

static uint64_t below(struct lab *lab, uint64_t n)
{
    return prng_below(&lab->prng, n);
}

/* ---- history that happens elsewhere ---- */

static void remote_op(struct lab *lab, struct model_volume *v, uint64_t blocks, uint32_t epoch)
{
    static const enum record_kind others[] = {RECORD_STATE, RECORD_NOOP, RECORD_RESIZE};
    uint64_t lba = 0;
    struct model_op *m = volume_submit(v);
    m->epoch = epoch;
    m->request = ++lab->request;
    m->kind = below(lab, 4) ? RECORD_DATA : others[below(lab, lab->mix.delta_leaves ? 2 : 3)];
    if (m->kind == RECORD_DATA) {
        m->what = below(lab, 4) ? ENTRY_NEW : below(lab, 2) ? ENTRY_ZERO : ENTRY_UNMAP;
        m->count = workload_stretch(lab, v, blocks, m->what == ENTRY_NEW ? 4 : 64, &lba);
        m->lba = lba;
        for (uint32_t i = 0; m->what == ENTRY_NEW && i < m->count; i++) m->contents[i] = workload_content(lab);
        if (m->count == 0) m->kind = RECORD_NOOP;
    }
    if (m->kind == RECORD_STATE) {
        m->key = (uint32_t)below(lab, KEYS);
        m->value = below(lab, 4) ? 1 + (uint32_t)below(lab, 1u << 30) : 0;
    }
    if (m->kind == RECORD_RESIZE) {
        const struct window *window = &v->windows[below(lab, v->window_count)];
        m->lba = max64(1, below(lab, 2) ? window->lba + below(lab, window->count + 1) : blocks + below(lab, 2000));
    }
}

static void remote(struct lab *lab, struct model_volume *v, uint32_t count, uint32_t epoch)
{
    for (uint32_t i = 0; i < count; i++) {
        state_at(v, v->count, &lab->since);
        epoch += below(lab, 8) == 0;
        remote_op(lab, v, lab->since.blocks, epoch);
    }
    if (lab->volume_count > 1 && below(lab, 24) == 0) {
        struct model_op *m = volume_submit(v);
        m->kind = RECORD_DELETE;
        m->epoch = epoch;
        m->request = ++lab->request;
    }
}

/* ---- the plan ---- */

static struct model_op *step_new(struct lab_learn *learn, enum record_kind kind, uint64_t stamp, uint32_t epoch)
{
    if (learn->count == learn->room) {
        learn->room = learn->room ? 2 * learn->room : 64;
        learn->steps = realloc(learn->steps, learn->room * sizeof *learn->steps);
        if (!learn->steps) abort();
    }
    struct model_op *step = &learn->steps[learn->count++];
    memset(step, 0, sizeof *step);
    step->kind = kind;
    step->stamp = stamp;
    step->epoch = epoch;
    return step;
}

/* How far it is: the last record of what an owner sends at once. */
static void note(struct lab *lab, struct lab_learn *learn, uint64_t stamp, uint32_t epoch)
{
    struct model_op *step = step_new(learn, RECORD_STATE, stamp, epoch);
    step->key = LOCAL_KEY;
    step->value = 1 + (uint32_t)below(lab, 1u << 30);
}

static bool is_touched(const struct model_volume *v, uint64_t from, uint64_t to, uint64_t lba)
{
    uint32_t content;
    for (uint64_t i = from; i < to; i++)
        if (op_touches(&v->ops[i], lba, &content)) return true;
    return false;
}

/* What changed in a window since the volume's sequence, as of `to`. */
static void walk_window(struct lab *lab, struct lab_volume *lv, const struct window *window, const struct model_state *to)
{
    struct lab_learn *learn = &lv->learn;
    uint64_t from = learn->from.sequence, end = min64(window->count, to->blocks - min64(to->blocks, window->lba));
    uint32_t epoch = lv->model.ops[to->sequence - 1].epoch;
    struct model_op *step = NULL;
    for (uint64_t i = 0; i < end; i++) {
        uint64_t lba = window->lba + i;
        if (!learn->whole && !is_touched(&lv->model, from, to->sequence, lba)) {
            step = NULL;
            continue;
        }
        if (step == NULL || step->count == 4 || below(lab, 8) == 0) {
            if (below(lab, 8) == 0) note(lab, learn, to->sequence, epoch);
            step = step_new(learn, RECORD_DATA, to->sequence, epoch);
            step->what = ENTRY_NEW;
            step->lba = lba;
        }
        step->contents[step->count++] = to->cells[window->cell + i];
    }
}

static void unmap_zeros(struct lab *lab, struct lab_learn *learn)
{
    for (uint32_t i = 0; i < learn->count; i++) {
        struct model_op *step = &learn->steps[i];
        bool zeros = step->kind == RECORD_DATA && step->what == ENTRY_NEW;
        for (uint32_t k = 0; zeros && k < step->count; k++) zeros = step->contents[k] == 0;
        if (zeros) step->what = below(lab, 3) ? ENTRY_UNMAP : below(lab, 2) ? ENTRY_ZERO : ENTRY_NEW;
    }
}

/* Up to `walked` by walking, from there by what was ordered. */
static void plan(struct lab *lab, struct lab_volume *lv, uint64_t walked)
{
    struct lab_learn *learn = &lv->learn;
    struct model_volume *v = &lv->model;
    struct model_state *to = &lab->scratch;
    uint32_t epoch = v->ops[walked - 1].epoch;
    learn->from = v->now;
    learn->count = learn->given = learn->applied = learn->failed = 0;
    state_at(v, walked, to);
    if (to->blocks != v->now.blocks) step_new(learn, RECORD_RESIZE, walked, epoch)->lba = to->blocks;
    for (uint32_t w = 0; w < v->window_count; w++) walk_window(lab, lv, &v->windows[w], to);
    for (uint32_t k = 0; k < KEYS; k++) {
        if (v->now.keys[k] == to->keys[k] && !learn->whole) continue;
        struct model_op *step = step_new(learn, RECORD_STATE, walked, epoch);
        step->key = k;
        step->value = to->keys[k];
    }
    unmap_zeros(lab, learn);
    note(lab, learn, walked, epoch);
    for (uint64_t i = walked; i < v->count; i++) {
        const struct model_op *m = &v->ops[i];
        if (m->kind == RECORD_NOOP) continue;
        *step_new(learn, m->kind, i + 1, m->epoch) = *m;
        learn->steps[learn->count - 1].stamp = i + 1;
        if (below(lab, 3) == 0 && m->kind != RECORD_DELETE) note(lab, learn, i + 1, m->epoch);
    }
    if (v->ops[v->count - 1].kind == RECORD_DELETE) return;
    struct model_op *move = step_new(learn, RECORD_MOVE, v->count, v->ops[v->count - 1].epoch);
    move->key = LOCAL_KEY;
    move->value = (uint32_t)below(lab, 3);
}

/* ---- the model ---- */

static bool is_local(const struct model_op *step)
{
    return step->kind == RECORD_STATE && step->key == LOCAL_KEY;
}

/* After so many steps the volume is a mixture. */
static bool is_mixed(const struct lab_learn *learn, uint32_t steps)
{
    bool mixed = learn->mixed;
    for (uint32_t i = 0; i < steps; i++) mixed = mixed || !is_local(&learn->steps[i]);
    return mixed;
}

/* All steps are applied: the volume stands where its history does. */
static void learn_end(struct lab *lab, struct lab_volume *lv)
{
    struct model_volume *v = &lv->model;
    uint32_t local = v->now.keys[LOCAL_KEY];
    state_at(v, v->count, &lab->scratch);
    lab->scratch.keys[LOCAL_KEY] = v->now.exists ? local : 0;
    uint64_t now = v->now.sequence;
    v->now.sequence = v->count;
    if (v->now.blocks != lab->scratch.blocks || memcmp(v->now.cells, lab->scratch.cells, sizeof v->now.cells) != 0 ||
        memcmp(v->now.keys, lab->scratch.keys, sizeof v->now.keys) != 0)
        lab_fail(lab, "volume %u: the plan does not lead from %llu to %llu", v->id, (unsigned long long)now,
                 (unsigned long long)v->count);
    lv->learn.local = local;
    v->acked = v->count;
    lv->must = v->count;
    lv->learn.on = lv->learn.whole = false;
    lv->learn.turns++;
    sim_say(lab->sim, "volume %u has learned up to %llu", v->id, (unsigned long long)v->count);
}

void learn_step_done(struct lab *lab, struct lab_op *lo)
{
    struct lab_volume *lv = &lab->volumes[lo->volume];
    struct lab_learn *learn = &lv->learn;
    enum err err = lo->op.err;
    uint32_t step = lo->step;
    workload_op_free(lab, lo);
    sim_say(lab->sim, "volume %u: step %u of %u: %s", lv->model.id, step, learn->count, err_name(err));
    if (err != OK) {
        bool first = learn->failed == 0;
        if (first) learn->failed = step + 1;
        if (err != (first ? ERR_NO_SPACE : ERR_ORDER))
            lab_fail(lab, "volume %u: step %u: %s", lv->model.id, step, err_name(err));
        lab->full = true;
        return;
    }
    if (learn->failed != 0 && step >= learn->failed)
        lab_fail(lab, "volume %u: step %u is applied behind %u, which failed", lv->model.id, step, learn->failed - 1);
    if (step != learn->applied) lab_fail(lab, "volume %u: step %u comes after %u", lv->model.id, step, learn->applied);
    if (lab_failed(lab)) return;
    state_apply(&lv->model, &lv->model.now, &learn->steps[learn->applied++]);
    if (learn->applied == learn->count) learn_end(lab, lv);
}

/* Nothing is under way. */
void learn_collect(struct lab *lab, struct lab_volume *lv)
{
    if (lv->learn.failed == 0) return;
    sim_say(lab->sim, "volume %u: from step %u on again", lv->model.id, lv->learn.applied);
    lv->learn.given = lv->learn.applied;
    lv->learn.failed = 0;
}

/* ---- acting ---- */

static bool is_read(const struct lab *lab)
{
    for (int i = 0; i < LAB_READS; i++)
        if (lab->reads[i].used) return true;
    return false;
}

static bool is_ready(const struct lab *lab, const struct lab_volume *lv)
{
    const struct model_volume *v = &lv->model;
    if (is_read(lab)) return false; /* reads count steps */
    return v->now.exists && v->now.sequence == v->count && lv->under_way == 0 && list_empty(&lv->queue) && !v->discarding &&
           !v->rejected && !lv->retired && !lv->stuck;
}

/* Elsewhere the history went on from `common`, where this one may have gone on, too: then by something else, and the volume
 * is walked as a whole. */
static void learn_from(struct lab *lab, struct lab_volume *lv, uint64_t common, bool whole, uint32_t more)
{
    struct model_volume *v = &lv->model;
    uint64_t stands = v->now.sequence;
    uint32_t epoch = v->ops[stands - 1].epoch;
    lv->learn.on = true;
    lv->learn.turns++;
    lv->learn.unsure = lv->learn.again = lv->learn.mixed = false;
    lv->learn.whole = whole;
    if (whole) {
        v->count = common;
        v->acked = min64(v->acked, v->count);
        lv->digest_at = 0;
        epoch++;
        volume_submit(v)->kind = RECORD_NOOP;
        v->ops[v->count - 1].epoch = epoch;
    }
    common = v->count;
    remote(lab, v, more, epoch);
    uint64_t last = v->count - (v->ops[v->count - 1].kind == RECORD_DELETE);
    uint64_t walked = common + below(lab, last - common + 1);
    sim_say(lab->sim, "volume %u learns from %llu on: %llu, of them up to %llu by a walk%s", v->id, (unsigned long long)stands,
            (unsigned long long)v->count, (unsigned long long)walked, whole ? " over everything" : "");
    plan(lab, lv, walked);
}

static void learn_begin(struct lab *lab, struct lab_volume *lv)
{
    uint64_t stands = lv->model.now.sequence;
    bool whole = below(lab, 5) == 0;
    uint64_t common = whole ? 1 + below(lab, stands) : stands;
    learn_from(lab, lv, common, whole, (uint32_t)below(lab, 14));
}

void learn_back(struct lab *lab, uint32_t volume, uint64_t common)
{
    assert(is_ready(lab, &lab->volumes[volume]) && common < lab->volumes[volume].model.now.sequence);
    learn_from(lab, &lab->volumes[volume], common, true, 0);
}

/* After a start: from a little before, or by another plan from where the volume stands. */
static void learn_again(struct lab *lab, struct lab_volume *lv)
{
    struct lab_learn *learn = &lv->learn;
    struct model_volume *v = &lv->model;
    uint32_t back = (uint32_t)below(lab, 8);
    bool deleted = v->ops[v->count - 1].kind == RECORD_DELETE;
    learn->again = false;
    learn->mixed = is_mixed(learn, learn->applied);
    if (back > 4 && !deleted) {
        remote(lab, v, (uint32_t)below(lab, 4), v->ops[v->count - 1].epoch);
        plan(lab, lv, v->count - (v->ops[v->count - 1].kind == RECORD_DELETE));
        return;
    }
    uint32_t first = learn->applied;
    while (back > 0 && first > 0 && !is_local(&learn->steps[first - 1])) first--;
    memmove(learn->steps, learn->steps + first, (learn->count - first) * sizeof *learn->steps);
    learn->count -= first;
    learn->applied = learn->given = 0;
    learn->from = v->now;
}

static void learn_go_on(struct lab *lab, uint32_t i)
{
    struct lab_volume *lv = &lab->volumes[i];
    struct lab_learn *learn = &lv->learn;
    if (learn->again && is_read(lab)) return;
    if (learn->again) learn_again(lab, lv);
    for (uint64_t n = 1 + below(lab, 6); n > 0 && learn->given < learn->count && learn->failed == 0; n--) {
        if (list_empty(&lab->free_ops) || list_empty(&lab->free_bufs) || lv->under_way >= lab->mix.depth) return;
        struct lab_op *lo = workload_op(lab, i, &learn->steps[learn->given]);
        lo->step = learn->given++;
        store_prepare(lab->store, &lo->op);
    }
}

void learn_some(struct lab *lab)
{
    if (lab->volume_count == 0 || lab->failed) return;
    uint32_t i = (uint32_t)below(lab, lab->volume_count);
    for (uint32_t n = 0; n < lab->volume_count; n++)
        if (lab->volumes[n].learn.on) i = n;
    struct lab_volume *lv = &lab->volumes[i];
    if (lv->learn.on)
        learn_go_on(lab, i);
    else if (is_ready(lab, lv) && below(lab, 4) == 0)
        learn_begin(lab, lv);
}

/* ---- after a start ---- */

void learn_recovered(struct lab *lab, struct lab_volume *lv, const struct store_volume_info *info)
{
    struct lab_learn *learn = &lv->learn;
    struct model_volume *v = &lv->model;
    struct store_volume_info now;
    bool all = learn->given == learn->count, ends = learn->steps[learn->count - 1].kind == RECORD_DELETE;
    if (info == NULL) {
        if (!all || !ends) lab_fail(lab, "volume %u is gone while it learned", v->id);
        while (learn->applied < learn->count) state_apply(v, &v->now, &learn->steps[learn->applied++]);
        learn_end(lab, lv);
        return;
    }
    if (info->published < learn->from.sequence && info->prepared == learn->from.sequence && !info->learning) {
        /* Nothing of what was learned says that it was published: it is, again. */
        for (struct store_op *op; (op = store_prepared(lab->store, v->id)) != NULL;) store_publish(lab->store, op);
        store_volume_next(lab->store, v->id, &now);
        info = &now;
    }
    if (info->published != learn->from.sequence && !(all && !ends && info->published == v->count))
        lab_fail(lab, "volume %u: stands at %llu, while it learned from %llu on", v->id, (unsigned long long)info->published,
                 (unsigned long long)learn->from.sequence);
    if (info->prepared != info->published) lab_fail(lab, "volume %u: something is prepared while it learns", v->id);
    learn->published = info->published;
    learn->learning = info->learning;
    learn->blocks = info->blocks;
    learn->failed = 0;
    learn->unsure = learn->again = true;
}

static void seen(struct store_read *read)
{
    read->count = 0;
}

static bool is_seen(void *arg)
{
    const struct lab *lab = arg;
    return lab->inherited.count == 0;
}

/* The contents that are there, whatever they should be. False when the power went. */
static bool look(struct lab *lab, const struct lab_volume *lv, struct model_state *ret_state)
{
    const struct model_volume *v = &lv->model;
    memset(ret_state, 0, sizeof *ret_state);
    for (uint32_t c = 0; c < v->cell_count; c++) {
        const struct window *window = v->windows;
        while (c - window->cell >= window->count) window++;
        uint64_t lba = window->lba + (c - window->cell);
        if (lba >= lv->learn.blocks) continue;
        uint8_t *data = lab->reads[0].data;
        uint32_t count = (uint32_t)min64(min64(window->count - (c - window->cell), 64), lv->learn.blocks - lba);
        lab->inherited = (struct store_read){.done = seen, .volume = v->id, .lba = lba, .count = count, .data = data};
        store_read(lab->store, &lab->inherited);
        if (!lab_until(lab, is_seen, lab, "a read of what was learned")) return false;
        if (lab->inherited.err != OK) lab_fail(lab, "volume %u: learned: %s", v->id, err_name(lab->inherited.err));
        for (uint32_t i = 0; i < count && !lab_failed(lab); i++) {
            const uint8_t *block = data + (size_t)i * BLOCK_SIZE;
            uint32_t content = content_is(0, block) ? 0 : content_claimed(block);
            if (!content_is(content, block))
                lab_fail(lab, "volume %u: block %llu is damaged", v->id, (unsigned long long)lba + i);
            ret_state->cells[c + i] = content;
        }
        c += count - 1;
    }
    return !lab_failed(lab);
}

/* After so many steps it would be as it is. */
static bool explains(struct lab *lab, const struct lab_volume *lv, const struct model_state *state, uint32_t steps)
{
    const struct lab_learn *learn = &lv->learn;
    bool moved = steps == learn->count && learn->steps[steps - 1].kind == RECORD_MOVE;
    if (learn->learning != (!moved && is_mixed(learn, steps))) return false;
    if (learn->published != (moved ? lv->model.count : learn->from.sequence)) return false;
    return state->blocks == learn->blocks && state->exists && judge_keys(lab, &lv->model, state) &&
           memcmp(state->cells, lab->since.cells, sizeof state->cells) == 0;
}

static bool settle(struct lab *lab, struct lab_volume *lv)
{
    struct lab_learn *learn = &lv->learn;
    struct model_state *state = &lab->scratch;
    uint32_t steps = 0;
    if (!look(lab, lv, &lab->since)) return false;
    *state = learn->from;
    while (steps < learn->applied) state_apply(&lv->model, state, &learn->steps[steps++]);
    while (!explains(lab, lv, state, steps)) {
        if (steps == learn->given) {
            lab_fail(lab, "volume %u: no prefix of what it learned, %u to %u steps, explains what is there", lv->model.id,
                     learn->applied, learn->given);
            return true;
        }
        state_apply(&lv->model, state, &learn->steps[steps++]);
    }
    sim_say(lab->sim, "volume %u: %u of %u steps were applied", lv->model.id, steps, learn->count);
    lv->model.now = *state;
    learn->applied = learn->given = steps;
    learn->unsure = false;
    if (steps == learn->count) learn_end(lab, lv);
    return true;
}

bool learn_settle(struct lab *lab)
{
    for (uint32_t i = 0; i < lab->volume_count && !lab_failed(lab); i++)
        if (lab->volumes[i].learn.on && lab->volumes[i].learn.unsure && !settle(lab, &lab->volumes[i])) return false;
    return true;
}
