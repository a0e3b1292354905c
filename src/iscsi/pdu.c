/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The codec of headers. A decoded header says what the bytes say, nothing about whether it makes sense where it came.
 */
#include "iscsi/pdu.h"

static void decode_login(const uint8_t *h, struct pdu *p)
{
    p->version_max = h[2];
    p->version_min = h[3];
    memcpy(p->isid, h + 8, 6);
    p->tsih = be16_at(h + 14);
    p->cid = be16_at(h + 20);
    p->lun = 0;
}

enum err pdu_decode(const uint8_t h[PDU_HEADER], struct pdu *ret_pdu)
{
    struct pdu p = {.opcode = (enum pdu_opcode)(h[0] & 0x3f),
                    .immediate = h[0] & 0x40,
                    .flags = h[1],
                    .ahs_bytes = 4u * h[4],
                    .data_bytes = be24_at(h + 5),
                    .lun = be64_at(h + 8),
                    .itt = be32_at(h + 16),
                    .cmd_sn = be32_at(h + 24),
                    .exp_stat_sn = be32_at(h + 28)};
    switch (p.opcode) {
    case PDU_COMMAND:
        p.expected = be32_at(h + 20);
        memcpy(p.cdb, h + 32, sizeof p.cdb);
        break;
    case PDU_DATA_OUT:
        p.ttt = be32_at(h + 20);
        p.data_sn = be32_at(h + 36);
        p.offset = be32_at(h + 40);
        break;
    case PDU_MANAGE:
        p.function = h[1] & 0x7f;
        p.ref_itt = be32_at(h + 20);
        p.ref_cmd_sn = be32_at(h + 32);
        break;
    case PDU_LOGIN: decode_login(h, &p); break;
    case PDU_LOGOUT:
        p.function = h[1] & 0x7f;
        p.cid = be16_at(h + 20);
        break;
    case PDU_NOP_OUT:
    case PDU_TEXT:
    case PDU_SNACK: p.ttt = be32_at(h + 20); break;
    case PDU_NOP_IN:
    case PDU_RESPONSE:
    case PDU_MANAGE_RESPONSE:
    case PDU_LOGIN_RESPONSE:
    case PDU_TEXT_RESPONSE:
    case PDU_DATA_IN:
    case PDU_LOGOUT_RESPONSE:
    case PDU_R2T:
    case PDU_ASYNC:
    case PDU_REJECT:
    default: return ERR_DECODE;
    }
    *ret_pdu = p;
    return OK;
}

void pdu_encode(const struct pdu_out *out, uint8_t h[PDU_HEADER])
{
    h[0] = (uint8_t)out->opcode;
    h[1] = out->flags;
    h[2] = out->b2;
    h[3] = out->b3;
    h[4] = 0;
    be24_to(h + 5, out->data_bytes);
    be64_to(h + 8, out->lun);
    be32_to(h + 16, out->itt);
    be32_to(h + 20, out->ttt);
    for (int i = 0; i < 6; i++) be32_to(h + 24 + 4 * i, out->w[i]);
}
