/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Register histories: acceptors, proposers and their callers, in trouble (cluster/register.h).
 *
 *     quorum.c        the world: nodes, messages, files, what happens to them
 *     quorum_judge.c  whether all that callers were told has one explanation
 *
 * The judge is exact because versions are unique. Each version has one content and one tag, whoever tells of it, and each epoch
 * one set of members; a call tells of versions that are not older than any that a call had told of before it began; a change
 * that took place is that of a call that was made, was not denied, and replaced the version that it expected. Order all calls
 * by version, changes before those who saw them: that is a sequential history, and what was just said makes it one that
 * respects time.
 *
 * Values also say which acceptors are barred, as a roster says who is leaving; a version bars no fewer than the one before. Who
 * changes the members leaves out whom the value that he knows bars. So whoever was barred and is out is never a member again.
 */
#ifndef IZAR_SIM_QUORUM_H
#define IZAR_SIM_QUORUM_H

#include "cluster/register.h"
#include "sim/lab.h"

enum { QUORUM_VERSIONS = 8192, QUORUM_EPOCHS = 2048, QUORUM_CHANGES = 16384, QUORUM_BARRED = 8 };

/* A change that somebody asked for. */
struct quorum_change {
    struct register_tag tag;
    uint64_t expected;
    uint64_t floor;   /* newest version that was known when it was first asked for */
    uint64_t version; /* that it made; 0: not seen */
    bool denied;      /* its caller was told that it did not take place, and will not */
};

struct quorum_judge {
    struct lab *lab;
    uint64_t floor, epoch_floor; /* newest that any caller was told */
    uint32_t change_count;
    struct quorum_change changes[QUORUM_CHANGES];
    struct {
        bool known, content_known;
        struct register_tag tag;
        uint64_t content;
    } versions[QUORUM_VERSIONS];
    struct register_members epochs[QUORUM_EPOCHS]; /* epoch 0: not known */
    struct {
        uint64_t out, in; /* the first epoch in which it was barred and no member, the last one in which it was one; 0: none */
    } barred[QUORUM_BARRED];
};

/* Which acceptors a value bars: bit i for that with the id i. */
uint8_t quorum_barred(const struct register_state *state);

/* What was known when a call began. */
struct quorum_before {
    uint64_t floor, epoch_floor;
};

void quorum_judge_init(struct quorum_judge *judge, struct lab *lab, const struct register_state *first);
struct quorum_before quorum_now(const struct quorum_judge *judge);
/* NULL: no more of them. */
struct quorum_change *quorum_asked(struct quorum_judge *judge, struct register_tag tag, uint64_t expected);
/* A caller was told of a state. */
void quorum_told(struct quorum_judge *judge, struct quorum_before before, const struct register_state *state);
void quorum_told_done(struct quorum_judge *judge, struct quorum_change *change, uint64_t version);
void quorum_told_never(struct quorum_judge *judge, struct quorum_change *change);

/* One history; the result is in lab->failure. Returns the hash of its events. */
uint64_t quorum_run(struct lab *lab, const struct history_options *options);

#endif
