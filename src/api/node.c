/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A node's start and end: the list of what it consists of, bottom up, and the same list top down. Each step says by itself
 * what prevented it.
 */
#include "api/node.h"

#include <stdio.h>
#include <string.h>

#include "api/internal.h"
#include "io/host.h"

enum { ISCSI_MIB = 32, REST_MIB = 48 /* requests of volumes, catalog, HTTP, stacks, the program itself */ };

/* ---- the state folder ---- */

static enum err path_below(const struct node *node, const char *name, char path[NODE_PATH_MAX], struct problem *p)
{
    if (snprintf(path, NODE_PATH_MAX, "%s/%s", node->config.state, name) < NODE_PATH_MAX) return OK;
    return problem_tell(p, ERR_LIMIT, "the path of the state folder is too long");
}

/* One izard a folder: the lock lasts as long as the file is open, and dies with the process. */
static enum err lock_state(struct node *node, struct problem *p)
{
    char path[NODE_PATH_MAX];
    const char *state = node->config.state;
    enum err err = host_folder_make(state);
    if (err != OK) return problem_tell(p, err, "cannot make the state folder %.200s: %s", state, err_text(err));
    TRY(path_below(node, "lock", path, p));
    err = io_file_open(node->io, path, IO_OPEN_CREATE | IO_OPEN_LOCK, &node->lock);
    if (err == ERR_LOCKED) {
        problem_help(p, "izar --socket %.120s status asks it; --state names another folder", node->config.socket);
        return problem_tell(p, err, "another izard runs on %.200s", state);
    }
    return err == OK ? OK : problem_tell(p, err, "cannot open %.200s: %s", path, err_text(err));
}

/* ---- the pool ---- */

static enum err make_pool(struct node *node, struct problem *p)
{
    const struct node_config *c = &node->config;
    struct store_format_config format = {.device_count = c->device_count, .size = c->pool_size};
    memcpy(format.devices, c->devices, sizeof format.devices);
    snprintf(format.name, sizeof format.name, "%.31s", c->name);
    enum err err = store_format(node->io, &format);
    if (err == OK) {
        trace(TRACE_NOTICE, "made a new pool of %s%s", c->devices[0].path, c->device_count > 1 ? " and others" : "");
        return OK;
    }
    if (err == ERR_IN_USE) problem_help(p, "look what it holds; izar-pool format --force overwrites it");
    if (err == ERR_TOO_SMALL || err == ERR_DEVICE_FULL)
        problem_help(p, "choose another --pool-size, or another place with --pool");
    return problem_tell(p, err, "cannot make a pool of %.200s: %s", c->devices[0].path, err_text(err));
}

/* A pool is made of files that are not there yet, or when the person who started us says so. */
static bool pool_is_new(const struct node *node)
{
    for (uint32_t i = 0; i < node->config.device_count; i++) {
        if (host_path_exists(node->config.devices[i].path)) return false;
    }
    return true;
}

static enum err open_pool(struct node *node, struct problem *p)
{
    const struct node_config *c = &node->config;
    uint64_t others = (uint64_t)(ISCSI_MIB + REST_MIB) << 20;
    struct store_config config = {.device_count = c->device_count,
                                  .memory = c->memory - others,
                                  .reserve_percent = c->reserve_percent,
                                  .discard = true,
                                  .checkpoint_ms = c->checkpoint_ms};
    struct store_problem why;
    memcpy(config.devices, c->devices, sizeof config.devices);
    bool fresh = pool_is_new(node);
    if (fresh) TRY(make_pool(node, p));
    enum err err = store_open(node->io, &config, &node->store, &why);
    if (err == ERR_NOT_OURS && c->format && !fresh) {
        TRY(make_pool(node, p));
        err = store_open(node->io, &config, &node->store, &why);
    }
    if (err == ERR_NOT_OURS) problem_help(p, "--format makes a new pool of devices that hold nothing");
    if (err == ERR_LOCKED) problem_help(p, "stop the other process: another izard, or izar-pool");
    return err == OK ? OK : problem_tell(p, err, "cannot open the pool: %s", why.text);
}

/* ---- names, target, API ---- */

static enum err open_catalog(struct node *node, struct problem *p)
{
    struct problem found;
    enum err err = catalog_file_open(node->io, node->mem, node->config.state, &node->catalogs, &found);
    if (err != OK) {
        *p = found;
        return found.err != OK ? err : problem_tell(p, err, "cannot read the catalog: %s", err_text(err));
    }
    if (found.detail[0] != '\0') trace(TRACE_WARNING, "%s", found.detail);
    return OK;
}

/* A process that was killed may hold its addresses for a moment longer, until the kernel has ended its rings. */
static bool wait_for_address(struct node *node, enum err err, uint32_t *tries)
{
    enum { TRIES = 30, PAUSE_MS = 100 };
    if (err != ERR_ADDRESS || ++*tries == TRIES) return false;
    io_task_sleep(node->io, PAUSE_MS * IO_MS_NS);
    return true;
}

static enum err open_target(struct node *node, struct problem *p)
{
    const struct node_config *c = &node->config;
    struct iscsi_target_config config = {.io = node->io,
                                         .name = node_target_name(node),
                                         .alias = c->name,
                                         .portal_group = node_group(node),
                                         .listen_count = c->listen_count,
                                         .rules = node_rules(node),
                                         .memory = (uint64_t)ISCSI_MIB << 20};
    uint32_t failed = 0;
    if (c->listen_count == 0) return OK;
    memcpy(config.listen, c->listen, sizeof config.listen);
    memcpy(config.advertise, c->advertise, sizeof config.advertise);
    uint32_t tries = 0;
    enum err err;
    do {
        err = iscsi_target_open(&config, &node->target, &failed);
    } while (wait_for_address(node, err, &tries));
    if (err == OK) return OK;
    if (err == ERR_ADDRESS)
        problem_help(p, "another iSCSI target may be running; --iscsi-listen ADDR:PORT chooses another place");
    return problem_tell(p, err, "cannot serve iSCSI at %.100s: %s", c->listen[failed], err_text(err));
}

static enum err open_web(struct node *node, struct problem *p)
{
    const char *socket = node->config.socket;
    struct web_config config = {.io = node->io, .mem = node->mem, .socket = socket, .handle = routes_handle, .arg = node};
    enum err err = web_open(&config, &node->web);
    if (err == OK) return OK;
    if (err == ERR_LIMIT)
        problem_help(p, "a socket's path has at most %d characters; choose another with --socket", HOST_SOCKET_PATH_MAX);
    if (err == ERR_LOCKED) problem_help(p, "another izard listens there; choose another with --socket");
    return problem_tell(p, err, "cannot listen at %.200s: %s", socket, err_text(err));
}

/* ---- the cluster ---- */

static void member_tells(bool is_problem, const char *text)
{
    trace(is_problem ? TRACE_WARNING : TRACE_NOTICE, "cluster: %s", text);
}

static enum err open_member(struct node *node, struct problem *p)
{
    static_assert((int)NODE_CLUSTER_MAX == (int)ROSTER_ADDRESSES_MAX, "as many as others can be told");
    const struct node_config *c = &node->config;
    struct member_why why;
    struct member_config config = {.io = node->io,
                                   .folder = c->state,
                                   .name = c->name,
                                   .role = c->witness ? ROSTER_WITNESS : ROSTER_DATA,
                                   .wall_s = host_wall_seconds,
                                   .tell = member_tells,
                                   .arg = node,
                                   .own_key = node_own_key,
                                   .take_key = node_take_key,
                                   .listen_count = c->cluster_listen_count,
                                   .advertise_count = c->cluster_advertise_count};
    memcpy(config.listen, c->cluster_listen, sizeof config.listen);
    memcpy(config.advertise, c->cluster_advertise, sizeof config.advertise);
    if (node->store != NULL) store_pool_id(node->store, config.store);
    uint32_t tries = 0;
    enum err err;
    do {
        err = member_open(&config, &node->member, &why);
    } while (wait_for_address(node, err, &tries));
    if (err == OK) return OK;
    problem_help(p, "%s", why.help);
    return problem_tell(p, err, "%s", why.text);
}

/* ---- the whole ---- */

static enum err start_data(struct node *node, struct problem *p)
{
    TRY(open_pool(node, p));
    TRY(volumes_open(&(struct volumes_config){.io = node->io, .store = node->store}, &node->volumes));
    TRY(open_catalog(node, p));
    return node_reconcile(node, p);
}

/* The replicas' task may be changing the catalog meanwhile. */
static enum err open_units(struct node *node)
{
    node_change_begin(node);
    enum err err = node_units_open(node);
    node_change_end(node);
    return err;
}

/* What initiators see comes last: it may need the others. */
static enum err start_serving(struct node *node, struct problem *p)
{
    TRY(node_replicas_open(node));
    TRY(node_sharing_open(node));
    TRY(open_units(node));
    TRY(open_target(node, p));
    node_access_watch(node);
    return scrub_open(&(struct scrub_config){.io = node->io,
                                             .mem = node->mem,
                                             .store = node->store,
                                             .volumes = node->volumes,
                                             .bytes_per_s = node->config.scrub_rate},
                      &node->scrub);
}

static enum err start_all(struct node *node, struct problem *p)
{
    TRY(lock_state(node, p));
    if (!node->config.witness) TRY(start_data(node, p));
    TRY(open_member(node, p));
    if (!node->config.witness) node_key_settle(node);
    if (!node->config.witness) TRY(start_serving(node, p));
    return open_web(node, p);
}

enum err node_start(const struct node_config *config, struct node **ret_node, struct problem *ret_problem)
{
    struct node *node = mem_alloc(config->mem, sizeof *node);
    *ret_problem = (struct problem){.err = OK};
    if (node == NULL) return problem_tell(ret_problem, ERR_NO_MEMORY, "no memory to start");
    node->config = *config;
    node->io = config->io;
    node->mem = config->mem;
    node->began_ns = io_now_ns(config->io);
    list_init(&node->waiting);
    enum err err = start_all(node, ret_problem);
    if (err != OK) {
        if (ret_problem->err == OK) problem_tell(ret_problem, err, "cannot start: %s", err_text(err));
        node_stop(node);
        return err;
    }
    *ret_node = node;
    return OK;
}

enum err node_stop(struct node *node)
{
    enum err err = OK;
    if (node == NULL) return OK;
    web_close(node->web);
    node_sharing_close(node);
    io_cancel(node->io, &node->access);
    iscsi_target_close(node->target, node->config.logout_ms);
    node->target = NULL;
    if (node->volumes != NULL) node_units_close(node);
    scrub_close(node->scrub);
    replicas_close(node->replicas);
    member_close(node->member);
    volumes_close(node->volumes);
    if (node->store != NULL) err = store_close(node->store);
    replicas_free(node->replicas);
    catalog_file_close(node->catalogs);
    io_file_close(node->lock);
    return err;
}

const char *node_text(const struct node *node, char *buf, size_t size)
{
    char address[IO_ADDRESS_TEXT];
    struct text t;
    text_init(&t, buf, size);
    for (uint32_t i = 0; node->target != NULL && i < node->config.listen_count; i++) {
        text_add(&t, "iSCSI %s, ", iscsi_target_address(node->target, i, address, sizeof address));
    }
    for (uint32_t i = 0; node->member != NULL && i < member_listens(node->member); i++) {
        text_add(&t, "nodes %s, ", member_listen_text(node->member, i, address, sizeof address));
    }
    if (node->config.witness) text_add(&t, "a witness, ");
    text_add(&t, "socket %s", node->config.socket);
    return buf;
}
