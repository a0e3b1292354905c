/* SPDX-License-Identifier: Apache-2.0 */
/*
 * izar volume ...
 */
#include <stdio.h>
#include <string.h>

#include "io/host.h"
#include "izar/flags.h"
#include "izar/izar.h"

static const struct column volume_columns[] = {
    {"NAME", "name", CELL_TEXT, false},       {"SIZE", "size", CELL_BYTES, false},  {"BLOCK", "block_size", CELL_NUMBER, false},
    {"COPIES", "copies", CELL_NUMBER, false}, {"STATE", "state", CELL_TEXT, false}, {"MAPS", "maps", CELL_MAPS, false},
    {"CREATED", "created", CELL_TEXT, true},  {"NAA", "naa", CELL_TEXT, true},
};

static const struct column volume_lines[] = {
    {"name", "name", CELL_TEXT, false},
    {"size", "size", CELL_BYTES, false},
    {"block size", "block_size", CELL_NUMBER, false},
    {"copies", "copies", CELL_NUMBER, false},
    {"data", "data", CELL_TEXT, false},
    {"state", "state", CELL_TEXT, false},
    {"maps (host:lun)", "maps", CELL_MAPS, false},
    {"sessions", "sessions", CELL_NUMBER, false},
    {"created", "created", CELL_TEXT, false},
    {"identity", "naa", CELL_TEXT, false},
    {"serial", "serial", CELL_TEXT, false},
    {"number in pool", "id", CELL_NUMBER, false},
};

static const struct column stats_columns[] = {
    {"NAME", "name", CELL_TEXT, false},           {"READS", "reads", CELL_NUMBER, false},
    {"READ", "read_bytes", CELL_BYTES, false},    {"READ-US", "read_us", CELL_NUMBER, false},
    {"WRITES", "writes", CELL_NUMBER, false},     {"WRITTEN", "write_bytes", CELL_BYTES, false},
    {"WRITE-US", "write_us", CELL_NUMBER, false}, {"UNMAPPED", "unmap_bytes", CELL_BYTES, false},
    {"ERRORS", "errors", CELL_NUMBER, false},     {"NOW", "under_way", CELL_NUMBER, false},
};

/* "/v1/volumes/NAME" and, unless NULL, one more part. */
static const char *volume_path(struct session *s, const char *name, const char *more, char buf[PATH_SIZE])
{
    struct text t;
    text_init(&t, buf, PATH_SIZE);
    text_add(&t, "/v1/volumes");
    path_add(s, &t, name);
    if (more != NULL) text_add(&t, "/%s", more);
    return buf;
}

static int take_size(struct session *s, uint64_t *ret_bytes)
{
    const char *size = s->options->size;
    if (size == NULL) return fail(EXIT_USAGE, "--size is missing; example: %s", s->command->example);
    if (size_parse(size, ret_bytes)) return EXIT_DONE;
    return fail(EXIT_USAGE, "--size %s: not a size like 500G or 500GB", size);
}

/* ---- maps ---- */

static int map_one(struct session *s, const char *volume, const char *host, json_t **ret_answer)
{
    char path[PATH_SIZE];
    json_t *body = json_pack("{s:s}", "host", host);
    if (flag_is_given(s->options, "--lun")) json_object_set_new(body, "lun", json_integer((json_int_t)s->options->lun));
    return ask(s, "POST", volume_path(s, volume, "maps", path), body, ret_answer);
}

/* HOST=IQN makes the host when there is none of that name. */
static int ensure_host(struct session *s, const char *given, char name[64])
{
    const char *equals = strchr(given, '=');
    size_t length = equals != NULL ? (size_t)(equals - given) : strlen(given);
    if (length == 0 || length > 63) return fail(EXIT_USAGE, "--host %s: a host's name has 1 to 63 characters", given);
    memcpy(name, given, length);
    name[length] = '\0';
    if (equals == NULL) return EXIT_DONE;
    json_t *body = json_pack("{s:s, s:[s]}", "name", name, "initiators", equals + 1);
    char path[PATH_SIZE];
    struct text t;
    text_init(&t, path, sizeof path);
    text_add(&t, "/v1/hosts");
    path_add(s, &t, name);
    json_t *host = NULL;
    int exit = ask_unless(s, EXIT_NOT_FOUND, "GET", path, NULL, &host);
    if (exit == EXIT_NOT_FOUND) return ask(s, "POST", "/v1/hosts", body, NULL);
    json_decref(body);
    if (exit != EXIT_DONE) return exit;
    bool has = false;
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(host, "initiators"), i, item) has =
        has || strcmp(json_string_value(item), equals + 1) == 0;
    json_decref(host);
    if (has) return EXIT_DONE;
    return fail(EXIT_CONFLICT, "host %s exists and has no initiator %s; izar host add-initiator %s %s adds it", name,
                equals + 1, name, equals + 1);
}

static int map_all(struct session *s, const char *volume, json_t *ret_maps)
{
    const struct list_flag *hosts = &s->options->hosts;
    for (uint32_t i = 0; i < hosts->count; i++) {
        char name[64];
        json_t *map = NULL;
        int exit = ensure_host(s, hosts->at[i], name);
        if (exit == EXIT_DONE) exit = map_one(s, volume, name, &map);
        if (exit != EXIT_DONE) return exit;
        json_array_append_new(ret_maps, map);
    }
    return EXIT_DONE;
}

int cmd_volume_map(struct session *s)
{
    const char *name = s->options->operands[0];
    json_t *maps = json_array(), *map;
    size_t i;
    if (s->options->hosts.count == 0) {
        json_decref(maps);
        return fail(EXIT_USAGE, "--host is missing; example: %s", s->command->example);
    }
    int exit = map_all(s, name, maps);
    if (exit == EXIT_DONE && wants_json(s)) print_json(maps);
    if (exit == EXIT_DONE && !wants_json(s)) {
        json_array_foreach(maps, i, map)
            printf("%s is LUN %u of host %s\n", name, (unsigned)member_number(map, "lun"), member_text(map, "host"));
        hint(s, "next: izar target show tells how to connect");
    }
    json_decref(maps);
    return exit;
}

int cmd_volume_unmap(struct session *s)
{
    const struct options *o = s->options;
    if (o->hosts.count == 0) return fail(EXIT_USAGE, "--host is missing; example: %s", s->command->example);
    for (uint32_t i = 0; i < o->hosts.count; i++) {
        char path[PATH_SIZE];
        struct text t;
        text_init(&t, path, sizeof path);
        text_add(&t, "/v1/volumes");
        path_add(s, &t, o->operands[0]);
        text_add(&t, "/maps");
        path_add(s, &t, o->hosts.at[i]);
        int exit = ask_delete(s, &t);
        if (exit != EXIT_DONE) return exit;
    }
    return EXIT_DONE;
}

/* ---- the volume ---- */

static int create_one(struct session *s, uint64_t size, json_t **ret_volume)
{
    const struct options *o = s->options;
    char path[PATH_SIZE];
    json_t *body = json_pack("{s:s, s:I}", "name", o->operands[0], "size", (json_int_t)size);
    if (o->copies > 0) json_object_set_new(body, "copies", json_integer((json_int_t)o->copies));
    if (o->fast_failover) json_object_set_new(body, "fast_failover", json_true());
    if (o->block_size > 0) json_object_set_new(body, "block_size", json_integer((json_int_t)o->block_size));
    int exit = ask_unless(s, o->if_absent ? EXIT_CONFLICT : EXIT_DONE, "POST", "/v1/volumes", body, ret_volume);
    if (exit != EXIT_CONFLICT || !o->if_absent) return exit;
    return ask(s, "GET", volume_path(s, o->operands[0], NULL, path), NULL, ret_volume);
}

static bool already_mapped(const json_t *volume, const char *given)
{
    size_t i, length = strcspn(given, "=");
    json_t *map;
    json_array_foreach(json_object_get(volume, "maps"), i, map)
    {
        const char *host = member_text(map, "host");
        if (strlen(host) == length && strncmp(host, given, length) == 0) return true;
    }
    return false;
}

int cmd_volume_create(struct session *s)
{
    const struct options *o = s->options;
    char path[PATH_SIZE];
    uint64_t size = 0;
    json_t *volume = NULL, *maps = json_array();
    int exit = take_size(s, &size);
    if (exit == EXIT_DONE) exit = create_one(s, size, &volume);
    for (uint32_t i = 0; exit == EXIT_DONE && i < o->hosts.count; i++) {
        struct options one = *o;
        struct session with = *s;
        if (already_mapped(volume, o->hosts.at[i])) continue;
        one.hosts = (struct list_flag){.count = 1, .at = {o->hosts.at[i]}};
        with.options = &one;
        exit = map_all(&with, o->operands[0], maps);
        if (exit != EXIT_DONE) hint(s, "volume %s was created; only mapping it to %s failed", o->operands[0], o->hosts.at[i]);
    }
    json_decref(volume);
    json_decref(maps);
    volume = NULL;
    if (exit == EXIT_DONE) exit = ask(s, "GET", volume_path(s, o->operands[0], NULL, path), NULL, &volume);
    if (exit != EXIT_DONE) return exit;
    print_object(s, volume, volume_lines, COUNT(volume_lines));
    if (o->hosts.count == 0)
        hint(s, "next: izar volume map %s --host NAME", o->operands[0]);
    else
        hint(s, "next: izar target show tells how to connect");
    return EXIT_DONE;
}

int cmd_volume_list(struct session *s)
{
    json_t *items = NULL;
    int exit = ask_list(s, "/v1/volumes", &items);
    if (exit != EXIT_DONE) return exit;
    bool none = json_array_size(items) == 0;
    print_list(s, items, volume_columns, COUNT(volume_columns));
    if (none) hint(s, "no volumes yet; next: izar volume create NAME --size 100G");
    return EXIT_DONE;
}

int cmd_volume_show(struct session *s)
{
    char path[PATH_SIZE];
    json_t *volume = NULL;
    int exit = ask(s, "GET", volume_path(s, s->options->operands[0], NULL, path), NULL, &volume);
    return exit == EXIT_DONE ? print_object(s, volume, volume_lines, COUNT(volume_lines)) : exit;
}

static const struct column copy_columns[] = {
    {"NODE", "node", CELL_TEXT, false},
    {"COPY", "role", CELL_TEXT, false},
    {"UP", "up", CELL_TEXT, false},
    {"THIS", "this", CELL_TEXT, false},
};

static const struct column replica_lines[] = {
    {"this node is", "role", CELL_TEXT, false},   {"it serves", "serving", CELL_TEXT, false},
    {"because", "why", CELL_TEXT, false},         {"committed", "committed", CELL_NUMBER, false},
    {"prepared", "prepared", CELL_NUMBER, false}, {"of that durable", "durable", CELL_NUMBER, false},
};

static const struct column agreed_lines[] = {
    {"epoch", "epoch", CELL_NUMBER, false},
    {"version", "version", CELL_NUMBER, false},
    {"number in cluster", "number", CELL_NUMBER, false},
    {"fast failover", "fast_failover", CELL_TEXT, false},
};

int cmd_volume_why(struct session *s)
{
    char path[PATH_SIZE];
    json_t *volume = NULL;
    int exit = ask(s, "GET", volume_path(s, s->options->operands[0], NULL, path), NULL, &volume);
    if (exit != EXIT_DONE) return exit;
    json_t *replication = json_object_get(volume, "replication"), *here = json_object_get(replication, "here");
    if (wants_json(s)) return print_object(s, volume, volume_lines, COUNT(volume_lines));
    printf("%s: %s\n", s->options->operands[0], member_text(volume, "data"));
    if (json_is_object(replication)) {
        print_list(s, json_incref(json_object_get(replication, "copies")), copy_columns, COUNT(copy_columns));
        print_object(s, json_incref(replication), agreed_lines, COUNT(agreed_lines));
        const json_t *forced = json_object_get(replication, "forced");
        if (forced != NULL)
            printf("forced in epoch %llu: what was acknowledged after record %llu before that is lost\n",
                   (unsigned long long)member_number(forced, "epoch"), (unsigned long long)member_number(forced, "sequence"));
        if (json_is_object(here)) print_object(s, json_incref(here), replica_lines, COUNT(replica_lines));
    }
    json_decref(volume);
    return EXIT_DONE;
}

int cmd_volume_resize(struct session *s)
{
    char path[PATH_SIZE];
    uint64_t size = 0;
    json_t *volume = NULL;
    int exit = take_size(s, &size);
    if (exit != EXIT_DONE) return exit;
    json_t *body = json_pack("{s:I, s:b}", "size", (json_int_t)size, "discard_data", s->options->discard_data);
    exit = ask(s, "POST", volume_path(s, s->options->operands[0], "resize", path), body, &volume);
    if (exit != EXIT_DONE) return exit;
    print_object(s, volume, volume_lines, COUNT(volume_lines));
    hint(s, "next: rescan on the hosts; where it got larger, grow the file system there");
    return EXIT_DONE;
}

int cmd_volume_delete(struct session *s)
{
    const struct options *o = s->options;
    char path[PATH_SIZE];
    struct text t;
    int exit = confirm(o, "deleting volume %s loses all its data", o->operands[0]);
    if (exit != EXIT_DONE) return exit;
    text_init(&t, path, sizeof path);
    text_add(&t, "/v1/volumes");
    path_add(s, &t, o->operands[0]);
    return ask_delete(s, &t);
}

/* ---- copies ---- */

int cmd_volume_copies(struct session *s)
{
    const struct options *o = s->options;
    char path[PATH_SIZE];
    json_t *volume = NULL, *body = json_object();
    if (o->copies > 0) json_object_set_new(body, "copies", json_integer((json_int_t)o->copies));
    if (o->drop != NULL) json_object_set_new(body, "drop", json_string(o->drop));
    int exit = ask(s, "POST", volume_path(s, o->operands[0], "copies", path), body, &volume);
    if (exit != EXIT_DONE) return exit;
    print_object(s, volume, volume_lines, COUNT(volume_lines));
    hint(s, "next: izar volume why %s tells when a new copy has caught up", o->operands[0]);
    return EXIT_DONE;
}

/* ---- the last resort ---- */

int cmd_volume_force(struct session *s)
{
    char path[PATH_SIZE];
    const char *name = s->options->operands[0];
    json_t *volume = NULL;
    int exit = ask(s, "GET", volume_path(s, name, NULL, path), NULL, &volume);
    if (exit != EXIT_DONE) return exit;
    const json_t *here = json_object_get(json_object_get(volume, "replication"), "here");
    if (!s->options->yes) fprintf(stderr, "%s: %s\n", name, member_text(volume, "data"));
    exit = confirm(s->options, "forcing volume %s loses what other nodes acknowledged after record %llu, the last of this node",
                   name, (unsigned long long)member_number(here, "committed"));
    json_decref(volume);
    if (exit != EXIT_DONE) return exit;
    exit = ask(s, "POST", volume_path(s, name, "force-promote", path), json_pack("{s:b}", "accept_loss", true), &volume);
    if (exit != EXIT_DONE) return exit;
    print_object(s, volume, volume_lines, COUNT(volume_lines));
    hint(s, "next: check the data from a host; izar volume why %s tells when the other copies have followed", name);
    return EXIT_DONE;
}

/* ---- counting ---- */

static void add_average(json_t *row, const char *ns, const char *count, const char *name)
{
    uint64_t n = member_number(row, count);
    json_object_set_new(row, name, n > 0 ? json_integer((json_int_t)(member_number(row, ns) / n / 1000)) : json_null());
}

int cmd_volume_stats(struct session *s)
{
    char path[PATH_SIZE];
    json_t *answer = NULL, *items, *row;
    size_t i;
    bool one = s->options->operand_count == 1;
    int exit = ask(s, "GET", one ? volume_path(s, s->options->operands[0], "stats", path) : "/v1/stats", NULL, &answer);
    if (exit != EXIT_DONE) return exit;
    items = one ? json_pack("[O]", answer) : json_incref(json_object_get(answer, "items"));
    json_array_foreach(items, i, row)
    {
        add_average(row, "read_ns", "reads", "read_us");
        add_average(row, "write_ns", "writes", "write_us");
    }
    json_decref(answer);
    return print_list(s, items, stats_columns, COUNT(stats_columns));
}
