/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asymmetric logical unit access (SPC-4 5.15): which target port groups reach a unit, and in which state. A group is a node;
 * its ports are one SCSI port, because all portals of a portal group are (RFC 7143 3.4).
 *
 *     active/optimized   the node serves the volume
 *     transitioning      it does not, and that may be over soon: commands wait, and are BUSY when they waited too long
 *     unavailable        it does not, and others may: hosts are to use these, and are told so at once
 *
 * States change by themselves (implicit); nobody can set them.
 */
#include <string.h>

#include "scsi/internal.h"

enum { TPGS_IMPLICIT = 0x10, SUPPORTED = 0x80 /* T_SUP */ | 0x08 /* U_SUP */ | 0x01 /* AO_SUP */, CHANGED_IMPLICITLY = 0x02 };

static bool is_same(const struct scsi_unit *u, const struct scsi_port_group *groups, uint32_t count)
{
    if (u->group_count != count) return false;
    for (uint32_t i = 0; i < count; i++)
        if (u->groups[i].id != groups[i].id || u->groups[i].access != groups[i].access) return false;
    return true;
}

void scsi_unit_groups(struct scsi_unit *unit, const struct scsi_port_group *groups, uint32_t count)
{
    bool fresh = unit->group_count == 0;
    assert(count > 0 && count <= SCSI_GROUPS_MAX);
    if (is_same(unit, groups, count)) return;
    memcpy(unit->groups, groups, count * sizeof *groups);
    unit->group_count = count;
    if (!fresh) scsi_unit_attention(unit, SCSI_ACCESS_CHANGED, NULL);
}

enum scsi_access access_of(const struct scsi_unit *unit, uint16_t group)
{
    for (uint32_t i = 0; i < unit->group_count; i++)
        if (unit->groups[i].id == group) return unit->groups[i].access;
    return SCSI_ACTIVE_OPTIMIZED;
}

uint8_t access_tpgs(const struct scsi_unit *unit)
{
    return unit->group_count > 0 ? TPGS_IMPLICIT : 0;
}

bool access_allows(struct scsi_command *c)
{
    switch (access_of(c->unit, c->nexus->port_group)) {
    case SCSI_ACTIVE_OPTIMIZED: return true;
    case SCSI_TRANSITIONING: return c->op->flags & OP_READY ? sense_set(c, SENSE_ACCESS_TRANSITION) : true;
    case SCSI_UNAVAILABLE: break;
    }
    return sense_set(c, SENSE_ACCESS_UNAVAILABLE);
}

/* ---- REPORT TARGET PORT GROUPS (SPC-4 6.37) ---- */

enum { HEADER_LENGTH_ONLY, HEADER_EXTENDED };

bool plan_port_groups(struct scsi_command *c)
{
    return c->cdb[1] >> 5 <= HEADER_EXTENDED ? plan_answer(c) : sense_field(c, 1);
}

static uint8_t *put_group(uint8_t *a, const struct scsi_port_group *group)
{
    a[0] = (uint8_t)group->access;
    a[1] = SUPPORTED;
    be16_to(a + 2, group->id);
    a[5] = CHANGED_IMPLICITLY;
    a[7] = 1;                   /* ports */
    be16_to(a + 10, group->id); /* relative target port identifier */
    return a + 12;
}

void run_port_groups(struct scsi_command *c)
{
    uint8_t *a = answer_begin(c), *at = a + 4;
    const struct scsi_port_group alone = {.id = c->nexus->port_group, .access = SCSI_ACTIVE_OPTIMIZED};
    const struct scsi_unit *u = c->unit;
    if (c->cdb[1] >> 5 == HEADER_EXTENDED) {
        at[0] = HEADER_EXTENDED << 4;
        at[1] = SCSI_TRANSITION_SECONDS;
        at += 4;
    }
    if (u->group_count == 0) at = put_group(at, &alone);
    for (uint32_t i = 0; i < u->group_count; i++) at = put_group(at, &u->groups[i]);
    be32_to(a, (uint32_t)(at - a - 4));
    answer_end(c, (uint32_t)(at - a), be32_at(c->cdb + 6));
}
