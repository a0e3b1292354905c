/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the bytes of format.h to host structs and back. Decoding checks every number, so that those behind it need not; it
 * leaves its output untouched on failure and never reads beyond `size`. States point into the bytes that they were decoded
 * from.
 *
 * Errors of decoders: ERR_TRUNCATED (too short), ERR_DECODE (impossible content), ERR_NEW_FORMAT (a newer version); of files
 * also ERR_NOT_OURS (no magic), ERR_CHECKSUM. Encoders take what is valid only; ERR_LIMIT: it does not fit into `room`.
 */
#ifndef IZAR_CLUSTER_CODEC_H
#define IZAR_CLUSTER_CODEC_H

#include "cluster/format.h"
#include "cluster/register.h"

enum {
    STATE_BYTES_AT_MOST = (int)sizeof(struct disk_register) + REGISTER_BYTES_MAX,
    REGISTER_MESSAGE_MAX = (int)sizeof(struct wire_answer) + STATE_BYTES_AT_MOST,
    ACCEPTOR_IMAGE_MAX = (int)sizeof(struct disk_acceptor) + STATE_BYTES_AT_MOST,
};

enum err register_request_encode(const struct register_request *request, void *at, size_t room, size_t *ret_size);
enum err register_request_decode(const void *at, size_t size, struct register_request *ret_request);
enum err register_answer_encode(const struct register_answer *answer, void *at, size_t room, size_t *ret_size);
enum err register_answer_decode(const void *at, size_t size, struct register_answer *ret_answer);

/* One file of an acceptor. `size`: what was read; bytes behind the image have no meaning. */
enum err acceptor_image_encode(const struct acceptor *acceptor, uint64_t generation, void *at, size_t room, size_t *ret_size);
enum err acceptor_image_decode(const void *at, size_t size, struct acceptor *ret_acceptor, uint64_t *ret_generation);

#endif
