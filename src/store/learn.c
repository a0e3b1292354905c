/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Catching up: changes that were ordered elsewhere, applied here in the order of the log.
 *
 * Such a record is its own commit: it is applied when it is durable, before its caller hears of it, and again by replay where
 * it stands. That is right whatever is replayed before it and behind it, because it begins only where no operation of the
 * volume is undecided, and no ordinary one follows before the MOVE that says where the volume stands. Its blocks carry their
 * stamp into the map like any others, so "changed since" knows nothing of catch-up; `stamped` only tells the auditor why pages
 * are newer than the sequence at which the volume stands.
 *
 * When an operation fails (space), those behind it must not take place: the last of a step says that the step was applied. The
 * caller numbers nothing, so turns are counted here: everything that was submitted before the caller was told fails, too. Even
 * what is impossible fails in its turn, and not when it is submitted: so no other can stand before it.
 */
#include "store/internal.h"

bool op_is_local(const struct store_op *op)
{
    return op->kind == RECORD_STATE && op->learn && *(const uint8_t *)op->key == STATE_LOCAL;
}

/* Where a volume stands never goes back within an epoch. */
static bool move_fits(const struct store_op *op, const struct volume *v)
{
    return op->epoch > v->epoch || (op->epoch == v->epoch && op->sequence >= v->published);
}

enum err learn_fits(const struct store_op *op, const struct volume *v)
{
    bool broken = v->learn_failing > 0 || op->ticket <= v->learn_broken;
    if (broken && !MUTATED(MUTATE_LEARN_GAP)) return ERR_ORDER;
    if (op_is_local(op)) return OK;
    if (v->moving || v->appended != v->published) return ERR_ORDER;
    return op->kind != RECORD_MOVE || move_fits(op, v) ? OK : ERR_ORDER;
}

void learn_appended(struct store *s, struct store_op *op, struct volume *v)
{
    v->learns++;
    if (op_is_local(op)) return;
    v->catches++;
    if (op->kind == RECORD_MOVE) v->moving = true;
    if (op->kind == RECORD_RESIZE) v->resized = UINT64_MAX; /* bounds are looked for among those under way */
    if (MUTATED(MUTATE_LEARN_EARLY)) op_publish(s, op, op->position / s->segment_bytes);
}

void learn_durable(struct store *s, struct store_op *op)
{
    struct volume *v = volume_find(s, op->volume);
    uint32_t entries, leaves;
    delta_cost(op, &entries, &leaves);
    delta_unreserve(s, entries, leaves);
    list_remove(&op->prepared);
    op->state = STORE_OP_IDLE;
    assert(v && v->learns > 0);
    v->learns--;
    if (!op_is_local(op)) v->catches--;
    if (!MUTATED(MUTATE_LEARN_EARLY)) op_publish(s, op, op->position / s->segment_bytes);
    if (s->failed != OK) op->err = ERR_POOL_FAILED;
}

static void move(struct store *s, const struct store_op *op, struct volume *v)
{
    v->learning = v->moving = false;
    v->resized = 0;
    if (!s->upkeep_started && MUTATED(MUTATE_MOVE_FORGOTTEN)) return;
    if (op->sequence < v->published) v->stamped = max64(v->stamped, v->published);
    v->published = v->prepared = v->appended = op->sequence;
    v->epoch = v->appended_epoch = op->epoch;
}

void learn_effect(struct store *s, const struct store_op *op, struct volume *v)
{
    s->changed = true;
    if (op_is_local(op)) return;
    if (op->kind == RECORD_MOVE) {
        move(s, op, v);
        return;
    }
    v->learning = true;
    v->stamped = max64(v->stamped, op->sequence);
    if (MUTATED(MUTATE_LEARN_COUNTS)) v->published = v->prepared = v->appended = max64(v->published, op->sequence);
}

void learn_failed(struct store *s, const struct store_op *op)
{
    struct volume *v = volume_find(s, op->volume);
    if (!v) return;
    v->learn_failing++;
}

void learn_told(struct store *s, const struct store_op *op)
{
    struct volume *v = volume_find(s, op->volume);
    if (!v || v->learn_failing == 0) return;
    v->learn_failing--;
    v->learn_broken = s->log.tickets;
}
