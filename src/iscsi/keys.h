/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text of login and text requests: key=value pairs ended by NUL (RFC 7143 6.1), and the negotiation of the operational ones
 * (RFC 7143 13).
 */
#ifndef IZAR_ISCSI_KEYS_H
#define IZAR_ISCSI_KEYS_H

#include "base/err.h"
#include "base/text.h"

/* Answers as they grow; `full` says that something did not fit. Pairs are ended by NUL, which is counted in `used`. */
struct keys_out {
    char *at;
    size_t size, used;
    bool full;
};

void keys_out_init(struct keys_out *out, char *at, size_t size);
void keys_add(struct keys_out *out, const char *key, const char *format, ...) TEXT_FORMAT(3, 4);

/* Takes the next pair out of `*at`, `*left` bytes, which are changed. Key and value are terminated where they stand.
 * ERR_NO_KEY: there are no more. ERR_DECODE: no '=', an empty key, one of over 63 characters, or no end. */
enum err keys_next(char **at, size_t *left, char **ret_key, char **ret_value);

struct iscsi_limits {
    bool header_digest, data_digest;
    bool initial_r2t, immediate_data;
    uint32_t max_receive;  /* what we take in one data segment */
    uint32_t max_transmit; /* what the initiator takes */
    uint32_t max_burst, first_burst;
    uint32_t max_r2t;
    uint32_t time2wait, time2retain;
};

struct negotiation {
    struct iscsi_limits limits;            /* what holds, so far */
    uint32_t offered_burst, offered_first; /* the most that we offer */
    bool declared;                         /* our MaxRecvDataSegmentLength was sent */
    bool discovery;
    uint64_t seen; /* a bit a key: none may come twice */
};

void negotiation_init(struct negotiation *n, uint32_t max_receive, uint32_t max_burst, uint32_t first_burst);
/* One operational key of the initiator: answers it. ERR_UNSUPPORTED: not an operational key. ERR_DECODE: a value that no
 * initiator may send, or a key that came before. */
enum err negotiation_take(struct negotiation *n, const char *key, const char *value, struct keys_out *out);
/* One key of the initiator in full feature phase, where little can be changed any more (RFC 7143 13, what each key says of its
 * use): takes MaxRecvDataSegmentLength, answers all other keys that there are with Reject, unknown ones with NotUnderstood. */
void keys_take_late(struct iscsi_limits *limits, const char *key, const char *value, struct keys_out *out);
/* What we declare by ourselves, once. */
void negotiation_declare(struct negotiation *n, struct keys_out *out);
/* Decimal or 0x hexadecimal (RFC 7143 6.1), up to `max`; no sign, no blanks. */
bool keys_number(const char *text, uint32_t max, uint32_t *ret_number);
/* True when `wanted` is one of the comma separated values. */
bool keys_list_has(const char *list, const char *wanted);

#endif
