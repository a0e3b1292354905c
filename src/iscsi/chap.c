/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CHAP: algorithm, challenge, response. Binary values come as 0x hexadecimal or 0b base64 (RFC 7143 6.1), ours go out as
 * hexadecimal.
 */
#include "iscsi/chap.h"

#include <string.h>

#include "iscsi/target.h"

bool chap_take(struct chap *chap, const char *key, const char *value)
{
    struct {
        const char *key;
        const char **to;
    } keys[] = {{"CHAP_A", &chap->algorithms},
                {"CHAP_N", &chap->name},
                {"CHAP_R", &chap->response},
                {"CHAP_I", &chap->their_id},
                {"CHAP_C", &chap->their_challenge}};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (strcmp(keys[i].key, key) != 0) continue;
        *keys[i].to = value;
        return true;
    }
    return false;
}

/* ---- binary values ---- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static bool hex_from(const char *text, uint8_t *ret, size_t room, size_t *ret_size)
{
    size_t digits = strlen(text), n = 0;
    if (digits == 0 || (digits + 1) / 2 > room) return false;
    for (size_t i = 0; i < digits; i++) {
        int d = hex_digit(text[i]);
        if (d < 0) return false;
        bool high = (digits - i) % 2 == 0;
        if (high || i == 0) ret[n] = 0;
        ret[n] = (uint8_t)(ret[n] << 4 | d);
        if (!high) n++;
    }
    *ret_size = n;
    return true;
}

static int base64_digit(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c != '\0' ? strchr(digits, c) : NULL;
    return at != NULL ? (int)(at - digits) : -1;
}

static bool base64_from(const char *text, uint8_t *ret, size_t room, size_t *ret_size)
{
    uint32_t bits = 0, have = 0;
    size_t n = 0, length = strlen(text);
    while (length > 0 && text[length - 1] == '=') length--;
    for (size_t i = 0; i < length; i++) {
        int d = base64_digit(text[i]);
        if (d < 0) return false;
        bits = bits << 6 | (uint32_t)d;
        have += 6;
        if (have < 8) continue;
        have -= 8;
        if (n == room) return false;
        ret[n++] = (uint8_t)(bits >> have);
    }
    *ret_size = n;
    return n > 0;
}

static bool binary_from(const char *text, uint8_t *ret, size_t room, size_t *ret_size)
{
    if (text[0] != '0') return false;
    if (text[1] == 'x' || text[1] == 'X') return hex_from(text + 2, ret, room, ret_size);
    if (text[1] == 'b' || text[1] == 'B') return base64_from(text + 2, ret, room, ret_size);
    return false;
}

static void add_binary(struct keys_out *out, const char *key, const uint8_t *at, size_t size)
{
    char hex[2 * CHAP_CHALLENGE_MAX + 1];
    struct text t;
    text_init(&t, hex, sizeof hex);
    text_add_hex(&t, at, size);
    keys_add(out, key, "0x%s", hex);
}

/* ---- steps ---- */

static size_t response_of(const struct chap *chap, uint8_t id, const char *secret, const uint8_t *challenge, size_t size,
                          uint8_t ret[DIGEST_BYTES_MAX])
{
    uint8_t all[1 + ISCSI_SECRET_MAX + CHAP_CHALLENGE_MAX];
    size_t length = strlen(secret);
    all[0] = id;
    memcpy(all + 1, secret, length);
    memcpy(all + 1 + length, challenge, size);
    size_t n = digest_of(chap->kind, all, 1 + length + size, ret);
    memset(all, 0, sizeof all);
    return n;
}

static enum err choose_algorithm(struct chap *chap, const uint8_t *random, struct keys_out *out)
{
    uint8_t probe[DIGEST_BYTES_MAX];
    if (chap->algorithms == NULL) return ERR_DENIED;
    if (keys_list_has(chap->algorithms, "7"))
        chap->kind = DIGEST_SHA256;
    else if (keys_list_has(chap->algorithms, "5") && digest_of(DIGEST_MD5, "", 0, probe) > 0)
        chap->kind = DIGEST_MD5;
    else
        return ERR_DENIED;
    chap->id = random[CHAP_CHALLENGE];
    memcpy(chap->challenge, random, CHAP_CHALLENGE);
    keys_add(out, "CHAP_A", chap->kind == DIGEST_MD5 ? "5" : "7");
    keys_add(out, "CHAP_I", "%u", chap->id);
    add_binary(out, "CHAP_C", chap->challenge, CHAP_CHALLENGE);
    chap->step = CHAP_RESPONSE;
    return OK;
}

static enum err check_initiator(const struct chap *chap, const struct iscsi_chap *initiator)
{
    uint8_t expected[DIGEST_BYTES_MAX], got[DIGEST_BYTES_MAX];
    size_t size;
    if (chap->name == NULL || chap->response == NULL) return ERR_DENIED;
    size_t n = response_of(chap, chap->id, initiator->secret, chap->challenge, CHAP_CHALLENGE, expected);
    bool right = n > 0 && binary_from(chap->response, got, sizeof got, &size) && size == n && secret_equal(got, expected, n);
    bool named = strcmp(chap->name, initiator->user) == 0;
    return right && named ? OK : ERR_DENIED;
}

/* Mutual: a challenge that is ours come back would have us answer for the initiator (RFC 7143 9.2.1). */
static enum err answer_initiator(struct chap *chap, const struct iscsi_chap *target, struct keys_out *out)
{
    uint8_t challenge[CHAP_CHALLENGE_MAX], response[DIGEST_BYTES_MAX];
    size_t size;
    uint32_t id;
    if (chap->their_id == NULL || chap->their_challenge == NULL || target->user[0] == '\0') return ERR_DENIED;
    if (!keys_number(chap->their_id, UINT8_MAX, &id)) return ERR_DENIED;
    if (!binary_from(chap->their_challenge, challenge, sizeof challenge, &size)) return ERR_DENIED;
    if (size == CHAP_CHALLENGE && memcmp(challenge, chap->challenge, size) == 0) return ERR_DENIED;
    size_t n = response_of(chap, (uint8_t)id, target->secret, challenge, size, response);
    if (n == 0) return ERR_DENIED;
    keys_add(out, "CHAP_N", "%s", target->user);
    add_binary(out, "CHAP_R", response, n);
    chap->mutual = true;
    return OK;
}

enum err chap_answer(struct chap *chap, const struct iscsi_chap *initiator, const struct iscsi_chap *target,
                     const uint8_t random[CHAP_CHALLENGE + 1], struct keys_out *out)
{
    enum err err = ERR_DENIED;
    switch (chap->step) {
    case CHAP_ALGORITHM: err = choose_algorithm(chap, random, out); break;
    case CHAP_RESPONSE:
        err = check_initiator(chap, initiator);
        if (err == OK && (chap->their_id != NULL || chap->their_challenge != NULL)) err = answer_initiator(chap, target, out);
        if (err == OK) chap->step = CHAP_DONE;
        break;
    case CHAP_DONE: err = OK; break;
    }
    chap->algorithms = chap->name = chap->response = chap->their_id = chap->their_challenge = NULL;
    return err;
}
