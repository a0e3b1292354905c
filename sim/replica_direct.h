/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What directed histories are told with, and the histories, by what they are about. Each is for one rule: the table in
 * replica_direct.c says which.
 */
#ifndef IZAR_SIM_REPLICA_DIRECT_H
#define IZAR_SIM_REPLICA_DIRECT_H

#include "sim/replica.h"

enum { MS = 1000 };

/* Lets things happen for so long. */
void run(struct world *w, uint64_t ms);
/* Lets things happen until the client has its answer, for at most so long. */
void finish(struct world *w, uint64_t ms);
void write_over(struct world *w, uint32_t node);
/* Four blocks that the client knows nothing of. */
void write_others(struct world *w, uint32_t node);
void read_over(struct world *w, uint32_t node);
void cut(struct world *w, uint32_t a, uint32_t b);
void mend(struct world *w, uint32_t a, uint32_t b);
/* Until the register says that these are in sync. */
void until_in_sync(struct world *w, uint8_t set);
struct world_plan direct_plan(uint32_t nodes, uint32_t replicas, uint64_t suspect_ms);
/* Node 0 owns the volume; block 0 has been written once. */
void start_as(struct world *w, uint64_t seed, bool trace, const struct world_plan *plan);
void start(struct world *w, uint64_t seed, bool trace, uint32_t nodes, uint32_t replicas, uint64_t suspect_ms);
void pump(struct world *w, uint64_t us);

/* replica_direct_reign.c */
void undecided_acks(struct world *w, uint64_t seed, bool trace);
void undecided_leases(struct world *w, uint64_t seed, bool trace);
void old_config(struct world *w, uint64_t seed, bool trace);
void forgotten_promise(struct world *w, uint64_t seed, bool trace);
void promise_race(struct world *w, uint64_t seed, bool trace);
void long_lease(struct world *w, uint64_t seed, bool trace);
void late_record(struct world *w, uint64_t seed, bool trace);
void force_promote(struct world *w, uint64_t seed, bool trace);
void force_called_off(struct world *w, uint64_t seed, bool trace);
void forced_restart(struct world *w, uint64_t seed, bool trace);
void crash_loop(struct world *w, uint64_t seed, bool trace);
void suspended_owner(struct world *w, uint64_t seed, bool trace);
void fence_again(struct world *w, uint64_t seed, bool trace);
void cut_members(struct world *w, uint64_t seed, bool trace);
void idle_tail(struct world *w, uint64_t seed, bool trace);

/* replica_direct_client.c */
void old_command(struct world *w, uint64_t seed, bool trace);
void overtaken(struct world *w, uint64_t seed, bool trace);
void reset_path(struct world *w, uint64_t seed, bool trace);
void duplicate(struct world *w, uint64_t seed, bool trace);

/* replica_direct_learn.c */
void join_under_load(struct world *w, uint64_t seed, bool trace);
void gap_in_check(struct world *w, uint64_t seed, bool trace);
void lost_block(struct world *w, uint64_t seed, bool trace);
void late_acks(struct world *w, uint64_t seed, bool trace);
void late_words(struct world *w, uint64_t seed, bool trace);
void more_and_fewer(struct world *w, uint64_t seed, bool trace);
void empty_store(struct world *w, uint64_t seed, bool trace);
void empty_owner(struct world *w, uint64_t seed, bool trace);
void put_back(struct world *w, uint64_t seed, bool trace);
void put_back_owner(struct world *w, uint64_t seed, bool trace);
void failed_store(struct world *w, uint64_t seed, bool trace);
void failing_walk(struct world *w, uint64_t seed, bool trace);

/* replica_direct_space.c */
void space_beyond_credit(struct world *w, uint64_t seed, bool trace);
void space_before_claim(struct world *w, uint64_t seed, bool trace);
void space_less(struct world *w, uint64_t seed, bool trace);
void space_less_late(struct world *w, uint64_t seed, bool trace);
void space_told_again(struct world *w, uint64_t seed, bool trace);
void space_comes_late(struct world *w, uint64_t seed, bool trace);

/* replica_direct_odd.c */
void odd_messages(struct world *w, uint64_t seed, bool trace);

#endif
