/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host: events go in, effects come out, clients are told from the loop.
 *
 * The core is stepped in one place only (host_step), never from within itself: what an effect brings about at once is kept and
 * told with the next event.
 */
#include "volume/replica/host_internal.h"

/* ---- content by name ---- */

struct replica_content *host_content(struct replica_host *h, uint64_t name)
{
    if (h->arriving != NULL && h->arriving->name == name) return h->arriving;
    for (uint32_t i = 0; i < HOST_CHANGES; i++)
        if (h->changes[i] != NULL && h->changes[i]->content->name == name) return h->changes[i]->content;
    for (struct list *l = h->forwards.next; l != &h->forwards; l = l->next)
        if (CONTAINER(l, struct replica_content, link)->name == name) return CONTAINER(l, struct replica_content, link);
    return NULL;
}

/* What other nodes forwarded is kept until it was ordered or refused. */
static void forwards_sweep(struct replica_host *h)
{
    for (struct list *l = h->forwards.next, *next; l != &h->forwards; l = next) {
        struct replica_content *content = CONTAINER(l, struct replica_content, link);
        next = l->next;
        if (replica_has_ticket(h->core, content->name) && !MUTATED(MUTATE_FORWARD_DROPPED)) continue;
        list_remove(l);
        content_drop(h->config.contents, content);
    }
}

/* ---- clients ---- */

static void change_told(struct io_msg *msg)
{
    struct host_change *c = CONTAINER(msg, struct host_change, msg);
    c->done(c);
}

static void change_end(struct replica_host *h, struct host_change *c, enum err err)
{
    content_drop(h->config.contents, c->content);
    c->content = NULL;
    c->err = err;
    c->msg.handle = change_told;
    io_send(h->config.io, &c->msg);
}

static void read_told(struct io_msg *msg)
{
    struct host_read *r = CONTAINER(msg, struct host_read, msg);
    r->done(r);
}

static void read_end(struct replica_host *h, struct host_read *r, enum err err)
{
    r->err = err;
    r->since = MUTATED(MUTATE_SINCE_AHEAD) ? h->end : h->published;
    r->msg.handle = read_told;
    io_send(h->config.io, &r->msg);
}

void host_reads_go(struct replica_host *h)
{
    for (struct list *l; (l = list_pop(&h->reads_parked)) != NULL;) read_end(h, CONTAINER(l, struct host_read, link), OK);
}

static void answer(struct replica_host *h, uint64_t id, enum replica_outcome outcome)
{
    static const enum err errs[] = {
        [REPLICA_GOOD] = OK, [REPLICA_BUSY] = ERR_AGAIN, [REPLICA_FULL] = ERR_NO_SPACE, [REPLICA_OVERTAKEN] = ERR_CONFLICT};
    for (uint32_t i = 0; i < HOST_CHANGES; i++) {
        if (h->changes[i] == NULL || h->change_ids[i] != id) continue;
        struct host_change *c = h->changes[i];
        h->changes[i] = NULL;
        change_end(h, c, errs[outcome]);
        return;
    }
}

static void read_answer(struct replica_host *h, uint64_t id, bool allowed)
{
    for (uint32_t i = 0; i < HOST_READS; i++) {
        if (h->reads[i] == NULL || h->read_ids[i] != id) continue;
        struct host_read *r = h->reads[i];
        h->reads[i] = NULL;
        if (!allowed)
            read_end(h, r, ERR_AGAIN);
        else if (h->published == h->publish_to || MUTATED(MUTATE_READS_UNPARKED))
            read_end(h, r, OK);
        else
            list_push(&h->reads_parked, &r->link);
        return;
    }
}

static void core_step(struct replica_host *h, struct replica_event *event)
{
    assert(!h->stepping);
    h->stepping = true;
    event->now = h->stepped_us;
    replica_step(h->core, event);
    h->stepping = false;
}

/* All sessions have ended: what came over them must not happen any more, whenever each of them is told (rule 12). */
static void sessions_end(struct replica_host *h)
{
    for (struct list *l; (l = list_pop(&h->changes_waiting)) != NULL;)
        change_end(h, CONTAINER(l, struct host_change, link), ERR_AGAIN);
    for (uint32_t i = 0; i < HOST_CHANGES; i++) {
        struct host_change *c = h->changes[i];
        if (c == NULL) continue;
        core_step(h, &(struct replica_event){.kind = REPLICA_ON_LOST, .session = c->session});
        if (h->changes[i] == NULL) continue;
        h->changes[i] = NULL;
        change_end(h, c, ERR_AGAIN);
    }
}

static bool change_begin(struct replica_host *h, uint32_t place, struct host_change *c)
{
    c->content = content_take(h->config.contents, CONTENT_LOCAL, h->config.volume, c->what, c->count);
    if (c->content == NULL) return false;
    for (uint32_t i = 0; c->what == ENTRY_NEW && i < c->count; i++) content_add(c->content, i, &c->digests[i]);
    struct replica_change change = {.kind = c->what == ENTRY_NEW ? REPLICA_WRITE : REPLICA_FREE,
                                    .count = c->count,
                                    .lba = c->lba,
                                    .since = MUTATED(MUTATE_SINCE_DROPPED) ? 0 : c->since,
                                    .body = c->content->name};
    h->changes[place] = c;
    h->change_ids[place] = ++h->ids;
    uint64_t arrived = MUTATED(MUTATE_WAIT_AGELESS) ? 0 : c->arrived_us;
    host_step(h, &(struct replica_event){
                     .kind = REPLICA_ON_CHANGE, .id = h->ids, .session = c->session, .arrived = arrived, .change = &change});
    return true;
}

static void read_begin(struct replica_host *h, uint32_t place, struct host_read *r)
{
    h->reads[place] = r;
    h->read_ids[place] = ++h->ids;
    host_step(h, &(struct replica_event){.kind = REPLICA_ON_READ, .id = h->ids, .lba = r->lba, .count = r->count});
}

/* Publishing waits for something, and records pile up. */
static bool is_behind(const struct replica_host *h)
{
    return h->end - h->published >= HOST_BACKLOG;
}

/* Those that wait, as long as there is room. */
static void clients_go(struct io_msg *msg)
{
    struct replica_host *h = CONTAINER(msg, struct replica_host, clients);
    h->clients_sent = false;
    for (uint32_t i = 0; i < HOST_CHANGES && !list_empty(&h->changes_waiting) && !is_behind(h); i++) {
        if (h->changes[i] != NULL) continue;
        struct host_change *c = CONTAINER(list_pop(&h->changes_waiting), struct host_change, link);
        if (change_begin(h, i, c)) continue;
        list_push_front(&h->changes_waiting, &c->link);
        break;
    }
    for (uint32_t i = 0; i < HOST_READS && !list_empty(&h->reads_waiting); i++) {
        if (h->reads[i] != NULL) continue;
        read_begin(h, i, CONTAINER(list_pop(&h->reads_waiting), struct host_read, link));
    }
}

static void clients_wake(struct replica_host *h)
{
    if (h->clients_sent || (list_empty(&h->changes_waiting) && list_empty(&h->reads_waiting))) return;
    h->clients_sent = true;
    h->clients.handle = clients_go;
    io_send(h->config.io, &h->clients);
}

void host_change(struct replica_host *h, struct host_change *c)
{
    assert(c->count > 0 && (c->what != ENTRY_NEW || c->count <= RECORD_BLOCKS_MAX));
    c->content = NULL;
    if (c->arrived_us == 0) c->arrived_us = host_now_us(h);
    list_push(&h->changes_waiting, &c->link);
    clients_wake(h);
}

void host_read(struct replica_host *h, struct host_read *r)
{
    list_push(&h->reads_waiting, &r->link);
    clients_wake(h);
}

void host_lost(struct replica_host *h, uint64_t session)
{
    for (struct list *l = h->changes_waiting.next, *next; l != &h->changes_waiting; l = next) {
        struct host_change *c = CONTAINER(l, struct host_change, link);
        next = l->next;
        if (c->session != session) continue;
        list_remove(l);
        change_end(h, c, ERR_AGAIN);
    }
    if (!MUTATED(MUTATE_SESSION_UNTOLD)) host_step(h, &(struct replica_event){.kind = REPLICA_ON_LOST, .session = session});
    for (uint32_t i = 0; i < HOST_CHANGES; i++) {
        struct host_change *c = h->changes[i];
        if (c == NULL || c->session != session) continue;
        h->changes[i] = NULL;
        change_end(h, c, ERR_AGAIN);
    }
}

/* ---- effects ---- */

static void effect(void *arg, const struct replica_effect *e)
{
    struct replica_host *h = arg;
    const struct replica_wires *w = &h->config.wires;
    switch (e->kind) {
    case REPLICA_DO_FETCH: w->fetch(w->arg); break;
    case REPLICA_DO_PROPOSE: w->propose(w->arg, e->config); break;
    case REPLICA_DO_SEND: host_send(h, e->node, e->message); break;
    case REPLICA_DO_PREPARE: host_prepare(h, e->record); break;
    case REPLICA_DO_PUBLISH: host_publish(h, e->sequence); break;
    case REPLICA_DO_DISCARD: host_discard(h, e->sequence, e->id); break;
    case REPLICA_DO_ANSWER: answer(h, e->id, e->outcome); break;
    case REPLICA_DO_READ: read_answer(h, e->id, true); break;
    case REPLICA_DO_REFUSE: read_answer(h, e->id, false); break;
    case REPLICA_DO_RESET: h->reset_due = true; break;
    case REPLICA_DO_FENCE: w->fence(w->arg, e->node); break;
    case REPLICA_DO_WALK: host_walk(h, e); break;
    case REPLICA_DO_APPLY: host_apply(h, e->step); break;
    case REPLICA_DO_DIGEST: host_check(h, e); break;
    case REPLICA_DO_LEARNED: host_learned(h, e); break;
    }
}

/* Maybe from within an effect: the core hears of it with its next event. */
void host_fail(struct replica_host *h, enum err err)
{
    assert(err != OK);
    if (h->failed != OK) return;
    h->failed = err;
    h->fail_due = true;
}

static void timer_fires(struct io_timer *timer)
{
    host_step(CONTAINER(timer, struct replica_host, timer), &(struct replica_event){.kind = REPLICA_ON_TICK});
}

static void timer_set(struct replica_host *h)
{
    uint64_t due = min64(replica_deadline(h->core), host_credit_due(h)) * IO_US_NS, now = io_now_ns(h->config.io);
    io_cancel(h->config.io, &h->timer);
    io_after(h->config.io, due > now ? due - now : 0, &h->timer);
}

/* What came of events and of time, for the core. */
static bool more(struct replica_host *h, uint64_t now, struct replica_event *ret_event)
{
    *ret_event = (struct replica_event){.kind = REPLICA_ON_FAILED, .now = now};
    if (h->fail_due) {
        h->fail_due = false;
        return true;
    }
    return host_check_event(h, ret_event) || host_credit_event(h, ret_event);
}

static void reset(struct replica_host *h)
{
    h->reset_due = false;
    if (!MUTATED(MUTATE_PAUSE_UNNOTICED)) sessions_end(h);
    h->config.wires.reset(h->config.wires.arg);
}

/* After a pause the clock comes first. True: it stood still for so long that all sessions have ended, and with them whatever
 * change is at hand. */
static bool stood_still(struct replica_host *h)
{
    uint64_t before = h->stepped_us;
    h->stepped_us = host_now_us(h);
    if (h->stepped_us - before <= h->config.setup.timing.heartbeat_us || MUTATED(MUTATE_PAUSE_UNNOTICED)) return false;
    core_step(h, &(struct replica_event){.kind = REPLICA_ON_TICK});
    if (!h->reset_due) return false;
    reset(h);
    return true;
}

void host_step(struct replica_host *h, struct replica_event *event)
{
    struct replica_event next;
    if (h->closing) return;
    if (!stood_still(h) || event->kind != REPLICA_ON_CHANGE) core_step(h, event);
    while (more(h, h->stepped_us, &next)) core_step(h, &next);
    if (h->reset_due) reset(h);
    forwards_sweep(h);
    clients_wake(h);
    host_send_tick(h);
    host_teach_tick(h);
    host_mend_tick(h);
    timer_set(h);
}

/* ---- what others say ---- */

static bool is_within(struct replica_host *h, uint64_t lba, uint32_t count)
{
    struct store_volume_info info;
    if (count > 0 && lba < h->blocks && count <= h->blocks - lba) return true;
    if (store_volume_next(h->config.store, h->config.volume, &info) != OK || info.id != h->config.volume) return false;
    h->blocks = info.blocks;
    return count > 0 && lba < h->blocks && count <= h->blocks - lba;
}

/* A change comes with its content, as the store takes it. */
static bool is_whole(struct replica_host *h, const struct replica_change *change, const struct replica_content *content)
{
    if (change->kind == REPLICA_NOOP) return content == NULL;
    if (content == NULL || content_is_stretch(content) || content->count != change->count) return false;
    bool known = content->what == ENTRY_NEW || content->what == ENTRY_ZERO || content->what == ENTRY_UNMAP;
    bool writes = content->what == ENTRY_NEW;
    uint32_t most = writes ? store_write_max(h->config.store) : RECORD_UNMAP_MAX;
    return known && writes == (change->kind == REPLICA_WRITE) && change->count <= most &&
           is_within(h, change->lba, change->count);
}

/* Where a step leads, when it says where contents are compared, the volume can go. */
static bool may_stand(const struct replica_host *h, const struct replica_mark *mark)
{
    struct store_volume_info info;
    if (store_volume_next(h->config.store, h->config.volume, &info) != OK) return false;
    return mark->epoch > info.epoch || (mark->epoch == info.epoch && mark->sequence >= info.published);
}

static bool is_whole_step(const struct replica_host *h, const struct replica_step *s, const struct replica_content *content)
{
    if (s->check && !may_stand(h, &s->mark)) return false;
    if (s->count > REPLICA_STEP_RECORDS || s->learn.applied >= POINTER_GRAFT) return false;
    if (!stretch_is_needed(s)) return content == NULL;
    if (content == NULL || !content_is_stretch(content)) return false;
    return stretch_check(content->bytes, content->used, s, h->blocks) == OK;
}

/* Is it something that can be, and is there room for what comes of it? */
static bool is_taken(struct replica_host *h, const struct replica_message *m, const struct replica_content *content)
{
    if (m->from >= REPLICA_NODES_MAX) return false;
    switch (m->kind) {
    case REPLICA_RECORD: return h->end - h->published < HOST_BACKLOG_RECORDS && is_whole(h, &m->u.record.change, content);
    case REPLICA_FORWARD: return !is_behind(h) && is_whole(h, &m->u.forward.change, content);
    case REPLICA_STEP: return is_whole_step(h, &m->u.step, content);
    case REPLICA_HEARTBEAT:
    case REPLICA_HEARTBEAT_ACK:
    case REPLICA_PREPARED:
    case REPLICA_COMMIT:
    case REPLICA_CONFIRM:
    case REPLICA_CONFIRMED:
    case REPLICA_DONE: return content == NULL;
    case REPLICA_WANT: return content == NULL && !host_step_is_near(h, m);
    case REPLICA_FOLLOW:
    case REPLICA_AGAIN:
    case REPLICA_ASK:
    case REPLICA_AGREED: return content == NULL;
    case REPLICA_BORROW: return content == NULL && is_within(h, m->u.borrow.lba, 1);
    case REPLICA_LENT:
        if (!m->u.borrow.has) return content == NULL;
        return content != NULL && content->use == CONTENT_LENT && content->what == ENTRY_NEW && content->count == 1;
    }
    return false;
}

void host_message(struct replica_host *h, const struct replica_message *message, struct replica_content *content)
{
    struct replica_message m = *message;
    bool keep = m.kind == REPLICA_FORWARD && content != NULL;
    uint64_t body = content != NULL ? content->name : 0;
    if (!is_taken(h, &m, content)) {
        h->counts.dropped++;
        content_drop(h->config.contents, content);
        return;
    }
    if (m.kind == REPLICA_BORROW || m.kind == REPLICA_LENT) {
        host_mend_message(h, &m, content);
        content_drop(h->config.contents, content);
        return;
    }
    if (m.kind == REPLICA_RECORD) m.u.record.change.body = body;
    if (m.kind == REPLICA_FORWARD) m.u.forward.change.body = body;
    if (m.kind == REPLICA_STEP) m.u.step.body = body;
    if (keep)
        list_push(&h->forwards, &content->link);
    else
        h->arriving = content;
    host_check_heard(h, &m);
    host_step(h, &(struct replica_event){.kind = REPLICA_ON_MESSAGE, .message = &m});
    h->arriving = NULL;
    if (!keep) content_drop(h->config.contents, content);
}

void host_config(struct replica_host *h, const struct replica_config *config)
{
    host_step(h, &(struct replica_event){.kind = REPLICA_ON_CONFIG, .config = config});
}

void host_link(struct replica_host *h, uint8_t node, uint64_t session)
{
    host_step(h, &(struct replica_event){.kind = REPLICA_ON_LINK, .node = node, .session = session});
    host_mend_link(h, node, session);
}

void host_fenced(struct replica_host *h, uint8_t node)
{
    host_step(h, &(struct replica_event){.kind = REPLICA_ON_FENCED, .node = node});
}

void host_force(struct replica_host *h)
{
    host_step(h, &(struct replica_event){.kind = REPLICA_ON_FORCE});
}

void host_status(const struct replica_host *h, struct replica_status *ret_status)
{
    replica_status(h->core, ret_status);
}

bool host_is_published(const struct replica_host *h)
{
    return h->published == h->publish_to;
}

enum err host_failed(const struct replica_host *h)
{
    return h->failed;
}

const struct host_counts *host_counts(const struct replica_host *h)
{
    return &h->counts;
}

const struct replica_counts *host_core_counts(const struct replica_host *h)
{
    return replica_counts(h->core);
}

/* ---- life ---- */

/* NULL when there is none left; *ret_err says so. */
static void *memory(struct replica_host *h, size_t size, enum err *ret_err)
{
    void *at = mem_alloc(h->config.mem, size);
    if (at == NULL) *ret_err = ERR_NO_MEMORY;
    return at;
}

static enum err memory_of(struct replica_host *h)
{
    enum err err = OK;
    h->core = memory(h, replica_size(), &err);
    h->ops = memory(h, HOST_OPS * sizeof *h->ops, &err);
    h->resends = memory(h, HOST_RESENDS * sizeof *h->resends, &err);
    h->learner.ops = memory(h, HOST_LEARN_OPS * sizeof *h->learner.ops, &err);
    if (err != OK) return err;
    for (uint32_t i = 0; i < HOST_OPS; i++) list_push(&h->ops_free, &h->ops[i].link);
    for (uint32_t i = 0; i < HOST_RESENDS; i++) list_push(&h->resends_free, &h->resends[i].link);
    for (uint32_t i = 0; i < HOST_READERS; i++) list_push(&h->teacher.readers_free, &h->teacher.readers[i].link);
    for (uint32_t i = 0; i < HOST_LEARN_OPS; i++) list_push(&h->learner.free, &h->learner.ops[i].link);
    return host_mend_init(h);
}

static void lists_of(struct replica_host *h)
{
    struct list *all[] = {&h->changes_waiting, &h->reads_waiting, &h->reads_parked,
                          &h->forwards,        &h->ops_free,      &h->resends_free,
                          &h->resends_waiting, &h->learner.free,  &h->teacher.readers_free};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) list_init(all[i]);
}

enum err host_open(const struct replica_host_config *config, struct replica_host **ret_host)
{
    struct replica_facts facts;
    struct replica_host *h = mem_alloc(config->mem, sizeof *h);
    struct replica_record *room = mem_alloc(config->mem, REPLICA_KEPT * sizeof *room);
    if (h == NULL || room == NULL) return ERR_NO_MEMORY;
    h->config = *config;
    h->config.setup.arg = h;
    h->config.setup.effect = effect;
    h->timer.fire = timer_fires;
    lists_of(h);
    TRY(memory_of(h));
    TRY(host_take_up(h, room, &facts));
    TRY(io_task_start(config->io, &h->task, host_run, h));
    TRY(io_task_start(config->io, &h->teacher.task, host_teach_run, h));
    TRY(io_task_start(config->io, &h->digester, host_check_run, h));
    host_credit_begin(h, &facts);
    replica_open(h->core, &h->config.setup, &facts, io_now_ns(config->io) / IO_US_NS);
    mem_free(config->mem, room);
    timer_set(h);
    *ret_host = h;
    return OK;
}

/* Nobody who waits here is answered by anybody else any more. */
static void clients_end(struct replica_host *h)
{
    for (struct list *l; (l = list_pop(&h->changes_waiting)) != NULL;)
        change_end(h, CONTAINER(l, struct host_change, link), ERR_AGAIN);
    for (struct list *l; (l = list_pop(&h->reads_waiting)) != NULL;)
        read_end(h, CONTAINER(l, struct host_read, link), ERR_AGAIN);
    for (struct list *l; (l = list_pop(&h->reads_parked)) != NULL;)
        read_end(h, CONTAINER(l, struct host_read, link), ERR_AGAIN);
    for (uint32_t i = 0; i < HOST_CHANGES; i++) {
        if (h->changes[i] != NULL) change_end(h, h->changes[i], ERR_AGAIN);
        h->changes[i] = NULL;
    }
    for (uint32_t i = 0; i < HOST_READS; i++) {
        if (h->reads[i] != NULL) read_end(h, h->reads[i], ERR_AGAIN);
        h->reads[i] = NULL;
    }
}

void host_close(struct replica_host *h)
{
    struct replica_contents *contents = h->config.contents;
    h->closing = true;
    io_cancel(h->config.io, &h->timer);
    clients_end(h);
    host_teach_forget(h);
    host_check_forget(h);
    while (h->preparing > 0 || h->durable_sent || h->clients_sent || h->working > 0 || !host_send_forget(h) ||
           !host_mend_forget(h))
        io_task_sleep(h->config.io, IO_MS_NS);
    host_teach_forget(h);
    store_pledge_end(&h->pledge);
    content_drop(contents, h->learner.content);
    for (struct list *l; (l = list_pop(&h->forwards)) != NULL;)
        content_drop(contents, CONTAINER(l, struct replica_content, link));
    for (uint64_t s = h->published + 1; s <= h->end; s++) {
        content_drop(contents, host_slot(h, s)->content);
        host_slot(h, s)->content = NULL;
    }
    host_abandon(h);
}

void host_abandon(struct replica_host *host)
{
    if (host == NULL) return;
    io_task_done(&host->task);
    io_task_done(&host->teacher.task);
    io_task_done(&host->digester);
}
