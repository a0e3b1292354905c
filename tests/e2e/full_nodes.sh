#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A volume with two copies, one of them on a smaller pool, that runs full. Goal: as on one node (full.sh), through either node:
# writes fail with SPACE ALLOCATION FAILED and nothing else, all that was acknowledged is there, UNMAP brings space back in the
# same session; and both copies stay in sync all the time, also when the node with the smaller pool starts again while it is full.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
. "$here/nodes.sh"

fill()
{
    DISK_INITIATOR=$initiator-0 expect 0 'full after [0-9]+ pieces' timeout 120 "$BUILD_DIR/tests/disk" fill "$(url "$1")"
}

# What the register says changes when a copy leaves the in-sync set, and when it comes back.
version()
{
    at a volume why shared -o json | jq -e .replication.version || echo none
}

while read -r name port; do ports[$name]=$port; done < <(free_ports a b w a.iscsi b.iscsi)
volume_size=256M
pool_size=192M begin a
pool_size=128M begin b
begin w
setting_up
before=$(version)
expect 0 '^[0-9]+$' echo "$before"
fill a
soon b 'all 2 copies are in sync; this node serves it'
fill b
soon a 'all 2 copies are in sync; this node serves it'
[ "$(version)" = "$before" ] || { echo "FAILED: a copy left because a pool is full: $before, $(version)"; tell_all; }
finish_with TERM b
pool_size=128M begin b
soon b 'all 2 copies are in sync; this node serves it'
fill a
soon b 'all 2 copies are in sync; this node serves it'
for node in a b w; do finish_with TERM "$node"; done
io=posix
for node in a b; do expect 0 '(^| )0 problems' pool check --pool "$node/pool.img"; done
finish
