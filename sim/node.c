/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The node that serves: its life on top of the laboratory's pool (lab.h).
 *
 * What waits runs in one task. When the power goes, the task is dropped and everything is freed where it stands, from the top
 * down: targets before units before volumes before the store, each by its own abandon.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/serve.h"

enum { GRACE_MS = 2000 };

/* ---- what initiators may do ---- */

static bool admit(void *arg, const char *initiator, struct iscsi_access *ret_access)
{
    struct serve *serve = arg;
    for (uint32_t i = 0; i < serve->mix.initiators; i++) {
        if (strcmp(serve->initiators[i].name, initiator) != 0 || serve->initiators[i].banned_ns == UINT64_MAX) continue;
        serve_access(serve, serve->initiators[i].as, ret_access);
        return true;
    }
    return false;
}

static uint32_t luns(void *arg, const char *initiator, struct iscsi_lun *ret_luns)
{
    struct serve *serve = arg;
    (void)initiator;
    for (uint32_t i = 0; i < serve->mix.units; i++)
        ret_luns[i] = (struct iscsi_lun){.lun = (uint16_t)i, .unit = serve->node.units[i]};
    return serve->mix.units;
}

/* ---- starting ---- */

static enum err open_units(struct serve *serve)
{
    static const uint8_t pool_id[16] = "simulated";
    struct node *node = &serve->node;
    for (uint32_t i = 0; i < serve->mix.units; i++) {
        struct volume *volume = volumes_find(node->volumes, i + 1);
        uint64_t bytes = round_up64((uint64_t)SERVE_REGISTERS * serve->mix.block_bytes[i], BLOCK_SIZE);
        if (volume == NULL) TRY(volume_create(node->volumes, bytes, &volume));
        struct scsi_unit_config c = {.volume = volume, .block_bytes = serve->mix.block_bytes[i]};
        scsi_unit_identify(&c, pool_id, volume_id(volume));
        TRY(scsi_unit_open(&c, &node->units[i]));
    }
    return OK;
}

static enum err open_all(struct serve *serve)
{
    struct node *node = &serve->node;
    struct volumes_config volumes = {.io = serve->io, .store = serve->lab->store, .requests = serve->mix.requests};
    struct iscsi_target_config target = serve->mix.target;
    TRY(volumes_open(&volumes, &node->volumes));
    TRY(open_units(serve));
    resize_settle(serve);
    target.io = serve->io;
    target.name = SERVE_TARGET;
    target.listen[0] = SERVE_ADDRESS;
    target.listen_count = 1;
    target.rules = (struct iscsi_rules){.admit = admit, .luns = luns, .arg = serve};
    return iscsi_target_open(&target, &node->target, NULL);
}

static void start_main(void *arg)
{
    struct serve *serve = arg;
    serve->node.err = open_all(serve);
    serve->node.over = true;
}

static void stop_main(void *arg)
{
    struct serve *serve = arg;
    struct node *node = &serve->node;
    iscsi_target_close(node->target, GRACE_MS);
    node->target = NULL;
    for (uint32_t i = 0; i < SERVE_UNITS; i++) {
        scsi_unit_close(node->units[i]);
        node->units[i] = NULL;
    }
    volumes_close(node->volumes);
    node->volumes = NULL;
    node->over = true;
}

static bool is_over(void *arg)
{
    const struct serve *serve = arg;
    return serve->node.over || lab_failed(serve->lab);
}

/* False: the power went, or it hangs. */
static bool node_run(struct serve *serve, void (*main)(void *arg), const char *what)
{
    struct node *node = &serve->node;
    node->over = false;
    node->err = OK;
    node->busy = true;
    if (io_task_start(serve->io, &node->task, main, serve) != OK) abort();
    if (!lab_until(serve->lab, is_over, serve, what) || !node->over) return false;
    io_task_done(&node->task);
    node->busy = false;
    return true;
}

bool node_start(struct serve *serve)
{
    struct lab *lab = serve->lab;
    for (;;) {
        enum err err = lab_store_open(lab);
        if (err != OK) lab_fail(lab, "open: %s: %s", err_name(err), lab->problem.text);
        if (lab_failed(lab)) return false;
        if (node_run(serve, start_main, "the start of the node")) break;
        if (lab_failed(lab)) return false;
        node_crash(serve);
    }
    if (serve->node.err != OK) lab_fail(lab, "the node does not start: %s", err_name(serve->node.err));
    return !lab_failed(lab);
}

/* ---- ending ---- */

/* Whatever the initiators still wait for took place or never will. */
static void settle_all(struct serve *serve)
{
    for (uint32_t i = 0; i < serve->mix.initiators; i++) initiator_settle(&serve->initiators[i]);
}

bool node_stop(struct serve *serve)
{
    struct lab *lab = serve->lab;
    sim_say(serve->sim, "the node stops");
    if (!resize_wait(serve) || !node_run(serve, stop_main, "the end of the node")) return false;
    enum err err = lab_run(lab, TASK_CLOSE, 0, 0);
    if (sim_is_off(serve->sim) || lab_failed(lab)) return false;
    if (err != OK && serve_judge_error(serve, err)) return false;
    if (err != OK) lab_fail(lab, "close: %s", err_name(err));
    for (uint32_t i = 0; i < serve->mix.initiators; i++) initiator_drop(&serve->initiators[i]);
    settle_all(serve);
    return !lab_failed(lab);
}

void node_crash(struct serve *serve)
{
    struct node *node = &serve->node;
    sim_power_cut(serve->sim);
    for (struct list *l; (l = serve->wires.next) != &serve->wires;) wire_power_cut(CONTAINER(l, struct wire, link));
    for (uint32_t i = 0; i < serve->mix.initiators; i++) initiator_power_cut(&serve->initiators[i]);
    if (node->busy) io_task_done(&node->task);
    resize_crash(serve);
    node->busy = false;
    iscsi_target_abandon(node->target);
    for (uint32_t i = 0; i < SERVE_UNITS; i++) scsi_unit_abandon(node->units[i]);
    volumes_abandon(node->volumes);
    memset(node, 0, sizeof *node);
    lab_crash(serve->lab);
    settle_all(serve);
}
