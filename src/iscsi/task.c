/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One SCSI command, from its PDU to its status:
 *
 *     MEMORY   no memory for its data yet; served in order of arrival, for all sessions
 *     DATA     immediate and unsolicited data comes, then what R2Ts asked for
 *     RUN      with the SCSI layer
 *     SEND     Data-In, with the status in the last, or a response
 *
 * A command whose data comes along with it cannot wait for memory: the bytes behind it in the stream, among them the data of
 * commands that hold memory, would wait too. It is answered TASK SET FULL and its data dropped; the initiator sends it again.
 *
 * Data comes in order (DataPDUInOrder and DataSequenceInOrder are Yes): offset, DataSN and length of each Data-Out are checked
 * against the one place where it must continue. Anything else ends the command before it has done anything.
 */
#include <string.h>

#include "iscsi/internal.h"
#include "store/mutation.h"

static void task_go(struct iscsi_task *task);

struct iscsi_task *task_find(const struct iscsi_conn *conn, uint32_t itt)
{
    for (uint32_t i = 0; i < conn->task_count; i++)
        if (conn->tasks[i].state != TASK_FREE && conn->tasks[i].itt == itt) return &conn->tasks[i];
    return NULL;
}

/* ---- its end ---- */

static void task_free(struct iscsi_task *task)
{
    struct iscsi_conn *conn = task->conn;
    struct iscsi_tmf *tmf = task->tmf;
    if (task->queued) list_remove(&task->sender.link);
    if (task->state == TASK_MEMORY) list_remove(&task->memory);
    if (conn->rx_task == task) conn->rx_task = NULL;
    scsi_end(&task->command);
    task->state = TASK_FREE;
    task->queued = false;
    task->tmf = NULL;
    conn->busy--;
    if (!task->immediate) conn->busy_window--;
    if (tmf != NULL) manage_ended(tmf);
    if (task->has_memory) {
        task->has_memory = false;
        target_memory_back(conn->target, &task->command);
        target_memory_retry(conn->target);
    }
    if (!conn->tx_busy) send_window_open(conn); /* else when it is through */
    conn_check_end(conn);
}

void task_drop(struct iscsi_task *task)
{
    struct iscsi_conn *conn = task->conn;
    task->aborted = true;
    if (task->state == TASK_RUN && !scsi_cancel(&task->command)) return; /* it ends when the SCSI layer is through */
    if (task->state == TASK_SEND && conn->tx_busy) return;               /* its memory may be on its way out */
    if (conn->rx_task == task && conn->rx_busy && !MUTATED(MUTATE_MEMORY_EARLY)) return; /* ... or in */
    task_free(task);
}

void task_sent(struct iscsi_task *task)
{
    task->queued = false;
    task_free(task);
}

/* ---- the answer ---- */

static void task_answer(struct iscsi_task *task)
{
    task->state = TASK_SEND;
    task->send = task->reads ? min32(task->command.in_bytes, task->expected) : 0;
    task->sent = task->sent_sn = task->burst_sent = 0;
    task->conn->bytes_out += task->send;
    task->queued = true;
    send_queue(task->conn, &task->sender);
}

static void task_done(struct scsi_command *command)
{
    struct iscsi_task *task = CONTAINER(command, struct iscsi_task, command);
    assert(task->state == TASK_RUN);
    if (task->aborted || task->conn->state == CONN_CLOSING) {
        task_free(task);
        return;
    }
    task_answer(task);
}

/* Residual count and its flags (RFC 7143 11.4.5). */
static uint8_t residual(const struct iscsi_task *task, uint32_t *ret_count)
{
    uint32_t moves = task->command.out ? task->command.out_bytes : task->command.in_bytes;
    *ret_count = moves > task->expected ? moves - task->expected : task->expected - moves;
    if (moves == task->expected) return 0;
    return moves > task->expected ? PDU_OVERFLOW : PDU_UNDERFLOW;
}

static bool fill_r2t(struct iscsi_task *task)
{
    struct iscsi_conn *conn = task->conn;
    while (task->asked < task->want && task->r2ts < conn->limits.max_r2t) {
        uint32_t bytes = min32(task->want - task->asked, conn->limits.max_burst);
        struct pdu_out r2t = {
            .opcode = PDU_R2T, .flags = PDU_FINAL, .lun = task->command.lun, .itt = task->itt, .ttt = task->ttt};
        if (!send_has_room(conn)) return true;
        r2t.w[0] = conn->stat_sn;
        send_window(conn, &r2t);
        r2t.w[3] = task->r2t_sn++;
        r2t.w[4] = task->asked;
        r2t.w[5] = bytes;
        send_pdu(conn, &r2t, NULL, 0);
        if (task->r2ts++ == 0) task->burst_end = task->asked + bytes;
        task->asked += bytes;
    }
    return false;
}

static bool fill_response(struct iscsi_task *task)
{
    struct iscsi_conn *conn = task->conn;
    struct scsi_command *c = &task->command;
    struct pdu_out r = {.opcode = PDU_RESPONSE, .itt = task->itt, .b3 = (uint8_t)c->status};
    if (!send_has_room(conn)) return true;
    r.flags = PDU_FINAL | residual(task, &r.w[5]);
    r.w[0] = conn->stat_sn++;
    send_window(conn, &r);
    r.w[3] = task->reads ? task->sent_sn : task->r2t_sn;
    uint8_t *sense = c->sense;
    if (c->sense_bytes == 0) {
        send_pdu(conn, &r, NULL, 0);
        return false;
    }
    /* Behind two bytes of length; the command keeps them until all is sent. */
    static_assert(sizeof task->command.sense >= SCSI_SENSE_MAX + 2, "room for the length");
    memmove(sense + 2, sense, c->sense_bytes);
    be16_to(sense, (uint16_t)c->sense_bytes);
    r.data_bytes = c->sense_bytes + 2;
    send_pdu(conn, &r, sense, r.data_bytes);
    return false;
}

/* One Data-In; the last of a command that went well carries the status. */
static bool fill_data(struct iscsi_task *task)
{
    struct iscsi_conn *conn = task->conn;
    uint32_t left = task->send - task->sent, most = min32(conn->limits.max_transmit, TX_SEGMENT);
    uint32_t bytes = min32(min32(left, most), conn->limits.max_burst - task->burst_sent);
    struct pdu_out in = {.opcode = PDU_DATA_IN, .itt = task->itt, .ttt = PDU_NO_TAG, .data_bytes = bytes};
    bool last = bytes == left, with_status = last && task->command.sense_bytes == 0;
    if (!send_has_room(conn)) return true;
    in.w[0] = conn->stat_sn;
    send_window(conn, &in);
    in.w[3] = task->sent_sn++;
    in.w[4] = task->sent;
    if (with_status) {
        in.flags = PDU_STATUS | residual(task, &in.w[5]);
        in.b3 = (uint8_t)task->command.status;
        conn->stat_sn++;
    } else {
        in.w[0] = 0;
    }
    task->burst_sent += bytes;
    if (last || task->burst_sent == conn->limits.max_burst) {
        in.flags |= PDU_FINAL;
        task->burst_sent = 0;
    }
    send_task_data(conn, &in, &task->command.data, task->sent);
    task->sent += bytes;
    if (!last) return true;
    return with_status ? false : fill_response(task);
}

bool task_fill(struct iscsi_task *task)
{
    if (task->state == TASK_DATA) return fill_r2t(task);
    assert(task->state == TASK_SEND);
    if (task->sent < task->send) return fill_data(task);
    return fill_response(task);
}

/* ---- data of the initiator ---- */

static void task_run(struct iscsi_task *task)
{
    task->state = TASK_RUN;
    task->command.out_have = task->received;
    task->conn->bytes_in += task->received;
    scsi_run(&task->command);
}

/* Everything that was asked for has come: ask for more, or run. */
static void task_go(struct iscsi_task *task)
{
    if (task->received == task->want && !task->unsolicited) {
        if (task->queued) { /* its last R2T has long left: nothing else can be queued */
            list_remove(&task->sender.link);
            task->queued = false;
        }
        task_run(task);
        return;
    }
    if (task->unsolicited || task->asked == task->want || task->queued) return;
    task->queued = true;
    send_queue(task->conn, &task->sender);
}

void task_has_memory(struct iscsi_task *task)
{
    task->has_memory = true;
    task->state = TASK_DATA;
    task->since_ns = io_now_ns(task->conn->target->io);
    scsi_accept(&task->command);
    task_go(task);
}

/* ---- the command ---- */

static struct iscsi_task *task_take(struct iscsi_conn *conn, bool immediate)
{
    uint32_t spare = conn->busy - conn->busy_window;
    if (immediate && spare >= SPARE_TASKS) return NULL;
    for (uint32_t i = 0; i < conn->task_count; i++) {
        struct iscsi_task *task = &conn->tasks[i];
        if (task->state != TASK_FREE) continue;
        conn->busy++;
        if (!immediate) conn->busy_window++;
        return task;
    }
    return NULL;
}

/* RFC 7143 11.3.1. Untagged is SIMPLE (SAM-5 8.6.1), and so is ACA, since there never is an ACA condition. */
static enum scsi_attribute attribute_of(uint8_t flags)
{
    enum { ORDERED = 2, HEAD_OF_QUEUE = 3, ATTRIBUTE = 7 };
    if ((flags & ATTRIBUTE) == ORDERED) return SCSI_ORDERED;
    return (flags & ATTRIBUTE) == HEAD_OF_QUEUE ? SCSI_HEAD_OF_QUEUE : SCSI_SIMPLE;
}

static void task_init(struct iscsi_task *task, const struct pdu *p)
{
    struct iscsi_conn *conn = task->conn;
    task->sender.kind = SENDER_TASK;
    task->state = TASK_DATA;
    task->immediate = p->immediate;
    task->aborted = task->queued = task->has_memory = false;
    task->tmf = NULL;
    task->itt = p->itt;
    task->ttt = ++conn->next_ttt == PDU_NO_TAG ? ++conn->next_ttt : conn->next_ttt;
    task->since_ns = io_now_ns(conn->target->io);
    task->reads = p->flags & PDU_READ;
    task->writes = p->flags & PDU_WRITE;
    task->expected = p->expected;
    task->want = task->arrived = task->received = task->asked = task->r2t_sn = task->r2ts = task->burst_end = task->data_sn = 0;
    task->unsolicited = task->writes && !(p->flags & PDU_FINAL);
    struct scsi_command *c = &task->command;
    c->done = task_done;
    c->io = conn->target->io;
    c->nexus = &conn->nexus;
    c->lun = p->lun;
    memcpy(c->cdb, p->cdb, sizeof c->cdb);
    c->attribute = attribute_of(p->flags);
    c->expected_out = task->writes ? p->expected : 0;
}

/* What no correct initiator sends (RFC 7143 11.3, 4.2.5.2). */
static bool is_absurd(const struct iscsi_conn *conn, const struct pdu *p)
{
    bool writes = p->flags & PDU_WRITE;
    if (p->itt == PDU_NO_TAG || task_find(conn, p->itt) != NULL) return true;
    if (p->data_bytes > 0 && (!writes || !conn->limits.immediate_data)) return true;
    if (p->data_bytes > conn->limits.first_burst || (writes && p->data_bytes > p->expected)) return true;
    if (!(p->flags & PDU_FINAL) && (!writes || conn->limits.initial_r2t)) return true;
    if (writes && (p->flags & PDU_READ)) return true; /* no bidirectional command exists here */
    return false;
}

/* The command ends here; what data still comes with it is dropped. */
static void task_refuse(struct iscsi_task *task, enum scsi_status status)
{
    task->command.status = status;
    task->command.sense_bytes = 0;
    task->command.in_bytes = 0;
    task_answer(task);
}

/* Commands are accepted into their task set when they have memory: none may overtake an ORDERED one that waits for it, nor may
 * an ORDERED one overtake any. */
static bool ordered_waits(const struct iscsi_target *target)
{
    for (const struct list *l = target->want_memory.next; l != &target->want_memory; l = l->next)
        if (CONTAINER(l, struct iscsi_task, memory)->command.attribute == SCSI_ORDERED) return true;
    return false;
}

static void task_plan(struct iscsi_task *task, bool has_data)
{
    struct scsi_command *c = &task->command;
    struct iscsi_target *target = task->conn->target;
    if (!scsi_plan(c)) {
        task_answer(task);
        return;
    }
    task->want = min32(c->out_bytes, c->expected_out);
    bool needs = c->room_bytes > 0 || c->scratch_wanted;
    bool barrier = c->attribute == SCSI_ORDERED || ordered_waits(target);
    bool behind = !list_empty(&target->want_memory) && (barrier || (needs && !has_data));
    if (!behind && (!needs || target_memory(target, c))) {
        task->has_memory = needs;
        scsi_accept(c);
        return;
    }
    if (has_data) {
        task_refuse(task, SCSI_TASK_SET_FULL);
        return;
    }
    task->state = TASK_MEMORY;
    list_push(&target->want_memory, &task->memory);
}

void task_begin(struct iscsi_conn *conn)
{
    const struct pdu *p = &conn->pdu;
    if (conn->discovery || is_absurd(conn, p)) {
        conn_protocol_error(conn);
        return;
    }
    if (conn->state != CONN_FULL || !session_takes(conn, p)) return;
    struct iscsi_task *task = task_take(conn, p->immediate);
    if (task == NULL) {
        reject(conn, REJECT_TOO_MANY_IMMEDIATE); /* the window keeps the others out */
        return;
    }
    conn->commands++;
    task_init(task, p);
    bool has_data = p->data_bytes > 0 || task->unsolicited;
    conn->rx_task = task;
    conn->rx_offset = 0;
    /* What comes unasked: the rest of the first burst. */
    task->burst_end = task->unsolicited ? min32(conn->limits.first_burst, p->expected) : p->data_bytes;
    task_plan(task, has_data);
    if (task->state == TASK_SEND) conn->rx_task = NULL;
}

void task_command_data(struct iscsi_conn *conn)
{
    struct iscsi_task *task = conn->rx_task;
    if (task == NULL) return;
    conn->rx_task = NULL;
    if (task->aborted) {
        task_drop(task);
        return;
    }
    task->arrived = conn->pdu.data_bytes;
    task->received = min32(task->arrived, task->want);
    task->asked = task->unsolicited ? min32(task->burst_end, task->want) : task->received;
    if (task->unsolicited && conn->pdu.data_bytes == task->burst_end) task->unsolicited = false; /* none is left */
    if (task->state == TASK_DATA) task_go(task);
}

/* ---- Data-Out (RFC 7143 11.7) ---- */

/* Data is missing: the command ends without having done anything, the rest of its data is dropped (RFC 7143 7.9). */
static void task_out_of_order(struct iscsi_task *task)
{
    task->conn->target->stats.protocol_errors++;
    if (task->queued) list_remove(&task->sender.link);
    scsi_out_of_order(&task->command);
    task_answer(task);
}

void task_data_header(struct iscsi_conn *conn)
{
    const struct pdu *p = &conn->pdu;
    struct iscsi_task *task = task_find(conn, p->itt);
    bool unasked = p->ttt == PDU_NO_TAG;
    /* Data of a command that was answered already or aborted is dropped. */
    if (task == NULL || task->state != TASK_DATA || task->aborted) return;
    bool expected = unasked ? task->unsolicited : p->ttt == task->ttt && !task->unsolicited && task->r2ts > 0;
    if (!expected || p->offset != task->arrived || p->data_sn != task->data_sn || p->data_bytes > task->burst_end - p->offset) {
        task_out_of_order(task);
        return;
    }
    conn->rx_task = task;
    conn->rx_offset = p->offset;
}

void task_data(struct iscsi_conn *conn)
{
    const struct pdu *p = &conn->pdu;
    struct iscsi_task *task = conn->rx_task;
    if (task == NULL) return;
    conn->rx_task = NULL;
    if (task->aborted) {
        task_drop(task);
        return;
    }
    uint32_t end = p->offset + p->data_bytes;
    task->data_sn++;
    task->arrived = end;
    task->received = min32(end, task->want);
    if (!(p->flags & PDU_FINAL)) { /* no time is won before a burst is whole: memory is held for it */
        if (end == task->burst_end && task->r2ts > 0) conn_protocol_error(conn); /* its last must say so */
        return;
    }
    task->data_sn = 0;
    task->since_ns = io_now_ns(conn->target->io);
    if (task->unsolicited) {
        task->unsolicited = false;
        task->asked = task->received;
    } else {
        if (end != task->burst_end) { /* fewer than asked for */
            conn_protocol_error(conn);
            return;
        }
        task->r2ts--;
        task->burst_end = min32(task->want, task->burst_end + conn->limits.max_burst);
    }
    task_go(task);
}
