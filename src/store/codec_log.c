/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What lies in the log: batches and their records.
 *
 * A record's checksum covers its head: header, entries and references (of STATE and MOVE also key and value), not the chunks,
 * which have their own. The batch's covers all of it.
 */
#include "store/codec.h"

#include "base/hash.h"
#include "store/digest.h"

/* ---- batches ---- */

#define BATCH_COVERED (offsetof(struct disk_batch, checksum) + sizeof(le64)) /* the checksum covers what follows */

void batch_encode(const struct batch *batch, struct disk_batch *ret_disk)
{
    assert(batch->length % SECTOR == 0 && batch->used >= sizeof *ret_disk && batch->used <= batch->length);
    *ret_disk = (struct disk_batch){
        .magic = put32(BATCH_MAGIC),
        .length = put32(batch->length),
        .number = put64(batch->number),
        .address = put64(batch->address),
        .previous = put64(batch->previous),
        .incarnation = put32(batch->incarnation),
        .records = put32(batch->records),
        .durable = put64(batch->durable),
        .used = put32(batch->used),
    };
}

uint64_t batch_checksum(const void *at, uint32_t used, uint64_t salt)
{
    assert(used >= sizeof(struct disk_batch));
    return hash64((const uint8_t *)at + BATCH_COVERED, used - BATCH_COVERED, salt);
}

bool batch_claims(const void *at, uint64_t *ret_address)
{
    struct disk_batch disk;
    memcpy(&disk, at, sizeof disk);
    if (get32(disk.magic) != BATCH_MAGIC) return false;
    *ret_address = get64(disk.address);
    return true;
}

enum err batch_decode(const void *at, size_t size, uint64_t address, uint64_t salt, struct batch *ret_batch)
{
    struct disk_batch disk;
    if (size < sizeof disk) return ERR_TRUNCATED;
    memcpy(&disk, at, sizeof disk);
    if (get32(disk.magic) != BATCH_MAGIC) return ERR_NOT_OURS;
    struct batch batch = {
        .length = get32(disk.length),
        .incarnation = get32(disk.incarnation),
        .records = get32(disk.records),
        .used = get32(disk.used),
        .checksum = get64(disk.checksum),
        .number = get64(disk.number),
        .address = get64(disk.address),
        .previous = get64(disk.previous),
        .durable = get64(disk.durable),
    };
    if (batch.used < sizeof disk || round_up64(batch.used, SECTOR) != batch.length) return ERR_DECODE;
    if (batch.length > size) return ERR_TRUNCATED;
    if (batch_checksum(at, batch.used, salt) != batch.checksum) return ERR_CHECKSUM;
    if (batch.address != address || batch.number == 0 || batch.durable >= batch.number) return ERR_DECODE;
    if (batch.records > (batch.used - sizeof disk) / sizeof(struct disk_record)) return ERR_DECODE;
    *ret_batch = batch;
    return OK;
}

/* ---- records ---- */

#define RECORD_COVERED (offsetof(struct disk_record, crc) + sizeof(le32))

static bool has_key(uint8_t kind)
{
    return kind == RECORD_STATE || kind == RECORD_MOVE;
}

static uint32_t head_bytes(const struct record *r)
{
    return (uint32_t)(sizeof(struct disk_record) + r->entries * sizeof(struct disk_entry) +
                      r->references * sizeof(struct disk_reference)) +
           r->key_bytes + r->value_bytes;
}

uint32_t record_head_bytes(const struct record *record)
{
    return (uint32_t)round_up64(head_bytes(record), UNIT);
}

static uint32_t record_crc(const uint8_t *at, uint32_t bytes, uint64_t address)
{
    return crc32c(0, at + RECORD_COVERED, bytes - RECORD_COVERED) ^ address_mix(address);
}

uint32_t record_commit_lag(const struct record *record)
{
    assert(record->commit <= record->sequence);
    uint64_t lag = record->sequence - record->commit;
    return lag < COMMIT_LAG_MAX ? (uint32_t)lag : COMMIT_LAG_MAX;
}

static uint8_t units_encode(uint32_t units)
{
    assert(units >= 2 && (units <= PLACE_UNITS_MAX || units == PLACE_UNITS_RAW));
    return units == PLACE_UNITS_RAW ? 0 : (uint8_t)units;
}

/* Entries at `at`, and what the DUPs among them refer to behind the last. */
static void entries_encode(const struct record *record, const struct entry *entries, uint8_t *at)
{
    uint8_t *reference = at + record->entries * sizeof(struct disk_entry);
    for (uint32_t i = 0; i < record->entries; i++) {
        const struct entry *e = &entries[i];
        assert(e->count >= 1 && e->count <= RECORD_UNMAP_MAX);
        struct disk_entry disk = {.kind = e->kind, .count = put16((uint16_t)e->count)};
        if (e->kind == ENTRY_NEW) disk.units = units_encode(e->units);
        memcpy(at + i * sizeof disk, &disk, sizeof disk);
        if (e->kind != ENTRY_DUP) continue;
        struct disk_reference to = {put64(e->place), put32(e->tag)};
        memcpy(reference, &to, sizeof to);
        reference += sizeof to;
    }
    assert(reference == at + record->entries * sizeof(struct disk_entry) + record->references * sizeof(struct disk_reference));
}

void record_encode(const struct record *record, const struct entry *entries, uint64_t address, uint8_t *ret_at)
{
    bool state = has_key(record->kind);
    assert(record->entries <= RECORD_BLOCKS_MAX && record->payload % UNIT == 0);
    assert(state ? record->entries == 0 && record->key_bytes <= STATE_KEY_MAX && record->value_bytes <= STATE_VALUE_MAX
                 : record->key_bytes == 0 && record->value_bytes == 0);
    uint32_t count = state ? record->key_bytes | record->value_bytes << 16 : record->count, bytes = head_bytes(record);
    uint64_t payload = state ? round_up64(record->key_bytes + record->value_bytes, UNIT) : record->payload;
    struct disk_record disk = {
        .kind = record->kind,
        .flags = record->learn ? RECORD_LEARN : 0,
        .entries = put16((uint16_t)record->entries),
        .volume = put32(record->volume),
        .epoch = put32(record->epoch),
        .sequence = put64(record->sequence),
        .lba = put64(record->lba),
        .count = put32(count),
        .payload = put32((uint32_t)(payload / UNIT)),
        .commit_lag = put32(record_commit_lag(record)),
        .boot = put32(record->boot),
        .request = put64(record->request),
        .node = put16(record->node),
        .previous_epoch = put32(record->previous_epoch),
    };
    memcpy(ret_at, &disk, sizeof disk);
    entries_encode(record, entries, ret_at + sizeof disk);
    if (record->key_bytes > 0) memcpy(ret_at + sizeof disk, record->state, (size_t)record->key_bytes + record->value_bytes);
    memset(ret_at + bytes, 0, record_head_bytes(record) - bytes);
    disk.crc = put32(record_crc(ret_at, bytes, address));
    memcpy(ret_at, &disk, sizeof disk);
}

static bool entry_possible(const struct entry *entry)
{
    switch (entry->kind) {
    case ENTRY_NEW: return entry->count == 1 && entry->units >= 2;
    case ENTRY_DUP: return entry->count == 1 && place_is_chunk(entry->place) && entry->place >> 63 == 0;
    case ENTRY_ZERO:
    case ENTRY_UNMAP: return entry->count >= 1 && entry->count <= RECORD_UNMAP_MAX;
    default: return false;
    }
}

/* The entries cover `count` blocks, and the payload is their new chunks. */
static bool data_possible(const struct record *record, const struct entry *entries)
{
    uint64_t blocks = 0, units = 0;
    if (record->entries == 0 || record->entries > RECORD_BLOCKS_MAX) return false;
    for (uint32_t i = 0; i < record->entries; i++) {
        if (!entry_possible(&entries[i])) return false;
        blocks += entries[i].count;
        units += entries[i].units;
    }
    if (record->lba > VOLUME_BLOCKS_MAX || blocks > VOLUME_BLOCKS_MAX - record->lba) return false;
    return blocks == record->count && units * UNIT == record->payload;
}

static bool learn_possible(const struct record *record)
{
    switch (record->kind) {
    case RECORD_MOVE: return record->learn;
    case RECORD_DATA:
    case RECORD_STATE:
    case RECORD_DELETE:
    case RECORD_RESIZE:
    case RECORD_NOOP: return true;
    default: return !record->learn;
    }
}

bool record_possible(const struct record *record, const struct entry *entries)
{
    if (record->sequence == 0 || !learn_possible(record)) return false;
    if (record->kind == RECORD_DATA) return data_possible(record, entries);
    if (record->entries != 0 || record->payload != 0 || record->count != 0) return false;
    switch (record->kind) {
    case RECORD_STATE:
        return record->key_bytes >= 1 && record->key_bytes <= STATE_KEY_MAX && record->value_bytes <= STATE_VALUE_MAX;
    case RECORD_MOVE:
        if (record->key_bytes == 0 && record->value_bytes > 0) return false;
        return record->key_bytes <= STATE_KEY_MAX && record->value_bytes <= STATE_VALUE_MAX;
    case RECORD_CREATE:
    case RECORD_RESIZE: return record->lba <= VOLUME_BLOCKS_MAX;
    case RECORD_DELETE:
    case RECORD_DISCARD:
    case RECORD_NOOP: return true;
    default: return false; /* also GRAFT, which this version neither writes nor understands */
    }
}

/* The entries that lie at `at`; there are no more than fit into `ret_entries`. */
static void entries_decode(const uint8_t *at, uint32_t count, struct entry *ret_entries)
{
    const uint8_t *reference = at + count * sizeof(struct disk_entry);
    for (uint32_t i = 0; i < count; i++) {
        struct disk_entry disk;
        memcpy(&disk, at + i * sizeof disk, sizeof disk);
        ret_entries[i] = (struct entry){.kind = disk.kind, .count = get16(disk.count)};
        if (disk.kind == ENTRY_NEW) ret_entries[i].units = disk.units == 0 ? PLACE_UNITS_RAW : disk.units;
        if (disk.kind != ENTRY_DUP) continue;
        struct disk_reference to;
        memcpy(&to, reference, sizeof to);
        ret_entries[i].place = get64(to.place);
        ret_entries[i].tag = get32(to.tag);
        reference += sizeof to;
    }
}

/* New chunks follow each other behind the head, and each says its tag. */
static void tags_take(const struct record *record, const uint8_t *chunks, struct entry *entries)
{
    for (uint32_t i = 0; i < record->entries; i++) {
        if (entries[i].kind != ENTRY_NEW) continue;
        struct disk_chunk chunk;
        memcpy(&chunk, chunks, sizeof chunk);
        entries[i].tag = get32(chunk.tag);
        chunks += entries[i].units * UNIT;
    }
}

/* How many of the entries at `at` are DUP; `size` bytes are there. */
static uint32_t references_of(const uint8_t *at, size_t size, uint32_t entries)
{
    uint32_t references = 0;
    for (uint32_t i = 0; i < entries && (i + 1) * sizeof(struct disk_entry) <= size; i++)
        references += at[i * sizeof(struct disk_entry) + offsetof(struct disk_entry, kind)] == ENTRY_DUP;
    return references;
}

enum err record_decode(const uint8_t *at, size_t size, uint64_t address, struct record *ret_record, struct entry *ret_entries)
{
    struct disk_record disk;
    if (size < sizeof disk) return ERR_TRUNCATED;
    memcpy(&disk, at, sizeof disk);
    bool state = has_key(disk.kind);
    uint32_t count = get32(disk.count), lag = get32(disk.commit_lag), entries = get16(disk.entries);
    struct record record = {
        .kind = disk.kind,
        .learn = (disk.flags & RECORD_LEARN) != 0,
        .volume = get32(disk.volume),
        .epoch = get32(disk.epoch),
        .previous_epoch = get32(disk.previous_epoch),
        .sequence = get64(disk.sequence),
        .lba = get64(disk.lba),
        .count = state ? 0 : count,
        .entries = entries,
        .references = references_of(at + sizeof disk, size - sizeof disk, entries),
        .key_bytes = state ? count & 0xffff : 0,
        .value_bytes = state ? count >> 16 : 0,
        .state = state ? at + sizeof disk : NULL,
        .boot = get32(disk.boot),
        .request = get64(disk.request),
        .node = get16(disk.node),
    };
    uint32_t bytes = head_bytes(&record);
    if (bytes > size) return ERR_TRUNCATED;
    if (record_crc(at, bytes, address) != get32(disk.crc)) return ERR_CHECKSUM;
    if (entries > RECORD_BLOCKS_MAX) return ERR_DECODE;

    uint64_t payload = (uint64_t)get32(disk.payload) * UNIT;
    uint64_t behind = state ? round_up64(record.key_bytes + record.value_bytes, UNIT) : 0; /* what the head holds of it */
    if (payload < behind || payload - behind > (uint64_t)RECORD_BLOCKS_MAX * PLACE_UNITS_RAW * UNIT) return ERR_DECODE;
    record.payload = (uint32_t)(payload - behind);
    if (lag != COMMIT_LAG_MAX && lag > record.sequence) return ERR_DECODE;
    record.commit = lag == COMMIT_LAG_MAX ? 0 : record.sequence - lag;
    entries_decode(at + sizeof disk, entries, ret_entries);
    if (!record_possible(&record, ret_entries)) return ERR_DECODE;
    if (record_head_bytes(&record) + (uint64_t)record.payload > size) return ERR_TRUNCATED;
    tags_take(&record, at + record_head_bytes(&record), ret_entries);
    *ret_record = record;
    return OK;
}

static bool entry_equal(const struct entry *a, const struct entry *b)
{
    return a->kind == b->kind && a->count == b->count && a->units == b->units && a->place == b->place && a->tag == b->tag;
}

bool record_equal(const struct record *a, const struct entry *a_entries, const struct record *b, const struct entry *b_entries)
{
    if (a->kind != b->kind || a->learn != b->learn || a->volume != b->volume || a->epoch != b->epoch ||
        a->previous_epoch != b->previous_epoch || a->sequence != b->sequence || a->lba != b->lba || a->commit != b->commit ||
        a->count != b->count || a->entries != b->entries || a->payload != b->payload || a->key_bytes != b->key_bytes ||
        a->value_bytes != b->value_bytes || a->boot != b->boot || a->request != b->request || a->node != b->node)
        return false;
    for (uint32_t i = 0; i < a->entries; i++)
        if (!entry_equal(&a_entries[i], &b_entries[i])) return false;
    return a->key_bytes == 0 || memcmp(a->state, b->state, (size_t)a->key_bytes + a->value_bytes) == 0;
}
