/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the host share.
 *
 *     host.c        opening, events in, effects out, clients
 *     host_store.c  records: prepare, publish, discard
 *     host_credit.c what the store has pledged, as credit for the core
 *     host_send.c   messages with content, and content that is read again
 *     host_self.c   what the replica keeps of itself in the store
 *     host_learn.c  catching up: steps are applied; and the task that writes
 *     host_teach.c  the other side of it: what changed is read, steps get their content
 *     host_check.c  digests, and publishing that waits for them
 *     host_mend.c   blocks that the store cannot read: asked of others, and lent to them
 */
#ifndef IZAR_VOLUME_REPLICA_HOST_INTERNAL_H
#define IZAR_VOLUME_REPLICA_HOST_INTERNAL_H

#include <assert.h>
#include <string.h>

#include "base/bytes.h"
#include "volume/replica/host.h"
#include "volume/replica/stretch.h"

static_assert((int)REQUEST_NODES == (int)REPLICA_NODES_MAX && (int)REQUEST_WINDOW == (int)REPLICA_REQUESTS, "windows agree");

enum {
    HOST_OPS = REPLICA_KEPT, /* records that are prepared and not published */
    HOST_RESENDS = REPLICA_TAIL,
    HOST_READERS = 8,                                    /* reads under way: for records that go out again, and for steps */
    HOST_LEARN_OPS = 16,                                 /* of a step, in the store at once */
    HOST_BORROWS = 4,                                    /* blocks that others are asked for at once; more wait */
    HOST_LENDS = HOST_BORROWS * (REPLICA_NODES_MAX - 1), /* blocks that are read for others at once */
    HOST_BORROW_ROUNDS = 3,                              /* times that all are asked, a heartbeat between them */
    /* Where publishing waits, changes wait, too, before records have no slot any more: behind so many there may come what the
     * core has taken already (REPLICA_TICKETS, HOST_CHANGES), and from an owner what follows until it is acknowledged. */
    HOST_BACKLOG = REPLICA_KEPT / 2,
    HOST_BACKLOG_RECORDS = REPLICA_KEPT - REPLICA_TAIL,
};
static_assert(HOST_BACKLOG + REPLICA_TICKETS + HOST_CHANGES + 8 < HOST_OPS, "there is a slot for each record");

/* A record that was prepared in this life. */
struct host_op {
    struct list link; /* while it is free */
    struct replica_host *host;
    struct store_op op;
};

/* A record that the core keeps, by its sequence: what is not published yet, and the kind of what is. */
struct host_slot {
    uint64_t sequence; /* 0: none */
    enum entry_kind what;
    /* not published: */
    struct store_op *op;
    struct host_op *own; /* NULL: the store found it */
    struct replica_content *content;
    uint32_t cost;    /* blocks of credit that the core has taken for it */
    uint32_t readers; /* of its blocks: it must not be published */
};

/* A message that waits for its content, or behind one that does. */
enum host_resend_state { RESEND_WAITS, RESEND_READS, RESEND_READY, RESEND_LOST };

struct host_resend {
    struct list link;
    struct replica_host *host;
    uint8_t node;
    enum host_resend_state state;
    bool pins; /* it reads what is prepared */
    struct replica_message message;
    struct replica_content *content;
    struct store_read read;
    struct io_job job;
};

/* What the replica keeps of itself, as it is in the store. */
struct host_self {
    uint64_t join;
    struct replica_learn learn;
};

/* ---- the learner's side ---- */

struct host_learn_op {
    struct list link; /* while it is free */
    struct replica_host *host;
    struct store_op op;
    struct block_digest digests[RECORD_BLOCKS_MAX];
};

struct host_learner {
    bool applying; /* `step`, `content` */
    struct replica_step step;
    struct replica_content *content; /* its stretch; NULL: there is none */
    bool ending;                     /* `mark`, `join`, `windows` */
    struct replica_mark mark;
    uint64_t join;
    struct store_window windows[REQUEST_NODES];
    struct host_learn_op *ops;
    struct list free;
    uint32_t under_way;
    enum err err; /* of those that are under way or were */
};

/* ---- the teacher's side: for each learner ---- */

struct host_walk {
    bool due;
    uint64_t id, cursor, since;
    uint64_t after; /* what was committed then: it must be published before anything is read */
    uint32_t count;
    struct replica_content *content; /* what was read, until it is sent */
    struct stretch_writer writer;
    uint64_t read_us;
};

/* A step that waits for its content. */
struct host_out {
    bool due, busy;                 /* it is the next; one is being made */
    uint64_t join, cursor, applied; /* of the one that is being made: which question it answers */
    struct replica_message message;
    struct replica_content *content; /* with its stretch, if it has one */
    struct stretch_writer writer;
};

/* A part of a stretch that is being made. */
struct host_part {
    enum entry_kind kind; /* NEW: its blocks are read */
    bool recorded;        /* a record's; else the walk's */
    uint64_t lba;
    uint32_t count;
    uint8_t *raw; /* NEW: its blocks */
};

struct host_reader {
    struct list link; /* while it is free */
    struct replica_host *host;
    struct store_read read;
};

struct host_teacher {
    struct io_task task;
    struct host_walk walks[REPLICA_NODES_MAX];
    struct host_out outs[REPLICA_NODES_MAX];
    /* the stretch at hand */
    struct stretch_writer *writer;
    struct host_part parts[STRETCH_RUNS + REPLICA_STEP_RECORDS];
    uint32_t part_count, blocks; /* blocks: of those that are read */
    uint32_t made, made_blocks;  /* parts that are whole in the stretch; of the next one so many blocks */
    struct host_reader readers[HOST_READERS];
    struct list readers_free;
    uint32_t readers_busy;
    enum err err; /* of the reads */
    struct io_job job;
    bool over; /* the job */
    uint8_t mapped[STORE_READ_MAX];
};

/* A digest that the core asked for: of this node's number as a learner's, of others' as their teacher's. */
struct host_check {
    bool on;     /* nothing after `sequence` is published (applied) */
    bool due;    /* it is to be made */
    bool known;  /* it was made, or could not be */
    bool failed; /* it could not be */
    bool passed; /* the learner has come to where it is compared */
    uint64_t id, sequence, digest[2];
    uint64_t known_us, moved_us; /* when it was made; when the learner last got on since */
    uint64_t applied;            /* how far that is */
};

/* A block that is read for another replica. */
struct host_lend {
    struct list link; /* while it is free */
    struct replica_host *host;
    uint8_t node;
    uint64_t question;
    struct replica_content *content;
    struct store_read read;
};

struct host_mender {
    struct host_load *loads[HOST_BORROWS]; /* others are asked; NULL: free */
    struct list waiting;                   /* for one of these places */
    uint32_t reading;                      /* in the store */
    uint8_t linked;                        /* nodes that there is a link to */
    uint64_t questions;
    struct host_lend *lends;
    struct list lends_free;
    uint32_t lending;
    struct host_load own; /* a block that is to be mended, and that nobody waits for */
    bool own_busy;
    uint8_t *room, *chunk; /* of a block, and of a chunk */
};

struct disk_self;

struct replica_host {
    struct replica_host_config config;
    struct replica *core;
    struct io_timer timer;
    enum err failed; /* the store takes nothing more: only what others are told goes on */
    bool fail_due;   /* the core does not know it yet */
    bool closing;    /* the core hears of nothing any more */
    uint64_t ids;

    /* clients */
    struct host_change *changes[HOST_CHANGES]; /* in the core */
    uint64_t change_ids[HOST_CHANGES];
    struct list changes_waiting;
    struct host_read *reads[HOST_READS];
    uint64_t read_ids[HOST_READS];
    struct list reads_waiting;
    struct list reads_parked; /* they may be served once everything is published that should be */
    struct io_msg clients;    /* those that wait are looked at */
    bool clients_sent;

    /* content that came with a message: of the one at hand, and of changes that wait for their order */
    struct replica_content *arriving;
    struct list forwards;

    /* records */
    struct host_op *ops;
    struct list ops_free;
    uint32_t preparing; /* given to the store, and not back */
    struct host_slot slots[REPLICA_KEPT];
    uint64_t published, publish_to, end;
    uint64_t durable, durable_told; /* newest that is, and that the core knows */
    struct io_msg durables;
    bool durable_sent;
    struct store_pledge pledge; /* all credit that the core has, or is about to hear of */
    uint64_t credit_all;        /* blocks of all four places (host_credit.c) */
    uint64_t credit_used;       /* blocks of records that are prepared */
    uint64_t credit_owed;       /* blocks that the core may get beside that, as the store has room */
    enum store_room room;       /* as it was when the store was asked */
    bool full_told;
    struct io_task task; /* all that writes and waits: discards, steps */
    uint32_t working;    /* tasks that are doing something */
    uint64_t stepped_us; /* when the core heard of anything */
    bool stepping;       /* the core is at work: nothing may come to it */
    bool reset_due;      /* it wants all sessions to end */
    bool discarding;
    uint64_t discard_from, discard_join;
    struct host_self self;
    uint64_t blocks; /* of the volume, when last looked at */

    /* catching up */
    struct host_learner learner;
    struct host_teacher teacher;
    struct io_task digester;
    struct host_check checks[REPLICA_NODES_MAX];
    struct host_mender mender;
    struct host_counts counts;

    /* content that is read again, in the order in which it goes out */
    struct host_resend *resends;
    struct list resends_free, resends_waiting;
    uint32_t resends_read; /* under way */
};

/* ---- host.c ---- */

void host_step(struct replica_host *h, struct replica_event *event);
/* The store takes nothing more. */
void host_fail(struct replica_host *h, enum err err);
/* Content by the name that a change has; NULL: it is not in memory. */
struct replica_content *host_content(struct replica_host *h, uint64_t name);
/* Reads that waited for publishing. */
void host_reads_go(struct replica_host *h);
static inline uint64_t host_now_us(struct replica_host *h)
{
    return io_now_ns(h->config.io) / IO_US_NS;
}

/* ---- host_store.c ---- */

/* Of a record that is not published. */
struct host_slot *host_slot(struct replica_host *h, uint64_t sequence);
/* Of any that the core keeps; NULL: it is of another life. */
const struct host_slot *host_slot_kept(const struct replica_host *h, uint64_t sequence);
/* [task] What the store has, as facts for the core. `room`: REPLICA_KEPT records. */
enum err host_take_up(struct replica_host *h, struct replica_record *room, struct replica_facts *ret_facts);
void host_prepare(struct replica_host *h, const struct replica_record *record);
void host_publish(struct replica_host *h, uint64_t upto);
void host_publish_go(struct replica_host *h);
void host_discard(struct replica_host *h, uint64_t from, uint64_t join);
/* [task] What is to be discarded, as soon as it may be; false: not yet. */
bool host_discard_go(struct replica_host *h);
/* The volume stands somewhere else: nothing of before is known. */
void host_stand(struct replica_host *h, uint64_t sequence);

/* ---- host_send.c ---- */

void host_send(struct replica_host *h, uint8_t node, const struct replica_message *message);
void host_put(struct replica_host *h, uint8_t node, const struct replica_message *message, struct replica_content *content);
/* Time has passed: contents may be free that something waits for. */
void host_send_tick(struct replica_host *h);
/* What waits there is not sent any more; true: nothing is being read. */
bool host_send_forget(struct replica_host *h);

/* ---- host_credit.c ---- */

/* What was pledged for this life, for the core. */
void host_credit_begin(struct replica_host *h, struct replica_facts *facts);
/* More of it, for the core. False: there is nothing to say. */
bool host_credit_event(struct replica_host *h, struct replica_event *ret_event);
/* A record of so many blocks is prepared; is published or discarded. */
void host_credit_use(struct replica_host *h, uint32_t blocks);
void host_credit_back(struct replica_host *h, uint32_t blocks);
/* When the store should be asked again, us; UINT64_MAX: when something happens. */
uint64_t host_credit_due(const struct replica_host *h);

/* ---- host_self.c ---- */

/* What the store has. ERR_NEW_FORMAT, ERR_REPLICA_STATE. */
enum err host_self_get(const struct replica_host *h, struct host_self *ret_self);
/* [task] */
enum err host_self_set(struct replica_host *h, const struct host_self *self);
/* Key and value of an operation that sets it; `ret_value` lives until done. */
void host_self_op(const struct host_self *self, struct disk_self *ret_value, struct store_op *op);

/* ---- host_learn.c ---- */

void host_apply(struct replica_host *h, const struct replica_step *step);
void host_learned(struct replica_host *h, const struct replica_effect *e);
/* [task] The one that writes, for all of the host's life. */
void host_run(void *arg);
void host_writer_wake(struct replica_host *h);

/* ---- host_teach.c ---- */

void host_walk(struct replica_host *h, const struct replica_effect *e);
/* The answer to this is being made. */
bool host_step_is_near(const struct replica_host *h, const struct replica_message *want);
void host_step_send(struct replica_host *h, uint8_t node, const struct replica_message *message);
/* [task] The one that reads for learners, for all of the host's life. */
void host_teach_run(void *arg);
/* What it waits for may be there: published records, contents. */
void host_teach_wake(struct replica_host *h);
/* What waits there, and was not begun, is dropped. */
void host_teach_forget(struct replica_host *h);
/* Time has passed: what nobody came for is dropped. */
void host_teach_tick(struct replica_host *h);

/* ---- host_mend.c ---- */

/* ERR_NO_MEMORY. */
enum err host_mend_init(struct replica_host *h);
/* A block could not be read, and nobody waits for it: it is mended if it can be. */
void host_mend(struct replica_host *h, uint64_t lba);
/* BORROW, LENT. */
void host_mend_message(struct replica_host *h, const struct replica_message *message, struct replica_content *content);
void host_mend_link(struct replica_host *h, uint8_t node, uint64_t session);
/* Time has passed. */
void host_mend_tick(struct replica_host *h);
/* What came is to be proven. */
bool host_mend_is_due(const struct replica_host *h);
/* [task] */
void host_mend_go(struct replica_host *h);
/* Nobody who waits here is answered by anybody else any more; true: nothing is under way. */
bool host_mend_forget(struct replica_host *h);

/* ---- host_check.c ---- */

void host_check(struct replica_host *h, const struct replica_effect *e);
/* [task] The one that makes digests, for all of the host's life. */
void host_check_run(void *arg);
/* Something was published. */
void host_check_wake(struct replica_host *h);
/* Nothing after this is published now. */
uint64_t host_check_limit(const struct replica_host *h);
/* This learner's own digest is not made yet: nothing is applied. */
bool host_check_holds(const struct replica_host *h);
/* How far a learner is, it says. */
void host_check_heard(struct replica_host *h, const struct replica_message *message);
/* The next that came of a check, for the core. False: there is none. */
bool host_check_event(struct replica_host *h, struct replica_event *ret_event);
/* None is wanted any more. */
void host_check_forget(struct replica_host *h);

#endif
