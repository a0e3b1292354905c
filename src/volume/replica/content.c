/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool of contents.
 */
#include "volume/replica/content.h"

#include <assert.h>
#include <string.h>

#include "base/share.h"
#include "volume/replica/stretch.h"

static bool has_stretches(enum content_use use)
{
    return use == CONTENT_WALK || use == CONTENT_STEP;
}

enum err contents_init(struct replica_contents *all, struct mem *mem, uint32_t count)
{
    all->names = 0;
    for (int use = 0; use < CONTENT_USES; use++) {
        list_init(&all->free[use]);
        all->there[use] = all->all[use] = 0;
        uint32_t room = content_blocks_max((enum content_use)use) * BLOCK_SIZE;
        if (has_stretches((enum content_use)use)) room = STRETCH_ROOM;
        uint32_t wanted = has_stretches((enum content_use)use) ? CONTENT_STEPS : count;
        all->each[use] = mem_alloc(mem, wanted * sizeof *all->each[use]);
        if (all->each[use] == NULL) return ERR_NO_MEMORY;
        for (uint32_t i = 0; i < wanted; i++) {
            struct replica_content *c = mem_alloc(mem, sizeof *c);
            if (c == NULL || (c->bytes = mem_alloc(mem, room)) == NULL) return ERR_NO_MEMORY;
            c->room = room;
            c->use = (enum content_use)use;
            list_push(&all->free[use], &c->link);
            all->each[use][i] = c;
            all->there[use] = ++all->all[use];
        }
    }
    return OK;
}

static uint32_t held_by(const struct replica_contents *all, enum content_use use, uint32_t volume)
{
    uint32_t held = 0;
    for (uint32_t i = 0; i < all->all[use]; i++)
        held += all->each[use][i]->references > 0 && all->each[use][i]->volume == volume;
    return held;
}

static bool may_take(const struct replica_contents *all, enum content_use use, uint32_t volume)
{
    if (all->there[use] == 0) return false;
    bool shared = use == CONTENT_LOCAL || use == CONTENT_FORWARD;
    return !shared || share_allows(held_by(all, use, volume), all->there[use]);
}

struct replica_content *content_take(struct replica_contents *all, enum content_use use, uint32_t volume, enum entry_kind what,
                                     uint32_t count)
{
    assert(what != ENTRY_NEW || count <= content_blocks_max(use) || has_stretches(use));
    if (!may_take(all, use, volume)) return NULL;
    struct replica_content *c = CONTAINER(list_pop(&all->free[use]), struct replica_content, link);
    all->there[use]--;
    c->volume = volume;
    c->references = 1;
    c->name = ++all->names;
    c->what = what;
    c->count = count;
    c->used = 0;
    return c;
}

bool content_is_scarce(const struct replica_contents *all, enum content_use use)
{
    return all->there[use] <= all->all[use] / 2;
}

bool content_is_there(const struct replica_contents *all, enum content_use use)
{
    return !list_empty(&all->free[use]);
}

void content_hold(struct replica_content *content)
{
    assert(content->references > 0);
    content->references++;
}

void content_drop(struct replica_contents *all, struct replica_content *content)
{
    if (content == NULL) return;
    assert(content->references > 0);
    if (--content->references > 0) return;
    all->there[content->use]++;
    list_push_front(&all->free[content->use], &content->link); /* its memory is warm */
}

void content_add(struct replica_content *c, uint32_t index, const struct block_digest *digest)
{
    uint32_t size = chunk_stored(digest->size);
    assert(!content_is_stretch(c) && c->what == ENTRY_NEW && index < c->count && size <= c->room - c->used);
    c->digests[index] = *digest;
    c->digests[index].stored = c->bytes + c->used;
    if (size > 0) memcpy(c->bytes + c->used, digest->stored, size);
    c->used += size;
}

/* In place: what is stored of a block is never longer than the block, so it comes to lie on what is done already. */
void content_digest(struct replica_content *c, const struct fingerprinter *key)
{
    uint8_t room[BLOCK_SIZE];
    assert(c->used == 0 && c->what == ENTRY_NEW);
    for (uint32_t i = 0; i < c->count; i++) {
        struct block_digest *d = &c->digests[i];
        digest_block(key, c->bytes + (size_t)i * BLOCK_SIZE, room, d);
        uint32_t size = chunk_stored(d->size);
        memmove(c->bytes + c->used, d->stored, size);
        d->stored = c->bytes + c->used;
        c->used += size;
    }
}
