/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The auditor's rooms, seen from inside, in the order of its story: pool and findings (audit_pool.c), roots (audit_roots.c),
 * log (audit_log.c), slots (audit_slot.c), maps (audit_map.c).
 *
 * A function that returns enum err returns only what ends the audit; everything else is a finding, and the audit goes on.
 */
#ifndef IZAR_STORE_AUDIT_INTERNAL_H
#define IZAR_STORE_AUDIT_INTERNAL_H

#include "base/mem.h"
#include "base/text.h"
#include "store/audit.h"
#include "store/codec.h"

#define AUDIT_NONE UINT32_MAX

struct audit_device {
    struct io_file *file;
    const char *path;
    struct super super;
    uint32_t first_slot; /* a multiple of DIRECTORY_SLOTS */
};

struct audit_run {
    uint64_t start; /* units */
    uint32_t units, slot;
};

/* A place for a page in a slot of cleaned pages. */
struct audit_table {
    uint64_t *locators; /* ascending */
    uint32_t *offsets;  /* units */
    uint32_t count;
};

struct audit_slot {
    uint8_t kind; /* enum slot_kind */
    bool exists;
    bool reached;      /* HEAD: replay came here; `accepted` bytes of batches count */
    bool sealed;       /* HEAD: replay believed its summary */
    uint32_t accepted; /* bytes */
    uint32_t live, chunks;
    uint64_t segment;         /* HEAD, META */
    uint64_t marked;          /* units that are referenced */
    uint32_t first, count;    /* its chunks in the window */
    struct audit_table pages; /* CLEANED_META */
};

/* One chunk of the window. */
struct audit_chunk {
    uint64_t locator;
    uint32_t tag;
    bool bad, marked;
};

struct audit_volume {
    uint32_t id;
    uint32_t epoch;
    uint64_t blocks, committed;
    uint64_t appended; /* newest sequence seen in the log; 0: none yet */
    struct pointer root, state;
    uint32_t pending_first, pending_last; /* operations to be decided, in log order: index + 1 */
    bool unknown; /* created after the replay point, although the checkpoint says that its id was used before */
    bool deleting, deleted;
};

/* What one record does to a volume, as replayed. */
struct audit_op {
    uint64_t sequence, lba;
    uint32_t volume, next; /* next: pending of this volume, index + 1 */
    uint32_t epoch;
    uint8_t kind;
    bool learn;
    bool decided, undone; /* neither: both may still come */
};

/* `count` blocks from `lba`, all in one leaf, get this place. Order: the operation's index. */
struct audit_effect {
    uint64_t lba, place;
    uint32_t tag, count, volume, order;
};

/* From this operation on the blocks from `keep` on are unmapped. */
struct audit_cut {
    uint64_t keep;
    uint32_t volume, order;
};

struct audit {
    struct io *io;
    struct mem *mem;
    struct audit_report *report;
    struct audit_device devices[POOL_DEVICES_MAX];
    uint32_t device_count;
    struct super super; /* of the first device given */
    struct fingerprinter key;
    uint64_t salt, segment_bytes;
    uint8_t *buf;   /* one segment */
    uint8_t *small; /* 16 KiB */
    uint8_t *data;  /* 8 KiB: what was unpacked */

    struct checkpoint checkpoint;
    uint64_t replay_segment;
    uint32_t page_count, slot_count;
    struct audit_slot *slots;
    struct audit_run *runs; /* sorted by start once the log was read */
    uint32_t run_count, run_room;

    struct audit_volume *volumes; /* by id */
    uint32_t volume_count, volume_room;
    struct audit_op *ops;
    uint32_t op_count, op_room;
    struct audit_effect *effects;
    uint32_t effect_count, effect_room;
    struct audit_cut *cuts;
    uint32_t cut_count, cut_room;

    struct audit_chunk *chunks;
    uint32_t chunk_count, chunk_room;
    uint32_t window_first, window_end; /* slots */
    bool first_walk;                   /* pages are named bad only once */
    struct inner *inner;               /* one a level */
    struct leaf *leaf;
};

/* ---- audit_pool.c: findings, reading ---- */

void audit_problem(struct audit *a, const char *format, ...) TEXT_FORMAT(2, 3);
void audit_warning(struct audit *a, const char *format, ...) TEXT_FORMAT(2, 3);
/* Why the audit cannot go on; returns `err`. */
enum err audit_refuse(struct audit *a, enum err err, const char *format, ...) TEXT_FORMAT(3, 4);
/* True for what ends the audit: no memory, no power. A medium error is a finding. */
bool audit_ends(enum err err);
/* Room for one more of `count` items in an array that grows within the budget. */
enum err audit_grow(struct audit *a, void **at, size_t item, uint32_t count, uint32_t *room);
enum err audit_slot_read(struct audit *a, uint32_t slot, uint32_t offset, void *buf, uint32_t bytes);
const char *audit_kind_text(uint8_t kind);

/* ---- audit_roots.c ---- */

enum err audit_supers(struct audit *a, const struct store_config *config);
enum err audit_checkpoints(struct audit *a);
enum err audit_directory(struct audit *a);
enum err audit_run_add(struct audit *a, uint32_t slot, uint64_t start, uint32_t units);
/* Sorts the runs and looks for overlaps. */
void audit_runs_sort(struct audit *a);
/* The run that holds an address; NULL: none. */
const struct audit_run *audit_run_of(const struct audit *a, uint64_t address);

/* ---- audit_log.c ---- */

enum err audit_log(struct audit *a);

/* ---- audit_replay.c ---- */

enum err audit_replay_roots(struct audit *a);
enum err audit_replay_record(struct audit *a, const struct record *r, const struct entry *entries, uint64_t address);
/* After the last record: what the checkpoint says was committed; sorts what happened by leaf. */
enum err audit_replay_end(struct audit *a);
struct audit_volume *audit_volume_find(const struct audit *a, uint32_t id);

/* ---- audit_slot.c ---- */

/* Address tables of cleaned pages, which stay in memory. */
enum err audit_page_tables(struct audit *a);
/* Fills the window from slot `from` on with as many slots as there is room for; *ret_end: the first that did not fit. */
enum err audit_window(struct audit *a, uint32_t from, uint32_t *ret_end);
/* Counts what the walk marked in the window. */
void audit_window_end(struct audit *a);
/* A reference to a chunk, from `who`. */
void audit_reference(struct audit *a, uint64_t place, uint32_t tag, uint32_t volume, uint64_t lba, const char *who);

/* ---- audit_map.c ---- */

/* Walks all volumes and the undecided operations, once a window. */
enum err audit_maps(struct audit *a);

#endif
