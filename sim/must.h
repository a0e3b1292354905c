/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulator's own memory: it has enough, or there is no point in going on.
 */
#ifndef IZAR_SIM_MUST_H
#define IZAR_SIM_MUST_H

#include <stdlib.h>

static inline void *must(void *at)
{
    if (at == NULL) abort();
    return at;
}

#endif
