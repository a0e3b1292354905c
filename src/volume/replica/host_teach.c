/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Catching up, at the teacher: what changed is found and read ahead, a stretch for each learner at a time, and goes out with
 * the next step, together with the content of its records.
 *
 *     WALK   from the cursor on, as far as a stretch has room, or a look at the map goes. What was committed when the core
 *            asked is published first: the reading must not miss it. Holes are told as holes: the learner may have something
 *            there
 *     STEP   records of zeros and holes are told as they were; of others the blocks are read as they are now. Those that
 *            are newer than the record are set again by records that come after it; where that would matter, publishing
 *            waits for the learner (host_check.c)
 *
 * All of that is one task, which serves whoever can be served. What was read and is not fetched for some time (its learner is
 * gone) is dropped, so that others find room for theirs; the core begins again when a learner does not hear from it.
 */
#include "volume/replica/host_internal.h"

enum {
    WALK_LOOKS = 128, /* at the map, for one walk: what changed, and of that what is mapped */
    WALK_ROUNDS = 32, /* times that it reads what it found: blocks of zeros take no room */
    WALK_LEAST = 16,  /* blocks that are worth another round */
    IDLE_BEATS = 8,   /* so long what was read is kept */
};

/* ---- a stretch in the making ---- */

/*
 * What is to go into it is listed in parts, then the blocks of these are read, several reads at once, behind the place where
 * the stretch will have grown to, and made into it from there on.
 */
static void parts_begin(struct host_teacher *t, struct stretch_writer *w)
{
    t->writer = w;
    t->part_count = t->blocks = t->made = t->made_blocks = 0;
}

static bool part_add(struct host_teacher *t, const struct host_part *part)
{
    if (t->part_count == sizeof t->parts / sizeof t->parts[0]) return false;
    t->parts[t->part_count++] = *part;
    if (part->kind == ENTRY_NEW) t->blocks += part->count;
    return true;
}

static void read_is_done(struct store_read *read)
{
    struct host_reader *r = CONTAINER(read, struct host_reader, read);
    struct host_teacher *t = &r->host->teacher;
    if (read->err != OK) t->err = read->err;
    if (read->err == ERR_MEDIUM) host_mend(r->host, read->bad); /* it is read again when the step is asked for again */
    list_push(&t->readers_free, &r->link);
    t->readers_busy--;
    io_task_wake(&t->task);
}

/* [task] Begins a read, of blocks or (`data` NULL) of which of them are mapped. */
static void read_begin(struct replica_host *h, uint64_t lba, uint32_t count, uint8_t *data)
{
    struct host_teacher *t = &h->teacher;
    while (list_empty(&t->readers_free)) io_task_park();
    struct host_reader *r = CONTAINER(list_pop(&t->readers_free), struct host_reader, link);
    r->host = h;
    r->read = (struct store_read){.done = read_is_done,
                                  .volume = h->config.volume,
                                  .lba = lba,
                                  .count = count,
                                  .elsewhere = true,
                                  .data = data,
                                  .mapped = data == NULL ? t->mapped : NULL};
    t->readers_busy++;
    store_read(h->config.store, &r->read);
}

/* [task] */
static enum err reads_end(struct host_teacher *t)
{
    while (t->readers_busy > 0) io_task_park();
    return t->err;
}

/* False: the stretch is full. */
static bool part_make(struct host_teacher *t, const struct fingerprinter *key)
{
    const struct host_part *part = &t->parts[t->made];
    struct stretch_writer *w = t->writer;
    uint8_t room[BLOCK_SIZE];
    bool whole = part->kind == ENTRY_NEW && !part->recorded;
    if (!whole && t->made_blocks == 0)
        whole = part->recorded ? stretch_record(w, part->kind, part->lba, part->count)
                               : stretch_walk_range(w, part->kind, part->lba, part->count);
    for (; whole && part->kind == ENTRY_NEW && t->made_blocks < part->count; t->made_blocks += whole) {
        struct block_digest digest;
        digest_block(key, part->raw + (size_t)t->made_blocks * BLOCK_SIZE, room, &digest);
        whole = part->recorded ? stretch_record_block(w, &digest) : stretch_walk_block(w, part->lba + t->made_blocks, &digest);
    }
    return whole;
}

/* Any thread. */
static void make_work(struct io_job *job)
{
    struct replica_host *h = CONTAINER(job, struct replica_host, teacher.job);
    struct host_teacher *t = &h->teacher;
    while (t->made < t->part_count && part_make(t, store_key(h->config.store))) {
        t->made++;
        t->made_blocks = 0;
    }
}

static void make_is_done(struct io_job *job)
{
    struct replica_host *h = CONTAINER(job, struct replica_host, teacher.job);
    h->teacher.over = true;
    io_task_wake(&h->teacher.task);
}

/* [task] As many parts as have room. */
static enum err parts_make(struct replica_host *h)
{
    struct host_teacher *t = &h->teacher;
    uint32_t grows =
        t->part_count * (uint32_t)sizeof(struct wire_stretch_run) + t->blocks * (uint32_t)sizeof(struct wire_stretch_block);
    uint32_t at = STRETCH_ROOM - t->blocks * BLOCK_SIZE;
    assert(t->writer->used + grows <= at);
    t->err = OK;
    for (uint32_t i = 0; i < t->part_count; i++) {
        struct host_part *part = &t->parts[i];
        if (part->kind != ENTRY_NEW) continue;
        part->raw = t->writer->bytes + at;
        at += part->count * BLOCK_SIZE;
        read_begin(h, part->lba, part->count, part->raw);
    }
    TRY(reads_end(t));
    t->over = false;
    t->job = (struct io_job){.work = make_work, .done = make_is_done, .cost_us = t->blocks * DIGEST_US};
    io_submit_job(h->config.io, &t->job);
    while (!t->over) io_task_park();
    return OK;
}

/* ---- walking ---- */

struct walking {
    struct replica_host *h;
    const struct host_walk *of;
    struct store_changes changes; /* of the blocks from `first` to `end` */
    uint64_t first, end;
    uint64_t at; /* all before it is in the stretch or among its parts, or did not change */
    uint32_t looks;
    bool all, full; /* nothing is left; there is no room, or it was enough */
};

static bool has_changed(const struct walking *w, uint64_t lba)
{
    uint64_t i = lba - w->first;
    return (w->changes.map[i / 8] >> i % 8 & 1) != 0;
}

/* [task] What changed from there on. */
static enum err changes_look(struct walking *w, uint64_t from)
{
    const struct replica_host_config *c = &w->h->config;
    w->first = w->at = from;
    TRY(store_changes_in(c->store, c->volume, w->of->since, from, STORE_CHANGES_MAX, &w->changes));
    w->end = max64(from, min64(min64(from + STORE_CHANGES_MAX, w->changes.next), w->h->blocks));
    w->looks++;
    return OK;
}

/* Blocks of one look at the map, from `from` to `end`: `left` of them may be read. False: no more go into this round. */
static bool parts_find(struct walking *w, uint64_t from, uint64_t end, uint32_t *left)
{
    struct host_teacher *t = &w->h->teacher;
    while (w->at < end) {
        uint64_t begin = w->at;
        bool mapped = t->mapped[begin - from] != 0;
        if (!has_changed(w, begin)) {
            w->at++;
            continue;
        }
        while (w->at < end && has_changed(w, w->at) && (t->mapped[w->at - from] != 0) == mapped) w->at++;
        struct host_part part = {.kind = mapped ? ENTRY_NEW : ENTRY_UNMAP, .lba = begin, .count = (uint32_t)(w->at - begin)};
        if (mapped) part.count = min32(part.count, *left);
        if (!mapped && MUTATED(MUTATE_WALK_NO_HOLES)) continue;
        w->at = begin;
        if (part.count == 0 || !part_add(t, &part)) return false;
        w->at += part.count;
        if (mapped) *left -= part.count;
    }
    return true;
}

/* [task] Parts for one round. */
static enum err round_find(struct walking *w)
{
    struct host_teacher *t = &w->h->teacher;
    uint32_t left = w->of->count - t->writer->data;
    while (w->looks < WALK_LOOKS) {
        while (w->at < w->end && !has_changed(w, w->at)) w->at++;
        if (w->at >= w->end) {
            w->all = w->changes.next == UINT64_MAX;
            if (w->all) return OK;
            TRY(changes_look(w, w->changes.next));
            continue;
        }
        uint64_t from = w->at, end = min64(w->end, from + STORE_READ_MAX);
        t->err = OK;
        read_begin(w->h, from, (uint32_t)(end - from), NULL);
        TRY(reads_end(t));
        w->looks++;
        if (!parts_find(w, from, end, &left)) return OK;
    }
    w->full = true;
    return OK;
}

/* [task] `ret_next`: where to go on; UINT64_MAX: that was all. */
static enum err walk(struct walking *w, struct stretch_writer *writer, uint64_t *ret_next)
{
    struct host_teacher *t = &w->h->teacher;
    TRY(changes_look(w, w->of->cursor));
    for (uint32_t i = 0; i < WALK_ROUNDS && !w->all && !w->full; i++) {
        parts_begin(t, writer);
        TRY(round_find(w));
        TRY(parts_make(w->h));
        w->h->counts.walked += t->blocks;
        if (t->made < t->part_count) { /* the rest has no room */
            w->at = t->parts[t->made].lba + t->made_blocks;
            w->all = false;
            w->full = true;
        }
        w->full |= writer->data + WALK_LEAST > w->of->count;
    }
    *ret_next = w->all ? UINT64_MAX : w->at;
    return OK;
}

/* [task] */
static void walk_go(struct replica_host *h, uint32_t node, struct replica_content *content)
{
    struct host_walk *mine = &h->teacher.walks[node];
    struct host_walk of = *mine; /* another one may take its place meanwhile */
    struct walking w = {.h = h, .of = &of};
    uint64_t next = 0;
    mine->due = false;
    stretch_begin(&of.writer, content->bytes);
    enum err err = walk(&w, &of.writer, &next);
    h->counts.walks++;
    if (mine->id != of.id || err != OK) content_drop(h->config.contents, content);
    if (mine->id != of.id) return;
    if (err == OK) {
        mine->content = content;
        mine->writer = of.writer;
        mine->read_us = host_now_us(h);
    }
    uint64_t done = next == UINT64_MAX ? 0 : next - of.cursor;
    host_step(h, &(struct replica_event){.kind = REPLICA_ON_WALKED,
                                         .failed = err != OK,
                                         .node = (uint8_t)node,
                                         .id = of.id,
                                         .body = err == OK ? content->name : 0,
                                         .sequence = done});
}

static void walk_drop(struct replica_host *h, struct host_walk *w)
{
    content_drop(h->config.contents, w->content);
    w->content = NULL;
}

void host_walk(struct replica_host *h, const struct replica_effect *e)
{
    struct host_walk *w = &h->teacher.walks[e->node];
    walk_drop(h, w);
    *w = (struct host_walk){.due = true,
                            .id = e->id,
                            .cursor = e->sequence,
                            .since = e->since,
                            .after = h->publish_to,
                            .count = min32(e->count, STRETCH_DATA)};
    host_teach_wake(h);
}

void host_teach_tick(struct replica_host *h)
{
    uint64_t now = host_now_us(h);
    for (uint32_t node = 0; node < REPLICA_NODES_MAX; node++) {
        struct host_walk *w = &h->teacher.walks[node];
        if (w->content != NULL && now - w->read_us > IDLE_BEATS * h->config.setup.timing.heartbeat_us) walk_drop(h, w);
    }
    host_teach_wake(h); /* for those who wait for a content */
}

/* ---- steps ---- */

/* False: it is not known any more. */
static bool record_add(struct replica_host *h, const struct replica_record *record)
{
    const struct replica_change *c = &record->change;
    const struct host_slot *slot = host_slot_kept(h, record->mark.sequence);
    if (c->kind == REPLICA_NOOP) return true;
    if (slot == NULL) return false;
    h->counts.recorded += c->kind == REPLICA_WRITE ? c->count : 0;
    return part_add(&h->teacher, &(struct host_part){.kind = slot->what, .recorded = true, .lba = c->lba, .count = c->count});
}

/* [task] False: not all of it can be had. */
static bool records_put(struct replica_host *h, const struct replica_step *s, struct stretch_writer *writer)
{
    struct host_teacher *t = &h->teacher;
    parts_begin(t, writer);
    for (uint32_t i = 0; i < s->count; i++)
        if (!record_add(h, &s->records[i])) return false;
    return parts_make(h) == OK && t->made == t->part_count;
}

/* [task] */
static void step_go(struct replica_host *h, uint32_t node)
{
    struct host_out *out = &h->teacher.outs[node];
    struct host_out mine = *out; /* another one may take its place meanwhile */
    const struct replica_step *s = &mine.message.u.step;
    *out = (struct host_out){.busy = true, .join = mine.message.join, .cursor = s->cursor, .applied = s->applied};
    if (mine.content == NULL) {
        mine.content = content_take(h->config.contents, CONTENT_WALK, h->config.volume, ENTRY_NEW, 0);
        stretch_begin(&mine.writer, mine.content->bytes);
    }
    if (records_put(h, s, &mine.writer)) {
        mine.content->used = mine.writer.used;
        h->counts.steps++;
        h->counts.stretches += s->stretch != 0;
        h->counts.step_bytes += mine.writer.used;
        host_put(h, (uint8_t)node, &mine.message, mine.content);
    }
    content_drop(h->config.contents, mine.content);
    out->busy = false;
}

bool host_step_is_near(const struct replica_host *h, const struct replica_message *want)
{
    const struct host_out *out = &h->teacher.outs[want->from];
    const struct replica_learn *l = &want->u.step.learn;
    return out->busy && out->join == want->join && out->cursor == l->cursor && out->applied == l->applied;
}

/* Its stretch was read; the core asks for the next one at once. */
void host_step_send(struct replica_host *h, uint8_t node, const struct replica_message *m)
{
    struct host_out *out = &h->teacher.outs[node];
    struct host_walk *w = &h->teacher.walks[node];
    content_drop(h->config.contents, out->content);
    out->message = *m;
    out->content = NULL;
    out->due = false;
    if (!stretch_is_needed(&m->u.step)) {
        host_put(h, node, m, NULL);
        return;
    }
    if (m->u.step.stretch != 0) {
        if (w->content == NULL || w->content->name != m->u.step.body) return; /* nobody came for it in time */
        out->content = w->content;
        out->writer = w->writer;
        w->content = NULL;
    }
    out->due = true;
    host_teach_wake(h);
}

void host_teach_forget(struct replica_host *h)
{
    for (uint32_t node = 0; node < REPLICA_NODES_MAX; node++) {
        struct host_out *out = &h->teacher.outs[node];
        walk_drop(h, &h->teacher.walks[node]);
        h->teacher.walks[node].due = false;
        content_drop(h->config.contents, out->content);
        *out = (struct host_out){.due = false};
    }
}

/* ---- the task ---- */

static bool step_is_ready(const struct replica_host *h, const struct host_out *out)
{
    const struct replica_step *s = &out->message.u.step;
    bool has_room = out->content != NULL || content_is_there(h->config.contents, CONTENT_WALK);
    return out->due && has_room && (s->learn.applied <= h->published || MUTATED(MUTATE_STEP_UNPUBLISHED));
}

static bool walk_is_ready(const struct replica_host *h, const struct host_walk *w)
{
    bool published = w->after <= h->published || MUTATED(MUTATE_WALK_UNPUBLISHED);
    return w->due && published && content_is_there(h->config.contents, CONTENT_WALK);
}

void host_teach_wake(struct replica_host *h)
{
    for (uint32_t node = 0; node < REPLICA_NODES_MAX; node++) {
        if (!step_is_ready(h, &h->teacher.outs[node]) && !walk_is_ready(h, &h->teacher.walks[node])) continue;
        io_task_wake(&h->teacher.task);
        return;
    }
}

/* [task] False: there was nothing to do. */
static bool teach_one(struct replica_host *h, uint32_t node)
{
    if (step_is_ready(h, &h->teacher.outs[node])) {
        step_go(h, node);
        return true;
    }
    if (!walk_is_ready(h, &h->teacher.walks[node])) return false;
    walk_go(h, node, content_take(h->config.contents, CONTENT_WALK, h->config.volume, ENTRY_NEW, 0));
    return true;
}

void host_teach_run(void *arg)
{
    struct replica_host *h = arg;
    for (;;) {
        bool did = false;
        h->working++;
        for (uint32_t node = 0; node < REPLICA_NODES_MAX && !h->closing; node++) did |= teach_one(h, node);
        h->working--;
        if (!did) io_task_park();
    }
}
