/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading the configuration by its table. inih cuts lines into names and values; it does not say which line it is at, so it
 * reads through config_line, which counts, and which refuses lines that inih would cut in two.
 */
#include "izard/config.h"

#include <assert.h>
#include <ini.h>
#include <stdio.h>
#include <string.h>

#include "api/catalog.h"
#include "io/host.h"

enum key_kind { KEY_PATH, KEY_NAME, KEY_IQN, KEY_SIZE_OF, KEY_NUMBER, KEY_CHOICE, KEY_PATHS, KEY_ADDRESSES };

struct key {
    const char *name;
    enum key_kind kind;
    size_t at;
    uint64_t min, max;
    const char *what; /* what it takes, or the choices with '|' between */
    const char *help;
};

#define FIELD(field) offsetof(struct config, field)
#define GIB ((uint64_t)1 << 30)
#define MIB ((uint64_t)1 << 20)

static const struct key keys[] = {
    {"state", KEY_PATH, FIELD(state), 0, 0, "DIR", "everything that this node keeps, pool file and socket too (/var/lib/izar)"},
    {"socket", KEY_PATH, FIELD(socket), 0, 0, "PATH", "where izar reaches it (STATE/izard.sock)"},
    {"name", KEY_NAME, FIELD(name), 0, 0, "NAME", "of this node (the machine's name)"},
    {"pool", KEY_PATHS, FIELD(pools), 0, 0, "PATH", "a device or file of the pool; repeat for each (STATE/pool.img)"},
    {"pool-size", KEY_SIZE_OF, FIELD(pool_size), 128 * MIB, 64 * 1024 * GIB, "SIZE", "of a pool file when it is made (20G)"},
    {"memory", KEY_SIZE_OF, FIELD(memory), NODE_MEMORY_MIN_MIB *MIB, 4096 * GIB, "SIZE", "for all of izard (1G)"},
    {"reserve", KEY_NUMBER, FIELD(reserve), 5, 50, "PERCENT", "of the pool that clients cannot fill (15)"},
    {"checkpoint-ms", KEY_NUMBER, FIELD(checkpoint_ms), 100, 3600000, "N", "longest time between checkpoints (30000)"},
    {"scrub-rate", KEY_SIZE_OF, FIELD(scrub_rate), 0, 64 * GIB, "SIZE",
     "a second that is looked through for damage; 0: only when asked (4M)"},
    {"loops", KEY_NUMBER, FIELD(loops), 1, IO_LOOPS_MAX, "N", "event loops, each a thread (one a CPU)"},
    {"io", KEY_CHOICE, FIELD(io), 0, 0, "auto|io_uring|posix", "how to do I/O (auto)"},
    {"iscsi-listen", KEY_ADDRESSES, FIELD(listens), 0, 0, "ADDR:PORT",
     "where to serve iSCSI, or none; may be repeated ([::]:3260)"},
    {"iscsi-advertise", KEY_ADDRESSES, FIELD(advertises), 0, 0, "ADDR:PORT",
     "what discovery tells instead, one for each iscsi-listen"},
    {"iscsi-name", KEY_IQN, FIELD(target), 0, 0, "IQN", "of the target (iqn.2026-01.org.izar:NAME)"},
    {"logout-ms", KEY_NUMBER, FIELD(logout_ms), 0, 600000, "N", "initiators' time to log out at shutdown (3000)"},
    {"role", KEY_CHOICE, FIELD(role), 0, 0, "data|witness",
     "a witness has no pool and keeps only a vote of the cluster (data)"},
    {"cluster-listen", KEY_ADDRESSES, FIELD(cluster_listens), 0, 0, "ADDR:PORT",
     "where other nodes of a cluster reach this one, or none; may be repeated ([::]:7451)"},
    {"cluster-advertise", KEY_ADDRESSES, FIELD(cluster_advertises), 0, 0, "ADDR:PORT",
     "what other nodes are told instead, one for each cluster-listen (all addresses of the machine)"},
    {"log", KEY_PATH, FIELD(log), 0, 0, "PATH", "file for messages beside standard error (with --state: STATE/izard.log)"},
    {"log-level", KEY_CHOICE, FIELD(log_level), 0, 0, "error|warning|notice|info|debug", "least important that is told (info)"},
};
enum { KEYS = sizeof keys / sizeof keys[0] };

void config_init(struct config *c)
{
    *c = (struct config){
        .pool_size = 20 * GIB, .memory = GIB, .reserve = 15, .checkpoint_ms = 30000, .scrub_rate = 4 * MIB, .logout_ms = 3000};
    snprintf(c->state, sizeof c->state, "/var/lib/izar");
    snprintf(c->io, sizeof c->io, "auto");
    snprintf(c->role, sizeof c->role, "data");
    snprintf(c->log_level, sizeof c->log_level, "info");
}

/* ---- values ---- */

static bool choice_known(const char *choices, const char *value)
{
    size_t length = strlen(value);
    for (const char *at = choices; length > 0 && at != NULL; at = strchr(at, '|')) {
        if (*at == '|') at++;
        if (strncmp(at, value, length) == 0 && (at[length] == '|' || at[length] == '\0')) return true;
    }
    return false;
}

/* HOST:PORT in numbers, by its shape; whether the machine has it is found out by listening. */
static bool address_shape(const char *value)
{
    const char *colon = strrchr(value, ':');
    uint64_t port;
    if (colon == NULL || colon == value || strlen(colon + 1) > 5) return false;
    if (value[0] == '[' ? colon[-1] != ']' : strspn(value, "0123456789.") != (size_t)(colon - value)) return false;
    return text_to_u64(colon + 1, &port) == OK && port <= 65535;
}

static enum err refuse(const struct key *key, const char *value, const char *why, struct problem *p)
{
    return problem_tell(p, ERR_ARGUMENT, "%s = %.80s: %s", key->name, value, why);
}

static enum err take_number(struct config *c, const struct key *key, const char *value, struct problem *p)
{
    char low[32], high[32], why[128];
    struct text t;
    uint64_t n;
    if (text_to_u64(value, &n) != OK)
        return refuse(key, value, key->kind == KEY_SIZE_OF ? "not a size like 512M or 2G" : "not a number", p);
    if (n >= key->min && n <= key->max) {
        memcpy((char *)c + key->at, &n, sizeof n);
        return OK;
    }
    text_init(&t, low, sizeof low);
    key->kind == KEY_SIZE_OF ? text_from_bytes(&t, key->min) : text_add(&t, "%llu", (unsigned long long)key->min);
    text_init(&t, high, sizeof high);
    key->kind == KEY_SIZE_OF ? text_from_bytes(&t, key->max) : text_add(&t, "%llu", (unsigned long long)key->max);
    snprintf(why, sizeof why, "allowed are %s to %s", low, high);
    return refuse(key, value, why, p);
}

static enum err take_item(struct config *c, const struct key *key, const char *value, struct problem *p)
{
    struct config_list *list = (struct config_list *)(void *)((char *)c + key->at);
    if (key->kind == KEY_ADDRESSES && strcmp(value, "none") != 0 && !address_shape(value)) {
        return refuse(key, value, "allowed are ADDR:PORT like 192.0.2.1:3260 or [2001:db8::1]:3260, and none", p);
    }
    if (list->count == CONFIG_LIST_MAX) return refuse(key, value, "at most 16 of these are allowed", p);
    memcpy(list->at[list->count++], value, strlen(value) + 1);
    return OK;
}

static enum err check_text(const struct key *key, const char *value, struct problem *p)
{
    char why[160], iqn[CONFIG_VALUE_SIZE];
    struct problem inner = {0};
    switch (key->kind) {
    case KEY_CHOICE:
        snprintf(why, sizeof why, "allowed are %s", key->what);
        return choice_known(key->what, value) ? OK : refuse(key, value, why, p);
    case KEY_NAME: return catalog_check_name("node", value, &inner) == OK ? OK : refuse(key, value, inner.remedy, p);
    case KEY_IQN:
        memcpy(iqn, value, strlen(value) + 1);
        return catalog_check_iqn(iqn, &inner) == OK
                   ? OK
                   : refuse(key, value, "allowed are names like iqn.2026-01.org.example:disks", p);
    case KEY_PATH:
    case KEY_PATHS:
    case KEY_ADDRESSES:
    case KEY_SIZE_OF:
    case KEY_NUMBER: break;
    }
    return OK;
}

static enum err take_value(struct config *c, const struct key *key, const char *value, struct problem *p)
{
    size_t length = strlen(value);
    if (length == 0) return problem_tell(p, ERR_ARGUMENT, "%s needs a value: %s", key->name, key->what);
    if (length >= CONFIG_VALUE_SIZE)
        return problem_tell(p, ERR_ARGUMENT, "%s: the value is longer than %d characters", key->name, CONFIG_VALUE_SIZE - 1);
    if (key->kind == KEY_NUMBER || key->kind == KEY_SIZE_OF) return take_number(c, key, value, p);
    if (key->kind == KEY_PATHS || key->kind == KEY_ADDRESSES) return take_item(c, key, value, p);
    TRY(check_text(key, value, p));
    memcpy((char *)c + key->at, value, length + 1);
    return OK;
}

static bool is_list(const struct key *key)
{
    return key->kind == KEY_PATHS || key->kind == KEY_ADDRESSES;
}

static const struct key *key_named(const char *name)
{
    for (uint32_t i = 0; i < KEYS; i++) {
        if (strcmp(keys[i].name, name) == 0) return &keys[i];
    }
    return NULL;
}

static uint32_t key_bit(const struct key *key)
{
    static_assert(KEYS <= 32, "one bit a key");
    return (uint32_t)1 << (key - keys);
}

/* ---- the file ---- */

struct reading {
    struct config *config;
    const char *at, *end;
    uint32_t line;
    bool overlong;
    const char *file;
    struct problem *problem;
};

/* fgets over memory. */
static char *config_line(char *buf, int size, void *arg)
{
    struct reading *r = arg;
    size_t n = 0, room = (size_t)size - 1;
    if (r->at == r->end || r->problem->err != OK) return NULL;
    r->line++;
    const char *newline = memchr(r->at, '\n', (size_t)(r->end - r->at));
    size_t length = (size_t)((newline != NULL ? newline + 1 : r->end) - r->at);
    if (length > room || memchr(r->at, '\0', length) != NULL) {
        problem_tell(r->problem, ERR_ARGUMENT, "%s:%u: %s", r->file, r->line,
                     length > room ? "the line is too long" : "the line holds a NUL byte");
        return NULL;
    }
    for (; n < length; n++) buf[n] = r->at[n];
    buf[n] = '\0';
    r->at += length;
    return buf;
}

static enum err take_line(struct reading *r, const char *section, const char *name, const char *value, struct problem *p)
{
    char known[384];
    struct text t;
    const struct key *key = key_named(name);
    if (section[0] != '\0' && strcmp(section, "izard") != 0) {
        return problem_tell(p, ERR_ARGUMENT, "unknown section [%.40s]; allowed are [izard] and none", section);
    }
    if (key == NULL) {
        text_init(&t, known, sizeof known);
        for (uint32_t i = 0; i < KEYS; i++) text_add(&t, "%s%s", i > 0 ? ", " : "", keys[i].name);
        problem_help(p, "allowed are %.240s", known);
        return problem_tell(p, ERR_ARGUMENT, "unknown key %.40s", name);
    }
    if (!is_list(key) && r->config->given & key_bit(key)) return problem_tell(p, ERR_ARGUMENT, "%s is given twice", name);
    r->config->given |= key_bit(key);
    return take_value(r->config, key, value, p);
}

static int config_handle(void *arg, const char *section, const char *name, const char *value)
{
    struct reading *r = arg;
    struct problem p = {0};
    if (r->problem->err != OK) return 0;
    if (take_line(r, section, name, value != NULL ? value : "", &p) == OK) return 1;
    problem_tell(r->problem, p.err, "%s:%u: %s", r->file, r->line, p.detail);
    memcpy(r->problem->remedy, p.remedy, sizeof p.remedy);
    return 0;
}

enum err config_parse(struct config *c, const char *text, size_t bytes, const char *file, struct problem *ret_problem)
{
    *ret_problem = (struct problem){.err = OK};
    struct reading r = {.config = c, .at = text, .end = text + bytes, .file = file, .problem = ret_problem};
    c->given = 0;
    int line = ini_parse_stream(config_line, &r, config_handle, &r);
    if (ret_problem->err != OK) return ret_problem->err;
    if (line == 0) return OK;
    problem_help(ret_problem, "a line is KEY = VALUE, [izard], or begins with # or ;");
    return problem_tell(ret_problem, ERR_ARGUMENT, "%s:%d: this is neither a key with a value nor a comment", file, line);
}

static enum err read_file(struct config *c, const char *path, struct problem *p)
{
    static char text[CONFIG_FILE_MAX + 1];
    FILE *f = fopen(path, "r");
    if (f == NULL) return problem_tell(p, ERR_NO_FILE, "cannot read %s", path);
    size_t bytes = fread(text, 1, sizeof text, f);
    bool failed = ferror(f) != 0;
    fclose(f);
    if (failed) return problem_tell(p, ERR_IO, "cannot read %s", path);
    if (bytes > CONFIG_FILE_MAX) return problem_tell(p, ERR_LIMIT, "%s is larger than 64 KiB", path);
    return config_parse(c, text, bytes, path, p);
}

/* ---- flags ---- */

/* A list that is given by flags is theirs alone. */
static void flag_first(struct config *c, const struct key *key, uint32_t *seen)
{
    if (is_list(key) && !(*seen & key_bit(key))) ((struct config_list *)(void *)((char *)c + key->at))->count = 0;
    *seen |= key_bit(key);
}

static bool take_plain_flag(struct config *c, const char *flag)
{
    bool *to = strcmp(flag, "--format") == 0                            ? &c->format
               : strcmp(flag, "--witness") == 0                         ? &c->witness
               : strcmp(flag, "--help") == 0 || strcmp(flag, "-h") == 0 ? &c->help
               : strcmp(flag, "--version") == 0                         ? &c->version
                                                                        : NULL;
    if (to != NULL) *to = true;
    return to != NULL;
}

enum err config_flags(struct config *c, int argc, char **argv, struct problem *ret_problem)
{
    uint32_t seen = 0;
    *ret_problem = (struct problem){.err = OK};
    problem_help(ret_problem, "izard --help lists all flags");
    for (int i = 1; i < argc; i++) {
        const char *flag = argv[i], *value = argv[i + 1];
        if (take_plain_flag(c, flag)) continue;
        bool is_file = strcmp(flag, "--config") == 0;
        const struct key *key = strncmp(flag, "--", 2) == 0 ? key_named(flag + 2) : NULL;
        if (key == NULL && !is_file) return problem_tell(ret_problem, ERR_ARGUMENT, "unknown flag %.80s", flag);
        if (value == NULL) return problem_tell(ret_problem, ERR_ARGUMENT, "%s needs %s", flag, is_file ? "a file" : key->what);
        i++;
        if (is_file) {
            if (strlen(value) >= sizeof c->file)
                return problem_tell(ret_problem, ERR_ARGUMENT, "--config: the path is too long");
            memcpy(c->file, value, strlen(value) + 1);
            continue;
        }
        flag_first(c, key, &seen);
        struct problem p = {0};
        if (take_value(c, key, value, &p) != OK) return problem_tell(ret_problem, p.err, "--%s", p.detail);
    }
    c->given |= seen;
    ret_problem->remedy[0] = '\0';
    return OK;
}

/* ---- all of it ---- */

static bool was_given(const struct config *c, const char *name)
{
    return (c->given & key_bit(key_named(name))) != 0;
}

static enum err fill_path(char *path, const char *state, const char *name, struct problem *p)
{
    if (path[0] != '\0') return OK;
    if (snprintf(path, CONFIG_VALUE_SIZE, "%s/%s", state, name) < CONFIG_VALUE_SIZE) return OK;
    return problem_tell(p, ERR_LIMIT, "the path of the state folder is longer than %d characters", CONFIG_VALUE_SIZE - 16);
}

static enum err fill_cluster(struct config *c, struct problem *p)
{
    struct config_list *listens = &c->cluster_listens;
    if (listens->count == 0) snprintf(listens->at[listens->count++], CONFIG_VALUE_SIZE, "[::]:7451");
    if (strcmp(listens->at[0], "none") == 0) listens->count = 0;
    for (uint32_t i = 0; i < listens->count; i++) {
        if (strcmp(listens->at[i], "none") == 0) return problem_tell(p, ERR_ARGUMENT, "cluster-listen = none stands alone");
    }
    if (listens->count > NODE_CLUSTER_MAX)
        return problem_tell(p, ERR_ARGUMENT, "cluster-listen is given %u times; at most %d are allowed", listens->count,
                            NODE_CLUSTER_MAX);
    if (c->cluster_advertises.count > listens->count) {
        return problem_tell(p, ERR_ARGUMENT, "cluster-advertise is given %u times, cluster-listen %u times",
                            c->cluster_advertises.count, listens->count);
    }
    return OK;
}

/* What depends on other values, or on the machine. */
static enum err fill_rest(struct config *c, bool own_folder, struct problem *p)
{
    TRY(fill_path(c->socket, c->state, "izard.sock", p));
    if (own_folder) TRY(fill_path(c->log, c->state, "izard.log", p));
    if (c->pools.count == 0) {
        TRY(fill_path(c->pools.at[0], c->state, "pool.img", p));
        c->pools.count = 1;
    }
    if (c->name[0] == '\0') host_name(c->name, NAME_SIZE);
    if (c->target[0] == '\0') snprintf(c->target, sizeof c->target, "iqn.2026-01.org.izar:%.63s", c->name);
    if (c->listens.count == 0) snprintf(c->listens.at[c->listens.count++], CONFIG_VALUE_SIZE, "[::]:3260");
    if (strcmp(c->listens.at[0], "none") == 0) c->listens.count = 0;
    for (uint32_t i = 0; i < c->listens.count; i++) {
        if (strcmp(c->listens.at[i], "none") == 0) return problem_tell(p, ERR_ARGUMENT, "iscsi-listen = none stands alone");
    }
    if (c->witness) snprintf(c->role, sizeof c->role, "witness");
    TRY(fill_cluster(c, p));
    if (c->advertises.count > c->listens.count) {
        return problem_tell(p, ERR_ARGUMENT, "iscsi-advertise is given %u times, iscsi-listen %u times", c->advertises.count,
                            c->listens.count);
    }
    return OK;
}

enum err config_load(struct config *c, int argc, char **argv, struct problem *ret_problem)
{
    char path[CONFIG_VALUE_SIZE + 16];
    config_init(c);
    TRY(config_flags(c, argc, argv, ret_problem));
    if (c->help || c->version) return OK;
    bool own_folder = was_given(c, "state");
    snprintf(path, sizeof path, "%s", CONFIG_FILE);
    if (own_folder) snprintf(path, sizeof path, "%s/izard.conf", c->state);
    if (c->file[0] != '\0') snprintf(path, sizeof path, "%s", c->file);
    if (c->file[0] != '\0' || host_path_exists(path)) {
        config_init(c);
        TRY(read_file(c, path, ret_problem));
        TRY(config_flags(c, argc, argv, ret_problem));
    }
    return fill_rest(c, own_folder, ret_problem);
}

void config_print_help(void)
{
    printf("izard: serves this machine's disks as one node of Izar\n\n"
           "Example: a whole node as an ordinary user, inside one folder:\n"
           "  izard --state ~/izar --iscsi-listen 127.0.0.1:3260\n\n"
           "Flags; each but the last five is also a line KEY = VALUE of the configuration file:\n");
    for (uint32_t i = 0; i < KEYS; i++) {
        char left[64];
        snprintf(left, sizeof left, "--%s %s", keys[i].name, keys[i].what);
        printf(strlen(left) <= 30 ? "  %-30s %s\n" : "  %s\n                                 %s\n", left, keys[i].help);
    }
    printf("  %-30s %s\n", "--config FILE", "(STATE/izard.conf when --state is given, else " CONFIG_FILE ")");
    printf("  %-30s %s\n", "--format", "make a pool of the devices when they hold nothing");
    printf("  %-30s %s\n", "--witness", "the same as --role witness");
    printf("  %-30s %s\n", "--version", "print the version");
    printf("  %-30s %s\n", "--help", "this text");
    printf("\nSIZE is a number with K, M, G or T behind it, powers of 1024. It runs in the foreground; SIGTERM ends it in\n"
           "good order. Exit codes: 0 ended as asked, 1 failed, 2 wrong usage or configuration.\n");
}
