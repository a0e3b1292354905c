/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A SCSI logical unit: a volume as initiators see it, with the block length and the identity it shows to all of them.
 *
 * Lives on the volume's loop. Whoever opens it maps it to initiators (iscsi/target.h) and takes all mappings away before it is
 * closed.
 */
#ifndef IZAR_SCSI_UNIT_H
#define IZAR_SCSI_UNIT_H

#include "volume/volume.h"

struct scsi_unit;

struct scsi_unit_config {
    struct volume *volume;
    uint32_t block_bytes; /* logical block: 512 (512e, with 4096 physical) or 4096 */
    uint8_t naa[16];      /* NAA IEEE registered extended (first half byte 6), the same through every node, for ever */
    char serial[33];      /* unit serial number, printable ASCII, up to 32 characters, unique */
    char name[65];        /* shown as the T10 vendor designator; may be empty */
    bool read_only;       /* write protected */
};

/* Fills naa and serial from the identity of who gives out the volumes' numbers (a pool, a cluster) and a number. */
void scsi_unit_identify(struct scsi_unit_config *config, const uint8_t id[16], uint32_t number);

/* Holds the volume. ERR_ARGUMENT (block_bytes), ERR_NO_MEMORY. */
enum err scsi_unit_open(const struct scsi_unit_config *config, struct scsi_unit **ret_unit);
/* [task] Waits for the commands under way; there must be no mapping left. NULL is fine. */
void scsi_unit_close(struct scsi_unit *unit);
/* Frees the unit at once: after a simulated power cut. NULL is fine. */
void scsi_unit_abandon(struct scsi_unit *unit);
/* How the unit can be reached (SPC-4 5.15.2), by target port group: that of nexuses here (struct scsi_nexus), and those of
 * other nodes. Initiators are told of changes. A unit that was never told has no others. */
enum { SCSI_GROUPS_MAX = 8, SCSI_TRANSITION_SECONDS = 10 /* at most in transition, then unavailable */ };
enum scsi_access { SCSI_ACTIVE_OPTIMIZED = 0x0, SCSI_UNAVAILABLE = 0x3, SCSI_TRANSITIONING = 0xf };
struct scsi_port_group {
    uint16_t id;
    enum scsi_access access;
};
void scsi_unit_groups(struct scsi_unit *unit, const struct scsi_port_group *groups, uint32_t count);
/* The volume's size changed: initiators are told (CAPACITY DATA HAS CHANGED). */
void scsi_unit_resized(struct scsi_unit *unit);

#endif
