/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: no bytes of a store harm whoever reads what it keeps of a replica beside its volume. Method: any bytes as both values;
 * what is accepted encodes to the same bytes.
 */
#include "fuzz/fuzz.h"
#include "volume/disk_replica.h"
#include "volume/replica/disk_self.h"
#include "volume/replica/host_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct host_self self;
    struct disk_self disk_self;
    struct volume_replica replica;
    struct disk_replica disk_replica;
    if (size == 0) return 0;
    uint8_t *copy = fuzz_copy(data, size);
    if (self_decode(copy, (uint32_t)size, &self) == OK) {
        self_encode(&self, &disk_self);
        REQUIRE(size == sizeof disk_self && memcmp(&disk_self, data, size) == 0);
    }
    if (volume_replica_decode(copy, (uint32_t)size, &replica) == OK) {
        volume_replica_encode(&replica, &disk_replica);
        REQUIRE(replica.number != 0 && size == sizeof disk_replica && memcmp(&disk_replica, data, size) == 0);
    }
    free(copy);
    return 0;
}
