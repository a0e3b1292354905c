/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Links: messages between the nodes of a cluster.
 *
 * Between each pair of nodes there is one link over all addresses of a node at once: a connection to each (TLS 1.3, tls.h),
 * made by the node with the lower number, made again with back-off when it is lost. Which of our own addresses a connection
 * leaves from is for the routes of the system to say.
 *
 * Streams. A message belongs to a stream, and a stream sticks to one connection while that lives; streams are spread over the
 * connections. So messages of one stream arrive in order, each whole and once, and two addresses carry twice as much as one.
 * Numbering messages and putting them in order again over several connections was the other way: it needs resending, and memory
 * for it on both sides, that is, TCP once more; and whoever sends must know how to begin again anyway, because the other
 * node may have died. So the loss of a connection is told, not hidden:
 *
 *     session     of a stream: a number that grows when messages of the stream may have been lost. Of a session always
 *                 a prefix arrives: a message that was lost is followed by nothing of the same session. Messages carry it.
 *     lost        is called on the sending side: the stream has a new session, on another connection if there is one, and its
 *                 owner sends again what the peer does not have. Operations that waited end with ERR_CLOSED, later.
 *     boot        a number for each start of the peer's process, here counted from 1. Sessions of another boot are others.
 *
 * When a connection comes back, streams move to it without loss: what was sent before must have arrived first.
 *
 * Liveness. Each connection asks PING every `heartbeat_ms` and is given up when no PING of the last `timeout_ms` was answered:
 * that finds dead, frozen and unplugged peers, half-open connections, and links that are cut in one direction only. Time in
 * which our own loop stood still is not held against the peer, but it counts for leases. Answers and
 * urgent streams go before bulk; bulk goes in parts of LINK_PART_MAX; and the window bounds what lies in buffers of the
 * system between..
 *
 * Back-pressure. Sending never fails for room: an operation waits in its owner's memory until the peer has granted enough of
 * its window. A peer that does not consume (link_message_done) holds up bulk, and not heartbeats.
 *
 * All of it lives on the loop of `links`. Callbacks run from the loop, never from within a call of this header, and may
 * call anything here. Nothing is allocated but when a connection begins.
 */
#ifndef IZAR_CLUSTER_LINK_H
#define IZAR_CLUSTER_LINK_H

#include "cluster/codec_link.h"
#include "cluster/tls.h"
#include "io/io.h"

struct links; /* our end of all links */
struct link;  /* to one other node */

enum { LINK_LISTEN_MAX = 8, LINK_PEERS_MAX = 16 };

/* ---- messages that arrive ---- */

struct link_message {
    uint16_t kind;
    uint32_t stream, session, boot;
    uint32_t head_bytes, body_bytes;
    uint8_t *head;
    uint8_t *body[LINK_BODY_PIECES]; /* LINK_PIECE bytes each but the last, aligned to 4 KiB; the receiver may change them */
    struct list owner;               /* free for whoever keeps it */
    /* private */
    struct list link;
    struct link_conn *conn;
    uint32_t have;
    bool urgent;
};

/* Gives a message and its memory back; soon, because its memory is the window. */
void link_message_done(struct link_message *message);

/* ---- our end ---- */

/* Somebody wants to join, and waits. Answer with link_join_accept or link_join_refuse, later or at once. */
struct link_join {
    struct join_request request;
    uint8_t binding[TLS_BINDING_BYTES]; /* of its session and all it said: what the proof is to be compared with */
    char from[IO_ADDRESS_TEXT];
};

struct links_user {
    void (*message)(struct link *link, struct link_message *message);
    void (*up)(struct link *link);   /* the first connection is ready, or the peer has started anew (a new boot) */
    void (*down)(struct link *link); /* the last one is lost. Streams have been told */
    /* What people should know: a sentence. At most some a second. */
    void (*tell)(void *arg, bool is_problem, const char *text);
    void (*renewed)(void *arg, const struct identity *identity); /* keep it: our certificate was renewed */
    void (*join)(void *arg, struct link_join *join);             /* only while links_let_join(true) */
};

struct links_config {
    struct io *io;
    const struct identity *identity; /* copied */
    const struct links_user *user;   /* stays with the caller; all members are set */
    void *arg;
    uint64_t (*wall_s)(void); /* the wall clock, for certificates */
    uint32_t listen_count;
    const char *listen[LINK_LISTEN_MAX];
    /* 0: the default in brackets. */
    uint32_t heartbeat_ms;             /* [250] */
    uint32_t timeout_ms;               /* [1500] at least two heartbeats */
    uint32_t hello_ms;                 /* [5000] to connect, shake hands and agree */
    uint32_t quiet_ms;                 /* [none] what fails in this time from the beginning of links, or of a link, is not told:
                                        * nodes that have just met are not ready at the same moment */
    uint32_t window_bytes;             /* [2 MiB] of messages that a connection may hold, at least LINK_COST_MAX */
    uint32_t conns_max;                /* [16] connections, without strangers; with fewer than links some links stay down */
    uint32_t strangers_max;            /* [8] connections of who has not said yet who it is */
    uint16_t version_min, version_max; /* [what this release speaks] */
    uint64_t features, required;
};

/* Listens. The memory for all connections is set aside: about conns_max * (window_bytes * 5/4 + 0.7 MiB), touched as needed.
 * ERR_ARGUMENT, ERR_NO_MEMORY, ERR_DECODE (the identity), or why the address `*ret_failed` cannot be listened on. */
enum err links_open(const struct links_config *config, struct links **ret_links, uint32_t *ret_failed);
/* [task] Cuts everything, waits for it and frees it. All links are closed before; messages are given back and joins answered
 * before or meanwhile. NULL is fine. */
void links_close(struct links *links);
/* Where it listens, with the real port. Returns `buf`. */
const char *links_listen_text(const struct links *links, uint32_t i, char *buf, size_t size);
/* Whether peers without a certificate may ask to join; false at first. */
void links_let_join(struct links *links, bool on);
/* Renews our certificate when it is due; it does so by itself every minute. */
void links_renew(struct links *links);

struct links_stats {
    uint64_t accepted, refused;                              /* connections; refused: with a reason, or strangers */
    uint64_t connected, lost;                                /* connections that became ready, and that were lost later */
    uint64_t messages_in, messages_out, bytes_in, bytes_out; /* heads and bodies */
    uint64_t parked;                   /* times that a connection had to wait for memory to receive into */
    uint32_t conns, strangers, untold; /* now; sentences that were not told */
};
void links_stats(const struct links *links, struct links_stats *ret_stats);

/* ---- a link ---- */

/* The link to a node, whose listening addresses (in an order that does not change) are needed by the side that connects: the
 * one with the lower node number. Only nodes with a link are let in. ERR_LIMIT, ERR_NAME_EXISTS, ERR_ARGUMENT,
 * ERR_NO_MEMORY. */
enum err link_open(struct links *links, uint32_t node, const char *const *addresses, uint32_t count, void *owner,
                   struct link **ret_link);
/* The peer has other addresses now. Connections over those that stay, stay; those over one that is gone are cut, and new ones
 * are dialled. ERR_ARGUMENT. */
enum err link_addresses(struct link *link, const char *const *addresses, uint32_t count);
/* Cuts its connections; its streams are done before. No callback for it runs any more. NULL is fine. */
void link_close(struct link *link);
void *link_owner(const struct link *link);
uint32_t link_node(const struct link *link);
bool link_is_up(const struct link *link);
uint32_t link_boot(const struct link *link);     /* 0: it was never up */
uint32_t link_ready(const struct link *link);    /* connections */
uint16_t link_version(const struct link *link);  /* that both speak, while up */
uint64_t link_features(const struct link *link); /* that both can, while up */
/* When the newest PING was sent that the peer has answered (io_now_ns); 0: none of this boot. */
uint64_t link_answered_ns(const struct link *link);
/* "node 2: up over 2 of 2 addresses, boot 1". Returns `buf`. */
const char *link_text(const struct link *link, char *buf, size_t size);
/* Cuts the connection over this address, as if it were lost: for tests and for people. */
void link_cut(struct link *link, uint32_t path);

/* ---- sending ---- */

struct link_stream {
    uint32_t id, session;
    void (*lost)(struct link_stream *stream); /* a new session has begun; see above */
    /* private */
    struct link *link;
    struct link_conn *conn; /* NULL: none yet */
    struct list of_conn, ready, ops;
    uint64_t last; /* number of its newest message on the connection */
    bool urgent, busy, started, moving;
};

/* One sender of a stream at each side; ids are agreed above. Urgent: messages without a body, before all others; an id is
 * either urgent or not. */
void link_stream_init(struct link *link, struct link_stream *stream, uint32_t id, bool urgent,
                      void (*lost)(struct link_stream *stream));
/* No operation is under way. `lost` does not run any more. */
void link_stream_done(struct link_stream *stream);

struct link_op {
    void (*done)(struct link_op *op); /* its memory is free again: the message is on its way, or lost */
    enum err err;                     /* OK, ERR_CLOSED: this or the next message of the session did not go out */
    uint32_t session;                 /* of the stream, when it was submitted */
    /* private */
    struct list link;
    struct link_stream *stream;
    const void *head;
    const struct io_piece *body;
    uint32_t head_bytes, body_bytes, sent, piece, piece_at;
    uint16_t kind;
};

/* Sends a message: a head of at most LINK_HEAD_MAX bytes, and a body of at most LINK_BODY_MAX in up to IO_PIECES_MAX pieces
 * (for an urgent stream none); one of them is not empty. All of it, and the array, live until `done`. When the link is down,
 * ends with ERR_CLOSED, soon. */
void link_send(struct link_stream *stream, uint16_t kind, const void *head, uint32_t head_bytes, const struct io_piece *body,
               uint32_t pieces, struct link_op *op);

/* ---- joining ---- */

/* `answer` carries what the joiner will be. The join is over; the struct belongs to links again. */
void link_join_accept(struct link_join *join, const struct join_answer *answer);
void link_join_refuse(struct link_join *join, const char *why);
/* False: its connection is gone, and whoever asks again does so anew. It is to be answered all the same. */
bool link_join_waits(const struct link_join *join);

#endif
