# RabbitMQ of one node or three, with its MQTT plugin: all on loopback, with an epmd of its own, and all files in $work.
#
# The sourcing script gives `free_port`, `waitfor` and `$work`. After `start_rabbitmq 3`, `ports` has a port for MQTT of each node.
# run_as_node N COMMAND...: in the environment of node N
run_as_node() {
	local n=$1 dir=$work/rabbitmq-$1
	shift
	HOME=$work/rabbitmq ERL_EPMD_PORT=$epmd_port ERL_EPMD_ADDRESS=127.0.0.1 \
		RABBITMQ_NODENAME="sts$n@localhost" RABBITMQ_DIST_PORT="${dist_ports[n]}" RABBITMQ_PID_FILE=$dir/pid \
		RABBITMQ_MNESIA_BASE=$dir RABBITMQ_LOG_BASE=$dir RABBITMQ_CONFIG_FILE=$dir/rabbitmq \
		RABBITMQ_ADVANCED_CONFIG_FILE=$work/rabbitmq/none RABBITMQ_CONF_ENV_FILE=$work/rabbitmq/env \
		RABBITMQ_ENABLED_PLUGINS_FILE=$work/rabbitmq/plugins RABBITMQ_GENERATED_CONFIG_DIR=$dir/generated \
		RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +sbwt none' "$@"
}

start_rabbitmq() { # start_rabbitmq NODES
	local n
	ports=() dist_ports=() epmd_port=$(free_port)
	mkdir -p "$work/rabbitmq"
	echo '[rabbitmq_mqtt].' >"$work/rabbitmq/plugins"
	: >"$work/rabbitmq/env"
	epmd -port "$epmd_port" -address 127.0.0.1 >"$work/rabbitmq/epmd.log" 2>&1 &
	other_pids+=($!)
	# Before a node starts one of its own, as a daemon.
	waituntil listens "$epmd_port" || return 1
	for n in $(seq 0 $(($1 - 1))); do
		ports[n]=$(free_port) dist_ports[n]=$(free_port)
		mkdir -p "$work/rabbitmq-$n"
		cat >"$work/rabbitmq-$n/rabbitmq.conf" <<-END
			listeners.tcp = none
			mqtt.listeners.tcp.1 = 127.0.0.1:${ports[n]}
			# The first node that starts is alone, the others join it.
			cluster_formation.peer_discovery_backend = classic_config
			cluster_formation.classic_config.nodes.1 = sts0@localhost
			cluster_partition_handling = ignore
		END
		rabbitmq_node "$n" || return 1
	done
	[ "$1" = 1 ] && return
	# What is queued for a client is on every node.
	run_as_node 0 /usr/lib/rabbitmq/bin/rabbitmqctl -q set_policy all . '{"ha-mode":"all","ha-sync-mode":"automatic"}' \
		>"$work/rabbitmq/policy.log" 2>&1
}

rabbitmq_node() { # rabbitmq_node N: start it, and wait until it serves MQTT
	: >"$work/rabbitmq-$1/log"
	run_as_node "$1" /usr/lib/rabbitmq/bin/rabbitmq-server >"$work/rabbitmq-$1/log" 2>&1 &
	waitfor "$work/rabbitmq-$1/log" 'Starting broker... completed' && broker_pids[$1]=$(cat "$work/rabbitmq-$1/pid")
}

