/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Our end of all links: listening, the table of links, memory, the clock, the turn, the end.
 *
 * One timer for everything, twice a heartbeat: it dials what is due, asks and judges connections, and looks at our certificate
 * once a minute. Refusals of strangers cost little: they are few at a time, one of them makes room for the newest, and what is
 * told about them is limited.
 */
#include "cluster/link.h"

#include <stdarg.h>
#include <stdio.h>

#include "cluster/link_internal.h"

#define DEFAULT(field, value)                                                                                                  \
    do {                                                                                                                       \
        if (c->field == 0) c->field = (value);                                                                                 \
    } while (0)

enum {
    HEARTBEAT_MIN_MS = 10,
    CONNS_LIMIT = 256,
    STRANGERS_LIMIT = 64,
    WINDOW_LIMIT = 64 << 20,
    CONN_BYTES = TLS_SESSION_BYTES + sizeof(struct link_conn) + (24 << 10), /* and what allocation adds */
    FIXED_BYTES = 2 << 20,
};
#define RENEW_LOOK_NS (60 * IO_S_NS)

/* ---- telling ---- */

void links_tell(struct links *links, bool is_problem, const char *format, ...)
{
    char text[400];
    va_list args;
    uint64_t now = io_now_ns(links->io);
    if (now - links->tell_ns > IO_S_NS) {
        links->tell_ns = now;
        links->told = 0;
    }
    if (links->told++ >= TELL_A_SECOND) {
        links->stats.untold++;
        return;
    }
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    links->config.user->tell(links->config.arg, is_problem, text);
}

uint64_t links_now_s(struct links *links)
{
    return links->config.wall_s();
}

/* ---- the turn ---- */

static bool is_quiet(const struct links *l)
{
    for (uint32_t i = 0; i < l->listen_count; i++)
        if (l->listens[i].accepting) return false;
    return list_empty(&l->conns) && list_empty(&l->done) && !l->kicked;
}

static void end_ops(struct links *l)
{
    struct list mine; /* what ends meanwhile waits for the next turn */
    list_init(&mine);
    for (struct list *i; (i = list_pop(&l->done)) != NULL;) list_push(&mine, i);
    for (struct list *i; (i = list_pop(&mine)) != NULL;) {
        struct link_op *op = CONTAINER(i, struct link_op, link);
        op->done(op);
    }
}

static void reap(struct links *l)
{
    for (struct list *i = l->conns.next, *next; i != &l->conns; i = next) {
        next = i->next;
        link_conn_reap(CONTAINER(i, struct link_conn, of_links));
    }
}

static void turn(struct io_msg *msg)
{
    struct links *l = CONTAINER(msg, struct links, kick);
    l->kicked = false;
    for (struct list *i = l->conns.next; i != &l->conns; i = i->next) {
        struct link_conn *conn = CONTAINER(i, struct link_conn, of_links);
        link_conn_resume(conn);
        link_conn_pump(conn);
    }
    end_ops(l);
    reap(l);
    for (struct list *i; (i = list_pop(&l->gone)) != NULL;) mem_free(l->mem, CONTAINER(i, struct link, of_links));
    if (l->waiting != NULL) io_task_wake(l->waiting);
}

void links_kick(struct links *links)
{
    if (links->kicked) return;
    links->kicked = true;
    links->kick.handle = turn;
    io_send(links->io, &links->kick);
}

/* ---- accepting ---- */

static void accept_next(struct listening *l);

static bool may_be_cut(const struct link_conn *conn)
{
    return conn->stranger && conn->state != CONN_CLOSING && conn->state != CONN_JOINING;
}

/* One of the strangers goes, by chance: so who says nothing keeps nobody out, and a crowd that comes again and again does not
 * always push out the member who is still shaking hands, as it would if the oldest went. */
static void make_room(struct links *l)
{
    uint32_t chance, count = 0;
    if (l->stranger_count < l->config.strangers_max) return;
    for (struct list *i = l->conns.next; i != &l->conns; i = i->next)
        count += may_be_cut(CONTAINER(i, struct link_conn, of_links));
    if (count == 0) return;
    io_random(l->io, &chance, sizeof chance);
    chance %= count;
    for (struct list *i = l->conns.next; i != &l->conns; i = i->next) {
        struct link_conn *conn = CONTAINER(i, struct link_conn, of_links);
        if (!may_be_cut(conn) || chance-- > 0) continue;
        link_conn_cut(conn, "others wait to say who they are");
        return;
    }
}

static void accepted(struct io_net *op)
{
    struct listening *listening = CONTAINER(op, struct listening, op);
    struct links *l = listening->links;
    listening->accepting = false;
    if (op->err == OK && !l->stopping) {
        make_room(l);
        if (l->stranger_count >= l->config.strangers_max || link_conn_accept(l, op->socket) != OK) {
            l->stats.refused++;
            io_socket_close(op->socket);
        } else {
            l->stats.accepted++;
        }
    } else if (op->err == OK) {
        io_socket_close(op->socket);
    }
    if (l->stopping)
        links_kick(l);
    else if (op->err == OK)
        accept_next(listening); /* else the timer tries again */
}

static void accept_next(struct listening *listening)
{
    listening->accepting = true;
    listening->op.done = accepted;
    io_accept(listening->listener, &listening->op);
}

/* ---- the clock ---- */

/* The connection over this path ends, and is told to be lost from the loop. */
static void path_abort(struct link *link, uint32_t path)
{
    struct link_conn *conn = link->paths[path].conn;
    if (conn == NULL) return;
    if (conn->socket != NULL)
        io_socket_abort(conn->socket);
    else if (conn->rx_busy)
        io_connect_abort(&conn->rx_op);
}

/* Delay doubles, with a quarter of jitter, so that two nodes that restart do not march in step. */
void path_failed(struct link *link, uint32_t path)
{
    struct path *p = &link->paths[path];
    struct links *l = link->links;
    uint32_t chance;
    io_random(l->io, &chance, sizeof chance);
    p->backoff_ms = p->backoff_ms == 0 ? BACKOFF_MIN_MS : min32(p->backoff_ms * 2, BACKOFF_MAX_MS);
    uint32_t delay_ms = p->backoff_ms - chance % (p->backoff_ms / 4 + 1);
    p->dial_ns = io_now_ns(l->io) + delay_ms * IO_MS_NS;
}

static uint32_t conns_of(const struct link *link)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < LINK_PATHS_MAX; i++) count += link->paths[i].conn != NULL;
    return count;
}

/* The last connection of a link that has most of them, if any has two. */
static void cut_surplus(struct links *l)
{
    struct link *most = NULL;
    uint32_t conns = 1, last = 0;
    for (struct list *i = l->links.next; i != &l->links; i = i->next) {
        struct link *link = CONTAINER(i, struct link, of_links);
        if (conns_of(link) <= conns) continue;
        conns = conns_of(link);
        most = link;
    }
    if (most == NULL) return;
    for (uint32_t i = 0; i < LINK_PATHS_MAX; i++)
        if (most->paths[i].conn != NULL) last = i;
    path_abort(most, last);
}

bool link_has_room(struct link *link)
{
    struct links *l = link->links;
    uint32_t without = 0;
    for (struct list *i = l->links.next; i != &l->links; i = i->next)
        without += conns_of(CONTAINER(i, struct link, of_links)) == 0;
    if (conns_of(link) > 0) return l->conn_count + without < l->config.conns_max;
    if (l->conn_count >= l->config.conns_max) cut_surplus(l);
    return l->conn_count < l->config.conns_max;
}

static void dial_due(struct link *link, uint64_t now_ns)
{
    if (!link->dials || link->closed) return;
    for (uint32_t i = 0; i < LINK_PATHS_MAX; i++) {
        const struct path *p = &link->paths[i];
        if (p->address[0] != '\0' && p->conn == NULL && now_ns >= p->dial_ns) link_conn_dial(link, i);
    }
}

static void tick(struct io_timer *timer)
{
    struct links *l = CONTAINER(timer, struct links, timer);
    uint64_t now = io_now_ns(l->io), period = l->config.heartbeat_ms * IO_MS_NS / 2;
    uint64_t late = l->tick_ns > 0 && now - l->tick_ns > 2 * period ? now - l->tick_ns - period : 0;
    l->tick_ns = now;
    for (struct list *i = l->links.next, *next; i != &l->links; i = next) {
        next = i->next;
        dial_due(CONTAINER(i, struct link, of_links), now);
    }
    for (struct list *i = l->conns.next; i != &l->conns; i = i->next)
        link_conn_tick(CONTAINER(i, struct link_conn, of_links), now, late);
    for (uint32_t i = 0; i < l->listen_count; i++)
        if (!l->listens[i].accepting) accept_next(&l->listens[i]);
    if (now - l->renew_ns > RENEW_LOOK_NS) links_renew(l);
    io_after(l->io, period, &l->timer);
}

/* ---- life ---- */

static enum err config_complete(struct links_config *c)
{
    DEFAULT(heartbeat_ms, 250);
    DEFAULT(timeout_ms, 1500);
    DEFAULT(hello_ms, 5000);
    DEFAULT(window_bytes, 2 << 20);
    DEFAULT(conns_max, 16);
    DEFAULT(strangers_max, 8);
    DEFAULT(version_min, LINK_VERSION_MIN);
    DEFAULT(version_max, LINK_VERSION_MAX);
    if (c->listen_count == 0 || c->listen_count > LINK_LISTEN_MAX || c->heartbeat_ms < HEARTBEAT_MIN_MS) return ERR_ARGUMENT;
    if (c->timeout_ms < 2 * c->heartbeat_ms || c->window_bytes < LINK_COST_MAX || c->window_bytes > WINDOW_LIMIT)
        return ERR_ARGUMENT;
    if (c->conns_max > CONNS_LIMIT || c->strangers_max > STRANGERS_LIMIT || c->version_min > c->version_max)
        return ERR_ARGUMENT;
    return (c->required & ~c->features) == 0 ? OK : ERR_ARGUMENT;
}

static enum err listen_all(struct links *l, uint32_t *ret_failed)
{
    for (uint32_t i = 0; i < l->config.listen_count; i++) {
        struct listening *listening = &l->listens[i];
        listening->links = l;
        enum err err = io_listen(l->io, l->config.listen[i], 0600, &listening->listener);
        if (err != OK) {
            if (ret_failed != NULL) *ret_failed = i;
            return err;
        }
        l->listen_count++;
    }
    return OK;
}

static void links_free(struct links *l)
{
    for (uint32_t i = 0; i < l->listen_count; i++) io_listener_close(l->listens[i].listener);
    tls_keys_close(l->keys);
    mem_close(l->mem);
}

/* The arena has a quarter more than all windows, because pieces of other sizes may lie in the way. */
static struct links *links_make(const struct links_config *c)
{
    uint64_t conns = c->conns_max + c->strangers_max;
    uint64_t window = c->window_bytes + URGENT_WINDOW, arena = c->conns_max * (window + window / 4);
    uint64_t slots = conns * (window / LINK_COST_MIN) * sizeof(struct link_message);
    struct mem *mem = mem_open(arena + conns * CONN_BYTES + slots + FIXED_BYTES);
    struct links *l = mem != NULL ? mem_alloc(mem, sizeof *l) : NULL;
    if (l != NULL) l->pages = pages_open(mem, arena);
    if (l == NULL || l->pages == NULL) {
        mem_close(mem);
        return NULL;
    }
    l->mem = mem;
    return l;
}

enum err links_open(const struct links_config *config, struct links **ret_links, uint32_t *ret_failed)
{
    struct links_config c = *config;
    TRY(config_complete(&c));
    struct links *l = links_make(&c);
    if (l == NULL) return ERR_NO_MEMORY;
    l->io = c.io;
    l->config = c;
    l->identity = *c.identity;
    l->timer.fire = tick;
    l->opened_ns = io_now_ns(l->io);
    list_init(&l->conns);
    list_init(&l->links);
    list_init(&l->done);
    list_init(&l->gone);
    io_random(l->io, l->boot, sizeof l->boot);
    enum err err = tls_keys_open(l->mem, &l->identity, &l->keys);
    if (err == OK) err = listen_all(l, ret_failed);
    if (err != OK) {
        links_free(l);
        return err;
    }
    for (uint32_t i = 0; i < l->listen_count; i++) accept_next(&l->listens[i]);
    io_after(l->io, 0, &l->timer);
    *ret_links = l;
    return OK;
}

void links_close(struct links *links)
{
    if (links == NULL) return;
    assert(io_task_self() != NULL && list_empty(&links->links));
    links->stopping = true;
    io_cancel(links->io, &links->timer);
    for (uint32_t i = 0; i < links->listen_count; i++) io_listener_abort(links->listens[i].listener);
    for (struct list *i = links->conns.next; i != &links->conns; i = i->next)
        link_conn_cut(CONTAINER(i, struct link_conn, of_links), NULL);
    links->waiting = io_task_self();
    while (!is_quiet(links)) io_task_park();
    links_free(links);
}

const char *links_listen_text(const struct links *links, uint32_t i, char *buf, size_t size)
{
    assert(i < links->listen_count);
    return io_listener_text(links->listens[i].listener, buf, size);
}

void links_let_join(struct links *links, bool on)
{
    links->let_join = on;
}

void links_stats(const struct links *links, struct links_stats *ret_stats)
{
    *ret_stats = links->stats;
    ret_stats->conns = links->conn_count;
    ret_stats->strangers = links->stranger_count;
}

/* ---- links ---- */

struct link *links_find(struct links *links, uint32_t node)
{
    for (struct list *i = links->links.next; i != &links->links; i = i->next) {
        struct link *link = CONTAINER(i, struct link, of_links);
        if (link->node == node && !link->closed) return link;
    }
    return NULL;
}

static uint32_t links_count(const struct links *l)
{
    uint32_t count = 0;
    for (struct list *i = l->links.next; i != &l->links; i = i->next) count++;
    return count;
}

static bool are_addresses(const char *const *addresses, uint32_t count)
{
    if (count > LINK_PATHS_MAX) return false;
    for (uint32_t i = 0; i < count; i++)
        if (addresses[i][0] == '\0' || strlen(addresses[i]) >= IO_ADDRESS_TEXT) return false;
    return true;
}

enum err link_open(struct links *links, uint32_t node, const char *const *addresses, uint32_t count, void *owner,
                   struct link **ret_link)
{
    if (node == 0 || node > NODE_NUMBER_MAX || node == links->identity.node) return ERR_ARGUMENT;
    if (!are_addresses(addresses, count)) return ERR_ARGUMENT;
    if (links_find(links, node) != NULL) return ERR_NAME_EXISTS;
    if (links_count(links) >= LINK_PEERS_MAX) return ERR_LIMIT;
    struct link *link = mem_alloc(links->mem, sizeof *link);
    if (link == NULL) return ERR_NO_MEMORY;
    link->links = links;
    link->node = node;
    link->opened_ns = io_now_ns(links->io);
    link->owner = owner;
    link->dials = links->identity.node < node;
    link->path_count = count;
    for (uint32_t i = 0; i < count; i++) memcpy(link->paths[i].address, addresses[i], strlen(addresses[i]) + 1);
    list_push(&links->links, &link->of_links);
    *ret_link = link;
    return OK;
}

/* ---- other addresses ---- */

/* Whoever connects to us does so where he wants: then there is nothing to cut. */
static void path_gone(struct link *link, uint32_t path)
{
    link->paths[path].address[0] = '\0';
    if (link->dials) path_abort(link, path);
}

/* Better one that no connection is on any more: what people are told of that one names its address. */
static void path_come(struct link *link, const char *address)
{
    struct path *free = NULL;
    for (uint32_t i = 0; i < LINK_PATHS_MAX; i++) {
        struct path *p = &link->paths[i];
        if (strcmp(p->address, address) == 0) return;
        if (p->address[0] == '\0' && (free == NULL || (free->conn != NULL && p->conn == NULL))) free = p;
    }
    assert(free != NULL);
    memcpy(free->address, address, strlen(address) + 1);
    free->dial_ns = free->told = 0;
    free->backoff_ms = 0;
}

static bool is_among(const char *address, const char *const *addresses, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (strcmp(address, addresses[i]) == 0) return true;
    return false;
}

enum err link_addresses(struct link *link, const char *const *addresses, uint32_t count)
{
    if (!are_addresses(addresses, count)) return ERR_ARGUMENT;
    for (uint32_t i = 0; i < LINK_PATHS_MAX; i++)
        if (link->paths[i].address[0] != '\0' && !is_among(link->paths[i].address, addresses, count)) path_gone(link, i);
    for (uint32_t i = 0; i < count; i++) path_come(link, addresses[i]);
    link->path_count = count;
    return OK;
}

void link_close(struct link *link)
{
    if (link == NULL) return;
    assert(link->streams == 0);
    link->closed = true;
    for (struct list *i = link->links->conns.next; i != &link->links->conns; i = i->next) {
        struct link_conn *conn = CONTAINER(i, struct link_conn, of_links);
        if (conn->link == link) link_conn_cut(conn, NULL);
    }
    list_remove(&link->of_links);
    list_push(&link->links->gone, &link->of_links); /* freed in the next turn: who called may be in the middle of it */
    links_kick(link->links);
}

void link_cut(struct link *link, uint32_t path)
{
    assert(path < LINK_PATHS_MAX);
    if (link->paths[path].conn != NULL && link->paths[path].conn->socket != NULL)
        io_socket_abort(link->paths[path].conn->socket);
}

void *link_owner(const struct link *link)
{
    return link->owner;
}

uint32_t link_node(const struct link *link)
{
    return link->node;
}

bool link_is_up(const struct link *link)
{
    return link->ready > 0;
}

uint32_t link_boot(const struct link *link)
{
    return link->boot;
}

uint32_t link_ready(const struct link *link)
{
    return link->ready;
}

uint16_t link_version(const struct link *link)
{
    return link->version;
}

uint64_t link_features(const struct link *link)
{
    return link->features;
}

uint64_t link_answered_ns(const struct link *link)
{
    return link->answered_ns;
}

const char *link_text(const struct link *link, char *buf, size_t size)
{
    struct text t;
    text_init(&t, buf, size);
    text_add(&t, "node %u: ", link->node);
    if (link->ready == 0)
        text_add(&t, link->boot == 0 ? "was never up" : "down");
    else if (link->path_count > 0)
        text_add(&t, "up over %u of %u addresses", link->ready, link->path_count);
    else
        text_add(&t, "up over %u connections", link->ready);
    if (link->boot > 0) text_add(&t, ", boot %u", link->boot);
    return buf;
}
