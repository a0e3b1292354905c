/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of a cluster's host, and its changes in the roster.
 */
#include "api/shared.h"

#include <string.h>

#include "base/bytes.h"

enum { VERSION = 1 };

struct disk_host {
    uint8_t version, name_bytes, initiators, zero;
    uint8_t chap_user, chap_secret, mutual_user, mutual_secret; /* bytes */
    le64 created;
    le16 maps;
    uint8_t zero_six[6];
};
SIZE(disk_host, 24);
AT(disk_host, created, 8);

struct disk_map {
    le32 volume, node;
    le16 lun;
};
SIZE(disk_map, 10);

static_assert(sizeof(struct disk_host) + NAME_SIZE + HOST_INITIATORS_MAX * IQN_SIZE + 2 * (CHAP_USER_SIZE + CHAP_SECRET_SIZE) +
                      SHARED_MAPS_MAX * sizeof(struct disk_map) <=
                  ROSTER_HOST_MAX,
              "the longest fits");

/* ---- writing ---- */

static uint8_t *add(uint8_t *at, const void *bytes, size_t size)
{
    memcpy(at, bytes, size);
    return at + size;
}

uint32_t shared_encode(const struct shared_host *host, uint8_t ret_value[ROSTER_HOST_MAX])
{
    const struct catalog_host *h = &host->is;
    struct disk_host disk = {.version = VERSION,
                             .name_bytes = (uint8_t)strlen(h->name),
                             .initiators = (uint8_t)h->initiator_count,
                             .chap_user = (uint8_t)strlen(h->chap.user),
                             .chap_secret = (uint8_t)strlen(h->chap.secret),
                             .mutual_user = (uint8_t)strlen(h->mutual.user),
                             .mutual_secret = (uint8_t)strlen(h->mutual.secret),
                             .created = put64(h->created),
                             .maps = put16((uint16_t)host->map_count)};
    uint8_t *at = add(ret_value, &disk, sizeof disk);
    at = add(at, h->name, disk.name_bytes);
    for (uint32_t i = 0; i < h->initiator_count; i++) {
        uint8_t length = (uint8_t)strlen(h->initiators[i]);
        at = add(at, &length, 1);
        at = add(at, h->initiators[i], length);
    }
    at = add(at, h->chap.user, disk.chap_user);
    at = add(at, h->chap.secret, disk.chap_secret);
    at = add(at, h->mutual.user, disk.mutual_user);
    at = add(at, h->mutual.secret, disk.mutual_secret);
    for (uint32_t i = 0; i < host->map_count; i++) {
        const struct shared_map *m = &host->maps[i];
        struct disk_map map = {put32(m->volume), put32(m->node), put16((uint16_t)m->lun)};
        at = add(at, &map, sizeof map);
    }
    return (uint32_t)(at - ret_value);
}

/* ---- reading ---- */

/* What a request could have said (api/fields.h): text without control characters. */
static enum err take_text(struct cursor *c, size_t length, char *ret_text, size_t size)
{
    if (length >= size) return ERR_DECODE;
    const void *at = cursor_take(c, length);
    if (at == NULL) return ERR_TRUNCATED;
    memcpy(ret_text, at, length);
    ret_text[length] = '\0';
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)ret_text[i] < 0x20 || ret_text[i] == 0x7f) return ERR_DECODE;
    json_t *text = json_string(ret_text); /* UTF-8 */
    if (text == NULL) return ERR_DECODE;
    json_decref(text);
    return OK;
}

/* As catalog_add_initiator would have taken it. */
static enum err take_initiator(struct cursor *c, struct catalog_host *h)
{
    char name[IQN_SIZE], folded[IQN_SIZE];
    struct problem p = {.err = OK};
    const uint8_t *length = cursor_take(c, 1);
    if (length == NULL) return ERR_TRUNCATED;
    TRY(take_text(c, *length, name, sizeof name));
    memcpy(folded, name, sizeof folded);
    if (catalog_check_iqn(folded, &p) != OK || strcmp(folded, name) != 0) return ERR_DECODE;
    for (uint32_t i = 0; i < h->initiator_count; i++)
        if (strcmp(h->initiators[i], name) == 0) return ERR_DECODE;
    memcpy(h->initiators[h->initiator_count++], name, strlen(name) + 1);
    return OK;
}

static enum err take_chap(struct cursor *c, const struct disk_host *disk, struct catalog_host *h)
{
    struct catalog_chap chap = {.user = ""}, mutual = {.user = ""};
    struct problem p = {.err = OK};
    TRY(take_text(c, disk->chap_user, chap.user, sizeof chap.user));
    TRY(take_text(c, disk->chap_secret, chap.secret, sizeof chap.secret));
    TRY(take_text(c, disk->mutual_user, mutual.user, sizeof mutual.user));
    TRY(take_text(c, disk->mutual_secret, mutual.secret, sizeof mutual.secret));
    return catalog_set_chap(h, &chap, &mutual, &p) == OK ? OK : ERR_DECODE;
}

static enum err take_map(struct cursor *c, struct shared_host *h)
{
    struct disk_map disk;
    const void *at = cursor_take(c, sizeof disk);
    if (at == NULL) return ERR_TRUNCATED;
    memcpy(&disk, at, sizeof disk);
    struct shared_map m = {get32(disk.volume), get32(disk.node), get16(disk.lun)};
    if ((m.volume == 0) == (m.node == 0) || m.lun > LUN_MAX) return ERR_DECODE;
    if (h->map_count > 0 && h->maps[h->map_count - 1].lun >= m.lun) return ERR_DECODE;
    for (uint32_t i = 0; i < h->map_count; i++)
        if (m.volume != 0 && h->maps[i].volume == m.volume) return ERR_DECODE;
    h->maps[h->map_count++] = m;
    return OK;
}

enum err shared_decode(const void *value, size_t size, struct shared_host *ret_host)
{
    static const uint8_t none[sizeof((struct disk_host *)0)->zero_six];
    struct disk_host disk;
    struct problem p = {.err = OK};
    struct cursor c = cursor_of(value, size);
    const void *at = cursor_take(&c, sizeof disk);
    if (at == NULL) return ERR_TRUNCATED;
    memcpy(&disk, at, sizeof disk);
    if (disk.version > VERSION) return ERR_NEW_FORMAT;
    if (disk.version == 0 || disk.zero != 0 || memcmp(disk.zero_six, none, sizeof none) != 0) return ERR_DECODE;
    if (disk.initiators > HOST_INITIATORS_MAX || get16(disk.maps) > SHARED_MAPS_MAX) return ERR_DECODE;
    struct shared_host h = {.is.created = get64(disk.created)};
    if (h.is.created > INT64_MAX) return ERR_DECODE;
    TRY(take_text(&c, disk.name_bytes, h.is.name, sizeof h.is.name));
    if (catalog_check_name("host", h.is.name, &p) != OK) return ERR_DECODE;
    for (uint32_t i = 0; i < disk.initiators; i++) TRY(take_initiator(&c, &h.is));
    TRY(take_chap(&c, &disk, &h.is));
    for (uint32_t i = 0; i < get16(disk.maps); i++) TRY(take_map(&c, &h));
    if (c.left > 0) return ERR_DECODE;
    *ret_host = h;
    return OK;
}

static bool read_record(const struct roster_record *record, struct shared_host *ret_host)
{
    if (record == NULL || shared_decode(record->value, record->bytes, ret_host) != OK) return false;
    ret_host->number = record->number;
    return true;
}

bool shared_find(const struct roster *roster, uint32_t number, struct shared_host *ret_host)
{
    return read_record(roster_host(roster, number), ret_host);
}

bool shared_named(const struct roster *roster, const char *name, struct shared_host *ret_host)
{
    for (uint32_t i = 0; i < roster->host_count; i++)
        if (read_record(&roster->hosts[i], ret_host) && strcmp(ret_host->is.name, name) == 0) return true;
    return false;
}

/* ---- changing ---- */

static bool has_initiator(const struct catalog_host *h, const char *name)
{
    for (uint32_t i = 0; i < h->initiator_count; i++)
        if (strcmp(h->initiators[i], name) == 0) return true;
    return false;
}

/* Of an initiator is one host of the whole cluster. `edit->host` is used up. */
static enum err check_others(const struct roster *roster, struct shared_edit *edit, struct problem *p)
{
    const struct catalog_host *mine = &edit->after;
    for (uint32_t i = 0; i < roster->host_count; i++) {
        const struct catalog_host *other = &edit->host.is;
        if (!read_record(&roster->hosts[i], &edit->host) || edit->host.number == edit->number) continue;
        if (strcmp(other->name, mine->name) == 0)
            return problem_tell(p, ERR_NAME_EXISTS, "there is a host %s already in this cluster", mine->name);
        for (uint32_t k = 0; k < mine->initiator_count; k++) {
            if (!has_initiator(other, mine->initiators[k])) continue;
            problem_help(p, "izar host remove-initiator %s %s takes it away there", other->name, mine->initiators[k]);
            return problem_tell(p, ERR_NAME_EXISTS, "initiator %s belongs to host %s", mine->initiators[k], other->name);
        }
    }
    return OK;
}

static enum err put_host(struct roster *roster, struct shared_edit *edit, struct problem *p)
{
    struct roster_record record = {.number = edit->number, .value = edit->value};
    record.bytes = shared_encode(&edit->host, edit->value);
    if (roster_host_put(roster, &record) == OK) return OK;
    return problem_tell(p, ERR_LIMIT, "there are %d hosts, the most a cluster can have", ROSTER_HOSTS_MAX);
}

/* Without maps of what is gone: volumes and nodes whose numbers the roster does not have any more. */
static void prune(const struct roster *roster, struct shared_host *h)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < h->map_count; i++) {
        const struct shared_map m = h->maps[i];
        bool there = m.volume != 0 ? roster_volume(roster, m.volume) != NULL : roster_find(roster, m.node) != NULL;
        if (there) h->maps[kept++] = m;
    }
    h->map_count = kept;
}

static enum err find_host(const struct roster *roster, struct shared_edit *edit, struct problem *p)
{
    if (!shared_find(roster, edit->number, &edit->host)) return problem_tell(p, ERR_NO_NAME, "that host is gone");
    prune(roster, &edit->host);
    return OK;
}

enum err shared_add(struct roster *roster, struct shared_edit *edit, struct problem *p)
{
    edit->number = max32(1, roster->next_host);
    TRY(check_others(roster, edit, p));
    edit->host = (struct shared_host){.is = edit->after};
    TRY(put_host(roster, edit, p));
    roster->next_host = edit->number + 1;
    return OK;
}

static bool same_text(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

static bool same_chap(const struct catalog_chap *a, const struct catalog_chap *b)
{
    return same_text(a->user, b->user) && same_text(a->secret, b->secret);
}

bool shared_is_same(const struct catalog_host *a, const struct catalog_host *b)
{
    if (!same_text(a->name, b->name) || a->initiator_count != b->initiator_count) return false;
    for (uint32_t i = 0; i < a->initiator_count; i++)
        if (!has_initiator(b, a->initiators[i])) return false;
    return same_chap(&a->chap, &b->chap) && same_chap(&a->mutual, &b->mutual);
}

enum err shared_change(struct roster *roster, struct shared_edit *edit, struct problem *p)
{
    TRY(check_others(roster, edit, p));
    TRY(find_host(roster, edit, p));
    if (!shared_is_same(&edit->host.is, &edit->before))
        return problem_tell(p, ERR_CONFLICT, "host %s was changed on another node at the same time; nothing was changed",
                            edit->host.is.name);
    edit->host.is = edit->after;
    return put_host(roster, edit, p);
}

enum err shared_remove(struct roster *roster, struct shared_edit *edit, struct problem *p)
{
    if (roster_host(roster, edit->number) == NULL) return problem_tell(p, ERR_NO_NAME, "that host is gone already");
    roster_host_drop(roster, edit->number);
    return OK;
}

/* ---- maps ---- */

static uint32_t lowest_free(const struct shared_host *h)
{
    uint32_t lun = 0;
    while (lun < h->map_count && h->maps[lun].lun == lun) lun++;
    return lun;
}

enum err shared_add_map(struct roster *roster, struct shared_edit *edit, struct problem *p)
{
    struct shared_host *h = &edit->host;
    struct shared_map *m = &edit->map;
    TRY(find_host(roster, edit, p));
    uint32_t lun = m->lun == LUN_ANY ? lowest_free(h) : m->lun, at = 0;
    for (uint32_t i = 0; i < h->map_count; i++)
        if (m->volume != 0 && h->maps[i].volume == m->volume)
            return problem_tell(p, ERR_NAME_EXISTS, "the host sees that volume already, as LUN %u", h->maps[i].lun);
    if (lun > LUN_MAX) return problem_tell(p, ERR_LIMIT, "a host has LUNs 0 to %d", LUN_MAX);
    while (at < h->map_count && h->maps[at].lun < lun) at++;
    if (at < h->map_count && h->maps[at].lun == lun) {
        problem_help(p, "leave the LUN out and the lowest free one is taken");
        return problem_tell(p, ERR_NAME_EXISTS, "the host sees another volume as LUN %u, on this node or another one", lun);
    }
    memmove(&h->maps[at + 1], &h->maps[at], (h->map_count - at) * sizeof *h->maps);
    h->maps[at] = (struct shared_map){m->volume, m->node, lun};
    h->map_count++;
    TRY(put_host(roster, edit, p));
    m->lun = lun;
    return OK;
}

enum err shared_remove_map(struct roster *roster, struct shared_edit *edit, struct problem *p)
{
    struct shared_host *h = &edit->host;
    const struct shared_map *m = &edit->map;
    TRY(find_host(roster, edit, p));
    for (uint32_t i = 0; i < h->map_count; i++) {
        const struct shared_map *there = &h->maps[i];
        bool it = there->volume == m->volume && there->node == m->node && (m->volume != 0 || there->lun == m->lun);
        if (!it) continue;
        h->map_count--;
        memmove(&h->maps[i], &h->maps[i + 1], (h->map_count - i) * sizeof *h->maps);
        return put_host(roster, edit, p);
    }
    return problem_tell(p, ERR_NO_NAME, "host %s does not see that volume", h->is.name);
}
