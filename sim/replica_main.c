/* SPDX-License-Identifier: Apache-2.0 */
/*
 * izar-sim --replica: many worlds by seed.
 *
 *     izar-sim --replica --seed N [--trace]      one history, replayed exactly
 *     izar-sim --replica --seeds FROM COUNT      many (FROM may be `fresh`); 1 % run twice and must come out the same
 *     izar-sim --replica --mutations             switches off each rule in turn; exit code 1 when that goes unnoticed
 *
 *     --mutation NAME   with a rule switched off     --time S   stop after so many seconds
 *     --directed        with --mutation: the history aimed at it; with --control, too, but with the rule in force; without
 *                       a mutation: all of those histories, with the rules in force
 *     --history N       that one of them
 */
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
#include "sim/replica.h"

enum { HISTORY_SECONDS = 20, FAILURES_MAX = 20 };

struct options {
    uint64_t from, count, seconds;
    uint32_t mutation, history; /* history: counted from 1; 0: none */
    bool trace, quiet, all, directed, control;
};

/* What the parent knows of its child. */
struct shared {
    uint64_t seed, histories, failures, happened, resets, unsaid;
    struct replica_counts counts;
    char why[256];
};

static struct shared *shared;

static bool run_one(struct world *w, const struct options *o, uint64_t seed)
{
    alarm(HISTORY_SECONDS);
    if (o->history != 0) {
        direct_replica_one(w, o->history - 1, seed, o->trace);
    } else if (o->directed && o->mutation == 0) {
        direct_replica_all(w, seed);
    } else if (o->directed) {
        direct_replica_run(w, o->mutation, seed, o->trace);
    } else {
        uint64_t hash = replica_run(w, seed, o->trace);
        if (seed % 100 == 0 && !world_failed(w) && replica_run(w, seed, false) != hash)
            snprintf(w->failure, sizeof w->failure, "not the same when run again");
    }
    alarm(0);
    return !world_failed(w);
}

static void report(const struct options *o, uint64_t seed, const char *why)
{
    printf("FAIL seed %llu: %s\n     replay: izar-sim --replica --seed %llu%s%s --trace\n", (unsigned long long)seed, why,
           (unsigned long long)seed, o->mutation ? " --mutation " : "", o->mutation ? mutation_names[o->mutation] : "");
    fflush(stdout);
}

static void child_main(struct world *w, const struct options *o, uint64_t from, uint64_t to, uint64_t most, time_t until)
{
    store_mutation = o->control ? MUTATE_NONE : (enum mutation)o->mutation;
    if (o->quiet) fclose(stderr);
    for (uint64_t seed = from; seed < to && shared->failures < most && (until == 0 || time(NULL) < until); seed++) {
        shared->seed = seed;
        bool fine = run_one(w, o, seed);
        shared->histories++;
        shared->happened += w->happened;
        shared->resets += w->resets;
        shared->unsaid += w->unsaid;
        w->unsaid = 0;
        world_counts_add(&shared->counts, &w->counts);
        if (fine) continue;
        shared->failures++;
        snprintf(shared->why, sizeof shared->why, "%s", w->failure);
        if (!o->quiet) report(o, seed, w->failure);
    }
    fflush(NULL);
    _exit(0);
}

/* Until there are too many findings, or it is time. */
static void run_seeds(struct world *w, const struct options *o, uint64_t from, uint64_t to, uint64_t most, time_t until)
{
    while (from < to && shared->failures < most && (until == 0 || time(NULL) < until)) {
        int status = 0;
        fflush(NULL);
        shared->seed = from;
        pid_t child = fork();
        if (child == 0) child_main(w, o, from, to, most, until);
        if (child < 0 || waitpid(child, &status, 0) != child) exit(2);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
        int number = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
        shared->failures++;
        shared->histories++;
        snprintf(shared->why, sizeof shared->why, number == SIGALRM ? "no end in sight" : "it crashed (%s)",
                 number ? strsignal(number) : "exit");
        if (!o->quiet) report(o, shared->seed, shared->why);
        from = shared->seed + 1;
    }
}

static int seeds_main(struct world *w, const struct options *o)
{
    struct timespec begin, end;
    const struct replica_counts *c = &shared->counts;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    run_seeds(w, o, o->from, o->from + o->count, FAILURES_MAX, o->seconds ? time(NULL) + (time_t)o->seconds : 0);
    clock_gettime(CLOCK_MONOTONIC, &end);
    double seconds = (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9;
    printf("%llu histories of replicas from seed %llu in %.1f s, %.1f M events, %llu failed\n",
           (unsigned long long)shared->histories, (unsigned long long)o->from, seconds, (double)shared->happened / 1e6,
           (unsigned long long)shared->failures);
#define COUNT(name) printf(" " #name " %llu", (unsigned long long)c->name)
    COUNT(reigns), COUNT(takeovers), COUNT(removals), COUNT(joins), COUNT(conflicts), COUNT(gaps), COUNT(stale);
    COUNT(unconfirmed), COUNT(duplicates), COUNT(parked), COUNT(resent), COUNT(mismatches), COUNT(stalls), COUNT(bumps);
    COUNT(resets), COUNT(refused_full), COUNT(passes);
    COUNT(resigned), COUNT(lost), COUNT(failed);
#undef COUNT
    printf(" unsaid %llu\n", (unsigned long long)shared->unsaid);
    return shared->failures > 0;
}

/* ---- mutations ---- */

static bool is_fine_without(struct world *w, const struct options *o, uint64_t seed)
{
    struct options control = *o;
    struct shared before = *shared;
    shared->failures = 0;
    control.control = true;
    run_seeds(w, &control, seed, seed + 1, 1, 0);
    bool fine = shared->failures == 0;
    *shared = before;
    if (!fine) printf("unsound: seed %llu fails without the mutation, too\n", (unsigned long long)seed);
    return fine;
}

static bool is_caught(struct world *w, const struct options *o, uint32_t mutation)
{
    struct options mine = *o;
    mine.mutation = mutation;
    mine.quiet = true;
    memset(shared, 0, sizeof *shared);
    mine.directed = direct_replica_has(mutation);
    time_t until = time(NULL) + (time_t)o->seconds;
    run_seeds(w, &mine, o->from, o->from + (mine.directed ? 1 : o->count), 1, mine.directed ? 0 : until);
    bool caught = shared->failures > 0 && is_fine_without(w, &mine, shared->seed);
    printf("%s after %4llu%s: %s: %s\n", caught ? "caught" : "MISSED", (unsigned long long)shared->histories,
           mine.directed ? " directed" : "", mutation_texts[mutation], caught ? shared->why : mutation_names[mutation]);
    fflush(stdout);
    return caught;
}

static int mutations_main(struct world *w, const struct options *o)
{
    uint32_t missed = 0, count = 0;
    for (uint32_t m = MUTATE_REPLICA; m < MUTATE_HOST; m++) {
        if (o->mutation != 0 && o->mutation != m) continue;
        count++;
        missed += !is_caught(w, o, m);
    }
    printf("%u of %u mutations caught\n", count - missed, count);
    return missed > 0;
}

/* ---- options ---- */

static void usage(const char *why)
{
    fprintf(
        stderr,
        "izar-sim --replica: %s\n"
        "usage: izar-sim --replica --seed N | --seeds FROM COUNT | --mutations [--mutation NAME] [--time SECONDS] [--trace]\n"
        "       [--mutation NAME --directed [--control]] [--history N]\n"
        "mutations:",
        why);
    args_tell_mutations(MUTATE_REPLICA, MUTATE_HOST);
    fprintf(stderr, "\n");
    exit(2);
}

static uint64_t number_of(const char *text)
{
    uint64_t number = 0;
    if (!args_number(text, &number)) usage("a number is missing");
    return number;
}

static enum mutation mutation_of(const char *name)
{
    enum mutation mutation = MUTATE_NONE;
    if (!args_mutation(name, MUTATE_REPLICA, MUTATE_HOST, &mutation))
        usage(args_have_switches() ? "no such mutation" : "this build has no switches");
    return mutation;
}

int replica_main(int argc, char **argv)
{
    struct options o = {.from = 1};
    for (int i = 0; i < argc; i++) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(name, "--trace") == 0) {
            o.trace = true;
        } else if (strcmp(name, "--mutations") == 0) {
            o.all = true;
            o.count = 1000000;
        } else if (strcmp(name, "--seed") == 0) {
            o.from = number_of(value);
            o.count = 1;
            i++;
        } else if (strcmp(name, "--seeds") == 0) {
            o.from = number_of(value);
            o.count = number_of(i + 2 < argc ? argv[i + 2] : NULL);
            i += 2;
        } else if (strcmp(name, "--mutation") == 0) {
            o.mutation = mutation_of(value);
            i++;
        } else if (strcmp(name, "--history") == 0) {
            o.history = (uint32_t)number_of(value) + 1;
            i++;
        } else if (strcmp(name, "--directed") == 0) {
            o.directed = true;
        } else if (strcmp(name, "--control") == 0) {
            o.control = true;
        } else if (strcmp(name, "--time") == 0) {
            o.seconds = number_of(value);
            i++;
        } else {
            usage("no such option");
        }
    }
    if (o.count == 0) usage("nothing to do");
    if (o.all && o.seconds == 0) o.seconds = 5;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) return 2;
    struct world *w = world_open();
    int code = o.all ? mutations_main(w, &o) : seeds_main(w, &o);
    world_close(w);
    return code;
}
