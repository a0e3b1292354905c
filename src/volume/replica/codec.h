/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the bytes of wire.h to the messages of message.h and back.
 *
 * Decoding is the edge: what it lets through the core need not doubt any more. Numbers keep to their limits, and what one part
 * says agrees with the others; whether it is true, and meant for this node, is for the core to judge. All that a kind of
 * message does not have is 0 in what comes out. The output is untouched on failure, and nothing beyond `size` is read.
 *
 * Errors of decoders: ERR_TRUNCATED (too short), ERR_DECODE (impossible content), ERR_NEW_FORMAT (a newer version). Encoders
 * take what decoders let through, and nothing else: after a message that was odd but not impossible a core may say something
 * that nobody would take. Whoever sends drops that and counts it; the peer is at fault, and this node serves its other volumes.
 *
 * `body` of changes and steps does not travel: who sends a message sends the content that it names along, and who receives it
 * gives the content a name of its own.
 */
#ifndef IZAR_VOLUME_REPLICA_CODEC_H
#define IZAR_VOLUME_REPLICA_CODEC_H

#include "base/err.h"
#include "cluster/link_format.h"
#include "volume/replica/message.h"
#include "volume/replica/wire.h"

/* Returns bytes; 0: no decoder would let the message through, it is not to be sent. */
uint32_t replica_encode(uint32_t volume, const struct replica_message *message, uint8_t ret_head[LINK_HEAD_MAX]);
enum err replica_decode(const void *head, size_t size, uint32_t *ret_volume, struct replica_message *ret_message);

/* Is it a value that the register could hold? With another one a replica could not speak of it. */
bool replica_config_is_possible(const struct replica_config *config);

/* Heartbeats and their acks go before all else, and several in one head. */
bool replica_is_urgent(const struct replica_message *message);
/* Whether content travels with it: of a write or free that it records or forwards, or of a stretch. */
bool replica_has_content(const struct replica_message *message);

/* ---- heartbeats and their acks of many volumes in one head ---- */

struct replica_heartbeats {
    uint8_t *head; /* to be sent when count > 0 */
    uint32_t bytes, count;
    uint32_t dropped; /* since the beginning: those that no decoder would let through */
};

/* `head` has LINK_HEAD_MAX bytes. */
void replica_heartbeats_begin(struct replica_heartbeats *heartbeats, uint8_t *head);
/* False: no room for it is left. Send the head and begin another: in an empty one there is room for anything. True, too, when
 * it was dropped. */
bool replica_heartbeats_add(struct replica_heartbeats *heartbeats, uint32_t volume, const struct replica_message *message);

/* All of the head is judged before the first message is taken from `ret_heartbeats`, which points into it. */
enum err replica_heartbeats_decode(const void *head, size_t size, struct cursor *ret_heartbeats);
/* False: that was all. */
bool replica_heartbeats_take(struct cursor *heartbeats, uint32_t *ret_volume, struct replica_message *ret_message);

#endif
