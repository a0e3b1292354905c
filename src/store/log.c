/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The head of the log: batches, group commit, seals.
 *
 * Records are appended to the one open batch, in memory. A batch is written in one durable write; while one is under way the
 * next collects, so under load every write carries as many records as arrived during the write before. Batches are
 * numbered and carry their predecessor's checksum; several may be under way, but they count as durable in order only.
 *
 * Clients that wait for their writes send the next when a batch is done. If the first of them to come back went off alone,
 * the others would wait for it, and batches would alternate between small and large. So when nothing is under way the batch
 * holds for as many records as were there when the last one was done, but never longer than half of what writing one takes;
 * and where they do not come in time it is tried ever less often.
 *
 * A segment is full when the next record and its summary would not fit. Its seal (the summary) is written when the durable
 * watermark has passed its last batch, never earlier: a valid seal says "all of this was durable".
 *
 * The head may open only the slots that the newest checkpoint promised, in that order, so recovery knows where to look.
 */
#include "store/internal.h"

/* ---- waiting for the crowd ---- */

enum { HOLD_MISSES_MAX = 7, HOLD_NS_MAX = 4000000 };

static void hold_is_over(struct io_timer *timer)
{
    struct log *l = CONTAINER(timer, struct log, hold.timer);
    struct store *s = CONTAINER(l, struct store, log);
    l->hold.armed = false;
    l->hold.over = true;
    log_pump(s);
}

/* The batch goes: how did holding it turn out? */
static void hold_end(struct store *s, const struct batch_buf *b)
{
    struct log *l = &s->log;
    if (l->hold.armed) io_cancel(s->io, &l->hold.timer);
    if (l->hold.over) {
        l->hold.misses = min32(l->hold.misses + 1, HOLD_MISSES_MAX);
        l->hold.skip = (1u << l->hold.misses) - 1;
    } else if (l->hold.armed && b->records >= l->hold.crowd) {
        l->hold.misses = 0;
    } else if (l->hold.skip > 0) {
        l->hold.skip--;
    }
    l->hold.armed = l->hold.over = false;
}

static bool batch_is_due(struct store *s, const struct batch_buf *b)
{
    struct log *l = &s->log;
    if (b->used >= l->batch_bytes / 2) return true;
    if (l->in_flight > 0) return false;
    if (b->records >= l->hold.crowd || l->hold.over || l->hold.skip > 0) return true;
    if (!l->hold.armed) io_after(s->io, min64(l->hold.write_ns / 2, HOLD_NS_MAX), &l->hold.timer);
    l->hold.armed = true;
    return false;
}

/* ---- life ---- */

enum err log_init(struct store *s)
{
    struct log *l = &s->log;
    uint64_t head =
        sizeof(struct disk_record) + RECORD_BLOCKS_MAX * (sizeof(struct disk_entry) + sizeof(struct disk_reference)) + 64;
    uint64_t record = head + (uint64_t)s->blocks_max * PLACE_UNITS_RAW * UNIT;
    uint64_t least = record + sizeof(struct disk_batch) + STATE_VALUE_MAX;
    l->batch_bytes = (uint32_t)round_up64(max64(s->segment_bytes / BATCHES_A_SEGMENT, least), SECTOR);
    for (uint32_t i = 0; i < BATCHES; i++) {
        l->batch[i] = (struct batch_buf){.store = s, .at = mem_alloc_raw(s->mem, l->batch_bytes)};
        list_init(&l->batch[i].ops);
        if (!l->batch[i].at) return ERR_NO_MEMORY;
    }
    l->hold.timer.fire = hold_is_over;
    for (uint32_t i = 0; i < SEALS; i++) {
        l->seals[i] = (struct seal){.store = s, .buf = mem_alloc_raw(s->mem, s->segment_bytes)};
        if (!l->seals[i].buf) return ERR_NO_MEMORY;
    }
    l->seg_room = 8192;
    l->segments = mem_alloc_raw(s->mem, l->seg_room * sizeof *l->segments);
    list_init(&l->queue);
    list_init(&l->failed);
    return l->segments ? OK : ERR_NO_MEMORY;
}

/* ---- which segments replay would need ---- */

struct head_segment *log_segment(const struct store *s, uint32_t i)
{
    assert(i < s->log.seg_count);
    return &s->log.segments[(s->log.seg_first + i) % s->log.seg_room];
}

bool log_segment_push(struct store *s, const struct head_segment *hs)
{
    struct log *l = &s->log;
    if (l->seg_count == l->seg_room) return false;
    l->segments[(l->seg_first + l->seg_count++) % l->seg_room] = *hs;
    return true;
}

void log_forget_before(struct store *s, uint64_t segment)
{
    struct log *l = &s->log;
    while (l->seg_count > 0 && l->segments[l->seg_first].segment < segment) {
        l->seg_first = (l->seg_first + 1) % l->seg_room;
        l->seg_count--;
    }
}

/* How many head segments there are from this one on. */
uint32_t log_segments_since(const struct store *s, uint64_t segment)
{
    uint32_t from = 0, to = s->log.seg_count;
    while (from < to) {
        uint32_t middle = from + (to - from) / 2;
        if (log_segment(s, middle)->segment < segment)
            from = middle + 1;
        else
            to = middle;
    }
    return s->log.seg_count - from;
}

/* The oldest segment with something that is only in the delta, or prepared and undecided, or without a seal; UINT64_MAX: none,
 * replay would begin with what comes next. */
uint64_t log_replay_segment(const struct store *s)
{
    uint64_t oldest = UINT64_MAX;
    if (!list_empty(&s->delta.by_age)) oldest = CONTAINER(s->delta.by_age.next, struct delta_leaf, by_age)->segment;
    if (MUTATED(MUTATE_REPLAY_POINT_LATE)) oldest = UINT64_MAX;
    if (!list_empty(&s->prepared)) {
        const struct store_op *op = CONTAINER(s->prepared.next, struct store_op, prepared);
        oldest = min64(oldest, op->position / s->segment_bytes);
    }
    for (uint32_t i = 0; i < SEALS; i++) /* without its seal a segment can only be read by replay */
        if (s->log.seals[i].used) oldest = min64(oldest, s->log.seals[i].trailer.segment);
    return oldest;
}

void log_unpromise(struct store *s)
{
    struct log *l = &s->log;
    assert(l->promised_count > 0);
    l->promised_count--;
    l->promised_good = min32(l->promised_good, l->promised_count);
    slot_release(s, l->promised[(l->promised_first + l->promised_count) % HEAD_SLOTS_MAX]);
}

/* ---- failing ---- */

void log_fail(struct store *s, enum err err, const char *why)
{
    if (s->failed == OK) {
        s->failed = err;
        size_t n = strlen(why);
        if (n >= sizeof s->why) n = sizeof s->why - 1;
        memcpy(s->why, why, n);
        s->why[n] = 0;
    }
    waiters_wake(s, &s->space_waiters);
    log_kick(s);
    upkeep_kick(s);
}

/* ---- segments and seals ---- */

static struct seal *seal_free(struct log *l)
{
    for (uint32_t i = 0; i < SEALS; i++)
        if (!l->seals[i].used) return &l->seals[i];
    return NULL;
}

static bool segment_open(struct store *s)
{
    struct log *l = &s->log;
    struct seal *seal = seal_free(l);
    l->starving = l->promised_good == 0;
    if (l->starving) upkeep_kick(s);
    if (!seal || l->starving || l->seg_count == l->seg_room) return false;
    uint32_t slot = l->promised[l->promised_first];
    struct summary *sum = summary_open(s, slot);
    if (!sum) return false;
    l->promised_first = (l->promised_first + 1) % HEAD_SLOTS_MAX;
    l->promised_count--;
    l->promised_good--;
    l->slot = slot;
    l->segment = s->next_segment++;
    l->base = l->segment * s->segment_bytes;
    l->used = 0;
    l->seal = seal;
    *seal = (struct seal){.store = s, .buf = seal->buf, .used = true, .summary = sum};
    seal->trailer = (struct trailer){.kind = SLOT_HEAD,
                                     .segment = l->segment,
                                     .slot = slot,
                                     .incarnation = l->incarnation,
                                     .first_number = l->next_number,
                                     .first_previous = l->previous};
    struct run run = {l->base / UNIT, (uint32_t)(s->segment_bytes / UNIT)};
    slot_use(s, slot, SLOT_HEAD, 1, &run);
    slot_at(s, slot)->sealed = false;
    log_segment_push(s, &(struct head_segment){l->segment, l->next_number, l->previous, slot});
    if (l->promised_good < 4) upkeep_kick(s);
    return true;
}

static void seal_done(struct io_op *op)
{
    struct seal *seal = CONTAINER(op, struct seal, op);
    struct store *s = seal->store;
    seal->writing = false;
    if (op->err != OK) {
        log_fail(s, op->err, "writing a summary");
        return;
    }
    struct device *d;
    uint64_t at;
    slot_where(s, seal->trailer.slot, &d, &at);
    d->dirty = true; /* a sync that began before this moment does not cover it */
    slot_at(s, seal->trailer.slot)->sealed = true;
    slot_at(s, seal->trailer.slot)->chunks = seal->trailer.chunks;
    slot_dirty(s, seal->trailer.slot);
    summary_sealed(s, seal->summary);
    seal->used = false;
    log_kick(s);
    upkeep_kick(s);
}

/* Body and trailer, right-aligned to the end of the slot, in the buffer that collected the body. */
static void seal_write(struct store *s, struct seal *seal)
{
    struct trailer *t = &seal->trailer;
    uint32_t tail = seal->body_bytes + (uint32_t)sizeof(struct disk_trailer);
    uint32_t bytes = (uint32_t)round_up64(tail, SECTOR);
    memmove(seal->buf + (bytes - tail), seal->buf, seal->body_bytes);
    memset(seal->buf, 0, bytes - tail);
    t->body_bytes = seal->body_bytes;
    t->body_checksum = body_checksum(seal->buf + (bytes - tail), seal->body_bytes, s->salt);
    trailer_encode(t, s->salt, (struct disk_trailer *)(void *)(seal->buf + bytes - sizeof(struct disk_trailer)));
    struct device *d;
    uint64_t at;
    slot_where(s, t->slot, &d, &at);
    d->dirty = true;
    seal->writing = true;
    seal->op.done = seal_done;
    s->stats.summary_bytes += bytes;
    s->stats.unfilled_bytes += s->segment_bytes - t->data_bytes - bytes;
    io_write(s->io, d->file, at + s->segment_bytes - bytes, seal->buf, bytes, 0, &seal->op);
}

static void seal_pass(struct store *s)
{
    for (uint32_t i = 0; i < SEALS; i++) {
        struct seal *seal = &s->log.seals[i];
        if (!seal->used || !seal->closed || seal->writing) continue;
        if (seal->trailer.last_number <= s->log.durable || MUTATED(MUTATE_SEAL_EARLY)) seal_write(s, seal);
    }
}

static void segment_close(struct store *s)
{
    struct log *l = &s->log;
    l->seal->closed = true;
    l->seal = NULL;
    seal_pass(s);
}

/* Ends the log where it is: seals the open segment, which stays unfilled. True: once more, something is still under way. */
bool log_end(struct store *s)
{
    struct log *l = &s->log;
    if (l->seal && l->in_flight == 0 && l->batch[l->open].records == 0) segment_close(s);
    for (uint32_t i = 0; i < SEALS; i++)
        if (l->seals[i].used) return true;
    return false;
}

/* ---- batches ---- */

static void batch_done(struct io_op *op);

static struct batch_buf *batch_open(struct log *l)
{
    struct batch_buf *b = &l->batch[l->open];
    return b->in_flight ? NULL : b;
}

/* Closes the open batch and writes it. */
void log_submit(struct store *s)
{
    struct log *l = &s->log;
    struct batch_buf *b = batch_open(l);
    if (!b || b->records == 0 || s->failed != OK) return;
    uint32_t length = (uint32_t)round_up64(b->used, SECTOR);
    memset(b->at + b->used, 0, length - b->used);
    struct batch header = {.length = length,
                           .incarnation = l->incarnation,
                           .records = b->records,
                           .used = b->used,
                           .number = b->number,
                           .address = b->address,
                           .previous = l->previous,
                           .durable = l->durable};
    struct disk_batch *disk = (struct disk_batch *)(void *)b->at;
    batch_encode(&header, disk);
    b->checksum = batch_checksum(b->at, b->used, s->salt);
    disk->checksum = put64(b->checksum);
    l->previous = b->checksum;
    l->next_number = b->number + 1;
    l->used += length;
    b->seal->trailer.last_number = b->number;
    b->seal->trailer.last_checksum = b->checksum;
    b->seal->trailer.data_bytes = l->used;
    hold_end(s, b);
    b->submitted_ns = l->in_flight == 0 ? io_now_ns(s->io) : 0;
    b->in_flight = true;
    b->finished = false;
    l->in_flight++;
    l->open = (l->open + 1) % BATCHES;
    s->stats.batches++;
    s->stats.head_bytes += length;
    struct device *d;
    uint64_t at;
    slot_where(s, l->slot, &d, &at);
    b->op.done = batch_done;
    io_write(s->io, d->file, at + (b->address - l->base), b->at, length, IO_WRITE_DURABLE, &b->op);
    if (MUTATED(MUTATE_ACK_BEFORE_DURABLE)) write_batch_done(s, b);
}

/* Batches become durable in order: a batch that finished early waits for those before it. */
static void batch_done(struct io_op *op)
{
    struct batch_buf *done = CONTAINER(op, struct batch_buf, op);
    struct store *s = done->store;
    struct log *l = &s->log;
    uint32_t over = 0;
    done->finished = true;
    if (done->submitted_ns) l->hold.write_ns = (l->hold.write_ns * 7 + io_now_ns(s->io) - done->submitted_ns) / 8;
    if (op->err != OK) log_fail(s, op->err, "writing the log");
    if (MUTATED(MUTATE_ACK_OUT_OF_ORDER)) write_batch_done(s, done);
    for (;;) {
        struct batch_buf *b = NULL;
        for (uint32_t i = 0; i < BATCHES; i++)
            if (l->batch[i].in_flight && l->batch[i].finished && l->batch[i].number == l->completed + 1) b = &l->batch[i];
        if (!b) break;
        l->completed = b->number;
        if (s->failed == OK) {
            l->durable = b->number;
            l->durable_checksum = b->checksum;
        }
        over += b->records;
        b->in_flight = b->finished = false;
        b->used = b->records = 0;
        l->in_flight--;
        write_batch_done(s, b);
    }
    if (over > 0) l->hold.crowd = over + l->batch[l->open].records;
    if (s->failed == OK) seal_pass(s);
    log_pump(s);
}

/* Room in the open segment for a record of `bytes` that takes up to `again` bytes in the summary. */
static bool segment_fits(const struct store *s, const struct batch_buf *b, uint32_t bytes, uint32_t again)
{
    const struct log *l = &s->log;
    uint32_t in_batch = b->records ? b->used : (uint32_t)sizeof(struct disk_batch);
    uint64_t data = l->used + round_up64(in_batch + bytes, SECTOR);
    uint64_t summary = (uint64_t)l->seal->body_bytes + again + sizeof(struct disk_trailer);
    return data + round_up64(summary, SECTOR) <= s->segment_bytes;
}

/* Where the next record of this size goes: closes a full batch and a full segment, opens the next. NULL: wait. */
static struct batch_buf *room_for(struct store *s, uint32_t bytes, uint32_t again)
{
    struct log *l = &s->log;
    struct batch_buf *b = batch_open(l);
    if (!b) return NULL;
    assert(sizeof(struct disk_batch) + bytes <= l->batch_bytes);
    if (b->records && (b->used + bytes > l->batch_bytes || !segment_fits(s, b, bytes, again))) {
        log_submit(s);
        b = batch_open(l);
        if (!b) return NULL;
    }
    if (l->seal && !segment_fits(s, b, bytes, again)) segment_close(s);
    if (!l->seal && !segment_open(s)) return NULL;
    assert(segment_fits(s, b, bytes, again));
    if (b->records == 0) {
        b->number = l->next_number;
        b->address = l->base + l->used;
        b->used = sizeof(struct disk_batch);
        b->seal = l->seal;
    }
    return b;
}

/* ---- appending ---- */

/* What becomes of each block: a chunk of its own, a reference, or nothing to store. */
struct plan {
    uint32_t count, references, payload;
    struct entry entries[RECORD_BLOCKS_MAX];
    uint8_t block[RECORD_BLOCKS_MAX];  /* first of an entry */
    uint8_t repeat[RECORD_BLOCKS_MAX]; /* DUP of a block of the same operation, + 1: its place is known when that one's is */
};

/* An equal block earlier in the operation, + 1; 0: none. Of several the first: that one is NEW. */
static uint8_t block_repeats(const struct store_op *op, uint32_t block)
{
    const struct fingerprint *print = &op->digests[block].print;
    for (uint32_t i = 0; i < block; i++) {
        if (op->tags[i] != op->tags[block] || op->digests[i].size == 0) continue;
        if (fingerprint_equal(&op->digests[i].print, print)) return (uint8_t)(i + 1);
    }
    return 0;
}

static void plan_block(struct store *s, struct store_op *op, struct plan *plan, uint32_t i)
{
    const struct block_digest *d = &op->digests[i];
    struct entry *e = &plan->entries[plan->count];
    struct entry *last = plan->count ? e - 1 : NULL;
    plan->block[plan->count] = (uint8_t)i;
    plan->repeat[plan->count] = 0;
    if (d->size == 0) {
        op->places[i] = PLACE_ZERO;
        op->tags[i] = 0;
        if (last && last->kind == ENTRY_ZERO) {
            last->count++;
            return;
        }
        *e = (struct entry){.kind = ENTRY_ZERO, .count = 1};
        plan->count++;
        return;
    }
    uint32_t tag = fingerprint_tag(&d->print);
    uint64_t place = summary_find(s, &d->print);
    if (place != PLACE_NONE && mark_refuses(s, place)) place = PLACE_NONE;
    op->places[i] = place;
    op->tags[i] = tag;
    if (place == PLACE_NONE) plan->repeat[plan->count] = block_repeats(op, i);
    if (place != PLACE_NONE || plan->repeat[plan->count] > 0) {
        *e = (struct entry){.kind = ENTRY_DUP, .count = 1, .place = place, .tag = tag};
        plan->references++;
    } else {
        *e = (struct entry){.kind = ENTRY_NEW, .count = 1, .units = d->units, .print = d->print, .tag = tag};
        plan->payload += d->units * UNIT;
    }
    plan->count++;
}

static void account(struct store *s, const struct store_op *op, const struct plan *plan)
{
    if (op->kind != RECORD_DATA) return;
    if (op->what == ENTRY_UNMAP) s->stats.unmapped_blocks += op->count;
    if (op->what == ENTRY_ZERO) s->stats.zero_blocks += op->count;
    if (op->what != ENTRY_NEW) return;
    s->stats.user_written += (uint64_t)op->count * BLOCK_SIZE;
    s->stats.stored_bytes += plan->payload;
    for (uint32_t i = 0; i < plan->count; i++) {
        const struct entry *e = &plan->entries[i];
        if (e->kind == ENTRY_NEW) s->stats.new_blocks++;
        if (e->kind == ENTRY_DUP) s->stats.dup_blocks++;
        if (e->kind == ENTRY_ZERO) s->stats.zero_blocks += e->count;
    }
}

/* Lays one new chunk into the segment and tells the tables. */
static void chunk_add(struct store *s, struct seal *seal, const struct entry *e, uint64_t address)
{
    summary_append(s, seal->summary, locator_of(address, e->units), &e->print);
    index_insert(s->index, &e->print, s->log.segment);
    slot_at(s, s->log.slot)->live += e->units;
    s->live_units += e->units;
    seal->trailer.chunks++;
}

/* Writes payload and head into the batch and the head into the summary, and tells the tables. */
static bool record_put(struct store *s, struct store_op *op, struct plan *plan, const struct record *r)
{
    struct log *l = &s->log;
    uint32_t head = record_head_bytes(r);
    struct batch_buf *b = room_for(s, head + r->payload, summary_record_max(r));
    if (!b) return false;
    struct seal *seal = b->seal;
    uint8_t *at = b->at + b->used;
    uint64_t address = b->address + b->used;
    uint8_t *chunk = at + head;
    for (uint32_t i = 0; i < plan->count; i++) {
        struct entry *e = &plan->entries[i];
        uint32_t block = plan->block[i];
        if (e->kind == ENTRY_NEW) {
            uint64_t chunk_address = address + (uint64_t)(chunk - at);
            chunk_put(&op->digests[block], chunk_address, chunk);
            op->places[block] = place_of(chunk_address, e->units);
            chunk_add(s, seal, e, chunk_address);
            chunk += e->units * UNIT;
        } else if (plan->repeat[i] > 0) {
            op->places[block] = e->place = op->places[plan->repeat[i] - 1];
        }
    }
    record_encode(r, plan->entries, address, at);
    seal->body_bytes +=
        summary_add(&seal->before, (uint32_t)(address - l->base), r, plan->entries, seal->buf + seal->body_bytes);
    seal->trailer.records++;
    b->used += head + r->payload;
    b->records++;
    op->batch = b->number;
    op->position = address;
    list_push(&b->ops, &op->link);
    account(s, op, plan);
    s->changed = true;
    return true;
}

/* Appends the operation's record to the open batch. False: it has to wait (slot, buffer). */
bool log_append(struct store *s, struct store_op *op)
{
    struct plan plan; /* large: only what counts is set */
    plan.count = plan.references = plan.payload = 0;
    struct record r = {.kind = (uint8_t)op->kind,
                       .learn = op->learn,
                       .volume = op->volume,
                       .epoch = op->epoch,
                       .previous_epoch = op->previous_epoch,
                       .sequence = op->sequence,
                       .lba = op->lba,
                       .count = op->count,
                       .boot = op->boot,
                       .request = op->request,
                       .node = op->node};
    const struct volume *v = volume_find(s, op->volume);
    if (v && !op->learn) r.commit = v->published;
    if (v && op_is_local(op)) { /* its sequence means nothing: it makes room for the commit point */
        r.sequence = max64(op->sequence, v->published);
        r.commit = v->published;
    }
    if (op->kind == RECORD_DATA && op->what == ENTRY_NEW) {
        for (uint32_t i = 0; i < op->count; i++) plan_block(s, op, &plan, i);
    } else if (op->kind == RECORD_DATA && op->count > 0) {
        plan.repeat[0] = plan.block[0] = 0;
        plan.entries[plan.count++] = (struct entry){.kind = (uint8_t)op->what, .count = op->count};
    } else {
        r.count = 0;
    }
    if (op->kind == RECORD_STATE || op->kind == RECORD_MOVE) {
        r.state = op->state_copy;
        r.key_bytes = op->key_bytes;
        r.value_bytes = op->value_bytes;
    }
    if (op->kind == RECORD_DATA && plan.count == 0) r.kind = RECORD_NOOP;
    r.entries = plan.count;
    r.references = plan.references;
    r.payload = plan.payload;
    if (!record_put(s, op, &plan, &r)) return false;
    for (uint32_t i = 0; op->kind == RECORD_DATA && op->what == ENTRY_NEW && i < op->count; i++) {
        if (place_is_chunk(op->places[i])) mark_reference(s, op->places[i]);
    }
    return true;
}

/* ---- the pump ---- */

static void run_kick(struct io_msg *msg)
{
    struct store *s = CONTAINER(msg, struct store, log.kick);
    s->log.kicked = false;
    log_pump(s);
}

void log_kick(struct store *s)
{
    if (s->log.kicked || !s->upkeep_started) return; /* nothing waits before the pool is open */
    s->log.kicked = true;
    s->log.kick.handle = run_kick;
    io_send(s->io, &s->log.kick);
}

/* After a failure nothing is written any more: what waits in the open batch has failed. */
static void fail_open(struct store *s)
{
    struct batch_buf *b = batch_open(&s->log);
    if (!b || b->records == 0) return;
    b->used = b->records = 0;
    write_batch_done(s, b);
}

/* Moves what waits into the log, and writes a batch when none is under way, or when one is full enough to go alongside. */
void log_pump(struct store *s)
{
    struct log *l = &s->log;
    if (l->pumping) return;
    l->pumping = true;
    write_pump(s);
    if (s->failed != OK) fail_open(s);
    struct batch_buf *b = batch_open(l);
    if (b && b->records && batch_is_due(s, b)) log_submit(s);
    l->pumping = false;
}
