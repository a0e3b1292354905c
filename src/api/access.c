/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Through which nodes initiators reach a replicated volume: what the replicas know, several times a second, as states of target
 * port groups (scsi/unit.h). A node's group has the number of the node in the cluster; alone it is 1.
 *
 * One that was removed from its cluster is alone, but keeps its number for as long as it shows a volume of that cluster:
 * numbers are never given again, and to the hosts of such a volume group 1 is that cluster's first node.
 */
#include <string.h>

#include "api/internal.h"

#define LOOK_NS (200 * IO_MS_NS)

static_assert((int)SCSI_GROUPS_MAX == (int)REPLICA_NODES_MAX, "a group for each replica");

static const struct volume_replica *replica_of(const struct node *node, const struct node_unit *u)
{
    const struct volume *volume = volumes_find(node->volumes, u->volume);
    return volume != NULL ? volume_replica(volume) : NULL;
}

static bool shows_replicas(const struct node *node)
{
    for (uint32_t i = 0; i < node->unit_count; i++)
        if (replica_of(node, &node->units[i]) != NULL) return true;
    return false;
}

uint16_t node_group(const struct node *node)
{
    bool alone = member_was_removed(node->member) && !shows_replicas(node);
    return (uint16_t)(alone ? 1 : max32(1, member_number(node->member)));
}

/* The catalog holds who may still see the volume, as of when this node came in sync again: that it did it may have heard from
 * the owner before it knows the roster that says so, and what else changed until then. */
static bool knows_hosts(const struct node *node, uint32_t number, const struct replica_status *status)
{
    struct placement place;
    return node_sharing_holds(node) && replicas_place(node->replicas, number, &place) &&
           place.config.version >= status->config.version;
}

/* In transition it is for a while, when it may come back by itself. Who was away serves again when he knows the hosts, too. */
static enum scsi_access own_access(struct node *node, struct node_unit *u, uint32_t number)
{
    struct replica_status status;
    uint64_t now = io_now_ns(node->io);
    bool here = number != 0 && node->replicas != NULL && replicas_status(node->replicas, number, &status);
    u->serves = here && status.serving && (u->serves || knows_hosts(node, number, &status));
    if (u->serves) {
        u->served_ns = now;
        return SCSI_ACTIVE_OPTIMIZED;
    }
    bool outside = here && (status.role == REPLICA_LEARNER || status.role == REPLICA_OUTSIDE);
    return outside || now - u->served_ns > SCSI_TRANSITION_SECONDS * IO_S_NS ? SCSI_UNAVAILABLE : SCSI_TRANSITIONING;
}

/* A node that does not serve may be the one that is cut off: it calls none of the others unavailable because it cannot hear
 * them. Initiators believe what any group says of all, and would give up those that serve. */
static uint32_t others(const struct node *node, uint32_t number, bool serves, struct scsi_port_group *ret_groups)
{
    struct placement place;
    uint32_t count = 0;
    if (number == 0 || node->replicas == NULL || !replicas_place(node->replicas, number, &place)) return 0;
    for (uint32_t i = 0; i < place.node_count; i++) {
        if (place.nodes[i] == member_number(node->member) || !set_has(placement_kept(&place), i)) continue;
        bool good = set_has(place.config.in_sync, i) && (!serves || member_is_up(node->member, place.nodes[i]));
        ret_groups[count++] =
            (struct scsi_port_group){.id = (uint16_t)place.nodes[i], .access = good ? SCSI_ACTIVE_OPTIMIZED : SCSI_UNAVAILABLE};
    }
    return count;
}

void node_access_begin(struct node *node, struct node_unit *u)
{
    u->served_ns = io_now_ns(node->io);
    node_access_look(node, u);
}

void node_access_look(struct node *node, struct node_unit *u)
{
    struct scsi_port_group groups[SCSI_GROUPS_MAX + 1];
    const struct volume_replica *replica = replica_of(node, u);
    if (replica == NULL) return;
    uint32_t number = node_replica_is_ours(node, replica) ? replica->number : 0; /* what others have that number is not it */
    groups[0] = (struct scsi_port_group){.id = node_group(node), .access = own_access(node, u, number)};
    bool serves = groups[0].access == SCSI_ACTIVE_OPTIMIZED;
    scsi_unit_groups(u->unit, groups, min32(SCSI_GROUPS_MAX, 1 + others(node, number, serves, groups + 1)));
}

static void look(struct io_timer *timer)
{
    struct node *node = CONTAINER(timer, struct node, access);
    if (node->target != NULL) iscsi_target_group(node->target, node_group(node));
    for (uint32_t i = 0; i < node->unit_count; i++) node_access_look(node, &node->units[i]);
    node_sharing_look(node);
    io_after(node->io, LOOK_NS, timer);
}

void node_access_watch(struct node *node)
{
    node->access.fire = look;
    io_after(node->io, LOOK_NS, &node->access);
}
