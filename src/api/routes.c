/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which method and path leads to which handler: one table. A request becomes a task with a stack of its own, because handlers
 * wait for the disk. Those that change something follow one after the other.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "api/internal.h"

enum route_how {
    ANYWHERE = 0, /* on a witness too */
    POOL = 1,     /* only where there is a pool */
    CHANGES = 2,  /* the catalog: one after the other */
    CLUSTER = 4,  /* changes the cluster, which has an order of its own */
    SHARED = 8,   /* hosts and maps, which are the cluster's when there is one */
};

struct route {
    const char *method, *path; /* a part that begins with ':' matches anything */
    handler *handle;
    unsigned how; /* bits of route_how */
};

static const struct route routes[] = {
    {"GET", "/v1/status", status_show, ANYWHERE},
    {"GET", "/v1/stats", stats_list, POOL},
    {"GET", "/v1/pool", pool_show, POOL},
    {"POST", "/v1/pool/clean", pool_clean, POOL},
    {"POST", "/v1/pool/scrub", pool_scrub, POOL},
    {"GET", "/v1/disks", disks_list, POOL},
    {"GET", "/v1/volumes", volumes_list, POOL},
    {"POST", "/v1/volumes", volumes_create, POOL | CHANGES},
    {"GET", "/v1/volumes/:volume", volumes_show, POOL},
    {"DELETE", "/v1/volumes/:volume", volumes_delete, POOL | CHANGES},
    {"POST", "/v1/volumes/:volume/resize", volumes_resize, POOL | CHANGES},
    {"POST", "/v1/volumes/:volume/copies", volumes_copies, POOL | CHANGES},
    {"POST", "/v1/volumes/:volume/force-promote", volumes_force, POOL | CHANGES},
    {"GET", "/v1/volumes/:volume/stats", volumes_stats, POOL},
    {"GET", "/v1/volumes/:volume/maps", maps_list, POOL},
    {"POST", "/v1/volumes/:volume/maps", maps_create, POOL | CHANGES | SHARED},
    {"DELETE", "/v1/volumes/:volume/maps/:host", maps_delete, POOL | CHANGES | SHARED},
    {"GET", "/v1/hosts", hosts_list, POOL},
    {"POST", "/v1/hosts", hosts_create, POOL | CHANGES | SHARED},
    {"GET", "/v1/hosts/:host", hosts_show, POOL},
    {"DELETE", "/v1/hosts/:host", hosts_delete, POOL | CHANGES | SHARED},
    {"POST", "/v1/hosts/:host/initiators", hosts_add_initiator, POOL | CHANGES | SHARED},
    {"DELETE", "/v1/hosts/:host/initiators/:iqn", hosts_remove_initiator, POOL | CHANGES | SHARED},
    {"PUT", "/v1/hosts/:host/chap", hosts_set_chap, POOL | CHANGES | SHARED},
    {"DELETE", "/v1/hosts/:host/chap", hosts_clear_chap, POOL | CHANGES | SHARED},
    {"GET", "/v1/target", target_show, POOL},
    {"GET", "/v1/sessions", sessions_list, POOL},
    {"DELETE", "/v1/sessions/:id", sessions_cut, POOL},
    {"GET", "/v1/cluster", cluster_show, ANYWHERE},
    {"POST", "/v1/cluster", cluster_create, CLUSTER},
    {"POST", "/v1/cluster/tokens", tokens_create, CLUSTER},
    {"POST", "/v1/cluster/join", cluster_join, CLUSTER},
    {"GET", "/v1/nodes", nodes_list, ANYWHERE},
    {"DELETE", "/v1/nodes/:node", nodes_delete, CLUSTER},
};
enum { ROUTES = sizeof routes / sizeof routes[0] };

/* ---- finding ---- */

/* Matches part by part; `path` is cut into pieces in place when it fits. */
static bool route_fits(const struct route *route, const char *path, const char *ret_at[PARTS_MAX])
{
    const char *want = route->path;
    uint32_t part = 0;
    while (*want != '\0' && *path != '\0') {
        if (*want == ':' && path[-1] == '/') {
            if (*path == '/') return false;
            ret_at[part++] = path;
            want += strcspn(want, "/");
            path += strcspn(path, "/");
        } else if (*want++ != *path++) {
            return false;
        }
    }
    return *want == '\0' && *path == '\0';
}

static const struct route *route_of(struct call *call, char *path)
{
    bool known = false;
    for (uint32_t i = 0; i < ROUTES; i++) {
        const char *parts[PARTS_MAX] = {NULL};
        if (!route_fits(&routes[i], path, parts)) continue;
        known = true;
        if (strcmp(routes[i].method, call->request->method) != 0) continue;
        memcpy(call->parts, parts, sizeof parts);
        for (char *at = path + 1; *at != '\0'; at++) {
            if (*at == '/') *at = '\0';
        }
        return &routes[i];
    }
    if (known) {
        call->problem.status = 405;
        problem_tell(&call->problem, ERR_UNSUPPORTED, "%s is not possible at %.200s", call->request->method, path);
    } else {
        problem_tell(&call->problem, ERR_NO_NAME, "there is no %.200s in this API", path);
        problem_help(&call->problem, "docs/openapi.yaml lists what there is");
    }
    return NULL;
}

/* ---- reading the request ---- */

/* The parser calls itself for each level, and this stack is small. Brackets in strings count too: no body of ours has many. */
static bool too_deep(const char *body, size_t bytes)
{
    enum { DEPTH_MAX = 32 };
    uint32_t depth = 0;
    for (size_t i = 0; i < bytes && depth <= DEPTH_MAX; i++) {
        if (body[i] == '[' || body[i] == '{') depth++;
        if ((body[i] == ']' || body[i] == '}') && depth > 0) depth--;
    }
    return depth > DEPTH_MAX;
}

static enum err read_body(struct call *call)
{
    struct web_request *r = call->request;
    json_error_t error;
    if (r->overlong) {
        call->problem.status = 413;
        return problem_tell(&call->problem, ERR_LIMIT, "a request has a body of at most %d bytes and a path of at most %d",
                            WEB_BODY_MAX, WEB_PATH_MAX - 1);
    }
    if (r->body_bytes == 0) {
        call->body = json_object();
        return call->body != NULL ? OK : ERR_NO_MEMORY;
    }
    if (!r->json) {
        call->problem.status = 415;
        return problem_tell(&call->problem, ERR_UNSUPPORTED, "bodies are application/json");
    }
    if (too_deep(r->body, r->body_bytes)) return problem_tell(&call->problem, ERR_ARGUMENT, "the body is nested too deeply");
    call->body = json_loadb(r->body, r->body_bytes, JSON_REJECT_DUPLICATES, &error);
    if (call->body == NULL) {
        return problem_tell(&call->problem, ERR_ARGUMENT, "the body is not JSON: line %d: %s", error.line, error.text);
    }
    if (!json_is_object(call->body)) return problem_tell(&call->problem, ERR_ARGUMENT, "the body must be a JSON object");
    return OK;
}

enum err call_tell_why(struct call *call, enum err err, const struct member_why *why)
{
    problem_help(&call->problem, "%s", why->help);
    return problem_tell(&call->problem, err, "%s", why->text);
}

enum err call_flag(struct call *call, const char *name, bool *ret_flag)
{
    const char *value = web_query(call->request, name);
    if (value == NULL) return OK;
    if (strcmp(value, "true") != 0 && strcmp(value, "false") != 0) {
        return problem_tell(&call->problem, ERR_ARGUMENT, "?%s is true or false", name);
    }
    *ret_flag = strcmp(value, "true") == 0;
    return OK;
}

enum err call_number(struct call *call, const char *name, uint64_t max, uint64_t *ret_number)
{
    const char *value = web_query(call->request, name);
    uint64_t n = 0;
    if (value == NULL) return OK;
    if (text_to_u64(value, &n) != OK || n > max) {
        return problem_tell(&call->problem, ERR_ARGUMENT, "?%s is a number up to %llu", name, (unsigned long long)max);
    }
    *ret_number = n;
    return OK;
}

/* ---- one change at a time ---- */

struct waiter {
    struct list link;
    struct io_task *task;
};

void node_change_begin(struct node *node)
{
    struct waiter w = {.task = io_task_self()};
    if (node->changing) {
        list_push(&node->waiting, &w.link);
        while (w.task != NULL && w.link.next != &w.link) io_task_park();
    }
    node->changing = true;
}

void node_change_end(struct node *node)
{
    struct list *next = list_pop(&node->waiting);
    if (next == NULL)
        node->changing = false; /* else it is handed on */
    else
        io_task_wake(CONTAINER(next, struct waiter, link)->task);
}

/* ---- answering ---- */

static void answer(struct call *call, enum err err)
{
    struct problem *p = &call->problem;
    if (err == OK) {
        if (call->behind[0] != '\0' && call->answer == NULL) call->answer = json_object();
        if (call->behind[0] != '\0') json_object_set_new(call->answer, "behind", json_string(call->behind));
        int status = call->status != 0 ? call->status : call->answer != NULL ? 200 : 204;
        web_answer(call->request, status, call->answer, call->location[0] != '\0' ? call->location : NULL);
        return;
    }
    if (p->err == OK) problem_tell(p, err, "%s", err_text(err));
    json_decref(call->answer);
    web_answer(call->request, problem_status(p), problem_json(p), NULL);
}

static void call_run(void *arg)
{
    struct web_request *request = arg;
    struct call call = {.node = request->web_arg, .request = request};
    char path[WEB_PATH_MAX];
    memcpy(path, request->path, sizeof path);
    enum err err = read_body(&call);
    const struct route *route = err == OK ? route_of(&call, path) : NULL;
    if (err == OK && route == NULL) err = call.problem.err;
    if (err == OK && (route->how & POOL) && call.node->config.witness) {
        problem_help(&call.problem, "ask a node with data; izar node list names them");
        err = problem_tell(&call.problem, ERR_UNSUPPORTED, "this node is a witness: it has no pool, volumes or hosts");
    }
    if (err == OK) {
        if (route->how & CHANGES) node_change_begin(call.node);
        err = route->how & SHARED ? node_shared_begin(&call) : OK;
        if (err == OK) err = route->handle(&call);
        if (route->how & CHANGES) node_change_end(call.node);
    }
    if (route != NULL && (route->how & (CHANGES | CLUSTER))) {
        trace(TRACE_INFO, "%s %s: %s", request->method, request->path, err == OK ? "done" : call.problem.detail);
    }
    json_decref(call.body);
    answer(&call, err);
}

void routes_handle(void *arg, struct web_request *request)
{
    struct node *node = arg;
    request->web_arg = node;
    if (io_task_start(node->io, &request->task, call_run, request) == OK) return;
    struct problem p = {0};
    problem_tell(&p, ERR_NO_MEMORY, "no memory for another request");
    web_answer(request, problem_status(&p), problem_json(&p), NULL);
}
