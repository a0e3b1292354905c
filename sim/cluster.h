/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole clusters: replicated volumes on real stores, on simulated machines.
 *
 *     cluster.c         the world: machines, their stores and replicas, what goes between them, the register
 *     cluster_client.c  clients on all nodes, and the judge
 *     cluster_plan.c    histories with a plan: each is about something that must have happened in the end
 *     cluster_run.c     a history: what goes wrong, and the end: heal, quiesce, compare, audit
 *
 * What is real: the store, the host of each replica (volume/replica/host.h) and the protocol core in it. What stands in for
 * something: links (first-in first-out pipes with sessions; a receiver without room holds the sender up) and the register
 * (always right, sometimes out of reach). A world has one volume on 2 or 3 machines. Machines lose their power one by one or
 * all at once, links are cut and reset, and now and then one comes back with a new, empty disk.
 *
 * Every block has one client that writes it, with increasing numbers, and all clients read all blocks, each over the node that
 * it likes; so what a read may return is known exactly: nothing older than what was acknowledged or read before it began,
 * nothing that nobody wrote. Each client also makes zeros and holes in a stretch of its own, which nobody reads before the end:
 * then all replicas in sync must hold the same.
 *
 * Who has left the in-sync set catches up and joins again: under the load of all clients, in bounded time after the last
 * trouble. As no disk fails here but as a whole, contents that are compared are never found different.
 *
 * Four seeds of ten have a plan (cluster_plan.c), so that what must be seen is seen by a few seeds in a row.
 */
#ifndef IZAR_SIM_CLUSTER_H
#define IZAR_SIM_CLUSTER_H

#include "sim/lab.h"
#include "volume/replica/host.h"

enum {
    CLUSTER_NODES = 3,
    CLUSTER_CLIENTS = 8,
    CLUSTER_OWN = 64, /* blocks of each client: most are not written twice soon, so what went wrong stays to be seen */
    CLUSTER_BLOCKS = CLUSTER_CLIENTS * CLUSTER_OWN,
    CLUSTER_HOLES = 2000, /* blocks of a client's stretch of zeros and holes, from CLUSTER_HOLES_AT on */
    CLUSTER_HOLES_AT = 4096,
    CLUSTER_SIZE = CLUSTER_HOLES_AT + CLUSTER_CLIENTS * CLUSTER_HOLES,
    CLUSTER_READ_MAX = 6,
    CLUSTER_WRITE_MAX = 4,
};

struct cluster;

/* What is on its way from one node to another. */
struct cluster_letter {
    struct list link;
    uint64_t at;
    struct replica_message message;
    bool has_content;
    enum entry_kind what;
    uint32_t count, used;
    struct block_digest *digests;
    uint8_t *bytes;
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

enum client_verb { CLIENT_READ, CLIENT_WRITE, CLIENT_HOLE };

struct cluster_client {
    struct cluster *cluster;
    uint32_t number, node, life; /* life: of the node, when the session began */
    uint64_t session;            /* 0: none */
    uint64_t lost;               /* its last one, of which the node was not told yet */
    bool busy, writing;
    enum client_verb verb;
    uint32_t first, count;             /* of what is under way */
    uint32_t write_first, write_count; /* of what was not acknowledged yet */
    enum client_verb write_verb;
    uint32_t floor[CLUSTER_READ_MAX];
    struct host_change change;
    struct host_read read;
    struct store_read map;
    struct io_timer timer; /* thinks, or waits for an answer */
    bool abandoned;        /* what is under way is of a session that is gone */
    uint8_t *data, *room;
    struct block_digest digests[CLUSTER_WRITE_MAX];
    uint64_t done, before; /* commands that were answered; and before the end began */
};

struct cluster_block {
    uint32_t invoked, acked, seen;
};

/* Of all replicas, in all their lives. */
struct cluster_counts {
    uint64_t steps, step_bytes, blocks, digests, lapses, learned, joins, gaps, passes, mismatches, replaced, waited;
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
    uint32_t lose, cut_links, cut_register, cut_power, cut_all, cut_paths, lose_disk;
    bool quick;      /* who dies is back at once */
    bool slow_reads; /* some take very long */
    struct cluster_node node[CLUSTER_NODES];
    struct cluster_pipe pipe[CLUSTER_NODES][CLUSTER_NODES];
    struct replica_config config; /* the register */
    struct list asks;
    uint64_t sessions;
    struct cluster_client clients[CLUSTER_CLIENTS];
    struct cluster_block blocks[CLUSTER_BLOCKS];
    struct io_timer fault;
    struct io_timer strike; /* a node dies in the midst of a step that came to it, so many times */
    uint32_t strike_node, strikes;
    struct cluster_counts counts; /* of lives that are over */
    uint32_t resets;
    bool only_blocks; /* clients make no zeros and holes */
    bool eager;       /* they write most of the time */
};

/* ---- cluster.c ---- */

void cluster_begin(struct cluster *c, struct lab *lab, const struct history_options *options);
void cluster_end(struct cluster *c);
/* Power on: the node starts by itself, after `in_ns`. */
void cluster_start(struct cluster *c, uint32_t node, uint64_t in_ns);
void cluster_crash(struct cluster *c, uint32_t node);
/* It lost its power, and comes back with an empty disk. False: nobody else surely has everything. */
bool cluster_replace(struct cluster *c, uint32_t node);
void cluster_link_reset(struct cluster *c, uint32_t a, uint32_t b);
/* Until now. */
struct cluster_counts cluster_counts(const struct cluster *c);
uint64_t cluster_below(struct cluster *c, uint64_t n);
bool cluster_chance(struct cluster *c, uint32_t per_thousand);

/* ---- cluster_client.c ---- */

void client_begin(struct cluster *c, uint32_t number);
/* The node died, or dropped its sessions: its clients hear of it. */
void client_lost(struct cluster *c, uint32_t node, bool died);
/* One session is dropped: both sides hear of it. */
void client_drop(struct cluster *c, uint32_t number);
uint32_t client_content(uint32_t block, uint32_t number);
/* The number that a block's content has; false: nobody wrote that. */
bool client_number(const struct cluster *c, uint32_t block, const uint8_t *data, uint32_t *ret_number);
bool client_is_idle(const struct cluster *c);
/* After they were quiet. */
void client_go_on(struct cluster *c);

/* ---- cluster_plan.c ---- */

enum cluster_plan { PLAN_NONE, PLAN_RETURN, PLAN_GAP, PLAN_BYTES, PLAN_REPLACED };
enum cluster_plan plan_of(uint64_t seed, int mutation);
/* Before anybody starts; what it needs of the world. */
void plan_begin(struct cluster *c, enum cluster_plan plan);
/* What goes wrong, in place of chance. */
void plan_run(struct cluster *c, enum cluster_plan plan);
/* All is well again: has it happened? */
void plan_judge(struct cluster *c, enum cluster_plan plan);

/* ---- cluster_run.c ---- */

/* Runs for so long, or until a finding. */
void cluster_run_ms(struct cluster *c, uint64_t ms);
/* Runs until that is so, for so long at most; false, and a finding, when it does not come to be. */
bool cluster_until(struct cluster *c, bool (*is)(struct cluster *c), uint64_t ms, const char *what);
bool cluster_is_whole(struct cluster *c);

/* One history; the result is in lab->failure. Returns the hash of its events. */
uint64_t cluster_run(struct lab *lab, const struct history_options *options);

#endif
