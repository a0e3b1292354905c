#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Bit rot below one of two copies. Goal: its initiators read what was written, through either node, the node says what happened,
# and the damage is gone from its disk; where nobody has the block any more, the initiator hears so.
# Method: random blocks are written, one node is stopped, bits of some of them are turned in its pool's file, where their bytes
# are found.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
. "$here/nodes.sh"
disk=$BUILD_DIR/tests/disk
export DISK_INITIATOR=$initiator-0

# turn NODE BLOCK...: a bit in each copy of these blocks of `data`
turn()
{
    python3 - "$@" <<'END'
import sys
node, blocks = sys.argv[1], [int(b) for b in sys.argv[2:]]
with open("data", "rb") as f:
    data = f.read()
with open(node + "/pool.img", "r+b") as f:
    pool = f.read()
    for b in blocks:
        block, at, found = data[b * 4096:(b + 1) * 4096], -1, 0
        while (at := pool.find(block, at + 1)) >= 0:
            f.seek(at + 1000)
            f.write(bytes([pool[at + 1000] ^ 4]))
            found += 1
        if found == 0:
            sys.exit(f"block {b} is not in the pool of {node}")
END
}

# verified NODE CODE PATTERN: how `data` is read there, once the node does not ask for patience any more
verified()
{
    local _
    for _ in $(seq 40); do
        "$disk" verify "$(url "$1")" data 2>&1 | grep -q 'NOT READY' || break
        sleep 0.2
    done
    expect "$2" "$3" "$disk" verify "$(url "$1")" data
}

# number NODE FIELD: of its pool
number()
{
    at "$1" pool show -o json | jq ".$2"
}

while read -r name port; do ports[$name]=$port; done < <(free_ports a b w a.iscsi b.iscsi)
for node in a b w; do begin $node; done
setting_up
head -c 8M /dev/urandom >data
expect 0 '' "$disk" write "$(url a)" data
finish_with TERM b
turn b 0 1 2 700 1500 2047 || failed=1
begin b
soon b 'all 2 copies are in sync; this node serves it'
verified b 0 ''
verified a 0 ''
expect 0 '^6$' number b mended
expect 0 '^0$' number b unmended
expect 0 '^0$' number a medium_errors
expect 0 'damaged blocks were mended' at b status
expect 0 'block [0-9]+ is damaged in this node.s pool: another node had it; it was mended' cat b.log
finish_with TERM b
expect 0 '(^| )0 problems' timeout 60 "$pool_tool" check --pool b/pool.img --memory 128M
begin b
soon b 'all 2 copies are in sync; this node serves it'
verified b 0 ''
expect 0 '^0$' number b medium_errors
# What no initiator reads is found all the same.
finish_with TERM b
turn b 3 4 1999 || failed=1
begin b
soon b 'all 2 copies are in sync; this node serves it'
expect 0 'running' at b pool scrub
for _ in $(seq 100); do
    [ "$(number b scrub.passes)" = 1 ] && break
    sleep 0.1
done
expect 0 '^3$' number b mended
expect 0 '^0$' number b scrub.lost
# The same block on both: nobody has it.
for node in a b; do finish_with TERM $node; done
turn a 5 && turn b 5 || failed=1
begin a; begin b
soon b 'all 2 copies are in sync; this node serves it'
verified b 2 'SENSE KEY:.*\(3\)'
expect 0 'no other node has it' cat b.log
finish
