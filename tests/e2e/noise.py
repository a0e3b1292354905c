#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Sends odd requests to a local socket: noise.py SOCKET COUNT.

Good requests with bytes changed, cut or repeated, JSON of odd shapes, requests that stop half way. Whoever answers must
answer in HTTP; that it still works afterwards is for the caller to see. The same in every run.
"""

import json
import random
import socket
import sys

VALUES = [None, True, False, 0, -1, 1, 4096, 2**63 - 1, 2**63, 1e308, "", "a", "vm-1", "h1", "x" * 300, "\u0000", "\ud83d\ude00", [], {}, [[]], {"a": {}},
          ["iqn.2026-01.a:9"] * 9]
MEMBERS = ["name", "size", "block_size", "host", "lun", "initiators", "initiator", "user", "secret", "mutual_user", "mutual_secret",
           "discard_data", "odd"]
# Nothing here names what the caller wants to find again.
PATHS = ["/v1/volumes", "/v1/volumes/x", "/v1/volumes/x/maps", "/v1/volumes/x/resize", "/v1/hosts", "/v1/hosts/y", "/v1/hosts/y/chap",
         "/v1/hosts/y/initiators", "/v1/sessions/1", "/v1/status", "/v1/stats", "/v1/pool", "/", "//", "/v1/", "/v1/volumes/%2e%2e",
         "/v1/volumes/%00", "/v1/volumes?limit=1&limit=2&after=vm-1", "/v1/volumes?" + "a=b&" * 40, "/" + "a" * 5000, "/v1/sessions/99999999999999999999"]
METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "get", "X" * 40]


def body(chance):
    if chance.random() < 0.1:
        return ("[" * chance.randrange(5000)).encode()
    members = {chance.choice(MEMBERS): chance.choice(VALUES) for _ in range(chance.randrange(5))}
    members.pop("name", None) if chance.random() < 0.5 else None
    return json.dumps(members).encode("utf-8", "surrogatepass")


def request(chance):
    content = body(chance)
    head = "%s %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % (
        chance.choice(METHODS), chance.choice(PATHS), len(content))
    data = bytearray(head.encode() + content)
    for _ in range(chance.choice([0, 0, 0, 1, 3])):
        at = chance.randrange(len(data))
        how = chance.randrange(4)
        if how == 0:
            data[at] = chance.randrange(256)
        elif how == 1:
            del data[at:]
            data = data or bytearray(b"G")
        elif how == 2:
            data[at:at] = data[at:at + 20]
        else:
            data[at] ^= 1 << chance.randrange(8)
    return bytes(data)


def main():
    path, count = sys.argv[1], int(sys.argv[2])
    chance, answered = random.Random(1), 0
    for number in range(count):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
            s.settimeout(10)
            s.connect(path)
            try:
                s.sendall(request(chance))
                if chance.random() < 0.1:
                    continue  # goes away without reading
                s.settimeout(0.2)
                answer = s.recv(65536)
            except (BrokenPipeError, ConnectionResetError, TimeoutError):
                continue  # half a request is waited for, until the other side goes
            if answer and not answer.startswith(b"HTTP/1."):
                print("request %d: not HTTP: %r" % (number, answer[:80]))
                return 1
            answered += bool(answer)
    print("%d of %d were answered" % (answered, count))
    return 0 if answered > count // 4 else 1


if __name__ == "__main__":
    sys.exit(main())
