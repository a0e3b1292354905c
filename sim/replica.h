/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replicated volumes over model stores: the protocol core of src/volume/replica, as it is, in a world of a few nodes.
 *
 *     replica_main.c    options, seeds, mutations
 *     replica.c         the world: time, nodes, links, the register
 *     replica_store.c   a store of a handful of blocks, with a journal that is durable up to somewhere
 *     replica_client.c  clients on all nodes, and the judge
 *     replica_fault.c   what goes wrong, and the end: heal, quiesce, compare
 *     replica_direct.c  histories for one rule each; they are in replica_direct_*.c
 *
 * A world is one volume on 2 to 8 nodes. Nodes crash, freeze and have clocks of their own; links lose, cut one way, are reset,
 * and in some worlds reorder and repeat; the register is always right and often out of reach. Every block has one client that
 * writes it, alone or with its neighbours, with increasing numbers, and all clients read all blocks, each over the node that it
 * likes: so what a read may return is known exactly, at once: nothing older than what was acknowledged or read before it began,
 * nothing that nobody wrote there. In some worlds there is a pump, too: a client at the owner that writes as fast as it can,
 * whose blocks are only compared in the end.
 */
#ifndef IZAR_SIM_REPLICA_H
#define IZAR_SIM_REPLICA_H

#include "base/prng.h"
#include "volume/replica/replica.h"

enum {
    WORLD_NODES = REPLICA_NODES_MAX,
    WORLD_BLOCKS = 16,
    WORLD_JUDGED = 12, /* of these: clients write them; the pump writes the others */
    WORLD_CLIENTS = 6,
    WORLD_PUMP = 7, /* its number as a client */
    WORLD_RANGES = 4096,
    WORLD_CONTENTS = 1024,
    WORLD_JOURNAL = 512,
    WORLD_TAIL = 1024, /* slots for prepared records, by sequence */
    WORLD_NOTES = 64,
};

/* izar-sim --replica ARGUMENTS. The exit code. */
int replica_main(int argc, char **argv);

/* ---- the store ---- */

struct content {
    uint64_t first, count, since; /* how it was asked for */
    uint32_t set;
    uint32_t value[WORLD_BLOCKS];
};

struct volume_state {
    uint32_t value[WORLD_BLOCKS];
    uint64_t newest[WORLD_BLOCKS];
    struct replica_mark committed;
    uint64_t end, join;
    struct replica_learn learn;
    struct replica_window windows[WORLD_NODES];
    struct replica_record tail[WORLD_TAIL]; /* those from committed + 1 to end count */
};

enum item_kind { ITEM_PREPARE, ITEM_PUBLISH, ITEM_DISCARD, ITEM_APPLY, ITEM_LEARNED };

struct item {
    enum item_kind kind;
    uint64_t sequence, join;
    struct replica_mark mark;
    struct replica_record record;
    struct replica_step step;
    struct content content;
    struct replica_window windows[WORLD_NODES];
};

struct model_store {
    struct volume_state live, durable;
    struct item journal[WORLD_JOURNAL]; /* from `synced` to `written`, not durable */
    uint64_t synced, written, syncing;  /* syncing: up to which the sync under way reaches; 0: none */
    uint64_t space;                     /* blocks that it has promised */
    bool cleans;                        /* it may find more; what is given back stays with it */
    uint32_t boot;
};

/* ---- the world ---- */

enum happening_kind {
    HAPPEN_TIMER,
    HAPPEN_MESSAGE,
    HAPPEN_LINK,
    HAPPEN_SYNC,
    HAPPEN_NOTE,
    HAPPEN_REGISTER,
    HAPPEN_CONFIG,
    HAPPEN_COMMAND, /* a client's, at the node */
    HAPPEN_LOST,    /* a client's session, at the node */
    HAPPEN_MAP_READ,
    HAPPEN_ANSWER, /* at the client */
    HAPPEN_CLIENT, /* it wakes up */
    HAPPEN_PUMP,
    HAPPEN_FAULT,
    HAPPEN_MEND,
    HAPPEN_BOOT,
};

struct happening {
    uint64_t at, order;
    enum happening_kind kind;
    uint8_t node;     /* at which it happens, when at a node */
    uint32_t life;    /* of the node; 0: any */
    uint64_t a, b, c; /* by kind */
    uint32_t letter;  /* MESSAGE, REGISTER, CONFIG, NOTE */
};

struct world_time {
    uint64_t at, order;
    uint32_t place; /* of the happening */
};

/* What a happening carries that is large. */
struct letter {
    uint32_t next; /* in the free list */
    struct replica_message message;
    struct replica_config config;
    struct replica_event event;
};

struct world_node {
    bool up;
    uint32_t life;
    uint64_t frozen_until;
    int64_t rate_ppm;
    uint64_t clock_base, clock_from; /* its clock showed base at world time from */
    uint64_t last;                   /* its clock at the last event */
    uint64_t timer_at;               /* world time of the timer that is set */
    uint64_t sessions_from;          /* older sessions of clients are gone */
    uint64_t lost[WORLD_CLIENTS];    /* and so is this one of each client, and those before it */
    bool register_cut, slow_disk;
    bool damaged;      /* walks and digests fail */
    bool full;         /* steps of catch-up find no space */
    uint64_t put_back; /* join of a store that was put back to an image: it lacks what it acknowledged under that */
    bool has_image;
    struct model_store *image;
    uint64_t refill; /* blocks that come back to the store after a while */
    struct replica *core;
    struct model_store *store;
};

struct world_client {
    bool busy;
    bool writing; /* the newest value of its block is not acknowledged yet */
    uint32_t block, count, write_block, write_count, node;
    uint32_t written; /* its writes have numbers */
    struct {
        uint8_t block, count;
    } ranges[WORLD_RANGES]; /* of the newest of them */
    uint64_t since;         /* of the write at hand: see client_depends */
    uint64_t session, number, deadline;
    bool reading;
    uint32_t floor;
    bool cut[WORLD_NODES];
    uint64_t done; /* operations that ended well */
};

struct world_block {
    uint32_t invoked, acked, seen;
};

struct world_plan {
    uint32_t nodes, replicas, clients, walk_blocks;
    bool reorder, tight, strict, fence;
    struct replica_timing timing;
    uint64_t faults_until, patience_us; /* after that, all must be well after so long */
    uint32_t kinds;                     /* of faults, a set */
    uint64_t fault_every_us, think_us, client_timeout_us;
    uint64_t capacity;
    uint64_t pump_us;   /* not 0: one more write every so often */
    uint64_t digest_us; /* a digest takes so much longer than usual */
    int64_t drift_ppm;
};

struct world {
    struct prng prng;
    struct world_plan plan;
    bool trace, calm, quiet;      /* calm: nothing goes wrong any more; quiet: clients begin nothing new */
    bool manual, rotten, lawless; /* clients do what they are told; content was lost on purpose; nothing is judged */
    uint64_t delay[WORLD_NODES][WORLD_NODES], register_delay; /* more than usual, for directed histories */
    uint64_t now, order;
    struct world_time *heap;
    struct happening *places;
    uint32_t heap_count, place_room, place_free;
    struct letter *letters;
    uint32_t letter_count, letter_room, letter_free;
    struct world_node nodes[WORLD_NODES];
    bool cut[WORLD_NODES][WORLD_NODES];
    uint64_t session[WORLD_NODES][WORLD_NODES], delivered[WORLD_NODES][WORLD_NODES];
    uint64_t sessions;            /* of links and of clients, numbered */
    struct replica_config config; /* the register */
    uint64_t register_slow_until;
    struct content contents[WORLD_CONTENTS];
    uint64_t content_count;
    struct world_client clients[WORLD_CLIENTS];
    struct world_block blocks[WORLD_BLOCKS];
    uint64_t pumped, overtaken; /* answers OVERTAKEN */
    uint8_t acting;             /* node whose core is running */
    bool fence_fails;
    uint64_t fences;
    uint64_t happened, resets;
    uint64_t unsaid;              /* messages that no wire takes, in all worlds so far */
    struct replica_counts counts; /* of all lives that ended */
    char failure[256];
};

bool world_failed(const struct world *w);
void world_fail(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
void world_say(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
uint64_t world_below(struct world *w, uint64_t n);
bool world_chance(struct world *w, uint32_t per_thousand);
/* A letter to fill in; it goes when what carries it has happened. */
uint32_t world_letter(struct world *w);
/* Something that happens `in` us from now. */
void world_plan_it(struct world *w, uint64_t in, const struct happening *h);
struct world *world_open(void);
void world_close(struct world *w);
void world_begin(struct world *w, uint64_t seed, const struct world_plan *plan, bool trace);
/* Lets things happen until that time, or a failure. */
void world_run(struct world *w, uint64_t until);
void world_boot(struct world *w, uint32_t node);
void world_crash(struct world *w, uint32_t node);
void world_freeze(struct world *w, uint32_t node, uint64_t us);
/* As a virtual machine that is suspended: its clock stands still, too. */
void world_suspend(struct world *w, uint32_t node, uint64_t us);
void world_link_reset(struct world *w, uint32_t a, uint32_t b);
/* Its core did not run for longer than a node in health lets it. */
bool world_was_still(const struct world *w, uint32_t node);
void world_step(struct world *w, uint32_t node, struct replica_event *event);
void world_counts_add(struct replica_counts *sum, const struct replica_counts *more);

/* replica_store.c */
void store_begin(struct model_store *s, uint64_t join, uint64_t capacity);
void store_effect(struct world *w, uint32_t node, const struct replica_effect *e);
void store_happens(struct world *w, const struct happening *h);
void store_note(struct world *w, uint32_t node, uint64_t in, const struct replica_event *e);
/* What is durable there now; and back to that, while the node is down: as an image of a machine that is put back. */
void store_save(const struct world *w, uint32_t node, struct model_store *ret_image);
void store_restore(struct world *w, uint32_t node, const struct model_store *image);
void store_crash(struct world *w, uint32_t node);
void store_facts(struct world *w, uint32_t node, struct replica_record *room, struct replica_facts *ret_facts);
uint32_t store_value(const struct model_store *s, uint32_t block, bool dirty);
/* A walk is over: some of what it read it reads only now. */
void store_walked(struct world *w, uint32_t node, const struct replica_event *e);

/* replica_client.c */
void client_wakes(struct world *w, uint32_t client, uint64_t number);
void client_happens(struct world *w, const struct happening *h);
void client_pumps(struct world *w);
void client_effect(struct world *w, uint32_t node, const struct replica_effect *e);
void client_reset(struct world *w, uint32_t client);
/* Directed: client 0 reads or writes block 0 over a node. */
void client_direct(struct world *w, uint32_t node, bool read);
/* The same for a write of what depends on what was there as of `since`. */
void client_depends(struct world *w, uint32_t node, uint64_t since);
void client_node_gone(struct world *w, uint32_t node);

/* By the register it is in sync, and it has all that it ever acknowledged. */
bool world_holds(const struct world *w, const struct replica_config *config, uint32_t node);

/* replica_fault.c */
void plan_draw(struct prng *prng, struct world_plan *ret_plan);
void fault_happens(struct world *w);
void fault_mends(struct world *w, const struct happening *h);
/* A whole history; returns a hash of its end. */
uint64_t replica_run(struct world *w, uint64_t seed, bool trace);

/* replica_direct.c: whether there is a history for that rule. */
void direct_replica_all(struct world *w, uint64_t seed);
void direct_replica_one(struct world *w, uint32_t history, uint64_t seed, bool trace);
bool direct_replica_has(uint32_t mutation);
void direct_replica_run(struct world *w, uint32_t mutation, uint64_t seed, bool trace);

#endif
