/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: CHAP lets in who knows the secret, and nobody else, and proves ours only to those. Method: responses that were computed
 * elsewhere from RFC 1994's definition (digest of identifier, secret, challenge), in every spelling that RFC 7143 allows; then
 * all that is wrong in one place.
 */
#include <stdlib.h>

#include "tests/check.h"

#include "iscsi/chap.h"
#include "iscsi/target.h"

/* Identifier 7, challenge 1, 2, 3 ... 32, secret of alice. */
#define MD5_HEX "0xc7405f2da7f1c8a8586e805e5ed34029"
#define MD5_BASE64 "0bx0BfLafxyKhYboBeXtNAKQ=="
#define SHA256_HEX "0x1f785193db13671631502b7d41dc05efb2b0c0faed51ff6982f9fca65b7da81f"
#define CHALLENGE_HEX "0x0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20"
/* What we answer to identifier 34, challenge 0, 1, 2 ... 15, secret of bob. */
#define OURS_MD5 "0x7bb854e78cb1b77ea87e2ee425795db9"
#define OURS_SHA256 "0x607266600c49f52d4a83bfa8e4d03641b76c7d00b4ed0ace69ec6784fa61338e"

static const struct iscsi_chap alice = {"alice", "secretsecret12"}, bob = {"bob", "othersecret1234"}, nobody;

struct talk {
    struct chap chap;
    char room[1024];
    struct keys_out out;
    const struct iscsi_chap *target;
};

/* One request of the initiator: keys and values in turn, up to NULL. */
static enum err say(struct talk *talk, const char *const *pairs)
{
    uint8_t random[CHAP_CHALLENGE + 1];
    for (uint8_t i = 0; i < CHAP_CHALLENGE; i++) random[i] = (uint8_t)(i + 1);
    random[CHAP_CHALLENGE] = 7;
    memset(talk->room, 0, sizeof talk->room);
    keys_out_init(&talk->out, talk->room, sizeof talk->room);
    for (; pairs[0] != NULL; pairs += 2)
        if (!chap_take(&talk->chap, pairs[0], pairs[1])) return ERR_UNSUPPORTED;
    return chap_answer(&talk->chap, &alice, talk->target, random, &talk->out);
}
#define SAY(talk, ...) say(talk, (const char *const[]){__VA_ARGS__, NULL, NULL})

static const char *answer_named(const struct talk *talk, const char *key)
{
    size_t length = strlen(key);
    for (size_t at = 0; at < talk->out.used; at += strlen(talk->room + at) + 1)
        if (strncmp(talk->room + at, key, length) == 0 && talk->room[at + length] == '=') return talk->room + at + length + 1;
    return "";
}

static struct talk begun(const char *algorithms, const struct iscsi_chap *target)
{
    struct talk talk = {.target = target};
    if (SAY(&talk, "CHAP_A", algorithms) != OK) talk.chap.step = CHAP_DONE;
    return talk;
}

TEST(the_challenge_is_ours)
{
    struct talk talk = begun("5", &nobody);
    CHECK(talk.chap.step == CHAP_RESPONSE);
    CHECK_STR(answer_named(&talk, "CHAP_A"), "5");
    CHECK_STR(answer_named(&talk, "CHAP_I"), "7");
    CHECK_STR(answer_named(&talk, "CHAP_C"), CHALLENGE_HEX);
}

TEST(algorithms)
{
    struct talk talk = {.target = &nobody};
    CHECK_STR((talk = begun("5,7", &nobody), answer_named(&talk, "CHAP_A")), "7");
    CHECK_STR((talk = begun("6,5", &nobody), answer_named(&talk, "CHAP_A")), "5");
    static const char *const wrong[] = {"", "6", "8", "55", "05", "5 ", "MD5"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct talk fresh = {.target = &nobody};
        CHECK_ERR(ERR_DENIED, SAY(&fresh, "CHAP_A", wrong[i]));
        CHECK(fresh.chap.step == CHAP_ALGORITHM && fresh.out.used == 0);
    }
    struct talk none = {.target = &nobody};
    CHECK_ERR(ERR_DENIED, SAY(&none, "CHAP_N", "alice", "CHAP_R", MD5_HEX)); /* not without an algorithm */
}

TEST(who_knows_the_secret_is_let_in)
{
    static const char *const rows[][2] = {{"5", MD5_HEX},
                                          {"5", "0XC7405F2DA7F1C8A8586E805E5ED34029"},
                                          {"5", MD5_BASE64},
                                          {"5", "0Bx0BfLafxyKhYboBeXtNAKQ"},
                                          {"7", SHA256_HEX}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct talk talk = begun(rows[i][0], &nobody);
        CHECK_OK(SAY(&talk, "CHAP_N", "alice", "CHAP_R", rows[i][1]));
        CHECK(talk.chap.step == CHAP_DONE && !talk.chap.mutual && talk.out.used == 0);
    }
}

TEST(nobody_else_is)
{
    static const char *const responses[] = {"",
                                            "0x",
                                            "0b",
                                            "c7405f2da7f1c8a8586e805e5ed34029",
                                            "0xc7405f2da7f1c8a8586e805e5ed34028",
                                            "0xc7405f2da7f1c8a8586e805e5ed340",
                                            "0xc7405f2da7f1c8a8586e805e5ed3402900",
                                            "0x00c7405f2da7f1c8a8586e805e5ed34029",
                                            "0xc7405f2da7f1c8a8586e805e5ed3402g",
                                            "0bx0BfLafxyKhYboBeXtNAKg==",
                                            "0bx0BfLafxyKhYboBeXtNA*Q==",
                                            SHA256_HEX,
                                            CHALLENGE_HEX};
    for (size_t i = 0; i < sizeof responses / sizeof responses[0]; i++) {
        struct talk talk = begun("5", &bob);
        CHECK_ERR(ERR_DENIED, SAY(&talk, "CHAP_N", "alice", "CHAP_R", responses[i]));
        CHECK(talk.chap.step == CHAP_RESPONSE && talk.out.used == 0);
    }
    static const char *const names[] = {"", "alic", "alice2", "Alice", "bob"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct talk talk = begun("5", &bob);
        CHECK_ERR(ERR_DENIED, SAY(&talk, "CHAP_N", names[i], "CHAP_R", MD5_HEX));
    }
    struct talk talk = begun("5", &bob);
    CHECK_ERR(ERR_DENIED, SAY(&talk, "CHAP_R", MD5_HEX));
    talk = begun("5", &bob);
    CHECK_ERR(ERR_DENIED, SAY(&talk, "CHAP_N", "alice"));
}

/* A response that was right once is not right again: identifier and challenge are new. */
TEST(a_response_is_not_good_twice)
{
    struct talk talk = begun("5", &nobody);
    talk.chap.challenge[0] ^= 1;
    CHECK_ERR(ERR_DENIED, SAY(&talk, "CHAP_N", "alice", "CHAP_R", MD5_HEX));
    talk = begun("5", &nobody);
    talk.chap.id++;
    CHECK_ERR(ERR_DENIED, SAY(&talk, "CHAP_N", "alice", "CHAP_R", MD5_HEX));
}

TEST(we_prove_ourselves_when_asked)
{
    static const char *const challenges[] = {"0x000102030405060708090a0b0c0d0e0f", "0bAAECAwQFBgcICQoLDA0ODw=="};
    static const char *const ids[] = {"34", "0x22", "0X22"};
    for (size_t i = 0; i < 6; i++) {
        struct talk talk = begun("5", &bob);
        CHECK_OK(SAY(&talk, "CHAP_N", "alice", "CHAP_R", MD5_HEX, "CHAP_I", ids[i % 3], "CHAP_C", challenges[i / 3]));
        CHECK(talk.chap.step == CHAP_DONE && talk.chap.mutual);
        CHECK_STR(answer_named(&talk, "CHAP_N"), "bob");
        CHECK_STR(answer_named(&talk, "CHAP_R"), OURS_MD5);
    }
    struct talk talk = begun("7", &bob);
    CHECK_OK(SAY(&talk, "CHAP_N", "alice", "CHAP_R", SHA256_HEX, "CHAP_I", "34", "CHAP_C", challenges[0]));
    CHECK_STR(answer_named(&talk, "CHAP_R"), OURS_SHA256);
}

static enum err asks(const struct iscsi_chap *target, const char *response, const char *id, const char *challenge)
{
    struct talk talk = begun("5", target);
    enum err err = SAY(&talk, "CHAP_N", "alice", "CHAP_R", response, "CHAP_I", id, "CHAP_C", challenge);
    return talk.out.used == 0 ? err : OK; /* an answer, whatever the error: it was given */
}

TEST(we_do_not_when_something_is_wrong)
{
    static const char *const ids[] = {
        "", "256", "-1", "34x", "0x", "0x100", " 34", "+34", "-18446744073709551582", "18446744073709551650"};
    static const char *const challenges[] = {"", "0x", "0b", "00", "0xg0", "0b*"};
    CHECK_ERR(ERR_DENIED, asks(&nobody, MD5_HEX, "34", "0x00"));     /* no secret for it */
    CHECK_ERR(ERR_DENIED, asks(&bob, SHA256_HEX, "34", "0x00"));     /* it did not prove itself */
    CHECK_ERR(ERR_DENIED, asks(&bob, MD5_HEX, "34", CHALLENGE_HEX)); /* our own challenge, reflected */
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) CHECK_ERR(ERR_DENIED, asks(&bob, MD5_HEX, ids[i], "0x00"));
    for (size_t i = 0; i < sizeof challenges / sizeof challenges[0]; i++)
        CHECK_ERR(ERR_DENIED, asks(&bob, MD5_HEX, "34", challenges[i]));
    struct talk talk = begun("5", &bob);
    CHECK_ERR(ERR_DENIED, SAY(&talk, "CHAP_N", "alice", "CHAP_R", MD5_HEX, "CHAP_I", "34"));
    talk = begun("5", &bob);
    CHECK_ERR(ERR_DENIED, SAY(&talk, "CHAP_N", "alice", "CHAP_R", MD5_HEX, "CHAP_C", "0x00"));
}

TEST(a_challenge_has_a_limit)
{
    static char text[2 + 2 * (CHAP_CHALLENGE_MAX + 1) + 1];
    memset(text, 'a', sizeof text - 1);
    memcpy(text, "0x", 2);
    CHECK_ERR(ERR_DENIED, asks(&bob, MD5_HEX, "34", text));
    text[2 + 2 * CHAP_CHALLENGE_MAX] = '\0';
    CHECK_OK(asks(&bob, MD5_HEX, "34", text));
}

TEST(other_keys_are_not_taken)
{
    struct chap chap = {.step = CHAP_ALGORITHM};
    CHECK(!chap_take(&chap, "CHAP_X", "1") && !chap_take(&chap, "chap_a", "5") && !chap_take(&chap, "AuthMethod", "CHAP"));
}

TESTS(the_challenge_is_ours, algorithms, who_knows_the_secret_is_let_in, nobody_else_is, a_response_is_not_good_twice,
      we_prove_ourselves_when_asked, we_do_not_when_something_is_wrong, a_challenge_has_a_limit, other_keys_are_not_taken)
