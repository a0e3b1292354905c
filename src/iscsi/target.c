/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The target as a whole: portals, limits, memory for data, sessions as others see them, shutdown.
 */
#include "iscsi/target.h"

#include <string.h>

#include "iscsi/internal.h"

#define DEFAULT(field, value)                                                                                                  \
    do {                                                                                                                       \
        if (c->field == 0) c->field = (value);                                                                                 \
    } while (0)

enum { MEMORY_MIN = 16 << 20, WINDOW_MAX = 256, RECEIVE_MIN = 512, RECEIVE_MAX = 16 << 20 };

/* ---- memory ---- */

/* The length of piece `i`. */
static uint32_t piece_bytes(const struct scsi_command *c, uint32_t i)
{
    return min32(SCSI_PIECE, c->room_bytes - i * SCSI_PIECE);
}

void target_memory_back(struct iscsi_target *target, struct scsi_command *c)
{
    for (uint32_t i = 0; i < c->data.count; i++) pages_give(target->pages, c->data.piece[i], piece_bytes(c, i));
    c->data.count = 0;
    pages_give(target->pages, c->scratch, SCSI_PIECE);
    c->scratch = NULL;
}

bool target_memory(struct iscsi_target *target, struct scsi_command *c)
{
    c->data.count = 0;
    c->scratch = c->scratch_wanted ? pages_take(target->pages, SCSI_PIECE) : NULL;
    bool all = c->scratch != NULL || !c->scratch_wanted;
    for (uint32_t i = 0; all && i * SCSI_PIECE < c->room_bytes; i++) {
        c->data.piece[i] = pages_take(target->pages, piece_bytes(c, i));
        all = c->data.piece[i] != NULL;
        c->data.count += all;
    }
    if (!all) target_memory_back(target, c);
    return all;
}

static uint32_t echo_piece(const struct echo *echo, uint32_t i)
{
    return min32(SCSI_PIECE, echo->bytes - i * SCSI_PIECE);
}

bool target_echo(struct iscsi_target *target, struct echo *echo, uint32_t bytes)
{
    assert(bytes <= ECHO_MAX);
    *echo = (struct echo){.bytes = bytes};
    for (uint32_t i = 0; i * SCSI_PIECE < bytes; i++) {
        echo->piece[i] = pages_take(target->pages, echo_piece(echo, i));
        if (echo->piece[i] != NULL) continue;
        target_echo_back(target, echo);
        return false;
    }
    return true;
}

void target_echo_back(struct iscsi_target *target, struct echo *echo)
{
    for (uint32_t i = 0; i * SCSI_PIECE < echo->bytes; i++) pages_give(target->pages, echo->piece[i], echo_piece(echo, i));
    *echo = (struct echo){.bytes = 0};
}

void target_memory_retry(struct iscsi_target *target)
{
    while (!list_empty(&target->want_memory)) {
        struct iscsi_task *task = CONTAINER(target->want_memory.next, struct iscsi_task, memory);
        if (!target_memory(target, &task->command)) return;
        list_remove(&task->memory);
        task_has_memory(task);
    }
}

/* ---- accepting ---- */

static void accept_next(struct portal *portal);

/* Out of descriptors: not at once again. */
static void accept_later(struct io_timer *timer)
{
    struct iscsi_target *target = CONTAINER(timer, struct iscsi_target, accept_again);
    for (uint32_t i = 0; i < target->portal_count && !target->stopping; i++)
        if (!target->portals[i].accepting) accept_next(&target->portals[i]);
}

static bool has_room(const struct iscsi_target *target)
{
    return target->conn_count < target->config.connections_max && target->login_count < target->config.logins_max;
}

static void accepted(struct io_net *op)
{
    struct portal *portal = CONTAINER(op, struct portal, accept);
    struct iscsi_target *target = portal->target;
    portal->accepting = false;
    if (op->err == OK && !target->stopping && has_room(target) &&
        conn_open(target, op->socket, (uint32_t)(portal - target->portals))) {
        target->stats.accepted++;
        target->conn_count++;
        target->login_count++;
    } else if (op->err == OK) {
        target->stats.refused++;
        io_socket_close(op->socket);
    }
    if (target->stopping) {
        if (target->waiting != NULL) io_task_wake(target->waiting);
    } else if (op->err == OK) {
        accept_next(portal);
    } else if (target->accept_again.place == 0) {
        io_after(target->io, 100 * IO_MS_NS, &target->accept_again);
    }
}

static void accept_next(struct portal *portal)
{
    portal->accepting = true;
    portal->accept.done = accepted;
    io_accept(portal->listener, &portal->accept);
}

void target_conn_gone(struct iscsi_target *target)
{
    target->conn_count--;
    for (struct list *l = target->conns.next, *next; l != &target->conns; l = next) {
        next = l->next;
        login_goes_on(CONTAINER(l, struct iscsi_conn, link));
    }
    if (target->waiting != NULL) io_task_wake(target->waiting);
}

/* ---- life ---- */

static enum err config_complete(struct iscsi_target_config *c)
{
    DEFAULT(portal_group, 1);
    DEFAULT(memory, 32 << 20);
    DEFAULT(connections_max, 256);
    DEFAULT(logins_max, 64);
    DEFAULT(login_timeout_ms, 15000);
    DEFAULT(window, 64);
    DEFAULT(nop_interval_ms, 10000);
    DEFAULT(nop_timeout_ms, 10000);
    DEFAULT(max_receive_bytes, 256 << 10);
    DEFAULT(max_burst_bytes, 1 << 20);
    DEFAULT(first_burst_bytes, 64 << 10);
    if (c->memory < MEMORY_MIN || c->window > WINDOW_MAX || c->listen_count == 0 || c->listen_count > ISCSI_PORTALS_MAX)
        return ERR_ARGUMENT;
    if (c->max_receive_bytes < RECEIVE_MIN || c->max_burst_bytes < RECEIVE_MIN || c->first_burst_bytes < RECEIVE_MIN)
        return ERR_ARGUMENT;
    if (c->max_receive_bytes > RECEIVE_MAX || c->max_burst_bytes > RECEIVE_MAX || c->first_burst_bytes > c->max_burst_bytes)
        return ERR_ARGUMENT;
    if (c->name == NULL || strlen(c->name) > ISCSI_NAME_MAX || c->name[0] == '\0') return ERR_ARGUMENT;
    return OK;
}

static void target_free(struct iscsi_target *target)
{
    for (uint32_t i = 0; i < target->portal_count; i++) io_listener_close(target->portals[i].listener);
    mem_close(target->mem);
}

static void name_port(struct iscsi_target *t)
{
    struct text text;
    text_init(&text, t->port_name, sizeof t->port_name);
    text_add(&text, "%s,t,0x%04x", t->name, t->config.portal_group);
}

static void copy_texts(struct iscsi_target *t, const struct iscsi_target_config *c)
{
    memcpy(t->name, c->name, strlen(c->name) + 1);
    if (c->alias != NULL) strncpy(t->alias, c->alias, sizeof t->alias - 1);
    name_port(t);
    t->config.name = t->name;
    t->config.alias = t->alias;
}

static enum err listen_all(struct iscsi_target *t, const struct iscsi_target_config *c, uint32_t *ret_failed)
{
    for (uint32_t i = 0; i < c->listen_count; i++) {
        struct portal *p = &t->portals[i];
        p->target = t;
        enum err err = io_listen(t->io, c->listen[i], 0600, &p->listener);
        if (err != OK) {
            if (ret_failed != NULL) *ret_failed = i;
            return err;
        }
        t->portal_count++;
        if (c->advertise[i] == NULL) continue;
        strncpy(p->advertise_text, c->advertise[i], sizeof p->advertise_text - 1);
        p->advertise = p->advertise_text;
    }
    return OK;
}

enum err iscsi_target_open(const struct iscsi_target_config *config, struct iscsi_target **ret_target, uint32_t *ret_failed)
{
    struct iscsi_target_config c = *config;
    TRY(config_complete(&c));
    /* Three quarters for data, the rest for connections and their tasks. */
    struct mem *mem = mem_open(c.memory + sizeof(struct iscsi_target) + 65536);
    struct iscsi_target *t = mem != NULL ? mem_alloc(mem, sizeof *t) : NULL;
    if (t != NULL) t->pages = pages_open(mem, c.memory / 4 * 3);
    if (t == NULL || t->pages == NULL) {
        mem_close(mem);
        return ERR_NO_MEMORY;
    }
    t->config = c;
    t->io = c.io;
    t->mem = mem;
    t->next_id = 1;
    t->accept_again.fire = accept_later;
    list_init(&t->conns);
    list_init(&t->want_memory);
    copy_texts(t, &c);
    enum err err = listen_all(t, &c, ret_failed);
    if (err != OK) {
        target_free(t);
        return err;
    }
    for (uint32_t i = 0; i < t->portal_count; i++) accept_next(&t->portals[i]);
    *ret_target = t;
    return OK;
}

static bool is_quiet(const struct iscsi_target *t)
{
    for (uint32_t i = 0; i < t->portal_count; i++)
        if (t->portals[i].accepting) return false;
    return t->conn_count == 0;
}

static void wake_closer(struct io_timer *timer)
{
    struct iscsi_target *t = CONTAINER(timer, struct iscsi_target, accept_again);
    io_task_wake(t->waiting);
}

static void for_all(struct iscsi_target *t, void (*what)(struct iscsi_conn *conn))
{
    for (struct list *l = t->conns.next, *next; l != &t->conns; l = next) {
        next = l->next;
        what(CONTAINER(l, struct iscsi_conn, link));
    }
}

static void ask_or_cut(struct iscsi_conn *conn)
{
    if (conn->state == CONN_FULL && !conn->discovery)
        manage_ask_to_leave(conn, conn->target->grace_ms);
    else
        conn_cut(conn);
}

void iscsi_target_close(struct iscsi_target *target, uint32_t grace_ms)
{
    if (target == NULL) return;
    target->stopping = true;
    target->grace_ms = grace_ms;
    target->waiting = io_task_self();
    io_cancel(target->io, &target->accept_again);
    for (uint32_t i = 0; i < target->portal_count; i++) io_listener_abort(target->portals[i].listener);
    for_all(target, ask_or_cut);
    uint64_t until = io_now_ns(target->io) + grace_ms * IO_MS_NS;
    target->accept_again.fire = wake_closer;
    io_after(target->io, grace_ms * IO_MS_NS, &target->accept_again);
    while (!is_quiet(target) && io_now_ns(target->io) < until) io_task_park();
    io_cancel(target->io, &target->accept_again);
    for_all(target, conn_cut);
    while (!is_quiet(target)) io_task_park();
    target_free(target);
}

void iscsi_target_abandon(struct iscsi_target *target)
{
    if (target == NULL) return;
    io_cancel(target->io, &target->accept_again);
    for (struct list *l = target->conns.next; l != &target->conns; l = l->next)
        io_cancel(target->io, &CONTAINER(l, struct iscsi_conn, link)->timer);
    mem_close(target->mem);
}

/* ---- the owner ---- */

static void admit_again(struct iscsi_conn *conn)
{
    const struct iscsi_rules *rules = &conn->target->config.rules;
    struct iscsi_access access;
    if (conn->state != CONN_FULL) {
        /* It comes again, under the new rules; or it leaves, and what it still has under way ends with it. */
        if ((conn->state == CONN_LOGIN && conn->login.began) || conn->state == CONN_LOGOUT) conn_cut(conn);
        return;
    }
    memset(&access, 0, sizeof access);
    bool admitted = rules->admit(rules->arg, conn->initiator, &access);
    memset(&access, 0, sizeof access);
    if (!admitted) {
        conn_cut(conn);
        return;
    }
    if (!conn->discovery) session_map(conn);
}

void iscsi_target_changed(struct iscsi_target *target)
{
    for_all(target, admit_again);
    /* Sessions that were cut above still hold their list of units until they are freed: not for new commands, but for those who
     * close units. */
    for (struct list *l = target->conns.next; l != &target->conns; l = l->next) {
        struct iscsi_conn *conn = CONTAINER(l, struct iscsi_conn, link);
        if (conn->state == CONN_CLOSING) scsi_nexus_done(&conn->nexus);
    }
}

bool iscsi_target_is_ending(const struct iscsi_target *target)
{
    for (const struct list *l = target->conns.next; l != &target->conns; l = l->next) {
        const struct iscsi_conn *conn = CONTAINER(l, struct iscsi_conn, link);
        if (conn->state == CONN_CLOSING && conn->busy > 0) return true;
    }
    return false;
}

const char *iscsi_target_address(const struct iscsi_target *target, uint32_t i, char *buf, size_t size)
{
    assert(i < target->portal_count);
    return io_listener_text(target->portals[i].listener, buf, size);
}

enum err iscsi_session_next(const struct iscsi_target *target, uint64_t from, struct iscsi_session_info *ret_info)
{
    for (const struct list *l = target->conns.next; l != &target->conns; l = l->next) {
        const struct iscsi_conn *c = CONTAINER(l, struct iscsi_conn, link);
        if (c->id < from || c->state == CONN_CLOSING) continue;
        *ret_info = (struct iscsi_session_info){.tsih = c->tsih,
                                                .id = c->id,
                                                .discovery = c->discovery,
                                                .full_feature = c->state == CONN_FULL,
                                                .chap = c->chap,
                                                .mutual = c->mutual,
                                                .header_digest = c->limits.header_digest,
                                                .data_digest = c->limits.data_digest,
                                                .since_ns = c->since_ns,
                                                .commands = c->commands,
                                                .bytes_in = c->bytes_in,
                                                .bytes_out = c->bytes_out,
                                                .under_way = c->busy};
        memcpy(ret_info->initiator, c->initiator, sizeof ret_info->initiator);
        memcpy(ret_info->alias, c->alias, sizeof ret_info->alias);
        memcpy(ret_info->isid, c->isid, sizeof ret_info->isid);
        io_socket_peer(c->socket, ret_info->peer, sizeof ret_info->peer);
        io_socket_local(c->socket, ret_info->portal, sizeof ret_info->portal);
        return OK;
    }
    return ERR_NO_KEY;
}

static void cut_all(struct iscsi_target *target)
{
    struct iscsi_session_info info;
    for (uint64_t from = 0; iscsi_session_next(target, from, &info) == OK; from = info.id + 1)
        iscsi_session_cut(target, info.id);
}

void iscsi_target_group(struct iscsi_target *target, uint16_t portal_group)
{
    assert(portal_group > 0);
    if (target->config.portal_group == portal_group) return;
    target->config.portal_group = portal_group;
    name_port(target);
    cut_all(target);
}

void iscsi_target_rename(struct iscsi_target *target, const char *name)
{
    assert(name[0] != '\0' && strlen(name) <= ISCSI_NAME_MAX);
    if (strcmp(target->name, name) == 0) return;
    memcpy(target->name, name, strlen(name) + 1);
    name_port(target);
    cut_all(target);
}

enum err iscsi_session_cut(struct iscsi_target *target, uint64_t id)
{
    for (struct list *l = target->conns.next; l != &target->conns; l = l->next) {
        struct iscsi_conn *c = CONTAINER(l, struct iscsi_conn, link);
        if (c->id != id || c->state == CONN_CLOSING) continue;
        conn_cut(c);
        return OK;
    }
    return ERR_NO_KEY;
}

void iscsi_target_stats(const struct iscsi_target *target, struct iscsi_stats *ret_stats)
{
    *ret_stats = target->stats;
    ret_stats->connections = target->conn_count;
    ret_stats->memory = pages_bytes(target->pages);
    ret_stats->memory_used = pages_used(target->pages);
    for (const struct list *l = target->conns.next; l != &target->conns; l = l->next) {
        const struct iscsi_conn *c = CONTAINER(l, struct iscsi_conn, link);
        ret_stats->sessions += c->state == CONN_FULL && !c->discovery;
    }
}
