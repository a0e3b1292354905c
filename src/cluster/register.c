/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The proposer, and the rules by which one value stays one (CASPaxos: Paxos over a single register that is rewritten in place).
 *
 * A round, for reading and changing alike:
 *
 *     PREPARE   with a ballot of its own the proposer asks for promises. Each acceptor that promises says what it accepted
 *     last. the step  the state with the highest ballot among those is what may hold; from it the proposer makes the next one:
 *     changed,
 *               or the same again.
 *     ACCEPT    it asks to accept that under its ballot. When a quorum did, the state is *decided*, and nobody can get past it:
 *               every later round meets an acceptor that has it, or what was made of it.
 *
 * Rules of the acceptor (acceptor.c):
 *  1. It promises only to a ballot that is not below any it promised, and then accepts nothing below it.
 *  2. What it accepts it has promised. It accepts at or above its promise only.
 *  3. It answers when the answer is durable: in both its files, one written after the other (acceptor_file.c). What it answered
 *     is never forgotten, by power loss or by damage to one file. With both lost it takes no part: somebody who forgot his
 *     promises is worse than somebody who is dead. A new acceptor has a new id.
 * Rules of the proposer:
 *  4. A ballot is used once: rounds count up, and after a restart the boot number is another.
 *  5. It goes on from the state with the highest ballot, not from any other. Answers to an older attempt do not count.
 *  6. It reports only what was decided. That also goes for "somebody else was faster": a state that only a few accepted may
 *     vanish.
 *  7. A change leaves its tag in the state. Who tries again looks for it first: it may have been decided without a word.
 *  8. "Nothing was changed" is said only when no acceptor was asked to accept the change.
 *  9. Nobody invents a first value: who finds only empty acceptors waits.
 * Reading has a short cut, without promises: when a quorum have accepted the same ballot, its state is decided, and nothing
 * newer was when the first of them answered. Otherwise (somebody is in the middle of a change, or a change was left there) the
 * reader finishes it with a round.
 *
 * Members. Who the acceptors are is part of the state, so a change of members is a step like any other, and what is found tells
 * who must be asked:
 * 10. Promises must come from a quorum *of the state that they show*, whatever the proposer believed. If that is not the case,
 *     more are asked; they may show a newer state, and so on. A proposer that slept for a year walks along the chain of sets
 *     like this.
 * 11. Sets change in two steps: from {A} to {A -> B}, where a quorum is a majority of A and a majority of B, for promises and
 *     for accepting; and from there to {B}. Two neighbours in this chain share a set, so their quorums meet; so do two
 *     attempts at different changes of the same set. {A} and {B} need not: hence
 * 12. a step is taken only from members that are known to be decided: the proposer has seen that epoch accepted by its quorum.
 *     With two undecided steps in a row, one proposer could decide under A what another under B does not meet.
 * 13. the first of the two steps is taken only from the version of the value that its caller looked at. What the value says of
 *     who may be a member holds for every step that is taken after it: whoever has made it say that somebody leaves, and then
 *     finds him in neither set, knows that he does not come back.
 * Growing by one or by three, shrinking, replacing are all the same. Before {A -> B} is proposed, a majority of B must have
 * promised: otherwise a set of dead machines could be voted in, and nothing could be decided any more (this is liveness, not
 * safety). Acceptors that leave are asked to accept, too, but do not count; so they know that they are out. They must be kept
 * until {B} is decided. An acceptor answers a PREPARE from members of an older epoch with MOVED and its own: the proposer
 * begins anew with those.
 *
 * The rules are switches in store/mutation.h; `izar-sim --register --mutations` shows what each is for, and models/ has them as
 * Promela.
 *
 * One attempt at a time, one timer. An attempt that is outbid pauses for a random time that grows; one that gets too few
 * answers is over when the timer fires. Each attempt has a number that answers carry.
 */
#include "cluster/register.h"

#include <assert.h>
#include <string.h>

#include "base/bytes.h"
#include "store/mutation.h"

enum { PAUSE_DOUBLINGS = 5 };

/* ---- asking ---- */

static bool is_in(const uint64_t *ids, uint32_t count, uint64_t id)
{
    for (uint32_t i = 0; i < count; i++)
        if (ids[i] == id) return true;
    return false;
}

/* Asks those of the set who were not asked in this attempt. */
static void ask_set(struct proposer *p, const struct acceptor_set *set, struct register_effects *e)
{
    for (uint32_t i = 0; i < set->count; i++) {
        if (is_in(p->peers, p->peer_count, set->ids[i]) || p->peer_count == REGISTER_PEERS_MAX) continue;
        p->peers[p->peer_count++] = set->ids[i];
        e->to[e->to_count++] = set->ids[i];
    }
}

static void ask_members(struct proposer *p, const struct register_members *members, struct register_effects *e)
{
    ask_set(p, &members->now, e);
    ask_set(p, &members->next, e);
}

/* The message of this attempt. */
static void fill_request(const struct proposer *p, struct register_effects *e)
{
    static const enum register_ask asks[] = {
        [REGISTER_LOOKING] = REGISTER_LOOK, [REGISTER_PREPARING] = REGISTER_PREPARE, [REGISTER_ACCEPTING] = REGISTER_ACCEPT};
    assert(p->phase >= REGISTER_LOOKING && p->phase <= REGISTER_ACCEPTING);
    e->request = (struct register_request){.ask = asks[p->phase],
                                           .node = p->config.node,
                                           .boot = p->config.boot,
                                           .attempt = p->attempt,
                                           .epoch = p->config.members.epoch};
    memcpy(e->request.cluster, p->config.cluster, CLUSTER_ID_BYTES);
    if (p->phase != REGISTER_LOOKING) e->request.ballot = p->ballot;
    if (p->phase == REGISTER_ACCEPTING) e->request.state = p->proposed;
}

static void begin_phase(struct proposer *p, enum register_phase phase, struct register_effects *e)
{
    p->phase = phase;
    p->attempt++;
    p->peer_count = p->yes_count = 0;
    e->to_count = 0; /* what an attempt that is over still wanted to ask */
    e->timer_ms = p->config.wait_ms;
}

/* ---- ends ---- */

static void finish(struct proposer *p, enum err err, struct register_effects *e)
{
    assert(p->phase != REGISTER_IDLE);
    p->phase = REGISTER_IDLE;
    e->to_count = e->timer_ms = 0;
    e->done = true;
    e->err = err;
}

static void give_up(struct proposer *p, struct register_effects *e)
{
    /* Rule 8. */
    bool maybe = p->maybe && !MUTATED(MUTATE_DENY_PROPOSED);
    finish(p, maybe ? ERR_UNDECIDED : ERR_NO_QUORUM, e);
}

static void finish_with(struct proposer *p, enum err err, const struct register_state *state, struct register_effects *e)
{
    finish(p, err, e);
    e->state = *state;
    e->version = p->verb == REGISTER_VERB_CAS ? p->expected + 1 : state->version;
}

/* ---- rounds ---- */

static void prepare(struct proposer *p, struct register_effects *e)
{
    if (p->attempts == 0) {
        give_up(p, e);
        return;
    }
    p->attempts--;
    begin_phase(p, REGISTER_PREPARING, e);
    p->ballot = (struct ballot){.round = ++p->round, .node = p->config.node, .boot = p->config.boot};
    p->best = (struct ballot){0};
    ask_members(p, &p->config.members, e);
    if (p->verb == REGISTER_VERB_MEMBERS) ask_set(p, &p->target, e);
    fill_request(p, e);
}

/* Somebody is ahead: after a while, above his ballot. */
static void outbid(struct proposer *p, struct ballot by, uint64_t random, struct register_effects *e)
{
    p->round = max64(p->round, by.round);
    p->phase = REGISTER_PAUSING;
    p->attempt++;
    uint32_t tried = p->config.attempts - min32(p->attempts, p->config.attempts);
    uint64_t longest = (uint64_t)p->config.pause_ms << min32(tried, PAUSE_DOUBLINGS);
    e->timer_ms = 1 + (uint32_t)(random % (longest + 1));
}

/* ---- the step ---- */

/* Rule 13: the members would be changed by what was known of an older value. */
static bool is_outdated(const struct proposer *p)
{
    const struct register_members *found = &p->found.members;
    bool begins = found->next.count == 0 && !acceptor_set_equal(&found->now, &p->target);
    return begins && p->found.version != p->expected && !MUTATED(MUTATE_STEP_UNSEEN);
}

/* What the members should be next; rules 11 and 12. False: nothing to do, or not yet. */
static bool step_members(const struct proposer *p, const struct register_members *found, struct register_members *ret_next)
{
    if (found->epoch != p->confirmed && !MUTATED(MUTATE_STEP_UNDECIDED)) return false;
    struct register_members next = {.epoch = found->epoch + 1};
    if (found->next.count > 0) {
        next.now = found->next;
    } else if (acceptor_set_equal(&found->now, &p->target)) {
        return false;
    } else if (MUTATED(MUTATE_ONE_STEP)) {
        next.now = p->target;
    } else {
        next.now = found->now;
        next.next = p->target;
    }
    *ret_next = next;
    return true;
}

/* Makes the next state from the one that was found, and says what the call comes to when it is decided. */
static void make_change(struct proposer *p)
{
    struct register_state *s = &p->proposed;
    p->outcome = ERR_CONFLICT;
    switch (register_fate(s, p->expected, p->tag)) {
    case REGISTER_FATE_DONE: /* rule 7 */
        if (MUTATED(MUTATE_RETRY_BLIND)) break;
        p->outcome = OK;
        return;
    case REGISTER_FATE_FORGOTTEN:
        if (p->maybe) p->outcome = ERR_UNDECIDED;
        return;
    case REGISTER_FATE_NEVER: break;
    case REGISTER_FATE_OPEN:
        if (s->version < p->expected) break; /* nobody has read that version yet */
        s->version++;
        s->tags[s->version % REGISTER_TAGS] = p->tag;
        s->bytes = p->bytes;
        s->size = p->size;
        p->maybe = true;
        p->outcome = OK;
        return;
    }
}

static void propose(struct proposer *p, struct register_effects *e)
{
    p->proposed = p->found;
    p->outcome = OK;
    bool steps = false;
    switch (p->verb) {
    case REGISTER_VERB_READ: break;
    case REGISTER_VERB_CAS: make_change(p); break;
    case REGISTER_VERB_MEMBERS:
        if (is_outdated(p))
            p->outcome = ERR_CONFLICT;
        else
            steps = step_members(p, &p->found.members, &p->proposed.members);
        p->maybe |= steps;
        break;
    }
    if (p->outcome == ERR_CONFLICT && MUTATED(MUTATE_UNDECIDED_CONFLICT)) {
        finish_with(p, ERR_CONFLICT, &p->proposed, e);
        return;
    }
    begin_phase(p, REGISTER_ACCEPTING, e);
    ask_members(p, &p->proposed.members, e);
    if (steps) ask_members(p, &p->found.members, e);
    fill_request(p, e);
}

/* The proposed state was accepted by its quorum. */
static void decided(struct proposer *p, struct register_effects *e)
{
    const struct register_members *members = &p->proposed.members;
    p->config.members = *members;
    p->confirmed = members->epoch;
    bool there = members->next.count == 0 && acceptor_set_equal(&members->now, &p->target);
    if (p->verb == REGISTER_VERB_MEMBERS && p->outcome == OK && !there) {
        p->attempts++; /* that one was no failure */
        prepare(p, e);
    } else {
        finish_with(p, p->outcome, &p->proposed, e);
    }
}

/* ---- answers ---- */

/* Keeps the state of the highest ballot that this attempt has seen; rule 5. */
static void keep_best(struct proposer *p, const struct register_answer *a)
{
    int order = ballot_compare(a->accepted, p->best);
    bool better = MUTATED(MUTATE_FIRST_FOUND) ? p->best.round == 0 : order > 0;
    if (a->accepted.round == 0 || !better) return;
    assert(a->state.size <= REGISTER_BYTES_MAX);
    p->best = a->accepted;
    p->found = a->state;
    if (a->state.size > 0) memcpy(p->buffer, a->state.bytes, a->state.size);
    p->found.bytes = p->buffer;
}

/* LOOK: done when a quorum shows the same ballot; else a round decides. */
static void looked(struct proposer *p, struct register_effects *e)
{
    uint64_t same[REGISTER_PEERS_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < p->yes_count; i++) {
        bool equal = ballot_compare(p->seen[i], p->best) == 0 || MUTATED(MUTATE_READ_HIGHEST);
        if (equal) same[count++] = p->yes[i];
    }
    if (p->best.round > 0 && members_quorum(&p->found.members, same, count)) {
        p->config.members = p->found.members;
        p->confirmed = p->found.members.epoch;
        finish_with(p, OK, &p->found, e);
    } else if (p->yes_count == p->peer_count) {
        prepare(p, e);
    }
}

/* PREPARE: may we go on from what was found? */
static void promised(struct proposer *p, struct register_effects *e)
{
    if (p->best.round == 0) return; /* rule 9 */
    /* Rule 10. */
    const struct register_members *who = MUTATED(MUTATE_OWN_VIEW) ? &p->config.members : &p->found.members;
    if (!members_quorum(who, p->yes, p->yes_count)) return;
    if (p->verb == REGISTER_VERB_MEMBERS && p->found.members.next.count == 0 &&
        !acceptor_set_majority(&p->target, p->yes, p->yes_count))
        return;
    propose(p, e);
}

static bool is_of_this_attempt(const struct proposer *p, const struct register_answer *a)
{
    if (p->phase < REGISTER_LOOKING || p->phase > REGISTER_ACCEPTING) return false;
    if (a->node != p->config.node || a->boot != p->config.boot) return false;
    if (memcmp(a->cluster, p->config.cluster, CLUSTER_ID_BYTES) != 0) return false;
    if (a->attempt != p->attempt && !MUTATED(MUTATE_LATE_ANSWERS)) return false;
    enum register_ask asked = p->phase == REGISTER_LOOKING     ? REGISTER_LOOK
                              : p->phase == REGISTER_PREPARING ? REGISTER_PREPARE
                                                               : REGISTER_ACCEPT;
    return a->ask == asked && is_in(p->peers, p->peer_count, a->acceptor) && !is_in(p->yes, p->yes_count, a->acceptor);
}

void register_answered(struct proposer *p, const struct register_answer *answer, uint64_t random,
                       struct register_effects *ret_effects)
{
    *ret_effects = (struct register_effects){0};
    if (!is_of_this_attempt(p, answer)) return;
    switch (answer->verdict) {
    case REGISTER_OUTBID: outbid(p, answer->promised, random, ret_effects); return;
    case REGISTER_MOVED:
        if (answer->state.members.epoch <= p->config.members.epoch) return;
        p->config.members = answer->state.members;
        prepare(p, ret_effects);
        return;
    case REGISTER_YES: break;
    }
    p->round = max64(p->round, answer->promised.round);
    p->seen[p->yes_count] = answer->accepted;
    p->yes[p->yes_count++] = answer->acceptor;
    if (p->phase == REGISTER_ACCEPTING) {
        if (members_quorum(&p->proposed.members, p->yes, p->yes_count)) decided(p, ret_effects);
        return;
    }
    keep_best(p, answer);
    if (p->best.round > 0) ask_members(p, &p->found.members, ret_effects);
    if (ret_effects->to_count > 0) fill_request(p, ret_effects);
    if (p->phase == REGISTER_LOOKING)
        looked(p, ret_effects);
    else
        promised(p, ret_effects);
}

void register_timeout(struct proposer *p, uint64_t random, struct register_effects *ret_effects)
{
    (void)random;
    *ret_effects = (struct register_effects){0};
    if (p->phase != REGISTER_IDLE) prepare(p, ret_effects);
}

/* ---- calls ---- */

void proposer_init(struct proposer *p, const struct register_config *config, void *buffer)
{
    assert(config->node != 0 && config->wait_ms > 0 && config->attempts > 0);
    *p = (struct proposer){.config = *config, .phase = REGISTER_IDLE, .buffer = buffer};
}

bool proposer_is_idle(const struct proposer *p)
{
    return p->phase == REGISTER_IDLE;
}

void proposer_heard(struct proposer *p, const struct register_members *members)
{
    assert(p->phase == REGISTER_IDLE);
    if (members->epoch >= p->config.members.epoch) p->config.members = *members;
}

const struct register_members *proposer_members(const struct proposer *p)
{
    return &p->config.members;
}

static void begin_call(struct proposer *p, enum register_verb verb, struct register_effects *e)
{
    assert(p->phase == REGISTER_IDLE);
    *e = (struct register_effects){0};
    p->verb = verb;
    p->maybe = false;
    p->attempts = p->config.attempts;
}

void register_read(struct proposer *p, uint64_t random, struct register_effects *ret_effects)
{
    (void)random;
    begin_call(p, REGISTER_VERB_READ, ret_effects);
    begin_phase(p, REGISTER_LOOKING, ret_effects);
    p->best = (struct ballot){0};
    ask_members(p, &p->config.members, ret_effects);
    fill_request(p, ret_effects);
}

struct register_tag register_new_tag(struct proposer *p)
{
    return (struct register_tag){.node = p->config.node, .boot = p->config.boot, .number = ++p->next_tag};
}

void register_cas(struct proposer *p, const struct register_change *change, uint64_t random,
                  struct register_effects *ret_effects)
{
    (void)random;
    assert(change->size <= REGISTER_BYTES_MAX && change->tag.node != 0 && change->expected > 0);
    begin_call(p, REGISTER_VERB_CAS, ret_effects);
    p->expected = change->expected;
    p->tag = change->tag;
    p->maybe = change->again;
    p->bytes = change->bytes;
    p->size = change->size;
    prepare(p, ret_effects);
}

void register_members(struct proposer *p, const struct acceptor_set *set, uint64_t expected, uint64_t random,
                      struct register_effects *ret_effects)
{
    (void)random;
    assert(set->count > 0 && expected > 0);
    begin_call(p, REGISTER_VERB_MEMBERS, ret_effects);
    p->expected = expected;
    p->target = *set;
    prepare(p, ret_effects);
}

enum register_fate register_fate(const struct register_state *state, uint64_t expected, struct register_tag tag)
{
    uint64_t version = expected + 1; /* that it made, or would make */
    if (state->version < version) return REGISTER_FATE_OPEN;
    if (state->version - version >= REGISTER_TAGS) return REGISTER_FATE_FORGOTTEN;
    return tag_equal(state->tags[version % REGISTER_TAGS], tag) ? REGISTER_FATE_DONE : REGISTER_FATE_NEVER;
}
