/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The roster: its bytes, and who should hold the register.
 *
 * Goal: every field lies where roster.h has it; what this version does not know is kept, so that an older node takes nothing
 * away from what a newer one wrote, and a roster without volumes is the same bytes as before there were any; what cannot be is
 * refused; the register is never on a set in which two halves could both go on. Method: bytes written out by hand, both ways,
 * then each limit and each contradiction; rosters of all sizes for the rule.
 */
#include <stdio.h>

#include "cluster/roster.h"
#include "tests/check.h"

enum { ROOM = 16 << 10 };

/* ---- bytes ---- */

static const uint8_t kept[] = {
    'I',  'Z',  'A', 'R', 'R', 'O', 'S', 'T',  1,   0,   0,   0,   3,   0,   0,   0,  /* header: three items */
    1,    0,    0,   0,   28,  0,   0,   0,                                           /* CLUSTER */
    0xc0, 0xc1, 2,   3,   4,   5,   6,   7,    8,   9,   10,  11,  12,  13,  14,  15, /* its id */
    3,    0,    0,   0,   4,   0,   0,   0,    'p', 'r', 'o', 'd',                    /* next 3 */
    2,    0,    0,   0,   63,  0,   0,   0,                                           /* NODE */
    2,    0,    0,   0,   1,   2,   1,   2,    /* number 2, JOINING, a witness, name of 1, 2 addresses */
    0x11, 0x22, 0,   0,   0,   0,   0,   0x80, /* acceptor */
    9,    8,    7,   6,   0,   0,   0,   0,    /* until */
    0xa0, 0xa1, 2,   3,   4,   5,   6,   7,    8,   9,   10,  11,  12,  13,  14,  15,            /* store */
    'w',  7,    '1', ':', '7', '4', '5', '1',  '!', 8,   '[', ':', ':', '1', ']', ':', '2', '2', /* name, addresses */
    'n',  'e',  'w', '!', '!',                                                                   /* of a newer version */
    9,    0,    0,   0,   3,   0,   0,   0,    'v', 'o', 'l', /* an item that it does not know */
};

TEST(bytes_lie_as_written)
{
    static struct roster r;
    uint8_t again[ROOM];
    size_t size;
    CHECK_OK(roster_decode(kept, sizeof kept, &r));
    CHECK(r.cluster.b[0] == 0xc0 && r.cluster.b[15] == 15 && r.next == 3 && r.node_count == 1);
    CHECK_STR(r.name, "prod");
    const struct roster_node *n = &r.nodes[0];
    CHECK(n->number == 2 && n->stage == ROSTER_JOINING && n->role == ROSTER_WITNESS && n->address_count == 2);
    CHECK(n->acceptor == 0x8000000000002211u && n->until_s == 0x06070809 && n->store[0] == 0xa0 && n->store[15] == 15);
    CHECK_STR(n->name, "w");
    CHECK_STR(n->addresses[0], "1:7451!");
    CHECK_STR(n->addresses[1], "[::1]:22");
    CHECK(n->extra.bytes == 5 && r.others.bytes == 11 && r.extra.bytes == 0);
    CHECK_OK(roster_encode(&r, again, sizeof again, &size));
    CHECK_EQ(size, sizeof kept);
    CHECK_BYTES(again, kept, sizeof kept);
    CHECK_ERR(ERR_LIMIT, roster_encode(&r, again, sizeof kept - 1, &size));
}

/* What an older node changes does not touch what it does not know. */
TEST(changes_keep_what_is_unknown)
{
    static struct roster r, back;
    uint8_t at[ROOM];
    size_t size;
    CHECK_OK(roster_decode(kept, sizeof kept, &r));
    struct roster_node one = {.number = 1, .stage = ROSTER_LIVE, .role = ROSTER_DATA, .name = "a", .acceptor = 5};
    CHECK_OK(roster_put(&r, &one));
    r.nodes[1].stage = ROSTER_LIVE;
    r.nodes[1].until_s = 0;
    CHECK_OK(roster_encode(&r, at, sizeof at, &size));
    CHECK_OK(roster_decode(at, size, &back));
    CHECK(back.node_count == 2 && back.nodes[0].number == 1 && back.nodes[1].stage == ROSTER_LIVE);
    CHECK_BYTES(back.nodes[1].extra.at, "new!!", 5);
    CHECK_BYTES((const uint8_t *)back.others.at + 8, "vol", 3);
    roster_drop(&back, 2);
    roster_drop(&back, 7);
    CHECK(back.node_count == 1 && roster_find(&back, 2) == NULL && roster_named(&back, "a")->number == 1);
    CHECK(roster_of_acceptor(&back, 5)->number == 1 && back.others.bytes == 11);
}

static enum err with(size_t at, uint8_t byte)
{
    static struct roster r;
    uint8_t bytes[sizeof kept];
    memcpy(bytes, kept, sizeof kept);
    bytes[at] = byte;
    return roster_decode(bytes, sizeof bytes, &r);
}

TEST(what_cannot_be_is_refused)
{
    static struct roster r;
    for (size_t size = 0; size < sizeof kept; size++) CHECK(roster_decode(kept, size, &r) != OK);
    CHECK_ERR(ERR_NOT_OURS, with(0, 'J'));
    CHECK_ERR(ERR_NEW_FORMAT, with(8, 2));
    CHECK_ERR(ERR_DECODE, with(8, 0));
    CHECK_ERR(ERR_TRUNCATED, with(12, 4));
    CHECK_ERR(ERR_DECODE, with(12, 2));
    CHECK_ERR(ERR_DECODE, with(16, 2));               /* no CLUSTER first */
    CHECK_ERR(ERR_DECODE, with(40, 2));               /* next: its own number */
    CHECK_ERR(ERR_DECODE, with(48, ' '));             /* a name */
    CHECK_ERR(ERR_DECODE, with(60, 0));               /* number 0 */
    CHECK_ERR(ERR_DECODE, with(64, 0));               /* stages */
    CHECK_ERR(ERR_DECODE, with(64, ROSTER_LIVE));     /* LIVE has no end */
    CHECK_ERR(ERR_DECODE, with(64, 4));               /* */
    CHECK_ERR(ERR_DECODE, with(65, 3));               /* roles */
    CHECK_ERR(ERR_DECODE, with(66, 0));               /* a name of none */
    CHECK_ERR(ERR_DECODE, with(67, 9));               /* addresses */
    CHECK_ERR(ERR_DECODE, with(101, 0));              /* one of none */
    CHECK_ERR(ERR_DECODE, with(105, ' '));            /* one with a blank */
    CHECK_ERR(ERR_DECODE, with(sizeof kept - 11, 1)); /* a second CLUSTER */
    CHECK_OK(with(sizeof kept - 1, 'L'));
}

TEST(a_number_a_name_and_an_acceptor_belong_to_one)
{
    static struct roster r, back;
    uint8_t at[ROOM];
    size_t size;
    static const struct roster_node one = {.number = 1, .stage = ROSTER_LIVE, .role = ROSTER_DATA, .name = "a", .acceptor = 5};
    for (int wrong = 0; wrong < 4; wrong++) {
        r = (struct roster){.name = "x", .next = 9, .node_count = 2, .nodes = {one, one}};
        r.nodes[1] = (struct roster_node){.number = wrong == 1 ? 1 : 2,
                                          .stage = ROSTER_LIVE,
                                          .role = ROSTER_DATA,
                                          .name = {wrong == 2 ? 'a' : 'b'},
                                          .acceptor = wrong == 3 ? 5 : 6};
        CHECK_OK(roster_encode(&r, at, sizeof at, &size));
        CHECK_ERR(wrong == 0 ? OK : ERR_DECODE, roster_decode(at, size, &back));
    }
    CHECK(roster_name_is_good("a-B_1.x") && !roster_name_is_good("") && !roster_name_is_good("a b"));
    char name[ROSTER_NAME_SIZE + 1];
    memset(name, 'a', sizeof name);
    name[ROSTER_NAME_SIZE] = '\0';
    CHECK(!roster_name_is_good(name) && roster_name_is_good(name + 1));
    for (uint32_t i = 3; i <= ROSTER_NODES_MAX; i++) {
        struct roster_node node = one;
        node.number = i;
        CHECK_OK(roster_put(&r, &node));
    }
    struct roster_node more = one;
    more.number = 99;
    CHECK_ERR(ERR_LIMIT, roster_put(&r, &more));
    more.number = 7;
    CHECK_OK(roster_put(&r, &more));
}

/* ---- volumes ---- */

static const uint8_t volumes[] = {
    'I', 'Z', 'A', 'R', 'R', 'O', 'S', 'T', 1,   0,   0,   0,  5,  0,  0,  0,  /* header: five items */
    1,   0,   0,   0,   25,  0,   0,   0,                                      /* CLUSTER */
    1,   2,   3,   4,   5,   6,   7,   8,   9,   10,  11,  12, 13, 14, 15, 16, /* its id */
    3,   0,   0,   0,   1,   0,   0,   0,   'c',                               /* next 3 */
    3,   0,   0,   0,   6,   0,   0,   0,                                      /* VOLUMES */
    8,   1,   0,   0,   'x', 'y',                                              /* next 264, and of a newer version */
    4,   0,   0,   0,   7,   0,   0,   0,                                      /* VOLUME */
    2,   0,   0,   0,   'o', 'n', 'e',                                         /* number 2, value */
    4,   0,   0,   0,   4,   0,   0,   0,                                      /* VOLUME */
    7,   1,   0,   0,                                                          /* number 263, with an empty value */
    9,   0,   0,   0,   3,   0,   0,   0,   'n', 'e', 'w',                     /* an item that it does not know */
};

TEST(volumes_lie_as_written)
{
    static struct roster r;
    uint8_t again[ROOM];
    size_t size;
    CHECK_OK(roster_decode(volumes, sizeof volumes, &r));
    CHECK(r.next_volume == 264 && r.volume_count == 2 && r.volumes_extra.bytes == 2 && r.others.bytes == 11);
    const struct roster_record *one = roster_volume(&r, 2), *empty = roster_volume(&r, 263);
    CHECK(one == &r.volumes[0] && one->bytes == 3 && one->value == volumes + 75);
    CHECK(empty == &r.volumes[1] && empty->bytes == 0);
    CHECK(roster_volume(&r, 0) == NULL && roster_volume(&r, 3) == NULL && roster_volume(&r, 264) == NULL);
    CHECK_OK(roster_encode(&r, again, sizeof again, &size));
    CHECK_EQ(size, sizeof volumes);
    CHECK_BYTES(again, volumes, sizeof volumes);
    CHECK_ERR(ERR_LIMIT, roster_encode(&r, again, sizeof volumes - 1, &size));
    CHECK_OK(roster_decode(kept, sizeof kept, &r));
    CHECK(r.next_volume == 1 && r.volume_count == 0);
}

static enum err with_volumes(size_t at, uint8_t byte)
{
    static struct roster r;
    uint8_t bytes[sizeof volumes];
    memcpy(bytes, volumes, sizeof volumes);
    bytes[at] = byte;
    return roster_decode(bytes, sizeof bytes, &r);
}

TEST(volumes_that_cannot_be_are_refused)
{
    static struct roster r;
    enum { VOLUMES_AT = 49, NEXT_AT = 57, ONE_AT = 63, OTHERS_AT = 90 };
    for (size_t size = 0; size < sizeof volumes; size++) CHECK(roster_decode(volumes, size, &r) != OK);
    CHECK_OK(with_volumes(ONE_AT + 8, 3));
    CHECK_OK(with_volumes(sizeof volumes - 1, 'W'));
    CHECK_ERR(ERR_DECODE, with_volumes(VOLUMES_AT, 4));     /* a volume without VOLUMES */
    CHECK_ERR(ERR_DECODE, with_volumes(VOLUMES_AT, 10));    /* known items behind unknown ones */
    CHECK_ERR(ERR_DECODE, with_volumes(VOLUMES_AT + 2, 1)); /* zero */
    CHECK_ERR(ERR_DECODE, with_volumes(NEXT_AT, 7));        /* a number that was not given out: 263 */
    CHECK_ERR(ERR_DECODE, with_volumes(NEXT_AT + 1, 0));    /* likewise */
    CHECK_ERR(ERR_DECODE, with_volumes(ONE_AT, 3));         /* VOLUMES twice */
    CHECK_ERR(ERR_DECODE, with_volumes(ONE_AT, 2));         /* a node behind VOLUMES */
    CHECK_ERR(ERR_DECODE, with_volumes(ONE_AT + 2, 1));     /* zero */
    CHECK_ERR(ERR_DECODE, with_volumes(ONE_AT + 8, 0));     /* number 0 */
    CHECK_ERR(ERR_DECODE, with_volumes(OTHERS_AT, 1));      /* a second CLUSTER */
    for (uint32_t number = 1; number < 5; number++) {
        uint8_t at[ROOM];
        size_t size;
        CHECK_OK(roster_decode(volumes, sizeof volumes, &r));
        r.volumes[1].number = number;
        CHECK_OK(roster_encode(&r, at, sizeof at, &size));
        CHECK_ERR(number > 2 ? OK : ERR_DECODE, roster_decode(at, size, &r)); /* out of order, and twice */
    }
}

TEST(volumes_are_put_and_dropped)
{
    static struct roster r, back;
    static uint8_t at[ROSTER_VOLUMES_MAX * 600], value[ROSTER_VALUE_MAX + 1];
    size_t size;
    r = (struct roster){.name = "x", .next = 2, .next_volume = ROSTER_VOLUMES_MAX + 2};
    struct roster_record v = {.number = 0, .bytes = ROSTER_VALUE_MAX, .value = value};
    for (size_t i = 0; i < sizeof value; i++) value[i] = (uint8_t)(i + 1);
    /* Every other one upwards, the rest downwards: each finds its place. */
    for (v.number = 2; v.number <= ROSTER_VOLUMES_MAX; v.number += 2) CHECK_OK(roster_volume_put(&r, &v));
    for (v.number = ROSTER_VOLUMES_MAX - 1; v.number < ROSTER_VOLUMES_MAX; v.number -= 2) CHECK_OK(roster_volume_put(&r, &v));
    CHECK_EQ(r.volume_count, ROSTER_VOLUMES_MAX);
    CHECK_OK(roster_encode(&r, at, sizeof at, &size));
    CHECK_OK(roster_decode(at, size, &back));
    CHECK_EQ(back.volume_count, ROSTER_VOLUMES_MAX);
    for (uint32_t i = 0; i < ROSTER_VOLUMES_MAX; i++) {
        CHECK_EQ(back.volumes[i].number, i + 1);
        CHECK_EQ(back.volumes[i].bytes, ROSTER_VALUE_MAX);
        CHECK_BYTES(back.volumes[i].value, value, ROSTER_VALUE_MAX);
    }
    v.number = ROSTER_VOLUMES_MAX + 1;
    CHECK_ERR(ERR_LIMIT, roster_volume_put(&back, &v));
    v = (struct roster_record){.number = 7, .bytes = 2, .value = "ab"};
    CHECK_OK(roster_volume_put(&back, &v));
    CHECK(back.volume_count == ROSTER_VOLUMES_MAX && roster_volume(&back, 7)->bytes == 2);
    v = (struct roster_record){.number = 8, .bytes = ROSTER_VALUE_MAX + 1, .value = value};
    CHECK_ERR(ERR_LIMIT, roster_volume_put(&back, &v));
    roster_volume_drop(&back, 1);
    roster_volume_drop(&back, ROSTER_VOLUMES_MAX);
    roster_volume_drop(&back, ROSTER_VOLUMES_MAX);
    CHECK(back.volume_count == ROSTER_VOLUMES_MAX - 2 && back.volumes[0].number == 2 && roster_volume(&back, 1) == NULL);
    /* Numbers are not forgotten with the last volume. */
    for (uint32_t i = 2; i < ROSTER_VOLUMES_MAX; i++) roster_volume_drop(&back, i);
    CHECK_OK(roster_encode(&back, at, sizeof at, &size));
    CHECK_OK(roster_decode(at, size, &r));
    CHECK(r.volume_count == 0 && r.next_volume == ROSTER_VOLUMES_MAX + 2);
}

/* One value more, one byte more, than there is room for. */
TEST(too_many_volumes_are_refused)
{
    static struct roster r;
    static uint8_t at[ROSTER_VOLUMES_MAX * 600 + ROSTER_VALUE_MAX], value[ROSTER_VALUE_MAX];
    size_t size;
    r = (struct roster){.name = "x", .next = 2, .next_volume = ROSTER_VOLUMES_MAX + 2};
    struct roster_record v = {.number = 1, .bytes = ROSTER_VALUE_MAX, .value = value};
    for (; v.number <= ROSTER_VOLUMES_MAX; v.number++) CHECK_OK(roster_volume_put(&r, &v));
    CHECK_OK(roster_encode(&r, at, sizeof at - 12, &size));
    static const uint8_t more[12] = {4, 0, 0, 0, 4, 0, 0, 0, 1, 1, 0, 0}; /* VOLUME 257 */
    memcpy(at + size, more, sizeof more);
    at[12]++; /* items: 258 and one more */
    CHECK_ERR(ERR_DECODE, roster_decode(at, size + sizeof more, &r));
    at[12]--;
    CHECK_OK(roster_decode(at, size, &r));
    roster_volume_drop(&r, ROSTER_VOLUMES_MAX);
    CHECK_OK(roster_encode(&r, at, sizeof at, &size));
    size_t last = size - ROSTER_VALUE_MAX - sizeof more;
    at[last + 4]++; /* its length: 4 + 512, and one more */
    CHECK_ERR(ERR_DECODE, roster_decode(at, size + 1, &r));
}

/* ---- hosts ---- */

static const uint8_t hosts[] = {
    'I', 'Z', 'A', 'R', 'R', 'O', 'S', 'T', 1,   0,   0,   0,   7,   0,  0,  0,  /* header: seven items */
    1,   0,   0,   0,   25,  0,   0,   0,                                        /* CLUSTER */
    1,   2,   3,   4,   5,   6,   7,   8,   9,   10,  11,  12,  13,  14, 15, 16, /* its id */
    3,   0,   0,   0,   1,   0,   0,   0,   'c',                                 /* next 3 */
    3,   0,   0,   0,   4,   0,   0,   0,                                        /* VOLUMES */
    8,   1,   0,   0,                                                            /* next 264 */
    4,   0,   0,   0,   4,   0,   0,   0,                                        /* VOLUME */
    7,   1,   0,   0,                                                            /* number 263, with an empty value */
    5,   0,   0,   0,   15,  0,   0,   0,                                        /* HOSTS */
    2,   1,   0,   0,   5,   0,   0,   0,   'i', 'q', 'n', '.', 't',             /* next 258, a target's name */
    'x', 'y',                                                                    /* of a newer version */
    6,   0,   0,   0,   8,   0,   0,   0,                                        /* HOST */
    2,   0,   0,   0,   'o', 'n', 'e', 's',                                      /* number 2, value */
    6,   0,   0,   0,   4,   0,   0,   0,                                        /* HOST */
    1,   1,   0,   0,                                                            /* number 257, with an empty value */
    9,   0,   0,   0,   3,   0,   0,   0,   'n', 'e', 'w',                       /* an item that it does not know */
};

TEST(hosts_lie_as_written)
{
    static struct roster r;
    uint8_t again[ROOM];
    size_t size;
    CHECK_OK(roster_decode(hosts, sizeof hosts, &r));
    CHECK(r.next_host == 258 && r.host_count == 2 && r.hosts_extra.bytes == 2 && r.others.bytes == 11);
    CHECK(r.next_volume == 264 && r.volume_count == 1);
    CHECK_STR(r.target, "iqn.t");
    const struct roster_record *one = roster_host(&r, 2), *empty = roster_host(&r, 257);
    CHECK(one == &r.hosts[0] && one->bytes == 4 && memcmp(one->value, "ones", 4) == 0);
    CHECK(empty == &r.hosts[1] && empty->bytes == 0 && roster_host(&r, 1) == NULL && roster_host(&r, 258) == NULL);
    CHECK_OK(roster_encode(&r, again, sizeof again, &size));
    CHECK_EQ(size, sizeof hosts);
    CHECK_BYTES(again, hosts, sizeof hosts);
    CHECK_ERR(ERR_LIMIT, roster_encode(&r, again, sizeof hosts - 1, &size));
    /* What an older node, to which kinds 5 and 6 are unknown, wrote of volumes lies before them. */
    CHECK_OK(roster_volume_put(&r, &(struct roster_record){.number = 1, .bytes = 1, .value = "v"}));
    CHECK_OK(roster_encode(&r, again, sizeof again, &size));
    CHECK_OK(roster_decode(again, size, &r));
    CHECK(r.volume_count == 2 && r.host_count == 2);
    /* Numbers are not forgotten with the last host; without any, and without a name, there is no trace of hosts. */
    roster_host_drop(&r, 2);
    roster_host_drop(&r, 257);
    roster_host_drop(&r, 257);
    r.target[0] = '\0';
    CHECK_OK(roster_encode(&r, again, sizeof again, &size));
    CHECK_OK(roster_decode(again, size, &r));
    CHECK(r.host_count == 0 && r.next_host == 258 && r.target[0] == '\0');
    CHECK_OK(roster_decode(volumes, sizeof volumes, &r));
    CHECK(r.next_host == 1 && r.host_count == 0 && r.target[0] == '\0');
}

static enum err with_hosts(size_t at, uint8_t byte)
{
    static struct roster r;
    uint8_t bytes[sizeof hosts];
    memcpy(bytes, hosts, sizeof hosts);
    bytes[at] = byte;
    return roster_decode(bytes, sizeof bytes, &r);
}

TEST(hosts_that_cannot_be_are_refused)
{
    static struct roster r;
    enum { VOLUME_AT = 61, HOSTS_AT = 73, NEXT_AT = 81, NAME_AT = 89, ONE_AT = 96, OTHERS_AT = 124 };
    for (size_t size = 0; size < sizeof hosts; size++) CHECK(roster_decode(hosts, size, &r) != OK);
    CHECK_OK(with_hosts(ONE_AT + 8, 3));
    CHECK_OK(with_hosts(NEXT_AT + 4, 4));               /* a shorter name, and more of a newer version */
    CHECK_ERR(ERR_DECODE, with_hosts(VOLUME_AT, 6));    /* a host without HOSTS */
    CHECK_ERR(ERR_DECODE, with_hosts(VOLUME_AT, 10));   /* known items behind unknown ones */
    CHECK_ERR(ERR_DECODE, with_hosts(HOSTS_AT + 2, 1)); /* zero */
    CHECK_ERR(ERR_DECODE, with_hosts(NEXT_AT + 5, 1));  /* likewise */
    CHECK_ERR(ERR_DECODE, with_hosts(NEXT_AT + 1, 0));  /* numbers that were not given out */
    CHECK_ERR(ERR_TRUNCATED, with_hosts(NEXT_AT + 4, 8));
    CHECK_ERR(ERR_DECODE, with_hosts(NEXT_AT + 4, ROSTER_TARGET_SIZE));
    CHECK_ERR(ERR_DECODE, with_hosts(NAME_AT, ' '));
    CHECK_ERR(ERR_DECODE, with_hosts(NAME_AT + 4, 0x7f));
    CHECK_ERR(ERR_DECODE, with_hosts(ONE_AT, 5));     /* HOSTS twice */
    CHECK_ERR(ERR_DECODE, with_hosts(ONE_AT, 4));     /* a volume behind HOSTS */
    CHECK_ERR(ERR_DECODE, with_hosts(ONE_AT, 3));     /* VOLUMES */
    CHECK_ERR(ERR_DECODE, with_hosts(ONE_AT, 2));     /* a node */
    CHECK_ERR(ERR_DECODE, with_hosts(ONE_AT + 8, 0)); /* number 0 */
    CHECK_ERR(ERR_DECODE, with_hosts(OTHERS_AT, 1));  /* a second CLUSTER */
}

/* Items in another order would not be the same bytes again. */
TEST(hosts_come_after_all_else)
{
    static const struct roster_record v = {.number = 1, .bytes = 1, .value = "v"};
    static struct roster r, back;
    for (uint8_t kind = 2; kind <= 4; kind++) {
        uint8_t at[ROOM];
        size_t size, more;
        r = (struct roster){.name = "x", .next = 2, .next_volume = kind == 4 ? 9 : 1, .next_host = 2};
        if (kind == 4) CHECK_OK(roster_volume_put(&r, &v));
        CHECK_OK(roster_encode(&r, at, sizeof at, &size));
        static const struct roster_node node = {
            .number = 1, .stage = ROSTER_LIVE, .role = ROSTER_DATA, .name = "a", .acceptor = 5};
        uint8_t *item = at + size, *body = item + 8;
        memset(item, 0, 12);
        CHECK_OK(roster_node_encode(&node, body, 200, &more));
        if (kind != 2) more = 4;
        if (kind != 2) memcpy(body, "\5\0\0\0", 4); /* the next volume, or the number of one */
        item[0] = kind;
        item[4] = (uint8_t)more;
        CHECK_OK(roster_decode(at, size, &back));
        at[12]++;
        CHECK_ERR(ERR_DECODE, roster_decode(at, size + 8 + more, &back));
    }
}

TEST(too_many_hosts_are_refused)
{
    static struct roster r, back;
    static uint8_t at[ROSTER_HOSTS_MAX * 40 + ROSTER_HOST_MAX], value[ROSTER_HOST_MAX + 1];
    size_t size;
    r = (struct roster){.name = "x", .next = 2, .next_volume = 1, .next_host = ROSTER_HOSTS_MAX + 2};
    struct roster_record h = {.number = 1, .bytes = ROSTER_HOST_MAX, .value = value};
    CHECK_OK(roster_host_put(&r, &h));
    for (h.number = ROSTER_HOSTS_MAX, h.bytes = 20; h.number > 1; h.number--) CHECK_OK(roster_host_put(&r, &h));
    CHECK_OK(roster_encode(&r, at, sizeof at, &size));
    CHECK_OK(roster_decode(at, size, &back));
    CHECK(back.host_count == ROSTER_HOSTS_MAX && back.hosts[0].bytes == ROSTER_HOST_MAX && back.hosts[255].number == 256);
    h.number = ROSTER_HOSTS_MAX + 1;
    CHECK_ERR(ERR_LIMIT, roster_host_put(&r, &h));
    h.number = 1;
    h.bytes = ROSTER_HOST_MAX + 1;
    CHECK_ERR(ERR_LIMIT, roster_host_put(&r, &h));
    static const uint8_t more[12] = {6, 0, 0, 0, 4, 0, 0, 0, 1, 1, 0, 0}; /* HOST 257 */
    memcpy(at + size, more, sizeof more);
    at[12]++; /* items */
    CHECK_ERR(ERR_DECODE, roster_decode(at, size + sizeof more, &back));
}

/* ---- who holds the register ---- */

static struct roster of(const char *roles)
{
    struct roster r = {.name = "x", .next = 99};
    for (uint32_t i = 0; roles[i] != '\0'; i++) {
        struct roster_node n = {.number = i + 1, .stage = ROSTER_LIVE, .role = ROSTER_DATA, .acceptor = 10 + i};
        snprintf(n.name, sizeof n.name, "n%u", i);
        if (roles[i] == 'w' || roles[i] == 'W') n.role = ROSTER_WITNESS;
        if (roles[i] == 'j' || roles[i] == 'l') n.stage = roles[i] == 'j' ? ROSTER_JOINING : ROSTER_LEAVING;
        roster_put(&r, &n);
    }
    return r;
}

/* Acceptors by their node's place in the text. */
static bool holds(const char *roles, const char *now, const char *expected)
{
    struct roster r = of(roles);
    uint64_t ids[ACCEPTORS_MAX], wanted[ACCEPTORS_MAX];
    uint32_t count = 0, want = 0;
    for (; now[count] != '\0'; count++) ids[count] = 10 + (uint64_t)(now[count] - '0');
    for (; expected[want] != '\0'; want++) wanted[want] = 10 + (uint64_t)(expected[want] - '0');
    struct acceptor_set before = acceptor_set_of(ids, count), set = acceptor_set_of(wanted, want);
    struct acceptor_set got = roster_acceptors(&r, &before);
    return acceptor_set_equal(&got, &set);
}

TEST(the_register_is_where_a_half_cannot_go_on)
{
    CHECK(holds("d", "0", "0"));
    CHECK(holds("dd", "0", "0")); /* prefer: the one that has it */
    CHECK(holds("dd", "1", "1"));
    CHECK(holds("dw", "0", "0")); /* two are no better than one */
    CHECK(holds("wd", "0", "1")); /* a witness alone keeps nothing */
    CHECK(holds("dj", "0", "0"));
    CHECK(holds("ddw", "0", "012"));
    CHECK(holds("ddj", "0", "0"));   /* who is joining does not count yet */
    CHECK(holds("ddl", "012", "0")); /* who leaves, not any more */
    CHECK(holds("ldw", "012", "1"));
    CHECK(holds("ddd", "1", "012"));
    CHECK(holds("dddd", "123", "123")); /* those that hold it stay */
    CHECK(holds("dddd", "3", "013"));
    CHECK(holds("ddddd", "123", "01234"));
    CHECK(holds("ddddddd", "456", "01456"));
    CHECK(holds("jw", "0", ""));
}

TESTS(bytes_lie_as_written, changes_keep_what_is_unknown, what_cannot_be_is_refused,
      a_number_a_name_and_an_acceptor_belong_to_one, volumes_lie_as_written, volumes_that_cannot_be_are_refused,
      volumes_are_put_and_dropped, too_many_volumes_are_refused, hosts_lie_as_written, hosts_that_cannot_be_are_refused,
      hosts_come_after_all_else, too_many_hosts_are_refused, the_register_is_where_a_half_cannot_go_on)
