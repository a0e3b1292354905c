/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a replica keeps of itself in the store: the value of the local key {STATE_LOCAL, 'r'} of its volume. Version 1.
 *
 * Rules of change: a reader refuses another version; what is added comes with one.
 */
#ifndef IZAR_VOLUME_REPLICA_DISK_SELF_H
#define IZAR_VOLUME_REPLICA_DISK_SELF_H

#include "base/bytes.h"

enum { SELF_VERSION = 1 };

struct disk_self {
    uint8_t version;
    uint8_t learns;      /* 1: it catches up, and the rest says how far it is (struct replica_learn); else all of that is 0 */
    uint8_t reserved[2]; /* 0 */
    le32 epoch;
    le64 join; /* 0: not in sync with anybody */
    le64 base, low, cursor, applied;
};
SIZE(disk_self, 48);
AT(disk_self, epoch, 4);
AT(disk_self, join, 8);
AT(disk_self, base, 16);
AT(disk_self, applied, 40);

struct host_self;

void self_encode(const struct host_self *self, struct disk_self *ret_disk);
/* ERR_NEW_FORMAT; ERR_REPLICA_STATE: nobody has written that. The output is untouched then. */
enum err self_decode(const void *value, uint32_t bytes, struct host_self *ret_self);

#endif
