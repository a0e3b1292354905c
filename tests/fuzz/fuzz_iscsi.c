/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: no header, no login text and no CHAP answer harms its decoder, and what is accepted keeps within its bounds. Method:
 * any bytes as each of the three; a header that is accepted says what its bytes say.
 */
#include <string.h>

#include "fuzz/fuzz.h"
#include "iscsi/chap.h"
#include "iscsi/pdu.h"
#include "iscsi/target.h"

static void header(const uint8_t *data, size_t size)
{
    struct pdu p;
    if (size < PDU_HEADER || pdu_decode(data, &p) != OK) return;
    REQUIRE(p.data_bytes <= PDU_DATA_MAX && p.ahs_bytes <= 255 * 4);
    REQUIRE((uint32_t)p.opcode == (data[0] & 0x3fu) && p.itt == be32_at(data + 16) && p.cmd_sn == be32_at(data + 24));
}

static void text(const uint8_t *data, size_t size)
{
    static const uint8_t random[CHAP_CHALLENGE + 1] = {1, 2, 3};
    static const struct iscsi_chap initiator = {"alice", "secretsecret12"}, target = {"bob", "othersecret1234"};
    char *copy = (char *)fuzz_copy(data, size), *at = copy, *key, *value;
    uint8_t *answer = fuzz_copy(data, 0);
    char room[512];
    struct keys_out out;
    struct negotiation n;
    struct chap chap = {.step = CHAP_ALGORITHM};
    size_t left = size;
    free(answer);
    keys_out_init(&out, room, sizeof room);
    negotiation_init(&n, 262144, 1 << 20, 65536);
    while (keys_next(&at, &left, &key, &value) == OK) {
        REQUIRE(at >= copy && at + left == copy + size && strlen(key) < 64 && value + strlen(value) < copy + size);
        if (strcmp(key, "ROUND") == 0) {
            if (chap_answer(&chap, &initiator, &target, random, &out) == OK) REQUIRE(chap.step != CHAP_ALGORITHM);
            continue;
        }
        if (!chap_take(&chap, key, value)) negotiation_take(&n, key, value, &out);
    }
    REQUIRE(out.used <= sizeof room && (out.used == 0 || room[out.used - 1] == '\0'));
    REQUIRE(n.limits.max_burst >= 512 && n.limits.max_burst <= 1 << 20 && n.limits.first_burst >= 512);
    REQUIRE(n.limits.max_transmit >= 512 && n.limits.max_transmit <= PDU_DATA_MAX && n.limits.max_r2t >= 1);
    REQUIRE(chap.step != CHAP_DONE); /* nobody guesses a secret */
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    header(data, size);
    text(data, size);
    return 0;
}
