/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Links between nodes, over real sockets of the loopback, on both back ends.
 *
 * Goal: messages of a stream arrive in order, whole and once, over all addresses at once; a connection that is cut, silent or
 * that is not read is noticed in time, its streams go on over the others with a new session; with too few connections for all
 * addresses, each peer has one. Method: each story is a task on
 * one loop that plays all nodes. Contents are made from stream, session and number, so that each message can be judged alone.
 * Times of waiting are generous; what has to be noticed in time is measured.
 */
#include "tests/unit/link_sides.h"

/* Both ends of a link; the one with the lower number dials. */
static bool link_pair(uint32_t low, uint32_t high)
{
    return link_sides(low, high) && link_open(sides[high].links, low, NULL, 0, &sides[high], &sides[high].link) == OK;
}

/* ---- stories ---- */

static void story_of_traffic(struct story *story)
{
    struct links_stats stats;
    struct links_config patient = {.timeout_ms = LONG_MS}; /* a test machine may be busy; here nobody is to be given up */
    send_until = 60;
    EXPECT(pair_open(story->io, patient, patient));
    EXPECT(wait_ready(story->io, sides[1].link, 2) && wait_ready(story->io, sides[2].link, 2));
    EXPECT(sides[1].ups == 1 && sides[2].ups == 1 && link_boot(sides[1].link) == 1);
    start_sending(&sides[1]);
    start_sending(&sides[2]);
    EXPECT(wait_sent(story->io, &sides[1]) && wait_sent(story->io, &sides[2]));
    EXPECT(wait_got(story->io, &sides[1], &sides[2]) && wait_got(story->io, &sides[2], &sides[1]));
    EXPECT(sides[1].wrong == 0 && sides[2].wrong == 0);
    for (uint32_t i = 0; i <= STREAMS; i++) EXPECT(sides[1].to[i].lost == 0 && sides[2].from[i].got >= send_until);
    links_stats(sides[2].links, &stats);
    EXPECT(stats.lost == 0 && stats.messages_in > STREAMS * 60);
    uint64_t answered = link_answered_ns(sides[1].link), now = io_now_ns(story->io);
    EXPECT(answered <= now && now - answered < LONG_MS * IO_MS_NS);
    stop_sending(&sides[1]);
    stop_sending(&sides[2]);
    side_close(1);
    side_close(2);
}

/* One address is cut under load, again and again; the other carries on, and streams come back. */
static void story_of_cuts(struct story *story)
{
    uint32_t lost_streams = 0;
    struct links_config patient = {.timeout_ms = LONG_MS};
    send_until = UINT64_MAX;
    EXPECT(pair_open(story->io, patient, patient));
    EXPECT(wait_ready(story->io, sides[1].link, 2) && wait_ready(story->io, sides[2].link, 2));
    start_sending(&sides[1]);
    start_sending(&sides[2]);
    for (uint32_t i = 0; i < 6; i++) {
        io_task_sleep(story->io, 30 * IO_MS_NS);
        link_cut(sides[1 + i % 2].link, i / 2 % 2);
        io_task_sleep(story->io, 20 * IO_MS_NS);
        EXPECT(link_is_up(sides[1].link) && link_is_up(sides[2].link));
        EXPECT(wait_ready(story->io, sides[1].link, 2) && wait_ready(story->io, sides[2].link, 2));
    }
    send_until = 0;
    EXPECT(wait_sent(story->io, &sides[1]) && wait_sent(story->io, &sides[2]));
    EXPECT(wait_got(story->io, &sides[1], &sides[2]) && wait_got(story->io, &sides[2], &sides[1]));
    EXPECT(sides[1].wrong == 0 && sides[2].wrong == 0);
    EXPECT(sides[1].downs == 0 && sides[2].downs == 0 && sides[1].ups == 1);
    for (uint32_t i = 0; i <= STREAMS; i++) lost_streams += sides[1].to[i].lost + sides[2].to[i].lost;
    EXPECT(lost_streams > 0);
    stop_sending(&sides[1]);
    stop_sending(&sides[2]);
    side_close(1);
    side_close(2);
}

/* Addresses come and go under load: what goes over one that stays is not lost, and the link is never down. */
static void story_of_other_addresses(struct story *story)
{
    char text[2][IO_ADDRESS_TEXT];
    const char *at[3] = {"127.0.0.3:1", text[0], text[1]}; /* nobody is at the first */
    struct links_stats stats;
    struct links_config patient = {.timeout_ms = LONG_MS};
    send_until = UINT64_MAX;
    EXPECT(open_side(story->io, 1, &identities[1], patient) && open_side(story->io, 2, &identities[2], patient));
    for (uint32_t i = 0; i < 2; i++) links_listen_text(sides[2].links, i, text[i], sizeof text[i]);
    EXPECT(link_open(sides[1].links, 2, at + 1, 1, &sides[1], &sides[1].link) == OK);
    EXPECT(link_open(sides[2].links, 1, NULL, 0, &sides[2], &sides[2].link) == OK);
    EXPECT(wait_ready(story->io, sides[1].link, 1) && wait_ready(story->io, sides[2].link, 1));
    start_sending(&sides[1]);
    start_sending(&sides[2]);
    /* One that does not answer comes first; then a good one, and the first goes. */
    EXPECT(link_addresses(sides[1].link, at, 2) == OK && link_addresses(sides[2].link, at, 2) == OK);
    io_task_sleep(story->io, 200 * IO_MS_NS);
    EXPECT(link_addresses(sides[1].link, at + 1, 2) == OK);
    EXPECT(wait_ready(story->io, sides[1].link, 2) && wait_ready(story->io, sides[2].link, 2));
    links_stats(sides[1].links, &stats);
    EXPECT(stats.lost == 0 && stats.connected == 2);
    /* The one of the beginning goes; it comes back, and the other goes. */
    EXPECT(link_addresses(sides[1].link, at + 2, 1) == OK);
    EXPECT(wait_ready(story->io, sides[1].link, 1) && wait_ready(story->io, sides[2].link, 1));
    io_task_sleep(story->io, 300 * IO_MS_NS); /* nobody dials it any more */
    EXPECT(link_ready(sides[1].link) == 1 && link_addresses(sides[1].link, at, 3) == OK);
    EXPECT(wait_ready(story->io, sides[1].link, 2) && wait_ready(story->io, sides[2].link, 2));
    EXPECT(link_addresses(sides[1].link, at, 2) == OK && wait_ready(story->io, sides[1].link, 1));
    links_stats(sides[1].links, &stats);
    EXPECT(stats.lost == 2 && stats.connected == 3);
    send_until = 0;
    EXPECT(wait_sent(story->io, &sides[1]) && wait_sent(story->io, &sides[2]));
    EXPECT(wait_got(story->io, &sides[1], &sides[2]) && wait_got(story->io, &sides[2], &sides[1]));
    EXPECT(sides[1].wrong == 0 && sides[2].wrong == 0 && sides[1].downs == 0 && sides[2].downs == 0);
    at[0] = "";
    EXPECT(link_addresses(sides[1].link, at, 1) == ERR_ARGUMENT);
    stop_sending(&sides[1]);
    stop_sending(&sides[2]);
    side_close(1);
    side_close(2);
}

/* There are places for two connections where each peer wants two: at the side that dials, or at the one that is dialled. The
 * second link is opened when the first has taken both. */
static void story_of_few_connections(struct story *story)
{
    for (uint32_t hub = 1; hub <= 3; hub += 2) {
        struct links_config few = {.timeout_ms = LONG_MS, .conns_max = 2}, many = {.timeout_ms = LONG_MS};
        for (uint32_t i = 1; i <= 3; i++) EXPECT(open_side(story->io, i, &identities[i], i == hub ? few : many));
        uint32_t first = hub == 1 ? 2 : 1, second = hub == 1 ? 3 : 2;
        EXPECT(link_pair(min32(hub, first), max32(hub, first)) && wait_ready(story->io, sides[first].link, 2));
        struct link *before = sides[hub].link;
        EXPECT(link_pair(min32(hub, second), max32(hub, second)));
        EXPECT(wait_ready(story->io, sides[second].link, 1) && wait_ready(story->io, sides[first].link, 1));
        io_task_sleep(story->io, 500 * IO_MS_NS); /* and so it stays */
        EXPECT(link_ready(sides[hub].link) == 1 && link_ready(before) == 1);
        EXPECT(sides[1].downs + sides[2].downs + sides[3].downs == 0);
        link_close(before);
        EXPECT(wait_ready(story->io, sides[hub].link, 2)); /* nobody else wants it */
        for (uint32_t i = 1; i <= 3; i++) side_close(i);
    }
}

/* A receiver that gives nothing back holds up bulk, and neither urgent messages nor heartbeats. */
static void story_of_back_pressure(struct story *story)
{
    struct links_stats stats;
    send_until = 1000;
    EXPECT(pair_open(story->io, (struct links_config){0}, (struct links_config){0}));
    EXPECT(wait_ready(story->io, sides[1].link, 2) && wait_ready(story->io, sides[2].link, 2));
    sides[2].keep = true;
    start_sending(&sides[1]);
    io_task_sleep(story->io, 3 * TIMEOUT_MS * IO_MS_NS);
    links_stats(sides[2].links, &stats);
    EXPECT(stats.lost == 0 && sides[1].downs == 0);
    EXPECT(stats.bytes_in > 1 << 20 && stats.bytes_in <= 2 * (2u << 20) + (1u << 20));
    uint64_t before = stats.messages_in;
    io_task_sleep(story->io, TIMEOUT_MS * IO_MS_NS);
    links_stats(sides[2].links, &stats);
    EXPECT(stats.messages_in == before); /* the windows are full */
    sides[2].keep = false;
    send_until = 0;
    while (!list_empty(&sides[2].kept))
        on_message(sides[2].link, CONTAINER(list_pop(&sides[2].kept), struct link_message, link));
    EXPECT(wait_sent(story->io, &sides[1]) && wait_got(story->io, &sides[1], &sides[2]));
    EXPECT(sides[2].wrong == 0);
    stop_sending(&sides[1]);
    side_close(1);
    side_close(2);
}

static void story_of_restart(struct story *story)
{
    EXPECT(pair_open(story->io, (struct links_config){0}, (struct links_config){0}));
    EXPECT(wait_ready(story->io, sides[2].link, 2));
    link_close(sides[1].link);
    links_close(sides[1].links);
    EXPECT(wait_for(story->io, &sides[2].downs, 1) && !link_is_up(sides[2].link));
    EXPECT(open_side(story->io, 1, &identities[1], (struct links_config){0}) && link_sides(1, 2));
    EXPECT(wait_for(story->io, &sides[2].ups, 2) && link_boot(sides[2].link) == 2);
    EXPECT(wait_ready(story->io, sides[2].link, 2));
    side_close(1);
    side_close(2);
}

static void story_of_versions(struct story *story)
{
    struct links_config newer = {.version_min = 1, .version_max = 2, .features = 5}, older = {.features = 3};
    EXPECT(pair_open(story->io, newer, older));
    EXPECT(wait_ready(story->io, sides[1].link, 2) && wait_ready(story->io, sides[2].link, 2));
    EXPECT(link_version(sides[1].link) == 1 && link_version(sides[2].link) == 1);
    EXPECT(link_features(sides[1].link) == 1 && link_features(sides[2].link) == 1);
    side_close(1);
    side_close(2);

    struct links_config too_new = {.version_min = 2, .version_max = 3};
    EXPECT(pair_open(story->io, too_new, older));
    io_task_sleep(story->io, 300 * IO_MS_NS);
    EXPECT(sides[1].ups == 0 && sides[2].ups == 0);
    EXPECT(strstr(sides[2].told, "speaks versions 2 to 3") != NULL && strstr(sides[1].told, "speaks versions") != NULL);
    side_close(1);
    side_close(2);

    struct links_config demanding = {.features = 12, .required = 8};
    EXPECT(pair_open(story->io, demanding, older));
    io_task_sleep(story->io, 300 * IO_MS_NS);
    EXPECT(sides[1].ups == 0 && sides[2].ups == 0 && strstr(sides[2].told, "(bits 8)") != NULL);
    side_close(1);
    side_close(2);
}
/* ---- a wire that can be held up: a relay between the two ---- */

struct pipe {
    struct io_task task;
    struct io_socket *from, *to;
    bool *held;
    struct io *io;
    uint8_t bytes[16384];
};

struct relay {
    struct io *io;
    struct io_listener *listener;
    struct io_task task;
    char target[IO_ADDRESS_TEXT];
    bool held[2]; /* what comes from the dialling side; what goes to it */
    struct pipe pipes[16];
    uint32_t count;
    bool stopping;
};

static void pipe_run(void *arg)
{
    struct pipe *p = arg;
    struct waited w;
    uint32_t n;
    while (receive(p->from, p->bytes, sizeof p->bytes, &n) == OK) {
        struct io_piece piece = {p->bytes, n};
        while (*p->held) io_task_sleep(p->io, IO_MS_NS);
        io_transmit(p->to, &piece, 1, begin(&w));
        if (end(&w) != OK) break;
    }
    io_socket_abort(p->from);
    io_socket_abort(p->to);
}

static void relay_run(void *arg)
{
    struct relay *r = arg;
    struct waited w;
    while (!r->stopping && r->count + 2 <= 16) {
        io_accept(r->listener, begin(&w));
        if (end(&w) != OK) break;
        struct io_socket *in = w.op.socket;
        io_connect(r->io, r->target, begin(&w));
        if (end(&w) != OK) {
            io_socket_close(in);
            continue;
        }
        for (int i = 0; i < 2; i++) {
            struct pipe *p = &r->pipes[r->count++];
            *p = (struct pipe){
                .from = i == 0 ? in : w.op.socket, .to = i == 0 ? w.op.socket : in, .held = &r->held[i], .io = r->io};
            if (io_task_start(r->io, &p->task, pipe_run, p) != OK) return;
        }
    }
}

static bool relay_open(struct io *io, struct relay *r, const char *target)
{
    memset(r, 0, sizeof *r);
    r->io = io;
    snprintf(r->target, sizeof r->target, "%s", target);
    return io_listen(io, "127.0.0.1:0", 0, &r->listener) == OK && io_task_start(io, &r->task, relay_run, r) == OK;
}

static void relay_close(struct relay *r)
{
    r->stopping = true;
    r->held[0] = r->held[1] = false;
    io_listener_abort(r->listener);
    for (uint32_t i = 0; i < r->count; i++) io_socket_abort(r->pipes[i].from);
    bool busy = true;
    while (busy) {
        busy = !r->task.finished;
        for (uint32_t i = 0; i < r->count; i++) busy |= !r->pipes[i].task.finished;
        io_task_sleep(r->io, IO_MS_NS);
    }
    for (uint32_t i = 0; i < r->count; i++) {
        if (i % 2 == 0) io_socket_close(r->pipes[i].from);
        if (i % 2 == 0) io_socket_close(r->pipes[i].to);
        io_task_done(&r->pipes[i].task);
    }
    io_task_done(&r->task);
    io_listener_close(r->listener);
}

/* How long it takes until both sides have given the connection up. */
static uint32_t gone_after(struct io *io)
{
    uint64_t from = io_now_ns(io);
    while ((link_is_up(sides[1].link) || link_is_up(sides[2].link)) && io_now_ns(io) - from < 10 * IO_S_NS)
        io_task_sleep(io, IO_MS_NS);
    return (uint32_t)((io_now_ns(io) - from) / IO_MS_NS);
}

static struct relay relay;

/* Silence in one direction, in the other, in both: noticed by both sides, in time, and mended when the wire is. */
static void story_of_silence(struct story *story)
{
    static const bool holds[3][2] = {{true, true}, {true, false}, {false, true}};
    char address[IO_ADDRESS_TEXT];
    const char *addresses[1] = {address};
    for (int i = 0; i < 3; i++) {
        EXPECT(open_side(story->io, 1, &identities[1], (struct links_config){.hello_ms = 300}));
        /* The second time it is the first side alone that can notice: it hears, and is not heard. */
        struct links_config other = {.hello_ms = 300, .timeout_ms = i == 1 ? LONG_MS : 0};
        EXPECT(open_side(story->io, 2, &identities[2], other));
        EXPECT(relay_open(story->io, &relay, links_listen_text(sides[2].links, 0, address, sizeof address)));
        io_listener_text(relay.listener, address, sizeof address);
        EXPECT(link_open(sides[1].links, 2, addresses, 1, &sides[1], &sides[1].link) == OK);
        EXPECT(link_open(sides[2].links, 1, NULL, 0, &sides[2], &sides[2].link) == OK);
        EXPECT(wait_ready(story->io, sides[1].link, 1) && wait_ready(story->io, sides[2].link, 1));
        io_task_sleep(story->io, 2 * TIMEOUT_MS * IO_MS_NS);
        EXPECT(link_is_up(sides[1].link) && link_is_up(sides[2].link) && sides[1].downs == 0);
        relay.held[0] = holds[i][0];
        relay.held[1] = holds[i][1];
        uint32_t ms = gone_after(story->io);
        EXPECT(ms >= TIMEOUT_MS - 2 * HEARTBEAT_MS && ms < TIMEOUT_MS + 4 * HEARTBEAT_MS + 400);
        EXPECT(sides[1].downs == 1 && sides[2].downs == 1);
        relay.held[0] = relay.held[1] = false;
        EXPECT(wait_for(story->io, &sides[1].ups, 2) && wait_for(story->io, &sides[2].ups, 2));
        EXPECT(link_boot(sides[1].link) == 1); /* the same process */
        side_close(1);
        side_close(2);
        relay_close(&relay);
    }
}

/* One side gives a connection up, the other does not notice; what was on its way there comes late, when messages of the next
 * session have come another way already. None of it is delivered. */
static void story_of_the_dead(struct story *story)
{
    char text[2][IO_ADDRESS_TEXT];
    const char *addresses[2] = {text[0], text[1]};
    struct links_config patient = {.timeout_ms = LONG_MS};
    send_until = UINT64_MAX;
    EXPECT(open_side(story->io, 1, &identities[1], (struct links_config){0}));
    EXPECT(open_side(story->io, 2, &identities[2], patient));
    EXPECT(relay_open(story->io, &relay, links_listen_text(sides[2].links, 0, text[0], sizeof text[0])));
    io_listener_text(relay.listener, text[0], sizeof text[0]);
    links_listen_text(sides[2].links, 1, text[1], sizeof text[1]);
    EXPECT(link_open(sides[1].links, 2, addresses, 2, &sides[1], &sides[1].link) == OK);
    EXPECT(link_open(sides[2].links, 1, NULL, 0, &sides[2], &sides[2].link) == OK);
    EXPECT(wait_ready(story->io, sides[1].link, 2) && wait_ready(story->io, sides[2].link, 2));
    start_sending(&sides[1]);
    io_task_sleep(story->io, 50 * IO_MS_NS);
    relay.held[0] = relay.held[1] = true; /* what it holds now comes out below; and no end of the stream gets through */
    EXPECT(wait_ready(story->io, sides[1].link, 1) && wait_ready(story->io, sides[2].link, 1));
    relay.held[0] = relay.held[1] = false;
    EXPECT(wait_ready(story->io, sides[1].link, 2) && wait_ready(story->io, sides[2].link, 2));
    send_until = 0;
    EXPECT(wait_sent(story->io, &sides[1]) && wait_got(story->io, &sides[1], &sides[2]));
    EXPECT(sides[1].wrong == 0 && sides[2].wrong == 0 && sides[2].downs == 0);
    EXPECT(strstr(sides[2].told, "the other side has given it up") != NULL);
    stop_sending(&sides[1]);
    side_close(1);
    side_close(2);
    relay_close(&relay);
}

static void story_of_renewal(struct story *story)
{
    EXPECT(pair_open(story->io, (struct links_config){0}, (struct links_config){0}));
    EXPECT(wait_ready(story->io, sides[2].link, 2));
    wall_now = NOW + CERTIFICATE_LIFE_S * 3 / 4;
    links_renew(sides[1].links); /* it has the CA's key */
    links_renew(sides[2].links); /* it has to ask */
    bool both = wait_for(story->io, &sides[1].renewed, 1) && wait_for(story->io, &sides[2].renewed, 1);
    /* When the old ones have run out, new connections still come up. */
    wall_now = NOW + CERTIFICATE_LIFE_S + 86400;
    link_cut(sides[1].link, 0);
    link_cut(sides[1].link, 1);
    bool again = both && wait_for(story->io, &sides[2].ups, 2) && wait_ready(story->io, sides[2].link, 2);
    wall_now = NOW;
    EXPECT(both && again);
    side_close(1);
    side_close(2);
}

TEST(messages_arrive_in_order_over_two_addresses)
{
    CHECK(tell(story_of_traffic));
}

TEST(one_address_is_cut_and_comes_back)
{
    CHECK(tell(story_of_cuts));
}

TEST(addresses_come_and_go)
{
    CHECK(tell(story_of_other_addresses));
}

TEST(each_link_has_a_connection_before_one_has_two)
{
    CHECK(tell(story_of_few_connections));
}

TEST(a_receiver_that_keeps_messages_holds_up_bulk_only)
{
    CHECK(tell(story_of_back_pressure));
}

TEST(a_restarted_peer_is_another_boot)
{
    CHECK(tell(story_of_restart));
}

TEST(versions_and_features_are_agreed_or_refused)
{
    CHECK(tell(story_of_versions));
}

TEST(silence_is_noticed_in_time)
{
    CHECK(tell(story_of_silence));
}

TEST(what_was_given_up_is_not_delivered)
{
    CHECK(tell(story_of_the_dead));
}

TEST(certificates_renew_themselves_over_links)
{
    CHECK(tell(story_of_renewal));
}

TESTS(messages_arrive_in_order_over_two_addresses, one_address_is_cut_and_comes_back, addresses_come_and_go,
      each_link_has_a_connection_before_one_has_two, a_receiver_that_keeps_messages_holds_up_bulk_only,
      a_restarted_peer_is_another_boot, versions_and_features_are_agreed_or_refused, silence_is_noticed_in_time,
      what_was_given_up_is_not_delivered, certificates_renew_themselves_over_links)
