/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SHA-256 by GnuTLS, in the way that needs no memory from the system.
 *
 * Measured on one machine with SHA-NI, 4 KiB a call, in units of the first line:
 *
 *     gnutls_hash_fast over secret and block, joined on the stack      1.00   (this file)
 *     gnutls_hash_copy of a handle that has hashed the secret          0.99   allocates, hence can fail, 352 bytes a call
 *     copy of nettle's struct sha256_ctx that has hashed the secret    1.12   a second library
 *
 * Joining costs a copy of 4 KiB and one more round of 65, and buys a function that cannot fail in the middle of a write.
 */
#include "base/sha.h"

#include <assert.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

void fingerprinter_init(struct fingerprinter *f, const uint8_t secret[FINGERPRINT_SECRET])
{
    memcpy(f->secret, secret, sizeof f->secret);
}

void fingerprint_of(const struct fingerprinter *f, const void *block, size_t size, struct fingerprint *ret_fingerprint)
{
    assert(size <= FINGERPRINT_BLOCK_MAX);
    uint8_t joined[FINGERPRINT_SECRET + FINGERPRINT_BLOCK_MAX];
    memcpy(joined, f->secret, FINGERPRINT_SECRET);
    if (size > 0) memcpy(joined + FINGERPRINT_SECRET, block, size);

    uint8_t digest[32];
    int failed = gnutls_hash_fast(GNUTLS_DIG_SHA256, joined, FINGERPRINT_SECRET + size, digest);
    assert(failed == 0); /* fails only for an algorithm that GnuTLS does not have */
    (void)failed;
    memcpy(ret_fingerprint->b, digest, sizeof ret_fingerprint->b);
}

size_t digest_of(enum digest_kind kind, const void *at, size_t size, uint8_t ret_digest[DIGEST_BYTES_MAX])
{
    gnutls_digest_algorithm_t algorithm = kind == DIGEST_MD5 ? GNUTLS_DIG_MD5 : GNUTLS_DIG_SHA256;
    return gnutls_hash_fast(algorithm, at, size, ret_digest) == 0 ? gnutls_hash_get_len(algorithm) : 0;
}

bool secret_equal(const void *a, const void *b, size_t size)
{
    return gnutls_memcmp(a, b, size) == 0;
}
