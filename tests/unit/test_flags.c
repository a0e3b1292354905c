/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: izar's command line is read as its table says; what means nothing is refused before anything is asked. Method:
 * command lines as arrays. What refusals say goes to standard error and is looked at by the end-to-end test.
 */
#include "check.h"

#include <stdarg.h>

#include "izar/flags.h"

/* What main.c offers; here it only counts. */
static int told;

int fail(int code, const char *format, ...)
{
    (void)format;
    told++;
    return code;
}

static struct options o;
static struct words w;

static int parse(const char *line)
{
    static char text[512], *argv[32];
    int argc = 0;
    snprintf(text, sizeof text, "izar %s", line);
    for (char *at = text; *at != '\0' && argc < 31;) {
        argv[argc++] = at;
        at += strcspn(at, " ");
        while (*at == ' ') *at++ = '\0';
    }
    argv[argc] = NULL;
    o = (struct options){.timeout = 60, .interval = 2};
    w = (struct words){0};
    told = 0;
    return flags_parse(argc, argv, &o, &w);
}

TEST(flags_stand_anywhere)
{
    CHECK_EQ(parse("-o json volume create vm1 --size 5G --host a --host b=c -q"), EXIT_DONE);
    CHECK(o.output == OUTPUT_JSON && o.quiet && o.hosts.count == 2 && w.count == 3);
    CHECK_STR(w.at[2], "vm1");
    CHECK_STR(o.size, "5G");
    CHECK_STR(o.hosts.at[1], "b=c");
    CHECK_EQ(parse("volume show -- --odd"), EXIT_DONE);
    CHECK_STR(w.at[2], "--odd");
    CHECK_EQ(parse("volume map v --host h --lun 0"), EXIT_DONE);
    CHECK(flag_is_given(&o, "--lun") && !flag_is_given(&o, "--interval") && o.lun == 0);
    CHECK_EQ(told, 0);
}

TEST(wrong_flags)
{
    static const char *const bad[] = {"--odd",
                                      "volume list -o xml",
                                      "--size",
                                      "--lun x",
                                      "--lun -1",
                                      "--timeout 0",
                                      "--interval 4000",
                                      "--socket",
                                      "-x",
                                      "a b c d e f g h i",
                                      "--host 1 --host 2 --host 3 --host 4 --host 5 --host 6 --host 7 --host 8 --host 9"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK_EQ(parse(bad[i]), EXIT_USAGE);
        CHECK_EQ(told, 1);
    }
}

TEST(flags_belong_to_commands)
{
    const struct command create = {.noun = "volume", .verb = "create", .flags = " --size --host "};
    const struct command list = {.noun = "volume", .verb = "list", .flags = " "};
    CHECK_EQ(parse("volume create a --size 5G --host h -o json --timeout 5"), EXIT_DONE);
    CHECK_EQ(flags_check(&o, &create), EXIT_DONE);
    CHECK_EQ(flags_check(&o, &list), EXIT_USAGE);
    CHECK_EQ(parse("volume list --force"), EXIT_DONE);
    CHECK_EQ(flags_check(&o, &list), EXIT_USAGE);
    CHECK_EQ(parse("volume list --lun 0"), EXIT_DONE);
    CHECK_EQ(flags_check(&o, &list), EXIT_USAGE);
}

TEST(sizes)
{
    uint64_t n = 0;
    CHECK(size_parse("500G", &n) && n == 500ull << 30);
    CHECK(size_parse("500GiB", &n) && n == 500ull << 30);
    CHECK(size_parse("500GB", &n) && n == 500000000000u);
    CHECK(size_parse("1KB", &n) && n == 1000);
    CHECK(size_parse("4096", &n) && n == 4096);
    static const char *const bad[] = {"",     "G",   "B", "GB", "5 G", "5g", "-5G", "1.5G", "5GiBB", "5XB", "99999999999TB",
                                      "5KGB", "0x10"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) CHECK(!size_parse(bad[i], &n));
}

TESTS(flags_stand_anywhere, wrong_flags, flags_belong_to_commands, sizes)
