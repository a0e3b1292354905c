/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stories: a test on the seam as one task that plays all sides on one loop and waits for each operation in turn.
 */
#ifndef IZAR_TESTS_UNIT_STORY_H
#define IZAR_TESTS_UNIT_STORY_H

#include "io/io.h"

#define EXPECT(cond)                                                                                                           \
    do {                                                                                                                       \
        if (!(cond)) {                                                                                                         \
            if (story->failed_line == 0) story->failed_line = __LINE__;                                                        \
            return;                                                                                                            \
        }                                                                                                                      \
    } while (0)

struct story {
    struct io *io;
    struct io_task task;
    void (*tell)(struct story *story);
    void (*explain)(void); /* prints what else is known when it fails; may be NULL */
    void *world;           /* whatever ends it */
    bool over;             /* it was told to its end */
    unsigned failed_line;
};

struct waited {
    struct io_net op;
    struct io_task *task;
    bool over;
};

static inline void waited_over(struct io_net *op)
{
    struct waited *w = CONTAINER(op, struct waited, op);
    w->over = true;
    if (w->task != NULL) io_task_wake(w->task);
}

static inline struct io_net *begin(struct waited *w)
{
    *w = (struct waited){.op.done = waited_over, .task = io_task_self()};
    return &w->op;
}

static inline enum err end(struct waited *w)
{
    while (!w->over) io_task_park();
    return w->op.err;
}

static inline enum err receive(struct io_socket *socket, void *buf, uint32_t size, uint32_t *ret_bytes)
{
    struct waited w;
    io_receive(socket, buf, size, begin(&w));
    enum err e = end(&w);
    *ret_bytes = w.op.bytes;
    return e;
}

#endif
