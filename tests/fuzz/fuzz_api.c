/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: no request harms the API: each is answered once, what is refused says why, secrets never come out, what only shows
 * changes nothing, and names and volumes agree afterwards. Method: routing, reading and handlers of src/api as they are, over a
 * stand-in for HTTP, for the files of the catalog, and for the store with its volumes, all in memory.
 *
 *     byte 0    bits: see enum how
 *     byte 1    how many commits and changes of volumes go well before one fails
 *     then requests, each ended by NUL: METHOD PATH[?NAME=VALUE[&...]], a line feed, and the body
 *
 * Of volumes every second one is said to hold data; one initiator is logged in when HOW_LOGGED_IN says so. Where access
 * changes, commands of sessions that were cut go on for a while: nobody is answered before they end, or only with an error.
 */
#include "api/internal.h"
#include "fuzz/fuzz.h"
#include "io/host.h"

enum { SEGMENT = 1 << 20, BEYOND = 3 };
enum { VOLUMES = 8, SIZE_MAX_BYTES = 1 << 30 };
enum { THE_NUMBER = 9 /* of the one volume with replicas here */, THIS_NODE = 3 /* in its cluster */ };
enum how {
    HOW_LOGGED_IN = 1,
    HOW_FAILS = 2,
    HOW_CUT = 4,       /* bodies, paths and queries are too long */
    HOW_STUCK = 8,     /* the last commands of a session that was cut do not end */
    HOW_MEANWHILE = 16 /* somebody writes to a volume while its end is looked at */
};
#define ELSEWHERE "elsewhere" /* a volume that other nodes of the cluster keep */
#define LOGGED_IN "iqn.2026-01.org.example:in"

struct volume {
    uint32_t id, holds;
    uint64_t bytes, writes;
    uint32_t under_way;
    struct volume_replica replica;
};

static struct play {
    uint8_t how, well;
    bool failed; /* something did */
    struct node node;
    struct catalog now, draft, decoded;
    struct volume volumes[VOLUMES];
    uint32_t last_volume, commits;
    struct volume_request *probing;
    struct replicas_user replicas;
    struct placement place; /* of the one volume with replicas; no name: there is none */
    uint32_t ending;        /* looks until the last command of a cut session has ended */
    bool clustered;         /* it belongs to a cluster */
    bool written;           /* to a volume, since its resize was asked for */
    bool shared;            /* the request changed hosts of the cluster */
    bool ignorant;          /* the node has been away, and knows of changes of hosts that it has not made its own */
    uint32_t optimized;     /* times that a unit was */
    struct io_task task;
    /* the request at hand */
    struct web_request request;
    char body[WEB_BODY_MAX];
    uint32_t answers;
    int status;
} play;

static enum err goes_well(void)
{
    if (!(play.how & HOW_FAILS) || play.well-- > 0) return OK;
    play.how &= (uint8_t)~HOW_FAILS;
    play.failed = true;
    return ERR_IO;
}

/* ---- the catalog's files ---- */

struct catalog *catalog_now(struct catalog_file *file)
{
    (void)file;
    return &play.now;
}

struct catalog *catalog_draft(struct catalog_file *file)
{
    (void)file;
    play.draft = play.now;
    return &play.draft;
}

struct catalog *catalog_sketch(struct catalog_file *file)
{
    (void)file;
    return &play.draft;
}

enum err catalog_commit(struct catalog_file *file)
{
    static char json[CATALOG_BYTES_MAX];
    struct problem p = {0};
    size_t bytes;
    (void)file;
    REQUIRE(catalog_encode(&play.draft, json, sizeof json, &bytes) == OK);
    REQUIRE(catalog_decode(json, bytes, &play.decoded, &p) == OK); /* what is written can be read */
    bool elsewhere = catalog_volume(&play.now, ELSEWHERE) == NULL && catalog_volume(&play.draft, ELSEWHERE) != NULL;
    REQUIRE(!elsewhere || !play.clustered || member_was_removed(NULL)); /* a name is one volume's */
    TRY(goes_well());
    play.now = play.draft;
    play.commits++;
    return OK;
}

/* ---- volumes and store ---- */

uint32_t volume_id(const struct volume *v)
{
    return v->id;
}

uint64_t volume_bytes(const struct volume *v)
{
    return v->bytes;
}

const struct volume_replica *volume_replica(const struct volume *v)
{
    return v->replica.number != 0 ? &v->replica : NULL;
}

void volume_lost(struct volume *v, uint64_t session)
{
    (void)v;
    (void)session;
}

void volume_hold(struct volume *v)
{
    v->holds++;
}

void volume_release(struct volume *v)
{
    REQUIRE(v->holds-- > 0);
}

struct volume *volumes_find(struct volumes *volumes, uint32_t id)
{
    (void)volumes;
    for (uint32_t i = 0; i < VOLUMES && id != 0; i++)
        if (play.volumes[i].id == id) return &play.volumes[i];
    return NULL;
}

enum err volume_create(struct volumes *volumes, uint64_t bytes, struct volume **ret_volume)
{
    (void)volumes;
    REQUIRE(bytes > 0 && bytes % BLOCK_SIZE == 0);
    if (bytes > SIZE_MAX_BYTES) return ERR_NO_SPACE;
    TRY(goes_well());
    for (uint32_t i = 0; i < VOLUMES; i++) {
        if (play.volumes[i].id != 0) continue;
        play.volumes[i] = (struct volume){.id = ++play.last_volume, .bytes = bytes};
        *ret_volume = &play.volumes[i];
        return OK;
    }
    return ERR_LIMIT;
}

struct volume *volumes_next(struct volumes *volumes, uint32_t from)
{
    struct volume *next = NULL;
    (void)volumes;
    for (uint32_t i = 0; i < VOLUMES; i++) {
        struct volume *v = &play.volumes[i];
        if (v->id != 0 && v->id >= from && (next == NULL || v->id < next->id)) next = v;
    }
    return next;
}

enum err volume_create_replica(struct volumes *volumes, uint64_t bytes, const struct volume_replica *replica,
                               struct volume **ret_volume)
{
    TRY(volume_create(volumes, bytes, ret_volume));
    (*ret_volume)->replica = *replica;
    return OK;
}

enum err volume_resize(struct volume *v, uint64_t bytes)
{
    REQUIRE(bytes > 0 && bytes % BLOCK_SIZE == 0);
    REQUIRE(bytes >= v->bytes || !play.written); /* what was seen to be empty need not be any more */
    if (bytes > SIZE_MAX_BYTES) return ERR_NO_SPACE;
    TRY(goes_well());
    v->bytes = bytes;
    return OK;
}

enum err volume_delete(struct volume *v)
{
    REQUIRE(v->holds == 0); /* no unit shows it any more */
    TRY(goes_well());
    *v = (struct volume){0};
    return OK;
}

void volume_stats(const struct volume *v, struct volume_stats *ret_stats)
{
    *ret_stats = (struct volume_stats){.reads = v->id, .writes = v->writes, .under_way = v->under_way};
}

void volume_start(struct volume *v, struct volume_request *r)
{
    REQUIRE(play.probing == NULL && r->verb == VOLUME_READ && r->offset + r->bytes <= v->bytes);
    memset(r->data, (int)(v->id & 1), r->bytes);
    if (play.how & HOW_MEANWHILE) { /* one that ended, or one that did not */
        play.written = true;
        v->writes += v->id & 2;
        v->under_way = v->id & 2 ? 0 : 1;
    }
    r->err = OK;
    play.probing = r;
}

uint32_t store_last_volume(const struct store *store)
{
    (void)store;
    return play.last_volume;
}

/* Its first eight blocks and its last eight. */
enum err store_changed_since(struct store *store, uint32_t volume, uint64_t sequence,
                             void (*visit)(void *arg, uint64_t lba, uint32_t count), void *arg)
{
    const struct volume *v = volumes_find(NULL, volume);
    (void)store;
    (void)sequence;
    REQUIRE(v != NULL);
    uint64_t blocks = v->bytes / BLOCK_SIZE;
    visit(arg, 0, (uint32_t)min64(blocks, 8));
    if (blocks > 16) visit(arg, blocks - 8, 8);
    return OK;
}

enum err store_clean(struct store *store, uint32_t *ret_gained)
{
    (void)store;
    *ret_gained = 1;
    return goes_well();
}

void store_pool_id(const struct store *store, uint8_t ret_id[16])
{
    (void)store;
    memset(ret_id, 1, 16);
}

/* The key of the cluster, so that a node with volumes may join as well as one without. */
void store_key_get(const struct store *store, uint8_t ret_key[STORE_KEY_BYTES])
{
    (void)store;
    memset(ret_key, play.how & HOW_MEANWHILE ? 1 : 2, STORE_KEY_BYTES);
}

enum err store_key_set(struct store *store, const uint8_t key[STORE_KEY_BYTES])
{
    (void)store;
    (void)key;
    return goes_well();
}

enum err store_volume_next(const struct store *store, uint32_t from, struct store_volume_info *ret_info)
{
    (void)store;
    for (uint32_t id = from; id <= play.last_volume; id++) {
        const struct volume *v = volumes_find(NULL, id);
        if (v == NULL) continue;
        *ret_info = (struct store_volume_info){.id = id, .blocks = v->bytes / BLOCK_SIZE};
        return OK;
    }
    return ERR_NO_VOLUME;
}

void store_stats(const struct store *store, struct store_stats *ret_stats)
{
    (void)store;
    *ret_stats = (struct store_stats){.slots = 100, .slots_free = 50, .slots_beyond = BEYOND, .segment_bytes = SEGMENT};
}

/* ---- the target ---- */

enum err iscsi_session_next(const struct iscsi_target *target, uint64_t from, struct iscsi_session_info *ret_info)
{
    (void)target;
    if (from > 3) return ERR_NO_KEY;
    *ret_info = (struct iscsi_session_info){
        .tsih = 1, .id = 3, .initiator = LOGGED_IN, .alias = "\x80\xff", .full_feature = true, .peer = "a", .portal = "b"};
    return OK;
}

enum err iscsi_session_cut(struct iscsi_target *target, uint64_t id)
{
    (void)target;
    return id == 3 ? OK : ERR_NO_KEY;
}

const char *iscsi_target_address(const struct iscsi_target *target, uint32_t i, char *buf, size_t size)
{
    (void)target;
    snprintf(buf, size, "192.0.2.%u:3260", i);
    return buf;
}

/* Units are opened before the target is told, and closed after: it takes what is there. */
void iscsi_target_changed(struct iscsi_target *target)
{
    static struct iscsi_lun luns[ISCSI_LUNS_MAX];
    struct iscsi_access access;
    struct iscsi_rules rules = node_rules(&play.node);
    (void)target;
    play.ending = 3;
    if (!rules.admit(rules.arg, LOGGED_IN, &access)) return;
    uint32_t count = rules.luns(rules.arg, LOGGED_IN, luns);
    for (uint32_t i = 0; i < count; i++) REQUIRE(luns[i].unit != NULL && (i == 0 || luns[i].lun > luns[i - 1].lun));
}

void io_after(struct io *io, uint64_t ns, struct io_timer *timer)
{
    (void)io;
    (void)ns;
    (void)timer;
}

void io_cancel(struct io *io, struct io_timer *timer)
{
    (void)io;
    (void)timer;
}

void iscsi_target_rename(struct iscsi_target *target, const char *name)
{
    (void)target;
    REQUIRE(strcmp(name, "iqn.t") == 0);
}

void iscsi_target_group(struct iscsi_target *target, uint16_t portal_group)
{
    (void)target;
    REQUIRE(portal_group > 0);
}

void scsi_unit_groups(struct scsi_unit *unit, const struct scsi_port_group *groups, uint32_t count)
{
    REQUIRE(unit != NULL && count > 0 && count <= SCSI_GROUPS_MAX && groups[0].id == THIS_NODE);
    for (uint32_t i = 1; i < count; i++) REQUIRE(groups[i].id > 0 && groups[i].id != THIS_NODE);
    REQUIRE(count == 1 || !member_was_removed(NULL)); /* then others are of no concern */
    REQUIRE(groups[0].access != SCSI_ACTIVE_OPTIMIZED || !play.ignorant);
    play.optimized += groups[0].access == SCSI_ACTIVE_OPTIMIZED;
}

bool iscsi_target_is_ending(const struct iscsi_target *target)
{
    (void)target;
    return play.ending > 0;
}

void iscsi_target_stats(const struct iscsi_target *target, struct iscsi_stats *ret_stats)
{
    (void)target;
    *ret_stats = (struct iscsi_stats){.sessions = 1};
}

/* ---- the cluster: what matters here is what is asked of it; it has three nodes, or none yet; this is the last ---- */

static struct roster the_roster = {.name = "prod", .next = 4, .next_volume = THE_NUMBER, .node_count = 3};

/* Of a volume that this node does not keep. */
static void put_elsewhere(void)
{
    static uint8_t value[ROSTER_VALUE_MAX];
    static const struct placement place = {
        .stage = PLACE_MAKING, .node_count = 1, .nodes = {1}, .blocks = 1, .block_bytes = 512, .name = ELSEWHERE};
    REQUIRE(placement_put(&the_roster, THE_NUMBER - 1, &place, value) == OK);
}

const struct roster *member_roster(const struct member *member)
{
    (void)member;
    put_elsewhere();
    for (uint32_t i = 0; i < the_roster.node_count; i++)
        the_roster.nodes[i] = (struct roster_node){.number = i + 1,
                                                   .stage = ROSTER_LIVE,
                                                   .role = i == 1 ? ROSTER_WITNESS : ROSTER_DATA,
                                                   .name = {'n', (char)('1' + i)},
                                                   .acceptor = i + 1};
    return play.clustered ? &the_roster : NULL;
}

uint64_t member_version(const struct member *member)
{
    (void)member;
    return 7;
}

const struct register_members *member_acceptors(const struct member *member)
{
    static const struct register_members members = {.epoch = 1, .now = {1, {1}}};
    (void)member;
    return &members;
}

uint32_t member_number(const struct member *member)
{
    (void)member;
    return play.clustered ? THIS_NODE : 0;
}

bool member_is_up(const struct member *member, uint32_t number)
{
    (void)member;
    return number == THIS_NODE || (play.how & (HOW_LOGGED_IN | HOW_STUCK));
}

bool member_has_majority(const struct member *member, uint32_t *ret_up, uint32_t *ret_of)
{
    (void)member;
    *ret_up = *ret_of = 1;
    return !(play.how & HOW_STUCK);
}

bool member_was_removed(const struct member *member)
{
    (void)member;
    return play.how & HOW_MEANWHILE;
}

bool member_knows_key(const struct member *member, const char *token, uint8_t ret_key[POOL_KEY_BYTES])
{
    (void)member;
    memset(ret_key, 2, POOL_KEY_BYTES);
    return play.clustered || token != NULL;
}

enum err token_decode(const char *text, struct token *ret_token)
{
    *ret_token = (struct token){.cluster.b = {(uint8_t)text[0]}};
    return text[0] == 'x' ? ERR_NOT_OURS : OK;
}

static enum err member_goes_well(struct member_why *why)
{
    *why = (struct member_why){.text = "it failed", .help = "try again"};
    return goes_well();
}

enum err member_read(struct member *member, struct member_why *ret_why)
{
    (void)member;
    return member_goes_well(ret_why);
}

/* What was decided has its values for itself. */
enum err member_change(struct member *member, member_edit *edit, void *arg, struct member_why *ret_why)
{
    static uint8_t kept[64][ROSTER_HOST_MAX];
    static struct roster draft;
    (void)member;
    REQUIRE(play.clustered && !member_was_removed(NULL));
    TRY(member_goes_well(ret_why));
    draft = *member_roster(NULL);
    TRY(edit(&draft, arg, ret_why));
    for (uint32_t i = 0; i < draft.host_count; i++) {
        struct roster_record *h = &draft.hosts[i];
        const struct roster_record *before = roster_host(&the_roster, h->number);
        if (before != NULL && before->value == h->value) continue;
        struct shared_host host;
        uint8_t *value = kept[h->number % 64];
        if (h->number >= 64) return ERR_LIMIT;
        memmove(value, h->value, h->bytes);
        h->value = value;
        REQUIRE(shared_decode(h->value, h->bytes, &host) == OK);
    }
    play.shared = true;
    the_roster = draft;
    return OK;
}

enum err member_create(struct member *member, const char *name, struct member_why *ret_why)
{
    (void)member;
    REQUIRE(roster_name_is_good(name));
    TRY(member_goes_well(ret_why));
    play.clustered = true;
    return OK;
}

enum err member_issue(struct member *member, enum roster_role role, uint64_t lifetime_s, char ret_text[TOKEN_TEXT_MAX],
                      struct token *ret_token, struct member_why *ret_why)
{
    (void)member;
    REQUIRE((role == ROSTER_DATA || role == ROSTER_WITNESS) && lifetime_s > 0);
    TRY(member_goes_well(ret_why));
    *ret_token = (struct token){.node = 3, .expires_s = lifetime_s};
    memcpy(ret_text, "IZJ1-A", 7);
    return OK;
}

enum err member_join(struct member *member, const char *token, struct member_why *ret_why)
{
    (void)member;
    REQUIRE(token[0] != '\0');
    return member_goes_well(ret_why);
}

enum err member_remove(struct member *member, uint32_t number, struct member_why *ret_why)
{
    (void)member;
    REQUIRE(play.clustered && number >= 1 && number <= 3);
    return member_goes_well(ret_why);
}

void scrub_begin(struct scrub *scrub)
{
    REQUIRE(scrub == NULL);
}

void scrub_status(const struct scrub *scrub, struct scrub_status *ret_status)
{
    REQUIRE(scrub == NULL);
    *ret_status = (struct scrub_status){.passes = 1};
}

/* ---- volumes with replicas: the other node is always quick ---- */

enum err replicas_open(const struct replicas_config *config, struct replicas **ret_replicas)
{
    play.replicas = config->user;
    play.place = (struct placement){.node_count = 0};
    *ret_replicas = (void *)&play.place;
    return OK;
}

bool replicas_place(const struct replicas *replicas, uint32_t number, struct placement *ret_place)
{
    REQUIRE((const void *)replicas == &play.place);
    if (number != THE_NUMBER || play.place.node_count == 0) return false;
    *ret_place = play.place;
    return true;
}

bool replicas_status(const struct replicas *replicas, uint32_t number, struct replica_status *ret_status)
{
    (void)replicas;
    *ret_status = (struct replica_status){.role = REPLICA_OWNER, .why = "serving", .serving = play.how & HOW_LOGGED_IN};
    return number == THE_NUMBER && !(play.how & HOW_STUCK);
}

enum err replicas_create(struct replicas *replicas, const struct placement *wanted, uint32_t *ret_number,
                         struct member_why *ret_why)
{
    uint8_t value[ROSTER_VALUE_MAX];
    struct placement place;
    struct volume *volume;
    (void)replicas;
    REQUIRE(placement_decode(value, placement_encode(wanted, value), &place) == OK && place.node_count == 2);
    if (play.place.node_count > 0) return member_goes_well(ret_why) == OK ? ERR_NAME_EXISTS : ERR_CONFLICT;
    TRY(member_goes_well(ret_why));
    enum err err = play.replicas.make(play.replicas.arg, THE_NUMBER, &place, true, &volume);
    if (err != OK) return err;
    place.stage = PLACE_LIVE;
    place.config = (struct replica_config){.version = 1, .epoch = 1, .in_sync = 3, .join = {1, 1}};
    play.place = place;
    *ret_number = THE_NUMBER;
    return OK;
}

enum err replicas_delete(struct replicas *replicas, uint32_t number, struct member_why *ret_why)
{
    (void)replicas;
    REQUIRE(number == THE_NUMBER && !member_was_removed(NULL)); /* what a cluster has is for its members to delete */
    TRY(member_goes_well(ret_why));
    TRY(play.replicas.unmake(play.replicas.arg, number));
    play.place.node_count = 0;
    return OK;
}

enum err replicas_copies(struct replicas *replicas, uint32_t number, uint32_t add, uint32_t drop, struct member_why *ret_why)
{
    (void)replicas;
    REQUIRE(number == THE_NUMBER && (add == 0) != (drop == 0));
    TRY(member_goes_well(ret_why));
    return add == 0 ? ERR_CONFLICT : ERR_NAME_EXISTS;
}

enum err replicas_force(struct replicas *replicas, uint32_t number, struct member_why *ret_why)
{
    (void)replicas;
    REQUIRE(number == THE_NUMBER);
    return member_goes_well(ret_why);
}

void replicas_announce(struct replicas *replicas, uint64_t version)
{
    (void)replicas;
    REQUIRE(version == 7 || version == 0); /* not any more, or not yet */
}

uint64_t replicas_announced(const struct replicas *replicas, uint32_t node)
{
    (void)replicas;
    REQUIRE(node != THIS_NODE);
    return play.how & HOW_STUCK ? 6 : member_is_up(NULL, node) ? 7 : 0;
}

bool host_is_virtual(void)
{
    return true;
}

/* ---- the seam ---- */

uint64_t io_now_ns(struct io *io)
{
    (void)io;
    return 1000000000u;
}

/* A task runs to its end at once: the only thing that it waits for is a read of a volume. */
enum err io_task_start(struct io *io, struct io_task *task, void (*run)(void *arg), void *arg)
{
    (void)io;
    (void)task;
    run(arg);
    return OK;
}

struct io_task *io_task_self(void)
{
    return &play.task;
}

void io_task_park(void)
{
    struct volume_request *r = play.probing;
    REQUIRE(r != NULL);
    play.probing = NULL;
    r->done(r);
}

void io_task_done(struct io_task *task)
{
    (void)task;
}

void io_task_wake(struct io_task *task)
{
    REQUIRE(task == &play.task);
}

void io_task_sleep(struct io *io, uint64_t delay_ns)
{
    (void)io;
    (void)delay_ns;
    if (play.ending > 0 && !(play.how & HOW_STUCK)) play.ending--;
}

const char *io_group_backend(const struct io_group *group)
{
    (void)group;
    return "none";
}

uint64_t host_resident_bytes(void)
{
    return 1 << 20;
}

uint64_t host_wall_seconds(void)
{
    return 1767225600u;
}

const char *host_time_text(uint64_t seconds, char buf[24])
{
    snprintf(buf, 24, "%llu", (unsigned long long)seconds);
    return buf;
}

void trace(enum trace_level level, const char *format, ...)
{
    (void)level;
    (void)format;
}

/* ---- HTTP ---- */

const char *web_query(const struct web_request *request, const char *name)
{
    for (uint32_t i = 0; i < request->query_count; i++)
        if (strcmp(request->query[i].name, name) == 0) return request->query[i].value;
    return NULL;
}

static void require_no_secret(const json_t *value)
{
    const char *name;
    json_t *member;
    size_t i;
    json_array_foreach(value, i, member) require_no_secret(member);
    json_object_foreach((json_t *)(uintptr_t)value, name, member)
    {
        REQUIRE(strstr(name, "secret") == NULL);
        require_no_secret(member);
    }
}

/* What memory cannot describe is told wherever the pool is, and what to do about it. */
static void require_beyond(const json_t *answer)
{
    const json_t *pool = json_object_get(answer, "pool"), *issues = json_object_get(answer, "issues"), *issue;
    bool told = issues == NULL;
    size_t i;
    if (pool == NULL) pool = json_object_get(answer, "live_bytes") != NULL ? answer : NULL;
    REQUIRE(pool == NULL || json_integer_value(json_object_get(pool, "beyond_memory_bytes")) == BEYOND * SEGMENT);
    json_array_foreach(issues, i, issue) told |=
        strncmp(json_string_value(json_object_get(issue, "text")), "3 MiB of the pool", 17) == 0;
    REQUIRE(told);
}

void web_answer(struct web_request *request, int status, json_t *answer, const char *location)
{
    REQUIRE(request == &play.request && play.answers++ == 0);
    play.status = status;
    bool founds = strcmp(request->path, "/v1/cluster") == 0; /* which takes nothing from anybody */
    REQUIRE(play.ending == 0 || status >= 400 || founds);
    REQUIRE(json_object_get(answer, "behind") == NULL || !member_is_up(NULL, 1));
    bool waits = play.shared && !founds && (strstr(request->path, "/hosts") != NULL || strstr(request->path, "/maps") != NULL);
    if (waits && member_is_up(NULL, 1)) REQUIRE(status >= 400 || !(play.how & HOW_STUCK)); /* it is late */
    if (waits && !member_is_up(NULL, 1)) REQUIRE(status >= 400 || json_object_get(answer, "behind") != NULL);
    if (status >= 400) {
        REQUIRE(answer != NULL && location == NULL);
        REQUIRE(json_string_length(json_object_get(answer, "detail")) > 0);
        REQUIRE(json_integer_value(json_object_get(answer, "status")) == status);
    } else {
        REQUIRE(status == 200 || status == 201 || status == 204);
        REQUIRE((answer == NULL) == (status == 204) && (location == NULL || status == 201));
        require_beyond(answer);
    }
    require_no_secret(answer);
    json_decref(answer);
}

/* Copies up to `size - 1` characters; false: there are more. */
static bool put(char *to, size_t size, const char *from, size_t length)
{
    if (length >= size) return false;
    memcpy(to, from, length);
    to[length] = '\0';
    return true;
}

static void put_query(struct web_request *r, const char *at)
{
    while (*at != '\0') {
        size_t length = strcspn(at, "&"), name = strcspn(at, "=&");
        struct web_query *q = &r->query[r->query_count];
        const char *value = name < length ? at + name + 1 : "";
        size_t value_length = name < length ? length - name - 1 : 0;
        if (r->query_count == WEB_QUERY_MAX || !put(q->name, sizeof q->name, at, name) ||
            !put(q->value, sizeof q->value, value, value_length)) {
            r->overlong = true;
            return;
        }
        r->query_count++;
        at += length + (at[length] == '&');
    }
}

/* `text` is one request, terminated. */
static void request_from(struct web_request *r, const char *text)
{
    size_t line = strcspn(text, "\n"), method = strcspn(text, " \n"), bytes;
    const char *path = text + method + (text[method] == ' '), *end = text + line;
    const char *query = memchr(path, '?', (size_t)(end > path ? end - path : 0));
    const char *body = end + (*end == '\n');
    char queries[4096] = "";
    *r = (struct web_request){.body = play.body, .json = text[0] != '*', .overlong = play.how & HOW_CUT};
    if (!put(r->method, sizeof r->method, text, method)) r->overlong = true;
    if (path > end) path = end;
    if (!put(r->path, sizeof r->path, path, (size_t)((query != NULL ? query : end) - path))) r->overlong = true;
    if (query != NULL && put(queries, sizeof queries, query + 1, (size_t)(end - query - 1))) put_query(r, queries);
    bytes = strlen(body);
    if (bytes > WEB_BODY_MAX) {
        r->overlong = true;
        return;
    }
    memcpy(play.body, body, bytes);
    r->body_bytes = (uint32_t)bytes;
}

/* ---- an input ---- */

static void require_agreement(void)
{
    for (uint32_t i = 0; i < play.now.volume_count && !play.failed; i++) {
        const struct catalog_volume *v = &play.now.volumes[i];
        REQUIRE(v->state == VOLUME_LIVE && volumes_find(NULL, v->id) != NULL);
    }
    for (uint32_t i = 0; i < VOLUMES && !play.failed; i++)
        REQUIRE(play.volumes[i].id == 0 || catalog_volume_by_id(&play.now, play.volumes[i].id) != NULL);
    for (uint32_t i = 0; i < play.node.unit_count; i++)
        REQUIRE(play.failed || catalog_maps_of_volume(&play.now, play.node.units[i].volume) > 0);
    for (uint32_t i = 0; i < play.now.map_count; i++)
        REQUIRE(play.failed || node_unit(&play.node, play.now.maps[i].volume) != NULL);
    REQUIRE(!play.node.changing);
    bool replica = false; /* one is shown */
    for (uint32_t i = 0; i < play.node.unit_count; i++) {
        const struct volume *v = volumes_find(NULL, play.node.units[i].volume);
        replica |= v != NULL && v->replica.number != 0;
    }
    REQUIRE(node_group(&play.node) == (play.clustered && (replica || !member_was_removed(NULL)) ? THIS_NODE : 1));
}

/* Whoever may log in, and what he sees, is what all nodes agreed on. */
static void require_sharing(void)
{
    struct shared_host host;
    struct catalog *c = &play.now;
    uint32_t maps = 0;
    if (play.failed || !play.clustered || member_was_removed(NULL)) return;
    REQUIRE(c->host_count == the_roster.host_count && strcmp(the_roster.target, "iqn.t") == 0);
    for (uint32_t i = 0; i < c->host_count; i++) {
        const struct catalog_host *h = &c->hosts[i];
        REQUIRE(shared_find(&the_roster, h->number, &host) && shared_is_same(&host.is, h));
        maps += host.map_count;
        for (uint32_t k = 0; k < host.map_count; k++) {
            const struct catalog_map *m = catalog_map_at(c, h->id, host.maps[k].lun);
            bool elsewhere = host.maps[k].volume != 0 && host.maps[k].volume != THE_NUMBER;
            REQUIRE((m != NULL || elsewhere) && (host.maps[k].node == 0 || host.maps[k].node == THIS_NODE));
            maps -= elsewhere;
        }
    }
    REQUIRE(maps == c->map_count);
}

/* Looks at all units, when others have changed hosts or when they have not; returns those with replicas. */
static uint32_t look_at_units(bool ignorant)
{
    uint32_t replicas = 0;
    play.optimized = 0;
    the_roster.next_host += ignorant;
    for (uint32_t i = 0; i < play.node.unit_count; i++) {
        struct node_unit *u = &play.node.units[i];
        const struct volume *v = volumes_find(NULL, u->volume);
        replicas += v != NULL && v->replica.number != 0;
        node_access_look(&play.node, u);
    }
    the_roster.next_host -= ignorant;
    return replicas;
}

/* Who has been away does not serve before he knows to whom; who serves goes on while he makes changes his own. */
static void require_knowledge(void)
{
    bool can = (play.how & HOW_LOGGED_IN) && !(play.how & HOW_STUCK);
    if (!play.clustered || member_was_removed(NULL) || play.failed) return;
    for (uint32_t i = 0; i < play.node.unit_count; i++) play.node.units[i].serves = false;
    play.ignorant = true;
    look_at_units(true);
    play.ignorant = false;
    for (int later = 0; later < 2; later++) {
        uint32_t replicas = look_at_units(later > 0);
        REQUIRE(play.optimized == replicas || !can);
    }
}

/* As its task does. */
static void follow(void)
{
    if (!play.node.sharing.kicked) return;
    play.node.sharing.kicked = false;
    node_change_begin(&play.node);
    play.failed |= node_share(&play.node) != OK;
    node_change_end(&play.node);
}

static void ask(const char *text)
{
    uint32_t commits = play.commits;
    play.answers = 0;
    play.ending = 0;
    play.written = play.shared = false;
    for (uint32_t i = 0; i < VOLUMES; i++) play.volumes[i].under_way = 0;
    request_from(&play.request, text);
    routes_handle(&play.node, &play.request);
    REQUIRE(play.answers == 1);
    play.failed |= play.ending > 0; /* what was begun is finished by the next start */
    follow();
    require_sharing();
    require_knowledge();
    if (strcmp(play.request.method, "GET") == 0 || play.status == 404 || play.status == 405 || play.status == 413)
        REQUIRE(play.commits == commits || (play.clustered && play.failed)); /* what the cluster has is caught up with first */
    require_agreement();
}

static void begin(uint8_t how, uint8_t well)
{
    static int there;
    play.how = how;
    play.well = well;
    play.failed = play.clustered = false;
    the_roster.host_count = 0;
    the_roster.next_host = 1;
    the_roster.target[0] = '\0';
    play.last_volume = play.commits = 0;
    memset(play.volumes, 0, sizeof play.volumes);
    catalog_init(&play.now);
    play.node =
        (struct node){.config = {.name = "n", .target = "iqn.t", .devices = {{"pool", DEVICE_FLASH}}, .device_count = 1}};
    play.node.mem = mem_open(4 << 20);
    play.node.target = how & HOW_LOGGED_IN ? (struct iscsi_target *)(void *)&there : NULL;
    list_init(&play.node.waiting);
    if (play.node.mem == NULL) exit(2);
    REQUIRE(node_replicas_open(&play.node) == OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > FUZZ_INPUT_MAX * 2) return 0;
    begin(data[0], data[1]);
    char *texts = (char *)malloc(size - 1);
    if (texts == NULL) exit(2);
    memcpy(texts, data + 2, size - 2);
    texts[size - 2] = '\0';
    for (size_t at = 0; at < size - 2; at += strlen(texts + at) + 1) ask(texts + at);
    free(texts);
    node_units_close(&play.node);
    for (uint32_t i = 0; i < VOLUMES; i++) REQUIRE(play.volumes[i].holds == 0);
    REQUIRE(mem_used(play.node.mem) == 0);
    mem_close(play.node.mem);
    return 0;
}
