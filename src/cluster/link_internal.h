/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of links share; private to src/cluster/link*.c.
 *
 *     link.c          our end: listening, links, memory, the clock, the end
 *     link_conn.c     a connection from its beginning to its end: bytes of the wire, handshake, HELLO
 *     link_receive.c  frames that arrive, messages
 *     link_send.c     frames that leave: order, credit, streams and the connections they stick to
 *     link_join.c     certificates for others: joining, renewing
 *
 * What a user calls only changes state and asks for a turn (links_kick); the turn sends, ends operations and frees what
 * is over. So nobody is called back from within a call.
 */
#ifndef IZAR_CLUSTER_LINK_INTERNAL_H
#define IZAR_CLUSTER_LINK_INTERNAL_H

#include <assert.h>
#include <string.h>

#include "base/pages.h"
#include "base/text.h"
#include "cluster/link.h"

enum { BULK, URGENT, CLASSES };
enum { URGENT_WINDOW = 64 * LINK_COST_MIN, BACKOFF_MIN_MS = 100, BACKOFF_MAX_MS = 3000, TELL_A_SECOND = 5 };

enum conn_state {
    CONN_CONNECTING, /* we dial */
    CONN_HANDSHAKE,  /* TLS */
    CONN_HELLO,      /* TLS is through; ours is sent, theirs is not here yet */
    CONN_JOINING,    /* a stranger asked, its answer is to come */
    CONN_READY,
    CONN_LEAVING, /* a last word is on its way out */
    CONN_CLOSING, /* cut; what is under way ends */
};

enum rx_state { RX_FRAME, RX_CONTROL, RX_HEAD, RX_BODY };

struct link_conn {
    struct links *links;
    struct list of_links;
    struct link *link;              /* NULL: it is not known yet whose */
    uint32_t path, session, number; /* session: on the wire; number: for traces */
    enum conn_state state;
    bool dialled, stranger; /* stranger: counts among them */
    bool agreed;            /* we were dialled and have answered a HELLO; the next frame is the dialling side's consent */
    struct io_socket *socket;
    struct tls *tls;
    struct io_net rx_op, tx_op;
    bool rx_busy, tx_busy;
    struct io_piece tx_piece;
    uint64_t since_ns;    /* of the beginning; of readiness when ready */
    uint64_t heard_ns;    /* a frame of the peer */
    uint64_t answered_ns; /* when the newest PING that was answered was sent; later, when our own loop stood still since */
    uint64_t pinged_ns;
    struct hello peer;
    uint16_t version;
    uint64_t features;

    /* out: what to say, in this order (link_send.c) */
    bool say_hello, say_refuse, say_pong, say_ping, say_credit, say_dead, say_sign, say_signed, say_joined;
    enum link_refusal refusal;
    char refusal_text[LINK_REASON_MAX + 1];
    uint64_t pong_stamp;
    struct der signed_certificate;
    struct list streams;        /* that stick to it */
    struct list ready[CLASSES]; /* streams with something to send */
    struct list active;         /* streams in the middle of a message */
    uint32_t active_count, moving_count;
    bool turn;                                     /* whose: a new message's or an active one's */
    uint64_t sent_cost[CLASSES], granted[CLASSES]; /* granted: window and what the peer consumed */
    uint64_t sent_messages, peer_received;
    uint8_t stage[TLS_WRITE_MAX]; /* small things on their way into one record */
    uint32_t staged;

    /* in (link_receive.c) */
    enum rx_state rx_state;
    bool parked; /* waits for memory */
    struct wire_frame rx_frame;
    struct frame frame;
    uint32_t rx_have, frame_left;
    uint8_t control[LINK_CONTROL_MAX];
    struct link_message *message; /* that the frame belongs to */
    struct list partial, free;    /* messages */
    uint32_t partial_count, messages_out, slots;
    uint64_t arrived_cost[CLASSES], consumed[CLASSES], told_consumed[CLASSES], received;
    struct link_message *messages;

    struct link_join join;
    struct join_answer join_answer;
    bool joining; /* the user has it */
    bool counts;  /* CLOSING, and still one of the strangers */
};

struct path {
    char address[IO_ADDRESS_TEXT]; /* empty: none */
    struct link_conn *conn;
    uint64_t dial_ns; /* not before */
    uint32_t backoff_ms;
    uint32_t dead; /* session of the last one that was ready and died; 0: none */
    uint64_t told; /* digest of the last reason that was told */
};

struct link {
    struct links *links;
    struct list of_links;
    void *owner;
    uint32_t node, path_count, ready, boot, streams;
    uint64_t opened_ns;
    bool dials, closed;
    uint8_t peer_boot[BOOT_BYTES];
    uint16_t version;
    uint64_t features, answered_ns;
    struct path paths[LINK_PATHS_MAX];
};

struct listening {
    struct links *links;
    struct io_listener *listener;
    struct io_net op;
    bool accepting;
};

struct links {
    struct io *io;
    struct mem *mem;
    struct pages *pages;
    struct links_config config;
    struct identity identity;
    struct tls_keys *keys;
    uint8_t boot[BOOT_BYTES];
    struct listening listens[LINK_LISTEN_MAX];
    uint32_t listen_count;
    struct list conns, links;
    struct list done, gone; /* operations that are over; links that were closed */
    uint32_t conn_count, stranger_count, next_number, next_session;
    struct io_msg kick;
    struct io_timer timer;
    bool kicked, let_join, stopping;
    struct io_task *waiting;
    uint64_t tell_ns; /* of this second's first sentence */
    uint32_t told;
    uint64_t opened_ns;
    uint64_t renew_ns, tick_ns;          /* when they were last */
    struct der renew_key, renew_request; /* renew_key.bytes 0: none is asked for */
    struct links_stats stats;
};

/* ---- link.c ---- */

void links_kick(struct links *links);
void links_tell(struct links *links, bool is_problem, const char *format, ...) TEXT_FORMAT(3, 4);
struct link *links_find(struct links *links, uint32_t node);
uint64_t links_now_s(struct links *links);
void path_failed(struct link *link, uint32_t path);
/* Whether this link may have one connection more. Links that have none come first: places are kept free for them, and a link
 * that has several gives one up, soon. */
bool link_has_room(struct link *link);

/* ---- link_conn.c ---- */

void link_conn_dial(struct link *link, uint32_t path);
/* Takes over the socket. ERR_NO_MEMORY. */
enum err link_conn_accept(struct links *links, struct io_socket *socket);
/* Cuts it, tells streams; `why` (may be NULL) is told to people. */
void link_conn_cut(struct link_conn *conn, const char *why);
/* Says why, then cuts. */
void link_conn_refuse(struct link_conn *conn, enum link_refusal refusal, const char *why);
/* `late_ns`: how long our own loop stood still before. */
void link_conn_tick(struct link_conn *conn, uint64_t now_ns, uint64_t late_ns);
/* There is memory again: a parked connection goes on. */
void link_conn_resume(struct link_conn *conn);
void link_conn_hello(struct link_conn *conn, const struct hello *hello);
/* The dialling side has taken our HELLO. */
void link_conn_consent(struct link_conn *conn);
void link_conn_dead(struct link_conn *conn, uint32_t path, uint32_t session);
void link_conn_answered(struct link_conn *conn, uint64_t stamp);
/* Frees it when nothing is under way any more. True: it is gone. */
bool link_conn_reap(struct link_conn *conn);
/* Encrypts what there is to say and transmits it. */
void link_conn_pump(struct link_conn *conn);
const char *link_conn_text(const struct link_conn *conn, char *buf, size_t size);

/* ---- link_send.c ---- */

/* Writes into the session until there is nothing to say or no room. Not OK: the session is over. */
enum err send_fill(struct link_conn *conn);
bool send_is_pending(const struct link_conn *conn);
/* The peer's word on what it consumed and received. ERR_DECODE: it cannot be. */
enum err send_credited(struct link_conn *conn, const struct link_state *state);
void send_conn_ready(struct link_conn *conn);
void send_conn_lost(struct link_conn *conn);

/* ---- link_receive.c ---- */

/* Takes what the session has. OK: all of it, more bytes are needed. Not OK: it is over. */
enum err receive_all(struct link_conn *conn);
enum err receive_open(struct link_conn *conn);
void receive_close(struct link_conn *conn);
void receive_state(const struct link_conn *conn, struct link_state *ret_state);
/* Drops messages that are not whole. */
void receive_lost(struct link_conn *conn);

/* ---- link_join.c ---- */

/* What the proof in these bytes of a JOIN has to be made of. */
enum err join_binding(struct tls *tls, const void *at, size_t size, uint8_t ret_binding[TLS_BINDING_BYTES]);
enum err join_arrived(struct link_conn *conn, const void *at, size_t size);
void sign_arrived(struct link_conn *conn, const void *at, size_t size);
void signed_arrived(struct link_conn *conn, const void *at, size_t size);

#endif
