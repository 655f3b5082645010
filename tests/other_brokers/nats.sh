# nats-server of one node or three, with JetStream, which its MQTT needs: all on loopback, with all files in $work.
#
# As rabbitmq.sh.
start_nats() { # start_nats NODES
	local n routes=
	ports=() route_ports=()
	for n in $(seq 0 $(($1 - 1))); do
		ports[n]=$(free_port) route_ports[n]=$(free_port)
		routes="$routes, \"nats-route://127.0.0.1:${route_ports[n]}\""
	done
	for n in $(seq 0 $(($1 - 1))); do
		mkdir -p "$work/nats-$n"
		cat >"$work/nats-$n/conf" <<-END
			server_name: sts$n
			listen: "127.0.0.1:$(free_port)"
			jetstream { store_dir: "$work/nats-$n/store" }
			mqtt { listen: "127.0.0.1:${ports[n]}" }
		END
		[ "$1" = 1 ] || cat >>"$work/nats-$n/conf" <<-END
			cluster { name: sts, listen: "127.0.0.1:${route_ports[n]}", routes: [ ${routes#, } ] }
		END
		launch_nats "$n"
	done
	for n in $(seq 0 $(($1 - 1))); do waitfor "$work/nats-$n/log" 'Server is ready' || return 1; done
}

nats_node() { launch_nats "$1" && waitfor "$work/nats-$1/log" 'Server is ready'; }

launch_nats() {
	nats-server -c "$work/nats-$1/conf" >"$work/nats-$1/log" 2>&1 &
	broker_pids[$1]=$!
	# Or the shell would report its end.
	disown
}
