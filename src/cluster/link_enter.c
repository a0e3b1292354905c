/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The joiner's story, told by a task that waits for each step. One request is made and shown at every address, so that an
 * answer that was lost can be asked for again (token.h).
 */
#include "cluster/link_enter.h"

#include <assert.h>
#include <string.h>

#include "base/text.h"
#include "cluster/link_internal.h"

struct enter {
    struct io *io;
    struct mem *mem;
    const struct token *token;
    struct der key;
    struct join_request join;
    struct tls_keys *keys;
    struct io_task *task;
    struct io_net op;
    struct io_timer timer;
    struct io_socket *socket;
    struct tls *tls;
    bool over, late;
    uint8_t bytes[LINK_CONTROL_MAX];
};

/* ---- waiting ---- */

static void op_over(struct io_net *op)
{
    struct enter *e = CONTAINER(op, struct enter, op);
    e->over = true;
    io_task_wake(e->task);
}

/* Cuts whatever is under way. */
static void too_late(struct io_timer *timer)
{
    struct enter *e = CONTAINER(timer, struct enter, timer);
    e->late = true;
    if (e->socket != NULL)
        io_socket_abort(e->socket);
    else if (!e->over)
        io_connect_abort(&e->op);
}

static struct io_net *begin(struct enter *e)
{
    e->over = false;
    e->op.done = op_over;
    return &e->op;
}

static enum err end(struct enter *e)
{
    while (!e->over) io_task_park();
    return e->op.err;
}

/* ---- the wire ---- */

static enum err flush(struct enter *e)
{
    const uint8_t *at;
    size_t bytes = tls_take(e->tls, &at);
    struct io_piece piece = {at, bytes};
    if (bytes == 0) return OK;
    io_transmit(e->socket, &piece, 1, begin(e));
    enum err err = end(e);
    tls_taken(e->tls);
    return err;
}

static enum err feed(struct enter *e)
{
    uint8_t *at;
    size_t room = tls_room(e->tls, &at);
    assert(room > 0);
    io_receive(e->socket, at, (uint32_t)room, begin(e));
    TRY(end(e));
    tls_fed(e->tls, e->op.bytes);
    return OK;
}

static enum err shake_hands(struct enter *e)
{
    for (;;) {
        enum err err = tls_handshake(e->tls), flushed = flush(e);
        if (err != ERR_AGAIN) return err;
        TRY(flushed);
        TRY(feed(e));
    }
}

static enum err read_all(struct enter *e, void *at, size_t size)
{
    size_t have = 0, n = 0;
    while (have < size) {
        enum err err = tls_read(e->tls, (uint8_t *)at + have, size - have, &n);
        if (err == OK) have += n;
        if (err == ERR_AGAIN) err = feed(e);
        if (err != OK) return err;
    }
    return OK;
}

/* ---- the words ---- */

static enum err ask(struct enter *e)
{
    struct wire_frame frame;
    uint8_t binding[TLS_BINDING_BYTES];
    uint32_t bytes = join_request_encode(&e->join, e->bytes);
    TRY(join_binding(e->tls, e->bytes, bytes, binding));
    token_prove(e->token->secret, binding, e->bytes); /* the proof is what comes first */
    frame_encode(&(struct frame){.type = FRAME_JOIN, .length = bytes}, &frame);
    TRY(tls_write(e->tls, &frame, sizeof frame));
    TRY(tls_write(e->tls, e->bytes, bytes));
    return flush(e);
}

static enum err listen(struct enter *e, struct join_answer *ret_answer, struct text *why)
{
    struct wire_frame wire;
    struct frame frame;
    struct refusal refusal;
    TRY(read_all(e, &wire, sizeof wire));
    TRY(frame_decode(&wire, sizeof wire, &frame));
    if (frame.type != FRAME_REFUSE && frame.type != FRAME_JOINED) return ERR_ORDER;
    assert(frame.length <= sizeof e->bytes);
    TRY(read_all(e, e->bytes, frame.length));
    if (frame.type == FRAME_JOINED) return join_answer_decode(e->bytes, frame.length, ret_answer);
    TRY(refusal_decode(e->bytes, frame.length, &refusal));
    text_add(why, "%s", refusal.text);
    return ERR_DENIED;
}

/* Believes nothing of the answer that the token and the CA do not vouch for. */
static enum err take(const struct enter *e, const struct join_answer *answer, uint64_t now_s, struct identity *ret_identity)
{
    const struct der *ca = tls_ca(e->tls);
    struct identity made = {.cluster = e->token->cluster, .node = answer->node, .ca = answer->ca};
    if (answer->node != e->token->node) return ERR_DENIED;
    if (ca->bytes != answer->ca.bytes || memcmp(ca->at, answer->ca.at, ca->bytes) != 0) return ERR_DENIED;
    TRY(identity_adopt(&made, &e->key, &answer->certificate, now_s));
    made.ca_key = answer->ca_key;
    made.pool_key = answer->pool_key;
    if (made.ca_key.bytes > 0 && !identity_is_holder(&made)) return ERR_DENIED;
    *ret_identity = made;
    return OK;
}

static enum err talk(struct enter *e, uint64_t now_s, struct text *why, struct identity *ret_identity, uint32_t *ret_host)
{
    struct join_answer answer;
    TRY(shake_hands(e));
    TRY(ask(e));
    TRY(listen(e, &answer, why));
    TRY(take(e, &answer, now_s, ret_identity));
    *ret_host = tls_peer(e->tls)->node;
    return OK;
}

static enum err try_address(struct enter *e, const char *address, uint64_t now_s, struct text *why,
                            struct identity *ret_identity, uint32_t *ret_host)
{
    io_connect(e->io, address, begin(e));
    enum err err = end(e);
    e->socket = err == OK ? e->op.socket : NULL;
    if (err == OK) err = tls_open(e->mem, &(struct tls_config){.keys = e->keys, .now_s = now_s}, &e->tls);
    size_t said = why->used;
    if (err == OK) err = talk(e, now_s, why, ret_identity, ret_host);
    if (err != OK && why->used == said)
        text_add(why, "%s",
                 e->late                                        ? "no answer in time"
                 : e->tls != NULL && tls_why(e->tls)[0] != '\0' ? tls_why(e->tls)
                                                                : err_text(err));
    io_socket_close(e->socket);
    tls_close(e->tls);
    e->socket = NULL;
    e->tls = NULL;
    return err;
}

/* All addresses are tried, because one may belong to somebody else by now. What matters most of the refusals is a no. */
static enum err try_all(struct enter *e, uint64_t now_s, uint32_t limit_ms, struct text *why, struct identity *ret_identity,
                        uint32_t *ret_host)
{
    enum err worst = ERR_REFUSED;
    for (uint32_t i = 0; i < e->token->address_count; i++) {
        text_add(why, "%s%s: ", i > 0 ? "; " : "", e->token->addresses[i]);
        e->late = false;
        io_after(e->io, limit_ms * IO_MS_NS, &e->timer);
        enum err err = try_address(e, e->token->addresses[i], now_s, why, ret_identity, ret_host);
        io_cancel(e->io, &e->timer);
        if (err == OK) return OK;
        if (worst != ERR_DENIED) worst = err;
    }
    return worst;
}

static enum err prepare(struct enter *e, const struct enter_info *info)
{
    assert(info->bytes <= JOIN_INFO_MAX);
    e->join.info_bytes = info->bytes;
    if (info->bytes > 0) memcpy(e->join.info, info->at, info->bytes);
    TRY(identity_new_key(&e->key));
    TRY(identity_request(&e->key, &e->join.request));
    return tls_keys_open_joiner(e->mem, &e->token->cluster, e->token->fingerprint, &e->keys);
}

enum err link_enter(struct io *io, struct mem *mem, const struct token *token, const struct enter_info *info, uint64_t now_s,
                    uint32_t limit_ms, char why[ENTER_WHY_MAX], struct identity *ret_identity, uint32_t *ret_host)
{
    struct text t;
    text_init(&t, why, ENTER_WHY_MAX);
    if (now_s >= token->expires_s) {
        text_add(&t, "the token has expired: ask for a new one");
        return ERR_DENIED;
    }
    struct enter *e = mem_alloc(mem, sizeof *e);
    if (e == NULL) return ERR_NO_MEMORY;
    *e = (struct enter){.io = io, .mem = mem, .token = token, .task = io_task_self(), .timer.fire = too_late};
    enum err err = prepare(e, info);
    if (err == OK)
        err = try_all(e, now_s, limit_ms, &t, ret_identity, ret_host);
    else
        text_add(&t, "%s", err_text(err));
    tls_keys_close(e->keys);
    mem_free(mem, e);
    return err;
}
