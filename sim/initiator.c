/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The session of an initiator: connects, logs in, sends, and checks everything that comes back against what the session has
 * agreed. Nothing here waits: what comes in is dealt with when it comes, what to do next is said by serve.c.
 */
#include <stdlib.h>
#include <string.h>

#include "sim/serve.h"

#define PATIENCE_NS (20 * IO_S_NS)
#define LIMIT_NS (900 * IO_S_NS)

enum { TMF_ABORT_TASK = 1, TMF_ABORT_TASK_SET = 2, TMF_LUN_RESET = 5, TMF_WARM_RESET = 6, TMF_COLD_RESET = 7 };
enum { TMF_COMPLETE = 0, TMF_REJECTED = 255 };
enum { NOP_MAX = 200 << 10 };

static uint64_t now(const struct initiator *it)
{
    return sim_now_ns(it->serve->sim);
}

static void fail(struct initiator *it, const char *what, uint64_t a, uint64_t b)
{
    lab_fail(it->serve->lab, "initiator %u: %s: %llu, %llu", it->number, what, (unsigned long long)a, (unsigned long long)b);
}

static void phase_set(struct initiator *it, enum phase phase)
{
    it->phase = phase;
    it->since_ns = now(it);
}

/* ---- the connection ---- */

void initiator_connect(struct initiator *it)
{
    if (it->phase != PHASE_IDLE) return;
    sim_say(it->serve->sim, "initiator %u: connects", it->number);
    phase_set(it, PHASE_CONNECT);
    it->wire = wire_open(it);
}

static bool function_is_of(const struct function *f, uint32_t unit)
{
    return f->code >= TMF_WARM_RESET || f->unit == unit;
}

static bool function_resets(const struct function *f, uint32_t unit)
{
    return f->code >= TMF_WARM_RESET || (f->code == TMF_LUN_RESET && f->unit == unit);
}

/* The commands of the session are lost: they may take place until it is known that the session is no more. */
static void session_lost(struct initiator *it)
{
    for (struct list *l; (l = list_pop(&it->commands)) != NULL;) {
        list_push(&it->lost, l);
        it->serve->unanswered++;
        struct command *c = CONTAINER(l, struct command, link);
        if (c->verb == SERVE_READ || c->settled) command_over(c, REGISTER_MAYBE); /* nobody will ever know what it saw */
    }
    it->command_count = 0;
    for (uint32_t unit = 0; it->function.used && unit < SERVE_UNITS; unit++) {
        it->lost_functions[unit] += function_is_of(&it->function, unit);
        it->lost_resets[unit] += function_resets(&it->function, unit);
    }
    it->function.used = it->nop_under_way = it->text_under_way = false;
    phase_set(it, PHASE_IDLE);
}

void initiator_drop(struct initiator *it)
{
    struct wire *wire = it->wire;
    it->wire = NULL;
    session_lost(it);
    if (wire != NULL) wire_drop(wire);
}

void initiator_lost(struct initiator *it)
{
    sim_say(it->serve->sim, "initiator %u: its connection is lost", it->number);
    it->losses++;
    initiator_drop(it);
}

void initiator_connected(struct initiator *it, enum err err)
{
    sim_say(it->serve->sim, "initiator %u: %s", it->number, err == OK ? "connected" : "not connected");
    if (err != OK) {
        initiator_drop(it);
        return;
    }
    phase_set(it, PHASE_LOGIN);
    login_begin(it);
}

void initiator_power_cut(struct initiator *it)
{
    it->wire = NULL;
    session_lost(it);
}

/* Two sessions of one name and ISID cannot both live: the one with the later TSIH began when the other was over. */
static void settle_older(struct initiator *other, uint16_t tsih)
{
    for (struct list *l = other->lost.next, *next; l != &other->lost; l = next) {
        struct command *c = CONTAINER(l, struct command, link);
        next = l->next;
        if (c->tsih < tsih) command_over(c, REGISTER_MAYBE);
    }
    for (struct list *l = other->commands.next; l != &other->commands; l = l->next) {
        struct command *c = CONTAINER(l, struct command, link);
        if (c->tsih < tsih) command_settle(c);
    }
}

void initiator_takes_over(struct initiator *it)
{
    for (uint32_t i = 0; i < it->serve->mix.initiators; i++) {
        struct initiator *other = &it->serve->initiators[i];
        if (other != it && other->as == it->as && other->isid == it->isid) settle_older(other, it->tsih);
    }
    initiator_settle(it);
}

/* What it sent when its session was over already, and it did not know. */
void initiator_was_replaced(struct initiator *it)
{
    const struct initiator *other = &it->serve->initiators[it->as];
    if (initiator_is_twin(it) && other->phase == PHASE_FULL && !other->plan.discovery) settle_older(it, other->tsih);
}

bool initiator_is_twin(const struct initiator *it)
{
    return it->as != it->number;
}

void initiator_settle(struct initiator *it)
{
    while (!list_empty(&it->lost)) command_over(CONTAINER(it->lost.next, struct command, link), REGISTER_MAYBE);
    for (uint32_t i = 0; i < SERVE_UNITS; i++) {
        it->serve->units[i].functions -= it->lost_functions[i];
        it->serve->units[i].resets -= it->lost_resets[i];
        it->lost_functions[i] = it->lost_resets[i] = 0;
    }
}

/* ---- out ---- */

void initiator_send(struct initiator *it, struct pdu_out *pdu, const void *data)
{
    pdu->w[1] = it->session.stat_sn;
    wire_send(it->wire, pdu, data);
}

static void send_nop(struct initiator *it)
{
    static uint8_t data[NOP_MAX];
    uint32_t top = serve_below(it->serve, 4) ? 200 : NOP_MAX;
    struct pdu_out pdu = {.opcode = (enum pdu_opcode)(PDU_NOP_OUT | 0x40), .flags = PDU_FINAL, .ttt = PDU_NO_TAG};
    if (it->nop_under_way) return;
    it->nop_under_way = true;
    pdu.itt = it->nop_itt = ++it->next_itt;
    pdu.data_bytes = min32((uint32_t)serve_below(it->serve, top), it->session.limits.max_transmit);
    it->nop_bytes = min32(pdu.data_bytes, it->plan.declared);
    pdu.w[0] = it->session.cmd_sn;
    memset(data, (int)(pdu.itt & 0xff), sizeof data);
    initiator_send(it, &pdu, data);
}

/* In a discovery session all targets are asked for, else the one that we are logged in to. */
static void send_text(struct initiator *it)
{
    static const char all[] = "SendTargets=All", ours[] = "SendTargets=";
    const char *text = it->plan.discovery ? all : ours;
    struct pdu_out pdu = {.opcode = (enum pdu_opcode)(PDU_TEXT | 0x40), .flags = PDU_FINAL, .ttt = PDU_NO_TAG};
    if (it->text_under_way) return;
    it->text_under_way = true;
    pdu.itt = it->text_itt = ++it->next_itt;
    pdu.data_bytes = (uint32_t)strlen(text) + 1;
    pdu.w[0] = it->session.cmd_sn;
    initiator_send(it, &pdu, text);
}

/* From now on others may be refused because of it, or it because of them, and commands of others may stay without an answer. */
static void function_begins(struct initiator *it, struct function *f, uint32_t unit)
{
    struct serve_unit *u = &it->serve->units[unit];
    if (!function_is_of(f, unit)) return;
    f->met |= u->functions++ > 0;
    u->resets += function_resets(f, unit);
    for (uint32_t i = 0; i < it->serve->mix.initiators; i++) {
        struct initiator *other = &it->serve->initiators[i];
        if (other == it) continue;
        other->function.met |= function_is_of(&other->function, unit);
        for (struct list *l = other->commands.next; function_resets(f, unit) && l != &other->commands; l = l->next) {
            struct command *theirs = CONTAINER(l, struct command, link);
            theirs->doomed |= theirs->unit == unit;
        }
    }
}

static void send_function(struct initiator *it, uint8_t code, uint32_t unit, const struct command *c)
{
    struct function *f = &it->function;
    if (f->used) return;
    *f = (struct function){.used = true,
                           .code = code,
                           .itt = ++it->next_itt,
                           .ref_itt = c != NULL ? c->itt : PDU_NO_TAG,
                           .cmd_sn = it->session.cmd_sn,
                           .unit = unit,
                           .since_ns = now(it)};
    struct pdu_out pdu = {.opcode = (enum pdu_opcode)(PDU_MANAGE | 0x40),
                          .flags = (uint8_t)(PDU_FINAL | code),
                          .lun = (uint64_t)unit << 48,
                          .itt = f->itt,
                          .ttt = f->ref_itt,
                          .w = {f->cmd_sn, 0, c != NULL ? c->cmd_sn : 0}};
    sim_say(it->serve->sim, "initiator %u: function %u, task %x", it->number, code, f->ref_itt);
    for (uint32_t i = 0; i < SERVE_UNITS; i++) function_begins(it, f, i);
    initiator_send(it, &pdu, NULL);
}

static void send_logout(struct initiator *it)
{
    struct pdu_out pdu = {.opcode = (enum pdu_opcode)(PDU_LOGOUT | 0x40), .flags = PDU_FINAL, .itt = ++it->next_itt};
    pdu.w[0] = it->session.cmd_sn;
    initiator_send(it, &pdu, NULL);
    phase_set(it, PHASE_LEAVING);
}

/* ---- in ---- */

static bool numbers_are_right(struct initiator *it, const uint8_t *h, bool counts)
{
    struct session *s = &it->session;
    uint32_t stat_sn = be32_at(h + 24), exp_cmd_sn = be32_at(h + 28), max_cmd_sn = be32_at(h + 32);
    if (counts && stat_sn != s->stat_sn) fail(it, "StatSN", stat_sn, s->stat_sn);
    if (counts) s->stat_sn++;
    if (sn_before(max_cmd_sn, s->max_cmd_sn)) fail(it, "MaxCmdSN goes back", s->max_cmd_sn, max_cmd_sn);
    if (sn_before(exp_cmd_sn, s->exp_cmd_sn)) fail(it, "ExpCmdSN goes back", s->exp_cmd_sn, exp_cmd_sn);
    if (sn_before(s->cmd_sn, exp_cmd_sn)) fail(it, "ExpCmdSN of the future", s->cmd_sn, exp_cmd_sn);
    s->exp_cmd_sn = exp_cmd_sn;
    s->max_cmd_sn = max_cmd_sn;
    return !lab_failed(it->serve->lab);
}

static void nop_in(struct initiator *it, const uint8_t *h, const uint8_t *data, uint32_t bytes)
{
    uint32_t itt = be32_at(h + 16), ttt = be32_at(h + 20);
    if (itt == PDU_NO_TAG && ttt == PDU_NO_TAG) return; /* it was about the window */
    if (itt == PDU_NO_TAG) {
        struct pdu_out pong = {
            .opcode = (enum pdu_opcode)(PDU_NOP_OUT | 0x40), .flags = PDU_FINAL, .itt = PDU_NO_TAG, .ttt = ttt};
        pong.w[0] = it->session.cmd_sn;
        initiator_send(it, &pong, NULL);
        return;
    }
    if (!it->nop_under_way || itt != it->nop_itt) fail(it, "an answer to a NOP that was not sent", itt, it->nop_itt);
    if (bytes != it->nop_bytes) fail(it, "the length of a NOP", bytes, it->nop_bytes);
    for (uint32_t i = 0; i < bytes; i++)
        if (data[i] != (uint8_t)itt) fail(it, "the echo of a NOP", data[i], itt & 0xff);
    it->nop_under_way = false;
}

static void text_in(struct initiator *it, const uint8_t *h, const uint8_t *data, uint32_t bytes)
{
    static const char name[] = "TargetName=" SERVE_TARGET, address[] = "TargetAddress=" SERVE_ADDRESS ",1";
    if (!it->text_under_way || be32_at(h + 16) != it->text_itt) fail(it, "an answer to a text that was not sent", 0, 0);
    bool right = bytes == sizeof name + sizeof address && memcmp(data, name, sizeof name) == 0;
    if (!right || memcmp(data + sizeof name, address, sizeof address) != 0) fail(it, "SendTargets answered", bytes, 0);
    if (h[1] != PDU_FINAL || be32_at(h + 20) != PDU_NO_TAG) fail(it, "text in parts", h[1], be32_at(h + 20));
    it->text_under_way = false;
}

static bool function_names(const struct function *f, const struct command *c)
{
    if (f->code == TMF_ABORT_TASK) return c->itt == f->ref_itt;
    return function_is_of(f, c->unit) && sn_before(c->cmd_sn, f->cmd_sn);
}

/* The tasks that the function names have changed what they ever will. It may be refused because of another one only. */
static void function_over(struct initiator *it, const uint8_t *h)
{
    struct function f = it->function;
    uint8_t response = h[2];
    if (!f.used || be32_at(h + 16) != f.itt) fail(it, "an answer to a function that was not sent", be32_at(h + 16), f.itt);
    if (response != TMF_COMPLETE && !(response == TMF_REJECTED && f.met)) fail(it, "function answered", f.code, response);
    sim_say(it->serve->sim, "initiator %u: function %u answered, %u", it->number, f.code, response);
    it->function.used = false;
    for (uint32_t unit = 0; unit < SERVE_UNITS; unit++) {
        it->serve->units[unit].functions -= function_is_of(&f, unit);
        it->serve->units[unit].resets -= function_resets(&f, unit);
    }
    if (response != TMF_COMPLETE || lab_failed(it->serve->lab)) return;
    for (struct list *l = it->commands.next, *next; l != &it->commands; l = next) {
        struct command *c = CONTAINER(l, struct command, link);
        next = l->next;
        if (!function_names(&f, c)) continue;
        it->serve->unanswered++;
        command_over(c, REGISTER_MAYBE);
    }
}

static void full_pdu(struct initiator *it, const uint8_t *h, const uint8_t *data, uint32_t bytes)
{
    uint8_t opcode = h[0] & 0x3f;
    uint32_t itt = be32_at(h + 16);
    bool of_task = opcode == PDU_RESPONSE || opcode == PDU_DATA_IN || opcode == PDU_R2T;
    struct command *c = of_task ? command_find(it, itt) : NULL;
    bool tells = opcode == PDU_R2T || (opcode == PDU_NOP_IN && itt == PDU_NO_TAG); /* the next StatSN, without taking it */
    bool counts = opcode == PDU_DATA_IN ? h[1] & PDU_STATUS : !tells;
    if (tells && be32_at(h + 24) != it->session.stat_sn) fail(it, "StatSN told", be32_at(h + 24), it->session.stat_sn);
    if (of_task && c == NULL) fail(it, "an answer to a task that is not there", opcode, itt);
    if (!numbers_are_right(it, h, counts)) return;
    switch (opcode) {
    case PDU_RESPONSE: command_response(it, c, h, data, bytes); break;
    case PDU_DATA_IN: command_data_in(it, c, h, data, bytes); break;
    case PDU_R2T: command_r2t(it, c, h); break;
    case PDU_NOP_IN: nop_in(it, h, data, bytes); break;
    case PDU_MANAGE_RESPONSE: function_over(it, h); break;
    case PDU_TEXT_RESPONSE: text_in(it, h, data, bytes); break;
    case PDU_ASYNC: break; /* asked to leave: it stays until it is cut */
    case PDU_LOGOUT_RESPONSE:
        if (h[2] != 0 || it->phase != PHASE_LEAVING) fail(it, "logout answered", h[2], it->phase);
        initiator_drop(it);
        break;
    case PDU_REJECT: fail(it, "rejected", h[2], bytes > 0 ? data[0] : 0); break;
    default: fail(it, "a PDU that no target sends", opcode, itt); break;
    }
}

void initiator_pdu(struct initiator *it, const uint8_t *header, const uint8_t *data, uint32_t bytes)
{
    uint8_t opcode = header[0] & 0x3f;
    bool login = it->phase == PHASE_LOGIN;
    if (login != (opcode == PDU_LOGIN_RESPONSE)) {
        fail(it, "a PDU in the wrong phase", opcode, it->phase);
    } else if (login) {
        login_answer(it, header, data, bytes);
    } else {
        full_pdu(it, header, data, bytes);
    }
}

/* ---- what to do next ---- */

static struct command *any_command(struct initiator *it)
{
    uint64_t n = it->command_count > 0 ? serve_below(it->serve, it->command_count) : 0;
    struct list *l = it->commands.next;
    for (; n > 0; n--) l = l->next;
    return l != &it->commands ? CONTAINER(l, struct command, link) : NULL;
}

static void do_pause(struct initiator *it, bool in)
{
    if (it->serve->calm) return;
    sim_say(it->serve->sim, "initiator %u: stops to %s", it->number, in ? "receive" : "send");
    if (in)
        it->wire->in_paused = true;
    else
        it->wire->out_paused = true;
}

static void act_in_session(struct initiator *it, enum serve_action action)
{
    uint32_t unit = (uint32_t)serve_below(it->serve, it->serve->mix.units);
    struct command *c = any_command(it);
    switch (action) {
    case SERVE_READ:
    case SERVE_WRITE:
    case SERVE_SAME:
    case SERVE_UNMAP:
    case SERVE_SWAP:
    case SERVE_LOOK: command_start(it, action); break;
    case SERVE_NOP: send_nop(it); break;
    case SERVE_TEXT: send_text(it); break;
    case SERVE_ABORT_TASK:
        if (c != NULL) send_function(it, TMF_ABORT_TASK, c->unit, c);
        break;
    case SERVE_ABORT_SET: send_function(it, TMF_ABORT_TASK_SET, unit, NULL); break;
    case SERVE_LUN_RESET: send_function(it, TMF_LUN_RESET, unit, NULL); break;
    case SERVE_WARM_RESET: send_function(it, TMF_WARM_RESET, 0, NULL); break;
    case SERVE_COLD_RESET: send_function(it, TMF_COLD_RESET, 0, NULL); break;
    case SERVE_LOGOUT: send_logout(it); break;
    case SERVE_DROP:
    case SERVE_LOSE:
    case SERVE_PAUSE_IN:
    case SERVE_PAUSE_OUT:
    case SERVE_RESUME:
    case SERVE_CUT:
    case SERVE_RESTART:
    case SERVE_BAN:
    case SERVE_EXPEL:
    case SERVE_RESIZE:
    case SERVE_SLEEP:
    case SERVE_ACTIONS: break;
    }
}

void initiator_act(struct initiator *it, enum serve_action action)
{
    if (it->phase == PHASE_IDLE) {
        bool owes = !list_empty(&it->lost) || it->lost_functions[0] + it->lost_functions[1] > 0;
        if (!owes && !it->serve->mix.twins && serve_below(it->serve, 8) == 0) it->isid++; /* not the same session again */
        initiator_connect(it);
    } else if (action == SERVE_DROP) {
        sim_say(it->serve->sim, "initiator %u: leaves without a word", it->number);
        initiator_drop(it);
    } else if (it->phase == PHASE_CONNECT) {
        return;
    } else if (action == SERVE_LOSE) {
        if (it->wire->socket != NULL) sim_socket_lose(it->wire->socket, (enum sim_loss)serve_below(it->serve, SIM_LOSSES));
    } else if (action == SERVE_PAUSE_IN || action == SERVE_PAUSE_OUT) {
        do_pause(it, action == SERVE_PAUSE_IN);
    } else if (action == SERVE_RESUME) {
        wire_resume(it->wire);
    } else if (it->phase == PHASE_FULL && !it->plan.discovery) {
        act_in_session(it, action);
    } else if (it->phase == PHASE_FULL) {
        act_in_session(it, serve_below(it->serve, 3) ? SERVE_TEXT : SERVE_LOGOUT);
    }
}

/* ---- patience ---- */

static void look_after_commands(struct initiator *it)
{
    bool paused = it->wire->in_paused || it->wire->out_paused;
    for (struct list *l = it->commands.next; l != &it->commands; l = l->next) {
        struct command *c = CONTAINER(l, struct command, link);
        uint64_t age = now(it) - c->since_ns;
        if (age > LIMIT_NS && !c->doomed && !paused) {
            fail(it, "a command is not answered", c->itt, c->cdb[0]);
            return;
        }
        if (age > PATIENCE_NS && c->doomed) {
            send_function(it, TMF_ABORT_TASK, c->unit, c);
            return;
        }
    }
}

void initiator_look_after(struct initiator *it)
{
    uint64_t age = now(it) - it->since_ns;
    if (it->wire == NULL || lab_failed(it->serve->lab)) return;
    if (it->phase == PHASE_FULL) look_after_commands(it);
    if (it->phase == PHASE_FULL && it->plan.discovery && it->serve->calm) send_logout(it);
    bool late = it->phase != PHASE_FULL && it->phase != PHASE_CONNECT && age > 2 * PATIENCE_NS;
    late |= it->function.used && now(it) - it->function.since_ns > 4 * PATIENCE_NS;
    if (late) initiator_drop(it);
}

bool initiator_is_banned(const struct initiator *it)
{
    return it->banned_ns >= it->since_ns && it->banned_ns > 0;
}

bool initiator_is_quiet(const struct initiator *it)
{
    bool open = !sn_before(it->session.max_cmd_sn, it->session.cmd_sn); /* the window */
    return it->phase == PHASE_FULL && !it->plan.discovery && open && it->command_count == 0 && !it->text_under_way &&
           !it->function.used && !it->nop_under_way && list_empty(&it->lost);
}
