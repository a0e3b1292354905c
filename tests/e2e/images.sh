#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A real file system's image through the pool and back: byte for byte the same, and clean. A second copy costs next to
# nothing; pipes, sparse writes and files of odd sizes work.
. "$(dirname "$0")/lib.sh"

command -v mke2fs >/dev/null && command -v e2fsck >/dev/null || { echo "e2fsprogs are not installed"; exit 77; }

# A tree of at most 40 MB of the machine's own files.
make_tree()
{
    local total=0 file size
    mkdir tree
    while IFS= read -r -d '' file; do
        size=$(stat -c %s "$file")
        [ $((total += size)) -lt 40000000 ] || break
        cp --parents "$file" tree/ 2>/dev/null
    done < <(find /usr/bin /usr/include /usr/share -xdev -type f -size -2000k -print0 2>/dev/null | sort -z)
}

make_tree
mke2fs -q -t ext4 -d tree image 64M >mke2fs.log 2>&1 || { echo "FAILED: mke2fs"; exit 1; }
head -c 1234567 image >odd

for io in $(back_ends); do
    rm -f images.img
    pool format images.img --size 512M --segment 20 || exit 1
    expect 0 'stored' pool write --pool images.img --volume 1 image
    expect 0 '' pool verify --pool images.img --volume 1 image
    rm -f back
    expect 0 '' pool read --pool images.img --volume 1 back
    cmp image back || failed=1
    e2fsck -fn back >fsck.log 2>&1 || { echo "FAILED ($io): e2fsck"; tail -n 5 fsck.log; failed=1; }
    before=$(pool stats --pool images.img -o json | sed 's/.*"live_bytes": \([0-9]*\).*/\1/')
    expect 0 'stored' pool write --pool images.img --volume 2 --sparse image
    after=$(pool stats --pool images.img -o json | sed 's/.*"live_bytes": \([0-9]*\).*/\1/')
    [ $((after - before)) -lt 2000000 ] || { echo "FAILED ($io): the second copy took $((after - before)) bytes"; failed=1; }
    expect 0 '' pool verify --pool images.img --volume 2 image
    pool write --pool images.img --volume 3 --size 2M <odd >/dev/null || { echo "FAILED ($io): write from stdin"; failed=1; }
    pool read --pool images.img --volume 3 --size 1234567 2>/dev/null | cmp - odd || { echo "FAILED ($io): read to stdout"; failed=1; }
    expect 0 '' pool verify --pool images.img --volume 3 odd
    cp odd changed
    printf 'x' | dd of=changed bs=1 seek=1000000 conv=notrunc status=none
    expect 1 'differs .* byte 1000000 .*block 244' pool verify --pool images.img --volume 3 changed
    expect 0 '' pool delete --pool images.img --id 3
    expect 4 'no such volume' pool verify --pool images.img --volume 3 odd
    expect 0 '(^| )0 problems' pool check --pool images.img
    expect 0 'gained' pool clean --pool images.img
    expect 0 '' pool verify --pool images.img --volume 1 image
    expect 0 '' pool verify --pool images.img --volume 2 image
    expect 0 '(^| )0 problems' pool check --pool images.img
done
finish
