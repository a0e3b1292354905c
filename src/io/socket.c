/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections: addresses, listening, and an operation on a socket from submission to `done`.
 *
 * What the result of one attempt means is decided here for both back ends. io_uring attempts in the kernel; the posix back end
 * calls net_attempt when poll says so.
 *
 * An abort is shutdown(2): it ends what is under way in the kernel, whoever waits for it, and everything after.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "io/socket.h"
#include "io/valgrind.h"

#define BACKLOG 256
#define KEEPALIVE_IDLE_S 30
#define KEEPALIVE_INTERVAL_S 10
#define KEEPALIVE_PROBES 3
#define NET_TRIES_MAX 250u

static_assert(sizeof(struct io_piece) == sizeof(struct iovec), "pieces are handed to the kernel as they are");
static_assert(offsetof(struct io_piece, at) == offsetof(struct iovec, iov_base), "as above");
static_assert(offsetof(struct io_piece, size) == offsetof(struct iovec, iov_len), "as above");
static_assert(sizeof(struct msghdr) <= sizeof(((struct io_net *)0)->seam), "room for the message's header");

/* ---- addresses ---- */

static bool port_from(const char *text, uint16_t *ret_port)
{
    char *end;
    if (*text < '0' || *text > '9') return false;
    unsigned long port = strtoul(text, &end, 10);
    if (*end != '\0' || port > 65535) return false;
    *ret_port = (uint16_t)port;
    return true;
}

static bool address_local(const char *path, struct address *ret_address)
{
    struct sockaddr_un *un = &ret_address->of.un;
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof un->sun_path) return false;
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, path, length + 1);
    ret_address->size = (socklen_t)sizeof *un;
    return true;
}

static bool address_from(const char *text, struct address *ret_address)
{
    char host[INET6_ADDRSTRLEN + 1];
    uint16_t port;
    memset(ret_address, 0, sizeof *ret_address);
    if (strncmp(text, "unix:", 5) == 0) return address_local(text + 5, ret_address);
    bool six = *text == '[';
    const char *from = text + six, *end = strchr(from, six ? ']' : ':');
    if (end == NULL || (size_t)(end - from) >= sizeof host) return false;
    memcpy(host, from, (size_t)(end - from));
    host[end - from] = '\0';
    if (six && *++end != ':') return false;
    if (!port_from(end + 1, &port)) return false;
    if (six) {
        ret_address->of.in6.sin6_family = AF_INET6;
        ret_address->of.in6.sin6_port = htons(port);
        ret_address->size = (socklen_t)sizeof ret_address->of.in6;
        return inet_pton(AF_INET6, host, &ret_address->of.in6.sin6_addr) == 1;
    }
    ret_address->of.in.sin_family = AF_INET;
    ret_address->of.in.sin_port = htons(port);
    ret_address->size = (socklen_t)sizeof ret_address->of.in;
    return inet_pton(AF_INET, host, &ret_address->of.in.sin_addr) == 1;
}

static const char *address_text(const struct address *a, char *buf, size_t size)
{
    char host[INET6_ADDRSTRLEN] = "?";
    switch (a->of.any.sa_family) {
    case AF_INET:
        inet_ntop(AF_INET, &a->of.in.sin_addr, host, sizeof host);
        snprintf(buf, size, "%s:%u", host, ntohs(a->of.in.sin_port));
        break;
    case AF_INET6:
        inet_ntop(AF_INET6, &a->of.in6.sin6_addr, host, sizeof host);
        snprintf(buf, size, "[%s]:%u", host, ntohs(a->of.in6.sin6_port));
        break;
    default: snprintf(buf, size, "unix:%.107s", a->of.un.sun_path); break;
    }
    return buf;
}

/* ---- sockets ---- */

/* io_uring waits for blocking descriptors, and would not for others; what is attempted on this thread must not block. */
static int socket_open(const struct io *io, const struct address *a)
{
    int flags = io_back(io) == &backend_posix ? SOCK_NONBLOCK : 0;
    return socket(a->of.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
}

/* What every TCP connection gets; failure costs speed, not correctness. */
static void socket_tune(int fd, int family)
{
    int on = 1, idle = KEEPALIVE_IDLE_S, interval = KEEPALIVE_INTERVAL_S, probes = KEEPALIVE_PROBES;
    if (family != AF_INET && family != AF_INET6) return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
}

static struct io_socket *socket_new(struct io *io, int fd)
{
    struct io_socket *s = calloc(1, sizeof *s);
    if (s == NULL) return NULL;
    s->io = io;
    s->fd = fd;
    return s;
}

static void socket_measure(struct io_socket *s)
{
    s->peer.size = s->local.size = (socklen_t)sizeof s->peer.of;
    if (getpeername(s->fd, &s->peer.of.any, &s->peer.size) != 0) s->peer.size = 0;
    if (getsockname(s->fd, &s->local.of.any, &s->local.size) != 0) s->local.size = 0;
    socket_tune(s->fd, s->local.of.any.sa_family);
}

const char *io_socket_peer(const struct io_socket *socket, char *buf, size_t size)
{
    return address_text(&socket->peer, buf, size);
}

const char *io_socket_local(const struct io_socket *socket, char *buf, size_t size)
{
    return address_text(&socket->local, buf, size);
}

void io_socket_abort(struct io_socket *socket)
{
    assert(io_is_current(socket->io));
    shutdown(socket->fd, SHUT_RDWR);
}

void io_socket_close(struct io_socket *socket)
{
    if (socket == NULL) return;
    assert(!socket->receiving && !socket->transmitting);
    close(socket->fd);
    free(socket);
}

/* ---- listening ---- */

static enum err listen_error(int number)
{
    if (number == EADDRINUSE || number == EADDRNOTAVAIL || number == ENODEV) return ERR_ADDRESS;
    if (number == EAFNOSUPPORT) return ERR_UNSUPPORTED;
    return file_error(number);
}

/* True when it is a local socket and nobody listens behind it: its server died. */
static bool is_deserted(const struct address *a)
{
    struct stat st;
    if (lstat(a->of.un.sun_path, &st) != 0 || !S_ISSOCK(st.st_mode)) return false;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return false;
    bool deserted = connect(fd, &a->of.any, a->size) != 0 && errno == ECONNREFUSED;
    close(fd);
    return deserted;
}

static int bind_to(int fd, const struct address *a, uint32_t mode)
{
    int on = 1;
    bool local = a->of.any.sa_family == AF_UNIX;
    if (a->of.any.sa_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (!local) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (local) (void)fchmod(fd, mode); /* so that the file is never more open than asked */
    int r = bind(fd, &a->of.any, a->size);
    if (r != 0 && errno == EADDRINUSE && local && is_deserted(a)) {
        unlink(a->of.un.sun_path);
        r = bind(fd, &a->of.any, a->size);
    }
    return r == 0 && local ? chmod(a->of.un.sun_path, mode) : r;
}

enum err io_listen(struct io *io, const char *address, uint32_t mode, struct io_listener **ret_listener)
{
    struct address a;
    if (!address_from(address, &a)) return ERR_ARGUMENT;
    int fd = socket_open(io, &a);
    if (fd < 0) return listen_error(errno);
    struct io_listener *l = calloc(1, sizeof *l);
    if (l == NULL || bind_to(fd, &a, mode) != 0 || listen(fd, BACKLOG) != 0) {
        enum err e = l == NULL ? ERR_NO_MEMORY : listen_error(errno);
        close(fd);
        free(l);
        return e;
    }
    l->io = io;
    l->fd = fd;
    l->address.size = (socklen_t)sizeof l->address.of;
    getsockname(fd, &l->address.of.any, &l->address.size);
    *ret_listener = l;
    return OK;
}

void io_listener_abort(struct io_listener *listener)
{
    assert(io_is_current(listener->io));
    listener->aborted = true;
    shutdown(listener->fd, SHUT_RDWR);
}

void io_listener_close(struct io_listener *listener)
{
    if (listener == NULL) return;
    assert(!listener->accepting);
    if (listener->address.of.any.sa_family == AF_UNIX) unlink(listener->address.of.un.sun_path);
    close(listener->fd);
    free(listener);
}

const char *io_listener_text(const struct io_listener *listener, char *buf, size_t size)
{
    return address_text(&listener->address, buf, size);
}

/* ---- submission ---- */

static void net_submit(struct io *io, enum net_kind kind, struct io_net *op)
{
    assert(io_is_current(io));
    op->err = OK;
    op->bytes = 0;
    op->io = io;
    op->moved = op->piece = 0;
    op->kind = (uint8_t)kind;
    op->tries = 0;
    io->under_way++;
    list_push(&io->net_waiting, &op->link);
}

void io_accept(struct io_listener *listener, struct io_net *op)
{
    assert(!listener->accepting);
    listener->accepting = true;
    op->listener = listener;
    op->socket = NULL;
    net_submit(listener->io, NET_ACCEPT, op);
}

void io_connect(struct io *io, const char *address, struct io_net *op)
{
    struct address a;
    op->listener = NULL;
    op->socket = NULL;
    net_submit(io, NET_CONNECT, op);
    op->err = ERR_ARGUMENT; /* what the attempt says when there is no socket to attempt with */
    if (!address_from(address, &a)) return;
    op->err = ERR_NO_MEMORY;
    int fd = socket_open(io, &a);
    if (fd < 0) return;
    op->socket = socket_new(io, fd);
    if (op->socket == NULL) {
        close(fd);
        return;
    }
    op->socket->peer = a;
    op->err = OK;
}

/* What has not begun yet is not attempted; what waits for an answer is ended by the shutdown. */
void io_connect_abort(struct io_net *op)
{
    assert(op->kind == NET_CONNECT && io_is_current(op->io));
    if (op->err == OK) op->err = ERR_CLOSED;
    if (op->socket != NULL) shutdown(op->socket->fd, SHUT_RDWR);
}

void io_receive(struct io_socket *socket, void *buf, uint32_t size, struct io_net *op)
{
    assert(!socket->receiving && size > 0);
    socket->receiving = true;
    op->socket = socket;
    op->buf = buf;
    op->length = size;
    net_submit(socket->io, NET_RECEIVE, op);
}

void io_transmit(struct io_socket *socket, const struct io_piece *pieces, uint32_t count, struct io_net *op)
{
    assert(!socket->transmitting && count > 0 && count <= IO_PIECES_MAX);
    socket->transmitting = true;
    op->socket = socket;
    op->pieces = pieces;
    op->piece_count = count;
    net_submit(socket->io, NET_TRANSMIT, op);
}

/* ---- attempts ---- */

struct msghdr *net_message(struct io_net *op)
{
    struct msghdr *m = (struct msghdr *)(void *)op->seam;
    memset(m, 0, sizeof *m);
    if (op->moved > 0) return NULL; /* the rest of one piece first: what is the caller's is not changed */
    m->msg_iov = (struct iovec *)(uintptr_t)&op->pieces[op->piece];
    m->msg_iovlen = op->piece_count - op->piece;
    return m;
}

void net_rest(const struct io_net *op, const void **ret_at, size_t *ret_size)
{
    const struct io_piece *p = &op->pieces[op->piece];
    *ret_at = (const char *)p->at + op->moved;
    *ret_size = p->size - op->moved;
}

static long attempt_transmit(struct io_net *op)
{
    const void *at;
    size_t size;
    struct msghdr *m = net_message(op);
    if (m != NULL) return sendmsg(op->socket->fd, m, MSG_NOSIGNAL | MSG_DONTWAIT);
    net_rest(op, &at, &size);
    return send(op->socket->fd, at, size, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* The second time round the connection is made or refused. */
static long attempt_connect(struct io_net *op)
{
    int number = 0;
    socklen_t size = sizeof number;
    if (op->tries == 0) {
        op->tries = 1;
        int r = connect(op->socket->fd, &op->socket->peer.of.any, op->socket->peer.size);
        if (r != 0 && errno == EINPROGRESS) errno = EAGAIN;
        return r;
    }
    if (getsockopt(op->socket->fd, SOL_SOCKET, SO_ERROR, &number, &size) != 0) return -1;
    errno = number;
    return number == 0 ? 0 : -1;
}

long net_attempt(struct io_net *op)
{
    long n = -1;
    switch ((enum net_kind)op->kind) {
    case NET_ACCEPT: n = accept4(op->listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK); break;
    case NET_CONNECT: n = attempt_connect(op); break;
    case NET_RECEIVE: n = recv(op->socket->fd, op->buf, op->length, MSG_DONTWAIT); break;
    case NET_TRANSMIT: n = attempt_transmit(op); break;
    }
    return n < 0 ? -errno : n;
}

/* ---- results ---- */

static enum err net_error(int number)
{
    switch (number) {
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case ENOBUFS: return ERR_NO_MEMORY;
    case ECONNREFUSED:
    case ENOENT:
    case EHOSTUNREACH:
    case ENETUNREACH: return ERR_REFUSED;
    case EADDRNOTAVAIL: return ERR_ADDRESS;
    case EACCES:
    case EPERM: return ERR_PERMISSION;
    default: return ERR_CLOSED;
    }
}

static bool net_fail(struct io_net *op, enum err e)
{
    op->err = e;
    return true;
}

static bool accepted(struct io_net *op, int fd)
{
    op->socket = socket_new(op->io, fd);
    if (op->socket == NULL) {
        close(fd);
        return net_fail(op, ERR_NO_MEMORY);
    }
    socket_measure(op->socket);
    return true;
}

/* Zero pieces are skipped so that an attempt always has a byte to send. */
static bool transmitted(struct io_net *op, size_t bytes)
{
    op->bytes += (uint32_t)bytes;
    op->moved += (uint32_t)bytes;
    while (op->piece < op->piece_count && op->moved >= op->pieces[op->piece].size) {
        op->moved -= (uint32_t)op->pieces[op->piece].size;
        op->piece++;
    }
    return op->piece == op->piece_count;
}

bool net_advance(struct io_net *op, long result)
{
    if (result == -EINTR || result == -EAGAIN) return false;
    if (op->kind == NET_ACCEPT && result == -ECONNABORTED && op->tries++ < NET_TRIES_MAX) return false;
    if (op->kind == NET_ACCEPT && op->listener->aborted) {
        if (result >= 0) close((int)result);
        return net_fail(op, ERR_CLOSED);
    }
    if (result < 0) return net_fail(op, net_error((int)-result));
    switch ((enum net_kind)op->kind) {
    case NET_ACCEPT: return accepted(op, (int)result);
    case NET_CONNECT: socket_measure(op->socket); return true;
    case NET_RECEIVE: op->bytes = (uint32_t)result; return result > 0 ? true : net_fail(op, ERR_CLOSED);
    case NET_TRANSMIT: return transmitted(op, (size_t)result);
    }
    assert(false && "an operation of no kind");
    return true;
}

void net_finish(struct io_net *op)
{
    struct io *io = op->io;
    assert(io_is_current(io) && io->under_way > 0);
    io->under_way--;
    switch ((enum net_kind)op->kind) {
    case NET_ACCEPT: op->listener->accepting = false; break;
    case NET_CONNECT:
        if (op->err == OK) break;
        io_socket_close(op->socket);
        op->socket = NULL;
        break;
    case NET_RECEIVE:
        op->socket->receiving = false;
        VALGRIND_MAKE_MEM_DEFINED(op->buf, op->bytes);
        break;
    case NET_TRANSMIT: op->socket->transmitting = false; break;
    }
    op->done(op);
}
