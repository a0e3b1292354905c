/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection: bytes in and digests, its clock, its end.
 *
 * One receive is under way at a time. Headers, and data that comes along with them, go through a small buffer; the rest of
 * a large data segment is received right where it belongs, in the task's memory. A PDU is handed up twice: when its header is
 * complete (where does its data go?) and when all of it is there.
 */
#include <string.h>

#include "base/hash.h"
#include "iscsi/internal.h"

enum { DIRECT_MIN = 4096, SINK_BYTES = RX_BYTES };
#define DATA_OUT_NS (60000 * IO_MS_NS) /* for an initiator to send the data that it was asked for */

/* ---- the end ---- */

static void conn_free(struct io_msg *msg)
{
    struct iscsi_conn *conn = CONTAINER(msg, struct iscsi_conn, reap);
    struct iscsi_target *target = conn->target;
    io_socket_close(conn->socket);
    target_echo_back(target, &conn->rx_echo);
    for (int i = 0; i < OUTS; i++) target_echo_back(target, &conn->outs[i].echo);
    target_memory_retry(target);
    scsi_nexus_done(&conn->nexus);
    list_remove(&conn->link);
    mem_free(target->mem, conn->tasks);
    target_conn_gone(target);
    mem_free(target->mem, conn);
}

void conn_check_end(struct iscsi_conn *conn)
{
    if (conn->state != CONN_CLOSING || conn->rx_busy || conn->tx_busy || conn->busy > 0 || conn->tmf_count > 0 || conn->reaping)
        return;
    conn->reaping = true;
    conn->reap.handle = conn_free;
    io_send(conn->target->io, &conn->reap);
}

void conn_drop_tasks(struct iscsi_conn *conn)
{
    for (uint32_t i = 0; i < conn->task_count; i++)
        if (conn->tasks[i].state != TASK_FREE) scsi_doom(&conn->tasks[i].command);
    for (uint32_t i = 0; i < conn->task_count; i++)
        if (conn->tasks[i].state != TASK_FREE) task_drop(&conn->tasks[i]);
}

void conn_cut(struct iscsi_conn *conn)
{
    if (conn->state == CONN_CLOSING) return;
    if (conn->state == CONN_LOGIN) conn->target->login_count--;
    conn->state = CONN_CLOSING;
    io_cancel(conn->target->io, &conn->timer);
    io_socket_abort(conn->socket);
    conn_drop_tasks(conn);
    scsi_nexus_lost(&conn->nexus);
    conn_check_end(conn);
}

void conn_protocol_error(struct iscsi_conn *conn)
{
    conn->target->stats.protocol_errors++;
    conn_cut(conn);
}

/* ---- the clock ---- */

/* Four looks within the time of silence after which the initiator is asked, and at least one a second. */
static uint64_t tick_ns(const struct iscsi_target *target)
{
    return min32(target->config.nop_interval_ms, 4000) * IO_MS_NS / 4;
}

static bool data_is_late(const struct iscsi_conn *conn, uint64_t now)
{
    for (uint32_t i = 0; i < conn->task_count; i++) {
        const struct iscsi_task *t = &conn->tasks[i];
        if (t->state == TASK_DATA && now - t->since_ns > DATA_OUT_NS) return true;
    }
    return false;
}

static void tick(struct io_timer *timer)
{
    struct iscsi_conn *conn = CONTAINER(timer, struct iscsi_conn, timer);
    const struct iscsi_target_config *c = &conn->target->config;
    uint64_t now = io_now_ns(conn->target->io), quiet = now - conn->heard_ns;
    uint64_t patience = (c->nop_interval_ms + (uint64_t)c->nop_timeout_ms) * IO_MS_NS;
    bool late = conn->tx_busy && now - conn->tx_since_ns > patience; /* it does not take what we send */
    if (conn->state == CONN_LOGIN) late |= now - conn->since_ns > c->login_timeout_ms * IO_MS_NS;
    if (conn->state != CONN_LOGIN) late |= quiet > patience || data_is_late(conn, now);
    if (late) {
        conn->target->stats.timeouts++;
        conn_cut(conn);
        return;
    }
    bool pinged = conn->ping_ns > conn->heard_ns;
    if (conn->state == CONN_FULL && quiet > c->nop_interval_ms * IO_MS_NS && !pinged) manage_ping(conn);
    io_after(conn->target->io, tick_ns(conn->target), &conn->timer);
}

/* ---- in ---- */

static bool digests_header(const struct iscsi_conn *conn)
{
    return conn->digests_on && conn->limits.header_digest;
}

static bool digests_data(const struct iscsi_conn *conn)
{
    return conn->digests_on && conn->limits.data_digest && conn->pdu.data_bytes > 0;
}

static uint32_t have(const struct iscsi_conn *conn)
{
    return conn->rx_to - conn->rx_from;
}

static void digest_failed(struct iscsi_conn *conn)
{
    conn->target->stats.digest_errors++;
    conn_cut(conn); /* ERL 0: the session starts again (RFC 7143 7.8) */
}

/* False: more bytes are needed, or it is over. */
static bool take_header(struct iscsi_conn *conn)
{
    if (have(conn) < PDU_HEADER) return false;
    const uint8_t *h = conn->rx + conn->rx_from;
    uint32_t ahs = 4u * h[4], size = PDU_HEADER + ahs + (digests_header(conn) ? PDU_DIGEST : 0);
    if (have(conn) < size) return false;
    if (digests_header(conn)) {
        le32 sent;
        memcpy(sent.b, h + PDU_HEADER + ahs, PDU_DIGEST);
        if (get32(sent) != crc32c(0, h, PDU_HEADER + ahs)) {
            digest_failed(conn);
            return false;
        }
    }
    memcpy(conn->header, h, PDU_HEADER);
    conn->rx_from += size;
    uint32_t most = conn->state == CONN_LOGIN ? TEXT_BYTES : conn->limits.max_receive;
    if (pdu_decode(h, &conn->pdu) != OK || conn->pdu.data_bytes > most || (ahs > 0 && conn->pdu.opcode != PDU_COMMAND)) {
        conn_protocol_error(conn);
        return false;
    }
    conn->data_at = conn->crc = 0;
    conn->rx_task = NULL;
    conn->rx_buf = NULL;
    conn->rx_room = 0;
    session_header(conn);
    conn->rx_state = RX_DATA;
    return conn->state != CONN_CLOSING;
}

/* Where the data segment goes on, and how much of it; NULL: nowhere. */
static uint8_t *data_place(struct iscsi_conn *conn, uint32_t *ret_bytes)
{
    uint32_t left = conn->pdu.data_bytes - conn->data_at;
    *ret_bytes = left;
    if (conn->rx_task != NULL && conn->rx_task->has_memory) {
        struct iscsi_task *task = conn->rx_task;
        uint32_t at = conn->rx_offset + conn->data_at;
        if (at >= task->want) return NULL;
        uint32_t place = task->command.lead + at;
        *ret_bytes = min32(min32(left, task->want - at), SCSI_PIECE - place % SCSI_PIECE);
        return task->command.data.piece[place / SCSI_PIECE] + place % SCSI_PIECE;
    }
    if (conn->rx_echo.bytes > 0) {
        if (conn->data_at >= conn->rx_echo.bytes) return NULL;
        *ret_bytes = min32(min32(left, conn->rx_echo.bytes - conn->data_at), SCSI_PIECE - conn->data_at % SCSI_PIECE);
        return conn->rx_echo.piece[conn->data_at / SCSI_PIECE] + conn->data_at % SCSI_PIECE;
    }
    if (conn->rx_buf == NULL || conn->data_at >= conn->rx_room) return NULL;
    *ret_bytes = min32(left, conn->rx_room - conn->data_at);
    return conn->rx_buf + conn->data_at;
}

static void data_moved(struct iscsi_conn *conn, const uint8_t *at, uint32_t bytes)
{
    if (digests_data(conn)) conn->crc = crc32c(conn->crc, at, bytes);
    conn->data_at += bytes;
}

/* From the buffer to its place. False: the buffer is empty. */
static bool take_data(struct iscsi_conn *conn)
{
    while (conn->data_at < conn->pdu.data_bytes) {
        uint32_t bytes;
        if (have(conn) == 0) return false;
        uint8_t *to = data_place(conn, &bytes);
        bytes = min32(bytes, have(conn));
        if (to != NULL) memcpy(to, conn->rx + conn->rx_from, bytes);
        data_moved(conn, conn->rx + conn->rx_from, bytes);
        conn->rx_from += bytes;
    }
    conn->rx_state = RX_TAIL;
    return true;
}

static bool take_tail(struct iscsi_conn *conn)
{
    uint32_t pad = pdu_padded(conn->pdu.data_bytes) - conn->pdu.data_bytes;
    uint32_t size = pad + (digests_data(conn) ? PDU_DIGEST : 0);
    if (have(conn) < size) return false;
    const uint8_t *at = conn->rx + conn->rx_from;
    conn->rx_from += size;
    conn->rx_state = RX_HEADER;
    if (digests_data(conn)) {
        le32 sent;
        memcpy(sent.b, at + pad, PDU_DIGEST);
        if (get32(sent) != crc32c(conn->crc, at, pad)) {
            digest_failed(conn);
            return false;
        }
    }
    session_pdu(conn);
    conn->rx_task = NULL;
    echo_over(conn, &conn->rx_echo);
    return conn->state != CONN_CLOSING;
}

static bool rx_step(struct iscsi_conn *conn)
{
    switch (conn->rx_state) {
    case RX_HEADER:
        /* Whatever comes may need an answer: without room for one it has to wait, and so does the initiator. */
        conn->rx_parked = !out_has_room(conn) || conn->rx_stopped;
        return !conn->rx_parked && take_header(conn);
    case RX_DATA: return take_data(conn);
    case RX_TAIL: return take_tail(conn);
    }
    return false;
}

static void received(struct io_net *op);

/* Small buffer, or straight to where a long data segment belongs. */
static void receive_more(struct iscsi_conn *conn)
{
    uint32_t bytes, left = conn->pdu.data_bytes - conn->data_at;
    conn->rx_busy = true;
    conn->rx_op.done = received;
    if (conn->rx_state == RX_DATA && have(conn) == 0 && left >= DIRECT_MIN) {
        uint8_t *to = data_place(conn, &bytes);
        if (to != NULL && bytes >= DIRECT_MIN) {
            io_receive(conn->socket, to, bytes, &conn->rx_op);
            return;
        }
    }
    memmove(conn->rx, conn->rx + conn->rx_from, have(conn));
    conn->rx_to -= conn->rx_from;
    conn->rx_from = 0;
    io_receive(conn->socket, conn->rx + conn->rx_to, RX_BYTES - conn->rx_to, &conn->rx_op);
}

static void received(struct io_net *op)
{
    struct iscsi_conn *conn = CONTAINER(op, struct iscsi_conn, rx_op);
    conn->rx_busy = false;
    if (op->err != OK) conn_cut(conn);
    if (conn->state == CONN_CLOSING) {
        if (conn->rx_task != NULL && conn->rx_task->state != TASK_FREE) task_drop(conn->rx_task);
        conn_check_end(conn);
        return;
    }
    conn->heard_ns = io_now_ns(conn->target->io);
    if (op->buf != conn->rx + conn->rx_to)
        data_moved(conn, op->buf, op->bytes);
    else
        conn->rx_to += op->bytes;
    conn_receive(conn);
}

void conn_receive(struct iscsi_conn *conn)
{
    if (conn->rx_busy || conn->state == CONN_CLOSING) return;
    while (rx_step(conn)) continue;
    if (conn->state != CONN_CLOSING && !conn->rx_parked) receive_more(conn);
}

/* ---- the beginning ---- */

struct iscsi_conn *conn_open(struct iscsi_target *target, struct io_socket *socket, uint32_t portal)
{
    struct iscsi_conn *conn = mem_alloc(target->mem, sizeof *conn);
    if (conn == NULL) return NULL;
    conn->target = target;
    conn->socket = socket;
    conn->portal = portal;
    conn->id = target->next_id++;
    conn->since_ns = conn->heard_ns = io_now_ns(target->io);
    list_init(&conn->senders);
    list_init(&conn->flying);
    list_init(&conn->free_outs);
    for (int i = 0; i < OUTS; i++) out_give(conn, &conn->outs[i]);
    scsi_nexus_init(&conn->nexus);
    conn->nexus.session = conn->id;
    conn->nexus.port_name = target->port_name;
    conn->nexus.port_group = target->config.portal_group;
    conn->nexus.port_id = conn->nexus.port_group; /* all portals of a group are one port (RFC 7143 3.4) */
    conn->timer.fire = tick;
    list_push(&target->conns, &conn->link);
    io_after(target->io, tick_ns(target), &conn->timer);
    conn_receive(conn);
    return conn;
}
