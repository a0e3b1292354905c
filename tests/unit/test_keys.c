/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: text of login requests is taken apart and answered as RFC 7143 6 and 13 say: every key, what it is answered, and what
 * holds afterwards. Method: tables of values and answers, written from the RFC; what no initiator may send beside what it may.
 */
#include <stdlib.h>

#include "tests/check.h"

#include "iscsi/keys.h"

/* ---- text ---- */

TEST(pairs_come_one_after_the_other)
{
    char text[] = "A=1\0\0\0B=x=y\0C=\0", *at = text, *key, *value;
    size_t left = sizeof text;
    CHECK_OK(keys_next(&at, &left, &key, &value));
    CHECK_STR(key, "A");
    CHECK_STR(value, "1");
    CHECK_OK(keys_next(&at, &left, &key, &value)); /* NULs between are padding */
    CHECK_STR(key, "B");
    CHECK_STR(value, "x=y");
    CHECK_OK(keys_next(&at, &left, &key, &value));
    CHECK_STR(key, "C");
    CHECK_STR(value, "");
    CHECK_ERR(ERR_NO_KEY, keys_next(&at, &left, &key, &value));
    CHECK_EQ(left, 0);
}

/* In memory of exactly their length, so that a sanitizer sees one byte too many. */
static enum err first_of(const char *text, size_t size)
{
    char *copy = malloc(size > 0 ? size : 1), *at = copy, *key, *value;
    if (copy == NULL) return ERR_NO_MEMORY;
    memcpy(copy, text, size);
    enum err err = keys_next(&at, &size, &key, &value);
    free(copy);
    return err;
}

TEST(what_is_no_pair_is_refused)
{
    static const char longest[] = "K23456789012345678901234567890123456789012345678901234567890123=v";
    static const char longer[] = "K234567890123456789012345678901234567890123456789012345678901234=v";
    CHECK_ERR(ERR_NO_KEY, first_of("", 0));
    CHECK_ERR(ERR_NO_KEY, first_of("\0\0\0", 3));
    CHECK_ERR(ERR_DECODE, first_of("A=1", 3)); /* no end */
    CHECK_ERR(ERR_DECODE, first_of("A", 2));   /* no value */
    CHECK_ERR(ERR_DECODE, first_of("=1", 3));  /* no key */
    CHECK_ERR(ERR_DECODE, first_of("A\0=1", 5));
    CHECK_OK(first_of(longest, sizeof longest));
    CHECK_ERR(ERR_DECODE, first_of(longer, sizeof longer));
}

TEST(answers_that_do_not_fit_leave_no_half)
{
    char room[12];
    struct keys_out out;
    keys_out_init(&out, room, sizeof room);
    keys_add(&out, "A", "%u", 1u);
    CHECK(out.used == 4 && !out.full);
    keys_add(&out, "Key", "%s", "too long");
    CHECK(out.used == 4 && out.full);
    keys_add(&out, "LongerThanAll", "%s", "");
    CHECK_EQ(out.used, 4);
    keys_add(&out, "B", "%s", "12345");
    CHECK_EQ(out.used, 12);
    CHECK_BYTES(room, "A=1\0B=12345", 12);
}

TEST(lists)
{
    CHECK(keys_list_has("None", "None") && keys_list_has("CHAP,None", "None") && keys_list_has("a,b,c", "b"));
    CHECK(!keys_list_has("", "None") && !keys_list_has("NoneX", "None") && !keys_list_has("XNone", "None"));
    CHECK(!keys_list_has("None ", "None") && !keys_list_has("none", "None") && !keys_list_has("15,25", "5"));
    CHECK(keys_list_has(",None", "None") && keys_list_has("None,", "None") && !keys_list_has(",,", "None"));
}

/* ---- negotiation ---- */

enum { RECEIVE = 262144, BURST = 1 << 20, FIRST = 65536 };

/* The answer to one key in a fresh negotiation; "" when there is none, "!" when it is an error, "?" when it is unknown. */
static const char *answer_to(struct negotiation *n, const char *key, const char *value)
{
    static char room[256];
    struct keys_out out;
    memset(room, 0, sizeof room);
    keys_out_init(&out, room, sizeof room);
    enum err err = negotiation_take(n, key, value, &out);
    if (err == ERR_UNSUPPORTED) return "?";
    if (err != OK) return "!";
    return room;
}

struct row {
    const char *key, *value, *answer;
};

static const char *first_wrong(const struct row *rows, size_t count, bool discovery)
{
    static char text[512];
    for (size_t i = 0; i < count; i++) {
        struct negotiation n;
        negotiation_init(&n, RECEIVE, BURST, FIRST);
        n.discovery = discovery;
        const char *answer = answer_to(&n, rows[i].key, rows[i].value);
        if (strcmp(answer, rows[i].answer) == 0) continue;
        snprintf(text, sizeof text, "%s=%s: %s instead of %s", rows[i].key, rows[i].value, answer, rows[i].answer);
        return text;
    }
    return "none";
}

#define COUNT(rows) (sizeof(rows) / sizeof(rows)[0])

TEST(every_key_is_answered)
{
    static const struct row rows[] = {
        {"HeaderDigest", "None", "HeaderDigest=None"},
        {"HeaderDigest", "CRC32C", "HeaderDigest=CRC32C"},
        {"HeaderDigest", "CRC32C,None", "HeaderDigest=CRC32C"},
        {"HeaderDigest", "None,CRC32C", "HeaderDigest=None"},
        {"DataDigest", "X-more,CRC32C", "DataDigest=CRC32C"},
        {"DataDigest", "XCRC32C,None,CRC32C", "DataDigest=None"}, /* the first in the list that both have */
        {"DataDigest", "CRC64", "DataDigest=Reject"},
        {"DataDigest", "", "DataDigest=Reject"},
        {"DataDigest", "crc32c", "DataDigest=Reject"},
        {"InitialR2T", "Yes", "InitialR2T=Yes"},
        {"InitialR2T", "No", "InitialR2T=No"},
        {"ImmediateData", "Yes", "ImmediateData=Yes"},
        {"ImmediateData", "No", "ImmediateData=No"},
        {"MaxRecvDataSegmentLength", "512", ""},
        {"MaxRecvDataSegmentLength", "16777215", ""},
        {"MaxBurstLength", "512", "MaxBurstLength=512"},
        {"MaxBurstLength", "16777215", "MaxBurstLength=1048576"},
        {"MaxBurstLength", "0x10000", "MaxBurstLength=65536"},
        {"MaxBurstLength", "0XaBc00", "MaxBurstLength=703488"},
        {"FirstBurstLength", "65537", "FirstBurstLength=65536"},
        {"FirstBurstLength", "1000", "FirstBurstLength=1000"},
        {"MaxOutstandingR2T", "1", "MaxOutstandingR2T=1"},
        {"MaxOutstandingR2T", "65535", "MaxOutstandingR2T=16"},
        {"DefaultTime2Wait", "0", "DefaultTime2Wait=2"},
        {"DefaultTime2Wait", "3600", "DefaultTime2Wait=3600"},
        {"DefaultTime2Retain", "20", "DefaultTime2Retain=0"},
        {"MaxConnections", "8", "MaxConnections=1"},
        {"ErrorRecoveryLevel", "2", "ErrorRecoveryLevel=0"},
        {"DataPDUInOrder", "No", "DataPDUInOrder=Yes"},
        {"DataPDUInOrder", "Yes", "DataPDUInOrder=Yes"},
        {"DataSequenceInOrder", "No", "DataSequenceInOrder=Yes"},
        {"TaskReporting", "RFC3720", "TaskReporting=RFC3720"},
        {"TaskReporting", "FastAbort,RFC3720", "TaskReporting=RFC3720"},
        {"TaskReporting", "FastAbort", "TaskReporting=Reject"}, /* only what was offered may be chosen */
        {"iSCSIProtocolLevel", "1", "iSCSIProtocolLevel=1"},
        {"iSCSIProtocolLevel", "31", "iSCSIProtocolLevel=1"},
        {"iSCSIProtocolLevel", "0", "iSCSIProtocolLevel=0"}, /* the smaller of both */
        {"IFMarker", "Yes", "IFMarker=No"},
        {"OFMarker", "No", "OFMarker=No"},
        {"IFMarkInt", "2048~8192", "IFMarkInt=Reject"},
        {"OFMarkInt", "2048", "OFMarkInt=Reject"},
    };
    CHECK_STR(first_wrong(rows, COUNT(rows), false), "none");
}

TEST(what_no_initiator_may_say)
{
    static const struct row rows[] = {
        {"InitialR2T", "yes", "!"},
        {"InitialR2T", "", "!"},
        {"ImmediateData", "Yes,No", "!"},
        {"DataPDUInOrder", "1", "!"},
        {"MaxRecvDataSegmentLength", "511", "!"},
        {"MaxRecvDataSegmentLength", "16777216", "!"},
        {"MaxBurstLength", "511", "!"},
        {"MaxBurstLength", "16777216", "!"},
        {"MaxBurstLength", "18446744073709552128", "!"}, /* 2^64 + 512 */
        {"MaxBurstLength", "0x100000000000001000", "!"},
        {"MaxBurstLength", "", "!"},
        {"MaxBurstLength", "0x", "!"},
        {"MaxBurstLength", "-512", "!"},
        {"MaxBurstLength", " 512", "!"},
        {"MaxBurstLength", "512 ", "!"},
        {"MaxBurstLength", "+512", "!"},
        {"MaxBurstLength", "5a2", "!"},
        {"FirstBurstLength", "0", "!"},
        {"MaxOutstandingR2T", "0", "!"},
        {"MaxOutstandingR2T", "65536", "!"},
        {"DefaultTime2Wait", "3601", "!"},
        {"DefaultTime2Retain", "99999", "!"},
        {"MaxConnections", "0", "!"},
        {"ErrorRecoveryLevel", "3", "!"},
        {"iSCSIProtocolLevel", "32", "!"},
    };
    CHECK_STR(first_wrong(rows, COUNT(rows), false), "none");
}

TEST(what_is_unknown_is_said_to_be)
{
    static const struct row rows[] = {
        {"X-com.example.odd", "1", "?"}, {"maxburstlength", "512", "?"}, {"MaxBurstLengt", "512", "?"},
        {"MaxBurstLength ", "512", "?"}, {"SendTargets", "All", "?"},    {"RDMAExtensions", "Yes", "?"},
    };
    CHECK_STR(first_wrong(rows, COUNT(rows), false), "none");
}

TEST(discovery_finds_some_keys_irrelevant)
{
    static const struct row rows[] = {
        {"InitialR2T", "Yes", "InitialR2T=Irrelevant"},
        {"ImmediateData", "No", "ImmediateData=Irrelevant"},
        {"MaxBurstLength", "1", "MaxBurstLength=Irrelevant"},
        {"FirstBurstLength", "512", "FirstBurstLength=Irrelevant"},
        {"MaxOutstandingR2T", "1", "MaxOutstandingR2T=Irrelevant"},
        {"MaxConnections", "1", "MaxConnections=Irrelevant"},
        {"DataPDUInOrder", "Yes", "DataPDUInOrder=Irrelevant"},
        {"DataSequenceInOrder", "Yes", "DataSequenceInOrder=Irrelevant"},
        {"HeaderDigest", "CRC32C", "HeaderDigest=CRC32C"},
        {"MaxRecvDataSegmentLength", "4096", ""},
        {"ErrorRecoveryLevel", "0", "ErrorRecoveryLevel=0"},
        {"DefaultTime2Wait", "2", "DefaultTime2Wait=2"},
    };
    CHECK_STR(first_wrong(rows, COUNT(rows), true), "none");
}

TEST(no_key_comes_twice)
{
    static const char *const pairs[][2] = {
        {"HeaderDigest", "None"},   {"InitialR2T", "No"},    {"MaxRecvDataSegmentLength", "8192"},
        {"MaxBurstLength", "8192"}, {"MaxConnections", "1"}, {"TaskReporting", "RFC3720"},
        {"OFMarkInt", "1"}};
    for (size_t i = 0; i < COUNT(pairs); i++) {
        struct negotiation n;
        negotiation_init(&n, RECEIVE, BURST, FIRST);
        CHECK(answer_to(&n, pairs[i][0], pairs[i][1])[0] != '!');
        CHECK_STR(answer_to(&n, pairs[i][0], pairs[i][1]), "!");
    }
}

TEST(silence_means_the_defaults)
{
    struct negotiation n;
    negotiation_init(&n, RECEIVE, BURST, FIRST);
    CHECK(!n.limits.header_digest && !n.limits.data_digest && n.limits.initial_r2t && n.limits.immediate_data);
    CHECK_EQ(n.limits.max_transmit, 8192);
    CHECK_EQ(n.limits.max_burst, 262144);
    CHECK_EQ(n.limits.first_burst, 65536);
    CHECK_EQ(n.limits.max_r2t, 1);
    CHECK_EQ(n.limits.max_receive, RECEIVE);
    negotiation_init(&n, 512, 1024, 4096); /* what we cannot is not promised */
    CHECK_EQ(n.limits.max_burst, 1024);
    CHECK_EQ(n.limits.first_burst, 1024);
}

TEST(what_was_agreed_holds)
{
    struct negotiation n;
    negotiation_init(&n, RECEIVE, BURST, FIRST);
    static const char *const pairs[][2] = {{"HeaderDigest", "CRC32C"},   {"DataDigest", "CRC32C,None"},
                                           {"InitialR2T", "No"},         {"ImmediateData", "No"},
                                           {"MaxBurstLength", "131072"}, {"FirstBurstLength", "4096"},
                                           {"MaxOutstandingR2T", "9"},   {"DefaultTime2Wait", "5"},
                                           {"DefaultTime2Retain", "7"},  {"MaxRecvDataSegmentLength", "0x2000"}};
    for (size_t i = 0; i < COUNT(pairs); i++) CHECK(answer_to(&n, pairs[i][0], pairs[i][1])[0] != '!');
    const struct iscsi_limits *l = &n.limits;
    CHECK(l->header_digest && l->data_digest && !l->initial_r2t && !l->immediate_data);
    CHECK(l->max_burst == 131072 && l->first_burst == 4096 && l->max_r2t == 9 && l->max_transmit == 8192);
    CHECK(l->time2wait == 5 && l->time2retain == 0);
}

TEST(our_segment_length_is_declared_once)
{
    char room[64];
    struct keys_out out;
    struct negotiation n;
    negotiation_init(&n, RECEIVE, BURST, FIRST);
    keys_out_init(&out, room, sizeof room);
    negotiation_declare(&n, &out);
    negotiation_declare(&n, &out);
    CHECK_EQ(out.used, strlen("MaxRecvDataSegmentLength=262144") + 1);
    CHECK_STR(room, "MaxRecvDataSegmentLength=262144");
}

TESTS(pairs_come_one_after_the_other, what_is_no_pair_is_refused, answers_that_do_not_fit_leave_no_half, lists,
      every_key_is_answered, what_no_initiator_may_say, what_is_unknown_is_said_to_be, discovery_finds_some_keys_irrelevant,
      no_key_comes_twice, silence_means_the_defaults, what_was_agreed_holds, our_segment_length_is_declared_once)
