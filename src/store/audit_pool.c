/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The audit, told in one function, and what all its parts need: findings, memory that grows, reading.
 *
 * Roots first (superblocks, checkpoint, directory), then the log from the replay point on, which changes volumes in memory as
 * recovery would. Then the slots, a window at a time: as many slots as fit into memory are read, every chunk of theirs is
 * checked and listed, and the maps are walked once, which marks what is referenced. So each slot is read once, in one
 * piece, and the maps as often as there are windows.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "store/audit_internal.h"

enum { DEFAULT_MEMORY_MIB = 1024, SMALL_BYTES = 16384, DATA_BYTES = 12288 };

/* ---- findings ---- */

static void finding(struct audit *a, bool problem, const char *text)
{
    struct audit_report *r = a->report;
    uint32_t room = problem ? AUDIT_LINES : AUDIT_LINES / 2;
    if (r->line_count < room) {
        struct audit_line *line = &r->lines[r->line_count++];
        line->problem = problem;
        snprintf(line->text, sizeof line->text, "%s", text);
    }
    if (r->say) r->say(r->arg, problem, text);
}

void audit_problem(struct audit *a, const char *format, ...)
{
    char text[AUDIT_TEXT];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    a->report->problems++;
    finding(a, true, text);
}

void audit_warning(struct audit *a, const char *format, ...)
{
    char text[AUDIT_TEXT];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    a->report->warnings++;
    finding(a, false, text);
}

enum err audit_refuse(struct audit *a, enum err err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(a->report->sentence, sizeof a->report->sentence, format, args);
    va_end(args);
    return err;
}

bool audit_ends(enum err err)
{
    return err == ERR_NO_MEMORY || err == ERR_POWER || err == ERR_STOPPED;
}

const char *audit_kind_text(uint8_t kind)
{
    static const char *const names[AUDIT_KINDS] = {"free", "head", "pages", "cleaned", "cleaned pages"};
    return kind < AUDIT_KINDS ? names[kind] : "unknown";
}

/* ---- memory and reading ---- */

enum err audit_grow(struct audit *a, void **at, size_t item, uint32_t count, uint32_t *room)
{
    if (count < *room) return OK;
    if (*room > UINT32_MAX / 4) return ERR_NO_MEMORY;
    uint32_t more = *room ? *room * 2 : 64;
    void *bigger = mem_alloc(a->mem, more * item);
    if (!bigger) return ERR_NO_MEMORY;
    if (count) memcpy(bigger, *at, count * item);
    mem_free(a->mem, *at);
    *at = bigger;
    *room = more;
    return OK;
}

enum err audit_slot_read(struct audit *a, uint32_t slot, uint32_t offset, void *buf, uint32_t bytes)
{
    uint32_t i = a->device_count - 1;
    while (a->devices[i].first_slot > slot) i--;
    const struct audit_device *d = &a->devices[i];
    assert(slot - d->first_slot < d->super.devices[d->super.device_index].slots && offset + bytes <= a->segment_bytes);
    uint64_t at = d->super.data_at + (uint64_t)(slot - d->first_slot) * a->segment_bytes + offset;
    return io_task_read(a->io, d->file, at, buf, bytes);
}

/* ---- the story ---- */

static enum err buffers(struct audit *a)
{
    a->buf = mem_alloc_raw(a->mem, a->segment_bytes);
    a->data = mem_alloc_raw(a->mem, DATA_BYTES);
    a->inner = mem_alloc(a->mem, (INNER_LEVELS + 1) * sizeof *a->inner);
    a->leaf = mem_alloc(a->mem, sizeof *a->leaf);
    a->slots = mem_alloc(a->mem, (a->slot_count + 1ull) * sizeof *a->slots);
    return a->buf && a->data && a->inner && a->leaf && a->slots ? OK : ERR_NO_MEMORY;
}

/* The chunk table takes half of what is left, but never more than all chunks that the pool can hold. */
static enum err window_room(struct audit *a)
{
    uint64_t most_in_slot = a->segment_bytes / (2 * UNIT);
    uint64_t left = (mem_budget(a->mem) - mem_used(a->mem)) / 2 / sizeof *a->chunks;
    uint64_t room = min64(min64(left, a->slot_count * most_in_slot), UINT32_MAX / 2);
    if (room < most_in_slot) return ERR_NO_MEMORY;
    a->chunk_room = (uint32_t)room;
    a->chunks = mem_alloc_raw(a->mem, room * sizeof *a->chunks);
    return a->chunks ? OK : ERR_NO_MEMORY;
}

static enum err walk_windows(struct audit *a)
{
    TRY(window_room(a));
    a->first_walk = true;
    for (uint32_t from = 0, end; from < a->slot_count; from = end) {
        TRY(audit_window(a, from, &end));
        if (a->chunk_count == 0 && !a->first_walk) continue;
        TRY(audit_maps(a));
        audit_window_end(a);
        a->report->windows++;
        a->first_walk = false;
    }
    return OK;
}

static void count_slots(struct audit *a)
{
    struct audit_report *r = a->report;
    for (uint32_t i = 0; i < a->slot_count; i++) {
        const struct audit_slot *sl = &a->slots[i];
        if (!sl->exists) continue;
        r->slots++;
        r->slots_of[sl->kind]++;
        if (sl->kind == SLOT_FREE) continue;
        r->live_units += sl->marked;
        r->live_estimate += sl->live;
        if (sl->marked == 0) r->slots_unreferenced++;
    }
}

static enum err audit_all(struct audit *a, const struct store_config *config)
{
    a->small = mem_alloc(a->mem, SMALL_BYTES);
    if (!a->small) return ERR_NO_MEMORY;
    TRY(audit_supers(a, config));
    TRY(buffers(a));
    TRY(audit_checkpoints(a));
    TRY(audit_directory(a));
    TRY(audit_replay_roots(a));
    TRY(audit_log(a));
    audit_runs_sort(a);
    TRY(audit_replay_end(a));
    TRY(audit_page_tables(a));
    TRY(walk_windows(a));
    count_slots(a);
    return OK;
}

enum err audit_pool(struct io *io, const struct store_config *config, struct audit_report *ret_report)
{
    if (config->device_count == 0 || config->device_count > POOL_DEVICES_MAX) return ERR_ARGUMENT;
    struct mem *mem = mem_open(config->memory ? config->memory : (uint64_t)DEFAULT_MEMORY_MIB << 20);
    struct audit *a = mem ? mem_alloc(mem, sizeof *a) : NULL;
    enum err err = ERR_NO_MEMORY;
    ret_report->sentence[0] = 0;
    if (a) {
        *a = (struct audit){.io = io, .mem = mem, .report = ret_report};
        err = audit_all(a, config);
        for (uint32_t i = 0; i < POOL_DEVICES_MAX; i++) io_file_close(a->devices[i].file);
    }
    if (err == ERR_NO_MEMORY)
        snprintf(ret_report->sentence, sizeof ret_report->sentence, "the audit needs more than %" PRIu64 " MiB of memory",
                 mem ? mem_budget(mem) >> 20 : 0);
    else if (err != OK && ret_report->sentence[0] == 0)
        snprintf(ret_report->sentence, sizeof ret_report->sentence, "%s", err_text(err));
    mem_close(mem);
    return err;
}
