/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: an acceptor never forgets what it answered, and says so when it did; proposer and acceptors keep the order that
 * cluster/register.h promises, step by step; no bytes get past the codec that are not a message. Method: the acceptor's files
 * on simulated disks whose power is cut at each change in turn and whose bytes are damaged, one copy and both; proposers and
 * acceptors called by hand; structures to bytes and back, cut short, and with each number out of its range. Whole histories are
 * `izar-sim --register`.
 */
#include <stdlib.h>

#include "check.h"
#include "cluster/acceptor_file.h"
#include "cluster/codec.h"
#include "sim/sim.h"

static const uint8_t cluster[CLUSTER_ID_BYTES] = {7, 7, 7};
static uint8_t buffer[REGISTER_BYTES_MAX], other_buffer[REGISTER_BYTES_MAX];

static struct acceptor_set set_of(uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t ids[3] = {a, b, c};
    return acceptor_set_of(ids, c != 0 ? 3 : b != 0 ? 2 : 1);
}

static struct register_state first_state(void)
{
    struct register_state first;
    struct acceptor_set set = set_of(3, 1, 2);
    register_first_state(&set, "first", 5, &first);
    return first;
}

/* ---- three acceptors and a proposer, by hand ---- */

struct trio {
    struct acceptor acceptors[4]; /* ids 1 to 4; the last one is empty */
    uint8_t values[4][16];        /* their bytes */
    struct proposer proposer;
    struct register_effects e;
};

static void trio_init(struct trio *t)
{
    struct register_state first = first_state();
    struct register_config config = {
        .node = 9, .boot = 1, .members = first.members, .wait_ms = 100, .pause_ms = 10, .attempts = 3};
    memcpy(config.cluster, cluster, sizeof cluster);
    for (uint64_t id = 1; id <= 4; id++) acceptor_make(&t->acceptors[id - 1], cluster, id, id < 4 ? &first : NULL);
    proposer_init(&t->proposer, &config, buffer);
}

static void adopt(struct trio *t, struct acceptor *a, const struct acceptor *next)
{
    uint8_t *bytes = t->values[a->id - 1];
    *a = *next;
    if (a->state.size > 0 && a->state.size <= sizeof t->values[0]) memmove(bytes, a->state.bytes, a->state.size);
    a->state.bytes = bytes;
}

/* Delivers what is to be sent to those in `up` (bits), and their answers, until nothing is under way. The last effects that
 * said something stay in `e`. */
static void trio_talk(struct trio *t, unsigned up)
{
    static struct register_request queue[256];
    uint32_t first = 0, count = 0;
    struct register_effects e = t->e;
    for (;;) {
        for (uint32_t i = 0; i < e.to_count && count < 256; i++) {
            queue[count] = e.request;
            queue[count++].acceptor = e.to[i];
        }
        if (first == count) return;
        const struct register_request *request = &queue[first++];
        struct acceptor *a = &t->acceptors[request->acceptor - 1], next;
        struct register_answer answer;
        e = (struct register_effects){0};
        if (!(up & 1u << (request->acceptor - 1))) continue;
        if (acceptor_handle(a, request, &next, &answer) == ACCEPTOR_PERSIST) adopt(t, a, &next);
        register_answered(&t->proposer, &answer, 5, &e);
        if (e.done || e.to_count > 0 || e.timer_ms > 0) t->e = e;
    }
}

static bool read_is(struct trio *t, unsigned up, uint64_t version, const char *bytes)
{
    register_read(&t->proposer, 1, &t->e);
    trio_talk(t, up);
    while (!t->e.done) {
        register_timeout(&t->proposer, 1, &t->e);
        trio_talk(t, up);
    }
    return t->e.done && t->e.err == OK && t->e.state.version == version && t->e.state.size == strlen(bytes) &&
           memcmp(t->e.state.bytes, bytes, strlen(bytes)) == 0;
}

static enum err cas(struct trio *t, unsigned up, uint64_t expected, const char *bytes)
{
    struct register_change change = {
        .expected = expected, .tag = register_new_tag(&t->proposer), .bytes = bytes, .size = (uint32_t)strlen(bytes)};
    register_cas(&t->proposer, &change, 1, &t->e);
    trio_talk(t, up);
    while (!t->e.done) {
        register_timeout(&t->proposer, 1, &t->e);
        trio_talk(t, up);
    }
    return t->e.err;
}

TEST(a_value_is_read_and_replaced)
{
    struct trio t;
    trio_init(&t);
    CHECK(read_is(&t, 7, 1, "first"));
    CHECK_OK(cas(&t, 7, 1, "second"));
    CHECK_EQ(t.e.version, 2);
    CHECK(read_is(&t, 7, 2, "second"));
    CHECK_OK(cas(&t, 3, 2, "third")); /* one is down */
    CHECK(read_is(&t, 5, 3, "third"));
    CHECK_ERR(ERR_CONFLICT, cas(&t, 7, 2, "again"));
    CHECK_EQ(t.e.state.version, 3);
}

TEST(too_few_acceptors_change_nothing)
{
    struct trio t;
    trio_init(&t);
    CHECK_ERR(ERR_NO_QUORUM, cas(&t, 1, 1, "second"));
    CHECK(read_is(&t, 7, 1, "first"));
}

TEST(a_change_that_nobody_heard_of_is_undecided)
{
    struct trio t;
    struct register_tag tag;
    trio_init(&t);
    tag = register_new_tag(&t.proposer);
    struct register_change change = {.expected = 1, .tag = tag, .bytes = "second", .size = 6};
    register_cas(&t.proposer, &change, 1, &t.e);
    struct register_effects sent = t.e;
    for (uint32_t i = 0; i < 2; i++) { /* both promise; what is proposed then gets lost */
        struct register_answer answer;
        struct register_request request = sent.request;
        struct acceptor next;
        request.acceptor = sent.to[i];
        CHECK_EQ(acceptor_handle(&t.acceptors[sent.to[i] - 1], &request, &next, &answer), ACCEPTOR_PERSIST);
        adopt(&t, &t.acceptors[sent.to[i] - 1], &next);
        register_answered(&t.proposer, &answer, 1, &t.e);
    }
    CHECK_EQ(t.e.request.ask, REGISTER_ACCEPT);
    while (!t.e.done) register_timeout(&t.proposer, 1, &t.e);
    CHECK_ERR(ERR_UNDECIDED, t.e.err);
    CHECK(read_is(&t, 7, 1, "first"));
    CHECK_EQ(register_fate(&t.e.state, 1, tag), REGISTER_FATE_OPEN);
    change.again = true;
    register_cas(&t.proposer, &change, 1, &t.e);
    trio_talk(&t, 7);
    CHECK(t.e.done && t.e.err == OK && t.e.version == 2);
    CHECK_EQ(register_fate(&t.e.state, 1, tag), REGISTER_FATE_DONE);
    CHECK_OK(cas(&t, 7, 2, "third"));
    register_cas(&t.proposer, &change, 1, &t.e); /* once more: it is found, and not made again */
    trio_talk(&t, 7);
    CHECK(t.e.done && t.e.err == OK && t.e.version == 2 && t.e.state.version == 3);
}

TEST(members_change_in_two_steps)
{
    struct trio t;
    struct acceptor_set set = set_of(1, 2, 4);
    trio_init(&t);
    register_members(&t.proposer, &set, 1, 1, &t.e);
    trio_talk(&t, 15);
    CHECK(t.e.done && t.e.err == OK);
    CHECK_EQ(t.e.state.members.epoch, 3);
    CHECK(acceptor_set_equal(&t.e.state.members.now, &set) && t.e.state.members.next.count == 0);
    CHECK(read_is(&t, 1 | 8, 1, "first")); /* the new one counts */
    /* A proposer of long ago is told, also by the one that left. */
    struct register_config old = t.proposer.config;
    old.members = first_state().members;
    proposer_init(&t.proposer, &old, buffer);
    CHECK_OK(cas(&t, 15, 1, "second"));
    CHECK_EQ(proposer_members(&t.proposer)->epoch, 3);
}

TEST(a_dead_set_is_not_voted_in)
{
    struct trio t;
    struct acceptor_set set = set_of(4, 0, 0);
    trio_init(&t);
    register_members(&t.proposer, &set, 1, 1, &t.e);
    trio_talk(&t, 7);
    while (!t.e.done) {
        register_timeout(&t.proposer, 1, &t.e);
        trio_talk(&t, 7);
    }
    CHECK_ERR(ERR_NO_QUORUM, t.e.err);
    CHECK(read_is(&t, 7, 1, "first"));
    CHECK_EQ(t.e.state.members.epoch, 1);
}

static enum err change_members(struct trio *t, const struct acceptor_set *set, uint64_t expected)
{
    register_members(&t->proposer, set, expected, 1, &t->e);
    trio_talk(t, 15);
    while (!t->e.done) {
        register_timeout(&t->proposer, 1, &t->e);
        trio_talk(t, 15);
    }
    return t->e.err;
}

TEST(members_are_changed_by_the_newest_value_only)
{
    struct trio t;
    struct acceptor_set first = set_of(1, 2, 3), set = set_of(1, 2, 4);
    trio_init(&t);
    CHECK_OK(cas(&t, 7, 1, "4 is leaving"));
    CHECK_ERR(ERR_CONFLICT, change_members(&t, &set, 1));
    CHECK(t.e.state.version == 2 && t.e.state.members.epoch == 1 && read_is(&t, 7, 2, "4 is leaving"));
    CHECK_OK(change_members(&t, &first, 1)); /* so it is, whatever the version */
    CHECK_EQ(t.e.state.members.epoch, 1);

    /* What somebody has begun is finished; only then the version counts. */
    CHECK_OK(change_members(&t, &set, 2));
    CHECK_OK(cas(&t, 15, 2, "back"));
    for (uint32_t i = 0; i < 4; i++) { /* {1 2 4} to {1 2 3}, decided, and not finished */
        t.acceptors[i].state.members.next = first;
        t.acceptors[i].state.members.epoch = 4;
    }
    set = set_of(1, 0, 0);
    CHECK_ERR(ERR_CONFLICT, change_members(&t, &set, 2));
    CHECK(t.e.state.version == 3 && acceptor_set_equal(&t.e.state.members.now, &first) && t.e.state.members.next.count == 0);
    CHECK_OK(change_members(&t, &set, 3));
    CHECK(read_is(&t, 1, 3, "back"));
}

TEST(an_acceptor_keeps_its_promise)
{
    struct register_state first = first_state();
    struct acceptor a, next;
    struct register_answer answer;
    acceptor_make(&a, cluster, 1, &first);
    struct register_request r = {
        .ask = REGISTER_PREPARE, .acceptor = 1, .node = 9, .epoch = 1, .ballot = {.round = 5, .node = 9}, .state = first};
    CHECK_EQ(acceptor_handle(&a, &r, &next, &answer), ACCEPTOR_SILENT); /* of another cluster */
    memcpy(r.cluster, cluster, sizeof cluster);
    CHECK_EQ(acceptor_handle(&a, &r, &next, &answer), ACCEPTOR_PERSIST);
    CHECK_EQ(answer.verdict, REGISTER_YES);
    a = next;
    CHECK_EQ(acceptor_handle(&a, &r, &next, &answer), ACCEPTOR_ANSWER); /* the same again */
    r.ballot.round = 4;
    CHECK_EQ(acceptor_handle(&a, &r, &next, &answer), ACCEPTOR_ANSWER);
    CHECK_EQ(answer.verdict, REGISTER_OUTBID);
    r.ask = REGISTER_ACCEPT;
    CHECK_EQ(acceptor_handle(&a, &r, &next, &answer), ACCEPTOR_ANSWER);
    CHECK_EQ(answer.verdict, REGISTER_OUTBID);
    r.ballot.round = 6;
    CHECK_EQ(acceptor_handle(&a, &r, &next, &answer), ACCEPTOR_PERSIST);
    CHECK(next.promised.round == 6 && next.accepted.round == 6);
    r.ask = REGISTER_PREPARE;
    r.ballot.round = 7;
    r.epoch = 0;
    CHECK_EQ(acceptor_handle(&a, &r, &next, &answer), ACCEPTOR_ANSWER);
    CHECK(answer.verdict == REGISTER_MOVED && answer.state.members.epoch == 1 && answer.state.size == 0);
}

/* ---- codec ---- */

static struct register_request a_request(const struct register_state *state)
{
    struct register_request r = {.ask = REGISTER_ACCEPT,
                                 .acceptor = 1,
                                 .node = 2,
                                 .boot = 3,
                                 .attempt = 4,
                                 .epoch = 5,
                                 .ballot = {6, 7, 8},
                                 .state = *state};
    memcpy(r.cluster, cluster, sizeof cluster);
    return r;
}

TEST(messages_survive_the_wire)
{
    struct register_state state = first_state();
    state.members.next = set_of(4, 5, 0);
    state.tags[3] = (struct register_tag){1, 2, 3};
    struct register_request request = a_request(&state), back;
    uint8_t bytes[1000];
    size_t size = 0;
    CHECK_OK(register_request_encode(&request, bytes, sizeof bytes, &size));
    CHECK_ERR(ERR_LIMIT, register_request_encode(&request, bytes, size - 1, &size));
    CHECK_OK(register_request_decode(bytes, size, &back));
    CHECK(back.ask == REGISTER_ACCEPT && back.attempt == 4 && back.epoch == 5 &&
          ballot_compare(back.ballot, request.ballot) == 0);
    CHECK(members_equal(&back.state.members, &state.members) && tag_equal(back.state.tags[3], state.tags[3]));
    CHECK_EQ(back.state.size, 5);
    CHECK_BYTES(back.state.bytes, "first", 5);
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *copy = malloc(cut + 1);
        memcpy(copy, bytes, cut);
        enum err err = register_request_decode(copy, cut, &back);
        free(copy);
        CHECK_ERR(ERR_TRUNCATED, err);
    }
}

/* The request with one byte changed is refused. */
static enum err changed(size_t at, uint8_t value)
{
    struct register_state state = first_state();
    struct register_request request = a_request(&state), back;
    uint8_t bytes[1000];
    size_t size = 0;
    if (register_request_encode(&request, bytes, sizeof bytes, &size) != OK) return OK;
    bytes[at] = value;
    return register_request_decode(bytes, size, &back);
}

TEST(what_cannot_be_is_refused)
{
    size_t state = sizeof(struct wire_request);
    CHECK_ERR(ERR_NEW_FORMAT, changed(0, 2));
    CHECK_ERR(ERR_DECODE, changed(0, 0));
    CHECK_ERR(ERR_DECODE, changed(2, 4));
    CHECK_ERR(ERR_DECODE, changed(2, REGISTER_PREPARE));
    CHECK_ERR(ERR_DECODE, changed(4, 1));
    CHECK_ERR(ERR_DECODE, changed(offsetof(struct wire_request, ballot), 0));
    CHECK_ERR(ERR_DECODE, changed(state, 0));
    CHECK_ERR(ERR_DECODE, changed(state + offsetof(struct disk_register, epoch), 0));
    CHECK_ERR(ERR_DECODE, changed(state + offsetof(struct disk_register, size), 4));
    CHECK_ERR(ERR_TRUNCATED, changed(state + offsetof(struct disk_register, size), 6));
    CHECK_ERR(ERR_DECODE, changed(state + offsetof(struct disk_register, size) + 3, 1));
    CHECK_ERR(ERR_DECODE, changed(state + offsetof(struct disk_register, now_count), 0));
    CHECK_ERR(ERR_DECODE, changed(state + offsetof(struct disk_register, now_count), 8));
    CHECK_ERR(ERR_DECODE, changed(state + offsetof(struct disk_register, next_count), 1));
    CHECK_ERR(ERR_DECODE, changed(state + offsetof(struct disk_register, now) + 8, 1)); /* not ascending */
}

/* ---- files ---- */

struct rig {
    struct sim *sim;
    struct io *io;
    struct mem *mem;
    struct io_task task;
    struct acceptor_file *file;
    enum err err;
    bool repaired;
    uint64_t round; /* to promise to */
    uint64_t answered;
};

static bool is_over(void *arg)
{
    const struct rig *r = arg;
    return r->task.finished;
}

/* Runs it as a task; with the power off to its end, where nothing has an effect any more. */
static void rig_run(struct rig *r, void (*what)(void *arg))
{
    r->err = io_task_start(r->io, &r->task, what, r);
    if (r->err == OK && sim_run_until(r->sim, is_over, r) == SIM_OFF)
        while (!r->task.finished && sim_step(r->sim)) {}
    io_task_done(&r->task);
    r->task = (struct io_task){0};
}

static void make(void *arg)
{
    struct rig *r = arg;
    struct register_state first = first_state();
    struct acceptor a;
    acceptor_make(&a, cluster, 1, &first);
    r->err = acceptor_file_make(r->io, r->mem, "state", &a);
}

static void open_it(void *arg)
{
    struct rig *r = arg;
    r->err = acceptor_file_open(r->io, r->mem, "state", &r->file, &r->repaired);
}

static void promise(void *arg)
{
    struct rig *r = arg;
    struct register_answer answer;
    struct register_request request = {
        .ask = REGISTER_PREPARE, .acceptor = 1, .node = 2, .boot = 1, .epoch = 1, .ballot = {.round = r->round, .node = 2}};
    memcpy(request.cluster, cluster, sizeof cluster);
    r->err = acceptor_file_handle(r->file, &request, &answer);
    if (r->err == OK && answer.verdict == REGISTER_YES) r->answered = r->round;
}

static void rig_open(struct rig *r, uint64_t seed)
{
    *r = (struct rig){.sim = sim_open(seed, false), .mem = mem_open(32 << 20)};
    r->io = sim_loop(r->sim);
}

static void close_file(struct rig *r)
{
    acceptor_file_close(r->file);
    r->file = NULL;
}

static void rig_close(struct rig *r)
{
    close_file(r);
    mem_close(r->mem);
    sim_close(r->sim);
}

static void spoil(struct rig *r, const char *name)
{
    disk_flip(sim_disk(r->sim, name), 20, 3);
}

/* Powers off during the n-th change while it promises; what was answered must be there. Says when the power did not go any
 * more. */
static unsigned cut_at(uint64_t seed, uint64_t n, bool *ret_went)
{
    struct rig r;
    unsigned failed = 0;
    rig_open(&r, seed);
    rig_run(&r, make);
    rig_run(&r, open_it);
    if (r.err != OK) failed = __LINE__;
    uint32_t boot = r.err == OK ? acceptor_file_now(r.file)->boot : 0;
    sim_cut_at(r.sim, n);
    for (r.round = 10; r.round < 13 && r.err == OK; r.round++) rig_run(&r, promise);
    *ret_went = sim_is_off(r.sim);
    if (r.err == OK && *ret_went) failed = __LINE__; /* an answer without power */
    if (*ret_went && acceptor_file_handle(r.file, &(struct register_request){0}, NULL) != ERR_STOPPED) failed = __LINE__;
    if (!*ret_went) sim_power_cut(r.sim);
    close_file(&r);
    sim_power_on(r.sim);
    rig_run(&r, open_it);
    if (r.err != OK || acceptor_file_now(r.file)->promised.round < r.answered) failed = __LINE__;
    if (r.err == OK && acceptor_file_now(r.file)->boot <= boot) failed = __LINE__;
    /* Whatever the crash left, now both are whole: either may be damaged. */
    for (uint32_t i = 0; i < 2 && failed == 0; i++) {
        close_file(&r);
        spoil(&r, i == seed % 2 ? "state/acceptor.0" : "state/acceptor.1");
        rig_run(&r, open_it);
        if (r.err != OK || !r.repaired || acceptor_file_now(r.file)->promised.round < r.answered) failed = __LINE__;
    }
    rig_close(&r);
    return failed;
}

TEST(a_cut_at_every_change_forgets_nothing)
{
    uint64_t cuts = 0;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        bool went = true;
        for (uint64_t n = 1; went; n++) {
            CHECK_EQ(cut_at(seed, n, &went), 0);
            cuts += went;
        }
    }
    CHECK(cuts >= 12 * 6); /* three promises, two files each */
}

TEST(a_lost_acceptor_is_not_a_new_one)
{
    struct rig r;
    rig_open(&r, 1);
    rig_run(&r, open_it);
    CHECK_ERR(ERR_NO_ACCEPTOR, r.err);
    rig_run(&r, make);
    CHECK_OK(r.err);
    rig_run(&r, make);
    CHECK_ERR(ERR_ACCEPTOR_EXISTS, r.err);
    rig_run(&r, open_it);
    CHECK_OK(r.err);
    CHECK(!r.repaired);
    CHECK_EQ(acceptor_file_now(r.file)->boot, 1);
    CHECK_BYTES(acceptor_file_now(r.file)->state.bytes, "first", 5);
    close_file(&r);
    spoil(&r, "state/acceptor.0");
    spoil(&r, "state/acceptor.1");
    rig_run(&r, open_it);
    CHECK_ERR(ERR_ACCEPTOR_LOST, r.err);
    rig_run(&r, make); /* somebody decided so */
    CHECK_OK(r.err);
    rig_close(&r);
}

TEST(a_failed_write_is_not_answered)
{
    struct rig r;
    rig_open(&r, 3);
    rig_run(&r, make);
    rig_run(&r, open_it);
    CHECK_OK(r.err);
    sim_fault(r.sim, SIM_WRITE_ERROR, 1000000, 1);
    r.round = 9;
    rig_run(&r, promise);
    CHECK_ERR(ERR_IO, r.err);
    rig_run(&r, promise);
    CHECK_ERR(ERR_STOPPED, r.err);
    close_file(&r);
    rig_run(&r, open_it);
    CHECK_OK(r.err);
    rig_run(&r, promise);
    CHECK_OK(r.err);
    rig_close(&r);
}

TEST(a_value_of_the_largest_size_is_kept)
{
    static uint8_t message[REGISTER_MESSAGE_MAX];
    struct register_state first = first_state();
    struct register_request back;
    size_t size = 0;
    memset(other_buffer, 0xa5, sizeof other_buffer);
    first.bytes = other_buffer;
    first.size = REGISTER_BYTES_MAX;
    struct register_request request = a_request(&first);
    CHECK_OK(register_request_encode(&request, message, sizeof message, &size));
    CHECK_OK(register_request_decode(message, size, &back));
    CHECK_BYTES(back.state.bytes, other_buffer, REGISTER_BYTES_MAX);
}

TESTS(a_value_is_read_and_replaced, too_few_acceptors_change_nothing, a_change_that_nobody_heard_of_is_undecided,
      members_change_in_two_steps, a_dead_set_is_not_voted_in, members_are_changed_by_the_newest_value_only,
      an_acceptor_keeps_its_promise, messages_survive_the_wire, what_cannot_be_is_refused,
      a_cut_at_every_change_forgets_nothing, a_lost_acceptor_is_not_a_new_one, a_failed_write_is_not_answered,
      a_value_of_the_largest_size_is_kept)
