/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the host share.
 *
 *     host.c        opening, events in, effects out, clients
 *     host_store.c  records: prepare, publish, discard
 *     host_send.c   messages with content, and content that is read again
 */
#ifndef IZAR_VOLUME_REPLICA_HOST_INTERNAL_H
#define IZAR_VOLUME_REPLICA_HOST_INTERNAL_H

#include <assert.h>
#include <string.h>

#include "volume/replica/host.h"

static_assert((int)REQUEST_NODES == (int)REPLICA_NODES_MAX && (int)REQUEST_WINDOW == (int)REPLICA_REQUESTS, "windows agree");

enum { HOST_OPS = 2 * REPLICA_TAIL, HOST_RESENDS = REPLICA_TAIL };

/* A record that was prepared in this life. */
struct host_op {
    struct list link; /* while it is free */
    struct replica_host *host;
    struct store_op op;
};

/* A record after `published`, by its sequence. */
struct host_slot {
    struct store_op *op;
    struct host_op *own; /* NULL: the store found it */
    struct replica_content *content;
    uint32_t cost; /* blocks of credit that the core has taken for it */
    bool reading;  /* its blocks: it must not be published */
};

/* A message that waits for its content, or behind one that does. */
struct host_resend {
    struct list link;
    uint8_t node;
    struct replica_message message;
    struct replica_content *content;
};

struct replica_host {
    struct replica_host_config config;
    struct replica *core;
    struct io_timer timer;
    enum err failed; /* the store takes nothing more: only what others are told goes on */
    bool fail_due;   /* the core does not know it yet */
    bool closing;    /* the core hears of nothing any more */
    uint64_t ids;

    /* clients */
    struct host_change *changes[HOST_CHANGES]; /* in the core */
    uint64_t change_ids[HOST_CHANGES];
    struct list changes_waiting;
    struct host_read *reads[HOST_READS];
    uint64_t read_ids[HOST_READS];
    struct list reads_waiting;
    struct list reads_parked; /* they may be served once everything is published that should be */
    struct io_msg clients;    /* those that wait are looked at */
    bool clients_sent;

    /* content that came with a message: of the one at hand, and of changes that wait for their order */
    struct replica_content *arriving;
    struct list forwards;

    /* records */
    struct host_op *ops;
    struct list ops_free;
    uint32_t preparing; /* given to the store, and not back */
    struct host_slot slots[REPLICA_KEPT];
    uint64_t published, publish_to, end;
    uint64_t credit_back; /* blocks that were published and not given back to the core yet */
    struct io_task task;  /* discards */
    bool discarding;
    uint64_t discard_from, discard_join, join;

    /* content that is read again */
    struct host_resend *resends;
    struct list resends_free, resends_waiting;
    struct host_resend *resend; /* the one at hand */
    struct store_read read;
    struct io_job job;
    struct block_digest digests[RECORD_BLOCKS_MAX];
    uint8_t *data, *room; /* RECORD_BLOCKS_MAX blocks each */
};

/* ---- host.c ---- */

void host_step(struct replica_host *h, struct replica_event *event);
/* The store takes nothing more. */
void host_fail(struct replica_host *h, enum err err);
/* Content by the name that a change has; NULL: it is not in memory. */
struct replica_content *host_content(struct replica_host *h, uint64_t name);
/* Reads that waited for publishing. */
void host_reads_go(struct replica_host *h);

/* ---- host_store.c ---- */

struct host_slot *host_slot(struct replica_host *h, uint64_t sequence);
/* [task] What the store has, as facts for the core. `room`: REPLICA_KEPT records. */
enum err host_take_up(struct replica_host *h, struct replica_record *room, struct replica_facts *ret_facts);
void host_prepare(struct replica_host *h, const struct replica_record *record);
void host_publish(struct replica_host *h, uint64_t upto);
void host_publish_go(struct replica_host *h);
void host_discard(struct replica_host *h, uint64_t from, uint64_t join);
/* [task] */
void host_run(void *arg);

/* ---- host_send.c ---- */

void host_send(struct replica_host *h, uint8_t node, const struct replica_message *message);
/* What waits there is not sent any more; true: nothing is being read. */
bool host_send_forget(struct replica_host *h);

#endif
