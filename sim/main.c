/* SPDX-License-Identifier: Apache-2.0 */
/*
 * izar-sim: whole pools by seed.
 *
 *     izar-sim --seed N [--trace]     one history, replayed exactly
 *     izar-sim --seeds FROM COUNT     many (FROM may be `fresh`); 1 % are run twice and must come out the same
 *     izar-sim --every N              a short history, the power cut at each of its changes, and again in each recovery
 *     izar-sim --directed NAME|all    histories for one corner each
 *     izar-sim --net ...              with --seed, --seeds: initiators that talk to a whole node (serve.h); flip, readerr
 *     izar-sim --register ...         with --seed, --seeds, --mutations: acceptors and proposers of the register (quorum.h)
 *     izar-sim --replica ...          the protocol of replicated volumes over model stores (replica.h)
 *     izar-sim --cluster ...          with --seed, --seeds: replicated volumes on real stores, on several machines (cluster.h)
 *     izar-sim --mutations            switches off each rule of the store in turn; exit code 1 when that goes unnoticed
 *
 *     --faults NAME[,NAME]   what may happen: power (default), flip, lost, misdirected, lie, eio, full, vanish, readerr, latent
 *     --mutation NAME        with a rule switched off          --time S    stop after so many seconds
 *     --cut N                with --every: only this cut       --quiet     say only what failed
 *     --control              with --mutation: the history aimed at it, but with the rule in force
 *
 * Many seeds run in a child process, so that a seed that crashes the store (an assertion, a signal, no end) is a finding
 * like any other. Each finding is one line, `FAIL seed N: why`, and one that says how to replay it.
 */
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/text.h"
#include "sim/args.h"
#include "sim/cluster.h"
#include "sim/quorum.h"
#include "sim/replica.h"
#include "sim/serve.h"

enum { FAILURES_MAX = 20, HISTORY_SECONDS = 60 };

static const struct {
    const char *name;
    uint32_t faults;
} fault_names[] = {
    {"power", FAULT_POWER},     {"flip", FAULT_FLIP},     {"lost", FAULT_LOST}, {"misdirected", FAULT_MISDIRECTED},
    {"lie", FAULT_LIE},         {"eio", FAULT_EIO},       {"full", FAULT_FULL}, {"vanish", FAULT_VANISH},
    {"readerr", FAULT_READERR}, {"latent", FAULT_LATENT},
};

enum mode { MODE_SEED, MODE_SEEDS, MODE_EVERY, MODE_DIRECTED, MODE_MUTATIONS };

struct options {
    enum mode mode;
    uint64_t from, count, seconds;
    bool quiet;
    struct history_options history;
    const char *faults;
};

/* What the parent knows of its child. */
struct shared {
    uint64_t seed, histories, failures, cut;
    uint64_t cuts;
    char why[256];
};

static struct shared *shared;
static time_t started;

static bool time_is_up(const struct options *o)
{
    return o->seconds > 0 && (uint64_t)(time(NULL) - started) >= o->seconds;
}

/* ---- one history ---- */

static void replay_text(const struct options *o, uint64_t seed, uint64_t cut, char *ret_text, size_t size)
{
    struct text t;
    text_init(&t, ret_text, size);
    text_add(&t, "izar-sim ");
    if (o->history.net) text_add(&t, "--net ");
    if (o->history.quorum) text_add(&t, "--register ");
    if (o->history.cluster) text_add(&t, "--cluster ");
    if (o->history.directed) text_add(&t, "--directed %s ", direct_name(o->history.directed - 1));
    text_add(&t, "%s %llu", o->mode == MODE_EVERY ? "--every" : "--seed", (unsigned long long)seed);
    if (o->mode == MODE_EVERY) text_add(&t, " --cut %llu", (unsigned long long)cut);
    if (o->history.faults != FAULT_POWER) {
        const char *before = " --faults ";
        for (size_t i = 0; i < sizeof fault_names / sizeof fault_names[0]; i++) {
            if (!(o->history.faults & fault_names[i].faults)) continue;
            text_add(&t, "%s%s", before, fault_names[i].name);
            before = ",";
        }
    }
    if (o->history.mutation) text_add(&t, " --mutation %s", mutation_names[o->history.mutation]);
    text_add(&t, " --trace");
}

static void report(const struct options *o, uint64_t seed, uint64_t cut, const char *why)
{
    char replay[200];
    replay_text(o, seed, cut, replay, sizeof replay);
    printf("FAIL seed %llu: %s\n     replay: %s\n", (unsigned long long)seed, why, replay);
    fflush(stdout);
}

/* False when it found something, which is in lab->failure. */
static bool run_one(struct lab *lab, const struct options *o, uint64_t seed, uint64_t *ret_cut)
{
    struct history_options h = o->history;
    h.seed = seed;
    alarm(o->mode == MODE_EVERY ? 20 * HISTORY_SECONDS : HISTORY_SECONDS);
    if (o->mode == MODE_EVERY) {
        shared->cuts += history_every(lab, &h, ret_cut);
    } else {
        uint64_t (*run)(struct lab *, const struct history_options *) = h.cluster  ? cluster_run
                                                                        : h.quorum ? quorum_run
                                                                        : h.net    ? serve_run
                                                                                   : history_run;
        uint64_t hash = run(lab, &h);
        if (seed % 100 == 0 && !lab_failed(lab) && run(lab, &h) != hash)
            snprintf(lab->failure, sizeof lab->failure, "not the same when run again");
    }
    alarm(0);
    return !lab_failed(lab);
}

/* ---- many, in a child ---- */

static void child_main(struct lab *lab, const struct options *o, uint64_t from, uint64_t to, uint64_t failures_max)
{
    for (uint64_t seed = from; seed < to && !time_is_up(o) && shared->failures < failures_max; seed++) {
        shared->seed = seed;
        shared->cut = 0;
        bool fine = run_one(lab, o, seed, &shared->cut);
        shared->histories++;
        if (fine) continue;
        shared->failures++;
        snprintf(shared->why, sizeof shared->why, "%s", lab->failure);
        if (!o->quiet) report(o, seed, shared->cut, lab->failure);
    }
    _exit(0);
}

/* Runs seeds until there are too many findings. */
static void run_seeds(struct lab *lab, const struct options *o, uint64_t from, uint64_t to, uint64_t failures_max)
{
    while (from < to && shared->failures < failures_max && !time_is_up(o)) {
        int status = 0;
        fflush(NULL);
        shared->seed = from;
        pid_t child = fork();
        if (child == 0) child_main(lab, o, from, to, failures_max);
        if (child < 0 || waitpid(child, &status, 0) != child) exit(2);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
        int number = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
        shared->failures++;
        shared->histories++;
        if (number == SIGALRM)
            snprintf(shared->why, sizeof shared->why, "no end in sight");
        else
            snprintf(shared->why, sizeof shared->why, "the store crashed (%s)", number ? strsignal(number) : "exit");
        if (!o->quiet) report(o, shared->seed, shared->cut, shared->why);
        from = shared->seed + 1;
    }
}

static int seeds_main(struct lab *lab, const struct options *o)
{
    run_seeds(lab, o, o->from, o->from + o->count, FAILURES_MAX);
    double seconds = (double)(time(NULL) - started);
    printf("%llu histories from seed %llu (%s) in %.0f s, %llu failed", (unsigned long long)shared->histories,
           (unsigned long long)o->from, o->faults, seconds, (unsigned long long)shared->failures);
    if (o->mode == MODE_EVERY) printf(", %llu cuts", (unsigned long long)shared->cuts);
    printf("\n");
    return shared->failures > 0;
}

/* ---- one, here ---- */

static int seed_main(struct lab *lab, const struct options *o)
{
    uint64_t cut = 0;
    if (!run_one(lab, o, o->from, &cut)) {
        report(o, o->from, cut, lab->failure);
        return 1;
    }
    if (!o->quiet) printf("seed %llu: fine\n", (unsigned long long)o->from);
    return 0;
}

/* ---- directed ---- */

static int directed_main(struct lab *lab, const struct options *o)
{
    struct options mine = *o;
    uint64_t failures = 0;
    for (uint32_t i = 0; i < direct_count(); i++) {
        if (o->history.directed && o->history.directed != i + 1) continue;
        uint64_t before = shared->failures;
        mine.history.directed = i + 1;
        run_seeds(lab, &mine, o->from, o->from + o->count, before + 1);
        printf("%s: %s\n", direct_name(i), shared->failures > before ? "FAILED" : "fine");
        failures = shared->failures;
    }
    return failures > 0;
}

/* ---- mutations ---- */

/* Faults that a mutation is tried with, in turn: rules about damage are only missed when there is some. */
static uint32_t mutation_faults(int mutation, uint64_t round)
{
    static const uint32_t damage[] = {FAULT_FLIP, FAULT_LOST | FAULT_POWER, FAULT_MISDIRECTED | FAULT_POWER,
                                      FAULT_FLIP | FAULT_POWER};
    bool about_damage = mutation == MUTATE_SKIP_CHECK;
    if (about_damage) return damage[round % 4];
    return FAULT_POWER;
}

/* The same history with the rule in force must be fine, else it was not the mutation that was caught. */
static bool control_is_fine(struct lab *lab, const struct options *o, uint64_t seed)
{
    struct options control = *o;
    struct shared before = *shared;
    control.history.control = true;
    shared->failures = 0;
    run_seeds(lab, &control, seed, seed + 1, 1);
    bool fine = shared->failures == 0;
    if (!fine) printf("unsound: seed %llu fails without the mutation, too: %s\n", (unsigned long long)seed, shared->why);
    *shared = before;
    shared->failures = fine;
    return fine;
}

static void mutation_caught(const struct options *o)
{
    char replay[200];
    replay_text(o, shared->seed, 0, replay, sizeof replay);
    printf("caught after %4llu: %s: %s\n     replay: %s\n", (unsigned long long)shared->histories,
           mutation_names[o->history.mutation], shared->why, replay);
    fflush(stdout);
}

/* Rules of the store whose absence initiators have to notice, too. */
static const int noticed_by_initiators[] = {MUTATE_ACK_BEFORE_DURABLE, MUTATE_SKIP_CHECK};

static bool mutation_is_caught(struct lab *lab, const struct options *o, int mutation)
{
    enum { SLICE = 50 };
    struct options mine = *o;
    time_t since = time(NULL);
    mine.quiet = true;
    mine.seconds = 0;
    mine.history.mutation = mutation;
    mine.history.quorum = mutation >= MUTATE_REGISTER && mutation < MUTATE_REPLICA;
    mine.history.net |= mutation >= MUTATE_SERVING && mutation < MUTATE_REGISTER;
    memset(shared, 0, sizeof *shared);
    for (uint32_t i = 0; i < direct_count() && !mine.history.net && !mine.history.cluster; i++) {
        if (!direct_catches(i, mutation)) continue;
        mine.history.directed = i + 1;
        run_seeds(lab, &mine, o->from, o->from + 1, 1);
        if (shared->failures && control_is_fine(lab, &mine, o->from)) {
            mutation_caught(&mine);
            return true;
        }
        printf("directed history %s does not catch it: ", direct_name(i));
        shared->failures = 0;
    }
    mine.history.directed = 0;
    for (uint64_t from = o->from; from < o->from + o->count && (uint64_t)(time(NULL) - since) < o->seconds;) {
        uint64_t to = (from / SLICE + 1) * SLICE;
        mine.history.faults = mutation_faults(mutation, from / SLICE);
        run_seeds(lab, &mine, from, to, 1);
        from = shared->failures ? shared->seed + 1 : to;
        if (shared->failures == 0 || !control_is_fine(lab, &mine, shared->seed)) continue;
        mutation_caught(&mine);
        return true;
    }
    printf("MISSED after %4llu: %s: %s\n", (unsigned long long)shared->histories, mutation_names[mutation],
           mutation_texts[mutation]);
    fflush(stdout);
    return false;
}

static int mutations_main(struct lab *lab, const struct options *o)
{
    int missed = 0;
    const struct history_options *h = &o->history;
    int first = h->cluster ? MUTATE_HOST : h->quorum ? MUTATE_REGISTER : MUTATE_NONE + 1;
    int end = h->cluster ? MUTATE_COUNT : h->quorum ? MUTATE_REPLICA : MUTATE_REGISTER;
    if (o->history.mutation) return !mutation_is_caught(lab, o, o->history.mutation);
    for (int m = first; m < end; m++) missed += !mutation_is_caught(lab, o, m);
    struct options net = *o;
    int count = h->quorum || h->cluster ? 0 : (int)(sizeof noticed_by_initiators / sizeof noticed_by_initiators[0]);
    net.history.net = true;
    for (int i = 0; i < count; i++) missed += !mutation_is_caught(lab, &net, noticed_by_initiators[i]);
    int all = end - first + count;
    printf("%d of %d mutations caught\n", all - missed, all);
    return missed > 0;
}

/* ---- options ---- */

static void usage(const char *why)
{
    fprintf(stderr,
            "izar-sim: %s\n"
            "usage: izar-sim --seed N | --seeds FROM COUNT | --every N | --directed NAME | --mutations\n"
            "                [--faults NAME[,NAME]] [--mutation NAME] [--time SECONDS] [--cut N] [--net|--register|--cluster] "
            "[--trace]\n"
            "                [--quiet]\n"
            "faults:",
            why);
    for (size_t i = 0; i < sizeof fault_names / sizeof fault_names[0]; i++) fprintf(stderr, " %s", fault_names[i].name);
    fprintf(stderr, "\ndirected: all");
    for (uint32_t i = 0; i < direct_count(); i++) fprintf(stderr, " %s", direct_name(i));
    fprintf(stderr, "\nmutations:");
    args_tell_mutations(MUTATE_NONE + 1, MUTATE_COUNT);
    fprintf(stderr, "\n");
    exit(2);
}

static uint64_t number_of(const char *text)
{
    uint64_t number = 0;
    if (!args_number(text, &number)) usage("a number is missing");
    return number;
}

static uint32_t faults_of(const char *names)
{
    uint32_t faults = 0;
    for (const char *at = names ? names : ""; *at;) {
        size_t length = strcspn(at, ",");
        uint32_t found = 0;
        for (size_t i = 0; i < sizeof fault_names / sizeof fault_names[0]; i++)
            if (strlen(fault_names[i].name) == length && strncmp(fault_names[i].name, at, length) == 0)
                found = fault_names[i].faults;
        if (!found) usage("no such fault");
        faults |= found;
        at += length + (at[length] == ',');
    }
    return faults ? faults : FAULT_POWER;
}

static enum mutation mutation_of(const char *name)
{
    enum mutation mutation = MUTATE_NONE;
    if (!args_mutation(name, MUTATE_NONE + 1, MUTATE_COUNT, &mutation))
        usage(args_have_switches() ? "no such mutation" : "this build has no switches");
    return mutation;
}

/* Number + 1; 0: all of them. */
static uint32_t directed_of(const char *name)
{
    for (uint32_t i = 0; name && i < direct_count(); i++)
        if (strcmp(direct_name(i), name) == 0) return i + 1;
    if (!name || strcmp(name, "all") != 0) usage("no such directed history");
    return 0;
}

static struct options options_of(int argc, char **argv)
{
    struct options o = {.mode = MODE_SEEDS, .from = 1, .count = 0, .history.faults = FAULT_POWER, .faults = "power"};
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(name, "--trace") == 0) {
            o.history.trace = true;
            continue;
        }
        if (strcmp(name, "--control") == 0) {
            o.history.control = true;
            continue;
        }
        if (strcmp(name, "--net") == 0) {
            o.history.net = true;
            continue;
        }
        if (strcmp(name, "--register") == 0) {
            o.history.quorum = true;
            continue;
        }
        if (strcmp(name, "--cluster") == 0) {
            o.history.cluster = true;
            continue;
        }
        if (strcmp(name, "--quiet") == 0) {
            o.quiet = true;
            continue;
        }
        if (strcmp(name, "--mutations") == 0) {
            o.mode = MODE_MUTATIONS;
            o.count = 100000;
            continue;
        }
        i++;
        if (strcmp(name, "--seed") == 0 || strcmp(name, "--every") == 0) {
            o.mode = name[2] == 's' ? MODE_SEED : MODE_EVERY; /* also of a directed one */
            o.from = number_of(value);
            o.count = 1;
        } else if (strcmp(name, "--seeds") == 0) {
            o.mode = o.mode == MODE_EVERY || o.mode == MODE_DIRECTED ? o.mode : MODE_SEEDS;
            o.from = number_of(value);
            o.count = number_of(i + 1 < argc ? argv[++i] : NULL);
        } else if (strcmp(name, "--directed") == 0) {
            o.mode = o.mode == MODE_SEED ? MODE_SEED : MODE_DIRECTED;
            o.count = max64(o.count, 1);
            o.history.directed = directed_of(value);
        } else if (strcmp(name, "--faults") == 0) {
            o.faults = value;
            o.history.faults = faults_of(value);
        } else if (strcmp(name, "--mutation") == 0) {
            o.history.mutation = (int)mutation_of(value);
        } else if (strcmp(name, "--time") == 0) {
            o.seconds = number_of(value);
        } else if (strcmp(name, "--cut") == 0) {
            o.history.cut = number_of(value);
        } else {
            usage("no such option");
        }
    }
    if (o.count == 0) usage("nothing to do");
    if (o.history.mutation >= MUTATE_REPLICA && !o.history.cluster) usage("this one is for --replica or --cluster");
    return o;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--replica") == 0) return replica_main(argc - 2, argv + 2);
    struct options o = options_of(argc, argv);
    /* The next store takes over the memory of the last: clearing it is cheaper than having it mapped again. */
    mallopt(M_MMAP_THRESHOLD, 4 << 20);
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    mallopt(M_TOP_PAD, 64 << 20);
    started = time(NULL);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) return 2;
    if (o.mode == MODE_MUTATIONS && o.seconds == 0) o.seconds = 30;
    struct lab *lab = lab_open();
    int code = 0;
    switch (o.mode) {
    case MODE_SEED: code = seed_main(lab, &o); break;
    case MODE_EVERY: code = o.count == 1 && o.history.trace ? seed_main(lab, &o) : seeds_main(lab, &o); break;
    case MODE_SEEDS: code = seeds_main(lab, &o); break;
    case MODE_DIRECTED: code = directed_main(lab, &o); break;
    case MODE_MUTATIONS: code = mutations_main(lab, &o); break;
    }
    lab_close(lab);
    return code;
}
