/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Links between nodes, over real sockets of the loopback, on both back ends.
 *
 * Goal: messages of a stream arrive in order, whole and once, over all addresses at once; a connection that is cut, silent or
 * that is not read is noticed in time, its streams go on over the others with a new session; who does not belong is refused
 * with a sentence. Method: each story is a task on one loop that plays all nodes. Contents are made from stream, session and
 * number, so that each message can be judged alone. Times of waiting are generous; what has to be noticed in time is measured.
 */
#include <stdlib.h>
#include <unistd.h>

#include "base/prng.h"
#include "cluster/link.h"
#include "tests/check.h"
#include "tests/unit/story.h"

#define NOW 1800000000ull
enum { HEARTBEAT_MS = 50, TIMEOUT_MS = 400, LONG_MS = 5000, STREAMS = 6, OPS = 8, BODY_MAX = 300000 };

/* ---- identities: made once ---- */

static const struct cluster_id the_cluster = {{0xc1}};
static struct identity identities[4]; /* 1, 2, 3: of the cluster; 0: of another */
static uint64_t wall_now = NOW;

static uint64_t wall(void)
{
    return wall_now;
}

static enum err join(uint32_t node, struct identity *ret)
{
    struct der key, request, certificate;
    TRY(identity_new_key(&key));
    TRY(identity_request(&key, &request));
    TRY(identity_sign(&identities[1], &request, node, NOW, &certificate));
    *ret = (struct identity){.cluster = the_cluster, .node = node, .ca = identities[1].ca};
    return identity_adopt(ret, &key, &certificate, NOW);
}

static bool identities_made(void)
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

static uint8_t seed_of(uint32_t stream, uint64_t number)
{
    return (uint8_t)(stream * 7 + number * 13);
}

static uint8_t byte_of(uint32_t stream, uint64_t number, uint32_t at)
{
    uint32_t step = at % STEP == 0 ? at / STEP : 0;
    return (uint8_t)(seed_of(stream, number) + step * 31 + (step >> 8));
}

static uint32_t body_of(uint32_t stream, uint64_t number)
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

static struct side sides[3]; /* by node, from 1 */

static uint32_t id_of(uint32_t i)
{
    return i == STREAMS ? 100 : i + 1;
}

static bool body_is_right(const struct link_message *m, uint64_t number)
{
    if (m->body_bytes != body_of(m->stream, number)) return false;
    for (uint32_t at = 0; at < m->body_bytes; at += at % STEP == 0 ? 1 : STEP - 1)
        if (m->body[at / LINK_PIECE][at % LINK_PIECE] != byte_of(m->stream, number, at)) return false;
    return true;
}

static void on_message(struct link *link, struct link_message *m)
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

static void on_up(struct link *link)
{
    ((struct side *)link_owner(link))->ups++;
}

static void on_down(struct link *link)
{
    ((struct side *)link_owner(link))->downs++;
}

static void on_tell(void *arg, bool is_problem, const char *text)
{
    struct side *s = arg;
    size_t used = strlen(s->told);
    (void)is_problem;
    if (getenv("LINK_VERBOSE") != NULL) fprintf(stderr, "# %d: %s\n", (int)(s - sides), text);
    snprintf(s->told + used, sizeof s->told - used, "%s\n", text);
}

static void on_renewed(void *arg, const struct identity *identity)
{
    struct side *s = arg;
    s->renewed += identity->certificate.bytes > 0;
}

static void on_join(void *arg, struct link_join *request)
{
    struct side *s = arg;
    s->joins++;
    link_join_refuse(request, "not in this test");
}

static const struct links_user user = {on_message, on_up, on_down, on_tell, on_renewed, on_join};

/* Opens node `number`; it listens on two addresses of the loopback. */
static bool open_side(struct io *io, uint32_t number, const struct identity *identity, struct links_config config)
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
static bool link_sides(uint32_t from, uint32_t to)
{
    char text[2][IO_ADDRESS_TEXT];
    const char *addresses[2];
    for (uint32_t i = 0; i < 2; i++) addresses[i] = links_listen_text(sides[to].links, i, text[i], sizeof text[i]);
    return link_open(sides[from].links, to, addresses, 2, &sides[from], &sides[from].link) == OK;
}

static bool pair_open(struct io *io, struct links_config a, struct links_config b)
{
    return open_side(io, 1, &identities[1], a) && open_side(io, 2, &identities[2], b) && link_sides(1, 2) &&
           link_open(sides[2].links, 1, NULL, 0, &sides[2], &sides[2].link) == OK;
}

static void side_close(uint32_t number)
{
    struct side *s = &sides[number];
    while (!list_empty(&s->kept)) link_message_done(CONTAINER(list_pop(&s->kept), struct link_message, link));
    link_close(s->link);
    links_close(s->links);
}

/* Waits until `*value` is at least `least`, for ten seconds at most. */
static bool wait_for(struct io *io, const uint32_t *value, uint32_t least)
{
    for (int i = 0; i < 5000 && *value < least; i++) io_task_sleep(io, 2 * IO_MS_NS);
    return *value >= least;
}

static bool wait_ready(struct io *io, struct link *link, uint32_t conns)
{
    for (int i = 0; i < 5000 && link_ready(link) != conns; i++) io_task_sleep(io, 2 * IO_MS_NS);
    return link_ready(link) == conns;
}

/* ---- sending ---- */

static void send_more(struct sending *s);

static void sent(struct link_op *op)
{
    struct one *one = CONTAINER(op, struct one, op);
    one->busy = false;
    one->of->sent += op->err == OK;
    one->of->failed += op->err != OK;
    memset(one->body, 0xee, 64); /* it is ours again */
    send_more(one->of);
}

static void lost(struct link_stream *stream)
{
    struct sending *s = CONTAINER(stream, struct sending, stream);
    s->lost++;
    s->next = 0;
}

static uint64_t send_until; /* messages of each stream */

static void send_one(struct sending *s, struct one *one)
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

static void send_more(struct sending *s)
{
    for (uint32_t i = 0; i < OPS && s->sent + s->failed < send_until && link_is_up(s->side->link); i++)
        if (!s->ones[i].busy) send_one(s, &s->ones[i]);
}

static void start_sending(struct side *side)
{
    for (uint32_t i = 0; i <= STREAMS; i++) {
        struct sending *s = &side->to[i];
        s->side = side;
        link_stream_init(side->link, &s->stream, id_of(i), i == STREAMS, lost);
        send_more(s);
    }
}

static bool is_sending(const struct sending *s)
{
    for (uint32_t i = 0; i < OPS; i++)
        if (s->ones[i].busy) return true;
    return false;
}

static bool wait_sent(struct io *io, struct side *side)
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
static bool wait_got(struct io *io, const struct side *from, const struct side *to)
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

static void stop_sending(struct side *side)
{
    for (uint32_t i = 0; i <= STREAMS; i++) link_stream_done(&side->to[i].stream);
}

/* ---- stories ---- */

static void story_of_traffic(struct story *story)
{
    struct links_stats stats;
    struct links_config patient = {.timeout_ms = LONG_MS}; /* a test machine may be busy; here nobody is to be given up */
    send_until = 60;
    EXPECT(pair_open(story->io, patient, patient));
    EXPECT(wait_ready(story->io, sides[1].link, 2) && wait_ready(story->io, sides[2].link, 2));
    EXPECT(sides[1].ups == 1 && sides[2].ups == 1 && link_boot(sides[1].link) == 1);
    start_sending(&sides[1]);
    start_sending(&sides[2]);
    EXPECT(wait_sent(story->io, &sides[1]) && wait_sent(story->io, &sides[2]));
    EXPECT(wait_got(story->io, &sides[1], &sides[2]) && wait_got(story->io, &sides[2], &sides[1]));
    EXPECT(sides[1].wrong == 0 && sides[2].wrong == 0);
    for (uint32_t i = 0; i <= STREAMS; i++) EXPECT(sides[1].to[i].lost == 0 && sides[2].from[i].got >= send_until);
    links_stats(sides[2].links, &stats);
    EXPECT(stats.lost == 0 && stats.messages_in > STREAMS * 60);
    uint64_t answered = link_answered_ns(sides[1].link), now = io_now_ns(story->io);
    EXPECT(answered <= now && now - answered < LONG_MS * IO_MS_NS);
    stop_sending(&sides[1]);
    stop_sending(&sides[2]);
    side_close(1);
    side_close(2);
}

/* One address is cut under load, again and again; the other carries on, and streams come back. */
static void story_of_cuts(struct story *story)
{
    uint32_t lost_streams = 0;
    struct links_config patient = {.timeout_ms = LONG_MS};
    send_until = UINT64_MAX;
    EXPECT(pair_open(story->io, patient, patient));
    EXPECT(wait_ready(story->io, sides[1].link, 2) && wait_ready(story->io, sides[2].link, 2));
    start_sending(&sides[1]);
    start_sending(&sides[2]);
    for (uint32_t i = 0; i < 6; i++) {
        io_task_sleep(story->io, 30 * IO_MS_NS);
        link_cut(sides[1 + i % 2].link, i / 2 % 2);
        io_task_sleep(story->io, 20 * IO_MS_NS);
        EXPECT(link_is_up(sides[1].link) && link_is_up(sides[2].link));
        EXPECT(wait_ready(story->io, sides[1].link, 2) && wait_ready(story->io, sides[2].link, 2));
    }
    send_until = 0;
    EXPECT(wait_sent(story->io, &sides[1]) && wait_sent(story->io, &sides[2]));
    EXPECT(wait_got(story->io, &sides[1], &sides[2]) && wait_got(story->io, &sides[2], &sides[1]));
    EXPECT(sides[1].wrong == 0 && sides[2].wrong == 0);
    EXPECT(sides[1].downs == 0 && sides[2].downs == 0 && sides[1].ups == 1);
    for (uint32_t i = 0; i <= STREAMS; i++) lost_streams += sides[1].to[i].lost + sides[2].to[i].lost;
    EXPECT(lost_streams > 0);
    stop_sending(&sides[1]);
    stop_sending(&sides[2]);
    side_close(1);
    side_close(2);
}

/* A receiver that gives nothing back holds up bulk, and neither urgent messages nor heartbeats. */
static void story_of_back_pressure(struct story *story)
{
    struct links_stats stats;
    send_until = 1000;
    EXPECT(pair_open(story->io, (struct links_config){0}, (struct links_config){0}));
    EXPECT(wait_ready(story->io, sides[1].link, 2) && wait_ready(story->io, sides[2].link, 2));
    sides[2].keep = true;
    start_sending(&sides[1]);
    io_task_sleep(story->io, 3 * TIMEOUT_MS * IO_MS_NS);
    links_stats(sides[2].links, &stats);
    EXPECT(stats.lost == 0 && sides[1].downs == 0);
    EXPECT(stats.bytes_in > 1 << 20 && stats.bytes_in <= 2 * (2u << 20) + (1u << 20));
    uint64_t before = stats.messages_in;
    io_task_sleep(story->io, TIMEOUT_MS * IO_MS_NS);
    links_stats(sides[2].links, &stats);
    EXPECT(stats.messages_in == before); /* the windows are full */
    sides[2].keep = false;
    send_until = 0;
    while (!list_empty(&sides[2].kept))
        on_message(sides[2].link, CONTAINER(list_pop(&sides[2].kept), struct link_message, link));
    EXPECT(wait_sent(story->io, &sides[1]) && wait_got(story->io, &sides[1], &sides[2]));
    EXPECT(sides[2].wrong == 0);
    stop_sending(&sides[1]);
    side_close(1);
    side_close(2);
}

static void story_of_restart(struct story *story)
{
    EXPECT(pair_open(story->io, (struct links_config){0}, (struct links_config){0}));
    EXPECT(wait_ready(story->io, sides[2].link, 2));
    link_close(sides[1].link);
    links_close(sides[1].links);
    EXPECT(wait_for(story->io, &sides[2].downs, 1) && !link_is_up(sides[2].link));
    EXPECT(open_side(story->io, 1, &identities[1], (struct links_config){0}) && link_sides(1, 2));
    EXPECT(wait_for(story->io, &sides[2].ups, 2) && link_boot(sides[2].link) == 2);
    EXPECT(wait_ready(story->io, sides[2].link, 2));
    side_close(1);
    side_close(2);
}

static void story_of_versions(struct story *story)
{
    struct links_config newer = {.version_min = 1, .version_max = 2, .features = 5}, older = {.features = 3};
    EXPECT(pair_open(story->io, newer, older));
    EXPECT(wait_ready(story->io, sides[1].link, 2) && wait_ready(story->io, sides[2].link, 2));
    EXPECT(link_version(sides[1].link) == 1 && link_version(sides[2].link) == 1);
    EXPECT(link_features(sides[1].link) == 1 && link_features(sides[2].link) == 1);
    side_close(1);
    side_close(2);

    struct links_config too_new = {.version_min = 2, .version_max = 3};
    EXPECT(pair_open(story->io, too_new, older));
    io_task_sleep(story->io, 300 * IO_MS_NS);
    EXPECT(sides[1].ups == 0 && sides[2].ups == 0);
    EXPECT(strstr(sides[2].told, "speaks versions 2 to 3") != NULL && strstr(sides[1].told, "speaks versions") != NULL);
    side_close(1);
    side_close(2);

    struct links_config demanding = {.features = 12, .required = 8};
    EXPECT(pair_open(story->io, demanding, older));
    io_task_sleep(story->io, 300 * IO_MS_NS);
    EXPECT(sides[1].ups == 0 && sides[2].ups == 0 && strstr(sides[2].told, "(bits 8)") != NULL);
    side_close(1);
    side_close(2);
}

/* ---- strangers ---- */

/* Connects, sends, and waits for the end; returns how long that took in ms. */
static uint32_t say(struct io *io, const char *address, const void *bytes, size_t size)
{
    struct waited w;
    struct io_piece piece = {bytes, size};
    uint8_t answer[256];
    uint32_t n;
    uint64_t from = io_now_ns(io);
    io_connect(io, address, begin(&w));
    if (end(&w) != OK) return UINT32_MAX;
    struct io_socket *socket = w.op.socket;
    if (size > 0) {
        io_transmit(socket, &piece, 1, begin(&w));
        end(&w);
    }
    while (receive(socket, answer, sizeof answer, &n) == OK) continue;
    io_socket_close(socket);
    return (uint32_t)((io_now_ns(io) - from) / IO_MS_NS);
}

static void story_of_strangers(struct story *story)
{
    static const char http[] = "GET /v1/status HTTP/1.1\r\nHost: izar\r\n\r\n";
    static uint8_t noise[20000];
    char address[IO_ADDRESS_TEXT];
    struct links_stats stats;
    struct prng prng;
    prng_init(&prng, 4);
    prng_fill(&prng, noise, sizeof noise);
    EXPECT(pair_open(story->io, (struct links_config){.hello_ms = 300}, (struct links_config){.hello_ms = 300}));
    EXPECT(wait_ready(story->io, sides[1].link, 2));
    links_listen_text(sides[2].links, 0, address, sizeof address);
    EXPECT(say(story->io, address, http, sizeof http - 1) < 3000);
    EXPECT(strstr(sides[2].told, "it speaks HTTP") != NULL);
    EXPECT(say(story->io, address, noise, sizeof noise) < 3000);
    EXPECT(say(story->io, address, noise, 3) < 3000);
    uint32_t silent = say(story->io, address, NULL, 0);
    EXPECT(silent >= 250 && silent < 3000);
    EXPECT(strstr(sides[2].told, "did not say in time") != NULL);
    links_stats(sides[2].links, &stats);
    EXPECT(stats.refused >= 2 && stats.strangers <= 1 && stats.lost == 0 && link_ready(sides[1].link) == 2);
    side_close(1);
    side_close(2);
}

/* ---- a node that has a good certificate and does not keep to the protocol ---- */

static enum err liar_flush(struct io_socket *socket, struct tls *tls)
{
    struct waited w;
    const uint8_t *at;
    size_t bytes = tls_take(tls, &at);
    struct io_piece piece = {at, bytes};
    if (bytes == 0) return OK;
    io_transmit(socket, &piece, 1, begin(&w));
    enum err err = end(&w);
    tls_taken(tls);
    return err;
}

static enum err liar_feed(struct io_socket *socket, struct tls *tls)
{
    struct waited w;
    uint8_t *at;
    size_t room = tls_room(tls, &at);
    io_receive(socket, at, (uint32_t)room, begin(&w));
    TRY(end(&w));
    tls_fed(tls, w.op.bytes);
    return OK;
}

/* Says HELLO and PING as node 1 and then these bytes, and listens until the other side has had enough. */
static enum err lie(struct io *io, struct mem *mem, const char *address, const void *bytes, size_t size)
{
    struct wire_hello hello;
    struct wire_frame frame, ping;
    struct wire_state state = {.stamp = put64(1)};
    struct tls_keys *keys;
    struct tls *tls;
    struct waited w;
    uint8_t sink[4096];
    size_t n;
    hello_encode(&(struct hello){.version_min = 1,
                                 .version_max = 1,
                                 .node = 1,
                                 .peer = 2,
                                 .session = 1,
                                 .cluster = the_cluster,
                                 .boot = {1},
                                 .window = {LINK_COST_MAX, LINK_COST_MIN}},
                 &hello);
    frame_encode(&(struct frame){.type = FRAME_HELLO, .length = sizeof hello}, &frame);
    frame_encode(&(struct frame){.type = FRAME_PING, .length = sizeof state}, &ping);
    TRY(tls_keys_open(mem, &identities[1], &keys));
    TRY(tls_open(mem, &(struct tls_config){.keys = keys, .now_s = NOW}, &tls));
    io_connect(io, address, begin(&w));
    TRY(end(&w));
    struct io_socket *socket = w.op.socket;
    enum err err;
    while ((err = tls_handshake(tls)) == ERR_AGAIN) {
        TRY(liar_flush(socket, tls));
        TRY(liar_feed(socket, tls));
    }
    if (err == OK) err = tls_write(tls, &frame, sizeof frame);
    if (err == OK) err = tls_write(tls, &hello, sizeof hello);
    if (err == OK) err = tls_write(tls, &ping, sizeof ping);
    if (err == OK) err = tls_write(tls, &state, sizeof state);
    if (err == OK) err = tls_write(tls, bytes, size);
    if (err == OK) err = liar_flush(socket, tls);
    while (err == OK) {
        err = tls_read(tls, sink, sizeof sink, &n);
        if (err == ERR_AGAIN) err = liar_feed(socket, tls);
    }
    io_socket_close(socket);
    tls_close(tls);
    tls_keys_close(keys);
    return err;
}

static void story_of_liars(struct story *story)
{
    static uint8_t lies[10000];
    struct frame first = {.type = FRAME_MESSAGE, .stream = 1, .session = 1, .head_bytes = 8, .body_bytes = 100, .length = 8};
    struct frame const said[] = {
        {.type = FRAME_HELLO, .length = 96},                                    /* a second one */
        {.type = FRAME_JOIN, .length = 100},                                    /* out of turn */
        {.type = FRAME_JOINED, .length = 100},                                  /* a word of servers */
        {.type = FRAME_PART, .stream = 9, .session = 1, .length = 10},          /* of no message */
        {.type = FRAME_PING, .length = 31},                                     /* of a wrong length */
        {.type = FRAME_MESSAGE, .stream = 1, .session = 1, .head_bytes = 5000}, /* too long a head */
        {.type = FRAME_CREDIT, .length = 32},                                   /* for more than was sent: bytes below */
        {.type = 77},
        first, /* and again before it is whole */
    };
    char address[IO_ADDRESS_TEXT];
    struct mem *mem = mem_open(16 << 20);
    EXPECT(mem != NULL && open_side(story->io, 2, &identities[2], (struct links_config){.timeout_ms = LONG_MS}));
    EXPECT(link_open(sides[2].links, 1, NULL, 0, &sides[2], &sides[2].link) == OK);
    links_listen_text(sides[2].links, 0, address, sizeof address);
    for (uint32_t i = 0; i < sizeof said / sizeof said[0]; i++) {
        struct wire_frame wire;
        memset(lies, 0x11, sizeof lies);
        frame_encode(&said[i], &wire);
        memcpy(lies, &wire, sizeof wire);
        memcpy(lies + sizeof wire + 8, &wire, sizeof wire);
        uint64_t from = io_now_ns(story->io);
        enum err err = lie(story->io, mem, address, lies, sizeof lies);
        EXPECT(err == ERR_CLOSED && io_now_ns(story->io) - from < LONG_MS * IO_MS_NS);
        EXPECT(wait_for(story->io, &sides[2].downs, i + 1) && sides[2].wrong == 0);
    }
    side_close(2);
    mem_close(mem);
}

/* Many strangers that say nothing: few are kept, and a node gets in nevertheless. */
static void story_of_crowd(struct story *story)
{
    enum { CROWD = 40 };
    struct waited w;
    struct io_socket *sockets[CROWD];
    char address[IO_ADDRESS_TEXT];
    struct links_stats stats;
    EXPECT(open_side(story->io, 2, &identities[2], (struct links_config){0}));
    links_listen_text(sides[2].links, 0, address, sizeof address);
    for (int i = 0; i < CROWD; i++) {
        io_connect(story->io, address, begin(&w));
        EXPECT(end(&w) == OK);
        sockets[i] = w.op.socket;
    }
    EXPECT(open_side(story->io, 1, &identities[1], (struct links_config){0}) && link_sides(1, 2));
    EXPECT(link_open(sides[2].links, 1, NULL, 0, &sides[2], &sides[2].link) == OK);
    EXPECT(wait_ready(story->io, sides[1].link, 2));
    links_stats(sides[2].links, &stats);
    EXPECT(stats.strangers <= 8 && stats.accepted >= CROWD);
    for (int i = 0; i < CROWD; i++) io_socket_close(sockets[i]);
    side_close(1);
    side_close(2);
}

static void story_of_foreigners(struct story *story)
{
    /* Of another cluster. */
    EXPECT(open_side(story->io, 1, &identities[1], (struct links_config){0}));
    EXPECT(open_side(story->io, 2, &identities[0], (struct links_config){0}) && link_sides(1, 2));
    io_task_sleep(story->io, 300 * IO_MS_NS);
    EXPECT(!link_is_up(sides[1].link) && strstr(sides[1].told, "was not signed by this cluster") != NULL);
    side_close(1);
    side_close(2);
    /* Of ours, but not who was meant; and not a member. */
    EXPECT(open_side(story->io, 1, &identities[1], (struct links_config){0}));
    EXPECT(open_side(story->io, 2, &identities[3], (struct links_config){0}) && link_sides(1, 2));
    io_task_sleep(story->io, 300 * IO_MS_NS);
    EXPECT(strstr(sides[1].told, "it is node 3, and node 2 was expected") != NULL);
    side_close(1);
    side_close(2);
    EXPECT(open_side(story->io, 1, &identities[1], (struct links_config){0}));
    EXPECT(open_side(story->io, 2, &identities[2], (struct links_config){0}) && link_sides(1, 2));
    io_task_sleep(story->io, 300 * IO_MS_NS);
    EXPECT(sides[1].ups == 0 && strstr(sides[1].told, "node 1 is not a member here") != NULL);
    side_close(1);
    side_close(2);
    /* Its certificate has run out. */
    wall_now = NOW + CERTIFICATE_LIFE_S + 7200;
    EXPECT(open_side(story->io, 1, &identities[1], (struct links_config){0}));
    EXPECT(open_side(story->io, 2, &identities[2], (struct links_config){0}) && link_sides(1, 2));
    io_task_sleep(story->io, 200 * IO_MS_NS);
    wall_now = NOW;
    EXPECT(!link_is_up(sides[1].link) && strstr(sides[1].told, "has expired by 120 minutes") != NULL);
    side_close(1);
    side_close(2);
}

/* Two processes with one identity: the second is refused while the first is there. */
static void story_of_twins(struct story *story)
{
    static struct side twin_was;
    EXPECT(pair_open(story->io, (struct links_config){0}, (struct links_config){0}));
    EXPECT(wait_ready(story->io, sides[2].link, 2));
    twin_was = sides[1];
    EXPECT(open_side(story->io, 0, &identities[1], (struct links_config){0}) && link_sides(0, 2));
    io_task_sleep(story->io, 400 * IO_MS_NS);
    EXPECT(sides[0].ups == 0 && sides[2].ups == 1 && link_ready(twin_was.link) == 2);
    EXPECT(strstr(sides[0].told, "was a node copied?") != NULL);
    side_close(0);
    side_close(1);
    side_close(2);
}

/* ---- a wire that can be held up: a relay between the two ---- */

struct pipe {
    struct io_task task;
    struct io_socket *from, *to;
    bool *held;
    struct io *io;
    uint8_t bytes[16384];
};

struct relay {
    struct io *io;
    struct io_listener *listener;
    struct io_task task;
    char target[IO_ADDRESS_TEXT];
    bool held[2]; /* what comes from the dialling side; what goes to it */
    struct pipe pipes[16];
    uint32_t count;
    bool stopping;
};

static void pipe_run(void *arg)
{
    struct pipe *p = arg;
    struct waited w;
    uint32_t n;
    while (receive(p->from, p->bytes, sizeof p->bytes, &n) == OK) {
        struct io_piece piece = {p->bytes, n};
        while (*p->held) io_task_sleep(p->io, IO_MS_NS);
        io_transmit(p->to, &piece, 1, begin(&w));
        if (end(&w) != OK) break;
    }
    io_socket_abort(p->from);
    io_socket_abort(p->to);
}

static void relay_run(void *arg)
{
    struct relay *r = arg;
    struct waited w;
    while (!r->stopping && r->count + 2 <= 16) {
        io_accept(r->listener, begin(&w));
        if (end(&w) != OK) break;
        struct io_socket *in = w.op.socket;
        io_connect(r->io, r->target, begin(&w));
        if (end(&w) != OK) {
            io_socket_close(in);
            continue;
        }
        for (int i = 0; i < 2; i++) {
            struct pipe *p = &r->pipes[r->count++];
            *p = (struct pipe){
                .from = i == 0 ? in : w.op.socket, .to = i == 0 ? w.op.socket : in, .held = &r->held[i], .io = r->io};
            if (io_task_start(r->io, &p->task, pipe_run, p) != OK) return;
        }
    }
}

static bool relay_open(struct io *io, struct relay *r, const char *target)
{
    memset(r, 0, sizeof *r);
    r->io = io;
    snprintf(r->target, sizeof r->target, "%s", target);
    return io_listen(io, "127.0.0.1:0", 0, &r->listener) == OK && io_task_start(io, &r->task, relay_run, r) == OK;
}

static void relay_close(struct relay *r)
{
    r->stopping = true;
    r->held[0] = r->held[1] = false;
    io_listener_abort(r->listener);
    for (uint32_t i = 0; i < r->count; i++) io_socket_abort(r->pipes[i].from);
    bool busy = true;
    while (busy) {
        busy = !r->task.finished;
        for (uint32_t i = 0; i < r->count; i++) busy |= !r->pipes[i].task.finished;
        io_task_sleep(r->io, IO_MS_NS);
    }
    for (uint32_t i = 0; i < r->count; i++) {
        if (i % 2 == 0) io_socket_close(r->pipes[i].from);
        if (i % 2 == 0) io_socket_close(r->pipes[i].to);
        io_task_done(&r->pipes[i].task);
    }
    io_task_done(&r->task);
    io_listener_close(r->listener);
}

/* How long it takes until both sides have given the connection up. */
static uint32_t gone_after(struct io *io)
{
    uint64_t from = io_now_ns(io);
    while ((link_is_up(sides[1].link) || link_is_up(sides[2].link)) && io_now_ns(io) - from < 10 * IO_S_NS)
        io_task_sleep(io, IO_MS_NS);
    return (uint32_t)((io_now_ns(io) - from) / IO_MS_NS);
}

static struct relay relay;

/* Silence in one direction, in the other, in both: noticed by both sides, in time, and mended when the wire is. */
static void story_of_silence(struct story *story)
{
    static const bool holds[3][2] = {{true, true}, {true, false}, {false, true}};
    char address[IO_ADDRESS_TEXT];
    const char *addresses[1] = {address};
    for (int i = 0; i < 3; i++) {
        EXPECT(open_side(story->io, 1, &identities[1], (struct links_config){.hello_ms = 300}));
        /* The second time it is the first side alone that can notice: it hears, and is not heard. */
        struct links_config other = {.hello_ms = 300, .timeout_ms = i == 1 ? LONG_MS : 0};
        EXPECT(open_side(story->io, 2, &identities[2], other));
        EXPECT(relay_open(story->io, &relay, links_listen_text(sides[2].links, 0, address, sizeof address)));
        io_listener_text(relay.listener, address, sizeof address);
        EXPECT(link_open(sides[1].links, 2, addresses, 1, &sides[1], &sides[1].link) == OK);
        EXPECT(link_open(sides[2].links, 1, NULL, 0, &sides[2], &sides[2].link) == OK);
        EXPECT(wait_ready(story->io, sides[1].link, 1) && wait_ready(story->io, sides[2].link, 1));
        io_task_sleep(story->io, 2 * TIMEOUT_MS * IO_MS_NS);
        EXPECT(link_is_up(sides[1].link) && link_is_up(sides[2].link) && sides[1].downs == 0);
        relay.held[0] = holds[i][0];
        relay.held[1] = holds[i][1];
        uint32_t ms = gone_after(story->io);
        EXPECT(ms >= TIMEOUT_MS - 2 * HEARTBEAT_MS && ms < TIMEOUT_MS + 4 * HEARTBEAT_MS + 400);
        EXPECT(sides[1].downs == 1 && sides[2].downs == 1);
        relay.held[0] = relay.held[1] = false;
        EXPECT(wait_for(story->io, &sides[1].ups, 2) && wait_for(story->io, &sides[2].ups, 2));
        EXPECT(link_boot(sides[1].link) == 1); /* the same process */
        side_close(1);
        side_close(2);
        relay_close(&relay);
    }
}

/* One side gives a connection up, the other does not notice; what was on its way there comes late, when messages of the next
 * session have come another way already. None of it is delivered. */
static void story_of_the_dead(struct story *story)
{
    char text[2][IO_ADDRESS_TEXT];
    const char *addresses[2] = {text[0], text[1]};
    struct links_config patient = {.timeout_ms = LONG_MS};
    send_until = UINT64_MAX;
    EXPECT(open_side(story->io, 1, &identities[1], (struct links_config){0}));
    EXPECT(open_side(story->io, 2, &identities[2], patient));
    EXPECT(relay_open(story->io, &relay, links_listen_text(sides[2].links, 0, text[0], sizeof text[0])));
    io_listener_text(relay.listener, text[0], sizeof text[0]);
    links_listen_text(sides[2].links, 1, text[1], sizeof text[1]);
    EXPECT(link_open(sides[1].links, 2, addresses, 2, &sides[1], &sides[1].link) == OK);
    EXPECT(link_open(sides[2].links, 1, NULL, 0, &sides[2], &sides[2].link) == OK);
    EXPECT(wait_ready(story->io, sides[1].link, 2) && wait_ready(story->io, sides[2].link, 2));
    start_sending(&sides[1]);
    io_task_sleep(story->io, 50 * IO_MS_NS);
    relay.held[0] = relay.held[1] = true; /* what it holds now comes out below; and no end of the stream gets through */
    EXPECT(wait_ready(story->io, sides[1].link, 1) && wait_ready(story->io, sides[2].link, 1));
    relay.held[0] = relay.held[1] = false;
    EXPECT(wait_ready(story->io, sides[1].link, 2) && wait_ready(story->io, sides[2].link, 2));
    send_until = 0;
    EXPECT(wait_sent(story->io, &sides[1]) && wait_got(story->io, &sides[1], &sides[2]));
    EXPECT(sides[1].wrong == 0 && sides[2].wrong == 0 && sides[2].downs == 0);
    EXPECT(strstr(sides[2].told, "the other side has given it up") != NULL);
    stop_sending(&sides[1]);
    side_close(1);
    side_close(2);
    relay_close(&relay);
}

static void story_of_renewal(struct story *story)
{
    EXPECT(pair_open(story->io, (struct links_config){0}, (struct links_config){0}));
    EXPECT(wait_ready(story->io, sides[2].link, 2));
    wall_now = NOW + CERTIFICATE_LIFE_S * 3 / 4;
    links_renew(sides[1].links); /* it has the CA's key */
    links_renew(sides[2].links); /* it has to ask */
    bool both = wait_for(story->io, &sides[1].renewed, 1) && wait_for(story->io, &sides[2].renewed, 1);
    /* When the old ones have run out, new connections still come up. */
    wall_now = NOW + CERTIFICATE_LIFE_S + 86400;
    link_cut(sides[1].link, 0);
    link_cut(sides[1].link, 1);
    bool again = both && wait_for(story->io, &sides[2].ups, 2) && wait_ready(story->io, sides[2].link, 2);
    wall_now = NOW;
    EXPECT(both && again);
    side_close(1);
    side_close(2);
}

/* ---- telling them ---- */

static void story_run(void *arg)
{
    struct story *story = arg;
    story->tell(story);
    io_group_stop(story->world);
    if (story->failed_line == 0) return;
    printf("# %s:%u: did not hold; 1 was told:\n%s# 2 was told:\n%snot ok\n", __FILE__, story->failed_line, sides[1].told,
           sides[2].told);
    fflush(stdout);
    _exit(1); /* what the story left open would never end */
}

static void story_main(struct io *loop0, void *arg)
{
    struct story *story = arg;
    story->io = loop0;
    if (io_task_start(loop0, &story->task, story_run, story) != OK) io_group_stop(story->world);
}

/* The line of the first expectation that did not hold on one of the back ends. */
static unsigned tell(void (*what)(struct story *story))
{
    static const enum io_backend backends[] = {IO_BACKEND_URING, IO_BACKEND_POSIX};
    if (!identities_made()) return 1;
    for (int i = 0; i < 2; i++) {
        struct story story = {.tell = what};
        struct io_group *group;
        enum err e = io_group_open(&(struct io_config){.backend = backends[i], .loops = 1}, &group);
        if (e == ERR_UNSUPPORTED && i == 0) continue;
        if (e != OK) return 1;
        story.world = group;
        io_group_run(group, story_main, &story);
        io_task_done(&story.task);
        io_group_close(group);
        if (story.failed_line != 0) return story.failed_line;
    }
    return 0;
}

TEST(messages_arrive_in_order_over_two_addresses)
{
    CHECK_EQ(tell(story_of_traffic), 0);
}

TEST(one_address_is_cut_and_comes_back)
{
    CHECK_EQ(tell(story_of_cuts), 0);
}

TEST(a_receiver_that_keeps_messages_holds_up_bulk_only)
{
    CHECK_EQ(tell(story_of_back_pressure), 0);
}

TEST(a_restarted_peer_is_another_boot)
{
    CHECK_EQ(tell(story_of_restart), 0);
}

TEST(versions_and_features_are_agreed_or_refused)
{
    CHECK_EQ(tell(story_of_versions), 0);
}

TEST(strangers_are_refused)
{
    CHECK_EQ(tell(story_of_strangers), 0);
}

TEST(who_does_not_keep_to_the_protocol_is_cut)
{
    CHECK_EQ(tell(story_of_liars), 0);
}

TEST(a_crowd_keeps_nobody_out)
{
    CHECK_EQ(tell(story_of_crowd), 0);
}

TEST(foreigners_are_refused)
{
    CHECK_EQ(tell(story_of_foreigners), 0);
}

TEST(a_copied_node_is_refused)
{
    CHECK_EQ(tell(story_of_twins), 0);
}

TEST(silence_is_noticed_in_time)
{
    CHECK_EQ(tell(story_of_silence), 0);
}

TEST(what_was_given_up_is_not_delivered)
{
    CHECK_EQ(tell(story_of_the_dead), 0);
}

TEST(certificates_renew_themselves_over_links)
{
    CHECK_EQ(tell(story_of_renewal), 0);
}

TESTS(messages_arrive_in_order_over_two_addresses, one_address_is_cut_and_comes_back,
      a_receiver_that_keeps_messages_holds_up_bulk_only, a_restarted_peer_is_another_boot,
      versions_and_features_are_agreed_or_refused, strangers_are_refused, who_does_not_keep_to_the_protocol_is_cut,
      a_crowd_keeps_nobody_out, foreigners_are_refused, a_copied_node_is_refused, silence_is_noticed_in_time,
      what_was_given_up_is_not_delivered, certificates_renew_themselves_over_links)
