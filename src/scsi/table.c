/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every command that there is, once. Dispatch, the check of CDB bits, write protection and REPORT SUPPORTED OPERATION CODES all
 * come from this table, so none of them can promise what another does not keep.
 */
#include "scsi/internal.h"

#define ANY (OP_ANY_LUN | OP_NO_ATTENTION | OP_ANY_ACCESS)
#define NONE NO_SERVICE_ACTION
#define F4 0xff, 0xff, 0xff, 0xff
#define F8 F4, F4

/* clang-format off */
const struct scsi_op scsi_ops[] = {
    /* code, service action, length, flags, bits from byte 0, plan, run */
    {0x00, NONE, 6, OP_READY, {0}, plan_nothing, run_good},                                     /* TEST UNIT READY */
    {0x03, NONE, 6, ANY, {0, 0x01, 0, 0, 0xff}, plan_answer, run_request_sense},                /* REQUEST SENSE */
    {0x08, NONE, 6, 0, {0, 0x1f, 0xff, 0xff, 0xff}, plan_read, run_read},                       /* READ(6) */
    {0x0a, NONE, 6, OP_WRITES, {0, 0x1f, 0xff, 0xff, 0xff}, plan_write, run_write},             /* WRITE(6) */
    {0x12, NONE, 6, ANY, {0, 0x01, 0xff, 0xff, 0xff}, plan_inquiry, run_inquiry},               /* INQUIRY */
    {0x15, NONE, 6, 0, {0, 0x10, 0, 0, 0xff}, plan_mode_select, run_mode_select},               /* MODE SELECT(6) */
    {0x1a, NONE, 6, 0, {0, 0x08, 0xff, 0xff, 0xff}, plan_mode_sense, run_mode_sense},           /* MODE SENSE(6) */
    {0x1b, NONE, 6, 0, {0, 0x01, 0, 0x0f, 0xf7}, plan_start_stop, run_good},                    /* START STOP UNIT */
    {0x1e, NONE, 6, 0, {0, 0, 0, 0, 0x03}, plan_prevent, run_good},                             /* PREVENT ALLOW REMOVAL */
    {0x25, NONE, 10, 0, {0, 0, F4, 0, 0, 0x01}, plan_capacity10, run_capacity10},               /* READ CAPACITY(10) */
    {0x28, NONE, 10, 0, {0, 0x18, F4, 0x1f, 0xff, 0xff}, plan_read, run_read},                  /* READ(10) */
    {0x2a, NONE, 10, OP_WRITES, {0, 0x18, F4, 0x1f, 0xff, 0xff}, plan_write, run_write},        /* WRITE(10) */
    {0x2e, NONE, 10, OP_WRITES, {0, 0x12, F4, 0x1f, 0xff, 0xff}, plan_write_verify, run_write_verify},
    {0x2f, NONE, 10, 0, {0, 0x16, F4, 0x1f, 0xff, 0xff}, plan_verify, run_verify},              /* VERIFY(10) */
    {0x34, NONE, 10, 0, {0, 0x02, F4, 0x1f, 0xff, 0xff}, plan_range, run_prefetch},             /* PRE-FETCH(10) */
    {0x35, NONE, 10, 0, {0, 0x06, F4, 0x1f, 0xff, 0xff}, plan_range, run_good},                 /* SYNCHRONIZE CACHE(10) */
    {0x37, NONE, 10, 0, {0, 0, 0x1f, 0, 0, 0, 0, 0xff, 0xff}, plan_answer, run_defect_data},    /* READ DEFECT DATA(10) */
    {0x41, NONE, 10, OP_WRITES, {0, 0x18, F4, 0x1f, 0xff, 0xff}, plan_write_same, run_write_same},
    {0x42, NONE, 10, OP_WRITES, {0, 0, 0, 0, 0, 0, 0x1f, 0xff, 0xff}, plan_unmap, run_unmap},   /* UNMAP */
    {0x55, NONE, 10, 0, {0, 0x10, 0, 0, 0, 0, 0, 0xff, 0xff}, plan_mode_select, run_mode_select},
    {0x5a, NONE, 10, 0, {0, 0x18, 0xff, 0xff, 0, 0, 0, 0xff, 0xff}, plan_mode_sense, run_mode_sense},
    {0x88, NONE, 16, 0, {0, 0x18, F8, F4, 0x1f}, plan_read, run_read},                          /* READ(16) */
    {0x89, NONE, 16, OP_WRITES, {0, 0x18, F8, 0, 0, 0, 0xff, 0x1f}, plan_compare_write, run_compare_write},
    {0x8a, NONE, 16, OP_WRITES, {0, 0x18, F8, F4, 0x1f}, plan_write, run_write},                /* WRITE(16) */
    {0x8e, NONE, 16, OP_WRITES, {0, 0x12, F8, F4, 0x1f}, plan_write_verify, run_write_verify},  /* WRITE AND VERIFY(16) */
    {0x8f, NONE, 16, 0, {0, 0x16, F8, F4, 0x1f}, plan_verify, run_verify},                      /* VERIFY(16) */
    {0x90, NONE, 16, 0, {0, 0x02, F8, F4, 0x1f}, plan_range, run_prefetch},                     /* PRE-FETCH(16) */
    {0x91, NONE, 16, 0, {0, 0x06, F8, F4, 0x1f}, plan_range, run_good},                         /* SYNCHRONIZE CACHE(16) */
    {0x93, NONE, 16, OP_WRITES, {0, 0x19, F8, F4, 0x1f}, plan_write_same, run_write_same},      /* WRITE SAME(16) */
    {0x9e, 0x10, 16, 0, {0, 0x1f, F8, F4, 0x01}, plan_answer, run_capacity16},                  /* READ CAPACITY(16) */
    {0x9e, 0x12, 16, 0, {0, 0x1f, F8, F4, 0}, plan_lba_status, run_lba_status},                 /* GET LBA STATUS */
    {0xa0, NONE, 12, ANY, {0, 0, 0xff, 0, 0, 0, F4}, plan_report_luns, run_report_luns},        /* REPORT LUNS */
    {0xa3, 0x0a, 12, OP_ANY_ACCESS, {0, 0xff, 0, 0, 0, 0, F4}, plan_port_groups, run_port_groups},
    {0xa3, 0x0c, 12, 0, {0, 0x1f, 0x87, 0xff, 0xff, 0xff, F4}, plan_report_opcodes, run_report_opcodes},
    {0xa3, 0x0d, 12, 0, {0, 0x1f, 0, 0, 0, 0, F4}, plan_answer, run_report_tmf},                /* REPORT SUPPORTED TMF */
    {0xa8, NONE, 12, 0, {0, 0x18, F8, 0x1f}, plan_read, run_read},                              /* READ(12) */
    {0xaa, NONE, 12, OP_WRITES, {0, 0x18, F8, 0x1f}, plan_write, run_write},                    /* WRITE(12) */
    {0xae, NONE, 12, OP_WRITES, {0, 0x12, F8, 0x1f}, plan_write_verify, run_write_verify},      /* WRITE AND VERIFY(12) */
    {0xaf, NONE, 12, 0, {0, 0x16, F8, 0x1f}, plan_verify, run_verify},                          /* VERIFY(12) */
    {0xb7, NONE, 12, 0, {0, 0x1f, 0, 0, 0, 0, F4}, plan_answer, run_defect_data},               /* READ DEFECT DATA(12) */
};
/* clang-format on */

const uint32_t scsi_op_count = sizeof scsi_ops / sizeof scsi_ops[0];
