/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who else talks over the links of a member: one user, who is told when they come and go.
 *
 * A link is his between `opened` and the end of `closing`. Who closes a link, because the roster says so or because the user
 * leaves, cuts it first, so that all operations of his end, and then waits for him: his streams are in his memory. Both may
 * happen to the same link at the same time; then the link is closed when he is through.
 *
 * `changed` is told from a timer: what is known changes within calls of his, too.
 */
#include "cluster/member_internal.h"

void user_opened(struct peer *peer)
{
    struct member *m = peer->member;
    if (!m->attached) return;
    assert(!peer->users && !peer->parting);
    peer->users = true;
    m->user.opened(m->user.arg, peer->number, peer->link);
}

void user_up(struct peer *peer)
{
    if (peer->users) peer->member->user.up(peer->member->user.arg, peer->number);
}

void user_down(struct peer *peer)
{
    if (peer->users) peer->member->user.down(peer->member->user.arg, peer->number);
}

void user_message(struct peer *peer, struct link_message *message)
{
    if (peer->users)
        peer->member->user.message(peer->member->user.arg, peer->number, message);
    else
        link_message_done(message);
}

void user_part(struct peer *peer)
{
    struct member *m = peer->member;
    if (peer->users) {
        peer->users = false;
        peer->parting = true;
        m->parting++;
        m->user.closing(m->user.arg, peer->number);
        peer->parting = false;
        m->parting--;
    }
    while (peer->parting) io_task_sleep(m->io, IO_MS_NS); /* in another task */
}

/* ---- changes ---- */

static void changed_fired(struct io_timer *timer)
{
    struct member *m = CONTAINER(timer, struct member, tell_changed);
    m->changed = false;
    m->user.changed(m->user.arg);
}

void user_changed(struct member *m)
{
    if (!m->attached || m->changed) return;
    m->changed = true;
    m->tell_changed.fire = changed_fired;
    io_after(m->io, 0, &m->tell_changed);
}

/* ---- coming and going ---- */

static struct peer *first_of_user(const struct member *m)
{
    for (struct list *l = m->peers.next; l != &m->peers; l = l->next) {
        struct peer *peer = CONTAINER(l, struct peer, of_member);
        if (peer->users) return peer;
    }
    return NULL;
}

static void detach(struct member *m)
{
    struct peer *peer;
    m->attached = false;
    io_cancel(m->io, &m->tell_changed);
    m->changed = false;
    while ((peer = first_of_user(m)) != NULL) {
        peer_cut(peer);
        user_part(peer);
    }
    while (m->parting > 0) io_task_sleep(m->io, IO_MS_NS); /* of links that are being closed */
}

void member_attach(struct member *member, const struct member_user *user)
{
    if (user == NULL) {
        detach(member);
        return;
    }
    assert(!member->attached && member->parting == 0);
    member->user = *user;
    member->attached = true;
    for (struct list *l = member->peers.next; l != &member->peers; l = l->next) {
        struct peer *peer = CONTAINER(l, struct peer, of_member);
        user_opened(peer);
        if (link_is_up(peer->link)) user_up(peer);
    }
    user_changed(member);
}
