/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages between members, and the task that serves the acceptor.
 *
 * A message of the register may be larger than the body of a link's message: its first LINK_HEAD_MAX bytes travel in the head,
 * the rest in the body. Any of them may be lost, when the link is down or too many are under way; the proposer asks again.
 */
#include "base/bytes.h"
#include "cluster/member_internal.h"

static_assert(REGISTER_MESSAGE_MAX <= LINK_HEAD_MAX + LINK_BODY_MAX, "the longest message fits into one of a link");

struct wire_news {
    le64 version, epoch;
};
SIZE(wire_news, 16);

struct peer *peer_find(const struct member *m, uint32_t number)
{
    for (struct list *l = m->peers.next; l != &m->peers; l = l->next) {
        struct peer *peer = CONTAINER(l, struct peer, of_member);
        if (peer->number == number) return peer;
    }
    return NULL;
}

/* ---- sending ---- */

static struct parcel *parcel_make(struct member *m, uint32_t node, size_t size)
{
    struct parcel *p = mem_alloc(m->mem, sizeof *p + size);
    if (p == NULL) return NULL;
    *p = (struct parcel){.member = m, .node = node, .size = (uint32_t)size, .at = (uint8_t *)(p + 1)};
    return p;
}

static void sent(struct link_op *op)
{
    struct parcel *p = CONTAINER(op, struct parcel, op);
    struct peer *peer = CONTAINER(op->stream, struct peer, stream);
    peer->under_way--;
    mem_free(p->member->mem, p);
}

static void send_to(struct member *m, struct peer *peer, enum member_kind kind, const void *at, size_t size)
{
    struct parcel *p = NULL;
    if (link_is_up(peer->link) && peer->under_way < PARCELS_MAX) p = parcel_make(m, peer->number, size);
    if (p == NULL) return;
    if (size > 0) memcpy(p->at, at, size);
    uint32_t head = min32(p->size, LINK_HEAD_MAX);
    p->piece = (struct io_piece){p->at + head, size - head};
    p->op.done = sent;
    peer->under_way++;
    link_send(&peer->stream, (uint16_t)kind, p->at, head, &p->piece, p->size > head, &p->op);
}

/* From one node (or this one) to the acceptor here. */
static void to_acceptor(struct member *m, uint32_t from, struct parcel *p)
{
    struct peer *peer = peer_find(m, from);
    if (peer != NULL && ++peer->waiting > PARCELS_MAX) {
        peer->waiting--;
        mem_free(m->mem, p);
        return;
    }
    list_push(&m->parcels, &p->link);
    io_task_wake(&m->server);
}

void wire_request(struct member *m, uint64_t acceptor, const struct register_request *request)
{
    const struct roster_node *node = roster_of_acceptor(m->roster, acceptor);
    struct register_request own = *request;
    size_t size;
    own.acceptor = acceptor;
    if (acceptor != m->acceptor_id && (node == NULL || node->number == m->number)) return;
    if (register_request_encode(&own, m->message, REGISTER_MESSAGE_MAX, &size) != OK) return;
    if (acceptor == m->acceptor_id) {
        struct parcel *p = parcel_make(m, m->number, size);
        if (p == NULL) return;
        memcpy(p->at, m->message, size);
        to_acceptor(m, m->number, p);
        return;
    }
    struct peer *peer = peer_find(m, node->number);
    if (peer != NULL) send_to(m, peer, MEMBER_REQUEST, m->message, size);
}

void wire_news(struct member *m, struct peer *peer)
{
    struct wire_news news = {.version = put64(m->known.version), .epoch = put64(m->known.members.epoch)};
    send_to(m, peer, MEMBER_NEWS, &news, sizeof news);
}

/* In the form of an acceptor's answer, which says the same. */
void wire_state(struct member *m, struct peer *peer)
{
    struct register_answer answer = {.ask = REGISTER_LOOK,
                                     .verdict = REGISTER_YES,
                                     .acceptor = m->acceptor_id,
                                     .promised = {.round = 1},
                                     .accepted = {.round = 1},
                                     .state = m->known};
    size_t size;
    memcpy(answer.cluster, m->cluster.b, sizeof answer.cluster);
    if (m->known.version == 0 || m->roster->next == 0) return; /* what a joiner was told is not for others */
    if (register_answer_encode(&answer, m->message, REGISTER_MESSAGE_MAX, &size) == OK)
        send_to(m, peer, MEMBER_STATE, m->message, size);
}

/* ---- receiving ---- */

static void copy_whole(const struct link_message *message, uint8_t *ret_at)
{
    memcpy(ret_at, message->head, message->head_bytes);
    ret_at += message->head_bytes;
    for (uint32_t i = 0, left = message->body_bytes; left > 0; i++) {
        uint32_t bytes = min32(left, LINK_PIECE);
        memcpy(ret_at, message->body[i], bytes);
        ret_at += bytes;
        left -= bytes;
    }
}

static void news_arrived(struct member *m, struct peer *peer, const uint8_t *at, size_t size)
{
    struct wire_news news;
    if (size < sizeof news) return;
    memcpy(&news, at, sizeof news);
    uint64_t version = get64(news.version), epoch = get64(news.epoch);
    bool newer = version != m->known.version ? version > m->known.version : epoch > m->known.members.epoch;
    if (newer) send_to(m, peer, MEMBER_ASK, "?", 1);
}

static void answer_arrived(struct member *m, enum member_kind kind, size_t size)
{
    struct register_answer answer;
    if (register_answer_decode(m->message, size, &answer) != OK) return;
    if (memcmp(answer.cluster, m->cluster.b, sizeof answer.cluster) != 0) return;
    if (kind == MEMBER_ANSWER) {
        call_answered(m, &answer);
    } else if (answer.accepted.round > 0) {
        state_learn(m, &answer.state);
    }
}

/* Whatever does not make sense is dropped: a newer version may say more. */
void wire_message(struct link *link, struct link_message *message)
{
    struct peer *peer = link_owner(link);
    struct member *m = peer->member;
    if (message->stream >= MEMBER_USER_STREAM) {
        user_message(peer, message);
        return;
    }
    size_t size = (size_t)message->head_bytes + message->body_bytes;
    uint16_t kind = message->kind;
    bool fits = message->stream == CONTROL_STREAM && size <= REGISTER_MESSAGE_MAX && !m->stopping;
    struct parcel *p = fits && kind == MEMBER_REQUEST ? parcel_make(m, peer->number, size) : NULL;
    if (fits) copy_whole(message, p != NULL ? p->at : m->message);
    link_message_done(message);
    if (!fits) return;
    switch (kind) {
    case MEMBER_REQUEST:
        if (p != NULL) to_acceptor(m, peer->number, p);
        break;
    case MEMBER_NEWS: news_arrived(m, peer, m->message, size); break;
    case MEMBER_ASK: wire_state(m, peer); break;
    case MEMBER_ANSWER:
    case MEMBER_STATE: answer_arrived(m, (enum member_kind)kind, size); break;
    default: break;
    }
}

/* ---- the acceptor's task ---- */

static void answer_to(struct member *m, uint32_t node, const struct register_answer *answer)
{
    struct peer *peer = peer_find(m, node);
    size_t size;
    if (node == m->number) {
        call_answered(m, answer);
    } else if (peer != NULL && register_answer_encode(answer, m->message, REGISTER_MESSAGE_MAX, &size) == OK) {
        send_to(m, peer, MEMBER_ANSWER, m->message, size);
    }
}

/* Who asks must be who the link says; a ballot of somebody else's name would not be his own. */
static void serve(struct member *m, const struct parcel *p)
{
    struct register_request request;
    struct register_answer answer;
    if (register_request_decode(p->at, p->size, &request) != OK || request.node != p->node) return;
    enum err err = acceptor_file_handle(m->acceptor, &request, &answer);
    if (err == OK)
        answer_to(m, p->node, &answer);
    else if (err != ERR_NO_ACCEPTOR && err != ERR_STOPPED)
        member_say(m, true,
                   "the acceptor of this node stopped: %s; look at the disk of its state folder, then start izard again",
                   err_text(err));
}

void server_run(void *arg)
{
    struct member *m = arg;
    while (!m->stopping) {
        struct list *l = list_pop(&m->parcels);
        if (l == NULL) {
            io_task_park();
            continue;
        }
        struct parcel *p = CONTAINER(l, struct parcel, link);
        struct peer *peer = peer_find(m, p->node);
        if (peer != NULL && peer->waiting > 0) peer->waiting--;
        serve(m, p);
        mem_free(m->mem, p);
    }
    m->serving = false;
}
