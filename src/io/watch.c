/* SPDX-License-Identifier: Apache-2.0 */
/*
 * host_watch: one thread that sleeps in poll for somebody else's descriptor and tells the loop by a message.
 *
 * The thread sleeps until it is armed, then until the descriptor can be read, then sends and sleeps again: at most one
 * message is under way, so one `struct io_msg` is enough. Closing wakes it through an eventfd and waits for its end.
 */
#define _GNU_SOURCE
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "io/host.h"
#include "io/loop.h"

enum { WATCH_STACK = 64 << 10 };

struct watcher {
    struct host_watch *watch;
    pthread_t thread;
    sem_t armed;
    int fd, wake_fd;
    atomic_bool stop;
};

static void *watcher_run(void *arg)
{
    struct watcher *w = arg;
    for (;;) {
        while (sem_wait(&w->armed) != 0 && errno == EINTR) continue;
        struct pollfd fds[] = {{.fd = w->fd, .events = POLLIN}, {.fd = w->wake_fd, .events = POLLIN}};
        while (!atomic_load(&w->stop) && poll(fds, 2, -1) < 0 && errno == EINTR) continue;
        if (atomic_load(&w->stop)) return NULL;
        io_send(w->watch->io, &w->watch->msg);
    }
}

static void watch_handle(struct io_msg *msg)
{
    struct host_watch *watch = CONTAINER(msg, struct host_watch, msg);
    if (watch->seam != NULL) watch->ready(watch);
}

enum err host_watch_open(struct io *io, int descriptor, struct host_watch *watch)
{
    pthread_attr_t attr;
    struct watcher *w = calloc(1, sizeof *w);
    if (w == NULL) return ERR_NO_MEMORY;
    w->watch = watch;
    w->fd = descriptor;
    w->wake_fd = eventfd(0, EFD_CLOEXEC);
    sem_init(&w->armed, 0, 0);
    watch->io = io;
    watch->msg = (struct io_msg){.handle = watch_handle};
    watch->seam = w;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, WATCH_STACK);
    int failed = w->wake_fd < 0 ? errno : pthread_create(&w->thread, &attr, watcher_run, w);
    pthread_attr_destroy(&attr);
    if (failed == 0) return OK;
    if (w->wake_fd >= 0) close(w->wake_fd);
    free(w);
    watch->seam = NULL;
    return ERR_NO_MEMORY;
}

void host_watch_arm(struct host_watch *watch)
{
    struct watcher *w = watch->seam;
    if (w != NULL) sem_post(&w->armed);
}

void host_watch_close(struct host_watch *watch)
{
    struct watcher *w = watch->seam;
    uint64_t one = 1;
    if (w == NULL) return;
    watch->seam = NULL;
    atomic_store(&w->stop, true);
    ssize_t n = write(w->wake_fd, &one, sizeof one);
    (void)n;
    sem_post(&w->armed);
    pthread_join(w->thread, NULL);
    close(w->wake_fd);
    sem_destroy(&w->armed);
    free(w);
}
