/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looking things up in a roster, changing a copy of it, and the rule of who holds the register.
 */
#include "cluster/roster.h"

#include <assert.h>
#include <string.h>

enum { ACCEPTORS_OF_MANY = 5, ACCEPTORS_OF_THREE = 3 };

const struct roster_node *roster_find(const struct roster *roster, uint32_t number)
{
    for (uint32_t i = 0; i < roster->node_count; i++)
        if (roster->nodes[i].number == number) return &roster->nodes[i];
    return NULL;
}

const struct roster_node *roster_named(const struct roster *roster, const char *name)
{
    for (uint32_t i = 0; i < roster->node_count; i++)
        if (strcmp(roster->nodes[i].name, name) == 0) return &roster->nodes[i];
    return NULL;
}

const struct roster_node *roster_of_acceptor(const struct roster *roster, uint64_t acceptor)
{
    for (uint32_t i = 0; i < roster->node_count; i++)
        if (roster->nodes[i].acceptor == acceptor) return &roster->nodes[i];
    return NULL;
}

enum err roster_put(struct roster *roster, const struct roster_node *node)
{
    uint32_t at = 0;
    while (at < roster->node_count && roster->nodes[at].number < node->number) at++;
    if (at == roster->node_count || roster->nodes[at].number != node->number) {
        if (roster->node_count == ROSTER_NODES_MAX) return ERR_LIMIT;
        memmove(&roster->nodes[at + 1], &roster->nodes[at], (roster->node_count - at) * sizeof roster->nodes[0]);
        roster->node_count++;
    }
    roster->nodes[at] = *node;
    return OK;
}

void roster_drop(struct roster *roster, uint32_t number)
{
    uint32_t at = 0;
    while (at < roster->node_count && roster->nodes[at].number != number) at++;
    if (at == roster->node_count) return;
    roster->node_count--;
    memmove(&roster->nodes[at], &roster->nodes[at + 1], (roster->node_count - at) * sizeof roster->nodes[0]);
}

/* ---- volumes and hosts ---- */

struct records {
    struct roster_record *at;
    uint32_t *count, max, bytes_max;
};

static struct records volumes_of(struct roster *r)
{
    return (struct records){r->volumes, &r->volume_count, ROSTER_VOLUMES_MAX, ROSTER_VALUE_MAX};
}

static struct records hosts_of(struct roster *r)
{
    return (struct records){r->hosts, &r->host_count, ROSTER_HOSTS_MAX, ROSTER_HOST_MAX};
}

/* Where the record of this number is, or would be. */
static uint32_t place_of(const struct roster_record *records, uint32_t count, uint32_t number)
{
    uint32_t at = 0;
    while (at < count && records[at].number < number) at++;
    return at;
}

static const struct roster_record *find(const struct roster_record *records, uint32_t count, uint32_t number)
{
    uint32_t at = place_of(records, count, number);
    return at < count && records[at].number == number ? &records[at] : NULL;
}

static enum err put(struct records all, const struct roster_record *record)
{
    uint32_t at = place_of(all.at, *all.count, record->number);
    assert(record->number > 0 && (record->bytes == 0 || record->value != NULL));
    if (record->bytes > all.bytes_max) return ERR_LIMIT;
    if (find(all.at, *all.count, record->number) == NULL) {
        if (*all.count == all.max) return ERR_LIMIT;
        memmove(&all.at[at + 1], &all.at[at], (*all.count - at) * sizeof *all.at);
        ++*all.count;
    }
    all.at[at] = *record;
    return OK;
}

static void drop(struct records all, uint32_t number)
{
    uint32_t at = place_of(all.at, *all.count, number);
    if (find(all.at, *all.count, number) == NULL) return;
    --*all.count;
    memmove(&all.at[at], &all.at[at + 1], (*all.count - at) * sizeof *all.at);
}

const struct roster_record *roster_volume(const struct roster *roster, uint32_t number)
{
    return find(roster->volumes, roster->volume_count, number);
}

enum err roster_volume_put(struct roster *roster, const struct roster_record *volume)
{
    return put(volumes_of(roster), volume);
}

void roster_volume_drop(struct roster *roster, uint32_t number)
{
    drop(volumes_of(roster), number);
}

const struct roster_record *roster_host(const struct roster *roster, uint32_t number)
{
    return find(roster->hosts, roster->host_count, number);
}

enum err roster_host_put(struct roster *roster, const struct roster_record *host)
{
    return put(hosts_of(roster), host);
}

void roster_host_drop(struct roster *roster, uint32_t number)
{
    drop(hosts_of(roster), number);
}

/* ---- names ---- */

bool roster_name_is_good(const char *name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    size_t length = strlen(name);
    return length > 0 && length < ROSTER_NAME_SIZE && strspn(name, allowed) == length;
}

/* ---- who holds the register ---- */

static uint32_t live(const struct roster *roster)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < roster->node_count; i++) count += roster->nodes[i].stage == ROSTER_LIVE;
    return count;
}

struct acceptor_set roster_acceptors(const struct roster *roster, const struct acceptor_set *now)
{
    uint64_t ids[ACCEPTORS_MAX];
    uint32_t count = 0, members = live(roster);
    uint32_t want = members >= ACCEPTORS_OF_MANY ? ACCEPTORS_OF_MANY : members >= ACCEPTORS_OF_THREE ? ACCEPTORS_OF_THREE : 1;
    for (int holds = 1; holds >= 0; holds--)
        for (uint32_t i = 0; i < roster->node_count && count < want; i++) {
            const struct roster_node *node = &roster->nodes[i];
            if (node->stage != ROSTER_LIVE || acceptor_set_has(now, node->acceptor) != (holds == 1)) continue;
            if (want == 1 && node->role == ROSTER_WITNESS) continue;
            ids[count++] = node->acceptor;
        }
    return acceptor_set_of(ids, count);
}
