/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waiting inside the store: lists of waiters that are woken together and try again. A wake is never inline: woken waiters
 * run from the loop, so whoever wakes need not fear that the ground moves under it.
 */
#include "store/internal.h"

void waiter_wait(struct list *list, struct waiter *w)
{
    assert(!w->waiting);
    w->waiting = true;
    list_push(list, &w->link);
}

static void run_woken(struct io_msg *msg)
{
    struct store *s = CONTAINER(msg, struct store, wake_msg);
    s->wake_sent = false;
    struct list mine;
    list_init(&mine);
    for (struct list *l; (l = list_pop(&s->waking));) list_push(&mine, l);
    for (struct list *l; (l = list_pop(&mine));) {
        struct waiter *w = CONTAINER(l, struct waiter, link);
        w->waiting = false;
        w->wake(w);
    }
}

void waiters_wake(struct store *s, struct list *list)
{
    for (struct list *l; (l = list_pop(list));) list_push(&s->waking, l);
    if (list_empty(&s->waking) || s->wake_sent) return;
    s->wake_sent = true;
    s->wake_msg.handle = run_woken;
    io_send(s->io, &s->wake_msg);
}

static void wake_task(struct waiter *w)
{
    struct task_waiter *tw = CONTAINER(w, struct task_waiter, waiter);
    io_task_wake(tw->task);
}

void task_waiter_init(struct task_waiter *w)
{
    *w = (struct task_waiter){.waiter.wake = wake_task, .task = io_task_self()};
    assert(w->task);
}

void waiter_ignore(struct waiter *w)
{
    (void)w;
}

void waiters_end(struct waiter *waiters, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (!waiters[i].waiting) continue;
        list_remove(&waiters[i].link);
        waiters[i].waiting = false;
    }
}
