#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Bad input, each with its clear answer and nothing lost: what is not ours, not whole, not alone or not understood is
# refused with a sentence and an exit code (see izar-pool --help); what has a second copy is used all the same.
# `refuse.sh PART...` runs some parts only.
. "$(dirname "$0")/lib.sh"

checkpoints_at=131072

# A pool with known content in good.img.
make_good()
{
    rm -f good.img
    head -c 12M /dev/urandom >content
    pool format good.img --size 64M --segment 18 --name good || exit 1
    pool write --pool good.img --volume 1 content >/dev/null || exit 1
    checkpoint_bytes=$("$poke" good.img u64 136)
}

# damaged ARGUMENTS...: bad.img is good.img, poked
damaged()
{
    cp --sparse=always good.img bad.img
    "$poke" bad.img "$@" || failed=1
}

intact()
{
    expect 0 '' pool verify --pool bad.img --volume 1 content
}

not_a_pool()
{
    head -c 8M /dev/urandom >noise
    head -c 8M /dev/zero >zeros
    : >empty
    head -c 5000 /dev/urandom >short
    mkdir -p folder
    expect 10 'not a device of an Izar pool' pool stats --pool noise
    expect 10 'not a device of an Izar pool' pool stats --pool zeros
    expect 3 'too small' pool stats --pool empty
    expect 3 'too small' pool stats --pool short
    expect 4 'no such file' pool stats --pool nowhere
    expect 3 'not supported|invalid' pool stats --pool folder
    expect 3 'not supported|invalid' pool stats --pool /dev/null
    expect 10 'already holds' pool format noise
    expect 10 'already holds' pool format good.img --size 64M
    expect 3 'too small' pool format small.img --size 1M
    expect 2 'segment' pool format small.img --size 64M --segment 30
    cmp -s content <(pool read --pool good.img --volume 1 2>/dev/null) || { echo "FAILED ($io): a refused format did harm"; failed=1; }
}

wrong_devices()
{
    rm -f a1 a2 b1 b2
    pool format a1 a2 --size 32M --segment 18 || failed=1
    pool format b1 b2 --size 32M --segment 18 || failed=1
    expect 10 'another pool' pool stats --pool a1 --pool b2
    expect 10 'missing' pool stats --pool a1
    expect 10 'missing' pool stats --pool b2
    expect 3 'given twice' pool stats --pool a1 --pool a1
    expect 0 'slots' pool stats --pool a2 --pool a1
    cp a2 a3
    truncate -s 1M a2
    expect 3 'truncated' pool stats --pool a1 --pool a2
    mv a3 a2
    expect 0 'slots' pool stats --pool a1 --pool a2
}

already_open()
{
    cp --sparse=always good.img open.img
    start open.log load --pool open.img --volume 2 --size 4M --seconds 20 --depth 1
    sleep 0.7
    expect 6 'another process' pool stats --pool open.img
    expect 6 'another process' pool write --pool open.img --volume 1 content
    expect 6 'already open' pool format open.img --force
    kill -TERM "$child"
    wait "$child" || { echo "FAILED ($io): the load did not end in good order"; failed=1; }
    child=
    expect 0 '' pool verify --pool open.img --volume 1 content
}

damaged_super()
{
    damaged flip 100 && intact
    damaged wipe 0 4096 && intact
    damaged flip 65600 && intact
    damaged wipe 65536 4096 && intact
    damaged flip 100 65600 && expect 8 'both superblocks are damaged' pool stats --pool bad.img
    damaged version 2 && expect 10 'newer version' pool stats --pool bad.img
    damaged version 2 && expect 10 'newer version' pool write --pool bad.img --volume 1 content
    damaged version 1 && intact
}

damaged_checkpoint()
{
    local copy
    for copy in 0 1 2 3; do
        damaged flip $((checkpoints_at + copy * checkpoint_bytes + 30)) && intact
        damaged wipe $((checkpoints_at + copy * checkpoint_bytes)) 4096 && intact
    done
    damaged wipe $checkpoints_at $((4 * checkpoint_bytes))
    expect 8 'no checkpoint' pool stats --pool bad.img
}

truncated()
{
    cp --sparse=always good.img bad.img
    truncate -s 60M bad.img
    expect 3 'truncated' pool stats --pool bad.img
    truncate -s 64M bad.img
    expect 0 'slots' pool stats --pool bad.img
    truncate -s 100K bad.img
    expect 3 'too small' pool stats --pool bad.img
}

# One bit anywhere: the content, or an error that says so; never anything else, and never a signal.
bit_flips()
{
    local size number at code flips=${FLIPS:-25}
    size=$(stat -c %s good.img)
    for number in $(seq "$flips"); do
        at=$(((RANDOM * 32768 + RANDOM) * 7 % (number % 3 == 0 ? size : 20000000)))
        damaged flip "$at"
        pool verify --pool bad.img --volume 1 content >flip.log 2>&1
        code=$?
        case $code in
        0 | 8) ;;
        *)
            echo "FAILED ($io): a flip at $at ends in exit code $code"
            tail -n 3 flip.log
            failed=1
            ;;
        esac
    done
}

# The file system below has no room: an error, and what was acknowledged stays. Refused by a limit on the size of files.
no_room_below()
{
    rm -f room.img journal
    pool format room.img --size 256M --segment 18 || failed=1
    expect 7 'no space' bash -c 'trap "" XFSZ; ulimit -f 30000; exec "$@"' limit timeout -s KILL 60 "$pool_tool" load --io "$io" --pool room.img \
        --volume 1 --size 200M --journal journal --seconds 30
    expect 0 ' 0 disagreements' pool load --verify --pool room.img --journal journal
}

# The same on a real file system that is full, where we may mount one.
no_room_really()
{
    mkdir -p small
    mount -t tmpfs -o size=24M tmpfs small 2>/dev/null || return 0
    rm -f journal
    pool format small/room.img --size 128M --segment 18 || failed=1
    expect 7 'no space' pool load --pool small/room.img --volume 1 --size 100M --journal journal --seconds 30
    mount -o remount,size=200M small
    expect 0 ' 0 disagreements' pool load --verify --pool small/room.img --journal journal
    umount small
}

# A full pool is not a broken pool.
pool_full()
{
    rm -f full.img
    head -c 120M /dev/urandom >large
    pool format full.img --size 128M --segment 20 || failed=1
    expect 0 '' pool write --pool full.img --volume 1 content
    expect 7 'pool is full' pool write --pool full.img --volume 2 large
    expect 0 '' pool verify --pool full.img --volume 1 content
    expect 0 '' pool delete --pool full.img --id 2
    expect 0 '' pool clean --pool full.img
    expect 0 '' pool write --pool full.img --volume 3 content
    head -c 48M /dev/urandom >half
    expect 0 '' pool write --pool full.img --volume 4 half
    expect 0 '' pool verify --pool full.img --volume 4 half
    expect 0 '' pool verify --pool full.img --volume 1 content
    expect 0 '(^| )0 problems' pool check --pool full.img
}

wrong_requests()
{
    expect 2 'unknown command' pool dance
    expect 2 'unknown option' pool stats --pool good.img --fast
    expect 2 'not a number' pool write --pool good.img --volume one content
    expect 2 'needs --pool' pool stats
    expect 2 'means nothing' pool stats --pool good.img --seed 3
    expect 4 'no such volume' pool read --pool good.img --volume 7
    expect 4 'no such file' pool write --pool good.img --volume 1 nowhere
    expect 5 'volume exists' pool create --pool good.img --id 1 --size 1M
    expect 2 'multiple' pool create --pool good.img --id 9 --size 1000
    head -c 13M /dev/zero >larger
    expect 3 'has 3072 blocks, the file needs 3328' pool write --pool good.img --volume 1 larger
    expect 3 'has 12582912 bytes' pool read --pool good.img --volume 1 --size 13M
    expect 3 'memory' pool stats --pool good.img --memory 1M
    expect 0 '' pool verify --pool good.img --volume 1 content
}

all_parts=(not_a_pool wrong_devices already_open damaged_super damaged_checkpoint truncated bit_flips no_room_below
    no_room_really pool_full wrong_requests)

for io in $(back_ends); do
    make_good
    for part in "${@:-${all_parts[@]}}"; do
        $part
    done
done
finish
