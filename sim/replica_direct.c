/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Histories for one rule each: those that random worlds stumble on once in thousands, told step by step.
 */
#include "sim/replica.h"
#include "store/mutation.h"

const char *direct_replica_name(uint32_t mutation)
{
    (void)mutation;
    return NULL;
}

void direct_replica_run(struct world *w, uint32_t mutation, uint64_t seed, bool trace)
{
    (void)mutation;
    replica_run(w, seed, trace);
}
