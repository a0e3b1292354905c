# SPDX-License-Identifier: Apache-2.0
#
# A target for an end-to-end test; sourced after lib.sh, whose $dir, $child and trap it uses.

iqn=iqn.2026-01.example.izar:test
target_tool=$BUILD_DIR/tests/izar-target

# target_start ARGUMENTS...: izar-target on a free port, or on the one that PORT names; sets $address
target_start()
{
    : >"$dir/target.log" # what the last one said there is old
    "$target_tool" --listen "127.0.0.1:${PORT:-0}" "$@" >"$dir/target.log" 2>&1 &
    child=$!
    address=
    for _ in $(seq 200); do
        address=$(sed -n 's/^ready //p' "$dir/target.log")
        [ -n "$address" ] && return 0
        kill -0 "$child" 2>/dev/null || break
        sleep 0.05
    done
    echo "FAILED: the target does not start:"
    cat "$dir/target.log"
    exit 1
}

# target_stop: asks it to end; its exit code
target_stop()
{
    local code
    kill -TERM "$child"
    for _ in $(seq 200); do
        kill -0 "$child" 2>/dev/null || break
        sleep 0.05
    done
    kill -KILL "$child" 2>/dev/null && echo "FAILED: the target does not end"
    wait "$child"
    code=$?
    child=
    return $code
}
