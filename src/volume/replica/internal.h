/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the protocol core share. Every function here runs inside replica_step, at the time `now` of the event.
 */
#ifndef IZAR_VOLUME_REPLICA_INTERNAL_H
#define IZAR_VOLUME_REPLICA_INTERNAL_H

#include <assert.h>
#include <string.h>

#include "base/bytes.h"
#include "store/mutation.h"
#include "volume/replica/replica.h"

#define NEVER UINT64_MAX

/* What the owner knows of a replica that is not in sync. */
enum phase {
    PHASE_NONE,
    PHASE_LEARNING,  /* it asks for steps */
    PHASE_FOLLOWING, /* it prepares like a member, but does not count */
};

/* What the host does for a learner. */
enum work { WORK_NONE, WORK_BUSY, WORK_DONE };

struct peer {
    uint64_t session; /* of the link; 0: none */
    /* lease.c */
    uint64_t lease_until;   /* it lets me read until then */
    uint64_t promise_until; /* I let it read until then */
    uint64_t round;         /* newest of my clocks that came back; when I sent it */
    uint64_t clock, heard;  /* its clock as of its newest message that has one, and when that came */
    uint32_t boot;          /* which `clock` belongs to */
    uint32_t life;          /* newest boot of it that anything came from */
    uint32_t epoch;         /* that it was last heard in */
    uint8_t silent;         /* of which it hears nothing, it says */
    uint64_t silent_since;  /* it says so about somebody in sync, and this owner hears both; NEVER */
    /* owner.c: in this epoch */
    uint64_t acked, sent; /* in its present life */
    uint64_t acked_before;
    uint64_t moved;             /* when something was sent while nothing was open, or acked; for sending again */
    uint64_t credit, credit_at; /* credit_at 0: not known */
    bool full;                  /* it will not have more unless something is unmapped */
    uint64_t full_since;        /* since when it cannot take what was ordered; NEVER */
    /* teach.c: in this epoch */
    enum phase phase;
    uint64_t join;
    bool asked;                         /* it waits for a step */
    bool pressing;                      /* it is in a pass that this owner began */
    struct replica_learn learn, wanted; /* where it is, or will be with the step under way; where it last said that it is */
    uint64_t got_on;                    /* when it last got on */
    uint64_t join_until, join_next;     /* nothing is ordered until then, so that it may join; not tried again before then */
    enum work walk;
    uint64_t walk_id, walk_cursor, walk_base; /* which walk the host is at, or was */
    uint64_t walk_from;                       /* newest committed record when the reading began */
    uint64_t walk_body, walk_blocks;          /* what was read, and how many blocks that are; 0: all that were left */
    uint64_t walk_rest;                       /* the host is not asked before then */
    uint32_t between;                         /* steps without a stretch since the last with one */
    enum work check;
    uint64_t check_id, check_digest[2];
    struct replica_mark check_mark; /* what it is checked at, with the windows of then */
    struct replica_window check_windows[REPLICA_NODES_MAX];
    uint64_t checked; /* up to which record its content is digested; 0: none */
    bool told;        /* it has this node's digest of the same */
    bool disowned;    /* in sync by the register, but it says that it gave up its join */
    bool fenced;
};

enum op_state { OP_FREE, OP_NEW, OP_SENT };

/* A change of one of this node's clients. */
struct op {
    enum op_state state;
    uint32_t epoch; /* in which it was sent last; 0: never */
    uint64_t sent_at;
    uint64_t id, session, arrived;
    struct replica_change change;
};

struct ticket {
    bool asking; /* not confirmed yet */
    uint64_t number, asked_at;
    uint64_t arrived; /* my clock; the command is not older than that */
    struct replica_change change;
};

struct waiting_read {
    uint64_t id, lba, arrived;
    uint32_t count;
    bool seen;      /* `upto` is known: at one moment since it came, this node had the authority to answer */
    uint64_t upto;  /* newest record of its blocks at that moment */
    uint64_t asked; /* strict: number of the question; 0: not asked */
    uint64_t asked_at;
};

enum learning { LEARN_IDLE, LEARN_LEAVING, LEARN_WANTING, LEARN_APPLYING, LEARN_ENDING, LEARN_FOLLOWING };

/* A learner's content as of `mark`, compared with the owner's. */
struct check {
    bool on, mine_known, theirs_known;
    bool mine_lost; /* some of it cannot be read */
    uint64_t id;    /* of the digest that the host is at */
    struct replica_mark mark;
    uint64_t mine[2], theirs[2];
};

struct replica {
    struct replica_setup setup;
    uint32_t boot;
    uint64_t now, started;
    struct replica_counts counts;

    /* member.c */
    struct replica_config config;
    enum replica_role role;
    uint8_t pending; /* all replicas of all values proposed over config.version */
    bool proposed;   /* there are such */
    uint64_t proposed_at, fetched_at;
    uint64_t wished_at;    /* since when a member wants to take over; NEVER */
    uint64_t trust_from;   /* silence before that is not held against anybody */
    uint64_t mutant_quiet; /* MUTATE_PROMISE_RACE */
    uint64_t mutant_base;  /* MUTATE_BASE_LOGGED */
    bool claimed;          /* this life of the node has proposed itself as owner */
    bool joined;           /* its join is of this life */
    bool failed;           /* its store takes nothing more */
    uint64_t force_until;  /* until then somebody wants this learner to go on with what it has; 0: nobody */
    bool route_due;        /* changes of clients may have somewhere to go now */

    struct peer peers[REPLICA_NODES_MAX];
    uint64_t beat_at; /* next heartbeat */

    /* tail.c: records first .. end are in memory, committed < prepared tail <= end */
    struct replica_record kept[REPLICA_KEPT];
    uint64_t first, end, durable, committed;
    uint32_t committed_epoch;
    uint64_t discard_from;      /* 0: nothing to discard */
    bool discarding;            /* with the host */
    bool give_up, give_up_join; /* all of the tail, and the join with it */
    uint64_t join;
    struct replica_window windows[REPLICA_NODES_MAX];
    uint64_t space;               /* blocks that may still be prepared here */
    bool full;                    /* there will be no more unless something is unmapped */
    uint64_t spent[REPLICA_KEPT]; /* blocks that all records up to this one took */
    uint64_t spent_before;        /* ... up to first - 1 */

    /* follow.c */
    uint64_t matched;     /* up to here this log is the owner's of this epoch */
    bool vouched;         /* in this life it had everything that was committed at one time, and its word counted since */
    uint64_t vouch_at;    /* ... once it has come so far; NEVER: not told */
    uint64_t commit_seen; /* the owner says */
    uint64_t complained;  /* when a gap was last reported */
    uint64_t reported;    /* when anything was */
    uint64_t complained_of;

    /* owner.c */
    bool open;
    uint64_t opening;    /* what must be committed first, the no-op of this reign or what comes before it; 0: not ordered yet */
    bool flushing;       /* it is what comes before it */
    uint64_t commit_due; /* the commit number must be sent by then; NEVER */
    uint64_t commit_wakes; /* a promise that runs out then holds back a commit; NEVER */
    struct ticket tickets[REPLICA_TICKETS];
    uint32_t ticket_count;
    uint64_t ticket_number, host_number;

    /* forward.c */
    struct op ops[REPLICA_REQUESTS];
    uint64_t request; /* number of the newest */

    /* read.c */
    struct waiting_read reads[REPLICA_READS];
    uint32_t read_count;
    uint64_t ask_number;

    /* learn.c */
    enum learning learning;
    bool learn_busy, learn_again; /* the host is at something; and then it begins anew */
    uint64_t learn_join;          /* what this attempt is called, and what the join will be */
    uint32_t join_count;
    uint64_t learn_asked;
    struct replica_learn learn;
    struct replica_step step; /* the one at hand */
    struct check check;
    struct replica_mark learned_mark; /* newest record applied; and the windows as of it, once a check has begun */
    struct replica_window learned_windows[REPLICA_NODES_MAX];
};

/* ---- replica.c ---- */
void effect_send(struct replica *r, uint32_t to, struct replica_message *message);
/* Nowhere when that is this node: a replica that the register takes for the owner, and that is not. */
void effect_send_owner(struct replica *r, struct replica_message *message);
void effect_put(struct replica *r, const struct replica_effect *effect);
static inline bool is_me(const struct replica *r, uint32_t node)
{
    return node == r->setup.node;
}

/* ---- edge.c ---- */
/* Within the bounds that this node counts on. */
bool edge_takes(const struct replica_message *m);

/* ---- lease.c ---- */
void lease_assume_promises(struct replica *r);
void lease_beat(struct replica *r, uint32_t to);
void lease_beat_all(struct replica *r);
void lease_on_heartbeat(struct replica *r, const struct replica_message *m);
void lease_on_heartbeat_ack(struct replica *r, const struct replica_message *m);
/* Everybody who counts lets this node read now. */
bool lease_is_held(const struct replica *r);
/* When the last promise to anybody who does not count has run out; may be in the past. */
uint64_t lease_quiet_at(const struct replica *r);
bool lease_suspects(const struct replica *r, uint32_t node);
/* Replicas that this node hears nothing of. */
uint8_t lease_silent(const struct replica *r);

/* ---- member.c ---- */
/* Those whose word is needed: in sync, or proposed to be while that is undecided (rule 11). */
uint8_t member_counted(const struct replica *r);
uint8_t member_leased(const struct replica *r);
bool member_has_join(const struct replica *r);
void member_adopt(struct replica *r, const struct replica_config *config, bool fresh);
void member_on_config(struct replica *r, const struct replica_config *config);
void member_tick(struct replica *r);
void member_consider(struct replica *r);
/* This node is not what the register takes it for: it gives up its join, and is left out or taken over from. */
void member_resign(struct replica *r);
/* Of those in sync, for so long that they may be taken over from. */
bool member_hears_nobody(const struct replica *r);

/* ---- tail.c ---- */
void tail_open(struct replica *r, const struct replica_facts *facts);
struct replica_record *tail_at(struct replica *r, uint64_t sequence);
uint32_t tail_epoch(struct replica *r, uint64_t sequence);
void tail_append(struct replica *r, const struct replica_record *record);
void tail_publish(struct replica *r, uint64_t upto);
void tail_discard(struct replica *r, uint64_t from);
void tail_leave(struct replica *r);
void tail_settle(struct replica *r);
/* Blocks that records after `sequence` take. */
uint64_t tail_spent_after(const struct replica *r, uint64_t sequence);
bool tail_is_settling(const struct replica *r);
/* This node has room for it. */
bool tail_fits(const struct replica *r, const struct replica_record *record);
void tail_on_durable(struct replica *r, uint64_t sequence);
void tail_on_discarded(struct replica *r);
/* Newest record after `committed` that touches these blocks; 0: none. */
uint64_t tail_newest_on(struct replica *r, uint64_t lba, uint64_t count);
static inline bool ranges_meet(uint64_t a, uint64_t a_count, uint64_t b, uint64_t b_count)
{
    return a < b + b_count && b < a + a_count;
}
static inline uint64_t change_cost(const struct replica_change *change)
{
    return change->kind == REPLICA_WRITE ? change->count : 0;
}

enum request_past { REQUEST_NEW, REQUEST_DONE, REQUEST_OLD };
enum request_past window_look(const struct replica *r, const struct replica_request *request);
void window_note(struct replica_window *windows, const struct replica_request *request);

/* ---- owner.c ---- */
void owner_begin(struct replica *r);
void owner_open(struct replica *r);
void owner_order(struct replica *r, const struct replica_change *change);
void owner_ship(struct replica *r, uint32_t to);
void owner_commit(struct replica *r);
void owner_on_prepared(struct replica *r, const struct replica_message *m);
void owner_tick(struct replica *r);
void owner_send_commit(struct replica *r);
/* That replica has room for all records up to this one. */
bool owner_may_send(const struct replica *r, const struct peer *p, uint64_t sequence);
enum owner_room { OWNER_ROOM, OWNER_ROOM_LATER, OWNER_FULL };
/* Can everybody who counts take so many blocks more? LATER: somebody has not said so since it started, or may yet. */
enum owner_room owner_room(const struct replica *r, uint64_t blocks);
/* That node has started again. */
void owner_on_restart(struct replica *r, uint32_t node);

/* ---- follow.c ---- */
void follow_on_record(struct replica *r, const struct replica_message *m);
void follow_on_commit(struct replica *r, const struct replica_message *m);
void follow_report(struct replica *r, uint64_t want);
/* What was said last may be lost, and the owner asks nobody who lacks nothing: it is said again at each heartbeat without. */
void follow_tick(struct replica *r);
void follow_publish(struct replica *r);
void follow_vouch(struct replica *r);
/* It takes records from an owner. */
bool follow_is_member(const struct replica *r);
bool follow_listens(const struct replica *r, const struct replica_message *m);

/* ---- admit.c ---- */
void admit(struct replica *r, const struct replica_change *change, uint64_t arrived);
void admit_go(struct replica *r);
void admit_drop(struct replica *r, uint32_t node);
void admit_tick(struct replica *r);
void admit_on_confirmed(struct replica *r, const struct replica_message *m);
void admit_answer(struct replica *r, const struct replica_request *request, enum replica_outcome outcome);

/* ---- forward.c ---- */
void forward_on_change(struct replica *r, const struct replica_event *event);
void forward_on_lost(struct replica *r, uint64_t session);
void forward_on_forward(struct replica *r, const struct replica_message *m);
void forward_on_confirm(struct replica *r, const struct replica_message *m);
void forward_on_done(struct replica *r, const struct replica_message *m);
void forward_route(struct replica *r);
void forward_tick(struct replica *r);
void forward_end(struct replica *r, uint64_t number, enum replica_outcome outcome);
/* The change of this node's client with that number, NULL: nobody waits for it. */
struct op *forward_find(struct replica *r, uint64_t number);

/* ---- read.c ---- */
void read_on_read(struct replica *r, const struct replica_event *event);
void read_on_ask(struct replica *r, const struct replica_message *m);
void read_on_agreed(struct replica *r, const struct replica_message *m);
void read_forget(struct replica *r);
void read_go(struct replica *r);
bool read_is_allowed(const struct replica *r);

/* ---- learn.c ---- */
void learn_start(struct replica *r);
void learn_settled(struct replica *r);
void learn_tick(struct replica *r);
void learn_on_step(struct replica *r, const struct replica_message *m);
void learn_on_again(struct replica *r, const struct replica_message *m);
void learn_on_applied(struct replica *r, bool failed);
void learn_on_digest(struct replica *r, const struct replica_event *event);
void learn_on_learned(struct replica *r);
void learn_on_force(struct replica *r);
/* See replica_status. */
bool learn_is_whole(const struct replica *r);

/* ---- teach.c ---- */
void teach_on_want(struct replica *r, const struct replica_message *m);
void teach_on_follow(struct replica *r, const struct replica_message *m);
void teach_on_walked(struct replica *r, const struct replica_event *event);
void teach_on_digest(struct replica *r, const struct replica_event *event);
void teach_go(struct replica *r);
void teach_again(struct replica *r, uint32_t to);
/* A learner that is nearly there would be overrun by one more record. */
bool teach_holds(const struct replica *r);
bool teach_may_join(const struct replica *r, uint32_t node);
void teach_bring_in(struct replica *r, uint32_t node);
static inline bool learn_same(const struct replica_learn *a, const struct replica_learn *b)
{
    return a->on == b->on && a->epoch == b->epoch && a->base == b->base && a->low == b->low && a->cursor == b->cursor &&
           a->applied == b->applied;
}

#endif
