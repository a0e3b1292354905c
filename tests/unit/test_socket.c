/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections of the real seam, on both back ends.
 *
 * Goal: what io.h promises about sockets. Method: the stories of socket_stories.h on each back end; files of local sockets.
 */
#include "tests/check.h"
#include "tests/unit/real_stories.h"
#include "tests/unit/socket_stories.h"

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
    CHECK(tell_on_both(story_of_ipv4, NULL));
    CHECK(tell_on_both(story_of_ipv6, NULL));
    CHECK(tell_on_both(story_of_local, NULL));
}

TEST(aborts_end_what_is_under_way)
{
    CHECK(tell_on_both(story_of_abort, NULL));
}

TEST(addresses_are_understood_or_refused)
{
    CHECK(tell_on_both(story_of_addresses, NULL));
}

TEST(many_connections_wait)
{
    CHECK(tell_on_both(story_of_many, NULL));
}

TESTS(bytes_arrive_in_order, aborts_end_what_is_under_way, addresses_are_understood_or_refused, many_connections_wait)
