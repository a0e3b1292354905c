/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The laboratory as one who has space pledged, like the replicas of volumes: several holders, each with what it was given.
 *
 * Whoever draws on a pledge never hears that there is no space (workload.c), and never waits for ever (workload_drain), also
 * on a full pool with much that is prepared and undecided. And who asks for more is told in bounded time that there is some, or
 * that the pool is full (pledge_settle).
 */
#include <string.h>

#include "sim/lab.h"

void pledge_forget(struct lab *lab)
{
    memset(lab->pledges, 0, sizeof lab->pledges);
}

bool pledge_ask(struct lab *lab, uint32_t holder, uint32_t most)
{
    struct store_pledge *p = &lab->pledges[holder];
    enum store_room room;
    bool begins = p->store == NULL;
    if (begins) store_pledge_begin(lab->store, p, 0);
    uint32_t before = p->blocks, got = store_pledge_more(p, most, begins && lab->crashes > 0, &room);
    bool full = room == STORE_FULL;
    if (got > most || p->blocks != before + got) lab_fail(lab, "pledged %u blocks of %u, %u are held", got, most, p->blocks);
    if (full && got > 0) lab_fail(lab, "a full pool pledges %u blocks", got);
    if (got > 0 || full) sim_say(lab->sim, "holder %u: %u blocks more%s", holder, got, full ? ": full" : "");
    return full;
}

struct store_pledge *pledge_of(struct lab *lab)
{
    if (lab->mix.pledges == 0) return NULL;
    uint32_t holder = (uint32_t)prng_below(&lab->prng, lab->mix.pledges);
    pledge_ask(lab, holder, 1 + (uint32_t)prng_below(&lab->prng, 2ull * RECORD_BLOCKS_MAX));
    return lab->pledges[holder].blocks > 0 ? &lab->pledges[holder] : NULL;
}

bool pledge_settle(struct lab *lab, uint32_t holder, bool *ret_full)
{
    uint32_t least = lab->pledges[holder].store ? lab->pledges[holder].blocks + 1 : 1;
    *ret_full = false;
    for (uint32_t i = 0; i < 1000 && !lab_failed(lab) && !sim_is_off(lab->sim); i++) {
        *ret_full = pledge_ask(lab, holder, 1);
        if (*ret_full || lab->pledges[holder].blocks >= least) return true;
        sim_run_for(lab->sim, 1000, 100000000);
        workload_collect(lab);
    }
    if (!lab_failed(lab) && !sim_is_off(lab->sim))
        lab_fail(lab, "a holder is neither pledged anything nor told that the pool is full");
    return false;
}
