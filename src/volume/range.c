/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Range locks: at most one change is under way on any block of a volume.
 *
 * A change holds its blocks from admission to its end, so what it reads of them (compare-and-write, parts of blocks) is the
 * outcome of its predecessor, and none of its neighbours on these blocks is prepared but not yet published. Waiting is by
 * arrival: a request waits for every earlier one that it overlaps, taken or not; so nobody starves and nobody deadlocks, since
 * a request has one range and takes it at once.
 *
 * The list is as long as requests are under way on the volume, which the pool of works and the sessions' windows bound.
 */
#include "store/mutation.h"
#include "volume/internal.h"

static bool overlap(const struct volume_request *a, const struct volume_request *b)
{
    return a->first < b->first + b->count && b->first < a->first + a->count;
}

/* Nothing before it in the list stands in its way. */
static bool is_free_for(const struct volume *volume, const struct volume_request *request)
{
    for (const struct list *l = volume->ranges.next; l != &request->range; l = l->next) {
        if (overlap(CONTAINER(l, struct volume_request, range), request)) return false;
    }
    return true;
}

bool range_take(struct volume *volume, struct volume_request *request)
{
    list_push(&volume->ranges, &request->range);
    request->holds = MUTATED(MUTATE_NO_RANGE_LOCK) || is_free_for(volume, request);
    return request->holds;
}

void range_give(struct volume *volume, struct volume_request *request)
{
    assert(request->holds);
    struct list *l = request->range.next;
    list_remove(&request->range);
    request->holds = false;
    for (; l != &volume->ranges; l = l->next) {
        struct volume_request *r = CONTAINER(l, struct volume_request, range);
        if (r->holds || !overlap(r, request) || !is_free_for(volume, r)) continue;
        r->holds = true;
        request_go_on(r);
    }
}
