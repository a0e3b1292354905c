/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is no SCSI command: task management, NOP, text, logout, asynchronous messages.
 *
 * A task management function is answered when the tasks that it ended can change nothing any more (RFC 7143 11.5.1): those with
 * the SCSI layer are waited for. A task that is unknown has ended already, or will never begin: both is "complete" for an
 * initiator that only wants it gone (hypervisors take "task does not exist" for a broken target) if its CmdSN lies in the past.
 */
#include <string.h>

#include "iscsi/internal.h"
#include "store/mutation.h"

enum function {
    TMF_ABORT_TASK = 1,
    TMF_ABORT_TASK_SET = 2,
    TMF_CLEAR_ACA = 3,
    TMF_CLEAR_TASK_SET = 4,
    TMF_LUN_RESET = 5,
    TMF_WARM_RESET = 6,
    TMF_COLD_RESET = 7,
    TMF_REASSIGN = 8,
};
enum response {
    TMF_COMPLETE = 0,
    TMF_NO_TASK = 1,
    TMF_NO_LUN = 2,
    TMF_NO_REASSIGN = 4,
    TMF_UNSUPPORTED = 5,
    TMF_REJECTED = 255
};
enum { ASYNC_LOGOUT = 1, ASYNC_LOGOUT_S = 5 };

/* ---- task management ---- */

static void tmf_answer(struct iscsi_conn *conn, uint32_t itt, uint8_t response)
{
    struct iscsi_out *out = out_take(conn, PDU_MANAGE_RESPONSE, PDU_FINAL, itt);
    if (out == NULL) {
        conn_cut(conn);
        return;
    }
    out->pdu.b2 = response;
    out_send(conn, out);
}

void manage_ended(struct iscsi_tmf *tmf)
{
    assert(tmf->waits > 0);
    if (--tmf->waits > 0) return;
    struct iscsi_conn *conn = tmf->conn;
    tmf->conn = NULL;
    if (conn->state != CONN_CLOSING) tmf_answer(conn, tmf->itt, tmf->response);
    conn->tmf_count--;
    conn_check_end(conn);
}

/* Ends one task; the function waits for it when it has to. An answer on its way to the same initiator leaves first (RFC 7143
 * 11.5.1: nothing of the task after the response); what other initiators are being told does not hold the function up. */
static void abort_task(struct iscsi_task *task, struct iscsi_tmf *tmf)
{
    if (task->state == TASK_FREE || (task->state == TASK_SEND && task->conn != tmf->conn)) return;
    if (task->tmf == tmf) return; /* its unit stands at two LUNs */
    if (task->tmf != NULL) {      /* another function waits for it already: this one cannot say when it ends */
        tmf->refused = true;
        return;
    }
    if (!MUTATED(MUTATE_FUNCTION_EARLY)) {
        task->tmf = tmf;
        tmf->waits++;
    }
    if (task->state != TASK_SEND) task_drop(task);
}

static bool is_named(const struct iscsi_task *task, uint64_t lun, const struct scsi_unit *unit)
{
    if (task->state == TASK_FREE) return false;
    return unit != NULL ? task->command.unit == unit : task->command.lun == lun;
}

/* Another function waits for one of these tasks. Looked for before the first one is ended: a function that is refused has ended
 * none. */
static bool is_claimed(const struct iscsi_conn *conn, uint64_t lun, const struct scsi_unit *unit)
{
    for (uint32_t i = 0; i < conn->task_count; i++)
        if (is_named(&conn->tasks[i], lun, unit) && conn->tasks[i].tmf != NULL) return true;
    return false;
}

static void abort_of_unit(struct iscsi_conn *conn, uint64_t lun, const struct scsi_unit *unit, struct iscsi_tmf *tmf)
{
    for (uint32_t i = 0; i < conn->task_count; i++)
        if (is_named(&conn->tasks[i], lun, unit)) abort_task(&conn->tasks[i], tmf);
}

/* Of the session: ABORT TASK SET. */
static uint8_t abort_set(struct iscsi_conn *conn, uint64_t lun, struct iscsi_tmf *tmf)
{
    if (is_claimed(conn, lun, NULL)) return TMF_REJECTED;
    abort_of_unit(conn, lun, NULL, tmf);
    return TMF_COMPLETE;
}

static bool is_claimed_anywhere(const struct iscsi_conn *conn, const struct scsi_unit *unit)
{
    const struct list *conns = &conn->target->conns;
    for (const struct list *l = conns->next; l != conns; l = l->next)
        if (is_claimed(CONTAINER(l, struct iscsi_conn, link), 0, unit)) return true;
    return false;
}

/* The other sessions are told by a unit attention. */
static void abort_everywhere(struct iscsi_conn *conn, struct scsi_unit *unit, struct iscsi_tmf *tmf, bool reset)
{
    struct list *conns = &conn->target->conns;
    for (struct list *l = conns->next; l != conns; l = l->next)
        abort_of_unit(CONTAINER(l, struct iscsi_conn, link), 0, unit, tmf);
    scsi_unit_attention(unit, reset ? SCSI_UNIT_RESET : SCSI_COMMANDS_CLEARED, &conn->nexus);
}

/* Of all sessions: CLEAR TASK SET, LOGICAL UNIT RESET. */
static uint8_t abort_unit(struct iscsi_conn *conn, struct scsi_unit *unit, struct iscsi_tmf *tmf, bool reset)
{
    if (is_claimed_anywhere(conn, unit)) return TMF_REJECTED;
    abort_everywhere(conn, unit, tmf, reset);
    return TMF_COMPLETE;
}

/* WARM RESET: the units that this initiator sees. Those of others are not its to reset. */
static uint8_t abort_all(struct iscsi_conn *conn, struct iscsi_tmf *tmf)
{
    const struct scsi_nexus *nexus = &conn->nexus;
    for (uint32_t i = 0; i < nexus->lun_count; i++)
        if (is_claimed_anywhere(conn, nexus->luns[i].unit)) return TMF_REJECTED;
    for (uint32_t i = 0; i < nexus->lun_count; i++) abort_everywhere(conn, nexus->luns[i].unit, tmf, true);
    return TMF_COMPLETE;
}

static uint8_t abort_one(struct iscsi_conn *conn, struct iscsi_tmf *tmf)
{
    const struct pdu *p = &conn->pdu;
    struct iscsi_task *task = task_find(conn, p->ref_itt);
    if (task != NULL) {
        abort_task(task, tmf);
        return TMF_COMPLETE;
    }
    return sn_before(p->ref_cmd_sn, conn->exp_cmd_sn) ? TMF_COMPLETE : TMF_NO_TASK;
}

static uint8_t manage(struct iscsi_conn *conn, struct iscsi_tmf *tmf)
{
    const struct pdu *p = &conn->pdu;
    struct scsi_lun *lun = scsi_nexus_find(&conn->nexus, p->lun);
    switch (p->function) {
    case TMF_ABORT_TASK: return abort_one(conn, tmf);
    case TMF_ABORT_TASK_SET:
        if (lun == NULL) return TMF_NO_LUN;
        return abort_set(conn, p->lun, tmf);
    case TMF_CLEAR_TASK_SET:
    case TMF_LUN_RESET:
        if (lun == NULL) return TMF_NO_LUN;
        return abort_unit(conn, lun->unit, tmf, p->function == TMF_LUN_RESET);
    case TMF_WARM_RESET: return abort_all(conn, tmf);
    case TMF_REASSIGN: return TMF_NO_REASSIGN;
    default: return TMF_UNSUPPORTED; /* clear ACA; cold reset: it would cut the sessions of all initiators */
    }
}

void manage_task(struct iscsi_conn *conn)
{
    struct iscsi_tmf *tmf = NULL;
    for (int i = 0; i < TMFS && tmf == NULL; i++)
        if (conn->tmfs[i].conn == NULL) tmf = &conn->tmfs[i];
    if (tmf == NULL || conn->discovery) {
        tmf_answer(conn, conn->pdu.itt, TMF_REJECTED);
        return;
    }
    *tmf = (struct iscsi_tmf){.conn = conn, .itt = conn->pdu.itt, .waits = 1}; /* one for ourselves */
    conn->tmf_count++;
    tmf->response = manage(conn, tmf);
    if (tmf->refused) tmf->response = TMF_REJECTED;
    manage_ended(tmf);
}

/* ---- NOP (RFC 7143 11.18, 11.19) ---- */

void manage_nop(struct iscsi_conn *conn)
{
    const struct pdu *p = &conn->pdu;
    if (p->itt == PDU_NO_TAG) return; /* the answer to our ping: that something came is enough */
    struct iscsi_out *out = out_take(conn, PDU_NOP_IN, PDU_FINAL, p->itt);
    if (out == NULL) {
        conn_cut(conn);
        return;
    }
    out->pdu.ttt = PDU_NO_TAG;
    out->pdu.lun = p->lun;
    out->bytes = min32(min32(p->data_bytes, conn->rx_room), min32(OUT_BYTES, conn->limits.max_transmit));
    memcpy(out->data, conn->text + conn->text_bytes, out->bytes);
    out_send(conn, out);
}

void manage_ping(struct iscsi_conn *conn)
{
    struct iscsi_out *out = out_take(conn, PDU_NOP_IN, PDU_FINAL, PDU_NO_TAG);
    if (out == NULL) return;
    out->counts = false;
    out->pdu.ttt = 1; /* any valid one: the answer repeats it */
    conn->ping_ns = io_now_ns(conn->target->io);
    out_send(conn, out);
}

/* ---- text: SendTargets (RFC 7143 appendix C) ---- */

static void add_address(struct iscsi_conn *conn, const struct portal *portal, struct keys_out *out)
{
    char text[IO_ADDRESS_TEXT];
    const char *address = portal->advertise;
    if (address == NULL && portal == &conn->target->portals[conn->portal])
        address = io_socket_local(conn->socket, text, sizeof text);
    else if (address == NULL)
        address = io_listener_text(portal->listener, text, sizeof text);
    /* One that listens on every address says so, which helps nobody. */
    if (strncmp(address, "0.0.0.0:", 8) == 0 || strncmp(address, "[::]:", 5) == 0) return;
    keys_add(out, "TargetAddress", "%s,%u", address, conn->target->config.portal_group);
}

static void send_targets(struct iscsi_conn *conn, const char *value, struct keys_out *out)
{
    struct iscsi_target *target = conn->target;
    bool all = strcmp(value, "All") == 0, ours = strcmp(value, target->name) == 0 || (value[0] == '\0' && !conn->discovery);
    if (all && !conn->discovery) {
        keys_add(out, "SendTargets", "Reject");
        return;
    }
    if (!all && !ours) return;
    keys_add(out, "TargetName", "%s", target->name);
    for (uint32_t i = 0; i < target->portal_count; i++) add_address(conn, &target->portals[i], out);
}

static bool answer_text(struct iscsi_conn *conn, struct keys_out *out)
{
    char *at = (char *)conn->text, *key, *value;
    size_t left = conn->text_bytes;
    for (;;) {
        enum err err = keys_next(&at, &left, &key, &value);
        if (err == ERR_NO_KEY) return !out->full;
        if (err != OK) return false;
        if (strcmp(key, "SendTargets") == 0)
            send_targets(conn, value, out);
        else
            keys_add(out, key, "NotUnderstood");
    }
}

/* The next part of the answer. */
static void text_send(struct iscsi_conn *conn)
{
    uint32_t left = conn->text_out_bytes - conn->text_out_sent, most = min32(OUT_BYTES, conn->limits.max_transmit);
    struct iscsi_out *out = out_take(conn, PDU_TEXT_RESPONSE, 0, conn->pdu.itt);
    if (out == NULL) {
        conn_cut(conn);
        return;
    }
    out->bytes = min32(left, most);
    out->pdu.flags = out->bytes == left ? PDU_FINAL : PDU_CONTINUE;
    out->pdu.ttt = out->bytes == left ? PDU_NO_TAG : ++conn->text_ttt;
    memcpy(out->data, conn->text_out + conn->text_out_sent, out->bytes);
    conn->text_out_sent += out->bytes;
    out_send(conn, out);
}

void manage_text(struct iscsi_conn *conn)
{
    const struct pdu *p = &conn->pdu;
    struct keys_out out;
    if (p->ttt != PDU_NO_TAG && p->data_bytes == 0 && conn->text_out_sent < conn->text_out_bytes) {
        text_send(conn); /* it asks for more */
        return;
    }
    if (conn->text_bytes + p->data_bytes > TEXT_BYTES) {
        conn->text_bytes = 0;
        conn_protocol_error(conn);
        return;
    }
    conn->text_bytes += p->data_bytes;
    conn->text_out_bytes = conn->text_out_sent = 0;
    if (!(p->flags & PDU_CONTINUE)) {
        keys_out_init(&out, conn->text_out, sizeof conn->text_out);
        bool good = answer_text(conn, &out);
        conn->text_bytes = 0;
        if (!good) {
            conn_protocol_error(conn);
            return;
        }
        conn->text_out_bytes = (uint32_t)out.used;
    }
    text_send(conn);
}

/* ---- leaving ---- */

/* 0: the session, 1: the connection, which is the same here; 2 is for recovery that we do not do. */
void manage_logout(struct iscsi_conn *conn)
{
    struct iscsi_out *out = out_take(conn, PDU_LOGOUT_RESPONSE, PDU_FINAL, conn->pdu.itt);
    if (out == NULL || conn->pdu.function > 2) {
        conn_protocol_error(conn);
        return;
    }
    bool unknown = conn->pdu.function == 1 && conn->pdu.cid != conn->cid;
    out->pdu.b2 = unknown ? 1 : conn->pdu.function == 2 ? 2 : 0;
    out->last = out->pdu.b2 == 0;
    if (out->last) {
        conn->state = CONN_LOGOUT;
        conn->rx_stopped = true;
    }
    out_send(conn, out);
}

void manage_ask_to_leave(struct iscsi_conn *conn)
{
    struct iscsi_out *out = out_take(conn, PDU_ASYNC, PDU_FINAL, PDU_NO_TAG);
    if (out == NULL) return;
    out->pdu.w[3] = (uint32_t)ASYNC_LOGOUT << 24;
    out->pdu.w[4] = ASYNC_LOGOUT_S;
    out_send(conn, out);
}
