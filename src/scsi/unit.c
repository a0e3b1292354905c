/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Logical units, the nexuses that see them, and the unit attentions between the two.
 */
#include <string.h>

#include "base/hash.h"
#include "base/text.h"
#include "scsi/internal.h"
#include "store/mutation.h"

/* ---- units ---- */

void scsi_unit_identify(struct scsi_unit_config *config, const uint8_t id[16], uint32_t number)
{
    struct text t;
    uint64_t h = hash64(id, 16, number);
    /* NAA 6, and an OUI with the bit for locally administered: nobody has assigned one to us. */
    config->naa[0] = 0x62;
    config->naa[1] = 0x69;
    config->naa[2] = 0x7a;
    config->naa[3] = 0x60 | (uint8_t)(h & 15);
    be64_to(&config->naa[4], h ^ (uint64_t)number << 32);
    be32_to(&config->naa[12], number);
    text_init(&t, config->serial, sizeof config->serial);
    text_add_hex(&t, config->naa + 4, 12);
}

enum err scsi_unit_open(const struct scsi_unit_config *config, struct scsi_unit **ret_unit)
{
    if (config->block_bytes != 512 && config->block_bytes != 4096) return ERR_ARGUMENT;
    struct mem *mem = mem_open(2 * sizeof(struct scsi_unit) + 4096);
    struct scsi_unit *u = mem != NULL ? mem_alloc(mem, sizeof *u) : NULL;
    if (u == NULL) {
        mem_close(mem);
        return ERR_NO_MEMORY;
    }
    u->mem = mem;
    u->config = *config;
    u->volume = config->volume;
    u->block_bytes = config->block_bytes;
    list_init(&u->luns);
    list_init(&u->task_set);
    volume_hold(u->volume);
    *ret_unit = u;
    return OK;
}

void scsi_unit_close(struct scsi_unit *unit)
{
    if (unit == NULL) return;
    assert(list_empty(&unit->luns));
    unit->waiting = io_task_self();
    while (unit->under_way > 0) io_task_park();
    volume_release(unit->volume);
    mem_close(unit->mem);
}

void scsi_unit_abandon(struct scsi_unit *unit)
{
    if (unit != NULL) mem_close(unit->mem);
}

void scsi_unit_attention(struct scsi_unit *unit, enum scsi_attention what, const struct scsi_nexus *except)
{
    for (struct list *l = unit->luns.next; l != &unit->luns; l = l->next) {
        struct scsi_lun *lun = CONTAINER(l, struct scsi_lun, link);
        bool excepted = except != NULL && lun >= except->luns && lun < except->luns + except->lun_count;
        if (!excepted) lun->attention |= (uint8_t)what;
    }
}

void scsi_unit_reset(struct scsi_unit *unit, const struct scsi_nexus *by)
{
    unit->software_write_protect = unit->descriptor_sense = false;
    scsi_unit_attention(unit, SCSI_UNIT_RESET, by);
}

void scsi_unit_resized(struct scsi_unit *unit)
{
    if (!MUTATED(MUTATE_RESIZE_UNTOLD)) scsi_unit_attention(unit, SCSI_CAPACITY_CHANGED, NULL);
}

/* ---- nexuses ---- */

void scsi_nexus_init(struct scsi_nexus *nexus)
{
    nexus->lun_count = 0;
}

void scsi_nexus_lost(struct scsi_nexus *nexus)
{
    for (uint32_t i = 0; i < nexus->lun_count; i++) volume_lost(nexus->luns[i].unit->volume, nexus->session);
}

static struct scsi_lun *lun_at(struct scsi_nexus *nexus, uint16_t lun)
{
    for (uint32_t i = 0; i < nexus->lun_count; i++)
        if (nexus->luns[i].lun == lun) return &nexus->luns[i];
    return NULL;
}

static bool is_same(const struct scsi_nexus *nexus, const struct scsi_lun *luns, uint32_t count)
{
    if (nexus->lun_count != count) return false;
    for (uint32_t i = 0; i < count; i++) {
        if (nexus->luns[i].lun != luns[i].lun || nexus->luns[i].unit != luns[i].unit) return false;
        if (nexus->luns[i].read_only != luns[i].read_only) return false;
    }
    return true;
}

void scsi_nexus_map(struct scsi_nexus *nexus, const struct scsi_lun *luns, uint32_t count)
{
    uint8_t attention[SCSI_LUNS_MAX];
    bool fresh = nexus->lun_count == 0;
    assert(count <= SCSI_LUNS_MAX);
    if (is_same(nexus, luns, count)) return;
    for (uint32_t i = 0; i < count; i++) {
        const struct scsi_lun *was = lun_at(nexus, luns[i].lun);
        bool kept = was != NULL && was->unit == luns[i].unit;
        attention[i] = (uint8_t)(kept ? was->attention : SCSI_POWER_ON);
        if (!fresh) attention[i] |= SCSI_LUNS_CHANGED;
    }
    scsi_nexus_done(nexus);
    for (uint32_t i = 0; i < count; i++) {
        struct scsi_lun *to = &nexus->luns[i];
        *to = (struct scsi_lun){
            .unit = luns[i].unit, .lun = luns[i].lun, .read_only = luns[i].read_only, .attention = attention[i]};
        list_push(&to->unit->luns, &to->link);
    }
    nexus->lun_count = count;
}

void scsi_nexus_done(struct scsi_nexus *nexus)
{
    for (uint32_t i = 0; i < nexus->lun_count; i++) list_remove(&nexus->luns[i].link);
    nexus->lun_count = 0;
}

/* Single level: peripheral device addressing on bus 0, or flat space (SAM-5 4.7.7). */
struct scsi_lun *scsi_nexus_find(struct scsi_nexus *nexus, uint64_t lun)
{
    uint16_t first = (uint16_t)(lun >> 48);
    if ((lun & 0xffffffffffffu) != 0) return NULL;
    if (first >> 14 > 1) return NULL;
    if (first >> 14 == 0 && (first >> 8 & 0x3f) != 0) return NULL;
    return lun_at(nexus, first & 0x3fff);
}

enum scsi_sense attention_take(struct scsi_lun *lun)
{
    static const struct {
        enum scsi_attention what;
        enum scsi_sense sense;
    } order[] = {
        {SCSI_POWER_ON, SENSE_POWER_ON},
        {SCSI_UNIT_RESET, SENSE_UNIT_RESET},
        {SCSI_COMMANDS_CLEARED, SENSE_COMMANDS_CLEARED},
        {SCSI_LUNS_CHANGED, SENSE_LUNS_CHANGED},
        {SCSI_CAPACITY_CHANGED, SENSE_CAPACITY_CHANGED},
        {SCSI_ACCESS_CHANGED, SENSE_ACCESS_CHANGED},
        {SCSI_MODE_CHANGED, SENSE_MODE_CHANGED},
    };
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        if (!(lun->attention & order[i].what)) continue;
        /* Power on clears what came before it; SAM-5 5.14.4 */
        lun->attention = order[i].what == SCSI_POWER_ON ? 0 : lun->attention & (uint8_t)~order[i].what;
        return order[i].sense;
    }
    return SENSE_NONE;
}

uint64_t unit_blocks(const struct scsi_unit *unit)
{
    return volume_bytes(unit->volume) / unit->block_bytes;
}

bool is_write_protected(const struct scsi_command *c)
{
    return c->read_only || c->unit->software_write_protect;
}
