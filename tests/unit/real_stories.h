/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stories on the real seam: each is told on both back ends, as far as they are here.
 */
#ifndef IZAR_TESTS_UNIT_REAL_STORIES_H
#define IZAR_TESTS_UNIT_REAL_STORIES_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/unit/story.h"

static inline void story_run(void *arg)
{
    struct story *story = arg;
    story->tell(story);
    story->over = true;
    io_group_stop(story->world);
    if (story->failed_line == 0) return;
    printf("# line %u: did not hold\n", story->failed_line);
    if (story->explain != NULL) story->explain();
    printf("not ok\n");
    fflush(stdout);
    _exit(1); /* what the story left open would never end */
}

static inline void story_main(struct io *loop0, void *arg)
{
    struct story *story = arg;
    story->io = loop0;
    if (io_task_start(loop0, &story->task, story_run, story) != OK) io_group_stop(story->world);
}

/* False: one of the back ends could not be opened, or a story not begun. A story that fails ends the program; `explain` (may be
 * NULL) prints what may help then, as lines that begin with '#'. */
static inline bool tell_on_both(void (*what)(struct story *story), void (*explain)(void))
{
    static const enum io_backend backends[] = {IO_BACKEND_URING, IO_BACKEND_POSIX};
    for (int i = 0; i < 2; i++) {
        struct story story = {.tell = what, .explain = explain};
        struct io_group *group;
        enum err e = io_group_open(&(struct io_config){.backend = backends[i], .loops = 1}, &group);
        if (e == ERR_UNSUPPORTED && i == 0) continue;
        if (e != OK) return false;
        story.world = group;
        io_group_run(group, story_main, &story);
        io_task_done(&story.task);
        io_group_close(group);
        if (!story.over) return false;
    }
    return true;
}

#endif
