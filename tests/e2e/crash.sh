#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# kill -9 of izard under an iSCSI load, again and again on the same pool. Goal: after each restart every sector holds what was
# acknowledged last, or what was sent after that and never answered; and the first read comes soon. Method: izar-load, four
# initiators with many commands each, that keeps a ledger; the node is killed at a moment by chance, started again, all of the
# volume compared, and the load goes on. ROUNDS (3) on each back end; FILL_GIB fills the pool with so much before, so that
# it is nearly full; FIRST_READ_MS is the longest time from a start to the first read.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

izard=$BUILD_DIR/izard
izar_program=$BUILD_DIR/izar
load=$BUILD_DIR/tests/izar-load
disk=$BUILD_DIR/tests/disk
rounds=${ROUNDS:-3}
seed=${SEED:-$RANDOM}
fill_gib=${FILL_GIB:-0}
first_read_ms=${FIRST_READ_MS:-30000}
pool_limit=$((60 + fill_gib * 180))
initiator=iqn.2026-01.org.izar.test:load
export IZAR_SOCKET=node/izard.sock
listen=127.0.0.1:${PORT:-0}
trap '[ -z "$child" ] || kill -9 "$child" 2>/dev/null; [ -z "$writer" ] || kill -9 "$writer" 2>/dev/null; rm -rf "$dir"' EXIT
writer=
echo "seed $seed"

start_node()
{
    "$izard" --state node --memory 256M --pool-size $((2 + fill_gib * 12 / 10))G --io "$io" --name n1 --checkpoint-ms 1000 \
        --iscsi-listen "$1" 2>>node.log &
    child=$!
}

kill_node()
{
    kill -9 "$child" 2>/dev/null || { echo "FAILED ($io): izard had ended by itself"; tail -n 5 node.log; failed=1; }
    wait "$child" 2>/dev/null
    child=
}

izar()
{
    timeout -s KILL 60 "$izar_program" -q "$@" </dev/null
}

# A fresh node with a volume for the load; sets $portal and $url.
make_node()
{
    rm -rf node ledger
    start_node "$listen"
    for _ in $(seq 200); do
        izar status >/dev/null 2>&1 && break
        sleep 0.05
    done
    portal=$(izar target portals -o name) && target=$(izar target show -o name) || exit 1
    url=iscsi://$portal/$target
    izar host create load $(printf -- "--initiator $initiator-%d " 0 1 2 3) >/dev/null || exit 1
    izar volume create small --size 64M --host load >/dev/null || exit 1
    if [ "$fill_gib" -gt 0 ]; then
        izar volume create large --size "${fill_gib}G" --host load >/dev/null || exit 1
        "$load" bench "$url/1" --initiator "$initiator" --reads 0 --bytes $((1 << 20)) --sequential --once || exit 1
    fi
}

# One round: load until killed, start again, the first read, everything compared.
round()
{
    local number=$1 code said
    "$load" run "$url/0" ledger --initiator "$initiator" --seed $((seed + number)) --seconds 60 >load.log 2>&1 &
    writer=$!
    for _ in $(seq 200); do
        grep -q started load.log && break
        sleep 0.05
    done
    sleep $((RANDOM % 2)).$((1 + RANDOM % 9))
    kill_node
    wait "$writer"
    code=$?
    writer=
    sed "1d; s/^/$io, round $number: /" load.log
    if [ "$code" -ne 3 ] || ! grep -q ' commands: ' load.log; then
        echo "FAILED ($io, round $number): the load ended with $code instead of losing its connections"
        failed=1
    fi
    start_node "$portal"
    said=$(timeout 120 "$load" verify "$url/0" ledger --initiator "$initiator" --wait 30 2>&1)
    code=$?
    printf '%s\n' "$said" | sed "s/^/$io, round $number: /"
    if [ "$code" -ne 0 ]; then
        echo "FAILED ($io, round $number): the volume is not as it was left"
        failed=1
    elif ! [[ $said =~ after\ ([0-9]+)\ ms ]] || [ "${BASH_REMATCH[1]}" -gt "$first_read_ms" ]; then
        echo "FAILED ($io, round $number): the first read took longer than $first_read_ms ms"
        failed=1
    fi
}

# That a difference is found: a sector that somebody else wrote.
foreign()
{
    head -c 512 /dev/zero | tr '\0' x >sector
    expect 0 'written' env DISK_INITIATOR="$initiator-0" "$disk" write "$url/0" sector
    expect 1 'sector 0 must hold' "$load" verify "$url/0" ledger --initiator "$initiator"
}

for io in $(back_ends); do
    : >node.log
    make_node
    for number in $(seq "$rounds"); do
        round "$number"
        [ "$failed" -eq 0 ] || { tail -n 5 node.log; break; }
    done
    [ "$failed" -ne 0 ] || foreign
    kill_node
    expect 0 '(^| )0 problems' pool check --pool node/pool.img
    [ "$failed" -eq 0 ] || break
done
finish
