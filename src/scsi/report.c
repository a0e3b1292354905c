/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the unit says about itself besides INQUIRY: sense, units, commands, task management, capacity, defects (SPC-4 6,
 * SBC-3 5).
 */
#include <string.h>

#include "scsi/internal.h"

/* A pending unit attention is what there is to sense (SPC-4 6.39). */
void run_request_sense(struct scsi_command *c)
{
    uint8_t *a = answer_begin(c);
    enum scsi_sense sense = c->unit == NULL ? SENSE_NO_UNIT : SENSE_NONE;
    struct scsi_lun *at = scsi_nexus_find(c->nexus, c->lun);
    if (at != NULL) sense = attention_take(at);
    uint32_t bytes = sense_encode(&(struct sense){.sense = sense}, c->cdb[1] & 1 /* DESC */, a);
    answer_end(c, bytes, c->cdb[4]);
}

/* ---- REPORT LUNS (SPC-4 6.33) ---- */

bool plan_report_luns(struct scsi_command *c)
{
    if (c->cdb[2] > 2) return sense_field(c, 2);
    if (be32_at(c->cdb + 6) < 16) return sense_field(c, 6);
    return plan_answer(c);
}

void run_report_luns(struct scsi_command *c)
{
    uint8_t *a = answer_begin(c);
    uint32_t count = c->cdb[2] == 1 ? 0 : c->nexus->lun_count; /* 1: well known units only */
    for (uint32_t i = 0; i < count; i++) be16_to(a + 8 + 8 * (size_t)i, c->nexus->luns[i].lun);
    be32_to(a, 8 * count);
    for (uint32_t i = 0; i < c->nexus->lun_count; i++) c->nexus->luns[i].attention &= (uint8_t)~SCSI_LUNS_CHANGED;
    answer_end(c, 8 + 8 * count, be32_at(c->cdb + 6));
}

/* ---- REPORT SUPPORTED OPERATION CODES (SPC-4 6.35) ---- */

enum { RSOC_ALL, RSOC_ONE, RSOC_ONE_SERVICE, RSOC_ONE_EITHER };

bool plan_report_opcodes(struct scsi_command *c)
{
    if ((c->cdb[2] & 7) > RSOC_ONE_EITHER) return sense_field(c, 2);
    return plan_answer(c);
}

/* No timeouts to report: a timeouts descriptor of zeros (SPC-4 6.35.4). */
static uint32_t timeouts(uint8_t *to)
{
    be16_to(to, 10);
    return 12;
}

static uint32_t all_opcodes(const struct scsi_command *c, uint8_t *a)
{
    bool timed = c->cdb[2] & 0x80;
    uint32_t at = 4;
    for (uint32_t i = 0; i < scsi_op_count; i++) {
        const struct scsi_op *op = &scsi_ops[i];
        bool service = op->service_action != NO_SERVICE_ACTION;
        a[at] = op->opcode;
        if (service) be16_to(a + at + 2, op->service_action);
        a[at + 5] = (uint8_t)((timed ? 2 : 0) | (service ? 1 : 0));
        be16_to(a + at + 6, op->cdb_bytes);
        at += 8;
        if (timed) at += timeouts(a + at);
    }
    be32_to(a, at - 4);
    return at;
}

static uint32_t one_opcode(const struct scsi_command *c, const struct scsi_op *op, uint8_t *a)
{
    bool timed = c->cdb[2] & 0x80;
    if (op == NULL) {
        a[1] = 1; /* not supported */
        return 4;
    }
    a[1] = (uint8_t)((timed ? 0x80 : 0) | 3);
    be16_to(a + 2, op->cdb_bytes);
    memcpy(a + 4, op->usage, op->cdb_bytes);
    a[4] = op->opcode;
    if (op->service_action != NO_SERVICE_ACTION) a[5] = (uint8_t)(a[5] & ~0x1f) | (uint8_t)op->service_action;
    a[4 + op->cdb_bytes - 1] |= 0x04; /* NACA: we look at it, to refuse it */
    return 4u + op->cdb_bytes + (timed ? timeouts(a + 4 + op->cdb_bytes) : 0);
}

/* ret_service: the operation code has service actions. */
static const struct scsi_op *op_named(uint8_t opcode, uint16_t service, bool *ret_service)
{
    const struct scsi_op *found = NULL;
    *ret_service = false;
    for (uint32_t i = 0; i < scsi_op_count; i++) {
        const struct scsi_op *op = &scsi_ops[i];
        if (op->opcode != opcode) continue;
        *ret_service = op->service_action != NO_SERVICE_ACTION;
        if (!*ret_service || op->service_action == service) found = op;
    }
    return found;
}

void run_report_opcodes(struct scsi_command *c)
{
    uint8_t *a = answer_begin(c), how = c->cdb[2] & 7;
    uint32_t allocation = be32_at(c->cdb + 6);
    bool service;
    if (how == RSOC_ALL) {
        answer_end(c, all_opcodes(c, a), allocation);
        return;
    }
    const struct scsi_op *op = op_named(c->cdb[3], be16_at(c->cdb + 4), &service);
    bool wrong = (how == RSOC_ONE && service) || (how == RSOC_ONE_SERVICE && op != NULL && !service);
    if (wrong) {
        sense_field(c, 2);
        command_finish(c);
        return;
    }
    answer_end(c, one_opcode(c, op, a), allocation);
}

/* ABORT TASK, ABORT TASK SET, CLEAR TASK SET, LOGICAL UNIT RESET (SPC-4 6.36). */
void run_report_tmf(struct scsi_command *c)
{
    uint8_t *a = answer_begin(c);
    a[0] = 0x80 | 0x40 | 0x10 | 0x08;
    answer_end(c, 4, be32_at(c->cdb + 6));
}

/* ---- READ CAPACITY (SBC-3 5.12, 5.13) ---- */

static uint64_t last_block(const struct scsi_command *c)
{
    return unit_blocks(c->unit) - 1;
}

bool plan_capacity10(struct scsi_command *c)
{
    if (!(c->cdb[8] & 1) && be32_at(c->cdb + 2) != 0) return sense_field(c, 2);
    return plan_answer(c);
}

void run_capacity10(struct scsi_command *c)
{
    uint8_t *a = answer_begin(c);
    be32_to(a, last_block(c) > UINT32_MAX ? UINT32_MAX : (uint32_t)last_block(c));
    be32_to(a + 4, c->unit->block_bytes);
    answer_end(c, 8, 8);
}

void run_capacity16(struct scsi_command *c)
{
    uint8_t *a = answer_begin(c);
    be64_to(a, last_block(c));
    be32_to(a + 8, c->unit->block_bytes);
    a[13] = c->unit->block_bytes == 512 ? 3 : 0; /* logical blocks per physical block, as a power of two */
    a[14] = 0xc0;                                /* LBPME, LBPRZ; lowest aligned block 0 */
    answer_end(c, 32, be32_at(c->cdb + 10));
}

/* ---- odds and ends ---- */

/* READ DEFECT DATA: there are none, whichever list and format is asked for (SBC-3 5.15, 5.16). */
void run_defect_data(struct scsi_command *c)
{
    uint8_t *a = answer_begin(c);
    bool ten = c->op->cdb_bytes == 10;
    a[1] = (ten ? c->cdb[2] : c->cdb[1]) & 0x1f;
    answer_end(c, ten ? 4 : 8, ten ? be16_at(c->cdb + 7) : be32_at(c->cdb + 6));
}

/* START STOP UNIT: it is always started. Ejecting what is fixed is refused (SBC-3 5.25). */
bool plan_start_stop(struct scsi_command *c)
{
    if ((c->cdb[4] & 0x02) != 0) return sense_field(c, 4);
    return plan_nothing(c);
}

/* PREVENT ALLOW MEDIUM REMOVAL: nothing can be removed, so both hold. */
bool plan_prevent(struct scsi_command *c)
{
    if ((c->cdb[4] & 0x02) != 0) return sense_field(c, 4);
    return plan_nothing(c);
}
