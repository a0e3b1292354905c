/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules of the catalog as a value in memory: names, references, limits. Everything is searched by walking: a node has
 * few of each, and the longest walk (8,192 maps) takes microseconds at the pace of management.
 */
#include "api/catalog.h"

#include <ctype.h>
#include <string.h>

void catalog_init(struct catalog *c)
{
    memset(c, 0, sizeof *c);
    c->next_host = 1;
}

/* ---- names ---- */

enum err catalog_check_name(const char *what, const char *name, struct problem *ret_problem)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t length = strlen(name);
    problem_help(ret_problem, "a name has 1 to %d letters, digits, '.', '_' and '-', and starts with a letter or digit",
                 NAME_SIZE - 1);
    if (length == 0) return problem_tell(ret_problem, ERR_ARGUMENT, "the %s's name is empty", what);
    if (length >= NAME_SIZE) {
        return problem_tell(ret_problem, ERR_ARGUMENT, "the %s's name has %u characters", what, (unsigned)length);
    }
    size_t good = strspn(name, allowed);
    if (good < length) {
        unsigned char c = (unsigned char)name[good];
        if (c > 0x20 && c < 0x7f) return problem_tell(ret_problem, ERR_ARGUMENT, "'%c' may not be in a %s's name", c, what);
        return problem_tell(ret_problem, ERR_ARGUMENT, "character 0x%02x may not be in a %s's name", c, what);
    }
    if (!isalnum((unsigned char)name[0]))
        return problem_tell(ret_problem, ERR_ARGUMENT, "the %s's name starts with '%c'", what, name[0]);
    ret_problem->remedy[0] = '\0';
    return OK;
}

static bool all_hex(const char *s, size_t length)
{
    return strlen(s) == length && strspn(s, "0123456789abcdef") == length;
}

/* iqn.YYYY-MM.reversed.domain[:anything]: RFC 7143 4.2.7.4. */
static bool iqn_shape(const char *s)
{
    for (int i = 0; i < 8; i++) {
        if (i == 4 ? s[i] != '-' : i == 7 ? s[i] != '.' : !isdigit((unsigned char)s[i])) return false;
    }
    return s[8] != '\0' && s[8] != ':' && s[8] != '.';
}

enum err catalog_check_iqn(char *iqn, struct problem *ret_problem)
{
    problem_help(ret_problem, "an initiator looks like iqn.1991-05.com.microsoft:hv1, eui.02004567a425678d or naa.5200...; "
                              "the host's own iSCSI settings show it");
    if (strlen(iqn) >= IQN_SIZE)
        return problem_tell(ret_problem, ERR_ARGUMENT, "the initiator's name is longer than 223 bytes");
    for (char *at = iqn; *at != '\0'; at++) {
        *at = (char)tolower((unsigned char)*at);
        if (isalnum((unsigned char)*at) || strchr("-.:", *at) != NULL || (unsigned char)*at >= 0x80) continue;
        if ((unsigned char)*at <= 0x20) return problem_tell(ret_problem, ERR_ARGUMENT, "an initiator's name holds no blanks");
        return problem_tell(ret_problem, ERR_ARGUMENT, "'%c' may not be in an initiator's name", *at);
    }
    bool good = strncmp(iqn, "iqn.", 4) == 0   ? iqn_shape(iqn + 4)
                : strncmp(iqn, "eui.", 4) == 0 ? all_hex(iqn + 4, 16)
                : strncmp(iqn, "naa.", 4) == 0 ? all_hex(iqn + 4, 16) || all_hex(iqn + 4, 32)
                                               : false;
    if (!good) return problem_tell(ret_problem, ERR_ARGUMENT, "\"%.80s\" is not an initiator's name", iqn);
    ret_problem->remedy[0] = '\0';
    return OK;
}

static enum err check_chap(const char *what, const struct catalog_chap *chap, struct problem *ret_problem)
{
    size_t length = strlen(chap->secret);
    if (chap->user[0] == '\0') return problem_tell(ret_problem, ERR_ARGUMENT, "%s needs a user", what);
    if (length >= CHAP_SECRET_MIN && length < CHAP_SECRET_SIZE) return OK;
    problem_help(ret_problem, "initiators of Windows take 12 to 16 characters");
    return problem_tell(ret_problem, ERR_ARGUMENT, "%s's secret has %u characters; from %d to %d are allowed", what,
                        (unsigned)length, CHAP_SECRET_MIN, CHAP_SECRET_SIZE - 1);
}

/* ---- looking up ---- */

struct catalog_volume *catalog_volume(struct catalog *c, const char *name)
{
    for (uint32_t i = 0; i < c->volume_count; i++) {
        if (strcmp(c->volumes[i].name, name) == 0) return &c->volumes[i];
    }
    return NULL;
}

struct catalog_volume *catalog_volume_by_id(struct catalog *c, uint32_t id)
{
    for (uint32_t i = 0; i < c->volume_count; i++) {
        if (c->volumes[i].id == id) return &c->volumes[i];
    }
    return NULL;
}

struct catalog_host *catalog_host(struct catalog *c, const char *name)
{
    for (uint32_t i = 0; i < c->host_count; i++) {
        if (strcmp(c->hosts[i].name, name) == 0) return &c->hosts[i];
    }
    return NULL;
}

struct catalog_host *catalog_host_by_id(struct catalog *c, uint32_t id)
{
    for (uint32_t i = 0; i < c->host_count; i++) {
        if (c->hosts[i].id == id) return &c->hosts[i];
    }
    return NULL;
}

static uint32_t initiator_index(const struct catalog_host *host, const char *iqn)
{
    uint32_t i = 0;
    while (i < host->initiator_count && strcmp(host->initiators[i], iqn) != 0) i++;
    return i;
}

struct catalog_host *catalog_host_of_iqn(struct catalog *c, const char *iqn)
{
    for (uint32_t i = 0; i < c->host_count; i++) {
        if (initiator_index(&c->hosts[i], iqn) < c->hosts[i].initiator_count) return &c->hosts[i];
    }
    return NULL;
}

struct catalog_map *catalog_map(struct catalog *c, uint32_t volume, uint32_t host)
{
    for (uint32_t i = 0; i < c->map_count; i++) {
        if (c->maps[i].volume == volume && c->maps[i].host == host) return &c->maps[i];
    }
    return NULL;
}

struct catalog_map *catalog_map_at(struct catalog *c, uint32_t host, uint32_t lun)
{
    for (uint32_t i = 0; i < c->map_count; i++) {
        if (c->maps[i].host == host && c->maps[i].lun == lun) return &c->maps[i];
    }
    return NULL;
}

uint32_t catalog_maps_of_volume(const struct catalog *c, uint32_t volume)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->map_count; i++) n += c->maps[i].volume == volume;
    return n;
}

uint32_t catalog_maps_of_host(const struct catalog *c, uint32_t host)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->map_count; i++) n += c->maps[i].host == host;
    return n;
}

/* ---- changing ---- */

enum err catalog_add_volume(struct catalog *c, const struct catalog_volume *volume, struct problem *ret_problem)
{
    TRY(catalog_check_name("volume", volume->name, ret_problem));
    if (volume->block_size != 512 && volume->block_size != 4096) {
        return problem_tell(ret_problem, ERR_ARGUMENT, "block size %u; it is 512 or 4096", volume->block_size);
    }
    if (volume->id == 0) return problem_tell(ret_problem, ERR_ARGUMENT, "volume %s has no id", volume->name);
    if (catalog_volume(c, volume->name) != NULL) {
        problem_help(ret_problem, "izar volume show %s tells about it; choose another name", volume->name);
        return problem_tell(ret_problem, ERR_NAME_EXISTS, "there is a volume %s already", volume->name);
    }
    if (catalog_volume_by_id(c, volume->id) != NULL) {
        return problem_tell(ret_problem, ERR_ARGUMENT, "volume id %u is used twice", volume->id);
    }
    if (c->volume_count == CATALOG_VOLUMES_MAX) {
        problem_help(ret_problem, "delete a volume first: izar volume list");
        return problem_tell(ret_problem, ERR_LIMIT, "there are %d volumes, the most a node can have", CATALOG_VOLUMES_MAX);
    }
    c->volumes[c->volume_count++] = *volume;
    return OK;
}

/* Keeps the maps for which neither is named; the order stays. */
static void remove_maps(struct catalog *c, uint32_t volume, uint32_t host)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < c->map_count; i++) {
        if (c->maps[i].volume != volume && c->maps[i].host != host) c->maps[kept++] = c->maps[i];
    }
    c->map_count = kept;
}

void catalog_remove_volume(struct catalog *c, uint32_t id)
{
    struct catalog_volume *v = catalog_volume_by_id(c, id);
    if (v == NULL) return;
    size_t after = (size_t)(&c->volumes[c->volume_count] - (v + 1));
    memmove(v, v + 1, after * sizeof *v);
    c->volume_count--;
    remove_maps(c, id, 0);
}

enum err catalog_add_initiator(struct catalog *c, struct catalog_host *host, const char *iqn, struct problem *ret_problem)
{
    char name[IQN_SIZE + 1];
    size_t length = strlen(iqn);
    if (length > IQN_SIZE) length = IQN_SIZE;
    memcpy(name, iqn, length);
    name[length] = '\0';
    TRY(catalog_check_iqn(name, ret_problem));
    const struct catalog_host *other = catalog_host_of_iqn(c, name);
    if (other != NULL) {
        problem_help(ret_problem, "izar host remove-initiator %s %s takes it away there", other->name, name);
        return problem_tell(ret_problem, ERR_NAME_EXISTS, "initiator %s belongs to host %s", name, other->name);
    }
    if (host->initiator_count == HOST_INITIATORS_MAX) {
        return problem_tell(ret_problem, ERR_LIMIT, "host %s has %d initiators, the most a host can have", host->name,
                            HOST_INITIATORS_MAX);
    }
    memcpy(host->initiators[host->initiator_count++], name, strlen(name) + 1);
    return OK;
}

enum err catalog_remove_initiator(struct catalog_host *host, const char *iqn, struct problem *ret_problem)
{
    uint32_t i = initiator_index(host, iqn);
    if (i == host->initiator_count) {
        problem_help(ret_problem, "izar host show %s lists them", host->name);
        return problem_tell(ret_problem, ERR_NO_NAME, "host %s has no initiator %.100s", host->name, iqn);
    }
    host->initiator_count--;
    memmove(host->initiators[i], host->initiators[i + 1], (host->initiator_count - i) * sizeof host->initiators[0]);
    return OK;
}

static enum err check_both_chaps(const struct catalog_host *host, struct problem *p)
{
    bool one = host->chap.user[0] != '\0' || host->chap.secret[0] != '\0';
    bool two = host->mutual.user[0] != '\0' || host->mutual.secret[0] != '\0';
    if (two && !one) return problem_tell(p, ERR_ARGUMENT, "mutual CHAP needs one-way CHAP too");
    if (one) TRY(check_chap("CHAP", &host->chap, p));
    if (two) TRY(check_chap("mutual CHAP", &host->mutual, p));
    if (two && strcmp(host->chap.secret, host->mutual.secret) == 0) { /* RFC 7143 9.2.1 */
        return problem_tell(p, ERR_ARGUMENT, "the secrets of the two directions must differ");
    }
    return OK;
}

enum err catalog_set_chap(struct catalog_host *host, const struct catalog_chap *chap, const struct catalog_chap *mutual,
                          struct problem *ret_problem)
{
    host->chap = *chap;
    host->mutual = *mutual;
    return check_both_chaps(host, ret_problem);
}

enum err catalog_add_host(struct catalog *c, const struct catalog_host *host, struct problem *ret_problem)
{
    TRY(catalog_check_name("host", host->name, ret_problem));
    TRY(check_both_chaps(host, ret_problem));
    if (catalog_host(c, host->name) != NULL) {
        problem_help(ret_problem, "izar host show %s tells about it; choose another name", host->name);
        return problem_tell(ret_problem, ERR_NAME_EXISTS, "there is a host %s already", host->name);
    }
    if (c->host_count == CATALOG_HOSTS_MAX) {
        return problem_tell(ret_problem, ERR_LIMIT, "there are %d hosts, the most a node can have", CATALOG_HOSTS_MAX);
    }
    struct catalog_host *added = &c->hosts[c->host_count];
    *added = *host;
    added->initiator_count = 0;
    for (uint32_t i = 0; i < host->initiator_count; i++) {
        c->host_count++; /* so that one given twice is found */
        enum err err = catalog_add_initiator(c, added, host->initiators[i], ret_problem);
        c->host_count--;
        if (err != OK) return err;
    }
    c->host_count++;
    return OK;
}

void catalog_remove_host(struct catalog *c, uint32_t id)
{
    struct catalog_host *h = catalog_host_by_id(c, id);
    if (h == NULL) return;
    size_t after = (size_t)(&c->hosts[c->host_count] - (h + 1));
    memmove(h, h + 1, after * sizeof *h);
    c->host_count--;
    remove_maps(c, 0, id);
}

enum err catalog_add_map(struct catalog *c, uint32_t volume, uint32_t host, uint32_t lun, struct problem *ret_problem)
{
    const struct catalog_map *there = catalog_map(c, volume, host);
    if (there != NULL)
        return problem_tell(ret_problem, ERR_NAME_EXISTS, "the host sees that volume already, as LUN %u", there->lun);
    if (lun == LUN_ANY) {
        for (lun = 0; lun <= LUN_MAX && catalog_map_at(c, host, lun) != NULL;) lun++;
    } else if (lun <= LUN_MAX && catalog_map_at(c, host, lun) != NULL) {
        problem_help(ret_problem, "leave the LUN out and the lowest free one is taken");
        return problem_tell(ret_problem, ERR_NAME_EXISTS, "the host sees another volume as LUN %u", lun);
    }
    if (lun > LUN_MAX || c->map_count == CATALOG_MAPS_MAX) {
        return problem_tell(ret_problem, ERR_LIMIT, "a host has LUNs 0 to %d, a node %d maps", LUN_MAX, CATALOG_MAPS_MAX);
    }
    c->maps[c->map_count++] = (struct catalog_map){.volume = volume, .host = host, .lun = lun};
    return OK;
}

void catalog_remove_map(struct catalog *c, uint32_t volume, uint32_t host)
{
    struct catalog_map *m = catalog_map(c, volume, host);
    if (m == NULL) return;
    size_t after = (size_t)(&c->maps[c->map_count] - (m + 1));
    memmove(m, m + 1, after * sizeof *m);
    c->map_count--;
}
