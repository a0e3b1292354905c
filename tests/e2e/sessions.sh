#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Logins and data, with an initiator that others wrote. Goal: whatever is negotiated, what was written is what is read; who may
# not log in is told so. Method: izar-load (libiscsi) with each combination, on both back ends, two sessions at once, and all of
# the volume compared after each; then the same volume after a clean restart.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
. "$here/serve.sh"
load=$BUILD_DIR/tests/izar-load

url()
{
    echo "iscsi://$1$address/$iqn/0$2"
}

# play URL COMMANDS OPTIONS...: so many commands, then everything is compared
play()
{
    local url=$1 commands=$2
    shift 2
    seed=$((seed + 1))
    expect 0 ' 0 not answered' timeout 60 "$load" run "$url" ledger --sessions 2 --commands "$commands" --seed "$seed" "$@"
    expect 0 ' verified' timeout 60 "$load" verify "$url" ledger "$@"
}

combinations()
{
    local options
    for options in "" "--digest" "--no-immediate" "--digest --no-immediate"; do
        # shellcheck disable=SC2086
        play "$(url "$1")" 400 $options
    done
}

# refused PATTERN URL: a login that must fail
refused()
{
    expect 1 "$1" timeout 20 "$load" run "$2" nothing --commands 1
}

seed=0
for io in $(back_ends); do
    export IZAR_IO=$io
    rm -f pool.img ledger
    target_start --pool pool.img --volume 67108864:512
    combinations ""
    expect 0 "$iqn" timeout 20 iscsi-ls "iscsi://$address"
    refused 'not found' "iscsi://$address/$iqn.other/0"
    target_stop || failed=1

    target_start --pool pool.img --chap alice:secretsecret12 --mutual bob:othersecret1234
    combinations "alice%secretsecret12@"
    play "$(url alice%secretsecret12@ '?target_user=bob&target_password=othersecret1234')" 100
    refused 'CHAP_R' "$(url alice%secretsecret12@ '?target_user=bob&target_password=othersecret1235')"
    refused 'Authentication' "$(url alice%secretsecret13@)"
    refused 'Authentication' "$(url alicf%secretsecret12@)"
    refused 'Authentication' "$(url "")"
    target_stop || failed=1

    target_start --pool pool.img --initiator iqn.2026-01.example.izar:somebody.else
    refused 'Authorization|forbidden|\(514\)' "$(url "")"
    target_stop || failed=1
done
finish
