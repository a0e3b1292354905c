/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: no bytes harm an acceptor or a proposer. Method: any bytes as a request, as an answer and as an acceptor's file (also
 * with its checksum set right). What is accepted encodes to what decodes to the same; a request is then handled by an acceptor,
 * an answer is given to a proposer that waits for it in each of its phases.
 */
#include "cluster/codec.h"
#include "fuzz/fuzz.h"

enum { ROOM = 1 << 16 };

static uint8_t again[ROOM], third[ROOM], buffer[REGISTER_BYTES_MAX];

static void try_request(const uint8_t *data, size_t size)
{
    struct register_request r, back;
    size_t bytes = 0, bytes_again = 0;
    if (register_request_decode(data, size, &r) != OK) return;
    REQUIRE(register_request_encode(&r, again, ROOM, &bytes) == OK && bytes == size);
    REQUIRE(register_request_decode(again, bytes, &back) == OK);
    REQUIRE(register_request_encode(&back, third, ROOM, &bytes_again) == OK && memcmp(again, third, bytes) == 0);
    struct acceptor a, next;
    struct register_answer answer;
    if (r.acceptor == 0) return;
    acceptor_make(&a, r.cluster, r.acceptor, NULL);
    for (int i = 0; i < 2; i++) {
        enum acceptor_step step = acceptor_handle(&a, &r, &next, &answer);
        REQUIRE(step != ACCEPTOR_SILENT && (i == 0 || step == ACCEPTOR_ANSWER));
        REQUIRE(ballot_compare(next.promised, a.promised) >= 0 && ballot_compare(next.accepted, a.accepted) >= 0);
        REQUIRE(register_answer_encode(&answer, again, ROOM, &bytes) == OK);
        a = next;
    }
}

/* A proposer that has asked this acceptor, in one phase or the next. */
static void try_proposer(const struct register_answer *a, int phase)
{
    struct proposer p;
    struct register_effects e;
    struct register_answer answer = *a;
    struct register_config config = {.node = a->node, .boot = a->boot, .wait_ms = 1, .pause_ms = 1, .attempts = 2};
    uint64_t peer = a->acceptor;
    if (a->node == 0 || a->acceptor == 0) return;
    config.members = (struct register_members){.epoch = 1, .now = acceptor_set_of(&peer, 1)};
    memcpy(config.cluster, a->cluster, sizeof config.cluster);
    proposer_init(&p, &config, buffer);
    register_read(&p, 1, &e);
    if (phase > 0) register_timeout(&p, 1, &e);
    for (int i = 0; i < 4 && !e.done; i++) {
        answer.attempt = p.attempt;
        register_answered(&p, &answer, 1, &e);
        REQUIRE(e.to_count <= REGISTER_PEERS_MAX);
    }
    for (int i = 0; i < 3 && !proposer_is_idle(&p); i++) register_timeout(&p, 1, &e);
    REQUIRE(proposer_is_idle(&p));
}

static void try_answer(const uint8_t *data, size_t size)
{
    struct register_answer a, back;
    size_t bytes = 0, bytes_again = 0;
    if (register_answer_decode(data, size, &a) != OK) return;
    REQUIRE(register_answer_encode(&a, again, ROOM, &bytes) == OK && bytes == size);
    REQUIRE(register_answer_decode(again, bytes, &back) == OK);
    REQUIRE(register_answer_encode(&back, third, ROOM, &bytes_again) == OK && memcmp(again, third, bytes) == 0);
    try_proposer(&a, 0);
    try_proposer(&a, 1);
}

static void try_file(const uint8_t *data, size_t size)
{
    struct acceptor a, back;
    uint64_t generation = 0, generation_again = 0;
    size_t bytes = 0;
    if (acceptor_image_decode(data, size, &a, &generation) != OK) return;
    REQUIRE(acceptor_image_encode(&a, generation, again, ROOM, &bytes) == OK);
    REQUIRE(acceptor_image_decode(again, bytes, &back, &generation_again) == OK && generation == generation_again);
    REQUIRE(back.id == a.id && ballot_compare(back.promised, a.promised) == 0 &&
            ballot_compare(back.accepted, a.accepted) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > FUZZ_INPUT_MAX / 2) return 0;
    try_request(data, size);
    try_answer(data, size);
    try_file(data, size);
    uint8_t *fixed = fuzz_copy(data, size);
    size_t end = fuzz_get32(fixed, size, offsetof(struct disk_acceptor, size));
    fuzz_fix(fixed, size, offsetof(struct disk_acceptor, checksum), end, 0);
    try_file(fixed, size);
    free(fixed);
    return 0;
}
