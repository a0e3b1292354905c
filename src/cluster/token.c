/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text of tokens and the book of those that were issued.
 *
 * The text is decoded strictly: encoding what was decoded gives the same characters again, in capitals.
 */
#include "cluster/token.h"

#include <assert.h>
#include <string.h>

#include "base/bytes.h"
#include "base/hash.h"
#include "base/sha.h"
#include "base/text.h"

static const char magic[] = "IZJ", alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
enum {
    MAGIC = 3,
    PREFIX = 5, /* magic, version, '-' */
    VERSION = '1',
    FIXED_BYTES = CLUSTER_ID_BYTES + FINGERPRINT_CA_BYTES + TOKEN_SECRET_BYTES + 8 + 4 + 1 + 1,
    CRC_BYTES = 4,
    BYTES_MAX = FIXED_BYTES + TOKEN_ADDRESSES_MAX * (1 + TOKEN_ADDRESS_MAX) + CRC_BYTES,
};

static_assert(PREFIX + (BYTES_MAX * 8 + 4) / 5 < TOKEN_TEXT_MAX, "the longest token fits");

/* ---- base32 (RFC 4648 6) ---- */

static void base32_encode(const uint8_t *at, size_t size, char *ret_text)
{
    uint32_t bits = 0, count = 0;
    for (size_t i = 0; i < size; i++) {
        bits = bits << 8 | at[i];
        for (count += 8; count >= 5; count -= 5) *ret_text++ = alphabet[bits >> (count - 5) & 31];
    }
    if (count > 0) *ret_text++ = alphabet[bits << (5 - count) & 31];
    *ret_text = '\0';
}

static int base32_value(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a';
    return c >= '2' && c <= '7' ? c - '2' + 26 : -1;
}

/* False: a character that is none, bits that are left over and not zero, or too long. */
static bool base32_decode(const char *text, size_t length, uint8_t ret_at[BYTES_MAX], size_t *ret_size)
{
    uint32_t bits = 0, count = 0;
    size_t size = 0;
    for (size_t i = 0; i < length; i++) {
        int value = base32_value(text[i]);
        if (value < 0) return false;
        bits = bits << 5 | (uint32_t)value;
        count += 5;
        if (count < 8) continue;
        count -= 8;
        if (size == BYTES_MAX) return false;
        ret_at[size++] = (uint8_t)(bits >> count);
    }
    *ret_size = size;
    return count < 5 && (bits & ((1u << count) - 1)) == 0;
}

/* ---- the text ---- */

/* Appends to what the caller knows to be large enough. */
static void add(uint8_t **at, const void *bytes, size_t size)
{
    memcpy(*at, bytes, size);
    *at += size;
}

static bool address_is_good(const char *address, size_t length)
{
    if (length == 0 || length > TOKEN_ADDRESS_MAX) return false;
    for (size_t i = 0; i < length; i++)
        if (address[i] <= ' ' || address[i] > '~') return false;
    return true;
}

static bool is_good(const struct token *token)
{
    if (token->node == 0 || token->node > NODE_NUMBER_MAX || token->address_count == 0) return false;
    return token->address_count <= TOKEN_ADDRESSES_MAX && (token->role == TOKEN_NODE || token->role == TOKEN_WITNESS);
}

enum err token_encode(const struct token *token, char ret_text[TOKEN_TEXT_MAX])
{
    uint8_t bytes[BYTES_MAX], *at = bytes, role = (uint8_t)token->role, count = (uint8_t)token->address_count;
    if (!is_good(token)) return ERR_ARGUMENT;
    add(&at, token->cluster.b, sizeof token->cluster.b);
    add(&at, token->fingerprint, sizeof token->fingerprint);
    add(&at, token->secret, sizeof token->secret);
    add(&at, put64(token->expires_s).b, 8);
    add(&at, put32(token->node).b, 4);
    add(&at, &role, 1);
    add(&at, &count, 1);
    for (uint32_t i = 0; i < token->address_count; i++) {
        size_t length = strlen(token->addresses[i]);
        uint8_t short_length = (uint8_t)length;
        if (!address_is_good(token->addresses[i], length)) return ERR_ARGUMENT;
        add(&at, &short_length, 1);
        add(&at, token->addresses[i], length);
    }
    add(&at, put32(crc32c(0, bytes, (size_t)(at - bytes))).b, CRC_BYTES);
    memcpy(ret_text, magic, MAGIC);
    ret_text[MAGIC] = VERSION;
    ret_text[MAGIC + 1] = '-';
    base32_encode(bytes, (size_t)(at - bytes), ret_text + PREFIX);
    return OK;
}

static void take(struct cursor *c, void *ret, size_t size)
{
    const void *at = cursor_take(c, size);
    if (at != NULL) memcpy(ret, at, size);
}

static bool addresses_decode(struct cursor *c, uint32_t count, struct token *token)
{
    if (count == 0 || count > TOKEN_ADDRESSES_MAX) return false;
    for (token->address_count = 0; token->address_count < count; token->address_count++) {
        const uint8_t *length = cursor_take(c, 1);
        const char *text = length != NULL ? cursor_take(c, *length) : NULL;
        if (text == NULL || !address_is_good(text, *length)) return false;
        memcpy(token->addresses[token->address_count], text, *length);
        token->addresses[token->address_count][*length] = '\0';
    }
    return true;
}

static enum err bytes_decode(const uint8_t *bytes, size_t size, struct token *ret_token)
{
    struct token token = {.node = 0};
    uint8_t role = 0, count = 0;
    le64 expires = {{0}};
    le32 node = {{0}}, crc;
    if (size < FIXED_BYTES + CRC_BYTES) return ERR_CHECKSUM; /* cut */
    memcpy(crc.b, bytes + size - CRC_BYTES, CRC_BYTES);
    if (get32(crc) != crc32c(0, bytes, size - CRC_BYTES)) return ERR_CHECKSUM;
    struct cursor c = cursor_of(bytes, size - CRC_BYTES);
    take(&c, token.cluster.b, sizeof token.cluster.b);
    take(&c, token.fingerprint, sizeof token.fingerprint);
    take(&c, token.secret, sizeof token.secret);
    take(&c, expires.b, sizeof expires.b);
    take(&c, node.b, sizeof node.b);
    take(&c, &role, 1);
    take(&c, &count, 1);
    token.expires_s = get64(expires);
    token.node = get32(node);
    token.role = role == TOKEN_WITNESS ? TOKEN_WITNESS : TOKEN_NODE;
    if (role != (uint8_t)token.role || !addresses_decode(&c, count, &token) || c.left != 0 || !is_good(&token))
        return ERR_DECODE;
    *ret_token = token;
    return OK;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

enum err token_decode(const char *text, struct token *ret_token)
{
    uint8_t bytes[BYTES_MAX];
    size_t size, length = strlen(text);
    while (length > 0 && is_blank(*text)) text++, length--;
    while (length > 0 && is_blank(text[length - 1])) length--;
    if (length < PREFIX || text[PREFIX - 1] != '-') return ERR_NOT_OURS;
    for (size_t i = 0; i < MAGIC; i++)
        if (text[i] != magic[i] && text[i] != magic[i] - 'A' + 'a') return ERR_NOT_OURS;
    if (text[MAGIC] > VERSION && text[MAGIC] <= '9') return ERR_NEW_FORMAT;
    if (text[MAGIC] != VERSION) return ERR_NOT_OURS;
    if (!base32_decode(text + PREFIX, length - PREFIX, bytes, &size)) return ERR_CHECKSUM;
    return bytes_decode(bytes, size, ret_token);
}

/* ---- the book ---- */

static bool is_free(const struct token_entry *e, uint64_t now_s)
{
    return e->expires_s <= now_s;
}

enum err token_issue(struct token_book *book, struct io *io, enum token_role role, uint32_t node, uint64_t now_s,
                     uint64_t lifetime_s, struct token *token)
{
    struct token_entry *e = NULL;
    for (uint32_t i = 0; i < TOKEN_BOOK_MAX && e == NULL; i++)
        if (is_free(&book->entries[i], now_s)) e = &book->entries[i];
    if (e == NULL || lifetime_s == 0) return ERR_LIMIT;
    io_random(io, token->secret, sizeof token->secret);
    token->expires_s = now_s + lifetime_s;
    token->node = node;
    token->role = role;
    *e = (struct token_entry){.expires_s = token->expires_s, .node = node, .role = (uint8_t)role};
    digest_of(DIGEST_SHA256, token->secret, sizeof token->secret, e->secret_digest);
    return OK;
}

static enum err deny(char why[IDENTITY_WHY_MAX], const char *reason)
{
    struct text t;
    text_init(&t, why, IDENTITY_WHY_MAX);
    text_add(&t, "%s", reason);
    return ERR_DENIED;
}

/* HMAC-SHA256 (RFC 2104) of 32 bytes with a key of 32. */
static void hmac(const uint8_t key[DIGEST_BYTES_MAX], const uint8_t at[TOKEN_BINDING_BYTES], uint8_t ret_mac[DIGEST_BYTES_MAX])
{
    enum { BLOCK = 64, INNER = 0x36, OUTER = 0x5c };
    static_assert((int)TOKEN_BINDING_BYTES == (int)DIGEST_BYTES_MAX, "both halves have the same form");
    uint8_t padded[BLOCK + DIGEST_BYTES_MAX];
    for (uint32_t i = 0; i < BLOCK; i++) padded[i] = (uint8_t)((i < DIGEST_BYTES_MAX ? key[i] : 0) ^ INNER);
    memcpy(padded + BLOCK, at, TOKEN_BINDING_BYTES);
    digest_of(DIGEST_SHA256, padded, sizeof padded, ret_mac);
    for (uint32_t i = 0; i < BLOCK; i++) padded[i] ^= INNER ^ OUTER;
    memcpy(padded + BLOCK, ret_mac, DIGEST_BYTES_MAX);
    digest_of(DIGEST_SHA256, padded, sizeof padded, ret_mac);
}

void token_prove(const uint8_t secret[TOKEN_SECRET_BYTES], const uint8_t binding[TOKEN_BINDING_BYTES],
                 uint8_t ret_proof[TOKEN_PROOF_BYTES])
{
    uint8_t key[DIGEST_BYTES_MAX];
    digest_of(DIGEST_SHA256, secret, TOKEN_SECRET_BYTES, key);
    hmac(key, binding, ret_proof);
}

/* All entries are compared, so the time taken tells nothing. */
static struct token_entry *entry_of(struct token_book *book, const struct token_claim *claim)
{
    struct token_entry *found = NULL;
    for (uint32_t i = 0; i < TOKEN_BOOK_MAX; i++) {
        struct token_entry *e = &book->entries[i];
        uint8_t proof[DIGEST_BYTES_MAX];
        hmac(e->secret_digest, claim->binding, proof);
        if (secret_equal(proof, claim->proof, sizeof proof) && e->expires_s > 0) found = e;
    }
    return found;
}

enum err token_redeem(struct token_book *book, const struct token_claim *claim, uint64_t now_s, char why[IDENTITY_WHY_MAX],
                      struct token_entry *ret_entry, bool *ret_again)
{
    uint8_t asked[DIGEST_BYTES_MAX];
    digest_of(DIGEST_SHA256, claim->request->at, claim->request->bytes, asked);
    struct token_entry *e = entry_of(book, claim);
    why[0] = '\0';
    if (e == NULL) return deny(why, "nobody issued this token here: ask for a new one");
    if (is_free(e, now_s)) return deny(why, "the token has expired: ask for a new one");
    if (e->used && memcmp(e->request_digest, asked, sizeof e->request_digest) != 0)
        return deny(why, "the token was used already, by another: ask for a new one");
    *ret_again = e->used;
    e->used = 1;
    memcpy(e->request_digest, asked, sizeof e->request_digest);
    *ret_entry = *e;
    return OK;
}
