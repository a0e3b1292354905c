/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The register: one value that a cluster agrees on, changed by compare-and-swap, held by a few acceptors.
 *
 * There is one value, at most 1 MiB, with a version that grows by one with each change. register_read says what it is, and
 * register_cas replaces it if its version is still the expected one. Both are linearizable: whoever asks later sees the same
 * or newer. It works as long as a majority of the acceptors answer, loses nothing when all of them lose power at once, and
 * never holds two truths. How and why: register.c.
 *
 * Two halves, both pure. They know no clock, no file and no socket; what they are told comes in, what is to be done comes out:
 *
 *     the proposer   asks. One on each node: a call, an answer or a time-out goes in, messages, one timer and a result come
 *     out. the acceptor   keeps. A request goes in; a new state to be made durable, and then an answer, come out.
 *
 * Everything of one proposer, and everything of one acceptor, happens on one loop, whichever the owner chose. Nothing here
 * allocates. Messages are bytes by codec.h; an acceptor's state lies on disk by acceptor_file.h.
 */
#ifndef IZAR_CLUSTER_REGISTER_H
#define IZAR_CLUSTER_REGISTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "cluster/ids.h"

enum {
    ACCEPTORS_MAX = 7,                      /* in one set */
    REGISTER_PEERS_MAX = 4 * ACCEPTORS_MAX, /* that one attempt may ask: two sets it knew, two that it found */
    REGISTER_TAGS = 16,                     /* changes that the value remembers */
    REGISTER_BYTES_MAX = 1 << 20,
};

/* ---- what is agreed on ---- */

/* Ballots are ordered by round, node, boot. None is used twice: a proposer counts its rounds, and each start of its node has
 * a boot number of its own. Round 0: no ballot. */
struct ballot {
    uint64_t round;
    uint32_t node, boot;
};

/* Acceptors by their ids: random, never 0, made with the acceptor and never given to another. Ascending. */
struct acceptor_set {
    uint32_t count;
    uint64_t ids[ACCEPTORS_MAX];
};

/* Who holds the register. While the set is being changed, `next` is the new one, and nothing is decided without a majority of
 * each; else it is empty. Every step has the next epoch. */
struct register_members {
    uint64_t epoch;
    struct acceptor_set now, next;
};

/* Names a change, so that whoever made it can tell later whether it took place. */
struct register_tag {
    uint32_t node, boot;
    uint64_t number;
};

struct register_state {
    uint64_t version; /* of the value, from 1 */
    struct register_members members;
    struct register_tag tags[REGISTER_TAGS]; /* that of the change to version v is at v % REGISTER_TAGS */
    const void *bytes;
    uint32_t size;
};

/* < 0, 0, > 0 */
int ballot_compare(struct ballot a, struct ballot b);
bool tag_equal(struct register_tag a, struct register_tag b);
bool members_equal(const struct register_members *a, const struct register_members *b);
/* Sorts, and drops what is there twice. At most ACCEPTORS_MAX ids, none 0. */
struct acceptor_set acceptor_set_of(const uint64_t *ids, uint32_t count);
bool acceptor_set_has(const struct acceptor_set *set, uint64_t id);
bool acceptor_set_equal(const struct acceptor_set *a, const struct acceptor_set *b);
/* True when these `count` ids contain a majority of the set; of each of the two while it is changed. */
bool acceptor_set_majority(const struct acceptor_set *set, const uint64_t *ids, uint32_t count);
bool members_quorum(const struct register_members *members, const uint64_t *ids, uint32_t count);
/* The value of a new cluster: version 1, epoch 1. `bytes` must outlive it. */
void register_first_state(const struct acceptor_set *set, const void *bytes, uint32_t size, struct register_state *ret_state);
/* "3.1.7", "5: 101 102 103 -> 101 104 105". Return `buf`. */
const char *ballot_text(struct ballot ballot, char *buf, size_t size);
const char *members_text(const struct register_members *members, char *buf, size_t size);

/* ---- messages ---- */

enum register_ask { REGISTER_LOOK = 1, REGISTER_PREPARE, REGISTER_ACCEPT };

struct register_request {
    enum register_ask ask;
    uint8_t cluster[CLUSTER_ID_BYTES];
    uint64_t acceptor;           /* for whom */
    uint32_t node, boot;         /* of whom */
    uint64_t attempt;            /* returned with the answer */
    uint64_t epoch;              /* of the members that the proposer knows */
    struct ballot ballot;        /* PREPARE, ACCEPT; LOOK: none */
    struct register_state state; /* ACCEPT */
};

enum register_verdict {
    REGISTER_YES = 1, /* seen, promised or accepted */
    REGISTER_OUTBID,  /* a higher ballot is promised */
    REGISTER_MOVED    /* the members are others than the proposer thinks: `state` says which, without its bytes */
};

struct register_answer {
    enum register_ask ask;
    enum register_verdict verdict;
    uint8_t cluster[CLUSTER_ID_BYTES];
    uint64_t acceptor;
    uint32_t node, boot;
    uint64_t attempt;
    struct ballot promised, accepted;
    struct register_state state; /* what it accepted; not for ACCEPT, nor when `accepted` is none */
};

/* ---- the acceptor ---- */

struct acceptor {
    uint8_t cluster[CLUSTER_ID_BYTES];
    uint64_t id;
    uint32_t boot;                    /* starts of its node */
    struct ballot promised, accepted; /* accepted <= promised */
    struct register_state state;      /* when `accepted` is a ballot */
};

enum acceptor_step {
    ACCEPTOR_SILENT,  /* the request is not for this acceptor: nothing to do */
    ACCEPTOR_ANSWER,  /* send the answer; nothing changed */
    ACCEPTOR_PERSIST, /* make *ret_next durable; then, and only then, it is the state, and the answer may go */
};

/* A new acceptor. With `first` it is one of those that found a cluster, all with the same state; without, it is empty and waits
 * to be made a member. Only ever for a new id: an acceptor that lost its state is no new acceptor. */
void acceptor_make(struct acceptor *ret_acceptor, const uint8_t cluster[CLUSTER_ID_BYTES], uint64_t id,
                   const struct register_state *first);
/* What is left of it after a start of its node: to be made durable before anything else. */
void acceptor_restart(struct acceptor *acceptor);
/* One request. `ret_next` and `ret_answer` point to bytes of `acceptor` or of `request`. Until what it said is done (durable,
 * adopted, answered) no other request may be handled. */
enum acceptor_step acceptor_handle(const struct acceptor *acceptor, const struct register_request *request,
                                   struct acceptor *ret_next, struct register_answer *ret_answer);

/* ---- the proposer ---- */

struct register_config {
    uint8_t cluster[CLUSTER_ID_BYTES];
    uint32_t node, boot;             /* boot: larger with each start of the node */
    struct register_members members; /* as last heard of: whom to ask first. An old one only costs time */
    uint32_t wait_ms;                /* for answers, before a next attempt */
    uint32_t pause_ms;               /* between attempts that were outbid: at most this at first, then longer */
    uint32_t attempts;               /* before giving up */
};

/* What is to be done after a step. */
struct register_effects {
    /* Send `request` to each of these; its `acceptor` is for the sender to fill in. Its bytes live until the next step. */
    uint32_t to_count;
    uint64_t to[REGISTER_PEERS_MAX];
    struct register_request request;
    uint32_t timer_ms; /* not 0: arm the one timer, anew if it is armed */
    bool done;         /* the call is over, so is the timer: */
    enum err err;
    uint64_t version;            /* CAS, OK: that of the change; may be older than `state` when it was made before */
    struct register_state state; /* what holds; version 0: not known, as said below. Its bytes live until the next step */
};

enum register_phase {
    REGISTER_IDLE,
    REGISTER_LOOKING,
    REGISTER_PREPARING,
    REGISTER_ACCEPTING,
    REGISTER_PAUSING,
};

enum register_verb { REGISTER_VERB_READ, REGISTER_VERB_CAS, REGISTER_VERB_MEMBERS };

/* Private, but embedded in its owner. */
struct proposer {
    struct register_config config;
    enum register_phase phase;
    uint64_t confirmed; /* the newest epoch that is known to have been decided */
    uint64_t round;     /* highest used or heard of */
    uint64_t attempt, next_tag;

    /* The call. */
    enum register_verb verb;
    uint64_t expected;
    struct register_tag tag;
    const void *bytes;
    uint32_t size;
    struct acceptor_set target;
    bool maybe; /* the change was proposed: it may take place whatever happens here */
    uint32_t attempts;

    /* The attempt. */
    struct ballot ballot;
    uint32_t peer_count, yes_count;
    uint64_t peers[REGISTER_PEERS_MAX];     /* asked */
    uint64_t yes[REGISTER_PEERS_MAX];       /* of them, those who answered YES */
    struct ballot seen[REGISTER_PEERS_MAX]; /* what each of those had accepted */
    struct ballot best;                     /* the highest of these */
    struct register_state found;            /* ... and its state; bytes in `buffer` */
    struct register_state proposed;
    enum err outcome; /* of the call, once `proposed` is decided */
    void *buffer;     /* REGISTER_BYTES_MAX bytes */
};

/* Also after a restart of the node, with the next boot number. `buffer`: room for REGISTER_BYTES_MAX bytes. */
void proposer_init(struct proposer *p, const struct register_config *config, void *buffer);
bool proposer_is_idle(const struct proposer *p);
/* Between calls: it was heard who holds the register now; of an epoch that was decided. */
void proposer_heard(struct proposer *p, const struct register_members *members);
/* Who holds the register, as far as is known. */
const struct register_members *proposer_members(const struct proposer *p);

/*
 * Calls, one at a time: the proposer is idle, and after each of these some step is `done`. `random`, here and below: 64 bits
 * from the caller's source.
 *
 *     OK               it took place; what holds is in `state`
 *     ERR_CONFLICT     CAS: the version was not the expected one, and this change did not and will not take place. MEMBERS:
 *                      likewise, the members are others than `set`, and no step towards it will be made for this call any more
 *     ERR_NO_QUORUM    too few acceptors answer; nothing was changed and nothing will be
 *     ERR_UNDECIDED    CAS, MEMBERS: proposed, but too few answer. It may have taken place, or may yet; a later read tells
 *                      (register_fate), and so does the same CAS `again` with the same tag. With a state (its version is not 0)
 *                      it is decided, but too many changes were made since to tell how
 */
void register_read(struct proposer *p, uint64_t random, struct register_effects *ret_effects);

struct register_change {
    uint64_t expected;       /* version that it replaces */
    struct register_tag tag; /* from register_new_tag */
    bool again;              /* this tag was undecided before */
    const void *bytes;       /* live until the call is done */
    uint32_t size;           /* at most REGISTER_BYTES_MAX */
};

/* A tag of its own for each change. */
struct register_tag register_new_tag(struct proposer *p);
void register_cas(struct proposer *p, const struct register_change *change, uint64_t random,
                  struct register_effects *ret_effects);

/* Makes `set` (1 to ACCEPTORS_MAX) the acceptors, in as many steps as it takes, if the version of the value, by which they were
 * chosen, is still `expected`; a change that somebody left unfinished is finished first, whatever the version. A majority of
 * the new ones must be up before anything is changed. */
void register_members(struct proposer *p, const struct acceptor_set *set, uint64_t expected, uint64_t random,
                      struct register_effects *ret_effects);

/* An answer came; any answer, however late. */
void register_answered(struct proposer *p, const struct register_answer *answer, uint64_t random,
                       struct register_effects *ret_effects);
/* The timer fired. */
void register_timeout(struct proposer *p, uint64_t random, struct register_effects *ret_effects);

enum register_fate { REGISTER_FATE_DONE, REGISTER_FATE_NEVER, REGISTER_FATE_OPEN, REGISTER_FATE_FORGOTTEN };
/* What a state that was read says of a change: it took place; it never will; it may yet; too many changes came after it to
 * tell. */
enum register_fate register_fate(const struct register_state *state, uint64_t expected, struct register_tag tag);

#endif
