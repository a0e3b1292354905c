#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Two nodes and a witness, each in a network of its own, and a client with two paths, under a load that keeps a ledger, while
# links are cut: between the nodes, one way only, of a whole node, of the witness. Goal: the load goes on, whatever was
# acknowledged is there through both nodes, and who was cut off catches up.
if [ -z "${IN_SPACE:-}" ]; then
    if ! unshare -rn true 2>/dev/null; then
        echo "network namespaces cannot be made here"
        exit 77
    fi
    IN_SPACE=1 exec unshare -rn "$0" "$@"
fi
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
. "$here/nodes.sh"

address()
{
    case $1 in
    a) echo 10.99.0.1 ;;
    b) echo 10.99.0.2 ;;
    w) echo 10.99.0.3 ;;
    esac
}

inside()
{
    local node=$1
    shift
    exec nsenter -t "${space[$node]}" -n "$@"
}

# A bridge here, and a pair of interfaces for each node: NODE.out on the bridge, eth0 with the node.
networks()
{
    local node
    ip link add bridge type bridge || { echo "no bridges here"; exit 77; }
    ip address add 10.99.0.254/24 dev bridge
    ip link set bridge up
    ip link set lo up
    for node in a b w; do
        unshare -n sleep 600 &
        space[$node]=$!
        spaces+=($!)
        disown
        for _ in $(seq 100); do
            [ "$(readlink "/proc/${space[$node]}/ns/net")" != "$(readlink /proc/self/ns/net)" ] && break
            sleep 0.02
        done
        ip link add "$node.out" type veth peer name eth0 netns "${space[$node]}"
        ip link set "$node.out" master bridge up
        (inside "$node" ip address add "$(address "$node")/24" dev eth0)
        (inside "$node" ip link set eth0 up)
        (inside "$node" ip link set lo up)
    done
}

# deaf FROM TO, hears FROM TO: what FROM sends to TO is lost, or not any more
deaf()
{
    (inside "$1" ip route add blackhole "$(address "$2")/32")
}

hears()
{
    (inside "$1" ip route del blackhole "$(address "$2")/32")
}

# How long a client waited at most, beyond what it takes to give up a silent path.
pause()
{
    local slowest
    cat load.log
    slowest=$(sed -n 's/.*slowest answer \([0-9.]*\) s.*/\1/p' load.log)
    awk -v s="${slowest:-99}" -v m="$1" 'BEGIN { exit !(s <= m) }' || { echo "FAILED: an answer took $slowest s"; failed=1; }
}

# whole: the cut is over, everybody has everything
whole()
{
    soon a 'all 2 copies are in sync; this node serves it'
    soon b 'all 2 copies are in sync; this node serves it'
    verify a
    verify b
}

declare -A space
ports=([a]=7451 [b]=7451 [w]=7451 [a.iscsi]=3260 [b.iscsi]=3260)
networks
begin a
begin b
begin w
setting_up

echo "the link between the nodes"
over_both b 12
sleep 2
deaf a b
deaf b a
sleep 4
lost=$(at a volume why shared -o json | jq -r '.replication.copies[] | select(.role == "not in sync") | .node')
expect 4 'is alive' at "$lost" volume force-promote shared --yes # the other one goes on, and the witness hears it
hears a b
hears b a
load_ends
pause 8
whole

echo "one way only"
over_both b 10
sleep 2
deaf a b
sleep 5
hears a b
load_ends
pause 8
whole

echo "a whole node, with its client's path"
over_both b 12
sleep 2
ip link set b.out down
sleep 8
ip link set b.out up
load_ends
pause 12
whole

echo "the witness"
over_both a 6
sleep 1
ip link set w.out down
sleep 4
ip link set w.out up
load_ends
pause 3
whole

all_end
