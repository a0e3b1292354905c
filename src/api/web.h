/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP at the local socket: requests come in whole, on the loop, and are answered later, on the loop.
 *
 * libmicrohttpd does the protocol. It has no thread of its own: it runs on our loop whenever its epoll descriptor can be
 * read, which host_watch tells. So a request, its connection and the node that it asks about all live on one loop, and
 * there is nothing to lock. While a request is being worked on its connection is suspended; answering resumes it.
 *
 * Requests come from a pool of WEB_REQUESTS_MAX; connections beyond that are refused by the library. Bodies are bounded.
 */
#ifndef IZAR_API_WEB_H
#define IZAR_API_WEB_H

#include <jansson.h>

#include "base/mem.h"
#include "io/io.h"

enum {
    WEB_REQUESTS_MAX = 32,
    WEB_BODY_MAX = 64 << 10,
    WEB_PATH_MAX = 512,
    WEB_QUERY_MAX = 8,
    WEB_METHOD_MAX = 16,
    WEB_IDLE_SECONDS = 30, /* a connection that is silent for longer is closed */
};

struct web;

struct web_query {
    char name[32], value[256];
};

enum web_state { WEB_FREE, WEB_READING, WEB_HANDED, WEB_ANSWERED };

struct web_request {
    /* of whoever handles it, until it is answered; the task's stack is given back with the request */
    struct io_msg msg;
    struct io_task task;
    void *web_arg;
    struct web *web;
    char method[WEB_METHOD_MAX];
    char path[WEB_PATH_MAX]; /* without the query; percent escapes decoded */
    struct web_query query[WEB_QUERY_MAX];
    uint32_t query_count;
    bool overlong; /* body, path or query larger than we take: the rest is missing */
    bool json;     /* the body is said to be JSON, or nothing is said */
    uint32_t body_bytes;
    char *body;
    /* private */
    enum web_state state;
    void *connection;
    int status;
    json_t *answer;
    char location[WEB_PATH_MAX];
};

struct web_config {
    struct io *io;
    struct mem *mem;
    const char *socket;                                     /* path */
    void (*handle)(void *arg, struct web_request *request); /* must lead to web_answer, once */
    void *arg;
};

/* ERR_NO_MEMORY, and what host_listen_local says. */
enum err web_open(const struct web_config *config, struct web **ret_web);
/* The last thing that the handler does with the request. Answers with `answer` (its reference is taken; NULL: nothing) and,
 * unless NULL, a Location. */
void web_answer(struct web_request *request, int status, json_t *answer, const char *location);
/* [task] Accepts nobody any more, waits for those that are being answered, frees it. NULL is fine. */
void web_close(struct web *web);

/* Value of a query member, NULL when it is not there. */
const char *web_query(const struct web_request *request, const char *name);

#endif
