#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# All pools of a cluster have one fingerprint key: who joins takes it over, also when it is killed meanwhile; a pool with volumes
# is refused before the cluster is asked, and left as it is; one that is put in place of another gets the key at the start.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

. "$here/members.sh"

patience=100 # looks, for what happens by itself
# What tells keys apart, never the key.
key_of()
{
    at "$1" pool show -o json | sed -n 's/.*"key_id": "\([0-9a-f]*\)".*/\1/p'
}

key_is()
{
    local key
    key=$(key_of "$1")
    [ -n "$key" ] && [ "$key" = "$2" ] && return 0
    echo "FAILED: the pool of $1 has key $key, not $2"
    tail -n 4 "$1.log" | sed 's/^/    /'
    failed=1
}

is_member()
{
    at "$1" cluster status -o json | grep -q '"member": true'
}

refused_with_volumes()
{
    local token before
    expect 0 '' at b volume create full --size 8M
    before=$(key_of b)
    token=$(at a cluster token -q)
    expect 4 'holds 1 volume, and with them it cannot' at b cluster join "$token"
    expect 4 'delete them' at b cluster join "$token"
    expect 0 '^1$' echo "$(at a node list --no-headers | wc -l)" # it was not asked
    key_is b "$before"
    expect 0 '^full ' at b volume list
    expect 0 '' at b volume delete full --yes
    expect 0 'both nodes are up' at b cluster join "$token"
}

# What it has may stay when its key is the right one.
comes_back_with_volumes()
{
    local token
    expect 0 '' at b volume create kept --size 8M
    expect 0 '' at a cluster remove b --yes
    for _ in $(seq "$patience"); do is_member b || break; sleep 0.1; done
    token=$(at a cluster token -q)
    expect 0 'both nodes are up' at b cluster join "$token"
    expect 0 '^kept ' at b volume list
}

# Killed at any moment, it is a member with the key, or none with either.
interrupted()
{
    local token delay joiner own
    own=$(key_of c)
    [ "$own" != "$key" ] || { echo "FAILED: two pools were made with one key"; failed=1; }
    for delay in 0.03 0.08 0.15; do
        is_member c && break
        token=$(at a cluster token -q)
        at c cluster join "$token" >/dev/null 2>&1 &
        joiner=$!
        sleep "$delay"
        finish_with KILL c
        wait "$joiner" 2>/dev/null
        begin c
        [ "$(key_of c)" = "$own" ] && ! is_member c || key_is c "$key"
    done
    is_member c || expect 0 'cluster ' at c cluster join "$(at a cluster token -q)"
    key_is c "$key"
}

replaced()
{
    local before after
    finish_with TERM c
    before=$(at a node list -o json | grep -A12 '"name": "c"' | grep '"store"')
    rm c/pool.img
    begin c
    key_is c "$key"
    expect 0 'the pool has the fingerprint key of the cluster now' cat c.log
    for _ in $(seq "$patience"); do
        after=$(at a node list -o json | grep -A12 '"name": "c"' | grep '"store"')
        [ "$after" = "$before" ] || break
        sleep 0.1
    done
    [ -n "$after" ] && [ "$after" != "$before" ] || { echo "FAILED: a does not hear of the new pool of c"; failed=1; }
    # One that holds something is not touched, and it is said.
    finish_with TERM c
    expect 0 '' at d volume create alone --size 8M
    before=$(key_of d)
    finish_with TERM d
    mv d/pool.img c/pool.img
    begin c
    key_is c "$before"
    expect 0 'has another fingerprint key' at c status
    finish_with TERM c
}

while read -r name port; do ports[$name]=$port; done < <(free_ports a b c d)
for node in a b c d; do begin $node; done
key=$(key_of a)
expect 0 '^[0-9a-f]{8}$' echo "$key"
expect 0 'key-id +'"$key" at a pool show
expect 0 '' at a cluster create prod
key_is a "$key"
refused_with_volumes
key_is b "$key"
finish_with KILL b
begin b
key_is b "$key"
comes_back_with_volumes
key_is b "$key"
interrupted
replaced
for node in a b; do finish_with TERM $node; done
for node in a b c; do expect 0 "(^| )0 problems" "$pool_tool" check --memory 128M --pool "$node/pool.img" --quiet; done
all_end
