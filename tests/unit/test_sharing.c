/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a node announces a version of the roster only when its catalog is what that one says, whatever came in between, and a
 * change is answered when all have. Method: the task that follows, turn by turn, and handlers' changes between its turns, over
 * a roster, a catalog and links as the test sets them.
 */
#include "tests/check.h"

#include "api/internal.h"

enum { SELF = 1, OTHER = 2, KEPT = 7 /* a volume with replicas, by its number */, HERE = 3 /* its id here */ };

static struct {
    struct node node;
    struct roster roster;
    uint64_t version, announced, decided /* when others know more */;
    bool cut;
    bool removed, away /* OTHER */;
    uint32_t commits, outside; /* outside of a change */
    struct catalog catalogs[2];
    enum err refuses; /* what the next change of the roster says */
    enum err fails;   /* what the next opening of a unit says */
} s;

static struct shared_edit edit;

/* ---- what it stands on ---- */

const struct roster *member_roster(const struct member *member)
{
    (void)member;
    return &s.roster;
}

uint64_t member_version(const struct member *member)
{
    (void)member;
    return s.version;
}

uint32_t member_number(const struct member *member)
{
    (void)member;
    return SELF;
}

bool member_was_removed(const struct member *member)
{
    (void)member;
    return s.removed;
}

bool member_is_up(const struct member *member, uint32_t number)
{
    (void)member;
    return number == SELF || !s.away;
}

bool member_has_majority(const struct member *member, uint32_t *ret_up, uint32_t *ret_of)
{
    (void)member;
    *ret_up = *ret_of = 1;
    return !s.cut;
}

enum err member_read(struct member *member, struct member_why *why)
{
    (void)member;
    (void)why;
    s.version = max64(s.version, s.decided);
    return OK;
}

/* What an edit put is its own: the roster gets bytes of its own. */
static enum err decide(member_edit *how, void *arg, struct member_why *why)
{
    static uint8_t bytes[2][1 << 20];
    static int turn;
    size_t size;
    struct roster copy = s.roster;
    enum err err = how(&copy, arg, why);
    turn = !turn;
    if (err == OK) err = roster_encode(&copy, bytes[turn], sizeof bytes[turn], &size);
    if (err == OK) err = roster_decode(bytes[turn], size, &s.roster);
    s.version += err == OK;
    return err;
}

enum err member_change(struct member *member, member_edit *how, void *arg, struct member_why *why)
{
    enum err err = s.refuses;
    (void)member;
    s.refuses = OK;
    *why = (struct member_why){.text = ""};
    return err != OK ? err : decide(how, arg, why);
}

enum err call_tell_why(struct call *call, enum err err, const struct member_why *why)
{
    return problem_tell(&call->problem, err, "%s", why->text);
}

void replicas_announce(struct replicas *replicas, uint64_t version)
{
    (void)replicas;
    s.announced = version;
}

uint64_t replicas_announced(const struct replicas *replicas, uint32_t node)
{
    (void)replicas;
    (void)node;
    return 0;
}

struct catalog *catalog_now(struct catalog_file *file)
{
    (void)file;
    return &s.catalogs[s.commits % 2];
}

struct catalog *catalog_draft(struct catalog_file *file)
{
    struct catalog *draft = &s.catalogs[(s.commits + 1) % 2];
    *draft = *catalog_now(file);
    return draft;
}

enum err catalog_commit(struct catalog_file *file)
{
    (void)file;
    s.outside += !s.node.changing;
    s.commits++;
    return OK;
}

struct volume *volumes_find(struct volumes *volumes, uint32_t id)
{
    return id == HERE ? (struct volume *)volumes : NULL;
}

bool node_replica_place(const struct node *node, const struct catalog_volume *v, struct placement *ret_place)
{
    (void)node;
    (void)ret_place;
    return v->number == KEPT;
}

const struct volume_replica *volume_replica(const struct volume *volume)
{
    (void)volume;
    return NULL;
}

void store_pool_id(const struct store *store, uint8_t id[16])
{
    (void)store;
    memset(id, 0, 16);
}

void scsi_unit_identify(struct scsi_unit_config *config, const uint8_t id[16], uint32_t number)
{
    (void)config;
    (void)id;
    (void)number;
}

enum err scsi_unit_open(const struct scsi_unit_config *config, struct scsi_unit **ret_unit)
{
    enum err err = s.fails;
    (void)config;
    s.fails = OK;
    if (err == OK) *ret_unit = (struct scsi_unit *)&s;
    return err;
}

void scsi_unit_close(struct scsi_unit *unit)
{
    (void)unit;
}

void node_access_begin(struct node *node, struct node_unit *unit)
{
    (void)node;
    (void)unit;
}

void iscsi_target_changed(struct iscsi_target *target)
{
    (void)target;
}

bool iscsi_target_is_ending(const struct iscsi_target *target)
{
    (void)target;
    return false;
}

enum err iscsi_session_next(const struct iscsi_target *target, uint64_t from, struct iscsi_session_info *ret_info)
{
    (void)target;
    (void)from;
    (void)ret_info;
    return ERR_NO_NAME;
}

void node_change_begin(struct node *node)
{
    node->changing = true;
}

void node_change_end(struct node *node)
{
    node->changing = false;
}

void iscsi_target_rename(struct iscsi_target *target, const char *name)
{
    (void)target;
    (void)name;
}

uint64_t io_now_ns(struct io *io)
{
    (void)io;
    return 100 * IO_S_NS;
}

void io_after(struct io *io, uint64_t delay_ns, struct io_timer *timer)
{
    (void)io;
    (void)delay_ns;
    (void)timer;
}

void io_cancel(struct io *io, struct io_timer *timer)
{
    (void)io;
    (void)timer;
}

static void (*task)(void *arg);

enum err io_task_start(struct io *io, struct io_task *started, void (*run)(void *arg), void *arg)
{
    (void)io;
    (void)started;
    (void)arg;
    task = run;
    return OK;
}

void io_task_done(struct io_task *done)
{
    (void)done;
}

struct io_task *io_task_self(void)
{
    return NULL;
}

void io_task_wake(struct io_task *woken)
{
    (void)woken;
}

void io_task_park(void)
{
    s.node.sharing.stopping = true; /* a turn is over */
}

void io_task_sleep(struct io *io, uint64_t ns)
{
    (void)io;
    (void)ns;
}

struct catalog_volume *call_volume(struct call *call, struct catalog *catalog)
{
    return catalog_volume(catalog, call->parts[0]);
}

struct catalog_host *call_host(struct call *call, struct catalog *catalog, const char *name)
{
    (void)call;
    return catalog_host(catalog, name);
}

enum err call_flag(struct call *call, const char *name, bool *ret_flag)
{
    (void)call;
    (void)name;
    (void)ret_flag;
    return OK;
}

json_t *volume_json(struct node *node, const struct catalog_volume *volume)
{
    (void)node;
    (void)volume;
    return NULL;
}

void trace(enum trace_level level, const char *format, ...)
{
    (void)level;
    (void)format;
}

/* ---- scenes ---- */

static void turn(void)
{
    s.node.sharing.stopping = false;
    s.node.sharing.running = true;
    task(&s.node);
}

static enum err edit_it(struct roster *roster, void *arg, struct member_why *why)
{
    struct problem p = {.err = OK};
    (void)why;
    return (*(shared_change_of **)arg)(roster, &edit, &p);
}

/* By another node. */
static enum err decided(shared_change_of *how)
{
    struct member_why why;
    return decide(edit_it, &how, &why);
}

static enum err map_it(shared_change_of *how)
{
    edit.number = 1;
    edit.map = (struct shared_map){.volume = KEPT, .lun = 3};
    return decided(how);
}

static bool sees(void)
{
    return catalog_maps_of_volume(catalog_now(s.node.catalogs), HERE) > 0;
}

/* Two nodes, a volume with replicas that this one keeps, and a host; all is known here, but not followed yet. */
static void begin(void)
{
    struct problem p = {.err = OK};
    mem_close(s.node.mem);
    memset(&s, 0, sizeof s);
    s.version = 5;
    s.roster = (struct roster){
        .cluster.b = {0xab}, .name = "c", .next = 3, .next_volume = KEPT + 1, .next_host = 1, .target = "iqn.2026-01.t"};
    for (uint32_t n = SELF; n <= OTHER; n++) {
        struct roster_node node = {.number = n, .stage = ROSTER_LIVE, .role = ROSTER_DATA, .acceptor = n};
        node.name[0] = (char)('a' + n - SELF);
        roster_put(&s.roster, &node);
    }
    roster_volume_put(&s.roster, &(struct roster_record){KEPT, 1, "v"});
    struct catalog_volume v = {.id = HERE, .number = KEPT, .block_size = 512, .state = VOLUME_LIVE, .name = "kept"};
    catalog_init(&s.catalogs[0]);
    catalog_add_volume(&s.catalogs[0], &v, &p);
    s.node.catalogs = (struct catalog_file *)&s;
    s.node.volumes = (struct volumes *)&s;
    s.node.replicas = (struct replicas *)&s;
    s.node.config.target = "iqn.2026-01.t";
    s.node.mem = mem_open(1 << 20);
    edit.after = (struct catalog_host){.name = "h1", .initiator_count = 1, .initiators = {"iqn.2026-01.h1"}};
    decided(shared_add);
    map_it(shared_add_map);
}

/* As one that a person asked this node for. */
static enum err handled(struct call *call, shared_change_of *how)
{
    *call = (struct call){.node = &s.node};
    node_change_begin(&s.node);
    enum err err = node_shared_begin(call);
    edit.number = 1;
    edit.map = (struct shared_map){.volume = KEPT, .lun = 3};
    if (err == OK) err = node_shared_change(call, how, &edit);
    if (err == OK) err = node_shared_end(call);
    node_change_end(&s.node);
    return err;
}

/* ---- cases ---- */

TEST(what_is_known_holds_before_it_is_announced)
{
    begin();
    CHECK_OK(node_sharing_open(&s.node));
    CHECK(sees() && s.node.unit_count == 1 && s.announced == 7 && node_sharing_holds(&s.node));
    turn();
    CHECK_EQ(s.commits, 1);
    CHECK_OK(map_it(shared_remove_map));
    CHECK(!node_sharing_holds(&s.node));
    turn();
    CHECK(!sees() && s.node.unit_count == 0 && s.announced == 8);
    s.version++; /* of something else */
    turn();
    CHECK(s.announced == 9 && s.commits == 2);
}

/* Between two turns of the task a handler follows the one, and the other is known before the next turn. */
TEST(a_change_that_is_taken_back_at_once_is_followed)
{
    struct call call;
    begin();
    CHECK_OK(map_it(shared_remove_map));
    CHECK_OK(node_sharing_open(&s.node));
    turn();
    CHECK(!sees() && s.announced == 8);
    s.away = true;
    CHECK_OK(handled(&call, shared_add_map));
    CHECK(sees() && s.announced == 9);
    CHECK_OK(map_it(shared_remove_map));
    turn();
    CHECK(!sees() && s.announced == 10 && node_sharing_holds(&s.node));
}

TEST(the_catalog_is_written_within_changes_only)
{
    struct call call;
    begin();
    CHECK_OK(node_sharing_open(&s.node)); /* others may change it by then */
    CHECK(s.commits == 1 && s.outside == 0 && !s.node.changing);
    s.away = true;
    CHECK_OK(handled(&call, shared_remove_map));
    CHECK_OK(map_it(shared_add_map));
    turn();
    CHECK(s.commits == 3 && s.outside == 0 && !s.node.changing);
}

TEST(a_unit_that_did_not_open_is_owed)
{
    begin();
    s.fails = ERR_NO_MEMORY;
    CHECK_OK(node_sharing_open(&s.node));
    CHECK(sees() && s.node.unit_count == 0 && s.announced == 0);
    s.fails = ERR_NO_MEMORY;
    turn();
    CHECK(s.node.unit_count == 0 && s.announced == 0 && s.node.sharing.err == ERR_NO_MEMORY);
    turn();
    CHECK(s.node.unit_count == 1 && s.announced == 7 && s.commits == 1);
}

/* A handler's, too, of a node that is in no cluster: whoever looks finds it. */
TEST(what_a_handler_owes_is_done_later)
{
    begin();
    CHECK_OK(node_sharing_open(&s.node));
    s.removed = true;
    turn();
    node_units_close(&s.node);
    s.fails = ERR_NO_MEMORY;
    CHECK_ERR(ERR_NO_MEMORY, node_access_changed(&s.node));
    s.node.sharing.kicked = false;
    node_sharing_look(&s.node);
    CHECK(s.node.sharing.kicked);
    turn();
    CHECK_EQ(s.node.unit_count, 1);
    node_sharing_look(&s.node);
    CHECK(!s.node.sharing.kicked);
}

TEST(a_change_waits_for_all_that_serve)
{
    struct call call;
    begin();
    CHECK_OK(node_sharing_open(&s.node));
    CHECK_ERR(ERR_UNDECIDED, handled(&call, shared_remove_map));
    CHECK(strstr(call.problem.detail, "but b did not follow") != NULL);
    s.roster.nodes[1].stage = ROSTER_LEAVING; /* that may last, and meanwhile it serves */
    CHECK_ERR(ERR_UNDECIDED, handled(&call, shared_add_map));
    CHECK(strstr(call.problem.detail, "but b did not follow") != NULL);
    s.away = true;
    CHECK_OK(handled(&call, shared_remove_map));
    CHECK_STR(call.behind, "b");
    s.roster.nodes[1].until_s = 9;
    s.roster.nodes[1].stage = ROSTER_JOINING; /* it has nothing to serve yet */
    CHECK_OK(handled(&call, shared_add_map));
    CHECK_STR(call.behind, "");
}

/* Maps of volumes of this node alone, as many as there may be; h1 cannot see what it is to see. */
static void fill(void)
{
    struct problem p = {.err = OK};
    struct catalog *c = catalog_now(s.node.catalogs);
    for (uint32_t i = 0; i < CATALOG_HOSTS_MAX && c->map_count < CATALOG_MAPS_MAX; i++) {
        struct catalog_host h = {.id = c->next_host++, .number = i + 1, .initiator_count = 1};
        snprintf(h.name, sizeof h.name, "h%u", i + 1);
        snprintf(h.initiators[0], sizeof h.initiators[0], "iqn.2026-01.h%u", i + 1);
        if (i > 0) catalog_add_host(c, &h, &p);
        edit.after = h;
        if (i > 0) decided(shared_add);
        uint32_t id = catalog_host(c, h.name)->id;
        for (uint32_t k = 0; k < 200; k++) {
            struct catalog_volume v = {.id = 100 + k, .block_size = 512, .state = VOLUME_LIVE};
            snprintf(v.name, sizeof v.name, "own%u", k);
            if (i == 0) catalog_add_volume(c, &v, &p);
            catalog_add_map(c, v.id, id, 10 + k, &p);
        }
    }
}

TEST(what_does_not_fit_is_not_announced)
{
    struct call call;
    begin();
    s.away = true;
    CHECK_OK(map_it(shared_remove_map));
    CHECK_OK(node_sharing_open(&s.node));
    fill();
    CHECK_EQ(catalog_now(s.node.catalogs)->map_count, CATALOG_MAPS_MAX);
    CHECK_ERR(ERR_LIMIT, handled(&call, shared_add_map));
    CHECK(strstr(call.problem.detail, "no room") != NULL && s.announced == s.version - 1 && !sees());
    struct catalog *c = catalog_now(s.node.catalogs);
    catalog_remove_map(c, 100, catalog_host(c, "h2")->id);
    CHECK_OK(handled(&call, shared_remove_map)); /* what makes room is done */
    CHECK_OK(handled(&call, shared_add_map));
    CHECK(sees() && s.announced == s.version);
}

/* Versions of one cluster say nothing in another. */
TEST(what_was_announced_ends_with_the_membership)
{
    begin();
    CHECK_OK(node_sharing_open(&s.node));
    CHECK_EQ(s.announced, 7);
    s.removed = true;
    turn();
    CHECK_EQ(s.announced, 0);
    s.removed = false;
    turn();
    CHECK_EQ(s.announced, 7);
    s.roster.cluster.b[0]++; /* all between two turns */
    node_sharing_changed(&s.node);
    CHECK_EQ(s.announced, 0);
    turn();
    CHECK_EQ(s.announced, 7);
}

/* A map of a volume of this node alone is taken away here first: its LUN follows, however the roster is changed. */
TEST(a_lun_that_could_not_be_given_back_is_later)
{
    struct problem p = {.err = OK};
    struct catalog_volume v = {.id = 100, .block_size = 512, .state = VOLUME_LIVE, .name = "own"};
    struct call call = {.node = &s.node, .parts = {"own", "h1"}};
    static struct shared_host host;
    begin();
    CHECK_OK(node_sharing_open(&s.node));
    struct catalog *c = catalog_now(s.node.catalogs);
    CHECK_OK(catalog_add_volume(c, &v, &p));
    CHECK_OK(catalog_add_map(c, 100, catalog_host(c, "h1")->id, 9, &p));
    turn();
    node_sharing_kick(&s.node);
    turn();
    CHECK(shared_find(&s.roster, 1, &host) && host.map_count == 2);
    turn();
    s.refuses = ERR_NO_QUORUM;
    node_change_begin(&s.node);
    CHECK_ERR(ERR_NO_QUORUM, maps_delete(&call));
    node_change_end(&s.node);
    CHECK(shared_find(&s.roster, 1, &host) && host.map_count == 2);
    turn();
    CHECK(shared_find(&s.roster, 1, &host) && host.map_count == 1);
}

/* The roster's file may be older than the catalog, which is durable before a version is announced. */
TEST(a_start_does_not_go_back)
{
    begin();
    CHECK_OK(node_sharing_open(&s.node));
    CHECK_OK(map_it(shared_remove_map));
    turn();
    CHECK(!sees() && s.announced == 8);
    CHECK_OK(map_it(shared_add_map)); /* as it was in version 7 */
    s.version = 7;
    s.announced = 0;
    s.node.sharing.held = s.node.sharing.digest = 0;
    s.cut = true;
    CHECK_OK(node_sharing_open(&s.node));
    turn();
    CHECK(!sees() && s.announced == 0 && !node_sharing_holds(&s.node));
    s.cut = false;
    s.decided = 9;
    turn();
    CHECK(sees() && s.announced == 9 && catalog_now(s.node.catalogs)->version == 9);
}

TESTS(a_start_does_not_go_back, a_lun_that_could_not_be_given_back_is_later, what_was_announced_ends_with_the_membership,
      what_does_not_fit_is_not_announced, a_change_waits_for_all_that_serve, a_unit_that_did_not_open_is_owed,
      what_a_handler_owes_is_done_later, what_is_known_holds_before_it_is_announced, the_catalog_is_written_within_changes_only,
      a_change_that_is_taken_back_at_once_is_followed)
