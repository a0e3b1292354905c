/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Serving histories: initiators talk to a whole node over the simulated network.
 *
 *     node.c       the node: pool, volumes, units, target; its starts, stops and power cuts
 *     wire.c       a connection of an initiator: PDUs in and out, digests, loss
 *     login.c      its login, from CHAP to the last operational key
 *     initiator.c  its session: what is sent, what may come back, tasks that are given up
 *     command.c    SCSI commands, and what their answers say to the judge (register.h)
 *     resize.c     units that grow and shrink
 *     rot.c        blocks that cannot be read any more
 *     serve.c      whole histories
 *
 * The node is all real: target, SCSI, volumes and store. The initiators are our own, as far as possible from the target's code:
 * of it they use the codec of headers and keys only. They keep to the protocol in everything they send (tests/e2e/hostile.sh is
 * for those who do not), but they come and go, are slow, stop in the middle of a PDU and lose their connections; and they hold
 * the target to its own part: numbers, offsets, lengths, windows, digests, one answer to each command.
 *
 * When a command ends for the judge:
 *     answered                                     it took place, or it did not
 *     a task management function that names it     it took place before the function's answer, or never will
 *     its session is reinstated (login answered)   the same; until then it may still take place; by a twin: whose login
 *                                                  came later says the order of TSIHs
 *     the power was cut, or the node stopped       the same
 */
#ifndef IZAR_SIM_SERVE_H
#define IZAR_SIM_SERVE_H

#include "iscsi/keys.h"
#include "iscsi/pdu.h"
#include "iscsi/target.h"
#include "sim/lab.h"
#include "sim/net.h"
#include "sim/register.h"

enum {
    SERVE_UNITS = 2,
    SERVE_INITIATORS = 6,
    SERVE_COMMANDS = 12,  /* of one initiator at once */
    SERVE_BLOCKS = 128,   /* of one command */
    SERVE_REGISTERS = 768 /* of one unit */
};
#define SERVE_TARGET "iqn.2026-01.org.example:target"
#define SERVE_ADDRESS "10.0.0.1:3260"

struct serve;
struct initiator;

/* ---- what a history is like ---- */

enum serve_action {
    SERVE_READ,
    SERVE_WRITE,
    SERVE_SAME,
    SERVE_UNMAP,
    SERVE_SWAP, /* COMPARE AND WRITE */
    SERVE_LOOK, /* TEST UNIT READY, SYNCHRONIZE CACHE */
    SERVE_NOP,
    SERVE_TEXT, /* SendTargets */
    SERVE_ABORT_TASK,
    SERVE_ABORT_SET,
    SERVE_LUN_RESET,
    SERVE_WARM_RESET,
    SERVE_COLD_RESET,
    SERVE_LOGOUT,
    SERVE_DROP, /* closes its connection without a word */
    SERVE_LOSE, /* the network loses it */
    SERVE_PAUSE_IN,
    SERVE_PAUSE_OUT,
    SERVE_RESUME,
    SERVE_CUT,
    SERVE_RESTART,
    SERVE_BAN,   /* an initiator is not admitted any more, or again */
    SERVE_EXPEL, /* a session is cut by the node's owner */
    SERVE_RESIZE,
    SERVE_SLEEP,
    SERVE_ACTIONS,
};

struct serve_mix {
    uint32_t steps, weights[SERVE_ACTIONS], total;
    uint32_t initiators, units, block_bytes[SERVE_UNITS];
    uint32_t depth, blocks_max, hot, pause, cut_within;
    bool chap, mutual, digests, small_bursts;
    bool twins;     /* two initiators of one name and ISID */
    uint32_t wrong; /* per million: a login that must be refused */
    struct sim_weather weather;
    struct iscsi_target_config target;
    uint32_t requests; /* of the volumes */
};

/* ---- wire.c ---- */

/* One connection, from connect to its last operation; the initiator that lets go of it forgets it at once. */
struct wire {
    struct list link;
    struct serve *serve;
    struct initiator *owner; /* NULL: let go */
    struct io_socket *socket;
    struct io_net in, out; /* out: also the connect */
    bool connecting, in_busy, out_busy, in_paused, out_paused;
    bool header_digest, data_digest;
    uint32_t data_max; /* in one PDU that comes in */
    struct list chunks;
    struct io_piece pieces[8];
    uint32_t chunk_sent;
    uint8_t *buf; /* what came in and is not a whole PDU yet */
    uint32_t have, room;
};

struct wire *wire_open(struct initiator *owner);
/* Aborts it; it frees itself when nothing is under way any more. */
void wire_drop(struct wire *wire);
/* After a power cut: takes in what had been on its way, then frees it. */
void wire_power_cut(struct wire *wire);
void wire_send(struct wire *wire, const struct pdu_out *pdu, const void *data);
void wire_resume(struct wire *wire);

/* ---- initiator.c ---- */

enum phase { PHASE_IDLE, PHASE_CONNECT, PHASE_LOGIN, PHASE_FULL, PHASE_LEAVING };

enum login_step { LOGIN_METHOD, LOGIN_ALGORITHM, LOGIN_PROOF, LOGIN_OPERATIONAL };
enum wrong { WRONG_NOTHING, WRONG_SECRET, WRONG_NAME, WRONG_TARGET, WRONG_SESSION, WRONGS };

struct login_plan {
    enum login_step step;
    enum wrong wrong;
    uint16_t tsih, given; /* asked for; answered */
    bool mutual, discovery;
    uint8_t challenge[16];
    uint8_t id;
    uint32_t declared; /* the most that we receive in a PDU */
    char text[2048];   /* what is still to be sent of this request */
    uint32_t left, sent;
    uint8_t flags; /* of its last part */
};

struct session {
    struct iscsi_limits limits; /* as the initiator sees them: max_transmit is what it may send */
    uint32_t cmd_sn, exp_cmd_sn, max_cmd_sn, stat_sn;
};

struct command {
    struct list link; /* commands of the initiator, or its lost ones */
    struct initiator *by;
    enum serve_action verb;
    uint32_t itt, cmd_sn, unit, lba, blocks;
    uint16_t tsih;        /* of its session */
    bool settled;         /* another session took the place of its own: the judge is done with it */
    uint32_t least, most; /* blocks that the unit may have had in its time */
    uint32_t news;        /* how often the unit had got another size when it was sent */
    bool doomed;          /* somebody resets the unit: it may never be answered */
    uint64_t since_ns;
    uint8_t cdb[16];
    uint8_t *data;
    uint32_t out_bytes, in_bytes;
    uint32_t arrived, data_sn, r2t_sn, asked, burst;
    uint32_t values[SERVE_BLOCKS], expected[SERVE_BLOCKS];
    uint8_t slots[SERVE_BLOCKS];
    bool loose[SERVE_BLOCKS];   /* GOOD does not say that this block was changed */
    uint8_t lost[SERVE_BLOCKS]; /* enum lost, when it was sent */
};

/* A task management function that is not answered yet. */
struct function {
    bool used;
    uint8_t code;
    uint32_t itt, ref_itt, cmd_sn, unit;
    bool met; /* another one of the same unit was under way at the same time: it may be refused */
    uint64_t since_ns;
};

struct initiator {
    struct serve *serve;
    uint32_t number;
    uint32_t as; /* whose name, ISID and secrets it uses: its own, or those of one that it is a twin of */
    char name[64];
    uint8_t isid;
    uint16_t tsih; /* of its last session */
    enum phase phase;
    struct wire *wire; /* NULL: none */
    uint64_t since_ns; /* of this phase */
    struct login_plan plan;
    struct session session;
    struct list commands, lost;
    uint32_t command_count;
    uint32_t next_itt;
    struct function function;
    uint32_t lost_functions[SERVE_UNITS];          /* that a session took with it: they may yet take place */
    uint32_t lost_resets[SERVE_UNITS];             /* those that reset the unit */
    uint32_t news[SERVE_UNITS], told[SERVE_UNITS]; /* how often a unit got another size, and how many of these it heard of */
    bool nop_under_way, text_under_way;
    uint32_t nop_itt, nop_bytes, text_itt; /* nop_bytes: what has to come back */
    uint64_t banned_ns;                    /* until when it was not admitted; UINT64_MAX: it still is not */
    uint64_t logins, refusals, losses;
};

void initiator_connected(struct initiator *it, enum err err);
/* A whole PDU; the data lives until it returns. */
void initiator_pdu(struct initiator *it, const uint8_t *header, const uint8_t *data, uint32_t bytes);
void initiator_lost(struct initiator *it);
void initiator_connect(struct initiator *it);
void initiator_drop(struct initiator *it);
void initiator_act(struct initiator *it, enum serve_action action);
/* Gives up what takes too long. */
void initiator_look_after(struct initiator *it);
void initiator_power_cut(struct initiator *it);
/* All commands that are neither answered nor over took place or never will. */
void initiator_settle(struct initiator *it);
/* What earlier sessions of this name and ISID have under way took place or never will: `it` has taken their place. */
void initiator_takes_over(struct initiator *it);
bool initiator_is_twin(const struct initiator *it);
void initiator_was_replaced(struct initiator *it); /* a twin that stays away: the session of the other one counts */
bool initiator_is_quiet(const struct initiator *it);
bool initiator_is_banned(const struct initiator *it);
/* Sends with the numbers of the session. */
void initiator_send(struct initiator *it, struct pdu_out *pdu, const void *data);

/* ---- login.c ---- */

void login_begin(struct initiator *it);
void login_answer(struct initiator *it, const uint8_t *header, const uint8_t *data, uint32_t bytes);
void serve_access(const struct serve *serve, uint32_t number, struct iscsi_access *ret_access);

/* ---- command.c ---- */

void command_start(struct initiator *it, enum serve_action verb);
/* Reads so many blocks from here on. False: it cannot now. */
bool command_read(struct initiator *it, uint32_t unit, uint32_t lba, uint32_t blocks);
struct command *command_find(struct initiator *it, uint32_t itt);
void command_response(struct initiator *it, struct command *c, const uint8_t *header, const uint8_t *data, uint32_t bytes);
void command_data_in(struct initiator *it, struct command *c, const uint8_t *header, const uint8_t *data, uint32_t bytes);
void command_r2t(struct initiator *it, struct command *c, const uint8_t *header);
/* Ends it for the judge, and frees it. */
void command_over(struct command *c, enum register_end end);
/* Ends it for the judge; its answer may still be on its way. */
void command_settle(struct command *c);

/* ---- node.c ---- */

struct node {
    struct volumes *volumes;
    struct scsi_unit *units[SERVE_UNITS];
    struct iscsi_target *target;
    struct io_task task;
    bool busy, over;
    enum err err;
};

/* Opens the pool and serves; power cuts on the way are started over. False: the history failed. */
bool node_start(struct serve *serve);
/* Stops everything in order. False: the power went. */
bool node_stop(struct serve *serve);
void node_crash(struct serve *serve);

/* ---- resize.c ---- */

/* One at a time. */
struct resize {
    struct io_task task;
    bool busy, over;
    bool pending;            /* whether it takes place is not known yet */
    bool wrong;              /* to a size that has to be refused */
    uint32_t unit, from, to; /* blocks */
    uint64_t bytes;
    enum err err;
    uint8_t slots[SERVE_REGISTERS]; /* of what it cuts off */
};

/* Begins one, unless one is under way. */
void resize_some(struct serve *serve);
/* Takes in what ended. */
void resize_collect(struct serve *serve);
/* Both false: the power went, or the history failed. */
bool resize_wait(struct serve *serve);
bool resize_all(struct serve *serve); /* all units to their full size */
void resize_crash(struct serve *serve);
/* The volumes are there again: their sizes say what came of it. */
void resize_settle(struct serve *serve);

/* ---- rot.c ---- */

enum lost { NOT_LOST, LOST, MAYBE_LOST /* somebody may have written it anew */ };

/* Damages a chunk of the closed pool, if it finds one. */
void rot_some(struct serve *serve);
bool rot_is_left(const struct serve *serve);
void rot_begin(struct command *c);
/* It changed all its blocks. */
void rot_written(struct command *c);
/* Whether it may be told GOOD, or that this is the first block that cannot be read. */
bool rot_explains_good(const struct command *c);
bool rot_explains_error(const struct command *c, uint32_t lba);

/* ---- serve.c ---- */

struct serve_unit {
    struct registers *registers;
    uint32_t block_bytes;
    uint32_t blocks, other_blocks; /* other: while it is resized, what it may have as well */
    uint32_t functions;            /* task management that is not answered */
    uint32_t resets;               /* of it: LOGICAL UNIT RESET, TARGET WARM RESET */
    uint8_t lost[SERVE_REGISTERS]; /* enum lost */
};

struct serve {
    struct lab *lab;
    struct sim *sim;
    struct io *io;
    struct serve_mix mix;
    struct node node;
    uint32_t faults; /* enum lab_faults */
    uint32_t rotten; /* copies of chunks that were damaged */
    uint32_t bad;    /* the block that the last read, while it is calm, could not read; UINT32_MAX: it could */
    struct resize resize;
    struct serve_unit units[SERVE_UNITS];
    struct initiator initiators[SERVE_INITIATORS];
    struct list wires;
    uint32_t next_value, recent[32], recent_count;
    uint64_t answers, unanswered; /* commands */
    uint64_t reads;               /* that were answered with data */
    bool calm;                    /* no more trouble is made: everything must come to its end */
};

uint64_t serve_below(struct serve *serve, uint64_t n);
/* Whether the pool may say this, as the faults are. */
bool serve_judge_error(const struct serve *serve, enum err err);
/* One history; the result is in lab->failure. Returns the hash of its events. */
uint64_t serve_run(struct lab *lab, const struct history_options *options);

#endif
