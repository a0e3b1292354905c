/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Speaking HTTP with the daemon through its socket. The one place where answers become exit codes.
 */
#include <curl/curl.h>
#include <stdio.h>
#include <string.h>

#include "io/host.h"
#include "izar/izar.h"

#define SOCKET_DEFAULT "/var/lib/izar/izard.sock"

enum { ROOM_FIRST = 64 << 10, BODY_MAX = 64 << 10 };

struct client {
    struct mem *mem;
    CURL *curl;
    const char *socket;
    char *data; /* of the answer */
    size_t room, bytes;
    bool overlong;
    char body[BODY_MAX + 1];
};

const char *client_socket(const struct options *o)
{
    const char *named = o->socket != NULL ? o->socket : host_environment("IZAR_SOCKET");
    return named != NULL ? named : SOCKET_DEFAULT;
}

static bool make_room(struct client *c, size_t more)
{
    size_t room = c->room;
    while (room < c->bytes + more) room = room == 0 ? ROOM_FIRST : room * 2;
    if (room == c->room) return true;
    char *data = room <= RESPONSE_MAX ? mem_alloc(c->mem, room) : NULL;
    if (data == NULL) return false;
    if (c->bytes > 0) memcpy(data, c->data, c->bytes);
    mem_free(c->mem, c->data);
    c->data = data;
    c->room = room;
    return true;
}

static size_t take_data(char *data, size_t size, size_t count, void *arg)
{
    struct client *c = arg;
    if (!make_room(c, size * count)) {
        c->overlong = true;
        return 0;
    }
    memcpy(c->data + c->bytes, data, size * count);
    c->bytes += size * count;
    return size * count;
}

struct client *client_open(const struct options *o, struct mem *mem)
{
    struct client *c = mem_alloc(mem, sizeof *c);
    if (c == NULL || curl_global_init(CURL_GLOBAL_NOTHING) != 0) return NULL;
    *c = (struct client){.mem = mem, .curl = curl_easy_init(), .socket = client_socket(o)};
    if (c->curl == NULL) return NULL;
    curl_easy_setopt(c->curl, CURLOPT_UNIX_SOCKET_PATH, c->socket);
    curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, take_data);
    curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, c);
    curl_easy_setopt(c->curl, CURLOPT_TIMEOUT, (long)o->timeout);
    curl_easy_setopt(c->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c->curl, CURLOPT_PROXY, "");
    return c;
}

void client_close(struct client *client)
{
    if (client == NULL) return;
    if (client->curl != NULL) curl_easy_cleanup(client->curl);
    curl_global_cleanup();
}

void path_add(struct session *s, struct text *path, const char *part)
{
    char *escaped = curl_easy_escape(s->client->curl, part, 0);
    text_add(path, "/%s", escaped != NULL ? escaped : "");
    curl_free(escaped);
}

/* ---- one request ---- */

static CURLcode send_request(struct client *c, const char *method, const char *path, const char *body)
{
    char url[PATH_SIZE * 2];
    struct curl_slist *headers = body != NULL ? curl_slist_append(NULL, "Content-Type: application/json") : NULL;
    snprintf(url, sizeof url, "http://izard%s", path);
    c->bytes = 0;
    c->overlong = false;
    curl_easy_setopt(c->curl, CURLOPT_URL, url);
    curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(c->curl, CURLOPT_HTTPGET, 1L);
    if (body != NULL || strcmp(method, "POST") == 0) curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, body != NULL ? body : "");
    curl_easy_setopt(c->curl, CURLOPT_CUSTOMREQUEST, method);
    CURLcode code = curl_easy_perform(c->curl);
    curl_slist_free_all(headers);
    return code;
}

static int tell_no_answer(const struct client *c, CURLcode code)
{
    if (c->overlong) return fail(EXIT_FAILED, "the answer is larger than 16 MiB");
    if (code == CURLE_OPERATION_TIMEDOUT) {
        return fail(EXIT_TIMEOUT, "no answer in time; what was asked may still happen: izar status; --timeout waits longer");
    }
    if (code != CURLE_COULDNT_CONNECT)
        return fail(EXIT_UNREACHABLE, "izard at %s: %s; izar status", c->socket, curl_easy_strerror(code));
    return fail(EXIT_UNREACHABLE,
                "nobody answers at %s: is izard running, and may you use its socket? Start it with izard, or name its socket "
                "with --socket PATH or IZAR_SOCKET",
                c->socket);
}

/* The one place where the statuses of HTTP become exit codes. */
static int exit_of_status(long status)
{
    switch (status) {
    case 400:
    case 405:
    case 413:
    case 415: return EXIT_USAGE;
    case 401:
    case 403: return EXIT_DENIED;
    case 404: return EXIT_NOT_FOUND;
    case 409: return EXIT_CONFLICT;
    default: return status < 300 ? EXIT_DONE : EXIT_FAILED;
    }
}

static int tell_problem(const json_t *problem, long status, int exit)
{
    const char *detail = member_text(problem, "detail"), *remedy = member_text(problem, "remedy");
    if (detail[0] == '\0') return fail(exit, "izard answered with status %ld and no reason", status);
    return fail(exit, "%s%s%s", detail, remedy[0] != '\0' ? "; " : "", remedy);
}

/* What was asked is done, and some nodes of the cluster have not heard of it. */
static void tell_behind(struct session *s, const json_t *answer)
{
    const char *nodes = json_string_value(json_object_get(answer, "behind"));
    if (nodes != NULL) hint(s, "not up, and told as soon as it is: %s", nodes);
}

int ask_unless(struct session *s, int quiet, const char *method, const char *path, json_t *body, json_t **ret_answer)
{
    struct client *c = s->client;
    size_t length = body != NULL ? json_dumpb(body, c->body, sizeof c->body - 1, JSON_COMPACT) : 0;
    json_error_t error;
    long status = 0;
    bool has_body = body != NULL;
    json_decref(body);
    if (length >= sizeof c->body) return fail(EXIT_USAGE, "that is more than a request can carry");
    c->body[length] = '\0';
    CURLcode code = send_request(c, method, path, has_body ? c->body : NULL);
    if (code != CURLE_OK) return tell_no_answer(c, code);
    curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
    json_t *answer = c->bytes > 0 ? json_loadb(c->data, c->bytes, 0, &error) : NULL;
    int exit = exit_of_status(status);
    if (exit == EXIT_DONE && c->bytes > 0 && answer == NULL)
        return fail(EXIT_FAILED, "izard's answer is no JSON: %s", error.text);
    if (exit == EXIT_DONE) tell_behind(s, answer);
    if (exit == EXIT_DONE && ret_answer != NULL) {
        *ret_answer = answer;
        return EXIT_DONE;
    }
    if (exit != EXIT_DONE && exit != quiet) tell_problem(answer, status, exit);
    json_decref(answer);
    return exit;
}

int ask(struct session *s, const char *method, const char *path, json_t *body, json_t **ret_answer)
{
    return ask_unless(s, EXIT_DONE, method, path, body, ret_answer);
}

int ask_delete(struct session *s, struct text *path)
{
    const struct options *o = s->options;
    if (o->force) text_add(path, "?force=true");
    int exit = ask_unless(s, o->if_exists ? EXIT_NOT_FOUND : EXIT_DONE, "DELETE", path->at, NULL, NULL);
    return o->if_exists && exit == EXIT_NOT_FOUND ? EXIT_DONE : exit;
}

int ask_list(struct session *s, const char *path, json_t **ret_items)
{
    char buf[PATH_SIZE];
    json_t *all = json_array(), *page = NULL;
    struct text page_path;
    int exit = ask(s, "GET", path, NULL, &page);
    while (exit == EXIT_DONE) {
        json_array_extend(all, json_object_get(page, "items"));
        const char *next = json_string_value(json_object_get(page, "next"));
        if (next == NULL) break;
        char *escaped = curl_easy_escape(s->client->curl, next, 0);
        text_init(&page_path, buf, sizeof buf);
        text_add(&page_path, "%s?after=%s", path, escaped != NULL ? escaped : "");
        curl_free(escaped);
        json_decref(page);
        page = NULL;
        exit = ask(s, "GET", buf, NULL, &page);
    }
    json_decref(page);
    if (exit == EXIT_DONE)
        *ret_items = all;
    else
        json_decref(all);
    return exit;
}
