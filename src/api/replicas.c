/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Volumes with replicas on other nodes, as the catalog and the API of one node see them.
 *
 * The roster says which there are (volume/replica/placement.h). Each of their nodes keeps one under the same name and identity:
 * made when the roster says so, in the catalog's order of steps (node.h), and taken away again with its maps. Hosts and maps
 * are each node's own.
 */
#include <stdio.h>
#include <string.h>

#include "api/internal.h"
#include "io/host.h"

/* ---- what the replicas ask ---- */

bool node_replica_is_ours(const struct node *node, const struct volume_replica *replica)
{
    const struct roster *roster = member_roster(node->member);
    if (roster == NULL || member_was_removed(node->member)) return false;
    return memcmp(replica->cluster, roster->cluster.b, sizeof replica->cluster) == 0;
}

/* One that is missing in the pool is known by its name: its number may be of another cluster. */
bool node_replica_place(const struct node *node, const struct catalog_volume *v, struct placement *ret_place)
{
    const struct volume *there = volumes_find(node->volumes, v->id);
    const struct volume_replica *replica = there != NULL ? volume_replica(there) : NULL;
    struct placement place;
    if (v->number == 0 || node->replicas == NULL || !replicas_place(node->replicas, v->number, &place)) return false;
    bool ours = replica != NULL ? node_replica_is_ours(node, replica) : there == NULL && strcmp(place.name, v->name) == 0;
    if (ours) *ret_place = place;
    return ours;
}

static struct volume *find(void *arg, uint32_t number)
{
    const struct node *node = arg;
    for (struct volume *v = volumes_next(node->volumes, 1); v != NULL; v = volumes_next(node->volumes, volume_id(v) + 1)) {
        const struct volume_replica *r = volume_replica(v);
        if (r != NULL && r->number == number && node_replica_is_ours(node, r)) return v;
    }
    return NULL;
}

/* [task] The catalog holds the name as `creating`. */
static enum err make_meant(struct node *node, uint32_t number, const struct placement *place, bool original,
                           struct volume **ret_volume)
{
    struct volume_replica replica = {.number = number, .original = original};
    memcpy(replica.cluster, member_roster(node->member)->cluster.b, sizeof replica.cluster);
    enum err err = volume_create_replica(node->volumes, place->blocks * BLOCK_SIZE, &replica, ret_volume);
    struct catalog *draft = catalog_draft(node->catalogs);
    struct catalog_volume *v = catalog_volume(draft, place->name);
    if (err != OK) {
        catalog_remove_volume(draft, v->id);
        enum err undone = catalog_commit(node->catalogs);
        return undone != OK ? undone : err;
    }
    v->id = volume_id(*ret_volume);
    v->state = VOLUME_LIVE;
    return catalog_commit(node->catalogs);
}

/* [task] */
static enum err make_new(struct node *node, uint32_t number, const struct placement *place, bool original,
                         struct volume **ret_volume)
{
    struct problem p = {.err = OK};
    struct catalog_volume v = {.id = store_last_volume(node->store) + 1,
                               .number = number,
                               .block_size = place->block_bytes,
                               .created = place->created_s,
                               .state = VOLUME_CREATING};
    snprintf(v.name, sizeof v.name, "%s", place->name);
    struct catalog *draft = catalog_draft(node->catalogs);
    const struct catalog_volume *missing = catalog_volume(draft, place->name);
    bool again = missing != NULL && missing->number == number && volumes_find(node->volumes, missing->id) == NULL;
    if (again) catalog_remove_volume(draft, missing->id); /* the pool lost it; its maps come from the roster */
    TRY(catalog_add_volume(draft, &v, &p));
    TRY(catalog_commit(node->catalogs));
    enum err err = make_meant(node, number, place, original, ret_volume);
    if (err == OK) trace(TRACE_NOTICE, "volume %s: this node keeps a replica now", place->name);
    if (err == OK) node_sharing_kick(node); /* its maps */
    return err;
}

static enum err make(void *arg, uint32_t number, const struct placement *place, bool original, struct volume **ret_volume)
{
    struct node *node = arg;
    node_change_begin(node);
    enum err err = make_new(node, number, place, original, ret_volume);
    node_change_end(node);
    return err;
}

static enum err unmake(void *arg, uint32_t number)
{
    struct node *node = arg;
    struct problem p = {.err = OK};
    node_change_begin(node);
    struct volume *there = find(node, number);
    enum err err = there != NULL ? node_volume_delete(node, volume_id(there), &p) : OK;
    node_change_end(node);
    return err;
}

/* This node stood still; others may have gone on without it, and so may its clients on their other paths (rule 12). */
static void reset(void *arg)
{
    struct node *node = arg;
    struct iscsi_session_info info;
    uint32_t cut = 0;
    for (uint64_t from = 0; node->target != NULL && iscsi_session_next(node->target, from, &info) == OK; from = info.id + 1)
        cut += iscsi_session_cut(node->target, info.id) == OK;
    if (cut > 0)
        trace(TRACE_WARNING, "this node stood still for a while: %u connection%s cut", cut, cut > 1 ? "s were" : " was");
}

static void changed(void *arg)
{
    node_sharing_changed(arg);
}

static void tell(void *arg, bool is_problem, const char *text)
{
    (void)arg;
    trace(is_problem ? TRACE_WARNING : TRACE_NOTICE, "%s", text);
}

enum err node_replicas_open(struct node *node)
{
    struct replicas_config config = {.io = node->io,
                                     .store = node->store,
                                     .volumes = node->volumes,
                                     .member = node->member,
                                     .user = {node, find, make, unmake, reset, tell, changed},
                                     .strict = host_is_virtual()};
    return replicas_open(&config, &node->replicas);
}

/* ---- creating ---- */

static enum err check_can_choose(struct call *call, const struct roster *roster)
{
    const struct node *node = call->node;
    if (roster == NULL || roster->next == 0) {
        problem_help(&call->problem, "izar cluster create NAME, then izar cluster token for a second node");
        return problem_tell(&call->problem, ERR_UNSUPPORTED, "this node belongs to no cluster: it can keep one copy only");
    }
    if (placement_count(roster, member_number(node->member), UINT32_MAX) < REPLICAS_MAX) return OK;
    problem_help(&call->problem, "make it on a node that keeps fewer, or delete one: izar volume list");
    return problem_tell(&call->problem, ERR_LIMIT, "this node keeps %d volumes with replicas, the most that a node can",
                        REPLICAS_MAX);
}

/* The one that keeps fewest; `ret_full`: how many keep as many as they can. */
static const struct roster_node *next_node(const struct node *node, const struct placement *place, uint32_t *ret_full)
{
    const struct roster *roster = member_roster(node->member);
    const struct roster_node *best = NULL;
    uint32_t least = REPLICAS_MAX;
    *ret_full = 0;
    for (uint32_t n = 0; n < roster->node_count; n++) {
        const struct roster_node *r = &roster->nodes[n];
        bool can = r->stage == ROSTER_LIVE && r->role == ROSTER_DATA && member_is_up(node->member, r->number);
        if (!can || placement_keeps(place, r->number)) continue;
        uint32_t load = placement_count(roster, r->number, UINT32_MAX);
        *ret_full += load >= REPLICAS_MAX;
        if (load >= least) continue;
        best = r;
        least = load;
    }
    return best;
}

static enum err too_few(struct call *call, uint32_t copies, uint32_t can, uint32_t full)
{
    char but[80] = "";
    if (full > 0) snprintf(but, sizeof but, "; %u more keep %d, the most that a node can", full, REPLICAS_MAX);
    problem_help(&call->problem, "izar node list; izar cluster token lets another node join");
    return problem_tell(&call->problem, ERR_UNSUPPORTED, "%u copies need as many nodes with data that are up: there %s %u%s",
                        copies, can == 1 ? "is" : "are", can, but);
}

/* This node first, then the others that are up: those with fewest volumes, by the roster. */
static enum err choose_nodes(struct call *call, uint32_t copies, struct placement *place)
{
    const struct node *node = call->node;
    TRY(check_can_choose(call, member_roster(node->member)));
    place->nodes[place->node_count++] = member_number(node->member);
    while (place->node_count < copies) {
        uint32_t full, can = place->node_count;
        const struct roster_node *next = next_node(node, place, &full);
        if (next != NULL) {
            place->nodes[place->node_count++] = next->number;
            continue;
        }
        return too_few(call, copies, can, full);
    }
    return OK;
}

/* [task] Within a change, which others may interrupt meanwhile. Without a majority what is known must do: a node that makes a
 * replica of the same name all the same is told then. */
enum err node_replicas_check_name(struct call *call, const char *name)
{
    struct node *node = call->node;
    struct member_why why;
    struct placement place;
    const struct roster *roster = member_roster(node->member);
    if (roster == NULL || member_was_removed(node->member)) return OK;
    node_change_end(node);
    if (member_read(node->member, &why) != OK) trace(TRACE_INFO, "volume %s: %s", name, why.text);
    node_change_begin(node);
    roster = member_roster(node->member);
    if (roster == NULL || placement_named(roster, name, &place) == 0) return OK;
    problem_help(&call->problem, "choose another name");
    return problem_tell(&call->problem, ERR_NAME_EXISTS, "there is a volume %s with replicas in this cluster", name);
}

enum err node_replicas_create(struct call *call, const char *name, uint64_t size, uint32_t block_size, uint32_t copies,
                              bool fast)
{
    struct node *node = call->node;
    struct member_why why;
    uint32_t number;
    struct placement place = {.stage = PLACE_MAKING,
                              .blocks = size / BLOCK_SIZE,
                              .block_bytes = block_size,
                              .created_s = host_wall_seconds(),
                              .fast = fast};
    snprintf(place.name, sizeof place.name, "%s", name);
    TRY(choose_nodes(call, copies, &place));
    if (catalog_volume(catalog_now(node->catalogs), name) != NULL)
        return problem_tell(&call->problem, ERR_NAME_EXISTS, "there is a volume %s", name);
    node_change_end(node); /* `make` is a change, too */
    enum err err = replicas_create(node->replicas, &place, &number, &why);
    node_change_begin(node);
    return err == OK ? OK : call_tell_why(call, err, &why);
}

/* [task] One that the cluster does not know any more is what this node alone has left of it. */
static enum err delete_left_over(struct call *call, uint32_t id, uint32_t number)
{
    struct node *node = call->node;
    struct member_why why = {.text = ""};
    struct placement place;
    node_change_end(node);
    enum err err = member_read(node->member, &why);
    node_change_begin(node);
    if (err != OK) return call_tell_why(call, err, &why);
    if (placement_find(member_roster(node->member), number, &place)) return ERR_CONFLICT;
    return node_volume_delete(node, id, &call->problem);
}

/* Of the cluster that this node is a member of now: what has its number there is this volume, and no other. */
static enum err check_ours(struct call *call, const struct catalog_volume *v, struct placement *ret_place)
{
    if (node_replica_place(call->node, v, ret_place)) return OK;
    return problem_tell(&call->problem, ERR_CONFLICT, "volume %s is none that the cluster of this node knows", v->name);
}

/* What is deleted here only: a volume of a cluster that this node has left, one that others keep and it does not, and the name
 * of one that is nowhere. */
static bool is_left_over(const struct node *node, const struct catalog_volume *v)
{
    struct placement place;
    const struct volume *there = volumes_find(node->volumes, v->id);
    bool known = node_replica_place(node, v, &place);
    if (there != NULL && !node_replica_is_ours(node, volume_replica(there))) return true;
    return known ? !placement_keeps(&place, member_number(node->member)) : there == NULL;
}

enum err node_replicas_delete(struct call *call, const struct catalog_volume *v)
{
    struct node *node = call->node;
    struct member_why why;
    uint32_t id = v->id, number = v->number;
    if (is_left_over(node, v)) return node_volume_delete(node, id, &call->problem);
    if (volumes_find(node->volumes, id) == NULL) {
        problem_help(&call->problem, "this node makes it again, and learns; delete it on a node that has it");
        return problem_tell(&call->problem, ERR_CONFLICT, "volume %s is missing here, and other nodes keep it", v->name);
    }
    node_change_end(node);
    enum err err = replicas_delete(node->replicas, number, &why);
    node_change_begin(node);
    if (err == ERR_NO_NAME) return delete_left_over(call, id, number);
    return err == OK ? OK : call_tell_why(call, err, &why);
}

static enum err change_copies(struct call *call, uint32_t number, uint32_t add, uint32_t drop)
{
    struct node *node = call->node;
    struct member_why why;
    node_change_end(node);
    enum err err = replicas_copies(node->replicas, number, add, drop, &why);
    node_change_begin(node);
    return err == OK ? OK : call_tell_why(call, err, &why);
}

/* Copies that there are, of nodes that there are. */
static uint32_t count_copies(const struct node *node, const struct placement *place)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < place->node_count; i++)
        count += set_has(placement_kept(place), i) && roster_find(member_roster(node->member), place->nodes[i]) != NULL;
    return count;
}

enum err node_replicas_copies(struct call *call, const struct catalog_volume *v, uint32_t copies)
{
    struct node *node = call->node;
    struct placement place;
    uint32_t number = v->number, full;
    TRY(check_ours(call, v, &place));
    for (;;) {
        if (!replicas_place(node->replicas, number, &place)) return problem_tell(&call->problem, ERR_NO_NAME, "it is gone");
        uint32_t count = count_copies(node, &place);
        if (count == copies) return OK;
        if (count > copies) {
            problem_help(&call->problem, "izar volume copies NAME --drop NODE gives up one that is not in sync");
            return problem_tell(&call->problem, ERR_CONFLICT, "it has %u copies: which of them is to go?", count);
        }
        const struct roster_node *next = next_node(node, &place, &full);
        if (next == NULL) return too_few(call, copies, count, full);
        TRY(change_copies(call, number, next->number, 0));
    }
}

enum err node_replicas_drop(struct call *call, const struct catalog_volume *v, const char *name)
{
    const struct roster *roster = member_roster(call->node->member);
    const struct roster_node *n = roster != NULL ? roster_named(roster, name) : NULL;
    struct placement place;
    TRY(check_ours(call, v, &place));
    if (n == NULL) return problem_tell(&call->problem, ERR_NO_NAME, "there is no node %s in this cluster", name);
    return change_copies(call, v->number, 0, n->number);
}

enum err node_replicas_force(struct call *call, const struct catalog_volume *v)
{
    struct node *node = call->node;
    struct member_why why;
    struct placement place;
    uint32_t number = v->number;
    TRY(check_ours(call, v, &place));
    node_change_end(node);
    enum err err = replicas_force(node->replicas, number, &why);
    node_change_begin(node);
    return err == OK ? OK : call_tell_why(call, err, &why);
}

/* ---- showing ---- */

static const char *role_of(const struct placement *place, uint32_t index)
{
    if (place->stage == PLACE_MAKING) return set_has(place->made, index) ? "made" : "being made";
    if (place->stage == PLACE_LEAVING) return "being taken away";
    if (!set_has(placement_kept(place), index)) return "given up";
    if (place->config.version > 0 && place->config.owner == index && set_has(place->config.in_sync, index)) return "owner";
    return set_has(place->config.in_sync, index) ? "in sync" : "not in sync";
}

static json_t *copies_json(const struct node *node, const struct placement *place)
{
    const struct roster *roster = member_roster(node->member);
    json_t *list = json_array();
    for (uint32_t i = 0; i < place->node_count; i++) {
        const struct roster_node *n = roster_find(roster, place->nodes[i]);
        json_array_append_new(list, json_pack("{s:s, s:s, s:b, s:b}", "node", n != NULL ? n->name : "?", "role",
                                              role_of(place, i), "up", member_is_up(node->member, place->nodes[i]), "this",
                                              place->nodes[i] == member_number(node->member)));
    }
    return list;
}

static void making_sentence(const struct node *node, const struct placement *place, struct text *t)
{
    const struct roster_node *n = roster_find(member_roster(node->member), place->nodes[place->refused_by]);
    const char *name = n != NULL ? n->name : "one of them";
    text_add(t, "it is being made: not all of its nodes have it yet");
    if (place->refusal == PLACE_REFUSED_NAME)
        text_add(t, "; %s has a volume %s of its own: one of the two must be deleted", name, place->name);
    if (place->refusal == PLACE_REFUSED_LIMIT) text_add(t, "; %s has as many volumes as it can", name);
}

/* What the register says may be old: when nobody answers, it is what was so when somebody did. */
static void sentence(const struct node *node, const struct placement *place, const struct replica_status *status,
                     struct text *t)
{
    uint32_t in_sync = set_size(place->config.in_sync), copies = set_size(placement_kept(place)), up = 0;
    for (uint32_t i = 0; i < place->node_count; i++)
        up += set_has(place->config.in_sync, i) && member_is_up(node->member, place->nodes[i]);
    if (place->stage == PLACE_MAKING) {
        making_sentence(node, place, t);
        return;
    }
    if (place->stage == PLACE_LEAVING) {
        text_add(t, "it is being taken away");
        return;
    }
    if (in_sync == copies)
        text_add(t, "all %u copies are in sync", in_sync);
    else
        text_add(t, "%u of %u copies %s in sync: one more failure may %s", in_sync, copies, in_sync == 1 ? "is" : "are",
                 in_sync == 1 ? "lose data" : "stop it");
    if (up < in_sync) text_add(t, "; %u of these %s out of reach", in_sync - up, in_sync - up == 1 ? "is" : "are");
    if (up == 0 && status != NULL && status->whole)
        text_add(t, "; if they are lost for good, izar volume force-promote goes on with what this node has");
    if (status == NULL)
        text_add(t, "; this node does not serve it: its replica is not open yet");
    else if (status->serving)
        text_add(t, "; this node serves it");
    else
        text_add(t, "; this node does not serve it now: %s", status->why);
}

bool node_replicas_safe(const struct roster *roster, struct text *t)
{
    uint32_t count = 0, lacking = 0;
    for (uint32_t i = 0; roster != NULL && i < roster->volume_count; i++) {
        struct placement place;
        if (!placement_find(roster, roster->volumes[i].number, &place) || place.stage == PLACE_LEAVING) continue;
        count++;
        lacking += place.stage == PLACE_MAKING || set_size(place.config.in_sync) < set_size(placement_kept(&place));
    }
    if (count == 0)
        text_add(t, "no volume is replicated: each is on its own node only");
    else if (lacking == 0)
        text_add(t, "%u replicated volume%s with all copies in sync", count, count == 1 ? "" : "s");
    else
        text_add(t, "%u of %u replicated volumes %s a copy in sync", lacking, count, lacking == 1 ? "lacks" : "lack");
    return lacking == 0;
}

json_t *node_replicas_json(const struct node *node, const struct catalog_volume *v)
{
    struct placement place;
    struct replica_status status;
    char text[400];
    struct text t;
    if (!node_replica_place(node, v, &place))
        return json_pack("{s:I, s:s}", "number", (json_int_t)v->number, "summary",
                         "the cluster does not know this volume any more");
    bool here = replicas_status(node->replicas, v->number, &status);
    text_init(&t, text, sizeof text);
    sentence(node, &place, here ? &status : NULL, &t);
    json_t *o = json_pack("{s:I, s:s, s:o, s:b, s:I, s:I}", "number", (json_int_t)v->number, "summary", text, "copies",
                          copies_json(node, &place), "fast_failover", place.fast, "epoch", (json_int_t)place.config.epoch,
                          "version", (json_int_t)place.config.version);
    if (place.config.forced_epoch > 0)
        json_object_set_new(o, "forced",
                            json_pack("{s:I, s:I}", "epoch", (json_int_t)place.config.forced_epoch, "sequence",
                                      (json_int_t)place.config.forced_sequence));
    if (!here) return o;
    static const char *const roles[] = {[REPLICA_UNKNOWN] = "unknown",
                                        [REPLICA_OWNER] = "owner",
                                        [REPLICA_IN_SYNC] = "in sync",
                                        [REPLICA_LEARNER] = "learner",
                                        [REPLICA_OUTSIDE] = "outside"};
    json_object_set_new(o, "here",
                        json_pack("{s:s, s:b, s:I, s:I, s:I, s:s}", "role", roles[status.role], "serving", status.serving,
                                  "committed", (json_int_t)status.committed.sequence, "prepared", (json_int_t)status.end,
                                  "durable", (json_int_t)status.durable, "why", status.why));
    return o;
}
