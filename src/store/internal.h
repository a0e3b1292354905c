/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store's own rooms, seen from inside: struct store and what its files offer each other, headed by file.
 *
 * Everything here belongs to the store's one loop. Two kinds of code run on it: callbacks (prepare, batch completion,
 * read) that never wait, and the one upkeep task (delta flush, checkpoint, walk, cleaning) that waits often. Because upkeep is
 * one task, the tree of map pages and the runs of the directory change only between its waits; the foreground changes
 * only the delta, the head and the lists of operations.
 */
#ifndef IZAR_STORE_INTERNAL_H
#define IZAR_STORE_INTERNAL_H

#include "base/hash.h"
#include "base/list.h"
#include "base/mem.h"
#include "store/cache.h"
#include "store/codec.h"
#include "store/digest.h"
#include "store/directory.h"
#include "store/index.h"
#include "store/store.h"

#define NO_SLOT UINT32_MAX

/* ---- slots.c: physical places ---- */

enum slot_state {
    SLOT_IS_FREE,
    SLOT_IS_PROMISED, /* in the head list of the newest checkpoint, not opened yet */
    SLOT_IS_USED,
    SLOT_IS_PENDING,  /* cleaned; free after checkpoint `free_after` and the last reader */
    SLOT_IS_TRIMMING, /* free, but a discard of it is under way */
};

struct slot {
    uint8_t kind;  /* enum slot_kind */
    uint8_t state; /* enum slot_state */
    uint8_t age;   /* the cleaner's pass that wrote it, low byte; 0: none */
    uint8_t runs;
    uint32_t live;   /* estimate, units */
    uint32_t chunks; /* 0: unknown */
    uint32_t readers;
    uint32_t life;            /* counts reuse, so that late loads notice */
    uint32_t candidate;       /* place + 1 among the cleaner's candidates */
    uint32_t proven;          /* the walk that `live` was taken from */
    bool victim;              /* the proof is done: nothing in it gains a reference any more */
    bool sealed;              /* HEAD: its summary is on the device */
    bool bad;                 /* a read of it failed: the cleaner leaves it alone */
    bool suspect;             /* a block of it could not be read: nothing more is referred to it */
    bool stale;               /* was used, is not any more, and the device still holds its bytes */
    uint64_t free_after;      /* checkpoint number */
    uint64_t start[RUNS_MAX]; /* of its runs, in units */
};

struct slot_page {
    struct slot slots[DIRECTORY_SLOTS];
};

/* One of the pool's, in the order of its superblocks. */
struct device {
    struct io_file *file;
    char path[256];
    uint32_t first_slot, slots; /* first_slot is a multiple of DIRECTORY_SLOTS */
    uint64_t directory_at, data_at;
    bool discards;
    bool dirty; /* written since the last sync */
};

struct slot *slot_at(const struct store *s, uint32_t slot);   /* asserts that it was used before */
struct slot *slot_peek(const struct store *s, uint32_t slot); /* NULL: never used */
/* A FREE slot becomes PROMISED or USED; for USED a promise is taken back when nothing else is free. False: there is none, or no
 * memory. */
bool slot_alloc(struct store *s, enum slot_state state, uint32_t *ret_slot);
struct slot *slot_touch(struct store *s, uint32_t slot); /* makes its page; NULL: no memory */
void slot_release(struct store *s, uint32_t slot);       /* to FREE */
uint32_t slot_capacity(const struct store *s);           /* units of chunks that a cleaned slot holds, about */
bool slot_exists(const struct store *s, uint32_t slot);  /* some device has it */
/* Its device and the byte there at which it begins. */
void slot_where(struct store *s, uint32_t slot, struct device **ret_device, uint64_t *ret_offset);
/* To USED, and its runs into the directory, which has room for them. */
void slot_use(struct store *s, uint32_t slot, enum slot_kind kind, uint32_t runs, const struct run *run);
void slot_retire(struct store *s, uint32_t slot); /* its runs are gone from the directory: PENDING */
/* This checkpoint is durable: what is PENDING and waited for it is FREE, unless it is still read. */
void slot_freed_by(struct store *s, uint64_t checkpoint);
void slot_dirty(struct store *s, uint32_t slot); /* the next checkpoint writes its page of the directory */
/* A mapping to this chunk went away, others may still have it: lowers the estimate of what is alive. */
void slot_lost_units(struct store *s, uint64_t address, uint32_t units);
/* The same for a mapping that went away when `walk` was the newest walk: a slot proven since has counted that. */
void slot_lost_after(struct store *s, uint64_t address, uint32_t units, uint32_t walk);
/* While it is read it is not used again. */
void slot_reader_add(struct store *s, uint32_t slot);
void slot_reader_done(struct store *s, uint32_t slot);

/* ---- waiting ---- */

/* Stands in one list until that is woken; then `wake` runs from the loop, and looks again at what it waited for. */
struct waiter {
    void (*wake)(struct waiter *w);
    struct list link;
    bool waiting;
};
void waiter_wait(struct list *list, struct waiter *w);
void waiters_wake(struct store *s, struct list *list); /* all of them; never inline */

/* For a task: it parks as long as `waiter.waiting`. */
struct task_waiter {
    struct waiter waiter;
    struct io_task *task;
};
void task_waiter_init(struct task_waiter *w);
void waiter_ignore(struct waiter *w); /* a wake for who tries again anyway */
/* Takes out of their lists those that still wait: their memory goes. */
void waiters_end(struct waiter *waiters, uint32_t count);

/* ---- summary.c: what is in a slot: addresses and fingerprints, cached ---- */

struct summary {
    struct list lru;
    struct list waiters;
    struct summary *hash_next;
    uint32_t slot, life;
    uint32_t count, capacity;
    uint32_t pins;
    bool loading, has_prints, open, cleaned, failed;
    uint32_t id;
    uint64_t *locators;         /* ascending */
    uint32_t *offsets;          /* CLEANED: of the chunk in the slot, units */
    struct fingerprint *prints; /* NULL unless has_prints */
    struct store *store;
    struct io_op op;
    uint8_t *buf;
    uint32_t buf_bytes;
    uint64_t buf_at;
    struct trailer trailer;
    bool want_prints;
    uint8_t stage;
    uint64_t bytes;
};

struct summaries {
    struct list lru;
    struct summary **hash;
    uint32_t hash_size, count;
    uint64_t bytes, budget;
    struct summary **by_id;
    uint32_t ids;
    uint64_t *prints; /* open addressing: tag 24 | id 16 | place 24 */
    uint32_t prints_size, prints_used;
};

enum err summaries_init(struct store *s, uint64_t budget);
/* The cached summary of a slot; NULL and a load under way (w is woken when it ends) when it is not. *ret_failed: it cannot be
 * read. w NULL: do not load. */
struct summary *summary_get(struct store *s, uint32_t slot, bool prints, struct waiter *w, bool *ret_failed);
struct summary *summary_open(struct store *s, uint32_t slot); /* of the head segment; grows by summary_append */
bool summary_append(struct store *s, struct summary *sum, uint64_t locator, const struct fingerprint *print);
void summary_sealed(struct store *s, struct summary *sum);
void summary_drop(struct store *s, uint32_t slot); /* the slot changed its content */
/* The chunk with this fingerprint in any cached summary, as a place; PLACE_NONE when none. */
uint64_t summary_find(struct store *s, const struct fingerprint *print);
/* Place of an address in a summary; UINT32_MAX when it is not there. */
uint32_t summary_position(const struct summary *sum, uint64_t address);
enum err summary_parse_head(struct store *s, struct summary *sum, uint64_t base, const uint8_t *body, size_t size);

/* ---- locate.c: from log address to device ---- */

enum located { LOCATED, LOCATE_WAIT, LOCATE_LOST };
/* LOCATED: in memory at *ret_memory, until the caller waits; or *ret_memory is NULL, and it is at this byte of this slot.
 * WAIT: w is woken, ask again. LOST: no slot has that address. */
enum located locate(struct store *s, uint64_t address, struct waiter *w, uint32_t *ret_slot, uint32_t *ret_offset,
                    const uint8_t **ret_memory);
/* [task] Reads the chunk of a locator into buf (room: 16 KiB, aligned); *ret_chunk points to its header. Not verified. */
enum err fetch_chunk(struct store *s, uint64_t locator, uint8_t *buf, const uint8_t **ret_chunk);
/* [task] Reads a stretch of a slot, sector aligned. */
enum err slot_read(struct store *s, uint32_t slot, uint32_t offset, void *buf, uint32_t bytes);
/* [task] Writes one, sector aligned; durable after the next devices_sync. */
enum err slot_write(struct store *s, uint32_t slot, uint32_t offset, const void *buf, uint32_t bytes);

/* ---- volume.c: volumes and keyed state ---- */

struct state_entry {
    uint8_t key_bytes;
    uint16_t value_bytes;
    uint8_t *bytes; /* key, value */
};

struct volume {
    struct list link; /* in id order */
    uint32_t id, epoch;
    uint64_t blocks;
    uint64_t appended;  /* newest sequence in the log */
    uint64_t prepared;  /* newest durable sequence */
    uint64_t published; /* newest visible sequence */
    uint64_t effects;   /* counts what became visible since the start */
    uint64_t resized;   /* of the newest CREATE or RESIZE that was appended; 0: none since the start */
    uint32_t appended_epoch;
    bool deleting; /* a DELETE is in the log */
    bool deleted;  /* and published: upkeep will remove it */
    uint64_t cut;  /* the tree from this LBA on counts as unmapped; UINT64_MAX: none */
    uint64_t cut_sequence;
    /* learn.c */
    bool learning, moving;    /* catch-up is not over; a MOVE is under way */
    uint32_t learns, catches; /* operations with `learn` under way; without local keys */
    uint32_t learn_failing;   /* that have failed and whose caller was not told yet */
    uint64_t learn_broken;    /* ticket up to which they fail, too */
    uint64_t stamped;         /* newest stamp ever */
    struct pointer root, state_root;
    struct list leaves; /* of its delta */
    uint32_t leaf_count;
    struct state_entry *state;
    uint32_t state_count, state_room, state_bytes;
    bool state_dirty;
    uint64_t *state_pages; /* locators of the written pages, ends with 0 */
};

struct volume *volume_find(const struct store *s, uint32_t id); /* NULL: none, or its DELETE is published */
struct volume *volume_add(struct store *s, uint32_t id);        /* empty; NULL: no memory */
void volume_remove(struct store *s, struct volume *v);          /* with its delta, pages and keyed state; frees it */
/* Sets a key of the keyed state; no bytes of value: removes it. False: no memory. */
bool state_set(struct store *s, struct volume *v, const uint8_t *key, uint32_t key_bytes, const uint8_t *value,
               uint32_t value_bytes);
/* A key; false: there is none. */
bool state_find(const struct volume *v, const uint8_t *key, uint32_t key_bytes, const void **ret_value, uint32_t *ret_bytes);
enum err state_write(struct store *s, struct volume *v);                                /* [task] pages to META */
enum err state_load(struct store *s, struct volume *v);                                 /* [task] */
uint64_t state_page_locator(const struct store *s, const struct volume *v, uint32_t i); /* for the walk; 0: none */

/* ---- windows.c: which requests took place ---- */

/* Room for windows_note. ERR_NO_MEMORY. */
enum err windows_room(struct store *s, struct volume *v);
/* The operation's request took place. */
void windows_note(struct store *s, struct volume *v, const struct store_op *op);

/* ---- delta.c: newest mappings in RAM ---- */

enum delta_base { DELTA_BASE_DISK, DELTA_BASE_UNMAPPED, DELTA_BASE_ZERO };

struct delta_entry {
    uint64_t place;
    uint32_t tag;
    uint32_t hash_next, leaf_next; /* + 1 */
    uint32_t leaf;
    uint16_t at;
    uint16_t walk; /* walks begun when it came, low bits */
};

struct delta_leaf {
    struct list by_volume, by_age;
    struct volume *volume;
    uint64_t index;
    uint64_t segment; /* oldest head segment that has one of its records */
    uint64_t newest;
    uint64_t round;            /* number of the whole flush before which it was made */
    uint32_t hash_next, first; /* + 1 */
    uint16_t count;
    uint8_t base;
    bool used;
};

struct delta {
    struct delta_entry *entries;
    struct delta_leaf *leaves;
    uint32_t *entry_hash, *leaf_hash;
    uint32_t entry_room, leaf_room, entry_mask, leaf_mask;
    uint32_t entry_free, leaf_free; /* heads of free lists, + 1 */
    uint32_t entries_used, leaves_used;
    uint32_t entries_reserved, leaves_reserved;
    uint64_t round; /* counts whole flushes */
    bool wanted;    /* an operation waits for room */
    struct list by_age;
};

enum err delta_init(struct store *s, uint64_t budget); /* bytes; ERR_NO_MEMORY, also when they are too few */
/* What publishing the operation may add at most. */
void delta_cost(const struct store_op *op, uint32_t *ret_entries, uint32_t *ret_leaves);
/* Keeps room before a record is appended, so that publishing cannot fail. False: there is none until a flush. */
bool delta_reserve(struct store *s, uint32_t entries, uint32_t leaves);
/* Gives it back: right before it is used, or when the operation will not be published. */
void delta_unreserve(struct store *s, uint32_t entries, uint32_t leaves);
/* Maps a block. `segment` is where the record lies: replay has to begin there or before as long as the leaf is in the delta. */
void delta_set(struct store *s, struct volume *v, uint64_t lba, uint64_t place, uint32_t tag, uint64_t sequence,
               uint64_t segment);
/* The same for a stretch that is unmapped or zero; whole leaves cost no entries. */
void delta_fill(struct store *s, struct volume *v, uint64_t lba, uint64_t count, enum delta_base what, uint64_t sequence,
                uint64_t segment);
struct delta_leaf *delta_leaf_find(struct store *s, const struct volume *v, uint64_t index); /* NULL: not in the delta */
/* What the delta says of a block: true when it decides. */
bool delta_get(struct store *s, const struct volume *v, uint64_t lba, uint64_t *ret_place, uint32_t *ret_tag);
/* Lays the leaf's entries over `leaf`. */
void delta_overlay(struct store *s, const struct delta_leaf *dl, struct leaf *leaf);
/* The leaf's page holds it all, or its volume is gone: takes it out. */
void delta_forget(struct store *s, struct delta_leaf *dl);

/* ---- map.c: the tree of pages, cached ---- */

struct frame {
    struct list waiters;
    struct frame *hash_next;
    struct page_id id;
    uint64_t locator; /* where it is stored; 0: nowhere yet */
    uint32_t pins;
    bool used, loading, dirty, touched, failed;
    bool gone; /* cut off the tree, not found any more: free when the last user leaves it */
    enum err err;
    struct store *store;
    struct io_op op;
    struct waiter locating;
    uint32_t slot, offset; /* of the chunk in the slot, and in what was read */
    uint64_t digest[2];    /* that its pointer promises */
    uint8_t *buf;
    union {
        struct leaf leaf;
        struct inner inner;
    } u;
};

struct map {
    struct frame *frames;
    struct frame **hash;
    uint32_t count, mask, dirty, hand;
    uint32_t known;     /* frames from here on were never used, and hold anything */
    struct list wanted; /* waiters for a free frame */
    uint8_t *bufs;      /* page reads under way */
    uint32_t buf_free[64];
    uint32_t buf_count;
};

enum err map_init(struct store *s, uint64_t budget);
enum map_got { MAP_FOUND, MAP_EMPTY, MAP_WAIT, MAP_FAILED };
/* The page, walking down from the root. FOUND: *ret_frame (unpinned). EMPTY: nothing mapped there. WAIT: w is woken. */
enum map_got map_get(struct store *s, struct volume *v, uint8_t level, uint64_t index, struct waiter *w,
                     struct frame **ret_frame, enum err *ret_err);
/* [task] The same, waiting; pinned. OK with NULL when empty; with `make`, pages that do not exist are made (dirty). */
enum err map_page(struct store *s, struct volume *v, uint8_t level, uint64_t index, bool make, struct frame **ret_frame);
void map_unpin(struct store *s, struct frame *f); /* NULL is fine */
/* The page exists only in memory so far, or is newer there. */
bool frame_is_dirty(struct store *s, const struct volume *v, uint8_t level, uint64_t index);
void map_drop_volume(struct store *s, uint32_t volume); /* its pages are not found any more */
void map_dirty(struct store *s, struct frame *f);       /* an inner page changed: the next map_write_dirty stores it */
/* Pointer to a page, as its parent (or the volume) holds it; the parent must be cached (it is pinned by the caller). */
struct pointer *map_pointer(struct volume *v, struct frame *parent, uint64_t index);
enum err map_flush_leaf(struct store *s, struct delta_leaf *dl); /* [upkeep] from the delta into the tree */
enum err map_write_dirty(struct store *s);                       /* [upkeep] all inner pages, bottom up */
enum err map_cut(struct store *s, struct volume *v);             /* [upkeep] takes what lies behind v->cut out of the tree */
/* [task] Reads the page that `p` points to past the cache, checked and unpacked but not decoded. */
enum err page_read(struct store *s, struct page_id id, const struct pointer *p, void *ret_raw, uint32_t room,
                   uint32_t *ret_size);

/* ---- meta.c: where pages are written ---- */

struct meta_buf {
    uint8_t *at;
    uint32_t slot, used, written;
    uint64_t segment;
    bool busy; /* full, being written */
};

struct meta {
    struct meta_buf buf[2];
    uint32_t current;
};

enum err meta_init(struct store *s);
/* [upkeep] Makes room for `size` more bytes of pages, so that the next meta_append calls do not wait. */
enum err meta_room(struct store *s, uint32_t size);
/* Stores a page, never waits; returns its locator. */
void meta_append(struct store *s, const void *page, uint32_t size, uint32_t tag, uint64_t *ret_locator);
enum err meta_write(struct store *s); /* [upkeep] everything appended so far reaches the device (not synced) */
const uint8_t *meta_memory(const struct store *s, uint64_t address);

/* ---- log.c: the head ---- */

enum { BATCHES = 5, BATCHES_A_SEGMENT = 4, SEALS = 4 }; /* one collects, the others are under way */

struct head_segment {
    uint64_t segment, first_number, first_previous;
    uint32_t slot;
};

struct seal {
    struct store *store;
    uint8_t *buf; /* segment size: body grows from the start */
    uint32_t body_bytes;
    struct summary_before before; /* the next record's in the body */
    bool used, closed, writing;
    struct trailer trailer;
    struct summary *summary;
    struct io_op op;
};

struct batch_buf {
    struct store *store;
    uint8_t *at;
    uint32_t used, records;
    uint64_t number, address, checksum;
    uint64_t submitted_ns; /* 0: others were under way */
    bool in_flight, finished;
    struct seal *seal;
    struct list ops;
    struct io_op op;
};

struct log {
    struct batch_buf batch[BATCHES];
    struct seal seals[SEALS];
    uint32_t batch_bytes; /* room of a batch buffer */
    uint32_t open;        /* batch under construction */
    uint32_t in_flight;
    uint64_t next_number, previous, durable; /* durable: newest batch number with all before it durable */
    uint64_t durable_checksum;
    uint64_t completed; /* newest batch that is over, well or not, with all before it */
    uint32_t incarnation;
    struct seal *seal; /* of the open segment, NULL: none open */
    uint64_t segment, base;
    uint32_t slot, used;           /* bytes of the segment taken, closed batches */
    struct head_segment *segments; /* ring: from the replay point to the newest */
    uint32_t seg_first, seg_count, seg_room;
    struct list queue; /* ops not appended yet */
    struct list failed;
    struct io_msg kick;
    uint64_t tickets; /* counts operations that were given to store_prepare */
    bool kicked, pumping;
    bool starving; /* something waits for a slot */
    struct {
        struct io_timer timer;
        bool armed, over;
        uint32_t crowd;    /* records that are expected: as many as were under way or waiting when the last batch was done */
        uint32_t skip;     /* batches for which it is not tried */
        uint32_t misses;   /* times in a row that the crowd did not come */
        uint64_t write_ns; /* how long a batch takes that is alone, smoothed */
    } hold;
    uint32_t promised[HEAD_SLOTS_MAX]; /* head list: slots the head may open, in order */
    uint32_t promised_first, promised_count;
    uint32_t promised_good; /* the first so many are in a durable checkpoint: only those may be opened */
    struct chain chains[CHAIN_MAX];
    uint32_t chain_count;
};

enum err log_init(struct store *s); /* ERR_NO_MEMORY */
/* Appends what waits in the queue and can be admitted, and writes the open batch when it is due. Harmless at any time. */
void log_pump(struct store *s);
void log_kick(struct store *s); /* the same from the loop, soon */
/* Appends the operation's record to the open batch. False: it must wait, for a batch buffer or a slot. */
bool log_append(struct store *s, struct store_op *op);
/* Writes the open batch now, whether it is due or not. */
void log_submit(struct store *s);
/* For closing: seals the open segment as it is. True: that is not done yet, call it again. */
bool log_end(struct store *s);
/* The pool takes no writes from now on; what is under way or waits ends with ERR_POOL_FAILED. The first reason is kept. */
void log_fail(struct store *s, enum err err, const char *why);
/* The i-th of those that replay may need, oldest first. */
struct head_segment *log_segment(const struct store *s, uint32_t i);
void log_forget_before(struct store *s, uint64_t segment);             /* replay will not need those any more */
void log_unpromise(struct store *s);                                   /* the last promised slot becomes free */
bool log_segment_push(struct store *s, const struct head_segment *hs); /* the newest; false: no room for more */
uint32_t log_segments_since(const struct store *s, uint64_t segment);  /* how many from this one on */
uint64_t log_replay_segment(const struct store *s);                    /* the segment where replay would begin now */

/* ---- write.c ---- */

void write_pump(struct store *s);                                    /* log_pump's half: tells failures, admits, appends */
void write_batch_done(struct store *s, struct batch_buf *b);         /* the batch is durable, or the pool has failed */
void write_fail(struct store *s, struct store_op *op, enum err err); /* its `done` comes from the loop */
/* Makes an operation visible whose record lies in `segment`; its volume is there. Room in the delta is given back already. */
void op_publish(struct store *s, struct store_op *op, uint64_t segment);
/* Operations of the volume from `sequence` on never happened; they are not in the list of prepared ones any more. */
void volume_shorten(struct store *s, struct volume *v, uint64_t sequence);

/* ---- learn.c: catching up ---- */

bool op_is_local(const struct store_op *op);
/* Whether it may be appended now. */
enum err learn_fits(const struct store_op *op, const struct volume *v);
void learn_appended(struct store *s, struct store_op *op, struct volume *v);
/* Its record is durable: it takes effect. */
void learn_durable(struct store *s, struct store_op *op);
/* What it does to the volume beside the map and the keyed state. */
void learn_effect(struct store *s, const struct store_op *op, struct volume *v);
/* It has failed, and its caller is told. */
void learn_failed(struct store *s, const struct store_op *op);
void learn_told(struct store *s, const struct store_op *op);

/* ---- mark.c, clean.c ---- */

struct candidate {
    uint32_t slot;
    uint32_t window, order;  /* order: among all, so that a window is cleaned from its first slot to its last */
    uint64_t rank;           /* units alive in a slot of its window, on average */
    bool meta;               /* it holds pages */
    bool spoilt;             /* something alive in it is not in its summary */
    struct summary *summary; /* pinned */
    uint64_t *bits;
    uint64_t live_units;
};

struct clean {
    struct candidate *candidates;
    uint32_t count, room;
    uint64_t pinned;  /* bytes of the candidates' tables */
    bool walking;     /* marks are being set */
    bool idle;        /* nobody asked for this pass */
    uint32_t walk;    /* its number */
    uint64_t *sketch; /* for a window of slots, SKETCH_SIZE words each: bits; then marks, and their units << 32 */
    uint32_t sketch_first, sketch_slots;
    uint32_t *counting; /* bits set in a sketch -> different marks, in sixteenths */
    uint8_t *out, *in;
    uint32_t in_bytes; /* of one of IN_PARTS pieces of `in` */
    bool wanted;
    bool asked;      /* somebody waits for room (space.c) */
    uint32_t passes; /* since then, that gained something and not enough */
    uint64_t died;   /* units that died since the last walk, estimate */
    /* Free slots and replay point when a pass gained nothing: until one of them moves, the next will not either. */
    uint64_t idle_free, idle_replay;
};

enum {
    SKETCH_WORDS = 16,
    SKETCH_SIZE = SKETCH_WORDS + 1,
    MARKS_MAX = 16384 /* that are summed */,
    IN_BYTES_MAX = 256 << 10,
    IN_PARTS = 8
};

enum err clean_init(struct store *s);
/* A pass that nobody waits for gives way to the closing of the pool. */
bool clean_stops(const struct store *s);
/* Bytes that the tables of candidates may take. */
uint64_t clean_pinned_max(const struct store *s);
void mark_reference(struct store *s, uint64_t place); /* a new reference to an existing chunk */
bool mark_refuses(struct store *s, uint64_t place);   /* it may not gain references any more */
enum err mark_walk(struct store *s);                  /* [upkeep] */
/* [upkeep] Frees slots until `goal` are gained; `forced`: also from slots that are nearly full. */
enum err clean_pass(struct store *s, bool forced, uint32_t goal, uint32_t *ret_gained);

/* ---- ahead.c: recovery's reads of the ends of slots ---- */

struct ahead;
struct ahead *ahead_open(struct store *s);          /* NULL: no memory; all the rest takes NULL */
void ahead_close(struct store *s, struct ahead *a); /* [task] */
/* [task] Entry i of a list of slots is at hand: reads on from there. */
void ahead_on(struct store *s, struct ahead *a, uint32_t i, uint32_t count, uint32_t (*slot_of)(const void *list, uint32_t i),
              const void *list);
/* [task] The last bytes of the slot; false: not read ahead, or not so much, or it could not be read. */
bool ahead_take(struct ahead *a, uint32_t slot, uint32_t bytes, uint8_t *ret_buf);

/* ---- checkpoint.c, recover.c, load.c, super.c ---- */

enum err checkpoint_write(struct store *s); /* [upkeep] */
/* [upkeep] Without any page: roots and replay point stay those of `from`, the checkpoint that recovery came from. */
enum err checkpoint_write_light(struct store *s, const struct checkpoint *from);
/* Slots that the pages of a checkpoint would take, were it written now. */
uint64_t checkpoint_slots(const struct store *s);
/* Slots that the head should be promised. */
uint64_t checkpoint_promises(const struct store *s);
/* [task] Newest checkpoint and replay; then, unless read only, a checkpoint. `problem` (may be NULL) says what went wrong. */
enum err recover(struct store *s, struct store_problem *problem);
enum err load_directory(struct store *s, const struct checkpoint *c, struct store_problem *problem); /* [task] */
/* [task] Opens the devices and finds the pool's superblocks. */
enum err super_open(struct store *s, const struct store_config *config, struct store_problem *problem);
void problem_say(struct store_problem *problem, const char *format, ...);
enum err devices_sync(struct store *s); /* [task] all that was written to any device is durable */

/* ---- space.c: how full is full ---- */

/* Blocks of data that there is room for (the rule: space.c). `coming`: if so many more slots were free; `dip`: if so many
 * blocks of the reserve, and their slots, could be taken, too. */
uint64_t space_room(const struct store *s, uint64_t coming, uint64_t dip);
/* Is there any? False: the cleaner was asked, and says when there is, or, *ret_full, the pool is full. */
bool space_asked(struct store *s, bool *ret_full);
/* Whether the operation may take space: as space_asked. Only NEW data that was not pledged is ever held up. */
bool space_for(struct store *s, const struct store_op *op, bool *ret_full);
void space_judge(struct store *s, uint32_t gained); /* [upkeep] after a pass: is the pool full? Who waits is told */
void space_comes_back(struct store *s);             /* something was unmapped or cut off */
bool space_is_limited(const struct store *s);       /* too much is alive: slots alone would not help */
uint64_t space_floor(const struct store *s);        /* slots that are left open by whoever asks for room */
uint32_t slots_private(const struct store *s);      /* slots that foreground data never takes */
uint64_t space_open(const struct store *s);         /* slots that are free, will be, or are promised to the head */
uint64_t space_left(const struct store *s);         /* slots that are free or promised now */
bool space_is_tight(const struct store *s);         /* of these no more than the floor are left */
bool space_is_short(const struct store *s);         /* foreground writes wait */
bool clean_pays(struct store *s);                   /* a pass is due */
uint32_t clean_goal(const struct store *s);         /* slots that it should gain */

/* ---- pledge.c: space that operations to come will find ---- */

uint64_t pledge_slots(const struct store *s, uint64_t blocks); /* that so many blocks take in the log, at worst */
uint64_t pledge_blocks(const struct store *s, uint64_t slots); /* that find room in so many slots, at worst */
/* The operation comes with a pledge, which its holder has used up then; it is in the log, or has failed. */
void pledge_use(struct store_op *op);
void pledge_used(struct store *s, const struct store_op *op);

/* ---- flush.c: from the delta into the tree ---- */

bool flush_has_room(const struct store *s); /* what a flush takes will leave enough */
bool window_is_long(const struct store *s); /* the replay window, when space is tight */
bool window_lags(const struct store *s);    /* it is longer than it should be: a checkpoint would move it */
/* Some leaf should go: the delta is fuller than so many percent, or its oldest leaf is that old. */
bool flush_due(const struct store *s, uint32_t percent);
enum err flush_some(struct store *s, uint32_t leaves, uint32_t percent); /* [upkeep] while it is due, so many at most */
enum err flush_all(struct store *s);                                     /* [upkeep] */

/* ---- rebuild.c: the index after a start ---- */

bool rebuild_is_due(const struct store *s);
void rebuild_step(struct store *s); /* [upkeep] */

/* ---- trim.c: free slots are given back below ---- */

struct trim {
    struct io_op op;
    struct io_timer pause;
    struct device *device;
    uint32_t first, count; /* slots under way */
    uint32_t hand;
    bool wanted; /* there may be stale slots */
    bool under_way, pausing;
    uint64_t began_ns;
};

void trim_kick(struct store *s); /* there may be stale slots, and time for them */

/* What a caller asks of upkeep, on the caller's stack: `task` sleeps until it is finished. */
struct want {
    struct list link;
    struct io_task *task;
    enum { WANT_CHECKPOINT, WANT_FLUSH, WANT_CLEAN, WANT_DIGEST } what;
    bool finished;
    enum err err;
    uint32_t gained;
    uint32_t volume;                       /* DIGEST */
    uint64_t digest[4], sequence, effects; /* of which operation, and of how many */
};

/* ---- changes.c ---- */

void state_digest(const struct volume *v, uint64_t ret_state[2]);

/* ---- upkeep.c ---- */

enum err upkeep_duties(struct store *s); /* [upkeep] flush and checkpoint when due; called between the cleaner's steps too */
void upkeep_kick(struct store *s);       /* there may be something due */
void upkeep_main(void *arg);
/* [task] Has it done, and waits. */
enum err upkeep_ask(struct store *s, struct want *want);

/* ---- mend.c ---- */

struct mending {
    bool busy;
    struct list waiters;
};

struct read_pool;
enum err reads_init(struct store *s, uint64_t budget); /* read.c */

struct store {
    struct io *io;
    struct mem *mem;
    struct store_config config;
    struct super super; /* the newest that was found; of the first device that was given */
    bool supers_differ; /* some are older: a rewrite was interrupted */
    struct fingerprinter key;
    struct device devices[POOL_DEVICES_MAX];
    uint32_t device_count;
    uint64_t segment_bytes;
    uint64_t salt;
    uint32_t blocks_max;

    struct slot_page **slot_pages;
    uint32_t page_count; /* directory pages */
    uint64_t slots_total, slots_free, slots_pending, slots_promised;
    uint64_t slots_beyond; /* not among them: there is no memory to describe them */
    uint64_t reading;      /* reads under way, all slots */
    uint32_t alloc_hand;
    uint64_t live_units;
    uint64_t pledged;                /* blocks, by all pledges, and not in the log yet */
    uint32_t pledges, pledges_meant; /* that there are; that there are to be */
    uint8_t *directory_bits;         /* as in the checkpoint */
    uint8_t *directory_dirty;
    uint64_t *directory_numbers; /* checkpoint that each page was written for; 0: never */
    uint64_t directory_digest;
    uint32_t directory_dirty_count;

    struct directory *directory;
    struct index *index;
    struct cache *blocks;
    struct summaries summaries;
    struct delta delta;
    struct map map;
    struct meta meta;
    struct log log;
    struct clean clean;
    struct trim trim;
    struct read_pool *reads;
    struct mending mending;
    struct list volumes;
    uint32_t volume_count, last_volume;
    struct list prepared;      /* ops from append to publish or discard, in log order */
    struct list recovered_ops; /* struct store_op allocated by recovery and now free */

    uint64_t next_segment, next_serial;
    uint64_t checkpoint_number;
    uint8_t *checkpoint_buf;
    bool checkpoint_wanted, changed;
    bool writing_checkpoint;
    uint32_t tree_users; /* walks that stand in a volume's tree: it must not go */

    struct io_task upkeep;
    bool upkeep_parked, upkeep_started, closing, stopping, upkeep_ended;
    struct list wants;
    struct list space_waiters;
    struct list waking; /* waiters to be run from the loop */
    struct io_msg wake_msg;
    bool wake_sent;
    struct io_timer tick;
    uint64_t last_checkpoint_ns;
    uint64_t replay_segment; /* of the newest durable checkpoint */
    uint32_t rebuild_next;   /* slot the index rebuild looks at next */

    enum err failed; /* writes are over: device error */
    bool full;
    bool read_only;
    char why[160];
    struct store_stats stats;
    uint8_t *page_buf; /* upkeep's: one page, encoded */
    uint8_t *fetch_buf;
};

#endif
