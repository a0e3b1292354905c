/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An acceptor with its state on disk: two files in the state directory, `acceptor.0` and `acceptor.1`, written one after the
 * other before anything is answered (io/pair.h). So no crash, and no damage to one of them, makes it forget what it answered.
 * Damage to both does: then it does not open, and is replaced by an acceptor with a new id, as a change of members. There is no
 * way from a lost acceptor to one that looks like new but for acceptor_file_make, which somebody has to call.
 *
 * Each opening counts as a start of the node: the boot number grows, durable in both, before it is told. So the older or
 * damaged file is written again, too. Ballots do not have this number, but that of the identity (member.c), which outlives a
 * lost acceptor.
 *
 * Lives on one loop; what waits is called from a task.
 */
#ifndef IZAR_CLUSTER_ACCEPTOR_FILE_H
#define IZAR_CLUSTER_ACCEPTOR_FILE_H

#include "base/mem.h"
#include "cluster/register.h"
#include "io/io.h"

struct acceptor_file;

/* [task] Puts a new acceptor there (acceptor_make). ERR_ACCEPTOR_EXISTS when one of the files is whole, ERR_NEW_FORMAT when a
 * newer version wrote it; what cannot be read at all is written over, because a new acceptor has a new id. ERR_NO_MEMORY,
 * ERR_LOCKED, what the seam says. */
enum err acceptor_file_make(struct io *io, struct mem *mem, const char *folder, const struct acceptor *acceptor);
/* [task] Takes the newest whole file, counts the start and writes both. `ret_repaired`: one of them was damaged or older.
 * ERR_NO_ACCEPTOR: none was made here; ERR_ACCEPTOR_LOST; ERR_NEW_FORMAT; ERR_NO_MEMORY; ERR_LOCKED; what the seam says. About
 * 2 MiB of memory. */
enum err acceptor_file_open(struct io *io, struct mem *mem, const char *folder, struct acceptor_file **ret_file,
                            bool *ret_repaired);
/* [task] Nothing lies there any more: it was of another cluster, or of none. */
enum err acceptor_file_erase(struct io *io, struct mem *mem, const char *folder);
/* Nothing may be under way. NULL is fine. */
void acceptor_file_close(struct acceptor_file *file);

/* What holds now. Valid until the next request. */
const struct acceptor *acceptor_file_now(const struct acceptor_file *file);
/* [task] Handles a request, one at a time; the answer is valid until the next. ERR_NO_ACCEPTOR: it is for another acceptor, and
 * not to be answered. An I/O error: the files may or may not have it; nothing is answered then, and from now on ERR_STOPPED,
 * until it is opened again. */
enum err acceptor_file_handle(struct acceptor_file *file, const struct register_request *request,
                              struct register_answer *ret_answer);

#endif
