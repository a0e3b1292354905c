/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Volumes as the store knows them: an id, a size, a root, sequences, and a small keyed state that changes by records in the
 * same order as the blocks. The keyed state is in RAM, sorted by key, and written as a few pages with the checkpoint.
 */
#include "store/internal.h"

struct volume *volume_find(const struct store *s, uint32_t id)
{
    for (struct list *l = s->volumes.next; l != &s->volumes; l = l->next) {
        struct volume *v = CONTAINER(l, struct volume, link);
        if (v->id == id) return v->deleted ? NULL : v;
        if (v->id > id) return NULL;
    }
    return NULL;
}

struct volume *volume_add(struct store *s, uint32_t id)
{
    assert(id > 0 && !volume_find(s, id));
    struct volume *v = mem_alloc(s->mem, sizeof *v);
    if (!v) return NULL;
    *v = (struct volume){.id = id, .cut = UINT64_MAX};
    list_init(&v->leaves);
    struct list *before = s->volumes.next;
    while (before != &s->volumes && CONTAINER(before, struct volume, link)->id < id) before = before->next;
    v->link.prev = before->prev;
    v->link.next = before;
    before->prev->next = &v->link;
    before->prev = &v->link;
    s->volume_count++;
    if (id > s->last_volume) s->last_volume = id;
    return v;
}

static void state_clear(struct store *s, struct volume *v)
{
    for (uint32_t i = 0; i < v->state_count; i++) mem_free(s->mem, v->state[i].bytes);
    mem_free(s->mem, v->state);
    v->state = NULL;
    v->state_count = v->state_room = v->state_bytes = 0;
}

void volume_remove(struct store *s, struct volume *v)
{
    while (!list_empty(&v->leaves)) delta_forget(s, CONTAINER(v->leaves.next, struct delta_leaf, by_volume));
    map_drop_volume(s, v->id);
    state_clear(s, v);
    mem_free(s->mem, v->state_pages);
    list_remove(&v->link);
    s->volume_count--;
    mem_free(s->mem, v);
}

/* ---- keyed state ---- */

static int key_order(const struct state_entry *e, const uint8_t *key, uint32_t key_bytes)
{
    uint32_t common = min32(e->key_bytes, key_bytes);
    int order = memcmp(e->bytes, key, common);
    return order ? order : (int)e->key_bytes - (int)key_bytes;
}

static uint32_t state_position(const struct volume *v, const uint8_t *key, uint32_t key_bytes, bool *ret_found)
{
    uint32_t low = 0, high = v->state_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (key_order(&v->state[middle], key, key_bytes) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *ret_found = low < v->state_count && key_order(&v->state[low], key, key_bytes) == 0;
    return low;
}

/* False when memory or the limit of the state is used up; nothing changed then. */
bool state_set(struct store *s, struct volume *v, const uint8_t *key, uint32_t key_bytes, const uint8_t *value,
               uint32_t value_bytes)
{
    bool found;
    uint32_t at = state_position(v, key, key_bytes, &found);
    uint8_t *bytes = NULL;
    uint32_t before = found ? 4u + v->state[at].key_bytes + v->state[at].value_bytes : 0;
    uint32_t after = value_bytes ? 4 + key_bytes + value_bytes : 0;
    if (value_bytes) {
        bytes = mem_alloc(s->mem, key_bytes + value_bytes);
        if (!bytes) return false;
        memcpy(bytes, key, key_bytes);
        memcpy(bytes + key_bytes, value, value_bytes);
    }
    if (value_bytes && !found && v->state_count == v->state_room) {
        uint32_t room = v->state_room ? v->state_room * 2 : 16;
        struct state_entry *more = mem_alloc(s->mem, room * sizeof *more);
        if (!more) {
            mem_free(s->mem, bytes);
            return false;
        }
        if (v->state_count) memcpy(more, v->state, v->state_count * sizeof *more);
        mem_free(s->mem, v->state);
        v->state = more;
        v->state_room = room;
    }
    if (found) mem_free(s->mem, v->state[at].bytes);
    if (found && !value_bytes) {
        memmove(&v->state[at], &v->state[at + 1], (v->state_count - at - 1) * sizeof *v->state);
        v->state_count--;
    }
    if (value_bytes) {
        if (!found) {
            memmove(&v->state[at + 1], &v->state[at], (v->state_count - at) * sizeof *v->state);
            v->state_count++;
        }
        v->state[at] = (struct state_entry){(uint8_t)key_bytes, (uint16_t)value_bytes, bytes};
    }
    v->state_bytes = v->state_bytes - before + after;
    v->state_dirty = true;
    return true;
}

enum err store_state_get(const struct store *s, uint32_t volume, const void *key, uint32_t key_bytes, const void **ret_value,
                         uint32_t *ret_bytes)
{
    const struct volume *v = volume_find(s, volume);
    if (!v) return ERR_NO_VOLUME;
    bool found;
    uint32_t at = state_position(v, key, key_bytes, &found);
    if (!found) return ERR_NO_KEY;
    *ret_value = v->state[at].bytes + v->state[at].key_bytes;
    *ret_bytes = v->state[at].value_bytes;
    return OK;
}

static void page_id_put(struct disk_page *page, uint32_t volume, uint8_t level, uint64_t index)
{
    *page = (struct disk_page){.volume = put32(volume), .level = level, .index = put64(index)};
}

static enum err state_page(struct store *s, struct volume *v, uint32_t index, uint32_t bytes, struct inner *root)
{
    struct disk_state *page = (struct disk_state *)(void *)s->page_buf;
    TRY(meta_room(s, sizeof *page));
    page_id_put(&page->page, v->id, PAGE_STATE, index);
    page->bytes = put32(bytes);
    memset(page->data + bytes, 0, STATE_PAGE_BYTES - bytes);
    struct hash128 h = hash128(page->data, bytes, 0);
    struct pointer *p = &root->children[index];
    p->digest[0] = h.low;
    p->digest[1] = h.high;
    p->newest = v->published;
    meta_append(s, page, (uint32_t)(offsetof(struct disk_state, data) + bytes), (uint32_t)h.low, &p->locator);
    return OK;
}

/* Where the pages are, for the walk: they are live as long as the root points to them. */
static void remember_pages(struct store *s, struct volume *v, const struct inner *root)
{
    for (uint32_t i = 0; v->state_pages[i]; i++)
        slot_lost_units(s, locator_address(v->state_pages[i]), locator_units(v->state_pages[i]));
    for (uint32_t i = 0; i < INNER_FANOUT; i++) v->state_pages[i] = root->children[i].locator;
}

uint64_t state_page_locator(const struct store *s, const struct volume *v, uint32_t i)
{
    (void)s;
    return v->state_pages && i < INNER_FANOUT ? v->state_pages[i] : 0;
}

/* Entries, sorted, packed over pages; a root page points to them. */
static enum err state_write_once(struct store *s, struct volume *v)
{
    struct inner *root = mem_alloc(s->mem, sizeof *root);
    struct disk_inner *disk = mem_alloc(s->mem, sizeof *disk);
    if (!v->state_pages) v->state_pages = mem_alloc(s->mem, (INNER_FANOUT + 1) * sizeof *v->state_pages);
    enum err err = root && disk && v->state_pages ? OK : ERR_NO_MEMORY;
    uint32_t index = 0, bytes = 0;
    v->state_dirty = false; /* an operation that is published while this waits sets it again */
    struct disk_state *page = (struct disk_state *)(void *)s->page_buf;
    for (uint32_t i = 0; err == OK && i < v->state_count; i++) {
        const struct state_entry *e = &v->state[i];
        uint32_t size = 4u + e->key_bytes + e->value_bytes;
        if (bytes + size > STATE_PAGE_BYTES) {
            err = index < INNER_FANOUT ? state_page(s, v, index++, bytes, root) : ERR_LIMIT;
            bytes = 0;
            if (err != OK || v->state_dirty) break; /* that waited, and the entries are others now: once more */
        }
        uint8_t *at = page->data + bytes;
        at[0] = e->key_bytes;
        at[1] = 0;
        at[2] = (uint8_t)e->value_bytes;
        at[3] = (uint8_t)(e->value_bytes >> 8);
        memcpy(at + 4, e->bytes, (size_t)e->key_bytes + e->value_bytes);
        bytes += size;
    }
    if (err == OK && bytes) err = index < INNER_FANOUT ? state_page(s, v, index++, bytes, root) : ERR_LIMIT;
    if (err == OK && index) err = meta_room(s, sizeof *disk);
    struct pointer p = {.newest = v->published};
    bool whole = err == OK && !v->state_dirty;
    if (whole && index) {
        inner_encode((struct page_id){v->id, PAGE_STATE_ROOT, 0}, root, disk);
        inner_digest(root, p.digest);
        meta_append(s, disk, sizeof *disk, (uint32_t)p.digest[0], &p.locator);
    }
    if (whole) {
        if (v->state_root.locator)
            slot_lost_units(s, locator_address(v->state_root.locator), locator_units(v->state_root.locator));
        v->state_root = p;
        remember_pages(s, v, root);
    } else {
        v->state_dirty = true;
        for (uint32_t i = 0; err == OK && i < index; i++)
            slot_lost_units(s, locator_address(root->children[i].locator), locator_units(root->children[i].locator));
    }
    mem_free(s->mem, root);
    mem_free(s->mem, disk);
    return err;
}

/* Pages that were written while the state changed are of no moment: they are written again, until none changed. */
enum err state_write(struct store *s, struct volume *v)
{
    while (v->state_dirty) TRY(state_write_once(s, v));
    return OK;
}

static enum err state_take(struct store *s, struct volume *v, const uint8_t *at, uint32_t bytes)
{
    struct cursor c = cursor_of(at, bytes);
    while (c.left) {
        const uint8_t *head = cursor_take(&c, 4);
        if (!head) return ERR_DECODE;
        uint32_t key_bytes = head[0], value_bytes = (uint32_t)(head[2] | head[3] << 8);
        const uint8_t *key = cursor_take(&c, key_bytes), *value = cursor_take(&c, value_bytes);
        if (!key || !value || key_bytes == 0 || key_bytes > STATE_KEY_MAX || value_bytes == 0) return ERR_DECODE;
        if (!state_set(s, v, key, key_bytes, value, value_bytes)) return ERR_NO_MEMORY;
    }
    return OK;
}

enum err state_load(struct store *s, struct volume *v)
{
    state_clear(s, v);
    if (!v->state_root.locator) return OK;
    uint8_t *raw = mem_alloc(s->mem, 8192);
    struct inner *root = mem_alloc(s->mem, sizeof *root);
    uint32_t size;
    if (!v->state_pages) v->state_pages = mem_alloc(s->mem, (INNER_FANOUT + 1) * sizeof *v->state_pages);
    enum err err = raw && root && v->state_pages ? OK : ERR_NO_MEMORY;
    if (err == OK) err = page_read(s, (struct page_id){v->id, PAGE_STATE_ROOT, 0}, &v->state_root, raw, 8192, &size);
    if (err == OK) err = inner_decode(raw, size, (struct page_id){v->id, PAGE_STATE_ROOT, 0}, root);
    uint64_t digest[2] = {0, 0};
    if (err == OK) inner_digest(root, digest);
    if (err == OK && (digest[0] != v->state_root.digest[0] || digest[1] != v->state_root.digest[1])) err = ERR_CHECKSUM;
    for (uint32_t i = 0; err == OK && i < INNER_FANOUT && root->children[i].locator; i++) {
        err = page_read(s, (struct page_id){v->id, PAGE_STATE, i}, &root->children[i], raw, 8192, &size);
        if (err != OK) break;
        uint32_t bytes = size >= 20 ? (uint32_t)raw[16] | (uint32_t)raw[17] << 8 | (uint32_t)raw[18] << 16 : 0;
        v->state_pages[i] = root->children[i].locator;
        err = size >= 20 && bytes == size - 20 ? state_take(s, v, raw + 20, bytes) : ERR_DECODE;
    }
    mem_free(s->mem, raw);
    mem_free(s->mem, root);
    v->state_dirty = false;
    return err;
}

/* ---- what callers see ---- */

enum err store_volume_next(const struct store *s, uint32_t from, struct store_volume_info *ret_info)
{
    for (struct list *l = s->volumes.next; l != &s->volumes; l = l->next) {
        const struct volume *v = CONTAINER(l, struct volume, link);
        if (v->id < from || v->deleted) continue;
        *ret_info = (struct store_volume_info){v->id, v->epoch, v->blocks, v->published, v->prepared, v->learning};
        return OK;
    }
    return ERR_NO_VOLUME;
}

uint32_t store_last_volume(const struct store *s)
{
    return s->last_volume;
}
