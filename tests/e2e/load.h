/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of izar-load: the ledger, which knows what each sector may hold; sessions with a target; the three verbs.
 */
#ifndef IZAR_TESTS_E2E_LOAD_H
#define IZAR_TESTS_E2E_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SECTOR = 512, BLOCK_SECTORS = 8, SESSIONS_MAX = 16 };
enum { EXIT_FINE = 0, EXIT_WRONG = 1, EXIT_USAGE = 2, EXIT_LOST = 3 };

/* ---- the ledger (load_ledger.c) ----
 *
 * A file, one entry a sector, that holds what was asked and what was answered. A sector has at most one change under way at a
 * time, so it may hold one of two contents and nothing else: that of `floor`, the newest change that was acknowledged or that a
 * read has shown, and that of `pending`, the change that was sent and not answered.
 *
 * A content is a word: the change's number above, its kind below. STAMPED names the seed, the change and the sector, so nothing
 * old, torn or foreign can pass for it; COMMON is one of few patterns that return all over the volume, so that writes meet
 * duplicates. 0 is a sector never written.
 */
enum kind { KIND_ZERO, KIND_STAMPED, KIND_COMMON };

struct entry {
    uint32_t floor, pending;
};

struct ledger {
    struct ledger_head *head; /* the file, mapped */
    struct entry *entries;
    uint64_t sectors;
};

/* Opens the file, or makes it for a volume that is all zero. False: said why. */
bool ledger_open(struct ledger *l, const char *path, uint64_t sectors, uint64_t seed);
void ledger_close(struct ledger *l);

/* The number for a change. */
uint32_t ledger_word(struct ledger *l, enum kind kind);
/* What `count` sectors hold after it. */
void ledger_content(const struct ledger *l, uint64_t sector, uint32_t count, uint32_t word, uint8_t *ret_data);

/* No change of these sectors is under way. */
bool ledger_idle(const struct ledger *l, uint64_t sector, uint32_t count);
/* Before a change is sent; its sectors are idle. */
void ledger_begin(struct ledger *l, uint64_t sector, uint32_t count, uint32_t word);
/* It was acknowledged. */
void ledger_end(struct ledger *l, uint64_t sector, uint32_t count, uint32_t word);
/* It was refused: nothing of it was done. False: but a read has shown it. */
bool ledger_refuse(struct ledger *l, uint64_t sector, uint32_t count, uint32_t word);

/* What a read found that was sent when the entries were `then`. False: said what is wrong. */
bool ledger_check(struct ledger *l, uint64_t sector, uint32_t count, const struct entry *then, const uint8_t *data);
/* What whole blocks hold when nothing is under way any more: that is what they must hold from now on. False: as above. */
bool ledger_settle(struct ledger *l, uint64_t sector, uint32_t count, const uint8_t *data);

/* ---- sessions (load.c) ---- */

struct load {
    const char *verb, *url, *ledger, *initiator;
    const char *other; /* run: URL of a second path to the same volume */
    uint64_t seed;
    uint32_t sessions, depth; /* commands under way a session */
    double seconds;           /* 0: no end */
    uint64_t commands;        /* 0: no end */
    double wait;              /* seconds to try for a login */
    double silence;           /* run: seconds without an answer after which a path is given up */
    uint32_t bytes, reads;    /* bench: of a command; percent */
    uint64_t span;            /* bench: bytes of the volume that are used; 0: all */
    bool sequential, once;    /* bench: once: ends where the span ends */
    const char *data;         /* bench: a file whose content is written, NULL: what does not compress */
    bool digest, no_immediate;
    double began;
};

struct session {
    struct iscsi_context *iscsi;
    int lun;
    uint64_t sectors; /* of the volume */
    uint32_t under_way;
    uint32_t path;
    double heard; /* when it last answered, or had nothing to answer */
    bool lost;
};

/* Exits with a sentence. */
void load_fail(const char *what, const char *why);
void *load_alloc(size_t size);
double load_now(void);
/* Told by a signal to come to an end. */
bool load_stopped(void);

/* Logs in, as initiator number `index`, and asks for the size; exits when that fails for longer than load->wait. */
void session_open(struct session *s, const struct load *load, uint32_t index);
void session_close(struct session *s);
/* Its path is given up, with whatever is under way there: it goes on over the other one, or this one, whichever is there. */
void session_move(struct session *s, const struct load *load, uint32_t index);
/* One turn of all sessions, at most 100 ms; those whose connection is gone are lost from then on. Exits when nothing was
 * answered for a long time. */
void sessions_serve(struct session *sessions, uint32_t count);
/* The status of a command that the target did not answer: its session is lost. */
bool session_gone(struct session *s, int status);

/* ---- the verbs; return exit codes ---- */

int load_run(const struct load *load);
int load_verify(const struct load *load);
int load_bench(const struct load *load);

#endif
