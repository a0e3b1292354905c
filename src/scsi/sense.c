/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From errors to sense data: the one switch of SCSI over the classes of errors, and the fixed format that all sense is sent in.
 */
#include <string.h>

#include "scsi/internal.h"

void sense_fill(uint8_t ret[SCSI_SENSE_BYTES], enum scsi_sense sense)
{
    memset(ret, 0, SCSI_SENSE_BYTES);
    ret[0] = 0x70; /* current, fixed format */
    ret[2] = (uint8_t)(sense >> 16);
    ret[7] = SCSI_SENSE_BYTES - 8;
    ret[12] = (uint8_t)(sense >> 8);
    ret[13] = (uint8_t)sense;
}

bool sense_set(struct scsi_command *c, enum scsi_sense sense)
{
    c->status = SCSI_CHECK_CONDITION;
    c->sense_bytes = SCSI_SENSE_BYTES;
    c->in_bytes = 0;
    sense_fill(c->sense, sense);
    return false;
}

bool sense_set_at(struct scsi_command *c, enum scsi_sense sense, uint64_t information)
{
    sense_set(c, sense);
    if (information > UINT32_MAX) return false; /* fixed format has no room for it */
    c->sense[0] |= 0x80;
    be32_to(&c->sense[3], (uint32_t)information);
    return false;
}

/* Sense key specific data: field pointer (SPC-4 4.5.2.4.2). */
static bool point_at(struct scsi_command *c, enum scsi_sense sense, uint8_t flags, uint16_t byte)
{
    sense_set(c, sense);
    c->sense[15] = flags;
    be16_to(&c->sense[16], byte);
    return false;
}

bool sense_field(struct scsi_command *c, uint16_t byte)
{
    return point_at(c, SENSE_INVALID_CDB, 0xc0, byte);
}

bool sense_list_field(struct scsi_command *c, uint16_t byte)
{
    return point_at(c, SENSE_INVALID_LIST, 0x80, byte);
}

void sense_from(struct scsi_command *c, enum err err, uint64_t information)
{
    switch (err_class(err)) {
    case ERR_CLASS_FINE: break;
    case ERR_CLASS_INVALID: sense_set(c, err == ERR_RANGE ? SENSE_LBA_OUT_OF_RANGE : SENSE_INVALID_CDB); break;
    case ERR_CLASS_NOT_FOUND: sense_set(c, SENSE_NO_UNIT); break;
    case ERR_CLASS_BUSY: /* try again */
        c->status = SCSI_BUSY;
        c->sense_bytes = 0;
        c->in_bytes = 0;
        break;
    case ERR_CLASS_FULL: sense_set(c, SENSE_SPACE_ALLOCATION); break;
    case ERR_CLASS_CORRUPT: sense_set_at(c, SENSE_MEDIUM_ERROR, information); break;
    case ERR_CLASS_DEVICE: sense_set(c, SENSE_HARDWARE_ERROR); break;
    case ERR_CLASS_STOPPED: sense_set(c, SENSE_BECOMING_READY); break;
    case ERR_CLASS_DIFFERENT: sense_set_at(c, SENSE_MISCOMPARE, information); break;
    case ERR_CLASS_EXISTS:
    case ERR_CLASS_FOREIGN: sense_set(c, SENSE_INTERNAL); break;
    }
}
