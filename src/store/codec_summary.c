/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What closes a slot: the trailer, and for a head segment its records once more, with the fingerprints of their new blocks.
 *
 * Records of a segment are alike: the same few volumes, sequences one after the other. So each is told by how it differs from
 * the one before, and most take a dozen bytes besides their fingerprints, where their heads in the batches take 64. What
 * summaries take is read at each start and missing to the data.
 */
#include "base/hash.h"
#include "store/codec.h"

/* ---- numbers of as many bytes as they need ---- */

enum { NUMBER_BYTES_MAX = 10 };

static uint8_t *number_put(uint8_t *at, uint64_t number)
{
    for (; number >= 0x80; number >>= 7) *at++ = (uint8_t)(number | 0x80);
    *at++ = (uint8_t)number;
    return at;
}

/* Zigzag: small differences of either sign are small numbers. */
static uint8_t *difference_put(uint8_t *at, uint64_t to, uint64_t from)
{
    uint64_t difference = to - from;
    return number_put(at, difference << 1 ^ (difference >> 63 ? UINT64_MAX : 0));
}

static uint8_t byte_take(struct cursor *c)
{
    const uint8_t *byte = cursor_take(c, 1);
    return byte ? *byte : 0;
}

static uint64_t number_take(struct cursor *c)
{
    uint64_t number = 0;
    for (uint32_t i = 0; i < NUMBER_BYTES_MAX; i++) {
        uint8_t byte = byte_take(c);
        if ((byte == 0 && i > 0) || (i == NUMBER_BYTES_MAX - 1 && byte > 1)) break; /* longer than it needs, or than 64 bits */
        number |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte < 0x80) return number;
    }
    c->bad = true;
    return 0;
}

static uint64_t number_take_below(struct cursor *c, uint64_t limit)
{
    uint64_t number = number_take(c);
    if (number < limit) return number;
    c->bad = true;
    return 0;
}

static uint32_t number_take32(struct cursor *c)
{
    return (uint32_t)number_take_below(c, (uint64_t)UINT32_MAX + 1);
}

static uint64_t difference_take(struct cursor *c, uint64_t from)
{
    uint64_t zigzag = number_take(c);
    return from + (zigzag >> 1 ^ (zigzag & 1 ? UINT64_MAX : 0));
}

/* ---- the records of a head segment ---- */

uint32_t summary_record_max(const struct record *record)
{
    enum { HEAD_MAX = 1 + NUMBER_BYTES_MAX * 10 };
    return HEAD_MAX + record->entries * SUMMARY_CHUNK_BYTES + record->key_bytes + record->value_bytes;
}

static uint8_t *entry_put(uint8_t *at, const struct entry *e)
{
    *at++ = e->kind;
    if (e->kind == ENTRY_NEW) {
        *at++ = e->units == PLACE_UNITS_RAW ? 0 : (uint8_t)e->units;
        memcpy(at, e->print.b, sizeof e->print.b);
        return at + sizeof e->print.b;
    }
    if (e->kind == ENTRY_DUP) {
        struct disk_reference to = {put64(e->place), put32(e->tag)};
        memcpy(at, &to, sizeof to);
        return at + sizeof to;
    }
    return number_put(at, e->count);
}

static bool same_origin(const struct summary_before *b, const struct record *r)
{
    return b->volume == r->volume && b->epoch == r->epoch && b->previous_epoch == r->previous_epoch && b->boot == r->boot &&
           b->node == r->node;
}

static struct summary_before before_next(const struct record *r, uint32_t units)
{
    return (struct summary_before){.units = units,
                                   .volume = r->volume,
                                   .epoch = r->epoch,
                                   .previous_epoch = r->previous_epoch,
                                   .boot = r->boot,
                                   .node = r->node,
                                   .sequence = r->sequence,
                                   .lba = r->lba + r->count,
                                   .request = r->request};
}

uint32_t summary_add(struct summary_before *before, uint32_t offset, const struct record *record, const struct entry *entries,
                     uint8_t *ret_at)
{
    uint8_t *at = ret_at;
    bool same = same_origin(before, record);
    assert(record->kind <= SUMMARY_KIND && offset % UNIT == 0 && offset / UNIT > before->units);
    assert(record->count == 0 || record->kind == RECORD_DATA);
    *at++ = (uint8_t)(record->kind | (same ? SUMMARY_SAME : 0) | (record->learn ? SUMMARY_LEARN : 0));
    at = number_put(at, offset / UNIT - before->units);
    if (!same) {
        at = number_put(at, record->volume);
        at = number_put(at, record->epoch);
        at = number_put(at, record->previous_epoch);
        at = number_put(at, record->boot);
        at = number_put(at, record->node);
    }
    at = difference_put(at, record->sequence, before->sequence + 1);
    at = difference_put(at, record->lba, before->lba);
    at = difference_put(at, record->request, before->request);
    at = number_put(at, record_commit_lag(record));
    if (record->kind == RECORD_DATA) at = number_put(at, record->entries);
    for (uint32_t i = 0; i < record->entries; i++) at = entry_put(at, &entries[i]);
    if (record->kind == RECORD_STATE || record->kind == RECORD_MOVE) {
        at = number_put(at, record->key_bytes);
        at = number_put(at, record->value_bytes);
        if (record->key_bytes > 0) memcpy(at, record->state, (size_t)record->key_bytes + record->value_bytes);
        at += record->key_bytes + record->value_bytes;
    }
    *before = before_next(record, offset / UNIT);
    assert((uint64_t)(at - ret_at) <= summary_record_max(record));
    return (uint32_t)(at - ret_at);
}

struct summary_walk summary_walk(const uint8_t *body, size_t size)
{
    return (struct summary_walk){.at = cursor_of(body, size)};
}

static struct entry entry_take(struct cursor *c)
{
    struct entry e = {.kind = byte_take(c), .count = 1};
    if (e.kind == ENTRY_NEW) {
        uint8_t units = byte_take(c);
        e.units = units == 0 ? PLACE_UNITS_RAW : units;
        const uint8_t *print = cursor_take(c, sizeof e.print.b);
        if (!print) return e;
        memcpy(e.print.b, print, sizeof e.print.b);
        e.tag = fingerprint_tag(&e.print);
    } else if (e.kind == ENTRY_DUP) {
        const uint8_t *at = cursor_take(c, sizeof(struct disk_reference));
        struct disk_reference to;
        if (!at) return e;
        memcpy(&to, at, sizeof to);
        e.place = get64(to.place);
        e.tag = get32(to.tag);
    } else {
        e.count = (uint32_t)number_take_below(c, RECORD_UNMAP_MAX + 1);
    }
    return e;
}

static void entries_take(struct cursor *c, struct record *r, struct entry *ret_entries)
{
    uint32_t count = (uint32_t)number_take_below(c, RECORD_BLOCKS_MAX + 1);
    for (; r->entries < count && !c->bad; r->entries++) {
        struct entry e = entry_take(c);
        ret_entries[r->entries] = e;
        r->count += e.count;
        r->payload += e.units * UNIT;
        r->references += e.kind == ENTRY_DUP;
    }
}

static void state_take(struct cursor *c, struct record *r)
{
    r->key_bytes = (uint32_t)number_take_below(c, STATE_KEY_MAX + 1);
    r->value_bytes = (uint32_t)number_take_below(c, STATE_VALUE_MAX + 1);
    r->state = cursor_take(c, (size_t)r->key_bytes + r->value_bytes);
}

static void origin_take(struct cursor *c, bool same, const struct summary_before *before, struct record *r)
{
    r->volume = same ? before->volume : number_take32(c);
    r->epoch = same ? before->epoch : number_take32(c);
    r->previous_epoch = same ? before->previous_epoch : number_take32(c);
    r->boot = same ? before->boot : number_take32(c);
    r->node = same ? before->node : (uint16_t)number_take_below(c, UINT16_MAX + 1);
}

enum err summary_next(struct summary_walk *walk, uint32_t *ret_offset, struct record *ret_record, struct entry *ret_entries)
{
    if (walk->at.left == 0) return ERR_TRUNCATED;
    struct cursor c = walk->at;
    const struct summary_before *before = &walk->before;
    uint8_t first = byte_take(&c);
    struct record r = {.kind = first & SUMMARY_KIND, .learn = (first & SUMMARY_LEARN) != 0};
    uint64_t step = number_take_below(&c, 1u << SEGMENT_SHIFT_MAX), units = before->units + step;
    origin_take(&c, first & SUMMARY_SAME, before, &r);
    r.sequence = difference_take(&c, before->sequence + 1);
    r.lba = difference_take(&c, before->lba);
    r.request = difference_take(&c, before->request);
    uint32_t lag = number_take32(&c);
    if (r.kind == RECORD_DATA) entries_take(&c, &r, ret_entries);
    if (r.kind == RECORD_STATE || r.kind == RECORD_MOVE) state_take(&c, &r);
    if (c.bad || first > (SUMMARY_LEARN | SUMMARY_SAME | SUMMARY_KIND) || step == 0 ||
        units >= (1u << SEGMENT_SHIFT_MAX) / UNIT)
        return ERR_DECODE;
    if (lag != COMMIT_LAG_MAX && lag > r.sequence) return ERR_DECODE;
    r.commit = lag == COMMIT_LAG_MAX ? 0 : r.sequence - lag;
    if (!record_possible(&r, ret_entries)) return ERR_DECODE;
    walk->at = c;
    walk->before = before_next(&r, (uint32_t)units);
    *ret_offset = (uint32_t)units * UNIT;
    *ret_record = r;
    return OK;
}

/* ---- trailers ---- */

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
        uint64_t least = (uint64_t)t->records * SUMMARY_RECORD_LEAST + (uint64_t)t->chunks * SUMMARY_CHUNK_BYTES;
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
