/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In a cluster, hosts and what they see are the same on all nodes (shared.h). A change goes into the roster first; then each
 * node makes its catalog what the roster says, and announces as of which version it has; the change is answered when all nodes
 * that are up have.
 *
 *     a handler    node_shared_begin, its edit by node_shared_change, node_shared_end
 *     a task       whenever another roster is known: the same without an edit, and what this node has that the roster lacks
 *
 * All of it is within changes, one after the other (routes.c), except that nobody is kept waiting while others are waited for.
 */
#include <stdio.h>
#include <string.h>

#include "api/internal.h"

#define AGAIN_NS IO_S_NS
#define COMPLAIN_NS (60 * IO_S_NS)
enum { WAIT_MS = 10000, LOOK_MS = 10, CLAIMS_MAX = 2 * CATALOG_MAPS_MAX };
static_assert((int)ROSTER_TARGET_SIZE == ISCSI_NAME_MAX + 1, "a name that a target can have");

bool node_is_shared(const struct node *node)
{
    const struct roster *roster = member_roster(node->member);
    return !node->config.witness && roster != NULL && roster->next > 0 && !member_was_removed(node->member);
}

/* ---- what the roster says, here ---- */

static bool keeps(void *arg, const struct catalog_volume *v)
{
    const struct node *node = arg;
    struct placement place;
    return v->state == VOLUME_LIVE && volumes_find(node->volumes, v->id) != NULL && node_replica_place(node, v, &place);
}

static void tell(void *arg, const char *text)
{
    (void)arg;
    trace(TRACE_WARNING, "%s", text);
}

static struct shared_view view_of(struct node *node)
{
    return (struct shared_view){member_number(node->member), keeps, tell, node};
}

const char *node_target_name(const struct node *node)
{
    return node->target_name[0] != '\0' ? node->target_name : node->config.target;
}

static void take_target_name(struct node *node)
{
    const char *name = node_is_shared(node) ? member_roster(node->member)->target : "";
    if (strcmp(name, node->target_name) == 0) return;
    memcpy(node->target_name, name, strlen(name) + 1);
    if (strcmp(node_target_name(node), node->config.target) != 0)
        trace(TRACE_NOTICE, "the iSCSI target of this node is %s, as on all nodes of its cluster", node->target_name);
    if (node->target != NULL) iscsi_target_rename(node->target, node_target_name(node));
}

bool node_sharing_holds(const struct node *node)
{
    return !node_is_shared(node) || node->sharing.held == shared_digest(member_roster(node->member));
}

/* Versions of one cluster say nothing in another, and its nodes would take them for theirs as soon as they have a link. */
static bool is_as_held(const struct node *node)
{
    return node_is_shared(node) && memcmp(&member_roster(node->member)->cluster, &node->sharing.cluster, CLUSTER_ID_BYTES) == 0;
}

static bool is_older(const struct node *node)
{
    return shared_is_older(member_roster(node->member), member_version(node->member), catalog_now(node->catalogs));
}

/* [task] After a start the roster may be older than the catalog, and what was taken away would be back. What is read now holds,
 * whatever the catalog has been. */
static enum err refresh(struct node *node)
{
    struct member_why why;
    uint32_t up, of;
    if (!is_older(node)) return OK;
    if (!member_has_majority(node->member, &up, &of)) return ERR_NO_QUORUM;
    TRY(member_read(node->member, &why));
    return node_is_shared(node) ? OK : ERR_NO_QUORUM;
}

/* [task] ERR_LIMIT: what is to be gone is, but not all that is to be there has room. */
static enum err apply(struct node *node)
{
    TRY(refresh(node));
    struct shared_view view = view_of(node);
    uint64_t version = member_version(node->member), digest = shared_digest(member_roster(node->member));
    struct catalog *draft = catalog_draft(node->catalogs);
    node->sharing.cluster = member_roster(node->member)->cluster;
    take_target_name(node);
    enum err fits = shared_mirror(member_roster(node->member), &view, draft);
    bool changes = draft->version > version || memcmp(draft, catalog_now(node->catalogs), sizeof *draft) != 0;
    if (changes) draft->version = version;
    if (changes) TRY(catalog_commit(node->catalogs));
    node->sharing.held = digest;
    TRY(changes || node->access_owed ? node_access_changed(node) : node_access_settled(node));
    if (fits == OK && node->replicas != NULL && is_as_held(node)) replicas_announce(node->replicas, version);
    return fits;
}

/* ---- what is changed in the roster ---- */

struct shared_step {
    shared_change_of *change;
    struct shared_edit *edit;
    const char *target; /* of this node: the cluster's as long as it has none */
};

static enum err step_edit(struct roster *roster, void *arg, struct member_why *why)
{
    struct shared_step *step = arg;
    struct problem p = {.err = OK};
    if (roster->target[0] == '\0') snprintf(roster->target, sizeof roster->target, "%s", step->target);
    enum err err = step->change != NULL ? step->change(roster, step->edit, &p) : OK;
    if (err == OK) return OK;
    snprintf(why->text, sizeof why->text, "%s", p.detail);
    snprintf(why->help, sizeof why->help, "%s", p.remedy);
    return err;
}

/* [task] */
static enum err change(struct node *node, shared_change_of *how, struct shared_edit *edit, struct member_why *why)
{
    struct shared_step step = {how, edit, node->config.target};
    return member_change(node->member, step_edit, &step, why);
}

/* [task] A LUN that others have got since: the map of this node's volume gives way. */
static enum err drop_own_map(struct node *node, const struct shared_edit *edit)
{
    struct catalog *draft = catalog_draft(node->catalogs);
    for (uint32_t i = 0; i < draft->host_count; i++) {
        const struct catalog_host *h = &draft->hosts[i];
        const struct catalog_map *m = h->number == edit->number ? catalog_map_at(draft, h->id, edit->map.lun) : NULL;
        if (m == NULL) continue;
        trace(TRACE_WARNING, "LUN %u of host %s is another volume's in the cluster: it is not of this node any more",
              edit->map.lun, h->name);
        catalog_remove_map(draft, m->volume, m->host);
        TRY(catalog_commit(node->catalogs));
        return node_access_changed(node);
    }
    return OK;
}

/* [task] One thing that the roster lacks. */
static enum err claim(struct node *node, struct shared_edit *edit, bool *ret_more)
{
    static shared_change_of *const changes[] = {
        [CLAIM_NOTHING] = NULL, [CLAIM_HOST] = shared_add, [CLAIM_MAP] = shared_add_map, [CLAIM_UNMAP] = shared_remove_map};
    struct member_why why;
    struct shared_view view = view_of(node);
    const struct roster *roster = member_roster(node->member);
    enum shared_claim what = shared_next_claim(roster, &view, catalog_now(node->catalogs), edit);
    *ret_more = what != CLAIM_NOTHING || roster->target[0] == '\0';
    if (!*ret_more) return OK;
    enum err err = change(node, changes[what], edit, &why);
    if (what == CLAIM_MAP && err == ERR_NAME_EXISTS) return drop_own_map(node, edit);
    return err == ERR_NAME_EXISTS || err == ERR_NO_NAME ? OK : err; /* somebody was faster: it is looked at again */
}

enum err node_share(struct node *node)
{
    struct shared_edit *edit = mem_alloc(node->mem, sizeof *edit);
    bool more = true;
    enum err err = edit != NULL ? OK : ERR_NO_MEMORY;
    for (uint32_t i = 0; i < CLAIMS_MAX && more && err == OK && node_is_shared(node); i++) {
        err = apply(node);
        if (err == OK) err = claim(node, edit, &more);
    }
    mem_free(node->mem, edit);
    return err;
}

/* ---- a handler's change ---- */

enum err node_shared_begin(struct call *call)
{
    struct node *node = call->node;
    struct member_why why;
    if (!node_is_shared(node)) return OK;
    enum err err = member_read(node->member, &why);
    if (err != OK) return call_tell_why(call, err, &why);
    err = node_is_shared(node) ? apply(node) : OK;
    return err == ERR_LIMIT ? OK : err; /* this may be what makes room */
}

enum err node_shared_change(struct call *call, shared_change_of *how, struct shared_edit *edit)
{
    struct node *node = call->node;
    struct member_why why;
    enum err err = change(node, how, edit, &why);
    if (err != OK) return call_tell_why(call, err, &why);
    call->shared = member_version(node->member);
    err = apply(node);
    if (err != ERR_LIMIT) return err;
    problem_help(&call->problem, "take maps or hosts away that nobody needs: izar volume unmap, izar host delete");
    return problem_tell(
        &call->problem, err,
        "that is changed for the whole cluster, but the catalog of this node has no room for all that hosts see");
}

/* The next node with data, also one that is leaving, that does not serve as of this version yet, from place `*from` of the
 * roster on; NULL: none. */
static const struct roster_node *next_behind(const struct node *node, uint64_t version, uint32_t *from)
{
    const struct roster *roster = member_roster(node->member);
    while (roster != NULL && *from < roster->node_count) {
        const struct roster_node *n = &roster->nodes[(*from)++];
        bool counts = n->stage != ROSTER_JOINING && n->role == ROSTER_DATA && n->number != member_number(node->member);
        if (counts && replicas_announced(node->replicas, n->number) < version) return n;
    }
    return NULL;
}

static bool somebody_is_slow(const struct node *node, uint64_t version)
{
    const struct roster_node *n;
    for (uint32_t from = 0; (n = next_behind(node, version, &from)) != NULL;)
        if (member_is_up(node->member, n->number)) return true;
    return false;
}

static enum err tell_behind(struct call *call)
{
    const struct node *node = call->node;
    const struct roster_node *n;
    char slow[CALL_BEHIND_MAX];
    struct text up, down;
    text_init(&up, slow, sizeof slow);
    text_init(&down, call->behind, sizeof call->behind);
    for (uint32_t from = 0; (n = next_behind(node, call->shared, &from)) != NULL;) {
        struct text *t = member_is_up(node->member, n->number) ? &up : &down;
        text_add(t, "%s%s", t->at[0] != '\0' ? ", " : "", n->name);
    }
    if (slow[0] == '\0') return OK;
    problem_help(&call->problem, "look at the log of %s; izar cluster status", slow);
    return problem_tell(
        &call->problem, ERR_UNDECIDED,
        "that is changed for the whole cluster, but %s did not follow in time: there it is as it was until it does", slow);
}

enum err node_shared_end(struct call *call)
{
    struct node *node = call->node;
    if (call->shared == 0) return OK;
    node_change_end(node); /* others wait for this node, too */
    for (uint32_t waited = 0; waited < WAIT_MS && somebody_is_slow(node, call->shared); waited += LOOK_MS)
        io_task_sleep(node->io, LOOK_MS * IO_MS_NS);
    node_change_begin(node);
    return tell_behind(call);
}

/* ---- following ---- */

static void end_membership(struct node *node)
{
    if (!is_as_held(node) && node->replicas != NULL) replicas_announce(node->replicas, 0);
}

void node_sharing_changed(struct node *node)
{
    end_membership(node);
    node->sharing.kicked = true;
    if (node->sharing.running) io_task_wake(&node->sharing.task);
}

void node_sharing_kick(struct node *node)
{
    node->sharing.digest = 0;
    node_sharing_changed(node);
}

void node_sharing_look(struct node *node)
{
    bool owes = node->access_owed && node->sharing.err == OK; /* else the task looks again by itself */
    if (owes || node->sharing.member != node_is_shared(node)) node_sharing_kick(node);
}

static void wake_fires(struct io_timer *timer)
{
    node_sharing_changed(CONTAINER(timer, struct node, sharing.wake));
}

static void rest(struct node *node, bool again)
{
    node->sharing.wake.fire = wake_fires;
    if (again) io_after(node->io, AGAIN_NS, &node->sharing.wake);
    while (!node->sharing.kicked && !node->sharing.stopping) io_task_park();
    if (again) io_cancel(node->io, &node->sharing.wake);
}

bool node_sharing_is_well(const struct node *node, enum err *ret_err)
{
    enum err err = node->sharing.err;
    *ret_err = err;
    return err == OK || err == ERR_NO_QUORUM || err == ERR_UNDECIDED || err == ERR_CONFLICT || err == ERR_STOPPED;
}

static void complain(struct node *node, enum err err)
{
    uint64_t now = io_now_ns(node->io);
    if (node->sharing.told_ns != 0 && now - node->sharing.told_ns < COMPLAIN_NS) return;
    node->sharing.told_ns = now;
    trace(TRACE_WARNING, "hosts and maps of this node are not what its cluster agreed on yet: %s", err_text(err));
}

/* [task] */
static enum err follow(struct node *node)
{
    node->sharing.member = node_is_shared(node);
    if (!node->sharing.member) {
        take_target_name(node);
        end_membership(node);
        return node->access_owed ? node_access_changed(node) : OK;
    }
    uint64_t digest = shared_digest(member_roster(node->member));
    if (digest == node->sharing.digest && digest == node->sharing.held &&
        !node->access_owed) { /* handlers change what it holds, too */
        replicas_announce(node->replicas, member_version(node->member));
        return OK;
    }
    node->sharing.digest = digest;
    enum err err = node_share(node);
    if (err != OK) node->sharing.digest = 0;
    return err;
}

static void run(void *arg)
{
    struct node *node = arg;
    while (!node->sharing.stopping) {
        node->sharing.kicked = false;
        node_change_begin(node);
        enum err err = node->sharing.err = follow(node);
        node_change_end(node);
        if (!node_sharing_is_well(node, &err)) complain(node, err);
        rest(node, err != OK);
    }
    node->sharing.running = false;
    if (node->sharing.closing != NULL) io_task_wake(node->sharing.closing);
}

enum err node_sharing_open(struct node *node)
{
    node_change_begin(node); /* what the replicas' task changes comes before or after it */
    enum err err = node_is_shared(node) ? apply(node) : OK;
    node_change_end(node);
    if (err != OK) complain(node, err); /* the task tries again; it is no reason not to serve what is known */
    node->sharing.running = true;
    err = io_task_start(node->io, &node->sharing.task, run, node);
    if (err != OK) node->sharing.running = false;
    node->sharing.opened = err == OK;
    return err;
}

void node_sharing_close(struct node *node)
{
    if (!node->sharing.opened) return;
    node->sharing.stopping = true;
    node->sharing.closing = io_task_self();
    io_task_wake(&node->sharing.task);
    while (node->sharing.running) io_task_park();
    io_task_done(&node->sharing.task);
    node->sharing.opened = false;
}
