/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The judge of clusters: is every block a register whose changes and reads take place one after the other, each between the
 * moments when it was asked for and answered?
 *
 * Each change of a block has a number, and its content says which, so of every read it is known what it read. All that is
 * known of a number is kept as two moments: `latest`, when the last command that is about it was asked for (the change itself,
 * or a read that found it), and `earliest`, when the first of them was answered. A block can have been a register if and only
 * if no two numbers exclude each other: when `earliest` comes before `latest` the block held that number all the time between;
 * at that time it held no other, and none that needs all of its own time within that.
 *
 * A change that was given up may happen later, or never; but not any more when its client has written the same block again and
 * that was acknowledged (rule 12 of the replicas).
 *
 * Some blocks are updated only: what is written depends on what was read, and is refused when somebody else was quicker. So
 * each number there has one successor at most, and what was refused was never there.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "sim/cluster.h"
#include "sim/must.h"

enum { NUMBER_SHIFT = 12, BLOCK_SHIFT = 3, NEAR = 200 };
static_assert(CLUSTER_BLOCKS << BLOCK_SHIFT == 1 << NUMBER_SHIFT, "numbers and blocks do not meet");

/* ---- contents ---- */

uint32_t judge_content(uint32_t block, uint32_t number)
{
    return number == 0 ? 0 : number << NUMBER_SHIFT | block << BLOCK_SHIFT | (number * 5 + block) % 8;
}

/* The number that a block's content has; false: nobody wrote that. */
static bool number_of(const struct cluster *c, uint32_t block, const uint8_t *data, uint32_t *ret_number)
{
    uint32_t claimed = content_is(0, data) ? 0 : content_claimed(data);
    *ret_number = claimed >> NUMBER_SHIFT;
    if (*ret_number >= c->blocks[block].count) return false;
    return claimed == judge_content(block, *ret_number) && content_is(claimed, data);
}

/* ---- numbers ---- */

static uint32_t number_begin(struct cluster_block *b, uint64_t now)
{
    if (b->count == b->room) {
        b->room = b->room > 0 ? 2 * b->room : 32;
        b->numbers = must(realloc(b->numbers, b->room * sizeof *b->numbers));
    }
    b->numbers[b->count] = (struct cluster_number){.latest = now, .earliest = UINT64_MAX, .over = UINT64_MAX};
    return b->count++;
}

static bool exclude(const struct cluster_number *a, const struct cluster_number *b)
{
    bool held = a->earliest < a->latest || b->earliest < b->latest;
    return held && a->earliest < b->latest && b->earliest < a->latest;
}

static void number_judge(struct cluster *c, uint32_t block, uint32_t number)
{
    const struct cluster_block *b = &c->blocks[block];
    uint32_t first = number > NEAR ? number - NEAR : 0, end = min32(b->count, number + NEAR);
    for (uint32_t i = first; i < end; i++) {
        if (i == number || !exclude(&b->numbers[i], &b->numbers[number])) continue;
        lab_fail(c->lab, "block %u is no register: number %u from %llu to %llu, number %u from %llu to %llu (now %llu)", block,
                 number, (unsigned long long)b->numbers[number].earliest, (unsigned long long)b->numbers[number].latest, i,
                 (unsigned long long)b->numbers[i].earliest, (unsigned long long)b->numbers[i].latest,
                 (unsigned long long)c->moments);
        return;
    }
}

/* It was there for certain: it was seen, or acknowledged. `since`: of whom it was asked for. */
static void number_is(struct cluster *c, uint32_t block, uint32_t number, uint64_t since)
{
    struct cluster_block *b = &c->blocks[block];
    struct cluster_number *n = &b->numbers[number];
    if (n->refused) lab_fail(c->lab, "block %u holds number %u, which was refused", block, number);
    if (n->earliest == UINT64_MAX && block >= CLUSTER_OWNED && number > 0) {
        struct cluster_number *parent = &b->numbers[n->parent];
        if (parent->child != 0)
            lab_fail(c->lab, "block %u: number %u follows %u, and so does %u", block, number, n->parent, parent->child);
        parent->child = number;
    }
    if (since > n->over)
        lab_fail(c->lab, "block %u holds number %u, which was given up and followed by another", block, number);
    n->earliest = min64(n->earliest, c->moments);
    n->latest = max64(n->latest, since);
    number_judge(c, block, number);
}

/* ---- commands ---- */

void judge_issue(struct cluster_command *m)
{
    struct cluster *c = m->cluster;
    m->since = ++c->moments;
    for (uint32_t i = 0; m->verb == CLIENT_WRITE && i < m->count; i++) {
        struct cluster_block *b = &c->blocks[m->first + i];
        uint32_t before = m->client->given_up[i];
        m->numbers[i] = number_begin(b, c->moments);
        b->numbers[m->numbers[i]].parent = before;
        m->client->given_up[i] = m->numbers[i];
    }
}

static void judge_read(struct cluster_command *m, uint32_t i, uint32_t *ret_number)
{
    struct cluster *c = m->cluster;
    uint32_t block = m->first + i;
    if (!number_of(c, block, m->data + (size_t)i * BLOCK_SIZE, ret_number))
        lab_fail(c->lab, "client %u read block %u over node %u: nobody wrote that (number %u of %u)",
                 m->client != NULL ? m->client->number : UINT32_MAX, block, m->node->number, *ret_number,
                 c->blocks[block].count);
    else
        number_is(c, block, *ret_number, m->since);
}

bool judge_update(struct cluster_command *m)
{
    struct cluster *c = m->cluster;
    uint32_t parent;
    c->moments++;
    judge_read(m, 0, &parent);
    if (lab_failed(c->lab)) return false;
    m->numbers[0] = number_begin(&c->blocks[m->first], ++c->moments);
    c->blocks[m->first].numbers[m->numbers[0]].parent = parent;
    return true;
}

/* What was given up before it will not happen any more. */
static void write_is_done(struct cluster_command *m, uint32_t i)
{
    struct cluster *c = m->cluster;
    struct cluster_block *b = &c->blocks[m->first + i];
    uint32_t number = m->numbers[i];
    b->acked = number;
    number_is(c, m->first + i, number, m->since);
    while ((number = b->numbers[number].parent) != 0) b->numbers[number].over = c->moments;
    m->client->given_up[i] = 0;
}

void judge_answer(struct cluster_command *m, enum err err)
{
    struct cluster *c = m->cluster;
    uint32_t number;
    c->moments++;
    if (m->verb == CLIENT_UPDATE && m->changes && err == ERR_CONFLICT)
        c->blocks[m->first].numbers[m->numbers[0]].refused = true;
    for (uint32_t i = 0; m->verb == CLIENT_WRITE && err == ERR_NO_SPACE && i < m->count; i++)
        c->blocks[m->first + i].numbers[m->numbers[i]].refused = true;
    if (err != OK) return;
    for (uint32_t i = 0; m->verb == CLIENT_READ && i < m->count; i++) judge_read(m, i, &number);
    for (uint32_t i = 0; m->verb == CLIENT_WRITE && i < m->count; i++) write_is_done(m, i);
    if (m->verb != CLIENT_UPDATE) return;
    number_is(c, m->first, m->numbers[0], 0);
    c->counts.updates++;
}

void judge_look(struct cluster *c, uint32_t node, uint32_t block, const uint8_t *data)
{
    uint32_t number;
    c->moments++;
    if (!number_of(c, block, data, &number))
        lab_fail(c->lab, "node %u holds something in block %u that nobody wrote", node, block);
    else
        number_is(c, block, number, c->moments++);
    c->blocks[block].held = number;
}

/* ---- life ---- */

void judge_begin(struct cluster *c)
{
    for (uint32_t i = 0; i < CLUSTER_BLOCKS; i++) {
        c->blocks[i] = (struct cluster_block){.count = 0};
        number_begin(&c->blocks[i], 0);
        c->blocks[i].numbers[0].earliest = 0;
    }
}

void judge_end(struct cluster *c)
{
    for (uint32_t i = 0; i < CLUSTER_BLOCKS; i++) free(c->blocks[i].numbers);
}
