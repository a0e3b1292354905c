/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who does not belong on a link, over real sockets of the loopback, on both back ends.
 *
 * Goal: strangers, liars, crowds, nodes of another cluster and copies of a node are refused with a sentence, and keep nobody
 * else out. Method: as test_link.c.
 */
#include "tests/unit/link_sides.h"

/* ---- strangers ---- */

/* Connects, sends, and waits for the end; returns how long that took in ms. */
static uint32_t say(struct io *io, const char *address, const void *bytes, size_t size)
{
    struct waited w;
    struct io_piece piece = {bytes, size};
    uint8_t answer[256];
    uint32_t n;
    uint64_t from = io_now_ns(io);
    io_connect(io, address, begin(&w));
    if (end(&w) != OK) return UINT32_MAX;
    struct io_socket *socket = w.op.socket;
    if (size > 0) {
        io_transmit(socket, &piece, 1, begin(&w));
        end(&w);
    }
    while (receive(socket, answer, sizeof answer, &n) == OK) continue;
    io_socket_close(socket);
    return (uint32_t)((io_now_ns(io) - from) / IO_MS_NS);
}

static void story_of_strangers(struct story *story)
{
    static const char http[] = "GET /v1/status HTTP/1.1\r\nHost: izar\r\n\r\n";
    static uint8_t noise[20000];
    char address[IO_ADDRESS_TEXT];
    struct links_stats stats;
    struct prng prng;
    prng_init(&prng, 4);
    prng_fill(&prng, noise, sizeof noise);
    EXPECT(pair_open(story->io, (struct links_config){.hello_ms = 300}, (struct links_config){.hello_ms = 300}));
    EXPECT(wait_ready(story->io, sides[1].link, 2));
    links_listen_text(sides[2].links, 0, address, sizeof address);
    EXPECT(say(story->io, address, http, sizeof http - 1) < 3000);
    EXPECT(strstr(sides[2].told, "it speaks HTTP") != NULL);
    EXPECT(say(story->io, address, noise, sizeof noise) < 3000);
    EXPECT(say(story->io, address, noise, 3) < 3000);
    uint32_t silent = say(story->io, address, NULL, 0);
    EXPECT(silent >= 250 && silent < 3000);
    EXPECT(strstr(sides[2].told, "did not say in time") != NULL);
    links_stats(sides[2].links, &stats);
    EXPECT(stats.refused >= 2 && stats.strangers <= 1 && stats.lost == 0 && link_ready(sides[1].link) == 2);
    side_close(1);
    side_close(2);
}

/* ---- a node that has a good certificate and does not keep to the protocol ---- */

static enum err liar_flush(struct io_socket *socket, struct tls *tls)
{
    struct waited w;
    const uint8_t *at;
    size_t bytes = tls_take(tls, &at);
    struct io_piece piece = {at, bytes};
    if (bytes == 0) return OK;
    io_transmit(socket, &piece, 1, begin(&w));
    enum err err = end(&w);
    tls_taken(tls);
    return err;
}

static enum err liar_feed(struct io_socket *socket, struct tls *tls)
{
    struct waited w;
    uint8_t *at;
    size_t room = tls_room(tls, &at);
    io_receive(socket, at, (uint32_t)room, begin(&w));
    TRY(end(&w));
    tls_fed(tls, w.op.bytes);
    return OK;
}

/* Says HELLO and PING as node 1 and then these bytes, and listens until the other side has had enough. */
static enum err lie(struct io *io, struct mem *mem, const char *address, const void *bytes, size_t size)
{
    struct wire_hello hello;
    struct wire_frame frame, ping;
    struct wire_state state = {.stamp = put64(1)};
    struct tls_keys *keys;
    struct tls *tls;
    struct waited w;
    uint8_t sink[4096];
    size_t n;
    hello_encode(&(struct hello){.version_min = 1,
                                 .version_max = 1,
                                 .node = 1,
                                 .peer = 2,
                                 .session = 1,
                                 .cluster = the_cluster,
                                 .boot = {1},
                                 .window = {LINK_COST_MAX, LINK_COST_MIN}},
                 &hello);
    frame_encode(&(struct frame){.type = FRAME_HELLO, .length = sizeof hello}, &frame);
    frame_encode(&(struct frame){.type = FRAME_PING, .length = sizeof state}, &ping);
    TRY(tls_keys_open(mem, &identities[1], &keys));
    TRY(tls_open(mem, &(struct tls_config){.keys = keys, .now_s = NOW}, &tls));
    io_connect(io, address, begin(&w));
    TRY(end(&w));
    struct io_socket *socket = w.op.socket;
    enum err err;
    while ((err = tls_handshake(tls)) == ERR_AGAIN) {
        TRY(liar_flush(socket, tls));
        TRY(liar_feed(socket, tls));
    }
    if (err == OK) err = tls_write(tls, &frame, sizeof frame);
    if (err == OK) err = tls_write(tls, &hello, sizeof hello);
    if (err == OK) err = tls_write(tls, &ping, sizeof ping);
    if (err == OK) err = tls_write(tls, &state, sizeof state);
    if (err == OK) err = tls_write(tls, bytes, size);
    if (err == OK) err = liar_flush(socket, tls);
    while (err == OK) {
        err = tls_read(tls, sink, sizeof sink, &n);
        if (err == ERR_AGAIN) err = liar_feed(socket, tls);
    }
    io_socket_close(socket);
    tls_close(tls);
    tls_keys_close(keys);
    return err;
}

static void story_of_liars(struct story *story)
{
    static uint8_t lies[10000];
    struct frame first = {.type = FRAME_MESSAGE, .stream = 1, .session = 1, .head_bytes = 8, .body_bytes = 100, .length = 8};
    struct frame const said[] = {
        {.type = FRAME_HELLO, .length = 96},                                    /* a second one */
        {.type = FRAME_JOIN, .length = 100},                                    /* out of turn */
        {.type = FRAME_JOINED, .length = 100},                                  /* a word of servers */
        {.type = FRAME_PART, .stream = 9, .session = 1, .length = 10},          /* of no message */
        {.type = FRAME_PING, .length = 31},                                     /* of a wrong length */
        {.type = FRAME_MESSAGE, .stream = 1, .session = 1, .head_bytes = 5000}, /* too long a head */
        {.type = FRAME_CREDIT, .length = 32},                                   /* for more than was sent: bytes below */
        {.type = 77},
        first, /* and again before it is whole */
    };
    char address[IO_ADDRESS_TEXT];
    struct mem *mem = mem_open(16 << 20);
    EXPECT(mem != NULL && open_side(story->io, 2, &identities[2], (struct links_config){.timeout_ms = LONG_MS}));
    EXPECT(link_open(sides[2].links, 1, NULL, 0, &sides[2], &sides[2].link) == OK);
    links_listen_text(sides[2].links, 0, address, sizeof address);
    for (uint32_t i = 0; i < sizeof said / sizeof said[0]; i++) {
        struct wire_frame wire;
        memset(lies, 0x11, sizeof lies);
        frame_encode(&said[i], &wire);
        memcpy(lies, &wire, sizeof wire);
        memcpy(lies + sizeof wire + 8, &wire, sizeof wire);
        uint64_t from = io_now_ns(story->io);
        enum err err = lie(story->io, mem, address, lies, sizeof lies);
        EXPECT(err == ERR_CLOSED && io_now_ns(story->io) - from < LONG_MS * IO_MS_NS);
        EXPECT(wait_for(story->io, &sides[2].downs, i + 1) && sides[2].wrong == 0);
    }
    side_close(2);
    mem_close(mem);
}

/* Many strangers that say nothing: few are kept, and a node gets in nevertheless. */
static void story_of_crowd(struct story *story)
{
    enum { CROWD = 40 };
    struct waited w;
    struct io_socket *sockets[CROWD];
    char address[IO_ADDRESS_TEXT];
    struct links_stats stats;
    EXPECT(open_side(story->io, 2, &identities[2], (struct links_config){0}));
    links_listen_text(sides[2].links, 0, address, sizeof address);
    for (int i = 0; i < CROWD; i++) {
        io_connect(story->io, address, begin(&w));
        EXPECT(end(&w) == OK);
        sockets[i] = w.op.socket;
    }
    EXPECT(open_side(story->io, 1, &identities[1], (struct links_config){0}) && link_sides(1, 2));
    EXPECT(link_open(sides[2].links, 1, NULL, 0, &sides[2], &sides[2].link) == OK);
    EXPECT(wait_ready(story->io, sides[1].link, 2));
    links_stats(sides[2].links, &stats);
    EXPECT(stats.strangers <= 8 && stats.accepted >= CROWD);
    for (int i = 0; i < CROWD; i++) io_socket_close(sockets[i]);
    side_close(1);
    side_close(2);
}

static void story_of_foreigners(struct story *story)
{
    /* Of another cluster. */
    EXPECT(open_side(story->io, 1, &identities[1], (struct links_config){0}));
    EXPECT(open_side(story->io, 2, &identities[0], (struct links_config){0}) && link_sides(1, 2));
    io_task_sleep(story->io, 300 * IO_MS_NS);
    EXPECT(!link_is_up(sides[1].link) && strstr(sides[1].told, "was not signed by this cluster") != NULL);
    side_close(1);
    side_close(2);
    /* Of ours, but not who was meant; and not a member. */
    EXPECT(open_side(story->io, 1, &identities[1], (struct links_config){0}));
    EXPECT(open_side(story->io, 2, &identities[3], (struct links_config){0}) && link_sides(1, 2));
    io_task_sleep(story->io, 300 * IO_MS_NS);
    EXPECT(strstr(sides[1].told, "it is node 3, and node 2 was expected") != NULL);
    side_close(1);
    side_close(2);
    EXPECT(open_side(story->io, 1, &identities[1], (struct links_config){0}));
    EXPECT(open_side(story->io, 2, &identities[2], (struct links_config){0}) && link_sides(1, 2));
    io_task_sleep(story->io, 300 * IO_MS_NS);
    EXPECT(sides[1].ups == 0 && strstr(sides[1].told, "node 1 is not a member here") != NULL);
    side_close(1);
    side_close(2);
    /* Its certificate has run out. */
    wall_now = NOW + CERTIFICATE_LIFE_S + 7200;
    EXPECT(open_side(story->io, 1, &identities[1], (struct links_config){0}));
    EXPECT(open_side(story->io, 2, &identities[2], (struct links_config){0}) && link_sides(1, 2));
    io_task_sleep(story->io, 200 * IO_MS_NS);
    wall_now = NOW;
    EXPECT(!link_is_up(sides[1].link) && strstr(sides[1].told, "has expired by 120 minutes") != NULL);
    side_close(1);
    side_close(2);
}

/* Two processes with one identity: the second is refused while the first is there. */
static void story_of_twins(struct story *story)
{
    static struct side twin_was;
    EXPECT(pair_open(story->io, (struct links_config){0}, (struct links_config){0}));
    EXPECT(wait_ready(story->io, sides[2].link, 2));
    twin_was = sides[1];
    EXPECT(open_side(story->io, 0, &identities[1], (struct links_config){0}) && link_sides(0, 2));
    io_task_sleep(story->io, 400 * IO_MS_NS);
    EXPECT(sides[0].ups == 0 && sides[2].ups == 1 && link_ready(twin_was.link) == 2);
    EXPECT(strstr(sides[0].told, "was a node copied?") != NULL);
    side_close(0);
    side_close(1);
    side_close(2);
}

TEST(strangers_are_refused)
{
    CHECK(tell(story_of_strangers));
}

TEST(who_does_not_keep_to_the_protocol_is_cut)
{
    CHECK(tell(story_of_liars));
}

TEST(a_crowd_keeps_nobody_out)
{
    CHECK(tell(story_of_crowd));
}

TEST(foreigners_are_refused)
{
    CHECK(tell(story_of_foreigners));
}

TEST(a_copied_node_is_refused)
{
    CHECK(tell(story_of_twins));
}

TESTS(strangers_are_refused, who_does_not_keep_to_the_protocol_is_cut, a_crowd_keeps_nobody_out, foreigners_are_refused,
      a_copied_node_is_refused)
