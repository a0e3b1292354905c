/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What io.h promises about connections, told as stories: bytes in order however the pieces fall, aborts that end what is under
 * way, addresses that are understood or refused. Each story is one task that plays both sides on one loop and waits for each
 * operation in turn. test_socket.c tells them on the real seam, test_net.c on the simulated one.
 */
#ifndef IZAR_TESTS_UNIT_SOCKET_STORIES_H
#define IZAR_TESTS_UNIT_SOCKET_STORIES_H

#include <stdlib.h>
#include <string.h>

#include "tests/unit/story.h"

/* A pair of connected sockets through `address`. */
static bool pair(struct io *io, const char *address, struct io_listener **ret_listener, struct io_socket **ret_a,
                 struct io_socket **ret_b)
{
    char where[IO_ADDRESS_TEXT];
    struct waited accept, connect;
    if (io_listen(io, address, 0600, ret_listener) != OK) return false;
    io_accept(*ret_listener, begin(&accept));
    io_connect(io, io_listener_text(*ret_listener, where, sizeof where), begin(&connect));
    if (end(&connect) != OK || end(&accept) != OK) return false;
    *ret_a = connect.op.socket;
    *ret_b = accept.op.socket;
    return true;
}

static void story_of_bytes(struct story *story, const char *address)
{
    enum { SIZE_ALL = 3 << 20, PIECES = 7 };
    static uint8_t sent[SIZE_ALL], got[SIZE_ALL];
    struct io_listener *listener;
    struct io_socket *a, *b;
    struct waited w;
    struct io_piece pieces[PIECES];
    EXPECT(pair(story->io, address, &listener, &a, &b));
    for (uint32_t i = 0; i < SIZE_ALL; i++) sent[i] = (uint8_t)(i * 2654435761u >> 13);
    memset(got, 0, sizeof got);
    size_t at = 0, cuts[PIECES] = {1, 0, 48, 4096, 1000003, 0, 0};
    for (int i = 0; i < PIECES; i++) {
        if (i == PIECES - 1) cuts[i] = SIZE_ALL - at;
        pieces[i] = (struct io_piece){sent + at, cuts[i]};
        at += cuts[i];
    }
    io_transmit(a, pieces, PIECES, begin(&w));
    for (uint32_t have = 0, n; have < SIZE_ALL; have += n) EXPECT(receive(b, got + have, SIZE_ALL - have, &n) == OK && n > 0);
    EXPECT(end(&w) == OK && w.op.bytes == SIZE_ALL);
    EXPECT(memcmp(sent, got, SIZE_ALL) == 0);
    io_socket_close(a);
    uint32_t n;
    EXPECT(receive(b, got, 1, &n) == ERR_CLOSED);
    io_socket_close(b);
    io_listener_close(listener);
}

static void story_of_ipv4(struct story *story)
{
    story_of_bytes(story, "127.0.0.1:0");
}

static void story_of_ipv6(struct story *story)
{
    struct io_listener *probe;
    if (io_listen(story->io, "[::1]:0", 0, &probe) != OK) return; /* a machine without IPv6 */
    io_listener_close(probe);
    story_of_bytes(story, "[::1]:0");
}

static void story_of_abort(struct story *story)
{
    static uint8_t much[8 << 20], byte;
    struct io_listener *listener;
    struct io_socket *a, *b;
    struct waited in, out, accept;
    struct io_piece piece = {much, sizeof much};
    EXPECT(pair(story->io, "127.0.0.1:0", &listener, &a, &b));
    io_receive(a, &byte, 1, begin(&in));
    io_transmit(a, &piece, 1, begin(&out)); /* nobody reads: it cannot end */
    io_task_sleep(story->io, 5000000);
    EXPECT(!in.over && !out.over);
    io_socket_abort(a);
    EXPECT(end(&in) == ERR_CLOSED && end(&out) == ERR_CLOSED);
    io_receive(a, &byte, 1, begin(&in));
    EXPECT(end(&in) == ERR_CLOSED);
    io_socket_close(a);
    io_socket_close(b);
    char where[IO_ADDRESS_TEXT];
    io_connect(story->io, io_listener_text(listener, where, sizeof where), begin(&out));
    io_connect_abort(&out.op);
    EXPECT(end(&out) == ERR_CLOSED && out.op.socket == NULL);
    io_accept(listener, begin(&accept));
    io_task_sleep(story->io, 5000000);
    io_listener_abort(listener);
    EXPECT(end(&accept) == ERR_CLOSED);
    io_listener_close(listener);
}

static void story_of_addresses(struct story *story)
{
    static const char *const bad[] = {"",      "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:1x", "localhost:1",
                                      "[::1]", "[::1:80",   "::1:80",     "unix:",           "1.2.3.4.5:1",  "127.0.0.1:-1"};
    struct io_listener *listener, *second;
    struct waited w;
    char text[IO_ADDRESS_TEXT];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        EXPECT(io_listen(story->io, bad[i], 0600, &listener) == ERR_ARGUMENT);
        io_connect(story->io, bad[i], begin(&w));
        EXPECT(end(&w) == ERR_ARGUMENT && w.op.socket == NULL);
    }
    EXPECT(io_listen(story->io, "127.0.0.1:0", 0, &listener) == OK);
    io_listener_text(listener, text, sizeof text);
    EXPECT(io_listen(story->io, text, 0, &second) == ERR_ADDRESS);
    io_listener_close(listener);
    io_connect(story->io, text, begin(&w));
    EXPECT(end(&w) == ERR_REFUSED && w.op.socket == NULL);
    EXPECT(io_listen(story->io, "192.0.2.77:0", 0, &listener) == ERR_ADDRESS);
}

/* More receives that wait than the ring has room for, and files still work. */
static void story_of_many(struct story *story)
{
    enum { MANY = 200 };
    static struct waited in[MANY];
    static struct io_socket *a[MANY], *b[MANY];
    static uint8_t byte[MANY];
    struct io_listener *listener = NULL;
    struct waited w;
    struct io_piece piece = {"x", 1};
    for (int i = 0; i < MANY; i++) {
        EXPECT(pair(story->io, "127.0.0.1:0", &listener, &a[i], &b[i]));
        io_listener_close(listener);
        io_receive(b[i], &byte[i], 1, begin(&in[i]));
    }
    for (int i = MANY - 1; i >= 0; i--) {
        io_transmit(a[i], &piece, 1, begin(&w));
        EXPECT(end(&w) == OK && end(&in[i]) == OK && byte[i] == 'x');
        io_socket_close(a[i]);
        io_socket_close(b[i]);
    }
}

#endif
