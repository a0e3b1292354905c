/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What leaves, and in which order.
 *
 *     1. words of the connection itself: HELLO, PONG, PING, CREDIT, DEAD ... Each is a flag, so there is at most one of a kind
 *     2. messages of urgent streams, as far as their window goes
 *     3. bulk: in turns a new message, or the next part of one of the LINK_INTERLEAVED that are under way
 *
 * Small things collect in the stage and leave in one record; bodies are encrypted from where they lie. A message that the
 * window has no room for waits, and with it all behind it: so a large one is not starved by small ones.
 *
 * A stream is in one of these places: idle; in `ready` of its connection, with operations; in `active`, in the middle of its
 * first operation. A stream that is to move to a connection that came back (moving) leaves `ready` and waits until the peer has
 * received its last message.
 */
#include "cluster/link_internal.h"

enum { SMALL = 4096 }; /* what is shorter is copied to the stage */

/* ---- into the session ---- */

static enum err stage_flush(struct link_conn *conn)
{
    if (conn->staged == 0) return OK;
    uint32_t bytes = conn->staged;
    conn->staged = 0;
    return tls_write(conn->tls, conn->stage, bytes);
}

/* There is room for a full record besides what is staged: see has_room. */
static enum err put(struct link_conn *conn, const void *at, uint32_t bytes)
{
    if (bytes == 0) return OK;
    if (conn->staged + bytes > sizeof conn->stage) TRY(stage_flush(conn));
    memcpy(conn->stage + conn->staged, at, bytes);
    conn->staged += bytes;
    return OK;
}

static enum err put_frame(struct link_conn *conn, const struct frame *frame)
{
    struct wire_frame wire;
    frame_encode(frame, &wire);
    return put(conn, &wire, sizeof wire);
}

static enum err put_control(struct link_conn *conn, enum frame_type type, const void *at, uint32_t bytes)
{
    TRY(put_frame(conn, &(struct frame){.type = type, .length = bytes}));
    return put(conn, at, bytes);
}

/* ---- words of the connection ---- */

static enum err put_state(struct link_conn *conn, enum frame_type type, uint64_t stamp)
{
    struct link_state state;
    struct wire_state wire;
    receive_state(conn, &state);
    state.stamp = stamp;
    state_encode(&state, &wire);
    conn->say_credit = false;
    memcpy(conn->told_consumed, state.consumed, sizeof conn->told_consumed);
    return put_control(conn, type, &wire, sizeof wire);
}

static enum err put_hello(struct link_conn *conn)
{
    struct links *l = conn->links;
    struct wire_hello wire;
    struct hello hello = {
        .version_min = l->config.version_min,
        .version_max = l->config.version_max,
        .path = conn->path,
        .node = l->identity.node,
        .peer = tls_peer(conn->tls)->node,
        .session = conn->session,
        .cluster = l->identity.cluster,
        .features = l->config.features,
        .required = l->config.required,
        .holder = l->identity.ca_key.bytes > 0,
        .window = {l->config.window_bytes, URGENT_WINDOW},
        .heartbeat_ms = l->config.heartbeat_ms,
        .timeout_ms = l->config.timeout_ms,
    };
    memcpy(hello.boot, l->boot, sizeof hello.boot);
    hello_encode(&hello, &wire);
    return put_control(conn, FRAME_HELLO, &wire, sizeof wire);
}

static enum err put_refusal(struct link_conn *conn)
{
    uint8_t at[sizeof(struct wire_refuse) + LINK_REASON_MAX];
    uint32_t bytes = refusal_encode(conn->refusal, conn->refusal_text, at);
    return put_control(conn, FRAME_REFUSE, at, bytes);
}

static enum err put_dead(struct link_conn *conn)
{
    for (uint32_t i = 0; i < LINK_PATHS_MAX; i++) {
        struct wire_dead wire = {.path = put32(i), .session = put32(conn->link->paths[i].dead)};
        if (conn->link->paths[i].dead != 0) TRY(put_control(conn, FRAME_DEAD, &wire, sizeof wire));
    }
    return OK;
}

static enum err put_joined(struct link_conn *conn)
{
    uint8_t at[LINK_CONTROL_MAX];
    uint32_t bytes = join_answer_encode(&conn->join_answer, at);
    conn->state = CONN_LEAVING;
    return put_control(conn, FRAME_JOINED, at, bytes);
}

/* True when `*flag` was set; it is cleared. */
static bool due(bool *flag)
{
    bool was = *flag;
    *flag = false;
    return was;
}

static enum err put_words(struct link_conn *conn)
{
    struct links *l = conn->links;
    if (due(&conn->say_hello)) TRY(put_hello(conn));
    if (due(&conn->say_refuse)) return put_refusal(conn);
    if (due(&conn->say_joined)) TRY(put_joined(conn));
    if (conn->state != CONN_READY) return OK;
    if (due(&conn->say_dead)) TRY(put_dead(conn)); /* before anything that moved here from a dead one */
    if (due(&conn->say_pong)) TRY(put_state(conn, FRAME_PONG, conn->pong_stamp));
    if (due(&conn->say_ping)) TRY(put_state(conn, FRAME_PING, conn->pinged_ns));
    if (due(&conn->say_credit)) TRY(put_state(conn, FRAME_CREDIT, 0));
    if (due(&conn->say_sign) && l->renew_request.bytes > 0)
        TRY(put_control(conn, FRAME_SIGN, l->renew_request.at, l->renew_request.bytes));
    if (due(&conn->say_signed))
        TRY(put_control(conn, FRAME_SIGNED, conn->signed_certificate.at, conn->signed_certificate.bytes));
    return OK;
}

static bool has_words(const struct link_conn *conn)
{
    if (conn->say_hello || conn->say_refuse || conn->say_joined) return true;
    return conn->state == CONN_READY &&
           (conn->say_dead || conn->say_pong || conn->say_ping || conn->say_credit || conn->say_sign || conn->say_signed);
}

/* ---- streams and their places ---- */

static struct link_op *first_op(const struct link_stream *s)
{
    return CONTAINER(s->ops.next, struct link_op, link);
}

static uint64_t cost_of(const struct link_op *op)
{
    return LINK_COST_MIN + link_body_cost(op->body_bytes);
}

static int class_of(const struct link_stream *s)
{
    return s->urgent ? URGENT : BULK;
}

/* Where a stream would be if all connections were ready: the same for ever. */
static struct link_conn *preferred(const struct link_stream *s)
{
    struct link *link = s->link;
    struct link_conn *ready[LINK_PATHS_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < LINK_PATHS_MAX; i++) {
        struct link_conn *c = link->paths[i].conn;
        if (c != NULL && c->state == CONN_READY) ready[count++] = c;
    }
    return count > 0 ? ready[(s->id * 2654435761u >> 16) % count] : NULL;
}

static void attach(struct link_stream *s, struct link_conn *conn)
{
    assert(s->conn == NULL && conn->state == CONN_READY);
    s->conn = conn;
    s->last = 0;
    list_push(&conn->streams, &s->of_conn);
}

static void detach(struct link_stream *s)
{
    if (s->conn == NULL) return;
    assert(!s->started && !s->busy);
    if (s->moving) s->conn->moving_count--;
    s->moving = false;
    list_remove(&s->of_conn);
    s->conn = NULL;
}

static void make_ready(struct link_stream *s)
{
    if (s->busy || s->moving || list_empty(&s->ops)) return;
    s->busy = true;
    list_push(&s->conn->ready[class_of(s)], &s->ready);
    links_kick(s->link->links);
}

/* Messages are numbered when their last byte leaves, which is the order in which the peer counts them. */
static bool has_arrived(const struct link_stream *s)
{
    return !s->started && s->conn->peer_received >= s->last;
}

static void end_op(struct links *links, struct link_op *op, enum err err)
{
    op->err = err;
    list_push(&links->done, &op->link);
    links_kick(links);
}

static void go_on(struct link_stream *s)
{
    struct link_conn *to = s->conn == NULL ? preferred(s) : s->conn;
    if (list_empty(&s->ops)) return;
    if (to == NULL) {
        s->session++;
        while (!list_empty(&s->ops)) end_op(s->link->links, CONTAINER(list_pop(&s->ops), struct link_op, link), ERR_CLOSED);
        return;
    }
    if (s->conn == NULL) attach(s, to);
    make_ready(s);
}

/* Those who wait to move and whose messages have all arrived. */
static void move_on(struct link_conn *conn)
{
    for (struct list *l = conn->streams.next, *next; l != &conn->streams && conn->moving_count > 0; l = next) {
        struct link_stream *s = CONTAINER(l, struct link_stream, of_conn);
        next = l->next;
        if (!s->moving || s->busy || s->started || !has_arrived(s)) continue;
        detach(s);
        go_on(s);
    }
}

/* A connection is new: some streams belong there. */
static void want_move(struct link_conn *from)
{
    for (struct list *l = from->streams.next; l != &from->streams; l = l->next) {
        struct link_stream *s = CONTAINER(l, struct link_stream, of_conn);
        if (s->moving || preferred(s) == from) continue;
        s->moving = true;
        from->moving_count++;
        if (s->busy && !s->started) {
            list_remove(&s->ready);
            s->busy = false;
        }
    }
    if (from->moving_count > 0) from->say_ping = true; /* its answer says what has arrived */
    move_on(from);
}

void send_conn_ready(struct link_conn *conn)
{
    struct link *link = conn->link;
    conn->granted[BULK] = conn->peer.window[BULK];
    conn->granted[URGENT] = conn->peer.window[URGENT];
    for (uint32_t i = 0; i < LINK_PATHS_MAX; i++) {
        struct link_conn *other = link->paths[i].conn;
        conn->say_dead |= link->paths[i].dead != 0;
        if (other != NULL && other != conn && other->state == CONN_READY) want_move(other);
    }
    links_kick(link->links);
}

/* A new session, if anything of the old one may be lost. */
static void stream_lost(struct link_stream *s)
{
    struct links *links = s->link->links;
    bool any = !has_arrived(s) || !list_empty(&s->ops);
    if (s->busy) list_remove(&s->ready);
    if (s->moving) s->conn->moving_count--;
    s->busy = s->started = s->moving = false;
    list_remove(&s->of_conn);
    s->conn = NULL;
    if (!any) return;
    while (!list_empty(&s->ops)) end_op(links, CONTAINER(list_pop(&s->ops), struct link_op, link), ERR_CLOSED);
    s->session++;
    assert(s->session != 0);
    if (s->lost != NULL && !s->link->closed) s->lost(s);
}

void send_conn_lost(struct link_conn *conn)
{
    while (!list_empty(&conn->streams)) stream_lost(CONTAINER(conn->streams.next, struct link_stream, of_conn));
    conn->active_count = 0;
}

enum err send_credited(struct link_conn *conn, const struct link_state *state)
{
    for (int class = 0; class < CLASSES; class ++) {
        uint64_t granted = conn->peer.window[class] + state->consumed[class];
        if (state->consumed[class] > conn->sent_cost[class] || granted < conn->granted[class]) return ERR_DECODE;
        conn->granted[class] = granted;
    }
    if (state->received > conn->sent_messages || state->received < conn->peer_received) return ERR_DECODE;
    conn->peer_received = state->received;
    if (conn->moving_count > 0) move_on(conn);
    return OK;
}

/* ---- messages ---- */

/* The next stretch of a body, from where it lies. */
static enum err put_body(struct link_conn *conn, struct link_op *op, uint32_t bytes)
{
    while (bytes > 0) {
        const struct io_piece *p = &op->body[op->piece];
        uint32_t here = min32(bytes, (uint32_t)p->size - op->piece_at);
        here = min32(here, TLS_WRITE_MAX);
        const uint8_t *at = (const uint8_t *)p->at + op->piece_at;
        if (here >= SMALL) {
            TRY(stage_flush(conn));
            TRY(tls_write(conn->tls, at, here));
        } else {
            TRY(put(conn, at, here));
        }
        op->piece_at += here;
        op->sent += here;
        bytes -= here;
        if (op->piece_at < p->size) continue;
        op->piece++;
        op->piece_at = 0;
    }
    return OK;
}

/* Its operation is out: the next one, or rest. */
static void message_out(struct link_stream *s)
{
    struct link_conn *conn = s->conn;
    struct link_op *op = CONTAINER(list_pop(&s->ops), struct link_op, link);
    s->last = ++conn->sent_messages;
    conn->links->stats.messages_out++;
    conn->links->stats.bytes_out += op->head_bytes + op->body_bytes;
    end_op(conn->links, op, OK);
    if (s->moving) {
        conn->say_ping = true;
        return;
    }
    make_ready(s);
}

static bool fits(const struct link_conn *conn, int class)
{
    if (list_empty(&conn->ready[class])) return false;
    const struct link_stream *s = CONTAINER(conn->ready[class].next, struct link_stream, ready);
    return conn->sent_cost[class] + cost_of(first_op(s)) <= conn->granted[class];
}

static enum err put_first(struct link_conn *conn, int class)
{
    struct link_stream *s = CONTAINER(list_pop(&conn->ready[class]), struct link_stream, ready);
    struct link_op *op = first_op(s);
    uint32_t part = min32(op->body_bytes, LINK_PART_MAX);
    struct frame frame = {.type = FRAME_MESSAGE,
                          .urgent = s->urgent,
                          .kind = op->kind,
                          .length = op->head_bytes + part,
                          .stream = s->id,
                          .session = s->session,
                          .head_bytes = op->head_bytes,
                          .body_bytes = op->body_bytes};
    s->busy = false;
    conn->sent_cost[class] += cost_of(op);
    TRY(put_frame(conn, &frame));
    TRY(put(conn, op->head, op->head_bytes));
    TRY(put_body(conn, op, part));
    if (op->sent == op->body_bytes) {
        message_out(s);
        return OK;
    }
    s->busy = s->started = true;
    conn->active_count++;
    list_push(&conn->active, &s->ready);
    return OK;
}

static enum err put_part(struct link_conn *conn)
{
    struct link_stream *s = CONTAINER(list_pop(&conn->active), struct link_stream, ready);
    struct link_op *op = first_op(s);
    uint32_t part = min32(op->body_bytes - op->sent, LINK_PART_MAX);
    TRY(put_frame(conn, &(struct frame){.type = FRAME_PART, .length = part, .stream = s->id, .session = s->session}));
    TRY(put_body(conn, op, part));
    if (op->sent < op->body_bytes) {
        list_push(&conn->active, &s->ready);
        return OK;
    }
    conn->active_count--;
    s->busy = s->started = false;
    message_out(s);
    return OK;
}

static bool can_begin(const struct link_conn *conn)
{
    return conn->active_count < LINK_INTERLEAVED && fits(conn, BULK);
}

/* One step; ERR_AGAIN: there is nothing to send. */
static enum err put_next(struct link_conn *conn)
{
    if (has_words(conn)) return put_words(conn);
    if (conn->state != CONN_READY) return ERR_AGAIN;
    if (fits(conn, URGENT)) return put_first(conn, URGENT);
    bool begin = can_begin(conn), active = conn->active_count > 0;
    if (!begin && !active) return ERR_AGAIN;
    if (begin && active) conn->turn = !conn->turn;
    return begin && (!active || conn->turn) ? put_first(conn, BULK) : put_part(conn);
}

bool send_is_pending(const struct link_conn *conn)
{
    return has_words(conn) || (conn->state == CONN_READY && (fits(conn, URGENT) || can_begin(conn) || conn->active_count > 0));
}

/* Room for the largest step: what is staged, all words or a head, a part, and what records add to many small pieces. */
static bool has_room(const struct link_conn *conn)
{
    return tls_wire_left(conn->tls) >= LINK_PART_MAX + 3 * TLS_WRITE_MAX;
}

enum err send_fill(struct link_conn *conn)
{
    enum err err = OK;
    while (err == OK && has_room(conn)) err = put_next(conn);
    if (err != OK && err != ERR_AGAIN) return err;
    return stage_flush(conn);
}

/* ---- from outside ---- */

void link_stream_init(struct link *link, struct link_stream *stream, uint32_t id, bool urgent,
                      void (*lost)(struct link_stream *stream))
{
    *stream = (struct link_stream){.id = id, .session = 1, .lost = lost, .link = link, .urgent = urgent};
    list_init(&stream->of_conn);
    list_init(&stream->ready);
    list_init(&stream->ops);
    link->streams++;
}

void link_stream_done(struct link_stream *stream)
{
    assert(list_empty(&stream->ops) && !stream->busy);
    detach(stream);
    stream->link->streams--;
}

void link_send(struct link_stream *stream, uint16_t kind, const void *head, uint32_t head_bytes, const struct io_piece *body,
               uint32_t pieces, struct link_op *op)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < pieces; i++) bytes += body[i].size;
    assert(io_is_current(stream->link->links->io) && !stream->link->closed);
    assert(head_bytes <= LINK_HEAD_MAX && bytes <= LINK_BODY_MAX && pieces <= IO_PIECES_MAX && head_bytes + bytes > 0);
    assert(!stream->urgent || (bytes == 0 && pieces == 0));
    op->err = OK;
    op->session = stream->session;
    op->stream = stream;
    op->kind = kind;
    op->head = head;
    op->body = body;
    op->head_bytes = head_bytes;
    op->body_bytes = (uint32_t)bytes;
    op->sent = op->piece = op->piece_at = 0;
    bool idle = list_empty(&stream->ops);
    list_push(&stream->ops, &op->link);
    struct link_conn *conn = stream->conn;
    if (conn != NULL && idle && !stream->busy && !stream->moving && has_arrived(stream) && preferred(stream) != conn)
        detach(stream);
    go_on(stream);
}
