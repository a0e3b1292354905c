/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Headers of PDUs against bytes.
 *
 * Goal: the codec puts every field where RFC 7143 11 has it. Method: headers written out by hand from the tables of the RFC,
 * both ways.
 */
#include "tests/check.h"

#include "iscsi/pdu.h"

TEST(command_is_decoded)
{
    static const uint8_t h[PDU_HEADER] = {0x41, 0xa1, 0,    0,    0,    0x00, 0x10, 0x00, 0,    1,    0,    0,
                                          0,    0,    0,    0,    0x11, 0x22, 0x33, 0x44, 0,    0,    0x20, 0x00,
                                          0x00, 0x00, 0x01, 0x02, 0x0a, 0x0b, 0x0c, 0x0d, 0x2a, 0x18, 0,    0,
                                          0x12, 0x34, 0,    0,    0x10, 0,    0,    0,    0,    0,    0,    0};
    struct pdu p;
    CHECK_ERR(OK, pdu_decode(h, &p));
    CHECK(p.opcode == PDU_COMMAND && p.immediate && (p.flags & PDU_FINAL) && (p.flags & PDU_WRITE) && !(p.flags & PDU_READ));
    CHECK_EQ(p.data_bytes, 4096);
    CHECK_EQ(p.lun, 0x0001000000000000u);
    CHECK_EQ(p.itt, 0x11223344);
    CHECK_EQ(p.expected, 8192);
    CHECK_EQ(p.cmd_sn, 0x102);
    CHECK_EQ(p.exp_stat_sn, 0x0a0b0c0d);
    CHECK_EQ(p.cdb[0], 0x2a);
    CHECK_EQ(be32_at(p.cdb + 2), 0x1234);
}

TEST(data_out_is_decoded)
{
    static const uint8_t h[PDU_HEADER] = {0x05, 0x80, 0, 0, 2, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 9,
                                          0,    0,    0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 6, 0, 1, 0, 0, 0, 0, 0, 0};
    struct pdu p;
    CHECK_ERR(OK, pdu_decode(h, &p));
    CHECK(p.opcode == PDU_DATA_OUT && !p.immediate);
    CHECK_EQ(p.ahs_bytes, 8);
    CHECK_EQ(p.data_bytes, 3);
    CHECK_EQ(p.itt, 7);
    CHECK_EQ(p.ttt, 9);
    CHECK_EQ(p.exp_stat_sn, 5);
    CHECK_EQ(p.data_sn, 6);
    CHECK_EQ(p.offset, 65536);
}

TEST(login_is_decoded)
{
    static const uint8_t h[PDU_HEADER] = {0x43, 0x87, 1, 0, 0,    0,    1, 2, 0x80, 1, 2, 3, 4, 5, 0xab, 0xcd,
                                          0,    0,    0, 1, 0x12, 0x34, 0, 0, 0,    0, 0, 8, 0, 0, 0,    9};
    static const uint8_t isid[6] = {0x80, 1, 2, 3, 4, 5};
    struct pdu p;
    CHECK_ERR(OK, pdu_decode(h, &p));
    CHECK(p.opcode == PDU_LOGIN && p.version_max == 1 && p.version_min == 0);
    CHECK_BYTES(p.isid, isid, 6);
    CHECK_EQ(p.tsih, 0xabcd);
    CHECK_EQ(p.cid, 0x1234);
    CHECK_EQ(p.cmd_sn, 8);
}

TEST(management_is_decoded)
{
    static const uint8_t h[PDU_HEADER] = {0x42, 0x81, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0,
                                          0,    3,    0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0, 7};
    struct pdu p;
    CHECK_ERR(OK, pdu_decode(h, &p));
    CHECK(p.opcode == PDU_MANAGE && p.function == 1 && p.itt == 3 && p.ref_itt == 4 && p.ref_cmd_sn == 7);
}

TEST(answers_of_targets_are_refused)
{
    static const uint8_t codes[] = {0x07, 0x0f, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x31, 0x32, 0x3f};
    struct pdu p;
    for (size_t i = 0; i < sizeof codes; i++) {
        uint8_t h[PDU_HEADER] = {codes[i]};
        CHECK_ERR(ERR_DECODE, pdu_decode(h, &p));
    }
}

TEST(r2t_is_encoded)
{
    static const uint8_t golden[PDU_HEADER] = {0x31, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3,
                                               0,    0,    0, 4, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0, 7, 0, 1, 0, 0, 0, 2, 0, 0};
    struct pdu_out out = {.opcode = PDU_R2T,
                          .flags = PDU_FINAL,
                          .lun = 0x0001000000000000u,
                          .itt = 2,
                          .ttt = 3,
                          .w = {4, 5, 6, 7, 65536, 131072}};
    uint8_t h[PDU_HEADER];
    memset(h, 0xee, sizeof h);
    pdu_encode(&out, h);
    CHECK_BYTES(h, golden, PDU_HEADER);
}

TEST(data_in_is_encoded)
{
    static const uint8_t golden[PDU_HEADER] = {0x25, 0x83, 0, 2,    0,    0,    0x10, 0,    0, 0, 0,    0,    0, 0, 0, 0,
                                               0,    0,    0, 9,    0xff, 0xff, 0xff, 0xff, 0, 0, 0,    0x0a, 0, 0, 0, 0x0b,
                                               0,    0,    0, 0x0c, 0,    0,    0,    1,    0, 0, 0x20, 0,    0, 0, 2, 0};
    struct pdu_out out = {.opcode = PDU_DATA_IN,
                          .flags = PDU_FINAL | PDU_STATUS | PDU_UNDERFLOW,
                          .b3 = 2,
                          .itt = 9,
                          .ttt = PDU_NO_TAG,
                          .data_bytes = 4096,
                          .w = {10, 11, 12, 1, 8192, 512}};
    uint8_t h[PDU_HEADER];
    pdu_encode(&out, h);
    CHECK_BYTES(h, golden, PDU_HEADER);
}

TEST(ping_is_decoded)
{
    static const uint8_t h[PDU_HEADER] = {0x40, 0x80, 0, 0, 0,    0,    0,    5,    0, 1, 0, 0, 0, 0, 0, 0,
                                          0,    0,    0, 3, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 7, 0, 0, 0, 8};
    struct pdu p;
    CHECK_OK(pdu_decode(h, &p));
    CHECK(p.opcode == PDU_NOP_OUT && p.immediate && p.data_bytes == 5 && p.lun == 0x0001000000000000u);
    CHECK(p.itt == 3 && p.ttt == PDU_NO_TAG && p.cmd_sn == 7 && p.exp_stat_sn == 8);
}

TEST(text_is_decoded)
{
    static const uint8_t h[PDU_HEADER] = {0x04, 0x40, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                                          0,    0,    0, 3, 0, 0, 0, 9, 0, 0, 0, 7, 0, 0, 0, 8};
    struct pdu p;
    CHECK_OK(pdu_decode(h, &p));
    CHECK(p.opcode == PDU_TEXT && !p.immediate && !(p.flags & PDU_FINAL) && (p.flags & PDU_CONTINUE));
    CHECK(p.data_bytes == 256 && p.itt == 3 && p.ttt == 9 && p.cmd_sn == 7 && p.exp_stat_sn == 8);
}

TEST(logout_is_decoded)
{
    static const uint8_t h[PDU_HEADER] = {0x46, 0x81, 0, 0, 0,    0,    0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                                          0,    0,    0, 3, 0x12, 0x34, 0, 0, 0, 0, 0, 7, 0, 0, 0, 8};
    struct pdu p;
    CHECK_OK(pdu_decode(h, &p));
    CHECK(p.opcode == PDU_LOGOUT && p.immediate && p.function == 1 && p.cid == 0x1234);
    CHECK(p.itt == 3 && p.cmd_sn == 7 && p.exp_stat_sn == 8);
}

TEST(snack_is_decoded)
{
    static const uint8_t h[PDU_HEADER] = {0x10, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 9};
    struct pdu p;
    CHECK_OK(pdu_decode(h, &p));
    CHECK(p.opcode == PDU_SNACK && p.itt == 3 && p.ttt == 9 && p.data_bytes == 0);
}

/* Each as it leaves: StatSN 4, ExpCmdSN 5, MaxCmdSN 6 from byte 24 on. */
static const struct {
    const char *name;
    struct pdu_out out;
    uint8_t golden[PDU_HEADER];
} sent[] = {
    {"NOP-In, an answer (RFC 7143 11.19)",
     {.opcode = PDU_NOP_IN,
      .flags = PDU_FINAL,
      .lun = 0x0001000000000000u,
      .itt = 2,
      .ttt = PDU_NO_TAG,
      .data_bytes = 3,
      .w = {4, 5, 6}},
     {0x20, 0x80, 0,    0,    0,    0,    0, 3, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0,
      0,    2,    0xff, 0xff, 0xff, 0xff, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 6}},
    {"NOP-In, a question",
     {.opcode = PDU_NOP_IN, .flags = PDU_FINAL, .itt = PDU_NO_TAG, .ttt = 1, .w = {4, 5, 6}},
     {0x20, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff,
      0xff, 0xff, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0,    6}},
    {"Response with sense, underflow (11.4)",
     {.opcode = PDU_RESPONSE,
      .flags = PDU_FINAL | PDU_UNDERFLOW,
      .b3 = 2,
      .itt = 2,
      .data_bytes = 20,
      .w = {4, 5, 6, 1, 0, 512}},
     {0x21, 0x82, 0, 2, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0,
      0,    0,    0, 4, 0, 0, 0, 5,  0, 0, 0, 6, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2, 0}},
    {"Response, overflow",
     {.opcode = PDU_RESPONSE, .flags = PDU_FINAL | PDU_OVERFLOW, .itt = 2, .w = {4, 5, 6, 0, 0, 1024}},
     {0x21, 0x84, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0,
      0,    0,    0, 4, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0}},
    {"Task management response, no such task (11.6)",
     {.opcode = PDU_MANAGE_RESPONSE, .flags = PDU_FINAL, .b2 = 1, .itt = 2, .w = {4, 5, 6}},
     {0x22, 0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 6}},
    {"Login response, to full feature (11.13)",
     {.opcode = PDU_LOGIN_RESPONSE, .flags = 0x87, .lun = 0x800102030405abcdu, .itt = 2, .data_bytes = 4, .w = {4, 5, 6}},
     {0x23, 0x87, 0, 0, 0, 0, 0, 4, 0x80, 1, 2, 3, 4, 5, 0xab, 0xcd, 0, 0,
      0,    2,    0, 0, 0, 0, 0, 0, 0,    4, 0, 0, 0, 5, 0,    0,    0, 6}},
    {"Login response, authentication failure",
     {.opcode = PDU_LOGIN_RESPONSE, .lun = 0x8001020304050000u, .itt = 2, .w = {4, 5, 6, 0x0201u << 16}},
     {0x23, 0, 0, 0, 0, 0, 0, 0, 0x80, 1, 2, 3, 4, 5, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 6, 2, 1}},
    {"Text response, more to come (11.11)",
     {.opcode = PDU_TEXT_RESPONSE, .flags = PDU_CONTINUE, .itt = 2, .ttt = 1, .data_bytes = 4096, .w = {4, 5, 6}},
     {0x24, 0x40, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 6}},
    {"Logout response (11.15)",
     {.opcode = PDU_LOGOUT_RESPONSE, .flags = PDU_FINAL, .itt = 2, .w = {4, 5, 6}},
     {0x26, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 6}},
    {"Asynchronous message: please log out within 5 s (11.9)",
     {.opcode = PDU_ASYNC, .flags = PDU_FINAL, .itt = PDU_NO_TAG, .w = {4, 5, 6, 1u << 24, 5}},
     {0x32, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0,
      0,    0,    0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 6, 1, 0, 0,    0,    0,    0,    0, 5}},
    {"Reject: command not supported (11.17)",
     {.opcode = PDU_REJECT, .flags = PDU_FINAL, .b2 = 5, .itt = PDU_NO_TAG, .data_bytes = 48, .w = {4, 5, 6}},
     {0x3f, 0x80, 5, 0, 0, 0, 0, 48, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff,
      0xff, 0xff, 0, 0, 0, 0, 0, 0,  0, 4, 0, 0, 0, 5, 0, 0, 0,    6}},
};

TEST(answers_are_encoded)
{
    for (size_t i = 0; i < sizeof sent / sizeof sent[0]; i++) {
        uint8_t h[PDU_HEADER];
        memset(h, 0xee, sizeof h);
        pdu_encode(&sent[i].out, h);
        if (memcmp(h, sent[i].golden, PDU_HEADER) != 0) printf("# %s\n", sent[i].name);
        CHECK_BYTES(h, sent[i].golden, PDU_HEADER);
    }
}

TEST(serial_numbers_wrap)
{
    CHECK(sn_before(1, 2) && !sn_before(2, 2) && sn_before(0xffffffff, 0) && sn_before(0xfffffff0, 15) &&
          !sn_before(15, 0xfffffff0));
}

TESTS(command_is_decoded, data_out_is_decoded, login_is_decoded, management_is_decoded, ping_is_decoded, text_is_decoded,
      logout_is_decoded, snack_is_decoded, answers_of_targets_are_refused, r2t_is_encoded, data_in_is_encoded,
      answers_are_encoded, serial_numbers_wrap)
