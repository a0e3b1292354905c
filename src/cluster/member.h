/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A member: what makes one node part of a cluster.
 *
 * It opens what the node keeps of the cluster in its state folder, listens, holds a link to every other node, serves the
 * acceptor that lies here, and offers to read and to change the roster (roster.h), the one value that all agree on.
 *
 *     state folder   identity.0/1   who this node is, tokens it issued, starts counted              identity_file.h
 *                    acceptor.0/1   its acceptor: promises, and the value if it holds it            acceptor_file.h
 *                    roster.0/1     the newest decided value it knows: whom to look for at a start
 *
 *     link, stream 1   REQUEST and ANSWER of the register; a head holds the first 4 KiB of a message, the body the rest
 *                      NEWS   "I know version N", at once when it changes and when a link comes up
 *                      ASK, STATE   who is behind asks, and gets what was decided
 *     streams from 16  of the layer above (member_attach)
 *
 * Two tasks of its own: one serves the acceptor, one keeps house (member_keep.c): links as the roster says, joins,
 * certificates, the copy on disk, and what an interrupted change of members still needs. Each step is durable before
 * the next, and each can be found in the roster, so whoever starts, or is left, goes on with it:
 *     join     the host: roster, the node is JOINING until its token ends; then the book; then the answer
 *              the joiner: forgets who it was; acceptor, roster as it was told, identity: from now on it is a member, and
 *              makes itself LIVE
 *              then the lowest numbered node that is up changes the set of acceptors (roster_acceptors)
 *     remove   roster: LEAVING; acceptors without it; roster: gone, and its number is never given again
 *
 * A joiner that is not heard of again is forgotten when its token has ended: by the clock of whoever forgets it, which may be
 * wrong, so no sooner than some minutes after he first saw it.
 *
 * All of it lives on one loop. What waits is called from a task.
 */
#ifndef IZAR_CLUSTER_MEMBER_H
#define IZAR_CLUSTER_MEMBER_H

#include "base/text.h"
#include "cluster/link.h"
#include "cluster/roster.h"
#include "cluster/token.h"

struct member;

/* What is wrong, and what helps, for people. */
struct member_why {
    char text[384], help[256];
};

/* For those who edit the roster: says why not. Returns `err`. */
enum err member_tell_why(struct member_why *why, enum err err, const char *format, ...) TEXT_FORMAT(3, 4);

struct member_config {
    struct io *io;
    const char *folder;
    const char *name; /* of this node */
    enum roster_role role;
    uint8_t store[ROSTER_STORE_BYTES]; /* of a node with data: its pool */
    void *arg;
    /* Of a node with data: the secret of its pool's fingerprints, which all pools of a cluster that is made here will have. */
    void (*own_key)(void *arg, uint8_t ret_key[POOL_KEY_BYTES]);
    /* [task] A cluster has let this node in, with data, and this is the key of its pools: the one here gets it before the node
     * is a member. Not OK: it does not join. */
    enum err (*take_key)(void *arg, const uint8_t key[POOL_KEY_BYTES], struct member_why *why);
    uint64_t (*wall_s)(void);
    void (*tell)(bool is_problem, const char *text);
    uint32_t listen_count;
    const char *listen[ROSTER_ADDRESSES_MAX];
    /* What others are told, instead of where it listens. */
    uint32_t advertise_count;
    const char *advertise[ROSTER_ADDRESSES_MAX];
    /* 0: the defaults of links and of member.c */
    uint32_t heartbeat_ms, timeout_ms, wait_ms, forget_ms;
};

/* [task] Belongs to a cluster again when it did. ERR_NO_MEMORY, what the files say, or why it cannot listen. */
enum err member_open(const struct member_config *config, struct member **ret_member, struct member_why *ret_why);
/* [task] NULL is fine. */
void member_close(struct member *member);

/* ---- looking; no call here waits ---- */

/* What the cluster agreed on, as far as this node knows; NULL: it belongs to none. It may be old when no majority answers. It
 * and all that it points into are good until the caller waits. */
const struct roster *member_roster(const struct member *member);
uint64_t member_version(const struct member *member);
/* Who holds the register, as far as is known. */
const struct register_members *member_acceptors(const struct member *member);
uint32_t member_number(const struct member *member); /* of this node; 0: none */
uint32_t member_boot(const struct member *member);   /* starts of this node as a member, counted; 0: none */
/* The secret of fingerprints of all pools in its cluster; also of the one that it was removed from. With a token: of the
 * cluster that it is for, also when it is nobody's member any more. False: this node does not know it. */
bool member_knows_key(const struct member *member, const char *token, uint8_t ret_key[POOL_KEY_BYTES]);
/* True for this node, and for one whose link is up. */
bool member_is_up(const struct member *member, uint32_t number);
/* How many of the acceptors are up, of how many; true when that is enough to change anything. */
bool member_has_majority(const struct member *member, uint32_t *ret_up, uint32_t *ret_of);
/* It was removed from the cluster: it may create or join another. */
bool member_was_removed(const struct member *member);
/* Where it listens. Returns `buf`. */
const char *member_listen_text(const struct member *member, uint32_t i, char *buf, size_t size);
uint32_t member_listens(const struct member *member);

/* ---- [task] changing; `ret_why` on failure ---- */

/* A new cluster of this node alone. */
enum err member_create(struct member *member, const char *name, struct member_why *ret_why);
/* A token for one more node. */
enum err member_issue(struct member *member, enum roster_role role, uint64_t lifetime_s, char ret_text[TOKEN_TEXT_MAX],
                      struct token *ret_token, struct member_why *ret_why);
/* Joins with a token, and waits for a moment until the others have taken it in. */
enum err member_join(struct member *member, const char *token, struct member_why *ret_why);
/* Removes another node. */
enum err member_remove(struct member *member, uint32_t number, struct member_why *ret_why);

/* What holds now, linearizable; afterwards member_roster has it. ERR_NO_QUORUM, ERR_NO_NAME (no cluster), ERR_STOPPED. */
enum err member_read(struct member *member, struct member_why *ret_why);
/* Makes the next roster of the one that holds. May run several times, each time on a fresh copy; OK, or why not, which then is
 * what the change returns. It does not wait, and what it puts into the roster by pointer lives until the change ends. */
typedef enum err member_edit(struct roster *roster, void *arg, struct member_why *ret_why);
/* Changes the roster by compare-and-swap, again as long as others are faster. OK: it is decided. ERR_UNDECIDED: it may have
 * happened, or may yet; never guessed. Else nothing was changed: ERR_NO_QUORUM, ERR_CONFLICT (others were faster too often). */
enum err member_change(struct member *member, member_edit *edit, void *arg, struct member_why *ret_why);

/* ---- links for the layer above ---- */

/*
 * Who else talks over the links between nodes: streams with ids from MEMBER_USER_STREAM on are his. Those with which nodes
 * agree share connections and windows with them, so he gives messages back without waiting for a change of the roster.
 */
enum { MEMBER_USER_STREAM = 16 };
struct member_user {
    void *arg;
    void (*opened)(void *arg, uint32_t node, struct link *link); /* a link to this node: he may link_stream_init */
    void (*up)(void *arg, uint32_t node);                        /* as links_user.up: also for a new boot of the peer */
    void (*down)(void *arg, uint32_t node);
    void (*message)(void *arg, uint32_t node, struct link_message *message); /* his until link_message_done */
    /* [task] All connections are cut, and nothing is told of the link any more, not that it is down either: he returns when his
     * operations have ended, after link_stream_done for his streams. Messages that he still has he gives back soon. */
    void (*closing)(void *arg, uint32_t node);
    void (*changed)(void *arg); /* another roster is known than before, or none */
};
/* Once, after member_open; copied. Links that are there already are told at once, from within this call; all else is told from
 * the loop. Callbacks do not wait, but for `closing`. NULL [task]: nobody any more, before member_close: returns when `closing`
 * was told of each link. Messages of his streams are thrown away when there is nobody. */
void member_attach(struct member *member, const struct member_user *user);

#endif
