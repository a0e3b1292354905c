/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Identities, and TLS as an engine.
 *
 * Goal: only nodes of the cluster, valid now and of the number that was meant, get a session; everybody else is refused with a
 * sentence; what goes in on one side comes out on the other, and damage does not. Method: two engines back to back in memory,
 * the wire between them is a loop of the test. Clocks are numbers.
 */
#include <gnutls/gnutls.h>

#include "base/prng.h"
#include "cluster/tls.h"
#include "tests/check.h"

#define NOW 1800000000ull
enum { ONE = 1, TWO = 2, MEMORY = 16 << 20 };

static const struct cluster_id cluster_a = {{1, 2, 3}}, cluster_b = {{9, 8, 7}};

/* ---- nodes ---- */

static struct mem *mem;
static struct identity first, second, foreign;

/* Joins a node as the CA's side does it. */
static enum err join(const struct identity *holder, uint32_t node, uint64_t now_s, struct identity *ret)
{
    struct der key, request, certificate;
    TRY(identity_new_key(&key));
    TRY(identity_request(&key, &request));
    TRY(identity_sign(holder, &request, node, now_s, &certificate));
    *ret = (struct identity){.cluster = holder->cluster, .node = node, .ca = holder->ca};
    return identity_adopt(ret, &key, &certificate, now_s);
}

static bool nodes_made(void)
{
    static bool made;
    if (made) return true;
    mem = mem_open(MEMORY);
    if (mem == NULL || identity_create(&cluster_a, ONE, NOW, &first) != OK) return false;
    if (join(&first, TWO, NOW, &second) != OK || identity_create(&cluster_b, TWO, NOW, &foreign) != OK) return false;
    made = true;
    return true;
}

/* ---- two engines and a wire ---- */

struct side {
    struct tls_keys *keys;
    struct tls *tls;
    enum err err; /* of the handshake */
};

struct wire {
    struct side client, server;
    uint64_t moved;     /* bytes, both ways */
    uint64_t damage_at; /* the byte to damage, counted as `moved`; 0: none */
};

static bool side_open(struct side *side, const struct identity *identity, struct tls_config config)
{
    if (tls_keys_open(mem, identity, &side->keys) != OK) return false;
    config.keys = side->keys;
    side->err = ERR_AGAIN;
    return tls_open(mem, &config, &side->tls) == OK;
}

static void wire_close(struct wire *w)
{
    tls_close(w->client.tls);
    tls_close(w->server.tls);
    tls_keys_close(w->client.keys);
    tls_keys_close(w->server.keys);
}

/* Moves what one engine has for the other. False: nothing. */
static bool move(struct wire *w, struct tls *from, struct tls *to)
{
    const uint8_t *at;
    uint8_t *place;
    size_t room = tls_room(to, &place);
    if (room == 0) return false;
    size_t bytes = tls_take(from, &at);
    if (bytes == 0) return false;
    if (bytes > room) return false; /* no test here sends that much at once */
    memcpy(place, at, bytes);
    if (w->damage_at > w->moved && w->damage_at <= w->moved + bytes) place[w->damage_at - w->moved - 1] ^= 0x10;
    w->moved += bytes;
    tls_taken(from);
    tls_fed(to, bytes);
    return true;
}

static void shake(struct side *side)
{
    if (side->err == ERR_AGAIN) side->err = tls_handshake(side->tls);
}

/* In TLS 1.3 a client is through before the server has judged it: what it hears then it hears from a read. */
static void shake_hands(struct wire *w)
{
    for (int i = 0; i < 20; i++) {
        shake(&w->client);
        move(w, w->client.tls, w->server.tls);
        shake(&w->server);
        move(w, w->server.tls, w->client.tls);
    }
}

static bool wire_open(struct wire *w, const struct identity *client, const struct identity *server, uint32_t meant,
                      uint64_t now_s)
{
    *w = (struct wire){.moved = 0};
    return side_open(&w->client, client, (struct tls_config){.node = meant, .now_s = now_s}) &&
           side_open(&w->server, server, (struct tls_config){.server = true, .now_s = now_s});
}

/* ---- sessions ---- */

TEST(members_get_a_session)
{
    struct wire w;
    CHECK(nodes_made() && wire_open(&w, &first, &second, TWO, NOW));
    shake_hands(&w);
    CHECK_OK(w.client.err);
    CHECK_OK(w.server.err);
    CHECK_EQ(tls_peer(w.client.tls)->node, TWO);
    CHECK_EQ(tls_peer(w.server.tls)->node, ONE);
    CHECK_STR(tls_why(w.client.tls), "");
    wire_close(&w);
}

TEST(bytes_come_out_as_they_went_in)
{
    enum { BYTES = 512 << 10 };
    static uint8_t sent[BYTES], got[BYTES];
    struct wire w;
    struct prng prng;
    size_t out = 0, in = 0, n;
    prng_init(&prng, 1);
    prng_fill(&prng, sent, sizeof sent);
    CHECK(nodes_made() && wire_open(&w, &first, &second, TWO, NOW));
    shake_hands(&w);
    while (in < BYTES) {
        size_t size = 1 + (size_t)prng_below(&prng, TLS_WRITE_MAX);
        if (size > BYTES - out) size = BYTES - out;
        if (size > 0) CHECK(tls_can_write(w.client.tls));
        if (size > 0) CHECK_OK(tls_write(w.client.tls, sent + out, size));
        out += size;
        move(&w, w.client.tls, w.server.tls);
        enum err err;
        while ((err = tls_read(w.server.tls, got + in, BYTES - in + (in == BYTES), &n)) == OK) in += n;
        CHECK_ERR(ERR_AGAIN, err);
    }
    CHECK_BYTES(sent, got, BYTES);
    wire_close(&w);
}

static enum err first_read(struct side *side)
{
    uint8_t byte;
    size_t n;
    return tls_read(side->tls, &byte, 1, &n);
}

TEST(another_ca_is_refused_by_both)
{
    struct wire w;
    CHECK(nodes_made() && wire_open(&w, &first, &foreign, TWO, NOW));
    shake_hands(&w);
    CHECK_ERR(ERR_DENIED, w.client.err);
    CHECK_STR(tls_why(w.client.tls), "its certificate was not signed by this cluster");
    CHECK_ERR(ERR_DENIED, w.server.err);
    wire_close(&w);

    /* A CA of the same name does not help: here the server judges. */
    static struct identity forged;
    CHECK_OK(identity_create(&cluster_a, ONE, NOW, &forged));
    forged.ca = first.ca; /* it believes the right CA, and shows a certificate of its own */
    CHECK(wire_open(&w, &forged, &second, TWO, NOW));
    shake_hands(&w);
    CHECK_OK(w.client.err);
    CHECK_ERR(ERR_DENIED, w.server.err);
    CHECK_STR(tls_why(w.server.tls), "its certificate was not signed by this cluster");
    CHECK(tls_peer(w.server.tls) == NULL);
    CHECK_ERR(ERR_DENIED, first_read(&w.client));
    CHECK(strncmp(tls_why(w.client.tls), "it refused us", 13) == 0);
    wire_close(&w);
}

TEST(times_are_kept)
{
    struct wire w;
    CHECK(nodes_made() && wire_open(&w, &first, &second, TWO, NOW + CERTIFICATE_LIFE_S + 60));
    shake_hands(&w);
    CHECK_ERR(ERR_DENIED, w.client.err);
    CHECK(strstr(tls_why(w.client.tls), "node 2 has expired by 1 minutes") != NULL);
    wire_close(&w);

    CHECK(wire_open(&w, &first, &second, TWO, NOW - CERTIFICATE_BEFORE_S - 60));
    shake_hands(&w);
    CHECK_ERR(ERR_DENIED, w.client.err);
    CHECK(strstr(tls_why(w.client.tls), "not valid yet") != NULL);
    wire_close(&w);

    /* Clocks that are off by hours do no harm, right after joining. */
    CHECK(wire_open(&w, &first, &second, TWO, NOW - 23 * 3600));
    shake_hands(&w);
    CHECK_OK(w.client.err);
    CHECK_OK(w.server.err);
    wire_close(&w);
}

TEST(another_node_than_meant_is_refused)
{
    struct wire w;
    CHECK(nodes_made() && wire_open(&w, &first, &second, 3, NOW));
    shake_hands(&w);
    CHECK_ERR(ERR_DENIED, w.client.err);
    CHECK_STR(tls_why(w.client.tls), "it is node 2, and node 3 was expected at this address");
    wire_close(&w);
}

TEST(damaged_bytes_end_it)
{
    static uint8_t data[4096], got[4096];
    uint64_t handshake;
    struct wire w;
    size_t n;
    CHECK(nodes_made() && wire_open(&w, &first, &second, TWO, NOW));
    shake_hands(&w);
    handshake = w.moved;
    CHECK_OK(tls_write(w.client.tls, data, sizeof data));
    w.damage_at = handshake + 1000;
    CHECK(move(&w, w.client.tls, w.server.tls));
    CHECK_ERR(ERR_DECODE, tls_read(w.server.tls, got, sizeof got, &n));
    CHECK(strncmp(tls_why(w.server.tls), "what it sent was damaged", 24) == 0);
    CHECK_ERR(ERR_CLOSED, tls_read(w.server.tls, got, sizeof got, &n));
    wire_close(&w);

    /* No damage of the handshake leads to two happy sides. */
    for (uint64_t at = 1; at < handshake; at += 397) {
        CHECK(wire_open(&w, &first, &second, TWO, NOW));
        w.damage_at = at;
        shake_hands(&w);
        bool happy = w.client.err == OK && w.server.err == OK && first_read(&w.client) == ERR_AGAIN &&
                     first_read(&w.server) == ERR_AGAIN;
        CHECK(!happy || w.moved < at);
        wire_close(&w);
    }
}

/* ---- others ---- */

/* Feeds bytes to a server that waits for a handshake. */
static enum err stranger(const void *bytes, size_t size, char why[TLS_WHY_MAX], size_t *ret_answer)
{
    struct side side = {.keys = NULL};
    uint8_t *place;
    const uint8_t *at;
    if (!side_open(&side, &first, (struct tls_config){.server = true, .now_s = NOW})) return ERR_NO_MEMORY;
    if (tls_room(side.tls, &place) < size) return ERR_LIMIT;
    memcpy(place, bytes, size);
    tls_fed(side.tls, size);
    enum err err = tls_handshake(side.tls);
    memcpy(why, tls_why(side.tls), TLS_WHY_MAX);
    *ret_answer = tls_take(side.tls, &at);
    tls_close(side.tls);
    tls_keys_close(side.keys);
    return err;
}

TEST(strangers_are_refused)
{
    static const char http[] = "GET / HTTP/1.1\r\nHost: izar\r\n\r\n";
    static uint8_t noise[60000];
    char why[TLS_WHY_MAX];
    size_t answer;
    struct prng prng;
    CHECK(nodes_made());
    CHECK_ERR(ERR_DECODE, stranger(http, sizeof http - 1, why, &answer));
    CHECK(strncmp(why, "it speaks HTTP", 14) == 0);
    for (uint64_t seed = 0; seed < 8; seed++) {
        prng_init(&prng, seed);
        prng_fill(&prng, noise, sizeof noise);
        CHECK(stranger(noise, sizeof noise, why, &answer) != OK && why[0] != '\0');
        CHECK(answer < 100);
        memcpy(noise, "\x16\x03\x01\x02\x00\x01", 6); /* a ClientHello begins like this */
        enum err err = stranger(noise, sizeof noise, why, &answer);
        CHECK(err != OK && (err == ERR_AGAIN || why[0] != '\0'));
    }
}

/* A client of GnuTLS that is not ours. */
struct other {
    gnutls_session_t session;
    gnutls_certificate_credentials_t credentials;
    struct tls *server;
    uint8_t hello[4096];
    size_t used;
};

static ssize_t other_push(gnutls_transport_ptr_t arg, const void *at, size_t size)
{
    struct other *o = arg;
    if (size > sizeof o->hello - o->used) return -1;
    memcpy(o->hello + o->used, at, size);
    o->used += size;
    return (ssize_t)size;
}

static ssize_t other_pull(gnutls_transport_ptr_t arg, void *at, size_t size)
{
    struct other *o = arg;
    (void)at;
    (void)size;
    gnutls_transport_set_errno(o->session, 11);
    return -1;
}

TEST(tls_1_2_is_refused)
{
    static struct other o;
    char why[TLS_WHY_MAX];
    size_t answer;
    CHECK(nodes_made());
    CHECK(gnutls_init(&o.session, GNUTLS_CLIENT | GNUTLS_NONBLOCK) == 0);
    CHECK(gnutls_priority_set_direct(o.session, "NORMAL:-VERS-ALL:+VERS-TLS1.2", NULL) == 0);
    CHECK(gnutls_certificate_allocate_credentials(&o.credentials) == 0);
    CHECK(gnutls_credentials_set(o.session, GNUTLS_CRD_CERTIFICATE, o.credentials) == 0);
    gnutls_transport_set_ptr(o.session, &o);
    gnutls_transport_set_push_function(o.session, other_push);
    gnutls_transport_set_pull_function(o.session, other_pull);
    gnutls_handshake(o.session);
    CHECK(o.used > 100);
    enum err err = stranger(o.hello, o.used, why, &answer);
    gnutls_deinit(o.session);
    gnutls_certificate_free_credentials(o.credentials);
    CHECK_ERR(ERR_DECODE, err);
    CHECK_STR(why, "it does not speak TLS 1.3 with ciphers of ours");
    CHECK(answer > 0 && answer < 100); /* an alert, and nothing of ours */
}

static bool open_joiner(struct wire *w, const uint8_t fingerprint[FINGERPRINT_CA_BYTES], bool strangers)
{
    struct tls_config config = {.now_s = NOW};
    *w = (struct wire){.client.err = ERR_AGAIN};
    if (tls_keys_open_joiner(mem, &cluster_a, fingerprint, &w->client.keys) != OK) return false;
    config.keys = w->client.keys;
    if (tls_open(mem, &config, &w->client.tls) != OK) return false;
    return side_open(&w->server, &first, (struct tls_config){.server = true, .strangers = strangers, .now_s = NOW});
}

TEST(joiners_know_the_ca_by_its_fingerprint)
{
    uint8_t fingerprint[FINGERPRINT_CA_BYTES];
    struct wire w;
    CHECK(nodes_made());
    identity_fingerprint(&first.ca, fingerprint);
    CHECK(open_joiner(&w, fingerprint, true));
    shake_hands(&w);
    CHECK_OK(w.client.err);
    CHECK_OK(w.server.err);
    CHECK(tls_peer(w.server.tls) == NULL && tls_peer(w.client.tls)->node == ONE);
    CHECK_EQ(tls_ca(w.client.tls)->bytes, first.ca.bytes);
    CHECK_BYTES(tls_ca(w.client.tls)->at, first.ca.at, first.ca.bytes);
    wire_close(&w);

    /* Where nobody is to join, it does not get in. */
    CHECK(open_joiner(&w, fingerprint, false));
    shake_hands(&w);
    CHECK_ERR(ERR_DENIED, w.server.err);
    CHECK_STR(tls_why(w.server.tls), "it shows no certificate");
    wire_close(&w);

    fingerprint[31] ^= 1;
    CHECK(open_joiner(&w, fingerprint, true));
    shake_hands(&w);
    CHECK_ERR(ERR_DENIED, w.client.err);
    CHECK(strstr(tls_why(w.client.tls), "another cluster than the token") != NULL);
    wire_close(&w);
}

/* ---- identities ---- */

TEST(certificates_are_renewed)
{
    struct der key, request, certificate, before;
    uint64_t left;
    CHECK(nodes_made());
    struct identity node = second;
    CHECK(identity_is_holder(&first) && !identity_is_holder(&second));
    CHECK(!identity_is_due(&node, NOW, &left));
    CHECK_EQ(left, CERTIFICATE_LIFE_S);
    uint64_t later = NOW + CERTIFICATE_LIFE_S * 3 / 4;
    CHECK(identity_is_due(&node, later, &left));
    CHECK_OK(identity_new_key(&key));
    CHECK_OK(identity_request(&key, &request));
    CHECK_OK(identity_sign(&first, &request, TWO, later, &certificate));
    before = node.certificate;
    CHECK_ERR(ERR_DENIED, identity_adopt(&node, &second.key, &certificate, later)); /* not its key */
    CHECK_OK(identity_adopt(&node, &key, &certificate, later));
    CHECK(!identity_is_due(&node, later, &left));
    CHECK(before.bytes != node.certificate.bytes || memcmp(before.at, node.certificate.at, before.bytes) != 0);

    /* For another node, and by another CA. */
    CHECK_OK(identity_sign(&first, &request, 3, later, &certificate));
    CHECK_ERR(ERR_DENIED, identity_adopt(&node, &key, &certificate, later));
    CHECK_OK(identity_sign(&foreign, &request, TWO, later, &certificate));
    CHECK_ERR(ERR_DENIED, identity_adopt(&node, &key, &certificate, later));
}

TEST(requests_must_be_of_who_owns_the_key)
{
    struct der key, request, certificate;
    CHECK(nodes_made());
    CHECK_OK(identity_new_key(&key));
    CHECK_OK(identity_request(&key, &request));
    request.at[request.bytes - 1] ^= 1; /* the signature */
    CHECK(identity_sign(&first, &request, TWO, NOW, &certificate) != OK);
    request.bytes = 10;
    CHECK_ERR(ERR_DECODE, identity_sign(&first, &request, TWO, NOW, &certificate));
}

TESTS(members_get_a_session, bytes_come_out_as_they_went_in, another_ca_is_refused_by_both, times_are_kept,
      another_node_than_meant_is_refused, damaged_bytes_end_it, strangers_are_refused, tls_1_2_is_refused,
      joiners_know_the_ca_by_its_fingerprint, certificates_are_renewed, requests_must_be_of_who_owns_the_key)
