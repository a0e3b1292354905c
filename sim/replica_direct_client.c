/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Histories of what becomes of a command: it comes late, twice, over another path than before, or after what it depends on was
 * changed.
 */
#include "sim/replica_direct.h"

/* Node 2 has no replica; what it forwards does not get through until the client has long done other things elsewhere. */
void old_command(struct world *w, uint64_t seed, bool trace)
{
    start(w, seed, trace, 3, 2, 40);
    cut(w, 0, 2);
    client_direct(w, 2, false);
    run(w, 1);
    w->clients[0].cut[2] = true;
    run(w, 210); /* it gives up */
    write_over(w, 0);
    write_over(w, 0);
    mend(w, 0, 2);
    run(w, 100);
    read_over(w, 0);
}

/* What depends on a block that was changed meanwhile does not happen; when it knows the newest, it does. */
void overtaken(struct world *w, uint64_t seed, bool trace)
{
    start(w, seed, trace, 3, 2, 40);
    uint64_t known = w->nodes[0].store->live.end;
    write_over(w, 0);
    for (uint32_t node = 0; node < 3; node++) {
        client_depends(w, node, known);
        run(w, 40);
        if (w->overtaken != node + 1)
            world_fail(w, "what depends on an old content of its block is ordered over node %u", node);
        client_reset(w, 0);
        run(w, 5);
    }
    client_depends(w, 2, w->nodes[0].store->live.end);
    run(w, 40);
    if (w->clients[0].busy || w->clients[0].writing) world_fail(w, "what depends on the newest content is refused");
    read_over(w, 1);
}

/* The session is reset while the forwarded command is slow. */
void reset_path(struct world *w, uint64_t seed, bool trace)
{
    start(w, seed, trace, 3, 2, 40);
    w->delay[2][0] = 30 * MS;
    client_direct(w, 2, false);
    run(w, 2);
    client_reset(w, 0);
    run(w, 1);
    w->delay[2][0] = 0;
    write_over(w, 0);
    write_over(w, 0);
    run(w, 60);
    read_over(w, 0);
}

/* The answer to a forwarded command is lost, and the client gone without a word; the command comes again. */
void duplicate(struct world *w, uint64_t seed, bool trace)
{
    start(w, seed, trace, 3, 2, 40);
    uint64_t end = w->nodes[0].store->live.end;
    client_direct(w, 2, false);
    for (uint32_t i = 0; i < 500 && w->nodes[0].store->live.end == end; i++) world_run(w, w->now + 10);
    w->cut[0][2] = true;
    w->clients[0].cut[2] = true;
    client_reset(w, 0);
    run(w, 3);
    write_over(w, 0);
    write_over(w, 0);
    run(w, 15);
    w->cut[0][2] = false;
    run(w, 40);
    read_over(w, 0);
}
