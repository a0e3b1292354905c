/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the programs ask of the machine, for Linux. Small and plain; errno dies in file_error, like everywhere here.
 */
#define _GNU_SOURCE
#include "io/host.h"

#include <ctype.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "io/loop.h"

enum { LISTEN_BACKLOG = 64, SIGNALS_STACK = 64 << 10, IMPATIENT_SECONDS = 2 };

/* ---- around the program ---- */

const char *host_environment(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' ? value : NULL;
}

bool host_is_terminal(int stream)
{
    return isatty(stream) == 1;
}

enum err host_read_secret(const char *prompt, char *buf, size_t size)
{
    struct termios before, silent;
    if (!host_is_terminal(0) || tcgetattr(0, &before) != 0) return ERR_UNSUPPORTED;
    silent = before;
    silent.c_lflag &= ~(tcflag_t)ECHO;
    tcsetattr(0, TCSAFLUSH, &silent);
    fputs(prompt, stderr);
    fflush(stderr);
    char *line = fgets(buf, (int)size, stdin);
    tcsetattr(0, TCSAFLUSH, &before);
    fputs("\n", stderr);
    if (line == NULL) return ERR_TRUNCATED;
    char *end = strchr(buf, '\n');
    if (end == NULL) return ERR_LIMIT;
    *end = '\0';
    return OK;
}

const char *host_name(char *buf, size_t size)
{
    char name[256];
    size_t n = 0;
    if (gethostname(name, sizeof name) != 0) name[0] = '\0';
    name[sizeof name - 1] = '\0';
    for (const char *at = name; *at != '\0' && *at != '.' && n + 1 < size; at++) {
        unsigned char c = (unsigned char)*at;
        if (isalnum(c) || (c == '-' && n > 0)) buf[n++] = (char)tolower(c);
    }
    buf[n] = '\0';
    if (n == 0) snprintf(buf, size, "node");
    return buf;
}

bool host_is_virtual(void)
{
    char line[4096];
    bool found = false;
    FILE *f = fopen("/proc/cpuinfo", "re");
    if (f == NULL) return true;
    while (!found && fgets(line, sizeof line, f) != NULL) found = strstr(line, " hypervisor") != NULL;
    fclose(f);
    return found;
}

uint64_t host_resident_bytes(void)
{
    unsigned long long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f == NULL) return 0;
    if (fscanf(f, "%*s %llu", &pages) != 1) pages = 0;
    fclose(f);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* ---- the wall clock ---- */

uint64_t host_wall_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec > 0 ? (uint64_t)now.tv_sec : 0;
}

void host_sleep_ms(uint32_t ms)
{
    struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000 * IO_MS_NS)};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) continue;
}

const char *host_time_text(uint64_t seconds, char buf[24])
{
    struct tm tm;
    time_t t = (time_t)seconds;
    if (gmtime_r(&t, &tm) == NULL || strftime(buf, 24, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        snprintf(buf, 24, "1970-01-01T00:00:00Z");
    return buf;
}

/* ---- addresses of the machine ---- */

/* Neither of the loopback nor of one link only. */
static bool is_reachable(const struct ifaddrs *a)
{
    if (a->ifa_addr == NULL || !(a->ifa_flags & IFF_UP) || (a->ifa_flags & IFF_LOOPBACK)) return false;
    if (a->ifa_addr->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)a->ifa_addr;
        return (ntohl(v4->sin_addr.s_addr) >> 16) != 0xa9fe; /* RFC 3927 */
    }
    if (a->ifa_addr->sa_family != AF_INET6) return false;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)a->ifa_addr;
    return !IN6_IS_ADDR_LINKLOCAL(&v6->sin6_addr);
}

static bool address_text(const struct sockaddr *address, char text[HOST_ADDRESS_SIZE])
{
    bool v6 = address->sa_family == AF_INET6;
    char host[HOST_ADDRESS_SIZE - 2];
    socklen_t size = v6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    if (getnameinfo(address, size, host, sizeof host, NULL, 0, NI_NUMERICHOST) != 0) return false;
    snprintf(text, HOST_ADDRESS_SIZE, v6 ? "[%s]" : "%s", host);
    return true;
}

uint32_t host_addresses(bool v4_only, char ret_addresses[HOST_ADDRESSES_MAX][HOST_ADDRESS_SIZE])
{
    struct ifaddrs *all = NULL;
    uint32_t count = 0;
    if (getifaddrs(&all) != 0) return 0;
    for (const struct ifaddrs *a = all; a != NULL && count < HOST_ADDRESSES_MAX; a = a->ifa_next) {
        if (!is_reachable(a) || (v4_only && a->ifa_addr->sa_family != AF_INET)) continue;
        count += address_text(a->ifa_addr, ret_addresses[count]);
    }
    freeifaddrs(all);
    return count;
}

/* ---- folders and paths ---- */

static enum err folder_make_one(const char *path)
{
    struct stat st;
    if (mkdir(path, 0700) == 0) return OK;
    int why = errno;
    if (stat(path, &st) == 0) return S_ISDIR(st.st_mode) ? OK : ERR_FILE_EXISTS;
    return file_error(why);
}

enum err host_folder_make(const char *path)
{
    char *copy = strdup(path);
    if (copy == NULL) return ERR_NO_MEMORY;
    enum err err = OK;
    for (char *at = copy + 1; err == OK && *copy != '\0' && *at != '\0'; at++) {
        if (*at != '/') continue;
        *at = '\0';
        err = folder_make_one(copy);
        *at = '/';
    }
    if (err == OK) err = folder_make_one(copy);
    free(copy);
    return err;
}

bool host_path_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

/* ---- a socket below a path ---- */

/* What lies at the path may go when it is a socket that nobody listens at. */
static enum err clear_path(const char *path, const struct sockaddr_un *address)
{
    struct stat st;
    if (lstat(path, &st) != 0) return errno == ENOENT ? OK : file_error(errno);
    if (!S_ISSOCK(st.st_mode)) return ERR_FILE_EXISTS;
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s < 0) return file_error(errno);
    int failed = connect(s, (const struct sockaddr *)address, sizeof *address) == 0 ? 0 : errno;
    close(s);
    if (failed == 0 || failed == EAGAIN) return ERR_LOCKED;
    if (failed != ECONNREFUSED) return file_error(failed);
    return unlink(path) == 0 ? OK : file_error(errno);
}

enum err host_listen_local(const char *path, int *ret_socket)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) > HOST_SOCKET_PATH_MAX) return ERR_LIMIT;
    memcpy(address.sun_path, path, strlen(path) + 1);
    TRY(clear_path(path, &address));
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s < 0) return file_error(errno);
    /* Nobody can connect before listen(), so the mode is right before the first one may try. */
    if (bind(s, (struct sockaddr *)&address, sizeof address) != 0 || chmod(path, 0600) != 0 || listen(s, LISTEN_BACKLOG) != 0) {
        int why = errno;
        close(s);
        return why == EADDRINUSE ? ERR_LOCKED : file_error(why);
    }
    *ret_socket = s;
    return OK;
}

void host_unlisten_local(const char *path, int socket)
{
    unlink(path);
    close(socket);
}

/* ---- being asked to stop ---- */

struct stop_wish {
    struct io *io;
    struct io_msg *msg;
};

static struct stop_wish stop_wish; /* one program, one wish */

static void *signals_run(void *arg)
{
    sigset_t *set = arg;
    int number;
    while (sigwait(set, &number) != 0) continue;
    io_send(stop_wish.io, stop_wish.msg);
    /* Whoever asks twice at once (timeout(1) signals the process and its group, a terminal the whole job) asked once. */
    for (uint64_t asked = host_wall_seconds(); host_wall_seconds() < asked + IMPATIENT_SECONDS;) {
        while (sigwait(set, &number) != 0) continue;
    }
    _exit(128 + number);
}

enum err host_on_stop(struct io *io, struct io_msg *msg)
{
    static sigset_t set;
    pthread_t thread;
    pthread_attr_t attr;
    stop_wish = (struct stop_wish){io, msg};
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, SIGNALS_STACK);
    int failed = pthread_create(&thread, &attr, signals_run, &set);
    pthread_attr_destroy(&attr);
    return failed == 0 ? OK : ERR_NO_MEMORY;
}

/* ---- the service manager ---- */

void host_notify(const char *text)
{
    const char *path = host_environment("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (path == NULL || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof address.sun_path) return;
    memcpy(address.sun_path, path, strlen(path));
    if (path[0] == '@') address.sun_path[0] = '\0';
    int s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (s < 0) return;
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    ssize_t sent = sendto(s, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&address, length);
    (void)sent; /* nobody listens: then nobody wants to know */
    close(s);
}

bool host_has_journal(void)
{
    return host_environment("JOURNAL_STREAM") != NULL;
}
