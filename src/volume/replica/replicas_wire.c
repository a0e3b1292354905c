/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages between the hosts of nodes, over the member's links.
 *
 *     send      head by codec.h, the content's table beside it, its bytes where they lie: held until they are on their way
 *     receive   head decoded; does the volume live here, is the sender who he says; room for its content; host_message
 *     session   of a link, as the core wants it: a new number whenever something that was sent may be lost
 *
 * The order within a stream is kept: what finds no room waits, and everything behind it.
 */
#include "volume/replica/replicas_internal.h"

enum { CONTENTS = 48 /* of each use */, RETRY_US = 500 };

/* ---- sending ---- */

static struct wire_peer *peer_of(struct replicas *all, uint32_t node)
{
    for (uint32_t i = 0; i < ROSTER_NODES_MAX; i++)
        if (all->peers[i].node == node) return &all->peers[i];
    return NULL;
}

static void sent(struct link_op *op)
{
    struct wire_parcel *p = CONTAINER(op, struct wire_parcel, op);
    struct replicas *all = p->peer->all;
    p->peer->under_way--;
    content_drop(&all->contents, p->content);
    list_push_front(&all->parcels, &p->link); /* its memory is warm */
}

static bool is_urgent(const struct replica_message *m)
{
    return m->kind == REPLICA_HEARTBEAT || m->kind == REPLICA_HEARTBEAT_ACK;
}

static uint32_t stream_of(uint32_t number)
{
    return number % WIRE_STREAMS;
}

void wire_send(void *arg, uint8_t node, const struct replica_message *m, struct replica_content *content)
{
    struct hosted *hosted = arg;
    struct replicas *all = hosted->all;
    struct wire_peer *peer = node < hosted->place.node_count ? peer_of(all, hosted->place.nodes[node]) : NULL;
    if (peer == NULL || !peer->up) return;
    struct list *free = list_pop(&all->parcels);
    if (free == NULL) {
        all->stats.dropped++;
        return;
    }
    struct wire_parcel *p = CONTAINER(free, struct wire_parcel, link);
    uint32_t pieces = 0, head = replica_encode(hosted->number, m, p->head);
    p->peer = peer;
    p->content = content;
    p->op.done = sent;
    all->stats.sent++;
    if (content != NULL) {
        content_hold(content);
        if (!content_is_stretch(content)) p->pieces[pieces++] = (struct io_piece){p->table, body_encode(content, p->table)};
        if (content->used > 0) p->pieces[pieces++] = (struct io_piece){content->bytes, content->used};
        all->stats.sent_bytes += content->used;
    }
    peer->under_way++;
    link_send(&peer->streams[is_urgent(m) ? WIRE_URGENT : stream_of(hosted->number)], WIRE_KIND, p->head, head, p->pieces,
              pieces, &p->op);
}

/* ---- receiving ---- */

static void take_heartbeats(struct replicas *all, uint32_t from, const struct link_message *message)
{
    uint32_t number;
    struct replica_message m;
    if (replica_decode(message->head, message->head_bytes, &number, &m) != OK || !is_urgent(&m)) {
        all->stats.dropped++;
        return;
    }
    struct hosted *hosted = hosted_find(all, number);
    if (hosted == NULL || placement_of(&hosted->place, from) != m.from) return;
    host_message(hosted->host, &m, NULL);
}

enum taken { TAKEN, TAKEN_NOT_UNDERSTOOD, TAKEN_NO_ROOM };

/* A stretch is its bytes; the host judges them together with the step. */
static enum taken take_stretch(struct replicas *all, uint32_t volume, struct body_reader *reader,
                               struct replica_content **ret_content)
{
    struct replica_content *content = content_take(&all->contents, CONTENT_STEP, volume, ENTRY_NEW, 0);
    if (content == NULL) return TAKEN_NO_ROOM;
    if (reader->bytes > content->room || !body_take(reader, content->bytes, reader->bytes)) {
        content_drop(&all->contents, content);
        return TAKEN_NOT_UNDERSTOOD;
    }
    content->used = reader->bytes;
    *ret_content = content;
    return TAKEN;
}

static enum taken take_content(struct replicas *all, uint32_t volume, const struct link_message *message,
                               const struct replica_message *m, struct replica_content **ret_content)
{
    struct body_reader reader = {message->body, message->body_bytes, 0};
    struct body_head head;
    if (m->kind == REPLICA_STEP) return take_stretch(all, volume, &reader, ret_content);
    if (body_head_decode(&reader, &head) != OK) return TAKEN_NOT_UNDERSTOOD;
    bool forwarded = m->kind == REPLICA_FORWARD;
    struct replica_content *content =
        content_take(&all->contents, forwarded ? CONTENT_FORWARD : CONTENT_RECORD, volume, head.what, head.count);
    /* Whoever forwards sends again; to wait for what was forwarded before would be to wait for what stands behind this. */
    if (content == NULL) return forwarded ? TAKEN_NOT_UNDERSTOOD : TAKEN_NO_ROOM;
    if (body_decode(&reader, content) == OK && reader.at == reader.bytes) {
        *ret_content = content;
        return TAKEN;
    }
    content_drop(&all->contents, content);
    return TAKEN_NOT_UNDERSTOOD;
}

static enum taken take(struct replicas *all, uint32_t from, const struct link_message *message)
{
    uint32_t number;
    struct replica_message m;
    struct replica_content *content = NULL;
    if (replica_decode(message->head, message->head_bytes, &number, &m) != OK || is_urgent(&m)) return TAKEN_NOT_UNDERSTOOD;
    struct hosted *hosted = hosted_find(all, number);
    if (hosted == NULL || placement_of(&hosted->place, from) != m.from) return TAKEN; /* not here, not any more, or not he */
    if (replica_has_content(&m) != (message->body_bytes > 0)) return TAKEN_NOT_UNDERSTOOD;
    if (message->body_bytes > 0) {
        enum taken taken = take_content(all, volume_id(hosted->volume), message, &m, &content);
        if (taken != TAKEN) return taken;
    }
    all->stats.received++;
    all->stats.received_bytes += message->body_bytes;
    host_message(hosted->host, &m, content);
    return TAKEN;
}

static void retry_fires(struct io_timer *timer);

/* The messages of a stream, in order, as long as there is room. */
static void peer_take(struct wire_peer *peer, uint32_t stream)
{
    struct replicas *all = peer->all;
    while (!list_empty(&peer->arrived[stream])) {
        struct link_message *message = CONTAINER(peer->arrived[stream].next, struct link_message, owner);
        enum taken taken = take(all, peer->node, message);
        if (taken == TAKEN_NO_ROOM) {
            all->stats.parked++;
            if (all->retrying) return;
            all->retrying = true;
            all->retry.fire = retry_fires;
            io_after(all->io, RETRY_US * IO_US_NS, &all->retry);
            return;
        }
        all->stats.dropped += taken == TAKEN_NOT_UNDERSTOOD;
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
    struct wire_peer *peer = peer_of(all, node);
    uint32_t stream = message->stream - MEMBER_USER_STREAM;
    if (peer == NULL || message->kind != WIRE_KIND || stream > WIRE_URGENT) {
        all->stats.dropped++;
        link_message_done(message);
    } else if (stream == WIRE_URGENT) {
        take_heartbeats(all, node, message);
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
        bool its = stream == WIRE_URGENT || stream_of(hosted->number) == stream;
        if (its && place < REPLICA_NODES_MAX) host_link(hosted->host, (uint8_t)place, session);
    }
}

void wires_tell_links(struct hosted *hosted)
{
    for (uint32_t i = 0; i < hosted->place.node_count; i++) {
        struct wire_peer *peer = peer_of(hosted->all, hosted->place.nodes[i]);
        if (peer != NULL && peer->up) host_link(hosted->host, (uint8_t)i, ++hosted->all->sessions);
    }
}

static void lost(struct link_stream *stream)
{
    uint32_t index = stream->id - MEMBER_USER_STREAM;
    struct wire_peer *peer = CONTAINER(stream - index, struct wire_peer, streams[0]);
    if (peer->up && index != WIRE_URGENT) tell_session(peer, index);
}

void wire_opened(void *arg, uint32_t node, struct link *link)
{
    struct replicas *all = arg;
    struct wire_peer *peer = peer_of(all, 0);
    assert(peer != NULL && peer_of(all, node) == NULL);
    *peer = (struct wire_peer){.all = all, .node = node, .link = link};
    for (uint32_t s = 0; s <= WIRE_STREAMS; s++)
        link_stream_init(link, &peer->streams[s], MEMBER_USER_STREAM + s, s == WIRE_URGENT, lost);
    for (uint32_t s = 0; s < WIRE_STREAMS; s++) list_init(&peer->arrived[s]);
}

void wire_up(void *arg, uint32_t node)
{
    struct wire_peer *peer = peer_of(arg, node);
    if (peer == NULL) return;
    peer->up = true;
    tell_session(peer, WIRE_URGENT);
}

void wire_down(void *arg, uint32_t node)
{
    struct wire_peer *peer = peer_of(arg, node);
    if (peer == NULL || !peer->up) return;
    peer->up = false;
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
    struct wire_peer *peer = peer_of(all, node);
    if (peer == NULL) return;
    wire_down(all, node);
    drop_arrived(peer);
    while (peer->under_way > 0) io_task_sleep(all->io, IO_MS_NS);
    for (uint32_t s = 0; s <= WIRE_STREAMS; s++) link_stream_done(&peer->streams[s]);
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
    list_init(&all->parcels);
    for (uint32_t i = 0; i < WIRE_PARCELS; i++) {
        struct wire_parcel *p = mem_alloc(all->mem, sizeof *p);
        if (p == NULL) return ERR_NO_MEMORY;
        list_push(&all->parcels, &p->link);
    }
    return contents_init(&all->contents, all->mem, CONTENTS);
}
