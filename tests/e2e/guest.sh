#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A virtual machine whose root disk is a volume. Goal: after kill -9 of QEMU and izard at the same moment, all that the guest
# had synced is there, and its file system is clean. Method: QEMU, emulating, boots Debian's kernel from an ext4 behind
# iscsi://. The guest writes files, syncs each and only then says so on its console; it is killed at a moment by chance and
# boots again; it names every file that its log on the disk knows, with the checksum of what it reads. This side knows what
# each file must hold, since its number tells, and which ones the guest had promised.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

PATH=$PATH:/usr/sbin:/sbin
disk=$BUILD_DIR/tests/disk
export IZAR_SOCKET=node/izard.sock
export DISK_INITIATOR=iqn.2026-01.org.izar.test:guest
first=24      # files with one sync together, 4 MiB
rounds=4      # files with one each before the end may come
boot_limit=150 # seconds; an emulated machine beside other tests is slow
guest=
trap 'for pid in $guest $child; do kill -9 "$pid" 2>/dev/null; done; rm -rf "$dir"' EXIT

for program in qemu-system-x86_64 busybox mke2fs e2fsck; do
    command -v "$program" >/dev/null || { echo "$program is not installed"; exit 77; }
done
kernel=$("$here/../../tools/guest-kernel" "$BUILD_DIR/guest") || { echo "$kernel"; exit 77; }

# fail WHAT: the end, with what the guest and the node said last
fail()
{
    echo "FAILED: $*"
    for log in serial.log qemu.log node.log; do
        [ -s "$log" ] && tail -n 15 "$log" | sed "s/^/    $log: /"
    done
    exit 1
}

izar()
{
    timeout -s KILL 60 "$BUILD_DIR/izar" -q "$@" </dev/null
}

start_node()
{
    "$BUILD_DIR/izard" --state node --memory 256M --pool-size 1G --io "$io" --name n1 --iscsi-listen "$1" 2>>node.log &
    child=$!
    for _ in $(seq 200); do
        izar status >/dev/null 2>&1 && return
        sleep 0.1
    done
    fail "izard does not start"
}

# The programs of the guest. `content N` is what file N holds: noise that begins elsewhere for each, so that no two share blocks.
make_bin()
{
    local name
    mkdir bin
    for name in $(busybox --list); do
        ln -s busybox "bin/$name"
    done
    cp --remove-destination "$(command -v busybox)" bin/busybox
    cat >bin/content <<'END'
#!/bin/sh
tail -c +$(($1 * 97)) "${2:-/bin/noise}"
END
    chmod +x bin/content
    seq 100000 190000 | gzip -n >bin/noise
}

# What boots first: it loads the disk's driver and goes on from the disk. modprobe finds what the driver needs.
make_initramfs()
{
    local modules version
    modules=$(echo "$kernel"/lib/modules/*)
    version=${modules##*/}
    mkdir -p initramfs/{dev,proc,new} "initramfs/lib/modules/$version"
    cp -a bin initramfs
    cp "$modules"/kernel/drivers/virtio/virtio* "$modules"/kernel/drivers/block/virtio_blk* "initramfs/lib/modules/$version"
    find initramfs/lib -name '*.xz' -exec xz -d {} +
    busybox depmod -b "$PWD/initramfs" "$version" || fail "depmod"
    cat >initramfs/init <<'END'
#!/bin/sh
export PATH=/bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
modprobe -a virtio_pci virtio_blk
mount -t ext4 /dev/vda /new || { echo "there is no root disk"; poweroff -f; }
mount --move /dev /new/dev
mount --move /proc /new/proc
exec switch_root /new /sbin/init
END
    chmod +x initramfs/init
    (cd initramfs && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1) >initramfs.gz
}

# The root file system. The kernel hands its argument story=... on to init.
make_root()
{
    mkdir -p tree/{dev,proc,sbin,data}
    cp -a bin tree
    cat >tree/sbin/init <<END
#!/bin/sh
first=$first
END
    cat >>tree/sbin/init <<'END'
export PATH=/bin
write() # all the time, until killed
{
    for n in $(seq $first); do
        content $n >/data/$n
        echo $n >>/log
    done
    sync
    echo "written $first"
    for n in $(seq $((first + 1)) 200); do
        content $n | dd of=/data/$n conv=fsync 2>/dev/null
        echo $n >>/log
        sync
        echo "round $n"
    done
}
check()
{
    dmesg | grep -o 'EXT4-fs (vda): recovery complete'
    while read -r n; do
        set -- $n $(sha256sum /data/$n)
        echo "found $1 $2"
    done </log
    mount -o remount,ro / && echo "the end"
}
mount -o remount,rw / && $story
poweroff -f
END
    chmod +x tree/sbin/init
    mke2fs -q -t ext4 -d tree root.img 64M >mke2fs.log 2>&1 || fail "mke2fs: $(cat mke2fs.log)"
}

# boot STORY: starts the guest, as $guest; its console goes to serial.log
boot()
{
    : >serial.log
    qemu-system-x86_64 -accel tcg -cpu max -smp 1 -m 256 -nodefaults -display none -no-reboot -serial file:serial.log \
        -kernel "$(echo "$kernel"/boot/vmlinuz-*)" -initrd initramfs.gz -append "console=ttyS0 quiet panic=-1 story=$1" \
        -blockdev "driver=iscsi,node-name=root,transport=tcp,portal=$portal,target=$target,lun=0,cache.direct=on,\
initiator-name=$DISK_INITIATOR" -device virtio-blk-pci,drive=root </dev/null >qemu.log 2>&1 &
    guest=$!
}

# wait_for SECONDS PATTERN: until the guest says a line that PATTERN matches
wait_for()
{
    local end=$((SECONDS + $1))
    until grep -Eq "$2" serial.log; do
        kill -0 "$guest" 2>/dev/null || grep -Eq "$2" serial.log || fail "the guest ended before it said '$2'"
        [ "$SECONDS" -lt "$end" ] || fail "the guest did not say '$2' within $1 s"
        sleep 0.1
    done
}

# What the guest says after WORD, one line each.
said()
{
    tr -d '\r' <serial.log | sed -n "s/^$1 //p"
}

# The guest lives until a moment by chance; sets $promised, the last file that it said was safe.
live_and_die()
{
    boot write
    wait_for "$boot_limit" "^round $((first + rounds))"
    sleep 0.$((RANDOM % 10))
    kill -0 "$guest" 2>/dev/null || fail "the guest ended by itself"
    kill -0 "$child" 2>/dev/null || fail "izard ended by itself"
    kill -9 "$guest" "$child"
    wait "$guest" "$child" 2>/dev/null
    guest= child=
    promised=$(said round | sort -n | tail -n 1)
}

# The guest again: it finds everything.
return_and_find()
{
    local last n
    boot check
    wait_for "$boot_limit" '^the end'
    for _ in $(seq 300); do
        kill -0 "$guest" 2>/dev/null || break
        sleep 0.1
    done
    kill -0 "$guest" 2>/dev/null && fail "the guest does not power off"
    guest=
    grep -q 'recovery complete' serial.log || fail "there was nothing for the guest's journal to do"
    said found >found
    last=$(tail -n 1 found | cut -d ' ' -f 1)
    [ "${last:-0}" -ge "$promised" ] || fail "files up to $promised were promised, the guest's log knows ${last:-none}"
    for n in $(seq "$last"); do
        echo "$n $(sh bin/content "$n" bin/noise | sha256sum | cut -d ' ' -f 1)"
    done >expected
    diff expected found >difference || fail "what it finds is not what it wrote: $(head -n 6 difference)"
    echo "files up to $promised were promised, $last found"
}

io=$(back_ends | head -n 1)
make_bin
make_initramfs
make_root
start_node 127.0.0.1:0
portal=$(izar target portals -o name) && target=$(izar target show -o name) || fail "no target"
url=iscsi://$portal/$target/0
izar host create guest --initiator "$DISK_INITIATOR" >/dev/null || fail "izar host create"
izar volume create root --size 64M --host guest >/dev/null || fail "izar volume create"
"$disk" write "$url" root.img || fail "the root file system cannot be written"
live_and_die
start_node "$portal"
return_and_find
"$disk" read "$url" back.img || fail "the volume cannot be read back"
e2fsck -fn back.img >fsck.log 2>&1 || fail "e2fsck: $(tail -n 5 fsck.log)"
finish
