/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A replica that is not the owner: prepares what the owner orders, publishes what the owner committed.
 *
 * `matched` is how far this log is known to be the owner's log of this epoch: nothing at first, then what came in order behind
 * a predecessor of the same {epoch, sequence} (rule 15). Only that is acknowledged, when durable (rule 7), and only that may be
 * published: a tail from an earlier epoch that nobody vouched for yet may be about to be discarded.
 */
#include "volume/replica/internal.h"

bool follow_is_member(const struct replica *r)
{
    return r->role == REPLICA_IN_SYNC || (r->role == REPLICA_LEARNER && r->learning == LEARN_FOLLOWING);
}

/* From the owner, in the epoch that both live in (rule 2), to the replica that this node still is (rule 17). */
bool follow_listens(const struct replica *r, const struct replica_message *m)
{
    if (!follow_is_member(r) || tail_is_settling(r)) return false;
    if (MUTATED(MUTATE_EPOCH_IGNORED)) return true;
    if (m->epoch != r->config.epoch || m->from != r->config.owner) return false;
    return m->join == r->join || MUTATED(MUTATE_NO_JOIN_FENCE);
}

/* Credit counts from `matched`. What stands behind it has taken its part: it will be matched, or be discarded for the no-op of
 * a reign, and until that is matched the owner admits nothing (owner.c), so what was discarded is not counted on. */
void follow_report(struct replica *r, uint64_t want)
{
    uint64_t durable = MUTATED(MUTATE_ACK_VOLATILE) ? r->end : r->durable;
    struct replica_message m = {.kind = REPLICA_PREPARED, .join = r->join};
    m.u.prepared.sequence = min64(r->matched, durable);
    m.u.prepared.want = want;
    m.u.prepared.end = r->end;
    m.u.prepared.published = (struct replica_mark){.sequence = r->committed, .epoch = r->committed_epoch};
    if (r->matched + 1 >= r->first) {
        m.u.prepared.credit_at = r->matched;
        m.u.prepared.credit = r->space + tail_spent_after(r, r->matched);
        m.u.prepared.full = r->full;
    }
    r->reported = r->now;
    effect_send_owner(r, &m);
}

void follow_tick(struct replica *r)
{
    if (r->role != REPLICA_IN_SYNC || tail_is_settling(r) || MUTATED(MUTATE_REPORT_ONCE)) return;
    if (r->now - r->reported >= r->setup.timing.heartbeat_us) follow_report(r, 0);
}

/* Nothing that was committed since the owner told this life of the node went without it; what was before, it has. */
void follow_vouch(struct replica *r)
{
    r->vouched = r->vouched || (r->vouch_at != NEVER && r->matched >= r->vouch_at);
}

void follow_publish(struct replica *r)
{
    uint64_t durable = MUTATED(MUTATE_ACK_VOLATILE) ? r->end : r->durable;
    tail_publish(r, min64(min64(r->commit_seen, r->matched), durable));
    follow_vouch(r);
}

/* The commit number rides on everything that the owner sends. */
void follow_on_commit(struct replica *r, const struct replica_message *m)
{
    if (!follow_is_member(r) || m->epoch != r->config.epoch || m->from != r->config.owner || m->commit <= r->commit_seen)
        return;
    r->commit_seen = m->commit;
    follow_publish(r);
}

/* Once for each place of a gap, until it is closed or nothing came of it. */
static void complain(struct replica *r)
{
    if (r->complained_of == r->end && r->now - r->complained < r->setup.timing.heartbeat_us) return;
    r->complained_of = r->end;
    r->complained = r->now;
    follow_report(r, r->end + 1);
}

/* True: the log has this record, or would have if it were not for a later discard. */
static bool has_already(struct replica *r, const struct replica_mark *mark)
{
    if (mark->sequence <= r->committed) return true;
    return mark->sequence <= r->end && (tail_epoch(r, mark->sequence) == mark->epoch || MUTATED(MUTATE_NO_PREDECESSOR));
}

void follow_on_record(struct replica *r, const struct replica_message *m)
{
    const struct replica_record *record = &m->u.record;
    uint64_t sequence = record->mark.sequence;
    if (!follow_listens(r, m)) return;
    if (has_already(r, &record->mark)) {
        r->matched = max64(r->matched, min64(sequence, r->end));
        follow_report(r, 0);
    } else if (sequence <= r->end) {
        tail_discard(r, sequence);
    } else if (sequence > r->end + 1) {
        complain(r);
    } else if (record->previous_epoch != tail_epoch(r, r->end) && !MUTATED(MUTATE_NO_PREDECESSOR)) {
        if (r->end > r->committed) tail_discard(r, r->end);
    } else if (!tail_fits(r, record)) { /* granted by a former life of this node, which had more space */
        r->matched = r->end;
        complain(r);
    } else {
        r->matched = max64(r->matched, sequence);
        tail_append(r, record);
        if (MUTATED(MUTATE_ACK_VOLATILE)) follow_report(r, 0);
    }
    follow_publish(r);
}
