/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what replicas say to each other never changes its meaning. Method: the sections `replica_...` of format.txt, a field a
 * line, made by a program that shares no code with the codec. Each is encoded from the message written here and must be these
 * bytes, and these bytes decoded must be that message, all of it.
 */
#include "golden/kept.h"
#include "volume/replica/codec.h"

enum { VOLUME = 0x01020304, BOOT = 0x0a0b0c0d };

#define JOIN 0x0000000a00000001u
#define TO_ALL .from = 2, .boot = BOOT, .epoch = 9
#define OWNER TO_ALL, .commit = 0x1122
#define MINE                                                                                                                   \
    {                                                                                                                          \
        2, BOOT, 0x0102030405                                                                                                  \
    }
#define ITS                                                                                                                    \
    {                                                                                                                          \
        6, 0x0e, 0x0f                                                                                                          \
    }
#define CONFIG                                                                                                                 \
    {                                                                                                                          \
        .version = 0x0107, .epoch = 9, .boot = 0x0203, .owner = 3, .in_sync = 0x0c, .learners = 0x81, .forced_epoch = 8,       \
        .forced_sequence = 0x0fff, .join = {                                                                                   \
            [0] = 5,                                                                                                           \
            [2] = JOIN,                                                                                                        \
            [3] = (uint64_t)1 << 63                                                                                            \
        }                                                                                                                      \
    }

static const struct replica_message heartbeat = {
    .kind = REPLICA_HEARTBEAT, OWNER, .u.beat = {.clock = 0x0011223344556677, .silent = 5, .config = CONFIG}};
static const struct replica_message heartbeat_ack = {.kind = REPLICA_HEARTBEAT_ACK,
                                                     OWNER,
                                                     .join = JOIN,
                                                     .u.beat = {.clock = 0x0011223344556677,
                                                                .echo = 0x0001020304050607,
                                                                .boot_of = 0x0d0e,
                                                                .granted = true,
                                                                .silent = 5,
                                                                .version = 0x0108,
                                                                .config = CONFIG}};
static const struct replica_message record = {
    .kind = REPLICA_RECORD,
    OWNER,
    .join = JOIN,
    .u.record = {{0x1123, 8}, 7, {.kind = REPLICA_WRITE, .count = 32, .lba = ((uint64_t)1 << 37) - 32, .request = MINE}}};
static const struct replica_message record_noop = {
    .kind = REPLICA_RECORD, TO_ALL, .join = JOIN, .u.record = {{1, 9}, 0, {.kind = REPLICA_NOOP}}};
static const struct replica_message prepared = {
    .kind = REPLICA_PREPARED,
    TO_ALL,
    .join = JOIN,
    .u.prepared = {
        .sequence = 0x1120, .end = 0x1123, .published = {0x111e, 8}, .want = 0x1121, .credit = 0x10000, .credit_at = 0x111f}};
static const struct replica_message prepared_full = {
    .kind = REPLICA_PREPARED,
    TO_ALL,
    .join = JOIN,
    .u.prepared = {
        .sequence = 0x1123, .end = 0x1123, .published = {0x1123, 8}, .credit = 3, .credit_at = 0x1123, .full = true}};
static const struct replica_message commit = {.kind = REPLICA_COMMIT, OWNER, .join = JOIN};
static const struct replica_message forward = {
    .kind = REPLICA_FORWARD,
    TO_ALL,
    .u.forward = {.change = {.kind = REPLICA_FREE, .count = 65535, .lba = 4096, .since = 0x0033445566778899, .request = MINE},
                  .clock = 0x00aabbccddeeff00}};
static const struct replica_message confirm = {
    .kind = REPLICA_CONFIRM, OWNER, .u.forward = {.change.request = ITS, .ticket = 0x30000004d}};
static const struct replica_message confirmed = {
    .kind = REPLICA_CONFIRMED, .from = 2, .boot = BOOT, .u.forward = {.ticket = 0x30000004d, .alive = true}};
static const struct replica_message done = {
    .kind = REPLICA_DONE, OWNER, .u.forward = {.change.request = ITS, .outcome = REPLICA_FULL}};
static const struct replica_message want = {
    .kind = REPLICA_WANT,
    TO_ALL,
    .join = JOIN,
    .u.step.learn = {.on = true, .epoch = 7, .base = 0x0100, .low = 0x0900, .cursor = 0x8000, .applied = 0x1100}};
static const struct replica_message want_new = {
    .kind = REPLICA_WANT, TO_ALL, .join = JOIN, .u.step.learn = {.low = REPLICA_NO_GAP}};
static const struct replica_message want_checked = {
    .kind = REPLICA_WANT,
    TO_ALL,
    .join = JOIN,
    .u.step = {.learn = {true, 9, 0x0100, REPLICA_NO_GAP, REPLICA_WALK_END, 0x1121},
               .check = true,
               .digested = true,
               .mark = {0x1120, 8}}};
static const struct replica_message step = {
    .kind = REPLICA_STEP,
    OWNER,
    .join = JOIN,
    .u.step = {.learn = {.on = true, .epoch = 9, .base = 0x0100, .low = REPLICA_NO_GAP, .cursor = 0x8800, .applied = 0x1102},
               .cursor = 0x8000,
               .applied = 0x1100,
               .stretch = 2048,
               .count = 2,
               .records = {{{0x1101, 7}, 7, {.kind = REPLICA_WRITE, .count = 1, .lba = 5, .request = {0, 4, 0x55}}},
                           {{0x1102, 8}, 7, {.kind = REPLICA_NOOP}}}}};
static const struct replica_message step_gap = {.kind = REPLICA_STEP,
                                                OWNER,
                                                .join = JOIN,
                                                .u.step = {.learn = {true, 9, 0x0100, 0x0900, REPLICA_WALK_END, 0x1122},
                                                           .cursor = 0x8800,
                                                           .applied = 0x0900,
                                                           .stretch = UINT64_MAX - 0x8800,
                                                           .gap = true}};

#define OVER .learn = {true, 9, 0x0100, REPLICA_NO_GAP, REPLICA_WALK_END, 0x1122}, .cursor = REPLICA_WALK_END
#define WINDOWS .windows = {[0] = {4, 0x55, UINT64_MAX}, [7] = {0x0e, 0x0f, 5}}
#define DIGEST .digest = {0x0102030405060708, 0x1112131415161718}
#define UNMAP .count = 1, .records = {{{0x1122, 0}, 0, {.kind = REPLICA_FREE, .count = 9, .lba = 100}}}

static const struct replica_message step_check = {
    .kind = REPLICA_STEP,
    OWNER,
    .join = JOIN,
    .u.step = {OVER, .applied = 0x1121, .check = true, .mark = {.sequence = 0x1122}, WINDOWS, UNMAP}};
static const struct replica_message step_digested = {
    .kind = REPLICA_STEP,
    OWNER,
    .join = JOIN,
    .u.step = {OVER, .applied = 0x1121, .digested = true, .mark = {.sequence = 0x1121}, DIGEST, UNMAP}};
static const struct replica_message step_both = {
    .kind = REPLICA_STEP,
    OWNER,
    .join = JOIN,
    .u.step = {OVER, .applied = 0x1122, .check = true, .digested = true, .mark = {0x1122, 8}, WINDOWS, DIGEST}};
static const struct replica_message follow = {.kind = REPLICA_FOLLOW, TO_ALL, .join = JOIN, .u.step.mark = {0x1122, 8}};
static const struct replica_message again = {.kind = REPLICA_AGAIN, OWNER, .join = JOIN};
static const struct replica_message ask = {.kind = REPLICA_ASK, TO_ALL, .read = 0x0a0b0c0d00000005, .u.beat.version = 0x0107};
static const struct replica_message agreed = {
    .kind = REPLICA_AGREED, OWNER, .read = 0x0a0b0c0d00000005, .u.beat.version = 0x0107};
static const struct replica_message borrow = {
    .kind = REPLICA_BORROW, TO_ALL, .read = 0x0a0b0c0d00000006, .u.borrow.lba = 0x1011121314};
static const struct replica_message lent = {.kind = REPLICA_LENT, OWNER, .read = 0x0a0b0c0d00000006, .u.borrow.has = true};

static const struct {
    const char *section;
    const struct replica_message *message;
    bool content;
} all[] = {
    {"replica_heartbeat", &heartbeat, false},
    {"replica_heartbeat_ack", &heartbeat_ack, false},
    {"replica_record", &record, true},
    {"replica_record_noop", &record_noop, false},
    {"replica_prepared", &prepared, false},
    {"replica_prepared_full", &prepared_full, false},
    {"replica_commit", &commit, false},
    {"replica_forward", &forward, true},
    {"replica_confirm", &confirm, false},
    {"replica_confirmed", &confirmed, false},
    {"replica_done", &done, false},
    {"replica_want", &want, false},
    {"replica_want_new", &want_new, false},
    {"replica_want_checked", &want_checked, false},
    {"replica_step", &step, true},
    {"replica_step_gap", &step_gap, true},
    {"replica_step_check", &step_check, true},
    {"replica_step_digested", &step_digested, true},
    {"replica_step_both", &step_both, false},
    {"replica_follow", &follow, false},
    {"replica_again", &again, false},
    {"replica_ask", &ask, false},
    {"replica_agreed", &agreed, false},
    {"replica_borrow", &borrow, false},
    {"replica_lent", &lent, true},
};

enum { ALL = sizeof all / sizeof all[0] };

TEST(messages_are_kept)
{
    uint8_t head[LINK_HEAD_MAX];
    struct replica_message back;
    uint32_t volume = 0, kinds = 0;
    for (uint32_t i = 0; i < ALL; i++) {
        const struct golden *g = kept(all[i].section);
        CHECK(is_kept(g, head, replica_encode(VOLUME, all[i].message, head)));
        CHECK_OK(replica_decode(g->bytes, g->size, &volume, &back));
        CHECK_EQ(volume, VOLUME);
        CHECK_BYTES(&back, all[i].message, sizeof back);
        CHECK(replica_has_content(&back) == all[i].content);
        kinds |= 1u << all[i].message->kind;
    }
    CHECK_EQ(kinds, (2u << REPLICA_LENT) - 1);
}

TEST(heartbeats_are_kept)
{
    const struct golden *g = kept("replica_heartbeats");
    uint8_t head[LINK_HEAD_MAX];
    struct replica_heartbeats many;
    struct replica_message back;
    struct cursor c;
    uint32_t volume = 0;
    replica_heartbeats_begin(&many, head);
    CHECK(replica_heartbeats_add(&many, 1, &heartbeat) && replica_heartbeats_add(&many, 2, &heartbeat_ack));
    CHECK(is_kept(g, head, many.bytes));
    CHECK_OK(replica_heartbeats_decode(g->bytes, g->size, &c));
    CHECK(replica_heartbeats_take(&c, &volume, &back) && volume == 1);
    CHECK_BYTES(&back, &heartbeat, sizeof back);
    CHECK(replica_heartbeats_take(&c, &volume, &back) && volume == 2);
    CHECK_BYTES(&back, &heartbeat_ack, sizeof back);
    CHECK(!replica_heartbeats_take(&c, &volume, &back));
}

TESTS(messages_are_kept, heartbeats_are_kept)
