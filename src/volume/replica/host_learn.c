/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Catching up, at the learner: steps are applied to the store, one after the other, and in the end the volume is moved to where
 * they have led. What is durable when is told in host_self.c.
 *
 *     APPLY     (before the first: the key that says so) - blocks of the walk - records - the key that says how far it is
 *     LEARNED   windows - MOVE, with the key
 *
 * Operations are given to the store one behind the other, some at a time; it keeps a prefix of them, whatever happens. When one
 * finds no space the step has failed, and is asked for again after a while; blocks of it that are there are harmless.
 *
 * Here is also the task that writes for this replica: it does one thing at a time.
 */
#include "volume/replica/disk_self.h"
#include "volume/replica/host_internal.h"

/* ---- operations ---- */

/* What failed because of another one says less than that. */
static void learn_op_done(struct store_op *op)
{
    struct host_learn_op *o = CONTAINER(op, struct host_learn_op, op);
    struct replica_host *h = o->host;
    struct host_learner *l = &h->learner;
    if (op->err != OK && (l->err == OK || l->err == ERR_ORDER)) l->err = op->err;
    l->under_way--;
    list_push(&l->free, &o->link);
    io_task_wake(&h->task);
}

/* [task] A free one: DATA, unless the caller says otherwise. */
static struct host_learn_op *learn_op(struct replica_host *h, uint64_t stamp, uint32_t epoch)
{
    struct host_learner *l = &h->learner;
    while (list_empty(&l->free)) io_task_park();
    struct host_learn_op *o = CONTAINER(list_pop(&l->free), struct host_learn_op, link);
    o->host = h;
    o->op = (struct store_op){.done = learn_op_done,
                              .kind = RECORD_DATA,
                              .learn = true,
                              .volume = h->config.volume,
                              .epoch = epoch,
                              .sequence = max64(stamp, 1)};
    return o;
}

static void learn_op_go(struct replica_host *h, struct host_learn_op *o)
{
    h->learner.under_way++;
    store_prepare(h->config.store, &o->op);
}

/* [task] */
static enum err learn_ops_end(struct replica_host *h)
{
    while (h->learner.under_way > 0) io_task_park();
    return h->learner.err;
}

/* ---- a step ---- */

static void run_apply(struct replica_host *h, const struct stretch_run *run, uint64_t stamp, uint32_t epoch)
{
    uint32_t most = run->kind == ENTRY_NEW ? store_write_max(h->config.store) : run->count;
    for (uint32_t at = 0; at < run->count && h->learner.err == OK; at += most) {
        struct host_learn_op *o = learn_op(h, stamp, epoch);
        o->op.what = run->kind;
        o->op.lba = run->lba + at;
        o->op.count = min32(most, run->count - at);
        o->op.digests = o->digests;
        if (run->kind == ENTRY_NEW) memcpy(o->digests, run->digests + at, o->op.count * sizeof *o->digests);
        learn_op_go(h, o);
    }
}

/* Whoever let the message in has checked that the stretch is what the step needs. */
static void blocks_apply(struct replica_host *h)
{
    const struct replica_step *s = &h->learner.step;
    assert(h->self.learn.on); /* it is durable that the map is a mixture from now on */
    const struct replica_content *content = h->learner.content;
    struct stretch_reader r;
    struct stretch_run run;
    if (content == NULL || stretch_open(content->bytes, content->used, &r) != OK) return;
    while (r.walked > 0 && stretch_next(&r, &run) == OK) run_apply(h, &run, s->learn.applied, s->learn.epoch);
    for (uint32_t i = 0; i < s->count; i++) {
        const struct replica_record *record = &s->records[i];
        if (record->change.kind == REPLICA_NOOP || stretch_next(&r, &run) != OK) continue;
        run_apply(h, &run, record->mark.sequence, record->mark.epoch);
    }
}

static void key_apply(struct replica_host *h, const struct host_self *self, struct disk_self *ret_value)
{
    struct host_learn_op *o = learn_op(h, self->learn.applied, self->learn.epoch);
    o->op.kind = RECORD_STATE;
    host_self_op(self, ret_value, &o->op);
    learn_op_go(h, o);
}

/* [task] Nothing is changed before the key says that this replica learns. */
static enum err learning_begins(struct replica_host *h)
{
    struct replica_status status;
    host_status(h, &status);
    struct host_self self = {.join = h->self.join, .learn = status.learn};
    self.learn.on = true;
    self.learn.epoch = h->learner.step.learn.epoch;
    return h->self.learn.on || MUTATED(MUTATE_LEARNING_UNSAID) ? OK : host_self_set(h, &self);
}

/* [task] */
static enum err apply(struct replica_host *h)
{
    struct host_learner *l = &h->learner;
    struct host_self self = {.join = h->self.join, .learn = l->step.learn};
    struct disk_self value;
    TRY(learning_begins(h));
    l->err = OK;
    if (MUTATED(MUTATE_KEY_EARLY)) key_apply(h, &self, &value);
    blocks_apply(h);
    if (l->err == OK && !MUTATED(MUTATE_KEY_EARLY)) key_apply(h, &self, &value);
    TRY(learn_ops_end(h));
    h->self = self;
    return OK;
}

static void apply_go(struct replica_host *h)
{
    struct host_learner *l = &h->learner;
    enum err err = apply(h);
    bool full = err == ERR_NO_SPACE;
    content_drop(h->config.contents, l->content);
    l->content = NULL;
    l->applying = false;
    h->counts.applied += err == OK;
    h->counts.full += full;
    if (err != OK && !full) host_fail(h, err);
    bool told = err == OK || full;
    host_step(h, &(struct replica_event){.kind = told ? REPLICA_ON_APPLIED : REPLICA_ON_TICK, .failed = full});
}

void host_apply(struct replica_host *h, const struct replica_step *step)
{
    struct host_learner *l = &h->learner;
    assert(!l->applying && !l->ending);
    if (h->failed != OK) return;
    l->applying = true;
    l->step = *step;
    l->content = h->arriving;
    if (l->content != NULL) content_hold(l->content);
    host_writer_wake(h);
}

/* ---- the end ---- */

/* [task] */
static enum err learned(struct replica_host *h)
{
    struct host_learner *l = &h->learner;
    struct disk_window windows[REQUEST_NODES];
    struct host_self self = {.join = l->join};
    struct disk_self value;
    l->err = OK;
    if (MUTATED(MUTATE_LEARNED_EARLY)) TRY(host_self_set(h, &self));
    if (!MUTATED(MUTATE_LEARNED_WINDOWLESS)) {
        struct host_learn_op *o = learn_op(h, l->mark.sequence, l->mark.epoch);
        store_windows_op(l->windows, windows, &o->op);
        learn_op_go(h, o);
    }
    struct host_learn_op *o = learn_op(h, l->mark.sequence, l->mark.epoch);
    o->op.kind = RECORD_MOVE;
    host_self_op(&self, &value, &o->op);
    learn_op_go(h, o);
    TRY(learn_ops_end(h));
    h->self = self;
    host_stand(h, l->mark.sequence);
    return OK;
}

static void learned_go(struct replica_host *h)
{
    enum err err = learned(h);
    h->learner.ending = false;
    h->counts.learned += err == OK;
    if (err != OK) host_fail(h, err);
    host_step(h, &(struct replica_event){.kind = err == OK ? REPLICA_ON_LEARNED : REPLICA_ON_TICK});
}

void host_learned(struct replica_host *h, const struct replica_effect *e)
{
    struct host_learner *l = &h->learner;
    assert(!l->applying && !l->ending);
    if (h->failed != OK) return;
    l->ending = true;
    l->mark = e->mark;
    l->join = e->id;
    for (uint32_t i = 0; i < REPLICA_NODES_MAX; i++)
        l->windows[i] = (struct store_window){e->windows[i].boot, e->windows[i].high, e->windows[i].done};
    host_writer_wake(h);
}

/* ---- the task ---- */

void host_writer_wake(struct replica_host *h)
{
    if (h->discarding || h->learner.applying || h->learner.ending || host_mend_is_due(h)) io_task_wake(&h->task);
}

/* [task] False: there was nothing to do, or not yet. */
static bool write_one(struct replica_host *h)
{
    if (h->discarding) return host_discard_go(h);
    if (h->learner.applying && (!host_check_holds(h) || MUTATED(MUTATE_APPLY_UNDER_DIGEST)))
        apply_go(h);
    else if (h->learner.ending)
        learned_go(h);
    else if (host_mend_is_due(h))
        host_mend_go(h);
    else
        return false;
    return true;
}

void host_run(void *arg)
{
    struct replica_host *h = arg;
    for (;;) {
        bool worked = false;
        h->working++;
        if (!h->closing) worked = write_one(h);
        h->working--;
        if (!worked) io_task_park();
    }
}
