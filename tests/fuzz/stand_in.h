/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What lies under the SCSI layer and the target, in memory: a seam (messages, timers, tasks, one connection) and one volume.
 * It is linked in place of src/io and src/volume, so that thousands of sessions a second can be played, each of them the same
 * in every run. What volume.h and io.h promise their callers is kept; what they ask of them is required here.
 *
 *   - nothing is called back inline, requests of the volume end in an order that the seed chooses;
 *   - bytes of edge blocks that a change did not ask for are overwritten, as volume.h says they may be;
 *   - time stands still until stand_in_wait; a task that waits makes the others run, and time pass.
 */
#ifndef IZAR_TESTS_FUZZ_STAND_IN_H
#define IZAR_TESTS_FUZZ_STAND_IN_H

#include "fuzz/fuzz.h"
#include "volume/volume.h"

enum { STAND_IN_BYTES_MAX = 12u << 20 };

/* Everything anew: an empty volume of `bytes` bytes, nothing under way. */
void stand_in_begin(uint64_t seed, uint64_t bytes);
/* The same for what is left when nothing is under way: what listens, and time, go on. */
void stand_in_again(uint64_t seed);
struct io *stand_in_io(void);
/* Until nothing is left to do but wait for time to pass. */
void stand_in_run(void);
/* One turn: a message, or one thing that ends. */
void stand_in_turn(void);
/* Lets time pass, and runs what falls due. */
void stand_in_wait(uint64_t ms);

struct volume *stand_in_volume(void);
uint8_t *stand_in_content(void);
void stand_in_resize(uint64_t bytes);
/* The request after `after` more of them fails with `err`; OK: none does. */
void stand_in_fail(uint32_t after, enum err err);
uint32_t stand_in_holds(void);
/* While it is so, no request of the volume ends. */
void stand_in_hold(bool hold);
/* The request that has waited longest; NULL: none is under way. */
const struct volume_request *stand_in_request(void);
/* The session of which volume_lost was said last, 0: of none. Nothing may begin over it any more. */
uint64_t stand_in_lost(void);

/* An initiator comes to the one listener; from then on `data` arrives bit by bit, and then, unless `stays`, the end. */
void stand_in_connect(const uint8_t *data, size_t size, bool stays);
/* Once all of it has arrived: it says more. */
void stand_in_more(const uint8_t *data, size_t size);
/* The initiator goes away. */
void stand_in_leave(void);
/* While it is so, it takes nothing of what is sent to it. */
void stand_in_stall(bool stall);
/* All that was sent to it. */
const uint8_t *stand_in_sent(size_t *ret_size);
/* The connection's socket was closed, or never opened. */
bool stand_in_is_closed(void);

#endif
