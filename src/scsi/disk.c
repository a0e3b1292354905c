/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads, writes and their kin (SBC-3): a command's transfer is cut at the pieces of its memory, and up to SCSI_LANES of them
 * are with the volume at once. GOOD for a write means published: there is no cache that could lose it, so FUA and SYNCHRONIZE
 * CACHE ask for nothing more.
 */
#include <string.h>

#include "scsi/internal.h"

/* ---- CDBs ---- */

/* Where the first block and the number of blocks stand, by the length of the CDB. */
static void range_from(struct scsi_command *c)
{
    const uint8_t *cdb = c->cdb;
    switch (c->op->cdb_bytes) {
    case 6:
        c->lba = be24_at(cdb + 1) & 0x1fffff;
        c->blocks = cdb[4] == 0 ? 256 : cdb[4];
        break;
    case 10:
        c->lba = be32_at(cdb + 2);
        c->blocks = be16_at(cdb + 7);
        break;
    case 12:
        c->lba = be32_at(cdb + 2);
        c->blocks = be32_at(cdb + 6);
        break;
    default:
        c->lba = be64_at(cdb + 2);
        c->blocks = be32_at(cdb + 10);
        break;
    }
}

bool plan_range(struct scsi_command *c)
{
    range_from(c);
    return plan_within(c, c->lba, c->blocks);
}

static uint64_t range_bytes(const struct scsi_command *c)
{
    return (uint64_t)c->blocks * c->unit->block_bytes;
}

/* The range, within what one command may read or write. */
static bool plan_limited(struct scsi_command *c)
{
    if (!plan_range(c)) return false;
    if (range_bytes(c) <= SCSI_TRANSFER_MAX) return true;
    return sense_field(c, c->op->cdb_bytes == 10 ? 7 : c->op->cdb_bytes == 12 ? 6 : 10);
}

static bool plan_transfer(struct scsi_command *c, bool out)
{
    return plan_limited(c) && plan_data(c, c->lba * c->unit->block_bytes, range_bytes(c), out);
}

bool plan_read(struct scsi_command *c)
{
    return plan_transfer(c, false);
}

bool plan_write(struct scsi_command *c)
{
    return plan_transfer(c, true);
}

/* The BYTCHK field (SBC-3 5.33). WRITE AND VERIFY takes the first two only: the table's mask refuses the others. */
enum check { CHECK_NOTHING, CHECK_BYTES, CHECK_RESERVED, CHECK_ONE_BLOCK /* one block is sent, and all must equal it */ };

static enum check check_of(const struct scsi_command *c)
{
    return (enum check)(c->cdb[1] >> 1 & 3);
}

bool plan_write_verify(struct scsi_command *c)
{
    c->scratch_wanted = true;
    return plan_transfer(c, true);
}

bool plan_verify(struct scsi_command *c)
{
    c->scratch_wanted = true;
    switch (check_of(c)) {
    case CHECK_NOTHING: return plan_limited(c); /* it is read all the same */
    case CHECK_BYTES: return plan_transfer(c, true);
    case CHECK_RESERVED: break;
    case CHECK_ONE_BLOCK: return plan_limited(c) && plan_data(c, 0, c->blocks > 0 ? c->unit->block_bytes : 0, true);
    }
    return sense_field(c, 1);
}

/* ---- lanes ---- */

static bool lane_next(struct scsi_command *c, struct scsi_lane *lane);

static uint64_t byte_offset(const struct scsi_command *c)
{
    return c->lba * c->unit->block_bytes;
}

static void lane_failed(struct scsi_command *c, const struct volume_request *r)
{
    /* The first in the command is told, whichever came back first: initiators take what lies before it for good. */
    if (c->failed && r->offset >= c->failed_at) return;
    c->failed = true;
    c->failed_at = r->offset;
    uint64_t information = r->err == ERR_MISCOMPARE ? r->offset - byte_offset(c) + r->differs : bad_lba(c, r);
    sense_from(c, r->err, information);
}

static void lane_done(struct volume_request *request)
{
    struct scsi_lane *lane = CONTAINER(request, struct scsi_lane, request);
    struct scsi_command *c = lane->command;
    c->busy--;
    if (request->err != OK) lane_failed(c, request);
    if (lane_next(c, lane) || c->busy > 0) return;
    if (c->failed || c->doomed)
        command_finish(c);
    else
        c->after(c);
}

void lane_start(struct scsi_command *c, struct scsi_lane *lane, const struct volume_request *request)
{
    assert(!c->doomed); /* its session may be gone, and the volume has been told: nothing new comes over it */
    lane->command = c;
    lane->request = *request;
    lane->request.session = c->nexus->session;
    lane->request.arrived_ns = c->arrived_ns;
    c->busy++;
    volume_start(c->unit->volume, &lane->request);
}

static bool lane_next(struct scsi_command *c, struct scsi_lane *lane)
{
    if (c->failed || c->doomed || c->next >= c->total) return false;
    uint64_t at = c->next, place = c->lead + at;
    uint64_t bytes = min64(SCSI_PIECE - place % SCSI_PIECE, c->total - at);
    uint8_t *data = c->data.piece[place / SCSI_PIECE] + place % SCSI_PIECE / BLOCK_SIZE * BLOCK_SIZE;
    c->next += bytes;
    lane_start(c, lane,
               &(struct volume_request){
                   .done = lane_done, .verb = c->verb, .offset = byte_offset(c) + at, .bytes = bytes, .data = data});
    return true;
}

static void lanes_begin(struct scsi_command *c, enum volume_verb verb, uint64_t total, void (*after)(struct scsi_command *c))
{
    c->verb = verb;
    c->next = 0;
    c->total = total;
    c->after = after;
    if (total == 0) {
        after(c);
        return; /* `after` has taken over */
    }
    for (int i = 0; i < SCSI_LANES && lane_next(c, &c->lanes[i]); i++) continue;
}

static void read_over(struct scsi_command *c)
{
    c->in_bytes = (uint32_t)c->total;
    command_finish(c);
}

void run_read(struct scsi_command *c)
{
    lanes_begin(c, VOLUME_READ, range_bytes(c), read_over);
}

/* What came of the data, in whole blocks. */
static uint64_t blocks_that_came(const struct scsi_command *c)
{
    return c->out_have / c->unit->block_bytes * c->unit->block_bytes;
}

void run_write(struct scsi_command *c)
{
    lanes_begin(c, VOLUME_WRITE, blocks_that_came(c), command_finish);
}

/* ---- verify: through the scratch piece, one stretch after the other ---- */

static void verify_next(struct scsi_command *c);

/* The bytes read against those that were sent. */
static bool verify_same(struct scsi_command *c, const struct volume_request *r)
{
    uint64_t at = r->offset - byte_offset(c);
    uint64_t period = check_of(c) == CHECK_ONE_BLOCK ? c->unit->block_bytes : UINT64_MAX;
    const uint8_t *medium = c->scratch + r->offset % BLOCK_SIZE, *sent = scsi_data_at(&c->data, at % period);
    for (uint64_t i = 0; i < r->bytes; i++) {
        if (medium[i] == sent[i % period]) continue;
        sense_set_at(c, SENSE_MISCOMPARE, (at + i) % period);
        return false;
    }
    return true;
}

static void verify_read(struct volume_request *request)
{
    struct scsi_command *c = CONTAINER(request, struct scsi_lane, request)->command;
    c->busy--;
    if (request->err != OK) {
        lane_failed(c, request);
        command_finish(c);
    } else if (check_of(c) != CHECK_NOTHING && !verify_same(c, request)) {
        command_finish(c);
    } else {
        verify_next(c);
    }
}

static void verify_next(struct scsi_command *c)
{
    if (c->doomed || c->next >= c->total) {
        command_finish(c);
        return;
    }
    uint64_t at = c->next, place = (byte_offset(c) % BLOCK_SIZE) + at;
    uint64_t bytes = min64(SCSI_PIECE - place % SCSI_PIECE, c->total - at);
    c->next += bytes;
    lane_start(
        c, &c->lanes[0],
        &(struct volume_request){
            .done = verify_read, .verb = VOLUME_READ, .offset = byte_offset(c) + at, .bytes = bytes, .data = c->scratch});
}

static void verify_begin(struct scsi_command *c)
{
    c->next = 0;
    verify_next(c);
}

void run_verify(struct scsi_command *c)
{
    if (check_of(c) == CHECK_ONE_BLOCK && c->out_have < c->out_bytes) {
        sense_set(c, SENSE_ABORTED_DATA);
        command_finish(c);
        return;
    }
    c->total = check_of(c) == CHECK_BYTES ? blocks_that_came(c) : range_bytes(c);
    verify_begin(c);
}

void run_write_verify(struct scsi_command *c)
{
    lanes_begin(c, VOLUME_WRITE, blocks_that_came(c), verify_begin);
}

/* ---- COMPARE AND WRITE (SBC-3 5.2) ---- */

/* In the one piece of its memory: what is expected from `lead` on, as it was sent, with what to write behind it; and, moved to
 * where its blocks are aligned again, what to write. */
enum { CAW_WRITE_AT = 80 << 10 };
static_assert(CAW_WRITE_AT >= BLOCK_SIZE + 2 * CAW_BYTES_MAX, "both halves fit before it");
static_assert(CAW_WRITE_AT + BLOCK_SIZE + CAW_BYTES_MAX + BLOCK_SIZE <= SCSI_PIECE, "and the second half behind it");

bool plan_compare_write(struct scsi_command *c)
{
    c->lba = be64_at(c->cdb + 2);
    c->blocks = c->cdb[13];
    if (!plan_within(c, c->lba, c->blocks)) return false;
    uint32_t bytes = c->blocks * c->unit->block_bytes;
    if (bytes > CAW_BYTES_MAX) return sense_field(c, 13);
    plan_data(c, byte_offset(c), 2 * bytes, true);
    if (bytes > 0) c->room_bytes = SCSI_PIECE;
    return c->expected_out == c->out_bytes ? true : sense_field(c, 13);
}

void run_compare_write(struct scsi_command *c)
{
    uint32_t bytes = c->blocks * c->unit->block_bytes;
    if (c->out_have < 2 * bytes) {
        sense_set(c, SENSE_ABORTED_DATA);
        command_finish(c);
        return;
    }
    if (bytes == 0) {
        command_finish(c);
        return;
    }
    uint8_t *data = c->data.piece[0];
    memmove(data + CAW_WRITE_AT + c->lead, data + c->lead + bytes, bytes);
    c->next = c->total = bytes;
    c->after = command_finish;
    lane_start(c, &c->lanes[0],
               &(struct volume_request){.done = lane_done,
                                        .verb = VOLUME_COMPARE_WRITE,
                                        .offset = byte_offset(c),
                                        .bytes = bytes,
                                        .data = data + CAW_WRITE_AT,
                                        .compare = data});
}

/* ---- PRE-FETCH: a promise to be quick later, which needs no help ---- */

void run_prefetch(struct scsi_command *c)
{
    command_finish(c);
}
