/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of rosters. Everything is checked here, once, so that nobody behind it meets a name without an end, a number twice,
 * or an address that is none.
 */
#include <string.h>

#include "base/bytes.h"
#include "cluster/roster.h"

#define MAGIC "IZARROST"
enum { MAGIC_BYTES = 8, VERSION = 1, ITEMS_MAX = 4096 };
enum kind { KIND_CLUSTER = 1, KIND_NODE, KIND_VOLUMES, KIND_VOLUME, KIND_HOSTS, KIND_HOST };

struct disk_roster {
    uint8_t magic[MAGIC_BYTES];
    le16 version, zero;
    le32 items;
};
SIZE(disk_roster, 16);

struct disk_item {
    le16 kind, zero;
    le32 bytes;
};
SIZE(disk_item, 8);

struct disk_cluster {
    uint8_t id[CLUSTER_ID_BYTES];
    le32 next;
    uint8_t name_bytes, zero[3];
};
SIZE(disk_cluster, 24);
AT(disk_cluster, name_bytes, 20);

struct disk_node {
    le32 number;
    uint8_t stage, role, name_bytes, addresses;
    le64 acceptor, until_s;
    uint8_t store[ROSTER_STORE_BYTES];
};
SIZE(disk_node, 40);
AT(disk_node, acceptor, 8);
AT(disk_node, store, 24);

struct disk_volumes {
    le32 next_volume;
};
SIZE(disk_volumes, 4);

struct disk_hosts {
    le32 next_host;
    uint8_t target_bytes, zero[3];
};
SIZE(disk_hosts, 8);

struct disk_record {
    le32 number;
};
SIZE(disk_record, 4);

static_assert(ROSTER_NODE_BYTES_MAX >= sizeof(struct disk_node) + ROSTER_NAME_SIZE + ROSTER_ADDRESSES_MAX * ROSTER_ADDRESS_SIZE,
              "the longest node fits, without what a newer version adds");

/* ---- writing ---- */

struct writer {
    uint8_t *at;
    size_t left, used;
    bool full;
};

static void add(struct writer *w, const void *bytes, size_t size)
{
    if (w->full || size > w->left) {
        w->full = true;
        return;
    }
    if (size > 0) memcpy(w->at + w->used, bytes, size);
    w->used += size;
    w->left -= size;
}

static void add_extra(struct writer *w, const struct roster_extra *extra)
{
    add(w, extra->at, extra->bytes);
}

/* Writes the item's head now, and its length when it is known. */
static size_t begin_item(struct writer *w, enum kind kind)
{
    struct disk_item item = {.kind = put16((uint16_t)kind)};
    add(w, &item, sizeof item);
    return w->used;
}

static void end_item(struct writer *w, size_t from)
{
    if (w->full) return;
    le32 bytes = put32((uint32_t)(w->used - from));
    memcpy(w->at + from - sizeof bytes, &bytes, sizeof bytes);
}

static void add_node(struct writer *w, const struct roster_node *node)
{
    struct disk_node disk = {.number = put32(node->number),
                             .stage = (uint8_t)node->stage,
                             .role = (uint8_t)node->role,
                             .name_bytes = (uint8_t)strlen(node->name),
                             .addresses = (uint8_t)node->address_count,
                             .acceptor = put64(node->acceptor),
                             .until_s = put64(node->until_s)};
    memcpy(disk.store, node->store, sizeof disk.store);
    add(w, &disk, sizeof disk);
    add(w, node->name, disk.name_bytes);
    for (uint32_t i = 0; i < node->address_count; i++) {
        uint8_t length = (uint8_t)strlen(node->addresses[i]);
        add(w, &length, 1);
        add(w, node->addresses[i], length);
    }
    add_extra(w, &node->extra);
}

/* Nothing as long as there was no volume: then the bytes are those of a version without them. */
static bool has_volumes(const struct roster *roster)
{
    return roster->next_volume > 1;
}

/* Likewise. */
static bool has_hosts(const struct roster *roster)
{
    return roster->next_host > 1 || roster->target[0] != '\0';
}

static void add_records(struct writer *w, enum kind kind, const struct roster_record *records, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct disk_record head = {.number = put32(records[i].number)};
        size_t item = begin_item(w, kind);
        add(w, &head, sizeof head);
        add(w, records[i].value, records[i].bytes);
        end_item(w, item);
    }
}

static void add_volumes(struct writer *w, const struct roster *roster)
{
    struct disk_volumes disk = {.next_volume = put32(roster->next_volume)};
    assert(has_volumes(roster) || roster->volume_count == 0);
    if (!has_volumes(roster)) return;
    size_t item = begin_item(w, KIND_VOLUMES);
    add(w, &disk, sizeof disk);
    add_extra(w, &roster->volumes_extra);
    end_item(w, item);
    add_records(w, KIND_VOLUME, roster->volumes, roster->volume_count);
}

static void add_hosts(struct writer *w, const struct roster *roster)
{
    struct disk_hosts disk = {.next_host = put32(max32(1, roster->next_host)), .target_bytes = (uint8_t)strlen(roster->target)};
    assert(has_hosts(roster) || roster->host_count == 0);
    if (!has_hosts(roster)) return;
    size_t item = begin_item(w, KIND_HOSTS);
    add(w, &disk, sizeof disk);
    add(w, roster->target, disk.target_bytes);
    add_extra(w, &roster->hosts_extra);
    end_item(w, item);
    add_records(w, KIND_HOST, roster->hosts, roster->host_count);
}

static uint32_t items_of(const struct roster_extra *others)
{
    struct cursor c = cursor_of(others->at, others->bytes);
    uint32_t items = 0;
    for (; c.left > 0; items++) {
        struct disk_item item;
        memcpy(&item, cursor_take(&c, sizeof item), sizeof item);
        cursor_take(&c, get32(item.bytes));
    }
    return items;
}

enum err roster_encode(const struct roster *roster, void *at, size_t room, size_t *ret_size)
{
    struct writer w = {.at = at, .left = room};
    uint32_t items = 1 + roster->node_count + items_of(&roster->others);
    if (has_volumes(roster)) items += 1 + roster->volume_count;
    if (has_hosts(roster)) items += 1 + roster->host_count;
    struct disk_roster head = {.version = put16(VERSION), .items = put32(items)};
    struct disk_cluster cluster = {.next = put32(roster->next), .name_bytes = (uint8_t)strlen(roster->name)};
    memcpy(head.magic, MAGIC, MAGIC_BYTES);
    memcpy(cluster.id, roster->cluster.b, sizeof cluster.id);
    add(&w, &head, sizeof head);
    size_t item = begin_item(&w, KIND_CLUSTER);
    add(&w, &cluster, sizeof cluster);
    add(&w, roster->name, cluster.name_bytes);
    add_extra(&w, &roster->extra);
    end_item(&w, item);
    for (uint32_t i = 0; i < roster->node_count; i++) {
        item = begin_item(&w, KIND_NODE);
        add_node(&w, &roster->nodes[i]);
        end_item(&w, item);
    }
    add_volumes(&w, roster);
    add_hosts(&w, roster);
    add_extra(&w, &roster->others);
    if (w.full) return ERR_LIMIT;
    *ret_size = w.used;
    return OK;
}

enum err roster_node_encode(const struct roster_node *node, void *at, size_t room, size_t *ret_size)
{
    struct writer w = {.at = at, .left = room};
    add_node(&w, node);
    if (w.full) return ERR_LIMIT;
    *ret_size = w.used;
    return OK;
}

/* ---- reading ---- */

static bool take(struct cursor *c, void *ret, size_t size)
{
    const void *at = cursor_take(c, size);
    if (at != NULL) memcpy(ret, at, size);
    return at != NULL;
}

static enum err take_extra(struct cursor *c, struct roster_extra *ret_extra)
{
    if (c->left > ROSTER_EXTRA_MAX) return ERR_DECODE;
    *ret_extra = (struct roster_extra){.at = c->left > 0 ? c->at : NULL, .bytes = (uint32_t)c->left};
    return OK;
}

static enum err take_name(struct cursor *c, uint8_t bytes, char ret_name[ROSTER_NAME_SIZE])
{
    char name[ROSTER_NAME_SIZE] = "";
    if (bytes == 0 || bytes >= ROSTER_NAME_SIZE) return ERR_DECODE;
    if (!take(c, name, bytes)) return ERR_TRUNCATED;
    if (strlen(name) != bytes || !roster_name_is_good(name)) return ERR_DECODE;
    memcpy(ret_name, name, sizeof name);
    return OK;
}

/* Printable, without blanks. */
static enum err take_text(struct cursor *c, uint8_t length, char *ret_text, size_t size)
{
    if (length >= size) return ERR_DECODE;
    const char *text = cursor_take(c, length);
    if (text == NULL) return ERR_TRUNCATED;
    for (uint32_t i = 0; i < length; i++)
        if (text[i] <= ' ' || text[i] > '~') return ERR_DECODE;
    memcpy(ret_text, text, length);
    ret_text[length] = '\0';
    return OK;
}

static enum err take_address(struct cursor *c, char ret_address[ROSTER_ADDRESS_SIZE])
{
    uint8_t length;
    if (!take(c, &length, 1)) return ERR_TRUNCATED;
    return length > 0 ? take_text(c, length, ret_address, ROSTER_ADDRESS_SIZE) : ERR_DECODE;
}

static bool node_is_possible(const struct disk_node *d)
{
    uint32_t number = get32(d->number);
    if (number == 0 || number > NODE_NUMBER_MAX || get64(d->acceptor) == 0) return false;
    if (d->stage < ROSTER_JOINING || d->stage > ROSTER_LEAVING || (get64(d->until_s) != 0) != (d->stage == ROSTER_JOINING))
        return false;
    return d->addresses <= ROSTER_ADDRESSES_MAX && (d->role == ROSTER_DATA || d->role == ROSTER_WITNESS);
}

enum err roster_node_decode(const void *at, size_t size, struct roster_node *ret_node)
{
    struct cursor c = cursor_of(at, size);
    struct disk_node d;
    if (!take(&c, &d, sizeof d)) return ERR_TRUNCATED;
    if (!node_is_possible(&d)) return ERR_DECODE;
    struct roster_node node = {.number = get32(d.number),
                               .stage = (enum roster_stage)d.stage,
                               .role = (enum roster_role)d.role,
                               .acceptor = get64(d.acceptor),
                               .until_s = get64(d.until_s),
                               .address_count = d.addresses};
    memcpy(node.store, d.store, sizeof node.store);
    TRY(take_name(&c, d.name_bytes, node.name));
    for (uint32_t i = 0; i < node.address_count; i++) TRY(take_address(&c, node.addresses[i]));
    TRY(take_extra(&c, &node.extra));
    *ret_node = node;
    return OK;
}

static enum err cluster_decode(struct cursor c, struct roster *roster)
{
    struct disk_cluster d;
    if (!take(&c, &d, sizeof d)) return ERR_TRUNCATED;
    memcpy(roster->cluster.b, d.id, sizeof d.id);
    roster->next = get32(d.next);
    if (d.zero[0] != 0 || d.zero[1] != 0 || d.zero[2] != 0) return ERR_DECODE;
    if (roster->next > NODE_NUMBER_MAX + 1) return ERR_DECODE;
    TRY(take_name(&c, d.name_bytes, roster->name));
    return take_extra(&c, &roster->extra);
}

/* A number, a name and an acceptor belong to one node each. */
static enum err node_add(struct roster *roster, const struct roster_node *node)
{
    if (roster->node_count == ROSTER_NODES_MAX || (roster->next > 0 && node->number >= roster->next)) return ERR_DECODE;
    if (roster->node_count > 0 && roster->nodes[roster->node_count - 1].number >= node->number) return ERR_DECODE;
    if (roster_named(roster, node->name) != NULL || roster_of_acceptor(roster, node->acceptor) != NULL) return ERR_DECODE;
    roster->nodes[roster->node_count++] = *node;
    return OK;
}

static enum err volumes_decode(struct cursor c, struct roster *roster)
{
    struct disk_volumes d;
    if (!take(&c, &d, sizeof d)) return ERR_TRUNCATED;
    if (has_volumes(roster) || has_hosts(roster) || get32(d.next_volume) < 2) return ERR_DECODE;
    roster->next_volume = get32(d.next_volume);
    return take_extra(&c, &roster->volumes_extra);
}

static enum err hosts_decode(struct cursor c, struct roster *roster)
{
    struct disk_hosts d;
    if (!take(&c, &d, sizeof d)) return ERR_TRUNCATED;
    if (has_hosts(roster) || get32(d.next_host) == 0 || d.zero[0] != 0 || d.zero[1] != 0 || d.zero[2] != 0) return ERR_DECODE;
    roster->next_host = get32(d.next_host);
    TRY(take_text(&c, d.target_bytes, roster->target, sizeof roster->target));
    if (!has_hosts(roster)) return ERR_DECODE;
    return take_extra(&c, &roster->hosts_extra);
}

/* Of numbers below `next`, behind those that are there. */
static enum err record_decode(struct cursor c, uint32_t next, uint32_t bytes_max, struct roster_record *records,
                              uint32_t *count, uint32_t max)
{
    struct disk_record d;
    if (!take(&c, &d, sizeof d)) return ERR_TRUNCATED;
    uint32_t number = get32(d.number);
    if (number == 0 || number >= next || *count == max || c.left > bytes_max) return ERR_DECODE;
    if (*count > 0 && records[*count - 1].number >= number) return ERR_DECODE;
    records[(*count)++] = (struct roster_record){number, (uint32_t)c.left, c.at};
    return OK;
}

/* `*others`: whether one of an unknown kind was met. */
static enum err item_decode(struct roster *roster, uint32_t i, uint16_t kind, struct cursor c, bool *others)
{
    struct roster_node node;
    bool known = kind >= KIND_CLUSTER && kind <= KIND_HOST;
    if ((i == 0) != (kind == KIND_CLUSTER) || (known && *others)) return ERR_DECODE;
    switch (kind) {
    case KIND_CLUSTER: return cluster_decode(c, roster);
    case KIND_NODE:
        if (has_volumes(roster) || has_hosts(roster)) return ERR_DECODE;
        TRY(roster_node_decode(c.at, c.left, &node));
        return node_add(roster, &node);
    case KIND_VOLUMES: return volumes_decode(c, roster);
    case KIND_VOLUME:
        if (has_hosts(roster)) return ERR_DECODE;
        return record_decode(c, roster->next_volume, ROSTER_VALUE_MAX, roster->volumes, &roster->volume_count,
                             ROSTER_VOLUMES_MAX);
    case KIND_HOSTS: return hosts_decode(c, roster);
    case KIND_HOST:
        return record_decode(c, roster->next_host, ROSTER_HOST_MAX, roster->hosts, &roster->host_count, ROSTER_HOSTS_MAX);
    default: *others = true; return OK;
    }
}

enum err roster_decode(const void *at, size_t size, struct roster *ret_roster)
{
    struct cursor c = cursor_of(at, size);
    struct disk_roster head;
    struct roster roster = {.next_volume = 1, .next_host = 1};
    bool others = false;
    if (!take(&c, &head, sizeof head)) return ERR_TRUNCATED;
    if (memcmp(head.magic, MAGIC, MAGIC_BYTES) != 0) return ERR_NOT_OURS;
    if (get16(head.version) > VERSION) return ERR_NEW_FORMAT;
    if (get16(head.version) == 0 || get16(head.zero) != 0 || get32(head.items) == 0 || get32(head.items) > ITEMS_MAX)
        return ERR_DECODE;
    for (uint32_t i = 0; i < get32(head.items); i++) {
        struct disk_item item;
        const uint8_t *from = c.at;
        if (!take(&c, &item, sizeof item)) return ERR_TRUNCATED;
        const void *bytes = cursor_take(&c, get32(item.bytes));
        if (bytes == NULL) return ERR_TRUNCATED;
        bool before = others;
        TRY(item_decode(&roster, i, get16(item.kind), cursor_of(bytes, get32(item.bytes)), &others));
        if (others && !before) roster.others.at = from;
        if (!others && get16(item.zero) != 0) return ERR_DECODE;
    }
    if (c.left > 0) return ERR_DECODE;
    if (others) roster.others.bytes = (uint32_t)(c.at - (const uint8_t *)roster.others.at);
    *ret_roster = roster;
    return OK;
}
