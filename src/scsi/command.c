/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A command from plan to end: which row of the table, does the CDB keep to it, does anything stand in its way.
 */
#include <string.h>

#include "scsi/internal.h"

/* ---- memory ---- */

bool plan_nothing(struct scsi_command *c)
{
    c->room_bytes = 0;
    return true;
}

bool plan_answer(struct scsi_command *c)
{
    c->room_bytes = SCSI_ANSWER_MAX;
    return true;
}

bool plan_data(struct scsi_command *c, uint64_t offset, uint64_t bytes, bool out)
{
    assert(bytes <= SCSI_TRANSFER_MAX);
    c->lead = bytes > 0 ? (uint32_t)(offset % BLOCK_SIZE) : 0;
    c->room_bytes = (uint32_t)round_up64(c->lead + bytes, BLOCK_SIZE);
    c->out = out;
    if (out) c->out_bytes = (uint32_t)bytes;
    return true;
}

bool plan_exactly(struct scsi_command *c)
{
    return c->expected_out == c->out_bytes ? true : sense_set(c, SENSE_INVALID_UNIT_FIELD);
}

bool plan_within(struct scsi_command *c, uint64_t lba, uint64_t blocks)
{
    uint64_t all = unit_blocks(c->unit);
    return lba <= all && blocks <= all - lba ? true : sense_set(c, SENSE_LBA_OUT_OF_RANGE);
}

uint8_t *answer_begin(struct scsi_command *c)
{
    memset(c->data.piece[0], 0, SCSI_ANSWER_MAX);
    return c->data.piece[0];
}

void answer_end(struct scsi_command *c, uint32_t bytes, uint32_t allocation)
{
    assert(bytes <= SCSI_ANSWER_MAX);
    c->in_bytes = min32(bytes, allocation);
    command_finish(c);
}

void run_good(struct scsi_command *c)
{
    command_finish(c);
}

/* ---- dispatch ---- */

/* The row for a CDB; NULL: none. ret_known: the operation code is known, its service action is not. */
static const struct scsi_op *op_find(const uint8_t *cdb, bool *ret_known)
{
    *ret_known = false;
    for (uint32_t i = 0; i < scsi_op_count; i++) {
        const struct scsi_op *op = &scsi_ops[i];
        if (op->opcode != cdb[0]) continue;
        *ret_known = true;
        if (op->service_action == NO_SERVICE_ACTION || op->service_action == (cdb[1] & 0x1f)) return op;
    }
    return NULL;
}

/* Every bit that is set must be one that we look at. The last byte is CONTROL: NACA is not supported (SAM-5 5.2). */
static bool cdb_fits(struct scsi_command *c)
{
    const struct scsi_op *op = c->op;
    uint16_t last = (uint16_t)(op->cdb_bytes - 1);
    for (uint16_t i = 1; i < last; i++) {
        if (c->cdb[i] & ~op->usage[i]) return sense_field(c, i);
    }
    return c->cdb[last] & 0x04 ? sense_field(c, last) : true;
}

static bool may_proceed(struct scsi_command *c)
{
    enum scsi_sense attention;
    if (c->at == NULL) return c->op->flags & OP_ANY_LUN ? true : sense_set(c, SENSE_NO_UNIT);
    if (!(c->op->flags & OP_NO_ATTENTION) && (attention = attention_take(c->at)) != SENSE_NONE) return sense_set(c, attention);
    return c->op->flags & OP_ANY_ACCESS ? true : access_allows(c);
}

bool scsi_plan(struct scsi_command *c)
{
    bool known;
    c->status = SCSI_GOOD;
    c->sense_bytes = c->in_bytes = c->out_bytes = c->room_bytes = c->lead = c->out_have = 0;
    c->scratch_wanted = c->out = c->failed = false;
    c->step = c->busy = c->item = c->blocks = 0;
    c->lba = c->next = c->total = 0;
    c->accepted = c->parked = c->doomed = false;
    c->unit = NULL;
    c->at = scsi_nexus_find(c->nexus, c->lun);
    c->op = op_find(c->cdb, &known);
    if (c->at != NULL) {
        c->unit = c->at->unit;
        c->unit->under_way++;
        c->read_only = c->unit->config.read_only || c->at->read_only;
        c->write_protected = is_write_protected(c);
    }
    if (c->op == NULL && c->at == NULL) return sense_set(c, SENSE_NO_UNIT);
    if (c->op == NULL) return known ? sense_field(c, 1) : sense_set(c, SENSE_INVALID_OPCODE);
    if (!may_proceed(c) || !cdb_fits(c)) return false;
    if (!c->op->plan(c)) return false;
    if ((c->op->flags & OP_WRITES) && c->write_protected) return sense_set(c, SENSE_WRITE_PROTECTED);
    return true;
}

void scsi_run(struct scsi_command *c)
{
    c->data.lead = c->lead;
    c->arrived_ns = io_now_ns(c->io); /* before it waits for others */
    if (set_start(c)) command_begin(c);
}

/* Write protection may have been chosen after the plan was made, by a command that this one waited for. */
void command_begin(struct scsi_command *c)
{
    if (c->unit != NULL) c->write_protected = is_write_protected(c);
    if (!(c->op->flags & OP_WRITES) || !c->write_protected) {
        c->op->run(c);
        return;
    }
    sense_set(c, SENSE_WRITE_PROTECTED);
    command_finish(c);
}

void scsi_out_of_order(struct scsi_command *c)
{
    sense_set(c, SENSE_PROTOCOL_CRC);
    set_leave(c);
}

static void finished(struct io_msg *msg)
{
    struct scsi_command *c = CONTAINER(msg, struct scsi_command, msg);
    set_leave(c);
    c->done(c);
}

void command_finish(struct scsi_command *c)
{
    assert(c->busy == 0);
    c->msg.handle = finished;
    io_send(c->io, &c->msg);
}

void scsi_end(struct scsi_command *c)
{
    struct scsi_unit *u = c->unit;
    set_leave(c);
    c->unit = NULL;
    if (u == NULL) return;
    assert(u->under_way > 0);
    u->under_way--;
    if (u->under_way == 0 && u->waiting != NULL) io_task_wake(u->waiting);
}
