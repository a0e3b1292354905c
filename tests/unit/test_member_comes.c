/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who comes into a cluster, and who goes.
 *
 * Goal: of two nodes that remove each other at once one stays; numbers are not given twice; a token is good for one membership;
 * nodes with data have the key of all pools; who comes again is nobody in between, whenever the power goes. Method: the nodes
 * of member_nodes.h; what happens at the same time is made so by holding gates, a crash in the middle of joining by putting
 * back files of an earlier moment.
 */
#include "cluster/identity_file.h"
#include "cluster/link_internal.h"
#include "tests/unit/member_nodes.h"

/* ---- holding what others wait for ---- */

/* Whoever comes to this gate waits until he lets go. */
struct holder {
    struct io_task task;
    struct gate *gate;
    bool holds, lets_go, over;
};

static void holder_run(void *arg)
{
    struct holder *h = arg;
    gate_enter(h->gate);
    h->holds = true;
    while (!h->lets_go) io_task_sleep(the_io, IO_MS_NS);
    gate_leave(h->gate);
    h->over = true;
}

static bool begin_to_hold(struct holder *h, struct gate *gate)
{
    *h = (struct holder){.gate = gate};
    return io_task_start(the_io, &h->task, holder_run, h) == OK;
}

/* ---- removals at once ---- */

struct remover {
    struct io_task task;
    struct member *member;
    uint32_t number;
    enum err err;
    bool over;
    struct member_why why;
};

static void remover_run(void *arg)
{
    struct remover *r = arg;
    r->err = member_remove(r->member, r->number, &r->why);
    r->over = true;
}

static enum err leave(struct roster *roster, void *arg, struct member_why *ret_why)
{
    const uint32_t *number = arg;
    struct roster_node node = *roster_find(roster, *number);
    (void)ret_why;
    node.stage = ROSTER_LEAVING;
    return roster_put(roster, &node);
}

/* The two nodes with data remove each other. The second has looked, and found that it may, when the first has begun; and nobody
 * goes on with that before the second is through. */
static void story_of_removals_at_once(struct story *story)
{
    static struct remover remover;
    static struct holder holders[3];
    EXPECT(make_cluster(story));
    SOON(agree(NODES));
    uint32_t first = member_number(at(1)), second = member_number(at(2));
    remover = (struct remover){.member = at(2), .number = first};
    EXPECT(io_task_start(story->io, &remover.task, remover_run, &remover) == OK);
    for (uint32_t i = 1; i <= 2; i++) EXPECT(begin_to_hold(&holders[i], &at(i)->calls));
    SOON(holders[1].holds && holders[2].holds);
    EXPECT(!remover.over && member_change(at(3), leave, &second, &why) == OK);
    holders[2].lets_go = true;
    SOON(remover.over);
    holders[1].lets_go = true;
    SOON(holders[1].over && holders[2].over);
    for (uint32_t i = 1; i <= 2; i++) io_task_done(&holders[i].task);
    io_task_done(&remover.task);
    EXPECT(remover.err == ERR_BUSY && strstr(remover.why.text, "no node with data would be left") != NULL);
    SOON(held_by(1, 1) && member_roster(at(1))->node_count == 2 && member_was_removed(at(2)));
    EXPECT(member_change(at(1), add_one, NULL, &why) == OK && member_change(at(3), add_one, NULL, &why) == OK);

    /* Nor does the witness remove the last one. */
    EXPECT(member_remove(at(3), first, &why) == ERR_BUSY && strstr(why.text, "no node with data would be left") != NULL);
}

/* ---- the key of the pools ---- */

static bool has_key_of_first(uint32_t i)
{
    uint8_t key[POOL_KEY_BYTES];
    return member_knows_key(at(i), NULL, key) && key[0] == 0xa1 && key[1] == 0;
}

/* What a version without keys of pools left. */
static bool forget_key(struct story *story, uint32_t i)
{
    static struct identity identity;
    struct identity_file *file;
    struct mem *mem = mem_open(1 << 20);
    if (mem == NULL || identity_file_open(story->io, mem, nodes[i].folder, &file) != OK) return false;
    identity = *identity_file_now(file);
    identity.pool_key = (struct pool_key){.known = false};
    enum err err = identity_file_save(file, &identity, identity_file_book(file));
    identity_file_close(file);
    mem_close(mem);
    return err == OK;
}

static void story_of_keys(struct story *story)
{
    uint32_t second = 0;
    char text[TOKEN_TEXT_MAX];
    struct token token;
    uint8_t key[POOL_KEY_BYTES];
    EXPECT(open_node(story, 1, ROSTER_DATA) && open_node(story, 2, ROSTER_DATA) && open_node(story, 3, ROSTER_WITNESS));
    EXPECT(!member_knows_key(at(1), NULL, key) && member_create(at(1), "c", &why) == OK && has_key_of_first(1));
    EXPECT(nodes[1].keys_taken == 0); /* it is its own */

    /* Whose pool does not take it is no member, and can try again. */
    nodes[2].keeps_its_key = true;
    EXPECT(!join(1, 2, ROSTER_DATA, &second) && strstr(why.text, "n2 keeps its key") != NULL);
    EXPECT(member_roster(at(2)) == NULL && member_number(at(2)) == 0 && nodes[2].keys_taken == 1);
    close_node(2);
    EXPECT(open_node(story, 2, ROSTER_DATA) && member_roster(at(2)) == NULL);
    nodes[2].keeps_its_key = false;
    EXPECT(join(1, 2, ROSTER_DATA, &second) && has_key_of_first(2) && nodes[2].keys_taken == 2 && nodes[2].key[0] == 0xa1);

    /* Any node with data passes it on, and a witness does not have it. */
    EXPECT(join(2, 3, ROSTER_WITNESS, &second) && !member_knows_key(at(3), NULL, key) && nodes[3].keys_taken == 0);
    close_node(2);
    EXPECT(open_node(story, 2, ROSTER_DATA) && has_key_of_first(2) && nodes[2].keys_taken == 2);

    /* A node that was removed knows that it may come back with what it has, and nothing of other clusters. */
    EXPECT(member_remove(at(1), member_number(at(2)), &why) == OK);
    SOON(member_was_removed(at(2)));
    EXPECT(member_issue(at(1), ROSTER_DATA, LIFETIME_S, text, &token, &why) == OK && member_knows_key(at(2), text, key));
    token.cluster.b[0] ^= 1;
    EXPECT(token_encode(&token, text) == OK && !member_knows_key(at(2), text, key) && !member_knows_key(at(2), "?", key));

    /* The first node of a cluster that an older version made has the key in its pool. */
    close_node(1);
    EXPECT(forget_key(story, 1) && open_node(story, 1, ROSTER_DATA) && has_key_of_first(1));
}

/* ---- the same request twice ---- */

struct joiner {
    struct io_task task;
    char token[TOKEN_TEXT_MAX];
    enum err err;
    bool over;
    struct member_why why;
};

static void joiner_run(void *arg)
{
    struct joiner *j = arg;
    j->err = member_join(at(2), j->token, &j->why);
    j->over = true;
}

static struct link_conn *conn_that_joins(void)
{
    struct list *conns = &at(1)->links->conns;
    for (struct list *l = conns->next; l != conns; l = l->next)
        if (CONTAINER(l, struct link_conn, of_links)->state == CONN_JOINING) return CONTAINER(l, struct link_conn, of_links);
    return NULL;
}

/* The host has decided to let it in when the connection is lost; the joiner shows the same request to the host's other address.
 * `removed`: and is removed before that is looked at. */
static void ask_twice(struct story *story, bool removed, struct joiner *j)
{
    static struct holder calls, book;
    struct token token;
    *j = (struct joiner){.over = false};
    EXPECT(member_issue(at(1), ROSTER_DATA, LIFETIME_S, j->token, &token, &why) == OK);
    memcpy(token.addresses[token.address_count++], token.addresses[0], sizeof token.addresses[0]);
    EXPECT(token_encode(&token, j->token) == OK && begin_to_hold(&calls, &at(1)->calls));
    EXPECT(io_task_start(story->io, &j->task, joiner_run, j) == OK);
    SOON(!list_empty(&at(1)->calls.waiting) && conn_that_joins() != NULL);
    link_conn_cut(conn_that_joins(), "the test cuts it");
    SOON(conn_that_joins() != NULL);
    EXPECT(begin_to_hold(&book, &at(1)->book));
    calls.lets_go = true;
    SOON(book.holds);
    EXPECT(roster_find(member_roster(at(1)), token.node)->stage == ROSTER_JOINING);
    if (removed) EXPECT(member_remove(at(1), token.node, &why) == OK);
    book.lets_go = true;
    SOON(j->over && book.over && calls.over);
    io_task_done(&j->task);
    io_task_done(&book.task);
    io_task_done(&calls.task);
}

/* The connection is lost before the host looks: nobody was let in, the token is as good as before, and the place among the
 * strangers is taken as long as the connection's memory is. */
static void story_of_a_joiner_that_went(struct story *story)
{
    static struct holder book;
    static struct joiner j;
    struct token token;
    struct links_stats stats;
    EXPECT(open_node(story, 1, ROSTER_DATA) && open_node(story, 2, ROSTER_DATA) && member_create(at(1), "c", &why) == OK);
    EXPECT(member_issue(at(1), ROSTER_DATA, LIFETIME_S, j.token, &token, &why) == OK);
    EXPECT(begin_to_hold(&book, &at(1)->book) && io_task_start(story->io, &j.task, joiner_run, &j) == OK);
    SOON(conn_that_joins() != NULL);
    uint64_t version = member_version(at(1));
    link_conn_cut(conn_that_joins(), "the test cuts it");
    SOON(j.over);
    links_stats(at(1)->links, &stats);
    EXPECT(j.err == ERR_REFUSED && stats.strangers == 1);
    book.lets_go = true;
    SOON(book.over && list_empty(&at(1)->links->conns));
    links_stats(at(1)->links, &stats);
    EXPECT(stats.strangers == 0 && stats.conns == 0 && member_version(at(1)) == version);
    EXPECT(member_join(at(2), j.token, &why) == OK && member_roster(at(1))->node_count == 2);
    io_task_done(&book.task);
    io_task_done(&j.task);
}

static void story_of_asking_twice(struct story *story)
{
    static struct joiner j;
    EXPECT(open_node(story, 1, ROSTER_DATA) && open_node(story, 2, ROSTER_DATA) && member_create(at(1), "c", &why) == OK);
    ask_twice(story, true, &j);
    if (story->failed_line != 0) return;
    why = j.why;
    EXPECT(j.err == ERR_DENIED && strstr(why.text, "was removed: ask for a new token") != NULL);
    EXPECT(member_roster(at(1))->node_count == 1 && member_roster(at(2)) == NULL);
    ask_twice(story, false, &j);
    if (story->failed_line != 0) return;
    EXPECT(j.err == OK && member_roster(at(1))->node_count == 2);
}

/* ---- who comes again, and whose machine dies meanwhile ---- */

enum { KEPT_BYTES = 32 << 10, IDENTITIES = 0, ACCEPTORS = 2, ROSTERS = 4, KEPT = 6 }; /* files, two of each kind */

/* A file of the second node, at one moment. */
struct kept {
    bool is_there;
    size_t size;
    uint8_t bytes[KEPT_BYTES];
};
static struct kept at_clear[KEPT], at_end[KEPT];

static const char *kept_path(uint32_t i)
{
    static const char *const what[] = {"identity", "acceptor", "roster"};
    static char path[300];
    snprintf(path, sizeof path, "%s/%s.%u", nodes[2].folder, what[i / 2], i % 2);
    return path;
}

static void keep_files(struct kept kept[KEPT])
{
    for (uint32_t i = 0; i < KEPT; i++) {
        FILE *f = fopen(kept_path(i), "rb");
        kept[i].is_there = f != NULL;
        kept[i].size = f != NULL ? fread(kept[i].bytes, 1, KEPT_BYTES, f) : 0;
        if (f != NULL) fclose(f);
    }
}

static void keep_at_clear(void)
{
    keep_files(at_clear);
}

static bool put_file(uint32_t i, const struct kept *kept)
{
    unlink(kept_path(i));
    if (!kept->is_there) return true;
    FILE *f = fopen(kept_path(i), "wb");
    bool good = f != NULL && fwrite(kept->bytes, 1, kept->size, f) == kept->size;
    return f != NULL && fclose(f) == 0 && good;
}

/* It joins again, and the power goes when all before the file `cut` is what it is at the end, and that and the rest is what it
 * was when the node was let in. */
static void story_of_coming_again(struct story *story)
{
    static const uint32_t order[] = {ACCEPTORS, ACCEPTORS + 1, ROSTERS, ROSTERS + 1, IDENTITIES, IDENTITIES + 1};
    uint32_t number = 0;
    uint8_t key[POOL_KEY_BYTES];
    char text[TOKEN_TEXT_MAX];
    struct token token;
    EXPECT(open_node(story, 1, ROSTER_DATA) && open_node(story, 2, ROSTER_DATA) && member_create(at(1), "c", &why) == OK);
    EXPECT(join(1, 2, ROSTER_DATA, &number));
    when_key_is_taken = keep_at_clear;
    for (uint32_t cut = 0; cut <= 4; cut++) {
        EXPECT(member_remove(at(1), number, &why) == OK);
        SOON(member_was_removed(at(2)));
        EXPECT(join(1, 2, ROSTER_DATA, &number)); /* at_clear is kept meanwhile */
        close_node(2);
        keep_files(at_end);
        for (uint32_t i = 0; i < KEPT; i++) EXPECT(put_file(order[i], i < cut ? &at_end[order[i]] : &at_clear[order[i]]));
        EXPECT(open_node(story, 2, ROSTER_DATA));
        EXPECT(member_number(at(2)) == 0 && member_roster(at(2)) == NULL && !member_was_removed(at(2)));
        EXPECT(member_issue(at(1), ROSTER_DATA, LIFETIME_S, text, &token, &why) == OK && member_knows_key(at(2), text, key));
        EXPECT(!member_knows_key(at(2), NULL, key) && member_remove(at(1), number, &why) == OK);
        EXPECT(member_join(at(2), text, &why) == OK && member_number(at(2)) == token.node);
        number = token.node;
    }
    /* A token that is no good leaves it what it was. */
    EXPECT(member_remove(at(1), number, &why) == OK);
    SOON(member_was_removed(at(2)));
    token.secret[0] ^= 1;
    EXPECT(token_encode(&token, text) == OK && member_join(at(2), text, &why) == ERR_DENIED);
    close_node(2);
    EXPECT(open_node(story, 2, ROSTER_DATA));
    SOON(member_was_removed(at(2)));
}

TEST(removals_at_once_leave_somebody)
{
    CHECK_EQ(tell_story(story_of_removals_at_once), 0);
}

TEST(who_joins_with_data_gets_the_key_of_the_pools)
{
    CHECK_EQ(tell_story(story_of_keys), 0);
}

TEST(who_comes_again_is_nobody_in_between)
{
    CHECK_EQ(tell_story(story_of_coming_again), 0);
}

TEST(a_token_is_good_for_one_membership)
{
    CHECK_EQ(tell_story(story_of_asking_twice), 0);
}

TEST(who_did_not_wait_is_not_let_in)
{
    CHECK_EQ(tell_story(story_of_a_joiner_that_went), 0);
}

TESTS(removals_at_once_leave_somebody, who_joins_with_data_gets_the_key_of_the_pools, who_comes_again_is_nobody_in_between,
      a_token_is_good_for_one_membership, who_did_not_wait_is_not_let_in)
