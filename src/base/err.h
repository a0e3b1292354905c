/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every way Izar can fail, once.
 *
 * `enum err` is the only failure type of the product; OK is 0. Each error belongs to a class, and each protocol edge (SCSI
 * sense, NTSTATUS, HTTP problem, exit code) maps *classes* in exactly one exhaustive switch. Lower layers return errors,
 * edges report them, once. errno never leaves src/io.
 */
#ifndef IZAR_BASE_ERR_H
#define IZAR_BASE_ERR_H

/* What kind of trouble it is; decides what a client is told. */
enum err_class {
    ERR_CLASS_FINE,      /* no error */
    ERR_CLASS_INVALID,   /* the caller asked for something that cannot be */
    ERR_CLASS_NOT_FOUND, /* the thing named does not exist */
    ERR_CLASS_EXISTS,    /* the thing named exists already */
    ERR_CLASS_BUSY,      /* try again later, or somebody else holds it */
    ERR_CLASS_FULL,      /* no space: thin provisioning sense codes */
    ERR_CLASS_CORRUPT,   /* the medium lost or changed data: medium error */
    ERR_CLASS_DEVICE,    /* the device failed: hardware error */
    ERR_CLASS_FOREIGN,   /* not ours, another pool's, or a newer format */
    ERR_CLASS_STOPPED,   /* shut down or cut off while the operation ran */
    ERR_CLASS_DIFFERENT, /* content is not what the caller expected it to be */
};

/*      name                  class      text */
#define ERRS(X)                                                                                                                \
    X(OK, FINE, "success")                                                                                                     \
    X(ERR_ARGUMENT, INVALID, "invalid argument")                                                                               \
    X(ERR_LIMIT, INVALID, "a limit of the configuration is exceeded")                                                          \
    X(ERR_RANGE, INVALID, "block address beyond the end of the volume")                                                        \
    X(ERR_ORDER, INVALID, "operation out of sequence")                                                                         \
    X(ERR_UNSUPPORTED, INVALID, "not supported by this system")                                                                \
    X(ERR_TRUNCATED, INVALID, "input ends too early")                                                                          \
    X(ERR_NO_MEMORY, BUSY, "memory budget exhausted")                                                                          \
    X(ERR_AGAIN, BUSY, "resource temporarily busy")                                                                            \
    X(ERR_LOCKED, BUSY, "already open by another process")                                                                     \
    X(ERR_PERMISSION, INVALID, "permission denied")                                                                            \
    X(ERR_NO_FILE, NOT_FOUND, "no such file or device")                                                                        \
    X(ERR_FILE_EXISTS, EXISTS, "file exists")                                                                                  \
    X(ERR_NO_VOLUME, NOT_FOUND, "no such volume")                                                                              \
    X(ERR_VOLUME_EXISTS, EXISTS, "volume exists")                                                                              \
    X(ERR_NO_KEY, NOT_FOUND, "no such key")                                                                                    \
    X(ERR_NO_NAME, NOT_FOUND, "there is nothing of that name")                                                                 \
    X(ERR_NAME_EXISTS, EXISTS, "the name is taken")                                                                            \
    X(ERR_BUSY, BUSY, "it is in use")                                                                                          \
    X(ERR_NO_SPACE, FULL, "pool is full")                                                                                      \
    X(ERR_DEVICE_FULL, FULL, "device or file system below the pool has no space")                                              \
    X(ERR_IO, DEVICE, "device reported an I/O error")                                                                          \
    X(ERR_SHORT, DEVICE, "device transferred less than asked")                                                                 \
    X(ERR_VANISHED, DEVICE, "device vanished")                                                                                 \
    X(ERR_POOL_FAILED, DEVICE, "pool stopped accepting writes after a device error")                                           \
    X(ERR_DEVICE_CLASS, INVALID, "a device of a pool is of class flash or hdd, and nothing else")                              \
    X(ERR_TOO_SMALL, INVALID, "device too small")                                                                              \
    X(ERR_NOT_OURS, FOREIGN, "not an Izar device")                                                                             \
    X(ERR_OTHER_POOL, FOREIGN, "device belongs to another pool")                                                               \
    X(ERR_NEW_FORMAT, FOREIGN, "format is newer than this version understands")                                                \
    X(ERR_IN_USE, FOREIGN, "device already holds a pool or other data")                                                        \
    X(ERR_DEVICE_MISSING, FOREIGN, "a device of the pool is missing")                                                          \
    X(ERR_SUPER_LOST, CORRUPT, "all superblock copies are damaged")                                                            \
    X(ERR_CHECKPOINT_LOST, CORRUPT, "all checkpoint copies are damaged")                                                       \
    X(ERR_DIRECTORY_LOST, CORRUPT, "both copies of a directory page are damaged")                                              \
    X(ERR_LOG_DAMAGED, CORRUPT, "the log is damaged before its acknowledged end")                                              \
    X(ERR_DECODE, CORRUPT, "malformed structure")                                                                              \
    X(ERR_REPLICA_STATE, CORRUPT, "what the pool keeps of a replica, beside its volume, is malformed")                         \
    X(ERR_CHECKSUM, CORRUPT, "checksum mismatch")                                                                              \
    X(ERR_MEDIUM, CORRUPT, "stored block is damaged")                                                                          \
    X(ERR_PAGE_DAMAGED, CORRUPT, "map page is damaged")                                                                        \
    X(ERR_NO_PLACE, CORRUPT, "log address is in no slot")                                                                      \
    X(ERR_STOPPED, STOPPED, "shutting down")                                                                                   \
    X(ERR_POWER, STOPPED, "power lost")                                                                                        \
    X(ERR_CLOSED, STOPPED, "connection closed")                                                                                \
    X(ERR_REFUSED, NOT_FOUND, "nobody listens at that address")                                                                \
    X(ERR_ADDRESS, BUSY, "address is taken, or not of this machine")                                                           \
    X(ERR_DENIED, INVALID, "authentication failed, or not allowed")                                                            \
    X(ERR_MISCOMPARE, DIFFERENT, "data differs from what was expected")                                                        \
    X(ERR_CONFLICT, DIFFERENT, "somebody else changed it in between")                                                          \
    X(ERR_NO_QUORUM, BUSY, "too few acceptors of the register answer; nothing was changed")                                    \
    X(ERR_UNDECIDED, BUSY, "too few acceptors of the register answered; whether it was changed is not known yet")              \
    X(ERR_NO_ACCEPTOR, NOT_FOUND, "no acceptor was made here")                                                                 \
    X(ERR_ACCEPTOR_EXISTS, EXISTS, "there is an acceptor here")                                                                \
    X(ERR_ACCEPTOR_LOST, CORRUPT, "both copies of the acceptor's state are damaged")

#define ERR_ENUM(name, class, text) name,
enum err { ERRS(ERR_ENUM) ERR_COUNT };
#undef ERR_ENUM

/* The name ("ERR_IO"), the sentence ("device reported an I/O error") and the class of an error. Any value is safe. */
const char *err_name(enum err e);
const char *err_text(enum err e);
enum err_class err_class(enum err e);

/* Returns from the caller when `call` failed: for functions that hold nothing. */
#define TRY(call)                                                                                                              \
    do {                                                                                                                       \
        enum err try_err = (call);                                                                                             \
        if (try_err != OK) return try_err;                                                                                     \
    } while (0)

#endif
