/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Summaries: which chunks are in a slot, under which addresses and fingerprints.
 *
 * One cache serves three readers: dedupe (a hint of the index loads a slot's fingerprints, and its neighbours' duplicates
 * are then found without the index), reads from cleaned slots (the address table), and the cleaner (the list of chunks).
 * Fingerprints of all cached summaries are in one open-addressed table. The head's summary is built here while the
 * segment fills, and stays pinned until it is sealed.
 */
#include "store/internal.h"

#define PRINT_EMPTY ((uint64_t)0)
#define PRINT_GONE ((uint64_t)1)
#define PRINT_PLACES (1u << 18)

enum { LOAD_TRAILER, LOAD_BODY, LOAD_META };

enum err summaries_init(struct store *s, uint64_t budget)
{
    struct summaries *c = &s->summaries;
    list_init(&c->lru);
    c->budget = budget;
    c->hash_size = 1024;
    c->ids = 4096;
    c->prints_size = 1024;
    while ((uint64_t)c->prints_size * 8 < budget / 4) c->prints_size *= 2;
    c->hash = mem_alloc(s->mem, c->hash_size * sizeof *c->hash);
    c->by_id = mem_alloc(s->mem, c->ids * sizeof *c->by_id);
    c->prints = mem_alloc(s->mem, (uint64_t)c->prints_size * sizeof *c->prints);
    return c->hash && c->by_id && c->prints ? OK : ERR_NO_MEMORY;
}

/* ---- the table of fingerprints ---- */

static uint64_t print_word(const struct fingerprint *print)
{
    uint64_t w;
    memcpy(&w, print->b + 4, 8);
    return w;
}

static void print_insert(struct summaries *c, struct summary *sum, uint32_t i)
{
    if (c->prints_used >= c->prints_size / 8 * 7) return; /* full: this one is not found, which costs only space */
    uint64_t word = print_word(&sum->prints[i]);
    uint64_t entry = (word >> 40) << 40 | (uint64_t)(sum->id + 2) << 24 | (i & 0xffffff);
    for (uint32_t at = (uint32_t)word & (c->prints_size - 1);; at = (at + 1) & (c->prints_size - 1)) {
        if (c->prints[at] != PRINT_EMPTY && c->prints[at] != PRINT_GONE) continue;
        if (c->prints[at] == PRINT_EMPTY) c->prints_used++;
        c->prints[at] = entry;
        return;
    }
}

static void print_remove(struct summaries *c, struct summary *sum, uint32_t i)
{
    uint64_t word = print_word(&sum->prints[i]);
    uint64_t entry = (word >> 40) << 40 | (uint64_t)(sum->id + 2) << 24 | (i & 0xffffff);
    for (uint32_t at = (uint32_t)word & (c->prints_size - 1); c->prints[at] != PRINT_EMPTY;
         at = (at + 1) & (c->prints_size - 1)) {
        if (c->prints[at] != entry) continue;
        c->prints[at] = PRINT_GONE;
        while (c->prints[(at + 1) & (c->prints_size - 1)] == PRINT_EMPTY && c->prints[at] == PRINT_GONE) {
            c->prints[at] = PRINT_EMPTY;
            c->prints_used--;
            at = (at - 1) & (c->prints_size - 1);
        }
        return;
    }
}

uint64_t summary_find(struct store *s, const struct fingerprint *print)
{
    struct summaries *c = &s->summaries;
    uint64_t word = print_word(print);
    for (uint32_t at = (uint32_t)word & (c->prints_size - 1); c->prints[at] != PRINT_EMPTY;
         at = (at + 1) & (c->prints_size - 1)) {
        uint64_t entry = c->prints[at];
        if (entry >> 40 != word >> 40 || entry == PRINT_GONE) continue;
        struct summary *sum = c->by_id[(entry >> 24 & 0xffff) - 2];
        uint32_t i = (uint32_t)(entry & 0xffffff);
        assert(sum && sum->has_prints && i < sum->count);
        if (!fingerprint_equal(&sum->prints[i], print)) continue;
        if (!sum->open) {
            list_remove(&sum->lru);
            list_push(&c->lru, &sum->lru);
        }
        return place_of(locator_address(sum->locators[i]), locator_units(sum->locators[i]));
    }
    return PLACE_NONE;
}

/* Tombstones only pile up; when they fill the table it is laid out anew. */
static void prints_rebuild(struct store *s)
{
    struct summaries *c = &s->summaries;
    memset(c->prints, 0, (uint64_t)c->prints_size * sizeof *c->prints);
    c->prints_used = 0;
    for (uint32_t id = 0; id < c->ids; id++) {
        struct summary *sum = c->by_id[id];
        for (uint32_t i = 0; sum && sum->has_prints && i < sum->count; i++) print_insert(c, sum, i);
    }
}

/* ---- the cache ---- */

static struct summary **bucket(struct summaries *c, uint32_t slot)
{
    return &c->hash[(slot * 2654435761u >> 16) & (c->hash_size - 1)];
}

static struct summary *summary_lookup(struct summaries *c, uint32_t slot)
{
    struct summary *sum = *bucket(c, slot);
    while (sum && sum->slot != slot) sum = sum->hash_next;
    return sum;
}

static void forget_prints(struct store *s, struct summary *sum)
{
    for (uint32_t i = 0; sum->has_prints && i < sum->count; i++) print_remove(&s->summaries, sum, i);
    sum->has_prints = false;
}

static void unhash(struct summaries *c, struct summary *sum)
{
    for (struct summary **at = bucket(c, sum->slot); *at; at = &(*at)->hash_next) {
        if (*at != sum) continue;
        *at = sum->hash_next;
        break;
    }
    sum->slot = NO_SLOT;
}

static void summary_free(struct store *s, struct summary *sum)
{
    struct summaries *c = &s->summaries;
    assert(sum->pins == 0 && !sum->loading && list_empty(&sum->waiters));
    forget_prints(s, sum);
    if (sum->slot != NO_SLOT) unhash(c, sum);
    list_remove(&sum->lru);
    c->by_id[sum->id] = NULL;
    c->count--;
    c->bytes -= sum->bytes;
    mem_free(s->mem, sum->locators);
    mem_free(s->mem, sum->offsets);
    mem_free(s->mem, sum->prints);
    mem_free(s->mem, sum->buf);
    mem_free(s->mem, sum);
}

static void make_room(struct store *s)
{
    struct summaries *c = &s->summaries;
    struct list *l = c->lru.next;
    while (l != &c->lru && (c->bytes > c->budget || c->count + 8 > c->ids)) {
        struct summary *sum = CONTAINER(l, struct summary, lru);
        l = l->next;
        if (sum->pins == 0 && !sum->loading && !sum->open && list_empty(&sum->waiters)) summary_free(s, sum);
    }
    if (c->prints_used >= c->prints_size / 8 * 7) prints_rebuild(s);
}

static struct summary *summary_new(struct store *s, uint32_t slot)
{
    struct summaries *c = &s->summaries;
    make_room(s);
    uint32_t id = 0;
    while (id < c->ids && c->by_id[id]) id++;
    if (id == c->ids) return NULL;
    struct summary *sum = mem_alloc(s->mem, sizeof *sum);
    if (!sum) return NULL;
    *sum = (struct summary){.slot = slot, .life = slot_at(s, slot)->life, .id = id, .store = s};
    sum->bytes = sizeof *sum;
    list_init(&sum->waiters);
    list_push(&c->lru, &sum->lru);
    sum->hash_next = *bucket(c, slot);
    *bucket(c, slot) = sum;
    c->by_id[id] = sum;
    c->count++;
    c->bytes += sum->bytes;
    return sum;
}

static bool grow(struct store *s, struct summary *sum, uint32_t capacity, bool prints, bool offsets)
{
    if (capacity > PRINT_PLACES) return false;
    uint64_t *locators = mem_alloc(s->mem, capacity * sizeof *locators);
    struct fingerprint *print = prints ? mem_alloc(s->mem, capacity * sizeof *print) : NULL;
    uint32_t *offset = offsets ? mem_alloc(s->mem, capacity * sizeof *offset) : NULL;
    if (!locators || (prints && !print) || (offsets && !offset)) {
        mem_free(s->mem, locators);
        mem_free(s->mem, print);
        mem_free(s->mem, offset);
        return false;
    }
    if (sum->count) {
        memcpy(locators, sum->locators, sum->count * sizeof *locators);
        if (prints) memcpy(print, sum->prints, sum->count * sizeof *print);
    }
    mem_free(s->mem, sum->locators);
    mem_free(s->mem, sum->prints);
    mem_free(s->mem, sum->offsets);
    sum->locators = locators;
    sum->prints = print;
    sum->offsets = offset;
    sum->capacity = capacity;
    uint64_t bytes = sizeof *sum + capacity * (8ull + (prints ? 20 : 0) + (offsets ? 4 : 0));
    s->summaries.bytes += bytes - sum->bytes;
    sum->bytes = bytes;
    return true;
}

struct summary *summary_open(struct store *s, uint32_t slot)
{
    assert(!summary_lookup(&s->summaries, slot));
    struct summary *sum = summary_new(s, slot);
    if (!sum) return NULL;
    sum->open = true;
    sum->has_prints = true;
    uint32_t expected = (uint32_t)(s->segment_bytes / 2048) + 16;
    if (grow(s, sum, expected, true, false)) return sum;
    sum->open = false;
    sum->has_prints = false;
    summary_free(s, sum);
    return NULL;
}

bool summary_append(struct store *s, struct summary *sum, uint64_t locator, const struct fingerprint *print)
{
    assert(sum->open);
    if (sum->count == sum->capacity && !grow(s, sum, sum->capacity * 2, true, false)) return false;
    assert(sum->count == 0 || locator_address(sum->locators[sum->count - 1]) < locator_address(locator));
    sum->locators[sum->count] = locator;
    sum->prints[sum->count] = *print;
    print_insert(&s->summaries, sum, sum->count++);
    return true;
}

void summary_sealed(struct store *s, struct summary *sum)
{
    assert(sum->open);
    sum->open = false;
    make_room(s);
}

void summary_drop(struct store *s, uint32_t slot)
{
    struct summaries *c = &s->summaries;
    struct summary *sum = summary_lookup(c, slot);
    if (!sum) return;
    assert(!sum->open);
    forget_prints(s, sum);
    if (sum->loading || sum->pins || !list_empty(&sum->waiters))
        unhash(c, sum); /* freed by make_room when nobody holds it */
    else
        summary_free(s, sum);
}

uint32_t summary_position(const struct summary *sum, uint64_t address)
{
    uint32_t low = 0, high = sum->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (locator_address(sum->locators[middle]) < address)
            low = middle + 1;
        else
            high = middle;
    }
    return low < sum->count && locator_address(sum->locators[low]) == address ? low : UINT32_MAX;
}

/* ---- loading ---- */

static void load_done(struct summary *sum, enum err err)
{
    struct store *s = sum->store;
    uint32_t slot = (uint32_t)sum->buf_at;
    sum->loading = false;
    mem_free(s->mem, sum->buf);
    sum->buf = NULL;
    sum->failed = err != OK;
    bool stale = sum->slot == NO_SLOT;
    if (err == OK && !stale && sum->prints) {
        sum->has_prints = true;
        for (uint32_t i = 0; i < sum->count; i++) print_insert(&s->summaries, sum, i);
    }
    waiters_wake(s, &sum->waiters);
    slot_reader_done(s, slot);
    if (stale && sum->pins == 0) summary_free(s, sum);
}

/* The body of a HEAD summary: NEW entries of its records, in address order because they were appended so. */
enum err summary_parse_head(struct store *s, struct summary *sum, uint64_t base, const uint8_t *body, size_t size)
{
    struct summary_walk walk = summary_walk(body, size);
    struct entry entries[RECORD_BLOCKS_MAX];
    for (;;) {
        struct record r;
        uint32_t offset;
        enum err err = summary_next(&walk, &offset, &r, entries);
        if (err == ERR_TRUNCATED) return OK;
        if (err != OK) return err;
        uint64_t address = base + offset + record_head_bytes(&r);
        for (uint32_t i = 0; i < r.entries; i++) {
            const struct entry *e = &entries[i];
            if (e->kind != ENTRY_NEW) continue;
            if (sum->count == sum->capacity) return ERR_DECODE;
            if (address + e->units * UNIT > base + s->segment_bytes) return ERR_DECODE;
            if (sum->count && locator_address(sum->locators[sum->count - 1]) >= address) return ERR_DECODE;
            sum->locators[sum->count] = locator_of(address, e->units);
            if (sum->prints) sum->prints[sum->count] = e->print;
            sum->count++;
            address += e->units * UNIT;
        }
    }
}

static enum err parse_cleaned(struct store *s, struct summary *sum, const uint8_t *table, const uint8_t *prints)
{
    const struct trailer *t = &sum->trailer;
    uint64_t offset = 0;
    for (uint32_t i = 0; i < t->chunks; i++) {
        le64 raw;
        memcpy(&raw, table + (size_t)i * 8, 8);
        uint64_t locator = get64(raw);
        if (locator_units(locator) == 0) return ERR_DECODE;
        if (i && locator_address(sum->locators[i - 1]) >= locator_address(locator)) return ERR_DECODE;
        sum->locators[i] = locator;
        sum->offsets[i] = (uint32_t)offset;
        if (prints) memcpy(sum->prints[i].b, prints + (size_t)i * 20, 20);
        offset += locator_units(locator);
        if (offset * UNIT > s->segment_bytes) return ERR_DECODE;
    }
    sum->count = t->chunks;
    return OK;
}

/* Pages delimit themselves: chunk after chunk, from each sector on. What does not check is the rest of an append. */
static enum err parse_meta(struct store *s, struct summary *sum, uint64_t base)
{
    uint32_t at = 0, size = (uint32_t)s->segment_bytes;
    while (at + sizeof(struct disk_chunk) <= size) {
        const uint8_t *chunk = sum->buf + at;
        struct disk_chunk header;
        memcpy(&header, chunk, sizeof header);
        uint32_t stored = chunk_stored(get16(header.size));
        uint32_t units = chunk_room(stored) / UNIT;
        bool good = stored > 0 && at + units * UNIT <= size && chunk_check(chunk, units, base + at) == OK;
        if (!good) {
            at = (at / SECTOR + 1) * SECTOR;
            continue;
        }
        if (sum->count == sum->capacity && !grow(s, sum, sum->capacity ? sum->capacity * 2 : 256, false, false))
            return ERR_NO_MEMORY;
        sum->locators[sum->count++] = locator_of(base + at, units);
        at += units * UNIT;
    }
    return OK;
}

static enum err parse(struct summary *sum)
{
    struct store *s = sum->store;
    const struct trailer *t = &sum->trailer;
    if (sum->stage == LOAD_META) return parse_meta(s, sum, slot_at(s, (uint32_t)sum->buf_at)->start[0] * UNIT);
    const uint8_t *end = sum->buf + sum->buf_bytes - sizeof(struct disk_trailer);
    if (t->kind == SLOT_HEAD) {
        const uint8_t *body = end - t->body_bytes;
        if (body_checksum(body, t->body_bytes, s->salt) != t->body_checksum) return ERR_CHECKSUM;
        if (!grow(s, sum, t->chunks + 1, true, false)) return ERR_NO_MEMORY;
        return summary_parse_head(s, sum, t->segment * s->segment_bytes, body, t->body_bytes);
    }
    bool with_prints = sum->want_prints && t->kind == SLOT_CLEANED;
    const uint8_t *prints = end - t->print_bytes, *table = prints - t->body_bytes;
    if (body_checksum(table, t->body_bytes, s->salt) != t->body_checksum) return ERR_CHECKSUM;
    if (with_prints && body_checksum(prints, t->print_bytes, s->salt) != t->print_checksum) return ERR_CHECKSUM;
    if (t->body_bytes != t->chunks * 8ull || (with_prints && t->print_bytes != t->chunks * 20ull)) return ERR_DECODE;
    if (!grow(s, sum, t->chunks + 1, with_prints, true)) return ERR_NO_MEMORY;
    sum->cleaned = true;
    return parse_cleaned(s, sum, table, with_prints ? prints : NULL);
}

static void load_next(struct io_op *op);

static bool load_read(struct summary *sum, uint32_t offset)
{
    struct store *s = sum->store;
    struct device *d;
    uint64_t at;
    sum->buf_bytes = (uint32_t)s->segment_bytes - offset;
    mem_free(s->mem, sum->buf);
    sum->buf = mem_alloc_raw(s->mem, sum->buf_bytes);
    if (!sum->buf) return false;
    slot_where(s, (uint32_t)sum->buf_at, &d, &at);
    sum->op.done = load_next;
    io_read(s->io, d->file, at + offset, sum->buf, sum->buf_bytes, &sum->op);
    return true;
}

/* The steps of a load: trailer, then table (and fingerprints), then parse. A META slot is read whole. */
static void load_next(struct io_op *op)
{
    struct summary *sum = CONTAINER(op, struct summary, op);
    struct store *s = sum->store;
    enum err err = op->err;
    if (err == OK && sum->stage == LOAD_TRAILER) {
        const struct slot *sl = slot_at(s, (uint32_t)sum->buf_at);
        struct trailer t;
        err = trailer_decode(sum->buf + sum->buf_bytes - sizeof(struct disk_trailer), sizeof(struct disk_trailer),
                             s->segment_bytes, s->salt, &t);
        if (err == OK && sum->slot != NO_SLOT && (t.slot != sum->buf_at || t.kind != sl->kind)) err = ERR_DECODE;
        if (err == OK && sum->slot != NO_SLOT && t.kind == SLOT_HEAD && t.segment * s->segment_bytes != sl->start[0] * UNIT)
            err = ERR_DECODE;
        if (err == OK && sum->slot == NO_SLOT) err = ERR_AGAIN; /* dropped meanwhile */
        if (err == OK) {
            uint64_t tail = sizeof(struct disk_trailer) + (uint64_t)t.body_bytes + t.print_bytes;
            sum->trailer = t;
            sum->stage = LOAD_BODY;
            if (tail <= sum->buf_bytes) {
                err = parse(sum);
            } else if (load_read(sum, (uint32_t)((s->segment_bytes - tail) / SECTOR * SECTOR))) {
                return;
            } else {
                err = ERR_NO_MEMORY;
            }
        }
    } else if (err == OK) {
        err = sum->slot == NO_SLOT ? ERR_AGAIN : parse(sum);
    }
    load_done(sum, err);
}

static void load_start(struct store *s, struct summary *sum, bool prints)
{
    const struct slot *sl = slot_at(s, sum->slot);
    uint32_t guess = SECTOR; /* most summaries fit what is read at once */
    if (sl->kind == SLOT_HEAD) guess = (uint32_t)s->segment_bytes / 64;
    if (sl->kind == SLOT_CLEANED) guess = (uint32_t)s->segment_bytes / (prints ? 48 : 128);
    guess = (uint32_t)round_up64(guess, SECTOR);
    sum->loading = true;
    sum->want_prints = prints;
    sum->buf_at = sum->slot;
    sum->stage = sl->kind == SLOT_META ? LOAD_META : LOAD_TRAILER;
    sum->count = 0;
    slot_reader_add(s, sum->slot);
    s->stats.summary_loads++;
    /* A fingerprint load needs them in front of the table: one read from the whole tail; prints lie last. */
    if (!load_read(sum, sum->stage == LOAD_META ? 0 : (uint32_t)s->segment_bytes - guess)) load_done(sum, ERR_NO_MEMORY);
}

struct summary *summary_get(struct store *s, uint32_t slot, bool prints, struct waiter *w, bool *ret_failed)
{
    struct summaries *c = &s->summaries;
    struct summary *sum = summary_lookup(c, slot);
    const struct slot *sl = slot_at(s, slot);
    if (ret_failed) *ret_failed = false;
    if (sum && !sum->loading && !sum->open && !sum->failed && prints && !sum->has_prints && sl->kind == SLOT_CLEANED) {
        if (!w) return NULL;
        if (sum->pins == 0) { /* table only so far: load it again with fingerprints */
            summary_free(s, sum);
            sum = NULL;
        }
    }
    if (sum && sum->failed && !sum->loading) {
        bool waiters_left = !list_empty(&sum->waiters);
        if (ret_failed) *ret_failed = true;
        if (!waiters_left && sum->pins == 0) summary_free(s, sum);
        return NULL;
    }
    if (sum && !sum->loading) {
        if (!sum->open) {
            list_remove(&sum->lru);
            list_push(&c->lru, &sum->lru);
        }
        return sum;
    }
    if (!w) return NULL;
    if (!sum) {
        if (sl->state != SLOT_IS_USED || (sl->kind == SLOT_HEAD && !sl->sealed) || !(sum = summary_new(s, slot))) {
            if (ret_failed) *ret_failed = true;
            return NULL;
        }
        waiter_wait(&sum->waiters, w);
        load_start(s, sum, prints);
        return NULL;
    }
    waiter_wait(&sum->waiters, w);
    return NULL;
}
