/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One node's pool: volumes of 4 KiB blocks, kept durably, deduplicated and compressed, in one log over one or more
 * devices. Knows no network and no order of its own: the caller numbers operations, the store prepares them (durable, not
 * visible), and later publishes (visible) or discards them.
 *
 * A store lives on one loop; every call must come from it. Calls marked [task] wait and must run inside an io_task.
 *
 * Rules for the caller of prepare and publish, per volume:
 *   - sequences are consecutive, from 1 (the CREATE); operations are prepared in sequence order,
 *   - published in sequence order, each after its `done` said OK,
 *   - epochs never decrease from one operation to the next; a discard takes back those of what it discards,
 *   - a discard names the first sequence that never happened; nothing of the volume may be waiting or under way then.
 */
#ifndef IZAR_STORE_STORE_H
#define IZAR_STORE_STORE_H

#include "io/io.h"
#include "store/digest.h"
#include "store/mutation.h"

struct store;

struct store_device_config {
    const char *path;
    enum device_class class;
};

struct store_config {
    struct store_device_config devices[POOL_DEVICES_MAX];
    uint32_t device_count;
    uint64_t memory;          /* bytes for everything the store keeps; at least STORE_MEMORY_MIN; 0: 1 GiB */
    uint32_t reserve_percent; /* slots that foreground writes never fill; 0: 15; 5 to 50 */
    bool read_only;           /* look, never write: no recovery is written, prepare fails */
    bool discard;             /* give freed slots back below, where a device or file can (hole punch, discard) */
    bool no_clean;            /* tests: the cleaner runs only when asked */
    uint32_t delta_leaves;    /* tests: leaves that fit into the delta; 0: a share of memory */
    uint32_t checkpoint_ms;   /* longest time between checkpoints while something changed; 0: 30,000 */
};

#define STORE_MEMORY_MIN (10ull << 20) /* with small segments; 64 MiB with 4 MiB segments */

struct store_format_config {
    struct store_device_config devices[POOL_DEVICES_MAX];
    uint32_t device_count;
    uint64_t size;         /* bytes of each device that is a file: it is made or grown to that; 0: as it is */
    uint8_t segment_shift; /* 0: 22 (4 MiB) */
    bool force;            /* overwrite what is there, also another pool */
    const uint8_t *key;    /* of fingerprints, STORE_KEY_BYTES: that of a cluster's other pools; NULL: a new random one */
    char name[32];
};

enum { STORE_KEY_BYTES = 64 };

/* [task] Makes a pool. ERR_ARGUMENT (number of devices, segment_shift), ERR_DEVICE_CLASS, both before anything is touched;
 * ERR_IN_USE (data there, no force), ERR_TOO_SMALL, and what io_file_open says. */
enum err store_format(struct io *io, const struct store_format_config *config);

/* Where an error came from, for the person who reads it: "disk2.img: another pool's device; ...". */
struct store_problem {
    char text[256];
};

/* [task] Opens, recovers and starts a pool. Prepared operations that were neither published nor discarded before a crash
 * wait in store_prepared. ret_problem (may be NULL) gets a sentence when it fails. ERR_NOT_OURS, ERR_OTHER_POOL,
 * ERR_DEVICE_MISSING, ERR_NEW_FORMAT, ERR_TOO_SMALL (truncated), ERR_LOCKED, ERR_SUPER_LOST, ERR_CHECKPOINT_LOST,
 * ERR_LOG_DAMAGED, ERR_NO_MEMORY, ERR_IO... */
enum err store_open(struct io *io, const struct store_config *config, struct store **ret_store,
                    struct store_problem *ret_problem);
/* [task] Writes everything out, marks the pool clean, frees the store. No operation may be under way. */
enum err store_close(struct store *store);
/* Frees the store without writing anything, and drops its tasks: after a simulated power cut, when nothing of it will ever
 * complete any more. A store that was opened read_only is closed like any other. */
void store_abandon(struct store *store);

const struct fingerprinter *store_key(const struct store *store);
/* The secret that it is made of, for another pool of the same cluster: contents can be compared between pools of one key only.
 * */
void store_key_get(const struct store *store, uint8_t ret_key[STORE_KEY_BYTES]);
/* [task] Gives a pool without volumes another one: durable when it returns, and a crash leaves one or the other. No volume may
 * be made meanwhile. ERR_BUSY (it holds a volume), ERR_PERMISSION (read_only), ERR_POOL_FAILED. */
enum err store_key_set(struct store *store, const uint8_t key[STORE_KEY_BYTES]);
/* What tells this pool from every other one, for life. */
void store_pool_id(const struct store *store, uint8_t ret_id[16]);
/* Blocks with data that one operation may carry: RECORD_BLOCKS_MAX, fewer in pools with small segments. */
uint32_t store_write_max(const struct store *store);

/* ---- operations that change ---- */

enum store_op_state { STORE_OP_IDLE, STORE_OP_QUEUED, STORE_OP_LOGGED, STORE_OP_PREPARED, STORE_OP_FAILED };

struct store_op {
    void (*done)(struct store_op *op); /* durable, or failed: `err` says */
    enum err err;
    /* in; must not change until done ran */
    enum record_kind kind; /* DATA, STATE, CREATE, DELETE, RESIZE, NOOP, MOVE; not DISCARD */
    enum entry_kind what;  /* DATA: NEW (blocks with data), ZERO or UNMAP (count up to RECORD_UNMAP_MAX) */
    bool learn;            /* catch-up (see below): `sequence` is a stamp; always with MOVE */
    uint32_t volume;
    uint32_t epoch;
    uint64_t sequence;
    uint64_t lba;                       /* DATA: first block; CREATE, RESIZE: size in blocks */
    uint32_t count;                     /* DATA: blocks; with NEW at most RECORD_BLOCKS_MAX */
    const struct block_digest *digests; /* NEW: one a block; kept until done */
    const void *key, *value;            /* STATE; MOVE: key_bytes may be 0 */
    uint32_t key_bytes, value_bytes;
    uint64_t request;
    uint32_t boot;
    uint16_t node;
    struct store_pledge *pledge; /* NEW takes its blocks from there and always finds room; not with `learn` */
    /* out, from done on: the predecessor is {previous_epoch, sequence - 1} */
    uint32_t previous_epoch;
    /* private to the store */
    struct list link;
    struct store *store;
    enum store_op_state state;
    uint64_t ticket;      /* its turn among all operations */
    uint32_t loads;       /* summaries it waits for */
    uint64_t batch;       /* number of the batch it is in */
    uint64_t position;    /* log address of its record */
    uint8_t *state_copy;  /* STATE: key and value until published */
    struct list prepared; /* in the store's list, from append to publish or discard */
    uint64_t places[RECORD_BLOCKS_MAX];
    uint32_t tags[RECORD_BLOCKS_MAX];
};

/* Prepares: `done` when the record is durable here; never inline. The op must live until it was published or discarded, or
 * failed. ERR_ARGUMENT (a kind, a `what` or a number that no operation has), ERR_RANGE, ERR_LIMIT (blocks, key or value, keyed
 * state, volumes), ERR_NO_VOLUME, ERR_VOLUME_EXISTS, ERR_ORDER (a sequence that is not the next, also because the one before
 * has failed), ERR_NO_SPACE (only NEW data without a pledge), ERR_NO_MEMORY, ERR_PERMISSION (read_only),
 * ERR_POOL_FAILED, ERR_STOPPED. */
void store_prepare(struct store *store, struct store_op *op);

/*
 * Pledges. Who admits operations before they are prepared, because others prepare them as well, has space pledged first: what
 * is taken from a pledge always finds room, however full the pool is by then.
 */
struct store_pledge {
    struct store *store;
    uint32_t blocks; /* that are left: look, do not write */
};
/* `holders`: how many there will be, as far as is known, that share what can be pledged. */
void store_pledge_begin(struct store *store, struct store_pledge *pledge, uint32_t holders);
/* What is left of it is anyone's again. Fine also after a begin that never was (zeros). */
void store_pledge_end(struct store_pledge *pledge);
enum store_room {
    STORE_ROOM,        /* there is some; the holder may have all of its share already */
    STORE_ROOM_LATER,  /* the cleaner is at it: ask again soon */
    STORE_FULL,        /* there will be none unless something is unmapped or deleted */
    STORE_ROOM_FAILED, /* nothing can be written any more */
};
/* Pledges up to `most` more blocks and returns how many. `again`: for what may have been pledged before the pool was opened,
 * when others may count on it still; it may take a little of the reserve. Shares are not less than store_write_max. */
uint32_t store_pledge_more(struct store_pledge *pledge, uint32_t most, bool again, enum store_room *ret_room);

/* Makes a prepared operation visible: the volume's next by sequence, after its `done` said OK. Never fails. */
void store_publish(struct store *store, struct store_op *op);
/*
 * Catching up: operations with `learn` are changes that were ordered elsewhere. They are applied one by one, in the order in
 * which they are given, each as soon as it is durable: `done` then says that it is visible, and the struct is the caller's
 * again. After a crash those of a prefix are there.
 *
 *   - DATA, STATE, RESIZE, NOOP and DELETE may be caught up with. `sequence` is the stamp: the newest operation of the volume
 *     that the blocks are as of, so they count as changed after every older one. Stamps may repeat and jump.
 *   - Of DATA the blocks beyond the volume's end are left out, and `count` is lowered to what is applied: after a crash
 *     operations are given again that a RESIZE behind them cut off already.
 *   - The volume stays at the sequence where it stands (store_volume_info.published), and is `learning` from the first of them
 *     on, until MOVE is durable: then it stands at {epoch, sequence} of that, and one key (as of STATE, e.g. a local one)
 *     changes in the same moment. The next operation is the one after that sequence.
 *   - Nothing of the volume may be prepared and undecided, and it takes no other operation while it learns: ERR_ORDER. Nor
 *     does it after a MOVE that is not done, nor a MOVE to {epoch, sequence} before where it stands, unless the epoch is
 *     higher: operations that it had published may turn out not to have happened.
 *   - When one fails, those of the same volume that were given to the store behind it, before its `done`, fail with ERR_ORDER.
 *   - Keys whose first byte is STATE_LOCAL are this replica's own: how far it has learned, what it may promise. They are set
 *     by STATE with `learn` only, at any time, take no part in any order and are not in digests; to set one does not begin to
 *     learn.
 */

/*
 * Requests. An operation may say whose request it is: node (below REQUEST_NODES), boot of that node (not 0) and number, which
 * grows. Publishing notes it in the volume's request windows, together with the operation itself; so they tell after any crash
 * which requests took place. Who learns sets them as they are elsewhere: an operation with `learn`, filled in below.
 */
struct store_window {
    uint32_t boot;       /* 0: none yet */
    uint64_t high, done; /* newest request that took place; bit i: high - i did (REQUEST_WINDOW of them) */
};
void store_windows(const struct store *store, uint32_t volume, struct store_window ret_windows[REQUEST_NODES]);
/* Fills in kind, learn, key and value of an operation that sets them; `ret_value` lives until done. */
void store_windows_op(const struct store_window windows[REQUEST_NODES], struct disk_window ret_value[REQUEST_NODES],
                      struct store_op *op);

/* [task] Discards every prepared operation of the volume from `sequence` on; logged and durable when it returns. Nothing of the
 * volume may be waiting or under way, and nothing may be submitted meanwhile. ERR_NO_VOLUME, ERR_ORDER (`sequence` is
 * published, or beyond the one after the newest), ERR_AGAIN (something is under way), ERR_PERMISSION (read_only),
 * ERR_POOL_FAILED. */
enum err store_discard(struct store *store, uint32_t volume, uint64_t sequence);
/* After recovery: the oldest prepared operation of the volume that waits for a decision, NULL if none. It belongs to the
 * store; publish it or discard it. */
struct store_op *store_prepared(struct store *store, uint32_t volume);
/* The same for all of them, in order: the first with a higher sequence than `after`; NULL when there is none, or none that is
 * durable yet. Everything that was given to store_prepare is in it (`what` NEW also where some of the blocks are zeros), but
 * for `digests`: the blocks of DATA are read with store_read.of, key and value of STATE are there. Also for operations that
 * the caller has prepared itself. */
struct store_op *store_prepared_next(struct store *store, uint32_t volume, uint64_t after);

/* ---- reading ---- */

struct store_read {
    void (*done)(struct store_read *read);
    enum err err; /* see store_read */
    uint32_t volume;
    uint64_t lba;
    uint32_t count;  /* 1 to STORE_READ_MAX */
    uint8_t *data;   /* count * BLOCK_SIZE */
    uint8_t *mapped; /* not NULL: instead of data, for each block whether it is mapped (1, also when written as zeros) or not */
    bool media;      /* from the devices, whatever the cache has, and it keeps nothing of it */
    bool elsewhere;  /* what is damaged here may be had from somebody else: the caller sees to it (store_mend) */
    const struct store_op *of; /* not NULL: not what is published, but what this prepared operation makes of its blocks */
    uint64_t bad;              /* ERR_MEDIUM, ERR_PAGE_DAMAGED: first block that could not be read */
    /* private */
    struct list link;
    struct store *store;
    uint32_t state, next, pending;
    void *work;
};

enum { STORE_READ_MAX = RECORD_BLOCKS_MAX * 8 };

/* Reads whole blocks, each as it is published at one moment before `done`, which comes from the loop, never inline.
 * ERR_NO_VOLUME (also when its CREATE is not published), ERR_RANGE, ERR_MEDIUM (a block is damaged), ERR_PAGE_DAMAGED (the map
 * is), and what io_read says. Then `data` may hold anything; after ERR_MEDIUM the blocks before `bad` are in it.
 * With `of`, a prepared DATA operation, the blocks lie within it: ERR_RANGE if not, ERR_ARGUMENT if it is nothing of the kind.
 * It must be neither published nor discarded before `done`; `volume` does not count. */
void store_read(struct store *store, struct store_read *read);

/*
 * Mending. A log address says for ever what the chunk at it holds, and the summary of its slot keeps the chunk's fingerprint:
 * so who has a block's content from somewhere else can prove that it is the one that was lost, whoever that is and whatever
 * was written since. The chunk is then written again where it was: every block that refers to it, of any volume, is whole
 * again. No order has to be kept, and nothing is logged: the sectors get what they hold, with the chunk as it was, so a crash
 * leaves it damaged or mended and harms nothing beside it, on a device that leaves a sector old or new.
 *
 * Not mended: what the device refuses to read (what else is in the sector is not known), and what this version would store in
 * another length than it was stored in.
 */

/* [task] Has a block of the volume, as it is published now, this content? If it has, and its chunk is damaged, the chunk is
 * mended, durably, and *ret_mended is set. ERR_CONFLICT: it has another one, or that cannot be proven; ERR_MEDIUM: it has this
 * content, and its chunk cannot be mended; ERR_NO_VOLUME, ERR_RANGE, ERR_NO_MEMORY, ERR_PAGE_DAMAGED and what else reading a
 * page says. */
enum err store_mend(struct store *store, uint32_t volume, uint64_t lba, const struct block_digest *digest, bool *ret_mended);
/* Nobody has what a block lost: that is counted. */
void store_mend_nothing(struct store *store);

/* ---- volumes and state ---- */

struct store_volume_info {
    uint32_t id;
    uint32_t epoch;
    uint64_t blocks;
    uint64_t published; /* newest published sequence */
    uint64_t prepared;  /* newest prepared sequence */
    bool learning;      /* catch-up is not over: the content may be of no one sequence */
};

/* The volume with the lowest id from `from` on, also one whose CREATE is only prepared (published is 0 then). ERR_NO_VOLUME. */
enum err store_volume_next(const struct store *store, uint32_t from, struct store_volume_info *ret_info);
/* Highest volume id ever used. */
uint32_t store_last_volume(const struct store *store);
/* One key of a volume's published keyed state; the bytes live until the next publish. ERR_NO_KEY. */
enum err store_state_get(const struct store *store, uint32_t volume, const void *key, uint32_t key_bytes,
                         const void **ret_value, uint32_t *ret_bytes);
/* [task] Content digest of a volume as of one sequence, the newest published one, which is returned: two words are the Merkle
 * root over its blocks, two are over its size and its keyed state. Two volumes, also of two pools with the same key, have
 * equal digests when they have the same size, the same keys with the same values (local ones aside), and each block is in both
 * of them unmapped, or written as zeros, or mapped with equal tags (the first 32 bits of the keyed fingerprint). An unmapped
 * block and one of zeros differ, because GET LBA STATUS tells them apart. What does not matter: places, duplicates, how
 * records were cut, catch-up, cleaning. Flushes the delta first, again and again as long as something is published meanwhile:
 * ERR_AGAIN when that does not end, then the caller should hold back its publishes for the second call, which has little left
 * to flush. ERR_NO_VOLUME, and what store_checkpoint says. */
enum err store_volume_digest(struct store *store, uint32_t volume, uint64_t *ret_sequence, uint64_t ret_digest[4]);
/* [task] Calls `each` for every stretch of blocks (whole leaves) that may have changed after sequence `since`, up to the
 * volume's end: what a RESIZE cut off since then is told by that operation, not here. Flushes the delta first. ERR_NO_VOLUME,
 * ERR_PAGE_DAMAGED and what else reading a page says, and what store_checkpoint says. */
enum err store_changed_since(struct store *store, uint32_t volume, uint64_t since,
                             void (*each)(void *arg, uint64_t lba, uint32_t count), void *arg);

enum { STORE_CHANGES_MAX = 8 * LEAF_BLOCKS };

struct store_changes {
    uint64_t next;    /* where to go on: nothing changed from the end of the stretch up to there; UINT64_MAX: that was all */
    uint32_t changed; /* blocks in `map` */
    uint8_t map[STORE_CHANGES_MAX / 8]; /* bit i % 8 of byte i / 8: block lba + i may have changed */
};

/* [task] Which of the `count` blocks (1 to STORE_CHANGES_MAX) from `lba` on may have changed after sequence `since`; 0: all
 * that the volume has, also never written ones. What was published before the call is in it, what is published meanwhile may
 * be. Nothing is flushed: what lies in pages is told for whole leaves, what is in memory exactly. Bounded work: a few pages
 * are read, and it looks a limited way ahead for `next`. A walk may go on from `next` at any time, also after a restart.
 * ERR_NO_VOLUME, ERR_ARGUMENT, ERR_PAGE_DAMAGED and what else reading a page says. */
enum err store_changes_in(struct store *store, uint32_t volume, uint64_t since, uint64_t lba, uint32_t count,
                          struct store_changes *ret_changes);

/* ---- upkeep ---- */

/* [task] Writes a checkpoint; with `flush` the whole delta first. On a full pool it cleans as long as that gains something.
 * ERR_NO_SPACE, ERR_PERMISSION (read_only), ERR_POOL_FAILED, and what the devices say: then the pool has failed. */
enum err store_checkpoint(struct store *store, bool flush);
/* [task] One pass of the cleaner, whether it pays or not, and the checkpoint that makes the slots free. *ret_gained: slots, 0
 * when there was no space to gain any. ERR_PERMISSION (read_only), ERR_POOL_FAILED, and what reading the maps says. */
enum err store_clean(struct store *store, uint32_t *ret_gained);

struct store_stats {
    uint64_t slots, slots_free, slots_pending; /* pending: free after the next checkpoint */
    uint64_t slots_beyond;                     /* not counted: `memory` is too small to describe them */
    uint64_t segment_bytes;
    uint64_t live_bytes;   /* estimate */
    uint64_t user_written; /* bytes of client data prepared */
    uint64_t new_blocks, dup_blocks, zero_blocks, unmapped_blocks;
    uint64_t stored_bytes;   /* chunks of new blocks, padded */
    uint64_t head_bytes;     /* written to HEAD slots, batches with padding */
    uint64_t summary_bytes;  /* summaries of HEAD slots */
    uint64_t unfilled_bytes; /* left between batches and summary: the next record did not fit */
    uint64_t meta_bytes;     /* map pages written */
    uint64_t directory_bytes, checkpoint_bytes;
    uint64_t cleaned_bytes; /* written by the cleaner */
    uint64_t slots_cleaned, walks;
    uint64_t trimmed_bytes; /* of free slots, given back below */
    uint64_t batches, checkpoints, leaf_flushes, leaf_loads, summary_loads;
    uint64_t cache_hits, cache_misses, device_reads;
    uint64_t medium_errors;    /* times that something could not be read back */
    uint64_t mended, unmended; /* damaged chunks that are whole again; times that nothing could be done */
    uint64_t memory, memory_used, index_bytes, index_entries, directory_ram, sketch_ram, delta_entries, delta_capacity;
    uint64_t slot_ram;   /* of one slot that is or was in use, besides the directory */
    uint64_t tables_ram; /* at most: cached address tables and fingerprints, and the cleaner's with their marks */
    uint64_t replayed_records, recovery_ns;
    bool failed, full;
};
void store_stats(const struct store *store, struct store_stats *ret_stats);

/* One line about the store, for traces and assertions. Returns `buf`. */
const char *store_text(const struct store *store, char *buf, size_t size);

#endif
