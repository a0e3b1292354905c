/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The auditor: reads a closed or crashed pool, computes every structure again from the media, and names each disagreement.
 *
 * It shares nothing with the store but the decoders of the format: what recovery, the map, the cleaner and the checkpoint
 * believe is believed a second time here, by other code, so a mistake of theirs does not hide itself. It never writes.
 *
 * A problem is something that must not be, also not after a crash: the pool has lost data, or the store broke a rule. A
 * warning is something that costs safety or space but loses nothing: one of two copies, a slot that nobody will free.
 * Normal after a crash, and not mentioned: a torn tail of the log, a torn older side of the checkpoint, whatever lies in
 * slots that the directory calls free or in the rest of a segment of pages.
 */
#ifndef IZAR_STORE_AUDIT_H
#define IZAR_STORE_AUDIT_H

#include "store/store.h"

enum { AUDIT_LINES = 64, AUDIT_TEXT = 192, AUDIT_KINDS = SLOT_CLEANED_META + 1 };

struct audit_line {
    bool problem;
    char text[AUDIT_TEXT];
};

/* All zero before the call, but for the first three. */
struct audit_report {
    bool quick;                                             /* in: structures only, no chunk of data is read */
    void (*say)(void *arg, bool problem, const char *text); /* in: every finding as it is made; may be NULL */
    void *arg;
    char sentence[256]; /* why audit_pool failed */

    uint64_t problems; /* 0: the pool is sound */
    uint64_t warnings;
    struct audit_line lines[AUDIT_LINES]; /* the first findings; problems come before warnings when it gets tight */
    uint32_t line_count;

    uint64_t checkpoint;                   /* number of the newest */
    uint32_t checkpoints_good;             /* of 4 copies */
    uint64_t slots, slots_of[AUDIT_KINDS]; /* by enum slot_kind */
    uint64_t slots_unreferenced;           /* in use, but nothing in them is referenced: the cleaner's next */
    uint64_t segments_replayed, batches_replayed, records_replayed, records_discarded;
    uint64_t prepared; /* operations that are neither committed nor discarded */
    uint64_t volumes;
    uint64_t blocks_mapped, blocks_zero; /* mapped: to chunks */
    uint64_t chunks;                     /* listed in all slots */
    uint64_t chunks_checked;             /* of these: read, unpacked and fingerprinted; 0 when quick */
    uint64_t chunks_live;
    uint64_t pages, state_keys;
    uint64_t live_units;    /* by marking; chunks and pages */
    uint64_t live_estimate; /* what the directory says; drifts, is no problem */
    uint32_t windows;       /* times the maps were walked, one for each portion of the slots that fit into memory */
};

/* [task] Audits the pool on config's devices, within config->memory (0: 1 GiB). OK when the audit came to its end: then
 * `problems` says what it found. Else nothing is known about the pool and `sentence` says why: what io_file_open says,
 * ERR_NOT_OURS, ERR_SUPER_LOST, ERR_OTHER_POOL, ERR_DEVICE_MISSING, ERR_NEW_FORMAT, ERR_TOO_SMALL, ERR_CHECKPOINT_LOST,
 * ERR_NO_MEMORY, ERR_POWER. */
enum err audit_pool(struct io *io, const struct store_config *config, struct audit_report *ret_report);

#endif
