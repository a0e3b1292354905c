/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the target share.
 *
 *     target.c   portals, accepting, memory, shutdown
 *     conn.c     a connection: bytes in, digests, the clock of a connection, its end
 *     send.c     bytes out
 *     login.c    login phase; chap.c, keys.c what it negotiates
 *     session.c  full feature phase: command window, dispatch of what comes in
 *     task.c     one command: its memory, its data in and out, its end
 *     manage.c   task management, NOP, text, logout
 *
 * A session has one connection here (MaxConnections is 1), so both are one object, `struct iscsi_conn`.
 *
 * What is freed when. A connection that is cut stops receiving and sending at once, its tasks end as soon as the commands below
 * do; when nothing refers to it any more, a message frees it. So no call on a connection frees it under its caller.
 */
#ifndef IZAR_ISCSI_INTERNAL_H
#define IZAR_ISCSI_INTERNAL_H

#include "base/pages.h"
#include "iscsi/chap.h"
#include "iscsi/keys.h"
#include "iscsi/pdu.h"
#include "iscsi/target.h"
#include "scsi/command.h"

enum {
    RX_BYTES = 16 << 10,    /* received ahead */
    TX_PDUS = 16,           /* in one transmit */
    TX_SEGMENT = 256 << 10, /* data in one PDU, whatever the initiator would take */
    OUT_BYTES = 4096,       /* data of one of them */
    ECHO_MAX = TX_SEGMENT,  /* of a ping that comes back, whatever the initiator would take */
    TEXT_BYTES = 8192,      /* keys of one request, all its PDUs together */
    SPARE_TASKS = 4,        /* for immediate commands, beyond the window */
    TMFS = 4,               /* task management requests under way on a connection */
    OUTS = 3 + TMFS,        /* answers under way on a connection besides those of tasks */
    TEXT_OUT_BYTES = 16 << 10,
};

struct iscsi_conn;
struct iscsi_task;

/* ---- what goes out ---- */

enum sender_kind { SENDER_OUT, SENDER_TASK };

/* Stands in a connection's queue while it has something to send. */
struct sender {
    struct list link;
    enum sender_kind kind;
};

/* The data of a ping that is longer than an answer has room for: from the memory for data. */
struct echo {
    uint8_t *piece[ECHO_MAX / SCSI_PIECE];
    uint32_t bytes; /* 0: none */
};

/* One answer that is no task's. */
struct iscsi_out {
    struct sender sender;
    struct pdu_out pdu;
    bool counts;             /* advances StatSN */
    bool last;               /* the connection ends after it */
    bool full_feature_after; /* the last login response */
    uint32_t bytes;
    struct echo echo; /* instead of `data` */
    uint8_t data[OUT_BYTES];
};

/* ---- tasks ---- */

enum task_state {
    TASK_FREE,
    TASK_MEMORY, /* waits for memory */
    TASK_DATA,   /* waits for data of the initiator */
    TASK_RUN,    /* with the SCSI layer */
    TASK_SEND,   /* its data and status go out */
};

struct iscsi_tmf {
    struct iscsi_conn *conn; /* NULL: free */
    uint32_t itt;
    uint32_t waits; /* tasks that have not ended */
    bool cold;      /* TARGET COLD RESET: then all connections end */
    uint8_t response;
};

struct iscsi_task {
    struct sender sender;
    struct iscsi_conn *conn;
    struct list memory; /* in the target's queue for memory */
    enum task_state state;
    bool immediate; /* not counted in the window */
    bool aborted;   /* ends without an answer */
    bool queued;    /* in the connection's queue of senders */
    bool has_memory;
    bool unsolicited; /* unsolicited data-out PDUs are to come */
    struct iscsi_tmf *tmf;
    uint32_t itt, ttt;
    uint64_t since_ns;
    struct scsi_command command;
    bool reads, writes;
    uint32_t expected; /* data transfer length that the initiator expects */
    /* data from the initiator */
    uint32_t want;         /* bytes that we take */
    uint32_t arrived;      /* in order, without gaps */
    uint32_t received;     /* of those, what we take: the smaller of arrived and want */
    uint32_t asked;        /* by R2T or by being unsolicited */
    uint32_t r2t_sn, r2ts; /* R2Ts sent; of those, not yet answered in full */
    uint32_t burst_end;    /* end of the burst that comes in */
    uint32_t data_sn;      /* expected in this burst */
    /* data to the initiator */
    uint32_t send, sent; /* bytes */
    uint32_t sent_sn, burst_sent;
};

/* ---- connections ---- */

enum conn_state { CONN_LOGIN, CONN_FULL, CONN_LOGOUT, CONN_CLOSING };
enum rx_state { RX_HEADER, RX_DATA, RX_TAIL };

struct login {
    uint8_t stage; /* CSG */
    bool began, authentic, text_open;
    bool needs_chap;
    struct chap chap;
    struct iscsi_access access;
    struct negotiation negotiation;
    char target_name[ISCSI_NAME_MAX + 1];
    bool has_target_name, has_type, offered_none, offered_chap, declared_tpgt;
    uint32_t itt;
    bool waits;             /* for the old session to end */
    struct iscsi_out *kept; /* meanwhile: the answer */
    bool transit_full;
};

struct iscsi_conn {
    struct list link;
    struct iscsi_target *target;
    uint64_t id;
    struct io_socket *socket;
    uint32_t portal;
    enum conn_state state;
    uint64_t since_ns, heard_ns, tx_since_ns, ping_ns;
    struct io_timer timer;
    struct io_msg reap;
    bool reaping;

    /* in */
    struct io_net rx_op;
    bool rx_busy, rx_parked, rx_stopped;
    enum rx_state rx_state;
    uint32_t rx_from, rx_to;
    struct pdu pdu;
    uint8_t header[PDU_HEADER];
    uint32_t data_at, crc;
    struct iscsi_task *rx_task; /* the data segment goes there; NULL: to rx_buf */
    uint32_t rx_offset;         /* in the task's data */
    struct echo rx_echo;        /* not empty: there */
    uint8_t *rx_buf;            /* NULL: nowhere */
    uint32_t rx_room;

    /* out */
    struct io_net tx_op;
    bool tx_busy;
    struct list senders, flying;
    struct io_piece pieces[IO_PIECES_MAX];
    uint32_t piece_count, tx_count, tx_bytes;
    uint8_t tx_header[TX_PDUS][PDU_HEADER + PDU_DIGEST];
    uint8_t tx_tail[TX_PDUS][8];
    struct iscsi_out outs[OUTS];
    struct list free_outs;
    uint32_t free_count;

    /* session */
    struct login login;
    struct iscsi_limits limits;
    bool digests_on;
    char initiator[ISCSI_NAME_MAX + 1], alias[64];
    uint8_t isid[6];
    uint16_t tsih, cid;
    bool discovery, chap, mutual;
    uint32_t stat_sn, exp_cmd_sn, max_cmd_sn;
    struct scsi_nexus nexus;
    struct iscsi_task *tasks;
    uint32_t task_count, busy, busy_window; /* tasks not free; of those, in the window */
    uint32_t next_ttt;
    struct iscsi_tmf tmfs[TMFS];
    uint32_t tmf_count; /* not answered */
    uint64_t commands, bytes_in, bytes_out;

    uint8_t text[TEXT_BYTES + 1];
    uint32_t text_bytes;
    char text_out[TEXT_OUT_BYTES]; /* the answer to a text request, sent in parts */
    uint32_t text_out_bytes, text_out_sent, text_ttt;

    uint8_t rx[RX_BYTES];
};

struct portal {
    struct iscsi_target *target;
    struct io_listener *listener;
    struct io_net accept;
    bool accepting;
    const char *advertise;
    char advertise_text[IO_ADDRESS_TEXT];
};

struct iscsi_target {
    struct iscsi_target_config config;
    struct io *io;
    struct mem *mem;
    struct pages *pages;
    char name[ISCSI_NAME_MAX + 1], alias[64], port_name[ISCSI_NAME_MAX + 16];
    struct portal portals[ISCSI_PORTALS_MAX];
    uint32_t portal_count;
    struct list conns;
    uint32_t conn_count, login_count;
    struct list want_memory; /* tasks */
    bool stopping;
    uint32_t grace_ms; /* that initiators are given then */
    struct io_task *waiting;
    uint64_t next_id;
    uint16_t next_tsih;
    struct io_timer accept_again;
    struct iscsi_stats stats;
};

/* ---- target.c ---- */
bool target_memory(struct iscsi_target *target, struct scsi_command *command);
void target_memory_back(struct iscsi_target *target, struct scsi_command *command);
/* Memory came back: those that wait go on. */
void target_memory_retry(struct iscsi_target *target);
/* False: there is no memory for so many bytes now. */
bool target_echo(struct iscsi_target *target, struct echo *echo, uint32_t bytes);
void target_echo_back(struct iscsi_target *target, struct echo *echo);
/* A connection left the list of connections: who waits for that goes on. */
void target_conn_gone(struct iscsi_target *target);

/* ---- conn.c ---- */
struct iscsi_conn *conn_open(struct iscsi_target *target, struct io_socket *socket, uint32_t portal);
/* Ends the connection; it stays valid until the loop's next turn. */
void conn_cut(struct iscsi_conn *conn);
/* The initiator broke the protocol: counts, then cuts. */
void conn_protocol_error(struct iscsi_conn *conn);
void conn_check_end(struct iscsi_conn *conn);
/* Ends all its tasks that nothing is under way for. */
void conn_drop_tasks(struct iscsi_conn *conn);
void conn_receive(struct iscsi_conn *conn);

/* ---- send.c ---- */
/* Room for an answer. There is always one for what was received (out_has_room) and one for each task management function under
 * way; NULL otherwise. */
struct iscsi_out *out_take(struct iscsi_conn *conn, enum pdu_opcode opcode, uint8_t flags, uint32_t itt);
void out_give(struct iscsi_conn *conn, struct iscsi_out *out);
/* For what nobody has asked for; NULL: it has to be left out now. */
struct iscsi_out *out_take_unasked(struct iscsi_conn *conn, enum pdu_opcode opcode);
/* Whatever comes next can be answered. */
bool out_has_room(const struct iscsi_conn *conn);
void out_send(struct iscsi_conn *conn, struct iscsi_out *out);
/* Gives its memory back. */
void echo_over(struct iscsi_conn *conn, struct echo *echo);
void send_queue(struct iscsi_conn *conn, struct sender *sender);
/* Starts a transmit when none is under way. */
void send_start(struct iscsi_conn *conn);
/* The header of the next PDU in this transmit; false: no room for another now. */
bool send_pdu(struct iscsi_conn *conn, const struct pdu_out *pdu, const uint8_t *data, uint32_t bytes);
bool send_task_data(struct iscsi_conn *conn, const struct pdu_out *pdu, const struct scsi_data *data, uint32_t at);
bool send_has_room(const struct iscsi_conn *conn);
/* ExpCmdSN and MaxCmdSN as of now. */
void send_window(struct iscsi_conn *conn, struct pdu_out *pdu);
/* An initiator that was told that the window is closed hears that it is open again. */
void send_window_open(struct iscsi_conn *conn);

/* ---- login.c ---- */
void login_pdu(struct iscsi_conn *conn);
void login_goes_on(struct iscsi_conn *conn);
/* InitiatorAlias, which may change at any time. */
void login_alias(struct iscsi_conn *conn, const char *value);

/* ---- session.c ---- */
/* A header is complete: says where its data goes (rx_task, rx_buf). */
void session_header(struct iscsi_conn *conn);
/* All of the PDU is there. */
void session_pdu(struct iscsi_conn *conn);
bool session_begin(struct iscsi_conn *conn);
/* What the initiator sees, as the rules say now. */
void session_map(struct iscsi_conn *conn);
/* Of a REJECT (RFC 7143 11.17.1). */
enum reject_reason { REJECT_PROTOCOL = 0x04, REJECT_UNSUPPORTED = 0x05, REJECT_TOO_MANY_IMMEDIATE = 0x06 };
void reject(struct iscsi_conn *conn, enum reject_reason reason);
/* False: the command is outside of the window, to be ignored. */
bool session_takes(struct iscsi_conn *conn, const struct pdu *pdu);

/* ---- task.c ---- */
void task_begin(struct iscsi_conn *conn);
void task_command_data(struct iscsi_conn *conn);
void task_data_header(struct iscsi_conn *conn);
void task_data(struct iscsi_conn *conn);
void task_has_memory(struct iscsi_task *task);
/* Fills in PDUs; true: it has more to send. */
bool task_fill(struct iscsi_task *task);
void task_sent(struct iscsi_task *task);
/* Ends a task of a connection that is cut, or that is aborted. */
void task_drop(struct iscsi_task *task);
struct iscsi_task *task_find(const struct iscsi_conn *conn, uint32_t itt);

/* ---- manage.c ---- */
void manage_task(struct iscsi_conn *conn);
void manage_ended(struct iscsi_tmf *tmf);
void manage_nop(struct iscsi_conn *conn);
void manage_text(struct iscsi_conn *conn);
void manage_logout(struct iscsi_conn *conn);
void manage_ping(struct iscsi_conn *conn);
/* Asks the initiator to log out within this time (RFC 7143 11.9.1). */
void manage_ask_to_leave(struct iscsi_conn *conn, uint32_t within_ms);

#endif
