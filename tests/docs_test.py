#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: what is written about the API, the command lines and the configuration names exactly what there is. Method: the tables
in the sources against docs/openapi.yaml and the man pages. Speaks TAP.

    docs_test.py --node SOCKET

asks a node that runs (tests/e2e/manage.sh has one) every question that openapi.yaml answers with 200, and holds the members of
what it says against the schemas. Each list must have an item, or there is nothing to compare.
"""

import http.client
import json
import os
import re
import socket
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PAGES = ["izar.1", "izar-pool.1", "izard.8", "izard.conf.5"]


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def page_part(page, begin, end):
    """What stands between two headings of a man page; its hyphens as they are typed."""
    return read("docs/man/" + page).split(begin)[1].split(end)[0].replace("\\-", "-")


# ---- the API ----

def api_routes():
    """Method and path of each route, its variable parts as {}."""
    return {(m, re.sub(r":\w+", "{}", p)) for m, p in re.findall(r'\{"([A-Z]+)", "(/v1[^"]*)"', read("src/api/routes.c"))}


def api_methods():
    """(method, path, text) of each method that openapi.yaml has."""
    paths = read("docs/openapi.yaml").split("\npaths:\n")[1].split("\ncomponents:\n")[0]
    for path, body in re.findall(r"^  (/v1\S*):\n((?:    .*\n?)+)", paths, re.M):
        for method, text in re.findall(r"^    (get|post|put|delete|patch):(.*\n?(?:      .*\n?)*)", body, re.M):
            yield method.upper(), path, text


def api_documented():
    return {(method, re.sub(r"\{\w+\}", "{}", path)) for method, path, _ in api_methods()}


def api_schemas():
    """Of each schema the members that it must have, and those that it may have, with the schema of each (None: a plain one)."""
    text = read("docs/openapi.yaml").split("\n  schemas:\n")[1].split("\n  responses:\n")[0] + "\n"
    schemas = {}
    for name, body in re.findall(r"^    (\w+):(.*\n(?:      .*\n)*)", text, re.M):
        required = re.search(r"^      required: \[(.*)\]$", body, re.M)
        members = {}
        for member, rest in re.findall(r"^        (\w+): (.*)$", body, re.M):
            reference = re.search(r"#/components/schemas/(\w+)'", rest)
            members[member] = reference.group(1) if reference else None
        schemas[name] = (set(required.group(1).split(", ")) if required else set(), members)
    return schemas


def api_responses():
    """The schema of each answer that has a name."""
    text = read("docs/openapi.yaml").split("\n  responses:\n")[-1]
    return dict(re.findall(r"^    (\w+): .*#/components/schemas/(\w+)'", text, re.M))


def references():
    """Whatever is referred to or required."""
    text, schemas = read("docs/openapi.yaml"), api_schemas()
    found = set(re.findall(r"#/components/(\w+/\w+)'", text))
    for name, (required, members) in schemas.items():
        found |= {"schemas/%s/%s" % (name, member) for member in required}
    return found


def referable():
    """Whatever of that there is."""
    found = {"schemas/" + name for name in api_schemas()} | {"responses/" + name for name in api_responses()}
    found |= {"parameters/" + name for name in ("volume", "host", "force")}
    wanted = references()
    for name, (_, members) in api_schemas().items():
        found |= {"schemas/%s/%s" % (name, member) for member in members} & wanted
    return found


def differences(schemas, name, answer, where):
    """What is not in an answer and must be, and what is in it and nobody has written about."""
    required, members = schemas[name]
    if not members:
        return []
    found = ["%s: there is no %s" % (where, member) for member in sorted(required - set(answer))]
    for member, value in answer.items():
        if member not in members:
            found.append("%s: nothing is written about %s" % (where, member))
            continue
        parts = value if isinstance(value, list) else [value]
        if member == "items" and not parts:
            found.append("%s: the list is empty, nothing could be compared" % where)
        for part in parts:
            if isinstance(part, dict) and not members[member]:
                found.append("%s: %s has members, and no schema tells which" % (where, member))
            elif isinstance(part, dict):
                found += differences(schemas, members[member], part, "%s %s" % (where, member))
    return found


class LocalConnection(http.client.HTTPConnection):
    """HTTP through a local socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=20)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def ask(node, path):
    connection = LocalConnection(node)
    connection.request("GET", path)
    answer = connection.getresponse()
    result = answer.status, json.loads(answer.read())
    connection.close()
    return result


def compare_with_node(node):
    schemas, responses, found, asked = api_schemas(), api_responses(), [], 0
    names = {kind: ask(node, "/v1/%ss" % kind)[1]["items"][-1]["name"] for kind in ("volume", "host")}
    for method, path, text in api_methods():
        response = re.search(r"'200': \{\$ref: '#/components/responses/(\w+)'", text)
        if method != "GET" or not response:
            continue
        status, answer = ask(node, path.format(**names))
        if status != 200:
            found.append("%s: status %d" % (path, status))
        else:
            found += differences(schemas, responses[response.group(1)], answer, path)
        asked += 1
    status, answer = ask(node, "/v1/volumes/-")
    found += differences(schemas, "Problem", answer, "a problem") + ([] if status == 404 else ["a problem: status %d" % status])
    for line in found:
        print(line)
    print("%d answers are%s as it is written" % (asked, " not all" if found else ""))
    return 1 if found or asked < 10 else 0


# ---- command lines and configuration ----

def commands():
    table = read("src/izar/main.c").split("static const struct command commands[]")[1].split("\n};")[0]
    return {" ".join(x for x in (n, v) if x) for n, v in re.findall(r'\{"(\w+)", (?:NULL|"([\w-]+)"),', table)}


def commands_documented():
    page = page_part("izar.1", ".SH COMMANDS", ".SH FLAGS")
    return {" ".join(w for w in line.split()[1:] if re.fullmatch(r"[a-z-]+", w))
            for line in re.findall(r"^\.TP\n(\.B [^\n]+)", page, re.M)}


def pool_words():
    """Commands and options of izar-pool."""
    source = read("src/tool/main.c")
    options = source.split("option_specs[] = {")[1].split("\n};")[0]
    table = source.split("static const struct command commands[]")[1].split("\n};")[0]
    return set(re.findall(r'\{"(--?[\w-]+)",', options)) | set(re.findall(r'\{"(\w+)", cmd_', table))


def pool_words_documented():
    page = page_part("izar-pool.1", ".SH COMMANDS", ".SH EXAMPLE")
    return set(re.findall(r"^\.T[PQ]\n\.BI? ([\w-]+)", page, re.M))


def pool_codes():
    """Exit codes of izar-pool, as the switch and the help have them."""
    source = read("src/tool/main.c")
    told = source.split("Exit codes:\\n")[1].split(");")[0]
    switch = {"0", "1", "2"} | set(re.findall(r"case ERR_CLASS_\w+: return (\d+);", source))
    return switch | set(re.findall(r"(?<![\w-])(\d+) [a-z]", told))


def pool_codes_documented():
    page = page_part("izar-pool.1", ".SH EXIT STATUS", ".SH SEE ALSO").replace("\n", " ")
    return set(re.findall(r"(?:^|[ ,])(\d+) [a-z]", page))


def keys():
    table = read("src/izard/config.c").split("static const struct key keys[]")[1].split("\n};")[0]
    return set(re.findall(r'\{"([\w-]+)",', table))


def keys_documented():
    return set(re.findall(r'^\.BR ([\w-]+) " = ', read("docs/man/izard.conf.5"), re.M))


def versions():
    version = re.search(r"^  version: '([\w.]+)'", read("meson.build"), re.M).group(1)
    return {page + " " + version for page in PAGES}


def versions_documented():
    return {page + " " + version for page in os.listdir(os.path.join(ROOT, "docs/man"))
            for version in re.findall(r'^\.TH .* "Izar ([\w.]+)"', read("docs/man/" + page), re.M)}


def main():
    if len(sys.argv) == 3 and sys.argv[1] == "--node":
        return compare_with_node(sys.argv[2])
    failed = 0
    # name, what there is, what is written, how many there are at least
    pairs = [("openapi", api_routes, api_documented, 20), ("openapi refers to what it has", referable, references, 50),
             ("izar.1", commands, commands_documented, 20), ("izar-pool.1", pool_words, pool_words_documented, 30),
             ("izar-pool.1, exit codes", pool_codes, pool_codes_documented, 13), ("izard.conf.5", keys, keys_documented, 10),
             ("versions", versions, versions_documented, len(PAGES))]
    for number, (name, there, written, least) in enumerate(pairs, 1):
        good = there() == written() and len(there()) >= least
        failed += not good
        print("%s %d - %s" % ("ok" if good else "not ok", number, name))
        if not good:
            print("# only in the sources: %s" % sorted(there() - written()))
            print("# only written about: %s" % sorted(written() - there()))
    print("1..%d" % len(pairs))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
