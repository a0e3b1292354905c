#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Bytes that no initiator sends: hostile.py PORT. Exit 0 when the target cut off what it had to and still serves.

Run by hostile.sh against a target with a login time-out of 2 s and room for 64 logins.
"""
import os
import random
import socket
import struct
import sys
import time

ADDRESS = ("127.0.0.1", int(sys.argv[1]))
KEYS = ["InitiatorName=iqn.x:y", "TargetName=iqn.2026-01.example.izar:test", "SessionType=Normal", "InitialR2T=No",
        "ImmediateData=Yes"]


def connect():
    s = socket.create_connection(ADDRESS)
    s.settimeout(3)
    return s


def login_pdu(keys, flags=0x87, isid=None):
    data = b"".join(k.encode() + b"\0" for k in keys)
    h = bytearray(48)
    h[0], h[1], h[5:8] = 0x43, flags, len(data).to_bytes(3, "big")
    h[8:14], h[16:20], h[24:28] = isid or b"\x80" + random.randbytes(5), b"\0\0\0\1", b"\0\0\0\1"
    return bytes(h) + data + b"\0" * (-len(data) % 4)


def session():
    s = connect()
    s.sendall(login_pdu(KEYS))
    answer = s.recv(4096)
    assert len(answer) >= 48 and answer[0] == 0x23 and answer[36] == 0, answer[:48]
    return s


def command(itt, sn, cdb, flags, expected, data=b""):
    h = bytearray(48)
    h[0], h[1], h[5:8] = 1, flags, len(data).to_bytes(3, "big")
    h[16:28] = struct.pack(">III", itt, expected, sn)
    h[32:32 + len(cdb)] = cdb
    return bytes(h) + data + b"\0" * (-len(data) % 4)


def write10(lba, blocks):
    return struct.pack(">BBIBHB", 0x2a, 0, lba, 0, blocks, 0)


def send(s, data):
    try:
        s.sendall(data)
    except OSError:
        pass


def is_cut(s):
    """True when the other side ends the connection, whatever it says before."""
    try:
        while s.recv(65536):
            pass
        return True
    except socket.timeout:
        return False
    except OSError:
        return True


def noise():
    for _ in range(40):
        s = connect()
        send(s, random.randbytes(random.randrange(1, 500)))
        s.close()


def impossible_lengths():
    h = bytearray(48)
    h[0], h[1], h[5:8] = 0x43, 0x87, b"\xff\xff\xff"
    s = connect()
    send(s, h)
    assert is_cut(s), "login with 16 MiB of text"
    h[0] = 0x01
    s = session()
    send(s, h)
    assert is_cut(s), "command with 16 MiB of data"


def out_of_place():
    s = connect()
    send(s, command(1, 1, b"\0" * 6, 0x80, 0))
    assert is_cut(s), "command before login"
    s = session()
    send(s, command(7, 1, write10(0, 2000), 0xa0, 2000 * 512) + command(7, 2, write10(0, 2000), 0xa0, 2000 * 512))
    assert is_cut(s), "one tag for two commands"


def data_out_of_range():
    """The command is answered with CHECK CONDITION, ABORTED COMMAND."""
    s = session()
    h = bytearray(48)
    h[0], h[1], h[5:8], h[16:24], h[40:44] = 5, 0x80, (512).to_bytes(3, "big"), b"\0\0\0\7" + b"\xff" * 4, b"\xff\xff\xf0\0"
    send(s, command(6, 1, b"\0" * 6, 0x80, 0))  # takes the unit attention
    assert s.recv(4096)[0] == 0x21
    send(s, command(7, 2, write10(0, 16), 0x20, 8192) + bytes(h) + b"x" * 512)
    answer = s.recv(4096)
    assert answer[0] == 0x21 and answer[3] == 2 and answer[52] & 15 == 0xb, answer[:64]
    s.close()


def leave_in_the_middle():
    for _ in range(30):
        s = session()
        for k in range(20):
            n = random.randrange(1, 2000)
            send(s, command(10 + k, k + 1, write10(random.randrange(1000), n), 0xa0, n * 512, random.randbytes(min(n * 512, 8192))))
        half = command(99, 21, write10(5, 8), 0xa0, 4096, random.randbytes(4096))
        send(s, half[:random.randrange(1, len(half))])
        s.close()


def mutations():
    whole = command(1, 1, write10(0, 8), 0xa0, 4096, b"z" * 4096)
    for _ in range(200):
        s, changed = session(), bytearray(whole)
        for _ in range(random.randrange(1, 4)):
            changed[random.randrange(48)] = random.randrange(256)
        send(s, changed)
        s.close()
        s, changed = connect(), bytearray(login_pdu(KEYS))
        for _ in range(random.randrange(1, 5)):
            changed[random.randrange(len(changed))] = random.randrange(256)
        send(s, changed)
        s.close()


def reinstated_in_one_breath():
    """Both steps of a login at once, for a session that exists: the second is to wait while the first is being answered."""
    for k in range(20):
        isid = b"\x80abcd" + bytes([k])
        old, new = connect(), connect()
        old.sendall(login_pdu(KEYS, isid=isid))
        assert len(old.recv(4096)) >= 48
        send(old, command(1, 1, write10(0, 64), 0xa0, 32768, b"y" * 8192))
        send(new, login_pdu(KEYS, 0x04, isid) + login_pdu([], 0x87, isid))
        assert is_cut(old), "two sessions of one name"
        answer = new.recv(4096)
        assert len(answer) >= 48 and answer[0] == 0x23 and answer[36] == 0, answer[:48]
        new.close()


def half_open():
    time.sleep(0.5)
    opened = [connect() for _ in range(100)]
    time.sleep(1)
    for s in opened:
        s.setblocking(False)
    closed = [s for s in opened if ended(s)]
    assert len(closed) >= 36, "%d of 100 refused, at least 36 are beyond the limit" % len(closed)
    time.sleep(4)
    assert all(ended(s) for s in opened), "a login that never came has no end"


def ended(s):
    try:
        return s.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


random.seed(3)
for part in (noise, impossible_lengths, out_of_place, data_out_of_range, leave_in_the_middle, mutations,
             reinstated_in_one_breath, half_open):
    part()
    session().close()  # it still serves
    print(part.__name__)
