/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a volume holds, told to others: a digest of its content, and what changed in it since some operation.
 */
#include "base/hash.h"
#include "store/internal.h"

/* Size and keyed state, but for keys that are the replica's own. */
void state_digest(const struct volume *v, uint64_t ret_state[2])
{
    uint64_t state[2] = {v->blocks, 0};
    for (uint32_t i = 0; i < v->state_count; i++) {
        const struct state_entry *e = &v->state[i];
        if (e->bytes[0] == STATE_LOCAL) continue;
        struct hash128 h = hash128(e->bytes, (size_t)e->key_bytes + e->value_bytes, state[0] ^ e->key_bytes);
        state[0] = h.low + state[1];
        state[1] = h.high + 1;
    }
    memcpy(ret_state, state, sizeof state);
}

enum { DIGEST_TRIES = 8 };

/* The tree is brought to what is published, and then it counts only if nothing was published while that took place. What is
 * left to bring there after the first time is little. */
enum err store_volume_digest(struct store *s, uint32_t volume, uint64_t *ret_sequence, uint64_t ret_digest[4])
{
    for (uint32_t tries = 0; tries < DIGEST_TRIES; tries++) {
        const struct volume *v = volume_find(s, volume);
        uint64_t effects = v ? v->effects : 0;
        struct want w = {.what = WANT_DIGEST, .volume = volume};
        TRY(upkeep_ask(s, &w));
        v = volume_find(s, volume);
        if (!v) return ERR_NO_VOLUME;
        if (w.effects != effects && !MUTATED(MUTATE_DIGEST_BLURRED)) continue;
        memcpy(ret_digest, w.digest, sizeof w.digest);
        *ret_sequence = w.sequence;
        return OK;
    }
    return ERR_AGAIN;
}

struct changes {
    struct volume *v;
    void (*each)(void *arg, uint64_t lba, uint32_t count);
    void *arg;
};

static void changed_whole(const struct changes *c, uint64_t lba, uint64_t count)
{
    for (uint64_t end = min64(lba + count, c->v->blocks); lba < end; lba += UINT32_MAX)
        c->each(c->arg, lba, (uint32_t)min64(end - lba, UINT32_MAX));
}

/* What changed in what the page covers, a page whose pointer is newer than `since`. One that is gone by now was unmapped. */
static enum err changed_below(struct store *s, const struct changes *c, uint8_t level, uint64_t index, uint64_t since)
{
    struct frame *f;
    uint64_t blocks = LEAF_BLOCKS; /* of a child */
    for (uint8_t k = 1; k < level; k++) blocks *= INNER_FANOUT;
    TRY(map_page(s, c->v, level, index, false, &f));
    if (!f) changed_whole(c, index * INNER_FANOUT * blocks, INNER_FANOUT * blocks);
    enum err err = OK;
    for (uint32_t i = 0; f && err == OK && i < INNER_FANOUT; i++) {
        struct pointer p = f->u.inner.children[i];
        uint64_t child = index * INNER_FANOUT + i;
        if (p.newest <= since && !p.graft) continue;
        if (level > 1 && p.locator)
            err = changed_below(s, c, (uint8_t)(level - 1), child, p.graft ? 0 : since);
        else
            changed_whole(c, child * blocks, blocks);
    }
    map_unpin(s, f);
    return err;
}

enum err store_changed_since(struct store *s, uint32_t volume, uint64_t since,
                             void (*each)(void *arg, uint64_t lba, uint32_t count), void *arg)
{
    struct want w = {.what = WANT_DIGEST, .volume = volume};
    TRY(upkeep_ask(s, &w));
    struct volume *v = volume_find(s, volume);
    if (!v) return ERR_NO_VOLUME;
    if (v->root.newest <= since) return OK;
    struct changes changes = {v, each, arg};
    s->tree_users++;
    enum err err = changed_below(s, &changes, INNER_LEVELS, 0, since);
    s->tree_users--;
    return err;
}

/* ---- by cursor ---- */

/*
 * Looks at the tree and the delta in one moment, so that what is flushed meanwhile is seen in one of them. A pointer knows
 * what was flushed below it only as far as the page that it leads to is not newer in memory.
 */

/* The pointer to a page, or to the lowest page above it that there is, and its level, as it is when this returns; no wait
 * follows. */
static enum err pointer_above(struct store *s, struct volume *v, uint8_t level, uint64_t index, struct pointer *ret_pointer,
                              uint8_t *ret_level)
{
    for (;;) {
        uint64_t at = index;
        uint8_t k = level;
        struct frame *f = NULL;
        for (; k < INNER_LEVELS && !f; k++, at /= INNER_FANOUT) {
            TRY(map_page(s, v, (uint8_t)(k + 1), at / INNER_FANOUT, false, &f));
            if (f) break;
        }
        *ret_pointer = *map_pointer(v, f, at);
        *ret_level = k;
        map_unpin(s, f);
        if (k == level || (ret_pointer->locator == 0 && !frame_is_dirty(s, v, k, at))) return OK;
        /* While this waited the page was made that it had not found. */
    }
}

/* What the pointer says, and a cut that has not reached the tree yet. */
static bool is_newer(const struct volume *v, const struct pointer *p, uint64_t end, uint64_t since)
{
    return p->newest > since || p->graft || (end > v->cut && v->cut_sequence > since);
}

struct leaf_changes {
    uint64_t bits[LEAF_BLOCKS / 64];
    bool any;
};

static void delta_changes(struct store *s, const struct delta_leaf *dl, struct leaf_changes *ret)
{
    if (dl->base != DELTA_BASE_DISK) memset(ret->bits, 0xff, sizeof ret->bits);
    for (uint32_t i = dl->first; i; i = s->delta.entries[i - 1].leaf_next) {
        uint32_t at = s->delta.entries[i - 1].at;
        ret->bits[at / 64] |= (uint64_t)1 << (at % 64);
    }
    ret->any = true;
}

/* What is in pages is told for whole leaves, what is in the delta block by block. */
static enum err leaf_changes(struct store *s, struct volume *v, uint64_t index, uint64_t since, struct leaf_changes *ret)
{
    struct pointer p;
    uint8_t level;
    TRY(pointer_above(s, v, 0, index, &p, &level));
    memset(ret, 0, sizeof *ret);
    const struct delta_leaf *dl = delta_leaf_find(s, v, index);
    if (since == 0 || is_newer(v, &p, (index + 1) * LEAF_BLOCKS, since)) {
        memset(ret->bits, 0xff, sizeof ret->bits);
        ret->any = true;
    } else if (dl && dl->newest > since) {
        delta_changes(s, dl, ret);
    }
    return OK;
}

/* The first leaf of the delta within [from, to) that changed; `to`: none did. A short delta is looked through. */
static uint64_t delta_first(struct store *s, const struct volume *v, uint64_t from, uint64_t to, uint64_t since)
{
    const struct delta_leaf *dl;
    if (v->leaf_count < INNER_FANOUT) {
        for (struct list *l = v->leaves.next; l != &v->leaves; l = l->next) {
            dl = CONTAINER(l, struct delta_leaf, by_volume);
            if (dl->newest > since && dl->index >= from) to = min64(to, dl->index);
        }
        return to;
    }
    for (; from < to; from++)
        if ((dl = delta_leaf_find(s, v, from)) != NULL && dl->newest > since) break;
    return from;
}

/* Nothing changed from leaf `index` up to this one; `index`: nothing is known without a look at the leaf. Where no page is,
 * this is far. */
static enum err quiet_until(struct store *s, struct volume *v, uint64_t index, uint64_t since, uint64_t *ret_end)
{
    struct pointer p;
    uint8_t level;
    uint64_t leaves = 1;
    TRY(pointer_above(s, v, 1, index / INNER_FANOUT, &p, &level));
    for (uint8_t k = 0; k < level; k++) leaves *= INNER_FANOUT;
    *ret_end = index;
    if (p.newest > since || p.graft || frame_is_dirty(s, v, level, index / leaves)) return OK;
    if (v->leaf_count >= INNER_FANOUT) leaves = INNER_FANOUT; /* of a large delta, not all in one go */
    uint64_t end = (index / leaves + 1) * leaves;
    if (v->cut_sequence > since) end = max64(index, min64(end, v->cut / LEAF_BLOCKS));
    *ret_end = delta_first(s, v, index, end, since);
    return OK;
}

enum { SKIP_STEPS = 2 * INNER_FANOUT };

/* From leaf `index` on, where the next change is; or a part of the way. */
static enum err skip(struct store *s, struct volume *v, uint64_t index, uint64_t since, uint64_t *ret_next)
{
    uint64_t end = (v->blocks + LEAF_BLOCKS - 1) / LEAF_BLOCKS;
    for (uint32_t n = 0; n < SKIP_STEPS && index < end && since > 0; n++) {
        struct leaf_changes leaf;
        uint64_t quiet = index;
        if (n == 0 || index % INNER_FANOUT == 0) TRY(quiet_until(s, v, index, since, &quiet));
        if (quiet == index) {
            TRY(leaf_changes(s, v, index, since, &leaf));
            if (leaf.any) break;
            quiet++;
        }
        index = quiet;
    }
    *ret_next = index < end ? index * LEAF_BLOCKS : UINT64_MAX;
    return OK;
}

static void take_bits(const struct leaf_changes *leaf, uint64_t first, uint64_t lba, uint64_t end, struct store_changes *ret)
{
    for (uint64_t at = first > lba ? first : lba; at < min64(end, first + LEAF_BLOCKS); at++) {
        if (!(leaf->bits[(at - first) / 64] >> ((at - first) % 64) & 1)) continue;
        ret->map[(at - lba) / 8] |= (uint8_t)(1u << ((at - lba) % 8));
        ret->changed++;
    }
}

static enum err changes_in(struct store *s, struct volume *v, uint64_t since, uint64_t lba, uint64_t end,
                           struct store_changes *ret)
{
    struct leaf_changes leaf = {.any = false};
    for (uint64_t index = lba / LEAF_BLOCKS; index * LEAF_BLOCKS < end; index++) {
        TRY(leaf_changes(s, v, index, since, &leaf));
        take_bits(&leaf, index * LEAF_BLOCKS, lba, min64(end, v->blocks), ret);
    }
    if (end % LEAF_BLOCKS == 0 || !leaf.any) return skip(s, v, (end + LEAF_BLOCKS - 1) / LEAF_BLOCKS, since, &ret->next);
    ret->next = end < v->blocks ? end : UINT64_MAX; /* the rest of a leaf with changes */
    return OK;
}

enum err store_changes_in(struct store *s, uint32_t volume, uint64_t since, uint64_t lba, uint32_t count,
                          struct store_changes *ret_changes)
{
    struct volume *v = volume_find(s, volume);
    if (!v) return ERR_NO_VOLUME;
    if (count == 0 || count > STORE_CHANGES_MAX || lba >= VOLUME_BLOCKS_MAX) return ERR_ARGUMENT;
    struct store_changes found = {.next = UINT64_MAX};
    s->tree_users++; /* the volume stays, even when it is deleted meanwhile */
    enum err err = changes_in(s, v, since, lba, min64(lba + count, max64(v->blocks, lba)), &found);
    bool deleted = v->deleted;
    s->tree_users--;
    if (err == OK && deleted) err = ERR_NO_VOLUME;
    if (err == OK) *ret_changes = found;
    return err;
}
