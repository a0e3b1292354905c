/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a program asks of the machine that it runs on, beside the I/O of its loops: its environment, the terminal, the wall
 * clock, folders, a local socket to be managed through, the wish to stop, the service manager.
 *
 * These belong to the start and the end of a program (and to the command line tools); nothing on the I/O path calls them.
 * A local socket is passed on as a number because the HTTP library takes it as that: it is the one descriptor that
 * leaves src/io, and nobody above reads, writes or closes it, except by the calls below.
 */
#ifndef IZAR_IO_HOST_H
#define IZAR_IO_HOST_H

#include "io/io.h"

/* ---- around the program ---- */

/* A variable of the environment, NULL when it is not set or empty. */
const char *host_environment(const char *name);
/* True when standard input (0), output (1) or error (2) is a terminal. */
bool host_is_terminal(int stream);
/* Asks on the terminal and reads one line without showing it. ERR_UNSUPPORTED without a terminal, ERR_LIMIT (too long). */
enum err host_read_secret(const char *prompt, char *buf, size_t size);
/* This machine's name up to the first dot, lower case, only letters, digits and '-'; never empty. Returns `buf`. */
const char *host_name(char *buf, size_t size);
/* True when this machine is a virtual one, as far as can be told: then its clock may stand still while others go on. */
bool host_is_virtual(void);
/* Resident memory of this process in bytes; 0 when the system does not tell. */
uint64_t host_resident_bytes(void);

enum { HOST_ADDRESSES_MAX = 8, HOST_ADDRESS_SIZE = 48 };
/* Addresses that other machines may reach this one at, as "192.0.2.1" or "[2001:db8::1]": of interfaces that are up, not of the
 * loopback, not of one link only. Returns how many; `v4_only`: none of IPv6. */
uint32_t host_addresses(bool v4_only, char ret_addresses[HOST_ADDRESSES_MAX][HOST_ADDRESS_SIZE]);

/* ---- the wall clock: for people and records only, never for decisions ---- */

uint64_t host_wall_seconds(void); /* since 1970, UTC */
void host_sleep_ms(uint32_t ms);  /* of a program without loops: the whole thread */
/* "2026-03-01T12:30:00Z". Returns `buf`. */
const char *host_time_text(uint64_t seconds, char buf[24]);

/* ---- folders and paths ---- */

/* Makes the folder and those above it that are missing, for its owner only (0700). OK when it is there. */
enum err host_folder_make(const char *path);
bool host_path_exists(const char *path);

/* ---- a socket below a path ---- */

enum { HOST_SOCKET_PATH_MAX = 107 };

/* Listens at `path` for this user only (0600). What a dead process left there is replaced. ERR_LOCKED (somebody listens),
 * ERR_LIMIT (the path is longer than HOST_SOCKET_PATH_MAX), ERR_FILE_EXISTS (it is not a socket), ERR_PERMISSION... */
enum err host_listen_local(const char *path, int *ret_socket);
/* Stops listening and removes the path. */
void host_unlisten_local(const char *path, int socket);

/* ---- waiting for what is not a file of ours ---- */

/*
 * Tells a loop when a descriptor can be read, one armed wait at a time. Works on both back ends alike: a thread of its own
 * sleeps in poll and sends a message. Costs a wake-up an event, so it is for management, not for I/O.
 */
struct host_watch {
    void (*ready)(struct host_watch *watch); /* on the loop; then arm it again */
    /* private */
    struct io *io;
    struct io_msg msg;
    void *seam;
};

/* Not armed yet. The struct must live until the loops have returned. ERR_NO_MEMORY. */
enum err host_watch_open(struct io *io, int descriptor, struct host_watch *watch);
void host_watch_arm(struct host_watch *watch);
/* `ready` does not run any more. Harmless when it was not opened. */
void host_watch_close(struct host_watch *watch);

/* ---- being asked to stop ---- */

/* From now on SIGTERM and SIGINT send `msg` to the loop, once; another one seconds later ends the process. SIGPIPE is ignored.
 * Call before the loops run: the threads that are started later inherit what is set here. ERR_NO_MEMORY. */
enum err host_on_stop(struct io *io, struct io_msg *msg);

/* Tells the service manager, when there is one ("READY=1", "STOPPING=1\nSTATUS=..."): sd_notify(3)'s protocol. */
void host_notify(const char *text);
/* Standard error goes to the journal: lines may carry a priority in front ("<4>text"). */
bool host_has_journal(void);

#endif
