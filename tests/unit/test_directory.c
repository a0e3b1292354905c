/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the directory names the slot of every log address, whatever came and went. Method: random additions, removals and
 * searches beside a naive model, an array with one element a unit; then the patterns of life: appended in order, thinned
 * out, replaced by longer runs; and the limits: room for runs, memory that runs out.
 */
#include <stdlib.h>

#include "base/prng.h"
#include "check.h"
#include "store/directory.h"

enum { UNITS = 60000 };

/* What the model knows of a unit: the start of the run that covers it plus 1, or 0; of a start also length and slot. */
static uint32_t covered[UNITS], length[UNITS], slot_at[UNITS];
static uint32_t model_runs;

static bool model_free(uint32_t start, uint32_t units)
{
    for (uint32_t u = start; u < start + units; u++)
        if (u >= UNITS || covered[u] != 0) return false;
    return true;
}

static void model_set(uint32_t start, uint32_t units, uint32_t value)
{
    for (uint32_t u = start; u < start + units; u++) covered[u] = value;
}

static bool add_both(struct directory *directory, uint32_t start, uint32_t units, uint32_t slot)
{
    if (!directory_add(directory, &(struct directory_run){start, units, slot})) return false;
    model_set(start, units, start + 1);
    length[start] = units;
    slot_at[start] = slot;
    model_runs++;
    return true;
}

static void remove_both(struct directory *directory, uint32_t start)
{
    directory_remove(directory, start);
    model_set(start, length[start], 0);
    model_runs--;
}

static bool is_run_at(const struct directory_run *run, uint32_t unit)
{
    uint32_t start = covered[unit] - 1;
    return run->start == start && run->units == length[start] && run->slot == slot_at[start];
}

static bool finds_as_model(const struct directory *directory, uint32_t unit)
{
    struct directory_run run;
    if (directory_find(directory, unit, &run) != (covered[unit] != 0)) return false;
    if (covered[unit] != 0 && !is_run_at(&run, unit)) return false;
    uint32_t next = unit;
    while (next < UNITS && covered[next] == 0) next++;
    if (directory_next(directory, unit, &run) != (next < UNITS)) return false;
    return next == UNITS || is_run_at(&run, next);
}

/* Walks all runs in address order. */
static bool walks_as_model(const struct directory *directory)
{
    struct directory_run run;
    uint64_t unit = 0;
    uint32_t runs = 0;
    while (directory_next(directory, unit, &run)) {
        if (run.start < unit || !is_run_at(&run, (uint32_t)run.start)) return false;
        unit = run.start + run.units;
        runs++;
    }
    return runs == model_runs && directory_runs(directory) == model_runs;
}

static void model_clear(void)
{
    memset(covered, 0, sizeof covered);
    model_runs = 0;
}

/* Some hundred random steps of a phase; `grow` in a hundred are additions. */
static bool random_phase(struct directory *directory, struct prng *prng, uint32_t steps, uint32_t grow, uint32_t longest)
{
    for (uint32_t i = 0; i < steps; i++) {
        uint32_t unit = (uint32_t)prng_below(prng, UNITS);
        if (prng_below(prng, 100) < grow) {
            uint32_t units = 1 + (uint32_t)prng_below(prng, longest);
            if (model_free(unit, units) && !add_both(directory, unit, units, (uint32_t)prng_next(prng))) return false;
        } else if (covered[unit] != 0) {
            remove_both(directory, covered[unit] - 1);
        }
        if (!finds_as_model(directory, (uint32_t)prng_below(prng, UNITS))) return false;
    }
    return true;
}

TEST(it_agrees_with_a_naive_model)
{
    struct prng prng;
    prng_init(&prng, 42);
    struct mem *mem = mem_open(1 << 24);
    struct directory *directory = directory_open(mem, UNITS);
    model_clear();
    CHECK(finds_as_model(directory, 0));
    static const uint32_t grow[] = {100, 20, 100, 0, 60, 50, 100, 5};
    static const uint32_t longest[] = {3, 3, 1, 1, 50, 2, 4, 1};
    for (int phase = 0; phase < 8; phase++) {
        CHECK(random_phase(directory, &prng, 20000, grow[phase], longest[phase]));
        CHECK(walks_as_model(directory));
        for (uint32_t unit = 0; unit < UNITS; unit += 97) CHECK(finds_as_model(directory, unit));
    }
    CHECK(directory_ram(directory) <= mem_used(mem));
    mem_close(mem);
}

TEST(it_empties_and_fills_again)
{
    struct mem *mem = mem_open(1 << 24);
    struct directory *directory = directory_open(mem, 10000);
    model_clear();
    uint64_t ram = 0;
    for (int round = 0; round < 4; round++) {
        for (uint32_t i = 0; i < 10000; i++) CHECK(add_both(directory, i * 6, 6, i));
        CHECK(walks_as_model(directory));
        if (round == 0) ram = directory_ram(directory);
        for (uint32_t i = 0; i < 10000; i++) remove_both(directory, (round % 2 ? i : 9999 - i) * 6);
        CHECK_EQ(directory_runs(directory), 0);
        CHECK(!directory_find(directory, 5, &(struct directory_run){0}));
        CHECK_EQ(directory_ram(directory), ram); /* blocks are kept, and are enough */
    }
    mem_close(mem);
}

TEST(blocks_in_order_are_full)
{
    struct mem *mem = mem_open(1 << 26);
    struct directory *directory = directory_open(mem, 100000);
    uint64_t empty = directory_ram(directory);
    for (uint64_t i = 0; i < 100000; i++) CHECK(directory_add(directory, &(struct directory_run){i * 1000, 1000, (uint32_t)i}));
    CHECK(directory_ram(directory) - empty <= 100000 * 17);
    CHECK(empty <= 100000);
    mem_close(mem);
}

TEST(thinned_blocks_join)
{
    struct mem *mem = mem_open(1 << 24);
    struct directory *directory = directory_open(mem, 20000);
    for (uint64_t i = 0; i < 20000; i++) CHECK(directory_add(directory, &(struct directory_run){i * 10, 10, 0}));
    uint64_t ram = directory_ram(directory);
    for (uint64_t i = 0; i < 20000; i++)
        if (i % 50) directory_remove(directory, i * 10);
    for (uint64_t i = 0; i < 19600; i++) CHECK(directory_add(directory, &(struct directory_run){(20000 + i) * 10, 10, 0}));
    CHECK(directory_ram(directory) <= ram + 3 * 4096); /* the blocks given up took nearly all */
    mem_close(mem);
}

TEST(it_ends_at_its_limit)
{
    struct mem *mem = mem_open(1 << 20);
    struct directory *directory = directory_open(mem, 3);
    struct directory_run run;
    for (uint64_t i = 0; i < 3; i++) CHECK(directory_add(directory, &(struct directory_run){i * 2, 1, 0}));
    CHECK(!directory_add(directory, &(struct directory_run){99, 1, 0}));
    CHECK_EQ(directory_runs(directory), 3);
    CHECK(!directory_find(directory, 99, &run));
    directory_remove(directory, 2);
    CHECK(directory_add(directory, &(struct directory_run){99, 1, 0}));
    mem_close(mem);
}

TEST(memory_that_runs_out_changes_nothing)
{
    struct prng prng;
    prng_init(&prng, 7);
    struct mem *mem = mem_open(1 << 16);
    struct directory *directory = directory_open(mem, UNITS / 30);
    model_clear();
    CHECK(directory != NULL);
    uint32_t refused = 0;
    for (int i = 0; i < 20000; i++) {
        uint32_t unit = (uint32_t)prng_below(&prng, UNITS);
        if (model_free(unit, 1) && !add_both(directory, unit, 1, (uint32_t)i)) refused++;
        if (i % 500 == 0) CHECK(walks_as_model(directory));
    }
    CHECK(refused > 0);
    CHECK(walks_as_model(directory));
    CHECK(directory_open(mem, UINT32_MAX) == NULL);
    mem_close(mem);
}

TEST(the_ends_of_the_log_are_addresses_too)
{
    struct mem *mem = mem_open(1 << 20);
    struct directory *directory = directory_open(mem, 10);
    struct directory_run run;
    uint64_t end = (uint64_t)1 << 55;
    CHECK(directory_add(directory, &(struct directory_run){end - UINT32_MAX, UINT32_MAX, 5}));
    CHECK(directory_add(directory, &(struct directory_run){0, 1, 6}));
    CHECK(directory_find(directory, end - 1, &run));
    CHECK_EQ(run.slot, 5);
    CHECK(!directory_find(directory, end, &run));
    CHECK(!directory_next(directory, end, &run));
    CHECK(directory_find(directory, 0, &run));
    CHECK(directory_next(directory, 1, &run));
    CHECK_EQ(run.slot, 5);
    CHECK(!directory_find(directory, UINT64_MAX, &run));
    mem_close(mem);
}

TESTS(it_agrees_with_a_naive_model, it_empties_and_fills_again, blocks_in_order_are_full, thinned_blocks_join,
      it_ends_at_its_limit, memory_that_runs_out_changes_nothing, the_ends_of_the_log_are_addresses_too)
