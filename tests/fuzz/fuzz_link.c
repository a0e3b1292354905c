/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: no bytes of another node harm the codec of links, and what is accepted keeps to its limits. Method: any bytes as a
 * frame and what follows it; each accepted structure encodes to the same bytes again.
 */
#include "cluster/codec_link.h"
#include "fuzz/fuzz.h"

static uint8_t again[LINK_CONTROL_MAX];

static void hello(const uint8_t *at, size_t size)
{
    struct hello h;
    struct wire_hello wire;
    if (hello_decode(at, size, &h) != OK) return;
    REQUIRE(h.path < LINK_PATHS_MAX && h.node > 0 && h.node <= NODE_NUMBER_MAX && h.version_min <= h.version_max);
    REQUIRE(h.window[0] >= LINK_COST_MAX && h.window[1] >= LINK_COST_MIN);
    hello_encode(&h, &wire);
    REQUIRE(memcmp(&wire, at, 76) == 0); /* of the flags only those that are known come back */
}

static void refusal(const uint8_t *at, size_t size)
{
    struct refusal r;
    if (refusal_decode(at, size, &r) != OK) return;
    REQUIRE(r.reason > REFUSAL_NONE && r.reason < REFUSALS && strlen(r.text) <= LINK_REASON_MAX);
    for (const char *c = r.text; *c != '\0'; c++) REQUIRE(*c >= ' ' && *c <= '~');
}

static void joining(const uint8_t *at, size_t size)
{
    static struct join_request request;
    static struct join_answer answer;
    if (join_request_decode(at, size, &request) == OK) {
        REQUIRE(join_request_encode(&request, again) == size && memcmp(again, at, size) == 0);
    }
    if (join_answer_decode(at, size, &answer) == OK) {
        REQUIRE(join_answer_encode(&answer, again) == size && memcmp(again, at, size) == 0);
    }
}

static void frame(const uint8_t *at, size_t size)
{
    struct frame f;
    struct wire_frame wire;
    if (frame_decode(at, size, &f) != OK) return;
    frame_encode(&f, &wire);
    REQUIRE(memcmp(&wire, at, sizeof wire) == 0);
    if (f.type == FRAME_MESSAGE) {
        REQUIRE(f.head_bytes <= LINK_HEAD_MAX && f.body_bytes <= LINK_BODY_MAX && f.length >= f.head_bytes);
        REQUIRE(f.length <= f.head_bytes + f.body_bytes && f.length <= LINK_HEAD_MAX + LINK_PART_MAX);
        REQUIRE(link_body_cost(f.body_bytes) >= f.body_bytes && link_body_cost(f.body_bytes) <= LINK_BODY_MAX);
    } else if (f.type != FRAME_PART) {
        REQUIRE(f.length <= LINK_CONTROL_MAX);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct link_state state;
    frame(data, size);
    size_t skip = size < sizeof(struct wire_frame) ? size : sizeof(struct wire_frame);
    data += skip;
    size -= skip;
    hello(data, size);
    refusal(data, size);
    joining(data, size);
    (void)state_decode(data, size, &state);
    return 0;
}
