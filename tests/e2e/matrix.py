#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Logins with all that can be negotiated, and data under what was agreed: matrix.py PORT AUTHENTICATION [EVERY].

AUTHENTICATION is none, one-way or mutual; of the combinations only each EVERYth is tried. The initiator here keeps to what was
agreed to the letter, and holds the target to it: results of the negotiation, immediate and unsolicited data, R2Ts (number,
order, length), Data-In (DataSN, offset, length, bursts), digests, StatSN, residual counts; and what was written is what is
read. Exit 0 when everything was as it should be.
"""
import hashlib
import itertools
import os
import random
import socket
import struct
import sys

ADDRESS, AUTHENTICATION = ("127.0.0.1", int(sys.argv[1])), sys.argv[2]
EVERY = int(sys.argv[3]) if len(sys.argv) > 3 else 1
TARGET = "iqn.2026-01.example.izar:test"
ALICE, BOB = ("alice", b"secretsecret12"), ("bob", b"othersecret1234")
NO_TAG = 0xffffffff
BLOCK, VOLUME_BLOCKS = 512, 16384
OURS = {"MaxBurstLength": 1 << 20, "FirstBurstLength": 65536, "MaxOutstandingR2T": 16}  # what the target offers

# FirstBurstLength, MaxBurstLength, MaxRecvDataSegmentLength, MaxOutstandingR2T; None: not said, the defaults hold
SIZES = [(None, None, None, None), (512, 512, 512, 1), (512, 1024, 4096, 4), (4096, 16384, 16777215, 16),
         (65536, 262144, 8192, 1), (16777215, 16777215, 65536, 65535)]
DIGESTS = [("None", "None"), ("CRC32C", "None,CRC32C"), ("None", "CRC32C"), ("CRC32C,None", "CRC32C")]  # header, data

# Eight bytes a step, as crc32c's usual software form has it.
CRC = [[0] * 256 for _ in range(8)]
for n in range(256):
    c = n
    for _ in range(8):
        c = c >> 1 ^ (0x82f63b78 if c & 1 else 0)
    CRC[0][n] = c
for n in range(256):
    for k in range(1, 8):
        CRC[k][n] = CRC[k - 1][n] >> 8 ^ CRC[0][CRC[k - 1][n] & 255]


def crc32c(data):
    t0, t1, t2, t3, t4, t5, t6, t7 = CRC
    crc, whole = 0xffffffff, len(data) // 8 * 8
    for low, high in struct.iter_unpack("<II", data[:whole]):
        low ^= crc
        crc = (t7[low & 255] ^ t6[low >> 8 & 255] ^ t5[low >> 16 & 255] ^ t4[low >> 24]
               ^ t3[high & 255] ^ t2[high >> 8 & 255] ^ t1[high >> 16 & 255] ^ t0[high >> 24])
    for byte in data[whole:]:
        crc = crc >> 8 ^ t0[(crc ^ byte) & 255]
    return struct.pack("<I", crc ^ 0xffffffff)


def words(header, at, count):
    return struct.unpack_from(">%dI" % count, header, at)


class Session:
    """One session: its login, then commands one at a time."""

    def __init__(self, r2t, immediate, sizes, digests):
        self.asked = {"InitialR2T": r2t, "ImmediateData": immediate, "HeaderDigest": digests[0], "DataDigest": digests[1]}
        names = ("FirstBurstLength", "MaxBurstLength", "MaxRecvDataSegmentLength", "MaxOutstandingR2T")
        self.asked.update({name: str(size) for name, size in zip(names, sizes) if size is not None})
        self.socket = socket.create_connection(ADDRESS)
        self.socket.settimeout(10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.header_digest = self.data_digest = False
        self.cmd_sn, self.stat_sn, self.itt, self.got = 1, None, 0, b""

    # ---- PDUs ----

    def send(self, header, data=b""):
        header[5:8] = len(data).to_bytes(3, "big")
        struct.pack_into(">I", header, 28, self.stat_sn or 0)
        padded = data + b"\0" * (-len(data) % 4)
        self.socket.sendall(bytes(header) + (crc32c(header) if self.header_digest else b"") + padded
                            + (crc32c(padded) if data and self.data_digest else b""))

    def take(self, size):
        while len(self.got) < size:
            more = self.socket.recv(1 << 20)
            assert more, "the target cut the connection"
            self.got += more
        taken, self.got = self.got[:size], self.got[size:]
        return taken

    def receive(self):
        header = self.take(48)
        if self.header_digest:
            assert self.take(4) == crc32c(header), "header digest"
        size = int.from_bytes(header[5:8], "big")
        data = self.take((size + 3) // 4 * 4)
        if size and self.data_digest:
            assert self.take(4) == crc32c(data), "data digest"
        numbered = header[0] != 0x31 and (header[0] != 0x25 or header[1] & 1)
        if header[0] != 0x25 or header[1] & 1:
            stat_sn = words(header, 24, 1)[0]
            assert self.stat_sn in (None, stat_sn), "StatSN"
            self.stat_sn = stat_sn + numbered
        return header, data[:size]

    # ---- login ----

    def login(self, flags, keys):
        header = bytearray(48)
        header[0:2], header[8:14], header[16:20] = bytes((0x43, flags)), self.isid, b"\0\0\0\1"
        struct.pack_into(">I", header, 24, self.cmd_sn)
        self.send(header, b"".join(b"%s=%s\0" % (k.encode(), v.encode()) for k, v in keys.items()))
        header, data = self.receive()
        assert header[0] == 0x23 and header[36:38] == b"\0\0", "login: %s" % header[36:38].hex()
        assert header[1] == flags, "login goes from %02x to %02x" % (flags, header[1])
        return dict(pair.split("=", 1) for pair in data.decode().split("\0") if pair)

    def prove(self):
        algorithm = random.choice(["5", "7", "7,5", "6,5"])
        answer = self.login(0x00, {"CHAP_A": algorithm})
        digest = {"5": hashlib.md5, "7": hashlib.sha256}[answer["CHAP_A"]]
        assert answer["CHAP_A"] in algorithm.split(",")
        challenge = bytes.fromhex(answer["CHAP_C"][2:])
        keys = {"CHAP_N": ALICE[0], "CHAP_R": "0x" + digest(bytes([int(answer["CHAP_I"])]) + ALICE[1] + challenge).hexdigest()}
        ours = os.urandom(random.choice([16, 17, 1024]))
        if AUTHENTICATION == "mutual":
            keys.update({"CHAP_I": "9", "CHAP_C": "0x" + ours.hex()})
        answer = self.login(0x81, keys)
        if AUTHENTICATION == "mutual":
            assert answer["CHAP_N"] == BOB[0] and answer["CHAP_R"] == "0x" + digest(b"\x09" + BOB[1] + ours).hexdigest()
        else:
            assert "CHAP_R" not in answer

    def start(self):
        self.isid = b"\x80" + os.urandom(5)
        names = {"InitiatorName": "iqn.2026-01.example.izar:matrix", "TargetName": TARGET, "SessionType": "Normal"}
        if AUTHENTICATION == "none":
            answer = self.login(0x87, dict(names, **self.asked))
        else:
            assert self.login(0x00, dict(names, AuthMethod="CHAP"))["AuthMethod"] == "CHAP"
            self.prove()
            answer = self.login(0x87, self.asked)
        self.agree(answer)

    def agree(self, answer):
        """The results, by the rule of each key (RFC 7143 13)."""
        for name in ("HeaderDigest", "DataDigest"):
            assert answer[name] == self.asked[name].split(",")[0], name
        for name in ("InitialR2T", "ImmediateData"):
            assert answer[name] == self.asked[name], name
        for name, most in OURS.items():
            if name in self.asked:
                assert int(answer[name]) == min(int(self.asked[name]), most), name
        self.header_digest, self.data_digest = answer["HeaderDigest"] == "CRC32C", answer["DataDigest"] == "CRC32C"
        self.initial_r2t, self.immediate = answer["InitialR2T"] == "Yes", answer["ImmediateData"] == "Yes"
        self.burst = int(answer.get("MaxBurstLength", 262144))
        self.first = min(int(answer.get("FirstBurstLength", 65536)), self.burst)
        self.r2ts = int(answer.get("MaxOutstandingR2T", 1))
        self.segment = int(self.asked.get("MaxRecvDataSegmentLength", 8192))
        self.their_segment = int(answer["MaxRecvDataSegmentLength"])

    # ---- commands ----

    def command(self, flags, expected, cdb, data=b""):
        header = bytearray(48)
        header[0], header[1], header[32:32 + len(cdb)] = 1, flags | 1, cdb
        self.itt += 1
        struct.pack_into(">III", header, 16, self.itt, expected, self.cmd_sn)
        self.cmd_sn += 1
        self.send(header, data)

    def data_out(self, ttt, data, start, end):
        """One burst, in PDUs of a length that changes."""
        at, number = start, 0
        while at < end:
            size = min(end - at, self.their_segment, random.choice([512, 3000, 8192, 65536]))
            header = bytearray(48)
            header[0], header[1] = 5, 0x80 if at + size == end else 0
            struct.pack_into(">II", header, 16, self.itt, ttt)
            struct.pack_into(">II", header, 36, number, at)
            self.send(header, data[at:at + size])
            at, number = at + size, number + 1

    def status(self, header, data, residual=0):
        """The end of a command: residual is above 0 when there was more, below when there was less."""
        flag = 0x04 if residual > 0 else 0x02 if residual < 0 else 0
        assert header[1] & 0x06 == flag and words(header, 44, 1)[0] == abs(residual), "residual"
        assert header[3] == 0, "status %02x, sense %s" % (header[3], data.hex())

    def write(self, lba, data):
        cdb, size = struct.pack(">BBIBHB", 0x2a, 0, lba, 0, len(data) // BLOCK, 0), len(data)
        unasked = 0 if self.initial_r2t else min(self.first, size)
        now = min(self.first, size, self.their_segment, random.choice([512, 4096, 65536])) if self.immediate else 0
        if not self.initial_r2t and now < unasked:
            self.command(0x20, size, cdb, data[:now])
            self.data_out(NO_TAG, data, now, unasked)
            sent = unasked
        else:
            self.command(0xa0, size, cdb, data[:now])
            sent = now
        asked, waiting = 0, []
        while True:
            if sent < size and not waiting or len(waiting) < self.r2ts and sent + sum(w[2] for w in waiting) < size:
                header, rest = self.receive()
                assert header[0] == 0x31, "an R2T is due, %02x came: %s" % (header[0], rest.hex())
                ttt, number, offset, length = words(header, 20, 1) + words(header, 36, 3)
                assert number == asked and offset == sent + sum(w[2] for w in waiting), "order of R2Ts"
                assert 0 < length == min(self.burst, size - offset), "length of an R2T"
                waiting.append((ttt, offset, length))
                asked += 1
            elif waiting:
                ttt, offset, length = waiting.pop(0)
                self.data_out(ttt, data, offset, offset + length)
                sent += length
            else:
                break
        header, rest = self.receive()
        assert header[0] == 0x21 and words(header, 16, 1)[0] == self.itt
        self.status(header, rest)

    def read(self, lba, blocks, expected=None):
        size = blocks * BLOCK
        expected = size if expected is None else expected
        self.command(0xc0, expected, struct.pack(">BBIBHB", 0x28, 0, lba, 0, blocks, 0))
        data, number, burst = b"", 0, 0
        while True:
            header, part = self.receive()
            assert header[0] == 0x25 and words(header, 16, 1)[0] == self.itt
            assert words(header, 36, 2) == (number, len(data)), "DataSN, offset"
            assert 0 < len(part) <= self.segment, "length of Data-In"
            data, number, burst = data + part, number + 1, burst + len(part)
            assert burst <= self.burst and (header[1] & 0x80 or burst < self.burst), "length of a burst"
            burst = 0 if header[1] & 0x80 else burst
            if header[1] & 0x01:
                assert header[1] & 0x80 and len(data) == min(size, expected)
                self.status(header, b"", size - expected)
                return data

    def ready(self):
        """Takes the unit attention of a new session."""
        for status in (2, 0):
            self.command(0x80, 0, b"\0" * 6)
            header, _ = self.receive()
            assert header[0] == 0x21 and header[3] == status

    def end(self):
        header = bytearray(48)
        header[0], header[1] = 0x46, 0x80
        struct.pack_into(">III", header, 16, self.itt + 1, 0, self.cmd_sn)
        self.send(header)
        header, _ = self.receive()
        assert header[0] == 0x26 and header[2] == 0
        self.socket.close()


def lengths(session):
    """One block; what just fits and what just does not into the first burst; two bursts and a half."""
    for size in (BLOCK, session.first, session.first + BLOCK, session.burst * 5 // 2):
        yield max(1, min(size, 12288) // BLOCK)


def play(combination):
    session = Session(*combination)
    session.start()
    session.ready()
    for blocks in sorted(set(lengths(session))):
        data, lba = random.randbytes(blocks * BLOCK), random.randrange(VOLUME_BLOCKS - blocks)
        session.write(lba, data)
        assert session.read(lba, blocks) == data, "what is read is not what was written"
    assert session.read(lba, blocks, 100) == data[:100]
    assert session.read(lba, blocks, len(data) + 4096) == data
    session.end()


random.seed(5)
count = 0
for number, at in enumerate(itertools.product(["Yes", "No"], ["Yes", "No"], SIZES, DIGESTS)):
    if number % EVERY != 0:
        continue
    try:
        play(at)
    except (AssertionError, OSError) as error:
        sys.exit("%s: %s" % (at, error or "assertion at line %d" % error.__traceback__.tb_lineno))
    count += 1
print("%d combinations, %s" % (count, AUTHENTICATION))
