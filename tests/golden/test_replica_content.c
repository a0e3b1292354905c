/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what replicas send as content, and what the roster and the stores keep of a replicated volume, never changes its
 * meaning. Method: the sections `replica_content...`, `replica_stretch`, `placement...`, `replica_self...` and `volume_replica`
 * of format.txt. Each is made from what is written here and must be these bytes, and these bytes read must be that again.
 */
#include "golden/kept.h"
#include "volume/disk_replica.h"
#include "volume/replica/body.h"
#include "volume/replica/disk_self.h"
#include "volume/replica/host_internal.h"
#include "volume/replica/placement.h"

/* Fingerprints and stored bytes are any; the checksums are theirs. */
static uint8_t five[] = {1, 2, 3, 4, 5}, raw[BLOCK_SIZE], hundred[100];

static struct block_digest digest_made(uint8_t first, uint8_t step, uint32_t crc, uint16_t size, const uint8_t *stored)
{
    struct block_digest d = {.crc = crc, .size = size, .stored = stored};
    for (uint32_t i = 0; i < sizeof d.print.b; i++) d.print.b[i] = (uint8_t)(first + i * step);
    memset(raw, 0xa5, sizeof raw);
    memset(hundred, 0x77, sizeof hundred);
    return d;
}

static struct block_digest packed(void)
{
    return digest_made(0x10, 1, 0x283e6741, 5 | CODEC_LZ4 << CHUNK_SIZE_BITS, five);
}

static struct block_digest whole(void)
{
    return digest_made(0xa0, 1, 0xbc4f6a3e, BLOCK_SIZE, raw);
}

static struct block_digest another(uint32_t crc)
{
    return digest_made(0xff, 0, crc, 100 | CODEC_LZ4 << CHUNK_SIZE_BITS, hundred);
}

static bool is_same(const struct block_digest *a, const struct block_digest *b)
{
    uint32_t stored = chunk_stored(a->size);
    if (a->size != b->size || (stored > 0 && a->crc != b->crc)) return false;
    return stored == 0 || (fingerprint_equal(&a->print, &b->print) && memcmp(a->stored, b->stored, stored) == 0);
}

/* ---- contents ---- */

static struct replica_contents pool;

static struct replica_content *content_of(enum entry_kind what, uint32_t count)
{
    static struct mem *mem;
    if (mem == NULL && contents_init(&pool, mem = mem_open(32 << 20), 8) != OK) return NULL;
    return content_take(&pool, CONTENT_RECORD, 1, what, count);
}

/* The table and the stored bytes are the section; read again, they are the content. */
static bool content_is_kept(const char *section, struct replica_content *content)
{
    uint8_t table[BODY_TABLE_MAX], bytes[8192], *piece = bytes;
    const struct golden *g = kept(section);
    uint32_t size = body_encode(content, table);
    memcpy(bytes, table, size);
    memcpy(bytes + size, content->bytes, content->used);
    if (!is_kept(g, bytes, size + content->used)) return false;
    struct body_reader reader = {.pieces = &piece, .bytes = (uint32_t)g->size};
    struct body_head head;
    if (body_head_decode(&reader, &head) != OK || head.what != content->what || head.count != content->count) return false;
    struct replica_content *back = content_of(head.what, head.count);
    if (body_decode(&reader, back) != OK || reader.at != g->size || back->used != content->used) return false;
    for (uint32_t i = 0; back->what == ENTRY_NEW && i < back->count; i++)
        if (!is_same(&back->digests[i], &content->digests[i])) return false;
    return true;
}

TEST(contents_are_kept)
{
    struct replica_content *content = content_of(ENTRY_NEW, 3);
    struct block_digest blocks[] = {packed(), {.size = 0}, whole()};
    for (uint32_t i = 0; i < 3; i++) content_add(content, i, &blocks[i]);
    CHECK(content_is_kept("replica_content", content));
    content_drop(&pool, content);
    CHECK(content_is_kept("replica_content_zeros", content_of(ENTRY_ZERO, 9)));
}

TEST(contents_of_holes_are_kept)
{
    CHECK(content_is_kept("replica_content_holes", content_of(ENTRY_UNMAP, RECORD_UNMAP_MAX)));
}

/* ---- stretches ---- */

static const struct replica_step step = {.cursor = 0x8000,
                                         .stretch = 0x20000,
                                         .count = 3,
                                         .records = {{.change = {.kind = REPLICA_WRITE, .count = 2, .lba = 5}},
                                                     {.change = {.kind = REPLICA_NOOP}},
                                                     {.change = {.kind = REPLICA_FREE, .count = 9, .lba = 0x1ffffffff6}}}};

TEST(a_stretch_is_kept)
{
    static uint8_t room[STRETCH_ROOM];
    struct block_digest first = packed(), zero = {.size = 0}, next;
    const struct golden *g = kept("replica_stretch");
    struct stretch_writer w;
    struct stretch_reader r;
    struct stretch_run run;
    le32 crc;
    memcpy(crc.b, g->bytes + 8 + 16 + 28 + 5 + 20, sizeof crc.b);
    next = another(get32(crc)); /* digest_check says whether it is right */
    CHECK_OK(digest_check(&next));
    stretch_begin(&w, room);
    CHECK(stretch_walk_block(&w, 0x8000, &first) && stretch_walk_block(&w, 0x8001, &next));
    CHECK(stretch_walk_range(&w, ENTRY_ZERO, 0x8002, 0x0203) && stretch_walk_range(&w, ENTRY_UNMAP, 0x8300, 0xffff));
    CHECK(stretch_record(&w, ENTRY_NEW, 5, 2) && stretch_record_block(&w, &zero) && stretch_record_block(&w, &first));
    CHECK(stretch_record(&w, ENTRY_UNMAP, 0x1ffffffff6, 9));
    CHECK(is_kept(g, room, w.used));
    CHECK_OK(stretch_check(g->bytes, g->size, &step, VOLUME_BLOCKS_MAX));
    CHECK_OK(stretch_open(g->bytes, g->size, &r));
    CHECK(r.walked == 3 && r.recorded == 2);
    CHECK_OK(stretch_next(&r, &run));
    CHECK(run.kind == ENTRY_NEW && run.lba == 0x8000 && run.count == 2);
    CHECK(is_same(&run.digests[0], &first) && is_same(&run.digests[1], &next));
    CHECK_OK(stretch_next(&r, &run));
    CHECK(run.kind == ENTRY_ZERO && run.lba == 0x8002 && run.count == 0x0203);
    CHECK_OK(stretch_next(&r, &run));
    CHECK(run.kind == ENTRY_UNMAP && run.lba == 0x8300 && run.count == 0xffff && r.walked == 0);
    CHECK_OK(stretch_next(&r, &run));
    CHECK(run.kind == ENTRY_NEW && run.lba == 5 && run.count == 2 && is_same(&run.digests[0], &zero));
    CHECK_OK(stretch_next(&r, &run));
    CHECK(run.kind == ENTRY_UNMAP && run.lba == 0x1ffffffff6 && run.count == 9 && r.recorded == 0 && r.at.left == 0);
}

/* ---- the roster ---- */

static bool is_same_config(const struct replica_config *a, const struct replica_config *b)
{
    return a->version == b->version && a->epoch == b->epoch && a->boot == b->boot && a->owner == b->owner &&
           a->in_sync == b->in_sync && a->learners == b->learners && a->forced_epoch == b->forced_epoch &&
           a->forced_sequence == b->forced_sequence && memcmp(a->join, b->join, sizeof a->join) == 0;
}

static bool placement_is_kept(const char *section, const struct placement *place)
{
    const struct golden *g = kept(section);
    uint8_t value[ROSTER_VALUE_MAX];
    struct placement back;
    if (!is_kept(g, value, placement_encode(place, value)) || placement_decode(g->bytes, g->size, &back) != OK) return false;
    return back.stage == place->stage && back.made == place->made && back.refusal == place->refusal &&
           back.refused_by == place->refused_by && back.node_count == place->node_count &&
           memcmp(back.nodes, place->nodes, sizeof back.nodes) == 0 && back.blocks == place->blocks &&
           back.created_s == place->created_s && back.block_bytes == place->block_bytes &&
           strcmp(back.name, place->name) == 0 && is_same_config(&back.config, &place->config);
}

TEST(placements_are_kept)
{
    const struct placement lives = {.stage = PLACE_LIVE,
                                    .made = 7,
                                    .node_count = 3,
                                    .nodes = {1, 4, 0x0304},
                                    .blocks = 0x1122334455,
                                    .created_s = 1700000000,
                                    .block_bytes = 512,
                                    .fast = true,
                                    .name = "vm-1a",
                                    .config = {.version = 0x0107,
                                               .epoch = 9,
                                               .boot = 0x0203,
                                               .owner = 1,
                                               .in_sync = 3,
                                               .learners = 4,
                                               .forced_epoch = 8,
                                               .forced_sequence = 0x0fff,
                                               .join = {5, 0xa00000001, (uint64_t)1 << 63}}};
    const struct placement made = {
        .stage = PLACE_MAKING, .made = 2, .node_count = 2, .nodes = {2, 1}, .blocks = 1, .block_bytes = 4096, .name = "a"};
    struct placement refused = made;
    refused.made = 1;
    refused.refusal = PLACE_REFUSED_LIMIT;
    refused.refused_by = 1;
    CHECK(placement_is_kept("placement_refused", &refused));
    CHECK(placement_is_kept("placement", &lives));
    CHECK(placement_is_kept("placement_making", &made));
}

/* ---- the store ---- */

static bool self_is_kept(const char *section, const struct host_self *self)
{
    const struct golden *g = kept(section);
    struct disk_self disk;
    struct host_self back;
    self_encode(self, &disk);
    if (!is_kept(g, &disk, sizeof disk) || self_decode(g->bytes, (uint32_t)g->size, &back) != OK) return false;
    const struct replica_learn *a = &self->learn, *b = &back.learn;
    return back.join == self->join && a->on == b->on && a->epoch == b->epoch && a->base == b->base && a->low == b->low &&
           a->cursor == b->cursor && a->applied == b->applied;
}

TEST(what_a_replica_keeps_of_itself_is_kept)
{
    const struct host_self learns = {
        .learn = {.on = true, .epoch = 7, .base = 0x0100, .low = 0x0900, .cursor = 0x8000, .applied = 0x1100}};
    CHECK(self_is_kept("replica_self", &(struct host_self){.join = 0xa00000001}));
    CHECK(self_is_kept("replica_self_learns", &learns));
}

TEST(what_a_volume_is_a_replica_of_is_kept)
{
    const struct golden *g = kept("volume_replica");
    struct volume_replica replica = {.number = 0x01020304, .original = true}, back;
    struct disk_replica disk;
    for (uint32_t i = 0; i < sizeof replica.cluster; i++) replica.cluster[i] = (uint8_t)(0x10 + i);
    volume_replica_encode(&replica, &disk);
    CHECK(is_kept(g, &disk, sizeof disk));
    CHECK_OK(volume_replica_decode(g->bytes, (uint32_t)g->size, &back));
    CHECK_BYTES(back.cluster, replica.cluster, sizeof replica.cluster);
    CHECK(back.number == replica.number && back.original);
}

TESTS(contents_are_kept, contents_of_holes_are_kept, a_stretch_is_kept, placements_are_kept,
      what_a_replica_keeps_of_itself_is_kept, what_a_volume_is_a_replica_of_is_kept)
