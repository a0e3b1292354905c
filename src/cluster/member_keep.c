/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The housekeeper: a task that looks, whenever something changed and once a second, what is to be done, and does it.
 *
 *     links       one to each node of the roster; one that was removed is told so first
 *     joins       whoever waits is answered
 *     disk        a renewed certificate, and what was learned
 *     news        to all: one that was lost is told again
 *     roster      this node: LIVE, with the acceptor and the addresses that it has
 *                 the lowest numbered node that is up: acceptors as roster_acceptors says, joiners forgotten whose token has
 *                 ended, and nodes that leave
 *
 * That two nodes take themselves for the lowest does no harm: the register decides. What fails is tried again, less often.
 */
#include <stdio.h>

#include "base/bytes.h"
#include "cluster/member_internal.h"

#define TURN_NS IO_S_NS
#define GONE_NS (2 * IO_S_NS)
#define AGAIN_NS (3 * IO_S_NS)
#define TELL_NS (60 * IO_S_NS)
enum { FORGET_AFTER_S = 60, FORGET_MS = 600000 };

/* ---- waking up ---- */

void keeper_kick(struct member *m)
{
    m->kicked = true;
    if (m->keeping) io_task_wake(&m->keeper);
}

static void wake_fired(struct io_timer *timer)
{
    keeper_kick(CONTAINER(timer, struct member, wake));
}

static void rest(struct member *m)
{
    m->wake.fire = wake_fired;
    io_after(m->io, TURN_NS, &m->wake);
    while (!m->kicked && !m->stopping) io_task_park();
    io_cancel(m->io, &m->wake);
    m->kicked = false;
}

/* ---- links ---- */

static void lost(struct link_stream *stream)
{
    (void)stream; /* whoever waits for an answer asks again */
}

static bool same_addresses(const struct peer *peer, const struct roster_node *node)
{
    if (peer->address_count != node->address_count) return false;
    for (uint32_t i = 0; i < node->address_count; i++)
        if (strcmp(peer->addresses[i], node->addresses[i]) != 0) return false;
    return true;
}

void peer_cut(struct peer *peer)
{
    for (uint32_t i = 0; i < LINK_PATHS_MAX; i++) link_cut(peer->link, i);
}

/* [task] Its operations end when its connections do. */
static void peer_close(struct peer *peer)
{
    struct member *m = peer->member;
    list_remove(&peer->of_member);
    peer_cut(peer);
    user_part(peer);
    while (peer->under_way > 0) io_task_sleep(m->io, IO_MS_NS);
    link_stream_done(&peer->stream);
    link_close(peer->link);
    mem_free(m->mem, peer);
}

void peers_close(struct member *m)
{
    while (!list_empty(&m->peers)) peer_close(CONTAINER(m->peers.next, struct peer, of_member));
}

static void take_addresses(struct peer *peer, const struct roster_node *node, const char *ret_addresses[ROSTER_ADDRESSES_MAX])
{
    peer->address_count = node->address_count;
    memcpy(peer->addresses, node->addresses, sizeof peer->addresses);
    for (uint32_t i = 0; i < node->address_count; i++) ret_addresses[i] = peer->addresses[i];
}

static void peer_open(struct member *m, const struct roster_node *node)
{
    const char *addresses[ROSTER_ADDRESSES_MAX];
    struct peer *peer = mem_alloc(m->mem, sizeof *peer);
    if (peer == NULL) return;
    *peer = (struct peer){.member = m, .number = node->number};
    take_addresses(peer, node, addresses);
    enum err err = link_open(m->links, node->number, addresses, node->address_count, peer, &peer->link);
    if (err != OK) {
        member_say(m, true, "no link to node %s: %s", node->name, err_text(err));
        mem_free(m->mem, peer);
        return;
    }
    link_stream_init(peer->link, &peer->stream, CONTROL_STREAM, false, lost);
    list_push(&m->peers, &peer->of_member);
    user_opened(peer);
}

/* What does not change does not cost a connection: addresses come and go that carry nothing. */
static void peer_follow(struct peer *peer, const struct roster_node *node)
{
    const char *addresses[ROSTER_ADDRESSES_MAX];
    if (same_addresses(peer, node)) return;
    take_addresses(peer, node, addresses);
    enum err err = link_addresses(peer->link, addresses, node->address_count);
    if (err != OK) member_say(peer->member, true, "no link to the new addresses of node %s: %s", node->name, err_text(err));
}

/* The first peer that is not in the roster any more, and has heard why. */
static struct peer *peer_wrong(struct member *m, uint64_t now_ns)
{
    for (struct list *l = m->peers.next; l != &m->peers; l = l->next) {
        struct peer *peer = CONTAINER(l, struct peer, of_member);
        const struct roster_node *node = roster_find(m->roster, peer->number);
        if (node == NULL && peer->gone_ns == 0) {
            peer->gone_ns = now_ns;
            wire_state(m, peer); /* so it hears why */
        }
        if (node == NULL && now_ns - peer->gone_ns > GONE_NS) return peer;
    }
    return NULL;
}

static void follow_links(struct member *m)
{
    struct peer *wrong;
    if (m->removed) {
        peers_close(m);
        return;
    }
    while ((wrong = peer_wrong(m, io_now_ns(m->io))) != NULL) peer_close(wrong);
    for (uint32_t i = 0; i < m->roster->node_count; i++) {
        const struct roster_node *node = &m->roster->nodes[i];
        struct peer *peer = peer_find(m, node->number);
        if (peer != NULL)
            peer_follow(peer, node);
        else if (node->number != m->number)
            peer_open(m, node);
    }
}

/* ---- joins, disk, news ---- */

static void answer_joins(struct member *m)
{
    for (struct list *l; !m->stopping && (l = list_pop(&m->joins)) != NULL;) {
        struct waiting_join *w = CONTAINER(l, struct waiting_join, link);
        join_answer_one(m, w->join);
        mem_free(m->mem, w);
    }
}

/* Only the certificate and its key are of the renewal: the rest may have changed since. */
static enum err save_renewal(struct member *m)
{
    gate_enter(&m->book);
    struct identity identity = *identity_file_now(m->identities);
    identity.key = m->renewal.key;
    identity.certificate = m->renewal.certificate;
    m->renewed = false;
    enum err err = identity_file_save(m->identities, &identity, identity_file_book(m->identities));
    m->renewed |= err != OK;
    gate_leave(&m->book);
    return err;
}

static void save(struct member *m)
{
    enum err err = OK;
    if (m->renewed) err = save_renewal(m);
    if (err == OK) err = state_save(m);
    uint64_t now = io_now_ns(m->io);
    if (err == OK || (m->told_disk_ns > 0 && now - m->told_disk_ns < TELL_NS)) return;
    m->told_disk_ns = now;
    member_say(m, true, "cannot write into %.200s what this node keeps of its cluster: %s", m->config.folder, err_text(err));
}

static void tell_news(struct member *m)
{
    for (struct list *l = m->peers.next; l != &m->peers; l = l->next) wire_news(m, CONTAINER(l, struct peer, of_member));
}

/* ---- this node in the roster ---- */

static bool stands_right(const struct roster_node *there, const struct roster_node *self)
{
    if (there->stage != ROSTER_LIVE || there->acceptor != self->acceptor || there->role != self->role) return false;
    if (strcmp(there->name, self->name) != 0 || memcmp(there->store, self->store, sizeof self->store) != 0) return false;
    if (there->address_count != self->address_count) return false;
    for (uint32_t i = 0; i < self->address_count; i++)
        if (strcmp(there->addresses[i], self->addresses[i]) != 0) return false;
    return true;
}

/* A name that another has is not taken: then the old one stays. */
static enum err put_self(struct roster *roster, void *arg, struct member_why *why)
{
    struct roster_node node = *(const struct roster_node *)arg;
    const struct roster_node *there = roster_find(roster, node.number), *same = roster_named(roster, node.name);
    if (there == NULL || there->stage == ROSTER_LEAVING)
        return member_tell_why(why, ERR_NO_NAME, "this node is no member any more");
    node.extra = there->extra;
    if (same != NULL && same->number != node.number) memcpy(node.name, there->name, sizeof node.name);
    return roster_put(roster, &node);
}

static enum err settle_self(struct member *m, struct member_why *why)
{
    struct roster_node self;
    const struct roster_node *there = roster_find(m->roster, m->number);
    if (there->stage == ROSTER_LEAVING) return OK;
    member_self(m, m->acceptor_id, &self);
    const struct roster_node *same = roster_named(m->roster, self.name);
    if (same != NULL && same->number != m->number) memcpy(self.name, there->name, sizeof self.name);
    if (stands_right(there, &self)) return OK;
    if (there->stage == ROSTER_JOINING) member_say(m, false, "taking up our place as node %u", m->number);
    return member_change(m, put_self, &self, why);
}

/* ---- what is unfinished ---- */

static bool is_keeper(const struct member *m)
{
    for (uint32_t i = 0; i < m->roster->node_count; i++) {
        const struct roster_node *node = &m->roster->nodes[i];
        if (node->stage == ROSTER_LIVE && member_is_up(m, node->number)) return node->number == m->number;
    }
    return false;
}

static enum err settle_acceptors(struct member *m, struct member_why *why)
{
    const struct acceptor_set *now = &m->known.members.now;
    char text[300];
    bool changed = false;
    TRY(call_members(m, &changed, why));
    if (changed)
        member_say(m, false, "the register is held by %u acceptor%s now: %s", now->count, now->count > 1 ? "s" : "",
                   members_text(&m->known.members, text, sizeof text));
    return OK;
}

static uint64_t seen_since(const struct member *m, uint32_t number)
{
    for (uint32_t i = 0; i < m->seen_count; i++)
        if (m->seen[i].number == number) return m->seen[i].since_ns;
    return io_now_ns(m->io);
}

static void note_joiners(struct member *m)
{
    struct seen seen[ROSTER_NODES_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < m->roster->node_count; i++) {
        const struct roster_node *node = &m->roster->nodes[i];
        if (node->stage == ROSTER_JOINING) seen[count++] = (struct seen){node->number, seen_since(m, node->number)};
    }
    memcpy(m->seen, seen, count * sizeof seen[0]);
    m->seen_count = count;
}

/* The end of a token is by the clock of who issued it, and ours may be hours ahead: a joiner has some time in any case. */
static bool is_late(const struct member *m, const struct roster_node *joiner)
{
    uint32_t forget_ms = m->config.forget_ms > 0 ? m->config.forget_ms : FORGET_MS;
    if (m->config.wall_s() <= joiner->until_s + FORGET_AFTER_S) return false;
    return io_now_ns(m->io) - seen_since(m, joiner->number) > forget_ms * IO_MS_NS;
}

static bool is_over(const struct member *m, const struct roster_node *node)
{
    if (node->stage == ROSTER_JOINING) return is_late(m, node);
    return node->stage == ROSTER_LEAVING && m->known.members.next.count == 0 &&
           !acceptor_set_has(&m->known.members.now, node->acceptor);
}

struct dropping {
    const struct member *member;
    uint32_t number;
    enum roster_stage stage;
};

/* The roster is a copy of the one that is known, so what is known of the acceptors holds for it: once this node leaves and is
 * none of them, it never is again (rule 13 of register.c). */
static enum err drop(struct roster *roster, void *arg, struct member_why *why)
{
    const struct dropping *d = arg;
    const struct roster_node *there = roster_find(roster, d->number);
    if (there == NULL || there->stage != d->stage) return member_tell_why(why, ERR_NO_NAME, "it is gone already");
    if (there->stage == ROSTER_LEAVING && !is_over(d->member, there))
        return member_tell_why(why, ERR_BUSY, "its acceptor still holds the register");
    roster_drop(roster, d->number);
    return OK;
}

static enum err settle_gone(struct member *m, struct member_why *why)
{
    for (uint32_t i = 0; i < m->roster->node_count; i++) {
        struct roster_node node = m->roster->nodes[i];
        if (!is_over(m, &node)) continue;
        struct dropping dropping = {m, node.number, node.stage};
        enum err err = member_change(m, drop, &dropping, why);
        if (err == OK)
            member_say(m, false,
                       node.stage == ROSTER_JOINING ? "node %s never came: its place is free again" : "node %s was removed",
                       node.name);
        return err == ERR_NO_NAME ? OK : err;
    }
    return OK;
}

/* Only what was decided says so: an acceptor may have accepted a roster without us that nobody else has. */
static void note_removal(struct member *m)
{
    bool removed = m->known.version > 0 && m->roster->next > 0 && roster_find(m->roster, m->number) == NULL;
    if (removed && !m->removed)
        member_say(m, true, "this node was removed from cluster %s; izar cluster create or join makes it a member again",
                   m->roster->name);
    m->removed = removed;
}

/* What is not to be, is tried again later: others may be up then. */
static void settle(struct member *m)
{
    struct member_why why = {.text = ""};
    uint64_t now = io_now_ns(m->io);
    uint32_t up, of;
    note_removal(m);
    note_joiners(m);
    bool able = m->known.version > 0 && m->roster->next > 0 && !m->removed && !m->stopping;
    if (!able || now < m->settle_ns || !member_has_majority(m, &up, &of)) return;
    enum err err = settle_self(m, &why);
    if (err == OK && is_keeper(m)) err = settle_acceptors(m, &why);
    if (err == OK && is_keeper(m)) err = settle_gone(m, &why);
    m->settle_ns = err == OK ? 0 : now + AGAIN_NS;
    if (err == OK || (m->told_ns > 0 && now - m->told_ns < TELL_NS)) return;
    m->told_ns = now;
    member_say(m, true, "the cluster is not in order yet: %s", why.text);
}

void keeper_run(void *arg)
{
    struct member *m = arg;
    while (!m->stopping) {
        follow_links(m);
        answer_joins(m);
        save(m);
        tell_news(m);
        settle(m);
        save(m);
        rest(m);
    }
    m->keeping = false;
}

/* ---- removing ---- */

/* Whoever is left must have data: such a node has the key of the CA, too. */
static bool has_data(const struct roster *roster)
{
    for (uint32_t i = 0; i < roster->node_count; i++)
        if (roster->nodes[i].stage == ROSTER_LIVE && roster->nodes[i].role == ROSTER_DATA) return true;
    return false;
}

static enum err tell_last(const struct roster_node *node, struct member_why *why)
{
    return member_tell_why(why, ERR_BUSY, "without node %s no node with data would be left", node->name);
}

/* Why not, before anything is changed: a majority of those who would hold the register then must be up. */
static enum err may_go(struct member *m, const struct roster_node *node, struct member_why *why)
{
    struct roster *left = m->draft;
    uint32_t up = 0;
    *left = *m->roster;
    roster_drop(left, node->number);
    struct acceptor_set set = roster_acceptors(left, &m->known.members.now);
    if (!has_data(left)) return tell_last(node, why);
    for (uint32_t i = 0; i < set.count; i++) {
        const struct roster_node *of = roster_of_acceptor(left, set.ids[i]);
        up += of != NULL && member_is_up(m, of->number);
    }
    if (up > set.count / 2) return OK;
    member_help(why, "start the nodes that are missing first; izar cluster status names them");
    return member_tell_why(why, ERR_BUSY, "without node %s the register would be held by %u acceptor%s, of which %u %s up",
                           node->name, set.count, set.count > 1 ? "s" : "", up, up == 1 ? "is" : "are");
}

static enum err begin_leaving(struct roster *roster, void *arg, struct member_why *why)
{
    const uint32_t *number = arg;
    const struct roster_node *there = roster_find(roster, *number);
    if (there == NULL) return member_tell_why(why, ERR_NO_NAME, "there is no node %u in this cluster", *number);
    struct roster_node node = *there;
    node.stage = ROSTER_LEAVING;
    node.until_s = 0;
    TRY(roster_put(roster, &node));
    return has_data(roster) ? OK : tell_last(&node, why); /* others may have removed some since may_go looked */
}

enum err member_remove(struct member *m, uint32_t number, struct member_why *ret_why)
{
    TRY(member_read(m, ret_why));
    const struct roster_node *there = roster_find(m->roster, number);
    if (there == NULL) return member_tell_why(ret_why, ERR_NO_NAME, "there is no node %u in this cluster", number);
    struct roster_node node = *there;
    if (number == m->number) {
        member_help(ret_why, "izar cluster remove %s on another node", node.name);
        return member_tell_why(ret_why, ERR_ARGUMENT, "a node does not remove itself");
    }
    TRY(may_go(m, &node, ret_why));
    TRY(member_change(m, begin_leaving, &number, ret_why));
    enum err err = settle_acceptors(m, ret_why);
    struct dropping dropping = {m, number, ROSTER_LEAVING};
    if (err == OK) err = member_change(m, drop, &dropping, ret_why);
    if (err == OK) member_say(m, false, "node %s was removed", node.name);
    if (err == OK || err == ERR_NO_NAME) return OK; /* the housekeeper was faster */
    struct member_why rest = *ret_why;
    return member_tell_why(ret_why, err, "node %s is leaving, and will be gone when a majority answers: %.250s", node.name,
                           rest.text);
}
