/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages of the register and the files of an acceptor. They share the state, which is checked in one place: counts, order of
 * ids, numbers that start at 1, and a size that is exactly what is there.
 */
#include "cluster/codec.h"

#include "base/hash.h"
#include "store/mutation.h"

static_assert(REGISTER_TAGS == 16 && ACCEPTORS_MAX == 7 && CLUSTER_ID_BYTES == 16, "format.h spells these out");

#define IMAGE_COVERED (offsetof(struct disk_acceptor, checksum) + sizeof(le64)) /* the checksum covers what follows */

/* ---- ballots and tags ---- */

static struct disk_ballot ballot_encode(struct ballot b)
{
    return (struct disk_ballot){.round = put64(b.round), .node = put32(b.node), .boot = put32(b.boot)};
}

static struct ballot ballot_decode(const struct disk_ballot *d)
{
    return (struct ballot){.round = get64(d->round), .node = get32(d->node), .boot = get32(d->boot)};
}

/* None is all zero, so there is one form of it. */
static bool ballot_possible(struct ballot b)
{
    return b.round > 0 || (b.node == 0 && b.boot == 0);
}

/* ---- states ---- */

static void set_encode(const struct acceptor_set *set, le64 ret_ids[ACCEPTORS_MAX])
{
    for (uint32_t i = 0; i < ACCEPTORS_MAX; i++) ret_ids[i] = put64(i < set->count ? set->ids[i] : 0);
}

static enum err set_decode(const le64 ids[ACCEPTORS_MAX], uint32_t count, struct acceptor_set *ret_set)
{
    if (count > ACCEPTORS_MAX) return ERR_DECODE;
    *ret_set = (struct acceptor_set){.count = count};
    uint64_t before = 0;
    for (uint32_t i = 0; i < ACCEPTORS_MAX; i++) {
        uint64_t id = get64(ids[i]);
        if (i < count ? id <= before : id != 0) return ERR_DECODE;
        ret_set->ids[i] = before = id;
    }
    return OK;
}

static size_t state_size(const struct register_state *state)
{
    return sizeof(struct disk_register) + state->size;
}

static void state_encode(const struct register_state *state, uint8_t *at)
{
    assert(state->size <= REGISTER_BYTES_MAX && state->version > 0 && state->members.now.count > 0);
    struct disk_register d = {.version = put64(state->version),
                              .epoch = put64(state->members.epoch),
                              .size = put32(state->size),
                              .now_count = (uint8_t)state->members.now.count,
                              .next_count = (uint8_t)state->members.next.count};
    set_encode(&state->members.now, d.now);
    set_encode(&state->members.next, d.next);
    for (uint32_t i = 0; i < REGISTER_TAGS; i++) {
        const struct register_tag *tag = &state->tags[i];
        d.tags[i] = (struct disk_tag){.node = put32(tag->node), .boot = put32(tag->boot), .number = put64(tag->number)};
    }
    memcpy(at, &d, sizeof d);
    if (state->size > 0) memcpy(at + sizeof d, state->bytes, state->size);
}

/* Takes the rest of the cursor, exactly. */
static enum err state_decode(struct cursor *c, struct register_state *ret_state)
{
    struct disk_register d;
    const void *at = cursor_take(c, sizeof d);
    if (at == NULL) return ERR_TRUNCATED;
    memcpy(&d, at, sizeof d);
    struct register_state s = {.version = get64(d.version), .members.epoch = get64(d.epoch), .size = get32(d.size)};
    if (s.version == 0 || s.members.epoch == 0 || d.now_count == 0 || s.size > REGISTER_BYTES_MAX) return ERR_DECODE;
    TRY(set_decode(d.now, d.now_count, &s.members.now));
    TRY(set_decode(d.next, d.next_count, &s.members.next));
    for (uint32_t i = 0; i < REGISTER_TAGS; i++) {
        const struct disk_tag *tag = &d.tags[i];
        s.tags[i] = (struct register_tag){.node = get32(tag->node), .boot = get32(tag->boot), .number = get64(tag->number)};
    }
    if (c->left < s.size) return ERR_TRUNCATED;
    if (c->left > s.size) return ERR_DECODE;
    s.bytes = cursor_take(c, s.size);
    *ret_state = s;
    return OK;
}

/* ---- requests ---- */

enum err register_request_encode(const struct register_request *request, void *at, size_t room, size_t *ret_size)
{
    bool has_state = request->ask == REGISTER_ACCEPT;
    struct wire_request d = {.version = put16(REGISTER_WIRE_VERSION),
                             .kind = (uint8_t)request->ask,
                             .acceptor = put64(request->acceptor),
                             .node = put32(request->node),
                             .boot = put32(request->boot),
                             .attempt = put64(request->attempt),
                             .epoch = put64(request->epoch),
                             .ballot = ballot_encode(request->ballot)};
    size_t size = sizeof d + (has_state ? state_size(&request->state) : 0);
    if (size > room) return ERR_LIMIT;
    memcpy(d.cluster, request->cluster, sizeof d.cluster);
    d.size = put32((uint32_t)size);
    memcpy(at, &d, sizeof d);
    if (has_state) state_encode(&request->state, (uint8_t *)at + sizeof d);
    *ret_size = size;
    return OK;
}

/* What all versions of a message have: who may read it, and how long it is. */
static enum err check_head(le16 version, le32 announced, size_t size)
{
    if (get16(version) > REGISTER_WIRE_VERSION) return ERR_NEW_FORMAT;
    if (get16(version) == 0 || get32(announced) < size) return ERR_DECODE;
    return get32(announced) > size ? ERR_TRUNCATED : OK;
}

enum err register_request_decode(const void *at, size_t size, struct register_request *ret_request)
{
    struct cursor c = cursor_of(at, size);
    struct wire_request d;
    const void *head = cursor_take(&c, sizeof d);
    if (head == NULL) return ERR_TRUNCATED;
    memcpy(&d, head, sizeof d);
    TRY(check_head(d.version, d.size, size));
    if (d.kind < REGISTER_LOOK || d.kind > REGISTER_ACCEPT) return ERR_DECODE;
    struct register_request r = {.ask = (enum register_ask)d.kind,
                                 .acceptor = get64(d.acceptor),
                                 .node = get32(d.node),
                                 .boot = get32(d.boot),
                                 .attempt = get64(d.attempt),
                                 .epoch = get64(d.epoch),
                                 .ballot = ballot_decode(&d.ballot)};
    memcpy(r.cluster, d.cluster, sizeof r.cluster);
    if (!ballot_possible(r.ballot) || (r.ballot.round == 0) != (r.ask == REGISTER_LOOK)) return ERR_DECODE;
    if (r.ask == REGISTER_ACCEPT) TRY(state_decode(&c, &r.state));
    if (c.left > 0) return ERR_DECODE;
    *ret_request = r;
    return OK;
}

/* ---- answers ---- */

static bool answer_has_state(const struct register_answer *answer)
{
    return answer->ask != REGISTER_ACCEPT && answer->accepted.round > 0;
}

enum err register_answer_encode(const struct register_answer *answer, void *at, size_t room, size_t *ret_size)
{
    struct wire_answer d = {.version = put16(REGISTER_WIRE_VERSION),
                            .kind = (uint8_t)(answer->ask | WIRE_ANSWER_BIT),
                            .verdict = (uint8_t)answer->verdict,
                            .acceptor = put64(answer->acceptor),
                            .node = put32(answer->node),
                            .boot = put32(answer->boot),
                            .attempt = put64(answer->attempt),
                            .promised = ballot_encode(answer->promised),
                            .accepted = ballot_encode(answer->accepted)};
    size_t size = sizeof d + (answer_has_state(answer) ? state_size(&answer->state) : 0);
    if (size > room) return ERR_LIMIT;
    memcpy(d.cluster, answer->cluster, sizeof d.cluster);
    d.size = put32((uint32_t)size);
    memcpy(at, &d, sizeof d);
    if (answer_has_state(answer)) state_encode(&answer->state, (uint8_t *)at + sizeof d);
    *ret_size = size;
    return OK;
}

/* MOVED always says to whom, and only to PREPARE. */
static bool verdict_possible(const struct register_answer *a)
{
    switch (a->verdict) {
    case REGISTER_YES: return true;
    case REGISTER_OUTBID: return a->ask != REGISTER_LOOK && a->promised.round > 0;
    case REGISTER_MOVED: return a->ask == REGISTER_PREPARE && a->accepted.round > 0;
    }
    return false;
}

enum err register_answer_decode(const void *at, size_t size, struct register_answer *ret_answer)
{
    struct cursor c = cursor_of(at, size);
    struct wire_answer d;
    const void *head = cursor_take(&c, sizeof d);
    if (head == NULL) return ERR_TRUNCATED;
    memcpy(&d, head, sizeof d);
    TRY(check_head(d.version, d.size, size));
    uint32_t ask = d.kind & ~(uint32_t)WIRE_ANSWER_BIT;
    if (!(d.kind & WIRE_ANSWER_BIT) || ask < REGISTER_LOOK || ask > REGISTER_ACCEPT) return ERR_DECODE;
    struct register_answer a = {.ask = (enum register_ask)ask,
                                .verdict = (enum register_verdict)d.verdict,
                                .acceptor = get64(d.acceptor),
                                .node = get32(d.node),
                                .boot = get32(d.boot),
                                .attempt = get64(d.attempt),
                                .promised = ballot_decode(&d.promised),
                                .accepted = ballot_decode(&d.accepted)};
    memcpy(a.cluster, d.cluster, sizeof a.cluster);
    if (!ballot_possible(a.promised) || !ballot_possible(a.accepted) || !verdict_possible(&a)) return ERR_DECODE;
    if (answer_has_state(&a)) TRY(state_decode(&c, &a.state));
    if (c.left > 0 || (a.verdict == REGISTER_MOVED && a.state.size > 0)) return ERR_DECODE;
    *ret_answer = a;
    return OK;
}

/* ---- the file of an acceptor ---- */

enum err acceptor_image_encode(const struct acceptor *acceptor, uint64_t generation, void *at, size_t room, size_t *ret_size)
{
    bool has_state = acceptor->accepted.round > 0;
    struct disk_acceptor d = {.version = put32(ACCEPTOR_FILE_VERSION),
                              .generation = put64(generation),
                              .id = put64(acceptor->id),
                              .boot = put32(acceptor->boot),
                              .promised = ballot_encode(acceptor->promised),
                              .accepted = ballot_encode(acceptor->accepted)};
    size_t size = sizeof d + (has_state ? state_size(&acceptor->state) : 0);
    if (size > room) return ERR_LIMIT;
    memcpy(d.magic, ACCEPTOR_MAGIC, sizeof d.magic);
    memcpy(d.cluster, acceptor->cluster, sizeof d.cluster);
    d.size = put32((uint32_t)size);
    memcpy(at, &d, sizeof d);
    if (has_state) state_encode(&acceptor->state, (uint8_t *)at + sizeof d);
    le64 checksum = put64(hash64((const uint8_t *)at + IMAGE_COVERED, size - IMAGE_COVERED, 0));
    memcpy((uint8_t *)at + offsetof(struct disk_acceptor, checksum), checksum.b, sizeof checksum.b);
    *ret_size = size;
    return OK;
}

enum err acceptor_image_decode(const void *at, size_t size, struct acceptor *ret_acceptor, uint64_t *ret_generation)
{
    struct disk_acceptor d;
    if (size < sizeof d) return ERR_TRUNCATED;
    memcpy(&d, at, sizeof d);
    if (memcmp(d.magic, ACCEPTOR_MAGIC, sizeof d.magic) != 0) return ERR_NOT_OURS;
    if (get32(d.size) > size) return ERR_TRUNCATED;
    if (get32(d.size) < sizeof d) return ERR_DECODE;
    if (hash64((const uint8_t *)at + IMAGE_COVERED, get32(d.size) - IMAGE_COVERED, 0) != get64(d.checksum)) return ERR_CHECKSUM;
    if (get32(d.version) > ACCEPTOR_FILE_VERSION) return ERR_NEW_FORMAT;
    struct cursor c = cursor_of((const uint8_t *)at + sizeof d, get32(d.size) - sizeof d);
    struct acceptor a = {.id = get64(d.id),
                         .boot = get32(d.boot),
                         .promised = ballot_decode(&d.promised),
                         .accepted = ballot_decode(&d.accepted)};
    memcpy(a.cluster, d.cluster, sizeof a.cluster);
    if (get32(d.version) == 0 || get64(d.generation) == 0 || a.id == 0) return ERR_DECODE;
    if (!ballot_possible(a.promised) || !ballot_possible(a.accepted)) return ERR_DECODE;
    if (ballot_compare(a.accepted, a.promised) > 0 && !MUTATED(MUTATE_ACCEPT_NO_PROMISE)) return ERR_DECODE;
    if (a.accepted.round > 0) TRY(state_decode(&c, &a.state));
    if (c.left > 0) return ERR_DECODE;
    *ret_acceptor = a;
    *ret_generation = get64(d.generation);
    return OK;
}
