/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which reads may be served here, and when.
 *
 * A read is answered from the map, so from committed operations only (rule 5). What has to be shown is that at one moment since
 * it came the map, with what is prepared, held everything that was committed anywhere. That moment is called `seen`: leases
 * from all who count were held (rule 1), so nothing was committed without this node. Records of the read's blocks that were
 * prepared here at that moment may have been committed already, elsewhere: the read waits until they are (rule 4). Later ones
 * came after the read. The owner need not wait: nothing is committed before it says so; but a new owner waits until it is open
 * (rule 6).
 *
 * Strict reads do not believe one clock: `seen` is when this node holds its leases and a peer in sync, asked after the read
 * came, agrees on the version and holds its own. So one of the two clocks may have stood still.
 */
#include "volume/replica/internal.h"

bool read_is_allowed(const struct replica *r)
{
    if (r->role == REPLICA_OWNER) return (r->open || MUTATED(MUTATE_SERVE_EARLY)) && lease_is_held(r);
    if (!r->vouched && !MUTATED(MUTATE_UNVOUCHED)) return false;
    return r->role == REPLICA_IN_SYNC && r->config.owner != r->setup.node && lease_is_held(r);
}

static void take_out(struct replica *r, uint32_t i)
{
    r->read_count--;
    memmove(&r->reads[i], &r->reads[i + 1], (r->read_count - i) * sizeof r->reads[0]);
}

static void end(struct replica *r, uint32_t i, enum replica_effect_kind kind)
{
    struct replica_effect effect = {.kind = kind, .id = r->reads[i].id};
    effect.dirty = MUTATED(MUTATE_READ_DIRTY);
    take_out(r, i);
    effect_put(r, &effect);
}

static void see(struct replica *r, struct waiting_read *read)
{
    bool waits = r->role == REPLICA_IN_SYNC && !MUTATED(MUTATE_READ_OLD) && !MUTATED(MUTATE_READ_DIRTY);
    read->seen = true;
    read->upto = waits ? tail_newest_on(r, read->lba, read->count) : 0;
    r->counts.parked += read->upto > r->committed;
}

/* Whom to ask: the owner, or any other in sync; this node itself when it is alone. */
static uint32_t whom(const struct replica *r)
{
    if (r->role == REPLICA_IN_SYNC) return r->config.owner;
    for (uint32_t node = 0; node < REPLICA_NODES_MAX; node++)
        if (set_has(member_leased(r), node) && !is_me(r, node) && !lease_suspects(r, node)) return node;
    return r->setup.node;
}

static void ask(struct replica *r, struct waiting_read *read)
{
    uint32_t to = whom(r);
    if (read->asked != 0 && r->now - read->asked_at < r->setup.timing.heartbeat_us) return;
    if (is_me(r, to)) {
        see(r, read);
        return;
    }
    if (r->role == REPLICA_OWNER && !r->open) return;
    read->asked = ++r->ask_number;
    read->asked_at = r->now;
    struct replica_message m = {.kind = REPLICA_ASK, .read = read->asked};
    m.u.beat.version = r->config.version;
    effect_send(r, to, &m);
}

void read_on_ask(struct replica *r, const struct replica_message *m)
{
    if (!read_is_allowed(r) || m->u.beat.version != r->config.version || !set_has(r->config.in_sync, m->from)) return;
    struct replica_message answer = {.kind = REPLICA_AGREED, .read = m->read};
    answer.u.beat.version = r->config.version;
    effect_send(r, m->from, &answer);
}

void read_on_agreed(struct replica *r, const struct replica_message *m)
{
    bool blind = MUTATED(MUTATE_STRICT_BLIND);
    if (m->u.beat.version != r->config.version || m->read == 0 || (!read_is_allowed(r) && !blind)) return;
    for (uint32_t i = 0; i < r->read_count; i++)
        if (r->reads[i].asked == m->read && !r->reads[i].seen) see(r, &r->reads[i]);
}

/* The tail is another one now. */
void read_forget(struct replica *r)
{
    for (uint32_t i = 0; i < r->read_count; i++) {
        r->reads[i].seen = false;
        r->reads[i].asked = 0;
    }
}

/* True: it is out. */
static bool advance(struct replica *r, uint32_t i)
{
    struct waiting_read *read = &r->reads[i];
    bool in_sync = r->role == REPLICA_OWNER || r->role == REPLICA_IN_SYNC;
    if ((r->role != REPLICA_UNKNOWN && !in_sync) || r->now - read->arrived > r->setup.timing.stale_us) {
        end(r, i, REPLICA_DO_REFUSE);
        return true;
    }
    if (!in_sync) return false;
    bool allowed = read_is_allowed(r) || (r->setup.strict && MUTATED(MUTATE_STRICT_BLIND));
    if (!read->seen && r->setup.strict && allowed)
        ask(r, read);
    else if (!read->seen && allowed)
        see(r, read);
    if (!read->seen || !allowed || r->committed < read->upto) return false;
    end(r, i, REPLICA_DO_READ);
    return true;
}

void read_go(struct replica *r)
{
    for (uint32_t i = 0; i < r->read_count;)
        if (!advance(r, i)) i++;
}

void read_on_read(struct replica *r, const struct replica_event *event)
{
    if (r->read_count == REPLICA_READS) {
        effect_put(r, &(struct replica_effect){.kind = REPLICA_DO_REFUSE, .id = event->id});
        return;
    }
    r->reads[r->read_count++] =
        (struct waiting_read){.id = event->id, .lba = event->lba, .count = event->count, .arrived = r->now};
}
