/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of a member share; private to src/cluster/member*.c.
 *
 *     member.c         opening and closing, looking
 *     member_state.c   what is known: the newest decided value, in memory and on disk
 *     member_wire.c    messages over links, and the acceptor's task
 *     member_call.c    reading and changing: the proposer, one call at a time
 *     member_join.c    create, tokens, both sides of joining
 *     member_keep.c    the task that keeps house: links, joins, whatever is unfinished; removing
 *     member_user.c    who else talks over the links
 */
#ifndef IZAR_CLUSTER_MEMBER_INTERNAL_H
#define IZAR_CLUSTER_MEMBER_INTERNAL_H

#include <assert.h>
#include <string.h>

#include "base/text.h"
#include "cluster/acceptor_file.h"
#include "cluster/codec.h"
#include "cluster/identity_file.h"
#include "cluster/member.h"
#include "io/pair.h"

enum { CONTROL_STREAM = 1, PARCELS_MAX = 8 /* under way to a node, or waiting for the acceptor from it */ };
enum member_kind { MEMBER_REQUEST = 1, MEMBER_ANSWER, MEMBER_NEWS, MEMBER_ASK, MEMBER_STATE };

/* Where tasks wait for each other, in order. */
struct gate {
    bool closed;
    struct list waiting;
};

struct peer {
    struct member *member;
    struct list of_member;
    uint32_t number;
    struct link *link;
    struct link_stream stream;
    uint32_t under_way, waiting; /* parcels */
    uint32_t address_count;
    char addresses[ROSTER_ADDRESSES_MAX][ROSTER_ADDRESS_SIZE]; /* that the link has */
    uint64_t gone_ns;                                          /* not 0: not in the roster any more since */
    bool users, parting; /* the user was told of it; he is told at this moment that it closes, and is waited for */
};

/* A message on its way: to another node, or from one to the acceptor here. */
struct parcel {
    struct link_op op;
    struct io_piece piece;
    struct list link;
    struct member *member;
    uint32_t node; /* to whom, from whom */
    uint32_t size;
    uint8_t *at; /* behind it */
};

/* A joiner that waits for an answer. */
struct waiting_join {
    struct list link;
    struct link_join *join;
};

/* Since when this node has seen another one JOINING. */
struct seen {
    uint32_t number;
    uint64_t since_ns;
};

struct member {
    struct member_config config;
    struct io *io;
    struct mem *mem;
    struct identity_file *identities;
    struct gate book;  /* who writes the identity's files */
    struct gate calls; /* who uses the proposer */

    /* Since it belongs to a cluster: */
    bool active, stopping, removed;
    bool changing; /* it is being made a member */
    uint32_t number, boot;
    struct cluster_id cluster;
    struct acceptor_file *acceptor;
    uint64_t acceptor_id; /* 0: none here */
    struct links *links;
    struct list peers;
    struct list joins;

    /* What is known. */
    struct roster *roster, *draft; /* draft: for changes */
    void *bytes;                   /* that `roster` points into */
    struct register_state known;   /* its bytes are `bytes` */
    bool saved;                    /* ... on disk */
    struct pair cache;
    bool cache_open;
    uint64_t cache_generation;

    /* Who else talks over the links. */
    struct member_user user;
    bool attached, changed;
    uint32_t parting; /* links of which he is told that they close, at this moment */
    struct io_timer tell_changed;

    /* The proposer. */
    struct proposer proposer;
    struct register_effects effects;
    struct io_timer timer;
    struct io_task *caller;
    bool done;
    void *found;           /* of the proposer */
    void *image, *message; /* room for one file of what is known, and for one message */

    /* The acceptor's task. */
    struct io_task server;
    struct list parcels;
    bool serving;

    /* The housekeeper. */
    struct io_task keeper;
    struct io_timer wake;
    bool keeping, kicked, renewed;
    uint64_t settle_ns;             /* not before */
    uint64_t told_disk_ns, told_ns; /* the last complaints: of the state folder, of the cluster */
    struct identity renewal;
    uint32_t seen_count;
    struct seen seen[ROSTER_NODES_MAX];
};

void member_help(struct member_why *why, const char *format, ...) TEXT_FORMAT(2, 3);
void member_say(struct member *m, bool is_problem, const char *format, ...) TEXT_FORMAT(3, 4);

/* ---- member.c ---- */

/* [task] Waits until it is open, and closes it. */
void gate_enter(struct gate *gate);
void gate_leave(struct gate *gate);
/* [task] With an identity on disk: acceptor, roster, links and tasks. */
enum err member_start(struct member *m, struct member_why *why);
/* [task] The opposite. */
void member_stop(struct member *m);
enum err links_begin(struct member *m, const struct identity *identity, struct member_why *why);
/* What others are to call. Returns how many. */
uint32_t member_addresses(const struct member *m, char ret_addresses[ROSTER_ADDRESSES_MAX][ROSTER_ADDRESS_SIZE]);
/* For an acceptor that is made here. */
uint64_t member_acceptor_id(struct member *m);
/* The key of the pool here; a witness has none. */
struct pool_key member_own_key(const struct member *m);
/* This node as it should stand in the roster. */
void member_self(const struct member *m, uint64_t acceptor, struct roster_node *ret_node);

/* ---- member_state.c ---- */

/* [task] */
enum err state_open(struct member *m);
void state_close(struct member *m);
/* A state that was decided: kept when it is newer. */
void state_learn(struct member *m, const struct register_state *state);
/* [task] Makes what is known durable, if it is not. */
enum err state_save(struct member *m);
/* Forgets all of it, here. */
void state_forget(struct member *m);
/* [task] What a joiner begins with, on disk. */
enum err state_first(struct member *m, const struct register_state *state);
/* Not known to be decided: good for finding others, and nothing else. */
void state_hint(struct member *m, const struct register_state *state);

/* ---- member_wire.c ---- */

/* Sends a message, if the node is there and has room: register messages may be lost. To ourselves too. */
void wire_send(struct member *m, uint32_t node, enum member_kind kind, const void *at, size_t size);
void wire_request(struct member *m, uint64_t acceptor, const struct register_request *request);
void wire_news(struct member *m, struct peer *peer);
void wire_state(struct member *m, struct peer *peer);
void wire_message(struct link *link, struct link_message *message);
/* [task body] */
void server_run(void *arg);
struct peer *peer_find(const struct member *m, uint32_t number);

/* ---- member_call.c ---- */

void call_answered(struct member *m, const struct register_answer *answer);
/* The call under way, if any, ends soon. */
void call_stop(struct member *m);
/* [task] Brings the acceptors to what the newest roster says of them (roster_acceptors). OK also when there is nobody who could
 * hold the register; `ret_changed`: they were others. */
enum err call_members(struct member *m, bool *ret_changed, struct member_why *why);
/* "2 of 3 acceptors are up; n2 is missing". Returns `buf`. */
const char *majority_text(const struct member *m, char *buf, size_t size);

/* ---- member_join.c ---- */

/* [task] Answers one that waits. */
void join_answer_one(struct member *m, struct link_join *join);

/* ---- member_keep.c ---- */

/* [task body] */
void keeper_run(void *arg);
/* Something is to be done. */
void keeper_kick(struct member *m);
/* [task] Closes all links. */
void peers_close(struct member *m);
/* Cuts its connections, soon. */
void peer_cut(struct peer *peer);

/* ---- member_user.c ---- */

/* He is told, if there is one and he has been told of the link. */
void user_opened(struct peer *peer);
void user_up(struct peer *peer);
void user_down(struct peer *peer);
void user_changed(struct member *m);
/* A message of one of his streams. */
void user_message(struct peer *peer, struct link_message *message);
/* [task] The link was cut: returns when no stream of his is on it any more. */
void user_part(struct peer *peer);

#endif
