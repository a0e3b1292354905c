/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets of io.h over streams in memory.
 *
 * Every stream belongs to the socket that it leads to. Three counts say where its bytes are:
 *
 *     taken <= arrived <= sent <= taken + room
 *
 * An operation has its effect when an attempt succeeds, in an event of its own: bytes are copied out of the caller's memory
 * and into it then, so a caller that touches its buffers under way is caught. An attempt that finds nothing to do waits for
 * the next reason to try (net_try). The timer of the attempt lives in the operation.
 */
#include "sim/net.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/hash.h"
#include "base/prng.h"
#include "sim/must.h"

#define KEEPALIVE_NS (60 * IO_S_NS)
enum { BACKLOG = 256, PATH_MAX_BYTES = 107, PORT_FIRST = 49152 };

enum net_kind { NET_ACCEPT, NET_CONNECT, NET_RECEIVE, NET_TRANSMIT };
enum family { FAMILY_LOCAL, FAMILY_4, FAMILY_6 };

struct address {
    enum family family;
    uint16_t port;
    uint8_t ip[16];
    char path[PATH_MAX_BYTES + 1];
};

struct stream {
    uint8_t *ring;
    uint32_t room;
    uint64_t sent, arrived, taken;
    bool ended; /* nothing comes after what was sent */
    struct io_timer timer;
};

struct io_socket {
    struct list link;
    struct net *net;
    struct io *io;
    struct io_socket *other; /* NULL: it was closed */
    struct stream in;
    struct io_net *receiving, *transmitting;
    bool aborted; /* by its owner */
    bool reset;   /* it knows that the connection is lost */
    bool cut;     /* nothing arrives any more */
    struct io_timer notice;
    struct address peer, local;
};

struct io_listener {
    struct list link;
    struct net *net;
    struct io *io;
    struct address address;
    struct io_net *accepting;
    struct io_socket *backlog[BACKLOG];
    uint32_t waiting;
    bool aborted;
};

/* Where a connect goes. */
struct destination {
    struct list link;
    bool known; /* it is an address */
    struct address address;
};

struct net {
    struct sim *sim;
    struct prng chance;
    struct sim_weather weather;
    struct list sockets, listeners, destinations;
    struct list ops; /* under way; empty from a power cut on, since their owners may go before the power is on again */
    uint32_t socket_count, listener_count;
    uint64_t latency_ns;
    uint32_t room;
    uint16_t next_port;
    bool off;
};

static_assert(sizeof(struct io_timer) <= sizeof(((struct io_net *)0)->seam), "room for the attempt's timer");

static uint64_t below(struct net *net, uint64_t n)
{
    return prng_below(&net->chance, n);
}

/* ---- addresses ---- */

static bool port_from(const char *text, uint16_t *ret_port)
{
    uint32_t port = 0;
    if (*text == '\0') return false;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9') return false;
        port = 10 * port + (uint32_t)(*text - '0');
        if (port > 65535) return false;
    }
    *ret_port = (uint16_t)port;
    return true;
}

static bool address_from(const char *text, struct address *ret_address)
{
    char host[INET6_ADDRSTRLEN + 1];
    memset(ret_address, 0, sizeof *ret_address);
    if (strncmp(text, "unix:", 5) == 0) {
        ret_address->family = FAMILY_LOCAL;
        size_t length = strlen(text + 5);
        if (length == 0 || length > PATH_MAX_BYTES) return false;
        memcpy(ret_address->path, text + 5, length + 1);
        return true;
    }
    bool six = *text == '[';
    const char *from = text + six, *end = strchr(from, six ? ']' : ':');
    if (end == NULL || (size_t)(end - from) >= sizeof host) return false;
    memcpy(host, from, (size_t)(end - from));
    host[end - from] = '\0';
    if (six && *++end != ':') return false;
    ret_address->family = six ? FAMILY_6 : FAMILY_4;
    return port_from(end + 1, &ret_address->port) && inet_pton(six ? AF_INET6 : AF_INET, host, ret_address->ip) == 1;
}

static const char *address_text(const struct address *a, char *buf, size_t size)
{
    char host[INET6_ADDRSTRLEN] = "?";
    switch (a->family) {
    case FAMILY_LOCAL: snprintf(buf, size, "unix:%s", a->path); break;
    case FAMILY_4:
        inet_ntop(AF_INET, a->ip, host, sizeof host);
        snprintf(buf, size, "%s:%u", host, a->port);
        break;
    case FAMILY_6:
        inet_ntop(AF_INET6, a->ip, host, sizeof host);
        snprintf(buf, size, "[%s]:%u", host, a->port);
        break;
    }
    return buf;
}

static bool is_any(const struct address *a)
{
    static const uint8_t zeros[16];
    return memcmp(a->ip, zeros, sizeof zeros) == 0;
}

/* This machine has the loopback addresses and 10.0.0.0/8. */
static bool is_here(const struct address *a)
{
    static const uint8_t loopback6[16] = {[15] = 1};
    if (a->family == FAMILY_LOCAL || is_any(a)) return true;
    if (a->family == FAMILY_4) return a->ip[0] == 127 || a->ip[0] == 10;
    return memcmp(a->ip, loopback6, sizeof loopback6) == 0;
}

static struct io_listener *listener_at(struct net *net, const struct address *a)
{
    for (struct list *l = net->listeners.next; l != &net->listeners; l = l->next) {
        struct io_listener *at = CONTAINER(l, struct io_listener, link);
        if (at->address.family != a->family || at->address.port != a->port || strcmp(at->address.path, a->path) != 0) continue;
        if (is_any(&at->address) || is_any(a) || memcmp(at->address.ip, a->ip, sizeof a->ip) == 0) return at;
    }
    return NULL;
}

static uint16_t port_take(struct net *net)
{
    if (net->next_port < PORT_FIRST) net->next_port = PORT_FIRST;
    return net->next_port++;
}

/* ---- attempts ---- */

static struct io_timer *timer_of(struct io_net *op)
{
    return (struct io_timer *)(void *)op->seam;
}

static void attempt(struct io_timer *timer);

/* There is a reason to attempt it (again). */
static void net_try(struct net *net, struct io_net *op, uint64_t delay_ns)
{
    if (op == NULL || net->off || timer_of(op)->place != 0) return;
    io_after(op->io, delay_ns, timer_of(op));
}

static void net_soon(struct net *net, struct io_net *op)
{
    if (op != NULL && !net->off && timer_of(op)->place == 0) net_try(net, op, below(net, 20000));
}

static void net_submit(struct net *net, struct io *io, enum net_kind kind, struct io_net *op, uint64_t delay_ns)
{
    op->err = OK;
    op->bytes = 0;
    op->io = io;
    op->moved = op->piece = 0;
    op->kind = (uint8_t)kind;
    op->tries = 0;
    memset(op->seam, 0, sizeof op->seam);
    timer_of(op)->fire = attempt;
    list_init(&op->link);
    if (!net->off) list_push(&net->ops, &op->link);
    net_try(net, op, delay_ns);
}

static void net_done(struct net *net, struct io_net *op, enum err err)
{
    list_remove(&op->link);
    op->err = err;
    sim_note(net->sim, (uint64_t)op->kind << 56 | (uint64_t)err << 32 | op->bytes);
    switch ((enum net_kind)op->kind) {
    case NET_ACCEPT: op->listener->accepting = NULL; break;
    case NET_CONNECT: break;
    case NET_RECEIVE: op->socket->receiving = NULL; break;
    case NET_TRANSMIT: op->socket->transmitting = NULL; break;
    }
    op->done(op);
}

static bool is_over(const struct io_socket *s)
{
    return s->aborted || s->reset;
}

/* ---- streams ---- */

static uint64_t draw_latency(struct net *net)
{
    uint64_t ns = net->latency_ns + below(net, net->latency_ns << below(net, 4));
    if (prng_chance(&net->chance, net->weather.stall)) ns += below(net, 10 * IO_S_NS);
    return ns;
}

static void stream_arm(struct io_socket *to)
{
    bool more = to->in.arrived < to->in.sent || to->in.ended;
    if (!more || to->cut || to->net->off || to->in.timer.place != 0) return;
    io_after(to->io, draw_latency(to->net), &to->in.timer);
}

static void stream_arrives(struct io_timer *timer)
{
    struct io_socket *s = CONTAINER(timer, struct io_socket, in.timer);
    struct net *net = s->net;
    uint64_t under_way = s->in.sent - s->in.arrived;
    if (under_way > 0 && prng_chance(&net->chance, net->weather.lose)) {
        sim_socket_lose(s, (enum sim_loss)below(net, SIM_LOSSES));
        return;
    }
    if (under_way > 0) s->in.arrived += below(net, 2) ? under_way : 1 + below(net, under_way);
    if (s->in.arrived < s->in.sent) stream_arm(s);
    net_soon(net, s->receiving);
}

static void stream_put(struct io_socket *to, const uint8_t *at, uint32_t bytes)
{
    struct stream *in = &to->in;
    uint32_t from = (uint32_t)(in->sent % in->room), first = min32(bytes, in->room - from);
    memcpy(in->ring + from, at, first);
    memcpy(in->ring, at + first, bytes - first);
    in->sent += bytes;
    stream_arm(to);
}

static void stream_get(struct io_socket *s, uint8_t *ret, uint32_t bytes)
{
    struct stream *in = &s->in;
    uint32_t from = (uint32_t)(in->taken % in->room), first = min32(bytes, in->room - from);
    memcpy(ret, in->ring + from, first);
    memcpy(ret + first, in->ring, bytes - first);
    in->taken += bytes;
}

static void attempt_receive(struct net *net, struct io_net *op)
{
    struct io_socket *s = op->socket;
    uint64_t there = s->in.arrived - s->in.taken;
    if (is_over(s)) {
        net_done(net, op, ERR_CLOSED);
    } else if (there > 0) {
        uint32_t most = (uint32_t)min64(there, op->length);
        op->bytes = below(net, 2) ? most : 1 + (uint32_t)below(net, most);
        stream_get(s, op->buf, op->bytes);
        sim_note(net->sim, hash64(op->buf, op->bytes, op->bytes));
        if (s->other != NULL) net_soon(net, s->other->transmitting);
        net_done(net, op, OK);
    } else if (s->in.ended && s->in.arrived == s->in.sent && !s->cut) {
        net_done(net, op, ERR_CLOSED);
    }
}

/* Takes a part of the next piece. False: there is no room for any. */
static bool transmit_some(struct net *net, struct io_net *op)
{
    const struct io_piece *p = &op->pieces[op->piece];
    struct io_socket *to = op->socket->other;
    uint64_t left = p->size - op->moved;
    uint64_t room = to != NULL && !to->aborted ? to->in.room - (to->in.sent - to->in.taken) : left;
    uint64_t most = min64(left, room);
    if (left > 0 && most == 0) return false;
    uint32_t bytes = (uint32_t)(most > 1 && below(net, 4) == 0 ? 1 + below(net, most) : most);
    if (to != NULL && !to->aborted) stream_put(to, (const uint8_t *)p->at + op->moved, bytes);
    op->bytes += bytes;
    op->moved += bytes;
    if (op->moved == p->size) {
        op->piece++;
        op->moved = 0;
    }
    return true;
}

/* Somebody who is not there any more resets the connection when he is talked to. */
static void answer_of_nobody(struct net *net, struct io_socket *s)
{
    if (s->other == NULL && !s->cut && s->notice.place == 0) io_after(s->io, 2 * draw_latency(net), &s->notice);
}

static void attempt_transmit(struct net *net, struct io_net *op)
{
    struct io_socket *s = op->socket;
    while (!is_over(s) && op->piece < op->piece_count) {
        if (!transmit_some(net, op)) return;
        if (op->piece < op->piece_count && below(net, 8) == 0) {
            net_soon(net, op);
            return;
        }
    }
    if (is_over(s)) {
        net_done(net, op, ERR_CLOSED);
        return;
    }
    answer_of_nobody(net, s);
    net_done(net, op, OK);
}

/* ---- making connections ---- */

static void notices(struct io_timer *timer)
{
    struct io_socket *s = CONTAINER(timer, struct io_socket, notice);
    s->reset = s->cut = true;
    net_soon(s->net, s->receiving);
    net_soon(s->net, s->transmitting);
}

static struct io_socket *socket_new(struct net *net, struct io *io, const struct address *local, const struct address *peer)
{
    struct io_socket *s = must(calloc(1, sizeof *s));
    s->net = net;
    s->io = io;
    s->local = *local;
    s->peer = *peer;
    s->in.room = net->weather.room ? net->weather.room : net->room;
    s->in.ring = must(malloc(s->in.room));
    s->in.timer.fire = stream_arrives;
    s->notice.fire = notices;
    list_push(&net->sockets, &s->link);
    net->socket_count++;
    return s;
}

static void socket_free(struct io_socket *s)
{
    list_remove(&s->link);
    s->net->socket_count--;
    free(s->in.ring);
    free(s);
}

static void attempt_accept(struct net *net, struct io_net *op)
{
    struct io_listener *l = op->listener;
    if (l->aborted) {
        net_done(net, op, ERR_CLOSED);
    } else if (l->waiting > 0) {
        op->socket = l->backlog[0];
        memmove(&l->backlog[0], &l->backlog[1], --l->waiting * sizeof l->backlog[0]);
        net_done(net, op, OK);
    }
}

static enum err connect_now(struct net *net, struct io_net *op)
{
    struct destination *destination = op->buf;
    struct address to = destination->address, from = to;
    char text[IO_ADDRESS_TEXT];
    if (!destination->known) return ERR_ARGUMENT;
    struct io_listener *l = listener_at(net, &to);
    if (l == NULL || l->aborted || l->waiting == BACKLOG || prng_chance(&net->chance, net->weather.refuse)) return ERR_REFUSED;
    if (to.family == FAMILY_LOCAL)
        from.path[0] = '\0';
    else
        from.port = port_take(net);
    struct io_socket *ours = socket_new(net, op->io, &from, &to), *theirs = socket_new(net, l->io, &to, &from);
    ours->other = theirs;
    theirs->other = ours;
    l->backlog[l->waiting++] = theirs;
    net_soon(net, l->accepting);
    op->socket = ours;
    sim_say(net->sim, "  connection from %s", address_text(&from, text, sizeof text));
    return OK;
}

static void destination_free(struct destination *destination)
{
    list_remove(&destination->link);
    free(destination);
}

/* The first attempt may meet silence; the second says so. */
static void attempt_connect(struct net *net, struct io_net *op)
{
    enum err err = ERR_CLOSED;
    bool silent = op->tries == 0 && prng_chance(&net->chance, net->weather.silent);
    if (silent) {
        op->tries = 1;
        net_try(net, op, IO_S_NS + below(net, 60 * IO_S_NS));
        return;
    }
    if (op->tries == 0) err = connect_now(net, op);
    destination_free(op->buf);
    op->buf = NULL;
    net_done(net, op, err);
}

static void attempt(struct io_timer *timer)
{
    struct io_net *op = CONTAINER((uint64_t *)(void *)timer, struct io_net, seam);
    struct net *net = net_of_loop(op->io);
    switch ((enum net_kind)op->kind) {
    case NET_ACCEPT: attempt_accept(net, op); break;
    case NET_CONNECT: attempt_connect(net, op); break;
    case NET_RECEIVE: attempt_receive(net, op); break;
    case NET_TRANSMIT: attempt_transmit(net, op); break;
    }
}

/* ---- listening ---- */

enum err io_listen(struct io *io, const char *address, uint32_t mode, struct io_listener **ret_listener)
{
    struct net *net = net_of_loop(io);
    struct address a;
    (void)mode;
    if (!address_from(address, &a)) return ERR_ARGUMENT;
    if (!is_here(&a)) return ERR_ADDRESS;
    if (a.family != FAMILY_LOCAL && a.port == 0) a.port = port_take(net);
    if (listener_at(net, &a) != NULL) return ERR_ADDRESS;
    struct io_listener *l = must(calloc(1, sizeof *l));
    l->net = net;
    l->io = io;
    l->address = a;
    list_push(&net->listeners, &l->link);
    net->listener_count++;
    *ret_listener = l;
    return OK;
}

void io_accept(struct io_listener *listener, struct io_net *op)
{
    assert(listener->accepting == NULL);
    listener->accepting = op;
    op->listener = listener;
    op->socket = NULL;
    net_submit(listener->net, listener->io, NET_ACCEPT, op, below(listener->net, 20000));
}

void io_listener_abort(struct io_listener *listener)
{
    listener->aborted = true;
    net_soon(listener->net, listener->accepting);
}

static void listener_free(struct io_listener *l)
{
    list_remove(&l->link);
    l->net->listener_count--;
    free(l);
}

void io_listener_close(struct io_listener *listener)
{
    if (listener == NULL) return;
    assert(listener->accepting == NULL);
    for (uint32_t i = 0; i < listener->waiting; i++) io_socket_close(listener->backlog[i]);
    listener_free(listener);
}

const char *io_listener_text(const struct io_listener *listener, char *buf, size_t size)
{
    return address_text(&listener->address, buf, size);
}

/* ---- sockets ---- */

void io_connect(struct io *io, const char *address, struct io_net *op)
{
    struct net *net = net_of_loop(io);
    struct destination *destination = must(calloc(1, sizeof *destination));
    destination->known = address_from(address, &destination->address);
    list_push(&net->destinations, &destination->link);
    op->listener = NULL;
    op->socket = NULL;
    op->buf = destination;
    net_submit(net, io, NET_CONNECT, op, 2 * draw_latency(net));
}

void io_connect_abort(struct io_net *op)
{
    struct net *net = net_of_loop(op->io);
    assert(op->kind == NET_CONNECT);
    op->tries = 1; /* no attempt any more: the next one says that there was no answer */
    if (net->off) return;
    io_cancel(op->io, timer_of(op));
    net_soon(net, op);
}

void io_receive(struct io_socket *socket, void *buf, uint32_t size, struct io_net *op)
{
    assert(socket->receiving == NULL && size > 0);
    socket->receiving = op;
    op->socket = socket;
    op->buf = buf;
    op->length = size;
    net_submit(socket->net, socket->io, NET_RECEIVE, op, below(socket->net, 20000));
}

void io_transmit(struct io_socket *socket, const struct io_piece *pieces, uint32_t count, struct io_net *op)
{
    assert(socket->transmitting == NULL && count > 0 && count <= IO_PIECES_MAX);
    socket->transmitting = op;
    op->socket = socket;
    op->pieces = pieces;
    op->piece_count = count;
    net_submit(socket->net, socket->io, NET_TRANSMIT, op, below(socket->net, 20000));
}

void io_socket_abort(struct io_socket *socket)
{
    if (socket->aborted) return;
    socket->aborted = true;
    if (socket->other != NULL) {
        socket->other->in.ended = true;
        stream_arm(socket->other);
        net_soon(socket->net, socket->other->transmitting);
    }
    net_soon(socket->net, socket->receiving);
    net_soon(socket->net, socket->transmitting);
}

void io_socket_close(struct io_socket *socket)
{
    if (socket == NULL) return;
    assert(socket->receiving == NULL && socket->transmitting == NULL);
    struct io_socket *other = socket->other;
    io_socket_abort(socket);
    io_cancel(socket->io, &socket->in.timer);
    io_cancel(socket->io, &socket->notice);
    if (other != NULL) {
        other->other = NULL;
        net_soon(socket->net, other->transmitting);
    }
    socket_free(socket);
}

const char *io_socket_peer(const struct io_socket *socket, char *buf, size_t size)
{
    return address_text(&socket->peer, buf, size);
}

const char *io_socket_local(const struct io_socket *socket, char *buf, size_t size)
{
    return address_text(&socket->local, buf, size);
}

/* ---- faults ---- */

void sim_net_weather(struct sim *sim, const struct sim_weather *weather)
{
    net_of(sim)->weather = *weather;
}

static void socket_lost(struct io_socket *s, bool told)
{
    if (s == NULL || s->reset) return;
    s->cut = true;
    io_cancel(s->io, &s->in.timer);
    io_cancel(s->io, &s->notice);
    io_after(s->io, told ? draw_latency(s->net) : KEEPALIVE_NS + below(s->net, KEEPALIVE_NS / 2), &s->notice);
}

void sim_socket_lose(struct io_socket *socket, enum sim_loss loss)
{
    static const char *const names[SIM_LOSSES] = {"both are told", "one is told", "the other is told", "nobody is told"};
    char text[IO_ADDRESS_TEXT];
    struct net *net = socket->net;
    if (net->off) return;
    sim_say(net->sim, "  connection lost at %s, %s", address_text(&socket->local, text, sizeof text), names[loss]);
    socket_lost(socket, loss == SIM_LOSS_RESET || loss == SIM_LOSS_OURS);
    socket_lost(socket->other, loss == SIM_LOSS_RESET || loss == SIM_LOSS_THEIRS);
}

/* ---- power ---- */

void net_power_cut(struct net *net)
{
    net->off = true;
    for (struct list *l; (l = list_pop(&net->ops)) != NULL;) {
        struct io_net *op = CONTAINER(l, struct io_net, link);
        io_cancel(op->io, timer_of(op));
    }
    for (struct list *l = net->sockets.next; l != &net->sockets; l = l->next) {
        struct io_socket *s = CONTAINER(l, struct io_socket, link);
        io_cancel(s->io, &s->in.timer);
        io_cancel(s->io, &s->notice);
    }
}

uint32_t sim_socket_rest(struct io_socket *socket, void *buf, uint32_t size)
{
    assert(socket->net->off);
    if (is_over(socket)) return 0;
    uint64_t end = socket->cut ? socket->in.arrived : socket->in.sent;
    uint32_t bytes = (uint32_t)min64(end - socket->in.taken, size);
    stream_get(socket, buf, bytes);
    return bytes;
}

void net_forget(struct net *net)
{
    list_init(&net->ops);
    for (struct list *l; (l = net->destinations.next) != &net->destinations;)
        destination_free(CONTAINER(l, struct destination, link));
    for (struct list *l; (l = net->sockets.next) != &net->sockets;) socket_free(CONTAINER(l, struct io_socket, link));
    for (struct list *l; (l = net->listeners.next) != &net->listeners;) listener_free(CONTAINER(l, struct io_listener, link));
    net->off = false;
}

/* ---- life ---- */

/* A seed draws what the network is like: latencies from 20 us to 5 ms, buffers from 1 KiB to 256 KiB. */
void net_seed(struct net *net, uint64_t seed)
{
    prng_init(&net->chance, seed ^ 0x2e7);
    net->weather = (struct sim_weather){0};
    net->latency_ns = 20000ull << below(net, 9);
    net->room = 1024u << below(net, 9);
    net->next_port = PORT_FIRST;
}

struct net *net_open(struct sim *sim)
{
    struct net *net = must(calloc(1, sizeof *net));
    net->sim = sim;
    list_init(&net->sockets);
    list_init(&net->listeners);
    list_init(&net->destinations);
    list_init(&net->ops);
    return net;
}

void net_close(struct net *net)
{
    net_forget(net);
    free(net);
}

uint32_t sim_sockets_open(const struct sim *sim)
{
    return net_of(sim)->socket_count;
}

uint32_t sim_listeners_open(const struct sim *sim)
{
    return net_of(sim)->listener_count;
}
