# Shared by selftest.sh and interop.sh: a broker on loopback, and whether each case passes.
#
# Nothing here waits for a fixed time: a case waits for what it is about, and WAIT seconds are when it gives up.
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
work=$(mktemp -d)
WAIT=${WAIT:-60}
. "$here/../waiting.sh"
passed=0 failed=0
declare -A count bad
PATH=$PATH:/usr/sbin:/sbin

port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat >"$work/broker.conf" <<END
listener $port 127.0.0.1
allow_anonymous true
persistence false
log_type all
END
mosquitto -c "$work/broker.conf" >"$work/broker.log" 2>&1 &
broker=$!

cleanup() {
	for p in $(jobs -p); do kill "$p" 2>/dev/null; done
	wait 2>/dev/null
	if [ "$failed" = 0 ] && [ -z "${KEEP:-}" ]; then rm -rf "$work"; else echo "files: $work"; fi
}
trap cleanup EXIT
trap 'exit 1' INT TERM

cd "$work" || exit 1

peer() { "$python" "$here/peer.py" "$@"; }
bpeer() { exec "$python" "$here/peer.py" "$@"; }  # in the background: its pid is $!

# pass NAME, fail NAME WHY; what passes is shown with VERBOSE=1
pass() {
	passed=$((passed + 1)) count[$row]=$((${count[$row]:-0} + 1))
	[ -z "${VERBOSE:-}" ] || echo "PASS $1"
}
fail() {
	failed=$((failed + 1)) bad[$row]=$((${bad[$row]:-0} + 1))
	echo "FAIL $1: $2"
}

# is NAME EXPECTED ACTUAL
is() {
	if [ "$2" = "$3" ]; then pass "$1"; else fail "$1" "expected '$2', got '$3'"; fi
}

# has NAME FILE TEXT: the file has a line with the text, now or soon
has() {
	if waitfor "$2" "$3"; then pass "$1"; else fail "$1" "no '$3' in $2"; fi
}
hasnot() {
	if grep -q -e "$3" "$2"; then fail "$1" "'$3' in $2"; else pass "$1"; fi
}

# published TOPIC N: until the broker got so many messages on a topic
published() {
	local end=$((SECONDS + WAIT))
	until [ "$(grep -c "Received PUBLISH .* '$1'" "$work/broker.log")" -ge "$2" ]; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.05
	done
}
messages() { grep -c "Received PUBLISH .* '$1'" "$work/broker.log"; }

joined() { tr '\n' ' ' <"$1" | sed 's/ $//'; }

if ! waitfor "$work/broker.log" running; then echo "the broker does not start: $work/broker.log" >&2; exit 69; fi
