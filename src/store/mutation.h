/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mutations: rules of the store, of those who serve from it, and of the register, switched off one at a time, compiled only
 * into the simulator.
 * A test suite that does not notice a rule missing does not test that rule.
 */
#ifndef IZAR_STORE_MUTATION_H
#define IZAR_STORE_MUTATION_H

#include <stdbool.h>

#define STORE_MUTATIONS(X)                                                                                                     \
    X(MUTATE_NONE, "none")                                                                                                     \
    X(MUTATE_ACK_BEFORE_DURABLE, "acknowledge when the batch is submitted, not durable")                                       \
    X(MUTATE_ACK_OUT_OF_ORDER, "acknowledge batches in completion order")                                                      \
    X(MUTATE_KEEP_INCARNATION, "recovery appends where the chain ended, under the same incarnation")                           \
    X(MUTATE_NO_ACCEPTED_END, "the accepted end of an old chain is not made durable")                                          \
    X(MUTATE_DISCARD_NOT_LOGGED, "a discard is not a record")                                                                  \
    X(MUTATE_DISCARD_KEEPS_EPOCH, "after a discard the epoch is that of what was discarded")                                   \
    X(MUTATE_LEARN_EARLY, "what is caught up with is visible when it is appended, not durable")                                \
    X(MUTATE_LEARN_COUNTS, "what is caught up with raises the published sequence")                                             \
    X(MUTATE_LEARN_UNSTAMPED, "what is caught up with is stamped with the sequence where the volume stands")                   \
    X(MUTATE_LEARN_UNDECIDED, "in recovery what stands before catch-up in the log is decided after it")                        \
    X(MUTATE_LEARN_GAP, "catch-up goes on behind an operation that failed")                                                    \
    X(MUTATE_LEARNING_FORGOTTEN, "a checkpoint does not say that a volume is learning")                                        \
    X(MUTATE_MOVE_FORGOTTEN, "recovery leaves a volume where catch-up began")                                                  \
    X(MUTATE_STALE_COMMIT, "a checkpoint decides operations of later epochs than it knew")                                     \
    X(MUTATE_SEAL_EARLY, "a summary is written before its batches are durable")                                                \
    X(MUTATE_CLEAN_AFTER_REPLAY, "the cleaner takes segments after the replay point")                                          \
    X(MUTATE_FORGET_PREPARED, "prepared operations do not pin chunks")                                                         \
    X(MUTATE_HIT_NOT_MARKED, "a dedupe hit during a walk does not mark")                                                       \
    X(MUTATE_HIT_ON_VICTIM, "a dedupe hit on a victim is accepted after the proof")                                            \
    X(MUTATE_REUSE_EARLY, "a slot is reused before the checkpoint that frees it")                                              \
    X(MUTATE_REUSE_UNDER_READ, "a slot is reused under a read in flight")                                                      \
    X(MUTATE_TRIM_EARLY, "a slot is discarded before the checkpoint that frees it")                                            \
    X(MUTATE_TRIM_IN_USE, "a slot is allocated while its discard is under way")                                                \
    X(MUTATE_CHECKPOINT_UNSYNCED, "the checkpoint is written before what it points to is durable")                             \
    X(MUTATE_REPLAY_POINT_LATE, "the replay point ignores what is only in the delta")                                          \
    X(MUTATE_STALE_NEWEST, "a flush does not raise the newest sequence of the leaf")                                           \
    X(MUTATE_NEWEST_NOT_INHERITED, "an inner page does not take its children's newest sequence")                               \
    X(MUTATE_EMPTY_FORGETS, "an empty pointer loses its newest sequence")                                                      \
    X(MUTATE_DIGEST_BLURRED, "a digest counts although operations were published meanwhile")                                   \
    X(MUTATE_ONE_CHECKPOINT, "a checkpoint is written once, not twice")                                                        \
    X(MUTATE_NO_ADDRESS_IN_CRC, "checksums do not cover the log address")                                                      \
    X(MUTATE_PLEDGE_UNCOUNTED, "what is pledged may be taken by others")                                                       \
    X(MUTATE_SKIP_CHECK, "reads do not verify checksums")

/* Looked for with initiators (sim/serve.h). */
#define SERVING_MUTATIONS(X)                                                                                                   \
    X(MUTATE_NO_RANGE_LOCK, "changes of the same blocks do not wait for each other")                                           \
    X(MUTATE_FUNCTION_EARLY, "a function is answered before the tasks that it ends have ended")                                \
    X(MUTATE_REINSTATE_EARLY, "a login does not wait for the end of the session that it replaces")                             \
    X(MUTATE_MEMORY_EARLY, "an aborted task gives its memory back while data comes into it")                                   \
    X(MUTATE_PUBLISH_LATE, "a write is answered before it is published")                                                       \
    X(MUTATE_RESIZE_UNTOLD, "nobody is told that a unit has another size")

/* Looked for by sim/quorum.c; the numbers are those of the rules in cluster/register.c. */
#define REGISTER_MUTATIONS(X)                                                                                                  \
    X(MUTATE_ACCEPT_UNPROMISED, "1, 2: an acceptor accepts below its promise")                                                 \
    X(MUTATE_ACCEPT_NO_PROMISE, "2: accepting does not promise")                                                               \
    X(MUTATE_ANSWER_EARLY, "3: an acceptor answers before its state is durable")                                               \
    X(MUTATE_FORGET_PROMISE, "3: a restart keeps what was accepted, but not the promise")                                      \
    X(MUTATE_ONE_FILE, "3: an acceptor writes its two files in turn, not both")                                                \
    X(MUTATE_LOST_IS_NEW, "3: an acceptor whose files are both damaged starts anew")                                           \
    X(MUTATE_SAME_BOOT, "4: a restart does not change the boot number")                                                        \
    X(MUTATE_FIRST_FOUND, "5: a proposer goes on from the first state that it is told")                                        \
    X(MUTATE_LATE_ANSWERS, "5: answers to an older attempt count")                                                             \
    X(MUTATE_UNDECIDED_CONFLICT, "6: a conflict is reported before what it is with is decided")                                \
    X(MUTATE_READ_HIGHEST, "6: reading believes the highest ballot of a quorum")                                               \
    X(MUTATE_RETRY_BLIND, "7: a retry does not look for its tag")                                                              \
    X(MUTATE_DENY_PROPOSED, "8: an undecided change is reported as not made")                                                  \
    X(MUTATE_HALF_IS_ENOUGH, "10: half of a set is a majority")                                                                \
    X(MUTATE_OWN_VIEW, "10: promises count by the members that the proposer knew, not by those that it found")                 \
    X(MUTATE_ONE_STEP, "11: members change in one step")                                                                       \
    X(MUTATE_NEW_SET_ALONE, "11: while members change, a majority of the new ones is enough")                                  \
    X(MUTATE_STEP_UNDECIDED, "12: members change again before the last change is known to be decided")                         \
    X(MUTATE_STEP_UNSEEN, "13: members are changed by what was known of an older value")

/* The rules of replication (volume/replica/replica.h), by their numbers; looked for with sim/replica.h. */
#define REPLICA_MUTATIONS(X)                                                                                                   \
    X(MUTATE_READ_WITHOUT_LEASE, "1: reads are served without leases")                                                         \
    X(MUTATE_EPOCH_IGNORED, "2: records and acknowledgements of other epochs count")                                           \
    X(MUTATE_LEAVE_WITHOUT_REGISTER, "3: the owner goes on without a silent replica before the register says so")              \
    X(MUTATE_READ_OLD, "4: a replica serves a block that has a prepared change from before it")                                \
    X(MUTATE_READ_DIRTY, "5: a replica serves the prepared change")                                                            \
    X(MUTATE_SERVE_EARLY, "6: a new owner serves before it committed what it inherited")                                       \
    X(MUTATE_ACK_VOLATILE, "7: replicas acknowledge before it is durable")                                                     \
    X(MUTATE_PROMISE_FORGOTTEN, "8: a restarted node promised nothing")                                                        \
    X(MUTATE_TAIL_KEPT, "9: a returning replica publishes what it had prepared")                                               \
    X(MUTATE_BASE_LOGGED, "10: catch-up begins after the newest prepared record")                                              \
    X(MUTATE_UNDECIDED_ACKS, "11: commits do not count who is proposed to join")                                               \
    X(MUTATE_UNDECIDED_LEASES, "11: leases do not count who is proposed to join")                                              \
    X(MUTATE_OVERTAKEN, "a change that depends on what is there is ordered behind others that changed it")                     \
    X(MUTATE_NO_STALE_GUARD, "12: old commands of clients are executed")                                                       \
    X(MUTATE_NO_CONFIRM, "12: nobody asks whether the session of a forwarded change lives")                                    \
    X(MUTATE_PROMOTE_LEARNER, "13: a replica that is not in sync promotes itself")                                             \
    X(MUTATE_LEASE_TOO_LONG, "14: a lease is longer than the promise")                                                         \
    X(MUTATE_NO_PREDECESSOR, "15: the predecessor's epoch is not checked")                                                     \
    X(MUTATE_PROMISE_RACE, "16: promises are looked up when a removal is proposed, not when it counts")                        \
    X(MUTATE_NO_JOIN_FENCE, "17: a replica that gave up what it acknowledged may still be brought in")                         \
    X(MUTATE_TRUST_OLD_CONFIG, "18: a restarted node goes on under the value that it remembers")                               \
    X(MUTATE_NO_CONTENT_CHECK, "contents are not compared before a replica joins")                                             \
    X(MUTATE_NO_DUPLICATES, "a change that comes twice is executed twice")                                                     \
    X(MUTATE_WALK_LATE, "a stretch is applied over records that are newer than it")                                            \
    X(MUTATE_GAP_FORGOTTEN, "a gap in the records of a learner costs no second pass")                                          \
    X(MUTATE_NO_HOLD, "nobody waits for a learner that is nearly there")                                                       \
    X(MUTATE_NO_CREDIT, "the owner admits beyond the credit of its replicas")                                                  \
    X(MUTATE_REPORT_ONCE, "what a replica has room for is told once, and not again when that is lost")                         \
    X(MUTATE_REFUSED_EARLY, "a write is refused although the store that lacks credit may find some")                           \
    X(MUTATE_CREDIT_KEPT, "credit outlives the life that granted it")                                                          \
    X(MUTATE_NO_REMINDER, "a restarted replica is told the commit number with the next record only")                           \
    X(MUTATE_NOOP_PILE, "each reign adds a no-op to the tail")                                                                 \
    X(MUTATE_STRICT_BLIND, "strict reads need no leases of the node's own")                                                    \
    X(MUTATE_FORCED_AGAIN, "after a force-promote a learner begins anew whenever it restarts")                                 \
    X(MUTATE_LATE_WORDS, "what a learner said before it joined counts after that")                                             \
    X(MUTATE_FENCED_EVER, "a replica that was off once counts as off ever after")                                              \
    X(MUTATE_UNVOUCHED, "a restarted replica serves before the owner told it where it must be")                                \
    X(MUTATE_LOSS_UNNOTICED, "nobody notices that a replica lost what it had acknowledged")                                    \
    X(MUTATE_CUT_UNJUDGED, "two replicas that are cut off from each other both stay in sync")                                  \
    X(MUTATE_NO_EDGE, "messages of others are not checked")                                                                    \
    X(MUTATE_CHECK_OVER_GAP, "contents that were compared before a gap count after it")                                        \
    X(MUTATE_JOIN_UNTOLD, "nobody listens to a replica that says that it gave up its join")

/* What connects the protocol with the store (volume/replica/host.h); looked for with sim/cluster.h. */
#define HOST_MUTATIONS(X)                                                                                                      \
    X(MUTATE_RESEND_CURRENT, "a prepared record goes out again with the blocks as they are now")                               \
    X(MUTATE_FORWARD_DROPPED, "what another node forwarded is dropped before it is ordered")                                   \
    X(MUTATE_SESSION_UNTOLD, "the core does not hear of sessions that are gone")                                               \
    X(MUTATE_PUBLISH_UNDER_READ, "a record is published while it is read as it was prepared")                                  \
    X(MUTATE_READS_UNPARKED, "reads do not wait for publishing")                                                               \
    X(MUTATE_LEARNED_WINDOWLESS, "a learner stands where its teacher does, without the request windows")                       \
    X(MUTATE_KEY_EARLY, "a learner notes that a step is done before its blocks")                                               \
    X(MUTATE_DIGEST_UNHELD, "publishing does not wait for a digest")                                                           \
    X(MUTATE_WALK_NO_HOLES, "a walk passes over holes")                                                                        \
    X(MUTATE_DURABLE_EARLY, "the core hears that a record is durable before it is")                                            \
    X(MUTATE_DISCARD_UNSAID, "17: a tail is discarded before the join is given up")                                            \
    X(MUTATE_WAIT_AGELESS, "12: the time that a command waits in the host does not count")                                     \
    X(MUTATE_PAUSE_UNNOTICED, "12: after a pause commands come before what the pause means")                                   \
    X(MUTATE_LEARNED_EARLY, "a learner notes that it is done before the volume stands there")                                  \
    X(MUTATE_LEARNING_UNSAID, "blocks are changed before the key says that the replica learns")                                \
    X(MUTATE_WALK_UNPUBLISHED, "a walk reads before what was committed is published")                                          \
    X(MUTATE_STEP_UNPUBLISHED, "a step reads records that are not published")                                                  \
    X(MUTATE_DIGEST_EARLY, "a digest is made before all that belongs to it is published")                                      \
    X(MUTATE_APPLY_UNDER_DIGEST, "a step is applied while the digest is made")                                                 \
    X(MUTATE_SINCE_DROPPED, "a change that depends on what was read does not say so")                                          \
    X(MUTATE_SINCE_AHEAD, "a read says that it is newer than it is")                                                           \
    X(MUTATE_CREDIT_BLIND, "credit is given without asking the store")                                                         \
    X(MUTATE_FAILURE_UNTOLD, "a record that could not be prepared counts as durable")                                          \
    X(MUTATE_MEND_UNPROVEN, "what another replica has of a damaged block is taken for what it held")

#define MUTATIONS(X) STORE_MUTATIONS(X) SERVING_MUTATIONS(X) REGISTER_MUTATIONS(X) REPLICA_MUTATIONS(X) HOST_MUTATIONS(X)
#define MUTATE_SERVING MUTATE_NO_RANGE_LOCK /* the first of each */
#define MUTATE_REGISTER MUTATE_ACCEPT_UNPROMISED
#define MUTATE_REPLICA MUTATE_READ_WITHOUT_LEASE
#define MUTATE_HOST MUTATE_RESEND_CURRENT

#define MUTATE_ENUM(name, text) name,
enum mutation { MUTATIONS(MUTATE_ENUM) MUTATE_COUNT };
#undef MUTATE_ENUM

#ifdef IZAR_MUTATIONS
extern enum mutation store_mutation;
#define MUTATED(rule) (store_mutation == (rule))
#else
#define MUTATED(rule) false
#endif

#endif
