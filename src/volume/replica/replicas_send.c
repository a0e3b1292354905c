/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes out to other nodes.
 *
 *     parcel   one message: its head by codec.h, the content's table beside it, its bytes where they lie, held until they are
 *              on their way. All peers share the parcels (base/share.h): one that takes nothing leaves the others enough
 *     beats    heartbeats and their acks, of many volumes in one head, over the urgent stream: one head is on its way to a
 *              peer, and what comes meanwhile is gathered in another
 *
 * What finds no room is lost, as links may lose: the core sends again what is not acknowledged.
 */
#include "base/share.h"
#include "volume/replica/replicas_internal.h"

/* ---- parcels ---- */

static void sent(struct link_op *op)
{
    struct wire_parcel *p = CONTAINER(op, struct wire_parcel, op);
    struct replicas *all = p->peer->all;
    p->peer->parcels--;
    content_drop(&all->contents, p->content);
    list_push_front(&all->parcels, &p->link); /* its memory is warm */
    all->parcels_free++;
}

/* False: it must not be said (codec.h). */
static bool parcel_fill(struct wire_parcel *p, uint32_t number, const struct replica_message *m,
                        struct replica_content *content)
{
    p->head_bytes = replica_encode(number, m, p->head);
    p->piece_count = 0;
    p->content = content;
    if (p->head_bytes == 0) return false;
    if (content == NULL) return true;
    content_hold(content);
    if (!content_is_stretch(content)) p->pieces[p->piece_count++] = (struct io_piece){p->table, body_encode(content, p->table)};
    if (content->used > 0) p->pieces[p->piece_count++] = (struct io_piece){content->bytes, content->used};
    return true;
}

static void parcel_send(struct wire_peer *peer, uint32_t number, const struct replica_message *m,
                        struct replica_content *content)
{
    struct replicas *all = peer->all;
    bool may = all->parcels_free > 0 && share_allows(peer->parcels, all->parcels_free);
    struct wire_parcel *p = may ? CONTAINER(all->parcels.next, struct wire_parcel, link) : NULL;
    if (p == NULL || !parcel_fill(p, number, m, content)) {
        all->stats.dropped++;
        return;
    }
    list_remove(&p->link);
    all->parcels_free--;
    peer->parcels++;
    p->peer = peer;
    p->op.done = sent;
    all->stats.sent++;
    all->stats.sent_bytes += content != NULL ? content->used : 0;
    link_send(&peer->streams[wire_stream(number)], WIRE_KIND, p->head, p->head_bytes, p->pieces, p->piece_count, &p->op);
}

/* ---- beats ---- */

static void beats_go(struct wire_peer *peer);

static void beats_sent(struct link_op *op)
{
    struct wire_peer *peer = CONTAINER(op, struct wire_peer, beat_op);
    peer->beating = false;
    beats_go(peer);
}

static void beats_go(struct wire_peer *peer)
{
    struct replica_heartbeats *beats = &peer->beats;
    if (peer->beating || beats->count == 0) return;
    peer->beating = true;
    peer->beat_op.done = beats_sent;
    link_send(&peer->streams[WIRE_URGENT], WIRE_KIND, beats->head, beats->bytes, NULL, 0, &peer->beat_op);
    peer->gathering = !peer->gathering;
    beats_clear(peer);
}

void beats_clear(struct wire_peer *peer)
{
    replica_heartbeats_begin(&peer->beats, peer->beat_heads[peer->gathering]);
}

static void beat_send(struct wire_peer *peer, uint32_t number, const struct replica_message *m)
{
    struct replica_heartbeats *beats = &peer->beats;
    uint32_t unsaid = beats->dropped;
    bool added = replica_heartbeats_add(beats, number, m) && beats->dropped == unsaid;
    peer->all->stats.sent += added;
    peer->all->stats.dropped += !added;
    beats_go(peer);
}

void wire_send(void *arg, uint8_t node, const struct replica_message *m, struct replica_content *content)
{
    struct hosted *hosted = arg;
    struct wire_peer *peer = node < hosted->place.node_count ? wire_peer(hosted->all, hosted->place.nodes[node]) : NULL;
    if (peer == NULL || !peer->up) return;
    if (replica_is_urgent(m))
        beat_send(peer, hosted->number, m);
    else
        parcel_send(peer, hosted->number, m, content);
}

bool wire_is_sending(const struct wire_peer *peer)
{
    return peer->parcels > 0 || peer->beating || peer->noting;
}

enum err parcels_init(struct replicas *all)
{
    list_init(&all->parcels);
    for (uint32_t i = 0; i < WIRE_PARCELS; i++, all->parcels_free++) {
        struct wire_parcel *p = mem_alloc(all->mem, sizeof *p);
        if (p == NULL) return ERR_NO_MEMORY;
        list_push(&all->parcels, &p->link);
    }
    return OK;
}
