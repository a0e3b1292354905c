/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stand-in for src/io and src/volume, see stand_in.h. One step takes the first message, else moves bytes of the
 * connection or ends one request of the volume, as it is drawn: so data comes in while requests are under way.
 */
#include "fuzz/stand_in.h"

#include "base/prng.h"
#include "io/io.h"

enum { TIMERS_MAX = 64, SENT_MAX = 8 << 20, BLOCKS_MAX = STAND_IN_BYTES_MAX / BLOCK_SIZE };

struct io {
    struct prng prng;
    uint64_t now_ns;
    struct io_msg *first, *last;
    struct io_timer *timers[TIMERS_MAX];
    struct io_task *self;
};

struct volume {
    uint64_t bytes;
    uint32_t holds;
    struct list requests;
    bool held;     /* none of them ends */
    uint64_t lost; /* session */
    uint32_t fail_after;
    enum err fail;
    uint64_t dirty; /* bytes from the front that may differ from zero */
};

struct io_listener {
    struct io_net *accept;
    bool called, aborted;
};

struct io_socket {
    const uint8_t *in;
    size_t in_left;
    bool open, stays, stalled, aborted;
    struct io_net *receive, *transmit;
    size_t sent;
};

static struct io io;
static struct volume volume;
static struct io_listener listener;
static struct io_socket connection;
static uint8_t content[STAND_IN_BYTES_MAX], mapped[BLOCKS_MAX], sent[SENT_MAX];

/* ---- the volume ---- */

uint32_t volume_id(const struct volume *v)
{
    (void)v;
    return 7;
}

uint64_t volume_bytes(const struct volume *v)
{
    return v->bytes;
}

void volume_lost(struct volume *v, uint64_t session)
{
    REQUIRE(session != 0);
    v->lost = session;
}

void volume_hold(struct volume *v)
{
    v->holds++;
}

void volume_release(struct volume *v)
{
    REQUIRE(v->holds > 0);
    v->holds--;
}

void volume_start(struct volume *v, struct volume_request *r)
{
    REQUIRE(r->session == 0 || r->session != v->lost);
    REQUIRE(r->arrived_ns > 0 && r->arrived_ns <= io.now_ns);
    r->first = r->offset / BLOCK_SIZE;
    r->count = (r->offset % BLOCK_SIZE + r->bytes + BLOCK_SIZE - 1) / BLOCK_SIZE;
    list_push(&v->requests, &r->link);
}

static bool changes(const struct volume_request *r)
{
    return r->verb != VOLUME_READ && r->verb != VOLUME_STATUS;
}

/* What no caller may ask for, whatever an initiator sends. */
static void require_sense(const struct volume_request *r)
{
    uint64_t touched = r->count * BLOCK_SIZE;
    REQUIRE(r->offset % VOLUME_SECTOR == 0 && r->bytes % VOLUME_SECTOR == 0);
    if (r->verb == VOLUME_READ || r->verb == VOLUME_STATUS) REQUIRE(touched <= VOLUME_READ_MAX);
    if (r->verb == VOLUME_WRITE || r->verb == VOLUME_COMPARE_WRITE) REQUIRE(touched <= VOLUME_WRITE_MAX);
    if (r->verb != VOLUME_ZERO && r->verb != VOLUME_ZERO_UNMAP && r->verb != VOLUME_UNMAP)
        REQUIRE(r->bytes == 0 || (r->data != NULL && (r->verb == VOLUME_STATUS || (uintptr_t)r->data % BLOCK_SIZE == 0)));
}

/* Takes the bytes of a change, and spoils what of its edge blocks was not asked for. */
static void write_from(struct volume_request *r)
{
    uint64_t lead = r->offset % BLOCK_SIZE;
    memcpy(content + r->offset, r->data + lead, r->bytes);
    memset(r->data, 0xee, lead);
    memset(r->data + lead + r->bytes, 0xee, r->count * BLOCK_SIZE - lead - r->bytes);
    memset(mapped + r->first, 1, r->count);
}

static enum err compare_write(struct volume_request *r)
{
    const uint8_t *expected = r->compare + r->offset % BLOCK_SIZE;
    for (uint64_t i = 0; i < r->bytes; i++) {
        if (content[r->offset + i] == expected[i]) continue;
        r->differs = i;
        return ERR_MISCOMPARE;
    }
    write_from(r);
    return OK;
}

static enum err obey(struct volume *v, struct volume_request *r)
{
    require_sense(r);
    if (r->offset > v->bytes || r->bytes > v->bytes - r->offset) return ERR_RANGE;
    if (r->bytes == 0) return OK;
    if (changes(r)) v->dirty = max64(v->dirty, r->offset + r->bytes);
    switch (r->verb) {
    case VOLUME_READ: memcpy(r->data, content + r->first * BLOCK_SIZE, r->count * BLOCK_SIZE); break;
    case VOLUME_STATUS: memcpy(r->data, mapped + r->first, r->count); break;
    case VOLUME_WRITE: write_from(r); break;
    case VOLUME_COMPARE_WRITE: return compare_write(r);
    case VOLUME_ZERO:
    case VOLUME_ZERO_UNMAP:
    case VOLUME_UNMAP: memset(content + r->offset, 0, r->bytes); break;
    }
    return OK;
}

static bool volume_step(void)
{
    struct volume *v = &volume;
    struct list *l = v->requests.next;
    if (v->held || list_empty(&v->requests)) return false;
    while (l->next != &v->requests && prng_below(&io.prng, 2) == 0) l = l->next;
    struct volume_request *r = CONTAINER(l, struct volume_request, link);
    list_remove(l);
    bool fails = v->fail != OK && v->fail_after-- == 0;
    r->err = fails ? v->fail : obey(v, r);
    if (fails) {
        v->fail = OK;
        r->bad = r->offset;
        r->differs = 0;
    }
    r->done(r);
    return true;
}

/* ---- the connection ---- */

static void net_end(struct io_net **which, enum err err, uint32_t bytes)
{
    struct io_net *op = *which;
    *which = NULL;
    op->err = err;
    op->bytes = bytes;
    op->done(op);
}

static bool accept_step(void)
{
    struct io_net *op = listener.accept;
    if (op == NULL || (!listener.called && !listener.aborted)) return false;
    if (listener.aborted) {
        net_end(&listener.accept, ERR_CLOSED, 0);
        return true;
    }
    op->socket = &connection;
    connection.open = true;
    listener.called = false;
    net_end(&listener.accept, OK, 0);
    return true;
}

static bool receive_step(void)
{
    struct io_net *op = connection.receive;
    if (op == NULL) return false;
    if (connection.aborted || (connection.in_left == 0 && !connection.stays)) {
        net_end(&connection.receive, ERR_CLOSED, 0);
        return true;
    }
    if (connection.in_left == 0) return false;
    uint64_t most = connection.in_left < op->length ? connection.in_left : op->length;
    if (prng_below(&io.prng, 4) == 0) most = 1 + prng_below(&io.prng, most);
    memcpy(op->buf, connection.in, most);
    connection.in += most;
    connection.in_left -= most;
    net_end(&connection.receive, OK, (uint32_t)most);
    return true;
}

/* Whoever asks for more than fits has gone away. */
static bool transmit_step(void)
{
    struct io_net *op = connection.transmit;
    size_t bytes = 0;
    if (op == NULL || (connection.stalled && !connection.aborted)) return false;
    for (uint32_t i = 0; i < op->piece_count; i++) bytes += op->pieces[i].size;
    if (bytes > sizeof sent - connection.sent) connection.aborted = true;
    for (uint32_t i = 0; i < op->piece_count && !connection.aborted; i++) {
        memcpy(sent + connection.sent, op->pieces[i].at, op->pieces[i].size);
        connection.sent += op->pieces[i].size;
    }
    net_end(&connection.transmit, connection.aborted ? ERR_CLOSED : OK, (uint32_t)bytes);
    return true;
}

enum err io_listen(struct io *at, const char *address, uint32_t mode, struct io_listener **ret_listener)
{
    (void)at;
    (void)address;
    (void)mode;
    *ret_listener = &listener;
    return OK;
}

void io_accept(struct io_listener *at, struct io_net *op)
{
    REQUIRE(at->accept == NULL);
    at->accept = op;
}

void io_listener_abort(struct io_listener *at)
{
    at->aborted = true;
}

void io_listener_close(struct io_listener *at)
{
    REQUIRE(at == NULL || at->accept == NULL);
}

const char *io_listener_text(const struct io_listener *at, char *buf, size_t size)
{
    (void)at;
    snprintf(buf, size, "192.0.2.1:3260");
    return buf;
}

void io_receive(struct io_socket *socket, void *buf, uint32_t size, struct io_net *op)
{
    REQUIRE(socket->open && socket->receive == NULL && size > 0);
    op->buf = buf;
    op->length = size;
    socket->receive = op;
}

void io_transmit(struct io_socket *socket, const struct io_piece *pieces, uint32_t count, struct io_net *op)
{
    REQUIRE(socket->open && socket->transmit == NULL && count <= IO_PIECES_MAX);
    op->pieces = pieces;
    op->piece_count = count;
    socket->transmit = op;
}

void io_socket_abort(struct io_socket *socket)
{
    socket->aborted = true;
}

void io_socket_close(struct io_socket *socket)
{
    REQUIRE(socket->open && socket->receive == NULL && socket->transmit == NULL);
    socket->open = false;
}

const char *io_socket_peer(const struct io_socket *socket, char *buf, size_t size)
{
    (void)socket;
    snprintf(buf, size, "192.0.2.2:999");
    return buf;
}

const char *io_socket_local(const struct io_socket *socket, char *buf, size_t size)
{
    (void)socket;
    return io_listener_text(&listener, buf, size);
}

/* ---- time, messages, tasks ---- */

bool io_is_current(const struct io *at)
{
    (void)at;
    return true;
}

uint64_t io_now_ns(struct io *at)
{
    return at->now_ns;
}

void io_random(struct io *at, void *buf, size_t size)
{
    for (size_t i = 0; i < size; i++) ((uint8_t *)buf)[i] = (uint8_t)prng_next(&at->prng);
}

void io_send(struct io *to, struct io_msg *msg)
{
    msg->next = NULL;
    if (to->first == NULL)
        to->first = msg;
    else
        to->last->next = msg;
    to->last = msg;
}

void io_after(struct io *at, uint64_t delay_ns, struct io_timer *timer)
{
    uint32_t i = 0;
    REQUIRE(timer->place == 0);
    while (i < TIMERS_MAX && at->timers[i] != NULL) i++;
    REQUIRE(i < TIMERS_MAX);
    at->timers[i] = timer;
    timer->place = i + 1;
    timer->due_ns = at->now_ns + delay_ns;
}

void io_cancel(struct io *at, struct io_timer *timer)
{
    if (timer->place == 0) return;
    at->timers[timer->place - 1] = NULL;
    timer->place = 0;
}

static struct io_timer *timer_next(void)
{
    struct io_timer *next = NULL;
    for (uint32_t i = 0; i < TIMERS_MAX; i++)
        if (io.timers[i] != NULL && (next == NULL || io.timers[i]->due_ns < next->due_ns)) next = io.timers[i];
    return next;
}

/* False: no timer is due until then. */
static bool time_step(uint64_t until_ns)
{
    struct io_timer *timer = timer_next();
    if (timer == NULL || timer->due_ns > until_ns) return false;
    io.now_ns = max64(io.now_ns, timer->due_ns);
    io_cancel(&io, timer);
    timer->fire(timer);
    return true;
}

static bool step(void)
{
    static bool (*const turns[])(void) = {accept_step, transmit_step, receive_step, volume_step};
    enum { TURNS = sizeof turns / sizeof turns[0] };
    struct io_msg *msg = io.first;
    if (msg != NULL) {
        io.first = msg->next;
        msg->handle(msg);
        return true;
    }
    uint64_t first = prng_below(&io.prng, TURNS);
    for (uint64_t i = first; i < first + TURNS; i++)
        if (turns[i % TURNS]()) return true;
    return false;
}

/* Whoever calls is the one task that there is. */
struct io_task *io_task_self(void)
{
    static struct io_task task;
    return &task;
}

void io_task_wake(struct io_task *task)
{
    task->woken = true;
}

void io_task_park(void)
{
    struct io_task *task = io_task_self();
    while (!task->woken) REQUIRE(step() || time_step(UINT64_MAX)); /* else it waits for ever */
    task->woken = false;
}

void stand_in_turn(void)
{
    step();
}

void stand_in_run(void)
{
    while (step()) continue;
}

void stand_in_wait(uint64_t ms)
{
    uint64_t until_ns = io.now_ns + ms * 1000000u;
    do {
        stand_in_run();
    } while (time_step(until_ns));
    io.now_ns = until_ns;
}

/* ---- for those who play ---- */

void stand_in_begin(uint64_t seed, uint64_t bytes)
{
    REQUIRE(bytes <= sizeof content && bytes % BLOCK_SIZE == 0);
    volume.bytes = bytes;
    volume.holds = 0;
    list_init(&volume.requests);
    io = (struct io){.now_ns = 1000000000u};
    stand_in_again(seed);
    listener = (struct io_listener){.accept = NULL};
    connection = (struct io_socket){.open = false};
    io_task_self()->woken = false;
}

void stand_in_again(uint64_t seed)
{
    REQUIRE(list_empty(&volume.requests) && volume.holds == 0);
    memset(content, 0, volume.dirty);
    memset(mapped, 0, sizeof mapped);
    volume.dirty = 0;
    volume.fail = OK;
    volume.held = false;
    volume.lost = 0;
    prng_init(&io.prng, seed);
}

void stand_in_hold(bool hold)
{
    volume.held = hold;
}

const struct volume_request *stand_in_request(void)
{
    return list_empty(&volume.requests) ? NULL : CONTAINER(volume.requests.next, struct volume_request, link);
}

uint64_t stand_in_lost(void)
{
    return volume.lost;
}

struct io *stand_in_io(void)
{
    return &io;
}

struct volume *stand_in_volume(void)
{
    return &volume;
}

uint8_t *stand_in_content(void)
{
    return content;
}

void stand_in_resize(uint64_t bytes)
{
    REQUIRE(bytes <= sizeof content && bytes % BLOCK_SIZE == 0 && bytes > 0);
    volume.bytes = bytes;
}

void stand_in_fail(uint32_t after, enum err err)
{
    volume.fail_after = after;
    volume.fail = err;
}

uint32_t stand_in_holds(void)
{
    return volume.holds;
}

void stand_in_connect(const uint8_t *data, size_t size, bool stays)
{
    connection = (struct io_socket){.in = data, .in_left = size, .stays = stays};
    listener.called = true;
}

void stand_in_more(const uint8_t *data, size_t size)
{
    REQUIRE(connection.in_left == 0);
    connection.in = data;
    connection.in_left = size;
}

void stand_in_leave(void)
{
    connection.stays = false;
    connection.in_left = 0;
}

void stand_in_stall(bool stall)
{
    connection.stalled = stall;
}

const uint8_t *stand_in_sent(size_t *ret_size)
{
    *ret_size = connection.sent;
    return sent;
}

bool stand_in_is_closed(void)
{
    return !connection.open;
}
