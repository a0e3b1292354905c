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

TEST(serial_numbers_wrap)
{
    CHECK(sn_before(1, 2) && !sn_before(2, 2) && sn_before(0xffffffff, 0) && sn_before(0xfffffff0, 15) &&
          !sn_before(15, 0xfffffff0));
}

TESTS(command_is_decoded, data_out_is_decoded, login_is_decoded, management_is_decoded, answers_of_targets_are_refused,
      r2t_is_encoded, data_in_is_encoded, serial_numbers_wrap)
