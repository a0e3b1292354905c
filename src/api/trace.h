/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the daemon tells about itself, line by line: to standard error (with the priority in front that the journal reads,
 * where there is one), and to a file when it was given one. One line is one call, so lines of several loops do not mix.
 */
#ifndef IZAR_API_TRACE_H
#define IZAR_API_TRACE_H

#include "base/text.h"

enum trace_level { TRACE_ERROR = 3, TRACE_WARNING = 4, TRACE_NOTICE = 5, TRACE_INFO = 6, TRACE_DEBUG = 7 }; /* syslog's */

/* Sends lines up to `level` to the file too, appended; NULL: to standard error only. ERR_IO when it cannot be written. */
enum err trace_open(const char *path, enum trace_level level);
void trace_close(void);
/* "error", "warning" ...; INFO for anything else. */
enum trace_level trace_level_of(const char *word);
void trace(enum trace_level level, const char *format, ...) TEXT_FORMAT(2, 3);

#endif
