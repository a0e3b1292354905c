/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes out. Whoever has something to send stands in the connection's queue; each transmit gathers up to TX_PDUS PDUs of
 * those in turn, data straight from the tasks' memory. Sequence numbers are given here, in the order in which PDUs leave.
 */
#include "base/hash.h"
#include "iscsi/internal.h"

enum { PIECES_A_PDU = TX_SEGMENT / SCSI_PIECE + 2 + 2, TX_BYTES_MAX = 1 << 20 };

/* ---- answers ---- */

bool out_has_room(const struct iscsi_conn *conn)
{
    return conn->free_count > conn->tmf_count;
}

struct iscsi_out *out_take(struct iscsi_conn *conn, enum pdu_opcode opcode, uint8_t flags, uint32_t itt)
{
    struct list *l = out_has_room(conn) ? list_pop(&conn->free_outs) : NULL;
    if (l == NULL) return NULL;
    conn->free_count--;
    struct iscsi_out *out = CONTAINER(l, struct iscsi_out, sender.link);
    out->pdu = (struct pdu_out){.opcode = opcode, .flags = flags, .itt = itt};
    out->counts = true;
    out->last = out->full_feature_after = false;
    out->bytes = 0;
    assert(out->echo.bytes == 0);
    return out;
}

void echo_over(struct iscsi_conn *conn, struct echo *echo)
{
    if (echo->bytes == 0) return;
    target_echo_back(conn->target, echo);
    target_memory_retry(conn->target);
}

void out_give(struct iscsi_conn *conn, struct iscsi_out *out)
{
    echo_over(conn, &out->echo);
    list_push(&conn->free_outs, &out->sender.link);
    conn->free_count++;
}

struct iscsi_out *out_take_unasked(struct iscsi_conn *conn, enum pdu_opcode opcode)
{
    return conn->free_count > conn->tmf_count + 1 ? out_take(conn, opcode, PDU_FINAL, PDU_NO_TAG) : NULL;
}

void out_send(struct iscsi_conn *conn, struct iscsi_out *out)
{
    send_queue(conn, &out->sender);
}

void send_queue(struct iscsi_conn *conn, struct sender *sender)
{
    list_push(&conn->senders, &sender->link);
    send_start(conn);
}

/* ---- PDUs ---- */

/* MaxCmdSN never goes back (RFC 7143 4.2.2.1). */
void send_window(struct iscsi_conn *conn, struct pdu_out *pdu)
{
    uint32_t window = conn->target->config.window;
    uint32_t open = conn->busy_window < window ? window - conn->busy_window : 0;
    uint32_t max = conn->exp_cmd_sn + open - 1;
    if (sn_before(conn->max_cmd_sn, max)) conn->max_cmd_sn = max;
    pdu->w[1] = conn->exp_cmd_sn;
    pdu->w[2] = conn->max_cmd_sn;
}

/* An answer still counts its own task, so the last one of a small window closes it. Nothing that is on its way to the initiator
 * may know better; a NOP-In that asks for no answer does (RFC 7143 11.19). */
void send_window_open(struct iscsi_conn *conn)
{
    bool closed = sn_before(conn->max_cmd_sn, conn->exp_cmd_sn), open = conn->busy_window < conn->target->config.window;
    if (conn->state != CONN_FULL || !closed || !open || !list_empty(&conn->senders)) return;
    struct iscsi_out *out = out_take_unasked(conn, PDU_NOP_IN);
    if (out == NULL) return; /* then one of them lands, and asks again */
    out->counts = false;
    out->pdu.ttt = PDU_NO_TAG;
    out_send(conn, out);
}

bool send_has_room(const struct iscsi_conn *conn)
{
    return conn->tx_count < TX_PDUS && conn->piece_count + PIECES_A_PDU <= IO_PIECES_MAX && conn->tx_bytes < TX_BYTES_MAX;
}

static void piece_add(struct iscsi_conn *conn, const void *at, uint32_t size)
{
    conn->pieces[conn->piece_count++] = (struct io_piece){at, size};
    conn->tx_bytes += size;
}

static void header_add(struct iscsi_conn *conn, const struct pdu_out *pdu)
{
    uint8_t *h = conn->tx_header[conn->tx_count];
    uint32_t size = PDU_HEADER;
    pdu_encode(pdu, h);
    if (conn->digests_on && conn->limits.header_digest) {
        le32 crc = put32(crc32c(0, h, PDU_HEADER));
        memcpy(h + PDU_HEADER, crc.b, PDU_DIGEST);
        size += PDU_DIGEST;
    }
    piece_add(conn, h, size);
}

/* Padding, and the digest over data and padding. */
static void tail_add(struct iscsi_conn *conn, uint32_t bytes, uint32_t crc)
{
    uint8_t *tail = conn->tx_tail[conn->tx_count];
    uint32_t pad = pdu_padded(bytes) - bytes, size = pad;
    memset(tail, 0, pad);
    if (conn->digests_on && conn->limits.data_digest) {
        le32 digest = put32(crc32c(crc, tail, pad));
        memcpy(tail + pad, digest.b, PDU_DIGEST);
        size += PDU_DIGEST;
    }
    if (size > 0) piece_add(conn, tail, size);
}

static uint32_t data_crc(const struct iscsi_conn *conn, uint32_t crc, const uint8_t *at, uint32_t bytes)
{
    return conn->digests_on && conn->limits.data_digest ? crc32c(crc, at, bytes) : 0;
}

bool send_pdu(struct iscsi_conn *conn, const struct pdu_out *pdu, const uint8_t *data, uint32_t bytes)
{
    if (!send_has_room(conn)) return false;
    header_add(conn, pdu);
    if (bytes > 0) {
        piece_add(conn, data, bytes);
        tail_add(conn, bytes, data_crc(conn, 0, data, bytes));
    }
    conn->tx_count++;
    return true;
}

bool send_task_data(struct iscsi_conn *conn, const struct pdu_out *pdu, const struct scsi_data *data, uint32_t at)
{
    uint32_t crc = 0, left = pdu->data_bytes;
    if (!send_has_room(conn)) return false;
    header_add(conn, pdu);
    while (left > 0) {
        const uint8_t *from = scsi_data_at(data, at);
        uint32_t bytes = min32(left, SCSI_PIECE - (data->lead + at) % SCSI_PIECE);
        piece_add(conn, from, bytes);
        crc = data_crc(conn, crc, from, bytes);
        at += bytes;
        left -= bytes;
    }
    tail_add(conn, pdu->data_bytes, crc);
    conn->tx_count++;
    return true;
}

static void send_echo(struct iscsi_conn *conn, const struct pdu_out *pdu, const struct echo *echo)
{
    uint32_t crc = 0;
    assert(send_has_room(conn));
    header_add(conn, pdu);
    for (uint32_t at = 0; at < echo->bytes; at += SCSI_PIECE) {
        const uint8_t *from = echo->piece[at / SCSI_PIECE];
        uint32_t bytes = min32(SCSI_PIECE, echo->bytes - at);
        piece_add(conn, from, bytes);
        crc = data_crc(conn, crc, from, bytes);
    }
    tail_add(conn, echo->bytes, crc);
    conn->tx_count++;
}

/* ---- transmitting ---- */

static void out_fill(struct iscsi_conn *conn, struct iscsi_out *out)
{
    out->pdu.data_bytes = out->bytes;
    out->pdu.w[0] = conn->stat_sn;
    if (out->counts) conn->stat_sn++;
    send_window(conn, &out->pdu);
    if (out->echo.bytes > 0)
        send_echo(conn, &out->pdu, &out->echo);
    else
        send_pdu(conn, &out->pdu, out->data, out->bytes);
}

static void gather(struct iscsi_conn *conn)
{
    conn->piece_count = conn->tx_count = conn->tx_bytes = 0;
    while (send_has_room(conn)) {
        struct list *l = list_pop(&conn->senders);
        if (l == NULL) return;
        struct sender *s = CONTAINER(l, struct sender, link);
        bool more = false;
        if (s->kind == SENDER_OUT) {
            struct iscsi_out *out = CONTAINER(s, struct iscsi_out, sender);
            out_fill(conn, out);
            list_push(&conn->flying, l);
            if (out->last || out->full_feature_after) return; /* nothing may leave together with it */
            continue;
        }
        struct iscsi_task *task = CONTAINER(s, struct iscsi_task, sender);
        more = task_fill(task);
        if (more)
            list_push(&conn->senders, l); /* the others have their turn */
        else if (task->state == TASK_SEND)
            list_push(&conn->flying, l); /* all of it is on its way */
        else
            task->queued = false; /* its R2Ts are */
    }
}

static void land(struct iscsi_conn *conn)
{
    struct list landed;
    list_init(&landed);
    for (struct list *l; (l = list_pop(&conn->flying));) list_push(&landed, l);
    for (struct list *l; (l = list_pop(&landed));) {
        struct sender *s = CONTAINER(l, struct sender, link);
        if (s->kind == SENDER_TASK) {
            task_sent(CONTAINER(s, struct iscsi_task, sender));
            continue;
        }
        struct iscsi_out *out = CONTAINER(s, struct iscsi_out, sender);
        out_give(conn, out);
        if (out->full_feature_after && conn->state == CONN_LOGIN) {
            conn->state = CONN_FULL;
            conn->target->login_count--;
        }
        if (out->full_feature_after) {
            conn->digests_on = true;
            conn->rx_stopped = false;
        }
        if (out->last) conn_cut(conn);
    }
}

static void transmitted(struct io_net *op)
{
    struct iscsi_conn *conn = CONTAINER(op, struct iscsi_conn, tx_op);
    conn->tx_busy = false;
    if (op->err != OK) conn_cut(conn);
    land(conn);
    if (conn->state == CONN_CLOSING) {
        conn_drop_tasks(conn); /* those whose memory was on its way out */
        conn_check_end(conn);
        return;
    }
    send_window_open(conn);
    send_start(conn);
    if (conn->rx_parked) conn_receive(conn);
}

void send_start(struct iscsi_conn *conn)
{
    if (conn->tx_busy || conn->state == CONN_CLOSING || list_empty(&conn->senders)) return;
    conn->tx_busy = true; /* before gathering: a task may queue itself meanwhile */
    gather(conn);
    if (conn->piece_count == 0) {
        conn->tx_busy = false;
        return;
    }
    conn->tx_since_ns = io_now_ns(conn->target->io);
    conn->tx_op.done = transmitted;
    io_transmit(conn->socket, conn->pieces, conn->piece_count, &conn->tx_op);
}
