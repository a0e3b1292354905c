/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Members of a cluster: what they agree on, and what they finish after somebody else was interrupted.
 *
 * Goal: changes from all sides at once are each made once; a value as large as it may be travels whole; a lost acceptor is
 * replaced; whoever left a joining or leaving node in the roster and died, the others finish it; without a majority nothing is
 * changed and it is said. Method: the nodes of member_nodes.h; interrupted changes are made by hand, as the roster shows them.
 */
#include "cluster/acceptor_file.h"
#include "tests/unit/member_nodes.h"

enum { ADDS = 12 };

/* ---- changes ---- */

struct adder {
    struct io_task task;
    struct member *member;
    uint32_t made, unknown; /* unknown: said to be, and then it may have been made or not */
    bool over;
    struct member_why why;
};

static void adder_run(void *arg)
{
    struct adder *a = arg;
    while (a->made + a->unknown < ADDS) {
        enum err err = member_change(a->member, add_one, NULL, &a->why);
        if (err != OK && err != ERR_UNDECIDED) break;
        a->made += err == OK;
        a->unknown += err == ERR_UNDECIDED;
    }
    if (a->made + a->unknown < ADDS) why = a->why; /* to be told */
    a->over = true;
}

static void story_of_changes(struct story *story)
{
    static struct adder adders[NODES + 1];
    uint32_t made = 0, unknown = 0;
    EXPECT(make_cluster(story));
    uint32_t before = member_roster(at(1))->next;
    for (uint32_t i = 1; i <= NODES; i++) {
        adders[i] = (struct adder){.member = at(i)};
        EXPECT(io_task_start(story->io, &adders[i].task, adder_run, &adders[i]) == OK);
    }
    SOON(adders[1].over && adders[2].over && adders[3].over);
    for (uint32_t i = 1; i <= NODES; i++) {
        made += adders[i].made;
        unknown += adders[i].unknown;
        io_task_done(&adders[i].task);
    }
    EXPECT(made + unknown == NODES * ADDS && made > unknown);
    for (uint32_t i = 1; i <= NODES; i++) {
        EXPECT(member_read(at(i), &why) == OK);
        uint32_t next = member_roster(at(i))->next;
        EXPECT(next >= before + made && next <= before + made + unknown);
    }
    SOON(agree(NODES));
}

/* A node stops in the middle of a change: when it was proposed, it may have happened. */
static void story_of_stopping(struct story *story)
{
    static struct adder adder;
    EXPECT(make_cluster(story));
    SOON(agree(NODES));
    uint32_t next = member_roster(at(2))->next;
    adder = (struct adder){.member = at(1)};
    EXPECT(io_task_start(story->io, &adder.task, adder_run, &adder) == OK);
    uint64_t until = io_now_ns(story->io) + PATIENCE_MS * IO_MS_NS;
    while (at(1)->proposer.phase != REGISTER_ACCEPTING && io_now_ns(story->io) < until) io_task_sleep(story->io, 0);
    EXPECT(at(1)->proposer.phase == REGISTER_ACCEPTING);
    uint32_t made = adder.made;
    close_node(1);
    EXPECT(adder.over && adder.unknown == 1 && adder.made == made);
    io_task_done(&adder.task);
    EXPECT(member_read(at(2), &why) == OK);
    EXPECT(member_roster(at(2))->next == next + made || member_roster(at(2))->next == next + made + 1);
}

/* ---- the largest value ---- */

static uint8_t item[REGISTER_BYTES_MAX];

static enum err put_item(struct roster *roster, void *arg, struct member_why *ret_why)
{
    const uint32_t *bytes = arg;
    (void)ret_why;
    roster->others = (struct roster_extra){.at = item, .bytes = *bytes};
    return OK;
}

static void story_of_size(struct story *story)
{
    answer_ms = 3000; /* a large one takes its time, under sanitizers above all */
    uint32_t bytes = REGISTER_BYTES_MAX - 2048, too_many = REGISTER_BYTES_MAX - 8;
    for (uint32_t i = 8; i < bytes; i++) item[i] = (uint8_t)(i * 7 + (i >> 12));
    item[0] = 77; /* a kind that nobody knows */
    memcpy(item + 4, put32(too_many - 8).b, 4);
    EXPECT(make_cluster(story) && member_change(at(2), put_item, &too_many, &why) == ERR_LIMIT);
    memcpy(item + 4, put32(bytes - 8).b, 4);
    EXPECT(member_change(at(2), put_item, &bytes, &why) == OK);
    uint64_t version = member_version(at(2));
    for (uint32_t i = 1; i <= NODES; i++) {
        SOON(member_version(at(i)) >= version);
        const struct roster_extra *others = &member_roster(at(i))->others;
        EXPECT(others->bytes == bytes && memcmp(others->at, item, bytes) == 0);
    }
    /* Also from disk, and with a majority that one of them is not in. */
    close_node(2);
    EXPECT(member_change(at(1), add_one, NULL, &why) == OK && open_node(story, 2, ROSTER_DATA));
    EXPECT(memcmp(member_roster(at(2))->others.at, item, bytes) == 0);
    SOON(agree(NODES));
}

/* ---- what others left ---- */

static enum err let_in(struct roster *roster, void *arg, struct member_why *ret_why)
{
    struct roster_node never = {.number = roster->next++, .stage = ROSTER_JOINING, .role = ROSTER_DATA, .name = "never"};
    (void)arg;
    (void)ret_why;
    never.acceptor = 4242;
    never.until_s = NOW - 3600;
    return roster_put(roster, &never);
}

static enum err leave_behind(struct roster *roster, void *arg, struct member_why *ret_why)
{
    const uint32_t *leaving = arg;
    TRY(let_in(roster, NULL, ret_why));
    struct roster_node node = *roster_find(roster, *leaving);
    node.stage = ROSTER_LEAVING;
    return roster_put(roster, &node);
}

static void story_of_leftovers(struct story *story)
{
    EXPECT(make_cluster(story));
    uint32_t leaving = member_number(at(3)), again = 0;
    EXPECT(member_change(at(2), leave_behind, &leaving, &why) == OK);
    SOON(member_roster(at(1))->node_count == 2 && held_by(1, 1) && member_was_removed(at(3)));
    EXPECT(member_roster(at(1))->nodes[0].number == 1 && roster_find(member_roster(at(1)), leaving) == NULL);
    /* It still knows, after a start; then it comes back as somebody new. */
    close_node(3);
    EXPECT(open_node(story, 3, ROSTER_WITNESS));
    SOON(member_was_removed(at(3)));
    EXPECT(join(1, 3, ROSTER_WITNESS, &again) && again > leaving + 1 && held_by(3, 3));
    SOON(agree(NODES));
}

/* The clock of the housekeeper is ahead: what is let in by a token that ends soon has ended already. */
static void story_of_a_clock_ahead(struct story *story)
{
    forget_ms = 0; /* as in the product */
    EXPECT(open_node(story, 1, ROSTER_DATA) && member_create(at(1), "c", &why) == OK);
    EXPECT(member_change(at(1), let_in, NULL, &why) == OK);
    uint32_t number = member_roster(at(1))->next - 1;
    for (uint32_t i = 0; i < 6; i++) {
        keeper_kick(at(1));
        io_task_sleep(story->io, 50 * IO_MS_NS);
    }
    EXPECT(roster_find(member_roster(at(1)), number) != NULL);
    at(1)->config.forget_ms = 1;
    SOON(roster_find(member_roster(at(1)), number) == NULL);
}

/* ---- acceptors ---- */

static void story_of_a_lost_acceptor(struct story *story)
{
    EXPECT(make_cluster(story));
    uint64_t before = roster_find(member_roster(at(1)), member_number(at(2)))->acceptor;
    uint32_t number = member_number(at(2));
    close_node(2);
    forget(2, "acceptor");
    EXPECT(open_node(story, 2, ROSTER_DATA) && strstr(told, "begins with a new one") != NULL);
    SOON(held_by(1, 3) && !acceptor_set_has(&member_acceptors(at(1))->now, before));
    SOON(agree(NODES));
    EXPECT(roster_find(member_roster(at(3)), number)->acceptor != before);
    EXPECT(member_change(at(2), add_one, NULL, &why) == OK);
}

/* What its acceptor accepted, and nobody has decided, is all that a node knows: that it is not in there means nothing. */
static void story_of_a_state_that_was_not_decided(struct story *story)
{
    static uint8_t bytes[REGISTER_BYTES_MAX];
    static struct roster without;
    struct acceptor accepted;
    size_t size = 0;
    EXPECT(make_cluster(story));
    SOON(agree(NODES));
    without = *member_roster(at(2));
    roster_drop(&without, member_number(at(2)));
    EXPECT(roster_encode(&without, bytes, sizeof bytes, &size) == OK);
    struct register_state state = at(2)->known;
    state.version++;
    state.bytes = bytes;
    state.size = (uint32_t)size;
    acceptor_make(&accepted, at(2)->cluster.b, at(2)->acceptor_id, &state);
    for (uint32_t i = 1; i <= NODES; i++) close_node(i);
    forget(2, "acceptor");
    forget(2, "roster");
    struct mem *mem = mem_open(8 << 20);
    EXPECT(mem != NULL && acceptor_file_make(story->io, mem, nodes[2].folder, &accepted) == OK);
    mem_close(mem);
    EXPECT(open_node(story, 2, ROSTER_DATA));
    for (int i = 0; i < 20; i++) keeper_kick(at(2)), io_task_sleep(story->io, LOOK_MS * IO_MS_NS);
    EXPECT(!member_was_removed(at(2)) && member_roster(at(2)) == NULL && peer_find(at(2), 1) != NULL);
}

static void story_of_a_minority(struct story *story)
{
    uint32_t up, of;
    EXPECT(make_cluster(story));
    uint64_t version = member_version(at(1));
    close_node(2);
    close_node(3);
    SOON(!member_has_majority(at(1), &up, &of));
    EXPECT(up == 1 && of == 3 && member_change(at(1), add_one, NULL, &why) == ERR_NO_QUORUM);
    EXPECT(strstr(why.text, "missing: n2, n3") != NULL && why.help[0] != '\0');
    EXPECT(member_read(at(1), &why) == ERR_NO_QUORUM && member_remove(at(1), 3, &why) == ERR_NO_QUORUM);
    EXPECT(open_node(story, 3, ROSTER_WITNESS));
    SOON(member_has_majority(at(1), &up, &of));
    EXPECT(member_read(at(1), &why) == OK && member_version(at(1)) == version);
    EXPECT(member_change(at(3), add_one, NULL, &why) == OK && member_version(at(3)) == version + 1);
    EXPECT(member_remove(at(1), 1, &why) == ERR_ARGUMENT && member_remove(at(1), 99, &why) == ERR_NO_NAME);
    EXPECT(open_node(story, 2, ROSTER_DATA));
    SOON(agree(NODES));
}

/* ---- addresses ---- */

static const char *elsewhere;

static enum err put_address(struct roster *roster, void *arg, struct member_why *ret_why)
{
    const uint32_t *number = arg;
    struct roster_node node = *roster_find(roster, *number);
    (void)ret_why;
    snprintf(node.addresses[node.address_count++], sizeof node.addresses[0], "%s", elsewhere);
    return roster_put(roster, &node);
}

static uint64_t links_lost(uint32_t i)
{
    struct links_stats stats;
    links_stats(at(i)->links, &stats);
    return stats.lost;
}

/* The others hear of an address that a node does not have, and then from it that it does not. */
static void story_of_an_address(struct story *story)
{
    silent_ms = 5000;
    elsewhere = "127.0.0.9:9";
    EXPECT(make_cluster(story));
    SOON(agree(NODES));
    uint32_t number = member_number(at(2));
    uint64_t version = member_version(at(1)), before = links_lost(1) + links_lost(2) + links_lost(3);
    EXPECT(member_change(at(1), put_address, &number, &why) == OK);
    SOON(member_version(at(1)) >= version + 2 && agree(NODES));
    EXPECT(roster_find(member_roster(at(1)), number)->address_count == 1);
    SOON(peer_find(at(1), number)->address_count == 1);
    EXPECT(links_lost(1) + links_lost(2) + links_lost(3) == before);
}

TEST(changes_from_all_sides_are_each_made_once)
{
    CHECK_EQ(tell_story(story_of_changes), 0);
}

TEST(a_change_that_was_proposed_is_unknown_when_the_node_stops)
{
    CHECK_EQ(tell_story(story_of_stopping), 0);
}

TEST(the_largest_value_travels_whole)
{
    CHECK_EQ(tell_story(story_of_size), 0);
}

TEST(what_was_interrupted_is_finished)
{
    CHECK_EQ(tell_story(story_of_leftovers), 0);
}

TEST(a_joiner_has_time_whatever_the_clock_says)
{
    CHECK_EQ(tell_story(story_of_a_clock_ahead), 0);
}

TEST(a_lost_acceptor_is_replaced)
{
    CHECK_EQ(tell_story(story_of_a_lost_acceptor), 0);
}

TEST(what_was_not_decided_removes_nobody)
{
    CHECK_EQ(tell_story(story_of_a_state_that_was_not_decided), 0);
}

TEST(a_minority_changes_nothing)
{
    CHECK_EQ(tell_story(story_of_a_minority), 0);
}

TEST(an_address_more_costs_no_link)
{
    CHECK_EQ(tell_story(story_of_an_address), 0);
}

TESTS(changes_from_all_sides_are_each_made_once, a_change_that_was_proposed_is_unknown_when_the_node_stops,
      the_largest_value_travels_whole, what_was_interrupted_is_finished, a_joiner_has_time_whatever_the_clock_says,
      a_lost_acceptor_is_replaced, what_was_not_decided_removes_nobody, a_minority_changes_nothing,
      an_address_more_costs_no_link)
