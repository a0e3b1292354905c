/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Join tokens: one line of text that lets one node join one cluster, once, for a limited time.
 *
 *     IZJ1-AEBAGBAFAYDQQCIKBMGA2DQPCAIREEYUCULBOGAZDINRYHI6...
 *
 * "IZJ1" says that it is a token and which version. What follows is base32 (RFC 4648, no padding; capitals or not) of
 *
 *     cluster id 16, SHA-256 of the CA's certificate 32, secret 16, expiry 8 (seconds since 1970), node number 4,
 *     role 1, number of addresses 1, for each: length 1 and text, CRC-32C 4 over all before
 *
 * The fingerprint is why there is no "trust this host?" question: the joiner believes no other CA. The secret is why the
 * cluster lets the joiner in. The CRC is against lost characters when copying, nothing else.
 *
 * The secret is proven, never shown: the proof is HMAC-SHA256, keyed with the secret's SHA-256, over 32 bytes that only the two
 * ends of this TLS session have and that depend on the whole request (tls_binding). Any node of the cluster can pose as the one
 * that issued the token, also a witness, which may let nobody in; what it hears is of no use to it anywhere else.
 *
 * The side that issued it keeps a book: SHA-256 of the secret, expiry, for which node number. Redeeming is single use, but
 * bound to the request of who redeemed: when the answer was lost on its way, the same joiner may ask again with the same
 * request until the token expires, and nobody else may; and only as long as it is a member (`ret_again`), because a node that
 * was removed has all of it, too. The book must be durable before an answer goes out, and after the joiner is a member.
 */
#ifndef IZAR_CLUSTER_TOKEN_H
#define IZAR_CLUSTER_TOKEN_H

#include "cluster/identity.h"
#include "io/io.h"

enum {
    TOKEN_SECRET_BYTES = 16,
    TOKEN_PROOF_BYTES = 32,
    TOKEN_BINDING_BYTES = 32,
    TOKEN_ADDRESSES_MAX = 8,
    TOKEN_ADDRESS_MAX = 63, /* characters of "[IPv6]:port" or the like */
    TOKEN_TEXT_MAX = 1024,  /* characters of the line, with its terminator */
    TOKEN_BOOK_MAX = 16,    /* tokens that wait to be used */
};

enum token_role { TOKEN_NODE = 1, TOKEN_WITNESS = 2 };

struct token {
    struct cluster_id cluster;
    uint8_t fingerprint[FINGERPRINT_CA_BYTES];
    uint8_t secret[TOKEN_SECRET_BYTES];
    uint64_t expires_s;
    uint32_t node; /* the number that the joiner will have */
    enum token_role role;
    uint32_t address_count;
    char addresses[TOKEN_ADDRESSES_MAX][TOKEN_ADDRESS_MAX + 1]; /* of links, in the notation of io.h */
};

/* The line, terminated. ERR_ARGUMENT: no address, or no node number, or an address of a length that cannot be. */
enum err token_encode(const struct token *token, char ret_text[TOKEN_TEXT_MAX]);
/* Blanks around it are fine. ERR_NOT_OURS (no token), ERR_NEW_FORMAT (a later version's), ERR_CHECKSUM (mistyped or cut),
 * ERR_DECODE. */
enum err token_decode(const char *text, struct token *ret_token);

/* One line of the book. */
struct token_entry {
    uint8_t secret_digest[32];
    uint64_t expires_s; /* 0: the line is free */
    uint32_t node;
    uint8_t role, used;
    uint8_t request_digest[32]; /* whose it is, when used */
};

/* Plain memory, kept with the identity (identity_file.h). */
struct token_book {
    struct token_entry entries[TOKEN_BOOK_MAX];
};

/* Fills `token` (secret by chance from the seam, expiry) and writes it down; cluster, fingerprint and addresses are the
 * caller's. ERR_LIMIT: too many wait. */
enum err token_issue(struct token_book *book, struct io *io, enum token_role role, uint32_t node, uint64_t now_s,
                     uint64_t lifetime_s, struct token *token);
/* What shows that somebody has the secret, on the session that has this binding. */
void token_prove(const uint8_t secret[TOKEN_SECRET_BYTES], const uint8_t binding[TOKEN_BINDING_BYTES],
                 uint8_t ret_proof[TOKEN_PROOF_BYTES]);

struct token_claim {
    uint8_t binding[TOKEN_BINDING_BYTES], proof[TOKEN_PROOF_BYTES];
    const struct der *request;
};
/* Redeems the token whose secret was proven. `ret_again`: it was redeemed before, with the same request. ERR_DENIED (unknown,
 * expired, or used by another), with a sentence in `why`. */
enum err token_redeem(struct token_book *book, const struct token_claim *claim, uint64_t now_s, char why[IDENTITY_WHY_MAX],
                      struct token_entry *ret_entry, bool *ret_again);

#endif
