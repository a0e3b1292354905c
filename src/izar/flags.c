/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading the command line by its table. Secrets are no flags: they would show in the list of processes.
 */
#include "izar/flags.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum flag_kind { FLAG_ON, FLAG_TEXT, FLAG_NUMBER, FLAG_LIST };

struct flag {
    const char *name, *other; /* `other`: a second name, or NULL */
    enum flag_kind kind;
    size_t at;
    const char *value, *help;
};

#define FIELD(field) offsetof(struct options, field)

static const struct flag flags[] = {
    {"-o", "--output", FLAG_TEXT, FIELD(output_word), "FORMAT", "table, wide, json or name (table)"},
    {"--socket", NULL, FLAG_TEXT, FIELD(socket), "PATH", "of izard (IZAR_SOCKET, else /var/lib/izar/izard.sock)"},
    {"--no-headers", NULL, FLAG_ON, FIELD(no_headers), NULL, "tables without their first line"},
    {"-q", "--quiet", FLAG_ON, FIELD(quiet), NULL, "no advice on standard error"},
    {"--timeout", NULL, FLAG_NUMBER, FIELD(timeout), "SECONDS", "for an answer (60)"},
    {"-h", "--help", FLAG_ON, FIELD(help), NULL, "about izar, a noun or a command"},
    {"--version", NULL, FLAG_ON, FIELD(version), NULL, "print the version"},
    {"--size", NULL, FLAG_TEXT, FIELD(size), "SIZE", "like 500G (1024-based) or 500GB (1000-based)"},
    {"--copies", NULL, FLAG_NUMBER, FIELD(copies), "N", "on as many nodes of the cluster, written at once to all (1)"},
    {"--drop", NULL, FLAG_TEXT, FIELD(drop), "NODE", "gives up the copy of this node, which is not in sync"},
    {"--fast-failover", NULL, FLAG_ON, FIELD(fast_failover), NULL, "of copies: within 1 s instead of 3; for a quiet network"},
    {"--block-size", NULL, FLAG_NUMBER, FIELD(block_size), "BYTES", "512 (with 4096 beneath, fits everything) or 4096 (512)"},
    {"--host", NULL, FLAG_LIST, FIELD(hosts), "NAME", "a host; may be repeated"},
    {"--lun", NULL, FLAG_NUMBER, FIELD(lun), "N", "0 to 255 (the lowest free one)"},
    {"--initiator", NULL, FLAG_LIST, FIELD(initiators), "IQN", "an initiator's name; may be repeated"},
    {"--user", NULL, FLAG_TEXT, FIELD(user), "NAME", "the host proves itself under this name"},
    {"--secret-file", NULL, FLAG_TEXT, FIELD(secret_file), "FILE", "its secret, 12 to 64 characters in the first line"},
    {"--mutual-user", NULL, FLAG_TEXT, FIELD(mutual_user), "NAME", "the target proves itself under this name"},
    {"--mutual-secret-file", NULL, FLAG_TEXT, FIELD(mutual_secret_file), "FILE", "its secret"},
    {"--off", NULL, FLAG_ON, FIELD(off), NULL, "no CHAP"},
    {"--force", NULL, FLAG_ON, FIELD(force), NULL, "do it although something still refers to it"},
    {"--discard-data", NULL, FLAG_ON, FIELD(discard_data), NULL, "cut off what lies beyond the new size"},
    {"--yes", "-y", FLAG_ON, FIELD(yes), NULL, "do not ask"},
    {"--if-absent", NULL, FLAG_ON, FIELD(if_absent), NULL, "be content when it exists already"},
    {"--if-exists", NULL, FLAG_ON, FIELD(if_exists), NULL, "be content when it does not exist"},
    {"--interval", NULL, FLAG_NUMBER, FIELD(interval), "SECONDS", "between two looks (2)"},
    {"--witness", NULL, FLAG_ON, FIELD(witness), NULL, "a vote without data, instead of a node with data"},
    {"--minutes", NULL, FLAG_NUMBER, FIELD(minutes), "N", "until the token ends (60)"},
    {"--once", NULL, FLAG_ON, FIELD(once), NULL, "one look, then end"},
};
enum { FLAGS = sizeof flags / sizeof flags[0], COMMON = 7 };

static const struct flag *flag_named(const char *name)
{
    for (uint32_t i = 0; i < FLAGS; i++) {
        if (strcmp(flags[i].name, name) == 0 || (flags[i].other != NULL && strcmp(flags[i].other, name) == 0)) return &flags[i];
    }
    return NULL;
}

static int take_value(struct options *o, const struct flag *f, const char *value)
{
    char *to = (char *)o + f->at;
    struct list_flag *list = (struct list_flag *)(void *)to;
    static_assert(FLAGS <= 32, "a bit each");
    o->given |= 1u << (f - flags);
    switch (f->kind) {
    case FLAG_ON: *(bool *)(void *)to = true; return EXIT_DONE;
    case FLAG_TEXT: *(const char **)(void *)to = value; return EXIT_DONE;
    case FLAG_NUMBER:
        if (text_to_u64(value, (uint64_t *)(void *)to) == OK) return EXIT_DONE;
        return fail(EXIT_USAGE, "%s %s: not a number", f->name, value);
    case FLAG_LIST: break;
    }
    if (list->count == LIST_MAX) return fail(EXIT_USAGE, "%s can be given %d times at most", f->name, LIST_MAX);
    list->at[list->count++] = value;
    return EXIT_DONE;
}

static int take_output(struct options *o)
{
    static const char *const words[] = {"table", "wide", "json", "name"};
    if (o->output_word == NULL) return EXIT_DONE;
    for (uint32_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(words[i], o->output_word) != 0) continue;
        o->output = (enum output)i;
        return EXIT_DONE;
    }
    return fail(EXIT_USAGE, "-o %s: allowed are table, wide, json, name", o->output_word);
}

int flags_parse(int argc, char **argv, struct options *ret_options, struct words *ret_words)
{
    bool only_words = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--") == 0 && !only_words) {
            only_words = true;
            continue;
        }
        if (only_words || argv[i][0] != '-') {
            if (ret_words->count == WORDS_MAX) return fail(EXIT_USAGE, "too many words; see izar help");
            ret_words->at[ret_words->count++] = argv[i];
            continue;
        }
        const struct flag *f = flag_named(argv[i]);
        if (f == NULL) return fail(EXIT_USAGE, "unknown flag %s; see izar help", argv[i]);
        if (f->kind != FLAG_ON && argv[i + 1] == NULL) return fail(EXIT_USAGE, "%s needs %s", argv[i], f->value);
        int wrong = take_value(ret_options, f, f->kind != FLAG_ON ? argv[++i] : NULL);
        if (wrong) return wrong;
    }
    if (ret_options->timeout == 0 || ret_options->timeout > 86400) return fail(EXIT_USAGE, "--timeout: allowed are 1 to 86400");
    if (ret_options->interval == 0 || ret_options->interval > 3600)
        return fail(EXIT_USAGE, "--interval: allowed are 1 to 3600");
    return take_output(ret_options);
}

static bool flag_given(const struct options *o, const struct flag *f)
{
    return o->given & 1u << (f - flags);
}

static bool flag_allowed(const struct command *command, const struct flag *f)
{
    char wanted[40];
    snprintf(wanted, sizeof wanted, " %s ", f->name);
    return strstr(command->flags, wanted) != NULL;
}

bool flag_is_given(const struct options *o, const char *name)
{
    return flag_given(o, flag_named(name));
}

int flags_check(const struct options *o, const struct command *command)
{
    for (uint32_t i = COMMON; i < FLAGS; i++) {
        if (!flag_given(o, &flags[i]) || flag_allowed(command, &flags[i])) continue;
        return fail(EXIT_USAGE, "%s means nothing to izar %s%s%s; izar help %s lists what does", flags[i].name, command->noun,
                    command->verb != NULL ? " " : "", command->verb != NULL ? command->verb : "", command->noun);
    }
    return EXIT_DONE;
}

void flags_print(const struct command *command)
{
    for (uint32_t i = 0; i < FLAGS; i++) {
        char left[48];
        const struct flag *f = &flags[i];
        if (command == NULL ? i >= COMMON : i < COMMON || !flag_allowed(command, f)) continue;
        snprintf(left, sizeof left, "%s%s%s%s%s", f->name, f->other != NULL ? ", " : "", f->other != NULL ? f->other : "",
                 f->value != NULL ? " " : "", f->value != NULL ? f->value : "");
        printf("  %-28s %s\n", left, f->help);
    }
}

bool size_parse(const char *text, uint64_t *ret_bytes)
{
    char number[32];
    size_t length = strlen(text);
    uint64_t n, unit = 1;
    if (text_to_u64(text, ret_bytes) == OK) return true;
    if (length < 3 || length >= sizeof number || text[length - 1] != 'B') return false;
    const char *letter = strchr("KMGT", text[length - 2]);
    if (letter == NULL || *letter == '\0') return false;
    memcpy(number, text, length - 2);
    number[length - 2] = '\0';
    if (text_to_u64(number, &n) != OK || strspn(number, "0123456789") != length - 2) return false;
    for (const char *at = "KMGT"; at[0] != '\0'; at++) {
        unit *= 1000;
        if (*at == *letter) break;
    }
    if (n > UINT64_MAX / unit) return false;
    *ret_bytes = n * unit;
    return true;
}
