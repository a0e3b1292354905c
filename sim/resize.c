/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Units that grow and shrink under load.
 *
 * To the judge, cutting blocks off is a write of zeros to each of them that begins with the call and took place when it
 * succeeds: when the unit is large again they read as zeros. In between they are not there: every command keeps the least and
 * the most blocks that the unit may have had in its time, and may be refused for its place only beyond the first, and answered
 * only within the second. A resize that the power cut is decided when the node is up again, by the size that is found.
 */
#include "scsi/unit.h"
#include "sim/serve.h"

static struct serve_unit *unit_now(struct serve *serve)
{
    return &serve->units[serve->resize.unit];
}

static uint64_t bytes_of(const struct serve_unit *unit, uint32_t blocks)
{
    return (uint64_t)blocks * unit->block_bytes;
}

/* The unit may have this size, too, from now on: commands under way may meet it. */
static void may_be(struct serve *serve, uint32_t unit, uint32_t blocks)
{
    for (uint32_t i = 0; i < serve->mix.initiators; i++) {
        struct list *commands = &serve->initiators[i].commands;
        for (struct list *l = commands->next; l != commands; l = l->next) {
            struct command *c = CONTAINER(l, struct command, link);
            if (c->unit != unit) continue;
            c->least = min32(c->least, blocks);
            c->most = c->most > blocks ? c->most : blocks;
        }
    }
}

/* ---- what is cut off ---- */

static void cut_begin(struct serve *serve)
{
    struct resize *r = &serve->resize;
    for (uint32_t i = r->to; i < r->from; i++)
        r->slots[i] = register_begin(unit_now(serve)->registers, i, REGISTER_WRITE, 0, 0);
    for (uint32_t i = r->to; i < r->from; i++)
        if (unit_now(serve)->lost[i] == LOST) unit_now(serve)->lost[i] = MAYBE_LOST;
}

static void cut_end(struct serve *serve, enum register_end end)
{
    struct resize *r = &serve->resize;
    for (uint32_t i = r->to; i < r->from && !lab_failed(serve->lab); i++)
        if (!register_end(unit_now(serve)->registers, i, r->slots[i], end, 0))
            lab_fail(serve->lab, "unit %u block %u: no order explains that it was cut off", r->unit, i);
}

static void decide(struct serve *serve, bool happened)
{
    struct resize *r = &serve->resize;
    cut_end(serve, happened ? REGISTER_DONE : REGISTER_NEVER);
    if (happened) unit_now(serve)->blocks = r->to;
    unit_now(serve)->other_blocks = unit_now(serve)->blocks;
    r->pending = false;
}

/* ---- the task ---- */

/* All who are logged in have to be told. */
static void tell(struct serve *serve)
{
    const struct resize *r = &serve->resize;
    scsi_unit_resized(serve->node.units[r->unit]);
    for (uint32_t i = 0; i < serve->mix.initiators; i++) serve->initiators[i].news[r->unit]++;
}

static void resize_main(void *arg)
{
    struct serve *serve = arg;
    struct resize *r = &serve->resize;
    r->err = volume_resize(volumes_find(serve->node.volumes, r->unit + 1), r->bytes);
    if (r->err == OK && !r->wrong) {
        decide(serve, true);
        tell(serve);
    }
    r->over = true;
}

static void check_end(struct serve *serve)
{
    struct resize *r = &serve->resize;
    sim_say(serve->sim, "unit %u: %u blocks, %s", r->unit, unit_now(serve)->blocks, err_name(r->err));
    if (r->wrong && r->err != ERR_RANGE) lab_fail(serve->lab, "%llu bytes: %s", (unsigned long long)r->bytes, err_name(r->err));
    if (r->wrong || r->err == OK) return;
    bool may = err_class(r->err) == ERR_CLASS_FULL || serve_judge_error(serve, r->err);
    if (!may) lab_fail(serve->lab, "resize: %s", err_name(r->err));
    decide(serve, false);
}

void resize_collect(struct serve *serve)
{
    struct resize *r = &serve->resize;
    if (!r->busy || !r->over) return;
    io_task_done(&r->task);
    r->busy = false;
    check_end(serve);
}

static void start(struct serve *serve)
{
    struct resize *r = &serve->resize;
    r->busy = true;
    r->over = false;
    sim_say(serve->sim, "unit %u: resize from %u blocks to %llu bytes", r->unit, r->from, (unsigned long long)r->bytes);
    if (io_task_start(serve->io, &r->task, resize_main, serve) != OK) lab_fail(serve->lab, "no task for a resize");
}

/* A size that no volume can have: refused, and nothing happens. */
static void start_wrong(struct serve *serve)
{
    struct resize *r = &serve->resize;
    const uint64_t wrong[] = {0, BLOCK_SIZE / 2, (VOLUME_BLOCKS_MAX + 1) * BLOCK_SIZE};
    r->wrong = true;
    r->bytes = wrong[serve_below(serve, 3)];
    start(serve);
}

static void start_to(struct serve *serve, uint32_t blocks)
{
    struct resize *r = &serve->resize;
    struct serve_unit *unit = unit_now(serve);
    r->wrong = false;
    r->from = unit->blocks;
    r->to = blocks;
    r->bytes = bytes_of(unit, blocks);
    if (r->to == r->from) return;
    if (r->to < r->from && !registers_have_room(unit->registers, r->to, r->from - r->to)) return;
    unit->other_blocks = r->to;
    r->pending = true;
    may_be(serve, r->unit, r->to);
    cut_begin(serve);
    start(serve);
}

void resize_some(struct serve *serve)
{
    struct resize *r = &serve->resize;
    resize_collect(serve);
    if (r->busy || lab_failed(serve->lab)) return;
    r->unit = (uint32_t)serve_below(serve, serve->mix.units);
    uint32_t part = BLOCK_SIZE / unit_now(serve)->block_bytes, all = SERVE_REGISTERS / part;
    uint32_t blocks = serve_below(serve, 3) ? part * (1 + (uint32_t)serve_below(serve, all)) : SERVE_REGISTERS;
    if (serve_below(serve, 8) == 0)
        start_wrong(serve);
    else
        start_to(serve, blocks);
}

/* ---- ends ---- */

static bool is_over(void *arg)
{
    const struct serve *serve = arg;
    return serve->resize.over || lab_failed(serve->lab);
}

bool resize_wait(struct serve *serve)
{
    if (serve->resize.busy && !lab_until(serve->lab, is_over, serve, "a resize")) return false;
    resize_collect(serve);
    return !lab_failed(serve->lab);
}

bool resize_all(struct serve *serve)
{
    for (uint32_t i = 0; i < serve->mix.units; i++) {
        if (!resize_wait(serve)) return false;
        serve->resize.unit = i;
        start_to(serve, SERVE_REGISTERS);
    }
    return resize_wait(serve);
}

void resize_crash(struct serve *serve)
{
    struct resize *r = &serve->resize;
    if (r->busy) io_task_done(&r->task);
    r->busy = false;
}

void resize_settle(struct serve *serve)
{
    struct resize *r = &serve->resize;
    for (uint32_t i = 0; i < serve->mix.units; i++) {
        struct serve_unit *unit = &serve->units[i];
        const struct volume *volume = volumes_find(serve->node.volumes, i + 1);
        uint64_t bytes = volume != NULL ? volume_bytes(volume) : 0;
        if (r->pending && r->unit == i) decide(serve, bytes == bytes_of(unit, r->to));
        if (bytes != bytes_of(unit, unit->blocks))
            lab_fail(serve->lab, "unit %u has %llu bytes, not %u blocks", i, (unsigned long long)bytes, unit->blocks);
    }
}
