/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A SCSI command, as a transport hands it in: no sockets, no words of iSCSI.
 *
 *     1. the transport fills in done, io, nexus, lun, cdb, expected_out and calls scsi_plan. Either the command is answered
 *        already (false: status and sense are set), or it says what memory it needs: room_bytes, and whether a scratch piece.
 *     2. the transport gives that memory (data, scratch) and calls scsi_accept: the command is in the unit's task set. It moves
 *        `out_bytes` bytes of data out of the initiator into the memory (fewer when the initiator offered fewer: out_have) and
 *        calls scsi_run.
 *     3. `done` comes, never inline: status, sense, and `in_bytes` bytes of data for the initiator.
 *     4. the transport sends them, takes the memory back and calls scsi_end.
 *
 * Byte i of the data stands at scsi_data_at(data, i). Data begins `lead` bytes into the first piece so that the volume's blocks
 * are aligned in memory, whatever the alignment of the command: they go to the store and come from it without a copy.
 */
#ifndef IZAR_SCSI_COMMAND_H
#define IZAR_SCSI_COMMAND_H

#include "scsi/unit.h"

enum {
    SCSI_TRANSFER_MAX = 8u << 20, /* bytes of one command */
    SCSI_PIECE = VOLUME_WRITE_MAX,
    SCSI_PIECES_MAX = SCSI_TRANSFER_MAX / SCSI_PIECE + 1,
    SCSI_SENSE_MAX = 28, /* bytes; descriptor format with all that we tell */
    SCSI_LANES = 4,      /* volume requests of one command at once */
    SCSI_LUNS_MAX = 256,
};

enum scsi_status {
    SCSI_GOOD = 0x00,
    SCSI_CHECK_CONDITION = 0x02,
    SCSI_CONDITION_MET = 0x04,
    SCSI_BUSY = 0x08,
    SCSI_TASK_SET_FULL = 0x28,
    SCSI_TASK_ABORTED = 0x40,
};

enum scsi_attribute { SCSI_SIMPLE, SCSI_ORDERED, SCSI_HEAD_OF_QUEUE };

/* All pieces are SCSI_PIECE long, but for the last, which is as long as needed. */
struct scsi_data {
    uint8_t *piece[SCSI_PIECES_MAX];
    uint32_t count;
    uint32_t lead;
};

static inline uint8_t *scsi_data_at(const struct scsi_data *data, uint64_t i)
{
    i += data->lead;
    return data->piece[i / SCSI_PIECE] + i % SCSI_PIECE;
}

/* ---- nexus ---- */

/* Why a unit attention is pending; reported in this order, the most drastic first (SAM-5 5.14). */
enum scsi_attention {
    SCSI_POWER_ON = 1,         /* a nexus that is new */
    SCSI_UNIT_RESET = 2,       /* another nexus reset the unit, or we did */
    SCSI_COMMANDS_CLEARED = 4, /* another nexus has cleared the task set */
    SCSI_CAPACITY_CHANGED = 8,
    SCSI_LUNS_CHANGED = 16,
    SCSI_MODE_CHANGED = 32,
    SCSI_ACCESS_CHANGED = 64,
};

struct scsi_lun {
    struct scsi_unit *unit;
    uint16_t lun;
    bool read_only;
    uint8_t attention; /* pending, enum scsi_attention */
    struct list link;  /* in the unit's list of those to tell */
};

/* What one initiator port sees through one target port. Lives on the units' loop. */
struct scsi_nexus {
    struct scsi_lun luns[SCSI_LUNS_MAX]; /* ascending */
    uint32_t lun_count;
    uint64_t session;      /* never used again, not 0; of the transport */
    const char *port_name; /* of the target port, for INQUIRY: "iqn...,t,0x0001" */
    uint16_t port_group, port_id;
};

void scsi_nexus_init(struct scsi_nexus *nexus);
/* Takes this list of units in place of the old; initiators are told when it changed. Units, luns and read_only are read. */
void scsi_nexus_map(struct scsi_nexus *nexus, const struct scsi_lun *luns, uint32_t count);
/* The session is gone: what came over it and has not happened yet does not happen, as far as that is still open. */
void scsi_nexus_lost(struct scsi_nexus *nexus);
void scsi_nexus_done(struct scsi_nexus *nexus);
/* A LUN field of eight bytes (SAM-5 4.7); NULL: no such unit. */
struct scsi_lun *scsi_nexus_find(struct scsi_nexus *nexus, uint64_t lun);
/* Tells all nexuses of the unit but `except` (may be NULL). */
void scsi_unit_attention(struct scsi_unit *unit, enum scsi_attention what, const struct scsi_nexus *except);
/* LOGICAL UNIT RESET, once its tasks are ended (SAM-5 6.3.3): mode parameters are what they were at first, and all nexuses but
 * that of who asked for it are told. */
void scsi_unit_reset(struct scsi_unit *unit, const struct scsi_nexus *by);

/* ---- command ---- */

struct scsi_op;

struct scsi_lane {
    struct volume_request request;
    struct scsi_command *command;
};

struct scsi_command {
    /* in */
    void (*done)(struct scsi_command *command);
    struct io *io;
    struct scsi_nexus *nexus;
    uint64_t lun;
    uint8_t cdb[16];
    enum scsi_attribute attribute;
    uint32_t expected_out; /* bytes that the initiator offers to send */
    /* from scsi_plan */
    uint32_t out_bytes;  /* the command wants from the initiator */
    uint32_t room_bytes; /* memory for its data, `lead` included */
    uint32_t lead;
    bool scratch_wanted; /* and one piece more */
    bool out;            /* its data goes to us */
    /* from the transport */
    struct scsi_data data;
    uint8_t *scratch;
    uint32_t out_have; /* bytes that came; at most out_bytes */
    /* result */
    uint32_t in_bytes;
    enum scsi_status status;
    uint8_t sense[SCSI_SENSE_MAX + 2]; /* two spare bytes at the end, for the transport */
    uint32_t sense_bytes;              /* 0: none */
    /* private */
    const struct scsi_op *op;
    uint64_t arrived_ns;    /* all that the initiator sends was here */
    struct scsi_unit *unit; /* NULL: none at this lun */
    struct scsi_lun *at;
    struct list in_set;
    bool accepted, parked; /* in the task set; it would run if others let it */
    bool doomed;           /* ... but it is about to be cancelled */
    struct io_msg msg;
    uint64_t lba;
    uint32_t blocks;
    bool read_only, write_protected;             /* read_only: by the map or the volume, not by MODE SELECT */
    enum volume_verb verb;                       /* of its lanes */
    void (*after)(struct scsi_command *command); /* all lanes are through */
    bool failed;                                 /* a lane failed: no more are started */
    uint64_t failed_at;                          /* the offset of the first one that did */
    uint32_t step;                               /* of commands that take several passes */
    uint32_t busy;                               /* lanes under way */
    uint64_t next;                               /* byte of the transfer that the next lane takes */
    uint64_t total;                              /* bytes of the transfer */
    uint32_t item;                               /* UNMAP: descriptor */
    struct scsi_lane lanes[SCSI_LANES];
};

/* Decodes and checks. False: answered, status and sense say how; nothing was done. */
bool scsi_plan(struct scsi_command *command);
/* In the order in which commands came. */
void scsi_accept(struct scsi_command *command);
void scsi_run(struct scsi_command *command);
/* Between scsi_plan and its end: it is about to be cancelled, and is not to start before. */
void scsi_doom(struct scsi_command *command);
/* True: scsi_run was called, but it had to wait for others: it will never start, nor be done. False: it will be done. */
bool scsi_cancel(struct scsi_command *command);
/* Instead of scsi_run: its data did not come as it should. Sets status and sense. */
void scsi_out_of_order(struct scsi_command *command);
/* After the answer went out, and also when scsi_plan said false or scsi_run was never called. */
void scsi_end(struct scsi_command *command);

#endif
