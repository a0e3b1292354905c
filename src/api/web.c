/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request's story, as libmicrohttpd tells it by calling web_access again and again:
 *
 *     FREE      the first call: a slot of the pool is taken
 *     READING   calls with bytes: the body collects; a call without bytes: it is whole
 *     HANDED    the connection sleeps, the request went to the loop as a message (never inline: the library is on the stack)
 *     ANSWERED  web_answer woke it: the next call queues the response
 *     FREE      web_completed, also when the client went away
 *
 * The library is entered from web_run only; what wants it to run sets `dirty` and sends the one message.
 */
#include "api/web.h"

#include <assert.h>
#include <microhttpd.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "io/host.h"

enum { CONNECTION_MEMORY = 16 << 10, TICK_MS = 1000 };

struct web {
    struct web_config config;
    struct MHD_Daemon *daemon;
    int socket;
    struct host_watch watch;
    struct io_msg kick;
    struct io_timer tick; /* the library notices idle connections only when it runs */
    bool kicked, closing;
    uint32_t handed; /* requests between message and answer */
    uint32_t open;   /* slots in use */
    struct io_task *waiting;
    struct web_request requests[WEB_REQUESTS_MAX];
    char *bodies;
};

/* ---- running the library ---- */

static void web_kick(struct web *w)
{
    if (w->kicked) return;
    w->kicked = true;
    io_send(w->config.io, &w->kick);
}

static void web_run(struct web *w)
{
    MHD_UNSIGNED_LONG_LONG wait_ms = 0;
    if (w->daemon == NULL) return;
    MHD_run(w->daemon);
    /* Connections that can go on without news from the system (just resumed, or half through) are not in epoll's answer. */
    if (MHD_get_timeout(w->daemon, &wait_ms) == MHD_YES && wait_ms == 0) web_kick(w);
    if (w->waiting != NULL) io_task_wake(w->waiting);
}

static void web_kick_handle(struct io_msg *msg)
{
    struct web *w = CONTAINER(msg, struct web, kick);
    w->kicked = false;
    web_run(w);
}

static void web_readable(struct host_watch *watch)
{
    struct web *w = CONTAINER(watch, struct web, watch);
    web_run(w);
    host_watch_arm(&w->watch);
}

static void web_tick(struct io_timer *timer)
{
    struct web *w = CONTAINER(timer, struct web, tick);
    web_run(w);
    io_after(w->config.io, TICK_MS * IO_MS_NS, &w->tick);
}

/* ---- a request comes in ---- */

static struct web_request *request_take(struct web *w)
{
    for (uint32_t i = 0; i < WEB_REQUESTS_MAX; i++) {
        struct web_request *r = &w->requests[i];
        if (r->state != WEB_FREE) continue;
        char *body = w->bodies + (size_t)i * WEB_BODY_MAX;
        *r = (struct web_request){.web = w, .body = body, .state = WEB_READING};
        w->open++;
        return r;
    }
    return NULL;
}

static enum MHD_Result take_query(void *arg, enum MHD_ValueKind kind, const char *name, const char *value)
{
    struct web_request *r = arg;
    struct web_query *q = &r->query[r->query_count];
    (void)kind;
    if (value == NULL) value = "";
    if (r->query_count == WEB_QUERY_MAX || strlen(name) >= sizeof q->name || strlen(value) >= sizeof q->value) {
        r->overlong = true;
        return MHD_NO;
    }
    memcpy(q->name, name, strlen(name) + 1);
    memcpy(q->value, value, strlen(value) + 1);
    r->query_count++;
    return MHD_YES;
}

static void request_begin(struct web_request *r, struct MHD_Connection *connection, const char *url, const char *method)
{
    r->connection = connection;
    if (strlen(url) >= sizeof r->path || strlen(method) >= sizeof r->method) {
        r->overlong = true;
        return;
    }
    memcpy(r->path, url, strlen(url) + 1);
    memcpy(r->method, method, strlen(method) + 1);
    MHD_get_connection_values(connection, MHD_GET_ARGUMENT_KIND, take_query, r);
    const char *type = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_TYPE);
    r->json = type == NULL || strncmp(type, "application/json", 16) == 0;
}

static void request_collect(struct web_request *r, const char *data, size_t bytes)
{
    if (bytes > WEB_BODY_MAX - r->body_bytes) {
        r->overlong = true;
        return;
    }
    memcpy(r->body + r->body_bytes, data, bytes);
    r->body_bytes += (uint32_t)bytes;
}

static void request_hand(struct io_msg *msg)
{
    struct web_request *r = CONTAINER(msg, struct web_request, msg);
    r->web->config.handle(r->web->config.arg, r);
}

static enum MHD_Result request_respond(struct web_request *r, struct MHD_Connection *connection)
{
    char *text = r->answer != NULL ? json_dumps(r->answer, JSON_COMPACT) : NULL;
    json_decref(r->answer);
    r->answer = NULL;
    struct MHD_Response *response = text != NULL ? MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE)
                                                 : MHD_create_response_from_buffer(0, r->body, MHD_RESPMEM_PERSISTENT);
    if (response == NULL) return MHD_NO;
    const char *type = r->status >= 400 ? "application/problem+json" : "application/json";
    if (text != NULL) MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    if (r->location[0] != '\0') MHD_add_response_header(response, MHD_HTTP_HEADER_LOCATION, r->location);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    enum MHD_Result queued = MHD_queue_response(connection, (unsigned)r->status, response);
    MHD_destroy_response(response);
    return queued;
}

static enum MHD_Result web_access(void *arg, struct MHD_Connection *connection, const char *url, const char *method,
                                  const char *version, const char *data, size_t *bytes, void **slot)
{
    struct web *w = arg;
    struct web_request *r = *slot;
    (void)version;
    if (r == NULL) {
        r = request_take(w);
        if (r == NULL || w->closing) {
            if (r != NULL) {
                r->state = WEB_FREE;
                w->open--;
            }
            return MHD_NO;
        }
        *slot = r;
        request_begin(r, connection, url, method);
        return MHD_YES;
    }
    if (*bytes > 0) {
        request_collect(r, data, *bytes);
        *bytes = 0;
        return MHD_YES;
    }
    if (r->state == WEB_ANSWERED) return request_respond(r, connection);
    assert(r->state == WEB_READING);
    r->state = WEB_HANDED;
    w->handed++;
    MHD_suspend_connection(connection);
    r->msg = (struct io_msg){.handle = request_hand};
    io_send(w->config.io, &r->msg);
    return MHD_YES;
}

static void web_completed(void *arg, struct MHD_Connection *connection, void **slot, enum MHD_RequestTerminationCode how)
{
    struct web *w = arg;
    struct web_request *r = *slot;
    (void)connection;
    (void)how;
    if (r == NULL) return;
    assert(r->state != WEB_HANDED && w->open > 0);
    json_decref(r->answer);
    io_task_done(&r->task);
    r->state = WEB_FREE;
    w->open--;
    *slot = NULL;
}

/* ---- from outside ---- */

void web_answer(struct web_request *request, int status, json_t *answer, const char *location)
{
    struct web *w = request->web;
    assert(io_is_current(w->config.io) && request->state == WEB_HANDED);
    request->state = WEB_ANSWERED;
    request->status = status;
    request->answer = answer;
    if (location != NULL) snprintf(request->location, sizeof request->location, "%s", location);
    w->handed--;
    MHD_resume_connection(request->connection);
    web_kick(w);
}

const char *web_query(const struct web_request *request, const char *name)
{
    for (uint32_t i = 0; i < request->query_count; i++) {
        if (strcmp(request->query[i].name, name) == 0) return request->query[i].value;
    }
    return NULL;
}

static struct MHD_Daemon *daemon_start(struct web *w)
{
    return MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, web_access, w, MHD_OPTION_LISTEN_SOCKET,
                            w->socket, MHD_OPTION_NOTIFY_COMPLETED, web_completed, w, MHD_OPTION_CONNECTION_LIMIT,
                            (unsigned)WEB_REQUESTS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)WEB_IDLE_SECONDS,
                            MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY, MHD_OPTION_END);
}

enum err web_open(const struct web_config *config, struct web **ret_web)
{
    struct web *w = mem_alloc(config->mem, sizeof *w);
    if (w == NULL) return ERR_NO_MEMORY;
    w->config = *config;
    w->kick.handle = web_kick_handle;
    w->tick.fire = web_tick;
    w->watch.ready = web_readable;
    w->bodies = mem_alloc(config->mem, (size_t)WEB_REQUESTS_MAX * WEB_BODY_MAX);
    if (w->bodies == NULL) return ERR_NO_MEMORY;
    TRY(host_listen_local(config->socket, &w->socket));
    w->daemon = daemon_start(w);
    const union MHD_DaemonInfo *info = w->daemon != NULL ? MHD_get_daemon_info(w->daemon, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
    enum err err = info != NULL ? host_watch_open(config->io, info->epoll_fd, &w->watch) : ERR_NO_MEMORY;
    if (err != OK) {
        if (w->daemon != NULL) MHD_stop_daemon(w->daemon);
        host_unlisten_local(config->socket, w->socket);
        return err;
    }
    host_watch_arm(&w->watch);
    io_after(config->io, TICK_MS * IO_MS_NS, &w->tick);
    *ret_web = w;
    return OK;
}

void web_close(struct web *web)
{
    if (web == NULL) return;
    web->closing = true;
    MHD_quiesce_daemon(web->daemon);
    web->waiting = io_task_self();
    for (int rounds = 0; web->handed > 0 || (web->open > 0 && rounds < 50); rounds++) {
        web_kick(web);
        io_task_sleep(web->config.io, 10 * IO_MS_NS); /* half a second at most for those who are slow to read their answer */
    }
    web->waiting = NULL;
    io_cancel(web->config.io, &web->tick);
    host_watch_close(&web->watch);
    MHD_stop_daemon(web->daemon);
    web->daemon = NULL;
    host_unlisten_local(web->config.socket, web->socket);
}
