/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a peer that takes nothing does not keep a node from talking to the others, heartbeats go whatever else waits, and what
 * must not be said is not. Method: the wires of replicas over links that send when the test says so, and hosts that count.
 */
#include <stdlib.h>

#include "tests/check.h"

#include "volume/replica/replicas_internal.h"

enum { SLOW = 7, FINE = 8, VOLUMES = 200, OPS = WIRE_PARCELS + 64 };

static struct replicas all;
static struct hosted hosted[VOLUMES];
static struct link_op *under_way[OPS];
static uint32_t op_count, heard, links_told;

/* ---- what lies below ---- */

void link_stream_init(struct link *link, struct link_stream *stream, uint32_t id, bool urgent,
                      void (*lost)(struct link_stream *stream))
{
    *stream = (struct link_stream){.link = link, .id = id, .urgent = urgent, .lost = lost};
}

void link_stream_done(struct link_stream *stream)
{
    (void)stream;
}

void link_send(struct link_stream *stream, uint16_t kind, const void *head, uint32_t head_bytes, const struct io_piece *body,
               uint32_t pieces, struct link_op *op)
{
    if (kind == NOTE_KIND) {
        op->done(op);
        return;
    }
    assert(op_count < OPS && head_bytes > 0 && head_bytes <= LINK_HEAD_MAX && kind == WIRE_KIND);
    op->stream = stream;
    op->head = head;
    op->head_bytes = head_bytes;
    op->body = body;
    (void)pieces;
    under_way[op_count++] = op;
}

void link_message_done(struct link_message *message)
{
    message->kind = 0;
}

struct hosted *hosted_find(const struct replicas *replicas, uint32_t number)
{
    (void)replicas;
    return number > 0 && number <= VOLUMES ? &hosted[number - 1] : NULL;
}

void host_message(struct replica_host *host, const struct replica_message *message, struct replica_content *content)
{
    (void)host;
    (void)message;
    heard++;
    content_drop(&all.contents, content);
}

void host_link(struct replica_host *host, uint8_t node, uint64_t session)
{
    (void)host;
    (void)node;
    (void)session;
    links_told++;
}

uint32_t volume_id(const struct volume *volume)
{
    (void)volume;
    return 1;
}

void io_after(struct io *io, uint64_t delay_ns, struct io_timer *timer)
{
    (void)io;
    (void)delay_ns;
    (void)timer;
}

void io_cancel(struct io *io, struct io_timer *timer)
{
    (void)io;
    (void)timer;
}

void io_task_sleep(struct io *io, uint64_t ns)
{
    (void)io;
    (void)ns;
    abort();
}

/* ---- a node with two peers ---- */

static bool begin(void)
{
    memset(&all, 0, sizeof all);
    op_count = heard = links_told = 0;
    all.mem = mem_open(64 << 20);
    if (all.mem == NULL || wires_init(&all) != OK) return false;
    for (uint32_t i = 0; i < VOLUMES; i++)
        hosted[i] = (struct hosted){
            .all = &all, .number = i + 1, .place = {.stage = PLACE_LIVE, .node_count = 3, .nodes = {6, SLOW, FINE}}};
    wire_opened(&all, SLOW, NULL);
    wire_opened(&all, FINE, NULL);
    wire_up(&all, SLOW);
    wire_up(&all, FINE);
    return true;
}

static void end(void)
{
    mem_close(all.mem);
}

static bool goes_to(const struct link_op *op, uint32_t node)
{
    const struct wire_peer *peer = wire_peer(&all, node);
    return op->stream >= peer->streams && op->stream <= &peer->streams[WIRE_URGENT];
}

/* All that is under way to it has left. */
static void deliver(uint32_t node)
{
    for (uint32_t i = 0; i < op_count;) {
        struct link_op *op = under_way[i];
        if (!goes_to(op, node)) {
            i++;
            continue;
        }
        under_way[i] = under_way[--op_count];
        op->done(op);
    }
}

static uint32_t count_to(uint32_t node)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < op_count; i++) count += goes_to(under_way[i], node);
    return count;
}

static struct replica_message a_message(enum replica_message_kind kind)
{
    struct replica_message m = {.kind = kind, .boot = 1, .epoch = 1, .join = 1, .commit = 1};
    struct replica_config config = {.version = 1, .epoch = 1, .in_sync = 7, .join = {1, 1, 1}};
    if (replica_is_urgent(&m)) m.u.beat = (struct replica_heartbeat){.clock = 1, .boot_of = 1, .version = 1, .config = config};
    return m;
}

static void say(uint32_t volume, uint8_t node, enum replica_message_kind kind)
{
    struct replica_message m = a_message(kind);
    wire_send(&hosted[volume], node, &m, NULL);
}

/* ---- cases ---- */

TEST(one_peer_does_not_take_all_parcels)
{
    CHECK(begin());
    for (uint32_t i = 0; i < 2 * WIRE_PARCELS; i++) say(i % VOLUMES, 1, REPLICA_COMMIT);
    uint32_t slow = count_to(SLOW);
    CHECK(slow > WIRE_PARCELS / 2 && slow < WIRE_PARCELS);
    CHECK_EQ(all.stats.dropped, 2 * WIRE_PARCELS - slow);
    for (int round = 0; round < 100; round++) {
        for (uint32_t i = 0; i < 16; i++) say(i, 2, REPLICA_COMMIT);
        CHECK_EQ(count_to(FINE), 16);
        deliver(FINE);
    }
    deliver(SLOW);
    CHECK(op_count == 0 && all.parcels_free == WIRE_PARCELS && !wire_is_sending(wire_peer(&all, SLOW)));
    end();
}

/* They need no parcel, and one head is on its way at a time. */
TEST(heartbeats_share_a_head)
{
    CHECK(begin());
    for (uint32_t i = 0; i < 2 * WIRE_PARCELS; i++) say(0, 1, REPLICA_COMMIT);
    uint32_t others = op_count;
    for (uint32_t i = 0; i < 10; i++) say(i, 1, REPLICA_HEARTBEAT_ACK);
    CHECK_EQ(op_count, others + 1);
    struct link_op *op = under_way[others];
    op_count--;
    op->done(op);
    CHECK_EQ(op_count, others + 1); /* the nine that came meanwhile */
    struct cursor beats;
    struct replica_message m;
    uint32_t number, count = 0;
    op = under_way[others];
    CHECK(op->stream == &wire_peer(&all, SLOW)->streams[WIRE_URGENT]);
    CHECK(replica_heartbeats_decode(op->head, op->head_bytes, &beats) == OK);
    while (replica_heartbeats_take(&beats, &number, &m)) CHECK(number == ++count + 1 && m.kind == REPLICA_HEARTBEAT_ACK);
    CHECK_EQ(count, 9);
    op_count--;
    op->done(op);
    CHECK(op_count == others && !wire_peer(&all, SLOW)->beating);
    end();
}

/* To a peer that takes nothing, as many as a head has room for; and none of them outlives the link. */
TEST(old_heartbeats_are_forgotten)
{
    CHECK(begin());
    for (uint32_t i = 0; i < VOLUMES; i++) say(i, 1, REPLICA_HEARTBEAT_ACK);
    uint64_t dropped = all.stats.dropped;
    CHECK(op_count == 1 && dropped > 0 && dropped < VOLUMES - 10);
    wire_down(&all, SLOW);
    say(0, 1, REPLICA_HEARTBEAT_ACK);
    wire_up(&all, SLOW);
    deliver(SLOW);
    CHECK(op_count == 0 && all.stats.dropped == dropped);
    say(0, 1, REPLICA_HEARTBEAT_ACK);
    CHECK_EQ(op_count, 1);
    end();
}

TEST(what_no_decoder_takes_is_not_sent)
{
    CHECK(begin());
    struct replica_message m = a_message(REPLICA_COMMIT);
    m.boot = 0;
    wire_send(&hosted[0], 1, &m, NULL);
    m.kind = REPLICA_HEARTBEAT_ACK;
    wire_send(&hosted[0], 1, &m, NULL);
    CHECK(op_count == 0 && all.stats.dropped == 2 && all.stats.sent == 0 && all.parcels_free == WIRE_PARCELS);
    end();
}

/* A head of heartbeats is for each of its volumes; those of others, and of who is not where he says, are left out. */
TEST(heartbeats_are_told_to_their_volumes)
{
    static uint8_t head[LINK_HEAD_MAX];
    struct replica_heartbeats beats;
    struct link_message message = {.kind = WIRE_KIND, .stream = MEMBER_USER_STREAM + WIRE_URGENT, .head = head};
    CHECK(begin());
    replica_heartbeats_begin(&beats, head);
    struct replica_message m = a_message(REPLICA_HEARTBEAT_ACK);
    m.from = 1;
    for (uint32_t number = 1; number <= 3; number++) CHECK(replica_heartbeats_add(&beats, number, &m));
    CHECK(replica_heartbeats_add(&beats, VOLUMES + 1, &m)); /* not here */
    m.from = 2;
    CHECK(replica_heartbeats_add(&beats, 1, &m)); /* not he */
    message.head_bytes = beats.bytes;
    wire_arrived(&all, SLOW, &message);
    CHECK(heard == 3 && message.kind == 0 && all.stats.dropped == 0);
    message.kind = WIRE_KIND;
    message.head_bytes--;
    wire_arrived(&all, SLOW, &message);
    CHECK(heard == 3 && message.kind == 0 && all.stats.dropped == 1);
    end();
}

TESTS(one_peer_does_not_take_all_parcels, heartbeats_share_a_head, old_heartbeats_are_forgotten,
      what_no_decoder_takes_is_not_sent, heartbeats_are_told_to_their_volumes)
