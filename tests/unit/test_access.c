/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what a node tells initiators of the ways to a replicated volume, above all that one which is cut off does not talk them
 * out of those that serve. Method: the states of its replica, the others' places and links as the test sets them, and the
 * groups that the unit would be given.
 */
#include "tests/check.h"

#include "api/internal.h"

enum { NODES = 3, ME = 4, NUMBER = 9, PATIENCE = SCSI_TRANSITION_SECONDS + 1 };

static struct {
    uint64_t now_ns;
    uint32_t self;
    bool hosted, removed, left, behind, up[NODES];
    struct replica_status status;
    struct placement place;
    struct scsi_port_group groups[SCSI_GROUPS_MAX];
    uint32_t count;
    struct node node;
    struct node_unit unit;
} s;

/* ---- what the node would ask ---- */

uint64_t io_now_ns(struct io *io)
{
    (void)io;
    return s.now_ns;
}

uint32_t member_number(const struct member *member)
{
    (void)member;
    return s.self;
}

bool member_is_up(const struct member *member, uint32_t number)
{
    (void)member;
    return s.up[number - ME];
}

bool member_was_removed(const struct member *member)
{
    (void)member;
    return s.removed;
}

bool node_replica_is_ours(const struct node *node, const struct volume_replica *replica)
{
    (void)node;
    return replica->number == NUMBER && !s.left;
}

bool replicas_status(const struct replicas *replicas, uint32_t number, struct replica_status *ret_status)
{
    (void)replicas;
    *ret_status = s.status;
    return s.hosted && number == NUMBER;
}

bool replicas_place(const struct replicas *replicas, uint32_t number, struct placement *ret_place)
{
    (void)replicas;
    *ret_place = s.place;
    return number == NUMBER;
}

struct volume *volumes_find(struct volumes *volumes, uint32_t id)
{
    (void)id;
    return (struct volume *)volumes;
}

const struct volume_replica *volume_replica(const struct volume *volume)
{
    static const struct volume_replica replica = {.number = NUMBER};
    return volume != NULL ? &replica : NULL;
}

void scsi_unit_groups(struct scsi_unit *unit, const struct scsi_port_group *groups, uint32_t count)
{
    (void)unit;
    memcpy(s.groups, groups, count * sizeof *groups);
    s.count = count;
}

bool node_sharing_holds(const struct node *node)
{
    (void)node;
    return !s.behind;
}

void node_sharing_look(struct node *node)
{
    (void)node;
}

void iscsi_target_group(struct iscsi_target *target, uint16_t portal_group)
{
    (void)target;
    (void)portal_group;
}

void io_after(struct io *io, uint64_t delay_ns, struct io_timer *timer)
{
    (void)io;
    (void)delay_ns;
    (void)timer;
}

/* ---- cases ---- */

static void begin(void)
{
    memset(&s, 0, sizeof s);
    s.now_ns = 100 * IO_S_NS;
    s.self = ME;
    s.hosted = true;
    s.status = (struct replica_status){.role = REPLICA_IN_SYNC, .serving = true};
    s.place = (struct placement){.node_count = NODES, .nodes = {ME, ME + 1, ME + 2}, .config.in_sync = 7};
    for (int i = 0; i < NODES; i++) s.up[i] = true;
    s.node.replicas = (struct replicas *)&s;
    s.node.volumes = (struct volumes *)&s;
    node_access_begin(&s.node, &s.unit);
}

static bool says(enum scsi_access mine, enum scsi_access second, enum scsi_access third)
{
    node_access_look(&s.node, &s.unit);
    return s.count == NODES && s.groups[0].id == ME && s.groups[0].access == mine && s.groups[1].id == ME + 1 &&
           s.groups[1].access == second && s.groups[2].id == ME + 2 && s.groups[2].access == third;
}

#define GOOD SCSI_ACTIVE_OPTIMIZED
#define GONE SCSI_UNAVAILABLE
#define WAIT SCSI_TRANSITIONING

TEST(who_serves_tells_who_is_out_of_reach)
{
    begin();
    CHECK(says(GOOD, GOOD, GOOD));
    s.up[2] = false;
    CHECK(says(GOOD, GOOD, GONE));
    s.up[2] = true;
    s.place.config.in_sync = 3;
    CHECK(says(GOOD, GOOD, GONE));
}

TEST(who_is_cut_off_says_nothing_of_others)
{
    begin();
    s.up[1] = s.up[2] = false;
    s.status.serving = false;
    CHECK(says(WAIT, GOOD, GOOD));
    s.now_ns += PATIENCE * IO_S_NS;
    CHECK(says(GONE, GOOD, GOOD));
    s.place.config.in_sync = 5; /* this it has heard, and it stays so until it hears more */
    CHECK(says(GONE, GONE, GOOD));
}

/* Who comes back serves when it knows who may see its volumes, and then goes on while that changes. */
TEST(who_was_away_knows_the_hosts_first)
{
    begin();
    s.status.serving = false;
    CHECK(says(WAIT, GOOD, GOOD));
    s.status.serving = s.behind = true;
    CHECK(says(WAIT, GOOD, GOOD));
    s.behind = false;
    CHECK(says(GOOD, GOOD, GOOD));
    s.behind = true;
    CHECK(says(GOOD, GOOD, GOOD));
}

/* Heartbeats tell of being in sync, and are faster than what says who sees the volume now. */
TEST(who_is_in_sync_again_knows_the_hosts_as_of_then)
{
    begin();
    s.status.serving = false;
    CHECK(says(WAIT, GOOD, GOOD));
    s.status.serving = true;
    s.status.config.version = 9;
    s.place.config.version = 8;
    CHECK(says(WAIT, GOOD, GOOD));
    s.place.config.version = 9;
    CHECK(says(GOOD, GOOD, GOOD));
    s.status.config.version = 10; /* it is serving now, and goes on while that changes */
    CHECK(says(GOOD, GOOD, GOOD));
}

TEST(transition_ends)
{
    begin();
    s.hosted = false;
    CHECK(says(WAIT, GOOD, GOOD));
    s.now_ns += SCSI_TRANSITION_SECONDS * IO_S_NS;
    CHECK(says(WAIT, GOOD, GOOD));
    s.now_ns++;
    CHECK(says(GONE, GOOD, GOOD));
    s.hosted = true;
    CHECK(says(GOOD, GOOD, GOOD));
    s.status = (struct replica_status){.role = REPLICA_LEARNER};
    CHECK(says(GONE, GOOD, GOOD)); /* it will take long */
}

/* What a node has left of a cluster that it is in no more is nobody's, whatever volume has that number where it is now. */
TEST(a_volume_of_another_cluster_is_unavailable)
{
    begin();
    s.left = true;
    node_access_look(&s.node, &s.unit);
    CHECK(s.count == 1 && s.groups[0].id == ME && s.groups[0].access == WAIT);
    s.now_ns += PATIENCE * IO_S_NS;
    node_access_look(&s.node, &s.unit);
    CHECK(s.count == 1 && s.groups[0].access == GONE);
}

TEST(a_node_alone_is_group_one)
{
    begin();
    CHECK_EQ(node_group(&s.node), ME);
    s.removed = true;
    CHECK_EQ(node_group(&s.node), 1);
    s.node.unit_count = 1; /* as long as it shows a volume of the cluster that it was removed from, it keeps its number */
    CHECK_EQ(node_group(&s.node), ME);
    s.removed = false;
    s.node.unit_count = 0;
    s.self = 0;
    CHECK_EQ(node_group(&s.node), 1);
}

TESTS(who_was_away_knows_the_hosts_first, who_is_in_sync_again_knows_the_hosts_as_of_then,
      a_volume_of_another_cluster_is_unavailable, who_serves_tells_who_is_out_of_reach, who_is_cut_off_says_nothing_of_others,
      transition_ends, a_node_alone_is_group_one)
