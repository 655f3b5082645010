#!/bin/bash
# This peer against itself, through a broker on loopback. PYTHON names the interpreter.
row=selftest
. "$(dirname "$0")/lib.sh"

M="--state m.json --key m.pem --role master --pub up --sub down --broker 127.0.0.1:$port"
S="--state s.json --key s.pem --role slave --pub down --sub up --broker 127.0.0.1:$port"
peer keygen --key m.pem >m.pub 2>/dev/null
peer keygen --key s.pem >s.pub 2>/dev/null

pair() { # pair [OPTIONS OF BOTH]
	bpeer pair $S --name s --peer m=m.pub "$@" 2>pair-s.log & p=$!
	peer pair $M --name m --peer s=s.pub "$@" 2>pair-m.log; pm=$?
	status $p
	pair_status="$pm $rc"
}
finish() { # until the receiver has taken what was published before
	until [ "$(peer ask $M 2>/dev/null)" = here ]; do :; done
	kill -TERM $r; status $r
}
receive() { # receive OPTIONS: in the background; `out` and `recv.log`
	: >recv.log
	bpeer recv $S "$@" >out 2>recv.log & r=$!
	waitfor recv.log ready
}

for suite in gcm cbc ecb; do
	rm -f m.json s.json
	pair --suite $suite --siblings $((RANDOM % 4)); is "$suite: pair by key" "0 0" "$pair_status"

	receive --once; printf 'a\nb\nlast' | peer send $M 2>send.log; is "$suite: send" 0 $?
	status $r; is "$suite: receive" 0 $rc; is "$suite: data" "$(printf 'a\nb\nlast')" "$(cat out)"

	receive --once; printf 'a\nb\n' | peer send $M --confirm --pad 64 2>send.log
	is "$suite: send with confirms" 0 $?
	status $r; is "$suite: receive" 0 $rc; has "$suite: settled" recv.log '"settled"'

	receive --once
	: >send.log
	printf 'a\nb\nc\nd\n' | bpeer send $M --confirm --rotate-after 2 2>send.log & s=$!
	waitfor send.log waiting; pair --suite $suite; is "$suite: rotate" "0 0" "$pair_status"
	status $s; is "$suite: sender that continued" 0 $rc
	status $r; is "$suite: data of both sessions" "$(printf 'a\nb\nc\nd')" "$(cat out)"
	receive
	: >send.log
	printf 'a\nb\nc\nd\n' | bpeer send $M --rotate-after 2 2>send.log & s=$!
	waitfor send.log waiting; pair --suite $suite
	status $s; is "$suite: sender without confirms that continued" 0 $rc
	finish; is "$suite: data of both sessions" "$(printf 'a\nb\nc\nd')" "$(cat out)"; is "$suite: no gap" 0 $rc

	receive
	is "$suite: ask" here "$(peer ask $M 2>/dev/null)"
	is "$suite: ask about another" lost "$(peer ask $M --about 0011223344556677 2>/dev/null)"
	finish
	is "$suite: ask nobody" silence "$(peer ask $M 2>/dev/null)"

	receive
	peer script $M <<-END >odd.out 2>odd.log
		stream
		data one
		flip
		hex 27
		hex 00112233
		hex
		again
		version 3
		data two
		again
		seq 4
		data after the gap
		kind 14 6c61746572
		kind 15
		end
		stream 1000
		seq 1048575
		data before the next key
		data after it
		will gone
		will gone 1
		again
		pad 32
		item raw 200 61
		end
		done
	END
	is "$suite: script" 0 $?; finish; is "$suite: odd frames, with gaps" 65 $rc
	is "$suite: what is written of them" "one two after the gap before the next key after it gone gone" "$(tr '\n' ' ' <out | sed 's/ $//')"
	is "$suite: skipped" 2 "$(grep -c '"skipped"' recv.log)"

	receive
	peer script $M <<-END >odd.out 2>odd.log
		stream
		flags confirm
		data one
		expect confirm 1
		keep
		data two
		data three
		expect confirm 1
		give
		expect confirm 2
		again
		expect confirm 3
		plain 40
		expect refused 3
	END
	is "$suite: answers of a receiver with confirms" 0 $?; finish
	is "$suite: what is written" "one two three" "$(tr '\n' ' ' <out | sed 's/ $//')"

	receive
	peer script $M <<-END >odd.out 2>odd.log
		stream
		data a
		seq 3
		done
		print
	END
	read -r sid n salt <odd.out
	printf 'x\n' | peer send $M 2>send.log; finish
	is "$suite: a lost end is told" 65 $rc
	has "$suite: its range" recv.log '"gap", "stream": '$n', "first": 1, "last": 2'

	receive
	peer script $M <<-END >odd.out 2>odd.log
		stream
		data a
		data b
		print
	END
	read -r sid n salt <odd.out
	peer script $M <<-END >>odd.out 2>>odd.log
		stream
		flags continues
		item continues $sid $n $salt 1
		data b
		data c
		end
	END
	finish
	has "$suite: a position that it has" recv.log '"have position"'
	is "$suite: what is written" "a b c" "$(tr '\n' ' ' <out | sed 's/ $//')"

	receive
	printf 'x\n' | peer send $M --will "offline" --die 2>send.log; finish
	is "$suite: a will" "$(printf 'x\noffline')" "$(cat out)"
	receive
	printf 'x\n' | peer send $M --will "offline" 2>send.log; finish
	is "$suite: no will after an end" x "$(cat out)"

	printf 'k1\nk2\n' | peer send $M --retain --qos 1 2>send.log
	is "$suite: kept" k2 "$(peer last $S --timeout 2 2>/dev/null)"
	receive; finish; is "$suite: a kept frame alone" "" "$(cat out)"
	peer clear $M

	cp m.json copy.json
	receive
	printf 'x\n' | peer send $M 2>send.log
	printf 'y\n' | peer send ${M/m.json/copy.json} 2>send.log
	printf 'z\n' | peer send $M 2>send.log
	for i in 1 2; do printf 'z\n' | peer send ${M/m.json/copy.json} 2>send.log; done
	finish; is "$suite: a copied state" 65 $rc; has "$suite: is noticed" recv.log "two devices"

	rm -f m.json s.json; pair --suite $suite
	receive; printf 'x\n' | peer send $M 2>send.log
	peer kill $M 2>send.log; is "$suite: kill" 0 $?
	status $r; has "$suite: is received" recv.log '"session deleted"'
	is "$suite: no session left" 0 "$(peer status $S | grep -c '"standing"')"
done

# The key tree: nothing that is stored leads to what was received.
rm -f m.json s.json; pair
receive
for i in 1 2 3; do printf 'x\n' | peer send $M 2>send.log; done; finish
is "nodes of the receiver" '["11"]' "$(peer status $S | sed 's/.*"recv_nodes": \(\[[^]]*\]\).*/\1/' | head -1)"
is "nodes of the sender" "$(peer status $S | sed 's/.*"recv_nodes": \(\[[^]]*\]\).*/\1/' | head -1)" "$(peer status $M | sed 's/.*"send_nodes": \(\[[^]]*\]\).*/\1/' | head -1)"

# By code
code=$(peer code)
rm -f m.json s.json
bpeer pair $S --name s --code "$code" 2>pair-s.log & p=$!
peer pair $M --name m --code "${code,,}" 2>pair-m.log; is "pair by code: master" 0 $?
status $p; is "pair by code: slave" 0 $rc
receive --once; printf 'x\n' | peer send $M --confirm 2>send.log; is "send after it" 0 $?; status $r
bpeer pair $S --if-older 100 2>pair-s.log & p=$!
peer pair $M --if-older 100 2>pair-m.log; is "if-older keeps" 0 $?; status $p; is "if-older keeps" 0 $rc
has "kept" pair-m.log kept
bpeer pair $S 2>pair-s.log & p=$!
peer pair $M 2>pair-m.log; is "pair by keys that the code pinned" 0 $?; status $p
bpeer pair $S --name s --code "$code" --timeout 20 2>pair-s.log & p=$!
for i in 1 2 3; do peer pair $M --name m --code "$(peer code)" 2>pair-m.log; is "wrong code: master" 77 $?; done
status $p; is "wrong code: slave" 77 $rc

# The receiver loses its state; the sender asks, and continues in the new session.
rm -f m.json s.json; pair
: >send.log; printf 'a\nb\n' | bpeer send $M --confirm --timeout 60 2>send.log & s=$!
waitfor send.log again; rm s.json; pair; is "pair after a loss" "0 0" "$pair_status"
receive --once
status $s; is "sender after a loss" 0 $rc; has "it says so" send.log "continues after a loss"
status $r; is "data after a loss" "0 $(printf 'a\nb')" "$rc $(cat out)"

# An attacker on the broker
: >noise.log
bpeer noise $M --timeout 1000000 2>noise.log & n1=$!
waitfor noise.log ready
pair; is "pair under attack" "0 0" "$pair_status"
receive --once; seq 1 20 | peer send $M --confirm 2>send.log; is "send under attack" 0 $?
status $r; is "receive under attack" "0 $(seq 1 20)" "$rc $(cat out)"
kill $n1; status $n1; has "there was an attack" noise.log '"frames": [1-9]'

"$python" "$here/selftest.py" >unit.log 2>&1; st=$?; cat unit.log; is "selftest.py" 0 $st
echo "$passed passed, $failed failed"
[ $failed = 0 ]
