/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a pool on devices, and finding it again. Each device carries two superblocks with the list of all devices of the
 * pool, so any one of them tells what is missing. What is refused is refused with a sentence that says what to do.
 *
 * Superblocks are written again only when the pool gets another secret, one after the other, with a higher generation. The
 * newest one counts, so a crash in between leaves the old secret or the new one; who opens the pool then writes the rest.
 */
#include <stdarg.h>
#include <stdio.h>

#include "store/internal.h"

enum { SLOTS_MIN = 16 };

void problem_say(struct store_problem *problem, const char *format, ...)
{
    if (!problem) return;
    va_list args;
    va_start(args, format);
    vsnprintf(problem->text, sizeof problem->text, format, args);
    va_end(args);
}

/* ---- layout ---- */

/* Room for as many volumes as the format knows; small pools, which could not spare it, take 256. */
static uint64_t checkpoint_bytes(uint32_t pages, uint64_t size)
{
    uint32_t volumes = size < (uint64_t)1 << 28 ? 256 : VOLUMES_MAX;
    return round_up64(checkpoint_room(CHAIN_MAX, HEAD_SLOTS_MAX, 0, volumes, pages) + (uint64_t)pages * 16, 65536);
}

/* Directory and data of one device of `size` bytes: as many slots as fit. */
static uint32_t layout(uint64_t size, uint32_t shift, uint64_t checkpoint, uint64_t *ret_directory_at, uint64_t *ret_data_at)
{
    uint64_t segment = (uint64_t)1 << shift, directory = CHECKPOINT_AT + 4 * checkpoint;
    if (size < directory + segment) return 0;
    uint64_t slots = (size - directory) / segment;
    for (; slots > 0; slots--) {
        uint64_t pages = (slots + DIRECTORY_SLOTS - 1) / DIRECTORY_SLOTS;
        uint64_t data = round_up64(directory + pages * 4 * DIRECTORY_BYTES, segment);
        if (data + slots * segment > size) continue;
        *ret_directory_at = directory;
        *ret_data_at = data;
        return (uint32_t)min64(slots, UINT32_MAX / 4);
    }
    return 0;
}

/* ---- format ---- */

struct making {
    struct io_file *files[POOL_DEVICES_MAX];
    uint64_t sizes[POOL_DEVICES_MAX];
    uint8_t *buf;
};

static enum err open_for_format(struct io *io, const struct store_format_config *config, uint32_t i, struct making *m)
{
    unsigned flags = IO_OPEN_DIRECT | IO_OPEN_LOCK | (config->size ? IO_OPEN_CREATE : 0);
    TRY(io_file_open(io, config->devices[i].path, flags, &m->files[i]));
    struct io_file_info info;
    TRY(io_file_info(m->files[i], &info));
    if (!info.is_device && config->size > info.size) {
        TRY(io_file_resize(m->files[i], config->size));
        info.size = config->size;
    }
    m->sizes[i] = info.size;
    if (config->force || info.size < 2 * SUPER_AT_1) return OK;
    for (uint64_t at = 0; at <= SUPER_AT_1; at += SUPER_AT_1) {
        TRY(io_task_read(io, m->files[i], at, m->buf, SECTOR));
        for (uint32_t k = 0; k < SECTOR; k++)
            if (m->buf[k]) return ERR_IN_USE;
    }
    return OK;
}

static enum err write_supers(struct io *io, struct io_file *file, const struct super *super, uint8_t *buf)
{
    super_encode(super, (struct disk_super *)(void *)buf);
    TRY(io_task_write(io, file, SUPER_AT_0, buf, SECTOR, IO_WRITE_DURABLE));
    return io_task_write(io, file, SUPER_AT_1, buf, SECTOR, IO_WRITE_DURABLE);
}

/* The first checkpoint: an empty pool. Both copies; the other side is wiped, so nothing older is found there. */
static enum err first_checkpoint(struct io *io, struct making *m, const struct super *super, uint32_t pages)
{
    struct chain none[1] = {{0}};
    uint8_t *bits = m->buf + 65536;
    memset(bits, 0, (pages * 2 + 7) / 8);
    struct checkpoint c = {.number = 1,
                           .incarnation = 1,
                           .flags = CHECKPOINT_CLEAN,
                           .next_segment = 1,
                           .next_serial = 1,
                           .replay_number = 1,
                           .directory_pages = pages,
                           .chains = none,
                           .directory_bits = bits};
    c.replay_address = (uint64_t)1 << super->segment_shift;
    memcpy(c.pool_id, super->pool_id, 16);
    uint8_t *out = m->buf + 65536 + round_up64(pages, SECTOR);
    uint32_t bytes = checkpoint_encode(&c, super->salt, out);
    memset(m->buf, 0, SECTOR);
    for (uint32_t copy = 0; copy < 2; copy++) {
        struct io_file *file = m->files[copy % super->device_count];
        uint64_t first = checkpoint_side_at(super->checkpoint_bytes, 0, copy);
        uint64_t second = checkpoint_side_at(super->checkpoint_bytes, 1, copy);
        TRY(io_task_write(io, file, second, m->buf, SECTOR, IO_WRITE_DURABLE));
        TRY(io_task_write(io, file, first, out, bytes, IO_WRITE_DURABLE));
    }
    return OK;
}

static enum err format_devices(struct io *io, const struct store_format_config *config, struct making *m)
{
    struct super super = {.segment_shift = config->segment_shift ? config->segment_shift : SEGMENT_SHIFT_MAX,
                          .device_count = (uint8_t)config->device_count,
                          .generation = 1};
    if (super.segment_shift < SEGMENT_SHIFT_MIN || super.segment_shift > SEGMENT_SHIFT_MAX) return ERR_ARGUMENT;
    for (uint32_t i = 0; i < config->device_count; i++) TRY(open_for_format(io, config, i, m));
    uint32_t pages = 0;
    uint64_t directory_at[POOL_DEVICES_MAX], data_at[POOL_DEVICES_MAX], total = 0;
    for (uint32_t i = 0; i < config->device_count; i++)
        pages += (uint32_t)((m->sizes[i] >> super.segment_shift) / DIRECTORY_SLOTS + 1);
    super.checkpoint_bytes = checkpoint_bytes(pages, m->sizes[0]);
    pages = 0;
    for (uint32_t i = 0; i < config->device_count; i++) {
        struct super_device *d = &super.devices[i];
        d->slots = layout(m->sizes[i], super.segment_shift, super.checkpoint_bytes, &directory_at[i], &data_at[i]);
        d->class = (uint8_t)config->devices[i].class;
        if (d->slots == 0) return ERR_TOO_SMALL;
        io_random(io, d->id, sizeof d->id);
        pages += (d->slots + DIRECTORY_SLOTS - 1) / DIRECTORY_SLOTS;
        total += d->slots;
    }
    if (total < SLOTS_MIN) return ERR_TOO_SMALL;
    io_random(io, super.pool_id, sizeof super.pool_id);
    if (config->key)
        memcpy(super.secret, config->key, sizeof super.secret);
    else
        io_random(io, super.secret, sizeof super.secret);
    io_random(io, &super.salt, sizeof super.salt);
    memcpy(super.name, config->name, sizeof config->name);
    TRY(first_checkpoint(io, m, &super, pages));
    for (uint32_t i = 0; i < config->device_count; i++) {
        super.device_index = i;
        super.directory_at = directory_at[i];
        super.data_at = data_at[i];
        TRY(write_supers(io, m->files[i], &super, m->buf));
    }
    return OK;
}

/* A pool of another one would be made, and never open. */
static bool class_exists(enum device_class class)
{
    return class == DEVICE_FLASH || class == DEVICE_HDD;
}

enum err store_format(struct io *io, const struct store_format_config *config)
{
    if (config->device_count == 0 || config->device_count > POOL_DEVICES_MAX) return ERR_ARGUMENT;
    for (uint32_t i = 0; i < config->device_count; i++)
        if (!class_exists(config->devices[i].class)) return ERR_DEVICE_CLASS;
    struct mem *mem = mem_open(64u << 20);
    struct making *m = mem ? mem_alloc(mem, sizeof *m) : NULL;
    enum err err = m ? OK : ERR_NO_MEMORY;
    if (err == OK) err = (m->buf = mem_alloc_raw(mem, 16u << 20)) ? OK : ERR_NO_MEMORY;
    if (err == OK) err = format_devices(io, config, m);
    for (uint32_t i = 0; m && i < config->device_count; i++) io_file_close(m->files[i]);
    mem_close(mem);
    return err;
}

/* ---- open ---- */

static enum err read_copy(struct store *s, struct io_file *file, uint64_t at, struct super *ret_super)
{
    TRY(io_task_read(s->io, file, at, s->fetch_buf, SECTOR));
    return super_decode(s->fetch_buf, SECTOR, ret_super);
}

/* The newer of both copies. */
static enum err read_super(struct store *s, struct io_file *file, const char *path, struct super *ret_super,
                           struct store_problem *problem)
{
    struct super copies[2];
    struct io_file_info info;
    TRY(io_file_info(file, &info));
    if (info.size < CHECKPOINT_AT) {
        problem_say(problem, "%s: %llu bytes are too small for a pool device: truncated, or not a pool", path,
                    (unsigned long long)info.size);
        return ERR_TOO_SMALL;
    }
    enum err first = read_copy(s, file, SUPER_AT_0, &copies[0]), second = read_copy(s, file, SUPER_AT_1, &copies[1]);
    if (first == OK && second == OK) s->supers_differ |= copies[0].generation != copies[1].generation;
    if (first == OK && (second != OK || copies[0].generation >= copies[1].generation)) {
        *ret_super = copies[0];
        return OK;
    }
    if (second == OK) {
        *ret_super = copies[1];
        return OK;
    }
    if (first == ERR_NEW_FORMAT || second == ERR_NEW_FORMAT) {
        problem_say(problem, "%s: written by a newer version: use that version or a later one", path);
        return ERR_NEW_FORMAT;
    }
    if (first == ERR_NOT_OURS && second == ERR_NOT_OURS) {
        problem_say(problem, "%s: not a device of an Izar pool", path);
        return ERR_NOT_OURS;
    }
    problem_say(problem, "%s: both superblocks are damaged (%s, %s): restore one from another copy of the device", path,
                err_text(first), err_text(second));
    return ERR_SUPER_LOST;
}

static enum err device_fits(struct device *d, const struct super *super, struct store_problem *problem)
{
    struct io_file_info info;
    TRY(io_file_info(d->file, &info));
    uint64_t end = super->data_at + ((uint64_t)super->devices[super->device_index].slots << super->segment_shift);
    if (info.size < end) {
        problem_say(problem, "%s: %llu bytes, but the pool uses %llu: the device or file was truncated; restore its size",
                    d->path, (unsigned long long)info.size, (unsigned long long)end);
        return ERR_TOO_SMALL;
    }
    d->discards = info.discards;
    d->slots = super->devices[super->device_index].slots;
    d->directory_at = super->directory_at;
    d->data_at = super->data_at;
    return OK;
}

static enum err open_one(struct store *s, const struct store_device_config *dc, struct io_file **ret_file,
                         struct super *ret_super, struct store_problem *problem)
{
    unsigned flags = IO_OPEN_DIRECT | IO_OPEN_LOCK | (s->read_only ? IO_OPEN_READ_ONLY : 0);
    enum err err = io_file_open(s->io, dc->path, flags, ret_file);
    if (err == ERR_LOCKED) problem_say(problem, "%s: in use: another process has this pool open", dc->path);
    if (err != OK && err != ERR_LOCKED) problem_say(problem, "%s: %s", dc->path, err_text(err));
    if (err == OK) err = read_super(s, *ret_file, dc->path, ret_super, problem);
    return err;
}

/* Of what may be written again, the newest counts. */
static void super_newer(struct store *s, const struct super *super)
{
    s->supers_differ |= super->generation != s->super.generation;
    if (super->generation <= s->super.generation) return;
    memcpy(s->super.secret, super->secret, sizeof s->super.secret);
    s->super.secret_from = super->secret_from;
    s->super.generation = super->generation;
}

/* [task] On all devices, with what each of them says of itself. */
static enum err rewrite_supers(struct store *s, const struct super *super)
{
    uint8_t *buf = mem_alloc(s->mem, SECTOR);
    enum err err = buf != NULL ? OK : ERR_NO_MEMORY;
    for (uint32_t i = 0; err == OK && i < s->device_count; i++) {
        struct super own = *super;
        own.device_index = i;
        own.directory_at = s->devices[i].directory_at;
        own.data_at = s->devices[i].data_at;
        err = write_supers(s->io, s->devices[i].file, &own, buf);
    }
    mem_free(s->mem, buf);
    return err;
}

/* Opens the devices in whatever order they are given, and puts them in the pool's order. */
enum err super_open(struct store *s, const struct store_config *config, struct store_problem *problem)
{
    for (uint32_t i = 0; i < config->device_count; i++) {
        struct io_file *file = NULL;
        struct super super = {0};
        enum err err = open_one(s, &config->devices[i], &file, &super, problem);
        struct device *d = err == OK ? &s->devices[super.device_index] : NULL;
        if (err == OK && i > 0 && memcmp(super.pool_id, s->super.pool_id, 16) != 0) {
            problem_say(problem, "%s: belongs to another pool", config->devices[i].path);
            err = ERR_OTHER_POOL;
        }
        if (err == OK && d->file) {
            problem_say(problem, "%s: given twice", config->devices[i].path);
            err = ERR_ARGUMENT;
        }
        if (err != OK) {
            io_file_close(file);
            return err;
        }
        if (i == 0) s->super = super;
        super_newer(s, &super);
        d->file = file;
        snprintf(d->path, sizeof d->path, "%s", config->devices[i].path);
        TRY(device_fits(d, &super, problem));
    }
    s->device_count = s->super.device_count;
    for (uint32_t i = 0; i < s->device_count; i++) {
        if (s->devices[i].file) continue;
        problem_say(problem, "device %u of %u of the pool is missing: name all its devices", i + 1, s->device_count);
        return ERR_DEVICE_MISSING;
    }
    for (uint32_t i = 0; i < s->device_count; i++) {
        s->devices[i].first_slot = s->page_count * DIRECTORY_SLOTS;
        s->page_count += (s->devices[i].slots + DIRECTORY_SLOTS - 1) / DIRECTORY_SLOTS;
        s->slots_total += s->devices[i].slots;
    }
    s->segment_bytes = (uint64_t)1 << s->super.segment_shift;
    s->salt = s->super.salt;
    fingerprinter_init(&s->key, s->super.secret);
    return s->supers_differ && !s->read_only ? rewrite_supers(s, &s->super) : OK;
}

/* ---- another secret ---- */

/* The address of the next batch; nothing is in the open one. */
static uint64_t log_end_address(const struct store *s)
{
    const struct log *l = &s->log;
    return l->seal != NULL ? l->base + l->used : s->next_segment * s->segment_bytes;
}

static bool log_is_idle(const struct log *l)
{
    return l->in_flight == 0 && l->batch[l->open].records == 0 && list_empty(&l->queue);
}

/* What is in the log is of volumes that were deleted. Its chunks keep the fingerprints that they have: nothing new is a
 * duplicate of them. */
enum err store_key_set(struct store *store, const uint8_t key[STORE_KEY_BYTES])
{
    struct store *s = store;
    struct store_volume_info info;
    if (s->read_only) return ERR_PERMISSION;
    while (s->failed == OK && !log_is_idle(&s->log)) io_task_sleep(s->io, IO_MS_NS);
    if (s->failed != OK) return ERR_POOL_FAILED;
    if (store_volume_next(s, 0, &info) == OK || !list_empty(&s->prepared)) return ERR_BUSY;
    struct super super = s->super;
    static_assert(sizeof super.secret == STORE_KEY_BYTES, "the secret is the key");
    memcpy(super.secret, key, sizeof super.secret);
    super.secret_from = log_end_address(s);
    super.generation++;
    enum err err = rewrite_supers(s, &super);
    if (err != OK) {
        log_fail(s, err, "a superblock could not be written"); /* and it is not known which of them were */
        return ERR_POOL_FAILED;
    }
    assert(store_volume_next(s, 0, &info) != OK);
    s->super = super;
    fingerprinter_init(&s->key, s->super.secret);
    return OK;
}
