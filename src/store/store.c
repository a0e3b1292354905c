/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store as a whole: how its memory is shared out, opening, closing.
 *
 * All memory is taken from one budget at open, by shares that are listed here. What grows with use (slot pages, directory,
 * address tables) comes from what is left, within the same budget.
 */
#include <stdio.h>

#include "store/internal.h"

enum { DEFAULT_MEMORY_MIB = 1024, DEFAULT_RESERVE = 15, DEFAULT_CHECKPOINT_MS = 30000, CLOSE_ROUNDS = 8 };

/* ---- memory ---- */

struct shares {
    uint64_t delta, index, pages, blocks, summaries, reads;
};

/* Of what the fixed buffers leave: the delta makes metadata writes rare, the index finds duplicates, the rest is caches.
 * Tables that are used all over are no larger than the pool can fill (chunks of 1 KiB on average, every block twice in the
 * delta): what is larger only costs page faults and misses. */
static struct shares share_out(const struct store *s)
{
    uint64_t fixed = s->segment_bytes * 10 + BATCHES * s->segment_bytes / BATCHES_A_SEGMENT + (4u << 20) +
                     IN_PARTS * min64(IN_BYTES_MAX, s->segment_bytes) + 4 * s->super.checkpoint_bytes;
    uint64_t left = s->config.memory > fixed + (2u << 20) ? s->config.memory - fixed : 2u << 20;
    uint64_t pool = s->slots_total * s->segment_bytes;
    return (struct shares){.delta = min64(left * 22 / 100, max64(16u << 20, pool / 40)),
                           .index = min64(left * 22 / 100, max64(256u << 10, pool / 128)),
                           .pages = left * 12 / 100,
                           .blocks = left * 12 / 100,
                           .summaries = min64(left * 8 / 100, max64(4u << 20, pool / 32)),
                           .reads = left * 6 / 100};
}

static uint32_t blocks_max(const struct store *s)
{
    uint64_t room = s->segment_bytes - 6 * SECTOR;
    uint64_t told = sizeof(struct disk_entry) + sizeof(struct disk_reference) + SUMMARY_CHUNK_BYTES; /* of a block, at most */
    return (uint32_t)min64(RECORD_BLOCKS_MAX, room / (PLACE_UNITS_RAW * UNIT + told));
}

static enum err parts_init(struct store *s)
{
    struct shares share = share_out(s);
    s->blocks_max = blocks_max(s);
    s->slot_pages = mem_alloc(s->mem, s->page_count * sizeof *s->slot_pages);
    s->directory_bits = mem_alloc(s->mem, (s->page_count * 2 + 7) / 8 + 1ull);
    s->directory_dirty = mem_alloc(s->mem, (s->page_count + 7) / 8 + 1ull);
    s->directory_numbers = mem_alloc(s->mem, s->page_count * sizeof *s->directory_numbers);
    if (!s->directory_numbers) return ERR_NO_MEMORY;
    s->checkpoint_buf = mem_alloc_raw(s->mem, s->super.checkpoint_bytes);
    s->page_buf = mem_alloc_raw(s->mem, 16384);
    if (!s->slot_pages || !s->directory_bits || !s->directory_dirty || !s->checkpoint_buf || !s->page_buf) return ERR_NO_MEMORY;
    s->directory = directory_open(s->mem, (uint32_t)min64(s->slots_total * RUNS_MAX + 64, UINT32_MAX));
    mem_on_large(s->mem, io_memory_large); /* tables that are touched all over, the delta's entries among them */
    s->index = index_open(s->mem, share.index);
    if (!s->index) return ERR_NO_MEMORY;
    TRY(summaries_init(s, share.summaries));
    TRY(delta_init(s, share.delta));
    mem_on_large(s->mem, NULL);
    s->blocks = cache_open(s->mem, share.blocks, BLOCK_SIZE);
    if (!s->directory || !s->blocks) return ERR_NO_MEMORY;
    TRY(map_init(s, share.pages));
    TRY(meta_init(s));
    TRY(log_init(s));
    TRY(clean_init(s));
    return reads_init(s, share.reads);
}

/* ---- open ---- */

static void tick(struct io_timer *timer)
{
    struct store *s = CONTAINER(timer, struct store, tick);
    upkeep_kick(s);
    trim_kick(s);
    io_after(s->io, IO_S_NS, &s->tick);
}

static enum err start(struct store *s)
{
    s->last_checkpoint_ns = io_now_ns(s->io);
    s->tick.fire = tick;
    io_after(s->io, IO_S_NS, &s->tick);
    TRY(io_task_start(s->io, &s->upkeep, upkeep_main, s));
    s->upkeep_started = true;
    return OK;
}

static enum err open_all(struct store *s, const struct store_config *config, struct store_problem *problem)
{
    s->fetch_buf = mem_alloc_raw(s->mem, 32768);
    if (!s->fetch_buf) return ERR_NO_MEMORY;
    TRY(super_open(s, config, problem));
    TRY(parts_init(s));
    TRY(recover(s, problem));
    return start(s);
}

enum err store_open(struct io *io, const struct store_config *config, struct store **ret_store,
                    struct store_problem *ret_problem)
{
    if (ret_problem) ret_problem->text[0] = 0;
    if (config->device_count == 0 || config->device_count > POOL_DEVICES_MAX) return ERR_ARGUMENT;
    uint64_t memory = config->memory ? config->memory : (uint64_t)DEFAULT_MEMORY_MIB << 20;
    if (memory < STORE_MEMORY_MIN ||
        (config->reserve_percent && (config->reserve_percent < 5 || config->reserve_percent > 50))) {
        problem_say(ret_problem, "memory = at least %llu MiB, reserve = 5 to 50 percent", STORE_MEMORY_MIN >> 20);
        return ERR_ARGUMENT;
    }
    struct mem *mem = mem_open(memory);
    struct store *s = mem ? mem_alloc(mem, sizeof *s) : NULL;
    if (!s) {
        mem_close(mem);
        return ERR_NO_MEMORY;
    }
    s->io = io;
    s->mem = mem;
    s->config = *config;
    s->config.memory = memory;
    if (!s->config.reserve_percent) s->config.reserve_percent = DEFAULT_RESERVE;
    if (!s->config.checkpoint_ms) s->config.checkpoint_ms = DEFAULT_CHECKPOINT_MS;
    s->read_only = config->read_only;
    list_init(&s->volumes);
    list_init(&s->prepared);
    list_init(&s->recovered_ops);
    list_init(&s->wants);
    list_init(&s->space_waiters);
    list_init(&s->mending.waiters);
    list_init(&s->waking);
    enum err err = open_all(s, config, ret_problem);
    if (err != OK) {
        if (ret_problem && ret_problem->text[0] == 0) problem_say(ret_problem, "%s", err_text(err));
        store_abandon(s);
        return err;
    }
    *ret_store = s;
    return OK;
}

/* ---- close ---- */

void store_abandon(struct store *s)
{
    if (!s) return;
    io_cancel(s->io, &s->tick);
    io_cancel(s->io, &s->log.hold.timer);
    io_cancel(s->io, &s->trim.pause);
    if (s->upkeep_started) io_task_done(&s->upkeep);
    for (uint32_t i = 0; i < POOL_DEVICES_MAX; i++) io_file_close(s->devices[i].file);
    mem_close(s->mem);
}

static bool log_is_quiet(const struct store *s)
{
    const struct log *l = &s->log;
    bool quiet =
        l->in_flight == 0 && !l->kicked && !s->wake_sent && s->reading == 0 && list_empty(&s->waking) && !s->trim.under_way;
    for (uint32_t i = 0; i < SEALS; i++) quiet = quiet && !l->seals[i].writing;
    return quiet;
}

enum err store_close(struct store *s)
{
    enum err err = OK;
    while (!s->read_only && s->failed == OK && log_end(s)) io_task_sleep(s->io, 200000);
    s->closing = true;
    for (uint32_t round = 0; !s->read_only && s->failed == OK && err == OK && round < CLOSE_ROUNDS; round++) {
        err = store_checkpoint(s, true);
        if (s->delta.leaves_used == 0 && !s->changed) break;
    }
    if (s->failed != OK) err = s->failed;
    s->stopping = true;
    io_cancel(s->io, &s->tick);
    io_cancel(s->io, &s->trim.pause);
    upkeep_kick(s);
    for (uint64_t pause = IO_MS_NS / 10; !s->upkeep_ended || !log_is_quiet(s); pause = min64(2 * pause, IO_S_NS)) {
        io_task_sleep(s->io, pause);
        upkeep_kick(s);
    }
    for (uint32_t idle = 0; idle < 2; idle++) io_task_yield();
    store_abandon(s);
    return err;
}

/* ---- looking ---- */

const struct fingerprinter *store_key(const struct store *s)
{
    return &s->key;
}

void store_key_get(const struct store *s, uint8_t ret_key[STORE_KEY_BYTES])
{
    memcpy(ret_key, s->super.secret, STORE_KEY_BYTES);
}

void store_pool_id(const struct store *s, uint8_t ret_id[16])
{
    memcpy(ret_id, s->super.pool_id, 16);
}

uint32_t store_write_max(const struct store *s)
{
    return s->blocks_max;
}

void store_stats(const struct store *s, struct store_stats *ret_stats)
{
    *ret_stats = s->stats;
    ret_stats->slots = s->slots_total;
    ret_stats->slots_free = s->slots_free + s->slots_promised + (s->trim.under_way ? s->trim.count : 0);
    ret_stats->slots_pending = s->slots_pending;
    ret_stats->slots_beyond = s->slots_beyond;
    ret_stats->segment_bytes = s->segment_bytes;
    ret_stats->live_bytes = s->live_units * UNIT;
    ret_stats->memory = s->config.memory;
    ret_stats->memory_used = mem_used(s->mem);
    ret_stats->index_bytes = index_bytes(s->index);
    ret_stats->index_entries = index_entries(s->index);
    ret_stats->directory_ram = directory_ram(s->directory);
    ret_stats->sketch_ram = (uint64_t)s->clean.sketch_slots * SKETCH_SIZE * 8;
    ret_stats->slot_ram = sizeof(struct slot);
    ret_stats->tables_ram = s->summaries.budget + clean_pinned_max(s);
    ret_stats->delta_entries = s->delta.entries_used;
    ret_stats->delta_capacity = s->delta.entry_room;
    ret_stats->failed = s->failed != OK;
    ret_stats->full = s->full && space_room(s, 0, 0) == 0;
}

const char *store_text(const struct store *s, char *buf, size_t size)
{
    snprintf(buf, size,
             "slots %llu free %llu promised %llu pending %llu live %llu KiB pledged %llu delta %u/%u leaves %u dirty %u batch "
             "%llu durable "
             "%llu%s%s%s",
             (unsigned long long)s->slots_total, (unsigned long long)s->slots_free, (unsigned long long)s->slots_promised,
             (unsigned long long)s->slots_pending, (unsigned long long)(s->live_units * UNIT >> 10),
             (unsigned long long)s->pledged, s->delta.entries_used, s->delta.entry_room, s->delta.leaves_used, s->map.dirty,
             (unsigned long long)s->log.next_number, (unsigned long long)s->log.durable, s->full ? " full" : "",
             s->failed != OK ? " failed: " : "", s->why);
    return buf;
}
