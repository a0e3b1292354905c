/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk behind iSCSI, from the command line, through libiscsi and as an ordinary user:
 *
 *     disk write URL FILE     stores the file from block 0 on; zeros are left out, for a volume that is new
 *     disk verify URL FILE    reads as much as the file has and compares; exit code 1 says where they differ
 *     disk read URL FILE      the other way round: the whole volume into a file, zeros as holes
 *     disk hold URL           logs in and stays until standard input ends
 *     disk groups URL         prints the states of the target port groups, as a host with multipath asks for them
 *     disk fill URL           writes until the pool is full, takes half of it back and writes again, all in one session
 *
 * URL is iscsi://[USER[%SECRET]@]HOST:PORT/TARGET/LUN; the initiator's name comes from DISK_INITIATOR. Many requests are under
 * way at once. Progress goes to standard error when that is a terminal, one line at the end to standard output.
 */
#include <errno.h>
#include <fcntl.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PIECE = 256 << 10, DEPTH = 16 };

enum verb { WRITE, VERIFY, READ, HOLD, FILL, GROUPS };

struct disk {
    struct iscsi_context *iscsi;
    int lun;
    uint32_t block;
    uint64_t size; /* of the volume, bytes */
    enum verb verb;
    int file;
    uint64_t end, next, done, sent; /* of the transfer; sent: bytes that went over the wire */
    uint32_t under_way;
    bool failed, differs;
    struct timespec began;
};

struct piece {
    struct disk *disk;
    uint64_t offset;
    uint32_t bytes, whole; /* of the file; rounded up to blocks */
    bool busy;
    uint8_t data[PIECE];
};

static struct piece pieces[DEPTH];

static int complain(const char *what, const char *why)
{
    fprintf(stderr, "disk: %s: %s\n", what, why);
    return 2;
}

static bool all_zero(const uint8_t *data, size_t size)
{
    return data[0] == 0 && memcmp(data, data + 1, size - 1) == 0;
}

static double seconds_since(const struct timespec *began)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - began->tv_sec) + (double)(now.tv_nsec - began->tv_nsec) / 1e9;
}

static void show_progress(const struct disk *d)
{
    static uint64_t shown;
    uint64_t percent = d->end > 0 ? d->done * 100 / d->end : 100;
    if (percent == shown || !isatty(2)) return;
    shown = percent;
    fprintf(stderr, "\r%3llu %%%s", (unsigned long long)percent, percent == 100 ? "\n" : "");
}

/* ---- pieces ---- */

static void settle(struct piece *p)
{
    struct disk *d = p->disk;
    d->done += p->bytes;
    p->busy = false;
    show_progress(d);
}

/* What came from the disk. */
static void take_data(struct piece *p, const uint8_t *data)
{
    struct disk *d = p->disk;
    if (d->verb == READ) {
        if (!all_zero(data, p->bytes) && pwrite(d->file, data, p->bytes, (off_t)p->offset) != (ssize_t)p->bytes) {
            complain("cannot write the file", strerror(errno));
            d->failed = true;
        }
        return;
    }
    if (memcmp(data, p->data, p->bytes) == 0) return;
    uint32_t at = 0;
    while (data[at] == p->data[at]) at++;
    if (!d->differs) printf("differs from byte %llu on\n", (unsigned long long)(p->offset + at));
    d->differs = true;
}

static void finished(struct iscsi_context *iscsi, int status, void *command, void *arg)
{
    struct piece *p = arg;
    struct disk *d = p->disk;
    struct scsi_task *task = command;
    d->under_way--;
    if (status != SCSI_STATUS_GOOD) {
        if (!d->failed) complain(d->verb == WRITE ? "write" : "read", iscsi_get_error(iscsi));
        d->failed = true;
    } else if (d->verb != WRITE) {
        if (task->datain.size < (int)p->bytes) {
            complain("read", "less data than asked for");
            d->failed = true;
        } else {
            take_data(p, task->datain.data);
        }
    }
    settle(p);
    scsi_free_scsi_task(task);
}

static bool submit(struct piece *p)
{
    struct disk *d = p->disk;
    uint64_t lba = p->offset / d->block;
    struct scsi_task *task =
        d->verb == WRITE
            ? iscsi_write16_task(d->iscsi, d->lun, lba, p->data, p->whole, (int)d->block, 0, 0, 0, 0, 0, finished, p)
            : iscsi_read16_task(d->iscsi, d->lun, lba, p->whole, (int)d->block, 0, 0, 0, 0, 0, finished, p);
    if (task == NULL) return false;
    d->under_way++;
    d->sent += p->whole;
    return true;
}

/* Reads the file's part; false when it cannot. */
static bool load_piece(struct piece *p)
{
    memset(p->data + p->bytes, 0, p->whole - p->bytes);
    return p->disk->verb == READ || pread(p->disk->file, p->data, p->bytes, (off_t)p->offset) == (ssize_t)p->bytes;
}

static void fill_window(struct disk *d)
{
    for (uint32_t i = 0; i < DEPTH && !d->failed; i++) {
        struct piece *p = &pieces[i];
        while (!p->busy && d->next < d->end && !d->failed) {
            uint64_t left = d->end - d->next;
            p->disk = d;
            p->offset = d->next;
            p->bytes = left < PIECE ? (uint32_t)left : PIECE;
            p->whole = (p->bytes + d->block - 1) / d->block * d->block;
            p->busy = true;
            d->next += p->bytes;
            if (!load_piece(p)) {
                complain("cannot read the file", strerror(errno));
                d->failed = true;
            } else if (d->verb == WRITE && all_zero(p->data, p->bytes)) {
                settle(p);
            } else if (!submit(p)) {
                complain("request", iscsi_get_error(d->iscsi));
                d->failed = true;
            }
        }
    }
}

/* One turn of libiscsi; `extra` is a descriptor that ends the wait too, or -1. */
static bool serve(struct disk *d, int extra, bool *ret_extra)
{
    struct pollfd fds[] = {{.fd = iscsi_get_fd(d->iscsi), .events = (short)iscsi_which_events(d->iscsi)},
                           {.fd = extra, .events = POLLIN}};
    if (poll(fds, extra >= 0 ? 2 : 1, 1000) < 0 && errno != EINTR) return false;
    if (ret_extra != NULL) *ret_extra = extra >= 0 && fds[1].revents != 0;
    return iscsi_service(d->iscsi, fds[0].revents) == 0;
}

static int transfer(struct disk *d)
{
    static const char *const done[] = {"written", "compared, equal", "read"};
    clock_gettime(CLOCK_MONOTONIC, &d->began);
    for (;;) {
        fill_window(d);
        if (d->under_way == 0) break;
        if (!serve(d, -1, NULL)) return complain("connection", iscsi_get_error(d->iscsi));
    }
    if (!d->failed && d->verb == WRITE) {
        struct scsi_task *task = iscsi_synchronizecache16_sync(d->iscsi, d->lun, 0, 0, 0, 0);
        if (task == NULL || task->status != SCSI_STATUS_GOOD) return complain("flush", iscsi_get_error(d->iscsi));
        scsi_free_scsi_task(task);
    }
    if (d->failed) return 2;
    if (d->differs) return 1;
    double seconds = seconds_since(&d->began), mib = (double)d->end / 1048576;
    printf("%.0f MiB %s in %.1f s; %.0f MiB of data at %.0f MiB/s\n", mib, done[d->verb], seconds, (double)d->sent / 1048576,
           (double)d->sent / 1048576 / seconds);
    return 0;
}

static int hold(struct disk *d)
{
    printf("holding\n");
    fflush(stdout);
    for (bool input = false;;) {
        char byte;
        if (!serve(d, 0, &input)) return complain("connection", iscsi_get_error(d->iscsi));
        if (input && read(0, &byte, 1) <= 0) return 0;
    }
}

/* REPORT TARGET PORT GROUPS (SPC-4 6.37). */
static int groups(struct disk *d)
{
    enum { ROOM = 256, HEAD = 4, GROUP_HEAD = 8, PORT = 4 };
    static unsigned char cdb[12] = {0xa3, 0x0a, 0, 0, 0, 0, 0, 0, ROOM >> 8, ROOM & 0xff};
    struct scsi_task *task = scsi_create_task(sizeof cdb, cdb, SCSI_XFER_READ, ROOM);
    if (task == NULL || iscsi_scsi_command_sync(d->iscsi, d->lun, task, NULL) == NULL || task->status != SCSI_STATUS_GOOD)
        return complain("report target port groups", iscsi_get_error(d->iscsi));
    const unsigned char *at = task->datain.data, *end = at + task->datain.size;
    for (at += HEAD; end - at >= GROUP_HEAD; at += GROUP_HEAD + PORT * at[7]) {
        const char *state = (at[0] & 15) == 0 ? "optimized" : (at[0] & 15) == 3 ? "unavailable" : "transitioning";
        printf("group %u %s\n", (unsigned)(at[2] << 8 | at[3]), state);
    }
    scsi_free_scsi_task(task);
    return 0;
}

/* ---- a pool that runs full ---- */

enum { FILL_PIECE = PIECE, SPACE_ALLOCATION_FAILED = 0x2707 };

/* Bytes that no other piece has. */
static void fill_content(uint32_t number, uint8_t *data)
{
    uint64_t x = number * 0x9e3779b97f4a7c15u + 1;
    for (uint32_t i = 0; i < FILL_PIECE; i += 8) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        memcpy(data + i, &x, 8);
    }
}

enum outcome { GOOD, FULL, OTHER };

static enum outcome outcome_of(struct disk *d, struct scsi_task *task, const char *what)
{
    enum outcome outcome = OTHER;
    if (task != NULL && task->status == SCSI_STATUS_GOOD) outcome = GOOD;
    if (task != NULL && task->status == SCSI_STATUS_CHECK_CONDITION && task->sense.key == SCSI_SENSE_DATA_PROTECTION &&
        task->sense.ascq == SPACE_ALLOCATION_FAILED)
        outcome = FULL;
    if (outcome == OTHER) complain(what, iscsi_get_error(d->iscsi));
    if (task != NULL) scsi_free_scsi_task(task);
    return outcome;
}

static enum outcome fill_write(struct disk *d, uint32_t number)
{
    fill_content(number, pieces[0].data);
    return outcome_of(d,
                      iscsi_write16_sync(d->iscsi, d->lun, (uint64_t)number * FILL_PIECE / d->block, pieces[0].data, FILL_PIECE,
                                         (int)d->block, 0, 0, 0, 0, 0),
                      "write");
}

static bool fill_is_there(struct disk *d, uint32_t number)
{
    fill_content(number, pieces[0].data);
    struct scsi_task *task =
        iscsi_read16_sync(d->iscsi, d->lun, (uint64_t)number * FILL_PIECE / d->block, FILL_PIECE, (int)d->block, 0, 0, 0, 0, 0);
    bool same = task != NULL && task->status == SCSI_STATUS_GOOD && task->datain.size == FILL_PIECE &&
                memcmp(task->datain.data, pieces[0].data, FILL_PIECE) == 0;
    if (task != NULL) scsi_free_scsi_task(task);
    return same;
}

static bool all_there(struct disk *d, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++)
        if (!fill_is_there(d, i)) return false;
    return true;
}

/* Space comes back when the cleaner has been by: until then the answer is the same. */
static enum outcome fill_patiently(struct disk *d, uint32_t number)
{
    enum { TRIES = 300, PAUSE_MS = 100 };
    enum outcome outcome = FULL;
    for (int i = 0; i < TRIES && outcome == FULL; i++) {
        if (i > 0) poll(NULL, 0, PAUSE_MS);
        outcome = fill_write(d, number);
    }
    return outcome;
}

static int fill(struct disk *d)
{
    uint32_t most = (uint32_t)(d->size / FILL_PIECE), count = 0, again = 0;
    enum outcome outcome = GOOD;
    while (count < most && (outcome = fill_write(d, count)) == GOOD) count++;
    if (outcome != FULL) return complain("fill", "the pool does not say that it is full");
    if (fill_write(d, count) != FULL) return complain("fill", "full, and then not any more");
    if (!all_there(d, 0, count)) return complain("fill", "what was written is not there");
    struct unmap_list half = {.lba = 0, .num = count / 2 * (FILL_PIECE / d->block)};
    if (outcome_of(d, iscsi_unmap_sync(d->iscsi, d->lun, 0, 0, &half, 1), "unmap") != GOOD) return 2;
    while (again < count / 4 && fill_patiently(d, again) == GOOD) again++;
    if (again < count / 4) return complain("fill", "space does not come back");
    if (!all_there(d, 0, again) || !all_there(d, count / 2, count)) return complain("fill", "something is lost");
    printf("full after %u pieces, %u of them written again\n", count, again);
    return 0;
}

/* ---- the disk ---- */

static int log_in(struct disk *d, const char *address)
{
    const char *name = getenv("DISK_INITIATOR");
    d->iscsi = iscsi_create_context(name != NULL ? name : "iqn.2026-01.org.izar.test:disk");
    struct iscsi_url *url = d->iscsi != NULL ? iscsi_parse_full_url(d->iscsi, address) : NULL;
    if (url == NULL) return complain(address, "not iscsi://HOST:PORT/TARGET/LUN");
    d->lun = url->lun;
    iscsi_set_targetname(d->iscsi, url->target);
    iscsi_set_session_type(d->iscsi, ISCSI_SESSION_NORMAL);
    iscsi_set_header_digest(d->iscsi, ISCSI_HEADER_DIGEST_NONE);
    iscsi_set_noautoreconnect(d->iscsi, 1);
    iscsi_set_timeout(d->iscsi, 60);
    int failed = iscsi_full_connect_sync(d->iscsi, url->portal, url->lun);
    iscsi_destroy_url(url);
    return failed == 0 ? 0 : complain("login", iscsi_get_error(d->iscsi));
}

static int measure(struct disk *d)
{
    struct scsi_task *task = iscsi_readcapacity16_sync(d->iscsi, d->lun);
    struct scsi_readcapacity16 *c = task != NULL && task->status == SCSI_STATUS_GOOD ? scsi_datain_unmarshall(task) : NULL;
    if (c == NULL) return complain("read capacity", iscsi_get_error(d->iscsi));
    d->block = c->block_length;
    d->size = (c->returned_lba + 1) * c->block_length;
    scsi_free_scsi_task(task);
    return PIECE % d->block == 0 ? 0 : complain("block length", "odd");
}

static int open_file(struct disk *d, const char *path)
{
    struct stat st;
    d->file = d->verb == READ ? open(path, O_RDWR | O_CREAT | O_TRUNC, 0600) : open(path, O_RDONLY);
    if (d->file < 0 || fstat(d->file, &st) != 0) return complain(path, strerror(errno));
    d->end = d->verb == READ ? d->size : (uint64_t)st.st_size;
    if (d->verb == READ && ftruncate(d->file, (off_t)d->size) != 0) return complain(path, strerror(errno));
    return d->end <= d->size ? 0 : complain(path, "is larger than the volume");
}

int main(int argc, char **argv)
{
    static const char *const verbs[] = {"write", "verify", "read", "hold", "fill", "groups"};
    struct disk d = {.file = -1};
    while (d.verb <= GROUPS && argc > 1 && strcmp(argv[1], verbs[d.verb]) != 0) d.verb++;
    if (d.verb > GROUPS || argc != (d.verb >= HOLD ? 3 : 4))
        return complain("usage", "disk write|verify|read|hold|fill|groups URL [FILE]");
    int wrong = log_in(&d, argv[2]);
    if (wrong == 0) wrong = measure(&d);
    if (wrong == 0 && d.verb < HOLD) wrong = open_file(&d, argv[3]);
    if (wrong == 0)
        wrong = d.verb == HOLD ? hold(&d) : d.verb == FILL ? fill(&d) : d.verb == GROUPS ? groups(&d) : transfer(&d);
    if (d.iscsi != NULL && iscsi_is_logged_in(d.iscsi)) iscsi_logout_sync(d.iscsi);
    if (d.iscsi != NULL) iscsi_destroy_context(d.iscsi);
    if (d.file >= 0 && close(d.file) != 0 && wrong == 0) wrong = complain("cannot write the file", strerror(errno));
    return wrong;
}
