/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: of what a store keeps of a replica beside its volume, nothing is read that nobody has written. Method: each byte of a
 * value is any other one: it is refused, or says what its bytes say; other lengths and versions. A real pool with such values
 * is opened in test_volume.c.
 */
#include "check.h"
#include "volume/disk_replica.h"
#include "volume/replica/disk_self.h"
#include "volume/replica/host_internal.h"

static const struct host_self in_sync = {.join = 0xa00000001};
static const struct host_self learns = {.join = 3, .learn = {true, 9, 0x0100, REPLICA_NO_GAP, REPLICA_WALK_END, 0x1122}};
static const struct volume_replica replica = {.cluster = "sixteen letters", .number = 77, .original = true};

/* ---- what a replica keeps of itself ---- */

/* What is said of it with another byte at a place; what is not refused must encode to just that. */
static enum err self_changed(const struct host_self *self, size_t at, uint8_t to)
{
    struct disk_self disk, again;
    struct host_self back = *self, untouched = back;
    self_encode(self, &disk);
    ((uint8_t *)&disk)[at] = to;
    enum err err = self_decode(&disk, sizeof disk, &back);
    self_encode(&back, &again);
    bool right = err == OK ? memcmp(&again, &disk, sizeof disk) == 0 : memcmp(&back, &untouched, sizeof back) == 0;
    return right ? err : ERR_COUNT;
}

TEST(who_does_not_learn_has_nothing_to_say_of_it)
{
    CHECK_OK(self_changed(&in_sync, 0, SELF_VERSION));
    for (size_t at = 0; at < sizeof(struct disk_self); at++)
        for (uint32_t to = 1; to < 256; to++) {
            bool join = at >= 8 && at < 16, learns_nothing = at == 1 && to == 1;
            enum err expected = at == 0 && to > SELF_VERSION                                ? ERR_NEW_FORMAT
                                : join || learns_nothing || (at == 0 && to == SELF_VERSION) ? OK
                                                                                            : ERR_REPLICA_STATE;
            CHECK_ERR(expected, self_changed(&in_sync, at, (uint8_t)to));
        }
    CHECK_ERR(ERR_REPLICA_STATE, self_changed(&in_sync, 0, 0));
}

TEST(who_learns_says_where_it_is)
{
    for (size_t at = 4; at < sizeof(struct disk_self); at++)
        for (uint32_t to = 0; to < 256; to++) CHECK_OK(self_changed(&learns, at, (uint8_t)to));
    CHECK_ERR(ERR_REPLICA_STATE, self_changed(&learns, 1, 0)); /* and yet says where it is */
    CHECK_ERR(ERR_REPLICA_STATE, self_changed(&learns, 1, 2));
    CHECK_ERR(ERR_REPLICA_STATE, self_changed(&learns, 2, 1));
    CHECK_ERR(ERR_REPLICA_STATE, self_changed(&learns, 3, 0x80));
}

TEST(a_self_has_one_length)
{
    struct {
        struct disk_self disk;
        uint8_t more[8];
    } longer = {.more = {0}};
    struct host_self back;
    self_encode(&learns, &longer.disk);
    for (uint32_t bytes = 0; bytes <= sizeof longer; bytes++)
        CHECK_ERR(bytes == sizeof longer.disk ? OK : ERR_REPLICA_STATE, self_decode(&longer, bytes, &back));
    longer.disk.version = SELF_VERSION + 1; /* whose length nobody here knows */
    for (uint32_t bytes = 1; bytes <= sizeof longer; bytes++) CHECK_ERR(ERR_NEW_FORMAT, self_decode(&longer, bytes, &back));
}

/* ---- what a volume is a replica of ---- */

static enum err replica_changed(size_t at, uint8_t to)
{
    struct disk_replica disk, again;
    struct volume_replica back = replica, untouched = back;
    volume_replica_encode(&replica, &disk);
    ((uint8_t *)&disk)[at] = to;
    enum err err = volume_replica_decode(&disk, sizeof disk, &back);
    volume_replica_encode(&back, &again);
    bool right = err == OK ? memcmp(&again, &disk, sizeof disk) == 0 : memcmp(&back, &untouched, sizeof back) == 0;
    return right ? err : ERR_COUNT;
}

TEST(a_replica_is_of_one_volume)
{
    for (size_t at = 0; at < sizeof(struct disk_replica); at++)
        for (uint32_t to = 0; to < 256; to++) {
            bool good =
                at < 16 || (at == 16 && to != 0) || (at > 16 && at < 20) || (at == 20 && to < 2) || (at > 20 && to == 0);
            CHECK_ERR(good ? OK : ERR_REPLICA_STATE, replica_changed(at, (uint8_t)to));
        }
}

TEST(a_replica_has_one_length)
{
    uint8_t bytes[sizeof(struct disk_replica) + 4] = {0};
    struct disk_replica disk;
    struct volume_replica back;
    volume_replica_encode(&replica, &disk);
    memcpy(bytes, &disk, sizeof disk);
    for (uint32_t size = 0; size <= sizeof bytes; size++)
        CHECK_ERR(size == sizeof disk ? OK : ERR_REPLICA_STATE, volume_replica_decode(bytes, size, &back));
}

TESTS(who_does_not_learn_has_nothing_to_say_of_it, who_learns_says_where_it_is, a_self_has_one_length,
      a_replica_is_of_one_volume, a_replica_has_one_length)
