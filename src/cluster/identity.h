/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who a node is: the cluster's own certificate authority (CA), the node's key, and the certificate that joins the two.
 *
 *     CA           ECDSA P-256, made by `cluster create`, signs nothing but certificates of nodes, lives for 30 years
 *     certificate  names cluster and node in one URI ("urn:izar:CLUSTER:NODE"), lives for a year, is valid from a day before it
 *                  was signed (so clocks that are off by hours do no harm), and is renewed when a third of the year is left
 *
 * The CA's key lies on every node that holds data, and on no witness. Otherwise the death of one node of two would be the end
 * of joining and renewing; and who has broken into a node with data has the data already. A node that lacks the key asks
 * over a link for a signature, with a request that proves that it owns the new key; the name in the answer comes from the
 * certificate of the link, never from the request.
 *
 * Nodes with data also have the secret of fingerprints that all pools of the cluster share, so that what one stored can be
 * compared with what another did. It is that of the first node's pool, and comes with the CA's key.
 *
 * Nothing here does I/O or looks at a clock: time is an argument. Random numbers for keys and serials are GnuTLS's own, which
 * is the one place where chance does not come through the seam (so the simulator does not run this file).
 * Functions here allocate inside GnuTLS; they belong to start, joining and renewal.
 */
#ifndef IZAR_CLUSTER_IDENTITY_H
#define IZAR_CLUSTER_IDENTITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "cluster/ids.h"

enum { DER_MAX = 1536, FINGERPRINT_CA_BYTES = 32, IDENTITY_WHY_MAX = 200 };
enum { NODE_NUMBER_MAX = 65535 }; /* nodes are numbered from 1; 0 is none (records of the log have 16 bits for it) */

#define CERTIFICATE_LIFE_S (365ull * 86400)
#define CERTIFICATE_BEFORE_S 86400ull
#define CA_LIFE_S (30ull * 365 * 86400)

struct cluster_id {
    uint8_t b[CLUSTER_ID_BYTES];
};

/* A certificate, key or request, as X.509 and its relatives write them; `bytes` 0: there is none. */
struct der {
    uint32_t bytes;
    uint8_t at[DER_MAX];
};

enum { POOL_KEY_BYTES = 64 };
struct pool_key {
    bool known;
    uint8_t at[POOL_KEY_BYTES];
};

/* All that a node keeps of itself (identity_file.h). Plain memory, copied as it is; holds secrets. */
struct identity {
    struct cluster_id cluster;
    uint32_t node;
    uint32_t boot;         /* starts of the node: it outlives the acceptor, so that no ballot is used twice (register.h) */
    struct der ca, ca_key; /* ca_key: on nodes that may sign */
    struct der key, certificate;
    struct pool_key pool_key; /* on nodes with data */
};

/* What a certificate says. */
struct certificate {
    struct cluster_id cluster;
    uint32_t node;
    uint64_t from_s, until_s; /* seconds since 1970 */
};

/* A new cluster with its first node: all four parts. ERR_NO_MEMORY (or GnuTLS refuses its algorithms). */
enum err identity_create(const struct cluster_id *cluster, uint32_t node, uint64_t now_s, struct identity *ret_identity);
/* A key for a node, and a request that proves its ownership (PKCS #10). */
enum err identity_new_key(struct der *ret_key);
enum err identity_request(const struct der *key, struct der *ret_request);
/* Signs a request for `node`; `holder` has the CA's key. ERR_DENIED: the request is not signed by the key in it, or that key is
 * not of our kind; ERR_DECODE: it is no request. */
enum err identity_sign(const struct identity *holder, const struct der *request, uint32_t node, uint64_t now_s,
                       struct der *ret_certificate);
/* Takes `key` and `certificate` for ours when they belong together and to this cluster and node. ERR_DENIED, ERR_DECODE. */
enum err identity_adopt(struct identity *identity, const struct der *key, const struct der *certificate, uint64_t now_s);
/* True when the key is the one that the CA's certificate is about. */
bool identity_is_holder(const struct identity *identity);
/* True when it is time to renew; `life` of the certificate in seconds left (0: run out) is returned too. */
bool identity_is_due(const struct identity *identity, uint64_t now_s, uint64_t *ret_left_s);

/* SHA-256 of the CA's certificate: what a join token carries. */
void identity_fingerprint(const struct der *ca, uint8_t ret_fingerprint[FINGERPRINT_CA_BYTES]);
/* Reads a certificate without believing it. ERR_DECODE: it is none, or not of our kind. */
enum err certificate_read(const void *at, size_t size, struct certificate *ret_certificate);
/* Reads it and checks that this CA signed it and that it is valid now. ERR_DECODE, ERR_DENIED; then `why` is a sentence. */
enum err certificate_check(const struct der *ca, const void *at, size_t size, uint64_t now_s, char why[IDENTITY_WHY_MAX],
                           struct certificate *ret_certificate);

#endif
