/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections of the real seam, on both back ends.
 *
 * Goal: what io.h promises about sockets. Method: the stories of socket_stories.h on each back end; files of local sockets.
 */
#include <stdlib.h>
#include <unistd.h>

#include "tests/check.h"
#include "tests/unit/socket_stories.h"

static void story_run(void *arg)
{
    struct story *story = arg;
    story->tell(story);
    io_group_stop(story->world);
}

static void story_main(struct io *loop0, void *arg)
{
    struct story *story = arg;
    story->io = loop0;
    if (io_task_start(loop0, &story->task, story_run, story) != OK) io_group_stop(story->world);
}

/* The line of the first expectation that did not hold on one of the back ends. */
static unsigned tell(void (*what)(struct story *story))
{
    static const enum io_backend backends[] = {IO_BACKEND_URING, IO_BACKEND_POSIX};
    for (int i = 0; i < 2; i++) {
        struct story story = {.tell = what};
        struct io_group *group;
        enum err e = io_group_open(&(struct io_config){.backend = backends[i], .loops = 1}, &group);
        if (e == ERR_UNSUPPORTED && i == 0) continue;
        if (e != OK) return 1;
        story.world = group;
        io_group_run(group, story_main, &story);
        io_task_done(&story.task);
        io_group_close(group);
        if (story.failed_line != 0) return story.failed_line;
    }
    return 0;
}

static const char *local_address(void)
{
    static char address[200];
    const char *dir = getenv("TMPDIR");
    snprintf(address, sizeof address, "unix:%s/izar-test-%ld", dir == NULL ? "/tmp" : dir, (long)getpid());
    return address;
}

static void story_of_local(struct story *story)
{
    struct io_listener *first, *second;
    const char *address = local_address();
    story_of_bytes(story, address);
    EXPECT(access(address + 5, F_OK) != 0);
    EXPECT(io_listen(story->io, address, 0600, &first) == OK);
    EXPECT(io_listen(story->io, address, 0600, &second) == ERR_ADDRESS);
    io_listener_close(first);
    /* What is no socket is somebody's file. */
    FILE *file = fopen(address + 5, "w");
    EXPECT(file != NULL && fclose(file) == 0);
    EXPECT(io_listen(story->io, address, 0600, &first) == ERR_ADDRESS);
    EXPECT(unlink(address + 5) == 0);
}

TEST(bytes_arrive_in_order)
{
    CHECK_EQ(tell(story_of_ipv4), 0);
    CHECK_EQ(tell(story_of_ipv6), 0);
    CHECK_EQ(tell(story_of_local), 0);
}

TEST(aborts_end_what_is_under_way)
{
    CHECK_EQ(tell(story_of_abort), 0);
}

TEST(addresses_are_understood_or_refused)
{
    CHECK_EQ(tell(story_of_addresses), 0);
}

TEST(many_connections_wait)
{
    CHECK_EQ(tell(story_of_many), 0);
}

TESTS(bytes_arrive_in_order, aborts_end_what_is_under_way, addresses_are_understood_or_refused, many_connections_wait)
