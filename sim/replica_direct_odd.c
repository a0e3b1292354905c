/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Anything at all is said in the name of a node that is there: nobody may come to harm by that.
 */
#include "sim/replica_direct.h"

static uint64_t odd_number(struct world *w)
{
    static const uint64_t odd[] = {0, 1, 2, 3, 63, 64, 127, 128, 512, 513, UINT32_MAX, UINT64_MAX, UINT64_MAX - 1, 1ull << 52};
    return world_chance(w, 600) ? world_below(w, 12) : odd[world_below(w, sizeof odd / sizeof odd[0])];
}

static void odd_record(struct world *w, struct replica_record *record)
{
    record->mark = (struct replica_mark){.sequence = odd_number(w), .epoch = (uint32_t)odd_number(w)};
    record->previous_epoch = (uint32_t)odd_number(w);
    record->change.kind = (enum replica_kind)world_below(w, 4);
    record->change.count = (uint32_t)odd_number(w);
    record->change.lba = odd_number(w);
    record->change.request = (struct replica_request){.node = (uint8_t)odd_number(w), .boot = (uint32_t)odd_number(w)};
    record->change.request.number = odd_number(w);
}

static void odd_step(struct world *w, struct replica_step *s)
{
    s->learn = (struct replica_learn){.on = world_chance(w, 900), .base = odd_number(w), .low = odd_number(w)};
    s->learn.cursor = odd_number(w);
    s->cursor = odd_number(w);
    s->applied = odd_number(w);
    s->learn.applied = world_chance(w, 500) ? s->applied : odd_number(w);
    s->gap = world_chance(w, 500);
    s->check = world_chance(w, 300);
    s->digested = world_chance(w, 300);
    s->mark = (struct replica_mark){.sequence = odd_number(w), .epoch = (uint32_t)odd_number(w)};
    s->count = world_chance(w, 800) ? (uint32_t)world_below(w, REPLICA_STEP_RECORDS) : (uint32_t)odd_number(w);
    for (uint32_t i = 0; i < REPLICA_STEP_RECORDS; i++) odd_record(w, &s->records[i]);
}

static void odd_beat(struct world *w, struct replica_heartbeat *beat)
{
    beat->clock = odd_number(w);
    beat->echo = odd_number(w);
    beat->boot_of = (uint32_t)odd_number(w);
    beat->granted = world_chance(w, 500);
    beat->silent = (uint8_t)odd_number(w);
    beat->version = odd_number(w);
    beat->config = w->config;
    if (world_chance(w, 950)) return;
    beat->config.version = odd_number(w);
    beat->config.epoch = (uint32_t)odd_number(w);
    beat->config.owner = (uint8_t)odd_number(w);
    beat->config.boot = (uint32_t)odd_number(w);
    beat->config.in_sync = (uint8_t)world_below(w, 8);
    beat->config.join[world_below(w, 3)] = odd_number(w);
}

/* Anything at all, in the name of a node that is there. */
static void odd_message(struct world *w, uint32_t node)
{
    struct replica_message m = {.kind = (enum replica_message_kind)world_below(w, REPLICA_LENT + 2)};
    m.from = (uint8_t)world_below(w, 4);
    m.boot = m.from < 3 && world_chance(w, 998) ? w->nodes[m.from].life : (uint32_t)odd_number(w);
    m.epoch = world_chance(w, 900) ? w->config.epoch : (uint32_t)odd_number(w);
    m.join = m.from < 3 && world_chance(w, 500) ? w->config.join[m.from] : odd_number(w);
    if (world_chance(w, 300)) m.join = w->config.join[node];
    m.commit = odd_number(w);
    m.read = odd_number(w);
    switch (m.kind) {
    case REPLICA_HEARTBEAT:
    case REPLICA_HEARTBEAT_ACK: odd_beat(w, &m.u.beat); break;
    case REPLICA_RECORD: odd_record(w, &m.u.record); break;
    case REPLICA_PREPARED:
        m.u.prepared = (struct replica_prepared){.sequence = odd_number(w), .end = odd_number(w), .want = odd_number(w)};
        m.u.prepared.published = (struct replica_mark){.sequence = odd_number(w), .epoch = (uint32_t)odd_number(w)};
        m.u.prepared.credit = odd_number(w);
        m.u.prepared.credit_at = odd_number(w);
        break;
    case REPLICA_WANT:
    case REPLICA_STEP:
    case REPLICA_FOLLOW:
    case REPLICA_AGAIN: odd_step(w, &m.u.step); break;
    case REPLICA_FORWARD:
    case REPLICA_CONFIRM:
    case REPLICA_CONFIRMED:
    case REPLICA_DONE: {
        struct replica_record record;
        odd_record(w, &record);
        m.u.forward = (struct replica_forward){.change = record.change, .clock = odd_number(w), .ticket = odd_number(w)};
        m.u.forward.alive = world_chance(w, 500);
        break;
    }
    case REPLICA_COMMIT:
    case REPLICA_ASK:
    case REPLICA_AGREED:
    case REPLICA_BORROW:
    case REPLICA_LENT: break;
    }
    world_step(w, node, &(struct replica_event){.kind = REPLICA_ON_MESSAGE, .message = &m});
}

/* An owner that orders and never commits. */
static void endless_records(struct world *w)
{
    struct replica_message m = {.kind = REPLICA_RECORD, .boot = w->nodes[0].life, .epoch = w->config.epoch};
    m.join = w->config.join[1];
    for (uint64_t sequence = 1; sequence < 2 * REPLICA_KEPT; sequence++) {
        m.u.record = (struct replica_record){.mark = {sequence, m.epoch}, .previous_epoch = m.epoch};
        m.u.record.change.kind = REPLICA_FREE;
        world_step(w, 1, &(struct replica_event){.kind = REPLICA_ON_MESSAGE, .message = &m});
    }
}

/* Somebody says anything at all to a node. Only that the node lives on is judged: what such a world then holds is nothing that
 * anybody promised. */
void odd_messages(struct world *w, uint64_t seed, bool trace)
{
    for (uint32_t round = 0; round < 12; round++) {
        start(w, seed * 100 + round, trace, 3, 3, 40);
        w->rotten = w->lawless = true;
        if (round % 3 == 1) {
            world_crash(w, 2);
            run(w, 100);
            world_boot(w, 2);
        }
        if (round == 0) endless_records(w);
        for (uint32_t i = 0; i < 600; i++) {
            odd_message(w, round % 3 == 1 ? 2 : round % 3 == 2 ? 1 : 0);
            if (i % 20 == 0) run(w, 1);
        }
    }
}
