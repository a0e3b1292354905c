/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a store keeps of a volume that has replicas on other nodes, beside it: the value of the local key {STATE_LOCAL, 'v'} of
 * the volume. A volume without the key stands for itself.
 *
 * Rules of change: what is reserved is 0, and a reader refuses a value in which it is not, or one of another length.
 */
#ifndef IZAR_VOLUME_DISK_REPLICA_H
#define IZAR_VOLUME_DISK_REPLICA_H

#include "base/bytes.h"
#include "volume/volume.h"

struct disk_replica {
    uint8_t cluster[16];
    le32 number;      /* not 0 */
    uint8_t original; /* 1: made together with the others; else 0 */
    uint8_t reserved[3];
};
SIZE(disk_replica, 24);
AT(disk_replica, number, 16);
AT(disk_replica, original, 20);

void volume_replica_encode(const struct volume_replica *replica, struct disk_replica *ret_disk);
/* ERR_REPLICA_STATE: nobody has written that; the output is untouched then. */
enum err volume_replica_decode(const void *value, uint32_t bytes, struct volume_replica *ret_replica);

#endif
