/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a volume's life changes in the roster, each step an edit for member_change. placement.h tells the stages.
 *
 * An edit sees the newest roster that its node knows, which may be old: what it refuses then may be possible by now, but what
 * it changes takes place only where it was not.
 */
#include "volume/replica/replicas_internal.h"

/* ---- making ---- */

static enum err check_node(const struct roster *roster, uint32_t number, struct member_why *why)
{
    const struct roster_node *node = roster_find(roster, number);
    if (node == NULL || node->stage != ROSTER_LIVE || node->role != ROSTER_DATA)
        return member_tell_why(why, ERR_NO_NAME, "node %u is no node with data of this cluster", number);
    if (placement_count(roster, number, UINT32_MAX) >= REPLICAS_MAX)
        return member_tell_why(why, ERR_LIMIT, "node %s keeps %d volumes with replicas, the most that a node can", node->name,
                               REPLICAS_MAX);
    return OK;
}

enum err edit_add(struct roster *roster, void *arg, struct member_why *why)
{
    struct place_edit *edit = arg;
    struct placement place = *edit->wanted, same;
    if (placement_named(roster, place.name, &same) != 0)
        return member_tell_why(why, ERR_NAME_EXISTS,
                               same.stage == PLACE_LEAVING ? "volume %s is still being taken away"
                                                           : "there is a volume %s in this cluster",
                               place.name);
    for (uint32_t i = 0; i < place.node_count; i++) TRY(check_node(roster, place.nodes[i], why));
    place.stage = PLACE_MAKING;
    place.made = 0;
    edit->number = roster->next_volume;
    if (placement_put(roster, edit->number, &place, edit->value) != OK)
        return member_tell_why(why, ERR_LIMIT, "a cluster has at most %d volumes with replicas", ROSTER_VOLUMES_MAX);
    roster->next_volume++;
    return OK;
}

/* The owner is another one for each volume. */
static void first_config(struct placement *place, uint32_t number)
{
    place->stage = PLACE_LIVE;
    place->config = (struct replica_config){
        .version = 1, .epoch = 1, .owner = (uint8_t)(number % place->node_count), .in_sync = placement_all(place)};
    for (uint32_t i = 0; i < place->node_count; i++) place->config.join[i] = PLACE_FIRST_JOIN;
}

static enum err find_making(const struct roster *roster, const struct place_edit *edit, struct placement *ret_place,
                            struct member_why *why)
{
    if (placement_find(roster, edit->number, ret_place) && ret_place->stage == PLACE_MAKING) return OK;
    return member_tell_why(why, ERR_NO_NAME, "it is not being made any more");
}

enum err edit_made(struct roster *roster, void *arg, struct member_why *why)
{
    struct place_edit *edit = arg;
    struct placement place;
    TRY(find_making(roster, edit, &place, why));
    uint32_t index = placement_of(&place, edit->node);
    place.made |= node_bit(index);
    if (place.refused_by == index || place.made == placement_all(&place)) {
        place.refusal = PLACE_REFUSED_NOT;
        place.refused_by = 0;
    }
    if (place.made == placement_all(&place)) first_config(&place, edit->number);
    return placement_put(roster, edit->number, &place, edit->value);
}

enum err edit_refuse(struct roster *roster, void *arg, struct member_why *why)
{
    struct place_edit *edit = arg;
    struct placement place;
    TRY(find_making(roster, edit, &place, why));
    place.refusal = edit->refusal;
    place.refused_by = (uint8_t)placement_of(&place, edit->node);
    return placement_put(roster, edit->number, &place, edit->value);
}

/* ---- more copies, and fewer ---- */

static enum err find_live(const struct roster *roster, const struct place_edit *edit, struct placement *ret_place,
                          struct member_why *why)
{
    if (placement_find(roster, edit->number, ret_place) && ret_place->stage == PLACE_LIVE) return OK;
    return member_tell_why(why, ERR_NO_NAME, "it is not there, or not for long");
}

static enum err drop_copy(const struct roster *roster, struct placement *place, uint32_t node, struct member_why *why)
{
    const struct roster_node *n = roster_find(roster, node);
    const char *name = n != NULL ? n->name : "that node";
    uint32_t index = placement_of(place, node);
    if (!placement_keeps(place, node)) return member_tell_why(why, ERR_NO_NAME, "%s keeps no copy of it", name);
    if (set_has(place->config.in_sync, index))
        return member_tell_why(why, ERR_BUSY, "the copy of %s is in sync: only one that is not can be given up", name);
    place->config.learners &= (uint8_t)~node_bit(index);
    return OK;
}

static enum err add_copy(const struct roster *roster, struct placement *place, uint32_t node, struct member_why *why)
{
    uint32_t index = placement_of(place, node);
    TRY(check_node(roster, node, why));
    if (placement_keeps(place, node))
        return member_tell_why(why, ERR_NAME_EXISTS, "%s keeps a copy of it", roster_find(roster, node)->name);
    if (index == REPLICA_NODES_MAX && place->node_count == REPLICA_NODES_MAX)
        return member_tell_why(why, ERR_LIMIT, "%d nodes have kept it, the most that can in its life", REPLICA_NODES_MAX);
    if (index == REPLICA_NODES_MAX) {
        index = place->node_count++;
        place->nodes[index] = node;
    }
    place->made |= node_bit(index);
    place->config.learners |= node_bit(index);
    return OK;
}

enum err edit_copies(struct roster *roster, void *arg, struct member_why *why)
{
    struct place_edit *edit = arg;
    struct placement place;
    TRY(find_live(roster, edit, &place, why));
    for (uint32_t i = 0; i < place.node_count; i++)
        if (roster_find(roster, place.nodes[i]) == NULL) place.config.learners &= (uint8_t)~node_bit(i);
    if (edit->drop != 0) TRY(drop_copy(roster, &place, edit->drop, why));
    if (edit->node != 0) TRY(add_copy(roster, &place, edit->node, why));
    place.config.version++;
    return placement_put(roster, edit->number, &place, edit->value);
}

/* ---- the last resort ---- */

enum err edit_force(struct roster *roster, void *arg, struct member_why *why)
{
    struct place_edit *edit = arg;
    struct placement place;
    TRY(find_live(roster, edit, &place, why));
    uint32_t index = placement_of(&place, edit->node);
    if (index == REPLICA_NODES_MAX || set_has(place.config.in_sync, index)) return ERR_CONFLICT;
    place.forcing = (uint8_t)(index + 1);
    return placement_put(roster, edit->number, &place, edit->value);
}

/* The value is another one then, so that nobody's claim that was made for the old one takes place. */
enum err edit_alive(struct roster *roster, void *arg, struct member_why *why)
{
    struct place_edit *edit = arg;
    struct placement place;
    TRY(find_live(roster, edit, &place, why));
    uint32_t index = placement_of(&place, edit->node);
    if (place.forcing == 0 || index == REPLICA_NODES_MAX || !set_has(place.config.in_sync, index)) return ERR_CONFLICT;
    place.forcing = 0;
    place.config.version++;
    return placement_put(roster, edit->number, &place, edit->value);
}

/* ---- taking away ---- */

enum err edit_leave(struct roster *roster, void *arg, struct member_why *why)
{
    struct place_edit *edit = arg;
    struct placement place;
    if (!placement_find(roster, edit->number, &place)) return member_tell_why(why, ERR_NO_NAME, "it is gone already");
    if (place.stage != PLACE_LEAVING) place.made = placement_all(&place);
    place.stage = PLACE_LEAVING;
    return placement_put(roster, edit->number, &place, edit->value);
}

enum err edit_back_out(struct roster *roster, void *arg, struct member_why *why)
{
    struct placement place;
    TRY(find_making(roster, arg, &place, why));
    return place.refusal != PLACE_REFUSED_NOT ? edit_leave(roster, arg, why) : ERR_CONFLICT;
}

uint8_t places_waited_for(const struct roster *roster, const struct placement *place)
{
    uint8_t waited = place->made;
    for (uint32_t i = 0; i < place->node_count; i++)
        if (roster_find(roster, place->nodes[i]) == NULL) waited &= (uint8_t)~node_bit(i);
    return waited;
}

enum err edit_gone(struct roster *roster, void *arg, struct member_why *why)
{
    struct place_edit *edit = arg;
    struct placement place;
    if (!placement_find(roster, edit->number, &place) || place.stage != PLACE_LEAVING)
        return member_tell_why(why, ERR_NO_NAME, "it is not being taken away any more");
    uint32_t index = placement_of(&place, edit->node);
    if (index < REPLICA_NODES_MAX) place.made &= (uint8_t)~node_bit(index);
    place.made = places_waited_for(roster, &place);
    if (place.made != 0) return placement_put(roster, edit->number, &place, edit->value);
    roster_volume_drop(roster, edit->number);
    return OK;
}
