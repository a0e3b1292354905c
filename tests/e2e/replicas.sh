#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A volume with two copies, on two nodes that are processes of their own, under an iSCSI load that keeps a ledger: written through
# either node, while the other one, or all, are killed, stopped and started again. Goal: whatever was acknowledged is there,
# through every node that serves the volume.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
. "$here/nodes.sh"

# groups NODE A B: what a host is told there of the paths through a and b
groups()
{
    local said wanted="group 1 $2 group $number_b $3" other="group $number_b $3 group 1 $2"
    for _ in $(seq 20); do
        said=$(DISK_INITIATOR=$initiator-0 timeout 20 "$BUILD_DIR/tests/disk" groups "$(url "$1")" 2>&1 | tr '\n' ' ')
        if [ "$said" = "$wanted " ] || [ "$said" = "$other " ]; then return 0; fi
        sleep 0.2
    done
    echo "FAILED: at $1: $said, not $wanted"
    failed=1
}

while read -r name port; do ports[$name]=$port; done < <(free_ports a b w a.iscsi b.iscsi)
begin a
begin b
begin w
setting_up
number_b=$(at a node list -o json | jq '.[] | select(.name == "b") | .number')
groups a optimized optimized
groups b optimized optimized
through a 2; load_ends; cat load.log; verify a; verify b
through b 2; load_ends; cat load.log; verify a; verify b
# The other node dies under the load: a pause, and on it goes.
through a 8
sleep 2
finish_with KILL b
load_ends; cat load.log
verify a
at a volume why shared
groups a optimized unavailable
through a 6
begin b
soon b 'all 2 copies are in sync; this node serves it'
load_ends; cat load.log
verify a; verify b
# The node that a client is at dies, or stands still and goes on when that client has long gone another way: what it had heard
# before must not take place after what the client wrote there.
over_both a 6
sleep 2
finish_with KILL a
sleep 2
begin a
load_ends; cat load.log
soon a 'all 2 copies are in sync; this node serves it'
verify a; verify b
over_both b 12
sleep 2
kill -STOP "${pids[b]}"
sleep 8
kill -CONT "${pids[b]}"
load_ends; cat load.log
soon b 'all 2 copies are in sync; this node serves it'
verify a; verify b
# A volume comes and goes, on all of its nodes.
expect 0 'all 2 copies are in sync' at b volume create quick --size 64M --copies 2 --fast-failover
expect 0 'fast failover +yes' at a volume why quick
expect 4 'there is a volume quick' at a volume create quick --size 64M
expect 0 '' at a volume delete quick --yes
expect 3 '' at a volume show quick
expect 3 '' at b volume show quick
# All die at once, under the load.
through b 8
sleep 2
for node in a b w; do finish_with KILL "$node"; done
wait "$writer"
begin w; begin a; begin b
soon a 'this node serves it'
soon b 'this node serves it'
verify a; verify b
through a 6
finish_with KILL b
sleep 2
load_ends; cat load.log
# The last resort: b lacks what was written while it was away, and a, which has it, is lost; a comes back and learns from b.
verify a
finish_with KILL a
begin b
soon b 'izar volume force-promote'
expect 2 'after record' at b volume force-promote shared
expect 0 'state +live' at b volume force-promote shared --yes
soon b 'this node serves it.*forced in epoch'
"$load" bench "$(url b)" --initiator "$initiator" --wait 10 --reads 0 --depth 8 --seconds 2 || failed=1
begin a
soon a 'all 2 copies are in sync; this node serves it.*forced in epoch'
expect 4 'in sync: nothing is to be forced' at a volume force-promote shared --yes
all_end
