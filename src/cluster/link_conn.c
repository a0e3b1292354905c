/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection, from its beginning to its end.
 *
 *     CONNECTING   we dial                                             |
 *     HANDSHAKE    TLS; the certificate says which node it is          | all of it within hello_ms
 *     HELLO        both say what they are and can, the dialling side  |
 *                  first; a stranger may ask to join               |
 *     READY        messages; pings both ways
 *     LEAVING      a reason, or TLS's alert, is on its way out; what comes in is thrown away, for a second
 *     CLOSING      cut; it is freed when nothing is under way and its messages were given back
 *
 * The wire is always read, but for a connection that waits for memory: its TLS buffer is full then, and the peer is held up.
 */
#include "base/hash.h"
#include "cluster/link_internal.h"

#define LEAVING_NS IO_S_NS

static void advance(struct link_conn *conn);

/* ---- words for people ---- */

const char *link_conn_text(const struct link_conn *conn, char *buf, size_t size)
{
    char peer[IO_ADDRESS_TEXT];
    struct text t;
    text_init(&t, buf, size);
    if (conn->link != NULL) text_add(&t, "node %u ", conn->link->node);
    if (conn->link != NULL && conn->dialled && conn->link->paths[conn->path].address[0] != '\0')
        text_add(&t, "at %s", conn->link->paths[conn->path].address);
    else
        text_add(&t, "from %s", conn->socket != NULL ? io_socket_peer(conn->socket, peer, sizeof peer) : "?");
    return buf;
}

static bool is_quiet_since(const struct links *links, uint64_t since_ns)
{
    return io_now_ns(links->io) - since_ns < links->config.quiet_ms * IO_MS_NS;
}

/* What we dial again and again is told once for each reason. */
static bool is_news(struct link_conn *conn, const char *why)
{
    if (conn->link == NULL || !conn->dialled) return true;
    if (conn->link->boot == 0 && is_quiet_since(conn->links, conn->link->opened_ns)) return false;
    struct path *path = &conn->link->paths[conn->path];
    uint64_t reason = hash64(why, strlen(why), 0);
    bool news = path->told != reason;
    path->told = reason;
    return news;
}

static void tell_end(struct link_conn *conn, const char *verb, const char *why)
{
    char who[IO_ADDRESS_TEXT + 32];
    if (!is_news(conn, why)) return;
    links_tell(conn->links, true, "link %s %s: %s", link_conn_text(conn, who, sizeof who), verb, why);
}

/* ---- the end ---- */

static void leave_count(struct link_conn *conn)
{
    if (conn->stranger)
        conn->links->stranger_count--;
    else
        conn->links->conn_count--;
}

static void others_say_dead(struct link *link)
{
    for (uint32_t i = 0; i < LINK_PATHS_MAX; i++)
        if (link->paths[i].conn != NULL && link->paths[i].conn->state == CONN_READY) link->paths[i].conn->say_dead = true;
}

/* The connection was ready. */
static void link_lost_conn(struct link_conn *conn)
{
    struct link *link = conn->link;
    struct links *l = conn->links;
    link->ready--;
    l->stats.lost++;
    link->paths[conn->path].dead = conn->session;
    others_say_dead(link);
    send_conn_lost(conn);
    if (link->ready == 0 && !link->closed && !l->stopping) l->config.user->down(link);
}

void link_conn_cut(struct link_conn *conn, const char *why)
{
    if (conn->state == CONN_CLOSING) return;
    bool was_ready = conn->state == CONN_READY;
    struct link *link = conn->link;
    conn->state = CONN_CLOSING; /* first: who is told may close the link */
    if (conn->joining)
        conn->counts = true; /* as long as it waits for its answer, because its memory does */
    else
        leave_count(conn);
    if (why != NULL) tell_end(conn, was_ready ? "lost" : "did not come up", why);
    if (conn->socket != NULL)
        io_socket_abort(conn->socket);
    else if (conn->rx_busy)
        io_connect_abort(&conn->rx_op);
    receive_lost(conn);
    if (link != NULL && link->paths[conn->path].conn == conn) {
        link->paths[conn->path].conn = NULL;
        path_failed(link, conn->path);
    }
    if (was_ready) link_lost_conn(conn);
    conn->link = NULL;
    links_kick(conn->links);
}

bool link_conn_reap(struct link_conn *conn)
{
    struct links *l = conn->links;
    if (conn->state != CONN_CLOSING || conn->rx_busy || conn->tx_busy || conn->messages_out > 0 || conn->joining) return false;
    if (conn->counts) leave_count(conn);
    io_socket_close(conn->socket);
    tls_close(conn->tls);
    receive_close(conn);
    list_remove(&conn->of_links);
    mem_free(l->mem, conn);
    return true;
}

/* Lets the last words out; the reason has been told. */
static void leave(struct link_conn *conn)
{
    conn->state = CONN_LEAVING;
    conn->since_ns = io_now_ns(conn->links->io);
    links_kick(conn->links);
}

void link_conn_refuse(struct link_conn *conn, enum link_refusal refusal, const char *why)
{
    struct text t;
    assert(conn->state == CONN_HELLO || conn->state == CONN_JOINING);
    text_init(&t, conn->refusal_text, sizeof conn->refusal_text);
    text_add(&t, "%s", why);
    conn->refusal = refusal;
    conn->say_refuse = true;
    conn->links->stats.refused++;
    if (refusal != REFUSAL_STRANGER || !is_quiet_since(conn->links, conn->links->opened_ns)) tell_end(conn, "refused", why);
    leave(conn);
}

/* TLS, or what came through it, is over. */
static void fail(struct link_conn *conn, enum err err)
{
    const char *why = tls_why(conn->tls);
    if (conn->state == CONN_LEAVING || conn->state == CONN_CLOSING) return;
    if (why[0] == '\0') why = err == ERR_ORDER ? "it sent a frame out of turn" : err_text(err);
    if (conn->state == CONN_READY || err == ERR_CLOSED) {
        link_conn_cut(conn, why);
        return;
    }
    conn->links->stats.refused++;
    tell_end(conn, "refused", why);
    leave(conn);
}

/* ---- bytes of the wire ---- */

static void transmitted(struct io_net *op)
{
    struct link_conn *conn = CONTAINER(op, struct link_conn, tx_op);
    conn->tx_busy = false;
    tls_taken(conn->tls);
    if (op->err != OK) link_conn_cut(conn, "the connection was lost");
    if (conn->state == CONN_CLOSING) {
        links_kick(conn->links);
        return;
    }
    link_conn_pump(conn);
}

void link_conn_pump(struct link_conn *conn)
{
    const uint8_t *at;
    if (conn->tls == NULL || conn->tx_busy || conn->state == CONN_CLOSING) return;
    if (conn->state != CONN_HANDSHAKE && (conn->state != CONN_LEAVING || conn->say_refuse || conn->say_joined)) {
        enum err err = send_fill(conn);
        if (err != OK) fail(conn, err);
        if (conn->state == CONN_CLOSING) return;
    }
    size_t bytes = tls_take(conn->tls, &at);
    if (bytes == 0) return;
    conn->tx_piece = (struct io_piece){at, bytes};
    conn->tx_op.done = transmitted;
    conn->tx_busy = true;
    io_transmit(conn->socket, &conn->tx_piece, 1, &conn->tx_op);
}

static void received(struct io_net *op)
{
    struct link_conn *conn = CONTAINER(op, struct link_conn, rx_op);
    conn->rx_busy = false;
    if (conn->state == CONN_CLOSING) {
        links_kick(conn->links);
        return;
    }
    if (op->err != OK) {
        link_conn_cut(conn, conn->state == CONN_LEAVING ? NULL : "the connection was closed by the other side");
        return;
    }
    conn->heard_ns = io_now_ns(conn->links->io);
    if (conn->state != CONN_LEAVING) tls_fed(conn->tls, op->bytes);
    advance(conn);
}

static void receive_more(struct link_conn *conn)
{
    uint8_t *at = conn->control;
    size_t room = sizeof conn->control; /* LEAVING: nobody looks at it */
    if (conn->rx_busy || conn->parked || conn->state == CONN_CLOSING) return;
    if (conn->state != CONN_LEAVING) room = tls_room(conn->tls, &at);
    if (room == 0) return;
    conn->rx_op.done = received;
    conn->rx_busy = true;
    io_receive(conn->socket, at, (uint32_t)room, &conn->rx_op);
}

/* ---- the beginning ---- */

static struct link_conn *conn_new(struct links *l)
{
    struct link_conn *conn = mem_alloc(l->mem, sizeof *conn);
    if (conn == NULL) return NULL;
    conn->links = l;
    conn->number = ++l->next_number;
    conn->since_ns = conn->heard_ns = io_now_ns(l->io);
    list_init(&conn->streams);
    list_init(&conn->ready[BULK]);
    list_init(&conn->ready[URGENT]);
    list_init(&conn->active);
    if (receive_open(conn) != OK) {
        mem_free(l->mem, conn);
        return NULL;
    }
    list_push(&l->conns, &conn->of_links);
    return conn;
}

/* The socket is there. */
static enum err begin(struct link_conn *conn, bool server, uint32_t node)
{
    struct links *l = conn->links;
    conn->state = CONN_HANDSHAKE;
    return tls_open(
        l->mem,
        &(struct tls_config){
            .keys = l->keys, .server = server, .strangers = server && l->let_join, .node = node, .now_s = links_now_s(l)},
        &conn->tls);
}

enum err link_conn_accept(struct links *links, struct io_socket *socket)
{
    struct link_conn *conn = conn_new(links);
    if (conn == NULL) return ERR_NO_MEMORY;
    conn->socket = socket;
    conn->stranger = true;
    links->stranger_count++;
    if (begin(conn, true, 0) != OK)
        link_conn_cut(conn, "there is no memory for it");
    else
        advance(conn);
    return OK;
}

static void connected(struct io_net *op)
{
    struct link_conn *conn = CONTAINER(op, struct link_conn, rx_op);
    conn->rx_busy = false;
    conn->socket = op->err == OK ? op->socket : NULL;
    if (conn->state == CONN_CLOSING) {
        links_kick(conn->links);
        return;
    }
    if (op->err != OK) {
        link_conn_cut(conn, err_text(op->err));
    } else if (begin(conn, false, conn->link->node) != OK) {
        link_conn_cut(conn, "there is no memory for it");
    } else {
        advance(conn);
    }
}

void link_conn_dial(struct link *link, uint32_t path)
{
    struct links *l = link->links;
    struct link_conn *conn = link_has_room(link) ? conn_new(l) : NULL;
    if (conn == NULL) {
        path_failed(link, path);
        return;
    }
    l->conn_count++;
    conn->link = link;
    conn->path = path;
    conn->dialled = true;
    conn->session = ++l->next_session;
    conn->state = CONN_CONNECTING;
    link->paths[path].conn = conn;
    conn->rx_op.done = connected;
    conn->rx_busy = true;
    io_connect(l->io, link->paths[path].address, &conn->rx_op);
}

/* ---- HELLO ---- */

/* TLS is through: who is it? */
static void shaken(struct link_conn *conn)
{
    struct links *l = conn->links;
    char why[LINK_REASON_MAX + 1];
    struct text t;
    conn->state = CONN_HELLO;
    if (tls_peer(conn->tls) == NULL) return; /* it may ask to join */
    uint32_t node = tls_peer(conn->tls)->node;
    conn->say_hello = conn->dialled;
    if (conn->dialled) return;
    struct link *link = links_find(l, node);
    text_init(&t, why, sizeof why);
    if (link == NULL) {
        text_add(&t, "node %u is not a member here", node);
        link_conn_refuse(conn, REFUSAL_STRANGER, why);
    } else if (link->dials) {
        text_add(&t, "node %u connects to node %u, not the other way round", l->identity.node, node);
        link_conn_refuse(conn, REFUSAL_NODE, why);
    }
}

/* Its link takes it in. */
static void join_link(struct link_conn *conn, struct link *link)
{
    struct links *l = conn->links;
    bool new_boot = link->boot == 0 || memcmp(link->peer_boot, conn->peer.boot, BOOT_BYTES) != 0;
    conn->link = link;
    link->paths[conn->path].conn = conn;
    if (!conn->dialled) link->paths[conn->path].dead = 0; /* who dials again has given up the one before */
    link->paths[conn->path].backoff_ms = 0;
    link->paths[conn->path].told = 0;
    if (conn->stranger) {
        conn->stranger = false;
        l->stranger_count--;
        l->conn_count++;
    }
    conn->state = CONN_READY;
    conn->since_ns = conn->answered_ns = conn->heard_ns = io_now_ns(l->io);
    conn->say_ping = true; /* the first frame: it says that we agree */
    conn->pinged_ns = conn->since_ns;
    link->version = conn->version;
    link->features = conn->features;
    link->ready++;
    l->stats.connected++;
    if (new_boot) {
        memcpy(link->peer_boot, conn->peer.boot, BOOT_BYTES);
        link->boot++;
        link->answered_ns = 0;
        for (uint32_t i = 0; i < LINK_PATHS_MAX; i++) link->paths[i].dead = 0; /* its sessions count from 1 again */
    }
    send_conn_ready(conn);
    if (link->ready == 1) {
        links_tell(l, false, "link to node %u is up", link->node);
        l->config.user->up(link);
    }
}

/* True when it may not be taken in, and has been told. */
static bool is_one_too_many(struct link_conn *conn, struct link *link, const struct hello *hello)
{
    if (link->ready > 0 && memcmp(link->peer_boot, hello->boot, BOOT_BYTES) != 0) {
        link_conn_refuse(conn, REFUSAL_DUPLICATE,
                         "another process with the identity of this node is connected: was a node copied? (After a "
                         "crash this is over within the time-out)");
        return true;
    }
    if (conn->dialled || link_has_room(link)) return false;
    link_conn_refuse(conn, REFUSAL_LIMIT, "there are too many connections");
    return true;
}

void link_conn_consent(struct link_conn *conn)
{
    struct link *link = links_find(conn->links, conn->peer.node);
    if (link == NULL) {
        link_conn_refuse(conn, REFUSAL_STRANGER, "it is not a member here any more");
        return;
    }
    if (is_one_too_many(conn, link, &conn->peer)) return; /* another was faster */
    if (link->paths[conn->path].conn != NULL) link_conn_cut(link->paths[conn->path].conn, "a newer connection takes its place");
    if (conn->state == CONN_HELLO && !link->closed) join_link(conn, link); /* who was told of that may have closed it */
}

/* The side that was dialled answers a HELLO that it agrees with by its own, and is ready when it hears that the other agrees,
 * too: so nobody is told of a link that is refused in the same moment. */
void link_conn_hello(struct link_conn *conn, const struct hello *hello)
{
    struct links *l = conn->links;
    struct link *link = conn->dialled ? conn->link : links_find(l, hello->node);
    struct hello ours = {.version_min = l->config.version_min,
                         .version_max = l->config.version_max,
                         .node = l->identity.node,
                         .cluster = l->identity.cluster,
                         .features = l->config.features,
                         .required = l->config.required};
    char why[LINK_REASON_MAX + 1];
    if (hello->node != tls_peer(conn->tls)->node || link == NULL || link->closed) {
        link_conn_refuse(conn, REFUSAL_NODE, "what it says of itself is not what its certificate says");
        return;
    }
    enum link_refusal refusal = hello_agree(&ours, hello, why, &conn->version, &conn->features);
    if (refusal != REFUSAL_NONE) {
        link_conn_refuse(conn, refusal, why);
        return;
    }
    if (is_one_too_many(conn, link, hello)) return;
    conn->peer = *hello;
    if (conn->dialled) {
        join_link(conn, link);
        return;
    }
    conn->path = hello->path;
    conn->session = hello->session;
    conn->agreed = conn->say_hello = true;
}

/* Ready, or about to be: what the peer sent on it may still come. */
static bool is_named(const struct link_conn *other, uint32_t node, uint32_t path, uint32_t session)
{
    if (other->path != path || other->session != session) return false;
    if (other->state == CONN_READY) return other->link->node == node;
    return other->state == CONN_HELLO && other->agreed && other->peer.node == node;
}

void link_conn_dead(struct link_conn *conn, uint32_t path, uint32_t session)
{
    struct list *conns = &conn->links->conns;
    uint32_t node = conn->link->node;
    for (struct list *l = conns->next; l != conns; l = l->next) {
        struct link_conn *other = CONTAINER(l, struct link_conn, of_links);
        if (other == conn || !is_named(other, node, path, session)) continue;
        link_conn_cut(other, "the other side has given it up");
        return;
    }
}

/* ---- going on ---- */

static void advance(struct link_conn *conn)
{
    enum err err = OK;
    if (conn->state == CONN_HANDSHAKE) {
        err = tls_handshake(conn->tls);
        if (err == OK) shaken(conn);
        if (err == ERR_AGAIN) err = OK;
    }
    if (err == OK && (conn->state == CONN_HELLO || conn->state == CONN_READY)) err = receive_all(conn);
    if (err != OK) fail(conn, err);
    link_conn_pump(conn);
    if (conn->tls != NULL) receive_more(conn);
}

void link_conn_resume(struct link_conn *conn)
{
    if (conn->parked && conn->state == CONN_READY) advance(conn);
}

void link_conn_answered(struct link_conn *conn, uint64_t stamp)
{
    struct link *link = conn->link;
    if (stamp > conn->pinged_ns) return;
    if (stamp > conn->answered_ns) conn->answered_ns = stamp;
    if (stamp > link->answered_ns) link->answered_ns = stamp;
    link->paths[conn->path].dead = 0; /* it has taken this one, and so given up the one before */
}

/* What was begun after `now_ns` was taken has not lasted yet. */
static uint64_t passed(uint64_t now_ns, uint64_t since_ns)
{
    return now_ns > since_ns ? now_ns - since_ns : 0;
}

static void tick_ready(struct link_conn *conn, uint64_t now_ns, uint64_t late_ns)
{
    const struct links_config *c = &conn->links->config;
    uint64_t timeout_ns = c->timeout_ms * IO_MS_NS;
    conn->answered_ns = min64(conn->answered_ns + late_ns, max64(now_ns, conn->answered_ns));
    if (passed(now_ns, conn->answered_ns) > timeout_ns) {
        bool heard = passed(now_ns, conn->heard_ns) < timeout_ns;
        link_conn_cut(conn, heard ? "it does not hear us any more (is the network cut in one direction?)" : "it is silent");
        return;
    }
    if (passed(now_ns, conn->pinged_ns) < c->heartbeat_ms * IO_MS_NS || conn->say_ping) return;
    conn->pinged_ns = now_ns;
    conn->say_ping = true;
    link_conn_pump(conn);
}

void link_conn_tick(struct link_conn *conn, uint64_t now_ns, uint64_t late_ns)
{
    uint64_t hello_ns = conn->links->config.hello_ms * IO_MS_NS;
    switch (conn->state) {
    case CONN_CONNECTING:
        if (passed(now_ns, conn->since_ns) > hello_ns) link_conn_cut(conn, "there is no answer");
        break;
    case CONN_HANDSHAKE:
    case CONN_HELLO:
        if (passed(now_ns, conn->since_ns) > hello_ns) link_conn_cut(conn, "it did not say in time who it is");
        break;
    case CONN_LEAVING:
        if (passed(now_ns, conn->since_ns) > LEAVING_NS) link_conn_cut(conn, NULL);
        break;
    case CONN_READY: tick_ready(conn, now_ns, late_ns); break;
    case CONN_JOINING:
    case CONN_CLOSING: break;
    }
}
