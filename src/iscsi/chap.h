/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CHAP as iSCSI uses it (RFC 7143 12.1.3, RFC 1994): we challenge the initiator, and answer its challenge when it has one. The
 * response is the digest of identifier, secret and challenge, MD5 or, where both can, SHA-256.
 */
#ifndef IZAR_ISCSI_CHAP_H
#define IZAR_ISCSI_CHAP_H

#include "base/sha.h"
#include "iscsi/keys.h"

struct iscsi_chap;

enum chap_step { CHAP_ALGORITHM, CHAP_RESPONSE, CHAP_DONE };
enum { CHAP_CHALLENGE = 32, CHAP_CHALLENGE_MAX = 1024 };

struct chap {
    enum chap_step step;
    enum digest_kind kind;
    uint8_t id;
    uint8_t challenge[CHAP_CHALLENGE];
    /* what the initiator sent, valid within one request */
    const char *algorithms, *name, *response, *their_id, *their_challenge;
    bool mutual;
};

/* Takes one key; false: it is none of CHAP's. The values must live until chap_answer. */
bool chap_take(struct chap *chap, const char *key, const char *value);
/* The initiator's keys of this request are all taken: checks and answers them. `random` is fresh. ERR_DENIED: it is not who it
 * says, or asks for what was not agreed. */
enum err chap_answer(struct chap *chap, const struct iscsi_chap *initiator, const struct iscsi_chap *target,
                     const uint8_t random[CHAP_CHALLENGE + 1], struct keys_out *out);

#endif
