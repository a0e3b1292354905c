/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The oracle: what a pool must hold, kept the simplest possible way.
 *
 * A volume is the list of its operations, as submitted; operation i has sequence i + 1. Any state it may have after a crash is
 * that list applied up to some sequence, so the oracle can tell what every block must be at any of them. Blocks hold
 * *contents*, 32-bit ids from which their bytes are made; 0 is zeros. To keep it small, data is only written inside a few
 * windows of a volume, wherever they lie; unmaps may be anywhere.
 */
#ifndef IZAR_SIM_ORACLE_H
#define IZAR_SIM_ORACLE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/prng.h"
#include "store/format.h"

enum {
    WINDOWS_MAX = 6,
    CELLS_MAX = 2048, /* blocks of a volume that can hold data */
    KEYS = 12,        /* keys of the keyed state in use */
    LOCAL_KEY = KEYS, /* and one that is not part of the order */
};

/* ---- contents ---- */

/* Makes the bytes of a content; the three lowest bits of the id choose how compressible they are. */
void content_fill(uint32_t content, uint8_t ret_block[BLOCK_SIZE]);
/* The content that a block claims to be by its first bytes, whatever the rest is; for messages. */
uint32_t content_claimed(const uint8_t block[BLOCK_SIZE]);
bool content_is(uint32_t content, const uint8_t block[BLOCK_SIZE]);
/* Bytes of key `key` and of value `value` (not 0). Return their length. */
uint32_t key_fill(uint32_t key, uint8_t ret_bytes[STATE_KEY_MAX]);
uint32_t value_fill(uint32_t value, uint8_t ret_bytes[STATE_VALUE_MAX]);

/* ---- operations and states ---- */

struct model_op {
    enum record_kind kind;
    enum entry_kind what;
    uint32_t epoch;
    uint64_t lba;
    uint32_t count;
    uint32_t contents[RECORD_BLOCKS_MAX]; /* NEW */
    uint32_t key, value;                  /* STATE, MOVE; value 0 removes */
    uint64_t stamp;                       /* of a step of catch-up */
    uint64_t request;
    uint64_t submitted, acked; /* when, in steps of the laboratory; acked 0: not yet */
};

struct window {
    uint64_t lba;
    uint32_t count;
    uint32_t cell; /* of its first block */
};

/* One state that a volume can be in. */
struct model_state {
    uint64_t sequence;
    bool exists;
    uint64_t blocks;
    uint32_t keys[KEYS + 1];
    uint32_t cells[CELLS_MAX];
};

struct model_volume {
    uint32_t id;
    struct window windows[WINDOWS_MAX];
    uint32_t window_count, cell_count;
    struct model_op *ops;
    uint64_t count, room;   /* submitted operations */
    uint64_t acked;         /* all up to here are durable */
    uint64_t discarding;    /* a discard from this sequence on is under way; 0: none */
    uint64_t rejected;      /* this one and those after it failed without a trace; 0: none */
    struct model_state now; /* as published; published is now.sequence */
};

void volume_init(struct model_volume *v, uint32_t id);
void volume_done(struct model_volume *v);
/* The next operation, cleared; its sequence is v->count afterwards. */
struct model_op *volume_submit(struct model_volume *v);
/* Operations after `sequence` never happened. */
void volume_forget_after(struct model_volume *v, uint64_t sequence);
/* What an operation makes of a state, beside its sequence. */
void state_apply(const struct model_volume *v, struct model_state *state, const struct model_op *op);
/* Brings a state forward by the next operation. */
void state_advance(const struct model_volume *v, struct model_state *state);
/* The state at a sequence. */
void state_at(const struct model_volume *v, uint64_t sequence, struct model_state *ret_state);
/* The cell of a block; NULL: it is in no window. */
uint32_t *state_cell(const struct model_volume *v, struct model_state *state, uint64_t lba);
/* Content of a block in a state. */
uint32_t state_block(const struct model_volume *v, const struct model_state *state, uint64_t lba);
/* What an operation makes of a block: false when it does not touch it. */
bool op_touches(const struct model_op *op, uint64_t lba, uint32_t *ret_content);
/* Size and being after all operations submitted so far: what the next one has to respect. */
void volume_tail(const struct model_volume *v, bool *ret_exists, uint64_t *ret_blocks);

#endif
