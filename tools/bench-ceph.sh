# SPDX-License-Identifier: Apache-2.0
#
# Ceph as the peer of a volume with two copies; sourced by tools/bench-cluster, after nodes.sh. A monitor and two OSDs
# (BlueStore, each in a file beside the nodes' pools), a pool of two copies that answers no write before both have it, an image
# as large as Izar's volume, and fio through librbd without a cache. Debian's packages; settings for SSDs, whatever the disk
# says of itself, no keys and no debug log: the peer at its best. No manager either: it would only use CPU.
#
# `ports` is to have that of `ceph`. What does not work is said in one line, and then there are no figures of Ceph.

peer_size=1073741824
peer_lun=3
ceph_runs=no

# ceph_fails WHAT: the one line, with the last one of the log; Ceph's figures so far go, too
ceph_fails()
{
    echo "bench-cluster: not compared with Ceph: $1: $(grep . ceph/log | tail -n 1)" >&2
    sed -i '/^ceph-/d' "$numbers"
    ceph_end
}

ceph_configure()
{
    cat >"$CEPH_CONF" <<END
[global]
fsid = $1
mon_host = [v2:127.0.0.1:${ports[ceph]}/0]
public_network = 127.0.0.0/8
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
admin_socket =
run_dir = $dir/ceph
log_file =
mon_cluster_log_file =
log_to_stderr = true
err_to_stderr = true
debug_ms = 0/0
debug_osd = 0/0
debug_bluestore = 0/0
debug_bluefs = 0/0
debug_bdev = 0/0
debug_rocksdb = 0/0
osd_pool_default_size = 2
osd_pool_default_min_size = 2
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
osd_crush_initial_weight = 1
[mon]
mon_data = $dir/ceph/mon
[osd]
osd_data = $dir/ceph/osd.\$id
osd_memory_target = 1073741824
bluestore_block_size = 4294967296
bluestore_debug_enforce_settings = ssd
osd_op_num_shards = 8
osd_op_num_threads_per_shard = 2
[client]
rbd_cache = false
rados_osd_op_timeout = 60
END
}

# ceph_starts DAEMON -i ID: in the background; what ends bench-cluster ends it
ceph_starts()
{
    "ceph-$1" "${@:2}" -f >>ceph/log 2>&1 &
    pids[ceph-$1.$3]=$!
}

ceph_monitor()
{
    timeout 60 monmaptool --create --fsid "$1" --addv a "[v2:127.0.0.1:${ports[ceph]}]" ceph/monmap &&
        timeout 60 ceph-mon -i a --mkfs --monmap ceph/monmap &&
        ceph_starts mon -i a &&
        timeout 60 ceph osd stat
}

ceph_osd()
{
    local uuid id
    uuid=$(cat /proc/sys/kernel/random/uuid)
    id=$(timeout 60 ceph osd new "$uuid") &&
        mkdir "ceph/osd.$id" &&
        timeout 120 ceph-osd -i "$id" --mkfs --osd-uuid "$uuid" &&
        ceph_starts osd -i "$id"
}

ceph_both_up()
{
    for _ in $(seq 60); do
        timeout 60 ceph osd stat | grep -q ' 2 up' && return
        sleep 1
    done
    echo 'one of the OSDs does not come up'
    return 1
}

# fio, with what all runs of it have in common; one that waits for an OSD that is gone fails (rados_osd_op_timeout)
ceph_load()
{
    local code=0
    fio --name=peer --thread --ioengine=rbd --clientname=admin --pool=peer --rbdname=peer --size="$peer_size" --direct=1 \
        --randrepeat=0 --norandommap --output-format=json "$@" &
    pids[ceph-load]=$!
    wait "${pids[ceph-load]}" || code=$?
    unset 'pids[ceph-load]'
    return $code
}

# The first write waits until the pool has both copies.
ceph_image()
{
    timeout 60 ceph osd pool create peer 32 &&
        timeout 60 rbd create peer/peer --size "${peer_size}B" --image-feature layering &&
        ceph_load --rw=write --bs=1M --iodepth=8 >ceph/fill.json
}

ceph_setting_up()
{
    local fsid
    fsid=$(cat /proc/sys/kernel/random/uuid)
    export CEPH_CONF=$dir/ceph/ceph.conf
    mkdir ceph/mon
    ceph_configure "$fsid"
    ceph_monitor "$fsid" && ceph_osd && ceph_osd && ceph_both_up && ceph_image
}

ceph_installed()
{
    [ "$(command -v ceph ceph-mon ceph-osd rbd fio | wc -l)" = 5 ]
}

ceph_begin()
{
    mkdir ceph
    echo 'tools/install-deps ceph does that' >ceph/log
    ceph_installed || [ "$(id -u)" != 0 ] || "$root/tools/install-deps" ceph >>ceph/log 2>&1
    if ! ceph_installed; then
        ceph_fails 'it is not installed'
    elif ! ceph_setting_up >>ceph/log 2>&1; then
        ceph_fails 'it does not start'
    else
        ceph_runs=yes
    fi
}

ceph_end()
{
    local name
    ceph_runs=no
    for name in "${!pids[@]}"; do
        [[ $name != ceph-* ]] || finish_with KILL "$name" 2>/dev/null
    done
    rm -rf ceph
}

# ceph_measure NAME ARGUMENTS...: one run of fio; its line, in the form of izar-load's, goes to the numbers
ceph_measure()
{
    ceph_load --time_based "${@:2}" >ceph/bench.json 2>>ceph/log &&
        jq -c '.jobs[0] | (if .write.total_ios > 0 then .write else .read end) | {
            ops: .iops, mib: (.bw_bytes / 1048576), p50_us: (.clat_ns.percentile["50.000000"] / 1000),
            p99_us: (.clat_ns.percentile["99.000000"] / 1000), slowest_us: (.clat_ns.max / 1000),
            commands: .total_ios, seconds: (.runtime / 1000)}' ceph/bench.json >ceph/line 2>>ceph/log &&
        echo "$1 $(cat ceph/line)" >>"$numbers" && return
    ceph_fails "$1"
}

# peer_measure NAME ARGUMENTS...: through the owner, as Ceph's client goes to the primary
peer_measure()
{
    measure "$1" "$(owner_of peer)" "$peer_lun" --span "$peer_size" --seed "$((seed++))" "${@:2}"
}

# both SHAPE IZAR CEPH: one right after the other; IZAR and CEPH are their words for the same load
both()
{
    local izar ceph
    [ "$ceph_runs" = yes ] || return
    read -ra izar <<<"$2"
    read -ra ceph <<<"$3"
    peer_measure "peer-$1" "${izar[@]}"
    ceph_measure "ceph-$1" "${ceph[@]}"
}

# Izar's volume is like the image: as large, and filled by the same writes.
against_ceph_begin()
{
    local node
    ceph_begin
    [ "$ceph_runs" = yes ] || return
    at a volume create peer --size "$peer_size" --copies 2 >/dev/null
    for node in a b; do
        soon "$node" 'all 2 copies are in sync' peer
        at "$node" volume map peer --host load --lun "$peer_lun" >/dev/null
    done
    peer_measure peer-fill --reads 0 --depth 8 --sequential --bytes 1048576 --once
}

# In the round before, a copy was behind.
against_ceph()
{
    local depth
    [ "$ceph_runs" = yes ] || return
    soon a 'all 2 copies are in sync' peer
    for depth in 1 32; do
        both "w$depth" "--seconds 4 --depth $depth --reads 0" "--runtime=4 --iodepth=$depth --rw=randwrite --bs=4k"
        both "r$depth" "--seconds 3 --depth $depth" "--runtime=3 --iodepth=$depth --rw=randread --bs=4k"
    done
    both seq "--seconds 4 --depth 8 --reads 0 --sequential --bytes 1048576" "--runtime=4 --iodepth=8 --rw=write --bs=1M"
}
