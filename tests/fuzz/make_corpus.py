#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the seed corpus of the fuzzers: structures of disk and wire from the kept bytes in tests/golden/format.txt, commands, sessions
and requests from the lists below.

    tests/fuzz/make_corpus.py       writes tests/fuzz/corpus/fuzz_NAME/golden_SECTION, or .../NAME

Inputs that a fuzzer found later lie beside these under names of their own.
"""

import os
import re
import struct

HERE = os.path.dirname(os.path.abspath(__file__))
SEEDS = {
    "super": [["superblock"]],
    "checkpoint": [["checkpoint"]],
    "batch": [["batch"]],
    "record": [["record_" + kind] for kind in ("data", "state", "create", "delete", "resize", "discard", "noop", "learn", "move")],
    "page": [["leaf"], ["inner"], ["state"], ["chunk_lz4"], ["chunk_raw"]],
    "summary": [["summary_body"], ["summary_body", "trailer_head"], ["cleaned_body", "trailer_cleaned"],
                ["trailer_cleaned_meta"], ["summary_learn"], ["summary_learn", "trailer_head"]],
    "directory": [["directory"]],
    "body": [["replica_content"], ["replica_content_zeros"], ["replica_content_holes"], ["replica_content", "replica_content_zeros"]],
    "stretch": [["replica_stretch"]],
    "placement": [["placement"], ["placement_making"], ["placement_refused"]],
    "replica_state": [["replica_self"], ["replica_self_learns"], ["volume_replica"]],
    "register": [["register_look"], ["register_accept"], ["register_promise"], ["register_moved"], ["register_outbid"],
                 ["acceptor"]],
    "replica": [["replica_" + kind] for kind in (
        "heartbeat", "heartbeat_ack", "record", "record_noop", "prepared", "prepared_full",
        "commit", "forward", "confirm", "confirmed", "done", "want",
        "want_new", "want_checked", "step", "step_gap", "step_check", "step_digested", "step_both", "follow", "again", "ask", "agreed",
        "borrow", "lent", "heartbeats")],
}


def sections():
    """Name of each section: its bytes."""
    kept, name = {}, None
    with open(os.path.join(HERE, "..", "golden", "format.txt"), encoding="ascii") as file:
        for line in file:
            if line.startswith("["):
                name = line.strip("[]\n")
                kept[name] = bytearray()
            elif name and not line.startswith("#"):
                for token in re.sub(r"^\S+ += ", "", line).split():
                    kept[name] += kept[name][-1:] * (int(token[1:]) - 1) if token[0] == "*" else bytes.fromhex(token)
    return kept


# ---- commands: see tests/fuzz/fuzz_scsi.c ----

WAITS = 128


def cdb10(opcode, flags, lba, blocks):
    return struct.pack(">BBIBHB", opcode, flags, lba, 0, blocks, 0)


def cdb12(opcode, flags, lba, blocks):
    return struct.pack(">BBIIBB", opcode, flags, lba, blocks, 0, 0)


def cdb16(opcode, flags, lba, blocks):
    return struct.pack(">BBQIBB", opcode, flags, lba, blocks, 0, 0)


def order(cdb, data=b"", offered=None, how=0, fails=0):
    offered = len(data) if offered is None else offered
    return struct.pack(">BBI16sH", how, fails, offered, cdb, len(data)) + data


def mode_page(*at):
    return bytes([0, 0, 0, 0]) + bytes(at)


CONTROL = (0x0a, 10, 0, 0x10, 0, 0, 0, 0, 0xff, 0xff, 0, 0)
TEXT = bytes(range(256)) * 2
TAKE_ATTENTION = order(b"\0" * 6) + order(b"\0" * 6, how=1)
UNMAP_LIST = struct.pack(">HHIQII", 22, 16, 0, 8, 24, 0)
COMMANDS = {
    "inquiry": [order(bytes([0x12, 0, 0, 0, 255, 0]))] + [
        order(bytes([0x12, 1, page, 1, 0, 0])) for page in (0x00, 0x80, 0x83, 0x86, 0xb0, 0xb1, 0xb2, 0x8f)],
    "about": [order(bytes([0x03, 0, 0, 0, 18, 0])), order(bytes([0x25]) + bytes(9)), order(cdb16(0x9e, 0x10, 0, 32)),
              order(struct.pack(">BBBBHIBB", 0xa3, 0x0c, 0x80, 0, 0, 4096, 0, 0)),
              order(struct.pack(">BBBBHIBB", 0xa3, 0x0c, 0x03, 0x9e, 0x10, 64, 0, 0)),
              order(struct.pack(">BBIIBB", 0xa3, 0x0d, 0, 4, 0, 0)), order(struct.pack(">BBIIBB", 0xa0, 0, 0, 256, 0, 0)),
              order(cdb10(0x37, 0, 0x0d000000, 8)), order(bytes([0x1b, 0, 0, 0, 1, 0])), order(bytes([0x1e, 0, 0, 0, 1, 0]))],
    "mode": [TAKE_ATTENTION, order(bytes([0x1a, 0, 0x3f, 0xff, 255, 0])), order(cdb10(0x5a, 0x10, 0x0a000000, 64)),
             order(bytes([0x15, 0x10, 0, 0, 16, 0]), mode_page(*CONTROL[:4], 8, *CONTROL[5:])),
             order(cdb10(0x2a, 0, 0, 1), TEXT), order(bytes([0x03, 0, 0, 0, 252, 0]), how=1),
             order(cdb10(0x55, 0x10, 0, 20), bytes(4) + mode_page(*CONTROL)), order(cdb10(0x2a, 0, 0, 1), TEXT)],
    "write_read": [TAKE_ATTENTION, order(bytes([0x0a, 0, 0, 5, 3, 0]), TEXT, 1536), order(bytes([0x08, 0, 0, 4, 8, 0])),
                   order(cdb10(0x2a, 0x08, 7, 20), TEXT, 10240), order(cdb10(0x28, 0x18, 0, 64)),
                   order(cdb12(0xaa, 0, 250, 12), TEXT, 6144), order(cdb12(0xa8, 0, 248, 16)),
                   order(cdb16(0x8a, 0, 1, 300), TEXT, 153600), order(cdb16(0x88, 0, 0, 400))],
    "verify": [TAKE_ATTENTION, order(cdb10(0x2e, 0x02, 3, 6), TEXT, 3072), order(cdb10(0x2f, 0x02, 3, 6), TEXT, 3072),
               order(cdb16(0x8f, 0x02, 4, 1), TEXT[1:], 512), order(cdb12(0xaf, 0, 0, 600)), order(cdb12(0xae, 0, 9, 1), TEXT),
               order(cdb16(0x8e, 0, 255, 2), TEXT, 1024), order(cdb10(0x34, 0, 0, 9)), order(cdb16(0x91, 0, 0, 0)),
               order(cdb16(0x90, 0, 0, 9)), order(cdb10(0x35, 2, 0, 9))],
    "descriptors": [TAKE_ATTENTION, order(bytes([0x15, 0x10, 0, 0, 16, 0]), mode_page(0x0a, 10, 4, *CONTROL[3:])),
                    order(bytes([0x12, 1, 0xee, 0, 255, 0])), order(cdb10(0x2f, 0x02, 3, 6), TEXT, 3072), order(cdb10(0x55, 0x10, 0, 20), bytes(20)),
                    order(bytes([0x03, 1, 0, 0, 18, 0]), how=1), order(cdb10(0x2f, 0x06, 3, 300), TEXT), order(cdb10(0x2f, 0x06, 3, 300), bytes(512)),
                    order(cdb10(0x28, 0, 0, 1), how=16, fails=1)],
    "same": [TAKE_ATTENTION, order(cdb10(0x41, 0, 3, 300), TEXT), order(cdb16(0x93, 0x08, 5, 40), bytes(512)),
             order(cdb16(0x93, 0x09, 1, 17)), order(cdb16(0x9e, 0x12, 0, 256)), order(cdb10(0x28, 0, 0, 64))],
    "unmap": [TAKE_ATTENTION, order(cdb10(0x2a, 0, 0, 64), TEXT, 32768), order(cdb10(0x42, 0, 0, 24), UNMAP_LIST),
              order(cdb16(0x9e, 0x12, 0, 64)), order(cdb10(0x42, 0, 0, 40), UNMAP_LIST + UNMAP_LIST[8:]),
              order(cdb10(0x28, 0, 0, 64))],
    "compare_write": [TAKE_ATTENTION, order(cdb16(0x89, 0, 3, 1), bytes(512) + TEXT),
                      order(cdb16(0x89, 0, 3, 1), bytes(512) + TEXT), order(cdb16(0x89, 0, 2, 3), bytes(512) + TEXT + bytes(512) + TEXT * 3)],
    "two_at_once": [TAKE_ATTENTION, order(cdb10(0x2a, 0, 1, 9), TEXT, 4608, WAITS), order(cdb10(0x28, 0, 0, 64), how=WAITS),
                    order(cdb10(0x2a, 0, 5, 9), TEXT[3:], 4608, WAITS), order(cdb10(0x2f, 0, 0, 32))],
    "trouble": [TAKE_ATTENTION, order(cdb10(0x2a, 0, 0, 64), TEXT, 32768, 16, 0), order(cdb10(0x28, 0, 0, 300), how=16, fails=9),
                order(cdb10(0x2f, 0, 0, 300), how=16, fails=2), order(cdb10(0x41, 0, 0, 300), TEXT, how=16, fails=4),
                order(cdb10(0x2a, 0, 0, 9), TEXT, 4608, 4), order(cdb10(0x2a, 0, 100, 9), TEXT, 4608, 8),
                order(cdb10(0x28, 0, 0, 9), how=8), order(cdb10(0x2a, 0, 0, 9), TEXT, 4608, 32),
                order(cdb10(0x2a, 0, 0, 9), TEXT, 4608, 64), order(cdb10(0x28, 0, 0, 9), how=2), order(cdb10(0x28, 0, 0, 9), how=3)],
    "large": [TAKE_ATTENTION, order(cdb16(0x88, 0, 3, 3000)), order(cdb16(0x88, 0, 0, 16385))],
}
SETUPS = {"": 0, "_4k": 1, "_small_read_only": 10, "_lun_read_only": 4}

# ---- sessions: see tests/fuzz/fuzz_session.c ----

FINAL, READ, WRITE = 0x80, 0x40, 0x20


def pdu(opcode, flags, at16=b"", data=b"", at8=b"", ahs=b""):
    """A header: LUN or what stands there, then what follows from byte 16 on."""
    head = bytes([opcode, flags, 0, 0, len(ahs) // 4]) + len(data).to_bytes(3, "big") + at8.ljust(8, b"\0") + at16.ljust(32, b"\0")
    return head + ahs + data


def command(itt, flags, expected, cdb, data=b"", ahs=b"", immediate=0):
    return pdu(1 | immediate, flags | 1, struct.pack(">IIII", itt, expected, 0, 0) + cdb.ljust(16, b"\0"), data, ahs=ahs)


def data_out(itt, ttt, sn, offset, data, final=True):
    return pdu(5, FINAL if final else 0, struct.pack(">IIIIIII", itt, ttt, 0, 0, 0, sn, offset), data)


def keys(*pairs):
    return b"".join(pair.encode() + b"\0" for pair in pairs)


def login(flags, *pairs):
    return pdu(0x43, flags, struct.pack(">IIII", 1, 0, 1, 0), keys(*pairs), at8=b"\x80abcde\0\0")


NAMES = ("InitiatorName=iqn.x:y", "TargetName=iqn.t:t", "SessionType=Normal")
OPERATIONS = ("HeaderDigest=None", "DataDigest=None", "InitialR2T=Yes", "ImmediateData=No", "MaxRecvDataSegmentLength=4096",
              "MaxBurstLength=65536", "FirstBurstLength=65536", "MaxConnections=4", "DefaultTime2Wait=0", "DefaultTime2Retain=0",
              "MaxOutstandingR2T=4", "ErrorRecoveryLevel=2", "DataPDUInOrder=No", "DataSequenceInOrder=No", "X-odd=1")
NO_TAG = b"\xff" * 4
READY = command(1, FINAL, 0, b"\0" * 6)
SESSIONS = {
    "login": (0, [login(0x04, *NAMES), login(0x87, *OPERATIONS), READY]),
    "login_in_parts": (2, [login(0x40, *NAMES), login(0x00, "AuthMethod=CHAP,None"), login(0x81), login(0x87, *OPERATIONS), READY]),
    "chap": (16, [login(0x00, "AuthMethod=CHAP", *NAMES), login(0x00, "CHAP_A=7,5"),
                  login(0x81, "CHAP_N=alice", "CHAP_R=0x" + "00" * 32, "CHAP_I=5", "CHAP_C=0b" + "A" * 40)]),
    "discovery": (2, [login(0x87, "InitiatorName=iqn.x:y", "SessionType=Discovery", *OPERATIONS),
                      pdu(4, FINAL, struct.pack(">I", 3) + NO_TAG, keys("SendTargets=All")),
                      pdu(6, 0x80, struct.pack(">I", 4))]),
    "read": (3, [READY, READY, command(2, FINAL | READ, 65536, cdb10(0x28, 0, 0, 128)), command(3, FINAL | READ, 512, cdb10(0x28, 0, 0, 2)),
                 command(4, FINAL | READ, 4096, bytes([0x12, 1, 0x83, 0, 255, 0])), command(5, FINAL | READ, 4096, bytes([0xee]))]),
    "write": (15, [READY, command(2, FINAL | WRITE, 1024, cdb10(0x2a, 0, 0, 2), b"a" * 1024),
                   command(3, WRITE, 8192, cdb10(0x2a, 0, 0, 16), b"b" * 1000), data_out(3, 0xffffffff, 0, 1000, b"c" * 7192),
                   command(4, FINAL | WRITE, 24576, cdb10(0x2a, 0, 3, 48), b"d" * 512),
                   data_out(4, 4, 0, 512, b"e" * 8192, False), data_out(4, 4, 1, 8704, b"f" * 8192),
                   data_out(4, 4, 0, 16896, b"g" * 7680), command(5, FINAL | WRITE, 4096, cdb10(0x2a, 0, 3, 1), b"h" * 4096)]),
    "management": (3, [READY, command(2, FINAL | WRITE, 65536, cdb10(0x2a, 0, 0, 128)),
                       pdu(2, 0x81, struct.pack(">IIIIII", 9, 2, 0, 0, 2, 0)), pdu(0x42, 0x82, struct.pack(">II", 10, 0)),
                       pdu(2, 0x85, struct.pack(">II", 11, 0)), pdu(2, 0x86, struct.pack(">II", 12, 0)), pdu(2, 0x87, struct.pack(">II", 13, 0)),
                       pdu(2, 0x84, struct.pack(">II", 14, 0)), pdu(2, 0x83, struct.pack(">II", 15, 0)), pdu(2, 0x88, struct.pack(">II", 16, 0)), READY]),
    "others": (11, [pdu(0x40, FINAL, struct.pack(">I", 5) + NO_TAG, b"ping"), pdu(0, FINAL, struct.pack(">I", 6) + NO_TAG, b"p" * 5000),
                    pdu(4, 0x40, struct.pack(">I", 7) + NO_TAG, b"SendTa"), pdu(4, FINAL, struct.pack(">I", 7) + NO_TAG, b"rgets=\0X=1\0"),
                    pdu(0x10, FINAL, struct.pack(">I", 8)), pdu(6, 0x82, struct.pack(">I", 8)), pdu(6, 0x80, struct.pack(">I", 9))]),
    "stays": (35, [READY, command(2, FINAL | WRITE, 65536, cdb10(0x2a, 0, 0, 128))]),
    "silent": (32, [b"\x43"]),
    "changed": (67, [READY, command(2, FINAL | WRITE, 65536, cdb10(0x2a, 0, 0, 128)),
                     pdu(1, FINAL | WRITE, struct.pack(">IIII", 3, 4096, 0, 0) + cdb10(0x2a, 0, 0, 8), at8=b"\0\1")]),
    "closed": (131, [READY, command(2, FINAL | READ, 65536, cdb10(0x28, 0, 0, 128)), command(3, FINAL | WRITE, 65536, cdb10(0x2a, 0, 0, 128))]),
    "ahs": (7, [READY, command(2, FINAL | READ, 512, cdb10(0x28, 0, 0, 1), ahs=b"\0\5\2\0\0\0\0\0")]),
}

# ---- requests: see tests/fuzz/fuzz_api.c ----


def request(line, body=""):
    return (line + "\n" + body).encode() + b"\0"


def initiators(*names):
    return "[" + ",".join('"%s"' % name for name in names) + "]"


LOGGED_IN = "iqn.2026-01.org.example:in"
VM1 = request("POST /v1/volumes", '{"name":"vm1","size":1048576}')
VM2 = request("POST /v1/volumes", '{"name":"vm2","size":8388608,"block_size":4096}')
H1 = request("POST /v1/hosts", '{"name":"h1","initiators":%s}' % initiators(LOGGED_IN, "eui.0123456789abcdef"))
MAP = request("POST /v1/volumes/vm1/maps", '{"host":"h1","lun":7}')
SHOW = b"".join(request("GET /v1/" + what) for what in (
    "status", "stats", "pool", "disks", "volumes?limit=1&after=vm1", "volumes/vm1", "volumes/vm1/stats", "volumes/vm1/maps",
    "hosts", "hosts/h1", "target", "sessions"))
ROSTER_REQUESTS = (request("GET /v1/cluster") + request("GET /v1/nodes") + request("POST /v1/cluster", '{"name":"prod"}')
                   + request("GET /v1/cluster") + request("GET /v1/nodes") + request("POST /v1/cluster/tokens", '{"role":"witness"}')
                   + request("POST /v1/cluster/tokens", '{"role":"x","lifetime_seconds":0}')
                   + request("POST /v1/cluster/join", '{"token":"IZJ1-A"}') + request("DELETE /v1/nodes/n2")
                   + request("DELETE /v1/nodes/n9"))
CLUSTERS = {"cluster": 0, "cluster_fails": 2, "cluster_no_majority": 8, "cluster_removed": 17}
REQUESTS = {
    "show": (0, VM1 + VM2 + H1 + MAP + SHOW),
    "show_logged_in": (1, VM1 + H1 + MAP + SHOW + request("DELETE /v1/sessions/3") + request("DELETE /v1/sessions/9")),
    "take_away": (1, VM1 + H1 + MAP + request("DELETE /v1/volumes/vm1/maps/h1") + request("DELETE /v1/volumes/vm1?force=true")
                  + request("DELETE /v1/volumes/vm1/maps/h1?force=true") + request("DELETE /v1/hosts/h1?force=false")
                  + request("DELETE /v1/volumes/vm1")),
    "force": (0, VM1 + H1 + MAP + request("DELETE /v1/volumes/vm1") + request("DELETE /v1/volumes/vm1?force=true")
              + request("DELETE /v1/hosts/h1?force=maybe") + request("DELETE /v1/hosts/h1?force=true")),
    "copies": (1, request("POST /v1/cluster", '{"name":"prod"}') + request("POST /v1/volumes", '{"name":"s","size":4096,"copies":2}')
               + H1 + request("POST /v1/volumes/s/maps", '{"host":"h1","lun":1}') + request("GET /v1/volumes/s")
               + request("GET /v1/volumes") + request("POST /v1/volumes", '{"name":"t","size":4096,"copies":3}')
               + request("DELETE /v1/volumes/s?force=true") + request("GET /v1/volumes/s")),
    "force_promote": (0, request("POST /v1/cluster", '{"name":"prod"}') + VM1
                      + request("POST /v1/volumes", '{"name":"s","size":4096,"copies":2,"fast_failover":true}')
                      + request("POST /v1/volumes", '{"name":"t","size":4096,"fast_failover":true}')
                      + request("POST /v1/volumes/s/force-promote", "{}") + request("POST /v1/volumes/s/force-promote", '{"accept_loss":false}')
                      + request("POST /v1/volumes/s/force-promote", '{"accept_loss":true}')
                      + request("POST /v1/volumes/vm1/force-promote", '{"accept_loss":true}')),
    "cluster_names": (1, request("POST /v1/cluster", '{"name":"prod"}') + request("POST /v1/volumes", '{"name":"elsewhere","size":4096}')
                      + VM1 + request("POST /v1/volumes", '{"name":"vm1","size":4096,"copies":2}')),
    "cluster_hosts": (1, VM1 + H1 + MAP + request("POST /v1/cluster", '{"name":"prod"}') + request("POST /v1/hosts", '{"name":"h1"}')
                      + request("POST /v1/hosts", '{"name":"h2","initiators":["eui.0123456789abcdef"]}')
                      + request("POST /v1/hosts", '{"name":"h2","initiators":["eui.0123456789abcde0"]}')
                      + request("PUT /v1/hosts/h2/chap", '{"user":"u","secret":"secretsecret12"}') + VM2
                      + request("POST /v1/volumes", '{"name":"s","size":4096,"copies":2}')
                      + request("POST /v1/volumes/vm2/maps", '{"host":"h1","lun":7}') + request("POST /v1/volumes/vm2/maps", '{"host":"h1"}')
                      + request("POST /v1/volumes/s/maps", '{"host":"h1"}') + request("POST /v1/volumes/elsewhere/maps", '{"host":"h1"}')
                      + request("POST /v1/volumes/s/maps", '{"host":"h2","lun":3}') + request("GET /v1/hosts/h1") + request("GET /v1/hosts")
                      + request("DELETE /v1/volumes/vm2/maps/h1?force=true") + request("DELETE /v1/volumes/s/maps/h2")
                      + request("DELETE /v1/volumes/s/maps/h2") + request("DELETE /v1/volumes/vm2?force=true")
                      + request("DELETE /v1/hosts/h1") + request("POST /v1/hosts/h2/initiators", '{"initiator":"eui.0123456789abcdef"}')
                      + request("DELETE /v1/hosts/h2?force=true") + request("DELETE /v1/hosts/h1?force=true")
                      + request("DELETE /v1/volumes/s?force=true")),
    "cluster_hosts_late": (8, H1 + request("POST /v1/cluster", '{"name":"prod"}') + request("POST /v1/hosts", '{"name":"h2"}')),
    "cluster_hosts_down": (0, H1 + VM1 + request("POST /v1/cluster", '{"name":"prod"}') + MAP + request("POST /v1/hosts", '{"name":"h2"}')
                           + request("DELETE /v1/hosts/h2")),
    "cluster_hosts_fail": (3, H1 + VM1 + request("POST /v1/cluster", '{"name":"prod"}') + MAP + request("DELETE /v1/hosts/h1?force=true")),
    "copies_removed": (17, request("POST /v1/cluster", '{"name":"prod"}') + request("POST /v1/volumes", '{"name":"s","size":4096,"copies":2}')
                       + H1 + request("POST /v1/volumes/s/maps", '{"host":"h1","lun":1}') + request("GET /v1/volumes/s")
                       + request("DELETE /v1/volumes/s/maps/h1?force=true") + request("DELETE /v1/volumes/s") + request("GET /v1/volumes/s")),
    "resize": (0, VM1 + VM2 + request("POST /v1/volumes/vm1/resize", '{"size":2097152}')
               + request("POST /v1/volumes/vm1/resize", '{"size":4096}')
               + request("POST /v1/volumes/vm1/resize", '{"size":4096,"discard_data":true}')
               + request("POST /v1/volumes/vm2/resize", '{"size":40960}') + request("POST /v1/pool/clean", "{}")),
    "chap": (0, H1 + request("PUT /v1/hosts/h1/chap", '{"user":"u","secret":"secretsecret12","mutual_user":"m","mutual_secret":"othersecret1234"}')
             + request("GET /v1/hosts/h1") + request("PUT /v1/hosts/h1/chap", '{"user":"u","secret":"short"}')
             + request("DELETE /v1/hosts/h1/chap") + request("POST /v1/hosts/h1/initiators", '{"initiator":"IQN.2026-02.org.example:B"}')
             + request("DELETE /v1/hosts/h1/initiators/eui.0123456789abcdef")),
    "refused": (0, request("POST /v1/volumes", '{"name":"a/b","size":-1}') + request("POST /v1/volumes", "[]")
                + request("POST /v1/volumes", "{") + request("POST /v1/volumes", "[" * 40) + request("POST /v1/volumes", '{"name":1,"name":2}')
                + request("PATCH /v1/volumes") + request("GET /v1/volumes//maps") + request("GET") + request("* /v1/hosts", "x")
                + request("GET /v1/volumes?limit=x") + request("GET /v1/volumes?" + "a=b&" * 9) + request("GET /" + "a" * 600)),
    "fails": (2, VM1 + VM1 + H1 + MAP + MAP + request("DELETE /v1/volumes/vm1?force=true")),
    "too_long": (4, VM1),
    "unmap_stuck": (9, VM1 + H1 + MAP + request("DELETE /v1/volumes/vm1/maps/h1?force=true") + request("DELETE /v1/volumes/vm1")),
    "unmap_waits": (1, VM1 + H1 + MAP + request("DELETE /v1/volumes/vm1/maps/h1?force=true") + request("DELETE /v1/volumes/vm1")),
    "written_meanwhile": (16, VM1 + VM2 + VM2.replace(b"vm2", b"vm3") + VM2.replace(b"vm2", b"vm4")
                          + request("POST /v1/volumes/vm2/resize", '{"size":40960}')
                          + request("POST /v1/volumes/vm4/resize", '{"size":40960}')
                          + request("POST /v1/volumes/vm4/resize", '{"size":40960,"discard_data":true}')),
}


# ---- links: see cluster/link_format.h and cluster/token.h ----


def frame(kind, body, length=None, flags=0, message=0, stream=0, session=0, head=0, whole=0):
    length = len(body) if length is None else length
    return struct.pack("<IBBHIIII", length, kind, flags, message, stream, session, head, whole) + body


HELLO = struct.pack("<8sHHI16sII16sQQIIIIII", b"IZARLINK", 1, 2, 1, b"cluster", 1, 2, b"boot", 5, 4, 9, 1, 2 << 20, 1 << 18, 250, 1500)
FRAMES = {
    "hello": frame(1, HELLO),
    "hello_longer": frame(1, HELLO + bytes(40)),
    "refuse": frame(2, struct.pack("<HH", 1, 10) + b"no version"),
    "ping": frame(3, struct.pack("<QQQQ", 1, 2, 3, 4)),
    "dead": frame(6, struct.pack("<II", 1, 7)),
    "message": frame(7, b"head" + b"b" * 100, message=7, stream=1, session=1, head=4, whole=1 << 20),
    "urgent": frame(7, b"head", flags=1, message=7, stream=100, session=1, head=4),
    "join": frame(11, struct.pack("<32sII", b"proof", 7, 4) + b"request" + b"info"),
    "joined": frame(12, struct.pack("<IIII", 2, 2, 4, 3) + b"cacertkey"),
    "joined_data": frame(12, struct.pack("<IIII", 2, 2, 4, 3) + b"cacertkey" + b"s" * 64),
}
ADDRESSES = b"".join(bytes([len(a)]) + a for a in (b"192.0.2.1:7451", b"[2001:db8::1]:7451"))
TOKEN = struct.pack("<16s32s16sQIBB", b"cluster", b"fingerprint", b"secret", 1800003600, 2, 1, 2) + ADDRESSES
IDENTITY = (b"CA", b"CA's key", b"key", b"certificate")
IDENTITY = b"".join(struct.pack("<I", len(der)) + der for der in IDENTITY) + struct.pack("<32sQIBBH32s", b"digest", 1800003600, 2, 1, 0, 0, b"")
TOKENS = {
    "text": b" IZJ1-YEAAAAAAAAAAAAAAAAAAAAAAAAAAKCQPCQMR4IZIFUZDOPCBIZFVAVK2L5SGS3TTPB6YFB4MSGLJXSGJZLF4ZTOOZ7INDUWT2TK5NVYQ"
            b"4BEWWAAAAAAAEAAAAAAQEDRRHEZC4MBOGIXDCORXGQ2TCES3GIYDAMJ2MRRDQOR2GFOTUNZUGUY3XNHQ5M\n",
    "later": b"IZJ2-AAAA",
    "bytes": TOKEN,
    "file": struct.pack("<8sIIQII16sII", b"IZARIDEN", 1, 56 + len(IDENTITY), 3, 0, 1, b"cluster", 1, 0) + IDENTITY,
    "nobody": struct.pack("<8sIIQII16sII16x", b"IZARIDEN", 2, 56 + 16 + 64, 4, 0, 0, b"cluster", 0, 0) + b"s" * 64,
}


# ---- rosters: see cluster/roster.h ----


def item(kind, body):
    return struct.pack("<HHI", kind, 0, len(body)) + body


def member(number, stage, role, name, acceptor, until, addresses, more=b""):
    head = struct.pack("<IBBBBQQ16s", number, stage, role, len(name), len(addresses), acceptor, until, b"store")
    return head + name + b"".join(bytes([len(a)]) + a for a in addresses) + more


def roster(*items):
    return struct.pack("<8sHHI", b"IZARROST", 1, 0, len(items)) + b"".join(items)


HEAD = item(1, struct.pack("<16sIB3x", b"cluster", 9, 4) + b"prod")
MEMBERS = (member(1, 2, 1, b"a", 11, 0, (b"192.0.2.1:7451", b"[2001:db8::1]:7451")), member(2, 2, 1, b"b", 12, 0, (b"192.0.2.2:7451",)),
           member(4, 1, 2, b"w.1", 13, 1800000000, (), b"newer"))
ROSTERS = {
    "node": MEMBERS[0],
    "one": roster(HEAD, item(2, MEMBERS[0])),
    "three": roster(HEAD, *(item(2, m) for m in MEMBERS)),
    "unknown": roster(HEAD, item(2, MEMBERS[2]), item(7, b"volumes"), item(8, b"")),
    "volumes": roster(HEAD, item(2, MEMBERS[0]), item(3, struct.pack("<I", 300) + b"newer"), item(4, struct.pack("<I", 1) + b"value"),
                      item(4, struct.pack("<I", 2)), item(4, struct.pack("<I", 299) + b"v" * 512), item(7, b"unknown")),
    "hosts": roster(HEAD, item(2, MEMBERS[0]), item(3, struct.pack("<I", 300)), item(4, struct.pack("<I", 1) + b"value"),
                    item(5, struct.pack("<IBxxx", 400, 5) + b"iqn.t" + b"newer"), item(6, struct.pack("<I", 1) + b"host"),
                    item(6, struct.pack("<I", 2)), item(6, struct.pack("<I", 399) + b"h" * 5120), item(7, b"unknown")),
    "target": roster(HEAD, item(2, MEMBERS[0]), item(5, struct.pack("<IBxxx", 1, 5) + b"iqn.t")),
    "no_volumes": roster(HEAD, item(2, MEMBERS[0]), item(3, struct.pack("<I", 2))),
}


# ---- hosts of a cluster: see api/shared.h ----


def shared(name, names, chap=(b"", b"", b"", b""), maps=(), created=1767225600):
    head = struct.pack("<BBBx4BQH6x", 1, len(name), len(names), *(len(text) for text in chap), created, len(maps))
    return (head + name + b"".join(bytes([len(n)]) + n for n in names) + b"".join(chap)
            + b"".join(struct.pack("<IIH", *m) for m in maps))


SHARED = {
    "plain": shared(b"h1", (b"iqn.2026-01.org.example:in",)),
    "none": shared(b"h", ()),
    "chap": shared(b"hv-1.x_y", (b"eui.0123456789abcdef", b"naa.5200000000000001"), (b"u", b"secretsecret", b"m", b"othersecret12")),
    "maps": shared(b"h", (b"iqn.2026-01.\xc3\xa4",), maps=((7, 0, 0), (0, 2, 3), (9, 0, 255))),
}


def write(fuzzer, name, data):
    folder = os.path.join(HERE, "corpus", "fuzz_" + fuzzer)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as file:
        file.write(data)


def write_made():
    for number, (name, orders) in enumerate(sorted(COMMANDS.items())):
        for suffix, setup in SETUPS.items():
            heavy = suffix == "_4k" and name in ("large", "write_read", "trouble")  # eight times the data, nothing new
            if suffix == "" or not heavy and (suffix == "_4k" or name in ("mode", "write_read")):
                write("scsi", name + suffix, bytes([setup, number]) + b"".join(orders))
    for number, (name, (how, requests)) in enumerate(sorted(REQUESTS.items())):
        write("api", name, bytes([how, number]) + requests)
    for name, how in CLUSTERS.items():
        write("api", name, bytes([how, 3]) + ROSTER_REQUESTS)
    for name, data in FRAMES.items():
        write("link", name, data)
    for name, data in ROSTERS.items():
        write("roster", name, data)
    for name, data in SHARED.items():
        write("shared", name, data)
    for name, data in TOKENS.items():
        write("token", name, data)
    for number, (name, (how, pdus)) in enumerate(sorted(SESSIONS.items())):
        write("session", name, bytes([how, number]) + b"".join(pdus))


def main():
    kept = sections()
    for fuzzer, seeds in SEEDS.items():
        for seed in seeds:
            write(fuzzer, "golden_" + "_".join(seed), b"".join(kept[section] for section in seed))
    write_made()


if __name__ == "__main__":
    main()
