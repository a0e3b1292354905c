/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Credit: what this node's store has pledged for the volume.
 *
 * Every block that the core may let be prepared here was pledged by the store before (store_pledge_more), so a prepare never
 * fails for space. Of the credit of this volume, `config.credit` blocks, each is at one of four places: with the core, which
 * lets operations be ordered by it; in a record that is prepared; pledged and about to be told; or owed, from when its record
 * is published or discarded until the store has room for it again. The store divides what it has among the volumes.
 *
 * When the store is full the core hears that, too: then writes are refused, not kept waiting. While the cleaner is at work it
 * is asked again every few milliseconds, else whenever anything happens, a heartbeat at the latest.
 */
#include "volume/replica/host_internal.h"

enum { ASK_US = 10000 };

static uint32_t ask(struct replica_host *h, bool again)
{
    uint32_t got = 0, most = (uint32_t)min64(h->credit_owed, UINT32_MAX);
    h->room = STORE_ROOM;
    if (most > 0) got = store_pledge_more(&h->pledge, most, again, &h->room);
    if (h->room == STORE_ROOM_FAILED && !MUTATED(MUTATE_CREDIT_BLIND)) host_fail(h, ERR_POOL_FAILED);
    if (MUTATED(MUTATE_CREDIT_BLIND)) got = most;
    h->credit_owed -= got;
    bool sums_up = h->pledge.blocks + h->credit_used + h->credit_owed == h->credit_all;
    assert(sums_up || h->failed != OK || MUTATED(MUTATE_CREDIT_BLIND)); /* nothing is lost, nothing is given twice */
    assert(h->credit_used == 0 || h->published < h->end || h->failed != OK);
    return got;
}

void host_credit_use(struct replica_host *h, uint32_t blocks)
{
    h->credit_used += blocks;
}

void host_credit_back(struct replica_host *h, uint32_t blocks)
{
    assert(h->credit_used >= blocks);
    h->credit_used -= blocks;
    h->credit_owed += blocks;
}

void host_credit_begin(struct replica_host *h, struct replica_facts *facts)
{
    for (uint64_t s = h->published + 1; s <= h->end; s++) host_credit_use(h, host_slot(h, s)->cost);
    store_pledge_begin(h->config.store, &h->pledge, h->config.holders);
    h->credit_all = max64(h->config.credit, h->credit_used);
    h->credit_owed = h->credit_all - h->credit_used;
    facts->credit = ask(h, true);
    facts->full = h->full_told = h->room == STORE_FULL;
}

bool host_credit_event(struct replica_host *h, struct replica_event *ret_event)
{
    if (h->failed != OK) return false;
    uint32_t got = ask(h, false);
    bool full = h->room == STORE_FULL;
    if (got == 0 && full == h->full_told) return false;
    h->full_told = full;
    *ret_event = (struct replica_event){.kind = REPLICA_ON_CREDIT, .now = ret_event->now, .credit = got, .full = full};
    return true;
}

uint64_t host_credit_due(const struct replica_host *h)
{
    return h->room == STORE_ROOM_LATER && h->failed == OK ? h->stepped_us + ASK_US : UINT64_MAX;
}
