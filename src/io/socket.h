/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What socket.c and the two back ends share; private to src/io.
 */
#ifndef IZAR_IO_SOCKET_H
#define IZAR_IO_SOCKET_H

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "io/loop.h"

struct address {
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    } of;
    socklen_t size;
};

struct io_socket {
    struct io *io;
    int fd;
    bool receiving, transmitting;
    struct address peer, local;
};

struct io_listener {
    struct io *io;
    int fd;
    bool accepting, aborted;
    struct address address;
};

enum net_kind { NET_ACCEPT = 1, NET_CONNECT, NET_RECEIVE, NET_TRANSMIT };

static inline int net_fd(const struct io_net *op)
{
    return op->kind == NET_ACCEPT ? op->listener->fd : op->socket->fd;
}

/* One attempt that does not block: bytes, a descriptor, or a negative errno. */
long net_attempt(struct io_net *op);
/* Takes the result of one attempt. True when the operation is through, false when it is to be attempted again. */
bool net_advance(struct io_net *op, long result);
/* Runs `done`. */
void net_finish(struct io_net *op);
/* The message to send next; NULL: send the rest of one piece (net_rest) alone. */
struct msghdr *net_message(struct io_net *op);
void net_rest(const struct io_net *op, const void **ret_at, size_t *ret_size);

#endif
