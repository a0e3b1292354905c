/* SPDX-License-Identifier: Apache-2.0 */
/*
 * izar [FLAGS] NOUN VERB [NAME] [FLAGS]: flags and commands, each in one table; help, man page and tests read the same tables.
 * Wrong usage is found before anything is asked of the daemon.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "io/host.h"
#include "izar/flags.h"
#include "izar/izar.h"

enum { MEMORY_MIB = 64, TIMEOUT_DEFAULT = 60, INTERVAL_DEFAULT = 2 };

/* ---- commands ---- */

#define OF_HOSTS "hv1"
#define IQN "iqn.1991-05.com.microsoft:hv1"

static const struct command commands[] = {
    {"status", NULL, "", 0, 0, " ", cmd_status, "how the node is, in a few lines", "izar status"},
    {"top", NULL, "", 0, 0, " --interval --once ", cmd_top, "what the volumes are doing, again and again", "izar top --once"},
    {"help", NULL, "[NOUN [VERB]]", 0, 2, " ", cmd_help, "this text, or about a noun or command; -o json for programs",
     "izar help volume create"},
    {"cluster", "create", "NAME", 1, 1, " ", cmd_cluster_create,
     "makes a cluster of this node, and prints the line that joins another", "izar cluster create prod"},
    {"cluster", "token", "", 0, 0, " --witness --minutes ", cmd_cluster_token,
     "issues a token that lets one more node, or a witness, join", "izar cluster token --witness"},
    {"cluster", "join", "TOKEN", 1, 1, " --witness ", cmd_cluster_join,
     "makes this node a member; - reads the token from standard input", "izar cluster join IZJ1-YEAAAAAAAAAAAAAA"},
    {"cluster", "status", "", 0, 0, " ", cmd_cluster_status, "who is up, and what the cluster can do", "izar cluster status"},
    {"cluster", "remove", "NODE", 1, 1, " --yes --if-exists ", cmd_cluster_remove, "takes another node out of the cluster",
     "izar cluster remove n3 --yes"},
    {"node", "list", "", 0, 0, " ", cmd_node_list, "the nodes of the cluster", "izar node list"},
    {"pool", "show", "", 0, 0, " ", cmd_pool_show, "capacity, what is free, what deduplication and compression save",
     "izar pool show"},
    {"pool", "gc", "", 0, 0, " ", cmd_pool_gc, "one pass of the log cleaner now, whether it pays or not", "izar pool gc"},
    {"pool", "scrub", "", 0, 0, " ", cmd_pool_scrub, "begins to look through all volumes for damage, now", "izar pool scrub"},
    {"disk", "list", "", 0, 0, " ", cmd_disk_list, "the disks and files of the pool", "izar disk list"},
    {"volume", "create", "NAME", 1, 1, " --size --copies --fast-failover --block-size --host --lun --if-absent ",
     cmd_volume_create, "makes a volume, and maps it when hosts are named; --host NAME=IQN makes the host too",
     "izar volume create vm1 --size 500G --host " OF_HOSTS "=" IQN},
    {"volume", "list", "", 0, 0, " ", cmd_volume_list, "all volumes", "izar volume list"},
    {"volume", "show", "NAME", 1, 1, " ", cmd_volume_show, "everything about one volume", "izar volume show vm1"},
    {"volume", "why", "NAME", 1, 1, " ", cmd_volume_why, "who keeps a volume, and why this node serves it or does not",
     "izar volume why vm1"},
    {"volume", "resize", "NAME", 1, 1, " --size --discard-data ", cmd_volume_resize, "makes a volume larger, or smaller",
     "izar volume resize vm1 --size 600G"},
    {"volume", "copies", "NAME", 1, 1, " --copies --drop ", cmd_volume_copies,
     "more nodes keep a volume, or one that is lost for good no longer", "izar volume copies vm1 --copies 3"},
    {"volume", "force-promote", "NAME", 1, 1, " --yes ", cmd_volume_force,
     "the last resort: this node's copy becomes the volume, and what only others had is lost",
     "izar volume force-promote vm1 --yes"},
    {"volume", "stats", "[NAME]", 0, 1, " ", cmd_volume_stats, "reads, writes and their times since the start",
     "izar volume stats vm1"},
    {"volume", "map", "NAME", 1, 1, " --host --lun ", cmd_volume_map,
     "lets hosts see a volume, as the lowest free LUN or a given one", "izar volume map vm1 --host hv2 --lun 5"},
    {"volume", "unmap", "NAME", 1, 1, " --host --force --if-exists ", cmd_volume_unmap, "takes a volume away from hosts",
     "izar volume unmap vm1 --host hv2"},
    {"volume", "delete", "NAME", 1, 1, " --yes --force --if-exists ", cmd_volume_delete, "deletes a volume and all its data",
     "izar volume delete vm1 --yes --force"},
    {"host", "create", "NAME", 1, 1, " --initiator --if-absent ", cmd_host_create, "names a host and its initiators",
     "izar host create hv2 --initiator iqn.1993-08.org.debian:01:abc"},
    {"host", "list", "", 0, 0, " ", cmd_host_list, "all hosts", "izar host list"},
    {"host", "show", "NAME", 1, 1, " ", cmd_host_show, "everything about one host", "izar host show hv2"},
    {"host", "add-initiator", "NAME IQN", 2, 2, " ", cmd_host_add_initiator, "adds an initiator to a host",
     "izar host add-initiator hv2 iqn.1998-01.com.vmware:esx2"},
    {"host", "remove-initiator", "NAME IQN", 2, 2, " ", cmd_host_remove_initiator, "takes an initiator away from a host",
     "izar host remove-initiator hv2 iqn.1998-01.com.vmware:esx2"},
    {"host", "chap", "NAME", 1, 1, " --user --secret-file --mutual-user --mutual-secret-file --off ", cmd_host_chap,
     "sets or clears CHAP; secrets come from a file, - for standard input, or a prompt",
     "izar host chap hv2 --user hv2 --secret-file secret.txt"},
    {"host", "delete", "NAME", 1, 1, " --force --if-exists ", cmd_host_delete, "forgets a host",
     "izar host delete hv2 --force"},
    {"target", "show", "", 0, 0, " ", cmd_target_show, "the iSCSI target, and how to connect to it", "izar target show"},
    {"target", "portals", "", 0, 0, " ", cmd_target_portals, "the addresses it listens on", "izar target portals"},
    {"target", "sessions", "", 0, 0, " ", cmd_target_sessions, "who is connected", "izar target sessions"},
    {"target", "disconnect", "ID", 1, 1, " ", cmd_target_disconnect, "cuts a connection; initiators usually come back",
     "izar target disconnect 1"},
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

const struct command *command_at(uint32_t i)
{
    return i < COMMANDS ? &commands[i] : NULL;
}

/* ---- telling ---- */

int fail(int code, const char *format, ...)
{
    va_list values;
    fflush(stdout);
    fputs("izar: ", stderr);
    va_start(values, format);
    vfprintf(stderr, format, values);
    va_end(values);
    fputs("\n", stderr);
    return code;
}

int confirm(const struct options *o, const char *format, ...)
{
    char sentence[300], line[128];
    va_list values;
    if (o->yes) return EXIT_DONE;
    va_start(values, format);
    vsnprintf(sentence, sizeof sentence, format, values);
    va_end(values);
    if (!host_is_terminal(0)) return fail(EXIT_USAGE, "%s; --yes says that this is meant", sentence);
    fprintf(stderr, "%s. Type %s to go on: ", sentence, o->operands[0]);
    if (fgets(line, sizeof line, stdin) == NULL) line[0] = '\0';
    line[strcspn(line, "\n")] = '\0';
    return strcmp(line, o->operands[0]) == 0 ? EXIT_DONE : fail(EXIT_FAILED, "nothing was done");
}

void hint(const struct session *s, const char *format, ...)
{
    va_list values;
    if (s->options->quiet) return;
    fflush(stdout);
    va_start(values, format);
    vfprintf(stderr, format, values);
    va_end(values);
    fputs("\n", stderr);
}

/* ---- running ---- */

static const struct command *find_command(const char *noun, const char *verb, bool *ret_noun_known)
{
    *ret_noun_known = false;
    for (uint32_t i = 0; i < COMMANDS; i++) {
        const struct command *c = &commands[i];
        if (strcmp(c->noun, noun) != 0) continue;
        *ret_noun_known = true;
        if (c->verb == NULL || (verb != NULL && strcmp(c->verb, verb) == 0)) return c;
    }
    return NULL;
}

/* `ls` and `rm` are the two short forms there are. */
static const char *verb_of(const char *word)
{
    if (word != NULL && strcmp(word, "ls") == 0) return "list";
    if (word != NULL && strcmp(word, "rm") == 0) return "delete";
    return word;
}

static int run(const struct options *o, const struct command *command)
{
    struct session s = {.options = o, .command = command, .mem = mem_open((uint64_t)MEMORY_MIB << 20)};
    if (s.mem != NULL) s.client = client_open(o, s.mem);
    int exit = s.client != NULL ? command->run(&s) : fail(EXIT_FAILED, "no memory");
    client_close(s.client);
    mem_close(s.mem);
    if (fflush(stdout) != 0 && exit == EXIT_DONE) exit = fail(EXIT_FAILED, "cannot write to standard output");
    return exit;
}

static int check_usage(const struct options *o, const struct command *c)
{
    const char *verb = c->verb != NULL ? c->verb : "", *gap = c->verb != NULL ? " " : "";
    int wrong = flags_check(o, c);
    if (wrong) return wrong;
    if (o->operand_count >= c->operands_min && o->operand_count <= c->operands_max) return EXIT_DONE;
    return fail(EXIT_USAGE, "izar %s%s%s takes %s; example: %s", c->noun, gap, verb,
                c->operands_max > 0 ? c->operands : "no names", c->example);
}

int main(int argc, char **argv)
{
    struct options o = {.timeout = TIMEOUT_DEFAULT, .interval = INTERVAL_DEFAULT};
    struct words words = {0};
    bool noun_known;
    int wrong = flags_parse(argc, argv, &o, &words);
    if (wrong) return wrong;
    if (o.version) return printf("izar %s\n", IZAR_VERSION) > 0 ? EXIT_DONE : EXIT_FAILED;
    if (words.count == 0) return help_all(&o) == EXIT_DONE && o.help ? EXIT_DONE : EXIT_USAGE;
    const struct command *c = find_command(words.at[0], verb_of(words.at[1]), &noun_known);
    if (c == NULL && noun_known && (o.help || words.count == 1)) {
        return help_noun(words.at[0]) == EXIT_DONE && o.help ? EXIT_DONE : EXIT_USAGE;
    }
    if (c == NULL && noun_known)
        return fail(EXIT_USAGE, "izar %s has no verb %s; izar help %s lists them", words.at[0], words.at[1], words.at[0]);
    if (c == NULL) return fail(EXIT_USAGE, "unknown noun %s; izar help lists them", words.at[0]);
    if (o.help) return help_command(c);
    uint32_t skip = c->verb != NULL ? 2 : 1;
    if (words.count - skip > OPERANDS_MAX) return fail(EXIT_USAGE, "too many names; example: %s", c->example);
    for (uint32_t i = skip; i < words.count; i++) o.operands[o.operand_count++] = words.at[i];
    wrong = check_usage(&o, c);
    return wrong ? wrong : run(&o, c);
}
