/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages of replicas: a row in `forms` for each kind, with what writes it and what reads it.
 *
 * What a form of bytes must keep to (flags, reserved bytes, what is listed) is judged where it is read; what its numbers must
 * keep to, in `is_possible`, on the host struct: decoders refuse what it does not like, and encoders make nothing of it. That
 * is no programmer's error: after odd numbers from a peer, each of them possible, a core may come to say impossible ones.
 */
#include "volume/replica/codec.h"

#include "store/format.h"
#include "volume/replica/replica.h"

static_assert((int)REPLICA_NOOP + 1 == WIRE_NOOP && (int)REPLICA_WRITE + 1 == WIRE_WRITE && (int)REPLICA_FREE + 1 == WIRE_FREE,
              "kinds of changes are one more on the wire");
static_assert((int)REPLICA_GOOD + 1 == WIRE_GOOD && (int)REPLICA_BUSY + 1 == WIRE_BUSY && (int)REPLICA_FULL + 1 == WIRE_FULL &&
                  (int)REPLICA_OVERTAKEN + 1 == WIRE_OVERTAKEN,
              "so are outcomes");
static_assert(REPLICA_NODES_MAX == 8 && REPLICA_STEP_RECORDS <= UINT8_MAX, "sets of nodes and counts of records are bytes");

enum { JOINS_BYTES = REPLICA_NODES_MAX * (int)sizeof(le64) };

#define FITS(kind, bytes)                                                                                                      \
    static_assert(sizeof(struct wire_replica_message) + (bytes) <= LINK_HEAD_MAX, #kind " fits into a head")
FITS(WIRE_HEARTBEAT, sizeof(struct wire_replica_heartbeat) + JOINS_BYTES);
FITS(WIRE_HEARTBEAT_ACK, sizeof(struct wire_replica_heartbeat_ack) + JOINS_BYTES);
FITS(WIRE_RECORD, sizeof(struct wire_replica_join) + sizeof(struct wire_replica_record));
FITS(WIRE_PREPARED, sizeof(struct wire_replica_prepared));
FITS(WIRE_COMMIT, sizeof(struct wire_replica_join));
FITS(WIRE_FORWARD, sizeof(struct wire_replica_forward));
FITS(WIRE_CONFIRM, sizeof(struct wire_replica_confirm));
FITS(WIRE_CONFIRMED, sizeof(struct wire_replica_confirmed));
FITS(WIRE_DONE, sizeof(struct wire_replica_done));
FITS(WIRE_WANT, sizeof(struct wire_replica_want));
FITS(WIRE_STEP, sizeof(struct wire_replica_step) + sizeof(struct wire_replica_compare) + sizeof(struct wire_replica_digest) +
                    REPLICA_NODES_MAX * sizeof(struct wire_replica_window) +
                    REPLICA_STEP_RECORDS * sizeof(struct wire_replica_record));
FITS(WIRE_FOLLOW, sizeof(struct wire_replica_follow));
FITS(WIRE_AGAIN, sizeof(struct wire_replica_join));
FITS(WIRE_ASK, sizeof(struct wire_replica_ask));
FITS(WIRE_AGREED, sizeof(struct wire_replica_ask));
FITS(WIRE_BORROW, sizeof(struct wire_replica_borrow));
FITS(WIRE_LENT, sizeof(struct wire_replica_lent));

enum {
    BEAT_BYTES_MAX = (int)(sizeof(struct wire_replica_message) + sizeof(struct wire_replica_heartbeat_ack)) + JOINS_BYTES,
    BEATS_MAX = LINK_HEAD_MAX / (int)(sizeof(struct wire_replica_message) + sizeof(struct wire_replica_heartbeat)),
};
static_assert(sizeof(struct wire_replica_heartbeats) + BEAT_BYTES_MAX <= LINK_HEAD_MAX,
              "an empty head has room for any heartbeat");
static_assert(BEATS_MAX <= UINT16_MAX, "their number fits");

/* ---- bytes ---- */

struct out {
    uint8_t *at;
    uint32_t bytes, room;
};

static void put(struct out *out, const void *wire, size_t size)
{
    assert(size <= out->room - out->bytes);
    memcpy(out->at + out->bytes, wire, size);
    out->bytes += (uint32_t)size;
}

static enum err take(struct cursor *c, void *ret_wire, size_t size)
{
    const void *at = cursor_take(c, size);
    if (at == NULL) return ERR_TRUNCATED;
    memcpy(ret_wire, at, size);
    return OK;
}

static enum err flag_decode(uint8_t flag, bool *ret_flag)
{
    if (flag > 1) return ERR_DECODE;
    *ret_flag = flag != 0;
    return OK;
}

static enum err reserved_decode(const uint8_t *reserved, size_t size)
{
    return bytes_are_zero(reserved, size) ? OK : ERR_DECODE;
}

/* ---- what can be ---- */

/* Of the store; 0 where there is none. */
static bool is_sequence(uint64_t sequence)
{
    return sequence < POINTER_GRAFT;
}

/* A count that something began at 1, and that goes on. */
static bool is_number(uint64_t number)
{
    return number != 0 && number != UINT64_MAX;
}

static bool mark_is_possible(const struct replica_mark *mark, uint32_t epoch)
{
    if (mark->sequence == 0) return mark->epoch == 0;
    return is_sequence(mark->sequence) && mark->epoch <= epoch;
}

static bool request_is_possible(const struct replica_request *request)
{
    return request->node < REPLICA_NODES_MAX && request->boot != 0 && is_number(request->number);
}

static bool request_is_nobodys(const struct replica_request *request)
{
    return request->node == 0 && request->boot == 0 && request->number == 0;
}

/* Whoever asked for it. */
static bool blocks_are_possible(const struct replica_change *change)
{
    bool in_volume = change->lba <= VOLUME_BLOCKS_MAX && change->count <= VOLUME_BLOCKS_MAX - change->lba;
    if (!in_volume || (change->count == 0 && change->lba != 0)) return false;
    switch (change->kind) {
    case REPLICA_NOOP: return change->count == 0;
    case REPLICA_WRITE: return change->count >= 1 && change->count <= RECORD_BLOCKS_MAX;
    case REPLICA_FREE: return change->count <= RECORD_UNMAP_MAX;
    }
    return false;
}

/* What was written before the volume was replicated was asked for by nobody that is known. */
static bool change_is_possible(const struct replica_change *change)
{
    if (request_is_nobodys(&change->request)) return blocks_are_possible(change);
    return change->kind != REPLICA_NOOP && blocks_are_possible(change) && request_is_possible(&change->request);
}

/* `epoch`: of the message, in which nothing is from the future. */
static bool record_is_possible(const struct replica_record *record, uint32_t epoch)
{
    return record->mark.sequence != 0 && mark_is_possible(&record->mark, epoch) &&
           record->previous_epoch <= record->mark.epoch && change_is_possible(&record->change);
}

bool replica_config_is_possible(const struct replica_config *config)
{
    if (!is_number(config->version) || config->epoch == 0) return false;
    if (config->owner >= REPLICA_NODES_MAX || !set_has(config->in_sync, config->owner)) return false;
    if ((config->in_sync & config->learners) != 0) return false;
    for (uint32_t node = 0; node < REPLICA_NODES_MAX; node++)
        if (set_has(config->in_sync, node) && config->join[node] == 0) return false;
    if (config->forced_epoch == 0) return config->forced_sequence == 0;
    return config->forced_epoch <= config->epoch && is_sequence(config->forced_sequence);
}

static bool prepared_is_possible(const struct replica_prepared *p, uint32_t epoch)
{
    if (!is_sequence(p->end) || p->sequence > p->end || p->published.sequence > p->end) return false;
    if (!mark_is_possible(&p->published, epoch)) return false;
    return is_sequence(p->want) && is_sequence(p->credit_at) && p->credit != UINT64_MAX;
}

static bool cursor_is_possible(uint64_t cursor)
{
    return cursor <= VOLUME_BLOCKS_MAX || cursor == REPLICA_WALK_END;
}

static bool learn_is_possible(const struct replica_learn *learn, uint32_t epoch)
{
    if (learn->epoch > epoch) return false;
    if (!is_sequence(learn->base) || !is_sequence(learn->applied) || !cursor_is_possible(learn->cursor)) return false;
    return learn->low == REPLICA_NO_GAP || (learn->low != 0 && is_sequence(learn->low));
}

static bool window_is_possible(const struct replica_window *w)
{
    if (w->boot == 0) return w->high == 0 && w->done == 0;
    return is_number(w->high) && (w->done & 1) != 0;
}

static bool is_compared(const struct replica_step *s)
{
    return s->check || s->digested;
}

/* Where contents are compared: it is there, or was. */
static bool compare_is_possible(const struct replica_step *s, uint32_t epoch)
{
    if (!is_compared(s)) return true;
    if (s->mark.sequence == 0 || s->mark.sequence > s->learn.applied || !mark_is_possible(&s->mark, epoch)) return false;
    if (s->check && s->mark.sequence != s->learn.applied) return false;
    for (uint32_t node = 0; s->check && node < REPLICA_NODES_MAX; node++)
        if (!window_is_possible(&s->windows[node])) return false;
    return true;
}

/* Records come right behind what was applied, each names the one before it, and with the last one it is where it says. */
static bool records_are_possible(const struct replica_step *s, uint32_t epoch)
{
    if (s->count > REPLICA_STEP_RECORDS) return false;
    if (s->gap || s->applied == 0) return s->count == 0;
    for (uint32_t i = 0; i < s->count; i++) {
        const struct replica_record *record = &s->records[i];
        if (!record_is_possible(record, epoch) || record->mark.sequence != s->applied + 1 + i) return false;
        if (i > 0 && record->previous_epoch != s->records[i - 1].mark.epoch) return false;
    }
    return s->learn.applied == s->applied + s->count;
}

static bool step_is_possible(const struct replica_step *s, uint32_t epoch)
{
    if (!learn_is_possible(&s->learn, epoch) || !s->learn.on) return false;
    if (!cursor_is_possible(s->cursor) || !is_sequence(s->applied) || s->stretch > UINT64_MAX - s->cursor) return false;
    return records_are_possible(s, epoch) && compare_is_possible(s, epoch);
}

static bool want_is_possible(const struct replica_step *s, uint32_t epoch)
{
    if (!learn_is_possible(&s->learn, epoch) || !mark_is_possible(&s->mark, epoch)) return false;
    return s->check == (s->mark.sequence != 0) && (s->check || !s->digested);
}

static bool outcome_is_possible(enum replica_outcome outcome)
{
    return outcome == REPLICA_GOOD || outcome == REPLICA_BUSY || outcome == REPLICA_FULL || outcome == REPLICA_OVERTAKEN;
}

static bool is_possible(const struct replica_message *m)
{
    if (m->from >= REPLICA_NODES_MAX || m->boot == 0 || !is_sequence(m->commit)) return false;
    if (m->epoch == 0 && m->kind != REPLICA_CONFIRMED) return false;
    const struct replica_forward *f = &m->u.forward;
    switch (m->kind) {
    case REPLICA_HEARTBEAT: return replica_config_is_possible(&m->u.beat.config);
    case REPLICA_HEARTBEAT_ACK:
        return replica_config_is_possible(&m->u.beat.config) && m->u.beat.version >= m->u.beat.config.version &&
               is_number(m->u.beat.version) && m->u.beat.boot_of != 0;
    case REPLICA_RECORD: return m->join != 0 && record_is_possible(&m->u.record, m->epoch);
    case REPLICA_PREPARED: return m->join != 0 && prepared_is_possible(&m->u.prepared, m->epoch);
    case REPLICA_COMMIT:
    case REPLICA_AGAIN: return m->join != 0;
    case REPLICA_FORWARD:
        return change_is_possible(&f->change) && request_is_possible(&f->change.request) && f->change.since != UINT64_MAX;
    case REPLICA_CONFIRM: return f->ticket != 0 && request_is_possible(&f->change.request);
    case REPLICA_CONFIRMED: return f->ticket != 0;
    case REPLICA_DONE: return outcome_is_possible(f->outcome) && request_is_possible(&f->change.request);
    case REPLICA_WANT: return m->join != 0 && want_is_possible(&m->u.step, m->epoch);
    case REPLICA_STEP: return m->join != 0 && step_is_possible(&m->u.step, m->epoch);
    case REPLICA_FOLLOW: return m->join != 0 && mark_is_possible(&m->u.step.mark, m->epoch);
    case REPLICA_ASK:
    case REPLICA_AGREED: return m->read != 0 && is_number(m->u.beat.version);
    case REPLICA_BORROW: return m->read != 0 && m->u.borrow.lba < VOLUME_BLOCKS_MAX;
    case REPLICA_LENT: return m->read != 0;
    }
    return false;
}

/* ---- heartbeats ---- */

static struct wire_replica_config config_encode(const struct replica_config *config)
{
    uint8_t joins = 0;
    for (uint32_t node = 0; node < REPLICA_NODES_MAX; node++)
        if (config->join[node] != 0) joins |= node_bit(node);
    return (struct wire_replica_config){.version = put64(config->version),
                                        .epoch = put32(config->epoch),
                                        .boot = put32(config->boot),
                                        .owner = config->owner,
                                        .in_sync = config->in_sync,
                                        .learners = config->learners,
                                        .joins = joins,
                                        .forced_epoch = put32(config->forced_epoch),
                                        .forced_sequence = put64(config->forced_sequence)};
}

static void joins_encode(struct out *out, const struct replica_config *config)
{
    for (uint32_t node = 0; node < REPLICA_NODES_MAX; node++) {
        le64 join = put64(config->join[node]);
        if (config->join[node] != 0) put(out, &join, sizeof join);
    }
}

static enum err config_decode(struct cursor *c, const struct wire_replica_config *wire, struct replica_config *ret_config)
{
    ret_config->version = get64(wire->version);
    ret_config->epoch = get32(wire->epoch);
    ret_config->boot = get32(wire->boot);
    ret_config->owner = wire->owner;
    ret_config->in_sync = wire->in_sync;
    ret_config->learners = wire->learners;
    ret_config->forced_epoch = get32(wire->forced_epoch);
    ret_config->forced_sequence = get64(wire->forced_sequence);
    for (uint32_t node = 0; node < REPLICA_NODES_MAX; node++) {
        le64 join;
        if (!set_has(wire->joins, node)) continue;
        TRY(take(c, &join, sizeof join));
        ret_config->join[node] = get64(join);
        if (ret_config->join[node] == 0) return ERR_DECODE;
    }
    return OK;
}

static void heartbeat_encode(struct out *out, const struct replica_message *m)
{
    struct wire_replica_heartbeat wire = {.join = put64(m->join),
                                          .clock = put64(m->u.beat.clock),
                                          .silent = m->u.beat.silent,
                                          .config = config_encode(&m->u.beat.config)};
    put(out, &wire, sizeof wire);
    joins_encode(out, &m->u.beat.config);
}

static enum err heartbeat_decode(struct cursor *c, struct replica_message *m)
{
    struct wire_replica_heartbeat wire;
    TRY(take(c, &wire, sizeof wire));
    TRY(reserved_decode(wire.reserved, sizeof wire.reserved));
    m->join = get64(wire.join);
    m->u.beat.clock = get64(wire.clock);
    m->u.beat.silent = wire.silent;
    return config_decode(c, &wire.config, &m->u.beat.config);
}

static void heartbeat_ack_encode(struct out *out, const struct replica_message *m)
{
    const struct replica_heartbeat *beat = &m->u.beat;
    struct wire_replica_heartbeat_ack wire = {.join = put64(m->join),
                                              .clock = put64(beat->clock),
                                              .echo = put64(beat->echo),
                                              .version = put64(beat->version),
                                              .boot_of = put32(beat->boot_of),
                                              .granted = beat->granted,
                                              .silent = beat->silent,
                                              .config = config_encode(&beat->config)};
    put(out, &wire, sizeof wire);
    joins_encode(out, &beat->config);
}

static enum err heartbeat_ack_decode(struct cursor *c, struct replica_message *m)
{
    struct wire_replica_heartbeat_ack wire;
    struct replica_heartbeat *beat = &m->u.beat;
    TRY(take(c, &wire, sizeof wire));
    TRY(flag_decode(wire.granted, &beat->granted));
    TRY(reserved_decode(wire.reserved, sizeof wire.reserved));
    m->join = get64(wire.join);
    beat->clock = get64(wire.clock);
    beat->echo = get64(wire.echo);
    beat->version = get64(wire.version);
    beat->boot_of = get32(wire.boot_of);
    beat->silent = wire.silent;
    return config_decode(c, &wire.config, &beat->config);
}

/* ---- records ---- */

static struct wire_replica_mark mark_encode(const struct replica_mark *mark)
{
    return (struct wire_replica_mark){.sequence = put64(mark->sequence), .epoch = put32(mark->epoch)};
}

static void mark_decode(const struct wire_replica_mark *wire, struct replica_mark *ret_mark)
{
    ret_mark->sequence = get64(wire->sequence);
    ret_mark->epoch = get32(wire->epoch);
}

static struct wire_replica_request request_encode(const struct replica_request *request)
{
    return (struct wire_replica_request){.node = request->node, .boot = put32(request->boot), .number = put64(request->number)};
}

static enum err request_decode(const struct wire_replica_request *wire, struct replica_request *ret_request)
{
    ret_request->node = wire->node;
    ret_request->boot = get32(wire->boot);
    ret_request->number = get64(wire->number);
    return reserved_decode(wire->reserved, sizeof wire->reserved);
}

static struct wire_replica_change change_encode(const struct replica_change *change)
{
    return (struct wire_replica_change){.kind = (uint8_t)(change->kind + 1),
                                        .count = put32(change->count),
                                        .lba = put64(change->lba),
                                        .request = request_encode(&change->request)};
}

static enum err change_decode(const struct wire_replica_change *wire, struct replica_change *ret_change)
{
    if (wire->kind < WIRE_NOOP || wire->kind > WIRE_FREE) return ERR_DECODE;
    TRY(reserved_decode(wire->reserved, sizeof wire->reserved));
    ret_change->kind = (enum replica_kind)(wire->kind - 1);
    ret_change->count = get32(wire->count);
    ret_change->lba = get64(wire->lba);
    return request_decode(&wire->request, &ret_change->request);
}

static void record_put(struct out *out, const struct replica_record *record)
{
    struct wire_replica_record wire = {.sequence = put64(record->mark.sequence),
                                       .epoch = put32(record->mark.epoch),
                                       .previous_epoch = put32(record->previous_epoch),
                                       .change = change_encode(&record->change)};
    put(out, &wire, sizeof wire);
}

static enum err record_take(struct cursor *c, struct replica_record *ret_record)
{
    struct wire_replica_record wire;
    TRY(take(c, &wire, sizeof wire));
    ret_record->mark.sequence = get64(wire.sequence);
    ret_record->mark.epoch = get32(wire.epoch);
    ret_record->previous_epoch = get32(wire.previous_epoch);
    return change_decode(&wire.change, &ret_record->change);
}

/* COMMIT and AGAIN are nothing else. */
static void join_encode(struct out *out, const struct replica_message *m)
{
    struct wire_replica_join wire = {.join = put64(m->join)};
    put(out, &wire, sizeof wire);
}

static enum err join_decode(struct cursor *c, struct replica_message *m)
{
    struct wire_replica_join wire;
    TRY(take(c, &wire, sizeof wire));
    m->join = get64(wire.join);
    return OK;
}

static void record_encode(struct out *out, const struct replica_message *m)
{
    join_encode(out, m);
    record_put(out, &m->u.record);
}

static enum err record_decode(struct cursor *c, struct replica_message *m)
{
    TRY(join_decode(c, m));
    return record_take(c, &m->u.record);
}

static void prepared_encode(struct out *out, const struct replica_message *m)
{
    const struct replica_prepared *p = &m->u.prepared;
    struct wire_replica_prepared wire = {.join = put64(m->join),
                                         .sequence = put64(p->sequence),
                                         .end = put64(p->end),
                                         .published = mark_encode(&p->published),
                                         .full = p->full,
                                         .want = put64(p->want),
                                         .credit = put64(p->credit),
                                         .credit_at = put64(p->credit_at)};
    put(out, &wire, sizeof wire);
}

static enum err prepared_decode(struct cursor *c, struct replica_message *m)
{
    struct wire_replica_prepared wire;
    struct replica_prepared *p = &m->u.prepared;
    TRY(take(c, &wire, sizeof wire));
    TRY(reserved_decode(wire.reserved, sizeof wire.reserved));
    m->join = get64(wire.join);
    p->sequence = get64(wire.sequence);
    p->end = get64(wire.end);
    mark_decode(&wire.published, &p->published);
    p->want = get64(wire.want);
    p->credit = get64(wire.credit);
    p->credit_at = get64(wire.credit_at);
    return flag_decode(wire.full, &p->full);
}

/* ---- changes of clients ---- */

static void forward_encode(struct out *out, const struct replica_message *m)
{
    struct wire_replica_forward wire = {.clock = put64(m->u.forward.clock),
                                        .since = put64(m->u.forward.change.since),
                                        .change = change_encode(&m->u.forward.change)};
    put(out, &wire, sizeof wire);
}

static enum err forward_decode(struct cursor *c, struct replica_message *m)
{
    struct wire_replica_forward wire;
    TRY(take(c, &wire, sizeof wire));
    m->u.forward.clock = get64(wire.clock);
    TRY(change_decode(&wire.change, &m->u.forward.change));
    m->u.forward.change.since = get64(wire.since);
    return OK;
}

static void confirm_encode(struct out *out, const struct replica_message *m)
{
    struct wire_replica_confirm wire = {.ticket = put64(m->u.forward.ticket),
                                        .request = request_encode(&m->u.forward.change.request)};
    put(out, &wire, sizeof wire);
}

static enum err confirm_decode(struct cursor *c, struct replica_message *m)
{
    struct wire_replica_confirm wire;
    TRY(take(c, &wire, sizeof wire));
    m->u.forward.ticket = get64(wire.ticket);
    return request_decode(&wire.request, &m->u.forward.change.request);
}

static void confirmed_encode(struct out *out, const struct replica_message *m)
{
    struct wire_replica_confirmed wire = {.ticket = put64(m->u.forward.ticket), .alive = m->u.forward.alive};
    put(out, &wire, sizeof wire);
}

static enum err confirmed_decode(struct cursor *c, struct replica_message *m)
{
    struct wire_replica_confirmed wire;
    TRY(take(c, &wire, sizeof wire));
    TRY(reserved_decode(wire.reserved, sizeof wire.reserved));
    m->u.forward.ticket = get64(wire.ticket);
    return flag_decode(wire.alive, &m->u.forward.alive);
}

static void done_encode(struct out *out, const struct replica_message *m)
{
    struct wire_replica_done wire = {.outcome = (uint8_t)(m->u.forward.outcome + 1),
                                     .request = request_encode(&m->u.forward.change.request)};
    put(out, &wire, sizeof wire);
}

static enum err done_decode(struct cursor *c, struct replica_message *m)
{
    struct wire_replica_done wire;
    TRY(take(c, &wire, sizeof wire));
    if (wire.outcome < WIRE_GOOD || wire.outcome > WIRE_OVERTAKEN) return ERR_DECODE;
    TRY(reserved_decode(wire.reserved, sizeof wire.reserved));
    m->u.forward.outcome = (enum replica_outcome)(wire.outcome - 1);
    return request_decode(&wire.request, &m->u.forward.change.request);
}

/* ---- catching up ---- */

static struct wire_replica_learn learn_encode(const struct replica_learn *learn)
{
    return (struct wire_replica_learn){.base = put64(learn->base),
                                       .low = put64(learn->low),
                                       .cursor = put64(learn->cursor),
                                       .applied = put64(learn->applied),
                                       .epoch = put32(learn->epoch),
                                       .on = learn->on};
}

static enum err learn_decode(const struct wire_replica_learn *wire, struct replica_learn *ret_learn)
{
    ret_learn->base = get64(wire->base);
    ret_learn->low = get64(wire->low);
    ret_learn->cursor = get64(wire->cursor);
    ret_learn->applied = get64(wire->applied);
    ret_learn->epoch = get32(wire->epoch);
    TRY(reserved_decode(wire->reserved, sizeof wire->reserved));
    return flag_decode(wire->on, &ret_learn->on);
}

static void want_encode(struct out *out, const struct replica_message *m)
{
    const struct replica_step *s = &m->u.step;
    struct wire_replica_want wire = {.join = put64(m->join),
                                     .learn = learn_encode(&s->learn),
                                     .mark = mark_encode(&s->mark),
                                     .check = s->check,
                                     .digested = s->digested};
    put(out, &wire, sizeof wire);
}

static enum err want_decode(struct cursor *c, struct replica_message *m)
{
    struct wire_replica_want wire;
    TRY(take(c, &wire, sizeof wire));
    TRY(reserved_decode(wire.reserved, sizeof wire.reserved));
    TRY(flag_decode(wire.check, &m->u.step.check));
    TRY(flag_decode(wire.digested, &m->u.step.digested));
    m->join = get64(wire.join);
    mark_decode(&wire.mark, &m->u.step.mark);
    return learn_decode(&wire.learn, &m->u.step.learn);
}

static void windows_put(struct out *out, const struct replica_step *s)
{
    for (uint32_t node = 0; node < REPLICA_NODES_MAX; node++) {
        const struct replica_window *w = &s->windows[node];
        struct wire_replica_window wire = {.boot = put32(w->boot), .high = put64(w->high), .done = put64(w->done)};
        if (w->boot != 0) put(out, &wire, sizeof wire);
    }
}

static void compare_encode(struct out *out, const struct replica_step *s)
{
    struct wire_replica_compare wire = {.mark = mark_encode(&s->mark)};
    struct wire_replica_digest digest = {.digest = {put64(s->digest[0]), put64(s->digest[1])}};
    for (uint32_t node = 0; s->check && node < REPLICA_NODES_MAX; node++)
        if (s->windows[node].boot != 0) wire.windows |= node_bit(node);
    put(out, &wire, sizeof wire);
    if (s->check) windows_put(out, s);
    if (s->digested) put(out, &digest, sizeof digest);
}

static enum err window_decode(struct cursor *c, struct replica_window *ret_window)
{
    struct wire_replica_window wire;
    TRY(take(c, &wire, sizeof wire));
    ret_window->boot = get32(wire.boot);
    ret_window->high = get64(wire.high);
    ret_window->done = get64(wire.done);
    return ret_window->boot != 0 ? OK : ERR_DECODE;
}

static enum err compare_decode(struct cursor *c, struct replica_step *s)
{
    struct wire_replica_compare wire;
    struct wire_replica_digest digest;
    TRY(take(c, &wire, sizeof wire));
    TRY(reserved_decode(wire.reserved, sizeof wire.reserved));
    if (!s->check && wire.windows != 0) return ERR_DECODE;
    mark_decode(&wire.mark, &s->mark);
    for (uint32_t node = 0; node < REPLICA_NODES_MAX; node++)
        if (set_has(wire.windows, node)) TRY(window_decode(c, &s->windows[node]));
    if (!s->digested) return OK;
    TRY(take(c, &digest, sizeof digest));
    s->digest[0] = get64(digest.digest[0]);
    s->digest[1] = get64(digest.digest[1]);
    return OK;
}

static void step_encode(struct out *out, const struct replica_message *m)
{
    const struct replica_step *s = &m->u.step;
    struct wire_replica_step wire = {.join = put64(m->join),
                                     .learn = learn_encode(&s->learn),
                                     .cursor = put64(s->cursor),
                                     .applied = put64(s->applied),
                                     .stretch = put64(s->stretch),
                                     .gap = s->gap,
                                     .check = s->check,
                                     .digested = s->digested,
                                     .count = (uint8_t)s->count};
    put(out, &wire, sizeof wire);
    if (is_compared(s)) compare_encode(out, s);
    for (uint32_t i = 0; i < s->count; i++) record_put(out, &s->records[i]);
}

static enum err step_decode(struct cursor *c, struct replica_message *m)
{
    struct wire_replica_step wire;
    struct replica_step *s = &m->u.step;
    TRY(take(c, &wire, sizeof wire));
    TRY(learn_decode(&wire.learn, &s->learn));
    TRY(flag_decode(wire.gap, &s->gap));
    TRY(flag_decode(wire.check, &s->check));
    TRY(flag_decode(wire.digested, &s->digested));
    if (wire.count > REPLICA_STEP_RECORDS) return ERR_DECODE;
    m->join = get64(wire.join);
    s->cursor = get64(wire.cursor);
    s->applied = get64(wire.applied);
    s->stretch = get64(wire.stretch);
    s->count = wire.count;
    if (is_compared(s)) TRY(compare_decode(c, s));
    for (uint32_t i = 0; i < s->count; i++) TRY(record_take(c, &s->records[i]));
    return OK;
}

static void follow_encode(struct out *out, const struct replica_message *m)
{
    struct wire_replica_follow wire = {.join = put64(m->join), .mark = mark_encode(&m->u.step.mark)};
    put(out, &wire, sizeof wire);
}

static enum err follow_decode(struct cursor *c, struct replica_message *m)
{
    struct wire_replica_follow wire;
    TRY(take(c, &wire, sizeof wire));
    m->join = get64(wire.join);
    mark_decode(&wire.mark, &m->u.step.mark);
    return OK;
}

/* ---- strict reads ---- */

static void ask_encode(struct out *out, const struct replica_message *m)
{
    struct wire_replica_ask wire = {.read = put64(m->read), .version = put64(m->u.beat.version)};
    put(out, &wire, sizeof wire);
}

static enum err ask_decode(struct cursor *c, struct replica_message *m)
{
    struct wire_replica_ask wire;
    TRY(take(c, &wire, sizeof wire));
    m->read = get64(wire.read);
    m->u.beat.version = get64(wire.version);
    return OK;
}

/* ---- blocks that are lent ---- */

static void borrow_encode(struct out *out, const struct replica_message *m)
{
    put(out, &(struct wire_replica_borrow){put64(m->read), put64(m->u.borrow.lba)}, sizeof(struct wire_replica_borrow));
}

static enum err borrow_decode(struct cursor *c, struct replica_message *m)
{
    struct wire_replica_borrow wire;
    TRY(take(c, &wire, sizeof wire));
    m->read = get64(wire.read);
    m->u.borrow.lba = get64(wire.lba);
    return OK;
}

static void lent_encode(struct out *out, const struct replica_message *m)
{
    put(out, &(struct wire_replica_lent){put64(m->read), .has = m->u.borrow.has}, sizeof(struct wire_replica_lent));
}

static enum err lent_decode(struct cursor *c, struct replica_message *m)
{
    struct wire_replica_lent wire;
    TRY(take(c, &wire, sizeof wire));
    TRY(reserved_decode(wire.reserved, sizeof wire.reserved));
    m->read = get64(wire.read);
    return flag_decode(wire.has, &m->u.borrow.has);
}

/* ---- messages ---- */

static const struct form {
    enum wire_replica_kind kind;
    void (*encode)(struct out *out, const struct replica_message *m);
    enum err (*decode)(struct cursor *c, struct replica_message *m); /* `m` is 0 but for what all messages have */
} forms[] = {
    [REPLICA_HEARTBEAT] = {WIRE_HEARTBEAT, heartbeat_encode, heartbeat_decode},
    [REPLICA_HEARTBEAT_ACK] = {WIRE_HEARTBEAT_ACK, heartbeat_ack_encode, heartbeat_ack_decode},
    [REPLICA_RECORD] = {WIRE_RECORD, record_encode, record_decode},
    [REPLICA_PREPARED] = {WIRE_PREPARED, prepared_encode, prepared_decode},
    [REPLICA_COMMIT] = {WIRE_COMMIT, join_encode, join_decode},
    [REPLICA_FORWARD] = {WIRE_FORWARD, forward_encode, forward_decode},
    [REPLICA_CONFIRM] = {WIRE_CONFIRM, confirm_encode, confirm_decode},
    [REPLICA_CONFIRMED] = {WIRE_CONFIRMED, confirmed_encode, confirmed_decode},
    [REPLICA_DONE] = {WIRE_DONE, done_encode, done_decode},
    [REPLICA_WANT] = {WIRE_WANT, want_encode, want_decode},
    [REPLICA_STEP] = {WIRE_STEP, step_encode, step_decode},
    [REPLICA_FOLLOW] = {WIRE_FOLLOW, follow_encode, follow_decode},
    [REPLICA_AGAIN] = {WIRE_AGAIN, join_encode, join_decode},
    [REPLICA_ASK] = {WIRE_ASK, ask_encode, ask_decode},
    [REPLICA_AGREED] = {WIRE_AGREED, ask_encode, ask_decode},
    [REPLICA_BORROW] = {WIRE_BORROW, borrow_encode, borrow_decode},
    [REPLICA_LENT] = {WIRE_LENT, lent_encode, lent_decode},
};

enum { FORMS = sizeof forms / sizeof forms[0] };
static_assert(FORMS == REPLICA_LENT + 1, "every kind has a form");

/* False: the message is impossible, and nothing was written. */
static bool message_encode(struct out *out, uint32_t volume, const struct replica_message *m)
{
    assert(volume != 0);
    if (!is_possible(m)) return false;
    const struct form *form = &forms[m->kind];
    struct wire_replica_message wire = {.version = REPLICA_WIRE_VERSION,
                                        .kind = (uint8_t)form->kind,
                                        .from = m->from,
                                        .volume = put32(volume),
                                        .boot = put32(m->boot),
                                        .epoch = put32(m->epoch),
                                        .commit = put64(m->commit)};
    put(out, &wire, sizeof wire);
    form->encode(out, m);
    return true;
}

/* The first byte is the version, whatever follows. */
static enum err version_decode(const struct cursor *c)
{
    if (c->left == 0) return ERR_TRUNCATED;
    if (c->at[0] > REPLICA_WIRE_VERSION) return ERR_NEW_FORMAT;
    return c->at[0] != 0 ? OK : ERR_DECODE;
}

/* One message, of which something may follow. */
static enum err message_decode(struct cursor *c, uint32_t *ret_volume, struct replica_message *ret_message)
{
    struct wire_replica_message wire;
    struct replica_message m;
    uint32_t kind = 0;
    TRY(version_decode(c));
    TRY(take(c, &wire, sizeof wire));
    while (kind < FORMS && forms[kind].kind != wire.kind) kind++;
    if (kind == FORMS || wire.reserved != 0 || get32(wire.volume) == 0) return ERR_DECODE;
    memset(&m, 0, sizeof m);
    m.kind = (enum replica_message_kind)kind;
    m.from = wire.from;
    m.boot = get32(wire.boot);
    m.epoch = get32(wire.epoch);
    m.commit = get64(wire.commit);
    TRY(forms[kind].decode(c, &m));
    if (!is_possible(&m)) return ERR_DECODE;
    *ret_volume = get32(wire.volume);
    memcpy(ret_message, &m, sizeof m);
    return OK;
}

uint32_t replica_encode(uint32_t volume, const struct replica_message *message, uint8_t ret_head[LINK_HEAD_MAX])
{
    struct out out = {.at = ret_head, .room = LINK_HEAD_MAX};
    return message_encode(&out, volume, message) ? out.bytes : 0;
}

enum err replica_decode(const void *head, size_t size, uint32_t *ret_volume, struct replica_message *ret_message)
{
    struct cursor c = cursor_of(head, size);
    struct replica_message m;
    uint32_t volume;
    TRY(message_decode(&c, &volume, &m));
    if (c.left > 0) return ERR_DECODE;
    *ret_volume = volume;
    memcpy(ret_message, &m, sizeof m);
    return OK;
}

bool replica_is_urgent(const struct replica_message *message)
{
    return message->kind == REPLICA_HEARTBEAT || message->kind == REPLICA_HEARTBEAT_ACK;
}

bool replica_has_content(const struct replica_message *message)
{
    const struct replica_step *s = &message->u.step;
    if (message->kind == REPLICA_FORWARD) return true;
    if (message->kind == REPLICA_LENT) return message->u.borrow.has;
    if (message->kind == REPLICA_RECORD) return message->u.record.change.kind != REPLICA_NOOP;
    if (message->kind != REPLICA_STEP) return false;
    bool has = s->stretch != 0;
    for (uint32_t i = 0; i < s->count; i++) has = has || s->records[i].change.kind != REPLICA_NOOP;
    return has;
}

/* ---- many heartbeats ---- */

void replica_heartbeats_begin(struct replica_heartbeats *heartbeats, uint8_t *head)
{
    *heartbeats = (struct replica_heartbeats){.head = head, .bytes = sizeof(struct wire_replica_heartbeats)};
}

bool replica_heartbeats_add(struct replica_heartbeats *heartbeats, uint32_t volume, const struct replica_message *message)
{
    uint8_t one[BEAT_BYTES_MAX];
    struct out out = {.at = one, .room = sizeof one};
    assert(replica_is_urgent(message));
    if (!message_encode(&out, volume, message)) {
        heartbeats->dropped++;
        return true;
    }
    if (out.bytes > LINK_HEAD_MAX - heartbeats->bytes) return false;
    memcpy(heartbeats->head + heartbeats->bytes, one, out.bytes);
    heartbeats->bytes += out.bytes;
    heartbeats->count++;
    struct wire_replica_heartbeats wire = {
        .version = REPLICA_WIRE_VERSION, .kind = WIRE_HEARTBEATS, .count = put16((uint16_t)heartbeats->count)};
    memcpy(heartbeats->head, &wire, sizeof wire);
    return true;
}

enum err replica_heartbeats_decode(const void *head, size_t size, struct cursor *ret_heartbeats)
{
    struct cursor c = cursor_of(head, size);
    struct wire_replica_heartbeats wire;
    struct replica_message m;
    uint32_t volume;
    TRY(version_decode(&c));
    TRY(take(&c, &wire, sizeof wire));
    if (wire.kind != WIRE_HEARTBEATS || get16(wire.count) == 0 || size > LINK_HEAD_MAX) return ERR_DECODE;
    struct cursor first = c;
    for (uint32_t i = 0; i < get16(wire.count); i++) {
        TRY(message_decode(&c, &volume, &m));
        if (!replica_is_urgent(&m)) return ERR_DECODE;
    }
    if (c.left > 0) return ERR_DECODE;
    *ret_heartbeats = first;
    return OK;
}

bool replica_heartbeats_take(struct cursor *heartbeats, uint32_t *ret_volume, struct replica_message *ret_message)
{
    if (heartbeats->left == 0) return false;
    enum err err = message_decode(heartbeats, ret_volume, ret_message);
    assert(err == OK);
    (void)err;
    return true;
}
