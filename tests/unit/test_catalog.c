/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the catalog keeps its rules, its JSON keeps the catalog, and its two files survive a crash at any byte and damage to
 * either of them. Method: a small catalog is written through the real seam; then the files are cut, mixed and flipped as a
 * crash or a bad disk would, and opened again.
 */
#include "check.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "api/catalog_file.h"

/* ---- the value ---- */

static struct catalog catalog, again;
static char json[CATALOG_BYTES_MAX];

static enum err add_volume(struct catalog *c, uint32_t id, const char *name)
{
    struct problem p = {0};
    struct catalog_volume v = {.id = id, .block_size = 512, .created = 1000 + id, .state = VOLUME_LIVE};
    snprintf(v.name, sizeof v.name, "%s", name);
    return catalog_add_volume(c, &v, &p);
}

static enum err add_host(struct catalog *c, const char *name, const char *iqn)
{
    struct problem p = {0};
    struct catalog_host h = {.id = c->next_host++, .created = 2000, .initiator_count = 1};
    snprintf(h.name, sizeof h.name, "%s", name);
    snprintf(h.initiators[0], sizeof h.initiators[0], "%s", iqn);
    return catalog_add_host(c, &h, &p);
}

TEST(names)
{
    static const char *const good[] = {"a", "vm1", "A.b_c-9", "0",
                                       "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    static const char *const bad[] = {"",
                                      " ",
                                      "a b",
                                      "a/b",
                                      "../x",
                                      ".a",
                                      "-a",
                                      "_a",
                                      "a\n",
                                      "a\tb",
                                      "\xc3\xa4",
                                      "a'b",
                                      "a\"b",
                                      "a;b",
                                      "a%20",
                                      "a\x7f",
                                      "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct problem p = {0};
        CHECK_OK(catalog_check_name("volume", good[i], &p));
        CHECK_STR(p.remedy, "");
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct problem p = {0};
        CHECK_ERR(ERR_ARGUMENT, catalog_check_name("volume", bad[i], &p));
        CHECK(p.detail[0] != '\0' && p.remedy[0] != '\0');
    }
}

TEST(initiators)
{
    static const char *const good[] = {
        "iqn.1991-05.com.microsoft:hv1", "IQN.1993-08.org.Debian:01:ABC",        "eui.02004567a425678d",
        "naa.52004567ba64678d",          "naa.62004567ba64678d0123456789abcdef", "iqn.2026-01.a"};
    static const char *const bad[] = {"",
                                      "iqn",
                                      "iqn.",
                                      "iqn.91-05.com:x",
                                      "iqn.1991-05",
                                      "iqn.1991-05.",
                                      "iqn.1991-05.:x",
                                      "hv1",
                                      "eui.123",
                                      "naa.52004567ba64678",
                                      "eui.0200456xa425678d",
                                      "iqn.1991-05.com x",
                                      "iqn.1991-05.com_x",
                                      "iqn.1991-05.com/x"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        char name[IQN_SIZE];
        struct problem p = {0};
        snprintf(name, sizeof name, "%s", good[i]);
        CHECK_OK(catalog_check_iqn(name, &p));
        CHECK(strchr(name, 'D') == NULL && strchr(name, 'I') == NULL);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char name[IQN_SIZE];
        struct problem p = {0};
        snprintf(name, sizeof name, "%s", bad[i]);
        CHECK_ERR(ERR_ARGUMENT, catalog_check_iqn(name, &p));
    }
}

TEST(duplicates_and_references)
{
    struct problem p = {0};
    catalog_init(&catalog);
    CHECK_OK(add_volume(&catalog, 1, "vm1"));
    CHECK_ERR(ERR_NAME_EXISTS, add_volume(&catalog, 2, "vm1"));
    CHECK_ERR(ERR_ARGUMENT, add_volume(&catalog, 1, "vm2"));
    CHECK_OK(add_volume(&catalog, 2, "vm2"));
    CHECK_OK(add_host(&catalog, "h1", "iqn.2026-01.a:1"));
    CHECK_ERR(ERR_NAME_EXISTS, add_host(&catalog, "h1", "iqn.2026-01.a:2"));
    CHECK_ERR(ERR_NAME_EXISTS, add_host(&catalog, "h2", "IQN.2026-01.A:1"));
    CHECK_OK(add_host(&catalog, "h2", "iqn.2026-01.a:2"));
    uint32_t h1 = catalog_host(&catalog, "h1")->id, h2 = catalog_host(&catalog, "h2")->id;
    CHECK(h1 != h2 && catalog_host_of_iqn(&catalog, "iqn.2026-01.a:2")->id == h2);
    CHECK_OK(catalog_add_map(&catalog, 1, h1, 1, &p));
    CHECK_ERR(ERR_NAME_EXISTS, catalog_add_map(&catalog, 1, h1, 2, &p));
    CHECK_ERR(ERR_NAME_EXISTS, catalog_add_map(&catalog, 2, h1, 1, &p));
    CHECK_OK(catalog_add_map(&catalog, 2, h1, LUN_ANY, &p));
    CHECK_EQ(catalog_map(&catalog, 2, h1)->lun, 0);
    CHECK_OK(catalog_add_map(&catalog, 2, h2, LUN_ANY, &p));
    CHECK_EQ(catalog_maps_of_volume(&catalog, 2), 2);
    catalog_remove_volume(&catalog, 2);
    CHECK_EQ(catalog.map_count, 1);
    catalog_remove_host(&catalog, h1);
    CHECK_EQ(catalog.map_count, 0);
    CHECK(catalog_host(&catalog, "h1") == NULL && catalog_host(&catalog, "h2") != NULL);
}

TEST(chap_rules)
{
    struct problem p = {0};
    struct catalog_host h = {.name = "h"};
    struct catalog_chap none = {0}, one = {"user", "123456789012"}, two = {"target", "abcdefghijkl"},
                        brief = {"user", "12345678901"}, nobody = {"", "123456789012"};
    CHECK_OK(catalog_set_chap(&h, &none, &none, &p));
    CHECK_OK(catalog_set_chap(&h, &one, &none, &p));
    CHECK_OK(catalog_set_chap(&h, &one, &two, &p));
    CHECK_ERR(ERR_ARGUMENT, catalog_set_chap(&h, &one, &one, &p));
    CHECK_ERR(ERR_ARGUMENT, catalog_set_chap(&h, &none, &two, &p));
    CHECK_ERR(ERR_ARGUMENT, catalog_set_chap(&h, &brief, &none, &p));
    CHECK_ERR(ERR_ARGUMENT, catalog_set_chap(&h, &nobody, &none, &p));
}

static void fill(struct catalog *c)
{
    struct problem p = {0};
    catalog_init(c);
    (void)add_volume(c, 7, "vm1");
    (void)add_volume(c, 9, "vm2");
    (void)add_host(c, "h1", "iqn.2026-01.a:1");
    c->volumes[1].state = VOLUME_DELETING;
    c->volumes[1].block_size = 4096;
    snprintf(c->hosts[0].chap.user, sizeof c->hosts[0].chap.user, "u\"\\");
    snprintf(c->hosts[0].chap.secret, sizeof c->hosts[0].chap.secret, "0123456789ab");
    (void)catalog_add_map(c, 7, c->hosts[0].id, 3, &p);
}

static bool same(const struct catalog *a, const struct catalog *b)
{
    static char one[CATALOG_BYTES_MAX], two[CATALOG_BYTES_MAX];
    size_t n = 0, m = 0;
    return catalog_encode(a, one, sizeof one, &n) == OK && catalog_encode(b, two, sizeof two, &m) == OK && n == m &&
           memcmp(one, two, n) == 0;
}

TEST(json_keeps_all)
{
    struct problem p = {0};
    size_t bytes = 0;
    fill(&catalog);
    catalog.version = 51;
    CHECK_OK(catalog_encode(&catalog, json, sizeof json, &bytes));
    CHECK_OK(catalog_decode(json, bytes, &again, &p));
    CHECK(same(&catalog, &again) && again.version == 51);
    CHECK(again.volume_count == 2 && again.volumes[1].state == VOLUME_DELETING && again.volumes[1].block_size == 4096);
    CHECK_STR(again.hosts[0].chap.user, "u\"\\");
    CHECK_EQ(again.maps[0].lun, 3);
}

TEST(json_refused)
{
    static const char *const bad[] = {
        "",
        "[]",
        "{}",
        "{\"next_host\":1,\"volumes\":[],\"hosts\":[]}",
        "{\"next_host\":1,\"volumes\":[],\"hosts\":[],\"maps\":[],\"new\":1}",
        "{\"next_host\":1,\"next_host\":1,\"volumes\":[],\"hosts\":[],\"maps\":[]}",
        "{\"next_host\":1,\"volumes\":[],\"hosts\":[],\"maps\":[{\"volume\":1,\"host\":1,\"lun\":0}]}",
        "{\"next_host\":1,\"volumes\":[{\"name\":\"a "
        "b\",\"id\":1,\"block_size\":512,\"created\":0,\"state\":\"live\"}],\"hosts\":[],\"maps\":[]}",
        "{\"next_host\":1,\"volumes\":[{\"name\":\"a\",\"id\":1,\"block_size\":513,\"created\":0,\"state\":\"live\"}],"
        "\"hosts\":[],\"maps\":[]}",
        "{\"next_host\":1,\"volumes\":[{\"name\":\"a\",\"id\":1,\"block_size\":512,\"created\":0,\"state\":\"odd\"}],\"hosts\":"
        "[],\"maps\":[]}",
        "{\"next_host\":1,\"volumes\":[],\"hosts\":[{\"name\":\"h\",\"id\":1,\"created\":0,\"initiators\":[]}],\"maps\":[]}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct problem p = {0};
        CHECK(catalog_decode(bad[i], strlen(bad[i]), &again, &p) != OK);
        CHECK(p.detail[0] != '\0');
    }
}

TEST(limits)
{
    char name[NAME_SIZE];
    size_t bytes = 0;
    catalog_init(&catalog);
    for (uint32_t i = 1; i <= CATALOG_VOLUMES_MAX; i++) {
        snprintf(name, sizeof name, "volume-%u", i);
        CHECK_OK(add_volume(&catalog, i, name));
    }
    CHECK_ERR(ERR_LIMIT, add_volume(&catalog, CATALOG_VOLUMES_MAX + 1, "one-more"));
    CHECK_OK(catalog_encode(&catalog, json, sizeof json, &bytes));
    CHECK_ERR(ERR_LIMIT, catalog_encode(&catalog, json, bytes - 1, &bytes));
}

/* ---- the files ---- */

struct run {
    struct io *io;
    struct io_group *group;
    struct io_task task;
    struct mem *mem;
    char folder[64], path[2][96];
    bool (*body)(struct run *r);
    bool good;
};

#define NEED(cond)                                                                                                             \
    do {                                                                                                                       \
        if (!check_true(__FILE__, __LINE__, #cond, (cond))) return false;                                                      \
    } while (0)

static void run_body(void *arg)
{
    struct run *r = arg;
    r->good = r->body(r);
    io_group_stop(r->group);
}

static void run_main(struct io *io, void *arg)
{
    struct run *r = arg;
    r->io = io;
    if (io_task_start(io, &r->task, run_body, r) != OK) io_group_stop(r->group);
}

static bool run_in_task(bool (*body)(struct run *r))
{
    struct io_config config = {.loops = 1};
    struct run r = {.body = body, .mem = mem_open(64 << 20)};
    snprintf(r.folder, sizeof r.folder, "/tmp/izar-catalog.XXXXXX");
    if (r.mem == NULL || mkdtemp(r.folder) == NULL || io_group_open(&config, &r.group) != OK) return false;
    for (int i = 0; i < 2; i++) snprintf(r.path[i], sizeof r.path[i], "%s/catalog.%d.json", r.folder, i);
    io_group_run(r.group, run_main, &r);
    io_task_done(&r.task);
    io_group_close(r.group);
    mem_close(r.mem);
    for (int i = 0; i < 2; i++) unlink(r.path[i]);
    rmdir(r.folder);
    return r.good;
}

struct bytes {
    size_t size;
    char at[8192];
};

static struct bytes slurp(const char *path)
{
    struct bytes b = {0};
    FILE *f = fopen(path, "rb");
    if (f != NULL) {
        b.size = fread(b.at, 1, sizeof b.at, f);
        fclose(f);
    }
    return b;
}

static void spill(const char *path, const struct bytes *b)
{
    FILE *f = fopen(path, "wb");
    if (f == NULL) return;
    fwrite(b->at, 1, b->size, f);
    fclose(f);
}

/* The first `cut` bytes of `fresh` over `old`: a write that a crash cut. */
static struct bytes torn(const struct bytes *old, const struct bytes *fresh, size_t cut)
{
    struct bytes b = *old;
    memcpy(b.at, fresh->at, cut);
    if (cut > b.size) b.size = cut;
    return b;
}

static bool opens_as(struct run *r, const struct catalog *expected, const struct catalog *or_this)
{
    struct catalog_file *f = NULL;
    struct problem p;
    enum err err = catalog_file_open(r->io, r->mem, r->folder, &f, &p);
    if (err != OK) printf("# %s: %s\n", err_name(err), p.detail);
    if (err != OK) return false;
    bool good = same(catalog_now(f), expected) || (or_this != NULL && same(catalog_now(f), or_this));
    catalog_file_close(f);
    return good;
}

static struct catalog before, after;

static bool make_two(struct run *r, struct bytes old[2], struct bytes fresh[2])
{
    struct catalog_file *f = NULL;
    struct problem p;
    NEED(catalog_file_open(r->io, r->mem, r->folder, &f, &p) == OK);
    fill(catalog_draft(f));
    NEED(catalog_commit(f) == OK);
    before = *catalog_now(f);
    for (int i = 0; i < 2; i++) old[i] = slurp(r->path[i]);
    NEED(add_volume(catalog_draft(f), 33, "vm3") == OK);
    NEED(catalog_commit(f) == OK);
    after = *catalog_now(f);
    for (int i = 0; i < 2; i++) fresh[i] = slurp(r->path[i]);
    catalog_file_close(f);
    NEED(old[0].size > 100 && fresh[0].size > old[0].size && fresh[0].size == fresh[1].size);
    NEED(memcmp(fresh[0].at, fresh[1].at, fresh[0].size) == 0);
    return true;
}

static bool body_crashes(struct run *r)
{
    struct bytes old[2], fresh[2];
    NEED(make_two(r, old, fresh));
    for (size_t cut = 0; cut <= fresh[0].size; cut = cut < 140 || cut + 10 > fresh[0].size ? cut + 3 : cut + 37) {
        struct bytes b = torn(&old[0], &fresh[0], cut); /* while the first was written */
        spill(r->path[0], &b);
        spill(r->path[1], &old[1]);
        NEED(opens_as(r, &before, cut >= fresh[0].size ? &after : NULL) ||
             (cut + 3 > fresh[0].size && opens_as(r, &after, NULL)));
        b = torn(&old[1], &fresh[1], cut); /* while the second was: the first is whole already */
        spill(r->path[0], &fresh[0]);
        spill(r->path[1], &b);
        NEED(opens_as(r, &after, NULL));
        NEED(opens_as(r, &after, NULL)); /* and it was repaired */
        b = slurp(r->path[1]);
        NEED(b.size == fresh[0].size || memcmp(b.at, slurp(r->path[0]).at, b.size) == 0);
    }
    return true;
}

TEST(a_crash_at_any_byte)
{
    CHECK(run_in_task(body_crashes));
}

static bool body_damage(struct run *r)
{
    struct bytes old[2], fresh[2];
    struct catalog_file *f = NULL;
    struct problem p;
    NEED(make_two(r, old, fresh));
    for (size_t at = 0; at < fresh[0].size; at += 11) {
        for (int i = 0; i < 2; i++) {
            struct bytes b = fresh[i];
            b.at[at] ^= 0x10;
            if (at == 15 || at == 16) continue; /* another version: refused, see below */
            spill(r->path[i], &b);
            spill(r->path[1 - i], &fresh[1 - i]);
            NEED(opens_as(r, &after, NULL)); /* what was answered is in the other one */
        }
    }
    struct bytes none = {0}, bad = fresh[0];
    bad.at[fresh[0].size / 2] ^= 1;
    spill(r->path[0], &bad);
    spill(r->path[1], &bad);
    NEED(catalog_file_open(r->io, r->mem, r->folder, &f, &p) == ERR_CHECKSUM && p.remedy[0] != '\0');
    spill(r->path[0], &none);
    NEED(catalog_file_open(r->io, r->mem, r->folder, &f, &p) == ERR_CHECKSUM);
    spill(r->path[1], &fresh[1]);
    NEED(opens_as(r, &after, NULL));
    spill(r->path[0], &fresh[0]);
    spill(r->path[1], &none);
    NEED(opens_as(r, &after, NULL));
    bad = fresh[0];
    bad.at[16] = '2';
    spill(r->path[0], &bad);
    NEED(catalog_file_open(r->io, r->mem, r->folder, &f, &p) == ERR_NEW_FORMAT);
    return true;
}

TEST(damage_to_one)
{
    CHECK(run_in_task(body_damage));
}

static bool body_first_start(struct run *r)
{
    struct bytes none = {0}, first;
    struct catalog *e = malloc(sizeof *e);
    NEED(e != NULL);
    catalog_init(e);
    NEED(opens_as(r, e, NULL));
    first = slurp(r->path[0]);
    for (size_t cut = 0; cut < first.size; cut += 5) {
        struct bytes b = first;
        b.size = cut;
        spill(r->path[0], &b);
        spill(r->path[1], &none);
        NEED(opens_as(r, e, NULL));
    }
    free(e);
    return true;
}

TEST(a_crash_on_the_first_start)
{
    CHECK(run_in_task(body_first_start));
}

static bool body_locked(struct run *r)
{
    struct catalog_file *f = NULL, *second = NULL;
    struct problem p;
    NEED(catalog_file_open(r->io, r->mem, r->folder, &f, &p) == OK);
    NEED(catalog_file_open(r->io, r->mem, r->folder, &second, &p) == ERR_LOCKED);
    catalog_file_close(f);
    return true;
}

TEST(one_at_a_time)
{
    CHECK(run_in_task(body_locked));
}

/* All that the other limits allow, each as long as it may be. */
TEST(the_longest_fits)
{
    size_t bytes;
    catalog_init(&catalog);
    catalog.next_host = UINT32_MAX;
    catalog.version = INT64_MAX;
    memset(catalog.cluster, 'f', CATALOG_CLUSTER_SIZE - 1);
    for (uint32_t i = 0; i < CATALOG_VOLUMES_MAX; i++) {
        struct catalog_volume *v = &catalog.volumes[catalog.volume_count++];
        *v = (struct catalog_volume){UINT32_MAX - i, UINT32_MAX - i, 4096, INT64_MAX, VOLUME_DELETING, ""};
        memset(v->name, 'n', NAME_SIZE - 1);
    }
    for (uint32_t i = 0; i < CATALOG_HOSTS_MAX; i++) {
        struct catalog_host *h = &catalog.hosts[catalog.host_count++];
        *h = (struct catalog_host){UINT32_MAX - i, UINT32_MAX - i, HOST_INITIATORS_MAX, .created = INT64_MAX};
        memset(h->name, 'n', NAME_SIZE - 1);
        for (uint32_t k = 0; k < HOST_INITIATORS_MAX; k++) memset(h->initiators[k], 'i', IQN_SIZE - 1);
        memset(h->chap.user, '"', CHAP_USER_SIZE - 1); /* with a backslash each */
        memset(h->chap.secret, '"', CHAP_SECRET_SIZE - 1);
        h->mutual = h->chap;
    }
    for (uint32_t i = 0; i < CATALOG_MAPS_MAX; i++)
        catalog.maps[catalog.map_count++] = (struct catalog_map){UINT32_MAX - i / 2, UINT32_MAX - i % 2, LUN_MAX};
    CHECK_OK(catalog_encode(&catalog, json, sizeof json, &bytes));
}

/* By class, but for what the daemon may not do on its machine: nothing is wrong with the request then. */
TEST(statuses)
{
    static const struct {
        enum err err;
        int status;
    } expected[] = {{ERR_ARGUMENT, 400}, {ERR_UNSUPPORTED, 400}, {ERR_PERMISSION, 403}, {ERR_DENIED, 403},
                    {ERR_NO_NAME, 404},  {ERR_NAME_EXISTS, 409}, {ERR_BUSY, 409},       {ERR_IO, 500},
                    {ERR_NO_SPACE, 507}, {ERR_STOPPED, 503}};
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        struct problem p = {0};
        problem_tell(&p, expected[i].err, "it does not work");
        CHECK_EQ(problem_status(&p), expected[i].status);
    }
    struct problem said = {.status = 415};
    problem_tell(&said, ERR_ARGUMENT, "no JSON");
    CHECK_EQ(problem_status(&said), 415);
}

TESTS(the_longest_fits, names, initiators, duplicates_and_references, chap_rules, json_keeps_all, json_refused, limits,
      a_crash_at_any_byte, damage_to_one, a_crash_on_the_first_start, one_at_a_time, statuses)
