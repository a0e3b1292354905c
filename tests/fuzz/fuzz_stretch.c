/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: no bytes of another node harm a learner that takes them for the content of a step. Method: any bytes as a stretch, read
 * run by run; what is read keeps to the limits and is the same bytes again, and what passes the check, against the step that it
 * would fit best, is read without failing and lies where the step says.
 */
#include "fuzz/fuzz.h"
#include "volume/replica/stretch.h"

static struct stretch_run run;

/* A run as bytes is what lies at `at`. */
static const uint8_t *again(const uint8_t *at)
{
    static const uint8_t kinds[] = {[ENTRY_NEW] = WIRE_RUN_DATA, [ENTRY_ZERO] = WIRE_RUN_ZERO, [ENTRY_UNMAP] = WIRE_RUN_UNMAP};
    struct wire_stretch_run head = {.lba = put64(run.lba), .count = put32(run.count), .kind = kinds[run.kind]};
    REQUIRE(memcmp(at, &head, sizeof head) == 0);
    at += sizeof head;
    for (uint32_t i = 0; run.kind == ENTRY_NEW && i < run.count; i++) {
        struct wire_stretch_block block;
        wire_block_encode(&run.digests[i], &block);
        REQUIRE(memcmp(at, &block, sizeof block) == 0);
        at += sizeof block;
        REQUIRE(run.digests[i].stored == at);
        at += chunk_stored(run.digests[i].size);
    }
    return at;
}

/* The step that this could belong to, as far as it can be read. False: it cannot, to its end. */
static bool step_of(const uint8_t *data, size_t size, struct replica_step *ret_step)
{
    struct stretch_reader r;
    if (stretch_open(data, size, &r) != OK) return false;
    REQUIRE(r.walked <= STRETCH_RUNS && r.recorded <= REPLICA_STEP_RECORDS && size <= STRETCH_BYTES_MAX);
    *ret_step = (struct replica_step){.cursor = 0, .stretch = r.walked > 0 ? VOLUME_BLOCKS_MAX / 2 : 0, .count = r.recorded};
    for (uint32_t i = 0; r.walked + r.recorded > 0;) {
        bool walked = r.walked > 0;
        const uint8_t *at = r.at.at;
        if (stretch_next(&r, &run) != OK) return false;
        REQUIRE(run.count > 0 && run.lba + run.count <= VOLUME_BLOCKS_MAX && run.lba + run.count > run.lba);
        REQUIRE(run.count <= (run.kind == ENTRY_NEW ? RECORD_BLOCKS_MAX : RECORD_UNMAP_MAX));
        REQUIRE(again(at) == r.at.at);
        if (walked) continue;
        ret_step->records[i++].change = (struct replica_change){
            .kind = run.kind == ENTRY_NEW ? REPLICA_WRITE : REPLICA_FREE, .count = run.count, .lba = run.lba};
    }
    return r.at.left == 0;
}

static void read_all(const uint8_t *data, size_t size)
{
    struct stretch_reader r;
    uint64_t after = 0;
    REQUIRE(stretch_open(data, size, &r) == OK);
    while (r.walked + r.recorded > 0) {
        bool walked = r.walked > 0;
        REQUIRE(stretch_next(&r, &run) == OK);
        REQUIRE(run.lba + run.count <= VOLUME_BLOCKS_MAX);
        REQUIRE(!walked || (run.lba >= after && run.lba + run.count <= VOLUME_BLOCKS_MAX / 2));
        after = run.lba + run.count;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct replica_step step;
    uint8_t *copy = fuzz_copy(data, size);
    bool fits = step_of(copy, size, &step);
    if (fits && stretch_check(copy, size, &step, VOLUME_BLOCKS_MAX) == OK) read_all(copy, size);
    if (fits && step.count > 0) {
        step.count--;
        REQUIRE(stretch_check(copy, size, &step, VOLUME_BLOCKS_MAX) != OK);
    }
    free(copy);
    return 0;
}
