/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Joining a cluster with a token: the joiner's side.
 *
 * It connects to the addresses of the token, one after the other, believes only the CA whose fingerprint the token has, shows
 * the secret and a request for a certificate, and gets back who it is: node number, CA, certificate, and the CA's key if it
 * is to hold data. The key that the certificate is for was made here and never leaves.
 */
#ifndef IZAR_CLUSTER_LINK_ENTER_H
#define IZAR_CLUSTER_LINK_ENTER_H

#include "base/mem.h"
#include "cluster/token.h"

enum { ENTER_WHY_MAX = 400 };

/* [task] `limit_ms` is for each address. `mem` needs about 1 MiB for the time of the call. ERR_DENIED (they said no, or are
 * not who the token says), ERR_REFUSED, ERR_CLOSED (nobody there), ERR_DECODE; `why` is a sentence then. */
enum err link_enter(struct io *io, struct mem *mem, const struct token *token, uint64_t now_s, uint32_t limit_ms,
                    struct identity *ret_identity, char why[ENTER_WHY_MAX]);

#endif
