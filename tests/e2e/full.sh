#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A full pool over iSCSI is not a broken pool. Goal: writes fail with SPACE ALLOCATION FAILED (27/07) and nothing else, all that
# was acknowledged is there, UNMAP works and brings space back in the same session, and a restart finds everything.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
. "$here/serve.sh"
disk=$BUILD_DIR/tests/disk

for io in $(back_ends); do
    export IZAR_IO=$io
    rm -f pool.img
    target_start --pool pool.img --pool-bytes 100663296 --volume 268435456:512
    expect 0 'full after [0-9]+ pieces' timeout 60 "$disk" fill "iscsi://$address/$iqn/0"
    target_stop || failed=1
    expect 0 "" pool check --pool pool.img
done
finish
