/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole clusters: replicated volumes on real stores, on simulated machines.
 *
 *     cluster.c         the world: machines, their stores and replicas, the register
 *     cluster_wire.c    what goes between them, as bytes
 *     cluster_client.c  clients on all nodes
 *     cluster_judge.c   what they may see
 *     cluster_plan.c    histories with a plan: each is about something that must have happened in the end
 *     cluster_fill.c    somebody who fills it, and empties it again
 *     cluster_rot.c     damage at rest, on one node at a time
 *     cluster_run.c     a history: what goes wrong, and the end: heal, quiesce, compare, audit
 *
 * What is real: the store, the host of each replica (volume/replica/host.h), the protocol core in it, and the bytes of messages
 * and contents. What stands in for something: links (first-in first-out pipes with sessions, heartbeats in one of their own; a
 * receiver without room holds the sender up) and the register (always right, sometimes out of reach). A world has one volume
 * on 2 or 3 machines. Machines lose their power one by one or all at once, or do nothing for seconds and go on; links are cut
 * and reset, now without a word; disks of one machine fail to write or to read; and now and then one comes back with a new,
 * empty disk.
 *
 * Clients write blocks of their own, or all write the same ones; some blocks they update only, depending on what was there. All
 * read all blocks, each over the node that it likes, and every block must be a register (cluster_judge.c). Each client also
 * makes zeros and holes in a stretch of its own, which nobody reads before the end: then all replicas in sync must hold the
 * same.
 *
 * Who has left the in-sync set catches up and joins again: under the load of all clients, in bounded time after the last
 * trouble. As no disk fails here but as a whole, contents that are compared are never found different.
 *
 * Five seeds of ten have a plan (cluster_plan.c), so that what must be seen is seen by a few seeds in a row.
 */
#ifndef IZAR_SIM_CLUSTER_H
#define IZAR_SIM_CLUSTER_H

#include "sim/lab.h"
#include "volume/replica/host.h"

enum {
    CLUSTER_NODES = 3,
    CLUSTER_CLIENTS = 40, /* more than a host has places for, on one node */
    CLUSTER_FEW = 8,
    /* Blocks that are divided among the clients: most are not written twice soon, so what went wrong stays to be seen. */
    CLUSTER_OWNED = 496,
    CLUSTER_BLOCKS = 512,  /* those behind them are updated */
    CLUSTER_HOLES = 16000, /* blocks of all clients' stretches of zeros and holes, from CLUSTER_HOLES_AT on */
    CLUSTER_HOLES_AT = 4096,
    CLUSTER_SIZE = CLUSTER_HOLES_AT + CLUSTER_HOLES,
    CLUSTER_READ_MAX = 6,
    CLUSTER_WRITE_MAX = 4,
};

struct cluster;

/* What is on its way from one node to another. */
struct cluster_letter {
    struct list link;
    uint64_t at;
    enum replica_message_kind kind;
    bool urgent;
    uint32_t head_bytes, body_bytes;
    uint8_t *head, *body;
};

struct cluster_pipe {
    struct cluster *cluster;
    uint32_t from, to;
    bool cut;
    uint64_t session; /* 0: no link */
    struct list letters;
    struct io_timer timer;
};

struct cluster_node {
    struct cluster *cluster;
    uint32_t number; /* machine number + 1: the world itself is machine 0 */
    struct io *io;
    char image[16];
    bool up;    /* it has power and is not about to start */
    bool ready; /* its replica is open */
    uint32_t life, boot;
    bool replaced;   /* its first disk is lost */
    uint64_t lacked; /* the join that it had by the register when its disk was lost: until it has another, it has nothing */
    struct store *store;
    struct mem *mem;
    struct replica_contents contents;
    struct replica_host *host;
    struct io_task task; /* the story that starts it */
    bool starting, created;
    enum err err;
    struct io_timer power; /* it comes back */
    struct io_timer thaw;  /* it is frozen until then */
    uint8_t relinked;      /* the others that it has another session with than it knows */
    bool register_cut;
};

/* A question to the register. */
struct cluster_ask {
    struct list link;
    struct cluster_node *node;
    uint32_t life;
    bool answered; /* the value is on its way back */
    struct io_timer timer;
    struct replica_config config;
};

enum client_verb { CLIENT_READ, CLIENT_WRITE, CLIENT_HOLE, CLIENT_UPDATE };

/* On its way to a node, or under way there. */
struct cluster_command {
    struct list link;
    struct cluster *cluster;
    struct cluster_client *client; /* NULL: it was given up */
    struct cluster_node *node;
    uint32_t life; /* of the node */
    uint64_t session;
    bool arrived, dropped; /* dropped: the node is about to hear that its session is gone */
    bool changes;          /* UPDATE: it was read */
    struct io_timer timer;
    enum client_verb verb;
    uint32_t first, count;
    uint32_t numbers[CLUSTER_WRITE_MAX];
    uint64_t since; /* the moment when it was asked for */
    struct host_change change;
    struct host_read read;
    struct host_load load;
    uint8_t *data, *room;
    struct block_digest digests[CLUSTER_WRITE_MAX];
};

struct cluster_client {
    struct cluster *cluster;
    uint32_t number, node, life; /* life: of the node, when the session began */
    uint64_t session;            /* 0: none */
    struct cluster_command *command;
    bool writing; /* `verb`, `first`, `count`: what is to be written, until it is acknowledged */
    enum client_verb verb;
    uint32_t first, count;
    uint32_t given_up[CLUSTER_WRITE_MAX]; /* the last numbers that were not acknowledged; 0: none */
    struct io_timer timer;                /* thinks, or waits for an answer */
    uint64_t done, before;                /* commands that were answered; and before the end began */
};

/* What is known of one number of a block (cluster_judge.c). */
struct cluster_number {
    uint64_t latest, earliest;
    uint64_t over;          /* it was given up, and may not be seen by whoever asks after this */
    uint32_t parent, child; /* in blocks that are updated; parent, else: what the same client gave up before it, or 0 */
    bool refused;
};

struct cluster_block {
    uint32_t acked;  /* the newest that was acknowledged */
    uint32_t before; /* the one that was it when a plan looked */
    uint32_t held;   /* in the end */
    uint32_t count, room;
    struct cluster_number *numbers;
};

/* A bit of a block on one node's disk. */
struct cluster_flip {
    uint32_t node, block, number, at; /* at: byte */
    unsigned bit;
    bool there;
};

enum { CLUSTER_FLIPS = 48 };

struct cluster_rot {
    struct cluster_flip flips[CLUSTER_FLIPS];
    uint32_t count, node; /* node: that is waited for */
    bool over;            /* all is mended: nobody may meet it any more */
};

/* Of all replicas, in all their lives. */
struct cluster_counts {
    uint64_t steps, step_bytes, blocks, digests, lapses, learned, joins, gaps, passes, mismatches, replaced, waited;
    uint64_t updates, freezes, failures, dropped, resets;
    uint64_t lent, mended, served, lost;
    uint64_t refused, while_full; /* writes for which there was no space; other commands that were answered between */
};

struct cluster {
    struct lab *lab;
    struct sim *sim;
    struct io *io; /* the world's own */
    struct prng prng;
    struct replica_timing timing;
    uint32_t nodes, clients_count;
    bool strict, calm, quiet;
    bool hasty;        /* heartbeats come faster than disks and links answer: nobody can join under load */
    uint64_t delay_us; /* of a message, at most */
    /* odds of faults, per thousand */
    uint32_t lose, cut_links, cut_register, cut_power, cut_all, cut_paths, lose_disk, freeze;
    uint32_t silent;   /* paths: who gives up is not heard, per thousand */
    uint32_t shared;   /* so many blocks are written by all clients; 0: to each its own */
    uint32_t updated;  /* so many are updated */
    uint32_t contents; /* of a node, for each use */
    bool small;        /* small pools, and that of one node is smaller */
    uint32_t small_node;
    bool full;       /* it is filled now */
    uint64_t filled; /* blocks that were written to fill them */
    bool bad_disks;  /* those of one machine fail to write or to read, now and then */
    uint32_t bad_node;
    bool quick;      /* who dies is back at once */
    bool slow_reads; /* some take very long */
    struct cluster_node node[CLUSTER_NODES];
    struct cluster_pipe pipe[CLUSTER_NODES][CLUSTER_NODES], urgent[CLUSTER_NODES][CLUSTER_NODES];
    struct replica_config config; /* the register */
    struct list asks;
    uint64_t sessions;
    struct cluster_client clients[CLUSTER_CLIENTS];
    struct list commands, commands_over; /* over: their memory is to be given back */
    uint64_t moments;                    /* that commands were asked for, answered or given up */
    struct cluster_block blocks[CLUSTER_BLOCKS];
    struct io_timer fault;
    struct io_timer strike; /* a node dies in the midst of a step that came to it, so many times */
    uint32_t strike_node, strikes;
    struct cluster_counts counts; /* of lives that are over */
    bool only_blocks;             /* clients make no zeros and holes */
    bool eager;                   /* they write most of the time */
    struct cluster_rot rot;
};

/* ---- cluster.c ---- */

void cluster_begin(struct cluster *c, struct lab *lab, const struct history_options *options);
void cluster_end(struct cluster *c);
/* Power on: the node starts by itself, after `in_ns`. */
void cluster_start(struct cluster *c, uint32_t node, uint64_t in_ns);
void cluster_crash(struct cluster *c, uint32_t node);
/* It lost its power, and comes back with an empty disk. False: nobody else surely has everything. */
bool cluster_replace(struct cluster *c, uint32_t node);
/* Its pool has failed, or did not open: it starts again. */
void cluster_revive(struct cluster *c, uint32_t node);
/* It does nothing for so long. */
void cluster_freeze(struct cluster *c, uint32_t node, uint64_t span_ns);
bool cluster_is_frozen(const struct cluster_node *n);
/* Until now. */
struct cluster_counts cluster_counts(const struct cluster *c);
uint64_t cluster_below(struct cluster *c, uint64_t n);
bool cluster_chance(struct cluster *c, uint32_t per_thousand);

/* ---- cluster_wire.c ---- */

void wires_begin(struct cluster *c);
void wires_end(struct cluster *c);
/* A message of a node's replica (struct replica_wires). */
void cluster_send(void *arg, uint8_t node, const struct replica_message *message, struct replica_content *content);
/* The link of two nodes begins anew; 0: it is gone. What was on its way is lost. */
void cluster_link(struct cluster *c, uint32_t a, uint32_t b, uint64_t session);
/* A node that was frozen hears of its links. */
void cluster_thaw(struct cluster_node *n);
void cluster_link_reset(struct cluster *c, uint32_t a, uint32_t b);
/* What goes from one to the other is lost without a word, or no more. */
void cluster_cut(struct cluster *c, uint32_t from, uint32_t to, bool cut);

/* ---- cluster_client.c ---- */

void client_begin(struct cluster *c, uint32_t number);
/* The node died, or dropped its sessions: its clients hear of it. */
void client_lost(struct cluster *c, uint32_t node, bool died);
/* One session is dropped: both sides hear of it. */
void client_drop(struct cluster *c, uint32_t number);
bool client_is_idle(const struct cluster *c);
/* After they were quiet. */
void client_go_on(struct cluster *c);
/* Gives memory of commands back that are over. */
void client_forget(struct cluster *c);

/* ---- cluster_judge.c ---- */

void judge_begin(struct cluster *c);
void judge_end(struct cluster *c);
uint32_t judge_content(uint32_t block, uint32_t number);
/* A command is asked for; is answered. */
void judge_issue(struct cluster_command *m);
void judge_answer(struct cluster_command *m, enum err err);
/* What is updated was read. False: it cannot be. */
bool judge_update(struct cluster_command *m);
/* In the end a node holds this. */
void judge_look(struct cluster *c, uint32_t node, uint32_t block, const uint8_t *data);

/* ---- cluster_fill.c ---- */

/* Writes until that is refused some times. False, and a finding: it is not. */
bool fill_up(struct cluster *c);
/* Unmaps all that was written so. */
bool fill_clear(struct cluster *c);
/* Writes are taken again, in bounded time. */
bool fill_goes_on(struct cluster *c);

/* ---- cluster_plan.c ---- */

enum cluster_plan { PLAN_NONE, PLAN_RETURN, PLAN_GAP, PLAN_BYTES, PLAN_REPLACED, PLAN_ROT, PLAN_FULL };
enum cluster_plan plan_of(uint64_t seed, int mutation);
/* Before anybody starts; what it needs of the world. */
void plan_begin(struct cluster *c, enum cluster_plan plan);
/* What goes wrong, in place of chance. */
void plan_run(struct cluster *c, enum cluster_plan plan);
/* All is well again: has it happened? */
void plan_judge(struct cluster *c, enum cluster_plan plan);

/* ---- cluster_rot.c ---- */

/* A node's blocks are damaged, a few times. */
void rot_run(struct cluster *c);
/* The command may have met damage. */
bool rot_explains(const struct cluster *c, const struct cluster_command *m);
/* What was damaged, and is what the block holds in the end, was mended. */
bool rot_is_mended(const struct cluster *c, uint64_t mended);
/* What was written again before anybody met the damage: it goes away, so that the auditor does not meet it. */
void rot_forget(struct cluster *c);

/* ---- cluster_run.c ---- */

/* Reads blocks over a node, as its clients do. */
enum err cluster_load(struct cluster *c, uint32_t node, uint64_t lba, uint32_t count, uint8_t *data);

/* Runs for so long, or until a finding. */
void cluster_run_ms(struct cluster *c, uint64_t ms);
/* Runs until that is so, for so long at most; false, and a finding, when it does not come to be. */
bool cluster_until(struct cluster *c, bool (*is)(struct cluster *c), uint64_t ms, const char *what);
bool cluster_is_whole(struct cluster *c);

/* One history; the result is in lab->failure. Returns the hash of its events. */
uint64_t cluster_run(struct lab *lab, const struct history_options *options);

#endif
