/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scrub: reads all that the volumes hold from the disks, slowly, so that damage is met while other nodes still have what
 * was lost. Of volumes with replicas it is mended as when a client meets it (replica/host.h); of others it is counted, and told
 * by `izar status`.
 *
 *     pass     volume by volume, in the order of their ids; block by block, past holes, as far as the map says that anything
 *              was ever written; past the cache. What several blocks share is read several times
 *     pace     so many bytes a second, whatever else goes on
 *     begin    some time after the start, then every week; or when somebody asks
 *
 * Where a pass is dies with the node: the next one begins anew. Pages of maps are read as far as the cache does not have them.
 * Lives on the loop of the volumes.
 */
#ifndef IZAR_VOLUME_SCRUB_H
#define IZAR_VOLUME_SCRUB_H

#include "base/mem.h"
#include "volume/volume.h"

struct scrub;

struct scrub_config {
    struct io *io;
    struct mem *mem;
    struct store *store;
    struct volumes *volumes;
    uint64_t bytes_per_s; /* 0: only when somebody asks, and then quickly */
};

/* [task] ERR_NO_MEMORY. */
enum err scrub_open(const struct scrub_config *config, struct scrub **ret_scrub);
/* [task] Before the volumes and their replicas are closed. NULL is fine. */
void scrub_close(struct scrub *scrub);
/* A pass begins now, unless one is under way. */
void scrub_begin(struct scrub *scrub);

struct scrub_status {
    bool running;
    uint64_t at_bytes, of_bytes; /* of this pass: of all volumes, as large as they say that they are */
    uint64_t passes;             /* since the start: that were ended */
    uint64_t read_bytes;         /* likewise */
    uint64_t lost;               /* blocks that could not be read, and not be had from elsewhere, in this or the last pass */
};
void scrub_status(const struct scrub *scrub, struct scrub_status *ret_status);

#endif
