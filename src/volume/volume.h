/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Volumes: virtual disks, each a replicated state machine on the node's store: with one replica, or with others on other nodes.
 *
 * A volume is known by a number that is never used again; names, access and mappings are its manager's. Every change gets the
 * volume's next sequence, is prepared (durable), committed and published, in this order (write.c tells the story); `done` of a
 * change with OK means: durable and visible. There is no volatile cache.
 *
 * Everything here lives on the store's loop. Calls marked [task] wait and must run inside an io_task.
 */
#ifndef IZAR_VOLUME_VOLUME_H
#define IZAR_VOLUME_VOLUME_H

#include "store/store.h"
#include "volume/replica/host.h"

struct volumes; /* all volumes of one node */
struct volume;

struct volumes_config {
    struct io *io;
    struct store *store;
    uint32_t requests; /* changes under way at once, in all volumes; more wait; 0: 128. Each takes 140 KiB */
};

/* [task] Commits what the store found prepared and takes up all volumes. ERR_LIMIT (requests), ERR_NO_MEMORY,
 * ERR_REPLICA_STATE. */
enum err volumes_open(const struct volumes_config *config, struct volumes **ret_volumes);
/* [task] Waits for what is under way, then frees all. New requests fail with ERR_STOPPED from the call on. The store stays
 * open. NULL is fine. */
void volumes_close(struct volumes *volumes);
/* Frees all at once: after a simulated power cut, when nothing will ever complete any more. NULL is fine. */
void volumes_abandon(struct volumes *volumes);

/* ---- volumes as a whole ---- */

/* [task] A new volume, all zero. ERR_RANGE (`bytes` is 0, no multiple of 4096, or too many), ERR_LIMIT (too many volumes),
 * ERR_STOPPED, and what store_prepare says. */
enum err volume_create(struct volumes *volumes, uint64_t bytes, struct volume **ret_volume);
/* NULL: there is none. */
struct volume *volumes_find(struct volumes *volumes, uint32_t id);
/* The volume with the lowest id from `from` on; NULL: no more. */
struct volume *volumes_next(struct volumes *volumes, uint32_t from);
/* [task] Grows or cuts a volume; what is cut off is lost. ERR_RANGE as above, ERR_NO_VOLUME (it is being deleted), ERR_AGAIN
 * (another task resizes it), ERR_STOPPED, and what store_prepare says. */
enum err volume_resize(struct volume *volume, uint64_t bytes);
/* [task] Deletes a volume and frees the object. ERR_LOCKED (somebody holds it: volume_hold), ERR_AGAIN (another task resizes or
 * deletes it), ERR_STOPPED, and what store_prepare says; then it is as it was. */
enum err volume_delete(struct volume *volume);

/* ---- volumes with replicas on other nodes ---- */

/* What a store knows of the volume that it keeps a replica of. */
struct volume_replica {
    uint8_t cluster[16]; /* id */
    uint32_t number;     /* of the volume, in that cluster; not 0 */
    bool original;       /* made together with the others, all empty; else it has to learn what they hold */
};

/* [task] As volume_create, but as a replica: nothing of it is served before volume_serve. */
enum err volume_create_replica(struct volumes *volumes, uint64_t bytes, const struct volume_replica *replica,
                               struct volume **ret_volume);
/* NULL: it has no others. */
const struct volume_replica *volume_replica(const struct volume *volume);
/* From now on this host orders its changes and allows its reads; NULL: nobody, requests end with ERR_AGAIN. */
void volume_serve(struct volume *volume, struct replica_host *host);
/* A client's session is gone: what came over it (volume_request.session) is answered soon, and only happens if it has. */
void volume_lost(struct volume *volume, uint64_t session);

/* What a volume with replicas cannot do yet: another size, keyed state (ERR_UNSUPPORTED). */

/* A held volume cannot be deleted; its users (a SCSI unit) hold it. */
void volume_hold(struct volume *volume);
void volume_release(struct volume *volume);

uint32_t volume_id(const struct volume *volume);
uint64_t volume_bytes(const struct volume *volume);

/* A small piece of state that belongs to the volume and is as durable as its data: key up to 64 bytes, value up to 3072.
 * A value of 0 bytes takes the key away. */
/* [task] */
enum err volume_state_set(struct volume *volume, const char *key, const void *value, uint32_t bytes);
/* The bytes live until the volume's next change. ERR_NO_KEY. */
enum err volume_state_get(const struct volume *volume, const char *key, const void **ret_value, uint32_t *ret_bytes);

struct volume_stats {
    uint64_t reads, read_bytes, read_ns;    /* completed; ns: added up */
    uint64_t writes, write_bytes, write_ns; /* WRITE, COMPARE_WRITE */
    uint64_t unmaps, unmap_bytes;           /* UNMAP, ZERO */
    uint64_t errors;
    uint32_t under_way;
};
void volume_stats(const struct volume *volume, struct volume_stats *ret_stats);

/* ---- requests ---- */

enum volume_verb {
    VOLUME_READ,
    VOLUME_STATUS, /* data: one byte a block, 1 when it is mapped, 0 when it was never written or unmapped */
    VOLUME_WRITE,
    VOLUME_ZERO,       /* reads as zero afterwards, whatever the alignment */
    VOLUME_ZERO_UNMAP, /* the same, and whole blocks are given back */
    VOLUME_UNMAP,      /* the same, but parts of blocks may stay as they are when the pool is full: it never fails for that */
    VOLUME_COMPARE_WRITE, /* writes `data` when the volume holds `compare`, else ERR_MISCOMPARE and `differs`; all or nothing */
};

enum {
    VOLUME_SECTOR = 512,           /* what offsets and lengths are multiples of */
    VOLUME_WRITE_MAX = 128u << 10, /* WRITE: bytes, whole blocks counted; COMPARE_WRITE: also store_write_max at most */
    VOLUME_READ_MAX = 1024u << 10, /* READ, STATUS, the same */
};

/*
 * A request is embedded in its owner and must not change until `done` ran. Starting never allocates, fails or calls back
 * inline. Of two requests that touch a common block, at least one of them a change, the order is open unless the first was done
 * before the second started.
 *
 * Buffers hold whole blocks: the byte of the volume at `offset` stands at data[offset % 4096], the buffer is as long as all
 * blocks that are touched, and the bytes of the edge blocks that are not asked for are overwritten at will. Aligned to 4096.
 */
struct volume_request {
    void (*done)(struct volume_request *request);
    /* ERR_ARGUMENT (no multiple of VOLUME_SECTOR), ERR_RANGE, ERR_LIMIT (longer than the verb may be), ERR_MISCOMPARE,
     * ERR_STOPPED, ERR_NO_VOLUME (it is being deleted), and what store_read and store_prepare say, but never ERR_ORDER */
    enum err err;
    enum volume_verb verb;
    uint64_t offset, bytes;
    uint8_t *data;          /* READ, WRITE, COMPARE_WRITE */
    const uint8_t *compare; /* COMPARE_WRITE */
    uint64_t session;       /* of the client, not 0 when volume_lost may be said of it */
    uint64_t arrived_ns;    /* when its command came (io_now_ns), which is where the age of a change begins; 0: now */
    uint64_t differs;       /* ERR_MISCOMPARE: the first differing byte, counted from `offset` */
    uint64_t bad; /* what could not be read: offset in the volume of the first block; UINT64_MAX: none in particular */
    /* private */
    struct list link;  /* in the one queue that it waits in */
    struct list range; /* in the volume's list of ranges taken or wanted */
    struct io_msg msg;
    struct volume *volume;
    struct volume_work *work; /* what a change needs while it is under way */
    uint32_t state;
    uint64_t first, count;     /* blocks touched */
    uint64_t next;             /* first block of the record at hand */
    uint32_t now;              /* its blocks */
    bool holds;                /* the range is its own */
    bool lost;                 /* its session is gone */
    bool offered;              /* the work that it waits for */
    bool what_unmap;           /* it carries no data */
    uint64_t began_ns, age_ns; /* age_ns: from when its age counts */
    struct store_read read;
    struct host_read allow; /* of a volume with replicas; then its blocks */
    struct host_load load;
};

void volume_start(struct volume *volume, struct volume_request *request);

#endif
