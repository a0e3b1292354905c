/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check: the auditor reads the pool's devices, which nobody has open, and every disagreement is told as it is found.
 * Exit code 1 says that there were problems; warnings alone are fine.
 */
#include <stdio.h>

#include "store/audit.h"
#include "tool/tool.h"

static void say(void *arg, bool problem, const char *text)
{
    (void)arg;
    fprintf(stderr, "%s: %s\n", problem ? "problem" : "warning", text);
}

static void tell_json(const struct audit_report *r)
{
    printf("{\"problems\": %llu, \"warnings\": %llu, \"slots\": %llu, \"slots_unreferenced\": %llu, \"volumes\": %llu, "
           "\"blocks_mapped\": %llu, "
           "\"blocks_zero\": %llu, \"pages\": %llu, \"chunks\": %llu, \"chunks_live\": %llu, \"chunks_checked\": %llu, "
           "\"live_bytes\": %llu, \"live_estimate_bytes\": %llu, \"records_replayed\": %llu, \"prepared\": %llu}\n",
           (unsigned long long)r->problems, (unsigned long long)r->warnings, (unsigned long long)r->slots,
           (unsigned long long)r->slots_unreferenced, (unsigned long long)r->volumes, (unsigned long long)r->blocks_mapped,
           (unsigned long long)r->blocks_zero, (unsigned long long)r->pages, (unsigned long long)r->chunks,
           (unsigned long long)r->chunks_live, (unsigned long long)r->chunks_checked, (unsigned long long)r->live_units * UNIT,
           (unsigned long long)r->live_estimate * UNIT, (unsigned long long)r->records_replayed,
           (unsigned long long)r->prepared);
}

static void tell_text(const struct audit_report *r)
{
    printf("checkpoint %llu, %u of 4 copies good; %llu records replayed, %llu prepared\n", (unsigned long long)r->checkpoint,
           r->checkpoints_good, (unsigned long long)r->records_replayed, (unsigned long long)r->prepared);
    printf("%llu volumes, %llu blocks with data, %llu zero, %llu pages\n", (unsigned long long)r->volumes,
           (unsigned long long)r->blocks_mapped, (unsigned long long)r->blocks_zero, (unsigned long long)r->pages);
    printf("%llu slots, nothing referenced in %llu that are in use\n", (unsigned long long)r->slots,
           (unsigned long long)r->slots_unreferenced);
    printf("%llu chunks, %llu live, %llu read and verified\n", (unsigned long long)r->chunks,
           (unsigned long long)r->chunks_live, (unsigned long long)r->chunks_checked);
    printf("%llu problems, %llu warnings\n", (unsigned long long)r->problems, (unsigned long long)r->warnings);
}

int cmd_check(struct session *s)
{
    struct store_config config;
    struct audit_report *r = mem_alloc(s->mem, sizeof *r);
    if (r == NULL) return fail(ERR_NO_MEMORY, "starting");
    pool_config(s, &config);
    config.read_only = true;
    r->quick = s->options->quick;
    r->say = say;
    enum err err = audit_pool(s->io, &config, r);
    if (err != OK) return fail(err, "cannot check the pool: %s", r->sentence);
    if (wants_json(s))
        tell_json(r);
    else
        tell_text(r);
    return r->problems == 0 ? EXIT_FINE : EXIT_DIFFERS;
}
