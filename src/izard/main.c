/* SPDX-License-Identifier: Apache-2.0 */
/*
 * izard: read the configuration, start the loops, start the node, wait to be told to stop, stop it.
 */
#include <stdio.h>
#include <string.h>

#include "api/node.h"
#include "api/trace.h"
#include "io/host.h"
#include "izard/config.h"

enum { EXIT_FINE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, MEMORY_MIB = 32 };

struct daemon {
    struct config config;
    struct io_group *group;
    struct mem *mem;
    struct io_task task;
    struct io_msg stop; /* from a signal */
    bool stopping, waiting;
    int exit;
};

static int complain(const struct problem *p, int code)
{
    fprintf(stderr, "izard: %s%s%s\n", p->detail, p->remedy[0] != '\0' ? "; " : "", p->remedy);
    return code;
}

static void stop_handle(struct io_msg *msg)
{
    struct daemon *d = CONTAINER(msg, struct daemon, stop);
    d->stopping = true;
    if (d->waiting) io_task_wake(&d->task);
}

static void node_config_of(struct daemon *d, struct io *io, struct node_config *ret)
{
    const struct config *c = &d->config;
    *ret = (struct node_config){.group = d->group,
                                .io = io,
                                .mem = d->mem,
                                .state = c->state,
                                .socket = c->socket,
                                .name = c->name,
                                .device_count = c->pools.count,
                                .pool_size = c->pool_size,
                                .format = c->format,
                                .memory = c->memory,
                                .reserve_percent = (uint32_t)c->reserve,
                                .checkpoint_ms = (uint32_t)c->checkpoint_ms,
                                .scrub_rate = c->scrub_rate,
                                .target = c->target,
                                .listen_count = c->listens.count,
                                .logout_ms = (uint32_t)c->logout_ms,
                                .witness = strcmp(c->role, "witness") == 0,
                                .cluster_listen_count = c->cluster_listens.count,
                                .cluster_advertise_count = c->cluster_advertises.count};
    for (uint32_t i = 0; i < c->cluster_listens.count; i++) ret->cluster_listen[i] = c->cluster_listens.at[i];
    for (uint32_t i = 0; i < c->cluster_advertises.count; i++) ret->cluster_advertise[i] = c->cluster_advertises.at[i];
    for (uint32_t i = 0; i < c->pools.count; i++) {
        ret->devices[i] = (struct store_device_config){.path = c->pools.at[i], .class = DEVICE_FLASH};
    }
    for (uint32_t i = 0; i < c->listens.count; i++) ret->listen[i] = c->listens.at[i];
    for (uint32_t i = 0; i < c->advertises.count; i++) ret->advertise[i] = c->advertises.at[i];
}

static void daemon_run(void *arg)
{
    struct daemon *d = arg;
    struct node *node = NULL;
    struct node_config config;
    struct problem problem;
    char where[512];
    node_config_of(d, io_group_loop(d->group, 0), &config);
    if (node_start(&config, &node, &problem) == OK) {
        trace(TRACE_NOTICE, "ready: %s", node_text(node, where, sizeof where));
        host_notify("READY=1");
        d->waiting = true;
        while (!d->stopping) io_task_park();
        d->waiting = false;
        trace(TRACE_NOTICE, "stopping");
        host_notify("STOPPING=1");
        enum err err = node_stop(node);
        if (err == OK)
            trace(TRACE_NOTICE, "stopped");
        else
            trace(TRACE_ERROR, "stopped, and closing the pool failed: %s", err_text(err));
        d->exit = err == OK ? EXIT_FINE : EXIT_FAILED;
    } else {
        trace(TRACE_ERROR, "%s%s%s", problem.detail, problem.remedy[0] != '\0' ? "; " : "", problem.remedy);
        d->exit = EXIT_FAILED;
    }
    io_group_stop(d->group);
}

static void daemon_main(struct io *loop0, void *arg)
{
    struct daemon *d = arg;
    if (io_task_start(loop0, &d->task, daemon_run, d) == OK) return;
    d->exit = EXIT_FAILED;
    io_group_stop(d->group);
}

static enum err daemon_open(struct daemon *d, struct problem *p)
{
    const struct config *c = &d->config;
    struct io_config config = {.loops = (uint32_t)c->loops};
    if (strcmp(c->io, "posix") == 0) config.backend = IO_BACKEND_POSIX;
    if (strcmp(c->io, "io_uring") == 0) config.backend = IO_BACKEND_URING;
    enum err err = host_folder_make(c->state);
    if (err != OK) return problem_tell(p, err, "cannot make the state folder %.200s: %s", c->state, err_text(err));
    err = trace_open(c->log[0] != '\0' ? c->log : NULL, trace_level_of(c->log_level));
    if (err != OK) return problem_tell(p, err, "cannot write the log %.200s", c->log);
    d->mem = mem_open((uint64_t)MEMORY_MIB << 20);
    err = d->mem != NULL ? io_group_open(&config, &d->group) : ERR_NO_MEMORY;
    if (err != OK) return problem_tell(p, err, "cannot start with io = %s: %s", c->io, err_text(err));
    d->stop.handle = stop_handle;
    err = host_on_stop(io_group_loop(d->group, 0), &d->stop);
    return err == OK ? OK : problem_tell(p, err, "cannot wait for signals: %s", err_text(err));
}

int main(int argc, char **argv)
{
    static struct daemon d;
    struct problem problem = {0};
    if (config_load(&d.config, argc, argv, &problem) != OK) return complain(&problem, EXIT_USAGE);
    if (d.config.help) config_print_help();
    if (d.config.version) printf("izard %s\n", IZAR_VERSION);
    if (d.config.help || d.config.version) return EXIT_FINE;
    if (daemon_open(&d, &problem) != OK) return complain(&problem, EXIT_FAILED);
    io_group_run(d.group, daemon_main, &d);
    io_task_done(&d.task);
    io_group_close(d.group);
    mem_close(d.mem);
    trace_close();
    return d.exit;
}
