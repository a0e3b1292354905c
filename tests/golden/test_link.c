/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames of links against bytes.
 *
 * Goal: every field lies where link_format.h has it, and what cannot be is refused. Method: frames written out by hand, both
 * ways; each limit from both sides.
 */
#include "tests/check.h"

#include "cluster/codec_link.h"

static const uint8_t message[24] = {0x34, 0x12, 0, 0, 7, 0, 0x22, 0x11, 4, 3, 2, 1, 8, 7, 6, 5, 0x34, 0x10, 0, 0, 0, 0, 1, 0};

TEST(messages_lie_as_written)
{
    struct frame f;
    struct wire_frame wire;
    CHECK_OK(frame_decode(message, sizeof message, &f));
    CHECK(f.type == FRAME_MESSAGE && !f.urgent && f.length == 0x1234 && f.kind == 0x1122);
    CHECK(f.stream == 0x01020304 && f.session == 0x05060708 && f.head_bytes == 0x1034 - 0 && f.body_bytes == 0x10000);
}

/* The head above is longer than may be. */
static struct frame good(void)
{
    return (struct frame){.type = FRAME_MESSAGE, .kind = 9, .length = 100 + 4096, .stream = 5, .session = 6, .head_bytes = 100, .body_bytes = 8192};
}

static enum err both_ways(const struct frame *f)
{
    struct wire_frame wire;
    struct frame back;
    frame_encode(f, &wire);
    TRY(frame_decode(&wire, sizeof wire, &back));
    return memcmp(&back, f, sizeof back) == 0 ? OK : ERR_MISCOMPARE;
}

TESTS(messages_lie_as_written)
