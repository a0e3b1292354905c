/* SPDX-License-Identifier: Apache-2.0 */
/*
 * izar host ...
 */
#include <stdio.h>
#include <string.h>

#include "io/host.h"
#include "izar/izar.h"

enum { SECRET_SIZE = 256 };

static const struct column host_columns[] = {
    {"NAME", "name", CELL_TEXT, false},           {"INITIATORS", "initiators", CELL_NAMES, false},
    {"CHAP", "chap", CELL_TEXT, false},           {"VOLUMES", "maps", CELL_COUNT, false},
    {"SESSIONS", "sessions", CELL_NUMBER, false}, {"CREATED", "created", CELL_TEXT, true},
};

static const struct column host_lines[] = {
    {"name", "name", CELL_TEXT, false},           {"initiators", "initiators", CELL_NAMES, false},
    {"CHAP", "chap", CELL_TEXT, false},           {"volumes (:lun)", "maps", CELL_MAPS, false},
    {"sessions", "sessions", CELL_NUMBER, false}, {"created", "created", CELL_TEXT, false},
};

static const char *host_path(struct session *s, const char *more, const char *last, char buf[PATH_SIZE])
{
    struct text t;
    text_init(&t, buf, PATH_SIZE);
    text_add(&t, "/v1/hosts");
    path_add(s, &t, s->options->operands[0]);
    if (more != NULL) text_add(&t, "/%s", more);
    if (last != NULL) path_add(s, &t, last);
    return buf;
}

static int ask_and_print(struct session *s, const char *method, const char *path, json_t *body)
{
    json_t *host = NULL;
    int exit = ask(s, method, path, body, &host);
    return exit == EXIT_DONE ? print_object(s, host, host_lines, COUNT(host_lines)) : exit;
}

int cmd_host_create(struct session *s)
{
    const struct options *o = s->options;
    char path[PATH_SIZE];
    json_t *names = json_array(), *host = NULL;
    for (uint32_t i = 0; i < o->initiators.count; i++) json_array_append_new(names, json_string(o->initiators.at[i]));
    json_t *body = json_pack("{s:s, s:o}", "name", o->operands[0], "initiators", names);
    if (body == NULL) return fail(EXIT_USAGE, "names are UTF-8");
    int exit = ask_unless(s, o->if_absent ? EXIT_CONFLICT : EXIT_DONE, "POST", "/v1/hosts", body, &host);
    if (exit == EXIT_CONFLICT && o->if_absent) exit = ask(s, "GET", host_path(s, NULL, NULL, path), NULL, &host);
    if (exit != EXIT_DONE) return exit;
    print_object(s, host, host_lines, COUNT(host_lines));
    if (o->initiators.count == 0)
        hint(s, "next: izar host add-initiator %s IQN", o->operands[0]);
    else
        hint(s, "next: izar volume map VOLUME --host %s", o->operands[0]);
    return EXIT_DONE;
}

int cmd_host_list(struct session *s)
{
    json_t *items = NULL;
    int exit = ask_list(s, "/v1/hosts", &items);
    if (exit != EXIT_DONE) return exit;
    bool none = json_array_size(items) == 0;
    print_list(s, items, host_columns, COUNT(host_columns));
    if (none) hint(s, "no hosts yet; next: izar host create NAME --initiator IQN");
    return EXIT_DONE;
}

int cmd_host_show(struct session *s)
{
    char path[PATH_SIZE];
    return ask_and_print(s, "GET", host_path(s, NULL, NULL, path), NULL);
}

int cmd_host_add_initiator(struct session *s)
{
    char path[PATH_SIZE];
    return ask_and_print(s, "POST", host_path(s, "initiators", NULL, path),
                         json_pack("{s:s}", "initiator", s->options->operands[1]));
}

int cmd_host_remove_initiator(struct session *s)
{
    char path[PATH_SIZE];
    return ask_and_print(s, "DELETE", host_path(s, "initiators", s->options->operands[1], path), NULL);
}

int cmd_host_delete(struct session *s)
{
    char path[PATH_SIZE];
    struct text t;
    text_init(&t, path, sizeof path);
    text_add(&t, "/v1/hosts");
    path_add(s, &t, s->options->operands[0]);
    return ask_delete(s, &t);
}

/* ---- CHAP ---- */

/* The first line of the file, of standard input ("-"), or what is typed. */
static int read_secret(const char *file, const char *whose, char buf[SECRET_SIZE])
{
    char prompt[128];
    if (file == NULL) {
        snprintf(prompt, sizeof prompt, "Secret of %.64s: ", whose);
        enum err err = host_read_secret(prompt, buf, SECRET_SIZE);
        if (err == OK) return EXIT_DONE;
        return fail(EXIT_USAGE, "no terminal to ask for the secret of %s; --secret-file FILE names it", whose);
    }
    bool is_stdin = strcmp(file, "-") == 0;
    FILE *f = is_stdin ? stdin : fopen(file, "r");
    if (f == NULL) return fail(EXIT_FAILED, "cannot read the secret from %s", file);
    char *line = fgets(buf, SECRET_SIZE, f);
    if (!is_stdin) fclose(f);
    if (line == NULL) return fail(EXIT_FAILED, "there is no secret in %s", file);
    buf[strcspn(buf, "\r\n")] = '\0';
    return EXIT_DONE;
}

int cmd_host_chap(struct session *s)
{
    const struct options *o = s->options;
    char path[PATH_SIZE], secret[SECRET_SIZE], mutual[SECRET_SIZE];
    host_path(s, "chap", NULL, path);
    if (o->off) return ask_and_print(s, "DELETE", path, NULL);
    if (o->user == NULL) return fail(EXIT_USAGE, "--user or --off is missing; example: %s", s->command->example);
    int exit = read_secret(o->secret_file, o->user, secret);
    if (exit != EXIT_DONE) return exit;
    json_t *body = json_pack("{s:s, s:s}", "user", o->user, "secret", secret);
    if (body != NULL && o->mutual_user != NULL) {
        exit = read_secret(o->mutual_secret_file, o->mutual_user, mutual);
        json_object_set_new(body, "mutual_user", json_string(o->mutual_user));
        json_object_set_new(body, "mutual_secret", json_string(mutual));
    }
    if (body == NULL) return fail(EXIT_USAGE, "names and secrets are UTF-8");
    if (exit == EXIT_DONE) return ask_and_print(s, "PUT", path, body);
    json_decref(body);
    return exit;
}
