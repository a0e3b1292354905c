/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An initiator that writes and reads back what it can compute: many commands of many sizes under way at once, on one session.
 *
 *     izar-initiator URL SEED ROUNDS [digest] [no-immediate]
 *
 * Each slot of 1 MiB belongs to one lane. A lane writes a stretch of random place and length in its slot, reads it back,
 * compares, and goes on; at the end all slots are read and compared with what was last written. Exit 0: everything was equal.
 */
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/prng.h"

enum { LANES = 8, SLOT = 1 << 20, SECTOR = 512 };

struct lane {
    uint32_t index, rounds;
    uint32_t from, bytes; /* of the stretch at hand, in the slot */
    bool reading, over;
    uint8_t model[SLOT];
    uint8_t *got;
};

static struct iscsi_context *iscsi;
static struct prng prng;
static struct lane lanes[LANES];
static int lun, busy;

static void fail(const char *what)
{
    fprintf(stderr, "izar-initiator: %s: %s\n", what, iscsi_get_error(iscsi));
    exit(1);
}

static void step(struct lane *lane);

static void answered(struct iscsi_context *context, int status, void *data, void *arg)
{
    struct scsi_task *task = data;
    struct lane *lane = arg;
    (void)context;
    if (status != SCSI_STATUS_GOOD) {
        fprintf(stderr, "status %d at %u+%u\n", status, lane->index * SLOT + lane->from, lane->bytes);
        fail("command failed");
    }
    if (lane->reading) {
        if (task->datain.size != (int)lane->bytes) fail("short read");
        if (memcmp(task->datain.data, lane->model + lane->from, lane->bytes) != 0) {
            fprintf(stderr, "lane %u, %u bytes at %u\n", lane->index, lane->bytes, lane->from);
            fail("data differs");
        }
    }
    scsi_free_scsi_task(task);
    busy--;
    lane->reading = !lane->reading;
    if (lane->reading || lane->rounds-- > 0) step(lane);
}

static void choose(struct lane *lane)
{
    uint32_t most = prng_chance(&prng, 300000) ? SLOT / SECTOR : prng_chance(&prng, 500000) ? 256 : 16;
    uint32_t sectors = 1 + (uint32_t)prng_below(&prng, most);
    lane->bytes = sectors * SECTOR;
    lane->from = (uint32_t)prng_below(&prng, SLOT / SECTOR - sectors + 1) * SECTOR;
    prng_fill(&prng, lane->model + lane->from, lane->bytes);
}

static void step(struct lane *lane)
{
    if (!lane->reading) choose(lane);
    uint32_t lba = (lane->index * SLOT + lane->from) / SECTOR;
    struct scsi_task *task =
        lane->reading
            ? iscsi_read10_task(iscsi, lun, lba, lane->bytes, SECTOR, 0, 0, 0, 0, 0, answered, lane)
            : iscsi_write10_task(iscsi, lun, lba, lane->model + lane->from, lane->bytes, SECTOR, 0, 0, 0, 0, 0, answered, lane);
    if (task == NULL) fail("cannot send");
    busy++;
}

static void serve(void)
{
    while (busy > 0) {
        struct pollfd fd = {.fd = iscsi_get_fd(iscsi), .events = (short)iscsi_which_events(iscsi)};
        if (poll(&fd, 1, 30000) <= 0) fail("no answer for 30 s");
        if (iscsi_service(iscsi, fd.revents) < 0) fail("connection");
    }
}

static bool has(int argc, char **argv, const char *word)
{
    for (int i = 4; i < argc; i++)
        if (strcmp(argv[i], word) == 0) return true;
    return false;
}

int main(int argc, char **argv)
{
    if (argc < 4) return 2;
    prng_init(&prng, strtoull(argv[2], NULL, 0));
    iscsi = iscsi_create_context("iqn.2026-01.example.izar:initiator");
    struct iscsi_url *url = iscsi_parse_full_url(iscsi, argv[1]);
    if (url == NULL) fail("URL");
    lun = url->lun;
    iscsi_set_session_type(iscsi, ISCSI_SESSION_NORMAL);
    iscsi_set_header_digest(iscsi, has(argc, argv, "digest") ? ISCSI_HEADER_DIGEST_CRC32C : ISCSI_HEADER_DIGEST_NONE);
    iscsi_set_immediate_data(iscsi, has(argc, argv, "no-immediate") ? ISCSI_IMMEDIATE_DATA_NO : ISCSI_IMMEDIATE_DATA_YES);
    if (iscsi_full_connect_sync(iscsi, url->portal, lun) != 0) fail("login");
    for (uint32_t i = 0; i < LANES; i++) {
        lanes[i].index = i;
        lanes[i].rounds = (uint32_t)strtoul(argv[3], NULL, 0);
    }
    for (uint32_t i = 0; i < LANES; i++) { /* all of the slot once, so that the model is known */
        lanes[i].bytes = SLOT;
        prng_fill(&prng, lanes[i].model, SLOT);
        struct scsi_task *task = iscsi_write10_task(iscsi, lun, i * (SLOT / SECTOR), lanes[i].model, SLOT, SECTOR, 0, 0, 0, 0,
                                                    0, answered, &lanes[i]);
        if (task == NULL) fail("cannot send");
        busy++;
    }
    serve();
    for (uint32_t i = 0; i < LANES; i++) {
        struct scsi_task *task = iscsi_read10_sync(iscsi, lun, i * (SLOT / SECTOR), SLOT, SECTOR, 0, 0, 0, 0, 0);
        if (task == NULL || task->status != SCSI_STATUS_GOOD) fail("last read");
        if (memcmp(task->datain.data, lanes[i].model, SLOT) != 0) fail("data differs at the end");
        scsi_free_scsi_task(task);
    }
    iscsi_logout_sync(iscsi);
    iscsi_destroy_url(url);
    iscsi_destroy_context(iscsi);
    return 0;
}
