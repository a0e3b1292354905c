/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of the pool in the laboratory: format, open, crash, close, and the tasks that wait for it.
 *
 * The story itself is no task: it runs the world with sim_run_until. What waits inside the store runs in a lab_task. When
 * the power goes while the story's own task is inside store_format, store_open or the auditor, which hold memory of their
 * own, that task is run to its end with the power off; all other tasks are dropped after store_abandon.
 */
#include "sim/lab.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "store/mutation.h"
#ifdef IZAR_AUDIT
#include "store/audit.h"
#endif

enum mutation store_mutation;

/* ---- failing ---- */

void lab_fail(struct lab *lab, const char *format, ...)
{
    if (lab_failed(lab)) return;
    va_list args;
    va_start(args, format);
    vsnprintf(lab->failure, sizeof lab->failure, format, args);
    va_end(args);
    sim_say(lab->sim, "FAILED: %s", lab->failure);
}

bool lab_failed(const struct lab *lab)
{
    return lab->failure[0] != '\0';
}

bool lab_until(struct lab *lab, bool (*done)(void *arg), void *arg, const char *what)
{
    char text[160] = "";
    if (lab_failed(lab) || sim_is_off(lab->sim)) return false;
    switch (sim_run_until(lab->sim, done, arg)) {
    case SIM_DONE: return true;
    case SIM_OFF: return false;
    case SIM_IDLE:
    case SIM_LIMIT: break;
    }
    if (lab->store) store_text(lab->store, text, sizeof text);
    lab_fail(lab, "hangs: %s; %s", what, text);
    return false;
}

/* ---- tasks ---- */

static void changed_each(void *arg, uint64_t lba, uint32_t count)
{
    struct lab_task *task = arg;
    const struct model_volume *v = &task->lab->volumes[task->volume].model;
    for (uint32_t w = 0; w < v->window_count; w++) {
        const struct window *window = &v->windows[w];
        uint64_t from = max64(lba, window->lba), to = min64(lba + count, window->lba + window->count);
        if (from < to) memset(&task->changed[window->cell + (from - window->lba)], 1, to - from);
    }
}

/* What the map of a stretch says of blocks that the model knows. */
static void changed_in(struct lab_task *task, uint64_t lba, uint32_t count, const struct store_changes *changes)
{
    const struct model_volume *v = &task->lab->volumes[task->volume].model;
    for (uint32_t w = 0; w < v->window_count && changes->changed > 0; w++) {
        const struct window *window = &v->windows[w];
        uint64_t to = min64(lba + count, window->lba + window->count);
        for (uint64_t at = max64(lba, window->lba); at < to; at++)
            if (changes->map[(at - lba) / 8] >> ((at - lba) % 8) & 1) task->changed[window->cell + (at - window->lba)] = 1;
    }
}

/* The same by a cursor, in stretches of any size. Where very much has changed the rest is not looked at. */
static enum err task_walk(struct lab_task *task)
{
    struct store_changes changes;
    struct lab *lab = task->lab;
    uint32_t id = lab->volumes[task->volume].model.id;
    uint64_t lba = 0;
    for (uint32_t calls = 0; lba != UINT64_MAX && calls < 300; calls++, lba = changes.next) {
        uint32_t count = (uint32_t)prng_below(&lab->prng, 2) ? STORE_CHANGES_MAX : 1 + (uint32_t)prng_below(&lab->prng, 3000);
        if (lba % LEAF_BLOCKS == 0 && prng_below(&lab->prng, 2)) count = (uint32_t)round_up64(count, LEAF_BLOCKS);
        TRY(store_changes_in(lab->store, id, task->sequence, lba, count, &changes));
        changed_in(task, lba, count, &changes);
        io_task_yield();
    }
    for (; lba < VOLUME_BLOCKS_MAX; lba += UINT32_MAX) changed_each(task, lba, UINT32_MAX);
    return OK;
}

static enum err task_format(struct lab *lab)
{
    struct store_format_config config = {.device_count = lab->config.device_count, .segment_shift = (uint8_t)lab->mix.shift};
    memcpy(config.devices, lab->config.devices, sizeof config.devices);
    snprintf(config.name, sizeof config.name, "lab");
    return store_format(lab->io, &config);
}

#ifdef IZAR_AUDIT
static void audit_says(void *arg, bool problem, const char *text)
{
    struct lab *lab = arg;
    sim_say(lab->sim, "auditor: %s: %s", problem ? "PROBLEM" : "warning", text);
    if (problem && lab->finding[0] == '\0') snprintf(lab->finding, sizeof lab->finding, "%s", text);
}
#endif

static enum err task_audit(struct lab_task *task)
{
    struct lab *lab = task->lab;
    lab->finding[0] = '\0';
    task->problems = 0;
#ifdef IZAR_AUDIT
    static struct audit_report report; /* too large for a task's stack */
    memset(&report, 0, sizeof report);
    report.say = audit_says;
    report.arg = lab;
    enum err err = audit_pool(lab->io, &lab->config, &report);
    task->problems = report.problems;
    if (err != OK) snprintf(lab->finding, sizeof lab->finding, "%s", report.sentence);
    return err;
#else
    return OK;
#endif
}

static void task_main(void *arg)
{
    struct lab_task *task = arg;
    struct lab *lab = task->lab;
    uint32_t id = lab->volumes[task->volume].model.id;
    switch (task->kind) {
    case TASK_FORMAT: task->err = task_format(lab); break;
    case TASK_OPEN: {
        struct store *store = NULL;
        lab->problem.text[0] = '\0';
        task->err = store_open(lab->io, &lab->config, &store, &lab->problem);
        lab->store = task->err == OK ? store : NULL;
        break;
    }
    case TASK_CLOSE:
        task->err = store_close(lab->store);
        lab->store = NULL;
        pledge_forget(lab);
        break;
    case TASK_DISCARD: task->err = store_discard(lab->store, id, task->sequence); break;
    case TASK_CHECKPOINT: task->err = store_checkpoint(lab->store, false); break;
    case TASK_FLUSH: task->err = store_checkpoint(lab->store, true); break;
    case TASK_CLEAN: task->err = store_clean(lab->store, &task->gained); break;
    case TASK_DIGEST: task->err = store_volume_digest(lab->store, id, &task->digest_of, task->digest); break;
    case TASK_CHANGED: task->err = store_changed_since(lab->store, id, task->sequence, changed_each, task); break;
    case TASK_WALK: task->err = task_walk(task); break;
    case TASK_AUDIT: task->err = task_audit(task); break;
    }
    task->finished = true;
}

void lab_task_start(struct lab *lab, struct lab_task *task, enum task_kind kind, uint32_t volume, uint64_t sequence)
{
    static const char *const names[] = {"format", "open",   "close",         "discard", "checkpoint", "flush and checkpoint",
                                        "clean",  "digest", "changed since", "walk",    "audit"};
    memset(task, 0, sizeof *task);
    task->lab = lab;
    task->kind = kind;
    task->used = true;
    task->volume = volume;
    task->sequence = sequence;
    task->published = lab->volumes[volume].model.now.sequence;
    task->turns = lab->volumes[volume].learn.turns;
    sim_say(lab->sim, "%s (volume %u, sequence %llu)", names[kind], lab->volumes[volume].model.id,
            (unsigned long long)sequence);
    if (io_task_start(lab->io, &task->task, task_main, task) != OK) abort();
}

static bool task_is_over(void *arg)
{
    const struct lab_task *task = arg;
    return task->finished;
}

enum err lab_run(struct lab *lab, enum task_kind kind, uint32_t volume, uint64_t sequence)
{
    struct lab_task *task = &lab->main_task;
    lab_task_start(lab, task, kind, volume, sequence);
    bool over = lab_until(lab, task_is_over, task, "a task of the store");
    bool unwinds = kind == TASK_FORMAT || kind == TASK_OPEN || kind == TASK_AUDIT;
    if (!over && unwinds && sim_is_off(lab->sim)) sim_run_until(lab->sim, task_is_over, task);
    if (!task->finished) return ERR_POWER; /* dropped by lab_crash */
    task->used = false;
    if (sim_is_off(lab->sim)) return ERR_POWER;
    sim_note(lab->sim, task->err);
    if (task->err != OK) sim_say(lab->sim, "... %s %s", err_name(task->err), kind == TASK_OPEN ? lab->problem.text : "");
    return task->err;
}

/* ---- opening, crashing ---- */

enum err lab_store_open(struct lab *lab)
{
    enum { CUTS_MAX = 60 };
    for (uint32_t cuts = 0;; cuts++) {
        if (!lab->mix.cut_in_recovery || cuts >= CUTS_MAX)
            sim_cut_at(lab->sim, 0);
        else if (prng_chance(&lab->prng, lab->mix.cut_in_recovery))
            sim_cut_at(lab->sim, 1 + prng_below(&lab->prng, 12));
        enum err err = lab_run(lab, TASK_OPEN, 0, 0);
        if (lab_failed(lab) || !sim_is_off(lab->sim)) return err;
        lab_crash(lab);
    }
}

void lab_crash(struct lab *lab)
{
    char text[160] = "";
    sim_power_cut(lab->sim);
    lab->crashes++;
    if (lab->store) {
        sim_say(lab->sim, "abandoned: %s", store_text(lab->store, text, sizeof text));
        store_abandon(lab->store);
    }
    lab->store = NULL;
    pledge_forget(lab);
    if (lab->main_task.used) io_task_done(&lab->main_task.task);
    lab->main_task.used = false;
    workload_forget(lab);
    if (sim_files_open(lab->sim) > 0) lab_fail(lab, "%u files are still open after the crash", sim_files_open(lab->sim));
    if (sim_struck(lab->sim, SIM_LIE) > 0) lab->lied = true;
    sim_power_on(lab->sim);
    lab->failed = false;
    lab->full = false;
    for (uint32_t i = 0; i < lab->volume_count; i++) lab->volumes[i].stuck = false;
}

uint64_t lab_audit(struct lab *lab, enum err *ret_err)
{
    sim_cut_at(lab->sim, 0);
    *ret_err = lab_run(lab, TASK_AUDIT, 0, 0);
    return lab->main_task.problems;
}

/* ---- damage ---- */

static uint64_t data_starts(const struct lab *lab, const char *disk)
{
    for (uint32_t i = 0; i < lab->config.device_count; i++)
        if (strcmp(lab->names[i], disk) == 0) return lab->data_at[i];
    return 0;
}

bool lab_is_damaged(const struct lab *lab)
{
    struct sim_damage damage;
    for (uint32_t i = 0; sim_damage(lab->sim, i, &damage); i++)
        if (i > 0 || damage.fault == SIM_MISDIRECTED || damage.offset >= data_starts(lab, damage.disk)) return true;
    return lab->damaged;
}

/* ---- life ---- */

struct lab *lab_open(void)
{
    struct lab *lab = calloc(1, sizeof *lab);
    if (!lab) abort();
    lab->sim = sim_open(0, false);
    lab->io = sim_loop(lab->sim);
    list_init(&lab->free_bufs);
    for (int i = 0; i < LAB_READS; i++) {
        lab->reads[i].data = aligned_alloc(4096, LAB_READ_BLOCKS * BLOCK_SIZE);
        if (!lab->reads[i].data) abort();
    }
    for (int i = 0; i < LAB_OPS; i++) {
        struct op_buf *buf = aligned_alloc(4096, round_up64(sizeof *buf, 4096));
        if (!buf) abort();
        list_init(&buf->link);
        list_push(&lab->free_bufs, &buf->link);
    }
    return lab;
}

void lab_close(struct lab *lab)
{
    for (int i = 0; i < LAB_READS; i++) free(lab->reads[i].data);
    for (int i = 0; i < LAB_VOLUMES; i++) {
        volume_done(&lab->volumes[i].model);
        free(lab->volumes[i].learn.steps);
    }
    for (struct list *l; (l = list_pop(&lab->free_bufs)) != NULL;) free(CONTAINER(l, struct op_buf, link));
    sim_close(lab->sim);
    free(lab);
}

static void make_devices(struct lab *lab)
{
    struct mix *mix = &lab->mix;
    uint64_t slots = mix->slots / mix->devices + 1;
    lab->config = (struct store_config){.device_count = mix->devices,
                                        .memory = mix->memory,
                                        .reserve_percent = mix->reserve,
                                        .discard = mix->discard,
                                        .no_clean = mix->no_clean,
                                        .checkpoint_ms = mix->checkpoint_ms,
                                        .delta_leaves = mix->delta_leaves};
    for (uint32_t i = 0; i < mix->devices; i++) {
        snprintf(lab->names[i], sizeof lab->names[i], "disk%u", i);
        uint64_t size = (512u << 10) + (slots << mix->shift) + prng_below(&lab->prng, 16) * 4096;
        sim_disk_create(lab->sim, lab->names[i], size);
        lab->config.devices[i] = (struct store_device_config){lab->names[i], DEVICE_FLASH};
    }
}

void lab_begin(struct lab *lab, uint64_t seed, uint32_t faults, int mutation, bool control, bool trace)
{
    struct prng prng;
    struct mix mix;
    prng_init(&prng, seed ^ 0x1ab);
    mix_draw(&mix, &prng, faults);
    if (mutation > 0) mix_aim(&mix, &prng, mutation);
    lab_begin_as(lab, seed, &mix, control ? MUTATE_NONE : (enum mutation)mutation, trace);
}

void lab_begin_as(struct lab *lab, uint64_t seed, const struct mix *mix, enum mutation mutation, bool trace)
{
    sim_reset(lab->sim, seed, trace);
    prng_init(&lab->prng, seed ^ 0x2ab);
    lab->mix = *mix;
    store_mutation = mutation;
    list_init(&lab->free_ops);
    for (int i = 0; i < LAB_OPS; i++) {
        list_init(&lab->ops[i].link);
        list_push(&lab->free_ops, &lab->ops[i].link);
    }
    lab->store = NULL;
    lab->volume_count = 0;
    lab->next_content = lab->recent_count = 0;
    lab->clock = lab->request = 0;
    lab->write_max = RECORD_BLOCKS_MAX;
    lab->full = lab->failed = lab->damaged = lab->lied = lab->vanished = lab->reopen = lab->every = false;
    lab->crashes = lab->unreadable = lab->rollbacks = 0;
    lab->failure[0] = '\0';
    make_devices(lab);
}

void lab_format(struct lab *lab)
{
    enum err err = lab_run(lab, TASK_FORMAT, 0, 0);
    if (err != OK) {
        lab_fail(lab, "format: %s", err_name(err));
        return;
    }
    for (uint32_t i = 0; i < lab->config.device_count; i++) {
        struct disk_super super;
        disk_get(sim_disk(lab->sim, lab->names[i]), SUPER_AT_0, &super, sizeof super);
        lab->data_at[i] = get64(super.data_at);
    }
}

void lab_end(struct lab *lab)
{
    if (lab->store || lab->main_task.used || !sim_is_off(lab->sim)) lab_crash(lab);
    store_mutation = MUTATE_NONE;
}
