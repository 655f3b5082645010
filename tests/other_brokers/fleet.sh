# A fleet behind a cluster: two gateways with wildcards, of which each serves every second device. A node is killed, and then
# a gateway, for which a standby gateway takes over. `fleet_devices` is how many devices there are.
#
# The sourcing script gives what the other cases use.
case_fleet() {
	local n name area feeding senders=() keepers=() serve_pid=() recv_pid=() victim
	rm -f fleet-* plant
	fleet_enrol
	for area in a b; do fleet_gateway "gateway_$area" "$area"; done
	for area in a b; do
		waitfor "gateway_$area-pair.log" 'listening on' || fail "$case" "gateway $area does not answer pairings"
	done
	for n in $(seq "$fleet_devices"); do
		background "d$n" sts-pair -q --keep 24h l 2>"fleet-d$n-keep.log" &
		keepers+=($!)
	done
	waituntil fleet_has_paired || fail "$case" "only $(fleet_paired | wc -l) devices pair"

	# Each device sends what is appended to this file, until the process ends that `tail` watches.
	: >fleet-readings
	sleep infinity & feeding=$!
	for n in $(seq "$fleet_devices"); do
		tail -n +1 -f --pid=$feeding fleet-readings |
			background "d$n" sts-send --each --confirm --timeout $WAIT l 2>"fleet-d$n-send.log" &
		senders+=($!)
	done
	fleet_reads one
	victim=$(node_of gateway_a-recv.log)
	kill_node "$victim"
	fleet_reads two
	kill -KILL "${serve_pid[0]}" "${recv_pid[0]}"
	wait "${serve_pid[0]}" "${recv_pid[0]}" 2>/dev/null
	mkdir -m 700 plant plant/run
	cp -a gateway_a/etc plant
	fleet_gateway plant a
	fleet_reads three
	"${family}_node" "$victim" || fail "$case" "the node does not start again"
	kill $feeding
	for n in $(seq "$fleet_devices"); do
		status "${senders[n - 1]}"
		is "$case: sts-send on d$n" 0 "$rc"
	done
	kill "${keepers[@]}" "${serve_pid[@]:1}" "${recv_pid[@]:1}"
	wait "${keepers[@]}" "${serve_pid[@]:1}" "${recv_pid[@]:1}" $feeding 2>/dev/null
	for area in a b; do
		for n in $(fleet_of $area); do printf "d$n: %s\n" one two three; done | sort >fleet-expected
		# What a gateway wrote before it was killed, and had not confirmed yet, comes again: of the other one, nothing does.
		if [ $area = a ]; then sort -u fleet-a.out; else sort fleet-b.out; fi >fleet-sorted
		same "$case: what came at gateway $area" fleet-expected fleet-sorted
	done
}

# fleet_of AREA: the numbers of its devices
fleet_of() { seq $([ "$1" = a ] && echo 1 || echo 2) 2 "$fleet_devices"; }

fleet_enrol() {
	local area n
	for area in a b; do
		device "gateway_$area" slave "plant/$area/+/up" "plant/$area/+/down" "clientid = gateway_$area"
		: >fleet-keys
		for n in $(fleet_of $area); do
			device "d$n" master "plant/$area/d$n/down" "plant/$area/d$n/up" "clientid = d$n"
			trust "d$n" "gateway_$area"
			echo "d$n $(cat "keys/d$n.pub")" >>fleet-keys
		done
		on "gateway_$area" sts-pair -q --trust - l <fleet-keys
		is "$case: the keys of gateway $area" 0 $?
	done
}

# fleet_gateway NAME AREA: starts its services
fleet_gateway() {
	background "$1" sts-pair -v --serve l 2>"$1-pair.log" &
	serve_pid+=($!)
	background "$1" sts-recv -v --prefix --wait l >>"fleet-$2.out" 2>"$1-recv.log" &
	recv_pid+=($!)
}

fleet_paired() { grep -h -o 'paired with d[0-9]*' gateway_a-pair.log gateway_b-pair.log | sort -u; }
fleet_has_paired() { [ "$(fleet_paired | wc -l)" -ge "$fleet_devices" ]; }

# fleet_reads LINE: each device sends this line, and all of them arrive
fleet_reads() {
	echo "$1" >>fleet-readings
	waituntil fleet_has "$1" || fail "$case" "of $fleet_devices devices, '$1' comes from $(fleet_lines "$1")"
}
fleet_lines() { cat fleet-?.out | sort -u | grep -c ": $1\$"; }
fleet_has() { [ "$(fleet_lines "$1")" -ge "$fleet_devices" ]; }
