/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a message that a replica sends is the message that another gets; what cannot be is refused, whatever the bytes. Method:
 * random messages of each kind, there and back, cut at each byte and one too long; and a plain message of each kind in
 * which one number is changed, to the last that can be and to the first that cannot.
 */
#include "base/prng.h"
#include "check.h"
#include "store/format.h"
#include "volume/replica/codec.h"
#include "volume/replica/replica.h"

enum { ROUNDS = 200, KINDS = REPLICA_LENT + 1 };

#define SEQUENCE_END POINTER_GRAFT

/* ---- random messages: only what a kind has is set ---- */

static uint64_t some(struct prng *p, uint64_t least, uint64_t most)
{
    if (prng_below(p, 4) == 0) return prng_below(p, 2) == 0 ? least : most;
    return most - least == UINT64_MAX ? prng_next(p) : least + prng_below(p, most - least + 1);
}

static uint64_t some_sequence(struct prng *p)
{
    return some(p, 0, prng_below(p, 2) == 0 ? 1000 : SEQUENCE_END - 1);
}

static void draw_request(struct prng *p, struct replica_request *q)
{
    q->node = (uint8_t)some(p, 0, REPLICA_NODES_MAX - 1);
    q->boot = (uint32_t)some(p, 1, UINT32_MAX);
    q->number = some(p, 1, UINT64_MAX - 1);
}

static void draw_nobody(struct replica_request *q)
{
    q->node = 0;
    q->boot = 0;
    q->number = 0;
}

static void draw_change(struct prng *p, struct replica_change *c, bool recorded)
{
    c->kind = (enum replica_kind)some(p, recorded ? REPLICA_NOOP : REPLICA_WRITE, REPLICA_FREE);
    c->count = 0;
    if (c->kind == REPLICA_WRITE) c->count = (uint32_t)some(p, 1, RECORD_BLOCKS_MAX);
    if (c->kind == REPLICA_FREE) c->count = (uint32_t)some(p, 0, RECORD_UNMAP_MAX);
    c->lba = c->count != 0 ? some(p, 0, VOLUME_BLOCKS_MAX - c->count) : 0;
    if (c->kind == REPLICA_NOOP || (recorded && prng_below(p, 8) == 0))
        draw_nobody(&c->request);
    else
        draw_request(p, &c->request);
}

static void draw_mark(struct prng *p, struct replica_mark *mark, uint32_t epoch)
{
    mark->sequence = some_sequence(p);
    mark->epoch = mark->sequence != 0 ? (uint32_t)some(p, 0, epoch) : 0;
}

static void draw_record(struct prng *p, struct replica_record *r, uint64_t sequence, uint32_t previous_epoch, uint32_t epoch)
{
    r->mark.sequence = sequence;
    r->mark.epoch = (uint32_t)some(p, previous_epoch, epoch);
    r->previous_epoch = previous_epoch;
    draw_change(p, &r->change, true);
}

static void draw_config(struct prng *p, struct replica_config *c)
{
    c->version = some(p, 1, UINT64_MAX - 2);
    c->epoch = (uint32_t)some(p, 1, UINT32_MAX);
    c->boot = (uint32_t)some(p, 0, UINT32_MAX);
    c->owner = (uint8_t)some(p, 0, REPLICA_NODES_MAX - 1);
    c->in_sync = (uint8_t)(prng_next(p) | node_bit(c->owner));
    c->learners = (uint8_t)(prng_next(p) & (uint8_t)~c->in_sync);
    c->forced_epoch = (uint32_t)some(p, 0, c->epoch);
    c->forced_sequence = c->forced_epoch != 0 ? some_sequence(p) : 0;
    for (uint32_t node = 0; node < REPLICA_NODES_MAX; node++) c->join[node] = some(p, set_has(c->in_sync, node), UINT64_MAX);
}

static void draw_learn(struct prng *p, struct replica_learn *learn, uint32_t epoch)
{
    learn->epoch = (uint32_t)some(p, 0, epoch);
    learn->on = prng_below(p, 2) == 0;
    learn->base = some_sequence(p);
    learn->low = prng_below(p, 2) == 0 ? REPLICA_NO_GAP : some(p, 1, SEQUENCE_END - 1);
    learn->cursor = prng_below(p, 4) == 0 ? REPLICA_WALK_END : some(p, 0, VOLUME_BLOCKS_MAX);
    learn->applied = some_sequence(p);
}

static void draw_compare(struct prng *p, struct replica_step *s, uint32_t epoch)
{
    s->check = s->learn.applied != 0 && prng_below(p, 2) == 0;
    s->digested = s->learn.applied != 0 && prng_below(p, 2) == 0;
    if (!s->check && !s->digested) return;
    s->mark.sequence = s->check ? s->learn.applied : some(p, 1, s->learn.applied);
    s->mark.epoch = (uint32_t)some(p, 0, epoch);
    for (uint32_t i = 0; s->digested && i < 2; i++) s->digest[i] = prng_next(p);
    for (uint32_t node = 0; s->check && node < REPLICA_NODES_MAX; node++) {
        struct replica_window *w = &s->windows[node];
        w->boot = (uint32_t)some(p, 0, 5);
        w->high = w->boot != 0 ? some(p, 1, UINT64_MAX - 1) : 0;
        w->done = w->boot != 0 ? prng_next(p) | 1 : 0;
    }
}

static void draw_step(struct prng *p, struct replica_step *s, uint32_t epoch)
{
    uint32_t previous = (uint32_t)some(p, 0, epoch);
    draw_learn(p, &s->learn, epoch);
    s->learn.on = true;
    s->cursor = prng_below(p, 4) == 0 ? REPLICA_WALK_END : some(p, 0, VOLUME_BLOCKS_MAX);
    s->stretch = prng_below(p, 2) == 0 ? 0 : some(p, 0, UINT64_MAX - s->cursor);
    s->applied = some(p, 0, 1) == 0 ? 0 : some(p, 1, SEQUENCE_END - 100);
    s->gap = prng_below(p, 4) == 0;
    s->count = s->gap || s->applied == 0 ? 0 : (uint32_t)some(p, 0, REPLICA_STEP_RECORDS);
    for (uint32_t i = 0; i < s->count; i++) {
        draw_record(p, &s->records[i], s->applied + 1 + i, previous, epoch);
        previous = s->records[i].mark.epoch;
    }
    if (!s->gap && s->applied != 0) s->learn.applied = s->applied + s->count;
    draw_compare(p, s, epoch);
}

static void draw_want(struct prng *p, struct replica_step *s, uint32_t epoch)
{
    draw_learn(p, &s->learn, epoch);
    draw_mark(p, &s->mark, epoch);
    s->check = s->mark.sequence != 0;
    s->digested = s->check && prng_below(p, 2) == 0;
}

static void draw_prepared(struct prng *p, struct replica_prepared *prepared, uint32_t epoch)
{
    prepared->end = some_sequence(p);
    prepared->sequence = some(p, 0, prepared->end);
    prepared->published.sequence = some(p, 0, prepared->end);
    prepared->published.epoch = prepared->published.sequence != 0 ? (uint32_t)some(p, 0, epoch) : 0;
    prepared->want = some_sequence(p);
    prepared->credit = some(p, 0, UINT64_MAX - 1);
    prepared->credit_at = some_sequence(p);
    prepared->full = prng_below(p, 2) == 0;
}

static void draw_beat(struct prng *p, struct replica_heartbeat *beat, bool ack)
{
    draw_config(p, &beat->config);
    beat->clock = prng_next(p);
    beat->silent = (uint8_t)prng_next(p);
    if (!ack) return;
    beat->echo = prng_next(p);
    beat->boot_of = (uint32_t)some(p, 1, UINT32_MAX);
    beat->granted = prng_below(p, 2) == 0;
    beat->version = beat->config.version + prng_below(p, 2);
}

static void draw_of_kind(struct prng *p, struct replica_message *m)
{
    struct replica_forward *f = &m->u.forward;
    switch (m->kind) {
    case REPLICA_HEARTBEAT: draw_beat(p, &m->u.beat, false); break;
    case REPLICA_HEARTBEAT_ACK: draw_beat(p, &m->u.beat, true); break;
    case REPLICA_RECORD:
        draw_record(p, &m->u.record, some(p, 1, SEQUENCE_END - 1), (uint32_t)some(p, 0, m->epoch), m->epoch);
        break;
    case REPLICA_PREPARED: draw_prepared(p, &m->u.prepared, m->epoch); break;
    case REPLICA_FORWARD:
        draw_change(p, &f->change, false);
        f->clock = prng_next(p);
        f->change.since = some(p, 0, UINT64_MAX - 1);
        break;
    case REPLICA_CONFIRM:
        draw_request(p, &f->change.request);
        f->ticket = some(p, 1, UINT64_MAX);
        break;
    case REPLICA_CONFIRMED:
        f->ticket = some(p, 1, UINT64_MAX);
        f->alive = prng_below(p, 2) == 0;
        break;
    case REPLICA_DONE:
        draw_request(p, &f->change.request);
        f->outcome = (enum replica_outcome)some(p, REPLICA_GOOD, REPLICA_OVERTAKEN);
        break;
    case REPLICA_WANT: draw_want(p, &m->u.step, m->epoch); break;
    case REPLICA_STEP: draw_step(p, &m->u.step, m->epoch); break;
    case REPLICA_FOLLOW: draw_mark(p, &m->u.step.mark, m->epoch); break;
    case REPLICA_ASK:
    case REPLICA_AGREED:
        m->read = some(p, 1, UINT64_MAX);
        m->u.beat.version = some(p, 1, UINT64_MAX - 1);
        break;
    case REPLICA_BORROW:
    case REPLICA_LENT:
        m->read = some(p, 1, UINT64_MAX);
        if (m->kind == REPLICA_BORROW) m->u.borrow.lba = some(p, 0, VOLUME_BLOCKS_MAX - 1);
        if (m->kind == REPLICA_LENT) m->u.borrow.has = prng_below(p, 2) == 0;
        break;
    case REPLICA_COMMIT:
    case REPLICA_AGAIN: break;
    }
}

static bool has_join(enum replica_message_kind kind)
{
    return kind <= REPLICA_HEARTBEAT_ACK || kind == REPLICA_RECORD || kind == REPLICA_PREPARED || kind == REPLICA_COMMIT ||
           kind == REPLICA_WANT || kind == REPLICA_STEP || kind == REPLICA_FOLLOW || kind == REPLICA_AGAIN;
}

/* The rest of it is `rest`. */
static void draw(uint64_t seed, enum replica_message_kind kind, int rest, struct replica_message *m)
{
    struct prng prng, *p = &prng;
    prng_init(p, seed);
    memset(m, rest, sizeof *m);
    m->kind = kind;
    m->from = (uint8_t)some(p, 0, REPLICA_NODES_MAX - 1);
    m->boot = (uint32_t)some(p, 1, UINT32_MAX);
    m->epoch = (uint32_t)some(p, kind != REPLICA_CONFIRMED, UINT32_MAX);
    m->commit = some_sequence(p);
    if (has_join(kind)) m->join = some(p, kind > REPLICA_HEARTBEAT_ACK, UINT64_MAX);
    draw_of_kind(p, m);
}

static bool comes_back(const uint8_t *head, uint32_t bytes, uint32_t volume, const struct replica_message *m)
{
    static uint8_t again[LINK_HEAD_MAX];
    struct replica_message back;
    uint32_t its = 0;
    if (replica_decode(head, bytes, &its, &back) != OK || its != volume || memcmp(&back, m, sizeof back) != 0) return false;
    return replica_encode(its, &back, again) == bytes && memcmp(again, head, bytes) == 0;
}

/* Cut at any byte, or one too long. */
static bool is_refused_otherwise(uint8_t *head, uint32_t bytes)
{
    struct replica_message back, before;
    uint32_t volume = 77;
    memset(&before, 0x5a, sizeof before);
    back = before;
    for (uint32_t size = 0; size < bytes; size++)
        if (replica_decode(head, size, &volume, &back) != ERR_TRUNCATED) return false;
    head[bytes] = 0;
    if (replica_decode(head, bytes + 1, &volume, &back) != ERR_DECODE) return false;
    return volume == 77 && memcmp(&back, &before, sizeof back) == 0;
}

TEST(random_messages_come_back)
{
    static uint8_t head[LINK_HEAD_MAX + 1], other[LINK_HEAD_MAX];
    struct replica_message m, dirty;
    for (uint32_t i = 0; i < ROUNDS * KINDS; i++) {
        enum replica_message_kind kind = (enum replica_message_kind)(i % KINDS);
        draw(i, kind, 0, &m);
        uint32_t volume = i + 1, bytes = replica_encode(volume, &m, head);
        if (!comes_back(head, bytes, volume, &m) || !is_refused_otherwise(head, bytes)) printf("# message %u\n", i);
        CHECK(comes_back(head, bytes, volume, &m));
        CHECK(is_refused_otherwise(head, bytes));
        draw(i, kind, 0xa5, &dirty); /* what a kind does not have does not travel */
        CHECK_EQ(replica_encode(volume, &dirty, other), bytes);
        CHECK_BYTES(other, head, bytes);
        CHECK(replica_has_content(&m) == replica_has_content(&dirty));
    }
}

/* ---- limits ---- */

/* What limits are tried on: a message of each kind, and some more. */
enum { FREEING = KINDS, FORCED, OPENING, OLD, NO_BLOCKS, NEW, UNCHECKED, DIGESTED, GAPPED, BEGUN };

static void plain_config(struct replica_config *c)
{
    c->version = 7;
    c->epoch = 9;
    c->boot = 2;
    c->in_sync = 3;
    c->learners = 4;
    for (uint32_t node = 0; node < 3; node++) c->join[node] = node + 1;
}

static void plain_record(struct replica_record *r, uint64_t sequence)
{
    r->mark.sequence = sequence;
    r->mark.epoch = r->previous_epoch = 8;
    r->change.kind = REPLICA_WRITE;
    r->change.count = 4;
    r->change.lba = 10;
    r->change.request = (struct replica_request){.node = 1, .boot = 2, .number = 3};
}

static void plain_step(struct replica_step *s)
{
    s->learn = (struct replica_learn){.on = true, .base = 10, .low = REPLICA_NO_GAP, .cursor = 600, .applied = 52};
    s->cursor = 100;
    s->applied = 50;
    s->stretch = 500;
    s->check = s->digested = true;
    s->mark = (struct replica_mark){.sequence = 52, .epoch = 8};
    s->windows[1] = (struct replica_window){.boot = 2, .high = 3, .done = 1};
    s->count = 2;
    plain_record(&s->records[0], 51);
    plain_record(&s->records[1], 52);
}

static void plain_of_kind(struct replica_message *m)
{
    struct replica_forward *f = &m->u.forward;
    struct replica_record r = {.previous_epoch = 0};
    plain_record(&r, 50);
    switch (m->kind) {
    case REPLICA_HEARTBEAT: plain_config(&m->u.beat.config); break;
    case REPLICA_HEARTBEAT_ACK:
        plain_config(&m->u.beat.config);
        m->u.beat.version = 7;
        m->u.beat.boot_of = 4;
        break;
    case REPLICA_RECORD: m->u.record = r; break;
    case REPLICA_FORWARD: f->change = r.change; break;
    case REPLICA_CONFIRM:
    case REPLICA_DONE: f->change.request = r.change.request; break;
    case REPLICA_STEP: plain_step(&m->u.step); break;
    case REPLICA_WANT:
        m->u.step.learn.low = REPLICA_NO_GAP;
        m->u.step.mark = r.mark;
        m->u.step.check = m->u.step.digested = true;
        break;
    case REPLICA_FOLLOW: m->u.step.mark = r.mark; break;
    case REPLICA_ASK:
    case REPLICA_AGREED:
        m->read = 1;
        m->u.beat.version = 7;
        break;
    case REPLICA_BORROW:
    case REPLICA_LENT: m->read = 1; break;
    case REPLICA_PREPARED:
        m->u.prepared.sequence = m->u.prepared.end = 52;
        m->u.prepared.published = r.mark;
        break;
    case REPLICA_CONFIRMED:
    case REPLICA_COMMIT:
    case REPLICA_AGAIN: break;
    }
    if (m->kind == REPLICA_CONFIRM || m->kind == REPLICA_CONFIRMED) f->ticket = 5;
}

static void plain_other(uint32_t what, struct replica_message *m)
{
    struct replica_record *r = &m->u.record;
    struct replica_step *s = &m->u.step;
    if (what == FREEING) m->u.forward.change.kind = REPLICA_FREE;
    if (what == FORCED) m->u.beat.config.forced_epoch = 8;
    if (what == FORCED) m->u.beat.config.forced_sequence = 40;
    if (what == OPENING) r->change = (struct replica_change){.kind = REPLICA_NOOP};
    if (what == OLD) r->change.request = (struct replica_request){.number = 0};
    if (what == OLD) r->mark.epoch = r->previous_epoch = 0;
    if (what == NO_BLOCKS) r->change.kind = REPLICA_FREE;
    if (what == NO_BLOCKS) r->change.count = 0;
    if (what == NO_BLOCKS) r->change.lba = 0;
    if (what == NEW) s->mark = (struct replica_mark){.sequence = 0};
    if (what == UNCHECKED || what == GAPPED || what == NEW) s->check = s->digested = false;
    if (what == DIGESTED) s->check = false;
    if (what == GAPPED || what == BEGUN) s->count = 0;
    if (what == GAPPED) s->gap = true;
    if (what == BEGUN) s->applied = 0;
    if (what == BEGUN) s->mark.epoch = 0;
}

static void plain(uint32_t what, struct replica_message *ret_message)
{
    struct replica_message *m = ret_message;
    static const enum replica_message_kind others[] = {REPLICA_FORWARD, REPLICA_HEARTBEAT, REPLICA_RECORD, REPLICA_RECORD,
                                                       REPLICA_RECORD,  REPLICA_WANT,      REPLICA_STEP,   REPLICA_STEP,
                                                       REPLICA_STEP,    REPLICA_STEP};
    memset(m, 0, sizeof *m);
    m->kind = what < KINDS ? (enum replica_message_kind)what : others[what - KINDS];
    m->from = 2;
    m->boot = 3;
    m->epoch = 9;
    m->commit = 100;
    if (has_join(m->kind)) m->join = 5;
    plain_of_kind(m);
    if (what >= KINDS) plain_other(what, m);
}

#define HEAD(field) offsetof(struct wire_replica_message, field)
#define AFTER(bytes) (sizeof(struct wire_replica_message) + (bytes))
#define OF(part, field) AFTER(offsetof(struct wire_replica_##part, field))
#define IN_RECORD(field) (AFTER(sizeof(struct wire_replica_join)) + offsetof(struct wire_replica_record, field))
#define IN_COMPARE(field) (AFTER(sizeof(struct wire_replica_step)) + offsetof(struct wire_replica_compare, field))
#define WINDOW_AT AFTER(sizeof(struct wire_replica_step) + sizeof(struct wire_replica_compare))
#define IN_WINDOW(field) (WINDOW_AT + offsetof(struct wire_replica_window, field))
#define IN_STEP(i, field)                                                                                                      \
    (WINDOW_AT + sizeof(struct wire_replica_window) + sizeof(struct wire_replica_digest) +                                     \
     (i) * sizeof(struct wire_replica_record) + offsetof(struct wire_replica_record, field))
#define JOIN_OF(n) AFTER(sizeof(struct wire_replica_heartbeat) + (n) * sizeof(le64))
#define END VOLUME_BLOCKS_MAX
#define NONE UINT64_MAX

static const struct limit {
    uint32_t what;
    size_t at;
    uint32_t width;
    uint64_t good, bad;
} limits[] = {
    {REPLICA_COMMIT, HEAD(kind), 1, WIRE_AGAIN, 0},
    {REPLICA_COMMIT, HEAD(kind), 1, WIRE_COMMIT, WIRE_LENT + 1},
    {REPLICA_COMMIT, HEAD(kind), 1, WIRE_COMMIT, WIRE_HEARTBEATS},
    {REPLICA_COMMIT, HEAD(kind), 1, WIRE_COMMIT, 255},
    {REPLICA_COMMIT, HEAD(from), 1, 7, 8},
    {REPLICA_COMMIT, HEAD(from), 1, 0, 255},
    {REPLICA_COMMIT, HEAD(reserved), 1, 0, 1},
    {REPLICA_COMMIT, HEAD(volume), 4, 1, 0},
    {REPLICA_COMMIT, HEAD(boot), 4, 1, 0},
    {REPLICA_COMMIT, HEAD(epoch), 4, 1, 0},
    {REPLICA_COMMIT, HEAD(commit), 8, SEQUENCE_END - 1, SEQUENCE_END},
    {REPLICA_COMMIT, HEAD(commit), 8, 0, NONE},
    {REPLICA_COMMIT, OF(join, join), 8, 1, 0},
    {REPLICA_AGAIN, OF(join, join), 8, NONE, 0},

    {REPLICA_HEARTBEAT, OF(heartbeat, reserved[0]), 1, 0, 1},
    {REPLICA_HEARTBEAT, OF(heartbeat, reserved[6]), 1, 0, 128},
    {REPLICA_HEARTBEAT, OF(heartbeat, config.version), 8, 1, 0},
    {REPLICA_HEARTBEAT, OF(heartbeat, config.version), 8, NONE - 1, NONE},
    {REPLICA_HEARTBEAT, OF(heartbeat, config.epoch), 4, 1, 0},
    {REPLICA_HEARTBEAT, OF(heartbeat, config.owner), 1, 1, 2}, /* not in sync */
    {REPLICA_HEARTBEAT, OF(heartbeat, config.owner), 1, 0, 8},
    {REPLICA_HEARTBEAT, OF(heartbeat, config.owner), 1, 0, 255},
    {REPLICA_HEARTBEAT, OF(heartbeat, config.in_sync), 1, 1, 0},
    {REPLICA_HEARTBEAT, OF(heartbeat, config.in_sync), 1, 3, 7},   /* a learner, too */
    {REPLICA_HEARTBEAT, OF(heartbeat, config.in_sync), 1, 1, 11},  /* has no join */
    {REPLICA_HEARTBEAT, OF(heartbeat, config.learners), 1, 12, 1}, /* in sync, too */
    {REPLICA_HEARTBEAT, OF(heartbeat, config.joins), 1, 7, 3},
    {REPLICA_HEARTBEAT, JOIN_OF(0), 8, 1, 0},
    {REPLICA_HEARTBEAT, JOIN_OF(2), 8, NONE, 0},
    {REPLICA_HEARTBEAT, OF(heartbeat, config.forced_epoch), 4, 9, 10},
    {REPLICA_HEARTBEAT, OF(heartbeat, config.forced_sequence), 8, 0, 1}, /* never forced */

    {FORCED, OF(heartbeat, config.forced_epoch), 4, 9, 0},
    {FORCED, OF(heartbeat, config.forced_sequence), 8, SEQUENCE_END - 1, SEQUENCE_END},

    {REPLICA_HEARTBEAT_ACK, OF(heartbeat_ack, version), 8, 7, 6},
    {REPLICA_HEARTBEAT_ACK, OF(heartbeat_ack, version), 8, NONE - 1, NONE},
    {REPLICA_HEARTBEAT_ACK, OF(heartbeat_ack, boot_of), 4, 1, 0},
    {REPLICA_HEARTBEAT_ACK, OF(heartbeat_ack, granted), 1, 1, 2},
    {REPLICA_HEARTBEAT_ACK, OF(heartbeat_ack, reserved[0]), 1, 0, 1},
    {REPLICA_HEARTBEAT_ACK, OF(heartbeat_ack, reserved[1]), 1, 0, 128},
    {REPLICA_HEARTBEAT_ACK, OF(heartbeat_ack, config.owner), 1, 1, 8},

    {REPLICA_RECORD, AFTER(0), 8, 1, 0},
    {REPLICA_RECORD, IN_RECORD(sequence), 8, 1, 0},
    {REPLICA_RECORD, IN_RECORD(sequence), 8, SEQUENCE_END - 1, SEQUENCE_END},
    {REPLICA_RECORD, IN_RECORD(sequence), 8, 2, NONE},
    {REPLICA_RECORD, IN_RECORD(epoch), 4, 9, 10},
    {REPLICA_RECORD, IN_RECORD(epoch), 4, 8, 7}, /* the one before is of 8 */
    {REPLICA_RECORD, IN_RECORD(previous_epoch), 4, 0, 9},
    {REPLICA_RECORD, IN_RECORD(change.kind), 1, WIRE_FREE, WIRE_FREE + 1},
    {REPLICA_RECORD, IN_RECORD(change.kind), 1, WIRE_WRITE, 0},
    {REPLICA_RECORD, IN_RECORD(change.kind), 1, WIRE_WRITE, WIRE_NOOP},
    {REPLICA_RECORD, IN_RECORD(change.reserved[0]), 1, 0, 1},
    {REPLICA_RECORD, IN_RECORD(change.reserved[2]), 1, 0, 1},
    {REPLICA_RECORD, IN_RECORD(change.count), 4, RECORD_BLOCKS_MAX, RECORD_BLOCKS_MAX + 1},
    {REPLICA_RECORD, IN_RECORD(change.count), 4, 1, 0},
    {REPLICA_RECORD, IN_RECORD(change.lba), 8, END - 4, END - 3},
    {REPLICA_RECORD, IN_RECORD(change.lba), 8, 0, NONE - 1}, /* its end is not below its beginning */
    {REPLICA_RECORD, IN_RECORD(change.request.node), 1, 7, 8},
    {REPLICA_RECORD, IN_RECORD(change.request.reserved[1]), 1, 0, 1},
    {REPLICA_RECORD, IN_RECORD(change.request.boot), 4, 1, 0},
    {REPLICA_RECORD, IN_RECORD(change.request.number), 8, 1, 0},
    {REPLICA_RECORD, IN_RECORD(change.request.number), 8, NONE - 1, NONE},
    {OPENING, IN_RECORD(change.count), 4, 0, 1},
    {OPENING, IN_RECORD(change.lba), 8, 0, 1},
    {OPENING, IN_RECORD(change.request.node), 1, 0, 1},
    {OPENING, IN_RECORD(change.request.boot), 4, 0, 1},
    {OPENING, IN_RECORD(change.request.number), 8, 0, 1},
    {OLD, IN_RECORD(sequence), 8, 1, 0},
    {NO_BLOCKS, IN_RECORD(change.kind), 1, WIRE_FREE, WIRE_NOOP}, /* nobody asks for that */
    {NO_BLOCKS, IN_RECORD(change.kind), 1, WIRE_FREE, WIRE_WRITE},
    {NO_BLOCKS, IN_RECORD(change.lba), 8, 0, 1},
    {OLD, IN_RECORD(change.count), 4, RECORD_BLOCKS_MAX, RECORD_BLOCKS_MAX + 1},
    {OLD, IN_RECORD(change.request.number), 8, 0, 1},

    {REPLICA_PREPARED, OF(prepared, join), 8, 1, 0},
    {REPLICA_PREPARED, OF(prepared, sequence), 8, 52, 53},
    {REPLICA_PREPARED, OF(prepared, end), 8, 52, 51},
    {REPLICA_PREPARED, OF(prepared, end), 8, SEQUENCE_END - 1, SEQUENCE_END},
    {REPLICA_PREPARED, OF(prepared, published.sequence), 8, 52, 53},
    {REPLICA_PREPARED, OF(prepared, published.sequence), 8, 1, 0}, /* of an epoch */
    {REPLICA_PREPARED, OF(prepared, published.epoch), 4, 9, 10},
    {REPLICA_PREPARED, OF(prepared, full), 1, 1, 2},
    {REPLICA_PREPARED, OF(prepared, reserved[0]), 1, 0, 1},
    {REPLICA_PREPARED, OF(prepared, reserved[2]), 1, 0, 1},
    {REPLICA_PREPARED, OF(prepared, want), 8, SEQUENCE_END - 1, NONE},
    {REPLICA_PREPARED, OF(prepared, credit), 8, NONE - 1, NONE},
    {REPLICA_PREPARED, OF(prepared, credit_at), 8, SEQUENCE_END - 1, SEQUENCE_END},

    {REPLICA_FORWARD, OF(forward, change.count), 4, RECORD_BLOCKS_MAX, RECORD_BLOCKS_MAX + 1},
    {REPLICA_FORWARD, OF(forward, since), 8, NONE - 1, NONE},
    {REPLICA_FORWARD, OF(forward, change.request.boot), 4, 1, 0},
    {FREEING, OF(forward, change.kind), 1, WIRE_WRITE, WIRE_NOOP},
    {FREEING, OF(forward, change.count), 4, RECORD_UNMAP_MAX, RECORD_UNMAP_MAX + 1},
    {FREEING, OF(forward, change.count), 4, 1, 0}, /* without blocks it begins nowhere */
    {FREEING, OF(forward, change.lba), 8, END - 4, END - 3},

    {REPLICA_CONFIRM, OF(confirm, ticket), 8, 1, 0},
    {REPLICA_CONFIRM, OF(confirm, request.node), 1, 7, 8},
    {REPLICA_CONFIRM, OF(confirm, request.reserved[0]), 1, 0, 1},
    {REPLICA_CONFIRM, OF(confirm, request.boot), 4, 1, 0},
    {REPLICA_CONFIRM, OF(confirm, request.number), 8, 1, 0},
    {REPLICA_CONFIRMED, OF(confirmed, ticket), 8, 1, 0},
    {REPLICA_CONFIRMED, OF(confirmed, alive), 1, 1, 2},
    {REPLICA_CONFIRMED, OF(confirmed, reserved[6]), 1, 0, 1},
    {REPLICA_DONE, OF(done, outcome), 1, WIRE_OVERTAKEN, WIRE_OVERTAKEN + 1},
    {REPLICA_DONE, OF(done, outcome), 1, WIRE_GOOD, 0},
    {REPLICA_DONE, OF(done, reserved[0]), 1, 0, 1},
    {REPLICA_DONE, OF(done, request.node), 1, 7, 8},
    {REPLICA_DONE, OF(done, request.number), 8, NONE - 1, NONE},

    {REPLICA_WANT, OF(want, join), 8, 1, 0},
    {REPLICA_WANT, OF(want, learn.base), 8, SEQUENCE_END - 1, SEQUENCE_END},
    {REPLICA_WANT, OF(want, learn.low), 8, NONE, 0},
    {REPLICA_WANT, OF(want, learn.low), 8, SEQUENCE_END - 1, SEQUENCE_END},
    {REPLICA_WANT, OF(want, learn.cursor), 8, END, END + 1},
    {REPLICA_WANT, OF(want, learn.cursor), 8, NONE, NONE - 1},
    {REPLICA_WANT, OF(want, learn.applied), 8, SEQUENCE_END - 1, SEQUENCE_END},
    {REPLICA_WANT, OF(want, learn.on), 1, 1, 2},
    {REPLICA_WANT, OF(want, learn.epoch), 4, 9, 10},
    {REPLICA_WANT, OF(want, learn.reserved[1]), 1, 0, 1},
    {REPLICA_WANT, OF(want, mark.sequence), 8, 1, 0},
    {REPLICA_WANT, OF(want, mark.sequence), 8, SEQUENCE_END - 1, SEQUENCE_END},
    {REPLICA_WANT, OF(want, mark.epoch), 4, 9, 10},
    {REPLICA_WANT, OF(want, check), 1, 1, 0},
    {REPLICA_WANT, OF(want, check), 1, 1, 2},
    {REPLICA_WANT, OF(want, digested), 1, 0, 2},
    {REPLICA_WANT, OF(want, reserved[1]), 1, 0, 1},
    {NEW, OF(want, check), 1, 0, 1},    /* compared nowhere */
    {NEW, OF(want, digested), 1, 0, 1}, /* a digest of nothing */
    {NEW, OF(want, mark.sequence), 8, 0, 1},
    {REPLICA_FOLLOW, OF(follow, join), 8, 1, 0},
    {REPLICA_FOLLOW, OF(follow, mark.sequence), 8, SEQUENCE_END - 1, SEQUENCE_END},
    {REPLICA_FOLLOW, OF(follow, mark.epoch), 4, 0, 10},

    {REPLICA_STEP, OF(step, join), 8, 1, 0},
    {REPLICA_STEP, OF(step, learn.on), 1, 1, 0},
    {REPLICA_STEP, OF(step, learn.cursor), 8, 0, END + 1},
    {REPLICA_STEP, OF(step, learn.applied), 8, 52, 53},
    {REPLICA_STEP, OF(step, cursor), 8, END, END + 1},
    {REPLICA_STEP, OF(step, cursor), 8, 0, NONE}, /* there is no stretch behind the end */
    {REPLICA_STEP, OF(step, applied), 8, 50, 49},
    {REPLICA_STEP, OF(step, applied), 8, 50, 0},
    {REPLICA_STEP, OF(step, stretch), 8, NONE - 100, NONE - 99},
    {REPLICA_STEP, OF(step, gap), 1, 0, 1}, /* a gap has no records */
    {REPLICA_STEP, OF(step, gap), 1, 0, 2},
    {REPLICA_STEP, OF(step, check), 1, 1, 2},
    {REPLICA_STEP, OF(step, learn.epoch), 4, 9, 10},
    {REPLICA_STEP, OF(step, digested), 1, 1, 0}, /* but one follows */
    {REPLICA_STEP, OF(step, digested), 1, 1, 2},
    {REPLICA_STEP, IN_COMPARE(windows), 1, 128, 0},
    {REPLICA_STEP, IN_COMPARE(reserved[2]), 1, 0, 1},
    {REPLICA_STEP, OF(step, count), 1, 2, 1},
    {REPLICA_STEP, OF(step, count), 1, 2, REPLICA_STEP_RECORDS + 1},
    {REPLICA_STEP, OF(step, count), 1, 2, 255},
    {REPLICA_STEP, IN_COMPARE(mark.sequence), 8, 52, 51},
    {REPLICA_STEP, IN_COMPARE(mark.epoch), 4, 9, 10},
    {REPLICA_STEP, IN_WINDOW(boot), 4, 1, 0},
    {REPLICA_STEP, IN_WINDOW(high), 8, 1, 0},
    {REPLICA_STEP, IN_WINDOW(high), 8, NONE - 1, NONE},
    {REPLICA_STEP, IN_WINDOW(done), 8, 1, 2},
    {REPLICA_STEP, IN_STEP(0, sequence), 8, 51, 52},
    {REPLICA_STEP, IN_STEP(1, sequence), 8, 52, 53},
    {REPLICA_STEP, IN_STEP(1, epoch), 4, 9, 10},
    {REPLICA_STEP, IN_STEP(1, previous_epoch), 4, 8, 7},
    {REPLICA_STEP, IN_STEP(1, change.count), 4, RECORD_BLOCKS_MAX, RECORD_BLOCKS_MAX + 1},
    {UNCHECKED, OF(step, digested), 1, 0, 2},
    {DIGESTED, OF(step, check), 1, 0, 2},
    {DIGESTED, IN_COMPARE(mark.sequence), 8, 52, 53},
    {DIGESTED, IN_COMPARE(mark.sequence), 8, 1, 0},
    {DIGESTED, IN_COMPARE(mark.epoch), 4, 9, 10},
    {DIGESTED, IN_COMPARE(windows), 1, 0, 1},
    {GAPPED, OF(step, gap), 1, 1, 0}, /* nothing goes from 50 to 52 */
    {GAPPED, OF(step, applied), 8, 0, SEQUENCE_END},

    {REPLICA_ASK, OF(ask, read), 8, 1, 0},
    {REPLICA_ASK, OF(ask, version), 8, 1, 0},
    {REPLICA_AGREED, OF(ask, read), 8, 1, 0},
    {REPLICA_AGREED, OF(ask, version), 8, NONE - 1, NONE},

    {REPLICA_BORROW, OF(borrow, read), 8, 1, 0},
    {REPLICA_BORROW, OF(borrow, lba), 8, VOLUME_BLOCKS_MAX - 1, VOLUME_BLOCKS_MAX},
    {REPLICA_BORROW, OF(borrow, lba), 8, 0, NONE},
    {REPLICA_LENT, OF(lent, read), 8, NONE, 0},
    {REPLICA_LENT, OF(lent, has), 1, 1, 2},
    {REPLICA_LENT, OF(lent, reserved), 1, 0, 1},
};

static enum err spoiled(uint32_t what, size_t at, uint32_t width, uint64_t value)
{
    uint8_t head[LINK_HEAD_MAX];
    struct replica_message m, back;
    uint32_t volume;
    plain(what, &m);
    uint32_t bytes = replica_encode(1, &m, head);
    le64 wire = put64(value);
    if (at + width > bytes) return ERR_RANGE;
    memcpy(head + at, wire.b, width);
    return replica_decode(head, bytes, &volume, &back);
}

TEST(limits_are_kept)
{
    for (uint32_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        const struct limit *l = &limits[i];
        enum err good = spoiled(l->what, l->at, l->width, l->good), bad = spoiled(l->what, l->at, l->width, l->bad);
        if (good != OK || bad != ERR_DECODE) printf("# limit %u: %s, %s\n", i, err_name(good), err_name(bad));
        CHECK_OK(good);
        CHECK_ERR(ERR_DECODE, bad);
    }
    CHECK_ERR(ERR_TRUNCATED, spoiled(REPLICA_HEARTBEAT, OF(heartbeat, config.joins), 1, 15));
    CHECK(spoiled(REPLICA_STEP, IN_COMPARE(windows), 1, 255) != OK);
    CHECK_OK(spoiled(REPLICA_HEARTBEAT, OF(heartbeat, clock), 8, NONE)); /* clocks have no limits */
    CHECK_OK(spoiled(REPLICA_HEARTBEAT_ACK, OF(heartbeat_ack, echo), 8, NONE));
    for (uint32_t kind = 0; kind < KINDS; kind++) {
        CHECK_ERR(ERR_NEW_FORMAT, spoiled(kind, HEAD(version), 1, REPLICA_WIRE_VERSION + 1));
        CHECK_ERR(ERR_NEW_FORMAT, spoiled(kind, HEAD(version), 1, 255));
        CHECK_ERR(ERR_DECODE, spoiled(kind, HEAD(version), 1, 0));
        CHECK_ERR(kind == REPLICA_CONFIRMED ? OK : ERR_DECODE, spoiled(kind, HEAD(epoch), 4, 0));
    }
}

/* A step that brings a learner nowhere has nothing to be compared. */
TEST(nothing_is_not_compared)
{
    uint8_t head[LINK_HEAD_MAX];
    struct replica_message m, back;
    uint32_t volume;
    plain(BEGUN, &m);
    uint32_t bytes = replica_encode(1, &m, head);
    CHECK_OK(replica_decode(head, bytes, &volume, &back));
    memset(head + OF(step, learn.applied), 0, sizeof(le64));
    memset(head + IN_COMPARE(mark.sequence), 0, sizeof(le64));
    CHECK_ERR(ERR_DECODE, replica_decode(head, bytes, &volume, &back));
}

/* What is said of a message of which some bytes are zeros now. */
static enum err zeroed(uint32_t what, size_t at, size_t size)
{
    uint8_t head[LINK_HEAD_MAX];
    struct replica_message m, back;
    uint32_t volume;
    plain(what, &m);
    uint32_t bytes = replica_encode(1, &m, head);
    memset(head + at, 0, size);
    return replica_decode(head, bytes, &volume, &back);
}

TEST(nobody_is_in_records_only)
{
    size_t size = sizeof(struct wire_replica_request);
    CHECK_OK(zeroed(REPLICA_RECORD, IN_RECORD(change.request), size));
    CHECK_ERR(ERR_DECODE, zeroed(REPLICA_FORWARD, OF(forward, change.request), size));
    CHECK_ERR(ERR_DECODE, zeroed(REPLICA_CONFIRM, OF(confirm, request), size));
    CHECK_ERR(ERR_DECODE, zeroed(REPLICA_DONE, OF(done, request), size));
    CHECK_ERR(ERR_DECODE, zeroed(REPLICA_STEP, IN_WINDOW(boot), sizeof(struct wire_replica_window))); /* nor is it listed */
}

TEST(a_new_version_is_told_from_its_first_byte)
{
    const uint8_t newer = REPLICA_WIRE_VERSION + 1;
    struct replica_message m;
    struct cursor c;
    uint32_t volume;
    CHECK_ERR(ERR_NEW_FORMAT, replica_decode(&newer, 1, &volume, &m));
    CHECK_ERR(ERR_NEW_FORMAT, replica_heartbeats_decode(&newer, 1, &c));
}

TEST(content_is_what_blocks_have)
{
    struct replica_message m;
    for (uint32_t kind = 0; kind < KINDS; kind++) {
        plain(kind, &m);
        bool has = kind == REPLICA_RECORD || kind == REPLICA_FORWARD || kind == REPLICA_STEP;
        CHECK(replica_has_content(&m) == has);
    }
    plain(OPENING, &m);
    CHECK(!replica_has_content(&m));
    plain(REPLICA_STEP, &m);
    m.u.step.stretch = 0;
    CHECK(replica_has_content(&m)); /* of its records */
    m.u.step.records[0].change.kind = m.u.step.records[1].change.kind = REPLICA_NOOP;
    CHECK(!replica_has_content(&m));
    m.u.step.stretch = 1;
    CHECK(replica_has_content(&m));
}

/* ---- what cannot be is not said ---- */

static bool is_said(const struct replica_message *m)
{
    uint8_t head[LINK_HEAD_MAX];
    memset(head, 0x5a, sizeof head);
    bool said = replica_encode(1, m, head) != 0;
    for (uint32_t i = 0; i < sizeof head; i++) said = said || head[i] != 0x5a; /* untouched otherwise */
    return said;
}

/* Of every kind: the limits that all have. */
TEST(impossible_messages_are_not_said)
{
    struct replica_message m;
    for (uint32_t kind = 0; kind < KINDS; kind++) {
        plain(kind, &m);
        CHECK(is_said(&m));
        m.from = REPLICA_NODES_MAX;
        CHECK(!is_said(&m));
        plain(kind, &m);
        m.boot = 0;
        CHECK(!is_said(&m));
        plain(kind, &m);
        m.commit = SEQUENCE_END;
        CHECK(!is_said(&m));
        plain(kind, &m);
        m.epoch = 0;
        CHECK(is_said(&m) == (kind == REPLICA_CONFIRMED));
        plain(kind, &m);
        m.join = 0;
        bool needs = has_join((enum replica_message_kind)kind) && kind > REPLICA_HEARTBEAT_ACK;
        CHECK(is_said(&m) == !needs);
    }
    plain(REPLICA_COMMIT, &m);
    m.kind = (enum replica_message_kind)KINDS;
    CHECK(!is_said(&m));
}

/* Of some kinds: numbers that do not agree with each other, and counts that would lead out of the message. */
TEST(contradictions_are_not_said)
{
    struct replica_message m;
    plain(REPLICA_STEP, &m);
    m.u.step.count = REPLICA_STEP_RECORDS + 1;
    CHECK(!is_said(&m));
    m.u.step.count = UINT32_MAX;
    CHECK(!is_said(&m));
    plain(REPLICA_STEP, &m);
    m.u.step.records[1].mark.sequence++;
    CHECK(!is_said(&m));
    plain(REPLICA_RECORD, &m);
    m.u.record.mark.epoch = m.epoch + 1;
    CHECK(!is_said(&m));
    plain(REPLICA_HEARTBEAT, &m);
    m.u.beat.config.owner = UINT8_MAX;
    CHECK(!is_said(&m));
    plain(REPLICA_CONFIRMED, &m);
    m.u.forward.ticket = 0;
    CHECK(!is_said(&m));
    plain(REPLICA_DONE, &m);
    m.u.forward.outcome = (enum replica_outcome)4;
    CHECK(!is_said(&m));
    plain(REPLICA_FORWARD, &m);
    m.u.forward.change.kind = (enum replica_kind)3;
    CHECK(!is_said(&m));
    plain(REPLICA_PREPARED, &m);
    m.u.prepared.end--;
    CHECK(!is_said(&m));
}

/* ---- many heartbeats ---- */

TEST(impossible_heartbeats_are_dropped)
{
    static uint8_t head[LINK_HEAD_MAX];
    struct replica_heartbeats many;
    struct replica_message m, odd, back;
    struct cursor c;
    uint32_t volume = 0;
    plain(REPLICA_HEARTBEAT, &m);
    plain(REPLICA_HEARTBEAT_ACK, &odd);
    odd.u.beat.version = odd.u.beat.config.version - 1;
    replica_heartbeats_begin(&many, head);
    CHECK(replica_heartbeats_add(&many, 1, &odd));
    CHECK_EQ(many.count, 0);
    CHECK_EQ(many.dropped, 1);
    CHECK(replica_heartbeats_add(&many, 2, &m));
    uint32_t bytes = many.bytes;
    CHECK(replica_heartbeats_add(&many, 3, &odd));
    CHECK_EQ(many.bytes, bytes);
    CHECK_EQ(many.dropped, 2);
    CHECK(replica_heartbeats_add(&many, 4, &m));
    CHECK_EQ(many.count, 2);
    CHECK_OK(replica_heartbeats_decode(head, many.bytes, &c));
    for (uint32_t expected = 2; expected <= 4; expected += 2) {
        CHECK(replica_heartbeats_take(&c, &volume, &back));
        CHECK_EQ(volume, expected);
        CHECK_BYTES(&back, &m, sizeof back);
    }
    CHECK(!replica_heartbeats_take(&c, &volume, &back));
}

TEST(heartbeats_fill_a_head)
{
    static uint8_t head[LINK_HEAD_MAX + 1];
    struct replica_heartbeats many;
    struct replica_message m, back;
    struct cursor c;
    uint32_t volume = 0, taken = 0;
    plain(REPLICA_HEARTBEAT, &m);
    replica_heartbeats_begin(&many, head);
    while (replica_heartbeats_add(&many, many.count + 1, &m)) CHECK(many.bytes <= LINK_HEAD_MAX);
    CHECK_EQ(many.count, 39);
    CHECK_OK(replica_heartbeats_decode(head, many.bytes, &c));
    while (replica_heartbeats_take(&c, &volume, &back)) {
        CHECK_EQ(volume, ++taken);
        CHECK_BYTES(&back, &m, sizeof back);
    }
    CHECK_EQ(taken, many.count);
    for (uint32_t size = 0; size < many.bytes; size++) CHECK_ERR(ERR_TRUNCATED, replica_heartbeats_decode(head, size, &c));
    CHECK_ERR(ERR_DECODE, replica_heartbeats_decode(head, many.bytes + 1, &c));
    CHECK_ERR(ERR_DECODE, replica_decode(head, many.bytes, &volume, &back));
}

TEST(random_heartbeats_come_back)
{
    static uint8_t head[LINK_HEAD_MAX];
    struct replica_message m, back;
    struct replica_heartbeats many;
    struct cursor c;
    uint32_t volume = 0;
    for (uint64_t seed = 0; seed < ROUNDS; seed++) {
        replica_heartbeats_begin(&many, head);
        for (bool fits = true; fits;) {
            draw(seed * 1000 + many.count, (enum replica_message_kind)(many.count % 2), 0, &m);
            fits = replica_heartbeats_add(&many, 9, &m);
        }
        CHECK(many.count >= 25 && many.bytes <= LINK_HEAD_MAX);
        CHECK_OK(replica_heartbeats_decode(head, many.bytes, &c));
        for (uint32_t i = 0; i < many.count; i++) {
            draw(seed * 1000 + i, (enum replica_message_kind)(i % 2), 0, &m);
            CHECK(replica_heartbeats_take(&c, &volume, &back) && volume == 9);
            CHECK_BYTES(&back, &m, sizeof back);
        }
        CHECK(!replica_heartbeats_take(&c, &volume, &back));
    }
}

/* What is said about two heartbeats of which one byte is changed. */
static enum err changed(size_t at, uint8_t to)
{
    uint8_t head[LINK_HEAD_MAX];
    struct replica_heartbeats many;
    struct replica_message m;
    struct cursor c;
    plain(REPLICA_HEARTBEAT, &m);
    replica_heartbeats_begin(&many, head);
    replica_heartbeats_add(&many, 1, &m);
    replica_heartbeats_add(&many, 2, &m);
    head[at] = to;
    return replica_heartbeats_decode(head, many.bytes, &c);
}

TEST(heartbeats_keep_limits)
{
    const uint8_t first = sizeof(struct wire_replica_heartbeats), second = (uint8_t)(first + JOIN_OF(3));
    const uint8_t none[] = {REPLICA_WIRE_VERSION, WIRE_HEARTBEATS, 0, 0};
    struct cursor c;
    CHECK_ERR(ERR_DECODE, replica_heartbeats_decode(none, sizeof none, &c));
    CHECK_OK(changed(2, 2));
    CHECK_ERR(ERR_DECODE, changed(2, 0));
    CHECK_ERR(ERR_DECODE, changed(2, 1));
    CHECK_ERR(ERR_TRUNCATED, changed(2, 3));
    CHECK_ERR(ERR_TRUNCATED, changed(3, 1));
    CHECK_ERR(ERR_NEW_FORMAT, changed(0, REPLICA_WIRE_VERSION + 1));
    CHECK_ERR(ERR_DECODE, changed(0, 0));
    CHECK_ERR(ERR_DECODE, changed(1, WIRE_HEARTBEAT));
    CHECK_OK(changed(second, REPLICA_WIRE_VERSION));
    CHECK_ERR(ERR_NEW_FORMAT, changed(second, REPLICA_WIRE_VERSION + 1)); /* the second one's version */
    CHECK_ERR(ERR_DECODE, changed(second + HEAD(from), 8));
    CHECK_ERR(ERR_DECODE, changed(first + HEAD(kind), WIRE_HEARTBEATS));
    CHECK_ERR(ERR_DECODE, changed(first + HEAD(kind), WIRE_COMMIT));
}

/* Other kinds that are well in themselves. */
TEST(heartbeats_are_nothing_else)
{
    uint8_t head[LINK_HEAD_MAX] = {REPLICA_WIRE_VERSION, WIRE_HEARTBEATS, 1, 0};
    struct replica_message m;
    struct cursor c;
    for (uint32_t kind = 0; kind < KINDS; kind++) {
        uint8_t one[LINK_HEAD_MAX];
        plain(kind, &m);
        uint32_t bytes = replica_encode(1, &m, one);
        memcpy(head + sizeof(struct wire_replica_heartbeats), one, bytes);
        enum err expected = kind <= REPLICA_HEARTBEAT_ACK ? OK : ERR_DECODE;
        CHECK_ERR(expected, replica_heartbeats_decode(head, sizeof(struct wire_replica_heartbeats) + bytes, &c));
    }
}

TESTS(random_messages_come_back, limits_are_kept, nothing_is_not_compared, nobody_is_in_records_only,
      a_new_version_is_told_from_its_first_byte, content_is_what_blocks_have, impossible_messages_are_not_said,
      contradictions_are_not_said, impossible_heartbeats_are_dropped, heartbeats_fill_a_head, random_heartbeats_come_back,
      heartbeats_keep_limits, heartbeats_are_nothing_else)
