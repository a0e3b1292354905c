#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: every rule of tools/tidy.py bites, and only where it should. Method: a good file passes; each bad snippet put into
that file is caught with the words expected; each innocent look-alike passes. Speaks TAP."""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools"))
import tidy  # noqa: E402

OPENING = "/* SPDX-License-Identifier: Apache-2.0 */\n/*\n * A story that says what this file owns.\n */\n"


def c_file(body):
    return OPENING + body + "\n"


def header(guard, body="int x(void);"):
    return OPENING + "#ifndef %s\n#define %s\n\n%s\n\n#endif\n" % (guard, guard, body)


def function(lines, opening=""):
    return c_file("void f(void)\n{\n" + opening + "    g();\n" * lines + "}")


# path, text, what tidy must say
BAD = [
    # layers
    ("src/base/a.c", c_file('#include "io/io.h"'), "base may not include from io"),
    ("src/io/a.c", c_file('#include "store/pool.h"'), "io may not include from store"),
    ("src/store/a.c", c_file('#include "volume/write.h"'), "store may not include from volume"),
    ("src/scsi/a.c", c_file('#include "fs/file.h"'), "scsi may not include from fs"),
    ("src/smb/a.c", c_file('#include "iscsi/pdu.h"'), "smb may not include from iscsi"),
    ("src/tool/a.c", c_file('#include "izard/main.h"'), "tool may not include from izard"),
    ("src/store/a.c", c_file('#include "sim/disk.h"'), "nothing in src includes sim"),
    ("src/store/a.c", c_file('#include "tests/check.h"'), "nothing in src includes tests"),
    ("src/store/a.c", c_file('#include "nowhere/x.h"'), "no such layer"),
    ("src/store/a.c", c_file('#include "pool.h"'), "say the folder too"),
    ("src/attic/a.c", c_file('#include "base/err.h"'), "has no place in the layers"),
    # the system
    ("src/store/a.c", c_file("#include <unistd.h>"), "belong into src/io"),
    ("src/store/a.c", c_file("#include <sys/uio.h>"), "belong into src/io"),
    ("src/base/a.c", c_file("#include <errno.h>"), "belong into src/io"),
    ("src/base/a.c", c_file("#include <time.h>"), "belong into src/io"),
    ("src/tool/a.c", c_file("#include <fcntl.h>"), "belong into src/io"),
    ("src/store/a.c", c_file("#include <signal.h>"), "belong into src/io"),
    ("src/store/a.c", c_file("#include <stdatomic.h>"), "belong into src/io"),
    ("src/store/a.c", c_file("#include <liburing.h>"), "belong into src/io"),
    ("src/store/a.c", c_file("#include <gnutls/gnutls.h>"), "belong into src/io"),
    ("src/base/a.c", c_file("#include <lz4.h>"), "belong into src/io"),
    ("src/store/a.c", c_file("static void *f(void)\n{\n    return malloc(1);\n}"), "malloc() is banned"),
    ("src/base/a.c", c_file("static void f(void *p)\n{\n    free (p);\n}"), "free() is banned"),
    ("src/tool/a.c", c_file("static int f(void)\n{\n    return rand();\n}"), "rand() is banned"),
    ("src/store/a.c", c_file("static long f(void)\n{\n    return time(NULL);\n}"), "time() is banned"),
    ("src/store/a.c", c_file("static void f(void)\n{\n    sleep(1);\n}"), "sleep() is banned"),
    ("src/io/a.c", c_file("static void f(char *s)\n{\n    strcpy(s, t);\n}"), "strcpy() is banned"),
    ("sim/a.c", c_file("static void f(char *s)\n{\n    sprintf(s, t);\n}"), "sprintf() is banned"),
    ("src/store/a.c", c_file("static pthread_t t;"), "threads and atomics"),
    ("src/base/a.c", c_file("static _Atomic int t;"), "threads and atomics"),
    # shape
    ("src/base/a.c", "/*\n * A story that says what this file owns.\n */\nint x;\n", "SPDX"),
    ("sim/a.c", "/* SPDX-License-Identifier: Apache-2.0 */\nint x;\n", "opens with its story"),
    ("tests/unit/a.c", "/* SPDX-License-Identifier: Apache-2.0 */\n/*\n * Tests\n */\nint x;\n", "opens with its story"),
    ("src/base/a.h", header("IZAR_A_H"), "IZAR_BASE_A_H"),
    ("sim/a.h", header("SIM_A_H"), "IZAR_SIM_A_H"),
    ("src/base/a.h", OPENING + "#pragma once\nint x(void);\n", "include guard"),
    ("src/base/a.h", header("IZAR_BASE_A_H") + "#define LATE 1\n", "include guard"),
    # language
    ("src/store/a.c", c_file("struct s {\n    unsigned kind : 3;\n};"), "bit-fields"),
    ("src/store/a.c", c_file("struct s {\n    uint8_t : 3;\n};"), "bit-fields"),
    ("src/store/a.c", c_file("struct s {\n    union {\n        uint32_t a : 4, b : 28;\n    } u;\n};"), "bit-fields"),
    ("src/store/a.c", c_file("static void f(int n)\n{\n    char buf[n];\n    g(buf);\n}"), "variable length"),
    ("src/store/a.c", c_file("static void f(int n)\n{\n    char buf[n + 1];\n    g(buf);\n}"), "variable length"),
    ("src/io/a.c", c_file("static void f(int n)\n{\n    g(alloca(n));\n}"), "alloca() is banned"),
    ("src/io/a.c", c_file("static void f(void)\n{\nagain:\n    if (g()) goto again;\n}"), "goto backwards"),
    ("src/store/a.c", c_file("static int f(void) __attribute__((noinline));"), "extension of a compiler"),
    ("src/base/a.c", c_file("static int f(void) __attribute__((noinline));"), "extension of a compiler"),
    ("src/store/a.c", c_file("static typeof(1) x;"), "extension of a compiler"),
    ("src/store/a.c", c_file("#define MAX(a) ({ a; })"), "extension of a compiler"),
    ("src/store/a.c", c_file("static int f(int x)\n{\n    return __builtin_clz(x);\n}"), "extension of a compiler"),
    # lengths
    ("sim/a.c", c_file("int x; /* " + "x" * 120 + " */"), "columns"),
    ("sim/a.c", c_file("int x; "), "trailing blank"),
    ("sim/a.c", c_file("\tint x;"), "tab"),
    ("sim/a.c", OPENING + "int x;", "exactly one newline"),
    ("sim/a.c", c_file("int x;\n"), "exactly one newline"),
    ("src/base/a.c", c_file("int x;\n" * 900), "split it"),
    ("sim/a.c", function(121), "function of 121 lines"),
    ("sim/a.c", function(121, "    /* long: */\n"), "function of"),
]

# path, text that must pass
GOOD = [
    ("src/base/a.h", header("IZAR_BASE_A_H")),
    ("src/io/uring.h", header("IZAR_IO_URING_H", "#include <liburing.h>\n#include <pthread.h>")),
    ("tests/check.h", header("IZAR_TESTS_CHECK_H")),
    ("src/store/a.c", c_file('#include "base/err.h"\n#include "io/io.h"\n#include "store/pool.h"\n#include <lz4.h>')),
    ("src/tool/a.c", c_file('#include "store/pool.h"\n#include <signal.h>\n#include <stdio.h>')),
    ("src/io/a.c", c_file("#include <unistd.h>\nstatic void *f(void)\n{\n    return malloc(1);\n}")),
    ("src/base/mem.c", c_file("static void f(void *p)\n{\n    free(p);\n}")),
    ("sim/a.c", c_file('#include "io/io.h"\n#include "store/pool.h"\nstatic void f(void *p)\n{\n    free(p);\n}')),
    ("src/store/a.c", c_file('/* unlike malloc(), pthread_create() or time() */\nstatic const char *s = "malloc(1) {";')),
    ("src/store/a.c", c_file("static void f(void)\n{\n    pool->free(p);\n    slot_free(p);\n    x.time(1);\n}")),
    ("src/store/a.c", c_file("static void f(void)\n{\n    if (g()) goto out;\n    h();\nout:\n    done();\n}\n\n"
                             "static void g(void)\n{\n    if (h()) goto out;\nout:\n    done();\n}")),
    ("src/store/a.c", c_file("static int f(int a)\n{\n    switch (a) {\n    case 1: return 2;\n    default: return a ? 1 : 0;\n"
                             "    }\n}")),
    ("src/store/a.c", c_file("static void f(void)\n{\n    uint8_t a[ROOM], b[20], c[sizeof(struct s)], d[4 * ROOM];\n}")),
    ("src/store/a.c", c_file("static struct s f(void)\n{\n    return (struct s){.a = b ? c : d};\n}")),
    ("src/base/a.c", c_file("#if defined(__GNUC__)\n#define F __attribute__((format(printf, 1, 2)))\n#endif")),
    ("sim/a.c", function(120)),
    ("sim/a.c", function(300, "    /* long: the table of all commands */\n")),
]

BAD_TEXT = ["see /work" + "/main/src", "cp x /root" + "/y", "https://registry" + ".corp.example.com/x", "host.corp" + ".internal"]
GOOD_TEXT = ["work/main", "make check", "https://www.rfc-editor.org/rfc/rfc7143", "/var/lib/izar", "the catalog's registry"]


def cases():
    for path, text, expected in BAD:
        found = tidy.check_source(path, text)
        yield "catches '%s' in %s" % (expected, path), any(expected in b for b in found), found
    for path, text in GOOD:
        found = tidy.check_source(path, text)
        yield "lets %s pass" % path, not found, found
    for text in BAD_TEXT:
        yield "catches text '%s'" % text, bool(tidy.check_text("README.md", text)), []
    for text in GOOD_TEXT:
        found = tidy.check_text("README.md", text)
        yield "lets text '%s' pass" % text, not found, found


def main():
    failed = number = 0
    for number, (name, holds, found) in enumerate(cases(), 1):
        print("%s %d - %s" % ("ok" if holds else "not ok", number, name.replace("#", "")))
        if not holds:
            failed += 1
            for breach in found or ["nothing was found"]:
                print("# " + breach)
    print("1..%d" % number)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
