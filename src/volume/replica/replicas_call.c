/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The register of the protocol is the roster: questions and proposals of all hosts at once.
 *
 * A host hears a value only after one was read since the host began (rule 18), and then every newer one that this node learns,
 * because what a member knows was decided. A proposal is an edit that takes place when the volume's version is the one before;
 * those of several volumes go in one change. What cannot be answered is not: the core asks again.
 */
#include "volume/replica/replicas_internal.h"

#define TURN_NS (60 * IO_S_NS) /* whoever asks kicks */
#define AGAIN_NS (200 * IO_MS_NS)

void call_fetch(void *arg)
{
    struct hosted *hosted = arg;
    hosted->fetch = true;
    task_kick(&hosted->all->caller);
}

void call_propose(void *arg, const struct replica_config *config)
{
    struct hosted *hosted = arg;
    hosted->proposal = *config;
    hosted->proposes = true;
    task_kick(&hosted->all->caller);
}

/* ---- telling ---- */

static void tell(struct hosted *hosted, bool again)
{
    const struct roster *roster = member_roster(hosted->all->config.member);
    struct placement place;
    if (roster == NULL || !placement_find(roster, hosted->number, &place) || place.config.version == 0) return;
    if (place.config.version < hosted->told || (place.config.version == hosted->told && !again)) return;
    uint32_t known = hosted->place.node_count;
    hosted->told = place.config.version;
    hosted->place = place;
    if (place.node_count > known) wires_tell_links(hosted, known);
    host_config(hosted->host, &place.config);
}

/* What is known to be newer than what hosts were told. */
static void tell_news(struct replicas *all)
{
    for (uint32_t i = 0; i < all->hosted_count; i++)
        if (all->hosted[i]->heard) tell(all->hosted[i], false);
}

/* ---- proposing ---- */

/* Several are one change. Those whose version has been replaced meanwhile are left out: their hosts hear the newer one. */
static enum err put_proposals(struct roster *roster, void *arg, struct member_why *why)
{
    struct replicas *all = arg;
    uint32_t changed = 0;
    for (uint32_t i = 0; i < all->hosted_count; i++) {
        struct hosted *h = all->hosted[i];
        struct placement place;
        if (!h->asks_change || !placement_find(roster, h->number, &place)) continue;
        if (place.stage != PLACE_LIVE || place.config.version + 1 != h->asked.version) continue;
        place.config = h->asked;
        place.forcing = 0; /* it goes on without that, or by it */
        TRY(placement_put(roster, h->number, &place, h->value));
        changed++;
    }
    (void)why; /* nobody reads it */
    return changed > 0 ? OK : ERR_CONFLICT;
}

/* [task] */
static enum err ask(struct replicas *all, bool change)
{
    struct member_why why;
    enum err err = change ? member_change(all->config.member, put_proposals, all, &why) : ERR_CONFLICT;
    return err == ERR_CONFLICT ? member_read(all->config.member, &why) : err;
}

/* [task] What is open now is answered by one change, or by one reading; what is asked meanwhile waits for the next. Hosts
 * come and go while it waits. False: something is still open. */
static bool answer(struct replicas *all)
{
    bool any = false, change = false;
    for (uint32_t i = 0; i < all->hosted_count; i++) {
        struct hosted *h = all->hosted[i];
        h->asks = h->fetch || h->proposes;
        h->asks_change = h->proposes;
        h->asked = h->proposal;
        any = any || h->asks;
        change = change || h->proposes;
        h->fetch = h->proposes = false;
    }
    if (!any) return true;
    enum err err = ask(all, change);
    for (uint32_t i = 0; i < all->hosted_count; i++) {
        struct hosted *h = all->hosted[i];
        h->fetch = h->fetch || (h->asks && err != OK); /* what became of a proposal, too, is told by reading */
        if (!h->asks || err != OK) continue;
        h->heard = true;
        tell(h, true);
    }
    return err == OK;
}

void replicas_call(void *arg)
{
    struct replicas *all = arg;
    bool good;
    do {
        good = answer(all);
        tell_news(all);
    } while (task_rest(all, &all->caller, good ? TURN_NS : AGAIN_NS));
    task_over(all, &all->caller);
}
