/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the frames of link_format.h to host structs and back. What comes from another node goes through a decode here, once.
 * Decoders leave their outputs untouched on failure and read no byte beyond `size`. Errors: ERR_TRUNCATED, ERR_DECODE
 * (impossible), ERR_NOT_OURS (no magic).
 */
#ifndef IZAR_CLUSTER_CODEC_LINK_H
#define IZAR_CLUSTER_CODEC_LINK_H

#include "cluster/identity.h"
#include "cluster/link_format.h"

struct frame {
    enum frame_type type;
    bool urgent;
    uint16_t kind;
    uint32_t length, stream, session, head_bytes, body_bytes;
};

void frame_encode(const struct frame *frame, struct wire_frame *ret_wire);
/* Checks every number against the limits: of a MESSAGE that its frame holds the whole head, of all others the length. */
enum err frame_decode(const void *at, size_t size, struct frame *ret_frame);

struct hello {
    uint16_t version_min, version_max;
    uint32_t path, node, peer, session;
    struct cluster_id cluster;
    uint8_t boot[BOOT_BYTES];
    uint64_t features, required;
    bool holder;
    uint32_t window[2];
    uint32_t heartbeat_ms, timeout_ms;
};

void hello_encode(const struct hello *hello, struct wire_hello *ret_wire);
/* More bytes than this version knows are fine. ERR_DECODE: an empty range of versions, or no node, or a window too small. */
enum err hello_decode(const void *at, size_t size, struct hello *ret_hello);

struct link_state {
    uint64_t stamp, consumed[2], received;
};

void state_encode(const struct link_state *state, struct wire_state *ret_wire);
enum err state_decode(const void *at, size_t size, struct link_state *ret_state);

struct refusal {
    enum link_refusal reason;
    char text[LINK_REASON_MAX + 1];
};

/* Returns the bytes, at most sizeof(struct wire_refuse) + LINK_REASON_MAX. */
uint32_t refusal_encode(enum link_refusal reason, const char *text, uint8_t *ret_at);
/* Only printable characters are kept of the text: it ends up in front of people. */
enum err refusal_decode(const void *at, size_t size, struct refusal *ret_refusal);

struct join_request {
    uint8_t proof[JOIN_PROOF_BYTES];
    struct der request;
    uint32_t info_bytes;
    uint8_t info[JOIN_INFO_MAX];
};

struct join_answer {
    uint32_t node;
    struct der ca, certificate, ca_key; /* ca_key: may have no bytes */
    struct pool_key pool_key;
};

uint32_t join_request_encode(const struct join_request *join, uint8_t ret_at[LINK_CONTROL_MAX]);
enum err join_request_decode(const void *at, size_t size, struct join_request *ret_join);
uint32_t join_answer_encode(const struct join_answer *answer, uint8_t ret_at[LINK_CONTROL_MAX]);
enum err join_answer_decode(const void *at, size_t size, struct join_answer *ret_answer);

/* What two sides make of their HELLOs. Returns REFUSAL_NONE, or why not with a sentence in `why`. */
enum link_refusal hello_agree(const struct hello *ours, const struct hello *theirs, char why[LINK_REASON_MAX + 1],
                              uint16_t *ret_version, uint64_t *ret_features);

/* What a body costs of a window, beside LINK_COST_MIN for the head: the memory that it lies in. */
uint32_t link_body_cost(uint32_t body_bytes);

#endif
