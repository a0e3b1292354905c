/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of a volume's place among its replicas.
 */
#include "volume/disk_replica.h"

#include <string.h>

void volume_replica_encode(const struct volume_replica *replica, struct disk_replica *ret_disk)
{
    *ret_disk = (struct disk_replica){.number = put32(replica->number), .original = replica->original};
    memcpy(ret_disk->cluster, replica->cluster, sizeof ret_disk->cluster);
}

enum err volume_replica_decode(const void *value, uint32_t bytes, struct volume_replica *ret_replica)
{
    struct disk_replica disk, again;
    if (bytes != sizeof disk) return ERR_REPLICA_STATE;
    memcpy(&disk, value, sizeof disk);
    struct volume_replica replica = {.number = get32(disk.number), .original = disk.original == 1};
    memcpy(replica.cluster, disk.cluster, sizeof replica.cluster);
    volume_replica_encode(&replica, &again);
    if (replica.number == 0 || memcmp(&again, &disk, sizeof disk) != 0) return ERR_REPLICA_STATE;
    *ret_replica = replica;
    return OK;
}
