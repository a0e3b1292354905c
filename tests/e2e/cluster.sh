#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Two nodes with data and a witness, as processes of their own: set up with five commands and no file edited; each of them dies in
# turn, then two; who does not belong is refused with a reason; nodes leave, come back, and are copied.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

. "$here/members.sh"

patience=100 # looks, for what happens by itself
well=('"health": "ok"' '"acceptors": 3,' '"acceptors_up": 3,' '"majority": true')
# soon NODE PATTERN...: each matches what the node says of the cluster as JSON, now or in a while
soon()
{
    local node=$1 said pattern
    shift
    for _ in $(seq "$patience"); do
        said=$(at "$node" cluster status -o json 2>&1)
        for pattern in "$@"; do
            [[ $said =~ $pattern ]] || { sleep 0.25; continue 2; }
        done
        return 0
    done
    echo "FAILED: at $node: never all of $*"
    grep -E 'summary|name|state' <<<"$said" || echo "$said"
    tail -n 4 "$node.log"
    failed=1
}

# logged NODE PATTERN: it is in the log, now or in a while
logged()
{
    for _ in $(seq "$patience"); do
        grep -Eq -- "$2" "$1.log" && return 0
        sleep 0.1
    done
    echo "FAILED: the log of $1 does not say '$2'"
    tail -n 5 "$1.log" | sed 's/^/    /'
    failed=1
}

# All say the same, but for who says it.
same()
{
    local node first= said
    for node in "$@"; do
        said=$(at "$node" cluster status -o json | grep -Ev '"(node|this|version)":')
        [ -n "$first" ] || first=$said
        [ "$said" = "$first" ] || { echo "FAILED: $1 and $node say different things"; diff <(echo "$first") <(echo "$said"); failed=1; }
    done
}

# A token with another secret, and a checksum that is right again.
forge()
{
    python3 - "$1" <<'END'
import base64, struct, sys
text = sys.argv[1].split("-", 1)[1]
data = bytearray(base64.b32decode(text + "=" * (-len(text) % 8))[:-4])
data[48] ^= 1
crc = 0xffffffff
for byte in data:
    crc ^= byte
    for _ in range(8):
        crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
data += struct.pack("<I", crc ^ 0xffffffff)
print("IZJ1-" + base64.b32encode(bytes(data)).decode().rstrip("="))
END
}

setting_up()
{
    local token
    expect 3 'belongs to no cluster' at a cluster token
    expect 0 'belongs to no cluster' at a cluster status
    expect 2 'a cluster begins with a node' at w cluster create prod
    expect 0 'next, on the other node.*' at a cluster create prod # 1
    expect 4 'belongs to cluster prod' at a cluster create prod
    token=$(at a cluster token -q)
    expect 2 'the token is for a node with data' at w cluster join "$token"
    expect 0 'both nodes are up; without a witness only a can go on alone' at b cluster join "$token" # 2
    expect 0 'cluster token --witness' at b cluster status
    used=$token
    token=$(at b cluster token --witness -q)                       # 3
    expect 2 'the token is for a witness' at f cluster join "$token"
    expect 4 'has a pool' at f cluster join --witness "$token"
    expect 0 'all 3 nodes are up' at w cluster join --witness "$token" # 4
    soon a "${well[@]}"
    expect 0 'no volume is replicated' at w cluster status              # 5
    same a b w
    expect 0 '^a +data +up +yes' at w node list
    expect 2 'is a witness: it has no pool' at w volume list
}

small()
{
    local kib
    kib=$(awk '/VmRSS/ { print $2 }' "/proc/${pids[w]}/status")
    echo "the witness takes $((kib / 1024)) MiB"
    [ "$kib" -lt 40960 ] || [ -n "${SANITIZED:-}" ] || { echo "FAILED: that is too much"; failed=1; }
}

refused()
{
    local token
    expect 5 'used already' at f cluster join "$used"
    token=$(at a cluster token -q)
    expect 5 'nobody issued this token' at f cluster join "$(forge "$token")"
    expect 2 'mistyped' at f cluster join "${token:0:30}$([ "${token:30:1}" = A ] && echo B || echo A)${token:31}"
    expect 2 'no join token' at f cluster join hello
    token=$(curl -s -m 20 --unix-socket a/izard.sock -H 'Content-Type: application/json' -d '{"lifetime_seconds": 1}' \
        http://x/v1/cluster/tokens | sed 's/.*"token": *"\([^"]*\)".*/\1/')
    sleep 1.2
    expect 5 'has expired' at f cluster join "$token"
    expect 0 'belongs to no cluster' at f cluster status
    (head -c 3000 /dev/urandom >"/dev/tcp/127.0.0.1/${ports[a]}") 2>/dev/null
    (printf 'GET / HTTP/1.0\r\n\r\n' >"/dev/tcp/127.0.0.1/${ports[a]}") 2>/dev/null
    logged a 'link from 127.0.0.1:[0-9]+ (refused|did not come up)'
    expect 2 'does not remove itself' at a cluster remove a --yes
    expect 2 'lets nobody in' at w cluster token
    same a b w
}

# One of three may always be missing.
one_dies()
{
    local node other
    for node in a b w; do
        finish_with KILL "$node"
        for other in a b w; do
            [ "$other" = "$node" ] || soon "$other" '"majority": true' '"acceptors_up": 2' "\"summary\": \"$node is missing"
        done
        other=$([ "$node" = a ] && echo b || echo a)
        expect 0 'IZJ1-' at "$other" cluster token
        [ "$node" = w ] && begin w --witness || begin "$node"
        soon "$node" "${well[@]}"
        soon "$other" "${well[@]}"
    done
    same a b w
}

# Two of three may not: nothing can be changed, and it is said why.
two_die()
{
    local before
    finish_with KILL b
    finish_with KILL w
    soon a '"majority": false' '"acceptors_up": 1' '"health": "down"'
    expect 0 'no majority: 1 of 3 acceptors is up, missing: b, w' at a cluster status
    before=$(at a cluster status -o json | grep '"version"')
    expect 4 'nothing was changed: 1 of 3 acceptors is reachable; missing: b, w' at a cluster token
    expect 0 "^$before\$" at a cluster status -o json
    expect 0 '' at a volume create "alone" --size 1M
    begin b
    soon a '"majority": true' '"acceptors_up": 2'
    begin w --witness
    soon w "${well[@]}"
    soon a "${well[@]}"
    same a b w
}

# A copied folder, and another cluster's node where one of ours should be.
impostors()
{
    mkdir copy
    cp b/identity.? b/acceptor.? b/roster.? copy/
    begin copy
    logged copy 'another process with the identity of this node'
    finish_with TERM copy
    finish_with TERM b
    expect 0 '' at f cluster create other
    finish_with TERM f
    ports[f]=${ports[b]}
    begin f
    logged a 'not signed by this cluster'
    finish_with TERM f
    begin b
    soon b "${well[@]}"
    soon a "${well[@]}"
}

leaving()
{
    local number token
    finish_with KILL a
    soon b '"acceptors_up": 2'
    expect 4 'would be held by 1 acceptor, of which 0 are up' at b cluster remove w --yes
    begin a
    soon b "${well[@]}"
    expect 2 'yes says' at b cluster remove w
    expect 3 'there is no node nobody' at b cluster remove nobody --yes
    number=$(at w cluster status -o wide --no-headers | awk '$1 == "w" { print $(NF - 1) }')
    expect 0 '' at b cluster remove w --yes
    soon a '"acceptors": 1,' '"prefer": "a"'
    expect 1 '^$' grep -w w <(at a node list)
    soon w '"member": false'
    expect 0 'was removed from its cluster' at w cluster status
    finish_with TERM w
    begin w --witness
    expect 0 'was removed from its cluster' at w cluster status
    token=$(at b cluster token --witness -q)
    expect 0 'all 3 nodes are up' at w cluster join --witness "$token"
    soon b "${well[@]}"
    [ "$(at w cluster status -o wide --no-headers | awk '$1 == "w" { print $(NF - 1) }')" -gt "$number" ] ||
        { echo "FAILED: a number was given twice"; failed=1; }
    same a b w
}

# A joiner that dies at any moment is a member afterwards, or can become one; never half of one. INTERRUPT_AFTER="0.05 0.15" kills
# one so many seconds after it began.
interrupted()
{
    local token delay joiner
    rm -rf f
    ports[f]=${ports[spare]}
    for delay in ${INTERRUPT_AFTER:-}; do
        ports[f]=${ports[spare]}
        begin f
        if at f cluster status -q | grep -q 'belongs to no cluster'; then
            token=$(at a cluster token -q)
            at f cluster join "$token" >/dev/null 2>&1 &
            joiner=$!
            sleep "$delay"
        fi
        finish_with KILL f
        wait "$joiner" 2>/dev/null
    done
    begin f
    if at f cluster status -q | grep -q 'belongs to no cluster'; then
        token=$(at a cluster token -q)
        expect 0 'cluster   prod: ' at f cluster join "$token"
    fi
    soon f "${well[@]}"
    soon a "${well[@]}"
    expect 0 '^1 4$' echo "$(at a node list | grep -c '^f .* up ') $(at a node list --no-headers | wc -l)"
    same a b w f
}

# What was removed is let in nowhere, whatever it still believes.
never_again()
{
    mkdir old
    cp b/identity.? b/acceptor.? b/roster.? old/
    expect 0 '' at a cluster remove b --yes
    soon b '"member": false'
    sleep 2.5 # for so long they still tell it
    begin old
    logged old 'node 3 is not a member here'
    expect 0 'no majority' at old cluster status
    finish_with TERM old
    soon a "${well[@]}"
    same a w f
}

while read -r name port; do ports[$name]=$port; done < <(free_ports a b w f copy old spare)
begin a
begin b
begin w --witness
begin f
setting_up
small
refused
one_dies
two_die
impostors
leaving
interrupted
never_again
all_end
