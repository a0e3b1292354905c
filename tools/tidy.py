#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The house rules, as a program: layers, banned calls, shape of files, lengths.

    tools/tidy.py [ROOT]     checks the tree, prints `file:line: what` for each breach, exit code 1 when there is one

What is not here is left to taste. A rule is changed here, in the open, and never switched off by a comment in a source;
the one exception is a long function that opens with `/* long: why */`.
"""

import os
import re
import sys

# A folder may include only from itself and from folders left of it; those in one tuple do not see each other.
LAYERS = ["base", "io", "store", "cluster", "volume", ("scsi", "fs"), ("iscsi", "smb"), "api", ("izard", "izar", "tool")]
FREE = ("sim", "tests")  # may include anything; nothing includes them

LINE_MAX = 128
FILE_MAX = 900
FUNCTION_MAX = 120

# Headers of C11 itself that any folder may use. Anything else in <> is either one of the libraries below or the system's.
C_HEADERS = {
    "assert.h", "ctype.h", "float.h", "inttypes.h", "limits.h", "stdalign.h", "stdarg.h", "stdbool.h", "stddef.h", "stdint.h",
    "stdio.h", "stdlib.h", "string.h"}
# Programs with a `main` also exit, read their arguments and report.
PROGRAMS = ("tool", "izard", "izar")
PROGRAM_HEADERS = {"signal.h", "locale.h"}
# Which folder speaks to which library: one place each.
LIBRARIES = {
    "base": ("gnutls/", "isa-l/", "xxhash.h"),
    "store": ("lz4.h",),
    "cluster": ("gnutls/", "errno.h"),  # TLS of the links; the reason of a short pull is told to GnuTLS as an errno, tls.c alone
    "api": ("jansson.h", "microhttpd.h"),
    "izard": ("ini.h",),
    "izar": ("jansson.h", "curl/"),  # a client of the API, maybe another version's: it reads JSON by itself
}

# Calls that reach around the seam, by name, and where they are at home besides src/io.
BANNED_CALLS = {
    "malloc": ("src/base/mem.c",), "calloc": ("src/base/mem.c",), "realloc": ("src/base/mem.c",),
    "free": ("src/base/mem.c",), "strdup": (), "strndup": (), "aligned_alloc": ("src/base/mem.c",),
    "rand": (), "srand": (), "random": (), "time": (), "clock": (), "sleep": (), "usleep": (), "nanosleep": (),
    "getenv": (), "system": (), "abort": (), "setjmp": (), "longjmp": (), "alloca": (),
    "sprintf": (), "vsprintf": (), "strcpy": (), "strcat": (), "gets": (), "strtok": (), "atoi": (), "atol": ()}
BANNED_EVERYWHERE = {"alloca", "sprintf", "vsprintf", "strcpy", "strcat", "gets", "strtok", "atoi", "atol"}
BANNED_WORDS = re.compile(r"\b(pthread_\w+|atomic_\w+|_Atomic|_Thread_local)\b")
EXTENSIONS = re.compile(r"\b(__attribute__|__attribute|typeof|__typeof__|__extension__|__builtin_\w+|__asm__|asm)\b|\(\s*\{")

# Nothing of the machine that a file was written on.
FORBIDDEN_TEXT = re.compile(r"/work/|/home/\w|/root/|/tmp/bash|\b(?:[\w-]+\.)*(?:artifactory|jfrog|nexus|registry|pypi|proxy|mirror)"
                            r"\.[\w-]+(?:\.[\w-]+)*\.(?:com|net|org|io|internal|local)\b|\b[\w-]+\.internal\b", re.I)
TEXT_FILES = (".c", ".h", ".py", ".md", ".build", ".txt", ".sh", ".yml", ".yaml", ".skips", ".1", ".5", ".8", "")
SKIPPED_FOLDERS = {".git", "build", "corpus", "__pycache__"}

INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]')
BIT_FIELD = re.compile(r"^\s*(?:(?:const|unsigned|signed|volatile)\s+)*[A-Za-z_]\w*\s+\w*\s*:\s*\w+\s*[;,]")
DECLARED_ARRAY = re.compile(r"^\s*(?:const\s+)?(?:unsigned\s+|struct\s+|enum\s+)?[a-z_]\w*\s+\**\w+\[([^\]]*)\]\s*(?:;|=)")
LABEL = re.compile(r"^([a-z_]\w*):\s*(?:$|[^:])")


def blank(match):
    """Replaces a comment or a literal by blanks, so that lines and columns stay."""
    text = match.group(0)
    if text.startswith("/"):
        return re.sub(r"[^\n]", " ", text)
    return text[0] + re.sub(r"[^\n]", " ", text[1:-1]) + text[-1]


def code_only(text):
    """The text without comments and without what stands in strings and characters; same lines, same columns."""
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text, flags=re.S)


def layer_of(folder):
    for height, layer in enumerate(LAYERS):
        if folder == layer or (isinstance(layer, tuple) and folder in layer):
            return height
    return None


class Source:
    """One C file: its place in the house and the breaches found in it."""

    def __init__(self, path, text):
        self.path, self.text = path, text
        self.code = code_only(text)
        self.lines, self.code_lines = text.split("\n"), self.code.split("\n")
        parts = path.split("/")
        self.in_src = parts[0] == "src"
        self.folder = parts[1] if self.in_src and len(parts) > 2 else parts[0]
        self.breaches = []

    def breach(self, line, what):
        self.breaches.append("%s:%d: %s" % (self.path, line, what))


def check_shape(source):
    """SPDX line, then the story; a header has its guard."""
    if source.lines[0] != "/* SPDX-License-Identifier: Apache-2.0 */":
        source.breach(1, "the first line must be the SPDX tag")
    story = source.lines[1:3]
    if len(story) < 2 or story[0] != "/*" or not story[1].startswith(" * ") or len(story[1]) < 12:
        source.breach(2, "a file opens with its story: a block comment of sentences after the SPDX line")
    if not source.path.endswith(".h"):
        return
    where = source.path[:-2].split("/")
    where = where[1:] if source.in_src else where
    guard = "IZAR_" + re.sub(r"\W", "_", "_".join(where)).upper() + "_H"
    directives = [line.strip() for line in source.code_lines if line.strip().startswith("#")]
    if directives[:2] != ["#ifndef " + guard, "#define " + guard] or directives[-1] != "#endif":
        source.breach(1, "include guard must be " + guard + ", around everything")


def check_own_include(source, number, name):
    target = name.split("/")[0]
    if not source.in_src:
        return
    if "/" not in name:
        source.breach(number, '"%s": say the folder too' % name)
    elif target in FREE:
        source.breach(number, '"%s": nothing in src includes %s' % (name, target))
    elif layer_of(target) is None:
        source.breach(number, '"%s": no such layer' % name)
    elif layer_of(source.folder) is None:
        source.breach(number, "folder %s has no place in the layers" % source.folder)
    elif target != source.folder and layer_of(target) >= layer_of(source.folder):
        source.breach(number, '"%s": %s may not include from %s' % (name, source.folder, target))


def check_system_include(source, number, name):
    if not source.in_src or source.folder == "io" or name in C_HEADERS:
        return
    if source.folder in PROGRAMS and name in PROGRAM_HEADERS:
        return
    if any(name == library or name.startswith(library) for library in LIBRARIES.get(source.folder, ())):
        return
    source.breach(number, "<%s>: headers of the system belong into src/io, libraries into their one folder" % name)


def check_includes(source):
    for number, line in enumerate(source.lines, 1):
        found = INCLUDE.match(line)
        if found and found.group(1) == '"':
            check_own_include(source, number, found.group(2))
        elif found:
            check_system_include(source, number, found.group(2))


def check_calls(source):
    for number, line in enumerate(source.code_lines, 1):
        for name in re.findall(r"(?<![\w.>])([a-z]\w*)\s*\(", line):
            if name in BANNED_EVERYWHERE or (name in BANNED_CALLS and source.in_src and source.folder != "io"):
                if source.path not in BANNED_CALLS[name]:
                    source.breach(number, "%s() is banned here: memory, time, chance and the system come through the seam" % name)
        if source.in_src and source.folder != "io":
            for word in BANNED_WORDS.findall(line):
                source.breach(number, "%s: threads and atomics live in src/io only" % word)
            if source.folder != "base" or "__GNUC__" not in source.text:  # base may, where it also compiles without
                for found in EXTENSIONS.finditer(line):
                    source.breach(number, "%s: extension of a compiler outside of src/io" % found.group(0).strip())


def in_struct_lines(source):
    """Numbers of the lines inside struct or union bodies."""
    depth, opened, inside = 0, [], set()
    for number, line in enumerate(source.code_lines, 1):
        if opened:
            inside.add(number)
        starts = re.search(r"\b(struct|union)\b[^;()=]*\{", line)
        for character in line:
            if character == "{":
                depth += 1
                if starts and (not opened or opened[-1] < depth):
                    opened.append(depth)
                    starts = None
            elif character == "}":
                if opened and opened[-1] == depth:
                    opened.pop()
                depth -= 1
    return inside


def check_language(source):
    """No bit-fields, no arrays of variable length, no goto backwards."""
    inside = in_struct_lines(source)
    labels = {}
    for number, line in enumerate(source.code_lines, 1):
        if source.in_src and number in inside and BIT_FIELD.match(line):
            source.breach(number, "bit-fields are banned")
        array = DECLARED_ARRAY.match(line)
        if array and re.fullmatch(r"[a-z_][a-z0-9_]*(?:\s*[-+*/]\s*\w+)*", array.group(1).strip()):
            source.breach(number, "array of variable length")
        label = LABEL.match(line.strip())
        if label and label.group(1) != "default":
            labels[label.group(1)] = number
        elif line.startswith("}"):
            labels = {}
        jump = re.search(r"\bgoto\s+(\w+)", line)
        if jump and jump.group(1) in labels:
            source.breach(number, "goto backwards")


def check_lengths(source):
    for number, line in enumerate(source.lines, 1):
        if len(line) > LINE_MAX:
            source.breach(number, "line of %d columns, at most %d" % (len(line), LINE_MAX))
        if line != line.rstrip() or "\t" in line:
            source.breach(number, "trailing blank, tab or carriage return")
    if not source.text.endswith("\n") or source.text.endswith("\n\n"):
        source.breach(len(source.lines), "a file ends with exactly one newline")
    if source.in_src and len(source.lines) - 1 > FILE_MAX:
        source.breach(FILE_MAX, "file of %d lines, at most %d: split it by verb or message" % (len(source.lines) - 1, FILE_MAX))
    start = None
    for number, line in enumerate(source.code_lines, 1):
        if line == "{":
            start = number
        elif line == "}" and start is not None:
            length = number - start - 1
            opens_with = source.lines[start].strip()
            if length > FUNCTION_MAX and not re.match(r"/\* long: \w", opens_with):
                source.breach(start, "function of %d lines, at most %d unless it opens with /* long: why */"
                              % (length, FUNCTION_MAX))
            start = None


def check_source(path, text):
    """All breaches in one C file, whose path is given from the root of the tree."""
    source = Source(path, text)
    for check in (check_shape, check_includes, check_calls, check_language, check_lengths):
        check(source)
    return source.breaches


def check_text(path, text):
    """Breaches that any kind of text may commit."""
    if path in ("tools/tidy.py", "LICENSE"):
        return []
    return ["%s:%d: %s: names a place of the machine it was written on" % (path, number, found.group(0))
            for number, line in enumerate(text.split("\n"), 1) for found in [FORBIDDEN_TEXT.search(line)] if found]


def files_below(root):
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(f for f in subfolders if f not in SKIPPED_FOLDERS)
        for name in sorted(names):
            yield os.path.relpath(os.path.join(folder, name), root)


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else "."
    breaches, checked = [], 0
    for path in files_below(root):
        if os.path.splitext(path)[1] not in TEXT_FILES:
            continue
        with open(os.path.join(root, path), "rb") as file:
            data = file.read()
        if b"\0" in data:
            continue
        text = data.decode("utf-8", "replace")
        breaches += check_text(path, text)
        if path.split("/")[0] in ("src",) + FREE and path.endswith((".c", ".h")):
            breaches += check_source(path, text)
        checked += 1
    for line in breaches:
        print(line)
    print("tidy: %d files, %d breaches" % (checked, len(breaches)))
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
