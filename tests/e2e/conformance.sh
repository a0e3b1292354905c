#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# libiscsi's test suite against the target, family by family. Goal: every test passes, or its skip is in conformance.skips with
# a reason; a test that starts to fail, to skip or to pass breaks this. The suite counts skips as passed, so lines are parsed.
# skipped@4096: with blocks of that many bytes only. A test that is known to fail stands there too, as FAILED@512, until it passes.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
. "$here/serve.sh"
if ! command -v iscsi-test-cu >/dev/null; then
    echo "iscsi-test-cu is not installed (package libiscsi-bin)"
    exit 77
fi

skips=$here/conformance.skips
families=$(iscsi-test-cu -l | grep '^ALL\.[A-Za-z0-9]*$' | sort -u)
[ "$(wc -w <<<"$families")" -ge 50 ] || { echo "FAILED: iscsi-test-cu lists too few tests"; exit 1; }

run()
{
    local block=$1 url out family
    target_start --pool "$dir/pool$block" --volume "268435456:$block"
    url=iscsi://$address/$iqn/0
    for family in $families; do
        out=$dir/$family.$block
        timeout 120 iscsi-test-cu -d -S -v -t "$family" "$url" >"$out" 2>&1
        kill -0 "$child" 2>/dev/null || { echo "FAILED: the target died in $family ($block)"; exit 1; }
        # One line a test: FAMILY.TEST passed|FAILED|skipped
        awk -v family="${family#ALL.}" '
            function flush() { if (name != "") print family "." name, (failed ? "FAILED" : skipped ? "skipped" : passed ? "passed" : "unknown") }
            { sub(/passed +\[SKIPPED\].*/, "passed") } # what follows a test that passed is the cleaning up after it
            /^  Test: / { flush(); name = $2; failed = skipped = passed = 0; body = 1 }
            /^Run Summary/ { flush(); name = ""; body = 0 }
            body && /\[SKIPPED\]/ && !passed { skipped = 1 }
            body && /passed/ { passed = 1 }
            body && /(^|\.)FAILED$/ { failed = 1 }
            END { flush() }' "$out" >>"$dir/results.$block"
    done
    target_stop || { echo "FAILED: the target did not end well"; cat "$dir/target.log"; failed=1; }
    grep -v ' passed$' "$dir/results.$block" | sort >"$dir/others.$block"
    sed 's/ *#.*//' "$skips" | awk -v block="$block" '
        NF == 1 { print $1, "skipped" }
        NF == 2 && $2 == "FAILED@" block { print $1, "FAILED" }
        NF == 2 && $2 == "skipped@" block { print $1, "skipped" }' | sort >"$dir/expected"
    diff "$dir/expected" "$dir/others.$block" >"$dir/diff.$block" ||
        { echo "not as $skips says, $block byte blocks:"; cat "$dir/diff.$block"; failed=1; }
    echo "$block byte blocks: $(grep -c ' passed$' "$dir/results.$block") passed, $(grep -c ' FAILED$' "$dir/results.$block") failed," \
        "$(grep -c ' skipped$' "$dir/results.$block") skipped of $(wc -l <"$dir/results.$block")"
}

if [ $# -gt 0 ]; then
    run "$1"
    finish
fi
"$here/conformance.sh" 512 &
first=$!
"$here/conformance.sh" 4096 &
second=$!
wait "$first" || failed=1
wait "$second" || failed=1
finish
