/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of what a replica keeps of itself.
 */
#include "volume/replica/disk_self.h"

#include <string.h>

#include "volume/replica/host_internal.h"

void self_encode(const struct host_self *self, struct disk_self *ret_disk)
{
    const struct replica_learn *l = &self->learn;
    *ret_disk = (struct disk_self){.version = SELF_VERSION, .learns = l->on, .join = put64(self->join)};
    if (!l->on) return;
    ret_disk->epoch = put32(l->epoch);
    ret_disk->base = put64(l->base);
    ret_disk->low = put64(l->low);
    ret_disk->cursor = put64(l->cursor);
    ret_disk->applied = put64(l->applied);
}

enum err self_decode(const void *value, uint32_t bytes, struct host_self *ret_self)
{
    struct disk_self disk, again;
    if (bytes == 0) return ERR_REPLICA_STATE;
    if (*(const uint8_t *)value > SELF_VERSION) return ERR_NEW_FORMAT;
    if (bytes != sizeof disk) return ERR_REPLICA_STATE;
    memcpy(&disk, value, sizeof disk);
    struct host_self self = {.join = get64(disk.join)};
    if (disk.learns == 1)
        self.learn = (struct replica_learn){.on = true,
                                            .epoch = get32(disk.epoch),
                                            .base = get64(disk.base),
                                            .low = get64(disk.low),
                                            .cursor = get64(disk.cursor),
                                            .applied = get64(disk.applied)};
    self_encode(&self, &again);
    if (memcmp(&again, &disk, sizeof disk) != 0) return ERR_REPLICA_STATE; /* what is reserved, or has no meaning, is not 0 */
    *ret_self = self;
    return OK;
}
