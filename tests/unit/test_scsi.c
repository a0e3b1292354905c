/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what the SCSI layer says when something is wrong, in both formats of sense data, and what VERIFY compares. Method:
 * single commands over the stand-in of the fuzzers, and sense data against bytes written out from SPC-4 4.5.
 */
#include <stdlib.h>

#include "tests/check.h"

#include "fuzz/stand_in.h"
#include "scsi/internal.h"

enum { VOLUME = 1 << 20, PIECES = 2 };

static struct {
    struct scsi_unit *unit;
    struct scsi_nexus nexus;
    struct scsi_command c;
    bool over;
} s;

static void done(struct scsi_command *command)
{
    (void)command;
    s.over = true;
}

static bool begin(void)
{
    stand_in_begin(1, VOLUME);
    struct scsi_unit_config u = {.volume = stand_in_volume(), .block_bytes = 512};
    if (scsi_unit_open(&u, &s.unit) != OK) return false;
    scsi_nexus_init(&s.nexus);
    scsi_nexus_map(&s.nexus, &(struct scsi_lun){.unit = s.unit}, 1);
    s.nexus.luns[0].attention = 0;
    return true;
}

static void end(void)
{
    scsi_nexus_done(&s.nexus);
    scsi_unit_close(s.unit);
}

/* One command with `bytes` of data out of the initiator; returns its status. What it answers stays in s.c and `ret_in`. */
static enum scsi_status run(const uint8_t *cdb, size_t cdb_bytes, const void *data, uint32_t bytes, uint8_t ret_in[64])
{
    struct scsi_command *c = &s.c;
    *c = (struct scsi_command){.done = done, .io = stand_in_io(), .nexus = &s.nexus, .expected_out = bytes};
    memcpy(c->cdb, cdb, cdb_bytes);
    s.over = false;
    if (scsi_plan(c)) {
        uint8_t *memory = aligned_alloc(BLOCK_SIZE, (PIECES + 1) * SCSI_PIECE);
        for (uint32_t i = 0; i < PIECES; i++) c->data.piece[i] = memory + (size_t)i * SCSI_PIECE;
        c->data.count = PIECES;
        c->data.lead = c->lead;
        c->scratch = memory + (size_t)PIECES * SCSI_PIECE;
        c->out_have = min32(bytes, c->out_bytes);
        for (uint32_t i = 0; i < c->out_have; i++) *scsi_data_at(&c->data, i) = ((const uint8_t *)data)[i];
        scsi_run(c);
        stand_in_run();
        for (uint32_t i = 0; ret_in != NULL && i < c->in_bytes && i < 64; i++) ret_in[i] = *scsi_data_at(&c->data, i);
        free(memory);
    }
    scsi_end(c);
    return c->status;
}
#define CDB(...) ((const uint8_t[]){__VA_ARGS__}), sizeof((const uint8_t[]){__VA_ARGS__})

static bool sense_is(const uint8_t *bytes, uint32_t count)
{
    return s.c.sense_bytes == count && memcmp(s.c.sense, bytes, count) == 0;
}
#define SENSE_IS(...) sense_is(((const uint8_t[]){__VA_ARGS__}), sizeof((const uint8_t[]){__VA_ARGS__}))

/* MODE SELECT(6) of the control page with D_SENSE as told. */
static enum scsi_status choose(bool descriptors)
{
    uint8_t list[16] = {0, 0, 0, 0, 0x0a, 10, 0, 0x10, 0, 0, 0, 0, 0xff, 0xff};
    if (descriptors) list[6] = 0x04;
    return run(CDB(0x15, 0x10, 0, 0, sizeof list, 0), list, sizeof list, NULL);
}

TEST(formats_of_sense)
{
    uint8_t got[SCSI_SENSE_MAX];
    struct sense far = {.sense = SENSE_MEDIUM_ERROR, .informs = true, .information = 0x0102030405060708u};
    static const uint8_t far_golden[] = {0x72, 3, 0x11, 0, 0, 0, 0, 12, 0, 10, 0x80, 0, 1, 2, 3, 4, 5, 6, 7, 8};
    CHECK_EQ(sense_encode(&far, true, got), sizeof far_golden);
    CHECK_BYTES(got, far_golden, sizeof far_golden);
    static const uint8_t unsaid[] = {0x70, 0, 3, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x11, 0, 0, 0, 0, 0};
    CHECK_EQ(sense_encode(&far, false, got), sizeof unsaid); /* it would not fit: not valid */
    CHECK_BYTES(got, unsaid, sizeof unsaid);
    struct sense both = {SENSE_INVALID_LIST, true, true, 9, false, 0x102};
    static const uint8_t both_golden[] = {0x72, 5, 0x26, 0, 0, 0, 0, 20, 0, 10, 0x80, 0, 0, 0,
                                          0,    0, 0,    0, 0, 9, 2, 6,  0, 0,  0x80, 1, 2, 0};
    CHECK_EQ(sense_encode(&both, true, got), sizeof both_golden);
    CHECK_BYTES(got, both_golden, sizeof both_golden);
    static const uint8_t fixed[] = {0xf0, 0, 5, 0, 0, 0, 9, 10, 0, 0, 0, 0, 0x26, 0, 0, 0x80, 1, 2};
    CHECK_EQ(sense_encode(&both, false, got), sizeof fixed);
    CHECK_BYTES(got, fixed, sizeof fixed);
}

TEST(d_sense_chooses_the_format)
{
    uint8_t in[64];
    CHECK(begin());
    CHECK(run(CDB(0x12, 1, 0xee, 0, 255, 0), NULL, 0, NULL) == SCSI_CHECK_CONDITION);
    CHECK(SENSE_IS(0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0xc0, 0, 2));
    CHECK(choose(true) == SCSI_GOOD);
    CHECK(run(CDB(0x12, 1, 0xee, 0, 255, 0), NULL, 0, NULL) == SCSI_CHECK_CONDITION);
    CHECK(SENSE_IS(0x72, 5, 0x24, 0, 0, 0, 0, 8, 2, 6, 0, 0, 0xc0, 0, 2, 0));
    CHECK(run(CDB(0x1a, 0x08, 0x0a, 0, 255, 0), NULL, 0, in) == SCSI_GOOD && in[4 + 2] == 0x04);
    CHECK(run(CDB(0x1a, 0x08, 0x4a, 0, 255, 0), NULL, 0, in) == SCSI_GOOD && in[4 + 2] == 0x04 && in[4 + 4] == 0x08);
    CHECK(choose(false) == SCSI_GOOD);
    CHECK(run(CDB(0xff), NULL, 0, NULL) == SCSI_CHECK_CONDITION && s.c.sense[0] == 0x70);
    end();
}

TEST(request_sense_answers_in_the_format_asked_for)
{
    uint8_t in[64];
    CHECK(begin());
    CHECK(run(CDB(0x03, 0, 0, 0, 252, 0), NULL, 0, in) == SCSI_GOOD && s.c.in_bytes == 18 && in[0] == 0x70 && in[2] == 0);
    CHECK(run(CDB(0x03, 1, 0, 0, 252, 0), NULL, 0, in) == SCSI_GOOD && s.c.in_bytes == 8 && in[0] == 0x72 && in[1] == 0);
    s.nexus.luns[0].attention = SCSI_CAPACITY_CHANGED;
    CHECK(run(CDB(0x03, 1, 0, 0, 4, 0), NULL, 0, in) == SCSI_GOOD && s.c.in_bytes == 4);
    CHECK(in[1] == 6 && in[2] == 0x2a && in[3] == 0x09);
    end();
}

TEST(the_other_initiators_hear_of_a_new_format)
{
    static struct scsi_nexus other;
    CHECK(begin());
    scsi_nexus_map(&other, &(struct scsi_lun){.unit = s.unit}, 1);
    other.luns[0].attention = 0;
    CHECK(choose(false) == SCSI_GOOD && other.luns[0].attention == 0);
    CHECK(choose(true) == SCSI_GOOD && other.luns[0].attention == SCSI_MODE_CHANGED && s.nexus.luns[0].attention == 0);
    scsi_nexus_done(&other);
    end();
}

static uint8_t block[600 * 512];

TEST(verify_compares_all_blocks_with_one)
{
    CHECK(begin());
    memset(block, 0x5a, sizeof block);
    memset(stand_in_content(), 0x5a, VOLUME);
    CHECK(run(CDB(0x2f, 0x06, 0, 0, 0, 3, 0, 600 >> 8, 600 & 255, 0), block, 512, NULL) == SCSI_GOOD);
    CHECK_EQ(s.c.out_bytes, 512);
    stand_in_content()[(3 + 599) * 512 + 17] ^= 1;
    CHECK(run(CDB(0x2f, 0x06, 0, 0, 0, 3, 0, 600 >> 8, 599 & 255, 0), block, 512, NULL) == SCSI_GOOD);
    CHECK(run(CDB(0x8f, 0x06, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 600 >> 8, 600 & 255, 0, 0), block, 512, NULL) ==
          SCSI_CHECK_CONDITION);
    CHECK(SENSE_IS(0xf0, 0, 0x0e, 0, 0, 0, 17, 10, 0, 0, 0, 0, 0x1d, 0, 0, 0, 0, 0));
    CHECK(run(CDB(0xaf, 0x06, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0), NULL, 0, NULL) == SCSI_GOOD && s.c.out_bytes == 0); /* no block */
    CHECK(run(CDB(0x2f, 0x06, 0, 0, 0, 3, 0, 0, 1, 0), block, 511, NULL) == SCSI_CHECK_CONDITION && s.c.sense[2] == 0x0b);
    end();
}

TEST(verify_refuses_what_is_reserved)
{
    CHECK(begin());
    CHECK(run(CDB(0x2f, 0x04, 0, 0, 0, 3, 0, 0, 1, 0), block, 512, NULL) == SCSI_CHECK_CONDITION);
    CHECK(SENSE_IS(0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0xc0, 0, 1));
    CHECK(run(CDB(0x2e, 0x06, 0, 0, 0, 3, 0, 0, 1, 0), block, 512, NULL) == SCSI_CHECK_CONDITION && s.c.sense[12] == 0x24);
    end();
}

TEST(verify_compares_byte_by_byte)
{
    CHECK(begin());
    for (size_t i = 0; i < sizeof block; i++) block[i] = (uint8_t)(i * 7 + i / 512);
    memcpy(stand_in_content() + 5 * 512, block, sizeof block);
    CHECK(run(CDB(0x2f, 0x02, 0, 0, 0, 5, 0, 500 >> 8, 500 & 255, 0), block, 500 * 512, NULL) == SCSI_GOOD);
    stand_in_content()[5 * 512 + 131072] ^= 1;
    CHECK(run(CDB(0x2f, 0x02, 0, 0, 0, 5, 0, 500 >> 8, 500 & 255, 0), block, 500 * 512, NULL) == SCSI_CHECK_CONDITION);
    CHECK(SENSE_IS(0xf0, 0, 0x0e, 0, 2, 0, 0, 10, 0, 0, 0, 0, 0x1d, 0, 0, 0, 0, 0));
    end();
}

/* Within the volume's block, too: LBA 9 is the second of the second block of 4096 (SBC-3 5.4). */
TEST(lba_status_begins_where_it_was_asked_to)
{
    uint8_t in[64];
    CHECK(begin());
    CHECK(run(CDB(0x2a, 0, 0, 0, 0, 0, 0, 0, 24, 0), block, 24 * 512, NULL) == SCSI_GOOD);
    CHECK(run(CDB(0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 24, 0, 0), NULL, 0, in) == SCSI_GOOD && s.c.in_bytes == 24);
    CHECK(be64_at(in + 8) == 9 && be32_at(in + 16) == 24 - 9 && in[20] == 0);
    end();
}

/* ---- sessions that are gone ---- */

enum { SESSION = 5, SOME_TIME_MS = 7 };

/* Begins a command, cuts its session once one of its requests is under way (what a transport does then), and lets it end. The
 * stand-in refuses whatever begins after that. Returns how many bytes of the volume are not zero. */
static uint32_t run_cut(const uint8_t *cdb, size_t cdb_bytes, const void *data, uint32_t bytes)
{
    struct scsi_command *c = &s.c;
    uint8_t *memory = aligned_alloc(BLOCK_SIZE, (SCSI_PIECES_MAX + 1) * SCSI_PIECE);
    *c = (struct scsi_command){.done = done, .io = stand_in_io(), .nexus = &s.nexus, .expected_out = bytes};
    memcpy(c->cdb, cdb, cdb_bytes);
    s.over = false;
    if (!scsi_plan(c)) abort();
    for (uint32_t i = 0; i < SCSI_PIECES_MAX; i++) c->data.piece[i] = memory + (size_t)i * SCSI_PIECE;
    c->data.count = SCSI_PIECES_MAX;
    c->data.lead = c->lead;
    c->scratch = memory + (size_t)SCSI_PIECES_MAX * SCSI_PIECE;
    c->out_have = c->out_bytes;
    for (uint32_t i = 0; i < c->out_have; i++) *scsi_data_at(&c->data, i) = ((const uint8_t *)data)[i];
    stand_in_hold(true);
    scsi_accept(c);
    scsi_run(c);
    stand_in_run();
    if (stand_in_request() == NULL || s.over) abort();
    scsi_doom(c);
    scsi_nexus_lost(&s.nexus);
    stand_in_hold(false);
    stand_in_run();
    if (!s.over) abort();
    scsi_end(c);
    free(memory);
    uint32_t count = 0;
    for (uint32_t i = 0; i < VOLUME; i++) count += stand_in_content()[i] != 0;
    return count;
}

static bool begin_session(void)
{
    bool good = begin();
    s.nexus.session = SESSION;
    return good;
}

TEST(later_pieces_of_a_lost_write_do_not_begin)
{
    static uint8_t long_write[5 * SCSI_PIECE];
    memset(long_write, 0x5a, sizeof long_write);
    CHECK(begin_session());
    CHECK_EQ(run_cut(CDB(0x2a, 0, 0, 0, 0, 0, 0, 5, 0, 0), long_write, sizeof long_write), SCSI_LANES * SCSI_PIECE);
    end();
}

TEST(later_pieces_of_a_lost_write_same_do_not_begin)
{
    memset(block, 0x5a, 512);
    CHECK(begin_session());
    CHECK_EQ(run_cut(CDB(0x41, 0, 0, 0, 0, 0, 0, 8, 0, 0), block, 512), SCSI_PIECE);
    end();
}

TEST(later_ranges_of_a_lost_unmap_do_not_begin)
{
    uint8_t list[8 + 32] = {0, 38, 0, 32, [8 + 11] = 8, [8 + 16 + 7] = 8, [8 + 16 + 11] = 8};
    CHECK(begin_session());
    memset(stand_in_content(), 0x5a, 3 * BLOCK_SIZE);
    CHECK_EQ(run_cut(CDB(0x42, 0, 0, 0, 0, 0, 0, 0, sizeof list, 0), list, sizeof list), 2 * BLOCK_SIZE);
    memset(stand_in_content(), 0, 3 * BLOCK_SIZE);
    end();
}

TEST(later_looks_of_a_lost_verify_do_not_begin)
{
    CHECK(begin_session());
    CHECK_EQ(run_cut(CDB(0x2f, 0, 0, 0, 0, 0, 0, 4, 0, 0), NULL, 0), 0);
    end();
    CHECK(begin_session());
    static uint8_t long_write[2 * SCSI_PIECE];
    memset(long_write, 0x5a, sizeof long_write);
    CHECK_EQ(run_cut(CDB(0x2e, 0, 0, 0, 0, 0, 0, 2, 0, 0), long_write, sizeof long_write), sizeof long_write);
    end();
}

/* Its age is that of the command, also of what begins late: here of the last pieces, and of one that waited for its turn. */
TEST(requests_are_as_old_as_their_command)
{
    static uint8_t memory[2][SCSI_PIECE] __attribute__((aligned(BLOCK_SIZE)));
    static struct scsi_command both[2];
    CHECK(begin_session());
    stand_in_hold(true);
    for (int i = 0; i < 2; i++) {
        struct scsi_command *c = &both[i];
        *c = (struct scsi_command){.done = done, .io = stand_in_io(), .nexus = &s.nexus, .expected_out = 512};
        c->cdb[0] = 0x2a;
        c->cdb[8] = 1;
        c->attribute = SCSI_ORDERED;
        CHECK(scsi_plan(c));
        c->data = (struct scsi_data){.piece = {memory[i]}, .count = 1};
        c->out_have = 512;
        scsi_accept(c);
        scsi_run(c);
    }
    stand_in_run();
    uint64_t first = io_now_ns(stand_in_io());
    CHECK(stand_in_request() == &both[0].lanes[0].request && stand_in_request()->arrived_ns == first);
    stand_in_wait(SOME_TIME_MS);
    s.over = false;
    stand_in_hold(false);
    while (!s.over) stand_in_turn();
    stand_in_hold(true);
    stand_in_run();
    CHECK(stand_in_request() == &both[1].lanes[0].request && stand_in_request()->arrived_ns == first);
    stand_in_hold(false);
    stand_in_run();
    for (int i = 0; i < 2; i++) scsi_end(&both[i]);
    end();
}

/* ---- access (SPC-4 5.15, 6.37) ---- */

enum { HERE = 2, ELSEWHERE = 7 };

static void reached(enum scsi_access here, enum scsi_access elsewhere)
{
    s.nexus.port_group = HERE;
    scsi_unit_groups(s.unit, ((const struct scsi_port_group[]){{HERE, here}, {ELSEWHERE, elsewhere}}), 2);
}

#define SENSE_OF(key, asc, ascq) SENSE_IS(0x70, 0, key, 0, 0, 0, 0, 0x0a, 0, 0, 0, 0, asc, ascq, 0, 0, 0, 0)
#define REPORT_GROUPS(format) CDB(0xa3, (format) << 5 | 0x0a, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0)

TEST(a_unit_of_one_node_has_one_group)
{
    uint8_t in[64] = {0};
    CHECK(begin());
    s.nexus.port_group = HERE;
    CHECK(run(REPORT_GROUPS(0), NULL, 0, in) == SCSI_GOOD);
    CHECK(s.c.in_bytes == 16 && memcmp(in, "\0\0\0\x0c\x00\x89\0\x02\0\x02\0\x01\0\0\0\x02", 16) == 0);
    CHECK(run(CDB(0x12, 0, 0, 0, 64, 0), NULL, 0, in) == SCSI_GOOD);
    CHECK(in[5] == 0);
    end();
}

TEST(groups_of_several_nodes_are_told)
{
    uint8_t in[64] = {0};
    CHECK(begin());
    reached(SCSI_TRANSITIONING, SCSI_ACTIVE_OPTIMIZED);
    CHECK(run(REPORT_GROUPS(0), NULL, 0, in) == SCSI_GOOD);
    CHECK(s.c.in_bytes == 28 && be32_at(in) == 24);
    CHECK(memcmp(in + 4, "\x0f\x89\0\x02\0\x02\0\x01\0\0\0\x02\x00\x89\0\x07\0\x02\0\x01\0\0\0\x07", 24) == 0);
    CHECK(run(REPORT_GROUPS(1), NULL, 0, in) == SCSI_GOOD);
    CHECK(s.c.in_bytes == 32 && be32_at(in) == 28);
    CHECK(in[4] == 0x10 && in[5] == SCSI_TRANSITION_SECONDS && in[8] == 0x0f && in[20] == 0x00);
    CHECK(run(REPORT_GROUPS(2), NULL, 0, in) == SCSI_CHECK_CONDITION);
    CHECK(run(CDB(0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0), NULL, 0, in) == SCSI_GOOD);
    CHECK(s.c.in_bytes == 8);
    CHECK(run(CDB(0x12, 0, 0, 0, 64, 0), NULL, 0, in) == SCSI_GOOD);
    CHECK(in[5] == 0x10);
    end();
}

TEST(initiators_hear_when_access_changes)
{
    uint8_t in[64];
    CHECK(begin());
    reached(SCSI_ACTIVE_OPTIMIZED, SCSI_UNAVAILABLE);
    CHECK(run(CDB(0, 0, 0, 0, 0, 0), NULL, 0, NULL) == SCSI_GOOD); /* the first time is no change */
    reached(SCSI_ACTIVE_OPTIMIZED, SCSI_ACTIVE_OPTIMIZED);
    CHECK(run(CDB(0, 0, 0, 0, 0, 0), NULL, 0, NULL) == SCSI_CHECK_CONDITION);
    CHECK(SENSE_OF(6, 0x2a, 0x06));
    reached(SCSI_ACTIVE_OPTIMIZED, SCSI_ACTIVE_OPTIMIZED);
    CHECK(run(CDB(0, 0, 0, 0, 0, 0), NULL, 0, NULL) == SCSI_GOOD);
    reached(SCSI_UNAVAILABLE, SCSI_ACTIVE_OPTIMIZED);
    CHECK(run(CDB(0x12, 0, 0, 0, 64, 0), NULL, 0, in) == SCSI_GOOD); /* leaves it pending */
    CHECK(run(CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0), NULL, 0, NULL) == SCSI_CHECK_CONDITION);
    CHECK(SENSE_OF(6, 0x2a, 0x06));
    end();
}

TEST(where_a_unit_is_unavailable_it_says_so)
{
    uint8_t in[64];
    CHECK(begin());
    reached(SCSI_UNAVAILABLE, SCSI_ACTIVE_OPTIMIZED);
    CHECK(run(CDB(0, 0, 0, 0, 0, 0), NULL, 0, NULL) == SCSI_CHECK_CONDITION);
    CHECK(SENSE_OF(2, 0x04, 0x0c));
    CHECK(run(CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0), NULL, 0, NULL) == SCSI_CHECK_CONDITION);
    CHECK(SENSE_OF(2, 0x04, 0x0c));
    CHECK(run(CDB(0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0), NULL, 0, NULL) == SCSI_CHECK_CONDITION);
    CHECK(run(REPORT_GROUPS(0), NULL, 0, in) == SCSI_GOOD);
    CHECK(run(CDB(0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0), NULL, 0, in) == SCSI_GOOD);
    end();
}

TEST(in_transition_commands_wait_and_questions_do_not)
{
    uint8_t in[64];
    CHECK(begin());
    reached(SCSI_TRANSITIONING, SCSI_ACTIVE_OPTIMIZED);
    CHECK(run(CDB(0, 0, 0, 0, 0, 0), NULL, 0, NULL) == SCSI_CHECK_CONDITION);
    CHECK(SENSE_OF(2, 0x04, 0x0a));
    CHECK(run(CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0), NULL, 0, in) == SCSI_GOOD);
    end();
}

TESTS(a_unit_of_one_node_has_one_group, groups_of_several_nodes_are_told, initiators_hear_when_access_changes,
      where_a_unit_is_unavailable_it_says_so, in_transition_commands_wait_and_questions_do_not, formats_of_sense,
      d_sense_chooses_the_format, request_sense_answers_in_the_format_asked_for, the_other_initiators_hear_of_a_new_format,
      later_pieces_of_a_lost_write_do_not_begin, later_pieces_of_a_lost_write_same_do_not_begin,
      later_ranges_of_a_lost_unmap_do_not_begin, later_looks_of_a_lost_verify_do_not_begin,
      requests_are_as_old_as_their_command, verify_compares_all_blocks_with_one, verify_refuses_what_is_reserved,
      verify_compares_byte_by_byte, lba_status_begins_where_it_was_asked_to)
