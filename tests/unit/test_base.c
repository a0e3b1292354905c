/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the base does what its headers say, on any machine. Method: known vectors (published ones where there are, for the
 * keyed fingerprint computed by another program), the edges of each range, and for mem the promises on alignment, zeroes,
 * budget and real memory.
 */
#include <stdlib.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/prng.h"
#include "base/sha.h"
#include "base/text.h"
#include "check.h"

/* ---- err, bytes, list ---- */

TEST(errors_have_name_text_and_class)
{
    CHECK_EQ(OK, 0);
    CHECK_STR(err_name(OK), "OK");
    CHECK_STR(err_name(ERR_NO_SPACE), "ERR_NO_SPACE");
    CHECK_STR(err_text(ERR_NO_SPACE), "pool is full");
    CHECK_EQ(err_class(ERR_NO_SPACE), ERR_CLASS_FULL);
    for (int e = 1; e < ERR_COUNT; e++) {
        CHECK(strlen(err_text((enum err)e)) > 3);
        CHECK(err_class((enum err)e) != ERR_CLASS_FINE);
    }
}

TEST(a_number_that_is_no_error_is_safe)
{
    CHECK_STR(err_name(ERR_COUNT), "ERR_?");
    CHECK_STR(err_name((enum err)1000), "ERR_?");
    CHECK_EQ(err_class((enum err)1000), ERR_CLASS_INVALID);
}

TEST(little_endian_goes_there_and_back)
{
    const uint8_t bytes[8] = {0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01};
    le64 v64 = put64(0x0123456789abcdefu);
    le32 v32 = put32(0x89abcdefu);
    le16 v16 = put16(0xcdefu);
    CHECK_BYTES(v64.b, bytes, 8);
    CHECK_BYTES(v32.b, bytes, 4);
    CHECK_BYTES(v16.b, bytes, 2);
    CHECK_EQ(get64(v64), 0x0123456789abcdefu);
    CHECK_EQ(get32(v32), 0x89abcdefu);
    CHECK_EQ(get16(v16), 0xcdefu);
}

TEST(zeros_are_zero)
{
    static uint8_t bytes[100];
    CHECK(bytes_are_zero(bytes, 0) && bytes_are_zero(bytes, 1) && bytes_are_zero(bytes, sizeof bytes));
    for (size_t at = 0; at < sizeof bytes; at++) {
        bytes[at] = (uint8_t)(1u << at % 8);
        CHECK(bytes_are_zero(bytes, at) && !bytes_are_zero(bytes, at + 1) && !bytes_are_zero(bytes, sizeof bytes));
        CHECK(!bytes_are_zero(bytes + at, 1) && bytes_are_zero(bytes + at, 0));
        bytes[at] = 0;
    }
}

TEST(a_cursor_never_leaves_its_bytes)
{
    uint8_t bytes[10] = {0};
    struct cursor c = cursor_of(bytes, sizeof bytes);
    CHECK(cursor_take(&c, 4) == bytes);
    CHECK(cursor_take(&c, 6) == bytes + 4);
    CHECK(cursor_take(&c, 0) != NULL);
    CHECK(!c.bad);
    CHECK(cursor_take(&c, 1) == NULL);
    CHECK(c.bad);
    CHECK(cursor_take(&c, 0) == NULL); /* the error sticks */

    c = cursor_of(bytes, 4);
    CHECK(cursor_take(&c, SIZE_MAX) == NULL);
}

struct member {
    struct list link;
    int value;
};

TEST(a_list_keeps_order)
{
    struct list head;
    struct member m[3] = {{.value = 0}, {.value = 1}, {.value = 2}};
    list_init(&head);
    CHECK(list_empty(&head));
    CHECK(list_pop(&head) == NULL);
    list_push(&head, &m[1].link);
    list_push(&head, &m[2].link);
    list_push_front(&head, &m[0].link);
    list_remove(&m[1].link);
    CHECK(list_empty(&m[1].link));
    CHECK_EQ(CONTAINER(list_pop(&head), struct member, link)->value, 0);
    CHECK_EQ(CONTAINER(list_pop(&head), struct member, link)->value, 2);
    CHECK(list_empty(&head));
}

/* ---- mem ---- */

TEST(memory_is_zeroed_and_aligned)
{
    struct mem *mem = mem_open(1 << 20);
    CHECK(mem != NULL);
    static const size_t sizes[] = {1, 63, 64, 4095, 4096, 4097, 65536};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint8_t *at = mem_alloc(mem, sizes[i]);
        CHECK(at != NULL);
        CHECK_EQ((uintptr_t)at % (sizes[i] >= 4096 ? 4096 : 64), 0);
        for (size_t b = 0; b < sizes[i]; b++) CHECK_EQ(at[b], 0);
        memset(at, 0xff, sizes[i]);
        if (i % 2 == 0) mem_free(mem, at);
    }
    mem_close(mem); /* frees what is left; the address sanitizer would tell of a leak */
}

TEST(memory_that_holds_anything_is_aligned_and_counted)
{
    struct mem *mem = mem_open(1 << 20);
    uint8_t *small = mem_alloc_raw(mem, 100), *large = mem_alloc_raw(mem, 65536);
    CHECK(small != NULL && large != NULL);
    CHECK_EQ((uintptr_t)small % 64, 0);
    CHECK_EQ((uintptr_t)large % 4096, 0);
    memset(large, 0xff, 65536);
    CHECK(mem_used(mem) >= 65636);
    CHECK(mem_alloc_raw(mem, 1 << 20) == NULL);
    mem_free(mem, large);
    CHECK(mem_used(mem) < 65536);
    mem_close(mem);
}

TEST(memory_ends_at_its_budget_and_comes_back)
{
    struct mem *mem = mem_open(100000);
    CHECK_EQ(mem_budget(mem), 100000);
    CHECK_EQ(mem_used(mem), 0);
    CHECK(mem_alloc(mem, 100001) == NULL);
    CHECK(mem_alloc(mem, SIZE_MAX) == NULL);
    CHECK(mem_alloc(mem, SIZE_MAX - 4096) == NULL);
    CHECK_EQ(mem_used(mem), 0);
    void *at = mem_alloc(mem, 60000);
    CHECK(at != NULL);
    CHECK(mem_used(mem) >= 60000 && mem_used(mem) <= 100000);
    CHECK(mem_alloc(mem, 60000) == NULL);
    mem_free(mem, at);
    mem_free(mem, NULL);
    CHECK_EQ(mem_used(mem), 0);
    CHECK(mem_alloc(mem, 60000) != NULL);
    mem_close(mem);
    mem_close(NULL);
}

/* Pages of real memory that this process holds; 0 where it cannot be told, or means nothing (valgrind, sanitizers). */
static long resident_pages(void)
{
    long pages = 0;
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(__clang__)
    const char *preload = getenv("LD_PRELOAD");
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL) return 0;
    if (fscanf(file, "%*d %ld", &pages) != 1 || (preload != NULL && strstr(preload, "vgpreload") != NULL)) pages = 0;
    fclose(file);
#endif
    return pages;
}

TEST(a_large_table_costs_nothing_until_touched)
{
    long before = resident_pages();
    if (before == 0) SKIP("real memory cannot be measured here");
    struct mem *mem = mem_open(2ull << 30);
    CHECK(mem_alloc(mem, 1u << 30) != NULL);
    CHECK(resident_pages() - before < 1000);
    mem_close(mem);
}

static size_t large_bytes;

static void note_large(void *at, size_t size)
{
    if (((uint8_t *)at)[0] == 0) large_bytes += size;
}

TEST(memory_tells_of_large_pieces_while_asked_to)
{
    struct mem *mem = mem_open(64 << 20);
    CHECK(mem_alloc(mem, MEM_LARGE) != NULL);
    mem_on_large(mem, note_large);
    CHECK(mem_alloc(mem, MEM_LARGE - 1) != NULL);
    CHECK_EQ(large_bytes, 0);
    CHECK(mem_alloc(mem, MEM_LARGE) != NULL);
    CHECK_EQ(large_bytes, MEM_LARGE);
    mem_on_large(mem, NULL);
    CHECK(mem_alloc(mem, MEM_LARGE) != NULL);
    CHECK_EQ(large_bytes, MEM_LARGE);
    mem_close(mem);
}

/* ---- prng ---- */

/* The state after splitmix64 of seed 0 starts 0xe220a8397b1dcdaf (published); the outputs pin the sequence for good,
 * because every recorded seed of the simulator depends on it. */
TEST(a_seed_repeats_its_numbers)
{
    struct prng a, b;
    prng_init(&a, 0);
    CHECK_EQ(a.s[0], 0xe220a8397b1dcdafu);
    CHECK_EQ(a.s[1], 0x6e789e6aa1b965f4u);
    prng_init(&b, 0);
    for (int i = 0; i < 1000; i++) CHECK_EQ(prng_next(&a), prng_next(&b));

    struct prng known = {{1, 2, 3, 4}};
    CHECK_EQ(prng_next(&known), 11520);
    CHECK_EQ(prng_next(&known), 0);
    CHECK_EQ(prng_next(&known), 1509978240);
    CHECK_EQ(prng_next(&known), 1215971899390074240u);
}

TEST(below_is_even_and_in_range)
{
    struct prng prng;
    prng_init(&prng, 7);
    int seen[10] = {0};
    for (int i = 0; i < 100000; i++) {
        uint64_t draw = prng_below(&prng, 10);
        CHECK(draw < 10);
        seen[draw]++;
    }
    for (int i = 0; i < 10; i++) CHECK(seen[i] > 9500 && seen[i] < 10500);
    CHECK_EQ(prng_below(&prng, 1), 0);
    for (int i = 0; i < 100; i++) CHECK(prng_below(&prng, (1ull << 63) + 1) <= 1ull << 63);
}

TEST(chance_follows_its_odds)
{
    struct prng prng;
    prng_init(&prng, 8);
    int hits = 0;
    for (int i = 0; i < 100000; i++) {
        CHECK(!prng_chance(&prng, 0));
        CHECK(prng_chance(&prng, 1000000));
        hits += prng_chance(&prng, 250000);
    }
    CHECK(hits > 24000 && hits < 26000);
}

TEST(fill_writes_exactly_what_it_is_asked)
{
    struct prng a, b;
    prng_init(&a, 9);
    prng_init(&b, 9);
    uint8_t buf[20];
    memset(buf, 0, sizeof buf);
    prng_fill(&a, buf, 13);
    CHECK_BYTES(buf + 13, "\0\0\0\0\0\0\0", 7);
    le64 first = put64(prng_next(&b));
    CHECK_BYTES(buf, first.b, 8);
    CHECK(buf[8] != 0 || buf[9] != 0 || buf[10] != 0);
}

/* ---- hash ---- */

/* RFC 7143 has no vectors; these are of RFC 3720 B.4. */
TEST(crc32c_vectors)
{
    uint8_t bytes[48] = {0};
    CHECK_EQ(crc32c(0, "123456789", 9), 0xe3069283u);
    CHECK_EQ(crc32c(0, bytes, 32), 0x8a9136aau);
    memset(bytes, 0xff, 32);
    CHECK_EQ(crc32c(0, bytes, 32), 0x62a8ab43u);
    for (uint8_t i = 0; i < 32; i++) bytes[i] = i;
    CHECK_EQ(crc32c(0, bytes, 32), 0x46dd794eu);
    for (uint8_t i = 0; i < 32; i++) bytes[i] = (uint8_t)(31 - i);
    CHECK_EQ(crc32c(0, bytes, 32), 0x113fdb5cu);
}

TEST(crc32c_continues)
{
    struct prng prng;
    uint8_t bytes[1000];
    prng_init(&prng, 1);
    prng_fill(&prng, bytes, sizeof bytes);
    uint32_t whole = crc32c(0, bytes, sizeof bytes);
    for (size_t at = 0; at <= sizeof bytes; at += 37)
        CHECK_EQ(crc32c(crc32c(0, bytes, at), bytes + at, sizeof bytes - at), whole);
    CHECK_EQ(crc32c(0x12345678u, bytes, 0), 0x12345678u);
}

TEST(xxh3_vectors)
{
    CHECK_EQ(hash64("", 0, 0), 0x2d06800538d394c2u);
    struct hash128 empty = hash128("", 0, 0);
    CHECK_EQ(empty.low, 0x6001c324468d497fu);
    CHECK_EQ(empty.high, 0x99aa06d3014798d8u);
    CHECK(hash64("a", 1, 0) != hash64("a", 1, 1));
    CHECK(hash64("a", 1, 0) != hash64("b", 1, 0));
}

/* ---- fingerprint ---- */

/* The expected digests were computed by Python's hashlib. */
TEST(fingerprint_vectors)
{
    uint8_t secret[FINGERPRINT_SECRET], block[FINGERPRINT_BLOCK_MAX];
    for (size_t i = 0; i < sizeof secret; i++) secret[i] = (uint8_t)i;
    for (size_t i = 0; i < sizeof block; i++) block[i] = (uint8_t)(i * 7);
    static const uint8_t none[20] = {0xfd, 0xea, 0xb9, 0xac, 0xf3, 0x71, 0x03, 0x62, 0xbd, 0x26,
                                     0x58, 0xcd, 0xc9, 0xa2, 0x9e, 0x8f, 0x9c, 0x75, 0x7f, 0xcf};
    static const uint8_t abc[20] = {0xeb, 0x1c, 0x93, 0x45, 0xc3, 0x4c, 0x8a, 0x49, 0x11, 0xd0,
                                    0x00, 0x6d, 0xf1, 0x8e, 0x6a, 0xb4, 0x31, 0xcb, 0x97, 0x51};
    static const uint8_t full[20] = {0xc7, 0xf6, 0x06, 0x9c, 0xac, 0x2e, 0xa7, 0x57, 0x4c, 0xd0,
                                     0x85, 0x87, 0xcf, 0x47, 0xa1, 0x2b, 0x58, 0x02, 0xd4, 0x50};

    struct fingerprinter f;
    struct fingerprint got;
    fingerprinter_init(&f, secret);
    fingerprint_of(&f, NULL, 0, &got);
    CHECK_BYTES(got.b, none, 20);
    fingerprint_of(&f, "abc", 3, &got);
    CHECK_BYTES(got.b, abc, 20);
    fingerprint_of(&f, block, sizeof block, &got);
    CHECK_BYTES(got.b, full, 20);
}

TEST(another_secret_gives_another_fingerprint)
{
    uint8_t secret[FINGERPRINT_SECRET] = {0};
    struct fingerprinter f, g;
    struct fingerprint of_f, of_g, again;
    fingerprinter_init(&f, secret);
    secret[63] = 1;
    fingerprinter_init(&g, secret);
    fingerprint_of(&f, "block", 5, &of_f);
    fingerprint_of(&g, "block", 5, &of_g);
    fingerprint_of(&f, "block", 5, &again);
    CHECK(!fingerprint_equal(&of_f, &of_g));
    CHECK(fingerprint_equal(&of_f, &again));
}

/* ---- text ---- */

TEST(text_is_built_in_pieces)
{
    char buf[32];
    struct text t;
    text_init(&t, buf, sizeof buf);
    text_add(&t, "volume %d", 7);
    text_add(&t, ", ");
    text_add_hex(&t, "\x01\xfe", 2);
    CHECK_STR(buf, "volume 7, 01fe");
    CHECK_EQ(t.used, 14);
    CHECK(!t.full);
}

TEST(text_never_overflows)
{
    char buf[9] = "########";
    struct text t;
    text_init(&t, buf, 8);
    text_add(&t, "%s", "1234567");
    CHECK(!t.full);
    text_add(&t, "8");
    CHECK(t.full);
    text_add(&t, "%s", "more");
    CHECK_STR(buf, "1234567");
    CHECK_EQ(t.used, 7);

    memset(buf, '#', 8);
    text_init(&t, buf, 1);
    text_add(&t, "x");
    CHECK(t.full && buf[0] == '\0' && buf[1] == '#');
}

static const char *bytes_text(uint64_t bytes)
{
    static char buf[40];
    struct text t;
    text_init(&t, buf, sizeof buf);
    text_from_bytes(&t, bytes);
    return buf;
}

TEST(bytes_as_people_read_them)
{
    CHECK_STR(bytes_text(0), "0 B");
    CHECK_STR(bytes_text(1023), "1023 B");
    CHECK_STR(bytes_text(1024), "1 KiB");
    CHECK_STR(bytes_text(3ull << 29), "1.5 GiB");
    CHECK_STR(bytes_text((1ull << 20) - 1), "1023.9 KiB");
    CHECK_STR(bytes_text(4ull << 40), "4 TiB");
    CHECK_STR(bytes_text(UINT64_MAX), "15.9 EiB");
}

TEST(numbers_as_people_write_them)
{
    static const struct {
        const char *string;
        uint64_t value;
    } good[] = {
        {"0", 0},
        {"007", 7},
        {"4096", 4096},
        {"1K", 1024},
        {"1KiB", 1024},
        {"3M", 3 << 20},
        {"2GiB", 2ull << 30},
        {"8T", 8ull << 40},
        {"16777215TiB", 16777215ull << 40},
        {"18446744073709551615", UINT64_MAX},
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        uint64_t value = 0;
        CHECK_OK(text_to_u64(good[i].string, &value));
        CHECK_EQ(value, good[i].value);
    }
}

TEST(garbage_is_no_number)
{
    static const char *const bad[] = {"",
                                      "K",
                                      "-1",
                                      "+1",
                                      " 1",
                                      "1 ",
                                      "1k",
                                      "1Ki",
                                      "1KB",
                                      "1KiBs",
                                      "1.5G",
                                      "0x10",
                                      "1P",
                                      "1 K",
                                      "1GiBM",
                                      "16777216T",
                                      "18446744073709551616",
                                      "99999999999999999999999",
                                      "18446744073709551615K"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint64_t value = 42;
        CHECK_ERR(ERR_ARGUMENT, text_to_u64(bad[i], &value));
        CHECK_EQ(value, 42); /* untouched on failure */
    }
}

TESTS(errors_have_name_text_and_class, a_number_that_is_no_error_is_safe, little_endian_goes_there_and_back, zeros_are_zero,
      a_cursor_never_leaves_its_bytes, a_list_keeps_order, memory_is_zeroed_and_aligned,
      memory_that_holds_anything_is_aligned_and_counted, memory_ends_at_its_budget_and_comes_back,
      a_large_table_costs_nothing_until_touched, memory_tells_of_large_pieces_while_asked_to, a_seed_repeats_its_numbers,
      below_is_even_and_in_range, chance_follows_its_odds, fill_writes_exactly_what_it_is_asked, crc32c_vectors,
      crc32c_continues, xxh3_vectors, fingerprint_vectors, another_secret_gives_another_fingerprint, text_is_built_in_pieces,
      text_never_overflows, bytes_as_people_read_them, numbers_as_people_write_them, garbage_is_no_number)
