# SPDX-License-Identifier: Apache-2.0
#
# Two nodes, a and b, and a witness, w, with a volume of two copies between them; sourced by tests of clusters, after lib.sh.
# `ports` is to have those of a, b, w, a.iscsi and b.iscsi.

. "$(dirname "${BASH_SOURCE[0]}")/members.sh"

load=$BUILD_DIR/tests/izar-load
seed=${SEED:-$RANDOM}
initiator=iqn.2026-01.org.izar.test:load
target=iqn.2026-01.org.izar.test:cluster
if [ ! -x "$load" ]; then
    echo "izar-load is not built"
    exit 77
fi
echo "seed $seed"

flags_of()
{
    echo --memory "${memory:-192M}" --pool-size "${pool_size:-1G}" --loops 2 --iscsi-name "$target"
    if [ "$1" = w ]; then
        echo --iscsi-listen none --witness
    else
        echo --iscsi-listen "$(address "$1"):${ports[$1.iscsi]}"
    fi
}

# soon NODE PATTERN [VOLUME]: what it says of the volume, now or in a while
soon()
{
    local said
    for _ in $(seq 100); do
        said=$(at "$1" volume why "${3:-shared}" 2>&1)
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
    echo "iscsi://$(address "$1"):${ports[$1.iscsi]}/$target/0"
}

# through NODE SECONDS: the load, in the background
through()
{
    rm -f load.log
    "$load" run "$(url "$1")" ledger --wait 10 --initiator "$initiator" --seed "$((seed++))" --seconds "$2" >load.log 2>&1 &
    writer=$!
    for _ in $(seq 200); do
        grep -q started load.log 2>/dev/null && break
        sleep 0.05
    done
}

# over_both NODE SECONDS: the same with two paths, the one through NODE first
over_both()
{
    local other=a
    [ "$1" = a ] && other=b
    rm -f load.log
    "$load" run "$(url "$1")" ledger --other "$(url $other)" --wait 20 --initiator "$initiator" --seed "$((seed++))" \
        --seconds "$2" >load.log 2>&1 &
    writer=$!
    for _ in $(seq 200); do
        grep -q started load.log 2>/dev/null && break
        sleep 0.05
    done
}

# What the nodes know about it, when something went wrong
tell_all()
{
    local node
    failed=1
    for node in a b; do
        echo "    at $node:"
        at "$node" volume why shared 2>&1 | sed 's/^/    /'
        tail -n 8 "$node.log" | sed 's/^/    /'
    done
}

load_ends()
{
    wait "$writer" || { echo "FAILED: the load:"; tail -n 5 load.log; tell_all; }
}

verify()
{
    "$load" verify "$(url "$1")" ledger --wait 10 --initiator "$initiator" >verify.log 2>&1 && return
    echo "FAILED: through $1:"
    tail -n 5 verify.log
    tell_all
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
    expect 0 'all 2 copies are in sync' at a volume create shared --size "${volume_size:-64M}" --copies 2
    for node in a b; do
        soon "$node" 'serves it: *yes|this node serves it'
    done
    # On any node, for all of them
    at b host create load $(printf -- "--initiator $initiator-%d " 0 1 2 3) >/dev/null || failed=1
    expect 0 '' at a volume map shared --host load --lun 0
    expect 0 'shared:0' at b host show load
    expect 0 '^same$' echo "$([ "$(at a volume show shared -o json | grep naa)" = "$(at b volume show shared -o json | grep naa)" ] && echo same)"
}
