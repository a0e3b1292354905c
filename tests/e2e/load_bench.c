/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The same command again and again, as fast as the target answers. What is written does not compress, or is a file's content,
 * and no two blocks of it are equal. Nothing is checked but the status.
 */
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/prng.h"
#include "e2e/load.h"

enum { BLOCK = BLOCK_SECTORS * SECTOR, SAMPLES_MAX = 1 << 22 };

struct bench {
    const struct load *load;
    struct session sessions[SESSIONS_MAX];
    struct prng prng;
    uint64_t places, next, done;
    uint8_t *content; /* of load->data, NULL: none */
    uint64_t content_bytes, content_at;
    uint32_t *samples; /* latency of each command, in units of 100 ns */
    double end, slowest_us;
};

struct lane {
    struct bench *bench;
    struct session *session;
    uint8_t *data;
    uint64_t lba;
    bool reads;
    struct scsi_iovec iov;
    double sent;
};

static void lane_start(struct lane *lane);
static void lane_send(struct lane *lane);

static void lane_answered(struct iscsi_context *iscsi, int status, void *data, void *arg)
{
    struct lane *lane = arg;
    struct bench *b = lane->bench;
    struct scsi_task *task = data;
    if (session_gone(lane->session, status)) load_fail("a command", iscsi_get_error(iscsi));
    lane->session->under_way--;
    if (status == SCSI_STATUS_CHECK_CONDITION && task->sense.key == SCSI_SENSE_UNIT_ATTENTION) {
        scsi_free_scsi_task(task);
        lane_send(lane); /* the unit says that something about it has changed */
        return;
    }
    if (status != SCSI_STATUS_GOOD) load_fail("a command", iscsi_get_error(iscsi));
    double took = load_now() - lane->sent;
    if (took * 1e6 > b->slowest_us) b->slowest_us = took * 1e6;
    if (b->done < SAMPLES_MAX) b->samples[b->done] = (uint32_t)(took * 1e7);
    b->done++;
    scsi_free_scsi_task(task);
    lane_start(lane);
}

/* No block is like any written before: each has a number of its own in it. */
static void make_unique(struct lane *lane)
{
    struct bench *b = lane->bench;
    if (b->content) {
        if (b->content_bytes - b->content_at < b->load->bytes) b->content_at = 0;
        memcpy(lane->data, b->content + b->content_at, b->load->bytes);
        b->content_at += b->load->bytes;
    }
    for (uint32_t at = 0; at < b->load->bytes; at += BLOCK) {
        uint64_t number = prng_next(&b->prng);
        memcpy(lane->data + at + 64, &number, sizeof number);
    }
}

static void content_read(struct bench *b)
{
    FILE *file = b->load->data ? fopen(b->load->data, "r") : NULL;
    if (!b->load->data) return;
    if (!file || fseek(file, 0, SEEK_END) != 0 || ftell(file) < (long)b->load->bytes) load_fail(b->load->data, "is too short");
    b->content_bytes = (uint64_t)ftell(file);
    b->content = load_alloc(b->content_bytes);
    rewind(file);
    if (fread(b->content, 1, b->content_bytes, file) != b->content_bytes) load_fail(b->load->data, "cannot be read");
    fclose(file);
}

static void lane_start(struct lane *lane)
{
    struct bench *b = lane->bench;
    const struct load *load = b->load;
    lane->sent = load_now();
    if (load->once ? b->next >= b->places : lane->sent >= b->end) return;
    uint64_t place = load->sequential ? b->next % b->places : prng_below(&b->prng, b->places);
    lane->lba = place * (load->bytes / SECTOR);
    lane->reads = prng_below(&b->prng, 100) < load->reads;
    b->next++;
    lane->iov = (struct scsi_iovec){lane->data, load->bytes};
    if (!lane->reads) make_unique(lane);
    lane_send(lane);
}

static void lane_send(struct lane *lane)
{
    const struct load *load = lane->bench->load;
    struct session *s = lane->session;
    struct scsi_task *task = lane->reads ? iscsi_read16_iov_task(s->iscsi, s->lun, lane->lba, load->bytes, SECTOR, 0, 0, 0, 0,
                                                                 0, lane_answered, lane, &lane->iov, 1)
                                         : iscsi_write16_task(s->iscsi, s->lun, lane->lba, lane->data, load->bytes, SECTOR, 0,
                                                              0, 0, 0, 0, lane_answered, lane);
    if (task == NULL) load_fail("a command", iscsi_get_error(s->iscsi));
    s->under_way++;
}

static uint32_t under_way(const struct bench *b, uint32_t sessions)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < sessions; i++) count += b->sessions[i].under_way;
    return count;
}

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void print_bench(struct bench *b, double seconds)
{
    uint64_t samples = b->done < SAMPLES_MAX ? b->done : SAMPLES_MAX;
    qsort(b->samples, samples, sizeof *b->samples, by_size);
    double p50 = samples > 0 ? b->samples[samples / 2] / 10.0 : 0,
           p99 = samples > 0 ? b->samples[samples * 99 / 100] / 10.0 : 0;
    printf("{\"ops\": %.1f, \"mib\": %.2f, \"p50_us\": %.1f, \"p99_us\": %.1f, \"slowest_us\": %.1f, \"commands\": %llu, "
           "\"seconds\": %.3f}\n",
           (double)b->done / seconds, (double)b->done * b->load->bytes / (1 << 20) / seconds, p50, p99, b->slowest_us,
           (unsigned long long)b->done, seconds);
}

int load_bench(const struct load *load)
{
    static struct bench b;
    uint32_t sessions = load->sessions > 0 ? load->sessions : 1;
    struct lane *lanes = load_alloc((size_t)sessions * load->depth * sizeof *lanes);
    b.load = load;
    b.samples = load_alloc((size_t)SAMPLES_MAX * sizeof *b.samples);
    prng_init(&b.prng, load->seed);
    content_read(&b);
    for (uint32_t i = 0; i < sessions; i++) session_open(&b.sessions[i], load, i);
    uint64_t span = b.sessions[0].sectors * SECTOR;
    if (load->span > 0 && load->span < span) span = load->span;
    b.places = span / load->bytes;
    if (b.places == 0) load_fail("the volume", "is smaller than a command");
    double began = load_now();
    b.end = began + (load->seconds > 0 ? load->seconds : 5);
    for (uint32_t i = 0; i < sessions * load->depth; i++) {
        lanes[i] = (struct lane){.bench = &b, .session = &b.sessions[i % sessions], .data = load_alloc(load->bytes)};
        prng_fill(&b.prng, lanes[i].data, load->bytes);
        lane_start(&lanes[i]);
    }
    while (under_way(&b, sessions) > 0) {
        sessions_serve(b.sessions, sessions);
        for (uint32_t i = 0; i < sessions; i++)
            if (b.sessions[i].lost) load_fail("measuring", "the connection is lost");
    }
    print_bench(&b, load_now() - began);
    for (uint32_t i = 0; i < sessions; i++) session_close(&b.sessions[i]);
    return EXIT_FINE;
}
