/* SPDX-License-Identifier: Apache-2.0 */
/*
 * izar-pool: what its files share. `main.c` reads the command line into `struct options`, starts the loops, opens the pool
 * and runs one command as a task on loop 0; a command is one cmd_*.c and returns the exit code of the program.
 */
#ifndef IZAR_TOOL_TOOL_H
#define IZAR_TOOL_TOOL_H

#include "base/mem.h"
#include "base/text.h"
#include "store/store.h"

enum {
    EXIT_FINE = 0,
    EXIT_DIFFERS = 1, /* the command worked, and what it compared or checked is not as it should be */
    EXIT_USAGE = 2,   /* beyond: 2 + enum err_class, see exit_code */
};

enum { OPERANDS_MAX = POOL_DEVICES_MAX, DEPTH_DEFAULT = 64, DEPTH_MAX = 1024 };

struct options {
    const char *pools[POOL_DEVICES_MAX];
    uint32_t pool_count;
    const char *operands[OPERANDS_MAX];
    uint32_t operand_count;
    uint64_t memory, loops, checkpoint_ms; /* 0: default */
    uint64_t size, segment;
    uint64_t volume, volumes;
    uint64_t depth, seconds, ops, seed;
    const char *io, *output, *name, *journal;
    bool force, verify, quick, quiet, sparse, help;
};

/* One command under way. */
struct session {
    const struct options *options;
    struct io_group *group;
    struct io *io;       /* loop 0: the store's */
    struct store *store; /* NULL for commands that open no pool */
    struct mem *mem;     /* of the command, within MEMORY_MAX */
};

/* ---- main.c ---- */

/* Says "izar-pool: <what>: <why>; <what to do>" on stderr and returns the exit code of the error's class. */
int fail(enum err err, const char *what, ...) TEXT_FORMAT(2, 3);
/* The same for a mistake on the command line. */
int fail_usage(const char *what, ...) TEXT_FORMAT(1, 2);
/* The person in front asked the program to stop (SIGINT, SIGTERM): end early, but in good order. */
bool stop_asked(void);
bool wants_json(const struct session *s);
/* The configuration that the options ask for. */
void pool_config(const struct session *s, struct store_config *ret_config);
/* The volume of --volume; says so and returns false when there is none. */
bool find_volume(struct session *s, struct store_volume_info *ret_info, int *ret_exit);
/* Looks up one volume by its id. */
bool volume_info(const struct store *store, uint32_t id, struct store_volume_info *ret_info);

/* ---- commands: one a function, [task] ---- */

int cmd_format(struct session *s);
int cmd_create(struct session *s);
int cmd_delete(struct session *s);
int cmd_volumes(struct session *s);
int cmd_write(struct session *s);
int cmd_read(struct session *s);
int cmd_verify(struct session *s);
int cmd_check(struct session *s);
int cmd_stats(struct session *s);
int cmd_clean(struct session *s);
int cmd_load(struct session *s);
int load_verify(struct session *s); /* `load --verify` */

#endif
