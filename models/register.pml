/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The register (src/cluster/register.c, rules 1 to 8) for small bounds: three acceptors, and two proposers that own every other one
 * of BALLOTS ballots. The first makes changes, the second changes and reads. Each change expects the version that its caller knows; it
 * is tried again with the next ballot, or given up.
 *
 * A question and its answer are one step, because an answer that is late or lost is a step that was taken earlier or not at all, as
 * far as its proposer can tell. What matters beyond that is an ACCEPT that arrives when nobody waits for it any more: `late`. What
 * an acceptor does is one step, because it shows nothing before it is durable; a crash changes nothing then. Without that rule
 * (ANSWER_EARLY, FORGET_PROMISE) it does, once.
 *
 * A state is the list of the tags of its changes, oldest first, three bits each; its version is their number. The claim, held by
 * assertions wherever a caller is told of something: each version has one tag; nobody is told of an older version than was known
 * when he began; what is reported as done was done after it was asked for; and what was denied never takes place. That is
 * linearizability (sim/quorum.h says why).
 *
 * models/check runs it, and again with each rule switched off by -D: then an assertion must fail. READ_HIGHEST and
 * UNDECIDED_CONFLICT do not within three ballots; those are left to `izar-sim --register --mutations`.
 */
#ifndef BALLOTS
#define BALLOTS 3
#endif
#ifdef HALF_IS_ENOUGH
#define ENOUGH(mask) ((mask) != 0)
#else
#define ENOUGH(mask) ((mask) == 3 || (mask) > 4)
#endif
#define VERSION(s) ((s) == 0 -> 0 : ((s) < 8 -> 1 : ((s) < 64 -> 2 : ((s) < 512 -> 3 : 4))))
#define TAG(s, v) (((s) >> (3 * ((v) - 1))) & 7)

/* ---- acceptors ---- */

byte promised[3], accepted[3];
short state[3];
short proposed[6]; /* by ballot; plus one, 0: not yet */

#ifdef ANSWER_EARLY
byte old_promised[3], old_accepted[3]; /* what is durable */
short old_state[3];
bool crashed;
#endif
#ifdef FORGET_PROMISE
bool crashed;
#endif

/* Rule 1. */
#define MAY_PROMISE(i) (!(mask & (1 << i)) && promised[i] < b)
/* Rule 2. */
#ifdef ACCEPT_UNPROMISED
#define MAY_ACCEPT(i, b) (true)
#else
#define MAY_ACCEPT(i, b) (promised[i] <= (b))
#endif

inline take(i, b)
{
#ifndef ACCEPT_NO_PROMISE
    promised[i] = b;
#endif
    accepted[i] = b;
    state[i] = proposed[b] - 1
}

#define ARRIVES(i, b) d_step { proposed[b] > 0 && accepted[i] != (b) && MAY_ACCEPT(i, b) -> take(i, b) }

proctype late()
{
end:
    do
    :: ARRIVES(0, 1)
    :: ARRIVES(1, 1)
    :: ARRIVES(2, 1)
    :: ARRIVES(0, 2)
    :: ARRIVES(1, 2)
    :: ARRIVES(2, 2)
#if BALLOTS > 3
    :: ARRIVES(0, 3)
    :: ARRIVES(1, 3)
    :: ARRIVES(2, 3)
#endif
    od
}

#ifdef ANSWER_EARLY
#define SETTLE(i) \
    d_step { old_promised[i] != promised[i] || old_accepted[i] != accepted[i] -> old_promised[i] = promised[i]; old_accepted[i] = accepted[i]; old_state[i] = state[i] }
#define CRASH(i) \
    d_step { !crashed -> crashed = true; promised[i] = old_promised[i]; accepted[i] = old_accepted[i]; state[i] = old_state[i] }

proctype disks()
{
end:
    do
    :: SETTLE(0) /* one that crashes is enough */
    :: CRASH(0)
    od
}
#endif
#ifdef FORGET_PROMISE
#define CRASH(i) d_step { !crashed && promised[i] > accepted[i] -> crashed = true; promised[i] = accepted[i] }

proctype disks()
{
end:
    do
    :: CRASH(0)
    :: CRASH(1)
    :: CRASH(2)
    od
}
#endif

/* ---- what callers are told ---- */

byte known_tag[6], floor;
bool denied[6];

inline told(s)
{
    v = 1;
    do
    :: v <= VERSION(s) ->
        assert(known_tag[v] == 0 || known_tag[v] == TAG(s, v));
        assert(!denied[TAG(s, v)]);
        known_tag[v] = TAG(s, v);
        v++
    :: else -> break
    od;
    v = 0;
    known = VERSION(s);
    assert(known >= since);
    if
    :: known > floor -> floor = known
    :: else -> skip
    fi
}

inline told_never()
{
    denied[tag] = true;
    assert(known_tag[1] != tag && known_tag[2] != tag && known_tag[3] != tag && known_tag[4] != tag)
}

/* ---- proposers ---- */

/* Rule 5: the state of the highest ballot counts. */
#ifdef FIRST_FOUND
#define BETTER(i) (mask == 0)
#else
#define BETTER(i) (accepted[i] >= best)
#endif

inline see(i)
{
    if
    :: BETTER(i) ->
        best = accepted[i];
        found = state[i]
    :: else -> skip
    fi;
    mask = mask | (1 << i)
}

inline ask_promise(i)
{
    d_step {
        MAY_PROMISE(i) -> promised[i] = b;
        see(i)
    }
}

inline ask_accept(i)
{
    d_step {
        !(mask & (1 << i)) && MAY_ACCEPT(i, b) -> take(i, b);
        mask = mask | (1 << i)
    }
}

/* A look counts for the ballot that it shows; another one replaces it. Rule 6. */
#ifdef READ_HIGHEST
#define SAME(i) (best >= accepted[i])
#else
#define SAME(i) (best == accepted[i])
#endif
inline look(i)
{
    d_step {
        !(mask & (1 << i)) ->
        if
        :: mask == 0 || SAME(i) -> see(i)
        :: else -> mask = 7; best = 255 /* no two alike */
        fi
    }
}

inline forget()
{
    mask = 0;
    best = 0;
    found = 0
}

mtype = { DONE, CONFLICT };

proctype proposer(byte own)
{
    byte b = own, tag, expected, since, best, mask, v, known;
    bool cas, maybe;
    short found;
    mtype outcome;

next_call:
    if
    :: b > BALLOTS -> goto stop
    :: else -> d_step { tag = b; since = floor; expected = known; maybe = false }
    fi;
    if
    :: cas = true; goto round
    :: own == 2 -> cas = false
    fi;
    do
    :: look(0)
    :: look(1)
    :: look(2)
    :: best != 255 && ENOUGH(mask) ->
        atomic { told(found); forget(); b = b + 2; goto next_call }
    :: mask != 0 -> d_step { forget() }; break
    od;

round:
    do
    :: ask_promise(0)
    :: ask_promise(1)
    :: ask_promise(2)
    :: ENOUGH(mask) -> break
    :: goto lost
    od;
    skip;
    d_step {
        outcome = DONE;
        if
        :: !cas -> skip
#ifndef RETRY_BLIND
        :: cas && VERSION(found) > expected && TAG(found, expected + 1) == tag -> skip /* rule 7 */
#endif
        :: cas && VERSION(found) == expected ->
            found = found | (tag << (3 * expected));
            maybe = true
        :: else -> outcome = CONFLICT
        fi;
        proposed[b] = found + 1;
        mask = 0;
        best = 0
    };
#ifdef UNDECIDED_CONFLICT
    if
    :: outcome == CONFLICT -> goto decided
    :: else -> skip
    fi;
#endif
    do
    :: ask_accept(0)
    :: ask_accept(1)
    :: ask_accept(2)
    :: ENOUGH(mask) -> break
    :: goto lost
    od;

decided:
    atomic {
        told(found);
        if
        :: cas && outcome == DONE -> assert(expected + 1 > since)
        :: cas && outcome == CONFLICT -> told_never()
        :: else -> skip
        fi;
        forget();
        outcome = 0;
        b = b + 2;
        goto next_call
    };

lost:
    skip;
    d_step {
        forget();
        outcome = 0;
        b = b + 2
    };
    if
    :: b <= BALLOTS -> goto round /* the same call, again */
#ifdef DENY_PROPOSED
    :: cas -> atomic { told_never(); goto next_call }
#else
    :: cas && !maybe -> atomic { told_never(); goto next_call } /* rule 8 */
#endif
    :: else -> goto next_call
    fi;

stop:
    skip
}

init
{
    atomic {
        run proposer(1);
        run proposer(2);
        run late();
#ifdef ANSWER_EARLY
        run disks()
#endif
#ifdef FORGET_PROMISE
        run disks()
#endif
    }
}
