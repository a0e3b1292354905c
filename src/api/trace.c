/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines for people. The one global of this layer: a program has one standard error and one trace.
 */
#include "api/trace.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "io/host.h"

enum { LINE_SIZE = 1024 };

static FILE *trace_file;
static enum trace_level trace_level = TRACE_INFO;

static const char *level_word(enum trace_level level)
{
    switch (level) {
    case TRACE_ERROR: return "error: ";
    case TRACE_WARNING: return "warning: ";
    case TRACE_NOTICE:
    case TRACE_INFO:
    case TRACE_DEBUG: break;
    }
    return "";
}

enum trace_level trace_level_of(const char *word)
{
    static const char *const words[] = {"error", "warning", "notice", "info", "debug"};
    for (uint32_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(words[i], word) == 0) return (enum trace_level)(TRACE_ERROR + i);
    }
    return TRACE_INFO;
}

enum err trace_open(const char *path, enum trace_level level)
{
    trace_level = level;
    if (path == NULL) return OK;
    trace_file = fopen(path, "a");
    return trace_file != NULL ? OK : ERR_IO;
}

void trace_close(void)
{
    if (trace_file != NULL) fclose(trace_file);
    trace_file = NULL;
}

void trace(enum trace_level level, const char *format, ...)
{
    char line[LINE_SIZE], time[24];
    va_list values;
    if (level > trace_level) return;
    va_start(values, format);
    vsnprintf(line, sizeof line, format, values);
    va_end(values);
    for (char *at = line; *at != '\0'; at++) {
        if ((unsigned char)*at < 0x20 || *at == 0x7f) *at = '?'; /* a name from outside does not begin a line of its own */
    }
    host_time_text(host_wall_seconds(), time);
    if (host_has_journal())
        fprintf(stderr, "<%d>%s\n", (int)level, line);
    else
        fprintf(stderr, "%s izard: %s%s\n", time, level_word(level), line);
    if (trace_file == NULL) return;
    fprintf(trace_file, "%s %s%s\n", time, level_word(level), line);
    fflush(trace_file);
}
