/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The judge of the register; quorum.h says why what it checks is all there is.
 */
#include <string.h>

#include "base/hash.h"
#include "sim/quorum.h"

void quorum_judge_init(struct quorum_judge *judge, struct lab *lab, const struct register_state *first)
{
    memset(judge, 0, sizeof *judge);
    judge->lab = lab;
    quorum_told(judge, quorum_now(judge), first);
}

struct quorum_before quorum_now(const struct quorum_judge *judge)
{
    return (struct quorum_before){.floor = judge->floor, .epoch_floor = judge->epoch_floor};
}

struct quorum_change *quorum_asked(struct quorum_judge *judge, struct register_tag tag, uint64_t expected)
{
    if (judge->change_count == QUORUM_CHANGES) return NULL;
    struct quorum_change *c = &judge->changes[judge->change_count++];
    *c = (struct quorum_change){.tag = tag, .expected = expected, .floor = judge->floor};
    return c;
}

static struct quorum_change *find(struct quorum_judge *judge, struct register_tag tag)
{
    for (uint32_t i = judge->change_count; i-- > 0;)
        if (tag_equal(judge->changes[i].tag, tag)) return &judge->changes[i];
    return NULL;
}

/* Version `v` was made by the change of this tag. */
static void told_tag(struct quorum_judge *judge, uint64_t v, struct register_tag tag)
{
    unsigned long long version = v;
    if (judge->versions[v].known) {
        struct register_tag other = judge->versions[v].tag;
        if (!tag_equal(other, tag))
            lab_fail(judge->lab, "version %llu is by %u.%u.%llu and by %u.%u.%llu", version, other.node, other.boot,
                     (unsigned long long)other.number, tag.node, tag.boot, (unsigned long long)tag.number);
        return;
    }
    judge->versions[v].known = true;
    judge->versions[v].tag = tag;
    if (v == 1) return;
    struct quorum_change *c = find(judge, tag);
    if (c == NULL) {
        lab_fail(judge->lab, "version %llu was made by nobody", version);
        return;
    }
    c->version = v;
    if (c->expected + 1 != v)
        lab_fail(judge->lab, "version %llu was to replace %llu", version, (unsigned long long)c->expected);
    if (c->denied) lab_fail(judge->lab, "version %llu was made by a change that was denied", version);
}

static void told_members(struct quorum_judge *judge, const struct register_members *members)
{
    struct register_members *known = &judge->epochs[members->epoch % QUORUM_EPOCHS];
    if (known->epoch != members->epoch) *known = *members;
    if (!members_equal(known, members))
        lab_fail(judge->lab, "epoch %llu has two sets of members", (unsigned long long)members->epoch);
}

uint8_t quorum_barred(const struct register_state *state)
{
    const uint8_t *bytes = state->bytes;
    return state->size > sizeof(struct register_tag) ? bytes[sizeof(struct register_tag)] : 0;
}

/* Rule 13. */
static void told_barred(struct quorum_judge *judge, const struct register_state *state)
{
    const struct register_members *members = &state->members;
    for (uint32_t id = 1; id < QUORUM_BARRED; id++) {
        uint64_t *out = &judge->barred[id].out, *in = &judge->barred[id].in, epoch = members->epoch;
        bool is_in = acceptor_set_has(&members->now, id) || acceptor_set_has(&members->next, id);
        bool is_out = !is_in && members->next.count == 0 && (quorum_barred(state) & 1u << id);
        if (is_out && (*out == 0 || epoch < *out)) *out = epoch;
        if (is_in && epoch > *in) *in = epoch;
        if (*out > 0 && *in > *out)
            lab_fail(judge->lab, "acceptor %u was barred and out in epoch %llu, and is a member in epoch %llu", id,
                     (unsigned long long)*out, (unsigned long long)*in);
    }
}

void quorum_told(struct quorum_judge *judge, struct quorum_before before, const struct register_state *state)
{
    uint64_t v = state->version;
    if (v >= QUORUM_VERSIONS) {
        lab_fail(judge->lab, "more versions than calls");
        return;
    }
    for (uint64_t k = v > REGISTER_TAGS ? v - REGISTER_TAGS + 1 : 1; k <= v; k++)
        told_tag(judge, k, state->tags[k % REGISTER_TAGS]);
    uint64_t content = hash64(state->bytes, state->size, 0);
    if (judge->versions[v].content_known && judge->versions[v].content != content)
        lab_fail(judge->lab, "version %llu has two contents", (unsigned long long)v);
    judge->versions[v].content_known = true;
    judge->versions[v].content = content;
    told_members(judge, &state->members);
    told_barred(judge, state);
    if (v < before.floor)
        lab_fail(judge->lab, "version %llu after %llu was known", (unsigned long long)v, (unsigned long long)before.floor);
    if (state->members.epoch < before.epoch_floor)
        lab_fail(judge->lab, "epoch %llu after %llu was known", (unsigned long long)state->members.epoch,
                 (unsigned long long)before.epoch_floor);
    if (v > judge->floor) judge->floor = v;
    if (state->members.epoch > judge->epoch_floor) judge->epoch_floor = state->members.epoch;
}

void quorum_told_done(struct quorum_judge *judge, struct quorum_change *change, uint64_t version)
{
    if (version != change->expected + 1)
        lab_fail(judge->lab, "a change of %llu made version %llu", (unsigned long long)change->expected,
                 (unsigned long long)version);
    else
        told_tag(judge, version, change->tag);
    if (version <= change->floor)
        lab_fail(judge->lab, "version %llu was made before it was asked for", (unsigned long long)version);
    if (version > judge->floor) judge->floor = version;
}

void quorum_told_never(struct quorum_judge *judge, struct quorum_change *change)
{
    change->denied = true;
    if (change->version != 0)
        lab_fail(judge->lab, "the change that made version %llu was denied", (unsigned long long)change->version);
}
