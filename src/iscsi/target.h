/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One iSCSI target (RFC 7143) on a node: portals that listen, sessions of initiators, the units that each of them sees.
 *
 * Who may log in, with which secrets, and what they see is asked of the owner through `struct iscsi_rules`, on the target's
 * loop, at every login and whenever iscsi_target_changed was called; the answers are copied. Everything lives on the loop of
 * the volumes. Calls marked [task] wait and must run inside an io_task.
 */
#ifndef IZAR_ISCSI_TARGET_H
#define IZAR_ISCSI_TARGET_H

#include "scsi/unit.h"

struct iscsi_target;

enum {
    ISCSI_NAME_MAX = 223,  /* characters of an iSCSI name (RFC 7143 4.2.7.1) */
    ISCSI_SECRET_MAX = 64, /* of a CHAP name or secret; a secret has at least 12 */
    ISCSI_LUNS_MAX = 256,  /* units that one initiator sees */
    ISCSI_PORTALS_MAX = 16,
};

struct iscsi_chap {
    char user[ISCSI_SECRET_MAX + 1]; /* empty: not asked for */
    char secret[ISCSI_SECRET_MAX + 1];
};

/* What one initiator may do. */
struct iscsi_access {
    struct iscsi_chap initiator; /* it proves to us; an empty user: no authentication */
    struct iscsi_chap target;    /* we prove to it, when it asks (mutual CHAP) */
};

struct iscsi_lun {
    uint16_t lun; /* 0 to 255 */
    struct scsi_unit *unit;
    bool read_only;
};

struct iscsi_rules {
    /* False: nobody knows this initiator; its login is refused. `ret_access` is zeroed before. */
    bool (*admit)(void *arg, const char *initiator, struct iscsi_access *ret_access);
    /* What it sees, by ascending lun; returns how many, at most ISCSI_LUNS_MAX. */
    uint32_t (*luns)(void *arg, const char *initiator, struct iscsi_lun *ret_luns);
    void *arg;
};

struct iscsi_target_config {
    struct io *io;
    const char *name;                      /* iqn.… of the target */
    const char *alias;                     /* may be NULL */
    const char *listen[ISCSI_PORTALS_MAX]; /* addresses as in io.h */
    uint32_t listen_count;
    const char
        *advertise[ISCSI_PORTALS_MAX]; /* what SendTargets tells instead of the listening address; NULL: the address that the
                                               * initiator came through */
    uint16_t portal_group;             /* target portal group tag, 1 to 65535; 0: 1 */
    struct iscsi_rules rules;
    uint64_t memory;            /* bytes for data under way, in all sessions; 0: 32 MiB; at least 16 MiB */
    uint32_t connections_max;   /* 0: 256; the next one is closed at once */
    uint32_t logins_max;        /* of those, not yet logged in; 0: 64 */
    uint32_t login_timeout_ms;  /* 0: 15,000 */
    uint32_t window;            /* commands under way a session; 0: 64; up to 256 */
    uint32_t nop_interval_ms;   /* silence after which an initiator is asked whether it lives; 0: 10,000 */
    uint32_t nop_timeout_ms;    /* ... and the time to answer; 0: 10,000 */
    uint32_t max_receive_bytes; /* MaxRecvDataSegmentLength that we declare; 0: 256 KiB */
    uint32_t max_burst_bytes;   /* 0: 1 MiB */
    uint32_t first_burst_bytes; /* 0: 64 KiB */
};

/* Listens on all addresses and serves. On failure nothing stays open and ret_failed (may be NULL) is the index of the address
 * in `listen` that could not be had. What io_listen says, ERR_ARGUMENT, ERR_NO_MEMORY. */
enum err iscsi_target_open(const struct iscsi_target_config *config, struct iscsi_target **ret_target, uint32_t *ret_failed);
/* [task] Asks the initiators to log out (asynchronous message), waits for them up to `grace_ms`, cuts what is left, waits until
 * the last command ended, frees all. NULL is fine. */
void iscsi_target_close(struct iscsi_target *target, uint32_t grace_ms);
/* Frees the target at once: after a simulated power cut, when nothing of it will ever complete any more. NULL is fine. */
void iscsi_target_abandon(struct iscsi_target *target);
/* The rules answer differently now: sessions that are not admitted any more are cut, the others see the new units. A unit that
 * is in no answer any more gets no new command when this returns; scsi_unit_close waits for the old ones. */
void iscsi_target_changed(struct iscsi_target *target);
/* From now on the target has this portal group tag (1 to 65535). Sessions that know another one are cut; they log in again. */
void iscsi_target_group(struct iscsi_target *target, uint16_t portal_group);
/* From now on it has this name, at most ISCSI_NAME_MAX characters. All sessions are cut: they are of another target. */
void iscsi_target_rename(struct iscsi_target *target, const char *name);
/* True while a session that was cut still has commands under way: what its initiator wrote may still become visible. */
bool iscsi_target_is_ending(const struct iscsi_target *target);
/* The address that portal `i` really listens on. */
const char *iscsi_target_address(const struct iscsi_target *target, uint32_t i, char *buf, size_t size);

struct iscsi_session_info {
    uint16_t tsih; /* target session identifier: names the session until it ends; 0 while it logs in */
    uint64_t id;   /* of the connection, ascending, never used again */
    char initiator[ISCSI_NAME_MAX + 1];
    char alias[64];
    uint8_t isid[6];
    char peer[IO_ADDRESS_TEXT], portal[IO_ADDRESS_TEXT];
    bool discovery, full_feature, chap, mutual, header_digest, data_digest;
    uint64_t since_ns;                      /* io_now_ns at accept */
    uint64_t commands, bytes_in, bytes_out; /* SCSI commands; bytes written by the initiator; read by it */
    uint32_t under_way;                     /* commands */
};

/* The connection with the lowest id from `from` on. ERR_NO_KEY: no more. */
enum err iscsi_session_next(const struct iscsi_target *target, uint64_t from, struct iscsi_session_info *ret_info);
/* Cuts one connection. ERR_NO_KEY. */
enum err iscsi_session_cut(struct iscsi_target *target, uint64_t id);

struct iscsi_stats {
    uint64_t accepted, refused, logins, login_failures, protocol_errors, digest_errors, timeouts;
    uint32_t connections, sessions;
    uint64_t memory, memory_used;
};
void iscsi_target_stats(const struct iscsi_target *target, struct iscsi_stats *ret_stats);

#endif
