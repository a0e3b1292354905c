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
enum { ASYNC_LOGOUT = 1 };

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

/* COLD RESET is a power-on event, too: all connections of all initiators end (RFC 7143 11.5.1), this one after the answer. */
static void reset_cold(struct iscsi_conn *by, uint32_t itt)
{
    struct list *conns = &by->target->conns;
    for (struct list *l = conns->next, *next; l != conns; l = next) {
        struct iscsi_conn *conn = CONTAINER(l, struct iscsi_conn, link);
        next = l->next;
        if (conn != by) conn_cut(conn);
    }
    if (by->state == CONN_CLOSING) return;
    struct iscsi_out *out = out_take(by, PDU_MANAGE_RESPONSE, PDU_FINAL, itt);
    if (out == NULL) {
        conn_cut(by);
        return;
    }
    out->pdu.b2 = TMF_COMPLETE;
    out->last = true;
    by->rx_stopped = true;
    out_send(by, out);
}

void manage_ended(struct iscsi_tmf *tmf)
{
    assert(tmf->waits > 0);
    if (--tmf->waits > 0) return;
    struct iscsi_conn *conn = tmf->conn;
    tmf->conn = NULL;
    conn->tmf_count--; /* what was kept for its answer is free */
    if (tmf->cold)
        reset_cold(conn, tmf->itt);
    else if (conn->state != CONN_CLOSING)
        tmf_answer(conn, tmf->itt, tmf->response);
    conn_check_end(conn);
}

/* The tasks that a function is about. */
struct reach {
    struct iscsi_conn *conn; /* that asks */
    enum { OF_LUN, OF_UNIT, OF_ALL } kind;
    uint64_t lun;           /* OF_LUN: of this session, at this LUN, whether there is a unit or not */
    struct scsi_unit *unit; /* OF_UNIT: of all sessions */
};

static bool sees(const struct scsi_nexus *nexus, const struct scsi_unit *unit)
{
    for (uint32_t i = 0; i < nexus->lun_count; i++)
        if (nexus->luns[i].unit == unit) return true;
    return false;
}

static bool is_named(const struct iscsi_task *task, const struct reach *reach)
{
    bool own = task->conn == reach->conn;
    if (task->state == TASK_FREE) return false;
    /* What other initiators are being told does not hold a function up; what this one is told leaves before the function's
     * answer (RFC 7143 11.5.1: nothing of the task after it). */
    if (task->state == TASK_SEND && !own) return false;
    switch (reach->kind) {
    case OF_LUN: return own && task->command.lun == reach->lun;
    case OF_UNIT: return task->command.unit == reach->unit;
    case OF_ALL: return task->command.unit != NULL ? sees(&reach->conn->nexus, task->command.unit) : own;
    }
    return false;
}

static void abort_task(struct iscsi_task *task, struct iscsi_tmf *tmf)
{
    if (!MUTATED(MUTATE_FUNCTION_EARLY)) {
        task->tmf = tmf;
        tmf->waits++;
    }
    if (task->state != TASK_SEND) task_drop(task);
}

/* The first task at or after `*i` of this connection that the function is about, NULL: there is none. */
static struct iscsi_task *next_named(struct iscsi_conn *conn, const struct reach *reach, uint32_t *i)
{
    for (; conn->busy > 0 && *i < conn->task_count; ++*i)
        if (is_named(&conn->tasks[*i], reach)) return &conn->tasks[(*i)++];
    return NULL;
}

/* Another function that waits for one of these tasks is looked for before the first one is ended: a function that is refused
 * has ended none. */
static uint8_t abort_reach(const struct reach *reach, struct iscsi_tmf *tmf)
{
    struct list *conns = &reach->conn->target->conns;
    struct iscsi_task *task;
    for (struct list *l = conns->next; l != conns; l = l->next)
        for (uint32_t i = 0; (task = next_named(CONTAINER(l, struct iscsi_conn, link), reach, &i)) != NULL;)
            if (task->tmf != NULL) return TMF_REJECTED;
    for (struct list *l = conns->next; l != conns; l = l->next)
        for (uint32_t i = 0; (task = next_named(CONTAINER(l, struct iscsi_conn, link), reach, &i)) != NULL;)
            scsi_doom(&task->command);
    for (struct list *l = conns->next; l != conns; l = l->next)
        for (uint32_t i = 0; (task = next_named(CONTAINER(l, struct iscsi_conn, link), reach, &i)) != NULL;)
            abort_task(task, tmf);
    return TMF_COMPLETE;
}

static uint8_t clear_unit(struct iscsi_conn *conn, struct scsi_unit *unit, struct iscsi_tmf *tmf)
{
    struct reach reach = {.conn = conn, .kind = OF_UNIT, .unit = unit};
    uint8_t response = abort_reach(&reach, tmf);
    if (response == TMF_COMPLETE) scsi_unit_attention(unit, SCSI_COMMANDS_CLEARED, &conn->nexus);
    return response;
}

static uint8_t reset_unit(struct iscsi_conn *conn, struct scsi_unit *unit, struct iscsi_tmf *tmf)
{
    struct reach reach = {.conn = conn, .kind = OF_UNIT, .unit = unit};
    uint8_t response = abort_reach(&reach, tmf);
    if (response == TMF_COMPLETE) scsi_unit_reset(unit, &conn->nexus);
    return response;
}

/* WARM and COLD RESET: the units that this initiator sees. Those of others are not its to reset. */
static uint8_t reset_all(struct iscsi_conn *conn, struct iscsi_tmf *tmf)
{
    struct reach reach = {.conn = conn, .kind = OF_ALL};
    uint8_t response = abort_reach(&reach, tmf);
    for (uint32_t i = 0; response == TMF_COMPLETE && i < conn->nexus.lun_count; i++)
        scsi_unit_reset(conn->nexus.luns[i].unit, &conn->nexus);
    return response;
}

static uint8_t abort_one(struct iscsi_conn *conn, struct iscsi_tmf *tmf)
{
    const struct pdu *p = &conn->pdu;
    struct iscsi_task *task = task_find(conn, p->ref_itt);
    if (task != NULL && task->tmf != NULL) return TMF_REJECTED; /* another function waits for it already */
    if (task != NULL) {
        scsi_doom(&task->command);
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
        return abort_reach(&(struct reach){.conn = conn, .kind = OF_LUN, .lun = p->lun}, tmf);
    case TMF_CLEAR_TASK_SET:
        if (lun == NULL) return TMF_NO_LUN;
        return clear_unit(conn, lun->unit, tmf);
    case TMF_LUN_RESET:
        if (lun == NULL) return TMF_NO_LUN;
        return reset_unit(conn, lun->unit, tmf);
    case TMF_WARM_RESET: return reset_all(conn, tmf);
    case TMF_COLD_RESET: {
        uint8_t response = reset_all(conn, tmf);
        tmf->cold = response == TMF_COMPLETE;
        return response;
    }
    case TMF_REASSIGN: return TMF_NO_REASSIGN;
    default: return TMF_UNSUPPORTED; /* clear ACA */
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
    out->echo = conn->rx_echo;
    conn->rx_echo.bytes = 0;
    out->bytes = out->echo.bytes;
    if (out->bytes == 0) {
        out->bytes = min32(min32(p->data_bytes, conn->rx_room), min32(OUT_BYTES, conn->limits.max_transmit));
        memcpy(out->data, conn->text + conn->text_bytes, out->bytes);
    }
    out_send(conn, out);
}

void manage_ping(struct iscsi_conn *conn)
{
    struct iscsi_out *out = out_take_unasked(conn, PDU_NOP_IN);
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
        else if (strcmp(key, "InitiatorAlias") == 0)
            login_alias(conn, value);
        else
            keys_take_late(&conn->limits, key, value, out);
    }
}

/* The next part of the answer. The last one is final only where the initiator said that it has nothing more to say; else it is
 * its turn, with our tag (RFC 7143 11.11.1, 11.11.4). */
static void text_send(struct iscsi_conn *conn)
{
    uint32_t left = conn->text_out_bytes - conn->text_out_sent, most = min32(OUT_BYTES, conn->limits.max_transmit);
    struct iscsi_out *out = out_take(conn, PDU_TEXT_RESPONSE, 0, conn->pdu.itt);
    if (out == NULL) {
        conn_cut(conn);
        return;
    }
    out->bytes = min32(left, most);
    bool final = out->bytes == left && (conn->pdu.flags & PDU_FINAL);
    out->pdu.flags = out->bytes < left ? PDU_CONTINUE : final ? PDU_FINAL : 0;
    if (++conn->text_ttt == PDU_NO_TAG) conn->text_ttt = 1;
    out->pdu.ttt = final ? PDU_NO_TAG : conn->text_ttt;
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

void manage_ask_to_leave(struct iscsi_conn *conn, uint32_t within_ms)
{
    struct iscsi_out *out = out_take_unasked(conn, PDU_ASYNC);
    if (out == NULL) return;
    out->pdu.w[3] = (uint32_t)ASYNC_LOGOUT << 24;
    out->pdu.w[4] = min32((within_ms + 999) / 1000, UINT16_MAX); /* Parameter3: seconds */
    out_send(conn, out);
}
