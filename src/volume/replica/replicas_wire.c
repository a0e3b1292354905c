/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What comes from the hosts of other nodes, over the member's links.
 *
 *     receive   head decoded; does the volume live here, is the sender who he says; room for its content; host_message
 *     session   of a link, as the core wants it: a new number whenever something that was sent may be lost
 *
 * The order within a stream is kept: what finds no room waits, and everything behind it.
 */
#include "volume/replica/replicas_internal.h"

enum { CONTENTS = 48 /* of each use */, RETRY_US = 500 };

struct wire_peer *wire_peer(struct replicas *all, uint32_t node)
{
    for (uint32_t i = 0; i < ROSTER_NODES_MAX; i++)
        if (all->peers[i].node == node) return &all->peers[i];
    return NULL;
}

/* ---- receiving ---- */

/* Some of the messages may be of volumes that are not here, not any more, or not his who sends: nobody hears them. */
static struct hosted *hosted_of(struct replicas *all, uint32_t from, uint32_t number, const struct replica_message *m)
{
    struct hosted *hosted = hosted_find(all, number);
    return hosted != NULL && placement_of(&hosted->place, from) == m->from ? hosted : NULL;
}

static void take_beats(struct replicas *all, uint32_t from, const struct link_message *message)
{
    uint32_t number;
    struct replica_message m;
    struct cursor beats;
    if (replica_heartbeats_decode(message->head, message->head_bytes, &beats) != OK) {
        all->stats.dropped++;
        return;
    }
    while (replica_heartbeats_take(&beats, &number, &m)) {
        struct hosted *hosted = hosted_of(all, from, number, &m);
        all->stats.received += hosted != NULL;
        if (hosted != NULL) host_message(hosted->host, &m, NULL);
    }
}

static enum body_taken take(struct replicas *all, uint32_t from, const struct link_message *message)
{
    uint32_t number;
    struct replica_message m;
    struct replica_content *content = NULL;
    if (replica_decode(message->head, message->head_bytes, &number, &m) != OK || replica_is_urgent(&m)) return BODY_BAD;
    struct hosted *hosted = hosted_of(all, from, number, &m);
    if (hosted == NULL) return BODY_TAKEN;
    struct body_reader reader = {message->body, message->body_bytes, 0};
    enum body_taken taken = body_receive(&all->contents, volume_id(hosted->volume), &m, &reader, &content);
    if (taken != BODY_TAKEN) return taken;
    all->stats.received++;
    all->stats.received_bytes += message->body_bytes;
    host_message(hosted->host, &m, content);
    return taken;
}

static void retry_fires(struct io_timer *timer);

/* The messages of a stream, in order, as long as there is room. */
static void peer_take(struct wire_peer *peer, uint32_t stream)
{
    struct replicas *all = peer->all;
    while (!list_empty(&peer->arrived[stream])) {
        struct link_message *message = CONTAINER(peer->arrived[stream].next, struct link_message, owner);
        enum body_taken taken = take(all, peer->node, message);
        if (taken == BODY_NO_ROOM) {
            all->stats.parked++;
            if (all->retrying) return;
            all->retrying = true;
            all->retry.fire = retry_fires;
            io_after(all->io, RETRY_US * IO_US_NS, &all->retry);
            return;
        }
        all->stats.dropped += taken != BODY_TAKEN;
        list_remove(&message->owner);
        link_message_done(message);
    }
}

static void retry_fires(struct io_timer *timer)
{
    struct replicas *all = CONTAINER(timer, struct replicas, retry);
    all->retrying = false;
    for (uint32_t i = 0; i < ROSTER_NODES_MAX; i++)
        for (uint32_t s = 0; s < WIRE_STREAMS && all->peers[i].node != 0; s++) peer_take(&all->peers[i], s);
}

void wire_arrived(void *arg, uint32_t node, struct link_message *message)
{
    struct replicas *all = arg;
    struct wire_peer *peer = wire_peer(all, node);
    uint32_t stream = message->stream - MEMBER_USER_STREAM;
    if (peer != NULL && stream == WIRE_NOTES) {
        note_take(peer, message);
        link_message_done(message);
    } else if (peer == NULL || message->kind != WIRE_KIND || stream > WIRE_URGENT) {
        all->stats.dropped++;
        link_message_done(message);
    } else if (stream == WIRE_URGENT) {
        take_beats(all, node, message);
        link_message_done(message);
    } else {
        bool first = list_empty(&peer->arrived[stream]);
        list_push(&peer->arrived[stream], &message->owner);
        if (first) peer_take(peer, stream);
    }
}

/* ---- links ---- */

/* A new session of what goes to a node; 0: there is no link. Of all volumes, or of those that go over one stream. */
static void tell_session(struct wire_peer *peer, uint32_t stream)
{
    struct replicas *all = peer->all;
    uint64_t session = peer->up ? ++all->sessions : 0;
    for (uint32_t i = 0; i < all->hosted_count; i++) {
        struct hosted *hosted = all->hosted[i];
        uint32_t place = placement_of(&hosted->place, peer->node);
        bool its = stream == WIRE_URGENT || wire_stream(hosted->number) == stream;
        if (its && place < REPLICA_NODES_MAX) host_link(hosted->host, (uint8_t)place, session);
    }
}

void wires_tell_links(struct hosted *hosted, uint32_t from)
{
    for (uint32_t i = from; i < hosted->place.node_count; i++) {
        struct wire_peer *peer = wire_peer(hosted->all, hosted->place.nodes[i]);
        if (peer != NULL && peer->up) host_link(hosted->host, (uint8_t)i, ++hosted->all->sessions);
    }
}

static void lost(struct link_stream *stream)
{
    uint32_t index = stream->id - MEMBER_USER_STREAM;
    struct wire_peer *peer = CONTAINER(stream - index, struct wire_peer, streams[0]);
    if (index == WIRE_NOTES) note_send(peer);
    if (peer->up && index < WIRE_STREAMS) tell_session(peer, index);
}

void wire_opened(void *arg, uint32_t node, struct link *link)
{
    struct replicas *all = arg;
    struct wire_peer *peer = wire_peer(all, 0);
    assert(peer != NULL && wire_peer(all, node) == NULL);
    *peer = (struct wire_peer){.all = all, .node = node, .link = link};
    for (uint32_t s = 0; s < WIRE_ALL; s++)
        link_stream_init(link, &peer->streams[s], MEMBER_USER_STREAM + s, s == WIRE_URGENT, lost);
    for (uint32_t s = 0; s < WIRE_STREAMS; s++) list_init(&peer->arrived[s]);
}

void wire_up(void *arg, uint32_t node)
{
    struct wire_peer *peer = wire_peer(arg, node);
    if (peer == NULL) return;
    peer->up = true;
    beats_clear(peer);
    tell_session(peer, WIRE_URGENT);
    note_send(peer);
}

void wire_down(void *arg, uint32_t node)
{
    struct wire_peer *peer = wire_peer(arg, node);
    if (peer == NULL || !peer->up) return;
    peer->up = false;
    peer->heard = 0;
    tell_session(peer, WIRE_URGENT);
}

static void drop_arrived(struct wire_peer *peer)
{
    for (uint32_t s = 0; s < WIRE_STREAMS; s++)
        for (struct list *l; (l = list_pop(&peer->arrived[s])) != NULL;)
            link_message_done(CONTAINER(l, struct link_message, owner));
}

void wire_closing(void *arg, uint32_t node)
{
    struct replicas *all = arg;
    struct wire_peer *peer = wire_peer(all, node);
    if (peer == NULL) return;
    wire_down(all, node);
    drop_arrived(peer);
    while (wire_is_sending(peer)) io_task_sleep(all->io, IO_MS_NS);
    for (uint32_t s = 0; s < WIRE_ALL; s++) link_stream_done(&peer->streams[s]);
    *peer = (struct wire_peer){.node = 0};
}

void wires_drop(struct replicas *all)
{
    for (uint32_t i = 0; i < ROSTER_NODES_MAX; i++)
        if (all->peers[i].node != 0) drop_arrived(&all->peers[i]);
    if (all->retrying) io_cancel(all->io, &all->retry);
    all->retrying = false;
}

enum err wires_init(struct replicas *all)
{
    TRY(parcels_init(all));
    return contents_init(&all->contents, all->mem, CONTENTS);
}
