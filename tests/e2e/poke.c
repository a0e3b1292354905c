/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes bytes of a pool's device for the end-to-end tests, as nature or another version of the program would.
 *
 *     poke FILE flip OFFSET...      turns one bit of the byte at each offset
 *     poke FILE wipe OFFSET LENGTH  overwrites with 0xa5
 *     poke FILE u64 OFFSET          prints the little-endian number there
 *     poke FILE version N           gives both superblocks a format version, with a right checksum
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "store/format.h"

static bool at_offset(int fd, uint64_t offset, void *buf, size_t size, bool store)
{
    ssize_t n = store ? pwrite(fd, buf, size, (off_t)offset) : pread(fd, buf, size, (off_t)offset);
    return n == (ssize_t)size;
}

static bool flip(int fd, uint64_t offset)
{
    uint8_t byte;
    if (!at_offset(fd, offset, &byte, 1, false)) return false;
    byte ^= 0x10;
    return at_offset(fd, offset, &byte, 1, true);
}

static bool wipe(int fd, uint64_t offset, uint64_t length)
{
    uint8_t garbage[SECTOR];
    memset(garbage, 0xa5, sizeof garbage);
    for (uint64_t done = 0; done < length; done += sizeof garbage) {
        if (!at_offset(fd, offset + done, garbage, min64(sizeof garbage, length - done), true)) return false;
    }
    return true;
}

static bool print_u64(int fd, uint64_t offset)
{
    le64 value;
    if (!at_offset(fd, offset, &value, sizeof value, false)) return false;
    printf("%llu\n", (unsigned long long)get64(value));
    return true;
}

static bool set_version(int fd, uint32_t version)
{
    static const uint64_t places[] = {SUPER_AT_0, SUPER_AT_1};
    for (size_t i = 0; i < 2; i++) {
        struct disk_super super;
        if (!at_offset(fd, places[i], &super, sizeof super, false)) return false;
        super.version = put32(version);
        super.checksum = put64(hash64(&super.version, sizeof super - offsetof(struct disk_super, version), 0));
        if (!at_offset(fd, places[i], &super, sizeof super, true)) return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    bool good = false;
    if (argc < 4) return 2;
    int fd = open(argv[1], O_RDWR | O_CLOEXEC);
    if (fd < 0) return 1;
    uint64_t first = strtoull(argv[3], NULL, 0);
    if (strcmp(argv[2], "flip") == 0) {
        good = true;
        for (int i = 3; i < argc; i++) good = good && flip(fd, strtoull(argv[i], NULL, 0));
    } else if (strcmp(argv[2], "wipe") == 0 && argc == 5) {
        good = wipe(fd, first, strtoull(argv[4], NULL, 0));
    } else if (strcmp(argv[2], "u64") == 0) {
        good = print_u64(fd, first);
    } else if (strcmp(argv[2], "version") == 0) {
        good = set_version(fd, (uint32_t)first);
    }
    close(fd);
    if (!good) fprintf(stderr, "poke: %s %s failed\n", argv[1], argv[2]);
    return good ? 0 : 1;
}
