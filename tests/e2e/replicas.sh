#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A volume with two copies, on two nodes that are processes of their own, under an iSCSI load that keeps a ledger: written through
# either node, while the other one, or all, are killed, stopped and started again. Goal: whatever was acknowledged is there,
# through every node that serves the volume.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

izard=$BUILD_DIR/izard
izar_program=$BUILD_DIR/izar
load=$BUILD_DIR/tests/izar-load
io=auto
seed=${SEED:-$RANDOM}
initiator=iqn.2026-01.org.izar.test:load
target=iqn.2026-01.org.izar.test:cluster
if [ ! -x "$izard" ] || [ ! -x "$load" ]; then
    echo "izard or izar-load is not built"
    exit 77
fi
declare -A pids ports
trap 'kill -9 "${pids[@]}" 2>/dev/null; rm -rf "$dir"' EXIT
echo "seed $seed"

# at NODE ARGUMENTS...: izar there
at()
{
    local node=$1
    shift
    timeout -s KILL 60 "$izar_program" --socket "$node/izard.sock" "$@" </dev/null
}

begin()
{
    local node=$1 listen="--iscsi-listen 127.0.0.1:${ports[$1.iscsi]:-}"
    shift
    [ "$node" = w ] && listen="--iscsi-listen none --witness"
    rm -f "$node/izard.sock"
    "$izard" --state "$node" --name "$node" --memory 192M --pool-size 1G --io "$io" --loops 2 --iscsi-name "$target" \
        $listen --cluster-listen "127.0.0.1:${ports[$node]}" "$@" 2>>"$node.log" &
    pids[$node]=$!
    for _ in $(seq 200); do
        [ -S "$node/izard.sock" ] && at "$node" status >/dev/null 2>&1 && return 0
        sleep 0.05
    done
    echo "FAILED: izard does not start as $node"
    tail -n 5 "$node.log"
    exit 1
}

finish_with()
{
    kill "-$1" "${pids[$2]}"
    wait "${pids[$2]}" 2>/dev/null
    unset "pids[$2]"
}

# soon NODE PATTERN: what it says of the volume, now or in a while
soon()
{
    local said
    for _ in $(seq 100); do
        said=$(at "$1" volume why shared 2>&1)
        [[ $said =~ $2 ]] && return 0
        sleep 0.2
    done
    echo "FAILED: at $1: never '$2':"
    echo "$said"
    tail -n 4 "$1.log"
    failed=1
}

url()
{
    echo "iscsi://127.0.0.1:${ports[$1.iscsi]}/$target/0"
}

free_ports()
{
    python3 - "$@" <<'END'
import socket, sys
port = 23000
for name in sys.argv[1:]:
    while True:
        port += 1
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                print(name, port)
                break
            except OSError:
                pass
END
}

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

# through NODE SECONDS: the load, in the background
through()
{
    "$load" run "$(url "$1")" ledger --wait 10 --initiator "$initiator" --seed "$((seed++))" --seconds "$2" >load.log 2>&1 &
    writer=$!
    for _ in $(seq 200); do
        grep -q started load.log && break
        sleep 0.05
    done
}

# over_both NODE SECONDS: the same with two paths, the one through NODE first
over_both()
{
    local other=a
    [ "$1" = a ] && other=b
    "$load" run "$(url "$1")" ledger --other "$(url $other)" --wait 20 --initiator "$initiator" --seed "$((seed++))" \
        --seconds "$2" >load.log 2>&1 &
    writer=$!
    for _ in $(seq 200); do
        grep -q started load.log && break
        sleep 0.05
    done
}

load_ends()
{
    wait "$writer" || { echo "FAILED: the load:"; tail -n 5 load.log; failed=1; }
}

verify()
{
    "$load" verify "$(url "$1")" ledger --wait 10 --initiator "$initiator" >verify.log 2>&1 || { echo "FAILED: through $1:"; tail -n 5 verify.log; failed=1; }
}

setting_up()
{
    local token node
    expect 0 '' at a cluster create prod
    token=$(at a cluster token -q)
    expect 0 'both nodes are up' at b cluster join "$token"
    token=$(at b cluster token --witness -q)
    expect 0 'all 3 nodes are up' at w cluster join --witness "$token"
    expect 2 'as many nodes' at a volume create big --size 64M --copies 3
    expect 0 'all 2 copies are in sync' at a volume create shared --size 64M --copies 2
    for node in a b; do
        soon "$node" 'serves it: *yes|this node serves it'
        at "$node" host create load $(printf -- "--initiator $initiator-%d " 0 1 2 3) >/dev/null || failed=1
        expect 0 '' at "$node" volume map shared --host load --lun 0
    done
    expect 0 '^same$' echo "$([ "$(at a volume show shared -o json | grep naa)" = "$(at b volume show shared -o json | grep naa)" ] && echo same)"
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
for node in a w; do finish_with TERM "$node"; done
grep -hE 'assert|abort' ./*.log && failed=1
exit $failed
