/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fingerprints: what a block is known by.
 *
 * A fingerprint is SHA-256 of (64 secret bytes, block), cut to 160 bits. Nobody can make two blocks of one fingerprint, so
 * equal fingerprints need no comparison of the blocks; and without the secret, which is the cluster's, a client cannot
 * compute a fingerprint, so it cannot aim at one table entry or learn from a tag what others have stored.
 */
#ifndef IZAR_BASE_SHA_H
#define IZAR_BASE_SHA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define FINGERPRINT_SECRET 64u      /* bytes: exactly one block of SHA-256 */
#define FINGERPRINT_BLOCK_MAX 4096u /* the longest block that has a fingerprint */

struct fingerprint {
    uint8_t b[20];
};

/* The secret, ready for use. Embedded in its owner, nothing to give back; any thread may use it at any time. */
struct fingerprinter {
    uint8_t secret[FINGERPRINT_SECRET];
};

void fingerprinter_init(struct fingerprinter *f, const uint8_t secret[FINGERPRINT_SECRET]);

/* The fingerprint of a block of at most FINGERPRINT_BLOCK_MAX bytes. Never fails, never allocates, any thread. */
void fingerprint_of(const struct fingerprinter *f, const void *block, size_t size, struct fingerprint *ret_fingerprint);

/* Plain digests, for protocols that ask for them. */
enum digest_kind { DIGEST_MD5, DIGEST_SHA256 };
enum { DIGEST_BYTES_MAX = 32 };
/* Returns the digest's length; 0: the system does not allow this digest (MD5 in FIPS mode). */
size_t digest_of(enum digest_kind kind, const void *at, size_t size, uint8_t ret_digest[DIGEST_BYTES_MAX]);
/* Compares secrets in a time that does not depend on where they differ. */
bool secret_equal(const void *a, const void *b, size_t size);

static inline bool fingerprint_equal(const struct fingerprint *a, const struct fingerprint *b)
{
    return memcmp(a->b, b->b, sizeof a->b) == 0;
}

#endif
