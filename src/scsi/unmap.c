/* SPDX-License-Identifier: Apache-2.0 */
/*
 * UNMAP, WRITE SAME and GET LBA STATUS (SBC-3 5.28, 5.42, 5.4): changes of ranges that need little or no data.
 *
 * What reads as zero is never stored, so WRITE SAME of zeros is a change of the map only, with the UNMAP bit one that gives
 * blocks back. Other patterns, also with the UNMAP bit, are written: what is read afterwards must be the pattern.
 */
#include <string.h>

#include "scsi/internal.h"

static void range_done(struct volume_request *request);

static void range_start(struct scsi_command *c, enum volume_verb verb, uint64_t offset, uint64_t bytes, uint8_t *data)
{
    lane_start(c, &c->lanes[0],
               &(struct volume_request){.done = range_done, .verb = verb, .offset = offset, .bytes = bytes, .data = data});
}

/* ---- UNMAP ---- */

bool plan_unmap(struct scsi_command *c)
{
    uint32_t bytes = be16_at(c->cdb + 7);
    if (bytes > 0 && bytes < 8) return sense_set(c, SENSE_LIST_LENGTH);
    if (bytes > 8 + 16 * UNMAP_DESCRIPTORS_MAX) return sense_field(c, 7);
    return plan_data(c, 0, bytes, true);
}

/* The list as it came: one page, decoded at this one place. */
static bool descriptor(const struct scsi_command *c, uint32_t i, uint64_t *ret_lba, uint32_t *ret_blocks)
{
    const uint8_t *list = c->data.piece[0];
    uint32_t bytes = min32(be16_at(list + 2), c->out_have - 8);
    if (i >= bytes / 16) return false;
    *ret_lba = be64_at(list + 8 + 16 * (size_t)i);
    *ret_blocks = be32_at(list + 8 + 16 * (size_t)i + 8);
    return true;
}

/* All descriptors are checked before the first is obeyed. */
static bool unmap_check(struct scsi_command *c)
{
    uint64_t lba, total = 0;
    uint32_t blocks;
    for (uint32_t i = 0; descriptor(c, i, &lba, &blocks); i++) {
        if (!plan_within(c, lba, blocks)) return false;
        total += (uint64_t)blocks * c->unit->block_bytes;
    }
    return total <= UNMAP_BYTES_MAX ? true : sense_list_field(c, 16);
}

static void unmap_next(struct scsi_command *c)
{
    uint64_t lba;
    uint32_t blocks;
    if (c->doomed || !descriptor(c, c->item++, &lba, &blocks)) {
        command_finish(c);
        return;
    }
    range_start(c, VOLUME_UNMAP, lba * c->unit->block_bytes, (uint64_t)blocks * c->unit->block_bytes, NULL);
}

void run_unmap(struct scsi_command *c)
{
    c->verb = VOLUME_UNMAP;
    if (c->out_have < c->out_bytes) {
        sense_set(c, SENSE_ABORTED_DATA);
    } else if (c->out_have >= 8 && unmap_check(c)) {
        unmap_next(c);
        return;
    }
    command_finish(c);
}

/* ---- WRITE SAME ---- */

enum { SAME_ANCHOR = 0x10, SAME_UNMAP = 0x08, SAME_NDOB = 0x01 };

bool plan_write_same(struct scsi_command *c)
{
    bool sixteen = c->op->cdb_bytes == 16;
    c->lba = sixteen ? be64_at(c->cdb + 2) : be32_at(c->cdb + 2);
    c->blocks = sixteen ? be32_at(c->cdb + 10) : be16_at(c->cdb + 7);
    if (c->cdb[1] & SAME_ANCHOR) return sense_field(c, 1);       /* ANC_SUP is 0 */
    if (c->blocks == 0) return sense_field(c, sixteen ? 10 : 7); /* WSNZ is 1 */
    if (!plan_within(c, c->lba, c->blocks)) return false;
    if ((uint64_t)c->blocks * c->unit->block_bytes > WRITE_SAME_BYTES_MAX) return sense_field(c, sixteen ? 10 : 7);
    if (c->cdb[1] & SAME_NDOB) return plan_nothing(c);
    c->scratch_wanted = true;
    plan_data(c, 0, c->unit->block_bytes, true);
    return plan_exactly(c);
}

/* The next stretch of a pattern. The scratch holds nothing but the pattern, so that it fits whatever block it begins with; the
 * volume overwrites what of the edge blocks is not asked for, therefore it is filled anew each time it begins or ends inside of
 * a block: at the first and the last. */
static void same_next(struct scsi_command *c)
{
    if (c->doomed || c->next >= c->total) {
        command_finish(c);
        return;
    }
    uint32_t one = c->unit->block_bytes;
    uint64_t offset = c->lba * one + c->next;
    uint64_t bytes = min64(SCSI_PIECE - offset % BLOCK_SIZE, c->total - c->next);
    for (uint32_t at = 0; at < SCSI_PIECE; at += one) memcpy(c->scratch + at, c->data.piece[0], one);
    c->next += bytes;
    range_start(c, VOLUME_WRITE, offset, bytes, c->scratch);
}

void run_write_same(struct scsi_command *c)
{
    bool no_data = c->cdb[1] & SAME_NDOB;
    c->verb = VOLUME_WRITE;
    if (!no_data && c->out_have < c->out_bytes) {
        sense_set(c, SENSE_ABORTED_DATA);
        command_finish(c);
        return;
    }
    bool zero = no_data || bytes_are_zero(c->data.piece[0], c->unit->block_bytes);
    c->next = 0;
    c->total = (uint64_t)c->blocks * c->unit->block_bytes;
    if (!zero) {
        same_next(c);
        return;
    }
    c->next = c->total;
    range_start(c, c->cdb[1] & SAME_UNMAP ? VOLUME_ZERO_UNMAP : VOLUME_ZERO, c->lba * c->unit->block_bytes, c->total, NULL);
}

static void range_done(struct volume_request *request)
{
    struct scsi_command *c = CONTAINER(request, struct scsi_lane, request)->command;
    c->busy = 0;
    if (request->err != OK) {
        sense_from(c, request->err, bad_lba(c, request));
        command_finish(c);
    } else if (c->verb == VOLUME_UNMAP) {
        unmap_next(c);
    } else {
        same_next(c);
    }
}

/* ---- GET LBA STATUS ---- */

enum { STATUS_SPAN = 1 << 20, STATUS_MAPPED = 0, STATUS_DEALLOCATED = 1 }; /* bytes of the volume that one answer looks at */

/* The answer, and behind it one byte a block. */
bool plan_lba_status(struct scsi_command *c)
{
    c->lba = be64_at(c->cdb + 2);
    if (c->lba >= unit_blocks(c->unit)) return sense_set(c, SENSE_LBA_OUT_OF_RANGE);
    if (be32_at(c->cdb + 10) < 24) return sense_field(c, 10);
    c->room_bytes = 2 * SCSI_ANSWER_MAX;
    return true;
}

static void status_known(struct volume_request *request)
{
    struct scsi_command *c = CONTAINER(request, struct scsi_lane, request)->command;
    const uint8_t *mapped = c->data.piece[0] + SCSI_ANSWER_MAX;
    uint8_t *a = answer_begin(c);
    c->busy = 0;
    if (request->err != OK) {
        sense_from(c, request->err, bad_lba(c, request));
        command_finish(c);
        return;
    }
    uint32_t one = c->unit->block_bytes, at = 8;
    uint64_t lba = c->lba, end = c->lba + request->bytes / one;
    uint64_t first = request->offset / BLOCK_SIZE;
    while (lba < end && at + 16 <= SCSI_ANSWER_MAX) {
        uint64_t to = lba;
        uint8_t is = mapped[lba * one / BLOCK_SIZE - first];
        while (to < end && mapped[to * one / BLOCK_SIZE - first] == is) to++;
        be64_to(a + at, lba);
        be32_to(a + at + 8, (uint32_t)(to - lba));
        a[at + 12] = is ? STATUS_MAPPED : STATUS_DEALLOCATED;
        at += 16;
        lba = to;
    }
    be32_to(a, at - 4);
    answer_end(c, at, be32_at(c->cdb + 10));
}

void run_lba_status(struct scsi_command *c)
{
    uint64_t offset = c->lba * c->unit->block_bytes;
    uint64_t bytes = min64(STATUS_SPAN - offset % BLOCK_SIZE, volume_bytes(c->unit->volume) - offset);
    lane_start(c, &c->lanes[0],
               &(struct volume_request){.done = status_known,
                                        .verb = VOLUME_STATUS,
                                        .offset = offset,
                                        .bytes = bytes,
                                        .data = c->data.piece[0] + SCSI_ANSWER_MAX});
}
