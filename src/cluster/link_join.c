/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificates over links: for who joins, and new ones for who has one.
 *
 * A joiner is a stranger: TLS let it in without a certificate, JOIN is its only word, and the answer the last one it gets.
 * Who it will be is decided above, where the book of tokens is made durable before the answer (token.h).
 *
 * Renewing needs no trust beyond the link: who asks is known by the certificate that it has. A node without the CA's key asks
 * one that has it with SIGN, over whatever connection is ready; when the answer does not come, it asks again a minute later.
 * New connections use the new certificate, those that stand stay.
 */
#include "base/sha.h"
#include "cluster/link_internal.h"

/* ---- joining ---- */

enum err join_binding(struct tls *tls, const void *at, size_t size, uint8_t ret_binding[TLS_BINDING_BYTES])
{
    uint8_t said[DIGEST_BYTES_MAX];
    assert(size > JOIN_PROOF_BYTES);
    digest_of(DIGEST_SHA256, (const uint8_t *)at + JOIN_PROOF_BYTES, size - JOIN_PROOF_BYTES, said);
    return tls_binding(tls, said, sizeof said, ret_binding);
}

enum err join_arrived(struct link_conn *conn, const void *at, size_t size)
{
    struct links *l = conn->links;
    TRY(join_request_decode(at, size, &conn->join.request));
    TRY(join_binding(conn->tls, at, size, conn->join.binding));
    if (!l->let_join || l->stopping) {
        link_conn_refuse(conn, REFUSAL_JOIN, "nobody is expected to join here: ask for a token");
        return OK;
    }
    io_socket_peer(conn->socket, conn->join.from, sizeof conn->join.from);
    conn->state = CONN_JOINING;
    conn->joining = true;
    l->config.user->join(l->config.arg, &conn->join);
    return OK;
}

static struct link_conn *conn_of(struct link_join *join)
{
    struct link_conn *conn = CONTAINER(join, struct link_conn, join);
    assert(conn->joining);
    conn->joining = false;
    links_kick(conn->links);
    return conn;
}

void link_join_accept(struct link_join *join, const struct join_answer *answer)
{
    struct link_conn *conn = conn_of(join);
    if (conn->state != CONN_JOINING) return;
    conn->join_answer = *answer;
    conn->say_joined = true;
    conn->since_ns = io_now_ns(conn->links->io);
    links_tell(conn->links, false, "node %u joined from %s", answer->node, join->from);
}

void link_join_refuse(struct link_join *join, const char *why)
{
    struct link_conn *conn = conn_of(join);
    if (conn->state == CONN_JOINING) link_conn_refuse(conn, REFUSAL_JOIN, why);
}

bool link_join_waits(const struct link_join *join)
{
    return CONTAINER(join, struct link_conn, join)->state == CONN_JOINING;
}

/* ---- renewing ---- */

static bool der_from(const void *at, size_t size, struct der *ret_der)
{
    if (size == 0 || size > DER_MAX) return false;
    ret_der->bytes = (uint32_t)size;
    memcpy(ret_der->at, at, size);
    return true;
}

void sign_arrived(struct link_conn *conn, const void *at, size_t size)
{
    struct links *l = conn->links;
    struct der request;
    uint32_t node = conn->link->node;
    conn->signed_certificate.bytes = 0;
    conn->say_signed = true;
    links_kick(l);
    if (l->identity.ca_key.bytes == 0 || !der_from(at, size, &request)) return; /* the empty answer: no */
    enum err err = identity_sign(&l->identity, &request, node, links_now_s(l), &conn->signed_certificate);
    if (err == OK)
        links_tell(l, false, "the certificate of node %u was renewed", node);
    else
        links_tell(l, true, "node %u asks for a certificate in a way that cannot be granted: %s", node, err_text(err));
}

static void adopt(struct links *l, const struct der *certificate)
{
    struct tls_keys *keys = NULL;
    struct identity renewed = l->identity;
    enum err err = identity_adopt(&renewed, &l->renew_key, certificate, links_now_s(l));
    if (err == OK) err = tls_keys_open(l->mem, &renewed, &keys);
    l->renew_key.bytes = l->renew_request.bytes = 0;
    if (err != OK) {
        links_tell(l, true, "the new certificate of this node is not good: %s", err_text(err));
        return;
    }
    tls_keys_close(l->keys);
    l->keys = keys;
    l->identity = renewed;
    l->config.user->renewed(l->config.arg, &l->identity);
}

void signed_arrived(struct link_conn *conn, const void *at, size_t size)
{
    struct links *l = conn->links;
    struct der certificate;
    if (l->renew_key.bytes == 0 || !der_from(at, size, &certificate)) return; /* not asked for, or no */
    adopt(l, &certificate);
}

/* A ready connection to somebody who can sign. */
static struct link_conn *holder(struct links *l)
{
    for (struct list *i = l->conns.next; i != &l->conns; i = i->next) {
        struct link_conn *conn = CONTAINER(i, struct link_conn, of_links);
        if (conn->state == CONN_READY && conn->peer.holder) return conn;
    }
    return NULL;
}

void links_renew(struct links *links)
{
    uint64_t left_s;
    struct der certificate;
    links->renew_ns = io_now_ns(links->io);
    if (!identity_is_due(&links->identity, links_now_s(links), &left_s)) return;
    bool alone = links->identity.ca_key.bytes > 0;
    struct link_conn *conn = alone ? NULL : holder(links);
    if (!alone && conn == NULL) {
        links_tell(links, true, "the certificate of this node ends in %llu days, and no node that could renew it is connected",
                   (unsigned long long)(left_s / 86400));
        return;
    }
    enum err err = identity_new_key(&links->renew_key);
    if (err == OK) err = identity_request(&links->renew_key, &links->renew_request);
    if (err == OK && alone)
        err = identity_sign(&links->identity, &links->renew_request, links->identity.node, links_now_s(links), &certificate);
    if (err != OK) {
        links->renew_key.bytes = links->renew_request.bytes = 0;
        links_tell(links, true, "the certificate of this node could not be renewed: %s", err_text(err));
    } else if (alone) {
        adopt(links, &certificate);
    } else {
        conn->say_sign = true;
        links_kick(links);
    }
}
