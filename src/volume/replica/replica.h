/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The protocol of replicated volumes: one `struct replica` for each volume and node.
 *
 * Primary-backup as in PacificA, reads as in CRAQ. The register decides who (epoch, owner, in-sync set), the owner decides the
 * order. This is a step function: events go in, effects come out, nothing else is touched: no clock, no chance, no memory but
 * its own. The same events give the same effects, so the simulator runs exactly this code (sim/replica.c).
 *
 *     config.h   the register's value         message.h  what replicas say
 *     lease.c    heartbeats, promises         member.c   who: adopting and proposing values of the register
 *     tail.c     prepared records             owner.c    order, ship, commit
 *     follow.c   the other side of it         read.c     which reads may be served
 *     forward.c  changes of clients           admit.c    tickets at the owner
 *     learn.c    catching up                  teach.c    the other side of it
 *     wire.h     messages as bytes            codec.c    from these and back, for who carries them
 *     edge.c     what is taken from others
 *
 * The 18 rules of the protocol are cited where they are obeyed; each has a switch in store/mutation.h.
 *
 * Decisions that the design left open:
 *   - An epoch is one reign of one boot of one node. Replicas leave and come by a new version within the epoch.
 *   - Everybody who starts, joins or restarts assumes that it promised everybody a lease just now (rule 8, and for joins the
 *     proof that a newcomer may take over as soon as its own promises have run out).
 *   - A lease counts only when whoever granted it knows no newer version than the one who holds it, proposed ones included.
 *     So a value that adds a replica silences everybody who has not heard of it.
 *   - Of two replicas in sync that hear the owner and not each other one leaves, by the owner's judgement, because neither
 *     could serve reads. (Not: their reads go to the owner. Leases of all are what makes a takeover by anybody safe.)
 *   - No commit while anybody outside the in-sync set may hold a lease: looked up at each commit, not computed once (rule 16).
 *   - A learner pulls: each step carries the next stretch of the walk, whole, and the committed records since the last step.
 *     Nothing is locked while a stretch is read. A lost step is asked for again; a gap costs a second pass.
 *   - Foreground waits for a learner that is nearly there (teach.c), a heartbeat at most without seeing it get on: so a replica
 *     joins in bounded time under any load. It waits for nobody in a first pass.
 *   - Forwarded changes are always confirmed under the ticket (one more round trip), because forwarding is rare.
 *   - A second chance is never taken by time: what was sent to an owner stays open until an owner says what came of it.
 *
 * What the wiring finds in store.h: inherited records (store_prepared_next, store_read.of); DO_APPLY as operations with
 * `learn`, the last of a step a local key that says how far it is; DO_LEARNED as MOVE, with the local key of join, learn and
 * windows; DO_WALK (store_changes_in); credit (store_pledge_more); digests as of one sequence. DO_DISCARD sets the join first,
 * then it discards. What it lacks: volumes whose ids do not come in ascending order. Heartbeats of all volumes between two
 * nodes belong into one frame.
 *
 * What is not here: outcomes of compare-and-write, reads forwarded from nodes that are not in sync (they are refused), an
 * orderly hand-over of ownership, pacing of first passes beyond the host's own. Fences are simulated in one directed history
 * only. A forced replica has what it surely published, not what it had prepared: a learner's tail is gone by then.
 *
 * A store that lost what it acknowledged (an image put back) is found out by those who remember: a restarted replica serves
 * after the owner told it, in this life, up to where it must have come; the owner counts what it acknowledged in this life
 * only, and makes it leave when it has less than it had acknowledged in the last; and a replica that has published what the
 * owner does not have says so, and the owner gives up. Each then learns like any other. Nobody remembers when all in sync lost
 * the same, or when the only other one is gone.
 *
 * Failures of the store: what cannot be read, or finds no space, is tried again after a while. When nothing more can be written
 * (ON_FAILED) the replica says that it has no join any more, and leaves or is taken over from. Publishing does not fail.
 *
 * All calls come from the loop that owns the volume. An effect is acted on, or copied, inside the callback, which must not call
 * back into the replica; what comes of it is a later event.
 */
#ifndef IZAR_VOLUME_REPLICA_REPLICA_H
#define IZAR_VOLUME_REPLICA_REPLICA_H

#include <stddef.h>

#include "volume/replica/message.h"

enum {
    REPLICA_TAIL = 128,    /* records ordered and not committed */
    REPLICA_KEPT = 512,    /* records kept in memory: the tail, and what learners may still ask for */
    REPLICA_READS = 64,    /* reads that wait */
    REPLICA_TICKETS = 128, /* changes at the owner that wait for their order */
    REPLICA_WALK = 128,    /* walk_blocks, unless tests want less: with the records, the content of a step is at most 1 MiB */
};

struct replica;
struct replica_effect;

/* Times are microseconds of a clock that also runs while the machine sleeps (CLOCK_BOOTTIME). */
struct replica_timing {
    uint64_t heartbeat_us, lease_us, promise_us; /* rule 14: lease * 1.02 < promise */
    uint64_t suspect_us;                         /* no round trip for so long: the peer is gone */
    uint64_t stale_us;  /* D of rule 12: twice this is less than the time after which an initiator retries elsewhere */
    uint64_t commit_us; /* the commit number follows a record at most so much later */
};

extern const struct replica_timing replica_timing_default; /* 250 ms, 1.5 s, 2.25 s */
extern const struct replica_timing replica_timing_fast;    /* 50, 400, 600 ms */

struct replica_setup {
    uint8_t node; /* this one */
    struct replica_timing timing;
    uint32_t walk_blocks; /* changed ones that one stretch of a walk may have */
    bool strict;          /* confirm each read with a peer: this node's clock may stand still (virtual machines) */
    bool fence;           /* two nodes without a witness: ask the host to fence a peer before it is left out */
    void *arg;
    void (*effect)(void *arg, const struct replica_effect *effect);
};

/* What is durable on this node. All of it but the tail changes together with the record or effect that says so. */
struct replica_facts {
    uint32_t boot; /* of this node: higher than ever before, also when its store is new or was put back to what it had been */
    struct replica_mark committed; /* newest record that is surely published; learning: where the node came from */
    uint64_t join;                 /* 0: not in sync with anybody */
    struct replica_learn learn;
    struct replica_window windows[REPLICA_NODES_MAX];
    uint32_t tail; /* prepared records after `committed` */
    const struct replica_record *records;
    uint64_t credit;              /* as ON_CREDIT; may be less than before the restart */
    bool full;                    /* as ON_CREDIT */
    struct replica_config config; /* as it was before the restart: for people only, nothing is decided by it (rule 18) */
};

enum replica_event_kind {
    REPLICA_ON_TICK,    /* time has passed: at replica_deadline at the latest, and first of all after any pause */
    REPLICA_ON_CONFIG,  /* config: a value that a quorum gave after this object was opened */
    REPLICA_ON_LINK,    /* node, session: a new session of the link to it; 0: none */
    REPLICA_ON_MESSAGE, /* message */
    REPLICA_ON_DURABLE, /* sequence: all records prepared up to here are durable */
    REPLICA_ON_DISCARDED,
    REPLICA_ON_CREDIT,  /* credit, full */
    REPLICA_ON_CHANGE,  /* id, session, change (kind, lba, count, body): a command of a client */
    REPLICA_ON_LOST,    /* session: the client's session is gone, nobody waits for its answers */
    REPLICA_ON_READ,    /* id, lba, count */
    REPLICA_ON_WALKED,  /* node, id, body, sequence: how many blocks from the cursor on are now done; 0: all. */
    REPLICA_ON_APPLIED, /* the step is durable */
    REPLICA_ON_DIGEST,  /* node, id, digest */
    REPLICA_ON_LEARNED,
    REPLICA_ON_FENCED, /* node: it is surely off */
    REPLICA_ON_FAILED, /* the store takes nothing more until the node restarts: this replica leaves the set. What is under way
                        * there may end or not */
    /* force-promote: somebody decided to go on with what this learner has, if it is whole and nobody in sync is heard; good for
     * a promise's time, then it must be said again */
    REPLICA_ON_FORCE,
};

struct replica_event {
    enum replica_event_kind kind;
    uint64_t now; /* us, never less than before */
    uint8_t node;
    uint64_t session, id, sequence, lba, body;
    uint64_t arrived; /* CHANGE: when the command came, before `now` if it had to wait for its turn; 0: now */
    uint32_t count;
    uint64_t credit; /* blocks that this node's store promises to take beyond all that it was given; only ever raised, by
                      * this much more. What is published or discarded brings none by itself */
    bool full;       /* CREDIT: there will be no more unless something is unmapped; else writes wait for it */
    uint64_t digest[2];
    bool failed; /* WALKED, DIGEST: something cannot be read now; APPLIED: there is no space. Tried again after a while */
    const struct replica_config *config;
    const struct replica_message *message;
    const struct replica_change *change;
};

enum replica_effect_kind {
    REPLICA_DO_FETCH,   /* read the register: ON_CONFIG */
    REPLICA_DO_PROPOSE, /* config: swap it in if the register's version is config->version - 1; either way ON_CONFIG */
    REPLICA_DO_SEND,    /* message to `node`, with the content that it names */
    REPLICA_DO_PREPARE, /* record: append it, durable; ON_DURABLE, or ON_FAILED */
    REPLICA_DO_PUBLISH, /* sequence: all records up to here are visible now; windows count them. Does not fail */
    REPLICA_DO_DISCARD, /* sequence, id: forget prepared records from here on, and set join to id, durably; ON_DISCARDED */
    REPLICA_DO_ANSWER,  /* id, outcome: of a change */
    REPLICA_DO_READ,    /* id: read the map now (dirty: only a mutation reads over it) */
    REPLICA_DO_REFUSE,  /* id: this read cannot be served here now */
    REPLICA_DO_WALK,   /* node, id, sequence = cursor, count, since: content of the blocks from the cursor on that changed after
                         * `since` (0: all, also never written ones), `count` of these at most; any number of others may be
                         * passed over. Published content, of any moment from now on; ON_WALKED */
    REPLICA_DO_APPLY,  /* step: its blocks, then its records, then step->learn: durable as one; ON_APPLIED */
    REPLICA_DO_DIGEST, /* node, id, sequence: of the content as of this record, which is the newest published or applied now.
                         * More is published or applied while it is made; a later DO_DIGEST for the same node takes the place of
                         * it; ON_DIGEST */
    REPLICA_DO_LEARNED, /* mark, id = join, windows: learning is over, the volume stands at mark; ON_LEARNED */
    REPLICA_DO_RESET,   /* this node stood still: drop all clients' sessions before anything that came over them (rule 12) */
    REPLICA_DO_FENCE,   /* node: make sure that it is off; ON_FENCED, or nothing */
};

struct replica_effect {
    enum replica_effect_kind kind;
    uint8_t node;
    bool dirty;
    uint32_t count;
    uint64_t id, sequence, since;
    enum replica_outcome outcome;
    struct replica_mark mark;
    const struct replica_config *config;
    const struct replica_message *message;
    const struct replica_record *record;
    const struct replica_step *step;
    const struct replica_window *windows;
};

/* Bytes of a replica; it has no other memory. */
size_t replica_size(void);
/* Begins life in `replica` (replica_size bytes, aligned for anything) after a start or restart of the node. */
void replica_open(struct replica *replica, const struct replica_setup *setup, const struct replica_facts *facts, uint64_t now);
/* One event; its effects come out through setup.effect before it returns. */
void replica_step(struct replica *replica, const struct replica_event *event);
/* When ON_TICK is due at the latest. */
uint64_t replica_deadline(const struct replica *replica);

enum replica_role {
    REPLICA_UNKNOWN, /* the register was not read yet */
    REPLICA_OWNER,
    REPLICA_IN_SYNC,
    REPLICA_LEARNER,
    REPLICA_OUTSIDE, /* no replica of this volume: forwards only */
};

/* For people, the API and the simulator. */
struct replica_status {
    enum replica_role role;
    bool open;    /* owner: it orders and serves */
    bool serving; /* a read would be served now */
    struct replica_config config;
    struct replica_mark committed;
    uint64_t end, durable; /* newest record prepared, and surely so */
    uint64_t kept;         /* oldest record whose content may still be asked for */
    struct replica_learn learn;
    bool
        whole; /* a learner's content is one that the volume has had: catching up has not begun, and nothing of it was undone */
    const char *why; /* one sentence: why it does not serve, or what it waits for */
};
void replica_status(const struct replica *replica, struct replica_status *ret_status);
const struct replica_window *replica_windows(const struct replica *replica);
/* Owner: a change with this content waits for its order. */
bool replica_has_ticket(const struct replica *replica, uint64_t body);
/* Counters of things that should happen in tests. */
struct replica_counts {
    uint64_t reigns, takeovers, removals, joins, conflicts, gaps, stale, unconfirmed, duplicates, parked, resent, mismatches,
        stalls, bumps, resets, refused_full, passes, resigned, lost, failed, overtaken;
};
const struct replica_counts *replica_counts(const struct replica *replica);

#endif
