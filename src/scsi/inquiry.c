/* SPDX-License-Identifier: Apache-2.0 */
/*
 * INQUIRY and the vital product data pages (SPC-4 6.4, 7.8; SBC-3 6.5). Vendor and product are what multipath software and
 * hypervisors key their rules on: they stay as they are.
 */
#include <string.h>

#include "scsi/internal.h"

#define VENDOR "IZAR"
#define PRODUCT "VOLUME"
#define REVISION "1"

/* Text padded with blanks, not terminated. */
static void put_text(uint8_t *to, size_t size, const char *text)
{
    size_t length = strlen(text);
    memset(to, ' ', size);
    memcpy(to, text, length < size ? length : size);
}

bool plan_inquiry(struct scsi_command *c)
{
    if (!(c->cdb[1] & 1) && c->cdb[2] != 0) return sense_field(c, 2);
    return plan_answer(c);
}

static uint32_t standard(const struct scsi_command *c, uint8_t *a)
{
    static const uint16_t versions[] = {0x00a0 /* SAM-5 */, 0x0960 /* iSCSI */, 0x0460 /* SPC-4 */, 0x04c0 /* SBC-3 */};
    a[0] = c->unit != NULL ? 0 : 0x7f; /* 7f: nothing here */
    a[2] = 6;                          /* SPC-4 */
    a[3] = 0x12;                       /* HISUP, response format 2 */
    a[4] = 96 - 5;
    if (c->unit != NULL) a[5] = access_tpgs(c->unit);
    a[7] = 0x02; /* CMDQUE */
    put_text(a + 8, 8, VENDOR);
    put_text(a + 16, 16, PRODUCT);
    put_text(a + 32, 4, REVISION);
    for (size_t i = 0; i < sizeof versions / sizeof versions[0]; i++) be16_to(a + 58 + 2 * i, versions[i]);
    return 96;
}

static uint32_t page_begin(uint8_t *a, uint8_t page, uint16_t length)
{
    a[1] = page;
    be16_to(a + 2, length);
    return 4u + length;
}

static uint32_t page_serial(const struct scsi_command *c, uint8_t *a)
{
    size_t length = strlen(c->unit->config.serial);
    memcpy(a + 4, c->unit->config.serial, length);
    return page_begin(a, 0x80, (uint16_t)length);
}

/* One designation descriptor; returns where the next begins. */
static uint8_t *designator(uint8_t *at, uint8_t code_set, uint8_t kind, const void *bytes, uint8_t length)
{
    at[0] = (uint8_t)((kind & 0x10 ? 0x50 : 0x00) | code_set); /* of the port: protocol iSCSI */
    at[1] = (uint8_t)((kind & 0x10 ? 0x80 : 0x00) | kind);
    at[3] = length;
    memcpy(at + 4, bytes, length);
    return at + 4 + length;
}

/* NAA first: it alone names the unit, the same through every port of every node. */
static uint32_t page_identification(const struct scsi_command *c, uint8_t *a)
{
    const struct scsi_unit_config *unit = &c->unit->config;
    uint8_t *at = designator(a + 4, 1, 0x03, unit->naa, sizeof unit->naa);
    uint8_t bytes[128];
    put_text(bytes, 8, VENDOR);
    size_t length = strlen(unit->serial);
    memcpy(bytes + 8, unit->serial, length);
    at = designator(at, 2, 0x01, bytes, (uint8_t)(8 + length));
    memset(bytes, 0, 4);
    be16_to(bytes + 2, c->nexus->port_id);
    at = designator(at, 1, 0x14, bytes, 4); /* relative target port */
    be16_to(bytes + 2, c->nexus->port_group);
    at = designator(at, 1, 0x15, bytes, 4); /* target port group */
    char name[256];
    memset(name, 0, sizeof name);
    strncpy(name, c->nexus->port_name, 250);
    at = designator(at, 3, 0x18, name, (uint8_t)((strlen(name) + 4) / 4 * 4)); /* SCSI name string: terminated, padded */
    return page_begin(a, 0x83, (uint16_t)(at - a - 4));
}

static uint32_t page_extended(const struct scsi_command *c, uint8_t *a)
{
    (void)c;
    a[5] = 0x07; /* HEADSUP, ORDSUP, SIMPSUP */
    a[6] = 0x00; /* V_SUP 0: no volatile cache */
    a[7] = 0x01; /* LUICLR */
    return page_begin(a, 0x86, 60);
}

/* Block limits (SBC-3 6.5.3). */
static uint32_t page_limits(const struct scsi_command *c, uint8_t *a)
{
    uint32_t one = c->unit->block_bytes;
    a[4] = 1; /* WSNZ */
    a[5] = (uint8_t)(CAW_BYTES_MAX / one);
    be16_to(a + 6, (uint16_t)(BLOCK_SIZE / one));       /* optimal transfer length granularity */
    be32_to(a + 8, SCSI_TRANSFER_MAX / one);            /* maximum transfer length */
    be32_to(a + 12, SCSI_PIECE / one);                  /* optimal transfer length */
    be32_to(a + 20, (uint32_t)(UNMAP_BYTES_MAX / one)); /* maximum unmap LBA count */
    be32_to(a + 24, UNMAP_DESCRIPTORS_MAX);
    be32_to(a + 28, BLOCK_SIZE / one); /* optimal unmap granularity */
    be32_to(a + 32, 0x80000000u);      /* UGAVALID, alignment 0 */
    be64_to(a + 36, WRITE_SAME_BYTES_MAX / one);
    return page_begin(a, 0xb0, 60);
}

static uint32_t page_characteristics(const struct scsi_command *c, uint8_t *a)
{
    (void)c;
    be16_to(a + 4, 1); /* does not rotate */
    return page_begin(a, 0xb1, 60);
}

static uint32_t page_provisioning(const struct scsi_command *c, uint8_t *a)
{
    (void)c;
    a[5] = 0xe4; /* LBPU, LBPWS, LBPWS10, LBPRZ 1: what is unmapped reads as zero */
    a[6] = 0x02; /* thin */
    return page_begin(a, 0xb2, 4);
}

static uint32_t page_supported(const struct scsi_command *c, uint8_t *a);

static const struct {
    uint8_t code;
    uint32_t (*fill)(const struct scsi_command *c, uint8_t *a);
} pages[] = {
    {0x00, page_supported}, {0x80, page_serial},          {0x83, page_identification}, {0x86, page_extended},
    {0xb0, page_limits},    {0xb1, page_characteristics}, {0xb2, page_provisioning},
};
enum { PAGES = sizeof pages / sizeof pages[0] };

static uint32_t page_supported(const struct scsi_command *c, uint8_t *a)
{
    (void)c;
    for (size_t i = 0; i < PAGES; i++) a[4 + i] = pages[i].code;
    return page_begin(a, 0x00, PAGES);
}

void run_inquiry(struct scsi_command *c)
{
    uint8_t *a = answer_begin(c);
    uint32_t allocation = be16_at(c->cdb + 3);
    if (!(c->cdb[1] & 1)) {
        answer_end(c, standard(c, a), allocation);
        return;
    }
    for (size_t i = 0; i < PAGES && c->unit != NULL; i++) {
        if (pages[i].code != c->cdb[2]) continue;
        answer_end(c, pages[i].fill(c, a), allocation);
        return;
    }
    sense_field(c, 2);
    command_finish(c);
}
