/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: connections of the simulated seam keep the promises of io.h, are lost as net.h says, and repeat themselves. Method: the
 * stories of socket_stories.h over many seeds, and small scenes of loss; every scene is told in several weathers.
 */
#include <stdlib.h>

#include "check.h"
#include "sim/net.h"
#include "unit/socket_stories.h"

enum { SEEDS = 40 };

static struct sim *sim;

static void story_run(void *arg)
{
    struct story *story = arg;
    story->tell(story);
}

static bool is_told(void *arg)
{
    const struct story *story = arg;
    return story->task.finished;
}

/* The line of the first expectation that did not hold, or 1 when the story does not end. */
static unsigned tell_seed(void (*what)(struct story *story), uint64_t seed, uint64_t *ret_hash)
{
    struct story story = {.tell = what};
    if (sim)
        sim_reset(sim, seed, false);
    else
        sim = sim_open(seed, false);
    story.io = sim_loop(sim);
    story.world = sim;
    if (io_task_start(story.io, &story.task, story_run, &story) != OK) return 1;
    enum sim_end end = sim_run_until(sim, is_told, &story);
    io_task_done(&story.task);
    *ret_hash = sim_hash(sim);
    if (story.failed_line == 0 && sim_sockets_open(sim) + sim_listeners_open(sim) > 0) return 2;
    return end == SIM_DONE ? story.failed_line : 1;
}

static unsigned tell(void (*what)(struct story *story), uint64_t seeds)
{
    uint64_t hash, again;
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        unsigned line = tell_seed(what, seed, &hash);
        if (line != 0) return line;
    }
    tell_seed(what, seeds, &again);
    return again == hash ? 0 : 3;
}

static void story_of_local(struct story *story)
{
    story_of_bytes(story, "unix:/run/story");
}

TEST(bytes_arrive_in_order)
{
    CHECK_EQ(tell(story_of_ipv4, 8), 0);
    CHECK_EQ(tell(story_of_ipv6, 2), 0);
    CHECK_EQ(tell(story_of_local, 2), 0);
}

TEST(aborts_end_what_is_under_way)
{
    CHECK_EQ(tell(story_of_abort, SEEDS), 0);
}

TEST(addresses_are_understood_or_refused)
{
    CHECK_EQ(tell(story_of_addresses, SEEDS), 0);
}

TEST(many_connections_wait)
{
    CHECK_EQ(tell(story_of_many, SEEDS), 0);
}

/* ---- loss ---- */

/* Who hears of it soon, and who only after the keepalive gave up. */
static void story_of_loss(struct story *story, enum sim_loss loss, bool ours_soon, bool theirs_soon)
{
    static uint8_t bytes[2];
    struct io_listener *listener;
    struct io_socket *a, *b;
    struct waited in_a, in_b, late;
    struct io_piece piece = {"x", 1};
    EXPECT(pair(story->io, "127.0.0.1:0", &listener, &a, &b));
    io_receive(a, &bytes[0], 1, begin(&in_a));
    io_receive(b, &bytes[1], 1, begin(&in_b));
    sim_socket_lose(a, loss);
    io_task_sleep(story->io, 10000000000u);
    EXPECT(in_a.over == ours_soon && in_b.over == theirs_soon);
    if (!ours_soon) {
        io_transmit(a, &piece, 1, begin(&late)); /* into the void */
        EXPECT(end(&late) == OK);
    }
    io_task_sleep(story->io, 100000000000u);
    EXPECT(in_a.over && in_b.over && end(&in_a) == ERR_CLOSED && end(&in_b) == ERR_CLOSED);
    io_transmit(a, &piece, 1, begin(&late));
    EXPECT(end(&late) == ERR_CLOSED);
    io_socket_close(a);
    io_socket_close(b);
    io_listener_close(listener);
}

static void story_of_reset(struct story *story)
{
    story_of_loss(story, SIM_LOSS_RESET, true, true);
}

static void story_of_half(struct story *story)
{
    story_of_loss(story, SIM_LOSS_OURS, true, false);
    story_of_loss(story, SIM_LOSS_THEIRS, false, true);
}

static void story_of_silence(struct story *story)
{
    story_of_loss(story, SIM_LOSS_SILENT, false, false);
}

TEST(each_side_notices_a_loss_for_itself)
{
    CHECK_EQ(tell(story_of_reset, SEEDS), 0);
    CHECK_EQ(tell(story_of_half, SEEDS), 0);
    CHECK_EQ(tell(story_of_silence, SEEDS), 0);
}

/* What was transmitted before the end arrives; talking to somebody who is gone ends in a reset. */
static void story_of_leaving(struct story *story)
{
    uint8_t buf[8];
    uint32_t n, have = 0;
    struct io_listener *listener;
    struct io_socket *a, *b;
    struct waited w;
    struct io_piece piece = {"goodbye", 8};
    EXPECT(pair(story->io, "10.0.0.1:3260", &listener, &a, &b));
    io_transmit(a, &piece, 1, begin(&w));
    EXPECT(end(&w) == OK);
    io_socket_abort(a);
    io_socket_close(a);
    for (; have < 8; have += n) EXPECT(receive(b, buf + have, 8 - have, &n) == OK);
    EXPECT(memcmp(buf, "goodbye", 8) == 0 && receive(b, buf, 8, &n) == ERR_CLOSED);
    enum err err = OK;
    for (int i = 0; i < 10 && err == OK; i++) {
        io_transmit(b, &piece, 1, begin(&w));
        err = end(&w);
        io_task_sleep(story->io, 1000000000);
    }
    EXPECT(err == ERR_CLOSED);
    io_socket_close(b);
    io_listener_close(listener);
}

TEST(what_was_transmitted_before_the_end_arrives)
{
    CHECK_EQ(tell(story_of_leaving, SEEDS), 0);
}

/* In foul weather some connects fail, some connections are lost, and every operation ends. */
static void story_of_weather(struct story *story)
{
    struct io_listener *listener;
    struct waited accept, connect, in, out;
    uint8_t byte;
    struct io_piece piece = {"x", 1};
    int failed = 0, lost = 0, fine = 0;
    sim_net_weather(story->world, &(struct sim_weather){.refuse = 200000, .silent = 100000, .lose = 300000, .stall = 200000});
    EXPECT(io_listen(story->io, "127.0.0.1:7", 0, &listener) == OK);
    for (int i = 0; i < 100; i++) {
        io_connect(story->io, "127.0.0.1:7", begin(&connect));
        if (end(&connect) != OK) {
            EXPECT(connect.op.err == ERR_REFUSED || connect.op.err == ERR_CLOSED);
            failed++;
            continue;
        }
        io_accept(listener, begin(&accept));
        EXPECT(end(&accept) == OK);
        io_receive(accept.op.socket, &byte, 1, begin(&in));
        io_transmit(connect.op.socket, &piece, 1, begin(&out));
        end(&out);
        if (end(&in) == OK)
            fine++;
        else
            lost++;
        io_socket_close(connect.op.socket);
        io_socket_close(accept.op.socket);
    }
    EXPECT(failed > 10 && lost > 5 && fine > 10);
    io_listener_close(listener);
}

TEST(weather_strikes_and_everything_ends)
{
    CHECK_EQ(tell(story_of_weather, SEEDS), 0);
}

/* ---- power ---- */

static int dones;

static void count_done(struct io_net *op)
{
    (void)op;
    dones++;
}

static bool dones_reach(void *arg)
{
    return dones >= *(int *)arg;
}

/* Ends nothing, leaves nothing, and what was under way can be looked at. */
TEST(a_power_cut_ends_all_connections)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct io_listener *listener;
        struct io_net accept = {.done = count_done}, connect = {.done = count_done}, in = {.done = count_done},
                      out = {.done = count_done};
        struct io_piece piece = {"under way", 9};
        uint8_t byte, rest[16];
        int two = 2, three = 3;
        sim_reset(sim, seed, false);
        dones = 0;
        CHECK_ERR(OK, io_listen(sim_loop(sim), "127.0.0.1:7", 0, &listener));
        io_accept(listener, &accept);
        io_connect(sim_loop(sim), "127.0.0.1:7", &connect);
        CHECK_EQ(sim_run_until(sim, dones_reach, &two), SIM_DONE);
        io_transmit(connect.socket, &piece, 1, &out);
        CHECK_EQ(sim_run_until(sim, dones_reach, &three), SIM_DONE);
        io_receive(connect.socket, &byte, 1, &in);
        sim_power_cut(sim);
        CHECK_EQ(sim_socket_rest(accept.socket, rest, sizeof rest), 9);
        CHECK_EQ(memcmp(rest, "under way", 9), 0);
        CHECK_EQ(sim_run_for(sim, 1000, 1000000000000u), SIM_OFF);
        sim_power_on(sim);
        CHECK_EQ(sim_run_for(sim, 1000, 1000000000000u), SIM_IDLE);
        CHECK_EQ(dones, 3);
        CHECK_EQ(sim_sockets_open(sim) + sim_listeners_open(sim), 0);
    }
}

TESTS(bytes_arrive_in_order, aborts_end_what_is_under_way, addresses_are_understood_or_refused, many_connections_wait,
      each_side_notices_a_loss_for_itself, what_was_transmitted_before_the_end_arrives, weather_strikes_and_everything_ends,
      a_power_cut_ends_all_connections)
