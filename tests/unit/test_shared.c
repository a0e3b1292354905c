/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a cluster's host keeps its meaning as bytes, what could not have been written is refused; a name, an initiator and a
 * LUN belong to one in the whole cluster; catalogs of several nodes become what the roster says, whatever they were. Method:
 * bytes written out by hand, cut and changed; edits of a roster one after the other; catalogs of two nodes on it.
 */
#include <stdlib.h>

#include "api/shared.h"
#include "check.h"

enum { SELF = 1, OTHER = 2, KEPT = 7 /* the volume with replicas that both keep, by its number */, FAR = 8 };
#define IQN "iqn.2026-01.org.example:"

static struct roster roster;
static struct shared_edit edit;
static struct shared_host host, back;
static struct catalog here, there, before;
static uint8_t value[ROSTER_HOST_MAX + 1];
static char told[2000];

/* ---- bytes ---- */

static const uint8_t kept[] = {
    1,   2,   1,   0,   1,   12,  0,   0, /* version, a name of 2, an initiator, CHAP one-way */
    5,   4,   3,   2,   1,   0,   0,   0, /* created */
    2,   0,   0,   0,   0,   0,   0,   0, /* two maps */
    'h', '1', 13,  'i', 'q', 'n', '.', '2', '0', '2', '6', '-', '0', '1', '.', 'a', /* name, initiator */
    'u', 's', 'e', 'c', 'r', 'e', 't', 's', 'e', 'c', 'r', 'e', 't',                /* CHAP */
    7,   0,   0,   0,   0,   0,   0,   0,   3,   0,                                 /* volume 7 is LUN 3 */
    0,   0,   0,   0,   1,   2,   0,   0,   255, 0,                                 /* LUN 255 is one of node 513 */
};

TEST(bytes_lie_as_written)
{
    CHECK_OK(shared_decode(kept, sizeof kept, &host));
    CHECK_STR(host.is.name, "h1");
    CHECK(host.is.created == 0x0102030405 && host.is.initiator_count == 1 && host.map_count == 2);
    CHECK_STR(host.is.initiators[0], "iqn.2026-01.a");
    CHECK_STR(host.is.chap.user, "u");
    CHECK_STR(host.is.chap.secret, "secretsecret");
    CHECK(host.is.mutual.user[0] == '\0' && host.is.mutual.secret[0] == '\0');
    CHECK(host.maps[0].volume == 7 && host.maps[0].node == 0 && host.maps[0].lun == 3);
    CHECK(host.maps[1].volume == 0 && host.maps[1].node == 513 && host.maps[1].lun == 255);
    CHECK_EQ(shared_encode(&host, value), sizeof kept);
    CHECK_BYTES(value, kept, sizeof kept);
    for (size_t size = 0; size < sizeof kept; size++) CHECK_ERR(ERR_TRUNCATED, shared_decode(kept, size, &back));
    memcpy(value, kept, sizeof kept);
    CHECK_ERR(ERR_DECODE, shared_decode(value, sizeof kept + 1, &back));
}

static enum err with(size_t at, uint8_t byte)
{
    memcpy(value, kept, sizeof kept);
    value[at] = byte;
    return shared_decode(value, sizeof kept, &back);
}

TEST(what_cannot_be_is_refused)
{
    enum { CREATED = 8, MAPS = 16, NAME = 24, IQN_AT = 27, SECRET = 41, MAP = 53 };
    CHECK_OK(with(NAME, 'H'));
    CHECK_ERR(ERR_DECODE, with(0, 0));
    CHECK_ERR(ERR_NEW_FORMAT, with(0, 2));
    CHECK_ERR(ERR_DECODE, with(1, 0));
    CHECK_ERR(ERR_DECODE, with(1, NAME_SIZE));
    CHECK_ERR(ERR_DECODE, with(2, HOST_INITIATORS_MAX + 1));
    CHECK_ERR(ERR_DECODE, with(3, 1));
    CHECK_ERR(ERR_DECODE, with(4, CHAP_USER_SIZE));
    CHECK_ERR(ERR_DECODE, with(5, CHAP_SECRET_MIN - 1)); /* and the rest is no map */
    CHECK_ERR(ERR_DECODE, with(CREATED + 7, 0x80));
    CHECK_ERR(ERR_DECODE, with(MAPS, 1));
    CHECK_ERR(ERR_DECODE, with(MAPS + 1, 2));
    CHECK_ERR(ERR_DECODE, with(MAPS + 7, 1));
    CHECK_ERR(ERR_DECODE, with(NAME, '-'));
    CHECK_ERR(ERR_DECODE, with(IQN_AT, 'I')); /* not folded */
    CHECK_ERR(ERR_DECODE, with(IQN_AT, 'x'));
    CHECK_ERR(ERR_DECODE, with(SECRET, 0));
    CHECK_ERR(ERR_DECODE, with(SECRET, '\n'));
    CHECK_ERR(ERR_DECODE, with(SECRET, 0xff)); /* no text */
    CHECK_ERR(ERR_DECODE, with(MAP, 0));       /* of nothing */
    CHECK_ERR(ERR_DECODE, with(MAP + 4, 1));   /* of a volume and a node */
    CHECK_ERR(ERR_DECODE, with(MAP + 9, 1));   /* LUN 259 */
    CHECK_ERR(ERR_DECODE, with(MAP + 8, 255)); /* twice */
    CHECK_OK(shared_decode(kept, sizeof kept, &host));
    host.maps[1] = (struct shared_map){.volume = 7, .lun = 4};
    CHECK_ERR(ERR_DECODE, shared_decode(value, shared_encode(&host, value), &back)); /* a volume twice */
    host.is.initiator_count = 2;
    memcpy(host.is.initiators[1], host.is.initiators[0], IQN_SIZE);
    host.map_count = 0;
    CHECK_ERR(ERR_DECODE, shared_decode(value, shared_encode(&host, value), &back)); /* an initiator, too */
}

TEST(the_longest_host_fits)
{
    memset(&host, 0, sizeof host);
    host.is.initiator_count = HOST_INITIATORS_MAX;
    memset(host.is.name, 'n', NAME_SIZE - 1);
    memset(host.is.chap.user, 'u', CHAP_USER_SIZE - 1);
    memset(host.is.chap.secret, 's', CHAP_SECRET_SIZE - 1);
    memset(host.is.mutual.user, 'u', CHAP_USER_SIZE - 1);
    memset(host.is.mutual.secret, 't', CHAP_SECRET_SIZE - 1);
    for (uint32_t i = 0; i < HOST_INITIATORS_MAX; i++) {
        memset(host.is.initiators[i], 'a' + (int)i, IQN_SIZE - 1);
        memcpy(host.is.initiators[i], IQN, sizeof IQN - 1);
    }
    for (uint32_t i = 0; i < SHARED_MAPS_MAX; i++) host.maps[host.map_count++] = (struct shared_map){i + 1, 0, i};
    uint32_t bytes = shared_encode(&host, value);
    CHECK(bytes <= ROSTER_HOST_MAX);
    CHECK_OK(shared_decode(value, bytes, &back));
    CHECK(shared_is_same(&host.is, &back.is) && back.map_count == SHARED_MAPS_MAX);
}

/* ---- the roster ---- */

/* What an edit put is its own until the next one. */
static void keep(void)
{
    static uint8_t bytes[2][1 << 20];
    static int turn;
    size_t size;
    turn = !turn;
    if (roster_encode(&roster, bytes[turn], sizeof bytes[turn], &size) != OK) abort();
    if (roster_decode(bytes[turn], size, &roster) != OK) abort();
}

static enum err edited(enum err (*change)(struct roster *, struct shared_edit *, struct problem *))
{
    struct problem p = {.err = OK};
    enum err err = change(&roster, &edit, &p);
    snprintf(told, sizeof told, "%s", err != OK ? p.detail : "");
    if (err == OK) keep();
    return err;
}

static struct catalog_host named(const char *name, const char *initiator)
{
    struct catalog_host h = {.created = 5, .initiator_count = initiator != NULL};
    snprintf(h.name, sizeof h.name, "%s", name);
    if (initiator != NULL) snprintf(h.initiators[0], sizeof h.initiators[0], IQN "%s", initiator);
    return h;
}

static enum err add(const char *name, const char *initiator)
{
    edit.after = named(name, initiator);
    return edited(shared_add);
}

static enum err change(uint32_t number, const struct catalog_host *from, const struct catalog_host *to)
{
    edit.number = number;
    edit.before = *from;
    edit.after = *to;
    return edited(shared_change);
}

static enum err map(uint32_t number, uint32_t volume, uint32_t node, uint32_t lun)
{
    edit.number = number;
    edit.map = (struct shared_map){volume, node, lun};
    return edited(shared_add_map);
}

static enum err unmap(uint32_t number, uint32_t volume, uint32_t node, uint32_t lun)
{
    edit.number = number;
    edit.map = (struct shared_map){volume, node, lun};
    return edited(shared_remove_map);
}

static void begin(void)
{
    roster = (struct roster){.cluster.b = {0xab}, .name = "c", .next = 3, .next_volume = FAR + 1, .next_host = 1};
    for (uint32_t n = SELF; n <= OTHER; n++) {
        struct roster_node node = {.number = n, .stage = ROSTER_LIVE, .role = ROSTER_DATA, .acceptor = n};
        node.name[0] = (char)('a' + n - SELF);
        roster_put(&roster, &node);
    }
    for (uint32_t v = KEPT; v <= FAR; v++) roster_volume_put(&roster, &(struct roster_record){v, 1, "v"});
    keep();
}

TEST(names_and_initiators_belong_to_one)
{
    begin();
    CHECK_OK(add("h1", "a"));
    CHECK_EQ(edit.number, 1);
    CHECK_ERR(ERR_NAME_EXISTS, add("h1", "b"));
    CHECK_ERR(ERR_NAME_EXISTS, add("h2", "a"));
    CHECK_STR(told, "initiator " IQN "a belongs to host h1");
    CHECK_OK(add("h2", "b"));
    struct catalog_host one = named("h1", "a"), two = named("h1", "b"), three = named("h1", "c");
    CHECK_ERR(ERR_NAME_EXISTS, change(1, &one, &two));
    CHECK_OK(change(1, &one, &three));
    CHECK_ERR(ERR_CONFLICT, change(1, &one, &one)); /* it is `three` now */
    snprintf(three.chap.user, sizeof three.chap.user, "u");
    snprintf(three.chap.secret, sizeof three.chap.secret, "secretsecret");
    struct catalog_host plain = named("h1", "c");
    CHECK_OK(change(1, &plain, &three));
    CHECK(shared_named(&roster, "h1", &host) && shared_is_same(&host.is, &three));
    CHECK_ERR(ERR_CONFLICT, change(1, &plain, &plain));
    edit.number = 1;
    CHECK_OK(edited(shared_remove));
    CHECK_ERR(ERR_NO_NAME, edited(shared_remove));
    CHECK_ERR(ERR_NO_NAME, change(1, &plain, &three));
    CHECK(!shared_named(&roster, "h1", &host) && shared_named(&roster, "h2", &host) && host.number == 2);
    CHECK_OK(add("h1", "a"));
    CHECK_EQ(edit.number, 3); /* not 1 again */
}

TEST(a_lun_is_one_volume_on_all_nodes)
{
    begin();
    CHECK_OK(add("h1", "a"));
    CHECK_OK(map(1, KEPT, 0, LUN_ANY));
    CHECK_EQ(edit.map.lun, 0);
    CHECK_OK(map(1, 0, SELF, LUN_ANY));
    CHECK_EQ(edit.map.lun, 1);
    CHECK_ERR(ERR_NAME_EXISTS, map(1, 0, OTHER, 1));
    CHECK_ERR(ERR_NAME_EXISTS, map(1, FAR, 0, 0));
    CHECK_ERR(ERR_NAME_EXISTS, map(1, KEPT, 0, 9));
    CHECK_STR(told, "the host sees that volume already, as LUN 0");
    CHECK_OK(map(1, 0, OTHER, 9));
    CHECK_OK(map(1, FAR, 0, LUN_ANY));
    CHECK_EQ(edit.map.lun, 2);
    CHECK_ERR(ERR_NO_NAME, unmap(1, 0, SELF, 9));
    CHECK_OK(unmap(1, 0, SELF, 1));
    CHECK_OK(unmap(1, KEPT, 0, LUN_ANY));
    CHECK_ERR(ERR_NO_NAME, unmap(1, KEPT, 0, LUN_ANY));
    CHECK(shared_find(&roster, 1, &host) && host.map_count == 2);
    /* What is gone holds no LUN. */
    roster_volume_drop(&roster, FAR);
    roster_drop(&roster, OTHER);
    CHECK_OK(map(1, KEPT, 0, 9));
    CHECK(shared_find(&roster, 1, &host) && host.map_count == 1);
    for (uint32_t lun = 0; lun <= LUN_MAX; lun++)
        if (lun != 9) CHECK_OK(map(1, 0, SELF, LUN_ANY));
    CHECK_ERR(ERR_LIMIT, map(1, 0, SELF, LUN_ANY));
    CHECK_ERR(ERR_LIMIT, map(1, 0, SELF, LUN_MAX + 2));
    CHECK_ERR(ERR_NO_NAME, map(2, 0, SELF, 0));
}

TEST(too_many_hosts_are_refused)
{
    char name[20];
    begin();
    for (uint32_t i = 0; i < ROSTER_HOSTS_MAX; i++) {
        snprintf(name, sizeof name, "h%u", i);
        CHECK_OK(add(name, name));
    }
    CHECK_ERR(ERR_LIMIT, add("h", "h"));
    CHECK_EQ(roster.next_host, ROSTER_HOSTS_MAX + 1);
}

/* ---- catalogs ---- */

static bool keeps(void *arg, const struct catalog_volume *v)
{
    (void)arg;
    return v->state == VOLUME_LIVE;
}

static void tell(void *arg, const char *text)
{
    (void)arg;
    snprintf(told, sizeof told, "%s", text);
}

static const struct shared_view here_view = {SELF, keeps, tell, NULL}, there_view = {OTHER, keeps, tell, NULL};

static void put_volume(struct catalog *c, uint32_t id, uint32_t number, const char *name)
{
    struct problem p = {.err = OK};
    struct catalog_volume v = {.id = id, .number = number, .block_size = 512, .state = VOLUME_LIVE};
    snprintf(v.name, sizeof v.name, "%s", name);
    if (catalog_add_volume(c, &v, &p) != OK) abort();
}

static uint32_t put_own(struct catalog *c, const char *name, const char *initiator)
{
    struct problem p = {.err = OK};
    struct catalog_host h = named(name, initiator);
    h.id = c->next_host++;
    if (catalog_add_host(c, &h, &p) != OK) abort();
    return h.id;
}

static void put_map(struct catalog *c, uint32_t volume, uint32_t id, uint32_t lun)
{
    struct problem p = {.err = OK};
    if (catalog_add_map(c, volume, id, lun, &p) != OK) abort();
}

/* Both keep one volume with replicas under other numbers of their own, and have one for themselves. */
static void begin_catalogs(void)
{
    begin();
    catalog_init(&here);
    catalog_init(&there);
    put_volume(&here, 1, 0, "own-a");
    put_volume(&here, 2, KEPT, "kept");
    put_volume(&there, 1, KEPT, "kept");
    put_volume(&there, 2, 0, "own-b");
}

/* Takes into the roster what the node has, as it would. */
static uint32_t claim_all(struct catalog *c, const struct shared_view *view)
{
    uint32_t count = 0;
    for (; count < 100; count++) {
        shared_mirror(&roster, view, c);
        switch (shared_next_claim(&roster, view, c, &edit)) {
        case CLAIM_NOTHING: return count;
        case CLAIM_HOST:
            if (edited(shared_add) != OK) return 100;
            break;
        case CLAIM_MAP:
            if (edited(shared_add_map) != OK) return 100;
            break;
        case CLAIM_UNMAP:
            if (edited(shared_remove_map) != OK) return 100;
            break;
        }
    }
    return count;
}

static uint32_t lun_of(struct catalog *c, const char *volume, const char *name)
{
    const struct catalog_volume *v = catalog_volume(c, volume);
    const struct catalog_host *h = catalog_host(c, name);
    const struct catalog_map *m = v != NULL && h != NULL ? catalog_map(c, v->id, h->id) : NULL;
    return m != NULL ? m->lun : LUN_ANY;
}

static bool can_be_read_again(const struct catalog *c)
{
    static char json[CATALOG_BYTES_MAX];
    static struct catalog again;
    struct problem p = {.err = OK};
    size_t bytes;
    return catalog_encode(c, json, sizeof json, &bytes) == OK && catalog_decode(json, bytes, &again, &p) == OK &&
           again.host_count == c->host_count && again.map_count == c->map_count && strcmp(again.cluster, c->cluster) == 0 &&
           (c->host_count == 0 || again.hosts[0].number == c->hosts[0].number);
}

TEST(a_node_brings_its_hosts_along)
{
    begin_catalogs();
    uint32_t id = put_own(&here, "h1", "a");
    put_map(&here, 1, id, 4);
    put_own(&here, "h2", "b");
    CHECK_EQ(claim_all(&here, &here_view), 3);
    CHECK(shared_named(&roster, "h1", &host) && host.map_count == 1 && host.maps[0].node == SELF && host.maps[0].lun == 4);
    CHECK(catalog_host(&here, "h1")->id == id && catalog_host(&here, "h1")->number == 1 && lun_of(&here, "own-a", "h1") == 4);
    CHECK_EQ(strlen(here.cluster), 32);
    CHECK(can_be_read_again(&here));
    /* The other one sees hosts, and no map of a volume that it does not have. */
    CHECK_EQ(claim_all(&there, &there_view), 0);
    CHECK(there.host_count == 2 && there.map_count == 0 && catalog_host(&there, "h2")->number == 2);
    before = there;
    shared_mirror(&roster, &there_view, &there);
    CHECK(memcmp(&before, &there, sizeof there) == 0); /* it stays */
}

TEST(a_map_holds_on_all_nodes)
{
    begin_catalogs();
    CHECK_OK(add("h1", "a"));
    CHECK_OK(map(1, KEPT, 0, 3));
    CHECK_OK(map(1, FAR, 0, 5)); /* which nobody here keeps */
    shared_mirror(&roster, &here_view, &here);
    shared_mirror(&roster, &there_view, &there);
    CHECK(lun_of(&here, "kept", "h1") == 3 && lun_of(&there, "kept", "h1") == 3 && here.map_count == 1);
    CHECK_OK(unmap(1, KEPT, 0, 0));
    shared_mirror(&roster, &here_view, &here);
    CHECK(here.map_count == 0);
    uint64_t digest = shared_digest(&roster);
    CHECK_OK(map(1, KEPT, 0, 0)); /* another LUN, as seen from there */
    CHECK(shared_digest(&roster) != digest);
    shared_mirror(&roster, &there_view, &there);
    CHECK(lun_of(&there, "kept", "h1") == 0 && there.map_count == 1);
    there.volumes[0].state = VOLUME_DELETING; /* is not to be seen */
    catalog_remove_map(&there, 1, catalog_host(&there, "h1")->id);
    shared_mirror(&roster, &there_view, &there);
    CHECK(there.map_count == 0);
    CHECK(can_be_read_again(&there));
}

TEST(a_change_holds_on_all_nodes)
{
    begin_catalogs();
    CHECK_OK(add("h1", "a"));
    CHECK_OK(add("h2", "b"));
    CHECK_OK(map(1, KEPT, 0, 3));
    shared_mirror(&roster, &there_view, &there);
    uint32_t id = catalog_host(&there, "h1")->id;
    struct catalog_host one = named("h1", "a"), none = named("h1", NULL), two = named("h2", "b"), both = two;
    both.initiator_count = 2;
    memcpy(both.initiators[1], one.initiators[0], IQN_SIZE);
    CHECK_OK(change(1, &one, &none)); /* an initiator goes from one host to another between two looks */
    CHECK_OK(change(2, &two, &both));
    shared_mirror(&roster, &there_view, &there);
    CHECK(catalog_host_of_iqn(&there, IQN "a") == catalog_host(&there, "h2") && catalog_host(&there, "h1")->id == id);
    edit.number = 1;
    CHECK_OK(edited(shared_remove));
    CHECK_OK(add("h1", "c")); /* another one of that name */
    shared_mirror(&roster, &there_view, &there);
    CHECK(catalog_host(&there, "h1")->id != id && there.map_count == 0 && there.host_count == 2);
    CHECK(can_be_read_again(&there));
}

TEST(what_contradicts_the_cluster_gives_way)
{
    begin_catalogs();
    CHECK_OK(add("h1", "a"));
    put_map(&there, 2, put_own(&there, "h1", "z"), 1); /* another host of that name */
    put_map(&there, 2, put_own(&there, "h2", "a"), 1); /* another host with that initiator */
    put_map(&there, 2, put_own(&there, "h3", "c"), 6); /* is free */
    CHECK_EQ(claim_all(&there, &there_view), 2);
    CHECK(there.host_count == 2 && catalog_host(&there, "h1")->number == 1 && catalog_host(&there, "h2") == NULL);
    CHECK(there.map_count == 1 && lun_of(&there, "own-b", "h3") == 6 && catalog_host_of_iqn(&there, IQN "z") == NULL);
    /* The same host stays what it was. */
    put_map(&here, 1, put_own(&here, "h1", "a"), 2);
    CHECK_EQ(claim_all(&here, &here_view), 1);
    CHECK(lun_of(&here, "own-a", "h1") == 2 && shared_named(&roster, "h1", &host) && host.map_count == 1);
    /* A LUN that others have got. */
    CHECK_OK(add("h4", "d"));
    put_map(&here, 1, put_own(&here, "h4", "d"), 0);
    CHECK_OK(map(edit.number, KEPT, 0, 0));
    CHECK_EQ(claim_all(&here, &here_view), 0);
    CHECK(lun_of(&here, "kept", "h4") == 0 && lun_of(&here, "own-a", "h4") == LUN_ANY);
    CHECK(strstr(told, "LUN 0 is another volume's") != NULL);
    CHECK(can_be_read_again(&here) && can_be_read_again(&there));
}

TEST(a_lun_that_a_node_does_not_use_is_free_again)
{
    begin_catalogs();
    CHECK_OK(add("h1", "a"));
    CHECK_OK(map(1, 0, SELF, 0));
    CHECK_OK(map(1, 0, OTHER, 1));
    CHECK_EQ(claim_all(&here, &here_view), 1);
    CHECK(shared_find(&roster, 1, &host) && host.map_count == 1 && host.maps[0].node == OTHER);
}

/* Its numbers are of no use in another cluster, and those of that one are not its own. */
TEST(who_comes_from_another_cluster_begins_anew)
{
    begin_catalogs();
    put_own(&here, "h1", "a");
    CHECK_EQ(claim_all(&here, &here_view), 1);
    begin();
    roster.cluster.b[0]++;
    CHECK_OK(add("h9", "z"));
    CHECK_EQ(claim_all(&here, &here_view), 1);
    CHECK(here.host_count == 2 && catalog_host(&here, "h1")->number == 2 && catalog_host(&here, "h9")->number == 1);
    CHECK(can_be_read_again(&here));
}

/* Numbers of a cluster that was left make nobody known where the node goes. */
TEST(hosts_with_maps_stay_out_of_another_cluster)
{
    struct cluster_id another = {.b = {0xac}};
    begin_catalogs();
    put_own(&here, "h1", "a");
    CHECK(shared_stranger(&here, &roster.cluster) == NULL);
    CHECK_EQ(claim_all(&here, &here_view), 1);
    CHECK(shared_stranger(&here, &another) == NULL);
    put_map(&here, 1, catalog_host(&here, "h1")->id, 5);
    CHECK(shared_stranger(&here, &roster.cluster) == NULL);
    CHECK(shared_stranger(&here, &another) == catalog_host(&here, "h1"));
    put_map(&here, 1, put_own(&here, "h2", "b"), 5);
    CHECK(shared_stranger(&here, &roster.cluster) == catalog_host(&here, "h2"));
}

TESTS(hosts_with_maps_stay_out_of_another_cluster, bytes_lie_as_written, what_cannot_be_is_refused, the_longest_host_fits,
      names_and_initiators_belong_to_one, a_lun_is_one_volume_on_all_nodes, too_many_hosts_are_refused,
      a_node_brings_its_hosts_along, a_map_holds_on_all_nodes, a_change_holds_on_all_nodes,
      what_contradicts_the_cluster_gives_way, a_lun_that_a_node_does_not_use_is_free_again,
      who_comes_from_another_cluster_begins_anew)
