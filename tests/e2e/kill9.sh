#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# kill -9 under load, again and again on the same pool: after each kill the pool opens, everything acknowledged is there,
# nothing is torn or foreign, and what survived is a prefix of what was asked. Five rounds on each back end.
. "$(dirname "$0")/lib.sh"

rounds=${ROUNDS:-5}
seed=${SEED:-$RANDOM}
echo "seed $seed"

# One round: load until killed, verify, and the auditor's word.
round()
{
    local number=$1 log=load-$io-$1.log
    start "$log" load --pool kill.img --volume 1 --volumes 3 --size 64M --memory 256M --journal journal --checkpoint-ms 150 \
        --seed $((seed + number)) --seconds 60
    sleep $((1 + RANDOM % 2)).$((RANDOM % 10))
    if ! kill -9 "$child" 2>/dev/null; then
        echo "FAILED ($io, round $number): the load ended by itself"
        sed 's/^/    /' "$log" | tail -n 8
        failed=1
    fi
    wait "$child" 2>/dev/null
    child=
    expect 0 '(^| )0 problems' pool check --pool kill.img
    expect 0 ' 0 disagreements' pool load --verify --pool kill.img --journal journal
}

for io in $(back_ends); do
    rm -f kill.img journal
    pool format kill.img --size 1G --segment 20 || exit 1
    for number in $(seq "$rounds"); do round "$number" 2>/dev/null; done
    echo "$io: $(grep -c ^I journal) operations, $(grep -c ^A journal) acknowledged"
    [ "$(grep -c ^A journal)" -ge 100 ] || { echo "FAILED ($io): hardly anything was acknowledged"; failed=1; }
    [ "$failed" -eq 0 ] || break
done
finish
