/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ledger: a mapped file, so that it has everything at once and survives whatever happens to the target.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/prng.h"
#include "e2e/load.h"

enum { KIND_BITS = 2, COMMON_PATTERNS = 16, RANDOM_BYTES = 224 };

#define MAGIC 0x3164616f4c617a49ull

struct ledger_head {
    uint64_t magic, seed, sectors;
    uint32_t next; /* number of a change */
    uint32_t unused;
};

struct stamp {
    uint64_t magic, seed, sector, word;
};

static bool complain(const char *path, const char *why)
{
    fprintf(stderr, "izar-load: %s: %s\n", path, why);
    return false;
}

bool ledger_open(struct ledger *l, const char *path, uint64_t sectors, uint64_t seed)
{
    struct stat st;
    size_t size = sizeof *l->head + sectors * sizeof *l->entries;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || fstat(fd, &st) != 0) return complain(path, strerror(errno));
    bool fresh = st.st_size == 0;
    if (fresh && ftruncate(fd, (off_t)size) != 0) return complain(path, strerror(errno));
    if (!fresh && (size_t)st.st_size != size) return complain(path, "belongs to a volume of another size");
    l->head = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (l->head == MAP_FAILED) return complain(path, strerror(errno));
    if (fresh) *l->head = (struct ledger_head){.magic = MAGIC, .seed = seed, .sectors = sectors, .next = 1};
    l->entries = (struct entry *)(l->head + 1);
    l->sectors = sectors;
    return l->head->magic == MAGIC && l->head->sectors == sectors ? true : complain(path, "is no ledger");
}

void ledger_close(struct ledger *l)
{
    munmap(l->head, sizeof *l->head + l->sectors * sizeof *l->entries);
}

/* ---- contents ---- */

uint32_t ledger_word(struct ledger *l, enum kind kind)
{
    return l->head->next++ << KIND_BITS | (uint32_t)kind;
}

static enum kind kind_of(uint32_t word)
{
    return (enum kind)(word & ((1u << KIND_BITS) - 1));
}

static void fill(const struct ledger *l, uint64_t sector, uint32_t word, uint8_t *at)
{
    struct prng prng;
    if (kind_of(word) == KIND_ZERO) {
        memset(at, 0, SECTOR);
        return;
    }
    if (kind_of(word) == KIND_COMMON) {
        word &= (COMMON_PATTERNS << KIND_BITS) - 1;
        sector %= BLOCK_SECTORS;
    }
    struct stamp stamp = {MAGIC, l->head->seed, sector, word};
    memcpy(at, &stamp, sizeof stamp);
    prng_init(&prng, (stamp.seed + sector) * 0x9e3779b97f4a7c15ull ^ stamp.word);
    prng_fill(&prng, at + sizeof stamp, RANDOM_BYTES);
    for (uint32_t i = sizeof stamp + RANDOM_BYTES; i < SECTOR; i++) at[i] = at[i - 8]; /* something to compress */
}

void ledger_content(const struct ledger *l, uint64_t sector, uint32_t count, uint32_t word, uint8_t *ret_data)
{
    for (uint32_t i = 0; i < count; i++) fill(l, sector + i, word, ret_data + (size_t)i * SECTOR);
}

static bool holds(const struct ledger *l, uint64_t sector, uint32_t word, const uint8_t *data)
{
    uint8_t wanted[SECTOR];
    fill(l, sector, word, wanted);
    return memcmp(wanted, data, SECTOR) == 0;
}

/* ---- what is found wrong ---- */

static void print_word(const char *name, uint32_t word)
{
    static const char *const kinds[] = {"zero", "stamped", "common", "?"};
    fprintf(stderr, "%s%u (%s)", name, word >> KIND_BITS, kinds[kind_of(word)]);
}

static bool wrong(const struct ledger *l, uint64_t sector, const struct entry *may, const uint8_t *data)
{
    struct stamp stamp;
    memcpy(&stamp, data, sizeof stamp);
    fprintf(stderr, "izar-load: sector %llu must hold change ", (unsigned long long)sector);
    print_word("", may->floor);
    if (may->pending != 0) print_word(" or ", may->pending);
    if (stamp.magic != MAGIC) {
        fprintf(stderr, "; it holds %s\n", holds(l, sector, 0, data) ? "zeros" : "what was never written");
        return false;
    }
    print_word("; it holds ", (uint32_t)stamp.word);
    fprintf(stderr, " of sector %llu%s%s\n", (unsigned long long)stamp.sector,
            stamp.seed == l->head->seed ? "" : " from another run",
            holds(l, stamp.sector, (uint32_t)stamp.word, data) ? "" : ", torn");
    return false;
}

/* ---- changes ---- */

bool ledger_idle(const struct ledger *l, uint64_t sector, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (l->entries[sector + i].pending != 0) return false;
    return true;
}

void ledger_begin(struct ledger *l, uint64_t sector, uint32_t count, uint32_t word)
{
    for (uint32_t i = 0; i < count; i++) l->entries[sector + i].pending = word;
}

void ledger_end(struct ledger *l, uint64_t sector, uint32_t count, uint32_t word)
{
    for (uint32_t i = 0; i < count; i++) l->entries[sector + i] = (struct entry){.floor = word};
}

bool ledger_refuse(struct ledger *l, uint64_t sector, uint32_t count, uint32_t word)
{
    for (uint32_t i = 0; i < count; i++) {
        struct entry *e = &l->entries[sector + i];
        if (e->floor == word) {
            fprintf(stderr, "izar-load: sector %llu: a change was refused that a read has shown\n",
                    (unsigned long long)(sector + i));
            return false;
        }
        e->pending = 0;
    }
    return true;
}

/* ---- reads ---- */

/* More changes came while the read was under way than its two entries tell of: one of those between them will do, too. */
static bool between(const struct ledger *l, uint64_t sector, const struct entry *then, const uint8_t *data)
{
    struct stamp stamp;
    const struct entry *now = &l->entries[sector];
    if (now->floor == then->floor || now->floor == then->pending) return false;
    if (holds(l, sector, 0, data)) return true;
    memcpy(&stamp, data, sizeof stamp);
    uint32_t word = (uint32_t)stamp.word;
    if (!holds(l, sector, word, data)) return false;
    return kind_of(word) == KIND_COMMON || (word > then->floor && word < now->floor);
}

static bool check_sector(struct ledger *l, uint64_t sector, const struct entry *then, const uint8_t *data)
{
    struct entry *now = &l->entries[sector];
    if (holds(l, sector, then->floor, data)) return true;
    if (then->pending != 0 && then->pending != now->pending && holds(l, sector, then->pending, data)) return true;
    if (holds(l, sector, now->floor, data)) return true;
    if (now->pending == 0 || !holds(l, sector, now->pending, data)) {
        return between(l, sector, then, data) ? true : wrong(l, sector, then, data);
    }
    bool sure = kind_of(now->pending) == KIND_STAMPED || !between(l, sector, then, data);
    if (sure) now->floor = now->pending; /* shown once, it stays */
    return true;
}

bool ledger_check(struct ledger *l, uint64_t sector, uint32_t count, const struct entry *then, const uint8_t *data)
{
    for (uint32_t i = 0; i < count; i++)
        if (!check_sector(l, sector + i, &then[i], data + (size_t)i * SECTOR)) return false;
    return true;
}

/* Of one change, a block holds all or nothing: blocks are the store's unit. */
static bool block_torn(const struct ledger *l, uint64_t sector, const uint8_t *data)
{
    bool before[BLOCK_SECTORS], after[BLOCK_SECTORS];
    const struct entry *e = &l->entries[sector];
    for (uint32_t i = 0; i < BLOCK_SECTORS; i++) {
        before[i] = e[i].floor != e[i].pending && holds(l, sector + i, e[i].floor, data + i * SECTOR);
        after[i] = holds(l, sector + i, e[i].pending, data + i * SECTOR);
    }
    for (uint32_t i = 0; i < BLOCK_SECTORS; i++) {
        for (uint32_t j = 0; j < BLOCK_SECTORS; j++) {
            if (e[i].pending == 0 || e[i].pending != e[j].pending) continue;
            if (before[i] == after[i] || before[j] == after[j] || after[i] == after[j]) continue;
            fprintf(stderr, "izar-load: block at sector %llu holds a part of change %u only\n", (unsigned long long)sector,
                    e[i].pending >> KIND_BITS);
            return true;
        }
    }
    return false;
}

bool ledger_settle(struct ledger *l, uint64_t sector, uint32_t count, const uint8_t *data)
{
    for (uint32_t i = 0; i < count; i++, data += SECTOR) {
        struct entry *e = &l->entries[sector + i];
        if (i % BLOCK_SECTORS == 0 && block_torn(l, sector + i, data)) return false;
        if (!holds(l, sector + i, e->floor, data)) {
            if (e->pending == 0 || !holds(l, sector + i, e->pending, data)) return wrong(l, sector + i, e, data);
            e->floor = e->pending;
        }
    }
    for (uint32_t i = 0; i < count; i++) l->entries[sector + i].pending = 0;
    return true;
}
