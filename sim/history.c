/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole histories.
 *
 *     random    format, then steps of the workload with power cuts and faults between; after each start the judge; at the end
 *               everything is read, the pool is closed (or cut off), audited, opened and read again.
 *     at rest   a random history; then, on the closed (or crashed) pool, one bit or a few sectors are damaged, and the
 *               pool must work or say what is lost; again and again on the same image, and at last the pool lives on with it.
 *     every     a short history, once for each of its changes, with the power cut right there; and within each, the first
 *               recovery once for each of its own changes.
 */
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "sim/lab.h"

static uint64_t below(struct lab *lab, uint64_t n)
{
    return prng_below(&lab->prng, n);
}

/* ---- faults ---- */

/* The pool is closed: from its next start on all devices work, but for sectors that are lost for good. */
static void faults_off(struct lab *lab)
{
    for (enum sim_fault f = 0; f < SIM_FAULTS; f++) sim_fault(lab->sim, f, 0, 0);
    for (uint32_t i = 0; i < lab->config.device_count; i++) sim_disk_return(lab->sim, lab->names[i]);
    lab->mix.faults &= ~(uint32_t)(FAULT_EIO | FAULT_FULL | FAULT_VANISH | FAULT_READERR);
}

static void fault_on(struct lab *lab, uint32_t asked, enum sim_fault fault, uint32_t per_million, uint32_t times)
{
    if (lab->mix.faults & asked) sim_fault(lab->sim, fault, per_million << below(lab, 5), times);
}

static void faults_on(struct lab *lab)
{
    fault_on(lab, FAULT_LIE, SIM_LIE, 62500, 1 + (uint32_t)below(lab, 1000));
    fault_on(lab, FAULT_LOST, SIM_LOST, 5000, 1);
    fault_on(lab, FAULT_MISDIRECTED, SIM_MISDIRECTED, 5000, 1);
    fault_on(lab, FAULT_EIO, SIM_WRITE_ERROR, 3000, 1 + (uint32_t)below(lab, 3));
    fault_on(lab, FAULT_FULL, SIM_FULL, 3000, 1 + (uint32_t)below(lab, 3));
    fault_on(lab, FAULT_READERR, SIM_READ_ERROR, 3000, 1 + (uint32_t)below(lab, 5));
    fault_on(lab, FAULT_LATENT, SIM_READ_LATENT, 3000, 1);
    if (lab->mix.slow_reads) sim_fault(lab->sim, SIM_SLOW_READ, 300000, 1000);
    if (below(lab, 4) == 0) sim_fault(lab->sim, SIM_SLOW, 10000, 1000);
    if (below(lab, 8) == 0) sim_fault(lab->sim, SIM_STUCK, 10000, 1 + (uint32_t)below(lab, 3));
}

/* ---- starting again ---- */

struct model_copy {
    struct lab_volume volumes[LAB_VOLUMES];
};

static struct model_copy model_copy; /* one laboratory a process */

static void everything_save(struct lab *lab)
{
    sim_save(lab->sim);
    memcpy(model_copy.volumes, lab->volumes, sizeof model_copy.volumes);
}

static void everything_restore(struct lab *lab)
{
    sim_restore(lab->sim);
    memcpy(lab->volumes, model_copy.volumes, sizeof model_copy.volumes);
}

enum start { STARTED, REFUSED, BROKEN };

/* Opens the pool, whatever it takes. REFUSED: legally, the history is over. */
static enum start start(struct lab *lab)
{
    for (int tries = 0; tries < 2; tries++) {
        enum err err = lab_store_open(lab);
        if (lab_failed(lab)) return BROKEN;
        if (err == OK) return STARTED;
        if (sim_files_open(lab->sim) > 0) lab_fail(lab, "a refused open leaves %u files open", sim_files_open(lab->sim));
        if (!judge_refusal(lab, err)) lab_fail(lab, "open: %s: %s", err_name(err), lab->problem.text);
        if (lab->problem.text[0] == '\0') lab_fail(lab, "open refuses with %s but without a sentence", err_name(err));
        if (lab_failed(lab)) return BROKEN;
        sim_say(lab->sim, "refused: %s", lab->problem.text);
        faults_off(lab); /* what was transient is over now */
        if (lab_is_damaged(lab) || lab->lied) return REFUSED;
    }
    lab_fail(lab, "open still fails after the faults are gone: %s", lab->problem.text);
    return BROKEN;
}

/* With the power on and the pool closed: starts, judges, decides. The power may go again at any point. */
static enum start recover(struct lab *lab)
{
    for (;;) {
        enum start started = start(lab);
        if (started != STARTED) return started;
        judge_recovered(lab);
        if (lab_failed(lab)) return BROKEN;
        bool on = below(lab, 2) == 0 || judge_verify(lab);
        if (on && !lab_failed(lab)) on = judge_decide(lab);
        if (on && !lab_failed(lab) && below(lab, 3) == 0) on = judge_verify(lab);
        if (lab_failed(lab)) return BROKEN;
        if (on) return STARTED;
        lab_crash(lab);
    }
}

/* The pool right after a crash, with the power cut at each change that its recovery makes. */
static void cut_each_recovery(struct lab *lab)
{
    everything_save(lab);
    lab->every = false;
    for (uint64_t n = 1; n < 100 && !lab_failed(lab); n++) {
        sim_cut_at(lab->sim, n);
        enum err err = lab_run(lab, TASK_OPEN, 0, 0);
        bool cut = sim_is_off(lab->sim);
        if (!cut && err != OK) lab_fail(lab, "open: %s: %s", err_name(err), lab->problem.text);
        lab_crash(lab);
        if (!cut) break;
        if (start(lab) == STARTED) judge_recovered(lab);
        if (!lab_failed(lab)) judge_verify(lab);
        if (lab_failed(lab)) {
            char text[sizeof lab->failure];
            memcpy(text, lab->failure, sizeof text);
            lab->failure[0] = '\0';
            lab_fail(lab, "after a cut at change %llu of the recovery: %.150s", (unsigned long long)n, text);
            return;
        }
        lab_crash(lab);
        everything_restore(lab);
    }
    everything_restore(lab);
}

static enum start crash_and_recover(struct lab *lab)
{
    enum err err;
    lab_crash(lab);
    if (lab_failed(lab)) return BROKEN;
    if (lab->lied || (lab->mix.faults & FAULTS_OF_DEVICE && below(lab, 2))) faults_off(lab);
    if (lab->every)
        cut_each_recovery(lab);
    else if (!(lab->mix.faults & ~(uint32_t)FAULT_POWER) && below(lab, 4) == 0 && lab_audit(lab, &err) > 0)
        lab_fail(lab, "the auditor finds %llu problems after a crash: %s", (unsigned long long)lab->main_task.problems,
                 lab->finding);
    enum start started = lab_failed(lab) ? BROKEN : recover(lab);
    if (lab->mix.cut_within && started == STARTED && below(lab, 2)) sim_cut_at(lab->sim, 1 + below(lab, lab->mix.cut_within));
    return started;
}

/* ---- the end of a history ---- */

/* Closes the pool, or cuts it off; the power is on again then. */
static void close_pool(struct lab *lab, bool *ret_clean)
{
    *ret_clean = false;
    if (!lab->every) sim_cut_at(lab->sim, 0);
    if (below(lab, 3) > 0 && workload_drain(lab)) {
        enum err err = lab_run(lab, TASK_CLOSE, 0, 0);
        if (lab_failed(lab)) return;
        *ret_clean = err == OK;
        if (err == OK)
            workload_forget(lab);
        else if (err != ERR_POWER && !judge_error(lab, err))
            lab_fail(lab, "close: %s", err_name(err));
        if (err == OK && sim_files_open(lab->sim) > 0)
            lab_fail(lab, "%u files are open after the close", sim_files_open(lab->sim));
    }
    lab->changes = sim_changes(lab->sim) - lab->armed_at;
    if (*ret_clean || lab_failed(lab)) return;
    lab_crash(lab);
    if (lab->every) cut_each_recovery(lab);
}

static void audit_strict(struct lab *lab, bool unreadable)
{
    enum err err;
    uint64_t problems = lab_audit(lab, &err);
    struct sim_damage any; /* it may well tell of a lost copy */
    bool lenient = lab_is_damaged(lab) || lab->lied || sim_damage(lab->sim, 0, &any);
    if (lab_failed(lab)) return;
    if (!lenient && (err != OK || problems > 0))
        lab_fail(lab, "the auditor finds %llu problems (%s): %s", (unsigned long long)problems, err_name(err), lab->finding);
#ifdef IZAR_AUDIT
    if (unreadable && err == OK && problems == 0) lab_fail(lab, "blocks cannot be read, but the auditor finds nothing");
#else
    (void)unreadable;
#endif
}

/* Opens the closed pool, reads everything, closes it, audits it. */
static void check_all(struct lab *lab)
{
    bool clean;
    lab->mix.cut_in_recovery = 0;
    sim_cut_at(lab->sim, 0);
    faults_off(lab);
    if (recover(lab) != STARTED) return;
    uint64_t before = lab->unreadable; /* what recovery could not read may be deleted now */
    if (!judge_verify(lab) || lab_failed(lab)) return;
    bool unreadable = lab->unreadable > before;
    close_pool(lab, &clean);
    if (!lab_failed(lab)) audit_strict(lab, unreadable);
}

/* ---- random histories ---- */

static enum start reopen(struct lab *lab)
{
    bool clean;
    lab->reopen = false;
    if (lab->failed || !workload_drain(lab)) return lab_failed(lab) ? BROKEN : STARTED;
    enum err err = lab_run(lab, TASK_CLOSE, 0, 0);
    clean = err == OK && !sim_is_off(lab->sim);
    if (lab_failed(lab)) return BROKEN;
    if (!clean) {
        if (err != ERR_POWER && !judge_error(lab, err)) lab_fail(lab, "close: %s", err_name(err));
        return crash_and_recover(lab);
    }
    workload_forget(lab);
    return recover(lab);
}

static void maybe_vanish(struct lab *lab)
{
    if (!(lab->mix.faults & FAULT_VANISH) || lab->vanished || below(lab, 60) > 0) return;
    lab->vanished = true;
    sim_disk_vanish(lab->sim, lab->names[below(lab, lab->config.device_count)]);
}

/* Steps until the history is over. False: it is over for good, by a failure or a legal refusal. */
static bool live(struct lab *lab, uint32_t steps)
{
    uint32_t failed_for = 0;
    for (uint32_t i = 0; i < steps && !lab_failed(lab); i++) {
        enum start started = STARTED;
        maybe_vanish(lab);
        workload_step(lab);
        failed_for = lab->failed ? failed_for + 1 : 0;
        if (sim_is_off(lab->sim) || failed_for > 8)
            started = crash_and_recover(lab);
        else if (lab->reopen)
            started = reopen(lab);
        if (started != STARTED) return false;
        if (lab->lied && lab->crashes > 0) break; /* from here on nothing is sure: check what is there */
    }
    return !lab_failed(lab);
}

/* ---- damage at rest ---- */

struct place {
    uint32_t device;
    uint64_t offset;
    uint32_t length; /* 0: one bit */
};

static struct place draw_place(struct lab *lab)
{
    struct place place = {.device = (uint32_t)below(lab, lab->config.device_count)};
    uint64_t data_at = lab->data_at[place.device], size = disk_size(sim_disk(lab->sim, lab->names[place.device]));
    switch (below(lab, 4)) {
    case 0: place.offset = below(lab, 2) * SUPER_AT_1 + below(lab, 4096); break;
    case 1: place.offset = CHECKPOINT_AT + below(lab, data_at - CHECKPOINT_AT); break;
    default: place.offset = data_at + below(lab, size - data_at); break;
    }
    if (below(lab, 4) == 0) place.length = 512u << below(lab, 4);
    if (place.length) place.offset -= place.offset % place.length;
    return place;
}

/* Finds a place that holds something, so that damage has a chance to matter. */
static struct place draw_used_place(struct lab *lab)
{
    struct place place = {0};
    for (int tries = 0; tries < 50; tries++) {
        uint64_t word[8] = {0};
        place = draw_place(lab);
        disk_get(sim_disk(lab->sim, lab->names[place.device]), place.offset - place.offset % 64, word, sizeof word);
        for (int i = 0; i < 8; i++)
            if (word[i]) return place;
    }
    return place;
}

static void damage(struct lab *lab, const struct place *place)
{
    struct disk *disk = sim_disk(lab->sim, lab->names[place->device]);
    uint8_t garbage[4096];
    bool copies = place->offset < lab->data_at[place->device];
    sim_say(lab->sim, "damage: %s at %llu, %u bytes%s", lab->names[place->device], (unsigned long long)place->offset,
            place->length, copies ? ", which has a second copy" : "");
    if (place->length == 0) {
        disk_flip(disk, place->offset, (unsigned)below(lab, 8));
    } else {
        prng_fill(&lab->prng, garbage, place->length);
        disk_put(disk, place->offset, garbage, place->length, true);
    }
    lab->damaged = !copies;
}

/* The closed pool with one place damaged: everything is read, nothing is changed for good. */
static void look_damaged(struct lab *lab)
{
    uint64_t before = lab->unreadable;
    if (start(lab) != STARTED) return;
    judge_recovered(lab);
    if (!lab_failed(lab)) judge_verify(lab);
    if (lab_failed(lab)) return;
    bool unreadable = lab->unreadable > before;
    lab_crash(lab);
    if (!lab_failed(lab)) audit_strict(lab, unreadable);
}

static void live_with_damage(struct lab *lab)
{
    bool clean;
    close_pool(lab, &clean);
    if (lab_failed(lab)) return;
    sim_say(lab->sim, "%s; now damage at rest", clean ? "closed" : "crashed");
    lab->mix.cut_in_recovery = 0;
    faults_off(lab);
    for (uint64_t n = 1 + below(lab, 8); n > 0 && !lab_failed(lab); n--) {
        everything_save(lab);
        struct place place = draw_used_place(lab);
        damage(lab, &place);
        look_damaged(lab);
        if (lab_failed(lab)) return;
        if (n == 1) break;
        everything_restore(lab);
    }
    if (recover(lab) != STARTED) return;
    if (live(lab, 20)) {
        close_pool(lab, &clean);
        if (!lab_failed(lab)) check_all(lab);
    }
}

/* ---- the three kinds ---- */

static void history_begin(struct lab *lab, const struct history_options *options)
{
    lab_begin(lab, options->seed, options->faults, options->mutation, options->control, options->trace);
}

static void history_live(struct lab *lab)
{
    bool clean;
    lab_format(lab);
    if (lab_failed(lab)) return;
    if (start(lab) != STARTED) {
        lab_fail(lab, "a fresh pool does not open: %s", lab->problem.text);
        return;
    }
    faults_on(lab);
    workload_first_volume(lab);
    lab->armed_at = sim_changes(lab->sim);
    if (lab->every)
        sim_cut_at(lab->sim, lab->cut);
    else if (lab->mix.cut_within && below(lab, 2))
        sim_cut_at(lab->sim, 1 + below(lab, lab->mix.cut_within));
    if (!live(lab, lab->mix.steps)) return;
    if (lab->mix.faults & FAULT_FLIP) {
        live_with_damage(lab);
        return;
    }
    close_pool(lab, &clean);
    if (!lab_failed(lab)) check_all(lab);
}

static uint64_t history_end(struct lab *lab)
{
    uint64_t hash = sim_hash(lab->sim);
    sim_say(lab->sim, "%llu changes, %llu reads, %llu crashes, %llu unreadable stretches, hash %016llx",
            (unsigned long long)sim_changes(lab->sim), (unsigned long long)sim_reads(lab->sim),
            (unsigned long long)lab->crashes, (unsigned long long)lab->unreadable, (unsigned long long)hash);
    lab_end(lab);
    return hash;
}

uint64_t history_run(struct lab *lab, const struct history_options *options)
{
    if (options->directed) return direct_run(lab, options->directed - 1, options);
    history_begin(lab, options);
    if (!(options->faults & FAULT_POWER)) {
        lab->mix.cut_within = lab->mix.cut_in_recovery = 0;
        lab->mix.total -= lab->mix.weights[DO_CUT];
        lab->mix.weights[DO_CUT] = 0;
    }
    history_live(lab);
    return history_end(lab);
}

/* A short history with no chance of its own to lose power, so that all runs are the same up to the cut. */
static uint64_t run_with_cut(struct lab *lab, const struct history_options *options, uint64_t cut)
{
    history_begin(lab, options);
    lab->mix.steps = 10 + lab->mix.steps % 30;
    lab->mix.cut_within = lab->mix.cut_in_recovery = 0;
    lab->mix.total -= lab->mix.weights[DO_CUT];
    lab->mix.weights[DO_CUT] = 0;
    lab->every = cut > 0;
    lab->cut = cut;
    history_live(lab);
    history_end(lab);
    return lab->changes;
}

uint64_t history_every(struct lab *lab, const struct history_options *options, uint64_t *ret_cut)
{
    if (options->cut) {
        run_with_cut(lab, options, options->cut);
        *ret_cut = options->cut;
        return 1;
    }
    uint64_t changes = run_with_cut(lab, options, 0);
    uint64_t n = 1;
    for (; n <= changes && !lab_failed(lab); n++) {
        *ret_cut = n;
        run_with_cut(lab, options, n);
    }
    return n;
}
