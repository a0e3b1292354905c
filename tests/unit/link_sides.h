/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Links under test: three nodes of one cluster and a stranger, messages that say where they belong, and streams that send
 * them.
 */
#ifndef IZAR_TESTS_UNIT_LINK_SIDES_H
#define IZAR_TESTS_UNIT_LINK_SIDES_H

#include "base/prng.h"
#include "cluster/link.h"
#include "tests/check.h"
#include "tests/unit/real_stories.h"

#define NOW 1800000000ull
enum { HEARTBEAT_MS = 50, TIMEOUT_MS = 400, LONG_MS = 5000, STREAMS = 6, OPS = 8, BODY_MAX = 300000 };

/* ---- identities: made once ---- */

static const struct cluster_id the_cluster = {{0xc1}};
static struct identity identities[4]; /* 1, 2, 3: of the cluster; 0: of another */
static uint64_t wall_now = NOW;

static inline uint64_t wall(void)
{
    return wall_now;
}

static inline enum err join(uint32_t node, struct identity *ret)
{
    struct der key, request, certificate;
    TRY(identity_new_key(&key));
    TRY(identity_request(&key, &request));
    TRY(identity_sign(&identities[1], &request, node, NOW, &certificate));
    *ret = (struct identity){.cluster = the_cluster, .node = node, .ca = identities[1].ca};
    return identity_adopt(ret, &key, &certificate, NOW);
}

static inline bool identities_made(void)
{
    static const struct cluster_id other = {{0xff}};
    static bool made;
    if (made) return true;
    made = identity_create(&the_cluster, 1, NOW, &identities[1]) == OK && join(2, &identities[2]) == OK &&
           join(3, &identities[3]) == OK && identity_create(&other, 2, NOW, &identities[0]) == OK;
    return made;
}

/* ---- one message: what is in it says where it belongs ---- */

struct mark {
    le32 stream, session;
    le64 number;
};

enum { STEP = 512 }; /* bytes of a body that have a number of their own */

static inline uint8_t seed_of(uint32_t stream, uint64_t number)
{
    return (uint8_t)(stream * 7 + number * 13);
}

static inline uint8_t byte_of(uint32_t stream, uint64_t number, uint32_t at)
{
    uint32_t step = at % STEP == 0 ? at / STEP : 0;
    return (uint8_t)(seed_of(stream, number) + step * 31 + (step >> 8));
}

static inline uint32_t body_of(uint32_t stream, uint64_t number)
{
    static const uint32_t sizes[] = {0, 1, 4096, 33000, 131072, 131073, BODY_MAX};
    return stream >= 100 ? 0 : sizes[(stream + number * 5) % (sizeof sizes / sizeof sizes[0])];
}

/* ---- a node ---- */

struct side;

struct sending {
    struct link_stream stream;
    struct side *side;
    struct one {
        struct link_op op;
        struct sending *of;
        struct mark head;
        struct io_piece pieces[3];
        uint8_t body[BODY_MAX];
        bool busy;
    } ones[OPS];
    uint64_t next, sent, failed; /* numbers of the session; operations over all */
    uint32_t lost;
};

struct receiving {
    uint32_t session;
    uint64_t next, got;
};

struct side {
    struct links *links;
    struct link *link;
    uint32_t ups, downs, renewed, wrong;
    struct receiving from[STREAMS + 1];
    struct sending to[STREAMS + 1]; /* the last one is urgent */
    char told[2000];
    bool keep; /* gives no message back */
    struct list kept;
    uint32_t joins;
};

static struct side sides[4]; /* by node, from 1 */

static inline uint32_t id_of(uint32_t i)
{
    return i == STREAMS ? 100 : i + 1;
}

static inline bool body_is_right(const struct link_message *m, uint64_t number)
{
    if (m->body_bytes != body_of(m->stream, number)) return false;
    for (uint32_t at = 0; at < m->body_bytes; at += at % STEP == 0 ? 1 : STEP - 1)
        if (m->body[at / LINK_PIECE][at % LINK_PIECE] != byte_of(m->stream, number, at)) return false;
    return true;
}

static inline void on_message(struct link *link, struct link_message *m)
{
    struct side *s = link_owner(link);
    struct mark mark;
    uint32_t i = m->stream == 100 ? STREAMS : m->stream - 1;
    if (s->keep) {
        list_push(&s->kept, &m->link);
        return;
    }
    if (i > STREAMS || m->head_bytes != sizeof mark || m->kind != 7) {
        s->wrong++;
        link_message_done(m);
        return;
    }
    struct receiving *r = &s->from[i];
    memcpy(&mark, m->head, sizeof mark);
    uint64_t number = get64(mark.number);
    bool newer = m->session > r->session;
    s->wrong += get32(mark.stream) != m->stream || get32(mark.session) != m->session || m->session < r->session;
    if (newer) r->next = 0; /* of each session a prefix */
    r->session = m->session;
    s->wrong += number != r->next || !body_is_right(m, number);
    r->next = number + 1;
    r->got++;
    link_message_done(m);
}

static inline void on_up(struct link *link)
{
    ((struct side *)link_owner(link))->ups++;
}

static inline void on_down(struct link *link)
{
    ((struct side *)link_owner(link))->downs++;
}

static inline void on_tell(void *arg, bool is_problem, const char *text)
{
    struct side *s = arg;
    size_t used = strlen(s->told);
    (void)is_problem;
    if (getenv("LINK_VERBOSE") != NULL) fprintf(stderr, "# %d: %s\n", (int)(s - sides), text);
    snprintf(s->told + used, sizeof s->told - used, "%s\n", text);
}

static inline void on_renewed(void *arg, const struct identity *identity)
{
    struct side *s = arg;
    s->renewed += identity->certificate.bytes > 0;
}

static inline void on_join(void *arg, struct link_join *request)
{
    struct side *s = arg;
    s->joins++;
    link_join_refuse(request, "not in this test");
}

static const struct links_user user = {on_message, on_up, on_down, on_tell, on_renewed, on_join};

/* Opens node `number`; it listens on two addresses of the loopback. */
static inline bool open_side(struct io *io, uint32_t number, const struct identity *identity, struct links_config config)
{
    struct side *s = &sides[number];
    memset(s, 0, sizeof *s);
    list_init(&s->kept);
    config.io = io;
    config.identity = identity;
    config.user = &user;
    config.arg = s;
    config.wall_s = wall;
    if (config.heartbeat_ms == 0) config.heartbeat_ms = HEARTBEAT_MS;
    if (config.timeout_ms == 0) config.timeout_ms = TIMEOUT_MS;
    config.listen_count = 2;
    config.listen[0] = "127.0.0.1:0";
    config.listen[1] = "127.0.0.2:0";
    return links_open(&config, &s->links, NULL) == OK;
}

/* Links node `from` with node `to`, which listens. */
static inline bool link_sides(uint32_t from, uint32_t to)
{
    char text[2][IO_ADDRESS_TEXT];
    const char *addresses[2];
    for (uint32_t i = 0; i < 2; i++) addresses[i] = links_listen_text(sides[to].links, i, text[i], sizeof text[i]);
    return link_open(sides[from].links, to, addresses, 2, &sides[from], &sides[from].link) == OK;
}

static inline bool pair_open(struct io *io, struct links_config a, struct links_config b)
{
    return open_side(io, 1, &identities[1], a) && open_side(io, 2, &identities[2], b) && link_sides(1, 2) &&
           link_open(sides[2].links, 1, NULL, 0, &sides[2], &sides[2].link) == OK;
}

static inline void side_close(uint32_t number)
{
    struct side *s = &sides[number];
    while (!list_empty(&s->kept)) link_message_done(CONTAINER(list_pop(&s->kept), struct link_message, link));
    link_close(s->link);
    links_close(s->links);
}

/* Waits until `*value` is at least `least`, for ten seconds at most. */
static inline bool wait_for(struct io *io, const uint32_t *value, uint32_t least)
{
    for (int i = 0; i < 5000 && *value < least; i++) io_task_sleep(io, 2 * IO_MS_NS);
    return *value >= least;
}

static inline bool wait_ready(struct io *io, struct link *link, uint32_t conns)
{
    for (int i = 0; i < 5000 && link_ready(link) != conns; i++) io_task_sleep(io, 2 * IO_MS_NS);
    return link_ready(link) == conns;
}

/* ---- sending ---- */

static inline void send_more(struct sending *s);

static inline void sent(struct link_op *op)
{
    struct one *one = CONTAINER(op, struct one, op);
    one->busy = false;
    one->of->sent += op->err == OK;
    one->of->failed += op->err != OK;
    memset(one->body, 0xee, 64); /* it is ours again */
    send_more(one->of);
}

static inline void lost(struct link_stream *stream)
{
    struct sending *s = CONTAINER(stream, struct sending, stream);
    s->lost++;
    s->next = 0;
}

static uint64_t send_until; /* messages of each stream */

static inline void send_one(struct sending *s, struct one *one)
{
    uint32_t bytes = body_of(s->stream.id, s->next);
    memset(one->body, seed_of(s->stream.id, s->next), bytes);
    for (uint32_t at = 0; at < bytes; at += STEP) one->body[at] = byte_of(s->stream.id, s->next, at);
    one->busy = true;
    one->of = s;
    one->op.done = sent;
    one->head = (struct mark){put32(s->stream.id), put32(s->stream.session), put64(s->next++)};
    one->pieces[0] = (struct io_piece){one->body, bytes / 3};
    one->pieces[1] = (struct io_piece){one->body, 0};
    one->pieces[2] = (struct io_piece){one->body + bytes / 3, bytes - bytes / 3};
    bool plain = s->stream.urgent;
    link_send(&s->stream, 7, &one->head, sizeof one->head, plain ? NULL : one->pieces, plain ? 0 : 3, &one->op);
}

static inline void send_more(struct sending *s)
{
    for (uint32_t i = 0; i < OPS && s->sent + s->failed < send_until && link_is_up(s->side->link); i++)
        if (!s->ones[i].busy) send_one(s, &s->ones[i]);
}

static inline void start_sending(struct side *side)
{
    for (uint32_t i = 0; i <= STREAMS; i++) {
        struct sending *s = &side->to[i];
        s->side = side;
        link_stream_init(side->link, &s->stream, id_of(i), i == STREAMS, lost);
        send_more(s);
    }
}

static inline bool is_sending(const struct sending *s)
{
    for (uint32_t i = 0; i < OPS; i++)
        if (s->ones[i].busy) return true;
    return false;
}

static inline bool wait_sent(struct io *io, struct side *side)
{
    for (int tries = 0; tries < 10000; tries++) {
        bool busy = false;
        for (uint32_t i = 0; i <= STREAMS; i++) busy |= is_sending(&side->to[i]);
        if (!busy) return true;
        io_task_sleep(io, 2 * IO_MS_NS);
    }
    return false;
}

/* What `to` has got of the last session of each stream is all that was sent in it. */
static inline bool wait_got(struct io *io, const struct side *from, const struct side *to)
{
    for (int tries = 0; tries < 5000; tries++) {
        bool all = true;
        for (uint32_t i = 0; i <= STREAMS; i++)
            all &= from->to[i].next == 0 ||
                   (to->from[i].session == from->to[i].stream.session && to->from[i].next == from->to[i].next);
        if (all) return true;
        io_task_sleep(io, 2 * IO_MS_NS);
    }
    return false;
}

static inline void stop_sending(struct side *side)
{
    for (uint32_t i = 0; i <= STREAMS; i++) link_stream_done(&side->to[i].stream);
}

/* ---- telling stories of them ---- */

static inline void explain(void)
{
    printf("# 1 was told:\n%s# 2 was told:\n%s", sides[1].told, sides[2].told);
}

static inline bool tell(void (*what)(struct story *story))
{
    return identities_made() && tell_on_both(what, explain);
}

#endif
