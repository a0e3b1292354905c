/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The task set of a unit (SAM-5 8): one for all nexuses (TST 0), commands in the order in which they were accepted.
 *
 *     SIMPLE          starts when no HEAD OF QUEUE is there and no older ORDERED
 *     ORDERED         starts when no HEAD OF QUEUE is there and nothing older
 *     HEAD OF QUEUE   starts at once
 *
 * A command is accepted when it has its memory, and is in the set until its status is known. So the oldest one can always go
 * on, and no order of commands can make the set stand still. Commands that end together, by a reset or with their session, are
 * doomed before the first of them leaves: else the end of one would start the next.
 */
#include "scsi/internal.h"

static struct scsi_command *command_at(struct list *l)
{
    return CONTAINER(l, struct scsi_command, in_set);
}

void scsi_accept(struct scsi_command *c)
{
    assert(!c->accepted && !c->parked);
    if (c->unit == NULL) return;
    c->accepted = true;
    list_push(&c->unit->task_set, &c->in_set);
    c->unit->heads += c->attribute == SCSI_HEAD_OF_QUEUE;
    c->unit->ordered += c->attribute == SCSI_ORDERED;
}

static bool may_start(const struct scsi_command *c)
{
    struct list *set = &c->unit->task_set;
    if (c->attribute == SCSI_HEAD_OF_QUEUE) return true;
    if (c->unit->heads > 0) return false;
    if (c->attribute == SCSI_ORDERED) return set->next == &c->in_set;
    if (c->unit->ordered == 0) return true;
    for (struct list *l = set->next; l != &c->in_set; l = l->next)
        if (command_at(l)->attribute == SCSI_ORDERED) return false;
    return true;
}

bool set_start(struct scsi_command *c)
{
    c->parked = c->accepted && !may_start(c);
    return !c->parked;
}

void set_leave(struct scsi_command *c)
{
    if (!c->accepted) return;
    struct scsi_unit *unit = c->unit;
    c->accepted = c->parked = false;
    list_remove(&c->in_set);
    unit->heads -= c->attribute == SCSI_HEAD_OF_QUEUE;
    unit->ordered -= c->attribute == SCSI_ORDERED;
    for (struct list *l = unit->task_set.next, *next; l != &unit->task_set; l = next) {
        next = l->next; /* nothing ends inline */
        struct scsi_command *other = command_at(l);
        if (other->parked && !other->doomed && set_start(other)) command_begin(other);
    }
}

void scsi_doom(struct scsi_command *c)
{
    c->doomed = true;
}

bool scsi_cancel(struct scsi_command *c)
{
    bool parked = c->parked;
    c->parked = false;
    return parked;
}
