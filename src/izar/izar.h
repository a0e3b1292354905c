/* SPDX-License-Identifier: Apache-2.0 */
/*
 * izar, the command line of Izar: a client of the API and nothing else. Two tables say everything it understands: the commands
 * in main.c and the flags in flags.c; a command is one function in a cmd_*.c and returns the exit code of the program.
 *
 * Results go to standard output; progress, advice and problems to standard error.
 */
#ifndef IZAR_IZAR_IZAR_H
#define IZAR_IZAR_IZAR_H

#include <jansson.h>

#include "base/mem.h"
#include "base/text.h"

enum exit_code {
    EXIT_DONE = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_NOT_FOUND = 3,
    EXIT_CONFLICT = 4,
    EXIT_DENIED = 5,
    EXIT_UNREACHABLE = 6,
    EXIT_TIMEOUT = 7,
};

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

enum { LIST_MAX = 8, OPERANDS_MAX = 2, PATH_SIZE = 1024 };

enum output { OUTPUT_TABLE, OUTPUT_WIDE, OUTPUT_JSON, OUTPUT_NAME };

struct list_flag {
    uint32_t count;
    const char *at[LIST_MAX];
};

struct options {
    const char *socket, *output_word;
    enum output output;
    uint64_t timeout, interval, lun, block_size, copies, minutes;
    uint32_t given; /* a bit for each flag of the table */
    bool no_headers, quiet, help, version, yes, force, discard_data, if_absent, if_exists, off, once, witness, fast_failover;
    const char *size, *drop, *user, *secret_file, *mutual_user, *mutual_secret_file;
    struct list_flag hosts, initiators;
    const char *operands[OPERANDS_MAX];
    uint32_t operand_count;
};

struct session;

struct command {
    const char *noun, *verb; /* no verb: the noun alone is the command */
    const char *operands;
    uint32_t operands_min, operands_max;
    const char *flags; /* beyond the common ones, each between blanks */
    int (*run)(struct session *s);
    const char *summary, *example;
};

struct client;

struct session {
    const struct options *options;
    const struct command *command;
    struct mem *mem;
    struct client *client;
};

/* ---- main.c ---- */

/* Says "izar: <text>" on standard error and returns `code`. */
int fail(int code, const char *format, ...) TEXT_FORMAT(2, 3);
/* What the sentence says is meant: the first operand is typed on a terminal, elsewhere --yes is needed. */
int confirm(const struct options *options, const char *format, ...) TEXT_FORMAT(2, 3);
/* A hint for the person in front: nothing with --quiet. */
void hint(const struct session *s, const char *format, ...) TEXT_FORMAT(2, 3);
const struct command *command_at(uint32_t i); /* NULL: no more */

/* ---- help.c ---- */

int help_all(const struct options *o);
int help_command(const struct command *command);
int help_noun(const char *noun);

/* ---- client.c: the API ---- */

enum { RESPONSE_MAX = 16 << 20 };

/* Where it goes: --socket, IZAR_SOCKET, or the system's daemon. */
const char *client_socket(const struct options *o);
struct client *client_open(const struct options *o, struct mem *mem); /* NULL: no memory */
void client_close(struct client *client);

/* One request. `body` (may be NULL) is given up. On success ret_answer (may be NULL) is the caller's; it may be NULL then too.
 * On failure the problem was told, and the exit code says what kind. */
int ask(struct session *s, const char *method, const char *path, json_t *body, json_t **ret_answer);
/* The same without a word for exit code `quiet`: the caller knows what to make of it. */
int ask_unless(struct session *s, int quiet, const char *method, const char *path, json_t *body, json_t **ret_answer);
/* DELETE, with what --force and --if-exists ask for. */
int ask_delete(struct session *s, struct text *path);
/* All pages of a list, as one array. */
int ask_list(struct session *s, const char *path, json_t **ret_items);
/* Adds one part of a path, escaped. */
void path_add(struct session *s, struct text *path, const char *part);

/* ---- output.c ---- */

enum cell { CELL_TEXT, CELL_NUMBER, CELL_BYTES, CELL_COUNT /* of a list */, CELL_MAPS, CELL_NAMES };

struct column {
    const char *title, *member;
    enum cell cell;
    bool wide; /* with -o wide only */
};

bool wants_json(const struct session *s);
/* Prints rows as -o asks for; `items` is given up. Returns EXIT_DONE. */
int print_list(struct session *s, json_t *items, const struct column *columns, size_t count);
/* Prints one object as lines "title  value", or JSON; `object` is given up. Returns EXIT_DONE. */
int print_object(struct session *s, json_t *object, const struct column *lines, size_t count);
void print_json(const json_t *json);
const char *member_text(const json_t *object, const char *name); /* "" when it is not there */
uint64_t member_number(const json_t *object, const char *name);  /* 0 likewise */
const char *bytes_text(uint64_t bytes, char buf[24]);

/* ---- commands ---- */

int cmd_status(struct session *s);
int cmd_top(struct session *s);
int cmd_help(struct session *s);
int cmd_cluster_create(struct session *s);
int cmd_cluster_token(struct session *s);
int cmd_cluster_join(struct session *s);
int cmd_cluster_status(struct session *s);
int cmd_cluster_remove(struct session *s);
int cmd_node_list(struct session *s);
int cmd_pool_show(struct session *s);
int cmd_pool_gc(struct session *s);
int cmd_pool_scrub(struct session *s);
int cmd_disk_list(struct session *s);
int cmd_volume_create(struct session *s);
int cmd_volume_list(struct session *s);
int cmd_volume_show(struct session *s);
int cmd_volume_why(struct session *s);
int cmd_volume_resize(struct session *s);
int cmd_volume_stats(struct session *s);
int cmd_volume_map(struct session *s);
int cmd_volume_unmap(struct session *s);
int cmd_volume_delete(struct session *s);
int cmd_volume_copies(struct session *s);
int cmd_volume_force(struct session *s);
int cmd_host_create(struct session *s);
int cmd_host_list(struct session *s);
int cmd_host_show(struct session *s);
int cmd_host_add_initiator(struct session *s);
int cmd_host_remove_initiator(struct session *s);
int cmd_host_chap(struct session *s);
int cmd_host_delete(struct session *s);
int cmd_target_show(struct session *s);
int cmd_target_portals(struct session *s);
int cmd_target_sessions(struct session *s);
int cmd_target_disconnect(struct session *s);

#endif
