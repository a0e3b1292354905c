/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tokens, the identity on disk, and joining a cluster with a token.
 *
 * Goal: a token survives copying or is refused; it lets exactly one joiner in, once, in time, and only into the cluster that
 * it is for; the identity and the book of tokens survive a crash between two writes. Method: one story each, a task on one loop
 * of the real seam that plays both sides; files in a folder of the test, damaged by hand.
 */
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/hash.h"
#include "cluster/identity_file.h"
#include "cluster/link.h"
#include "cluster/link_enter.h"
#include "tests/check.h"
#include "tests/unit/real_stories.h"

#define NOW 1800000000ull
enum { HOUR_S = 3600, MEMORY = 8 << 20, LIMIT_MS = 3000 };

static const struct cluster_id the_cluster = {{0xc1}}, other_cluster = {{0xc2}};
static struct identity first, foreign;
static uint64_t wall_now = NOW;

static bool identities_made(void)
{
    static bool made;
    if (made) return true;
    made = identity_create(&the_cluster, 1, NOW, &first) == OK && identity_create(&other_cluster, 1, NOW, &foreign) == OK;
    return made;
}

static uint64_t wall(void)
{
    return wall_now;
}

/* ---- the text of a token ---- */

static struct token example(void)
{
    struct token t = {.cluster = the_cluster, .expires_s = NOW + HOUR_S, .node = 2, .role = TOKEN_NODE, .address_count = 2};
    for (uint32_t i = 0; i < sizeof t.fingerprint; i++) t.fingerprint[i] = (uint8_t)(i * 5);
    for (uint32_t i = 0; i < sizeof t.secret; i++) t.secret[i] = (uint8_t)(200 + i);
    snprintf(t.addresses[0], sizeof t.addresses[0], "192.0.2.1:7451");
    snprintf(t.addresses[1], sizeof t.addresses[1], "[2001:db8::1]:7451");
    return t;
}

/* Made from the table in token.h by other means: other releases read it. */
static const char kept[] =
    "IZJ1-YEAAAAAAAAAAAAAAAAAAAAAAAAAAKCQPCQMR4IZIFUZDOPCBIZFVAVK2L5SGS3TTPB6YFB4MSGLJXSGJZLF4ZTOOZ7INDUW"
    "T2TK5NVYQ4BEWWAAAAAAAEAAAAAAQEDRRHEZC4MBOGIXDCORXGQ2TCES3GIYDAMJ2MRRDQOR2GFOTUNZUGUY3XNHQ5M";

TEST(tokens_survive_copying)
{
    struct token t = example(), back;
    char text[TOKEN_TEXT_MAX], changed[TOKEN_TEXT_MAX + 8];
    CHECK_OK(token_encode(&t, text));
    CHECK(strlen(text) > 150 && strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567IZJ1-") == strlen(text));
    CHECK_OK(token_decode(text, &back));
    CHECK_BYTES(&t, &back, sizeof t);
    for (size_t i = 5; text[i] != '\0'; i++) changed[i] = (char)(text[i] >= 'A' ? text[i] + 32 : text[i]);
    memcpy(changed, "izj1-", 5);
    changed[strlen(text)] = '\n';
    changed[strlen(text) + 1] = '\0';
    CHECK_OK(token_decode(changed, &back));
    CHECK_BYTES(&t, &back, sizeof t);
    /* Any character changed or lost is noticed. */
    for (size_t i = 5; text[i] != '\0'; i++) {
        memcpy(changed, text, sizeof text);
        changed[i] = text[i] == 'A' ? 'B' : 'A';
        CHECK_ERR(ERR_CHECKSUM, token_decode(changed, &back));
        memcpy(changed, text, i);
        changed[i] = '\0';
        CHECK_ERR(ERR_CHECKSUM, token_decode(changed, &back));
    }
    CHECK_ERR(ERR_NOT_OURS, token_decode("", &back));
    CHECK_ERR(ERR_NOT_OURS, token_decode("hello", &back));
    CHECK_ERR(ERR_NEW_FORMAT, token_decode("IZJ2-AAAA", &back));
    CHECK_STR(text, kept);
    t.node = 0;
    CHECK_ERR(ERR_ARGUMENT, token_encode(&t, text));
}

/* ---- the book ---- */

static bool was_again;

/* Redeems on a session of its own: what another one heard is of no use. */
static enum err redeem(struct token_book *book, const uint8_t secret[TOKEN_SECRET_BYTES], const struct der *request,
                       uint64_t now_s, char why[IDENTITY_WHY_MAX], struct token_entry *ret_entry)
{
    static uint8_t sessions;
    struct token_claim claim = {.binding = {++sessions}, .request = request};
    token_prove(secret, claim.binding, claim.proof);
    claim.binding[1] ^= 1;
    if (token_redeem(book, &claim, now_s, why, ret_entry, &was_again) == OK) return ERR_MISCOMPARE;
    claim.binding[1] ^= 1;
    return token_redeem(book, &claim, now_s, why, ret_entry, &was_again);
}

static void story_of_book(struct story *story)
{
    struct token_book book = {.entries[0].node = 0};
    struct token t, more;
    struct token_entry e;
    struct der mine = {.bytes = 3, .at = "abc"}, his = {.bytes = 3, .at = "abd"};
    char why[IDENTITY_WHY_MAX];
    uint8_t wrong[TOKEN_SECRET_BYTES] = {1}, none[TOKEN_SECRET_BYTES] = {0};
    EXPECT(redeem(&book, none, &mine, NOW, why, &e) == ERR_DENIED);
    EXPECT(token_issue(&book, story->io, TOKEN_WITNESS, 3, NOW, HOUR_S, &t) == OK);
    EXPECT(redeem(&book, wrong, &mine, NOW, why, &e) == ERR_DENIED && strstr(why, "nobody issued") != NULL);
    EXPECT(redeem(&book, t.secret, &mine, NOW + HOUR_S, why, &e) == ERR_DENIED && strstr(why, "expired") != NULL);
    EXPECT(redeem(&book, t.secret, &mine, NOW + 1, why, &e) == OK && e.node == 3 && e.role == TOKEN_WITNESS && !was_again);
    EXPECT(redeem(&book, t.secret, &mine, NOW + 2, why, &e) == OK && was_again); /* the answer was lost */
    EXPECT(redeem(&book, t.secret, &his, NOW + 3, why, &e) == ERR_DENIED && strstr(why, "used already") != NULL);
    for (uint32_t i = 1; i < TOKEN_BOOK_MAX; i++)
        EXPECT(token_issue(&book, story->io, TOKEN_NODE, 10 + i, NOW, HOUR_S, &more) == OK);
    EXPECT(memcmp(more.secret, t.secret, sizeof t.secret) != 0);
    EXPECT(token_issue(&book, story->io, TOKEN_NODE, 99, NOW, HOUR_S, &t) == ERR_LIMIT);
    EXPECT(token_issue(&book, story->io, TOKEN_NODE, 99, NOW + HOUR_S, HOUR_S, &t) == OK); /* expired ones make room */
}

/* ---- the files ---- */

static char folder[256];

static bool folder_made(void)
{
    const char *dir = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%.200s/izar-join-XXXXXX", dir != NULL ? dir : "/tmp");
    return mkdtemp(folder) != NULL;
}

static const char *file_path(int i)
{
    static char path[300];
    snprintf(path, sizeof path, "%s/identity.%d", folder, i);
    return path;
}

/* Changes a byte, or cuts the file when `at` is negative. */
static bool damage(int i, long at)
{
    if (at < 0) return truncate(file_path(i), 100) == 0;
    FILE *f = fopen(file_path(i), "r+b");
    bool good = f != NULL && fseek(f, at, SEEK_SET) == 0 && fputc(0x5a, f) != EOF;
    return f != NULL && fclose(f) == 0 && good;
}

static bool holds(const struct identity_file *f, const struct identity *identity, const struct token_book *book)
{
    const struct identity *now = identity_file_now(f);
    return now != NULL && now->node == identity->node && now->ca_key.bytes == identity->ca_key.bytes &&
           memcmp(now->certificate.at, identity->certificate.at, identity->certificate.bytes) == 0 &&
           memcmp(now->key.at, identity->key.at, identity->key.bytes) == 0 &&
           memcmp(&now->pool_key, &identity->pool_key, sizeof now->pool_key) == 0 &&
           memcmp(identity_file_book(f), book, sizeof *book) == 0;
}

static bool is_nobody(const struct identity_file *f, const struct identity *last)
{
    const struct identity *left = identity_file_last(f);
    if (identity_file_now(f) != NULL || left == NULL || left->node != 0 || left->key.bytes != 0) return false;
    return memcmp(&left->pool_key, &last->pool_key, sizeof left->pool_key) == 0 &&
           memcmp(&left->cluster, &last->cluster, sizeof left->cluster) == 0;
}

/* One of the two files as it was a while ago. */
static uint8_t copied[IDENTITY_FILE_MAX];
static size_t copied_bytes;

static bool copy_file(int i)
{
    FILE *f = fopen(file_path(i), "rb");
    copied_bytes = f != NULL ? fread(copied, 1, sizeof copied, f) : 0;
    return f != NULL && fclose(f) == 0 && copied_bytes > 0;
}

static bool copy_back(int i)
{
    FILE *f = fopen(file_path(i), "wb");
    bool good = f != NULL && fwrite(copied, 1, copied_bytes, f) == copied_bytes;
    return f != NULL && fclose(f) == 0 && good;
}

static void story_of_files(struct story *story)
{
    struct token_book book = {.entries[0].node = 0};
    struct mem *mem = mem_open(MEMORY);
    struct identity_file *f, *second;
    struct token t;
    static struct identity with_key;
    struct stat st;
    EXPECT(folder_made() && mem != NULL);
    EXPECT(identity_file_open(story->io, mem, folder, &f) == OK && identity_file_now(f) == NULL);
    EXPECT(token_issue(&book, story->io, TOKEN_NODE, 2, NOW, HOUR_S, &t) == OK);
    EXPECT(identity_file_save(f, &first, &book) == OK && holds(f, &first, &book));
    for (int i = 0; i < 2; i++) EXPECT(stat(file_path(i), &st) == 0 && (st.st_mode & 0777) == 0600);
    EXPECT(identity_file_open(story->io, mem, folder, &second) == ERR_LOCKED);
    identity_file_close(f);
    for (int i = 0; i < 4; i++) { /* either copy, changed or cut */
        EXPECT(damage(i % 2, i < 2 ? 600 : -1));
        EXPECT(identity_file_open(story->io, mem, folder, &f) == OK && holds(f, &first, &book));
        identity_file_close(f);
    }
    EXPECT(identity_file_open(story->io, mem, folder, &f) == OK);
    EXPECT(identity_file_save(f, &foreign, &book) == OK);
    with_key = foreign;
    with_key.pool_key = (struct pool_key){true, {1, 2, 3}};
    EXPECT(identity_file_save(f, &with_key, &book) == OK);
    identity_file_close(f);
    EXPECT(identity_file_open(story->io, mem, folder, &f) == OK && holds(f, &with_key, &book));
    identity_file_close(f);

    /* Nobody: in both, or in the first only when the power went; the next one is somebody again. */
    EXPECT(identity_file_open(story->io, mem, folder, &f) == OK && identity_file_forget(f) == OK && is_nobody(f, &with_key));
    EXPECT(identity_file_save(f, &with_key, &book) == OK && holds(f, &with_key, &book) && copy_file(1));
    EXPECT(identity_file_forget(f) == OK && copy_back(1));
    identity_file_close(f);
    EXPECT(identity_file_open(story->io, mem, folder, &f) == OK && is_nobody(f, &with_key));
    identity_file_close(f);
    EXPECT(identity_file_open(story->io, mem, folder, &f) == OK && is_nobody(f, &with_key));
    EXPECT(identity_file_save(f, &with_key, &book) == OK && holds(f, &with_key, &book) && copy_file(1));
    EXPECT(identity_file_forget(f) == OK && copy_back(1) && damage(0, -1));
    identity_file_close(f);
    EXPECT(identity_file_open(story->io, mem, folder, &f) == OK && holds(f, &with_key, &book));
    identity_file_close(f);
    EXPECT(damage(0, 700) && damage(1, 701));
    EXPECT(identity_file_open(story->io, mem, folder, &f) == ERR_CHECKSUM);
    EXPECT(damage(1, 8)); /* the version */
    EXPECT(identity_file_open(story->io, mem, folder, &f) == ERR_NEW_FORMAT);
    EXPECT(unlink(file_path(0)) == 0 && unlink(file_path(1)) == 0 && rmdir(folder) == 0);
    mem_close(mem);
}

/* A file without the key of the pools is what the first version wrote, and one with it says that it is newer. */
TEST(the_key_of_the_pools_lies_behind_what_older_versions_wrote)
{
    static uint8_t old[IDENTITY_FILE_MAX], new[IDENTITY_FILE_MAX];
    static struct identity back;
    struct token_book book = {.entries[1] = {.node = 9}}, again;
    uint64_t generation;
    CHECK(identities_made());
    struct identity with_key = first;
    with_key.pool_key.known = true;
    for (uint32_t i = 0; i < POOL_KEY_BYTES; i++) with_key.pool_key.at[i] = (uint8_t)(200 + i);
    uint32_t bytes = identity_encode(&first, &book, 5, old);
    CHECK_EQ(identity_encode(&with_key, &book, 5, new), bytes + POOL_KEY_BYTES);
    CHECK(old[8] == 1 && new[8] == 2);
    CHECK_BYTES(old + 16, new + 16, 8); /* up to the checksum, and from there */
    CHECK_BYTES(old + 28, new + 28, bytes - 28);
    CHECK_BYTES(new + bytes, with_key.pool_key.at, POOL_KEY_BYTES);
    CHECK_OK(identity_decode(old, bytes, &back, &again, &generation));
    CHECK(!back.pool_key.known && generation == 5 && again.entries[1].node == 9);
    CHECK_OK(identity_decode(new, bytes + POOL_KEY_BYTES, &back, &again, &generation));
    CHECK_BYTES(&back.pool_key, &with_key.pool_key, sizeof back.pool_key);
    CHECK_ERR(ERR_TRUNCATED, identity_decode(new, bytes + POOL_KEY_BYTES - 1, &back, &again, &generation));
    for (uint8_t version = 1; version <= 2; version++) { /* with a right checksum, and of the wrong length */
        uint8_t *at = version == 1 ? new : old;
        uint32_t size = version == 1 ? bytes + POOL_KEY_BYTES : bytes;
        at[8] = version;
        memset(at + 24, 0, 4);
        memcpy(at + 24, put32(crc32c(0, at, size)).b, 4);
        CHECK_ERR(ERR_DECODE, identity_decode(at, size, &back, &again, &generation));
    }
}

/* ---- joining ---- */

static struct {
    struct token_book book;
    struct identity identity;
    char told[2000];
    uint32_t asked;
    bool info_is_right;
} host;

static void on_tell(void *arg, bool is_problem, const char *text)
{
    size_t used = strlen(host.told);
    (void)arg;
    (void)is_problem;
    snprintf(host.told + used, sizeof host.told - used, "%s\n", text);
}

static void on_join(void *arg, struct link_join *join)
{
    static struct join_answer answer;
    struct token_entry e;
    char why[IDENTITY_WHY_MAX];
    (void)arg;
    host.asked++;
    struct token_claim claim = {.request = &join->request.request};
    memcpy(claim.binding, join->binding, sizeof claim.binding);
    memcpy(claim.proof, join->request.proof, sizeof claim.proof);
    host.info_is_right = join->request.info_bytes == 5 && memcmp(join->request.info, "about", 5) == 0;
    if (token_redeem(&host.book, &claim, wall_now, why, &e, &was_again) != OK) {
        link_join_refuse(join, why);
        return;
    }
    answer = (struct join_answer){.node = e.node, .ca = host.identity.ca};
    if (e.role == TOKEN_NODE) {
        answer.ca_key = host.identity.ca_key;
        answer.pool_key = host.identity.pool_key;
    }
    if (identity_sign(&host.identity, &join->request.request, e.node, wall_now, &answer.certificate) == OK)
        link_join_accept(join, &answer);
    else
        link_join_refuse(join, "the request is not good");
}

static void on_renewed(void *arg, const struct identity *identity)
{
    (void)arg;
    (void)identity;
}

static void on_message(struct link *link, struct link_message *message)
{
    (void)link;
    link_message_done(message);
}

static void on_link(struct link *link)
{
    (void)link;
}

static const struct links_user user = {on_message, on_link, on_link, on_tell, on_renewed, on_join};

static bool host_open(struct io *io, const struct identity *identity, struct links **ret_links)
{
    struct links_config config = {
        .io = io, .identity = identity, .user = &user, .wall_s = wall, .listen_count = 1, .listen = {"127.0.0.1:0"}};
    memset(&host, 0, sizeof host);
    host.identity = *identity;
    host.identity.pool_key = (struct pool_key){true, {0x5e, 0xc7}};
    return links_open(&config, ret_links, NULL) == OK;
}

/* A token for node 2, as text and back. */
static bool issue(struct io *io, const struct links *links, enum token_role role, struct token *ret)
{
    char text[TOKEN_TEXT_MAX];
    struct token t = {.cluster = host.identity.cluster, .address_count = 2};
    identity_fingerprint(&host.identity.ca, t.fingerprint);
    snprintf(t.addresses[0], sizeof t.addresses[0], "127.0.0.1:1"); /* nobody is there */
    links_listen_text(links, 0, t.addresses[1], sizeof t.addresses[1]);
    return token_issue(&host.book, io, role, 2, wall_now, HOUR_S, &t) == OK && token_encode(&t, text) == OK &&
           token_decode(text, ret) == OK;
}

static const struct enter_info info = {"about", 5};

static void story_of_joining(struct story *story)
{
    struct mem *mem = mem_open(MEMORY);
    struct links *links, *its;
    struct link *link, *back;
    struct token t, bad;
    static struct identity second, third;
    char why[ENTER_WHY_MAX], address[IO_ADDRESS_TEXT];
    uint32_t by = 0;
    EXPECT(mem != NULL && host_open(story->io, &first, &links) && issue(story->io, links, TOKEN_NODE, &t));
    /* Not expected, then not with this secret, then welcome; and nobody else after it. */
    EXPECT(link_enter(story->io, mem, &t, &info, NOW, LIMIT_MS, why, &second, &by) == ERR_DENIED && host.asked == 0);
    links_let_join(links, true);
    bad = t;
    bad.secret[0] ^= 1;
    EXPECT(link_enter(story->io, mem, &bad, &info, NOW, LIMIT_MS, why, &second, &by) == ERR_DENIED);
    EXPECT(host.asked == 1 && strstr(why, "nobody issued this token here") != NULL);
    bad = t;
    bad.fingerprint[0] ^= 1;
    EXPECT(link_enter(story->io, mem, &bad, &info, NOW, LIMIT_MS, why, &second, &by) == ERR_DENIED);
    EXPECT(host.asked == 1 && strstr(why, "another cluster than the token") != NULL);
    EXPECT(link_enter(story->io, mem, &t, &info, NOW + 2 * HOUR_S, LIMIT_MS, why, &second, &by) == ERR_DENIED);
    EXPECT(strstr(why, "has expired") != NULL);
    EXPECT(link_enter(story->io, mem, &t, &info, NOW, LIMIT_MS, why, &second, &by) == OK);
    EXPECT(by == 1 && host.info_is_right && second.node == 2 && identity_is_holder(&second));
    EXPECT(memcmp(&second.pool_key, &host.identity.pool_key, sizeof second.pool_key) == 0);
    EXPECT(link_enter(story->io, mem, &t, &info, NOW, LIMIT_MS, why, &third, &by) == ERR_DENIED &&
           strstr(why, "used already") != NULL);
    /* A witness gets no key of the CA, nor that of the pools. */
    EXPECT(issue(story->io, links, TOKEN_WITNESS, &t));
    EXPECT(link_enter(story->io, mem, &t, &info, NOW, LIMIT_MS, why, &third, &by) == OK && third.ca_key.bytes == 0 && by == 1);
    EXPECT(!third.pool_key.known);
    /* Who joined can link. */
    struct links_config config = {
        .io = story->io, .identity = &second, .user = &user, .wall_s = wall, .listen_count = 1, .listen = {"127.0.0.1:0"}};
    EXPECT(links_open(&config, &its, NULL) == OK);
    const char *addresses[1] = {links_listen_text(its, 0, address, sizeof address)};
    EXPECT(link_open(links, 2, addresses, 1, NULL, &link) == OK && link_open(its, 1, NULL, 0, NULL, &back) == OK);
    for (int i = 0; i < 2000 && !link_is_up(back); i++) io_task_sleep(story->io, 2 * IO_MS_NS);
    EXPECT(link_is_up(back));
    link_close(link);
    link_close(back);
    links_close(links);
    links_close(its);
    mem_close(mem);
}

/* A server that accepts and says nothing, and one that does not even accept: the joiner gives up in time. */
static void story_of_silence(struct story *story)
{
    enum { FULL = 600 };
    struct mem *mem = mem_open(MEMORY);
    struct io_listener *silent;
    struct token t = example();
    static struct identity second;
    char why[ENTER_WHY_MAX];
    uint32_t by = 0;
    EXPECT(mem != NULL && io_listen(story->io, "127.0.0.1:0", 0, &silent) == OK);
    t.address_count = 1;
    io_listener_text(silent, t.addresses[0], sizeof t.addresses[0]);
    uint64_t from = io_now_ns(story->io);
    EXPECT(link_enter(story->io, mem, &t, &info, NOW, 200, why, &second, &by) == ERR_CLOSED &&
           strstr(why, "no answer in time") != NULL);
    EXPECT(io_now_ns(story->io) - from < 2 * IO_S_NS);
    /* Fill the queue of connections that wait to be accepted: then even the connect gets no answer. */
    static struct waited w[FULL];
    uint32_t made = 0, hanging = 0;
    for (uint32_t i = 0; i < FULL; i++) io_connect(story->io, t.addresses[0], begin(&w[i]));
    io_task_sleep(story->io, 300 * IO_MS_NS);
    for (uint32_t i = 0; i < FULL; i++) hanging += !w[i].over;
    EXPECT(hanging > 0);
    from = io_now_ns(story->io);
    EXPECT(link_enter(story->io, mem, &t, &info, NOW, 200, why, &second, &by) == ERR_CLOSED &&
           strstr(why, "no answer in time") != NULL);
    for (uint32_t i = 0; i < FULL; i++)
        if (!w[i].over) io_connect_abort(&w[i].op);
    for (uint32_t i = 0; i < FULL; i++) {
        made += end(&w[i]) == OK;
        io_socket_close(w[i].op.socket);
    }
    EXPECT(io_now_ns(story->io) - from < 2 * IO_S_NS && made + hanging >= FULL);
    io_listener_close(silent);
    mem_close(mem);
}

/* ---- telling them ---- */

static void explain(void)
{
    printf("# told was:\n%s", host.told);
}

static bool tell(void (*what)(struct story *story))
{
    return identities_made() && tell_on_both(what, explain);
}

TEST(tokens_are_redeemed_once_and_in_time)
{
    CHECK(tell(story_of_book));
}

TEST(identities_survive_crashes_and_damage)
{
    CHECK(tell(story_of_files));
}

TEST(nodes_join_with_a_token)
{
    CHECK(tell(story_of_joining));
}

TEST(joiners_give_up_in_time)
{
    CHECK(tell(story_of_silence));
}

TESTS(tokens_survive_copying, tokens_are_redeemed_once_and_in_time, identities_survive_crashes_and_damage,
      the_key_of_the_pools_lies_behind_what_older_versions_wrote, nodes_join_with_a_token, joiners_give_up_in_time)
