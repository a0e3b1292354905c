/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Members of a cluster: what they agree on, and what they finish after somebody else was interrupted.
 *
 * Goal: changes from all sides at once are each made once; a value as large as it may be travels whole; a lost acceptor is
 * replaced; whoever left a joining or leaving node in the roster and died, the others finish it; without a majority nothing
 * is changed and it is said; numbers are not given twice. Method: up to three members in one process, on one loop of the real
 * seam over the loopback, with folders of their own; interrupted changes are made by hand, as the roster shows them.
 */
#include <stdlib.h>
#include <unistd.h>

#include "base/bytes.h"
#include "cluster/acceptor_file.h"
#include "cluster/member.h"
#include "tests/check.h"
#include "tests/unit/story.h"

enum { NODES = 3, ADDS = 12, PATIENCE_MS = 15000, LOOK_MS = 5, LIFETIME_S = 600 };
#define NOW 1800000000ull

/* Waits for what happens by itself. */
#define SOON(cond)                                                                                                             \
    do {                                                                                                                       \
        for (int waited = 0; !(cond) && waited < PATIENCE_MS; waited += LOOK_MS) io_task_sleep(story->io, LOOK_MS *IO_MS_NS);  \
        EXPECT(cond);                                                                                                          \
    } while (0)

struct node {
    char folder[256], name[8], listen[64];
    struct member *member;
};

static struct node nodes[NODES + 1]; /* by their place, from 1 */
static struct member_why why;
static char told[8000];
static uint32_t answer_ms; /* that acceptors are given */

static uint64_t wall(void)
{
    return NOW;
}

static void tell(bool is_problem, const char *text)
{
    size_t used = strlen(told);
    (void)is_problem;
    snprintf(told + used, sizeof told - used, "# %s\n", text);
}

static struct member *at(uint32_t i)
{
    return nodes[i].member;
}

/* Listens where it did before. */
static bool open_node(struct story *story, uint32_t i, enum roster_role role)
{
    struct node *n = &nodes[i];
    struct member_config config = {.io = story->io,
                                   .folder = n->folder,
                                   .name = n->name,
                                   .role = role,
                                   .wall_s = wall,
                                   .tell = tell,
                                   .listen_count = 1,
                                   .listen = {n->listen},
                                   .heartbeat_ms = 50,
                                   .timeout_ms = 500,
                                   .wait_ms = answer_ms};
    return member_open(&config, &n->member, &why) == OK;
}

static void close_node(uint32_t i)
{
    member_close(nodes[i].member);
    nodes[i].member = NULL;
}

static bool folders_made(void)
{
    const char *dir = getenv("TMPDIR");
    for (uint32_t i = 1; i <= NODES; i++) {
        struct node *n = &nodes[i];
        snprintf(n->folder, sizeof n->folder, "%.200s/izar-member-XXXXXX", dir != NULL ? dir : "/tmp");
        snprintf(n->name, sizeof n->name, "n%u", i);
        if (mkdtemp(n->folder) == NULL) return false;
    }
    return true;
}

/* A joiner says where it will listen before it does: so all have a place that was free a moment ago. */
static bool places_found(struct io *io)
{
    struct io_listener *listeners[NODES + 1] = {NULL};
    bool found = true;
    for (uint32_t i = 1; i <= NODES; i++) found &= io_listen(io, "127.0.0.1:0", 0, &listeners[i]) == OK;
    for (uint32_t i = 1; found && i <= NODES; i++) io_listener_text(listeners[i], nodes[i].listen, sizeof nodes[i].listen);
    for (uint32_t i = 1; i <= NODES; i++) io_listener_close(listeners[i]);
    return found;
}

static void forget(uint32_t i, const char *what)
{
    char path[300];
    for (int copy = 0; copy < 2; copy++) {
        snprintf(path, sizeof path, "%s/%s.%d", nodes[i].folder, what, copy);
        unlink(path);
    }
}

static void folders_gone(void)
{
    for (uint32_t i = 1; i <= NODES; i++) {
        forget(i, "identity");
        forget(i, "acceptor");
        forget(i, "roster");
        rmdir(nodes[i].folder);
    }
}

static bool join(uint32_t host, uint32_t i, enum roster_role role, uint32_t *ret_number)
{
    char text[TOKEN_TEXT_MAX];
    struct token token;
    if (member_issue(at(host), role, LIFETIME_S, text, &token, &why) != OK) return false;
    *ret_number = token.node;
    if (member_join(at(i), text, &why) != OK) return false;
    return member_number(at(i)) == token.node;
}

static bool held_by(uint32_t i, uint32_t acceptors)
{
    uint32_t up, of;
    return member_has_majority(at(i), &up, &of) && up == acceptors && of == acceptors &&
           member_acceptors(at(i))->next.count == 0;
}

static bool agree(uint32_t count)
{
    for (uint32_t i = 1; i <= count; i++)
        if (member_version(at(i)) != member_version(at(1)) || !held_by(i, member_acceptors(at(1))->now.count)) return false;
    return true;
}

/* Two nodes with data and a witness. */
static bool make_cluster(struct story *story)
{
    uint32_t second = 0, third = 0;
    if (!open_node(story, 1, ROSTER_DATA) || !open_node(story, 2, ROSTER_DATA) || !open_node(story, 3, ROSTER_WITNESS))
        return false;
    if (member_create(at(3), "c", &why) != ERR_UNSUPPORTED || member_create(at(1), "c", &why) != OK) return false;
    if (!join(1, 2, ROSTER_DATA, &second) || !held_by(1, 1) || member_roster(at(2))->node_count != 2) return false;
    return join(2, 3, ROSTER_WITNESS, &third) && third == second + 1 && held_by(3, 3);
}

/* ---- changes ---- */

static enum err add_one(struct roster *roster, void *arg, struct member_why *ret_why)
{
    (void)arg;
    (void)ret_why;
    roster->next++;
    return OK;
}

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

static enum err leave_behind(struct roster *roster, void *arg, struct member_why *ret_why)
{
    struct roster_node never = {.number = roster->next++, .stage = ROSTER_JOINING, .role = ROSTER_DATA, .name = "never"};
    const uint32_t *leaving = arg;
    (void)ret_why;
    never.acceptor = 4242;
    never.until_s = NOW - 3600;
    struct roster_node node = *roster_find(roster, *leaving);
    node.stage = ROSTER_LEAVING;
    TRY(roster_put(roster, &node));
    return roster_put(roster, &never);
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

/* ---- telling them ---- */

static void story_run(void *arg)
{
    struct story *story = arg;
    if (places_found(story->io)) story->tell(story);
    if (story->failed_line != 0) {
        printf("# %s:%u: did not hold; last reason: %s; told was:\n%snot ok\n", __FILE__, story->failed_line, why.text, told);
        fflush(stdout);
        _exit(1); /* what the story left open would never end */
    }
    for (uint32_t i = 1; i <= NODES; i++) close_node(i);
    io_group_stop(story->world);
}

static void story_main(struct io *loop0, void *arg)
{
    struct story *story = arg;
    story->io = loop0;
    if (io_task_start(loop0, &story->task, story_run, story) != OK) io_group_stop(story->world);
}

static unsigned tell_story(void (*what)(struct story *story))
{
    struct story story = {.tell = what};
    struct io_group *group;
    told[0] = '\0';
    answer_ms = 200;
    memset(nodes, 0, sizeof nodes);
    if (!folders_made() || io_group_open(&(struct io_config){.loops = 1}, &group) != OK) return 1;
    story.world = group;
    io_group_run(group, story_main, &story);
    io_task_done(&story.task);
    io_group_close(group);
    folders_gone();
    return 0;
}

TEST(changes_from_all_sides_are_each_made_once)
{
    CHECK_EQ(tell_story(story_of_changes), 0);
}

TEST(the_largest_value_travels_whole)
{
    CHECK_EQ(tell_story(story_of_size), 0);
}

TEST(what_was_interrupted_is_finished)
{
    CHECK_EQ(tell_story(story_of_leftovers), 0);
}

TEST(a_lost_acceptor_is_replaced)
{
    CHECK_EQ(tell_story(story_of_a_lost_acceptor), 0);
}

TEST(a_minority_changes_nothing)
{
    CHECK_EQ(tell_story(story_of_a_minority), 0);
}

TESTS(changes_from_all_sides_are_each_made_once, the_largest_value_travels_whole, what_was_interrupted_is_finished,
      a_lost_acceptor_is_replaced, a_minority_changes_nothing)
