/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection of an initiator: PDUs that are cut anywhere on their way, in both directions.
 *
 * What is sent stands in chunks, one a PDU, and leaves in pieces that end where chance wants; so a connection that ends, or
 * that its initiator stops to feed, ends in the middle of a PDU as well as between two.
 */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "sim/must.h"
#include "sim/serve.h"

struct chunk {
    struct list link;
    uint32_t size;
    uint8_t at[];
};

enum { IN_MOST = 64 << 10 };

static void wire_free(struct wire *wire)
{
    for (struct list *l; (l = list_pop(&wire->chunks)) != NULL;) free(CONTAINER(l, struct chunk, link));
    list_remove(&wire->link);
    free(wire->buf);
    free(wire);
}

static void wire_check_end(struct wire *wire)
{
    if (wire->owner != NULL || wire->connecting || wire->in_busy || wire->out_busy) return;
    io_socket_close(wire->socket);
    wire_free(wire);
}

void wire_drop(struct wire *wire)
{
    wire->owner = NULL;
    if (wire->socket != NULL) io_socket_abort(wire->socket);
    wire_check_end(wire);
}

/* ---- out ---- */

static void wire_feed(struct wire *wire);

static void transmitted(struct io_net *op)
{
    struct wire *wire = CONTAINER(op, struct wire, out);
    wire->out_busy = false;
    wire->chunk_sent += op->bytes;
    while (!list_empty(&wire->chunks)) {
        struct chunk *chunk = CONTAINER(wire->chunks.next, struct chunk, link);
        if (wire->chunk_sent < chunk->size) break;
        wire->chunk_sent -= chunk->size;
        list_remove(&chunk->link);
        free(chunk);
    }
    if (wire->owner == NULL)
        wire_check_end(wire);
    else if (op->err != OK)
        initiator_lost(wire->owner);
    else
        wire_feed(wire);
}

static void wire_feed(struct wire *wire)
{
    uint32_t count = 0, skip = wire->chunk_sent;
    if (wire->out_busy || wire->out_paused || wire->connecting) return;
    for (struct list *l = wire->chunks.next; l != &wire->chunks && count < 8; l = l->next, skip = 0) {
        const struct chunk *chunk = CONTAINER(l, struct chunk, link);
        uint32_t bytes = chunk->size - skip;
        bool cut = serve_below(wire->serve, 8) == 0;
        if (cut) bytes = 1 + (uint32_t)serve_below(wire->serve, bytes);
        wire->pieces[count++] = (struct io_piece){chunk->at + skip, bytes};
        if (cut) break;
    }
    if (count == 0) return;
    wire->out_busy = true;
    wire->out.done = transmitted;
    io_transmit(wire->socket, wire->pieces, count, &wire->out);
}

void wire_send(struct wire *wire, const struct pdu_out *pdu, const void *data)
{
    uint32_t header = PDU_HEADER + (wire->header_digest ? PDU_DIGEST : 0), padded = pdu_padded(pdu->data_bytes);
    uint32_t tail = wire->data_digest && padded > 0 ? PDU_DIGEST : 0;
    struct chunk *chunk = must(calloc(1, sizeof *chunk + header + padded + tail));
    chunk->size = header + padded + tail;
    pdu_encode(pdu, chunk->at);
    if (wire->header_digest) {
        le32 crc = put32(crc32c(0, chunk->at, PDU_HEADER));
        memcpy(chunk->at + PDU_HEADER, crc.b, PDU_DIGEST);
    }
    if (padded > 0) memcpy(chunk->at + header, data, pdu->data_bytes);
    if (tail > 0) {
        le32 crc = put32(crc32c(0, chunk->at + header, padded));
        memcpy(chunk->at + header + padded, crc.b, PDU_DIGEST);
    }
    list_push(&wire->chunks, &chunk->link);
    wire_feed(wire);
}

/* ---- in ---- */

static bool digest_is(const uint8_t *at, uint32_t bytes)
{
    le32 sent;
    memcpy(sent.b, at + bytes, PDU_DIGEST);
    return get32(sent) == crc32c(0, at, bytes);
}

/* Takes one PDU out of the buffer. False: there is none, or it was the last. */
static bool pdu_take(struct wire *wire)
{
    struct lab *lab = wire->serve->lab;
    const uint8_t *h = wire->buf;
    uint32_t header = PDU_HEADER + (wire->header_digest ? PDU_DIGEST : 0);
    if (wire->owner == NULL || lab_failed(lab) || wire->have < header) return false;
    if (wire->header_digest && !digest_is(h, PDU_HEADER)) lab_fail(lab, "a wrong header digest from the target");
    uint32_t bytes = be24_at(h + 5), padded = pdu_padded(bytes), tail = wire->data_digest && bytes > 0 ? PDU_DIGEST : 0;
    if (bytes > wire->data_max) lab_fail(lab, "a PDU of %u bytes, more than were declared", bytes);
    if (h[4] != 0) lab_fail(lab, "additional header segments from the target");
    if (lab_failed(lab) || wire->have < header + padded + tail) return false;
    if (tail > 0 && !digest_is(h + header, padded)) lab_fail(lab, "a wrong data digest from the target");
    uint32_t all = header + padded + tail;
    initiator_pdu(wire->owner, h, h + header, bytes);
    wire->have -= all;
    memmove(wire->buf, wire->buf + all, wire->have);
    return true;
}

static void receive_more(struct wire *wire);

static void received(struct io_net *op)
{
    struct wire *wire = CONTAINER(op, struct wire, in);
    if (wire->owner != NULL && op->err == OK) {
        wire->have += op->bytes;
        while (pdu_take(wire)) continue; /* still busy: nothing frees it meanwhile */
    }
    wire->in_busy = false;
    if (wire->owner == NULL)
        wire_check_end(wire);
    else if (op->err != OK)
        initiator_lost(wire->owner);
    else
        receive_more(wire);
}

static void receive_more(struct wire *wire)
{
    uint32_t most = 1 + (uint32_t)serve_below(wire->serve, IN_MOST);
    if (wire->in_busy || wire->in_paused || wire->owner == NULL) return;
    if (wire->have + most > wire->room) {
        wire->room = wire->have + most;
        wire->buf = must(realloc(wire->buf, wire->room));
    }
    wire->in_busy = true;
    wire->in.done = received;
    io_receive(wire->socket, wire->buf + wire->have, most, &wire->in);
}

void wire_resume(struct wire *wire)
{
    wire->in_paused = wire->out_paused = false;
    if (wire->connecting) return;
    receive_more(wire);
    wire_feed(wire);
}

/* ---- its life ---- */

static void connected(struct io_net *op)
{
    struct wire *wire = CONTAINER(op, struct wire, out);
    struct initiator *owner = wire->owner;
    wire->connecting = false;
    wire->socket = op->err == OK ? op->socket : NULL;
    if (owner == NULL) {
        wire_check_end(wire);
        return;
    }
    if (op->err == OK) receive_more(wire);
    initiator_connected(owner, op->err);
}

struct wire *wire_open(struct initiator *owner)
{
    struct wire *wire = must(calloc(1, sizeof *wire));
    wire->serve = owner->serve;
    wire->owner = owner;
    wire->data_max = 8192;
    list_init(&wire->chunks);
    list_push(&owner->serve->wires, &wire->link);
    wire->connecting = true;
    wire->out.done = connected;
    io_connect(owner->serve->io, SERVE_ADDRESS, &wire->out);
    return wire;
}

void wire_power_cut(struct wire *wire)
{
    uint8_t some[4096];
    for (uint32_t n;
         wire->owner != NULL && wire->socket != NULL && (n = sim_socket_rest(wire->socket, some, sizeof some)) > 0;) {
        if (wire->have + n > wire->room) {
            wire->room = wire->have + n;
            wire->buf = must(realloc(wire->buf, wire->room));
        }
        memcpy(wire->buf + wire->have, some, n);
        wire->have += n;
        wire->in_busy = wire->out_busy = true; /* neither may begin */
        while (pdu_take(wire)) continue;
    }
    if (wire->owner != NULL) wire->owner->wire = NULL;
    wire_free(wire);
}
