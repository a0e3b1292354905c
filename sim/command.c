/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SCSI commands of an initiator: drawn, sent with their data as the session allows, and judged by their answers.
 */
#include <stdlib.h>
#include <string.h>

#include "scsi/command.h"
#include "sim/must.h"
#include "sim/serve.h"

enum { UNMAP_LIST = 24, PART_BYTES = 512 };

static uint32_t draw(struct initiator *it, uint32_t n)
{
    return (uint32_t)serve_below(it->serve, n);
}

static const struct serve_unit *unit_of(const struct command *c)
{
    return &c->by->serve->units[c->unit];
}

static void fail(const struct command *c, const char *what, uint64_t a, uint64_t b)
{
    static const char *const names[] = {"READ", "WRITE", "WRITE SAME", "UNMAP", "COMPARE AND WRITE", "a look"};
    lab_fail(c->by->serve->lab, "initiator %u: %s of unit %u, %u + %u: %s: %llx, %llx", c->by->number, names[c->verb], c->unit,
             c->lba, c->blocks, what, (unsigned long long)a, (unsigned long long)b);
}

struct command *command_find(struct initiator *it, uint32_t itt)
{
    for (struct list *l = it->commands.next; l != &it->commands; l = l->next)
        if (CONTAINER(l, struct command, link)->itt == itt) return CONTAINER(l, struct command, link);
    return NULL;
}

/* ---- values ---- */

static uint32_t draw_value(struct initiator *it)
{
    struct serve *serve = it->serve;
    uint32_t old = draw(it, 32), kind = draw(it, 8);
    if (serve->recent_count > old && draw(it, 4) == 0) return draw(it, 4) ? serve->recent[old] : 0;
    uint32_t value = ++serve->next_value << 3 | kind;
    serve->recent[value / 8 % 32] = value;
    if (serve->recent_count < 32 && serve->recent_count <= value / 8 % 32) serve->recent_count = value / 8 % 32 + 1;
    return value;
}

/* The bytes of a value: the beginning of a content of the oracle. */
static void value_to(uint32_t value, uint8_t *ret, uint32_t bytes)
{
    uint8_t block[BLOCK_SIZE];
    content_fill(value, block);
    memcpy(ret, block, bytes);
}

static bool value_from(const uint8_t *at, uint32_t bytes, uint32_t *ret_value)
{
    static const uint8_t zeros[BLOCK_SIZE];
    uint8_t expected[BLOCK_SIZE];
    *ret_value = 0;
    if (memcmp(at, zeros, bytes) == 0) return true;
    *ret_value = content_claimed(at);
    value_to(*ret_value, expected, bytes);
    return *ret_value != 0 && memcmp(at, expected, bytes) == 0;
}

/* ---- beginning ---- */

static bool draw_place(struct initiator *it, struct command *c, uint32_t most)
{
    const struct serve_mix *mix = &it->serve->mix;
    uint32_t within = mix->hot && draw(it, 8) ? mix->hot : SERVE_REGISTERS;
    c->blocks = 1 + draw(it, min32(most, within));
    c->lba = draw(it, within - c->blocks + 1);
    return registers_have_room(unit_of(c)->registers, c->lba, c->blocks);
}

static void cdb_range(struct command *c, uint8_t opcode, uint8_t flags)
{
    c->cdb[0] = opcode;
    c->cdb[1] = flags;
    if (opcode == 0x28 || opcode == 0x2a || opcode == 0x41) {
        be32_to(c->cdb + 2, c->lba);
        be16_to(c->cdb + 7, (uint16_t)c->blocks);
    } else {
        be64_to(c->cdb + 2, c->lba);
        be32_to(c->cdb + 10, c->blocks);
    }
}

static void fill_values(struct initiator *it, struct command *c, bool same)
{
    for (uint32_t i = 0; i < c->blocks; i++) c->values[i] = same && i > 0 ? c->values[0] : draw_value(it);
}

static void data_from(struct command *c, const uint32_t *values, uint32_t count, uint32_t at)
{
    uint32_t one = unit_of(c)->block_bytes;
    for (uint32_t i = 0; i < count; i++) value_to(values[i], c->data + at + (size_t)i * one, one);
}

static void make_write(struct initiator *it, struct command *c)
{
    c->out_bytes = c->blocks * unit_of(c)->block_bytes;
    c->data = must(malloc(c->out_bytes));
    fill_values(it, c, false);
    data_from(c, c->values, c->blocks, 0);
    uint8_t fua = draw(it, 8) ? 0 : 0x08;
    cdb_range(c, draw(it, 2) ? 0x2a : 0x8a, fua);
}

static void make_same(struct initiator *it, struct command *c)
{
    c->out_bytes = unit_of(c)->block_bytes;
    c->data = must(malloc(c->out_bytes));
    fill_values(it, c, true);
    if (draw(it, 2)) memset(c->values, 0, sizeof c->values);
    data_from(c, c->values, 1, 0);
    uint8_t unmap = draw(it, 2) ? 0x08 : 0;
    cdb_range(c, draw(it, 2) ? 0x41 : 0x93, unmap);
}

/* Blocks of which the volume's block is not covered whole may stay as they are when the pool is full (volume.h). */
static void make_unmap(struct initiator *it, struct command *c)
{
    (void)it;
    uint32_t one = unit_of(c)->block_bytes, part = BLOCK_SIZE / one;
    c->out_bytes = UNMAP_LIST;
    c->data = must(calloc(1, UNMAP_LIST));
    be16_to(c->data, UNMAP_LIST - 2);
    be16_to(c->data + 2, UNMAP_LIST - 8);
    be64_to(c->data + 8, c->lba);
    be32_to(c->data + 16, c->blocks);
    c->cdb[0] = 0x42;
    be16_to(c->cdb + 7, UNMAP_LIST);
    uint32_t whole = (c->lba + part - 1) / part * part, end = (c->lba + c->blocks) / part * part;
    for (uint32_t i = 0; i < c->blocks; i++) c->loose[i] = c->lba + i < whole || c->lba + i >= end;
}

static void make_swap(struct initiator *it, struct command *c)
{
    uint32_t one = unit_of(c)->block_bytes;
    c->out_bytes = 2 * c->blocks * one;
    c->data = must(malloc(c->out_bytes));
    fill_values(it, c, false);
    for (uint32_t i = 0; i < c->blocks; i++) {
        c->expected[i] = draw(it, 8) ? register_value(unit_of(c)->registers, c->lba + i) : draw_value(it);
    }
    data_from(c, c->expected, c->blocks, 0);
    data_from(c, c->values, c->blocks, c->blocks * one);
    c->cdb[0] = 0x89;
    be64_to(c->cdb + 2, c->lba);
    c->cdb[13] = (uint8_t)c->blocks;
}

static void make_read(struct initiator *it, struct command *c)
{
    c->in_bytes = c->blocks * unit_of(c)->block_bytes;
    c->data = must(malloc(c->in_bytes));
    uint8_t fua = draw(it, 8) ? 0 : 0x08;
    cdb_range(c, draw(it, 2) ? 0x28 : 0x88, fua);
}

enum {
    TEST_UNIT_READY = 0x00,
    SYNCHRONIZE_CACHE = 0x35,
    SERVICE_ACTION_IN = 0x9e,
    READ_CAPACITY_16 = 0x10,
    CAPACITY_BYTES = 32
};

static void make_look(struct initiator *it, struct command *c)
{
    static const uint8_t looks[] = {TEST_UNIT_READY, SYNCHRONIZE_CACHE, SERVICE_ACTION_IN};
    c->blocks = 0;
    c->cdb[0] = looks[draw(it, sizeof looks)];
    if (c->cdb[0] != SERVICE_ACTION_IN) return;
    c->in_bytes = CAPACITY_BYTES;
    c->data = must(malloc(c->in_bytes));
    c->cdb[1] = READ_CAPACITY_16;
    be32_to(c->cdb + 10, CAPACITY_BYTES);
}

static void (*const makes[])(struct initiator *it, struct command *c) = {
    [SERVE_READ] = make_read,   [SERVE_WRITE] = make_write, [SERVE_SAME] = make_same,
    [SERVE_UNMAP] = make_unmap, [SERVE_SWAP] = make_swap,   [SERVE_LOOK] = make_look,
};

static void judge_begin(struct command *c)
{
    enum register_kind kind = REGISTER_WRITE;
    if (c->verb == SERVE_READ) kind = REGISTER_READ;
    if (c->verb == SERVE_SWAP) kind = REGISTER_SWAP;
    for (uint32_t i = 0; i < c->blocks; i++)
        c->slots[i] = register_begin(unit_of(c)->registers, c->lba + i, kind, c->values[i], c->expected[i]);
}

/* ---- sending ---- */

static void send_data(struct initiator *it, const struct command *c, uint32_t ttt, uint32_t from, uint32_t end)
{
    uint32_t most = it->session.limits.max_transmit, sn = 0;
    while (from < end) {
        uint32_t bytes = min32(end - from, most);
        if (draw(it, 4) == 0) bytes = min32(bytes, 4 + 4 * draw(it, 1 + bytes / 4));
        struct pdu_out pdu = {.opcode = PDU_DATA_OUT, .itt = c->itt, .ttt = ttt, .data_bytes = bytes};
        pdu.lun = ttt == PDU_NO_TAG ? 0 : (uint64_t)c->unit << 48;
        pdu.flags = from + bytes == end ? PDU_FINAL : 0;
        pdu.w[3] = sn++;
        pdu.w[4] = from;
        initiator_send(it, &pdu, c->data + from);
        from += bytes;
    }
}

/* SIMPLE, and now and then ORDERED or HEAD OF QUEUE. */
static uint8_t draw_attribute(struct initiator *it)
{
    uint32_t n = draw(it, 16);
    return n < 2 ? (uint8_t)(2 + n) : 1;
}

static void command_send(struct initiator *it, struct command *c)
{
    const struct iscsi_limits *l = &it->session.limits;
    struct pdu_out pdu = {.opcode = PDU_COMMAND, .flags = draw_attribute(it), .lun = (uint64_t)c->unit << 48, .itt = c->itt};
    uint32_t first = min32(l->first_burst, c->out_bytes), immediate = 0;
    if (l->immediate_data && draw(it, 4)) immediate = min32(first, l->max_transmit);
    if (immediate > 4 && draw(it, 4) == 0) immediate = 4 + draw(it, immediate / 4) * 4;
    immediate = min32(immediate, first);
    bool unsolicited = !l->initial_r2t && immediate < first && draw(it, 2);
    if (c->out_bytes > 0) pdu.flags |= PDU_WRITE;
    if (c->in_bytes > 0) pdu.flags |= PDU_READ;
    if (!unsolicited) pdu.flags |= PDU_FINAL;
    pdu.ttt = c->out_bytes + c->in_bytes;
    pdu.data_bytes = immediate;
    pdu.w[0] = it->session.cmd_sn++;
    for (int i = 0; i < 4; i++) pdu.w[2 + i] = be32_at(c->cdb + 4 * i);
    initiator_send(it, &pdu, c->data);
    if (unsolicited) send_data(it, c, PDU_NO_TAG, immediate, first);
    c->asked = unsolicited ? first : immediate;
}

static bool may_send(const struct initiator *it)
{
    const struct session *s = &it->session;
    return it->phase == PHASE_FULL && it->command_count < it->serve->mix.depth && !sn_before(s->max_cmd_sn, s->cmd_sn) &&
           !it->wire->out_paused;
}

/* Ready for its place. */
static struct command *command_new(struct initiator *it, enum serve_action verb, uint32_t unit)
{
    struct command *c = must(calloc(1, sizeof *c));
    c->by = it;
    c->verb = verb;
    c->unit = unit;
    return c;
}

static void command_go(struct initiator *it, struct command *c)
{
    makes[c->verb](it, c);
    c->itt = ++it->next_itt;
    c->tsih = it->tsih;
    c->cmd_sn = it->session.cmd_sn;
    c->since_ns = sim_now_ns(it->serve->sim);
    c->doomed = unit_of(c)->resets > 0;
    c->least = min32(unit_of(c)->blocks, unit_of(c)->other_blocks);
    c->most = unit_of(c)->blocks + unit_of(c)->other_blocks - c->least;
    c->news = it->news[c->unit];
    list_push(&it->commands, &c->link);
    it->command_count++;
    judge_begin(c);
    rot_begin(c);
    sim_say(it->serve->sim, "initiator %u: task %x, %02x of unit %u, %u + %u", it->number, c->itt, c->cdb[0], c->unit, c->lba,
            c->blocks);
    command_send(it, c);
}

void command_start(struct initiator *it, enum serve_action verb)
{
    uint32_t most = verb == SERVE_SWAP ? 2 : it->serve->mix.blocks_max;
    if (!may_send(it)) return;
    struct command *c = command_new(it, verb, draw(it, it->serve->mix.units));
    if (verb != SERVE_LOOK && !draw_place(it, c, most)) {
        free(c);
        return;
    }
    command_go(it, c);
}

bool command_read(struct initiator *it, uint32_t unit, uint32_t lba, uint32_t blocks)
{
    if (!may_send(it) || !registers_have_room(it->serve->units[unit].registers, lba, blocks)) return false;
    struct command *c = command_new(it, SERVE_READ, unit);
    c->lba = lba;
    c->blocks = blocks;
    command_go(it, c);
    return true;
}

/* ---- the end ---- */

static void judge_block(struct command *c, uint32_t i, enum register_end end, uint32_t value)
{
    char before[200];
    struct registers *registers = unit_of(c)->registers;
    if (c->settled || lab_failed(c->by->serve->lab) || register_end(registers, c->lba + i, c->slots[i], end, value)) return;
    static const char *const ends[] = {"took place", "saw what it wanted", "saw something else", "is over", "was refused"};
    register_text(registers, c->lba + i, before, sizeof before);
    lab_fail(c->by->serve->lab, "initiator %u task %x %02x: unit %u block %u %s with %x, but it %s", c->by->number, c->itt,
             c->cdb[0], c->unit, c->lba + i, ends[end], value, before);
}

static void command_free(struct command *c)
{
    free(c->data);
    free(c);
}

/* Not of the session any more. */
static void command_unlink(struct command *c)
{
    struct initiator *it = c->by;
    bool counted = false;
    for (const struct list *l = it->commands.next; l != &it->commands && !counted; l = l->next) counted = l == &c->link;
    it->command_count -= counted;
    list_remove(&c->link);
}

void command_over(struct command *c, enum register_end end)
{
    for (uint32_t i = 0; i < c->blocks; i++)
        judge_block(c, i, c->loose[i] && end == REGISTER_DONE ? REGISTER_MAYBE : end, c->values[i]);
    command_unlink(c);
    command_free(c);
}

void command_settle(struct command *c)
{
    for (uint32_t i = 0; i < c->blocks; i++) judge_block(c, i, REGISTER_MAYBE, 0);
    c->settled = true;
}

static void read_over(struct command *c)
{
    uint32_t one = unit_of(c)->block_bytes;
    for (uint32_t i = 0; i < c->blocks; i++) {
        uint32_t value;
        if (!value_from(c->data + (size_t)i * one, one, &value)) fail(c, "a damaged block", c->lba + i, value);
        c->values[i] = value;
    }
    c->by->serve->reads++;
    command_over(c, REGISTER_DONE);
}

static void write_over(struct command *c)
{
    rot_written(c);
    command_over(c, REGISTER_DONE);
}

/* MEDIUM ERROR: a read says which block is the first that cannot be read (SBC-3 4.18.1). A change meets what describes blocks,
 * too, where reads of the disk fail; then part of it may have been done. */
static void medium_error(struct command *c, const uint8_t *sense)
{
    struct serve *serve = c->by->serve;
    bool fails = serve->faults & FAULT_READERR, told = sense[0] & 0x80;
    uint32_t lba = be32_at(sense + 3);
    bool may = fails || c->verb == SERVE_READ || c->verb == SERVE_SWAP;
    bool here = fails ? lba >= c->lba && lba - c->lba < c->blocks : rot_explains_error(c, lba);
    if (!told && (!fails || c->verb == SERVE_READ)) may = false;
    if (!may || (told && !here)) fail(c, "MEDIUM ERROR", sense[0], lba);
    serve->bad = lba;
    command_over(c, fails && c->verb != SERVE_READ ? REGISTER_MAYBE : REGISTER_NEVER);
}

/* GOOD for what is not there, or for somebody who works with a size that is not true any more. */
static void check_good(const struct command *c)
{
    bool capacity = c->cdb[0] == SERVICE_ACTION_IN;
    uint64_t blocks = capacity ? be64_at(c->data) + 1 : 0;
    if (c->lba + c->blocks > c->most) fail(c, "beyond the end of", c->most, c->least);
    if (capacity && (blocks < c->least || blocks > c->most)) fail(c, "capacity", blocks, c->most);
    if (c->verb == SERVE_READ && !rot_explains_good(c)) fail(c, "GOOD for a block that is lost", c->lba, c->blocks);
    if (c->by->told[c->unit] < c->news) fail(c, "nobody told of the new size", c->least, c->most);
}

/* The first byte that differs says which block did; those before it were as expected (SBC-3 5.2). */
static void swap_differs(struct command *c, const uint8_t *sense)
{
    uint32_t at = be32_at(sense + 3), block = at / unit_of(c)->block_bytes;
    if (!(sense[0] & 0x80) || block >= c->blocks) fail(c, "a miscompare nowhere", sense[0], at);
    for (uint32_t i = 0; i < c->blocks; i++)
        judge_block(c, i, i < block ? REGISTER_SAME : i == block ? REGISTER_DIFFERS : REGISTER_NEVER, 0);
    command_unlink(c);
    command_free(c);
}

/* CHECK CONDITION: what an initiator that does nothing wrong may be told. */
static void checked(struct command *c, const uint8_t *data, uint32_t bytes)
{
    const uint8_t *sense = data + 2;
    if (bytes < 2 + 18 || be16_at(data) + 2u != bytes) {
        fail(c, "sense of this length", bytes, 0);
        return;
    }
    uint32_t key = sense[2] & 0x0f, what = (uint32_t)sense[12] << 8 | sense[13];
    sim_say(c->by->serve->sim, "initiator %u: task %x, sense %x %04x", c->by->number, c->itt, key, what);
    if (key == 6 && (what == 0x2a09 || what == 0x2900)) c->by->told[c->unit] = c->by->news[c->unit];
    if (key == 6)
        command_over(c, REGISTER_NEVER); /* unit attention: it was not looked at */
    else if (key == 5 && what == 0x2100 && c->lba + c->blocks > c->least)
        command_over(c, c->least == c->most ? REGISTER_NEVER : REGISTER_MAYBE); /* maybe cut while it was written */
    else if (key == 3 && what == 0x1100)
        medium_error(c, sense);
    else if (key == 4 && what == 0x4400 && c->by->serve->faults & FAULT_READERR)
        command_over(c, REGISTER_MAYBE); /* the pool has stopped */
    else if (key == 0x0e && what == 0x1d00 && c->verb == SERVE_SWAP)
        swap_differs(c, sense);
    else if (key == 7 && what == 0x2707 && (c->verb == SERVE_WRITE || c->verb == SERVE_SAME || c->verb == SERVE_SWAP))
        command_over(c, REGISTER_MAYBE); /* the pool is full; some of it may be there */
    else if (key == 2 && what == 0x0401)
        command_over(c, REGISTER_MAYBE); /* the node stops */
    else
        fail(c, "sense", key, what);
}

static void status_came(struct command *c, uint8_t status, const uint8_t *data, uint32_t bytes)
{
    c->by->serve->answers++;
    sim_note(c->by->serve->sim, (uint64_t)c->itt << 8 | status);
    if (status != SCSI_GOOD || c->verb == SERVE_READ)
        sim_say(c->by->serve->sim, "initiator %u: task %x, status %02x", c->by->number, c->itt, status);
    switch (status) {
    case SCSI_GOOD:
        check_good(c);
        if (c->verb == SERVE_READ)
            read_over(c);
        else
            write_over(c);
        break;
    case SCSI_CHECK_CONDITION: checked(c, data, bytes); break;
    case SCSI_TASK_SET_FULL: command_over(c, REGISTER_NEVER); break;
    case SCSI_BUSY: command_over(c, REGISTER_MAYBE); break;
    default: fail(c, "status", status, 0); break;
    }
}

void command_response(struct initiator *it, struct command *c, const uint8_t *header, const uint8_t *data, uint32_t bytes)
{
    uint8_t status = header[3], residual = header[1] & (PDU_OVERFLOW | PDU_UNDERFLOW);
    (void)it;
    if (header[2] != 0) fail(c, "response code", header[2], 0);
    if (status == SCSI_GOOD && (residual != 0 || be32_at(header + 44) != 0))
        fail(c, "residual", residual, be32_at(header + 44));
    if (status == SCSI_GOOD && c->arrived != c->in_bytes) fail(c, "GOOD, but not all data", c->arrived, c->in_bytes);
    if (status == SCSI_GOOD && c->asked != c->out_bytes) fail(c, "GOOD, but data was not asked for", c->asked, c->out_bytes);
    if (!lab_failed(c->by->serve->lab)) status_came(c, status, data, bytes);
}

void command_data_in(struct initiator *it, struct command *c, const uint8_t *header, const uint8_t *data, uint32_t bytes)
{
    uint32_t sn = be32_at(header + 36), offset = be32_at(header + 40);
    bool final = header[1] & PDU_FINAL, status = header[1] & PDU_STATUS;
    if (sn != c->data_sn++ || offset != c->arrived) fail(c, "DataSN or offset", sn, offset);
    if (bytes > c->in_bytes - min32(c->arrived, c->in_bytes)) fail(c, "more data than wanted", c->arrived, bytes);
    c->burst += bytes;
    if (c->burst > it->session.limits.max_burst) fail(c, "a burst longer than agreed", c->burst, it->session.limits.max_burst);
    if (lab_failed(it->serve->lab)) return;
    memcpy(c->data + c->arrived, data, bytes);
    c->arrived += bytes;
    if (final) c->burst = 0;
    if (!status) return;
    if (header[3] != SCSI_GOOD || !final || c->arrived != c->in_bytes) fail(c, "status with data", header[3], c->arrived);
    if (header[1] & (PDU_OVERFLOW | PDU_UNDERFLOW)) fail(c, "residual with data", header[1], 0);
    if (!lab_failed(it->serve->lab)) status_came(c, header[3], NULL, 0);
}

void command_r2t(struct initiator *it, struct command *c, const uint8_t *header)
{
    uint32_t ttt = be32_at(header + 20), sn = be32_at(header + 36), offset = be32_at(header + 40), bytes = be32_at(header + 44);
    if (sn != c->r2t_sn++ || offset != c->asked) fail(c, "R2TSN or offset", sn, offset);
    if (bytes == 0 || bytes > it->session.limits.max_burst || bytes > c->out_bytes - offset)
        fail(c, "R2T length", offset, bytes);
    if (ttt == PDU_NO_TAG) fail(c, "R2T without a tag", ttt, 0);
    if (lab_failed(it->serve->lab)) return;
    c->asked += bytes;
    if (it->wire != NULL) send_data(it, c, ttt, offset, offset + bytes);
}
