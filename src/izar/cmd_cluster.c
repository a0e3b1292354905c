/* SPDX-License-Identifier: Apache-2.0 */
/*
 * izar cluster ..., node ...
 *
 * A token is shown once, by who issued it. Each command that changes who belongs to the cluster ends with what is next.
 */
#include <stdio.h>
#include <string.h>

#include "io/host.h"
#include "izar/izar.h"

enum { TOKEN_LINE_MAX = 2048, MINUTES_DEFAULT = 60 };

static const struct column node_columns[] = {
    {"NAME", "name", CELL_TEXT, false},      {"ROLE", "role", CELL_TEXT, false},
    {"STATE", "state", CELL_TEXT, false},    {"ACCEPTOR", "acceptor", CELL_TEXT, false},
    {"THIS", "this", CELL_TEXT, false},      {"ADDRESSES", "addresses", CELL_NAMES, false},
    {"NUMBER", "number", CELL_NUMBER, true}, {"STORE", "store", CELL_TEXT, true},
};

/* ---- showing ---- */

/* The whole as JSON, its name, or lines and a table for people; `cluster` is given up. */
static int print_cluster(struct session *s, json_t *cluster)
{
    static const struct column name_line[] = {{"name", "name", CELL_TEXT, false}};
    if (s->options->output == OUTPUT_JSON || s->options->output == OUTPUT_NAME) return print_object(s, cluster, name_line, 1);
    const char *name = member_text(cluster, "name");
    printf("cluster   %s%s%s\n", name, name[0] != '\0' ? ": " : "", member_text(cluster, "summary"));
    printf("volumes   %s\n", member_text(cluster, "volumes"));
    if (json_array_size(json_object_get(cluster, "nodes")) > 0)
        print_list(s, json_incref(json_object_get(cluster, "nodes")), node_columns, COUNT(node_columns));
    const char *next = member_text(cluster, "remedy");
    if (next[0] != '\0') hint(s, "next: %s", next);
    json_decref(cluster);
    return EXIT_DONE;
}

int cmd_cluster_status(struct session *s)
{
    json_t *cluster = NULL;
    int exit = ask(s, "GET", "/v1/cluster", NULL, &cluster);
    return exit == EXIT_DONE ? print_cluster(s, cluster) : exit;
}

int cmd_node_list(struct session *s)
{
    json_t *items = NULL;
    int exit = ask_list(s, "/v1/nodes", &items);
    return exit == EXIT_DONE ? print_list(s, items, node_columns, COUNT(node_columns)) : exit;
}

/* ---- changing ---- */

static int ask_token(struct session *s, bool witness, uint64_t minutes, json_t **ret_token)
{
    json_t *body =
        json_pack("{s:s, s:I}", "role", witness ? "witness" : "data", "lifetime_seconds", (json_int_t)(minutes * 60));
    return ask(s, "POST", "/v1/cluster/tokens", body, ret_token);
}

/* A cluster of one is made to be joined: so the line for the next node comes with it. */
int cmd_cluster_create(struct session *s)
{
    json_t *cluster = NULL, *token = NULL;
    int exit = ask(s, "POST", "/v1/cluster", json_pack("{s:s}", "name", s->options->operands[0]), &cluster);
    if (exit != EXIT_DONE) return exit;
    bool table = s->options->output == OUTPUT_TABLE || s->options->output == OUTPUT_WIDE;
    if (!table) return print_cluster(s, cluster);
    printf("cluster   %s: %s\n", member_text(cluster, "name"), member_text(cluster, "summary"));
    json_decref(cluster);
    if (ask_token(s, false, MINUTES_DEFAULT, &token) == EXIT_DONE)
        hint(s, "next, on the other node, within %d minutes:\n  izar cluster join %s", MINUTES_DEFAULT,
             member_text(token, "token"));
    json_decref(token);
    return EXIT_DONE;
}

int cmd_cluster_token(struct session *s)
{
    static const struct column lines[] = {{"token", "token", CELL_TEXT, false}, {"expires", "expires", CELL_TEXT, false}};
    const struct options *o = s->options;
    json_t *token = NULL;
    int exit = ask_token(s, o->witness, o->minutes > 0 ? o->minutes : MINUTES_DEFAULT, &token);
    if (exit != EXIT_DONE) return exit;
    if (o->output == OUTPUT_JSON) return print_object(s, token, lines, COUNT(lines));
    printf("%s\n", member_text(token, "token")); /* whole: it may be longer than a cell */
    hint(s, "it is good for one %s, until %s; next, there: izar cluster join%s TOKEN",
         o->witness ? "witness" : "node with data", member_text(token, "expires"), o->witness ? " --witness" : "");
    json_decref(token);
    return EXIT_DONE;
}

/* The token from standard input, as a secret in a pipe. */
static bool read_token(char line[TOKEN_LINE_MAX])
{
    if (fgets(line, TOKEN_LINE_MAX, stdin) == NULL) return false;
    line[strcspn(line, "\r\n")] = '\0';
    return line[0] != '\0';
}

static int check_witness(struct session *s)
{
    json_t *status = NULL;
    int exit = ask(s, "GET", "/v1/status", NULL, &status);
    bool witness = strcmp(member_text(status, "role"), "witness") == 0;
    json_decref(status);
    if (exit != EXIT_DONE || witness) return exit;
    return fail(EXIT_CONFLICT,
                "this izard has a pool, so it is no witness; start one with izard --witness --state DIR, and name "
                "it with --socket DIR/izard.sock");
}

int cmd_cluster_join(struct session *s)
{
    const struct options *o = s->options;
    char line[TOKEN_LINE_MAX];
    const char *token = o->operands[0];
    json_t *cluster = NULL;
    if (strcmp(token, "-") == 0 && !read_token(line)) return fail(EXIT_USAGE, "there is no token on standard input");
    if (strcmp(token, "-") == 0) token = line;
    int exit = o->witness ? check_witness(s) : EXIT_DONE;
    if (exit == EXIT_DONE) exit = ask(s, "POST", "/v1/cluster/join", json_pack("{s:s}", "token", token), &cluster);
    return exit == EXIT_DONE ? print_cluster(s, cluster) : exit;
}

int cmd_cluster_remove(struct session *s)
{
    const struct options *o = s->options;
    char path[PATH_SIZE];
    struct text t;
    int exit = confirm(o, "removing node %s takes it out of the cluster for good; its volumes stay on it", o->operands[0]);
    if (exit != EXIT_DONE) return exit;
    text_init(&t, path, sizeof path);
    text_add(&t, "/v1/nodes");
    path_add(s, &t, o->operands[0]);
    exit = ask_delete(s, &t);
    if (exit == EXIT_DONE) hint(s, "izar cluster status tells who is left");
    return exit;
}
