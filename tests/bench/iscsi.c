/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an initiator on the same machine sees: izard against tgtd (Debian's package tgt) on a file beside the pool, with direct
 * I/O and without a write cache, so that both promise the same. izar-load is the initiator for both; the two take turns.
 *
 * Also the resident memory of izard under this load; the latency of a cached read against a plain exchange of as many bytes
 * over TCP, which is what two processes and the loopback device cost by themselves; the CPU of a write against that of the
 * same write in process; and what a single write could take at best, on this disk and between these processes.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/bench.h"

enum { MEMORY_MIB = 256, RESIDENT_MIB_MAX = 320, CACHED_MIB = 16, COMMAND_BYTES = 48, EXCHANGES = 20000, CORPUS_MIB = 192 };
enum { DEPTH = 32 };

#define INITIATOR "iqn.2026-01.org.izar.test:load"
#define TGT_NAME "iqn.2026-01.org.izar.test:tgt"

struct peers {
    struct bench *bench;
    char dir[512], programs[512]; /* programs: of the build */
    uint64_t bytes;               /* of the volume, and of tgtd's file */
    pid_t izard, tgtd;
    char izard_url[256], tgt_url[256];
    uint16_t tgt_port;
    double exchange_us;           /* of a plain exchange over TCP */
    double alone_s, crowd_cpu_us; /* of izard: what a write takes alone, and the CPU of one of a crowd */
};

/* What izar-load printed. */
struct figures {
    double ops, mib, p50_us, commands;
    double cpu_s; /* of izard meanwhile */
};

/* ---- processes ---- */

/* Runs a line of shell; false: it failed. The first line that it printed goes to `ret_line`, unless that is NULL. */
static bool shell(char *ret_line, size_t size, const char *format, ...)
{
    char line[2048], skipped[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    FILE *out = popen(line, "r");
    if (out == NULL) return false;
    if (ret_line != NULL && fgets(ret_line, (int)size, out) != NULL) ret_line[strcspn(ret_line, "\n")] = '\0';
    while (fgets(skipped, sizeof skipped, out) != NULL) continue;
    return pclose(out) == 0;
}

/* Starts a program in the background, its words in `arguments`; it ends with the stage's process group at the latest. */
static pid_t start(const struct peers *p, char *const *arguments)
{
    char log[600];
    snprintf(log, sizeof log, "%s/%s.log", p->dir, strrchr(arguments[0], '/') != NULL ? "izard" : arguments[0]);
    pid_t child = fork();
    if (child < 0) must(ERR_NO_MEMORY, "a process");
    if (child > 0) return child;
    int fd = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd >= 0 && dup2(fd, 1) >= 0 && dup2(fd, 2) >= 0) execvp(arguments[0], arguments);
    _exit(127);
}

static void stop(pid_t *pid, int number)
{
    if (*pid <= 0) return;
    kill(*pid, number);
    waitpid(*pid, NULL, 0);
    *pid = 0;
}

/* ---- izard ---- */

/* A pool in a file that was written once, as that of tgtd will be and as a pool of some age is: the file system has nothing to
 * note down any more when it is written again. */
static void izard_start(struct peers *p)
{
    char program[600], folder[600], izar[700], pool[600], memory[32], portal[128] = "", target[128] = "";
    snprintf(program, sizeof program, "%s/izard", p->programs);
    snprintf(folder, sizeof folder, "%s/node", p->dir);
    snprintf(pool, sizeof pool, "%s/pool.img", p->dir);
    snprintf(memory, sizeof memory, "%dM", MEMORY_MIB);
    char *arguments[] = {program,
                         (char *)"--state",
                         folder,
                         (char *)"--pool",
                         pool,
                         (char *)"--format",
                         (char *)"--memory",
                         memory,
                         (char *)"--iscsi-listen",
                         (char *)"127.0.0.1:0",
                         NULL};
    uint64_t pool_mib = p->bytes / MIB * 3 + 2048;
    must(shell(NULL, 0, "dd if=/dev/zero of='%s' bs=1M count=%llu oflag=direct conv=fsync status=none", pool,
               (unsigned long long)pool_mib)
             ? OK
             : ERR_IO,
         pool);
    p->izard = start(p, arguments);
    snprintf(izar, sizeof izar, "'%s/izar' -q --socket '%s/node/izard.sock'", p->programs, p->dir);
    bool up = false;
    for (uint32_t i = 0; i < 100 && !up; i++, usleep(100000)) up = shell(NULL, 0, "%s status >'%s/status' 2>&1", izar, p->dir);
    up = up && shell(NULL, 0, "%s volume create v --size %llu --host h=%s-0 >'%s/status' 2>&1", izar,
                     (unsigned long long)p->bytes, INITIATOR, p->dir);
    up = up && shell(portal, sizeof portal, "%s target portals -o name", izar);
    up = up && shell(target, sizeof target, "%s target show -o name", izar);
    must(up ? OK : ERR_IO, "starting izard");
    snprintf(p->izard_url, sizeof p->izard_url, "iscsi://%s/%s/0", portal, target);
}

/* The largest resident size so far, in bytes. */
static double izard_resident(const struct peers *p)
{
    char line[128] = "";
    shell(line, sizeof line, "sed -n 's/^VmHWM:[^0-9]*//p' /proc/%d/status", (int)p->izard);
    return strtod(line, NULL) * 1024;
}

/* ---- tgtd ---- */

static uint16_t free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool good =
        fd >= 0 && bind(fd, (struct sockaddr *)&address, size) == 0 && getsockname(fd, (struct sockaddr *)&address, &size) == 0;
    must(good ? OK : ERR_IO, "a port");
    close(fd);
    return ntohs(address.sin_port);
}

/* False: it is not installed, or cannot run here. */
static bool tgtd_start(struct peers *p)
{
    char portal[64], socket_path[600];
    p->tgt_port = free_port();
    snprintf(portal, sizeof portal, "portal=127.0.0.1:%u", p->tgt_port);
    snprintf(socket_path, sizeof socket_path, "%s/tgt", p->dir);
    setenv("TGT_IPC_SOCKET", socket_path, 1);
    if (!shell(NULL, 0, "command -v tgtd tgtadm")) return false;
    char *arguments[] = {(char *)"tgtd", (char *)"-f", (char *)"-C", (char *)"77", (char *)"--iscsi", portal, NULL};
    p->tgtd = start(p, arguments);
    bool up = false;
    const char *to = "tgtadm -C 77 --lld iscsi --tid 1 --op";
    for (uint32_t i = 0; i < 50 && !up; i++, usleep(100000)) {
        up = shell(NULL, 0, "%s new --mode target -T %s >'%s/status' 2>&1", to, TGT_NAME, p->dir);
    }
    up = up && shell(NULL, 0, "%s new --mode logicalunit --lun 1 -b '%s/tgt.img' --bsoflags direct", to, p->dir);
    up = up && shell(NULL, 0, /* mode page 8, caching: WCE and all else 0 */
                     "%s update --mode logicalunit --lun 1 --params "
                     "mode_page=8:0:18:0x10:0:0xff:0xff:0:0:0xff:0xff:0xff:0xff:0x80:0x14:0:0:0:0:0:0",
                     to);
    up = up && shell(NULL, 0, "%s bind --mode target -I ALL", to);
    snprintf(p->tgt_url, sizeof p->tgt_url, "iscsi://127.0.0.1:%u/%s/1", p->tgt_port, TGT_NAME);
    return up;
}

/* ---- the load ---- */

/* CPU seconds that izard has used, in user mode and in the kernel. */
static double izard_cpu(const struct peers *p)
{
    char line[128] = "";
    double user = 0, kernel = 0;
    shell(line, sizeof line, "sed 's/.*) //' /proc/%d/stat | cut -d' ' -f12,13", (int)p->izard);
    must(sscanf(line, "%lf %lf", &user, &kernel) == 2 ? OK : ERR_IO, "reading the time that izard used");
    return (user + kernel) / (double)sysconf(_SC_CLK_TCK);
}

static struct figures load(const struct peers *p, const char *url, const char *what)
{
    char line[512] = "";
    struct figures f = {0};
    double before = izard_cpu(p);
    bool good = shell(line, sizeof line, "cd '%s' && '%s/tests/izar-load' bench %s --initiator %s %s", p->dir, p->programs, url,
                      INITIATOR, what);
    good = good && sscanf(line, "{\"ops\": %lf, \"mib\": %lf, \"p50_us\": %lf, \"p99_us\": %*f, \"commands\": %lf", &f.ops,
                          &f.mib, &f.p50_us, &f.commands) == 4;
    must(good ? OK : ERR_IO, "running izar-load");
    f.cpu_s = izard_cpu(p) - before;
    return f;
}

static void fill(const struct peers *p, const char *url)
{
    load(p, url, "--reads 0 --bytes 1048576 --depth 8 --sequential --once");
}

static const struct kind {
    const char *name, *arguments;
    bool large;    /* told in MiB a second */
    double target; /* times tgtd; 0: none */
} kinds[] = {
    {"iSCSI, random 4 KiB reads, depth 1", "--depth 1", false, 1.2},
    {"iSCSI, random 4 KiB reads, depth 32", "--depth 32", false, 1.5},
    {"iSCSI, random 4 KiB writes, depth 1", "--reads 0 --depth 1", false, 1.2},
    {"iSCSI, random 4 KiB writes, depth 32", "--reads 0 --depth 32", false, 1.5},
    {"iSCSI, 1 MiB sequential reads, depth 8, incompressible", "--bytes 1048576 --depth 8 --sequential", true, 1},
    {"iSCSI, 1 MiB sequential writes, depth 8, incompressible", "--reads 0 --bytes 1048576 --depth 8 --sequential", true, 1.3},
    {"iSCSI, 1 MiB sequential writes, depth 8, system binaries",
     "--reads 0 --bytes 1048576 --depth 8 --sequential --data corpus", true, 1},
};
enum { ALONE = 2, CROWD = 3 };

static void compare(struct peers *p, uint32_t which)
{
    const struct kind *kind = &kinds[which];
    double ours[ROUNDS_MAX], theirs[ROUNDS_MAX], cpu_us[ROUNDS_MAX];
    uint32_t rounds = p->bench->rounds;
    for (uint32_t i = 0; i < rounds; i++) {
        char what[160];
        snprintf(what, sizeof what, "%s --seconds %.2f --seed %u", kind->arguments, 2 * p->bench->scale, i + 1);
        struct figures a = load(p, p->izard_url, what), b = p->tgtd > 0 ? load(p, p->tgt_url, what) : (struct figures){0};
        ours[i] = kind->large ? a.mib : a.ops;
        theirs[i] = kind->large ? b.mib : b.ops;
        cpu_us[i] = a.cpu_s * 1e6 / a.commands;
    }
    if (which == CROWD) p->crowd_cpu_us = median(cpu_us, rounds);
    struct result r = {.value = median(ours, rounds), .unit = kind->large ? "MiB/s" : "commands/s"};
    snprintf(r.name, sizeof r.name, "%s", kind->name);
    if (p->tgtd > 0) {
        r.against = median(theirs, rounds);
        r.ratio = r.value / r.against;
        r.kind = kind->target > 0 ? AT_LEAST : NO_TARGET;
        r.target = kind->target;
    }
    snprintf(r.note, sizeof r.note, p->tgtd > 0 ? ", against tgtd" : " (there is no tgtd)");
    report(&r);
    if (which == ALONE) p->alone_s = 1 / r.value;
}

/* ---- the cost of an exchange ---- */

static bool all_of(int fd, uint8_t *data, size_t bytes, bool out)
{
    for (size_t at = 0; at < bytes;) {
        ssize_t n = out ? send(fd, data + at, bytes - at, MSG_NOSIGNAL) : recv(fd, data + at, bytes - at, 0);
        if (n <= 0) return false;
        at += (size_t)n;
    }
    return true;
}

static void answer_exchanges(int listener)
{
    static uint8_t data[COMMAND_BYTES + BLOCK_SIZE];
    int one = 1, fd = accept(listener, NULL, NULL);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    while (all_of(fd, data, COMMAND_BYTES, false) && all_of(fd, data, sizeof data, true)) continue;
    _exit(0);
}

/* The median time of one exchange with another process: a header there, a header and a block back; microseconds. */
static double exchange_us(void)
{
    static uint8_t data[COMMAND_BYTES + BLOCK_SIZE];
    static double took[EXCHANGES];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    bool good = bind(listener, (struct sockaddr *)&address, size) == 0 && listen(listener, 1) == 0 &&
                getsockname(listener, (struct sockaddr *)&address, &size) == 0;
    must(good ? OK : ERR_IO, "listening");
    pid_t child = fork();
    if (child < 0) must(ERR_NO_MEMORY, "a process");
    if (child == 0) {
        close(fd);
        answer_exchanges(listener);
    }
    good = connect(fd, (struct sockaddr *)&address, size) == 0;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    for (uint32_t i = 0; i < EXCHANGES && good; i++) {
        double from = usage_now().wall_s;
        good = all_of(fd, data, COMMAND_BYTES, true) && all_of(fd, data, sizeof data, false);
        took[i] = (usage_now().wall_s - from) * 1e6;
    }
    close(fd);
    close(listener);
    waitpid(child, NULL, 0);
    must(good ? OK : ERR_IO, "exchanging");
    return median(took, EXCHANGES);
}

static void compare_latency(struct peers *p)
{
    double ours[ROUNDS_MAX], plain[ROUNDS_MAX];
    char span[64], what[160];
    uint32_t rounds = p->bench->rounds;
    snprintf(span, sizeof span, "--span %u", CACHED_MIB * MIB);
    snprintf(what, sizeof what, "%s --bytes 1048576 --sequential --once", span);
    load(p, p->izard_url, what);
    load(p, p->izard_url, what); /* read twice, it stays in the cache */
    for (uint32_t i = 0; i < rounds; i++) {
        snprintf(what, sizeof what, "%s --depth 1 --seconds %.2f --seed %u", span, p->bench->scale, i + 1);
        plain[i] = exchange_us();
        ours[i] = load(p, p->izard_url, what).p50_us;
    }
    struct result r = {.name = "iSCSI, cached 4 KiB reads, depth 1, median latency, against a plain exchange over TCP",
                       .value = median(ours, rounds),
                       .unit = "us",
                       .against = median(plain, rounds),
                       .kind = AT_MOST,
                       .target = 2.2};
    r.ratio = r.value / r.against;
    p->exchange_us = r.against;
    report(&r);
}

/* ---- the same without iSCSI ---- */

struct crowd {
    struct prng prng;
    uint8_t *data; /* a block for each operation under way, and more */
    uint64_t next, volume_blocks;
};

enum { CROWD_BLOCKS = 4096 };

/* What izar-load writes: random blocks, each beginning with a number of its own. */
static bool next_of_crowd(struct flow *f, struct work_op *op)
{
    struct crowd *c = f->arg;
    uint64_t number = prng_next(&c->prng);
    op->lba = prng_below(&c->prng, c->volume_blocks);
    op->count = 1;
    op->data = c->data + c->next++ % CROWD_BLOCKS * BLOCK_SIZE;
    memcpy(op->data, &number, sizeof number);
    return true;
}

/* A pool like izard's, and the file below: CPU of a write of a crowd, and how long one durable write takes alone. */
static void in_process(struct stage *s)
{
    const struct peers *p = s->arg;
    uint32_t rounds = s->bench->rounds;
    double cpu_us[ROUNDS_MAX], alone[ROUNDS_MAX], seconds = 2 * s->bench->scale;
    char path[600];
    snprintf(path, sizeof path, "%s/beside", p->dir);
    struct pool_config pool = {
        .path = path, .bytes = p->bytes * 2 + 512ull * MIB, .written = true, .memory = (uint64_t)MEMORY_MIB * MIB};
    struct crowd c = {.volume_blocks = p->bytes / BLOCK_SIZE, .data = mem_alloc(s->mem, (uint64_t)CROWD_BLOCKS * BLOCK_SIZE)};
    prng_init(&c.prng, 5);
    prng_fill(&c.prng, c.data, (size_t)CROWD_BLOCKS * BLOCK_SIZE);
    struct io_file *file = raw_file(s, "iscsi/raw", 256ull * MIB);
    struct raw_job job = {.io = s->io,
                          .file = file,
                          .data = c.data,
                          .data_bytes = (uint64_t)CROWD_BLOCKS * BLOCK_SIZE,
                          .file_bytes = 256ull * MIB,
                          .bytes = BLOCK_SIZE,
                          .depth = 1,
                          .write = true,
                          .random = true,
                          .durable = true,
                          .seconds = seconds};
    struct store *store = bench_pool_make(s, &pool, c.volume_blocks);
    struct flow f = {.store = store,
                     .work = flow_open(s, store, DEPTH, 1),
                     .next = next_of_crowd,
                     .arg = &c,
                     .io = s->io,
                     .seconds = seconds};
    for (uint32_t i = 0; i < rounds; i++) {
        flow_run(&f);
        cpu_us[i] = f.used.cpu_s / (double)f.blocks * 1e6;
        job.seed = i;
        alone[i] = BLOCK_SIZE / raw_run(&job) * 1e6;
    }
    struct result cpu = {.name = "CPU of izard for a random 4 KiB write, depth 32, more than in process",
                         .value = p->crowd_cpu_us - median(cpu_us, rounds),
                         .unit = "us",
                         .kind = AT_MOST,
                         .target = 25};
    snprintf(cpu.note, sizeof cpu.note, " (%.1f us and %.1f us)", p->crowd_cpu_us, median(cpu_us, rounds));
    report(&cpu);
    double floor_us = median(alone, rounds) + p->exchange_us;
    struct result least = {.name = "iSCSI, random 4 KiB writes, depth 1: what disk and loopback leave possible",
                           .unit = "us",
                           .value = p->alone_s * 1e6,
                           .against = floor_us,
                           .ratio = p->alone_s * 1e6 / floor_us};
    snprintf(least.note, sizeof least.note, " (write %.0f us, exchange %.0f us)", median(alone, rounds), p->exchange_us);
    report(&least);
    must(store_close(store), "closing");
    io_file_close(file);
}

/* ---- the stage ---- */

/* Real data for izar-load, in the folder where it runs. */
static void write_corpus(struct stage *s)
{
    const struct peers *p = s->arg;
    char path[600];
    uint64_t blocks = (uint64_t)CORPUS_MIB * MIB / BLOCK_SIZE;
    uint8_t *data = mem_alloc(s->mem, blocks * BLOCK_SIZE);
    blocks = data_corpus(data, blocks);
    snprintf(path, sizeof path, "%s/corpus", p->dir);
    FILE *file = fopen(path, "w");
    bool good = file != NULL && fwrite(data, BLOCK_SIZE, blocks, file) == blocks;
    must(file != NULL && fclose(file) == 0 && good ? OK : ERR_IO, path);
    mem_free(s->mem, data);
}

void bench_iscsi(struct bench *b)
{
    struct peers p = {.bench = b, .bytes = ((uint64_t)(2048 * b->scale) + 64) * MIB};
    if (b->programs == NULL) return;
    snprintf(p.programs, sizeof p.programs, "%s", b->programs);
    must(realpath(b->dir, p.dir) != NULL ? OK : ERR_NO_FILE, b->dir);
    snprintf(p.dir + strlen(p.dir), sizeof p.dir - strlen(p.dir), "/iscsi");
    must(shell(NULL, 0, "rm -rf '%s' && mkdir '%s' && truncate -s %llu '%s/tgt.img'", p.dir, p.dir, (unsigned long long)p.bytes,
               p.dir)
             ? OK
             : ERR_IO,
         p.dir);
    izard_start(&p);
    if (!tgtd_start(&p)) stop(&p.tgtd, SIGKILL);
    fill(&p, p.izard_url);
    if (p.tgtd > 0) fill(&p, p.tgt_url);
    stage_run(b, write_corpus, &p);
    for (uint32_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) compare(&p, i);
    report(&(struct result){.name = "resident memory of izard with 256 MiB configured, under this load",
                            .value = izard_resident(&p) / MIB,
                            .unit = "MiB",
                            .kind = AT_MOST,
                            .target = RESIDENT_MIB_MAX});
    compare_latency(&p);
    stop(&p.tgtd, SIGKILL); /* it does not end while its units are attached */
    stop(&p.izard, SIGTERM);
    stage_run(b, in_process, &p);
    shell(NULL, 0, "rm -rf '%s'", p.dir);
}
