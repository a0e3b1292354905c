/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contents and states. Nothing here is clever: it is what everything clever is compared with.
 */
#include "sim/oracle.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define CONTENT_MARK 0x7a6172697a000000u /* over it the id, in the first 8 bytes of every block that is not zeros */

/* ---- contents ---- */

/* How many of a block's bytes are random; the rest repeats or is zero. 3584 of 4096 is where compression stops to pay. */
static const uint16_t random_bytes[8] = {4096, 64, 2048, 8, 4096, 3500, 700, 3640};

void content_fill(uint32_t content, uint8_t ret_block[BLOCK_SIZE])
{
    uint32_t kind = content & 7, random = random_bytes[kind];
    struct prng prng;
    if (content == 0) {
        memset(ret_block, 0, BLOCK_SIZE);
        return;
    }
    prng_init(&prng, content);
    prng_fill(&prng, ret_block, random);
    memset(ret_block + random, 0, BLOCK_SIZE - random);
    for (uint32_t at = random; kind == 1 && at < BLOCK_SIZE; at += random) memcpy(ret_block + at, ret_block, random);
    le64 mark = put64(CONTENT_MARK ^ content);
    memcpy(ret_block, mark.b, 8);
}

uint32_t content_claimed(const uint8_t block[BLOCK_SIZE])
{
    le64 mark;
    memcpy(mark.b, block, 8);
    uint64_t content = get64(mark) ^ CONTENT_MARK;
    return content <= UINT32_MAX ? (uint32_t)content : 0;
}

bool content_is(uint32_t content, const uint8_t block[BLOCK_SIZE])
{
    static const uint8_t zeros[BLOCK_SIZE];
    uint8_t expected[BLOCK_SIZE];
    if (content == 0) return memcmp(zeros, block, BLOCK_SIZE) == 0;
    if (content_claimed(block) != content) return false;
    content_fill(content, expected);
    return memcmp(expected, block, BLOCK_SIZE) == 0;
}

uint32_t key_fill(uint32_t key, uint8_t ret_bytes[STATE_KEY_MAX])
{
    uint32_t length = 1 + key * 23 % STATE_KEY_MAX;
    memset(ret_bytes, key == LOCAL_KEY ? STATE_LOCAL : (int)('a' + key), length);
    return length;
}

uint32_t value_fill(uint32_t value, uint8_t ret_bytes[STATE_VALUE_MAX])
{
    struct prng prng;
    prng_init(&prng, value);
    uint32_t length = 1 + (uint32_t)prng_below(&prng, prng_chance(&prng, 100000) ? STATE_VALUE_MAX : 60);
    prng_fill(&prng, ret_bytes, length);
    return length;
}

/* ---- volumes ---- */

void volume_init(struct model_volume *v, uint32_t id)
{
    struct model_op *ops = v->ops;
    uint64_t room = v->room;
    memset(v, 0, sizeof *v);
    v->id = id;
    v->ops = ops; /* kept from the history before */
    v->room = room;
}

void volume_done(struct model_volume *v)
{
    free(v->ops);
    v->ops = NULL;
    v->room = 0;
}

struct model_op *volume_submit(struct model_volume *v)
{
    if (v->count == v->room) {
        v->room = v->room ? 2 * v->room : 64;
        v->ops = realloc(v->ops, v->room * sizeof *v->ops);
        if (!v->ops) abort();
    }
    memset(&v->ops[v->count], 0, sizeof v->ops[0]);
    return &v->ops[v->count++];
}

void volume_forget_after(struct model_volume *v, uint64_t sequence)
{
    assert(sequence >= v->now.sequence);
    if (sequence < v->count) v->count = sequence;
    if (sequence < v->acked) v->acked = sequence;
}

void volume_tail(const struct model_volume *v, bool *ret_exists, uint64_t *ret_blocks)
{
    bool exists = v->now.exists;
    uint64_t blocks = v->now.blocks;
    for (uint64_t i = v->now.sequence; i < v->count; i++) {
        if (v->ops[i].kind == RECORD_CREATE) exists = true;
        if (v->ops[i].kind == RECORD_DELETE) exists = false;
        if (v->ops[i].kind == RECORD_CREATE || v->ops[i].kind == RECORD_RESIZE) blocks = v->ops[i].lba;
    }
    *ret_exists = exists;
    *ret_blocks = blocks;
}

/* ---- states ---- */

static void cells_cut(const struct model_volume *v, struct model_state *state, uint64_t from, uint64_t to)
{
    for (uint32_t w = 0; w < v->window_count; w++) {
        const struct window *window = &v->windows[w];
        for (uint32_t i = 0; i < window->count; i++)
            if (window->lba + i >= from && window->lba + i < to) state->cells[window->cell + i] = 0;
    }
}

uint32_t *state_cell(const struct model_volume *v, struct model_state *state, uint64_t lba)
{
    for (uint32_t w = 0; w < v->window_count; w++) {
        const struct window *window = &v->windows[w];
        if (lba >= window->lba && lba - window->lba < window->count) return &state->cells[window->cell + (lba - window->lba)];
    }
    return NULL;
}

void state_apply(const struct model_volume *v, struct model_state *state, const struct model_op *op)
{
    switch (op->kind) {
    case RECORD_DATA:
        if (op->what != ENTRY_NEW) cells_cut(v, state, op->lba, op->lba + op->count);
        for (uint32_t i = 0; op->what == ENTRY_NEW && i < op->count; i++) {
            uint32_t *cell = state_cell(v, state, op->lba + i);
            assert(cell);
            if (op->stamp > 0 && op->lba + i >= state->blocks) break;
            *cell = op->contents[i];
        }
        break;
    case RECORD_STATE:
    case RECORD_MOVE: state->keys[op->key] = op->value; break;
    case RECORD_CREATE:
        state->exists = true;
        state->blocks = op->lba;
        break;
    case RECORD_DELETE:
        state->exists = false;
        memset(state->keys, 0, sizeof state->keys);
        memset(state->cells, 0, sizeof state->cells);
        break;
    case RECORD_RESIZE:
        state->blocks = op->lba;
        cells_cut(v, state, op->lba, UINT64_MAX);
        break;
    case RECORD_NOOP:
    case RECORD_DISCARD:
    case RECORD_GRAFT: break;
    }
}

void state_advance(const struct model_volume *v, struct model_state *state)
{
    assert(state->sequence < v->count);
    state_apply(v, state, &v->ops[state->sequence++]);
}

void state_at(const struct model_volume *v, uint64_t sequence, struct model_state *ret_state)
{
    memset(ret_state, 0, sizeof *ret_state);
    while (ret_state->sequence < sequence) state_advance(v, ret_state);
}

uint32_t state_block(const struct model_volume *v, const struct model_state *state, uint64_t lba)
{
    for (uint32_t w = 0; w < v->window_count; w++) {
        const struct window *window = &v->windows[w];
        if (lba >= window->lba && lba - window->lba < window->count) return state->cells[window->cell + (lba - window->lba)];
    }
    return 0;
}

bool op_touches(const struct model_op *op, uint64_t lba, uint32_t *ret_content)
{
    *ret_content = 0;
    switch (op->kind) {
    case RECORD_DATA:
        if (lba < op->lba || lba - op->lba >= op->count) return false;
        if (op->what == ENTRY_NEW) *ret_content = op->contents[lba - op->lba];
        return true;
    case RECORD_RESIZE: return lba >= op->lba;
    case RECORD_DELETE: return true;
    case RECORD_CREATE:
    case RECORD_STATE:
    case RECORD_NOOP:
    case RECORD_DISCARD:
    case RECORD_MOVE:
    case RECORD_GRAFT: break;
    }
    return false;
}
