/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the pool of contents keeps one volume, or one use, from taking what others need. Method: a pool that volumes draw from
 * as long as they get something.
 */
#include "tests/check.h"

#include "base/prng.h"
#include "volume/replica/content.h"

enum { CONTENTS = 10, ALONE = 8, VOLUMES = 40, ROUNDS = 2000 };

static struct mem *mem;
static struct replica_contents pool;
static struct replica_content *held[CONTENTS * CONTENT_USES];
static uint32_t held_count;

static bool begin(void)
{
    mem = mem_open(32 << 20);
    held_count = 0;
    return mem != NULL && contents_init(&pool, mem, CONTENTS) == OK;
}

static bool take(enum content_use use, uint32_t volume)
{
    struct replica_content *content = content_take(&pool, use, volume, ENTRY_NEW, 1);
    if (content != NULL) held[held_count++] = content;
    return content != NULL;
}

static uint32_t take_all(enum content_use use, uint32_t volume)
{
    uint32_t count = 0;
    while (take(use, volume)) count++;
    return count;
}

TEST(one_volume_leaves_some)
{
    static const enum content_use shared[] = {CONTENT_LOCAL, CONTENT_FORWARD};
    for (int i = 0; i < 2; i++) {
        CHECK(begin());
        CHECK_EQ(take_all(shared[i], 1), ALONE);
        CHECK(take_all(shared[i], 2) > 0);
        content_drop(&pool, held[0]);
        CHECK(take(shared[i], 3));
        mem_close(mem);
    }
}

/* What waits for nothing but a disk is not shared out. */
TEST(records_are_taken_as_they_come)
{
    CHECK(begin());
    CHECK_EQ(take_all(CONTENT_RECORD, 1), CONTENTS);
    CHECK(take(CONTENT_LOCAL, 1)); /* of its own */
    mem_close(mem);
}

/* Whoever holds nothing gets something as long as there is something. */
TEST(who_has_none_is_not_refused)
{
    struct prng p;
    uint32_t has[VOLUMES] = {0};
    CHECK(begin());
    prng_init(&p, 5);
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t volume = (uint32_t)prng_below(&p, VOLUMES);
        if (prng_below(&p, 3) == 0 && held_count > 0) {
            struct replica_content *content = held[--held_count];
            has[content->volume]--;
            content_drop(&pool, content);
        }
        bool there = content_is_there(&pool, CONTENT_LOCAL), got = take(CONTENT_LOCAL, volume);
        CHECK(got || !there || has[volume] > 0);
        CHECK(!got || there);
        has[volume] += got;
    }
    mem_close(mem);
}

TESTS(one_volume_leaves_some, records_are_taken_as_they_come, who_has_none_is_not_refused)
