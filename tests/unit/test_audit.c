/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The auditor, on the real seam.
 *
 * Goal: a sound pool has no findings, closed or crashed; a pool that is damaged anywhere has one that names the place.
 * Method: a small pool is made once and kept as bytes, twice: closed, and abandoned with a log to replay. Each test lays
 * one of them into a file again, damages it (a flipped byte, or a structure encoded anew that says something wrong), audits
 * it, and looks for the finding. Where things lie is computed here from the format, not by the auditor.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/check.h"

#include "base/prng.h"
#include "store/audit.h"
#include "store/codec.h"

enum { BLOCKS = 3000, WRITE_MAX = 8, POOL_BYTES = 16 << 20, SHIFT = 16, SEGMENT = 1 << SHIFT };

struct image {
    uint8_t *at;
    struct super super;
    struct checkpoint checkpoint; /* the newest */
    uint32_t side;
    struct slot_entry slots[512];
    uint32_t slot_count;
    uint64_t room[1 << 17];
};

struct story {
    struct io *io;
    struct io_task task;
    struct io_group *group;
    struct store *store;
    bool (*tell)(struct story *s);
    struct image *image;
    struct prng prng;
    uint64_t sequence;
    bool done, good;
};

static char path[256];
static struct image closed, crashed;
static struct audit_report report;
static bool quick;
static enum err audited;

/* ---- running ---- */

static void run_task(void *arg)
{
    struct story *s = arg;
    s->good = s->tell(s);
    io_group_stop(s->group);
}

static void run_main(struct io *io, void *arg)
{
    struct story *s = arg;
    s->io = io;
    if (io_task_start(io, &s->task, run_task, s) != OK) io_group_stop(s->group);
}

static bool run(bool (*tell)(struct story *s), struct image *image)
{
    struct story *s = calloc(1, sizeof *s);
    struct io_config config = {.loops = 1};
    const char *dir = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/izar-test-audit-%ld", dir == NULL ? "/tmp" : dir, (long)getpid());
    s->tell = tell;
    s->image = image;
    prng_init(&s->prng, 11);
    bool good = io_group_open(&config, &s->group) == OK;
    if (good) {
        io_group_run(s->group, run_main, s);
        good = s->good;
        io_task_done(&s->task);
        io_group_close(s->group);
    }
    free(s);
    return good;
}

/* ---- making the pool ---- */

struct waiting {
    struct store_op op;
    struct io_task *task;
    bool done;
};

static void prepared(struct store_op *op)
{
    struct waiting *w = CONTAINER(op, struct waiting, op);
    w->done = true;
    io_task_wake(w->task);
}

static bool prepare(struct story *s, struct waiting *w)
{
    w->op.done = prepared;
    w->op.volume = w->op.epoch = 1;
    w->op.sequence = ++s->sequence;
    w->task = io_task_self();
    store_prepare(s->store, &w->op);
    while (!w->done) io_task_park();
    if (w->op.err != OK) printf("# operation %u: %s\n", (unsigned)s->sequence, err_name(w->op.err));
    return w->op.err == OK;
}

static bool operate(struct story *s, struct store_op op)
{
    struct waiting w = {.op = op};
    if (!prepare(s, &w)) return false;
    store_publish(s->store, &w.op);
    return true;
}

static void block_fill(uint32_t seed, uint8_t *block)
{
    struct prng p;
    memset(block, 0, BLOCK_SIZE);
    if (seed == 0) return;
    prng_init(&p, seed);
    prng_fill(&p, block, seed % 3 == 0 ? BLOCK_SIZE : 512 + seed % 2048);
}

static struct waiting write_of(struct story *s, uint64_t lba, struct block_digest digests[WRITE_MAX])
{
    static uint8_t data[WRITE_MAX][BLOCK_SIZE], room[WRITE_MAX][BLOCK_SIZE];
    struct waiting w = {.op = {.kind = RECORD_DATA, .what = ENTRY_NEW, .lba = lba, .digests = digests}};
    w.op.count = 1 + (uint32_t)prng_below(&s->prng, WRITE_MAX);
    if (w.op.count > store_write_max(s->store)) w.op.count = store_write_max(s->store);
    for (uint32_t i = 0; i < w.op.count; i++) {
        block_fill(prng_below(&s->prng, 10) == 0 ? 0 : 1 + (uint32_t)prng_below(&s->prng, 4000), data[i]);
        digest_block(store_key(s->store), data[i], room[i], &digests[i]);
    }
    return w;
}

static bool write_some(struct story *s, uint32_t operations)
{
    struct block_digest digests[WRITE_MAX];
    for (uint32_t i = 0; i < operations; i++) {
        struct waiting w = write_of(s, prng_below(&s->prng, BLOCKS - 700), digests);
        if (prng_below(&s->prng, 20) == 0) {
            w.op.what = prng_below(&s->prng, 3) == 0 ? ENTRY_ZERO : ENTRY_UNMAP;
            w.op.count = 1 + (uint32_t)prng_below(&s->prng, 600);
        }
        if (!operate(s, w.op)) return false;
    }
    return true;
}

static bool set_states(struct story *s, uint32_t count)
{
    static char value[1000];
    for (uint32_t i = 0; i < count; i++) {
        char key[16];
        int bytes = snprintf(key, sizeof key, "key-%u", i);
        memset(value, (int)(i & 0xff), sizeof value);
        struct store_op op = {
            .kind = RECORD_STATE, .key = key, .key_bytes = (uint32_t)bytes, .value = value, .value_bytes = sizeof value};
        if (!operate(s, op)) return false;
    }
    return true;
}

static bool open_pool(struct story *s)
{
    struct store_config config = {.device_count = 1, .memory = 16u << 20, .no_clean = true};
    struct store_problem problem;
    config.devices[0].path = path;
    enum err e = store_open(s->io, &config, &s->store, &problem);
    if (e != OK) printf("# open: %s: %s\n", err_name(e), problem.text);
    if (e != OK) return false;
    for (struct store_op *op; (op = store_prepared(s->store, 1)) != NULL;) store_publish(s->store, op);
    return true;
}

static bool fill_pool(struct story *s)
{
    struct store_format_config format = {.device_count = 1, .size = POOL_BYTES, .segment_shift = SHIFT, .force = true};
    format.devices[0] = (struct store_device_config){path, DEVICE_FLASH};
    uint32_t gained;
    return store_format(s->io, &format) == OK && open_pool(s) &&
           operate(s, (struct store_op){.kind = RECORD_CREATE, .lba = BLOCKS}) && write_some(s, 300) && set_states(s, 12) &&
           write_some(s, 300) && store_checkpoint(s->store, true) == OK && store_clean(s->store, &gained) == OK;
}

static bool image_read(struct image *image)
{
    int fd = open(path, O_RDONLY);
    image->at = malloc(POOL_BYTES);
    bool good = pread(fd, image->at, POOL_BYTES, 0) == POOL_BYTES;
    close(fd);
    return good;
}

static bool make_closed(struct story *s)
{
    return fill_pool(s) && write_some(s, 40) && store_close(s->store) == OK && image_read(s->image);
}

/* Twice recovered, with a shrink, a discard, and two operations that nobody decided. */
static bool make_crashed(struct story *s)
{
    struct block_digest digests[WRITE_MAX];
    if (!fill_pool(s) || !write_some(s, 30)) return false;
    store_abandon(s->store);
    if (!open_pool(s) || !write_some(s, 60) || !operate(s, (struct store_op){.kind = RECORD_RESIZE, .lba = 1111}) ||
        !operate(s, (struct store_op){.kind = RECORD_RESIZE, .lba = BLOCKS}) || !write_some(s, 30))
        return false;
    struct waiting dropped = write_of(s, 5, digests);
    if (!prepare(s, &dropped) || store_discard(s->store, 1, s->sequence) != OK) return false;
    s->sequence--;
    if (!write_some(s, 20)) return false;
    struct waiting left = write_of(s, 7, digests), last = {.op = {.kind = RECORD_NOOP}};
    if (!prepare(s, &left) || !prepare(s, &last)) return false;
    store_abandon(s->store);
    return image_read(s->image);
}

/* ---- where things are ---- */

static uint64_t checkpoint_at(const struct image *image, uint32_t side, uint32_t copy)
{
    return checkpoint_side_at(image->super.checkpoint_bytes, side, copy);
}

static uint64_t directory_at(const struct image *image, uint32_t page, uint32_t copy)
{
    uint32_t side = image->checkpoint.directory_bits[page / 4] >> (page % 4 * 2 + 1) & 1;
    return directory_page_at(image->super.directory_at, page, side, copy);
}

static uint64_t slot_at(const struct image *image, uint32_t slot)
{
    return image->super.data_at + (uint64_t)slot * SEGMENT;
}

static bool checkpoint_of(struct image *image, uint32_t side)
{
    const uint8_t *at = image->at + checkpoint_at(image, side, 0);
    uint32_t bytes;
    if (checkpoint_length(at, SECTOR, image->super.checkpoint_bytes, &bytes) != OK) return false;
    if (checkpoint_decode_room(bytes) > sizeof image->room) return false;
    image->side = side;
    return checkpoint_decode(at, bytes, image->super.salt, image->room, &image->checkpoint) == OK;
}

static bool image_parse(struct image *image)
{
    if (super_decode(image->at, SECTOR, &image->super) != OK || !checkpoint_of(image, 0)) return false;
    uint64_t number = image->checkpoint.number;
    if (!checkpoint_of(image, 1)) return false;
    if (number > image->checkpoint.number && !checkpoint_of(image, 0)) return false;
    for (uint32_t page = 0; page < image->checkpoint.directory_pages; page++) {
        uint64_t ignored;
        uint32_t count = 0;
        if (image->checkpoint.directory_bits[page / 4] >> (page % 4 * 2) & 1 &&
            directory_decode(image->at + directory_at(image, page, 0), DIRECTORY_BYTES, page, image->super.salt, &ignored,
                             &count, image->slots + page * DIRECTORY_SLOTS) != OK)
            return false;
        image->slot_count = (page + 1) * DIRECTORY_SLOTS;
    }
    return true;
}

/* The slot of a kind with the most in it; before the replay point. */
static uint32_t slot_of(const struct image *image, uint8_t kind)
{
    uint32_t best = UINT32_MAX;
    for (uint32_t i = 0; i < image->slot_count; i++) {
        const struct slot_entry *e = &image->slots[i];
        if (e->kind != kind) continue;
        if (kind == SLOT_HEAD && e->run[0].start * UNIT >= image->checkpoint.replay_address) continue;
        if (best == UINT32_MAX || e->live > image->slots[best].live) best = i;
    }
    return best;
}

static bool trailer_of(const struct image *image, uint32_t slot, struct trailer *ret_trailer)
{
    const uint8_t *end = image->at + slot_at(image, slot) + SEGMENT;
    return trailer_decode(end - sizeof(struct disk_trailer), sizeof(struct disk_trailer), SEGMENT, image->super.salt,
                          ret_trailer) == OK;
}

/* Where a page lies that was never cleaned, 0 when it was. */
static uint64_t page_at(const struct image *image, uint64_t locator)
{
    uint64_t unit = locator_address(locator) / UNIT;
    for (uint32_t i = 0; i < image->slot_count; i++) {
        const struct slot_entry *e = &image->slots[i];
        if (e->kind == SLOT_META && unit - e->run[0].start < e->run[0].units)
            return slot_at(image, i) + (unit - e->run[0].start) * UNIT;
    }
    return 0;
}

static void remove_pool(void)
{
    unlink(path);
}

static bool ready(void)
{
    if (closed.at == NULL && atexit(remove_pool) != 0) return false;
    if (closed.at == NULL && !(run(make_closed, &closed) && image_parse(&closed))) return false;
    return crashed.at != NULL || (run(make_crashed, &crashed) && image_parse(&crashed));
}

/* ---- damaging and auditing ---- */

struct damage {
    uint64_t at;
    const void *bytes; /* NULL: one byte is flipped */
    size_t size;
};

static struct damage damages[8];
static uint32_t damage_count;

static void flip(uint64_t at)
{
    damages[damage_count++] = (struct damage){.at = at, .size = 1};
}

static void put(uint64_t at, const void *bytes, size_t size)
{
    damages[damage_count++] = (struct damage){at, bytes, size};
}

static bool write_at(int fd, uint64_t at, const void *bytes, size_t size)
{
    return pwrite(fd, bytes, size, (off_t)at) == (ssize_t)size;
}

/* Lays the damaged image into the file; what the file had from the test before is mended, not written whole. */
static bool image_write(const struct image *image)
{
    static const struct image *laid;
    static struct damage before[8];
    static uint32_t before_count;
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    bool good = fd >= 0 && (laid == image || write_at(fd, 0, image->at, POOL_BYTES));
    for (uint32_t i = 0; laid == image && i < before_count; i++)
        good = good && write_at(fd, before[i].at, image->at + before[i].at, before[i].size);
    for (uint32_t i = 0; i < damage_count; i++) {
        struct damage *d = &damages[i];
        uint8_t flipped = image->at[d->at] ^ 0x10;
        good = good && write_at(fd, d->at, d->bytes ? d->bytes : &flipped, d->size);
    }
    laid = image;
    memcpy(before, damages, sizeof before);
    before_count = damage_count;
    damage_count = 0;
    close(fd);
    return good;
}

static bool audit(struct story *s)
{
    struct store_config config = {.device_count = 1, .memory = STORE_MEMORY_MIN};
    config.devices[0].path = path;
    if (!image_write(s->image)) return false;
    report = (struct audit_report){.quick = quick};
    audited = audit_pool(s->io, &config, &report);
    return true;
}

static bool said(const char *text)
{
    for (uint32_t i = 0; i < report.line_count; i++)
        if (strstr(report.lines[i].text, text)) return true;
    return false;
}

/* Audits with the damages laid out before; `text` NULL: there must be no finding at all. */
static bool finds(struct image *image, bool problem, const char *text)
{
    if (!run(audit, image) || audited != OK) {
        printf("# %s: %s\n", err_name(audited), report.sentence);
        return false;
    }
    bool good = text ? said(text) && (report.problems > 0) == problem : report.problems + report.warnings == 0;
    for (uint32_t i = 0; !good && i < report.line_count; i++)
        printf("# %s: %s\n", report.lines[i].problem ? "problem" : "warning", report.lines[i].text);
    if (!good) printf("# %u problems, wanted: %s\n", (unsigned)report.problems, text ? text : "none");
    return good;
}

/* ---- sound pools ---- */

TEST(closed_is_sound)
{
    CHECK(ready());
    CHECK(finds(&closed, false, NULL));
    CHECK_EQ(report.volumes, 1);
    CHECK_EQ(report.prepared, 0);
    CHECK_EQ(report.state_keys, 12);
    CHECK_EQ(report.chunks_checked, report.chunks);
    CHECK(report.slots_of[SLOT_HEAD] > 0 && report.slots_of[SLOT_META] > 0 && report.slots_of[SLOT_CLEANED] > 0);
    CHECK(report.blocks_mapped > 500 && report.blocks_zero > 10 && report.pages > 8 && report.live_units > 0);
}

TEST(quick_reads_no_chunks)
{
    CHECK(ready());
    quick = true;
    bool good = finds(&closed, false, NULL);
    quick = false;
    CHECK(good);
    CHECK_EQ(report.chunks_checked, 0);
    CHECK(report.chunks_live > 0);
}

TEST(crashed_is_sound)
{
    CHECK(ready());
    CHECK(finds(&crashed, false, NULL));
    CHECK_EQ(report.prepared, 2);
    CHECK_EQ(report.records_discarded, 1);
    CHECK(report.records_replayed > 100 && report.batches_replayed > 50 && report.segments_replayed > 1);
}

/* ---- damaged roots ---- */

TEST(superblocks)
{
    CHECK(ready());
    flip(SUPER_AT_0 + 100);
    CHECK(finds(&closed, false, "superblock, copy 0: checksum mismatch"));
    flip(SUPER_AT_1 + 100);
    CHECK(finds(&closed, false, "superblock, copy 1: checksum mismatch"));
    flip(SUPER_AT_0 + 100);
    flip(SUPER_AT_1 + 100);
    CHECK(run(audit, &closed));
    CHECK_ERR(ERR_SUPER_LOST, audited);
    CHECK(strstr(report.sentence, "no superblock can be read") != NULL);
}

TEST(superblocks_that_differ)
{
    struct disk_super other;
    CHECK(ready());
    struct super super = closed.super;
    super.created_s += 5;
    super_encode(&super, &other);
    put(SUPER_AT_1, &other, sizeof other);
    CHECK(finds(&closed, true, "two superblocks differ"));
}

TEST(checkpoints)
{
    CHECK(ready());
    uint32_t newest = closed.side, other = 1 - newest;
    flip(checkpoint_at(&closed, newest, 0) + 70);
    CHECK(finds(&closed, false, "copy 0: checksum mismatch"));
    flip(checkpoint_at(&closed, other, 0) + 70); /* torn by a crash */
    CHECK(finds(&closed, false, NULL));
    CHECK_EQ(report.checkpoints_good, 3);
    flip(checkpoint_at(&closed, other, 0) + 70);
    flip(checkpoint_at(&closed, other, 1) + 70);
    CHECK(finds(&closed, true, "both copies are damaged"));
    for (uint32_t i = 0; i < 4; i++) flip(checkpoint_at(&closed, i / 2, i % 2) + 70);
    CHECK(run(audit, &closed));
    CHECK_ERR(ERR_CHECKPOINT_LOST, audited);
}

/* Both copies of the newest checkpoint, encoded anew. */
static void put_checkpoint(struct image *image, const struct checkpoint *checkpoint)
{
    static uint8_t out[1 << 20];
    uint32_t bytes = checkpoint_encode(checkpoint, image->super.salt, out);
    for (uint32_t copy = 0; copy < 2; copy++) put(checkpoint_at(image, image->side, copy), out, bytes);
}

TEST(checkpoints_that_lie)
{
    CHECK(ready());
    struct checkpoint c = closed.checkpoint;
    struct volume_root volume = c.volumes[0];
    c.volumes = &volume;
    c.written_number += 3;
    put_checkpoint(&closed, &c);
    CHECK(finds(&closed, true, "the checkpoint knows that"));
    c = closed.checkpoint;
    c.volumes = &volume;
    volume.committed = volume.root.newest - 1;
    put_checkpoint(&closed, &c);
    CHECK(finds(&closed, true, "is committed"));
    volume = closed.checkpoint.volumes[0];
    volume.blocks = 100;
    put_checkpoint(&closed, &c);
    CHECK(finds(&closed, true, "beyond the end"));
    volume = closed.checkpoint.volumes[0];
    volume.root.digest[1]++;
    put_checkpoint(&closed, &c);
    CHECK(finds(&closed, true, "digest differs"));
    volume = closed.checkpoint.volumes[0];
    volume.root.newest = 1;
    put_checkpoint(&closed, &c);
    CHECK(finds(&closed, true, "newer than its pointer"));
}

TEST(directory_pages)
{
    CHECK(ready());
    flip(directory_at(&closed, 0, 1) + 40);
    CHECK(finds(&closed, false, "directory page 0, copy 1: checksum mismatch"));
    flip(directory_at(&closed, 0, 0) + 40);
    flip(directory_at(&closed, 0, 1) + 40);
    CHECK(finds(&closed, true, "directory page 0: both copies are damaged"));
    CHECK(said("in slot 4294967295 is in no slot") || said("is in no slot"));
}

/* A directory page in both copies, encoded anew. */
static void put_directory(struct image *image, uint32_t page, const struct slot_entry *entries)
{
    static uint8_t out[DIRECTORY_BYTES];
    uint32_t left = image->super.devices[0].slots - page * DIRECTORY_SLOTS,
             count = left < DIRECTORY_SLOTS ? left : DIRECTORY_SLOTS;
    uint32_t bytes = directory_encode(page, image->checkpoint.number, count, entries, image->super.salt, out);
    for (uint32_t copy = 0; copy < 2; copy++) put(directory_at(image, page, copy), out, bytes);
}

TEST(directory_that_lies)
{
    static struct slot_entry entries[DIRECTORY_SLOTS];
    CHECK(ready());
    uint32_t slot = slot_of(&closed, SLOT_CLEANED), page = slot / DIRECTORY_SLOTS, i = slot % DIRECTORY_SLOTS;
    memcpy(entries, closed.slots + page * DIRECTORY_SLOTS, sizeof entries);
    struct slot_entry kept = entries[i];
    entries[i] = (struct slot_entry){.kind = SLOT_FREE};
    put_directory(&closed, page, entries);
    CHECK(finds(&closed, true, "in no slot"));
    entries[i] = kept;
    entries[i].runs = 0;
    put_directory(&closed, page, entries);
    CHECK(finds(&closed, true, "cleaned, with 0 runs"));
    entries[i] = kept;
    entries[i].chunks++;
    put_directory(&closed, page, entries);
    CHECK(finds(&closed, true, "the directory counts"));
    entries[i] = kept;
    uint32_t head = slot_of(&closed, SLOT_HEAD);
    entries[i].run[0] = closed.slots[head].run[0];
    put_directory(&closed, page, entries);
    CHECK(finds(&closed, true, "both hold log address"));
}

/* ---- damaged slots ---- */

TEST(head_slots)
{
    struct trailer t;
    CHECK(ready());
    uint32_t slot = slot_of(&closed, SLOT_HEAD);
    CHECK(slot != UINT32_MAX && trailer_of(&closed, slot, &t));
    uint64_t at = slot_at(&closed, slot), end = at + SEGMENT;
    flip(end - 60);
    CHECK(finds(&closed, true, "has no good summary"));
    flip(end - sizeof(struct disk_trailer) - t.body_bytes + 20);
    CHECK(finds(&closed, true, "has no good summary"));
    flip(at + 20);
    CHECK(finds(&closed, true, "batch at offset 0"));
    struct record r; /* of the first record: its first chunk, or an entry when it has none */
    struct entry entries[RECORD_BLOCKS_MAX];
    CHECK_OK(record_decode(closed.at + at + 64, SEGMENT - 64, t.segment * SEGMENT + 64, &r, entries));
    flip(at + 64 + record_head_bytes(&r) + (r.payload ? 12 : 0));
    CHECK(finds(&closed, true, "batch at offset 0"));
    CHECK(r.payload == 0 || said("chunk at"));
}

TEST(cleaned_slots)
{
    struct trailer t;
    CHECK(ready());
    uint32_t slot = slot_of(&closed, SLOT_CLEANED);
    CHECK(slot != UINT32_MAX && trailer_of(&closed, slot, &t));
    uint64_t at = slot_at(&closed, slot), prints = at + SEGMENT - sizeof(struct disk_trailer) - t.print_bytes;
    flip(at + SEGMENT - 60);
    CHECK(finds(&closed, true, "without a good trailer"));
    flip(prints - t.body_bytes + 8);
    CHECK(finds(&closed, true, "its address table is damaged"));
    flip(prints + 21);
    CHECK(finds(&closed, true, "its fingerprints are damaged"));
    CHECK(said("chunk at"));
    flip(at + 12);
    CHECK(finds(&closed, true, "(offset 0): checksum mismatch"));
    CHECK(said("is damaged"));
    flip(at + 12);
    quick = true;
    bool good = finds(&closed, false, NULL);
    quick = false;
    CHECK(good);
}

TEST(pages)
{
    CHECK(ready());
    uint64_t at = page_at(&closed, closed.checkpoint.volumes[0].root.locator);
    CHECK(at != 0);
    flip(at + 30);
    CHECK(finds(&closed, true, "page 0 of level 4"));
    at = page_at(&closed, closed.checkpoint.volumes[0].state.locator);
    CHECK(at != 0);
    flip(at + 30);
    CHECK(finds(&closed, true, "page 0 of level 17"));
}

/* ---- the log ---- */

/* Where the batch with this number lies, or with 0 the last one; 0: nowhere. */
static uint64_t batch_at(const struct image *image, uint64_t number, uint64_t *ret_number)
{
    uint64_t found = 0;
    *ret_number = 0;
    for (uint64_t at = image->super.data_at; at < POOL_BYTES; at += SECTOR) {
        const uint8_t *from = image->at + at;
        struct disk_batch raw;
        struct batch b;
        memcpy(&raw, from, sizeof raw);
        if (batch_decode(from, POOL_BYTES - at, get64(raw.address), image->super.salt, &b) != OK) continue;
        if (b.number <= *ret_number || (number && b.number != number)) continue;
        *ret_number = b.number;
        found = at;
    }
    return found;
}

TEST(log_end)
{
    uint64_t number;
    CHECK(ready());
    uint64_t last = batch_at(&crashed, 0, &number);
    CHECK(last != 0);
    struct disk_batch raw; /* batches may be under way side by side: the last one names the newest that was durable */
    memcpy(&raw, crashed.at + last, sizeof raw);
    uint64_t before = batch_at(&crashed, get64(raw.durable), &number);
    CHECK(before != 0);
    if (before + SECTOR > last || last - before > (uint64_t)4 * SECTOR) SKIP("the last segment holds a single durable batch");
    flip(last + 30); /* torn: nothing says that it was durable */
    CHECK(finds(&crashed, false, NULL));
    CHECK_EQ(report.prepared, 1);
    flip(before + 30); /* but the last batch says that this one was */
    CHECK(finds(&crashed, true, "proves that it was durable"));
}

TEST(not_a_pool)
{
    static uint8_t zeros[SECTOR];
    CHECK(ready());
    put(SUPER_AT_0, zeros, sizeof zeros);
    put(SUPER_AT_1, zeros, sizeof zeros);
    CHECK(run(audit, &closed));
    CHECK_ERR(ERR_NOT_OURS, audited);
}

TESTS(closed_is_sound, quick_reads_no_chunks, crashed_is_sound, superblocks, superblocks_that_differ, checkpoints,
      checkpoints_that_lie, directory_pages, directory_that_lies, head_slots, cleaned_slots, pages, log_end, not_a_pool)
