/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pools that several draw from, some of whom may give nothing back for a long time.
 *
 * Each may hold up to SHARE_FACTOR times of what is still free. One alone gets 4/5 of a pool, n of them 4/(4n+1) each, and who
 * comes next finds something: the last ones are only for those who hold few. Who waits is waited for by nobody else.
 */
#ifndef IZAR_BASE_SHARE_H
#define IZAR_BASE_SHARE_H

#include <stdbool.h>
#include <stdint.h>

enum { SHARE_FACTOR = 4 };

/* One more of the `free` ones for who holds `held`. */
static inline bool share_allows(uint32_t held, uint32_t free)
{
    return held < (uint64_t)SHARE_FACTOR * free;
}

#endif
