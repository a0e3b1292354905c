/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What arrives: frames, and the messages that they make up.
 *
 * The session is read right into the place where the bytes belong: header, a small buffer for words of the connection, a
 * message's head, the pieces of its body. Memory for a whole message is taken when its first frame comes; the peer may not send
 * what the window has no room for, and one that does is cut. The arena is a quarter larger than all windows; should it have
 * no piece that is large enough nevertheless (pieces of other sizes lie in the way), the connection waits (parked).
 */
#include "cluster/link_internal.h"

/* ---- memory of messages ---- */

static uint32_t piece_bytes(const struct link_message *m, uint32_t i)
{
    return min32(m->body_bytes - i * LINK_PIECE, LINK_PIECE);
}

static uint32_t pieces_of(const struct link_message *m)
{
    return (m->body_bytes + LINK_PIECE - 1) / LINK_PIECE;
}

static void memory_back(struct pages *pages, struct link_message *m)
{
    if (m->head != NULL) pages_give(pages, m->head, LINK_COST_MIN);
    m->head = NULL;
    for (uint32_t i = 0; i < LINK_BODY_PIECES; i++) {
        if (m->body[i] != NULL) pages_give(pages, m->body[i], piece_bytes(m, i));
        m->body[i] = NULL;
    }
}

static bool memory_take(struct pages *pages, struct link_message *m)
{
    m->head = pages_take(pages, LINK_COST_MIN);
    bool all = m->head != NULL;
    for (uint32_t i = 0; all && i < pieces_of(m); i++) {
        m->body[i] = pages_take(pages, piece_bytes(m, i));
        all = m->body[i] != NULL;
    }
    if (!all) memory_back(pages, m);
    return all;
}

static uint64_t cost_of(const struct link_message *m)
{
    return LINK_COST_MIN + link_body_cost(m->body_bytes);
}

enum err receive_open(struct link_conn *conn)
{
    struct links *l = conn->links;
    list_init(&conn->free);
    list_init(&conn->partial);
    conn->slots = (l->config.window_bytes + URGENT_WINDOW) / LINK_COST_MIN;
    conn->messages = mem_alloc(l->mem, conn->slots * sizeof conn->messages[0]);
    if (conn->messages == NULL) return ERR_NO_MEMORY;
    for (uint32_t i = 0; i < conn->slots; i++) list_push(&conn->free, &conn->messages[i].link);
    return OK;
}

void receive_close(struct link_conn *conn)
{
    assert(conn->messages_out == 0);
    mem_free(conn->links->mem, conn->messages);
}

static void slot_back(struct link_conn *conn, struct link_message *m)
{
    memory_back(conn->links->pages, m);
    list_push(&conn->free, &m->link);
}

void receive_lost(struct link_conn *conn)
{
    if (conn->message != NULL) slot_back(conn, conn->message);
    conn->message = NULL;
    for (struct list *l; (l = list_pop(&conn->partial)) != NULL;) slot_back(conn, CONTAINER(l, struct link_message, link));
    conn->partial_count = 0;
}

void receive_state(const struct link_conn *conn, struct link_state *ret_state)
{
    *ret_state = (struct link_state){.consumed = {conn->consumed[BULK], conn->consumed[URGENT]}, .received = conn->received};
}

void link_message_done(struct link_message *message)
{
    struct link_conn *conn = message->conn;
    struct links *l = conn->links;
    int class = message->urgent ? URGENT : BULK;
    uint64_t window = class == BULK ? l->config.window_bytes : URGENT_WINDOW;
    assert(io_is_current(l->io) && conn->messages_out > 0);
    conn->messages_out--;
    conn->consumed[class] += cost_of(message);
    slot_back(conn, message);
    if (conn->consumed[class] - conn->told_consumed[class] >= window / 4) conn->say_credit = true;
    links_kick(l); /* a word to send, a parked connection, or one to free */
}

/* ---- messages ---- */

static void message_whole(struct link_conn *conn)
{
    struct link_message *m = conn->message;
    struct links *l = conn->links;
    conn->message = NULL;
    conn->received++;
    conn->messages_out++;
    l->stats.messages_in++;
    l->stats.bytes_in += m->head_bytes + m->body_bytes;
    l->config.user->message(conn->link, m);
}

/* The frame's bytes are all there. */
static void frame_over(struct link_conn *conn)
{
    struct link_message *m = conn->message;
    conn->rx_state = RX_FRAME;
    conn->rx_have = 0;
    if (m->have == m->head_bytes + m->body_bytes) {
        message_whole(conn);
        return;
    }
    list_push(&conn->partial, &m->link);
    conn->partial_count++;
    conn->message = NULL;
}

static struct link_message *partial_of(struct link_conn *conn, uint32_t stream)
{
    for (struct list *l = conn->partial.next; l != &conn->partial; l = l->next) {
        struct link_message *m = CONTAINER(l, struct link_message, link);
        if (m->stream == stream) return m;
    }
    return NULL;
}

static void body_next(struct link_conn *conn)
{
    conn->rx_state = RX_BODY;
    if (conn->frame_left == 0) frame_over(conn);
}

/* A message begins. ERR_AGAIN: no memory now; ERR_DECODE: it may not begin. */
static enum err message_begins(struct link_conn *conn)
{
    const struct frame *f = &conn->frame;
    struct links *l = conn->links;
    int class = f->urgent ? URGENT : BULK;
    uint64_t window = class == BULK ? l->config.window_bytes : URGENT_WINDOW;
    uint64_t cost = LINK_COST_MIN + link_body_cost(f->body_bytes);
    bool whole = f->length == f->head_bytes + f->body_bytes;
    if (conn->arrived_cost[class] + cost > conn->consumed[class] + window) return ERR_DECODE;
    if (partial_of(conn, f->stream) != NULL || (!whole && conn->partial_count == LINK_INTERLEAVED)) return ERR_DECODE;
    assert(!list_empty(&conn->free)); /* a slot for the least that a message costs */
    struct link_message *m = CONTAINER(list_pop(&conn->free), struct link_message, link);
    *m = (struct link_message){.kind = f->kind,
                               .stream = f->stream,
                               .session = f->session,
                               .boot = conn->link->boot,
                               .head_bytes = f->head_bytes,
                               .body_bytes = f->body_bytes,
                               .conn = conn,
                               .urgent = f->urgent};
    list_init(&m->link);
    if (!memory_take(l->pages, m)) {
        list_push_front(&conn->free, &m->link);
        l->stats.parked++;
        conn->parked = true;
        return ERR_AGAIN;
    }
    conn->arrived_cost[class] += cost;
    conn->message = m;
    conn->frame_left = f->length - f->head_bytes;
    conn->rx_state = RX_HEAD;
    if (f->head_bytes == 0) body_next(conn);
    return OK;
}

static enum err part_begins(struct link_conn *conn)
{
    struct link_message *m = partial_of(conn, conn->frame.stream);
    if (m == NULL || m->session != conn->frame.session) return ERR_DECODE;
    if (conn->frame.length > m->head_bytes + m->body_bytes - m->have) return ERR_DECODE;
    list_remove(&m->link);
    conn->partial_count--;
    conn->message = m;
    conn->frame_left = conn->frame.length;
    conn->rx_state = RX_BODY;
    return OK;
}

/* ---- words of the connection ---- */

static enum err state_arrived(struct link_conn *conn)
{
    struct link_state state;
    TRY(state_decode(conn->control, conn->frame.length, &state));
    TRY(send_credited(conn, &state));
    if (conn->frame.type == FRAME_PING) {
        conn->say_pong = true;
        conn->pong_stamp = state.stamp;
    }
    if (conn->frame.type == FRAME_PONG) link_conn_answered(conn, state.stamp);
    links_kick(conn->links);
    return OK;
}

static enum err hello_arrived(struct link_conn *conn)
{
    struct hello hello;
    TRY(hello_decode(conn->control, conn->frame.length, &hello));
    link_conn_hello(conn, &hello);
    return OK;
}

static void refusal_arrived(struct link_conn *conn)
{
    struct refusal refusal;
    char why[LINK_REASON_MAX + 40];
    struct text t;
    text_init(&t, why, sizeof why);
    bool said = refusal_decode(conn->control, conn->frame.length, &refusal) == OK;
    text_add(&t, "it refuses us: %s", said ? refusal.text : "no reason given");
    link_conn_cut(conn, why);
}

static void dead_arrived(struct link_conn *conn)
{
    struct wire_dead wire;
    memcpy(&wire, conn->control, sizeof wire);
    link_conn_dead(conn, get32(wire.path), get32(wire.session));
}

static enum err control_arrived(struct link_conn *conn)
{
    uint32_t bytes = conn->frame.length;
    conn->rx_state = RX_FRAME;
    conn->rx_have = 0;
    switch (conn->frame.type) {
    case FRAME_HELLO: return hello_arrived(conn);
    case FRAME_REFUSE: refusal_arrived(conn); return OK;
    case FRAME_PING:
    case FRAME_PONG:
    case FRAME_CREDIT: return state_arrived(conn);
    case FRAME_DEAD: dead_arrived(conn); return OK;
    case FRAME_SIGN: sign_arrived(conn, conn->control, bytes); return OK;
    case FRAME_SIGNED: signed_arrived(conn, conn->control, bytes); return OK;
    case FRAME_JOIN: return join_arrived(conn, conn->control, bytes);
    case FRAME_JOINED:
    case FRAME_MESSAGE:
    case FRAME_PART: break;
    }
    return ERR_DECODE;
}

/* ---- frames ---- */

/* What may come when: a stranger may ask to join, a node says HELLO first. */
static bool is_in_turn(const struct link_conn *conn, enum frame_type type)
{
    switch (conn->state) {
    case CONN_HELLO:
        if (tls_peer(conn->tls) == NULL) return type == FRAME_JOIN;
        return (type == FRAME_HELLO && !conn->agreed) || type == FRAME_REFUSE;
    case CONN_READY: return type != FRAME_HELLO && type != FRAME_JOIN && type != FRAME_JOINED;
    case CONN_CONNECTING:
    case CONN_HANDSHAKE:
    case CONN_JOINING:
    case CONN_LEAVING:
    case CONN_CLOSING: break;
    }
    return false;
}

static enum err frame_begins(struct link_conn *conn)
{
    TRY(frame_decode(&conn->rx_frame, sizeof conn->rx_frame, &conn->frame));
    if (conn->state == CONN_HELLO && conn->agreed && conn->frame.type != FRAME_REFUSE) link_conn_consent(conn);
    if (!is_in_turn(conn, conn->frame.type)) return ERR_ORDER;
    if (conn->frame.type == FRAME_MESSAGE) return message_begins(conn);
    if (conn->frame.type == FRAME_PART) return part_begins(conn);
    conn->rx_state = RX_CONTROL;
    conn->rx_have = 0;
    return conn->frame.length > 0 ? OK : control_arrived(conn);
}

/* Where the next bytes belong, and how many; 0: none, the header is complete already. */
static uint32_t place(struct link_conn *conn, uint8_t **ret_at)
{
    struct link_message *m = conn->message;
    switch (conn->rx_state) {
    case RX_FRAME: *ret_at = (uint8_t *)&conn->rx_frame + conn->rx_have; return sizeof conn->rx_frame - conn->rx_have;
    case RX_CONTROL: *ret_at = conn->control + conn->rx_have; return conn->frame.length - conn->rx_have;
    case RX_HEAD: *ret_at = m->head + m->have; return m->head_bytes - m->have;
    case RX_BODY: break;
    }
    uint32_t at = m->have - m->head_bytes;
    *ret_at = m->body[at / LINK_PIECE] + at % LINK_PIECE;
    return min32(conn->frame_left, LINK_PIECE - at % LINK_PIECE);
}

/* `bytes` came to where they belong. */
static enum err step(struct link_conn *conn, uint32_t bytes)
{
    switch (conn->rx_state) {
    case RX_FRAME: conn->rx_have += bytes; return conn->rx_have == sizeof conn->rx_frame ? frame_begins(conn) : OK;
    case RX_CONTROL: conn->rx_have += bytes; return conn->rx_have == conn->frame.length ? control_arrived(conn) : OK;
    case RX_HEAD:
        conn->message->have += bytes;
        if (conn->message->have == conn->message->head_bytes) body_next(conn);
        return OK;
    case RX_BODY:
        conn->message->have += bytes;
        conn->frame_left -= bytes;
        if (conn->frame_left == 0) frame_over(conn);
        return OK;
    }
    return ERR_DECODE;
}

enum err receive_all(struct link_conn *conn)
{
    while (conn->state != CONN_CLOSING && conn->state != CONN_LEAVING) {
        uint8_t *at;
        size_t bytes = 0;
        uint32_t room = place(conn, &at);
        conn->parked = false;
        enum err err = room > 0 ? tls_read(conn->tls, at, room, &bytes) : OK; /* no room: it was parked */
        if (err == OK) err = step(conn, (uint32_t)bytes);
        if (err == ERR_AGAIN) return OK;
        if (err != OK) return err;
    }
    return OK;
}
