/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands about the pool as a whole: format, stats, clean. The statistics are one table, printed as text or as JSON.
 */
#include <stdio.h>
#include <string.h>

#include "tool/tool.h"

/* ---- format ---- */

int cmd_format(struct session *s)
{
    const struct options *o = s->options;
    struct store_format_config config = {.device_count = o->operand_count, .size = o->size, .force = o->force};
    for (uint32_t i = 0; i < o->operand_count; i++) {
        config.devices[i] = (struct store_device_config){.path = o->operands[i], .class = DEVICE_FLASH};
    }
    if (o->segment != 0 && (o->segment < SEGMENT_SHIFT_MIN || o->segment > SEGMENT_SHIFT_MAX))
        return fail_usage("--segment %llu: from %d to %d", (unsigned long long)o->segment, SEGMENT_SHIFT_MIN,
                          SEGMENT_SHIFT_MAX);
    config.segment_shift = (uint8_t)o->segment;
    if (o->name != NULL) snprintf(config.name, sizeof config.name, "%s", o->name);
    enum err err = store_format(s->io, &config);
    if (err != OK)
        return fail(err, "cannot make a pool of %s%s", o->operands[0], o->operand_count > 1 ? " and the others" : "");
    return EXIT_FINE;
}

/* ---- stats ---- */

enum unit { COUNT, BYTES, NANOSECONDS };

struct number {
    const char *name;
    size_t at;
    enum unit unit;
};

#define NUMBER(field, unit)                                                                                                    \
    {                                                                                                                          \
#field, offsetof(struct store_stats, field), unit                                                                      \
    }

static const struct number numbers[] = {
    NUMBER(slots, COUNT),
    NUMBER(slots_free, COUNT),
    NUMBER(slots_pending, COUNT),
    NUMBER(segment_bytes, BYTES),
    NUMBER(live_bytes, BYTES),
    NUMBER(user_written, BYTES),
    NUMBER(new_blocks, COUNT),
    NUMBER(dup_blocks, COUNT),
    NUMBER(zero_blocks, COUNT),
    NUMBER(unmapped_blocks, COUNT),
    NUMBER(stored_bytes, BYTES),
    NUMBER(head_bytes, BYTES),
    NUMBER(summary_bytes, BYTES),
    NUMBER(unfilled_bytes, BYTES),
    NUMBER(meta_bytes, BYTES),
    NUMBER(directory_bytes, BYTES),
    NUMBER(checkpoint_bytes, BYTES),
    NUMBER(cleaned_bytes, BYTES),
    NUMBER(slots_cleaned, COUNT),
    NUMBER(walks, COUNT),
    NUMBER(trimmed_bytes, BYTES),
    NUMBER(batches, COUNT),
    NUMBER(checkpoints, COUNT),
    NUMBER(leaf_flushes, COUNT),
    NUMBER(leaf_loads, COUNT),
    NUMBER(summary_loads, COUNT),
    NUMBER(cache_hits, COUNT),
    NUMBER(cache_misses, COUNT),
    NUMBER(device_reads, COUNT),
    NUMBER(medium_errors, COUNT),
    NUMBER(mended, COUNT),
    NUMBER(unmended, COUNT),
    NUMBER(memory, BYTES),
    NUMBER(memory_used, BYTES),
    NUMBER(index_bytes, BYTES),
    NUMBER(index_entries, COUNT),
    NUMBER(directory_ram, BYTES),
    NUMBER(sketch_ram, BYTES),
    NUMBER(delta_entries, COUNT),
    NUMBER(delta_capacity, COUNT),
    NUMBER(replayed_records, COUNT),
    NUMBER(recovery_ns, NANOSECONDS),
};
enum { NUMBERS = sizeof numbers / sizeof numbers[0] };

static uint64_t number_value(const struct store_stats *stats, const struct number *n)
{
    uint64_t value;
    memcpy(&value, (const char *)stats + n->at, sizeof value);
    return value;
}

static void print_number(const struct number *n, uint64_t value)
{
    char buf[32];
    struct text t;
    text_init(&t, buf, sizeof buf);
    switch (n->unit) {
    case COUNT: text_add(&t, "%llu", (unsigned long long)value); break;
    case BYTES: text_from_bytes(&t, value); break;
    case NANOSECONDS: text_add(&t, "%.3f ms", (double)value / 1e6); break;
    }
    printf("%-18s %s\n", n->name, buf);
}

int cmd_stats(struct session *s)
{
    struct store_stats stats;
    store_stats(s->store, &stats);
    bool json = wants_json(s);
    if (json) printf("{");
    for (uint32_t i = 0; i < NUMBERS; i++) {
        uint64_t value = number_value(&stats, &numbers[i]);
        if (json)
            printf("\"%s\": %llu, ", numbers[i].name, (unsigned long long)value);
        else
            print_number(&numbers[i], value);
    }
    if (json)
        printf("\"failed\": %s, \"full\": %s}\n", stats.failed ? "true" : "false", stats.full ? "true" : "false");
    else
        printf("%-18s %s\n%-18s %s\n", "failed", stats.failed ? "yes" : "no", "full", stats.full ? "yes" : "no");
    return EXIT_FINE;
}

/* ---- clean ---- */

int cmd_clean(struct session *s)
{
    uint32_t gained = 0;
    enum err err = store_clean(s->store, &gained);
    if (err != OK) return fail(err, "cleaning");
    if (wants_json(s))
        printf("{\"gained\": %u}\n", gained);
    else
        printf("%u segments gained\n", gained);
    return EXIT_FINE;
}
