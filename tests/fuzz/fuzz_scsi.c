/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: no CDB and no parameter list harms the SCSI layer; what it answers is well formed and no longer than what was asked
 * for; what reads and writes move is what the CDB names; and nothing of earlier commands' memory comes out with an answer.
 * Method: an input is a volume and up to COMMANDS_MAX commands, which this file carries out as a transport does (command.h),
 * each piece of memory exactly as large as it was asked for. All of it is played twice over memory that held different bytes:
 * the answers must be the same.
 *
 *     byte 0    bits: 4 KiB blocks, unit read-only, LUN read-only, small volume
 *     byte 1    seed: order in which requests of the volume end
 *     then for each command
 *       u8      how: see enum how
 *       u8      of HOW_FAILS: error and how many requests later
 *       u32     bytes that the initiator offers
 *       u8[16]  CDB
 *       u16     bytes of data that follow; repeated, they are what comes out of the initiator
 */
#include "base/mem.h"
#include "fuzz/stand_in.h"
#include "scsi/command.h"

enum { COMMANDS_MAX = 16, HEAD = 24, SMALL = 16 * BLOCK_SIZE, MOVED_MAX = 10 << 20 };

enum how {
    HOW_LUN = 3,      /* 0: LUN 0; 1: LUN 0 of another nexus; 2: a LUN that is not there; 3: LUN 5, flat, read-only */
    HOW_SHORT = 4,    /* half of the data comes */
    HOW_RESIZED = 8,  /* the volume's size changes before it runs */
    HOW_FAILS = 16,   /* a request of the volume fails */
    HOW_DROPPED = 32, /* it is planned, and never run */
    HOW_LOST = 64,    /* its data comes out of order */
    HOW_WAITS = 128,  /* it runs together with the next command */
};

struct play {
    struct scsi_unit *unit;
    uint32_t block_bytes;
    struct scsi_nexus nexuses[2];
    uint8_t fill;
    uint64_t moved;
    uint64_t digest; /* of all answers */
};

struct trial {
    struct scsi_command command;
    struct play *play;
    uint8_t how;
    const uint8_t *data;
    uint32_t data_bytes;
    uint32_t want;
    bool over;
};

/* ---- memory ---- */

static uint32_t piece_bytes(const struct scsi_command *c, uint32_t i)
{
    return min32(SCSI_PIECE, c->room_bytes - i * SCSI_PIECE);
}

/* Whole pieces are kept for the next command: getting them from the system costs more than the commands. */
static uint8_t *spare[2 * SCSI_PIECES_MAX];
static uint32_t spare_count;

static uint8_t *memory(size_t size, uint8_t fill)
{
    bool whole = size == SCSI_PIECE && spare_count > 0;
    uint8_t *at = whole ? spare[--spare_count] : aligned_alloc(BLOCK_SIZE, size);
    if (at == NULL) exit(2);
    memset(at, fill, size);
    return at;
}

static void memory_back(uint8_t *at, size_t size)
{
    if (at != NULL && size == SCSI_PIECE && spare_count < sizeof spare / sizeof spare[0])
        spare[spare_count++] = at;
    else
        free(at);
}

static void give_memory(struct scsi_command *c, uint8_t fill)
{
    c->scratch = c->scratch_wanted ? memory(SCSI_PIECE, fill) : NULL;
    c->data.count = 0;
    for (uint32_t i = 0; i * SCSI_PIECE < c->room_bytes; i++) {
        REQUIRE(i < SCSI_PIECES_MAX);
        c->data.piece[i] = memory(piece_bytes(c, i), fill);
        c->data.count++;
    }
}

static void take_memory(struct scsi_command *c)
{
    for (uint32_t i = 0; i < c->data.count; i++) memory_back(c->data.piece[i], piece_bytes(c, i));
    c->data.count = 0;
    memory_back(c->scratch, SCSI_PIECE);
    c->scratch = NULL;
}

static uint8_t out_byte(const struct trial *t, uint64_t i)
{
    return t->data_bytes > 0 ? t->data[i % t->data_bytes] : 0;
}

/* ---- what must hold ---- */

static void require_pointer(const struct trial *t, const uint8_t *specific)
{
    uint32_t at = be16_at(specific + 1);
    REQUIRE((specific[0] & 0x80) && at < (specific[0] & 0x40 ? 16 : t->command.out_have));
}

/* Fixed format (SPC-4 4.5.3): a key and a code that belong together, a field pointer into what was sent. */
static void require_fixed(const struct trial *t, const uint8_t *s, uint32_t bytes)
{
    REQUIRE(bytes == 18 && s[1] == 0 && s[7] == 18 - 8);
    REQUIRE(s[2] > 0 && s[2] <= 0x0e && s[12] != 0);
    REQUIRE((s[0] & 0x80) || (s[3] | s[4] | s[5] | s[6]) == 0);
    if (s[15] != 0) require_pointer(t, s + 15);
    REQUIRE(s[15] == 0 || s[2] == 5);
}

/* Descriptor format (4.5.2): the same, and descriptors that end where the sense data ends. */
static void require_descriptors(const struct trial *t, const uint8_t *s, uint32_t bytes)
{
    REQUIRE(bytes >= 8 && bytes == 8u + s[7] && s[1] > 0 && s[1] <= 0x0e && s[2] != 0);
    for (uint32_t at = 8; at < bytes; at += 2u + s[at + 1]) {
        REQUIRE(bytes - at >= 2 && bytes - at >= 2u + s[at + 1]);
        REQUIRE((s[at] == 0 && s[at + 1] == 10 && s[at + 2] == 0x80) || (s[at] == 2 && s[at + 1] == 6 && s[1] == 5));
        if (s[at] == 2) require_pointer(t, s + at + 4);
    }
}

static void require_sense(const struct trial *t)
{
    const struct scsi_command *c = &t->command;
    if (c->status != SCSI_CHECK_CONDITION) {
        REQUIRE(c->sense_bytes == 0);
        return;
    }
    REQUIRE(c->in_bytes == 0 && ((c->sense[0] & 0x7f) == 0x70 || c->sense[0] == 0x72));
    if (c->sense[0] == 0x72)
        require_descriptors(t, c->sense, c->sense_bytes);
    else
        require_fixed(t, c->sense, c->sense_bytes);
}

/* What the initiator has room for, as the CDB says (SPC-4, SBC-3); 0: commands that send nothing. */
static uint64_t allocation(const struct trial *t)
{
    const uint8_t *cdb = t->command.cdb;
    uint64_t one = t->play->block_bytes;
    switch (cdb[0]) {
    case 0x03:
    case 0x1a: return cdb[4];
    case 0x12: return be16_at(cdb + 3);
    case 0x37:
    case 0x5a: return be16_at(cdb + 7);
    case 0x25: return 8;
    case 0x9e: return be32_at(cdb + 10);
    case 0xa0:
    case 0xa3:
    case 0xb7: return be32_at(cdb + 6);
    case 0x08: return one * (cdb[4] == 0 ? 256 : cdb[4]);
    case 0x28: return one * be16_at(cdb + 7);
    case 0xa8: return one * be32_at(cdb + 6);
    case 0x88: return one * be32_at(cdb + 10);
    default: return 0;
    }
}

static uint64_t first_byte(const struct trial *t)
{
    const uint8_t *cdb = t->command.cdb;
    uint64_t one = t->play->block_bytes;
    if (cdb[0] < 0x20) return one * (be24_at(cdb + 1) & 0x1fffff);
    return one * (cdb[0] >= 0x80 && cdb[0] < 0xa0 ? be64_at(cdb + 2) : be32_at(cdb + 2));
}

static bool is_read(uint8_t opcode)
{
    return opcode == 0x08 || opcode == 0x28 || opcode == 0x88 || opcode == 0xa8;
}

static bool is_write(uint8_t opcode)
{
    bool verifies = opcode == 0x2e || opcode == 0x8e || opcode == 0xae; /* WRITE AND VERIFY */
    return verifies || opcode == 0x0a || opcode == 0x2a || opcode == 0x8a || opcode == 0xaa;
}

/* VERIFY with data to compare: after how many bytes that data begins anew; 0: it is no such command. */
static uint64_t verify_period(const struct trial *t)
{
    const uint8_t *cdb = t->command.cdb;
    uint32_t check = cdb[1] >> 1 & 3; /* BYTCHK */
    if (cdb[0] != 0x2f && cdb[0] != 0x8f && cdb[0] != 0xaf) return 0;
    return check == 1 ? UINT64_MAX : check == 3 ? t->play->block_bytes : 0;
}

/* What came of the data, in whole blocks. */
static uint64_t bytes_that_came(const struct trial *t)
{
    return t->command.out_have / t->play->block_bytes * t->play->block_bytes;
}

static uint64_t verify_bytes(const struct trial *t)
{
    const uint8_t *cdb = t->command.cdb;
    uint64_t blocks = cdb[0] == 0x2f ? be16_at(cdb + 7) : cdb[0] == 0x8f ? be32_at(cdb + 10) : be32_at(cdb + 6);
    return verify_period(t) == UINT64_MAX ? bytes_that_came(t) : blocks * t->play->block_bytes;
}

/* The medium from `at` on is what the initiator sent from `from` on, again and again after `period` bytes. */
static bool is_same(const struct trial *t, uint64_t at, uint64_t bytes, uint64_t from, uint64_t period)
{
    const uint8_t *medium = stand_in_content() + at;
    uint64_t sent = 0, in_data = t->data_bytes > 0 ? from % t->data_bytes : 0;
    for (uint64_t i = 0; i < bytes; i++) {
        if (medium[i] != (t->data_bytes > 0 ? t->data[in_data] : 0)) return false;
        if (++in_data >= t->data_bytes) in_data = 0;
        if (++sent < period) continue;
        sent = 0;
        in_data = t->data_bytes > 0 ? from % t->data_bytes : 0;
    }
    return true;
}

/* How much of the answer from byte `i` on lies in one piece. */
static uint32_t stretch(const struct scsi_command *c, uint32_t i)
{
    return min32(c->in_bytes - i, SCSI_PIECE - (c->data.lead + i) % SCSI_PIECE);
}

/* MISCOMPARE is said of what differs only. */
static void require_miscompare(const struct trial *t)
{
    const struct scsi_command *c = &t->command;
    uint8_t key = (c->sense[0] & 0x7f) == 0x70 ? c->sense[2] : c->sense[1];
    if (key != 0x0e || (t->how & HOW_FAILS)) return;
    uint64_t bytes = c->cdb[0] == 0x89 ? (uint64_t)c->cdb[13] * t->play->block_bytes : verify_bytes(t);
    REQUIRE(!is_same(t, first_byte(t), bytes, 0, c->cdb[0] == 0x89 ? UINT64_MAX : verify_period(t)));
}

/* Commands alone on the volume: nothing else may have changed what they read or wrote. */
static void require_data(const struct trial *t)
{
    const struct scsi_command *c = &t->command;
    uint64_t at = first_byte(t);
    if (t->how & HOW_WAITS) return;
    if (c->status == SCSI_CHECK_CONDITION) require_miscompare(t);
    if (c->status != SCSI_GOOD) return;
    if (is_read(c->cdb[0])) {
        REQUIRE(c->in_bytes == allocation(t));
        for (uint32_t i = 0, n; (n = stretch(c, i)) > 0; i += n)
            REQUIRE(memcmp(scsi_data_at(&c->data, i), stand_in_content() + at + i, n) == 0);
    }
    if (is_write(c->cdb[0])) {
        REQUIRE(is_same(t, at, bytes_that_came(t), 0, UINT64_MAX));
    }
    if (c->cdb[0] == 0x89) { /* COMPARE AND WRITE: the second half stands there now */
        uint64_t half = (uint64_t)c->cdb[13] * t->play->block_bytes;
        REQUIRE(c->out_have == 2 * half && is_same(t, at, half, half, UINT64_MAX));
    }
    if (verify_period(t) > 0) REQUIRE(is_same(t, at, verify_bytes(t), 0, verify_period(t)));
    if (c->cdb[0] == 0x41 || c->cdb[0] == 0x93) {
        uint64_t one = t->play->block_bytes, blocks = c->cdb[0] == 0x41 ? be16_at(c->cdb + 7) : be32_at(c->cdb + 10);
        bool empty = c->cdb[1] & 1; /* NDOB */
        for (uint64_t i = 0; empty && i < one * blocks; i++) REQUIRE(stand_in_content()[at + i] == 0);
        REQUIRE(empty || is_same(t, at, one * blocks, 0, one));
    }
}

static void remember(struct play *play, const void *at, size_t size)
{
    play->digest = hash64(at, size, play->digest);
}

static void require_answer(struct trial *t)
{
    struct scsi_command *c = &t->command;
    REQUIRE(c->status == SCSI_GOOD || c->status == SCSI_CHECK_CONDITION || c->status == SCSI_BUSY);
    REQUIRE(c->out || c->out_bytes == 0);
    REQUIRE(!c->out || c->in_bytes == 0);
    REQUIRE(c->in_bytes <= allocation(t));
    REQUIRE(c->in_bytes == 0 || c->lead + (uint64_t)c->in_bytes <= c->room_bytes);
    require_sense(t);
    require_data(t);
    uint32_t head[3] = {c->status, c->sense_bytes, c->in_bytes};
    remember(t->play, head, sizeof head);
    remember(t->play, c->sense, c->sense_bytes);
    for (uint32_t i = 0, n; (n = stretch(c, i)) > 0; i += n) remember(t->play, scsi_data_at(&c->data, i), n);
}

/* ---- a command ---- */

static void command_done(struct scsi_command *command)
{
    struct trial *t = CONTAINER(command, struct trial, command);
    REQUIRE(!t->over);
    t->over = true;
}

static void trial_init(struct trial *t, struct play *play, const uint8_t head[HEAD], const uint8_t *data, uint32_t bytes)
{
    static const uint64_t luns[] = {0, 0, 0x0009000000000000u, 0x4005000000000000u};
    static const enum err errors[] = {ERR_NO_SPACE,  ERR_MEDIUM,      ERR_IO,        ERR_STOPPED,
                                      ERR_NO_MEMORY, ERR_POOL_FAILED, ERR_NO_VOLUME, ERR_RANGE};
    *t = (struct trial){.play = play, .how = head[0], .data = data, .data_bytes = bytes};
    struct scsi_command *c = &t->command;
    c->done = command_done;
    c->io = stand_in_io();
    c->nexus = &play->nexuses[(head[0] & HOW_LUN) == 1];
    c->lun = luns[head[0] & HOW_LUN];
    c->expected_out = be32_at(head + 2);
    memcpy(c->cdb, head + 6, sizeof c->cdb);
    if (head[0] & HOW_FAILS) stand_in_fail(head[1] >> 3, errors[head[1] & 7]);
}

/* Plans it, brings its data and lets it run. False: it was answered, or dropped. */
static bool trial_begin(struct trial *t)
{
    struct scsi_command *c = &t->command;
    if (!scsi_plan(c)) {
        REQUIRE(c->status != SCSI_GOOD);
        require_answer(t);
        return false;
    }
    REQUIRE(c->room_bytes % BLOCK_SIZE == 0 && c->lead < BLOCK_SIZE);
    REQUIRE(c->room_bytes >= c->lead + (uint64_t)c->out_bytes && c->room_bytes <= SCSI_TRANSFER_MAX + SCSI_PIECE);
    t->want = min32(c->out_bytes, c->expected_out);
    t->play->moved += c->room_bytes;
    if (t->how & HOW_DROPPED) return false;
    give_memory(c, t->play->fill);
    c->data.lead = c->lead;
    c->out_have = t->how & HOW_SHORT ? t->want / 2 : t->want;
    for (uint32_t i = 0; i < c->out_have; i++) *scsi_data_at(&c->data, i) = out_byte(t, i);
    if (t->how & HOW_RESIZED) stand_in_resize(volume_bytes(stand_in_volume()) == SMALL ? 2 * SMALL : SMALL);
    if (t->how & HOW_RESIZED) scsi_unit_resized(t->play->unit);
    if (t->how & HOW_LOST) {
        scsi_out_of_order(c);
        require_answer(t);
        return false;
    }
    scsi_run(c);
    REQUIRE(!t->over); /* never inline */
    return true;
}

static void trial_end(struct trial *t)
{
    scsi_end(&t->command);
    take_memory(&t->command);
}

/* ---- an input ---- */

static void commands(struct play *play, const uint8_t *data, size_t size)
{
    static struct trial trials[COMMANDS_MAX];
    bool runs[COMMANDS_MAX];
    uint32_t count = 0, from = 0;
    while (size >= HEAD && count < COMMANDS_MAX && play->moved < MOVED_MAX) {
        uint32_t bytes = min32(be16_at(data + 22), (uint32_t)min64(size - HEAD, UINT16_MAX));
        trial_init(&trials[count], play, data, data + HEAD, bytes);
        bool waits = trials[count].how & HOW_WAITS;
        if (count > from) trials[count].how |= HOW_WAITS; /* those before it may still run */
        runs[count] = trial_begin(&trials[count]);
        count++;
        data += HEAD + bytes;
        size -= HEAD + bytes;
        if (waits && size >= HEAD && count < COMMANDS_MAX && play->moved < MOVED_MAX) continue;
        stand_in_run();
        for (; from < count; from++) {
            REQUIRE(trials[from].over == runs[from]);
            if (runs[from]) require_answer(&trials[from]);
            trial_end(&trials[from]);
        }
    }
    REQUIRE(from == count);
}

static uint64_t play_once(const uint8_t *data, size_t size, uint8_t fill)
{
    static struct play play;
    static const uint8_t pool_id[16] = "stand-in";
    play.fill = fill;
    play.moved = play.digest = 0;
    play.block_bytes = data[0] & 1 ? 4096 : 512;
    stand_in_begin(data[1], data[0] & 8 ? SMALL : STAND_IN_BYTES_MAX);
    struct scsi_unit_config config = {
        .volume = stand_in_volume(), .block_bytes = play.block_bytes, .name = "v", .read_only = data[0] & 2};
    scsi_unit_identify(&config, pool_id, 1);
    REQUIRE(scsi_unit_open(&config, &play.unit) == OK);
    const struct scsi_lun luns[] = {{.unit = play.unit, .lun = 0, .read_only = data[0] & 4},
                                    {.unit = play.unit, .lun = 5, .read_only = true}};
    for (int i = 0; i < 2; i++) {
        scsi_nexus_init(&play.nexuses[i]);
        play.nexuses[i].port_name = "iqn.2026-01.example.izar:fuzz,t,0x0001";
        scsi_nexus_map(&play.nexuses[i], luns, 2);
    }
    commands(&play, data + 2, size - 2);
    for (int i = 0; i < 2; i++) scsi_nexus_done(&play.nexuses[i]);
    scsi_unit_close(play.unit);
    REQUIRE(stand_in_holds() == 0);
    return play.digest;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    uint64_t zeros = play_once(data, size, 0x00), ones = play_once(data, size, 0xff);
    REQUIRE(zeros == ones); /* else memory that was never filled came out */
    return 0;
}
