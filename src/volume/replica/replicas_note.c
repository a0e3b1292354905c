/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a node says of itself to all others: as of which version of the roster it serves. The newest word counts, so one is on
 * its way at a time, and what came up meanwhile follows it.
 *
 *     note   head 8: version 8; a newer one may have more
 */
#include "base/bytes.h"
#include "volume/replica/replicas_internal.h"

static void note_sent(struct link_op *op)
{
    struct wire_peer *peer = CONTAINER(op, struct wire_peer, note);
    bool again = peer->note_again;
    peer->noting = peer->note_again = false;
    if (again) note_send(peer);
}

void note_send(struct wire_peer *peer)
{
    struct replicas *all = peer->all;
    if (!peer->up) return;
    if (peer->noting) {
        peer->note_again = true;
        return;
    }
    le64 version = put64(all->announced);
    memcpy(peer->note_head, &version, sizeof version);
    peer->noting = true;
    peer->note.done = note_sent;
    link_send(&peer->streams[WIRE_NOTES], NOTE_KIND, peer->note_head, sizeof peer->note_head, NULL, 0, &peer->note);
}

void note_take(struct wire_peer *peer, const struct link_message *message)
{
    le64 version;
    if (message->kind != NOTE_KIND || message->head_bytes < sizeof version || !peer->up) {
        peer->all->stats.dropped++;
        return;
    }
    memcpy(&version, message->head, sizeof version);
    peer->heard = get64(version);
}

void replicas_announce(struct replicas *all, uint64_t version)
{
    if (all->announced == version) return;
    all->announced = version;
    for (uint32_t i = 0; i < ROSTER_NODES_MAX; i++)
        if (all->peers[i].node != 0) note_send(&all->peers[i]);
}

uint64_t replicas_announced(const struct replicas *all, uint32_t node)
{
    for (uint32_t i = 0; i < ROSTER_NODES_MAX && node != 0; i++)
        if (all->peers[i].node == node) return all->peers[i].heard;
    return 0;
}
