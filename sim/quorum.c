/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The world of register histories: nodes that each have an acceptor, a proposer and somebody who calls; messages as bytes; two
 * files a node; and trouble. It is small and has no seam below it, so that a thousand histories take a second; the acceptor's
 * real files are tested over the simulated seam (tests/unit/test_quorum.c). What is real here: proposer, acceptor, codec of
 * messages and files.
 *
 * Trouble, as drawn by the seed: messages that are lost, doubled, late; links that are cut in one direction; nodes that stand
 * still, and nodes that crash, at any step of writing their files: what was being written is there, is not, or is torn. At a
 * restart one of two whole files may turn out damaged; in some histories both, once: that acceptor is gone, and its node comes
 * back with a new one. Meanwhile members change, as far as the seed wants: by one, or all at once, and some are barred for
 * good. Then all is mended, and everybody must get through.
 */
#include "sim/quorum.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "cluster/codec.h"
#include "store/mutation.h"

enum {
    NODES = 7,
    VALUE_MAX = 48,
    FILE_BYTES = 1024,
    FILE_SECTOR = 512,
    MESSAGE_BYTES = 768,
    EVENTS_MAX = 4096,
    WAITING_MAX = 16,
    ID_STEP = 1000, /* acceptor ids: node + ID_STEP * how often it was made */
    BARRED_MAX = 3,
    BARS = 50000, /* changes that bar somebody, per million */
    CALM_MS = 60000,
    STALL_MS = 30000, /* nobody waits longer once all is mended */
};

enum event_kind { EVENT_MESSAGE, EVENT_TIMER, EVENT_DISK, EVENT_CALL, EVENT_TROUBLE, EVENT_UP };

struct message {
    bool used, answer;
    uint32_t from, to;
    size_t size;
    uint8_t bytes[MESSAGE_BYTES];
};

struct event {
    uint64_t due_us, order;
    enum event_kind kind;
    uint32_t node, life, serial; /* message: its place */
};

struct file {
    bool empty;
    uint8_t bytes[FILE_BYTES];
};

struct call {
    enum register_verb verb;
    struct quorum_before before;
    struct quorum_change *change;
    uint8_t value[VALUE_MAX];
    struct acceptor_set set;
};

struct node {
    uint32_t number, life, made;
    bool up, lost;
    uint64_t frozen_until_us;
    uint64_t crashed_ballots;

    struct acceptor acceptor;
    uint64_t generation;
    uint8_t image[FILE_BYTES]; /* the acceptor's bytes lie here */
    struct file files[2];
    bool writing;
    uint32_t stage;
    uint8_t next_image[FILE_BYTES];
    struct message next_answer;
    uint32_t waiting[WAITING_MAX], waiting_count; /* requests */

    struct proposer proposer;
    uint8_t buffer[VALUE_MAX];
    uint32_t timer;
    struct call call;
    struct quorum_change *undecided;
    uint64_t known; /* version */
    uint8_t barred; /* by it */
    struct register_members members;
    uint64_t reads, changes; /* that were OK, since all was mended */
};

struct weather {
    uint32_t founders;
    uint32_t loss, twice, late; /* per million */
    uint32_t late_ms, down_ms;
    uint32_t crash, freeze, cut, damage; /* weights of trouble; damage per million restarts */
    uint32_t trouble_ms, every_ms;       /* how long, and how often something happens */
    uint32_t think_ms, change_members;   /* per million calls */
    uint32_t reads;                      /* per million */
    bool swaps;                          /* members: any set, else one more or less */
    bool destroy;                        /* once, both files */
    struct register_config config;
};

static struct quorum {
    struct lab *lab;
    struct prng prng;
    struct weather mix;
    bool trace, calm, destroyed;
    uint64_t now_us, order, hash;
    uint32_t event_count, message_at;
    struct event events[EVENTS_MAX];
    struct message messages[EVENTS_MAX];
    struct node nodes[NODES + 1]; /* from 1 */
    bool cut[NODES + 1][NODES + 1];
    struct register_state first;
    uint64_t coverage[8];
} * q, world;
static struct quorum_judge judge;

static uint64_t below(uint64_t n)
{
    return prng_below(&q->prng, n);
}

static bool chance(uint32_t per_million)
{
    return prng_chance(&q->prng, per_million);
}

#define SAY(...)                                                                                                               \
    do {                                                                                                                       \
        if (q->trace) {                                                                                                        \
            printf("%9.3f ", (double)q->now_us / 1000);                                                                        \
            printf(__VA_ARGS__);                                                                                               \
            printf("\n");                                                                                                      \
        }                                                                                                                      \
    } while (0)

/* ---- events ---- */

static bool before(const struct event *a, const struct event *b)
{
    return a->due_us != b->due_us ? a->due_us < b->due_us : a->order < b->order;
}

static void event_add(enum event_kind kind, uint32_t node, uint32_t serial, uint64_t after_us)
{
    if (q->event_count == EVENTS_MAX) {
        lab_fail(q->lab, "too many events");
        return;
    }
    struct event e = {q->now_us + after_us, q->order++, kind, node, q->nodes[node].life, serial};
    uint32_t at = q->event_count++;
    for (; at > 0 && before(&e, &q->events[(at - 1) / 2]); at = (at - 1) / 2) q->events[at] = q->events[(at - 1) / 2];
    q->events[at] = e;
}

static struct event event_take(void)
{
    struct event first = q->events[0], last = q->events[--q->event_count];
    uint32_t at = 0;
    for (uint32_t child = 1; child < q->event_count; child = 2 * at + 1) {
        if (child + 1 < q->event_count && before(&q->events[child + 1], &q->events[child])) child++;
        if (!before(&q->events[child], &last)) break;
        q->events[at] = q->events[child];
        at = child;
    }
    q->events[at] = last;
    return first;
}

/* ---- messages ---- */

static void send_once(const struct message *m)
{
    uint64_t delay_us = 200 + below(3000);
    if (chance(q->mix.late)) delay_us += below(below(8) ? 1000 * (uint64_t)q->mix.late_ms : 3000000);
    for (uint32_t tries = 0; tries < EVENTS_MAX; tries++) {
        uint32_t i = q->message_at++ % EVENTS_MAX;
        if (q->messages[i].used) continue;
        q->messages[i] = *m;
        q->messages[i].used = true;
        event_add(EVENT_MESSAGE, m->to, i, delay_us);
        return;
    }
}

static void message_send(const struct message *m)
{
    if (q->cut[m->from][m->to] || chance(q->mix.loss)) return;
    send_once(m);
    if (chance(q->mix.twice)) send_once(m);
}

/* ---- files ---- */

/* What a crash leaves of a write: all, nothing, or each sector by itself. */
static void file_settle(struct file *file, const uint8_t *image)
{
    uint64_t how = below(4);
    if (how == 0) return;
    if (file->empty) memset(file->bytes, 0, sizeof file->bytes);
    file->empty = false;
    for (uint32_t at = 0; at < FILE_BYTES; at += FILE_SECTOR)
        if (how == 1 || below(2)) memcpy(file->bytes + at, image + at, FILE_SECTOR);
}

static void file_put(struct file *file, const uint8_t *image)
{
    file->empty = false;
    memcpy(file->bytes, image, FILE_BYTES);
}

static bool file_whole(const struct file *file, uint64_t *ret_generation)
{
    struct acceptor a;
    *ret_generation = 0;
    return !file->empty && acceptor_image_decode(file->bytes, FILE_BYTES, &a, ret_generation) == OK;
}

static void image_make(struct node *n, const struct acceptor *a, uint8_t image[FILE_BYTES])
{
    size_t size = 0;
    memset(image, 0, FILE_BYTES);
    if (acceptor_image_encode(a, ++n->generation, image, FILE_BYTES, &size) != OK) lab_fail(q->lab, "an image is too large");
}

/* Which of the two files a write skips; none, unless mutated. */
static bool skipped(const struct node *n, uint32_t i)
{
    return MUTATED(MUTATE_ONE_FILE) && n->generation % 2 != i;
}

static void adopt(struct node *n, const uint8_t *image)
{
    uint64_t generation;
    memcpy(n->image, image, FILE_BYTES);
    enum err err = acceptor_image_decode(n->image, FILE_BYTES, &n->acceptor, &generation);
    if (err != OK) lab_fail(q->lab, "an image does not decode: %s", err_name(err));
}

/* ---- acceptors ---- */

static void acceptor_request(struct node *n, const struct message *m);

static void disk_next(struct node *n)
{
    while (n->stage < 2 && skipped(n, n->stage)) n->stage++;
    if (n->stage < 2) {
        event_add(EVENT_DISK, n->number, 0, 100 + below(chance(20000) ? 300000 : 2000));
        return;
    }
    n->writing = false;
    adopt(n, n->next_image);
    if (!MUTATED(MUTATE_ANSWER_EARLY)) message_send(&n->next_answer);
    while (!n->writing && n->waiting_count > 0) {
        uint32_t i = n->waiting[0];
        memmove(n->waiting, n->waiting + 1, --n->waiting_count * sizeof n->waiting[0]);
        q->messages[i].used = false;
        acceptor_request(n, &q->messages[i]);
    }
}

static void acceptor_request(struct node *n, const struct message *m)
{
    struct register_request request;
    struct register_answer answer;
    struct acceptor next;
    if (register_request_decode(m->bytes, m->size, &request) != OK) {
        lab_fail(q->lab, "a request does not decode");
        return;
    }
    enum acceptor_step step = acceptor_handle(&n->acceptor, &request, &next, &answer);
    if (step == ACCEPTOR_SILENT) return;
    struct message reply = {.answer = true, .from = n->number, .to = m->from};
    if (register_answer_encode(&answer, reply.bytes, sizeof reply.bytes, &reply.size) != OK)
        lab_fail(q->lab, "an answer is too large");
    if (step == ACCEPTOR_ANSWER || MUTATED(MUTATE_ANSWER_EARLY)) message_send(&reply);
    if (step == ACCEPTOR_ANSWER) return;
    image_make(n, &next, n->next_image);
    n->next_answer = reply;
    n->writing = true;
    n->stage = 0;
    disk_next(n);
}

/* ---- calls ---- */

static void effects_do(struct node *n, const struct register_effects *e);

static void call_later(struct node *n)
{
    event_add(EVENT_CALL, n->number, 0, 1000 + below(1000 * (uint64_t)q->mix.think_ms));
}

static uint32_t count_bits(uint32_t bits)
{
    uint32_t count = 0;
    for (; bits != 0; bits &= bits - 1) count++;
    return count;
}

/* Nobody who is barred, as far as is known; and there is always somebody who is not. */
static struct acceptor_set without_barred(const struct node *n, const struct acceptor_set *set)
{
    uint64_t ids[ACCEPTORS_MAX];
    uint32_t count = 0, first = 1;
    while (n->barred & 1u << first) first++;
    for (uint32_t i = 0; i < set->count; i++)
        if (set->ids[i] > NODES || !(n->barred & 1u << set->ids[i])) ids[count++] = set->ids[i];
    if (count == 0) ids[count++] = q->nodes[first].acceptor.id;
    return acceptor_set_of(ids, count);
}

/* A set that is alive now: as it was with one more or less, or any. */
static struct acceptor_set draw_set(const struct node *n)
{
    struct acceptor_set set = n->members.next.count ? n->members.next : n->members.now;
    uint64_t ids[NODES];
    uint32_t count = 0;
    bool any = q->mix.swaps && below(2);
    uint32_t wanted = 1 + (uint32_t)below(5), one = 1 + (uint32_t)below(NODES);
    for (uint32_t i = 1; i <= NODES; i++) {
        const struct node *other = &q->nodes[i];
        bool in = acceptor_set_has(&set, other->acceptor.id);
        if (any ? below(NODES) < wanted : in != (i == one)) ids[count++] = other->acceptor.id;
    }
    if (count == 0) ids[count++] = n->acceptor.id;
    set = acceptor_set_of(ids, count);
    return without_barred(n, &set);
}

/* What the next value bars: no fewer. */
static uint8_t draw_barred(const struct node *n)
{
    if (q->mix.change_members == 0 || q->calm || count_bits(n->barred) == BARRED_MAX || !chance(BARS)) return n->barred;
    return (uint8_t)(n->barred | 1u << (1 + below(NODES)));
}

static void start_cas(struct node *n, struct register_effects *e)
{
    bool again = n->undecided != NULL;
    struct register_tag tag = again ? n->undecided->tag : register_new_tag(&n->proposer);
    uint64_t expected = again ? n->undecided->expected : n->known;
    if (!again && expected > 1 && chance(50000)) expected--;
    n->call.change = again ? n->undecided : quorum_asked(&judge, tag, expected);
    if (n->call.change == NULL) {
        lab_fail(q->lab, "too many changes");
        return;
    }
    if (!again) {
        prng_fill(&q->prng, n->call.value, VALUE_MAX);
        memcpy(n->call.value, &tag, sizeof tag);
        n->call.value[sizeof tag] = draw_barred(n);
    }
    struct register_change change = {
        .expected = expected, .tag = tag, .again = again, .bytes = n->call.value, .size = 17 + (uint32_t)(tag.number % 31)};
    register_cas(&n->proposer, &change, prng_next(&q->prng), e);
}

static void call_start(struct node *n)
{
    if (!proposer_is_idle(&n->proposer)) return;
    struct register_effects e = {0};
    n->call.before = quorum_now(&judge);
    if (n->known > 0 && !q->calm && chance(q->mix.change_members)) {
        n->call.verb = REGISTER_VERB_MEMBERS;
        n->call.set = draw_set(n);
        register_members(&n->proposer, &n->call.set, n->known, prng_next(&q->prng), &e);
    } else if (n->known == 0 || (q->calm ? n->reads <= n->changes : chance(q->mix.reads))) {
        n->call.verb = REGISTER_VERB_READ;
        register_read(&n->proposer, prng_next(&q->prng), &e);
    } else {
        n->call.verb = REGISTER_VERB_CAS;
        start_cas(n, &e);
    }
    SAY("node %u: call %d", n->number, n->call.verb);
    effects_do(n, &e);
}

/* What a read says of a change that was undecided. */
static void ask_fate(struct node *n, const struct register_state *state)
{
    if (n->undecided == NULL) return;
    switch (register_fate(state, n->undecided->expected, n->undecided->tag)) {
    case REGISTER_FATE_DONE: quorum_told_done(&judge, n->undecided, n->undecided->expected + 1); break;
    case REGISTER_FATE_NEVER: quorum_told_never(&judge, n->undecided); break;
    case REGISTER_FATE_FORGOTTEN: break;
    case REGISTER_FATE_OPEN: return;
    }
    n->undecided = NULL;
}

static void call_over(struct node *n, const struct register_effects *e)
{
    SAY("node %u: call %d over: %s, version %" PRIu64 ", state %" PRIu64 " epoch %" PRIu64, n->number, n->call.verb,
        err_name(e->err), e->version, e->state.version, e->state.members.epoch);
    bool cas = n->call.verb == REGISTER_VERB_CAS;
    if (e->state.version > 0) {
        quorum_told(&judge, n->call.before, &e->state);
        n->known = e->state.version;
        n->barred = quorum_barred(&e->state);
        n->members = e->state.members;
    }
    if (n->call.verb == REGISTER_VERB_READ && e->err == OK) ask_fate(n, &e->state);
    if (cas) {
        n->undecided = NULL;
        if (e->err == OK) quorum_told_done(&judge, n->call.change, e->version);
        if (e->err == ERR_CONFLICT || e->err == ERR_NO_QUORUM) quorum_told_never(&judge, n->call.change);
        if (e->err == ERR_UNDECIDED && e->state.version == 0) n->undecided = n->call.change;
    }
    if (e->err == OK && n->call.verb == REGISTER_VERB_READ) n->reads++;
    if ((e->err == OK || e->err == ERR_CONFLICT) && cas) n->changes++;
    if (e->err == OK) q->coverage[n->call.verb]++;
    q->hash = hash64(&e->version, sizeof e->version, q->hash + (uint64_t)e->err);
    call_later(n);
}

static void effects_do(struct node *n, const struct register_effects *e)
{
    struct register_request request = e->request;
    for (uint32_t i = 0; i < e->to_count; i++) {
        struct message m = {.from = n->number, .to = (uint32_t)(e->to[i] % ID_STEP)};
        request.acceptor = e->to[i];
        if (register_request_encode(&request, m.bytes, sizeof m.bytes, &m.size) != OK)
            lab_fail(q->lab, "a request is too large");
        message_send(&m);
    }
    if (e->timer_ms > 0) event_add(EVENT_TIMER, n->number, ++n->timer, 1000 * (uint64_t)e->timer_ms);
    if (!e->done) return;
    n->timer++;
    call_over(n, e);
}

/* ---- nodes come and go ---- */

static void node_down(struct node *n)
{
    SAY("node %u: crashes%s", n->number, n->writing ? " while it writes" : "");
    if (n->writing && n->stage < 2) file_settle(&n->files[n->stage], n->next_image);
    for (uint32_t i = 0; i < n->waiting_count; i++) q->messages[n->waiting[i]].used = false;
    n->up = n->writing = false;
    n->waiting_count = 0;
    n->undecided = NULL; /* nobody remembers */
    n->life++;
    n->frozen_until_us = 0;
}

/* Bytes turn bad where both files are whole, so that one always is, or in both at once. */
static void damage(struct node *n)
{
    uint64_t generations[2];
    if (!file_whole(&n->files[0], &generations[0]) || !file_whole(&n->files[1], &generations[1])) return;
    bool both = q->mix.destroy && !q->destroyed && n->number <= q->mix.founders && q->now_us > 0 && below(8) == 0;
    if (!both && !chance(q->mix.damage)) return;
    uint32_t one = (uint32_t)below(2);
    for (uint32_t i = 0; i < 2; i++) {
        if (!both && i != one) continue;
        n->files[i].bytes[below(96)] ^= (uint8_t)(1 + below(255));
    }
    q->destroyed |= both;
    SAY("node %u: %s damaged", n->number, both ? "both files are" : "a file is");
}

static void make_anew(struct node *n, bool same_id)
{
    static const uint8_t cluster[CLUSTER_ID_BYTES] = {1, 2, 3};
    n->made += !same_id;
    acceptor_make(&n->acceptor, cluster, n->number + ID_STEP * (uint64_t)n->made, NULL);
}

/* Reads the files, counts the start and writes both; the power may go in between. */
static void node_open(struct node *n)
{
    uint8_t image[FILE_BYTES];
    do {
        uint64_t generations[2];
        bool whole[2];
        for (uint32_t i = 0; i < 2; i++) whole[i] = file_whole(&n->files[i], &generations[i]);
        uint32_t best = whole[1] && (!whole[0] || generations[1] > generations[0]);
        n->generation = generations[0] > generations[1] ? generations[0] : generations[1];
        if (whole[best]) {
            adopt(n, n->files[best].bytes);
        } else {
            SAY("node %u: its acceptor is lost", n->number);
            make_anew(n, MUTATED(MUTATE_LOST_IS_NEW));
        }
        acceptor_restart(&n->acceptor);
        image_make(n, &n->acceptor, image);
        uint32_t done = chance(50000) ? (uint32_t)below(2) : 2;
        for (uint32_t i = 0; i < 2; i++) {
            if (skipped(n, i)) continue;
            if (i < done) file_put(&n->files[i], image);
            if (i == done) file_settle(&n->files[i], image);
        }
        if (done < 2 && !whole[best]) file_put(&n->files[0], image); /* a first start that fails is tried again */
        if (done == 2) break;
    } while (true);
    adopt(n, image);
}

static void node_up(struct node *n)
{
    struct register_config config = q->mix.config;
    damage(n);
    node_open(n);
    config.node = (uint32_t)n->acceptor.id;
    config.boot = n->acceptor.boot;
    /* What it remembers of the members may be very old. */
    config.members = n->acceptor.accepted.round == 0 || chance(300000) ? q->first.members : n->acceptor.state.members;
    memcpy(config.cluster, n->acceptor.cluster, sizeof config.cluster);
    proposer_init(&n->proposer, &config, n->buffer);
    n->members = config.members;
    n->known = 0;
    n->barred = 0;
    n->up = true;
    SAY("node %u: starts, boot %u, id %" PRIu64, n->number, config.boot, n->acceptor.id);
    call_later(n);
}

/* ---- trouble ---- */

static void trouble(void)
{
    uint32_t one = 1 + (uint32_t)below(NODES), other = 1 + (uint32_t)below(NODES);
    struct node *n = &q->nodes[one];
    uint64_t draw = below(1 + q->mix.crash + q->mix.freeze + q->mix.cut);
    if (draw < q->mix.crash) {
        if (n->up) {
            node_down(n);
            event_add(EVENT_UP, one, 0, 1000 + below(below(8) ? 1000 * (uint64_t)q->mix.down_ms : 5000000));
        }
    } else if (draw < q->mix.crash + q->mix.freeze) {
        n->frozen_until_us = q->now_us + below(below(4) ? 200000 : 4000000);
    } else if (draw < q->mix.crash + q->mix.freeze + q->mix.cut) {
        bool cut = below(3) > 0;
        q->cut[one][other] = cut && one != other;
        if (below(8) == 0) memset(q->cut, 0, sizeof q->cut);
    }
    event_add(EVENT_TROUBLE, 0, 0, 1000 + below(1000 * (uint64_t)q->mix.every_ms));
}

static void event_run(const struct event *e)
{
    struct node *n = &q->nodes[e->node];
    if (e->kind == EVENT_TROUBLE) {
        if (!q->calm) trouble();
        return;
    }
    if (e->kind == EVENT_UP) {
        if (!n->up) node_up(n);
        return;
    }
    struct message *m = e->kind == EVENT_MESSAGE ? &q->messages[e->serial] : NULL;
    bool dead = !n->up || (m == NULL && e->life != n->life);
    if (dead) {
        if (m != NULL) m->used = false;
        return;
    }
    if (n->frozen_until_us > q->now_us) {
        uint32_t life = n->life;
        event_add(e->kind, e->node, e->serial, n->frozen_until_us - q->now_us);
        (void)life;
        return;
    }
    struct register_effects effects = {0};
    struct register_answer answer;
    switch (e->kind) {
    case EVENT_MESSAGE:
        if (!m->answer && n->writing) { /* it keeps its place */
            if (n->waiting_count < WAITING_MAX)
                n->waiting[n->waiting_count++] = e->serial;
            else
                m->used = false;
            return;
        }
        m->used = false;
        if (!m->answer) {
            acceptor_request(n, m);
        } else if (register_answer_decode(m->bytes, m->size, &answer) != OK) {
            lab_fail(q->lab, "an answer does not decode");
        } else {
            register_answered(&n->proposer, &answer, prng_next(&q->prng), &effects);
            effects_do(n, &effects);
        }
        return;
    case EVENT_TIMER:
        if (e->serial != n->timer) return;
        register_timeout(&n->proposer, prng_next(&q->prng), &effects);
        effects_do(n, &effects);
        return;
    case EVENT_DISK:
        file_put(&n->files[n->stage], n->next_image);
        n->stage++;
        disk_next(n);
        return;
    case EVENT_CALL: call_start(n); return;
    case EVENT_TROUBLE:
    case EVENT_UP: return;
    }
}

/* ---- histories ---- */

static uint32_t one_of(uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
    const uint32_t all[4] = {a, b, c, d};
    return all[below(4)];
}

static void weather_draw(struct weather *mix)
{
    *mix = (struct weather){
        .founders = one_of(1, 3, 3, 5),
        .loss = one_of(0, 10000, 100000, 300000),
        .twice = one_of(0, 10000, 100000, 300000),
        .late = one_of(0, 10000, 100000, 500000),
        .late_ms = one_of(5, 20, 100, 1000),
        .down_ms = one_of(5, 50, 200, 1000),
        .crash = one_of(0, 1, 4, 8),
        .freeze = one_of(0, 1, 1, 4),
        .cut = one_of(0, 1, 4, 8),
        .damage = one_of(0, 100000, 500000, 900000),
        .trouble_ms = one_of(3000, 6000, 10000, 20000),
        .every_ms = one_of(10, 50, 200, 1000),
        .think_ms = one_of(5, 20, 100, 500),
        .change_members = one_of(0, 10000, 100000, 300000),
        .reads = one_of(100000, 400000, 400000, 800000),
        .swaps = below(2),
        .config = {.wait_ms = one_of(10, 30, 100, 300), .pause_ms = one_of(2, 10, 10, 50), .attempts = one_of(2, 5, 10, 20)}};
    mix->destroy = mix->change_members == 0 && mix->founders >= 3 && below(2);
}

/* What makes it likely that a missing rule is missed. */
static void weather_aim(struct weather *mix, int mutation)
{
    bool members = mutation >= MUTATE_OWN_VIEW && mutation <= MUTATE_STEP_UNSEEN;
    bool files = mutation == MUTATE_ANSWER_EARLY || mutation == MUTATE_FORGET_PROMISE || mutation == MUTATE_ONE_FILE ||
                 mutation == MUTATE_LOST_IS_NEW;
    if (members) {
        mix->change_members = one_of(100000, 200000, 300000, 500000);
        mix->destroy = false;
        mix->swaps = true;
        return;
    }
    mix->founders = 3;
    mix->change_members = 0;
    mix->think_ms = one_of(5, 5, 5, 20);
    if (mutation == MUTATE_ACCEPT_NO_PROMISE || mutation == MUTATE_LATE_ANSWERS || mutation == MUTATE_FORGET_PROMISE) {
        mix->late = one_of(100000, 300000, 300000, 500000);
        mix->late_ms = one_of(10, 20, 50, 100);
        mix->loss = one_of(10000, 100000, 200000, 300000);
        mix->think_ms = one_of(5, 20, 50, 100);
        mix->config.wait_ms = one_of(10, 30, 100, 100);
        mix->down_ms = 5;
        mix->cut = mix->freeze = 0;
    }
    if (!files) return;
    mix->crash = 8;
    mix->every_ms = one_of(10, 20, 50, 50);
    mix->trouble_ms = one_of(3000, 3000, 6000, 6000);
    if (mutation == MUTATE_ONE_FILE) mix->damage = 900000;
    mix->destroy = mutation == MUTATE_LOST_IS_NEW;
}

static void begin(struct lab *lab, const struct history_options *o)
{
    static const uint8_t cluster[CLUSTER_ID_BYTES] = {1, 2, 3};
    uint64_t ids[NODES];
    q = &world;
    memset(q, 0, sizeof *q);
    q->lab = lab;
    q->trace = o->trace;
    q->hash = o->seed;
    prng_init(&q->prng, o->seed ^ 0x3ab);
    weather_draw(&q->mix);
    if (o->mutation > 0) weather_aim(&q->mix, o->mutation);
    for (uint32_t i = 0; i < q->mix.founders; i++) ids[i] = i + 1;
    struct acceptor_set set = acceptor_set_of(ids, q->mix.founders);
    register_first_state(&set, "first", 5, &q->first);
    quorum_judge_init(&judge, lab, &q->first);
    for (uint32_t i = 1; i <= NODES; i++) {
        struct node *n = &q->nodes[i];
        uint8_t image[FILE_BYTES];
        n->number = i;
        acceptor_make(&n->acceptor, cluster, i, i <= q->mix.founders ? &q->first : NULL);
        image_make(n, &n->acceptor, image);
        for (uint32_t f = 0; f < 2; f++) file_put(&n->files[f], image);
        node_up(n);
    }
    event_add(EVENT_TROUBLE, 0, 0, 1000);
}

/* Until then, or until `enough`. */
static void run_until(uint64_t end_us, bool (*enough)(void))
{
    while (!lab_failed(q->lab) && q->event_count > 0 && q->events[0].due_us < end_us && !(enough && enough())) {
        struct event e = event_take();
        uint64_t mark[2] = {e.due_us, (uint64_t)e.kind << 32 | e.node};
        q->now_us = e.due_us;
        q->hash = hash64(mark, sizeof mark, q->hash);
        event_run(&e);
    }
}

static bool all_got_through(void)
{
    for (uint32_t i = 1; i <= NODES; i++)
        if (q->nodes[i].reads == 0 || q->nodes[i].changes == 0) return false;
    return true;
}

static void mend(void)
{
    q->calm = true;
    q->mix.loss = q->mix.twice = q->mix.late = q->mix.damage = 0;
    q->mix.destroy = false;
    q->mix.think_ms = 300;
    memset(q->cut, 0, sizeof q->cut);
    for (uint32_t i = 1; i <= NODES; i++) {
        struct node *n = &q->nodes[i];
        n->frozen_until_us = 0;
        if (!n->up) node_up(n);
        n->reads = n->changes = 0;
        if (n->proposer.config.wait_ms < 50) n->proposer.config.wait_ms = 50;
    }
}

uint64_t quorum_run(struct lab *lab, const struct history_options *options)
{
    lab->failure[0] = '\0';
    store_mutation = options->control ? MUTATE_NONE : (enum mutation)options->mutation;
    begin(lab, options);
    run_until(1000 * (uint64_t)q->mix.trouble_ms, NULL);
    SAY("all is mended");
    mend();
    run_until(q->now_us + 1000 * (uint64_t)CALM_MS, all_got_through);
    if (!lab_failed(lab) && !all_got_through()) lab_fail(lab, "somebody does not get through though all is mended");
    store_mutation = MUTATE_NONE;
    return q->hash;
}
