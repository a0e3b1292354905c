/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What lies in the slots: summaries against batches, address tables against runs, and every chunk against its checksum, its
 * fingerprint and the list that names it.
 *
 * The chunks of a window of slots are listed in memory; a reference from the maps is looked up there and marks. In quick
 * mode only the lists are read. Segments of pages have no list: their pages are checked where a pointer leads.
 */
#include <inttypes.h>

#include "store/audit_internal.h"

enum { PRINT_BYTES = 20 };

struct slot_check {
    struct audit *a;
    struct audit_slot *sl;
    uint32_t slot;
    bool data;    /* a->buf holds the chunks too */
    bool listed;  /* chunks go into the window */
    uint32_t bad; /* chunks */
};

/* ---- one chunk ---- */

/* Unpacks a block and computes its fingerprint again, unless that is one of a secret that the pool had before. `print` NULL: of
 * the one it should have only the tag is known. */
static const char *block_trouble(struct audit *a, const uint8_t *chunk, uint32_t units, uint64_t address, uint32_t tag,
                                 const struct fingerprint *print)
{
    uint32_t size;
    struct fingerprint again;
    enum err err = chunk_unpack(chunk, units, address, &tag, a->data, 2 * BLOCK_SIZE, &size);
    if (err != OK) return err_text(err);
    if (size != BLOCK_SIZE) return "does not unpack to a block";
    if (address < a->super.secret_from) return NULL;
    fingerprint_of(&a->key, a->data, BLOCK_SIZE, &again);
    bool equal = print ? fingerprint_equal(&again, print) : fingerprint_tag(&again) == tag;
    return equal ? NULL : "is not what its fingerprint says";
}

/* Lists a chunk that lies at `offset` of the slot; with data, checks it. `print` NULL: it is not known; `tag` of a page: 0. */
static void chunk_add(struct slot_check *sc, uint64_t address, uint32_t units, uint32_t offset, uint32_t tag,
                      const struct fingerprint *print)
{
    struct audit *a = sc->a;
    const char *trouble = NULL;
    a->report->chunks++;
    if (sc->data) {
        const uint8_t *chunk = a->buf + offset;
        a->report->chunks_checked++;
        if (sc->sl->kind != SLOT_CLEANED_META) {
            trouble = block_trouble(a, chunk, units, address, tag, print);
        } else {
            enum err err = chunk_check(chunk, units, address);
            trouble = err == OK ? NULL : err_text(err);
        }
    }
    if (trouble && sc->bad++ < 4)
        audit_problem(a, "slot %u: chunk at %" PRIu64 " (offset %u): %s", sc->slot, address, offset, trouble);
    if (!sc->listed) return;
    const struct audit_chunk *last = sc->sl->count ? &a->chunks[a->chunk_count - 1] : NULL;
    if ((last && locator_address(last->locator) >= address) || a->chunk_count == a->chunk_room) {
        audit_problem(a, "slot %u: chunk at %" PRIu64 " is out of order", sc->slot, address);
        return;
    }
    a->chunks[a->chunk_count++] =
        (struct audit_chunk){.locator = locator_of(address, units), .tag = tag, .bad = trouble != NULL};
    sc->sl->count++;
}

/* The NEW entries of a record at `address`; of a batch's the fingerprints are not known. */
static void record_chunks(struct slot_check *sc, const struct record *r, const struct entry *entries, uint64_t address,
                          bool prints)
{
    uint64_t chunk = address + record_head_bytes(r), end = (sc->sl->segment + 1) * sc->a->segment_bytes;
    for (uint32_t i = 0; i < r->entries; i++) {
        const struct entry *e = &entries[i];
        if (e->kind != ENTRY_NEW) continue;
        if (chunk + e->units * UNIT > end) {
            audit_problem(sc->a, "slot %u: record at %" PRIu64 " reaches beyond its segment", sc->slot, address);
            return;
        }
        chunk_add(sc, chunk, e->units, (uint32_t)(chunk % sc->a->segment_bytes), e->tag, prints ? &e->print : NULL);
        chunk += e->units * UNIT;
    }
}

/* ---- HEAD: batches ---- */

struct body {
    const uint8_t *at; /* NULL: no seal */
    size_t size;
    struct summary_walk walk;
};

/* The next record of the seal must be this one. */
static bool repeated(struct body *body, uint32_t offset, const struct record *r, const struct entry *entries)
{
    uint32_t sealed_offset;
    struct record sealed;
    struct entry sealed_entries[RECORD_BLOCKS_MAX];
    if (summary_next(&body->walk, &sealed_offset, &sealed, sealed_entries) != OK) return false;
    return sealed_offset == offset && record_equal(&sealed, sealed_entries, r, entries);
}

/* Records of a batch: held against the seal when there is one, else listed. False: they make no sense. */
static bool batch_records(struct slot_check *sc, const uint8_t *at, const struct batch *b, struct body *body)
{
    uint32_t offset = sizeof(struct disk_batch);
    struct entry entries[RECORD_BLOCKS_MAX];
    for (uint32_t i = 0; i < b->records; i++) {
        struct record r;
        uint64_t address = b->address + offset;
        if (record_decode(at + offset, b->used - offset, address, &r, entries) != OK) return false;
        if (!body->at)
            record_chunks(sc, &r, entries, address, false);
        else if (!repeated(body, (uint32_t)(address % sc->a->segment_bytes), &r, entries))
            return false;
        offset += record_head_bytes(&r) + r.payload;
    }
    return offset == b->used;
}

/* Batches from the start of a->buf to `end`. `t`: the seal that they must agree with, or NULL. */
static void check_batches(struct slot_check *sc, uint32_t end, const struct trailer *t, struct body *body)
{
    struct audit *a = sc->a;
    struct batch b = {.checksum = t ? t->first_previous : 0, .number = t ? t->first_number - 1 : 0};
    uint32_t at = 0, records = 0;
    while (at < end) {
        struct batch next;
        enum err err = batch_decode(a->buf + at, end - at, sc->sl->segment * a->segment_bytes + at, a->salt, &next);
        bool follows = err == OK && next.number == b.number + 1 && next.previous == b.checksum;
        if (err == OK && !t && at == 0) follows = true; /* nothing says where an unsealed segment begins */
        if (follows && t && next.incarnation != t->incarnation) follows = false;
        if (err != OK && !t && end == a->segment_bytes) return; /* no end is known: up to the first that is not one */
        if (!follows) {
            audit_problem(a, "slot %u: batch at offset %u: %s", sc->slot, at, err == OK ? "does not follow" : err_text(err));
            return;
        }
        if (!batch_records(sc, a->buf + at, &next, body)) {
            audit_problem(a, "slot %u: batch %" PRIu64 ": its records %s", sc->slot, next.number,
                          t ? "are not those of the seal" : "make no sense");
            return;
        }
        records += next.records;
        at += next.length;
        b = next;
    }
    if (t && (at != t->data_bytes || b.number != t->last_number || b.checksum != t->last_checksum || records != t->records))
        audit_problem(a, "slot %u: sealed as %u records up to batch %" PRIu64 ", but holds %u up to %" PRIu64, sc->slot,
                      t->records, t->last_number, records, b.number);
}

/* ---- HEAD: the seal ---- */

static void check_seal_records(struct slot_check *sc, const struct trailer *t, const struct body *body)
{
    struct audit *a = sc->a;
    struct summary_walk walk = summary_walk(body->at, body->size);
    struct entry entries[RECORD_BLOCKS_MAX];
    struct record r;
    uint32_t offset, records = 0;
    uint64_t before = a->report->chunks;
    enum err err;
    while ((err = summary_next(&walk, &offset, &r, entries)) == OK) {
        if (offset + record_head_bytes(&r) + (uint64_t)r.payload > t->data_bytes) {
            err = ERR_DECODE;
            break;
        }
        record_chunks(sc, &r, entries, t->segment * a->segment_bytes + offset, true);
        records++;
    }
    if (err != ERR_TRUNCATED) audit_problem(a, "slot %u: record %u of its summary: %s", sc->slot, records, err_text(err));
    if (records != t->records || a->report->chunks - before != t->chunks)
        audit_problem(a, "slot %u: its summary counts %u records and %u chunks, and has %u and %" PRIu64, sc->slot, t->records,
                      t->chunks, records, a->report->chunks - before);
    if (sc->sl->chunks != 0 && sc->sl->chunks != t->chunks)
        audit_problem(a, "slot %u: the directory counts %u chunks, its summary %u", sc->slot, sc->sl->chunks, t->chunks);
}

/* Reads the slot into its place in a->buf: all of it, or only the tail with trailer, table and fingerprints.
 * *ret_good: the trailer. */
static enum err slot_load(struct slot_check *sc, bool whole, struct trailer *ret_trailer, bool *ret_good)
{
    struct audit *a = sc->a;
    uint32_t size = (uint32_t)a->segment_bytes, have = whole ? size : SECTOR;
    uint8_t *end = a->buf + size;
    *ret_good = false;
    enum err err = audit_slot_read(a, sc->slot, size - have, end - have, have);
    if (err == OK) {
        err = trailer_decode(end - sizeof(struct disk_trailer), sizeof(struct disk_trailer), size, a->salt, ret_trailer);
        *ret_good = err == OK;
        if (!*ret_good) return OK;
        uint64_t tail = sizeof(struct disk_trailer) + (uint64_t)ret_trailer->body_bytes + ret_trailer->print_bytes;
        uint32_t need = (uint32_t)round_up64(tail, SECTOR);
        if (need > have) err = audit_slot_read(a, sc->slot, size - need, end - need, need - have);
    }
    if (err == OK) return OK;
    *ret_good = false;
    if (!audit_ends(err)) audit_problem(a, "slot %u: %s", sc->slot, err_text(err));
    return audit_ends(err) ? err : OK;
}

static enum err check_head(struct slot_check *sc)
{
    struct audit *a = sc->a;
    struct trailer t;
    bool good, must = sc->sl->segment < a->replay_segment || sc->sl->sealed;
    if (!must && !sc->sl->reached) return OK; /* not part of the log */
    sc->data = !a->report->quick;
    TRY(slot_load(sc, !a->report->quick || !must, &t, &good));
    good = good && t.kind == SLOT_HEAD && t.slot == sc->slot && t.segment == sc->sl->segment;
    struct body body = {.at = a->buf + a->segment_bytes - sizeof(struct disk_trailer) - (good ? t.body_bytes : 0),
                        .size = good ? t.body_bytes : 0};
    body.walk = summary_walk(body.at, body.size);
    good = good && body_checksum(body.at, body.size, a->salt) == t.body_checksum;
    if (must && good) {
        check_seal_records(sc, &t, &body);
        if (sc->data) check_batches(sc, t.data_bytes, &t, &body);
        return OK;
    }
    uint32_t end = sc->sl->accepted;
    if (must) {
        audit_problem(a, "slot %u: segment %" PRIu64 " lies before the replay point and has no good summary", sc->slot,
                      sc->sl->segment);
        end = (uint32_t)a->segment_bytes;
        enum err err = a->report->quick ? audit_slot_read(a, sc->slot, 0, a->buf, end) : OK;
        if (err != OK) return audit_ends(err) ? err : OK; /* said by slot_load */
    }
    body.at = NULL;
    check_batches(sc, end, NULL, &body);
    return OK;
}

/* ---- CLEANED ---- */

static bool check_table(struct slot_check *sc, const struct trailer *t, const uint8_t *table, const uint8_t *prints)
{
    struct audit *a = sc->a;
    uint64_t before = 0, offset = 0;
    for (uint32_t i = 0; i < t->chunks; i++) {
        le64 raw;
        struct fingerprint print;
        memcpy(&raw, table + i * sizeof raw, sizeof raw);
        if (prints) memcpy(print.b, prints + i * PRINT_BYTES, PRINT_BYTES);
        uint64_t locator = get64(raw), address = locator_address(locator);
        uint32_t units = locator_units(locator);
        const struct audit_run *run = audit_run_of(a, address);
        if (units == 0 || (i > 0 && address <= before) || (offset + units) * UNIT > t->data_bytes) {
            audit_problem(a, "slot %u: entry %u of its address table is out of order or out of bounds", sc->slot, i);
            return false;
        }
        if (!run || run->slot != sc->slot)
            audit_problem(a, "slot %u: holds a chunk at %" PRIu64 ", which is in none of its runs", sc->slot, address);
        chunk_add(sc, address, units, (uint32_t)offset * UNIT, prints ? fingerprint_tag(&print) : 0, prints ? &print : NULL);
        if (sc->sl->pages.locators) {
            sc->sl->pages.locators[i] = locator;
            sc->sl->pages.offsets[i] = (uint32_t)offset;
            sc->sl->pages.count = i + 1;
        }
        before = address;
        offset += units;
    }
    if (offset * UNIT != t->data_bytes)
        audit_problem(a, "slot %u: its table lists %" PRIu64 " bytes, its trailer says %u", sc->slot, offset * UNIT,
                      t->data_bytes);
    return true;
}

static enum err check_cleaned(struct slot_check *sc)
{
    struct audit *a = sc->a;
    struct trailer t;
    bool good;
    sc->data = !a->report->quick;
    TRY(slot_load(sc, sc->data, &t, &good));
    if (!good || t.kind != sc->sl->kind || t.slot != sc->slot) {
        audit_problem(a, "slot %u: %s, but without a good trailer", sc->slot, audit_kind_text(sc->sl->kind));
        return OK;
    }
    const uint8_t *prints = a->buf + a->segment_bytes - sizeof(struct disk_trailer) - t.print_bytes,
                  *table = prints - t.body_bytes;
    if (body_checksum(table, t.body_bytes, a->salt) != t.body_checksum) {
        audit_problem(a, "slot %u: its address table is damaged", sc->slot);
        return OK;
    }
    if (body_checksum(prints, t.print_bytes, a->salt) != t.print_checksum)
        audit_problem(a, "slot %u: its fingerprints are damaged", sc->slot);
    if (sc->sl->chunks != 0 && sc->sl->chunks != t.chunks)
        audit_problem(a, "slot %u: the directory counts %u chunks, its table %u", sc->slot, sc->sl->chunks, t.chunks);
    if (t.segment >= a->checkpoint.next_serial)
        audit_problem(a, "slot %u: serial number %" PRIu64 " was not given out yet", sc->slot, t.segment);
    if (sc->sl->kind == SLOT_CLEANED_META) {
        struct audit_table *pages = &sc->sl->pages;
        pages->locators = mem_alloc(a->mem, (t.chunks + 1ull) * sizeof *pages->locators);
        pages->offsets = mem_alloc(a->mem, (t.chunks + 1ull) * sizeof *pages->offsets);
        if (!pages->locators || !pages->offsets) return ERR_NO_MEMORY;
    }
    check_table(sc, &t, table, sc->sl->kind == SLOT_CLEANED ? prints : NULL);
    return OK;
}

enum err audit_page_tables(struct audit *a)
{
    for (uint32_t slot = 0; slot < a->slot_count; slot++) {
        if (a->slots[slot].kind != SLOT_CLEANED_META) continue;
        struct slot_check sc = {.a = a, .sl = &a->slots[slot], .slot = slot};
        TRY(check_cleaned(&sc));
    }
    return OK;
}

/* ---- the window ---- */

enum err audit_window(struct audit *a, uint32_t from, uint32_t *ret_end)
{
    uint32_t most = (uint32_t)(a->segment_bytes / (2 * UNIT)), slot = from;
    a->chunk_count = 0;
    for (; slot < a->slot_count && a->chunk_room - a->chunk_count >= most; slot++) {
        struct audit_slot *sl = &a->slots[slot];
        struct slot_check sc = {.a = a, .sl = sl, .slot = slot, .listed = true};
        sl->first = a->chunk_count;
        sl->count = 0;
        if (sl->kind == SLOT_HEAD) TRY(check_head(&sc));
        if (sl->kind == SLOT_CLEANED) TRY(check_cleaned(&sc));
    }
    a->window_first = from;
    a->window_end = slot;
    *ret_end = slot;
    return OK;
}

void audit_window_end(struct audit *a)
{
    for (uint32_t slot = a->window_first; slot < a->window_end; slot++) {
        struct audit_slot *sl = &a->slots[slot];
        for (uint32_t i = sl->first; i < sl->first + sl->count; i++) {
            if (!a->chunks[i].marked) continue;
            sl->marked += locator_units(a->chunks[i].locator);
            a->report->chunks_live++;
        }
    }
}

static struct audit_chunk *chunk_find(const struct audit *a, const struct audit_slot *sl, uint64_t address)
{
    uint32_t low = sl->first, high = sl->first + sl->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (locator_address(a->chunks[middle].locator) < address)
            low = middle + 1;
        else
            high = middle;
    }
    return low < sl->first + sl->count && locator_address(a->chunks[low].locator) == address ? &a->chunks[low] : NULL;
}

void audit_reference(struct audit *a, uint64_t place, uint32_t tag, uint32_t volume, uint64_t lba, const char *who)
{
    uint64_t address = place_address(place);
    const struct audit_run *run = audit_run_of(a, address);
    const char *trouble = NULL;
    if (!run) {
        if (!a->first_walk) return;
        trouble = "in no slot";
    } else if (run->slot < a->window_first || run->slot >= a->window_end) {
        return;
    } else {
        const struct audit_slot *sl = &a->slots[run->slot];
        struct audit_chunk *chunk = chunk_find(a, sl, address);
        if (!chunk)
            trouble = "where its slot has no chunk";
        else if (locator_units(chunk->locator) != place_units(place))
            trouble = "of another length";
        else if (chunk->tag != tag)
            trouble = "of another tag";
        else if (chunk->bad)
            trouble = "damaged";
        if (chunk) chunk->marked = true;
    }
    if (!trouble) return;
    audit_problem(a, "volume %u block %" PRIu64 " (%s): chunk at %" PRIu64 " in slot %u is %s", volume, lba, who, address,
                  run ? run->slot : AUDIT_NONE, trouble);
}
