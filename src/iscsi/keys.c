/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys and their negotiation: one row a key, one function a kind of result.
 */
#include "iscsi/keys.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "iscsi/pdu.h"

/* ---- text ---- */

void keys_out_init(struct keys_out *out, char *at, size_t size)
{
    *out = (struct keys_out){.at = at, .size = size};
}

void keys_add(struct keys_out *out, const char *key, const char *format, ...)
{
    va_list args;
    size_t room = out->size - out->used;
    int n = snprintf(out->at + out->used, room, "%s=", key);
    if (n < 0 || (size_t)n >= room) {
        out->full = true;
        return;
    }
    va_start(args, format);
    int m = vsnprintf(out->at + out->used + n, room - (size_t)n, format, args);
    va_end(args);
    if (m < 0 || (size_t)m >= room - (size_t)n) {
        out->full = true;
        return;
    }
    out->used += (size_t)n + (size_t)m + 1;
}

enum err keys_next(char **at, size_t *left, char **ret_key, char **ret_value)
{
    while (*left > 0 && **at == '\0') { /* padding */
        (*at)++;
        (*left)--;
    }
    if (*left == 0) return ERR_NO_KEY;
    char *end = memchr(*at, '\0', *left);
    if (end == NULL) return ERR_DECODE;
    char *equals = memchr(*at, '=', (size_t)(end - *at));
    if (equals == NULL || equals == *at || equals - *at > 63) return ERR_DECODE;
    *equals = '\0';
    *ret_key = *at;
    *ret_value = equals + 1;
    *left -= (size_t)(end + 1 - *at);
    *at = end + 1;
    return OK;
}

/* Where it stands in the list; NULL: it does not. */
static const char *list_find(const char *list, const char *wanted)
{
    size_t length = strlen(wanted);
    for (const char *at = list; at != NULL; at = strchr(at, ',')) {
        if (*at == ',') at++;
        if (strncmp(at, wanted, length) == 0 && (at[length] == ',' || at[length] == '\0')) return at;
    }
    return NULL;
}

bool keys_list_has(const char *list, const char *wanted)
{
    return list_find(list, wanted) != NULL;
}

bool keys_number(const char *text, uint32_t max, uint32_t *ret_number)
{
    bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
    uint64_t n = 0;
    const char *at = hex ? text + 2 : text;
    if (*at == '\0') return false;
    for (; *at != '\0'; at++) {
        uint32_t digit;
        if (*at >= '0' && *at <= '9')
            digit = (uint32_t)(*at - '0');
        else if (hex && *at >= 'a' && *at <= 'f')
            digit = (uint32_t)(*at - 'a' + 10);
        else if (hex && *at >= 'A' && *at <= 'F')
            digit = (uint32_t)(*at - 'A' + 10);
        else
            return false;
        n = n * (hex ? 16 : 10) + digit;
        if (n > max) return false;
    }
    *ret_number = (uint32_t)n;
    return true;
}

/* ---- negotiation ---- */

enum kind {
    DIGEST,       /* list: None or CRC32C, whichever comes first */
    AND,          /* Yes when both say so */
    OR,           /* Yes when one says so */
    LESSER,       /* number: the smaller of both */
    GREATER,      /* number: the larger of both */
    FIXED_NUMBER, /* number: the smaller of both, and nothing else depends on it */
    DECLARATION,  /* number: theirs is for us to keep to */
    NOTE,         /* list: RFC3720, the one way of reporting that there is here */
    REFUSED,      /* obsolete markers */
};

enum { MIN_SEGMENT = 512 };

struct key {
    const char *name;
    enum kind kind;
    size_t at; /* in struct iscsi_limits; FIXED_NUMBER: ours */
    uint32_t low, high;
    bool normal_only; /* irrelevant in discovery sessions */
};

#define IN(field) offsetof(struct iscsi_limits, field)

static const struct key keys[] = {
    {"HeaderDigest", DIGEST, IN(header_digest), 0, 0, false},
    {"DataDigest", DIGEST, IN(data_digest), 0, 0, false},
    {"InitialR2T", OR, IN(initial_r2t), 0, 0, true},
    {"ImmediateData", AND, IN(immediate_data), 0, 0, true},
    {"MaxRecvDataSegmentLength", DECLARATION, IN(max_transmit), MIN_SEGMENT, 0xffffff, false},
    {"MaxBurstLength", LESSER, IN(max_burst), MIN_SEGMENT, 0xffffff, true},
    {"FirstBurstLength", LESSER, IN(first_burst), MIN_SEGMENT, 0xffffff, true},
    {"MaxOutstandingR2T", LESSER, IN(max_r2t), 1, 65535, true},
    {"DefaultTime2Wait", GREATER, IN(time2wait), 0, 3600, false},
    {"DefaultTime2Retain", LESSER, IN(time2retain), 0, 3600, false},
    {"MaxConnections", FIXED_NUMBER, 1, 1, 65535, true},
    {"ErrorRecoveryLevel", FIXED_NUMBER, 0, 0, 2, false},
    {"DataPDUInOrder", OR, SIZE_MAX, 0, 0, true},
    {"DataSequenceInOrder", OR, SIZE_MAX, 0, 0, true},
    {"TaskReporting", NOTE, 0, 0, 0, true},
    {"iSCSIProtocolLevel", FIXED_NUMBER, 1, 0, 31, true},
    {"IFMarker", REFUSED, 0, 0, 0, true},
    {"OFMarker", REFUSED, 0, 0, 0, true},
    {"IFMarkInt", REFUSED, 0, 0, 0, true},
    {"OFMarkInt", REFUSED, 0, 0, 0, true},
};
enum { KEYS = sizeof keys / sizeof keys[0] };

void negotiation_init(struct negotiation *n, uint32_t max_receive, uint32_t max_burst, uint32_t first_burst)
{
    *n = (struct negotiation){.offered_burst = max_burst, .offered_first = min32(first_burst, max_burst)};
    n->limits = (struct iscsi_limits){/* what holds when nobody says anything (RFC 7143 13), bounded by what we can */
                                      .initial_r2t = true,
                                      .immediate_data = true,
                                      .max_receive = max_receive,
                                      .max_transmit = 8192,
                                      .max_burst = min32(262144, max_burst),
                                      .first_burst = min32(65536, min32(first_burst, max_burst)),
                                      .max_r2t = 1,
                                      .time2wait = 2,
                                      .time2retain = 0};
}

/* What we offer for a number. */
static uint32_t ours(const struct negotiation *n, const struct key *k)
{
    switch (k->at) {
    case IN(max_burst): return n->offered_burst;
    case IN(first_burst): return n->offered_first;
    case IN(max_r2t): return 16;
    case IN(time2wait): return 2;
    default: return 0;
    }
}

static enum err take_digest(struct negotiation *n, const struct key *k, const char *value, struct keys_out *out)
{
    bool *to = (bool *)(void *)((char *)&n->limits + k->at);
    const char *crc = list_find(value, "CRC32C"), *none = list_find(value, "None");
    if (crc == NULL && none == NULL) {
        keys_add(out, k->name, "Reject");
        return OK;
    }
    *to = crc != NULL && (none == NULL || crc < none);
    keys_add(out, k->name, "%s", *to ? "CRC32C" : "None");
    return OK;
}

static enum err take_bool(struct negotiation *n, const struct key *k, const char *value, struct keys_out *out)
{
    bool yes = strcmp(value, "Yes") == 0;
    if (!yes && strcmp(value, "No") != 0) return ERR_DECODE;
    bool result = k->kind == OR && k->at == SIZE_MAX ? true : yes; /* in order, always */
    if (k->at != SIZE_MAX) *(bool *)(void *)((char *)&n->limits + k->at) = result;
    keys_add(out, k->name, "%s", result ? "Yes" : "No");
    return OK;
}

static enum err take_number(struct negotiation *n, const struct key *k, const char *value, struct keys_out *out)
{
    uint32_t theirs;
    if (!keys_number(value, k->high, &theirs) || theirs < k->low) return ERR_DECODE;
    if (k->kind == FIXED_NUMBER) {
        keys_add(out, k->name, "%u", (unsigned)min32(theirs, (uint32_t)k->at));
        return OK;
    }
    uint32_t *to = (uint32_t *)(void *)((char *)&n->limits + k->at);
    if (k->kind == DECLARATION) {
        *to = theirs;
        return OK;
    }
    *to = k->kind == LESSER ? min32(theirs, ours(n, k)) : theirs > ours(n, k) ? theirs : ours(n, k);
    keys_add(out, k->name, "%u", *to);
    return OK;
}

enum err negotiation_take(struct negotiation *n, const char *key, const char *value, struct keys_out *out)
{
    size_t i = 0;
    while (i < KEYS && strcmp(keys[i].name, key) != 0) i++;
    if (i == KEYS) return ERR_UNSUPPORTED;
    if (n->seen & (uint64_t)1 << i) return ERR_DECODE;
    n->seen |= (uint64_t)1 << i;
    if (n->discovery && keys[i].normal_only) {
        keys_add(out, key, "Irrelevant");
        return OK;
    }
    switch (keys[i].kind) {
    case DIGEST: return take_digest(n, &keys[i], value, out);
    case AND:
    case OR: return take_bool(n, &keys[i], value, out);
    case LESSER:
    case GREATER:
    case FIXED_NUMBER:
    case DECLARATION: return take_number(n, &keys[i], value, out);
    case NOTE: keys_add(out, key, "%s", keys_list_has(value, "RFC3720") ? "RFC3720" : "Reject"); return OK;
    case REFUSED: keys_add(out, key, "%s", strstr(key, "Int") != NULL ? "Reject" : "No"); return OK;
    }
    return ERR_UNSUPPORTED;
}

/* Keys that are no operational ones; of a login, or said by targets only. */
static const char *const other_keys[] = {
    "AuthMethod", "CHAP_A",      "CHAP_I",        "CHAP_C",      "CHAP_N",        "CHAP_R",
    "TargetName", "TargetAlias", "TargetAddress", "SessionType", "InitiatorName", "TargetPortalGroupTag",
};

static bool is_key(const char *name)
{
    for (size_t i = 0; i < KEYS; i++)
        if (strcmp(keys[i].name, name) == 0) return true;
    for (size_t i = 0; i < sizeof other_keys / sizeof other_keys[0]; i++)
        if (strcmp(other_keys[i], name) == 0) return true;
    return false;
}

void keys_take_late(struct iscsi_limits *limits, const char *key, const char *value, struct keys_out *out)
{
    uint32_t bytes;
    bool segment = strcmp(key, "MaxRecvDataSegmentLength") == 0; /* a declaration: it takes effect, unanswered */
    if (segment && keys_number(value, PDU_DATA_MAX, &bytes) && bytes >= MIN_SEGMENT)
        limits->max_transmit = bytes;
    else
        keys_add(out, key, "%s", is_key(key) ? "Reject" : "NotUnderstood");
}

void negotiation_declare(struct negotiation *n, struct keys_out *out)
{
    if (n->declared) return;
    n->declared = true;
    keys_add(out, "MaxRecvDataSegmentLength", "%u", n->limits.max_receive);
}
