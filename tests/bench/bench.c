/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The figures of the product, measured: `make bench` runs this through tools/bench. Prints a table and writes results.json
 * into the folder it is given: a list of {name, value, unit, against, ratio, target, ok}.
 *
 *     bench DIR [--fast-dir DIR] [--tool PATH] [--programs DIR] [--only STAGE] [--scale S] [--rounds N] [--io NAME]
 *               [--patience P]
 */
#define _GNU_SOURCE
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/bench.h"

/* Each stage is a process, so that one that fails or does not end takes nothing else with it; the results are in memory that
 * all of them share. */
static struct shared {
    struct result results[RESULTS_MAX];
    uint32_t count;
} * shared;

/* ---- results ---- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

double median(double *values, uint32_t count)
{
    qsort(values, count, sizeof *values, by_value);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

static bool result_ok(const struct result *r)
{
    double measured = r->ratio > 0 ? r->ratio : r->value;
    if (r->kind == AT_LEAST) return measured >= r->target || r->cpu_bound;
    return r->kind == NO_TARGET || measured <= r->target;
}

static void result_words(const struct result *r, char *ratio, char *target, size_t size)
{
    snprintf(ratio, size, r->ratio > 0 ? "%.2f" : "-", r->ratio);
    snprintf(target, size, r->kind == AT_LEAST ? ">= %.4g" : r->kind == AT_MOST ? "<= %.4g" : "-", r->target);
}

void report(const struct result *r)
{
    char ratio[24], target[24], against[24];
    if (shared->count == RESULTS_MAX) return;
    shared->results[shared->count++] = *r;
    result_words(r, ratio, target, sizeof ratio);
    snprintf(against, sizeof against, r->against > 0 ? "%.1f" : "-", r->against);
    printf("| %s%s | %.2f %s | %s | %s | %s | %s |\n", r->name, r->note, r->value, r->unit, against, ratio, target,
           r->kind == NO_TARGET ? ""
           : !result_ok(r)      ? "no"
           : r->cpu_bound       ? "yes (CPU-bound)"
                                : "yes");
    fflush(stdout);
}

static void json_number(FILE *out, const char *name, double value)
{
    if (value > 0)
        fprintf(out, ", \"%s\": %.4f", name, value);
    else
        fprintf(out, ", \"%s\": null", name);
}

static void write_json(const char *dir)
{
    char path[512], ratio[24], target[24];
    snprintf(path, sizeof path, "%s/results.json", dir);
    FILE *out = fopen(path, "w");
    if (out == NULL) must(ERR_IO, path);
    fprintf(out, "[\n");
    for (uint32_t i = 0; i < shared->count; i++) {
        const struct result *r = &shared->results[i];
        result_words(r, ratio, target, sizeof ratio);
        fprintf(out, "  {\"name\": \"%s\", \"value\": %.4f, \"unit\": \"%s\"", r->name, r->value, r->unit);
        json_number(out, "against", r->against);
        json_number(out, "ratio", r->ratio);
        if (r->kind == NO_TARGET)
            fprintf(out, ", \"target\": null, \"ok\": null}");
        else
            fprintf(out, ", \"target\": \"%s\", \"ok\": %s}", target, result_ok(r) ? "true" : "false");
        fprintf(out, i + 1 < shared->count ? ",\n" : "\n");
    }
    fprintf(out, "]\n");
    fclose(out);
}

/* ---- running ---- */

void must(enum err err, const char *what)
{
    if (err == OK) return;
    fprintf(stderr, "bench: %s: %s\n", what, err_text(err));
    exit(1);
}

static void run_task(void *arg)
{
    struct stage *s = arg;
    s->run(s);
    io_group_stop(s->group);
}

static void run_main(struct io *loop0, void *arg)
{
    struct stage *s = arg;
    s->io = loop0;
    must(io_task_start(loop0, &s->task, run_task, s), "starting a task");
}

void stage_run(struct bench *b, void (*run)(struct stage *s), void *arg)
{
    struct stage s = {.bench = b, .run = run, .arg = arg};
    struct io_config config = {.backend = b->backend, .loops = LOOPS};
    s.mem = mem_open((uint64_t)16 << 30);
    must(s.mem != NULL ? OK : ERR_NO_MEMORY, "starting");
    must(io_group_open(&config, &s.group), "starting loops");
    io_group_run(s.group, run_main, &s);
    io_task_done(&s.task);
    io_group_close(s.group);
    mem_close(s.mem);
}

static const struct {
    const char *name;
    void (*run)(struct stage *s);
    void (*run_outside)(struct bench *b); /* makes processes, and its own stages */
    unsigned seconds;                     /* at most; together 38 minutes */
} stages[] = {
    {"random", stage_random, NULL, 150},         {"cpu", stage_cpu, NULL, 120},
    {"sequential", stage_sequential, NULL, 180}, {"reduction", stage_reduction, NULL, 120},
    {"dedupe", stage_dedupe, NULL, 120},         {"metadata", stage_metadata, NULL, 240},
    {"cleaning", stage_cleaning, NULL, 600},     {"recovery", NULL, bench_recovery, 240},
    {"resident", NULL, bench_resident, 70},      {"iscsi", NULL, bench_iscsi, 400},
};

static void stage_child(struct bench *b, size_t i)
{
    setpgid(0, 0); /* a stage that does not end goes together with its children */
    if (stages[i].run_outside != NULL)
        stages[i].run_outside(b);
    else
        stage_run(b, stages[i].run, NULL);
    fflush(stdout);
    _exit(0);
}

/* False: it failed, or did not end in time. What it reported until then stays. */
static bool stage_do(struct bench *b, size_t i)
{
    int status = 0;
    fflush(stdout);
    pid_t child = fork();
    if (child < 0) must(ERR_NO_MEMORY, "a process");
    if (child == 0) stage_child(b, i);
    setpgid(child, child);
    double end_s = usage_now().wall_s + stages[i].seconds * fmax(b->scale, 1) * b->patience;
    while (waitpid(child, &status, WNOHANG) == 0) {
        if (usage_now().wall_s > end_s) {
            kill(-child, SIGKILL);
            waitpid(child, &status, 0);
            break;
        }
        usleep(50000);
    }
    kill(-child, SIGKILL); /* what it left behind */
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return true;
    struct result lost = {.unit = "of 1", .kind = AT_LEAST, .target = 1};
    snprintf(lost.name, sizeof lost.name, "the stage \"%s\" came to its end", stages[i].name);
    report(&lost);
    return false;
}

static bool stage_known(const char *name)
{
    for (size_t i = 0; i < sizeof stages / sizeof stages[0]; i++)
        if (strcmp(name, stages[i].name) == 0) return true;
    return false;
}

static void parse(int argc, char **argv, struct bench *b)
{
    for (int i = 2; i + 1 < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        if (strcmp(name, "--fast-dir") == 0) b->fast_dir = value;
        if (strcmp(name, "--tool") == 0) b->tool = value;
        if (strcmp(name, "--programs") == 0) b->programs = value;
        if (strcmp(name, "--only") == 0) b->only = value;
        if (strcmp(name, "--scale") == 0) b->scale = strtod(value, NULL);
        if (strcmp(name, "--patience") == 0) b->patience = strtod(value, NULL);
        if (strcmp(name, "--rounds") == 0) b->rounds = (uint32_t)strtoul(value, NULL, 10);
        if (strcmp(name, "--io") == 0) b->backend = strcmp(value, "posix") == 0 ? IO_BACKEND_POSIX : IO_BACKEND_URING;
    }
    if (b->rounds < 1 || b->rounds > ROUNDS_MAX) b->rounds = 5;
    if (!(b->scale > 0)) b->scale = 1;
    if (!(b->patience > 0)) b->patience = 1;
    if (b->only != NULL && !stage_known(b->only)) must(ERR_ARGUMENT, b->only);
}

int main(int argc, char **argv)
{
    struct bench b = {.dir = argc > 1 ? argv[1] : ".", .rounds = 5, .scale = 1, .patience = 1};
    bool all = true;
    b.fast_dir = b.dir;
    parse(argc, argv, &b);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    must(shared != MAP_FAILED ? OK : ERR_NO_MEMORY, "starting");
    printf("| what | measured | baseline | ratio | target | reached |\n|---|---|---|---|---|---|\n");
    for (size_t i = 0; i < sizeof stages / sizeof stages[0]; i++) {
        if (b.only != NULL && strcmp(b.only, stages[i].name) != 0) continue;
        all = stage_do(&b, i) && all;
    }
    write_json(b.dir);
    return all ? 0 : 1;
}
