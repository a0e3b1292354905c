/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what a session answers where the order of PDUs matters. Method: a target over the stand-in of the fuzzers, an initiator
 * that is an array of PDUs, and its answers one by one.
 */
#include "tests/check.h"

#include "fuzz/stand_in.h"
#include "iscsi/pdu.h"
#include "iscsi/target.h"

enum { VOLUME = 1 << 20, STREAM = 1 << 16 };

static struct {
    struct scsi_unit *unit;
    struct iscsi_target *target;
    uint8_t stream[STREAM];
    size_t used;
    const uint8_t *sent;
    size_t left;
    bool unmapped;
} s;

static bool admit(void *arg, const char *initiator, struct iscsi_access *ret_access)
{
    (void)arg;
    (void)ret_access;
    return strcmp(initiator, "iqn.x:y") == 0;
}

static uint32_t luns(void *arg, const char *initiator, struct iscsi_lun *ret_luns)
{
    (void)arg;
    (void)initiator;
    for (uint16_t i = 0; i < 2; i++) ret_luns[i] = (struct iscsi_lun){.lun = i, .unit = s.unit}; /* the same one twice */
    return s.unmapped ? 0 : 2;
}

static bool begin(void)
{
    static const uint8_t pool_id[16] = "session";
    stand_in_begin(1, VOLUME);
    struct scsi_unit_config u = {.volume = stand_in_volume(), .block_bytes = 512};
    struct iscsi_target_config t = {.io = stand_in_io(),
                                    .name = "iqn.t:t",
                                    .listen = {"192.0.2.1:3260"},
                                    .listen_count = 1,
                                    .rules = {.admit = admit, .luns = luns}};
    scsi_unit_identify(&u, pool_id, 1);
    s.used = 0;
    s.unmapped = false;
    return scsi_unit_open(&u, &s.unit) == OK && iscsi_target_open(&t, &s.target, NULL) == OK;
}

static void end(void)
{
    iscsi_target_close(s.target, 1000);
    scsi_unit_close(s.unit);
}

/* A PDU of the initiator; `flags` are its first two bytes, `at16` what stands from byte 16 on. */
static void add(uint16_t flags, const uint32_t at16[8], const void *data, uint32_t bytes)
{
    uint8_t *h = s.stream + s.used;
    memset(h, 0, PDU_HEADER + pdu_padded(bytes));
    be16_to(h, flags);
    be24_to(h + 5, bytes);
    memcpy(h + 8, "\x80isid", 6);
    for (int i = 0; i < 8; i++) be32_to(h + 16 + 4 * i, at16[i]);
    if ((h[0] & 0x3f) != PDU_LOGIN) memset(h + 8, 0, 8);
    if (bytes > 0) memcpy(h + PDU_HEADER, data, bytes);
    s.used += PDU_HEADER + pdu_padded(bytes);
}
#define WORDS(...) ((const uint32_t[8]){__VA_ARGS__})
#define TEXT(text) text, sizeof(text)

static void run(void)
{
    stand_in_connect(s.stream, s.used, true);
    stand_in_run();
    s.sent = stand_in_sent(&s.left);
}

/* The same initiator goes on: what is added in between arrives then. */
static void more_begin(void)
{
    s.used = 0;
}

static void more_end(void)
{
    size_t all, read = (size_t)(s.sent - stand_in_sent(&all));
    stand_in_more(s.stream, s.used);
    stand_in_run();
    s.sent = stand_in_sent(&all) + read;
    s.left = all - read;
}

/* The next answer, NULL: there is none. */
static const uint8_t *answer(void)
{
    const uint8_t *h = s.sent;
    if (s.left < PDU_HEADER) return NULL;
    size_t size = PDU_HEADER + pdu_padded(be24_at(h + 5));
    s.sent += size;
    s.left -= size;
    return h;
}

static bool is_login_answer(const uint8_t *h, uint16_t status)
{
    return h != NULL && h[0] == PDU_LOGIN_RESPONSE && be16_at(h + 36) == status;
}

TEST(a_session_has_one_type)
{
    static const char first[] = "InitiatorName=iqn.x:y\0SessionType=Discovery";
    CHECK(begin());
    add(0x4304, WORDS(1, 0, 1), TEXT(first));
    add(0x4387, WORDS(1, 0, 1), TEXT("SessionType=Normal")); /* would need no TargetName */
    run();
    CHECK(is_login_answer(answer(), 0));
    CHECK(is_login_answer(answer(), 0x0200));
    CHECK(answer() == NULL);
    end();
}

TEST(names_may_be_said_again_and_not_changed)
{
    static const char names[] = "InitiatorName=iqn.x:y\0TargetName=iqn.t:t\0SessionType=Normal";
    CHECK(begin());
    add(0x4304, WORDS(1, 0, 1), TEXT(names));
    add(0x4304, WORDS(1, 0, 1), TEXT(names));
    add(0x4387, WORDS(1, 0, 1), TEXT("TargetName=iqn.t:other"));
    run();
    CHECK(is_login_answer(answer(), 0));
    CHECK(is_login_answer(answer(), 0));
    CHECK(is_login_answer(answer(), 0x0200));
    CHECK(answer() == NULL);
    end();
}

static void add_login(void)
{
    static const char names[] = "InitiatorName=iqn.x:y\0TargetName=iqn.t:t";
    add(0x4387, WORDS(1, 0, 1), TEXT(names));
}

TEST(a_ping_between_two_parts_of_a_text_leaves_it_alone)
{
    CHECK(begin());
    add_login();
    add(0x0440, WORDS(2, PDU_NO_TAG, 1), "SendTar", 7);
    add(0x4080, WORDS(3, PDU_NO_TAG, 2), "XXXXXXXXXXXX", 12);
    add(0x0480, WORDS(2, PDU_NO_TAG, 2), TEXT("gets=iqn.t:t"));
    run();
    CHECK(is_login_answer(answer(), 0));
    const uint8_t *h = answer();
    CHECK(h != NULL && h[0] == PDU_TEXT_RESPONSE && h[1] == 0 && be32_at(h + 20) != PDU_NO_TAG && be24_at(h + 5) == 0);
    h = answer();
    CHECK(h != NULL && h[0] == PDU_NOP_IN && be24_at(h + 5) == 12 && memcmp(h + PDU_HEADER, "XXXXXXXXXXXX", 12) == 0);
    h = answer();
    CHECK(h != NULL && h[0] == PDU_TEXT_RESPONSE && strcmp((const char *)h + PDU_HEADER, "TargetName=iqn.t:t") == 0);
    end();
}

/* The last word is the initiator's: an answer is final where the request was (RFC 7143 11.11.1). */
TEST(a_text_is_over_when_the_initiator_says_so)
{
    CHECK(begin());
    add_login();
    add(0x0400, WORDS(2, PDU_NO_TAG, 1), TEXT("SendTargets=iqn.t:t"));
    add(0x0480, WORDS(2, 1, 2), NULL, 0);
    run();
    CHECK(is_login_answer(answer(), 0));
    const uint8_t *h = answer();
    CHECK(h != NULL && h[0] == PDU_TEXT_RESPONSE && h[1] == 0 && be32_at(h + 20) == 1 && be24_at(h + 5) > 0);
    h = answer();
    CHECK(h != NULL && h[0] == PDU_TEXT_RESPONSE && h[1] == PDU_FINAL && be32_at(h + 20) == PDU_NO_TAG && be24_at(h + 5) == 0);
    end();
}

TEST(commands_outside_of_the_window_are_ignored)
{
    CHECK(begin());
    add_login();
    add(0x0180, WORDS(2, 0, 2), NULL, 0);
    add(0x0180, WORDS(3, 0, 0), NULL, 0);
    add(0x0180, WORDS(4, 0, 1 + 64), NULL, 0);
    add(0x0180, WORDS(5, 0, 1), NULL, 0);
    run();
    CHECK(is_login_answer(answer(), 0));
    const uint8_t *h = answer();
    CHECK(h != NULL && h[0] == PDU_RESPONSE && be32_at(h + 16) == 5 && be32_at(h + 28) == 2);
    CHECK(answer() == NULL);
    end();
}

/* A write that waits for its data: it ends without an answer, and the reset is answered when it has. */
TEST(a_warm_reset_ends_what_is_under_way)
{
    CHECK(begin());
    add_login();
    add(0x0180, WORDS(2, 0, 1), NULL, 0); /* takes the unit attention */
    add(0x01a1, WORDS(3, 8192, 2, 0, 0x2a000000, 0, 0x10000000), NULL, 0);
    add(0x0286, WORDS(4, PDU_NO_TAG, 3), NULL, 0);
    add(0x0180, WORDS(5, 0, 4), NULL, 0);
    run();
    CHECK(is_login_answer(answer(), 0));
    const uint8_t *of[6] = {NULL}; /* by tag; the reset waits for what leaves before it, not for what comes after it */
    for (const uint8_t *h; (h = answer()) != NULL;) {
        CHECK(be32_at(h + 16) < 6);
        of[be32_at(h + 16)] = h;
    }
    CHECK(of[2] != NULL && of[2][0] == PDU_RESPONSE);
    CHECK(of[3] == NULL || of[3][0] == PDU_R2T);
    CHECK(of[4] != NULL && of[4][0] == PDU_MANAGE_RESPONSE && of[4][2] == 0);
    CHECK(of[5] != NULL && of[5][0] == PDU_RESPONSE && of[5][3] == 0); /* who asked for it knows of it */
    end();
}

/* More of them than there is room for answers to: nobody reads, and nobody is cut off. */
TEST(a_flood_of_pings_and_functions_waits_for_room)
{
    enum { EACH = 40 };
    CHECK(begin());
    add_login();
    for (uint32_t i = 0; i < EACH; i++) {
        add(0x4080, WORDS(100 + i, PDU_NO_TAG, 1), "x", 1);
        add(0x4286, WORDS(200 + i, PDU_NO_TAG, 1), NULL, 0);
    }
    run();
    CHECK(is_login_answer(answer(), 0));
    uint32_t pings = 0, functions = 0;
    for (const uint8_t *h; (h = answer()) != NULL;) {
        pings += h[0] == PDU_NOP_IN;
        functions += h[0] == PDU_MANAGE_RESPONSE && h[2] == 0;
    }
    CHECK_EQ(pings, EACH);
    CHECK_EQ(functions, EACH);
    end();
}

static void add_mode_select(uint32_t itt, uint32_t cmd_sn)
{
    /* header, control page with SWP */
    static const uint8_t list[] = {0, 0, 0, 0, 0x0a, 10, 0, 0x10, 0x08, 0, 0, 0, 0xff, 0xff, 0, 0};
    add(0x01a1, WORDS(itt, sizeof list, cmd_sn, 0, 0x15100000, sizeof list << 24), list, sizeof list);
}

static void add_mode_sense(uint32_t itt, uint32_t cmd_sn)
{
    add(0x01c1, WORDS(itt, 16, cmd_sn, 0, 0x1a080a00, 16u << 24), NULL, 0);
}

TEST(a_reset_forgets_what_mode_select_has_changed)
{
    CHECK(begin());
    add_login();
    add(0x0180, WORDS(2, 0, 1), NULL, 0); /* takes the unit attention */
    add_mode_select(3, 2);
    run();
    CHECK(is_login_answer(answer(), 0) && answer() != NULL);
    const uint8_t *h = answer();
    CHECK(h != NULL && h[0] == PDU_RESPONSE && h[3] == 0);
    more_begin();
    add_mode_sense(4, 3);
    more_end();
    h = answer();
    CHECK(h != NULL && h[0] == PDU_DATA_IN && (h[PDU_HEADER + 8] & 0x08));
    more_begin();
    add(0x4285, WORDS(5, PDU_NO_TAG, 4), NULL, 0);
    add_mode_sense(6, 4);
    more_end();
    h = answer();
    CHECK(h != NULL && h[0] == PDU_MANAGE_RESPONSE && h[2] == 0);
    h = answer();
    CHECK(h != NULL && h[0] == PDU_DATA_IN && (h[PDU_HEADER + 8] & 0x08) == 0);
    end();
}

/* What was under way ends, then all connections do. */
TEST(a_cold_reset_ends_all_sessions)
{
    CHECK(begin());
    add_login();
    add(0x0180, WORDS(2, 0, 1), NULL, 0); /* takes the unit attention */
    add(0x01a1, WORDS(3, 8192, 2, 0, 0x2a000000, 0, 0x10000000), NULL, 0);
    add(0x4287, WORDS(4, PDU_NO_TAG, 3), NULL, 0);
    run();
    CHECK(is_login_answer(answer(), 0));
    const uint8_t *last = NULL;
    for (const uint8_t *h; (h = answer()) != NULL;) last = h;
    CHECK(last != NULL && last[0] == PDU_MANAGE_RESPONSE && last[2] == 0 && be32_at(last + 16) == 4);
    CHECK(stand_in_is_closed());
    end();
}

/* ---- text ---- */

/* Of all that was agreed, only what we may send in one PDU can be changed (RFC 7143 13). */
TEST(few_keys_may_be_said_late)
{
    static const char keys[] = "MaxRecvDataSegmentLength=512\0InitiatorAlias=me\0MaxBurstLength=512\0HeaderDigest=CRC32C\0"
                               "TargetName=iqn.t:t\0X-com.example=1\0CHAP_N=me";
    static const char expected[] = "MaxBurstLength=Reject\0HeaderDigest=Reject\0TargetName=Reject\0"
                                   "X-com.example=NotUnderstood\0CHAP_N=Reject";
    struct iscsi_session_info info;
    CHECK(begin());
    add_login();
    add(0x0480, WORDS(2, PDU_NO_TAG, 1), TEXT(keys));
    add(0x01c1, WORDS(3, 8, 2, 0, 0x25000000), NULL, 0); /* takes the unit attention */
    add(0x01c1, WORDS(4, 1024, 3, 0, 0x28000000, 0, 0x02000000), NULL, 0);
    run();
    CHECK(is_login_answer(answer(), 0));
    const uint8_t *h = answer();
    CHECK(h != NULL && h[0] == PDU_TEXT_RESPONSE && h[1] == PDU_FINAL && be24_at(h + 5) == sizeof expected);
    CHECK_BYTES(h + PDU_HEADER, (const uint8_t *)expected, sizeof expected);
    CHECK(iscsi_session_next(s.target, 0, &info) == OK && strcmp(info.alias, "me") == 0);
    h = answer();
    CHECK(h != NULL && h[0] == PDU_RESPONSE);
    uint32_t parts = 0;
    for (; (h = answer()) != NULL; parts++) CHECK(h[0] == PDU_DATA_IN && be24_at(h + 5) == 512);
    CHECK_EQ(parts, 2);
    end();
}

TEST(a_length_that_cannot_be_is_rejected)
{
    static const char expected[] = "MaxRecvDataSegmentLength=Reject";
    CHECK(begin());
    add_login();
    add(0x0480, WORDS(2, PDU_NO_TAG, 1), TEXT("MaxRecvDataSegmentLength=100"));
    run();
    CHECK(is_login_answer(answer(), 0));
    const uint8_t *h = answer();
    CHECK(h != NULL && h[0] == PDU_TEXT_RESPONSE && be24_at(h + 5) == sizeof expected);
    CHECK(strcmp((const char *)h + PDU_HEADER, expected) == 0);
    end();
}

/* ---- NOP ---- */

/* It comes back whole, up to what the initiator takes, and its memory is given back. */
TEST(a_long_ping_comes_back)
{
    static uint8_t ping[40000];
    static const char names[] = "InitiatorName=iqn.x:y\0TargetName=iqn.t:t\0MaxRecvDataSegmentLength=30000";
    struct iscsi_stats stats;
    CHECK(begin());
    for (uint32_t i = 0; i < sizeof ping; i++) ping[i] = (uint8_t)(i * 7 + i / 256);
    add(0x4387, WORDS(1, 0, 1), TEXT(names));
    add(0x4080, WORDS(2, PDU_NO_TAG, 1), ping, sizeof ping);
    add(0x0080, WORDS(3, PDU_NO_TAG, 77), ping, 20000); /* outside of the window */
    run();
    CHECK(is_login_answer(answer(), 0));
    const uint8_t *h = answer();
    CHECK(h != NULL && h[0] == PDU_NOP_IN && be32_at(h + 16) == 2 && be24_at(h + 5) == 30000);
    CHECK(memcmp(h + PDU_HEADER, ping, 30000) == 0);
    CHECK(answer() == NULL);
    iscsi_target_stats(s.target, &stats);
    CHECK_EQ(stats.memory_used, 0);
    end();
}

/* ---- task attributes (SAM-5 8.6) ---- */

enum { SIMPLE = 0x0181, ORDERED = 0x0182, HEAD = 0x0183, LOGOUT = 0x0680 };

static void add_write(uint32_t itt, uint32_t cmd_sn)
{
    add(SIMPLE | 0x20, WORDS(itt, 512, cmd_sn, 0, 0x2a000000, 0, 0x01000000), NULL, 0);
}

static void add_unit_ready(uint16_t attribute, uint32_t itt, uint32_t cmd_sn)
{
    add(attribute, WORDS(itt, 0, cmd_sn), NULL, 0);
}

/* The tags of the next answers of commands with GOOD. */
static bool good(uint32_t itt)
{
    const uint8_t *h = answer();
    return h != NULL && h[0] == PDU_RESPONSE && be32_at(h + 16) == itt && h[3] == 0;
}

static uint32_t ttt_of(uint32_t itt)
{
    const uint8_t *h = answer();
    return h != NULL && h[0] == PDU_R2T && be32_at(h + 16) == itt ? be32_at(h + 20) : 0;
}

/* An ORDERED command waits for a write whose data has not come, a later SIMPLE one for it; HEAD OF QUEUE waits for nobody. */
TEST(ordered_commands_keep_the_order)
{
    static uint8_t data[512];
    CHECK(begin());
    add_login();
    add_unit_ready(SIMPLE, 2, 1); /* takes the unit attention */
    add_write(3, 2);
    add_unit_ready(SIMPLE, 4, 3);
    add_unit_ready(ORDERED, 5, 4);
    add_unit_ready(SIMPLE, 6, 5);
    add_unit_ready(HEAD, 7, 6);
    run();
    CHECK(is_login_answer(answer(), 0) && answer() != NULL);
    uint32_t ttt = ttt_of(3);
    CHECK(ttt != 0 && good(4) && good(7) && answer() == NULL);
    more_begin();
    add(0x0580, WORDS(3, ttt), data, sizeof data);
    more_end();
    CHECK(good(3) && good(5) && good(6) && answer() == NULL);
    end();
}

/* What waits for its turn ends without ever running, and who waited for it goes on. */
TEST(a_command_that_waits_its_turn_can_be_aborted)
{
    static uint8_t data[512];
    CHECK(begin());
    add_login();
    add_unit_ready(SIMPLE, 2, 1);
    add_write(3, 2);
    add_unit_ready(ORDERED, 4, 3);
    add_unit_ready(SIMPLE, 5, 4);
    add(0x4281, WORDS(6, 4, 5, 0, 3), NULL, 0); /* ABORT TASK of 4 */
    run();
    CHECK(is_login_answer(answer(), 0) && answer() != NULL);
    uint32_t ttt = ttt_of(3);
    const uint8_t *h = answer();
    CHECK(ttt != 0 && h != NULL && h[0] == PDU_MANAGE_RESPONSE && h[2] == 0 && good(5) && answer() == NULL);
    more_begin();
    add(0x0580, WORDS(3, ttt), data, sizeof data);
    more_end();
    CHECK(good(3) && answer() == NULL);
    end();
}

/* Later commands wait for a HEAD OF QUEUE one, even while its data has not come. */
TEST(head_of_queue_goes_first)
{
    static uint8_t data[512];
    CHECK(begin());
    add_login();
    add_unit_ready(SIMPLE, 2, 1);
    add(HEAD | 0x20, WORDS(3, 512, 2, 0, 0x2a000000, 0, 0x01000000), NULL, 0);
    add_unit_ready(SIMPLE, 4, 3);
    add_unit_ready(ORDERED, 5, 4);
    run();
    CHECK(is_login_answer(answer(), 0) && answer() != NULL);
    uint32_t ttt = ttt_of(3);
    CHECK(ttt != 0 && answer() == NULL);
    more_begin();
    add(0x0580, WORDS(3, ttt), data, sizeof data);
    more_end();
    CHECK(good(3) && good(4) && good(5) && answer() == NULL);
    end();
}

/* What is aborted together ends together: the end of an ORDERED command does not start what waited for it. */
TEST(who_waited_for_an_aborted_command_is_aborted_with_it)
{
    static uint8_t data[512] = {1};
    CHECK(begin());
    add_login();
    add_unit_ready(SIMPLE, 2, 1);
    add(SIMPLE | 0x20, WORDS(3, 512, 2, 0, 0x2a000000, 0, 0x01000000), data, sizeof data); /* their data is with them */
    add_unit_ready(ORDERED, 4, 3);
    add(SIMPLE | 0x20, WORDS(5, 512, 4, 0, 0x2a000000, 0x00080000, 0x01000000), data, sizeof data);
    stand_in_hold(true);
    run();
    CHECK(is_login_answer(answer(), 0) && answer() != NULL && answer() == NULL);
    more_begin();
    add(0x4285, WORDS(6, UINT32_MAX, 5), NULL, 0); /* LOGICAL UNIT RESET */
    more_end();
    stand_in_hold(false);
    more_begin();
    more_end();
    const uint8_t *h = answer();
    CHECK(h != NULL && h[0] == PDU_MANAGE_RESPONSE && h[2] == 0 && answer() == NULL);
    CHECK(stand_in_content()[0] == 1 && stand_in_content()[8 * 512] == 0);
    end();
}

/* A write that waited for the MODE SELECT that forbids it is refused. */
TEST(what_changes_while_a_command_waits_counts)
{
    static uint8_t data[512];
    uint8_t page[16] = {0, 0, 0, 0, 0x0a, 10, 0, 0x10, 0x08, 0, 0, 0, 0xff, 0xff, 0, 0}; /* control, SWP */
    CHECK(begin());
    add_login();
    add_unit_ready(SIMPLE, 2, 1);
    add_write(3, 2);
    add(ORDERED | 0x20, WORDS(4, 16, 3, 0, 0x15100000, 0x10000000), page, sizeof page);
    add(SIMPLE | 0x20, WORDS(5, 512, 4, 0, 0x2a000000, 0x00080000, 0x01000000), data, sizeof data);
    run();
    CHECK(is_login_answer(answer(), 0) && answer() != NULL);
    uint32_t ttt = ttt_of(3);
    CHECK(ttt != 0 && answer() == NULL);
    more_begin();
    add(0x0580, WORDS(3, ttt), data, sizeof data);
    more_end();
    CHECK(good(3) && good(4));
    const uint8_t *h = answer();
    CHECK(h != NULL && h[0] == PDU_RESPONSE && be32_at(h + 16) == 5 && h[3] == 2 && answer() == NULL);
    end();
}

/* ---- access that is taken away ---- */

/* The session is cut at once, but it is ending until its last write has ended: what was begun may still become visible. */
TEST(who_loses_a_unit_is_cut_and_ends)
{
    static uint8_t data[512];
    struct iscsi_session_info info;
    CHECK(begin());
    add_login();
    add_unit_ready(SIMPLE, 2, 1);
    run();
    CHECK(is_login_answer(answer(), 0) && answer() != NULL && !iscsi_target_is_ending(s.target));
    memset(data, 0x5a, sizeof data);
    stand_in_hold(true);
    more_begin();
    add(SIMPLE | 0x20, WORDS(3, 512, 2, 0, 0x2a000000, 0, 0x01000000), data, sizeof data);
    more_end();
    CHECK(answer() == NULL && stand_in_content()[0] == 0);
    s.unmapped = true;
    CHECK(stand_in_lost() == 0);
    iscsi_target_changed(s.target);
    CHECK(stand_in_request() != NULL && stand_in_lost() == stand_in_request()->session);
    CHECK(iscsi_target_is_ending(s.target) && iscsi_session_next(s.target, 0, &info) == ERR_NO_KEY);
    stand_in_run();
    CHECK(iscsi_target_is_ending(s.target) && !stand_in_is_closed());
    stand_in_hold(false);
    stand_in_run();
    CHECK(!iscsi_target_is_ending(s.target) && stand_in_is_closed() && stand_in_content()[0] == 0x5a);
    end();
}

/* The same for one that has just logged out: its last write is told, too. */
TEST(who_loses_a_unit_while_it_leaves_is_cut)
{
    static uint8_t data[512];
    CHECK(begin());
    add_login();
    add_unit_ready(SIMPLE, 2, 1);
    run();
    stand_in_hold(true);
    more_begin();
    add(SIMPLE | 0x20, WORDS(3, 512, 2, 0, 0x2a000000, 0, 0x01000000), data, sizeof data);
    more_end();
    stand_in_stall(true); /* the answer to its logout does not get away */
    more_begin();
    add(LOGOUT, WORDS(4, 0, 3), NULL, 0);
    more_end();
    CHECK(stand_in_lost() == 0);
    s.unmapped = true;
    iscsi_target_changed(s.target);
    CHECK(stand_in_request() != NULL && stand_in_lost() == stand_in_request()->session && iscsi_target_is_ending(s.target));
    stand_in_stall(false);
    stand_in_hold(false);
    stand_in_run();
    CHECK(!iscsi_target_is_ending(s.target) && stand_in_is_closed());
    end();
}

/* ---- what an abort leaves ---- */

/* The pieces of a command that have not begun when it is aborted do not begin: here those of a WRITE SAME. */
TEST(an_aborted_command_begins_nothing_more)
{
    static uint8_t pattern[512];
    CHECK(begin());
    add_login();
    add_unit_ready(SIMPLE, 2, 1);
    run();
    memset(pattern, 0x5a, sizeof pattern);
    stand_in_hold(true);
    more_begin();
    add(SIMPLE | 0x20, WORDS(3, 512, 2, 0, 0x41000000, 0x08, 0), pattern, sizeof pattern);
    add(0x4281, WORDS(6, 3, 3, 0, 2), NULL, 0); /* ABORT TASK of 3 */
    more_end();
    CHECK(stand_in_request() != NULL && stand_in_request()->bytes < VOLUME);
    stand_in_hold(false);
    stand_in_run();
    CHECK(stand_in_content()[0] == 0x5a && stand_in_content()[VOLUME - 1] == 0);
    end();
}

/* ---- TSIH ---- */

/* Of sessions that are there: sim/login.c. */
TEST(a_session_that_is_not_there_cannot_be_joined)
{
    CHECK(begin());
    add_login();
    be16_to(s.stream + 14, 7);
    run();
    CHECK(is_login_answer(answer(), 0x020a) && answer() == NULL);
    end();
}

TESTS(a_session_has_one_type, names_may_be_said_again_and_not_changed, a_ping_between_two_parts_of_a_text_leaves_it_alone,
      a_text_is_over_when_the_initiator_says_so, commands_outside_of_the_window_are_ignored,
      a_warm_reset_ends_what_is_under_way, a_flood_of_pings_and_functions_waits_for_room,
      a_reset_forgets_what_mode_select_has_changed, a_cold_reset_ends_all_sessions, few_keys_may_be_said_late,
      a_length_that_cannot_be_is_rejected, a_long_ping_comes_back, ordered_commands_keep_the_order,
      a_command_that_waits_its_turn_can_be_aborted, head_of_queue_goes_first,
      who_waited_for_an_aborted_command_is_aborted_with_it, what_changes_while_a_command_waits_counts,
      who_loses_a_unit_is_cut_and_ends, who_loses_a_unit_while_it_leaves_is_cut, an_aborted_command_begins_nothing_more,
      a_session_that_is_not_there_cannot_be_joined)
