/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Registers and the states that they may be in.
 *
 * A state is normal when nobody has observed (read, or compared in vain) in it what could as well be observed now: such an
 * observer counts as one that is still to look. So observers look only right before the value changes, and changes are only
 * made when an end asks for them. That keeps the states few; where they are many all the same, nothing more may begin.
 */
#include "sim/register.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "sim/must.h"

enum { STATES_MAX = 20000, STATES_BUSY = 64 };
#define SWAPPED UINT32_MAX /* got, of a SWAP that wrote; of one that did not: 1 when it saw what it wanted, else 0 */

struct op {
    enum register_kind kind;
    uint32_t value, expected;
};

struct state {
    uint32_t value;
    uint32_t done; /* a bit an operation */
    uint32_t got[REGISTER_OPS];
};

struct reg {
    struct state *states;
    uint32_t count, room;
    uint32_t used; /* a bit a slot */
    struct op ops[REGISTER_OPS];
};

struct registers {
    struct reg *at;
    uint32_t count;
    struct state *seen; /* while an end is judged: all states reached, then those that fit */
    uint32_t seen_count, fit_count;
    struct state *fit;
};

struct registers *registers_open(uint32_t count)
{
    struct registers *all = must(calloc(1, sizeof *all));
    all->at = must(calloc(count, sizeof *all->at));
    all->count = count;
    all->seen = must(malloc(STATES_MAX * sizeof *all->seen));
    all->fit = must(malloc(STATES_MAX * sizeof *all->fit));
    for (uint32_t i = 0; i < count; i++) {
        all->at[i].states = must(calloc(1, sizeof(struct state)));
        all->at[i].count = all->at[i].room = 1;
    }
    return all;
}

void registers_close(struct registers *all)
{
    if (all == NULL) return;
    for (uint32_t i = 0; i < all->count; i++) free(all->at[i].states);
    free(all->at);
    free(all->seen);
    free(all->fit);
    free(all);
}

/* ---- beginning ---- */

bool registers_have_room(const struct registers *all, uint32_t from, uint32_t count)
{
    for (uint32_t i = from; i < from + count; i++)
        if (all->at[i].used == (1u << REGISTER_OPS) - 1 || all->at[i].count > STATES_BUSY) return false;
    return true;
}

uint8_t register_begin(struct registers *all, uint32_t i, enum register_kind kind, uint32_t value, uint32_t expected)
{
    struct reg *reg = &all->at[i];
    uint8_t slot = 0;
    while (reg->used & 1u << slot) slot++;
    assert(slot < REGISTER_OPS);
    reg->used |= 1u << slot;
    reg->ops[slot] = (struct op){kind, value, expected};
    return slot;
}

/* ---- states ---- */

static bool is_done(const struct state *s, uint8_t slot)
{
    return s->done & 1u << slot;
}

/* What an observer sees in a state; a write sees nothing. */
static uint32_t observation(const struct op *op, uint32_t value)
{
    return op->kind == REGISTER_READ ? value : value == op->expected;
}

static void state_normalize(const struct reg *reg, struct state *s)
{
    for (uint8_t k = 0; k < REGISTER_OPS; k++) {
        const struct op *op = &reg->ops[k];
        if (!is_done(s, k) || op->kind == REGISTER_WRITE) continue;
        if (op->kind == REGISTER_SWAP && s->got[k] == SWAPPED) continue;
        if (s->got[k] != observation(op, s->value)) continue;
        s->done &= ~(1u << k);
        s->got[k] = 0;
    }
}

static void state_add(struct state *to, uint32_t *count, const struct state *s)
{
    for (uint32_t i = 0; i < *count; i++)
        if (memcmp(&to[i], s, sizeof *s) == 0) return;
    assert(*count < STATES_MAX); /* fewer operations at once, or the judge cannot follow */
    to[(*count)++] = *s;
}

static bool can_change(const struct reg *reg, const struct state *s, uint8_t slot)
{
    const struct op *op = &reg->ops[slot];
    if (!(reg->used & 1u << slot) || is_done(s, slot) || op->kind == REGISTER_READ) return false;
    return op->kind == REGISTER_WRITE || s->value == op->expected;
}

/* `slot` takes place in `s`, after each choice of observers has looked. */
static void change(struct registers *all, const struct reg *reg, const struct state *s, uint8_t slot)
{
    uint32_t observers = 0;
    for (uint8_t k = 0; k < REGISTER_OPS; k++)
        if (k != slot && (reg->used & 1u << k) && !is_done(s, k) && reg->ops[k].kind != REGISTER_WRITE) observers |= 1u << k;
    for (uint32_t look = observers;; look = (look - 1) & observers) {
        struct state next = *s;
        for (uint8_t k = 0; k < REGISTER_OPS; k++) {
            if (!(look & 1u << k)) continue;
            next.done |= 1u << k;
            next.got[k] = observation(&reg->ops[k], s->value);
        }
        next.value = reg->ops[slot].value;
        next.done |= 1u << slot;
        next.got[slot] = reg->ops[slot].kind == REGISTER_SWAP ? SWAPPED : 0;
        state_normalize(reg, &next);
        state_add(all->seen, &all->seen_count, &next);
        if (look == 0) return;
    }
}

/* ---- ending ---- */

enum fit { FIT_NOT, FIT_NOT_YET, FIT };

/* Whether a state explains the end, or one behind it may. */
static enum fit fit_of(const struct op *op, const struct state *s, uint8_t slot, enum register_end end, uint32_t value)
{
    bool done = is_done(s, slot), swapped = done && op->kind == REGISTER_SWAP && s->got[slot] == SWAPPED;
    bool took_place = op->kind == REGISTER_WRITE ? done : swapped;
    uint32_t sees = done ? s->got[slot] : observation(op, s->value), wanted = value;
    switch (end) {
    case REGISTER_MAYBE: return FIT;
    case REGISTER_NEVER: return took_place ? FIT_NOT : FIT;
    case REGISTER_DONE:
        if (op->kind != REGISTER_READ) return took_place ? FIT : done ? FIT_NOT : FIT_NOT_YET;
        break;
    case REGISTER_SAME:
    case REGISTER_DIFFERS: wanted = end == REGISTER_SAME; break;
    }
    if (swapped) return FIT_NOT;
    return sees == wanted ? FIT : done ? FIT_NOT : FIT_NOT_YET;
}

/* An end that leaves it open whether it took place needs the states in which it did, too. */
static bool goes_on(const struct op *op, const struct state *s, uint8_t slot, enum register_end end, enum fit fit)
{
    if (fit == FIT_NOT_YET) return true;
    return end == REGISTER_MAYBE && op->kind != REGISTER_READ && !is_done(s, slot);
}

bool register_end(struct registers *all, uint32_t i, uint8_t slot, enum register_end end, uint32_t value)
{
    struct reg *reg = &all->at[i];
    const struct op op = reg->ops[slot];
    assert(reg->used & 1u << slot);
    all->seen_count = all->fit_count = 0;
    for (uint32_t k = 0; k < reg->count; k++) state_add(all->seen, &all->seen_count, &reg->states[k]);
    for (uint32_t k = 0; k < all->seen_count; k++) {
        struct state s = all->seen[k];
        enum fit fit = fit_of(&op, &s, slot, end, value);
        if (goes_on(&op, &s, slot, end, fit))
            for (uint8_t w = 0; w < REGISTER_OPS; w++)
                if (can_change(reg, &s, w)) change(all, reg, &s, w);
        if (fit != FIT) continue;
        if (end == REGISTER_MAYBE && k >= reg->count && !is_done(&s, slot)) continue; /* says no more than where it came from */
        s.done &= ~(1u << slot);
        s.got[slot] = 0;
        state_add(all->fit, &all->fit_count, &s);
    }
    if (all->fit_count == 0) return false;
    reg->used &= ~(1u << slot);
    if (all->fit_count > reg->room) {
        reg->room = all->fit_count;
        reg->states = must(realloc(reg->states, reg->room * sizeof *reg->states));
    }
    memcpy(reg->states, all->fit, all->fit_count * sizeof *reg->states);
    reg->count = all->fit_count;
    return true;
}

/* ---- looking ---- */

bool register_is_sure(const struct registers *all, uint32_t i)
{
    return all->at[i].used == 0 && all->at[i].count == 1;
}

bool register_may_be(const struct registers *all, uint32_t i, uint32_t value)
{
    for (uint32_t k = 0; k < all->at[i].count; k++)
        if (all->at[i].states[k].value == value) return true;
    return false;
}

uint32_t register_value(const struct registers *all, uint32_t i)
{
    return all->at[i].states[0].value;
}

const char *register_text(const struct registers *all, uint32_t i, char *buf, size_t size)
{
    static const char *const names[] = {"read", "write", "swap"};
    const struct reg *reg = &all->at[i];
    struct text t;
    text_init(&t, buf, size);
    text_add(&t, "may be");
    for (uint32_t k = 0; k < reg->count && k < 6; k++) text_add(&t, " %x", reg->states[k].value);
    text_add(&t, "; under way:");
    for (uint8_t k = 0; k < REGISTER_OPS; k++)
        if (reg->used & 1u << k) text_add(&t, " %s %x", names[reg->ops[k].kind], reg->ops[k].value);
    return buf;
}
