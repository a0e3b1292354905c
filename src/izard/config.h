/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's configuration: what this node needs before it can serve. Everything else (volumes, hosts, maps) is managed
 * through the API and lives in the catalog.
 *
 * One table says every key: its name, what it takes, its default, its sentence of help. A key `memory` is the line
 * `memory = 2G` of the file and the flag `--memory 2G`; flags win over the file, the file over the defaults. A refusal names
 * file and line (or the flag), the key, and what is allowed.
 */
#ifndef IZAR_IZARD_CONFIG_H
#define IZAR_IZARD_CONFIG_H

#include "api/node.h"

enum { CONFIG_LIST_MAX = 16, CONFIG_VALUE_SIZE = 256, CONFIG_FILE_MAX = 64 << 10 };

#define CONFIG_FILE "/etc/izar/izard.conf"

struct config_list {
    uint32_t count;
    char at[CONFIG_LIST_MAX][CONFIG_VALUE_SIZE];
};

struct config {
    char state[CONFIG_VALUE_SIZE], socket[CONFIG_VALUE_SIZE], name[CONFIG_VALUE_SIZE];
    struct config_list pools;
    uint64_t pool_size, memory, reserve, checkpoint_ms, scrub_rate, loops, logout_ms;
    char io[CONFIG_VALUE_SIZE];
    struct config_list listens, advertises;
    char target[CONFIG_VALUE_SIZE];
    char role[CONFIG_VALUE_SIZE];
    struct config_list cluster_listens, cluster_advertises;
    char log[CONFIG_VALUE_SIZE], log_level[CONFIG_VALUE_SIZE];
    /* flags only */
    char file[CONFIG_VALUE_SIZE];
    bool format, witness, help, version;
    uint32_t given; /* which keys of the table were, one bit each */
};

/* The defaults that do not depend on anything. */
void config_init(struct config *c);
/* Takes the lines of a file whose name is for messages only. ERR_ARGUMENT with the sentence. */
enum err config_parse(struct config *c, const char *text, size_t bytes, const char *file, struct problem *ret_problem);
/* Takes flags; a list given here replaces what the file said. */
enum err config_flags(struct config *c, int argc, char **argv, struct problem *ret_problem);
/* All of it: flags, the file they or the state folder name, flags again on top, defaults that depend on others. */
enum err config_load(struct config *c, int argc, char **argv, struct problem *ret_problem);
void config_print_help(void);

#endif
