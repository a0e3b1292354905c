/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the node's replicas share.
 *
 *     replicas.c       opening and closing, looking
 *     replicas_keep.c  the keeper, a task: places of the roster, volumes made and taken away
 *     replicas_edit.c  what changes in the roster
 *     replicas_call.c  the caller, a task: questions to the register, which wait for no volume that is being made
 *     replicas_send.c  messages that go out over links
 *     replicas_wire.c  messages that come in, and links that come and go
 *     replicas_note.c  what nodes say of themselves
 */
#ifndef IZAR_VOLUME_REPLICA_REPLICAS_INTERNAL_H
#define IZAR_VOLUME_REPLICA_REPLICAS_INTERNAL_H

#include <assert.h>
#include <string.h>

#include "volume/replica/body.h"
#include "volume/replica/codec.h"
#include "volume/replica/replicas.h"

enum {
    WIRE_STREAMS = 4, /* for volumes, by their numbers; then the urgent one, and that of notes */
    WIRE_URGENT = WIRE_STREAMS,
    WIRE_NOTES,
    WIRE_ALL,
    WIRE_PARCELS = 256, /* messages on their way, to all nodes */
    WIRE_KIND = 1,
    NOTE_KIND = 2,
    NOTE_BYTES = 8,
    PLACE_FIRST_JOIN = 1, /* of a node whose store had it when it became LIVE */
};

/* A volume that this node keeps. */
struct hosted {
    struct list link; /* when it has ended */
    struct replicas *all;
    uint32_t number;
    uint32_t index; /* this node's place */
    struct placement place;
    struct volume *volume;
    struct replica_host *host;
    struct mem *mem; /* the host's */
    /* the register */
    bool fetch, heard; /* a question is open; a value was read since it was opened */
    bool proposes;
    struct replica_config proposal;
    bool asks, asks_change; /* in the call under way */
    struct replica_config asked;
    uint64_t told; /* version */
    uint8_t value[ROSTER_VALUE_MAX];
    uint64_t damage_told_ns[3]; /* by what became of it */
};

/* Another node that there is a link to. */
struct wire_peer {
    struct replicas *all;
    uint32_t node; /* 0: free */
    struct link *link;
    bool up;
    uint32_t parcels; /* on their way */
    /* heartbeats: of two heads one is on its way, as `beating` says, and the other gathers */
    struct link_op beat_op;
    bool beating, gathering;
    struct replica_heartbeats beats;
    uint8_t beat_heads[2][LINK_HEAD_MAX];
    struct link_stream streams[WIRE_ALL];
    struct list arrived[WIRE_STREAMS]; /* messages that wait for room */
    struct link_op note;
    uint8_t note_head[NOTE_BYTES];
    bool noting, note_again; /* one is on its way; there is a newer one */
    uint64_t heard;          /* the version that it announced */
};

/* A message on its way. */
struct wire_parcel {
    struct list link;
    struct link_op op;
    struct wire_peer *peer;
    struct replica_content *content;
    struct io_piece pieces[2];
    uint32_t head_bytes, piece_count;
    uint8_t head[LINK_HEAD_MAX];
    uint8_t table[BODY_TABLE_MAX];
};

/* A task that looks for something to do when it is kicked, and now and then. */
struct replicas_task {
    struct io_task task;
    struct io_timer wake;
    bool running, kicked;
};

struct replicas {
    struct replicas_config config;
    struct io *io;
    struct mem *mem;
    struct replica_contents contents;
    struct replicas_stats stats;
    struct wire_peer peers[ROSTER_NODES_MAX];
    struct list parcels; /* free */
    uint32_t parcels_free;
    struct io_timer retry; /* messages that wait for room are looked at */
    bool retrying;
    uint64_t sessions;
    uint64_t announced; /* version */
    struct hosted *hosted[REPLICAS_MAX];
    uint32_t hosted_count;
    struct list ended;
    struct replicas_task keeper, caller;
    struct io_task *closing;
    bool stopping;
    uint64_t complained_ns;
};

/* ---- replicas.c ---- */

/* There is something to do. */
void task_kick(struct replicas_task *task);
/* [task] Until it is kicked, or for this long. False: all stop. */
bool task_rest(struct replicas *all, struct replicas_task *task, uint64_t ns);
/* The name of a node that has a copy in sync and can be reached; NULL: there is none. */
const char *place_reachable(const struct replicas *all, const struct placement *place);
/* [task] Its last word. */
void task_over(struct replicas *all, struct replicas_task *task);

/* ---- replicas_keep.c ---- */

/* [task body] */
void replicas_keep(void *replicas);
struct hosted *hosted_find(const struct replicas *all, uint32_t number);
/* [task] Its host ends, its requests with it. */
void hosted_close(struct hosted *hosted);
/* Memory of one that has ended, 0: of all: what it had prepared is published, or the store is closed. */
void hosted_free(struct replicas *all, uint32_t number);
void replicas_say(struct replicas *all, bool is_problem, const char *format, ...) TEXT_FORMAT(3, 4);

/* ---- replicas_edit.c: member_edit, each with a place_edit ---- */

struct place_edit {
    uint32_t number; /* of the volume; edit_add gives it out */
    uint32_t node;   /* who says so; edit_copies: who is to keep it, too, 0: nobody */
    uint32_t drop;   /* edit_copies: who is not to keep it any more, 0: nobody */
    const struct placement *wanted;
    enum placement_refusal refusal;
    uint8_t value[ROSTER_VALUE_MAX];
};

/* ERR_NAME_EXISTS; ERR_NO_NAME: a node that cannot keep it; ERR_LIMIT: one that keeps as many as it can. */
member_edit edit_add;
/* Made here; refused here. ERR_NO_NAME: nobody makes it any more. */
member_edit edit_made, edit_refuse;
/* It is to be gone; only one that somebody refused (else ERR_NO_NAME, ERR_CONFLICT). */
member_edit edit_leave, edit_back_out;
/* A learner more, or one less. ERR_NO_NAME, ERR_NAME_EXISTS, ERR_LIMIT; ERR_BUSY: the copy is in sync. */
member_edit edit_copies;
/* Its copy is to be the volume; ERR_CONFLICT: it is in sync. This node has one in sync, and is alive: nobody's is
 * (ERR_CONFLICT: nobody wants that). */
member_edit edit_force, edit_alive;
/* Gone here; the last drops it. */
member_edit edit_gone;
/* Of one that is LEAVING: the places whose stores may have it and whose nodes belong to the cluster. */
uint8_t places_waited_for(const struct roster *roster, const struct placement *place);

/* ---- replicas_call.c ---- */

void call_fetch(void *hosted);
void call_propose(void *hosted, const struct replica_config *config);
/* [task body] */
void replicas_call(void *replicas);

/* ---- replicas_send.c ---- */

enum err parcels_init(struct replicas *all);
static inline uint32_t wire_stream(uint32_t number)
{
    return number % WIRE_STREAMS;
}
/* Heartbeats that have not left yet are forgotten. */
void beats_clear(struct wire_peer *peer);
bool wire_is_sending(const struct wire_peer *peer);

/* ---- replicas_wire.c ---- */

enum err wires_init(struct replicas *all);
/* A host begins, or hears of places from this one on: it is told which links are up. */
void wires_tell_links(struct hosted *hosted, uint32_t from);
void wire_send(void *hosted, uint8_t node, const struct replica_message *message, struct replica_content *content);
/* What waits for room is given back. */
void wires_drop(struct replicas *all);
/* NULL: there is no link to it; of 0, a free one. */
struct wire_peer *wire_peer(struct replicas *all, uint32_t node);
void wire_opened(void *all, uint32_t node, struct link *link);
void wire_up(void *all, uint32_t node);
void wire_down(void *all, uint32_t node);
void wire_arrived(void *all, uint32_t node, struct link_message *message);
/* [task] */
void wire_closing(void *all, uint32_t node);

/* ---- replicas_note.c ---- */

/* Its link has come up, or what was sent may be lost. */
void note_send(struct wire_peer *peer);
void note_take(struct wire_peer *peer, const struct link_message *message);

#endif
