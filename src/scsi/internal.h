/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the SCSI layer share.
 *
 *     table.c    one row a command: dispatch, CDB check, REPORT SUPPORTED OPERATION CODES
 *     command.c  plan, run, end
 *     sense.c    from errors to sense data
 *     unit.c     logical units, nexuses, unit attentions
 *     taskset.c  what may start when: task attributes
 *     access.c   target port groups: through which nodes a unit can be reached
 *     inquiry.c, mode.c, report.c   answers that need no data of the volume
 *     disk.c     reads, writes and their kin
 *     unmap.c    UNMAP, WRITE SAME
 */
#ifndef IZAR_SCSI_INTERNAL_H
#define IZAR_SCSI_INTERNAL_H

#include "base/bytes.h"
#include "base/mem.h"
#include "scsi/command.h"

enum { SCSI_ANSWER_MAX = 4096, CAW_BYTES_MAX = 32u << 10, UNMAP_DESCRIPTORS_MAX = 128 };
#define WRITE_SAME_BYTES_MAX ((uint64_t)SCSI_TRANSFER_MAX)
#define UNMAP_BYTES_MAX (512ull << 20)
#define NO_SERVICE_ACTION 0xffffu

struct scsi_unit {
    struct scsi_unit_config config;
    struct mem *mem;
    struct volume *volume;
    uint32_t block_bytes;
    uint32_t under_way;
    struct io_task *waiting;
    struct list luns; /* of nexuses that see it */
    struct list task_set;
    uint32_t heads, ordered; /* HEAD OF QUEUE and ORDERED commands in it */
    bool software_write_protect;
    bool descriptor_sense;
    struct scsi_port_group groups[SCSI_GROUPS_MAX];
    uint32_t group_count; /* 0: only the one that is asked */
};

enum scsi_op_flags {
    OP_ANY_LUN = 1,      /* also without a unit */
    OP_NO_ATTENTION = 2, /* leaves unit attentions pending and is not stopped by them */
    OP_WRITES = 4,       /* refused on what is write protected */
    OP_ANY_ACCESS = 8,   /* also where the unit is unavailable */
    OP_READY = 16,       /* asks whether the unit is there: does not wait while that is in transition */
};

struct scsi_op {
    uint8_t opcode;
    uint16_t service_action; /* NO_SERVICE_ACTION: none */
    uint8_t cdb_bytes;
    uint8_t flags;
    uint8_t usage[16]; /* bits that we look at, for byte 1 on; byte 0 stays zero */
    bool (*plan)(struct scsi_command *c);
    void (*run)(struct scsi_command *c);
};

extern const struct scsi_op scsi_ops[];
extern const uint32_t scsi_op_count;

/* key << 16 | additional sense code << 8 | qualifier (SPC-4 4.5) */
enum scsi_sense {
    SENSE_NONE = 0x000000,
    SENSE_BECOMING_READY = 0x020401,
    SENSE_ACCESS_TRANSITION = 0x02040a,
    SENSE_ACCESS_UNAVAILABLE = 0x02040c,
    SENSE_MEDIUM_ERROR = 0x031100,
    SENSE_HARDWARE_ERROR = 0x044400,
    SENSE_LIST_LENGTH = 0x051a00,
    SENSE_INVALID_OPCODE = 0x052000,
    SENSE_LBA_OUT_OF_RANGE = 0x052100,
    SENSE_INVALID_CDB = 0x052400,
    SENSE_NO_UNIT = 0x052500,
    SENSE_INVALID_LIST = 0x052600,
    SENSE_SAVING_UNSUPPORTED = 0x053900,
    SENSE_INVALID_UNIT_FIELD = 0x050e03, /* of the command information unit: an expected length that does not fit */
    SENSE_POWER_ON = 0x062900,
    SENSE_UNIT_RESET = 0x062903,
    SENSE_MODE_CHANGED = 0x062a01,
    SENSE_ACCESS_CHANGED = 0x062a06,
    SENSE_CAPACITY_CHANGED = 0x062a09,
    SENSE_COMMANDS_CLEARED = 0x062f00,
    SENSE_LUNS_CHANGED = 0x063f0e,
    SENSE_WRITE_PROTECTED = 0x072700,
    SENSE_SPACE_ALLOCATION = 0x072707,
    SENSE_PROTOCOL_CRC = 0x0b4705,
    SENSE_ABORTED_DATA = 0x0b4b00,
    SENSE_INTERNAL = 0x0b4400,
    SENSE_MISCOMPARE = 0x0e1d00,
};

/* CHECK CONDITION. Always returns false, so that a plan can `return sense_set(...)`. */
bool sense_set(struct scsi_command *c, enum scsi_sense sense);
/* With the INFORMATION field. */
bool sense_set_at(struct scsi_command *c, enum scsi_sense sense, uint64_t information);
/* INVALID FIELD IN CDB, or in the parameter list, with a pointer to the byte. */
bool sense_field(struct scsi_command *c, uint16_t byte);
bool sense_list_field(struct scsi_command *c, uint16_t byte);
/* The initiator offers exactly as much data as the command takes; for commands where less or more makes no sense. */
bool plan_exactly(struct scsi_command *c);
/* From an error of the layers below. UINT64_MAX: there is no information. */
void sense_from(struct scsi_command *c, enum err err, uint64_t information);
/* The first block that a failed request could not read, among those that it was about; UINT64_MAX: none in particular. */
uint64_t bad_lba(const struct scsi_command *c, const struct volume_request *request);

/* Sense data before it is bytes. */
struct sense {
    enum scsi_sense sense;
    bool informs, points; /* which of the two below are told */
    uint64_t information;
    bool in_cdb; /* the byte is one of the CDB, else of the parameter list */
    uint16_t byte;
};
/* As bytes in fixed or in descriptor format (SPC-4 4.5.2, 4.5.3); returns how many. */
uint32_t sense_encode(const struct sense *sense, bool descriptors, uint8_t ret[SCSI_SENSE_MAX]);

/* Whether an accepted command may start now; else it is parked, and started by who leaves. */
bool set_start(struct scsi_command *c);
/* Runs it, unless something forbids that by now. */
void command_begin(struct scsi_command *c);
/* Its status is known, or it never started. */
void set_leave(struct scsi_command *c);

/* `done`, from the loop. */
void command_finish(struct scsi_command *c);
/* Room for an answer of up to SCSI_ANSWER_MAX bytes. */
bool plan_answer(struct scsi_command *c);
bool plan_nothing(struct scsi_command *c);
/* Room for `bytes` of data whose first byte belongs at byte `offset` of the volume. */
bool plan_data(struct scsi_command *c, uint64_t offset, uint64_t bytes, bool out);
/* The memory of an answer, zeroed. */
uint8_t *answer_begin(struct scsi_command *c);
/* `bytes` were filled in, the initiator has room for `allocation`. Finishes. */
void answer_end(struct scsi_command *c, uint32_t bytes, uint32_t allocation);
void run_good(struct scsi_command *c);

bool is_write_protected(const struct scsi_command *c);
/* Blocks of the unit, as of now. */
uint64_t unit_blocks(const struct scsi_unit *unit);
/* These blocks are within the unit; else LBA OUT OF RANGE. */
bool plan_within(struct scsi_command *c, uint64_t lba, uint64_t blocks);
/* Starts a request on one of the command's lanes; `done` lowers c->busy. */
void lane_start(struct scsi_command *c, struct scsi_lane *lane, const struct volume_request *request);
/* Takes the attention that is to be reported first; SENSE_NONE: there is none. */
enum scsi_sense attention_take(struct scsi_lun *lun);

/* ---- access.c ---- */
enum scsi_access access_of(const struct scsi_unit *unit, uint16_t group);
/* Bits of standard INQUIRY data, byte 5. */
uint8_t access_tpgs(const struct scsi_unit *unit);
/* False: the command cannot be taken through this group now, and is answered. */
bool access_allows(struct scsi_command *c);
bool plan_port_groups(struct scsi_command *c);
void run_port_groups(struct scsi_command *c);

/* plans and runs, by file; see table.c */
bool plan_inquiry(struct scsi_command *c);
void run_inquiry(struct scsi_command *c);
bool plan_mode_sense(struct scsi_command *c);
void run_mode_sense(struct scsi_command *c);
bool plan_mode_select(struct scsi_command *c);
void run_mode_select(struct scsi_command *c);
void run_request_sense(struct scsi_command *c);
bool plan_report_luns(struct scsi_command *c);
void run_report_luns(struct scsi_command *c);
bool plan_report_opcodes(struct scsi_command *c);
void run_report_opcodes(struct scsi_command *c);
void run_report_tmf(struct scsi_command *c);
bool plan_capacity10(struct scsi_command *c);
void run_capacity10(struct scsi_command *c);
void run_capacity16(struct scsi_command *c);
void run_defect_data(struct scsi_command *c);
bool plan_start_stop(struct scsi_command *c);
bool plan_prevent(struct scsi_command *c);

bool plan_read(struct scsi_command *c);
void run_read(struct scsi_command *c);
bool plan_write(struct scsi_command *c);
void run_write(struct scsi_command *c);
bool plan_write_verify(struct scsi_command *c);
void run_write_verify(struct scsi_command *c);
bool plan_verify(struct scsi_command *c);
void run_verify(struct scsi_command *c);
bool plan_range(struct scsi_command *c);
void run_prefetch(struct scsi_command *c);
bool plan_compare_write(struct scsi_command *c);
void run_compare_write(struct scsi_command *c);
bool plan_lba_status(struct scsi_command *c);
void run_lba_status(struct scsi_command *c);
bool plan_unmap(struct scsi_command *c);
void run_unmap(struct scsi_command *c);
bool plan_write_same(struct scsi_command *c);
void run_write_same(struct scsi_command *c);

#endif
