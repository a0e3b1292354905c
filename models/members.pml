/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Members of the register (src/cluster/register.c, rules 10 to 13) for small bounds: three acceptors, of which the first one is the
 * whole set at the beginning, and two proposers with BALLOTS ballots between them. Each ballot is a call: a change of the value, or a
 * step of the members towards {2} or {2 3}; with BEGUN such a change to {2} has been begun before. As in register.pml, a question and its answer are one step, and an ACCEPT may
 * arrive late.
 *
 * A state holds the tags of its changes, three bits each, and who the members are: the set, the next one, the epoch. The claim:
 * each version has one tag and each epoch one membership, and nobody is told of an older one than was known when he began.
 *
 * The change of the value by ballot 2, if it is one, bars the third acceptor, for good. Who knows that names it in no step; and once
 * it is barred and no member, it never is one again.
 *
 * models/check runs it, and again with each rule switched off by -D: then an assertion must fail.
 */
#ifndef BALLOTS
#define BALLOTS 3
#endif

/* What a state is made of. */
#define TAGS(s) ((s) & 4095)
#define NOW(s) (((s) >> 12) & 7)
#define NEXT(s) (((s) >> 15) & 7)
#define EPOCH(s) (((s) >> 18) & 7)
#define STATE(tags, now, next, epoch) ((tags) | ((now) << 12) | ((next) << 15) | ((epoch) << 18))
#define THIRD 4
#define BARRED(s) (((s) & 7) == 2 || ((s) & 56) == 16 || ((s) & 448) == 128)
#define IS_IN(s) (((NOW(s) | NEXT(s)) & THIRD) != 0)
#define IS_OUT(s) (BARRED(s) && NEXT(s) == 0 && !IS_IN(s))
#define VERSION(s) (TAGS(s) == 0 -> 0 : (TAGS(s) < 8 -> 1 : (TAGS(s) < 64 -> 2 : (TAGS(s) < 512 -> 3 : 4))))
#define TAG(s, v) (((s) >> (3 * ((v) - 1))) & 7)

/* Rule 11. */
#define COUNT(set) (((set) & 1) + (((set) >> 1) & 1) + (((set) >> 2) & 1))
#define MAJORITY(set, mask) (2 * COUNT((set) & (mask)) > COUNT(set))
#ifdef NEW_SET_ALONE
#define QUORUM(s, mask) (NEXT(s) == 0 -> MAJORITY(NOW(s), mask) : MAJORITY(NEXT(s), mask))
#else
#define QUORUM(s, mask) (MAJORITY(NOW(s), mask) && (NEXT(s) == 0 || MAJORITY(NEXT(s), mask)))
#endif

byte promised[3], accepted[3];
int state[3]; /* 0: empty */
int proposed[6];

byte known_tag[6], floor, known_members[6], epoch_floor;
byte out; /* the first epoch in which the third was barred and no member */

inline take(i, b)
{
    promised[i] = b;
    accepted[i] = b;
    state[i] = proposed[b]
}

#define ARRIVES(i, b) d_step { proposed[b] != 0 && accepted[i] != (b) && promised[i] <= (b) -> take(i, b) }

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
    od
}

/* Which members an epoch has, in six bits. */
#define MEMBERS(s) (((s) >> 12) & 63)

inline told(s)
{
    v = 1;
    do
    :: v <= VERSION(s) ->
        assert(known_tag[v] == 0 || known_tag[v] == TAG(s, v));
        known_tag[v] = TAG(s, v);
        v++
    :: else -> break
    od;
    v = 0;
    assert(VERSION(s) >= since && EPOCH(s) >= epoch_since);
    assert(known_members[EPOCH(s)] == 0 || known_members[EPOCH(s)] == MEMBERS(s));
    known_members[EPOCH(s)] = MEMBERS(s);
    assert(out == 0 || !IS_IN(s) || EPOCH(s) < out);
    if
    :: IS_OUT(s) && out == 0 -> out = EPOCH(s)
    :: else -> skip
    fi;
    if
    :: VERSION(s) > floor -> floor = VERSION(s)
    :: else -> skip
    fi;
    if
    :: EPOCH(s) > epoch_floor -> epoch_floor = EPOCH(s)
    :: else -> skip
    fi
}

inline ask_promise(i)
{
    d_step {
        !(mask & (1 << i)) && promised[i] < b -> promised[i] = b;
        if
        :: state[i] != 0 && accepted[i] >= best ->
            best = accepted[i];
            found = state[i]
        :: else -> skip
        fi;
        mask = mask | (1 << i)
    }
}

inline ask_accept(i)
{
    d_step {
        !(mask & (1 << i)) && promised[i] <= b -> take(i, b);
        mask = mask | (1 << i)
    }
}

/* Rule 13. */
#ifdef STEP_UNSEEN
#define UNSEEN false
#else
#define UNSEEN (VERSION(found) != known)
#endif

/* The next step of the members, or the same state again; rules 11 to 13. */
inline step()
{
    if
#ifndef STEP_UNDECIDED
    :: EPOCH(found) != confirmed -> skip
    :: EPOCH(found) == confirmed && NEXT(found) != 0 ->
#else
    :: NEXT(found) != 0 ->
#endif
        found = STATE(TAGS(found), NEXT(found), 0, EPOCH(found) + 1)
    :: else ->
        if
        :: NOW(found) == target || UNSEEN -> skip
#ifdef ONE_STEP
        :: NOW(found) != target && !UNSEEN -> found = STATE(TAGS(found), target, 0, EPOCH(found) + 1)
#else
        :: NOW(found) != target && !UNSEEN -> found = STATE(TAGS(found), NOW(found), target, EPOCH(found) + 1)
#endif
        fi
    fi
}

/* Rule 10. */
#ifdef OWN_VIEW
#define ENOUGH QUORUM(view, mask)
#else
#define ENOUGH QUORUM(found, mask)
#endif

proctype proposer(byte own)
{
    byte b = own, mask, best, v, target, since, epoch_since, confirmed = 1, known;
    bool barred; /* as far as it knows */
    int found;
#ifdef OWN_VIEW
    int view = STATE(0, 1, 0, 1);
#endif

next_call:
    if
    :: b > BALLOTS -> goto stop
    :: else -> d_step { since = floor; epoch_since = epoch_floor; target = 0 }
    fi;
    if
    :: skip /* the value */
    :: target = 2
    :: !barred -> target = 6
    fi;
    do
    :: ask_promise(0)
    :: ask_promise(1)
    :: ask_promise(2)
    :: found != 0 && ENOUGH -> break
    :: goto lost
    od;
    skip;
    d_step {
        if
        :: target == 0 -> found = found | (b << (3 * VERSION(found)))
        :: else -> step()
        fi;
        proposed[b] = found;
        mask = 0;
        best = 0
    };
    do
    :: ask_accept(0)
    :: ask_accept(1)
    :: ask_accept(2)
    :: QUORUM(found, mask) -> break
    :: goto lost
    od;
    skip;
    atomic {
        told(found);
        confirmed = EPOCH(found);
        known = VERSION(found);
        barred = BARRED(found)
#ifdef OWN_VIEW
        ; view = found & ~4095
#endif
    };

lost:
    skip;
    d_step {
        found = 0;
        mask = 0;
        best = 0;
        target = 0;
        since = 0;
        epoch_since = 0;
        b = b + 2
    };
    goto next_call;

stop:
    skip
}

init
{
    atomic {
#ifdef BEGUN
        /* Somebody began a change to {2}, and it is decided. */
        state[0] = STATE(0, 1, 2, 1);
        state[1] = STATE(0, 1, 2, 1);
        known_members[1] = MEMBERS(STATE(0, 1, 2, 1));
#else
        state[0] = STATE(0, 1, 0, 1);
        known_members[1] = 1;
#endif
        epoch_floor = 1;
        run proposer(1);
        run proposer(2);
        run late()
    }
}
