/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /v1/cluster and /v1/nodes: who belongs together, whether a majority is up, how others come and go. Every node answers, a
 * witness too, and says the same as far as it knows.
 */
#include <stdio.h>
#include <string.h>

#include "api/internal.h"
#include "io/host.h"

enum { LIFETIME_DEFAULT_S = 3600, LIFETIME_MAX_S = 7 * 86400, TOKEN_FIELD_MAX = 2 * TOKEN_TEXT_MAX };

/* ---- nodes ---- */

static const char *state_of(const struct node *node, const struct roster_node *n)
{
    if (n->stage == ROSTER_JOINING) return "joining";
    if (n->stage == ROSTER_LEAVING) return "leaving";
    return member_is_up(node->member, n->number) ? "up" : "down";
}

static json_t *node_json(const struct node *node, const struct roster_node *n)
{
    static const uint8_t none[ROSTER_STORE_BYTES];
    char store[2 * ROSTER_STORE_BYTES + 1];
    struct text t;
    json_t *addresses = json_array();
    bool acceptor = acceptor_set_has(&member_acceptors(node->member)->now, n->acceptor);
    text_init(&t, store, sizeof store);
    text_add_hex(&t, n->store, sizeof n->store);
    for (uint32_t i = 0; i < n->address_count; i++) json_array_append_new(addresses, json_string(n->addresses[i]));
    json_t *o = json_pack("{s:s, s:I, s:s, s:s, s:b, s:b, s:o}", "name", n->name, "number", (json_int_t)n->number, "role",
                          n->role == ROSTER_WITNESS ? "witness" : "data", "state", state_of(node, n), "this",
                          n->number == member_number(node->member), "acceptor", acceptor, "addresses", addresses);
    json_object_set_new(o, "store", memcmp(n->store, none, sizeof none) != 0 ? json_string(store) : json_null());
    return o;
}

static json_t *nodes_json(const struct node *node)
{
    const struct roster *roster = member_roster(node->member);
    json_t *items = json_array();
    for (uint32_t i = 0; roster != NULL && roster->next > 0 && i < roster->node_count; i++)
        json_array_append_new(items, node_json(node, &roster->nodes[i]));
    return items;
}

/* A node without a cluster is alone in its list. */
enum err nodes_list(struct call *call)
{
    const struct node *node = call->node;
    json_t *items = nodes_json(node);
    if (json_array_size(items) == 0) {
        json_t *self = json_pack("{s:s, s:I, s:s, s:s, s:b, s:b, s:[], s:n}", "name", node->config.name, "number",
                                 (json_int_t)0, "role", node->config.witness ? "witness" : "data", "state", "up", "this", true,
                                 "acceptor", false, "addresses", "store");
        json_array_append_new(items, self);
    }
    call->answer = json_pack("{s:o, s:n}", "items", items, "next");
    return OK;
}

/* ---- one sentence ---- */

struct census {
    uint32_t live, up, data, witnesses, changing; /* changing: joining or leaving */
    const char *missing[ROSTER_NODES_MAX];
    uint32_t missing_count;
};

static struct census count_nodes(const struct node *node, const struct roster *roster)
{
    struct census c = {0};
    for (uint32_t i = 0; i < roster->node_count; i++) {
        const struct roster_node *n = &roster->nodes[i];
        bool live = n->stage == ROSTER_LIVE, up = member_is_up(node->member, n->number);
        c.changing += !live;
        if (!live) continue;
        c.live++;
        c.up += up;
        c.data += n->role == ROSTER_DATA;
        c.witnesses += n->role == ROSTER_WITNESS;
        if (!up) c.missing[c.missing_count++] = n->name;
    }
    return c;
}

static void add_missing(struct text *t, const struct census *c)
{
    for (uint32_t i = 0; i < c->missing_count; i++) text_add(t, "%s%s", i > 0 ? ", " : "", c->missing[i]);
}

/* The one node that may go on alone, when there is one acceptor for several nodes; NULL: no such thing. */
static const char *preferred(const struct node *node, const struct roster *roster)
{
    const struct acceptor_set *now = &member_acceptors(node->member)->now;
    const struct roster_node *n = now->count == 1 ? roster_of_acceptor(roster, now->ids[0]) : NULL;
    return n != NULL && roster->node_count > 1 ? n->name : NULL;
}

static void majority_sentence(const struct node *node, const struct roster *roster, const struct census *c, struct text *t)
{
    uint32_t up, of;
    const char *prefer = preferred(node, roster);
    member_has_majority(node->member, &up, &of);
    if (c->missing_count > 0) {
        add_missing(t, c);
        text_add(t, c->missing_count > 1 ? " are missing" : " is missing");
        text_add(t, "; the cluster goes on with %u of %u acceptors", up, of);
        if (up == of / 2 + 1) text_add(t, ", and cannot spare %s", of == 1 ? "it" : "another");
        return;
    }
    if (c->live == 1) {
        text_add(t, "one node is up, and it is all there is");
    } else if (prefer != NULL) {
        text_add(t, "%s nodes are up; without a witness only %s can go on alone", c->live == 2 ? "both" : "all", prefer);
    } else {
        text_add(t, "all %u nodes are up, and the cluster goes on when any %s of %u acceptors %s", c->live,
                 of / 2 > 1 ? "two" : "one", of, of / 2 > 1 ? "fail" : "fails");
    }
}

static void sentence(const struct node *node, char text[CLUSTER_SENTENCE_MAX])
{
    const struct roster *roster = member_roster(node->member);
    uint32_t up, of;
    struct text t;
    text_init(&t, text, CLUSTER_SENTENCE_MAX);
    if (member_was_removed(node->member)) {
        text_add(&t, "this node was removed from its cluster");
        return;
    }
    if (roster == NULL) {
        text_add(&t, "this node belongs to no cluster");
        return;
    }
    if (roster->next == 0) {
        text_add(&t, "this node has joined, and waits to hear from the others");
        return;
    }
    struct census c = count_nodes(node, roster);
    bool majority = member_has_majority(node->member, &up, &of);
    if (majority) {
        majority_sentence(node, roster, &c, &t);
    } else {
        text_add(&t, "no majority: %u of %u acceptors %s up", up, of, up == 1 ? "is" : "are");
        if (c.missing_count > 0) text_add(&t, ", missing: ");
        add_missing(&t, &c);
        text_add(&t, "; nothing of the cluster can be changed until more are up");
    }
    if (c.changing > 0) text_add(&t, "; %u node%s coming or going", c.changing, c.changing > 1 ? "s are" : " is");
}

static const char *remedy(const struct node *node)
{
    const struct roster *roster = member_roster(node->member);
    if (roster == NULL || member_was_removed(node->member))
        return node->config.witness ? "izar cluster join --witness TOKEN"
                                    : "izar cluster create NAME makes one, izar cluster join TOKEN joins one";
    struct census c = count_nodes(node, roster);
    if (c.missing_count > 0) return "start izard on the missing nodes, and look at its log there";
    if (c.live == 1) return "izar cluster token lets another node join";
    if (preferred(node, roster) != NULL)
        return "izar cluster token --witness, then izar cluster join --witness TOKEN on any small machine";
    return NULL;
}

bool cluster_trouble(const struct node *node, char text[CLUSTER_SENTENCE_MAX], const char **ret_remedy)
{
    const struct roster *roster = member_roster(node->member);
    uint32_t up, of;
    bool member = roster != NULL && roster->next > 0 && !member_was_removed(node->member);
    if (member_was_removed(node->member) ||
        (member && (!member_has_majority(node->member, &up, &of) || count_nodes(node, roster).missing_count > 0))) {
        sentence(node, text);
        *ret_remedy = remedy(node) != NULL ? remedy(node) : "izar cluster status";
        return true;
    }
    return false;
}

/* ---- the cluster ---- */

static json_t *cluster_json(const struct node *node)
{
    const struct roster *roster = member_roster(node->member);
    bool member = roster != NULL && !member_was_removed(node->member), known = member && roster->next > 0;
    char text[CLUSTER_SENTENCE_MAX], volumes[CLUSTER_SENTENCE_MAX], id[2 * CLUSTER_ID_BYTES + 1];
    uint32_t up = 0, of = 0;
    struct text t;
    text_init(&t, volumes, sizeof volumes);
    bool safe = node_replicas_safe(known ? roster : NULL, &t);
    bool majority = known && member_has_majority(node->member, &up, &of);
    const char *help = remedy(node), *prefer = known ? preferred(node, roster) : NULL;
    text_init(&t, id, sizeof id);
    if (known) text_add_hex(&t, roster->cluster.b, sizeof roster->cluster.b);
    sentence(node, text);
    bool whole = known && safe && count_nodes(node, roster).missing_count == 0;
    const char *health = !majority ? "down" : !whole ? "degraded" : "ok";
    json_t *o =
        json_pack("{s:b, s:s, s:s, s:s, s:b, s:I, s:I, s:I, s:s}", "member", member, "node", node->config.name, "health",
                  member ? health : "none", "summary", text, "majority", majority, "acceptors", (json_int_t)of, "acceptors_up",
                  (json_int_t)up, "version", (json_int_t)member_version(node->member), "volumes", volumes);
    json_object_set_new(o, "name", known ? json_string(roster->name) : json_null());
    json_object_set_new(o, "id", known ? json_string(id) : json_null());
    json_object_set_new(o, "prefer", prefer != NULL ? json_string(prefer) : json_null());
    json_object_set_new(o, "remedy", help != NULL ? json_string(help) : json_null());
    json_object_set_new(o, "nodes", nodes_json(node));
    return o;
}

enum err cluster_show(struct call *call)
{
    call->answer = cluster_json(call->node);
    return OK;
}

enum err cluster_create(struct call *call)
{
    char name[2 * ROSTER_NAME_SIZE] = "";
    struct member_why why;
    const struct field fields[] = {{"name", FIELD_TEXT, name, 0, sizeof name, true}};
    TRY(fields_read(call->body, fields, 1, &call->problem));
    TRY(catalog_check_name("cluster", name, &call->problem));
    enum err err = member_create(call->node->member, name, &why);
    if (err != OK) return call_tell_why(call, err, &why);
    node_change_begin(call->node);
    err = node_share(call->node);
    node_change_end(call->node);
    if (err != OK) trace(TRACE_WARNING, "hosts of this node become the cluster's later: %s", err_text(err));
    call->status = 201;
    call->answer = cluster_json(call->node);
    return OK;
}

/* Hosts that see volumes here may be other hosts there: which one is meant is not to be guessed. */
static enum err check_hosts(struct call *call, const char *text)
{
    struct node *node = call->node;
    struct token token;
    if (node->config.witness || token_decode(text, &token) != OK) return OK; /* whoever joins with it says what is wrong */
    const struct catalog_host *h = shared_stranger(catalog_now(node->catalogs), &token.cluster);
    if (h == NULL) return OK;
    problem_help(&call->problem, "izar volume unmap, then join and map again: hosts without maps come along");
    return problem_tell(&call->problem, ERR_BUSY,
                        "host %s of this node sees volumes of it; in a cluster a host is the same on all nodes", h->name);
}

enum err cluster_join(struct call *call)
{
    static const size_t room = TOKEN_FIELD_MAX;
    char token[TOKEN_FIELD_MAX] = "";
    struct member_why why;
    const struct field fields[] = {{"token", FIELD_TEXT, token, 1, room, true}};
    TRY(fields_read(call->body, fields, 1, &call->problem));
    TRY(node_key_may_join(call->node, token, &call->problem));
    TRY(check_hosts(call, token));
    enum err err = member_join(call->node->member, token, &why);
    if (err != OK) return call_tell_why(call, err, &why);
    call->status = 201;
    call->answer = cluster_json(call->node);
    return OK;
}

/* ---- tokens ---- */

enum err tokens_create(struct call *call)
{
    char role[16] = "data", text[TOKEN_TEXT_MAX], expires[24];
    uint64_t lifetime_s = LIFETIME_DEFAULT_S;
    struct token token;
    struct member_why why;
    const struct field fields[] = {
        {"role", FIELD_TEXT, role, 0, sizeof role, false},
        {"lifetime_seconds", FIELD_NUMBER, &lifetime_s, 1, LIFETIME_MAX_S, false},
    };
    TRY(fields_read(call->body, fields, sizeof fields / sizeof fields[0], &call->problem));
    bool witness = strcmp(role, "witness") == 0;
    if (!witness && strcmp(role, "data") != 0) return problem_tell(&call->problem, ERR_ARGUMENT, "\"role\" is data or witness");
    enum err err = member_issue(call->node->member, witness ? ROSTER_WITNESS : ROSTER_DATA, lifetime_s, text, &token, &why);
    if (err != OK) return call_tell_why(call, err, &why);
    call->status = 201;
    call->answer = json_pack("{s:s, s:s, s:I, s:s}", "token", text, "role", role, "number", (json_int_t)token.node, "expires",
                             host_time_text(token.expires_s, expires));
    return OK;
}

/* ---- removing ---- */

enum err nodes_delete(struct call *call)
{
    const struct roster *roster = member_roster(call->node->member);
    struct member_why why;
    const struct roster_node *n = roster != NULL ? roster_named(roster, call->parts[0]) : NULL;
    if (n == NULL) {
        problem_help(&call->problem, "izar node list");
        return problem_tell(&call->problem, ERR_NO_NAME, "there is no node %.100s in a cluster of this one", call->parts[0]);
    }
    enum err err = member_remove(call->node->member, n->number, &why);
    return err == OK ? OK : call_tell_why(call, err, &why);
}
