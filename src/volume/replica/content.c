/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool of contents.
 */
#include "volume/replica/content.h"

#include <assert.h>
#include <string.h>

enum err contents_init(struct replica_contents *all, struct mem *mem, uint32_t count)
{
    all->names = 0;
    for (int use = 0; use < CONTENT_USES; use++) {
        list_init(&all->free[use]);
        for (uint32_t i = 0; i < count; i++) {
            struct replica_content *c = mem_alloc(mem, sizeof *c);
            if (c == NULL) return ERR_NO_MEMORY;
            c->use = (enum content_use)use;
            list_push(&all->free[use], &c->link);
        }
    }
    return OK;
}

struct replica_content *content_take(struct replica_contents *all, enum content_use use, enum entry_kind what, uint32_t count)
{
    struct list *l = list_pop(&all->free[use]);
    assert(what != ENTRY_NEW || count <= RECORD_BLOCKS_MAX);
    if (l == NULL) return NULL;
    struct replica_content *c = CONTAINER(l, struct replica_content, link);
    c->references = 1;
    c->name = ++all->names;
    c->what = what;
    c->count = count;
    c->used = 0;
    return c;
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
    if (--content->references == 0) list_push_front(&all->free[content->use], &content->link); /* its memory is warm */
}

void content_add(struct replica_content *c, uint32_t index, const struct block_digest *digest)
{
    uint32_t size = chunk_stored(digest->size);
    assert(c->what == ENTRY_NEW && index < c->count && c->used + size <= sizeof c->bytes);
    c->digests[index] = *digest;
    c->digests[index].stored = c->bytes + c->used;
    memcpy(c->bytes + c->used, digest->stored, size);
    c->used += size;
}
