/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A target for tests: one pool in a file, volumes as its arguments say, one iSCSI target, no management.
 *
 *     izar-target --pool FILE --listen ADDRESS [--pool-bytes N] [--volume BYTES[:BLOCK]]... [--initiator NAME]
 *                 [--chap USER:SECRET] [--mutual USER:SECRET] [--memory BYTES] [--nop MS] [--login MS] [--window N]
 *
 * Makes the pool and the volumes when the file is not there, else uses them as they are, in the order of their ids. LUN 0 is
 * the first volume. Prints "ready ADDRESS" when it serves; SIGTERM ends it cleanly.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "iscsi/target.h"

enum { VOLUMES = 16 };

static struct node {
    const char *pool, *listen, *initiator;
    uint64_t pool_bytes, memory;
    uint64_t volume_bytes[VOLUMES];
    uint32_t block_bytes[VOLUMES], wanted;
    struct iscsi_access access;
    uint32_t nop_ms, login_ms, window;
    struct io_group *group;
    struct io *io;
    struct io_task task;
    struct store *store;
    struct volumes *volumes;
    struct scsi_unit *units[VOLUMES];
    uint32_t unit_count;
    struct iscsi_target *target;
    int exit;
} node;

static volatile sig_atomic_t asked_to_stop;

static void on_signal(int number)
{
    (void)number;
    asked_to_stop = 1;
}

static bool admit(void *arg, const char *initiator, struct iscsi_access *ret_access)
{
    (void)arg;
    *ret_access = node.access;
    return node.initiator == NULL || strcmp(initiator, node.initiator) == 0;
}

static uint32_t luns(void *arg, const char *initiator, struct iscsi_lun *ret_luns)
{
    (void)arg;
    (void)initiator;
    for (uint32_t i = 0; i < node.unit_count; i++) ret_luns[i] = (struct iscsi_lun){.lun = (uint16_t)i, .unit = node.units[i]};
    return node.unit_count;
}

/* ---- opening and closing ---- */

static bool good(enum err err, const char *what)
{
    if (err == OK) return true;
    fprintf(stderr, "izar-target: %s: %s (%s)\n", what, err_text(err), err_name(err));
    node.exit = 1;
    return false;
}

static bool open_pool(void)
{
    struct store_problem problem = {""};
    bool fresh = access(node.pool, F_OK) != 0;
    if (fresh) {
        struct store_format_config f = {.devices = {{node.pool, DEVICE_FLASH}}, .device_count = 1, .size = node.pool_bytes};
        if (!good(store_format(node.io, &f), "format")) return false;
    }
    struct store_config c = {.devices = {{node.pool, DEVICE_FLASH}}, .device_count = 1, .memory = node.memory};
    if (!good(store_open(node.io, &c, &node.store, &problem), problem.text)) return false;
    struct volumes_config v = {.io = node.io, .store = node.store};
    if (!good(volumes_open(&v, &node.volumes), "volumes")) return false;
    for (uint32_t i = 0; fresh && i < node.wanted; i++) {
        struct volume *volume;
        if (!good(volume_create(node.volumes, node.volume_bytes[i], &volume), "create")) return false;
    }
    return true;
}

static bool open_units(void)
{
    static const uint8_t pool_id[16] = "izar-target test";
    for (struct volume *v = volumes_next(node.volumes, 0); v != NULL && node.unit_count < VOLUMES;
         v = volumes_next(node.volumes, volume_id(v) + 1)) {
        uint32_t i = node.unit_count;
        struct scsi_unit_config c = {.volume = v, .block_bytes = node.block_bytes[i] ? node.block_bytes[i] : 512};
        scsi_unit_identify(&c, pool_id, volume_id(v));
        if (!good(scsi_unit_open(&c, &node.units[i]), "unit")) return false;
        node.unit_count++;
    }
    return true;
}

static bool open_target(void)
{
    char text[IO_ADDRESS_TEXT];
    struct iscsi_target_config c = {.io = node.io,
                                    .name = "iqn.2026-01.example.izar:test",
                                    .listen = {node.listen},
                                    .listen_count = 1,
                                    .rules = {.admit = admit, .luns = luns},
                                    .nop_interval_ms = node.nop_ms,
                                    .nop_timeout_ms = node.nop_ms,
                                    .login_timeout_ms = node.login_ms,
                                    .window = node.window};
    if (!good(iscsi_target_open(&c, &node.target, NULL), node.listen)) return false;
    printf("ready %s\n", iscsi_target_address(node.target, 0, text, sizeof text));
    fflush(stdout);
    return true;
}

static void serve(void *arg)
{
    (void)arg;
    if (open_pool() && open_units() && open_target()) {
        while (!asked_to_stop) io_task_sleep(node.io, 50000000);
        iscsi_target_close(node.target, 1000);
    }
    for (uint32_t i = 0; i < node.unit_count; i++) scsi_unit_close(node.units[i]);
    volumes_close(node.volumes);
    if (node.store != NULL) good(store_close(node.store), "close");
    io_group_stop(node.group);
}

static void start(struct io *loop0, void *arg)
{
    (void)arg;
    node.io = loop0;
    if (!good(io_task_start(loop0, &node.task, serve, NULL), "start")) io_group_stop(node.group);
}

/* ---- arguments ---- */

static void secret_from(const char *text, struct iscsi_chap *ret)
{
    const char *colon = strchr(text, ':');
    if (colon == NULL) exit(2);
    snprintf(ret->user, sizeof ret->user, "%.*s", (int)(colon - text), text);
    snprintf(ret->secret, sizeof ret->secret, "%s", colon + 1);
}

static void take(const char *option, const char *value)
{
    const char *colon = strchr(value, ':');
    if (strcmp(option, "--pool") == 0) {
        node.pool = value;
    } else if (strcmp(option, "--listen") == 0) {
        node.listen = value;
    } else if (strcmp(option, "--pool-bytes") == 0) {
        node.pool_bytes = strtoull(value, NULL, 0);
    } else if (strcmp(option, "--memory") == 0) {
        node.memory = strtoull(value, NULL, 0);
    } else if (strcmp(option, "--initiator") == 0) {
        node.initiator = value;
    } else if (strcmp(option, "--chap") == 0) {
        secret_from(value, &node.access.initiator);
    } else if (strcmp(option, "--mutual") == 0) {
        secret_from(value, &node.access.target);
    } else if (strcmp(option, "--nop") == 0) {
        node.nop_ms = (uint32_t)strtoul(value, NULL, 0);
    } else if (strcmp(option, "--login") == 0) {
        node.login_ms = (uint32_t)strtoul(value, NULL, 0);
    } else if (strcmp(option, "--window") == 0) {
        node.window = (uint32_t)strtoul(value, NULL, 0);
    } else if (strcmp(option, "--volume") == 0 && node.wanted < VOLUMES) {
        node.volume_bytes[node.wanted] = strtoull(value, NULL, 0);
        node.block_bytes[node.wanted++] = colon != NULL ? (uint32_t)strtoul(colon + 1, NULL, 0) : 512;
    } else {
        fprintf(stderr, "izar-target: unknown option %s\n", option);
        exit(2);
    }
}

int main(int argc, char **argv)
{
    node.pool_bytes = 1ull << 30;
    node.memory = 128u << 20;
    for (int i = 1; i + 1 < argc; i += 2) take(argv[i], argv[i + 1]);
    if (node.pool == NULL || node.listen == NULL) return 2;
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    signal(SIGPIPE, SIG_IGN);
    if (!good(io_group_open(&(struct io_config){.backend = IO_BACKEND_AUTO}, &node.group), "io")) return 1;
    io_group_run(node.group, start, NULL);
    io_task_done(&node.task);
    io_group_close(node.group);
    return node.exit;
}
