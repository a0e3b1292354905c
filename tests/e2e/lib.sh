# SPDX-License-Identifier: Apache-2.0
#
# What the end-to-end tests share; sourced by them. BUILD_DIR names the build, TMPDIR where files may be made.

pool_tool=$BUILD_DIR/src/tool/izar-pool
poke=$BUILD_DIR/tests/poke
pool_limit=60 # seconds, for one command of it
failed=0
export LC_ALL=C

if [ ! -x "$pool_tool" ]; then
    echo "izar-pool is not built"
    exit 77
fi
dir=$(mktemp -d "${TMPDIR:-/tmp}/izar-e2e.XXXXXX")
child=
trap '[ -z "$child" ] || kill -9 "$child" 2>/dev/null; rm -rf "$dir"' EXIT
cd "$dir" || exit 1

# pool COMMAND ARGUMENTS...: izar-pool with the back end under test; one that hangs is a failure too
pool()
{
    local command=$1
    shift
    timeout -s KILL "$pool_limit" "$pool_tool" "$command" --memory 128M "$@" --io "$io" --quiet
}

# start LOG ARGUMENTS...: the same in the background, as $child
start()
{
    local log=$1
    shift
    "$pool_tool" "$@" --io "$io" --quiet >"$log" 2>&1 &
    child=$!
}

# free_ports NAME...: a line each, with a port on which nobody listens; other scripts at the same time look elsewhere
free_ports()
{
    python3 - "${FIRST_PORT:-$((20000 + $$ % 1000 * 10))}" "$@" <<'END'
import socket, sys
port = int(sys.argv[1]) - 1
for name in sys.argv[2:]:
    while True:
        port += 1
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                print(name, port)
                break
            except OSError:
                pass
END
}

# expect CODE PATTERN COMMAND...: the command exits with CODE and says what PATTERN (extended, any case) matches
expect()
{
    local code=$1 pattern=$2 output got
    shift 2
    output=$("$@" 2>&1)
    got=$?
    if [ "$got" -ne "$code" ]; then
        echo "FAILED ($io): exit code $got instead of $code: $*"
        failed=1
    elif ! grep -Eiq -- "$pattern" <<<"$output"; then
        echo "FAILED ($io): it does not say '$pattern': $*"
        failed=1
    else
        return 0
    fi
    printf '%s\n' "$output" | tail -n 8 | sed 's/^/    /'
    return 1
}

# The back ends that run here, one or two words; BACK_ENDS names others.
back_ends()
{
    local io
    for io in ${BACK_ENDS:-io_uring posix}; do
        pool format probe.img --size 128M --segment 20 >/dev/null 2>&1 && echo "$io"
        rm -f probe.img
    done
}

finish()
{
    [ "$failed" -eq 0 ] || exit 1
    exit 0
}
