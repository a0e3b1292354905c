/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Request windows: which requests of which nodes took place in a volume.
 *
 * They change with publishing and with nothing else, so replay finds them again from the records behind the checkpoint; to note
 * a request twice, or an old one, changes nothing. They are kept as a local key of the keyed state, in its final form, so that
 * publishing needs no memory: its room is there before the first such record is appended.
 */
#include "store/internal.h"

static const uint8_t key[] = {STATE_LOCAL, STATE_WINDOWS};

static struct disk_window *windows_of(struct volume *v)
{
    uint32_t bytes;
    const void *value;
    if (!state_find(v, key, sizeof key, &value, &bytes) || bytes != sizeof(struct disk_window) * REQUEST_NODES) return NULL;
    return (struct disk_window *)(uintptr_t)value; /* the volume's own memory */
}

enum err windows_room(struct store *s, struct volume *v)
{
    static const struct disk_window none[REQUEST_NODES];
    if (windows_of(v) != NULL) return OK;
    return state_set(s, v, key, sizeof key, (const uint8_t *)none, sizeof none) ? OK : ERR_NO_MEMORY;
}

void windows_note(struct store *s, struct volume *v, const struct store_op *op)
{
    uint32_t boot = op->boot;
    uint64_t request = op->request;
    if (boot == 0 || op->node >= REQUEST_NODES) return;
    if (windows_room(s, v) != OK) { /* only in recovery: whoever appends has made sure of it */
        log_fail(s, ERR_NO_MEMORY, "request windows");
        return;
    }
    struct disk_window *w = &windows_of(v)[op->node];
    uint64_t high = get64(w->high), done = get64(w->done);
    if (boot < get32(w->boot)) return;
    if (boot > get32(w->boot)) high = done = 0;
    if (request > high) {
        done = request - high < REQUEST_WINDOW ? done << (request - high) : 0;
        high = request;
    }
    if (high - request < REQUEST_WINDOW) done |= 1ull << (high - request);
    *w = (struct disk_window){.boot = put32(boot), .high = put64(high), .done = put64(done)};
    v->state_dirty = true;
}

void store_windows(const struct store *s, uint32_t volume, struct store_window ret_windows[REQUEST_NODES])
{
    struct volume *v = volume_find(s, volume);
    const struct disk_window *all = v != NULL ? windows_of(v) : NULL;
    for (uint32_t i = 0; i < REQUEST_NODES; i++) {
        ret_windows[i] = (struct store_window){0};
        if (all != NULL) ret_windows[i] = (struct store_window){get32(all[i].boot), get64(all[i].high), get64(all[i].done)};
    }
}

void store_windows_op(const struct store_window windows[REQUEST_NODES], struct disk_window ret_value[REQUEST_NODES],
                      struct store_op *op)
{
    for (uint32_t i = 0; i < REQUEST_NODES; i++)
        ret_value[i] = (struct disk_window){
            .boot = put32(windows[i].boot), .high = put64(windows[i].high), .done = put64(windows[i].done)};
    op->kind = RECORD_STATE;
    op->learn = true;
    op->key = key;
    op->key_bytes = sizeof key;
    op->value = ret_value;
    op->value_bytes = sizeof *ret_value * REQUEST_NODES;
}
