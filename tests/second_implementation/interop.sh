#!/bin/bash
# interop.sh [--quick] TOOLS_DIR [GROUP]...: this peer against sts-pair, sts-send and sts-recv in TOOLS_DIR.
#
# Without a GROUP, all of them. PYTHON names the interpreter, SUITES and ROLES (of the tools) restrict the matrix, KEEP=1
# keeps the files, VERBOSE=1 shows each case. A table is printed; the exit status is 1 if any case failed.
quick=
if [ "${1:-}" = --quick ]; then quick=1; shift; fi
if [ ! -x "${1:-}/sts-pair" ]; then echo "usage: $0 [--quick] TOOLS_DIR [GROUP]..." >&2; exit 64; fi
tools=$(cd "$1" && pwd)
shift
row=start
. "$(dirname "$0")/lib.sh"
export STS_CONFIG_DIR=$work/etc STS_RUNTIME_DIR=$work/run
unset STS_LINK STS_CODE
mkdir -m 700 etc run

tool() { "$tools/$@"; }
btool() { exec "$tools/$@"; }        # in the background
can_pad=$("$tools/sts-send" --help 2>&1 | grep -c -e '--pad')

setup() { # setup ROLE-OF-THE-TOOLS SUITE: no sessions, nothing pinned by the tools
	role=$1 suite=$2 c="$group, tools $1, $2"
	rm -rf run state.json etc/known_peers
	mkdir -m 700 run
	if [ "$role" = master ]; then other=slave up=up down=down; else other=master up=down down=up; fi
	cat >etc/t.conf <<-END
		host = 127.0.0.1
		port = $port
		sts_mode = $role
		pubtop = $up
		subtop = $down
		aes = $suite
	END
	P="--state state.json --key peer.pem --role $other --pub $down --sub $up --broker 127.0.0.1:$port"
}

trust() { tool sts-pair --trust peer t <peer.pub 2>trust.log || fail "$c: --trust" "$(tail -n 1 trust.log)"; }

pair() { # pair OPTIONS OF THE PEER
	bpeer pair $P --name peer --peer tool=tool.pub --suite "$suite" --timeout $WAIT "$@" 2>peer-pair.log & p=$!
	tool sts-pair -v --timeout $WAIT t 2>tool-pair.log; tp=$?
	status $p
	pair_status="$tp $rc"
}

paired() { setup "$1" "$2"; trust; pair; is "$c: pair" "0 0" "$pair_status"; }

# start_recv OPTIONS: sts-recv in the background, subscribed. `lost` is what it says of an id that nobody has.
start_recv() {
	btool sts-recv -v "$@" t >out 2>tool-recv.log & r=$!
	answered lost --about 0123456789abcdef
}

answered() { # answered ANSWER OPTIONS: until a question gets this answer; what was published before is taken by then
	local end=$((SECONDS + WAIT))
	until [ "$(peer ask $P "${@:2}" 2>/dev/null)" = "$1" ]; do
		[ $SECONDS -lt $end ] || return 1
	done
}

end_recv() { answered here; kill -TERM $r 2>/dev/null; status $r; }

start_peer_recv() {
	: >peer-recv.log
	bpeer recv $P "$@" >out 2>peer-recv.log & r=$!
	waitfor peer-recv.log ready
}

end_peer_recv() { kill -TERM $r 2>/dev/null; status $r; }

script() { # script, on standard input; script_status
	peer script $P >script.out 2>script.log
	script_status=$?
}

session_id() { # of the newest session of the peer
	"$python" -c 'import json; print(json.load(open("state.json"))["sessions"][0]["id"])'
}

forget() { # the peer loses its sessions, but not its pins
	"$python" - <<-END
		import json; s = json.load(open("state.json")); s["sessions"] = []; json.dump(s, open("state.json", "w"))
	END
}

t_pair() {
	setup "$1" "$2"; trust
	for siblings in $([ -n "$quick" ] && echo 2 || echo 0 1 2 7); do
		pair --siblings $siblings; is "$c: $((siblings + 1)) leaves" "0 0" "$pair_status"
	done
}

t_leaves() {
	setup "$1" "$2"; trust
	pair --hashes 16; is "$c: 16 hashes" "0 0" "$pair_status"
	pair --features ffffffff; is "$c: all features" "0 0" "$pair_status"
	bpeer pair $P --name peer --peer tool=tool.pub --suite "$suite" --hashes 17 --timeout 5 2>peer-pair.log & p=$!
	tool sts-pair --timeout 5 t 2>tool-pair.log; tp=$?
	status $p; is "$c: 17 hashes" "75 75" "$tp $rc"
}

t_code() {
	setup "$1" "$2"
	code=$(peer code)
	bpeer pair $P --name peer --code "$code" --suite "$suite" --siblings 2 --timeout $WAIT 2>peer-pair.log & p=$!
	STS_CODE=$code tool sts-pair -v --code --name tool --timeout $WAIT t 2>tool-pair.log; tp=$?
	status $p; is "$c: by code" "0 0" "$tp $rc"
	has "$c: the tools pinned the peer" etc/known_peers '^peer '
	has "$c: the peer pinned the tools" state.json '"tool"'
	bpeer pair $P --name peer --suite "$suite" --timeout $WAIT 2>peer-pair.log & p=$!
	tool sts-pair --timeout $WAIT t 2>tool-pair.log; tp=$?
	status $p; is "$c: by the keys that the code pinned" "0 0" "$tp $rc"
	[ -z "$quick" ] || return
	setup "$1" "$2"
	if [ "$role" = master ]; then
		bpeer pair $P --name peer --code "$code" --suite "$suite" --timeout $((3 * WAIT)) 2>peer-pair.log & p=$!
		for i in 1 2 3; do
			STS_CODE=$(peer code) tool sts-pair --code --name tool --timeout $WAIT t 2>tool-pair.log
			is "$c: wrong code $i" 77 $?
		done
	else
		STS_CODE=$code btool sts-pair --code --name tool --timeout $((3 * WAIT)) t 2>tool-pair.log & p=$!
		for i in 1 2 3; do
			peer pair $P --name peer --code "$(peer code)" --suite "$suite" --timeout $WAIT 2>peer-pair.log
			is "$c: wrong code $i" 77 $?
			has "$c: reason of refusal $i" peer-pair.log "reason $((i < 3 ? 2 : 3))"
		done
	fi
	status $p; is "$c: three wrong codes end the slave" 77 $rc
}

t_refused() {
	setup "$1" "$2"; trust
	wrong=cbc; [ "$suite" = cbc ] && wrong=gcm
	bpeer pair $P --name peer --peer tool=tool.pub --suite $wrong --timeout $WAIT 2>peer-pair.log & p=$!
	tool sts-pair --timeout $WAIT t 2>tool-pair.log; tp=$?
	status $p; is "$c: suites differ" "76 76" "$tp $rc"
	setup "$1" "$2"
	tool sts-pair --trust other t <other.pub 2>trust.log
	bpeer pair $P --name peer --peer tool=tool.pub --suite "$suite" --timeout 10 2>peer-pair.log & p=$!
	tool sts-pair --timeout 10 t 2>tool-pair.log; tp=$?
	status $p; is "$c: unknown key" "75 75" "$tp $rc"
	[ "$role" = master ] || has "$c: refusal of an unknown key opens" peer-pair.log "reason 1"
}

t_tool_sends() {
	paired "$1" "$2"
	start_peer_recv --once
	printf 'one\ntwo\nlast' | tool sts-send -v t 2>tool-send.log; is "$c: sts-send" 0 $?
	status $r; is "$c: the peer received" "0 one two last" "$rc $(joined out)"
	start_peer_recv --once
	seq 1 300 | tool sts-send -v --each --confirm t 2>tool-send.log; is "$c: sts-send --confirm" 0 $?
	status $r; is "$c: the peer received, confirms" "0 $(seq 1 300 | sha256sum)" "$rc $(sha256sum <out)"
	has "$c: a settled of sts-send" peer-recv.log '"settled"'
	hasnot "$c: nothing refused" peer-recv.log '"refused"'
	[ -z "$quick" ] || return
	start_peer_recv --once
	head -c 500000 /dev/urandom >big
	tool sts-send -b --confirm t <big 2>tool-send.log; is "$c: binary" 0 $?
	status $r; cmp -s big out; is "$c: binary data" 0 $?
	if [ "$can_pad" != 0 ]; then
		start_peer_recv --once
		printf 'one\ntwo\n' | tool sts-send --pad 100 --confirm t 2>tool-send.log; is "$c: sts-send --pad" 0 $?
		status $r; is "$c: the peer received, padded" "0 one two" "$rc $(joined out)"
	fi
	start_peer_recv --once
	printf 'one\ntwo\nlast' | tool sts-send --stamp --each --confirm t 2>tool-send.log; is "$c: sts-send --stamp" 0 $?
	status $r; is "$c: the peer received, with times" "0 one two last" "$rc $(joined out)"
	is "$c: times of sts-send" 3 "$(grep -c "\"sent\": $(date +%s | cut -c 1-6)" peer-recv.log)"
	start_peer_recv
	rm -f in; mkfifo in; btool sts-send t <in 2>tool-send.log & p=$!
	exec 3>in; echo a >&3; waitfor out a; kill -KILL $p; wait $p 2>/dev/null; exec 3>&-; rm in
	echo b | tool sts-send t 2>tool-send.log
	waitfor out b; end_peer_recv; is "$c: after a sts-send that was killed" "a b" "$(joined out)"
	hasnot "$c: its preamble is good" peer-recv.log '"refused"'
}

t_peer_sends() {
	paired "$1" "$2"
	start_recv -1
	printf 'one\ntwo\nlast' | peer send $P 2>peer-send.log
	status $r; is "$c: sts-recv -1" "0 one two last" "$rc $(joined out)"
	start_recv -1
	printf 'one\ntwo\n' | peer send $P --confirm 2>peer-send.log; is "$c: sts-recv confirms" 0 $?
	status $r; is "$c: sts-recv -1, confirms" "0 one two" "$rc $(joined out)"
	start_recv -1
	seq 1 300 | peer send $P --confirm --pad 100 2>peer-send.log; is "$c: padded, confirms" 0 $?
	status $r; is "$c: data, padded" "0 $(seq 1 300 | sha256sum)" "$rc $(sha256sum <out)"
	start_recv -1 --json
	printf 'one\ntwo\nlast' | peer send $P --confirm --stamp 2>peer-send.log; is "$c: a peer that says times" 0 $?
	status $r; is "$c: sts-recv --json, with times" "0 3" "$rc $(grep -c "\"sent\":$(date +%s | cut -c 1-6)" out)"
}

t_rotate() {
	paired "$1" "$2"
	for confirm in $([ -n "$quick" ] || echo --no-confirm) --confirm; do
		[ $confirm = --confirm ] || confirm=
		start_recv
		: >peer-send.log
		printf '1\n2\n3\n4\n' | bpeer send $P $confirm --rotate-after 2 2>peer-send.log & s=$!
		waitfor peer-send.log waiting; pair; is "$c: $confirm" "0 0" "$pair_status"
		status $s; is "$c: the peer continues $confirm" 0 $rc
		end_recv; is "$c: sts-recv follows $confirm" "0 1 2 3 4" "$rc $(joined out)"
		start_peer_recv
		rm -f in; mkfifo in; btool sts-send $confirm t <in 2>tool-send.log & s=$!
		exec 3>in; printf '1\n2\n' >&3; waitfor out 2
		pair; is "$c: $confirm" "0 0" "$pair_status"
		# sts-send looks for a new session when it has something to send, at most once a second.
		local n=3 end=$((SECONDS + WAIT))
		until grep -q '"continued"' peer-recv.log || [ $SECONDS -ge $end ]; do
			echo $n >&3; waitfor out "^$n$"; n=$((n + 1))
		done
		echo last >&3; exec 3>&-
		status $s; is "$c: sts-send continues $confirm" 0 $rc
		waitfor out last; end_peer_recv
		is "$c: the peer follows $confirm" "0 $(seq -s ' ' 1 $((n - 1))) last" "$rc $(joined out)"
		has "$c: there was a continued $confirm" peer-recv.log '"continued"'
	done
}

t_still_there() {
	paired "$1" "$2"
	start_recv
	is "$c: sts-recv has the session" here "$(peer ask $P 2>/dev/null)"
	is "$c: sts-recv has not another" lost "$(peer ask $P --about 0011223344556677 2>/dev/null)"
	end_recv
	: >peer-answer.log
	bpeer answer $P --timeout $WAIT 2>peer-answer.log & p=$!
	waitfor peer-answer.log ready
	tool sts-pair --if-older 24h --timeout $WAIT t 2>tool-pair.log; is "$c: --if-older keeps" 0 $?
	has "$c: the peer was asked" peer-answer.log asked
	kill $p; wait $p 2>/dev/null
	bpeer pair $P --peer tool=tool.pub --suite "$suite" --if-older 100000 --timeout $WAIT 2>peer-pair.log & p=$!
	tool sts-pair --if-older 24h --timeout $WAIT t 2>tool-pair.log; tp=$?
	status $p; is "$c: --if-older on both" "0 0" "$tp $rc"
	if [ "$role" = slave ]; then
		forget
		pair; is "$c: pair after a loss" "0 0" "$pair_status"
	fi
}

t_kill() {
	paired "$1" "$2"
	start_recv
	echo before | peer send $P 2>peer-send.log
	ended=$(session_id)
	peer kill $P 2>peer-send.log
	status $r; is "$c: sts-recv ends with the session" "0 before" "$rc $(joined out)"
	pair; is "$c: pair again" "0 0" "$pair_status"
	start_recv
	is "$c: sts-recv has deleted the session" deleted "$(peer ask $P --about "$ended" 2>/dev/null)"
	end_recv
	start_peer_recv
	echo before | tool sts-send t 2>tool-send.log
	tool sts-pair --end --timeout $WAIT t 2>tool-pair.log; is "$c: sts-pair --end" 0 $?
	status $r; is "$c: the peer ends with the session" "0 before" "$rc $(joined out)"
	has "$c: and has deleted it" peer-recv.log '"session deleted"'
}

t_odd() {
	paired "$1" "$2"
	start_recv
	script <<-END
		stream
		item raw 200 6c61746572
		item kept
		data one
		again
		flip
		hex 27
		hex 00112233
		hex
		kind 14 6c61746572
		kind 15
		pad 64
		data two
		version 3
		version 15
		side 4 00000000000000000000000000000001
		pad 0
		end
		done
	END
	is "$c: script" 0 $script_status
	end_recv; is "$c: later kinds and items, altered, repeated, foreign" "one two" "$(joined out)"
	hasnot "$c: nothing is lost of it" tool-recv.log gap
	start_recv -1
	script <<-END
		stream
		data one
		keep
		data two
		data three
		end
		give
		done
	END
	status $r; is "$c: a gap" "65 one three" "$rc $(joined out)"
	start_recv -1
	script <<-END
		stream
		data one
		plain 00
		data two
		kind 4 0000000000000001
		data three
		end
		done
	END
	status $r; is "$c: refused frames without confirms" "65 one two three" "$rc $(joined out)"
	start_recv
	script <<-END
		stream
		flags confirm
		data one
		expect confirm 1
		keep
		data two
		data three
		expect sack 2 3
		expect confirm 1
		give
		expect confirm 3
		again
		expect confirm 3
		plain 40
		expect refused 3
	END
	is "$c: answers with confirms" 0 $script_status
	end_recv; is "$c: data of it" "one two three" "$(joined out)"
	start_recv
	script <<-END
		stream
		flags confirm
		item raw 4 00
		data never
		expect refused 0
	END
	is "$c: an unknown item below 128" 0 $script_status
	end_recv
	start_recv -1
	script <<-END
		stream 1000
		seq 1048574
		data before
		data at
		data after
		seq 66060288
		data 63 parts on
		end
		done
	END
	status $r; is "$c: stream 1000, seq 2^20, 63 parts ahead" "65 before at after 63 parts on" "$rc $(joined out)"
	start_recv
	script <<-END
		stream
		data one
		seq 4294967292
		data never
		done
	END
	end_recv; is "$c: 4095 parts ahead" one "$(joined out)"
	hasnot "$c: that does not count" tool-recv.log gap
	start_recv -1
	script <<-END
		stream 2147483646
		data last number
		end
		done
	END
	status $r; is "$c: stream 2^31 - 2" "last number" "$(joined out)"
}

t_sequences() {
	paired "$1" "$2"
	start_recv
	script <<-END
		stream
		data a
		data b
		print
	END
	read -r sid number salt <script.out
	script <<-END
		stream
		flags continues
		item continues $sid $number $salt 1
		data b
		data c
		end
		done
	END
	waitfor out c; end_recv; is "$c: a position that it has" "a b c" "$(joined out)"
	start_recv
	script <<-END
		stream
		data a
		print
	END
	read -r sid number salt <script.out
	script <<-END
		stream
		flags continues
		item continues $sid $number $salt 3
		data d
		end
		done
	END
	waitfor out d; end_recv; is "$c: missing positions" "a d" "$(joined out)"
	has "$c: they are said" tool-recv.log gap
	start_recv
	script <<-END
		stream
		data a
		print
	END
	read -r sid number salt <script.out
	script <<-END
		stream
		print
	END
	read -r sid lost lost_salt <script.out
	script <<-END
		stream
		item ended $sid $lost $lost_salt 2 $sid $number $salt 1
		data b
		end
		done
	END
	waitfor tool-recv.log "are lost"
	script <<-END
		stream
		flags continues
		item continues $sid $number $salt 3
		data d
		end
		done
	END
	waitfor out d; end_recv; is "$c: a stream that is lost whole" "a b d" "$(joined out)"
	is "$c: it is said once" 1 "$(grep -c "are lost" tool-recv.log)"
	start_recv
	script <<-END
		stream
		data a
		seq 3
		done
	END
	echo b | peer send $P 2>peer-send.log
	has "$c: a lost end is told" tool-recv.log gap
	end_recv; is "$c: what is written of it" "a b" "$(joined out)"
}

t_wills() {
	paired "$1" "$2"
	start_recv
	echo x | peer send $P --will offline --die 2>peer-send.log
	has "$c: after a process that died" out offline
	end_recv
	start_recv
	echo x | peer send $P --will offline 2>peer-send.log
	end_recv; is "$c: none after an end" x "$(joined out)"
}

t_kept() {
	paired "$1" "$2"
	printf 'k1\nk2\n' | peer send $P --retain 2>peer-send.log
	is "$c: sts-recv --last" k2 "$(tool sts-recv --last --timeout $WAIT t 2>tool-recv.log)"
	start_recv; end_recv; is "$c: a kept frame is not received" "0 " "$rc $(joined out)"
	printf 'k1\nk2\n' | tool sts-send --each -o retain=1 t 2>tool-send.log
	is "$c: last frame of sts-send" k2 "$(peer last $P --timeout $WAIT 2>peer-last.log)"
	peer clear $P
}

t_copied() {
	paired "$1" "$2"
	cp state.json copy.json
	start_recv
	for i in 1 2; do echo x | peer send $P 2>peer-send.log; done
	for i in 1 2 3 4; do echo y | peer send ${P/state.json/copy.json} 2>peer-send.log; done
	has "$c: two devices use this session" tool-recv.log "two devices"
	end_recv
}

t_lost() {
	paired "$1" "$2"
	: >peer-send.log
	printf 'a\nb\n' | bpeer send $P --confirm --timeout $((2 * WAIT)) 2>peer-send.log & s=$!
	waitfor peer-send.log again; rm -rf run; mkdir -m 700 run
	pair; is "$c: pair after the tools lost a session" "0 0" "$pair_status"
	start_recv -1
	status $s; is "$c: the peer continues" 0 $rc
	status $r; is "$c: data of the peer" "0 a b" "$rc $(joined out)"
	n=$(messages $up)
	printf 'a\nb\n' | btool sts-send -v --confirm --timeout $((2 * WAIT)) t 2>tool-send.log & s=$!
	published $up $((n + 1))
	forget
	pair; is "$c: pair after the peer lost a session" "0 0" "$pair_status"
	start_peer_recv --once
	status $s; is "$c: sts-send continues" 0 $rc
	status $r; is "$c: data of sts-send" "0 a b" "$rc $(joined out)"
}

t_attack() {
	setup "$1" "$2"; trust
	: >noise.log
	bpeer noise $P --timeout 1000000 2>noise.log & a=$!
	waitfor noise.log ready
	pair; is "$c: pair" "0 0" "$pair_status"
	start_recv -1
	seq 1 20 | peer send $P --confirm 2>peer-send.log; is "$c: the peer sends" 0 $?
	status $r; is "$c: sts-recv" "0 $(seq -s ' ' 1 20)" "$rc $(joined out)"
	start_peer_recv --once
	seq 1 20 | tool sts-send --each --confirm --timeout $WAIT t 2>tool-send.log; is "$c: sts-send" 0 $?
	status $r; is "$c: the peer receives" "0 $(seq -s ' ' 1 20)" "$rc $(joined out)"
	kill $a; status $a; has "$c: there was an attack" noise.log '"frames": [1-9]'
}

peer keygen --key peer.pem >peer.pub 2>/dev/null
peer keygen --key other.pem >other.pub 2>/dev/null
group=start; setup master gcm
tool sts-pair --key >tool.pub 2>tool-key.log; is "sts-pair --key" 0 $?

all="pair leaves code refused tool_sends peer_sends rotate still_there kill odd sequences wills kept copied lost attack"
groups=${*:-$all}
columns=
run() { # run ROLE SUITE GROUPS
	columns="$columns $1/$2"
	for group in $3; do
		case " $groups " in *" $group "*) ;; *) continue ;; esac
		row=$group,$1/$2
		"t_$group" "$1" "$2"
	done
}

for group in $groups; do
	case " $all " in *" $group "*) ;; *) echo "no group $group; there are: $all" >&2; exit 64 ;; esac
done
if [ -n "$quick" ]; then
	run master gcm "pair code tool_sends peer_sends rotate kill"
	run slave gcm "pair code tool_sends peer_sends rotate kill"
	run master cbc "pair tool_sends peer_sends"
	run slave ecb "pair tool_sends peer_sends"
else
	for suite in ${SUITES:-gcm cbc ecb}; do
		for role in ${ROLES:-master slave}; do run $role $suite "$all"; done
	done
fi

printf '\n%-12s' "tools are"; printf '%14s' $columns; echo
for group in $groups; do
	line= any=
	for column in $columns; do
		n=${count[$group,$column]:-0} b=${bad[$group,$column]:-0}
		[ $((n + b)) = 0 ] && text=- || { any=1 text=$n; [ "$b" = 0 ] || text="$n, $b FAILED"; }
		line=$line$(printf '%14s' "$text")
	done
	[ -z "$any" ] || printf '%-12s%s\n' $group "$line"
done
printf '\n%d cases passed, %d failed\n' $passed $failed
[ $failed = 0 ]
