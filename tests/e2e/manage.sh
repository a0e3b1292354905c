#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# izard and izar as a person uses them: a node in a folder, every command's help example, JSON and exit codes, what is
# refused and why, and names that survive kill -9 at any moment.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

izard=$BUILD_DIR/izard
izar_program=$BUILD_DIR/izar
disk=$BUILD_DIR/tests/disk
export DISK_INITIATOR=iqn.2026-01.org.izar.test:me
if [ ! -x "$izard" ]; then
    echo "izard is not built"
    exit 77
fi
export IZAR_SOCKET=node/izard.sock

izar()
{
    timeout -s KILL 60 "$izar_program" "$@" </dev/null
}

# A node on any free port; returns when it answers.
start_node()
{
    "$izard" --state node --memory 192M --pool-size 1G --io "$io" --loops 2 --name n1 --iscsi-listen 127.0.0.1:0 \
        --cluster-listen 127.0.0.1:0 "$@" 2>node.log &
    child=$!
    for _ in $(seq 100); do
        izar status >/dev/null 2>&1 && return 0
        kill -0 "$child" 2>/dev/null || break
        sleep 0.1
    done
    echo "FAILED ($io): izard does not start"
    tail -n 5 node.log
    exit 1
}

stop_node()
{
    kill -TERM "$child"
    wait "$child" || { echo "FAILED ($io): izard ended with $?"; tail -n 5 node.log; failed=1; }
    child=
}

# json FILTER COMMAND...: the command's JSON satisfies the filter of jq
json()
{
    local filter=$1 output
    shift
    output=$("$@" -o json 2>json.err) || { echo "FAILED ($io): $*"; cat json.err; failed=1; return; }
    jq -e "$filter" >/dev/null <<<"$output" || { echo "FAILED ($io): not $filter: $*"; head -c 600 <<<"$output"; failed=1; }
}

# Every example of the help, in an order that makes sense; each must be there, and each must work, as text and as JSON.
examples()
{
    local example ran=0 verb
    printf 'a secret of 25 bytes long\n' >secret.txt
    izar help -o json >help.json || failed=1
    for verb in 'status ' 'help ' 'cluster create' 'cluster token' 'cluster status' 'node list' 'pool show' 'disk list' 'host create' 'host list' 'host show' 'host add-initiator' \
        'host remove-initiator' 'host chap' 'volume create' 'volume list' 'volume show' 'volume why' 'volume resize' 'volume map' 'volume stats' \
        'top ' 'target show' 'target portals' 'target sessions' 'volume unmap' 'pool gc' 'pool scrub' 'volume delete' 'host delete'; do
        example=$(jq -r --arg v "$verb" '.[] | select((.noun + " " + (.verb // "")) == $v) | .example' help.json)
        [ -n "$example" ] || { echo "FAILED: no example for $verb"; failed=1; continue; }
        expect 0 '' izar ${example#izar } # words, on purpose
        ran=$((ran + 1))
        case $verb in
        *list | *show | *stats | 'status ' | 'target '*) json . izar ${example#izar } ;;
        esac
    done
    expect 3 'no session 1' izar target disconnect 1 # needs somebody who is connected
    expect 3 'no node n3' izar cluster remove n3 --yes # needs another node: see cluster.sh
    expect 2 'mistyped' izar cluster join IZJ1-YEAAAAAAAAAAAAAA
    expect 3 'no volume vm1' izar volume force-promote vm1 --yes # needs other nodes: see replicas.sh
    expect 3 'no volume vm1' izar volume copies vm1 --copies 3 # likewise: see copies.sh
    ran=$((ran + 5))
    [ "$ran" -eq "$(jq length help.json)" ] || { echo "FAILED: $ran of $(jq length help.json) examples ran"; failed=1; }
    while read -r noun verb; do
        expect 0 'Example' izar help $noun ${verb#null}

    done < <(jq -r '.[] | "\(.noun) \(.verb)"' help.json)
    json 'length == 0' izar volume list
}

usage()
{
    expect 2 'Example' izar
    expect 0 'Exit codes' izar --help
    expect 0 'izar ' izar --version
    expect 2 'unknown noun' izar dance
    expect 2 'no verb' izar volume dance
    expect 2 'volume VERB' izar volume
    expect 2 'unknown flag' izar volume list --fast
    expect 2 'means nothing' izar volume list --size 5G
    expect 2 'means nothing' izar volume list --interval 2
    expect 2 '\-\-size is missing' izar volume create x
    expect 2 'not a size' izar volume create x --size 5Q
    expect 2 'one copy' izar volume create x --size 64M --fast-failover
    expect 2 'takes NAME' izar volume show
    expect 2 'takes no names' izar volume list x
    expect 2 'allowed are table' izar volume list -o yaml
    expect 6 'nobody answers' izar --socket nowhere.sock status
    expect 6 'nobody answers' izar status --socket nowhere.sock -o json
}

names()
{
    local name
    expect 0 'vm-1' izar volume create vm-1 --size 64M
    expect 4 'there is a volume vm-1' izar volume create vm-1 --size 64M
    expect 0 'vm-1' izar volume create vm-1 --size 64M --if-absent
    for name in '' ' ' 'a b' 'a/b' '../x' '.x' '-x' 'a%b' $'a\nb' $'a\tb' 'a"b' "a'b" 'a;b' 'ä' $'\x01' 'a\b' '$(id)' '*' \
        aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; do
        expect 2 '[a-z]' izar volume create --size 64M -- "$name"
        expect 2 '[a-z]' izar host create -- "$name"
    done
    expect 3 'there is no volume nobody' izar volume show nobody
    expect 3 'there is no volume' izar volume show $'\xff\xc3'
    expect 3 'izar volume list' izar volume delete nobody --yes
    expect 0 '' izar volume delete nobody --yes --if-exists
    expect 3 'there is no host' izar host show nobody
    expect 2 'not an initiator' izar host create h --initiator hv1
    expect 0 'iqn.2026-01.a:1' izar host create h1 --initiator IQN.2026-01.A:1
    expect 4 'belongs to host h1' izar host create h2 --initiator iqn.2026-01.a:1
    expect 4 'there is a host h1' izar host create h1
    expect 2 'multiple of 4096' izar volume create odd --size 4097
    expect 2 'more than 0' izar volume create odd --size 0
    expect 2 'at most 512 TiB' izar volume create odd --size 600T
    expect 2 '512 or 4096' izar volume create odd --size 1M --block-size 1024
    json '[.[].name] == ["vm-1"]' izar volume list
}

maps()
{
    expect 0 'LUN 0 of host h1' izar volume map vm-1 --host h1
    expect 4 'already, as LUN 0' izar volume map vm-1 --host h1
    expect 0 '' izar volume create vm-2 --size 64M --block-size 4096
    expect 4 'another volume as LUN 0' izar volume map vm-2 --host h1 --lun 0
    expect 2 'from 0 to 255' izar volume map vm-2 --host h1 --lun 256
    expect 0 'LUN 7' izar volume map vm-2 --host h1 --lun 7
    expect 3 'no host nobody' izar volume map vm-2 --host nobody
    expect 4 'is mapped to host h1' izar volume delete vm-1 --yes
    expect 4 'sees 2 volumes' izar host delete h1
    expect 3 'is not mapped' izar volume unmap vm-2 --host h1 --host h1
    expect 2 'yes says' izar volume delete vm-2
    json '.maps == [{"host": "h1", "lun": 0}] and .block_size == 512 and .size == 67108864' izar volume show vm-1
    expect 0 '' izar volume delete vm-2 --yes
}

chap()
{
    printf 'short\n' >short.txt
    printf 'secret-secret-1\n' >one.txt
    printf 'secret-secret-2\n' >two.txt
    expect 2 'from 12 to 64' izar host chap h1 --user u --secret-file short.txt
    expect 1 'cannot read' izar host chap h1 --user u --secret-file nowhere.txt
    expect 2 'no terminal' izar host chap h1 --user u
    expect 2 'user or --off' izar host chap h1
    expect 2 'must differ' izar host chap h1 --user u --secret-file one.txt --mutual-user t --mutual-secret-file one.txt
    expect 0 'mutual' izar host chap h1 --user u --secret-file one.txt --mutual-user t --mutual-secret-file two.txt
    json '.chap == "mutual" and .chap_user == "u"' izar host show h1
    izar host show h1 -o json | grep -q secret-secret && { echo "FAILED ($io): a secret was told"; failed=1; }
    grep -rq secret-secret node/izard.log node.log && { echo "FAILED ($io): a secret is in the log"; failed=1; }
    expect 0 'none' izar host chap h1 --off
}

sizes()
{
    expect 0 '128 MiB' izar volume resize vm-1 --size 128M
    expect 0 '32 MiB' izar volume resize vm-1 --size 32M
    expect 2 'multiple' izar volume resize vm-1 --size 1000
    json '.size == 33554432' izar volume show vm-1
    json '.sessions == 0' izar volume resize vm-1 --size 40M
    json '.size == 33554432' izar volume resize vm-1 --size 32M
}

# A host that is logged in holds on to what it sees; data is not cut off by accident; CHAP keeps others out.
in_use()
{
    local url secret='secret-secret-1' id
    url="$(izar target portals -o name)/$(izar target show -o name)/0"
    expect 0 '' izar host create me --initiator "$DISK_INITIATOR"
    expect 0 'me:0' izar volume create data --size 64M --host me
    mkfifo hold
    "$disk" hold "iscsi://$url" <hold >hold.log 2>&1 &
    local holder=$!
    exec 9>hold
    for _ in $(seq 100); do
        grep -q holding hold.log && break
        sleep 0.1
    done
    json 'length == 1 and .[0].host == "me" and .[0].state == "normal"' izar target sessions
    expect 0 'as it is written' python3 "$here/../docs_test.py" --node node/izard.sock # now each list has an item
    expect 4 'in use: host me sees it and has 1 session' izar volume delete data --yes --force
    expect 4 'host me is logged in' izar volume unmap data --host me
    expect 4 '1 session may write' izar volume resize data --size 32M
    expect 0 '96 MiB' izar volume resize data --size 96M
    id=$(izar target sessions -o json | jq '.[0].id')
    expect 0 '' izar target disconnect "$id"
    exec 9>&-
    wait "$holder" 2>/dev/null
    rm -f hold
    json 'length == 0' izar target sessions
    head -c 48M /dev/urandom >data.bin
    expect 0 '48 MiB written' "$disk" write "iscsi://$url" data.bin
    expect 4 'holds data beyond 46.9' izar volume resize data --size 49278976
    expect 0 '48 MiB' izar volume resize data --size 48M
    expect 0 'equal' "$disk" verify "iscsi://$url" data.bin
    expect 0 '32 MiB' izar volume resize data --size 32M --discard-data
    printf '%s\n' "$secret" >one.txt
    expect 0 'one-way' izar host chap me --user u --secret-file one.txt
    expect 2 'login' "$disk" read "iscsi://$url" back.bin
    expect 2 'login' "$disk" read "iscsi://u%wrong-wrong-wrong@$url" back.bin
    expect 0 'read' "$disk" read "iscsi://u%$secret@$url" back.bin
    cmp -n 33554432 data.bin back.bin || { echo "FAILED ($io): other data came back"; failed=1; }
    expect 2 'login' env DISK_INITIATOR=iqn.2026-01.org.izar.test:stranger "$disk" read "iscsi://u%$secret@$url" back.bin
    expect 0 '' izar volume unmap data --host me
    expect 0 '' izar volume delete data --yes
    expect 0 '' izar host delete me
}

# What the API says to those who speak HTTP by themselves, also to noise.
web()
{
    local curl="curl -s -m 20 --unix-socket node/izard.sock" i
    expect 0 '"status":404' $curl http://x/v1/nothing
    expect 0 '"status":405' $curl -X PATCH http://x/v1/volumes
    expect 0 '"status":415' $curl -X POST -d '{}' http://x/v1/volumes
    expect 0 'unknown member.*siz.*known here: name, size' $curl -H 'Content-Type: application/json' -d '{"name":"a","siz":1}' http://x/v1/volumes
    expect 0 'is not JSON' $curl -H 'Content-Type: application/json' -d '{"name":' http://x/v1/volumes
    expect 0 'is not JSON' $curl -H 'Content-Type: application/json' -d '{"name":"a","name":"b","size":4096}' http://x/v1/volumes
    expect 0 'must be a JSON object' $curl -H 'Content-Type: application/json' -d '[1]' http://x/v1/volumes
    head -c 100000 /dev/zero | tr '\0' ' ' >large
    expect 0 '"status":413' $curl -H 'Content-Type: application/json' --data-binary @large http://x/v1/volumes
    python3 "$here/noise.py" node/izard.sock "${NOISE:-100}" || { echo "FAILED ($io): noise"; failed=1; }
    expect 0 'n1' izar status
    json '[.[].name] == ["vm-1"]' izar volume list
}

# The service manager hears of start and end.
notify()
{
    python3 -c '
import socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind("notify.sock")
s.settimeout(30)
print(s.recv(100).decode())
print(s.recv(100).decode())' >notified 2>&1 &
    local listener=$! other
    while [ ! -S notify.sock ]; do sleep 0.1; done
    NOTIFY_SOCKET=$PWD/notify.sock "$izard" --state noted --pool-size 256M --memory 192M --io "$io" --iscsi-listen none 2>/dev/null &
    other=$!
    for _ in $(seq 200); do
        grep -q READY=1 notified && break
        [ -S noted/izard.sock ] && break
        sleep 0.1
    done
    sleep 0.2
    kill "$other"
    wait "$other" || { echo "FAILED ($io): izard ended with $?"; failed=1; }
    wait "$listener"
    expect 0 'READY=1' cat notified
    expect 0 'STOPPING=1' cat notified
    rm -rf noted notify.sock
}

second()
{
    expect 1 'another izard runs on node' "$izard" --state node --memory 192M --iscsi-listen none
    expect 1 'another process|already open|another izard' "$izard" --state other --pool node/pool.img --memory 192M --iscsi-listen none
    expect 1 'another izard listens' "$izard" --state other2 --pool-size 1G --memory 192M --socket node/izard.sock --iscsi-listen none
    expect 0 'n1' izar status
}

configuration()
{
    printf '# ours\nmemory = 192M\nmemroy = 1G\n' >bad.conf
    expect 2 'bad.conf:3: unknown key memroy' "$izard" --config bad.conf
    printf 'io = fast\n' >bad.conf
    expect 2 'bad.conf:1: io = fast: allowed are auto\|io_uring\|posix' "$izard" --config bad.conf
    expect 2 'allowed are 160 MiB' "$izard" --memory 1M
    expect 2 'unknown flag' "$izard" --fast
    expect 2 'cannot read' "$izard" --config nowhere.conf
    expect 0 'iscsi-listen' "$izard" --help
    expect 1 'cannot serve iSCSI at 192.0.2.1' "$izard" --state elsewhere --pool-size 1G --memory 192M --iscsi-listen 192.0.2.1:3260
    head -c 8M /dev/urandom >noise.img
    expect 1 'not a device of an Izar pool' "$izard" --state third --pool noise.img --memory 192M --iscsi-listen none
    expect 1 'already holds' "$izard" --state third --pool noise.img --format --memory 192M --iscsi-listen none
    printf 'memory = 192M\npool-size = 1G\niscsi-listen = none\nio = %s\n' "$io" >node/izard.conf
}

# Each answered name is there after kill -9, whenever it comes; names that were not answered may be there or not.
kills()
{
    local round i
    : >answered
    izar volume list -o name -q >before
    for round in 1 2 ${KILLS:-}; do
        (for i in $(seq 200); do
            izar -q volume create "k$round-$i" --size 1M >/dev/null 2>&1 || exit 0
            echo "k$round-$i" >>answered
            [ $((i % 3)) -ne 0 ] || { izar volume delete "k$round-$i" --yes >/dev/null 2>&1 && echo "gone k$round-$i" >>answered; }
        done) &
        local loader=$!
        sleep "$((RANDOM % 2 + 1)).$((RANDOM % 10))"
        kill -9 "$child"
        wait "$child" 2>/dev/null
        wait "$loader"
        start_node
        izar volume list -o name -q >there
        for i in $(grep -v '^gone' answered); do
            if grep -qx "gone $i" answered; then
                grep -qx "$i" there && { echo "FAILED ($io): $i was deleted and is back"; failed=1; }
            else # may be in the middle of its deletion
                grep -qx "$i" there || [ $((${i#*-} % 3)) -eq 0 ] || { echo "FAILED ($io): $i was answered and is lost"; failed=1; }
            fi
        done
        json '[.[] | select(.state != "live")] == []' izar volume list
        grep recovered- there | grep -qvxFf before && { echo "FAILED ($io): a volume lost its name"; failed=1; }
    done
    [ "$(wc -l <answered)" -gt 2 ] || { echo "FAILED ($io): nothing was made"; failed=1; }
}

restart()
{
    izar volume list -o json | jq -S . >before.json
    jq -e 'length > 0' before.json >/dev/null || { echo "FAILED ($io): no volumes to keep"; failed=1; }
    stop_node
    start_node
    izar volume list -o json | jq -S . | cmp - before.json || { echo "FAILED ($io): a restart changed volumes"; failed=1; }
    stop_node
    head -c 100 /dev/urandom | dd of=node/catalog.1.json bs=1 seek=50 conv=notrunc status=none
    start_node
    expect 0 'catalog.1.json is damaged; written again' cat node.log
    expect 0 'vm-1' izar volume show vm-1
    stop_node
    rm -f node/catalog.*.json
    start_node
    expect 0 'recovered-[0-9]' izar volume list
}

# requests METHOD PATH BODY COUNT: with N from 1 on in place of @, over one connection; prints how many had which status
requests()
{
    local i
    for i in $(seq "$4"); do
        [ "$i" -eq 1 ] || echo next
        printf '%s\n' "url = http://x/v1/${2//@/$i}" "request = $1" 'unix-socket = node/izard.sock' 'max-time = 60' \
            'header = "Content-Type: application/json"' "data = ${3//@/$i}" 'output = answer' 'write-out = "%{http_code}\n"'
    done >curl.conf
    timeout 120 curl -s -K curl.conf | sort | uniq -c | tr -s ' \n' ' '
}

# A thousand volumes, as many of them as a host can see mapped to one, before and after a restart.
thousand()
{
    local portal
    izar -q host create many --initiator iqn.2026-01.org.izar.test:many >/dev/null || failed=1
    expect 0 '1000 201 ' requests POST volumes '{"name":"t-@","size":1048576}' 1000
    expect 0 '256 201 44 400 ' requests POST volumes/t-@/maps '{"host":"many"}' 300
    expect 2 'LUNs 0 to 255' izar volume map t-300 --host many
    for round in before after; do
        json '[.[].name | select(startswith("t-"))] | length == 1000' izar volume list
        portal=$(izar target portals -o name)
        iscsi-ls -s -i iqn.2026-01.org.izar.test:many "iscsi://$portal" >luns.txt 2>&1
        [ "$(grep -c 'Lun:.*DIRECT_ACCESS' luns.txt)" -eq 256 ] || { echo "FAILED ($io): LUNs $round"; tail -n 3 luns.txt; failed=1; }
        [ $round = after ] || { stop_node; start_node; }
    done
}

# Everything with the first back end; with the others what the back end has a part in.
parts=(examples usage names maps chap sizes in_use web notify second configuration kills restart thousand)
for io in $(back_ends); do
    rm -rf node other other2 elsewhere third
    start_node
    for part in "${@:-${parts[@]}}"; do
        $part
    done
    stop_node
    parts=(names maps in_use kills restart)
done
finish
