/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Members of a cluster: what they agree on, and what they finish after somebody else was interrupted.
 *
 * Goal: changes from all sides at once are each made once; a value as large as it may be travels whole; a lost acceptor is
 * replaced; whoever left a joining or leaving node in the roster and died, the others finish it; of two nodes that remove each
 * other at once one stays; without a majority nothing is changed and it is said; numbers are not given twice; nodes with data
 * have the key of all pools; who else talks over the links hears of each that comes and goes, and is waited for before one
 * goes. Method: up to three members in one process, on one loop of the real seam over the loopback, with folders of their own;
 * interrupted changes are made by hand, as the roster shows them.
 */
#include <stdlib.h>
#include <unistd.h>

#include "base/bytes.h"
#include "cluster/acceptor_file.h"
#include "cluster/identity_file.h"
#include "cluster/link_internal.h"
#include "cluster/member_internal.h"
#include "tests/check.h"
#include "tests/unit/story.h"

enum { NODES = 3, ADDS = 12, PATIENCE_MS = 15000, LOOK_MS = 5, LIFETIME_S = 600 };
enum { KEPT_BYTES = 32 << 10, IDENTITIES = 0, ACCEPTORS = 2, ROSTERS = 4, KEPT = 6 }; /* files, two of each kind */
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
    uint32_t keys_taken;
    uint8_t key[POOL_KEY_BYTES]; /* of its pool */
    bool keeps_its_key;
};

/* A file of the second node, at one moment. */
struct kept {
    bool is_there;
    size_t size;
    uint8_t bytes[KEPT_BYTES];
};
static struct kept at_clear[KEPT], at_end[KEPT];

static struct node nodes[NODES + 1]; /* by their place, from 1 */
static struct member_why why;
static char told[8000];
static uint32_t answer_ms, silent_ms; /* that acceptors, and links, are given */
static uint32_t forget_ms;            /* that a joiner is given, whatever the clocks say */

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

static void own_key(void *arg, uint8_t ret_key[POOL_KEY_BYTES])
{
    const struct node *n = arg;
    memcpy(ret_key, n->key, POOL_KEY_BYTES);
}

static void keep_files(struct kept kept[KEPT]);

static enum err take_key(void *arg, const uint8_t key[POOL_KEY_BYTES], struct member_why *ret_why)
{
    struct node *n = arg;
    n->keys_taken++;
    keep_files(at_clear);
    if (!n->keeps_its_key) {
        memcpy(n->key, key, POOL_KEY_BYTES);
        return OK;
    }
    snprintf(ret_why->text, sizeof ret_why->text, "the pool of %s keeps its key", n->name);
    return ERR_BUSY;
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
                                   .arg = n,
                                   .own_key = own_key,
                                   .take_key = take_key,
                                   .listen_count = 1,
                                   .listen = {n->listen},
                                   .heartbeat_ms = 50,
                                   .timeout_ms = silent_ms,
                                   .wait_ms = answer_ms,
                                   .forget_ms = forget_ms};
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
        n->key[0] = (uint8_t)(0xa0 + i);
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

/* A node stops in the middle of a change: when it was proposed, it may have happened. */
static void story_of_stopping(struct story *story)
{
    static struct adder adder;
    EXPECT(make_cluster(story));
    SOON(agree(NODES));
    uint32_t next = member_roster(at(2))->next;
    adder = (struct adder){.member = at(1)};
    EXPECT(io_task_start(story->io, &adder.task, adder_run, &adder) == OK);
    while (at(1)->proposer.phase != REGISTER_ACCEPTING) io_task_sleep(story->io, 0);
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

/* Whoever comes to this gate waits until he lets go. */
struct holder {
    struct io_task task;
    struct gate *gate;
    bool holds, lets_go, over;
};

static struct io *the_io;

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
static bool ask_twice(struct story *story, bool removed, struct joiner *j)
{
    static struct holder calls, book;
    struct token token;
    *j = (struct joiner){.over = false};
    if (member_issue(at(1), ROSTER_DATA, LIFETIME_S, j->token, &token, &why) != OK) return false;
    memcpy(token.addresses[token.address_count++], token.addresses[0], sizeof token.addresses[0]);
    if (token_encode(&token, j->token) != OK) return false;
    if (!begin_to_hold(&calls, &at(1)->calls) || io_task_start(story->io, &j->task, joiner_run, j) != OK) return false;
    while (list_empty(&at(1)->calls.waiting) || conn_that_joins() == NULL) io_task_sleep(story->io, IO_MS_NS);
    link_conn_cut(conn_that_joins(), "the test cuts it");
    while (conn_that_joins() == NULL) io_task_sleep(story->io, IO_MS_NS);
    if (!begin_to_hold(&book, &at(1)->book)) return false;
    calls.lets_go = true;
    while (!book.holds) io_task_sleep(story->io, IO_MS_NS);
    bool joining = roster_find(member_roster(at(1)), token.node)->stage == ROSTER_JOINING;
    if (removed && member_remove(at(1), token.node, &why) != OK) return false;
    book.lets_go = true;
    while (!j->over || !book.over || !calls.over) io_task_sleep(story->io, IO_MS_NS);
    io_task_done(&j->task);
    io_task_done(&book.task);
    io_task_done(&calls.task);
    return joining;
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
    EXPECT(ask_twice(story, true, &j));
    why = j.why;
    EXPECT(j.err == ERR_DENIED && strstr(why.text, "was removed: ask for a new token") != NULL);
    EXPECT(member_roster(at(1))->node_count == 1 && member_roster(at(2)) == NULL);
    EXPECT(ask_twice(story, false, &j));
    EXPECT(j.err == OK && member_roster(at(1))->node_count == 2);
}

/* ---- who comes again, and whose machine dies meanwhile ---- */

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

/* ---- who else talks over the links ---- */

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
    while (t->busy > 0) io_task_sleep(the_io, IO_MS_NS);
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

/* ---- telling them ---- */

static void story_run(void *arg)
{
    struct story *story = arg;
    the_io = story->io;
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
    silent_ms = 500;
    forget_ms = 1;
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

TEST(removals_at_once_leave_somebody)
{
    CHECK_EQ(tell_story(story_of_removals_at_once), 0);
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

TEST(who_joins_with_data_gets_the_key_of_the_pools)
{
    CHECK_EQ(tell_story(story_of_keys), 0);
}

TEST(who_comes_again_is_nobody_in_between)
{
    CHECK_EQ(tell_story(story_of_coming_again), 0);
}

TEST(who_did_not_wait_is_not_let_in)
{
    CHECK_EQ(tell_story(story_of_a_joiner_that_went), 0);
}

TEST(a_token_is_good_for_one_membership)
{
    CHECK_EQ(tell_story(story_of_asking_twice), 0);
}

TEST(a_user_talks_over_the_links)
{
    CHECK_EQ(tell_story(story_of_a_user), 0);
}

TEST(a_user_is_waited_for)
{
    CHECK_EQ(tell_story(story_of_a_user_in_the_middle), 0);
}

TESTS(changes_from_all_sides_are_each_made_once, a_change_that_was_proposed_is_unknown_when_the_node_stops,
      the_largest_value_travels_whole, what_was_interrupted_is_finished, removals_at_once_leave_somebody,
      a_joiner_has_time_whatever_the_clock_says, a_lost_acceptor_is_replaced, what_was_not_decided_removes_nobody,
      a_minority_changes_nothing, an_address_more_costs_no_link, who_joins_with_data_gets_the_key_of_the_pools,
      who_comes_again_is_nobody_in_between, a_token_is_good_for_one_membership, who_did_not_wait_is_not_let_in,
      a_user_talks_over_the_links, a_user_is_waited_for)
