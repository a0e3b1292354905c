/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wires of clusters: pipes between machines, each first-in first-out, one for heartbeats and one for the rest, as links have
 * streams. What goes through them is bytes, made and taken apart by the codecs of the product; whatever a replica says must be
 * something that these let through.
 */
#include <stdlib.h>
#include <string.h>

#include "sim/cluster.h"
#include "sim/must.h"
#include "volume/replica/body.h"
#include "volume/replica/codec.h"

enum { RETRY_NS = IO_MS_NS };

/* ---- pipes ---- */

static void letter_free(struct cluster_letter *letter)
{
    free(letter->head);
    free(letter->body);
    free(letter);
}

static void pipe_empty(struct cluster_pipe *p)
{
    for (struct list *l; (l = list_pop(&p->letters)) != NULL;) letter_free(CONTAINER(l, struct cluster_letter, link));
    io_cancel(p->cluster->io, &p->timer);
}

static void pipe_arm(struct cluster_pipe *p)
{
    struct io *io = p->cluster->io;
    if (list_empty(&p->letters) || p->timer.place != 0) return;
    uint64_t at = CONTAINER(p->letters.next, struct cluster_letter, link)->at, now = io_now_ns(io);
    io_after(io, at > now ? at - now : 0, &p->timer);
}

/* ---- taking apart ---- */

static enum body_taken beats_take(struct cluster_node *to, const struct cluster_letter *letter)
{
    struct replica_message m;
    struct cursor beats;
    uint32_t volume;
    if (replica_heartbeats_decode(letter->head, letter->head_bytes, &beats) != OK) return BODY_BAD;
    while (replica_heartbeats_take(&beats, &volume, &m)) host_message(to->host, &m, NULL);
    return BODY_TAKEN;
}

static enum body_taken letter_take(struct cluster_node *to, const struct cluster_letter *letter)
{
    struct replica_message m;
    struct replica_content *content;
    uint8_t *pieces[LINK_BODY_PIECES] = {NULL};
    struct body_reader reader = {pieces, letter->body_bytes, 0};
    uint32_t volume;
    if (letter->urgent) return beats_take(to, letter);
    if (replica_decode(letter->head, letter->head_bytes, &volume, &m) != OK) return BODY_BAD;
    for (uint32_t i = 0; i * LINK_PIECE < letter->body_bytes; i++) pieces[i] = letter->body + (size_t)i * LINK_PIECE;
    enum body_taken taken = body_receive(&to->contents, volume, &m, &reader, &content);
    if (taken == BODY_TAKEN) host_message(to->host, &m, content);
    return taken;
}

/* False: the receiver has no room for it now, or does nothing. */
static bool letter_deliver(struct cluster_pipe *p, struct cluster_letter *letter)
{
    struct cluster *c = p->cluster;
    struct cluster_node *to = &c->node[p->to];
    bool strikes = letter->kind == REPLICA_STEP && letter->body_bytes > 0 && p->to == c->strike_node;
    if (!to->ready || p->cut) return true;
    if (cluster_is_frozen(to)) return false;
    enum body_taken taken = letter_take(to, letter);
    if (taken == BODY_BAD)
        lab_fail(c->lab, "node %u does not understand what node %u said: kind %u", p->to, p->from, letter->kind);
    c->counts.dropped += taken == BODY_DROPPED;
    if (strikes && c->strikes > 0 && cluster_chance(c, 300)) {
        c->strikes--;
        io_cancel(c->io, &c->strike);
        io_after(c->io, cluster_below(c, 4 * sim_latency_ns(c->sim) + IO_MS_NS), &c->strike);
    }
    return taken != BODY_NO_ROOM;
}

static void pipe_fires(struct io_timer *timer)
{
    struct cluster_pipe *p = CONTAINER(timer, struct cluster_pipe, timer);
    struct list *first = list_pop(&p->letters);
    struct cluster_letter *letter = CONTAINER(first, struct cluster_letter, link);
    uint64_t session = p->session;
    bool over = letter_deliver(p, letter);
    if (over || p->session != session) {
        letter_free(letter);
    } else {
        letter->at = io_now_ns(p->cluster->io) + RETRY_NS;
        list_push_front(&p->letters, &letter->link);
    }
    pipe_arm(p);
}

/* ---- putting together ---- */

/* What is told of catching up. */
static void say_step(struct cluster *c, uint32_t from, uint32_t to, const struct replica_message *m, uint32_t bytes)
{
    const struct replica_step *s = &m->u.step;
    if (m->kind == REPLICA_WANT)
        sim_say(c->sim, "node %u wants a step: base %llu, block %llu, applied %llu%s%s", from,
                (unsigned long long)s->learn.base, (unsigned long long)s->learn.cursor, (unsigned long long)s->learn.applied,
                s->check ? ", checking" : "", s->digested ? ", told" : "");
    if (m->kind == REPLICA_STEP)
        sim_say(c->sim, "node %u has a step for %u: %u records, %llu blocks, %u bytes%s%s%s, to %llu", from, to, s->count,
                (unsigned long long)s->stretch, bytes, s->gap ? ", a gap" : "", s->check ? ", check" : "",
                s->digested ? ", digest" : "", (unsigned long long)s->learn.applied);
    if (m->kind == REPLICA_FOLLOW) sim_say(c->sim, "node %u follows from %llu", from, (unsigned long long)s->mark.sequence);
    if (m->kind == REPLICA_AGAIN) sim_say(c->sim, "node %u tells %u to learn the rest", from, to);
}

static void letter_fill(struct cluster_letter *letter, const struct replica_content *content)
{
    uint8_t table[BODY_TABLE_MAX];
    uint32_t head = content_is_stretch(content) ? 0 : body_encode(content, table);
    uint32_t used = content_is_stretch(content) || content->what == ENTRY_NEW ? content->used : 0;
    letter->body_bytes = head + used;
    letter->body = must(malloc(max32(letter->body_bytes, 1)));
    memcpy(letter->body, table, head);
    memcpy(letter->body + head, content->bytes, used);
}

/* As the product sends it, alone in its head. */
static uint32_t beat_encode(const struct replica_message *message, uint8_t ret_head[LINK_HEAD_MAX])
{
    struct replica_heartbeats beats;
    replica_heartbeats_begin(&beats, ret_head);
    replica_heartbeats_add(&beats, 1, message);
    return beats.count > 0 ? beats.bytes : 0;
}

void cluster_send(void *arg, uint8_t node, const struct replica_message *message, struct replica_content *content)
{
    struct cluster_node *from = arg;
    struct cluster *c = from->cluster;
    bool urgent = replica_is_urgent(message);
    struct cluster_pipe *p = urgent ? &c->urgent[from->number][node] : &c->pipe[from->number][node];
    uint8_t head[LINK_HEAD_MAX];
    if (p->session == 0 || p->cut) return;
    say_step(c, p->from, p->to, message, content != NULL ? content->used : 0);
    uint32_t bytes = urgent ? beat_encode(message, head) : replica_encode(1, message, head);
    if (bytes == 0) {
        lab_fail(c->lab, "node %u says what cannot be said: kind %u", from->number, message->kind);
        return;
    }
    struct cluster_letter *letter = must(calloc(1, sizeof *letter));
    uint64_t after = list_empty(&p->letters) ? 0 : CONTAINER(p->letters.prev, struct cluster_letter, link)->at;
    letter->at = max64(after, io_now_ns(c->io) + (50 + cluster_below(c, c->delay_us)) * IO_US_NS);
    letter->kind = message->kind;
    letter->urgent = urgent;
    letter->head_bytes = bytes;
    letter->head = must(malloc(bytes));
    memcpy(letter->head, head, bytes);
    if (content != NULL) letter_fill(letter, content);
    list_push(&p->letters, &letter->link);
    pipe_arm(p);
}

/* ---- links ---- */

/* A node that is frozen hears of it later. */
static void node_tell(struct cluster_node *n, uint32_t other, uint64_t session)
{
    if (!n->ready) return;
    if (cluster_is_frozen(n))
        n->relinked |= node_bit(other);
    else
        host_link(n->host, (uint8_t)other, session);
}

void cluster_link(struct cluster *c, uint32_t a, uint32_t b, uint64_t session)
{
    struct cluster_pipe *of[] = {&c->pipe[a][b], &c->pipe[b][a], &c->urgent[a][b], &c->urgent[b][a]};
    for (size_t i = 0; i < sizeof of / sizeof of[0]; i++) {
        pipe_empty(of[i]);
        of[i]->session = session;
    }
    node_tell(&c->node[a], b, session);
    node_tell(&c->node[b], a, session);
}

void cluster_thaw(struct cluster_node *n)
{
    uint8_t relinked = n->relinked;
    n->relinked = 0;
    for (uint32_t other = 0; other < n->cluster->nodes && n->ready; other++)
        if (set_has(relinked, other)) host_link(n->host, (uint8_t)other, n->cluster->pipe[n->number][other].session);
}

void cluster_cut(struct cluster *c, uint32_t from, uint32_t to, bool cut)
{
    c->pipe[from][to].cut = c->urgent[from][to].cut = cut;
}

void cluster_link_reset(struct cluster *c, uint32_t a, uint32_t b)
{
    if (a == b || !c->node[a].ready || !c->node[b].ready) return;
    sim_say(c->sim, "link between %u and %u is reset", a, b);
    cluster_link(c, a, b, 0);
    cluster_link(c, a, b, ++c->sessions);
}

/* ---- life ---- */

static void pipe_begin(struct cluster *c, struct cluster_pipe *p, uint32_t from, uint32_t to)
{
    *p = (struct cluster_pipe){.cluster = c, .from = from, .to = to, .timer.fire = pipe_fires};
    list_init(&p->letters);
}

void wires_begin(struct cluster *c)
{
    for (uint32_t a = 0; a < CLUSTER_NODES; a++) {
        for (uint32_t b = 0; b < CLUSTER_NODES; b++) {
            pipe_begin(c, &c->pipe[a][b], a, b);
            pipe_begin(c, &c->urgent[a][b], a, b);
        }
    }
}

void wires_end(struct cluster *c)
{
    for (uint32_t a = 0; a < CLUSTER_NODES; a++) {
        for (uint32_t b = 0; b < CLUSTER_NODES; b++) {
            pipe_empty(&c->pipe[a][b]);
            pipe_empty(&c->urgent[a][b]);
        }
    }
}
