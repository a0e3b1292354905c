/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who: values of the register, adopted and proposed.
 *
 * A value that was decided may be learned from anybody; but a node that has just started believes nobody and nothing before it
 * read the register itself (rule 18). While a proposal is undecided, both the old and the proposed set count, for commits and
 * for leases (rules 3 and 11); several proposals over the same version may be under way, then all of them count. It is decided
 * when a newer version is seen. A proposal that nobody wants any more is buried by swapping in the old value under the next
 * version.
 *
 *     owner          leaves out who is silent or gave up its join, and one of two that do not hear each other; brings in a
 *                    learner that has prepared all it committed
 *     in sync        takes over when the owner is silent or gave up its join; or, when it is the owner itself, restarted, in a
 *                    new epoch
 *     anybody else   nothing (rule 13)
 */
#include "volume/replica/internal.h"

uint8_t member_counted(const struct replica *r)
{
    if (MUTATED(MUTATE_UNDECIDED_ACKS)) return r->config.in_sync;
    uint8_t set = r->config.in_sync | r->pending;
    for (uint32_t node = 0; MUTATED(MUTATE_LEAVE_WITHOUT_REGISTER) && node < REPLICA_NODES_MAX; node++)
        if (!is_me(r, node) && lease_suspects(r, node)) set &= (uint8_t)~node_bit(node);
    return set;
}

uint8_t member_leased(const struct replica *r)
{
    if (MUTATED(MUTATE_UNDECIDED_LEASES)) return r->config.in_sync;
    return MUTATED(MUTATE_LEAVE_WITHOUT_REGISTER) ? member_counted(r) : r->config.in_sync | r->pending;
}

/* The register knows of a life of this node that the store does not remember. */
static bool was_put_back(const struct replica *r)
{
    const struct replica_config *c = &r->config;
    uint64_t joined = c->join[r->setup.node] >> 32;
    return (!r->joined && joined >= r->boot) || (c->owner == r->setup.node && !r->claimed && c->boot >= r->boot);
}

bool member_has_join(const struct replica *r)
{
    if (MUTATED(MUTATE_NO_JOIN_FENCE)) return true;
    return !r->failed && r->join == r->config.join[r->setup.node] && !was_put_back(r);
}

static enum replica_role role_of(const struct replica *r)
{
    const struct replica_config *c = &r->config;
    uint32_t me = r->setup.node;
    if (set_has(c->in_sync, me) && member_has_join(r)) {
        bool mine = c->boot == r->boot || MUTATED(MUTATE_TRUST_OLD_CONFIG);
        return c->owner == me && mine ? REPLICA_OWNER : REPLICA_IN_SYNC;
    }
    return set_has(c->in_sync | c->learners, me) ? REPLICA_LEARNER : REPLICA_OUTSIDE;
}

/* ---- adopting ---- */

static void epoch_begins(struct replica *r)
{
    r->matched = r->commit_seen = r->committed;
    r->vouch_at = NEVER;
    r->open = r->flushing = false;
    r->opening = 0;
    r->commit_due = r->commit_wakes = NEVER;
    r->ticket_count = 0;
    for (uint32_t node = 0; node < REPLICA_NODES_MAX; node++) {
        struct peer *p = &r->peers[node];
        p->acked = p->acked_before = p->credit = p->credit_at = 0;
        p->full = false;
        p->full_since = p->silent_since = NEVER;
        p->sent = r->committed;
        p->moved = r->now;
        p->phase = PHASE_NONE;
        p->walk = p->check = WORK_NONE;
        p->disowned = false;
    }
    read_forget(r);
}

static void members_change(struct replica *r, uint8_t before)
{
    for (uint32_t node = 0; node < REPLICA_NODES_MAX; node++) {
        struct peer *p = &r->peers[node];
        if (set_has(before, node) == set_has(r->config.in_sync, node)) continue;
        p->phase = PHASE_NONE;
        p->disowned = p->fenced = false;
        if (set_has(before, node)) p->acked = 0;
        if (set_has(before, node)) r->counts.removals++;
        if (!set_has(before, node)) r->counts.joins++;
    }
}

static bool is_member(enum replica_role role)
{
    return role == REPLICA_OWNER || role == REPLICA_IN_SYNC;
}

/* What changes for this node. */
static void role_begins(struct replica *r, enum replica_role was, bool new_epoch)
{
    if (is_member(r->role)) {
        r->learning = LEARN_IDLE;
        if (!is_member(was)) lease_assume_promises(r);
    } else if (new_epoch || was != r->role) {
        learn_start(r);
    }
    if (r->role == REPLICA_OWNER && new_epoch) owner_begin(r);
}

void member_adopt(struct replica *r, const struct replica_config *config, bool fresh)
{
    enum replica_role was = r->role;
    uint8_t before = r->config.in_sync;
    if (was == REPLICA_UNKNOWN ? !fresh : config->version <= r->config.version) return;
    if (was != REPLICA_UNKNOWN && config->epoch < r->config.epoch) return; /* no later value has an earlier reign */
    bool new_epoch = was == REPLICA_UNKNOWN || config->epoch != r->config.epoch;
    r->config = *config;
    r->proposed = false;
    r->pending = 0;
    r->wished_at = NEVER;
    r->force_until = 0;
    r->role = role_of(r);
    if (new_epoch)
        epoch_begins(r);
    else
        members_change(r, before);
    role_begins(r, was, new_epoch);
    r->route_due = true;
    lease_beat_all(r);
    owner_commit(r);
}

void member_resign(struct replica *r)
{
    r->counts.resigned++;
    r->role = REPLICA_LEARNER;
    r->open = r->flushing = false;
    r->opening = 0;
    r->commit_due = r->commit_wakes = NEVER;
    r->ticket_count = 0;
    for (uint32_t node = 0; node < REPLICA_NODES_MAX; node++) r->peers[node].phase = PHASE_NONE;
    read_forget(r);
    learn_start(r);
    lease_beat_all(r);
}

/* ---- proposing ---- */

static void set_move(struct replica_config *c, uint8_t set, bool in)
{
    c->in_sync = (uint8_t)(in ? c->in_sync | set : c->in_sync & ~set);
    c->learners = (uint8_t)(in ? c->learners & ~set : c->learners | set);
}

/* Two nodes without a witness: whoever is left out must surely be off. False: not yet. */
static bool is_fenced(struct replica *r, uint8_t leave)
{
    bool all = true;
    for (uint32_t node = 0; node < REPLICA_NODES_MAX; node++) {
        if (!set_has(leave, node) || r->peers[node].fenced) continue;
        effect_put(r, &(struct replica_effect){.kind = REPLICA_DO_FENCE, .node = (uint8_t)node});
        all = false;
    }
    return all;
}

static uint8_t suspects(const struct replica *r)
{
    uint8_t set = 0;
    for (uint32_t node = 0; node < REPLICA_NODES_MAX; node++)
        if (set_has(r->config.in_sync, node) && !is_me(r, node) && lease_suspects(r, node)) set |= node_bit(node);
    return set;
}

bool member_hears_nobody(const struct replica *r)
{
    if (suspects(r) != r->config.in_sync) return false;
    for (uint32_t node = 0; node < REPLICA_NODES_MAX; node++)
        if (set_has(r->config.in_sync, node) && r->now - r->peers[node].heard <= r->setup.timing.suspect_us) return false;
    return true;
}

/* Those in sync who said themselves that they are not any more, or who cannot take what was ordered. */
static uint8_t disowned(const struct replica *r)
{
    uint8_t set = 0;
    for (uint32_t node = 0; node < REPLICA_NODES_MAX; node++)
        if (set_has(r->config.in_sync, node) && !is_me(r, node) && r->peers[node].disowned) set |= node_bit(node);
    return set;
}

/* Both are heard here; they do not hear each other. */
static bool are_cut(const struct replica *r, uint32_t a, uint32_t b)
{
    uint64_t recently = 2 * r->setup.timing.heartbeat_us;
    const struct peer *p = &r->peers[a], *q = &r->peers[b];
    if (is_me(r, a) || is_me(r, b) || r->now - p->heard > recently || r->now - q->heard > recently) return false;
    return set_has(p->silent, b) || set_has(q->silent, a);
}

static uint32_t cuts_of(const struct replica *r, uint32_t node, uint8_t set)
{
    uint32_t cuts = 0;
    for (uint32_t other = 0; other < REPLICA_NODES_MAX; other++)
        cuts += other != node && set_has(set, other) && are_cut(r, node, other);
    return cuts;
}

/* Replicas in sync that do not hear each other hold no leases, and would refuse reads for as long as that lasts. So one leaves,
 * if it lasts: the one that most do not hear, or the higher number. It does not come back before it hears all. */
static uint8_t cut_off(struct replica *r)
{
    uint8_t set = 0;
    uint32_t worst = 0;
    for (uint32_t node = 0; node < REPLICA_NODES_MAX; node++) {
        struct peer *p = &r->peers[node];
        uint32_t cuts = set_has(r->config.in_sync, node) ? cuts_of(r, node, r->config.in_sync) : 0;
        if (cuts == 0 || MUTATED(MUTATE_CUT_UNJUDGED))
            p->silent_since = NEVER;
        else if (p->silent_since == NEVER)
            p->silent_since = r->now;
        bool lasts = p->silent_since != NEVER && r->now - p->silent_since >= 2 * r->setup.timing.heartbeat_us;
        if (!lasts || cuts < worst) continue;
        worst = cuts;
        set = node_bit(node);
    }
    return set;
}

/* Rule 3: the only way out of the in-sync set. */
static bool owner_wishes(struct replica *r, struct replica_config *c)
{
    uint8_t silent = suspects(r), leave = silent | disowned(r) | cut_off(r), join = 0;
    for (uint32_t node = 0; node < REPLICA_NODES_MAX; node++) {
        const struct peer *p = &r->peers[node];
        if (!teach_may_join(r, node) || cuts_of(r, node, c->in_sync) != 0) continue;
        join |= node_bit(node);
        c->join[node] = p->join;
    }
    if (silent != 0 && r->setup.fence && !is_fenced(r, silent)) return false;
    set_move(c, leave, false);
    set_move(c, join, true);
    return (leave | join) != 0;
}

/* So long a member lets others go first: the owner, who may be alive and cut off from this node only; then members with lower
 * numbers; and everybody, when it is this node that most are silent for. */
static uint64_t patience(const struct replica *r, uint8_t silent)
{
    uint64_t beats = 1;
    for (uint32_t node = 0; node < r->setup.node; node++) beats += set_has(r->config.in_sync & (uint8_t)~silent, node);
    uint64_t us = beats * r->setup.timing.heartbeat_us;
    uint32_t others = set_size(r->config.in_sync) - 1;
    return others >= 2 && set_size(silent) * 2 > others ? us + r->setup.timing.promise_us : us;
}

static void claim(struct replica *r, struct replica_config *c)
{
    r->claimed = true;
    c->epoch++;
    c->owner = r->setup.node;
    c->boot = r->boot;
}

static bool member_wishes(struct replica *r, struct replica_config *c)
{
    uint8_t silent = suspects(r), gone = silent | disowned(r);
    if (c->owner == r->setup.node) { /* rule 18: back after a restart; nothing of the old reign is known */
        claim(r, c);
        return true;
    }
    if (!set_has(gone, c->owner)) {
        r->wished_at = NEVER;
        return false;
    }
    if (r->wished_at == NEVER) r->wished_at = r->now;
    if (r->now - r->wished_at < patience(r, gone)) return false;
    if (r->setup.fence && !is_fenced(r, silent)) return false;
    claim(r, c);
    set_move(c, gone, false);
    return true;
}

static void claim_alone(struct replica *r, struct replica_config *c)
{
    claim(r, c);
    set_move(c, c->in_sync, false);
    set_move(c, node_bit(r->setup.node), true);
    c->join[r->setup.node] = r->join;
}

/* Rule 13: none, unless a person says so, which is recorded. The mutation promotes a learner that hears nothing. */
static bool learner_wishes(struct replica *r, struct replica_config *c)
{
    if (r->now < r->force_until && r->learning == LEARN_FOLLOWING && member_hears_nobody(r)) {
        claim_alone(r, c);
        c->forced_epoch = c->epoch;
        c->forced_sequence = r->committed;
        return true;
    }
    if (!MUTATED(MUTATE_PROMOTE_LEARNER) || r->join != 0 || !lease_suspects(r, c->owner)) return false;
    claim_alone(r, c);
    return true;
}

static bool wishes(struct replica *r, struct replica_config *ret_config)
{
    *ret_config = r->config;
    switch (r->role) {
    case REPLICA_OWNER: return owner_wishes(r, ret_config);
    case REPLICA_IN_SYNC: return member_wishes(r, ret_config);
    case REPLICA_LEARNER: return learner_wishes(r, ret_config);
    case REPLICA_UNKNOWN:
    case REPLICA_OUTSIDE: break;
    }
    return false;
}

static uint64_t promised_outside(const struct replica *r, uint8_t in_sync)
{
    uint64_t at = 0;
    for (uint32_t node = 0; node < REPLICA_NODES_MAX; node++)
        if (!set_has(in_sync, node) && !is_me(r, node)) at = max64(at, r->peers[node].promise_until);
    return at;
}

static void propose(struct replica *r, struct replica_config *c)
{
    c->version = r->config.version + 1;
    r->pending |= c->in_sync;
    r->proposed = true;
    r->proposed_at = r->now;
    r->mutant_quiet = promised_outside(r, c->in_sync);
    effect_put(r, &(struct replica_effect){.kind = REPLICA_DO_PROPOSE, .config = c});
}

/* Proposes what is wanted, or buries what is no longer wanted. */
void member_consider(struct replica *r)
{
    struct replica_config c;
    if (r->proposed && r->now - r->proposed_at < 2 * r->setup.timing.heartbeat_us) return;
    bool wanted = wishes(r, &c);
    if (wanted) {
        if (c.epoch != r->config.epoch) r->counts.takeovers++;
        propose(r, &c);
    } else if (r->proposed) {
        r->counts.bumps++;
        c = r->config;
        propose(r, &c);
    }
}

void member_on_config(struct replica *r, const struct replica_config *config)
{
    member_adopt(r, config, true);
    member_consider(r);
}

void member_tick(struct replica *r)
{
    uint64_t retry = 2 * r->setup.timing.heartbeat_us;
    if (r->role == REPLICA_UNKNOWN && r->now - r->fetched_at >= retry) {
        r->fetched_at = r->now;
        effect_put(r, &(struct replica_effect){.kind = REPLICA_DO_FETCH});
    }
    /* Who stands outside of everything hears of a new value from nobody for sure. */
    if ((r->role == REPLICA_OUTSIDE || r->role == REPLICA_LEARNER) && r->now - r->fetched_at >= 8 * retry) {
        r->fetched_at = r->now;
        effect_put(r, &(struct replica_effect){.kind = REPLICA_DO_FETCH});
    }
    member_consider(r);
}
