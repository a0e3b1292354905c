/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a volume holds, told to others: a digest of its content, and what changed in it since some operation.
 */
#include "base/hash.h"
#include "store/internal.h"

enum err store_volume_digest(struct store *s, uint32_t volume, uint64_t ret_digest[4])
{
    struct want w = {.what = WANT_DIGEST, .volume = volume};
    TRY(upkeep_ask(s, &w));
    const struct volume *v = volume_find(s, volume);
    if (!v) return ERR_NO_VOLUME;
    uint64_t state[2] = {0, 0};
    for (uint32_t i = 0; i < v->state_count; i++) {
        struct hash128 h = hash128(v->state[i].bytes, (size_t)v->state[i].key_bytes + v->state[i].value_bytes,
                                   state[0] ^ v->state[i].key_bytes);
        state[0] = h.low + state[1];
        state[1] = h.high + 1;
    }
    memcpy(ret_digest, w.digest, 16);
    memcpy(ret_digest + 2, state, 16);
    return OK;
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
