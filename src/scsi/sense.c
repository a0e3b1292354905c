/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From errors to sense data: the one switch of SCSI over the classes of errors, and the two formats of
 * sense data.
 */
#include <string.h>

#include "scsi/internal.h"

/* The last three bytes of the sense key specific data: field pointer (SPC-4 4.5.2.4.2). */
static void put_pointer(const struct sense *s, uint8_t ret[3])
{
    ret[0] = s->in_cdb ? 0xc0 : 0x80;
    be16_to(ret + 1, s->byte);
}

static uint32_t encode_fixed(const struct sense *s, uint8_t *ret)
{
    enum { FIXED = 18 };
    memset(ret, 0, FIXED);
    ret[0] = 0x70;
    ret[2] = (uint8_t)(s->sense >> 16);
    ret[7] = FIXED - 8;
    ret[12] = (uint8_t)(s->sense >> 8);
    ret[13] = (uint8_t)s->sense;
    if (s->informs && s->information <= UINT32_MAX) { /* there is no room for more */
        ret[0] |= 0x80;
        be32_to(ret + 3, (uint32_t)s->information);
    }
    if (s->points) put_pointer(s, ret + 15);
    return FIXED;
}

static uint32_t encode_descriptors(const struct sense *s, uint8_t *ret)
{
    enum { HEAD = 8, INFORMATION = 12, SPECIFIC = 8 };
    static_assert(HEAD + INFORMATION + SPECIFIC == SCSI_SENSE_MAX, "all of them fit");
    uint32_t at = HEAD;
    memset(ret, 0, SCSI_SENSE_MAX);
    ret[0] = 0x72;
    ret[1] = (uint8_t)(s->sense >> 16);
    ret[2] = (uint8_t)(s->sense >> 8);
    ret[3] = (uint8_t)s->sense;
    if (s->informs) {
        ret[at + 1] = INFORMATION - 2;
        ret[at + 2] = 0x80;
        be64_to(ret + at + 4, s->information);
        at += INFORMATION;
    }
    if (s->points) {
        ret[at] = 0x02;
        ret[at + 1] = SPECIFIC - 2;
        put_pointer(s, ret + at + 4);
        at += SPECIFIC;
    }
    ret[7] = (uint8_t)(at - HEAD);
    return at;
}

uint32_t sense_encode(const struct sense *sense, bool descriptors, uint8_t ret[SCSI_SENSE_MAX])
{
    return descriptors ? encode_descriptors(sense, ret) : encode_fixed(sense, ret);
}

/* In the format that the control mode page asks for (D_SENSE). */
static bool sense_put(struct scsi_command *c, const struct sense *sense)
{
    c->status = SCSI_CHECK_CONDITION;
    c->in_bytes = 0;
    c->sense_bytes = sense_encode(sense, c->unit != NULL && c->unit->descriptor_sense, c->sense);
    return false;
}

bool sense_set(struct scsi_command *c, enum scsi_sense sense)
{
    return sense_put(c, &(struct sense){.sense = sense});
}

bool sense_set_at(struct scsi_command *c, enum scsi_sense sense, uint64_t information)
{
    return sense_put(c, &(struct sense){.sense = sense, .informs = true, .information = information});
}

bool sense_field(struct scsi_command *c, uint16_t byte)
{
    return sense_put(c, &(struct sense){.sense = SENSE_INVALID_CDB, .points = true, .in_cdb = true, .byte = byte});
}

bool sense_list_field(struct scsi_command *c, uint16_t byte)
{
    return sense_put(c, &(struct sense){.sense = SENSE_INVALID_LIST, .points = true, .byte = byte});
}

/* The volume's block may begin before the command does. */
uint64_t bad_lba(const struct scsi_command *c, const struct volume_request *request)
{
    uint64_t none = UINT64_MAX;
    return request->bad == none ? none : max64(request->bad, request->offset) / c->unit->block_bytes;
}

void sense_from(struct scsi_command *c, enum err err, uint64_t information)
{
    switch (err_class(err)) {
    case ERR_CLASS_FINE: break;
    case ERR_CLASS_INVALID: sense_set(c, err == ERR_RANGE ? SENSE_LBA_OUT_OF_RANGE : SENSE_INVALID_CDB); break;
    case ERR_CLASS_NOT_FOUND: sense_set(c, SENSE_NO_UNIT); break;
    case ERR_CLASS_BUSY: /* try again; if need be, through another node */
        if (access_of(c->unit, c->nexus->port_group) == SCSI_UNAVAILABLE) {
            sense_set(c, SENSE_ACCESS_UNAVAILABLE);
            break;
        }
        c->status = SCSI_BUSY;
        c->sense_bytes = 0;
        c->in_bytes = 0;
        break;
    case ERR_CLASS_FULL: sense_set(c, SENSE_SPACE_ALLOCATION); break;
    case ERR_CLASS_CORRUPT:
        sense_put(
            c, &(struct sense){.sense = SENSE_MEDIUM_ERROR, .informs = information != UINT64_MAX, .information = information});
        break;
    case ERR_CLASS_DEVICE: sense_set(c, SENSE_HARDWARE_ERROR); break;
    case ERR_CLASS_STOPPED: sense_set(c, SENSE_BECOMING_READY); break;
    case ERR_CLASS_DIFFERENT: sense_set_at(c, SENSE_MISCOMPARE, information); break;
    case ERR_CLASS_EXISTS:
    case ERR_CLASS_FOREIGN: sense_set(c, SENSE_INTERNAL); break;
    }
}
