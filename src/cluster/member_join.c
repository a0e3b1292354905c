/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How members come: the first one, tokens, and both sides of joining.
 *
 * The joiner introduces itself by a roster node, with the number that its token has. The host puts it into the roster, so that
 * nobody is a member whom the others do not know, and only then answers with a certificate. The joiner forgets who it was, if
 * it was removed from a cluster, and then makes all it needs durable, its identity last: whatever happens between, it is no
 * member, and what lies in its folder is written over the next time.
 */
#include <stdio.h>

#include "base/bytes.h"
#include "cluster/link_enter.h"
#include "cluster/member_internal.h"

enum { ENTER_MS = 5000, TAKEN_IN_MS = 8000, ALL_UP_MS = 2000, LOOK_MS = 20, JOIN_MEMORY = 4 << 20 };

/* [task] It is in no cluster, or is told to leave behind the one that it was removed from. */
static enum err part(struct member *m, struct member_why *why)
{
    if (m->active && !m->removed) {
        member_help(why, "izar cluster status; another node can take it out: izar cluster remove %s", m->config.name);
        return member_tell_why(why, ERR_NAME_EXISTS, "this node belongs to cluster %s", m->roster->name);
    }
    if (m->active) member_stop(m);
    return OK;
}

/* [task] A folder without a cluster, also when the last one was left in the middle. The identity goes first: with that of a
 * removed node, nothing else may be of another. */
static enum err clear(struct member *m, struct member_why *why)
{
    enum err err = identity_file_now(m->identities) != NULL ? identity_file_forget(m->identities) : OK;
    if (err == OK) m->removed = false;
    if (err == OK) err = acceptor_file_erase(m->io, m->mem, m->config.folder);
    return err == OK ? OK : member_tell_why(why, err, "cannot write into %.200s: %s", m->config.folder, err_text(err));
}

/* [task] Nobody asks for the same at the same time; the gate of the book is free for it. */
static enum err not_now(struct member *m, struct member_why *why)
{
    if (!m->changing) return OK;
    return member_tell_why(why, ERR_BUSY, "this node is becoming a member of a cluster at the moment");
}

/* ---- the first member ---- */

static enum err make_first(struct member *m, const char *name, const struct identity *identity, struct member_why *why)
{
    struct roster *roster = m->draft;
    struct roster_node self;
    struct register_state state;
    struct acceptor acceptor;
    uint64_t id = member_acceptor_id(m);
    struct acceptor_set set = acceptor_set_of(&id, 1);
    size_t size;
    m->number = identity->node;
    member_self(m, id, &self);
    *roster = (struct roster){.cluster = identity->cluster, .next = identity->node + 1};
    snprintf(roster->name, sizeof roster->name, "%s", name);
    enum err err = roster_put(roster, &self);
    if (err == OK) err = roster_encode(roster, m->image, REGISTER_BYTES_MAX, &size);
    if (err == OK) {
        register_first_state(&set, m->image, (uint32_t)size, &state);
        acceptor_make(&acceptor, identity->cluster.b, id, &state);
        err = acceptor_file_make(m->io, m->mem, m->config.folder, &acceptor);
    }
    struct token_book book = {.entries[0].node = 0};
    if (err == OK) err = identity_file_save(m->identities, identity, &book);
    return err == OK ? OK : member_tell_why(why, err, "cannot write down who this node is: %s", err_text(err));
}

static enum err create(struct member *m, const char *name, struct member_why *why)
{
    struct cluster_id cluster;
    struct identity identity;
    TRY(part(m, why));
    TRY(clear(m, why));
    io_random(m->io, &cluster, sizeof cluster);
    enum err err = identity_create(&cluster, 1, m->config.wall_s(), &identity);
    if (err != OK) return member_tell_why(why, err, "cannot make the keys of a cluster: %s", err_text(err));
    identity.pool_key = member_own_key(m);
    TRY(links_begin(m, &identity, why));
    err = make_first(m, name, &identity, why);
    if (err == OK) err = member_start(m, why);
    if (err != OK) member_stop(m);
    return err;
}

enum err member_create(struct member *m, const char *name, struct member_why *ret_why)
{
    *ret_why = (struct member_why){.text = ""};
    if (m->config.role == ROSTER_WITNESS)
        return member_tell_why(ret_why, ERR_UNSUPPORTED, "a witness keeps no data: a cluster begins with a node that does");
    if (!roster_name_is_good(name))
        return member_tell_why(ret_why, ERR_ARGUMENT, "a name has 1 to %d letters, digits, '-', '_' and '.'",
                               ROSTER_NAME_SIZE - 1);
    TRY(not_now(m, ret_why));
    m->changing = true;
    enum err err = create(m, name, ret_why);
    m->changing = false;
    if (err == OK) member_say(m, false, "made cluster %s", name);
    return err;
}

/* ---- tokens ---- */

struct next_number {
    uint32_t number;
};

/* Numbers are given out by all together, so no two tokens are for the same node. */
static enum err take_number(struct roster *roster, void *arg, struct member_why *why)
{
    struct next_number *next = arg;
    if (roster->node_count == ROSTER_NODES_MAX)
        return member_tell_why(why, ERR_LIMIT, "a cluster has at most %d nodes", ROSTER_NODES_MAX);
    if (roster->next > NODE_NUMBER_MAX) return member_tell_why(why, ERR_LIMIT, "all numbers of nodes were given out");
    next->number = roster->next++;
    return OK;
}

static enum err write_down(struct member *m, enum roster_role role, uint64_t lifetime_s, struct token *token)
{
    struct token_book book = *identity_file_book(m->identities);
    const struct identity *identity = identity_file_now(m->identities);
    token->cluster = identity->cluster;
    identity_fingerprint(&identity->ca, token->fingerprint);
    char addresses[ROSTER_ADDRESSES_MAX][ROSTER_ADDRESS_SIZE];
    token->address_count = member_addresses(m, addresses);
    for (uint32_t i = 0; i < token->address_count; i++) memcpy(token->addresses[i], addresses[i], ROSTER_ADDRESS_SIZE);
    TRY(token_issue(&book, m->io, role == ROSTER_WITNESS ? TOKEN_WITNESS : TOKEN_NODE, token->node, m->config.wall_s(),
                    lifetime_s, token));
    return identity_file_save(m->identities, identity, &book);
}

enum err member_issue(struct member *m, enum roster_role role, uint64_t lifetime_s, char ret_text[TOKEN_TEXT_MAX],
                      struct token *ret_token, struct member_why *ret_why)
{
    static_assert((int)ROSTER_ADDRESSES_MAX == (int)TOKEN_ADDRESSES_MAX && (int)ROSTER_ADDRESS_SIZE == TOKEN_ADDRESS_MAX + 1,
                  "what a node says of itself fits into a token");
    struct next_number next = {0};
    struct token token = {.node = 0};
    *ret_why = (struct member_why){.text = ""};
    if (m->active && identity_file_now(m->identities)->ca_key.bytes == 0) {
        member_help(ret_why, "izar cluster token on a node with data");
        return member_tell_why(ret_why, ERR_UNSUPPORTED, "a witness lets nobody in: it does not have the cluster's key");
    }
    TRY(member_change(m, take_number, &next, ret_why));
    token.node = next.number;
    gate_enter(&m->book);
    enum err err = m->active && !m->stopping ? write_down(m, role, lifetime_s, &token) : ERR_STOPPED;
    gate_leave(&m->book);
    if (err == ERR_LIMIT) {
        member_help(ret_why, "wait until the first of them ends");
        return member_tell_why(ret_why, err, "%d tokens of this node wait to be used, and no more can", TOKEN_BOOK_MAX);
    }
    if (err == OK) err = token_encode(&token, ret_text);
    if (err != OK) {
        if (token.address_count == 0) member_help(ret_why, "cluster-advertise in izard.conf says where others reach this node");
        return member_tell_why(ret_why, err, "cannot issue a token: %s",
                               token.address_count == 0 ? "this machine has no address that others could reach"
                                                        : err_text(err));
    }
    *ret_token = token;
    return OK;
}

/* ---- the host's side ---- */

struct admission {
    struct roster_node node;
    bool again; /* the book says that it was let in before; that is written after the roster has it */
};

/* One that joined before under this name and was not heard of since makes room. */
static enum err admit(struct roster *roster, void *arg, struct member_why *why)
{
    const struct admission *a = arg;
    const struct roster_node *same = roster_named(roster, a->node.name), *there = roster_find(roster, a->node.number);
    if (same != NULL && same->number != a->node.number && same->stage != ROSTER_JOINING)
        return member_tell_why(why, ERR_NAME_EXISTS,
                               "there is a node %s in this cluster: give the new one another name (name in izard.conf), or "
                               "remove the old one first",
                               a->node.name);
    if (there != NULL && there->stage != ROSTER_JOINING)
        return member_tell_why(why, ERR_DENIED, "node %u has joined already", there->number);
    if (there == NULL && a->again)
        return member_tell_why(why, ERR_DENIED, "node %u was removed: ask for a new token", a->node.number);
    if (same != NULL) roster_drop(roster, same->number);
    if (roster_of_acceptor(roster, a->node.acceptor) != NULL && there == NULL)
        return member_tell_why(why, ERR_DENIED, "its acceptor is one of another node: was a folder copied?");
    if (a->node.number >= roster->next) return member_tell_why(why, ERR_DENIED, "its number was not given out by this cluster");
    if (roster_put(roster, &a->node) == OK) return OK;
    return member_tell_why(why, ERR_LIMIT, "a cluster has at most %d nodes", ROSTER_NODES_MAX);
}

static enum err introduce(const struct join_request *request, const struct token_entry *entry, struct roster_node *ret_node,
                          struct member_why *why)
{
    struct roster_node node;
    if (roster_node_decode(request->info, request->info_bytes, &node) != OK)
        return member_tell_why(why, ERR_DENIED, "what it says of itself cannot be read here: is its version another?");
    bool witness = entry->role == TOKEN_WITNESS;
    if (node.number != entry->node || (node.role == ROSTER_WITNESS) != witness)
        return member_tell_why(why, ERR_DENIED, "the token is for a %s", witness ? "witness" : "node with data");
    node.stage = ROSTER_JOINING;
    node.until_s = entry->expires_s;
    *ret_node = node;
    return OK;
}

/* [task] The book is changed in a copy, which counts when the roster has the node. */
static enum err let_in(struct member *m, struct link_join *join, struct join_answer *answer, struct member_why *why)
{
    struct token_book book = *identity_file_book(m->identities);
    struct token_claim claim = {.request = &join->request.request};
    struct token_entry entry;
    struct admission a;
    char reason[IDENTITY_WHY_MAX];
    const struct identity *identity = identity_file_now(m->identities);
    uint64_t now_s = m->config.wall_s();
    memcpy(claim.binding, join->binding, sizeof claim.binding);
    memcpy(claim.proof, join->request.proof, sizeof claim.proof);
    enum err err = token_redeem(&book, &claim, now_s, reason, &entry, &a.again);
    if (err != OK) return member_tell_why(why, err, "%s", reason);
    TRY(introduce(&join->request, &entry, &a.node, why));
    *answer = (struct join_answer){.node = entry.node, .ca = identity->ca};
    if (entry.role == TOKEN_NODE) {
        answer->ca_key = identity->ca_key;
        answer->pool_key = identity->pool_key;
    }
    err = identity_sign(identity, &join->request.request, entry.node, now_s, &answer->certificate);
    if (err != OK) return member_tell_why(why, err, "its request for a certificate is not good: %s", err_text(err));
    TRY(member_change(m, admit, &a, why));
    err = identity_file_save(m->identities, identity, &book);
    return err == OK ? OK : member_tell_why(why, err, "the book of tokens could not be written: %s", err_text(err));
}

void join_answer_one(struct member *m, struct link_join *join)
{
    struct join_answer answer;
    struct member_why why = {.text = ""};
    enum err err = ERR_DENIED;
    gate_enter(&m->book);
    if (!link_join_waits(join))
        member_tell_why(&why, err, "it did not wait for an answer");
    else if (identity_file_now(m->identities)->ca_key.bytes > 0)
        err = let_in(m, join, &answer, &why);
    else
        member_tell_why(&why, err, "this node is a witness and lets nobody in");
    gate_leave(&m->book);
    if (err == OK)
        link_join_accept(join, &answer);
    else
        link_join_refuse(join, why.text);
}

/* ---- the joiner's side ---- */

static enum err read_token(struct member *m, const char *text, struct token *ret_token, struct member_why *why)
{
    bool witness = m->config.role == ROSTER_WITNESS;
    enum err err = token_decode(text, ret_token);
    if (err == OK && (ret_token->role == TOKEN_WITNESS) == witness) return OK;
    if (err == OK && witness) {
        member_help(why, "start izard without --witness and with a pool, or ask for a token with izar cluster token --witness");
        return member_tell_why(why, ERR_ARGUMENT, "the token is for a node with data, and this izard is a witness");
    }
    if (err == OK) {
        member_help(why, "start izard --witness --state DIR, or ask for a token with izar cluster token");
        return member_tell_why(why, ERR_ARGUMENT, "the token is for a witness, and this izard has a pool");
    }
    member_help(why, "izar cluster token on a node of the cluster issues one");
    if (err == ERR_NEW_FORMAT) return member_tell_why(why, ERR_ARGUMENT, "the token is of a newer version of Izar");
    if (err == ERR_NOT_OURS) return member_tell_why(why, ERR_ARGUMENT, "that is no join token: one begins with IZJ1-");
    return member_tell_why(why, ERR_ARGUMENT, "the token is mistyped, or a part of it is missing");
}

/* What to begin with: ourselves, and the host, which will tell the rest. */
static enum err first_roster(struct member *m, const struct token *token, const struct roster_node *self, uint32_t host)
{
    struct roster *roster = m->draft;
    struct roster_node node = {.number = host, .stage = ROSTER_LIVE, .role = ROSTER_DATA, .name = ".", .acceptor = 2};
    struct register_state state;
    struct acceptor_set set = acceptor_set_of(&self->acceptor, 1);
    size_t size;
    *roster = (struct roster){.cluster = token->cluster, .name = "joining"};
    node.address_count = token->address_count;
    for (uint32_t i = 0; i < token->address_count; i++) memcpy(node.addresses[i], token->addresses[i], ROSTER_ADDRESS_SIZE);
    TRY(roster_put(roster, &node));
    TRY(roster_put(roster, self));
    TRY(roster_encode(roster, m->image, REGISTER_BYTES_MAX, &size));
    register_first_state(&set, m->image, (uint32_t)size, &state); /* older than any that is decided with us in it */
    return state_first(m, &state);
}

/* [task] The identity comes last: with it, this node is a member. */
static enum err settle_in(struct member *m, const struct token *token, const struct identity *identity,
                          const struct roster_node *self, uint32_t host)
{
    struct acceptor acceptor;
    struct token_book book = {.entries[0].node = 0};
    acceptor_make(&acceptor, identity->cluster.b, self->acceptor, NULL);
    m->cluster = identity->cluster;
    TRY(acceptor_file_make(m->io, m->mem, m->config.folder, &acceptor));
    TRY(first_roster(m, token, self, host));
    return identity_file_save(m->identities, identity, &book);
}

static enum err enter(struct member *m, const struct token *token, const struct roster_node *self,
                      struct identity *ret_identity, uint32_t *ret_host, struct member_why *why)
{
    uint8_t at[ROSTER_NODE_BYTES_MAX];
    char reason[ENTER_WHY_MAX] = "";
    size_t size;
    static_assert((int)ROSTER_NODE_BYTES_MAX <= (int)JOIN_INFO_MAX, "what a joiner says of itself fits");
    TRY(roster_node_encode(self, at, sizeof at, &size));
    struct mem *mem = mem_open(JOIN_MEMORY);
    if (mem == NULL) return ERR_NO_MEMORY;
    struct enter_info info = {at, (uint32_t)size};
    enum err err = link_enter(m->io, mem, token, &info, m->config.wall_s(), ENTER_MS, reason, ret_identity, ret_host);
    mem_close(mem);
    if (err == OK) return OK;
    member_help(why, err == ERR_DENIED ? "izar cluster token on a node of the cluster issues another token"
                                       : "is that node running, and is the way to it open?");
    return member_tell_why(why, err == ERR_DENIED ? err : ERR_REFUSED, "not let in: %.350s", reason);
}

static bool is_taken_in(const struct member *m)
{
    const struct roster_node *self = roster_find(m->roster, m->number);
    const struct register_members *members = &m->known.members;
    struct acceptor_set set = roster_acceptors(m->roster, &members->now);
    if (m->roster->next == 0 || self == NULL || self->stage != ROSTER_LIVE) return false;
    return members->next.count == 0 && acceptor_set_equal(&set, &members->now);
}

static bool all_up(const struct member *m)
{
    for (uint32_t i = 0; i < m->roster->node_count; i++)
        if (m->roster->nodes[i].stage == ROSTER_LIVE && !member_is_up(m, m->roster->nodes[i].number)) return false;
    return true;
}

/* Until this node is LIVE and the register is where it should be, and for a moment until all links are up, so that the first
 * answer tells the truth. All of that goes on by itself when it takes longer. */
static void wait_until_taken_in(struct member *m)
{
    for (uint32_t waited = 0; waited < TAKEN_IN_MS && !m->stopping; waited += LOOK_MS) {
        if (is_taken_in(m) && (all_up(m) || waited > ALL_UP_MS)) return;
        io_task_sleep(m->io, LOOK_MS * IO_MS_NS);
    }
}

/* The pool gets the cluster's key before this node is a member, so whoever is one has a pool that others can compare theirs
 * with. Should the rest fail, it is an empty pool with some key. */
static enum err take_key(struct member *m, const struct identity *identity, struct member_why *why)
{
    if (!identity->pool_key.known) return OK;
    return m->config.take_key(m->config.arg, identity->pool_key.at, why);
}

static enum err join(struct member *m, const struct token *token, struct member_why *why)
{
    struct identity identity;
    struct roster_node self;
    uint32_t host = 0;
    TRY(part(m, why));
    m->number = token->node;
    member_self(m, member_acceptor_id(m), &self);
    enum err err = enter(m, token, &self, &identity, &host, why);
    if (err == OK) err = clear(m, why);
    if (err == OK) err = take_key(m, &identity, why);
    if (err == OK) err = links_begin(m, &identity, why);
    if (err == OK) err = settle_in(m, token, &identity, &self, host);
    if (err == OK) err = member_start(m, why);
    if (err == OK) return OK;
    if (why->text[0] == '\0') member_tell_why(why, err, "cannot write down who this node is: %s", err_text(err));
    member_stop(m);
    return err;
}

bool member_knows_key(const struct member *member, const char *token, uint8_t ret_key[POOL_KEY_BYTES])
{
    const struct identity_file *file = member->identities;
    const struct identity *identity = token != NULL ? identity_file_last(file) : identity_file_now(file);
    struct token t;
    if (identity == NULL || !identity->pool_key.known) return false;
    if (token != NULL && token_decode(token, &t) != OK) return false;
    if (token != NULL && memcmp(&t.cluster, &identity->cluster, sizeof t.cluster) != 0) return false;
    memcpy(ret_key, identity->pool_key.at, POOL_KEY_BYTES);
    return true;
}

enum err member_join(struct member *m, const char *token, struct member_why *ret_why)
{
    struct token t;
    *ret_why = (struct member_why){.text = ""};
    TRY(read_token(m, token, &t, ret_why));
    TRY(not_now(m, ret_why));
    m->changing = true;
    enum err err = join(m, &t, ret_why);
    if (err == OK) wait_until_taken_in(m);
    m->changing = false;
    if (err == OK) member_say(m, false, "joined cluster %s as node %u", m->roster->name, m->number);
    return err;
}
