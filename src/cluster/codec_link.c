/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames of links. Lengths are judged when the header is there, so nobody above ever waits for bytes that cannot be.
 */
#include "cluster/codec_link.h"

#include <assert.h>
#include <string.h>

#include "base/text.h"

static_assert(LINK_CONTROL_MAX >= sizeof(struct wire_joined) + 3 * DER_MAX, "the longest answer to a joiner fits");
static_assert(LINK_CONTROL_MAX >= sizeof(struct wire_join) + DER_MAX, "so does the request");

enum { HELLO_BYTES_MAX = 1024, PIECE_SMALLEST = 4096 };

/* ---- frames ---- */

void frame_encode(const struct frame *frame, struct wire_frame *ret_wire)
{
    *ret_wire = (struct wire_frame){
        .length = put32(frame->length),
        .type = (uint8_t)frame->type,
        .flags = frame->urgent ? FRAME_URGENT : 0,
        .kind = put16(frame->kind),
        .stream = put32(frame->stream),
        .session = put32(frame->session),
        .head_bytes = put32(frame->head_bytes),
        .body_bytes = put32(frame->body_bytes),
    };
}

/* A MESSAGE holds its whole head and no more than its body; an urgent one is whole. */
static bool message_is_good(const struct frame *f)
{
    if (f->head_bytes > LINK_HEAD_MAX || f->body_bytes > LINK_BODY_MAX || f->length < f->head_bytes) return false;
    uint32_t body = f->length - f->head_bytes;
    if (f->urgent) return f->body_bytes == 0 && body == 0 && f->head_bytes > 0;
    if (f->head_bytes == 0 && f->body_bytes == 0) return false;
    return body <= f->body_bytes && body <= LINK_PART_MAX;
}

static bool length_is_good(const struct frame *f)
{
    switch (f->type) {
    case FRAME_HELLO: return f->length >= sizeof(struct wire_hello) && f->length <= HELLO_BYTES_MAX;
    case FRAME_REFUSE:
        return f->length >= sizeof(struct wire_refuse) && f->length <= sizeof(struct wire_refuse) + LINK_REASON_MAX;
    case FRAME_PING:
    case FRAME_PONG:
    case FRAME_CREDIT: return f->length == sizeof(struct wire_state);
    case FRAME_DEAD: return f->length == sizeof(struct wire_dead);
    case FRAME_MESSAGE: return message_is_good(f);
    case FRAME_PART: return f->length > 0 && f->length <= LINK_PART_MAX;
    case FRAME_SIGN: return f->length > 0 && f->length <= DER_MAX;
    case FRAME_SIGNED: return f->length <= DER_MAX;
    case FRAME_JOIN:
        return f->length > sizeof(struct wire_join) && f->length <= sizeof(struct wire_join) + DER_MAX + JOIN_INFO_MAX;
    case FRAME_JOINED:
        return f->length > sizeof(struct wire_joined) && f->length <= sizeof(struct wire_joined) + 3 * DER_MAX + POOL_KEY_BYTES;
    }
    return false;
}

enum err frame_decode(const void *at, size_t size, struct frame *ret_frame)
{
    struct wire_frame wire;
    if (size < sizeof wire) return ERR_TRUNCATED;
    memcpy(&wire, at, sizeof wire);
    if (wire.type < FRAME_HELLO || wire.type > FRAME_JOINED || (wire.flags & ~FRAME_URGENT) != 0) return ERR_DECODE;
    struct frame frame = {
        .type = (enum frame_type)wire.type,
        .urgent = (wire.flags & FRAME_URGENT) != 0,
        .kind = get16(wire.kind),
        .length = get32(wire.length),
        .stream = get32(wire.stream),
        .session = get32(wire.session),
        .head_bytes = get32(wire.head_bytes),
        .body_bytes = get32(wire.body_bytes),
    };
    bool plain = frame.kind == 0 && !frame.urgent && frame.head_bytes == 0 && frame.body_bytes == 0;
    if (frame.type != FRAME_MESSAGE && !plain) return ERR_DECODE;
    if (frame.type != FRAME_MESSAGE && frame.type != FRAME_PART && (frame.stream != 0 || frame.session != 0)) return ERR_DECODE;
    if (!length_is_good(&frame)) return ERR_DECODE;
    *ret_frame = frame;
    return OK;
}

/* ---- HELLO ---- */

void hello_encode(const struct hello *hello, struct wire_hello *ret_wire)
{
    *ret_wire = (struct wire_hello){
        .version_min = put16(hello->version_min),
        .version_max = put16(hello->version_max),
        .path = put32(hello->path),
        .node = put32(hello->node),
        .peer = put32(hello->peer),
        .features = put64(hello->features),
        .required = put64(hello->required),
        .session = put32(hello->session),
        .flags = put32(hello->holder ? HELLO_HOLDER : 0),
        .window = {put32(hello->window[0]), put32(hello->window[1])},
        .heartbeat_ms = put32(hello->heartbeat_ms),
        .timeout_ms = put32(hello->timeout_ms),
    };
    memcpy(ret_wire->magic, HELLO_MAGIC, HELLO_MAGIC_BYTES);
    memcpy(ret_wire->cluster, hello->cluster.b, sizeof ret_wire->cluster);
    memcpy(ret_wire->boot, hello->boot, sizeof ret_wire->boot);
}

enum err hello_decode(const void *at, size_t size, struct hello *ret_hello)
{
    struct wire_hello wire;
    if (size < sizeof wire) return ERR_TRUNCATED;
    memcpy(&wire, at, sizeof wire);
    if (memcmp(wire.magic, HELLO_MAGIC, HELLO_MAGIC_BYTES) != 0) return ERR_NOT_OURS;
    struct hello hello = {
        .version_min = get16(wire.version_min),
        .version_max = get16(wire.version_max),
        .path = get32(wire.path),
        .node = get32(wire.node),
        .peer = get32(wire.peer),
        .features = get64(wire.features),
        .required = get64(wire.required),
        .session = get32(wire.session),
        .holder = (get32(wire.flags) & HELLO_HOLDER) != 0,
        .window = {get32(wire.window[0]), get32(wire.window[1])},
        .heartbeat_ms = get32(wire.heartbeat_ms),
        .timeout_ms = get32(wire.timeout_ms),
    };
    memcpy(hello.cluster.b, wire.cluster, sizeof hello.cluster.b);
    memcpy(hello.boot, wire.boot, sizeof hello.boot);
    if (hello.version_min == 0 || hello.version_min > hello.version_max) return ERR_DECODE;
    if (hello.node == 0 || hello.node > NODE_NUMBER_MAX || hello.path >= LINK_PATHS_MAX) return ERR_DECODE;
    if (hello.window[0] < LINK_COST_MAX || hello.window[1] < LINK_COST_MIN) return ERR_DECODE;
    *ret_hello = hello;
    return OK;
}

enum link_refusal hello_agree(const struct hello *ours, const struct hello *theirs, char why[LINK_REASON_MAX + 1],
                              uint16_t *ret_version, uint64_t *ret_features)
{
    uint16_t low = ours->version_min > theirs->version_min ? ours->version_min : theirs->version_min;
    uint16_t high = ours->version_max < theirs->version_max ? ours->version_max : theirs->version_max;
    uint64_t missing = (ours->required & ~theirs->features) | (theirs->required & ~ours->features);
    struct text t;
    text_init(&t, why, LINK_REASON_MAX + 1);
    if (memcmp(&ours->cluster, &theirs->cluster, sizeof ours->cluster) != 0) {
        text_add(&t, "it belongs to another cluster");
        return REFUSAL_CLUSTER;
    }
    if (theirs->peer != ours->node) {
        text_add(&t, "it looked for node %u, and this is node %u", theirs->peer, ours->node);
        return REFUSAL_NODE;
    }
    if (low > high) {
        text_add(&t, "node %u speaks versions %u to %u of the protocol, node %u speaks %u to %u", theirs->node,
                 theirs->version_min, theirs->version_max, ours->node, ours->version_min, ours->version_max);
        return REFUSAL_VERSION;
    }
    if (missing != 0) {
        text_add(&t, "nodes %u and %u: one requires features that the other lacks (bits %llx)", theirs->node, ours->node,
                 (unsigned long long)missing);
        return REFUSAL_FEATURE;
    }
    *ret_version = high;
    *ret_features = ours->features & theirs->features;
    return REFUSAL_NONE;
}

/* ---- PING, PONG, CREDIT ---- */

void state_encode(const struct link_state *state, struct wire_state *ret_wire)
{
    *ret_wire = (struct wire_state){.stamp = put64(state->stamp),
                                    .consumed = {put64(state->consumed[0]), put64(state->consumed[1])},
                                    .received = put64(state->received)};
}

enum err state_decode(const void *at, size_t size, struct link_state *ret_state)
{
    struct wire_state wire;
    if (size < sizeof wire) return ERR_TRUNCATED;
    memcpy(&wire, at, sizeof wire);
    *ret_state = (struct link_state){.stamp = get64(wire.stamp),
                                     .consumed = {get64(wire.consumed[0]), get64(wire.consumed[1])},
                                     .received = get64(wire.received)};
    return OK;
}

/* ---- REFUSE ---- */

uint32_t refusal_encode(enum link_refusal reason, const char *text, uint8_t *ret_at)
{
    size_t length = strlen(text);
    if (length > LINK_REASON_MAX) length = LINK_REASON_MAX;
    struct wire_refuse wire = {.reason = put16((uint16_t)reason), .text_bytes = put16((uint16_t)length)};
    memcpy(ret_at, &wire, sizeof wire);
    memcpy(ret_at + sizeof wire, text, length);
    return (uint32_t)(sizeof wire + length);
}

enum err refusal_decode(const void *at, size_t size, struct refusal *ret_refusal)
{
    struct wire_refuse wire;
    struct refusal refusal = {.reason = REFUSAL_NONE};
    if (size < sizeof wire) return ERR_TRUNCATED;
    memcpy(&wire, at, sizeof wire);
    uint16_t reason = get16(wire.reason), length = get16(wire.text_bytes);
    if (length > LINK_REASON_MAX || length > size - sizeof wire) return ERR_DECODE;
    refusal.reason = reason > REFUSAL_NONE && reason < REFUSALS ? (enum link_refusal)reason : REFUSAL_LIMIT;
    const char *text = (const char *)at + sizeof wire;
    for (uint16_t i = 0; i < length; i++) refusal.text[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
    *ret_refusal = refusal;
    return OK;
}

/* ---- joining ---- */

static uint8_t *der_add(uint8_t *at, const struct der *der)
{
    memcpy(at, der->at, der->bytes);
    return at + der->bytes;
}

static bool der_take(struct cursor *c, uint32_t bytes, struct der *ret_der)
{
    const void *at = bytes <= DER_MAX ? cursor_take(c, bytes) : NULL;
    if (at == NULL) return false;
    ret_der->bytes = bytes;
    memcpy(ret_der->at, at, bytes);
    return true;
}

uint32_t join_request_encode(const struct join_request *join, uint8_t ret_at[LINK_CONTROL_MAX])
{
    struct wire_join wire = {.request_bytes = put32(join->request.bytes), .info_bytes = put32(join->info_bytes)};
    memcpy(wire.proof, join->proof, sizeof wire.proof);
    memcpy(ret_at, &wire, sizeof wire);
    uint8_t *at = der_add(ret_at + sizeof wire, &join->request);
    memcpy(at, join->info, join->info_bytes);
    return (uint32_t)(at + join->info_bytes - ret_at);
}

enum err join_request_decode(const void *at, size_t size, struct join_request *ret_join)
{
    struct wire_join wire;
    struct cursor c = cursor_of(at, size);
    const void *head = cursor_take(&c, sizeof wire);
    if (head == NULL) return ERR_TRUNCATED;
    memcpy(&wire, head, sizeof wire);
    struct join_request join = {.info_bytes = get32(wire.info_bytes)};
    memcpy(join.proof, wire.proof, sizeof join.proof);
    if (!der_take(&c, get32(wire.request_bytes), &join.request) || join.request.bytes == 0) return ERR_DECODE;
    if (join.info_bytes > JOIN_INFO_MAX || join.info_bytes != c.left) return ERR_DECODE;
    memcpy(join.info, c.at, join.info_bytes);
    *ret_join = join;
    return OK;
}

uint32_t join_answer_encode(const struct join_answer *answer, uint8_t ret_at[LINK_CONTROL_MAX])
{
    struct wire_joined wire = {.node = put32(answer->node),
                               .ca_bytes = put32(answer->ca.bytes),
                               .certificate_bytes = put32(answer->certificate.bytes),
                               .ca_key_bytes = put32(answer->ca_key.bytes)};
    memcpy(ret_at, &wire, sizeof wire);
    uint8_t *at = der_add(ret_at + sizeof wire, &answer->ca);
    at = der_add(at, &answer->certificate);
    at = der_add(at, &answer->ca_key);
    if (answer->pool_key.known) memcpy(at, answer->pool_key.at, POOL_KEY_BYTES);
    return (uint32_t)(at - ret_at) + (answer->pool_key.known ? POOL_KEY_BYTES : 0);
}

enum err join_answer_decode(const void *at, size_t size, struct join_answer *ret_answer)
{
    struct wire_joined wire;
    struct cursor c = cursor_of(at, size);
    const void *head = cursor_take(&c, sizeof wire);
    if (head == NULL) return ERR_TRUNCATED;
    memcpy(&wire, head, sizeof wire);
    struct join_answer answer = {.node = get32(wire.node)};
    bool good = der_take(&c, get32(wire.ca_bytes), &answer.ca) &&
                der_take(&c, get32(wire.certificate_bytes), &answer.certificate) &&
                der_take(&c, get32(wire.ca_key_bytes), &answer.ca_key);
    const void *key = c.left > 0 ? cursor_take(&c, POOL_KEY_BYTES) : NULL;
    answer.pool_key.known = key != NULL;
    if (key != NULL) memcpy(answer.pool_key.at, key, POOL_KEY_BYTES);
    good = good && !c.bad && c.left == 0;
    if (!good || answer.node == 0 || answer.node > NODE_NUMBER_MAX || answer.ca.bytes == 0 || answer.certificate.bytes == 0)
        return ERR_DECODE;
    *ret_answer = answer;
    return OK;
}

/* ---- cost ---- */

uint32_t link_body_cost(uint32_t body_bytes)
{
    uint32_t whole = body_bytes / LINK_PIECE * LINK_PIECE, rest = body_bytes - whole, last = rest > 0 ? PIECE_SMALLEST : 0;
    while (last < rest) last *= 2;
    return whole + last;
}
