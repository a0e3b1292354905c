/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: no stream of bytes harms the target: what it answers is a stream of PDUs as RFC 7143 wants them, and when the
 * initiator has gone, nothing of its session is left. Method: a target over stand_in.h; an input is what one initiator sends.
 *
 *     byte 0   bits: see enum how
 *     byte 1   seed: where the stream is cut into receives, the order in which the volume is done
 *     then     PDUs; HOW_MENDED gives them the CmdSN, length and digests that they should have, so that what is behind these
 *              checks is reached
 *
 * With HOW_LOGGED_IN a login goes before, and every answer is looked at: opcode, length, digests, StatSN, window, DataSN and
 * offset of Data-In, R2Ts within what the command expects.
 */
#include "fuzz/stand_in.h"
#include "iscsi/pdu.h"
#include "iscsi/target.h"

enum { STREAM_MAX = 1 << 17, PDUS_MAX = 128, SEGMENT = 8192, BURST = 16384, VOLUME = 4 << 20 };

enum how {
    HOW_LOGGED_IN = 1,
    HOW_MENDED = 2,
    HOW_HEADER_DIGEST = 4, /* with HOW_LOGGED_IN */
    HOW_DATA_DIGEST = 8,
    HOW_SECRET = 16,  /* the initiator has to prove itself, and cannot */
    HOW_STAYS = 32,   /* it stays, and says nothing more */
    HOW_CHANGED = 64, /* the rules change while it is there */
    HOW_CLOSED = 128, /* the target is closed while it is there */
};

/* What is known of a command that was sent. */
struct asked {
    uint32_t itt, expected;
    uint32_t data_sn, offset; /* of Data-In, so far */
};

struct play {
    uint8_t how;
    struct scsi_unit *unit;
    struct iscsi_target *target;
    uint32_t lun_count;
    uint8_t stream[STREAM_MAX];
    size_t used;
    uint32_t cmd_sn;
    struct asked asked[PDUS_MAX];
    uint32_t asked_count;
};

static bool admit(void *arg, const char *initiator, struct iscsi_access *ret_access)
{
    const struct play *play = arg;
    (void)initiator;
    if (play->how & HOW_SECRET)
        *ret_access = (struct iscsi_access){.initiator = {"alice", "secretsecret12"}, .target = {"bob", "othersecret1234"}};
    return true;
}

static uint32_t luns(void *arg, const char *initiator, struct iscsi_lun *ret_luns)
{
    const struct play *play = arg;
    (void)initiator;
    for (uint32_t i = 0; i < play->lun_count; i++)
        ret_luns[i] = (struct iscsi_lun){.lun = (uint16_t)i, .unit = play->unit, .read_only = i == 1};
    return play->lun_count;
}

/* ---- the stream ---- */

static void add(struct play *play, const void *at, size_t size)
{
    if (size > STREAM_MAX - play->used) size = STREAM_MAX - play->used;
    memcpy(play->stream + play->used, at, size);
    play->used += size;
}

static void add_digest(struct play *play, const void *at, size_t size)
{
    le32 crc = put32(crc32c(0, at, size));
    add(play, crc.b, sizeof crc.b);
}

static void add_login(struct play *play)
{
    static const char keys[] = "InitiatorName=iqn.x:y\0TargetName=iqn.t:t\0SessionType=Normal\0InitialR2T=No\0"
                               "MaxOutstandingR2T=2\0MaxBurstLength=16384\0FirstBurstLength=8192";
    char text[sizeof keys + 64];
    uint8_t h[PDU_HEADER] = {0x43, 0x87};
    memcpy(text, keys, sizeof keys);
    int more = snprintf(text + sizeof keys, 64, "HeaderDigest=%s%cDataDigest=%s",
                        play->how & HOW_HEADER_DIGEST ? "CRC32C" : "None", 0, play->how & HOW_DATA_DIGEST ? "CRC32C" : "None");
    uint32_t bytes = (uint32_t)(sizeof keys + (size_t)more + 1);
    be24_to(h + 5, bytes);
    be32_to(h + 24, 1);
    play->cmd_sn = 1;
    add(play, h, sizeof h);
    add(play, text, bytes);
    add(play, "\0\0\0", pdu_padded(bytes) - bytes);
}

static bool is_numbered(uint8_t first)
{
    uint8_t opcode = first & 0x3f;
    return !(first & 0x40) && (opcode <= PDU_MANAGE || opcode == PDU_TEXT || opcode == PDU_LOGOUT);
}

/* One PDU of the input as it should be. Returns how many bytes of the input it took. */
static size_t add_mended(struct play *play, const uint8_t *data, size_t size)
{
    static const uint8_t zeros[4] = {0};
    uint8_t h[PDU_HEADER + 255 * 4];
    memcpy(h, data, PDU_HEADER);
    if ((h[0] & 0x3f) != PDU_COMMAND) h[4] = 0;
    size_t ahs = 4u * h[4], left = size - PDU_HEADER;
    if (ahs > left) h[4] = (uint8_t)((ahs = left / 4 * 4) / 4);
    memcpy(h + PDU_HEADER, data + PDU_HEADER, ahs);
    uint32_t bytes = min32(be24_at(h + 5), (uint32_t)min64(left - ahs, 65536));
    be24_to(h + 5, bytes);
    if (is_numbered(h[0])) be32_to(h + 24, play->cmd_sn++);
    if ((h[0] & 0x3f) == PDU_COMMAND && play->asked_count < PDUS_MAX)
        play->asked[play->asked_count++] = (struct asked){.itt = be32_at(h + 16), .expected = be32_at(h + 20)};
    add(play, h, PDU_HEADER + ahs);
    if (play->how & HOW_HEADER_DIGEST) add_digest(play, h, PDU_HEADER + ahs);
    const uint8_t *segment = data + PDU_HEADER + ahs;
    uint32_t pad = pdu_padded(bytes) - bytes;
    add(play, segment, bytes);
    add(play, zeros, pad);
    le32 crc = put32(crc32c(crc32c(0, segment, bytes), zeros, pad));
    if ((play->how & HOW_DATA_DIGEST) && bytes > 0) add(play, crc.b, sizeof crc.b);
    return PDU_HEADER + ahs + bytes;
}

static void add_input(struct play *play, const uint8_t *data, size_t size)
{
    if (!(play->how & HOW_MENDED)) {
        add(play, data, size);
        return;
    }
    if (!(play->how & HOW_LOGGED_IN)) play->how &= (uint8_t) ~(HOW_HEADER_DIGEST | HOW_DATA_DIGEST);
    for (uint32_t i = 0; i < PDUS_MAX && size >= PDU_HEADER; i++) {
        size_t took = add_mended(play, data, size);
        data += took;
        size -= took;
    }
}

/* ---- the answers ---- */

struct answers {
    uint32_t stat_sn, max_cmd_sn;
    bool began;
};

/* Tags may be used again once a command has ended: the last one that was sent counts, or one before it. */
static struct asked *asked_of(struct play *play, uint32_t itt, uint64_t end)
{
    for (uint32_t i = play->asked_count; i-- > 0;)
        if (play->asked[i].itt == itt && end <= play->asked[i].expected) return &play->asked[i];
    return NULL;
}

static bool is_unique(const struct play *play, uint32_t itt)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < play->asked_count; i++) n += play->asked[i].itt == itt;
    return n == 1;
}

static void require_data_in(struct play *play, const uint8_t *h, uint32_t bytes)
{
    struct asked *asked = asked_of(play, be32_at(h + 16), (uint64_t)be32_at(h + 40) + bytes);
    REQUIRE(bytes > 0);
    if (!(play->how & HOW_MENDED)) return;
    REQUIRE(asked != NULL);
    if (!is_unique(play, asked->itt)) return;
    REQUIRE(be32_at(h + 36) == asked->data_sn++ && be32_at(h + 40) == asked->offset);
    asked->offset += bytes;
}

static void require_r2t(struct play *play, const uint8_t *h)
{
    uint32_t bytes = be32_at(h + 44);
    REQUIRE(bytes > 0 && bytes <= BURST && be32_at(h + 20) != PDU_NO_TAG);
    if (play->how & HOW_MENDED) REQUIRE(asked_of(play, be32_at(h + 16), (uint64_t)be32_at(h + 40) + bytes) != NULL);
}

static void require_response(const uint8_t *h, const uint8_t *data, uint32_t bytes)
{
    uint8_t residual = h[1] & (PDU_UNDERFLOW | PDU_OVERFLOW);
    REQUIRE(h[2] == 0 && residual != (PDU_UNDERFLOW | PDU_OVERFLOW));
    REQUIRE((residual != 0) == (be32_at(h + 44) != 0));
    REQUIRE(bytes == 0 || (h[3] == 0x02 && be16_at(data) == bytes - 2 && ((data[2] & 0x7f) == 0x70 || data[2] == 0x72)));
    REQUIRE(h[3] != 0x02 || bytes > 0);
}

/* Which PDUs carry a status, and so take a number (RFC 7143 4.2.2.2). */
static bool takes_stat_sn(const uint8_t *h)
{
    if (h[0] == PDU_DATA_IN) return h[1] & PDU_STATUS;
    if (h[0] == PDU_NOP_IN) return be32_at(h + 16) != PDU_NO_TAG;
    return h[0] != PDU_R2T;
}

static void require_pdu(struct play *play, struct answers *a, const uint8_t *h, const uint8_t *data, uint32_t bytes)
{
    bool silent = h[0] == PDU_DATA_IN && !(h[1] & PDU_STATUS); /* its StatSN is reserved */
    REQUIRE(h[4] == 0 && bytes <= SEGMENT);
    if (!a->began) REQUIRE(h[0] == PDU_LOGIN_RESPONSE && h[1] == 0x87 && be16_at(h + 36) == 0);
    if (!a->began) a->stat_sn = be32_at(h + 24);
    if (!silent) REQUIRE(be32_at(h + 24) == a->stat_sn);
    if (takes_stat_sn(h)) a->stat_sn++;
    if (a->began) REQUIRE(!sn_before(be32_at(h + 32), a->max_cmd_sn));
    REQUIRE(!sn_before(be32_at(h + 32) + 1, be32_at(h + 28)));
    a->max_cmd_sn = be32_at(h + 32);
    switch ((enum pdu_opcode)h[0]) {
    case PDU_LOGIN_RESPONSE: REQUIRE(!a->began); break;
    case PDU_DATA_IN: require_data_in(play, h, bytes); break;
    case PDU_R2T: require_r2t(play, h); break;
    case PDU_RESPONSE: require_response(h, data, bytes); break;
    case PDU_REJECT: REQUIRE(bytes == PDU_HEADER && h[2] != 0); break;
    case PDU_NOP_IN:
    case PDU_MANAGE_RESPONSE:
    case PDU_TEXT_RESPONSE:
    case PDU_LOGOUT_RESPONSE:
    case PDU_ASYNC: break;
    case PDU_NOP_OUT:
    case PDU_COMMAND:
    case PDU_MANAGE:
    case PDU_LOGIN:
    case PDU_TEXT:
    case PDU_DATA_OUT:
    case PDU_LOGOUT:
    case PDU_SNACK:
    default: REQUIRE(false);
    }
    a->began = true;
}

static void require_answers(struct play *play)
{
    size_t size;
    const uint8_t *at = stand_in_sent(&size);
    struct answers a = {.began = false};
    while (size >= PDU_HEADER) {
        uint32_t bytes = be24_at(at + 5);
        size_t head = PDU_HEADER + (a.began && (play->how & HOW_HEADER_DIGEST) ? PDU_DIGEST : 0);
        size_t tail = a.began && (play->how & HOW_DATA_DIGEST) && bytes > 0 ? PDU_DIGEST : 0;
        size_t whole = head + pdu_padded(bytes) + tail;
        REQUIRE(whole <= size);
        le32 crc = put32(crc32c(0, at, PDU_HEADER));
        if (head > PDU_HEADER) REQUIRE(memcmp(at + PDU_HEADER, crc.b, PDU_DIGEST) == 0);
        crc = put32(crc32c(0, at + head, pdu_padded(bytes)));
        if (tail > 0) REQUIRE(memcmp(at + whole - PDU_DIGEST, crc.b, PDU_DIGEST) == 0);
        require_pdu(play, &a, at, at + head, bytes);
        at += whole;
        size -= whole;
    }
    REQUIRE(size == 0);
}

/* ---- an input ---- */

static void open_unit(struct play *play)
{
    static const uint8_t pool_id[16] = "stand-in";
    struct scsi_unit_config u = {.volume = stand_in_volume(), .block_bytes = 512};
    play->lun_count = 2;
    scsi_unit_identify(&u, pool_id, 1);
    REQUIRE(scsi_unit_open(&u, &play->unit) == OK);
}

static void open_target(struct play *play)
{
    struct iscsi_target_config t = {.io = stand_in_io(),
                                    .name = "iqn.t:t",
                                    .listen = {"192.0.2.1:3260"},
                                    .listen_count = 1,
                                    .rules = {.admit = admit, .luns = luns, .arg = play},
                                    .memory = 16 << 20,
                                    .window = 8};
    REQUIRE(iscsi_target_open(&t, &play->target, NULL) == OK);
}

static void require_nothing_left(struct play *play, uint64_t logins)
{
    struct iscsi_stats stats;
    iscsi_target_stats(play->target, &stats);
    REQUIRE(stand_in_is_closed() && stats.connections == 0 && stats.sessions == 0 && stats.memory_used == 0);
    if (play->how & HOW_SECRET) REQUIRE(stats.logins == logins);
}

static void play_stream(struct play *play)
{
    struct iscsi_stats before;
    iscsi_target_stats(play->target, &before);
    stand_in_connect(play->stream, play->used, true);
    stand_in_run();
    if (play->how & HOW_CHANGED) {
        play->lun_count = 1;
        iscsi_target_changed(play->target);
        stand_in_run();
    }
    if (play->how & HOW_CLOSED) {
        iscsi_target_close(play->target, 1000);
        play->target = NULL;
        return;
    }
    if (!(play->how & HOW_STAYS)) stand_in_leave();
    stand_in_wait(play->how & HOW_STAYS ? 200000 : 0);
    require_nothing_left(play, before.logins);
}

/* The target stays for the inputs to come, unless one closes it: its memory is much more than a session. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct play play;
    if (size < 2 || size > FUZZ_INPUT_MAX) return 0;
    play.how = data[0];
    play.used = play.cmd_sn = play.asked_count = 0;
    if (play.target == NULL) {
        stand_in_begin(data[1], VOLUME);
        open_target(&play);
    }
    stand_in_again(data[1]);
    open_unit(&play);
    if (play.how & HOW_LOGGED_IN) play.how &= (uint8_t)~HOW_SECRET;
    if (play.how & HOW_LOGGED_IN) add_login(&play);
    add_input(&play, data + 2, size - 2);
    play_stream(&play);
    if (play.how & HOW_LOGGED_IN) require_answers(&play);
    scsi_unit_close(play.unit);
    REQUIRE(stand_in_is_closed() && stand_in_holds() == 0);
    return 0;
}
