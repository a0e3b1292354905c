/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: content that one replica sends is the content that another gets, whether it comes with a step (a stretch) or with a
 * record (a body); and a learner takes no bytes that do not fit the step that they came with. Method: random stretches and
 * bodies there and back, cut at each byte and one too long; full ones; a plain one in which one field is changed; and one
 * stretch against steps that are a little different.
 */
#include <stdlib.h>

#include "base/prng.h"
#include "check.h"
#include "tests/unit/changed.h"
#include "volume/replica/body.h"

enum { BLOCKS = 4096, ROUNDS = 100, STEP_FROM = 1000, STEP_BLOCKS = 2000 };

/* ---- blocks ---- */

static const struct fingerprinter key = {{7}};

struct made {
    uint8_t block[BLOCK_SIZE], room[BLOCK_SIZE];
    struct block_digest digest;
};

/* A block of which so many bytes do not compress. */
static void make(struct prng *p, uint32_t bytes, struct made *ret_made)
{
    memset(ret_made->block, 0, BLOCK_SIZE);
    prng_fill(p, ret_made->block, bytes);
    digest_block(&key, ret_made->block, ret_made->room, &ret_made->digest);
}

static void make_some(struct prng *p, struct made *ret_made)
{
    static const uint32_t most[] = {0, 40, 1000, BLOCK_SIZE};
    make(p, (uint32_t)prng_below(p, most[prng_below(p, 4)] + 1), ret_made);
}

static bool is_same(const struct block_digest *a, const struct block_digest *b)
{
    uint32_t stored = chunk_stored(a->size);
    if (a->size != b->size) return false;
    return stored == 0 || (a->crc == b->crc && a->units == b->units && fingerprint_equal(&a->print, &b->print) &&
                           memcmp(a->stored, b->stored, stored) == 0);
}

/* ---- random stretches ---- */

/* What was put into one: a block, or a range of zeros or holes. */
struct item {
    enum entry_kind kind;
    uint64_t lba;
    uint32_t count;
    bool recorded;
    struct made made;
};

static struct item items[400];
static uint8_t bytes[STRETCH_ROOM + 1];

static uint32_t draw_walk(struct prng *p, struct stretch_writer *w)
{
    uint64_t lba = STEP_FROM;
    uint32_t count = 0, most = (uint32_t)prng_below(p, 60);
    for (; count < most; count++) {
        struct item *item = &items[count];
        *item = (struct item){.kind = ENTRY_NEW, .lba = lba, .count = 1};
        if (prng_below(p, 3) == 0) item->kind = prng_below(p, 2) == 0 ? ENTRY_ZERO : ENTRY_UNMAP;
        if (item->kind == ENTRY_NEW)
            make_some(p, &item->made);
        else
            item->count = 1 + (uint32_t)prng_below(p, 9);
        bool fits = item->kind == ENTRY_NEW ? stretch_walk_block(w, lba, &item->made.digest)
                                            : stretch_walk_range(w, item->kind, lba, item->count);
        if (!fits) break;
        if (item->kind == ENTRY_NEW && item->made.digest.size == 0) item->kind = ENTRY_ZERO;
        lba += item->count + (prng_below(p, 3) == 0 ? prng_below(p, 5) : 0);
    }
    return count;
}

static uint32_t draw_records(struct prng *p, struct stretch_writer *w, struct replica_step *step, uint32_t count)
{
    uint32_t blocks = 0;
    step->count = (uint32_t)prng_below(p, REPLICA_STEP_RECORDS + 1);
    for (uint32_t i = 0; i < step->count; i++) {
        struct replica_change *change = &step->records[i].change;
        *change = (struct replica_change){.kind = (enum replica_kind)prng_below(p, 3)};
        if (change->kind == REPLICA_NOOP) continue;
        change->lba = prng_below(p, BLOCKS - 20);
        change->count = 1 + (uint32_t)prng_below(p, change->kind == REPLICA_FREE ? 20 : REPLICA_STEP_BLOCKS / 32);
        enum entry_kind kind = change->kind == REPLICA_WRITE ? ENTRY_NEW : prng_below(p, 2) == 0 ? ENTRY_ZERO : ENTRY_UNMAP;
        stretch_record(w, kind, change->lba, change->count);
        for (uint32_t b = 0; b < (kind == ENTRY_NEW ? change->count : 1); b++, blocks++) {
            struct item *item = &items[count + blocks];
            *item = (struct item){.kind = kind, .lba = change->lba + b, .count = 1, .recorded = true};
            if (kind != ENTRY_NEW) {
                item->count = change->count;
                continue;
            }
            make_some(p, &item->made);
            stretch_record_block(w, &item->made.digest);
        }
    }
    return count + blocks;
}

static uint32_t draw(uint64_t seed, struct stretch_writer *w, struct replica_step *ret_step)
{
    struct prng p;
    prng_init(&p, seed);
    memset(ret_step, 0, sizeof *ret_step);
    stretch_begin(w, bytes);
    uint32_t count = draw_walk(&p, w);
    ret_step->cursor = STEP_FROM;
    ret_step->stretch = w->walked > 0 ? STEP_BLOCKS : 0;
    return draw_records(&p, w, ret_step, count);
}

/* The items from `at` on that are this run; 0: it is something else. */
static uint32_t run_is(const struct stretch_run *run, uint32_t at, uint32_t count, bool recorded)
{
    uint32_t blocks = 0, i = at;
    for (; i < count && blocks < run->count; i++) {
        const struct item *item = &items[i];
        if (item->recorded != recorded || item->kind != run->kind || item->lba != run->lba + blocks) return 0;
        if (run->kind == ENTRY_NEW && !is_same(&run->digests[blocks], &item->made.digest)) return 0;
        blocks += item->count;
    }
    return blocks == run->count ? i - at : 0;
}

static bool is_all(uint32_t size, uint32_t count)
{
    static struct stretch_run run;
    struct stretch_reader r;
    uint32_t at = 0;
    if (stretch_open(bytes, size, &r) != OK) return false;
    while (r.walked + r.recorded > 0) {
        bool recorded = r.walked == 0;
        if (stretch_next(&r, &run) != OK) return false;
        uint32_t taken = run_is(&run, at, count, recorded);
        if (taken == 0) return false;
        at += taken;
    }
    return at == count && r.at.left == 0;
}

TEST(random_stretches_come_back)
{
    static struct replica_step step;
    for (uint64_t seed = 0; seed < ROUNDS; seed++) {
        struct stretch_writer w;
        uint32_t count = draw(seed, &w, &step);
        CHECK(w.used <= STRETCH_BYTES_MAX);
        CHECK(is_all(w.used, count));
        CHECK_OK(stretch_check(bytes, w.used, &step, BLOCKS));
        CHECK(stretch_is_needed(&step) == (w.walked + w.recorded > 0));
        bytes[w.used] = 0;
        CHECK_ERR(ERR_DECODE, stretch_check(bytes, w.used + 1, &step, BLOCKS));
    }
}

/* Of exactly that many bytes, so that a sanitizer sees one too many being read. */
static enum err cut(uint32_t size, const struct replica_step *step)
{
    uint8_t *exact = malloc(size > 0 ? size : 1);
    memcpy(exact, bytes, size);
    enum err err = stretch_check(exact, size, step, BLOCKS);
    free(exact);
    return err;
}

TEST(no_stretch_is_taken_in_part)
{
    static struct replica_step step;
    for (uint64_t seed = 1; seed < 4; seed++) {
        struct stretch_writer w;
        draw(seed, &w, &step);
        for (uint32_t size = 0; size < min32(w.used, 3000); size++) CHECK_ERR(ERR_DECODE, cut(size, &step));
        for (uint32_t size = w.used - 200; size < w.used; size++) CHECK_ERR(ERR_DECODE, cut(size, &step));
    }
}

/* ---- full ones ---- */

TEST(neighbours_are_one_run)
{
    struct stretch_writer w;
    struct prng p;
    static struct made made;
    prng_init(&p, 1);
    make(&p, 20, &made);
    stretch_begin(&w, bytes);
    for (uint32_t i = 0; i < RECORD_BLOCKS_MAX; i++) CHECK(stretch_walk_block(&w, 100 + i, &made.digest));
    CHECK_EQ(w.walked, 1);
    CHECK(stretch_walk_block(&w, 100 + RECORD_BLOCKS_MAX, &made.digest));
    CHECK_EQ(w.walked, 2);
    CHECK(stretch_walk_range(&w, ENTRY_ZERO, 101 + RECORD_BLOCKS_MAX, RECORD_UNMAP_MAX - 1));
    CHECK(stretch_walk_range(&w, ENTRY_ZERO, 100 + RECORD_BLOCKS_MAX + RECORD_UNMAP_MAX, 1));
    CHECK_EQ(w.walked, 3);
    CHECK(stretch_walk_range(&w, ENTRY_ZERO, 101 + RECORD_BLOCKS_MAX + RECORD_UNMAP_MAX, 1));
    CHECK_EQ(w.walked, 4);
    CHECK(stretch_walk_range(&w, ENTRY_UNMAP, 102 + RECORD_BLOCKS_MAX + RECORD_UNMAP_MAX, 1));
    CHECK(stretch_walk_range(&w, ENTRY_UNMAP, 104 + RECORD_BLOCKS_MAX + RECORD_UNMAP_MAX, 1));
    CHECK_EQ(w.walked, 6);
}

TEST(a_walk_has_so_many_runs)
{
    struct stretch_writer w;
    stretch_begin(&w, bytes);
    for (uint32_t i = 0; i < STRETCH_RUNS; i++) CHECK(stretch_walk_range(&w, ENTRY_UNMAP, 2 * i, 1));
    uint32_t used = w.used;
    CHECK(!stretch_walk_range(&w, ENTRY_UNMAP, 2 * STRETCH_RUNS, 1));
    CHECK(!stretch_walk_range(&w, ENTRY_ZERO, 2 * STRETCH_RUNS - 1, 1));
    CHECK(stretch_walk_range(&w, ENTRY_UNMAP, 2 * STRETCH_RUNS - 1, 1)); /* it joins the last */
    CHECK(w.used == used && w.walked == STRETCH_RUNS);
    static struct replica_step step = {.cursor = 0, .stretch = 2 * STRETCH_RUNS};
    CHECK_OK(stretch_check(bytes, w.used, &step, BLOCKS));
    step.stretch = 2 * STRETCH_RUNS - 1;
    CHECK_ERR(ERR_DECODE, stretch_check(bytes, w.used, &step, BLOCKS));
}

/* With all that a step may have. The blocks lie where the host reads them to: at the end of the bytes, made from there on. */
TEST(all_of_a_step_fits)
{
    static struct made made;
    static uint8_t copies[STRETCH_BLOCKS][BLOCK_SIZE];
    static struct replica_step step = {.cursor = 0, .stretch = 2 * STRETCH_RUNS};
    struct stretch_writer w;
    struct prng p;
    prng_init(&p, 2);
    stretch_begin(&w, bytes);
    uint8_t *raw = bytes + STRETCH_ROOM - (size_t)STRETCH_DATA * BLOCK_SIZE;
    prng_fill(&p, raw, (size_t)STRETCH_DATA * BLOCK_SIZE);
    memcpy(copies, raw, (size_t)STRETCH_DATA * BLOCK_SIZE);
    for (uint32_t i = 0; i < STRETCH_DATA; i++) {
        digest_block(&key, raw + (size_t)i * BLOCK_SIZE, made.room, &made.digest);
        CHECK(made.digest.size == BLOCK_SIZE && stretch_walk_block(&w, 2 * i, &made.digest));
    }
    digest_block(&key, copies[0], made.room, &made.digest);
    CHECK(!stretch_walk_block(&w, 2 * STRETCH_DATA, &made.digest));
    for (uint32_t i = STRETCH_DATA; i < STRETCH_RUNS; i++) CHECK(stretch_walk_range(&w, ENTRY_UNMAP, 2 * i, 1));
    raw = bytes + STRETCH_ROOM - (size_t)REPLICA_STEP_BLOCKS * BLOCK_SIZE;
    CHECK(bytes + w.used <= raw);
    prng_fill(&p, raw, (size_t)REPLICA_STEP_BLOCKS * BLOCK_SIZE);
    memcpy(copies[STRETCH_DATA], raw, (size_t)REPLICA_STEP_BLOCKS * BLOCK_SIZE);
    step.count = REPLICA_STEP_RECORDS;
    for (uint32_t i = 0; i < REPLICA_STEP_BLOCKS; i++) {
        struct replica_change *change = &step.records[i / 4].change;
        *change = (struct replica_change){.kind = REPLICA_WRITE, .count = 4, .lba = i / 4 * 4};
        if (i % 4 == 0) CHECK(stretch_record(&w, ENTRY_NEW, change->lba, 4));
        digest_block(&key, raw + (size_t)i * BLOCK_SIZE, made.room, &made.digest);
        CHECK(stretch_record_block(&w, &made.digest));
    }
    CHECK_EQ(w.used, STRETCH_BYTES_MAX);
    CHECK(!stretch_record(&w, ENTRY_UNMAP, 0, 1) && !stretch_record_block(&w, &made.digest));
    CHECK_OK(stretch_check(bytes, w.used, &step, BLOCKS));
    static struct stretch_run run;
    struct stretch_reader r;
    uint32_t block = 0;
    CHECK_OK(stretch_open(bytes, w.used, &r));
    while (r.walked + r.recorded > 0) {
        CHECK_OK(stretch_next(&r, &run));
        for (uint32_t i = 0; run.kind == ENTRY_NEW && i < run.count; i++, block++)
            CHECK_BYTES(run.digests[i].stored, copies[block], BLOCK_SIZE);
    }
    CHECK_EQ(block, STRETCH_BLOCKS);
    CHECK_ERR(ERR_DECODE, stretch_open(bytes, w.used + 1, &r));
}

/* ---- hostile ones ---- */

enum { RUN0 = 8, BLOCK0 = RUN0 + 16, STORED0 = BLOCK0 + 28 };

/* A block at STEP_FROM, a zero behind it, a hole at its end; of its records a write of one block and an unmap. */
static uint32_t plain(struct replica_step *ret_step)
{
    static struct made made;
    struct stretch_writer w;
    struct prng p;
    prng_init(&p, 3);
    make(&p, 30, &made);
    stretch_begin(&w, bytes);
    stretch_walk_block(&w, STEP_FROM, &made.digest);
    stretch_walk_range(&w, ENTRY_ZERO, STEP_FROM + 1, 2);
    stretch_walk_range(&w, ENTRY_UNMAP, STEP_FROM + STEP_BLOCKS - 1, 1);
    stretch_record(&w, ENTRY_NEW, 4, 1);
    stretch_record_block(&w, &made.digest);
    stretch_record(&w, ENTRY_UNMAP, 9, 3);
    memset(ret_step, 0, sizeof *ret_step);
    ret_step->cursor = STEP_FROM;
    ret_step->stretch = STEP_BLOCKS;
    ret_step->count = 3;
    ret_step->records[0].change = (struct replica_change){.kind = REPLICA_WRITE, .count = 1, .lba = 4};
    ret_step->records[1].change = (struct replica_change){.kind = REPLICA_NOOP};
    ret_step->records[2].change = (struct replica_change){.kind = REPLICA_FREE, .count = 3, .lba = 9};
    return w.used;
}

/* What is said of the plain one with other bytes at a place. */
static enum err stretch_changed(size_t at, const void *to, size_t size)
{
    static struct replica_step step;
    uint32_t used = plain(&step);
    memcpy(bytes + at, to, size);
    return stretch_check(bytes, used, &step, BLOCKS);
}

TEST(runs_keep_limits)
{
    struct replica_step step;
    plain(&step);
    uint32_t run1 = STORED0 + chunk_stored((uint16_t)(bytes[BLOCK0 + 24] | bytes[BLOCK0 + 25] << 8));
    CHECK_OK(changed8(stretch_changed, 0, STRETCH_VERSION));
    CHECK_ERR(ERR_DECODE, changed8(stretch_changed, 0, 0));
    CHECK_ERR(ERR_DECODE, changed8(stretch_changed, 0, STRETCH_VERSION + 1));
    for (size_t at = 1; at < 4; at++) CHECK_ERR(ERR_DECODE, changed8(stretch_changed, at, 1));
    CHECK_ERR(ERR_DECODE, changed16(stretch_changed, 4, 0));
    CHECK_ERR(ERR_DECODE, changed16(stretch_changed, 4, 2));
    CHECK_ERR(ERR_DECODE, changed16(stretch_changed, 4, 4));
    CHECK_ERR(ERR_DECODE, changed16(stretch_changed, 4, STRETCH_RUNS + 1));
    CHECK_ERR(ERR_DECODE, changed16(stretch_changed, 4, UINT16_MAX));
    CHECK_ERR(ERR_DECODE, changed16(stretch_changed, 6, 1));
    CHECK_ERR(ERR_DECODE, changed16(stretch_changed, 6, 3));
    CHECK_ERR(ERR_DECODE, changed16(stretch_changed, 6, REPLICA_STEP_RECORDS + 1));
    CHECK_OK(changed64(stretch_changed, run1, STEP_FROM + 2));
    CHECK_ERR(ERR_DECODE, changed64(stretch_changed, run1, STEP_FROM)); /* within the one before */
    CHECK_ERR(ERR_DECODE, changed64(stretch_changed, run1, UINT64_MAX));
    CHECK_ERR(ERR_DECODE, changed64(stretch_changed, run1, VOLUME_BLOCKS_MAX - 1));
    CHECK_ERR(ERR_DECODE, changed64(stretch_changed, RUN0, STEP_FROM - 1));
    CHECK_OK(changed32(stretch_changed, run1 + 8, STEP_BLOCKS - 2));
    CHECK_ERR(ERR_DECODE, changed32(stretch_changed, run1 + 8, STEP_BLOCKS - 1)); /* into the next one */
    CHECK_ERR(ERR_DECODE, changed32(stretch_changed, run1 + 8, 0));
    CHECK_ERR(ERR_DECODE, changed32(stretch_changed, run1 + 8, RECORD_UNMAP_MAX + 1));
    CHECK_ERR(ERR_DECODE, changed32(stretch_changed, run1 + 8, UINT32_MAX));
    CHECK_ERR(ERR_DECODE, changed32(stretch_changed, RUN0 + 8, RECORD_BLOCKS_MAX + 1));
    CHECK_OK(changed8(stretch_changed, run1 + 12, WIRE_RUN_UNMAP));
    CHECK_ERR(ERR_DECODE, changed8(stretch_changed, run1 + 12, 0));
    CHECK_ERR(ERR_DECODE, changed8(stretch_changed, run1 + 12, WIRE_RUN_UNMAP + 1));
    CHECK_ERR(ERR_DECODE, changed8(stretch_changed, run1 + 12, 255));
    CHECK_ERR(ERR_DECODE, changed8(stretch_changed, run1 + 12, WIRE_RUN_DATA));
    for (size_t at = run1 + 13; at < run1 + 16; at++) CHECK_ERR(ERR_DECODE, changed8(stretch_changed, at, 1));
}

TEST(blocks_keep_limits)
{
    CHECK_ERR(ERR_CHECKSUM, changed8(stretch_changed, BLOCK0, (uint8_t)~bytes[BLOCK0]));
    CHECK_ERR(ERR_CHECKSUM, changed8(stretch_changed, BLOCK0 + 20, (uint8_t)~bytes[BLOCK0 + 20]));
    CHECK_ERR(ERR_CHECKSUM, changed8(stretch_changed, STORED0, (uint8_t)~bytes[STORED0]));
    CHECK_ERR(ERR_DECODE, changed16(stretch_changed, BLOCK0 + 24, 0)); /* zeros that have a fingerprint */
    CHECK_ERR(ERR_DECODE, changed16(stretch_changed, BLOCK0 + 24, CODEC_LZ4 << CHUNK_SIZE_BITS));
    CHECK_ERR(ERR_DECODE, changed16(stretch_changed, BLOCK0 + 24, BLOCK_SIZE | CODEC_LZ4 << CHUNK_SIZE_BITS));
    CHECK_ERR(ERR_DECODE, changed16(stretch_changed, BLOCK0 + 24, BLOCK_SIZE));
    CHECK_ERR(ERR_DECODE, changed16(stretch_changed, BLOCK0 + 24, 20));
    CHECK_ERR(ERR_DECODE, changed16(stretch_changed, BLOCK0 + 24, 20 | CODEC_ZSTD << CHUNK_SIZE_BITS));
    CHECK_ERR(ERR_DECODE, changed16(stretch_changed, BLOCK0 + 24, UINT16_MAX));
    CHECK_ERR(ERR_DECODE, changed8(stretch_changed, BLOCK0 + 26, 1));
    CHECK_ERR(ERR_DECODE, changed8(stretch_changed, BLOCK0 + 27, 1));
}

/* The plain one, and a step that is not its own. */
static enum err against(const struct replica_step *step, uint64_t blocks)
{
    struct replica_step its;
    uint32_t used = plain(&its);
    return stretch_check(bytes, used, step, blocks);
}

TEST(a_stretch_fits_its_step_only)
{
    struct replica_step s;
    plain(&s);
    CHECK_OK(against(&s, STEP_FROM + STEP_BLOCKS));
    CHECK_ERR(ERR_DECODE, against(&s, STEP_FROM + STEP_BLOCKS - 1)); /* beyond the volume */
    s.cursor--;
    CHECK_ERR(ERR_DECODE, against(&s, BLOCKS)); /* the last run is behind what was walked */
    s.cursor += 2;
    CHECK_ERR(ERR_DECODE, against(&s, BLOCKS));
    plain(&s);
    s.stretch--;
    CHECK_ERR(ERR_DECODE, against(&s, BLOCKS));
    s.stretch = 0;
    CHECK_ERR(ERR_DECODE, against(&s, BLOCKS));
    s.stretch = REPLICA_WALK_END - s.cursor; /* to the end */
    CHECK_OK(against(&s, BLOCKS));
    plain(&s);
    s.count = 2; /* one more than it knows of */
    CHECK_ERR(ERR_DECODE, against(&s, BLOCKS));
    s.count = 3;
    s.records[1].change = s.records[2].change; /* one less */
    CHECK_ERR(ERR_DECODE, against(&s, BLOCKS));
    plain(&s);
    s.records[0].change.kind = REPLICA_FREE;
    CHECK_ERR(ERR_DECODE, against(&s, BLOCKS));
    plain(&s);
    s.records[2].change.kind = REPLICA_WRITE;
    CHECK_ERR(ERR_DECODE, against(&s, BLOCKS));
    plain(&s);
    s.records[0].change.lba++;
    CHECK_ERR(ERR_DECODE, against(&s, BLOCKS));
    plain(&s);
    s.records[2].change.count++;
    CHECK_ERR(ERR_DECODE, against(&s, BLOCKS));
}

/* A record may lie beyond the volume while the walk does not. */
TEST(records_lie_in_the_volume)
{
    struct stretch_writer w;
    static struct replica_step s = {.count = 1, .records = {{.change = {.kind = REPLICA_FREE, .count = 3, .lba = 97}}}};
    stretch_begin(&w, bytes);
    stretch_record(&w, ENTRY_UNMAP, 97, 3);
    CHECK_OK(stretch_check(bytes, w.used, &s, 100));
    CHECK_ERR(ERR_DECODE, stretch_check(bytes, w.used, &s, 99));
}

TEST(a_stretch_is_needed_for_blocks)
{
    static struct replica_step s;
    CHECK(!stretch_is_needed(&s));
    s.count = 2;
    CHECK(!stretch_is_needed(&s)); /* NOOPs */
    s.records[1].change.kind = REPLICA_FREE;
    CHECK(stretch_is_needed(&s));
    s.count = 1;
    CHECK(!stretch_is_needed(&s));
    s.stretch = 1;
    CHECK(stretch_is_needed(&s));
}

/* ---- bodies ---- */

enum { CONTENTS = 4 };

static struct replica_contents pool;
static struct mem *pool_mem;

static struct replica_content *content_of(enum entry_kind what, uint32_t count)
{
    if (pool_mem == NULL && contents_init(&pool, pool_mem = mem_open(32 << 20), CONTENTS) != OK) exit(2);
    return content_take(&pool, CONTENT_RECORD, 1, what, count);
}

/* Bytes as they arrive: in pieces, the last of which is as long as it is. */
struct arrived {
    uint8_t *pieces[LINK_BODY_PIECES];
    struct body_reader reader;
};

static void arrive(const uint8_t *at, uint32_t size, struct arrived *ret_arrived)
{
    *ret_arrived = (struct arrived){.reader = {.bytes = size}};
    for (uint32_t i = 0; i * LINK_PIECE < size; i++) {
        uint32_t piece = min32(size - i * LINK_PIECE, LINK_PIECE);
        ret_arrived->pieces[i] = malloc(piece);
        memcpy(ret_arrived->pieces[i], at + (size_t)i * LINK_PIECE, piece);
    }
    ret_arrived->reader.pieces = ret_arrived->pieces;
}

static void arrived_end(struct arrived *a)
{
    for (uint32_t i = 0; i < LINK_BODY_PIECES; i++) free(a->pieces[i]);
}

/* Puts `count` random blocks behind `used` bytes. Returns bytes. */
static uint32_t body_put(struct prng *p, enum entry_kind what, uint32_t count, uint32_t most, uint32_t used,
                         struct replica_content **ret_content)
{
    static struct made made;
    struct replica_content *content = content_of(what, count);
    for (uint32_t i = 0; what == ENTRY_NEW && i < count; i++) {
        make(p, most == BLOCK_SIZE ? BLOCK_SIZE : (uint32_t)prng_below(p, most + 1), &made);
        content_add(content, i, &made.digest);
    }
    uint32_t table = body_encode(content, bytes + used);
    memcpy(bytes + used + table, content->bytes, content->used);
    *ret_content = content;
    return used + table + content->used;
}

/* What is read next is that, and nothing else. */
static enum err body_is(struct body_reader *reader, const struct replica_content *content)
{
    struct body_head head;
    enum err err = body_head_decode(reader, &head);
    if (err != OK) return err;
    if (head.what != content->what || head.count != content->count) return ERR_CONFLICT;
    struct replica_content *back = content_of(head.what, head.count);
    err = body_decode(reader, back);
    for (uint32_t i = 0; err == OK && head.what == ENTRY_NEW && i < head.count; i++)
        if (!is_same(&back->digests[i], &content->digests[i])) err = ERR_CONFLICT;
    content_drop(&pool, back);
    return err;
}

TEST(random_bodies_come_back)
{
    for (uint64_t seed = 0; seed < ROUNDS; seed++) {
        static const uint32_t most[] = {0, 50, 2000, BLOCK_SIZE};
        struct replica_content *first, *second;
        struct arrived a;
        struct prng p;
        prng_init(&p, seed);
        uint32_t count = seed % 4 == 3 ? RECORD_BLOCKS_MAX : 1 + (uint32_t)prng_below(&p, RECORD_BLOCKS_MAX);
        uint32_t used = body_put(&p, ENTRY_NEW, count, most[seed % 4], 0, &first);
        enum entry_kind what = seed % 2 == 0 ? ENTRY_ZERO : ENTRY_UNMAP;
        used = body_put(&p, what, 1 + (uint32_t)prng_below(&p, RECORD_UNMAP_MAX), 0, used, &second);
        arrive(bytes, used, &a);
        enum err one = body_is(&a.reader, first), two = body_is(&a.reader, second);
        bool over = a.reader.at == used;
        arrived_end(&a);
        content_drop(&pool, first);
        content_drop(&pool, second);
        CHECK_OK(one);
        CHECK_OK(two);
        CHECK(over);
    }
}

TEST(no_body_is_taken_in_part)
{
    struct replica_content *content;
    struct prng p;
    prng_init(&p, 9);
    uint32_t used = body_put(&p, ENTRY_NEW, 5, 200, 0, &content);
    for (uint32_t size = 0; size < used; size++) {
        struct arrived a;
        arrive(bytes, size, &a);
        enum err err = body_is(&a.reader, content);
        arrived_end(&a);
        CHECK_ERR(ERR_TRUNCATED, err);
    }
    content_drop(&pool, content);
}

/* What is said of a body of one packed block with other bytes at a place. */
static enum err body_changed(size_t at, const void *to, size_t size)
{
    struct replica_content *content;
    struct arrived a;
    struct prng p;
    prng_init(&p, 10);
    uint32_t used = body_put(&p, ENTRY_NEW, 2, 300, 0, &content);
    memcpy(bytes + at, to, size);
    arrive(bytes, used, &a);
    enum err err = body_is(&a.reader, content);
    arrived_end(&a);
    content_drop(&pool, content);
    return err;
}

TEST(bodies_keep_limits)
{
    enum { BLOCK = sizeof(struct wire_replica_content) };
    CHECK_OK(changed8(body_changed, 0, WIRE_DATA));
    CHECK_ERR(ERR_DECODE, changed8(body_changed, 0, 0));
    CHECK_ERR(ERR_DECODE, changed8(body_changed, 0, WIRE_HOLES + 1));
    CHECK_ERR(ERR_DECODE, changed8(body_changed, 0, 255));
    CHECK_ERR(ERR_CONFLICT, changed8(body_changed, 0, WIRE_ZEROS));
    for (size_t at = 1; at < 4; at++) CHECK_ERR(ERR_DECODE, changed8(body_changed, at, 1));
    CHECK_ERR(ERR_DECODE, changed32(body_changed, 4, 0));
    CHECK_ERR(ERR_DECODE, changed32(body_changed, 4, RECORD_BLOCKS_MAX + 1));
    CHECK_ERR(ERR_DECODE, changed32(body_changed, 4, UINT32_MAX));
    CHECK_ERR(ERR_CONFLICT, changed32(body_changed, 4, RECORD_BLOCKS_MAX));
    CHECK_ERR(ERR_DECODE, changed16(body_changed, BLOCK + 24, 0));
    CHECK_ERR(ERR_DECODE, changed16(body_changed, BLOCK + 24, BLOCK_SIZE | CODEC_LZ4 << CHUNK_SIZE_BITS));
    CHECK_ERR(ERR_DECODE, changed16(body_changed, BLOCK + 24, CODEC_LZ4 << CHUNK_SIZE_BITS));
    CHECK_ERR(ERR_DECODE, changed16(body_changed, BLOCK + 24, 17));
    CHECK_ERR(ERR_TRUNCATED, changed16(body_changed, BLOCK + 24, BLOCK_SIZE));
    CHECK_ERR(ERR_CHECKSUM, changed8(body_changed, BLOCK, (uint8_t)~bytes[BLOCK]));
    CHECK_ERR(ERR_CHECKSUM, changed8(body_changed, BLOCK + 20, (uint8_t)~bytes[BLOCK + 20]));
    CHECK_ERR(ERR_CHECKSUM, changed8(body_changed, BLOCK + 2 * 28, (uint8_t)~bytes[BLOCK + 2 * 28]));
    CHECK_ERR(ERR_DECODE, changed8(body_changed, BLOCK + 26, 1));
}

TEST(zeros_and_holes_keep_limits)
{
    for (uint8_t what = WIRE_ZEROS; what <= WIRE_HOLES; what++) {
        struct wire_replica_content head = {.what = what, .count = put32(RECORD_UNMAP_MAX)};
        uint8_t *piece = (uint8_t *)&head;
        struct body_reader reader = {.pieces = &piece, .bytes = sizeof head};
        struct body_head out;
        CHECK_OK(body_head_decode(&reader, &out));
        CHECK_EQ(out.count, RECORD_UNMAP_MAX);
        head.count = put32(RECORD_UNMAP_MAX + 1);
        reader.at = 0;
        CHECK_ERR(ERR_DECODE, body_head_decode(&reader, &out));
    }
}

TEST(all_contents_were_given_back)
{
    struct replica_content *all[CONTENTS];
    for (uint32_t i = 0; i < CONTENTS; i++) CHECK((all[i] = content_of(ENTRY_ZERO, 1)) != NULL);
    CHECK(content_of(ENTRY_ZERO, 1) == NULL);
    for (uint32_t i = 0; i < CONTENTS; i++) content_drop(&pool, all[i]);
    mem_close(pool_mem);
    pool_mem = NULL;
}

TESTS(random_stretches_come_back, no_stretch_is_taken_in_part, neighbours_are_one_run, a_walk_has_so_many_runs,
      all_of_a_step_fits, runs_keep_limits, blocks_keep_limits, a_stretch_fits_its_step_only, records_lie_in_the_volume,
      a_stretch_is_needed_for_blocks, random_bodies_come_back, no_body_is_taken_in_part, bodies_keep_limits,
      zeros_and_holes_keep_limits, all_contents_were_given_back)
