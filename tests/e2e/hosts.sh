#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Hosts of a cluster: made, changed and mapped on any node, they hold for all nodes that are up when the command returns, and for
# the others when they come back. Two nodes and a witness as processes, and initiators that log in. Also: the target has one name,
# what its first node had comes along, LUNs do not collide, secrets are told nobody, and without a majority nothing changes.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
. "$here/nodes.sh"
disk=$BUILD_DIR/tests/disk
pool_size=128M
memory=160M
name=iqn.2026-01.org.izar.test

# sees NODE LUN [USER%SECRET@]: the host logs in there, and reads the unit's groups
sees()
{
    DISK_INITIATOR=$name:h1 timeout 20 "$disk" groups "iscsi://${3:-}127.0.0.1:${ports[$1.iscsi]}/$target/$2" 2>&1
}

# in_a_while PATTERN COMMAND...: what it says soon
in_a_while()
{
    local pattern=$1 said
    shift
    for _ in $(seq 100); do
        said=$("$@" 2>&1)
        grep -Eq -- "$pattern" <<<"$said" && return 0
        sleep 0.1
    done
    echo "FAILED: never '$pattern': $*:"
    tail -n 5 <<<"$said"
    failed=1
}

never()
{
    local pattern=$1
    shift
    "$@" 2>&1 | grep -Eq -- "$pattern" || return 0
    echo "FAILED: '$pattern' from: $*"
    failed=1
}

while read -r name_of port; do ports[$name_of]=$port; done < <(free_ports a b w a.iscsi b.iscsi)
printf 'a-secret-of-mine\n' >secret.txt
begin a
begin b --iscsi-name "$name:another"
begin w
# What was there before
expect 0 '' at a volume create own-a --size 16M
expect 0 '' at a host create h1 --initiator "$name:h1"
expect 0 '' at a volume map own-a --host h1 --lun 0
expect 0 '' at b host create spare --initiator "$name:spare"
expect 0 '' at b host create h1 --initiator "$name:other"
expect 0 '' at a cluster create prod
expect 0 'both nodes are up' at b cluster join "$(at a cluster token -q)"
expect 0 'all 3 nodes are up' at w cluster join --witness "$(at a cluster token --witness -q)"
in_a_while "$target" at b target show
in_a_while "$name:h1" at b host show h1
in_a_while "$name:spare" at a host show spare
expect 0 '\(of a\):0' at b host show h1
grep -q 'host h1 of this node, with 0 maps, gave way' b.log || { echo "FAILED: b does not say what gave way"; failed=1; }
# LUNs are one volume's on all nodes
expect 0 '' at b volume create own-b --size 16M
expect 4 'another volume as LUN 0' at b volume map own-b --host h1 --lun 0
expect 0 'LUN 1|lun.*1|:1' at b volume map own-b --host h1
expect 0 'all 2 copies are in sync' at a volume create shared --size 16M --copies 2
soon b 'this node serves it'
expect 4 'own|is a volume shared' at b volume create shared --size 16M
expect 4 'b has a volume own-b of its own' at a volume create own-b --size 16M --copies 2
never 'own-b' at a volume list
expect 0 '' at b volume map shared --host h1 --lun 5
expect 4 'sees that volume already' at a volume map shared --host h1
expect 0 'optimized' sees a 5
expect 0 'optimized' sees b 5
# Changes on one node hold on the other at once, and so does what is taken away
expect 0 'one-way' at b host chap h1 --user u --secret-file secret.txt
expect 2 'Authentication' sees a 5
expect 0 'optimized' sees a 5 'u%a-secret-of-mine@'
expect 4 'belongs to host h1' at b host add-initiator spare "$name:h1"
for node in a b; do
    never 'a-secret-of-mine' at "$node" host show h1 -o json
    never 'a-secret-of-mine' at "$node" status -o json
    never 'a-secret-of-mine' cat "$node.log"
    expect 0 '^600$' stat -c %a "$node/roster.0"
    expect 0 '^600$' stat -c %a "$node/acceptor.0"
done
# A node that is down hears of it later
finish_with KILL b
expect 0 'told as soon as it is: b' at a volume unmap shared --host h1
expect 2 'LOGICAL_UNIT' sees a 5 'u%a-secret-of-mine@'
begin b --iscsi-name "$name:another"
in_a_while ':1, \(of a\):0$' at b host show h1
expect 2 'LOGICAL_UNIT' sees b 5 'u%a-secret-of-mine@'
expect 0 '' at b volume map shared --host h1 --lun 5
expect 0 'optimized' sees a 5 'u%a-secret-of-mine@'
# Who is logged in at the other node is out when the command returns
mkfifo stay
in_a_while optimized sees b 5 'u%a-secret-of-mine@'
DISK_INITIATOR=$name:h1 "$disk" hold "iscsi://u%a-secret-of-mine@127.0.0.1:${ports[b.iscsi]}/$target/5" <stay >/dev/null 2>&1 &
spaces+=($!)
exec 9>stay
in_a_while "$name:h1" at b target sessions
expect 0 '' at a host delete h1 --force
never "$name:h1" at b target sessions
expect 2 'Authorization' sees b 5 'u%a-secret-of-mine@'
exec 9>&-
# Both are asked at the same time; who loses a race is told so
for i in 1 2 3 4; do
    for node in a b; do
        at "$node" host create "$node$i" --initiator "$name:$node$i" >"$node$i.log" 2>&1 &
        spaces+=($!)
    done
    at a host create "both$i" --initiator "$name:both$i" >/dev/null 2>&1 &
    at b host create "both$i" --initiator "$name:both$i" >/dev/null 2>&1 &
    wait "$!" "${spaces[@]: -2}"
done
for node in a b; do
    in_a_while 'both4' at "$node" host list
    for i in 1 2 3 4; do
        expect 0 "$name:a$i" at "$node" host show "a$i"
        expect 0 "$name:b$i" at "$node" host show "b$i"
        expect 0 "$name:both$i" at "$node" host show "both$i"
    done
done
# Nothing is changed when nobody can agree to it
finish_with KILL b
finish_with KILL w
expect 4 'acceptors? (is|are) reachable' at a host create lone --initiator "$name:lone"
never 'lone' at a host list
begin w
in_a_while 'lone' at a host create lone --initiator "$name:lone"
begin b --iscsi-name "$name:another"
in_a_while 'lone' at b host list
expect 0 '' at b host delete lone
# Who was removed is alone again
expect 0 '' at a cluster remove b --yes
in_a_while "$name:another" at b target show
expect 0 'both nodes are up|all 3 nodes' at b cluster join "$(at a cluster token -q)"
in_a_while "$target" at b target show
expect 0 '' at a host create h4 --initiator "$name:h4"
expect 0 'h4' at b host list
all_end
