#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A volume gets a third copy, on a third node, under a load that keeps a ledger; then one of its nodes is lost, and its copy given
# up; when that node is back it takes what it had away, and gets a copy again.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
. "$here/nodes.sh"

# in_a_while COMMAND...: it succeeds, now or soon
in_a_while()
{
    local said
    for _ in $(seq 100); do
        said=$("$@" 2>&1) && return 0
        sleep 0.2
    done
    echo "FAILED: never: $*"
    echo "$said"
    failed=1
}

while read -r name port; do ports[$name]=$port; done < <(free_ports a b c w a.iscsi b.iscsi c.iscsi)
for node in a b w c; do begin "$node"; done
setting_up
expect 0 'all 4 nodes are up' at c cluster join "$(at a cluster token -q)"
expect 3 '' at c volume show shared
expect 2 'there are 3' at a volume copies shared --copies 4
expect 2 'either' at a volume copies shared
expect 3 'no node d' at a volume copies shared --drop d
expect 4 'is in sync' at a volume copies shared --drop b
through a 5
sleep 1
expect 0 'copies +3' at b volume copies shared --copies 3
soon c 'all 3 copies are in sync; this node serves it'
load_ends; cat load.log
verify a; verify c
expect 0 "^3\$" jq ".replication.copies | length" <(at c volume why shared -o json)
expect 4 'which of them' at a volume copies shared --copies 2

# b is lost for good.
through a 5
sleep 1
finish_with KILL b
in_a_while at c volume copies shared --drop b
soon a 'all 2 copies are in sync; this node serves it'
load_ends; cat load.log
verify a; verify c

# It is not, but what it has is no copy any more; it may have one again.
begin b
gone() { ! at "$1" volume show shared; }
in_a_while gone b
through c 5
sleep 1
in_a_while at a volume copies shared --copies 3
soon b 'all 3 copies are in sync; this node serves it'
load_ends; cat load.log
for node in a b c; do verify $node; done
expect 0 '' at b volume unmap shared --host load --force
expect 0 '' at b volume delete shared --yes
for node in a b c; do expect 3 '' at $node volume show shared; done
all_end
