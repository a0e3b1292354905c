/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dedupe index after a start: filled again from the summaries of all slots, a few at a time, behind the foreground.
 */
#include "store/internal.h"

enum { AT_ONCE = 16 };

struct rebuild {
    struct waiter waiter[AT_ONCE];
    uint32_t slot[AT_ONCE];
    uint32_t count;
};

/* Sealed segments and cleaned slots have fingerprints to tell. */
static bool has_prints(const struct store *s, uint32_t slot)
{
    const struct slot *sl = slot_peek(s, slot);
    if (!sl || sl->state != SLOT_IS_USED || sl->bad) return false;
    return sl->kind == SLOT_CLEANED || (sl->kind == SLOT_HEAD && sl->sealed);
}

static void index_insert_all(struct store *s, const struct summary *sum)
{
    for (uint32_t i = 0; sum->has_prints && i < sum->count; i++)
        index_insert(s->index, &sum->prints[i], locator_address(sum->locators[i]) / s->segment_bytes);
}

/* A few slots, all their summaries read at once. */
void rebuild_step(struct store *s)
{
    struct rebuild r = {.count = 0};
    uint32_t end = s->page_count * DIRECTORY_SLOTS;
    uint32_t most = (uint32_t)min64(AT_ONCE, max64(s->summaries.budget / 4 / (s->segment_bytes / 32), 2));
    for (; r.count < most && s->rebuild_next < end; s->rebuild_next++) {
        bool failed;
        if (!has_prints(s, s->rebuild_next)) continue;
        r.waiter[r.count].wake = waiter_ignore;
        summary_get(s, s->rebuild_next, true, &r.waiter[r.count], &failed);
        r.slot[r.count++] = s->rebuild_next;
    }
    struct task_waiter w;
    task_waiter_init(&w);
    for (uint32_t i = 0; i < r.count; i++) {
        bool failed = false;
        struct summary *sum = NULL;
        while (has_prints(s, r.slot[i]) && !(sum = summary_get(s, r.slot[i], true, &w.waiter, &failed)) && !failed)
            while (w.waiter.waiting) io_task_park();
        if (sum) index_insert_all(s, sum);
        io_task_yield(); /* some thousand insertions: the foreground gets its turn */
    }
    waiters_end(r.waiter, r.count);
}

bool rebuild_is_due(const struct store *s)
{
    return s->failed == OK && s->rebuild_next < s->page_count * DIRECTORY_SLOTS;
}
