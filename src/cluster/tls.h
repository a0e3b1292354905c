/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS 1.3 as an engine: bytes of the wire in and out, plain text in and out, no socket and no clock.
 *
 *     wire ->  tls_room, tls_fed   -> [ engine ] ->  tls_read   -> plain text
 *     wire <-  tls_take, tls_taken <- [ engine ] <-  tls_write  <- plain text
 *
 * What it insists on: version 1.3 and nothing else, ECDSA, AEAD ciphers. Both sides show a certificate that the cluster's CA
 * signed itself, that is valid now, and that names the node which was meant. No tickets, no resumption, no early data (they
 * could be replayed), no compression, and TLS 1.3 has no renegotiation. Two sides may lack a certificate: who joins, and then
 * the server must have been told to let strangers in; such a peer has no name, and its owner must let it do nothing but join.
 * Who joins knows the CA by its fingerprint only.
 *
 * Where the bytes are copied. Receiving: from the engine's wire buffer into GnuTLS's record, decrypted there, and from there
 * into the caller's memory, which is the final place for all large data. Sending: encrypted from the caller's memory into
 * GnuTLS's record, and from there into the engine's wire buffer. So each direction has one copy beside the one that is the
 * cipher itself; GnuTLS 3.7 has no interface without them. GnuTLS allocates a record's memory by itself each time.
 *
 * A session takes about twice TLS_WIRE_OUT and TLS_WIRE_IN from `mem`; until the peer has shown its certificate GnuTLS takes
 * no message above TLS_HANDSHAKE_MAX from it. One loop owns it.
 */
#ifndef IZAR_CLUSTER_TLS_H
#define IZAR_CLUSTER_TLS_H

#include "base/mem.h"
#include "cluster/identity.h"

struct tls;      /* one session */
struct tls_keys; /* who we are, ready for use by many sessions */

enum {
    TLS_WRITE_MAX = 16384,       /* plain text in one record */
    TLS_WIRE_IN = 64 << 10,      /* bytes of the wire buffers */
    TLS_WIRE_OUT = 256 << 10,    /* there are two */
    TLS_HANDSHAKE_MAX = 8 << 10, /* the longest message of a handshake */
    TLS_WHY_MAX = IDENTITY_WHY_MAX,
    TLS_BINDING_BYTES = 32,
};
#define TLS_SESSION_BYTES (TLS_WIRE_IN + 2 * TLS_WIRE_OUT + (8u << 10))

/* ERR_DECODE (key, certificate or CA are damaged), ERR_NO_MEMORY. */
enum err tls_keys_open(struct mem *mem, const struct identity *identity, struct tls_keys **ret_keys);
/* Keys of who has none: it believes the CA with this fingerprint, whatever its server sends. */
enum err tls_keys_open_joiner(struct mem *mem, const struct cluster_id *cluster,
                              const uint8_t fingerprint[FINGERPRINT_CA_BYTES], struct tls_keys **ret_keys);
/* Sessions hold on to their keys, so keys may be closed while sessions live. NULL is fine. */
void tls_keys_close(struct tls_keys *keys);

struct tls_config {
    struct tls_keys *keys;
    bool server;    /* the side that was connected to */
    bool strangers; /* a server: peers without a certificate are let in */
    uint32_t node;  /* who the peer must be; 0: any node of the cluster */
    uint64_t now_s; /* the wall clock */
};

/* ERR_NO_MEMORY. */
enum err tls_open(struct mem *mem, const struct tls_config *config, struct tls **ret_tls);
void tls_close(struct tls *tls); /* NULL is fine */

/* Goes on with the handshake. OK: it is over, plain text may flow. ERR_AGAIN: bytes of the wire are missing. Anything else is
 * the end (ERR_DENIED, ERR_DECODE, ERR_CLOSED), tls_why says why; what tls_take gives then (an alert) should still go out. */
enum err tls_handshake(struct tls *tls);
/* The peer's name, after the handshake; NULL: a stranger. */
const struct certificate *tls_peer(const struct tls *tls);
/* The CA's certificate as the server sent it, after a joiner's handshake. */
const struct der *tls_ca(const struct tls *tls);
/* After the handshake: 32 bytes that only the two ends of this session have, together with this context (RFC 8446 7.5). Who
 * proves something with them proves it to this peer and to nobody that it passes them on to. ERR_CLOSED: it ended. */
enum err tls_binding(struct tls *tls, const void *context, size_t size, uint8_t ret_binding[TLS_BINDING_BYTES]);
/* Why it ended, a sentence without its subject; empty when it did not. */
const char *tls_why(const struct tls *tls);

/* Where the next bytes of the wire belong, and how many there may be: 0 until all bytes before were read. */
size_t tls_room(struct tls *tls, uint8_t **ret_at);
void tls_fed(struct tls *tls, size_t bytes);
/* Takes all bytes for the wire that have collected; 0: none. They stay where they are until tls_taken; one at a time. */
size_t tls_take(struct tls *tls, const uint8_t **ret_at);
void tls_taken(struct tls *tls);

/* Room for bytes of the wire, until the next tls_take. */
size_t tls_wire_left(const struct tls *tls);
/* True when there is room for those of one tls_write. */
bool tls_can_write(const struct tls *tls);
/* Encrypts all of 1 to TLS_WRITE_MAX bytes as one record; tls_can_write said that there is room. ERR_CLOSED: it ended. */
enum err tls_write(struct tls *tls, const void *at, size_t size);
/* Decrypts up to `size` bytes (at least one). ERR_AGAIN: bytes of the wire are missing; ERR_CLOSED: the peer said goodbye;
 * ERR_DENIED: the peer refused us; ERR_DECODE: the bytes were damaged or foreign. */
enum err tls_read(struct tls *tls, void *at, size_t size, size_t *ret_bytes);

#endif
