/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: no bytes of another node harm the reader of contents. Method: any bytes as what comes with a message, of each kind that
 * brings content and of one that does not; and as contents one behind the other. They lie in pieces of their own length, as
 * links hand them over, once from the first byte of a piece on, and else across the end of one. What is accepted keeps to the
 * limits, encodes to the same bytes again, and is the same wherever the pieces end.
 */
#include "fuzz/fuzz.h"
#include "volume/replica/body.h"

enum { VOLUME = 1, SIZE_MAX_HERE = (LINK_BODY_PIECES - 1) * LINK_PIECE };

static struct replica_contents pool;

static const struct replica_message record = {.kind = REPLICA_RECORD, .u.record.change.kind = REPLICA_WRITE};
static const struct replica_message forward = {.kind = REPLICA_FORWARD};
static const struct replica_message step = {.kind = REPLICA_STEP, .u.step.stretch = 1};
static const struct replica_message commit = {.kind = REPLICA_COMMIT};

struct arrived {
    uint8_t *pieces[LINK_BODY_PIECES];
    struct body_reader reader;
};

/* `begin` bytes of the first piece are somebody else's. */
static void arrive(const uint8_t *data, uint32_t size, uint32_t begin, struct arrived *ret_arrived)
{
    *ret_arrived = (struct arrived){.reader = {.bytes = begin + size, .at = begin}};
    for (uint32_t i = 0, at = begin; i * LINK_PIECE < begin + size; i++) {
        uint32_t bytes = min32(begin + size - i * LINK_PIECE, LINK_PIECE), skip = at - i * LINK_PIECE;
        ret_arrived->pieces[i] = calloc(1, bytes);
        if (ret_arrived->pieces[i] == NULL) exit(2);
        memcpy(ret_arrived->pieces[i] + skip, data + (at - begin), bytes - skip);
        at += bytes - skip;
    }
    ret_arrived->reader.pieces = ret_arrived->pieces;
}

static void arrived_end(struct arrived *a)
{
    for (uint32_t i = 0; i < LINK_BODY_PIECES; i++) free(a->pieces[i]);
}

/* Returns bytes. */
static uint32_t require_same(const struct replica_content *content, const uint8_t *data, uint32_t size)
{
    uint8_t table[BODY_TABLE_MAX];
    uint32_t bytes = body_encode(content, table);
    REQUIRE(bytes + content->used <= size);
    REQUIRE(memcmp(data, table, bytes) == 0 && memcmp(data + bytes, content->bytes, content->used) == 0);
    for (uint32_t i = 0; content->what == ENTRY_NEW && i < content->count; i++)
        REQUIRE(content->digests[i].units * UNIT <= BLOCK_SIZE + UNIT);
    return bytes + content->used;
}

/* ---- what comes with a message ---- */

static bool is_received(const struct replica_message *message, const uint8_t *data, uint32_t size, uint32_t begin)
{
    struct replica_content *content;
    struct arrived a;
    arrive(data, size, begin, &a);
    enum body_taken taken = body_receive(&pool, VOLUME, message, &a.reader, &content);
    REQUIRE(taken == BODY_TAKEN || (taken == BODY_BAD && content == NULL)); /* all were given back, so there is room */
    if (content != NULL) {
        REQUIRE(content->volume == VOLUME && content->used <= content->room && a.reader.at == a.reader.bytes);
        if (content_is_stretch(content))
            REQUIRE(content->used == size && memcmp(content->bytes, data, size) == 0);
        else
            REQUIRE(require_same(content, data, size) == size);
    }
    content_drop(&pool, content);
    arrived_end(&a);
    return taken == BODY_TAKEN;
}

/* ---- one behind the other ---- */

/* False: that was the last. */
static bool one(struct body_reader *reader, const uint8_t *data, uint32_t begin)
{
    struct body_head head;
    uint32_t from = reader->at;
    if (body_head_decode(reader, &head) != OK) return false;
    REQUIRE(head.count > 0 && head.count <= (head.what == ENTRY_NEW ? RECORD_BLOCKS_MAX : RECORD_UNMAP_MAX));
    struct replica_content *content = content_take(&pool, CONTENT_RECORD, VOLUME, head.what, head.count);
    bool fine = body_decode(reader, content) == OK;
    REQUIRE(content->used <= content->room);
    if (fine) REQUIRE(require_same(content, data + (from - begin), reader->bytes - from) == reader->at - from);
    content_drop(&pool, content);
    return fine;
}

/* How far they could be read. */
static uint32_t read_all(const uint8_t *data, uint32_t size, uint32_t begin)
{
    struct arrived a;
    uint32_t read = 0;
    arrive(data, size, begin, &a);
    while (one(&a.reader, data, begin)) read = a.reader.at - begin;
    arrived_end(&a);
    return read;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mem *mem;
    if (mem == NULL && contents_init(&pool, mem = mem_open(32 << 20), 1) != OK) abort();
    if (size == 0 || size > SIZE_MAX_HERE) return 0;
    uint32_t bytes = (uint32_t)size;
    bool good = is_received(&record, data, bytes, 0);
    REQUIRE(is_received(&forward, data, bytes, 0) == good);
    REQUIRE(is_received(&step, data, bytes, 0) == (bytes <= STRETCH_ROOM) && !is_received(&commit, data, bytes, 0));
    uint32_t read = read_all(data, bytes, 0);
    REQUIRE(!good || read == bytes);
    /* The end of a piece in the head, in the table of blocks, and in the middle of it all. */
    const uint32_t ahead[] = {1, sizeof(struct wire_replica_content) + 1, bytes / 2};
    for (int i = 0; i < 3; i++) {
        uint32_t begin = LINK_PIECE - ahead[i] % LINK_PIECE;
        if (begin + bytes > LINK_BODY_PIECES * LINK_PIECE) continue;
        REQUIRE(is_received(&record, data, bytes, begin) == good && read_all(data, bytes, begin) == read);
    }
    return 0;
}
