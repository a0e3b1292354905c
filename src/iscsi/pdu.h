/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Protocol data units (RFC 7143 11): headers of 48 bytes to and from host structs. What came from the network is decoded once,
 * here; nothing else looks at its bytes.
 */
#ifndef IZAR_ISCSI_PDU_H
#define IZAR_ISCSI_PDU_H

#include "base/bytes.h"
#include "base/err.h"

enum { PDU_HEADER = 48, PDU_DIGEST = 4, PDU_DATA_MAX = 0xffffff };
#define PDU_NO_TAG 0xffffffffu

enum pdu_opcode {
    PDU_NOP_OUT = 0x00,
    PDU_COMMAND = 0x01,
    PDU_MANAGE = 0x02, /* task management */
    PDU_LOGIN = 0x03,
    PDU_TEXT = 0x04,
    PDU_DATA_OUT = 0x05,
    PDU_LOGOUT = 0x06,
    PDU_SNACK = 0x10,
    PDU_NOP_IN = 0x20,
    PDU_RESPONSE = 0x21,
    PDU_MANAGE_RESPONSE = 0x22,
    PDU_LOGIN_RESPONSE = 0x23,
    PDU_TEXT_RESPONSE = 0x24,
    PDU_DATA_IN = 0x25,
    PDU_LOGOUT_RESPONSE = 0x26,
    PDU_R2T = 0x31,
    PDU_ASYNC = 0x32,
    PDU_REJECT = 0x3f,
};

enum pdu_flags {
    PDU_FINAL = 0x80,
    PDU_READ = 0x40,      /* command */
    PDU_WRITE = 0x20,     /* command */
    PDU_CONTINUE = 0x40,  /* login, text */
    PDU_TRANSIT = 0x80,   /* login */
    PDU_UNDERFLOW = 0x02, /* response, data-in */
    PDU_OVERFLOW = 0x04,
    PDU_STATUS = 0x01, /* data-in */
};

/* What an initiator sends; the fields that the opcode has, the others are zero. */
struct pdu {
    enum pdu_opcode opcode;
    bool immediate;
    uint8_t flags;       /* byte 1 */
    uint32_t ahs_bytes;  /* additional header segments */
    uint32_t data_bytes; /* without padding */
    uint64_t lun;
    uint32_t itt;
    uint32_t ttt;
    uint32_t cmd_sn, exp_stat_sn;
    uint32_t expected; /* command: expected data transfer length */
    uint8_t cdb[16];
    uint32_t data_sn, offset;         /* data-out */
    uint8_t function;                 /* task management, logout: reason */
    uint32_t ref_itt, ref_cmd_sn;     /* task management */
    uint8_t version_max, version_min; /* login */
    uint8_t isid[6];                  /* login */
    uint16_t tsih, cid;               /* login; cid: also logout */
};

/* ERR_DECODE: no opcode of an initiator. Lengths are what the header says: the caller bounds them. */
enum err pdu_decode(const uint8_t header[PDU_HEADER], struct pdu *ret_pdu);

/* What goes out: the fields that many have. The rest is put by those who send it. */
struct pdu_out {
    enum pdu_opcode opcode;
    uint8_t flags, b2, b3;
    uint64_t lun;
    uint32_t itt, ttt;
    uint32_t data_bytes;
    uint32_t w[6]; /* words from byte 24 on: StatSN, ExpCmdSN, MaxCmdSN, and three of the opcode's own */
};

void pdu_encode(const struct pdu_out *out, uint8_t ret_header[PDU_HEADER]);

static inline uint32_t pdu_padded(uint32_t bytes)
{
    return (bytes + 3) & ~3u;
}

/* Serial number arithmetic (RFC 1982, RFC 7143 4.2.2.1). */
static inline bool sn_before(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) < 0;
}

#endif
