# Two devices that pair and carry data through a broker on loopback, sourced by tests/package and tests/arm, which say
# `fail WHAT` when something went wrong. A device is a directory in $dir. What still runs in the end is killed.
unset STS_CONFIG_DIR STS_RUNTIME_DIR STS_LINK

running=
clean_up() {
    trap '' INT TERM
    # shellcheck disable=SC2086  # one id per word
    [ -z "$running" ] || kill $running 2>/dev/null || :
    wait
    rm -rf "$dir"
}
dir=$(mktemp -d "${TMPDIR:-/tmp}/sts-tests.XXXXXX")
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# What runs executables for a target, or those of a package, with the name $1: nothing on a machine of its kind.
emulator() {
    case ${1##*/} in
    *"$(uname -m)"-unknown-linux-*) ;;
    *i?86-*) [ "$(uname -m)" = x86_64 ] || echo qemu-i386-static ;;
    *aarch64-*) echo qemu-aarch64-static ;;
    *arm*) echo qemu-arm-static ;;
    *mipsel-*) echo qemu-mipsel-static ;;
    *mips-*) echo qemu-mips-static ;;
    *riscv64*) echo qemu-riscv64-static ;;
    *powerpc64le-*) echo qemu-ppc64le-static ;;
    *) fail "a target that this test does not know" ;;
    esac
}

# start_broker: it speaks MQTT on $port and, for $dir/ca.pem, over TLS on $tls_port.
start_broker() {
    new="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    echo 'subjectAltName = DNS:localhost' >"$dir/names"
    # shellcheck disable=SC2086  # one option per word
    {
        openssl req -x509 $new -subj /CN=authority -keyout "$dir/ca.key" -out "$dir/ca.pem"
        openssl req $new -subj /CN=broker -keyout "$dir/broker.key" -out "$dir/broker.csr"
        openssl x509 -req -in "$dir/broker.csr" -CA "$dir/ca.pem" -CAkey "$dir/ca.key" -CAcreateserial -days 2 \
            -extfile "$dir/names" -out "$dir/broker.pem"
    } 2>"$dir/log" || fail "openssl: $(cat "$dir/log")"
    ports=$(python3 -c 'import socket
s = [socket.socket() for _ in "12"]
[x.bind(("127.0.0.1", 0)) for x in s]
print(*[x.getsockname()[1] for x in s])')
    port=${ports% *} tls_port=${ports#* }
    # Started as root, mosquitto reads the key as another user.
    printf '%s\n' "user $(id -un)" 'allow_anonymous true' 'persistence false' "listener $port 127.0.0.1" \
        "listener $tls_port 127.0.0.1" "certfile $dir/broker.pem" "keyfile $dir/broker.key" >"$dir/broker.conf"
    mosquitto -c "$dir/broker.conf" >"$dir/broker.log" 2>&1 &
    running="$running $!"
}

# make_device DEVICE URL TOOLS [EMULATOR]: with the tools in the directory TOOLS, run by EMULATOR.
make_device() {
    mkdir -m 700 "$dir/$1" "$dir/$1/run" "$dir/$1/bin"
    printf '%s\n' "url = $2" "clientid = $1" >"$dir/$1/plant.conf"
    case $2 in mqtts:*) echo "ca_file = $dir/ca.pem" >>"$dir/$1/plant.conf" ;; esac
    for tool in sts-pair sts-send sts-recv sts; do
        printf '#!/bin/sh\nexec %s "%s" "$@"\n' "${4:-}" "$3/$tool" >"$dir/$1/bin/$tool"
    done
    chmod 755 "$dir/$1/bin"/*
}

# on DEVICE TOOL ARGUMENT...: in a subshell or in the background, which becomes the tool.
on() {
    device=$dir/$1 tool=$2
    shift 2
    STS_CONFIG_DIR=$device STS_RUNTIME_DIR=$device/run exec "$device/bin/$tool" "$@"
}

# pair MASTER SLAVE: once each trusts the other's key.
pair() {
    printf '%s\n' 'sts_mode = master' 'pubtop = up' 'subtop = down' >>"$dir/$1/plant.conf"
    printf '%s\n' 'sts_mode = slave' 'pubtop = down' 'subtop = up' >>"$dir/$2/plant.conf"
    (on "$1" sts-pair -q --key) >"$dir/$1.key"
    (on "$2" sts-pair -q --key) >"$dir/$2.key"
    (on "$1" sts-pair -q --trust "$2" plant) <"$dir/$2.key"
    (on "$2" sts-pair -q --trust "$1" plant) <"$dir/$1.key"
    on "$2" sts-pair --timeout 300 plant 2>"$dir/log" &
    slave=$!
    running="$running $slave"
    (on "$1" sts-pair --timeout 300 plant) || fail "$1 did not pair: $(cat "$dir/log" "$dir/broker.log")"
    wait $slave || fail "$2 did not pair: $(cat "$dir/log")"
    running=${running% *}
}

# deliver FROM TO: one megabyte.
deliver() {
    [ -e "$dir/input" ] ||
        python3 -c 'import random, sys; sys.stdout.buffer.write(random.Random(1).randbytes(1 << 20))' >"$dir/input"
    on "$2" sts-recv -v --once --timeout 300 plant >"$dir/output" 2>"$dir/log" &
    receiver=$!
    running="$running $receiver"
    # With a clientid, the broker keeps what comes before the receiver has subscribed, but only after its first run.
    tries=0
    until grep -q 'listening on' "$dir/log"; do
        tries=$((tries + 1))
        [ $tries -lt 600 ] || fail "sts-recv on $2 does not listen: $(cat "$dir/log")"
        sleep 0.1
    done
    (on "$1" sts-send -b --confirm --timeout 300 plant) <"$dir/input" || fail "sts-send on $1 ended with $?"
    wait $receiver || fail "sts-recv on $2 ended with $?: $(cat "$dir/log")"
    running=${running% *}
    cmp "$dir/input" "$dir/output" || fail "what $2 received is not what $1 sent"
}
