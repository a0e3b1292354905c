/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contents as bytes and back.
 */
#include "volume/replica/body.h"

#include <string.h>

static const uint8_t whats[] = {[ENTRY_NEW] = WIRE_DATA, [ENTRY_ZERO] = WIRE_ZEROS, [ENTRY_UNMAP] = WIRE_HOLES};

uint32_t body_encode(const struct replica_content *content, uint8_t ret_table[BODY_TABLE_MAX])
{
    struct wire_replica_content head = {.what = whats[content->what], .count = put32(content->count)};
    uint32_t bytes = sizeof head;
    memcpy(ret_table, &head, sizeof head);
    for (uint32_t i = 0; content->what == ENTRY_NEW && i < content->count; i++, bytes += sizeof(struct wire_stretch_block)) {
        struct wire_stretch_block block;
        wire_block_encode(&content->digests[i], &block);
        memcpy(ret_table + bytes, &block, sizeof block);
    }
    return bytes;
}

bool body_take(struct body_reader *r, void *ret_at, uint32_t bytes)
{
    uint8_t *to = ret_at;
    if (bytes > r->bytes - r->at) return false;
    while (bytes > 0) {
        uint32_t within = r->at % LINK_PIECE, now = min32(bytes, LINK_PIECE - within);
        memcpy(to, r->pieces[r->at / LINK_PIECE] + within, now);
        to += now;
        r->at += now;
        bytes -= now;
    }
    return true;
}

enum err body_head_decode(struct body_reader *reader, struct body_head *ret_head)
{
    struct wire_replica_content head;
    if (!body_take(reader, &head, sizeof head)) return ERR_TRUNCATED;
    uint32_t count = get32(head.count);
    if (!bytes_are_zero(head.reserved, sizeof head.reserved) || count == 0) return ERR_DECODE;
    if (head.what < WIRE_DATA || head.what > WIRE_HOLES) return ERR_DECODE;
    if (count > (head.what == WIRE_DATA ? RECORD_BLOCKS_MAX : RECORD_UNMAP_MAX)) return ERR_DECODE;
    ret_head->what = head.what == WIRE_DATA ? ENTRY_NEW : head.what == WIRE_ZEROS ? ENTRY_ZERO : ENTRY_UNMAP;
    ret_head->count = count;
    return OK;
}

enum err body_decode(struct body_reader *reader, struct replica_content *content)
{
    struct wire_stretch_block blocks[RECORD_BLOCKS_MAX];
    if (content->what != ENTRY_NEW) return OK;
    if (!body_take(reader, blocks, content->count * (uint32_t)sizeof blocks[0])) return ERR_TRUNCATED;
    for (uint32_t i = 0; i < content->count; i++) {
        struct block_digest digest;
        TRY(wire_block_decode(&blocks[i], &digest));
        uint8_t *at = content->bytes + content->used;
        uint32_t stored = chunk_stored(digest.size);
        if (!body_take(reader, at, stored)) return ERR_TRUNCATED;
        digest.stored = at;
        if (digest.size != 0) TRY(digest_check(&digest));
        content->digests[i] = digest;
        content->used += stored;
    }
    return OK;
}

/* What a content is taken for that comes with a message of this kind; not for steps. */
static enum content_use content_use_of(enum replica_message_kind kind)
{
    if (kind == REPLICA_FORWARD) return CONTENT_FORWARD;
    return kind == REPLICA_LENT ? CONTENT_LENT : CONTENT_RECORD;
}

static enum body_taken receive_stretch(struct replica_contents *contents, uint32_t volume, struct body_reader *reader,
                                       struct replica_content **ret_content)
{
    struct replica_content *content = content_take(contents, CONTENT_STEP, volume, ENTRY_NEW, 0);
    if (content == NULL) return BODY_NO_ROOM;
    if (reader->bytes > content->room || !body_take(reader, content->bytes, reader->bytes)) {
        content_drop(contents, content);
        return BODY_BAD;
    }
    content->used = reader->bytes;
    *ret_content = content;
    return BODY_TAKEN;
}

static enum body_taken receive_content(struct replica_contents *contents, uint32_t volume, enum content_use use,
                                       struct body_reader *reader, struct replica_content **ret_content)
{
    struct body_head head;
    if (body_head_decode(reader, &head) != OK) return BODY_BAD;
    if (head.what == ENTRY_NEW && head.count > content_blocks_max(use)) return BODY_BAD;
    struct replica_content *content = content_take(contents, use, volume, head.what, head.count);
    if (content == NULL) return use == CONTENT_FORWARD ? BODY_DROPPED : BODY_NO_ROOM;
    if (body_decode(reader, content) == OK && reader->at == reader->bytes) {
        *ret_content = content;
        return BODY_TAKEN;
    }
    content_drop(contents, content);
    return BODY_BAD;
}

enum body_taken body_receive(struct replica_contents *contents, uint32_t volume, const struct replica_message *m,
                             struct body_reader *reader, struct replica_content **ret_content)
{
    *ret_content = NULL;
    if (replica_has_content(m) != (reader->bytes > 0)) return BODY_BAD;
    if (reader->bytes == 0) return BODY_TAKEN;
    if (m->kind == REPLICA_STEP) return receive_stretch(contents, volume, reader, ret_content);
    return receive_content(contents, volume, content_use_of(m->kind), reader, ret_content);
}
