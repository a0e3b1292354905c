/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: no bytes of another node harm the codec of replicas, and what it lets through keeps to the limits that the core counts
 * on. Method: any bytes as a message and as many heartbeats; what is accepted encodes to the same bytes again.
 */
#include "fuzz/fuzz.h"
#include "store/format.h"
#include "volume/replica/codec.h"

static uint8_t again[LINK_HEAD_MAX];

static void require_request(const struct replica_request *q)
{
    REQUIRE(q->node < REPLICA_NODES_MAX && q->number != UINT64_MAX && (q->boot == 0) == (q->number == 0));
}

static void require_change(const struct replica_change *c)
{
    REQUIRE(c->kind >= REPLICA_NOOP && c->kind <= REPLICA_FREE && c->body == 0);
    REQUIRE(c->lba + c->count >= c->lba && c->lba + c->count <= VOLUME_BLOCKS_MAX);
    REQUIRE(c->count <= (c->kind == REPLICA_WRITE ? RECORD_BLOCKS_MAX : RECORD_UNMAP_MAX));
    REQUIRE(c->kind != REPLICA_NOOP || (c->count == 0 && c->request.boot == 0));
    require_request(&c->request);
}

static void require_config(const struct replica_config *c)
{
    REQUIRE(c->version > 0 && c->version + 1 > 0 && c->epoch > 0 && c->forced_epoch <= c->epoch);
    REQUIRE(c->owner < REPLICA_NODES_MAX && set_has(c->in_sync, c->owner) && (c->in_sync & c->learners) == 0);
    for (uint32_t node = 0; node < REPLICA_NODES_MAX; node++) REQUIRE(!set_has(c->in_sync, node) || c->join[node] != 0);
}

static void require_record(const struct replica_record *r, uint32_t epoch)
{
    REQUIRE(r->mark.sequence > 0 && r->mark.sequence < POINTER_GRAFT);
    REQUIRE(r->mark.epoch <= epoch && r->previous_epoch <= r->mark.epoch);
    require_change(&r->change);
}

static void require_step(const struct replica_step *s, uint32_t epoch)
{
    REQUIRE(s->learn.on && s->count <= REPLICA_STEP_RECORDS && s->body == 0 && s->cursor + s->stretch >= s->cursor);
    for (uint32_t i = 0; i < s->count; i++) {
        require_record(&s->records[i], epoch);
        REQUIRE(s->records[i].mark.sequence == s->applied + 1 + i);
    }
    REQUIRE(s->count == 0 || s->learn.applied == s->applied + s->count);
    REQUIRE(!s->check || s->mark.sequence == s->learn.applied);
    REQUIRE(s->mark.sequence <= s->learn.applied && s->learn.epoch <= epoch);
}

static void require_limits(const struct replica_message *m)
{
    REQUIRE(m->from < REPLICA_NODES_MAX && m->boot > 0 && m->commit < POINTER_GRAFT);
    switch (m->kind) {
    case REPLICA_HEARTBEAT:
    case REPLICA_HEARTBEAT_ACK: require_config(&m->u.beat.config); break;
    case REPLICA_RECORD: require_record(&m->u.record, m->epoch); break;
    case REPLICA_FORWARD:
        REQUIRE(m->u.forward.change.request.boot > 0 && m->u.forward.change.kind != REPLICA_NOOP);
        require_change(&m->u.forward.change);
        break;
    case REPLICA_CONFIRM:
    case REPLICA_DONE:
        REQUIRE(m->u.forward.change.request.boot > 0);
        require_request(&m->u.forward.change.request);
        break;
    case REPLICA_STEP: require_step(&m->u.step, m->epoch); break;
    case REPLICA_WANT:
    case REPLICA_FOLLOW: REQUIRE(m->join != 0 && m->u.step.mark.sequence < POINTER_GRAFT); break;
    case REPLICA_ASK:
    case REPLICA_AGREED:
    case REPLICA_LENT: REQUIRE(m->read != 0); break;
    case REPLICA_BORROW: REQUIRE(m->read != 0 && m->u.borrow.lba < VOLUME_BLOCKS_MAX); break;
    case REPLICA_PREPARED:
    case REPLICA_COMMIT:
    case REPLICA_AGAIN: REQUIRE(m->join != 0); break;
    case REPLICA_CONFIRMED: break;
    }
}

static void one(const uint8_t *data, size_t size)
{
    struct replica_message m;
    uint32_t volume;
    if (replica_decode(data, size, &volume, &m) != OK) return;
    require_limits(&m);
    REQUIRE(volume != 0 && replica_encode(volume, &m, again) == size && memcmp(again, data, size) == 0);
    (void)replica_has_content(&m);
}

static void many(const uint8_t *data, size_t size)
{
    struct replica_message m;
    struct replica_heartbeats heartbeats;
    struct cursor c;
    uint32_t volume;
    if (replica_heartbeats_decode(data, size, &c) != OK) return;
    replica_heartbeats_begin(&heartbeats, again);
    while (replica_heartbeats_take(&c, &volume, &m)) {
        require_limits(&m);
        REQUIRE(replica_heartbeats_add(&heartbeats, volume, &m));
    }
    REQUIRE(heartbeats.count > 0 && heartbeats.bytes == size && memcmp(again, data, size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    one(data, size);
    many(data, size);
    return 0;
}
