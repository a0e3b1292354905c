/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Directed histories: corners that random ones reach only by luck, told step by step. The seed still decides latencies and
 * contents. Each must be fine as it is; those that name a rule must fail as soon as that rule is switched off.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "sim/lab.h"
#include "store/mutation.h"

enum { UNIQUE = 4, SMALL = 3 }; /* contents of kind 4 do not compress, of kind 3 hardly anything is left */

static uint64_t below(struct lab *lab, uint64_t n)
{
    return prng_below(&lab->prng, n);
}

/* ---- steps ---- */

static struct model_op *op_new(struct lab *lab, enum entry_kind what, uint64_t lba, uint32_t count)
{
    struct model_op *m = volume_submit(&lab->volumes[0].model);
    m->kind = RECORD_DATA;
    m->what = what;
    m->lba = lba;
    m->count = count;
    return m;
}

static bool on(const struct lab *lab)
{
    return !lab_failed(lab) && !sim_is_off(lab->sim);
}

/* Everything submitted becomes durable and is published. */
static bool finish(struct lab *lab)
{
    if (!workload_drain(lab)) return false;
    workload_publish(lab, 0, lab->volumes[0].model.acked);
    return on(lab);
}

static bool put(struct lab *lab, uint64_t lba, uint32_t count)
{
    struct model_op *m = op_new(lab, ENTRY_NEW, lba, count);
    for (uint32_t i = 0; i < count; i++) m->contents[i] = ++lab->next_content << 3 | UNIQUE;
    workload_submit(lab, 0, m);
    return finish(lab);
}

static bool clear(struct lab *lab, uint64_t lba, uint32_t count)
{
    workload_submit(lab, 0, op_new(lab, ENTRY_UNMAP, lba, count));
    return finish(lab);
}

static bool resize(struct lab *lab, uint64_t blocks)
{
    struct model_op *m = op_new(lab, 0, blocks, 0);
    m->kind = RECORD_RESIZE;
    workload_submit(lab, 0, m);
    return finish(lab);
}

/* A key gets a value of kilobytes: the next checkpoint writes all keys. */
static void key_start(struct lab *lab, uint32_t key)
{
    uint8_t bytes[STATE_VALUE_MAX];
    uint32_t value = 1 + (uint32_t)below(lab, 1u << 30);
    while (value_fill(value, bytes) < 2000) value++;
    struct model_op *m = op_new(lab, 0, 0, 0);
    m->kind = RECORD_STATE;
    m->key = key;
    m->value = value;
    workload_submit(lab, 0, m);
}

static bool set_key(struct lab *lab, uint32_t key)
{
    key_start(lab, key);
    return finish(lab);
}

static bool task(struct lab *lab, enum task_kind kind, uint64_t sequence)
{
    enum err err = lab_run(lab, kind, 0, sequence);
    if (on(lab) && err != OK) lab_fail(lab, "a task: %s", err_name(err));
    if (on(lab) && (kind == TASK_CHANGED || kind == TASK_WALK)) judge_changed(lab, &lab->main_task);
    if (on(lab) && kind == TASK_DIGEST) judge_digest(lab, &lab->main_task);
    return on(lab);
}

/* Opens the pool; no more cuts. */
static bool come_back(struct lab *lab)
{
    sim_cut_at(lab->sim, 0);
    enum err err = lab_run(lab, TASK_OPEN, 0, 0);
    if (err != OK) lab_fail(lab, "open: %s: %s", err_name(err), lab->problem.text);
    if (!lab_failed(lab)) judge_recovered(lab);
    return !lab_failed(lab) && judge_decide(lab) && !lab_failed(lab);
}

static bool begin(struct lab *lab)
{
    lab_format(lab);
    if (lab_failed(lab) || !come_back(lab)) return false;
    workload_first_volume(lab);
    return finish(lab);
}

static bool close_open(struct lab *lab)
{
    if (!task(lab, TASK_CLOSE, 0)) return false;
    workload_forget(lab);
    return come_back(lab);
}

/* ---- histories ---- */

/* A pool filled to its limit; then the power fails fifty times, in recovery or soon after, with something acknowledged between.
 * It must open every time, and give space back at last. */
static void full_pool(struct lab *lab)
{
    if (!begin(lab)) return;
    for (uint32_t key = 0; key < 6; key++)
        if (!set_key(lab, key)) return;
    for (uint64_t lba = 0; !lab->full && lba + 8 <= lab->mix.volume_blocks; lba += 8)
        if (!put(lab, lba, 8)) return;
    if (!lab->full) lab_fail(lab, "the pool does not run full");
    for (uint32_t n = 0; n < 50 && !lab_failed(lab); n++) {
        lab_crash(lab);
        sim_cut_at(lab->sim, 1 + n % 7);
        enum err err = lab_run(lab, TASK_OPEN, 0, 0);
        if (!on(lab)) continue;
        if (err != OK) lab_fail(lab, "crash %u: open: %s: %s", n, err_name(err), lab->problem.text);
        if (lab_failed(lab)) return;
        sim_cut_at(lab->sim, 0);
        judge_recovered(lab);
        if (lab_failed(lab) || !judge_decide(lab)) return;
        if (n % 2) set_key(lab, n % 6);
        if (n % 3 == 0) clear(lab, below(lab, 100), 1);
        sim_cut_at(lab->sim, 1 + below(lab, 20));
        sim_run_for(lab->sim, 2000, 3000000000u);
    }
    if (lab_failed(lab)) return;
    lab_crash(lab);
    if (!come_back(lab) || !judge_verify(lab)) return;
    workload_relieve(lab);
}

/* Freed slots are scarce and map pages many, so what the cleaner frees is written again at once; the power fails at each change
 * around the checkpoint that frees. */
static void freed_slots(struct lab *lab)
{
    if (!begin(lab)) return;
    for (uint64_t lba = 0; lba < 96; lba += 8)
        if (!put(lab, lba, 8)) return;
    for (uint32_t n = 0; n < 240 && !lab_failed(lab); n++) {
        lab->full = false;
        for (uint32_t i = 0; i < 24; i++) { /* all slots thin out alike: victims hold what is alive */
            struct model_op *m = op_new(lab, ENTRY_NEW, below(lab, 96), 1);
            m->contents[0] = ++lab->next_content << 3 | UNIQUE;
            workload_submit(lab, 0, m);
        }
        if (!finish(lab)) return;
        sim_cut_at(lab->sim, 1 + n % 40);
        lab_task_start(lab, &lab->tasks[0], TASK_CLEAN, 0, 0);
        for (uint32_t i = 0; on(lab) && lab->tasks[0].used; i++) {
            if (i % 8 == 0 && lab->volumes[0].under_way == 0) key_start(lab, i % KEYS); /* each checkpoint has pages to write */
            sim_run_for(lab->sim, 2, 1000000000);
            workload_collect(lab);
            if (on(lab)) workload_publish(lab, 0, lab->volumes[0].model.acked);
        }
        if (lab_failed(lab)) return;
        if (sim_is_off(lab->sim)) {
            lab_crash(lab);
            if (!come_back(lab) || !judge_verify(lab)) return;
        }
        sim_cut_at(lab->sim, 0);
    }
}

/* Reads that take very long, while their slots are cleaned, freed and written again. */
static void slow_reads(struct lab *lab)
{
    if (!begin(lab)) return;
    for (uint32_t round = 0; round < 12 && !lab_failed(lab); round++) {
        for (uint64_t lba = 0; lba < 96; lba += 8)
            if (!put(lab, lba, 8)) return;
        if (!task(lab, TASK_FLUSH, 0) || !close_open(lab)) return;
        sim_fault(lab->sim, SIM_SLOW_READ, 0, 0);
        for (uint32_t i = 0; i < 4; i++) workload_read(lab, 0, 16 * i, 1, false);
        sim_run_for(lab->sim, 60, 20000000); /* map pages are loaded; or not yet, then the blocks are not read so late */
        for (uint32_t i = 0; i < 2; i++) workload_read(lab, 0, 64 + 16 * i, 1, false);
        sim_fault(lab->sim, SIM_SLOW_READ, 1000000, 2);
        sim_run_for(lab->sim, 20, 2000000);
        sim_fault(lab->sim, SIM_SLOW_READ, 0, 0);
        /* not a wait for the reads: each acknowledgement by itself */
        for (uint64_t lba = 0; lba < 96; lba += 4) {
            struct model_op *m = op_new(lab, ENTRY_UNMAP, lba + 1, 3);
            workload_submit(lab, 0, m);
            sim_run_for(lab->sim, 30, 3000000);
            workload_publish(lab, 0, lab->volumes[0].model.acked);
        }
        for (uint32_t pass = 0; pass < 2; pass++) {
            if (!task(lab, TASK_CLEAN, 0)) return;
            for (uint64_t lba = 100; lba < 148; lba += 8) {
                struct model_op *m = op_new(lab, ENTRY_NEW, lba, 8);
                for (uint32_t i = 0; i < 8; i++) m->contents[i] = ++lab->next_content << 3 | UNIQUE;
                workload_submit(lab, 0, m);
                sim_run_for(lab->sim, 30, 3000000);
                workload_publish(lab, 0, lab->volumes[0].model.acked);
            }
            if (!task(lab, TASK_CHECKPOINT, 0)) return;
        }
        lab->full = false;
        if (!finish(lab)) return;
    }
}

struct tagged {
    uint32_t tag, content;
};

/* Two contents whose fingerprints begin alike: among a hundred thousand there is such a pair. */
static bool find_twins(struct lab *lab, uint32_t ret_contents[2])
{
    enum { MANY = 500000, TABLE = 1 << 20 };
    struct tagged *table = calloc(TABLE, sizeof *table);
    static uint8_t block[BLOCK_SIZE], room[BLOCK_SIZE];
    bool found = false;
    if (!table) abort();
    for (uint32_t i = 1; i < MANY && !found; i++) {
        struct block_digest digest;
        uint32_t content = i << 3 | SMALL, tag;
        content_fill(content, block);
        digest_block(store_key(lab->store), block, room, &digest);
        memcpy(&tag, digest.print.b, 4);
        struct tagged *at = &table[tag % TABLE];
        while (at->content && at->tag != tag) at = at + 1 == table + TABLE ? table : at + 1;
        found = at->content != 0;
        ret_contents[0] = at->content;
        ret_contents[1] = content;
        *at = (struct tagged){tag, content};
    }
    lab->next_content = MANY;
    free(table);
    return found;
}

/* Where the chunk of a content lies on the disk; 0: nowhere. */
static uint64_t find_chunk(struct lab *lab, const struct block_digest *digest)
{
    static uint8_t there[1 << 16];
    const struct disk *disk = sim_disk(lab->sim, lab->names[0]);
    uint32_t head = sizeof(struct disk_chunk), stored = chunk_stored(digest->size);
    for (uint64_t at = lab->data_at[0]; at < disk_size(disk); at += sizeof there / 2) {
        disk_get(disk, at, there, min64(sizeof there, disk_size(disk) - at));
        for (uint32_t i = head; i + stored < sizeof there; i++)
            if (memcmp(there + i, digest->stored, stored) == 0) return at + i - head;
    }
    return 0;
}

/* Copies bytes from one place of the disk to another, durably. */
static void lay_over(struct disk *disk, uint64_t to, uint64_t from, uint32_t bytes)
{
    static uint8_t what[2 * SECTOR], sectors[4 * SECTOR];
    uint64_t first = to / DISK_SECTOR * DISK_SECTOR, end = round_up64(to + bytes, DISK_SECTOR);
    disk_get(disk, from, what, bytes);
    disk_get(disk, first, sectors, end - first);
    memcpy(sectors + (to - first), what, bytes);
    disk_put(disk, first, sectors, end - first, true);
}

/* A chunk written over another one with the same tag: only the checksum over the log address can tell. */
static void misdirected_twin(struct lab *lab)
{
    static uint8_t block[BLOCK_SIZE], room[2][BLOCK_SIZE];
    struct block_digest digests[2];
    uint32_t twins[2];
    uint64_t at[2] = {0, 0};
    if (!begin(lab)) return;
    if (!find_twins(lab, twins)) {
        lab_fail(lab, "no twins among the contents");
        return;
    }
    for (uint32_t i = 0; i < 2; i++) {
        struct model_op *m = op_new(lab, ENTRY_NEW, i, 1);
        m->contents[0] = twins[i];
        workload_submit(lab, 0, m);
        content_fill(twins[i], block);
        digest_block(store_key(lab->store), block, room[i], &digests[i]);
        if (!finish(lab)) return;
    }
    for (uint64_t lba = 8; lba < 56; lba += 8) /* their segment is full and sealed: nothing of it is replayed */
        if (!put(lab, lba, 8)) return;
    if (!task(lab, TASK_CLOSE, 0)) return;
    workload_forget(lab);
    for (uint32_t i = 0; i < 2; i++) at[i] = find_chunk(lab, &digests[i]);
    if (at[0] == 0 || at[1] == 0 || digests[0].units != digests[1].units) {
        lab_fail(lab, "the twins cannot be exchanged");
        return;
    }
    lay_over(sim_disk(lab->sim, lab->names[0]), at[0], at[1], digests[0].units * UNIT);
    lab->damaged = true;
    if (!come_back(lab) || !judge_verify(lab)) return;
    if (lab->unreadable != 1) lab_fail(lab, "the misdirected chunk was not noticed");
}

/* Any one copy of a checkpoint may be destroyed, at any time, also when the slots in use were promised by it alone. */
static void lost_checkpoint(struct lab *lab)
{
    static uint8_t garbage[4096];
    struct disk_super super;
    if (!begin(lab)) return;
    for (uint32_t round = 0; round < 10; round++) {
        for (uint64_t lba = 0; lba < 64; lba += 8)
            if (!put(lab, lba, 8)) return;
        lab_crash(lab);
        if (lab_failed(lab)) return;
        sim_save(lab->sim);
        disk_get(sim_disk(lab->sim, lab->names[0]), SUPER_AT_0, &super, sizeof super);
        for (uint32_t place = 0; place < 4; place++) {
            prng_fill(&lab->prng, garbage, sizeof garbage);
            disk_put(sim_disk(lab->sim, lab->names[0]), checkpoint_side_at(get64(super.checkpoint_bytes), place % 2, place / 2),
                     garbage, sizeof garbage, true);
            if (!come_back(lab) || !judge_verify(lab)) return;
            lab_crash(lab);
            sim_restore(lab->sim);
        }
        if (!come_back(lab)) return;
    }
}

/* A volume shrinks and grows again, before its cut reached the tree, and while the cleaner stands in it. */
static void shrink_and_grow(struct lab *lab)
{
    if (!begin(lab)) return;
    uint64_t blocks = lab->volumes[0].model.now.blocks;
    for (uint32_t round = 0; round < 60 && !lab_failed(lab); round++) {
        uint64_t since = lab->volumes[0].model.now.sequence;
        if (!put(lab, 0, 4) || !put(lab, 1024, 4) || !put(lab, 1536, 4)) return;
        if (round % 2 && !task(lab, TASK_CHECKPOINT, 0)) return;
        if (round % 4 == 1 && !task(lab, TASK_FLUSH, 0)) return;
        uint64_t written = lab->volumes[0].model.now.sequence;
        if (round % 3 == 0) {
            lab_task_start(lab, &lab->tasks[0], TASK_CLEAN, 0, 0);
            sim_run_for(lab->sim, round, 1000000000);
        }
        if (!resize(lab, 512) || !resize(lab, blocks)) return;
        if (!task(lab, TASK_WALK, round % 5 ? written : since)) return;
        if (!task(lab, TASK_CHANGED, round % 5 ? written : since) || !task(lab, TASK_DIGEST, 0)) return;
        if (!task(lab, TASK_FLUSH, 0) || !task(lab, TASK_DIGEST, 0) || !judge_verify(lab)) return;
        lab->full = false;
    }
}

/* The head opens slots on several pages of the directory while a checkpoint writes these pages one by one, so the directory
 * knows a later segment without an earlier one; then the power fails. */
static void head_over_pages(struct lab *lab)
{
    if (!begin(lab)) return;
    for (uint32_t round = 0; round < 160 && !lab_failed(lab); round++) {
        lab_task_start(lab, &lab->tasks[0], TASK_CHECKPOINT, 0, 0);
        sim_run_for(lab->sim, (uint32_t)below(lab, 12), 1000000000);
        for (uint32_t i = 0; i < 6; i++) {
            struct model_op *m = op_new(lab, ENTRY_NEW, 8 * below(lab, 40), 8);
            for (uint32_t k = 0; k < 8; k++) m->contents[k] = ++lab->next_content << 3 | UNIQUE;
            workload_submit(lab, 0, m);
        }
        while (on(lab) && lab->tasks[0].used) {
            sim_run_for(lab->sim, 2, 1000000000);
            workload_collect(lab);
        }
        if (!finish(lab)) return;
        lab_crash(lab);
        if (!come_back(lab) || !judge_verify(lab)) return;
        if (round % 8 == 0 && !task(lab, TASK_CLEAN, 0)) return;
        lab->full = false;
    }
}

/* The volume catches up from where it stands; false: something is wrong, or the power failed. */
static bool learn(struct lab *lab, uint32_t turns)
{
    for (uint32_t i = 0; on(lab) && lab->volumes[0].learn.turns != turns; i++) {
        lab->full = false;
        learn_some(lab);
        if (i % 16 == 5 && !lab->tasks[0].used) lab_task_start(lab, &lab->tasks[0], i % 3 ? TASK_FLUSH : TASK_CLEAN, 0, 0);
        sim_run_for(lab->sim, 6, 1000000000);
        workload_collect(lab);
        if (i > 20000) lab_fail(lab, "the volume does not catch up");
    }
    return on(lab);
}

/* Catching up, with checkpoints and the cleaner at work, while the power fails at each change, one after the other. */
static void caught_up(struct lab *lab)
{
    if (!begin(lab)) return;
    for (uint32_t n = 0; n < 80 && !lab_failed(lab); n++) {
        uint64_t since = lab->volumes[0].model.now.sequence;
        uint32_t turns = lab->volumes[0].learn.turns + 2;
        for (uint32_t i = 0; i < 3; i++)
            if (!resize(lab, 96 + below(lab, 600)) || !put(lab, below(lab, 90), 4)) return;
        sim_cut_at(lab->sim, 1 + n);
        if (!learn(lab, turns) && !lab_failed(lab)) {
            lab_crash(lab);
            if (!come_back(lab) || !judge_verify(lab) || !learn(lab, turns)) return;
        }
        sim_cut_at(lab->sim, 0);
        if (!workload_drain(lab)) return;
        since = min64(since, lab->volumes[0].model.now.sequence);
        if (!task(lab, TASK_WALK, since) || !task(lab, TASK_CHANGED, since) || !judge_verify(lab)) return;
        if (n % 8 == 0 && !close_open(lab)) return;
    }
}

/* Catching up on a full pool: what does not fit takes with it all that was given behind it. */
static void learns_when_full(struct lab *lab)
{
    if (!begin(lab)) return;
    for (uint64_t lba = 0; !lab->full && lba + 8 <= lab->mix.volume_blocks; lba += 8)
        if (!put(lab, lba, 8)) return;
    if (!lab->full) lab_fail(lab, "the pool does not run full");
    uint32_t failed = 0;
    for (uint32_t i = 0; i < 400 && on(lab); i++) {
        lab->full = false;
        learn_some(lab);
        sim_run_for(lab->sim, 40, 3000000000u);
        failed += lab->volumes[0].learn.failed != 0;
        workload_collect(lab);
    }
    if (on(lab) && failed == 0) lab_fail(lab, "no step fails for space");
    lab_crash(lab);
    if (!lab_failed(lab) && come_back(lab)) judge_verify(lab);
}

/* What the newest checkpoint says was committed, others have replaced by less; then something is prepared under those numbers,
 * and the power fails before it is decided. The checkpoint must not decide it. */
static void moved_back(struct lab *lab)
{
    struct lab_volume *lv = &lab->volumes[0];
    enum err err;
    if (!begin(lab)) return;
    for (uint32_t round = 0; round < 4 && !lab_failed(lab); round++) {
        for (uint32_t i = 0; i < 8; i++)
            if (!put(lab, below(lab, 90), 4)) return;
        if (!task(lab, TASK_CHECKPOINT, 0)) return;
        learn_back(lab, 0, lv->model.now.sequence - 5);
        for (uint32_t i = 0; lv->learn.on && on(lab); i++) {
            learn_some(lab);
            sim_run_for(lab->sim, 6, 1000000);
            workload_collect(lab);
            if (i > 20000) lab_fail(lab, "the volume does not catch up");
        }
        for (uint32_t i = 0; i < 2 && on(lab); i++) {
            struct model_op *m = op_new(lab, ENTRY_NEW, below(lab, 90), 1);
            m->contents[0] = ++lab->next_content << 3 | UNIQUE;
            workload_submit(lab, 0, m);
        }
        if (!workload_drain(lab)) return;
        lab_crash(lab);
        if (lab_audit(lab, &err) > 0 || err != OK) lab_fail(lab, "the auditor: %s: %s", err_name(err), lab->finding);
        if (lab_failed(lab) || !come_back(lab) || !judge_verify(lab)) return;
    }
}

/* Writes, as long as the pool takes them; `next` is where. */
static bool fill(struct lab *lab, uint64_t *next)
{
    for (lab->full = false; on(lab) && !lab->full && *next + 8 <= lab->mix.volume_blocks; *next += 8) put(lab, *next, 8);
    if (on(lab) && !lab->full) lab_fail(lab, "the pool does not run full");
    return on(lab);
}

/* Prepares what holders were pledged, `most` blocks at a time, each in a batch of its own, with unmaps between; it is published
 * as late as can be. */
static bool use_pledges(struct lab *lab, uint32_t holders, uint32_t most, uint64_t *next)
{
    for (uint32_t h = 0; h < holders; h++) {
        const struct lab_volume *lv = &lab->volumes[0];
        while (on(lab) && lab->pledges[h].blocks > 0 && *next + most < lab->mix.volume_blocks) {
            uint32_t count = min32(lab->pledges[h].blocks, most);
            struct model_op *m = op_new(lab, ENTRY_NEW, *next, count);
            for (uint32_t i = 0; i < count; i++) m->contents[i] = ++lab->next_content << 3 | UNIQUE;
            workload_submit_pledged(lab, 0, m, &lab->pledges[h]);
            if (!workload_drain(lab)) return false;
            *next += count;
            if (below(lab, 4) == 0) workload_submit(lab, 0, op_new(lab, ENTRY_UNMAP, *next, 1));
            if (lv->model.count - lv->model.now.sequence >= LAB_OPS - 4) finish(lab);
        }
    }
    return finish(lab);
}

/* Holders are pledged all that they get, and others fill the pool. What was pledged is prepared all the same, while nothing is
 * decided, and the pool gives no more until something is unmapped; then it does, and it takes writes again. */
static void pledged_when_full(struct lab *lab)
{
    if (!begin(lab)) return;
    for (uint32_t round = 0; round < 8 && on(lab); round++) {
        bool full = false;
        uint64_t next = 0;
        for (uint32_t h = 0; h < LAB_PLEDGES; h++) pledge_ask(lab, h, 100);
        if (lab->pledges[0].blocks == 0) lab_fail(lab, "an empty pool pledges nothing");
        if (!fill(lab, &next)) return;
        if (!use_pledges(lab, LAB_PLEDGES, round % 4 < 2 ? store_write_max(lab->store) : 1, &next) || !fill(lab, &next)) return;
        for (uint32_t i = 0; i < 200 && !full; i++) {
            if (!pledge_settle(lab, 0, &full)) return;
            if (!use_pledges(lab, 1, 1, &next)) return;
        }
        if (!full) lab_fail(lab, "a full pool goes on to pledge");
        if (round % 2) {
            lab_crash(lab);
            if (!come_back(lab) || !judge_verify(lab)) return;
            pledge_ask(lab, 0, 100);
            if (lab->pledges[0].blocks == 0) lab_fail(lab, "nothing of what was pledged is pledged again");
            if (!use_pledges(lab, 1, 1, &next)) return;
        }
        if (!clear(lab, 0, (uint32_t)lab->mix.volume_blocks)) return;
        lab->full = false;
        if (!pledge_settle(lab, 0, &full)) return;
        if (full || !put(lab, 0, 8)) lab_fail(lab, "the pool stays full");
        if (lab->full) lab_fail(lab, "there is space for those who are pledged some, and not for others");
    }
}

/* Unmaps all over a large volume, each a leaf of the delta and, at worst, a page: what they may take is not there for writes.
 * With few slots open, and much that is dead, the next write must get its room from the cleaner. */
static void scattered_and_short(struct lab *lab)
{
    enum { LEAVES = 200, LEAF = 512 };
    struct store_stats stats = {.slots_free = UINT64_MAX};
    if (!begin(lab) || !resize(lab, (uint64_t)LEAF * (LEAVES + 8))) return;
    uint64_t open = 12 + 4 + (lab->mix.slots / 16) / 2; /* fewer than the leaves leave, more than is private */
    for (uint64_t n = 0; stats.slots_free > open; n++) {
        if (!put(lab, 8 * (n % 90), 8)) return;
        store_stats(lab->store, &stats);
    }
    for (uint32_t n = 0; n < LEAVES; n++) {
        workload_submit(lab, 0, op_new(lab, ENTRY_UNMAP, (uint64_t)LEAF * (n + 4), 1));
        if (n % 20 == 19 && !finish(lab)) return;
    }
    if (!put(lab, 0, 8)) return;
    if (lab->full) lab_fail(lab, "a pool that is half dead is full");
}

/* ---- the list ---- */

static const struct {
    const char *name;
    void (*run)(struct lab *lab);
    uint32_t slots;
    uint64_t blocks;
    enum mutation catches; /* MUTATE_NONE: none by itself */
} histories[] = {
    {"full-pool", full_pool, 20, 600, MUTATE_NONE},
    {"freed-slots", freed_slots, 20, 96, MUTATE_REUSE_EARLY},
    {"slow-reads", slow_reads, 20, 160, MUTATE_REUSE_UNDER_READ},
    {"misdirected-twin", misdirected_twin, 20, 64, MUTATE_NO_ADDRESS_IN_CRC},
    {"lost-checkpoint", lost_checkpoint, 40, 64, MUTATE_ONE_CHECKPOINT},
    {"shrink-and-grow", shrink_and_grow, 40, 2000, MUTATE_NONE},
    {"caught-up", caught_up, 40, 96, MUTATE_NONE},
    {"learns-when-full", learns_when_full, 20, 600, MUTATE_LEARN_GAP},
    {"moved-back", moved_back, 40, 96, MUTATE_STALE_COMMIT},
    {"head-over-pages", head_over_pages, 256, 400, MUTATE_NONE},
    {"scattered-and-short", scattered_and_short, 128, 720, MUTATE_NONE},
    {"pledged-when-full", pledged_when_full, 64, 1600, MUTATE_PLEDGE_UNCOUNTED},
};

uint32_t direct_count(void)
{
    return sizeof histories / sizeof histories[0];
}

const char *direct_name(uint32_t i)
{
    return histories[i].name;
}

bool direct_catches(uint32_t i, int mutation)
{
    return mutation != MUTATE_NONE && (int)histories[i].catches == mutation;
}

uint64_t direct_run(struct lab *lab, uint32_t i, const struct history_options *options)
{
    struct mix mix = {.depth = LAB_OPS,
                      .blocks_max = 8,
                      .kinds = 1u << UNIQUE,
                      .pause = 1,
                      .devices = 1,
                      .slots = histories[i].slots,
                      .shift = 16,
                      .memory = 12u << 20,
                      .volume_blocks = histories[i].blocks,
                      .windows = 1,
                      .alive = 2,
                      .total = 1,
                      .no_clean = true,
                      .faults = FAULT_POWER};
    lab_begin_as(lab, options->seed, &mix, options->control ? MUTATE_NONE : (enum mutation)options->mutation, options->trace);
    histories[i].run(lab);
    uint64_t hash = sim_hash(lab->sim);
    lab_end(lab);
    return hash;
}
