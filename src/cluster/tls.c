/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GnuTLS with its transport in memory.
 *
 * GnuTLS pulls from the window of bytes that were fed and pushes into the wire buffer that is being filled; a second one is
 * with the owner meanwhile. Before anything is written there is room for its record, and a handshake is far smaller than
 * the buffer, so pushing never has to wait. The peer's certificate is judged inside the handshake (judge), so that the right
 * alert goes out.
 */
#include "cluster/tls.h"

#include <assert.h>
#include <errno.h> /* GnuTLS asks for the reason of a short pull in this form */
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <string.h>

#include "base/bytes.h"
#include "base/sha.h"
#include "base/text.h"

enum { RECORD_OVERHEAD = 256, NODE_AND_CA = 2, CHAIN_MAX = 4 };

/* TLS 1.3 alone; ECDSA with P-256, because all our keys are. */
static const char priorities[] =
    "NONE:+VERS-TLS1.3:+AES-128-GCM:+AES-256-GCM:+CHACHA20-POLY1305:+AEAD:+SHA256:+SHA384:+GROUP-X25519:"
    "+GROUP-SECP256R1:+SIGN-ECDSA-SECP256R1-SHA256:+CTYPE-X509";

struct tls_keys {
    struct mem *mem;
    uint32_t users;
    gnutls_certificate_credentials_t credentials;
    gnutls_priority_t priorities;
    struct cluster_id cluster;
    struct der ca; /* bytes 0: a joiner, who has the fingerprint only */
    uint8_t fingerprint[FINGERPRINT_CA_BYTES];
};

struct tls {
    struct mem *mem;
    struct tls_keys *keys;
    gnutls_session_t session;
    bool server, strangers, ended, open;
    uint32_t node;
    uint64_t now_s;
    struct certificate peer;
    struct der ca; /* of a joiner's server */
    char why[TLS_WHY_MAX];

    uint8_t *in; /* TLS_WIRE_IN */
    size_t in_from, in_to;
    uint8_t *out[2]; /* TLS_WIRE_OUT each */
    size_t out_used;
    unsigned filling; /* out[filling]; the other may be with the owner */
    bool taken;
};

/* ---- keys ---- */

static void keys_unref(struct tls_keys *keys)
{
    if (--keys->users > 0) return;
    if (keys->credentials != NULL) gnutls_certificate_free_credentials(keys->credentials);
    if (keys->priorities != NULL) gnutls_priority_deinit(keys->priorities);
    mem_free(keys->mem, keys);
}

void tls_keys_close(struct tls_keys *keys)
{
    if (keys != NULL) keys_unref(keys);
}

static int judge(gnutls_session_t session);

static enum err keys_make(struct mem *mem, const struct cluster_id *cluster, struct tls_keys **ret_keys)
{
    struct tls_keys *keys = mem_alloc(mem, sizeof *keys);
    if (keys == NULL) return ERR_NO_MEMORY;
    keys->mem = mem;
    keys->users = 1;
    keys->cluster = *cluster;
    int failed = gnutls_certificate_allocate_credentials(&keys->credentials);
    if (failed >= 0) failed = gnutls_priority_init(&keys->priorities, priorities, NULL);
    if (failed < 0) {
        keys_unref(keys);
        return ERR_NO_MEMORY;
    }
    gnutls_certificate_set_verify_function(keys->credentials, judge);
    *ret_keys = keys;
    return OK;
}

/* The chain is certificate and CA: a joiner wants to see the CA. GnuTLS copies all of it. */
static enum err keys_load(struct tls_keys *keys, const struct identity *identity)
{
    gnutls_x509_crt_t chain[NODE_AND_CA] = {NULL, NULL};
    gnutls_x509_privkey_t key = NULL;
    gnutls_datum_t der[] = {{(unsigned char *)identity->certificate.at, identity->certificate.bytes},
                            {(unsigned char *)identity->ca.at, identity->ca.bytes},
                            {(unsigned char *)identity->key.at, identity->key.bytes}};
    int failed = gnutls_x509_privkey_init(&key);
    for (int i = 0; failed >= 0 && i < NODE_AND_CA; i++) {
        failed = gnutls_x509_crt_init(&chain[i]);
        if (failed >= 0) failed = gnutls_x509_crt_import(chain[i], &der[i], GNUTLS_X509_FMT_DER);
    }
    if (failed >= 0) failed = gnutls_x509_privkey_import(key, &der[NODE_AND_CA], GNUTLS_X509_FMT_DER);
    if (failed >= 0) failed = gnutls_certificate_set_x509_key(keys->credentials, chain, NODE_AND_CA, key);
    for (int i = 0; i < NODE_AND_CA; i++)
        if (chain[i] != NULL) gnutls_x509_crt_deinit(chain[i]);
    if (key != NULL) gnutls_x509_privkey_deinit(key);
    return failed < 0 ? ERR_DECODE : OK;
}

enum err tls_keys_open(struct mem *mem, const struct identity *identity, struct tls_keys **ret_keys)
{
    struct tls_keys *keys;
    TRY(keys_make(mem, &identity->cluster, &keys));
    keys->ca = identity->ca;
    enum err err = keys_load(keys, identity);
    if (err == OK)
        *ret_keys = keys;
    else
        keys_unref(keys);
    return err;
}

enum err tls_keys_open_joiner(struct mem *mem, const struct cluster_id *cluster,
                              const uint8_t fingerprint[FINGERPRINT_CA_BYTES], struct tls_keys **ret_keys)
{
    TRY(keys_make(mem, cluster, ret_keys));
    memcpy((*ret_keys)->fingerprint, fingerprint, FINGERPRINT_CA_BYTES);
    return OK;
}

/* ---- judging the peer ---- */

static void say_why(struct tls *tls, const char *why)
{
    struct text t;
    if (tls->why[0] != '\0') return; /* the first reason is the true one */
    text_init(&t, tls->why, sizeof tls->why);
    text_add(&t, "%s", why);
}

/* A joiner finds the CA in its server's chain, by the fingerprint. */
static bool ca_found(struct tls *tls, const gnutls_datum_t *chain, unsigned count)
{
    uint8_t fingerprint[FINGERPRINT_CA_BYTES];
    for (unsigned i = 1; i < count; i++) {
        if (chain[i].size > DER_MAX) continue;
        tls->ca.bytes = chain[i].size;
        memcpy(tls->ca.at, chain[i].data, chain[i].size);
        identity_fingerprint(&tls->ca, fingerprint);
        if (memcmp(fingerprint, tls->keys->fingerprint, sizeof fingerprint) == 0) return true;
    }
    tls->ca.bytes = 0;
    return false;
}

static enum err judge_chain(struct tls *tls, const gnutls_datum_t *chain, unsigned count)
{
    char why[IDENTITY_WHY_MAX] = "";
    struct certificate peer;
    bool joining = tls->keys->ca.bytes == 0;
    enum err err = ERR_DENIED;
    if (count == 0 && tls->server && tls->strangers) return OK; /* it has no name, then */
    if (chain == NULL || count == 0 || count > CHAIN_MAX) {
        say_why(tls, "it shows no certificate");
    } else if (joining && !ca_found(tls, chain, count)) {
        say_why(tls, "it belongs to another cluster than the token (its CA has another fingerprint)");
    } else {
        const struct der *ca = joining ? &tls->ca : &tls->keys->ca;
        err = certificate_check(ca, chain[0].data, chain[0].size, tls->now_s, why, &peer);
        if (err != OK) say_why(tls, why);
    }
    if (err != OK) return err;
    if (memcmp(&peer.cluster, &tls->keys->cluster, sizeof peer.cluster) != 0) {
        say_why(tls, "its certificate names another cluster");
        return ERR_DENIED;
    }
    if (tls->node != 0 && peer.node != tls->node) {
        struct text t;
        text_init(&t, why, sizeof why);
        text_add(&t, "it is node %u, and node %u was expected at this address", peer.node, tls->node);
        say_why(tls, why);
        return ERR_DENIED;
    }
    tls->peer = peer;
    return OK;
}

/* GnuTLS asks this during the handshake; anything but 0 ends it. */
static int judge(gnutls_session_t session)
{
    struct tls *tls = gnutls_session_get_ptr(session);
    unsigned count = 0;
    const gnutls_datum_t *chain = NULL;
    if (gnutls_certificate_type_get2(session, GNUTLS_CTYPE_PEERS) == GNUTLS_CRT_X509)
        chain = gnutls_certificate_get_peers(session, &count);
    return judge_chain(tls, chain, count) == OK ? 0 : GNUTLS_E_CERTIFICATE_ERROR;
}

/* ---- the wire ---- */

static ssize_t pull(gnutls_transport_ptr_t arg, void *at, size_t size)
{
    struct tls *tls = arg;
    size_t have = tls->in_to - tls->in_from, bytes = size < have ? size : have;
    if (bytes == 0) {
        gnutls_transport_set_errno(tls->session, EAGAIN);
        return -1;
    }
    memcpy(at, tls->in + tls->in_from, bytes);
    tls->in_from += bytes;
    return (ssize_t)bytes;
}

static ssize_t push(gnutls_transport_ptr_t arg, const void *at, size_t size)
{
    struct tls *tls = arg;
    if (size > TLS_WIRE_OUT - tls->out_used) return -1; /* cannot be: see above; then the session ends */
    memcpy(tls->out[tls->filling] + tls->out_used, at, size);
    tls->out_used += size;
    return (ssize_t)size;
}

size_t tls_room(struct tls *tls, uint8_t **ret_at)
{
    if (tls->in_from < tls->in_to) return 0;
    tls->in_from = tls->in_to = 0;
    *ret_at = tls->in;
    return TLS_WIRE_IN;
}

void tls_fed(struct tls *tls, size_t bytes)
{
    assert(tls->in_from == 0 && tls->in_to == 0 && bytes <= TLS_WIRE_IN);
    tls->in_to = bytes;
}

size_t tls_take(struct tls *tls, const uint8_t **ret_at)
{
    size_t bytes = tls->out_used;
    assert(!tls->taken);
    if (bytes == 0) return 0;
    *ret_at = tls->out[tls->filling];
    tls->filling ^= 1;
    tls->out_used = 0;
    tls->taken = true;
    return bytes;
}

void tls_taken(struct tls *tls)
{
    assert(tls->taken);
    tls->taken = false;
}

/* ---- life ---- */

static bool buffers_make(struct tls *tls)
{
    tls->in = mem_alloc(tls->mem, TLS_WIRE_IN);
    tls->out[0] = mem_alloc(tls->mem, TLS_WIRE_OUT);
    tls->out[1] = mem_alloc(tls->mem, TLS_WIRE_OUT);
    return tls->in != NULL && tls->out[0] != NULL && tls->out[1] != NULL;
}

/* There is no waiting in memory. */
static int never(gnutls_transport_ptr_t arg, unsigned ms)
{
    (void)arg;
    (void)ms;
    return 1;
}

static enum err session_make(struct tls *tls)
{
    unsigned flags = GNUTLS_NONBLOCK | GNUTLS_NO_TICKETS | GNUTLS_NO_SIGNAL | (tls->server ? GNUTLS_SERVER : GNUTLS_CLIENT);
    if (!tls->server) flags |= GNUTLS_FORCE_CLIENT_CERT;
    if (gnutls_init(&tls->session, flags) < 0) return ERR_NO_MEMORY;
    gnutls_session_t s = tls->session;
    gnutls_session_set_ptr(s, tls);
    int failed = gnutls_priority_set(s, tls->keys->priorities);
    if (failed >= 0) failed = gnutls_credentials_set(s, GNUTLS_CRD_CERTIFICATE, tls->keys->credentials);
    if (failed < 0) return ERR_NO_MEMORY;
    if (tls->server) gnutls_certificate_server_set_request(s, tls->strangers ? GNUTLS_CERT_REQUEST : GNUTLS_CERT_REQUIRE);
    gnutls_handshake_set_max_packet_length(s, TLS_HANDSHAKE_MAX);
    gnutls_handshake_set_timeout(s, 0); /* none: time is the owner's */
    gnutls_transport_set_ptr(s, tls);
    gnutls_transport_set_pull_function(s, pull);
    gnutls_transport_set_pull_timeout_function(s, never);
    gnutls_transport_set_push_function(s, push);
    return OK;
}

enum err tls_open(struct mem *mem, const struct tls_config *config, struct tls **ret_tls)
{
    struct tls *tls = mem_alloc(mem, sizeof *tls);
    if (tls == NULL) return ERR_NO_MEMORY;
    tls->mem = mem;
    tls->keys = config->keys;
    tls->keys->users++;
    tls->server = config->server;
    tls->strangers = config->strangers;
    tls->node = config->node;
    tls->now_s = config->now_s;
    enum err err = buffers_make(tls) ? session_make(tls) : ERR_NO_MEMORY;
    if (err == OK)
        *ret_tls = tls;
    else
        tls_close(tls);
    return err;
}

void tls_close(struct tls *tls)
{
    if (tls == NULL) return;
    struct mem *mem = tls->mem;
    if (tls->session != NULL) gnutls_deinit(tls->session);
    mem_free(mem, tls->in);
    mem_free(mem, tls->out[0]);
    mem_free(mem, tls->out[1]);
    keys_unref(tls->keys);
    mem_free(mem, tls);
}

enum err tls_binding(struct tls *tls, const void *context, size_t size, uint8_t ret_binding[TLS_BINDING_BYTES])
{
    static const char label[] = "EXPORTER-izar-join";
    int failed =
        gnutls_prf_rfc5705(tls->session, sizeof label - 1, label, size, context, TLS_BINDING_BYTES, (char *)ret_binding);
    return failed < 0 ? ERR_CLOSED : OK;
}

/* ---- what GnuTLS said ---- */

/* Who speaks plain HTTP is most often a person with a browser. */
static bool looks_like_http(const struct tls *tls)
{
    static const char *const verbs[] = {"GET ", "POST", "HEAD", "PUT ", "OPTI", "CONN"};
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        if (tls->in_to >= 4 && memcmp(tls->in, verbs[i], 4) == 0) return true;
    return false;
}

static enum err end_by_alert(struct tls *tls)
{
    struct text t;
    char why[TLS_WHY_MAX];
    const char *name = gnutls_alert_get_name(gnutls_alert_get(tls->session));
    text_init(&t, why, sizeof why);
    text_add(&t, "it refused us (%s)", name != NULL ? name : "unknown alert");
    say_why(tls, why);
    return ERR_DENIED;
}

/* The session is over: the reason, and the alert that goes with it. */
static enum err end(struct tls *tls, int code)
{
    struct text t;
    char why[TLS_WHY_MAX];
    if (tls->ended) return ERR_CLOSED;
    tls->ended = true;
    switch (code) {
    case GNUTLS_E_FATAL_ALERT_RECEIVED:
    case GNUTLS_E_WARNING_ALERT_RECEIVED: return end_by_alert(tls);
    case GNUTLS_E_PREMATURE_TERMINATION: say_why(tls, "the connection was lost"); return ERR_CLOSED;
    default: break;
    }
    gnutls_alert_send_appropriate(tls->session, code);
    if (code == GNUTLS_E_CERTIFICATE_ERROR) return ERR_DENIED; /* judge has said why */
    if (code == GNUTLS_E_CERTIFICATE_REQUIRED || code == GNUTLS_E_NO_CERTIFICATE_FOUND) {
        say_why(tls, "it shows no certificate");
        return ERR_DENIED;
    }
    if (!tls->open && looks_like_http(tls)) say_why(tls, "it speaks HTTP: this address is for links between nodes");
    if (code == GNUTLS_E_UNSUPPORTED_VERSION_PACKET || code == GNUTLS_E_NO_CIPHER_SUITES ||
        code == GNUTLS_E_INSUFFICIENT_SECURITY)
        say_why(tls, "it does not speak TLS 1.3 with ciphers of ours");
    text_init(&t, why, sizeof why);
    text_add(&t, "%s (%s)", tls->open ? "what it sent was damaged" : "it does not speak our TLS", gnutls_strerror(code));
    say_why(tls, why);
    return ERR_DECODE;
}

enum err tls_handshake(struct tls *tls)
{
    int code;
    if (tls->ended) return ERR_CLOSED;
    if (tls->open) return OK;
    do code = gnutls_handshake(tls->session);
    while (code == GNUTLS_E_INTERRUPTED || code == GNUTLS_E_WARNING_ALERT_RECEIVED);
    if (code == GNUTLS_E_AGAIN) return ERR_AGAIN;
    if (code < 0) return end(tls, code);
    tls->open = true;
    return OK;
}

const struct certificate *tls_peer(const struct tls *tls)
{
    return tls->open && tls->peer.node != 0 ? &tls->peer : NULL;
}

const struct der *tls_ca(const struct tls *tls)
{
    return &tls->ca;
}

const char *tls_why(const struct tls *tls)
{
    return tls->why;
}

/* ---- plain text ---- */

size_t tls_wire_left(const struct tls *tls)
{
    return TLS_WIRE_OUT - tls->out_used;
}

bool tls_can_write(const struct tls *tls)
{
    return tls->open && !tls->ended && tls_wire_left(tls) >= TLS_WRITE_MAX + 2 * RECORD_OVERHEAD;
}

enum err tls_write(struct tls *tls, const void *at, size_t size)
{
    assert(size > 0 && size <= TLS_WRITE_MAX);
    if (tls->ended) return ERR_CLOSED;
    assert(tls_can_write(tls));
    ssize_t sent = gnutls_record_send(tls->session, at, size);
    if (sent < 0) return end(tls, (int)sent);
    if ((size_t)sent == size) return OK;
    tls->ended = true; /* a peer may ask for smaller records; ours does not */
    say_why(tls, "it asks for smaller records than this cluster uses");
    return ERR_CLOSED;
}

enum err tls_read(struct tls *tls, void *at, size_t size, size_t *ret_bytes)
{
    ssize_t got;
    if (tls->ended) return ERR_CLOSED;
    assert(tls->open && size > 0);
    do got = gnutls_record_recv(tls->session, at, size);
    while (got == GNUTLS_E_INTERRUPTED);
    if (got == GNUTLS_E_AGAIN) return ERR_AGAIN;
    if (got < 0) return end(tls, (int)got);
    if (got == 0) {
        tls->ended = true;
        say_why(tls, "it closed the connection");
        return ERR_CLOSED;
    }
    *ret_bytes = (size_t)got;
    return OK;
}
