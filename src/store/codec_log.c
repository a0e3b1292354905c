/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What lies in the log: batches, their records, and the summaries that close a slot.
 *
 * A record's checksum covers its head: header and entries (of a STATE record also key and value), not the chunks, which have
 * their own. So a summary can repeat the head as it is, and both copies are checked by the same code at the same log address.
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
#define COMMIT_LAG_MAX UINT32_MAX /* as long as this or longer: the commit point is not known from here */

static uint32_t head_bytes(uint32_t kind, uint32_t entries, uint32_t key_bytes, uint32_t value_bytes)
{
    uint32_t bytes = (uint32_t)(sizeof(struct disk_record) + entries * sizeof(struct disk_entry));
    return kind == RECORD_STATE ? bytes + key_bytes + value_bytes : bytes;
}

uint32_t record_head_bytes(const struct record *record)
{
    return (uint32_t)round_up64(head_bytes(record->kind, record->entries, record->key_bytes, record->value_bytes), UNIT);
}

static uint32_t record_crc(const uint8_t *at, uint32_t bytes, uint64_t address)
{
    return crc32c(0, at + RECORD_COVERED, bytes - RECORD_COVERED) ^ address_mix(address);
}

struct disk_entry entry_encode(const struct entry *entry)
{
    struct disk_entry disk = {.kind = entry->kind, .count = put16((uint16_t)entry->count)};
    assert(entry->count >= 1 && entry->count <= RECORD_UNMAP_MAX);
    if (entry->kind == ENTRY_NEW) {
        assert(entry->units >= 2 && (entry->units <= PLACE_UNITS_MAX || entry->units == PLACE_UNITS_RAW));
        disk.units = entry->units == PLACE_UNITS_RAW ? 0 : (uint8_t)entry->units;
        memcpy(disk.body, entry->print.b, sizeof entry->print.b);
    } else if (entry->kind == ENTRY_DUP) {
        le64 place = put64(entry->place);
        le32 tag = put32(entry->tag);
        memcpy(disk.body, place.b, sizeof place);
        memcpy(disk.body + sizeof place, tag.b, sizeof tag);
    }
    return disk;
}

static struct entry entry_decode(const struct disk_entry *disk)
{
    struct entry entry = {.kind = disk->kind, .count = get16(disk->count)};
    le64 place;
    le32 tag;
    if (disk->kind == ENTRY_NEW) {
        entry.units = disk->units == 0 ? PLACE_UNITS_RAW : disk->units;
        memcpy(entry.print.b, disk->body, sizeof entry.print.b);
        memcpy(tag.b, disk->body, sizeof tag);
        entry.tag = get32(tag);
    } else if (disk->kind == ENTRY_DUP) {
        memcpy(place.b, disk->body, sizeof place);
        memcpy(tag.b, disk->body + sizeof place, sizeof tag);
        entry.place = get64(place);
        entry.tag = get32(tag);
    }
    return entry;
}

struct entry record_entry(const uint8_t *at, uint32_t i)
{
    struct disk_entry disk;
    memcpy(&disk, at + sizeof(struct disk_record) + i * sizeof disk, sizeof disk);
    return entry_decode(&disk);
}

const uint8_t *record_key(const uint8_t *at)
{
    return at + sizeof(struct disk_record);
}

static uint32_t commit_lag(const struct record *record)
{
    assert(record->commit <= record->sequence);
    uint64_t lag = record->sequence - record->commit;
    return lag < COMMIT_LAG_MAX ? (uint32_t)lag : COMMIT_LAG_MAX;
}

void record_seal(const struct record *record, uint64_t address, uint8_t *at)
{
    bool state = record->kind == RECORD_STATE;
    assert(record->entries <= RECORD_BLOCKS_MAX && record->payload % UNIT == 0);
    assert(!state || (record->entries == 0 && record->key_bytes <= STATE_KEY_MAX && record->value_bytes <= STATE_VALUE_MAX));
    uint32_t count = state ? record->key_bytes | record->value_bytes << 16 : record->count;
    uint64_t payload = state ? round_up64(record->key_bytes + record->value_bytes, UNIT) : record->payload;
    struct disk_record disk = {
        .kind = record->kind,
        .entries = put16((uint16_t)record->entries),
        .volume = put32(record->volume),
        .epoch = put32(record->epoch),
        .sequence = put64(record->sequence),
        .lba = put64(record->lba),
        .count = put32(count),
        .payload = put32((uint32_t)(payload / UNIT)),
        .commit_lag = put32(commit_lag(record)),
        .boot = put32(record->boot),
        .request = put64(record->request),
        .node = put16(record->node),
        .previous_epoch = put32(record->previous_epoch),
    };
    memcpy(at, &disk, sizeof disk);
    disk.crc =
        put32(record_crc(at, head_bytes(record->kind, record->entries, record->key_bytes, record->value_bytes), address));
    memcpy(at, &disk, sizeof disk);
}

static bool entry_possible(const struct entry *entry)
{
    switch (entry->kind) {
    case ENTRY_NEW: return entry->count == 1 && entry->units >= 2;
    case ENTRY_DUP: return entry->count == 1 && place_is_chunk(entry->place) && entry->place >> 63 == 0;
    case ENTRY_ZERO:
    case ENTRY_UNMAP: return entry->count >= 1;
    default: return false;
    }
}

/* The entries cover `count` blocks, and the payload is their new chunks. */
static bool data_possible(const struct record *record, const uint8_t *at)
{
    uint64_t blocks = 0, units = 0;
    if (record->entries == 0 || record->entries > RECORD_BLOCKS_MAX) return false;
    for (uint32_t i = 0; i < record->entries; i++) {
        struct entry entry = record_entry(at, i);
        if (!entry_possible(&entry)) return false;
        blocks += entry.count;
        units += entry.units;
    }
    if (record->lba > VOLUME_BLOCKS_MAX || blocks > VOLUME_BLOCKS_MAX - record->lba) return false;
    return blocks == record->count && units * UNIT == record->payload;
}

static bool record_possible(const struct record *record, const uint8_t *at)
{
    if (record->sequence == 0) return false;
    if (record->kind == RECORD_DATA) return data_possible(record, at);
    if (record->entries != 0 || record->payload != 0) return false;
    switch (record->kind) {
    case RECORD_STATE:
        return record->key_bytes >= 1 && record->key_bytes <= STATE_KEY_MAX && record->value_bytes <= STATE_VALUE_MAX;
    case RECORD_CREATE:
    case RECORD_RESIZE: return record->lba <= VOLUME_BLOCKS_MAX;
    case RECORD_DELETE:
    case RECORD_DISCARD:
    case RECORD_NOOP: return true;
    default: return false; /* also GRAFT, which this version neither writes nor understands */
    }
}

enum err record_decode(const uint8_t *at, size_t size, uint64_t address, struct record *ret_record)
{
    struct disk_record disk;
    if (size < sizeof disk) return ERR_TRUNCATED;
    memcpy(&disk, at, sizeof disk);
    bool state = disk.kind == RECORD_STATE;
    uint32_t count = get32(disk.count), lag = get32(disk.commit_lag);
    struct record record = {
        .kind = disk.kind,
        .volume = get32(disk.volume),
        .epoch = get32(disk.epoch),
        .previous_epoch = get32(disk.previous_epoch),
        .sequence = get64(disk.sequence),
        .lba = get64(disk.lba),
        .count = state ? 0 : count,
        .entries = get16(disk.entries),
        .key_bytes = state ? count & 0xffff : 0,
        .value_bytes = state ? count >> 16 : 0,
        .boot = get32(disk.boot),
        .request = get64(disk.request),
        .node = get16(disk.node),
    };
    uint32_t bytes = head_bytes(record.kind, record.entries, record.key_bytes, record.value_bytes);
    if (bytes > size) return ERR_TRUNCATED;
    if (record_crc(at, bytes, address) != get32(disk.crc)) return ERR_CHECKSUM;

    uint64_t payload = (uint64_t)get32(disk.payload) * UNIT;
    uint64_t behind = state ? round_up64(record.key_bytes + record.value_bytes, UNIT) : 0; /* what the head holds of it */
    if (payload < behind || payload - behind > (uint64_t)RECORD_BLOCKS_MAX * PLACE_UNITS_RAW * UNIT) return ERR_DECODE;
    record.payload = (uint32_t)(payload - behind);
    if (lag != COMMIT_LAG_MAX && lag > record.sequence) return ERR_DECODE;
    record.commit = lag == COMMIT_LAG_MAX ? 0 : record.sequence - lag;
    if (!record_possible(&record, at)) return ERR_DECODE;
    *ret_record = record;
    return OK;
}

/* ---- summaries ---- */

#define TRAILER_COVERED (offsetof(struct disk_trailer, checksum) + sizeof(le64))
#define PRINT_BYTES sizeof(struct fingerprint)

uint64_t body_checksum(const void *at, size_t size, uint64_t salt)
{
    return hash64(at, size, salt);
}

void trailer_encode(const struct trailer *trailer, uint64_t salt, struct disk_trailer *ret_disk)
{
    *ret_disk = (struct disk_trailer){
        .magic = put32(TRAILER_MAGIC),
        .kind = trailer->kind,
        .age = trailer->age,
        .body_checksum = put64(trailer->body_checksum),
        .print_checksum = put64(trailer->print_checksum),
        .body_bytes = put32(trailer->body_bytes),
        .print_bytes = put32(trailer->print_bytes),
        .chunks = put32(trailer->chunks),
        .records = put32(trailer->records),
        .segment = put64(trailer->segment),
        .first_number = put64(trailer->first_number),
        .last_number = put64(trailer->last_number),
        .first_previous = put64(trailer->first_previous),
        .last_checksum = put64(trailer->last_checksum),
        .incarnation = put32(trailer->incarnation),
        .data_bytes = put32(trailer->data_bytes),
        .slot = put32(trailer->slot),
    };
    ret_disk->checksum = put64(hash64((const uint8_t *)ret_disk + TRAILER_COVERED, sizeof *ret_disk - TRAILER_COVERED, salt));
}

static bool trailer_possible(const struct trailer *t, uint64_t segment_bytes)
{
    uint64_t taken = (uint64_t)t->data_bytes + t->body_bytes + t->print_bytes + sizeof(struct disk_trailer);
    if (taken > segment_bytes || t->data_bytes % UNIT != 0) return false;
    switch (t->kind) {
    case SLOT_HEAD: {
        uint64_t least = t->records * (sizeof(struct disk_summary_record) + sizeof(struct disk_record)) +
                         (uint64_t)t->chunks * sizeof(struct disk_entry);
        if (t->segment >= ADDRESS_MAX / segment_bytes || t->print_bytes != 0 || least > t->body_bytes) return false;
        return t->records == 0 || (t->first_number >= 1 && t->first_number <= t->last_number);
    }
    case SLOT_CLEANED: return t->body_bytes == t->chunks * sizeof(le64) && t->print_bytes == t->chunks * PRINT_BYTES;
    case SLOT_CLEANED_META: return t->body_bytes == t->chunks * sizeof(le64) && t->print_bytes == 0;
    default: return false; /* META slots have no trailer */
    }
}

enum err trailer_decode(const void *at, size_t size, uint64_t segment_bytes, uint64_t salt, struct trailer *ret_trailer)
{
    struct disk_trailer disk;
    if (size < sizeof disk) return ERR_TRUNCATED;
    memcpy(&disk, at, sizeof disk);
    if (get32(disk.magic) != TRAILER_MAGIC) return ERR_NOT_OURS;
    if (hash64((const uint8_t *)&disk + TRAILER_COVERED, sizeof disk - TRAILER_COVERED, salt) != get64(disk.checksum))
        return ERR_CHECKSUM;
    struct trailer trailer = {
        .kind = disk.kind,
        .age = disk.age,
        .body_checksum = get64(disk.body_checksum),
        .print_checksum = get64(disk.print_checksum),
        .body_bytes = get32(disk.body_bytes),
        .print_bytes = get32(disk.print_bytes),
        .chunks = get32(disk.chunks),
        .records = get32(disk.records),
        .segment = get64(disk.segment),
        .first_number = get64(disk.first_number),
        .last_number = get64(disk.last_number),
        .first_previous = get64(disk.first_previous),
        .last_checksum = get64(disk.last_checksum),
        .incarnation = get32(disk.incarnation),
        .data_bytes = get32(disk.data_bytes),
        .slot = get32(disk.slot),
    };
    if (!trailer_possible(&trailer, segment_bytes)) return ERR_DECODE;
    *ret_trailer = trailer;
    return OK;
}

enum err summary_next(const uint8_t *body, size_t size, size_t *at_offset, uint32_t *ret_record_offset,
                      const uint8_t **ret_record, uint32_t *ret_bytes)
{
    size_t offset = *at_offset;
    struct disk_summary_record disk;
    if (offset >= size) return ERR_TRUNCATED;
    if (size - offset < sizeof disk) return ERR_DECODE;
    memcpy(&disk, body + offset, sizeof disk);
    offset += sizeof disk;
    uint64_t padded = round_up64(get32(disk.bytes), 8);
    if (padded > size - offset || get32(disk.bytes) < sizeof(struct disk_record)) return ERR_DECODE;
    if (get32(disk.offset) % UNIT != 0 || get32(disk.offset) >= 1u << SEGMENT_SHIFT_MAX) return ERR_DECODE;
    *ret_record_offset = get32(disk.offset);
    *ret_record = body + offset;
    *ret_bytes = get32(disk.bytes);
    *at_offset = offset + (size_t)padded;
    return OK;
}

uint32_t summary_add(uint8_t *at, uint32_t record_offset, const uint8_t *record, uint32_t bytes)
{
    struct disk_summary_record disk = {.offset = put32(record_offset), .bytes = put32(bytes)};
    uint32_t padded = (uint32_t)round_up64(bytes, 8);
    memcpy(at, &disk, sizeof disk);
    memcpy(at + sizeof disk, record, bytes);
    memset(at + sizeof disk + bytes, 0, padded - bytes);
    return (uint32_t)sizeof disk + padded;
}
