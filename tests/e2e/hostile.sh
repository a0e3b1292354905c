#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What no initiator sends (hostile.py), on both back ends: the target cuts it off, keeps serving others, and ends cleanly.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
. "$here/serve.sh"

for io in $(back_ends); do
    export IZAR_IO=$io
    rm -f pool.img
    target_start --pool pool.img --volume 67108864:512 --login 2000 --nop 4000
    expect 0 'half_open' timeout 90 python3 "$here/hostile.py" "${address##*:}"
    target_stop || { echo "FAILED ($io): the target did not end well"; failed=1; }
done
finish
