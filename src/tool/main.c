/* SPDX-License-Identifier: Apache-2.0 */
/*
 * izar-pool: one pool from the command line, in process. Two tables say everything it understands: the options and the
 * commands. The pool is opened before a command and closed after it, here and nowhere else.
 */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tool/tool.h"

enum { COMMAND_MEMORY_GIB = 4, LOOPS_DEFAULT = 2 };

/* ---- telling ---- */

/* The one place where classes of errors become exit codes. */
static int exit_code(enum err err)
{
    switch (err_class(err)) {
    case ERR_CLASS_FINE: return EXIT_FINE;
    case ERR_CLASS_INVALID: return 3;
    case ERR_CLASS_NOT_FOUND: return 4;
    case ERR_CLASS_EXISTS: return 5;
    case ERR_CLASS_BUSY: return 6;
    case ERR_CLASS_FULL: return 7;
    case ERR_CLASS_CORRUPT: return 8;
    case ERR_CLASS_DEVICE: return 9;
    case ERR_CLASS_FOREIGN: return 10;
    case ERR_CLASS_STOPPED: return 11;
    case ERR_CLASS_DIFFERENT: return 12;
    }
    return EXIT_USAGE;
}

static const struct {
    enum err err;
    const char *what_to_do;
} advices[] = {
    {ERR_NO_MEMORY, "give it more with --memory"},
    {ERR_LOCKED, "stop the other process or wait for it"},
    {ERR_PERMISSION, "run it as a user who may"},
    {ERR_NO_FILE, "look at the path"},
    {ERR_NO_VOLUME, "izar-pool volumes lists those that exist, izar-pool create makes one"},
    {ERR_VOLUME_EXISTS, "choose an id higher than any used before: ids are never used again"},
    {ERR_FILE_EXISTS, "choose another name"},
    {ERR_RANGE, "the volume is smaller than that"},
    {ERR_LIMIT, "ask for less"},
    {ERR_NO_SPACE, "unmap or delete something and run izar-pool clean"},
    {ERR_DEVICE_FULL, "make room in the file system below, then try again: what was acknowledged is safe"},
    {ERR_TOO_SMALL, "a pool needs 16 segments of data at least: choose a larger --size or a smaller --segment"},
    {ERR_IN_USE, "use --force to overwrite what is there"},
    {ERR_POOL_FAILED, "look at the devices, then open the pool again: what was acknowledged is safe"},
    {ERR_UNSUPPORTED, "name a file or a block device"},
};

static const char *advice(enum err err)
{
    for (size_t i = 0; i < sizeof advices / sizeof advices[0]; i++) {
        if (advices[i].err == err) return advices[i].what_to_do;
    }
    switch (err_class(err)) {
    case ERR_CLASS_INVALID: return "see izar-pool --help";
    case ERR_CLASS_CORRUPT: return "run izar-pool check and restore from a copy what it names";
    case ERR_CLASS_DEVICE: return "look at the device and the system's log";
    case ERR_CLASS_FOREIGN: return "look whether this is the right device";
    case ERR_CLASS_BUSY:
    case ERR_CLASS_STOPPED: return "try again";
    case ERR_CLASS_NOT_FOUND:
    case ERR_CLASS_EXISTS:
    case ERR_CLASS_FULL:
    case ERR_CLASS_DIFFERENT:
    case ERR_CLASS_FINE: break;
    }
    return "see izar-pool --help";
}

int fail(enum err err, const char *what, ...)
{
    va_list values;
    fflush(stdout);
    fputs("izar-pool: ", stderr);
    va_start(values, what);
    vfprintf(stderr, what, values);
    va_end(values);
    fprintf(stderr, ": %s; %s\n", err_text(err), advice(err));
    return exit_code(err);
}

int fail_usage(const char *what, ...)
{
    va_list values;
    fputs("izar-pool: ", stderr);
    va_start(values, what);
    vfprintf(stderr, what, values);
    va_end(values);
    fputs("; see izar-pool --help\n", stderr);
    return EXIT_USAGE;
}

static volatile sig_atomic_t stop_signal;

static void on_signal(int number)
{
    stop_signal = number;
}

bool stop_asked(void)
{
    return stop_signal != 0;
}

bool wants_json(const struct session *s)
{
    return s->options->output != NULL && strcmp(s->options->output, "json") == 0;
}

/* ---- options ---- */

enum option_kind { FLAG, NUMBER, TEXT, POOL };

struct option_spec {
    const char *name;
    enum option_kind kind;
    size_t at;
    const char *value, *help;
};

#define FIELD(field) offsetof(struct options, field)

static const struct option_spec option_specs[] = {
    {"--pool", POOL, 0, "PATH", "a device of the pool; name each of them"},
    {"--memory", NUMBER, FIELD(memory), "SIZE", "memory of the store (1G)"},
    {"--io", TEXT, FIELD(io), "NAME", "io_uring or posix (the best that runs)"},
    {"--loops", NUMBER, FIELD(loops), "N", "event loops, each a thread (2)"},
    {"--checkpoint-ms", NUMBER, FIELD(checkpoint_ms), "N", "longest time between checkpoints (30000)"},
    {"-o", TEXT, FIELD(output), "json", "results as JSON"},
    {"--quiet", FLAG, FIELD(quiet), NULL, "no progress"},
    {"--help", FLAG, FIELD(help), NULL, "this text"},
    {"--size", NUMBER, FIELD(size), "SIZE", "of a device file, a volume, or of what is read"},
    {"--segment", NUMBER, FIELD(segment), "SHIFT", "2^SHIFT bytes a segment, 16 to 22 (22)"},
    {"--name", TEXT, FIELD(name), "NAME", "of the pool, up to 31 characters"},
    {"--force", FLAG, FIELD(force), NULL, "overwrite what is there"},
    {"--id", NUMBER, FIELD(volume), "N", "the volume"},
    {"--volume", NUMBER, FIELD(volume), "N", "the volume"},
    {"--volumes", NUMBER, FIELD(volumes), "N", "that many volumes from --volume on (1)"},
    {"--depth", NUMBER, FIELD(depth), "N", "operations under way (64)"},
    {"--sparse", FLAG, FIELD(sparse), NULL, "zeros of the file become unmapped blocks"},
    {"--seconds", NUMBER, FIELD(seconds), "N", "end after that time"},
    {"--ops", NUMBER, FIELD(ops), "N", "end after so many operations"},
    {"--seed", NUMBER, FIELD(seed), "N", "of the random choices (1)"},
    {"--journal", TEXT, FIELD(journal), "PATH", "file that remembers what was asked and acknowledged"},
    {"--quick", FLAG, FIELD(quick), NULL, "structures only, no data is read"},
    {"--verify", FLAG, FIELD(verify), NULL, "compare the volumes with the journal"},
};
enum { OPTION_SPECS = sizeof option_specs / sizeof option_specs[0], COMMON_SPECS = 8 };

/* ---- commands ---- */

enum pool_use { NO_POOL, AUDIT, LOOK, CHANGE };

struct command {
    const char *name;
    int (*run)(struct session *s);
    enum pool_use use;
    uint32_t operands_min, operands_max;
    const char *operands;
    const char *options; /* beyond the common ones, each between blanks */
    const char *summary;
};

static const struct command commands[] = {
    {"format", cmd_format, NO_POOL, 1, OPERANDS_MAX, "PATH...", " --size --segment --force --name ",
     "makes a pool of these files and devices"},
    {"create", cmd_create, CHANGE, 0, 0, "", " --id --volume --size ", "makes a volume"},
    {"delete", cmd_delete, CHANGE, 0, 0, "", " --id --volume ", "deletes a volume"},
    {"volumes", cmd_volumes, LOOK, 0, 0, "", " ", "lists the volumes"},
    {"write", cmd_write, CHANGE, 0, 1, "[FILE]", " --volume --size --depth --sparse ",
     "stores a file (or stdin) as a volume's content from block 0; makes the volume when there is none"},
    {"read", cmd_read, LOOK, 0, 1, "[FILE]", " --volume --size ", "writes a volume's content to a file (or stdout)"},
    {"verify", cmd_verify, LOOK, 1, 1, "FILE", " --volume ", "compares a volume with a file; exit code 1 says they differ"},
    {"check", cmd_check, AUDIT, 0, 0, "", " --quick ", "reads and checks all of a pool that nobody has open; changes nothing"},
    {"stats", cmd_stats, LOOK, 0, 0, "", " ", "numbers about the pool"},
    {"clean", cmd_clean, CHANGE, 0, 0, "", " ", "one pass of the cleaner, whether it pays or not"},
    {"load", cmd_load, CHANGE, 0, 0, "", " --volume --volumes --size --depth --seconds --ops --seed --journal --verify ",
     "random writes and unmaps that can be verified after a crash with --verify"},
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static bool option_allowed(const struct command *command, uint32_t spec)
{
    char wanted[32];
    if (spec < COMMON_SPECS) return true;
    snprintf(wanted, sizeof wanted, " %s ", option_specs[spec].name);
    return strstr(command->options, wanted) != NULL;
}

static void print_option(const struct option_spec *spec)
{
    char left[32];
    snprintf(left, sizeof left, "%s %s", spec->name, spec->value != NULL ? spec->value : "");
    printf("  %-24s %s\n", left, spec->help);
}

static void print_usage(void)
{
    printf("izar-pool COMMAND [OPTION...]: one Izar pool, in process\n\nCommands:\n");
    for (uint32_t i = 0; i < COMMANDS; i++) {
        char left[32];
        snprintf(left, sizeof left, "%s %s", commands[i].name, commands[i].operands);
        printf("  %-16s %s\n", left, commands[i].summary);
        if (strlen(commands[i].options) > 1) printf("                  %s\n", commands[i].options);
    }
    printf("\nOptions of all commands:\n");
    for (uint32_t i = 0; i < OPTION_SPECS; i++) {
        if (i == COMMON_SPECS) printf("\nOptions of some:\n");
        print_option(&option_specs[i]);
    }
    printf("\nSIZE is a number with K, M, G or T behind it, powers of 1024.\n\nExit codes:\n"
           "   0 done             1 compared or checked, and it differs    2 wrong usage\n"
           "   3 invalid          4 not found         5 exists already     6 busy or locked\n"
           "   7 no space         8 data damaged      9 device failed     10 not ours, other pool, newer format\n"
           "  11 stopped         12 data is not what was expected\n");
}

static int take_value(struct options *o, const struct option_spec *spec, const char *value)
{
    char *field = (char *)o + spec->at;
    switch (spec->kind) {
    case FLAG: *(bool *)(void *)field = true; return EXIT_FINE;
    case NUMBER:
        if (text_to_u64(value, (uint64_t *)(void *)field) == OK) return EXIT_FINE;
        return fail_usage("%s %s: not a number", spec->name, value);
    case TEXT: *(const char **)(void *)field = value; return EXIT_FINE;
    case POOL: break;
    }
    if (o->pool_count == POOL_DEVICES_MAX) return fail_usage("%d devices at most", POOL_DEVICES_MAX);
    o->pools[o->pool_count++] = value;
    return EXIT_FINE;
}

static int take_option(struct options *o, const struct command *command, char **argv, int *at)
{
    for (uint32_t i = 0; i < OPTION_SPECS; i++) {
        const struct option_spec *spec = &option_specs[i];
        if (strcmp(argv[*at], spec->name) != 0) continue;
        if (!option_allowed(command, i)) return fail_usage("%s means nothing to %s", spec->name, command->name);
        if (spec->kind == FLAG) return take_value(o, spec, NULL);
        if (argv[*at + 1] == NULL) return fail_usage("%s needs %s", spec->name, spec->value);
        return take_value(o, spec, argv[++*at]);
    }
    return fail_usage("unknown option %s", argv[*at]);
}

/* What can be said about the values without opening anything. */
static int check_options(const struct options *o, const struct command *command)
{
    if (o->operand_count < command->operands_min || o->operand_count > command->operands_max)
        return fail_usage("%s takes %s", command->name, command->operands_max > 0 ? command->operands : "no operands");
    if (command->use != NO_POOL && o->pool_count == 0) return fail_usage("%s needs --pool PATH", command->name);
    if (o->output != NULL && strcmp(o->output, "json") != 0) return fail_usage("-o %s: only json is known", o->output);
    if (o->loops > IO_LOOPS_MAX) return fail_usage("--loops %llu: %d at most", (unsigned long long)o->loops, IO_LOOPS_MAX);
    if (o->depth > DEPTH_MAX) return fail_usage("--depth %llu: %d at most", (unsigned long long)o->depth, DEPTH_MAX);
    if (o->checkpoint_ms > UINT32_MAX) return fail_usage("--checkpoint-ms is too large");
    if (o->volume > 1000000) return fail_usage("volumes have ids from 1 to 1000000");
    if (o->name != NULL && strlen(o->name) > 31) return fail_usage("--name is longer than 31 characters");
    return EXIT_FINE;
}

static int parse(int argc, char **argv, struct options *o, const struct command **ret_command)
{
    if (argc < 2) {
        print_usage();
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) o->help = true;
    for (uint32_t i = 0; i < COMMANDS; i++) {
        if (strcmp(argv[1], commands[i].name) == 0) *ret_command = &commands[i];
    }
    if (o->help) return EXIT_FINE;
    if (*ret_command == NULL) return fail_usage("unknown command %s", argv[1]);
    for (int at = 2; at < argc; at++) {
        if (argv[at][0] == '-' && argv[at][1] != '\0') {
            int wrong = take_option(o, *ret_command, argv, &at);
            if (wrong) return wrong;
            continue;
        }
        if (o->operand_count == OPERANDS_MAX) return fail_usage("too many operands");
        o->operands[o->operand_count++] = argv[at];
    }
    return o->help ? EXIT_FINE : check_options(o, *ret_command);
}

/* ---- the pool ---- */

bool volume_info(const struct store *store, uint32_t id, struct store_volume_info *ret_info)
{
    return store_volume_next(store, id, ret_info) == OK && ret_info->id == id;
}

bool find_volume(struct session *s, struct store_volume_info *ret_info, int *ret_exit)
{
    uint32_t id = (uint32_t)s->options->volume;
    if (id == 0) {
        *ret_exit = fail_usage("name a volume with --volume");
        return false;
    }
    if (volume_info(s->store, id, ret_info)) return true;
    *ret_exit = fail(ERR_NO_VOLUME, "volume %u", id);
    return false;
}

/* One node commits alone: what a crash left prepared was durable, so it happened. */
static void publish_prepared(struct store *store)
{
    uint32_t last = store_last_volume(store);
    for (uint32_t id = 1; id <= last; id++) {
        for (struct store_op *op; (op = store_prepared(store, id)) != NULL;) store_publish(store, op);
    }
}

void pool_config(const struct session *s, struct store_config *ret_config)
{
    const struct options *o = s->options;
    struct store_config config = {
        .device_count = o->pool_count, .memory = o->memory, .discard = true, .checkpoint_ms = (uint32_t)o->checkpoint_ms};
    for (uint32_t i = 0; i < o->pool_count; i++) {
        config.devices[i] = (struct store_device_config){.path = o->pools[i], .class = DEVICE_FLASH};
    }
    *ret_config = config;
}

static int open_pool(struct session *s, enum pool_use use)
{
    struct store_config config;
    pool_config(s, &config);
    config.read_only = use == LOOK;
    struct store_problem problem;
    enum err err = store_open(s->io, &config, &s->store, &problem);
    if (err != OK) {
        fprintf(stderr, "izar-pool: cannot open the pool: %s\n", problem.text);
        return exit_code(err);
    }
    publish_prepared(s->store);
    return EXIT_FINE;
}

static int close_pool(struct session *s)
{
    enum err err = store_close(s->store);
    return err == OK ? EXIT_FINE : fail(err, "closing the pool");
}

/* ---- running ---- */

struct run {
    struct session session;
    const struct command *command;
    struct io_task task;
    int exit;
};

static void run_command(void *arg)
{
    struct run *run = arg;
    struct session *s = &run->session;
    enum pool_use use = run->command->use;
    s->mem = mem_open((uint64_t)COMMAND_MEMORY_GIB << 30);
    run->exit = s->mem != NULL ? EXIT_FINE : fail(ERR_NO_MEMORY, "starting");
    if (run->exit == EXIT_FINE && use >= LOOK) run->exit = open_pool(s, use);
    if (run->exit == EXIT_FINE) run->exit = run->command->run(s);
    if (s->store != NULL) {
        int closed = close_pool(s);
        if (run->exit == EXIT_FINE || closed != EXIT_FINE) run->exit = closed; /* closing knows why a pool failed */
    }
    mem_close(s->mem);
    io_group_stop(s->group);
}

static void run_main(struct io *loop0, void *arg)
{
    struct run *run = arg;
    run->session.io = loop0;
    enum err err = io_task_start(loop0, &run->task, run_command, run);
    if (err == OK) return;
    run->exit = fail(err, "starting");
    io_group_stop(run->session.group);
}

static int group_open(const struct options *o, struct io_group **ret_group)
{
    struct io_config config = {.loops = o->loops > 0 ? (uint32_t)o->loops : LOOPS_DEFAULT};
    if (o->io != NULL && strcmp(o->io, "posix") == 0)
        config.backend = IO_BACKEND_POSIX;
    else if (o->io != NULL && strcmp(o->io, "io_uring") == 0)
        config.backend = IO_BACKEND_URING;
    else if (o->io != NULL)
        return fail_usage("--io %s: io_uring or posix", o->io);
    enum err err = io_group_open(&config, ret_group);
    return err == OK ? EXIT_FINE : fail(err, "starting %u loops%s%s", config.loops, o->io ? " with " : "", o->io ? o->io : "");
}

int main(int argc, char **argv)
{
    struct options options = {0};
    struct run run = {.session.options = &options};
    int wrong = parse(argc, argv, &options, &run.command);
    if (wrong) return wrong;
    if (options.help) {
        print_usage();
        return EXIT_FINE;
    }
    wrong = group_open(&options, &run.session.group);
    if (wrong) return wrong;
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    signal(SIGPIPE, SIG_IGN);
    io_group_run(run.session.group, run_main, &run);
    io_task_done(&run.task);
    io_group_close(run.session.group);
    return run.exit;
}
