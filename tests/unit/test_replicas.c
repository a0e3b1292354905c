/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a replicated volume is made and taken away as the roster has it, whatever a node knows, lacks or cannot have. Method:
 * the replicas of one node over a stand-in for its member, with a register that others change behind its back and that it
 * knows only when it has read it, and for its store, of which it only matters what is there. Hosts are empty.
 */
#include "volume/replica/replicas_internal.h"

#include <stdarg.h>
#include <stdlib.h>

#include "check.h"
#include "sim/sim.h"

enum { SELF = 1, OTHER = 2, THIRD = 3, STORED_MAX = 2 * REPLICAS_MAX, MUCH = 30 };

struct volume {
    struct volume_replica replica;
};

static struct {
    struct sim *sim;
    struct io *io;
    struct replicas *all;
    struct io_task task;
    bool over;
    void (*scene)(void);
    struct roster decided, known; /* what holds; what the node has heard of that */
    uint8_t values[2 * STORED_MAX][ROSTER_VALUE_MAX];
    uint32_t value_count;
    bool deaf; /* no majority answers */
    enum err made_err;
    struct volume stored[STORED_MAX];
    uint32_t stored_count, makes, unmakes;
    bool original; /* the last one */
    uint32_t hosts, forces;
    bool other_is_up;
    struct replica_status status;
    enum err err; /* of a call */
    struct link_op *sending;
    uint64_t sent; /* the last note */
    uint32_t notes, given_back;
    struct member_why why;
} t;

/* ---- the member ---- */

enum err member_tell_why(struct member_why *why, enum err err, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    vsnprintf(why->text, sizeof why->text, format, values);
    va_end(values);
    return err;
}

const struct roster *member_roster(const struct member *member)
{
    (void)member;
    return &t.known;
}

uint32_t member_number(const struct member *member)
{
    (void)member;
    return SELF;
}

uint32_t member_boot(const struct member *member)
{
    (void)member;
    return 1;
}

bool member_is_up(const struct member *member, uint32_t number)
{
    (void)member;
    return number == SELF || (number == OTHER && t.other_is_up);
}

void member_attach(struct member *member, const struct member_user *user)
{
    (void)member;
    (void)user;
}

enum err member_read(struct member *member, struct member_why *why)
{
    (void)member;
    if (t.deaf) return member_tell_why(why, ERR_NO_QUORUM, "nobody is there");
    t.known = t.decided;
    return OK;
}

/* Edits end, and so do the values that they point to: what was decided has them for itself. */
static enum err decide(member_edit *edit, void *arg, struct member_why *why)
{
    static struct roster draft;
    draft = t.decided;
    TRY(edit(&draft, arg, why));
    for (uint32_t i = 0; i < draft.volume_count; i++) {
        struct roster_record *v = &draft.volumes[i];
        const struct roster_record *before = roster_volume(&t.decided, v->number);
        if (before != NULL && before->value == v->value) continue;
        uint8_t *value = t.values[t.value_count++ % (2 * STORED_MAX)];
        memcpy(value, v->value, v->bytes);
        v->value = value;
    }
    t.decided = draft;
    return OK;
}

enum err member_change(struct member *member, member_edit *edit, void *arg, struct member_why *why)
{
    TRY(member_read(member, why));
    TRY(decide(edit, arg, why));
    t.known = t.decided;
    return OK;
}

/* ---- hosts and links: there are none ---- */

enum err host_open(const struct replica_host_config *config, struct replica_host **ret_host)
{
    (void)config;
    t.hosts++;
    *ret_host = (void *)&t;
    return OK;
}

void host_close(struct replica_host *host)
{
    (void)host;
    t.hosts--;
}

void host_message(struct replica_host *host, const struct replica_message *message, struct replica_content *content)
{
    (void)host;
    (void)message;
    (void)content;
}

void host_config(struct replica_host *host, const struct replica_config *config)
{
    (void)host;
    (void)config;
}

void host_link(struct replica_host *host, uint8_t node, uint64_t session)
{
    (void)host;
    (void)node;
    (void)session;
}

void host_status(const struct replica_host *host, struct replica_status *ret_status)
{
    (void)host;
    *ret_status = t.status;
}

void host_force(struct replica_host *host)
{
    (void)host;
    t.forces++;
    t.status.role = REPLICA_OWNER;
    t.status.serving = true;
}

void link_stream_init(struct link *link, struct link_stream *stream, uint32_t id, bool urgent,
                      void (*lost)(struct link_stream *stream))
{
    (void)link;
    stream->id = id;
    stream->lost = lost;
    (void)urgent;
}

void link_stream_done(struct link_stream *stream)
{
    (void)stream;
}

void link_send(struct link_stream *stream, uint16_t kind, const void *head, uint32_t head_bytes, const struct io_piece *body,
               uint32_t pieces, struct link_op *op)
{
    le64 version;
    if (stream->id != MEMBER_USER_STREAM + WIRE_NOTES || kind != NOTE_KIND || head_bytes != sizeof version || pieces > 0)
        return;
    (void)body;
    memcpy(&version, head, sizeof version);
    t.sent = get64(version);
    t.notes++;
    t.sending = op;
}

void link_message_done(struct link_message *message)
{
    (void)message;
    t.given_back++;
}

/* ---- the store ---- */

uint32_t volume_id(const struct volume *v)
{
    return v->replica.number;
}

const struct volume_replica *volume_replica(const struct volume *v)
{
    return &v->replica;
}

void volume_serve(struct volume *volume, struct replica_host *host)
{
    (void)volume;
    (void)host;
}

static struct volume *find(void *arg, uint32_t number)
{
    (void)arg;
    for (uint32_t i = 0; i < STORED_MAX; i++)
        if (t.stored[i].replica.number == number) return &t.stored[i];
    return NULL;
}

static enum err make(void *arg, uint32_t number, const struct placement *place, bool original, struct volume **ret_volume)
{
    (void)place;
    t.makes++;
    t.original = original;
    if (t.made_err != OK) return t.made_err;
    *ret_volume = find(arg, 0);
    **ret_volume = (struct volume){.replica = {.number = number, .original = original}};
    return OK;
}

static enum err unmake(void *arg, uint32_t number)
{
    struct volume *there = find(arg, number);
    t.unmakes++;
    if (there != NULL) there->replica.number = 0;
    return OK;
}

static void reset(void *arg)
{
    (void)arg;
}

static void tell(void *arg, bool is_problem, const char *text)
{
    (void)arg;
    (void)is_problem;
    (void)text;
}

static void changed(void *arg)
{
    (void)arg;
}

/* ---- scenes ---- */

static const struct placement wanted = {
    .node_count = 2, .nodes = {SELF, OTHER}, .blocks = 10, .block_bytes = 512, .created_s = 1, .name = "vm"};

/* Another node says so. */
static enum err other(member_edit *edit, uint32_t node, uint32_t number)
{
    struct place_edit e = {.number = number, .node = node, .refusal = PLACE_REFUSED_NAME};
    return decide(edit, &e, &t.why);
}

static uint32_t add_one(const char *name, const uint32_t nodes[2])
{
    struct placement place = wanted;
    struct place_edit e = {.wanted = &place};
    snprintf(place.name, sizeof place.name, "%s", name);
    memcpy(place.nodes, nodes, 2 * sizeof *nodes);
    return decide(edit_add, &e, &t.why) == OK ? e.number : 0;
}

static bool holds(uint32_t number, struct placement *ret_place)
{
    return placement_find(&t.decided, number, ret_place);
}

static void task_main(void *arg)
{
    (void)arg;
    t.scene();
    t.over = true;
}

static void calls_create(void)
{
    uint32_t number;
    t.err = replicas_create(t.all, &wanted, &number, &t.why);
}

static void closes(void)
{
    replicas_close(t.all);
}

static void opens(void)
{
    struct replicas_config config = {.io = t.io, .user = {NULL, find, make, unmake, reset, tell, changed}};
    t.err = replicas_open(&config, &t.all);
}

static bool is_over(void *arg)
{
    (void)arg;
    return t.over;
}

static void begin_call(void (*scene)(void))
{
    t.scene = scene;
    t.over = false;
    if (io_task_start(t.io, &t.task, task_main, NULL) != OK) t.over = true;
}

static bool end_call(void)
{
    bool good = sim_run_until(t.sim, is_over, NULL) == SIM_DONE;
    if (good) io_task_done(&t.task);
    return good;
}

static bool call(void (*scene)(void))
{
    begin_call(scene);
    return end_call();
}

static void some_time(void)
{
    sim_run_for(t.sim, UINT64_MAX, MUCH * IO_S_NS);
}

/* A cluster of three nodes with data; ours is the first. */
static bool begin(void)
{
    memset(&t, 0, sizeof t);
    t.sim = sim_open(1, false);
    t.io = sim_loop(t.sim);
    t.decided = (struct roster){.name = "c", .next = 4, .next_volume = 1};
    for (uint32_t n = SELF; n <= THIRD; n++) {
        struct roster_node node = {.number = n, .stage = ROSTER_LIVE, .role = ROSTER_DATA, .acceptor = n};
        node.name[0] = (char)('a' + n - SELF);
        if (roster_put(&t.decided, &node) != OK) return false;
    }
    t.known = t.decided;
    return call(opens) && t.err == OK;
}

static bool end(void)
{
    bool good = call(closes);
    replicas_free(t.all);
    sim_close(t.sim);
    return good;
}

/* ---- making ---- */

TEST(a_volume_is_made_and_taken_away)
{
    struct placement place;
    CHECK(begin());
    begin_call(calls_create);
    sim_run_for(t.sim, UINT64_MAX, IO_S_NS);
    CHECK(holds(1, &place) && place.stage == PLACE_MAKING && place.made == 1 && t.makes == 1 && t.original);
    CHECK_OK(other(edit_made, OTHER, 1));
    t.known = t.decided;
    CHECK(end_call());
    CHECK_OK(t.err);
    CHECK(holds(1, &place) && place.stage == PLACE_LIVE && place.config.version == 1 && place.config.in_sync == 3);
    CHECK(t.hosts == 1 && find(NULL, 1) != NULL);
    CHECK_OK(other(edit_leave, OTHER, 1));
    CHECK_OK(other(edit_gone, OTHER, 1));
    t.known = t.decided;
    some_time();
    CHECK(!holds(1, &place) && t.hosts == 0 && find(NULL, 1) == NULL);
    CHECK(end());
}

/* The store was emptied, and what the node knows is as old as that it was to be made. */
TEST(who_knows_old_things_does_not_begin_with_everything)
{
    struct placement place;
    CHECK(begin());
    CHECK_EQ(add_one("vm", (uint32_t[]){SELF, OTHER}), 1);
    t.known = t.decided;
    CHECK_OK(other(edit_made, SELF, 1)); /* in its former life */
    CHECK_OK(other(edit_made, OTHER, 1));
    t.deaf = true;
    some_time();
    CHECK(t.makes == 0);
    t.deaf = false;
    some_time();
    CHECK(t.makes == 1 && !t.original && t.hosts == 1);
    CHECK(holds(1, &place) && place.stage == PLACE_LIVE);
    CHECK(end());
}

TEST(what_is_gone_is_not_made_of_old_knowledge)
{
    struct placement place;
    CHECK(begin());
    CHECK_EQ(add_one("vm", (uint32_t[]){SELF, OTHER}), 1);
    t.known = t.decided;
    CHECK_OK(other(edit_leave, OTHER, 1));
    some_time();
    CHECK(t.makes == 0 && holds(1, &place) && place.made == 2); /* the other may have it */
    CHECK_OK(other(edit_gone, OTHER, 1));
    CHECK(!holds(1, &place));
    CHECK(end());
}

/* ---- what cannot be made ---- */

TEST(a_node_keeps_so_many_and_no_more)
{
    char name[20];
    CHECK(begin());
    for (uint32_t i = 0; i < REPLICAS_MAX; i++) {
        snprintf(name, sizeof name, "vm%u", i);
        CHECK_EQ(add_one(name, (uint32_t[]){OTHER, THIRD}), i + 1);
    }
    CHECK_EQ(add_one("vm", (uint32_t[]){SELF, THIRD}), 0);
    CHECK(call(calls_create));
    CHECK_ERR(ERR_LIMIT, t.err);
    CHECK_STR(t.why.text, "node b keeps 32 volumes with replicas, the most that a node can");
    CHECK(t.makes == 0 && t.decided.volume_count == REPLICAS_MAX);
    CHECK(end());
}

/* Such as a node of another version may have agreed on. */
TEST(one_volume_too_many_is_refused)
{
    static uint8_t values[REPLICAS_MAX + 1][ROSTER_VALUE_MAX];
    struct placement place = wanted;
    CHECK(begin());
    place.stage = PLACE_MAKING;
    for (uint32_t i = 0; i <= REPLICAS_MAX; i++) {
        snprintf(place.name, sizeof place.name, "vm%u", i);
        CHECK_OK(placement_put(&t.decided, i + 1, &place, values[i]));
    }
    t.decided.next_volume = REPLICAS_MAX + 2;
    t.known = t.decided;
    some_time();
    CHECK_EQ(t.makes, REPLICAS_MAX);
    for (uint32_t i = 0; i <= REPLICAS_MAX; i++) {
        CHECK(holds(i + 1, &place));
        CHECK_EQ(place.made, i < REPLICAS_MAX);
        CHECK_EQ(place.refusal, i < REPLICAS_MAX ? PLACE_REFUSED_NOT : PLACE_REFUSED_LIMIT);
    }
    CHECK(end());
}

TEST(whoever_has_the_name_says_so)
{
    struct placement place;
    CHECK(begin());
    t.made_err = ERR_NAME_EXISTS;
    CHECK_EQ(add_one("vm", (uint32_t[]){OTHER, SELF}), 1);
    t.known = t.decided;
    some_time();
    CHECK(holds(1, &place) && place.refusal == PLACE_REFUSED_NAME && place.refused_by == 1 && place.made == 0);
    CHECK_OK(other(edit_made, OTHER, 1)); /* which takes nothing back */
    CHECK(holds(1, &place) && place.refusal == PLACE_REFUSED_NAME && place.made == 1);
    t.made_err = OK; /* the other volume is deleted */
    t.known = t.decided;
    some_time();
    CHECK(holds(1, &place) && place.refusal == PLACE_REFUSED_NOT && place.stage == PLACE_LIVE && t.hosts == 1);
    CHECK(end());
}

TEST(what_is_refused_is_taken_back)
{
    struct placement place;
    CHECK(begin());
    begin_call(calls_create);
    sim_run_for(t.sim, UINT64_MAX, IO_S_NS);
    CHECK(find(NULL, 1) != NULL);
    CHECK_OK(other(edit_refuse, OTHER, 1));
    t.known = t.decided;
    CHECK(end_call());
    CHECK_ERR(ERR_NAME_EXISTS, t.err);
    CHECK_STR(t.why.text, "b has a volume vm of its own: choose another name");
    some_time();
    CHECK(find(NULL, 1) == NULL && holds(1, &place) && place.stage == PLACE_LEAVING && place.made == 2);
    CHECK_OK(other(edit_gone, OTHER, 1));
    CHECK(!holds(1, &place));
    CHECK(end());
}

/* ---- taking away ---- */

/* Who never said that it made it may be making it at this moment. */
TEST(all_nodes_are_waited_for)
{
    struct placement place;
    CHECK(begin());
    CHECK_EQ(add_one("vm", (uint32_t[]){OTHER, THIRD}), 1);
    CHECK_OK(other(edit_made, OTHER, 1));
    CHECK_OK(other(edit_leave, OTHER, 1));
    CHECK(holds(1, &place) && place.made == 3);
    CHECK_OK(other(edit_gone, OTHER, 1));
    CHECK(holds(1, &place) && place.made == 2);
    CHECK_ERR(ERR_NO_NAME, other(edit_made, THIRD, 1));
    CHECK_OK(other(edit_leave, OTHER, 1)); /* again: who is gone stays so */
    CHECK(holds(1, &place) && place.made == 2);
    CHECK_OK(other(edit_gone, THIRD, 1));
    CHECK(!holds(1, &place));
    CHECK(end());
}

TEST(nobody_waits_for_a_node_that_was_removed)
{
    struct placement place;
    CHECK(begin());
    CHECK_EQ(add_one("vm", (uint32_t[]){OTHER, SELF}), 1);
    CHECK_EQ(add_one("vm2", (uint32_t[]){OTHER, THIRD}), 2);
    CHECK_OK(other(edit_leave, THIRD, 1));
    CHECK_OK(other(edit_leave, THIRD, 2));
    CHECK_OK(other(edit_gone, SELF, 1)); /* before the other was removed */
    roster_drop(&t.decided, OTHER);
    CHECK_OK(other(edit_gone, THIRD, 2));
    CHECK(!holds(2, &place));
    CHECK(holds(1, &place) && place.made == 1);
    t.known = t.decided;
    some_time();
    CHECK(!holds(1, &place));
    CHECK(end());
}

/* ---- more copies, and fewer ---- */

static void in_sync_are(uint8_t set)
{
    static uint8_t value[ROSTER_VALUE_MAX];
    struct placement place;
    if (!holds(1, &place)) abort();
    place.config.in_sync = set;
    place.config.owner = set == 1 ? 0 : 1;
    place.config.learners = (uint8_t)(3 & ~set);
    if (placement_put(&t.decided, 1, &place, value) != OK) abort();
    t.known = t.decided;
}

static enum err copies(uint32_t add, uint32_t drop)
{
    static struct place_edit edit;
    edit = (struct place_edit){.number = 1, .node = add, .drop = drop};
    enum err err = decide(edit_copies, &edit, &t.why);
    t.known = t.decided;
    return err;
}

TEST(copies_are_added_and_given_up)
{
    struct placement place;
    CHECK(begin());
    CHECK_ERR(ERR_NO_NAME, copies(THIRD, 0));
    CHECK_EQ(add_one("vm", (uint32_t[]){OTHER, SELF}), 1);
    CHECK_ERR(ERR_NO_NAME, copies(THIRD, 0)); /* it is being made */
    CHECK_OK(other(edit_made, OTHER, 1));
    t.known = t.decided;
    some_time();
    CHECK(holds(1, &place) && place.config.version == 1);
    CHECK_ERR(ERR_NAME_EXISTS, copies(OTHER, 0));
    CHECK_ERR(ERR_NO_NAME, copies(77, 0));
    CHECK_ERR(ERR_NO_NAME, copies(0, THIRD));
    CHECK_ERR(ERR_BUSY, copies(0, OTHER)); /* in sync */
    CHECK_OK(copies(THIRD, 0));
    CHECK(holds(1, &place) && place.node_count == 3 && place.nodes[2] == THIRD && place.config.version == 2);
    CHECK(place.config.in_sync == 3 && place.config.learners == 4 && placement_kept(&place) == 7);
    CHECK_OK(copies(0, THIRD));
    CHECK(holds(1, &place) && place.node_count == 3 && placement_kept(&place) == 3 && !placement_keeps(&place, THIRD));
    CHECK_OK(copies(THIRD, 0)); /* it has its place again */
    CHECK(holds(1, &place) && place.node_count == 3 && place.config.version == 4 && placement_keeps(&place, THIRD));
    roster_drop(&t.decided, THIRD);
    CHECK_OK(copies(0, 0)); /* who left the cluster keeps nothing */
    CHECK(holds(1, &place) && placement_kept(&place) == 3);
    CHECK(end());
}

/* What was given up goes, but not before somebody who has it in sync can be reached. */
TEST(a_copy_that_was_given_up_goes)
{
    struct placement place;
    CHECK(begin());
    CHECK_EQ(add_one("vm", (uint32_t[]){OTHER, SELF}), 1);
    CHECK_OK(other(edit_made, OTHER, 1));
    t.known = t.decided;
    some_time();
    CHECK(t.hosts == 1 && find(NULL, 1) != NULL);
    in_sync_are(1);
    CHECK_OK(copies(0, SELF));
    CHECK(holds(1, &place) && placement_kept(&place) == 1);
    some_time();
    CHECK(t.hosts == 0 && find(NULL, 1) != NULL && t.unmakes == 0);
    t.other_is_up = true;
    some_time();
    CHECK(find(NULL, 1) == NULL && t.unmakes == 1);
    CHECK(holds(1, &place) && place.stage == PLACE_LIVE);
    CHECK(end());
}

/* ---- the last resort ---- */

static void calls_force(void)
{
    t.err = replicas_force(t.all, 1, &t.why);
}

static enum err forced(void)
{
    if (!call(calls_force)) return ERR_STOPPED;
    return t.err;
}

TEST(a_copy_is_forced_only_when_it_must_be)
{
    CHECK(begin());
    CHECK_ERR(ERR_NO_NAME, forced());
    CHECK_EQ(add_one("vm", (uint32_t[]){OTHER, SELF}), 1);
    CHECK_OK(other(edit_made, OTHER, 1));
    t.known = t.decided;
    some_time();
    CHECK_EQ(t.hosts, 1);
    t.status = (struct replica_status){.role = REPLICA_IN_SYNC, .serving = true};
    CHECK_ERR(ERR_CONFLICT, forced()); /* it is in sync */
    in_sync_are(1);
    t.status = (struct replica_status){.role = REPLICA_LEARNER};
    t.other_is_up = true;
    CHECK_ERR(ERR_CONFLICT, forced()); /* the other is, and can be asked */
    t.other_is_up = false;
    t.status.learn.on = true;
    CHECK_ERR(ERR_CONFLICT, forced()); /* nobody knows what it is */
    t.status.learn.on = false;
    CHECK_ERR(ERR_CONFLICT, forced()); /* it was undone */
    t.status.whole = true;
    t.status.committed.sequence = 1;
    CHECK_ERR(ERR_CONFLICT, forced()); /* it is empty */
    t.status.committed.sequence = 2;
    t.deaf = true;
    CHECK_ERR(ERR_NO_QUORUM, forced());
    t.deaf = false;
    CHECK_EQ(t.forces, 0);
    CHECK_OK(forced());
    CHECK_EQ(t.forces, 1);
    CHECK(end());
}

/* It is not heard here, but others hear it. */
TEST(who_is_alive_says_no)
{
    struct placement place;
    CHECK(begin());
    CHECK_EQ(add_one("vm", (uint32_t[]){OTHER, SELF}), 1);
    CHECK_OK(other(edit_made, OTHER, 1));
    t.known = t.decided;
    some_time();
    in_sync_are(1);
    t.status = (struct replica_status){.role = REPLICA_LEARNER, .whole = true, .committed.sequence = 9};
    begin_call(calls_force);
    sim_run_for(t.sim, UINT64_MAX, IO_S_NS);
    CHECK(holds(1, &place) && place.forcing == 2);
    uint64_t version = place.config.version;
    CHECK_OK(other(edit_alive, OTHER, 1));
    t.known = t.decided;
    CHECK(end_call());
    CHECK(t.err == ERR_CONFLICT && t.forces == 0 && holds(1, &place) && place.forcing == 0);
    CHECK_EQ(place.config.version, version + 1);
    /* the other way round */
    in_sync_are(2);
    CHECK_OK(other(edit_force, OTHER, 1));
    CHECK(holds(1, &place) && place.forcing == 1);
    t.status = (struct replica_status){.role = REPLICA_LEARNER};
    t.known = t.decided;
    some_time();
    CHECK(holds(1, &place) && place.forcing == 1); /* its store has given up */
    t.status = (struct replica_status){.role = REPLICA_OWNER};
    some_time();
    CHECK(holds(1, &place) && place.forcing == 0);
    CHECK(end());
}

/* Also when none of its nodes is left. */
TEST(somebody_drops_what_nobody_keeps)
{
    struct placement place;
    CHECK(begin());
    CHECK_EQ(add_one("vm", (uint32_t[]){OTHER, THIRD}), 1);
    CHECK_OK(other(edit_leave, THIRD, 1));
    t.known = t.decided;
    some_time();
    CHECK(holds(1, &place) && t.unmakes == 0);
    roster_drop(&t.decided, OTHER);
    roster_drop(&t.decided, THIRD);
    t.known = t.decided;
    some_time();
    CHECK(!holds(1, &place) && t.unmakes == 0);
    CHECK(end());
}

/* ---- notes ---- */

static void sent(void)
{
    struct link_op *op = t.sending;
    t.sending = NULL;
    op->done(op);
}

static void hear(uint32_t node, uint64_t version, uint32_t bytes)
{
    uint8_t head[16] = {0};
    le64 said = put64(version);
    struct link_message message = {
        .stream = MEMBER_USER_STREAM + WIRE_NOTES, .kind = NOTE_KIND, .head = head, .head_bytes = bytes};
    memcpy(head, &said, sizeof said);
    wire_arrived(t.all, node, &message);
}

TEST(the_newest_note_gets_there)
{
    CHECK(begin());
    wire_opened(t.all, OTHER, NULL);
    replicas_announce(t.all, 7);
    CHECK_EQ(t.notes, 0);
    wire_up(t.all, OTHER);
    CHECK(t.notes == 1 && t.sent == 7);
    replicas_announce(t.all, 8);
    replicas_announce(t.all, 9);
    replicas_announce(t.all, 9);
    CHECK_EQ(t.notes, 1);
    sent();
    CHECK(t.notes == 2 && t.sent == 9);
    sent();
    CHECK(t.notes == 2 && t.sending == NULL);
    struct link_stream *stream = &wire_peer(t.all, OTHER)->streams[WIRE_NOTES];
    stream->lost(stream);
    CHECK(t.notes == 3 && t.sent == 9);
    sent();
    hear(OTHER, 5, 8);
    CHECK_EQ(replicas_announced(t.all, OTHER), 5);
    hear(OTHER, 6, 16); /* of a newer version */
    CHECK_EQ(replicas_announced(t.all, OTHER), 6);
    hear(OTHER, 9, 7);
    hear(THIRD, 9, 8); /* who is that? */
    CHECK(replicas_announced(t.all, OTHER) == 6 && replicas_announced(t.all, THIRD) == 0 && t.given_back == 4);
    wire_down(t.all, OTHER);
    CHECK_EQ(replicas_announced(t.all, OTHER), 0);
    CHECK(end());
}

TESTS(who_is_alive_says_no, copies_are_added_and_given_up, a_copy_that_was_given_up_goes, a_copy_is_forced_only_when_it_must_be,
      a_volume_is_made_and_taken_away, who_knows_old_things_does_not_begin_with_everything,
      what_is_gone_is_not_made_of_old_knowledge, a_node_keeps_so_many_and_no_more, one_volume_too_many_is_refused,
      whoever_has_the_name_says_so, what_is_refused_is_taken_back, all_nodes_are_waited_for,
      nobody_waits_for_a_node_that_was_removed, somebody_drops_what_nobody_keeps, the_newest_note_gets_there)
