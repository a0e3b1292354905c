/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MODE SENSE and MODE SELECT (SPC-4 6.11 to 6.14, 7.5): what there is to say about a disk without moving parts and without a
 * volatile cache. Nothing can be changed but SWP, the write protection by software, and D_SENSE, the format of sense data; MODE
 * SELECT of anything else must repeat what MODE SENSE said.
 */
#include <string.h>

#include "scsi/internal.h"

enum { CURRENT, CHANGEABLE, DEFAULT, SAVED }; /* page control */
enum { PAGE_BYTES_MAX = 32, CONTROL_D_SENSE = 0x04 /* byte 2 */, CONTROL_SWP = 0x08 /* byte 4 */ };

struct mode_page {
    uint8_t code, sub, bytes; /* bytes: the whole page, its header included */
    uint8_t is[PAGE_BYTES_MAX];
};

static const struct mode_page pages[] = {
    /* Caching (SBC-3 6.4.5): WCE 0, DRA 1 */
    {0x08, 0, 20, {0x08, 18, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20}},
    /* Control (SPC-4 7.5.8): QUEUE ALGORITHM MODIFIER 1, busy timeout unlimited */
    {0x0a, 0, 12, {0x0a, 10, 0, 0x10, 0, 0, 0, 0, 0xff, 0xff}},
    /* Control extension (7.5.9): maximum sense length */
    {0x0a, 1, 32, {0x4a, 1, 0, 28, 0, 0, SCSI_SENSE_MAX}},
    /* Informational exceptions control (SBC-3 6.4.8): none are reported */
    {0x1c, 0, 12, {0x1c, 10, 0x08}},
};
enum { PAGES = sizeof pages / sizeof pages[0] };

static void page_fill(const struct scsi_command *c, const struct mode_page *p, uint8_t control, uint8_t *to)
{
    uint32_t header = p->sub != 0 ? 4 : 2;
    bool is_control = p->code == 0x0a && p->sub == 0;
    memcpy(to, p->is, p->bytes);
    if (control == CHANGEABLE) memset(to + header, 0, p->bytes - header);
    if (!is_control) return;
    if (control == CHANGEABLE || (control == CURRENT && c->unit->descriptor_sense)) to[2] |= CONTROL_D_SENSE;
    if (control == CHANGEABLE || (control == CURRENT && c->unit->software_write_protect)) to[4] |= CONTROL_SWP;
}

static bool is_asked_for(const struct mode_page *p, uint8_t code, uint8_t sub)
{
    if (code == 0x3f) return sub == 0xff || (sub == 0 && p->sub == 0);
    return p->code == code && (sub == 0xff || p->sub == sub);
}

bool plan_mode_sense(struct scsi_command *c)
{
    return plan_answer(c);
}

/* Short LBA descriptor, or the long one when asked and allowed. Returns its length. */
static uint32_t descriptor(const struct scsi_command *c, uint8_t *to, bool longer)
{
    uint64_t blocks = unit_blocks(c->unit);
    if (longer) {
        be64_to(to, blocks);
        be32_to(to + 12, c->unit->block_bytes);
        return 16;
    }
    be32_to(to, blocks > UINT32_MAX ? UINT32_MAX : (uint32_t)blocks);
    be24_to(to + 5, c->unit->block_bytes);
    return 8;
}

void run_mode_sense(struct scsi_command *c)
{
    bool ten = c->op->cdb_bytes == 10, longer = ten && (c->cdb[1] & 0x10);
    uint8_t control = c->cdb[2] >> 6, code = c->cdb[2] & 0x3f, sub = c->cdb[3];
    uint32_t header = ten ? 8 : 4, at = header, found = 0;
    uint8_t *a = answer_begin(c);
    if (control == SAVED) {
        sense_set(c, SENSE_SAVING_UNSUPPORTED);
        command_finish(c);
        return;
    }
    uint32_t described = c->cdb[1] & 0x08 ? 0 : descriptor(c, a + header, longer);
    at += described;
    for (size_t i = 0; i < PAGES; i++) {
        if (!is_asked_for(&pages[i], code, sub)) continue;
        page_fill(c, &pages[i], control, a + at);
        at += pages[i].bytes;
        found++;
    }
    if (found == 0) {
        sense_field(c, 2);
        command_finish(c);
        return;
    }
    uint8_t device = (uint8_t)((c->write_protected ? 0x80 : 0) | 0x10); /* WP, DPOFUA */
    if (ten) {
        be16_to(a, (uint16_t)(at - 2));
        a[3] = device;
        a[4] = longer && described > 0;
        be16_to(a + 6, (uint16_t)described);
    } else {
        a[0] = (uint8_t)(at - 1);
        a[2] = device;
        a[3] = (uint8_t)described;
    }
    answer_end(c, at, ten ? be16_at(c->cdb + 7) : c->cdb[4]);
}

/* ---- MODE SELECT ---- */

bool plan_mode_select(struct scsi_command *c)
{
    uint32_t bytes = c->op->cdb_bytes == 10 ? be16_at(c->cdb + 7) : c->cdb[4];
    if (!(c->cdb[1] & 0x10)) return sense_field(c, 1); /* PF: pages in the standard's format only */
    if (bytes > SCSI_ANSWER_MAX) return sense_field(c, c->op->cdb_bytes == 10 ? 7 : 4);
    return plan_data(c, 0, bytes, true);
}

/* What MODE SELECT can change. */
struct choice {
    bool protect, descriptors;
};

/* One page of the list. Returns its length, 0: refused, the sense is set. */
static uint32_t select_page(struct scsi_command *c, const uint8_t *at, uint32_t left, uint16_t where, struct choice *ret_choice)
{
    uint8_t want[PAGE_BYTES_MAX], mask[PAGE_BYTES_MAX];
    uint8_t code = at[0] & 0x3f, sub = at[0] & 0x40 && left > 1 ? at[1] : 0;
    for (size_t i = 0; i < PAGES; i++) {
        const struct mode_page *p = &pages[i];
        if (p->code != code || p->sub != sub || (sub != 0) != !!(at[0] & 0x40)) continue;
        if (left < p->bytes) {
            sense_set(c, SENSE_LIST_LENGTH);
            return 0;
        }
        page_fill(c, p, CURRENT, want);
        page_fill(c, p, CHANGEABLE, mask);
        for (uint32_t b = 0; b < p->bytes; b++) {
            uint8_t fixed = b < (sub != 0 ? 4u : 2u) ? 0xff : (uint8_t)~mask[b];
            if (((at[b] & (b == 0 ? 0x7f : 0xff)) ^ want[b]) & fixed) {
                sense_list_field(c, (uint16_t)(where + b));
                return 0;
            }
        }
        if (code == 0x0a && sub == 0)
            *ret_choice = (struct choice){.protect = at[4] & CONTROL_SWP, .descriptors = at[2] & CONTROL_D_SENSE};
        return p->bytes;
    }
    sense_list_field(c, where);
    return 0;
}

/* Nothing is changed unless all of the list is right. */
static bool select_all(struct scsi_command *c)
{
    struct scsi_unit *unit = c->unit;
    struct choice choice = {.protect = unit->software_write_protect, .descriptors = unit->descriptor_sense};
    bool ten = c->op->cdb_bytes == 10;
    const uint8_t *list = c->data.piece[0];
    uint32_t header = ten ? 8 : 4;
    if (c->out_have < c->out_bytes || c->out_have < header) return sense_set(c, SENSE_LIST_LENGTH);
    uint32_t described = ten ? be16_at(list + 6) : list[3], at = header + described;
    if (at > c->out_have) return sense_set(c, SENSE_LIST_LENGTH);
    if (described != 0 && described != (ten && (list[4] & 1) ? 16 : 8)) return sense_list_field(c, ten ? 6 : 3);
    if (described == 8 && be24_at(list + header + 5) != c->unit->block_bytes)
        return sense_list_field(c, (uint16_t)(header + 5));
    while (at < c->out_have) {
        uint32_t bytes = select_page(c, list + at, c->out_have - at, (uint16_t)at, &choice);
        if (bytes == 0) return false;
        at += bytes;
    }
    if (unit->software_write_protect == choice.protect && unit->descriptor_sense == choice.descriptors) return true;
    unit->software_write_protect = choice.protect;
    unit->descriptor_sense = choice.descriptors;
    scsi_unit_attention(unit, SCSI_MODE_CHANGED, c->nexus);
    return true;
}

void run_mode_select(struct scsi_command *c)
{
    if (c->out_bytes > 0) select_all(c);
    command_finish(c);
}
