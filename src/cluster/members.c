/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ballots, tags, and sets of acceptors: who is in, and how many are enough.
 */
#include <assert.h>
#include <inttypes.h>

#include "base/text.h"
#include "cluster/register.h"
#include "store/mutation.h"

int ballot_compare(struct ballot a, struct ballot b)
{
    if (a.round != b.round) return a.round < b.round ? -1 : 1;
    if (a.node != b.node) return a.node < b.node ? -1 : 1;
    if (a.boot != b.boot) return a.boot < b.boot ? -1 : 1;
    return 0;
}

bool tag_equal(struct register_tag a, struct register_tag b)
{
    return a.node == b.node && a.boot == b.boot && a.number == b.number;
}

struct acceptor_set acceptor_set_of(const uint64_t *ids, uint32_t count)
{
    struct acceptor_set set = {0};
    for (uint32_t i = 0; i < count; i++) {
        assert(ids[i] != 0);
        if (acceptor_set_has(&set, ids[i])) continue;
        assert(set.count < ACCEPTORS_MAX);
        uint32_t at = set.count++;
        for (; at > 0 && set.ids[at - 1] > ids[i]; at--) set.ids[at] = set.ids[at - 1];
        set.ids[at] = ids[i];
    }
    return set;
}

bool acceptor_set_has(const struct acceptor_set *set, uint64_t id)
{
    for (uint32_t i = 0; i < set->count; i++)
        if (set->ids[i] == id) return true;
    return false;
}

bool acceptor_set_equal(const struct acceptor_set *a, const struct acceptor_set *b)
{
    if (a->count != b->count) return false;
    for (uint32_t i = 0; i < a->count; i++)
        if (a->ids[i] != b->ids[i]) return false;
    return true;
}

bool members_equal(const struct register_members *a, const struct register_members *b)
{
    return a->epoch == b->epoch && acceptor_set_equal(&a->now, &b->now) && acceptor_set_equal(&a->next, &b->next);
}

bool acceptor_set_majority(const struct acceptor_set *set, const uint64_t *ids, uint32_t count)
{
    uint32_t in = 0;
    for (uint32_t i = 0; i < count; i++) in += acceptor_set_has(set, ids[i]);
    if (MUTATED(MUTATE_HALF_IS_ENOUGH)) return in > 0 && in >= set->count / 2;
    return in > set->count / 2;
}

bool members_quorum(const struct register_members *members, const uint64_t *ids, uint32_t count)
{
    bool changing = members->next.count > 0;
    if (changing && MUTATED(MUTATE_NEW_SET_ALONE)) return acceptor_set_majority(&members->next, ids, count);
    if (changing && !acceptor_set_majority(&members->next, ids, count)) return false;
    return acceptor_set_majority(&members->now, ids, count);
}

void register_first_state(const struct acceptor_set *set, const void *bytes, uint32_t size, struct register_state *ret_state)
{
    assert(set->count > 0 && size <= REGISTER_BYTES_MAX);
    *ret_state = (struct register_state){.version = 1, .members = {.epoch = 1, .now = *set}, .bytes = bytes, .size = size};
}

/* ---- text ---- */

const char *ballot_text(struct ballot ballot, char *buf, size_t size)
{
    struct text t;
    text_init(&t, buf, size);
    text_add(&t, "%" PRIu64 ".%" PRIu32 ".%" PRIu32, ballot.round, ballot.node, ballot.boot);
    return buf;
}

static void set_text(struct text *t, const struct acceptor_set *set)
{
    for (uint32_t i = 0; i < set->count; i++) text_add(t, " %" PRIx64, set->ids[i]);
}

const char *members_text(const struct register_members *members, char *buf, size_t size)
{
    struct text t;
    text_init(&t, buf, size);
    text_add(&t, "%" PRIu64 ":", members->epoch);
    set_text(&t, &members->now);
    if (members->next.count > 0) text_add(&t, " ->");
    set_text(&t, &members->next);
    return buf;
}
