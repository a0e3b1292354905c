# SPDX-License-Identifier: Apache-2.0
#
# Nodes that are members of clusters, as processes of their own; sourced after lib.sh. `ports` has that of each for links.

izard=$BUILD_DIR/izard
izar_program=$BUILD_DIR/izar
io=auto
if [ ! -x "$izard" ]; then
    echo "izard is not built"
    exit 77
fi
declare -A pids ports
spaces=()
trap 'kill -9 "${pids[@]}" "${spaces[@]}" 2>/dev/null; rm -rf "$dir"' EXIT

# Where a node is, what it is started with, and as what process; scripts may say otherwise.
address()
{
    echo 127.0.0.1
}

flags_of()
{
    echo --memory 160M --pool-size 128M --loops 1 --iscsi-listen none
}

# inside NODE COMMAND...: there, as the process that is asked to
inside()
{
    shift
    exec "$@"
}

# at NODE ARGUMENTS...: izar there
at()
{
    local node=$1
    shift
    timeout -s KILL 60 "$izar_program" --socket "$node/izard.sock" "$@" </dev/null
}

# begin NODE FLAGS...: starts it, or starts it again; returns when it answers
begin()
{
    local node=$1
    shift
    rm -f "$node/izard.sock"
    # shellcheck disable=SC2046 # words, on purpose
    inside "$node" "$izard" --state "$node" --name "$node" --io "$io" $(flags_of "$node") \
        --cluster-listen "$(address "$node"):${ports[$node]}" "$@" 2>>"$node.log" &
    pids[$node]=$!
    for _ in $(seq 200); do
        [ -S "$node/izard.sock" ] && at "$node" status >/dev/null 2>&1 && return 0
        sleep 0.05
    done
    echo "FAILED: izard does not start as $node"
    tail -n 5 "$node.log"
    if [ -d "/proc/${pids[$node]}" ]; then # what it waits for
        grep State "/proc/${pids[$node]}/status"
        for thread in "/proc/${pids[$node]}/task"/*; do echo "  $(cat "$thread/comm" "$thread/wchan" "$thread/syscall" 2>/dev/null | tr '\n' ' ')"; done
    fi
    exit 1
}

# finish_with SIGNAL NODE: it lived until then, and when it was asked to end it ended well
finish_with()
{
    local code
    kill "-$1" "${pids[$2]}" 2>/dev/null || { echo "FAILED: $2 has ended by itself"; tail -n 5 "$2.log"; failed=1; }
    wait "${pids[$2]}" 2>/dev/null
    code=$?
    unset "pids[$2]"
    [ "$1" != TERM ] || [ "$code" = 0 ] || { echo "FAILED: $2 ends with $code"; tail -n 5 "$2.log"; failed=1; }
}

# The last word of a script: all that is still there ends well, and nobody broke a rule of its own.
all_end()
{
    local node
    for node in "${!pids[@]}"; do finish_with TERM "$node"; done
    grep -hiE 'assertion|abort|sanitizer' ./*.log && failed=1
    exit $failed
}
