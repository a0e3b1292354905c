/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A load on an iSCSI target, through libiscsi: several initiators in one process, each with many commands under way at once.
 *
 *     izar-load run URL LEDGER      random commands of all kinds and sizes over the whole volume; each answer is checked, and
 *                                   the ledger knows at any moment what each sector may hold
 *     izar-load verify URL LEDGER   reads the whole volume and compares it with the ledger
 *     izar-load bench URL           one kind of command, nothing is checked; prints what was measured as one line of JSON
 *
 * The first `run` makes the ledger, for a volume that is all zero; later ones, also after the target was killed and the volume
 * verified, go on with it. URL is iscsi://[USER[%SECRET]@]HOST:PORT/TARGET/LUN. The initiators are called NAME-0, NAME-1...
 *
 * Exit code 0: all is well; 1: the data is wrong, or a command or the login failed; 2: usage; 3: `run` lost its connections.
 */
#include "e2e/load.h"

#include <errno.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { TURN_MS = 100, ANSWER_SECONDS = 60, LOGIN_SECONDS = 3 };

static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
    (void)number;
    stopped = 1;
}

bool load_stopped(void)
{
    return stopped != 0;
}

void load_fail(const char *what, const char *why)
{
    fprintf(stderr, "izar-load: %s: %s\n", what, why);
    exit(EXIT_WRONG);
}

void *load_alloc(size_t size)
{
    void *at = calloc(1, size);
    if (at == NULL) load_fail("memory", "there is none");
    return at;
}

double load_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* ---- sessions ---- */

static bool log_in(struct session *s, const struct load *load, uint32_t index, char *ret_why, size_t size)
{
    char name[256];
    snprintf(name, sizeof name, "%s-%u", load->initiator, index);
    s->iscsi = iscsi_create_context(name);
    const char *path = s->path == 0 ? load->url : load->other;
    struct iscsi_url *url = s->iscsi != NULL ? iscsi_parse_full_url(s->iscsi, path) : NULL;
    if (url == NULL) load_fail(path, "not iscsi://HOST:PORT/TARGET/LUN");
    s->lun = url->lun;
    iscsi_set_session_type(s->iscsi, ISCSI_SESSION_NORMAL);
    iscsi_set_header_digest(s->iscsi, load->digest ? ISCSI_HEADER_DIGEST_CRC32C : ISCSI_HEADER_DIGEST_NONE);
    iscsi_set_immediate_data(s->iscsi, load->no_immediate ? ISCSI_IMMEDIATE_DATA_NO : ISCSI_IMMEDIATE_DATA_YES);
    iscsi_set_noautoreconnect(s->iscsi, 1);
    iscsi_set_timeout(s->iscsi, load->other != NULL ? LOGIN_SECONDS : ANSWER_SECONDS);
    bool in = iscsi_full_connect_sync(s->iscsi, url->portal, url->lun) == 0;
    struct scsi_task *task = in ? iscsi_readcapacity16_sync(s->iscsi, s->lun) : NULL;
    struct scsi_readcapacity16 *c = task != NULL && task->status == SCSI_STATUS_GOOD ? scsi_datain_unmarshall(task) : NULL;
    if (c != NULL) {
        s->sectors = (c->returned_lba + 1) * c->block_length / SECTOR;
        if (c->block_length != SECTOR) load_fail("the volume", "has blocks of another size than 512 bytes");
        iscsi_set_timeout(s->iscsi, ANSWER_SECONDS);
        s->heard = load_now();
    } else {
        snprintf(ret_why, size, "%s", iscsi_get_error(s->iscsi));
        iscsi_destroy_context(s->iscsi);
    }
    if (task != NULL) scsi_free_scsi_task(task);
    iscsi_destroy_url(url);
    return c != NULL;
}

static void log_in_somewhere(struct session *s, const struct load *load, uint32_t index, double since)
{
    char why[256] = "";
    while (!log_in(s, load, index, why, sizeof why)) {
        if (load_now() - since >= load->wait) load_fail("login", why);
        if (load->other != NULL) s->path ^= 1;
        usleep(10000);
    }
}

void session_open(struct session *s, const struct load *load, uint32_t index)
{
    memset(s, 0, sizeof *s);
    log_in_somewhere(s, load, index, load->began);
}

void session_move(struct session *s, const struct load *load, uint32_t index)
{
    iscsi_destroy_context(s->iscsi);
    s->path ^= 1;
    s->lost = false;
    log_in_somewhere(s, load, index, load_now());
}

void session_close(struct session *s)
{
    if (!s->lost) iscsi_logout_sync(s->iscsi);
    iscsi_destroy_context(s->iscsi);
}

bool session_gone(struct session *s, int status)
{
    if (status == SCSI_STATUS_TIMEOUT) load_fail("a command", "no answer for a long time");
    if (status != SCSI_STATUS_CANCELLED && status != SCSI_STATUS_ERROR) return false;
    s->lost = true;
    return true;
}

void sessions_serve(struct session *sessions, uint32_t count)
{
    struct pollfd fds[SESSIONS_MAX];
    for (uint32_t i = 0; i < count; i++) {
        struct session *s = &sessions[i];
        fds[i] = (struct pollfd){.fd = -1};
        if (!s->lost) fds[i] = (struct pollfd){.fd = iscsi_get_fd(s->iscsi), .events = (short)iscsi_which_events(s->iscsi)};
    }
    if (poll(fds, count, TURN_MS) < 0 && errno != EINTR) load_fail("poll", strerror(errno));
    for (uint32_t i = 0; i < count; i++) {
        if (!sessions[i].lost && iscsi_service(sessions[i].iscsi, fds[i].revents) < 0) sessions[i].lost = true;
    }
}

/* ---- arguments ---- */

enum option_kind { OPTION_NUMBER, OPTION_BIG, OPTION_SECONDS, OPTION_TEXT, OPTION_FLAG };

static const struct option {
    const char *name;
    enum option_kind kind;
    size_t at;
    const char *what;
} options[] = {
    {"--sessions", OPTION_NUMBER, offsetof(struct load, sessions), "initiators, up to 16 (4; bench: 1)"},
    {"--depth", OPTION_NUMBER, offsetof(struct load, depth), "commands under way in each (16)"},
    {"--seconds", OPTION_SECONDS, offsetof(struct load, seconds), "ends then (run: never; bench: 5)"},
    {"--commands", OPTION_BIG, offsetof(struct load, commands), "run: ends after so many"},
    {"--seed", OPTION_BIG, offsetof(struct load, seed), "of what is chosen (1)"},
    {"--initiator", OPTION_TEXT, offsetof(struct load, initiator), "NAME of all of them (iqn.2026-01.org.izar.test:load)"},
    {"--other", OPTION_TEXT, offsetof(struct load, other), "run: URL of a second path; what is not answered goes that way"},
    {"--silence", OPTION_SECONDS, offsetof(struct load, silence), "run: so long without an answer a path is given up (5)"},
    {"--wait", OPTION_SECONDS, offsetof(struct load, wait), "so long, a target that is not there is tried again"},
    {"--digest", OPTION_FLAG, offsetof(struct load, digest), "header digests"},
    {"--no-immediate", OPTION_FLAG, offsetof(struct load, no_immediate), "no immediate data"},
    {"--bytes", OPTION_NUMBER, offsetof(struct load, bytes), "bench: of a command, at most 1 MiB (4096)"},
    {"--reads", OPTION_NUMBER, offsetof(struct load, reads), "bench: percent (100)"},
    {"--span", OPTION_BIG, offsetof(struct load, span), "bench: bytes of the volume that are used (all)"},
    {"--data", OPTION_TEXT, offsetof(struct load, data), "bench: a file, whose content is written (what does not compress)"},
    {"--sequential", OPTION_FLAG, offsetof(struct load, sequential), "bench: one after the other, not anywhere"},
    {"--once", OPTION_FLAG, offsetof(struct load, once), "bench: once through the span, whatever time it takes"},
};
enum { OPTIONS = sizeof options / sizeof options[0] };

static int usage(void)
{
    fprintf(stderr, "usage: izar-load run|verify URL LEDGER [OPTIONS]\n       izar-load bench URL [OPTIONS]\n");
    for (uint32_t i = 0; i < OPTIONS; i++) fprintf(stderr, "    %-16s %s\n", options[i].name, options[i].what);
    return EXIT_USAGE;
}

static bool take(struct load *load, const struct option *o, const char *value)
{
    char *at = (char *)load + o->at, *end = NULL;
    if (o->kind == OPTION_NUMBER) *(uint32_t *)(void *)at = (uint32_t)strtoul(value, &end, 0);
    if (o->kind == OPTION_BIG) *(uint64_t *)(void *)at = strtoull(value, &end, 0);
    if (o->kind == OPTION_SECONDS) *(double *)(void *)at = strtod(value, &end);
    if (o->kind == OPTION_TEXT) *(const char **)(void *)at = value;
    return end == NULL || (end != value && *end == '\0');
}

static bool parse(int argc, char **argv, struct load *load)
{
    for (int i = 1; i < argc; i++) {
        uint32_t o = 0;
        while (o < OPTIONS && strcmp(argv[i], options[o].name) != 0) o++;
        if (o < OPTIONS && options[o].kind == OPTION_FLAG) {
            *((bool *)load + options[o].at) = true;
        } else if (o < OPTIONS) {
            if (++i == argc || !take(load, &options[o], argv[i])) return false;
        } else if (load->verb == NULL) {
            load->verb = argv[i];
        } else if (load->url == NULL) {
            load->url = argv[i];
        } else if (load->ledger == NULL) {
            load->ledger = argv[i];
        } else {
            return false;
        }
    }
    bool in_bounds = load->depth > 0 && load->depth <= 1024 && load->sessions <= SESSIONS_MAX && load->bytes > 0 &&
                     load->bytes <= 1 << 20 && load->bytes % SECTOR == 0 && load->reads <= 100;
    return load->url != NULL && in_bounds && (load->ledger != NULL) == (strcmp(load->verb, "bench") != 0);
}

int main(int argc, char **argv)
{
    struct load load = {.initiator = "iqn.2026-01.org.izar.test:load",
                        .seed = 1,
                        .depth = 16,
                        .bytes = 4096,
                        .reads = 100,
                        .began = load_now()};
    if (!parse(argc, argv, &load)) return usage();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    if (strcmp(load.verb, "run") == 0) return load_run(&load);
    if (strcmp(load.verb, "verify") == 0) return load_verify(&load);
    return strcmp(load.verb, "bench") == 0 ? load_bench(&load) : usage();
}
