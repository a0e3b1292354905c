/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the daemon's configuration takes what it should, and every refusal names file, line, key and what is allowed.
 * Method: small files as text, and command lines.
 */
#include "check.h"

#include "izard/config.h"

static struct config c;
static struct problem p;

static enum err parse(const char *text)
{
    config_init(&c);
    return config_parse(&c, text, strlen(text), "x.conf", &p);
}

static enum err flags(const char *one, const char *two)
{
    char *argv[] = {"izard", (char *)(uintptr_t)one, (char *)(uintptr_t)two, NULL};
    return config_flags(&c, two != NULL ? 3 : 2, argv, &p);
}

TEST(takes_all_keys)
{
    CHECK_OK(parse("# a comment\n; another\n\nstate = /srv/izar\nsocket=/run/x.sock\nname = n1\npool = /a\npool = /b\n"
                   "pool-size = 512M\nmemory = 2G\nreserve = 20\ncheckpoint-ms = 1000\nscrub-rate = 8M\nloops = 2\nio = posix\n"
                   "iscsi-listen = 127.0.0.1:3260\niscsi-listen = [::1]:3261\niscsi-advertise = 192.0.2.1:3260\n"
                   "iscsi-name = iqn.2026-01.org.example:x\nlogout-ms = 0\nlog = /var/log/x\nlog-level = debug\n"));
    CHECK_STR(c.state, "/srv/izar");
    CHECK_STR(c.socket, "/run/x.sock");
    CHECK(c.pools.count == 2 && c.listens.count == 2 && c.advertises.count == 1);
    CHECK_STR(c.pools.at[1], "/b");
    CHECK_STR(c.listens.at[1], "[::1]:3261");
    CHECK_EQ(c.memory, 2ull << 30);
    CHECK_EQ(c.pool_size, 512u << 20);
    CHECK_EQ(c.scrub_rate, 8u << 20);
    CHECK(c.reserve == 20 && c.checkpoint_ms == 1000 && c.loops == 2 && c.logout_ms == 0);
    CHECK_STR(c.io, "posix");
    CHECK_STR(c.log_level, "debug");
}

TEST(takes_sections_and_no_last_newline)
{
    CHECK_OK(parse("[izard]\nmemory = 1G ; a comment behind it"));
    CHECK_EQ(c.memory, 1ull << 30);
    CHECK_OK(parse(""));
    CHECK_OK(parse("\n\n#\n"));
    CHECK_OK(parse("memory = 1G\r\nloops = 3\r\n"));
    CHECK_EQ(c.loops, 3);
}

struct refusal {
    const char *text, *detail, *remedy;
};

TEST(refuses_with_reason)
{
    static const struct refusal refusals[] = {
        {"memory = 2G\nmemroy = 2G\n", "x.conf:2: unknown key memroy", "memory"},
        {"memory = lots\n", "x.conf:1: memory = lots: not a size", ""},
        {"\nmemory = 1M\n", "x.conf:2: memory = 1M: allowed are 160 MiB to 4 TiB", ""},
        {"loops = 0\n", "x.conf:1: loops = 0: allowed are 1 to 64", ""},
        {"loops = two\n", "x.conf:1: loops = two: not a number", ""},
        {"io = fast\n", "x.conf:1: io = fast: allowed are auto|io_uring|posix", ""},
        {"io = pos\n", "x.conf:1: io = pos: allowed are", ""},
        {"io = |\n", "x.conf:1: io = |: allowed are", ""},
        {"io =\n", "x.conf:1: io needs a value: auto|io_uring|posix", ""},
        {"iscsi-listen = localhost:3260\n", "x.conf:1: iscsi-listen = localhost:3260: allowed are ADDR:PORT", ""},
        {"iscsi-listen = 127.0.0.1\n", "x.conf:1: iscsi-listen", ""},
        {"iscsi-listen = 127.0.0.1:99999\n", "x.conf:1: iscsi-listen", ""},
        {"iscsi-listen = ::1:3260\n", "x.conf:1: iscsi-listen", ""},
        {"iscsi-name = disks\n", "x.conf:1: iscsi-name = disks: allowed are names like iqn", ""},
        {"name = a b\n", "x.conf:1: name = a b: a name has", ""},
        {"loops = 1\nloops = 2\n", "x.conf:2: loops is given twice", ""},
        {"[pool]\nmemory = 2G\n", "x.conf:2: unknown section [pool]", ""},
        {"memory\n", "x.conf:1: this is neither", "KEY = VALUE"},
        {"[izard\n", "x.conf:1: this is neither", "KEY = VALUE"},
        {"= 5\n", "x.conf:1: unknown key", ""},
    };
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        CHECK_ERR(ERR_ARGUMENT, parse(refusals[i].text));
        if (strncmp(p.detail, refusals[i].detail, strlen(refusals[i].detail)) != 0) printf("# %s\n", p.detail);
        CHECK(strncmp(p.detail, refusals[i].detail, strlen(refusals[i].detail)) == 0);
        CHECK(strstr(p.remedy, refusals[i].remedy) != NULL);
    }
}

TEST(refuses_long_lines_and_many_items)
{
    static char text[4096];
    memset(text, 'x', 300);
    memcpy(text, "state = ", 8);
    text[300] = '\n';
    CHECK_ERR(ERR_ARGUMENT, parse(text));
    CHECK(strstr(p.detail, "x.conf:1: the line is too long") != NULL);
    text[0] = '\0';
    for (int i = 0; i < 17; i++) strncat(text, "pool = /dev/x\n", sizeof text - strlen(text) - 1);
    CHECK_ERR(ERR_ARGUMENT, parse(text));
    CHECK(strstr(p.detail, "x.conf:17:") != NULL);
    CHECK_ERR(ERR_ARGUMENT, config_parse(&c, "loops = 1\0\n", 11, "x.conf", &p));
}

TEST(flags_win)
{
    CHECK_OK(parse("memory = 2G\npool = /a\npool = /b\n"));
    CHECK_OK(flags("--memory", "3G"));
    CHECK_EQ(c.memory, 3ull << 30);
    CHECK_OK(flags("--pool", "/c"));
    CHECK(c.pools.count == 1);
    CHECK_STR(c.pools.at[0], "/c");
    CHECK_OK(flags("--format", NULL));
    CHECK(c.format);
}

TEST(flags_refused)
{
    config_init(&c);
    CHECK_ERR(ERR_ARGUMENT, flags("--memroy", "2G"));
    CHECK(strstr(p.detail, "--memroy") != NULL && strstr(p.remedy, "--help") != NULL);
    CHECK_ERR(ERR_ARGUMENT, flags("--memory", NULL));
    CHECK_ERR(ERR_ARGUMENT, flags("--memory", "much"));
    CHECK(strstr(p.detail, "--memory = much") != NULL);
    CHECK_ERR(ERR_ARGUMENT, flags("memory", "2G"));
}

TEST(defaults_follow_the_state_folder)
{
    char *argv[] = {"izard", "--state", "/nowhere/x", NULL};
    CHECK_OK(config_load(&c, 3, argv, &p));
    CHECK_STR(c.socket, "/nowhere/x/izard.sock");
    CHECK_STR(c.log, "/nowhere/x/izard.log");
    CHECK_STR(c.pools.at[0], "/nowhere/x/pool.img");
    CHECK(c.listens.count == 1 && c.name[0] != '\0' && strncmp(c.target, "iqn.", 4) == 0);
    char *none[] = {"izard", "--state", "/nowhere/x", "--iscsi-listen", "none", NULL};
    CHECK_OK(config_load(&c, 5, none, &p));
    CHECK_EQ(c.listens.count, 0);
    char *missing[] = {"izard", "--config", "/nowhere/x.conf", NULL};
    CHECK_ERR(ERR_NO_FILE, config_load(&c, 3, missing, &p));
}

TESTS(takes_all_keys, takes_sections_and_no_last_newline, refuses_with_reason, refuses_long_lines_and_many_items, flags_win,
      flags_refused, defaults_follow_the_state_folder)
