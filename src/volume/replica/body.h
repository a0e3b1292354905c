/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Content of a RECORD, a FORWARD or a LENT as the body of a message of the links; that of a STEP is a stretch (stretch.h). Its
 * version is that of the message that it comes with (wire.h).
 *
 *     body     = struct wire_replica_content, then, when it is data, a struct wire_stretch_block for each of the `count`
 *                blocks, then their stored bytes, one after the other
 *
 * What arrives is judged here, once: lengths, codecs, checksums. That a fingerprint is that of the bytes is not looked at: it
 * costs what was saved, and whoever can send is one of us.
 */
#ifndef IZAR_VOLUME_REPLICA_BODY_H
#define IZAR_VOLUME_REPLICA_BODY_H

#include "cluster/link.h"
#include "volume/replica/codec.h"
#include "volume/replica/content.h"
#include "volume/replica/stretch.h"

enum wire_replica_what { WIRE_DATA = 1, WIRE_ZEROS = 2, WIRE_HOLES = 3 };

struct wire_replica_content {
    uint8_t what; /* enum wire_replica_what */
    uint8_t reserved[3];
    le32 count; /* blocks */
};
SIZE(wire_replica_content, 8);

enum { BODY_TABLE_MAX = sizeof(struct wire_replica_content) + RECORD_BLOCKS_MAX * sizeof(struct wire_stretch_block) };

/* What comes before the stored bytes of a content, which lie in `content->bytes`. Returns bytes. */
uint32_t body_encode(const struct replica_content *content, uint8_t ret_table[BODY_TABLE_MAX]);

/* A body, or any bytes in pieces, read forward. */
struct body_reader {
    uint8_t *const *pieces; /* LINK_PIECE bytes each but the last */
    uint32_t bytes, at;
};

/* Copies the next bytes. False: there are not as many, and nothing was read. */
bool body_take(struct body_reader *reader, void *ret_at, uint32_t bytes);

/* The next content begins with this. ERR_TRUNCATED, ERR_DECODE. */
struct body_head {
    enum entry_kind what;
    uint32_t count;
};
enum err body_head_decode(struct body_reader *reader, struct body_head *ret_head);
/* The rest of it, into a content that was taken for `what` and `count` of the head. ERR_TRUNCATED, ERR_DECODE, ERR_CHECKSUM;
 * then the content holds nothing of use. */
enum err body_decode(struct body_reader *reader, struct replica_content *content);

enum body_taken {
    BODY_TAKEN,
    BODY_NO_ROOM, /* there will be: ask again */
    BODY_DROPPED, /* there is no room, and whoever sent it sends it again: to wait would be to wait for what stands behind it */
    BODY_BAD,     /* no decoder lets it through, or it does not belong to such a message */
};
/* What came with a message, for a volume of this node (its id): NULL when it comes with none. A stretch is only bytes here; the
 * host judges it together with its step. */
enum body_taken body_receive(struct replica_contents *contents, uint32_t volume, const struct replica_message *message,
                             struct body_reader *reader, struct replica_content **ret_content);

#endif
