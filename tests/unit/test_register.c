/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the judge of serving histories calls right what is right and wrong what is wrong. Method: small histories of one
 * register, each with the verdict that it must get; and many random ones of a register that is simulated correctly.
 */
#include "base/prng.h"
#include "check.h"
#include "sim/register.h"

static struct registers *all;

static void fresh(void)
{
    registers_close(all);
    all = registers_open(1);
}

static uint8_t reading(void)
{
    return register_begin(all, 0, REGISTER_READ, 0, 0);
}

static uint8_t writing(uint32_t value)
{
    return register_begin(all, 0, REGISTER_WRITE, value, 0);
}

static uint8_t swapping(uint32_t expected, uint32_t value)
{
    return register_begin(all, 0, REGISTER_SWAP, value, expected);
}

static bool ends(uint8_t slot, enum register_end end, uint32_t value)
{
    return register_end(all, 0, slot, end, value);
}

static bool reads(uint32_t value)
{
    return ends(reading(), REGISTER_DONE, value);
}

TEST(what_was_acknowledged_is_read)
{
    fresh();
    CHECK(reads(0));
    CHECK(ends(writing(7), REGISTER_DONE, 7));
    CHECK(reads(7));
    CHECK(!reads(0));
}

TEST(a_concurrent_read_sees_old_or_new)
{
    for (uint32_t sees = 0; sees < 3; sees++) {
        fresh();
        uint8_t read = reading(), write = writing(1);
        CHECK(ends(write, REGISTER_DONE, 1));
        CHECK_EQ(ends(read, REGISTER_DONE, sees), sees < 2);
    }
}

TEST(what_was_seen_does_not_go_back)
{
    fresh();
    uint8_t write = writing(1);
    CHECK(reads(0));
    CHECK(reads(1));
    CHECK(!reads(0));
    (void)write;
}

TEST(an_unanswered_write_took_place_or_never_will)
{
    fresh();
    CHECK(ends(writing(1), REGISTER_MAYBE, 1));
    CHECK(reads(0));
    CHECK(!reads(1));
    fresh();
    CHECK(ends(writing(1), REGISTER_MAYBE, 1));
    CHECK(reads(1));
    CHECK(!reads(0));
}

/* Two unanswered writes and a read that was under way with both. */
TEST(the_order_of_unanswered_writes_is_open)
{
    fresh();
    uint8_t a = writing(1), b = writing(2), read = reading();
    CHECK(ends(a, REGISTER_MAYBE, 1));
    CHECK(ends(b, REGISTER_MAYBE, 2));
    CHECK(reads(2));
    CHECK(ends(read, REGISTER_DONE, 1)); /* it looked in between */
    CHECK(!reads(1));
}

TEST(what_was_refused_is_never_seen)
{
    fresh();
    uint8_t write = writing(1);
    CHECK(ends(write, REGISTER_NEVER, 1));
    CHECK(!reads(1));
    fresh();
    write = writing(1);
    CHECK(reads(1));
    CHECK(!ends(write, REGISTER_NEVER, 1));
}

TEST(of_two_swaps_one_wins)
{
    fresh();
    uint8_t a = swapping(0, 1), b = swapping(0, 2);
    CHECK(ends(a, REGISTER_DONE, 1));
    CHECK(!ends(b, REGISTER_DONE, 2));
    CHECK(ends(b, REGISTER_DIFFERS, 0));
    CHECK(reads(1));
}

TEST(a_swap_sees_what_is_there)
{
    fresh();
    CHECK(!ends(swapping(0, 1), REGISTER_DIFFERS, 0));
    fresh();
    CHECK(!ends(swapping(5, 1), REGISTER_DONE, 1));
    fresh();
    CHECK(ends(swapping(0, 1), REGISTER_SAME, 0));
    CHECK(reads(0));
    CHECK(!reads(1));
}

/* ---- a register that works ---- */

struct active {
    bool used, done;
    enum register_kind kind;
    uint32_t value, expected, saw;
    uint8_t slot;
};

static void take_place(struct active *a, uint32_t *now)
{
    a->done = true;
    a->saw = *now;
    if (a->kind == REGISTER_WRITE || (a->kind == REGISTER_SWAP && *now == a->expected)) *now = a->value;
}

static bool end_of(const struct active *a)
{
    if (a->kind == REGISTER_READ) return ends(a->slot, REGISTER_DONE, a->saw);
    if (a->kind == REGISTER_SWAP && a->saw != a->expected) return ends(a->slot, REGISTER_DIFFERS, 0);
    return ends(a->slot, REGISTER_DONE, a->value);
}

TEST(what_works_is_called_right)
{
    struct prng prng;
    prng_init(&prng, 1);
    for (int history = 0; history < 300; history++) {
        struct active active[REGISTER_OPS] = {0};
        uint32_t now = 0;
        fresh();
        for (int step = 0; step < 100; step++) {
            struct active *a = &active[prng_below(&prng, REGISTER_OPS)];
            if (!a->used && registers_have_room(all, 0, 1)) {
                *a = (struct active){true,
                                     false,
                                     (enum register_kind)prng_below(&prng, 3),
                                     (uint32_t)prng_below(&prng, 4),
                                     (uint32_t)prng_below(&prng, 4),
                                     0,
                                     0};
                a->slot = register_begin(all, 0, a->kind, a->value, a->expected);
            } else if (a->used && !a->done && prng_below(&prng, 2)) {
                take_place(a, &now);
            } else if (a->used) {
                a->used = false;
                bool lost = prng_below(&prng, 4) == 0;
                CHECK(a->done && !lost ? end_of(a) : ends(a->slot, REGISTER_MAYBE, 0));
            }
        }
    }
    registers_close(all);
    all = NULL;
}

TESTS(what_was_acknowledged_is_read, a_concurrent_read_sees_old_or_new, what_was_seen_does_not_go_back,
      an_unanswered_write_took_place_or_never_will, the_order_of_unanswered_writes_is_open, what_was_refused_is_never_seen,
      of_two_swaps_one_wins, a_swap_sees_what_is_there, what_works_is_called_right)
