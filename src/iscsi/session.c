/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Full feature phase: the command window, and where each PDU goes.
 *
 * The window (RFC 7143 4.2.2.1): CmdSN counts commands that are not immediate. On one connection they come in order, so what is
 * not the next one is either outside of the window or has a hole before it that a digest error made; both are ignored, and the
 * initiator recovers. MaxCmdSN never promises more than there are tasks.
 */
#include <string.h>

#include "iscsi/internal.h"

static_assert((int)ISCSI_LUNS_MAX == (int)SCSI_LUNS_MAX, "what the rules tell fits into a nexus");

/* A command that was taken for a unit which is gone must not reach it when its data comes: the session ends with it, while it
 * still has that unit, so that what is under way there is told, too. */
static bool loses_a_task(const struct iscsi_conn *conn, const struct scsi_lun *luns, uint32_t count)
{
    for (uint32_t i = 0; i < conn->task_count; i++) {
        const struct iscsi_task *task = &conn->tasks[i];
        bool there = task->state == TASK_FREE || task->command.unit == NULL;
        for (uint32_t k = 0; k < count && !there; k++) there = luns[k].unit == task->command.unit;
        if (!there) return true;
    }
    return false;
}

void session_map(struct iscsi_conn *conn)
{
    const struct iscsi_rules *rules = &conn->target->config.rules;
    struct iscsi_lun wanted[ISCSI_LUNS_MAX];
    struct scsi_lun luns[SCSI_LUNS_MAX];
    uint32_t count = rules->luns(rules->arg, conn->initiator, wanted);
    assert(count <= ISCSI_LUNS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        luns[i] = (struct scsi_lun){.unit = wanted[i].unit, .lun = wanted[i].lun, .read_only = wanted[i].read_only};
    }
    if (loses_a_task(conn, luns, count))
        conn_cut(conn);
    else
        scsi_nexus_map(&conn->nexus, luns, count);
}

bool session_begin(struct iscsi_conn *conn)
{
    struct iscsi_target *target = conn->target;
    if (conn->discovery) return true;
    conn->tasks = mem_alloc(target->mem, (target->config.window + SPARE_TASKS) * sizeof *conn->tasks);
    if (conn->tasks == NULL) return false;
    conn->task_count = target->config.window + SPARE_TASKS;
    for (uint32_t i = 0; i < conn->task_count; i++) conn->tasks[i].conn = conn;
    session_map(conn);
    return true;
}

void reject(struct iscsi_conn *conn, enum reject_reason reason)
{
    struct iscsi_out *out = out_take(conn, PDU_REJECT, PDU_FINAL, PDU_NO_TAG);
    conn->target->stats.protocol_errors++;
    if (out == NULL) {
        conn_cut(conn);
        return;
    }
    out->pdu.b2 = (uint8_t)reason;
    memcpy(out->data, conn->header, PDU_HEADER);
    out->bytes = PDU_HEADER;
    out_send(conn, out);
}

bool session_takes(struct iscsi_conn *conn, const struct pdu *pdu)
{
    if (pdu->immediate) return true;
    if (pdu->cmd_sn != conn->exp_cmd_sn || sn_before(conn->max_cmd_sn, pdu->cmd_sn)) return false;
    conn->exp_cmd_sn++;
    return true;
}

/* A ping comes back up to what the initiator takes (RFC 7143 11.19.2). Where there is no memory for that now, what fits into an
 * answer does: a ping that waited would hold up what gives memory back. */
static void ping_room(struct iscsi_conn *conn)
{
    uint32_t bytes = min32(min32(conn->pdu.data_bytes, conn->limits.max_transmit), ECHO_MAX);
    bool small = bytes <= OUT_BYTES && bytes <= conn->rx_room;
    if (!small && conn->pdu.itt != PDU_NO_TAG) target_echo(conn->target, &conn->rx_echo, bytes);
}

static void text_room(struct iscsi_conn *conn)
{
    conn->rx_buf = conn->text + conn->text_bytes;
    conn->rx_room = TEXT_BYTES - conn->text_bytes;
}

void session_header(struct iscsi_conn *conn)
{
    const struct pdu *p = &conn->pdu;
    if (conn->state == CONN_LOGIN) {
        if (p->opcode == PDU_LOGIN)
            text_room(conn);
        else
            conn_protocol_error(conn);
        return;
    }
    if (p->opcode == PDU_COMMAND)
        task_begin(conn);
    else if (p->opcode == PDU_DATA_OUT)
        task_data_header(conn);
    else if (p->opcode == PDU_TEXT || p->opcode == PDU_NOP_OUT) /* a ping between two parts of a text lies behind them */
        text_room(conn);
    else if (p->opcode == PDU_LOGIN)
        conn_protocol_error(conn);
    if (p->opcode == PDU_NOP_OUT) ping_room(conn);
}

static bool is_numbered(enum pdu_opcode opcode)
{
    return opcode == PDU_MANAGE || opcode == PDU_TEXT || opcode == PDU_LOGOUT || opcode == PDU_NOP_OUT;
}

void session_pdu(struct iscsi_conn *conn)
{
    const struct pdu *p = &conn->pdu;
    if (conn->state == CONN_LOGIN) {
        login_pdu(conn);
        return;
    }
    if (is_numbered(p->opcode) && !session_takes(conn, p)) return;
    switch (p->opcode) {
    case PDU_COMMAND: task_command_data(conn); break;
    case PDU_DATA_OUT: task_data(conn); break;
    case PDU_MANAGE: manage_task(conn); break;
    case PDU_TEXT: manage_text(conn); break;
    case PDU_NOP_OUT: manage_nop(conn); break;
    case PDU_LOGOUT: manage_logout(conn); break;
    case PDU_SNACK: reject(conn, REJECT_UNSUPPORTED); break; /* ERL 0 */
    case PDU_LOGIN: reject(conn, REJECT_PROTOCOL); break;    /* its header came before the login was over */
    case PDU_NOP_IN:
    case PDU_RESPONSE:
    case PDU_MANAGE_RESPONSE:
    case PDU_LOGIN_RESPONSE:
    case PDU_TEXT_RESPONSE:
    case PDU_DATA_IN:
    case PDU_LOGOUT_RESPONSE:
    case PDU_R2T:
    case PDU_ASYNC:
    case PDU_REJECT: assert(false); /* only targets send these: pdu_decode refuses them */
    }
}
