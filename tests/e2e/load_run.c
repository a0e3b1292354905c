/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands that the ledger can judge. All sessions use the whole volume: what a sector may hold is known because a sector has
 * one change at a time, not because it belongs to somebody; so neighbours in a block are changed by several at once, and each
 * reads what others write.
 */
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/prng.h"
#include "e2e/load.h"

enum {
    RANGES_MAX = 4,
    MOST_SECTORS = 2048,
    CAW_SECTORS = 64,
    HOT_SECTORS = 2048,
    PIECE_SECTORS = 2048,
    PIECES = 8,
    TRIES = 20
};
enum { LOST_SECONDS = 10, SILENCE_SECONDS = 5, PATIENCE_SECONDS = 60 };
enum { ACCESS_UNAVAILABLE = 0x040c };
#define REST_SECONDS 0.05

enum verb { READ, WRITE, SAME, UNMAP, COMPARE_WRITE, FLUSH };

struct range {
    uint32_t sector, count;
    uint32_t word; /* of the change; each range is one of its own */
};

struct command {
    struct command *next; /* to be sent again */
    struct load_state *load;
    struct session *session;
    enum verb verb;
    struct range ranges[RANGES_MAX];
    uint32_t range_count;
    bool differs; /* a COMPARE AND WRITE that must find so */
    double began;
    uint8_t *data;      /* to write; [COMPARE AND WRITE] compare, write */
    struct entry *then; /* [READ] of its sectors, when it was sent */
    struct unmap_list unmap[RANGES_MAX];
};

struct load_state {
    const struct load *load;
    struct ledger ledger;
    struct session sessions[SESSIONS_MAX];
    struct prng prng;
    uint64_t sent, answered, refused, again, moves, bytes, per_verb[FLUSH + 1];
    struct command *unanswered; /* they go out again */
    double slowest;             /* answer, with what went before over other paths */
    double rest_until;          /* who is busy is not asked at once */
};

/* ---- choosing ---- */

static struct range choose_range(struct load_state *l, uint32_t most)
{
    uint32_t size = prng_chance(&l->prng, 500000) ? 16 : prng_chance(&l->prng, 700000) ? 256 : MOST_SECTORS;
    bool aligned = prng_chance(&l->prng, 500000), hot = prng_chance(&l->prng, 300000);
    struct range r = {.count = 1 + (uint32_t)prng_below(&l->prng, size < most ? size : most)};
    if (aligned) r.count = (r.count + BLOCK_SECTORS - 1) / BLOCK_SECTORS * BLOCK_SECTORS;
    if (r.count > most) r.count = most;
    uint64_t room = hot && r.count <= HOT_SECTORS / 2 ? HOT_SECTORS : l->ledger.sectors;
    r.sector = (uint32_t)prng_below(&l->prng, room - r.count + 1);
    if (aligned) r.sector -= r.sector % BLOCK_SECTORS;
    return r;
}

static bool choose_idle(struct load_state *l, uint32_t most, struct range *ret_range)
{
    for (uint32_t i = 0; i < TRIES; i++) {
        *ret_range = choose_range(l, most);
        if (ledger_idle(&l->ledger, ret_range->sector, ret_range->count)) return true;
    }
    return false;
}

static enum verb choose_verb(struct load_state *l)
{
    static const struct {
        enum verb verb;
        uint32_t percent;
    } mix[] = {{READ, 35}, {WRITE, 43}, {SAME, 5}, {UNMAP, 6}, {COMPARE_WRITE, 9}, {FLUSH, 2}};
    uint64_t roll = prng_below(&l->prng, 100);
    uint32_t i = 0;
    while (roll >= mix[i].percent) roll -= mix[i++].percent;
    return mix[i].verb;
}

static enum kind choose_kind(struct load_state *l)
{
    uint64_t roll = prng_below(&l->prng, 100);
    return roll < 3 ? KIND_ZERO : roll < 15 ? KIND_COMMON : KIND_STAMPED;
}

/* ---- answers ---- */

static void command_free(struct command *c)
{
    free(c->data);
    free(c->then);
    free(c);
}

static void change_over(struct command *c, bool done)
{
    struct ledger *ledger = &c->load->ledger;
    for (uint32_t i = 0; i < c->range_count; i++) {
        struct range r = c->ranges[i];
        if (done)
            ledger_end(ledger, r.sector, r.count, r.word);
        else if (!ledger_refuse(ledger, r.sector, r.count, r.word))
            exit(EXIT_WRONG);
    }
}

static void read_over(struct command *c, const struct scsi_task *task)
{
    struct range r = c->ranges[0];
    if (task->datain.size != (int)(r.count * SECTOR)) load_fail("a read", "other length than asked for");
    if (!ledger_check(&c->load->ledger, r.sector, r.count, c->then, task->datain.data)) exit(EXIT_WRONG);
}

static void refused(const struct command *c, int status)
{
    fprintf(stderr, "izar-load: command %d on %u sectors at %u: status %d: %s\n", (int)c->verb, c->ranges[0].count,
            c->ranges[0].sector, status, iscsi_get_error(c->session->iscsi));
    exit(EXIT_WRONG);
}

/* A host gives up then, and tells its user that the disk is gone. */
static bool waited_too_long(const struct command *c)
{
    return load_now() - c->began > PATIENCE_SECONDS;
}

static void send_later(struct command *c)
{
    c->next = c->load->unanswered;
    c->load->unanswered = c;
}

/* It may have happened, or may happen yet until the target knows that its path is gone. With one path the ledger keeps it as
 * sent, not answered; with two it is sent again, as a host does it. */
static void not_answered(struct command *c)
{
    struct load_state *l = c->load;
    if (l->load->other == NULL || c->differs) {
        if (c->differs) change_over(c, false);
        command_free(c);
        return;
    }
    if (c->verb == COMPARE_WRITE) { /* what it compares with may be there no more */
        size_t bytes = (size_t)c->ranges[0].count * SECTOR;
        memmove(c->data, c->data + bytes, bytes);
        c->verb = WRITE;
    }
    send_later(c);
}

/* The unit says that something about it has changed, and the command is to come again. */
static bool is_attention(const struct scsi_task *task)
{
    return task->status == SCSI_STATUS_CHECK_CONDITION && task->sense.key == SCSI_SENSE_UNIT_ATTENTION;
}

/* What a host does by itself: it hears of something and repeats, waits for who is not ready, or takes the other path. True:
 * that was it. */
static bool repeats(struct command *c, int status, const struct scsi_task *task)
{
    struct load_state *l = c->load;
    bool check = status == SCSI_STATUS_CHECK_CONDITION, several = l->load->other != NULL;
    bool attention = is_attention(task);
    bool unready = check && task->sense.key == SCSI_SENSE_NOT_READY;
    bool busy = status == SCSI_STATUS_BUSY && several;
    if (!attention && !unready && !busy) return false;
    if (waited_too_long(c)) refused(c, status);
    if (!attention) l->rest_until = load_now() + REST_SECONDS;
    if (unready && several && task->sense.ascq == ACCESS_UNAVAILABLE) c->session->lost = true;
    if (busy)
        not_answered(c);
    else
        send_later(c); /* nothing was done */
    return true;
}

static void answered(struct iscsi_context *context, int status, void *data, void *arg)
{
    struct command *c = arg;
    struct load_state *l = c->load;
    struct scsi_task *task = data;
    double now = load_now();
    (void)context;
    c->session->under_way--;
    c->session->heard = now;
    if (session_gone(c->session, status)) {
        not_answered(c);
        return;
    }
    if (repeats(c, status, task)) {
        scsi_free_scsi_task(task);
        return;
    }
    if (now - c->began > l->slowest) l->slowest = now - c->began;
    bool miscompare = status == SCSI_STATUS_CHECK_CONDITION && task->sense.key == SCSI_SENSE_MISCOMPARE;
    bool full = status == SCSI_STATUS_TASK_SET_FULL, busy = status == SCSI_STATUS_BUSY;
    if (!full && !busy && (c->differs ? !miscompare : status != SCSI_STATUS_GOOD)) refused(c, status);
    /* Busy comes at any point: then the ledger keeps the change as one without an answer. */
    if (c->verb == READ && !full && !busy)
        read_over(c, task);
    else if (c->verb != READ && !busy)
        change_over(c, !full && !c->differs);
    l->answered++;
    l->refused += full || busy;
    scsi_free_scsi_task(task);
    command_free(c);
}

/* ---- commands ---- */

static struct scsi_task *send_command(struct load_state *l, struct command *c)
{
    struct iscsi_context *iscsi = c->session->iscsi;
    int lun = c->session->lun, fua = prng_chance(&l->prng, 100000);
    struct range r = c->ranges[0];
    uint32_t bytes = r.count * SECTOR;
    bool ten = prng_chance(&l->prng, 500000);
    switch (c->verb) {
    case READ:
        return ten ? iscsi_read10_task(iscsi, lun, r.sector, bytes, SECTOR, 0, 0, fua, 0, 0, answered, c)
                   : iscsi_read16_task(iscsi, lun, r.sector, bytes, SECTOR, 0, 0, fua, 0, 0, answered, c);
    case WRITE:
        return ten ? iscsi_write10_task(iscsi, lun, r.sector, c->data, bytes, SECTOR, 0, 0, fua, 0, 0, answered, c)
                   : iscsi_write16_task(iscsi, lun, r.sector, c->data, bytes, SECTOR, 0, 0, fua, 0, 0, answered, c);
    case SAME: return iscsi_writesame16_task(iscsi, lun, r.sector, c->data, SECTOR, r.count, 0, ten, 0, 0, answered, c);
    case UNMAP: return iscsi_unmap_task(iscsi, lun, 0, 0, c->unmap, (int)c->range_count, answered, c);
    case COMPARE_WRITE:
        return iscsi_compareandwrite_task(iscsi, lun, r.sector, c->data, 2 * bytes, SECTOR, 0, 0, fua, 0, 0, answered, c);
    case FLUSH: return iscsi_synchronizecache16_task(iscsi, lun, 0, 0, 0, 0, answered, c);
    }
    return NULL;
}

/* What the sectors hold now: all of them are idle. */
static void known_content(struct load_state *l, const struct range *r, uint8_t *ret_data)
{
    for (uint32_t i = 0; i < r->count; i++) {
        ledger_content(&l->ledger, r->sector + i, 1, l->ledger.entries[r->sector + i].floor, ret_data + (size_t)i * SECTOR);
    }
}

static void change_begin(struct load_state *l, struct range *r, enum kind kind)
{
    r->word = ledger_word(&l->ledger, kind);
    ledger_begin(&l->ledger, r->sector, r->count, r->word);
    l->bytes += (uint64_t)r->count * SECTOR;
}

static void prepare_read(struct load_state *l, struct command *c)
{
    struct range r = choose_range(l, MOST_SECTORS);
    c->ranges[0] = r;
    c->then = load_alloc(r.count * sizeof *c->then);
    memcpy(c->then, l->ledger.entries + r.sector, r.count * sizeof *c->then);
    l->bytes += (uint64_t)r.count * SECTOR;
}

static void prepare_write(struct load_state *l, struct command *c)
{
    struct range *r = &c->ranges[0];
    change_begin(l, r, choose_kind(l));
    c->data = load_alloc((size_t)r->count * SECTOR);
    ledger_content(&l->ledger, r->sector, r->count, r->word, c->data);
}

static void prepare_compare_write(struct load_state *l, struct command *c)
{
    struct range *r = &c->ranges[0];
    size_t bytes = (size_t)r->count * SECTOR;
    c->data = load_alloc(2 * bytes);
    known_content(l, r, c->data);
    c->differs = prng_chance(&l->prng, 250000);
    if (c->differs) c->data[prng_below(&l->prng, bytes)] ^= 1;
    change_begin(l, r, choose_kind(l));
    ledger_content(&l->ledger, r->sector, r->count, r->word, c->data + bytes);
}

static void prepare_unmap(struct load_state *l, struct command *c)
{
    uint32_t ranges = 1 + (uint32_t)prng_below(&l->prng, RANGES_MAX);
    change_begin(l, &c->ranges[0], KIND_ZERO);
    while (c->range_count < ranges && choose_idle(l, MOST_SECTORS, &c->ranges[c->range_count])) {
        change_begin(l, &c->ranges[c->range_count++], KIND_ZERO);
    }
    for (uint32_t i = 0; i < c->range_count; i++) c->unmap[i] = (struct unmap_list){c->ranges[i].sector, c->ranges[i].count};
}

static void prepare(struct load_state *l, struct command *c)
{
    c->verb = choose_verb(l);
    bool changes = c->verb != READ && c->verb != FLUSH;
    c->range_count = changes;
    if (changes && !choose_idle(l, c->verb == COMPARE_WRITE ? CAW_SECTORS : MOST_SECTORS, &c->ranges[0])) {
        c->verb = READ;
        c->range_count = 0;
    }
    switch (c->verb) {
    case READ: prepare_read(l, c); break;
    case WRITE: prepare_write(l, c); break;
    case SAME:
        change_begin(l, &c->ranges[0], KIND_ZERO);
        c->data = load_alloc(SECTOR);
        break;
    case UNMAP: prepare_unmap(l, c); break;
    case COMPARE_WRITE: prepare_compare_write(l, c); break;
    case FLUSH: break;
    }
}

static void command_send(struct load_state *l, struct session *s, struct command *c)
{
    c->session = s;
    if (s->under_way++ == 0) s->heard = load_now();
    if (send_command(l, c) != NULL) return;
    s->under_way--;
    s->lost = true;
    not_answered(c);
}

static void command_start(struct load_state *l, struct session *s)
{
    struct command *c = load_alloc(sizeof *c);
    c->load = l;
    c->began = load_now();
    prepare(l, c);
    l->per_verb[c->verb]++;
    l->sent++;
    command_send(l, s, c);
}

static void command_again(struct load_state *l, struct session *s)
{
    struct command *c = l->unanswered;
    if (waited_too_long(c)) load_fail("a command", "no path answers it");
    l->unanswered = c->next;
    if (c->verb == READ) memcpy(c->then, l->ledger.entries + c->ranges[0].sector, c->ranges[0].count * sizeof *c->then);
    l->again++;
    command_send(l, s, c);
}

/* ---- run ---- */

static uint32_t under_way(const struct load_state *l, uint32_t *ret_lost)
{
    uint32_t count = 0;
    *ret_lost = 0;
    for (uint32_t i = 0; i < l->load->sessions; i++) {
        if (l->sessions[i].lost)
            ++*ret_lost;
        else
            count += l->sessions[i].under_way;
    }
    return count;
}

static bool over(const struct load_state *l)
{
    const struct load *load = l->load;
    return load_stopped() || (load->commands > 0 && l->sent >= load->commands) ||
           (load->seconds > 0 && load_now() - load->began >= load->seconds);
}

static void send_again(struct load_state *l, struct session *s)
{
    while (!s->lost && s->under_way < l->load->depth && l->unanswered != NULL && load_now() >= l->rest_until)
        command_again(l, s);
}

/* What a host with two paths does: who does not answer is left, and what it did not answer goes the other way. */
static void move_all(struct load_state *l)
{
    for (uint32_t i = 0; i < l->load->sessions; i++) {
        struct session *s = &l->sessions[i];
        if (s->under_way > 0 && load_now() - s->heard > l->load->silence) s->lost = true;
        if (!s->lost) continue;
        session_move(s, l->load, i);
        l->moves++;
    }
}

static uint32_t run_paths(struct load_state *l)
{
    for (uint32_t lost = 0;;) {
        move_all(l);
        for (uint32_t i = 0; i < l->load->sessions; i++) {
            struct session *s = &l->sessions[i];
            send_again(l, s);
            while (!s->lost && s->under_way < l->load->depth && !over(l)) command_start(l, s);
        }
        if (under_way(l, &lost) == 0 && lost == 0 && l->unanswered == NULL) return 0;
        sessions_serve(l->sessions, l->load->sessions);
    }
}

/* Until it is over, or until all connections are lost: an answer that came before its connection was lost counts. */
static uint32_t run_all(struct load_state *l)
{
    uint32_t lost = 0;
    double lost_at = 0;
    for (;;) {
        for (uint32_t i = 0; i < l->load->sessions && lost == 0; i++) {
            struct session *s = &l->sessions[i];
            send_again(l, s);
            while (!s->lost && s->under_way < l->load->depth && !over(l)) command_start(l, s);
        }
        if (under_way(l, &lost) == 0 && (l->unanswered == NULL || lost > 0)) return lost;
        if (lost > 0 && lost_at == 0) lost_at = load_now();
        if (lost > 0 && load_now() - lost_at > LOST_SECONDS) load_fail("connections", "one is lost, others are not");
        sessions_serve(l->sessions, l->load->sessions);
    }
}

static void print_run(const struct load_state *l)
{
    printf("%llu commands: %llu reads, %llu writes, %llu of zeros, %llu unmaps, %llu compare and write; %llu MiB in %.1f s; "
           "%llu not answered",
           (unsigned long long)l->sent, (unsigned long long)l->per_verb[READ], (unsigned long long)l->per_verb[WRITE],
           (unsigned long long)l->per_verb[SAME], (unsigned long long)l->per_verb[UNMAP],
           (unsigned long long)l->per_verb[COMPARE_WRITE], (unsigned long long)(l->bytes >> 20), load_now() - l->load->began,
           (unsigned long long)(l->sent - l->answered));
    if (l->refused > 0) printf(", %llu refused for want of room", (unsigned long long)l->refused);
    if (l->load->other != NULL)
        printf("; %llu sent again, %llu times another path, slowest answer %.1f s", (unsigned long long)l->again,
               (unsigned long long)l->moves, l->slowest);
    printf("\n");
}

int load_run(const struct load *load)
{
    static struct load_state l;
    struct load with = *load;
    if (with.sessions == 0) with.sessions = 4;
    l.load = &with;
    for (uint32_t i = 0; i < with.sessions; i++) session_open(&l.sessions[i], load, i);
    if (l.sessions[0].sectors < 2 * HOT_SECTORS) load_fail("the volume", "is smaller than 2 MiB");
    if (!ledger_open(&l.ledger, load->ledger, l.sessions[0].sectors, load->seed)) return EXIT_WRONG;
    if (!ledger_idle(&l.ledger, 0, (uint32_t)l.ledger.sectors)) load_fail(load->ledger, "verify the volume first");
    prng_init(&l.prng, load->seed);
    with.began = load_now();
    printf("started\n");
    fflush(stdout);
    if (with.silence == 0) with.silence = SILENCE_SECONDS;
    uint32_t lost = load->other != NULL ? run_paths(&l) : run_all(&l);
    print_run(&l);
    for (uint32_t i = 0; i < with.sessions; i++) session_close(&l.sessions[i]);
    ledger_close(&l.ledger);
    return lost > 0 ? EXIT_LOST : EXIT_FINE;
}

/* ---- verify ---- */

struct verify {
    const struct load *load;
    struct ledger ledger;
    struct session session;
    uint32_t next; /* sector */
    bool wrong;
};

struct piece {
    struct verify *verify;
    uint32_t sector, count;
};

static void piece_start(struct piece *p);
static void piece_send(struct piece *p);

static void piece_read(struct iscsi_context *iscsi, int status, void *data, void *arg)
{
    struct piece *p = arg;
    struct verify *v = p->verify;
    struct scsi_task *task = data;
    if (session_gone(&v->session, status)) load_fail("verifying", "the connection is lost");
    v->session.under_way--;
    if (is_attention(task)) {
        scsi_free_scsi_task(task);
        piece_send(p);
        return;
    }
    if (status != SCSI_STATUS_GOOD) load_fail("a read", iscsi_get_error(iscsi));
    if (task->datain.size != (int)(p->count * SECTOR)) load_fail("a read", "other length than asked for");
    if (!ledger_settle(&v->ledger, p->sector, p->count, task->datain.data)) v->wrong = true;
    scsi_free_scsi_task(task);
    piece_start(p);
}

static void piece_start(struct piece *p)
{
    struct verify *v = p->verify;
    uint64_t left = v->ledger.sectors - v->next;
    if (left == 0 || v->wrong) return;
    p->sector = v->next;
    p->count = left < PIECE_SECTORS ? (uint32_t)left : PIECE_SECTORS;
    v->next += p->count;
    piece_send(p);
}

static void piece_send(struct piece *p)
{
    struct verify *v = p->verify;
    v->session.under_way++;
    if (iscsi_read16_task(v->session.iscsi, v->session.lun, p->sector, p->count * SECTOR, SECTOR, 0, 0, 0, 0, 0, piece_read,
                          p) == NULL)
        load_fail("a read", iscsi_get_error(v->session.iscsi));
}

/* The first read, by itself: how long it takes from the start of this program on is what a restart is measured by. */
static double first_read(struct verify *v)
{
    struct scsi_task *task;
    do {
        task = iscsi_read16_sync(v->session.iscsi, v->session.lun, 0, BLOCK_SECTORS * SECTOR, SECTOR, 0, 0, 0, 0, 0);
    } while (task != NULL && is_attention(task));
    if (task == NULL || task->status != SCSI_STATUS_GOOD) load_fail("the first read", iscsi_get_error(v->session.iscsi));
    if (task->datain.size != BLOCK_SECTORS * SECTOR) load_fail("the first read", "other length than asked for");
    v->wrong = !ledger_settle(&v->ledger, 0, BLOCK_SECTORS, task->datain.data);
    scsi_free_scsi_task(task);
    return load_now() - v->load->began;
}

int load_verify(const struct load *load)
{
    struct verify v = {.load = load};
    struct piece pieces[PIECES];
    session_open(&v.session, load, 0);
    if (!ledger_open(&v.ledger, load->ledger, v.session.sectors, load->seed)) return EXIT_WRONG;
    double first = first_read(&v);
    for (uint32_t i = 0; i < PIECES; i++) {
        pieces[i] = (struct piece){.verify = &v};
        piece_start(&pieces[i]);
    }
    while (v.session.under_way > 0) {
        sessions_serve(&v.session, 1);
        if (v.session.lost) load_fail("verifying", "the connection is lost");
    }
    if (!v.wrong)
        printf("%llu MiB verified; first read after %.0f ms\n", (unsigned long long)v.ledger.sectors >> 11, first * 1e3);
    session_close(&v.session);
    ledger_close(&v.ledger);
    return v.wrong ? EXIT_WRONG : EXIT_FINE;
}
