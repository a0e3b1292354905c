/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The judge of what initiators see: every block of a unit is a linearizable register.
 *
 * An operation on a register begins when an initiator may have sent it and ends when it knows what came of it. In between it
 * took place at one moment, or not at all. For each register the judge keeps all states that it may be in now: a value, and
 * which of the operations under way have taken place. Every end strikes out the states that do not fit; when none is left, no
 * order of events explains what was seen. That is exact: an acknowledged write that is missing, a value that comes back, a
 * write that takes place after its end, and two compare-and-writes that both won are all found, as soon as somebody looks.
 *
 * Values are 32-bit numbers; 0 is zeros.
 */
#ifndef IZAR_SIM_REGISTER_H
#define IZAR_SIM_REGISTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { REGISTER_OPS = 5 }; /* under way on one register */

struct registers;

struct registers *registers_open(uint32_t count);
void registers_close(struct registers *all); /* NULL is fine */

enum register_kind { REGISTER_READ, REGISTER_WRITE, REGISTER_SWAP };

/* True when one more may begin on each of these. */
bool registers_have_room(const struct registers *all, uint32_t from, uint32_t count);
/* Begins one; returns its slot. `value`: what is written; `expected`: what SWAP wants to be there. */
uint8_t register_begin(struct registers *all, uint32_t i, enum register_kind kind, uint32_t value, uint32_t expected);

enum register_end {
    REGISTER_DONE,    /* it took place: READ saw `value`, WRITE and SWAP wrote */
    REGISTER_SAME,    /* SWAP saw what it wanted, but did not write */
    REGISTER_DIFFERS, /* SWAP saw something else */
    REGISTER_MAYBE,   /* it took place before now, or never will */
    REGISTER_NEVER,   /* it did not and will not */
};
/* False: nothing explains it. */
bool register_end(struct registers *all, uint32_t i, uint8_t slot, enum register_end end, uint32_t value);

/* Nothing is under way, and there is one value only. */
bool register_is_sure(const struct registers *all, uint32_t i);
/* Whether it may have this value now. */
bool register_may_be(const struct registers *all, uint32_t i, uint32_t value);
/* One of the values that it may have now. */
uint32_t register_value(const struct registers *all, uint32_t i);
/* All that is known, for a message. Returns `buf`. */
const char *register_text(const struct registers *all, uint32_t i, char *buf, size_t size);

#endif
