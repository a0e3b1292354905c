#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Logins and data, with an initiator that others wrote. Goal: whatever is negotiated, what was written is what is read; who may
# not log in is told so. Method: izar-initiator (libiscsi) with each combination, on both back ends; then the same volume after
# a clean restart.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
. "$here/serve.sh"
initiator=$BUILD_DIR/tests/izar-initiator
if [ ! -x "$initiator" ]; then
    echo "izar-initiator is not built (libiscsi-dev is missing)"
    exit 77
fi

url()
{
    echo "iscsi://$1$address/$iqn/0$2"
}

combinations()
{
    local options seed=1
    for options in "" "digest" "no-immediate" "digest no-immediate"; do
        seed=$((seed + 1))
        # shellcheck disable=SC2086
        expect 0 '' timeout 60 "$initiator" "$(url "$1")" $seed 20 $options
    done
}

for io in $(back_ends); do
    export IZAR_IO=$io
    rm -f pool.img
    target_start --pool pool.img --volume 67108864:512
    combinations ""
    expect 0 "$iqn" timeout 20 iscsi-ls "iscsi://$address"
    expect 1 'not found' timeout 20 "$initiator" "iscsi://$address/$iqn.other/0" 1 1
    target_stop || failed=1

    target_start --pool pool.img --chap alice:secretsecret12 --mutual bob:othersecret1234
    combinations "alice%secretsecret12@"
    expect 0 '' timeout 60 "$initiator" "$(url alice%secretsecret12@ '?target_user=bob&target_password=othersecret1234')" 1 5
    expect 1 'CHAP_R' timeout 20 "$initiator" "$(url alice%secretsecret12@ '?target_user=bob&target_password=othersecret1235')" 1 1
    expect 1 'Authentication' timeout 20 "$initiator" "$(url alice%secretsecret13@)" 1 1
    expect 1 'Authentication' timeout 20 "$initiator" "$(url alicf%secretsecret12@)" 1 1
    expect 1 'Authentication' timeout 20 "$initiator" "$(url "")" 1 1
    target_stop || failed=1

    target_start --pool pool.img --initiator iqn.2026-01.example.izar:somebody.else
    expect 1 'Authorization|forbidden|\(514\)' timeout 20 "$initiator" "$(url "")" 1 1
    target_stop || failed=1
done
finish
