/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The judge: what a store may say after a start, and while it runs.
 *
 * Strict, after any number of power cuts and transient errors. Let P be the newest published and P2 the newest prepared
 * sequence of a volume after the start, A the newest acknowledged and S the newest submitted before it:
 *
 *     A <= P2 <= S               acknowledged is kept; nothing comes from nowhere (a discard under way may also have ended)
 *     P <= newest ever published a store never publishes by itself
 *     the state is exactly the operations up to P; what is published later adds exactly those operations
 *     what was discarded, or was lost with a crash, is forgotten here, and so would be noticed if it came back
 *
 * Across volumes: if an operation survived, so did all that were acknowledged before it was submitted: there is one log.
 *
 * Damaged (a bit flipped at rest, a write lost or misdirected, sectors that cannot be read). Never wrong data; beyond
 * that allowed is
 *     - to refuse to open with an error of class CORRUPT (and ERR_IO for sectors that cannot be read),
 *     - to fail reads of affected blocks with ERR_MEDIUM, ERR_PAGE_DAMAGED (or ERR_IO), `bad` naming the first such block,
 *     - to fail changes, since the pool may have stopped,
 *     - to lose acknowledged operations silently only where nobody could know: those at the end of the log of a pool
 *       that crashed, after which no other acknowledged operation was submitted (a batch after it would tell of it).
 *   A discard is such an operation, too: a lost one brings back what it discarded. To keep the rest strict, nothing is
 *   discarded in histories with such faults.
 *   Not allowed, where all damage lies in an area that has a second copy (superblock, checkpoint, directory): anything but
 *   working perfectly.
 *
 * Lied to (a flush said done and was not, then the power went). The end of the log may be gone without a trace, so
 * a shorter prefix is legal if it is the same everywhere (the rule across volumes); it is counted in `rollbacks`. All else
 * is as for damage.
 */
#include <string.h>

#include "base/bytes.h"
#include "sim/lab.h"

bool judge_refusal(const struct lab *lab, enum err err)
{
    bool damaged = lab_is_damaged(lab) || lab->lied;
    switch (err_class(err)) {
    case ERR_CLASS_CORRUPT: return damaged || lab->mix.faults & FAULT_READERR; /* a sector not read counts as one damaged */
    case ERR_CLASS_DEVICE: return lab->mix.faults & FAULTS_OF_DEVICE;
    case ERR_CLASS_FULL: return lab->mix.faults & FAULT_FULL && err == ERR_DEVICE_FULL;
    case ERR_CLASS_FOREIGN: return damaged && err == ERR_NOT_OURS;
    case ERR_CLASS_NOT_FOUND: return err == ERR_NO_FILE && lab->mix.faults & FAULT_VANISH;
    case ERR_CLASS_FINE:
    case ERR_CLASS_INVALID:
    case ERR_CLASS_EXISTS:
    case ERR_CLASS_BUSY:
    case ERR_CLASS_STOPPED:
    case ERR_CLASS_DIFFERENT: break;
    }
    return false;
}

bool judge_error(const struct lab *lab, enum err err)
{
    if (judge_refusal(lab, err)) return true;
    return err == ERR_POOL_FAILED && (lab_is_damaged(lab) || lab->lied || lab->failed || (lab->mix.faults & FAULTS_OF_DEVICE));
}

/* ---- sequences ---- */

static bool info_of(struct lab *lab, uint32_t id, struct store_volume_info *ret_info)
{
    return store_volume_next(lab->store, id, ret_info) == OK && ret_info->id == id;
}

/* When the newest surviving operation was submitted. */
static uint64_t newest_survivor(struct lab *lab)
{
    uint64_t newest = 0;
    for (uint32_t i = 0; i < lab->volume_count; i++) {
        const struct model_volume *v = &lab->volumes[i].model;
        struct store_volume_info info;
        if (!info_of(lab, v->id, &info)) continue;
        for (uint64_t k = 0; k < min64(info.prepared, v->count); k++) newest = max64(newest, v->ops[k].submitted);
    }
    return newest;
}

static uint64_t newest_acknowledged_submission(const struct lab *lab)
{
    uint64_t newest = 0;
    for (uint32_t i = 0; i < lab->volume_count; i++) {
        const struct model_volume *v = &lab->volumes[i].model;
        for (uint64_t k = 0; k < v->count; k++)
            if (v->ops[k].acked) newest = max64(newest, v->ops[k].submitted);
    }
    return newest;
}

/* Acknowledged operations after `prepared` are gone. Is that ever legal? */
static bool loss_is_legal(struct lab *lab, const struct model_volume *v, uint64_t prepared)
{
    uint64_t survivor = newest_survivor(lab);
    if (!lab_is_damaged(lab) && !lab->lied) return false;
    for (uint64_t k = prepared; k < v->acked; k++) {
        if (!v->ops[k].acked) continue;
        if (v->ops[k].acked < survivor) return false;
        if (!lab->lied && v->ops[k].acked < newest_acknowledged_submission(lab)) return false;
    }
    lab->rollbacks++;
    return true;
}

static void check_loss(struct lab *lab, const struct lab_volume *lv, uint64_t prepared)
{
    const struct model_volume *v = &lv->model;
    if (prepared >= v->acked || loss_is_legal(lab, v, prepared)) return;
    lab_fail(lab, "volume %u: acknowledged up to %llu, but only %llu survived", v->id, (unsigned long long)v->acked,
             (unsigned long long)prepared);
}

/* A volume that the store does not list: never made, or gone. */
static void judge_absent(struct lab *lab, struct lab_volume *lv)
{
    struct model_volume *v = &lv->model;
    bool deleted = lv->must > 0 && v->ops[lv->must - 1].kind == RECORD_DELETE;
    if (store_prepared(lab->store, v->id)) lab_fail(lab, "volume %u: something waits, but it is not listed", v->id);
    memset(&v->now, 0, sizeof v->now);
    if (deleted) {
        state_at(v, lv->must, &v->now);
        return;
    }
    if (v->discarding != 1) check_loss(lab, lv, 0);
    lv->retired = true;
    lv->must = 0;
    volume_forget_after(v, 0);
    v->discarding = v->rejected = 0;
}

static void check_info(struct lab *lab, const struct lab_volume *lv, const struct store_volume_info *info)
{
    const struct model_volume *v = &lv->model;
    uint64_t submitted = v->rejected ? v->rejected - 1 : v->count;
    if (info->prepared > submitted)
        lab_fail(lab, "volume %u: prepared up to %llu, only %llu were submitted", v->id, (unsigned long long)info->prepared,
                 (unsigned long long)submitted);
    if (info->published > lv->must)
        lab_fail(lab, "volume %u: published up to %llu, but only %llu ever were", v->id, (unsigned long long)info->published,
                 (unsigned long long)lv->must);
    if (info->published > info->prepared)
        lab_fail(lab, "volume %u: published %llu beyond prepared %llu", v->id, (unsigned long long)info->published,
                 (unsigned long long)info->prepared);
    bool discarded = v->discarding && info->prepared == v->discarding - 1;
    if (!discarded) check_loss(lab, lv, info->prepared);
}

static void judge_listed(struct lab *lab, struct lab_volume *lv, const struct store_volume_info *info)
{
    struct model_volume *v = &lv->model;
    check_info(lab, lv, info);
    if (info->learning) lab_fail(lab, "volume %u is learning", v->id);
    if (lab_failed(lab)) return;
    memset(&v->now, 0, sizeof v->now);
    if (info->prepared < v->count) v->count = info->prepared;
    v->acked = v->count;
    v->discarding = v->rejected = 0;
    lv->must = min64(lv->must, v->count);
    if (lv->digest_at > v->count) lv->digest_at = 0;
    state_at(v, info->published, &v->now);
    v->now.keys[LOCAL_KEY] = lv->learn.local;
    if (!v->now.exists && info->published > 0)
        lab_fail(lab, "volume %u exists, although deleted", v->id);
    else if (info->blocks != v->now.blocks)
        lab_fail(lab, "volume %u: %llu blocks instead of %llu", v->id, (unsigned long long)info->blocks,
                 (unsigned long long)v->now.blocks);
    else if (info->published > 0 && info->epoch != v->ops[info->published - 1].epoch)
        lab_fail(lab, "volume %u: epoch %u instead of %u", v->id, info->epoch, v->ops[info->published - 1].epoch);
}

static const struct lab_volume *volume_of(const struct lab *lab, uint32_t id)
{
    for (uint32_t i = 0; i < lab->volume_count; i++)
        if (lab->volumes[i].model.id == id) return &lab->volumes[i];
    return NULL;
}

static void check_strangers(struct lab *lab)
{
    struct store_volume_info info = {0};
    for (uint32_t from = 1; store_volume_next(lab->store, from, &info) == OK; from = info.id + 1) {
        const struct lab_volume *lv = volume_of(lab, info.id);
        if (!lv || lv->retired) lab_fail(lab, "volume %u comes from nowhere", info.id);
    }
}

void judge_recovered(struct lab *lab)
{
    check_strangers(lab);
    for (uint32_t i = 0; i < lab->volume_count && !lab_failed(lab); i++) {
        struct lab_volume *lv = &lab->volumes[i];
        struct store_volume_info info;
        if (lv->retired) continue;
        bool listed = info_of(lab, lv->model.id, &info);
        if (lv->learn.on)
            learn_recovered(lab, lv, listed ? &info : NULL);
        else if (!listed)
            judge_absent(lab, lv);
        else
            judge_listed(lab, lv, &info);
        sim_say(lab->sim, "recovered volume %u: published %llu of %llu, prepared %llu", lv->model.id,
                (unsigned long long)lv->model.now.sequence, (unsigned long long)lv->must, (unsigned long long)lv->model.count);
    }
}

/* ---- decisions ---- */

static void check_recovered_op(struct lab *lab, const struct model_volume *v, const struct store_op *op, uint64_t next)
{
    if (op->sequence != next || next > v->count) {
        lab_fail(lab, "volume %u: %llu waits, expected %llu of %llu", v->id, (unsigned long long)op->sequence,
                 (unsigned long long)next, (unsigned long long)v->count);
        return;
    }
    const struct model_op *m = &v->ops[next - 1];
    bool same = op->kind == m->kind && op->epoch == m->epoch && op->request == m->request;
    same = same && op->previous_epoch == (next > 1 ? v->ops[next - 2].epoch : 0);
    if (m->kind == RECORD_DATA) same = same && op->lba == m->lba && op->count == m->count;
    if (m->kind == RECORD_CREATE || m->kind == RECORD_RESIZE) same = same && op->lba == m->lba;
    if (!same) lab_fail(lab, "volume %u: recovered operation %llu is not the one submitted", v->id, (unsigned long long)next);
}

static void publish_recovered(struct lab *lab, struct lab_volume *lv, uint64_t up_to)
{
    struct model_volume *v = &lv->model;
    while (v->now.sequence < up_to && !lab_failed(lab)) {
        struct store_op *op = store_prepared(lab->store, v->id);
        if (!op) {
            lab_fail(lab, "volume %u: %llu does not wait for its decision", v->id, (unsigned long long)v->now.sequence + 1);
            return;
        }
        check_recovered_op(lab, v, op, v->now.sequence + 1);
        if (lab_failed(lab)) return;
        store_publish(lab->store, op);
        state_advance(v, &v->now);
        lv->must = max64(lv->must, v->now.sequence);
    }
}

static void inherited_done(struct store_read *read)
{
    read->count = 0;
}

static bool inherited_is_read(void *arg)
{
    const struct lab *lab = arg;
    return lab->inherited.count == 0;
}

/* A new owner ships what it inherited: the blocks are those that were written. False when the power went. */
static bool read_inherited(struct lab *lab, const struct store_op *op, const struct model_op *m)
{
    struct store_read *read = &lab->inherited;
    uint32_t first = (uint32_t)prng_below(&lab->prng, min32(m->count, LAB_READ_BLOCKS)),
             count = 1 + (uint32_t)prng_below(&lab->prng, min32(m->count, LAB_READ_BLOCKS) - first);
    *read = (struct store_read){.done = inherited_done, .lba = m->lba + first, .count = count, .data = lab->reads[0].data};
    read->of = op;
    memset(read->data, 0xa5, (size_t)count * BLOCK_SIZE);
    store_read(lab->store, read);
    if (!lab_until(lab, inherited_is_read, lab, "a read of an inherited operation")) return false;
    if (read->err != OK && !judge_error(lab, read->err))
        lab_fail(lab, "volume %u: inherited %llu: %s", op->volume, (unsigned long long)op->sequence, err_name(read->err));
    for (uint32_t i = 0; read->err == OK && i < count; i++) {
        uint32_t content = m->what == ENTRY_NEW ? m->contents[first + i] : 0;
        if (!content_is(content, read->data + (size_t)i * BLOCK_SIZE))
            lab_fail(lab, "volume %u: block %llu of inherited operation %llu is not what was written", op->volume,
                     (unsigned long long)read->lba + i, (unsigned long long)op->sequence);
    }
    return true;
}

/* All that wait, in order, are those that were submitted. */
static bool check_inherited(struct lab *lab, const struct model_volume *v)
{
    uint64_t next = v->now.sequence;
    const struct store_op *op;
    while ((op = store_prepared_next(lab->store, v->id, next)) != NULL && !lab_failed(lab)) {
        const struct model_op *m = &v->ops[next];
        check_recovered_op(lab, v, op, ++next);
        if (!lab_failed(lab) && m->kind == RECORD_DATA && prng_chance(&lab->prng, 300000) && !read_inherited(lab, op, m))
            return false;
    }
    if (next != v->count)
        lab_fail(lab, "volume %u: %llu waits, but is not among those that wait", v->id, (unsigned long long)next + 1);
    return true;
}

static bool discard_recovered(struct lab *lab, uint32_t i, uint64_t from)
{
    struct model_volume *v = &lab->volumes[i].model;
    v->discarding = from;
    enum err err = lab_run(lab, TASK_DISCARD, i, from);
    if (err == ERR_POWER) return false;
    if (err != OK) {
        if (!judge_error(lab, err)) lab_fail(lab, "discard: %s", err_name(err));
        lab->volumes[i].stuck = true;
        return true;
    }
    volume_forget_after(v, from - 1);
    v->discarding = 0;
    if (from == 1) lab->volumes[i].retired = true;
    if (lab->volumes[i].digest_at >= from) lab->volumes[i].digest_at = 0;
    if (store_prepared(lab->store, v->id)) lab_fail(lab, "volume %u: something waits after the discard", v->id);
    return true;
}

static bool decide(struct lab *lab, uint32_t i)
{
    struct lab_volume *lv = &lab->volumes[i];
    struct model_volume *v = &lv->model;
    if (!check_inherited(lab, v)) return false;
    uint64_t how = lab->mix.faults & FAULTS_OF_DATA ? 0 : prng_below(&lab->prng, 3);
    uint64_t least = max64(lv->must, v->now.sequence);
    uint64_t up_to = how == 0 ? v->count : how == 1 ? least : least + prng_below(&lab->prng, v->count - least + 1);
    publish_recovered(lab, lv, up_to);
    if (lab_failed(lab) || up_to == v->count) return true;
    return discard_recovered(lab, i, up_to + 1);
}

bool judge_decide(struct lab *lab)
{
    if (!learn_settle(lab)) return false;
    for (uint32_t i = 0; i < lab->volume_count && !lab_failed(lab); i++)
        if (!lab->volumes[i].retired && !lab->volumes[i].learn.on && !decide(lab, i)) return false;
    return !sim_is_off(lab->sim);
}

/* ---- contents ---- */

static bool read_is_over(void *arg)
{
    const struct lab_read *read = arg;
    return !read->used;
}

/* Reads one stretch. False when the power went. */
static bool verify_stretch(struct lab *lab, uint32_t i, uint64_t lba, uint32_t count)
{
    while (count > 0 && !lab_failed(lab)) {
        uint32_t part = min32(count, 1 + (uint32_t)prng_below(&lab->prng, LAB_READ_BLOCKS));
        struct lab_read *read = workload_read(lab, i, lba, part, true);
        if (!read || !lab_until(lab, read_is_over, read, "a read")) return false;
        if (read->read.err == ERR_MEDIUM || read->read.err == ERR_PAGE_DAMAGED) {
            uint64_t good = read->read.bad - lba;
            lab->unreadable++;
            if (good > 0 && !verify_stretch(lab, i, lba, (uint32_t)good)) return false;
            part = (uint32_t)good + 1;
        }
        lba += part;
        count -= part;
    }
    return !sim_is_off(lab->sim);
}

static bool verify_nowhere(struct lab *lab, uint32_t i)
{
    const struct model_volume *v = &lab->volumes[i].model;
    uint64_t lba = prng_below(&lab->prng, v->now.blocks);
    return verify_stretch(lab, i, lba, (uint32_t)min64(v->now.blocks - lba, 8));
}

/* The first key that is not as in a state; NO_KEY: all are. */
enum { NO_KEY = LOCAL_KEY + 1 };

static uint32_t wrong_key(struct lab *lab, const struct model_volume *v, const struct model_state *state)
{
    uint8_t key[STATE_KEY_MAX], value[STATE_VALUE_MAX];
    for (uint32_t k = 0; k <= LOCAL_KEY; k++) {
        const void *got = NULL;
        uint32_t got_bytes = 0, bytes = state->keys[k] ? value_fill(state->keys[k], value) : 0;
        enum err err = store_state_get(lab->store, v->id, key, key_fill(k, key), &got, &got_bytes);
        if (bytes == 0 && err == ERR_NO_KEY) continue;
        if (err != OK || got_bytes != bytes || memcmp(got, value, bytes) != 0) return k;
    }
    return NO_KEY;
}

bool judge_keys(struct lab *lab, const struct model_volume *v, const struct model_state *state)
{
    return wrong_key(lab, v, state) == NO_KEY;
}

static bool verify_volume(struct lab *lab, uint32_t i)
{
    const struct model_volume *v = &lab->volumes[i].model;
    uint32_t key = wrong_key(lab, v, &v->now);
    if (key != NO_KEY) lab_fail(lab, "volume %u: key %u is not as it was set", v->id, key);
    for (uint32_t w = 0; w < v->window_count && !lab_failed(lab); w++) {
        const struct window *window = &v->windows[w];
        if (window->lba >= v->now.blocks) continue;
        uint32_t count = (uint32_t)min64(window->count, v->now.blocks - window->lba);
        if (!verify_stretch(lab, i, window->lba, count)) return false;
    }
    return verify_nowhere(lab, i);
}

bool judge_verify(struct lab *lab)
{
    check_strangers(lab);
    if (!learn_settle(lab)) return false;
    for (uint32_t i = 0; i < lab->volume_count && !lab_failed(lab); i++) {
        struct store_volume_info info;
        const struct model_volume *v = &lab->volumes[i].model;
        if (lab->volumes[i].retired) continue;
        bool listed = info_of(lab, v->id, &info) && info.published > 0;
        if (listed != v->now.exists)
            lab_fail(lab, "volume %u: %s", v->id, listed ? "exists, although deleted" : "does not exist");
        if (listed && info.published != v->now.sequence) lab_fail(lab, "volume %u: wrong published sequence", v->id);
        if (listed && !lab_failed(lab) && !verify_volume(lab, i)) return false;
    }
    return !sim_is_off(lab->sim);
}

/* ---- digests and changes ---- */

void judge_digest(struct lab *lab, const struct lab_task *task)
{
    struct lab_volume *lv = &lab->volumes[task->volume];
    if (lv->learn.on || lv->learn.turns != task->turns) return;
    if (task->err != OK) return;
    if (task->digest_of < task->published || task->digest_of > lv->model.now.sequence)
        lab_fail(lab, "volume %u: a digest of %llu", lv->model.id, (unsigned long long)task->digest_of);
    if (lv->digest_at == task->digest_of && memcmp(lv->digest, task->digest, sizeof lv->digest) != 0)
        lab_fail(lab, "volume %u: another digest for the same state %llu", lv->model.id, (unsigned long long)lv->digest_at);
    lv->digest_at = task->digest_of;
    memcpy(lv->digest, task->digest, sizeof lv->digest);
}

void judge_changed(struct lab *lab, const struct lab_task *task)
{
    const struct model_volume *v = &lab->volumes[task->volume].model;
    struct model_state *old = &lab->scratch, *new = &lab->since;
    const struct lab_learn *learn = &lab->volumes[task->volume].learn;
    if (task->err != OK || learn->on || learn->turns != task->turns) return;
    state_at(v, task->sequence, old);
    state_at(v, task->published, new); /* as it was when it began: later changes may be in or not */
    uint64_t end = new->blocks;        /* what was beyond the volume's end at any time since then is not told */
    for (uint64_t i = task->published; i < v->now.sequence; i++)
        if (v->ops[i].kind == RECORD_RESIZE) end = min64(end, v->ops[i].lba);
    for (uint32_t w = 0; w < v->window_count; w++) {
        for (uint32_t i = 0; i < v->windows[w].count; i++) {
            uint32_t cell = v->windows[w].cell + i;
            uint64_t lba = v->windows[w].lba + i;
            if (old->cells[cell] == new->cells[cell] || task->changed[cell] || lba >= end) continue;
            lab_fail(lab, "volume %u: block %llu changed between %llu and %llu, but is not reported", v->id,
                     (unsigned long long)lba, (unsigned long long)task->sequence, (unsigned long long)task->published);
            return;
        }
    }
}
