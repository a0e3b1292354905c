#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: what is written about the API, the command line and the configuration names exactly what there is. Method: the tables
in the sources against docs/openapi.yaml and the man pages. Speaks TAP.
"""

import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def api_routes():
    """Method and path of each route, its variable parts as {}."""
    return {(m, re.sub(r":\w+", "{}", p)) for m, p in re.findall(r'\{"([A-Z]+)", "(/v1[^"]*)"', read("src/api/routes.c"))}


def api_documented():
    found, path = set(), None
    for line in read("docs/openapi.yaml").split("\n"):
        match = re.match(r"  (/v1\S*):$", line)
        if match:
            path = re.sub(r"\{\w+\}", "{}", match.group(1))
        elif line.startswith("components:"):
            path = None
        match = re.match(r"    (get|post|put|delete|patch):", line)
        if match and path:
            found.add((match.group(1).upper(), path))
    return found


def commands():
    table = read("src/izar/main.c").split("static const struct command commands[]")[1].split("\n};")[0]
    return {" ".join(x for x in (n, v) if x) for n, v in re.findall(r'\{"(\w+)", (?:NULL|"([\w-]+)"),', table)}


def commands_documented():
    page = read("docs/man/izar.1").split(".SH COMMANDS")[1].split(".SH FLAGS")[0].replace("\\-", "-")
    return {" ".join(w for w in line.split()[1:] if re.fullmatch(r"[a-z-]+", w))
            for line in re.findall(r"^\.TP\n(\.B [^\n]+)", page, re.M)}


def keys():
    table = read("src/izard/config.c").split("static const struct key keys[]")[1].split("\n};")[0]
    return set(re.findall(r'\{"([\w-]+)",', table))


def keys_documented():
    return set(re.findall(r'^\.BR ([\w-]+) " = ', read("docs/man/izard.conf.5"), re.M))


def main():
    failed = 0
    pairs = [("openapi", api_routes, api_documented), ("izar.1", commands, commands_documented),
             ("izard.conf.5", keys, keys_documented)]
    for number, (name, there, written) in enumerate(pairs, 1):
        good = there() == written() and len(there()) > 10
        failed += not good
        print("%s %d - %s" % ("ok" if good else "not ok", number, name))
        if not good:
            print("# only in the sources: %s" % sorted(there() - written()))
            print("# only written about: %s" % sorted(written() - there()))
    print("1..%d" % len(pairs))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
