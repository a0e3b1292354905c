/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Joining a cluster with a token: the joiner's side.
 *
 * It connects to the addresses of the token, one after the other, believes only the CA whose fingerprint the token has, proves
 * that it has the secret (token.h), shows what it says of itself and a request for a certificate, and gets back who it is: node
 * number, CA, certificate, and if it is to hold data the CA's key and the secret of the pools' fingerprints. The key that the
 * certificate is for was made here and never leaves.
 */
#ifndef IZAR_CLUSTER_LINK_ENTER_H
#define IZAR_CLUSTER_LINK_ENTER_H

#include "base/mem.h"
#include "cluster/token.h"

enum { ENTER_WHY_MAX = 400 };

/* What the joiner says of itself, for the layer above (roster.h). */
struct enter_info {
    const void *at;
    uint32_t bytes; /* at most JOIN_INFO_MAX */
};

/* [task] `limit_ms` is for each address. `mem` needs about 1 MiB for the time of the call. `ret_host`: the node that let us in.
 * ERR_DENIED (they said no, or are not who the token says), ERR_REFUSED, ERR_CLOSED (nobody there), ERR_DECODE; `why` is a
 * sentence then. */
enum err link_enter(struct io *io, struct mem *mem, const struct token *token, const struct enter_info *info, uint64_t now_s,
                    uint32_t limit_ms, char why[ENTER_WHY_MAX], struct identity *ret_identity, uint32_t *ret_host);

#endif
