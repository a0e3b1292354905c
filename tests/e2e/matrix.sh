#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Everything that a login can negotiate, with an initiator that keeps to it to the letter and compares (matrix.py): all
# combinations without authentication, a part of them with each kind of it and on the other back end.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
. "$here/serve.sh"

every=1
for io in $(back_ends); do
    export IZAR_IO=$io
    rm -f pool.img
    target_start --pool pool.img --volume 8388608:512
    expect 0 'combinations' timeout 60 python3 "$here/matrix.py" "${address##*:}" none "$every"
    every=5
    target_stop || failed=1
    target_start --pool pool.img --chap alice:secretsecret12 --mutual bob:othersecret1234
    expect 0 'combinations' timeout 60 python3 "$here/matrix.py" "${address##*:}" one-way 7
    expect 0 'combinations' timeout 60 python3 "$here/matrix.py" "${address##*:}" mutual 11
    target_stop || failed=1
done
finish
