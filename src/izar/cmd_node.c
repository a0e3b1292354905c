/* SPDX-License-Identifier: Apache-2.0 */
/*
 * izar status, top, pool ..., disk ..., target ...
 */
#include <stdio.h>
#include <string.h>

#include "io/host.h"
#include "izar/izar.h"

/* ---- status ---- */

static void print_issues(const json_t *issues)
{
    size_t i;
    json_t *issue;
    json_array_foreach(issues, i, issue)
        printf("%s: %s; %s\n", member_text(issue, "severity"), member_text(issue, "text"), member_text(issue, "remedy"));
}

static void print_pool_line(const json_t *pool)
{
    char capacity[24], free_bytes[24], live[24];
    const json_t *since = json_object_get(pool, "since_start");
    printf("pool      %s, %s free, %s live\n", bytes_text(member_number(pool, "capacity_bytes"), capacity),
           bytes_text(member_number(pool, "free_bytes"), free_bytes), bytes_text(member_number(pool, "live_bytes"), live));
    double saved = json_real_value(json_object_get(since, "savings_ratio"));
    if (saved > 0) {
        printf("savings   %.2f x since the start (dedupe %.2f x, compression %.2f x)\n", saved,
               json_real_value(json_object_get(since, "dedupe_ratio")),
               json_real_value(json_object_get(since, "compress_ratio")));
    }
}

static void print_status(const json_t *status)
{
    const json_t *target = json_object_get(status, "target");
    char memory[24];
    size_t i;
    json_t *portal;
    uint64_t up = member_number(status, "uptime_seconds");
    printf("node      %s, izar %s: %s, up %llu h %llu min, %s resident, %s\n", member_text(status, "name"),
           member_text(status, "version"), member_text(status, "health"), (unsigned long long)up / 3600,
           (unsigned long long)up / 60 % 60, bytes_text(member_number(status, "resident_bytes"), memory),
           member_text(status, "io"));
    if (!json_is_object(target)) {
        printf("role      witness: a vote of its cluster, no volumes; izar cluster status\n");
        print_issues(json_object_get(status, "issues"));
        return;
    }
    print_pool_line(json_object_get(status, "pool"));
    printf("serving   %u volumes to %u hosts, %u sessions\n", (unsigned)member_number(status, "volumes"),
           (unsigned)member_number(status, "hosts"), (unsigned)member_number(target, "sessions"));
    printf("target    %s", member_text(target, "iqn"));
    json_array_foreach(json_object_get(target, "portals"), i, portal)
        printf("%s %s", i > 0 ? "," : " at", json_string_value(portal));
    printf("\n");
    print_issues(json_object_get(status, "issues"));
}

int cmd_status(struct session *s)
{
    static const struct column name_line[] = {{"name", "name", CELL_TEXT, false}};
    json_t *status = NULL;
    int exit = ask(s, "GET", "/v1/status", NULL, &status);
    if (exit != EXIT_DONE) return exit;
    if (s->options->output == OUTPUT_JSON || s->options->output == OUTPUT_NAME) return print_object(s, status, name_line, 1);
    print_status(status);
    bool empty = member_number(status, "volumes") == 0 && json_is_object(json_object_get(status, "pool"));
    json_decref(status);
    if (empty) hint(s, "next: izar volume create NAME --size 100G --host HOST=IQN");
    return EXIT_DONE;
}

/* ---- pool and disks ---- */

static const struct column scrub_lines[] = {
    {"running", "running", CELL_TEXT, false},  {"at", "at_bytes", CELL_BYTES, false},
    {"of", "of_bytes", CELL_BYTES, false},     {"passes", "passes", CELL_NUMBER, false},
    {"read", "read_bytes", CELL_BYTES, false}, {"blocks lost", "lost", CELL_NUMBER, false},
};

int cmd_pool_show(struct session *s)
{
    static const struct column lines[] = {
        {"capacity", "capacity_bytes", CELL_BYTES, false},
        {"free", "free_bytes", CELL_BYTES, false},
        {"live", "live_bytes", CELL_BYTES, false},
        {"beyond memory", "beyond_memory_bytes", CELL_BYTES, false},
        {"full", "full", CELL_TEXT, false},
        {"failed", "failed", CELL_TEXT, false},
        {"medium errors", "medium_errors", CELL_NUMBER, false},
        {"mended", "mended", CELL_NUMBER, false},
        {"not mended", "unmended", CELL_NUMBER, false},
        {"key-id", "key_id", CELL_TEXT, false},
    };
    static const struct column since_lines[] = {
        {"written", "written_bytes", CELL_BYTES, false},  {"stored", "stored_bytes", CELL_BYTES, false},
        {"dedupe", "dedupe_ratio", CELL_TEXT, false},     {"compression", "compress_ratio", CELL_TEXT, false},
        {"savings", "savings_ratio", CELL_TEXT, false},   {"cleaned", "cleaned_bytes", CELL_BYTES, false},
        {"cache hits", "cache_hits", CELL_NUMBER, false}, {"cache misses", "cache_misses", CELL_NUMBER, false},
    };
    json_t *pool = NULL;
    int exit = ask(s, "GET", "/v1/pool", NULL, &pool);
    if (exit != EXIT_DONE) return exit;
    if (wants_json(s)) return print_object(s, pool, lines, COUNT(lines));
    json_t *since = json_incref(json_object_get(pool, "since_start")), *scrub = json_incref(json_object_get(pool, "scrub"));
    print_object(s, pool, lines, COUNT(lines));
    printf("scrub:\n");
    print_object(s, scrub, scrub_lines, COUNT(scrub_lines));
    printf("since the start:\n");
    return print_object(s, since, since_lines, COUNT(since_lines));
}

int cmd_pool_scrub(struct session *s)
{
    json_t *answer = NULL;
    int exit = ask(s, "POST", "/v1/pool/scrub", NULL, &answer);
    return exit == EXIT_DONE ? print_object(s, answer, scrub_lines, COUNT(scrub_lines)) : exit;
}

int cmd_pool_gc(struct session *s)
{
    static const struct column lines[] = {{"gained", "gained_bytes", CELL_BYTES, false}};
    json_t *answer = NULL;
    int exit = ask(s, "POST", "/v1/pool/clean", NULL, &answer);
    return exit == EXIT_DONE ? print_object(s, answer, lines, COUNT(lines)) : exit;
}

int cmd_disk_list(struct session *s)
{
    static const struct column columns[] = {
        {"PATH", "path", CELL_TEXT, false}, {"CLASS", "class", CELL_TEXT, false}, {"STATE", "state", CELL_TEXT, false}};
    json_t *items = NULL;
    int exit = ask_list(s, "/v1/disks", &items);
    return exit == EXIT_DONE ? print_list(s, items, columns, COUNT(columns)) : exit;
}

/* ---- target ---- */

/* A portal as a host outside would name it: an address of all interfaces is not one. */
static void portal_for_people(const char *portal, char address[128], char port[8])
{
    const char *colon = strrchr(portal, ':');
    size_t length = colon != NULL ? (size_t)(colon - portal) : strlen(portal);
    snprintf(port, 8, "%.7s", colon != NULL ? colon + 1 : "3260");
    snprintf(address, 128, "%.*s", (int)length, portal);
    if (strcmp(address, "0.0.0.0") == 0 || strcmp(address, "[::]") == 0) snprintf(address, 128, "ADDRESS");
}

static void print_connect(const json_t *target)
{
    char address[128], port[8];
    const char *iqn = member_text(target, "iqn");
    const char *portal = json_string_value(json_array_get(json_object_get(target, "portals"), 0));
    if (portal == NULL) return;
    portal_for_people(portal, address, port);
    printf("\nLinux:    iscsiadm -m discovery -t sendtargets -p %s:%s\n          iscsiadm -m node -T %s -p %s:%s --login\n",
           address, port, iqn, address, port);
    printf("Windows:  New-IscsiTargetPortal -TargetPortalAddress %s -TargetPortalPortNumber %s\n"
           "          Connect-IscsiTarget -NodeAddress %s -IsPersistent $true\n",
           address, port, iqn);
    printf("ESXi:     esxcli iscsi adapter discovery sendtarget add -A vmhba64 -a %s:%s\n"
           "          esxcli storage core adapter rescan -A vmhba64\n",
           address, port);
    if (strcmp(address, "ADDRESS") == 0) printf("ADDRESS is any address of this machine that the host can reach.\n");
    printf("The host's initiator must be one of a host here (izar host create) that sees a volume (izar volume map).\n");
}

int cmd_target_show(struct session *s)
{
    static const struct column lines[] = {
        {"target", "iqn", CELL_TEXT, false},          {"portals", "portals", CELL_NAMES, false},
        {"sessions", "sessions", CELL_NUMBER, false}, {"connections", "connections", CELL_NUMBER, false},
        {"logins", "logins", CELL_NUMBER, false},     {"failed logins", "login_failures", CELL_NUMBER, false},
        {"timeouts", "timeouts", CELL_NUMBER, false}, {"protocol errors", "protocol_errors", CELL_NUMBER, false},
    };
    json_t *target = NULL;
    int exit = ask(s, "GET", "/v1/target", NULL, &target);
    if (exit != EXIT_DONE) return exit;
    bool table = s->options->output == OUTPUT_TABLE || s->options->output == OUTPUT_WIDE;
    print_object(s, json_incref(target), lines, COUNT(lines));
    if (table) print_connect(target);
    json_decref(target);
    return EXIT_DONE;
}

int cmd_target_portals(struct session *s)
{
    static const struct column columns[] = {{"PORTAL", "portal", CELL_TEXT, false}};
    json_t *target = NULL, *items = json_array(), *portal;
    size_t i;
    int exit = ask(s, "GET", "/v1/target", NULL, &target);
    json_array_foreach(json_object_get(target, "portals"), i, portal)
        json_array_append_new(items, json_pack("{s:O}", "portal", portal));
    json_decref(target);
    if (exit == EXIT_DONE) return print_list(s, items, columns, COUNT(columns));
    json_decref(items);
    return exit;
}

int cmd_target_sessions(struct session *s)
{
    static const struct column columns[] = {
        {"ID", "id", CELL_NUMBER, false},
        {"HOST", "host", CELL_TEXT, false},
        {"INITIATOR", "initiator", CELL_TEXT, false},
        {"FROM", "peer", CELL_TEXT, false},
        {"STATE", "state", CELL_TEXT, false},
        {"CHAP", "chap", CELL_TEXT, false},
        {"SECONDS", "seconds", CELL_NUMBER, false},
        {"COMMANDS", "commands", CELL_NUMBER, false},
        {"READ", "read_bytes", CELL_BYTES, false},
        {"WRITTEN", "written_bytes", CELL_BYTES, false},
        {"NOW", "under_way", CELL_NUMBER, false},
        {"PORTAL", "portal", CELL_TEXT, true},
        {"ALIAS", "alias", CELL_TEXT, true},
    };
    json_t *items = NULL;
    int exit = ask_list(s, "/v1/sessions", &items);
    if (exit != EXIT_DONE) return exit;
    bool none = json_array_size(items) == 0;
    print_list(s, items, columns, COUNT(columns));
    if (none) hint(s, "nobody is connected; izar target show tells how to");
    return EXIT_DONE;
}

int cmd_target_disconnect(struct session *s)
{
    char path[PATH_SIZE];
    struct text t;
    text_init(&t, path, sizeof path);
    text_add(&t, "/v1/sessions");
    path_add(s, &t, s->options->operands[0]);
    return ask(s, "DELETE", path, NULL, NULL);
}

/* ---- top ---- */

static const json_t *row_named(const json_t *sample, const char *name)
{
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(sample, "items"), i, row)
    {
        if (strcmp(member_text(row, "name"), name) == 0) return row;
    }
    return NULL;
}

static json_int_t rate(const json_t *before, const json_t *now, const char *member, double seconds)
{
    uint64_t a = member_number(before, member), b = member_number(now, member);
    return b > a ? (json_int_t)((double)(b - a) / seconds) : 0;
}

static json_t *average_us(const json_t *before, const json_t *now, const char *ns, const char *count)
{
    uint64_t n = member_number(now, count) - member_number(before, count);
    uint64_t spent = member_number(now, ns) - member_number(before, ns);
    return n > 0 ? json_integer((json_int_t)(spent / n / 1000)) : json_null();
}

static json_t *rates_of(const json_t *before, const json_t *now)
{
    json_t *rows = json_array(), *row;
    double seconds = (double)(member_number(now, "now_ns") - member_number(before, "now_ns")) / 1e9;
    size_t i;
    json_array_foreach(json_object_get(now, "items"), i, row)
    {
        const json_t *old = row_named(before, member_text(row, "name"));
        if (old == NULL || seconds <= 0) continue;
        json_array_append_new(
            rows, json_pack("{s:s, s:I, s:I, s:o, s:I, s:I, s:o, s:I}", "name", member_text(row, "name"), "reads_per_second",
                            rate(old, row, "reads", seconds), "read_bytes_per_second", rate(old, row, "read_bytes", seconds),
                            "read_us", average_us(old, row, "read_ns", "reads"), "writes_per_second",
                            rate(old, row, "writes", seconds), "write_bytes_per_second", rate(old, row, "write_bytes", seconds),
                            "write_us", average_us(old, row, "write_ns", "writes"), "under_way",
                            (json_int_t)member_number(row, "under_way")));
    }
    return rows;
}

int cmd_top(struct session *s)
{
    static const struct column columns[] = {
        {"NAME", "name", CELL_TEXT, false},
        {"READ/S", "reads_per_second", CELL_NUMBER, false},
        {"READ-B/S", "read_bytes_per_second", CELL_BYTES, false},
        {"READ-US", "read_us", CELL_NUMBER, false},
        {"WRITE/S", "writes_per_second", CELL_NUMBER, false},
        {"WRITE-B/S", "write_bytes_per_second", CELL_BYTES, false},
        {"WRITE-US", "write_us", CELL_NUMBER, false},
        {"NOW", "under_way", CELL_NUMBER, false},
    };
    json_t *before = NULL, *now = NULL;
    int exit = ask(s, "GET", "/v1/stats", NULL, &before);
    while (exit == EXIT_DONE) {
        host_sleep_ms((uint32_t)s->options->interval * 1000);
        exit = ask(s, "GET", "/v1/stats", NULL, &now);
        if (exit != EXIT_DONE) break;
        if (!s->options->once && host_is_terminal(1)) printf("\033[H\033[J");
        print_list(s, rates_of(before, now), columns, COUNT(columns));
        fflush(stdout);
        json_decref(before);
        before = now;
        if (s->options->once) break;
    }
    json_decref(before);
    return exit;
}
