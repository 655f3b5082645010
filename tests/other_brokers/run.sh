#!/bin/bash
# run.sh TOOLS_DIR [BROKER]...: what sts-pair, sts-send and sts-recv in TOOLS_DIR do with brokers other than mosquitto.
#
# A BROKER is rabbitmq, nats, rabbitmq-cluster or nats-cluster; without one, all of them. CASES restricts what runs on each,
# VERBOSE=1 shows each case, KEEP=1 keeps the files, STS_CLUSTER_DEVICES is how many devices the case `fleet` has. A table is printed; the exit status is 1 if any case failed.
#
# Nothing here waits for a fixed time: a case waits for what it is about, and WAIT seconds are when it gives up.
if [ ! -x "${1:-}/sts-pair" ]; then echo "usage: $0 TOOLS_DIR [BROKER]..." >&2; exit 64; fi
tools=$(cd "$1" && pwd)
shift
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
# A cluster on a busy machine needs minutes after one of its nodes was killed.
WAIT=${WAIT:-300}
failures=0
broker_pids=() other_pids=() results=()
. "$here/../waiting.sh"
. "$here/rabbitmq.sh"
. "$here/nats.sh"
. "$here/fleet.sh"
fleet_devices=${STS_CLUSTER_DEVICES:-20}
for name in ${!STS_*}; do unset "$name"; done

end_processes() {
	local pid
	# Brokers first: a node of RabbitMQ without its epmd would start another one.
	# (Their files name those that were only starting, too.)
	for pid in "${broker_pids[@]}" $(cat "$work"/rabbitmq-*/pid); do kill -KILL "$pid" 2>/dev/null; done
	rm -f "$work"/rabbitmq-*/pid
	for pid in $(jobs -p) "${other_pids[@]}"; do kill "$pid" 2>/dev/null; done
	broker_pids=() other_pids=()
	wait
}
cleanup() {
	end_processes 2>/dev/null
	if [ "$failures" = 0 ] && [ -z "${KEEP:-}" ]; then rm -rf "$work"; else echo "files: $work"; fi
}
trap cleanup EXIT
trap 'exit 1' INT TERM
cd "$work" || exit 1

pass() { [ -z "${VERBOSE:-}" ] || echo "PASS $broker: $1"; }
fail() {
	failures=$((failures + 1)) failed=1
	echo "FAIL $broker: $1: $2"
}
# is NAME EXPECTED ACTUAL
is() { if [ "$2" = "$3" ]; then pass "$1"; else fail "$1" "expected '$2', got '$3'"; fi; }
# same NAME FILE FILE
same() { if cmp -s "$2" "$3"; then pass "$1"; else fail "$1" "$(wc -c <"$3") bytes of $(wc -c <"$2") in $3"; fi; }
has() { if grep -q -e "$3" "$2"; then pass "$1"; else fail "$1" "no '$3' in $2"; fi; }
hasnot() { if grep -q -e "$3" "$2"; then fail "$1" "'$3' in $2"; else pass "$1"; fi; }

has_bytes() { [ "$(wc -c <"$1")" -ge "$2" ]; }

kill_node() { # as a power failure does
	kill -KILL "${broker_pids[$1]}"
	waituntil is_gone "${broker_pids[$1]}"
	rm -f "$work/$family-$1/pid"
	unset "broker_pids[$1]"
}
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
is_gone() { ! kill -0 "$1" 2>/dev/null; }

# A port below those for outgoing connections, that nobody listens on: while a node is down, nobody else is given its port.
# It runs in subshells, so a file says which is next.
free_port() {
	local port turn
	while :; do
		read -r turn <"$work/ports"
		echo $((turn + 1)) >"$work/ports"
		port=$((20000 + ($$ * 37 + turn) % 12000))
		listens "$port" || break
	done
	echo "$port"
}

# on DEVICE TOOL ARGUMENT...: a tool of a device; `background` likewise, and its process is $!
on() {
	local device=$1 tool=$2
	shift 2
	STS_CONFIG_DIR=$work/$device/etc STS_RUNTIME_DIR=$work/$device/run "$tools/$tool" "$@"
}
background() {
	local device=$1 tool=$2
	shift 2
	STS_CONFIG_DIR=$work/$device/etc STS_RUNTIME_DIR=$work/$device/run exec "$tools/$tool" "$@"
}

device() { # device NAME ROLE SUBTOP PUBTOP [LINE]...: new, but for its key, which is made once
	local name=$1 role=$2 sub=$3 pub=$4 port_line="port = $port"
	shift 4
	# The nodes of a list have each its own.
	case $hosts in *:*) port_line= ;; esac
	make_key "$name"
	rm -rf "${work:?}/$name"
	mkdir -p -m 700 "$name" "$name/etc" "$name/run"
	cp "keys/$name/identity.pem" "$name/etc"
	printf '%s\n' "host = $hosts" "$port_line" "sts_mode = $role" "subtop = $sub" "pubtop = $pub" "$@" >"$name/etc/l.conf"
	chmod 600 "$name/etc/l.conf" "$name/etc/identity.pem"
}
make_key() {
	[ ! -e "keys/$1.pub" ] || return 0
	mkdir -p "keys/$1"
	STS_CONFIG_DIR=$work/keys/$1 "$tools/sts-pair" --key >"keys/$1.pub" 2>/dev/null
}
trust() { # trust DEVICE OTHER
	make_key "$2"
	on "$1" sts-pair --trust "$2" l <"keys/$2.pub" 2>/dev/null
}

# devices [LINE]...: two that trust each other, with these lines in the configuration of both
devices() {
	device station master down up "$@"
	device gateway slave up down "$@"
	trust station gateway
	trust gateway station
}
pair_devices() {
	background gateway sts-pair -v --timeout $WAIT l 2>gateway-pair.log & slave=$!
	on station sts-pair --timeout $WAIT l 2>station-pair.log
	is "$case: the master pairs" 0 $?
	status $slave
	is "$case: the slave pairs" 0 $rc
}
paired() { devices "$@" && pair_devices; }

# listen OPTION...: sts-recv of the gateway in the background, subscribed
listen() {
	: >recv.log
	background gateway sts-recv -v "$@" l >out 2>recv.log & receiver=$!
	waitfor recv.log 'listening on' || fail "$case" "the receiver does not listen"
}
# carries OPTION...: a stream of 1000 lines, with these options of sts-send
carries() {
	listen --once
	on station sts-send --timeout $WAIT "$@" l <lines 2>send.log
	is "$case: sts-send" 0 $?
	status $receiver
	is "$case: sts-recv" 0 $rc
	same "$case: what came" lines out
}

case_key() { paired && carries; }

case_code() {
	device station master down up
	device gateway slave up down
	background gateway sts-pair -v --code --name gateway --timeout $WAIT l 2>gateway-pair.log & slave=$!
	waitfor gateway-pair.log 'listening on' || fail "$case" "the slave does not listen"
	local code
	code=$(sed -n 's/.*the code is //p' gateway-pair.log)
	STS_CODE=$code on station sts-pair --code --name station --timeout $WAIT l 2>station-pair.log
	is "$case: the master pairs" 0 $?
	status $slave
	is "$case: the slave pairs" 0 $rc
	carries
}

case_qos0() { paired "qos = 0" && carries; }
case_qos1() { paired "qos = 1" && carries; }
# A broker without QoS 2 takes less, and the tools say so; or it closes the connection, and the hint names the key.
case_qos2() {
	paired
	local name
	for name in station gateway; do echo 'qos = 2' >>$name/etc/l.conf; done
	case $broker in
	rabbitmq*)
		carries
		is "$case: one warning" 1 "$(grep -c 'QoS 2' send.log)"
		has "$case: the receiver is told" recv.log 'granted QoS 1'
		;;
	nats*)
		listen
		on station sts-send --timeout $WAIT l <lines 2>send.log
		is "$case: sts-send" 65 $?
		has "$case: the hint" send.log 'hint: .*`qos'
		kill $receiver
		status $receiver
		;;
	esac
}

case_confirm() { paired && carries --confirm; }

# One gateway with wildcards, two devices.
case_gateway() {
	local name
	device gateway slave 'plant/+/up' 'plant/+/down' 'clientid = gw'
	for name in s1 s2; do
		device $name master "plant/$name/down" "plant/$name/up"
		trust $name gateway
		trust gateway $name
	done
	background gateway sts-pair -v --serve l 2>gateway-pair.log & slave=$!
	waitfor gateway-pair.log 'listening on'
	for name in s1 s2; do
		on $name sts-pair --timeout $WAIT l 2>$name-pair.log
		is "$case: $name pairs" 0 $?
	done
	kill $slave
	status $slave
	listen --prefix
	for name in s1 s2; do
		echo "of $name" | on $name sts-send --timeout $WAIT --confirm l 2>$name-send.log
		is "$case: $name sends" 0 $?
	done
	kill $receiver
	status $receiver
	printf 's1: of s1\ns2: of s2\n' >expected
	same "$case: what came" expected out
}

# The broker keeps what is sent while the receiver is away.
case_away() {
	paired 'clientid = kept'
	listen
	kill $receiver
	status $receiver
	on station sts-send --timeout $WAIT l <lines 2>send.log
	is "$case: sts-send" 0 $?
	on gateway sts-recv --once --timeout $WAIT l >out 2>recv.log
	is "$case: sts-recv" 0 $?
	same "$case: what came" lines out
	hasnot "$case: the receiver is well" recv.log warning
}

# Several hundred messages at once for one that acknowledges late, more than a broker has in flight.
case_many() {
	paired 'clientid = kept'
	listen
	kill $receiver
	status $receiver
	on station sts-send --timeout $WAIT --each l <lines 2>send.log
	is "$case: sts-send" 0 $?
	on gateway sts-recv --once --timeout $WAIT l >out 2>recv.log
	is "$case: sts-recv" 0 $?
	same "$case: what came" lines out
}

# A login and a topic that the broker does not allow: whether it says so or closes the connection, the tools name what it was.
case_denied() {
	devices
	case $family in
	rabbitmq)
		on station sts-pair --timeout $WAIT -o username=nobody l 2>login.log
		is "$case: the login" 69 $?
		has "$case: the login is named" login.log 'hint: .*`username`'
		run_as_node 0 /usr/lib/rabbitmq/bin/rabbitmqctl -q set_topic_permissions guest amq.topic '^up$' '^up$' >rabbitmqctl.log 2>&1
		on station sts-pair --timeout 20 l 2>denied.log
		is "$case: a subscription" 69 $?
		has "$case: the subscription is named" denied.log '"down"'
		has "$case: the key is named" denied.log 'hint: .*`subtop`'
		on station sts-send --timeout $WAIT -o sts_mode=nosec -o aes=null -o pubtop=elsewhere l <lines 2>denied.log
		is "$case: a publication" 65 $?
		has "$case: the topic is named" denied.log '"elsewhere"'
		has "$case: its key is named" denied.log 'hint: .*`pubtop`'
		run_as_node 0 /usr/lib/rabbitmq/bin/rabbitmqctl -q clear_topic_permissions guest >rabbitmqctl.log 2>&1
		;;
	esac
}

# A stream of which the end comes after as many messages of another one as RabbitMQ sends without an acknowledgement.
case_left() {
	paired 'clientid = kept'
	rm -f go
	listen --once
	background station sts-send --timeout $WAIT l 2>send.log < <(echo first; waituntil test -e go; echo last) & sender=$!
	waituntil has_bytes out 6 || fail "$case" "the first line does not come"
	seq 100 111 | on station sts-send --timeout $WAIT --each l 2>other.log
	is "$case: the other stream" 0 $?
	touch go
	status $sender
	is "$case: sts-send" 0 $rc
	status $receiver
	case $family in
	rabbitmq)
		is "$case: sts-recv" 75 $rc
		has "$case: the cause" recv.log 'nothing more came from the broker'
		;;
	nats) is "$case: sts-recv" 0 $rc ;;
	esac
	on gateway sts-recv -n $((14 - $(wc -l <out))) --timeout $WAIT l >>out 2>recv.log
	is "$case: the next run" 0 $?
	(echo first; echo last; seq 100 111) | sort >expected
	sort out >sorted
	same "$case: what came" expected sorted
}

# Topics that the broker does not take as they are: the tools say so.
case_dots() {
	case $family in
	rabbitmq)
		device gateway slave 'plant.a/+/up' 'plant.a/+/down'
		device s1 master plant.a/s1/down plant.a/s1/up
		trust s1 gateway
		trust gateway s1
		background gateway sts-pair -v --serve l 2>gateway-pair.log & slave=$!
		waitfor gateway-pair.log 'listening on' || fail "$case" "the gateway does not listen"
		background s1 sts-pair --timeout 0 l 2>s1-pair.log & master=$!
		waitfor gateway-pair.log 'takes a dot for the end of a level' || fail "$case" "the gateway does not say so"
		kill $master $slave
		status $master
		status $slave
		;;
	nats)
		device station master 'do.wn' 'up'
		trust station gateway
		on station sts-pair --timeout 5 l 2>station-pair.log
		is "$case: sts-pair" 69 $?
		has "$case: the topic" station-pair.log 'subscription to "do.wn"'
		has "$case: the hint" station-pair.log 'hint: .*NATS refuses topics with dots'
		;;
	esac
}

case_spool() { paired && carries --spool spool && carries --confirm --spool spool; }

# Many lines, of which the last two thirds wait until a node was killed, and the last third until it runs again or another
# one serves. It is a process of its own: a broker that starts meanwhile must not inherit the other end of the pipe.
feed() {
	head -c 300000 many
	waituntil test -e killed
	tail -c +300001 many | head -c 300000
	waituntil test -e restored
	tail -c +600001 many
}

# node_of FILE: the node that a tool is connected to, by what it says with -v; the first one behind the load balancer
node_of() {
	local n
	for n in "${!ports[@]}"; do
		if grep 'connected to' "$1" | tail -n 1 | grep -q ":${ports[n]}\b"; then echo "$n"; return; fi
	done
	echo 0
}

# node_dies OPTION...: a stream, in the midst of which the node is killed that the sender is connected to
node_dies() {
	local victim
	rm -f killed restored
	listen --once
	background station sts-send -v --timeout $WAIT "$@" l 2>send.log < <(feed) & sender=$!
	waituntil has_bytes out 200000 || fail "$case" "nothing comes before a node dies"
	victim=$(node_of send.log)
	kill_node "$victim"
	touch killed
	if [ "$broker" = "$family" ]; then ${family}_node "$victim"; fi
	touch restored
	status $sender
	is "$case: sts-send" 0 $rc
	status $receiver
	is "$case: sts-recv" 0 $rc
	same "$case: what came" many out
	[ "$broker" = "$family" ] || ${family}_node "$victim" || fail "$case" "the node does not start again"
}
case_dies() { paired && node_dies --confirm; }
case_dies_kept() { paired 'clientid = kept' && node_dies --confirm; }
case_dies_spool() { paired && node_dies --confirm --spool spool; }

# Whether `host` may list the nodes of a cluster; otherwise there is a load balancer before it.
has_node_lists() {
	STS_CONFIG_DIR=$work/none "$tools/sts-recv" -o host=127.0.0.1:1,127.0.0.1:2 -o sts_mode=nosec -o aes=null \
		-o subtop=t -o pubtop=t --timeout 1 ./lists 2>lists.log
	[ $? = 69 ]
}

run_broker() {
	broker=$1
	local family=${1%-cluster} nodes=1 cases
	[ "$family" = "$broker" ] || nodes=3
	rm -rf "${work:?}/$family"*
	if ! start_$family $nodes; then
		case=start
		fail start "the broker does not start: $work"
		results+=("$broker start failed")
		exit 1
	fi
	hosts=127.0.0.1 port=${ports[0]}
	if [ $nodes = 3 ] && has_node_lists; then
		hosts=$(printf ', 127.0.0.1:%s' "${ports[@]}") hosts=${hosts#, }
	elif [ $nodes = 3 ]; then
		port=$(free_port)
		python3 "$here/forward.py" "$port" "${ports[@]}" >forward.log 2>&1 &
		other_pids+=($!)
		waitfor forward.log ready
	fi
	cases='key code qos0 qos1 qos2 confirm gateway away many spool dies dies_kept dies_spool'
	# How one node answers does not depend on others.
	if [ $nodes = 3 ]; then cases="$cases fleet"; else cases="$cases denied left dots"; fi
	for case in ${CASES:-$cases}; do
		failed=0
		# What a case waits for must not stand in a log of the one before.
		rm -rf spool ./*-pair.log recv.log send.log
		case_$case
		results+=("$broker $case $([ $failed = 0 ] && echo yes || echo NO)")
		[ -z "${VERBOSE:-}" ] || echo "$case took until $SECONDS s"
	done
	end_processes 2>/dev/null
}

echo 0 >ports
: >lists
seq -f 'line %09.0f of many that a sensor writes, of a fixed length' 1 1000 >lines
seq -f 'line %09.0f of many that a sensor writes, of a fixed length' 1 20000 >many
[ $# -gt 0 ] || set -- rabbitmq nats rabbitmq-cluster nats-cluster
for one in "$@"; do run_broker "$one"; done
printf '%s\n' "${results[@]}" | awk '
	!($1 in seen) { seen[$1] = 1; brokers[++b] = $1 }
	!($2 in known) { known[$2] = 1; cases[++c] = $2 }
	{ result[$1, $2] = $3 }
	END {
		printf "%-12s", ""
		for (i = 1; i <= b; i++) printf "%-18s", brokers[i]
		print ""
		for (j = 1; j <= c; j++) {
			printf "%-12s", cases[j]
			for (i = 1; i <= b; i++) printf "%-18s", ((brokers[i], cases[j]) in result) ? result[brokers[i], cases[j]] : "-"
			print ""
		}
	}'
[ "$failures" = 0 ]
