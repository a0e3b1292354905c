/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading and changing what the cluster agrees on: one call of the proposer at a time, each by a task that waits for it.
 *
 * A change is an edit of the newest roster that is known. When somebody was faster it is made again of his; when its fate is
 * open it is proposed again with the same tag, which says whether it took place; when that does not tell either, its caller
 * hears ERR_UNDECIDED and nothing is guessed.
 */
#include "base/bytes.h"
#include "cluster/member_internal.h"

enum { TRIES_MAX = 40, AGAIN_MAX = 3, CROWD_MS = 40 };
#define CROWD_NS (6 * IO_S_NS)

static uint64_t chance(struct member *m)
{
    uint64_t random;
    io_random(m->io, &random, sizeof random);
    return random;
}

/* ---- steps ---- */

static void apply(struct member *m, const struct register_effects *e)
{
    if (e->timer_ms > 0 || e->done) io_cancel(m->io, &m->timer);
    if (e->timer_ms > 0) io_after(m->io, e->timer_ms * IO_MS_NS, &m->timer);
    if (e->done) {
        m->effects = *e;
        m->done = true;
        io_task_wake(m->caller);
    }
    for (uint32_t i = 0; i < e->to_count; i++) wire_request(m, e->to[i], &e->request);
}

static void timer_fired(struct io_timer *timer)
{
    struct member *m = CONTAINER(timer, struct member, timer);
    struct register_effects e;
    register_timeout(&m->proposer, chance(m), &e);
    apply(m, &e);
}

void call_answered(struct member *m, const struct register_answer *answer)
{
    struct register_effects e;
    if (proposer_is_idle(&m->proposer)) return;
    register_answered(&m->proposer, answer, chance(m), &e);
    apply(m, &e);
}

void call_stop(struct member *m)
{
    if (!m->active || proposer_is_idle(&m->proposer)) return;
    m->proposer.attempts = 0;
    io_cancel(m->io, &m->timer);
    timer_fired(&m->timer);
}

static void begin(struct member *m)
{
    m->timer.fire = timer_fired;
    m->caller = io_task_self();
    m->done = false;
    if (m->known.version > 0 && m->roster->next > 0) proposer_heard(&m->proposer, &m->known.members);
}

/* [task] Waits for the end of the call, and keeps what was found. Its bytes are the proposer's, or those of the change. */
static enum err end(struct member *m, const struct register_effects *first)
{
    apply(m, first);
    while (!m->done) io_task_park();
    m->caller = NULL;
    if (m->effects.state.version > 0) state_learn(m, &m->effects.state);
    return m->effects.err;
}

/* ---- words ---- */

const char *majority_text(const struct member *m, char *buf, size_t size)
{
    const struct acceptor_set *now = &m->known.members.now;
    uint32_t up, of, named = 0;
    struct text t;
    text_init(&t, buf, size);
    member_has_majority(m, &up, &of);
    text_add(&t, "%u of %u acceptor%s %s reachable", up, of, of == 1 ? "" : "s", up == 1 ? "is" : "are");
    for (uint32_t i = 0; i < m->roster->node_count; i++) {
        const struct roster_node *node = &m->roster->nodes[i];
        if (!acceptor_set_has(now, node->acceptor) || member_is_up(m, node->number)) continue;
        text_add(&t, "%s%s", named++ > 0 ? ", " : "; missing: ", node->name);
    }
    return buf;
}

/* What an edit refuses it has said by itself. What was proposed may have happened, whatever ends the call. */
static enum err tell(struct member *m, enum err err, struct member_why *why)
{
    char text[200];
    if (err == OK) return OK;
    majority_text(m, text, sizeof text);
    if (m->stopping && err != ERR_UNDECIDED) return member_tell_why(why, ERR_STOPPED, "this node is stopping");
    if (err == ERR_NO_QUORUM) member_tell_why(why, err, "nothing was changed: %s", text);
    if (err == ERR_UNDECIDED) member_tell_why(why, err, "it is not known whether that was changed: %s", text);
    if (err == ERR_CONFLICT) member_tell_why(why, err, "other nodes change the cluster all the time; nothing was changed");
    if (why->text[0] == '\0') member_tell_why(why, err, "%s", err_text(err));
    if (err == ERR_NO_QUORUM || err == ERR_UNDECIDED)
        member_help(why, "start the missing nodes; izar cluster status looks again");
    if (err == ERR_CONFLICT) member_help(why, "try again");
    return err;
}

static enum err check_active(struct member *m, struct member_why *why)
{
    *why = (struct member_why){.text = ""};
    if (m->stopping) return member_tell_why(why, ERR_STOPPED, "this node is stopping");
    if (m->active) return OK;
    member_help(why, "izar cluster create NAME makes one, izar cluster join TOKEN joins one");
    return member_tell_why(why, ERR_NO_NAME, "this node belongs to no cluster");
}

/* ---- calls ---- */

/* [task] Nothing was changed, and enough of them are there: others were faster all the time. After a moment it may be our turn;
 * but an acceptor that is there and silent is not waited for much longer. */
static bool is_crowded(struct member *m, enum err err, uint64_t since_ns)
{
    uint32_t up, of;
    if (err != ERR_NO_QUORUM || m->stopping || !member_has_majority(m, &up, &of)) return false;
    if (io_now_ns(m->io) - since_ns > CROWD_NS) return false;
    io_task_sleep(m->io, (1 + chance(m) % CROWD_MS) * IO_MS_NS);
    return !m->stopping;
}

/* [task] */
static enum err read_once(struct member *m)
{
    struct register_effects e;
    begin(m);
    register_read(&m->proposer, chance(m), &e);
    return end(m, &e);
}

enum err member_read(struct member *m, struct member_why *ret_why)
{
    TRY(check_active(m, ret_why));
    gate_enter(&m->calls);
    uint64_t since_ns = io_now_ns(m->io);
    enum err err = check_active(m, ret_why);
    if (err == OK) {
        do {
            err = read_once(m);
        } while (is_crowded(m, err, since_ns));
    }
    gate_leave(&m->calls);
    return tell(m, err, ret_why);
}

/* Who should hold the register as far as is known at this moment, if that is somebody else than does. */
static bool should_hold(const struct member *m, struct acceptor_set *ret_set)
{
    const struct register_members *members = &m->known.members;
    struct acceptor_set set = roster_acceptors(m->roster, members->next.count > 0 ? &members->next : &members->now);
    *ret_set = set;
    return set.count > 0 && (members->next.count > 0 || !acceptor_set_equal(&set, &members->now));
}

/* [task] As the roster has them that is known now, behind the gate, and only as long as it is the newest one (rule 13 of
 * register.c): so nobody becomes an acceptor who is leaving. */
static enum err members_once(struct member *m, bool *ret_changed)
{
    struct register_effects e;
    struct acceptor_set set;
    if (m->known.version == 0 || m->roster->next == 0) return ERR_NO_QUORUM;
    if (!should_hold(m, &set)) return OK;
    begin(m);
    register_members(&m->proposer, &set, m->known.version, chance(m), &e);
    enum err err = end(m, &e);
    *ret_changed = err == OK;
    return err;
}

enum err call_members(struct member *m, bool *ret_changed, struct member_why *why)
{
    struct acceptor_set set;
    TRY(check_active(m, why));
    if (!should_hold(m, &set)) return OK; /* the housekeeper asks all the time */
    gate_enter(&m->calls);
    enum err err = check_active(m, why);
    if (err == OK) {
        err = ERR_CONFLICT;
        for (uint32_t i = 0; i < TRIES_MAX && err == ERR_CONFLICT && !m->stopping; i++) err = members_once(m, ret_changed);
    }
    gate_leave(&m->calls);
    return tell(m, err, why);
}

/* [task] One change, and again with the same tag as long as it is open what became of it. */
static enum err propose(struct member *m, const void *bytes, size_t size)
{
    struct register_effects e;
    struct register_change change = {
        .expected = m->known.version, .tag = register_new_tag(&m->proposer), .bytes = bytes, .size = (uint32_t)size};
    uint64_t since_ns = io_now_ns(m->io);
    enum err err = ERR_UNDECIDED;
    for (uint32_t i = 0; i < AGAIN_MAX || is_crowded(m, ERR_NO_QUORUM, since_ns); i++) {
        begin(m);
        register_cas(&m->proposer, &change, chance(m), &e);
        err = end(m, &e);
        change.again |= err == ERR_UNDECIDED;
        bool told = m->effects.state.version > 0; /* decided, and it cannot be told any more how */
        if (err != ERR_UNDECIDED || told || m->stopping) break;
    }
    return err;
}

/* [task] What is known must be what was decided: it is read when it is not known at all. */
static enum err edit_and_propose(struct member *m, member_edit *edit, void *arg, void *bytes, struct member_why *why)
{
    size_t size;
    enum err err = ERR_CONFLICT;
    uint64_t since_ns = io_now_ns(m->io);
    for (uint32_t i = 0; i < TRIES_MAX && (err == ERR_CONFLICT || is_crowded(m, err, since_ns)); i++) {
        bool unknown = m->known.version == 0 || m->roster->next == 0;
        err = unknown ? read_once(m) : OK;
        if (err != OK) continue;
        if (m->known.version == 0 || m->roster->next == 0) return ERR_NO_QUORUM;
        const void *known = m->bytes;
        *m->draft = *m->roster;
        TRY(edit(m->draft, arg, why));
        assert(m->bytes == known); /* an edit does not wait: its draft points into them */
        err = roster_encode(m->draft, bytes, REGISTER_BYTES_MAX, &size);
        if (err == OK) err = roster_decode(bytes, size, m->draft); /* what others could not read is not proposed */
        if (err == OK) err = propose(m, bytes, size);
    }
    return err;
}

enum err member_change(struct member *m, member_edit *edit, void *arg, struct member_why *ret_why)
{
    TRY(check_active(m, ret_why));
    gate_enter(&m->calls);
    enum err err = check_active(m, ret_why);
    void *bytes = err == OK ? mem_alloc(m->mem, REGISTER_BYTES_MAX) : NULL;
    if (err == OK) err = bytes != NULL ? edit_and_propose(m, edit, arg, bytes, ret_why) : ERR_NO_MEMORY;
    mem_free(m->mem, bytes);
    gate_leave(&m->calls);
    return tell(m, err, ret_why);
}
