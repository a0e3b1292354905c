/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests as small C programs that speak TAP.
 *
 *     TEST(adds) { CHECK_EQ(1 + 1, 2); }
 *     TESTS(adds, ...)
 *
 * TESTS at the end of the file is `main`: it runs all tests, or only those named on the command line, and exits 1 when one
 * failed. A failed CHECK prints `# file:line: ...` and returns from the test, so helpers that check are written as
 * functions that return a value for the test to CHECK. There are no constructors: what is not listed does not run, and the
 * compiler warns of an unused function. A test's name is the name of its function.
 */
#ifndef IZAR_TESTS_CHECK_H
#define IZAR_TESTS_CHECK_H

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"

static bool check_failed;             /* the running test failed */
static const char *check_skipped_why; /* the running test was skipped */

static inline bool check_true(const char *file, int line, const char *text, bool holds)
{
    if (holds) return true;
    printf("# %s:%d: %s\n", file, line, text);
    check_failed = true;
    return false;
}

static inline bool check_eq(const char *file, int line, const char *text, uint64_t a, uint64_t b)
{
    if (check_true(file, line, text, a == b)) return true;
    printf("#   left  %" PRId64 " (0x%" PRIx64 ")\n#   right %" PRId64 " (0x%" PRIx64 ")\n", (int64_t)a, a, (int64_t)b, b);
    return false;
}

static inline bool check_err(const char *file, int line, const char *text, enum err expected, enum err e)
{
    if (check_true(file, line, text, expected == e)) return true;
    printf("#   expected %s, got %s (%s)\n", err_name(expected), err_name(e), err_text(e));
    return false;
}

static inline void check_hex(const char *side, const uint8_t *at, size_t from, size_t to, size_t size)
{
    printf("#   %s %06zx ", side, from);
    for (size_t i = from; i < to && i < size; i++) printf(" %02x", at[i]);
    printf("\n");
}

/* Shows the first four lines of 16 bytes that differ. */
static inline bool check_bytes(const char *file, int line, const char *text, const void *a, const void *b, size_t size)
{
    if (check_true(file, line, text, size == 0 || memcmp(a, b, size) == 0)) return true;
    int shown = 0;
    for (size_t at = 0; at < size && shown < 4; at += 16) {
        size_t length = size - at < 16 ? size - at : 16;
        if (memcmp((const uint8_t *)a + at, (const uint8_t *)b + at, length) == 0) continue;
        check_hex("left ", a, at, at + 16, size);
        check_hex("right", b, at, at + 16, size);
        shown++;
    }
    return false;
}

static inline bool check_str(const char *file, int line, const char *text, const char *a, const char *b)
{
    if (check_true(file, line, text, a != NULL && b != NULL && strcmp(a, b) == 0)) return true;
    printf("#   left  \"%s\"\n#   right \"%s\"\n", a != NULL ? a : "(null)", b != NULL ? b : "(null)");
    return false;
}

#define CHECK_OR_RETURN(holds)                                                                                                 \
    do {                                                                                                                       \
        if (!(holds)) return;                                                                                                  \
    } while (0)

#define TEST(name) static void name(void)
#define CHECK(cond) CHECK_OR_RETURN(check_true(__FILE__, __LINE__, #cond, (cond)))
#define CHECK_EQ(a, b) CHECK_OR_RETURN(check_eq(__FILE__, __LINE__, #a " == " #b, (uint64_t)(a), (uint64_t)(b)))
#define CHECK_OK(e) CHECK_OR_RETURN(check_err(__FILE__, __LINE__, #e, OK, (e)))
#define CHECK_ERR(expected, e) CHECK_OR_RETURN(check_err(__FILE__, __LINE__, #e, (expected), (e)))
#define CHECK_BYTES(a, b, size) CHECK_OR_RETURN(check_bytes(__FILE__, __LINE__, #a " holds " #b, (a), (b), (size)))
#define CHECK_STR(a, b) CHECK_OR_RETURN(check_str(__FILE__, __LINE__, #a " is " #b, (a), (b)))
#define SKIP(why)                                                                                                              \
    do {                                                                                                                       \
        check_skipped_why = (why);                                                                                             \
        return;                                                                                                                \
    } while (0)

/* Copies the next name of the comma separated `names` into `ret_name` and returns what follows it. */
static inline const char *check_next_name(const char *names, char ret_name[80])
{
    size_t n = 0;
    while (*names == ' ' || *names == ',' || *names == '\n') names++;
    for (; *names != ',' && *names != ' ' && *names != '\0'; names++)
        if (n < 79) ret_name[n++] = *names;
    ret_name[n] = '\0';
    return names;
}

static inline int check_main(int argc, char **argv, const char *names, void (*const *tests)(void), int count)
{
    int ran = 0, failed = 0;
    for (int i = 0; i < count; i++) {
        char name[80];
        names = check_next_name(names, name);
        bool wanted = argc < 2;
        for (int a = 1; a < argc; a++) wanted = wanted || strcmp(argv[a], name) == 0;
        if (!wanted) continue;
        check_failed = false;
        check_skipped_why = NULL;
        tests[i]();
        failed += check_failed;
        printf("%s %d - %s", check_failed ? "not ok" : "ok", ++ran, name);
        if (!check_failed && check_skipped_why != NULL) printf(" # SKIP %s", check_skipped_why);
        printf("\n");
        fflush(stdout);
    }
    printf("1..%d\n", ran);
    if (argc > 1 && ran == 0) printf("# no test of that name\n");
    return failed > 0 || ran == 0;
}

#define TESTS(...)                                                                                                             \
    int main(int argc, char **argv)                                                                                            \
    {                                                                                                                          \
        static void (*const tests[])(void) = {__VA_ARGS__};                                                                    \
        return check_main(argc, argv, #__VA_ARGS__, tests, (int)(sizeof tests / sizeof tests[0]));                             \
    }

#endif
