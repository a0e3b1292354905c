/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /v1/status, /v1/pool, /v1/disks, /v1/target, /v1/sessions: how the node is.
 */
#include <stdio.h>
#include <string.h>

#include "api/internal.h"
#include "io/host.h"

/* ---- pool ---- */

static json_t *ratio(uint64_t a, uint64_t b)
{
    return b > 0 ? json_real((double)(a * 100 / b) / 100) : json_null();
}

static json_t *scrub_json(const struct node *node)
{
    struct scrub_status s;
    scrub_status(node->scrub, &s);
    return json_pack("{s:b, s:I, s:I, s:I, s:I, s:I, s:I}", "running", s.running, "at_bytes", (json_int_t)s.at_bytes,
                     "of_bytes", (json_int_t)s.of_bytes, "passes", (json_int_t)s.passes, "read_bytes", (json_int_t)s.read_bytes,
                     "lost", (json_int_t)s.lost, "rate_bytes", (json_int_t)node->config.scrub_rate);
}

static json_t *pool_json(const struct node *node)
{
    struct store_stats s;
    char key[KEY_ID_SIZE];
    store_stats(node->store, &s);
    uint64_t written = s.new_blocks + s.dup_blocks + s.zero_blocks;
    json_t *o = json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:b}", "capacity_bytes", (json_int_t)(s.slots * s.segment_bytes),
        "free_bytes", (json_int_t)((s.slots_free + s.slots_pending) * s.segment_bytes), "live_bytes", (json_int_t)s.live_bytes,
        "beyond_memory_bytes", (json_int_t)(s.slots_beyond * s.segment_bytes), "medium_errors", (json_int_t)s.medium_errors,
        "mended", (json_int_t)s.mended, "unmended", (json_int_t)s.unmended, "full", s.full, "failed", s.failed);
    json_t *since = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "written_bytes", (json_int_t)s.user_written,
                              "new_blocks", (json_int_t)s.new_blocks, "duplicate_blocks", (json_int_t)s.dup_blocks,
                              "zero_blocks", (json_int_t)s.zero_blocks, "unmapped_blocks", (json_int_t)s.unmapped_blocks,
                              "stored_bytes", (json_int_t)s.stored_bytes, "cleaned_bytes", (json_int_t)s.cleaned_bytes,
                              "cache_hits", (json_int_t)s.cache_hits, "cache_misses", (json_int_t)s.cache_misses);
    json_object_set_new(since, "dedupe_ratio", ratio(written, s.new_blocks + s.zero_blocks));
    json_object_set_new(since, "compress_ratio", ratio(s.new_blocks * BLOCK_SIZE, s.stored_bytes));
    json_object_set_new(since, "savings_ratio", ratio(written * BLOCK_SIZE, s.stored_bytes));
    json_object_set_new(o, "key_id", json_string(node_key_id(node, key)));
    json_object_set_new(o, "since_start", since);
    json_object_set_new(o, "scrub", scrub_json(node));
    json_object_set_new(o, "memory",
                        json_pack("{s:I, s:I}", "budget_bytes", (json_int_t)s.memory, "used_bytes", (json_int_t)s.memory_used));
    return o;
}

enum err pool_show(struct call *call)
{
    call->answer = pool_json(call->node);
    return OK;
}

enum err pool_scrub(struct call *call)
{
    TRY(fields_read(call->body, NULL, 0, &call->problem));
    scrub_begin(call->node->scrub);
    call->answer = scrub_json(call->node);
    return OK;
}

enum err pool_clean(struct call *call)
{
    uint32_t gained = 0;
    struct store_stats s;
    TRY(fields_read(call->body, NULL, 0, &call->problem));
    TRY(store_clean(call->node->store, &gained));
    store_stats(call->node->store, &s);
    call->answer = json_pack("{s:I}", "gained_bytes", (json_int_t)(gained * s.segment_bytes));
    return OK;
}

enum err disks_list(struct call *call)
{
    const struct node_config *c = &call->node->config;
    json_t *items = json_array();
    struct store_stats s;
    store_stats(call->node->store, &s);
    for (uint32_t i = 0; i < c->device_count; i++) {
        json_array_append_new(items, json_pack("{s:s, s:s, s:s}", "path", c->devices[i].path, "class",
                                               c->devices[i].class == DEVICE_FLASH ? "flash" : "hdd", "state",
                                               s.failed ? "failed" : "online"));
    }
    call->answer = json_pack("{s:o, s:n}", "items", items, "next");
    return OK;
}

/* ---- status ---- */

static void add_issue(json_t *issues, const char *severity, const char *text, const char *remedy)
{
    json_array_append_new(issues, json_pack("{s:s, s:s, s:s}", "severity", severity, "text", text, "remedy", remedy));
}

static json_t *issues_json(struct node *node)
{
    struct store_stats s;
    char text[160];
    json_t *issues = json_array();
    char trouble[CLUSTER_SENTENCE_MAX];
    const char *remedy;
    if (cluster_trouble(node, trouble, &remedy)) add_issue(issues, "warning", trouble, remedy);
    if (node->config.witness) return issues;
    const struct catalog *c = catalog_now(node->catalogs);
    store_stats(node->store, &s);
    if (node_key_is_foreign(node))
        add_issue(issues, "warning", KEY_FOREIGN "; it cannot hold replicas of theirs",
                  "move what is in its volumes elsewhere, delete them (izar volume list), and start izard again");
    enum err err;
    if (!node_sharing_is_well(node, &err)) {
        snprintf(text, sizeof text, "hosts and maps of this node are not what its cluster agreed on: %s", err_text(err));
        add_issue(issues, "error", text, "its log tells more; other nodes serve by what was agreed on");
    }
    if (s.failed) {
        add_issue(issues, "error", "the pool takes no writes after a device error",
                  "look at the disk and the system's log, then start izard again: what was acknowledged is safe");
    }
    if (s.full) add_issue(issues, "error", "the pool is full", "delete or unmap something, then izar pool gc, or add space");
    if (s.slots_beyond > 0) {
        struct text t;
        text_init(&t, text, sizeof text);
        text_from_bytes(&t, s.slots_beyond * s.segment_bytes);
        text_add(&t, " of the pool's devices cannot be used: memory is too small to describe them");
        add_issue(
            issues, "warning", text,
            "give izard more memory (about 50 MiB more for each TiB that is to be used; izard.conf(5)) and start it again");
    }
    if (s.unmended > 0) {
        snprintf(text, sizeof text, "%llu times something could not be read back from the disk",
                 (unsigned long long)s.unmended);
        add_issue(issues, "error", text, "restore what the initiators report from a copy, and replace the disk");
    } else if (s.mended > 0) {
        snprintf(text, sizeof text, "%llu damaged blocks were mended with what other nodes have", (unsigned long long)s.mended);
        add_issue(issues, "warning", text, "nothing is lost; look at the disk: what loses blocks once may do it again");
    }
    for (uint32_t i = 0; i < c->volume_count; i++) {
        if (c->volumes[i].state != VOLUME_LIVE || volumes_find(node->volumes, c->volumes[i].id) != NULL) continue;
        snprintf(text, sizeof text, "volume %s is not in the pool", c->volumes[i].name);
        add_issue(issues, "error", text, "look whether izard was given the right pool; izar volume delete forgets the name");
    }
    return issues;
}

static json_t *portals_json(const struct node *node)
{
    char address[IO_ADDRESS_TEXT];
    json_t *portals = json_array();
    for (uint32_t i = 0; node->target != NULL && i < node->config.listen_count; i++) {
        iscsi_target_address(node->target, i, address, sizeof address);
        json_array_append_new(portals, json_string(address));
    }
    return portals;
}

static json_t *target_json(const struct node *node)
{
    struct iscsi_stats s = {0};
    if (node->target != NULL) iscsi_target_stats(node->target, &s);
    return json_pack("{s:s, s:o, s:I, s:I, s:I, s:I, s:I, s:I}", "iqn", node_target_name(node), "portals", portals_json(node),
                     "sessions", (json_int_t)s.sessions, "connections", (json_int_t)s.connections, "logins",
                     (json_int_t)s.logins, "login_failures", (json_int_t)s.login_failures, "protocol_errors",
                     (json_int_t)s.protocol_errors, "timeouts", (json_int_t)s.timeouts);
}

enum err status_show(struct call *call)
{
    static const struct catalog none;
    struct node *node = call->node;
    bool witness = node->config.witness;
    const struct catalog *c = witness ? &none : catalog_now(node->catalogs);
    json_t *issues = issues_json(node);
    const char *health = json_array_size(issues) == 0 ? "ok" : "degraded";
    call->answer =
        json_pack("{s:s, s:s, s:s, s:s, s:o, s:I, s:I, s:s, s:I, s:I, s:I, s:o, s:o}", "name", node->config.name, "role",
                  witness ? "witness" : "data", "version", IZAR_VERSION, "health", health, "issues", issues, "uptime_seconds",
                  (json_int_t)((io_now_ns(node->io) - node->began_ns) / IO_S_NS), "resident_bytes",
                  (json_int_t)host_resident_bytes(), "io", io_group_backend(node->config.group), "volumes",
                  (json_int_t)c->volume_count, "hosts", (json_int_t)c->host_count, "maps", (json_int_t)c->map_count, "pool",
                  witness ? json_null() : pool_json(node), "target", witness ? json_null() : target_json(node));
    return OK;
}

/* ---- target ---- */

enum err target_show(struct call *call)
{
    call->answer = target_json(call->node);
    return OK;
}

static json_t *session_json(struct node *node, const struct iscsi_session_info *s)
{
    const struct catalog_host *h = catalog_host_of_iqn(catalog_now(node->catalogs), s->initiator);
    const char *state = !s->full_feature ? "login" : s->discovery ? "discovery" : "normal";
    json_t *o = json_pack("{s:I, s:s, s:s, s:s, s:s, s:s}", "id", (json_int_t)s->id, "initiator", s->initiator, "alias",
                          s->alias, "peer", s->peer, "portal", s->portal, "state", state);
    if (o == NULL) return NULL; /* an initiator's alias that is no UTF-8 */
    json_object_set_new(o, "host", h != NULL ? json_string(h->name) : json_null());
    json_object_set_new(o, "chap", json_string(s->mutual ? "mutual" : s->chap ? "one-way" : "none"));
    json_object_set_new(o, "header_digest", json_boolean(s->header_digest));
    json_object_set_new(o, "data_digest", json_boolean(s->data_digest));
    json_object_set_new(o, "seconds", json_integer((json_int_t)((io_now_ns(node->io) - s->since_ns) / IO_S_NS)));
    json_object_set_new(o, "commands", json_integer((json_int_t)s->commands));
    json_object_set_new(o, "read_bytes", json_integer((json_int_t)s->bytes_out));
    json_object_set_new(o, "written_bytes", json_integer((json_int_t)s->bytes_in));
    json_object_set_new(o, "under_way", json_integer((json_int_t)s->under_way));
    return o;
}

/* An initiator says it: nothing that a terminal would obey, and not the whole answer lost for one letter. */
static void only_printable(char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < 0x20 || (unsigned char)*text >= 0x7f) *text = '?';
    }
}

enum err sessions_list(struct call *call)
{
    struct node *node = call->node;
    struct iscsi_session_info info;
    json_t *items = json_array();
    for (uint64_t from = 0; node->target != NULL && iscsi_session_next(node->target, from, &info) == OK; from = info.id + 1) {
        only_printable(info.initiator);
        only_printable(info.alias);
        json_array_append_new(items, session_json(node, &info));
    }
    call->answer = json_pack("{s:o, s:n}", "items", items, "next");
    return OK;
}

enum err sessions_cut(struct call *call)
{
    uint64_t id = 0;
    if (text_to_u64(call->parts[0], &id) == OK && call->node->target != NULL && iscsi_session_cut(call->node->target, id) == OK)
        return OK;
    problem_help(&call->problem, "izar target sessions");
    return problem_tell(&call->problem, ERR_NO_NAME, "there is no session %.40s", call->parts[0]);
}
