/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The catalog on disk: two files in the state directory, `catalog.0.json` and `catalog.1.json`, each whole by itself.
 *
 *     {"izar-catalog":1,"generation":42,"bytes":1234,"crc32c":"89abcdef","catalog":
 *     {...1234 bytes...}
 *     }
 *
 * A change writes one file, then the other, and is answered after both: io/pair.h says what that is good for.
 * The checksum covers generation and content. On opening, the newest whole file counts and the other is written again.
 *
 * Lives on one loop.
 */
#ifndef IZAR_API_CATALOG_FILE_H
#define IZAR_API_CATALOG_FILE_H

#include "api/catalog.h"
#include "base/mem.h"
#include "io/io.h"

struct catalog_file;

/* [task] Opens or makes the files in `folder`. `ret_problem` says what was wrong, also when it could be repaired (then OK is
 * returned and `detail` is not empty). ERR_CHECKSUM: both are damaged; ERR_NEW_FORMAT; ERR_NO_MEMORY; what the seam says. */
enum err catalog_file_open(struct io *io, struct mem *mem, const char *folder, struct catalog_file **ret_file,
                           struct problem *ret_problem);
/* Nothing may be under way. NULL is fine. */
void catalog_file_close(struct catalog_file *file);

/* What holds now. Valid until the next commit. */
struct catalog *catalog_now(struct catalog_file *file);
/* A copy of it to change; one at a time, and each call begins anew. Not while one is being committed. */
struct catalog *catalog_draft(struct catalog_file *file);
/* The draft as it is by now. */
struct catalog *catalog_sketch(struct catalog_file *file);
/* [task] Makes the draft durable, then it holds. One at a time. ERR_LIMIT (CATALOG_BYTES_MAX), or an I/O error: then the old
 * one holds here, and after a restart it may be either. */
enum err catalog_commit(struct catalog_file *file);

#endif
