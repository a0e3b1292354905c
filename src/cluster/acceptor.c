/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The acceptor: keeps a promise and a state, and answers three questions about them. What it promises and keeps, and why that
 * is enough, is told in register.c; here each rule stands at the `if` that obeys it.
 *
 * It answers only what is durable. So a request that changes something leaves with ACCEPTOR_PERSIST, and the acceptor is as it
 * was until its owner has made the new state durable. A crash in between is a request that was never answered.
 */
#include <assert.h>
#include <string.h>

#include "cluster/register.h"
#include "store/mutation.h"

void acceptor_make(struct acceptor *ret_acceptor, const uint8_t cluster[CLUSTER_ID_BYTES], uint64_t id,
                   const struct register_state *first)
{
    assert(id != 0);
    *ret_acceptor = (struct acceptor){.id = id};
    memcpy(ret_acceptor->cluster, cluster, CLUSTER_ID_BYTES);
    if (first == NULL) return;
    assert(acceptor_set_has(&first->members.now, id));
    ret_acceptor->promised = ret_acceptor->accepted = (struct ballot){.round = 1}; /* no proposer is node 0 */
    ret_acceptor->state = *first;
}

void acceptor_restart(struct acceptor *acceptor)
{
    if (!MUTATED(MUTATE_SAME_BOOT)) acceptor->boot++;
    if (MUTATED(MUTATE_FORGET_PROMISE)) acceptor->promised = acceptor->accepted;
}

/* Rule 1: a promise is to a ballot that is higher than any before. The same again is the same message, delivered twice. */
static enum acceptor_step prepare(const struct register_request *request, struct acceptor *next, struct register_answer *answer)
{
    int order = ballot_compare(request->ballot, next->promised);
    if (order < 0) {
        answer->verdict = REGISTER_OUTBID;
        return ACCEPTOR_ANSWER;
    }
    answer->accepted = next->accepted;
    answer->state = next->state;
    if (order == 0) return ACCEPTOR_ANSWER;
    next->promised = answer->promised = request->ballot;
    return ACCEPTOR_PERSIST;
}

static struct register_tag newest_tag(const struct register_state *state)
{
    return state->tags[state->version % REGISTER_TAGS];
}

/* Rule 2: what is below the promise is not accepted; what is accepted is promised, too. */
static enum acceptor_step accept(const struct register_request *request, struct acceptor *next, struct register_answer *answer)
{
    if (ballot_compare(request->ballot, next->promised) < 0 && !MUTATED(MUTATE_ACCEPT_UNPROMISED)) {
        answer->verdict = REGISTER_OUTBID;
        return ACCEPTOR_ANSWER;
    }
    if (ballot_compare(request->ballot, next->accepted) == 0) { /* delivered twice, or a ballot that was used twice (rule 4) */
        bool same = request->state.version == next->state.version &&
                    members_equal(&request->state.members, &next->state.members) &&
                    tag_equal(newest_tag(&request->state), newest_tag(&next->state));
        answer->accepted = next->accepted;
        if (!same && !MUTATED(MUTATE_SAME_BOOT)) answer->verdict = REGISTER_OUTBID;
        return ACCEPTOR_ANSWER;
    }
    answer->accepted = request->ballot;
    if (!MUTATED(MUTATE_ACCEPT_NO_PROMISE)) next->promised = answer->promised = request->ballot;
    next->accepted = request->ballot;
    next->state = request->state;
    return ACCEPTOR_PERSIST;
}

enum acceptor_step acceptor_handle(const struct acceptor *acceptor, const struct register_request *request,
                                   struct acceptor *ret_next, struct register_answer *ret_answer)
{
    if (request->acceptor != acceptor->id || memcmp(request->cluster, acceptor->cluster, CLUSTER_ID_BYTES) != 0)
        return ACCEPTOR_SILENT;
    struct register_answer answer = {.ask = request->ask,
                                     .verdict = REGISTER_YES,
                                     .acceptor = acceptor->id,
                                     .node = request->node,
                                     .boot = request->boot,
                                     .attempt = request->attempt,
                                     .promised = acceptor->promised};
    memcpy(answer.cluster, acceptor->cluster, CLUSTER_ID_BYTES);
    struct acceptor next = *acceptor;
    enum acceptor_step step = ACCEPTOR_ANSWER;
    switch (request->ask) {
    case REGISTER_LOOK:
        answer.accepted = acceptor->accepted;
        answer.state = acceptor->state;
        break;
    case REGISTER_PREPARE:
        /* A short cut to what rule 10 comes to. */
        if (acceptor->accepted.round > 0 && request->epoch < acceptor->state.members.epoch && !MUTATED(MUTATE_OWN_VIEW)) {
            answer.verdict = REGISTER_MOVED;
            answer.accepted = acceptor->accepted;
            answer.state = acceptor->state;
            answer.state.bytes = NULL;
            answer.state.size = 0;
        } else {
            step = prepare(request, &next, &answer);
        }
        break;
    case REGISTER_ACCEPT: step = accept(request, &next, &answer); break;
    }
    assert(ballot_compare(next.accepted, next.promised) <= 0 || MUTATED(MUTATE_ACCEPT_NO_PROMISE) ||
           MUTATED(MUTATE_FORGET_PROMISE));
    *ret_next = next;
    *ret_answer = answer;
    return step;
}
