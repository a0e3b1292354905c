/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Members under test: up to three nodes of one cluster in one process, on one loop of the real seam over the loopback, with
 * folders of their own; and the stories that are told with them.
 */
#ifndef IZAR_TESTS_UNIT_MEMBER_NODES_H
#define IZAR_TESTS_UNIT_MEMBER_NODES_H

#include <stdlib.h>
#include <unistd.h>

#include "base/bytes.h"
#include "cluster/member_internal.h"
#include "tests/check.h"
#include "tests/unit/story.h"

enum { NODES = 3, PATIENCE_MS = 15000, LOOK_MS = 5, LIFETIME_S = 600 };
#define NOW 1800000000ull

/* Waits for what happens by itself, and not for ever. */
#define WAIT_FOR(cond)                                                                                                         \
    for (int waited = 0; !(cond) && waited < PATIENCE_MS; waited += LOOK_MS) io_task_sleep(the_io, LOOK_MS *IO_MS_NS)

#define SOON(cond)                                                                                                             \
    do {                                                                                                                       \
        WAIT_FOR(cond);                                                                                                        \
        EXPECT(cond);                                                                                                          \
    } while (0)

struct node {
    char folder[256], name[8], listen[64];
    struct member *member;
    uint32_t keys_taken;
    uint8_t key[POOL_KEY_BYTES]; /* of its pool */
    bool keeps_its_key;
};

static struct io *the_io;
static struct node nodes[NODES + 1]; /* by their place, from 1 */
static struct member_why why;
static char told[8000];
static uint32_t answer_ms, silent_ms;   /* that acceptors, and links, are given */
static uint32_t forget_ms;              /* that a joiner is given, whatever the clocks say */
static void (*when_key_is_taken)(void); /* what a test does in that moment; may be NULL */

static inline uint64_t wall(void)
{
    return NOW;
}

static inline void tell(bool is_problem, const char *text)
{
    size_t used = strlen(told);
    (void)is_problem;
    snprintf(told + used, sizeof told - used, "# %s\n", text);
}

static inline void own_key(void *arg, uint8_t ret_key[POOL_KEY_BYTES])
{
    const struct node *n = arg;
    memcpy(ret_key, n->key, POOL_KEY_BYTES);
}

static inline enum err take_key(void *arg, const uint8_t key[POOL_KEY_BYTES], struct member_why *ret_why)
{
    struct node *n = arg;
    n->keys_taken++;
    if (when_key_is_taken != NULL) when_key_is_taken();
    if (!n->keeps_its_key) {
        memcpy(n->key, key, POOL_KEY_BYTES);
        return OK;
    }
    snprintf(ret_why->text, sizeof ret_why->text, "the pool of %s keeps its key", n->name);
    return ERR_BUSY;
}

static inline struct member *at(uint32_t i)
{
    return nodes[i].member;
}

/* Listens where it did before. */
static inline bool open_node(struct story *story, uint32_t i, enum roster_role role)
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

static inline void close_node(uint32_t i)
{
    member_close(nodes[i].member);
    nodes[i].member = NULL;
}

static inline bool folders_made(void)
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
static inline bool places_found(struct io *io)
{
    struct io_listener *listeners[NODES + 1] = {NULL};
    bool found = true;
    for (uint32_t i = 1; i <= NODES; i++) found &= io_listen(io, "127.0.0.1:0", 0, &listeners[i]) == OK;
    for (uint32_t i = 1; found && i <= NODES; i++) io_listener_text(listeners[i], nodes[i].listen, sizeof nodes[i].listen);
    for (uint32_t i = 1; i <= NODES; i++) io_listener_close(listeners[i]);
    return found;
}

static inline void forget(uint32_t i, const char *what)
{
    char path[300];
    for (int copy = 0; copy < 2; copy++) {
        snprintf(path, sizeof path, "%s/%s.%d", nodes[i].folder, what, copy);
        unlink(path);
    }
}

static inline void folders_gone(void)
{
    for (uint32_t i = 1; i <= NODES; i++) {
        forget(i, "identity");
        forget(i, "acceptor");
        forget(i, "roster");
        rmdir(nodes[i].folder);
    }
}

static inline bool join(uint32_t host, uint32_t i, enum roster_role role, uint32_t *ret_number)
{
    char text[TOKEN_TEXT_MAX];
    struct token token;
    if (member_issue(at(host), role, LIFETIME_S, text, &token, &why) != OK) return false;
    *ret_number = token.node;
    if (member_join(at(i), text, &why) != OK) return false;
    return member_number(at(i)) == token.node;
}

static inline bool held_by(uint32_t i, uint32_t acceptors)
{
    uint32_t up, of;
    return member_has_majority(at(i), &up, &of) && up == acceptors && of == acceptors &&
           member_acceptors(at(i))->next.count == 0;
}

static inline bool agree(uint32_t count)
{
    for (uint32_t i = 1; i <= count; i++)
        if (member_version(at(i)) != member_version(at(1)) || !held_by(i, member_acceptors(at(1))->now.count)) return false;
    return true;
}

/* Two nodes with data and a witness. */
static inline bool make_cluster(struct story *story)
{
    uint32_t second = 0, third = 0;
    if (!open_node(story, 1, ROSTER_DATA) || !open_node(story, 2, ROSTER_DATA) || !open_node(story, 3, ROSTER_WITNESS))
        return false;
    if (member_create(at(3), "c", &why) != ERR_UNSUPPORTED || member_create(at(1), "c", &why) != OK) return false;
    if (!join(1, 2, ROSTER_DATA, &second) || !held_by(1, 1) || member_roster(at(2))->node_count != 2) return false;
    return join(2, 3, ROSTER_WITNESS, &third) && third == second + 1 && held_by(3, 3);
}

static inline enum err add_one(struct roster *roster, void *arg, struct member_why *ret_why)
{
    (void)arg;
    (void)ret_why;
    roster->next++;
    return OK;
}

/* ---- telling stories ---- */

static inline void story_run(void *arg)
{
    struct story *story = arg;
    the_io = story->io;
    if (places_found(story->io)) {
        story->tell(story);
        story->over = true;
    }
    if (story->failed_line != 0) {
        printf("# line %u: did not hold; last reason: %s; told was:\n%snot ok\n", story->failed_line, why.text, told);
        fflush(stdout);
        _exit(1); /* what the story left open would never end */
    }
    for (uint32_t i = 1; i <= NODES; i++) close_node(i);
    io_group_stop(story->world);
}

static inline void story_main(struct io *loop0, void *arg)
{
    struct story *story = arg;
    story->io = loop0;
    if (io_task_start(loop0, &story->task, story_run, story) != OK) io_group_stop(story->world);
}

/* 0: it was told, and all of it held. */
static inline unsigned tell_story(void (*what)(struct story *story))
{
    struct story story = {.tell = what};
    struct io_group *group;
    told[0] = '\0';
    when_key_is_taken = NULL;
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
    return story.over ? 0 : 1;
}

#endif
