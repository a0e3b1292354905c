/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks that the store cannot read: asked of others, proven, served and mended; and lent to others.
 *
 *     READ    from the store, as far as it goes: up to the first block that is damaged
 *     ASK     one replica after the other, those in sync first: what do you have of it? Each has a while to answer
 *     PROVE   [task] the content is made here once more and shown to the store: is it what the block holds here? Then it is
 *             served, and its chunk mended
 *     READ    what follows
 *
 * When nobody's block is the one, somebody may have been busy, cut off, ahead or behind: then the store is read again a
 * heartbeat later, because the block may have been written since, and all are asked again, a few times.
 *
 * Who is asked reads its own store and nothing else: no lease, no other replica. So questions do not go round in circles.
 */
#include "volume/replica/host_internal.h"

static void load_read(struct host_load *load);
static void mender_go(struct replica_host *h);

enum err host_mend_init(struct replica_host *h)
{
    struct host_mender *m = &h->mender;
    m->lends = mem_alloc(h->config.mem, HOST_LENDS * sizeof *m->lends);
    m->room = mem_alloc(h->config.mem, BLOCK_SIZE);
    m->chunk = mem_alloc(h->config.mem, PLACE_UNITS_RAW * UNIT);
    m->own.data = mem_alloc(h->config.mem, BLOCK_SIZE);
    if (m->lends == NULL || m->room == NULL || m->chunk == NULL || m->own.data == NULL) return ERR_NO_MEMORY;
    list_init(&m->waiting);
    list_init(&m->lends_free);
    for (uint32_t i = 0; i < HOST_LENDS; i++) list_push(&m->lends_free, &m->lends[i].link);
    m->questions = (uint64_t)h->config.boot << 32; /* no answer to another life fits */
    return OK;
}

/* ---- the end of a load ---- */

static void load_told(struct io_msg *msg)
{
    struct host_load *load = CONTAINER(msg, struct host_load, msg);
    load->done(load);
}

/* Maybe from within a call of the host. */
static void load_end(struct host_load *load, enum err err, uint64_t bad)
{
    load->err = err;
    load->bad = bad;
    load->msg.handle = load_told;
    io_send(load->host->config.io, &load->msg);
}

static void place_leave(struct host_load *load)
{
    struct replica_host *h = load->host;
    for (uint32_t i = 0; i < HOST_BORROWS; i++)
        if (h->mender.loads[i] == load) h->mender.loads[i] = NULL;
    content_drop(h->config.contents, load->lent);
    load->lent = NULL;
    load->question = 0;
}

static void tell(struct host_load *load, enum host_damage what)
{
    struct replica_host *h = load->host;
    h->counts.mended += what == DAMAGE_MENDED;
    h->counts.served += what == DAMAGE_SERVED;
    h->counts.lost += what == DAMAGE_LOST;
    h->config.wires.damaged(h->config.wires.arg, load->lba + load->next, what);
}

/* ---- ASK ---- */

static void say(struct replica_host *h, uint8_t node, struct replica_message *m, struct replica_content *content)
{
    struct replica_status status;
    replica_status(h->core, &status);
    m->from = h->config.setup.node;
    m->boot = h->config.boot;
    m->epoch = status.config.epoch;
    if (m->epoch != 0) host_put(h, node, m, content);
}

/* REPLICA_NODES_MAX: nobody is left. */
static uint8_t whom(const struct host_load *load)
{
    const struct replica_host *h = load->host;
    struct replica_status status;
    uint8_t left = (uint8_t)(h->mender.linked & ~load->asked), node = 0;
    replica_status(h->core, &status);
    if ((left & status.config.in_sync) != 0) left = (uint8_t)(left & status.config.in_sync);
    while (node < REPLICA_NODES_MAX && !set_has(left, node)) node++;
    return node;
}

/* Some are not there to be asked now. */
static bool some_are_missing(const struct host_load *load)
{
    const struct replica_host *h = load->host;
    struct replica_status status;
    replica_status(h->core, &status);
    return ((status.config.in_sync | status.config.learners) & ~(load->asked | node_bit(h->config.setup.node))) != 0;
}

/* All were asked. */
static void round_end(struct host_load *load)
{
    struct replica_host *h = load->host;
    load->question = 0;
    load->until_us = host_now_us(h) + h->config.setup.timing.heartbeat_us;
    if ((load->unsure || some_are_missing(load)) && ++load->rounds < HOST_BORROW_ROUNDS) return;
    store_mend_nothing(h->config.store);
    tell(load, DAMAGE_LOST);
    place_leave(load);
    load_end(load, ERR_MEDIUM, load->lba + load->next);
    mender_go(h);
}

static void ask(struct host_load *load)
{
    struct replica_host *h = load->host;
    uint8_t node = whom(load);
    content_drop(h->config.contents, load->lent);
    load->lent = NULL;
    if (node == REPLICA_NODES_MAX) {
        round_end(load);
        return;
    }
    load->node = node;
    load->asked |= node_bit(node);
    load->question = ++h->mender.questions;
    load->until_us = host_now_us(h) + h->config.setup.timing.suspect_us;
    struct replica_message m = {.kind = REPLICA_BORROW, .read = load->question, .u.borrow.lba = load->lba + load->next};
    say(h, node, &m, NULL);
}

/* Those that wait, as long as there are places. */
static void mender_go(struct replica_host *h)
{
    for (uint32_t i = 0; i < HOST_BORROWS && !list_empty(&h->mender.waiting); i++) {
        if (h->mender.loads[i] != NULL) continue;
        struct host_load *load = CONTAINER(list_pop(&h->mender.waiting), struct host_load, link);
        h->mender.loads[i] = load;
        ask(load);
    }
}

/* From the store once more: somebody may have written it. */
static void again(struct host_load *load)
{
    struct replica_host *h = load->host;
    place_leave(load);
    load_read(load);
    mender_go(h);
}

void host_mend_tick(struct replica_host *h)
{
    uint64_t now = host_now_us(h);
    for (uint32_t i = 0; i < HOST_BORROWS; i++) {
        struct host_load *load = h->mender.loads[i];
        if (load == NULL || load->lent != NULL || now < load->until_us) continue;
        if (load->question == 0) {
            again(load);
        } else {
            load->unsure = true;
            ask(load);
        }
    }
}

void host_mend_link(struct replica_host *h, uint8_t node, uint64_t session)
{
    struct host_mender *m = &h->mender;
    bool is_up = session != 0 && node != h->config.setup.node;
    m->linked = (uint8_t)((m->linked & ~node_bit(node)) | (is_up ? node_bit(node) : 0));
    for (uint32_t i = 0; i < HOST_BORROWS; i++) {
        struct host_load *load = m->loads[i];
        if (load == NULL || load->question == 0 || load->lent != NULL || load->node != node) continue;
        load->unsure = true; /* what was asked, or answered, is lost */
        ask(load);
    }
}

/* ---- READ ---- */

static void load_is_read(struct store_read *read)
{
    struct host_load *load = CONTAINER(read, struct host_load, read);
    struct replica_host *h = load->host;
    h->mender.reading--;
    /* Who learns is older here and newer there: nobody was allowed to read that. */
    if (read->err != ERR_MEDIUM || h->closing || h->self.learn.on) {
        load->err = read->err == ERR_MEDIUM ? ERR_AGAIN : read->err;
        load->bad = read->bad;
        load->done(load);
        return;
    }
    uint32_t next = (uint32_t)(read->bad - load->lba);
    if (next != load->next) load->rounds = 0;
    load->next = next;
    load->asked = 0;
    load->unsure = false;
    list_push(&h->mender.waiting, &load->link);
    mender_go(h);
}

static void load_read(struct host_load *load)
{
    struct replica_host *h = load->host;
    load->read = (struct store_read){.done = load_is_read,
                                     .volume = h->config.volume,
                                     .lba = load->lba + load->next,
                                     .count = load->count - load->next,
                                     .media = load->media,
                                     .elsewhere = true,
                                     .data = load->data + (size_t)load->next * BLOCK_SIZE};
    h->mender.reading++;
    store_read(h->config.store, &load->read);
}

void host_load(struct replica_host *h, struct host_load *load)
{
    load->host = h;
    load->next = load->rounds = 0;
    load->question = 0;
    load->lent = NULL;
    load_read(load);
}

static void own_is_over(struct host_load *load)
{
    load->host->mender.own_busy = false;
}

void host_mend(struct replica_host *h, uint64_t lba)
{
    struct host_mender *m = &h->mender;
    if (m->own_busy || h->closing) return;
    m->own_busy = true;
    m->own.done = own_is_over;
    m->own.lba = lba;
    m->own.count = 1;
    host_load(h, &m->own);
}

/* ---- PROVE ---- */

bool host_mend_is_due(const struct replica_host *h)
{
    for (uint32_t i = 0; i < HOST_BORROWS; i++)
        if (h->mender.loads[i] != NULL && h->mender.loads[i]->lent != NULL) return true;
    return false;
}

/* The block, and what this node makes of it: that a fingerprint is that of the bytes is not believed to anybody. */
static enum err block_take(struct replica_host *h, const struct block_digest *lent, uint8_t *ret_block,
                           struct block_digest *ret_digest)
{
    const struct host_mender *m = &h->mender;
    uint32_t size = BLOCK_SIZE;
    memset(ret_block, 0, BLOCK_SIZE);
    if (lent->size != 0) {
        chunk_put(lent, 0, m->chunk);
        TRY(chunk_unpack(m->chunk, lent->units, 0, NULL, ret_block, BLOCK_SIZE, &size));
    }
    if (size != BLOCK_SIZE) return ERR_DECODE;
    digest_block(store_key(h->config.store), ret_block, m->room, ret_digest);
    return OK;
}

/* [task] */
static void prove(struct host_load *load)
{
    struct replica_host *h = load->host;
    struct block_digest digest;
    bool mended = false;
    enum err err = block_take(h, &load->lent->digests[0], load->data + (size_t)load->next * BLOCK_SIZE, &digest);
    if (err == OK) err = store_mend(h->config.store, h->config.volume, load->lba + load->next, &digest, &mended);
    if (err != OK && err != ERR_MEDIUM) {
        load->unsure = true;
        ask(load);
        return;
    }
    if (mended || err != OK) tell(load, mended ? DAMAGE_MENDED : DAMAGE_SERVED);
    place_leave(load);
    load->rounds = 0;
    if (h->self.learn.on)
        load_end(load, ERR_AGAIN, 0); /* it began to learn meanwhile */
    else if (++load->next < load->count)
        load_read(load);
    else
        load_end(load, OK, 0);
    mender_go(h);
}

void host_mend_go(struct replica_host *h)
{
    for (uint32_t i = 0; i < HOST_BORROWS; i++) {
        struct host_load *load = h->mender.loads[i];
        if (load == NULL || load->lent == NULL) continue;
        prove(load);
        return;
    }
}

/* ---- lending ---- */

static void lend_end(struct host_lend *lend)
{
    struct replica_host *h = lend->host;
    content_drop(h->config.contents, lend->content);
    list_push(&h->mender.lends_free, &lend->link);
    h->mender.lending--;
}

static void answer(struct replica_host *h, uint8_t node, uint64_t question, struct replica_content *content)
{
    struct replica_message m = {.kind = REPLICA_LENT, .read = question, .u.borrow.has = content != NULL};
    h->counts.lent += content != NULL;
    say(h, node, &m, content);
}

static void lend_is_read(struct store_read *read)
{
    struct host_lend *lend = CONTAINER(read, struct host_lend, read);
    struct replica_host *h = lend->host;
    if (read->err == OK) content_digest(lend->content, store_key(h->config.store));
    if (!h->closing) answer(h, lend->node, lend->question, read->err == OK ? lend->content : NULL);
    lend_end(lend);
}

static void lend(struct replica_host *h, const struct replica_message *m)
{
    struct list *free = list_pop(&h->mender.lends_free);
    struct replica_content *content =
        free != NULL ? content_take(h->config.contents, CONTENT_LEND, h->config.volume, ENTRY_NEW, 1) : NULL;
    if (content == NULL) { /* no answer: it is asked again */
        if (free != NULL) list_push(&h->mender.lends_free, free);
        return;
    }
    struct host_lend *l = CONTAINER(free, struct host_lend, link);
    *l = (struct host_lend){.host = h, .node = m->from, .question = m->read, .content = content};
    l->read = (struct store_read){.done = lend_is_read,
                                  .volume = h->config.volume,
                                  .lba = m->u.borrow.lba,
                                  .count = 1,
                                  .elsewhere = true,
                                  .data = content->bytes};
    h->mender.lending++;
    store_read(h->config.store, &l->read);
}

void host_mend_message(struct replica_host *h, const struct replica_message *m, struct replica_content *content)
{
    if (h->closing) return;
    if (m->kind == REPLICA_BORROW) {
        lend(h, m);
        return;
    }
    for (uint32_t i = 0; i < HOST_BORROWS; i++) {
        struct host_load *load = h->mender.loads[i];
        if (load == NULL || load->question != m->read || load->lent != NULL || load->node != m->from) continue;
        if (content != NULL) {
            content_hold(content);
            load->lent = content;
            host_writer_wake(h);
        } else {
            ask(load);
        }
        return;
    }
}

/* ---- life ---- */

bool host_mend_forget(struct replica_host *h)
{
    struct host_mender *m = &h->mender;
    for (struct list *l; (l = list_pop(&m->waiting)) != NULL;) load_end(CONTAINER(l, struct host_load, link), ERR_AGAIN, 0);
    for (uint32_t i = 0; i < HOST_BORROWS; i++) {
        struct host_load *load = m->loads[i];
        if (load == NULL || h->working > 0) continue; /* it may be the one that is proven */
        place_leave(load);
        load_end(load, ERR_AGAIN, 0);
    }
    return m->reading == 0 && m->lending == 0 && !m->own_busy;
}
