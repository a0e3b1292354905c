/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames of links against bytes.
 *
 * Goal: every field lies where link_format.h has it, and what cannot be is refused. Method: frames written out by hand, both
 * ways; each limit from both sides; two HELLOs of every kind of disagreement.
 */
#include "tests/check.h"

#include "cluster/codec_link.h"

TEST(frames_lie_as_written)
{
    static const uint8_t bytes[24] = {0x34, 0x12, 0, 0, 7, 0, 0x22, 0x11, 4, 3, 2, 1, 8, 7, 6, 5, 0x34, 0x0f, 0, 0, 0, 0, 1, 0};
    struct frame f;
    struct wire_frame wire;
    CHECK_OK(frame_decode(bytes, sizeof bytes, &f));
    CHECK(f.type == FRAME_MESSAGE && !f.urgent && f.length == 0x1234 && f.kind == 0x1122);
    CHECK(f.stream == 0x01020304 && f.session == 0x05060708 && f.head_bytes == 0xf34 && f.body_bytes == 0x10000);
    frame_encode(&f, &wire);
    CHECK_BYTES(&wire, bytes, sizeof bytes);
    CHECK_ERR(ERR_TRUNCATED, frame_decode(bytes, sizeof bytes - 1, &f));
}

static enum err judge(struct frame f)
{
    struct wire_frame wire;
    struct frame back;
    frame_encode(&f, &wire);
    return frame_decode(&wire, sizeof wire, &back);
}

static struct frame message(uint32_t head, uint32_t body, uint32_t length)
{
    return (struct frame){
        .type = FRAME_MESSAGE, .stream = 1, .session = 1, .head_bytes = head, .body_bytes = body, .length = length};
}

TEST(limits_are_kept)
{
    static const struct {
        enum frame_type type;
        uint32_t least, most;
    } control[] = {{FRAME_HELLO, 96, 1024},
                   {FRAME_REFUSE, 4, 204},
                   {FRAME_PING, 32, 32},
                   {FRAME_PONG, 32, 32},
                   {FRAME_CREDIT, 32, 32},
                   {FRAME_DEAD, 8, 8},
                   {FRAME_PART, 1, LINK_PART_MAX},
                   {FRAME_SIGN, 1, DER_MAX},
                   {FRAME_SIGNED, 0, DER_MAX},
                   {FRAME_JOIN, 41, 40 + DER_MAX + JOIN_INFO_MAX},
                   {FRAME_JOINED, 17, 16 + 3 * DER_MAX + POOL_KEY_BYTES}};
    for (size_t i = 0; i < sizeof control / sizeof control[0]; i++) {
        CHECK_OK(judge((struct frame){.type = control[i].type, .length = control[i].least}));
        CHECK_OK(judge((struct frame){.type = control[i].type, .length = control[i].most}));
        CHECK_ERR(ERR_DECODE, judge((struct frame){.type = control[i].type, .length = control[i].most + 1}));
        CHECK_ERR(ERR_DECODE, judge((struct frame){.type = control[i].type, .length = control[i].least - 1}));
        CHECK_ERR(ERR_DECODE, judge((struct frame){.type = control[i].type, .length = control[i].most, .kind = 1}));
        CHECK_ERR(ERR_DECODE, judge((struct frame){.type = control[i].type, .length = control[i].most, .body_bytes = 1}));
    }
    CHECK_OK(judge(message(LINK_HEAD_MAX, LINK_BODY_MAX, LINK_HEAD_MAX + LINK_PART_MAX)));
    CHECK_OK(judge(message(0, 1, 0)));
    CHECK_OK(judge(message(1, 0, 1)));
    CHECK_ERR(ERR_DECODE, judge(message(0, 0, 0)));
    CHECK_ERR(ERR_DECODE, judge(message(LINK_HEAD_MAX + 1, 0, LINK_HEAD_MAX + 1)));
    CHECK_ERR(ERR_DECODE, judge(message(1, LINK_BODY_MAX + 1, 1)));
    CHECK_ERR(ERR_DECODE, judge(message(100, 100, 99)));  /* not the whole head */
    CHECK_ERR(ERR_DECODE, judge(message(100, 100, 201))); /* more than the body */
    CHECK_ERR(ERR_DECODE, judge(message(0, LINK_BODY_MAX, LINK_PART_MAX + 1)));
    struct frame urgent = message(100, 0, 100);
    urgent.urgent = true;
    CHECK_OK(judge(urgent));
    urgent.body_bytes = 1;
    CHECK_ERR(ERR_DECODE, judge(urgent));
    CHECK_ERR(ERR_DECODE, judge((struct frame){.type = 0, .length = 0}));
    CHECK_ERR(ERR_DECODE, judge((struct frame){.type = FRAME_JOINED + 1, .length = 0}));
    CHECK_ERR(ERR_DECODE, judge((struct frame){.type = FRAME_PING, .length = 32, .stream = 1}));
}

static const uint8_t hello_bytes[96] = {
    'I',  'Z',  'A',  'R', 'L', 'I', 'N', 'K', 1,    0, 2,  0,  3,    0,  0,  0,    /* magic, versions, path */
    0xc0, 1,    2,    3,   4,   5,   6,   7,   8,    9, 10, 11, 12,   13, 14, 15,   /* cluster */
    0x34, 0x12, 0,    0,   2,   0,   0,   0,   0xb0, 1, 2,  3,  4,    5,  6,  7,    /* node, peer, boot */
    8,    9,    10,   11,  12,  13,  14,  15,  5,    0, 0,  0,  0,    0,  0,  0x80, /* boot, features */
    4,    0,    0,    0,   0,   0,   0,   0,   9,    0, 0,  0,  1,    0,  0,  0,    /* required, session, flags */
    0,    0,    0x20, 0,   0,   0,   4,   0,   250,  0, 0,  0,  0xdc, 5,  0,  0,    /* windows, heartbeat, time-out */
};

TEST(hellos_lie_as_written)
{
    struct hello h;
    struct wire_hello wire;
    uint8_t longer[104];
    CHECK_OK(hello_decode(hello_bytes, sizeof hello_bytes, &h));
    CHECK(h.version_min == 1 && h.version_max == 2 && h.path == 3 && h.node == 0x1234 && h.peer == 2);
    CHECK(h.cluster.b[0] == 0xc0 && h.boot[0] == 0xb0 && h.boot[15] == 15 && h.session == 9 && h.holder);
    CHECK(h.features == 0x8000000000000005u && h.required == 4 && h.window[0] == 2 << 20 && h.window[1] == 256 << 10);
    CHECK(h.heartbeat_ms == 250 && h.timeout_ms == 1500);
    hello_encode(&h, &wire);
    CHECK_BYTES(&wire, hello_bytes, sizeof hello_bytes);
    memset(longer, 0xff, sizeof longer); /* a later version says more */
    memcpy(longer, hello_bytes, sizeof hello_bytes);
    CHECK_OK(hello_decode(longer, sizeof longer, &h));
    CHECK_ERR(ERR_TRUNCATED, hello_decode(hello_bytes, sizeof hello_bytes - 1, &h));
}

/* What hello_decode says when one byte of it is changed. */
static enum err changed(size_t at, uint8_t to)
{
    uint8_t bytes[96];
    struct hello h;
    memcpy(bytes, hello_bytes, sizeof bytes);
    bytes[at] = to;
    return hello_decode(bytes, sizeof bytes, &h);
}

TEST(impossible_hellos_are_refused)
{
    CHECK_ERR(ERR_NOT_OURS, changed(0, 'i'));
    CHECK_ERR(ERR_DECODE, changed(8, 0));     /* no version */
    CHECK_ERR(ERR_DECODE, changed(8, 3));     /* an empty range */
    CHECK_ERR(ERR_DECODE, changed(12, 8));    /* paths are fewer */
    CHECK_ERR(ERR_DECODE, changed(34, 1));    /* nodes are fewer */
    CHECK_ERR(ERR_DECODE, changed(82, 0x08)); /* a window that the largest message does not fit in */
    CHECK_ERR(ERR_DECODE, changed(86, 0));
}

static enum link_refusal agree(struct hello ours, struct hello theirs)
{
    char why[LINK_REASON_MAX + 1];
    uint16_t version = 0;
    uint64_t features = 0;
    enum link_refusal refusal = hello_agree(&ours, &theirs, why, &version, &features);
    if (refusal == REFUSAL_NONE && (version != 2 || features != 1)) return REFUSAL_LIMIT;
    return refusal;
}

TEST(two_hellos_agree_or_say_why_not)
{
    struct hello a = {.version_min = 1, .version_max = 2, .node = 1, .peer = 2, .features = 3};
    struct hello b = {.version_min = 2, .version_max = 3, .node = 2, .peer = 1, .features = 5}, c = b;
    CHECK_EQ(agree(a, b), REFUSAL_NONE);
    CHECK_EQ(agree(b, a), REFUSAL_NONE);
    c.version_min = 3;
    CHECK_EQ(agree(a, c), REFUSAL_VERSION);
    c = b;
    c.required = 4;
    CHECK_EQ(agree(a, c), REFUSAL_FEATURE);
    CHECK_EQ(agree(c, a), REFUSAL_FEATURE);
    c = b;
    c.peer = 3;
    CHECK_EQ(agree(a, c), REFUSAL_NODE);
    c = b;
    c.cluster.b[5] = 1;
    CHECK_EQ(agree(a, c), REFUSAL_CLUSTER);
}

TEST(words_go_both_ways)
{
    static const uint8_t state_bytes[32] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 11};
    uint8_t at[LINK_CONTROL_MAX];
    struct link_state state;
    struct wire_state wire;
    struct refusal refusal;
    CHECK_OK(state_decode(state_bytes, sizeof state_bytes, &state));
    CHECK(state.stamp == 0x0807060504030201u && state.consumed[0] == 9 && state.consumed[1] == 10 && state.received == 11);
    state_encode(&state, &wire);
    CHECK_BYTES(&wire, state_bytes, sizeof state_bytes);

    uint32_t bytes = refusal_encode(REFUSAL_VERSION, "no\nversion", at);
    CHECK_EQ(bytes, 14);
    CHECK_BYTES(at, "\x01\0\x0a\0no\nversion", 14);
    CHECK_OK(refusal_decode(at, bytes, &refusal));
    CHECK(refusal.reason == REFUSAL_VERSION);
    CHECK_STR(refusal.text, "no?version");
    CHECK_ERR(ERR_DECODE, refusal_decode(at, bytes - 1, &refusal));

    static struct join_answer answer = {.node = 7, .ca = {3, "abc"}, .certificate = {2, "de"}, .ca_key = {0}}, back;
    bytes = join_answer_encode(&answer, at);
    CHECK_EQ(bytes, 21);
    CHECK_BYTES(at, "\x07\0\0\0\x03\0\0\0\x02\0\0\0\0\0\0\0abcde", 21);
    CHECK_OK(join_answer_decode(at, bytes, &back));
    CHECK(back.node == 7 && back.certificate.bytes == 2 && back.certificate.at[1] == 'e' && back.ca_key.bytes == 0);
    CHECK_ERR(ERR_DECODE, join_answer_decode(at, bytes - 1, &back));
    CHECK_ERR(ERR_DECODE, join_answer_decode(at, bytes + 1, &back));
    CHECK(!back.pool_key.known);
    answer.pool_key.known = true;
    memset(answer.pool_key.at, 'k', POOL_KEY_BYTES);
    CHECK_EQ(join_answer_encode(&answer, at), bytes + POOL_KEY_BYTES);
    CHECK_BYTES(at + bytes, answer.pool_key.at, POOL_KEY_BYTES);
    CHECK_OK(join_answer_decode(at, bytes + POOL_KEY_BYTES, &back));
    CHECK_BYTES(&back.pool_key, &answer.pool_key, sizeof back.pool_key);
    CHECK_ERR(ERR_DECODE, join_answer_decode(at, bytes + POOL_KEY_BYTES - 1, &back));
    CHECK_ERR(ERR_DECODE, join_answer_decode(at, bytes + POOL_KEY_BYTES + 1, &back));
}

TEST(bodies_cost_what_they_lie_in)
{
    static const uint32_t known[][2] = {{0, 0},          {1, 4096},        {4096, 4096},     {4097, 8192},
                                        {33000, 65536},  {131072, 131072}, {131073, 135168}, {LINK_BODY_MAX, LINK_BODY_MAX},
                                        {200000, 262144}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) CHECK_EQ(link_body_cost(known[i][0]), known[i][1]);
}

TESTS(frames_lie_as_written, limits_are_kept, hellos_lie_as_written, impossible_hellos_are_refused,
      two_hellos_agree_or_say_why_not, words_go_both_ways, bodies_cost_what_they_lie_in)
