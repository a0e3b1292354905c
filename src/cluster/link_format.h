/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Links on the wire: what lies inside the TLS stream.
 *
 * A connection is a sequence of frames: a header of 24 bytes and `length` bytes. The side that dialled sends HELLO; the other,
 * if it agrees, answers with its own; then the first sends any frame, at once a PING, and that is its consent. Who does not
 * agree sends REFUSE with its reason and closes.
 *
 * There is no checksum in a frame: every byte lies in a TLS record, whose tag a damaged byte does not pass; then the connection
 * is over.
 *
 * Versions. HELLO carries the range of versions that a side speaks; the highest that both speak is spoken. A release speaks its
 * own version and the one before. HELLO itself never changes but by growing: what lies behind the fields one knows is skipped.
 * A bit of `features` says "I can", a bit of `required` says "not without it"; what both can is on. Unknown bits of `features`
 * are ignored, one unknown bit of `required` ends it.
 *
 * A message is a head (what the layer above decodes) and a body (data). It begins with a MESSAGE frame that holds all of the
 * head and some of the body; PART frames of the same stream bring the rest. Frames of other streams may come between, of at
 * most LINK_INTERLEAVED messages in all. An urgent message is one frame and has no body.
 *
 * Credit. Per connection and class a side may have sent messages of at most the window's cost that the other has not consumed.
 * PING, PONG and CREDIT say how much was consumed so far, and how many messages have arrived whole.
 *
 * DEAD says that the sender has given a session up: what is still on its way there must not be delivered any more.
 *
 * Little-endian; the offsets are pinned here, the bytes by tests/golden/test_link_format.c.
 */
#ifndef IZAR_CLUSTER_LINK_FORMAT_H
#define IZAR_CLUSTER_LINK_FORMAT_H

#include "base/bytes.h"

enum { LINK_VERSION_MIN = 1, LINK_VERSION_MAX = 1 }; /* what this release speaks */

enum link_limits {
    LINK_HEAD_MAX = 4096,   /* bytes of a message's head */
    LINK_PIECE = 128 << 10, /* a body lies in pieces of this many bytes, the last may be shorter */
    LINK_BODY_PIECES = 8,   /* so a body has at most 1 MiB */
    LINK_BODY_MAX = LINK_PIECE * LINK_BODY_PIECES,
    LINK_PART_MAX = 32 << 10, /* bytes of a body in one frame */
    LINK_INTERLEAVED = 8,     /* messages with bodies under way at once on a connection */
    LINK_PATHS_MAX = 8,       /* addresses of a node */
    LINK_COST_MIN = 4096,     /* the least that a message costs: its head's memory */
    LINK_COST_MAX = LINK_COST_MIN + LINK_BODY_MAX,
    LINK_CONTROL_MAX = 8 << 10, /* bytes of any frame that is not of a message */
    LINK_REASON_MAX = 200,      /* of a REFUSE's text */
};

enum frame_type {
    FRAME_HELLO = 1,
    FRAME_REFUSE = 2,
    FRAME_PING = 3,
    FRAME_PONG = 4,
    FRAME_CREDIT = 5,
    FRAME_DEAD = 6,
    FRAME_MESSAGE = 7,
    FRAME_PART = 8,
    FRAME_SIGN = 9,    /* a request for a certificate (PKCS #10) */
    FRAME_SIGNED = 10, /* the certificate; empty: no */
    FRAME_JOIN = 11,   /* a stranger's only word */
    FRAME_JOINED = 12,
};

enum frame_flags { FRAME_URGENT = 1 };

struct wire_frame {
    le32 length; /* bytes behind this header */
    uint8_t type;
    uint8_t flags;
    le16 kind;       /* MESSAGE: what it means to the layer above */
    le32 stream;     /* MESSAGE, PART */
    le32 session;    /* of the stream: MESSAGE, PART */
    le32 head_bytes; /* MESSAGE */
    le32 body_bytes; /* MESSAGE: of the whole body */
};
SIZE(wire_frame, 24);
AT(wire_frame, type, 4);
AT(wire_frame, stream, 8);
AT(wire_frame, body_bytes, 20);

enum { HELLO_MAGIC_BYTES = 8, BOOT_BYTES = 16, HELLO_HOLDER = 1 };
#define HELLO_MAGIC "IZARLINK"

struct wire_hello {
    uint8_t magic[HELLO_MAGIC_BYTES];
    le16 version_min, version_max;
    le32 path;                /* which of the addresses: the side that dialled says so */
    uint8_t cluster[16];      /* also in the certificate */
    le32 node;                /* who I am; also in the certificate */
    le32 peer;                /* who I think you are */
    uint8_t boot[BOOT_BYTES]; /* random, a new one each time the process starts */
    le64 features, required;
    le32 session;                  /* of the connection; counted by the side that dialled */
    le32 flags;                    /* HELLO_HOLDER: I can sign certificates */
    le32 window[2];                /* what you may have sent and I not consumed: bulk, urgent */
    le32 heartbeat_ms, timeout_ms; /* mine; for people who look at a trace */
};
SIZE(wire_hello, 96);
AT(wire_hello, path, 12);
AT(wire_hello, node, 32);
AT(wire_hello, boot, 40);
AT(wire_hello, features, 56);
AT(wire_hello, session, 72);
AT(wire_hello, window, 80);
AT(wire_hello, timeout_ms, 92);

/* PING, PONG, CREDIT */
struct wire_state {
    le64 stamp;       /* PING: any number; PONG: that of the PING; CREDIT: 0 */
    le64 consumed[2]; /* cost so far, by class */
    le64 received;    /* messages that arrived whole */
};
SIZE(wire_state, 32);

struct wire_dead {
    le32 path, session;
};
SIZE(wire_dead, 8);

enum link_refusal {
    REFUSAL_NONE,
    REFUSAL_VERSION,   /* no version that both speak */
    REFUSAL_FEATURE,   /* a required feature is missing */
    REFUSAL_CLUSTER,   /* another cluster */
    REFUSAL_NODE,      /* not who was meant, or not who the certificate says */
    REFUSAL_STRANGER,  /* not a member here */
    REFUSAL_DUPLICATE, /* another process with this identity is connected */
    REFUSAL_LIMIT,     /* a path or window that cannot be */
    REFUSAL_JOIN,      /* the token was refused */
    REFUSAL_STOPPING,  /* going down */
    REFUSALS,
};

struct wire_refuse {
    le16 reason; /* enum link_refusal; unknown ones are taken for "no" */
    le16 text_bytes;
};
SIZE(wire_refuse, 4);

enum { JOIN_PROOF_BYTES = 32, JOIN_INFO_MAX = 1024 };

/* JOIN: this, then the request, and what the joiner says of itself for the layer above. The proof covers all behind it
 * (token.h). */
struct wire_join {
    uint8_t proof[JOIN_PROOF_BYTES];
    le32 request_bytes, info_bytes;
};
SIZE(wire_join, 40);

/* JOINED: this, then CA, certificate, and for a node with data the CA's key and the secret of the pools' fingerprints (64). */
struct wire_joined {
    le32 node, ca_bytes, certificate_bytes, ca_key_bytes;
};
SIZE(wire_joined, 16);

#endif
