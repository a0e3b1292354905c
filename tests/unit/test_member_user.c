/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who else talks over the links of members.
 *
 * Goal: a user hears of each node that comes and goes, and is waited for before one goes; what others do not take costs nobody
 * anything. Method: the nodes of member_nodes.h, two of them, each with somebody who writes letters.
 */
#include "tests/unit/member_nodes.h"

enum {
    LETTERS = 6,
    HELD = 3 /* that a window has room for, beside what members say */,
    LETTER_STREAM = MEMBER_USER_STREAM + 1,
    LETTER_KIND = 9,
    LETTER_BODY = LINK_BODY_MAX
};

struct letter {
    struct link_op op;
    struct io_piece piece;
    bool busy;
};

/* One at each node. */
struct talker {
    uint32_t opened, ups, downs, closings, changes, arrived, wrong, lost; /* counted */
    uint32_t node, busy, failed;
    bool keeps;
    struct link *link;
    struct link_stream stream;
    struct letter letters[LETTERS];
    struct link_message *kept[LETTERS];
    uint32_t kept_count;
};

static struct talker talkers[NODES + 1];
static uint8_t letter_body[LETTER_BODY];

static void talker_lost(struct link_stream *stream)
{
    CONTAINER(stream, struct talker, stream)->lost++;
}

static void talker_opened(void *arg, uint32_t node, struct link *link)
{
    struct talker *t = arg;
    if (t->link != NULL || link_node(link) != node) t->wrong++;
    t->opened++;
    t->link = link;
    t->node = node;
    link_stream_init(link, &t->stream, LETTER_STREAM, false, talker_lost);
}

static void talker_up(void *arg, uint32_t node)
{
    struct talker *t = arg;
    t->ups++;
    if (node != t->node || !link_is_up(t->link)) t->wrong++;
}

static void talker_down(void *arg, uint32_t node)
{
    struct talker *t = arg;
    t->downs++;
    if (node != t->node || link_is_up(t->link)) t->wrong++;
}

static bool letter_is_whole(const struct link_message *m)
{
    if (m->kind != LETTER_KIND || m->stream != LETTER_STREAM || m->head_bytes != 3 || memcmp(m->head, "abc", 3) != 0)
        return false;
    if (m->body_bytes != LETTER_BODY) return false;
    for (uint32_t i = 0; i < LINK_BODY_PIECES; i++)
        if (memcmp(m->body[i], letter_body + i * LINK_PIECE, LINK_PIECE) != 0) return false;
    return true;
}

static void talker_message(void *arg, uint32_t node, struct link_message *message)
{
    struct talker *t = arg;
    t->arrived++;
    if (node != t->node || !letter_is_whole(message)) t->wrong++;
    if (t->keeps)
        t->kept[t->kept_count++] = message;
    else
        link_message_done(message);
}

static void talker_closing(void *arg, uint32_t node)
{
    struct talker *t = arg;
    t->closings++;
    if (node != t->node || t->link == NULL) t->wrong++;
    WAIT_FOR(t->busy == 0);
    link_stream_done(&t->stream);
    t->link = NULL;
}

static void talker_changed(void *arg)
{
    struct talker *t = arg;
    t->changes++;
}

static void attach(uint32_t i)
{
    talkers[i] = (struct talker){.node = 0};
    member_attach(at(i), &(struct member_user){.arg = &talkers[i],
                                               .opened = talker_opened,
                                               .up = talker_up,
                                               .down = talker_down,
                                               .message = talker_message,
                                               .closing = talker_closing,
                                               .changed = talker_changed});
}

static void letter_sent(struct link_op *op)
{
    struct letter *letter = CONTAINER(op, struct letter, op);
    struct talker *t = CONTAINER(op->stream, struct talker, stream);
    letter->busy = false;
    t->busy--;
    t->failed += op->err != OK;
}

static void write_letters(struct talker *t, uint32_t count)
{
    for (uint32_t i = 0; i < LETTERS && count > 0; i++) {
        struct letter *letter = &t->letters[i];
        if (letter->busy) continue;
        letter->busy = true;
        t->busy++;
        count--;
        letter->op.done = letter_sent;
        letter->piece = (struct io_piece){letter_body, LETTER_BODY};
        link_send(&t->stream, LETTER_KIND, "abc", 3, &letter->piece, 1, &letter->op);
    }
}

static void give_back(struct talker *t)
{
    while (t->kept_count > 0) link_message_done(t->kept[--t->kept_count]);
}

/* Two nodes, each with somebody who talks: one from the first moment, one who comes later. */
static bool make_talkers(struct story *story, uint32_t *ret_number)
{
    silent_ms = 5000; /* much is sent; what is lost here is cut or closed */
    for (uint32_t i = 0; i < LETTER_BODY; i++) letter_body[i] = (uint8_t)(i * 5 + (i >> 9));
    if (!open_node(story, 1, ROSTER_DATA) || !open_node(story, 2, ROSTER_DATA)) return false;
    attach(1);
    if (member_boot(at(1)) != 0 || member_create(at(1), "c", &why) != OK || !join(1, 2, ROSTER_DATA, ret_number)) return false;
    attach(2);
    return talkers[2].opened == 1 && talkers[2].ups == 1 && member_boot(at(1)) == 1 && member_boot(at(2)) == 1;
}

static void story_of_a_user(struct story *story)
{
    uint32_t number = 0;
    struct talker *a = &talkers[1], *b = &talkers[2];
    EXPECT(make_talkers(story, &number));
    SOON(a->opened == 1 && a->ups == 1 && a->node == number && b->node == 1 && a->changes > 0 && b->changes > 0);
    write_letters(a, LETTERS);
    write_letters(b, 2);
    SOON(b->arrived == LETTERS && a->arrived == 2 && a->busy + b->busy == 0);
    EXPECT(a->wrong + b->wrong + a->failed + b->failed + a->downs + b->downs == 0);

    /* Changes are told, also those of others, and not from within the call. */
    uint32_t before = a->changes;
    EXPECT(member_change(at(2), add_one, NULL, &why) == OK);
    SOON(a->changes > before && member_version(at(1)) == member_version(at(2)));

    /* Nobody listens over there: what arrives is thrown away, more than any window, and we hear nothing of it. */
    member_attach(at(2), NULL);
    EXPECT(b->closings == 1 && b->link == NULL);
    SOON(a->downs > 0 && link_is_up(a->link));
    write_letters(a, LETTERS);
    SOON(a->busy == 0);
    EXPECT(a->closings == 0 && a->failed == 0 && b->arrived == LETTERS && member_is_up(at(1), number));

    /* The other one is gone, and comes back in its next start. */
    uint32_t ups = a->ups;
    close_node(2);
    SOON(!link_is_up(a->link));
    EXPECT(open_node(story, 2, ROSTER_DATA) && member_boot(at(2)) == 2);
    attach(2);
    SOON(a->ups > ups && b->opened == 1 && b->ups == 1);
    write_letters(b, 1);
    SOON(a->arrived == 3 && b->busy == 0);
    EXPECT(a->wrong + b->wrong + a->closings == 0);
    member_attach(at(2), NULL);
    member_attach(at(1), NULL);
    EXPECT(a->closings == 1 && b->closings == 1 && a->link == NULL);
}

/* Operations that wait for a window that does not open any more. */
static void story_of_a_user_in_the_middle(struct story *story)
{
    uint32_t number = 0, again = 0;
    struct talker *a = &talkers[1], *b = &talkers[2];
    EXPECT(make_talkers(story, &number));
    SOON(a->ups == 1);

    /* The other node is removed while they talk, and comes again as somebody else. */
    write_letters(a, LETTERS);
    write_letters(b, LETTERS);
    EXPECT(member_remove(at(1), number, &why) == OK);
    SOON(a->closings == 1 && a->link == NULL && b->closings == 1 && b->link == NULL && member_was_removed(at(2)));
    EXPECT(a->busy + b->busy == 0 && join(1, 2, ROSTER_DATA, &again) && again > number);
    SOON(a->opened == 2 && b->opened == 2 && a->node == again && a->ups == 2 && b->ups == 2);

    /* Over there nothing is given back: what waits ends before the user is gone ... */
    b->keeps = true;
    b->arrived = a->failed = 0;
    write_letters(a, LETTERS);
    SOON(b->arrived == HELD);
    EXPECT(a->busy > 0);
    member_attach(at(1), NULL);
    EXPECT(a->busy == 0 && a->failed > 0 && a->closings == 2 && a->link == NULL);
    give_back(b);
    SOON(member_is_up(at(1), again));

    /* ... and before the link is. */
    attach(1);
    EXPECT(a->opened == 1 && a->ups == 1);
    b->arrived = 0;
    write_letters(a, LETTERS);
    SOON(b->arrived == HELD);
    EXPECT(a->busy > 0 && member_remove(at(1), again, &why) == OK);
    SOON(a->closings == 1);
    SOON(a->link == NULL);
    EXPECT(a->busy == 0 && a->failed > 0 && a->wrong + b->wrong == 0);
    give_back(b);
    member_attach(at(1), NULL);
    member_attach(at(2), NULL);
    EXPECT(a->closings == 1 && b->closings == 2 && b->link == NULL);
}

TEST(a_user_talks_over_the_links)
{
    CHECK_EQ(tell_story(story_of_a_user), 0);
}

TEST(a_user_is_waited_for)
{
    CHECK_EQ(tell_story(story_of_a_user_in_the_middle), 0);
}

TESTS(a_user_talks_over_the_links, a_user_is_waited_for)
