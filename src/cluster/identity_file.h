/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The identity on disk: two files in the state folder, `identity.0` and `identity.1`, for their owner only (0600), each whole
 * by itself. They hold who the node is (identity.h) and the book of tokens that it issued (token.h).
 *
 * A change writes one file, then the other, each durable before the next step; a crash leaves one that is whole. On opening the
 * newest whole one counts, and the other is written again. Whoever copies these files copies the node: links refuse the copy as
 * long as the first is there (link.h).
 *
 *     header 56: magic 8, version 4, bytes of the whole 4, generation 8, CRC-32C 4, node 4, cluster 16, entries of the book 4,
 *                starts of the node 4. The CRC is over the whole with zero in its place
 *     CA, CA's key, key, certificate: length 4 and DER, each
 *     entries of the book, 80 bytes each: digest of the secret 32, expiry 8, node 4, role 1, used 1, zero 2, digest of the
 *                request 32
 *     from version 2 on, on nodes with data: secret of the pools' fingerprints 64
 *
 * Node 0 is nobody: who was removed from a cluster and is about to become a member of one is forgotten first, in the same way
 * as anything is written. Of such a file only the cluster and the secret of fingerprints mean something.
 */
#ifndef IZAR_CLUSTER_IDENTITY_FILE_H
#define IZAR_CLUSTER_IDENTITY_FILE_H

#include "base/mem.h"
#include "cluster/token.h"

struct identity_file;

enum { IDENTITY_FILE_MAX = 16 << 10 };

/* [task] Opens or makes the files in `folder`, and locks them. ERR_CHECKSUM: neither is whole; ERR_NEW_FORMAT; ERR_LOCKED;
 * ERR_NO_MEMORY; what the seam says. */
enum err identity_file_open(struct io *io, struct mem *mem, const char *folder, struct identity_file **ret_file);
/* Nothing is under way. NULL is fine. */
void identity_file_close(struct identity_file *file);
/* Who this node is; NULL: it belongs to no cluster yet. */
const struct identity *identity_file_now(const struct identity_file *file);
/* Likewise; or, of a node that was forgotten, the cluster that it was in, and the key of its pools. NULL: there was none. */
const struct identity *identity_file_last(const struct identity_file *file);
const struct token_book *identity_file_book(const struct identity_file *file);
/* [task] Makes both durable, then they hold. On an error the old ones hold here, and after a restart it may be either. */
enum err identity_file_save(struct identity_file *file, const struct identity *identity, const struct token_book *book);

/* [task] This node is nobody any more, durable. On an error it may or may not be after a restart. */
enum err identity_file_forget(struct identity_file *file);

/* The bytes of one file. Returns their number, at most IDENTITY_FILE_MAX. */
uint32_t identity_encode(const struct identity *identity, const struct token_book *book, uint64_t generation,
                         uint8_t ret_at[IDENTITY_FILE_MAX]);
/* ERR_TRUNCATED, ERR_NOT_OURS, ERR_NEW_FORMAT, ERR_CHECKSUM, ERR_DECODE. */
enum err identity_decode(const void *at, size_t size, struct identity *ret_identity, struct token_book *ret_book,
                         uint64_t *ret_generation);

#endif
