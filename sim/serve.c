/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Serving histories, by seed: initiators at work, trouble, power cuts and restarts; then calm, in which everything must come
 * to its end and every block is read; then the pool is closed, audited, opened once more and read again.
 */
#include "sim/serve.h"

#include <stdio.h>
#include <string.h>

#include "store/mutation.h"

uint64_t serve_below(struct serve *serve, uint64_t n)
{
    return prng_below(&serve->lab->prng, n);
}

bool serve_judge_error(const struct serve *serve, enum err err)
{
    return serve->faults & FAULT_READERR && (err_class(err) == ERR_CLASS_DEVICE || err_class(err) == ERR_CLASS_CORRUPT);
}

/* ---- what a history is like ---- */

/* Common ones first; a mix keeps, drops or multiplies each. */
static const uint32_t weights[SERVE_ACTIONS] = {
    [SERVE_READ] = 200,      [SERVE_WRITE] = 200,   [SERVE_SAME] = 20,      [SERVE_UNMAP] = 30,     [SERVE_SWAP] = 50,
    [SERVE_LOOK] = 10,       [SERVE_NOP] = 10,      [SERVE_TEXT] = 4,       [SERVE_BAN] = 2,        [SERVE_EXPEL] = 4,
    [SERVE_ABORT_TASK] = 12, [SERVE_ABORT_SET] = 4, [SERVE_LUN_RESET] = 4,  [SERVE_LOGOUT] = 4,     [SERVE_DROP] = 8,
    [SERVE_LOSE] = 8,        [SERVE_PAUSE_IN] = 4,  [SERVE_PAUSE_OUT] = 4,  [SERVE_RESUME] = 60,    [SERVE_CUT] = 4,
    [SERVE_RESTART] = 3,     [SERVE_SLEEP] = 10,    [SERVE_WARM_RESET] = 1, [SERVE_COLD_RESET] = 1, [SERVE_RESIZE] = 4,
};

static uint32_t one_of(struct prng *prng, uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
    const uint32_t all[4] = {a, b, c, d};
    return all[prng_below(prng, 4)];
}

static void draw_weights(struct serve_mix *mix, struct prng *prng)
{
    for (int i = 0; i < SERVE_ACTIONS; i++) {
        uint64_t draw = prng_below(prng, 8);
        mix->weights[i] = draw == 0 ? 0 : draw == 1 ? 4 * weights[i] : weights[i];
    }
    if (mix->weights[SERVE_WRITE] == 0) mix->weights[SERVE_WRITE] = 50;
    if (mix->weights[SERVE_READ] == 0) mix->weights[SERVE_READ] = 50;
    if (mix->weights[SERVE_RESUME] == 0) mix->weights[SERVE_RESUME] = 20;
}

/* Initiators that come and go all the time. */
static void shape_storm(struct serve_mix *mix, struct prng *prng)
{
    static const enum serve_action more[] = {SERVE_DROP, SERVE_LOSE, SERVE_LOGOUT, SERVE_PAUSE_OUT};
    for (size_t i = 0; i < sizeof more / sizeof more[0]; i++) mix->weights[more[i]] += 10 * weights[more[i]];
    mix->initiators = SERVE_INITIATORS;
    mix->target.connections_max = one_of(prng, SERVE_INITIATORS, 8, 16, 0);
    mix->target.logins_max = one_of(prng, 2, 3, 6, 0);
}

/* All on the same few blocks. */
static void shape_crowd(struct serve_mix *mix, struct prng *prng)
{
    mix->hot = one_of(prng, 2, 4, 8, 16);
    mix->units = 1;
    mix->blocks_max = one_of(prng, 1, 2, 4, 16);
    mix->weights[SERVE_SWAP] += 4 * weights[SERVE_SWAP];
    mix->weights[SERVE_ABORT_TASK] += 4 * weights[SERVE_ABORT_TASK];
    mix->weights[SERVE_DROP] += 2 * weights[SERVE_DROP];
}

static void draw_weather(struct sim_weather *weather, struct prng *prng)
{
    weather->refuse = one_of(prng, 0, 0, 20000, 200000);
    weather->silent = one_of(prng, 0, 0, 0, 50000);
    weather->lose = one_of(prng, 0, 0, 300, 3000);
    weather->stall = one_of(prng, 0, 0, 1000, 10000);
    weather->room = one_of(prng, 0, 0, 0, 700);
}

static void draw_target(struct iscsi_target_config *c, struct prng *prng)
{
    c->memory = 16 << 20;
    c->window = one_of(prng, 1, 4, 16, 64);
    c->nop_interval_ms = one_of(prng, 200, 1000, 5000, 20000);
    c->nop_timeout_ms = one_of(prng, 1000, 5000, 10000, 20000);
    c->login_timeout_ms = one_of(prng, 2000, 5000, 15000, 15000);
    c->max_receive_bytes = one_of(prng, 8192, 8192, 65536, 262144);
    c->max_burst_bytes = 256 << 10;
    c->first_burst_bytes = 64 << 10;
}

/* Large writes, many of them aborted by others while their data comes in. */
static void shape_resets(struct serve_mix *mix, struct prng *prng)
{
    mix->weights[SERVE_LUN_RESET] += 20 * weights[SERVE_LUN_RESET];
    mix->weights[SERVE_WARM_RESET] += 20 * weights[SERVE_WARM_RESET];
    mix->weights[SERVE_COLD_RESET] += 4 * weights[SERVE_COLD_RESET];
    mix->weights[SERVE_WRITE] += 2 * weights[SERVE_WRITE];
    mix->initiators = SERVE_INITIATORS;
    mix->units = 1;
    mix->block_bytes[0] = 4096;
    mix->blocks_max = SERVE_BLOCKS;
    mix->small_bursts = false;
    mix->hot = 0;
    mix->weather.room = one_of(prng, 0, 8192, 16384, 65536);
}

/* Nothing but what can show that the rule is missing. */
static void shape_aimed(struct serve_mix *mix, struct prng *prng, int mutation)
{
    static const enum serve_action none[] = {SERVE_BAN,       SERVE_EXPEL,  SERVE_RESTART,   SERVE_CUT,
                                             SERVE_LOGOUT,    SERVE_LOSE,   SERVE_PAUSE_IN,  SERVE_PAUSE_OUT,
                                             SERVE_ABORT_SET, SERVE_RESIZE, SERVE_COLD_RESET};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) mix->weights[none[i]] = 0;
    mix->weather = (struct sim_weather){0};
    mix->cut_within = mix->wrong = 0;
    mix->depth = SERVE_COMMANDS;
    mix->target.window = 64;
    if (mutation == MUTATE_MEMORY_EARLY)
        shape_resets(mix, prng);
    else
        shape_crowd(mix, prng);
    if (mutation == MUTATE_PUBLISH_LATE) mix->requests = 32;
    if (mutation == MUTATE_RESIZE_UNTOLD) mix->weights[SERVE_RESIZE] = 20 * weights[SERVE_RESIZE];
    if (mutation == MUTATE_REINSTATE_EARLY) mix->weights[SERVE_DROP] = 20 * weights[SERVE_DROP];
}

static void mix_of(struct serve_mix *mix, struct prng *prng, int mutation)
{
    memset(mix, 0, sizeof *mix);
    draw_weights(mix, prng);
    mix->steps = 60 + (uint32_t)prng_below(prng, 200);
    mix->steps <<= prng_below(prng, 2);
    mix->initiators = 1 + (uint32_t)prng_below(prng, 4);
    mix->units = 1 + (uint32_t)prng_below(prng, SERVE_UNITS);
    for (uint32_t i = 0; i < SERVE_UNITS; i++) mix->block_bytes[i] = prng_below(prng, 2) ? 512 : 4096;
    mix->depth = one_of(prng, 1, 3, 6, SERVE_COMMANDS);
    mix->blocks_max = one_of(prng, 1, 8, 16, SERVE_BLOCKS);
    mix->hot = one_of(prng, 0, 8, 64, 200);
    mix->pause = one_of(prng, 4, 16, 64, 300);
    mix->cut_within = one_of(prng, 0, 0, 40, 200);
    mix->chap = prng_below(prng, 2);
    mix->mutual = prng_below(prng, 2);
    mix->digests = prng_below(prng, 2);
    mix->small_bursts = prng_below(prng, 2);
    mix->wrong = one_of(prng, 0, 0, 50000, 300000);
    mix->requests = one_of(prng, 2, 4, 16, 32);
    mix->twins = mix->initiators > 1 && prng_below(prng, 4) == 0;
    draw_weather(&mix->weather, prng);
    draw_target(&mix->target, prng);
    uint64_t shape = prng_below(prng, 5);
    if (mutation >= MUTATE_SERVING) {
        shape_aimed(mix, prng, mutation);
        return;
    }
    if (shape == 0) shape_storm(mix, prng);
    if (shape == 1) shape_crowd(mix, prng);
    if (shape == 2) shape_resets(mix, prng);
}

static void total(struct serve_mix *mix)
{
    mix->total = 0;
    for (int i = 0; i < SERVE_ACTIONS; i++) mix->total += mix->weights[i];
}

/* A pool with room for all units, several times over. */
static void pool_of(struct mix *mix, struct prng *prng)
{
    mix_draw(mix, prng, FAULT_POWER);
    mix->slots = 160 + (uint32_t)prng_below(prng, 100);
    mix->shift = 16;
    mix->cut_within = 0;
    mix->no_clean = false;
    mix->reserve = 0;
}

/* ---- life ---- */

static struct initiator *any_initiator(struct serve *serve)
{
    return &serve->initiators[serve_below(serve, serve->mix.initiators)];
}

static void look_after_all(struct serve *serve)
{
    for (uint32_t i = 0; i < serve->mix.initiators; i++) initiator_look_after(&serve->initiators[i]);
}

static enum serve_action draw_action(struct serve *serve)
{
    uint64_t draw = serve_below(serve, serve->mix.total);
    for (int i = 0; i < SERVE_ACTIONS; i++) {
        if (draw < serve->mix.weights[i]) return (enum serve_action)i;
        draw -= serve->mix.weights[i];
    }
    return SERVE_READ;
}

static void arm_cut(struct serve *serve)
{
    if (serve->mix.cut_within && serve_below(serve, 2))
        sim_cut_at(serve->sim, 1 + serve_below(serve, serve->mix.cut_within));
    else
        sim_cut_at(serve->sim, 0);
}

/* Single reads of the disks that fail. */
static void faults_on(struct serve *serve)
{
    bool on = serve->faults & FAULT_READERR && !serve->calm;
    sim_fault(serve->sim, SIM_READ_ERROR, on ? 3000u << serve_below(serve, 5) : 0,
              on ? 1 + (uint32_t)serve_below(serve, 5) : 0);
}

/* False: the history is over, by a failure. */
static bool restart(struct serve *serve, bool in_order)
{
    bool closed = in_order && node_stop(serve);
    if (lab_failed(serve->lab)) return false;
    if (!closed) node_crash(serve);
    sim_fault(serve->sim, SIM_READ_ERROR, 0, 0);
    if (closed && serve->faults & FAULT_FLIP) rot_some(serve);
    if (!node_start(serve)) return false;
    faults_on(serve);
    if (!serve->calm) {
        sim_net_weather(serve->sim, &serve->mix.weather);
        arm_cut(serve);
    }
    return true;
}

/* Whoever is not admitted any more is cut at once. */
static void ban(struct serve *serve, struct initiator *it, bool banned)
{
    it->banned_ns = banned ? UINT64_MAX : sim_now_ns(serve->sim);
    sim_say(serve->sim, "initiator %u: %s", it->number, banned ? "not admitted any more" : "admitted again");
    iscsi_target_changed(serve->node.target);
}

static void expel(struct serve *serve)
{
    struct iscsi_session_info info = {0};
    struct iscsi_stats stats;
    iscsi_target_stats(serve->node.target, &stats);
    uint64_t n = stats.connections > 0 ? serve_below(serve, stats.connections) : 0, from = 0;
    while (iscsi_session_next(serve->node.target, from, &info) == OK && n-- > 0) from = info.id + 1;
    if (iscsi_session_cut(serve->node.target, info.id) == OK) sim_say(serve->sim, "the session of %s is cut", info.initiator);
}

/* Commands come in bursts, of one initiator or of all. */
static void act(struct serve *serve, enum serve_action action)
{
    struct initiator *it = any_initiator(serve);
    uint64_t times = action < SERVE_LOOK ? 1 + serve_below(serve, 2 * serve->mix.depth) : 1;
    bool one = serve_below(serve, 2);
    for (; times > 0; times--) initiator_act(one ? it : any_initiator(serve), action);
}

static bool step(struct serve *serve)
{
    enum serve_action action = draw_action(serve);
    struct initiator *it = any_initiator(serve);
    look_after_all(serve);
    resize_collect(serve);
    if (action == SERVE_RESTART) return restart(serve, true);
    if (action == SERVE_CUT)
        sim_power_cut(serve->sim);
    else if (action == SERVE_SLEEP)
        sim_run_for(serve->sim, 3000, IO_MS_NS << serve_below(serve, 15));
    else if (action == SERVE_BAN)
        ban(serve, it, it->banned_ns != UINT64_MAX);
    else if (action == SERVE_EXPEL)
        expel(serve);
    else if (action == SERVE_RESIZE)
        resize_some(serve);
    else
        act(serve, action);
    if (!sim_is_off(serve->sim)) sim_run_for(serve->sim, 1 + serve_below(serve, serve->mix.pause), IO_S_NS);
    if (sim_is_off(serve->sim) && !lab_failed(serve->lab)) return restart(serve, false);
    return !lab_failed(serve->lab);
}

/* ---- calm ---- */

/* Wakes up who sleeps; true when all sessions are there and nothing is under way. */
static bool is_quiet(struct serve *serve)
{
    bool quiet = true;
    for (uint32_t i = 0; i < serve->mix.initiators; i++) {
        struct initiator *it = &serve->initiators[i];
        if (initiator_is_twin(it)) { /* it stays away, and the other one takes over */
            initiator_was_replaced(it);
            quiet &= list_empty(&it->lost);
            continue;
        }
        initiator_connect(it);
        wire_resume(it->wire);
        initiator_look_after(it);
        quiet &= initiator_is_quiet(it);
    }
    return quiet;
}

static void say_who_is_not_quiet(struct serve *serve)
{
    for (uint32_t i = 0; i < serve->mix.initiators; i++) {
        const struct initiator *it = &serve->initiators[i];
        if (initiator_is_quiet(it)) continue;
        sim_say(serve->sim, "initiator %u: phase %u, %u commands%s%s%s%s", i, it->phase, it->command_count,
                list_empty(&it->lost) ? "" : ", some lost", it->function.used ? ", a function" : "",
                it->nop_under_way ? ", a NOP" : "", it->text_under_way ? ", a text" : "");
    }
}

static bool calm_down(struct serve *serve)
{
    uint64_t since = sim_now_ns(serve->sim);
    sim_cut_at(serve->sim, 0);
    sim_net_weather(serve->sim, &(struct sim_weather){0});
    serve->calm = true;
    faults_on(serve);
    for (uint32_t i = 0; i < serve->mix.initiators; i++) {
        struct initiator *it = &serve->initiators[i];
        if (it->banned_ns == UINT64_MAX) ban(serve, it, false);
        if (initiator_is_twin(it) && it->phase != PHASE_IDLE) initiator_drop(it);
    }
    while (!lab_failed(serve->lab) && !is_quiet(serve)) {
        if (sim_now_ns(serve->sim) - since > 7200 * IO_S_NS) {
            say_who_is_not_quiet(serve);
            lab_fail(serve->lab, "it does not come to its end");
        }
        sim_run_for(serve->sim, 500, IO_S_NS);
    }
    return !lab_failed(serve->lab);
}

/* What failed because of a read of the disk works after a start. */
static bool mended(struct serve *serve)
{
    return !(serve->faults & FAULT_READERR) || (restart(serve, true) && calm_down(serve));
}

/* How many blocks to read next: up to the one that cannot be read, which is left out then. */
static uint32_t blocks_at(const struct serve *serve, uint32_t at)
{
    uint32_t end = serve->bad != UINT32_MAX && serve->bad > at ? serve->bad : SERVE_REGISTERS;
    return min32(end - at, SERVE_BLOCKS);
}

static struct initiator *quiet_initiator(struct serve *serve)
{
    struct initiator *it = any_initiator(serve);
    return initiator_is_twin(it) ? &serve->initiators[it->as] : it;
}

/* Every block, through any session. */
static bool read_all(struct serve *serve)
{
    if (!calm_down(serve) || !mended(serve) || !resize_all(serve)) return false;
    if (!calm_down(serve)) return false; /* meanwhile the target may have given up a connection that had been silent before */
    for (uint32_t unit = 0; unit < serve->mix.units; unit++) {
        for (uint32_t at = 0; at < SERVE_REGISTERS && !lab_failed(serve->lab);) {
            uint32_t blocks = blocks_at(serve, at);
            uint64_t before = serve->reads;
            serve->bad = UINT32_MAX;
            if (!command_read(quiet_initiator(serve), unit, at, blocks))
                lab_fail(serve->lab, "a quiet session takes no command");
            if (!calm_down(serve)) break;
            if (serve->reads > before) at += blocks; /* a unit attention goes first */
            if (serve->bad == at) at++;
        }
    }
    return !lab_failed(serve->lab);
}

static void audit(struct serve *serve)
{
    enum err err;
    uint64_t problems = lab_audit(serve->lab, &err);
    bool rotten = serve->rotten > 0, left = rot_is_left(serve);
    if (left && err == OK && problems == 0) lab_fail(serve->lab, "blocks are lost, but the auditor finds nothing");
    if (lab_failed(serve->lab) || rotten || (err == OK && problems == 0)) return;
    lab_fail(serve->lab, "the auditor finds %llu problems (%s): %s", (unsigned long long)problems, err_name(err),
             serve->lab->finding);
}

/* ---- a history ---- */

/* The second is the twin of the first, when there are twins. */
static void name_all(struct serve *serve)
{
    if (serve->mix.twins) serve->initiators[1].as = 0;
    for (uint32_t i = 0; i < SERVE_INITIATORS; i++) {
        struct initiator *it = &serve->initiators[i];
        snprintf(it->name, sizeof it->name, "iqn.2026-01.org.example:initiator%u", it->as);
    }
}

static void begin(struct serve *serve, struct lab *lab)
{
    memset(serve, 0, sizeof *serve);
    serve->lab = lab;
    serve->sim = lab->sim;
    serve->io = lab->io;
    list_init(&serve->wires);
    for (uint32_t i = 0; i < SERVE_INITIATORS; i++) {
        struct initiator *it = &serve->initiators[i];
        it->serve = serve;
        it->number = it->as = i;
        it->next_itt = i << 24;
        list_init(&it->commands);
        list_init(&it->lost);
    }
    for (uint32_t i = 0; i < SERVE_UNITS; i++) serve->units[i].registers = registers_open(SERVE_REGISTERS);
}

static void end(struct serve *serve)
{
    node_crash(serve);
    for (uint32_t i = 0; i < SERVE_UNITS; i++) registers_close(serve->units[i].registers);
}

static void live(struct serve *serve)
{
    lab_format(serve->lab);
    if (lab_failed(serve->lab) || !node_start(serve)) return;
    faults_on(serve);
    sim_net_weather(serve->sim, &serve->mix.weather);
    arm_cut(serve);
    for (uint32_t i = 0; i < serve->mix.steps; i++)
        if (!step(serve)) return;
    if (!read_all(serve) || !restart(serve, serve_below(serve, 2)) || !read_all(serve)) return;
    if (node_stop(serve)) audit(serve);
}

uint64_t serve_run(struct lab *lab, const struct history_options *options)
{
    static struct serve serve; /* one laboratory a process */
    struct prng prng;
    struct mix pool;
    prng_init(&prng, options->seed ^ 0x5e4e);
    pool_of(&pool, &prng);
    lab_begin_as(lab, options->seed, &pool, options->control ? MUTATE_NONE : (enum mutation)options->mutation, options->trace);
    begin(&serve, lab);
    serve.faults = options->faults;
    mix_of(&serve.mix, &prng, options->mutation);
    total(&serve.mix);
    name_all(&serve);
    for (uint32_t i = 0; i < SERVE_UNITS; i++) {
        serve.units[i].block_bytes = serve.mix.block_bytes[i];
        serve.units[i].blocks = serve.units[i].other_blocks = SERVE_REGISTERS;
    }
    live(&serve);
    uint64_t hash = sim_hash(lab->sim), logins = 0, refusals = 0, losses = 0;
    for (uint32_t i = 0; i < serve.mix.initiators; i++) {
        logins += serve.initiators[i].logins;
        refusals += serve.initiators[i].refusals;
        losses += serve.initiators[i].losses;
    }
    sim_say(
        lab->sim, "%llu answers, %llu commands without one, %llu logins, %llu refused, %llu losses, %llu crashes, hash %016llx",
        (unsigned long long)serve.answers, (unsigned long long)serve.unanswered, (unsigned long long)logins,
        (unsigned long long)refusals, (unsigned long long)losses, (unsigned long long)lab->crashes, (unsigned long long)hash);
    end(&serve);
    lab_end(lab);
    return hash;
}
